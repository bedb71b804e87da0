/* SPDX-License-Identifier: Apache-2.0 */
/* The Pool service on one replica: links, and the write that brings the members' refs into the pool. */
#include "transfer.h"

#include "../disk.h"
#include "../pool.h"
#include "change.h"

#include "gitstead/v1/pool.pb-c.h"

#define MEMBERS_REFS "refs/members/"

/* ---------------------------------------------------------------------------------------------- links */

static gboolean
answer_link (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__PoolReplicaRequest *request = (const void *) message;
  Gitstead__V1__PoolReplicaReply *reply = (void *) answer;
  const GsRepo own = { sizeof own, call->repo->id, call->repo->path };
  const GsRepo named = { sizeof named, request->pool_id, request->pool_replica_path };
  Repo *member = repo_open (call->storage, &own, TRUE, error);
  Repo *pool = member != NULL ? repo_open (call->storage, &named, TRUE, error) : NULL;
  gboolean done = pool != NULL && pool_link (member, pool, error)
                  && (!request->reduce || pool_reduce (member, call->call, error));
  if (pool != NULL)
    repo_close (pool, TRUE);
  if (member != NULL)
    repo_close (member, TRUE);
  reply->pool_id = request->pool_id;
  return done;
}

static gboolean
answer_unlink (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  (void) message;
  return pool_unlink (call->repo, call->call, &((Gitstead__V1__PoolReplicaReply *) (void *) answer)->pool_id, error);
}

static gboolean
answer_info (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  Gitstead__V1__PoolReplicaReply *reply = (void *) answer;
  g_autofree char *path = NULL, *objects = pool_objects (call->repo);
  g_autoptr (GArray) members = pool_members (call->storage, call->repo->dir, call->repo->id, error);
  (void) message;
  if (members == NULL || (objects != NULL && !pool_of (call->repo->dir, &reply->pool_id, &path, error)))
    return FALSE;
  reply->members = api_alloc (call, (members->len + 1) * sizeof *reply->members);
  for (guint i = 0; i < members->len; i++)
    reply->members[reply->n_members++] = g_array_index (members, GsRepo, i).id;
  return TRUE;
}

const ApiRow api_pool_rows[] = {
  API_ROW (900, answer_link, pool_replica_request, pool_replica_reply),
  API_ROW (901, answer_unlink, pool_replica_request, pool_replica_reply),
  API_ROW (903, answer_info, pool_replica_request, pool_replica_reply),
  { 0, NULL, NULL, NULL },
};

/* -------------------------------------------------------------------------------------------- refresh */

/* git reads the members' objects through the guest's. */
static gboolean
borrow_from (Guest *guest, GPtrArray *objects, GError **error)
{
  g_autofree char *file = g_build_filename (guest->objects, "info", "alternates", NULL);
  g_autoptr (GString) text = g_string_new (NULL);
  for (guint i = 0; i < objects->len; i++)
    g_string_append_printf (text, "%s\n", (const char *) objects->pdata[i]);
  return disk_make_dirs (guest->objects, "info", FALSE, error) && disk_replace (file, text->str, text->len, FALSE, error);
}

/* Its refs under the names that they have in the pool. Internal and unreadable ones stay out. */
static gboolean
read_member (GitCall *call, const GsRepo *named, GHashTable *wanted, GPtrArray *objects, GError **error)
{
  g_autoptr (GError) why = NULL;
  Repo *member = repo_open (call->storage, named, FALSE, &why);
  RefSnapshot *refs;
  if (member == NULL && gs_error_code (why) == GS_ERROR_NOT_FOUND)
    return TRUE; /* it was removed this moment */
  if (member == NULL)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  refs = ref_store_snapshot (member->refs, error);
  for (gsize i = 0; refs != NULL && i < ref_snapshot_count (refs); i++)
    {
      RefEntry ref;
      g_autofree char *name = NULL;
      ref_snapshot_get (refs, i, &ref);
      if (ref.missing || ref_name_hidden (member->refs, ref.name))
        continue;
      name = g_strdup_printf (MEMBERS_REFS "%" G_GUINT64_FORMAT "/%s", named->id, ref.name + strlen ("refs/"));
      if (ref_name_valid (name, NULL))
        g_hash_table_replace (wanted, g_steal_pointer (&name), g_memdup2 (&ref.oid, sizeof ref.oid));
    }
  if (refs != NULL)
    {
      g_ptr_array_add (objects, g_strdup (member->objects));
      ref_snapshot_unref (refs);
    }
  repo_close (member, FALSE);
  return refs != NULL;
}

static gboolean
plan_refresh (GitCall *call, GHashTable *wanted, GPtrArray *moves, guint64 *unchanged, GError **error)
{
  RefSnapshot *refs = api_refs (call, error);
  GHashTableIter iter;
  gpointer name, oid;
  RefEntry here;
  if (refs == NULL)
    return FALSE;
  g_hash_table_iter_init (&iter, wanted);
  while (g_hash_table_iter_next (&iter, &name, &oid))
    {
      gboolean exists = ref_snapshot_find (refs, name, &here);
      if (exists && gs_oid_equal (&here.oid, oid))
        (*unchanged)++;
      else
        moves_add (moves, name, exists ? &here.oid : NULL, oid);
    }
  for (gsize i = ref_snapshot_seek (refs, MEMBERS_REFS); i < ref_snapshot_count (refs); i++)
    {
      ref_snapshot_get (refs, i, &here);
      if (!g_str_has_prefix (here.name, MEMBERS_REFS))
        break;
      if (!g_hash_table_contains (wanted, here.name))
        moves_add (moves, here.name, &here.oid, NULL);
    }
  moves_sort (moves);
  return TRUE;
}

static gboolean
refresh (GitCall *call, Guest *guest, GPtrArray *moves, guint64 *unchanged, GBytes **ret_pack, GError **error)
{
  g_autoptr (GArray) members = pool_members (call->storage, call->repo->dir, call->repo->id, error);
  g_autoptr (GHashTable) wanted = refs_table_new ();
  g_autoptr (GPtrArray) objects = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GArray) tips = g_array_new (FALSE, FALSE, sizeof (GsOid));
  if (members == NULL)
    return FALSE;
  for (guint i = 0; i < members->len; i++)
    if (!read_member (call, &g_array_index (members, GsRepo, i), wanted, objects, error))
      return FALSE;
  if (!plan_refresh (call, wanted, moves, unchanged, error))
    return FALSE;
  for (guint i = 0; i < moves->len; i++)
    {
      const Move *move = moves->pdata[i];
      if (!gs_oid_is_zero (&move->new_oid))
        g_array_append_val (tips, move->new_oid);
    }
  *ret_pack = NULL;
  return tips->len == 0
         || (guest_open (guest, call, error) && borrow_from (guest, objects, error)
             && guest_pack (guest, tips, ret_pack, error));
}

gboolean
pool_compute_refresh (GitCall *call, GsComputed **ret_computed, GError **error)
{
  g_auto (Guest) guest = { .call = call };
  g_autoptr (GPtrArray) moves = moves_new ();
  Gitstead__V1__TransferReply reply = GITSTEAD__V1__TRANSFER_REPLY__INIT;
  GBytes *pack;
  GArray *updates;
  GPtrArray *texts;
  if (!refresh (call, &guest, moves, &reply.unchanged, &pack, error))
    return FALSE;
  updates = g_array_new (FALSE, TRUE, sizeof (GsRefUpdate));
  texts = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < moves->len; i++)
    {
      const Move *move = moves->pdata[i];
      GsRefUpdate update = { .name = g_strdup (move->name), .old_oid = move->old_oid, .new_oid = move->new_oid };
      g_ptr_array_add (texts, (gpointer) update.name);
      g_array_append_val (updates, update);
    }
  reply.refs = moves_messages (call, moves, &reply.n_refs, &reply.more_refs);
  *ret_computed = computed_new (updates, texts, pack, gs_wire_encode (&reply.base));
  return TRUE;
}
