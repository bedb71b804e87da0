/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fsutil.h - files that are on the medium when the call returns.
 *
 * Paths are relative to a directory descriptor (AT_FDCWD works too). No call follows the last component
 * when that is a symbolic link. Modes are cut by the umask. Any thread.
 */
#ifndef STORAGE_GIT_FSUTIL_H
#define STORAGE_GIT_FSUTIL_H

#include <gitstead/error.h>

#include <fcntl.h>
#include <sys/stat.h>

/** The one place where an errno becomes an error: "<format>: <text of err>". Returns FALSE. */
gboolean fsu_fail (GError **error, int err, const char *format, ...) G_GNUC_PRINTF (3, 4);

/** Writes all of @data, however often the kernel takes only a part. @path is for the message. */
gboolean fsu_write_all (int fd, const void *data, gsize len, const char *path, GError **error);

/** fsync. @path is for the message. */
gboolean fsu_sync_fd (int fd, const char *path, GError **error);

/** fsync of the directory @path ("." for @dirfd itself): names made, renamed or removed in it are durable. */
gboolean fsu_sync_dir (int dirfd, const char *path, GError **error);

/** fsync of the directory that holds @path. */
gboolean fsu_sync_parent (int dirfd, const char *path, GError **error);

/**
 * Makes the directory @path with all its parents; those present already are fine. The directory that
 * holds each newly made one is fsynced, so the whole chain survives.
 */
gboolean fsu_mkdirs (int dirfd, const char *path, mode_t mode, GError **error);

/**
 * Replaces (or makes) the file @path with @data: temporary file beside it, fsync, rename, fsync of the
 * directory. Readers see the old or the new content, also after a crash.
 */
gboolean fsu_replace (int dirfd, const char *path, const void *data, gsize len, mode_t mode, GError **error);

/** What fsu_replace's temporary files begin with; a leftover of a crash may be removed. */
#define FSU_TEMPORARY_PREFIX ".gitstead-tmp-"

/**
 * Makes the file @path, which must not exist (the lock of lock files): its descriptor, close-on-exec,
 * for writing; or -1 with errno as open left it (EEXIST: somebody has it).
 */
int fsu_create_exclusive (int dirfd, const char *path, mode_t mode);

/** The whole file, *full* (NUL after the end); NULL with OUT_OF_RANGE when it is longer than @max_bytes. */
char *fsu_read (int dirfd, const char *path, gsize max_bytes, gsize *ret_len, GError **error);

/** Renames within one file system and fsyncs the directories of both names. Replaces @to. */
gboolean fsu_rename (int dirfd, const char *from, const char *to, GError **error);

/** unlink, then fsync of the directory; an absent file is fine. */
gboolean fsu_unlink (int dirfd, const char *path, GError **error);

/** Removes the directory @path with all below, without recursion on the stack; an absent one is fine. Not synced. */
gboolean fsu_remove_tree (int dirfd, const char *path, GError **error);

#endif
