/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kills clients in mid-traffic and looks whether the server is as it was.
 *
 *   nng-torture COUNT                     starts a server of its own (tcp, ipc) and attacks it
 *   nng-torture COUNT PID URL [URL …]     attacks the server with this process id
 *
 * COUNT client processes, some with stock nng REQ sockets that have many requests in flight, some with libgitstead,
 * are killed while they call Server/Ping; others connect and leave, send garbage or half a message. Afterwards the
 * server's descriptors must be back where they were and its memory within bounds, and a well-behaved client that
 * called all the time must have had no failure. Speaks TAP.
 *
 *   nng-torture --serve READY-FD URL …    the server; writes its URLs to the descriptor
 *   nng-torture --client KIND URL         one client, until it is killed
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gitstead-client.h>
#include <gitstead/thread.h>

#include "gitstead/v1/server.pb-c.h"
#include "nngserver.h"
#include "peer.h"

#define AT_ONCE 6           /* client processes */
#define CONTEXTS 16         /* requests in flight of a stock client */
#define PATIENCE_US (30 * G_USEC_PER_SEC)
#define RSS_SLACK_KIB (24 * 1024)

extern char **environ;

/* --------------------------------------------------------------------------------------- one client */

static GByteArray *
ping_envelope (gsize len)
{
  Gitstead__V1__PingRequest ping = GITSTEAD__V1__PING_REQUEST__INIT;
  g_autofree guint8 *echo = g_malloc0 (len + 1);
  g_autoptr (GBytes) payload = NULL;
  GsTxId id;
  ping.echo.data = echo;
  ping.echo.len = len;
  payload = gs_wire_encode (&ping.base);
  random_id (&id);
  return request_build (NS_PING, &id, NULL, g_bytes_get_data (payload, NULL), g_bytes_get_size (payload));
}

typedef struct
{
  nng_ctx ctx;
  nng_aio *aio;
  gboolean receiving;
} Flight;

static void
fly (Flight *flight)
{
  nng_msg *msg;
  g_autoptr (GByteArray) envelope = ping_envelope (900);
  if (nng_msg_alloc (&msg, 0) != 0 || nng_msg_append (msg, envelope->data, envelope->len) != 0)
    _exit (3);
  flight->receiving = FALSE;
  nng_aio_set_msg (flight->aio, msg);
  nng_ctx_send (flight->ctx, flight->aio);
}

static void
on_flight (void *user)
{
  Flight *flight = user;
  if (nng_aio_result (flight->aio) != 0)
    _exit (4);
  if (!flight->receiving)
    {
      flight->receiving = TRUE;
      nng_ctx_recv (flight->ctx, flight->aio);
      return;
    }
  nng_msg_free (nng_aio_get_msg (flight->aio));
  nng_aio_set_msg (flight->aio, NULL);
  fly (flight);
}

static void
run_stock (const char *url)
{
  static Flight flights[CONTEXTS];
  nng_socket socket;
  if (nng_req0_open (&socket) != 0 || nng_dial (socket, url, NULL, 0) != 0)
    _exit (5);
  for (int i = 0; i < CONTEXTS; i++)
    {
      if (nng_ctx_open (&flights[i].ctx, socket) != 0 || nng_aio_alloc (&flights[i].aio, on_flight, &flights[i]) != 0)
        _exit (6);
      fly (&flights[i]);
    }
}

static void *
run_own (void *user)
{
  GsClient *client = user;
  g_autofree guint8 *echo = g_malloc0 (900);
  Gitstead__V1__PingRequest ping = GITSTEAD__V1__PING_REQUEST__INIT;
  ping.echo.data = echo;
  ping.echo.len = 900;
  for (;;)
    if (!gs_client_call (client, "Server/Ping", &ping.base, NULL, NULL, NULL, NULL))
      _exit (7);
}

static int
client_main (const char *kind, const char *url)
{
  if (g_str_equal (kind, "stock"))
    run_stock (url);
  else
    {
      GsClientOptions options = { sizeof options, .url = url };
      GsClient *client = gs_client_new (&options, NULL);
      for (int i = 0; client != NULL && i < 4; i++)
        {
          GsThread thread;
          if (gs_thread_start (&thread, "caller", run_own, client) != 0)
            _exit (8);
        }
    }
  printf ("up\n"); /* kill me now */
  fflush (stdout);
  for (;;)
    pause ();
}

/* --------------------------------------------------------------------------------------- the server */

static int
server_main (int ready, const char *urls)
{
  g_autoptr (GError) error = NULL;
  NgServer *server = ng_server_new (&error, "listen", urls, "handshake_timeout", "2s", "message_timeout", "2s", NULL);
  char byte;
  if (server == NULL)
    {
      fprintf (stderr, "# %s\n", error->message);
      return 1;
    }
  server->count_file = getenv ("NNG_COUNT_FILE");
  server->count_silently = getenv ("NNG_COUNT_SILENTLY") != NULL;
  for (int i = 0; server->urls[i] != NULL; i++)
    dprintf (ready, "%s\n", server->urls[i]);
  close (ready);
  while (read (STDIN_FILENO, &byte, 1) > 0) /* until its parent closes it */
    ;
  ng_server_free (server);
  return 0;
}

/* Starts this program with @args. @ret_in, @ret_out: pipes to its standard input and from its standard output. */
static pid_t
spawn_self (char *const *args, int *ret_in, int *ret_out)
{
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none, all;
  int in[2] = { -1, -1 }, out[2];
  pid_t pid;
  if ((ret_in != NULL && pipe2 (in, O_CLOEXEC) != 0) || pipe2 (out, O_CLOEXEC) != 0)
    g_error ("pipe: %s", g_strerror (errno));
  sigemptyset (&none);
  sigfillset (&all);
  posix_spawnattr_init (&attributes);
  posix_spawnattr_setflags (&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setsigmask (&attributes, &none);
  posix_spawnattr_setsigdefault (&attributes, &all);
  posix_spawn_file_actions_init (&actions);
  if (ret_in != NULL)
    posix_spawn_file_actions_adddup2 (&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2 (&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclosefrom_np (&actions, 3);
  if (posix_spawn (&pid, "/proc/self/exe", &actions, &attributes, args, environ) != 0)
    g_error ("spawn failed");
  posix_spawn_file_actions_destroy (&actions);
  posix_spawnattr_destroy (&attributes);
  close (out[1]);
  if (ret_in != NULL)
    close (in[0]);
  if (ret_in != NULL)
    *ret_in = in[1];
  *ret_out = out[0];
  return pid;
}

static pid_t
start_server (const char *listen, char ***ret_urls, int *ret_in)
{
  char *args[] = { (char *) "nng-torture", (char *) "--serve", (char *) "1", (char *) listen, NULL };
  g_autoptr (GString) text = g_string_new (NULL);
  char buffer[512];
  ssize_t n;
  int out;
  pid_t pid = spawn_self (args, ret_in, &out);
  while ((n = read (out, buffer, sizeof buffer)) > 0)
    g_string_append_len (text, buffer, n);
  close (out);
  g_strstrip (text->str);
  *ret_urls = g_strsplit (text->str, "\n", -1);
  if ((*ret_urls)[0] == NULL)
    g_error ("the server did not start");
  return pid;
}

/* ------------------------------------------------------------------------------------- what it costs */

typedef struct
{
  int fds;
  long rss_kib, threads;
} Cost;

static long
status_number (pid_t pid, const char *key)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/status", (int) pid);
  g_autofree char *text = NULL;
  const char *at;
  if (!g_file_get_contents (path, &text, NULL, NULL) || (at = strstr (text, key)) == NULL)
    return -1;
  return strtol (at + strlen (key), NULL, 10);
}

static Cost
cost_of (pid_t pid)
{
  g_autofree char *path = g_strdup_printf ("/proc/%d/fd", (int) pid);
  DIR *dir = opendir (path);
  Cost cost = { .rss_kib = status_number (pid, "VmRSS:"), .threads = status_number (pid, "Threads:") };
  if (dir == NULL)
    return (Cost) { -1, -1, -1 };
  for (struct dirent *entry; (entry = readdir (dir)) != NULL;)
    cost.fds += entry->d_name[0] != '.';
  closedir (dir);
  return cost;
}

/* --------------------------------------------------------------------------------- the good client */

typedef struct
{
  char **urls;
  gint stop; /* atomic */
  guint64 calls;
  guint failures;
  char *first;
  GsThread thread;
} Good;

static void *
good_run (void *user)
{
  Good *good = user;
  guint n = g_strv_length (good->urls);
  GsClient **clients = g_new0 (GsClient *, n);
  Gitstead__V1__PingRequest ping = GITSTEAD__V1__PING_REQUEST__INIT;
  for (guint i = 0; i < n; i++)
    {
      GsClientOptions options = { sizeof options, .url = good->urls[i], .max_attempts = 1 };
      clients[i] = gs_client_new (&options, NULL);
    }
  for (guint i = 0; !__atomic_load_n (&good->stop, __ATOMIC_ACQUIRE); i = (i + 1) % n)
    {
      g_autoptr (GError) error = NULL;
      good->calls++;
      if (!gs_client_call (clients[i], "Server/Ping", &ping.base, NULL, NULL, NULL, &error))
        {
          good->failures++;
          if (good->first == NULL)
            good->first = g_strdup (error->message);
        }
    }
  for (guint i = 0; i < n; i++)
    gs_client_free (clients[i]);
  g_free (clients);
  return NULL;
}

/* ----------------------------------------------------------------------------------------- the attack */

typedef struct
{
  pid_t pid;
  int out;
} Victim;

static Victim
start_victim (const char *kind, const char *url)
{
  char *args[] = { (char *) "nng-torture", (char *) "--client", (char *) kind, (char *) url, NULL };
  Victim victim;
  victim.pid = spawn_self (args, NULL, &victim.out);
  return victim;
}

/* Waits until it is up, lets it work for a moment, and kills it. FALSE when it ended by itself. */
static gboolean
kill_victim (Victim *victim, guint pause_ms)
{
  struct pollfd up = { .fd = victim->out, .events = POLLIN };
  char word[4];
  int status;
  gboolean good = poll (&up, 1, 20000) == 1 && read (victim->out, word, sizeof word) == 3;
  up.fd = -1;
  poll (&up, 1, (int) pause_ms); /* different moments of its traffic */
  kill (victim->pid, SIGKILL);
  close (victim->out);
  while (waitpid (victim->pid, &status, 0) < 0 && errno == EINTR)
    ;
  return good && WIFSIGNALED (status);
}

/* The ruder kinds, from this process. */
static void
be_rude (const char *url, guint kind)
{
  gboolean ipc = g_str_has_prefix (url, "ipc:");
  guint8 bytes[64];
  int fd;
  if (g_str_has_prefix (url, "tls"))
    return;
  fd = bare_connect (url);
  for (gsize i = 0; i < sizeof bytes; i++)
    bytes[i] = (guint8) (i * 31 + kind);
  if (kind % 3 == 1)
    bare_write (fd, bytes, sizeof bytes);
  else if (kind % 3 == 2)
    {
      g_autoptr (GByteArray) envelope = ping_envelope (100);
      guint8 header[GS_SP_HEADER_SIZE];
      gs_sp_header_write (header, GS_SP_REQ);
      bare_write (fd, header, sizeof header);
      bare_send (fd, ipc, 1, envelope);
      gs_put_u64 (bytes + 1, 5000);
      bytes[0] = GS_SP_IPC_MESSAGE;
      bare_write (fd, ipc ? bytes : bytes + 1, 40);
    }
  close (fd);
}

static guint
attack (char **urls, guint count)
{
  static const char *const kinds[] = { "stock", "own" };
  Victim victims[AT_ONCE];
  guint n_urls = g_strv_length (urls), early = 0, done = 0;
  while (done < count)
    {
      guint n = MIN (AT_ONCE, count - done);
      for (guint i = 0; i < n; i++)
        victims[i] = start_victim (kinds[(done + i) % 2], urls[(done + i) / 2 % n_urls]);
      for (guint i = 0; i < n; i++)
        be_rude (urls[(done + i) % n_urls], done + i);
      for (guint i = 0; i < n; i++)
        early += !kill_victim (&victims[i], (done + i) * 7 % 23);
      done += n;
    }
  return early;
}

static int test_number;

static gboolean
report (gboolean good, const char *name)
{
  printf ("%s %d - %s\n", good ? "ok" : "not ok", ++test_number, name);
  return good;
}

static gboolean
torture (pid_t pid, char **urls, guint count)
{
  Good good = { .urls = urls };
  Cost before, after = { 0 };
  guint early;
  gboolean fine = TRUE;
  gint64 begun = g_get_monotonic_time (), until;
  attack (urls, 2 * AT_ONCE); /* so that what the server keeps for good is there */
  if (gs_thread_start (&good.thread, "good", good_run, &good) != 0)
    g_error ("cannot start a thread");
  /* The good client's connections count on both sides. */
  for (until = g_get_monotonic_time () + PATIENCE_US, before = cost_of (pid); g_get_monotonic_time () < until;)
    {
      Cost again;
      poll (NULL, 0, 500);
      again = cost_of (pid);
      if (again.fds == before.fds)
        break;
      before = again;
    }
  early = attack (urls, count);
  for (until = g_get_monotonic_time () + PATIENCE_US; g_get_monotonic_time () < until; poll (NULL, 0, 50))
    {
      after = cost_of (pid);
      if (after.fds <= before.fds)
        break;
    }
  __atomic_store_n (&good.stop, 1, __ATOMIC_RELEASE);
  gs_thread_join (good.thread);
  printf ("# %u clients killed (%u ended by themselves) in %.1f s\n", count, early,
          (double) (g_get_monotonic_time () - begun) / G_USEC_PER_SEC);
  printf ("# descriptors %d -> %d, resident %ld -> %ld KiB, threads %ld -> %ld\n", before.fds, after.fds, before.rss_kib,
          after.rss_kib, before.threads, after.threads);
  printf ("# the good client: %" G_GUINT64_FORMAT " calls, %u failures%s%s\n", good.calls, good.failures,
          good.first != NULL ? ": " : "", good.first != NULL ? good.first : "");
  fine &= report (early == 0, "every client was killed in mid-traffic");
  fine &= report (after.fds >= 0 && after.fds <= before.fds, "descriptors are back where they were");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  printf ("ok %d - memory is within bounds # SKIP the sanitizer keeps freed memory for a while\n", ++test_number);
#else
  fine &= report (after.rss_kib >= 0 && after.rss_kib <= before.rss_kib + RSS_SLACK_KIB, "memory is within bounds");
#endif
  fine &= report (good.calls > 0 && good.failures == 0, "a well-behaved client had no failure");
  g_free (good.first);
  return fine;
}

/* ------------------------------------------------------------------------------------ killed servers */

typedef struct
{
  const char *url;
  guint32 max_attempts;
  GsClientCall call;
  int code;
  GsThread thread;
} Counted;

static void *
counted_run (void *user)
{
  Counted *counted = user;
  GsClientOptions options = { sizeof options, .url = counted->url, .max_attempts = counted->max_attempts };
  g_autoptr (GsClient) client = gs_client_new (&options, NULL);
  g_autoptr (GError) error = NULL;
  gs_client_call_raw (client, NS_COUNT, NULL, &counted->call, NULL, &error);
  counted->code = gs_error_code (error);
  return NULL;
}

/* How many lines @path has; -1 when they are not all @call_id. */
static int
executions (const char *path, const GsTxId *call_id)
{
  g_autofree char *text = NULL;
  g_auto (GStrv) lines = NULL;
  char hex[2 * GS_TXID_SIZE + 1];
  int n = 0;
  if (!g_file_get_contents (path, &text, NULL, NULL))
    return 0;
  gs_hex (call_id->bytes, GS_TXID_SIZE, hex);
  lines = g_strsplit (g_strchomp (text), "\n", -1);
  for (; lines[n] != NULL; n++)
    if (!g_str_equal (lines[n], hex))
      return -1;
  return n;
}

/* Kills a server that has carried a call out and not replied. The call's code, and how often it was carried out. */
static int
kill_server (const char *listen, const char *path, guint32 max_attempts, int *ret_executions)
{
  Counted counted = { .url = listen, .max_attempts = max_attempts, .call = { .size = sizeof (GsClientCall) } };
  char **urls;
  int in;
  gint64 until = g_get_monotonic_time () + PATIENCE_US;
  pid_t pid;
  unlink (path);
  setenv ("NNG_COUNT_FILE", path, 1);
  setenv ("NNG_COUNT_SILENTLY", "1", 1);
  pid = start_server (listen, &urls, &in);
  g_strfreev (urls);
  random_id (&counted.call.call_id);
  if (gs_thread_start (&counted.thread, "counted", counted_run, &counted) != 0)
    g_error ("cannot start a thread");
  while (executions (path, &counted.call.call_id) == 0 && g_get_monotonic_time () < until)
    poll (NULL, 0, 5);
  kill (pid, SIGKILL);
  waitpid (pid, NULL, 0);
  close (in);
  unsetenv ("NNG_COUNT_SILENTLY");
  pid = start_server (listen, &urls, &in);
  g_strfreev (urls);
  gs_thread_join (counted.thread);
  close (in);
  waitpid (pid, NULL, 0);
  *ret_executions = executions (path, &counted.call.call_id);
  return counted.code;
}

static gboolean
killed_servers (const char *dir)
{
  g_autofree char *listen = g_strdup_printf ("ipc://%s/k", dir);
  g_autofree char *path = g_strdup_printf ("%s/counts", dir);
  gboolean once = TRUE, again = TRUE, good;
  int n;
  for (int round = 0; round < 5; round++)
    {
      once &= kill_server (listen, path, 1, &n) == GS_ERROR_UNKNOWN && n == 1;
      again &= kill_server (listen, path, 100, &n) == GS_OK && n == 2;
    }
  good = report (once, "without repeats a killed server's call is unknown, and was carried out once");
  good &= report (again, "with repeats its successor carries it out, under the same id, once more");
  return good;
}

int
main (int argc, char **argv)
{
  guint count = argc > 1 && argv[1][0] != '-' ? (guint) strtoul (argv[1], NULL, 10) : 0;
  gboolean good;
  signal (SIGPIPE, SIG_IGN);
  setenv ("G_SLICE", "always-malloc", 1);
  if (argc == 4 && g_str_equal (argv[1], "--serve"))
    return server_main (atoi (argv[2]), argv[3]);
  if (argc == 4 && g_str_equal (argv[1], "--client"))
    return client_main (argv[2], argv[3]);
  if (count == 0 || argc == 3)
    {
      fprintf (stderr, "usage: nng-torture COUNT [PID URL…]\n");
      return 2;
    }
  setvbuf (stdout, NULL, _IOLBF, 0);
  if (argc > 3)
    {
      good = torture ((pid_t) atoi (argv[2]), argv + 3, count);
      printf ("1..%d\n", test_number);
      return good ? 0 : 1;
    }
  char *dir = fake_tempdir_new ();
  g_autofree char *listen = g_strdup_printf ("tcp://127.0.0.1:0,ipc://%s/s", dir);
  char **urls;
  int in, status = 0;
  pid_t pid = start_server (listen, &urls, &in);
  good = torture (pid, urls, count);
  close (in);
  waitpid (pid, &status, 0);
  good &= report (WIFEXITED (status) && WEXITSTATUS (status) == 0, "the server stops cleanly afterwards");
  good &= killed_servers (dir);
  printf ("1..%d\n", test_number);
  g_strfreev (urls);
  fake_tempdir_remove (dir);
  return good ? 0 : 1;
}
