/* SPDX-License-Identifier: Apache-2.0 */
/* Changed-path filters of commit-graph files: which paths a commit may have changed against its first parent. */
#include "history/graph.h"

#define SEED_FIRST 0x293ae76fu
#define SEED_SECOND 0x7e646e2cu
#define RULE_VERSIONS 2u

static inline guint32
rotate (guint32 value, int by)
{
  return value << by | value >> (32 - by);
}

static inline guint32
mix (guint32 block)
{
  return rotate (block * 0xcc9e2d51u, 15) * 0x1b873593u;
}

/* Version 1 widens each byte as a signed one: a slip of git's first writer that became the format. */
static inline guint32
widen (guint8 byte, guint version)
{
  return version == 1 ? (guint32) (gint32) (gint8) byte : byte;
}

/* Murmur3, 32 bits. */
static guint32
murmur (const guint8 *data, gsize len, guint32 seed, guint version)
{
  guint32 hash = seed, tail = 0;
  gsize whole = len & ~(gsize) 3;
  for (gsize i = 0; i < whole; i += 4)
    {
      guint32 block = widen (data[i], version) | widen (data[i + 1], version) << 8 | widen (data[i + 2], version) << 16
                      | widen (data[i + 3], version) << 24;
      hash = rotate (hash ^ mix (block), 13) * 5 + 0xe6546b64u;
    }
  for (gsize i = len; i > whole; i--)
    tail ^= widen (data[i - 1], version) << (8 * (i - 1 - whole));
  if (len > whole)
    hash ^= mix (tail);
  hash ^= (guint32) len;
  hash = (hash ^ hash >> 16) * 0x85ebca6bu;
  hash = (hash ^ hash >> 13) * 0xc2b2ae35u;
  return hash ^ hash >> 16;
}

void
hist_bloom_key (const void *path, gsize len, HistBloomKey *ret_key)
{
  for (guint version = 1; version <= RULE_VERSIONS; version++)
    {
      ret_key->first[version] = murmur (path, len, SEED_FIRST, version);
      ret_key->second[version] = murmur (path, len, SEED_SECOND, version);
    }
}

gboolean
hist_filter_maybe (const HistFilter *filter, const HistBloomKey *key)
{
  guint64 bits = (guint64) filter->len * 8;
  if (bits == 0)
    return TRUE;
  for (guint32 i = 0; i < filter->rule.n_hashes; i++)
    {
      guint32 hash = key->first[filter->rule.version] + i * key->second[filter->rule.version];
      guint64 bit = hash % bits;
      if ((filter->bits[bit >> 3] & 1u << (bit & 7)) == 0)
        return FALSE;
    }
  return TRUE;
}
