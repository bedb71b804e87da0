/* SPDX-License-Identifier: Apache-2.0 */
/* A pack made by hand, of a few commits on the empty tree: what refs need to point at in a storage that checks. */
#include "storage.h"

static const char empty_tree[] = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

static guint32
adler32 (const guint8 *bytes, gsize n)
{
  guint32 a = 1, b = 0;
  for (gsize i = 0; i < n; i++)
    {
      a = (a + bytes[i]) % 65521;
      b = (b + a) % 65521;
    }
  return b << 16 | a;
}

/* One object: type and size, then a zlib stream of one stored block. */
static void
append_object (GByteArray *pack, guint type, const void *bytes, gsize n)
{
  const guint8 zlib_head[] = { 0x78, 0x01, 0x01, (guint8) n, (guint8) (n >> 8), (guint8) ~n, (guint8) (~n >> 8) };
  guint32 sum = GUINT32_TO_BE (adler32 (bytes, n));
  gsize left = n >> 4;
  guint8 byte = (guint8) (type << 4 | (n & 15));
  while (left > 0)
    {
      byte |= 0x80;
      g_byte_array_append (pack, &byte, 1);
      byte = left & 0x7f;
      left >>= 7;
    }
  g_byte_array_append (pack, &byte, 1);
  g_byte_array_append (pack, zlib_head, sizeof zlib_head);
  g_byte_array_append (pack, bytes, (guint) n);
  g_byte_array_append (pack, (const guint8 *) &sum, sizeof sum);
}

GBytes *
pack_commits (Conformance *c, guint n, GsOid *ret_oids)
{
  g_autoptr (GByteArray) pack = g_byte_array_new ();
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA1);
  guint8 digest[20];
  gsize len = sizeof digest;
  guint32 count = GUINT32_TO_BE (n + 1);
  GsTxId salt = conformance_txid (c);
  char salt_hex[2 * GS_TXID_SIZE + 1];
  gs_hex (salt.bytes, sizeof salt.bytes, salt_hex);
  g_byte_array_append (pack, (const guint8 *) "PACK\0\0\0\2", 8);
  g_byte_array_append (pack, (const guint8 *) &count, sizeof count);
  append_object (pack, 2, "", 0);
  for (guint i = 0; i < n; i++)
    {
      g_autofree char *text = g_strdup_printf ("tree %s\nauthor A <a@example.com> 1 +0000\n"
                                               "committer A <a@example.com> 1 +0000\n\n%s %u\n",
                                               empty_tree, salt_hex, i);
      g_autofree char *whole = g_strdup_printf ("commit %" G_GSIZE_FORMAT, strlen (text));
      g_checksum_reset (sum);
      g_checksum_update (sum, (const guchar *) whole, (gssize) strlen (whole) + 1);
      g_checksum_update (sum, (const guchar *) text, -1);
      memset (&ret_oids[i], 0, sizeof ret_oids[i]);
      ret_oids[i].len = 20;
      len = 20;
      g_checksum_get_digest (sum, ret_oids[i].raw, &len);
      append_object (pack, 1, text, strlen (text));
    }
  g_checksum_reset (sum);
  g_checksum_update (sum, pack->data, pack->len);
  len = sizeof digest;
  g_checksum_get_digest (sum, digest, &len);
  g_byte_array_append (pack, digest, sizeof digest);
  return g_byte_array_free_to_bytes (g_steal_pointer (&pack));
}
