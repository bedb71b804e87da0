/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers: plugins that stand between an instance and its callers (gitstead/layer.h). An instance owns its layers; the
 * rest of the core sees only what to call, GsiInstance.outer.
 */
#include "plugin/registry-private.h"

#include "base/text.h"

#include <gitstead/layer.h>

struct GsiLayer
{
  char *label; /* "layer fault of storage default" */
  const GsiPlugin *plugin;
  GsiOptions *options;
  GsiHost *host;
  gpointer self;
  gboolean running;
};

/* -------------------------------------------------------------------------------------------- reading */

static void
layer_free (gpointer data)
{
  GsiLayer *layer = data;
  gsi_host_free (layer->host);
  gsi_options_free (layer->options);
  g_free (layer->label);
  g_free (layer);
}

static void
read_layer (GsiRegistry *registry, GsiInstance *instance, const GsiNode *node, GsiProblems *problems)
{
  static const char *const others[] = { "plugin", NULL };
  const GsiNode *name = node->type == GSI_NODE_MAPPING ? gsi_node_get (node, "plugin") : NULL;
  g_autoptr (GError) error = NULL;
  const GsiPlugin *plugin;
  GsiLayer *layer;

  if (name == NULL || name->type != GSI_NODE_SCALAR || name->empty)
    {
      g_autofree char *found = gsi_settings_found (registry, GS_KIND_LAYER);
      gsi_problems_add (problems, name != NULL ? name : node, "%s: layers wants mappings such as {plugin: NAME, …} (%s)",
                        instance->label, found);
      return;
    }
  plugin = gsi_loader_load (registry->loader, GS_KIND_LAYER, name->text, &error);
  if (plugin == NULL)
    {
      gsi_problems_add (problems, name, "%s: %s", instance->label, error->message);
      return;
    }
  if (plugin->plugin.needs != NULL && plugin->plugin.needs->role != NULL)
    gsi_problems_add (problems, name, "%s: the layer \"%s\" has needs, which layers cannot have", instance->label,
                      plugin->plugin.name);
  layer = g_new0 (GsiLayer, 1);
  layer->plugin = plugin;
  layer->label = g_strdup_printf ("layer %s of %s", plugin->plugin.name, instance->label);
  layer->options = gsi_options_new (plugin->plugin.options, node, layer->label, others, problems);
  g_ptr_array_add (instance->layers, layer);
}

void
gsi_layers_read (GsiRegistry *registry, GsiInstance *instance, GsiProblems *problems)
{
  const GsiNode *node = instance->node != NULL ? gsi_node_get (instance->node, "layers") : NULL;

  instance->layers = g_ptr_array_new_with_free_func (layer_free);
  if (node == NULL || !gsi_kind_has_layers (instance->pub.kind))
    return;
  if (node->type != GSI_NODE_SEQUENCE)
    {
      gsi_problems_add (problems, node, "%s: layers wants a sequence such as [{plugin: NAME, …}], not %s",
                        instance->label, gsi_node_kind (node));
      return;
    }
  for (guint i = 0; i < node->n_items; i++)
    read_layer (registry, instance, node->items[i], problems);
}

void
gsi_layers_free (GsiInstance *instance)
{
  g_clear_pointer (&instance->layers, g_ptr_array_unref);
}

gboolean
gsi_layers_equal (const GsiInstance *one, const GsiInstance *other)
{
  g_autoptr (GString) text = g_string_new (NULL), other_text = g_string_new (NULL);
  gsi_layers_print (one, 0, text);
  gsi_layers_print (other, 0, other_text);
  return g_string_equal (text, other_text);
}

void
gsi_layers_print (const GsiInstance *instance, guint indent, GString *out)
{
  if (instance->layers == NULL || instance->layers->len == 0)
    return;
  g_string_append_printf (out, "%*slayers:\n", (int) indent, "");
  for (guint i = 0; i < instance->layers->len; i++)
    {
      const GsiLayer *layer = instance->layers->pdata[i];
      g_string_append_printf (out, "%*s- plugin: ", (int) indent + 2, "");
      gsi_text_append_json (out, layer->plugin->path, -1);
      g_string_append_c (out, '\n');
      gsi_options_print (layer->options, indent + 4, out);
    }
}

/* ----------------------------------------------------------------------------------------------- life */

static gboolean
no_needs (gpointer user, const char *role, GsInstance *ret_instance)
{
  return FALSE;
}

/* Puts who before a layer's own message, and makes one when it gave none. */
static gboolean
tell (const GsiLayer *layer, const char *doing, const char *slot, GError *found, GError **error)
{
  const GsiPlugin *plugin = layer->plugin;

  if (found != NULL)
    return gs_fail (error, (GsErrorCode) gs_error_code (found), "%s %s (plugin %s %s): %s", doing, layer->label,
                    plugin->plugin.name, plugin->plugin.version, found->message);
  return gs_fail (error, GS_ERROR_INTERNAL,
                  "%s %s (plugin %s %s): its %s function failed without saying why. This is a bug of %s", doing,
                  layer->label, plugin->plugin.name, plugin->plugin.version, slot, plugin->path);
}

static gboolean
create_one (GsiInstance *instance, GsiLayer *layer, const GsiHostSetup *setup, GError **error)
{
  const GsPlugin *plugin = &layer->plugin->plugin;
  GsInstance outer = { .size = sizeof outer };
  g_autoptr (GError) failed = NULL;

  layer->host = gsi_host_new (setup, layer->label, no_needs, NULL);
  layer->self = plugin->create (gsi_host_get (layer->host), gsi_options_config (layer->options), &failed);
  if (layer->self == NULL)
    return tell (layer, "Creating", "create", failed, error);
  if (!((const GsLayerOps *) plugin->ops)->wrap (layer->self, &instance->outer, &outer, &failed))
    return tell (layer, "Creating", "wrap", failed, error);
  /* Name and kind are the instance's, whatever the layer says. */
  instance->outer.self = outer.self;
  instance->outer.ops = outer.ops;
  return TRUE;
}

gboolean
gsi_layers_create (GsiInstance *instance, const GsiHostSetup *setup, GError **error)
{
  instance->outer = instance->pub;
  for (guint i = instance->layers->len; i-- > 0;)
    if (!create_one (instance, instance->layers->pdata[i], setup, error))
      return FALSE;
  return TRUE;
}

void
gsi_layers_destroy (GsiInstance *instance)
{
  for (guint i = 0; i < instance->layers->len; i++)
    {
      GsiLayer *layer = instance->layers->pdata[i];
      if (layer->self == NULL)
        continue;
      gsi_host_quiesce (layer->host);
      layer->plugin->plugin.destroy (layer->self);
      layer->self = NULL;
    }
}

gboolean
gsi_layers_start (GsiInstance *instance, GError **error)
{
  for (guint i = instance->layers->len; i-- > 0;)
    {
      GsiLayer *layer = instance->layers->pdata[i];
      const GsPlugin *plugin = &layer->plugin->plugin;
      g_autoptr (GError) failed = NULL;
      if (plugin->start != NULL && !plugin->start (layer->self, &failed))
        {
          tell (layer, "Starting", "start", failed, error);
          gsi_host_quiesce (layer->host);
          gsi_layers_stop (instance);
          return FALSE;
        }
      layer->running = TRUE;
    }
  return TRUE;
}

void
gsi_layers_drain (GsiInstance *instance)
{
  for (guint i = 0; i < instance->layers->len; i++)
    {
      GsiLayer *layer = instance->layers->pdata[i];
      if (layer->running && layer->plugin->plugin.drain != NULL)
        layer->plugin->plugin.drain (layer->self);
    }
}

void
gsi_layers_stop (GsiInstance *instance)
{
  for (guint i = 0; i < instance->layers->len; i++)
    {
      GsiLayer *layer = instance->layers->pdata[i];
      if (!layer->running)
        continue;
      if (layer->plugin->plugin.stop != NULL)
        layer->plugin->plugin.stop (layer->self);
      gsi_host_quiesce (layer->host);
      layer->running = FALSE;
    }
}
