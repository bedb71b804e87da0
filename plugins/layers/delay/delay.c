/* SPDX-License-Identifier: Apache-2.0 */
/* layer/delay: holds chosen calls up, no longer than their caller has patience. */
#include "wrap.h"

#include <poll.h>
#include <string.h>

/* How late a cancelled call may notice where it has no descriptor to wait on. */
#define LOOK_US 20000

typedef struct
{
  WrapList list;
  gint64 delay_us, spread_us;
  gboolean after;
} Delay;

/* FALSE when the call is over before the time is. */
static gboolean
wait_for (GsCall *call, gint64 time_us)
{
  gint64 until_us = g_get_monotonic_time () + time_us;
  int cancelled = call->cancel_fd != NULL ? call->cancel_fd (call) : -1;

  for (;;)
    {
      gint64 now_us = g_get_monotonic_time (), left_us = MIN (until_us, call->deadline_us) - now_us;
      struct pollfd watch = { .fd = cancelled, .events = POLLIN };
      struct timespec time;
      if (gs_call_cancelled (call) || now_us >= call->deadline_us)
        return FALSE;
      if (left_us <= 0)
        return TRUE;
      if (cancelled < 0)
        left_us = MIN (left_us, LOOK_US);
      time.tv_sec = (time_t) (left_us / G_USEC_PER_SEC);
      time.tv_nsec = (long) (left_us % G_USEC_PER_SEC) * 1000;
      ppoll (&watch, cancelled < 0 ? 0 : 1, &time, NULL);
    }
}

static gint64
how_long (const Delay *delay)
{
  const GsHost *host = delay->list.host;
  guint64 dice = 0;

  if (delay->spread_us == 0)
    return delay->delay_us;
  host->random (host, &dice, sizeof dice);
  return delay->delay_us + (gint64) (dice % (guint64) (delay->spread_us + 1));
}

gboolean
wrap_before (const Wrap *wrap, WrapPass *pass, GError **error)
{
  const Delay *delay = (const Delay *) wrap->list;
  const guint32 flags = pass->slot->flags;

  if (!pass->chosen || pass->call == NULL || delay->after)
    return TRUE;
  if (wait_for (pass->call, how_long (delay)) || (flags & WRAP_FAILS) == 0 || (flags & WRAP_CONSUMES) != 0)
    return TRUE;
  gs_call_check (pass->call, wrap->list->host->instance, error);
  return FALSE;
}

void
wrap_fail (const Wrap *wrap, const WrapPass *pass, GError **error)
{
  gs_fail (error, GS_ERROR_INTERNAL, "%s fails no calls", wrap->list->host->instance); /* nobody asked for it */
}

/* What has been done stays done: a caller that lost its patience meanwhile hears so all the same. */
void
wrap_after (const Wrap *wrap, const WrapPass *pass, const GError *error)
{
  const Delay *delay = (const Delay *) wrap->list;

  if (pass->chosen && pass->call != NULL && delay->after)
    wait_for (pass->call, how_long (delay));
}

static const GsOption options[] = {
  WRAP_SLOTS_OPTION,
  { .key = "time",
    .type = GS_OPTION_DURATION,
    .fallback = "0s",
    .max = 3600 * (gint64) G_USEC_PER_SEC,
    .help = "How long each chosen call is held up." },
  { .key = "spread",
    .type = GS_OPTION_DURATION,
    .fallback = "0s",
    .max = 3600 * (gint64) G_USEC_PER_SEC,
    .help = "Up to so much longer, by dice." },
  { .key = "when",
    .type = GS_OPTION_CHOICE,
    .fallback = "before",
    .choices = "before|after",
    .help = "Before the call is carried out, or after. A call that is cancelled or out of time is let go at once: before, it "
            "fails with that; after, it keeps its outcome." },
  { .key = NULL },
};

static gpointer
delay_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Delay *delay = g_new0 (Delay, 1);

  wrap_list_init (&delay->list, host, config);
  delay->delay_us = config->integer (config, "time");
  delay->spread_us = config->integer (config, "spread");
  delay->after = g_strcmp0 (config->string (config, "when"), "after") == 0;
  return delay;
}

static void
delay_destroy (gpointer self)
{
  Delay *delay = self;
  wrap_list_clear (&delay->list);
  g_free (delay);
}

static const GsLayerOps delay_ops = { .wrap = wrap_wrap };

GS_PLUGIN_DEFINE (GsLayerOps, .kind = GS_KIND_LAYER, .threads = GS_THREADS_PARALLEL, .name = "delay", .version = "1.0",
                  .summary = "Holds chosen calls of the instance that it wraps up",
                  .license = "Apache-2.0", .options = options, .ops = &delay_ops, .create = delay_create,
                  .destroy = delay_destroy)
