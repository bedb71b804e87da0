/* SPDX-License-Identifier: Apache-2.0 */
/* layer/trace: one log record for each call of a slot, with how long it took and what came out of it. */
#include "wrap.h"

#include <string.h>

typedef struct
{
  WrapList list;
  GsLogLevel level;
  gint64 slower_than_us;
  gboolean failures;
} Trace;

gboolean
wrap_before (const Wrap *wrap, WrapPass *pass, GError **error)
{
  pass->began_us = wrap->list->host->now_us (wrap->list->host);
  return TRUE;
}

void
wrap_fail (const Wrap *wrap, const WrapPass *pass, GError **error)
{
  gs_fail (error, GS_ERROR_INTERNAL, "%s fails no calls", wrap->list->host->instance); /* nobody asked for it */
}

void
wrap_after (const Wrap *wrap, const WrapPass *pass, const GError *error)
{
  const Trace *trace = (const Trace *) wrap->list;
  const GsHost *host = wrap->list->host;
  gint64 took_us;
  GsField fields[5];
  gsize n = 0;

  if (!pass->chosen || !host->log_enabled (host, trace->level))
    return;
  took_us = host->now_us (host) - pass->began_us;
  if (took_us < trace->slower_than_us && !(trace->failures && error != NULL))
    return;
  fields[n++] = GS_TEXT ("slot", pass->slot->name);
  fields[n++] = GS_NUMBER ("us", took_us);
  fields[n++] = GS_TEXT ("outcome", gs_error_name (gs_error_code (error)));
  if (pass->repo != NULL)
    fields[n++] = GS_NUMBER ("repository", pass->repo->id);
  if (error != NULL)
    fields[n++] = GS_TEXT ("error", error->message);
  host->log (host, trace->level, "layer.trace", fields, n);
}

static const GsOption options[] = {
  WRAP_SLOTS_OPTION,
  { .key = "level",
    .type = GS_OPTION_CHOICE,
    .fallback = "info",
    .choices = "error|warning|info|debug",
    .help = "Level of the records." },
  { .key = "slower_than",
    .type = GS_OPTION_DURATION,
    .fallback = "0s",
    .max = 3600 * (gint64) G_USEC_PER_SEC,
    .help = "Only calls that took at least so long." },
  { .key = "failures",
    .type = GS_OPTION_BOOL,
    .fallback = "true",
    .help = "Calls that failed are told however fast they were." },
  { .key = NULL },
};

static gpointer
trace_create (const GsHost *host, const GsConfig *config, GError **error)
{
  static const char *const levels[] = { "error", "warning", "info", "debug" };
  Trace *trace = g_new0 (Trace, 1);

  wrap_list_init (&trace->list, host, config);
  for (guint i = 0; i < G_N_ELEMENTS (levels); i++)
    if (g_strcmp0 (config->string (config, "level"), levels[i]) == 0)
      trace->level = (GsLogLevel) i;
  trace->slower_than_us = config->integer (config, "slower_than");
  trace->failures = config->boolean (config, "failures");
  return trace;
}

static void
trace_destroy (gpointer self)
{
  Trace *trace = self;
  wrap_list_clear (&trace->list);
  g_free (trace);
}

static const GsLayerOps trace_ops = { .wrap = wrap_wrap };

GS_PLUGIN_DEFINE (GsLayerOps, .kind = GS_KIND_LAYER, .threads = GS_THREADS_PARALLEL, .name = "trace", .version = "1.0",
                  .summary = "Logs every call of the instance that it wraps, with its time and outcome",
                  .license = "Apache-2.0", .options = options, .ops = &trace_ops, .create = trace_create,
                  .destroy = trace_destroy)
