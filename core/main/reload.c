/* SPDX-License-Identifier: Apache-2.0 */
/* Reloading the configuration. See reload.h. */
#include "main/reload.h"

#include <gitstead/transport.h>

#include "base/clock.h"
#include "router/settle.h"

/* How late a call that is cancelled or out of time may notice while it waits for the main thread. */
#define LOOK_US 50000

/* ------------------------------------------------------------------------------------------ the old one */

void
gsi_reload_reap (GsiServer *server)
{
  gint64 grace_us = gsi_options_integer (gsi_registry_server (server->now->registry), "shutdown_grace");
  for (guint i = 0; i < server->retired->len;)
    {
      GsiGeneration *old = server->retired->pdata[i];
      gboolean over = __atomic_load_n (&old->released, __ATOMIC_ACQUIRE) != 0;
      guint n_calls = 0;
      /* A connection of an address that was taken away goes on: its later calls are of a later generation. */
      for (guint j = 0; j < old->gone->len; j++)
        n_calls += gsi_instance_calls (old->gone->pdata[j]);
      if (!over || (n_calls > 0 && gsi_clock_now_us () - old->retired_us < grace_us))
        {
          i++;
          continue;
        }
      g_ptr_array_remove_index (server->retired, i);
      if (n_calls > 0)
        gsi_log (server->log, GS_LOG_WARNING, "reload.grace.over", GS_NUMBER ("in_flight", n_calls));
      gsi_generation_free (old);
      gsi_log (server->log, GS_LOG_DEBUG, "reload.drained", GS_NUMBER ("left", server->retired->len));
    }
}

/* ------------------------------------------------------------------------------------------ the new one */

/* Storages that the server did not have may hold writes that an earlier process left staged. */
static gboolean
is_new (const GsiStorage *storage, const GsiGeneration *before)
{
  for (guint i = 0; i < before->storages->len; i++)
    if (((const GsiStorage *) before->storages->pdata[i])->self == storage->self)
      return FALSE;
  return TRUE;
}

static gboolean
settle_new (GsiGeneration *next, GsiGeneration *before, GError **error)
{
  GsIdentity identity;
  GsCall call;
  gsi_own_call_init (&call, &identity, "recovery");
  for (guint i = 0; i < next->storages->len; i++)
    {
      const GsiStorage *storage = next->storages->pdata[i];
      if (!is_new (storage, before) || gsi_router_settle (next->router, storage, &call, error))
        continue;
      g_prefix_error (error, "storage '%s': ", storage->name);
      return FALSE;
    }
  return TRUE;
}

/* All that can fail, beside what runs. */
static gboolean
prepare (GsiServer *server, GsiGeneration *next, GError **error)
{
  const GsiOptions *options = gsi_registry_server (next->registry);
  g_autofree char *topics = NULL;
  GsiLogSettings settings = gsi_server_log_settings (options, &topics);

  if (!gsi_registry_create (next->registry, &server->setup, error)
      || !gsi_registry_start (next->registry, GSI_KINDS_INNER, error))
    return FALSE;
  gsi_generation_wire (next, server->now);
  return settle_new (next, server->now, error) && gsi_registry_adjust (next->registry, error)
         && gsi_registry_start (next->registry, GSI_KIND_BIT (GS_KIND_TRANSPORT), error)
         && gsi_log_set_levels (server->log, &settings, error);
}

static void
log_endpoints (GsiServer *server, GsiGeneration *next, GsiGeneration *before)
{
  g_autoptr (GPtrArray) come = gsi_registry_gone (next->registry, before->registry, GSI_KIND_BIT (GS_KIND_TRANSPORT));
  for (guint i = 0; i < come->len; i++)
    {
      const GsiInstance *transport = come->pdata[i];
      g_auto (GStrv) urls = GSI_OPS (transport, GsTransportOps)->endpoints (GSI_SELF (transport));
      for (guint j = 0; urls != NULL && urls[j] != NULL; j++)
        gsi_log (server->log, GS_LOG_INFO, "server.listening", GS_TEXT ("url", urls[j]));
    }
}

/* Nothing here can fail. */
static void
switch_over (GsiServer *server, GsiGeneration *next)
{
  GsiGeneration *before = server->now;
  const gint64 every_us = gsi_options_integer (gsi_registry_server (next->registry), "maintenance_interval");
  const gboolean interval
      = every_us != gsi_options_integer (gsi_registry_server (before->registry), "maintenance_interval");
  const guint32 keepers = GSI_KIND_BIT (GS_KIND_STORAGE) | GSI_KIND_BIT (GS_KIND_METADATA);
  g_autoptr (GPtrArray) disks = gsi_registry_gone (before->registry, next->registry, keepers);

  gsi_registry_adjusted (next->registry, TRUE);
  gsi_router_take_over (next->router);
  gsi_rpc_set_wiring (server->rpc, next->wiring);
  /* They would hold on to what was replaced for as long as they last. */
  gsi_events_end_streams (server->events);
  gs_mutex_lock (&server->lock);
  server->now = next;
  gs_mutex_unlock (&server->lock);

  before->retired_us = gsi_clock_now_us ();
  before->gone = gsi_registry_gone (before->registry, next->registry, GSI_KIND_BIT (GS_KIND_TRANSPORT));
  for (guint i = 0; i < before->gone->len; i++)
    gsi_instance_drain (before->gone->pdata[i]);
  if (disks->len > 0) /* a round of housekeeping may take hours; the next one begins anew */
    gsi_router_maintain_stop (before->router);
  g_ptr_array_add (server->retired, before);
  log_endpoints (server, next, before);
  /* What settle_new had to put off was asked of a router that did not know the storage. */
  for (guint i = 0; i < next->storages->len; i++)
    if (is_new (next->storages->pdata[i], before))
      gsi_router_settle_later (next->router, next->storages->pdata[i]);
  gsi_wiring_unref (g_steal_pointer (&before->wiring));
  if (interval)
    gsi_server_maintain_every (server, every_us);
}

/* Is there anything for which a new generation must be made? */
static gboolean
worth_switching (GPtrArray *changes)
{
  for (guint i = 0; i < changes->len; i++)
    if (((const GsiConfigChange *) changes->pdata[i])->kind != GSI_CHANGE_RESTART)
      return TRUE;
  return FALSE;
}

static void
log_changes (GsiServer *server, GPtrArray *changes, gint64 began_us)
{
  for (guint i = 0; i < changes->len; i++)
    {
      const GsiConfigChange *one = changes->pdata[i];
      gsi_log (server->log, one->kind == GSI_CHANGE_RESTART ? GS_LOG_WARNING : GS_LOG_INFO, "reload.change",
               GS_TEXT ("what", one->what), GS_TEXT ("change", gsi_change_name (one->kind)),
               GS_TEXT ("detail", one->detail));
    }
  gsi_log (server->log, GS_LOG_INFO, "server.reloaded", GS_TEXT ("config", server->config_path),
           GS_NUMBER ("changes", changes->len), GS_NUMBER ("us", gsi_clock_now_us () - began_us));
}

static gboolean
reload (GsiServer *server, GPtrArray **ret_changes, GError **error)
{
  gint64 began_us = gsi_clock_now_us ();
  GsiRegistry *registry = gsi_registry_load_after (server->config_path, server->now->registry, error);
  g_autoptr (GPtrArray) registries = g_ptr_array_new ();
  g_autoptr (GPtrArray) changes = NULL;
  GsiGeneration *next;

  if (registry == NULL)
    return FALSE;
  for (guint i = 0; i < server->retired->len; i++)
    g_ptr_array_add (registries, ((GsiGeneration *) server->retired->pdata[i])->registry);
  changes = gsi_registry_follow (registry, server->now->registry, registries, error);
  if (changes == NULL)
    {
      gsi_registry_free (registry);
      return FALSE;
    }
  if (!worth_switching (changes))
    {
      /* The files that the options name may be new all the same. */
      gboolean fine = gsi_registry_adjust (registry, error);
      if (fine)
        gsi_registry_adjusted (registry, TRUE);
      gsi_registry_free (registry);
      if (!fine)
        return FALSE;
    }
  else
    {
      next = gsi_generation_new (server, registry);
      if (!prepare (server, next, error))
        {
          gsi_generation_free (next);
          return FALSE;
        }
      switch_over (server, next);
    }
  log_changes (server, changes, began_us);
  if (ret_changes != NULL)
    *ret_changes = g_steal_pointer (&changes);
  return TRUE;
}

static gboolean
reload_now (GsiServer *server, GPtrArray **ret_changes, GError **error)
{
  g_autoptr (GError) why = NULL;
  gboolean reopened = gsi_log_reopen (server->log, &why);

  if (reopened && reload (server, ret_changes, &why))
    return TRUE;
  gsi_log (server->log, GS_LOG_ERROR, "server.reload.refused", GSI_LOG_ERROR_FIELDS (why));
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

gboolean
gsi_server_reload (GsiServer *server, GPtrArray **ret_changes, GError **error)
{
  gsi_reload_reap (server);
  return reload_now (server, ret_changes, error);
}

/* --------------------------------------------------------------------------------------- asked by calls */

/* On the stack of the call that waits; guarded by the server's lock. */
typedef struct
{
  gboolean done;
  GPtrArray *changes;
  GError *error;
} Asked;

gboolean
gsi_reload_ask (GsiServer *server, GsCall *call, GPtrArray **ret_changes, GError **error)
{
  Asked asked = { 0 };
  gboolean refused;

  gs_mutex_lock (&server->lock);
  refused = __atomic_load_n (&server->stopping, __ATOMIC_ACQUIRE) != 0;
  if (!refused)
    g_queue_push_tail (&server->reloads, &asked);
  gs_mutex_unlock (&server->lock);
  if (refused)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "the server is stopping and reloads nothing any more");
  gsi_server_wake (server);

  gs_mutex_lock (&server->lock);
  while (!asked.done)
    {
      gs_cond_wait_until (&server->reloaded, &server->lock, gsi_clock_now_us () + LOOK_US);
      /* One that has begun is waited for: it ends by itself, and its outcome should be told. */
      if (!asked.done && !gs_call_check (call, "waiting for the reload to begin", NULL)
          && g_queue_remove (&server->reloads, &asked))
        {
          gs_call_check (call, "waiting for the reload to begin", &asked.error);
          break;
        }
    }
  gs_mutex_unlock (&server->lock);
  if (asked.error != NULL)
    {
      g_propagate_error (error, asked.error);
      return FALSE;
    }
  *ret_changes = asked.changes;
  return TRUE;
}

static void
answer (GsiServer *server, GQueue *taken, GPtrArray *changes, const GError *error)
{
  Asked *asked;
  gs_mutex_lock (&server->lock);
  while ((asked = g_queue_pop_head (taken)) != NULL)
    {
      asked->changes = changes != NULL ? gsi_changes_copy (changes) : NULL;
      asked->error = error != NULL ? g_error_copy (error) : NULL;
      asked->done = TRUE;
    }
  gs_cond_broadcast (&server->reloaded);
  gs_mutex_unlock (&server->lock);
}

static void
take (GsiServer *server, GQueue *ret_taken)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&server->lock);
  *ret_taken = server->reloads;
  g_queue_init (&server->reloads);
}

void
gsi_reload_asked (GsiServer *server)
{
  g_autoptr (GPtrArray) changes = NULL;
  g_autoptr (GError) error = NULL;
  GQueue taken;
  /* Before they are taken: to stop an address may mean to wait for one of them, which can still withdraw now. */
  gsi_reload_reap (server);
  take (server, &taken);
  if (taken.length == 0)
    return;
  reload_now (server, &changes, &error);
  answer (server, &taken, changes, error);
}

void
gsi_reload_refuse (GsiServer *server)
{
  g_autoptr (GError) error
      = g_error_new (GS_ERROR, GS_ERROR_UNAVAILABLE, "the server is stopping and reloads nothing any more");
  GQueue taken;
  take (server, &taken);
  answer (server, &taken, NULL, error);
}
