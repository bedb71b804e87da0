/* SPDX-License-Identifier: Apache-2.0 */
/* metadata/sqlite: the metadata store of a single server, in one SQLite file. */
#include "store.h"

static const GsOption lite_options[] = {
  { .key = "path",
    .type = GS_OPTION_PATH,
    .flags = GS_OPTION_REQUIRED,
    .help = "The database file, on a local disk; it is made when it is not there." },
  { .key = "readers",
    .type = GS_OPTION_INT,
    .fallback = "4",
    .min = 1,
    .max = 64,
    .flags = GS_OPTION_RELOADABLE,
    .help = "How many look-ups can run at once." },
  { .key = "busy_timeout",
    .type = GS_OPTION_DURATION,
    .fallback = "10s",
    .min = 0,
    .max = 10 * 60 * G_USEC_PER_SEC,
    .flags = GS_OPTION_RELOADABLE,
    .help = "How long a write waits for another process that is writing." },
  { .key = "auto_migrate",
    .type = GS_OPTION_BOOL,
    .fallback = "true",
    .help = "Bring the schema up to date when the server starts; a new file always gets the present schema." },
  { NULL },
};

static gpointer
lite_create (const GsHost *host, const GsConfig *config, GError **error)
{
  static const SqlToken tokens[] = {
    { "{FOR_UPDATE}", "" }, { "{NOW}", ":now" }, { "{INSTR}", "instr" }, { "{NEWLINE}", "char (10)" },
    { "{ID_RAISE}", "SELECT :id" }, /* an id that is inserted raises those to come */
    { NULL, NULL }
  };
  Lite *self = g_new0 (Lite, 1);
  self->host = host;
  self->path = g_strdup (config->string (config, "path"));
  self->n_readers = (guint) CLAMP (config->integer (config, "readers"), 1, 64);
  self->busy_timeout_us = config->integer (config, "busy_timeout");
  self->auto_migrate = config->boolean (config, "auto_migrate");
  self->readers = g_ptr_array_new ();
  self->n_hints = 1;
  for (guint i = 0; i < SQL_N_QUERIES; i++)
    self->queries[i] = sql_expand (sql_queries[i], tokens);
  gs_mutex_init (&self->lock);
  gs_cond_init (&self->given);
  return self;
}

static gboolean
lite_migrate_slot (gpointer self, GsCall *call, gboolean plan_only, guint *ret_pending, GError **error)
{
  return lite_migrate (self, call, plan_only, ret_pending, error);
}

static gboolean
lite_start (gpointer data, GError **error)
{
  Lite *self = data;
  const GsHost *host = self->host;
  guint pending = 0;
  gboolean fine = lite_open_all (self, error) && lite_migrate (self, NULL, TRUE, &pending, error);
  if (fine && pending > 0 && (self->auto_migrate || pending == SQL_N_MIGRATIONS))
    {
      fine = lite_migrate (self, NULL, FALSE, &pending, error);
      if (fine)
        host->log (host, GS_LOG_INFO, "metadata.schema.migrated",
                   (GsField[]){ GS_TEXT ("path", self->path), GS_NUMBER ("steps", pending),
                                GS_NUMBER ("version", SQL_N_MIGRATIONS) },
                   3);
    }
  else if (fine && pending > 0)
    host->log (host, GS_LOG_WARNING, "metadata.schema.behind",
               (GsField[]){ GS_TEXT ("path", self->path), GS_NUMBER ("steps", pending) }, 2);
  if (!fine)
    lite_close_all (self);
  return fine;
}

static void
lite_stop (gpointer self)
{
  lite_close_all (self);
}

static void
lite_destroy (gpointer data)
{
  Lite *self = data;
  lite_close_all (self);
  g_ptr_array_unref (self->readers);
  for (guint i = 0; i < SQL_N_QUERIES; i++)
    g_free (self->queries[i]);
  gs_cond_clear (&self->given);
  gs_mutex_clear (&self->lock);
  g_free (self->path);
  g_free (self);
}

static const GsMetadataOps lite_ops = {
  .migrate = lite_migrate_slot,
  SQL_SLOTS,
  .wait_hint = lite_wait_hint,
};

GS_PLUGIN_DEFINE (GsMetadataOps, .kind = GS_KIND_METADATA, .threads = GS_THREADS_PARALLEL, .name = "sqlite",
                  .version = "0.1.0", .summary = "Metadata in one SQLite file, for a single server",
                  .license = "Apache-2.0", .options = lite_options, .ops = &lite_ops, .create = lite_create,
                  .start = lite_start, .stop = lite_stop, .destroy = lite_destroy)
