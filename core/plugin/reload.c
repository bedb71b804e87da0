/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From one registry to the next: which instances are carried over, which are made anew, which wait for a restart.
 *
 * An instance whose plugin, needs and effective options are the same goes on running: a storage or a cache locks its
 * folder, a transport its address, so a second one could not be had beside it. See docs/decisions/0017-reload.md.
 */
#include "plugin/registry-private.h"

#include <string.h>

static void
change_free (gpointer data)
{
  GsiConfigChange *change = data;
  g_free (change->what);
  g_free (change->detail);
  g_free (change);
}

/* Takes @detail. */
static void
add_change (GPtrArray *changes, GsiChangeKind kind, const char *what, char *detail)
{
  GsiConfigChange *change = g_new0 (GsiConfigChange, 1);
  change->kind = kind;
  change->what = g_strdup (what);
  change->detail = detail != NULL ? detail : g_strdup ("");
  g_ptr_array_add (changes, change);
}

GPtrArray *
gsi_changes_copy (const GPtrArray *changes)
{
  GPtrArray *copy = g_ptr_array_new_with_free_func (change_free);
  for (guint i = 0; i < changes->len; i++)
    {
      const GsiConfigChange *one = changes->pdata[i];
      add_change (copy, one->kind, one->what, g_strdup (one->detail));
    }
  return copy;
}

const char *
gsi_change_name (GsiChangeKind kind)
{
  static const char *const names[] = { "added", "removed", "replaced", "adjusted", "needs a restart" };
  return (guint) kind < G_N_ELEMENTS (names) ? names[kind] : "unknown";
}

/* ---------------------------------------------------------------------------------------- one instance */

typedef enum
{
  FATE_NEW,     /* a new one, beside the old one if there is any */
  FATE_KEEP,    /* the old one goes on */
  FATE_ADJUST,  /* the old one takes the new options */
  FATE_RESTART  /* the old one goes on with its old options */
} Fate;

/* The instance that stands in @fresh for @need: one carried over, or a new one. */
static GsiInstance *
stands_for (GHashTable *carried, GsiInstance *need)
{
  GsiInstance *old = need != NULL ? g_hash_table_lookup (carried, need) : NULL;
  return old != NULL ? old : need;
}

static gboolean
same_needs (GHashTable *carried, const GsiInstance *was, const GsiInstance *now)
{
  if (was->n_needs != now->n_needs)
    return FALSE;
  for (gsize i = 0; i < now->n_needs; i++)
    if (was->needs[i] != stands_for (carried, now->needs[i]))
      return FALSE;
  return TRUE;
}

static gboolean
all_reloadable (GPtrArray *diff)
{
  for (guint i = 0; i < diff->len; i++)
    if ((((const GsiOptionChange *) diff->pdata[i])->row->flags & GS_OPTION_RELOADABLE) == 0)
      return FALSE;
  return TRUE;
}

/* What no second instance can be had of beside the first, or not without two stores that tell different things. */
static gboolean
stands_alone (const GsiInstance *was, const GsiInstance *now, gboolean reloadable)
{
  switch (now->pub.kind)
    {
    case GS_KIND_STORAGE:
      return TRUE;
    case GS_KIND_METADATA:
      return !reloadable;
    case GS_KIND_TRANSPORT:
      return gsi_options_share (was->options, now->options, "listen");
    default:
      return FALSE;
    }
}

static Fate
fate_of (GHashTable *carried, const GsiInstance *was, const GsiInstance *now, GPtrArray *diff)
{
  gboolean same_plugin = strcmp (was->plugin->path, now->plugin->path) == 0;
  gboolean needs = same_needs (carried, was, now);
  gboolean layers = gsi_layers_equal (was, now);
  gboolean reloadable = same_plugin && layers && all_reloadable (diff);

  if (same_plugin && needs && layers && diff->len == 0)
    return FATE_KEEP;
  if (same_plugin && needs && reloadable && was->plugin->plugin.adjust != NULL)
    return FATE_ADJUST;
  return stands_alone (was, now, reloadable) ? FATE_RESTART : FATE_NEW;
}

static char *
join_diff (GPtrArray *diff)
{
  GString *text = g_string_new (NULL);
  for (guint i = 0; i < diff->len; i++)
    g_string_append_printf (text, "%s%s", i > 0 ? ", " : "", ((const GsiOptionChange *) diff->pdata[i])->text);
  return g_string_free (text, FALSE);
}

static char *
why_changed (GHashTable *carried, const GsiInstance *was, const GsiInstance *now, GPtrArray *diff)
{
  if (strcmp (was->plugin->path, now->plugin->path) != 0)
    return g_strdup_printf ("plugin: %s -> %s", was->plugin->plugin.name, now->plugin->plugin.name);
  if (diff->len > 0)
    return join_diff (diff);
  if (!gsi_layers_equal (was, now))
    return g_strdup ("its layers change");
  for (gsize i = 0; i < now->n_needs; i++)
    if (i >= was->n_needs || was->needs[i] != stands_for (carried, now->needs[i]))
      return g_strdup_printf ("its %s changes", now->plugin->plugin.needs[i].role);
  return NULL;
}

/* One that a removal left behind and that still runs for calls under way: it may hold a folder. */
static GsiInstance *
find_left_behind (GPtrArray *retired, GHashTable *carried, const GsiInstance *now)
{
  for (guint i = retired != NULL ? retired->len : 0; i-- > 0;)
    {
      GsiInstance *was = gsi_registry_get (retired->pdata[i], now->pub.kind, now->name);
      g_autoptr (GPtrArray) diff = NULL;
      if (was == NULL || !was->running || now->pub.kind == GS_KIND_TRANSPORT
          || strcmp (was->plugin->path, now->plugin->path) != 0 || !same_needs (carried, was, now)
          || !gsi_layers_equal (was, now))
        continue;
      diff = gsi_options_diff (was->options, now->options);
      if (diff->len == 0)
        return was;
    }
  return NULL;
}

/* Decides on one instance of @fresh; its needs have been decided on. */
static gboolean
follow_one (GsiRegistry *before, GPtrArray *retired, GHashTable *carried, GsiInstance *now, GPtrArray *changes,
            GError **error)
{
  GsiInstance *was = gsi_registry_get (before, now->pub.kind, now->name), *left;
  g_autoptr (GPtrArray) diff = NULL;
  Fate fate;

  if (was == NULL)
    {
      if ((left = find_left_behind (retired, carried, now)) != NULL)
        g_hash_table_insert (carried, now, left);
      add_change (changes, GSI_CHANGE_ADDED, now->label, g_strdup_printf ("plugin: %s", now->plugin->plugin.name));
      return TRUE;
    }
  diff = gsi_options_diff (was->options, now->options);
  fate = fate_of (carried, was, now, diff);
  if (fate == FATE_RESTART && !same_needs (carried, was, now))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "%s cannot be changed while the server runs, and what it needs is changed with it: restart the "
                    "server to take this configuration",
                    now->label);
  if (fate == FATE_ADJUST)
    was->wanted = g_steal_pointer (&now->options);
  if (fate != FATE_NEW)
    g_hash_table_insert (carried, now, was);
  else if ((left = find_left_behind (retired, carried, now)) != NULL)
    g_hash_table_insert (carried, now, left);
  if (fate == FATE_ADJUST)
    add_change (changes, GSI_CHANGE_ADJUSTED, now->label, join_diff (diff));
  else if (fate != FATE_KEEP)
    add_change (changes, fate == FATE_RESTART ? GSI_CHANGE_RESTART : GSI_CHANGE_REPLACED, now->label,
                why_changed (carried, was, now, diff));
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ the rest */

static void
follow_server (const GsiRegistry *before, GsiRegistry *fresh, GPtrArray *changes)
{
  g_autoptr (GPtrArray) diff = gsi_options_diff (before->server, fresh->server);
  for (guint i = 0; i < diff->len; i++)
    {
      const GsiOptionChange *one = diff->pdata[i];
      add_change (changes,
                  (one->row->flags & GS_OPTION_RELOADABLE) != 0 ? GSI_CHANGE_ADJUSTED : GSI_CHANGE_RESTART, "server",
                  g_strdup (one->text));
    }
  gsi_options_retain (fresh->server, before->server);
}

static void
follow_core_options (const GsiRegistry *before, const GsiRegistry *fresh, GPtrArray *changes)
{
  for (GsiInstance *const *one = gsi_registry_all (fresh, GS_KIND_STORAGE); *one != NULL; one++)
    {
      GsiInstance *was = gsi_registry_get (before, GS_KIND_STORAGE, (*one)->name);
      g_autoptr (GPtrArray) diff = NULL;
      if (was == NULL)
        continue;
      diff = gsi_options_diff (gsi_registry_core_options (before, was), gsi_registry_core_options (fresh, *one));
      if (diff->len > 0)
        add_change (changes, GSI_CHANGE_ADJUSTED, (*one)->label, join_diff (diff));
    }
}

static char *
virtual_diff (const GsiVirtualStorage *was, const GsiVirtualStorage *now)
{
  GString *text = g_string_new (NULL);
  if (!g_strv_equal (was->storages, now->storages))
    {
      g_autofree char *old = g_strjoinv (", ", (char **) was->storages);
      g_autofree char *new = g_strjoinv (", ", (char **) now->storages);
      g_string_append_printf (text, "storages: [%s] -> [%s]", old, new);
    }
  if (was->copies != now->copies)
    g_string_append_printf (text, "%scopies: %" G_GSIZE_FORMAT " -> %" G_GSIZE_FORMAT, text->len > 0 ? ", " : "",
                            was->copies, now->copies);
  if (was->min_copies != now->min_copies)
    g_string_append_printf (text, "%smin_copies: %" G_GSIZE_FORMAT " -> %" G_GSIZE_FORMAT, text->len > 0 ? ", " : "",
                            was->min_copies, now->min_copies);
  return g_string_free (text, FALSE);
}

static void
follow_virtuals (const GsiRegistry *before, const GsiRegistry *fresh, GPtrArray *changes)
{
  const GsiVirtualStorage *first = gsi_registry_virtual_storage (before, NULL);
  const GsiVirtualStorage *now_first = gsi_registry_virtual_storage (fresh, NULL);

  for (const GsiVirtualStorage *const *now = gsi_registry_virtual_storages (fresh); *now != NULL; now++)
    {
      const GsiVirtualStorage *was = gsi_registry_virtual_storage (before, (*now)->name);
      g_autofree char *what = g_strdup_printf ("virtual storage %s", (*now)->name);
      g_autofree char *diff = was != NULL ? virtual_diff (was, *now) : NULL;
      if (was == NULL)
        add_change (changes, GSI_CHANGE_ADDED, what, NULL);
      else if (diff[0] != '\0')
        add_change (changes, GSI_CHANGE_ADJUSTED, what, g_steal_pointer (&diff));
    }
  for (const GsiVirtualStorage *const *was = gsi_registry_virtual_storages (before); *was != NULL; was++)
    if (gsi_registry_virtual_storage (fresh, (*was)->name) == NULL)
      {
        g_autofree char *what = g_strdup_printf ("virtual storage %s", (*was)->name);
        add_change (changes, GSI_CHANGE_REMOVED, what, NULL);
      }
  if (first != NULL && now_first != NULL && strcmp (first->name, now_first->name) != 0)
    add_change (changes, GSI_CHANGE_ADJUSTED, "virtual storages",
                g_strdup_printf ("default: %s -> %s", first->name, now_first->name));
}

/* -------------------------------------------------------------------------------------- carrying over */

static void
carry_list (GPtrArray *list, GHashTable *carried)
{
  for (guint i = 0; i < list->len; i++)
    if (list->pdata[i] != NULL)
      list->pdata[i] = stands_for (carried, list->pdata[i]);
}

/* Puts the old instances in the place of those that were read. */
static void
carry_over (GsiRegistry *fresh, GHashTable *carried)
{
  GHashTableIter iter;
  gpointer now, was;

  for (guint i = 0; i < fresh->instances->len; i++)
    {
      GsiInstance *instance = fresh->instances->pdata[i];
      for (gsize need = 0; need < instance->n_needs; need++)
        instance->needs[need] = stands_for (carried, instance->needs[need]);
    }
  carry_list (fresh->instances, carried);
  carry_list (fresh->order, carried);
  for (guint32 kind = 0; kind <= GS_KIND_MAX; kind++)
    carry_list (fresh->by_kind[kind], carried);
  for (guint i = 0; i < fresh->virtuals->len; i++)
    {
      GsiVirtual *virtual = fresh->virtuals->pdata[i];
      carry_list (virtual->instances, carried);
      virtual->pub.routing = stands_for (carried, virtual->pub.routing);
      virtual->pub.consistency = stands_for (carried, virtual->pub.consistency);
    }
  g_hash_table_iter_init (&iter, carried);
  while (g_hash_table_iter_next (&iter, &now, &was))
    {
      gpointer options = NULL;
      if (g_hash_table_steal_extended (fresh->core_options, now, NULL, &options))
        g_hash_table_insert (fresh->core_options, was, options);
      ((GsiInstance *) was)->refs++;
      ((GsiInstance *) was)->node = NULL; /* of a file that need not stay */
      gsi_instance_unref (now);
    }
}

static void
drop_wanted (GsiRegistry *registry)
{
  for (guint i = 0; i < registry->instances->len; i++)
    g_clear_pointer (&((GsiInstance *) registry->instances->pdata[i])->wanted, gsi_options_free);
}

GPtrArray *
gsi_registry_follow (GsiRegistry *fresh, GsiRegistry *before, GPtrArray *retired, GError **error)
{
  g_autoptr (GHashTable) carried = g_hash_table_new (NULL, NULL);
  g_autoptr (GPtrArray) changes = g_ptr_array_new_with_free_func (change_free);

  follow_server (before, fresh, changes);
  for (guint i = 0; i < fresh->order->len; i++)
    if (!follow_one (before, retired, carried, fresh->order->pdata[i], changes, error))
      {
        drop_wanted (before);
        return NULL;
      }
  for (guint i = 0; i < before->instances->len; i++)
    {
      const GsiInstance *was = before->instances->pdata[i];
      if (gsi_registry_get (fresh, was->pub.kind, was->name) == NULL)
        add_change (changes, GSI_CHANGE_REMOVED, was->label, NULL);
    }
  carry_over (fresh, carried);
  follow_core_options (before, fresh, changes);
  follow_virtuals (before, fresh, changes);
  return g_steal_pointer (&changes);
}

/* -------------------------------------------------------------------------------- taking in place */

gboolean
gsi_registry_adjust (GsiRegistry *fresh, GError **error)
{
  for (guint i = 0; i < fresh->order->len; i++)
    {
      GsiInstance *instance = fresh->order->pdata[i];
      const GsPlugin *plugin = &instance->plugin->plugin;
      const GsiOptions *options = instance->wanted != NULL ? instance->wanted : instance->options;
      g_autoptr (GError) why = NULL;

      if (plugin->adjust == NULL || !instance->running || instance->refs < 2)
        continue; /* a new one has just read all there is */
      instance->adjusting = plugin->adjust (instance->pub.self, gsi_options_config (options), &why);
      if (instance->adjusting != NULL)
        continue;
      gsi_registry_adjusted (fresh, FALSE);
      if (why == NULL)
        return gs_fail (error, GS_ERROR_INTERNAL,
                        "Adjusting %s (plugin %s %s): its adjust function failed without saying why. This is a bug of %s",
                        instance->label, plugin->name, plugin->version, instance->plugin->path);
      return gs_fail (error, (GsErrorCode) gs_error_code (why), "Adjusting %s (plugin %s %s): %s", instance->label,
                      plugin->name, plugin->version, why->message);
    }
  return TRUE;
}

void
gsi_registry_adjusted (GsiRegistry *fresh, gboolean take)
{
  for (guint i = 0; i < fresh->instances->len; i++)
    {
      GsiInstance *instance = fresh->instances->pdata[i];
      gpointer change = g_steal_pointer (&instance->adjusting);
      if (change != NULL)
        instance->plugin->plugin.adjusted (instance->pub.self, change, take);
      if (take && instance->wanted != NULL)
        {
          gsi_options_free (instance->options);
          instance->options = g_steal_pointer (&instance->wanted);
        }
      g_clear_pointer (&instance->wanted, gsi_options_free);
    }
}

GPtrArray *
gsi_registry_gone (const GsiRegistry *before, const GsiRegistry *after, guint32 kinds)
{
  GPtrArray *gone = g_ptr_array_new ();
  for (guint i = 0; i < before->order->len; i++)
    {
      GsiInstance *instance = before->order->pdata[i];
      if ((kinds & GSI_KIND_BIT (instance->pub.kind)) != 0 && instance->running
          && !g_ptr_array_find (after->instances, instance, NULL))
        g_ptr_array_add (gone, instance);
    }
  return gone;
}

void
gsi_instance_drain (GsiInstance *instance)
{
  gsi_layers_drain (instance);
  if (instance->plugin->plugin.drain != NULL)
    instance->plugin->plugin.drain (instance->pub.self);
}
