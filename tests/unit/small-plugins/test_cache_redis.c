/* SPDX-License-Identifier: Apache-2.0 */
/* cache/redis: with a real server that comes, hangs, dies and comes back; addresses; what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead/cache.h>
#include <gitstead/thread.h>

#include "fakehost.h"
#include "loadplugin.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

typedef struct
{
  const GsPlugin *plugin;
  const GsCacheOps *ops;
  FakeHost *host;
  FakeConfig *config;
  FakeCall *call;
  char *folder, *socket, *program;
  gpointer self;
  pid_t server;
} Cache;

static gboolean
can_connect (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  gboolean ok;
  g_strlcpy (address.sun_path, path, sizeof address.sun_path);
  ok = connect (fd, (struct sockaddr *) &address, sizeof address) == 0;
  close (fd);
  return ok;
}

static void
server_start (Cache *cache, const char *password)
{
  const char *args[] = { cache->program, "--port",    "0", "--unixsocket", cache->socket, "--save",        "", "--dir",
                         cache->folder,  "--logfile", "log", "--databases",  "4",           password != NULL ? "--requirepass" : NULL,
                         password,       NULL };
  gint64 deadline_us = g_get_monotonic_time () + 30 * G_USEC_PER_SEC;
  assert_int_equal (posix_spawn (&cache->server, cache->program, NULL, NULL, (char **) args, environ), 0);
  while (!can_connect (cache->socket))
    {
      assert_true (g_get_monotonic_time () < deadline_us);
      assert_int_equal (waitpid (cache->server, NULL, WNOHANG), 0);
      poll (NULL, 0, 5);
    }
}

static void
server_kill (Cache *cache)
{
  if (cache->server <= 0)
    return;
  kill (cache->server, SIGKILL);
  waitpid (cache->server, NULL, 0);
  unlink (cache->socket);
  cache->server = 0;
}

static gboolean
cache_begin (Cache *cache, const char *url, const char *password, GError **error)
{
  cache->config = fake_config_new (cache->plugin, "url", url, "backoff", "100ms", "timeout", "2s", "max_entry", "1MiB",
                                   password != NULL ? "password" : NULL, password, NULL);
  cache->self = cache->plugin->create (&cache->host->host, fake_config_get (cache->config), error);
  return cache->self != NULL && cache->plugin->start (cache->self, error);
}

static void
cache_end (Cache *cache)
{
  if (cache->self != NULL)
    {
      cache->plugin->stop (cache->self);
      cache->plugin->destroy (cache->self);
      cache->self = NULL;
    }
  g_clear_pointer (&cache->config, fake_config_free);
}

static int
cache_new (void **state)
{
  Cache *cache = g_new0 (Cache, 1);
  cache->plugin = load_plugin ("cache-redis.so");
  cache->ops = cache->plugin->ops;
  cache->host = fake_host_new ("cache default");
  cache->call = fake_call_new (0);
  cache->folder = fake_tempdir_new ();
  cache->socket = g_build_filename (cache->folder, "s", NULL);
  cache->program = g_find_program_in_path ("redis-server");
  *state = cache;
  return 0;
}

static int
cache_free (void **state)
{
  Cache *cache = *state;
  cache_end (cache);
  server_kill (cache);
  fake_call_free (cache->call);
  fake_host_free (cache->host);
  fake_tempdir_remove (cache->folder);
  g_free (cache->socket);
  g_free (cache->program);
  g_free (cache);
  return 0;
}

#define NEEDS_SERVER(cache_)                                                                                           \
  if ((cache_)->program == NULL)                                                                                       \
    skip ()

static void
put (Cache *cache, const char *name, gsize n_bytes)
{
  g_autoptr (GBytes) key = g_bytes_new (name, strlen (name)), value = g_bytes_new_take (g_malloc0 (n_bytes + 1), n_bytes);
  g_autoptr (GError) error = NULL;
  assert_true (cache->ops->store (cache->self, &cache->call->call, key, value, 0, &error));
  assert_null (error);
}

static gboolean
has (Cache *cache, const char *name)
{
  g_autoptr (GBytes) key = g_bytes_new (name, strlen (name)), value = NULL;
  g_autoptr (GError) error = NULL;
  assert_true (cache->ops->lookup (cache->self, &cache->call->call, key, &value, &error));
  assert_null (error);
  return value != NULL;
}

/* Stores until it is there: a server that was lost is tried again by itself. */
static void
put_until_there (Cache *cache, const char *name)
{
  gint64 deadline_us = g_get_monotonic_time () + 30 * G_USEC_PER_SEC;
  do
    {
      assert_true (g_get_monotonic_time () < deadline_us);
      put (cache, name, 10);
      poll (NULL, 0, 5);
    }
  while (!has (cache, name));
}

static void
lost_and_found (void **state)
{
  Cache *cache = *state;
  NEEDS_SERVER (cache);
  server_start (cache, NULL);
  assert_true (cache_begin (cache, cache->socket, NULL, NULL));
  put (cache, "k", 100);
  assert_true (has (cache, "k"));
  server_kill (cache);
  assert_false (has (cache, "k"));
  put (cache, "k", 100);
  assert_int_equal (fake_host_logged (cache->host, "cache.redis.down"), 1);
  for (int i = 0; i < 1000; i++)
    assert_false (has (cache, "k"));
  assert_int_equal (fake_host_logged (cache->host, "cache.redis.down"), 1); /* told once */
  server_start (cache, NULL);
  put_until_there (cache, "again");
  assert_int_equal (fake_host_logged (cache->host, "cache.redis.up"), 1);
}

/* The server was restarted while our connections were idle: no miss on that account. */
static void
restarted_meanwhile (void **state)
{
  Cache *cache = *state;
  NEEDS_SERVER (cache);
  server_start (cache, NULL);
  assert_true (cache_begin (cache, cache->socket, NULL, NULL));
  put (cache, "k", 10);
  server_kill (cache);
  server_start (cache, NULL);
  put (cache, "k", 10);
  assert_true (has (cache, "k"));
  assert_int_equal (fake_host_logged (cache->host, "cache.redis.down"), 0);
}

static void
never_there (void **state)
{
  Cache *cache = *state;
  g_autoptr (GBytes) prefix = g_bytes_new_static ("k", 1);
  GsCacheStats stats;
  assert_true (cache_begin (cache, cache->socket, NULL, NULL));
  put (cache, "k", 10);
  assert_false (has (cache, "k"));
  assert_true (cache->ops->forget_prefix (cache->self, &cache->call->call, prefix, NULL));
  cache->ops->stats (cache->self, &stats);
  assert_int_equal (stats.misses, 1);
}

/* It takes connections and says nothing: the first look-up waits as long as the call lets it, and then as long as the
 * timeout; after that nobody waits. */
static void
silent_server (void **state)
{
  Cache *cache = *state;
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  g_autoptr (FakeCall) hurried = fake_call_new (20 * 1000);
  g_autoptr (GBytes) key = g_bytes_new_static ("k", 1), value = NULL;
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_strlcpy (address.sun_path, cache->socket, sizeof address.sun_path);
  assert_int_equal (bind (fd, (struct sockaddr *) &address, sizeof address), 0);
  assert_int_equal (listen (fd, 64), 0);
  cache->config = fake_config_new (cache->plugin, "url", cache->socket, "timeout", "500ms", "backoff", "1h", NULL);
  cache->self = cache->plugin->create (&cache->host->host, fake_config_get (cache->config), NULL);
  assert_non_null (cache->self);
  assert_true (cache->ops->lookup (cache->self, &hurried->call, key, &value, NULL));
  assert_null (value);
  assert_int_equal (fake_host_logged (cache->host, "cache.redis.down"), 0); /* that was not the server's fault */
  assert_false (has (cache, "k"));
  assert_int_equal (fake_host_logged (cache->host, "cache.redis.down"), 1);
  close (fd);
}

static void
password_and_database (void **state)
{
  Cache *cache = *state;
  g_autofree char *url = g_strdup_printf ("unix://%s?db=3", cache->socket), *text = NULL;
  NEEDS_SERVER (cache);
  server_start (cache, "s3cret");
  assert_true (cache_begin (cache, url, "s3cret", NULL));
  put (cache, "k", 10);
  assert_true (has (cache, "k"));
  cache_end (cache);
  assert_true (cache_begin (cache, cache->socket, "s3cret", NULL));
  assert_false (has (cache, "k")); /* another database */
  cache_end (cache);
  assert_true (cache_begin (cache, url, "wr0ng", NULL));
  assert_false (has (cache, "k"));
  cache_end (cache);
  assert_true (cache_begin (cache, url, NULL, NULL));
  assert_false (has (cache, "k"));
  assert_int_equal (fake_host_logged (cache->host, "cache.redis.down"), 2);
  text = fake_host_log_text (cache->host);
  assert_null (strstr (text, "wr0ng"));
  assert_null (strstr (text, "s3cret"));
}

static void
too_large (void **state)
{
  Cache *cache = *state;
  NEEDS_SERVER (cache);
  server_start (cache, NULL);
  assert_true (cache_begin (cache, cache->socket, NULL, NULL));
  put (cache, "k", 1 << 20);
  assert_true (has (cache, "k"));
  put (cache, "k", (1 << 20) + 1); /* the old answer does not outlive a new one */
  assert_false (has (cache, "k"));
}

static void
forgets_exactly (void **state)
{
  Cache *cache = *state;
  g_autoptr (GBytes) prefix = g_bytes_new_static ("a*[b]?\\", 7);
  NEEDS_SERVER (cache);
  server_start (cache, NULL);
  assert_true (cache_begin (cache, cache->socket, NULL, NULL));
  for (int i = 0; i < 1500; i++)
    {
      g_autofree char *name = g_strdup_printf ("a*[b]?\\%d", i);
      put (cache, name, 1);
    }
  put (cache, "axb?\\1", 1);
  put (cache, "a*[b]x", 1);
  assert_true (cache->ops->forget_prefix (cache->self, &cache->call->call, prefix, NULL));
  assert_false (has (cache, "a*[b]?\\0"));
  assert_false (has (cache, "a*[b]?\\1499"));
  assert_true (has (cache, "axb?\\1"));
  assert_true (has (cache, "a*[b]x"));
}

static void
addresses (void **state)
{
  static const char *const bad[] = { "redis://",         "redis://h:0x/1",       "redis://h:99999", "redis://h/x",
                                     "redis://h/99999",  "http://h",             "nonsense",        "unix://h/path",
                                     "unix:path",        "unix:///p?database=1", "unix:///p?db=-1", "redis://u:pw@h/1",
                                     "" };
  Cache *cache = *state;
  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      g_autoptr (GError) error = NULL;
      assert_false (cache_begin (cache, bad[i], NULL, &error));
      assert_int_equal (gs_error_code (error), GS_ERROR_INVALID_ARGUMENT);
      assert_null (strstr (error->message, "pw"));
      cache_end (cache);
    }
}

typedef struct
{
  Cache *cache;
  GsThread thread;
  guint n_hits;
} User;

static void *
use (void *data)
{
  User *user = data;
  Cache *cache = user->cache;
  g_autoptr (GBytes) key = g_bytes_new_static ("k", 1);
  for (int i = 0; i < 2000; i++)
    {
      GBytes *value = NULL;
      if (cache->ops->lookup (cache->self, &cache->call->call, key, &value, NULL) && value != NULL)
        user->n_hits++;
      g_clear_pointer (&value, g_bytes_unref);
    }
  return NULL;
}

/* More threads than connections, and the server dies under them. */
static void
killed_under_load (void **state)
{
  Cache *cache = *state;
  User users[12] = { { NULL } };
  NEEDS_SERVER (cache);
  server_start (cache, NULL);
  assert_true (cache_begin (cache, cache->socket, NULL, NULL));
  put (cache, "k", 1000);
  for (gsize i = 0; i < G_N_ELEMENTS (users); i++)
    {
      users[i].cache = cache;
      assert_int_equal (gs_thread_start (&users[i].thread, "user", use, &users[i]), 0);
    }
  server_kill (cache);
  for (gsize i = 0; i < G_N_ELEMENTS (users); i++)
    gs_thread_join (users[i].thread);
  assert_false (has (cache, "k"));
  server_start (cache, NULL);
  put_until_there (cache, "k");
}

int
main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, cache_new, cache_free)
  const struct CMUnitTest tests[] = { CASE (lost_and_found),  CASE (restarted_meanwhile),   CASE (never_there),
                                      CASE (silent_server),   CASE (password_and_database), CASE (too_large),
                                      CASE (forgets_exactly), CASE (addresses),             CASE (killed_under_load) };
  signal (SIGPIPE, SIG_IGN); /* as the server does */
  return cmocka_run_group_tests_name ("cache-redis", tests, NULL, NULL);
}
