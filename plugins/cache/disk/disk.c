/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache/disk: recently used answers in files, which outlive the server.
 *
 * What there is and in which order it was used is held in memory; a file is opened when it is wanted. The lock is
 * held for the books alone, never around a file: an entry may go between the look at the books and the opening, which
 * is a miss. Room is booked before a file is written and given back after one was removed, so that the files never
 * take more than the configured size. Trouble with files is logged and a miss, never an error.
 */
#include <gitstead/thread.h>

#include "entry.h"
#include "siphash.h"

/* Files are given room in blocks. */
#define BLOCK 4096u
/* An entry's use is noted in its file at most this often. */
#define TOUCH_US (60 * G_USEC_PER_SEC)

typedef struct
{
  GList link; /* in the order of use; its data is the entry */
  guint64 hash;
  GBytes *key;
  guint64 seq;
  guint64 cost;
  gint64 expires_us;   /* 0 = never */
  gint64 touched_us;   /* its use was noted in the file; on the wall clock */
} Entry;

typedef struct
{
  const GsHost *host;
  char *path;
  guint64 size, max_entry; /* atomic: a reload changes them */
  guint64 hash_key[2];
  EntryStore store;

  GsMutex lock; /* of what follows */
  GHashTable *entries; /* a set, by hash and key */
  GQueue order;        /* most recently used first */
  guint64 bytes;       /* of files that are there, or are being written or removed */
  guint64 next_seq;
  guint64 hits, misses, evictions;
} Disk;

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
  g_free (entry);
}

static Entry
probe (Disk *self, GBytes *key)
{
  gsize n_bytes;
  const guint8 *bytes = g_bytes_get_data (key, &n_bytes);
  return (Entry){ .hash = siphash24 (self->hash_key, bytes != NULL ? bytes : (const guint8 *) "", n_bytes), .key = key };
}

static guint64
cost_of (guint64 file_bytes)
{
  return MAX ((file_bytes + BLOCK - 1) / BLOCK, 1) * BLOCK;
}

static void
complain (Disk *self, const char *event, const GError *error)
{
  self->host->log (self->host, GS_LOG_WARNING, event,
                   (GsField[]){ GS_TEXT ("path", self->path), GS_TEXT ("error", error->message) }, 2);
}

/* ------------------------------------------------------------------------------------------- books */

/* Takes an entry out of the books into @dropped; its bytes stay booked until the file is gone. The lock is held. */
static void
drop (Disk *self, Entry *entry, GQueue *dropped)
{
  g_hash_table_remove (self->entries, entry);
  g_queue_unlink (&self->order, &entry->link);
  g_queue_push_tail_link (dropped, &entry->link);
}

/* Without the lock: removes the files. Returns how much room they took. */
static guint64
remove_files (Disk *self, GQueue *dropped)
{
  guint64 bytes = 0;
  GList *link;
  while ((link = g_queue_pop_head_link (dropped)) != NULL)
    {
      Entry *entry = link->data;
      entry_remove (&self->store, entry->key, entry->seq);
      bytes += entry->cost;
      entry_free (entry);
    }
  return bytes;
}

static void
unbook (Disk *self, guint64 cost)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  self->bytes -= cost;
}

/* Without the lock: removes the files and gives their room back. */
static void
free_dropped (Disk *self, GQueue *dropped)
{
  if (dropped->head != NULL)
    unbook (self, remove_files (self, dropped));
}

/* The lock is held. */
static void
add (Disk *self, Entry *entry)
{
  entry->link.data = entry;
  g_hash_table_add (self->entries, entry);
  g_queue_push_head_link (&self->order, &entry->link);
}

/*
 * Books @cost, dropping the oldest as needed; FALSE when what is being written and removed right now leaves no room.
 * The dropped ones' files must be gone before the new one is written: as much of their room as it needs is its own
 * already, *@ret_back is to be given back after that.
 */
static gboolean
book (Disk *self, guint64 cost, guint64 *ret_seq, guint64 *ret_back, GQueue *dropped)
{
  guint64 freed = 0, needed, size = __atomic_load_n (&self->size, __ATOMIC_RELAXED);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  while (self->bytes - freed + cost > size && self->order.tail != NULL)
    {
      Entry *oldest = self->order.tail->data;
      freed += oldest->cost;
      self->evictions++;
      drop (self, oldest, dropped);
    }
  if (self->bytes - freed + cost > size)
    return FALSE;
  needed = self->bytes + cost > size ? self->bytes + cost - size : 0;
  self->bytes += cost - needed;
  *ret_back = freed - needed;
  *ret_seq = self->next_seq++;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- slots */

/* What the books say of @key. FALSE: a miss, counted. */
static gboolean
find (Disk *self, GBytes *key, guint64 *ret_seq, gboolean *ret_touch, GQueue *dropped)
{
  Entry wanted = probe (self, key), *entry;
  gint64 now_us = self->host->now_us (self->host), wall_us = self->host->wall_us (self->host);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  entry = g_hash_table_lookup (self->entries, &wanted);
  if (entry != NULL && entry->expires_us != 0 && now_us >= entry->expires_us)
    {
      drop (self, entry, dropped);
      entry = NULL;
    }
  if (entry == NULL)
    {
      self->misses++;
      return FALSE;
    }
  g_queue_unlink (&self->order, &entry->link);
  g_queue_push_head_link (&self->order, &entry->link);
  *ret_seq = entry->seq;
  *ret_touch = wall_us - entry->touched_us >= TOUCH_US;
  if (*ret_touch)
    entry->touched_us = wall_us;
  return TRUE;
}

/* Counts what became of a look at a file; an entry that could not be read leaves the books. FALSE when it had left. */
static gboolean
account (Disk *self, GBytes *key, guint64 seq, gboolean hit, GQueue *dropped)
{
  Entry wanted = probe (self, key), *entry;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  (*(hit ? &self->hits : &self->misses))++;
  if (hit)
    return TRUE;
  entry = g_hash_table_lookup (self->entries, &wanted);
  if (entry == NULL || entry->seq != seq)
    return FALSE;
  drop (self, entry, dropped);
  return TRUE;
}

static gboolean
disk_lookup (gpointer data, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  Disk *self = data;
  GQueue dropped = G_QUEUE_INIT;
  g_autoptr (GError) why = NULL;
  GBytes *value = NULL;
  guint64 seq = 0;
  gboolean touch = FALSE;
  if (find (self, key, &seq, &touch, &dropped))
    {
      value = entry_read (&self->store, key, seq, touch, &why);
      if (account (self, key, seq, value != NULL, &dropped) && value == NULL)
        complain (self, "cache.disk.damaged", why);
    }
  free_dropped (self, &dropped);
  *ret_value = value;
  return TRUE;
}

/* Takes the key's entry, if there is one, out of the books. */
static void
forget_key (Disk *self, GBytes *key, GQueue *dropped)
{
  Entry wanted = probe (self, key), *entry;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  entry = g_hash_table_lookup (self->entries, &wanted);
  if (entry != NULL)
    drop (self, entry, dropped);
}

/* Puts a written entry into the books, in the place of an older one; one that came later stays. */
static void
publish (Disk *self, Entry *entry, GQueue *dropped)
{
  Entry *before;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  before = g_hash_table_lookup (self->entries, entry);
  if (before != NULL && before->seq > entry->seq)
    {
      entry->link.data = entry;
      g_queue_push_tail_link (dropped, &entry->link);
      return;
    }
  if (before != NULL)
    drop (self, before, dropped);
  add (self, entry);
}

static gboolean
disk_store (gpointer data, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  Disk *self = data;
  GQueue dropped = G_QUEUE_INIT;
  g_autoptr (GError) why = NULL;
  gint64 now_us = self->host->now_us (self->host), wall_us = self->host->wall_us (self->host);
  gsize key_bytes = g_bytes_get_size (key), value_bytes = g_bytes_get_size (value);
  guint64 cost = cost_of (entry_file_bytes (key_bytes, value_bytes)), seq = 0, back = 0;
  Entry *entry;

  if (key_bytes > ENTRY_KEY_MAX || value_bytes > __atomic_load_n (&self->max_entry, __ATOMIC_RELAXED)
      || cost > __atomic_load_n (&self->size, __ATOMIC_RELAXED))
    {
      forget_key (self, key, &dropped); /* the old answer does not outlive a new one */
      free_dropped (self, &dropped);
      return TRUE;
    }
  if (!book (self, cost, &seq, &back, &dropped))
    {
      forget_key (self, key, &dropped);
      free_dropped (self, &dropped);
      return TRUE;
    }
  remove_files (self, &dropped);
  unbook (self, back);
  if (!entry_write (&self->store, key, seq, value, wall_us, MAX (ttl_us, 0), &why))
    {
      complain (self, "cache.disk.write.failed", why);
      forget_key (self, key, &dropped);
      free_dropped (self, &dropped);
      unbook (self, cost);
      return TRUE;
    }
  entry = g_new0 (Entry, 1);
  entry->hash = probe (self, key).hash;
  entry->key = g_bytes_new (g_bytes_get_data (key, NULL), key_bytes); /* not the caller's large buffer */
  entry->seq = seq;
  entry->cost = cost;
  entry->expires_us = ttl_us > 0 ? now_us + ttl_us : 0;
  entry->touched_us = wall_us;
  publish (self, entry, &dropped);
  free_dropped (self, &dropped);
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
disk_forget_prefix (gpointer data, GsCall *call, GBytes *prefix, GError **error)
{
  Disk *self = data;
  GQueue dropped = G_QUEUE_INIT;
  gs_mutex_lock (&self->lock);
  for (GList *link = self->order.head, *next; link != NULL; link = next)
    {
      Entry *entry = link->data;
      next = link->next;
      if (begins_with (entry->key, prefix))
        drop (self, entry, &dropped);
    }
  gs_mutex_unlock (&self->lock);
  free_dropped (self, &dropped);
  return TRUE;
}

static void
disk_stats (gpointer data, GsCacheStats *ret_stats)
{
  Disk *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  *ret_stats = (GsCacheStats){ .size = sizeof *ret_stats,
                               .n_entries = g_hash_table_size (self->entries),
                               .bytes = self->bytes,
                               .hits = self->hits,
                               .misses = self->misses,
                               .evictions = self->evictions };
}

/* -------------------------------------------------------------------------------------------- life */

static const GsOption disk_options[] = {
  { .key = "path",
    .type = GS_OPTION_PATH,
    .flags = GS_OPTION_REQUIRED,
    .help = "A folder of its own, made when it is not there; what it holds survives a restart." },
  { .key = "size",
    .type = GS_OPTION_SIZE,
    .flags = GS_OPTION_RELOADABLE,
    .fallback = "1GiB",
    .min = 64 * 1024,
    .max = (gint64) 1 << 44,
    .help = "How much room the files take at most, in whole blocks of 4 KiB." },
  { .key = "max_entry",
    .type = GS_OPTION_SIZE,
    .flags = GS_OPTION_RELOADABLE,
    .fallback = "0",
    .min = 0,
    .max = (gint64) 1 << 40,
    .help = "Larger answers are not kept; 0 is a quarter of the size." },
  { NULL },
};

static void
limits_read (const GsConfig *config, guint64 *ret_size, guint64 *ret_max_entry)
{
  *ret_size = (guint64) config->integer (config, "size");
  *ret_max_entry = (guint64) config->integer (config, "max_entry");
  if (*ret_max_entry == 0)
    *ret_max_entry = *ret_size / 4;
}

static gpointer
disk_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Disk *self = g_new0 (Disk, 1);
  self->host = host;
  self->path = g_strdup (config->string (config, "path"));
  limits_read (config, &self->size, &self->max_entry);
  self->store.folder = self->store.lock = -1;
  self->next_seq = 1;
  host->random (host, self->hash_key, sizeof self->hash_key);
  self->entries = g_hash_table_new (entry_hash, entry_equal);
  g_queue_init (&self->order);
  gs_mutex_init (&self->lock);
  return self;
}

/* What a scan finds, before it is put into order. */
typedef struct
{
  Disk *self;
  GPtrArray *found; /* of Entry; touched_us is when it was used */
  GQueue stale;     /* whose time is over, in the form of dropped ones */
  gint64 now_us, wall_us;
} Scan;

static void
scan_visit (const EntryInfo *info, gpointer user)
{
  Scan *scan = user;
  Entry *entry = g_new0 (Entry, 1);
  gint64 age_us = scan->wall_us - info->stored_wall_us;
  *entry = probe (scan->self, info->key);
  entry->link.data = entry;
  entry->seq = info->seq;
  entry->cost = cost_of (info->file_bytes);
  entry->touched_us = info->used_wall_us;
  if (info->ttl_us > 0)
    entry->expires_us = scan->now_us + info->ttl_us - age_us;
  scan->self->bytes += entry->cost;
  scan->self->next_seq = MAX (scan->self->next_seq, info->seq + 1);
  /* A clock that was set back says nothing about how old an entry is. */
  if (info->ttl_us > 0 && (age_us < 0 || age_us >= info->ttl_us))
    g_queue_push_tail_link (&scan->stale, &entry->link);
  else
    g_ptr_array_add (scan->found, entry);
}

static int
by_use (gconstpointer left, gconstpointer right)
{
  const Entry *a = *(const Entry *const *) left, *b = *(const Entry *const *) right;
  if (a->touched_us != b->touched_us)
    return a->touched_us < b->touched_us ? -1 : 1;
  return a->seq < b->seq ? -1 : a->seq > b->seq;
}

/* Drops the oldest until the rest has room. */
static void
shrink (gpointer data)
{
  Disk *self = data;
  GQueue dropped = G_QUEUE_INIT;
  guint64 over, size = __atomic_load_n (&self->size, __ATOMIC_RELAXED);
  gs_mutex_lock (&self->lock);
  for (over = self->bytes > size ? self->bytes - size : 0; over > 0 && self->order.tail != NULL;)
    {
      Entry *oldest = self->order.tail->data;
      over -= MIN (over, oldest->cost);
      drop (self, oldest, &dropped);
    }
  gs_mutex_unlock (&self->lock);
  free_dropped (self, &dropped);
}

static gboolean
disk_start (gpointer data, GError **error)
{
  Disk *self = data;
  Scan scan = { .self = self, .stale = G_QUEUE_INIT };
  g_autoptr (GPtrArray) found = g_ptr_array_new ();
  GQueue dropped = G_QUEUE_INIT;
  gboolean ok;

  scan.found = found;
  scan.now_us = self->host->now_us (self->host);
  scan.wall_us = self->host->wall_us (self->host);
  ok = entry_store_open (&self->store, self->path, error) && entry_scan (&self->store, scan_visit, &scan, error);
  g_ptr_array_sort (found, by_use);
  for (guint i = 0; i < found->len; i++)
    publish (self, found->pdata[i], &dropped); /* of two of the same key, the later one stays */
  free_dropped (self, &dropped);
  free_dropped (self, &scan.stale);
  shrink (self); /* the size may have been lowered */
  if (!ok)
    {
      entry_store_close (&self->store);
      return FALSE;
    }
  self->host->log (self->host, GS_LOG_INFO, "cache.disk.opened",
                   (GsField[]){ GS_TEXT ("path", self->path),
                                GS_NUMBER ("entries", g_hash_table_size (self->entries)),
                                GS_NUMBER ("bytes", self->bytes) },
                   3);
  return TRUE;
}

static void
disk_stop (gpointer data)
{
  Disk *self = data;
  entry_store_close (&self->store);
}

static void
disk_destroy (gpointer data)
{
  Disk *self = data;
  GList *link;
  entry_store_close (&self->store);
  g_hash_table_unref (self->entries);
  while ((link = g_queue_pop_head_link (&self->order)) != NULL)
    entry_free (link->data);
  gs_mutex_clear (&self->lock);
  g_free (self->path);
  g_free (self);
}

typedef struct
{
  guint64 size, max_entry;
} Limits;

static gpointer
disk_adjust (gpointer data, const GsConfig *config, GError **error)
{
  Limits *limits = g_new0 (Limits, 1);
  limits_read (config, &limits->size, &limits->max_entry);
  return limits;
}

static void
disk_adjusted (gpointer data, gpointer change, gboolean take)
{
  Disk *self = data;
  Limits *limits = change;
  if (take)
    {
      gboolean less = limits->size < self->size;
      __atomic_store_n (&self->size, limits->size, __ATOMIC_RELAXED);
      __atomic_store_n (&self->max_entry, limits->max_entry, __ATOMIC_RELAXED);
      /* Where there is no thread for it now, the next answer that is stored makes room. */
      if (less)
        self->host->submit (self->host, shrink, self, NULL);
    }
  g_free (limits);
}

static const GsCacheOps disk_ops = {
  .lookup = disk_lookup,
  .store = disk_store,
  .forget_prefix = disk_forget_prefix,
  .stats = disk_stats,
};

GS_PLUGIN_DEFINE (GsCacheOps, .kind = GS_KIND_CACHE, .threads = GS_THREADS_PARALLEL, .name = "disk",
                  .version = "0.1.0", .summary = "Recently used answers in files, which survive a restart",
                  .license = "Apache-2.0", .options = disk_options, .ops = &disk_ops, .create = disk_create,
                  .start = disk_start, .stop = disk_stop, .destroy = disk_destroy, .adjust = disk_adjust,
                  .adjusted = disk_adjusted)
