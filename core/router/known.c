/* SPDX-License-Identifier: Apache-2.0 */
/* Rows by virtual storage and path. See known.h. */
#include "router/known.h"

#include <gitstead/thread.h>

#define ROWS_MAX 16384
/* A row that has not moved on is copied again no sooner: reads of one repository come by the thousand. */
#define SAME_US (G_USEC_PER_SEC / 2)

typedef struct
{
  GsiRow *row;
  gint64 at_us;
} Entry;

struct GsiKnown
{
  gint refs; /* atomic */
  GsMutex lock;
  GHashTable *rows; /* "VIRTUAL-STORAGE PATH" -> Entry; names of virtual storages have no blanks */
};

static void
entry_free (gpointer data)
{
  Entry *entry = data;
  gsi_row_free (entry->row);
  g_free (entry);
}

GsiKnown *
gsi_known_new (void)
{
  GsiKnown *known = g_new0 (GsiKnown, 1);
  known->refs = 1;
  gs_mutex_init (&known->lock);
  known->rows = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, entry_free);
  return known;
}

GsiKnown *
gsi_known_ref (GsiKnown *known)
{
  __atomic_add_fetch (&known->refs, 1, __ATOMIC_RELAXED);
  return known;
}

void
gsi_known_unref (GsiKnown *known)
{
  if (known == NULL || __atomic_sub_fetch (&known->refs, 1, __ATOMIC_ACQ_REL) > 0)
    return;
  g_hash_table_destroy (known->rows);
  gs_mutex_clear (&known->lock);
  g_free (known);
}

static gboolean
is_same (const Entry *entry, const GsiRow *row, gint64 now_us)
{
  return entry != NULL && entry->row->id == row->id && entry->row->generation == row->generation
         && now_us - entry->at_us < SAME_US;
}

void
gsi_known_note (GsiKnown *known, const char *virtual_storage, const char *path, const GsiRow *row, gint64 now_us)
{
  g_autofree char *key = g_strconcat (virtual_storage, " ", path, NULL);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&known->lock);
  if (row == NULL)
    {
      g_hash_table_remove (known->rows, key);
      return;
    }
  if (is_same (g_hash_table_lookup (known->rows, key), row, now_us))
    return;
  if (g_hash_table_size (known->rows) >= ROWS_MAX)
    g_hash_table_remove_all (known->rows);
  Entry *entry = g_new0 (Entry, 1);
  entry->row = gsi_row_copy (row);
  entry->at_us = now_us;
  g_hash_table_replace (known->rows, g_steal_pointer (&key), entry);
}

GsiRow *
gsi_known_recall (GsiKnown *known, const char *virtual_storage, const char *path, gint64 now_us, gint64 age_us)
{
  g_autofree char *key = g_strconcat (virtual_storage, " ", path, NULL);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&known->lock);
  const Entry *entry = g_hash_table_lookup (known->rows, key);
  return entry != NULL && now_us - entry->at_us <= age_us ? gsi_row_copy (entry->row) : NULL;
}
