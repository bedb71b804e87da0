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

/* *full* */
static GArray *
found_new (void)
{
  GArray *found = g_array_new (FALSE, TRUE, sizeof (Found));
  g_array_set_clear_func (found, found_clear);
  return found;
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
  gboolean own, joined;
} DiskOwner;

static gboolean
look_for_disk (const GsNodeRow *row, gpointer user)
{
  DiskOwner *owner = user;
  owner->joined |= row->joined && strcmp (row->storage, owner->storage) == 0;
  if ((strcmp (row->storage, owner->storage) == 0) != (memcmp (&row->disk_id, &owner->id, sizeof owner->id) == 0))
    owner->own = FALSE;
  return owner->own;
}

/*
 * The disk of another node, put in here by mistake, has replicas that are recorded under that node's name: they may be the
 * only ones, and nothing of them is left over.
 */
static gboolean
is_own_disk (const GsiRouterConfig *config, const GsiStorage *storage, GsCall *call, gboolean *ret_joined)
{
  DiskOwner owner = { .storage = storage->name, .own = TRUE };
  GsDisk disk = { .size = sizeof disk };
  *ret_joined = TRUE;
  if (config->metadata->node_list == NULL || storage->ops->disk == NULL)
    return TRUE;
  if (!storage->ops->disk (storage->self, &disk, NULL))
    return FALSE;
  owner.id = disk.id;
  if (!config->metadata->node_list (config->metadata_self, call, look_for_disk, &owner, NULL) || !owner.own)
    return FALSE;
  *ret_joined = owner.joined || config->metadata->node_found == NULL;
  return TRUE;
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

/* Of @found those that no record names are left; nobody knows whose the damaged ones are. */
static void
keep_nobodys (const GsiRouterConfig *config, const GsiStorage *storage, GsCall *call, GArray *found)
{
  for (guint i = found->len; i-- > 0;)
    {
      const Found *one = &g_array_index (found, Found, i);
      if (one->id == 0 || !is_nobodys (config, storage, call, one->id))
        g_array_remove_index (found, i);
    }
}

static gboolean
are_too_many (const GsiRouterConfig *config, const GsiStorage *storage, const GArray *found, guint n_found)
{
  if (found->len <= FEW_LEFTOVERS || found->len <= n_found / 2)
    return FALSE;
  config->host->log (config->host, GS_LOG_ERROR, "maintain.leftovers.many",
                     (GsField[]) { GS_TEXT ("storage", storage->name), GS_NUMBER ("unrecorded", found->len),
                                   GS_NUMBER ("of", n_found) },
                     3);
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- joining */

/*
 * A store that was lost and begun anew, or that is another cluster's, knows none of a disk's replicas, and each would pass
 * for left over. So it says of each disk whether it ever knew all that was on it; until then nothing is cleared there, and
 * no new repository gets an id that has files there already.
 */
static void
note_found (const GsiRouterConfig *config, const GsiStorage *storage, GsCall *call, const GArray *found,
            guint n_unknown)
{
  guint64 highest = 0;
  g_autoptr (GError) why = NULL;
  for (guint i = 0; i < found->len; i++)
    highest = MAX (highest, g_array_index (found, Found, i).id);
  if (n_unknown > 0)
    config->host->log (config->host, GS_LOG_ERROR, "maintain.disk.unknown",
                       (GsField[]) { GS_TEXT ("storage", storage->name), GS_NUMBER ("unrecorded", n_unknown),
                                     GS_NUMBER ("of", found->len),
                                     GS_TEXT ("hint", "nothing is cleared there; 'gitstead cluster rebuild-metadata' shows "
                                                      "what there is") },
                       4);
  /* NOT_FOUND: the disk has not reported itself yet, or was refused. */
  if (!config->metadata->node_found (config->metadata_self, call, storage->name, MIN (highest, (guint64) G_MAXINT64),
                                     n_unknown == 0, &why)
      && gs_error_code (why) != GS_ERROR_NOT_FOUND && gs_error_code (why) != GS_ERROR_UNAVAILABLE)
    config->host->log (config->host, GS_LOG_WARNING, "maintain.join.failed",
                       (GsField[]) { GS_TEXT ("storage", storage->name), GS_TEXT ("error", why->message) }, 2);
}

void
gsi_router_join_disk (GsiRouter *router, const GsiStorage *storage, GsCall *call)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GArray) found = found_new ();
  guint n_unknown = 0;
  gboolean joined;
  if (!is_own_disk (config, storage, call, &joined) || joined
      || !storage->ops->list (storage->self, call, collect_replica, found, NULL))
    return;
  for (guint i = 0; i < found->len; i++)
    {
      const Found *one = &g_array_index (found, Found, i);
      n_unknown += one->id == 0 || is_nobodys (config, storage, call, one->id);
    }
  note_found (config, storage, call, found, n_unknown);
}

/*
 * Was that id ever given out by this store? If not, the store is an old one, restored from a backup: what was created since is
 * not left over. Ids rise, so one that is given out now tells. *@highest is asked for when it is 0.
 */
static gboolean
knows_id (const GsiRouterConfig *config, const GsiStorage *storage, GsCall *call, const Found *one, guint64 *highest)
{
  g_autoptr (GError) why = NULL;
  if (config->metadata->repo_reserve == NULL)
    return TRUE;
  if (*highest == 0
      && !config->metadata->repo_reserve (config->metadata_self, call, "housekeeping", "highest-id", highest, &why))
    return FALSE;
  if (one->id < *highest)
    return TRUE;
  config->host->log (config->host, GS_LOG_ERROR, "maintain.leftover.newer",
                     (GsField[]) { GS_TEXT ("storage", storage->name), GS_TEXT ("replica", one->path),
                                   GS_TEXT ("hint", "the metadata store is older than this disk; 'gitstead cluster "
                                                    "rebuild-metadata' records what it lacks") },
                     3);
  if (config->metadata->node_found != NULL) /* nor is the id given out a second time */
    config->metadata->node_found (config->metadata_self, call, storage->name, one->id, FALSE, NULL);
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
  g_autoptr (GArray) found = found_new ();
  g_autoptr (GError) failed = NULL;
  const gint64 now_s = config->host->wall_us (config->host) / G_USEC_PER_SEC;
  gboolean joined;
  guint n_found;
  guint64 highest = 0;

  if (!storage->ops->list (storage->self, call, collect_replica, found, &failed))
    {
      config->host->log (config->host, GS_LOG_WARNING, "maintain.list.failed",
                         (GsField[]) { GS_TEXT ("storage", storage->name), GS_TEXT ("error", failed->message) }, 2);
      return;
    }
  if (!is_own_disk (config, storage, call, &joined))
    return;
  if (!joined)
    {
      gsi_router_join_disk (router, storage, call);
      return;
    }
  n_found = found->len;
  keep_nobodys (config, storage, call, found);
  if (are_too_many (config, storage, found, n_found))
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
      if (!is_nobodys (config, storage, call, one->id) || !knows_id (config, storage, call, one, &highest))
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
