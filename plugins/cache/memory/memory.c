/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache/memory: recently used answers in this process.
 *
 * Shards by key hash, each with its own lock, its own share of the budget and its own order of use. An entry is
 * counted with all it costs, so the budget holds for the process, not for the payloads alone. Values are freed
 * outside of the locks: a GBytes may run its owner's function.
 */
#include <gitstead/cache.h>
#include <gitstead/thread.h>

#include "siphash.h"

#define KEY_MAX 1024

typedef struct Entry Entry;
struct Entry
{
  GList link; /* in the order of use; its data is the entry. Chains dropped entries, too */
  guint64 hash;
  GBytes *key;
  GBytes *value;
  gint64 expires_us; /* 0 = never */
  gsize cost;
};

/* What an entry takes beyond key and value: itself, its two GBytes, its slot in a table at its emptiest, and what
 * the allocator adds to each of the five pieces. */
#define ENTRY_OVERHEAD (sizeof (Entry) + 2 * 48 + 4 * 20 + 5 * 16)

typedef struct
{
  GsMutex lock;
  GHashTable *entries; /* a set, by hash and key */
  GQueue order;        /* most recently used first */
  gsize bytes;
  guint64 hits, misses, evictions;
} Shard;

typedef struct
{
  const GsHost *host;
  guint64 hash_key[2];
  gsize shard_bytes; /* budget of each */
  gsize max_entry;
  guint n_shards;
  Shard *shards;
} Memory;

static guint
entry_hash (gconstpointer entry)
{
  return (guint) ((const Entry *) entry)->hash;
}

static gboolean
entry_equal (gconstpointer a, gconstpointer b)
{
  const Entry *left = a, *right = b;
  return left->hash == right->hash && g_bytes_equal (left->key, right->key);
}

static void
entry_free (Entry *entry)
{
  g_bytes_unref (entry->key);
  g_bytes_unref (entry->value);
  g_free (entry);
}

/* Takes an entry out of its shard, into @dropped. The lock is held. */
static void
drop (Shard *shard, Entry *entry, GQueue *dropped)
{
  g_hash_table_remove (shard->entries, entry);
  g_queue_unlink (&shard->order, &entry->link);
  shard->bytes -= entry->cost;
  g_queue_push_tail_link (dropped, &entry->link);
}

/* Without any lock. */
static void
free_dropped (GQueue *dropped)
{
  GList *link;
  while ((link = g_queue_pop_head_link (dropped)) != NULL)
    entry_free (link->data);
}

/* A key for looking up. */
static Entry
probe (Memory *self, GBytes *key, Shard **ret_shard)
{
  gsize n_bytes;
  const guint8 *bytes = g_bytes_get_data (key, &n_bytes);
  Entry entry = { .hash = siphash24 (self->hash_key, bytes, n_bytes), .key = key };
  *ret_shard = &self->shards[(entry.hash >> 32) % self->n_shards]; /* the table goes by the lower half */
  return entry;
}

static gboolean
memory_lookup (gpointer data, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  Memory *self = data;
  Shard *shard;
  Entry wanted = probe (self, key, &shard), *entry;
  gint64 now_us = self->host->now_us (self->host);
  GBytes *value = NULL;
  GQueue dropped = G_QUEUE_INIT;

  gs_mutex_lock (&shard->lock);
  entry = g_hash_table_lookup (shard->entries, &wanted);
  if (entry != NULL && entry->expires_us != 0 && now_us >= entry->expires_us)
    {
      drop (shard, entry, &dropped);
      entry = NULL;
    }
  if (entry != NULL)
    {
      g_queue_unlink (&shard->order, &entry->link);
      g_queue_push_head_link (&shard->order, &entry->link);
      value = g_bytes_ref (entry->value);
    }
  (*(value != NULL ? &shard->hits : &shard->misses))++;
  gs_mutex_unlock (&shard->lock);
  free_dropped (&dropped);
  *ret_value = value;
  return TRUE;
}

static gboolean
memory_store (gpointer data, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  Memory *self = data;
  Shard *shard;
  Entry wanted = probe (self, key, &shard), *entry, *before;
  GQueue dropped = G_QUEUE_INIT;
  gsize cost = ENTRY_OVERHEAD + g_bytes_get_size (key) + g_bytes_get_size (value);
  gboolean keep
      = g_bytes_get_size (key) <= KEY_MAX && g_bytes_get_size (value) <= self->max_entry && cost <= self->shard_bytes;

  if (keep)
    {
      entry = g_new0 (Entry, 1);
      entry->link.data = entry;
      entry->hash = wanted.hash;
      entry->key
          = g_bytes_new (g_bytes_get_data (key, NULL), g_bytes_get_size (key)); /* not the caller's large buffer */
      entry->value = g_bytes_ref (value);
      entry->expires_us = ttl_us > 0 ? self->host->now_us (self->host) + ttl_us : 0;
      entry->cost = cost;
    }
  gs_mutex_lock (&shard->lock);
  before = g_hash_table_lookup (shard->entries, &wanted);
  if (before != NULL)
    drop (shard, before, &dropped);
  if (keep)
    {
      while (shard->bytes + cost > self->shard_bytes)
        {
          drop (shard, shard->order.tail->data, &dropped);
          shard->evictions++;
        }
      g_hash_table_add (shard->entries, entry);
      g_queue_push_head_link (&shard->order, &entry->link);
      shard->bytes += cost;
    }
  gs_mutex_unlock (&shard->lock);
  free_dropped (&dropped);
  return TRUE;
}

static gboolean
begins_with (GBytes *key, GBytes *prefix)
{
  gsize n_key, n_prefix;
  gconstpointer key_bytes = g_bytes_get_data (key, &n_key), prefix_bytes = g_bytes_get_data (prefix, &n_prefix);
  return n_key >= n_prefix && (n_prefix == 0 || memcmp (key_bytes, prefix_bytes, n_prefix) == 0);
}

static gboolean
memory_forget_prefix (gpointer data, GsCall *call, GBytes *prefix, GError **error)
{
  Memory *self = data;
  for (guint i = 0; i < self->n_shards; i++)
    {
      Shard *shard = &self->shards[i];
      GQueue dropped = G_QUEUE_INIT;
      gs_mutex_lock (&shard->lock);
      for (GList *link = shard->order.head, *next; link != NULL; link = next)
        {
          Entry *entry = link->data;
          next = link->next;
          if (begins_with (entry->key, prefix))
            drop (shard, entry, &dropped);
        }
      gs_mutex_unlock (&shard->lock);
      free_dropped (&dropped);
    }
  return TRUE;
}

static void
memory_stats (gpointer data, GsCacheStats *ret_stats)
{
  Memory *self = data;
  GsCacheStats stats = { .size = sizeof stats };
  for (guint i = 0; i < self->n_shards; i++)
    {
      Shard *shard = &self->shards[i];
      g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&shard->lock);
      stats.n_entries += g_hash_table_size (shard->entries);
      stats.bytes += shard->bytes;
      stats.hits += shard->hits;
      stats.misses += shard->misses;
      stats.evictions += shard->evictions;
    }
  *ret_stats = stats;
}

static const GsOption memory_options[] = {
  { .key = "size",
    .type = GS_OPTION_SIZE,
    .fallback = "256MiB",
    .min = 64 * 1024,
    .max = (gint64) 1 << 40,
    .help = "How much memory the cache takes at most, all it needs for itself included." },
  { .key = "shards",
    .type = GS_OPTION_INT,
    .fallback = "8",
    .min = 1,
    .max = 256,
    .help = "Into how many parts it is divided, each with its own lock and an equal share of the memory." },
  { .key = "max_entry",
    .type = GS_OPTION_SIZE,
    .fallback = "0",
    .min = 0,
    .max = (gint64) 1 << 40,
    .help = "Larger answers are not kept; 0 is half of a part's share." },
  { NULL },
};

static gpointer
memory_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Memory *self = g_new0 (Memory, 1);
  gsize size = (gsize) config->integer (config, "size");
  self->host = host;
  self->n_shards = (guint) CLAMP (config->integer (config, "shards"), 1, 256);
  self->shard_bytes = size / self->n_shards;
  self->max_entry = (gsize) config->integer (config, "max_entry");
  if (self->max_entry == 0)
    self->max_entry = self->shard_bytes / 2;
  host->random (host, self->hash_key, sizeof self->hash_key);
  self->shards = g_new0 (Shard, self->n_shards);
  for (guint i = 0; i < self->n_shards; i++)
    {
      gs_mutex_init (&self->shards[i].lock);
      self->shards[i].entries = g_hash_table_new (entry_hash, entry_equal);
      g_queue_init (&self->shards[i].order);
    }
  return self;
}

static void
memory_destroy (gpointer data)
{
  Memory *self = data;
  for (guint i = 0; i < self->n_shards; i++)
    {
      g_hash_table_unref (self->shards[i].entries);
      free_dropped (&self->shards[i].order);
      gs_mutex_clear (&self->shards[i].lock);
    }
  g_free (self->shards);
  g_free (self);
}

static const GsCacheOps memory_ops = {
  .lookup = memory_lookup,
  .store = memory_store,
  .forget_prefix = memory_forget_prefix,
  .stats = memory_stats,
};

GS_PLUGIN_DEFINE (GsCacheOps, .kind = GS_KIND_CACHE, .threads = GS_THREADS_PARALLEL, .name = "memory",
                  .version = "0.1.0", .summary = "Recently used answers in this process, within a byte budget",
                  .license = "Apache-2.0", .options = memory_options, .ops = &memory_ops, .create = memory_create,
                  .destroy = memory_destroy)
