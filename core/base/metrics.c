/* SPDX-License-Identifier: Apache-2.0 */
/* The registry of series and their updates. See metrics.h. */
#include "base/metrics-private.h"

#include "base/text.h"

#include <string.h>

#define NAME_MAX_BYTES 128
#define LABELS_MAX_BYTES 512
#define LABELS_MAX 8

const double gsi_metric_bounds[GSI_METRIC_BUCKETS]
    = { 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60 };

static void
metric_free (gpointer data)
{
  GsMetric *metric = data;
  g_free (metric->labels);
  g_free (metric);
}

static void
family_free (gpointer data)
{
  GsiMetricFamily *family = data;
  g_free (family->name);
  g_free (family->help);
  g_ptr_array_unref (family->series);
  g_free (family);
}

GsiMetrics *
gsi_metrics_new (gsize max_series)
{
  GsiMetrics *metrics = g_new0 (GsiMetrics, 1);
  gs_mutex_init (&metrics->lock);
  gs_mutex_init (&metrics->collect_lock);
  metrics->max_series = MAX (max_series, 1);
  metrics->families = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, family_free);
  metrics->by_identity = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  metrics->collectors = g_array_new (FALSE, FALSE, sizeof (GsiMetricCollector));
  for (guint i = 0; i < G_N_ELEMENTS (metrics->refused); i++)
    metrics->refused[i].type = i + 1;
  metrics->n_refused
      = gsi_metrics_get (metrics, GS_METRIC_COUNTER, "gitstead_metrics_refused_total",
                         "Registrations of metrics that were refused, most often by the cap on series.", NULL);
  return metrics;
}

void
gsi_metrics_free (GsiMetrics *metrics)
{
  if (metrics == NULL)
    return;
  g_hash_table_unref (metrics->by_identity);
  g_hash_table_unref (metrics->families);
  g_array_unref (metrics->collectors);
  gs_mutex_clear (&metrics->lock);
  gs_mutex_clear (&metrics->collect_lock);
  g_free (metrics);
}

/* ------------------------------------------------------------------------------------- registration */

static gsize
name_length (const char *text, gboolean colon)
{
  gsize n = 0;
  while (g_ascii_isalpha (text[n]) || text[n] == '_' || (colon && text[n] == ':')
         || (n > 0 && g_ascii_isdigit (text[n])))
    n++;
  return n;
}

/* `key="value"` pairs with commas between, few, no key twice, "le" left to histograms. */
static gboolean
labels_are_fine (const char *labels)
{
  struct
  {
    const char *key;
    gsize len;
  } seen[LABELS_MAX];
  const char *at = labels;

  if (strlen (labels) > LABELS_MAX_BYTES || !g_utf8_validate (labels, -1, NULL))
    return FALSE;
  for (gsize n = 0; *at != '\0'; n++)
    {
      gsize len = name_length (at, FALSE);
      if (n == LABELS_MAX || len == 0 || (len == 2 && strncmp (at, "le", 2) == 0) || strncmp (at, "__", 2) == 0)
        return FALSE;
      for (gsize i = 0; i < n; i++)
        if (seen[i].len == len && strncmp (seen[i].key, at, len) == 0)
          return FALSE;
      seen[n].key = at;
      seen[n].len = len;
      at += len;
      if (at[0] != '=' || at[1] != '"')
        return FALSE;
      for (at += 2; *at != '"'; at++)
        {
          if (*at == '\\')
            at++;
          if (*at == '\0' || *at == '\n' || (at[-1] == '\\' && strchr ("\\\"n", *at) == NULL))
            return FALSE;
        }
      at++;
      if (*at == ',' && at[1] != '\0')
        at++;
      else if (*at != '\0')
        return FALSE;
    }
  return TRUE;
}

/* Under the lock. NULL when it must be refused. */
static GsMetric *
find_or_add (GsiMetrics *metrics, guint32 type, const char *name, const char *help, const char *labels)
{
  g_autofree char *identity = g_strdup_printf ("%s{%s}", name, labels);
  GsMetric *metric = g_hash_table_lookup (metrics->by_identity, identity);
  GsiMetricFamily *family = g_hash_table_lookup (metrics->families, name);

  if (family != NULL && family->type != type)
    return NULL;
  if (metric != NULL)
    return metric;
  if (metrics->n_series >= metrics->max_series)
    return NULL;
  if (family == NULL)
    {
      family = g_new0 (GsiMetricFamily, 1);
      family->name = g_strdup (name);
      family->help = g_strdup (help);
      family->type = type;
      family->series = g_ptr_array_new_with_free_func (metric_free);
      g_hash_table_insert (metrics->families, family->name, family);
    }
  metric = g_new0 (GsMetric, 1);
  metric->type = type;
  metric->shown = TRUE;
  metric->labels = g_strdup (labels);
  g_ptr_array_add (family->series, metric);
  g_hash_table_insert (metrics->by_identity, g_steal_pointer (&identity), metric);
  metrics->n_series++;
  return metric;
}

GsMetric *
gsi_metrics_get (GsiMetrics *metrics, guint32 type, const char *name, const char *help, const char *labels)
{
  GsMetric *metric = NULL;
  gsize len = name_length (name, TRUE);

  labels = labels != NULL ? labels : "";
  if (type >= GS_METRIC_COUNTER && type <= GS_METRIC_HISTOGRAM && len > 0 && len <= NAME_MAX_BYTES && name[len] == '\0'
      && labels_are_fine (labels))
    {
      g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&metrics->lock);
      metric = find_or_add (metrics, type, name, help != NULL ? help : "", labels);
    }
  if (metric == NULL)
    {
      gsi_metric_update (metrics->n_refused, 1);
      metric = &metrics->refused[CLAMP (type, GS_METRIC_COUNTER, GS_METRIC_HISTOGRAM) - 1];
    }
  return metric;
}

/* ------------------------------------------------------------------------------------------ updates */

static void
sum_add (GsiMetricSum *sum, double value)
{
  /* Beyond this a double holds no fraction, and neither does the counter overflow soon. */
  double most = MIN (value, 1e18), whole = (double) (guint64) most;
  guint64 billionths = (guint64) ((most - whole) * 1e9 + 0.5);

  if (whole > 0)
    __atomic_fetch_add (&sum->whole, (guint64) whole, __ATOMIC_RELAXED);
  if (billionths > 0)
    __atomic_fetch_add (&sum->billionths, billionths, __ATOMIC_RELAXED);
}

double
gsi_metric_sum_get (const GsiMetricSum *sum)
{
  return (double) __atomic_load_n (&sum->whole, __ATOMIC_RELAXED)
         + (double) __atomic_load_n (&sum->billionths, __ATOMIC_RELAXED) * 1e-9;
}

static guint64
to_bits (double value)
{
  guint64 bits;
  memcpy (&bits, &value, sizeof bits);
  return bits;
}

static double
from_bits (guint64 bits)
{
  double value;
  memcpy (&value, &bits, sizeof value);
  return value;
}

void
gsi_metric_update (GsMetric *metric, double value)
{
  guint bucket = 0;

  if (metric == NULL || value != value)
    return;
  switch (metric->type)
    {
    case GS_METRIC_GAUGE:
      __atomic_store_n (&metric->u.bits, to_bits (value), __ATOMIC_RELAXED);
      break;
    case GS_METRIC_COUNTER:
      if (value > 0)
        sum_add (&metric->u.sum, value);
      break;
    default:
      value = MAX (value, 0);
      while (bucket < GSI_METRIC_BUCKETS && value > gsi_metric_bounds[bucket])
        bucket++;
      __atomic_fetch_add (&metric->u.histogram.buckets[bucket], 1, __ATOMIC_RELAXED);
      sum_add (&metric->u.histogram.sum, value);
      break;
    }
}

void
gsi_metric_add (GsMetric *metric, double delta)
{
  guint64 before, after;

  if (metric == NULL || metric->type != GS_METRIC_GAUGE || delta != delta)
    return;
  before = __atomic_load_n (&metric->u.bits, __ATOMIC_RELAXED);
  do
    after = to_bits (from_bits (before) + delta);
  while (!__atomic_compare_exchange_n (&metric->u.bits, &before, after, TRUE, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

double
gsi_metric_value (const GsMetric *metric)
{
  guint64 count = 0;

  switch (metric->type)
    {
    case GS_METRIC_GAUGE:
      return from_bits (__atomic_load_n (&metric->u.bits, __ATOMIC_RELAXED));
    case GS_METRIC_COUNTER:
      return gsi_metric_sum_get (&metric->u.sum);
    default:
      for (guint i = 0; i <= GSI_METRIC_BUCKETS; i++)
        count += __atomic_load_n (&metric->u.histogram.buckets[i], __ATOMIC_RELAXED);
      return (double) count;
    }
}
