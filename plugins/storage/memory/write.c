/* SPDX-License-Identifier: Apache-2.0 */
/* Staging, voting, and applying or dropping of writes. */
#include "memory.h"

#define PACK_HEADER 12

/* -------------------------------------------------------------------------------------------- verdicts */

/* A request being judged, in order of name. */
typedef struct
{
  const GsRefUpdate *update;
  GsRefVerdict *verdict;
  GsOid old; /* the true old value; len 0 for HEAD */
} Judged;

static void G_GNUC_PRINTF (3, 4) refuse (Judged *judged, GsErrorCode code, const char *format, ...)
{
  va_list args;
  if (judged->verdict->code != GS_OK)
    return;
  judged->verdict->code = code;
  va_start (args, format);
  judged->verdict->reason = g_strdup_vprintf (format, args);
  va_end (args);
}

static gboolean
is_head (const Judged *judged)
{
  return g_strcmp0 (judged->update->name, "HEAD") == 0;
}

static int
by_name (gconstpointer a, gconstpointer b)
{
  return g_strcmp0 (((const Judged *) a)->update->name, ((const Judged *) b)->update->name);
}

static void
judge_form (Replica *replica, Judged *judged, gboolean own_refs)
{
  const GsRefUpdate *update = judged->update;
  const char *fault;
  if (is_head (judged))
    {
      if (update->new_symref == NULL || update->new_oid.len != 0)
        refuse (judged, GS_ERROR_INVALID_ARGUMENT, "HEAD can only be pointed at a branch");
      else if (!g_str_has_prefix (update->new_symref, "refs/heads/") || memory_name_fault (update->new_symref) != NULL)
        refuse (judged, GS_ERROR_INVALID_ARGUMENT, "refusing to point HEAD outside of refs/heads/");
      return;
    }
  fault = memory_name_fault (update->name);
  if (fault != NULL)
    refuse (judged, GS_ERROR_INVALID_ARGUMENT, "funny refname: %s", fault);
  else if (!own_refs && g_str_has_prefix (update->name, MEMORY_OWN_REFS))
    refuse (judged, GS_ERROR_PERMISSION_DENIED, "deny updating a hidden ref");
  else if (update->new_symref != NULL)
    refuse (judged, GS_ERROR_INVALID_ARGUMENT, "only HEAD may be symbolic");
  else if (update->new_oid.len != replica->format
           || (update->old_oid.len != 0 && update->old_oid.len != replica->format))
    refuse (judged, GS_ERROR_INVALID_ARGUMENT, "object id of the wrong length for this repository");
}

static void
judge_old_value (Replica *replica, Judged *judged)
{
  const GsRefUpdate *update = judged->update;
  const GsOid *present;
  if (is_head (judged) || judged->verdict->code != GS_OK)
    return;
  present = g_tree_lookup (replica->refs, update->name);
  if (present != NULL)
    judged->old = *present;
  else
    judged->old.len = (guint8) replica->format;
  if (update->old_oid.len == 0)
    return;
  if (gs_oid_is_zero (&update->old_oid) && present != NULL)
    refuse (judged, GS_ERROR_FAILED_PRECONDITION, "reference already exists");
  else if (!gs_oid_is_zero (&update->old_oid) && present == NULL)
    refuse (judged, GS_ERROR_FAILED_PRECONDITION, "stale info: the reference does not exist");
  else if (!gs_oid_equal (&update->old_oid, &judged->old))
    refuse (judged, GS_ERROR_FAILED_PRECONDITION, "stale info: the reference has moved");
}

static void
judge_locks (Replica *replica, Judged *judged)
{
  if (judged->verdict->code != GS_OK)
    return;
  if (g_tree_lookup (replica->claims, judged->update->name) != NULL
      || memory_name_in_the_way (replica->claims, judged->update->name, NULL) != NULL)
    refuse (judged, GS_ERROR_ABORTED,
            "cannot lock ref: another write to it, or to one above or below it, is under way");
}

/* A new ref cannot stand above or below one that stays or is made; in the order of names the upper one comes first. */
static void
judge_names (Replica *replica, GArray *all)
{
  g_autoptr (GHashTable) deleted = g_hash_table_new (g_str_hash, g_str_equal);
  g_autoptr (GTree) made = g_tree_new_full (memory_by_name, NULL, NULL, NULL);
  for (guint i = 0; i < all->len; i++)
    {
      Judged *judged = &g_array_index (all, Judged, i);
      if (judged->verdict->code == GS_OK && !is_head (judged) && gs_oid_is_zero (&judged->update->new_oid))
        g_hash_table_add (deleted, (gpointer) judged->update->name);
    }
  for (guint i = 0; i < all->len; i++)
    {
      Judged *judged = &g_array_index (all, Judged, i);
      const char *other;
      if (judged->verdict->code != GS_OK || is_head (judged) || gs_oid_is_zero (&judged->update->new_oid))
        continue;
      other = memory_name_in_the_way (replica->refs, judged->update->name, deleted);
      if (other != NULL)
        refuse (judged, GS_ERROR_FAILED_PRECONDITION, "“%s” exists; cannot create “%s”", other, judged->update->name);
      other = memory_name_in_the_way (made, judged->update->name, NULL);
      if (other != NULL)
        refuse (judged, GS_ERROR_FAILED_PRECONDITION, "cannot process “%s” and “%s” at the same time", other,
                judged->update->name);
      if (judged->verdict->code == GS_OK)
        g_tree_insert (made, (gpointer) judged->update->name, judged);
    }
}

static void
judge_all (Replica *replica, GArray *all, gboolean atomic, gboolean own_refs)
{
  gboolean refused = FALSE;
  for (guint i = 0; i < all->len; i++)
    {
      Judged *judged = &g_array_index (all, Judged, i);
      judge_form (replica, judged, own_refs);
      if (i > 0 && by_name (judged, judged - 1) == 0)
        {
          refuse (judged, GS_ERROR_INVALID_ARGUMENT, "multiple updates for ref not allowed");
          refuse (judged - 1, GS_ERROR_INVALID_ARGUMENT, "multiple updates for ref not allowed");
        }
      judge_locks (replica, judged);
      judge_old_value (replica, judged);
    }
  judge_names (replica, all);
  for (guint i = 0; i < all->len; i++)
    refused = refused || g_array_index (all, Judged, i).verdict->code != GS_OK;
  for (guint i = 0; atomic && refused && i < all->len; i++)
    refuse (&g_array_index (all, Judged, i), GS_ERROR_ABORTED, "atomic transaction failed");
}

/* ------------------------------------------------------------------------------------------------ vote */

static const char *
own_text (Txn *txn, const char *text)
{
  char *copy = g_strdup (text);
  if (copy != NULL)
    g_ptr_array_add (txn->texts, copy);
  return copy;
}

static void
count_terms (Txn *txn, const GsRefUpdate *update)
{
  GsDigest term;
  if (update->new_symref != NULL)
    {
      memory_term ("HEAD", NULL, txn->replica->head, &term);
      gs_digest_add (&txn->vote.refs_minus, &term);
      memory_term ("HEAD", NULL, update->new_symref, &term);
      gs_digest_add (&txn->vote.refs_plus, &term);
      return;
    }
  if (!gs_oid_is_zero (&update->old_oid))
    {
      memory_term (update->name, &update->old_oid, NULL, &term);
      gs_digest_add (&txn->vote.refs_minus, &term);
    }
  if (!gs_oid_is_zero (&update->new_oid))
    {
      memory_term (update->name, &update->new_oid, NULL, &term);
      gs_digest_add (&txn->vote.refs_plus, &term);
    }
}

static void
vote_digest (Txn *txn, const guint8 *trailer, gsize trailer_len)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  g_autoptr (GString) text = g_string_new (NULL);
  gsize len = sizeof txn->vote.digest;
  guint8 head[9] = { 1 };
  for (int i = 0; i < 8; i++)
    head[1 + i] = (guint8) (txn->replica->id >> (56 - 8 * i));
  g_checksum_update (sum, head, sizeof head);
  for (guint i = 0; i < txn->updates->len; i++)
    {
      const GsRefUpdate *update = &g_array_index (txn->updates, GsRefUpdate, i);
      char old_hex[GS_OID_HEX_MAX + 1], new_hex[GS_OID_HEX_MAX + 1];
      gs_oid_hex (&update->old_oid, old_hex);
      gs_oid_hex (&update->new_oid, new_hex);
      if (update->new_symref != NULL)
        g_string_append_printf (text, "ref: %s HEAD\n", update->new_symref);
      else
        g_string_append_printf (text, "%s %s %s\n", old_hex, new_hex, update->name);
    }
  g_checksum_update (sum, (const guchar *) text->str, (gssize) text->len);
  if (trailer_len > 0)
    g_checksum_update (sum, trailer, (gssize) trailer_len);
  g_checksum_get_digest (sum, txn->vote.digest, &len);
}

/* Takes what was accepted into the transaction and locks it. */
static void
accept_all (Txn *txn, GArray *all)
{
  for (guint i = 0; i < all->len; i++)
    {
      const Judged *judged = &g_array_index (all, Judged, i);
      GsRefUpdate update = *judged->update;
      if (judged->verdict->code != GS_OK)
        continue;
      update.name = own_text (txn, judged->update->name);
      update.new_symref = own_text (txn, judged->update->new_symref);
      update.old_oid = judged->old;
      g_array_append_val (txn->updates, update);
      g_tree_insert (txn->replica->claims, (gpointer) update.name, txn);
      count_terms (txn, &update);
    }
}

/* ----------------------------------------------------------------------------------------------- stage */

/* A pack is whole when its last bytes are the checksum of the others. */
static gboolean
check_pack (const Replica *replica, GBytes *pack, const guint8 **ret_trailer, gsize *ret_len, GError **error)
{
  gsize n_bytes, n_hash = replica->format, len = n_hash;
  const guint8 *bytes = g_bytes_get_data (pack, &n_bytes);
  guint8 digest[32];
  g_autoptr (GChecksum) sum = g_checksum_new (replica->format == GS_FORMAT_SHA1 ? G_CHECKSUM_SHA1 : G_CHECKSUM_SHA256);
  if (n_bytes < PACK_HEADER + n_hash || memcmp (bytes, "PACK\0\0\0\2", 8) != 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the pack for repository %" G_GUINT64_FORMAT " is not a pack",
                    replica->id);
  g_checksum_update (sum, bytes, (gssize) (n_bytes - n_hash));
  g_checksum_get_digest (sum, digest, &len);
  if (memcmp (digest, bytes + n_bytes - n_hash, n_hash) != 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "the pack for repository %" G_GUINT64_FORMAT " is cut short or damaged: its checksum is wrong",
                    replica->id);
  *ret_trailer = bytes + n_bytes - n_hash;
  *ret_len = n_hash;
  return TRUE;
}

static void
verdict_clear (gpointer verdict)
{
  g_free (((GsRefVerdict *) verdict)->reason);
}

static Txn *
txn_new (Replica *replica, const GsChangeSet *change)
{
  Txn *txn = g_new0 (Txn, 1);
  replica->n_refs++;
  txn->replica = replica;
  txn->txid = change->txid;
  txn->texts = g_ptr_array_new_with_free_func (g_free);
  txn->updates = g_array_new (FALSE, TRUE, sizeof (GsRefUpdate));
  txn->verdicts = g_array_new (FALSE, TRUE, sizeof (GsRefVerdict));
  g_array_set_clear_func (txn->verdicts, verdict_clear);
  g_array_set_size (txn->verdicts, (guint) change->n_updates);
  txn->vote.size = sizeof txn->vote;
  g_hash_table_insert (replica->open, &txn->txid, txn);
  return txn;
}

void
txn_drop (Txn *txn)
{
  Replica *replica = txn->replica;
  for (guint i = 0; i < txn->updates->len; i++)
    g_tree_remove (replica->claims, g_array_index (txn->updates, GsRefUpdate, i).name);
  g_hash_table_remove (replica->open, &txn->txid);
  g_ptr_array_unref (txn->texts);
  g_array_unref (txn->updates);
  g_array_unref (txn->verdicts);
  g_free (txn);
  replica_unref (replica);
}

gboolean
memory_stage (gpointer data, GsCall *call, const GsRepo *repo, const GsChangeSet *change, gpointer *ret_txn,
              const GsVote **ret_vote, GError **error)
{
  Memory *self = data;
  g_autoptr (GArray) all = g_array_sized_new (FALSE, TRUE, sizeof (Judged), (guint) change->n_updates);
  const guint8 *trailer = NULL;
  gsize trailer_len = 0;
  Replica *replica;
  Txn *txn;
  if (!gs_call_check (call, "staging a write", error))
    return FALSE;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  replica = memory_find (self, repo, error);
  if (replica == NULL || (change->pack != NULL && !check_pack (replica, change->pack, &trailer, &trailer_len, error)))
    return FALSE;
  if (g_hash_table_contains (replica->open, &change->txid))
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS,
                    "staging a write to repository %" G_GUINT64_FORMAT ": it is staged already", repo->id);
  txn = txn_new (replica, change);
  txn->pack_bytes = change->pack != NULL ? g_bytes_get_size (change->pack) : 0;
  for (gsize i = 0; i < change->n_updates; i++)
    {
      Judged judged = { &change->updates[i], &g_array_index (txn->verdicts, GsRefVerdict, i), { 0 } };
      g_array_append_val (all, judged);
    }
  g_array_sort (all, by_name);
  judge_all (replica, all, change->atomic, change->own_refs);
  accept_all (txn, all);
  vote_digest (txn, trailer, trailer_len);
  txn->vote.updates = (const GsRefUpdate *) txn->updates->data;
  txn->vote.n_updates = txn->updates->len;
  txn->vote.verdicts = (const GsRefVerdict *) txn->verdicts->data;
  txn->vote.n_verdicts = txn->verdicts->len;
  *ret_txn = txn;
  *ret_vote = &txn->vote;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------------ fate */

/* Disjoint writes are applied in any order: the generation is how far they are without a gap. */
static void
reach_generation (Replica *replica, guint64 generation)
{
  guint64 next;
  if (generation > replica->generation)
    g_tree_replace (replica->ahead, g_memdup2 (&generation, sizeof generation), replica);
  while (next = replica->generation + 1, g_tree_remove (replica->ahead, &next))
    replica->generation = next;
}

static void
apply (Txn *txn, guint64 generation)
{
  Replica *replica = txn->replica;
  for (guint i = 0; i < txn->updates->len; i++)
    {
      const GsRefUpdate *update = &g_array_index (txn->updates, GsRefUpdate, i);
      if (update->new_symref != NULL)
        {
          g_free (replica->head);
          replica->head = g_strdup (update->new_symref);
        }
      else if (gs_oid_is_zero (&update->new_oid))
        g_tree_remove (replica->refs, update->name);
      else
        g_tree_replace (replica->refs, g_strdup (update->name), g_memdup2 (&update->new_oid, sizeof update->new_oid));
    }
  gs_digest_add (&replica->digest, &txn->vote.refs_plus);
  gs_digest_sub (&replica->digest, &txn->vote.refs_minus);
  replica->n_packs += txn->pack_bytes > 0;
  replica->pack_bytes += txn->pack_bytes;
  reach_generation (replica, generation);
}

gboolean
memory_commit (gpointer data, GsCall *call, gpointer user, const GsDecision *decision, GError **error)
{
  Memory *self = data;
  Txn *txn = user;
  gboolean removed;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  removed = txn->replica->removed;
  if (removed)
    gs_fail (error, GS_ERROR_NOT_FOUND, "applying a write: the replica at %s was removed meanwhile",
             txn->replica->path);
  else if (txn->updates->len > 0)
    apply (txn, decision->generation);
  txn_drop (txn);
  return !removed;
}

void
memory_abort (gpointer data, GsCall *call, gpointer txn, const GError *why)
{
  Memory *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  txn_drop (txn);
}

/* ------------------------------------------------------------------------------------------- recovery */

typedef struct
{
  GsPending pending;
  char *path;
} Found;

static void
found_clear (gpointer found)
{
  g_free (((Found *) found)->path);
}

gboolean
memory_pending (gpointer data, GsCall *call, GsPendingVisit visit, gpointer user, GError **error)
{
  Memory *self = data;
  g_autoptr (GArray) all = g_array_new (FALSE, TRUE, sizeof (Found));
  GHashTableIter iter, txns;
  gpointer value, staged;
  g_array_set_clear_func (all, found_clear);
  gs_mutex_lock (&self->lock);
  g_hash_table_iter_init (&iter, self->replicas);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Replica *replica = value;
      g_hash_table_iter_init (&txns, replica->open);
      while (g_hash_table_iter_next (&txns, NULL, &staged))
        {
          Txn *txn = staged;
          Found found = { .path = g_strdup (replica->path) };
          found.pending = (GsPending){ .size = sizeof found.pending, .txid = txn->txid };
          found.pending.repo = (GsRepo){ sizeof (GsRepo), replica->id, found.path };
          memcpy (found.pending.vote, txn->vote.digest, sizeof found.pending.vote);
          g_array_append_val (all, found);
        }
    }
  gs_mutex_unlock (&self->lock);
  for (guint i = 0; i < all->len; i++)
    if (!visit (&g_array_index (all, Found, i).pending, user))
      break;
  return TRUE;
}

gboolean
memory_resolve (gpointer data, GsCall *call, const GsRepo *repo, const GsTxId *txid, const GsDecision *decision,
                GError **error)
{
  Memory *self = data;
  Replica *replica;
  Txn *txn;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  replica = memory_find (self, repo, error);
  if (replica == NULL)
    return FALSE;
  txn = g_hash_table_lookup (replica->open, txid);
  if (txn == NULL)
    return TRUE; /* applied or dropped before, or never staged here */
  if (decision != NULL && txn->updates->len > 0)
    apply (txn, decision->generation);
  txn_drop (txn);
  return TRUE;
}
