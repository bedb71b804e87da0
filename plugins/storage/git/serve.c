/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetches. Protocol v2 is a row of requests that need no memory of each other: ls-refs is answered here, every other
 * one by a git upload-pack of its own, over HTTP as in a session. v0 and v1 sessions are git's from the first byte.
 * A child has the client's descriptors themselves wherever nothing has to go before. The packs that upload-pack sends come
 * from the cache (packcache.h).
 */
#include "child.h"
#include "git.h"
#include "packcache.h"
#include "pktline.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SESSION_REQUEST_MAX (64u << 20) /* one request of a v2 session: about a million wants and haves */

/* The client's bytes: what came with the call, then a descriptor. */
typedef struct
{
  const char *head;
  gsize left;
  int fd; /* -1 = no more */
} Input;

static gboolean
input_fill (Input *input, GsCall *call, GString *into, GError **error)
{
  char buffer[16384];
  if (input->left > 0)
    {
      g_string_append_len (into, input->head, (gssize) input->left);
      input->left = 0;
      return TRUE;
    }
  while (input->fd >= 0)
    {
      struct pollfd fds[2] = { { .fd = input->fd, .events = POLLIN } };
      if (!call_poll (call, fds, 1, "read a fetch request", error))
        return FALSE;
      ssize_t got = read (input->fd, buffer, sizeof buffer);
      if (got < 0 && (errno == EINTR || errno == EAGAIN))
        continue;
      if (got <= 0)
        break;
      g_string_append_len (into, buffer, got);
      return TRUE;
    }
  return gs_call_check (call, "read a fetch request", error)
         && gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the fetch request ends before it is complete");
}

/*
 * Reads up to and with the next flush packet; *@ret_len bytes of @buffer are the request. 0: the client ended the
 * session, with a flush or by closing between two requests.
 */
static gboolean
read_request (Input *input, GsCall *call, GString *buffer, gsize max, gsize *ret_len, GError **error)
{
  gsize at = 0;
  for (;;)
    {
      const char *payload;
      gsize used, len;
      PktType type = pkt_parse (buffer->str + at, buffer->len - at, &used, &payload, &len);
      if (type == PKT_BAD)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the fetch request is not made of packet lines");
      if (type == PKT_FLUSH)
        {
          *ret_len = at == 0 ? 0 : at + used;
          return TRUE;
        }
      if (type != PKT_MORE)
        {
          at += used;
          continue;
        }
      if (buffer->len > max)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "the fetch request has more than %" G_GSIZE_FORMAT " bytes", max);
      if (buffer->len == 0 && input->left == 0)
        {
          g_autoptr (GError) ended = NULL;
          if (input_fill (input, call, buffer, &ended))
            continue;
          if (ended->code != GS_ERROR_INVALID_ARGUMENT)
            {
              g_propagate_error (error, g_steal_pointer (&ended));
              return FALSE;
            }
          *ret_len = 0;
          return TRUE;
        }
      if (!input_fill (input, call, buffer, error))
        return FALSE;
    }
}

static gboolean
is_ls_refs (const char *data, gsize len)
{
  const char *payload;
  gsize used, payload_len;
  return pkt_parse (data, len, &used, &payload, &payload_len) == PKT_DATA
         && pkt_chomp (payload, payload_len) == strlen ("command=ls-refs")
         && memcmp (payload, "command=ls-refs", strlen ("command=ls-refs")) == 0;
}

/* ---------------------------------------------------------------------------------------- children */

/* An exit code other than 0 was told to the client in git's words, or is a client that hung up: no failure of ours. */
static gboolean
judge (Repo *repo, Child *child, int status, GError **error)
{
  Storage *storage = repo->storage;
  g_autoptr (GError) failed = NULL;
  if (child_check (child, status, &failed))
    return TRUE;
  if (WIFSIGNALED (status) && WTERMSIG (status) != SIGPIPE)
    return gs_fail (error, (GsErrorCode) failed->code, "fetch from repository %" G_GUINT64_FORMAT ": %s", repo->id,
                    failed->message);
  const GsField fields[] = { GS_TEXT ("replica", repo->path), GS_TEXT ("said", failed->message) };
  storage->host->log (storage->host, GS_LOG_INFO, "storage.fetch.git-said", fields, G_N_ELEMENTS (fields));
  return TRUE;
}

static gboolean
run_upload_pack (Repo *repo, GsCall *call, const char *protocol, gboolean stateless, int child_input,
                 const ChildInput *pumped, int output, GError **error)
{
  const char *const once[] = { "upload-pack", "--strict", "--stateless-rpc", repo->dir, NULL };
  const char *const session[] = { "upload-pack", "--strict", repo->dir, NULL };
  ChildSpec spec = { .role = CHILD_UPLOAD,
                     .argv = stateless ? once : session,
                     .protocol = protocol,
                     .input = child_input,
                     .output = output,
                     .extra = -1 };
  g_autoptr (GError) failed = NULL;
  PackFetch *fetch = pack_fetch_new (repo, &failed);
  Child child;
  int status;
  repo->storage->host->metric_update (repo->storage->metric.fetches, 1);
  if (fetch != NULL)
    pack_fetch_spec (fetch, &spec);
  gboolean started = failed == NULL && child_start (repo->storage, &spec, &child, &failed);
  if (fetch != NULL)
    pack_fetch_started (fetch);
  if (!started)
    {
      pack_fetch_free (fetch);
      g_propagate_error (error, g_steal_pointer (&failed));
      if (pumped != NULL)
        {
          close (pumped->to);
          if (pumped->from >= 0)
            close (pumped->from);
        }
      return FALSE;
    }
  gboolean ended = child_wait (&child, call, pumped, &status, error) && judge (repo, &child, status, error);
  child_clear (&child);
  pack_fetch_free (fetch);
  return ended;
}

/* The whole input, head first, to one child. */
static gboolean
serve_by_git (Repo *repo, GsCall *call, const char *protocol, gboolean stateless, GsStream *stream, GError **error)
{
  gsize head_len;
  const char *head = g_bytes_get_data (stream->head, &head_len);
  int from = -1, output, input[2];
  gboolean served;
  if (!stream->complete && (from = stream->open_input (stream, error)) < 0)
    return FALSE;
  if ((output = stream->open_output (stream, error)) < 0)
    {
      if (from >= 0)
        close (from);
      return FALSE;
    }
  if (stream->complete || head_len == 0)
    {
      if (stream->complete)
        from = memory_fd (head, head_len, error);
      served = from >= 0 && run_upload_pack (repo, call, protocol, stateless, from, NULL, output, error);
      if (from >= 0)
        close (from);
    }
  else if (pipe2 (input, O_CLOEXEC) != 0)
    {
      close (from);
      served = gs_fail (error, gs_error_from_errno (errno), "make a pipe for git upload-pack: %s", g_strerror (errno));
    }
  else
    {
      const ChildInput pumped = { .head = stream->head, .from = from, .to = input[1] };
      fcntl (input[1], F_SETFL, O_NONBLOCK);
      served = run_upload_pack (repo, call, protocol, stateless, input[0], &pumped, output, error);
      close (input[0]);
    }
  close (output);
  return served;
}

/* -------------------------------------------------------------------------------------- protocol v2 */

static gboolean
serve_ls_refs_once (Repo *repo, GsCall *call, GsStream *stream, GError **error)
{
  g_autoptr (GString) buffer = g_string_new (NULL);
  Input input = { .fd = -1 };
  gsize len;
  input.head = g_bytes_get_data (stream->head, &input.left);
  if (!stream->complete && (input.fd = stream->open_input (stream, error)) < 0)
    return FALSE;
  gboolean read_it = read_request (&input, call, buffer, GIT_REQUEST_MAX, &len, error);
  if (input.fd >= 0)
    close (input.fd);
  if (!read_it)
    return FALSE;
  g_autoptr (GBytes) answer = advertise_ls_refs (repo, buffer->str, len, error);
  if (answer == NULL)
    return FALSE;
  repo->storage->host->metric_update (repo->storage->metric.native_lists, 1);
  return stream->send_all (stream, answer, error);
}

static gboolean
session_request (Repo *repo, GsCall *call, const char *protocol, const char *request, gsize len, int output,
                 GError **error)
{
  if (is_ls_refs (request, len))
    {
      gsize answer_len;
      g_autoptr (GBytes) answer = advertise_ls_refs (repo, request, len, error);
      if (answer == NULL)
        return FALSE;
      const char *data = g_bytes_get_data (answer, &answer_len);
      repo->storage->host->metric_update (repo->storage->metric.native_lists, 1);
      return call_write (call, output, data, answer_len, "send the refs", error);
    }
  int fd = memory_fd (request, len, error);
  if (fd < 0)
    return FALSE;
  gboolean served = run_upload_pack (repo, call, protocol, TRUE, fd, NULL, output, error);
  close (fd);
  return served;
}

static gboolean
session_loop (Repo *repo, GsCall *call, const char *protocol, Input *input, int output, GError **error)
{
  g_autoptr (GString) buffer = g_string_new (NULL);
  const char *hello = repo->storage->v2_advertisement;
  if (!call_write (call, output, hello, strlen (hello), "send the capabilities", error))
    return FALSE;
  for (;;)
    {
      gsize len;
      if (!read_request (input, call, buffer, SESSION_REQUEST_MAX, &len, error))
        return FALSE;
      if (len == 0)
        return TRUE;
      if (!session_request (repo, call, protocol, buffer->str, len, output, error))
        return FALSE;
      g_string_erase (buffer, 0, (gssize) len);
    }
}

static gboolean
serve_v2_session (Repo *repo, GsCall *call, const char *protocol, GsStream *stream, GError **error)
{
  Input input = { .fd = -1 };
  int output;
  input.head = g_bytes_get_data (stream->head, &input.left);
  if (!stream->complete && (input.fd = stream->open_input (stream, error)) < 0)
    return FALSE;
  output = stream->open_output (stream, error);
  gboolean served = output >= 0 && session_loop (repo, call, protocol, &input, output, error);
  if (output >= 0)
    close (output);
  if (input.fd >= 0)
    close (input.fd);
  return served;
}

gboolean
storage_upload_pack (gpointer self, GsCall *call, const GsRepo *repo, const char *protocol, gboolean stateless,
                     GsStream *stream, GError **error)
{
  gsize head_len;
  const char *head = g_bytes_get_data (stream->head, &head_len);
  gboolean v2 = pkt_protocol_version (protocol) == 2, served;
  Repo *open = repo_open (self, repo, FALSE, error);
  if (open == NULL)
    return FALSE;
  if (v2 && !stateless)
    served = serve_v2_session (open, call, protocol, stream, error);
  else if (v2 && is_ls_refs (head, head_len))
    served = serve_ls_refs_once (open, call, stream, error);
  else
    served = serve_by_git (open, call, protocol, stateless, stream, error);
  repo_close (open, FALSE);
  return served;
}
