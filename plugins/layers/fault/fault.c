/* SPDX-License-Identifier: Apache-2.0 */
/* layer/fault: makes chosen calls fail, before or after they are carried out, the same ones with the same seed. */
#include "wrap.h"

#include <string.h>

typedef struct
{
  WrapList list;
  guint64 nth, times, seed, share_ppm;
  gboolean after;
  GsErrorCode code;
  guint64 n_calls; /* atomic: chosen ones so far */
} Fault;

/* SplitMix64: which calls a share meets depends on the seed and their number alone. */
static guint64
scramble (guint64 x)
{
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

static gboolean
is_meant (const Fault *fault, guint64 number)
{
  if (fault->nth > 0 && number >= fault->nth && (fault->times == 0 || number - fault->nth < fault->times))
    return TRUE;
  return fault->share_ppm > 0 && scramble (scramble (fault->seed) + number) % 1000000 < fault->share_ppm;
}

static gboolean
can_be_meant (const Fault *fault, const WrapSlot *slot)
{
  return (slot->flags & WRAP_FAILS) != 0 && (fault->after || (slot->flags & WRAP_CONSUMES) == 0);
}

void
wrap_fail (const Wrap *wrap, const WrapPass *pass, GError **error)
{
  const Fault *fault = (const Fault *) wrap->list;
  const GsHost *host = wrap->list->host;
  const GsField fields[] = { GS_TEXT ("slot", pass->slot->name), GS_NUMBER ("number", pass->number),
                             GS_TEXT ("code", gs_error_name (fault->code)),
                             GS_TEXT ("when", fault->after ? "after" : "before") };

  host->log (host, GS_LOG_WARNING, "layer.fault", fields, G_N_ELEMENTS (fields));
  gs_fail (error, fault->code, "%s: call %" G_GUINT64_FORMAT " (%s) was made to fail %s it was carried out, as configured",
           host->instance, pass->number, pass->slot->name, fault->after ? "after" : "before");
}

gboolean
wrap_before (const Wrap *wrap, WrapPass *pass, GError **error)
{
  Fault *fault = (Fault *) wrap->list;

  if (!pass->chosen || !can_be_meant (fault, pass->slot))
    return TRUE;
  pass->number = __atomic_add_fetch (&fault->n_calls, 1, __ATOMIC_RELAXED);
  if (!is_meant (fault, pass->number))
    return TRUE;
  if (!fault->after)
    {
      wrap_fail (wrap, pass, error);
      return FALSE;
    }
  pass->fail = TRUE;
  return TRUE;
}

void
wrap_after (const Wrap *wrap, const WrapPass *pass, const GError *error)
{
}

static const GsOption options[] = {
  WRAP_SLOTS_OPTION,
  { .key = "nth",
    .type = GS_OPTION_INT,
    .fallback = "0",
    .max = G_MAXINT32,
    .help = "The number of the chosen call, counted from 1, that fails. 0: none by number." },
  { .key = "times",
    .type = GS_OPTION_INT,
    .fallback = "1",
    .max = G_MAXINT32,
    .help = "How many in a row fail from that call on. 0: all." },
  { .key = "share",
    .type = GS_OPTION_INT,
    .fallback = "0",
    .max = 1000000,
    .help = "How many of a million chosen calls fail besides, by dice." },
  { .key = "seed",
    .type = GS_OPTION_INT,
    .fallback = "0",
    .max = G_MAXINT64,
    .help = "Of the dice: the same seed meets the same calls." },
  { .key = "when",
    .type = GS_OPTION_CHOICE,
    .fallback = "before",
    .choices = "before|after",
    .help = "Before the call is carried out, so that nothing happened; or after, so that its outcome is lost. What a call "
            "gave is given back then, so a write that was staged is dropped. `commit` cannot fail before." },
  { .key = "code",
    .type = GS_OPTION_CHOICE,
    .fallback = "UNAVAILABLE",
    .choices = "CANCELLED|UNKNOWN|INVALID_ARGUMENT|DEADLINE_EXCEEDED|NOT_FOUND|ALREADY_EXISTS|PERMISSION_DENIED|BUSY|"
               "FAILED_PRECONDITION|ABORTED|OUT_OF_RANGE|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|UNAUTHENTICATED",
    .help = "What the failing calls fail with." },
  { .key = NULL },
};

/* Who asks for the failure of a slot that cannot fail so would wait for it in vain. */
static gboolean
fault_wrap (gpointer self, const GsInstance *inner, GsInstance *ret_outer, GError **error)
{
  const Fault *fault = self;
  const WrapSlot *slots = wrap_slots (inner->kind);

  for (const WrapSlot *slot = slots; slot != NULL && slot->name != NULL; slot++)
    if (g_strv_contains ((const char *const *) fault->list.chosen, slot->name) && !can_be_meant (fault, slot))
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "slots: %s cannot fail%s", slot->name,
                      (slot->flags & WRAP_CONSUMES) != 0 ? " before it is carried out: add \"when: after\"" : "");
  return wrap_wrap (self, inner, ret_outer, error);
}

static gpointer
fault_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Fault *fault = g_new0 (Fault, 1);

  wrap_list_init (&fault->list, host, config);
  fault->nth = (guint64) config->integer (config, "nth");
  fault->times = (guint64) config->integer (config, "times");
  fault->share_ppm = (guint64) config->integer (config, "share");
  fault->seed = (guint64) config->integer (config, "seed");
  fault->after = g_strcmp0 (config->string (config, "when"), "after") == 0;
  for (int code = GS_ERROR_CANCELLED; code <= GS_ERROR_UNAUTHENTICATED; code++)
    if (g_strcmp0 (config->string (config, "code"), gs_error_name (code)) == 0)
      fault->code = (GsErrorCode) code;
  return fault;
}

static void
fault_destroy (gpointer self)
{
  Fault *fault = self;
  wrap_list_clear (&fault->list);
  g_free (fault);
}

static const GsLayerOps fault_ops = { .wrap = fault_wrap };

GS_PLUGIN_DEFINE (GsLayerOps, .kind = GS_KIND_LAYER, .threads = GS_THREADS_PARALLEL, .name = "fault", .version = "1.0",
                  .summary = "Makes chosen calls of the instance that it wraps fail, for tests and drills",
                  .license = "Apache-2.0", .options = options, .ops = &fault_ops, .create = fault_create,
                  .destroy = fault_destroy)
