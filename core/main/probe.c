/* SPDX-License-Identifier: Apache-2.0 */
/* Asking stores and storages how they are. See probe.h. */
#include "main/probe.h"

#include "base/clock.h"
#include "main/server.h"
#include "router/settle.h"

#include <gitstead/thread.h>

struct GsiProbe
{
  gint refs; /* atomic: generations, and a question under way */
  const char *what;
  char *name;
  gpointer self; /* of the instance: another one of the same name is another thing */
  const GsMetadataOps *metadata; /* either … */
  char *virtual_storage;
  const GsStorageOps *storage; /* … or */

  GsMutex lock;
  gboolean asking;
  gint64 answered_us;
  char *problem; /* NULL: it was well */
};

/* A question under way. */
typedef struct
{
  GsiProbe *probe;
  GsiWiring *wiring; /* keeps the instance */
} Question;

static GsiProbe *
probe_new (const char *what, const char *name, gpointer self)
{
  GsiProbe *probe = g_new0 (GsiProbe, 1);
  probe->refs = 1;
  probe->what = what;
  probe->name = g_strdup (name);
  probe->self = self;
  gs_mutex_init (&probe->lock);
  return probe;
}

static GsiProbe *
probe_ref (GsiProbe *probe)
{
  __atomic_add_fetch (&probe->refs, 1, __ATOMIC_RELAXED);
  return probe;
}

void
gsi_probe_unref (GsiProbe *probe)
{
  if (probe == NULL || __atomic_sub_fetch (&probe->refs, 1, __ATOMIC_ACQ_REL) > 0)
    return;
  gs_mutex_clear (&probe->lock);
  g_free (probe->name);
  g_free (probe->virtual_storage);
  g_free (probe->problem);
  g_free (probe);
}

/* -------------------------------------------------------------------------------------------- asking */

static gboolean
ignore_row (const GsRepoRow *row, gpointer user)
{
  return FALSE;
}

/* A cheap question that a store or disk which is away cannot answer. */
static void
probe_ask (GsiProbe *probe)
{
  g_autoptr (GError) why = NULL;
  GsIdentity identity;
  GsCall call;

  gsi_own_call_init (&call, &identity, "readiness");
  call.deadline_us = gsi_clock_now_us () + GSI_PROBE_PATIENCE_US;
  if (probe->metadata != NULL)
    {
      if (!probe->metadata->repo_list (probe->self, &call, probe->virtual_storage, "", "", 1, ignore_row, NULL, &why)
          && why == NULL)
        gs_fail (&why, GS_ERROR_INTERNAL, "failed without saying why");
    }
  else
    {
      GsRepo nobody = { sizeof nobody, 0, "@r/00/00/0.git" };
      gboolean exists;
      if (!probe->storage->exists (probe->self, &call, &nobody, &exists, &why) && why == NULL)
        gs_fail (&why, GS_ERROR_INTERNAL, "failed without saying why");
    }
  gs_mutex_lock (&probe->lock);
  probe->asking = FALSE;
  probe->answered_us = gsi_clock_now_us ();
  g_free (probe->problem);
  probe->problem = why != NULL ? g_strdup (why->message) : NULL;
  gs_mutex_unlock (&probe->lock);
}

static void
ask_work (gpointer user)
{
  Question *question = user;
  probe_ask (question->probe);
  gsi_probe_unref (question->probe);
  gsi_wiring_unref (question->wiring);
  g_free (question);
}

/* Asks, unless it has not answered the last question yet: what hangs holds up one worker and no more. */
static void
ask_later (GsiServer *server, GsiProbe *probe, GsiWiring *wiring)
{
  Question *question;
  gboolean asking;
  gs_mutex_lock (&probe->lock);
  asking = probe->asking;
  probe->asking = TRUE;
  gs_mutex_unlock (&probe->lock);
  if (asking)
    return;
  question = g_new (Question, 1);
  *question = (Question) { probe_ref (probe), gsi_wiring_ref (wiring) };
  if (gsi_pool_submit (server->workers, ask_work, question, NULL))
    return;
  /* The pool is full: the answer grows old, and that is told. */
  gs_mutex_lock (&probe->lock);
  probe->asking = FALSE;
  gs_mutex_unlock (&probe->lock);
  gsi_probe_unref (probe);
  gsi_wiring_unref (wiring);
  g_free (question);
}

static void
round_work (gpointer user)
{
  GsiServer *server = user;
  GsiWiring *wiring;
  GsiGeneration *generation = gsi_server_hold (server, &wiring);
  for (guint i = 0; i < generation->probes->len; i++)
    ask_later (server, generation->probes->pdata[i], wiring);
  gsi_wiring_unref (wiring);
  gsi_probes_start (server);
}

void
gsi_probes_start (GsiServer *server)
{
  if (!__atomic_load_n (&server->stopping, __ATOMIC_ACQUIRE))
    gsi_timer_add (server->timers, GSI_PROBE_EVERY_US, round_work, server);
}

static void
recheck_work (gpointer user)
{
  GsiServer *server = user;
  gsi_rpc_recheck (server->rpc);
  gsi_rechecks_start (server);
}

void
gsi_rechecks_start (GsiServer *server)
{
  if (!__atomic_load_n (&server->stopping, __ATOMIC_ACQUIRE))
    gsi_timer_add (server->timers, GSI_RECHECK_EVERY_US, recheck_work, server);
}

/* ------------------------------------------------------------------------------------ making, looking */

/* The probe of @before for the same instance, or a new one that has been asked once. */
static void
add_probe (GsiGeneration *generation, GsiGeneration *before, GsiProbe *probe)
{
  for (guint i = 0; before != NULL && i < before->probes->len; i++)
    {
      GsiProbe *known = before->probes->pdata[i];
      if (known->self != probe->self || known->what != probe->what
          || g_strcmp0 (known->virtual_storage, probe->virtual_storage) != 0)
        continue;
      g_ptr_array_add (generation->probes, probe_ref (known));
      gsi_probe_unref (probe);
      return;
    }
  probe_ask (probe);
  g_ptr_array_add (generation->probes, probe);
}

void
gsi_probes_make (GsiGeneration *generation, GsiGeneration *before)
{
  static const char metadata[] = "metadata store", storage[] = "storage";
  const GsiRouterConfig *config = gsi_router_config (generation->router);
  GsiInstance *store = gsi_registry_get (generation->registry, GS_KIND_METADATA, NULL);
  GsiProbe *probe = probe_new (metadata, gsi_instance (store)->name, config->metadata_self);

  probe->metadata = config->metadata;
  probe->virtual_storage = g_strdup (config->n_virtual_storages > 0 ? config->virtual_storages[0]->name : "default");
  add_probe (generation, before, probe);
  for (gsize i = 0; i < config->n_storages; i++)
    {
      if (config->storages[i]->ops->probe != NULL)
        continue; /* of another process: see pages.c */
      probe = probe_new (storage, config->storages[i]->name, config->storages[i]->self);
      probe->storage = config->storages[i]->ops;
      add_probe (generation, before, probe);
    }
}

static void
result_clear (gpointer data)
{
  g_free (((GsiProbeResult *) data)->problem);
}

GArray *
gsi_probes_look (GsiGeneration *generation)
{
  GArray *results = g_array_new (FALSE, TRUE, sizeof (GsiProbeResult));
  gint64 now_us = gsi_clock_now_us ();
  g_array_set_clear_func (results, result_clear);
  for (guint i = 0; i < generation->probes->len; i++)
    {
      GsiProbe *probe = generation->probes->pdata[i];
      GsiProbeResult result = { .what = probe->what, .name = probe->name };
      gs_mutex_lock (&probe->lock);
      result.age_us = MAX (now_us - probe->answered_us, 0);
      result.problem = g_strdup (probe->problem);
      gs_mutex_unlock (&probe->lock);
      if (result.age_us > GSI_PROBE_PATIENCE_US)
        {
          g_free (result.problem);
          result.problem = g_strdup_printf ("no answer for %" G_GINT64_FORMAT " s", result.age_us / G_USEC_PER_SEC);
        }
      g_array_append_val (results, result);
    }
  return results;
}
