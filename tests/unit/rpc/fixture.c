/* SPDX-License-Identifier: Apache-2.0 */
/* A dispatcher with fakes around it. See fixture.h. */
#include "fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wire/details.h>

#define PATIENCE_US (20 * G_USEC_PER_SEC)

/* ------------------------------------------------------------------------------------------- fake access */

typedef struct
{
  GsIdentity base;
  char name[64], prefix[64];
} FakeIdentity;

void
note (Fixture *f, const char *step)
{
  if (f->quiet)
    return;
  gs_mutex_lock (&f->lock);
  g_string_append (f->trace, step);
  g_string_append_c (f->trace, ' ');
  gs_cond_broadcast (&f->changed);
  gs_mutex_unlock (&f->lock);
}

static gboolean
fake_authenticate (gpointer self, GsCall *call, const GsCredentials *credentials, const GsIdentity **ret_identity,
                   GError **error)
{
  Fixture *f = self;
  FakeIdentity *identity;
  char scope = 0;
  note (f, "authenticate");
  if (credentials->kind != GS_CREDENTIALS_BEARER)
    return gs_fail (error, GS_ERROR_UNAUTHENTICATED, "credentials are missing or wrong");
  identity = g_new0 (FakeIdentity, 1);
  if (sscanf (credentials->secret, "%63[^:]:%c:%63s", identity->name, &scope, identity->prefix) < 2)
    {
      g_free (identity);
      return gs_fail (error, GS_ERROR_UNAUTHENTICATED, "credentials are missing or wrong");
    }
  identity->base.size = sizeof identity->base;
  identity->base.name = identity->name;
  identity->base.prefix = identity->prefix;
  identity->base.scope = scope == 'a' ? GS_SCOPE_ADMIN : scope == 'w' ? GS_SCOPE_WRITE : GS_SCOPE_READ;
  gs_mutex_lock (&f->lock);
  f->n_identities++;
  gs_mutex_unlock (&f->lock);
  *ret_identity = &identity->base;
  return TRUE;
}

static void
fake_release (gpointer self, const GsIdentity *identity)
{
  Fixture *f = self;
  gs_mutex_lock (&f->lock);
  f->n_identities--;
  gs_mutex_unlock (&f->lock);
  g_free ((gpointer) identity);
}

static gboolean
fake_authorize (gpointer self, const GsIdentity *identity, GsScope scope, const char *path, GError **error)
{
  Fixture *f = self;
  note (f, "authorize");
  gs_mutex_lock (&f->lock);
  f->last_scope = scope;
  gs_mutex_unlock (&f->lock);
  if (f->on_authorize != NULL)
    f->on_authorize (f);
  if (identity->scope < scope || !g_str_has_prefix (path ? path : "", identity->prefix))
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED, "%s may not do that", identity->name);
  return TRUE;
}

static gboolean
fake_recheck (gpointer self, GsCall *call, const GsIdentity *identity, GError **error)
{
  Fixture *f = self;
  note (f, "recheck");
  gs_mutex_lock (&f->lock);
  gboolean good = g_strcmp0 (f->doubted, identity->name) != 0;
  GsErrorCode doubt = f->doubt;
  gs_mutex_unlock (&f->lock);
  return good || gs_fail (error, doubt, "%s was looked at", identity->name);
}

static const GsAccessOps fake_access = {
  .authenticate = fake_authenticate,
  .release = fake_release,
  .authorize = fake_authorize,
  .recheck = fake_recheck,
};

/* ---------------------------------------------------------------------------------------------- handlers */

static void
reply_empty (GsiCall *call)
{
  g_autoptr (GsArena) arena = gs_arena_new (4096);
  ProtobufCMessage *reply = gs_arena_alloc (arena, call->method->reply->sizeof_message);
  protobuf_c_message_init (call->method->reply, reply);
  gsi_call_reply (call, reply);
}

static gboolean
handle (gpointer user, GsiCall *call, GError **error)
{
  Fixture *f = user;
  Play play;
  note (f, "run");
  gs_mutex_lock (&f->lock);
  f->n_run++;
  g_free (f->last_path);
  g_free (f->last_storage);
  f->last_path = g_strdup (call->path);
  f->last_storage = g_strdup (call->virtual_storage);
  play = f->play;
  gs_cond_broadcast (&f->changed);
  gs_mutex_unlock (&f->lock);
  if (play != NULL)
    return play (f, call, error);
  reply_empty (call);
  return TRUE;
}

gboolean
play_gate (Fixture *f, GsiCall *call, GError **error)
{
  gs_mutex_lock (&f->lock);
  f->n_at_gate++;
  gs_cond_broadcast (&f->changed);
  while (!f->gate_open)
    gs_cond_wait (&f->changed, &f->lock);
  f->n_at_gate--;
  gs_cond_broadcast (&f->changed);
  gs_mutex_unlock (&f->lock);
  call->written = 1;
  reply_empty (call);
  return TRUE;
}

gboolean
play_gate_heeding (Fixture *f, GsiCall *call, GError **error)
{
  return play_gate (f, call, error) && gs_call_check (&call->base, "passing the gate", error);
}

gboolean
play_until_cancelled (Fixture *f, GsiCall *call, GError **error)
{
  struct pollfd fd = { call->base.cancel_fd (&call->base), POLLIN, 0 };
  if (fd.fd < 0 || poll (&fd, 1, (int) (PATIENCE_US / 1000)) != 1)
    return gs_fail (error, GS_ERROR_INTERNAL, "the descriptor did not become readable");
  return gs_call_check (&call->base, "waiting", error);
}

/* ---------------------------------------------------------------------------------------- the dispatcher */

void
fixture_init (Fixture *f)
{
  memset (f, 0, sizeof *f);
  gsi_rpc_limits_default (&f->limits);
  f->n_workers = 2;
  f->queue = 64;
  f->n_stream_threads = 4;
  f->stream_queue = 8;
  gs_mutex_init (&f->lock);
  gs_cond_init (&f->changed);
  f->trace = g_string_new (NULL);
}

void
fixture_start (Fixture *f)
{
  GsiBinding bindings[512] = { { 0 } };
  GsLogLevel level = f->quiet ? GS_LOG_WARNING : GS_LOG_DEBUG;
  GsiLogSettings settings = { .level = level, .format = GSI_LOG_JSON };
  g_autoptr (GError) error = NULL;
  const GsiMethod *const *rows;
  gsize n_rows;
  f->log_fd = memfd_create ("log", MFD_CLOEXEC);
  f->log = gsi_log_new_fd (&settings, f->log_fd, &error);
  assert_null (error);
  f->metrics = gsi_metrics_new (GSI_METRICS_MAX_SERIES);
  f->workers = gsi_pool_new ("worker", f->n_workers, f->queue, &error);
  assert_null (error);
  f->streams = gsi_pool_new_elastic ("stream", f->n_stream_threads, f->stream_queue, G_USEC_PER_SEC, &error);
  assert_null (error);
  f->rpc = gsi_rpc_new (&f->limits, f->workers, f->streams, f->log, f->metrics, &error);
  assert_null (error);
  rows = gsi_methods_all (gsi_rpc_methods (f->rpc), &n_rows);
  assert_true (n_rows < G_N_ELEMENTS (bindings));
  for (gsize i = 0; i < n_rows; i++)
    bindings[i] = (GsiBinding) { rows[i]->number, handle };
  assert_true (gsi_rpc_handle_all (f->rpc, bindings, f, NULL));
  gsi_rpc_set_access (f->rpc, &fake_access, f);
}

void
fixture_stop (Fixture *f)
{
  gsi_rpc_stop (f->rpc);
  gsi_rpc_free (f->rpc);
  gsi_pool_free (f->workers);
  gsi_pool_free (f->streams);
  gsi_metrics_free (f->metrics);
  gsi_log_free (f->log);
  close (f->log_fd);
  assert_int_equal (f->n_identities, 0);
  g_string_free (f->trace, TRUE);
  g_free (f->last_path);
  g_free (f->last_storage);
  gs_cond_clear (&f->changed);
  gs_mutex_clear (&f->lock);
}

/* ------------------------------------------------------------------------------------------------- calls */

static void
on_done (gpointer user, const GsOutcome *outcome)
{
  Wait *wait = user;
  gs_mutex_lock (&wait->f->lock);
  wait->over = TRUE;
  wait->n_done++;
  wait->code = outcome->code;
  wait->retry = outcome->retry;
  wait->retry_after_us = outcome->retry_after_us;
  g_free (wait->message);
  wait->message = g_strdup (outcome->message);
  g_clear_pointer (&wait->payload, g_bytes_unref);
  wait->payload = outcome->payload ? g_bytes_ref (outcome->payload) : NULL;
  g_clear_pointer (&wait->details, g_bytes_unref);
  wait->details = outcome->details ? g_bytes_ref (outcome->details) : NULL;
  gs_cond_broadcast (&wait->f->changed);
  gs_mutex_unlock (&wait->f->lock);
}

void
fixture_begin (Fixture *f, Wait *wait, guint32 method, GsEncoding encoding, GBytes *payload, const char *token,
               const char *call_id, gint64 timeout_us, GsStream *stream)
{
  GsCredentials credentials = { .size = sizeof credentials, .kind = GS_CREDENTIALS_BEARER, .secret = token };
  GsInbound inbound = { .size = sizeof inbound,
                        .method = method,
                        .encoding = encoding,
                        .payload = payload,
                        .timeout_us = timeout_us,
                        .credentials = token ? &credentials : NULL,
                        .peer = "test 1",
                        .stream = stream,
                        .done = on_done,
                        .user = wait };
  GsCallHandle handle;
  memset (wait, 0, sizeof *wait);
  wait->f = f;
  if (call_id != NULL)
    g_strlcpy ((char *) inbound.call_id.bytes, call_id, GS_TXID_SIZE);
  handle = gsi_rpc_begin (f->rpc, &inbound);
  gs_mutex_lock (&f->lock);
  wait->handle = handle; /* a fake's callback may wait for it */
  gs_cond_broadcast (&f->changed);
  gs_mutex_unlock (&f->lock);
}

GBytes *
fixture_request (const char *path)
{
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__RepositoryGetRequest request = GITSTEAD__V1__REPOSITORY_GET_REQUEST__INIT;
  repository.path = (char *) path;
  request.repository = &repository;
  return gs_wire_encode (&request.base);
}

void
fixture_call (Fixture *f, Wait *wait, guint32 method, const char *path, const char *token, const char *call_id)
{
  g_autoptr (GBytes) payload = path ? fixture_request (path) : g_bytes_new (NULL, 0);
  fixture_begin (f, wait, method, GS_ENCODING_PROTOBUF, payload, token, call_id, 0, NULL);
}

static gboolean
waited_for (Fixture *f, gboolean (*met) (Fixture *f, gconstpointer data), gconstpointer data)
{
  gint64 until_us = g_get_monotonic_time () + PATIENCE_US;
  gboolean good;
  gs_mutex_lock (&f->lock);
  while (!(good = met (f, data)) && gs_cond_wait_until (&f->changed, &f->lock, until_us))
    continue;
  gs_mutex_unlock (&f->lock);
  return good;
}

static void
wait_for (Fixture *f, gboolean (*met) (Fixture *f, gconstpointer data), gconstpointer data, const char *what)
{
  if (!waited_for (f, met, data))
    fail_msg ("waited in vain for %s", what);
}

static gboolean
met_over (Fixture *f, gconstpointer data)
{
  return ((const Wait *) data)->over;
}

void
wait_over (Wait *wait)
{
  wait_for (wait->f, met_over, wait, "the end of a call");
}

void
wait_over_quietly (Wait *wait)
{
  waited_for (wait->f, met_over, wait);
}

gboolean
wait_is_over (Wait *wait)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&wait->f->lock);
  return wait->over;
}

void
wait_clear (Wait *wait)
{
  g_clear_pointer (&wait->message, g_free);
  g_clear_pointer (&wait->payload, g_bytes_unref);
  g_clear_pointer (&wait->details, g_bytes_unref);
}

void
expect_limit (Wait *wait, const char *name, guint64 limit, guint64 value)
{
  g_autoptr (GsArena) arena = gs_arena_new (65536);
  const Gitstead__V1__ErrorDetails *details;
  gsize n;
  const guint8 *bytes;
  wait_over (wait);
  assert_non_null (wait->details);
  bytes = g_bytes_get_data (wait->details, &n);
  details = (gconstpointer) gs_wire_decode (arena, &gitstead__v1__error_details__descriptor, bytes, n, NULL);
  assert_non_null (details);
  assert_int_equal (details->n_entries, 1);
  assert_int_equal (details->entries[0]->status, wait->code);
  assert_string_equal (details->entries[0]->type, "limit");
  assert_int_equal (details->entries[0]->name.len, strlen (name));
  assert_memory_equal (details->entries[0]->name.data, name, strlen (name));
  assert_int_equal (details->entries[0]->limit, limit);
  assert_int_equal (details->entries[0]->value, value);
}

void
_expect_end (Wait *wait, GsErrorCode code, const char *says, const char *file, int line)
{
  wait_over (wait);
  if (wait->code != code || wait->n_done != 1)
    {
      print_error ("%s: %s, done %u times\n", gs_error_name (wait->code), wait->message ? wait->message : "",
                   wait->n_done);
      _fail (file, line);
    }
  if ((wait->message == NULL) != (code == GS_OK) || (wait->payload != NULL) != (code == GS_OK)
      || wait->retry != gs_error_retry (code))
    {
      print_error ("%s: an inconsistent outcome\n", gs_error_name (code));
      _fail (file, line);
    }
  if (says != NULL && strstr (wait->message, says) == NULL)
    {
      print_error ("\"%s\" does not say \"%s\"\n", wait->message, says);
      _fail (file, line);
    }
  wait_clear (wait);
}

static gboolean
met_gate (Fixture *f, gconstpointer data)
{
  return f->n_at_gate >= GPOINTER_TO_UINT (data);
}

static gboolean
met_run (Fixture *f, gconstpointer data)
{
  return f->n_run >= GPOINTER_TO_UINT (data);
}

void
wait_at_gate (Fixture *f, guint n)
{
  wait_for (f, met_gate, GUINT_TO_POINTER (n), "handlers at the gate");
}

void
wait_run (Fixture *f, guint n)
{
  wait_for (f, met_run, GUINT_TO_POINTER (n), "handlers to begin");
}

GsCallHandle
handle_of (Wait *wait)
{
  Fixture *f = wait->f;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&f->lock);
  while (wait->handle == 0)
    gs_cond_wait (&f->changed, &f->lock);
  return wait->handle;
}

void
open_gate (Fixture *f)
{
  gs_mutex_lock (&f->lock);
  f->gate_open = TRUE;
  gs_cond_broadcast (&f->changed);
  gs_mutex_unlock (&f->lock);
}

char *
taken_trace (Fixture *f)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&f->lock);
  char *trace = g_strdup (f->trace->str);
  g_string_truncate (f->trace, 0);
  return trace;
}

double
counted (Fixture *f, const char *name, const char *labels)
{
  return gsi_metric_value (gsi_metrics_get (f->metrics, GS_METRIC_COUNTER, name, "", labels));
}

void
wait_counted (Fixture *f, const char *name, const char *labels, double n)
{
  gint64 until_us = g_get_monotonic_time () + PATIENCE_US;
  while (counted (f, name, labels) < n)
    {
      /* A metric tells nobody that it changed. */
      gs_mutex_lock (&f->lock);
      gs_cond_wait_until (&f->changed, &f->lock, g_get_monotonic_time () + 1000);
      gs_mutex_unlock (&f->lock);
      if (g_get_monotonic_time () > until_us)
        fail_msg ("waited in vain for %s", name);
    }
}

/* ----------------------------------------------------------------------------------------------- streams */

static gboolean
fake_accept (GsStream *base)
{
  FakeStream *stream = (FakeStream *) base;
  gboolean flows;
  note (stream->f, "accept");
  gs_mutex_lock (&stream->f->lock);
  stream->n_accepts++;
  flows = stream->flows;
  gs_cond_broadcast (&stream->f->changed);
  gs_mutex_unlock (&stream->f->lock);
  if (stream->on_accept != NULL)
    stream->on_accept (stream);
  return flows;
}

void
stream_init (FakeStream *stream, Fixture *f, gboolean flows)
{
  memset (stream, 0, sizeof *stream);
  stream->base.size = sizeof stream->base;
  stream->base.head = g_bytes_new (NULL, 0);
  stream->base.accept = fake_accept;
  stream->f = f;
  stream->flows = flows;
}

void
stream_clear (FakeStream *stream)
{
  g_bytes_unref (stream->base.head);
}
