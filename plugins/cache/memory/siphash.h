/* SPDX-License-Identifier: Apache-2.0 */
/**
 * siphash.h - SipHash-2-4: a hash that callers cannot steer without the key. Parts of cache keys come from
 * requests, and a table whose collisions a stranger can choose can be made slow.
 */
#ifndef CACHE_SIPHASH_H
#define CACHE_SIPHASH_H

#include <glib.h>

guint64 siphash24 (const guint64 key[2], const guint8 *bytes, gsize n_bytes);

#endif
