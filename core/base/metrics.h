/* SPDX-License-Identifier: Apache-2.0 */
/**
 * metrics.h - counters, gauges and histograms, shown in Prometheus' text format.
 *
 * Labels are part of a series' identity and are fixed when it is registered, so an update is a few atomic operations
 * and never waits. The number of series is capped: beyond it (and for names, labels or types that do not fit)
 * registration gives a series that is not shown, and gitstead_metrics_refused_total counts it. Never label by
 * repository, caller or path.
 */
#ifndef GSI_BASE_METRICS_H
#define GSI_BASE_METRICS_H

#include <gitstead/host.h>

typedef struct GsiMetrics GsiMetrics;

#define GSI_METRICS_MAX_SERIES 4096u

GsiMetrics *gsi_metrics_new (gsize max_series);
/** No thread may update a metric of it any more. NULL is fine. */
void gsi_metrics_free (GsiMetrics *metrics);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiMetrics, gsi_metrics_free)

/**
 * Registers, or finds, a series. Never NULL; *borrowed until gsi_metrics_free*. @type is GS_METRIC_*. @labels is NULL
 * or `key="value",key="value"` (values may hold \\, \" and \n). Histograms take seconds.
 */
GsMetric *gsi_metrics_get (GsiMetrics *metrics, guint32 type, const char *name, const char *help, const char *labels);

/** Counter: adds (not below 0); gauge: sets; histogram: observes. NULL is fine. Wait-free. */
void gsi_metric_update (GsMetric *metric, double value);

/** Gauge only: adds, also below zero. Lock-free. */
void gsi_metric_add (GsMetric *metric, double delta);

/** Counter and gauge: the value. Histogram: the number of observations. */
double gsi_metric_value (const GsMetric *metric);

/** Called before every rendering, to set gauges that are read from elsewhere. Must not register metrics. Any thread. */
typedef void (*GsiMetricsCollect) (gpointer user);
void gsi_metrics_add_collector (GsiMetrics *metrics, GsiMetricsCollect collect, gpointer user);
/** After it returns @collect is not running and will not run. */
void gsi_metrics_remove_collector (GsiMetrics *metrics, GsiMetricsCollect collect, gpointer user);

/** The exposition, content type "text/plain; version=0.0.4; charset=utf-8". *full*. Any thread. */
GBytes *gsi_metrics_render (GsiMetrics *metrics);

#endif
