/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the Ref service on one replica. */
#include "gitstead/v1/ref.pb-c.h"
#include "node/names.h"

#include <wire/details.h>

#define PREFIXES_MAX 1000 /* as between nodes */

/* A ref as a message that owns its texts. */
static Gitstead__V1__Ref *
ref_message (const GsRef *ref)
{
  Gitstead__V1__Ref *message = g_new (Gitstead__V1__Ref, 1);
  gitstead__v1__ref__init (message);
  message->name = gsi_name_bytes (g_strdup (ref->name));
  message->oid = gsi_name_oid_hex (&ref->oid);
  message->peeled = gsi_name_oid_hex (&ref->peeled);
  message->symref_target = gsi_name_bytes (g_strdup (ref->symref_target));
  return message;
}

static void
ref_message_free (gpointer data)
{
  Gitstead__V1__Ref *message = data;
  g_free (message->name.data);
  g_free (message->oid);
  g_free (message->peeled);
  g_free (message->symref_target.data);
  g_free (message);
}

typedef struct
{
  GPtrArray *refs; /* of Ref messages */
  gsize limit, bytes;
  gboolean more;
} Listing;

static gboolean
listing_visit (const GsRef *ref, gpointer user)
{
  Listing *listing = user;
  if (listing->refs->len >= listing->limit || listing->bytes >= GSI_PAGE_BYTES)
    {
      listing->more = TRUE;
      return FALSE;
    }
  listing->bytes += strlen (ref->name) + 120;
  g_ptr_array_add (listing->refs, ref_message (ref));
  return TRUE;
}

/* Prefixes as the storage takes them: *full*, NULL-terminated. */
static char **
ref_prefixes (const Gitstead__V1__RefListRequest *request, GError **error)
{
  g_auto (GStrv) prefixes = NULL;
  if (request->n_prefixes > PREFIXES_MAX)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "prefixes: there are %" G_GSIZE_FORMAT "; at most %d are taken",
               request->n_prefixes, PREFIXES_MAX);
      return NULL;
    }
  prefixes = g_new0 (char *, request->n_prefixes + 1);
  for (gsize i = 0; i < request->n_prefixes; i++)
    {
      prefixes[i] = gsi_name_text (&request->prefixes[i], "prefixes", error);
      if (prefixes[i] == NULL)
        return NULL;
    }
  return g_steal_pointer (&prefixes);
}

gboolean
gsi_node_ref_list (const GsiReplica *replica, GsiCall *call, GError **error)
{
  const Gitstead__V1__RefListRequest *request = (const void *) call->request;
  const GsStorageOps *ops = replica->storage->ops;
  g_autoptr (GPtrArray) refs = g_ptr_array_new_with_free_func (ref_message_free);
  Listing listing = { refs, 0, 0, FALSE };
  GsReplicaState before = { sizeof before }, after_state = { sizeof after_state };
  Gitstead__V1__RefListReply reply = GITSTEAD__V1__REF_LIST_REPLY__INIT;
  GsRefQuery query = { sizeof query };
  g_autofree char *after = NULL;
  g_auto (GStrv) prefixes = ref_prefixes (request, error);

  if (prefixes == NULL || !gsi_page_begin (call, replica->repo.id, request->page, &listing.limit, &after, error))
    return FALSE;
  query.prefixes = (const char *const *) prefixes;
  query.after = after;
  query.limit = listing.limit + 1; /* one more tells whether there is another page */
  query.include_head = request->head;
  if (!ops->state (replica->storage->self, &call->base, &replica->repo, &before, error)
      || !ops->list_refs (replica->storage->self, &call->base, &replica->repo, &query, listing_visit, &listing, error)
      || !ops->state (replica->storage->self, &call->base, &replica->repo, &after_state, error))
    return FALSE;

  reply.refs = (Gitstead__V1__Ref **) refs->pdata;
  reply.n_refs = refs->len;
  if (memcmp (&before.refs_digest, &after_state.refs_digest, sizeof before.refs_digest) == 0)
    {
      reply.refs_digest.data = before.refs_digest.bytes;
      reply.refs_digest.len = sizeof before.refs_digest.bytes;
    }
  if (listing.more)
    reply.next_page_token = gsi_page_token (call, replica->repo.id, (const char *) reply.refs[refs->len - 1]->name.data);
  gsi_call_reply (call, &reply.base);
  g_free (reply.next_page_token.data);
  return TRUE;
}

static gboolean
find_visit (const GsRef *ref, gpointer user)
{
  *(Gitstead__V1__Ref **) user = ref_message (ref);
  return FALSE;
}

gboolean
gsi_node_ref_find (const GsiReplica *replica, GsiCall *call, GError **error)
{
  const Gitstead__V1__RefFindRequest *request = (const void *) call->request;
  Gitstead__V1__RefFindReply reply = GITSTEAD__V1__REF_FIND_REPLY__INIT;
  g_autofree char *name = gsi_name_text (&request->name, "name", error);
  if (name == NULL)
    return FALSE;
  if (!replica->storage->ops->find_ref (replica->storage->self, &call->base, &replica->repo, name, find_visit,
                                        &reply.ref, error))
    return FALSE;
  gsi_call_reply (call, &reply.base);
  ref_message_free (reply.ref);
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- writing */

/* Values that are looked up to tell what a refused update found: one round trip each, so not for thousands. */
#define LOOKED_UP_MAX 16

static gboolean
value_visit (const GsRef *ref, gpointer user)
{
  gs_oid_hex (&ref->oid, user);
  return FALSE;
}

/* The ref's value as it is now: what the update found, unless it has moved since. FALSE: not known. */
static gboolean
look_up (const GsiReplica *replica, GsiCall *call, const GsRefUpdate *update, char ret_hex[GS_OID_HEX_MAX + 1])
{
  const GsStorageOps *ops = replica->storage->ops;
  g_autoptr (GError) why = NULL;
  ret_hex[0] = '\0';
  if (ops->find_ref (replica->storage->self, &call->base, &replica->repo, update->name, value_visit, ret_hex, &why))
    return ret_hex[0] != '\0';
  if (gs_error_code (why) != GS_ERROR_NOT_FOUND)
    return FALSE;
  memset (ret_hex, '0', 2 * (gsize) update->old_oid.len); /* as long as what it was to be */
  ret_hex[2 * (gsize) update->old_oid.len] = '\0';
  return TRUE;
}

/* An entry for each refused update, behind the message that tells of the first. */
static void
add_refused (const GsiReplica *replica, GsiCall *call, const GsChangeSet *change, GPtrArray *reasons, const GsErrorCode *codes,
             GError **error)
{
  guint looked_up = 0;
  for (gsize i = 0; i < MIN (change->n_updates, reasons->len); i++)
    {
      const GsRefUpdate *update = &change->updates[i];
      Gitstead__V1__ErrorDetail entry = GITSTEAD__V1__ERROR_DETAIL__INIT;
      g_autofree char *field = g_strdup_printf ("updates[%" G_GSIZE_FORMAT "]", i);
      char expected[GS_OID_HEX_MAX + 1], actual[GS_OID_HEX_MAX + 1];
      if (codes[i] == GS_OK)
        continue;
      entry.status = (guint32) codes[i];
      entry.field = call->method->request == &gitstead__v1__ref_update_request__descriptor ? field : (char *) "";
      entry.type = (char *) "ref";
      entry.name = gsi_name_bytes (update->name);
      entry.reason = reasons->pdata[i];
      if (update->old_oid.len != 0)
        {
          gs_oid_hex (&update->old_oid, expected);
          entry.expected = expected;
          if (codes[i] == GS_ERROR_FAILED_PRECONDITION && looked_up++ < LOOKED_UP_MAX && look_up (replica, call, update, actual))
            entry.actual = actual;
        }
      gs_detail_add (error, &entry);
    }
}

/* git's words for an update that is fine and fails because another one of the same set does. */
#define NOT_ITS_FAULT "atomic transaction failed"

static gboolean
is_refused (const GsRefVerdict *verdict)
{
  return verdict->code != GS_OK && (verdict->code != GS_ERROR_ABORTED || g_strcmp0 (verdict->reason, NOT_ITS_FAULT) != 0);
}

/*
 * The error of the first update that was refused for a reason of its own, or of the first that failed at all; NULL when none
 * did. Which others were refused goes to @codes and @reasons.
 */
static GError *
find_refused (const GsiReplica *replica, const GsChangeSet *change, const GsVote *vote, GsErrorCode *codes, GPtrArray *reasons)
{
  const GsRefVerdict *first = NULL;
  gboolean own = FALSE;
  for (gsize i = 0; i < vote->n_verdicts; i++)
    {
      const GsRefVerdict *verdict = &vote->verdicts[i];
      gboolean refused = is_refused (verdict);
      if ((first == NULL && verdict->code != GS_OK) || (refused && !own))
        first = verdict;
      own = own || refused;
      codes[i] = refused ? verdict->code : GS_OK;
      g_ptr_array_add (reasons, g_strdup (verdict->reason != NULL ? verdict->reason : ""));
    }
  return first == NULL ? NULL
                       : g_error_new (GS_ERROR, first->code, "cannot update '%s' of repository '%s': %s",
                                      change->updates[first - vote->verdicts].name, replica->path,
                                      first->reason != NULL ? first->reason : gs_error_name (first->code));
}

/* A refused update becomes the error, with its name and reason. */
gboolean
gsi_node_change_stage (const GsiReplica *replica, GsiCall *call, const GsChangeSet *change, gpointer *ret_txn,
                       const GsVote **ret_vote, GError **error)
{
  const GsStorageOps *ops = replica->storage->ops;
  g_autofree GsErrorCode *codes = NULL;
  g_autoptr (GPtrArray) reasons = g_ptr_array_new_with_free_func (g_free);
  GsChangeSet asked = *change;
  const GsVote *vote;
  GError *why;
  gpointer txn;

  asked.run_hooks = replica->asks_hooks;
  if (!ops->stage (replica->storage->self, &call->base, &replica->repo, &asked, &txn, &vote, error))
    return FALSE;
  codes = g_new0 (GsErrorCode, MAX (vote->n_verdicts, change->n_updates) + 1);
  why = find_refused (replica, change, vote, codes, reasons);
  if (why == NULL)
    {
      *ret_txn = txn;
      *ret_vote = vote;
      return TRUE;
    }
  ops->abort (replica->storage->self, &call->base, txn, NULL);
  add_refused (replica, call, change, reasons, codes, &why);
  g_propagate_error (error, why);
  return FALSE;
}

static gboolean
stage_updates (const GsiReplica *replica, GsiCall *call, const GsTxId *txid, const GsRefUpdate *updates, gsize n,
               gpointer *ret_txn, const GsVote **ret_vote, GError **error)
{
  GsChangeSet change = { sizeof change, *txid, updates, n, TRUE, NULL };
  return gsi_node_change_stage (replica, call, &change, ret_txn, ret_vote, error);
}

static void
update_clear (gpointer data)
{
  g_free ((char *) ((GsRefUpdate *) data)->name);
}

/* The fields are named from the update on. */
static gboolean
take_update (const Gitstead__V1__RefUpdate *wanted, GsRefUpdate *ret_update, GError **error)
{
  ret_update->name = gsi_name_text (&wanted->name, "name", error);
  if (ret_update->name == NULL || !gsi_name_oid (wanted->old_oid, TRUE, "old_oid", &ret_update->old_oid, error)
      || !gsi_name_oid (wanted->new_oid, FALSE, "new_oid", &ret_update->new_oid, error))
    return FALSE;
  return g_str_has_prefix (ret_update->name, "refs/")
         || gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "name: '%s' is not below refs/; HEAD is changed by SetDefaultBranch",
                     ret_update->name)
         || gs_detail_field (error, "name");
}

gboolean
gsi_node_ref_stage (const GsiReplica *replica, GsiCall *call, const GsTxId *txid, gpointer *ret_txn,
                    const GsVote **ret_vote, GError **error)
{
  const Gitstead__V1__RefUpdateRequest *request = (const void *) call->request;
  g_autoptr (GArray) updates = g_array_new (FALSE, TRUE, sizeof (GsRefUpdate));
  g_array_set_clear_func (updates, update_clear);

  if (request->n_updates == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "updates: must name at least one ref")
           || gs_detail_field (error, "updates");
  for (gsize i = 0; i < request->n_updates; i++)
    {
      GsRefUpdate update = { 0 };
      g_autoptr (GError) why = NULL;
      gboolean good = take_update (request->updates[i], &update, &why);
      if (good || update.name != NULL)
        g_array_append_val (updates, update);
      if (!good)
        {
          g_autofree char *field = g_strdup_printf ("updates[%" G_GSIZE_FORMAT "]", i);
          gs_detail_below (&why, field);
          g_propagate_prefixed_error (error, g_steal_pointer (&why), "%s.", field);
          return FALSE;
        }
    }
  return stage_updates (replica, call, txid, (const GsRefUpdate *) updates->data, updates->len, ret_txn, ret_vote,
                        error);
}

void
gsi_node_ref_reply (GsiCall *call, const GsiReceipt *receipt)
{
  Gitstead__V1__RefUpdateReply reply = GITSTEAD__V1__REF_UPDATE_REPLY__INIT;
  Gitstead__V1__Receipt message;
  if (receipt != NULL)
    {
      gsi_receipt_message (receipt, &message);
      reply.receipt = &message;
    }
  gsi_call_reply (call, &reply.base);
}

static gboolean
head_visit (const GsRef *ref, gpointer user)
{
  if (strcmp (ref->name, "HEAD") == 0)
    *(char **) user = g_strdup (ref->symref_target);
  return FALSE;
}

/* Does HEAD name @expected? To be asked of a replica that has staged a change of HEAD: it does not move until that ends. */
static gboolean
head_is (const GsiReplica *replica, GsiCall *call, const char *expected, GError **error)
{
  const GsRefQuery query = { .size = sizeof query, .limit = 1, .include_head = TRUE };
  g_autofree char *head = NULL;
  if (!replica->storage->ops->list_refs (replica->storage->self, &call->base, &replica->repo, &query, head_visit, &head,
                                         error))
    return FALSE;
  return g_strcmp0 (head, expected) == 0
         || gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "expected_old: the default branch of '%s' is %s, not %s",
                     replica->path, head != NULL ? head : "none", expected)
         || gs_detail_differs (error, "expected_old", "ref", "HEAD", expected, head);
}

gboolean
gsi_node_head_stage (const GsiReplica *replica, GsiCall *call, const GsTxId *txid, gpointer *ret_txn,
                     const GsVote **ret_vote, GError **error)
{
  const Gitstead__V1__RefSetDefaultBranchRequest *request = (const void *) call->request;
  g_autofree char *target = gsi_name_branch (&request->branch, "branch", error), *expected = NULL;
  GsRefUpdate update = { .name = "HEAD", .new_symref = target };
  if (target == NULL
      || (request->expected_old.len > 0
          && (expected = gsi_name_branch (&request->expected_old, "expected_old", error)) == NULL))
    return FALSE;
  if (!stage_updates (replica, call, txid, &update, 1, ret_txn, ret_vote, error))
    {
      if (error != NULL && gs_error_code (*error) == GS_ERROR_INVALID_ARGUMENT)
        g_prefix_error (error, "branch: ");
      return FALSE;
    }
  if (expected == NULL || head_is (replica, call, expected, error))
    return TRUE;
  replica->storage->ops->abort (replica->storage->self, &call->base, g_steal_pointer (ret_txn), NULL);
  return FALSE;
}

void
gsi_node_head_reply (GsiCall *call, const GsiReceipt *receipt)
{
  Gitstead__V1__RefSetDefaultBranchReply reply = GITSTEAD__V1__REF_SET_DEFAULT_BRANCH_REPLY__INIT;
  Gitstead__V1__Receipt message;
  if (receipt != NULL)
    {
      gsi_receipt_message (receipt, &message);
      reply.receipt = &message;
    }
  gsi_call_reply (call, &reply.base);
}
