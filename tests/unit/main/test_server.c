/* SPDX-License-Identifier: Apache-2.0 */
/* A server in this process: what its pages say while a disk hangs, and reloads without its main loop. */
#include "main/reload.h"

#include <gitstead/host.h>

#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_US (60 * G_USEC_PER_SEC)

typedef struct
{
  char *folder, *gate, *config;
  GsiServer *server;
  gboolean stopped;
} Fixture;

static void
write_config (Fixture *fixture, const char *cache, const char *more)
{
  g_autofree char *text = g_strdup_printf (
      "server: {log_file: log, %s}\nmetadata: {plugin: memory}\naccess: {plugin: token, anonymous: read}\n"
      "cache: {plugin: %s}\nstorages: [{name: tardy, plugin: slow, gate: gate}]\n"
      "virtual_storages:\n- {name: main, storages: [tardy], routing: {plugin: rendezvous}, consistency: {plugin: direct}}\n"
      "transports: [{plugin: inproc}]\n",
      more, cache);
  assert_true (g_file_set_contents (fixture->config, text, -1, NULL));
}

static int
set_up (void **state)
{
  Fixture *fixture = g_new0 (Fixture, 1);
  g_autoptr (GError) error = NULL;
  fixture->folder = g_dir_make_tmp ("gitstead-server-XXXXXX", NULL);
  fixture->gate = g_build_filename (fixture->folder, "gate", NULL);
  fixture->config = g_build_filename (fixture->folder, "gitstead.yaml", NULL);
  assert_true (g_file_set_contents (fixture->gate, "open", -1, NULL));
  write_config (fixture, "none", "name: one");
  fixture->server = gsi_server_new (fixture->config, &error);
  if (fixture->server == NULL || !gsi_server_start (fixture->server, &error))
    fail_msg ("%s", error->message);
  *state = fixture;
  return 0;
}

static int
tear_down (void **state)
{
  Fixture *fixture = *state;
  g_autofree char *log = g_build_filename (fixture->folder, "log", NULL);
  if (!fixture->stopped)
    gsi_server_stop (fixture->server);
  gsi_server_free (fixture->server);
  g_unlink (fixture->gate);
  g_unlink (fixture->config);
  g_unlink (log);
  assert_int_equal (g_rmdir (fixture->folder), 0);
  g_free (fixture->folder);
  g_free (fixture->gate);
  g_free (fixture->config);
  g_free (fixture);
  return 0;
}

/* The page, once it contains @want and is as good as @ok. */
static void
wait_for_page (Fixture *fixture, const char *page, const char *want, gboolean ok)
{
  gint64 until_us = g_get_monotonic_time () + PATIENCE_US;
  for (;;)
    {
      gboolean is_ok = !ok;
      g_autoptr (GBytes) bytes = gsi_server_page (fixture->server, page, &is_ok);
      g_autofree char *text = g_strndup (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes));
      if (is_ok == ok && strstr (text, want) != NULL)
        return;
      if (g_get_monotonic_time () > until_us)
        fail_msg ("the page %s does not say \"%s\" but \"%s\"", page, want, text);
      poll (NULL, 0, 5);
    }
}

/* While the storage does not answer every look at a page must return, or this would hang with it. */
static void
test_a_disk_that_hangs (void **state)
{
  Fixture *fixture = *state;
  int fd;
  wait_for_page (fixture, GS_PAGE_READY, "storage 'tardy': ok", TRUE);
  assert_int_equal (g_unlink (fixture->gate), 0);
  assert_int_equal (mkfifo (fixture->gate, 0600), 0);
  wait_for_page (fixture, GS_PAGE_READY, "storage 'tardy': no answer for ", FALSE);
  wait_for_page (fixture, GS_PAGE_READY, "metadata store 'default': ok", FALSE);
  wait_for_page (fixture, GS_PAGE_STATUS, "storage &apos;tardy&apos;: no answer for", FALSE);
  {
    g_autoptr (GPtrArray) problems = gsi_server_problems (fixture->server);
    assert_int_equal (problems->len, 1);
  }
  /* A reload goes through, and what hangs goes on hanging, once. */
  write_config (fixture, "memory", "name: one");
  assert_true (gsi_server_reload (fixture->server, NULL, NULL));
  wait_for_page (fixture, GS_PAGE_READY, "storage 'tardy': no answer for", FALSE);
  fd = open (fixture->gate, O_WRONLY | O_CLOEXEC);
  assert_true (fd >= 0);
  assert_int_equal (g_unlink (fixture->gate), 0);
  close (fd);
  wait_for_page (fixture, GS_PAGE_READY, "storage 'tardy': the gate", FALSE);
  assert_true (g_file_set_contents (fixture->gate, "open", -1, NULL));
  wait_for_page (fixture, GS_PAGE_READY, "storage 'tardy': ok", TRUE);
}

typedef struct
{
  GsMutex lock;
  GsCond changed;
  gboolean over;
  int code;
} Done;

static void
done (gpointer user, const GsOutcome *outcome)
{
  Done *wait = user;
  gs_mutex_lock (&wait->lock);
  wait->over = TRUE;
  wait->code = (int) outcome->code;
  gs_cond_broadcast (&wait->changed);
  gs_mutex_unlock (&wait->lock);
}

static int
call (Fixture *fixture, const char *method)
{
  Done wait = { .code = -1 };
  GsInbound inbound = { .size = sizeof inbound, .method_name = method, .peer = "test", .done = done, .user = &wait };
  gs_mutex_init (&wait.lock);
  gs_cond_init (&wait.changed);
  gsi_rpc_begin (fixture->server->rpc, &inbound);
  gs_mutex_lock (&wait.lock);
  while (!wait.over)
    gs_cond_wait (&wait.changed, &wait.lock);
  gs_mutex_unlock (&wait.lock);
  gs_cond_clear (&wait.changed);
  gs_mutex_clear (&wait.lock);
  return wait.code;
}

typedef struct
{
  Fixture *fixture;
  gint stop; /* atomic */
  guint n_calls, n_failed;
} Caller;

static void *
keep_calling (void *user)
{
  Caller *caller = user;
  while (!__atomic_load_n (&caller->stop, __ATOMIC_ACQUIRE))
    {
      gboolean ok;
      g_autoptr (GBytes) page = gsi_server_page (caller->fixture->server, GS_PAGE_STATUS, &ok);
      caller->n_failed += call (caller->fixture, caller->n_calls++ % 2 ? "Repository/List" : "Server/Info") != GS_OK;
    }
  return NULL;
}

/* Everything that can be made anew is, again and again, under calls from several threads. */
static void
test_reloads_under_calls (void **state)
{
  Fixture *fixture = *state;
  Caller callers[3] = { { fixture }, { fixture }, { fixture } };
  GsThread threads[3];
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    assert_int_equal (gs_thread_start (&threads[i], "caller", keep_calling, &callers[i]), 0);
  for (guint i = 0; i < 60; i++)
    {
      g_autoptr (GPtrArray) changes = NULL;
      g_autoptr (GError) error = NULL;
      g_autofree char *more = g_strdup_printf ("max_in_flight: %u, maintenance_interval: %us", 100 + i, 600 + i % 2);
      write_config (fixture, i % 2 ? "none" : "memory", more);
      if (!gsi_server_reload (fixture->server, &changes, &error))
        fail_msg ("%s", error->message);
      assert_true (changes->len > 0);
      gsi_server_turn (fixture->server);
    }
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    {
      __atomic_store_n (&callers[i].stop, 1, __ATOMIC_RELEASE);
      gs_thread_join (threads[i]);
      assert_true (callers[i].n_calls > 0);
      assert_int_equal (callers[i].n_failed, 0);
    }
  /* Nobody holds the earlier ones any more. */
  for (gint64 until_us = g_get_monotonic_time () + PATIENCE_US; fixture->server->retired->len > 0;)
    {
      assert_true (g_get_monotonic_time () < until_us);
      gsi_server_turn (fixture->server);
      poll (NULL, 0, 5);
    }
}

/* A call may ask for one; without a main loop, it is turned here. */
static void *
ask (void *user)
{
  Caller *caller = user;
  g_autoptr (GPtrArray) changes = NULL;
  g_autoptr (GError) error = NULL;
  GsCall own = { .size = sizeof own, .deadline_us = g_get_monotonic_time () + PATIENCE_US };
  caller->n_failed = !gsi_reload_ask (caller->fixture->server, &own, &changes, &error);
  caller->n_calls = changes != NULL ? changes->len : 0;
  return NULL;
}

static void
test_asked_by_calls (void **state)
{
  Fixture *fixture = *state;
  Caller caller = { fixture };
  GsCall late = { .size = sizeof late, .deadline_us = 1 };
  g_autoptr (GPtrArray) changes = NULL;
  g_autoptr (GError) error = NULL;
  GsThread thread;

  write_config (fixture, "memory", "name: one");
  assert_int_equal (gs_thread_start (&thread, "asker", ask, &caller), 0);
  for (gboolean waits = FALSE; !waits; poll (NULL, 0, 5))
    {
      g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&fixture->server->lock);
      waits = fixture->server->reloads.length > 0;
    }
  gsi_server_turn (fixture->server);
  gs_thread_join (thread);
  assert_int_equal (caller.n_failed, 0);
  assert_true (caller.n_calls > 0);

  /* Nobody turns: its time runs out, and nobody waits in the queue any more. */
  assert_false (gsi_reload_ask (fixture->server, &late, &changes, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_DEADLINE_EXCEEDED);
  assert_int_equal (fixture->server->reloads.length, 0);
  assert_int_equal (call (fixture, "Server/Reload"), GS_ERROR_PERMISSION_DENIED);
}

static void
never (gpointer user)
{
  fail_msg ("a timer of an hour ran at the end");
}

/* A write that is to be settled later leaves a timer of the core's own: it went with the timers, and then was looked for. */
static void
test_stop_takes_own_timers (void **state)
{
  Fixture *fixture = *state;
  const GsHost *host = gsi_host_get (fixture->server->host);
  guint64 timer = host->timer (host, G_TIME_SPAN_HOUR, never, NULL);
  assert_int_not_equal (timer, 0);
  gsi_server_stop (fixture->server);
  fixture->stopped = TRUE;
  assert_false (host->timer_cancel (host, timer));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_a_disk_that_hangs),
    cmocka_unit_test (test_reloads_under_calls),
    cmocka_unit_test (test_asked_by_calls),
    cmocka_unit_test (test_stop_takes_own_timers),
  };
  return cmocka_run_group_tests (tests, set_up, tear_down);
}
