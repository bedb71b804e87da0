/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pathcheck.h - names in trees that may harm whoever checks them out, by the rules of git fsck.
 */
#ifndef STORAGE_GIT_PATHCHECK_H
#define STORAGE_GIT_PATHCHECK_H

#include <gitstead/error.h>

#define PATH_BYTES_MAX 4096
#define PATH_PARTS_MAX 256

/** NULL, or what is wrong with one part of a path: empty, ".", "..", or ".git" to some file system. */
const char *path_part_fault (const char *name, gsize len);
/** Might some file system take the name for ".gitmodules"? */
gboolean path_part_is_gitmodules (const char *name, gsize len);
/** Is it, or might some file system take it for, a name whose content git fsck looks at (.gitmodules, .gitattributes,
 * ...)? */
gboolean path_part_is_judged (const char *name, gsize len);
/** FALSE with INVALID_ARGUMENT, beginning with @field, unless all of @path is fine. NUL-terminated; @len without it. */
gboolean path_check (const char *path, gsize len, const char *field, GError **error);

#endif
