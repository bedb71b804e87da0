/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker does with a call: the checks in their order, then the handler. See rpc.h. */
#include "json.h"
#include "path.h"
#include "private.h"

#include "gitstead/v1/types.pb-c.h"

#include <wire/details.h>

#define VIRTUAL_STORAGE_MAX 100

/* ------------------------------------------------------------------------------------------ observability */

void
gsi_dispatch_count (GsiRpc *rpc, const GsiMethod *method, GsErrorCode code)
{
  MethodSlot *slot = method ? g_hash_table_lookup (rpc->slots, method) : NULL;
  guint index = (guint) code < GSI_N_CODES ? (guint) code : GS_ERROR_INTERNAL;
  GsMetric *metric = slot ? __atomic_load_n (&slot->counts[index], __ATOMIC_ACQUIRE) : NULL;
  if (metric == NULL)
    {
      /* Most of the products of methods and codes never come up. */
      g_autofree char *labels
          = g_strdup_printf ("method=\"%s\",code=\"%s\"", method ? method->name : "unknown", gs_error_name (code));
      metric = gsi_metrics_get (rpc->metrics, GS_METRIC_COUNTER, "gitstead_calls_total",
                                "Calls that ended, by method and status code.", labels);
      if (slot != NULL)
        __atomic_store_n (&slot->counts[index], metric, __ATOMIC_RELEASE);
    }
  gsi_metric_update (metric, 1);
}

static GsLogLevel
level_of (const GsiMethod *method, GsErrorCode code)
{
  if (code == GS_ERROR_INTERNAL || code == GS_ERROR_DATA_LOSS)
    return GS_LOG_WARNING;
  if (code == GS_ERROR_UNAUTHENTICATED || code == GS_ERROR_PERMISSION_DENIED)
    return GS_LOG_INFO;
  return method->operation == GSI_ACCESSOR ? GS_LOG_DEBUG : GS_LOG_INFO;
}

void
gsi_dispatch_note (GsiRpc *rpc, const Call *call, const GsiEnd *end, gint64 now_us)
{
  const GsiMethod *method = call->call.method;
  const GsCall *base = &call->call.base;
  gsi_dispatch_count (rpc, method, end->code);
  gsi_metric_update (rpc->seconds[method->operation][method->bytes_in || method->bytes_out],
                     (double) (now_us - call->begun_us) / G_USEC_PER_SEC);
  gsi_log_set_call (&base->id); /* the thread is done with whatever call it had */
  gsi_log (rpc->log, level_of (method, end->code), "call.done", GS_TEXT ("method", method->name), GS_TEXT ("caller", base->identity->name),
           GS_TEXT ("peer", call->peer), GS_TEXT ("storage", call->call.virtual_storage),
           GS_TEXT ("repository", call->path), GS_NUMBER ("duration_us", now_us - call->begun_us),
           GS_TEXT ("code", gs_error_name (end->code)), GS_TEXT ("message", end->message));
  gsi_log_set_call (NULL);
}

/* --------------------------------------------------------------------------------------------- the checks */

/* Did somebody ask the call to stop while we worked? Then it ends here, before the next step. */
static gboolean
still_wanted (Call *call, GError **error)
{
  StopReason reason;
  gs_mutex_lock (&call->rpc->lock);
  reason = call->stop;
  gs_mutex_unlock (&call->rpc->lock);
  if (reason == STOP_NONE && g_get_monotonic_time () >= call->call.base.deadline_us)
    reason = STOP_DEADLINE; /* the watchdog comes a little later */
  if (reason == STOP_NONE)
    return TRUE;
  g_propagate_error (error, gsi_record_stop_error (call, reason));
  return FALSE;
}

static gboolean
authenticate (Call *call, GError **error)
{
  GsiRpc *rpc = call->rpc;
  const GsiWiringSetup *wiring = &call->wiring->setup;
  const GsIdentity *identity = NULL;
  gboolean good;
  if (call->call.method->needs == GS_SCOPE_NONE)
    {
      gsi_record_forget_credentials (call);
      return TRUE;
    }
  if (call->call.method->cluster)
    {
      good = gsi_cluster_check (rpc->cluster, &call->credentials, call->call.method->name, error);
      gsi_record_forget_credentials (call);
      if (!good)
        return FALSE;
      gs_mutex_lock (&rpc->lock);
      call->identity = call->call.base.identity = &gsi_cluster_identity;
      gs_mutex_unlock (&rpc->lock);
      return TRUE;
    }
  if (wiring->access == NULL)
    return gs_fail (error, GS_ERROR_UNAUTHENTICATED, "%s: this server has no access plugin, so nobody may",
                    call->call.method->name);
  good = wiring->access->authenticate (wiring->access_self, &call->call.base, &call->credentials, &identity, error);
  gsi_record_forget_credentials (call);
  if (!good)
    return FALSE;
  gs_mutex_lock (&rpc->lock);
  call->identity = call->call.base.identity = identity;
  gs_mutex_unlock (&rpc->lock);
  return TRUE;
}

/* Before the payload goes: a duplicate must ask for the very same. */
static void
hash_payload (Call *call, gconstpointer bytes, gsize n_bytes)
{
  const guint8 encoding = (guint8) call->encoding;
  gsize len = sizeof call->key.hash;
  GChecksum *sum = g_checksum_new (G_CHECKSUM_SHA256);
  g_checksum_update (sum, &encoding, 1);
  g_checksum_update (sum, bytes, (gssize) n_bytes);
  g_checksum_get_digest (sum, call->key.hash, &len);
  g_checksum_free (sum);
}

static gboolean
is_deduped (const Call *call)
{
  return call->has_id && call->call.method->operation == GSI_MUTATOR;
}

static gboolean
decode (Call *call, GError **error)
{
  const GsiMethod *method = call->call.method;
  gsize n_bytes;
  const guint8 *bytes = g_bytes_get_data (call->payload, &n_bytes);
  g_autoptr (GError) why = NULL;
  /* Whatever max_message lets in decodes, unless it is made to take much more memory than it has bytes. */
  call->arena = gs_arena_new (n_bytes + call->wiring->setup.limits.decode_bytes);
  if (call->encoding == GS_ENCODING_JSON)
    call->call.request = gsi_json_read (call->rpc->methods, call->arena, method->request, (const char *) bytes,
                                        n_bytes, &why);
  else
    call->call.request = gs_wire_decode (call->arena, method->request, bytes, n_bytes, &why);
  if (call->call.request == NULL)
    {
      g_propagate_prefixed_error (error, g_steal_pointer (&why), "%s: ", method->name);
      return FALSE;
    }
  if (is_deduped (call))
    hash_payload (call, bytes, n_bytes);
  g_clear_pointer (&call->payload, g_bytes_unref);
  return TRUE;
}

static gboolean
check_virtual_storage (const char *name, GError **error)
{
  if (strlen (name) > VIRTUAL_STORAGE_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "virtual storage: longer than %d bytes", VIRTUAL_STORAGE_MAX);
  for (const char *at = name; *at != '\0'; at++)
    if (!g_ascii_isalnum (*at) && strchr ("-_.", *at) == NULL)
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                      "virtual storage: a name has letters, digits, '-', '_' and '.', but byte %d is none of them",
                      (int) (at - name));
  return TRUE;
}

static gboolean
find_repository (Call *call, GError **error)
{
  const ProtobufCFieldDescriptor *target = call->call.method->target;
  const Gitstead__V1__Repository *repository;
  g_autoptr (GError) why = NULL;
  if (target == NULL)
    return TRUE;
  repository = *(Gitstead__V1__Repository *const *) ((const guint8 *) call->call.request + target->offset);
  if (repository == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: the field %s is missing: it names the repository",
                    call->call.method->name, target->name)
           || gs_detail_field (error, target->name);
  if ((!check_virtual_storage (repository->virtual_storage, &why) && !gs_detail_field (&why, "virtual_storage"))
      || (!gsi_path_normalize (repository->path, &call->path, &why) && !gs_detail_field (&why, "path")))
    {
      gs_detail_below (&why, target->name);
      g_propagate_prefixed_error (error, g_steal_pointer (&why), "%s: ", call->call.method->name);
      return FALSE;
    }
  call->call.virtual_storage = repository->virtual_storage;
  call->call.path = call->path;
  return TRUE;
}

static gboolean
authorize (Call *call, GError **error)
{
  const GsiMethod *method = call->call.method;
  const GsIdentity *identity = call->call.base.identity;
  if (method->needs == GS_SCOPE_NONE || method->cluster)
    return TRUE;
  /* A virtual storage is not one path: a caller with a prefix may ask, and gets the rows it may see. */
  if (method->scope == GSI_SCOPE_STORAGE && method->needs == GS_SCOPE_READ && identity->scope >= GS_SCOPE_READ)
    return TRUE;
  return gsi_call_authorize (&call->call, method->needs, call->path, error);
}

gboolean
gsi_call_authorize (GsiCall *public_call, GsScope scope, const char *path, GError **error)
{
  Call *call = (Call *) public_call;
  const GsiWiringSetup *wiring = &call->wiring->setup;
  if (wiring->access == NULL || call->identity == NULL)
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED, "%s: anonymous callers may not", public_call->method->name);
  return wiring->access->authorize (wiring->access_self, call->identity, scope, path, error);
}

/* --------------------------------------------------------------------------------------------- duplicates */

/* The error for a verdict that neither runs, nor joins, nor has an outcome to give. */
static gboolean
refuse_duplicate (const Call *call, GsiDedupeVerdict verdict, GError **error)
{
  const char *name = call->call.method->name;
  switch (verdict)
    {
    case GSI_DEDUPE_STREAMING:
      return gs_fail (error, GS_ERROR_BUSY, "%s: a call with this call id is still under way, and a stream cannot be"
                      " joined; repeat it when that one has ended", name);
    case GSI_DEDUPE_STREAMED:
      return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "%s: the call with this call id succeeded before; its stream is"
                      " not sent again", name);
    default:
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: this call id was used for a call that asks for something"
                      " else; every new call needs a new one", name);
    }
}

/* TRUE: run it. FALSE: the call is no longer ours: it has ended, or it waits for the one it repeats. */
static gboolean
enter_dedupe (Call *call)
{
  GsiRpc *rpc = call->rpc;
  GsiDedupeVerdict verdict;
  GError *error = NULL;
  g_autoptr (GsiEnd) end = NULL;

  if (!is_deduped (call))
    return TRUE;
  call->key.id = call->call.base.id;
  call->key.caller = call->call.base.identity->name;
  call->key.method = call->call.method->number;
  call->key.stream = call->call.stream != NULL;
  gs_mutex_lock (&rpc->lock);
  if (call->stop != STOP_NONE)
    {
      error = gsi_record_stop_error (call, call->stop);
      gs_mutex_unlock (&rpc->lock);
      gsi_record_fail (call, error);
      return FALSE;
    }
  verdict = gsi_dedupe_enter (rpc->dedupe, &call->key, call, g_get_monotonic_time (), &call->entry, &end);
  if (verdict == GSI_DEDUPE_JOIN)
    call->state = CALL_JOINED; /* from here on others may end it */
  gs_mutex_unlock (&rpc->lock);

  if (verdict == GSI_DEDUPE_LEAD)
    return TRUE;
  if (verdict == GSI_DEDUPE_JOIN)
    gsi_metric_update (rpc->joined_count, 1);
  else if (verdict == GSI_DEDUPE_KEPT)
    {
      gsi_metric_update (rpc->kept_count, 1);
      gsi_record_end (call, end);
    }
  else
    {
      refuse_duplicate (call, verdict, &error);
      gsi_record_fail (call, error);
    }
  return FALSE;
}

/* ------------------------------------------------------------------------------------------ the last bounds */

static gboolean
enter_repository (Call *call, GError **error)
{
  GsiRpc *rpc = call->rpc;
  g_autofree char *key = NULL;
  guint n;
  gboolean room;
  if (call->path == NULL)
    return TRUE;
  key = g_strconcat (call->path, ":", call->call.virtual_storage, NULL); /* a path has no ':' */
  gs_mutex_lock (&rpc->lock);
  n = GPOINTER_TO_UINT (g_hash_table_lookup (rpc->repositories, key));
  room = n < call->wiring->setup.limits.max_in_flight_per_repository;
  if (room)
    {
      g_hash_table_insert (rpc->repositories, g_strdup (key), GUINT_TO_POINTER (n + 1));
      call->repository_key = g_steal_pointer (&key);
    }
  gs_mutex_unlock (&rpc->lock);
  return room
         || gs_fail (error, GS_ERROR_BUSY, "%s: %u calls on %s are under way already, which is the limit; try again",
                     call->call.method->name, n, call->path)
         || gs_detail_limit (error, "server.max_per_repository", call->wiring->setup.limits.max_in_flight_per_repository, n);
}

static gboolean
enter_streams (Call *call, GError **error)
{
  GsiRpc *rpc = call->rpc;
  gboolean room;
  gs_mutex_lock (&rpc->lock);
  room = rpc->n_streams < call->wiring->setup.limits.max_streams;
  rpc->n_streams += room;
  call->streaming = room;
  gs_mutex_unlock (&rpc->lock);
  return room
         || gs_fail (error, GS_ERROR_BUSY, "%s: %u streams are under way already, which is the limit; try again",
                     call->call.method->name, call->wiring->setup.limits.max_streams)
         || gs_detail_limit (error, "server.streams", call->wiring->setup.limits.max_streams,
                             call->wiring->setup.limits.max_streams);
}

/* --------------------------------------------------------------------------------------------- the handler */

void
gsi_call_reply (GsiCall *public_call, const ProtobufCMessage *reply)
{
  Call *call = (Call *) public_call;
  gsize len;
  char *text;
  g_clear_pointer (&call->reply, g_bytes_unref);
  call->reply_broken = TRUE;
  if (reply->descriptor != call->call.method->reply)
    {
      gsi_log (call->rpc->log, GS_LOG_ERROR, "call.reply_type", GS_TEXT ("method", call->call.method->name),
               GS_TEXT ("type", reply->descriptor->name));
      return;
    }
  if (call->encoding == GS_ENCODING_PROTOBUF)
    call->reply = gs_wire_encode (reply);
  else
    {
      text = gsi_json_write (call->rpc->methods, reply, GSI_JSON_DEFAULTS, &len);
      call->reply = g_bytes_new_take (text, len);
    }
  call->reply_broken = FALSE;
}

/* A handler of a method whose reply has nothing in it may leave it out. */
static gboolean
complete_reply (Call *call, GError **error)
{
  const GsiMethod *method = call->call.method;
  if (call->reply == NULL && !call->reply_broken && method->reply->n_fields == 0)
    {
      ProtobufCMessage empty = PROTOBUF_C_MESSAGE_INIT (method->reply);
      gsi_call_reply (&call->call, &empty);
    }
  if (call->reply == NULL)
    return gs_fail (error, GS_ERROR_INTERNAL, "%s: it was carried out, but there is no reply to give (a bug in this"
                    " server)", method->name);
  if (method->operation == GSI_ACCESSOR && g_bytes_get_size (call->reply) > call->wiring->setup.limits.max_reply_bytes)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "%s: the reply has %" G_GSIZE_FORMAT " bytes, the limit is %"
                    G_GSIZE_FORMAT "; ask for less at once", method->name, g_bytes_get_size (call->reply),
                    call->wiring->setup.limits.max_reply_bytes)
           || gs_detail_limit (error, "reply", call->wiring->setup.limits.max_reply_bytes, g_bytes_get_size (call->reply));
  return TRUE;
}

static void
run_handler (Call *call)
{
  g_autoptr (GError) error = NULL;
  GError *wanted = NULL;
  g_autoptr (GsiEnd) end = NULL;
  if (!still_wanted (call, &error))
    {
      gsi_record_fail (call, g_steal_pointer (&error));
      return;
    }
  if (call->handler (call->handler_user, &call->call, &error))
    {
      g_clear_error (&error); /* TRUE is what counts */
      if (complete_reply (call, &error))
        {
          end = gsi_end_new (GS_OK, NULL, 0, call->reply);
          end->generation = call->call.written;
          gsi_record_end (call, end);
          return;
        }
    }
  else if (error == NULL)
    gs_fail (&error, GS_ERROR_INTERNAL, "%s: failed without saying why (a bug in this server)",
             call->call.method->name);
  else if (gs_error_code (error) == GS_ERROR_CANCELLED && !still_wanted (call, &wanted))
    {
      /* The handler only saw the flag; we know who set it. */
      g_clear_error (&error);
      error = wanted;
    }
  gsi_record_fail (call, g_steal_pointer (&error));
}

static void
start_stream (Call *call)
{
  GsiRpc *rpc = call->rpc;
  GsStream *stream = call->call.stream;
  gboolean flows = stream->accept == NULL || stream->accept (stream);
  GError *error = NULL;
  gs_mutex_lock (&rpc->lock);
  if (call->stop != STOP_NONE)
    error = gsi_record_stop_error (call, call->stop);
  else if (flows || call->ready)
    call->state = CALL_QUEUED;
  else
    {
      call->state = CALL_PARKED; /* from here on others may end it */
      call->park_until_us = g_get_monotonic_time () + call->wiring->setup.limits.accept_timeout_us;
      gsi_dispatch_watch_locked (rpc, call->park_until_us);
    }
  flows = flows || call->ready;
  gs_mutex_unlock (&rpc->lock);
  if (error != NULL)
    gsi_record_fail (call, error);
  else if (flows)
    gsi_dispatch_queue (gsi_record_ref (call), rpc->streams, STEP_STREAM);
}

/* ------------------------------------------------------------------------------------------------ the steps */

static void
step_run (Call *call)
{
  GError *error = NULL;
  gboolean streams = call->call.stream != NULL;
  if (!enter_repository (call, &error) || (streams && !enter_streams (call, &error)))
    gsi_record_fail (call, error);
  else if (streams)
    start_stream (call);
  else
    run_handler (call);
}

static void
step_check (Call *call)
{
  GError *error = NULL;
  if (!still_wanted (call, &error) || !authenticate (call, &error) || !still_wanted (call, &error)
      || !decode (call, &error) || !find_repository (call, &error) || !authorize (call, &error))
    gsi_record_fail (call, error);
  else if (enter_dedupe (call))
    step_run (call);
}

void
gsi_dispatch_work (gpointer user)
{
  Call *call = user;
  GsiRpc *rpc = call->rpc;
  CallStep step;
  gboolean ours;
  gs_mutex_lock (&rpc->lock);
  ours = call->state == CALL_QUEUED;
  if (ours)
    call->state = CALL_WORKING;
  step = call->step;
  gs_mutex_unlock (&rpc->lock);
  if (ours)
    {
      gsi_log_set_call (&call->call.base.id);
      if (step == STEP_CHECK)
        step_check (call);
      else if (step == STEP_RUN)
        step_run (call);
      else
        run_handler (call);
      gsi_log_set_call (NULL);
    }
  gsi_record_unref (call);
}

void
gsi_dispatch_queue (Call *call, GsiPool *pool, CallStep step)
{
  g_autoptr (GError) error = NULL;
  GsiRpc *rpc = call->rpc;
  gboolean ours;
  call->step = step; /* the pool's lock carries it over to the thread that takes it */
  if (gsi_pool_submit (pool, gsi_dispatch_work, call, &error))
    return;
  gs_mutex_lock (&rpc->lock);
  ours = call->state == CALL_QUEUED;
  if (ours)
    call->state = CALL_ENDED;
  gs_mutex_unlock (&rpc->lock);
  if (ours)
    {
      g_prefix_error (&error, "%s: ", call->call.method->name);
      gsi_record_fail (call, g_steal_pointer (&error));
    }
  gsi_record_unref (call);
}
