/* SPDX-License-Identifier: Apache-2.0 */
/* host.h - what stands behind GsHost: the services of the core, one GsHost per instance. */
#ifndef GSI_PLUGIN_HOST_H
#define GSI_PLUGIN_HOST_H

#include "base/log.h"
#include "base/metrics.h"
#include "base/pool.h"
#include <gitstead/host.h>

/**
 * The calls for transports, filled in by whoever dispatches. @user comes first; @instance is the calling transport's
 * ("transport http"). Semantics are those of the GsHost slots. All are needed before a transport is started.
 */
typedef struct
{
  gpointer user;
  gboolean (*method) (gpointer user, guint32 number, const char *name, GsMethodInfo *ret_info);
  GsCallHandle (*call_begin) (gpointer user, const char *instance, const GsInbound *inbound);
  void (*call_cancel) (gpointer user, GsCallHandle call);
  void (*call_ready) (gpointer user, GsCallHandle call);
  GBytes *(*page) (gpointer user, const char *page, gboolean *ret_ok);
} GsiHostServices;

/** What instances are made with. Everything borrowed until the registry is freed; services are copied. */
typedef struct
{
  GsiLog *log; /* may be NULL */
  GsiMetrics *metrics;
  GsiPool *pool;     /* host->submit */
  GsiTimers *timers; /* host->timer */
  GsiHostServices services;
} GsiHostSetup;

typedef struct GsiHost GsiHost;

/** Fills a declared need: the registry's side of host->need. */
typedef gboolean (*GsiHostNeed) (gpointer user, const char *role, GsInstance *ret_instance);

/** @instance as in "storage default". *full*. */
GsiHost *gsi_host_new (const GsiHostSetup *setup, const char *instance, GsiHostNeed need, gpointer user);
/** What the plugin gets; lives as long as @host. */
const GsHost *gsi_host_get (const GsiHost *host);
GsiLog *gsi_host_log (const GsiHost *host);
/** Calls that the instance began and that have not ended. */
guint gsi_host_calls (GsiHost *host);
/** Is somebody there to take a transport's calls? */
gboolean gsi_host_takes_calls (const GsiHost *host);
/**
 * Cancels the instance's timers and waits until no work that it submitted is queued or running and no call of it is: called between its stop
 * and its destroy. Work that it submits from now on is refused with UNAVAILABLE.
 */
void gsi_host_quiesce (GsiHost *host);
void gsi_host_free (GsiHost *host);

#endif
