/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance engine. See engine.h. */
#include "engine.h"
#include "guard.h"

/* -------------------------------------------------------------------------------- the lent host */

static Conformance *
of_host (const GsHost *host)
{
  return host->priv;
}

static const GsHost *
under (const GsHost *host)
{
  return of_host (host)->target->host;
}

static void
host_log (const GsHost *host, GsLogLevel level, const char *event, const GsField *fields, gsize n_fields)
{
  Conformance *c = of_host (host);
  gs_mutex_lock (&c->lock);
  g_string_append (c->logged, event);
  for (gsize i = 0; i < n_fields; i++)
    g_string_append_printf (c->logged, " %s=%s", fields[i].key, fields[i].text != NULL ? fields[i].text : "(number)");
  g_string_append_c (c->logged, '\n');
  gs_mutex_unlock (&c->lock);
  under (host)->log (under (host), level, event, fields, n_fields);
}

static gboolean
host_log_enabled (const GsHost *host, GsLogLevel level)
{
  return under (host)->log_enabled (under (host), level);
}

static gint64
host_now_us (const GsHost *host)
{
  return under (host)->now_us (under (host)) + __atomic_load_n (&of_host (host)->skew_us, __ATOMIC_ACQUIRE);
}

static gint64
host_wall_us (const GsHost *host)
{
  return under (host)->wall_us (under (host)) + __atomic_load_n (&of_host (host)->skew_us, __ATOMIC_ACQUIRE);
}

static void
host_random (const GsHost *host, gpointer buffer, gsize len)
{
  under (host)->random (under (host), buffer, len);
}

/* Does the host turn this one down? */
static gboolean
is_turned_down (const GsHost *host)
{
  Conformance *c = of_host (host);
  guint wanted = c->target->host_fault;
  guint number = __atomic_add_fetch (&c->n_host_calls, 1, __ATOMIC_RELAXED);
  return wanted != 0 && (number == wanted || wanted == CONFORMANCE_HOST_FAULT_ALL);
}

static gboolean
host_submit (const GsHost *host, void (*work) (gpointer user), gpointer user, GError **error)
{
  if (is_turned_down (host))
    return gs_fail (error, GS_ERROR_BUSY, "the workers' queue is full, as the test wants it; nothing was queued");
  return under (host)->submit (under (host), work, user, error);
}

static guint64
host_timer (const GsHost *host, gint64 delay_us, void (*work) (gpointer user), gpointer user)
{
  if (is_turned_down (host))
    return 0;
  return under (host)->timer (under (host), delay_us, work, user);
}

static gboolean
host_timer_cancel (const GsHost *host, guint64 timer)
{
  return under (host)->timer_cancel (under (host), timer);
}

static GsMetric *
host_metric (const GsHost *host, guint32 type, const char *name, const char *help, const char *labels)
{
  return under (host)->metric (under (host), type, name, help, labels);
}

static gboolean
host_need (const GsHost *host, const char *role, GsInstance *ret_instance)
{
  return under (host)->need (under (host), role, ret_instance);
}

static const ConformanceDesk *
desk_of (const GsHost *host)
{
  return __atomic_load_n (&of_host (host)->desk, __ATOMIC_ACQUIRE);
}

static gboolean
host_method (const GsHost *host, guint32 number, const char *name, GsMethodInfo *ret_info)
{
  const ConformanceDesk *desk = desk_of (host);
  if (desk != NULL)
    return desk->method (desk->user, ret_info);
  return under (host)->method (under (host), number, name, ret_info);
}

static GsCallHandle
host_call_begin (const GsHost *host, const GsInbound *inbound)
{
  const ConformanceDesk *desk = desk_of (host);
  if (desk != NULL)
    return desk->call_begin (desk->user, inbound);
  return under (host)->call_begin (under (host), inbound);
}

static void
host_call_cancel (const GsHost *host, GsCallHandle call)
{
  const ConformanceDesk *desk = desk_of (host);
  if (desk != NULL)
    desk->call_cancel (desk->user, call);
  else
    under (host)->call_cancel (under (host), call);
}

static void
host_call_ready (const GsHost *host, GsCallHandle call)
{
  under (host)->call_ready (under (host), call);
}

static GBytes *
host_page (const GsHost *host, const char *page, gboolean *ret_ok)
{
  return under (host)->page (under (host), page, ret_ok);
}

static void
lend_host (Conformance *c)
{
  const GsHost *real = c->target->host;
  c->host = (GsHost){ .size = sizeof c->host,
                      .priv = c,
                      .instance = real->instance,
                      .log = host_log,
                      .log_enabled = host_log_enabled,
                      .now_us = host_now_us,
                      .wall_us = host_wall_us,
                      .random = host_random,
                      .submit = host_submit,
                      .timer = host_timer,
                      .timer_cancel = host_timer_cancel,
                      .metric = host_metric,
                      .metric_update = real->metric_update, /* takes no host */
                      .need = host_need,
                      /* Which take the host that they belong to from its priv: those of the lender. */
                      .method = host_method,
                      .call_begin = host_call_begin,
                      .call_cancel = host_call_cancel,
                      .call_ready = host_call_ready,
                      .page = host_page,
                      .epoch = real->epoch };
}

/* ------------------------------------------------------------------------------------- the instance */

void
conformance_note (const ConformanceTarget *target, const char *slot)
{
  if (target->note != NULL)
    g_strlcpy (target->note, slot, CONFORMANCE_NOTE_SIZE);
}

/* Stops and destroys the layers that there are. */
static void
layers_end (Conformance *c, gboolean destroy)
{
  for (gsize i = 0; i < c->target->n_layers; i++)
    {
      const GsPlugin *plugin = c->target->layers[i].plugin;
      if (c->layers[i] == NULL)
        continue;
      if (!destroy && plugin->stop != NULL)
        plugin->stop (c->layers[i]);
      if (destroy)
        {
          plugin->destroy (c->layers[i]);
          c->layers[i] = NULL;
        }
    }
}

/* Puts the layers before @inout_instance and starts them. */
static gboolean
layers_begin (Conformance *c, GsInstance *inout_instance, GError **error)
{
  for (gsize i = c->target->n_layers; i-- > 0;)
    {
      const ConformanceLayer *layer = &c->target->layers[i];
      GsInstance outer = { .size = sizeof outer };
      c->layers[i] = layer->plugin->create (&c->host, layer->config, error);
      if (c->layers[i] == NULL
          || !((const GsLayerOps *) layer->plugin->ops)->wrap (c->layers[i], inout_instance, &outer, error)
          || (layer->plugin->start != NULL && !layer->plugin->start (c->layers[i], error)))
        return FALSE;
      *inout_instance = outer;
    }
  return TRUE;
}

void
conformance_end (Conformance *c)
{
  const GsPlugin *plugin = c->target->plugin;
  if (c->all != c)
    {
      conformance_fail (c, "a case that runs beside itself to leave the instance alone", "it stops it: mark it so");
      return;
    }
  if (c->instance == NULL)
    return;
  if (c->started && plugin->drain != NULL)
    {
      conformance_note (c->target, "drain");
      plugin->drain (c->instance);
    }
  if (c->started && plugin->stop != NULL)
    {
      conformance_note (c->target, "stop");
      plugin->stop (c->instance);
    }
  if (c->started)
    layers_end (c, FALSE);
  layers_end (c, TRUE);
  conformance_note (c->target, "destroy");
  plugin->destroy (c->instance);
  conformance_note (c->target, "");
  c->instance = NULL;
  g_clear_pointer (&c->self, g_free);
  c->started = FALSE;
}

static gboolean
instance_begin (Conformance *c, gconstpointer real_ops, GError **error)
{
  const GsPlugin *plugin = c->target->plugin;
  GsInstance instance = { .size = sizeof instance, .kind = plugin->kind, .ops = real_ops, .name = "conformance" };
  ConformanceGuard *guard;
  __atomic_store_n (&c->n_host_calls, 0, __ATOMIC_RELAXED);
  conformance_note (c->target, "create");
  c->instance = plugin->create (&c->host, c->target->config, error);
  conformance_note (c->target, "");
  if (c->instance == NULL)
    {
      if (error != NULL && *error == NULL)
        gs_fail (error, GS_ERROR_INTERNAL, "[P4] create returned NULL without an error");
      return FALSE;
    }
  instance.self = c->instance;
  if (!layers_begin (c, &instance, error))
    {
      conformance_end (c);
      return FALSE;
    }
  conformance_note (c->target, "start");
  if (plugin->start != NULL && !plugin->start (c->instance, error))
    {
      if (error != NULL && *error == NULL)
        gs_fail (error, GS_ERROR_INTERNAL, "[P4] start returned FALSE without an error");
      conformance_end (c);
      return FALSE;
    }
  conformance_note (c->target, "");
  guard = g_new (ConformanceGuard, 1);
  *guard = (ConformanceGuard){ c, instance.self, instance.ops };
  c->self = guard;
  c->started = TRUE;
  return TRUE;
}

gboolean
conformance_restart (Conformance *c, GError **error)
{
  conformance_end (c);
  return c->all == c ? instance_begin (c, c->real_ops, error) : gs_fail (error, GS_ERROR_INTERNAL, "it is not alone");
}

/* ------------------------------------------------------------------------------------------ for cases */

static int
no_cancel_fd (GsCall *call)
{
  return -1;
}

GsCall
conformance_call (Conformance *c, gint64 timeout_us)
{
  static const GsIdentity tester = { sizeof tester, "conformance", GS_SCOPE_ADMIN, "" };
  GsCall call = { .size = sizeof call,
                  .id = conformance_txid (c),
                  .deadline_us = timeout_us == 0 ? G_MAXINT64 : g_get_monotonic_time () + timeout_us,
                  .identity = &tester,
                  .peer = "conformance",
                  .cancel_fd = no_cancel_fd };
  return call;
}

GsTxId
conformance_txid (Conformance *c)
{
  GsTxId id;
  c->host.random (&c->host, id.bytes, sizeof id.bytes);
  id.bytes[0] |= 1; /* all zero means none */
  return id;
}

char *
conformance_path (Conformance *c, const char *name)
{
  return g_strdup_printf ("conformance-%s/%s.git", c->tag, name);
}

void
conformance_advance (Conformance *c, gint64 by_us)
{
  __atomic_add_fetch (&c->skew_us, by_us, __ATOMIC_ACQ_REL);
}

gboolean
conformance_reach (Conformance *c, int answers)
{
  if (c->target->reach != NULL)
    c->target->reach (answers, c->target->reach_user);
  return c->target->reach != NULL;
}

char *
conformance_log (Conformance *c)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&c->all->lock);
  return g_strdup (c->all->logged->str);
}

gboolean
conformance_has_option (Conformance *c, const char *key)
{
  for (const GsOption *row = c->target->plugin->options; row != NULL && row->key != NULL; row++)
    if (strcmp (row->key, key) == 0)
      return TRUE;
  return FALSE;
}

gboolean
conformance_keeps (Conformance *c)
{
  for (const GsOption *row = c->target->plugin->options; row != NULL && row->key != NULL; row++)
    if ((row->flags & GS_OPTION_REQUIRED) != 0)
      return TRUE;
  return FALSE;
}

static void G_GNUC_PRINTF (4, 0)
fail_with (Conformance *c, const char *promise, const char *expected, const char *happened_format, va_list args)
{
  g_autofree char *happened = g_strdup_vprintf (happened_format, args);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&c->lock);
  if (c->failed)
    return;
  c->failed = TRUE;
  c->promise = promise;
  c->expected = g_strdup (expected);
  c->happened = g_utf8_make_valid (happened, -1); /* it may quote what a plugin gave */
}

void
conformance_fail (Conformance *c, const char *expected, const char *happened_format, ...)
{
  va_list args;
  va_start (args, happened_format);
  fail_with (c, NULL, expected, happened_format, args);
  va_end (args);
}

void
conformance_break (Conformance *c, const char *promise, const char *expected, const char *happened_format, ...)
{
  va_list args;
  va_start (args, happened_format);
  fail_with (c, promise, expected, happened_format, args);
  va_end (args);
}

gboolean
conformance_code (Conformance *c, gboolean ok, const GError *error, int code, const char *what)
{
  g_autofree char *expected = NULL;
  if (ok == (code == GS_OK) && (ok ? error == NULL : error != NULL && gs_error_code (error) == code))
    return TRUE;
  expected = g_strdup_printf ("%s: %s", what, gs_error_name (code));
  if (ok)
    conformance_fail (c, expected, "it returned TRUE%s", error != NULL ? " and set an error" : "");
  else
    conformance_fail (c, expected, "%s: %s", error != NULL ? gs_error_name (gs_error_code (error)) : "FALSE",
                      error != NULL ? error->message : "without an error");
  return FALSE;
}

gboolean
conformance_has_failed (Conformance *c)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&c->lock);
  return c->failed;
}

void
conformance_skip (Conformance *c, const char *why)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&c->lock);
  g_free (c->skipped);
  c->skipped = g_strdup (why);
}

void
conformance_abandon (Conformance *c, const char *why)
{
  conformance_skip (c, why);
  gs_mutex_lock (&c->lock);
  c->abandoned = TRUE;
  gs_mutex_unlock (&c->lock);
}

void
conformance_interrupted (Conformance *c, const char *slot, const GError *error)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&c->lock);
  c->reached = TRUE;
  g_free (c->interrupted);
  c->interrupted = g_strdup_printf ("after %s had come back %s from a call that was %s", slot,
                                    gs_error_name (gs_error_code (error)),
                                    c->target->interrupt % 2 == 1 ? "cancelled" : "out of time");
}

typedef struct
{
  Conformance *c;
  ConformanceBody body;
  gpointer user;
  guint index;
  GsThread thread;
} Runner;

static void *
run_body (void *data)
{
  Runner *runner = data;
  runner->body (runner->c, runner->index, runner->user);
  return NULL;
}

void
conformance_parallel (Conformance *c, guint n, ConformanceBody body, gpointer user)
{
  g_autofree Runner *runners = g_new0 (Runner, n);
  guint started = 0;
  for (; started < n; started++)
    {
      runners[started] = (Runner){ .c = c, .body = body, .user = user, .index = started };
      if (gs_thread_start (&runners[started].thread, "conformance", run_body, &runners[started]) != 0)
        {
          conformance_fail (c, "a thread for the test", "none could be started");
          break;
        }
    }
  for (guint i = 0; i < started; i++)
    gs_thread_join (runners[i].thread);
}

/* -------------------------------------------------------------------------------------------- running */

static const ConformanceCase *
own_cases (guint32 kind)
{
  static const ConformanceCase *const cases[GS_KIND_MAX + 1] = {
    [GS_KIND_TRANSPORT] = conformance_transport,     [GS_KIND_STORAGE] = conformance_storage,
    [GS_KIND_METADATA] = conformance_metadata,       [GS_KIND_ROUTING] = conformance_routing,
    [GS_KIND_CONSISTENCY] = conformance_consistency, [GS_KIND_CACHE] = conformance_cache,
    [GS_KIND_ACCESS] = conformance_access,           [GS_KIND_LAYER] = conformance_layer,
  };
  return kind <= GS_KIND_MAX ? cases[kind] : NULL;
}

static guint
count (const ConformanceCase *cases)
{
  guint n = 0;
  while (cases[n].run != NULL)
    n++;
  return n;
}

guint
conformance_n_cases (guint32 kind)
{
  const ConformanceCase *own = own_cases (kind);
  return own != NULL ? count (own) + count (conformance_life) : 0;
}

const ConformanceCase *
conformance_case (guint32 kind, guint number)
{
  const ConformanceCase *own = own_cases (kind);
  guint n_own;
  if (own == NULL || number == 0 || number > conformance_n_cases (kind))
    return NULL;
  n_own = count (own);
  return number <= n_own ? &own[number - 1] : &conformance_life[number - 1 - n_own];
}

static void
fill_outcome (Conformance *c, ConformanceOutcome *outcome)
{
  if (c->failed && c->interrupted != NULL)
    {
      char *happened = g_strdup_printf ("%s, %s", c->happened, c->interrupted);
      g_free (c->happened);
      c->happened = happened;
    }
  outcome->result = c->abandoned         ? CONFORMANCE_SKIPPED
                    : c->failed          ? CONFORMANCE_FAILED
                    : c->skipped != NULL ? CONFORMANCE_SKIPPED
                                         : CONFORMANCE_PASSED;
  if (c->failed && (c->promise != NULL || c->interrupted != NULL))
    outcome->promise = c->promise != NULL ? c->promise : "P7";
  outcome->expected = c->expected;
  outcome->happened = outcome->result == CONFORMANCE_FAILED ? c->happened : c->skipped;
}

static void
forget_outcome (Conformance *c)
{
  c->failed = FALSE;
  c->promise = NULL;
  g_clear_pointer (&c->expected, g_free);
  g_clear_pointer (&c->happened, g_free);
  g_clear_pointer (&c->skipped, g_free);
  g_clear_pointer (&c->interrupted, g_free);
  c->abandoned = FALSE;
}

/* ---------------------------------------------------------------------------- a case beside itself */

typedef struct
{
  Conformance c;
  ConformanceGuard guard;
  const ConformanceCase *one;
  GsThread thread;
  gboolean running;
} Member;

static void *
run_member (void *data)
{
  Member *member = data;
  member->one->run (&member->c);
  return NULL;
}

static void
member_begin (Conformance *c, Member *member, const ConformanceCase *one)
{
  const ConformanceGuard *own = c->self;
  guint8 dice[8];
  member->one = one;
  member->guard = (ConformanceGuard){ &member->c, own->self, own->ops };
  member->c = (Conformance){ .all = c,
                             .host = c->host,
                             .target = c->target,
                             .self = &member->guard,
                             .started = TRUE,
                             .ops = c->ops,
                             .real_ops = c->real_ops };
  c->host.random (&c->host, dice, sizeof dice);
  gs_hex (dice, sizeof dice, member->c.tag);
  gs_mutex_init (&member->c.lock);
  member->running = gs_thread_start (&member->thread, "conformance", run_member, member) == 0;
  if (!member->running)
    conformance_fail (&member->c, "a thread for the test", "none could be started");
}

/* The members' findings as one: whoever failed first, or else whoever skipped. */
static void
run_crowd (Conformance *c, const ConformanceCase *one)
{
  guint n = c->target->crowd;
  g_autofree Member *members = g_new0 (Member, n);
  for (guint i = 0; i < n; i++)
    member_begin (c, &members[i], one);
  for (guint i = 0; i < n; i++)
    {
      Conformance *found = &members[i].c;
      if (members[i].running)
        gs_thread_join (members[i].thread);
      if (found->failed && !found->abandoned && !c->failed)
        conformance_break (c, found->promise, found->expected, "%s, beside %u runs of the same case", found->happened,
                           n - 1);
      else if (found->skipped != NULL)
        conformance_skip (c, found->skipped);
      forget_outcome (found);
      gs_mutex_clear (&found->lock);
    }
}

static void
run_case (Conformance *c, guint number, ConformanceReport report, gpointer user)
{
  guint32 kind = c->target->plugin->kind;
  const ConformanceCase *one = conformance_case (kind, number);
  ConformanceOutcome outcome = {
    .kind = conformance_tables[kind].kind, .number = number, .promise = one->promise, .title = one->title
  };
  __atomic_store_n (&c->n_calls, 0, __ATOMIC_RELAXED);
  if (c->target->crowd <= 1)
    one->run (c);
  else if (one->alone)
    conformance_skip (c, "it has to be alone");
  else
    run_crowd (c, one);
  if (__atomic_load_n (&c->n_calls, __ATOMIC_RELAXED) >= MAX (c->target->interrupt, 1))
    c->reached = TRUE;
  fill_outcome (c, &outcome);
  report (&outcome, user);
  forget_outcome (c);
}

/* The guarded table, with the plugin's gaps. Every member is a function's address. */
static gpointer
guarded_slots (const ConformanceTable *table, gconstpointer real_ops)
{
  gpointer const *real = real_ops;
  gpointer *slots = g_memdup2 (table->slots, table->size);
  for (gsize i = 0; i < table->size / sizeof (gpointer); i++)
    if (real[i] == NULL)
      slots[i] = NULL;
  return slots;
}

gboolean
conformance_run (const ConformanceTarget *target, guint only, ConformanceReport report, gpointer user, GError **error)
{
  return conformance_run_interrupted (target, only, report, user, NULL, error);
}

gboolean
conformance_run_interrupted (const ConformanceTarget *target, guint only, ConformanceReport report, gpointer user,
                             gboolean *ret_reached, GError **error)
{
  guint32 kind = target->plugin->kind;
  guint n_cases = conformance_n_cases (kind);
  Conformance c = { .target = target };
  g_autofree guint8 *real_ops = NULL, *slots = NULL;
  g_autofree gpointer *layers = g_new0 (gpointer, target->n_layers);
  const ConformanceTable *table;
  guint8 dice[8];
  gboolean ok;
  if (n_cases == 0)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "there is no conformance suite for plugins of the kind %u", kind);
  table = &conformance_tables[kind];
  real_ops = g_malloc0 (table->size);
  memcpy (real_ops, target->plugin->ops, MIN (table->size, target->plugin->abi.ops_size));
  c.ops = slots = guarded_slots (table, real_ops);
  c.real_ops = real_ops;
  c.layers = layers;
  lend_host (&c);
  target->host->random (target->host, dice, sizeof dice);
  gs_hex (dice, sizeof dice, c.tag);
  c.all = &c;
  c.logged = g_string_new (NULL);
  c.turns = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  c.handed_out = g_hash_table_new_full (NULL, NULL, NULL, g_free);
  gs_mutex_init (&c.lock);
  gs_cond_init (&c.turned);
  ok = instance_begin (&c, real_ops, error);
  for (guint number = 1; ok && number <= n_cases; number++)
    {
      if (only != 0 && number != only)
        continue;
      if (target->fresh)
        conformance_end (&c);
      if (c.self == NULL) /* or a case stopped it and could not start it again */
        ok = instance_begin (&c, real_ops, error);
      if (ok)
        run_case (&c, number, report, user);
    }
  conformance_end (&c);
  if (ret_reached != NULL)
    *ret_reached = c.reached;
  gs_mutex_clear (&c.lock);
  gs_cond_clear (&c.turned);
  g_string_free (c.logged, TRUE);
  g_hash_table_unref (c.turns);
  g_hash_table_unref (c.handed_out);
  return ok;
}
