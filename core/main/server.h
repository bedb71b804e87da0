/* SPDX-License-Identifier: Apache-2.0 */
/**
 * server.h - one running server: configuration, plugins, dispatch and router wired together.
 */
#ifndef GSI_MAIN_SERVER_H
#define GSI_MAIN_SERVER_H

#include "base/log.h"
#include "base/metrics.h"
#include "base/pool.h"
#include "main/generation.h"
#include "node/serve.h"
#include "router/repair.h"

#include <gitstead/thread.h>

/** Loads and checks @config_path. Nothing runs yet. NULL with every problem of the file, a line each. *full*. */
GsiServer *gsi_server_new (const char *config_path, GError **error);

/**
 * Starts everything: plugins in the order of their needs, then recovery of what an earlier process left staged, then
 * the transports. When it returns TRUE, every listener accepts calls. On failure what was started is stopped again.
 */
gboolean gsi_server_start (GsiServer *server, GError **error);

/** Takes no new calls, waits for those under way (at most the configured grace), stops all. After start. */
void gsi_server_stop (GsiServer *server);

/** Readable when gsi_server_turn has something to do. */
int gsi_server_wake_fd (GsiServer *server);
/** The main loop's: reloads that were asked for by calls, instances whose last call has ended, the log's counts. To be
 *  called when the descriptor is readable, and every second. */
void gsi_server_turn (GsiServer *server);

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
  GsiLog *log;
  GsiMetrics *metrics;
  GsiPool *workers, *streams, *participants;
  GsiTimers *timers;
  GsiHost *host; /* the core's own: the router speaks through it */
  GsiRpc *rpc;
  GsiEvents *events;
  GsiHostSetup setup; /* what instances are made with */
  GHashTable *reads;  /* storage's name -> guint32: reads under way, whatever generation they belong to */
  GPtrArray *gates;   /* before the storages (gate.c); added to by the main thread alone */
  GPtrArray *retired; /* of GsiGeneration: replaced, and not yet ended. Of the main thread */
  int wake_fd;        /* eventfd: the main loop has something to do */
  GsiServe *serve;
  GPtrArray *exports; /* of GsiStorage: those that routers of the cluster may use; our own copies */
  GPtrArray *lent;    /* of GsiInstance: what serve stands on, held whatever a reload makes of it */
  GHashTable *suspects; /* what the last round of housekeeping left for the next */
  guint64 instance;   /* random: this run of the process */
  gint64 reported_us; /* when its storages were last reported; of the reporting round alone */
  gint64 started_us;
  GsMutex lock;             /* of what follows */
  GsiGeneration *now;       /* changed by the main thread alone, which needs no lock to look */
  GQueue reloads;           /* calls that wait for a reload (reload.c) */
  GsCond reloaded;
  GsiRepairer *repairer;
  guint64 maintain_timer;   /* 0: none is set */
  gint stopping;  /* atomic */
  gint recovered; /* atomic: calls are taken */
};

/** Lends the storages that the configuration exports (server_node.c). After the router was made. */
gboolean gsi_server_make_node (GsiServer *server, GError **error);
/** Gives back what it lent. No call is under way any more. */
void gsi_server_node_clear (GsiServer *server);
/** Does the node's service hold that write? For the router's recovery. */
gboolean gsi_server_holds (gpointer server, const GsTxId *txid);

/** The Server service (server_calls.c); user data is the server. */
const GsiBinding *gsi_server_bindings (void);

/**
 * What the server has now, for as long as *@ret_wiring (*full*, gsi_wiring_unref) is held. For threads other than the
 * main one. Once gsi_generation_wire has been called.
 */
GsiGeneration *gsi_server_hold (GsiServer *server, GsiWiring **ret_wiring);
/** The counter of reads on the storage of that name; lives as long as @server. Main thread. */
guint32 *gsi_server_reads (GsiServer *server, const char *storage);
/** Makes the main loop look. Any thread. */
void gsi_server_wake (GsiServer *server);
/** The log's settings in the `server:` section. @ret_topics (*full*) must live as long as they are looked at. */
GsiLogSettings gsi_server_log_settings (const GsiOptions *options, char **ret_topics);
/** Sets the next round of housekeeping. */
void gsi_server_maintain_arm (GsiServer *server, gint64 every_us);
/** Housekeeping has another interval from now on. */
void gsi_server_maintain_every (GsiServer *server, gint64 every_us);

/** What keeps the server from being ready, one sentence each; empty when it is ready. *full*. Never blocks. */
GPtrArray *gsi_server_problems (GsiServer *server);
/** Renders a GS_PAGE_* (pages.c). */
GBytes *gsi_server_page (gpointer server, const char *page, gboolean *ret_ok);

#endif
