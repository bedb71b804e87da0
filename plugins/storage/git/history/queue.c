/* SPDX-License-Identifier: Apache-2.0 */
/* The heap of the walks: see view.h. */
#include "history/view.h"

void
hist_queue_init (HistQueue *queue)
{
  queue->items = g_array_new (FALSE, FALSE, sizeof (HistItem));
  queue->order = 0;
}

void
hist_queue_clear (HistQueue *queue)
{
  g_clear_pointer (&queue->items, g_array_unref);
}

static inline gboolean
before (const HistItem *a, const HistItem *b)
{
  if (a->key != b->key)
    return a->key > b->key;
  if (a->second != b->second)
    return a->second > b->second;
  return a->order < b->order;
}

void
hist_queue_push (HistQueue *queue, guint32 pos, guint64 key, guint64 second)
{
  HistItem item = { key, second, queue->order++, pos };
  g_array_append_val (queue->items, item);
  HistItem *items = (HistItem *) (gpointer) queue->items->data;
  guint at = queue->items->len - 1;
  for (; at > 0 && before (&item, &items[(at - 1) / 2]); at = (at - 1) / 2)
    items[at] = items[(at - 1) / 2];
  items[at] = item;
}

gboolean
hist_queue_pop (HistQueue *queue, HistItem *ret_item)
{
  HistItem *items = (HistItem *) (gpointer) queue->items->data;
  guint n = queue->items->len, at = 0;
  if (n == 0)
    return FALSE;
  *ret_item = items[0];
  HistItem last = items[--n];
  g_array_set_size (queue->items, n);
  if (n == 0)
    return TRUE;
  for (guint child; (child = 2 * at + 1) < n; at = child)
    {
      if (child + 1 < n && before (&items[child + 1], &items[child]))
        child++;
      if (!before (&items[child], &last))
        break;
      items[at] = items[child];
    }
  items[at] = last;
  return TRUE;
}
