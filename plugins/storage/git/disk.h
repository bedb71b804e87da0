/* SPDX-License-Identifier: Apache-2.0 */
/**
 * disk.h - files and folders of the storage outside the ref store, by path; durable unless @sync is FALSE.
 *
 * All functions: FALSE (or NULL) with @error naming the path and the reason. Any thread.
 */
#ifndef STORAGE_GIT_DISK_H
#define STORAGE_GIT_DISK_H

#include "fsutil.h"

#include <sys/types.h>

typedef struct
{
  guint64 bytes; /* allocated or apparent, whichever is smaller: what removing it would give back at least */
  guint64 files;
} DiskUse;

/** fsyncs a folder (or, with @file, a file) by path. */
gboolean disk_sync (const char *path, gboolean file, GError **error);
/** Makes @path below @base (which exists), and makes each new folder durable in its parent. */
gboolean disk_make_dirs (const char *base, const char *relative, gboolean sync, GError **error);
/** Replaces @path: temporary file beside it, fsync, rename, fsync of the folder. */
gboolean disk_replace (const char *path, const char *data, gsize len, gboolean sync, GError **error);
/** rename, then fsync of both parents. */
gboolean disk_move (const char *from, const char *to, gboolean sync, GError **error);
/** Sums up a tree. Entries that vanish meanwhile are skipped. */
gboolean disk_measure (const char *path, DiskUse *ret_use, GError **error);
gboolean disk_exists (const char *path);
/** Names in a folder without "." and "..", unsorted, *full*; an absent folder has none. */
GPtrArray *disk_names (const char *path, GError **error);

#endif
