/* SPDX-License-Identifier: Apache-2.0 */
/* storage/remote: a storage of another Gitstead process as if it were one of this. */
#include "remote.h"

static const GsOption remote_options[] = {
  { .key = "url", .type = GS_OPTION_STRING, .flags = GS_OPTION_REQUIRED,
    .help = "Where the node listens: tcp://HOST:PORT, tls+tcp://HOST:PORT or ipc:///PATH." },
  { .key = "token", .type = GS_OPTION_STRING, .flags = GS_OPTION_REQUIRED | GS_OPTION_SECRET,
    .help = "The cluster token, the same as the node's server.cluster_token." },
  { .key = "connections", .type = GS_OPTION_INT, .fallback = "2", .min = 1, .max = CONNECTIONS_MAX,
    .help = "Connections for calls without bulk bytes." },
  { .key = "probe_interval", .type = GS_OPTION_DURATION, .fallback = "500ms", .min = 10000, .max = 60000000,
    .help = "How often the node is asked whether it is there." },
  { .key = "probe_timeout", .type = GS_OPTION_DURATION, .fallback = "1500ms", .min = 50000, .max = 60000000,
    .help = "A node that does not answer for so long counts as away, and what is under way with it fails." },
  { .key = "call_timeout", .type = GS_OPTION_DURATION, .fallback = "60s", .min = 100000, .max = G_GINT64_CONSTANT (3600000000),
    .help = "Time for what has no deadline of its own, such as applying a decided write." },
  { .key = "tls_ca", .type = GS_OPTION_PATH,
    .help = "Authorities, as PEM, that the node's certificate is checked with; unset: the system's." },
  { .key = "tls_certificate", .type = GS_OPTION_PATH,
    .help = "Certificate, as PEM, for a node that asks for one." },
  { .key = "tls_key", .type = GS_OPTION_PATH, .help = "Its key." },
  { .key = "tls_server_name", .type = GS_OPTION_STRING,
    .help = "The name that the node's certificate must have; unset: the URL's host." },
  { .key = NULL },
};

static gboolean
remote_maintain (gpointer self, GsCall *call, GError **error)
{
  return gs_call_check (call, "maintaining replicas", error); /* the node cares for its own */
}

static gboolean
remote_probe (gpointer self, GError **error)
{
  return remote_there (self, error);
}

static gboolean
remote_program (gpointer data, char **ret_program, GError **error)
{
  Remote *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  if (self->program == NULL)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: the node at %s has not said what it runs", self->host->instance,
                    self->url);
  *ret_program = g_strdup (self->program);
  return TRUE;
}

const GsStorageOps remote_ops = {
  .create = remote_create,
  .remove = remote_remove,
  .exists = remote_exists,
  .list = remote_list,
  .measure = remote_measure,
  .state = remote_state,
  .list_refs = remote_list_refs,
  .find_ref = remote_find_ref,
  .stage = remote_stage,
  .stage_push = remote_stage_push,
  .commit = remote_commit,
  .abort = remote_abort,
  .pending = remote_pending,
  .resolve = remote_resolve,
  .maintain = remote_maintain,
  .advertise = remote_advertise,
  .upload_pack = remote_upload_pack,
  .resolve_revision = remote_resolve_revision,
  .read_object = remote_read_object,
  .stream_object = remote_stream_object,
  .list_tree = remote_list_tree,
  .query = remote_query,
  .compute = remote_compute,
  .computed_free = remote_computed_free,
  .export_replica = remote_export,
  .import_replica = remote_import,
  .scrub = remote_scrub,
  .probe = remote_probe,
  .program = remote_program,
};

static void
remote_destroy (gpointer data)
{
  Remote *self = data;
  g_free (self->url);
  g_free (self->storage);
  if (self->token != NULL)
    explicit_bzero (self->token, strlen (self->token));
  g_free (self->token);
  g_free (self->tls_ca);
  g_free (self->tls_certificate);
  g_free (self->tls_key);
  g_free (self->tls_server_name);
  g_free (self->why);
  g_free (self->program);
  g_ptr_array_unref (self->streams);
  gs_cond_clear (&self->changed);
  gs_mutex_clear (&self->lock);
  g_free (self);
}

/*
 * A storage has one name in the whole cluster: the metadata store records replicas by it, and node and routers write
 * these records. So it is not an option: the instance's own is asked for.
 */
static const char *
own_name (const GsHost *host)
{
  const char *space = strrchr (host->instance, ' ');
  return space != NULL ? space + 1 : host->instance;
}

static gpointer
remote_new (const GsHost *host, const GsConfig *config, GError **error)
{
  Remote *self = g_new0 (Remote, 1);
  self->host = host;
  self->url = g_strdup (config->string (config, "url"));
  self->storage = g_strdup (own_name (host));
  self->token = g_strdup (config->string (config, "token"));
  self->tls_ca = g_strdup (config->string (config, "tls_ca"));
  self->tls_certificate = g_strdup (config->string (config, "tls_certificate"));
  self->tls_key = g_strdup (config->string (config, "tls_key"));
  self->tls_server_name = g_strdup (config->string (config, "tls_server_name"));
  self->n_connections = (guint) config->integer (config, "connections");
  self->probe_interval_us = config->integer (config, "probe_interval");
  self->probe_timeout_us = config->integer (config, "probe_timeout");
  self->call_timeout_us = config->integer (config, "call_timeout");
  self->streams = g_ptr_array_new ();
  gs_mutex_init (&self->lock);
  gs_cond_init (&self->changed);
  self->options = (GsClientOptions) { .size = sizeof self->options,
                                      .url = self->url,
                                      .token = self->token,
                                      .timeout_us = self->call_timeout_us,
                                      .connect_timeout_us = self->probe_timeout_us,
                                      .max_attempts = 1, /* whether to repeat is for us to say */
                                      .tls_ca = self->tls_ca,
                                      .tls_certificate = self->tls_certificate,
                                      .tls_key = self->tls_key,
                                      .tls_server_name = self->tls_server_name,
                                      .agent = "gitstead-router" };
  return self;
}

static gboolean
remote_start (gpointer data, GError **error)
{
  Remote *self = data;
  self->up_gauge = self->host->metric (self->host, GS_METRIC_GAUGE, "gitstead_node_up",
                                       "Whether the node behind a remote storage answers.", NULL);
  return remote_begin (self, error);
}

static void
remote_stop (gpointer data)
{
  remote_end (data);
}

GS_PLUGIN_DEFINE (GsStorageOps, .kind = GS_KIND_STORAGE, .threads = GS_THREADS_PARALLEL, .name = "remote",
                  .version = "0.1.0", .summary = "A storage of another Gitstead process, over its nng transport",
                  .license = "Apache-2.0", .options = remote_options, .ops = &remote_ops, .create = remote_new,
                  .start = remote_start, .stop = remote_stop, .destroy = remote_destroy)
