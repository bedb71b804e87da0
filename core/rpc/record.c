/* SPDX-License-Identifier: Apache-2.0 */
/* The record of a call: made, referenced, stopped, and ended exactly once. See private.h. */
#include "base/clock.h"
#include "json.h"
#include "private.h"

#include <sys/eventfd.h>
#include <unistd.h>
#include <wire/details.h>

/* Beyond these nobody's credentials are longer; what is cut off would not have been valid. */
#define MAX_SECRET 8192
#define MAX_SIGNED (64 * 1024)
#define MAX_PEER 200
#define TAG_SIZE 32

#define DETAILS_ARENA (64 * 1024)

#define BUSY_ADVICE_US (200 * 1000)
#define UNAVAILABLE_ADVICE_US G_USEC_PER_SEC

/* ------------------------------------------------------------------------------------------- credentials */

static char *
copy_text (const char *text)
{
  return text ? g_strndup (text, MAX_SECRET) : NULL;
}

static void
copy_credentials (GsCredentials *to, const GsCredentials *from)
{
  to->size = sizeof *to;
  if (from == NULL)
    return;
  to->kind = from->kind;
  to->user = copy_text (from->user);
  to->secret = copy_text (from->secret);
  to->uid = from->uid;
  to->certificate = copy_text (from->certificate);
  if (from->signed_data != NULL && from->signed_len <= MAX_SIGNED)
    {
      to->signed_data = g_memdup2 (from->signed_data, from->signed_len);
      to->signed_len = from->signed_len;
    }
  if (from->tag != NULL)
    to->tag = g_memdup2 (from->tag, TAG_SIZE);
}

static void
wipe (const void *bytes, gsize len)
{
  if (bytes == NULL)
    return;
  explicit_bzero ((void *) bytes, len);
  g_free ((void *) bytes);
}

void
gsi_record_forget_credentials (Call *call)
{
  GsCredentials *held = &call->credentials;
  wipe (held->user, held->user ? strlen (held->user) : 0);
  wipe (held->secret, held->secret ? strlen (held->secret) : 0);
  wipe (held->certificate, held->certificate ? strlen (held->certificate) : 0);
  wipe (held->signed_data, held->signed_len);
  wipe (held->tag, TAG_SIZE);
  memset (held, 0, sizeof *held);
  held->size = sizeof *held;
}

/* ------------------------------------------------------------------------------------------ the record */

/* What a call is before it is authenticated, and for methods that anybody may call. */
static const GsIdentity nobody = { sizeof nobody, "anonymous", GS_SCOPE_NONE, "" };

static int
make_cancel_fd (GsCall *base)
{
  Call *call = (Call *) base;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&call->rpc->lock);
  if (call->cancel_fd < 0)
    call->cancel_fd = eventfd (call->stop != STOP_NONE, EFD_CLOEXEC | EFD_NONBLOCK);
  return call->cancel_fd;
}

static gint64
time_limit (const GsiRpcLimits *limits, const GsiMethod *method, gint64 asked_us)
{
  gint64 most = MAX (limits->max_timeout_us, method->timeout_us);
  if (asked_us > 0)
    return MIN (asked_us, most);
  return method->timeout_us > 0 ? method->timeout_us : limits->default_timeout_us;
}

Call *
gsi_record_new (GsiRpc *rpc, GsiWiring *wiring, const GsiMethod *method, const GsInbound *inbound)
{
  static const GsTxId none;
  const MethodSlot *slot = g_hash_table_lookup (rpc->slots, method);
  Call *call = g_new0 (Call, 1);
  call->rpc = rpc;
  call->wiring = wiring;
  call->refs = 1;
  call->cancel_fd = -1;
  call->begun_us = g_get_monotonic_time ();
  call->timeout_us = time_limit (&wiring->setup.limits, method, inbound->timeout_us);
  call->handler = slot->handler;
  call->handler_user = slot->user != NULL ? slot->user : wiring->setup.user;
  call->encoding = inbound->encoding;
  call->payload = inbound->payload ? g_bytes_ref (inbound->payload) : g_bytes_new (NULL, 0);
  call->peer = g_strndup (inbound->peer ? inbound->peer : "", MAX_PEER);
  call->done = inbound->done;
  call->done_user = inbound->user;
  copy_credentials (&call->credentials, inbound->credentials);
  call->has_id = memcmp (&inbound->call_id, &none, sizeof none) != 0;

  call->call.base.size = sizeof call->call.base;
  call->call.base.id = inbound->call_id;
  if (!call->has_id)
    gsi_random (&call->call.base.id, sizeof call->call.base.id);
  call->call.base.deadline_us = call->begun_us + call->timeout_us;
  call->call.base.identity = &nobody;
  call->call.base.peer = call->peer;
  call->call.base.cancel_fd = make_cancel_fd;
  call->call.method = method;
  call->call.stream = method->bytes_in || method->bytes_out ? inbound->stream : NULL;
  if (GS_HAS (inbound, inbound->size, GsInbound, generation))
    call->call.generation = inbound->generation;
  return call;
}

Call *
gsi_record_ref (Call *call)
{
  g_atomic_int_inc (&call->refs);
  return call;
}

void
gsi_record_unref (Call *call)
{
  GsiRpc *rpc = call->rpc;
  if (!g_atomic_int_dec_and_test (&call->refs))
    return;
  if (call->identity != NULL && call->identity != &gsi_cluster_identity)
    call->wiring->setup.access->release (call->wiring->setup.access_self, call->identity);
  gsi_record_forget_credentials (call);
  if (call->cancel_fd >= 0)
    close (call->cancel_fd);
  g_clear_pointer (&call->payload, g_bytes_unref);
  g_clear_pointer (&call->reply, g_bytes_unref);
  gs_arena_free (call->arena);
  g_free (call->path);
  g_free (call->repository_key);
  g_free (call->peer);
  gsi_wiring_unref (call->wiring);
  g_free (call);
  /* The last touch of @rpc: whoever waits for 0 frees it next. */
  gs_mutex_lock (&rpc->lock);
  if (--rpc->n_records == 0)
    gs_cond_broadcast (&rpc->idle);
  gs_mutex_unlock (&rpc->lock);
}

/* ---------------------------------------------------------------------------------------------- stopping */

GError *
gsi_record_stop_error (const Call *call, StopReason reason)
{
  const char *name = call->call.method->name;
  if (reason == STOP_DEADLINE)
    return g_error_new (GS_ERROR, GS_ERROR_DEADLINE_EXCEEDED, "%s: not done within the %.3g seconds it was given",
                        name, (double) call->timeout_us / G_USEC_PER_SEC);
  if (reason == STOP_NO_PEER)
    return g_error_new (GS_ERROR, GS_ERROR_DEADLINE_EXCEEDED, "%s: the client did not connect for the stream within"
                        " %.3g seconds", name, (double) call->wiring->setup.limits.accept_timeout_us / G_USEC_PER_SEC);
  if (reason == STOP_REVOKED)
    return g_error_new (GS_ERROR, GS_ERROR_UNAUTHENTICATED, "%s: ended, because the credentials that it began with are"
                        " revoked or have expired", name);
  if (reason == STOP_SERVER)
    return g_error_new (GS_ERROR, GS_ERROR_UNAVAILABLE, "%s: the server is stopping; try again", name);
  return g_error_new (GS_ERROR, GS_ERROR_CANCELLED, "%s: the caller went away or cancelled", name);
}

gboolean
gsi_record_stop_locked (Call *call, StopReason reason, gboolean force)
{
  if (call->state == CALL_ENDED)
    return FALSE;
  if (call->state == CALL_WORKING && !force && call->entry != NULL && gsi_dedupe_awaited (call->entry))
    return FALSE; /* its caller is gone, but others wait for the same work */
  if (call->stop == STOP_NONE)
    {
      call->stop = reason;
      __atomic_store_n (&call->call.base.cancelled, 1, __ATOMIC_RELEASE);
      if (call->cancel_fd >= 0)
        (void) eventfd_write (call->cancel_fd, 1); /* the first write; it cannot be full */
    }
  if (call->state == CALL_WORKING)
    return FALSE;
  if (call->state == CALL_JOINED)
    {
      gsi_dedupe_leave (call->entry, call);
      call->entry = NULL;
    }
  call->state = CALL_ENDED;
  return TRUE;
}

void
gsi_record_end_stopped (Call *call)
{
  gsi_record_fail (call, gsi_record_stop_error (call, call->stop));
}

/* ------------------------------------------------------------------------------------------------ ending */

static void
leave_repository_locked (GsiRpc *rpc, const char *key)
{
  guint n = GPOINTER_TO_UINT (g_hash_table_lookup (rpc->repositories, key));
  if (n <= 1)
    g_hash_table_remove (rpc->repositories, key);
  else
    g_hash_table_insert (rpc->repositories, g_strdup (key), GUINT_TO_POINTER (n - 1));
}

/* Frees the call's places before done: a caller that got its answer finds room for the next call. */
static void
leave_locked (Call *call)
{
  GsiRpc *rpc = call->rpc;
  call->state = CALL_ENDED;
  rpc->n_in_flight--;
  if (call->streaming)
    rpc->n_streams--;
  call->streaming = FALSE;
  if (call->repository_key != NULL)
    leave_repository_locked (rpc, call->repository_key);
  g_clear_pointer (&call->repository_key, g_free);
  g_hash_table_steal (rpc->calls, &call->handle); /* the table's reference goes to the caller */
}

static void
tell (Call *call, const GsiEnd *end)
{
  GsOutcome outcome = { sizeof outcome, end->code, end->retry, end->message, end->retry_after_us, end->payload,
                        call->identity == NULL, end->generation, end->details };
  gsi_dispatch_note (call->rpc, call, end, g_get_monotonic_time ());
  call->done (call->done_user, &outcome);
}

void
gsi_record_end (Call *call, GsiEnd *end)
{
  GsiRpc *rpc = call->rpc;
  g_autoptr (GPtrArray) others = NULL;
  Call *heir = NULL;

  gs_mutex_lock (&rpc->lock);
  leave_locked (call);
  if (call->entry != NULL)
    others = gsi_dedupe_finish (rpc->dedupe, call->entry, end, !rpc->stopping, g_get_monotonic_time (),
                                (gpointer *) &heir);
  call->entry = NULL;
  for (guint i = 0; others != NULL && i < others->len; i++)
    {
      Call *other = others->pdata[i];
      other->entry = NULL;
      leave_locked (other);
    }
  if (heir != NULL)
    {
      heir->state = CALL_QUEUED;
      gsi_record_ref (heir);
    }
  gs_mutex_unlock (&rpc->lock);

  tell (call, end);
  gsi_record_unref (call);
  for (guint i = 0; others != NULL && i < others->len; i++)
    {
      tell (others->pdata[i], end);
      gsi_record_unref (others->pdata[i]);
    }
  if (heir != NULL)
    gsi_dispatch_queue (heir, rpc->workers, STEP_RUN);
}

gint64
gsi_record_advice_us (int code)
{
  return code == GS_ERROR_BUSY ? BUSY_ADVICE_US : code == GS_ERROR_UNAVAILABLE ? UNAVAILABLE_ADVICE_US : 0;
}

GBytes *
gsi_record_details (const GsiRpc *rpc, const GError *error, GsEncoding encoding)
{
  gsize n_bytes;
  const guint8 *bytes = gs_error_details (error, &n_bytes);
  g_autoptr (GsArena) arena = NULL;
  const Gitstead__V1__ErrorDetails *details;
  GString *list;
  if (bytes == NULL)
    return NULL;
  if (encoding == GS_ENCODING_PROTOBUF)
    return g_bytes_new (bytes, n_bytes);
  arena = gs_arena_new (DETAILS_ARENA);
  details = gs_details (error, arena);
  if (details == NULL)
    return NULL;
  list = g_string_new ("[");
  for (gsize i = 0; i < details->n_entries; i++)
    {
      g_autofree char *entry = gsi_json_write (rpc->methods, &details->entries[i]->base, GSI_JSON_COMPACT, NULL);
      g_string_append_printf (list, "%s%s", i > 0 ? "," : "", entry);
    }
  g_string_append_c (list, ']');
  return g_string_free_to_bytes (list);
}

void
gsi_record_fail (Call *call, GError *error)
{
  int code = gs_error_code (error);
  g_autoptr (GsiEnd) end = gsi_end_new (code, error->message, gsi_record_advice_us (code), NULL);
  end->details = gsi_record_details (call->rpc, error, call->encoding);
  g_error_free (error);
  gsi_record_end (call, end);
}
