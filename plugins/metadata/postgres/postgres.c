/* SPDX-License-Identifier: Apache-2.0 */
/* metadata/postgres: the metadata store of a cluster, in a PostgreSQL database that all routers share. */
#include "store.h"

static const GsOption pg_options[] = {
  { .key = "conninfo",
    .type = GS_OPTION_STRING,
    .flags = GS_OPTION_REQUIRED | GS_OPTION_SECRET,
    .help = "The connection, as libpq writes it, without a password: host=db1,db2 dbname=gitstead user=gitstead "
            "target_session_attrs=read-write, or a postgresql:// address. Not shown, in case it has one all the same." },
  { .key = "password",
    .type = GS_OPTION_STRING,
    .flags = GS_OPTION_SECRET,
    .help = "The user's password; not needed where the server trusts the user or a password file has it." },
  { .key = "sslmode",
    .type = GS_OPTION_CHOICE,
    .choices = "disable|allow|prefer|require|verify-ca|verify-full",
    .help = "Whether TLS is used and what is checked; without it what conninfo says, else prefer." },
  { .key = "sslrootcert", .type = GS_OPTION_PATH, .help = "The certificates that the server's is checked against." },
  { .key = "schema",
    .type = GS_OPTION_STRING,
    .fallback = "gitstead",
    .help = "The schema that holds the tables; metadata migrate makes it." },
  { .key = "connections",
    .type = GS_OPTION_INT,
    .fallback = "10",
    .min = 1,
    .max = 1000,
    .help = "How many connections this process has at most, beside the one that listens." },
  { .key = "connect_timeout",
    .type = GS_OPTION_DURATION,
    .fallback = "3s",
    .min = 100 * 1000,
    .max = 60 * G_USEC_PER_SEC,
    .help = "How long connecting may take." },
  { .key = "statement_timeout",
    .type = GS_OPTION_DURATION,
    .fallback = "15s",
    .min = 100 * 1000,
    .max = 600 * G_USEC_PER_SEC,
    .help = "How long a statement may take, when its call has more time than that." },
  { .key = "pool_wait",
    .type = GS_OPTION_DURATION,
    .fallback = "5s",
    .min = 0,
    .max = 600 * G_USEC_PER_SEC,
    .help = "How long a call waits for a connection before it is told that the server is busy." },
  { .key = "listen",
    .type = GS_OPTION_BOOL,
    .fallback = "true",
    .help = "Keep a connection that hears at once when another process queues work." },
  { .key = "listen_conninfo",
    .type = GS_OPTION_STRING,
    .flags = GS_OPTION_SECRET,
    .help = "Another way for that connection, past a pooler: behind PgBouncer it would hear nothing." },
  { .key = "auto_migrate",
    .type = GS_OPTION_BOOL,
    .fallback = "false",
    .help = "Make the schema and bring it up to date when the server starts, instead of “gitstead metadata migrate”." },
  { NULL },
};

/* --------------------------------------------------------------------------------------- connection */

static void
set_value (GPtrArray *keywords, GPtrArray *values, const char *keyword, const char *value, gboolean override)
{
  if (value == NULL || *value == '\0')
    return;
  for (guint i = 0; i < keywords->len; i++)
    if (strcmp (keywords->pdata[i], keyword) == 0)
      {
        if (override)
          {
            g_free (values->pdata[i]);
            values->pdata[i] = g_strdup (value);
          }
        return;
      }
  g_ptr_array_add (keywords, g_strdup (keyword));
  g_ptr_array_add (values, g_strdup (value));
}

static const char *
value_of (char **keywords, char **values, const char *keyword)
{
  for (guint i = 0; keywords[i] != NULL; i++)
    if (strcmp (keywords[i], keyword) == 0)
      return values[i];
  return NULL;
}

static guint
count_entries (const char *list)
{
  guint n = list != NULL && *list != '\0' ? 1 : 0;
  for (; n > 0 && *list != '\0'; list++)
    n += *list == ',';
  return n;
}

/* Each host is tried by itself (wire.c): which address and port are its own must be plain. */
static gboolean
check_hosts (const char *option, char **keywords, char **values, GError **error)
{
  guint hosts = count_entries (value_of (keywords, values, "host"));
  guint addresses = count_entries (value_of (keywords, values, "hostaddr"));
  guint ports = count_entries (value_of (keywords, values, "port"));
  guint n = MAX (MAX (hosts, addresses), 1);
  if (hosts > 0 && addresses > 0 && hosts != addresses)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "the option “%s” lists %u host and %u hostaddr: give as many of the one as of the other, in the same order",
                    option, hosts, addresses);
  if (ports > 1 && ports != n)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "the option “%s” lists %u ports for %u hosts: give one for all, or one for each in the same order", option,
                    ports, n);
  return TRUE;
}

/* Both *full*. */
static gboolean
parse_conninfo (const GsConfig *config, const char *option, const char *conninfo, char ***ret_keywords,
                char ***ret_values, GError **error)
{
  char *why = NULL;
  PQconninfoOption *parsed = PQconninfoParse (conninfo, &why);
  g_autoptr (GPtrArray) keywords = g_ptr_array_new (), values = g_ptr_array_new ();
  gboolean secret = FALSE, key_secret = FALSE;
  if (parsed == NULL)
    {
      g_autofree char *text = g_strdup (why != NULL ? why : "no memory");
      PQfreemem (why);
      if (g_str_has_prefix (text, "invalid connection option"))
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the option “%s” is no connection of libpq: %s", option,
                        g_strstrip (text));
      /* What else libpq says of it quotes it. */
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                      "the option “%s” is no connection of libpq: it wants words like host=db1 dbname=gitstead, or a "
                      "postgresql:// address; does a value with a space or a quote lack its quotes?",
                      option);
    }
  for (const PQconninfoOption *one = parsed; one->keyword != NULL; one++)
    {
      set_value (keywords, values, one->keyword, one->val, TRUE);
      secret = secret || (one->val != NULL && strcmp (one->keyword, "password") == 0);
      key_secret = key_secret || (one->val != NULL && strcmp (one->keyword, "sslpassword") == 0);
    }
  PQconninfoFree (parsed);
  set_value (keywords, values, "password", config->string (config, "password"), TRUE);
  set_value (keywords, values, "sslmode", config->string (config, "sslmode"), TRUE);
  set_value (keywords, values, "sslrootcert", config->string (config, "sslrootcert"), TRUE);
  set_value (keywords, values, "client_encoding", "UTF8", TRUE);
  set_value (keywords, values, "application_name", "gitstead", FALSE);
  /* A host that vanished is noticed. */
  set_value (keywords, values, "tcp_user_timeout", "10000", FALSE);
  set_value (keywords, values, "keepalives_idle", "30", FALSE);
  set_value (keywords, values, "keepalives_interval", "10", FALSE);
  g_ptr_array_add (keywords, NULL);
  g_ptr_array_add (values, NULL);
  *ret_keywords = (char **) g_ptr_array_free (g_steal_pointer (&keywords), FALSE);
  *ret_values = (char **) g_ptr_array_free (g_steal_pointer (&values), FALSE);
  if (!secret && !key_secret && check_hosts (option, *ret_keywords, *ret_values, error))
    return TRUE;
  g_clear_pointer (ret_keywords, g_strfreev);
  g_clear_pointer (ret_values, g_strfreev);
  if (!secret && !key_secret)
    return FALSE;
  if (!secret)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "the option “%s” has the pass phrase of a key in it (sslpassword); keep the key without one, in a "
                    "file that only this server's user can read",
                    option);
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                  "the option “%s” has a password in it, which would be shown wherever options are; use the option "
                  "“password”, which can be read from a file",
                  option);
}

/* For messages. *full*. */
static char *
place_text (const Pg *self)
{
  const char *database = value_of (self->keywords, self->values, "dbname"),
             *host = value_of (self->keywords, self->values, "host"),
             *address = value_of (self->keywords, self->values, "hostaddr"),
             *port = value_of (self->keywords, self->values, "port");
  if (host == NULL)
    host = address != NULL ? address : "this machine";
  return g_strdup_printf ("database %s on %s%s%s", database != NULL ? database : "of the user", host,
                          port != NULL ? ":" : "", port != NULL ? port : "");
}

static gboolean
set_schema (Pg *self, const char *schema, GError **error)
{
  g_autofree char *sum = g_compute_checksum_for_string (G_CHECKSUM_SHA256, schema, -1), *doubled = NULL;
  g_auto (GStrv) parts = g_strsplit (schema, "\"", -1);
  if (*schema == '\0' || strlen (schema) > 63)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the option “schema” is empty or longer than 63 bytes");
  self->schema = g_strdup (schema);
  doubled = g_strjoinv ("\"\"", parts);
  self->quoted_schema = g_strdup_printf ("\"%s\"", doubled);
  self->channel = g_strdup_printf ("gitstead_%.24s", sum);
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- lifecycle */

static void
pg_destroy (gpointer data)
{
  Pg *self = data;
  pg_listen_stop (self);
  pg_close_all (self);
  g_ptr_array_unref (self->idle);
  pg_queries_free (self);
  g_strfreev (self->keywords);
  g_strfreev (self->values);
  g_strfreev (self->listen_keywords);
  g_strfreev (self->listen_values);
  gs_cond_clear (&self->given);
  gs_mutex_clear (&self->lock);
  g_free (self->why_away);
  g_free (self->schema);
  g_free (self->quoted_schema);
  g_free (self->channel);
  g_free (self->place);
  g_free (self);
}

static gpointer
pg_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Pg *self = g_new0 (Pg, 1);
  const char *conninfo = config->string (config, "conninfo"), *direct = config->string (config, "listen_conninfo");
  self->host = host;
  self->wake_fd = -1;
  self->idle = g_ptr_array_new ();
  self->n_hints = 1;
  self->n_max = (guint) CLAMP (config->integer (config, "connections"), 1, 1000);
  self->connect_timeout_us = config->integer (config, "connect_timeout");
  self->statement_timeout_us = config->integer (config, "statement_timeout");
  self->pool_wait_us = config->integer (config, "pool_wait");
  self->auto_migrate = config->boolean (config, "auto_migrate");
  gs_mutex_init (&self->lock);
  gs_cond_init (&self->given);
  if (!set_schema (self, config->string (config, "schema"), error)
      || !parse_conninfo (config, "conninfo", conninfo, &self->keywords, &self->values, error)
      || (config->boolean (config, "listen")
          && !parse_conninfo (config, direct != NULL ? "listen_conninfo" : "conninfo",
                              direct != NULL ? direct : conninfo, &self->listen_keywords, &self->listen_values, error)))
    {
      pg_destroy (self);
      return NULL;
    }
  self->place = place_text (self);
  pg_queries_make (self);
  return self;
}

static gboolean
migrate_at_start (Pg *self, GError **error)
{
  const GsHost *host = self->host;
  guint pending = 0;
  g_autoptr (GError) why = NULL;
  gboolean fine = pg_migrate (self, NULL, !self->auto_migrate, &pending, &why);
  if (!fine && gs_error_code (why) == GS_ERROR_UNAVAILABLE)
    return TRUE; /* it was logged; the first call that reaches it looks at the schema */
  if (!fine)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if (pending > 0)
    host->log (host, self->auto_migrate ? GS_LOG_INFO : GS_LOG_WARNING,
               self->auto_migrate ? "metadata.schema.migrated" : "metadata.schema.behind",
               (GsField[]){ GS_TEXT ("place", self->place), GS_NUMBER ("steps", pending),
                            GS_NUMBER ("version", SQL_N_MIGRATIONS) },
               3);
  return TRUE;
}

static gboolean
pg_start (gpointer data, GError **error)
{
  Pg *self = data;
  const GsHost *host = self->host;
  self->failures = host->metric (host, GS_METRIC_COUNTER, "gitstead_metadata_connect_failures_total",
                                 "Connections to the metadata store that could not be made", NULL);
  if (!migrate_at_start (self, error))
    {
      pg_close_all (self);
      return FALSE;
    }
  pg_listen_start (self);
  return TRUE;
}

static void
pg_stop (gpointer data)
{
  Pg *self = data;
  pg_listen_stop (self);
  pg_close_all (self);
}

static gboolean
pg_migrate_slot (gpointer self, GsCall *call, gboolean plan_only, guint *ret_pending, GError **error)
{
  return pg_migrate (self, call, plan_only, ret_pending, error);
}

static const GsMetadataOps pg_ops = {
  .migrate = pg_migrate_slot,
  SQL_SLOTS,
  .wait_hint = pg_wait_hint,
};

GS_PLUGIN_DEFINE (GsMetadataOps, .kind = GS_KIND_METADATA, .threads = GS_THREADS_PARALLEL, .name = "postgres",
                  .version = "0.1.0", .summary = "Metadata in PostgreSQL, for clusters", .license = "Apache-2.0",
                  .options = pg_options, .ops = &pg_ops, .create = pg_create, .start = pg_start, .stop = pg_stop,
                  .destroy = pg_destroy)
