/* SPDX-License-Identifier: Apache-2.0 */
/* cli_client.c - the client subcommands' calls: who we are, one client, bulk bytes from and to descriptors. */
#include "cli.h"
#include "cli_private.h"

#include <client/gitstead-client.h>
#include <errno.h>
#include <fcntl.h>
#include <gitstead/v1/server.pb-c.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_MAX 4096
#define ASK_FROM ((gsize) 60 * 1024) /* no server's limit is below 64 KiB */
#define HEADER_ROOM 1024u            /* prefix and header travel with the request */
#define NOTE_AFTER_US G_USEC_PER_SEC

static struct
{
  GsiMethods *methods;
  GsArena *arena;
  GsClient *client;
  GsClientCall last;
  const char *called; /* the last method */
  gint64 begun_us;    /* when it was called */
  gboolean noted;     /* that it takes long */
} state;

const GsiMethods *
gsi_cli_methods (GError **error)
{
  if (state.methods == NULL)
    state.methods = gsi_methods_new (error);
  return state.methods;
}

GsArena *
gsi_cli_arena (void)
{
  /* Lists are read page by page and kept whole until they are printed. */
  if (state.arena == NULL)
    state.arena = gs_arena_new ((gsize) 64 * GS_CLIENT_ARENA);
  return state.arena;
}

gboolean
gsi_cli_server_answered (void)
{
  return state.last.ret_server_epoch != 0;
}

const char *
gsi_cli_called (void)
{
  return state.last.ret_attempts > 0 ? state.called : NULL;
}

gint64
gsi_cli_retry_after_us (void)
{
  return state.last.ret_retry_after_us;
}

/* ---------------------------------------------------------------------------------------- tokens */

/* Somebody else's eyes on a token file make the token worthless; a pipe (/dev/stdin, <(…)) has no such mode. */
static gboolean
check_token_file (int fd, const char *path, GError **error)
{
  struct stat st;
  if (fstat (fd, &st) != 0)
    {
      int err = errno;
      return gs_fail (error, gs_error_from_errno (err), "cannot look at the token file '%s': %s", path,
                      g_strerror (err));
    }
  if (S_ISREG (st.st_mode) && (st.st_mode & 077) != 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the token file '%s' can be read by others (mode %04o); take that away with: chmod 600 %s", path,
                    (guint) st.st_mode & 07777, path);
  return TRUE;
}

static char *
read_token_file (const char *path, GError **error)
{
  char buffer[TOKEN_MAX + 1];
  gsize n = 0;
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    {
      int err = errno;
      gs_fail (error, gs_error_from_errno (err), "cannot open the token file '%s': %s", path, g_strerror (err));
      return NULL;
    }
  if (!check_token_file (fd, path, error))
    {
      close (fd);
      return NULL;
    }
  while (n < sizeof buffer)
    {
      gssize got = read (fd, buffer + n, sizeof buffer - n);
      if (got < 0 && errno == EINTR)
        continue;
      if (got <= 0)
        break;
      n += (gsize) got;
    }
  close (fd);
  if (n == sizeof buffer)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "'%s' holds no token: it is too long", path);
      return NULL;
    }
  buffer[n] = '\0';
  g_strstrip (buffer);
  if (buffer[0] == '\0' || strpbrk (buffer, " \t\r\n") != NULL)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "'%s' holds no token: one line \"gs_<id>_<secret>\" is wanted", path);
      return NULL;
    }
  return g_strdup (buffer);
}

/* That a server is away for a moment is nothing to speak of; who waits for longer is told for what. */
static void
still_trying (gpointer user, guint32 attempt, const GError *why)
{
  if (state.noted || g_get_monotonic_time () - state.begun_us < NOTE_AFTER_US)
    return;
  state.noted = TRUE;
  gsi_cli_note ("still trying", why);
}

static GsClient *
get_client (GError **error)
{
  GsClientOptions options;
  g_autofree char *token = NULL;
  const char *env = g_getenv ("GITSTEAD_TOKEN");

  if (state.client != NULL)
    return state.client;
  if (gsi_cli_token_file () != NULL)
    {
      token = read_token_file (gsi_cli_token_file (), error);
      if (token == NULL)
        return NULL;
    }
  else if (env != NULL && env[0] != '\0')
    token = g_strdup (env);

  memset (&options, 0, sizeof options);
  options.size = sizeof options;
  options.url = gsi_cli_server ();
  options.token = token;
  options.timeout_us = gsi_cli_timeout_us ();
  options.agent = "gitstead-cli/" GSI_VERSION;
  options.retrying = still_trying;
  state.client = gs_client_new (&options, error);
  return state.client;
}

/* ----------------------------------------------------------------------------------------- calls */

static void
begin_call (const GsiMethod *method)
{
  memset (&state.last, 0, sizeof state.last);
  state.last.size = sizeof state.last;
  state.last.generation = gsi_cli_generation ();
  state.called = method != NULL ? method->name : NULL;
  state.begun_us = g_get_monotonic_time ();
  /* Methods that say they take long get their time, unless the user said otherwise. */
  if (gsi_cli_timeout_us () == 0 && method != NULL)
    state.last.timeout_us = method->timeout_us;
}

/*
 * libgitstead says which call on which server failed; here that is known, and what was attempted stands before it. FALSE: it
 * did not say so.
 */
static gboolean
drop_call (const char *name, GError **error)
{
  g_autofree char *before = g_strdup_printf ("%s on %s: ", name, gsi_cli_server ());
  if (error == NULL || !g_str_has_prefix ((*error)->message, before))
    return FALSE;
  memmove ((*error)->message, (*error)->message + strlen (before), strlen ((*error)->message) - strlen (before) + 1);
  return TRUE;
}

/* A server hangs up on a request beyond its limit: asking first gives a better answer than "the connection broke". */
static gboolean
check_size (GsClient *client, const char *name, const ProtobufCMessage *request, GError **error)
{
  gsize size = protobuf_c_message_get_packed_size (request);
  Gitstead__V1__HelloRequest hello = GITSTEAD__V1__HELLO_REQUEST__INIT;
  ProtobufCMessage *reply = NULL;
  const Gitstead__V1__HelloReply *limits;
  if (size < ASK_FROM)
    return TRUE;
  begin_call (NULL);
  if (!gs_client_call (client, "Server/Hello", &hello.base, &state.last, gsi_cli_arena (), &reply, error))
    {
      drop_call ("Server/Hello", error);
      return FALSE;
    }
  limits = (const Gitstead__V1__HelloReply *) reply;
  if (size <= limits->max_message_bytes - MIN (limits->max_message_bytes, HEADER_ROOM))
    return TRUE;
  return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                  "the request for %s has %" G_GSIZE_FORMAT " bytes, and the server takes at most %u: split it", name, size,
                  limits->max_message_bytes);
}

const ProtobufCMessage *
gsi_cli_call (const char *name, const ProtobufCMessage *request, GError **error)
{
  const GsiMethods *methods = gsi_cli_methods (error);
  GsClient *client = methods != NULL ? get_client (error) : NULL;
  ProtobufCMessage *reply = NULL;
  if (client == NULL || !check_size (client, name, request, error))
    return NULL;
  begin_call (gsi_methods_by_name (methods, name));
  if (gs_client_call (client, name, request, &state.last, gsi_cli_arena (), &reply, error))
    return reply;
  drop_call (name, error);
  return NULL;
}

/* --------------------------------------------------------------------------------------- streams */

gboolean
gsi_cli_call_stream (const GsiMethod *method, const ProtobufCMessage *request, int input, int output,
                     const ProtobufCMessage **ret_reply, GError **error)
{
  GsClient *client = get_client (error);
  GsClientBulk bulk = GS_CLIENT_BULK;
  ProtobufCMessage *reply = NULL;
  if (client == NULL)
    return FALSE;
  begin_call (method);
  bulk.from_fd = input;
  bulk.to_fd = output;
  if (gs_client_transfer (client, method->name, request, &bulk, &state.last, gsi_cli_arena (), &reply, error))
    {
      *ret_reply = reply;
      return TRUE;
    }
  if (!drop_call (method->name, error))
    state.called = NULL; /* this side failed, not the call */
  return FALSE;
}
