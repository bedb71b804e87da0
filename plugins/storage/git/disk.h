/* SPDX-License-Identifier: Apache-2.0 */
/**
 * disk.h - durable files and folders: every rename, new folder and removal that must survive a crash goes through here.
 *
 * All functions: FALSE (or NULL) with @error naming the path and the reason. Any thread.
 */
#ifndef STORAGE_GIT_DISK_H
#define STORAGE_GIT_DISK_H

#include <gitstead/error.h>
#include <gitstead/types.h>

#include <sys/types.h>

typedef struct
{
  guint64 bytes; /* allocated or apparent, whichever is smaller: what removing it would give back at least */
  guint64 files;
} DiskUse;

/** The one place where errno becomes an error: "<doing> <path>: <reason>". Always FALSE. */
gboolean disk_fail (GError **error, int err, const char *doing, const char *path);

/** fsyncs a folder (or, with @file, a file) by path. */
gboolean disk_sync (const char *path, gboolean file, GError **error);
/** Makes @path below @base (which exists), and makes each new folder durable in its parent. */
gboolean disk_make_dirs (const char *base, const char *relative, gboolean sync, GError **error);
/** Replaces @path: temporary file beside it, fsync, rename, fsync of the folder. */
gboolean disk_replace (const char *path, const char *data, gsize len, gboolean sync, GError **error);
/** The whole file, NUL-terminated, *full*. OUT_OF_RANGE when it is larger than @max. */
char *disk_read (const char *path, gsize max, gsize *ret_len, GError **error);
/** rename, then fsync of both parents. */
gboolean disk_move (const char *from, const char *to, gboolean sync, GError **error);
/** Removes a file or a whole tree; links are not followed; not existing is fine. Iterative: depth costs no stack. */
gboolean disk_remove (const char *path, GError **error);
/** Sums up a tree. Entries that vanish meanwhile are skipped. */
gboolean disk_measure (const char *path, DiskUse *ret_use, GError **error);
gboolean disk_exists (const char *path);
/** Names in a folder without "." and "..", unsorted, *full*; an absent folder has none. */
GPtrArray *disk_names (const char *path, GError **error);

/** write until all is written; FALSE with errno's code. */
gboolean disk_write_all (int fd, const void *data, gsize len, const char *what, GError **error);

#endif
