/* SPDX-License-Identifier: Apache-2.0 */
/**
 * entry.h - the files of cache/disk.
 *
 * FOLDER/gitstead-cache          marks the folder as a cache's, and is locked while one is open
 * FOLDER/tmp/                    entries being written; emptied at start
 * FOLDER/ab/abcd….SEQ            an entry; abcd… is the beginning of the key's SHA-256, SEQ counts up
 *
 * An entry is written aside and renamed, and never changed. It is not synced: after a loss of power it may be
 * short or empty, which its sums tell, and a damaged entry is as good as none. All numbers are little endian:
 *
 *   magic "GsCaE001", key length u32, 0 u32, value length u64, stored (wall clock) i64, time to live i64,
 *   sum of the value u64, sum of all before and of the key u64, key, value
 *
 * Files are read, not mapped: a bad sector or a truncated file under a map would end the process by a signal.
 */
#ifndef CACHE_DISK_ENTRY_H
#define CACHE_DISK_ENTRY_H

#include <gitstead/cache.h>

#define ENTRY_KEY_MAX 1024
#define ENTRY_NAME_MAX 64

/** Says what a file holds, without its value. */
typedef struct
{
  GBytes *key; /* *full* */
  guint64 seq;
  guint64 file_bytes;
  gint64 stored_wall_us;
  gint64 ttl_us; /* 0 = for ever */
  gint64 used_wall_us;
} EntryInfo;

typedef struct
{
  int folder; /* descriptors */
  int lock;
  char *path;
} EntryStore;

/** Makes the folder when it is not there, refuses one that holds other things, locks it. */
gboolean entry_store_open (EntryStore *store, const char *path, GError **error);
void entry_store_close (EntryStore *store);

/** Calls @visit with each whole entry, and removes what is not one. @visit takes info->key. */
typedef void (*EntryVisit) (const EntryInfo *info, gpointer user);
gboolean entry_scan (EntryStore *store, EntryVisit visit, gpointer user, GError **error);

/** What an entry's file will have. */
guint64 entry_file_bytes (gsize key_bytes, gsize value_bytes);
/** FALSE with @error: nothing is left. */
gboolean entry_write (EntryStore *store, GBytes *key, guint64 seq, GBytes *value, gint64 stored_wall_us,
                      gint64 ttl_us, GError **error);
/** The value, *full*. NULL: NOT_FOUND when there is no file, else DATA_LOSS or what the system said. @touch: note the use. */
GBytes *entry_read (EntryStore *store, GBytes *key, guint64 seq, gboolean touch, GError **error);
void entry_remove (EntryStore *store, GBytes *key, guint64 seq);

#endif
