/* SPDX-License-Identifier: Apache-2.0 */
/**
 * path.h - repository paths: what is allowed, and the one form in which the core uses them.
 *
 * UTF-8, 1 to 512 bytes, segments of 1 to 100 bytes split by '/'. The normal form ends with ".git" (added
 * when it is missing), so that "a/b" and "a/b.git" are one repository. Two repositories may not nest: no
 * segment but the last ends with ".git".
 */
#ifndef GSI_RPC_PATH_H
#define GSI_RPC_PATH_H

#include <gitstead/error.h>

#define GSI_PATH_MAX 512
#define GSI_PATH_SEGMENT_MAX 100

/**
 * Checks @input and writes its normal form. INVALID_ARGUMENT says what is wrong and at which byte.
 * @ret_normal *full* (g_free).
 */
gboolean gsi_path_normalize (const char *input, char **ret_normal, GError **error);
/**
 * A key equal for paths that differ only in case or in Unicode composition: two of one key must not exist
 * together, because some file systems and many people cannot tell them apart. @normal is in normal form. *full*.
 */
char *gsi_path_key (const char *normal);

#endif
