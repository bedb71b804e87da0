/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plugin of any kind for testing the registry: FAKE_KIND, FAKE_OPS, FAKE_NAME and FAKE_THREADS come from the build,
 * FAKE_NEEDS too where it has any, FAKE_BEFORE where it lacks that slot and what follows. It writes its life to the file of the option "trace".
 */
#include "fake.h"

#include <gitstead/thread.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

typedef struct
{
  const GsHost *host;
  char *trace, *fail;
  gboolean work;
  GsMutex lock;
  GsCond changed;
  gboolean working, stopping;
} Fake;

#ifdef FAKE_BEFORE
static const gpointer table[] = FAKE_TABLE_BEFORE (FAKE_OPS, FAKE_BEFORE);
#else
static const gpointer table[] = FAKE_TABLE (FAKE_OPS);
#endif

static const GsOption options[] = {
  { .key = "trace", .type = GS_OPTION_PATH, .help = "File to write one line per step to." },
  { .key = "fail",
    .type = GS_OPTION_CHOICE,
    .fallback = "none",
    .choices = "none|create|silent-create|start|silent-start",
    .help = "Step that fails." },
  { .key = "work",
    .type = GS_OPTION_BOOL,
    .fallback = "false",
    .help = "Hand work to the host that ends only after stop." },
  { .key = "count", .type = GS_OPTION_INT, .flags = GS_OPTION_RELOADABLE, .fallback = "3", .min = 1, .max = 10, .help = "A number." },
  { .key = "wait", .type = GS_OPTION_DURATION, .fallback = "1500ms", .min = 1000, .max = 60000000, .help = "A time." },
  { .key = "room", .type = GS_OPTION_SIZE, .fallback = "64KiB", .min = 1024, .max = 1 << 30, .help = "A size." },
  { .key = "secret", .type = GS_OPTION_STRING, .flags = GS_OPTION_SECRET, .help = "A secret." },
  { .key = "listen", .type = GS_OPTION_LIST, .help = "Addresses, as transports have them." },
  { .key = "tags", .type = GS_OPTION_LIST, .fallback = "[one, two]", .help = "Some words." },
  { .key = NULL },
};

#ifdef FAKE_NEEDS
static const GsNeed need_rows[] = { FAKE_NEEDS, { NULL, 0, 0 } };
#else
#define need_rows NULL
#endif

static void
trace (Fake *self, const char *step)
{
  g_autofree char *line = g_strdup_printf ("%s %s\n", step, self->host->instance);
  int fd = self->trace != NULL ? open (self->trace, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
  if (fd < 0)
    return;
  if (write (fd, line, strlen (line)) < 0)
    g_warning ("trace: %s", self->trace);
  close (fd);
}

static gpointer
create (const GsHost *host, const GsConfig *config, GError **error)
{
  const char *fail = config->string (config, "fail");
  Fake *self;

  if (strcmp (fail, "create") == 0)
    gs_fail (error, GS_ERROR_UNAVAILABLE, "asked to fail in create");
  if (g_str_has_suffix (fail, "create"))
    return NULL;
  self = g_new0 (Fake, 1);
  self->host = host;
  self->trace = g_strdup (config->string (config, "trace"));
  self->fail = g_strdup (fail);
  self->work = config->boolean (config, "work");
  gs_mutex_init (&self->lock);
  gs_cond_init (&self->changed);
  trace (self, "create");
  return self;
}

static void
work_until_stopped (gpointer user)
{
  Fake *self = user;
  gs_mutex_lock (&self->lock);
  self->working = TRUE;
  gs_cond_broadcast (&self->changed);
  while (!self->stopping)
    gs_cond_wait (&self->changed, &self->lock);
  gs_mutex_unlock (&self->lock);
  trace (self, "worked");
}

static void
never (gpointer user)
{
  trace (user, "late");
}

static gboolean
start (gpointer data, GError **error)
{
  Fake *self = data;
  GsMetric *metric;

  if (strcmp (self->fail, "start") == 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "asked to fail in start");
  if (strcmp (self->fail, "silent-start") == 0)
    return FALSE;
#ifdef FAKE_NEEDS
  for (const GsNeed *need = need_rows; need->role != NULL; need++)
    {
      GsInstance other;
      if (!self->host->need (self->host, need->role, &other) || other.kind != need->kind || other.self == NULL)
        return gs_fail (error, GS_ERROR_INTERNAL, "the need %s is not filled", need->role);
    }
#endif
  metric = self->host->metric (self->host, GS_METRIC_COUNTER, "fake_starts_total", "Starts.", "kind=\"fake\"");
  self->host->metric_update (metric, 1);
  if (self->work)
    {
      if (!self->host->submit (self->host, work_until_stopped, self, error))
        return FALSE;
      if (self->host->timer (self->host, G_GINT64_CONSTANT (3600000000), never, self) == 0)
        return gs_fail (error, GS_ERROR_INTERNAL, "no timer");
      gs_mutex_lock (&self->lock);
      while (!self->working)
        gs_cond_wait (&self->changed, &self->lock);
      gs_mutex_unlock (&self->lock);
    }
  trace (self, "start");
  return TRUE;
}

static void
drain (gpointer data)
{
  trace (data, "drain");
}

static void
stop (gpointer data)
{
  Fake *self = data;
  trace (self, "stop");
  gs_mutex_lock (&self->lock);
  self->stopping = TRUE;
  gs_cond_broadcast (&self->changed);
  gs_mutex_unlock (&self->lock);
}

static void
destroy (gpointer data)
{
  Fake *self = data;
  trace (self, "destroy");
  gs_mutex_clear (&self->lock);
  gs_cond_clear (&self->changed);
  g_free (self->trace);
  g_free (self->fail);
  g_free (self);
}

#ifdef FAKE_ADJUST
/* What it takes is only traced; 9 is a number that it cannot take. */
static gpointer
adjust (gpointer self, const GsConfig *config, GError **error)
{
  gint64 count = config->integer (config, "count");
  if (count == 9)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "9 is too many");
      return NULL;
    }
  return g_strdup_printf ("%d", (int) count);
}

static void
adjusted (gpointer self, gpointer change, gboolean take)
{
  g_autofree char *step = g_strconcat (take ? "take " : "drop ", change, NULL);
  trace (self, step);
  g_free (change);
}
#define FAKE_SLOTS .adjust = adjust, .adjusted = adjusted
#else
#define FAKE_SLOTS .adjust = NULL
#endif

GS_PLUGIN_DEFINE (FAKE_OPS, .kind = FAKE_KIND, .threads = FAKE_THREADS, .name = FAKE_NAME, .version = "1.2.3",
                  .summary = "A plugin for tests.", .license = "Apache-2.0", .options = options, .needs = need_rows,
                  .ops = table, .create = create, .start = start, .drain = drain, .stop = stop, .destroy = destroy, FAKE_SLOTS)
