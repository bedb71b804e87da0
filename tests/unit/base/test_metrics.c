/* SPDX-License-Identifier: Apache-2.0 */
/* The metrics registry: values, exposition, escaping, the cap, and updates from many threads. */
#include "base/metrics.h"

#include <gitstead/thread.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static char *
render (GsiMetrics *metrics)
{
  g_autoptr (GBytes) bytes = gsi_metrics_render (metrics);
  return g_strndup (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes));
}

static void
assert_has (const char *text, const char *part)
{
  if (strstr (text, part) == NULL)
    fail_msg ("\"%s\" does not have \"%s\"", text, part);
}

static void
test_exposition (void **state)
{
  g_autoptr (GsiMetrics) metrics = gsi_metrics_new (100);
  GsMetric *ok = gsi_metrics_get (metrics, GS_METRIC_COUNTER, "calls_total", "Calls.", "code=\"OK\"");
  GsMetric *busy = gsi_metrics_get (metrics, GS_METRIC_COUNTER, "calls_total", "Other help.", "code=\"BUSY\"");
  GsMetric *depth = gsi_metrics_get (metrics, GS_METRIC_GAUGE, "queue_depth", "Line one\nback\\slash", NULL);
  GsMetric *took = gsi_metrics_get (metrics, GS_METRIC_HISTOGRAM, "call_seconds", "Times.", "m=\"a\\\"b\"");
  g_autofree char *text = NULL;

  gsi_metric_update (ok, 2);
  gsi_metric_update (ok, 0.5);
  gsi_metric_update (ok, -7); /* a counter does not fall */
  gsi_metric_update (busy, 1);
  gsi_metric_update (depth, 7);
  gsi_metric_add (depth, -2.5);
  gsi_metric_update (took, 0.0004);
  gsi_metric_update (took, 0.0005); /* le includes its bound */
  gsi_metric_update (took, 3);
  gsi_metric_update (took, 100);
  gsi_metric_update (took, __builtin_nan (""));
  gsi_metric_update (NULL, 1);
  assert_ptr_equal (gsi_metrics_get (metrics, GS_METRIC_COUNTER, "calls_total", NULL, "code=\"OK\""), ok);

  text = render (metrics);
  assert_has (text, "# HELP calls_total Calls.\n# TYPE calls_total counter\ncalls_total{code=\"OK\"} 2.5\n"
                    "calls_total{code=\"BUSY\"} 1\n");
  assert_has (text, "# HELP queue_depth Line one\\nback\\\\slash\n# TYPE queue_depth gauge\nqueue_depth 4.5\n");
  assert_has (text, "call_seconds_bucket{m=\"a\\\"b\",le=\"0.0005\"} 2\n");
  assert_has (text, "call_seconds_bucket{m=\"a\\\"b\",le=\"2.5\"} 2\n");
  assert_has (text, "call_seconds_bucket{m=\"a\\\"b\",le=\"5\"} 3\n");
  assert_has (text, "call_seconds_bucket{m=\"a\\\"b\",le=\"60\"} 3\n");
  assert_has (text, "call_seconds_bucket{m=\"a\\\"b\",le=\"+Inf\"} 4\n");
  assert_has (text, "call_seconds_sum{m=\"a\\\"b\"} 103.0009\n");
  assert_has (text, "call_seconds_count{m=\"a\\\"b\"} 4\n");
  /* Families in order of name; nothing was refused. */
  assert_true (strstr (text, "call_seconds") < strstr (text, "calls_total"));
  assert_has (text, "gitstead_metrics_refused_total 0\n");
}

static void
test_what_is_refused (void **state)
{
  g_autoptr (GsiMetrics) metrics = gsi_metrics_new (4);
  static const char *const labels[]
      = { "x",          "x=1",       "x=\"1",    "x=\"1\",",   "x=\"1\",x=\"2\"", "le=\"1\"", "__x=\"1\"",
          "x=\"a\nb\"", "x=\"\\q\"", "1x=\"1\"", "x=\"\xff\"", "x=\"1\"y=\"2\"",  "x=\"\\" };
  GsMetric *refused = NULL;
  g_autofree char *text = NULL;
  guint n = 0;

  for (guint i = 0; i < G_N_ELEMENTS (labels); i++, n++)
    {
      refused = gsi_metrics_get (metrics, GS_METRIC_GAUGE, "bad", NULL, labels[i]);
      gsi_metric_update (refused, 1); /* goes nowhere, but is safe */
    }
  gsi_metrics_get (metrics, GS_METRIC_GAUGE, "bad name", NULL, NULL);
  gsi_metrics_get (metrics, GS_METRIC_GAUGE, "", NULL, NULL);
  gsi_metrics_get (metrics, 99, "bad", NULL, NULL);
  gsi_metrics_get (metrics, GS_METRIC_GAUGE, "fine", NULL, "a=\"x=\\\"y\\\",b=\",b=\"2\"");
  gsi_metrics_get (metrics, GS_METRIC_COUNTER, "fine", NULL, NULL); /* another type */
  n += 4;
  /* The cap: gitstead_metrics_refused_total itself, fine, and two more. */
  for (guint i = 0; i < 10; i++)
    {
      g_autofree char *label = g_strdup_printf ("n=\"%u\"", i);
      gsi_metric_update (gsi_metrics_get (metrics, GS_METRIC_COUNTER, "many", NULL, label), 1);
    }
  n += 8;
  text = render (metrics);
  assert_has (text, "many{n=\"1\"} 1\n");
  assert_null (strstr (text, "many{n=\"2\"}"));
  assert_null (strstr (text, "bad"));
  assert_has (text, "fine{a=\"x=\\\"y\\\",b=\",b=\"2\"} 0\n");
  {
    g_autofree char *want = g_strdup_printf ("gitstead_metrics_refused_total %u\n", n);
    assert_has (text, want);
  }
}

static void
collect (gpointer user)
{
  gsi_metric_update (user, 42);
}

static void
test_collectors (void **state)
{
  g_autoptr (GsiMetrics) metrics = gsi_metrics_new (10);
  GsMetric *gauge = gsi_metrics_get (metrics, GS_METRIC_GAUGE, "g", NULL, NULL);
  g_autofree char *with = NULL, *without = NULL;

  gsi_metrics_add_collector (metrics, collect, gauge);
  with = render (metrics);
  assert_has (with, "g 42\n");
  gsi_metrics_remove_collector (metrics, collect, gauge);
  gsi_metric_update (gauge, 1);
  without = render (metrics);
  assert_has (without, "g 1\n");
}

#define ROUNDS 20000

typedef struct
{
  GsiMetrics *metrics;
  GsMetric *counter, *gauge, *histogram;
} Shared;

static void *
update (void *data)
{
  Shared *shared = data;
  for (int i = 0; i < ROUNDS; i++)
    {
      gsi_metric_update (shared->counter, 1.25);
      gsi_metric_add (shared->gauge, i % 2 == 0 ? 1 : -1);
      gsi_metric_update (shared->histogram, 0.001 * (i % 3));
      if (i % 1000 == 0)
        {
          g_autofree char *label = g_strdup_printf ("n=\"%d\"", i);
          gsi_metric_update (gsi_metrics_get (shared->metrics, GS_METRIC_COUNTER, "some", NULL, label), 1);
          g_free (render (shared->metrics));
        }
    }
  return NULL;
}

static void
test_many_threads (void **state)
{
  g_autoptr (GsiMetrics) metrics = gsi_metrics_new (100);
  Shared shared = { metrics, gsi_metrics_get (metrics, GS_METRIC_COUNTER, "c", NULL, NULL),
                    gsi_metrics_get (metrics, GS_METRIC_GAUGE, "g", NULL, NULL),
                    gsi_metrics_get (metrics, GS_METRIC_HISTOGRAM, "h", NULL, NULL) };
  GsThread threads[4];
  g_autofree char *text = NULL;

  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    assert_int_equal (gs_thread_start (&threads[i], "update", update, &shared), 0);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    gs_thread_join (threads[i]);
  text = render (metrics);
  assert_has (text, "\nc 100000\n");
  assert_has (text, "\ng 0\n");
  assert_has (text, "\nh_count 80000\n");
  assert_has (text, "some{n=\"0\"} 4\n");
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_exposition),
    cmocka_unit_test (test_what_is_refused),
    cmocka_unit_test (test_collectors),
    cmocka_unit_test (test_many_threads),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
