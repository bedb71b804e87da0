/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and packets of git that storage/git reads by itself: packed-refs, commit-graphs, packet lines. The first byte of an
 * input says which. A commit-graph's checksum is made right, or nothing behind it would ever be looked at.
 */
#include "fuzz.h"

#include "fakehost.h"
#include "history/graph.h"
#include "pktline.h"
#include "refs_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char *folder, *graph_file;

static void
remove_folder (void)
{
  fake_tempdir_remove (folder);
  g_free (graph_file);
}

static void
prepare (void)
{
  if (folder != NULL)
    return;
  folder = fake_tempdir_new ();
  g_autofree char *info = g_build_filename (folder, "info", NULL);
  graph_file = g_build_filename (info, "commit-graph", NULL);
  FUZZ_CHECK (mkdir (info, 0777) == 0);
  atexit (remove_folder);
}

/* ------------------------------------------------------------------------------------- packed-refs */

static gboolean
peel_some (gpointer user, const GsOid *oid, GsOid *ret_peeled)
{
  memset (ret_peeled, 0, sizeof *ret_peeled);
  if (oid->raw[0] % 3 == 0)
    *ret_peeled = *oid;
  return oid->raw[0] % 3 != 2;
}

static void
try_packed (const guint8 *data, gsize len, GsObjectFormat format)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GArray) need = g_array_new (FALSE, FALSE, sizeof (GsOid));
  char *copy = g_malloc (len + 1);
  memcpy (copy, data, len);
  copy[len] = '\0';
  g_autoptr (PackedFile) packed = packed_parse (copy, len, format, "fuzz", peel_some, NULL, need, &error);
  if (packed == NULL)
    {
      FUZZ_CHECK (error != NULL ? error->code == GS_ERROR_DATA_LOSS : need->len > 0);
      return;
    }
  for (gsize i = 0; i < packed->n; i++)
    {
      GsOid oid, peeled;
      gsize found;
      packed_oid (packed, i, &oid, &peeled);
      FUZZ_CHECK (oid.len == format);
      FUZZ_CHECK (i == 0 || strcmp (packed_name (packed, i - 1), packed_name (packed, i)) < 0);
      FUZZ_CHECK (packed_find (packed, packed_name (packed, i), &found) && found == i);
    }
  /* What we write of it reads as the same again. */
  gsize written;
  char *text = packed_build (packed, NULL, 0, &written);
  g_autoptr (PackedFile) again = packed_parse (text, written, format, "fuzz", peel_some, NULL, need, &error);
  FUZZ_CHECK (again != NULL && again->n == packed->n);
}

/* ------------------------------------------------------------------------------------ commit-graphs */

static void
try_graph (const guint8 *data, gsize len)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA1);
  g_autofree char *why = NULL;
  g_autofree guint8 *file = g_malloc (len + HIST_RAW);
  gsize digest = HIST_RAW;
  HistGraph *graph;
  prepare ();
  memcpy (file, data, len);
  g_checksum_update (sum, data, (gssize) len);
  g_checksum_get_digest (sum, file + len, &digest);
  FUZZ_CHECK (g_file_set_contents_full (graph_file, (char *) file, (gssize) (len + HIST_RAW), G_FILE_SET_CONTENTS_NONE, 0666, NULL));
  graph = hist_graph_open (folder, NULL, &why);
  FUZZ_CHECK (graph != NULL || why != NULL);
  for (guint32 pos = 0; graph != NULL && pos < graph->n; pos++)
    {
      HistRecord record;
      HistFilter filter;
      HistBloomKey key;
      guint32 found;
      hist_graph_record (graph, pos, &record);
      FUZZ_CHECK (hist_graph_find (graph, record.oid, &found) && found == pos);
      for (guint32 i = 0; i < record.n_parents; i++)
        FUZZ_CHECK (hist_record_parent (&record, i) < graph->n);
      hist_graph_generation (graph, pos);
      hist_graph_date (graph, pos);
      hist_graph_filter (graph, pos, &filter);
      hist_bloom_key ("src/a", 5, &key);
      hist_filter_maybe (&filter, &key);
    }
  if (graph != NULL)
    hist_graph_unref (graph);
}

/* ----------------------------------------------------------------------------------------- packets */

static void
try_packets (const guint8 *data, gsize len)
{
  const char *text = (const char *) data, *payload;
  gsize used, payload_len;
  for (gsize at = 0; at < len; at += used)
    {
      PktType type = pkt_parse (text + at, len - at, &used, &payload, &payload_len);
      if (type == PKT_MORE || type == PKT_BAD)
        break;
      FUZZ_CHECK (used >= 4 && used <= len - at && used <= PKT_MAX);
      if (type != PKT_DATA)
        continue;
      FUZZ_CHECK (payload == text + at + 4 && payload_len == used - 4 && pkt_chomp (payload, payload_len) <= payload_len);
      pkt_has_word (payload, payload_len, "push-options");
    }
  g_autofree char *protocol = g_strndup (text, MIN (len, 256));
  FUZZ_CHECK (pkt_protocol_version (protocol) >= 0);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  if (size == 0)
    return 0;
  switch (data[0] % 4)
    {
    case 0:
      try_packed (data + 1, size - 1, GS_FORMAT_SHA1);
      break;
    case 1:
      try_packed (data + 1, size - 1, GS_FORMAT_SHA256);
      break;
    case 2:
      try_graph (data + 1, size - 1);
      break;
    default:
      try_packets (data + 1, size - 1);
      break;
    }
  return 0;
}

/* ------------------------------------------------------------------------------------------- seeds */

static void
add (GPtrArray *seeds, guint8 kind, const char *text, gsize len)
{
  GByteArray *bytes = g_byte_array_new ();
  g_byte_array_append (bytes, &kind, 1);
  g_byte_array_append (bytes, (const guint8 *) text, (guint) len);
  g_ptr_array_add (seeds, g_byte_array_free_to_bytes (bytes));
}

/* A graph as git itself writes it, of the history of fixture.sh. */
static void
add_graph (GPtrArray *seeds)
{
  g_autofree char *path = g_build_filename (FUZZ_DIR, "commit-graph", NULL), *data = NULL;
  g_autoptr (GError) error = NULL;
  gsize len;
  if (!g_file_get_contents (path, &data, &len, &error))
    g_error ("%s", error->message);
  add (seeds, 2, data, len - HIST_RAW);
}

GPtrArray *
fuzz_seeds (void)
{
  static const char packed[] = "# pack-refs with: peeled fully-peeled sorted \n"
                               "0843fdf4398e61687ab9a1f07f768d94393b30ac refs/heads/main\n"
                               "a181304f0ae2baca6c9ded4d81776442ae5a7f77 refs/tags/v1.0\n"
                               "^14f6b0e2398e61687ab9a1f07f768d94393b30ac\n";
  static const char unsorted[] = "a181304f0ae2baca6c9ded4d81776442ae5a7f77 refs/tags/v1.0\n"
                                 "0843fdf4398e61687ab9a1f07f768d94393b30ac refs/heads/main\n";
  static const char packets[] = "0014command=ls-refs\n0001000bpeel\n00000002001bref-prefix refs/heads/\n";
  GPtrArray *seeds = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  add (seeds, 0, packed, strlen (packed));
  add (seeds, 0, unsorted, strlen (unsorted));
  add (seeds, 1, packed, strlen (packed));
  add (seeds, 3, packets, strlen (packets));
  add (seeds, 3, "version=2:x=1", 13);
  add_graph (seeds);
  return seeds;
}
