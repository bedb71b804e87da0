/* SPDX-License-Identifier: Apache-2.0 */
/**
 * server.h - one running server: configuration, plugins, dispatch and router wired together.
 */
#ifndef GSI_MAIN_SERVER_H
#define GSI_MAIN_SERVER_H

#include "base/log.h"
#include "base/metrics.h"
#include "base/pool.h"
#include "plugin/registry.h"
#include "node/serve.h"
#include "router/router.h"
#include "rpc/rpc.h"

typedef struct GsiServer GsiServer;

/** Loads and checks @config_path. Nothing runs yet. NULL with every problem of the file, a line each. *full*. */
GsiServer *gsi_server_new (const char *config_path, GError **error);

/**
 * Starts everything: plugins in the order of their needs, then recovery of what an earlier process left staged, then
 * the transports. When it returns TRUE, every listener accepts calls. On failure what was started is stopped again.
 */
gboolean gsi_server_start (GsiServer *server, GError **error);

/** Takes no new calls, waits for those under way (at most the configured grace), stops all. After start. */
void gsi_server_stop (GsiServer *server);

/** Reopens the log file and takes over log levels from the file on disk. */
gboolean gsi_server_reload (GsiServer *server, GError **error);

/** After stop. NULL is fine. */
void gsi_server_free (GsiServer *server);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiServer, gsi_server_free)

/** URLs that accept connections. *full* (g_strfreev). */
char **gsi_server_endpoints (GsiServer *server);
GsiLog *gsi_server_log (GsiServer *server);

/* ---- shared by the server's files ---- */

struct GsiServer
{
  char *config_path;
  GsiRegistry *registry;
  GsiLog *log;
  GsiMetrics *metrics;
  GsiPool *workers, *streams, *participants;
  GsiTimers *timers;
  GsiHost *host; /* the core's own: the router speaks through it */
  GsiRpc *rpc;
  GsiRouter *router;
  GsiServe *serve;
  GPtrArray *storages; /* of GsiStorage */
  GPtrArray *exports;  /* of GsiStorage: those that routers of the cluster may use */
  GPtrArray *groups;   /* of GsiStorageGroup */
  GHashTable *suspects; /* what the last round of housekeeping left for the next */
  gint64 started_us;
  gint stopping;  /* atomic */
  gint recovered; /* atomic: calls are taken */
};

/** Lends the storages that the configuration exports (server_node.c). After the router was made. */
gboolean gsi_server_make_node (GsiServer *server, GError **error);
/** Does the node's service hold that write? For the router's recovery. */
gboolean gsi_server_holds (gpointer server, const GsTxId *txid);

/** The Server service (server_calls.c); user data is the server. */
const GsiBinding *gsi_server_bindings (void);

/** What keeps the server from being ready, one sentence each; empty when it is ready. *full*. May block on disks. */
GPtrArray *gsi_server_problems (GsiServer *server);
/** Renders a GS_PAGE_* (pages.c). */
GBytes *gsi_server_page (gpointer server, const char *page, gboolean *ret_ok);

#endif
