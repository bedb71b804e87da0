/* SPDX-License-Identifier: Apache-2.0 */
/* The label of a replica: what its repository is called. docs/on-disk.md. See label.h. */
#include "label.h"

#include "disk.h"

#include <fcntl.h>

#define LABEL_MAGIC "gitstead-label 1\n"
#define LABEL_MAX (16 * 1024)
#define LABEL_ALL 63u

void
label_clear (ReplicaLabel *label)
{
  g_free (label->virtual_storage);
  g_free (label->path);
  g_free (label->consistency);
  *label = (ReplicaLabel) { 0 };
}

static gboolean
parse_number (const char *text, guint64 max, guint64 *ret_number)
{
  return g_ascii_string_to_unsigned (text, 10, 0, max, ret_number, NULL);
}

static gboolean
parse_line (char *line, ReplicaLabel *label, guint *seen)
{
  static const char *const names[] = { "version", "virtual-storage", "path", "copies", "consistency", "created" };
  char *value = strchr (line, ' ');
  guint64 number = 0;
  gsize which = 0;
  if (value == NULL)
    return FALSE;
  *value++ = '\0';
  while (which < G_N_ELEMENTS (names) && strcmp (names[which], line) != 0)
    which++;
  if (which == G_N_ELEMENTS (names) || (*seen & 1u << which) != 0)
    return FALSE;
  *seen |= 1u << which;
  switch (which)
    {
    case 0:
      return parse_number (value, G_MAXUINT64 - 1, &label->version);
    case 1:
      label->virtual_storage = g_strdup (value);
      return *value != '\0';
    case 2:
      label->path = g_strdup (value);
      return *value != '\0';
    case 3:
      if (!parse_number (value, G_MAXUINT32, &number))
        return FALSE;
      label->copies = (guint32) number;
      return TRUE;
    case 4:
      label->consistency = g_strdup (value);
      return TRUE;
    default:
      if (!parse_number (value, G_MAXINT64, &number))
        return FALSE;
      label->created_us = (gint64) number;
      return TRUE;
    }
}

static gboolean
damaged (const char *path, const char *what, GError **error)
{
  return gs_fail (error, GS_ERROR_DATA_LOSS, "the label %s %s", path, what);
}

gboolean
label_read (const char *dir, ReplicaLabel *ret_label, GError **error)
{
  g_autofree char *path = g_strconcat (dir, "/" GIT_LABEL, NULL);
  gsize len;
  g_autofree char *text = fsu_read (AT_FDCWD, path, LABEL_MAX, &len, error), *sum = NULL;
  g_auto (ReplicaLabel) label = { 0 };
  g_auto (GStrv) lines = NULL;
  guint seen = 0;
  char *last;
  if (text == NULL)
    return FALSE;
  last = g_strrstr (text, "\nchecksum ");
  if (!g_str_has_prefix (text, LABEL_MAGIC) || last == NULL || strlen (text) != len)
    return damaged (path, "is damaged or of a newer version", error);
  sum = g_compute_checksum_for_data (G_CHECKSUM_SHA256, (const guchar *) text, (gsize) (last + 1 - text));
  if (strlen (last) != strlen ("\nchecksum ") + 65 || memcmp (last + strlen ("\nchecksum "), sum, 64) != 0)
    return damaged (path, "is damaged: its checksum does not fit", error);
  *last = '\0';
  lines = g_strsplit (text, "\n", -1);
  for (guint i = 1; lines[i] != NULL; i++)
    if (!parse_line (lines[i], &label, &seen))
      return damaged (path, "has a line that cannot be read", error);
  if (seen != LABEL_ALL || !g_utf8_validate (text, -1, NULL))
    return damaged (path, "lacks a line, or is not UTF-8", error);
  *ret_label = label;
  label = (ReplicaLabel) { 0 };
  return TRUE;
}

static gboolean
fits_line (const char *text, gboolean may_be_empty)
{
  if (text == NULL || (*text == '\0' && !may_be_empty) || strlen (text) > 4096 || !g_utf8_validate (text, -1, NULL))
    return FALSE;
  for (const char *at = text; *at != '\0'; at++)
    if (g_ascii_iscntrl (*at))
      return FALSE;
  return TRUE;
}

static gboolean
says_the_same (const ReplicaLabel *a, const ReplicaLabel *b)
{
  return strcmp (a->virtual_storage, b->virtual_storage) == 0 && strcmp (a->path, b->path) == 0 && a->copies == b->copies
         && strcmp (a->consistency, b->consistency) == 0 && a->created_us == b->created_us;
}

gboolean
label_write (Repo *repo, const ReplicaLabel *label, GError **error)
{
  g_autofree char *path = g_strconcat (repo->dir, "/" GIT_LABEL, NULL), *sum = NULL;
  g_autoptr (GString) text = g_string_new (LABEL_MAGIC);
  g_auto (ReplicaLabel) before = { 0 };
  guint64 version = label->version;
  g_autoptr (GsMutexLocker) hold = NULL;
  if (!fits_line (label->virtual_storage, FALSE) || !fits_line (label->path, FALSE)
      || !fits_line (label->consistency, TRUE) || label->created_us < 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the label for replica %s has a text that cannot stand in a line",
                    repo->path);
  hold = gs_mutex_hold (&repo->stamp_lock);
  /* One that cannot be read is written over. */
  if (label_read (repo->dir, &before, NULL))
    {
      if (says_the_same (&before, label))
        return TRUE;
      version = MAX (version, before.version + 1);
    }
  g_string_append_printf (text,
                          "version %" G_GUINT64_FORMAT "\nvirtual-storage %s\npath %s\ncopies %u\nconsistency %s\n"
                          "created %" G_GINT64_FORMAT "\n",
                          version, label->virtual_storage, label->path, label->copies, label->consistency,
                          label->created_us);
  sum = g_compute_checksum_for_data (G_CHECKSUM_SHA256, (const guchar *) text->str, text->len);
  g_string_append_printf (text, "checksum %s\n", sum);
  return disk_replace (path, text->str, text->len, repo->storage->sync, error);
}

gboolean
label_carry (const Storage *storage, const char *from, const char *to, GError **error)
{
  g_autofree char *path = g_strconcat (from, "/" GIT_LABEL, NULL), *copy = g_strconcat (to, "/" GIT_LABEL, NULL);
  gsize len;
  g_autofree char *text = fsu_read (AT_FDCWD, path, LABEL_MAX, &len, NULL);
  return text == NULL || disk_replace (copy, text, len, storage->sync, error);
}
