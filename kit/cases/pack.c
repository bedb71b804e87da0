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

#define BLOCK_MAX 65535

/* One object: type and size, then a zlib stream of stored blocks. */
static void
append_object (GByteArray *pack, guint type, const void *bytes, gsize n)
{
  static const guint8 zlib_head[] = { 0x78, 0x01 };
  guint32 sum = GUINT32_TO_BE (adler32 (bytes, n));
  const guint8 *at = bytes;
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
  for (left = n;;)
    {
      guint block = (guint) MIN (left, BLOCK_MAX);
      const guint8 head[] = { left == block, (guint8) block, (guint8) (block >> 8), (guint8) ~block, (guint8) (~block >> 8) };
      g_byte_array_append (pack, head, sizeof head);
      g_byte_array_append (pack, at, block);
      at += block;
      left -= block;
      if (left == 0)
        break;
    }
  g_byte_array_append (pack, (const guint8 *) &sum, sizeof sum);
}

static void
append_head (GByteArray *pack, guint n)
{
  guint32 count = GUINT32_TO_BE (n);
  g_byte_array_append (pack, (const guint8 *) "PACK\0\0\0\2", 8);
  g_byte_array_append (pack, (const guint8 *) &count, sizeof count);
}

static void
append_trailer (GByteArray *pack)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA1);
  guint8 digest[20];
  gsize len = sizeof digest;
  g_checksum_update (sum, pack->data, pack->len);
  g_checksum_get_digest (sum, digest, &len);
  g_byte_array_append (pack, digest, sizeof digest);
}

static void
object_id (const char *type, const void *bytes, gsize n, GsOid *ret_oid)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA1);
  g_autofree char *head = g_strdup_printf ("%s %" G_GSIZE_FORMAT, type, n);
  gsize len = 20;
  g_checksum_update (sum, (const guchar *) head, (gssize) strlen (head) + 1);
  g_checksum_update (sum, bytes, (gssize) n);
  *ret_oid = (GsOid){ .len = 20 };
  g_checksum_get_digest (sum, ret_oid->raw, &len);
}

GBytes *
pack_commits (Conformance *c, guint n, GsOid *ret_oids)
{
  g_autoptr (GByteArray) pack = g_byte_array_new ();
  GsTxId salt = conformance_txid (c);
  char salt_hex[2 * GS_TXID_SIZE + 1];
  gs_hex (salt.bytes, sizeof salt.bytes, salt_hex);
  append_head (pack, n + 1);
  append_object (pack, 2, "", 0);
  for (guint i = 0; i < n; i++)
    {
      g_autofree char *text = g_strdup_printf ("tree %s\nauthor A <a@example.com> 1 +0000\n"
                                               "committer A <a@example.com> 1 +0000\n\n%s %u\n",
                                               empty_tree, salt_hex, i);
      object_id ("commit", text, strlen (text), &ret_oids[i]);
      append_object (pack, 1, text, strlen (text));
    }
  append_trailer (pack);
  return g_byte_array_free_to_bytes (g_steal_pointer (&pack));
}

/* ------------------------------------------------------------------------------------- a small project */

static void
add_object (GByteArray *pack, guint number, const void *bytes, gsize n, GsOid *ret_oid)
{
  static const char *const names[] = { NULL, "commit", "tree", "blob", "tag" };
  object_id (names[number], bytes, n, ret_oid);
  append_object (pack, number, bytes, n);
}

static void
add_entry (GByteArray *tree, const char *mode_and_name, const GsOid *oid)
{
  g_byte_array_append (tree, (const guint8 *) mode_and_name, (guint) strlen (mode_and_name) + 1);
  g_byte_array_append (tree, oid->raw, oid->len);
}

GBytes *
pack_project (Conformance *c, Project *ret)
{
  g_autoptr (GByteArray) pack = g_byte_array_new (), root = g_byte_array_new (), lib = g_byte_array_new ();
  g_autofree guint8 *big = g_malloc (PROJECT_BIG);
  g_autofree char *commit = NULL, *tag = NULL;
  GsTxId salt = conformance_txid (c);
  char tree_hex[GS_OID_HEX_MAX + 1], commit_hex[GS_OID_HEX_MAX + 1];
  for (guint i = 0; i < PROJECT_BIG; i++)
    big[i] = (guint8) (i * 31 + i / 251);
  gs_hex (salt.bytes, sizeof salt.bytes, ret->text);
  append_head (pack, PROJECT_OBJECTS + 1);
  add_object (pack, 3, ret->text, strlen (ret->text), &ret->small);
  add_object (pack, 3, big, PROJECT_BIG, &ret->big);
  add_entry (lib, "100644 part", &ret->small);
  add_object (pack, 2, lib->data, lib->len, &ret->lib);
  add_entry (root, "100755 lib-x", &ret->small); /* a folder counts as "lib/" */
  add_entry (root, "100644 lib.c", &ret->big);
  add_entry (root, "40000 lib", &ret->lib);
  add_object (pack, 2, root->data, root->len, &ret->tree);
  gs_oid_hex (&ret->tree, tree_hex);
  commit = g_strdup_printf ("tree %s\nauthor A <a@example.com> 1 +0000\ncommitter A <a@example.com> 1 +0000\n\n%s\n",
                            tree_hex, ret->text);
  add_object (pack, 1, commit, strlen (commit), &ret->commit);
  gs_oid_hex (&ret->commit, commit_hex);
  tag = g_strdup_printf ("object %s\ntype commit\ntag v1\ntagger A <a@example.com> 1 +0000\n\nfirst\n", commit_hex);
  add_object (pack, 4, tag, strlen (tag), &ret->tag);
  append_trailer (pack);
  return g_byte_array_free_to_bytes (g_steal_pointer (&pack));
}

gboolean
project_make (Conformance *c, Replica *ret_replica, Project *ret)
{
  g_autoptr (GBytes) pack = pack_project (c, ret);
  GsRefUpdate updates[2] = { update_create ("refs/heads/main", &ret->commit), update_create ("refs/tags/v1", &ret->tag) };
  return replica_make (c, ret_replica) && write_refs (c, ret_replica, updates, 2, pack, 1);
}
