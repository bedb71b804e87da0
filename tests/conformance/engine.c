/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance engine. See engine.h. */
#include "engine.h"

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

static gboolean
host_submit (const GsHost *host, void (*work) (gpointer user), gpointer user, GError **error)
{
  return under (host)->submit (under (host), work, user, error);
}

static guint64
host_timer (const GsHost *host, gint64 delay_us, void (*work) (gpointer user), gpointer user)
{
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
                      .need = host_need };
}

/* ------------------------------------------------------------------------------------- the instance */

static void
instance_end (Conformance *c)
{
  const GsPlugin *plugin = c->target->plugin;
  if (c->self == NULL)
    return;
  if (c->started && plugin->drain != NULL)
    plugin->drain (c->self);
  if (c->started && plugin->stop != NULL)
    plugin->stop (c->self);
  plugin->destroy (c->self);
  c->self = NULL;
  c->started = FALSE;
}

static gboolean
instance_begin (Conformance *c, GError **error)
{
  const GsPlugin *plugin = c->target->plugin;
  c->self = plugin->create (&c->host, c->target->config, error);
  if (c->self == NULL)
    return FALSE;
  if (plugin->start != NULL && !plugin->start (c->self, error))
    {
      instance_end (c);
      return FALSE;
    }
  c->started = TRUE;
  return TRUE;
}

gboolean
conformance_restart (Conformance *c, GError **error)
{
  instance_end (c);
  return instance_begin (c, error);
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

char *
conformance_log (Conformance *c)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&c->lock);
  return g_strdup (c->logged->str);
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

void
conformance_fail (Conformance *c, const char *expected, const char *happened_format, ...)
{
  va_list args;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&c->lock);
  if (c->failed)
    return;
  c->failed = TRUE;
  c->expected = g_strdup (expected);
  va_start (args, happened_format);
  c->happened = g_strdup_vprintf (happened_format, args);
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
  if (c->target->plugin->threads == GS_THREADS_SERIAL)
    {
      conformance_skip (c, "the plugin takes one call at a time");
      return;
    }
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

typedef struct
{
  guint32 kind;
  const char *name;
  gsize ops_size;
  const ConformanceCase *cases;
} Suite;

static const Suite *
find_suite (guint32 kind)
{
  static const Suite suites[] = {
    { GS_KIND_METADATA, "metadata", sizeof (GsMetadataOps), conformance_metadata },
    { GS_KIND_ROUTING, "routing", sizeof (GsRoutingOps), conformance_routing },
    { GS_KIND_CONSISTENCY, "consistency", sizeof (GsConsistencyOps), conformance_consistency },
    { GS_KIND_CACHE, "cache", sizeof (GsCacheOps), conformance_cache },
    { GS_KIND_ACCESS, "access", sizeof (GsAccessOps), conformance_access },
    { GS_KIND_STORAGE, "storage", sizeof (GsStorageOps), conformance_storage },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (suites); i++)
    if (suites[i].kind == kind)
      return &suites[i];
  return NULL;
}

const ConformanceCase *
conformance_cases (guint32 kind)
{
  const Suite *suite = find_suite (kind);
  return suite != NULL ? suite->cases : NULL;
}

guint
conformance_n_cases (guint32 kind)
{
  const Suite *suite = find_suite (kind);
  guint n = 0;
  while (suite != NULL && suite->cases[n].run != NULL)
    n++;
  return n;
}

static void
run_case (Conformance *c, const Suite *suite, guint number, ConformanceReport report, gpointer user)
{
  const ConformanceCase *one = &suite->cases[number - 1];
  ConformanceOutcome outcome = { .kind = suite->name, .number = number, .promise = one->promise, .title = one->title };
  one->run (c);
  outcome.result = c->failed ? CONFORMANCE_FAILED : c->skipped != NULL ? CONFORMANCE_SKIPPED : CONFORMANCE_PASSED;
  outcome.expected = c->expected;
  outcome.happened = c->failed ? c->happened : c->skipped;
  report (&outcome, user);
  c->failed = FALSE;
  g_clear_pointer (&c->expected, g_free);
  g_clear_pointer (&c->happened, g_free);
  g_clear_pointer (&c->skipped, g_free);
}

gboolean
conformance_run (const ConformanceTarget *target, guint only, ConformanceReport report, gpointer user, GError **error)
{
  const Suite *suite = find_suite (target->plugin->kind);
  Conformance c = { .target = target };
  g_autofree guint8 *ops = NULL;
  guint8 dice[8];
  gboolean ok;
  if (suite == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "there is no conformance suite for plugins of the kind %u",
                    target->plugin->kind);
  ops = g_malloc0 (suite->ops_size);
  memcpy (ops, target->plugin->ops, MIN (suite->ops_size, target->plugin->abi.ops_size));
  c.ops = ops;
  lend_host (&c);
  target->host->random (target->host, dice, sizeof dice);
  gs_hex (dice, sizeof dice, c.tag);
  c.logged = g_string_new (NULL);
  gs_mutex_init (&c.lock);
  ok = instance_begin (&c, error);
  for (guint number = 1; ok && suite->cases[number - 1].run != NULL; number++)
    {
      if (only != 0 && number != only)
        continue;
      run_case (&c, suite, number, report, user);
      if (c.self == NULL) /* a case stopped it and could not start it again */
        ok = instance_begin (&c, error);
    }
  instance_end (&c);
  gs_mutex_clear (&c.lock);
  g_string_free (c.logged, TRUE);
  return ok;
}
