/* SPDX-License-Identifier: Apache-2.0 */
/* cache/memory: order of use, shares, limits, and that nothing is counted that is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead/cache.h>
#include <gitstead/thread.h>

#include "fakehost.h"
#include "loadplugin.h"

typedef struct
{
  const GsPlugin *plugin;
  const GsCacheOps *ops;
  FakeHost *host;
  FakeConfig *config;
  FakeCall *call;
  gpointer self;
} Cache;

static void
cache_open (Cache *cache, const char *size, const char *shards, const char *max_entry)
{
  cache->plugin = load_plugin ("cache-memory.so");
  cache->ops = cache->plugin->ops;
  cache->host = fake_host_new ("cache default");
  cache->config = fake_config_new (cache->plugin, "size", size, "shards", shards, "max_entry", max_entry, NULL);
  cache->call = fake_call_new (0);
  cache->self = cache->plugin->create (&cache->host->host, fake_config_get (cache->config), NULL);
  assert_non_null (cache->self);
}

static void
cache_close (Cache *cache)
{
  cache->plugin->destroy (cache->self);
  fake_call_free (cache->call);
  fake_config_free (cache->config);
  fake_host_free (cache->host);
}

static void
put (Cache *cache, const char *name, gsize n_bytes)
{
  g_autoptr (GBytes) key = g_bytes_new (name, strlen (name)),
                     value = g_bytes_new_take (g_malloc0 (n_bytes + 1), n_bytes);
  assert_true (cache->ops->store (cache->self, &cache->call->call, key, value, 0, NULL));
}

static gboolean
has (Cache *cache, const char *name)
{
  g_autoptr (GBytes) key = g_bytes_new (name, strlen (name)), value = NULL;
  assert_true (cache->ops->lookup (cache->self, &cache->call->call, key, &value, NULL));
  return value != NULL;
}

static GsCacheStats
stats_of (Cache *cache)
{
  GsCacheStats stats;
  cache->ops->stats (cache->self, &stats);
  return stats;
}

static void
least_recently_used_goes (void **state)
{
  Cache cache;
  cache_open (&cache, "64KiB", "1", "0");
  put (&cache, "a", 20000);
  put (&cache, "b", 20000);
  put (&cache, "c", 20000);
  assert_true (has (&cache, "a")); /* used: b is the oldest now */
  put (&cache, "d", 20000);
  assert_false (has (&cache, "b"));
  assert_true (has (&cache, "a") && has (&cache, "c") && has (&cache, "d"));
  put (&cache, "a", 20000); /* storing is using, too: c is the oldest */
  put (&cache, "e", 20000);
  assert_false (has (&cache, "c"));
  assert_int_equal (stats_of (&cache).n_entries, 3);
  assert_int_equal (stats_of (&cache).evictions, 2);
  cache_close (&cache);
}

static void
exact_bytes (void **state)
{
  Cache cache;
  g_autoptr (GBytes) all = g_bytes_new_static ("", 0);
  guint64 one, empty;
  cache_open (&cache, "1MiB", "4", "0");
  put (&cache, "k", 0);
  empty = stats_of (&cache).bytes;
  assert_true (empty > 100); /* an entry without content is not free */
  put (&cache, "k", 1000);
  one = stats_of (&cache).bytes;
  assert_int_equal (one, empty + 1000);
  put (&cache, "k", 10); /* replacing gives back what was there */
  assert_int_equal (stats_of (&cache).bytes, empty + 10);
  put (&cache, "longer key", 10);
  assert_int_equal (stats_of (&cache).bytes, 2 * (empty + 10) + 9);
  assert_true (cache.ops->forget_prefix (cache.self, &cache.call->call, all, NULL));
  assert_int_equal (stats_of (&cache).bytes, 0);
  assert_int_equal (stats_of (&cache).n_entries, 0);
  cache_close (&cache);
}

static void
too_large (void **state)
{
  Cache cache;
  g_autofree char *long_key = g_strnfill (1025, 'k');
  cache_open (&cache, "1MiB", "1", "10000");
  put (&cache, "fits", 10000);
  put (&cache, "over", 10001);
  put (&cache, long_key, 1);
  assert_true (has (&cache, "fits"));
  assert_false (has (&cache, "over"));
  assert_false (has (&cache, long_key));
  put (&cache, "fits", 10001); /* the old answer does not outlive a new one that is too large */
  assert_false (has (&cache, "fits"));
  assert_int_equal (stats_of (&cache).bytes, 0);
  cache_close (&cache);
}

static void
half_a_share (void **state)
{
  Cache cache;
  cache_open (&cache, "1MiB", "4", "0");
  put (&cache, "half", 128 * 1024);
  put (&cache, "more", 128 * 1024 + 1);
  assert_true (has (&cache, "half"));
  assert_false (has (&cache, "more"));
  cache_close (&cache);
}

static gint n_freed;

static void
count_free (gpointer data)
{
  g_atomic_int_inc (&n_freed);
}

static void
values_are_given_back (void **state)
{
  Cache cache;
  static char bytes[100];
  cache_open (&cache, "64KiB", "2", "0");
  g_atomic_int_set (&n_freed, 0);
  for (int i = 0; i < 1000; i++)
    {
      g_autofree char *name = g_strdup_printf ("%d", i % 700);
      g_autoptr (GBytes) key = g_bytes_new (name, strlen (name));
      g_autoptr (GBytes) value = g_bytes_new_with_free_func (bytes, sizeof bytes, count_free, NULL);
      assert_true (cache.ops->store (cache.self, &cache.call->call, key, value, 0, NULL));
    }
  assert_int_equal (g_atomic_int_get (&n_freed), 1000 - (int) stats_of (&cache).n_entries);
  cache_close (&cache);
  assert_int_equal (g_atomic_int_get (&n_freed), 1000);
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (least_recently_used_goes), cmocka_unit_test (exact_bytes), cmocka_unit_test (too_large),
          cmocka_unit_test (half_a_share), cmocka_unit_test (values_are_given_back) };
  return cmocka_run_group_tests_name ("cache-memory", tests, NULL, NULL);
}
