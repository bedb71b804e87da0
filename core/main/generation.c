/* SPDX-License-Identifier: Apache-2.0 */
/* From a registry's instances to router and wiring. See generation.h. */
#include "main/generation.h"

#include "main/gate.h"
#include "main/probe.h"
#include "main/server.h"

static void
storage_free (gpointer data)
{
  GsiStorage *storage = data;
  g_free ((char *) storage->zone);
  g_free (storage);
}

GsiGeneration *
gsi_generation_new (GsiServer *server, GsiRegistry *registry)
{
  GsiGeneration *generation = g_new0 (GsiGeneration, 1);
  generation->server = server;
  generation->registry = registry;
  generation->storages = g_ptr_array_new_with_free_func (storage_free);
  generation->groups = g_ptr_array_new_with_free_func (g_free);
  generation->policies = g_array_new (FALSE, FALSE, sizeof (GsiPolicy));
  generation->probes = g_ptr_array_new_with_free_func ((GDestroyNotify) gsi_probe_unref);
  return generation;
}

void
gsi_generation_free (GsiGeneration *generation)
{
  if (generation == NULL)
    return;
  gsi_wiring_unref (g_steal_pointer (&generation->wiring));
  g_clear_pointer (&generation->gone, g_ptr_array_unref);
  gsi_router_free (generation->router);
  g_ptr_array_unref (generation->probes);
  gsi_registry_free (generation->registry);
  g_ptr_array_unref (generation->storages);
  g_ptr_array_unref (generation->groups);
  g_array_unref (generation->policies);
  g_free (generation);
}

void
gsi_generation_limits (const GsiRegistry *registry, GsiRpcLimits *ret_limits)
{
  const GsiOptions *options = gsi_registry_server (registry);
  gsi_rpc_limits_default (ret_limits);
  ret_limits->max_streams = (guint) gsi_options_integer (options, "streams");
  ret_limits->max_in_flight = (guint) gsi_options_integer (options, "max_in_flight");
  ret_limits->max_in_flight_per_repository = (guint) gsi_options_integer (options, "max_per_repository");
  ret_limits->max_message_bytes = (gsize) gsi_options_integer (options, "max_message");
  ret_limits->default_timeout_us = gsi_options_integer (options, "call_timeout");
  ret_limits->keep_outcome_us = gsi_options_integer (options, "idempotency_window");
  ret_limits->keep_outcomes = (guint) gsi_options_integer (options, "idempotency_entries");
}

static const GsiStorage *
find_storage (GsiGeneration *generation, const char *name)
{
  for (guint i = 0; i < generation->storages->len; i++)
    if (strcmp (((const GsiStorage *) generation->storages->pdata[i])->name, name) == 0)
      return generation->storages->pdata[i];
  return NULL;
}

static void
make_group (GsiGeneration *generation, const GsiVirtualStorage *configured)
{
  gsize n = configured->n_storages;
  /* One block: the group and, behind it, its list of storages. */
  GsiStorageGroup *group = g_malloc0 (sizeof *group + n * sizeof (GsiStorage *));
  const GsiStorage **storages = (const GsiStorage **) (group + 1);
  for (gsize i = 0; i < n; i++)
    storages[i] = find_storage (generation, configured->storages[i]);
  group->name = configured->name;
  group->storages = storages;
  group->n_storages = n;
  group->routing = GSI_OPS (configured->routing, GsRoutingOps);
  group->routing_self = GSI_SELF (configured->routing);
  group->consistency = GSI_OPS (configured->consistency, GsConsistencyOps);
  group->consistency_self = GSI_SELF (configured->consistency);
  group->n_copies = configured->copies;
  group->min_copies = configured->min_copies;
  g_ptr_array_add (generation->groups, group);
}

static void
make_policy (GsiGeneration *generation, const GsiInstance *instance)
{
  const GsiPolicy policy = { gsi_instance (instance)->name, GSI_OPS (instance, GsConsistencyOps), GSI_SELF (instance) };
  g_array_append_val (generation->policies, policy);
}

static void
make_storage (GsiGeneration *generation, const GsiInstance *instance)
{
  const GsiOptions *options = gsi_registry_core_options (generation->registry, instance);
  GsiStorage *storage = g_new0 (GsiStorage, 1);
  const char *zone = gsi_options_string (options, "zone");
  storage->name = gsi_instance (instance)->name;
  storage->ops = GSI_OPS (instance, GsStorageOps);
  storage->self = GSI_SELF (instance);
  storage->zone = g_strdup (zone != NULL ? zone : "");
  storage->weight = gsi_options_integer (options, "weight");
  storage->reads = gsi_server_reads (generation->server, storage->name);
  gsi_gate_put (generation->server, storage);
  g_ptr_array_add (generation->storages, storage);
}

/* The last call has ended, on whatever thread that was: the main loop frees what is left. */
static void
note_released (gpointer user)
{
  GsiGeneration *generation = user;
  GsiServer *server = generation->server;
  /* From here on the main loop may free it. */
  __atomic_store_n (&generation->released, 1, __ATOMIC_RELEASE);
  gsi_server_wake (server);
}

void
gsi_generation_wire (GsiGeneration *generation, GsiGeneration *before)
{
  GsiRegistry *registry = generation->registry;
  GsiServer *server = generation->server;
  GsiInstance *metadata = gsi_registry_get (registry, GS_KIND_METADATA, NULL);
  GsiInstance *access = gsi_registry_get (registry, GS_KIND_ACCESS, NULL);
  GsiInstance *cache = gsi_registry_get (registry, GS_KIND_CACHE, NULL);
  GsiWiringSetup wiring = { .released = note_released, .released_user = generation };
  const GsiOptions *options = gsi_registry_server (registry);
  GsiRouterConfig config = { 0 };

  for (GsiInstance *const *one = gsi_registry_all (registry, GS_KIND_STORAGE); *one != NULL; one++)
    make_storage (generation, *one);
  for (const GsiVirtualStorage *const *one = gsi_registry_virtual_storages (registry); *one != NULL; one++)
    make_group (generation, *one);
  for (GsiInstance *const *one = gsi_registry_all (registry, GS_KIND_CONSISTENCY); *one != NULL; one++)
    make_policy (generation, *one);
  config.policies = (const GsiPolicy *) generation->policies->data;
  config.n_policies = generation->policies->len;
  config.metadata = GSI_OPS (metadata, GsMetadataOps);
  config.metadata_self = GSI_SELF (metadata);
  config.access = GSI_OPS (access, GsAccessOps);
  config.access_self = GSI_SELF (access);
  config.cache = GSI_OPS (cache, GsCacheOps);
  config.cache_self = GSI_SELF (cache);
  config.storages = (const GsiStorage *const *) generation->storages->pdata;
  config.n_storages = generation->storages->len;
  config.virtual_storages = (const GsiStorageGroup *const *) generation->groups->pdata;
  config.n_virtual_storages = generation->groups->len;
  config.host = gsi_host_get (server->host);
  config.pool = server->participants;
  config.holds = gsi_server_holds;
  config.holds_user = server;
  config.events = server->events;
  config.care = (GsiCare) { .repair_rate = (guint64) gsi_options_integer (options, "repair_rate"),
                            .scrub_rate = (guint64) gsi_options_integer (options, "scrub_rate"),
                            .round_every_us = gsi_options_integer (options, "care_interval"),
                            .verify_every_us = gsi_options_integer (options, "verify_interval"),
                            .scrub_every_us = gsi_options_integer (options, "scrub_interval"),
                            .leftover_grace_us = gsi_options_integer (options, "leftover_grace"),
                            .move_grace_us = gsi_options_integer (options, "move_grace") };
  config.known_for_us = gsi_options_integer (options, "known_for");
  config.program = "gitstead/" GSI_VERSION;
  config.crash_at = gsi_options_string (options, "crash_at");

  gsi_generation_limits (registry, &wiring.limits);
  wiring.access = config.access;
  wiring.access_self = config.access_self;
  /* Router and wiring know each other; nobody uses either before both are whole. */
  generation->wiring = config.wiring = gsi_wiring_new (&wiring);
  generation->router = gsi_router_new_after (&config, before != NULL ? before->router : NULL);
  gsi_wiring_set_user (generation->wiring, generation->router);
  gsi_gates_look (server, generation); /* before anything else uses a storage */
  gsi_probes_make (generation, before);
}
