/* SPDX-License-Identifier: Apache-2.0 */
/* The log: both forms, escaping, levels and topics, repeats, reopening, whole lines from many threads. */
#include "base/log.h"

#include <gitstead/thread.h>

#include <fcntl.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A log onto a file that has no name, and what stands in it. */
typedef struct
{
  int fd;
  GsiLog *log;
} Sink;

static Sink
sink_new (GsiLogSettings settings)
{
  Sink sink;
  g_autofree char *name = g_strdup ("/tmp/gitstead-log-XXXXXX");
  sink.fd = g_mkstemp_full (name, O_RDWR | O_APPEND | O_CLOEXEC, 0600);
  assert_true (sink.fd >= 0);
  assert_int_equal (g_unlink (name), 0);
  sink.log = gsi_log_new_fd (&settings, sink.fd, NULL);
  assert_non_null (sink.log);
  return sink;
}

/* *full*; ends the log. */
static char *
sink_end (Sink *sink)
{
  GString *text = g_string_new (NULL);
  char buffer[4096];
  ssize_t n;

  gsi_log_free (sink->log);
  assert_int_equal (lseek (sink->fd, 0, SEEK_SET), 0);
  while ((n = read (sink->fd, buffer, sizeof buffer)) > 0)
    g_string_append_len (text, buffer, n);
  close (sink->fd);
  return g_string_free (text, FALSE);
}

static void
assert_has (const char *text, const char *part)
{
  if (strstr (text, part) == NULL)
    fail_msg ("\"%s\" does not have \"%s\"", text, part);
}

static void
test_text_form (void **state)
{
  Sink sink = sink_new ((GsiLogSettings){ .level = GS_LOG_INFO });
  GsTxId id;
  g_autofree char *text = NULL;

  memset (&id, 0xab, sizeof id);
  gsi_log_set_call (&id);
  gsi_log (sink.log, GS_LOG_WARNING, "repo.refused", GS_TEXT ("path", "a b\n\x1b[1m"), GS_NUMBER ("n", -5),
           GS_TEXT ("none", NULL));
  gsi_log_set_call (NULL);
  gsi_log (sink.log, GS_LOG_INFO, "plain");
  gsi_log (sink.log, GS_LOG_DEBUG, "hidden");
  gsi_log (NULL, GS_LOG_ERROR, "nowhere");
  text = sink_end (&sink);
  assert_has (
      text,
      "Z warning repo.refused path=\"a b\\n\\x1b[1m\" n=-5 none=\"\" call=abababababababababababababababab thread=");
  assert_has (text, "Z info    plain thread=");
  assert_null (strstr (text, "hidden"));
}

static void
test_json_form (void **state)
{
  Sink sink = sink_new ((GsiLogSettings){ .level = GS_LOG_DEBUG, .format = GSI_LOG_JSON });
  const GsField fields[] = { GS_TEXT ("path", "q\"uote\xff"), GS_NUMBER ("n", 7), GS_TEXT ("event", "forged"),
                             GS_TEXT ("call", "forged") };
  g_autofree char *text = NULL;
  json_t *line;

  gsi_log_write (sink.log, GS_LOG_ERROR, "storage default", "ref.lost", fields, G_N_ELEMENTS (fields));
  text = sink_end (&sink);
  assert_ptr_equal (strchr (text, '\n'), text + strlen (text) - 1);
  line = json_loads (text, JSON_REJECT_DUPLICATES, NULL);
  assert_non_null (line);
  assert_string_equal (json_string_value (json_object_get (line, "event")), "ref.lost");
  assert_string_equal (json_string_value (json_object_get (line, "level")), "error");
  assert_string_equal (json_string_value (json_object_get (line, "instance")), "storage default");
  assert_string_equal (json_string_value (json_object_get (line, "path")), "q\"uote\xef\xbf\xbd");
  assert_int_equal (json_integer_value (json_object_get (line, "n")), 7);
  assert_string_equal (json_string_value (json_object_get (line, "event_")), "forged");
  assert_string_equal (json_string_value (json_object_get (line, "call_")), "forged");
  assert_null (json_object_get (line, "call"));
  json_decref (line);
}

static void
test_long_records_are_cut (void **state)
{
  Sink sink = sink_new ((GsiLogSettings){ .level = GS_LOG_INFO, .format = GSI_LOG_JSON });
  g_autofree char *filler = g_strnfill (100000, 'x');
  g_autofree char *text = NULL;
  GsField fields[20];
  json_t *line;

  for (guint i = 0; i < G_N_ELEMENTS (fields); i++)
    fields[i] = GS_TEXT ("same", filler);
  fields[0].key = "first";
  gsi_log_write (sink.log, GS_LOG_INFO, NULL, "big", fields, 5);
  text = sink_end (&sink);
  assert_true (strlen (text) <= 16384);
  line = json_loads (text, 0, NULL);
  assert_non_null (line);
  assert_true (json_is_true (json_object_get (line, "truncated")));
  assert_int_equal (json_string_length (json_object_get (line, "first")), 4096);
  json_decref (line);
}

static void
test_levels_and_topics (void **state)
{
  Sink sink = sink_new ((GsiLogSettings){ .level = GS_LOG_WARNING, .topics = "storage=debug, storage.gc=error" });
  const GsiLogSettings quiet = { .level = GS_LOG_ERROR }, bad = { .topics = "storage" };
  g_autoptr (GError) error = NULL;

  assert_true (gsi_log_enabled (sink.log, GS_LOG_DEBUG, NULL));
  assert_true (gsi_log_enabled (sink.log, GS_LOG_DEBUG, "storage.ref.read"));
  assert_true (gsi_log_enabled (sink.log, GS_LOG_DEBUG, "storage"));
  assert_false (gsi_log_enabled (sink.log, GS_LOG_DEBUG, "storages.x"));
  assert_false (gsi_log_enabled (sink.log, GS_LOG_WARNING, "storage.gc.run"));
  assert_true (gsi_log_enabled (sink.log, GS_LOG_WARNING, "rpc.x"));
  assert_false (gsi_log_enabled (sink.log, GS_LOG_INFO, "rpc.x"));
  assert_false (gsi_log_set_levels (sink.log, &bad, &error));
  assert_has (error->message, "Log topic \"storage\"");
  assert_true (gsi_log_set_levels (sink.log, &quiet, NULL));
  assert_false (gsi_log_enabled (sink.log, GS_LOG_WARNING, "storage.x"));
  g_free (sink_end (&sink));
}

static void
test_repeats_are_counted (void **state)
{
  Sink sink = sink_new ((GsiLogSettings){ .level = GS_LOG_DEBUG, .repeats = 3 });
  g_autofree char *text = NULL;
  guint written = 0;

  for (guint i = 0; i < 1000; i++)
    gsi_log_write (sink.log, GS_LOG_WARNING, "cache default", "cache.failed", NULL, 0);
  gsi_log (sink.log, GS_LOG_WARNING, "cache.failed"); /* another instance */
  for (guint i = 0; i < 10; i++)
    gsi_log (sink.log, GS_LOG_INFO, "chatter"); /* not limited */
  text = sink_end (&sink);
  for (const char *at = text; (at = strstr (at, "cache.failed instance=")) != NULL; at++)
    written++;
  /* Three a second, however long the loop took; what is missing is in the counts. */
  {
    guint64 counted = 0;
    for (const char *at = text;
         (at = strstr (at, "log.repeated instance=\"cache default\" repeated=cache.failed count=")) != NULL; at++)
      counted += g_ascii_strtoull (strstr (at, "count=") + 6, NULL, 10);
    assert_true (counted > 0);
    assert_int_equal (written + counted, 1000);
    assert_int_equal (written % 3, 0);
  }
  assert_has (text, "warning cache.failed thread=");
  written = 0;
  for (const char *at = text; (at = strstr (at, "chatter")) != NULL; at++)
    written++;
  assert_int_equal (written, 10);
}

static void
test_reopen_follows_the_name (void **state)
{
  g_autofree char *folder = g_dir_make_tmp ("gitstead-log-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (folder, "log", NULL), *old = g_build_filename (folder, "log.1", NULL);
  const GsiLogSettings settings = { .level = GS_LOG_INFO, .path = path };
  g_autoptr (GsiLog) log = gsi_log_new (&settings, NULL);
  g_autofree char *before = NULL, *after = NULL;
  g_autoptr (GError) error = NULL;
  struct stat st;

  gsi_log (log, GS_LOG_INFO, "first");
  assert_int_equal (g_rename (path, old), 0);
  gsi_log (log, GS_LOG_INFO, "second");
  assert_true (gsi_log_reopen (log, NULL));
  gsi_log (log, GS_LOG_INFO, "third");
  assert_true (g_file_get_contents (old, &before, NULL, NULL));
  assert_true (g_file_get_contents (path, &after, NULL, NULL));
  assert_has (before, "first");
  assert_has (before, "second");
  assert_has (after, "third");
  assert_null (strstr (after, "second"));
  assert_int_equal (g_stat (path, &st), 0);
  assert_int_equal (st.st_mode & 07, 0);
  /* Where it cannot be opened, the log goes on where it was. */
  assert_int_equal (g_unlink (path), 0);
  assert_int_equal (g_unlink (old), 0);
  assert_int_equal (g_rmdir (folder), 0);
  assert_false (gsi_log_reopen (log, &error));
  assert_has (error->message, "Opening the log file");
  gsi_log (log, GS_LOG_INFO, "fourth");
}

#define WRITERS 4
#define EACH 500

static void *
write_some (void *log)
{
  for (int i = 0; i < EACH; i++)
    gsi_log ((GsiLog *) log, GS_LOG_INFO, "some", GS_NUMBER ("i", i));
  return NULL;
}

/* Rotation under load: every record stands whole in one file or another. */
static void
test_reopen_while_writing (void **state)
{
  g_autofree char *folder = g_dir_make_tmp ("gitstead-log-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (folder, "log", NULL);
  const GsiLogSettings settings = { .level = GS_LOG_INFO, .path = path };
  GsiLog *log = gsi_log_new (&settings, NULL);
  GsThread threads[WRITERS];
  guint n_lines = 0;

  for (guint i = 0; i < WRITERS; i++)
    assert_int_equal (gs_thread_start (&threads[i], "writer", write_some, log), 0);
  for (guint i = 0; i < 20; i++)
    {
      g_autofree char *old = g_strdup_printf ("%s.%u", path, i);
      assert_int_equal (g_rename (path, old), 0);
      assert_true (gsi_log_reopen (log, NULL));
    }
  for (guint i = 0; i < WRITERS; i++)
    gs_thread_join (threads[i]);
  gsi_log_free (log);
  for (guint i = 0; i <= 20; i++)
    {
      g_autofree char *name = i < 20 ? g_strdup_printf ("%s.%u", path, i) : g_strdup (path);
      g_autofree char *text = NULL;
      assert_true (g_file_get_contents (name, &text, NULL, NULL));
      for (const char *at = text; *at != '\0'; n_lines++)
        {
          const char *end = strchr (at, '\n');
          assert_non_null (end);
          assert_int_equal (at[4], '-'); /* each begins with a time … */
          assert_ptr_equal (strstr (at, "Z info    some i="),
                            at + strlen ("2025-01-31T12:00:00.123456")); /* … and is one */
          at = end + 1;
        }
      assert_int_equal (g_unlink (name), 0);
    }
  assert_int_equal (n_lines, WRITERS * EACH);
  assert_int_equal (g_rmdir (folder), 0);
}

static void *
write_many (void *log)
{
  for (int i = 0; i < EACH; i++)
    {
      gsi_log ((GsiLog *) log, GS_LOG_INFO, "many", GS_NUMBER ("i", i),
               GS_TEXT ("text", "some text that makes a longer line"));
      if (i % 100 == 0)
        {
          const GsiLogSettings settings = { .level = GS_LOG_INFO };
          gsi_log_set_levels (log, &settings, NULL);
          gsi_log_sweep (log);
        }
    }
  return NULL;
}

static void
test_lines_stay_whole (void **state)
{
  Sink sink = sink_new ((GsiLogSettings){ .level = GS_LOG_INFO, .format = GSI_LOG_JSON });
  GsThread threads[WRITERS];
  g_autofree char *text = NULL;
  g_auto (GStrv) lines = NULL;
  int pipe_fds[2];
  char last[65536];
  ssize_t n;

  for (guint i = 0; i < WRITERS; i++)
    assert_int_equal (gs_thread_start (&threads[i], "writer", write_many, sink.log), 0);
  for (guint i = 0; i < WRITERS; i++)
    gs_thread_join (threads[i]);
  assert_int_equal (pipe (pipe_fds), 0);
  gsi_log_write_last (sink.log, pipe_fds[1]);
  close (pipe_fds[1]);
  n = read (pipe_fds[0], last, sizeof last - 1);
  assert_true (n > 0);
  last[n] = '\0';
  close (pipe_fds[0]);
  text = sink_end (&sink);
  lines = g_strsplit (text, "\n", -1);
  assert_int_equal (g_strv_length (lines), WRITERS * EACH + 1);
  for (guint i = 0; i < WRITERS * EACH; i++)
    {
      json_t *line = json_loads (lines[i], 0, NULL);
      assert_non_null (line);
      json_decref (line);
    }
  n = 0;
  for (const char *at = last; (at = strchr (at, '\n')) != NULL; at++)
    n++;
  assert_int_equal (n, 64);
}

static void
test_bad_settings (void **state)
{
  const GsiLogSettings settings = { .path = "/nowhere/log" };
  g_autoptr (GError) error = NULL;
  assert_null (gsi_log_new (&settings, &error));
  assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_NOT_FOUND));
  assert_string_equal (error->message, "Opening the log file /nowhere/log: No such file or directory");
}

/* One log after another: each has GLib's messages while it lives, and whoever comes last does not find one that is gone. */
static void
test_glib_follows_the_log (void **state)
{
  Sink first = sink_new ((GsiLogSettings){ .level = GS_LOG_INFO }), second = sink_new ((GsiLogSettings){ .level = GS_LOG_INFO });
  g_autofree char *before = NULL, *after = NULL;

  gsi_log_take_glib (first.log);
  g_message ("said to the first");
  gsi_log_take_glib (second.log);
  g_message ("said to the second");
  before = sink_end (&first);
  g_message ("said to whoever is left");
  after = sink_end (&second);
  g_message ("# said to nobody");
  assert_has (before, "said to the first");
  assert_null (strstr (before, "second"));
  assert_has (after, "said to the second");
  assert_has (after, "whoever is left");
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_text_form),
    cmocka_unit_test (test_json_form),
    cmocka_unit_test (test_long_records_are_cut),
    cmocka_unit_test (test_levels_and_topics),
    cmocka_unit_test (test_repeats_are_counted),
    cmocka_unit_test (test_reopen_follows_the_name),
    cmocka_unit_test (test_reopen_while_writing),
    cmocka_unit_test (test_lines_stay_whole),
    cmocka_unit_test (test_bad_settings),
    cmocka_unit_test (test_glib_follows_the_log),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
