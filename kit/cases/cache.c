/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind CACHE. A cache may lose anything, so each case allows a miss wherever a hit is expected. */
#include "engine.h"

static GBytes *
make_key (Conformance *c, const char *name)
{
  char *text = g_strdup_printf ("conformance-%s/%s", c->tag, name);
  return g_bytes_new_take (text, strlen (text));
}

/* What is stored under a key tells which key: an answer to another one would show. */
static GBytes *
make_value (const char *name, gsize n_bytes)
{
  guint8 *bytes = g_malloc (MAX (n_bytes, 1));
  guint seed = g_str_hash (name);
  for (gsize i = 0; i < n_bytes; i++)
    bytes[i] = (guint8) (seed = (seed * 1103515245u + 12345u) >> 1);
  return g_bytes_new_take (bytes, n_bytes);
}

static gboolean
put (Conformance *c, const char *name, gsize n_bytes, gint64 ttl_us, GError **error)
{
  const GsCacheOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GBytes) key = make_key (c, name), value = make_value (name, n_bytes);
  return ops->store (c->self, &call, key, value, ttl_us, error);
}

/* Fails the case when what is found is not what was stored. */
static gboolean
get (Conformance *c, const char *name, gsize n_bytes, gboolean *ret_hit, GError **error)
{
  const GsCacheOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GBytes) key = make_key (c, name), expected = make_value (name, n_bytes), value = NULL;
  if (!ops->lookup (c->self, &call, key, &value, error))
    return FALSE;
  *ret_hit = value != NULL;
  if (value != NULL && !g_bytes_equal (value, expected))
    conformance_fail (c, "the bytes that were stored", "%" G_GSIZE_FORMAT " other bytes for key %s",
                      g_bytes_get_size (value), name);
  return TRUE;
}

static void
same_bytes (Conformance *c)
{
  static const gsize sizes[] = { 0, 1, 100, 4096, 65536 };
  gboolean hit;
  for (gsize i = 0; i < G_N_ELEMENTS (sizes); i++)
    {
      g_autofree char *name = g_strdup_printf ("same-%" G_GSIZE_FORMAT, sizes[i]);
      CHECK_OK (c, put (c, name, sizes[i], 0, &error));
      CHECK_OK (c, get (c, name, sizes[i], &hit, &error));
    }
}

static void
replaced (Conformance *c)
{
  const GsCacheOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GBytes) key = make_key (c, "replaced"), value = make_value ("newer", 50);
  g_autoptr (GBytes) found = NULL;
  CHECK_OK (c, put (c, "replaced", 60, 0, &error));
  CHECK_OK (c, ops->store (c->self, &call, key, value, 0, &error));
  CHECK_OK (c, ops->lookup (c->self, &call, key, &found, &error));
  CHECK (c, found == NULL || g_bytes_equal (found, value), "the newer bytes or a miss", "the older ones");
}

static void
miss (Conformance *c)
{
  const GsCacheOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GBytes) key = make_key (c, "never stored"), empty = g_bytes_new_static ("", 0);
  static char other;
  GBytes *value = (GBytes *) &other;
  CHECK_OK (c, ops->lookup (c->self, &call, key, &value, &error));
  CHECK (c, value == NULL, "a miss is NULL", "something else");
  value = (GBytes *) &other;
  CHECK_OK (c, ops->lookup (c->self, &call, empty, &value, &error));
  CHECK (c, value == NULL, "a miss for the empty key", "something else");
}

static void
binary_keys (Conformance *c)
{
  const GsCacheOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GBytes) one = g_bytes_new ("k\0\xff"
                                        "1",
                                        4),
                     two = g_bytes_new ("k\0\xff"
                                        "2",
                                        4);
  g_autoptr (GBytes) value = make_value ("one", 10), found = NULL;
  CHECK_OK (c, ops->store (c->self, &call, one, value, 0, &error));
  CHECK_OK (c, ops->lookup (c->self, &call, two, &found, &error));
  CHECK (c, found == NULL, "a miss: the keys differ after a NUL", "a hit");
  CHECK_OK (c, ops->forget_prefix (c->self, &call, one, &error));
}

static void
check_size (Conformance *c, gint64 size)
{
  const GsCacheOps *ops = c->ops;
  GsCacheStats stats = { .size = sizeof stats };
  ops->stats (c->self, &stats);
  CHECK (c, stats.bytes <= (guint64) size, "no more bytes than configured",
         "%" G_GUINT64_FORMAT " of %" G_GINT64_FORMAT, stats.bytes, size);
}

static void
bounded (Conformance *c)
{
  const GsCacheOps *ops = c->ops;
  GsCacheStats stats = { .size = sizeof stats };
  gint64 size;
  gboolean hit;
  guint64 payload = 0;
  if (!conformance_has_option (c, "size"))
    {
      conformance_skip (c, "the plugin has no option “size”");
      return;
    }
  size = c->target->config->integer (c->target->config, "size");
  if (size > 64 * 1024 * 1024)
    {
      conformance_skip (c, "“size” is over 64 MiB: too large to fill in a test");
      return;
    }
  for (guint i = 0; payload < (guint64) size * 2 && !conformance_has_failed (c); i++)
    {
      g_autofree char *name = g_strdup_printf ("fill-%u", i);
      gsize n_bytes = i % 50 == 0 ? 20000 : i % 3000;
      CHECK_OK (c, put (c, name, n_bytes, 0, &error));
      payload += n_bytes;
      check_size (c, size);
      if (i % 7 == 0)
        CHECK_OK (c, get (c, name, n_bytes, &hit, &error));
    }
  CHECK_OK (c, put (c, "huge", (gsize) size + 1, 0, &error)); /* silently not kept */
  CHECK_OK (c, get (c, "huge", (gsize) size + 1, &hit, &error));
  CHECK (c, !hit, "an entry larger than the whole cache is not kept", "it was");
  check_size (c, size);
  ops->stats (c->self, &stats);
  CHECK (c, stats.n_entries == 0 || stats.evictions > 0, "evictions counted",
         "none, with %" G_GUINT64_FORMAT " entries", stats.n_entries);
}

static void
tiny_entries (Conformance *c)
{
  gint64 size = conformance_has_option (c, "size") ? c->target->config->integer (c->target->config, "size") : 0;
  if (size == 0 || size > 64 * 1024 * 1024)
    {
      conformance_skip (c, "the plugin has no option “size”, or it is too large to fill in a test");
      return;
    }
  for (guint i = 0; i < size / 64 && !conformance_has_failed (c); i++)
    {
      g_autofree char *name = g_strdup_printf ("%x", i);
      CHECK_OK (c, put (c, name, 0, 0, &error));
    }
  check_size (c, size);
  {
    const GsCacheOps *ops = c->ops;
    GsCacheStats stats = { .size = sizeof stats };
    ops->stats (c->self, &stats);
    CHECK (c, stats.n_entries == 0 || stats.bytes / stats.n_entries >= 64,
           "the cost of keeping an empty entry counted too",
           "%" G_GUINT64_FORMAT " bytes for %" G_GUINT64_FORMAT " entries", stats.bytes, stats.n_entries);
  }
}

static void
long_keys (Conformance *c)
{
  const GsCacheOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  char *text = g_strnfill (1024, 'k');
  g_autoptr (GBytes) key = g_bytes_new_take (text, 1024), value = make_value ("long", 10), found = NULL;
  CHECK_OK (c, ops->store (c->self, &call, key, value, 0, &error));
  CHECK_OK (c, ops->lookup (c->self, &call, key, &found, &error));
  CHECK (c, found == NULL || g_bytes_equal (found, value), "the bytes that were stored or a miss", "others");
  CHECK_OK (c, ops->forget_prefix (c->self, &call, key, &error));
}

static void
forgotten (Conformance *c)
{
  const GsCacheOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GBytes) prefix = make_key (c, "forget/a");
  gboolean hit, kept_before;
  CHECK_OK (c, put (c, "forget/a", 10, 0, &error));
  CHECK_OK (c, put (c, "forget/ab", 10, 0, &error));
  CHECK_OK (c, put (c, "forget/b", 10, 0, &error));
  CHECK_OK (c, get (c, "forget/b", 10, &kept_before, &error));
  CHECK_OK (c, ops->forget_prefix (c->self, &call, prefix, &error));
  CHECK_OK (c, get (c, "forget/a", 10, &hit, &error));
  CHECK (c, !hit, "forget/a gone", "still there");
  CHECK_OK (c, get (c, "forget/ab", 10, &hit, &error));
  CHECK (c, !hit, "forget/ab gone", "still there");
  CHECK_OK (c, get (c, "forget/b", 10, &hit, &error));
  /* What runs beside it stores as well, and may have pushed it out. */
  CHECK (c, hit == kept_before || c->all != NULL, "forget/b untouched", "it is gone, too");
}

static void
time_to_live (Conformance *c)
{
  gboolean hit, short_before, long_before, ever_before; /* it may have lost any of them by now */
  CHECK_OK (c, put (c, "short", 10, 2 * G_USEC_PER_SEC, &error));
  CHECK_OK (c, put (c, "long", 10, 3600 * (gint64) G_USEC_PER_SEC, &error));
  CHECK_OK (c, put (c, "for-ever", 10, 0, &error));
  CHECK_OK (c, get (c, "short", 10, &short_before, &error));
  CHECK_OK (c, get (c, "long", 10, &long_before, &error));
  CHECK_OK (c, get (c, "for-ever", 10, &ever_before, &error));
  conformance_advance (c, G_USEC_PER_SEC);
  CHECK_OK (c, get (c, "short", 10, &hit, &error));
  CHECK (c, hit == short_before, "still there after half of its time", "gone");
  conformance_advance (c, G_USEC_PER_SEC);
  CHECK_OK (c, get (c, "short", 10, &hit, &error));
  CHECK (c, !hit, "nothing after its time to live", "it was still given");
  CHECK_OK (c, get (c, "long", 10, &hit, &error));
  CHECK (c, hit == long_before, "the others still there", "gone");
  CHECK_OK (c, get (c, "for-ever", 10, &hit, &error));
  CHECK (c, hit == ever_before, "the others still there", "gone");
  CHECK_OK (c, put (c, "alone", 10, G_USEC_PER_SEC, &error));
  conformance_advance (c, G_USEC_PER_SEC);
  CHECK_OK (c, get (c, "alone", 10, &hit, &error));
  CHECK (c, !hit, "nothing after its time to live", "it was still given");
}

static void
statistics (Conformance *c)
{
  const GsCacheOps *ops = c->ops;
  GsCacheStats before = { .size = sizeof before }, after = { .size = sizeof after };
  gboolean hit, hit_again;
  ops->stats (c->self, &before);
  CHECK_OK (c, get (c, "not there", 5, &hit, &error));
  CHECK_OK (c, put (c, "there", 5, 0, &error));
  CHECK_OK (c, get (c, "there", 5, &hit_again, &error));
  ops->stats (c->self, &after);
  CHECK (c, after.hits - before.hits == (guint64) hit_again && after.misses - before.misses == 2 - (guint64) hit_again,
         "each look-up counted once", "%" G_GUINT64_FORMAT " hits and %" G_GUINT64_FORMAT " misses more",
         after.hits - before.hits, after.misses - before.misses);
}

static void
late_call (Conformance *c)
{
  const GsCacheOps *ops = c->ops;
  GsCall call = conformance_call (c, 1);
  g_autoptr (GBytes) key = make_key (c, "late"), value = make_value ("late", 10), found = NULL;
  g_autoptr (GError) ignored = NULL, ignored_too = NULL;
  ops->store (c->self, &call, key, value, 0, &ignored); /* that it comes back is what is asked */
  ops->lookup (c->self, &call, key, &found, &ignored_too);
}

static void
crowd_body (Conformance *c, guint index, gpointer user)
{
  const GsCacheOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  for (guint i = 0; i < 3000 && !conformance_has_failed (c); i++)
    {
      guint which = (i * 7 + index * 13) % 97;
      g_autofree char *name = g_strdup_printf ("crowd-%u", which);
      gboolean hit;
      if (i % 5 == 0)
        CHECK_OK (c, put (c, name, which * 40, which % 2 == 0 ? 1000 : 0, &error));
      else if (i % 499 == 0)
        {
          g_autoptr (GBytes) prefix = make_key (c, "crowd-1");
          CHECK_OK (c, ops->forget_prefix (c->self, &call, prefix, &error));
        }
      else
        CHECK_OK (c, get (c, name, which * 40, &hit, &error));
    }
}

static void
crowd (Conformance *c)
{
  conformance_parallel (c, 4, crowd_body, NULL);
}

const ConformanceCase conformance_cache[] = {
  { "C1", "what is found is what was stored, of any size", same_bytes },
  { "C1", "storing again replaces", replaced },
  { "C2", "a miss is TRUE and NULL", miss },
  { "C1", "keys are bytes", binary_keys },
  { "C1", "keys of 1 KiB", long_keys },
  { "C3", "never more than its size, whatever is stored", bounded },
  { "C3", "empty entries cost, too", tiny_entries },
  { "C1", "forgetting a prefix forgets that and no more", forgotten },
  { "C5", "nothing is given after its time to live", time_to_live, TRUE },
  { "P5", "a call whose time is over comes back", late_call },
  { "C4", "look-ups are counted", statistics, TRUE },
  { "C4", "many threads at once", crowd },
  { NULL, NULL, NULL },
};
