/* SPDX-License-Identifier: Apache-2.0 */
/* Housekeeping rounds: the storages' own care, and replicas that no record names. */
#include "router/settle.h"

/*
 * Upkeep is heavy on disk and processor, and must never slow down two replicas of a repository at once: one process of the
 * cluster does it at a time. Nobody renews the lease: the round ends before it does, and goes on the next time.
 */
#define UPKEEP_LEASE "maintenance"
#define UPKEEP_US (2 * 3600 * (gint64) G_USEC_PER_SEC)
#define UPKEEP_MARGIN_US (60 * (gint64) G_USEC_PER_SEC)
/* Leftovers are what single crashes left. When they are more than these, and most of what there is, something else is wrong. */
#define FEW_LEFTOVERS 20

typedef struct
{
  guint64 id;
  char *path;
} Found;

static void
found_clear (gpointer data)
{
  g_free (((Found *) data)->path);
}

static gboolean
collect_replica (const GsRepo *repo, gpointer user)
{
  Found found = { repo->id, g_strdup (repo->replica_path) };
  g_array_append_val ((GArray *) user, found);
  return TRUE;
}

typedef struct
{
  const char *storage;
  gboolean named;
} Naming;

static gboolean
look_for_name (const GsRepoRow *row, gpointer user)
{
  Naming *naming = user;
  for (gsize i = 0; i < row->n_replicas; i++)
    naming->named |= strcmp (row->replicas[i]->storage, naming->storage) == 0;
  return FALSE;
}

/* When it was first seen as nobody's, in seconds since 1970 and never 0: the value in the table of suspects. */
static gint64
suspect_since (GHashTable *before, const char *key, gint64 now_s)
{
  gint64 since_s = (gint64) GPOINTER_TO_SIZE (g_hash_table_lookup (before, key));
  return since_s > 0 && since_s <= now_s ? since_s : now_s;
}

typedef struct
{
  const char *storage;
  GsTxId id;
  gboolean own;
} DiskOwner;

static gboolean
look_for_disk (const GsNodeRow *row, gpointer user)
{
  DiskOwner *owner = user;
  if ((strcmp (row->storage, owner->storage) == 0) != (memcmp (&row->disk_id, &owner->id, sizeof owner->id) == 0))
    owner->own = FALSE;
  return owner->own;
}

/*
 * The disk of another node, put in here by mistake, has replicas that are recorded under that node's name: they may be the
 * only ones, and nothing of them is left over.
 */
static gboolean
is_own_disk (const GsiRouterConfig *config, const GsiStorage *storage, GsCall *call)
{
  DiskOwner owner = { .storage = storage->name, .own = TRUE };
  GsDisk disk = { .size = sizeof disk };
  if (config->metadata->node_list == NULL || storage->ops->disk == NULL)
    return TRUE;
  if (!storage->ops->disk (storage->self, &disk, NULL))
    return FALSE;
  owner.id = disk.id;
  return config->metadata->node_list (config->metadata_self, call, look_for_disk, &owner, NULL) && owner.own;
}

/* FALSE also when the store does not say. */
static gboolean
is_nobodys (const GsiRouterConfig *config, const GsiStorage *storage, GsCall *call, guint64 id)
{
  Naming naming = { storage->name, FALSE };
  g_autoptr (GError) why = NULL;
  return config->metadata->repo_get (config->metadata_self, call, id, look_for_name, &naming, &why)
             ? !naming.named
             : gs_error_code (why) == GS_ERROR_NOT_FOUND;
}

/* Of @found those that no record names are left. FALSE: they are too many to be true. */
static gboolean
keep_nobodys (const GsiRouterConfig *config, const GsiStorage *storage, GsCall *call, GArray *found)
{
  const guint n_found = found->len;
  for (guint i = found->len; i-- > 0;)
    {
      const Found *one = &g_array_index (found, Found, i);
      if (!is_nobodys (config, storage, call, one->id))
        g_array_remove_index (found, i);
    }
  if (found->len <= FEW_LEFTOVERS || found->len <= n_found / 2)
    return TRUE;
  config->host->log (config->host, GS_LOG_ERROR, "maintain.leftovers.many",
                     (GsField[]) { GS_TEXT ("storage", storage->name), GS_NUMBER ("unrecorded", found->len),
                                   GS_NUMBER ("of", n_found) },
                     3);
  return FALSE;
}

/*
 * A replica that no record names is what a creation, a deletion or the removal of a copy left behind when its process or node
 * died. One that is being created right now has none yet, so only what earlier rounds saw as well, for as long as the
 * grace is, goes into the trash.
 */
static void
sweep_leftovers (GsiRouter *router, const GsiStorage *storage, GHashTable *before, GHashTable *now, GsCall *call)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GArray) found = g_array_new (FALSE, TRUE, sizeof (Found));
  g_autoptr (GError) failed = NULL;
  const gint64 now_s = config->host->wall_us (config->host) / G_USEC_PER_SEC;

  g_array_set_clear_func (found, found_clear);
  if (!storage->ops->list (storage->self, call, collect_replica, found, &failed))
    {
      config->host->log (config->host, GS_LOG_WARNING, "maintain.list.failed",
                         (GsField[]) { GS_TEXT ("storage", storage->name), GS_TEXT ("error", failed->message) }, 2);
      return;
    }
  if (!is_own_disk (config, storage, call) || !keep_nobodys (config, storage, call, found))
    return;
  for (guint i = 0; i < found->len; i++)
    {
      const Found *one = &g_array_index (found, Found, i);
      GsRepo repo = { sizeof repo, one->id, one->path };
      g_autoptr (GError) why = NULL;
      g_autofree char *key = NULL;
      gint64 since_s;
      key = g_strdup_printf ("%s/%s", storage->name, one->path);
      since_s = suspect_since (before, key, now_s);
      if (!g_hash_table_contains (before, key) || now_s - since_s < config->care.leftover_grace_us / G_USEC_PER_SEC)
        {
          g_hash_table_insert (now, g_steal_pointer (&key), GSIZE_TO_POINTER ((gsize) since_s));
          continue;
        }
      /* It may have been recorded while the others were looked up. */
      if (!is_nobodys (config, storage, call, one->id))
        continue;
      if (storage->ops->remove (storage->self, call, &repo, &why))
        config->host->log (config->host, GS_LOG_INFO, "maintain.leftover.removed",
                           (GsField[]) { GS_TEXT ("storage", storage->name), GS_TEXT ("replica", one->path) }, 2);
    }
}

/* A storage may be in the middle of an hour's work when the server is to stop. */
typedef struct
{
  GsCall call;
  int stop_fd;
} Round;

static int
round_cancel_fd (GsCall *call)
{
  return ((Round *) call)->stop_fd;
}

/* The storages that live here: a process that was killed has them again when it is back. *full*. */
static char *
upkeep_owner (const GsiRouterConfig *config)
{
  GString *owner = g_string_new ("upkeep of");
  for (gsize i = 0; i < config->n_storages; i++)
    if (config->storages[i]->ops->probe == NULL)
      g_string_append_printf (owner, " %s", config->storages[i]->name);
  return g_string_free (owner, FALSE);
}

gboolean
gsi_router_upkeep_begin (GsiRouter *router, GsCall *call, guint64 *ret_token, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GError) why = NULL;
  g_autofree char *owner = NULL;
  char id[2 * GS_TXID_SIZE + 1];
  gs_hex (call->id.bytes, GS_TXID_SIZE, id);
  owner = g_strdup_printf ("call %s", id);
  if (config->metadata->lease_take (config->metadata_self, call, UPKEEP_LEASE, owner, UPKEEP_US, ret_token, &why))
    return TRUE;
  if (gs_error_code (why) == GS_ERROR_ABORTED)
    return gs_fail (error, GS_ERROR_BUSY, "housekeeping is at work somewhere in the cluster; try again later: %s", why->message);
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

void
gsi_router_upkeep_end (GsiRouter *router, guint64 token)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  GsIdentity identity;
  GsCall own = { 0 };
  gsi_own_call_init (&own, &identity, "maintenance");
  config->metadata->lease_release (config->metadata_self, &own, UPKEEP_LEASE, token, NULL);
}

GHashTable *
gsi_router_maintain (GsiRouter *router, GHashTable *suspects)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  GHashTable *next = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  GsIdentity identity;
  Round round = { .stop_fd = gsi_router_stop_fd (router) };
  GsCall *call = &round.call;
  g_autofree char *owner = upkeep_owner (config);
  gboolean upkeep;
  guint64 token;

  gsi_own_call_init (call, &identity, "maintenance");
  call->cancel_fd = round_cancel_fd;
  gsi_router_set_round (router, call);
  upkeep = config->metadata->lease_take (config->metadata_self, call, UPKEEP_LEASE, owner, UPKEEP_US, &token, NULL);
  call->deadline_us = g_get_monotonic_time () + UPKEEP_US - UPKEEP_MARGIN_US;
  for (gsize i = 0; i < config->n_storages && !gs_call_cancelled (call); i++)
    {
      const GsiStorage *storage = config->storages[i];
      g_autoptr (GError) why = NULL;
      if (storage->ops->probe != NULL)
        continue; /* its node looks after it */
      if (upkeep && !storage->ops->maintain (storage->self, call, &why) && !gs_call_cancelled (call))
        config->host->log (config->host, GS_LOG_WARNING, "maintain.failed",
                           (GsField[]) { GS_TEXT ("storage", storage->name), GS_TEXT ("error", why->message) }, 2);
      if (!gs_call_cancelled (call))
        sweep_leftovers (router, storage, suspects, next, call);
    }
  gsi_router_set_round (router, NULL);
  if (upkeep)
    gsi_router_upkeep_end (router, token);
  g_hash_table_destroy (suspects);
  return next;
}
