/* SPDX-License-Identifier: Apache-2.0 */
/* At most once. See dedupe.h. */
#include "dedupe.h"

struct GsiDedupeEntry
{
  GsiDedupeKey key;
  char *caller;     /* what key.caller points to */
  gpointer leader;  /* runs; NULL once it ended */
  GQueue joined;    /* calls, borrowed */
  GsiEnd *end;      /* NULL while it runs */
  gint64 until_us;  /* kept so long */
  gsize n_bytes;
  GList link;       /* in GsiDedupe.kept */
};

struct GsiDedupe
{
  GHashTable *entries; /* GsiDedupeEntry, a set; owned */
  GQueue kept;         /* ended entries, the oldest first */
  gsize kept_bytes;
  gint64 keep_us;
  guint max_outcomes;
  gsize max_bytes;
};

/* ------------------------------------------------------------------------------------------------ GsiEnd */

GsiEnd *
gsi_end_new (GsErrorCode code, const char *message, gint64 retry_after_us, GBytes *payload)
{
  GsiEnd *end = g_new0 (GsiEnd, 1);
  end->refs = 1;
  end->code = code;
  end->retry = gs_error_retry (code);
  end->retry_after_us = retry_after_us;
  /* It travels as a protobuf string, and texts of the system need not be UTF-8. */
  end->message = message ? g_utf8_make_valid (message, -1) : NULL;
  end->payload = payload ? g_bytes_ref (payload) : NULL;
  return end;
}

GsiEnd *
gsi_end_ref (GsiEnd *end)
{
  g_atomic_int_inc (&end->refs);
  return end;
}

void
gsi_end_unref (GsiEnd *end)
{
  if (end == NULL || !g_atomic_int_dec_and_test (&end->refs))
    return;
  g_free (end->message);
  g_clear_pointer (&end->payload, g_bytes_unref);
  g_clear_pointer (&end->details, g_bytes_unref);
  g_free (end);
}

/* ----------------------------------------------------------------------------------------------- entries */

static guint
entry_hash (gconstpointer data)
{
  const GsiDedupeEntry *entry = data;
  guint32 bits;
  /* Ids are random; where a client's are not, its own calls share a bucket. */
  memcpy (&bits, entry->key.id.bytes, sizeof bits);
  return bits ^ g_str_hash (entry->key.caller);
}

static gboolean
entry_equal (gconstpointer a, gconstpointer b)
{
  const GsiDedupeEntry *left = a, *right = b;
  return memcmp (&left->key.id, &right->key.id, sizeof left->key.id) == 0
         && strcmp (left->key.caller, right->key.caller) == 0;
}

static void
entry_free (gpointer data)
{
  GsiDedupeEntry *entry = data;
  g_queue_clear (&entry->joined);
  gsi_end_unref (entry->end);
  g_free (entry->caller);
  g_free (entry);
}

GsiDedupe *
gsi_dedupe_new (gint64 keep_us, guint max_outcomes, gsize max_bytes)
{
  GsiDedupe *dedupe = g_new0 (GsiDedupe, 1);
  dedupe->entries = g_hash_table_new_full (entry_hash, entry_equal, entry_free, NULL);
  g_queue_init (&dedupe->kept);
  dedupe->keep_us = keep_us;
  dedupe->max_outcomes = max_outcomes;
  dedupe->max_bytes = max_bytes;
  return dedupe;
}

void
gsi_dedupe_set_limits (GsiDedupe *dedupe, gint64 keep_us, guint max_outcomes, gsize max_bytes)
{
  dedupe->keep_us = keep_us;
  dedupe->max_outcomes = max_outcomes;
  dedupe->max_bytes = max_bytes;
}

void
gsi_dedupe_free (GsiDedupe *dedupe)
{
  if (dedupe == NULL)
    return;
  g_hash_table_unref (dedupe->entries);
  g_free (dedupe);
}

static void
drop_oldest (GsiDedupe *dedupe)
{
  GsiDedupeEntry *entry = dedupe->kept.head->data;
  g_queue_unlink (&dedupe->kept, &entry->link);
  dedupe->kept_bytes -= entry->n_bytes;
  g_hash_table_remove (dedupe->entries, entry);
}

void
gsi_dedupe_sweep (GsiDedupe *dedupe, gint64 now_us)
{
  while (dedupe->kept.head != NULL && ((GsiDedupeEntry *) dedupe->kept.head->data)->until_us <= now_us)
    drop_oldest (dedupe);
}

guint
gsi_dedupe_kept (const GsiDedupe *dedupe)
{
  return dedupe->kept.length;
}

static GsiDedupeVerdict
meet (GsiDedupeEntry *entry, const GsiDedupeKey *key, gpointer call, GsiDedupeEntry **ret_entry, GsiEnd **ret_end)
{
  if (entry->key.method != key->method || memcmp (entry->key.hash, key->hash, sizeof key->hash) != 0)
    return GSI_DEDUPE_OTHER;
  if (entry->end == NULL && key->stream)
    return GSI_DEDUPE_STREAMING;
  if (entry->end == NULL)
    {
      g_queue_push_tail (&entry->joined, call);
      *ret_entry = entry;
      return GSI_DEDUPE_JOIN;
    }
  if (key->stream && entry->end->code == GS_OK)
    return GSI_DEDUPE_STREAMED;
  *ret_end = gsi_end_ref (entry->end);
  return GSI_DEDUPE_KEPT;
}

GsiDedupeVerdict
gsi_dedupe_enter (GsiDedupe *dedupe, const GsiDedupeKey *key, gpointer call, gint64 now_us,
                  GsiDedupeEntry **ret_entry, GsiEnd **ret_end)
{
  GsiDedupeEntry probe = { .key = *key }, *entry;
  gsi_dedupe_sweep (dedupe, now_us);
  entry = g_hash_table_lookup (dedupe->entries, &probe);
  if (entry != NULL)
    return meet (entry, key, call, ret_entry, ret_end);
  entry = g_new0 (GsiDedupeEntry, 1);
  entry->key = *key;
  entry->caller = g_strdup (key->caller);
  entry->key.caller = entry->caller;
  entry->leader = call;
  entry->link.data = entry;
  g_queue_init (&entry->joined);
  g_hash_table_add (dedupe->entries, entry);
  *ret_entry = entry;
  return GSI_DEDUPE_LEAD;
}

gboolean
gsi_dedupe_awaited (const GsiDedupeEntry *entry)
{
  return entry->joined.length > 0;
}

void
gsi_dedupe_leave (GsiDedupeEntry *entry, gpointer call)
{
  g_queue_remove (&entry->joined, call);
}

static void
keep (GsiDedupe *dedupe, GsiDedupeEntry *entry, GsiEnd *end, gint64 now_us)
{
  entry->leader = NULL;
  entry->end = gsi_end_ref (end);
  entry->until_us = now_us + dedupe->keep_us;
  if (entry->key.stream && end->code == GS_OK)
    {
      /* A stream is not sent again: that it succeeded is all that will be asked. */
      gsi_end_unref (entry->end);
      entry->end = gsi_end_new (GS_OK, NULL, 0, NULL);
    }
  entry->n_bytes = sizeof *entry + strlen (entry->caller)
                   + (entry->end->payload ? g_bytes_get_size (entry->end->payload) : 0)
                   + (entry->end->message ? strlen (entry->end->message) : 0)
                   + (entry->end->details ? g_bytes_get_size (entry->end->details) : 0);
  g_queue_push_tail_link (&dedupe->kept, &entry->link);
  dedupe->kept_bytes += entry->n_bytes;
  while (dedupe->kept.length > dedupe->max_outcomes || dedupe->kept_bytes > dedupe->max_bytes)
    drop_oldest (dedupe);
}

GPtrArray *
gsi_dedupe_finish (GsiDedupe *dedupe, GsiDedupeEntry *entry, GsiEnd *end, gboolean may_inherit, gint64 now_us,
                   gpointer *ret_heir)
{
  GPtrArray *others = NULL;
  gpointer call;
  *ret_heir = NULL;
  /* The reason was the leader's alone: those who still wait want the work done. */
  if (may_inherit && (end->code == GS_ERROR_CANCELLED || end->code == GS_ERROR_DEADLINE_EXCEEDED)
      && entry->joined.length > 0)
    {
      *ret_heir = entry->leader = g_queue_pop_head (&entry->joined);
      return NULL;
    }
  while ((call = g_queue_pop_head (&entry->joined)) != NULL)
    {
      if (others == NULL)
        others = g_ptr_array_new ();
      g_ptr_array_add (others, call);
    }
  /* "Repeat the same call" must find a clean slate; so must a stream that wrote nothing, of which "it succeeded" says too much. */
  if (end->retry == GS_RETRY_SAME || (entry->key.stream && end->code == GS_OK && end->generation == 0))
    g_hash_table_remove (dedupe->entries, entry);
  else
    keep (dedupe, entry, end, now_us);
  return others;
}
