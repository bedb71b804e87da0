/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-2-4, after the paper of Aumasson and Bernstein (2012). See siphash.h. */
#include "siphash.h"

#include <string.h>

typedef struct
{
  guint64 v0, v1, v2, v3;
} Sip;

static inline guint64
rotate (guint64 x, int by)
{
  return x << by | x >> (64 - by);
}

static inline void
sip_round (Sip *s)
{
  s->v0 += s->v1;
  s->v2 += s->v3;
  s->v1 = rotate (s->v1, 13) ^ s->v0;
  s->v3 = rotate (s->v3, 16) ^ s->v2;
  s->v0 = rotate (s->v0, 32);
  s->v2 += s->v1;
  s->v0 += s->v3;
  s->v1 = rotate (s->v1, 17) ^ s->v2;
  s->v3 = rotate (s->v3, 21) ^ s->v0;
  s->v2 = rotate (s->v2, 32);
}

static inline void
sip_word (Sip *s, guint64 word)
{
  s->v3 ^= word;
  sip_round (s);
  sip_round (s);
  s->v0 ^= word;
}

guint64
siphash24 (const guint64 key[2], const guint8 *bytes, gsize n_bytes)
{
  Sip s = { key[0] ^ G_GUINT64_CONSTANT (0x736f6d6570736575), key[1] ^ G_GUINT64_CONSTANT (0x646f72616e646f6d),
            key[0] ^ G_GUINT64_CONSTANT (0x6c7967656e657261), key[1] ^ G_GUINT64_CONSTANT (0x7465646279746573) };
  guint64 word, last = (guint64) n_bytes << 56;
  gsize whole = n_bytes / 8 * 8;
  for (gsize i = 0; i < whole; i += 8)
    {
      memcpy (&word, bytes + i, sizeof word);
      sip_word (&s, GUINT64_FROM_LE (word));
    }
  for (gsize i = whole; i < n_bytes; i++)
    last |= (guint64) bytes[i] << 8 * (i - whole);
  sip_word (&s, last);
  s.v2 ^= 0xff;
  for (int i = 0; i < 4; i++)
    sip_round (&s);
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
