/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - what a request leaves behind: one log record, a few counts. */
#include "http.h"

void
http_metrics_register (HttpServer *server)
{
  static const char *const classes[HTTP_CLASS_COUNT] = { "2xx", "3xx", "4xx", "5xx", "aborted" };
  const GsHost *host = server->host;
  HttpMetrics *metrics = &server->metrics;
  for (guint route = 0; route < ROUTE_COUNT; route++)
    {
      g_autofree char *label = g_strdup_printf ("route=\"%s\"", route_name (route));
      metrics->seconds[route] = host->metric (host, GS_METRIC_HISTOGRAM, "gitstead_http_request_seconds",
                                              "Time from the request line to the last byte of the answer", label);
      for (guint i = 0; i < HTTP_CLASS_COUNT; i++)
        {
          g_autofree char *labels = g_strdup_printf ("route=\"%s\",status=\"%s\"", route_name (route), classes[i]);
          metrics->requests[route][i] = host->metric (host, GS_METRIC_COUNTER, "gitstead_http_requests_total",
                                                      "HTTP requests that ended, by what they were for", labels);
        }
    }
  metrics->bytes_in = host->metric (host, GS_METRIC_COUNTER, "gitstead_http_bytes_total",
                                    "Bytes of HTTP bodies, without framing and TLS", "direction=\"in\"");
  metrics->bytes_out = host->metric (host, GS_METRIC_COUNTER, "gitstead_http_bytes_total",
                                     "Bytes of HTTP bodies, without framing and TLS", "direction=\"out\"");
  metrics->in_flight = host->metric (host, GS_METRIC_GAUGE, "gitstead_http_in_flight", "HTTP requests under way", NULL);
  metrics->connections
      = host->metric (host, GS_METRIC_GAUGE, "gitstead_http_connections", "Open HTTP connections", NULL);
}

void
http_metrics_ended (HttpRequest *request, gboolean aborted)
{
  HttpServer *server = request->server;
  const GsHost *host = server->host;
  HttpMetrics *metrics = &server->metrics;
  RouteKind route = request->route.kind;
  gint64 took_us = host->now_us (host) - request->begun_us;
  HttpClass class = HTTP_CLASS_5XX;

  if (aborted || request->status == 0)
    class = HTTP_CLASS_ABORTED;
  else if (request->status < 300)
    class = HTTP_CLASS_2XX;
  else if (request->status < 400)
    class = HTTP_CLASS_3XX;
  else if (request->status < 500)
    class = HTTP_CLASS_4XX;
  host->metric_update (metrics->requests[route][class], 1);
  host->metric_update (metrics->seconds[route], (double) took_us / G_USEC_PER_SEC);
  host->metric_update (metrics->bytes_in, (double) request->bytes_in);
  host->metric_update (metrics->bytes_out, (double) request->bytes_out);
  __atomic_sub_fetch (&server->in_flight, 1, __ATOMIC_RELAXED);

  if (host->log_enabled (host, GS_LOG_INFO))
    {
      g_autofree char *path = http_escape (request->uri);
      const GsField fields[] = { GS_TEXT ("method", request->method[0] != '\0' ? request->method : "-"),
                                 GS_TEXT ("path", path),
                                 GS_NUMBER ("status", request->status),
                                 GS_TEXT ("route", route_name (route)),
                                 GS_NUMBER ("bytes_in", request->bytes_in),
                                 GS_NUMBER ("bytes_out", request->bytes_out),
                                 GS_NUMBER ("duration_us", took_us),
                                 GS_TEXT ("peer", request->peer),
                                 GS_TEXT ("ended", aborted ? "aborted" : "complete") };
      host->log (host, GS_LOG_INFO, "http.request", fields, G_N_ELEMENTS (fields));
    }
}
