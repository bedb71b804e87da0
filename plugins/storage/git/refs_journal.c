/* SPDX-License-Identifier: Apache-2.0 */
/**
 * refs_journal.c - the journal: one file per prepared transaction, gitstead/journal/<transaction id in hex>.
 *
 * Text, one record a line, ended by '\n'. Ids are hex, "-" stands for none:
 *
 *   gitstead-refs-journal 1
 *   format <20 or 32>                                    object id length
 *   quarantine <name or ->                               the objects that belong to it
 *   packed <0 or 1>                                      whether it holds packed-refs.lock
 *   ref <route> <lock> <old> <new> <peeled> <name>       route: n nothing to write, l loose, p packed-refs;
 *                                                        lock 1: it holds <name>.lock; all-zero id: no such ref
 *   head <old target or -> <new target>                  holds HEAD.lock
 *   sum <sha256>                                         over all bytes before this line
 *
 * The file is written whole and synced before the transaction counts as prepared. Appended later, each synced:
 *
 *   vote <32 bytes> <sha256>                             it was voted for
 *   commit <generation> <sha256>                         the local point of no return
 *
 * where the sum is over the intent's sum, a space and the line up to the space before its own sum. A file without a
 * good "sum" line was never prepared; an appended line without a good sum was never written. The file is removed
 * when the transaction is finished or dropped. Lock files that never become refs hold "gitstead <id>\n".
 */
#include "refs_internal.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC "gitstead-refs-journal 1\n"

void
txn_ref_clear (TxnRef *ref)
{
  g_free (ref->name);
  g_free (ref->old_head);
  g_free (ref->new_head);
}

void
ref_journal_free (RefJournal *journal)
{
  if (journal == NULL)
    return;
  for (gsize i = 0; i < journal->n; i++)
    txn_ref_clear (&journal->refs[i]);
  g_free (journal->refs);
  g_free (journal->quarantine);
  g_free (journal);
}

char *
ref_journal_path (const GsTxId *txid)
{
  char hex[2 * GS_TXID_SIZE + 1];
  gs_hex (txid->bytes, GS_TXID_SIZE, hex);
  return g_strconcat (REF_JOURNAL_DIR "/", hex, NULL);
}

/* ------------------------------------------------------------------------------------- writing */

static char *
intent_text (const RefTxn *txn, gsize *ret_len)
{
  GString *text = g_string_sized_new (256 + txn->n * 200);
  static const char routes[] = { 'n', 'l', 'p' };
  g_string_append (text, MAGIC);
  g_string_append_printf (text, "format %d\nquarantine %s\npacked %d\n", (int) txn->store->options.format,
                          txn->quarantine ? txn->quarantine : "-", txn->packed_lock);
  for (gsize i = 0; i < txn->n; i++)
    {
      const TxnRef *ref = &txn->refs[i];
      char old_hex[GS_OID_HEX_MAX + 1], new_hex[GS_OID_HEX_MAX + 1], peeled_hex[GS_OID_HEX_MAX + 1];
      if (ref->new_head != NULL)
        {
          g_string_append_printf (text, "head %s %s\n", *ref->old_head ? ref->old_head : "-", ref->new_head);
          continue;
        }
      gs_oid_hex (&ref->old_oid, old_hex);
      gs_oid_hex (&ref->new_oid, new_hex);
      gs_oid_hex (&ref->peeled, peeled_hex);
      g_string_append_printf (text, "ref %c %d %s %s %s %s\n", routes[ref->route], ref->lock_held, old_hex, new_hex,
                              ref->peeled.len ? peeled_hex : "-", ref->name);
    }
  *ret_len = text->len;
  return g_string_free (text, FALSE);
}

static void
line_sum (const char *intent_sum, const char *line, char ret_sum[65])
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  g_checksum_update (sum, (const guchar *) intent_sum, -1);
  g_checksum_update (sum, (const guchar *) " ", 1);
  g_checksum_update (sum, (const guchar *) line, -1);
  g_strlcpy (ret_sum, g_checksum_get_string (sum), 65);
}

gboolean
ref_journal_begin (RefTxn *txn, GError **error)
{
  RefStore *store = txn->store;
  gsize len;
  g_autofree char *text = intent_text (txn, &len);
  g_autofree char *sum = g_compute_checksum_for_data (G_CHECKSUM_SHA256, (const guchar *) text, len);
  g_autofree char *sum_line = g_strdup_printf ("sum %s\n", sum);
  g_autofree char *path = ref_journal_path (&txn->txid);
  int fd = fsu_create_exclusive (store->dirfd, path, 0666);
  if (fd < 0 && errno == ENOENT)
    {
      if (!fsu_mkdirs (store->dirfd, REF_JOURNAL_DIR, 0777, error))
        return FALSE;
      fd = fsu_create_exclusive (store->dirfd, path, 0666);
    }
  if (fd < 0)
    return fsu_fail (error, errno, "beginning transaction %s in the journal of %s", txn->txid_hex, store->dir);
  g_strlcpy (txn->journal_sum, sum, sizeof txn->journal_sum);
  if (fsu_write_all (fd, text, len, path, error) && fsu_write_all (fd, sum_line, strlen (sum_line), path, error)
      && fsu_sync_fd (fd, path, error) && fsu_sync_dir (store->dirfd, REF_JOURNAL_DIR, error))
    {
      txn->journal_fd = fd;
      txn->journal_path = g_steal_pointer (&path);
      return TRUE;
    }
  close (fd);
  unlinkat (store->dirfd, path, 0);
  return FALSE;
}

static gboolean
append (int fd, const char *path, const char *intent_sum, const char *line, GError **error)
{
  char sum[65];
  g_autofree char *whole = NULL;
  off_t before = lseek (fd, 0, SEEK_END);
  line_sum (intent_sum, line, sum);
  whole = g_strdup_printf ("%s %s\n", line, sum);
  if (before < 0)
    return fsu_fail (error, errno, "seeking in journal record %s", path);
  if (fsu_write_all (fd, whole, strlen (whole), path, error) && fsu_sync_fd (fd, path, error))
    return TRUE;
  /* A torn line is not believed, but nothing may be appended behind it either. */
  if (ftruncate (fd, before) != 0)
    return FALSE;
  return FALSE;
}

gboolean
ref_journal_vote (int fd, const char *path, const char *sum, const guint8 vote[32], GError **error)
{
  char hex[65];
  g_autofree char *line = NULL;
  gs_hex (vote, 32, hex);
  line = g_strconcat ("vote ", hex, NULL);
  return append (fd, path, sum, line, error);
}

gboolean
ref_journal_commit (int fd, const char *path, const char *sum, guint64 generation, GError **error)
{
  g_autofree char *line = g_strdup_printf ("commit %" G_GUINT64_FORMAT, generation);
  return append (fd, path, sum, line, error);
}

/* ------------------------------------------------------------------------------------- reading */

static gboolean
oid_field (const char *text, GsOid *ret_oid)
{
  memset (ret_oid, 0, sizeof *ret_oid);
  return strcmp (text, "-") == 0 || gs_oid_parse (text, strlen (text), ret_oid);
}

static gboolean
read_ref (GArray *refs, char *const *field, guint n_fields)
{
  TxnRef ref = { 0 };
  if (n_fields != 7 || strlen (field[1]) != 1 || !oid_field (field[3], &ref.old_oid)
      || !oid_field (field[4], &ref.new_oid) || !oid_field (field[5], &ref.peeled) || ref.old_oid.len == 0
      || ref.new_oid.len == 0 || !ref_name_valid (field[6], NULL))
    return FALSE;
  ref.route = field[1][0] == 'l' ? ROUTE_LOOSE : field[1][0] == 'p' ? ROUTE_PACKED : ROUTE_NONE;
  ref.lock_held = strcmp (field[2], "1") == 0;
  ref.name = g_strdup (field[6]);
  g_array_append_val (refs, ref);
  return TRUE;
}

static gboolean
read_head (GArray *refs, char *const *field, guint n_fields)
{
  TxnRef ref = { 0 };
  if (n_fields != 3 || !ref_name_valid (field[2], NULL))
    return FALSE;
  ref.name = g_strdup ("HEAD");
  ref.old_head = g_strdup (strcmp (field[1], "-") == 0 ? "" : field[1]);
  ref.new_head = g_strdup (field[2]);
  ref.lock_held = TRUE;
  ref.route = ROUTE_LOOSE;
  g_array_append_val (refs, ref);
  return TRUE;
}

static gboolean
read_intent_line (RefJournal *journal, GArray *refs, const char *line)
{
  g_auto (GStrv) field = g_strsplit (line, " ", 0);
  guint n = g_strv_length (field);
  if (n >= 1 && strcmp (field[0], "ref") == 0)
    return read_ref (refs, field, n);
  if (n >= 1 && strcmp (field[0], "head") == 0)
    return read_head (refs, field, n);
  if (n != 2)
    return FALSE;
  if (strcmp (field[0], "quarantine") == 0)
    journal->quarantine = strcmp (field[1], "-") == 0 ? NULL : g_strdup (field[1]);
  else if (strcmp (field[0], "packed") == 0)
    journal->packed_lock = strcmp (field[1], "1") == 0;
  else if (strcmp (field[0], "format") != 0)
    return FALSE;
  return TRUE;
}

static void
read_appended (RefJournal *journal, char *text, gsize at, gsize len)
{
  journal->valid_len = at;
  while (at < len)
    {
      char sum[65];
      char *end = memchr (text + at, '\n', len - at), *space;
      if (end == NULL)
        return;
      *end = '\0';
      space = strrchr (text + at, ' ');
      if (space == NULL)
        return;
      *space = '\0';
      line_sum (journal->sum, text + at, sum);
      if (strcmp (sum, space + 1) != 0)
        return;
      if (g_str_has_prefix (text + at, "vote ") && strlen (text + at) == 69 && gs_unhex (text + at + 5, 32, journal->vote))
        journal->voted = TRUE;
      else if (g_str_has_prefix (text + at, "commit "))
        {
          journal->committed = TRUE;
          journal->generation = g_ascii_strtoull (text + at + 7, NULL, 10);
        }
      at = (gsize) (end - text) + 1;
      journal->valid_len = at;
    }
}

/** The end of the intent in @text: the offset after its "sum" line, 0 when there is none that is whole. */
static gsize
find_sum (const char *text, gsize len, gsize *ret_sum_line)
{
  const char *line;
  gsize size = strlen ("sum ") + 64 + 1;
  if (len < strlen (MAGIC) || memcmp (text, MAGIC, strlen (MAGIC)) != 0)
    return 0;
  /* No line before it can begin so. */
  line = g_strstr_len (text, (gssize) len, "\nsum ");
  if (line == NULL)
    return 0;
  line++;
  if ((gsize) (text + len - line) < size || line[size - 1] != '\n')
    return 0;
  *ret_sum_line = (gsize) (line - text);
  return *ret_sum_line + size;
}

static RefJournal *
read_text (const char *path, char *text, gsize len, gboolean *ret_torn, GError **error)
{
  g_autoptr (RefJournal) journal = g_new0 (RefJournal, 1);
  g_autoptr (GArray) refs = g_array_new (FALSE, FALSE, sizeof (TxnRef));
  gsize sum_at, end = find_sum (text, len, &sum_at);
  g_autofree char *sum = end ? g_compute_checksum_for_data (G_CHECKSUM_SHA256, (const guchar *) text, sum_at) : NULL;
  gboolean ok = TRUE;
  if (end == 0 || strncmp (text + sum_at + 4, sum, 64) != 0)
    {
      if (end != 0 && end < len)
        gs_fail (error, GS_ERROR_DATA_LOSS,
                 "journal record %s is damaged, and votes stand behind it: look at it by hand before removing it", path);
      else
        *ret_torn = TRUE;
      return NULL;
    }
  g_strlcpy (journal->sum, sum, sizeof journal->sum);
  for (gsize at = strlen (MAGIC); ok && at < sum_at;)
    {
      char *newline = memchr (text + at, '\n', sum_at - at);
      *newline = '\0';
      ok = read_intent_line (journal, refs, text + at);
      at = (gsize) (newline - text) + 1;
    }
  journal->n = refs->len;
  journal->refs = (TxnRef *) (void *) g_array_free (g_steal_pointer (&refs), FALSE);
  if (!ok)
    {
      gs_fail (error, GS_ERROR_DATA_LOSS, "journal record %s has a line that this version does not know", path);
      return NULL;
    }
  read_appended (journal, text, end, len);
  return g_steal_pointer (&journal);
}

RefJournal *
ref_journal_read (RefStore *store, const char *path, gboolean *ret_torn, GError **error)
{
  g_autofree char *text = NULL;
  GError *failed = NULL;
  RefJournal *journal;
  gsize len;
  const char *base = strrchr (path, '/') + 1;
  GsTxId txid;
  *ret_torn = FALSE;
  if (strlen (base) != 2 * GS_TXID_SIZE || !gs_unhex (base, GS_TXID_SIZE, txid.bytes))
    {
      *ret_torn = TRUE;
      return NULL;
    }
  text = fsu_read (store->dirfd, path, REF_JOURNAL_MAX, &len, &failed);
  if (text == NULL)
    {
      if (g_error_matches (failed, GS_ERROR, GS_ERROR_NOT_FOUND))
        g_clear_error (&failed);
      else
        g_propagate_error (error, failed);
      return NULL;
    }
  journal = read_text (path, text, len, ret_torn, error);
  if (journal != NULL)
    journal->txid = txid;
  return journal;
}

static gint
compare_paths (gconstpointer a, gconstpointer b)
{
  return strcmp (*(char *const *) a, *(char *const *) b);
}

GPtrArray *
ref_journal_list (RefStore *store, GError **error)
{
  g_autoptr (GPtrArray) paths = g_ptr_array_new_with_free_func (g_free);
  struct dirent *entry;
  DIR *dir;
  int fd = openat (store->dirfd, REF_JOURNAL_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT)
    return g_steal_pointer (&paths);
  dir = fd < 0 ? NULL : fdopendir (fd);
  if (dir == NULL)
    {
      fsu_fail (error, errno, "listing the journal of %s", store->dir);
      if (fd >= 0)
        close (fd);
      return NULL;
    }
  while ((errno = 0, entry = readdir (dir)) != NULL)
    if (entry->d_name[0] != '.')
      g_ptr_array_add (paths, g_strconcat (REF_JOURNAL_DIR "/", entry->d_name, NULL));
  if (errno != 0)
    {
      fsu_fail (error, errno, "listing the journal of %s", store->dir);
      closedir (dir);
      return NULL;
    }
  closedir (dir);
  g_ptr_array_sort (paths, compare_paths);
  return g_steal_pointer (&paths);
}

static gboolean
hold_names (RefStore *store, GError **error)
{
  g_autoptr (GPtrArray) paths = ref_journal_list (store, error);
  if (paths == NULL)
    return FALSE;
  for (guint i = 0; i < paths->len; i++)
    {
      RefWait none = { .until_us = 0 };
      gboolean torn;
      GError *failed = NULL;
      g_autoptr (RefJournal) journal = ref_journal_read (store, paths->pdata[i], &torn, &failed);
      if (failed != NULL)
        {
          g_propagate_error (error, failed);
          return FALSE;
        }
      for (gsize k = 0; journal != NULL && k < journal->n; k++)
        ref_name_take (store, journal->refs[k].name, store, &none);
    }
  return TRUE;
}

gboolean
ref_journal_hold (RefStore *store, GError **error)
{
  gboolean ok;
  gs_mutex_lock (&store->lock);
  while (store->journal_state == JOURNAL_READING)
    gs_cond_wait (&store->changed, &store->lock);
  ok = store->journal_state == JOURNAL_KNOWN;
  if (!ok)
    store->journal_state = JOURNAL_READING;
  gs_mutex_unlock (&store->lock);
  if (ok)
    return TRUE;
  ok = hold_names (store, error);
  gs_mutex_lock (&store->lock);
  store->journal_state = ok ? JOURNAL_KNOWN : JOURNAL_UNKNOWN;
  gs_cond_broadcast (&store->changed);
  gs_mutex_unlock (&store->lock);
  return ok;
}
