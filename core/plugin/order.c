/* SPDX-License-Identifier: Apache-2.0 */
/* Which instance fills which need, and the order of start that follows. */
#include "plugin/registry-private.h"

#include "base/text.h"

#include <string.h>

/* ------------------------------------------------------------------------------------------- needs */

static GsiInstance *
find_named (GsiRegistry *registry, const GsiInstance *instance, const GsNeed *need, const GsiNode *node,
            GsiProblems *problems)
{
  GPtrArray *kind = registry->by_kind[need->kind];
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  const char *nearest;

  if (node->type != GSI_NODE_SCALAR || node->empty)
    {
      gsi_problems_add (problems, node, "%s: %s wants the name of a %s instance, not %s", instance->label, need->role,
                        gsi_kind_name (need->kind), gsi_node_kind (node));
      return NULL;
    }
  for (guint i = 0; i + 1 < kind->len; i++)
    {
      GsiInstance *other = g_ptr_array_index (kind, i);
      if (strcmp (other->name, node->text) != 0)
        g_ptr_array_add (names, other->name);
      else if (other != instance)
        return other;
      else
        {
          gsi_problems_add (problems, node, "%s: %s names the instance itself", instance->label, need->role);
          return NULL;
        }
    }
  nearest = gsi_text_nearest (node->text, (const char *const *) names->pdata, names->len);
  gsi_problems_add (problems, node, "%s: there is no %s instance \"%s\"%s%s%s", instance->label,
                    gsi_kind_name (need->kind), node->text, nearest != NULL ? "; did you mean \"" : "",
                    nearest != NULL ? nearest : "", nearest != NULL ? "\"?" : "");
  return NULL;
}

/* Nobody said which: only one can be meant. */
static GsiInstance *
find_only (GsiRegistry *registry, const GsiInstance *instance, const GsNeed *need, GsiProblems *problems)
{
  GPtrArray *kind = registry->by_kind[need->kind];
  g_autoptr (GString) names = g_string_new (NULL);
  GsiInstance *only = NULL;
  guint n = 0;

  for (guint i = 0; i + 1 < kind->len; i++)
    {
      GsiInstance *other = g_ptr_array_index (kind, i);
      if (other == instance)
        continue;
      only = other;
      g_string_append_printf (names, "%s%s", n++ > 0 ? ", " : "", other->name);
    }
  if (n > 1)
    {
      gsi_problems_add (problems, instance->node,
                        "%s: it needs a %s instance and there are %u (%s): add the line \"%s: NAME\" "
                        "to say which",
                        instance->label, gsi_kind_name (need->kind), n, names->str, need->role);
      return NULL;
    }
  if (n == 0 && (need->flags & GS_NEED_OPTIONAL) == 0)
    {
      g_autofree char *line = gsi_settings_line (need->kind), *found = gsi_settings_found (registry, need->kind);
      gsi_problems_add (problems, instance->node, "%s: it needs a %s instance and there is none: add \"%s\" (%s)",
                        instance->label, gsi_kind_name (need->kind), line, found);
    }
  return only;
}

static void
resolve (GsiRegistry *registry, GsiInstance *instance, GsiProblems *problems)
{
  const GsNeed *needs = instance->plugin != NULL ? instance->plugin->plugin.needs : NULL;

  while (needs != NULL && needs[instance->n_needs].role != NULL)
    instance->n_needs++;
  instance->needs = g_new0 (GsiInstance *, instance->n_needs);
  for (gsize i = 0; i < instance->n_needs; i++)
    {
      const GsiNode *node = instance->node != NULL ? gsi_node_get (instance->node, needs[i].role) : NULL;
      GsiInstance *other = node != NULL ? find_named (registry, instance, &needs[i], node, problems)
                                        : find_only (registry, instance, &needs[i], problems);
      /* A plugin calls its needs directly, so there is nobody to take turns for it. */
      if (other != NULL && other->plugin != NULL && other->plugin->plugin.threads != GS_THREADS_PARALLEL)
        gsi_problems_add (
            problems, node != NULL ? node : instance->node,
            "%s: its need \"%s\" cannot be filled by %s, whose plugin \"%s\" takes only one call at a time "
            "(threads %s)",
            instance->label, needs[i].role, other->label, other->plugin->plugin.name,
            gsi_threads_name (other->plugin->plugin.threads));
      instance->needs[i] = other;
    }
}

/* ------------------------------------------------------------------------------------------- order */

enum
{
  NEW,
  OPEN,
  DONE
};

typedef struct
{
  GsiInstance *instance;
  gsize next; /* need to look at */
} Step;

static void
complain_cycle (GArray *path, GsiInstance *again, GsiProblems *problems)
{
  g_autoptr (GString) text = g_string_new (NULL);
  const Step *last = &g_array_index (path, Step, path->len - 1);
  gboolean inside = FALSE;

  for (guint i = 0; i < path->len; i++)
    {
      GsiInstance *instance = g_array_index (path, Step, i).instance;
      inside = inside || instance == again;
      if (inside)
        g_string_append_printf (text, "%s needs ", instance->label);
    }
  g_string_append (text, again->label);
  gsi_problems_add (
      problems, last->instance->node,
      "instances need each other in a circle, so none can be started first: %s. Change the line \"%s: …\" of %s",
      text->str, last->instance->plugin->plugin.needs[last->next - 1].role, last->instance->label);
}

/* Depth first, on a stack of our own. Its length is bounded by the number of instances. */
static void
visit (GsiRegistry *registry, GsiInstance *first, GsiProblems *problems)
{
  g_autoptr (GArray) path = g_array_new (FALSE, FALSE, sizeof (Step));
  Step step = { first, 0 };

  first->mark = OPEN;
  g_array_append_val (path, step);
  while (path->len > 0)
    {
      Step *top = &g_array_index (path, Step, path->len - 1);
      GsiInstance *other;

      if (top->next == top->instance->n_needs)
        {
          top->instance->mark = DONE;
          g_ptr_array_add (registry->order, top->instance);
          g_array_set_size (path, path->len - 1);
          continue;
        }
      other = top->instance->needs[top->next++];
      if (other == NULL || other->mark == DONE)
        continue;
      if (other->mark == OPEN)
        {
          complain_cycle (path, other, problems);
          continue;
        }
      other->mark = OPEN;
      step.instance = other;
      g_array_append_val (path, step);
    }
}

void
gsi_order_resolve (GsiRegistry *registry, GsiProblems *problems)
{
  for (guint i = 0; i < registry->instances->len; i++)
    resolve (registry, g_ptr_array_index (registry->instances, i), problems);
  for (guint i = 0; i < registry->instances->len; i++)
    {
      GsiInstance *instance = g_ptr_array_index (registry->instances, i);
      if (instance->mark == NEW)
        visit (registry, instance, problems);
    }
}
