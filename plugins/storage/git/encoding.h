/* SPDX-License-Identifier: Apache-2.0 */
/** encoding.h - commits that say they are written in another encoding than UTF-8. */
#ifndef STORAGE_GIT_ENCODING_H
#define STORAGE_GIT_ENCODING_H

#include <glib.h>

gboolean encoding_is_utf8 (const char *encoding, gsize encoding_len);
/**
 * @text as UTF-8, as git makes it of a commit with the header @encoding: *full*, *@ret_len bytes and a NUL. NULL when nothing is
 * to be done (@encoding is UTF-8) or can be (unknown, or the bytes are not of it): then git shows the bytes as they are.
 */
char *encoding_to_utf8 (const char *encoding, gsize encoding_len, const char *text, gsize len, gsize *ret_len);

#endif
