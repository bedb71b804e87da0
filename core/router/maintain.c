/* SPDX-License-Identifier: Apache-2.0 */
/* Housekeeping rounds: the storages' own care, and replicas that no record names. */
#include "router/settle.h"

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

static gboolean
ignore_row (const GsRepoRow *row, gpointer user)
{
  return FALSE;
}

/*
 * A replica without a record is what a creation or deletion left behind when its process died. One that is being
 * created right now has none yet, so only what an earlier round saw as well goes into the trash.
 */
static void
sweep_leftovers (GsiRouter *router, const GsiStorage *storage, GHashTable *before, GHashTable *now, GsCall *call)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GArray) found = g_array_new (FALSE, TRUE, sizeof (Found));
  g_autoptr (GError) failed = NULL;

  g_array_set_clear_func (found, found_clear);
  if (!storage->ops->list (storage->self, call, collect_replica, found, &failed))
    {
      config->host->log (config->host, GS_LOG_WARNING, "maintain.list.failed",
                         (GsField[]) { GS_TEXT ("storage", storage->name), GS_TEXT ("error", failed->message) }, 2);
      return;
    }
  for (guint i = 0; i < found->len; i++)
    {
      const Found *one = &g_array_index (found, Found, i);
      GsRepo repo = { sizeof repo, one->id, one->path };
      g_autoptr (GError) why = NULL;
      g_autofree char *key = NULL;
      if (config->metadata->repo_get (config->metadata_self, call, one->id, ignore_row, NULL, &why)
          || gs_error_code (why) != GS_ERROR_NOT_FOUND)
        continue;
      key = g_strdup_printf ("%s/%s", storage->name, one->path);
      if (!g_hash_table_contains (before, key))
        {
          g_hash_table_add (now, g_steal_pointer (&key));
          continue;
        }
      g_clear_error (&why);
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

GHashTable *
gsi_router_maintain (GsiRouter *router, GHashTable *suspects)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  GHashTable *next = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  GsIdentity identity;
  Round round = { .stop_fd = gsi_router_stop_fd (router) };
  GsCall *call = &round.call;

  gsi_own_call_init (call, &identity, "maintenance");
  call->cancel_fd = round_cancel_fd;
  gsi_router_set_round (router, call);
  for (gsize i = 0; i < config->n_storages && !gs_call_cancelled (call); i++)
    {
      const GsiStorage *storage = config->storages[i];
      g_autoptr (GError) why = NULL;
      if (storage->ops->probe != NULL)
        continue; /* its node looks after it */
      if (!storage->ops->maintain (storage->self, call, &why) && !gs_call_cancelled (call))
        config->host->log (config->host, GS_LOG_WARNING, "maintain.failed",
                           (GsField[]) { GS_TEXT ("storage", storage->name), GS_TEXT ("error", why->message) }, 2);
      if (!gs_call_cancelled (call))
        sweep_leftovers (router, storage, suspects, next, call);
    }
  gsi_router_set_round (router, NULL);
  g_hash_table_destroy (suspects);
  return next;
}
