/* SPDX-License-Identifier: Apache-2.0 */
/**
 * bound.h - how much a write may bring: the option max_push_bytes over everything that gathers in its quarantine.
 *
 * A stream is cut off where it exceeds the bound, and no single file grows past it. What only their sum exceeds is found by
 * looking at the folder: while a child may go on adding files, and before anything is published.
 */
#ifndef STORAGE_GIT_BOUND_H
#define STORAGE_GIT_BOUND_H

#include "git.h"

/** What a folder holds, all levels. */
typedef struct
{
  guint64 bytes; /* of files; each counts as a block at least, as it does on a disk */
  guint64 files;
} BoundSum;

/**
 * Adds up a folder that others may be writing to: what is gone meanwhile does not count. Stops as soon as either number
 * is over its limit (0 = none).
 */
gboolean bound_measure (const char *dir, const BoundSum *limits, BoundSum *ret_sum, GError **error);
/** OUT_OF_RANGE naming the option when @objects, a quarantine's folder, holds more than one write may bring. */
gboolean bound_check (Storage *storage, const char *objects, GError **error);
/** The same of a number that is known. */
gboolean bound_check_bytes (Storage *storage, guint64 bytes, GError **error);

#endif
