/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus' text format, version 0.0.4. */
#include "base/metrics-private.h"

#include <math.h>
#include <string.h>

static const char *const type_names[] = { "", "counter", "gauge", "histogram" };

static void
append_number (GString *out, double value)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];

  if (isinf (value))
    g_string_append (out, value > 0 ? "+Inf" : "-Inf");
  else if (fabs (value) < 1e15 && value == floor (value))
    g_string_append_printf (out, "%.0f", value);
  else
    g_string_append (out, g_ascii_formatd (text, sizeof text, "%.12g", value));
}

static void
append_line (GString *out, const char *name, const char *suffix, const char *labels, const char *le, double value)
{
  g_string_append (out, name);
  g_string_append (out, suffix);
  if (labels[0] != '\0' || le != NULL)
    {
      g_string_append_c (out, '{');
      g_string_append (out, labels);
      if (le != NULL)
        g_string_append_printf (out, "%sle=\"%s\"", labels[0] != '\0' ? "," : "", le);
      g_string_append_c (out, '}');
    }
  g_string_append_c (out, ' ');
  append_number (out, value);
  g_string_append_c (out, '\n');
}

static void
append_histogram (GString *out, const char *name, const GsMetric *metric)
{
  guint64 count = 0;

  for (guint i = 0; i < GSI_METRIC_BUCKETS; i++)
    {
      char le[G_ASCII_DTOSTR_BUF_SIZE];
      count += __atomic_load_n (&metric->u.histogram.buckets[i], __ATOMIC_RELAXED);
      g_ascii_formatd (le, sizeof le, "%g", gsi_metric_bounds[i]);
      append_line (out, name, "_bucket", metric->labels, le, (double) count);
    }
  count += __atomic_load_n (&metric->u.histogram.buckets[GSI_METRIC_BUCKETS], __ATOMIC_RELAXED);
  append_line (out, name, "_bucket", metric->labels, "+Inf", (double) count);
  append_line (out, name, "_sum", metric->labels, NULL, gsi_metric_sum_get (&metric->u.histogram.sum));
  /* Counted here and not anew: the format wants _count equal to the last bucket. */
  append_line (out, name, "_count", metric->labels, NULL, (double) count);
}

static void
append_family (GString *out, const GsiMetricFamily *family)
{
  if (family->help[0] != '\0')
    {
      g_string_append_printf (out, "# HELP %s ", family->name);
      for (const char *at = family->help; *at != '\0'; at++)
        if (*at == '\\')
          g_string_append (out, "\\\\");
        else if (*at == '\n')
          g_string_append (out, "\\n");
        else
          g_string_append_c (out, *at);
      g_string_append_c (out, '\n');
    }
  g_string_append_printf (out, "# TYPE %s %s\n", family->name, type_names[family->type]);
  for (guint i = 0; i < family->series->len; i++)
    {
      const GsMetric *metric = g_ptr_array_index (family->series, i);
      if (family->type == GS_METRIC_HISTOGRAM)
        append_histogram (out, family->name, metric);
      else
        append_line (out, family->name, "", metric->labels, NULL, gsi_metric_value (metric));
    }
}

static gint
by_name (gconstpointer a, gconstpointer b)
{
  const GsiMetricFamily *const *one = a, *const *other = b;
  return strcmp ((*one)->name, (*other)->name);
}

GBytes *
gsi_metrics_render (GsiMetrics *metrics)
{
  GString *out = g_string_sized_new (16 * 1024);
  g_autoptr (GPtrArray) families = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer family;

  gs_mutex_lock (&metrics->collect_lock);
  for (guint i = 0; i < metrics->collectors->len; i++)
    {
      const GsiMetricCollector *collector = &g_array_index (metrics->collectors, GsiMetricCollector, i);
      collector->collect (collector->user);
    }
  gs_mutex_unlock (&metrics->collect_lock);

  gs_mutex_lock (&metrics->lock);
  g_hash_table_iter_init (&iter, metrics->families);
  while (g_hash_table_iter_next (&iter, NULL, &family))
    g_ptr_array_add (families, family);
  g_ptr_array_sort (families, by_name);
  for (guint i = 0; i < families->len; i++)
    append_family (out, g_ptr_array_index (families, i));
  gs_mutex_unlock (&metrics->lock);
  return g_string_free_to_bytes (out);
}

void
gsi_metrics_add_collector (GsiMetrics *metrics, GsiMetricsCollect collect, gpointer user)
{
  const GsiMetricCollector collector = { collect, user };
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&metrics->collect_lock);
  g_array_append_val (metrics->collectors, collector);
}

void
gsi_metrics_remove_collector (GsiMetrics *metrics, GsiMetricsCollect collect, gpointer user)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&metrics->collect_lock);
  for (guint i = 0; i < metrics->collectors->len; i++)
    {
      const GsiMetricCollector *collector = &g_array_index (metrics->collectors, GsiMetricCollector, i);
      if (collector->collect == collect && collector->user == user)
        {
          g_array_remove_index (metrics->collectors, i);
          return;
        }
    }
}
