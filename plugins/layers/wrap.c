/* SPDX-License-Identifier: Apache-2.0 */
/* What the layers have in common. See wrap.h. */
#include "wrap.h"

#include <string.h>

void
wrap_list_init (WrapList *list, const GsHost *host, const GsConfig *config)
{
  list->host = host;
  list->chosen = g_strdupv ((char **) config->list (config, "slots"));
  list->wraps = g_ptr_array_new ();
}

void
wrap_list_clear (WrapList *list)
{
  for (guint i = 0; i < list->wraps->len; i++)
    {
      Wrap *wrap = list->wraps->pdata[i];
      g_free (wrap->ops);
      g_free (wrap);
    }
  g_ptr_array_unref (list->wraps);
  g_strfreev (list->chosen);
}

/* Every name that was chosen must be one of a slot. */
static gboolean
check_chosen (const WrapList *list, const WrapSlot *slots, GError **error)
{
  for (char **name = list->chosen; *name != NULL; name++)
    {
      g_autoptr (GString) known = g_string_new (NULL);
      const WrapSlot *slot = slots;
      for (; slot->name != NULL && strcmp (slot->name, *name) != 0; slot++)
        g_string_append_printf (known, "%s%s", known->len > 0 ? ", " : "", slot->name);
      if (slot->name == NULL)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "slots: there is no slot \"%s\" to choose; known: %s", *name,
                        known->str);
    }
  return TRUE;
}

gboolean
wrap_wrap (gpointer data, const GsInstance *inner, GsInstance *ret_outer, GError **error)
{
  WrapList *list = data;
  const WrapSlot *slots = wrap_slots (inner->kind);
  gsize size = 0;
  const void *table;
  Wrap *wrap;

  if (slots == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "%s: plugins of the kind %u are not wrapped", list->host->instance,
                    inner->kind);
  if (!check_chosen (list, slots, error))
    return FALSE;
  table = wrap_table (inner->kind, &size);
  wrap = g_new0 (Wrap, 1);
  wrap->list = list;
  wrap->inner = *inner;
  wrap->ops = g_memdup2 (table, size);
  /* Every member of a table is a function's address. */
  for (gsize i = 0; i < size / sizeof (gpointer); i++)
    if (((gpointer const *) inner->ops)[i] == NULL)
      wrap->ops[i] = NULL;
  g_ptr_array_add (list->wraps, wrap);
  ret_outer->size = sizeof *ret_outer;
  ret_outer->kind = inner->kind;
  ret_outer->self = wrap;
  ret_outer->ops = wrap->ops;
  ret_outer->name = inner->name;
  return TRUE;
}

gboolean
wrap_enter (const Wrap *wrap, WrapPass *pass, GError **error)
{
  const WrapList *list = wrap->list;

  pass->chosen = list->chosen[0] == NULL || g_strv_contains ((const char *const *) list->chosen, pass->slot->name);
  return wrap_before (wrap, pass, error);
}
