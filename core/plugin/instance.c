/* SPDX-License-Identifier: Apache-2.0 */
/* One instance: what it is, and whose turn it is to call it. */
#include "plugin/registry-private.h"

#include "base/clock.h"

/* How late a cancelled call may notice while it waits for its turn. */
#define LOOK_US 50000

GsiInstance *
gsi_instance_new (GsiRegistry *registry, guint32 kind, const char *name, const GsiNode *node)
{
  GsiInstance *instance = g_new0 (GsiInstance, 1);

  instance->refs = 1;
  instance->loader = gsi_loader_ref (registry->loader);
  instance->name = g_strdup (name);
  instance->label = g_strdup_printf ("%s %s", gsi_kind_name (kind), name);
  instance->node = node;
  instance->pub.size = sizeof (GsInstance);
  instance->pub.kind = kind;
  instance->pub.name = instance->name;
  instance->outer = instance->pub;
  instance->turns = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  gs_mutex_init (&instance->lock);
  gs_cond_init (&instance->turn);
  g_ptr_array_add (registry->instances, instance);
  g_ptr_array_insert (registry->by_kind[kind], (gint) registry->by_kind[kind]->len - 1, instance);
  return instance;
}

void
gsi_instance_unref (GsiInstance *instance)
{
  if (instance == NULL || --instance->refs > 0)
    return;
  gsi_layers_free (instance);
  gsi_host_free (instance->host);
  gsi_options_free (instance->options);
  gsi_options_free (instance->wanted);
  g_hash_table_unref (instance->turns);
  gs_mutex_clear (&instance->lock);
  gs_cond_clear (&instance->turn);
  g_free (instance->needs);
  g_free (instance->name);
  g_free (instance->label);
  gsi_loader_free (instance->loader);
  g_free (instance);
}

const GsInstance *
gsi_instance (const GsiInstance *instance)
{
  return &instance->outer;
}

const GsiPlugin *
gsi_instance_plugin (const GsiInstance *instance)
{
  return instance->plugin;
}

const GsiOptions *
gsi_instance_options (const GsiInstance *instance)
{
  return instance->options;
}

guint
gsi_instance_calls (const GsiInstance *instance)
{
  return instance->host != NULL ? gsi_host_calls (instance->host) : 0;
}

gboolean
gsi_instance_running (const GsiInstance *instance)
{
  return instance->running;
}

/* The turn that a call must take. FALSE: none. */
static gboolean
which_turn (const GsiInstance *instance, guint64 repository_id, guint64 *ret_turn)
{
  switch (instance->plugin->plugin.threads)
    {
    case GS_THREADS_SERIAL:
      *ret_turn = 0;
      return TRUE;
    case GS_THREADS_PER_REPO:
      *ret_turn = repository_id;
      return repository_id != 0;
    default:
      return FALSE;
    }
}

gboolean
gsi_instance_enter (GsiInstance *instance, guint64 repository_id, GsCall *call, GError **error)
{
  guint64 turn = 0;

  if (!which_turn (instance, repository_id, &turn))
    return TRUE;
  gs_mutex_lock (&instance->lock);
  while (g_hash_table_contains (instance->turns, &turn))
    {
      gint64 until = call != NULL ? MIN (call->deadline_us, gsi_clock_now_us () + LOOK_US) : G_MAXINT64;
      if (call != NULL && !gs_call_check (call, "Waiting for a turn", NULL))
        {
          gs_mutex_unlock (&instance->lock);
          g_autofree char *doing = g_strdup_printf ("Waiting for a turn on %s", instance->label);
          return gs_call_check (call, doing, error);
        }
      gs_cond_wait_until (&instance->turn, &instance->lock, until);
    }
  g_hash_table_add (instance->turns, g_memdup2 (&turn, sizeof turn));
  gs_mutex_unlock (&instance->lock);
  return TRUE;
}

void
gsi_instance_leave (GsiInstance *instance, guint64 repository_id)
{
  guint64 turn = 0;

  if (!which_turn (instance, repository_id, &turn))
    return;
  gs_mutex_lock (&instance->lock);
  g_hash_table_remove (instance->turns, &turn);
  gs_cond_broadcast (&instance->turn);
  gs_mutex_unlock (&instance->lock);
}
