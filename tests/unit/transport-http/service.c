/* SPDX-License-Identifier: Apache-2.0 */
/* service.c - the calls behind the transport under test. */
#include "service.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gitstead/thread.h>
#include <gitstead/v1/git.pb-c.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wire/wire.h>

#define WAIT_US (20 * G_USEC_PER_SEC)

const GsPlugin *gs_plugin_query (void);

const GsPlugin *
served_plugin (void)
{
  return gs_plugin_query ();
}

typedef struct
{
  guint64 handle;
  GsThread thread;
  GsStream *stream;
  GBytes *payload;
  GsEncoding encoding;
  guint32 method;
  char *path, *protocol;
  guint32 service;
  void (*done) (gpointer user, const GsOutcome *outcome);
  gpointer user;
  gint cancelled; /* atomic */
  int cancel_event;
  gboolean finished;
} Call;

static struct
{
  GsMutex lock;
  GsCond changed;
  GPtrArray *calls; /* of Call; joined by served_stop */
  guint64 next;
  guint running;
  gboolean gate, ready;
  char *folder;
  ServiceRecord seen;
} service = { .lock = GS_MUTEX_INIT };

/* ----------------------------------------------------------------------------------- descriptors */

guint
count_fds (void)
{
  DIR *dir = opendir ("/proc/self/fd");
  guint count = 0;
  while (readdir (dir) != NULL)
    count++;
  closedir (dir);
  return count;
}

gboolean
wait_fds (guint count)
{
  gint64 until = g_get_monotonic_time () + WAIT_US;
  while (count_fds () > count)
    {
      if (g_get_monotonic_time () > until)
        return FALSE;
      poll (NULL, 0, 5);
    }
  return TRUE;
}

/* ------------------------------------------------------------------------------------- behaviours */

static void
finish (Call *call, GsErrorCode code, const char *message, GBytes *payload)
{
  GsOutcome outcome = { .size = sizeof outcome,
                        .code = code,
                        .retry = gs_error_retry (code),
                        .message = message,
                        .retry_after_us = code == GS_ERROR_BUSY ? 2500 * 1000 : 0,
                        .payload = payload };
  /* Counted first: whoever gets the answer may look. */
  gs_mutex_lock (&service.lock);
  service.seen.done++;
  if (__atomic_load_n (&call->cancelled, __ATOMIC_ACQUIRE))
    service.seen.cancelled++;
  service.running--;
  call->finished = TRUE;
  gs_mutex_unlock (&service.lock);
  call->done (call->user, &outcome);
  gs_mutex_lock (&service.lock);
  gs_cond_broadcast (&service.changed);
  gs_mutex_unlock (&service.lock);
}

static gboolean
call_cancelled (Call *call)
{
  return __atomic_load_n (&call->cancelled, __ATOMIC_ACQUIRE);
}

static void
accept_stream (Call *call)
{
  if (!call->stream->accept (call->stream))
    g_error ("accept said FALSE");
  gs_mutex_lock (&service.lock);
  service.seen.accepted++;
  gs_cond_broadcast (&service.changed);
  gs_mutex_unlock (&service.lock);
}

static gboolean
write_all (int fd, const char *data, gsize length)
{
  while (length > 0)
    {
      ssize_t n = write (fd, data, length);
      if (n < 0)
        return FALSE;
      data += n;
      length -= (gsize) n;
    }
  return TRUE;
}

/* Head, then the pipe, to @output (-1 = nowhere). Returns how many bytes; *@ret_whole: it came to its end. */
static guint64
copy_input (Call *call, int output, guint64 limit, gboolean *ret_whole)
{
  char buffer[65536];
  gsize head_len = 0;
  const char *head = g_bytes_get_data (call->stream->head, &head_len);
  guint64 total = head_len;
  GError *error = NULL;
  int input;
  *ret_whole = TRUE;
  if (output >= 0 && !write_all (output, head, head_len))
    *ret_whole = FALSE;
  if (call->stream->complete)
    return total;
  input = call->stream->open_input (call->stream, &error);
  if (input < 0)
    {
      g_clear_error (&error);
      *ret_whole = FALSE;
      return total;
    }
  while (total < limit)
    {
      ssize_t n = read (input, buffer, sizeof buffer);
      if (n < 0)
        g_error ("read from the input: %s", g_strerror (errno));
      if (n == 0)
        break;
      total += (guint64) n;
      if (output >= 0 && !write_all (output, buffer, (gsize) n))
        {
          *ret_whole = FALSE;
          break;
        }
    }
  if (call_cancelled (call))
    *ret_whole = FALSE;
  close (input);
  gs_mutex_lock (&service.lock);
  service.seen.eof_uncancelled = *ret_whole;
  service.seen.bytes_in = total;
  gs_mutex_unlock (&service.lock);
  return total;
}

static void
send_text (Call *call, const char *text)
{
  GBytes *bytes = g_bytes_new (text, strlen (text));
  call->stream->send_all (call->stream, bytes, NULL);
  g_bytes_unref (bytes);
}

static void
wait_cancel (Call *call)
{
  struct pollfd wait = { .fd = call->cancel_event, .events = POLLIN };
  if (poll (&wait, 1, (int) (WAIT_US / 1000)) <= 0)
    g_error ("a hanging call was never cancelled");
}

static int
open_output (Call *call)
{
  return call->stream->open_output (call->stream, NULL);
}

static gboolean
source (int output, guint64 count)
{
  static const char block[65536] = { 'x' };
  while (count > 0)
    {
      gsize n = (gsize) MIN (count, sizeof block);
      if (!write_all (output, block, n))
        return FALSE;
      count -= n;
    }
  return TRUE;
}

static guint64
number_of (const char *path)
{
  const char *slash = strrchr (path, '/');
  return slash != NULL ? g_ascii_strtoull (slash + 1, NULL, 10) : 0;
}

/* Feeds the child's standard input from head and the pipe, on a thread of its own. */
typedef struct
{
  Call *call;
  int to;
  gboolean whole;
} Feed;

static void *
feed (void *user)
{
  Feed *job = user;
  copy_input (job->call, job->to, G_MAXUINT64, &job->whole);
  close (job->to);
  return NULL;
}

static char *
git_folder (const Call *call)
{
  char *folder;
  gs_mutex_lock (&service.lock);
  folder = g_build_filename (service.folder, call->path + strlen ("git/"), NULL);
  gs_mutex_unlock (&service.lock);
  return folder;
}

static void
run_git (Call *call)
{
  gboolean advertise = call->method == 400;
  gboolean upload = call->method == 401 || (advertise && call->service == 1);
  g_autofree char *folder = git_folder (call);
  g_autofree char *protocol = g_strdup_printf ("GIT_PROTOCOL=%s", call->protocol);
  g_autofree char *path = g_strdup_printf ("PATH=%s", g_getenv ("PATH"));
  char *argv[] = { (char *) "git",
                   (char *) (upload ? "upload-pack" : "receive-pack"),
                   (char *) "--stateless-rpc",
                   (char *) (advertise ? "--http-backend-info-refs" : folder),
                   advertise ? folder : NULL,
                   NULL };
  char *envp[] = { path, protocol, (char *) "GIT_CONFIG_NOSYSTEM=1", (char *) "HOME=/nonexistent", NULL };
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none, all;
  Feed job = { .call = call, .to = -1, .whole = TRUE };
  GsThread feeder;
  int in[2], out, status = 0;
  pid_t pid;

  accept_stream (call);
  out = open_output (call);
  if (out < 0 || pipe2 (in, O_CLOEXEC) != 0)
    {
      finish (call, GS_ERROR_CANCELLED, "no output", NULL);
      return;
    }
  sigemptyset (&none);
  sigfillset (&all);
  posix_spawnattr_init (&attributes);
  posix_spawnattr_setflags (&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setsigmask (&attributes, &none);
  posix_spawnattr_setsigdefault (&attributes, &all);
  posix_spawn_file_actions_init (&actions);
  posix_spawn_file_actions_adddup2 (&actions, in[0], 0);
  posix_spawn_file_actions_adddup2 (&actions, out, 1);
  posix_spawn_file_actions_addclosefrom_np (&actions, 3);
  if (posix_spawnp (&pid, "git", &actions, &attributes, argv, envp) != 0)
    g_error ("can't run git");
  posix_spawn_file_actions_destroy (&actions);
  posix_spawnattr_destroy (&attributes);
  close (in[0]);
  close (out);
  job.to = in[1];
  if (advertise)
    close (in[1]);
  else if (gs_thread_start (&feeder, "feed", feed, &job) != 0)
    g_error ("no thread");
  waitpid (pid, &status, 0);
  if (!advertise)
    gs_thread_join (feeder);
  if (WIFEXITED (status) && WEXITSTATUS (status) == 0)
    finish (call, GS_OK, NULL, NULL);
  else
    finish (call, GS_ERROR_INTERNAL, "git failed", NULL);
}

static void
run_head (Call *call)
{
  g_autofree char *text = NULL;
  gsize length = 0;
  const char *head = g_bytes_get_data (call->stream->head, &length);
  accept_stream (call);
  text = g_strdup_printf ("%s %.*s", call->stream->complete ? "complete" : "partial", (int) length, head);
  send_text (call, text);
  finish (call, GS_OK, NULL, NULL);
}

static void
run_few (Call *call, GsErrorCode code)
{
  gboolean whole;
  accept_stream (call);
  copy_input (call, -1, 1, &whole);
  if (code == GS_OK)
    send_text (call, "enough");
  finish (call, code, code == GS_OK ? NULL : "seen enough of it", NULL);
}

static void
run_grandchild (Call *call)
{
  int output;
  accept_stream (call);
  output = open_output (call);
  write_all (output, "out", 3);
  finish (call, GS_OK, NULL, NULL);
  wait_cancel (call); /* woken by served_stop */
  close (output);
}

static void
run_chatty (Call *call)
{
  gboolean whole;
  g_autofree char *text = NULL;
  int output;
  accept_stream (call);
  output = open_output (call);
  source (output, 1 << 20);
  text = g_strdup_printf ("%" G_GUINT64_FORMAT, copy_input (call, -1, G_MAXUINT64, &whole));
  write_all (output, text, strlen (text));
  close (output);
  finish (call, GS_OK, NULL, NULL);
}

static void
run_stream (Call *call)
{
  const char *path = call->path;
  gboolean whole = TRUE;
  int output;
  if (g_str_has_prefix (path, "fail/"))
    {
      finish (call, (GsErrorCode) number_of (path), "it was told to fail", NULL);
      return;
    }
  if (strcmp (path, "hang-closed") == 0)
    {
      wait_cancel (call);
      finish (call, GS_ERROR_CANCELLED, "cancelled", NULL);
      return;
    }
  accept_stream (call);
  if (strcmp (path, "hang") == 0)
    {
      wait_cancel (call);
      finish (call, GS_ERROR_CANCELLED, "cancelled", NULL);
    }
  else if (strcmp (path, "silent") == 0)
    finish (call, GS_OK, NULL, NULL);
  else if (g_str_has_prefix (path, "whole/"))
    {
      GBytes *bytes = g_bytes_new_take (g_strnfill ((gsize) number_of (path), 'w'), (gsize) number_of (path));
      call->stream->send_all (call->stream, bytes, NULL);
      g_bytes_unref (bytes);
      finish (call, GS_OK, NULL, NULL);
    }
  else if (g_str_has_prefix (path, "fail-late/"))
    {
      copy_input (call, -1, G_MAXUINT64, &whole);
      finish (call, (GsErrorCode) number_of (path), "it failed at the end", NULL);
    }
  else if (strcmp (path, "sink") == 0 || strcmp (path, "gated") == 0)
    {
      g_autofree char *text = NULL;
      gs_mutex_lock (&service.lock);
      while (strcmp (path, "gated") == 0 && !service.gate && !call_cancelled (call))
        gs_cond_wait (&service.changed, &service.lock);
      gs_mutex_unlock (&service.lock);
      text = g_strdup_printf ("%" G_GUINT64_FORMAT " bytes", copy_input (call, -1, G_MAXUINT64, &whole));
      if (whole)
        send_text (call, text);
      finish (call, whole ? GS_OK : GS_ERROR_CANCELLED, whole ? NULL : "cut short", NULL);
    }
  else
    {
      output = open_output (call);
      if (output < 0)
        whole = FALSE;
      else if (g_str_has_prefix (path, "source/"))
        whole = source (output, number_of (path));
      else if (strcmp (path, "fail-output") == 0)
        whole = write_all (output, "0123456789", 10) && FALSE;
      else
        copy_input (call, output, G_MAXUINT64, &whole);
      if (output >= 0)
        close (output);
      finish (call, whole ? GS_OK : GS_ERROR_INTERNAL, whole ? NULL : "broken off", NULL);
    }
}

static void
run_json (Call *call)
{
  gsize length = 0;
  const char *data = g_bytes_get_data (call->payload, &length);
  const char *text = data != NULL ? data : "";
  g_autofree char *reply = NULL;
  GBytes *payload;
  if (g_strstr_len (text, (gssize) length, "\"busy\"") != NULL)
    finish (call, GS_ERROR_BUSY, "too much \"at once\"\n", NULL);
  else if (g_strstr_len (text, (gssize) length, "\"denied\"") != NULL)
    finish (call, GS_ERROR_PERMISSION_DENIED, "no", NULL);
  else
    {
      reply = g_strdup_printf ("{\"got\":%.*s}", (int) length, text);
      payload = g_bytes_new (reply, strlen (reply));
      finish (call, GS_OK, NULL, payload);
      g_bytes_unref (payload);
    }
}

static void *
run (void *user)
{
  Call *call = user;
  if (call->encoding == GS_ENCODING_JSON)
    run_json (call);
  else if (g_str_has_prefix (call->path, "git/"))
    run_git (call);
  else if (strcmp (call->path, "head") == 0)
    run_head (call);
  else if (strcmp (call->path, "few") == 0)
    run_few (call, GS_OK);
  else if (g_str_has_prefix (call->path, "close-fail/"))
    run_few (call, (GsErrorCode) number_of (call->path));
  else if (strcmp (call->path, "chatty") == 0)
    run_chatty (call);
  else if (strcmp (call->path, "grandchild") == 0)
    run_grandchild (call);
  else
    run_stream (call);
  gs_mutex_lock (&service.lock);
  close (call->cancel_event);
  call->cancel_event = -1;
  gs_mutex_unlock (&service.lock);
  return NULL;
}

/* -------------------------------------------------------------------------------- the host's slots */

static void
set (char **slot, const char *text)
{
  g_free (*slot);
  *slot = g_strdup (text);
}

static void
decode_request (Call *call, const GsInbound *inbound)
{
  gsize length = 0;
  const guint8 *data = g_bytes_get_data (inbound->payload, &length);
  if (inbound->encoding == GS_ENCODING_JSON)
    call->path = g_strdup ("");
  else if (inbound->method == 400)
    {
      Gitstead__V1__GitAdvertiseRequest *m = gitstead__v1__git_advertise_request__unpack (NULL, length, data);
      call->path = g_strdup (m->repository->path);
      call->protocol = g_strdup (m->protocol);
      call->service = (guint32) m->service;
      gitstead__v1__git_advertise_request__free_unpacked (m, NULL);
    }
  else
    {
      /* The fields of the two requests are the same. */
      Gitstead__V1__GitUploadPackRequest *m = gitstead__v1__git_upload_pack_request__unpack (NULL, length, data);
      call->path = g_strdup (m->repository->path);
      call->protocol = g_strdup (m->protocol);
      if (!m->stateless)
        g_error ("smart HTTP is stateless");
      gitstead__v1__git_upload_pack_request__free_unpacked (m, NULL);
    }
}

static GsCallHandle
call_begin (const GsHost *host, const GsInbound *inbound)
{
  Call *call = g_new0 (Call, 1);
  const GsCredentials *shown = inbound->credentials;
  ServiceRecord *seen = &service.seen;
  GsCallHandle handle;
  call->stream = inbound->stream;
  call->payload = g_bytes_ref (inbound->payload);
  call->encoding = inbound->encoding;
  call->method = inbound->method;
  call->done = inbound->done;
  call->user = inbound->user;
  call->cancel_event = eventfd (0, EFD_CLOEXEC);
  decode_request (call, inbound);
  gs_mutex_lock (&service.lock);
  handle = call->handle = ++service.next;
  seen->begun++;
  service.running++;
  seen->max_running = MAX (seen->max_running, service.running);
  set (&seen->path, call->path);
  set (&seen->protocol, call->protocol);
  set (&seen->user, shown->user);
  set (&seen->secret, shown->secret);
  set (&seen->certificate, shown->certificate);
  set (&seen->peer, inbound->peer);
  set (&seen->method, inbound->method_name);
  seen->credentials = shown->kind;
  seen->service = call->service;
  seen->timeout_us = inbound->timeout_us;
  seen->call_id = inbound->call_id;
  if (call->stream != NULL)
    {
      seen->head = g_bytes_get_size (call->stream->head);
      seen->complete = call->stream->complete;
    }
  g_ptr_array_add (service.calls, call);
  if (gs_thread_start (&call->thread, "call", run, call) != 0)
    g_error ("no thread");
  gs_cond_broadcast (&service.changed);
  gs_mutex_unlock (&service.lock);
  return handle;
}

static void
cancel_locked (Call *call)
{
  __atomic_store_n (&call->cancelled, 1, __ATOMIC_RELEASE);
  if (call->cancel_event >= 0)
    eventfd_write (call->cancel_event, 1);
  gs_cond_broadcast (&service.changed);
}

static void
call_cancel (const GsHost *host, GsCallHandle handle)
{
  gs_mutex_lock (&service.lock);
  for (guint i = 0; i < service.calls->len; i++)
    {
      Call *call = g_ptr_array_index (service.calls, i);
      if (call->handle == handle && !call->finished)
        cancel_locked (call);
    }
  gs_mutex_unlock (&service.lock);
}

static gboolean
method (const GsHost *host, guint32 number, const char *name, GsMethodInfo *ret_info)
{
  gboolean git = g_strcmp0 (name, "Git/UploadPack") == 0;
  if (!git && g_strcmp0 (name, "Repository/Create") != 0)
    return FALSE;
  ret_info->name = git ? "Git/UploadPack" : "Repository/Create";
  ret_info->number = git ? 401 : 100;
  ret_info->streams_in = ret_info->streams_out = git;
  return TRUE;
}

static GBytes *
page (const GsHost *host, const char *name, gboolean *ret_ok)
{
  *ret_ok = TRUE;
  if (strcmp (name, GS_PAGE_METRICS) == 0)
    return g_bytes_new_static ("# TYPE a counter\na 1\n", 21);
  if (strcmp (name, GS_PAGE_STATUS) == 0)
    return g_bytes_new_static ("<!doctype html>", 15);
  gs_mutex_lock (&service.lock);
  *ret_ok = service.ready;
  gs_mutex_unlock (&service.lock);
  return *ret_ok ? g_bytes_new_static ("ready\n", 6) : g_bytes_new_static ("metadata: not there\n", 20);
}

/* ---------------------------------------------------------------------------------- running it all */

Served *
served_new (const char *listen, ...)
{
  Served *served = g_new0 (Served, 1);
  GError *error = NULL;
  const char *pairs[16] = { NULL };
  guint n = 0;
  va_list args;
  char **urls;

  va_start (args, listen);
  for (const char *one = va_arg (args, const char *); one != NULL && n < 12; one = va_arg (args, const char *))
    pairs[n++] = one;
  va_end (args);
  memset (&service.seen, 0, sizeof service.seen);
  service.calls = g_ptr_array_new ();
  service.gate = FALSE;
  service.ready = TRUE;
  gs_cond_init (&service.changed);
  served->plugin = gs_plugin_query ();
  served->fake = fake_host_new ("transport web");
  served->fake->host.call_begin = call_begin;
  served->fake->host.call_cancel = call_cancel;
  served->fake->host.method = method;
  served->fake->host.page = page;
  served->config = fake_config_new (served->plugin, "listen", listen, pairs[0], pairs[1], pairs[2], pairs[3], pairs[4],
                                    pairs[5], pairs[6], pairs[7], pairs[8], pairs[9], pairs[10], pairs[11], NULL);
  served->self = served->plugin->create (&served->fake->host, fake_config_get (served->config), &error);
  if (served->self == NULL || !served->plugin->start (served->self, &error))
    g_error ("the transport does not start: %s", error->message);
  urls = ((const GsTransportOps *) served->plugin->ops)->endpoints (served->self);
  served->url = g_strdup (urls[0]);
  served->port = (guint16) number_of (served->url);
  served->port = (guint16) g_ascii_strtoull (strrchr (served->url, ':') + 1, NULL, 10);
  g_strfreev (urls);
  return served;
}

void
served_drain (Served *served)
{
  served->plugin->drain (served->self);
}

void
served_stop (Served *served)
{
  if (served->self == NULL)
    return;
  served->plugin->drain (served->self);
  served->plugin->stop (served->self);
  served->plugin->destroy (served->self);
  served->self = NULL;
}

void
served_free (Served *served)
{
  served_stop (served);
  for (guint i = 0; i < service.calls->len; i++)
    {
      Call *call = g_ptr_array_index (service.calls, i);
      gs_mutex_lock (&service.lock);
      cancel_locked (call);
      gs_mutex_unlock (&service.lock);
      gs_thread_join (call->thread);
      g_bytes_unref (call->payload);
      g_free (call->path);
      g_free (call->protocol);
      g_free (call);
    }
  g_ptr_array_unref (service.calls);
  g_free (service.seen.path);
  g_free (service.seen.protocol);
  g_free (service.seen.user);
  g_free (service.seen.secret);
  g_free (service.seen.certificate);
  g_free (service.seen.peer);
  g_free (service.seen.method);
  gs_cond_clear (&service.changed);
  fake_config_free (served->config);
  fake_host_free (served->fake);
  g_free (served->url);
  g_free (served);
}

const ServiceRecord *
service_seen (void)
{
  static ServiceRecord copy;
  char **const strings[]
      = { &copy.path, &copy.protocol, &copy.user, &copy.secret, &copy.certificate, &copy.peer, &copy.method };
  for (guint i = 0; i < G_N_ELEMENTS (strings); i++)
    g_free (*strings[i]);
  gs_mutex_lock (&service.lock);
  copy = service.seen;
  for (guint i = 0; i < G_N_ELEMENTS (strings); i++)
    *strings[i] = g_strdup (*strings[i]);
  gs_mutex_unlock (&service.lock);
  return &copy;
}

static gboolean
wait_for (const guint *counter, guint count)
{
  gint64 until = g_get_monotonic_time () + WAIT_US;
  gboolean there;
  gs_mutex_lock (&service.lock);
  while (*counter < count && gs_cond_wait_until (&service.changed, &service.lock, until))
    ;
  there = *counter >= count;
  gs_mutex_unlock (&service.lock);
  return there;
}

gboolean
service_wait_cancelled (guint count)
{
  return wait_for (&service.seen.cancelled, count);
}

gboolean
service_wait_done (guint count)
{
  return wait_for (&service.seen.done, count);
}

gboolean
service_wait_begun (guint count)
{
  return wait_for (&service.seen.begun, count);
}

void
service_open_gate (void)
{
  gs_mutex_lock (&service.lock);
  service.gate = TRUE;
  gs_cond_broadcast (&service.changed);
  gs_mutex_unlock (&service.lock);
}

void
service_set_ready (gboolean ready)
{
  gs_mutex_lock (&service.lock);
  service.ready = ready;
  gs_mutex_unlock (&service.lock);
}

void
service_set_folder (const char *folder)
{
  gs_mutex_lock (&service.lock);
  set (&service.folder, folder);
  gs_mutex_unlock (&service.lock);
}
