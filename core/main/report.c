/* SPDX-License-Identifier: Apache-2.0 */
/* Reports of this process' disks, and looks at the others. See report.h. */
#include "main/report.h"

#include "base/clock.h"
#include "main/gate.h"
#include "main/server.h"
#include "router/settle.h"

/* Of the metadata store's answer to one report. */
#define PATIENCE_US (5 * G_USEC_PER_SEC)

/* Where routers reach this process: the first listener that other machines could use. *full*, "" when there is none. */
static char *
own_address (GsiServer *server)
{
  g_auto (GStrv) endpoints = gsi_server_endpoints (server);
  for (guint i = 0; endpoints[i] != NULL; i++)
    if (g_str_has_prefix (endpoints[i], "tcp://") || g_str_has_prefix (endpoints[i], "tls+tcp://"))
      return g_strdup (endpoints[i]);
  return g_strdup ("");
}

static void
report_storage (GsiServer *server, GsiGeneration *generation, const GsiStorage *storage, const char *address)
{
  const GsiRouterConfig *config = gsi_router_config (generation->router);
  GsNodeRow row = { .size = sizeof row, .storage = storage->name, .instance = server->instance, .address = address,
                    .zone = storage->zone };
  GsDisk disk = { .size = sizeof disk };
  g_autoptr (GError) why = NULL;
  GsNodeState state;
  GsIdentity identity;
  GsCall call;
  if (storage->ops->disk == NULL || config->metadata->node_report == NULL)
    return;
  gsi_own_call_init (&call, &identity, "report");
  call.deadline_us = gsi_clock_now_us () + PATIENCE_US;
  if (storage->ops->disk (storage->self, &disk, &why))
    {
      row.disk_id = disk.id;
      row.free_bytes = MIN (disk.free_bytes, (guint64) G_MAXINT64);
      row.total_bytes = MIN (disk.total_bytes, (guint64) G_MAXINT64);
      config->metadata->node_report (config->metadata_self, &call, &row, &state, &why);
    }
  /* Two disks under one name, or one disk twice: whoever came second must not answer for the first. */
  if (server->serve != NULL && (why == NULL || gs_error_code (why) == GS_ERROR_FAILED_PRECONDITION))
    gsi_serve_refuse (server->serve, storage->name, why != NULL ? why->message : NULL);
  /* A store that is away is told of elsewhere. */
  if (why != NULL && gs_error_code (why) != GS_ERROR_UNAVAILABLE)
    gsi_log (server->log, GS_LOG_ERROR, "node.report.refused", GS_TEXT ("storage", storage->name),
             GS_TEXT ("error", why->message));
}

/* The disks of this process: others report their own. */
static void
report_all (GsiServer *server, GsiGeneration *generation)
{
  g_autofree char *address = own_address (server);
  const GsiRouterConfig *config = gsi_router_config (generation->router);
  for (gsize i = 0; i < config->n_storages; i++)
    if (config->storages[i]->ops->probe == NULL)
      report_storage (server, generation, config->storages[i], address);
}

static void
round_work (gpointer user)
{
  GsiServer *server = user;
  gint64 now_us = gsi_clock_now_us ();
  GsiWiring *wiring;
  GsiGeneration *generation = gsi_server_hold (server, &wiring);
  /* Where no other process relies on it, a disk need not be kept awake. */
  gint64 every_us = server->exports->len > 0 ? GSI_REPORT_EVERY_US : GSI_REPORT_ALONE_US;
  if (now_us - server->reported_us >= every_us || server->reported_us == 0)
    {
      server->reported_us = now_us;
      gsi_gates_look (server, generation);
      report_all (server, generation);
    }
  else if (gsi_gates_closed (generation))
    {
      gsi_gates_look (server, generation); /* an operator may have accepted the disk */
      if (!gsi_gates_closed (generation))
        server->reported_us = 0;
    }
  if (gsi_router_config (generation->router)->n_virtual_storages > 0)
    gsi_router_look_at_nodes (generation->router, NULL); /* the store's absence is told by its own probe */
  gsi_wiring_unref (wiring);
  if (!__atomic_load_n (&server->stopping, __ATOMIC_ACQUIRE))
    gsi_timer_add (server->timers, GSI_REPORT_LOOK_US, round_work, server);
}

void
gsi_report_start (GsiServer *server)
{
  const GsHost *host = gsi_host_get (server->host);
  while ((server->instance & G_MAXINT64) == 0)
    host->random (host, &server->instance, sizeof server->instance);
  server->instance &= G_MAXINT64; /* stores keep it as a signed number */
  if (!__atomic_load_n (&server->stopping, __ATOMIC_ACQUIRE))
    gsi_timer_add (server->timers, 0, round_work, server);
}
