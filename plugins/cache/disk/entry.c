/* SPDX-License-Identifier: Apache-2.0 */
/* The files of cache/disk. See entry.h. */
#include "entry.h"

#include "siphash.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MARK "gitstead-cache"
#define TMP "tmp"
#define HASH_HEX 40

static const char magic[8] = { 'G', 's', 'C', 'a', 'E', '0', '0', '1' };
/* Against damage, not against people: whoever can write the folder is the server's own user. */
static const guint64 sum_key[2] = { G_GUINT64_CONSTANT (0x6769747374656164), G_GUINT64_CONSTANT (0x2d63616368652d31) };

typedef struct
{
  char magic[8];
  guint32 key_bytes;
  guint32 zero;
  guint64 value_bytes;
  gint64 stored_wall_us;
  gint64 ttl_us;
  guint64 value_sum;
  guint64 head_sum; /* of all before, and the key */
} Head;

G_STATIC_ASSERT (sizeof (Head) == 56);

static gboolean
fail_errno (const char *doing, const char *name, GError **error)
{
  int err = errno;
  return gs_fail (error, gs_error_from_errno (err), "%s %s: %s", doing, name, g_strerror (err));
}

/* ------------------------------------------------------------------------------------------- heads */

/* Between the machine's order and the file's; its own inverse. */
static void
swap_head (Head *head)
{
  head->key_bytes = GUINT32_TO_LE (head->key_bytes);
  head->value_bytes = GUINT64_TO_LE (head->value_bytes);
  head->stored_wall_us = (gint64) GUINT64_TO_LE ((guint64) head->stored_wall_us);
  head->ttl_us = (gint64) GUINT64_TO_LE ((guint64) head->ttl_us);
  head->value_sum = GUINT64_TO_LE (head->value_sum);
  head->head_sum = GUINT64_TO_LE (head->head_sum);
}

/* @head in the file's order, its own sum not counted. */
static guint64
head_sum (const Head *head, const void *key, gsize key_bytes)
{
  guint8 text[sizeof *head + ENTRY_KEY_MAX];
  gsize fixed = G_STRUCT_OFFSET (Head, head_sum);
  memcpy (text, head, fixed);
  if (key_bytes > 0)
    memcpy (text + fixed, key, key_bytes);
  return siphash24 (sum_key, text, fixed + key_bytes);
}

/* Turns @head, as read with @got bytes of head and key, into the machine's order. FALSE when it is damaged. */
static gboolean
check_head (Head *head, const guint8 *key, gsize got, guint64 file_bytes)
{
  Head found = *head;
  if (got < sizeof *head || memcmp (head->magic, magic, sizeof magic) != 0)
    return FALSE;
  swap_head (head);
  return head->key_bytes <= ENTRY_KEY_MAX && got >= sizeof *head + head->key_bytes
         && head->value_bytes <= (guint64) G_MAXINT64 - sizeof *head - ENTRY_KEY_MAX
         && file_bytes == sizeof *head + head->key_bytes + head->value_bytes && head->zero == 0
         && head->head_sum == head_sum (&found, key, head->key_bytes);
}

guint64
entry_file_bytes (gsize key_bytes, gsize value_bytes)
{
  return sizeof (Head) + key_bytes + value_bytes;
}

static void
entry_name (GBytes *key, guint64 seq, char ret_name[ENTRY_NAME_MAX])
{
  g_autofree char *sum = g_compute_checksum_for_bytes (G_CHECKSUM_SHA256, key);
  g_snprintf (ret_name, ENTRY_NAME_MAX, "%.2s/%.*s.%" G_GINT64_MODIFIER "x", sum, HASH_HEX, sum, seq);
}

/* ------------------------------------------------------------------------------------------ folder */

static gboolean
is_empty (int folder, gboolean *ret_empty)
{
  int copy = openat (folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = copy >= 0 ? fdopendir (copy) : NULL;
  struct dirent *entry;
  if (dir == NULL)
    {
      if (copy >= 0)
        close (copy);
      return FALSE;
    }
  *ret_empty = TRUE;
  while (*ret_empty && (entry = readdir (dir)) != NULL)
    *ret_empty = strcmp (entry->d_name, ".") == 0 || strcmp (entry->d_name, "..") == 0;
  closedir (dir);
  return TRUE;
}

static gboolean
open_mark (EntryStore *store, GError **error)
{
  gboolean empty;
  store->lock = openat (store->folder, MARK, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (store->lock < 0 && errno == ENOENT)
    {
      if (!is_empty (store->folder, &empty))
        return fail_errno ("reading the cache's folder", store->path, error);
      if (!empty)
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                        "the folder %s is not empty and no cache (it has no file %s): give the cache a folder of its own",
                        store->path, MARK);
      store->lock = openat (store->folder, MARK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
  if (store->lock < 0)
    return fail_errno ("opening " MARK " in the cache's folder", store->path, error);
  if (flock (store->lock, LOCK_EX | LOCK_NB) == 0)
    return TRUE;
  if (errno == EWOULDBLOCK)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the cache's folder %s is in use by another server or cache instance: give each its own",
                    store->path);
  return fail_errno ("locking " MARK " in the cache's folder", store->path, error);
}

gboolean
entry_store_open (EntryStore *store, const char *path, GError **error)
{
  store->folder = store->lock = -1;
  store->path = g_strdup (path);
  if (g_mkdir_with_parents (path, 0700) != 0)
    return fail_errno ("making the cache's folder", path, error);
  store->folder = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (store->folder < 0)
    return fail_errno ("opening the cache's folder", path, error);
  if (!open_mark (store, error))
    return FALSE;
  if (mkdirat (store->folder, TMP, 0700) != 0 && errno != EEXIST)
    return fail_errno ("making the folder " TMP " in", path, error);
  return TRUE;
}

void
entry_store_close (EntryStore *store)
{
  if (store->lock >= 0)
    close (store->lock);
  if (store->folder >= 0)
    close (store->folder);
  store->folder = store->lock = -1;
  g_clear_pointer (&store->path, g_free);
}

/* ------------------------------------------------------------------------------------------- start */

/* "HASH.SEQ" in the folder of the hash's first two digits? */
static gboolean
parse_name (const char *fan, const char *name, guint64 *ret_seq)
{
  const char *seq = name + HASH_HEX + 1;
  char *end = NULL;
  if (strlen (name) < HASH_HEX + 2 || strlen (name) > HASH_HEX + 17 || strncmp (name, fan, 2) != 0
      || strspn (name, "0123456789abcdef") != HASH_HEX || name[HASH_HEX] != '.'
      || strspn (seq, "0123456789abcdef") != strlen (seq))
    return FALSE;
  *ret_seq = g_ascii_strtoull (seq, &end, 16);
  return *end == '\0';
}

static gboolean
read_info (int fd, EntryInfo *ret_info)
{
  guint8 key[ENTRY_KEY_MAX];
  Head head = { { 0 } };
  struct iovec parts[] = { { &head, sizeof head }, { key, sizeof key } };
  struct stat st;
  ssize_t got;
  if (fstat (fd, &st) != 0 || !S_ISREG (st.st_mode))
    return FALSE;
  do
    got = preadv (fd, parts, G_N_ELEMENTS (parts), 0);
  while (got < 0 && errno == EINTR);
  if (got < 0 || !check_head (&head, key, (gsize) got, (guint64) st.st_size))
    return FALSE;
  ret_info->key = g_bytes_new (key, head.key_bytes);
  ret_info->file_bytes = (guint64) st.st_size;
  ret_info->stored_wall_us = head.stored_wall_us;
  ret_info->ttl_us = head.ttl_us;
  ret_info->used_wall_us = (gint64) st.st_mtim.tv_sec * G_USEC_PER_SEC + st.st_mtim.tv_nsec / 1000;
  return TRUE;
}

static void
scan_one (int folder, const char *fan, const char *name, EntryVisit visit, gpointer user)
{
  EntryInfo info = { NULL };
  char expected[ENTRY_NAME_MAX];
  int fd;
  if (!parse_name (fan, name, &info.seq))
    return; /* not ours */
  fd = openat (folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd >= 0 && read_info (fd, &info))
    {
      entry_name (info.key, info.seq, expected);
      if (strcmp (expected + 3, name) == 0)
        visit (&info, user);
      else
        g_clear_pointer (&info.key, g_bytes_unref);
    }
  if (info.key == NULL)
    unlinkat (folder, name, 0);
  if (fd >= 0)
    close (fd);
}

/* Entries below one fan-out folder; with @visit NULL all its files are removed. */
static void
scan_folder (EntryStore *store, const char *fan, EntryVisit visit, gpointer user)
{
  int fd = openat (store->folder, fan, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  DIR *dir = fd >= 0 ? fdopendir (fd) : NULL;
  struct dirent *entry;
  if (dir == NULL)
    {
      if (fd >= 0)
        close (fd);
      return;
    }
  while ((entry = readdir (dir)) != NULL)
    if (visit != NULL)
      scan_one (dirfd (dir), fan, entry->d_name, visit, user);
    else if (entry->d_name[0] != '.')
      unlinkat (dirfd (dir), entry->d_name, 0);
  closedir (dir);
}

gboolean
entry_scan (EntryStore *store, EntryVisit visit, gpointer user, GError **error)
{
  scan_folder (store, TMP, NULL, NULL);
  for (guint i = 0; i < 256; i++)
    {
      char fan[3];
      g_snprintf (fan, sizeof fan, "%02x", i);
      if (mkdirat (store->folder, fan, 0700) != 0 && errno != EEXIST)
        return fail_errno ("making a folder in the cache's folder", store->path, error);
      scan_folder (store, fan, visit, user);
    }
  return TRUE;
}

/* --------------------------------------------------------------------------------------- one entry */

/* Writes all of @parts, which it changes. */
static gboolean
write_all (int fd, struct iovec *parts, int n_parts)
{
  while (n_parts > 0)
    {
      ssize_t wrote = writev (fd, parts, n_parts);
      if (wrote < 0 && errno == EINTR)
        continue;
      if (wrote < 0)
        return FALSE;
      for (; n_parts > 0 && (gsize) wrote >= parts->iov_len; parts++, n_parts--)
        wrote -= (ssize_t) parts->iov_len;
      if (n_parts > 0)
        {
          parts->iov_base = (char *) parts->iov_base + wrote;
          parts->iov_len -= (gsize) wrote;
        }
    }
  return TRUE;
}

gboolean
entry_write (EntryStore *store, GBytes *key, guint64 seq, GBytes *value, gint64 stored_wall_us, gint64 ttl_us,
             GError **error)
{
  gsize key_bytes, value_bytes;
  gconstpointer key_data = g_bytes_get_data (key, &key_bytes), value_data = g_bytes_get_data (value, &value_bytes);
  Head head = { .key_bytes = (guint32) key_bytes,
                .value_bytes = value_bytes,
                .stored_wall_us = stored_wall_us,
                .ttl_us = ttl_us,
                .value_sum = siphash24 (sum_key, value_data != NULL ? value_data : "", value_bytes) };
  struct iovec parts[]
      = { { &head, sizeof head }, { (gpointer) key_data, key_bytes }, { (gpointer) value_data, value_bytes } };
  char name[ENTRY_NAME_MAX], aside[ENTRY_NAME_MAX];
  gboolean ok;
  int fd;

  memcpy (head.magic, magic, sizeof magic);
  swap_head (&head);
  head.head_sum = GUINT64_TO_LE (head_sum (&head, key_data, key_bytes));
  entry_name (key, seq, name);
  g_snprintf (aside, sizeof aside, TMP "/%" G_GINT64_MODIFIER "x", seq);
  fd = openat (store->folder, aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0)
    return fail_errno ("writing a cache entry in", store->path, error);
  ok = write_all (fd, parts, G_N_ELEMENTS (parts));
  if (!ok)
    fail_errno ("writing a cache entry in", store->path, error);
  if (close (fd) != 0 && ok)
    ok = fail_errno ("writing a cache entry in", store->path, error);
  if (ok && renameat (store->folder, aside, store->folder, name) != 0)
    ok = fail_errno ("renaming a cache entry in", store->path, error);
  if (!ok)
    unlinkat (store->folder, aside, 0);
  return ok;
}

static GBytes *
read_value (int fd, GBytes *key, const char *name, GError **error)
{
  guint8 found_key[ENTRY_KEY_MAX];
  gsize key_bytes;
  gconstpointer key_data = g_bytes_get_data (key, &key_bytes);
  Head head = { { 0 } };
  struct iovec parts[] = { { &head, sizeof head }, { found_key, key_bytes }, { NULL, 0 } };
  g_autofree guint8 *value = NULL;
  struct stat st;
  gsize value_bytes, want, at;
  ssize_t got;

  if (fstat (fd, &st) != 0)
    {
      fail_errno ("reading the cache entry", name, error);
      return NULL;
    }
  want = sizeof head + key_bytes;
  if ((guint64) st.st_size < want || (guint64) st.st_size > (guint64) G_MAXSSIZE)
    goto damaged;
  value_bytes = (gsize) st.st_size - want;
  value = g_try_malloc (MAX (value_bytes, 1));
  if (value == NULL)
    {
      gs_fail (error, GS_ERROR_UNAVAILABLE, "reading the cache entry %s: no memory for its %" G_GSIZE_FORMAT " bytes",
               name, value_bytes);
      return NULL;
    }
  parts[2] = (struct iovec){ value, value_bytes };
  do
    got = preadv (fd, parts, G_N_ELEMENTS (parts), 0);
  while (got < 0 && errno == EINTR);
  if (got < 0)
    {
      fail_errno ("reading the cache entry", name, error);
      return NULL;
    }
  at = (gsize) got;
  while (at >= want && at < want + value_bytes && got > 0) /* beyond 2 GiB, one read is not all */
    {
      got = pread (fd, value + (at - want), want + value_bytes - at, (off_t) at);
      at += (gsize) MAX (got, 0);
    }
  if (at != want + value_bytes || !check_head (&head, found_key, want, (guint64) st.st_size) || head.key_bytes != key_bytes
      || (key_bytes > 0 && memcmp (found_key, key_data, key_bytes) != 0)
      || head.value_sum != siphash24 (sum_key, value, value_bytes))
    goto damaged;
  return g_bytes_new_take (g_steal_pointer (&value), value_bytes);

damaged:
  gs_fail (error, GS_ERROR_DATA_LOSS, "the cache entry %s is damaged", name);
  return NULL;
}

GBytes *
entry_read (EntryStore *store, GBytes *key, guint64 seq, gboolean touch, GError **error)
{
  char name[ENTRY_NAME_MAX];
  GBytes *value;
  int fd;
  entry_name (key, seq, name);
  fd = openat (store->folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0)
    {
      fail_errno ("opening the cache entry", name, error);
      return NULL;
    }
  value = read_value (fd, key, name, error);
  if (value != NULL && touch)
    futimens (fd, NULL); /* only the order after a restart depends on it */
  close (fd);
  return value;
}

void
entry_remove (EntryStore *store, GBytes *key, guint64 seq)
{
  char name[ENTRY_NAME_MAX];
  entry_name (key, seq, name);
  unlinkat (store->folder, name, 0);
}
