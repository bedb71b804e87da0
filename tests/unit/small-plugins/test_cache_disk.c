/* SPDX-License-Identifier: Apache-2.0 */
/* cache/disk: what survives a restart and what does not, damage of every kind, room, rights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead/cache.h>

#include "fakehost.h"
#include "loadplugin.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct
{
  const GsPlugin *plugin;
  const GsCacheOps *ops;
  FakeHost *host;
  FakeConfig *config;
  FakeCall *call;
  char *folder, *path;
  gpointer self;
} Cache;

static gint64 skew_us;

static gint64
later_now (const GsHost *host)
{
  return g_get_monotonic_time () + skew_us;
}

static gint64
later_wall (const GsHost *host)
{
  return g_get_real_time () + skew_us;
}

static gboolean
cache_start (Cache *cache, GError **error)
{
  cache->self = cache->plugin->create (&cache->host->host, fake_config_get (cache->config), error);
  assert_non_null (cache->self);
  if (cache->plugin->start (cache->self, error))
    return TRUE;
  cache->plugin->destroy (cache->self);
  cache->self = NULL;
  return FALSE;
}

static void
cache_stop (Cache *cache)
{
  if (cache->self == NULL)
    return;
  cache->plugin->stop (cache->self);
  cache->plugin->destroy (cache->self);
  cache->self = NULL;
}

static void
cache_prepare (Cache *cache, const char *size)
{
  memset (cache, 0, sizeof *cache);
  skew_us = 0;
  cache->plugin = load_plugin ("cache-disk.so");
  cache->ops = cache->plugin->ops;
  cache->folder = fake_tempdir_new ();
  cache->path = g_build_filename (cache->folder, "cache", NULL);
  cache->host = fake_host_new ("cache default");
  cache->host->host.now_us = later_now;
  cache->host->host.wall_us = later_wall;
  cache->config = fake_config_new (cache->plugin, "path", cache->path, "size", size, NULL);
  cache->call = fake_call_new (0);
}

static void
cache_open (Cache *cache, const char *size)
{
  cache_prepare (cache, size);
  assert_true (cache_start (cache, NULL));
}

static void
cache_close (Cache *cache)
{
  cache_stop (cache);
  fake_call_free (cache->call);
  fake_config_free (cache->config);
  fake_host_free (cache->host);
  fake_tempdir_remove (cache->folder);
  g_free (cache->path);
}

static GBytes *
value_of (const char *name, gsize n_bytes)
{
  guint8 *bytes = g_malloc (n_bytes + 1);
  for (gsize i = 0; i < n_bytes; i++)
    bytes[i] = (guint8) (name[i % strlen (name)] + i);
  return g_bytes_new_take (bytes, n_bytes);
}

static void
put (Cache *cache, const char *name, gsize n_bytes, gint64 ttl_us)
{
  g_autoptr (GBytes) key = g_bytes_new (name, strlen (name)), value = value_of (name, n_bytes);
  assert_true (cache->ops->store (cache->self, &cache->call->call, key, value, ttl_us, NULL));
}

static gboolean
has (Cache *cache, const char *name, gsize n_bytes)
{
  g_autoptr (GBytes) key = g_bytes_new (name, strlen (name)), expected = value_of (name, n_bytes), value = NULL;
  assert_true (cache->ops->lookup (cache->self, &cache->call->call, key, &value, NULL));
  if (value != NULL)
    assert_true (g_bytes_equal (value, expected));
  return value != NULL;
}

static GsCacheStats
stats_of (Cache *cache)
{
  GsCacheStats stats;
  cache->ops->stats (cache->self, &stats);
  return stats;
}

/* Paths of all entries. *full*. */
static GPtrArray *
entry_files (Cache *cache)
{
  GPtrArray *found = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < 256; i++)
    {
      g_autofree char *fan = g_strdup_printf ("%s/%02x", cache->path, i);
      g_autoptr (GDir) dir = g_dir_open (fan, 0, NULL);
      const char *name;
      while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
        g_ptr_array_add (found, g_build_filename (fan, name, NULL));
    }
  return found;
}

static char *
only_file (Cache *cache)
{
  g_autoptr (GPtrArray) files = entry_files (cache);
  assert_int_equal (files->len, 1);
  return g_strdup (files->pdata[0]);
}

static void
survives_a_restart (void **state)
{
  Cache cache;
  cache_open (&cache, "1MiB");
  put (&cache, "a", 10000, 0);
  put (&cache, "b", 0, 0);
  put (&cache, "a", 200, 0);
  cache_stop (&cache);
  assert_true (cache_start (&cache, NULL));
  assert_int_equal (stats_of (&cache).n_entries, 2);
  assert_int_equal (stats_of (&cache).bytes, 2 * 4096);
  assert_true (has (&cache, "a", 200) && has (&cache, "b", 0));
  put (&cache, "c", 5, 0); /* numbers go on where they were */
  assert_true (has (&cache, "c", 5) && has (&cache, "a", 200));
  cache_close (&cache);
}

static void
time_to_live_goes_on (void **state)
{
  Cache cache;
  cache_open (&cache, "1MiB");
  put (&cache, "short", 10, 60 * G_USEC_PER_SEC);
  put (&cache, "long", 10, 600 * G_USEC_PER_SEC);
  cache_stop (&cache);
  skew_us = 50 * G_USEC_PER_SEC;
  assert_true (cache_start (&cache, NULL));
  assert_true (has (&cache, "short", 10));
  skew_us = 61 * G_USEC_PER_SEC;
  assert_false (has (&cache, "short", 10));
  assert_true (has (&cache, "long", 10));
  cache_stop (&cache);
  skew_us = 601 * G_USEC_PER_SEC;
  assert_true (cache_start (&cache, NULL));
  assert_int_equal (stats_of (&cache).n_entries, 0);
  put (&cache, "long", 10, 600 * G_USEC_PER_SEC);
  cache_stop (&cache);
  skew_us = 0; /* the clock was set back: nobody knows how old it is */
  assert_true (cache_start (&cache, NULL));
  assert_false (has (&cache, "long", 10));
  cache_close (&cache);
}

/* Every byte of an entry, changed one at a time; and every length. */
static void
damage_is_a_miss (void **state)
{
  for (int running = 0; running < 2; running++)
    {
      Cache cache;
      g_autofree char *file = NULL, *whole = NULL;
      gsize n;
      cache_open (&cache, "1MiB");
      put (&cache, "key", 40, 0);
      file = only_file (&cache);
      assert_true (g_file_get_contents (file, &whole, &n, NULL));
      assert_int_equal (n, 56 + 3 + 40);
      for (gsize at = 0; at < 2 * n; at++)
        {
          g_autofree char *copy = g_memdup2 (whole, n);
          gboolean shorter = at >= n;
          if (!shorter)
            copy[at] ^= 0x20;
          if (!running)
            cache_stop (&cache);
          assert_true (g_file_set_contents (file, copy, shorter ? (gssize) (at - n) : (gssize) n, NULL));
          if (!running)
            assert_true (cache_start (&cache, NULL));
          assert_false (has (&cache, "key", 40));
          assert_int_equal (stats_of (&cache).n_entries, 0);
          assert_int_equal (stats_of (&cache).bytes, 0);
          put (&cache, "key", 40, 0);
          assert_true (has (&cache, "key", 40));
          g_free (file);
          file = only_file (&cache); /* the damaged one is gone */
        }
      if (running)
        assert_int_equal (fake_host_logged (cache.host, "cache.disk.damaged"), 2 * n);
      cache_close (&cache);
    }
}

static void
vanished_file (void **state)
{
  Cache cache;
  g_autofree char *file = NULL;
  cache_open (&cache, "1MiB");
  put (&cache, "k", 40, 0);
  file = only_file (&cache);
  assert_int_equal (g_unlink (file), 0);
  assert_false (has (&cache, "k", 40));
  assert_int_equal (stats_of (&cache).bytes, 0);
  assert_int_equal (stats_of (&cache).misses, 1);
  cache_close (&cache);
}

static void
leftovers_and_strangers (void **state)
{
  Cache cache;
  g_autofree char *aside = NULL, *stranger = NULL;
  cache_open (&cache, "1MiB");
  put (&cache, "k", 40, 0);
  cache_stop (&cache);
  aside = g_build_filename (cache.path, "tmp", "7f", NULL); /* a crash while writing */
  stranger = g_build_filename (cache.path, "ab", "notes.txt", NULL);
  assert_true (g_file_set_contents (aside, "half", 4, NULL) && g_file_set_contents (stranger, "mine", 4, NULL));
  assert_true (cache_start (&cache, NULL));
  assert_false (g_file_test (aside, G_FILE_TEST_EXISTS));
  assert_true (g_file_test (stranger, G_FILE_TEST_EXISTS));
  assert_true (has (&cache, "k", 40));
  cache_close (&cache);
}

static void
somebody_elses_folder (void **state)
{
  Cache cache;
  g_autoptr (GError) error = NULL;
  g_autofree char *file = NULL;
  cache_prepare (&cache, "1MiB");
  file = g_build_filename (cache.path, "thesis.txt", NULL);
  assert_int_equal (g_mkdir (cache.path, 0700), 0);
  assert_true (g_file_set_contents (file, "x", 1, NULL));
  assert_false (cache_start (&cache, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_FAILED_PRECONDITION);
  assert_non_null (strstr (error->message, cache.path));
  cache_close (&cache);
}

static void
one_instance_at_a_time (void **state)
{
  Cache cache;
  g_autoptr (GError) error = NULL;
  gpointer first;
  cache_open (&cache, "1MiB");
  first = cache.self;
  assert_false (cache_start (&cache, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_FAILED_PRECONDITION);
  cache.self = first;
  cache_close (&cache);
}

static void
private_files (void **state)
{
  Cache cache;
  g_autofree char *file = NULL;
  struct stat st;
  mode_t before = umask (0);
  cache_open (&cache, "1MiB");
  put (&cache, "k", 40, 0);
  umask (before);
  file = only_file (&cache);
  assert_int_equal (g_stat (file, &st), 0);
  assert_int_equal (st.st_mode & 07777, 0600);
  assert_int_equal (g_stat (cache.path, &st), 0);
  assert_int_equal (st.st_mode & 07777, 0700);
  cache_close (&cache);
}

static guint64
blocks_on_disk (Cache *cache)
{
  g_autoptr (GPtrArray) files = entry_files (cache);
  guint64 bytes = 0;
  for (guint i = 0; i < files->len; i++)
    {
      struct stat st;
      assert_int_equal (g_stat (files->pdata[i], &st), 0);
      bytes += ((guint64) st.st_size + 4095) / 4096 * 4096;
    }
  return bytes;
}

static void
oldest_used_goes (void **state)
{
  Cache cache;
  cache_open (&cache, "64KiB"); /* 16 blocks */
  put (&cache, "a", 15000, 0);  /* 4 blocks each */
  put (&cache, "b", 15000, 0);
  put (&cache, "c", 15000, 0);
  put (&cache, "d", 15000, 0);
  assert_true (has (&cache, "a", 15000));
  put (&cache, "e", 9000, 0); /* 3 blocks */
  assert_false (has (&cache, "b", 15000));
  assert_true (has (&cache, "a", 15000) && has (&cache, "c", 15000) && has (&cache, "d", 15000));
  put (&cache, "f", 10, 0);
  assert_true (has (&cache, "a", 15000) && has (&cache, "e", 9000) && has (&cache, "f", 10)); /* it fits exactly */
  assert_int_equal (stats_of (&cache).bytes, 65536);
  assert_int_equal (stats_of (&cache).evictions, 1);
  assert_int_equal (blocks_on_disk (&cache), 65536);
  put (&cache, "over", 16385, 0); /* more than a quarter */
  assert_false (has (&cache, "over", 16385));
  put (&cache, "a", 16385, 0); /* the old answer does not outlive a new one that is too large */
  assert_false (has (&cache, "a", 15000));
  cache_close (&cache);
}

static void
lower_size_after_a_restart (void **state)
{
  Cache cache;
  cache_open (&cache, "1MiB");
  for (guint i = 0; i < 100; i++)
    {
      g_autofree char *name = g_strdup_printf ("k%u", i);
      put (&cache, name, 100, 0);
    }
  cache_stop (&cache);
  fake_config_free (cache.config);
  cache.config = fake_config_new (cache.plugin, "path", cache.path, "size", "64KiB", NULL);
  assert_true (cache_start (&cache, NULL));
  assert_int_equal (stats_of (&cache).n_entries, 16);
  assert_int_equal (blocks_on_disk (&cache), 65536);
  assert_true (has (&cache, "k99", 100) && has (&cache, "k84", 100));
  assert_false (has (&cache, "k83", 100));
  cache_close (&cache);
}

/* The folder cannot be written: not kept, told, no error, and room is given back. */
static void
trouble_is_no_error (void **state)
{
  Cache cache;
  g_autofree char *aside = NULL;
  cache_open (&cache, "1MiB");
  put (&cache, "k", 40, 0);
  aside = g_build_filename (cache.path, "tmp", NULL);
  assert_int_equal (g_rmdir (aside), 0);
  put (&cache, "other", 40, 0);
  put (&cache, "k", 50, 0);
  assert_false (has (&cache, "other", 40));
  assert_false (has (&cache, "k", 40));
  assert_int_equal (stats_of (&cache).bytes, 0);
  assert_int_equal (fake_host_logged (cache.host, "cache.disk.write.failed"), 2);
  cache_close (&cache);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (survives_a_restart),     cmocka_unit_test (time_to_live_goes_on),
    cmocka_unit_test (damage_is_a_miss),       cmocka_unit_test (vanished_file),
    cmocka_unit_test (leftovers_and_strangers), cmocka_unit_test (somebody_elses_folder),
    cmocka_unit_test (one_instance_at_a_time), cmocka_unit_test (private_files),
    cmocka_unit_test (oldest_used_goes),       cmocka_unit_test (lower_size_after_a_restart),
    cmocka_unit_test (trouble_is_no_error),
  };
  return cmocka_run_group_tests_name ("cache-disk", tests, NULL, NULL);
}
