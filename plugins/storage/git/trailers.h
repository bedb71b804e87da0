/* SPDX-License-Identifier: Apache-2.0 */
/** trailers.h - the lines "Key: value" at the end of a commit's message. */
#ifndef STORAGE_GIT_TRAILERS_H
#define STORAGE_GIT_TRAILERS_H

#include <glib.h>

/** One trailer, its value on one line. Borrowed until it returns; FALSE = no more. */
typedef gboolean (*TrailerVisit) (const char *key, gsize key_len, const char *value, gsize value_len, gpointer user);

/**
 * Visits the trailers of @message in their order, those that git's `%(trailers:only,unfold)` prints. In time and memory that
 * grow with @len.
 */
void trailers_parse (const char *message, gsize len, TrailerVisit visit, gpointer user);

#endif
