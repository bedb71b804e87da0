/* SPDX-License-Identifier: Apache-2.0 */
/* The node's service: who calls for which replica, sessions and their leases. See serve.h. */
#include "node/serve_private.h"

#define SESSIONS_MAX 4096
#define TEXT_MAX 256
#define SWEEP_US (500 * 1000)

static guint
txid_hash (gconstpointer key)
{
  guint hash;
  memcpy (&hash, key, sizeof hash); /* random bytes already */
  return hash;
}

static gboolean
txid_equal (gconstpointer a, gconstpointer b)
{
  return memcmp (a, b, GS_TXID_SIZE) == 0;
}

/* A node may hold several participants of one write, each in a storage of its own. Staged begins with its txid. */
static gboolean
staged_equal (gconstpointer a, gconstpointer b)
{
  const Staged *one = a, *other = b;
  return one->storage == other->storage && txid_equal (&one->txid, &other->txid);
}

static void
staged_free (gpointer data)
{
  Staged *staged = data;
  g_clear_error (&staged->why);
  g_free (staged->replica_path);
  g_free (staged);
}

static void *
watch_run (void *data)
{
  GsiServe *serve = data;
  gs_mutex_lock (&serve->lock);
  while (!serve->stopping)
    {
      gs_cond_wait_until (&serve->changed, &serve->lock, g_get_monotonic_time () + SWEEP_US);
      if (serve->stopping)
        break;
      gs_mutex_unlock (&serve->lock);
      gsi_serve_sweep (serve, FALSE);
      gs_mutex_lock (&serve->lock);
    }
  gs_mutex_unlock (&serve->lock);
  return NULL;
}

GsiServe *
gsi_serve_new (const GsiServeConfig *config)
{
  GsiServe *serve = g_new0 (GsiServe, 1);
  serve->config = *config;
  gs_mutex_init (&serve->lock);
  gs_cond_init (&serve->changed);
  serve->staged = g_hash_table_new_full (txid_hash, staged_equal, NULL, staged_free);
  serve->refused = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  serve->sessions = g_hash_table_new_full (txid_hash, txid_equal, g_free, g_free);
  serve->watching = gs_thread_start (&serve->watch, "leases", watch_run, serve) == 0;
  return serve;
}

void
gsi_serve_drain (GsiServe *serve)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&serve->lock);
  serve->stopping = TRUE;
  gs_cond_broadcast (&serve->changed);
}

void
gsi_serve_stop (GsiServe *serve)
{
  gsi_serve_drain (serve);
  if (serve->watching)
    gs_thread_join (serve->watch);
  serve->watching = FALSE;
  gsi_serve_sweep (serve, TRUE);
}

void
gsi_serve_free (GsiServe *serve)
{
  if (serve == NULL)
    return;
  if (serve->watching) /* the server did not come up */
    gsi_serve_stop (serve);
  g_hash_table_destroy (serve->staged);
  g_hash_table_destroy (serve->refused);
  g_hash_table_destroy (serve->sessions);
  gs_cond_clear (&serve->changed);
  gs_mutex_clear (&serve->lock);
  g_free (serve);
}

gboolean
gsi_serve_claims (GsiServe *serve, const GsTxId *txid, const GsiStorage *storage)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&serve->lock);
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, serve->staged);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      const Staged *staged = value;
      if (txid_equal (&staged->txid, txid) && (storage == NULL || staged->storage == storage))
        return TRUE;
    }
  return FALSE;
}

/* ----------------------------------------------------------------------------------------- targets */

void
gsi_serve_refuse (GsiServe *serve, const char *storage, const char *why)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&serve->lock);
  if (why != NULL)
    g_hash_table_replace (serve->refused, g_strdup (storage), g_strdup (why));
  else
    g_hash_table_remove (serve->refused, storage);
}

static gboolean
may_be_used (GsiServe *serve, const char *storage, GError **error)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&serve->lock);
  const char *why = g_hash_table_lookup (serve->refused, storage);
  return why == NULL
         || gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "storage '%s' is not served: %s", storage, why);
}

static const GsiStorage *
find_storage (GsiServe *serve, const char *name, GError **error)
{
  g_autoptr (GString) known = g_string_new (NULL);
  for (gsize i = 0; i < serve->config.n_storages; i++)
    {
      const GsiStorage *storage = serve->config.storages[i];
      if (strcmp (storage->name, name) == 0)
        return may_be_used (serve, name, error) ? storage : NULL;
      g_string_append_printf (known, "%s'%s'", i > 0 ? ", " : "", storage->name);
    }
  gs_fail (error, GS_ERROR_NOT_FOUND,
           "this node exports no storage '%.100s' (it exports: %s); a storage has the same name on its node and on every "
           "router",
           name, known->len > 0 ? known->str : "none");
  return NULL;
}

gboolean
gsi_serve_enter (GsiServe *serve, GsiCall *call, const Gitstead__V1__NodeTarget *target, Inside *ret_inside,
                 GError **error)
{
  if (target == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: the target is missing", call->method->name);
  if (strlen (target->caller) > TEXT_MAX || strlen (target->peer) > TEXT_MAX || strlen (target->prefix) > GSI_NAME_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: a text of the target is too long", call->method->name);
  ret_inside->storage = find_storage (serve, target->storage, error);
  if (ret_inside->storage == NULL)
    return FALSE;
  ret_inside->path = gsi_serve_text (&target->replica_path, "target.replica_path", error);
  if (ret_inside->path == NULL)
    return FALSE;
  ret_inside->repo = (GsRepo) { sizeof (GsRepo), target->repository_id, ret_inside->path };
  ret_inside->identity = (GsIdentity) { sizeof (GsIdentity), target->caller[0] != '\0' ? target->caller : "cluster",
                                        (GsScope) MIN (target->scope, GS_SCOPE_ADMIN), target->prefix };
  ret_inside->call = call;
  ret_inside->outer = call->base.identity;
  ret_inside->outer_peer = call->base.peer;
  call->base.identity = &ret_inside->identity;
  if (target->peer[0] != '\0')
    call->base.peer = target->peer;
  return TRUE;
}

void
gsi_serve_leave (Inside *inside)
{
  if (inside->call != NULL)
    {
      inside->call->base.identity = inside->outer;
      inside->call->base.peer = inside->outer_peer;
    }
  g_free (inside->path);
  memset (inside, 0, sizeof *inside);
}

gboolean
gsi_serve_has (const Inside *inside, gboolean slot, const char *what, GError **error)
{
  return slot || gs_fail (error, GS_ERROR_UNIMPLEMENTED, "storage '%s' cannot %s", inside->storage->name, what);
}

/* ---------------------------------------------------------------------------------------- sessions */

/* Sessions that nobody holds anything of are forgotten when there are many. Under the lock. */
static void
forget_sessions (GsiServe *serve, gint64 now_us)
{
  GHashTableIter iter;
  gpointer seen;
  if (g_hash_table_size (serve->sessions) < SESSIONS_MAX)
    return;
  g_hash_table_iter_init (&iter, serve->sessions);
  while (g_hash_table_iter_next (&iter, NULL, &seen))
    if (now_us - *(gint64 *) seen > 2 * serve->config.lease_us)
      g_hash_table_iter_remove (&iter);
}

static guint32
slots_of (const GsStorageOps *ops)
{
  const gboolean there[] = { ops->stage_push != NULL,       ops->advertise != NULL,   ops->upload_pack != NULL,
                             ops->resolve_revision != NULL, ops->read_object != NULL, ops->stream_object != NULL,
                             ops->list_tree != NULL,        ops->query != NULL,       ops->compute != NULL,
                             ops->export_replica != NULL,   ops->import_replica != NULL, ops->scrub != NULL };
  guint32 slots = 0;
  for (guint i = 0; i < G_N_ELEMENTS (there); i++)
    slots |= there[i] ? 1u << i : 0;
  return slots;
}

static gboolean
check_protocol (const Gitstead__V1__NodeSessionRequest *request, const char *program, GError **error)
{
  const guint32 newest = MAX (request->protocol, 1), oldest = MAX (request->oldest_protocol, 1);
  if (newest >= GSI_NODE_PROTOCOL_OLDEST && oldest <= GSI_NODE_PROTOCOL)
    return TRUE;
  return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                  "the router speaks versions %u to %u of the protocol between routers and nodes, and this node (%s) %u to "
                  "%u; upgrade the %s",
                  oldest, newest, program, GSI_NODE_PROTOCOL_OLDEST, GSI_NODE_PROTOCOL,
                  newest < GSI_NODE_PROTOCOL_OLDEST ? "router" : "node");
}

static gboolean
serve_session (gpointer user, GsiCall *call, GError **error)
{
  GsiServe *serve = user;
  const Gitstead__V1__NodeSessionRequest *request = (const void *) call->request;
  Gitstead__V1__NodeSessionReply reply = GITSTEAD__V1__NODE_SESSION_REPLY__INIT;
  const GsiStorage *storage = find_storage (serve, request->storage, error);
  g_autofree const char **names = g_new (const char *, serve->config.n_storages + 1);
  gint64 now_us = g_get_monotonic_time ();
  GsTxId session;

  if (storage == NULL || !gsi_serve_txid (&request->session, "session", &session, error)
      || !check_protocol (request, serve->config.program, error))
    return FALSE;
  gs_mutex_lock (&serve->lock);
  forget_sessions (serve, now_us);
  if (g_hash_table_size (serve->sessions) < SESSIONS_MAX || g_hash_table_contains (serve->sessions, &session))
    g_hash_table_insert (serve->sessions, g_memdup2 (&session, sizeof session), g_memdup2 (&now_us, sizeof now_us));
  gs_mutex_unlock (&serve->lock);
  for (gsize i = 0; i < serve->config.n_storages; i++)
    names[i] = serve->config.storages[i]->name;
  reply.storages = (char **) names;
  reply.n_storages = serve->config.n_storages;
  reply.lease_ms = (guint32) (serve->config.lease_us / 1000);
  reply.slots = slots_of (storage->ops);
  reply.protocol = GSI_NODE_PROTOCOL;
  reply.oldest_protocol = GSI_NODE_PROTOCOL_OLDEST;
  reply.program = (char *) serve->config.program;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

static gboolean
serve_cancel (gpointer user, GsiCall *call, GError **error)
{
  GsiServe *serve = user;
  const Gitstead__V1__NodeCancelRequest *request = (const void *) call->request;
  Gitstead__V1__NodeCancelReply reply = GITSTEAD__V1__NODE_CANCEL_REPLY__INIT;
  GsTxId id;
  if (!gsi_serve_txid (&request->call_id, "call_id", &id, error))
    return FALSE;
  reply.was_running = serve->config.cancel (serve->config.user, &id);
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

const GsiBinding *
gsi_serve_bindings (void)
{
  static const GsiBinding bindings[] = {
    { 1000, serve_session },          { 1001, serve_cancel },
    { 1002, gsi_serve_create },       { 1003, gsi_serve_remove },
    { 1004, gsi_serve_exists },       { 1005, gsi_serve_list },
    { 1006, gsi_serve_measure },      { 1007, gsi_serve_state },
    { 1008, gsi_serve_list_refs },    { 1009, gsi_serve_stream_refs },
    { 1010, gsi_serve_find_ref },     { 1011, gsi_serve_stage },
    { 1012, gsi_serve_stage_small },  { 1013, gsi_serve_stage_push },
    { 1014, gsi_serve_settle },       { 1015, gsi_serve_pending },
    { 1016, gsi_serve_resolve },      { 1017, gsi_serve_advertise },
    { 1018, gsi_serve_upload_pack },  { 1019, gsi_serve_resolve_revision },
    { 1020, gsi_serve_read_object },  { 1021, gsi_serve_read_object },
    { 1022, gsi_serve_stream_object }, { 1023, gsi_serve_list_tree },
    { 1024, gsi_serve_query },        { 1025, gsi_serve_query },
    { 1026, gsi_serve_compute },      { 1027, gsi_serve_export },
    { 1028, gsi_serve_import },       { 1029, gsi_serve_scrub },
    { 0, NULL },
  };
  return bindings;
}
