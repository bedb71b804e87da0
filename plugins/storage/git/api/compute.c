/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of the Git API that write: from the request to a change set and an answer. */
#include "change.h"
#include "files.h"
#include "transfer.h"

#include <string.h>
#include <unistd.h>

typedef struct
{
  ApiRow row;
  gboolean (*run) (Change *change, const ProtobufCMessage *request, GError **error);
} Computer;

/* Each of them makes its reply in the same way. */
#define COMPUTER(number_, name_)                                                                                       \
  {                                                                                                                    \
    API_ROW (number_, NULL, change_##name_##_request, change_reply), change_##name_                                    \
  }

static const Computer computers[] = {
  COMPUTER (850, commit_files),
  COMPUTER (851, create_branch),
  COMPUTER (852, update_branch),
  COMPUTER (853, delete_branch),
  COMPUTER (854, create_tag),
  COMPUTER (855, delete_tag),
  COMPUTER (856, merge),
  COMPUTER (857, cherry_pick),
  COMPUTER (858, revert),
  COMPUTER (859, rebase),
  COMPUTER (860, apply_patch),
  { API_ROW (861, NULL, change_commit_files_request, change_reply), change_commit_files },
};

/* What a GsComputed of ours consists of. */
typedef struct
{
  GsComputed computed;
  GArray *updates;
  GPtrArray *texts;
} Computed;

/* ----------------------------------------------------------------------------------------- change */

static void
conflict_free (gpointer data)
{
  Conflict *conflict = data;
  g_free (conflict->path);
  g_free (conflict);
}

static void
special_free (gpointer data)
{
  Special *special = data;
  g_free (special->action);
  g_free (special);
}

static gboolean
change_open (Change *change, Storage *storage, GsCall *call, const GsRepo *repo, const GsQuery *query,
             const ApiRow *row, GError **error)
{
  ObjectHandle *handle;
  *change = (Change){ .storage = storage, .call = call, .input_fd = -1 };
  if (!api_open (&change->api, storage, call, repo, query, row, FALSE, error))
    return FALSE;
  change->repo = change->api.repo;
  change->conflicts = g_ptr_array_new_with_free_func (conflict_free);
  change->messages = g_ptr_array_new_with_free_func (g_free);
  change->special = g_ptr_array_new_with_free_func (special_free);
  change->commits = g_array_new (FALSE, FALSE, sizeof (GsOid));
  change->new_oid.len = GS_FORMAT_SHA1;
  if (change->repo->format != GS_FORMAT_SHA1)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "changes of repositories with SHA-256 ids are made by pushing");
  handle = api_odb (&change->api, error);
  if (handle == NULL)
    return FALSE;
  change->draft = draft_new (change->repo, handle, storage->max_change_bytes);
  return TRUE;
}

static void
change_close (Change *change)
{
  if (change->repo == NULL)
    return;
  if (change->input_fd >= 0)
    close (change->input_fd);
  if (change->scratch != NULL)
    quarantine_drop (change->repo, change->scratch);
  g_free (change->scratch);
  draft_free (change->draft);
  g_free (change->ref);
  g_free (change->author);
  g_free (change->committer);
  g_ptr_array_unref (change->conflicts);
  g_ptr_array_unref (change->messages);
  g_ptr_array_unref (change->special);
  g_array_unref (change->commits);
  api_close (&change->api);
}

/* ----------------------------------------------------------------------------------------- answer */

typedef struct
{
  Gitstead__V1__ChangeConflict message;
  Gitstead__V1__ChangeConflictSide side[3];
  char hex[3][GS_OID_HEX_MAX + 1];
} ConflictReply;

static void
fill_conflict (const Conflict *conflict, ConflictReply *reply)
{
  Gitstead__V1__ChangeConflictSide **const fields[]
      = { &reply->message.ancestor, &reply->message.ours, &reply->message.theirs };
  gitstead__v1__change_conflict__init (&reply->message);
  reply->message.path = (ProtobufCBinaryData){ strlen (conflict->path), (guint8 *) conflict->path };
  for (int i = 0; i < 3; i++)
    {
      gitstead__v1__change_conflict_side__init (&reply->side[i]);
      gs_oid_hex (&conflict->side[i].oid, reply->hex[i]);
      reply->side[i].oid = conflict->side[i].mode != 0 ? reply->hex[i] : (char *) "";
      reply->side[i].mode = conflict->side[i].mode;
      *fields[i] = &reply->side[i];
    }
}

static GBytes *
make_reply (const Change *change)
{
  Gitstead__V1__ChangeReply reply = GITSTEAD__V1__CHANGE_REPLY__INIT;
  gboolean conflict = change->outcome == GITSTEAD__V1__CHANGE_OUTCOME__CHANGE_CONFLICT;
  g_autofree ConflictReply *rows = g_new0 (ConflictReply, change->conflicts->len + 1);
  g_autoptr (GPtrArray) conflicts = g_ptr_array_new (), commits = g_ptr_array_new_with_free_func (g_free);
  g_autofree ProtobufCBinaryData *messages = g_new0 (ProtobufCBinaryData, change->messages->len + 1);
  char old_hex[GS_OID_HEX_MAX + 1], new_hex[GS_OID_HEX_MAX + 1], tree[GS_OID_HEX_MAX + 1], at[GS_OID_HEX_MAX + 1];

  for (guint i = 0; i < change->conflicts->len; i++)
    {
      fill_conflict (change->conflicts->pdata[i], &rows[i]);
      g_ptr_array_add (conflicts, &rows[i].message);
    }
  for (guint i = 0; i < change->messages->len; i++)
    messages[i] = (ProtobufCBinaryData){ strlen (change->messages->pdata[i]), change->messages->pdata[i] };
  for (guint i = 0; i < change->commits->len && !conflict; i++)
    {
      char *hex = g_malloc (GS_OID_HEX_MAX + 1);
      gs_oid_hex (&g_array_index (change->commits, GsOid, i), hex);
      g_ptr_array_add (commits, hex);
    }
  gs_oid_hex (&change->old_oid, old_hex);
  gs_oid_hex (&change->new_oid, new_hex);
  gs_oid_hex (&change->tree, tree);
  gs_oid_hex (&change->conflict_oid, at);
  reply.outcome = change->outcome;
  reply.ref = (ProtobufCBinaryData){ strlen (change->ref), (guint8 *) change->ref };
  reply.old_oid = old_hex;
  reply.new_oid = conflict ? (char *) "" : new_hex;
  reply.tree = conflict ? (char *) "" : tree;
  reply.conflict_oid = at;
  reply.conflicts = (Gitstead__V1__ChangeConflict **) conflicts->pdata;
  reply.n_conflicts = conflicts->len;
  reply.messages = messages;
  reply.n_messages = change->messages->len;
  reply.commits = (char **) commits->pdata;
  reply.n_commits = commits->len;
  return gs_wire_encode (&reply.base);
}

GsComputed *
computed_new (GArray *updates, GPtrArray *texts, GBytes *pack, GBytes *reply)
{
  Computed *computed = g_new0 (Computed, 1);
  computed->updates = updates;
  computed->texts = texts;
  computed->computed.size = sizeof (GsComputed);
  computed->computed.change.size = sizeof (GsChangeSet);
  computed->computed.change.updates = (const GsRefUpdate *) updates->data;
  computed->computed.change.n_updates = updates->len;
  computed->computed.change.atomic = TRUE;
  computed->computed.change.pack = pack;
  computed->computed.reply = reply;
  computed->computed.priv = computed;
  return &computed->computed;
}

/* The object that git names as wrong may be a file that an action brought. */
static gboolean
name_action (const Change *change, const GError *why, GError **error)
{
  for (guint i = 0; i < change->special->len; i++)
    {
      const Special *special = change->special->pdata[i];
      char hex[GS_OID_HEX_MAX + 1];
      gs_oid_hex (&special->oid, hex);
      if (strstr (why->message, hex) != NULL)
        {
          GError *named = g_error_copy (why);
          g_propagate_prefixed_error (error, named, "%s: ", special->action);
          return FALSE;
        }
    }
  g_propagate_error (error, g_error_copy (why));
  return FALSE;
}

/*
 * What the write will be asked: so that a dry run promises nothing that the write refuses, and a refused file is named by the
 * action that brought it.
 */
static gboolean
check_pack (Change *change, GBytes *pack, GError **error)
{
  g_autofree char *name = NULL, *objects = NULL;
  g_autoptr (GError) why = NULL;
  GsTxId id;
  gboolean taken;
  change->storage->host->random (change->storage->host, id.bytes, sizeof id.bytes);
  if (!quarantine_make (change->repo, &id, &name, error))
    return FALSE;
  objects = quarantine_objects_dir (change->repo, name);
  taken = pack_take (change->repo, change->call, pack, objects, &why);
  quarantine_drop (change->repo, name);
  return taken || name_action (change, why, error);
}

static gboolean
make_computed (Change *change, GsComputed **ret_computed, GError **error)
{
  g_autoptr (GBytes) pack = NULL;
  gboolean writes = change->outcome == GITSTEAD__V1__CHANGE_OUTCOME__CHANGE_DONE;
  gboolean dry = change->outcome == GITSTEAD__V1__CHANGE_OUTCOME__CHANGE_DRY_RUN;
  GArray *updates;
  GPtrArray *texts;
  if ((writes || dry) && !draft_pack (change->draft, &pack, error))
    return FALSE;
  if (pack != NULL && (dry || change->special->len > 0) && !check_pack (change, pack, error))
    return FALSE;
  updates = g_array_new (FALSE, TRUE, sizeof (GsRefUpdate));
  texts = g_ptr_array_new_with_free_func (g_free);
  if (writes)
    {
      GsRefUpdate update = { .name = g_strdup (change->ref), .old_oid = change->old_oid, .new_oid = change->new_oid };
      g_ptr_array_add (texts, (gpointer) update.name);
      g_array_append_val (updates, update);
    }
  *ret_computed = computed_new (updates, texts, writes ? g_steal_pointer (&pack) : NULL, make_reply (change));
  return TRUE;
}

void
storage_computed_free (gpointer self, GsComputed *given)
{
  Computed *computed = given->priv;
  (void) self;
  g_clear_pointer (&computed->computed.change.pack, g_bytes_unref);
  g_bytes_unref (computed->computed.reply);
  g_array_unref (computed->updates);
  g_ptr_array_unref (computed->texts);
  g_free (computed);
}

/* ----------------------------------------------------------------------------------------- the slot */

gboolean
storage_compute (gpointer self, GsCall *call, const GsRepo *repo, const GsQuery *query, GsComputed **ret_computed,
                 GError **error)
{
  const Computer *computer = NULL;
  Change change;
  gboolean ok;
  if (transfer_knows (query->method))
    return transfer_compute (self, call, repo, query, ret_computed, error);
  if (files_knows (query->method))
    return files_compute (self, call, repo, query, ret_computed, error);
  if (query->method == REF_DELETE_METHOD)
    return ref_delete_compute (self, call, repo, query, ret_computed, error);
  for (gsize i = 0; i < G_N_ELEMENTS (computers); i++)
    if (computers[i].row.number == query->method)
      computer = &computers[i];
  if (computer == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "this storage does not know method %u", query->method);
  ok = change_open (&change, self, call, repo, query, &computer->row, error)
       && computer->run (&change, change.api.request, error) && make_computed (&change, ret_computed, error);
  change_close (&change);
  return ok;
}
