/* SPDX-License-Identifier: Apache-2.0 */
/* The Repository service: metadata first where things go, last where they come, so leftovers never block a name. */
#include "router/create.h"
#include "router/label.h"
#include "router/settle.h"

#include "gitstead/v1/repository.pb-c.h"
#include <wire/details.h>
#include "node/names.h"
#include "rpc/path.h"
#include "rpc/rpc.h"

/* For putting away what a creation that failed has made; what is left then, housekeeping finds. */
#define PUT_AWAY_US (10 * G_USEC_PER_SEC)

/* ------------------------------------------------------------------------------------------ create */

/* What the routing plugin chooses: of those that are there, or as if @all were. *full*, of GsiStorage; NULL with @error. */
static GPtrArray *
choose (GsiRouter *router, const GsiStorageGroup *group, guint64 id, const char *path, gboolean all, GError **error)
{
  const GsRoutingOps *routing = group->routing;
  guint64 key_bytes = GUINT64_TO_BE (id);
  g_autoptr (GBytes) key = g_bytes_new (&key_bytes, sizeof key_bytes);
  g_autofree GsNodeView *views = g_new0 (GsNodeView, group->n_storages);
  g_autofree const GsNodeView **pointers = g_new (const GsNodeView *, group->n_storages);
  g_autofree gsize *chosen = g_new0 (gsize, group->n_copies);
  GPtrArray *storages;
  gsize n_chosen = 0;

  for (gsize i = 0; i < group->n_storages; i++)
    {
      views[i] = gsi_router_node_view (router, group->storages[i]);
      views[i].healthy = views[i].healthy || all;
      pointers[i] = &views[i];
    }
  if (!(routing->place_named != NULL
            ? routing->place_named (group->routing_self, key, path, pointers, group->n_storages, group->n_copies, chosen,
                                    &n_chosen, error)
            : routing->place (group->routing_self, key, pointers, group->n_storages, group->n_copies, chosen, &n_chosen,
                              error)))
    return NULL;
  storages = g_ptr_array_new ();
  for (gsize i = 0; i < n_chosen; i++)
    g_ptr_array_add (storages, (gpointer) group->storages[chosen[i]]);
  return storages;
}

/* The storages that get a replica. *full*; NULL with @error. */
GPtrArray *
gsi_create_place (GsiRouter *router, const GsiStorageGroup *group, guint64 id, const char *path, GError **error)
{
  g_autoptr (GPtrArray) storages = choose (router, group, id, path, FALSE, error);
  gsize n_chosen = storages != NULL ? storages->len : 0;
  if (storages == NULL)
    return NULL;
  if (n_chosen < group->min_copies)
    {
      gs_fail (error, GS_ERROR_UNAVAILABLE,
               "virtual storage '%s' has only %" G_GSIZE_FORMAT " storages that can take a repository, min_copies asks "
               "for %" G_GSIZE_FORMAT,
               group->name, n_chosen, group->min_copies);
      return NULL;
    }
  return g_steal_pointer (&storages);
}

/*
 * It got fewer replicas than it should have, as somebody was away. How many there should be stands with the repository, or
 * with its virtual storage; that there are fewer is to be seen to without waiting for a round that compares.
 */
static void
ask_for_missing (GsiRouter *router, GsiCall *call, const GsiStorageGroup *group, guint64 id, GPtrArray *storages)
{
  g_autoptr (GPtrArray) wanted = storages->len < group->n_copies ? choose (router, group, id, call->path, TRUE, NULL) : NULL;
  guint n_missing = (guint) group->n_copies - MIN (storages->len, (guint) group->n_copies);
  for (guint i = 0; wanted != NULL && i < wanted->len && n_missing > 0; i++)
    {
      const GsiStorage *storage = wanted->pdata[i];
      if (g_ptr_array_find (storages, storage, NULL))
        continue;
      gsi_router_ask_repair (router, &call->base, id, storage->name, "it was away when the repository was created");
      n_missing--;
    }
}

void
gsi_create_put_away (GPtrArray *storages, guint n, const GsRepo *repo)
{
  GsIdentity identity;
  GsCall own;
  gsi_own_call_init (&own, &identity, "create"); /* the caller's may be cancelled */
  own.deadline_us = g_get_monotonic_time () + PUT_AWAY_US;
  for (guint i = 0; i < n; i++)
    {
      const GsiStorage *made = storages->pdata[i];
      made->ops->remove (made->self, &own, repo, NULL);
    }
}

/* Whatever was there before, or may have been, is not ours to put away; what we may have left there housekeeping finds. */
static gboolean
may_be_older (const GError *why)
{
  const int code = gs_error_code (why);
  return code == GS_ERROR_ALREADY_EXISTS || code == GS_ERROR_UNAVAILABLE || code == GS_ERROR_UNKNOWN
         || code == GS_ERROR_DEADLINE_EXCEEDED || code == GS_ERROR_CANCELLED;
}

/* Creates the replicas; on failure those that were made are put away again. */
gboolean
gsi_create_replicas (GsiRouter *router, GPtrArray *storages, GsiCall *call, const GsRepo *repo, const GsRepoSpec *spec,
                     GsReplicaState *ret_state, GError **error)
{
  for (guint i = 0; i < storages->len; i++)
    {
      const GsiStorage *storage = storages->pdata[i];
      g_autoptr (GError) why = NULL;
      const gboolean made = storage->ops->create (storage->self, &call->base, repo, spec, &why);
      if (made && storage->ops->state (storage->self, &call->base, repo, ret_state, &why))
        {
          gsi_router_crash_point_at (router, "create.made", i + 1);
          continue;
        }
      gsi_create_put_away (storages, made || !may_be_older (why) ? i + 1 : i, repo);
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  return TRUE;
}

gboolean
gsi_create_record (GsiRouter *router, GsiCall *call, const GsiStorageGroup *group, const GsRepo *repo,
                   const GsReplicaState *state, GPtrArray *storages, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autofree GsReplicaRow *replicas = g_new0 (GsReplicaRow, storages->len);
  g_autofree const GsReplicaRow **pointers = g_new (const GsReplicaRow *, storages->len);
  GsRepoRow row = { sizeof row };
  g_autoptr (GError) why = NULL;
  gboolean unknown;

  for (guint i = 0; i < storages->len; i++)
    {
      replicas[i].size = sizeof replicas[i];
      replicas[i].storage = ((const GsiStorage *) storages->pdata[i])->name;
      replicas[i].generation = state->generation;
      pointers[i] = &replicas[i];
    }
  row.id = repo->id;
  row.virtual_storage = group->name;
  row.path = call->path;
  row.replica_path = repo->replica_path;
  row.format = state->format;
  row.generation = state->generation;
  row.refs_digest = state->refs_digest;
  row.created_wall_us = row.changed_wall_us = config->host->wall_us (config->host);
  row.replicas = pointers;
  row.n_replicas = storages->len;
  if (config->metadata->repo_record (config->metadata_self, &call->base, &row, &call->base.id, &why))
    {
      gsi_router_crash_point (router, "create.recorded");
      ask_for_missing (router, call, group, repo->id, storages);
      gsi_label_spread (router, repo->id);
      gsi_events_tell (config->events, GITSTEAD__V1__EVENT_KIND__EVENT_CREATED, group->name, call->path, repo->id,
                       call->base.identity->name, NULL, NULL, row.created_wall_us);
      return TRUE;
    }
  /* Perhaps it was recorded: then the replicas belong to it. If not, housekeeping finds them. */
  unknown = gs_error_code (why) == GS_ERROR_UNKNOWN;
  g_propagate_error (error, g_steal_pointer (&why));
  for (guint i = 0; !unknown && i < storages->len; i++)
    {
      const GsiStorage *storage = storages->pdata[i];
      storage->ops->remove (storage->self, &call->base, repo, NULL);
    }
  return FALSE;
}

gboolean
gsi_create_reply (GsiRouter *router, GsiCall *call, guint64 id, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  Gitstead__V1__RepositoryCreateReply reply = GITSTEAD__V1__REPOSITORY_CREATE_REPLY__INIT;
  g_autoptr (Gitstead__V1__RepositoryInfo) info = NULL;
  g_autoptr (GsiRow) row = NULL;
  if (!config->metadata->repo_get (config->metadata_self, &call->base, id, gsi_row_visit, &row, error))
    return FALSE;
  if (strcmp (row->path, call->path) != 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "'%s' was not created: this call id has created another repository, or it was renamed since; use a new id",
                    call->path);
  info = gsi_row_message (row);
  reply.info = info;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

gboolean
gsi_router_repository_create (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__RepositoryCreateRequest *request = (const void *) call->request;
  const GsiStorageGroup *group = gsi_router_virtual_storage (router, call->virtual_storage, error);
  GsRepoSpec spec = { sizeof spec, GS_FORMAT_SHA1, "refs/heads/main" };
  GsReplicaState state = { sizeof state };
  g_autofree char *head = NULL, *replica_path = NULL;
  g_autoptr (GPtrArray) storages = NULL;
  GsRepo repo = { sizeof repo };
  guint64 id = 0;

  if (group == NULL)
    return FALSE;
  if (request->default_branch.len > 0)
    {
      head = gsi_name_branch (&request->default_branch, "default_branch", error);
      if (head == NULL)
        return FALSE;
      spec.default_branch = head;
    }
  /* A resent call whose first run succeeded gets the repository that it made. */
  if (!config->metadata->repo_created_by (config->metadata_self, &call->base, &call->base.id, &id, error))
    return FALSE;
  if (id != 0)
    return gsi_create_reply (router, call, id, error);

  if (!config->metadata->repo_reserve (config->metadata_self, &call->base, group->name, call->path, &id, error))
    return FALSE;
  gsi_router_crash_point (router, "create.reserved");
  storages = gsi_create_place (router, group, id, call->path, error);
  if (storages == NULL)
    return FALSE;
  replica_path = gsi_router_replica_path (id);
  repo.id = id;
  repo.replica_path = replica_path;
  if (!gsi_create_replicas (router, storages, call, &repo, &spec, &state, error))
    {
      g_prefix_error (error, "cannot create repository '%s': ", call->path);
      return FALSE;
    }
  return gsi_create_record (router, call, group, &repo, &state, storages, error) && gsi_create_reply (router, call, id, error);
}

/* --------------------------------------------------------------------------------------- get, exists */

gboolean
gsi_router_repository_get (gpointer user, GsiCall *call, GError **error)
{
  Gitstead__V1__RepositoryGetReply reply = GITSTEAD__V1__REPOSITORY_GET_REPLY__INIT;
  g_autoptr (GsiRow) row = gsi_router_locate (user, call, NULL, error);
  g_autoptr (Gitstead__V1__RepositoryInfo) info = NULL;
  if (row == NULL)
    return FALSE;
  info = gsi_row_message (row);
  reply.info = info;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

gboolean
gsi_router_repository_exists (gpointer user, GsiCall *call, GError **error)
{
  Gitstead__V1__RepositoryExistsReply reply = GITSTEAD__V1__REPOSITORY_EXISTS_REPLY__INIT;
  g_autoptr (GError) why = NULL;
  g_autoptr (GsiRow) row = gsi_router_locate (user, call, NULL, &why);
  if (row == NULL && gs_error_code (why) != GS_ERROR_NOT_FOUND)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  reply.exists = row != NULL;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* -------------------------------------------------------------------------------------------- list */

/* Rows that are looked at for one page at most: a caller who may read little must not make the server read all. */
#define LIST_SCAN_MAX 10000
#define LIST_BATCH 1000

typedef struct
{
  GPtrArray *rows; /* of GsiRow */
} Batch;

static gboolean
batch_visit (const GsRepoRow *row, gpointer user)
{
  g_ptr_array_add (((Batch *) user)->rows, gsi_row_new (row));
  return TRUE;
}

/* Reads on until @infos has @limit rows that the caller may see. @after moves along; NULL at the end. */
static gboolean
list_visible (GsiRouter *router, GsiCall *call, const GsiStorageGroup *group, const char *prefix, gsize limit,
              GPtrArray *infos, char **after, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  gsize scanned = 0, bytes = 0;
  for (;;)
    {
      g_autoptr (GPtrArray) rows = g_ptr_array_new_with_free_func ((GDestroyNotify) gsi_row_free);
      Batch batch = { rows };
      if (!gs_call_check (&call->base, "listing repositories", error)
          || !config->metadata->repo_list (config->metadata_self, &call->base, group->name, prefix,
                                           *after != NULL ? *after : "", MIN (limit + 1, LIST_BATCH), batch_visit,
                                           &batch, error))
        return FALSE;
      for (guint i = 0; i < rows->len; i++)
        {
          const GsiRow *row = rows->pdata[i];
          gboolean visible = gsi_call_authorize (call, GS_SCOPE_READ, row->path, NULL);
          if (visible && (infos->len >= limit || bytes >= GSI_PAGE_BYTES))
            return TRUE;
          if (visible)
            {
              g_ptr_array_add (infos, gsi_row_message (row));
              bytes += strlen (row->path) + strlen (row->replica_path) + 120 + 40 * row->n_replicas;
            }
          g_free (*after);
          *after = g_strdup (row->path);
        }
      scanned += rows->len;
      if (rows->len < MIN (limit + 1, LIST_BATCH))
        {
          g_clear_pointer (after, g_free);
          return TRUE;
        }
      if (scanned >= LIST_SCAN_MAX)
        return TRUE;
    }
}

gboolean
gsi_router_repository_list (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const Gitstead__V1__RepositoryListRequest *request = (const void *) call->request;
  const GsiStorageGroup *group = gsi_router_virtual_storage (router, request->virtual_storage, error);
  g_autoptr (GPtrArray) infos = g_ptr_array_new_with_free_func (gsi_row_message_free);
  Gitstead__V1__RepositoryListReply reply = GITSTEAD__V1__REPOSITORY_LIST_REPLY__INIT;
  g_autofree char *after = NULL;
  gsize limit;

  if (group == NULL || !gsi_page_begin (call, 0, request->page, &limit, &after, error)
      || !list_visible (router, call, group, request->prefix, limit, infos, &after, error))
    return FALSE;
  reply.repositories = (Gitstead__V1__RepositoryInfo **) infos->pdata;
  reply.n_repositories = infos->len;
  if (after != NULL)
    reply.next_page_token = gsi_page_token (call, 0, after);
  gsi_call_reply (call, &reply.base);
  g_free (reply.next_page_token.data);
  return TRUE;
}

/* --------------------------------------------------------------------------------- delete and rename */

gboolean
gsi_router_repository_delete (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const GsiStorageGroup *group;
  g_autoptr (GsiRow) found = gsi_router_locate (router, call, &group, error);
  g_autoptr (GsiRow) row = NULL;
  GsRepo repo = { sizeof repo };

  if (found == NULL || !gsi_router_pool_check_free (router, call, found, error))
    return FALSE;
  if (!config->metadata->repo_delete (config->metadata_self, &call->base, group->name, call->path, gsi_row_visit, &row,
                                      error))
    return FALSE;
  gsi_router_crash_point (router, "delete.recorded");
  gsi_events_tell (config->events, GITSTEAD__V1__EVENT_KIND__EVENT_DELETED, group->name, call->path, row->id,
                   call->base.identity->name, NULL, NULL, config->host->wall_us (config->host));
  repo.id = row->id;
  repo.replica_path = row->replica_path;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiStorage *storage = gsi_router_storage (router, row->replicas[i].storage);
      g_autoptr (GError) why = NULL;
      /* It is gone for clients already; what cannot be put away now, housekeeping finds. */
      if (storage != NULL && !storage->ops->remove (storage->self, &call->base, &repo, &why))
        config->host->log (config->host, GS_LOG_WARNING, "repository.leftover",
                           (GsField[]) { GS_TEXT ("repository", row->path), GS_TEXT ("storage", storage->name),
                                         GS_TEXT ("replica", row->replica_path), GS_TEXT ("error", why->message) },
                           4);
      gsi_router_crash_point_at (router, "delete.removed", (guint) i + 1);
    }
  return TRUE;
}

gboolean
gsi_router_repository_rename (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__RepositoryRenameRequest *request = (const void *) call->request;
  Gitstead__V1__RepositoryRenameReply reply = GITSTEAD__V1__REPOSITORY_RENAME_REPLY__INIT;
  const GsiStorageGroup *group = gsi_router_virtual_storage (router, call->virtual_storage, error);
  g_autofree char *new_path = NULL;
  g_autoptr (GsiRow) row = NULL;
  g_autoptr (Gitstead__V1__RepositoryInfo) info = NULL;

  if (group == NULL)
    return FALSE;
  if (!gsi_path_normalize (request->new_path, &new_path, error))
    {
      g_prefix_error (error, "new_path: ");
      return FALSE;
    }
  if (!gsi_call_authorize (call, call->method->needs, new_path, error)
      || !config->metadata->repo_rename (config->metadata_self, &call->base, group->name, call->path, new_path, error)
      || !config->metadata->repo_find (config->metadata_self, &call->base, group->name, new_path, gsi_row_visit, &row,
                                       error))
    return FALSE;
  gsi_events_tell (config->events, GITSTEAD__V1__EVENT_KIND__EVENT_RENAMED, group->name, new_path, row->id,
                   call->base.identity->name, call->path, NULL, config->host->wall_us (config->host));
  gsi_label_spread (router, row->id);
  info = gsi_row_message (row);
  reply.info = info;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ changes */

static Gitstead__V1__RefChange *
ref_change_message (const GsRefUpdate *update)
{
  Gitstead__V1__RefChange *message = g_new (Gitstead__V1__RefChange, 1);
  gitstead__v1__ref_change__init (message);
  message->name = gsi_name_bytes (g_strdup (update->name));
  message->old_oid = gsi_name_oid_hex (&update->old_oid);
  message->new_oid = gsi_name_oid_hex (&update->new_oid);
  message->symref_target = gsi_name_bytes (g_strdup (update->new_symref));
  return message;
}

static gboolean
change_visit (const GsChange *change, gpointer user)
{
  Gitstead__V1__Change *message = g_new (Gitstead__V1__Change, 1);
  gitstead__v1__change__init (message);
  message->receipt = g_new (Gitstead__V1__Receipt, 1);
  gitstead__v1__receipt__init (message->receipt);
  message->receipt->transaction_id.data = g_memdup2 (change->txid.bytes, GS_TXID_SIZE);
  message->receipt->transaction_id.len = GS_TXID_SIZE;
  message->receipt->generation = change->generation;
  message->receipt->refs_digest.data = g_memdup2 (change->refs_digest.bytes, GS_DIGEST_SIZE);
  message->receipt->refs_digest.len = GS_DIGEST_SIZE;
  message->receipt->replicas = g_strdupv ((char **) change->voters);
  message->receipt->n_replicas = g_strv_length (message->receipt->replicas);
  message->caller = g_strdup (change->caller);
  message->decided_us = change->decided_wall_us;
  message->call_id.data = g_memdup2 (change->call_id.bytes, GS_TXID_SIZE);
  message->call_id.len = GS_TXID_SIZE;
  message->refs = g_new0 (Gitstead__V1__RefChange *, change->n_updates + 1);
  for (gsize i = 0; i < change->n_updates; i++)
    message->refs[message->n_refs++] = ref_change_message (&change->updates[i]);
  g_ptr_array_add (user, message);
  return TRUE;
}

static void
change_free (gpointer data)
{
  Gitstead__V1__Change *message = data;
  for (gsize i = 0; i < message->n_refs; i++)
    {
      Gitstead__V1__RefChange *ref = message->refs[i];
      g_free (ref->name.data);
      g_free (ref->old_oid);
      g_free (ref->new_oid);
      g_free (ref->symref_target.data);
      g_free (ref);
    }
  g_free (message->refs);
  g_free (message->receipt->transaction_id.data);
  g_free (message->receipt->refs_digest.data);
  g_strfreev (message->receipt->replicas);
  g_free (message->receipt);
  g_free (message->caller);
  g_free (message->call_id.data);
  g_free (message);
}

#define CHANGES_DEFAULT 100
#define CHANGES_MAX 1000

gboolean
gsi_router_repository_changes (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__RepositoryChangesRequest *request = (const void *) call->request;
  Gitstead__V1__RepositoryChangesReply reply = GITSTEAD__V1__REPOSITORY_CHANGES_REPLY__INIT;
  g_autoptr (GPtrArray) changes = g_ptr_array_new_with_free_func (change_free);
  g_autoptr (GsiRow) row = gsi_router_locate (router, call, NULL, error);

  if (row == NULL)
    return FALSE;
  if (request->limit > CHANGES_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "limit: %u is more than the most, %d", request->limit, CHANGES_MAX)
           || gs_detail_field (error, "limit");
  if (!config->metadata->change_list (config->metadata_self, &call->base, row->id, request->after_generation,
                                      request->limit == 0 ? CHANGES_DEFAULT : request->limit, change_visit, changes, error))
    return FALSE;
  reply.changes = (Gitstead__V1__Change **) changes->pdata;
  reply.n_changes = changes->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}
