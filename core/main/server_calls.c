/* SPDX-License-Identifier: Apache-2.0 */
/* The Server service: what it is, what it can do, cancelling. */
#include "main/reload.h"

#include "gitstead/v1/server.pb-c.h"

#define WIRE_MAJOR 1
/* Calls of one connection that may be under way at once, as the nng transport has it by default. */
#define CONNECTION_IN_FLIGHT 16
#define PING_MAX 1024

static gboolean
server_hello (gpointer user, GsiCall *call, GError **error)
{
  GsiServer *server = user;
  const Gitstead__V1__HelloRequest *request = (const void *) call->request;
  Gitstead__V1__HelloReply reply = GITSTEAD__V1__HELLO_REPLY__INIT;
  gboolean common = request->n_wire_majors == 0;
  GsiRpcLimits limits;

  for (gsize i = 0; i < request->n_wire_majors; i++)
    common = common || request->wire_majors[i] == WIRE_MAJOR;
  if (!common)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "this server speaks wire major %d and none that was offered",
                    WIRE_MAJOR);
  reply.wire_major = WIRE_MAJOR;
  reply.server_epoch = gsi_rpc_epoch (server->rpc);
  reply.agent = (char *) "gitstead/" GSI_VERSION;
  gsi_rpc_limits (server->rpc, &limits);
  reply.max_message_bytes = (guint32) MIN (limits.max_message_bytes, G_MAXUINT32);
  reply.max_in_flight = CONNECTION_IN_FLIGHT;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

static gboolean
server_ping (gpointer user, GsiCall *call, GError **error)
{
  const Gitstead__V1__PingRequest *request = (const void *) call->request;
  Gitstead__V1__PingReply reply = GITSTEAD__V1__PING_REPLY__INIT;
  if (request->echo.len > PING_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "echo: %" G_GSIZE_FORMAT " bytes, at most %d are sent back",
                    request->echo.len, PING_MAX);
  reply.echo = request->echo;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

static gboolean
server_cancel (gpointer user, GsiCall *call, GError **error)
{
  GsiServer *server = user;
  const Gitstead__V1__CancelRequest *request = (const void *) call->request;
  Gitstead__V1__CancelReply reply = GITSTEAD__V1__CANCEL_REPLY__INIT;
  GsTxId id;
  if (request->call_id.len != sizeof id.bytes)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "call_id: must be 16 bytes");
  memcpy (id.bytes, request->call_id.data, sizeof id.bytes);
  reply.was_running = gsi_rpc_cancel_by_id (server->rpc, &id, call->base.identity->name);
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- info */

static void
instance_message_free (gpointer message)
{
  g_free (message); /* its texts are the registry's */
}

static GPtrArray *
instance_messages (GsiGeneration *generation)
{
  GPtrArray *messages = g_ptr_array_new_with_free_func (instance_message_free);
  for (guint32 kind = 1; kind <= GS_KIND_MAX; kind++)
    for (GsiInstance *const *one = gsi_registry_all (generation->registry, kind); *one != NULL; one++)
      {
        const GsiPlugin *plugin = gsi_instance_plugin (*one);
        Gitstead__V1__Instance *message = g_new (Gitstead__V1__Instance, 1);
        gitstead__v1__instance__init (message);
        message->kind = (char *) gsi_kind_name (kind);
        message->plugin = (char *) plugin->plugin.name;
        message->version = (char *) plugin->plugin.version;
        message->name = (char *) gsi_instance (*one)->name;
        g_ptr_array_add (messages, message);
      }
  return messages;
}

static gboolean
server_info (gpointer user, GsiCall *call, GError **error)
{
  GsiServer *server = user;
  Gitstead__V1__InfoReply reply = GITSTEAD__V1__INFO_REPLY__INIT;
  g_autoptr (GPtrArray) problems = gsi_server_problems (server);
  GsiWiring *wiring;
  GsiGeneration *generation = gsi_server_hold (server, &wiring); /* the reply borrows from it */
  g_autoptr (GPtrArray) instances = instance_messages (generation);
  g_autoptr (GPtrArray) groups = g_ptr_array_new ();
  g_auto (GStrv) endpoints = gsi_server_endpoints (server);

  for (guint i = 0; i < generation->groups->len; i++)
    g_ptr_array_add (groups, (gpointer) ((const GsiStorageGroup *) generation->groups->pdata[i])->name);
  reply.version = (char *) GSI_VERSION;
  reply.server_epoch = gsi_rpc_epoch (server->rpc);
  reply.uptime_s = (guint64) ((g_get_monotonic_time () - server->started_us) / G_USEC_PER_SEC);
  reply.ready = problems->len == 0;
  reply.problems = (char **) problems->pdata;
  reply.n_problems = problems->len;
  reply.instances = (Gitstead__V1__Instance **) instances->pdata;
  reply.n_instances = instances->len;
  reply.virtual_storages = (char **) groups->pdata;
  reply.n_virtual_storages = groups->len;
  reply.endpoints = endpoints;
  reply.n_endpoints = g_strv_length (endpoints);
  gsi_call_reply (call, &reply.base);
  gsi_wiring_unref (wiring);
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- methods */

static void
method_message_free (gpointer message)
{
  g_free (message); /* its texts are the schema's */
}

static Gitstead__V1__Method *
method_message (const GsiMethod *method)
{
  Gitstead__V1__Method *message = g_new (Gitstead__V1__Method, 1);
  gitstead__v1__method__init (message);
  message->name = (char *) method->name;
  message->number = method->number;
  message->operation = (Gitstead__V1__Operation) method->operation;
  message->scope = (Gitstead__V1__Scope) method->scope;
  message->permission = method->cluster ? GITSTEAD__V1__PERMISSION__CLUSTER
                                        : (Gitstead__V1__Permission) (method->needs + GITSTEAD__V1__PERMISSION__NONE);
  message->bytes_in = method->bytes_in;
  message->bytes_out = method->bytes_out;
  message->request = (char *) method->request->name;
  message->reply = (char *) method->reply->name;
  return message;
}

static gboolean
server_methods (gpointer user, GsiCall *call, GError **error)
{
  GsiServer *server = user;
  Gitstead__V1__MethodsReply reply = GITSTEAD__V1__METHODS_REPLY__INIT;
  g_autoptr (GPtrArray) messages = g_ptr_array_new_with_free_func (method_message_free);
  gsize n;
  const GsiMethod *const *methods = gsi_methods_all (gsi_rpc_methods (server->rpc), &n);
  for (gsize i = 0; i < n; i++)
    g_ptr_array_add (messages, method_message (methods[i]));
  reply.methods = (Gitstead__V1__Method **) messages->pdata;
  reply.n_methods = messages->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- reload */

static void
change_message_free (gpointer message)
{
  g_free (message); /* its texts are the change's */
}

static gboolean
server_reload (gpointer user, GsiCall *call, GError **error)
{
  GsiServer *server = user;
  Gitstead__V1__ReloadReply reply = GITSTEAD__V1__RELOAD_REPLY__INIT;
  g_autoptr (GPtrArray) changes = NULL;
  g_autoptr (GPtrArray) messages = g_ptr_array_new_with_free_func (change_message_free);

  if (!gsi_reload_ask (server, &call->base, &changes, error))
    return FALSE;
  for (guint i = 0; i < changes->len; i++)
    {
      const GsiConfigChange *change = changes->pdata[i];
      Gitstead__V1__ConfigChange *message = g_new (Gitstead__V1__ConfigChange, 1);
      gitstead__v1__config_change__init (message);
      message->kind = (Gitstead__V1__ConfigChangeKind) (change->kind + GITSTEAD__V1__CONFIG_CHANGE_KIND__CONFIG_ADDED);
      message->what = change->what;
      message->detail = change->detail;
      reply.restart_needed = reply.restart_needed || change->kind == GSI_CHANGE_RESTART;
      g_ptr_array_add (messages, message);
    }
  reply.changes = (Gitstead__V1__ConfigChange **) messages->pdata;
  reply.n_changes = messages->len;
  reply.config = server->config_path;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

static gboolean
server_events (gpointer user, GsiCall *call, GError **error)
{
  GsiServer *server = user;
  return gsi_events_stream (server->events, gsi_rpc_methods (server->rpc), call, error);
}

const GsiBinding *
gsi_server_bindings (void)
{
  static const GsiBinding bindings[] = {
    { 1, server_hello }, { 2, server_ping },    { 3, server_cancel },
    { 4, server_info },  { 5, server_methods }, { 6, server_reload }, { 7, server_events }, { 0, NULL },
  };
  return bindings;
}
