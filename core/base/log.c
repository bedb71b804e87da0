/* SPDX-License-Identifier: Apache-2.0 */
/* Levels, repeats, the descriptor and the last records. See log.h. */
#include "base/log-private.h"

#include "base/clock.h"
#include <gitstead/thread.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOPICS_MAX 64
#define REPEAT_SLOTS 256
#define LAST_LINES 64
#define LAST_LINE_BYTES 512

typedef struct
{
  char *prefix;
  gsize len;
  GsLogLevel level;
} Topic;

/* Levels are looked at on every call, also of records that are not made: one immutable table behind one pointer. */
typedef struct
{
  GsLogLevel level; /* without topics */
  GsLogLevel most;  /* the highest of all */
  guint n_topics;
  Topic topics[TOPICS_MAX]; /* the longest prefix first */
} Levels;

/* How often one (event, instance) was seen within the running second. */
typedef struct
{
  char *event, *instance; /* NULL: the slot is free; instance may be NULL */
  GsLogLevel level;
  gint64 since_us;
  guint n_written;
  guint64 n_held;
} Repeat;

struct GsiLog
{
  int fd;
  gboolean own_fd;
  char *path;
  guint32 format;
  Levels *levels;     /* atomic */
  GPtrArray *retired; /* tables that a reader may still look at; few: one per change */

  GsMutex lock; /* of all below, and of retired */
  guint repeats;
  Repeat table[REPEAT_SLOTS];
  guint64 n_last;
  char last[LAST_LINES][LAST_LINE_BYTES];
};

static __thread char call_hex[2 * GS_TXID_SIZE + 1];

/* ------------------------------------------------------------------------------------------- levels */

static void
levels_free (gpointer data)
{
  Levels *levels = data;
  for (guint i = 0; i < levels->n_topics; i++)
    g_free (levels->topics[i].prefix);
  g_free (levels);
}

static gboolean
parse_level (const char *text, GsLogLevel *ret_level)
{
  for (int level = GS_LOG_ERROR; level <= GS_LOG_DEBUG; level++)
    if (strcmp (text, gsi_log_level_name ((GsLogLevel) level)) == 0)
      {
        *ret_level = (GsLogLevel) level;
        return TRUE;
      }
  return FALSE;
}

static int
longest_first (const void *a, const void *b)
{
  const Topic *one = a, *other = b;
  return one->len > other->len ? -1 : one->len < other->len;
}

static Levels *
levels_new (const GsiLogSettings *settings, GError **error)
{
  g_auto (GStrv) parts = g_strsplit (settings->topics != NULL ? settings->topics : "", ",", -1);
  Levels *levels = g_new0 (Levels, 1);

  levels->level = levels->most = settings->level;
  for (char **part = parts; *part != NULL; part++)
    {
      char *equals = strchr (g_strstrip (*part), '=');
      Topic *topic = &levels->topics[levels->n_topics];
      if (**part == '\0')
        continue;
      if (equals == NULL || equals == *part || levels->n_topics == TOPICS_MAX
          || !parse_level (equals + 1, &topic->level))
        {
          gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                   "Log topic \"%s\": want PREFIX=error, warning, info or debug, as in \"storage=debug\", at most %d "
                   "of them",
                   *part, TOPICS_MAX);
          levels_free (levels);
          return NULL;
        }
      topic->len = (gsize) (equals - *part);
      topic->prefix = g_strndup (*part, topic->len);
      levels->most = MAX (levels->most, topic->level);
      levels->n_topics++;
    }
  qsort (levels->topics, levels->n_topics, sizeof (Topic), longest_first);
  return levels;
}

static GsLogLevel
level_of (const Levels *levels, const char *event)
{
  for (guint i = 0; i < levels->n_topics; i++)
    {
      const Topic *topic = &levels->topics[i];
      if (strncmp (event, topic->prefix, topic->len) == 0 && (event[topic->len] == '.' || event[topic->len] == '\0'))
        return topic->level;
    }
  return levels->level;
}

gboolean
gsi_log_enabled (GsiLog *log, GsLogLevel level, const char *event)
{
  const Levels *levels;

  if (log == NULL)
    return FALSE;
  levels = __atomic_load_n (&log->levels, __ATOMIC_ACQUIRE);
  if (level > levels->most)
    return FALSE;
  return event == NULL || level <= level_of (levels, event);
}

static gboolean
same_levels (const Levels *one, const Levels *other)
{
  if (one->level != other->level || one->n_topics != other->n_topics)
    return FALSE;
  for (guint i = 0; i < one->n_topics; i++)
    if (one->topics[i].level != other->topics[i].level || strcmp (one->topics[i].prefix, other->topics[i].prefix) != 0)
      return FALSE;
  return TRUE;
}

gboolean
gsi_log_set_levels (GsiLog *log, const GsiLogSettings *settings, GError **error)
{
  Levels *levels = levels_new (settings, error);

  if (levels == NULL)
    return FALSE;
  gs_mutex_lock (&log->lock);
  /* A reload that changes nothing here leaves nothing behind. */
  if (same_levels (log->levels, levels))
    levels_free (levels);
  else
    {
      g_ptr_array_add (log->retired, log->levels);
      __atomic_store_n (&log->levels, levels, __ATOMIC_RELEASE);
    }
  log->repeats = settings->repeats;
  gs_mutex_unlock (&log->lock);
  return TRUE;
}

/* ------------------------------------------------------------------------------------ open and close */

static int
open_file (const char *path, GError **error)
{
  int fd = open (path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
  if (fd < 0)
    {
      int err = errno;
      gs_fail (error, gs_error_from_errno (err), "Opening the log file %s: %s", path, g_strerror (err));
    }
  return fd;
}

GsiLog *
gsi_log_new_fd (const GsiLogSettings *settings, int fd, GError **error)
{
  Levels *levels = levels_new (settings, error);
  GsiLog *log;

  if (levels == NULL)
    return NULL;
  log = g_new0 (GsiLog, 1);
  log->fd = fd;
  log->format = settings->format;
  log->levels = levels;
  log->retired = g_ptr_array_new_with_free_func (levels_free);
  log->repeats = settings->repeats;
  gs_mutex_init (&log->lock);
  return log;
}

GsiLog *
gsi_log_new (const GsiLogSettings *settings, GError **error)
{
  int fd = settings->path != NULL ? open_file (settings->path, error) : STDERR_FILENO;
  GsiLog *log;

  if (fd < 0)
    return NULL;
  log = gsi_log_new_fd (settings, fd, error);
  if (log == NULL && settings->path != NULL)
    close (fd);
  if (log != NULL && settings->path != NULL)
    {
      log->own_fd = TRUE;
      log->path = g_strdup (settings->path);
    }
  return log;
}

gboolean
gsi_log_reopen (GsiLog *log, GError **error)
{
  int fd;

  if (log->path == NULL)
    return TRUE;
  fd = open_file (log->path, error);
  if (fd < 0)
    return FALSE;
  /* The number stays, so that writers need no lock: each write goes to one file or to the other. */
  if (dup3 (fd, log->fd, O_CLOEXEC) < 0)
    {
      int err = errno;
      close (fd);
      return gs_fail (error, GS_ERROR_INTERNAL, "Switching to the new log file %s: %s", log->path, g_strerror (err));
    }
  close (fd);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ writing */

const char *
gsi_log_call (void)
{
  return call_hex;
}

void
gsi_log_set_call (const GsTxId *id)
{
  if (id == NULL)
    call_hex[0] = '\0';
  else
    gs_hex (id->bytes, sizeof id->bytes, call_hex);
}

static void
write_all (int fd, const char *bytes, gsize len)
{
  while (len > 0)
    {
      ssize_t n = write (fd, bytes, len);
      if (n > 0)
        {
          bytes += n;
          len -= (gsize) n;
        }
      else if (n < 0 && errno == EINTR)
        continue;
      else
        /* A full disk or a closed pipe: there is nobody to tell. */
        return;
    }
}

/* Formats, keeps and writes one record. No limit any more. */
static void
emit (GsiLog *log, GsLogLevel level, const char *instance, const char *event, const GsField *fields, gsize n_fields)
{
  g_autoptr (GString) line = g_string_sized_new (512);
  char thread[16] = "";
  GsiLogRecord record = { .level = level,
                          .wall_us = gsi_clock_wall_us (),
                          .instance = instance,
                          .event = event,
                          .fields = fields,
                          .n_fields = n_fields };
  char *slot;
  gsize kept;

  if (pthread_getname_np (pthread_self (), thread, sizeof thread) == 0 && thread[0] != '\0')
    record.thread = thread;
  if (call_hex[0] != '\0')
    record.call = call_hex;
  gsi_log_format (line, log->format, &record);

  gs_mutex_lock (&log->lock);
  slot = log->last[log->n_last++ % LAST_LINES];
  kept = MIN (line->len, LAST_LINE_BYTES - 1);
  memcpy (slot, line->str, kept);
  slot[kept - 1] = '\n';
  slot[kept] = '\0';
  gs_mutex_unlock (&log->lock);
  write_all (log->fd, line->str, line->len);
}

/* Takes what a slot held back, leaving it free. */
static Repeat
take_repeat (Repeat *slot)
{
  Repeat taken = *slot;
  memset (slot, 0, sizeof *slot);
  return taken;
}

/* Reports and frees a taken slot. Without the lock. */
static void
report_repeat (GsiLog *log, Repeat taken)
{
  if (taken.n_held > 0)
    {
      const GsField fields[] = { GS_TEXT ("repeated", taken.event), GS_NUMBER ("count", taken.n_held) };
      emit (log, taken.level, taken.instance, "log.repeated", fields, G_N_ELEMENTS (fields));
    }
  g_free (taken.event);
  g_free (taken.instance);
}

/* May this record be written? What it pushed out of its slot is in @ret_old, to be reported. */
static gboolean
admit (GsiLog *log, GsLogLevel level, const char *instance, const char *event, Repeat *ret_old)
{
  gint64 now = gsi_clock_now_us ();
  guint hash = g_str_hash (event) * 31 + (instance != NULL ? g_str_hash (instance) : 0);
  Repeat *slot = &log->table[hash % REPEAT_SLOTS];
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&log->lock);

  if (log->repeats == 0)
    return TRUE;
  if (slot->event != NULL
      && (now - slot->since_us >= G_USEC_PER_SEC || strcmp (slot->event, event) != 0
          || g_strcmp0 (slot->instance, instance) != 0))
    *ret_old = take_repeat (slot);
  if (slot->event == NULL)
    {
      slot->event = g_strdup (event);
      slot->instance = g_strdup (instance);
      slot->since_us = now;
    }
  slot->level = level;
  if (slot->n_written >= log->repeats)
    {
      slot->n_held++;
      return FALSE;
    }
  slot->n_written++;
  return TRUE;
}

void
gsi_log_write (GsiLog *log, GsLogLevel level, const char *instance, const char *event, const GsField *fields,
               gsize n_fields)
{
  int err = errno;
  Repeat old = { 0 };

  if (!gsi_log_enabled (log, level, event))
    return;
  if (level == GS_LOG_DEBUG || level == GS_LOG_INFO)
    emit (log, level, instance, event, fields, n_fields);
  else
    {
      gboolean admitted = admit (log, level, instance, event, &old);
      report_repeat (log, old);
      if (admitted)
        emit (log, level, instance, event, fields, n_fields);
    }
  errno = err;
}

static void
sweep (GsiLog *log, gint64 before_us)
{
  for (guint i = 0; i < REPEAT_SLOTS; i++)
    {
      Repeat taken = { 0 };
      gs_mutex_lock (&log->lock);
      if (log->table[i].event != NULL && log->table[i].since_us <= before_us)
        taken = take_repeat (&log->table[i]);
      gs_mutex_unlock (&log->lock);
      report_repeat (log, taken);
    }
}

void
gsi_log_sweep (GsiLog *log)
{
  sweep (log, gsi_clock_now_us () - G_USEC_PER_SEC);
}

/* Who takes GLib's messages: GLib can be told once in a process, and logs come and go. Atomic. */
static GsiLog *log_of_glib;

void
gsi_log_free (GsiLog *log)
{
  GsiLog *own = log;
  if (log == NULL)
    return;
  __atomic_compare_exchange_n (&log_of_glib, &own, NULL, FALSE, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
  sweep (log, G_MAXINT64);
  if (log->own_fd)
    close (log->fd);
  levels_free (log->levels);
  g_ptr_array_unref (log->retired);
  gs_mutex_clear (&log->lock);
  g_free (log->path);
  g_free (log);
}

/* -------------------------------------------------------------------------------------------- others */

/* Reads without the lock: the process is dying, perhaps of this very lock. At worst a line is torn. */
void
gsi_log_write_last (const GsiLog *log, int fd)
{
  guint64 end = log->n_last, start = end > LAST_LINES ? end - LAST_LINES : 0;

  for (guint64 i = start; i < end; i++)
    {
      const char *line = log->last[i % LAST_LINES];
      write_all (fd, line, strnlen (line, LAST_LINE_BYTES));
    }
}

static GLogWriterOutput
glib_writer (GLogLevelFlags flags, const GLogField *given, gsize n_given, gpointer user)
{
  GsLogLevel level = flags & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL) ? GS_LOG_ERROR
                     : flags & G_LOG_LEVEL_WARNING                      ? GS_LOG_WARNING
                     : flags & (G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO) ? GS_LOG_INFO
                                                                        : GS_LOG_DEBUG;
  const char *message = "", *domain = "";
  GsiLog *log = __atomic_load_n (&log_of_glib, __ATOMIC_ACQUIRE);

  if (log == NULL)
    return g_log_writer_default (flags, given, n_given, NULL);
  for (gsize i = 0; i < n_given; i++)
    if (given[i].length >= 0)
      continue; /* not NUL-terminated: never these two */
    else if (strcmp (given[i].key, "MESSAGE") == 0)
      message = given[i].value;
    else if (strcmp (given[i].key, "GLIB_DOMAIN") == 0)
      domain = given[i].value;
  gsi_log (log, level, "glib.message", GS_TEXT ("domain", domain), GS_TEXT ("message", message));
  return G_LOG_WRITER_HANDLED;
}

void
gsi_log_take_glib (GsiLog *log)
{
  static gint told; /* atomic */
  __atomic_store_n (&log_of_glib, log, __ATOMIC_RELEASE);
  if (!__atomic_exchange_n (&told, 1, __ATOMIC_ACQ_REL))
    g_log_set_writer_func (glib_writer, NULL, NULL);
}
