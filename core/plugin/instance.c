/* SPDX-License-Identifier: Apache-2.0 */
/* One instance: what it is. */
#include "plugin/turns.h"

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
  gsi_turns_init (instance);
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
  gsi_turns_clear (instance);
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
