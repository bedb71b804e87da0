/* SPDX-License-Identifier: Apache-2.0 */
/* A host for tests: see fakehost.h. */
#include "fakehost.h"

#include <gitstead/thread.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------ host */

typedef struct
{
  guint64 id;
  gint64 due_us;
  void (*work) (gpointer user);
  gpointer user;
} FakeWork;

typedef struct
{
  char *role;
  GsInstance instance;
} FakeNeed;

struct GsMetric
{
  FakeHostPrivate *owner;
  guint32 type;
  char *name;
  char *labels;
  double value;
};

struct FakeHostPrivate
{
  GsMutex lock;
  GsCond changed;
  GsThread thread;
  gboolean running;
  gboolean stopping;
  guint64 next_id;
  GPtrArray *work;    /* FakeWork */
  GPtrArray *needs;   /* FakeNeed */
  GPtrArray *metrics; /* GsMetric */
  GHashTable *events; /* name -> count */
  GString *text;
  gboolean print;
};

static void
host_log (const GsHost *host, GsLogLevel level, const char *event, const GsField *fields, gsize n_fields)
{
  static const char *const levels[] = { "ERROR", "WARNING", "INFO", "DEBUG" };
  FakeHostPrivate *p = host->priv;
  g_autoptr (GString) line = g_string_new (NULL);
  g_string_append_printf (line, "%s %s", levels[level], event);
  for (gsize i = 0; i < n_fields; i++)
    if (fields[i].text != NULL)
      g_string_append_printf (line, " %s=%s", fields[i].key, fields[i].text);
    else
      g_string_append_printf (line, " %s=%" G_GINT64_FORMAT, fields[i].key, fields[i].number);
  gs_mutex_lock (&p->lock);
  guint count = GPOINTER_TO_UINT (g_hash_table_lookup (p->events, event));
  g_hash_table_replace (p->events, g_strdup (event), GUINT_TO_POINTER (count + 1));
  g_string_append (p->text, line->str);
  g_string_append_c (p->text, '\n');
  if (p->print)
    fprintf (stderr, "# %s: %s\n", host->instance, line->str);
  gs_mutex_unlock (&p->lock);
}

static gboolean
host_log_enabled (const GsHost *host, GsLogLevel level)
{
  return TRUE;
}

static gint64
host_now_us (const GsHost *host)
{
  return g_get_monotonic_time ();
}

static gint64
host_wall_us (const GsHost *host)
{
  return g_get_real_time ();
}

static void
host_random (const GsHost *host, gpointer buffer, gsize len)
{
  guint8 *at = buffer;
  while (len > 0)
    {
      ssize_t got = getrandom (at, len, 0);
      if (got < 0 && errno == EINTR)
        continue;
      if (got < 0)
        g_error ("getrandom: %s", g_strerror (errno));
      at += got;
      len -= (gsize) got;
    }
}

static void *
host_run (void *user)
{
  FakeHostPrivate *p = user;
  gs_mutex_lock (&p->lock);
  while (!p->stopping)
    {
      FakeWork *first = NULL;
      for (guint i = 0; i < p->work->len; i++)
        {
          FakeWork *work = p->work->pdata[i];
          if (first == NULL || work->due_us < first->due_us)
            first = work;
        }
      if (first == NULL || first->due_us > g_get_monotonic_time ())
        {
          gs_cond_wait_until (&p->changed, &p->lock, first == NULL ? G_MAXINT64 : first->due_us);
          continue;
        }
      FakeWork due = *first;
      g_ptr_array_remove (p->work, first);
      gs_mutex_unlock (&p->lock);
      due.work (due.user);
      gs_mutex_lock (&p->lock);
    }
  gs_mutex_unlock (&p->lock);
  return NULL;
}

static guint64
host_timer (const GsHost *host, gint64 delay_us, void (*work) (gpointer user), gpointer user)
{
  FakeHostPrivate *p = host->priv;
  FakeWork *item = g_new0 (FakeWork, 1);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&p->lock);
  item->id = ++p->next_id;
  item->due_us = g_get_monotonic_time () + delay_us;
  item->work = work;
  item->user = user;
  g_ptr_array_add (p->work, item);
  if (!p->running)
    {
      if (gs_thread_start (&p->thread, "fake-host", host_run, p) != 0)
        g_error ("cannot start the fake host's thread");
      p->running = TRUE;
    }
  gs_cond_signal (&p->changed);
  return item->id;
}

static gboolean
host_timer_cancel (const GsHost *host, guint64 timer)
{
  FakeHostPrivate *p = host->priv;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&p->lock);
  for (guint i = 0; i < p->work->len; i++)
    if (((FakeWork *) p->work->pdata[i])->id == timer)
      {
        g_ptr_array_remove_index (p->work, i);
        return TRUE;
      }
  return FALSE;
}

static gboolean
host_submit (const GsHost *host, void (*work) (gpointer user), gpointer user, GError **error)
{
  host_timer (host, 0, work, user);
  return TRUE;
}

static GsMetric *
host_metric (const GsHost *host, guint32 type, const char *name, const char *help, const char *labels)
{
  FakeHostPrivate *p = host->priv;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&p->lock);
  for (guint i = 0; i < p->metrics->len; i++)
    {
      GsMetric *metric = p->metrics->pdata[i];
      if (strcmp (metric->name, name) == 0 && g_strcmp0 (metric->labels, labels) == 0)
        return metric;
    }
  GsMetric *metric = g_new0 (GsMetric, 1);
  metric->owner = p;
  metric->type = type;
  metric->name = g_strdup (name);
  metric->labels = g_strdup (labels);
  g_ptr_array_add (p->metrics, metric);
  return metric;
}

static void
host_metric_update (GsMetric *metric, double value)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&metric->owner->lock);
  if (metric->type == GS_METRIC_COUNTER)
    metric->value += value;
  else if (metric->type == GS_METRIC_GAUGE)
    metric->value = value;
  else
    metric->value += 1;
}

static gboolean
host_need (const GsHost *host, const char *role, GsInstance *ret_instance)
{
  FakeHostPrivate *p = host->priv;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&p->lock);
  for (guint i = 0; i < p->needs->len; i++)
    {
      FakeNeed *need = p->needs->pdata[i];
      if (strcmp (need->role, role) == 0)
        {
          *ret_instance = need->instance;
          return TRUE;
        }
    }
  return FALSE;
}

static gboolean
host_method (const GsHost *host, guint32 number, const char *name, GsMethodInfo *ret_info)
{
  return FALSE;
}

static GsCallHandle
host_call_begin (const GsHost *host, const GsInbound *inbound)
{
  GsOutcome outcome
      = { .size = sizeof outcome, .code = GS_ERROR_UNIMPLEMENTED, .message = "the fake host takes no calls" };
  inbound->done (inbound->user, &outcome);
  return 0;
}

static void
host_call_nothing (const GsHost *host, GsCallHandle call)
{
}

static GBytes *
host_page (const GsHost *host, const char *page, gboolean *ret_ok)
{
  *ret_ok = TRUE;
  return g_bytes_new_static ("ok\n", 3);
}

static void
need_free (gpointer data)
{
  FakeNeed *need = data;
  g_free (need->role);
  g_free (need);
}

static void
metric_free (gpointer data)
{
  GsMetric *metric = data;
  g_free (metric->name);
  g_free (metric->labels);
  g_free (metric);
}

FakeHost *
fake_host_new (const char *instance)
{
  FakeHost *fake = g_new0 (FakeHost, 1);
  FakeHostPrivate *p = g_new0 (FakeHostPrivate, 1);
  gs_mutex_init (&p->lock);
  gs_cond_init (&p->changed);
  p->work = g_ptr_array_new_with_free_func (g_free);
  p->needs = g_ptr_array_new_with_free_func (need_free);
  p->metrics = g_ptr_array_new_with_free_func (metric_free);
  p->events = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  p->text = g_string_new (NULL);
  p->print = g_getenv ("GITSTEAD_TEST_LOG") != NULL;
  fake->p = p;
  fake->host = (GsHost){ .size = sizeof (GsHost),
                         .priv = p,
                         .instance = g_strdup (instance),
                         .log = host_log,
                         .log_enabled = host_log_enabled,
                         .now_us = host_now_us,
                         .wall_us = host_wall_us,
                         .random = host_random,
                         .submit = host_submit,
                         .timer = host_timer,
                         .timer_cancel = host_timer_cancel,
                         .metric = host_metric,
                         .metric_update = host_metric_update,
                         .need = host_need,
                         .method = host_method,
                         .call_begin = host_call_begin,
                         .call_cancel = host_call_nothing,
                         .call_ready = host_call_nothing,
                         .page = host_page };
  return fake;
}

void
fake_host_free (FakeHost *fake)
{
  FakeHostPrivate *p = fake->p;
  gs_mutex_lock (&p->lock);
  p->stopping = TRUE;
  gs_cond_signal (&p->changed);
  gs_mutex_unlock (&p->lock);
  if (p->running)
    gs_thread_join (p->thread);
  g_ptr_array_unref (p->work);
  g_ptr_array_unref (p->needs);
  g_ptr_array_unref (p->metrics);
  g_hash_table_unref (p->events);
  g_string_free (p->text, TRUE);
  gs_cond_clear (&p->changed);
  gs_mutex_clear (&p->lock);
  g_free (p);
  g_free ((char *) fake->host.instance);
  g_free (fake);
}

void
fake_host_add_need (FakeHost *fake, const char *role, guint32 kind, gpointer self, const void *ops)
{
  FakeNeed *need = g_new0 (FakeNeed, 1);
  need->role = g_strdup (role);
  need->instance
      = (GsInstance){ .size = sizeof (GsInstance), .kind = kind, .self = self, .ops = ops, .name = need->role };
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&fake->p->lock);
  g_ptr_array_add (fake->p->needs, need);
}

guint
fake_host_logged (FakeHost *fake, const char *event)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&fake->p->lock);
  return GPOINTER_TO_UINT (g_hash_table_lookup (fake->p->events, event));
}

char *
fake_host_log_text (FakeHost *fake)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&fake->p->lock);
  return g_strdup (fake->p->text->str);
}

double
fake_host_metric (FakeHost *fake, const char *name, const char *labels)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&fake->p->lock);
  for (guint i = 0; i < fake->p->metrics->len; i++)
    {
      GsMetric *metric = fake->p->metrics->pdata[i];
      if (strcmp (metric->name, name) == 0 && g_strcmp0 (metric->labels, labels) == 0)
        return metric->value;
    }
  return 0;
}

/* --------------------------------------------------------------------------------------- options */

typedef struct
{
  const GsOption *row;
  char *text; /* NULL = unset */
  gint64 number;
  char **list;
} FakeValue;

struct FakeConfig
{
  GsConfig config;
  GHashTable *values; /* key -> FakeValue */
};

static gint64
parse_scaled (const char *key, const char *text, const char *const *units, const gint64 *scales)
{
  char *end = NULL;
  gint64 number = g_ascii_strtoll (text, &end, 10);
  if (end == text)
    g_error ("option %s: '%s' is not a number", key, text);
  for (guint i = 0; units[i] != NULL; i++)
    if (strcmp (end, units[i]) == 0)
      return number * scales[i];
  g_error ("option %s: unit of '%s' is not known", key, text);
}

static void
value_set (FakeValue *value, const char *text)
{
  static const char *const time_units[] = { "us", "ms", "s", "m", "h", "d", NULL };
  static const gint64 time_scales[] = {
    1, 1000, 1000000, G_GINT64_CONSTANT (60000000), G_GINT64_CONSTANT (3600000000), G_GINT64_CONSTANT (86400000000)
  };
  static const char *const size_units[] = { "", "KiB", "MiB", "GiB", NULL };
  static const gint64 size_scales[] = { 1, 1 << 10, 1 << 20, 1 << 30 };
  static const char *const int_units[] = { "", NULL };
  const char *key = value->row->key;

  g_free (value->text);
  value->text = g_strdup (text);
  switch (value->row->type)
    {
    case GS_OPTION_INT:
      value->number = parse_scaled (key, text, int_units, size_scales);
      break;
    case GS_OPTION_SIZE:
      value->number = parse_scaled (key, text, size_units, size_scales);
      break;
    case GS_OPTION_DURATION:
      value->number = strcmp (text, "0") == 0 ? 0 : parse_scaled (key, text, time_units, time_scales);
      break;
    case GS_OPTION_BOOL:
      if (strcmp (text, "true") != 0 && strcmp (text, "false") != 0)
        g_error ("option %s: '%s' is neither true nor false", key, text);
      value->number = strcmp (text, "true") == 0;
      break;
    case GS_OPTION_LIST:
      g_strfreev (value->list);
      value->list = *text == '\0' ? g_new0 (char *, 1) : g_strsplit (text, ",", -1);
      break;
    default:
      break;
    }
  if ((value->row->min != 0 || value->row->max != 0)
      && (value->number < value->row->min || value->number > value->row->max))
    g_error ("option %s: %s is out of its limits", key, text);
}

static const FakeValue *
config_value (const GsConfig *config, const char *key)
{
  const FakeConfig *fake = config->priv;
  const FakeValue *value = g_hash_table_lookup (fake->values, key);
  if (value == NULL)
    g_error ("the plugin asks for option %s, which it has not declared", key);
  return value;
}

static const char *
config_string (const GsConfig *config, const char *key)
{
  return config_value (config, key)->text;
}

static gint64
config_integer (const GsConfig *config, const char *key)
{
  return config_value (config, key)->number;
}

static gboolean
config_boolean (const GsConfig *config, const char *key)
{
  return config_value (config, key)->number != 0;
}

static const char *const *
config_list (const GsConfig *config, const char *key)
{
  static const char *const none[] = { NULL };
  const FakeValue *value = config_value (config, key);
  return value->list != NULL ? (const char *const *) value->list : none;
}

static void
value_free (gpointer data)
{
  FakeValue *value = data;
  g_free (value->text);
  g_strfreev (value->list);
  g_free (value);
}

FakeConfig *
fake_config_new (const GsPlugin *plugin, ...)
{
  FakeConfig *fake = g_new0 (FakeConfig, 1);
  va_list args;
  const char *key;

  fake->values = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, value_free);
  fake->config = (GsConfig){ .size = sizeof (GsConfig),
                             .priv = fake,
                             .string = config_string,
                             .integer = config_integer,
                             .boolean = config_boolean,
                             .list = config_list };
  for (const GsOption *row = plugin->options; row != NULL && row->key != NULL; row++)
    {
      FakeValue *value = g_new0 (FakeValue, 1);
      value->row = row;
      if (row->fallback != NULL)
        value_set (value, row->fallback);
      g_hash_table_insert (fake->values, (gpointer) row->key, value);
    }
  va_start (args, plugin);
  while ((key = va_arg (args, const char *)) != NULL)
    {
      FakeValue *value = g_hash_table_lookup (fake->values, key);
      if (value == NULL)
        g_error ("plugin %s has no option %s", plugin->name, key);
      value_set (value, va_arg (args, const char *));
    }
  va_end (args);
  for (const GsOption *row = plugin->options; row != NULL && row->key != NULL; row++)
    if ((row->flags & GS_OPTION_REQUIRED) != 0 && config_value (&fake->config, row->key)->text == NULL)
      g_error ("plugin %s needs option %s", plugin->name, row->key);
  return fake;
}

const GsConfig *
fake_config_get (const FakeConfig *config)
{
  return &config->config;
}

void
fake_config_free (FakeConfig *config)
{
  g_hash_table_unref (config->values);
  g_free (config);
}

/* ------------------------------------------------------------------------------------------ call */

static int
call_cancel_fd (GsCall *call)
{
  FakeCall *fake = (FakeCall *) call;
  pthread_mutex_lock (&fake->lock);
  if (fake->cancel_event < 0)
    fake->cancel_event = eventfd (gs_call_cancelled (call) ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
  int fd = fake->cancel_event;
  pthread_mutex_unlock (&fake->lock);
  return fd;
}

FakeCall *
fake_call_new (gint64 timeout_us)
{
  static const GsIdentity tester
      = { .size = sizeof (GsIdentity), .name = "tester", .scope = GS_SCOPE_ADMIN, .prefix = "" };
  FakeCall *fake = g_new0 (FakeCall, 1);
  fake->call = (GsCall){ .size = sizeof (GsCall),
                         .deadline_us = timeout_us == 0 ? G_MAXINT64 : g_get_monotonic_time () + timeout_us,
                         .identity = &tester,
                         .peer = "test",
                         .cancel_fd = call_cancel_fd };
  host_random (NULL, fake->call.id.bytes, sizeof fake->call.id.bytes);
  fake->cancel_event = -1;
  pthread_mutex_init (&fake->lock, NULL);
  return fake;
}

void
fake_call_cancel (FakeCall *fake)
{
  const guint64 one = 1;
  pthread_mutex_lock (&fake->lock);
  __atomic_store_n (&fake->call.cancelled, 1, __ATOMIC_RELEASE);
  if (fake->cancel_event >= 0 && write (fake->cancel_event, &one, sizeof one) != (ssize_t) sizeof one)
    g_error ("cannot signal the cancel event: %s", g_strerror (errno));
  pthread_mutex_unlock (&fake->lock);
}

void
fake_call_free (FakeCall *fake)
{
  if (fake->cancel_event >= 0)
    close (fake->cancel_event);
  pthread_mutex_destroy (&fake->lock);
  g_free (fake);
}

/* ---------------------------------------------------------------------------------------- stream */

static gboolean
stream_accept (GsStream *stream)
{
  return TRUE;
}

static int
stream_open_input (GsStream *stream, GError **error)
{
  FakeStream *fake = (FakeStream *) stream;
  int fd = fake->input;
  if (fd < 0)
    {
      gs_fail (error, GS_ERROR_INTERNAL, "the stream has no input left to open");
      return -1;
    }
  fake->input = -1;
  return fd;
}

static int
stream_open_output (GsStream *stream, GError **error)
{
  FakeStream *fake = (FakeStream *) stream;
  int fd = fake->output;
  if (fd < 0 || fake->sent != NULL)
    {
      gs_fail (error, GS_ERROR_INTERNAL, "the stream has no output left to open");
      return -1;
    }
  fake->output = -1;
  return fd;
}

static gboolean
stream_send_all (GsStream *stream, GBytes *bytes, GError **error)
{
  FakeStream *fake = (FakeStream *) stream;
  gsize len;
  const char *at = g_bytes_get_data (bytes, &len);
  if (fake->sent != NULL)
    g_error ("send_all was called twice");
  fake->sent = g_bytes_ref (bytes);
  while (fake->output >= 0 && len > 0)
    {
      ssize_t wrote = write (fake->output, at, len);
      if (wrote < 0 && errno == EINTR)
        continue;
      if (wrote < 0)
        return gs_fail (error, gs_error_from_errno (errno), "write to the stream: %s", g_strerror (errno));
      at += wrote;
      len -= (gsize) wrote;
    }
  if (fake->output >= 0)
    close (fake->output);
  fake->output = -1;
  return TRUE;
}

FakeStream *
fake_stream_new (GBytes *head, int input, int output)
{
  FakeStream *fake = g_new0 (FakeStream, 1);
  fake->stream = (GsStream){ .size = sizeof (GsStream),
                             .head = head != NULL ? g_bytes_ref (head) : g_bytes_new_static ("", 0),
                             .complete = input < 0,
                             .accept = stream_accept,
                             .open_input = stream_open_input,
                             .open_output = stream_open_output,
                             .send_all = stream_send_all };
  fake->input = input;
  fake->output = output;
  return fake;
}

FakeStream *
fake_stream_pipes (GBytes *head, int *ret_to_plugin, int *ret_from_plugin)
{
  int in[2] = { -1, -1 }, out[2] = { -1, -1 };
  if ((ret_to_plugin != NULL && pipe2 (in, O_CLOEXEC) != 0) || (ret_from_plugin != NULL && pipe2 (out, O_CLOEXEC) != 0))
    g_error ("pipe: %s", g_strerror (errno));
  if (ret_to_plugin != NULL)
    *ret_to_plugin = in[1];
  if (ret_from_plugin != NULL)
    *ret_from_plugin = out[0];
  return fake_stream_new (head, in[0], out[1]);
}

void
fake_stream_free (FakeStream *fake)
{
  if (fake->input >= 0)
    close (fake->input);
  if (fake->output >= 0)
    close (fake->output);
  g_bytes_unref (fake->stream.head);
  if (fake->sent != NULL)
    g_bytes_unref (fake->sent);
  g_free (fake);
}

/* --------------------------------------------------------------------------------------- folders */

char *
fake_tempdir_new (void)
{
  char *path = g_build_filename (g_get_tmp_dir (), "gitstead-test-XXXXXX", NULL);
  if (mkdtemp (path) == NULL)
    g_error ("mkdtemp %s: %s", path, g_strerror (errno));
  return path;
}

static int
remove_one (const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  return remove (path);
}

void
fake_remove_tree (const char *path)
{
  nftw (path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void
fake_tempdir_remove (char *path)
{
  fake_remove_tree (path);
  g_free (path);
}
