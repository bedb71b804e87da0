/* SPDX-License-Identifier: Apache-2.0 */
/**
 * refs_packed.c - packed-refs in memory: parsing what any git wrote, building what we write.
 *
 * One buffer holds the file; an index of eight bytes per ref points into it, with names NUL-terminated in
 * place. Ids are decoded when asked for. What we write is byte for byte what git's own packing writes.
 */
#include "refs_internal.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PACKED_HEADER "# pack-refs with: peeled fully-peeled sorted \n"

static const gint8 hex_value[256] = {
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
   0,  1,  2,  3,  4,  5,  6,  7,  8,  9, -1, -1, -1, -1, -1, -1,
  -1, 10, 11, 12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, 10, 11, 12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
  -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
};

static gboolean
hex_ok (const char *at, gsize n)
{
  gint8 all = 0;
  for (gsize i = 0; i < n; i++)
    all |= hex_value[(guint8) at[i]];
  return all >= 0;
}

static void
hex_decode (const char *at, guint len, GsOid *ret_oid)
{
  ret_oid->len = (guint8) len;
  for (guint i = 0; i < len; i++)
    ret_oid->raw[i]
        = (guint8) (hex_value[(guint8) at[2 * i]] << 4 | hex_value[(guint8) at[2 * i + 1]]);
  memset (ret_oid->raw + len, 0, sizeof ret_oid->raw - len);
}

PackedFile *
packed_ref (PackedFile *packed)
{
  g_atomic_int_inc (&packed->refs);
  return packed;
}

void
packed_unref (PackedFile *packed)
{
  if (packed == NULL || !g_atomic_int_dec_and_test (&packed->refs))
    return;
  if (packed->pin != NULL)
    munmap (packed->pin, 1);
  g_free (packed->data);
  g_free (packed->items);
  g_free (packed);
}

void
packed_oid (const PackedFile *packed, gsize i, GsOid *ret_oid, GsOid *ret_peeled)
{
  const PackedItem *item = &packed->items[i];
  const char *line = packed->data + item->at;
  hex_decode (line, packed->format, ret_oid);
  if (ret_peeled == NULL)
    return;
  if (item->flags & PACKED_HAS_PEELED)
    hex_decode (line + 2 * packed->format + 1 + item->name_len + 2, packed->format, ret_peeled);
  else
    memset (ret_peeled, 0, sizeof *ret_peeled);
}

gsize
packed_seek (const PackedFile *packed, gsize from, const char *name)
{
  gsize low = from, high = packed->n;
  while (low < high)
    {
      gsize middle = low + (high - low) / 2;
      if (strcmp (packed_name (packed, middle), name) < 0)
        low = middle + 1;
      else
        high = middle;
    }
  return low;
}

gboolean
packed_find (const PackedFile *packed, const char *name, gsize *ret_index)
{
  gsize i = packed_seek (packed, 0, name);
  if (i == packed->n || strcmp (packed_name (packed, i), name) != 0)
    return FALSE;
  if (ret_index != NULL)
    *ret_index = i;
  return TRUE;
}

/* ------------------------------------------------------------------------------------- parsing */

typedef struct
{
  PackedFile *packed;
  gsize room;
  gboolean sorted, has_header;
  gboolean peeled_tags, fully_peeled; /* what the header promises */
} Parse;

static gboolean
parse_fail (const char *where, gsize offset, const char *why, GError **error)
{
  return gs_fail (error, GS_ERROR_DATA_LOSS,
                  "%s/packed-refs is damaged at byte %" G_GSIZE_FORMAT
                  ": %s. Nothing was changed; restore the file or mend the line, git cannot read it either",
                  where, offset, why);
}

static gboolean
parse_header (Parse *parse, const char *where, gsize *ret_begin, GError **error)
{
  PackedFile *packed = parse->packed;
  static const char prefix[] = "# pack-refs with:";
  char *end;
  g_auto (GStrv) traits = NULL;
  *ret_begin = 0;
  if (packed->len == 0 || packed->data[0] != '#')
    return TRUE;
  end = memchr (packed->data, '\n', packed->len);
  if (end == NULL || strncmp (packed->data, prefix, strlen (prefix)) != 0)
    return parse_fail (where, 0, "unknown header", error);
  *end = '\0';
  traits = g_strsplit (packed->data + strlen (prefix), " ", 0);
  *end = '\n';
  parse->fully_peeled = g_strv_contains ((const char *const *) traits, "fully-peeled");
  parse->peeled_tags = g_strv_contains ((const char *const *) traits, "peeled");
  *ret_begin = (gsize) (end - packed->data) + 1;
  return TRUE;
}

static gboolean
parse_ref_line (Parse *parse, gsize at, gsize end, const char *where, GError **error)
{
  PackedFile *packed = parse->packed;
  gsize hex = 2 * packed->format;
  gsize name_len = end - at - hex - 1;
  char *name = packed->data + at + hex + 1;
  PackedItem *item;
  if (end - at < hex + 2 || name[-1] != ' ' || !hex_ok (packed->data + at, hex))
    return parse_fail (where, at, "not a line of object id and ref name", error);
  if (name_len > G_MAXUINT16)
    return parse_fail (where, at, "a ref name longer than 65535 bytes", error);
  if (packed->n == parse->room)
    {
      gsize room = parse->room * 2 + 64;
      PackedItem *items = g_try_realloc_n (packed->items, room, sizeof *items);
      if (items == NULL)
        return gs_fail (error, GS_ERROR_UNAVAILABLE, "reading %s/packed-refs: no memory for %" G_GSIZE_FORMAT " refs",
                        where, room);
      packed->items = items;
      parse->room = room;
    }
  name[name_len] = '\0';
  if (memchr (name, '\0', name_len) != NULL)
    return parse_fail (where, at, "a NUL in a ref name", error);
  item = &packed->items[packed->n];
  item->at = (guint32) at;
  item->name_len = (guint16) name_len;
  item->flags = 0;
  if (!ref_name_well_formed (name, name_len))
    {
      item->flags |= PACKED_BAD_NAME;
      packed->n_bad++;
    }
  if (packed->n > 0 && strcmp (packed_name (packed, packed->n - 1), name) >= 0)
    parse->sorted = FALSE;
  packed->n++;
  return TRUE;
}

static gboolean
parse_lines (Parse *parse, gsize at, const char *where, GError **error)
{
  PackedFile *packed = parse->packed;
  gsize hex = 2 * packed->format;
  while (at < packed->len)
    {
      const char *newline = memchr (packed->data + at, '\n', packed->len - at);
      gsize end;
      if (newline == NULL)
        return parse_fail (where, at, "the last line is not whole", error);
      end = (gsize) (newline - packed->data);
      if (packed->data[at] != '^')
        {
          if (!parse_ref_line (parse, at, end, where, error))
            return FALSE;
        }
      else if (packed->n == 0 || (packed->items[packed->n - 1].flags & PACKED_HAS_PEELED) || end - at != hex + 1
               || !hex_ok (packed->data + at + 1, hex))
        return parse_fail (where, at, "a peeled value that belongs to no ref", error);
      else
        packed->items[packed->n - 1].flags |= PACKED_HAS_PEELED;
      at = end + 1;
    }
  return TRUE;
}

static gint
compare_items (gconstpointer a, gconstpointer b, gpointer user)
{
  const PackedItem *left = a, *right = b;
  const PackedFile *packed = user;
  const char *base = packed->data + 2 * packed->format + 1;
  int order = strcmp (base + left->at, base + right->at);
  /* Of two lines for one name the later one counts; the stable order brings it last. */
  return order != 0 ? order : (left->at < right->at ? -1 : left->at > right->at);
}

/** Rewrites a parsed file in sorted, fully peeled form. NULL, no error: see @need. */
static char *
normalise (Parse *parse, PackedPeel peel, gpointer user, GArray *need, gsize *ret_len)
{
  PackedFile *packed = parse->packed;
  GString *text = g_string_sized_new (packed->len + sizeof PACKED_HEADER);
  guint before = need->len;
  g_string_append (text, PACKED_HEADER);
  if (packed->n > 0)
    g_qsort_with_data (packed->items, (gint) packed->n, sizeof *packed->items, compare_items, packed);
  for (gsize i = 0; i < packed->n; i++)
    {
      const char *name = packed_name (packed, i);
      GsOid oid, peeled;
      char hex[GS_OID_HEX_MAX + 1];
      if (i + 1 < packed->n && strcmp (name, packed_name (packed, i + 1)) == 0)
        continue;
      packed_oid (packed, i, &oid, &peeled);
      if (peeled.len == 0 && !parse->fully_peeled && !(parse->peeled_tags && g_str_has_prefix (name, "refs/tags/"))
          && !peel (user, &oid, &peeled))
        {
          g_array_append_val (need, oid);
          continue;
        }
      gs_oid_hex (&oid, hex);
      g_string_append_printf (text, "%s %s\n", hex, name);
      if (peeled.len != 0)
        {
          gs_oid_hex (&peeled, hex);
          g_string_append_printf (text, "^%s\n", hex);
        }
    }
  *ret_len = text->len;
  return g_string_free (text, need->len != before);
}

PackedFile *
packed_parse (char *data, gsize len, GsObjectFormat format, const char *where, PackedPeel peel, gpointer user,
              GArray *need, GError **error)
{
  g_autoptr (PackedFile) packed = g_new0 (PackedFile, 1);
  Parse parse = { .packed = packed, .sorted = TRUE };
  gsize begin, text_len;
  char *text;
  packed->refs = 1;
  packed->data = data;
  packed->len = len;
  packed->format = format;
  if (len > REF_PACKED_MAX)
    {
      gs_fail (error, GS_ERROR_OUT_OF_RANGE, "%s/packed-refs is larger than %" G_GSIZE_FORMAT " bytes", where,
               REF_PACKED_MAX);
      return NULL;
    }
  parse.room = len / 80;
  packed->items = g_try_new (PackedItem, parse.room + 1);
  if (packed->items == NULL)
    {
      gs_fail (error, GS_ERROR_UNAVAILABLE, "reading %s/packed-refs: no memory for its index", where);
      return NULL;
    }
  if (!parse_header (&parse, where, &begin, error) || !parse_lines (&parse, begin, where, error))
    return NULL;
  if (parse.sorted && (parse.fully_peeled || packed->n == 0))
    return g_steal_pointer (&packed);
  text = normalise (&parse, peel, user, need, &text_len);
  if (text == NULL)
    return NULL;
  return packed_parse (text, text_len, format, where, peel, user, need, error);
}

void
packed_pin (PackedFile *packed, int fd, const struct stat *st)
{
  ref_stamp_set (&packed->stamp, st, G_MAXINT64);
  /* Replaced by rename, never written in place: the inode's number says whether it is the same file, provided
   * that it cannot be reused. A mapping keeps it alive without costing a descriptor. */
  packed->stamp.racy = FALSE;
  if (st->st_size > 0)
    {
      packed->pin = mmap (NULL, 1, PROT_READ, MAP_PRIVATE, fd, 0);
      if (packed->pin == MAP_FAILED)
        packed->pin = NULL;
    }
  if (packed->pin == NULL)
    packed->stamp.racy = TRUE;
}

/** All bytes of @fd and a NUL. */
static char *
read_whole (int fd, gsize len, const char *where, GError **error)
{
  g_autofree char *data = g_try_malloc (len + 1);
  gsize got = 0;
  if (data == NULL)
    {
      gs_fail (error, GS_ERROR_UNAVAILABLE, "reading %s/packed-refs: no memory for %" G_GSIZE_FORMAT " bytes", where,
               len);
      return NULL;
    }
  while (got < len)
    {
      ssize_t n = read (fd, data + got, len - got);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        {
          fsu_fail (error, n < 0 ? errno : EIO, "reading %s/packed-refs", where);
          return NULL;
        }
      got += (gsize) n;
    }
  data[len] = '\0';
  return g_steal_pointer (&data);
}

PackedFile *
packed_load (int dirfd, GsObjectFormat format, const char *where, PackedPeel peel, gpointer user, GArray *need,
             GError **error)
{
  PackedFile *packed = NULL;
  struct stat st;
  char *data;
  int fd = openat (dirfd, "packed-refs", O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    {
      if (errno != ENOENT)
        {
          fsu_fail (error, errno, "opening %s/packed-refs", where);
          return NULL;
        }
      return packed_parse (g_strdup (""), 0, format, where, peel, user, need, error);
    }
  if (fstat (fd, &st) != 0 || !S_ISREG (st.st_mode) || (guint64) st.st_size > REF_PACKED_MAX)
    gs_fail (error, GS_ERROR_DATA_LOSS, "%s/packed-refs is not a regular file of a sensible size", where);
  else if ((data = read_whole (fd, (gsize) st.st_size, where, error)) != NULL)
    {
      packed = packed_parse (data, (gsize) st.st_size, format, where, peel, user, need, error);
      if (packed != NULL)
        packed_pin (packed, fd, &st);
    }
  close (fd);
  return packed;
}

/* ------------------------------------------------------------------------------------- building */

static char *
append_run (char *out, const PackedFile *base, gsize from, gsize to)
{
  gsize begin, end;
  if (from >= to)
    return out;
  begin = base->items[from].at;
  end = to < base->n ? base->items[to].at : base->len;
  memcpy (out, base->data + begin, end - begin);
  for (gsize i = from; i < to; i++)
    {
      const PackedItem *item = &base->items[i];
      out[item->at - begin + 2 * base->format + 1 + item->name_len] = '\n';
    }
  return out + (end - begin);
}

static char *
append_edit (char *out, const PackedEdit *edit)
{
  gsize len = strlen (edit->name);
  gs_hex (edit->oid->raw, edit->oid->len, out);
  out += 2 * edit->oid->len;
  *out++ = ' ';
  memcpy (out, edit->name, len);
  out += len;
  *out++ = '\n';
  if (edit->peeled != NULL && edit->peeled->len != 0 && !gs_oid_is_zero (edit->peeled))
    {
      *out++ = '^';
      gs_hex (edit->peeled->raw, edit->peeled->len, out);
      out += 2 * edit->peeled->len;
      *out++ = '\n';
    }
  return out;
}

char *
packed_build (const PackedFile *base, const PackedEdit *edits, gsize n, gsize *ret_len)
{
  gsize room = base->len + sizeof PACKED_HEADER + 1, at = 0;
  char *text, *out;
  for (gsize i = 0; i < n; i++)
    if (edits[i].oid != NULL)
      room += strlen (edits[i].name) + 4u * base->format + 8;
  text = g_try_malloc (room);
  if (text == NULL)
    return NULL;
  memcpy (text, PACKED_HEADER, strlen (PACKED_HEADER));
  out = text + strlen (PACKED_HEADER);
  for (gsize i = 0; i < n; i++)
    {
      gsize position = packed_seek (base, at, edits[i].name);
      out = append_run (out, base, at, position);
      at = position;
      if (at < base->n && strcmp (packed_name (base, at), edits[i].name) == 0)
        at++;
      if (edits[i].oid != NULL)
        out = append_edit (out, &edits[i]);
    }
  out = append_run (out, base, at, base->n);
  *out = '\0';
  *ret_len = (gsize) (out - text);
  return text;
}
