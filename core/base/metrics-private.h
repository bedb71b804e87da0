/* SPDX-License-Identifier: Apache-2.0 */
/* metrics-private.h - how a series is kept; shared by metrics.c and metrics-render.c. */
#ifndef GSI_BASE_METRICS_PRIVATE_H
#define GSI_BASE_METRICS_PRIVATE_H

#include "base/metrics.h"
#include <gitstead/thread.h>

#define GSI_METRIC_BUCKETS 16

/* Upper bounds in seconds; +Inf follows. */
extern const double gsi_metric_bounds[GSI_METRIC_BUCKETS];

/**
 * A sum of non-negative numbers in two parts, so that adding needs one or two fetch-and-adds and no retry: whole units,
 * and billionths.
 */
typedef struct
{
  guint64 whole;
  guint64 billionths;
} GsiMetricSum;

struct GsMetric
{
  guint32 type;
  gboolean shown;
  char *labels; /* in the form in which they are shown, without braces; "" = none */
  union
  {
    GsiMetricSum sum; /* counter */
    guint64 bits;     /* gauge: a double's */
    struct
    {
      guint64 buckets[GSI_METRIC_BUCKETS + 1];
      GsiMetricSum sum;
    } histogram;
  } u;
};

typedef struct
{
  char *name, *help;
  guint32 type;
  GPtrArray *series; /* GsMetric, in order of registration */
} GsiMetricFamily;

typedef struct
{
  GsiMetricsCollect collect;
  gpointer user;
} GsiMetricCollector;

struct GsiMetrics
{
  GsMutex lock; /* of all below but the values */
  gsize n_series, max_series;
  GHashTable *families;    /* name -> GsiMetricFamily */
  GHashTable *by_identity; /* "name{labels}" -> GsMetric */
  GsMetric refused[3];     /* by type - 1: where updates of refused series go */
  GsMetric *n_refused;
  GsMutex collect_lock; /* held while collectors run, so that removing one can wait for it */
  GArray *collectors;
};

double gsi_metric_sum_get (const GsiMetricSum *sum);

#endif
