/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A push: git receive-pack speaks with the client and checks the objects; refs are ours. Its objects go to a
 * quarantine of ours (git would publish them before it asks), and the proc-receive hook hands all commands over
 * on a socket, in one batch. Between stage and commit the child waits for the hook's answer.
 *
 * We stand between the client and receive-pack's input, to see the checksum of the pack as it was sent and to count
 * the commands: those that git dropped on the way must not slip through as a smaller push.
 */
#include "bound.h"
#include "child.h"
#include "disk.h"
#include "git.h"
#include "pktline.h"
#include "hooks.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PUMP_BYTES (128 * 1024)
#define PACK_TRAILER 20
#define PACK_MIN 32 /* header and trailer */

typedef enum
{
  TAP_COMMANDS,
  TAP_OPTIONS,
  TAP_PACK,
  TAP_BROKEN /* not the protocol: git will say so */
} TapState;

/* What we learn from the bytes as they pass. */
typedef struct
{
  TapState state;
  GString *partial; /* a packet that has not wholly arrived */
  guint commands;
  gboolean first_seen;
  GPtrArray *options; /* char*: push options; NULL: the client does not have such */
  guint64 options_bytes;
  gboolean endless_options;
  gboolean certificate;
  guint64 pack_bytes;
  guint8 trailer[PACK_TRAILER];
} Tap;

struct PushSession
{
  Child child;
  int hook;            /* our end of the hook's socket; non-blocking */
  int input;           /* from the client; -1 when it is over */
  int to_child;        /* non-blocking pipe; -1 when closed */
  const char *pending; /* read, not yet written to the child */
  gsize n_pending;
  char *buffer;
  GBytes *head;
  Tap tap;

  int said;       /* the hook's standard error, which git passes on to the client; -1 until it sent it */
  GString *heard; /* from the hook, not yet parsed */
  gboolean greeted;
  gboolean complete; /* all commands are here */
  gboolean atomic;
  GPtrArray *names; /* char*, in the order of the commands */
  guint64 names_bytes;
  GArray *updates; /* GsRefUpdate; names borrowed from @names */
};

/* -------------------------------------------------------------------------------------------- tap */

static void
tap_command (Tap *tap, const char *line, gsize len)
{
  const char *nul = memchr (line, '\0', len);
  gsize text_len = nul != NULL ? (gsize) (nul - line) : len;
  if (g_str_has_prefix (line, "push-cert") && text_len >= strlen ("push-cert"))
    tap->certificate = TRUE;
  if (!tap->first_seen && nul != NULL && !(text_len > 8 && memcmp (line, "shallow ", 8) == 0))
    {
      const char *caps = nul + 1;
      if (pkt_has_word (caps, pkt_chomp (caps, len - text_len - 1), "push-options"))
        tap->options = g_ptr_array_new_with_free_func (g_free);
      tap->first_seen = TRUE;
    }
  /* "<40 hex> <40 hex> <name>" */
  if (text_len > 82 && line[40] == ' ' && line[81] == ' ')
    tap->commands++;
}

static void
tap_option (Tap *tap, const char *option, gsize len)
{
  tap->options_bytes += len;
  tap->endless_options = tap->options->len >= GIT_PUSH_OPTIONS_MAX || tap->options_bytes > GIT_PUSH_OPTIONS_BYTES;
  if (!tap->endless_options)
    g_ptr_array_add (tap->options, g_strndup (option, pkt_chomp (option, len)));
}

static void
tap_pack (Tap *tap, const char *data, gsize len)
{
  tap->pack_bytes += len;
  if (len >= PACK_TRAILER)
    {
      memcpy (tap->trailer, data + len - PACK_TRAILER, PACK_TRAILER);
      return;
    }
  memmove (tap->trailer, tap->trailer + len, PACK_TRAILER - len);
  memcpy (tap->trailer + PACK_TRAILER - len, data, len);
}

static void
tap_feed (Tap *tap, const char *data, gsize len)
{
  gsize at = 0;
  if (tap->state == TAP_BROKEN)
    return;
  if (tap->state == TAP_PACK)
    {
      tap_pack (tap, data, len);
      return;
    }
  g_string_append_len (tap->partial, data, (gssize) len);
  while (tap->state == TAP_COMMANDS || tap->state == TAP_OPTIONS)
    {
      const char *payload;
      gsize used, payload_len;
      PktType type = pkt_parse (tap->partial->str + at, tap->partial->len - at, &used, &payload, &payload_len);
      if (type == PKT_MORE || type == PKT_BAD)
        {
          tap->state = type == PKT_BAD ? TAP_BROKEN : tap->state;
          break;
        }
      if (type == PKT_DATA && tap->state == TAP_COMMANDS)
        tap_command (tap, payload, payload_len);
      else if (type == PKT_DATA)
        tap_option (tap, payload, payload_len);
      else if (type == PKT_FLUSH)
        tap->state = tap->state == TAP_COMMANDS && tap->options != NULL ? TAP_OPTIONS : TAP_PACK;
      else
        tap->state = TAP_BROKEN;
      at += used;
    }
  if (tap->state == TAP_PACK)
    tap_pack (tap, tap->partial->str + at, tap->partial->len - at);
  g_string_erase (tap->partial, 0, tap->state == TAP_PACK ? -1 : (gssize) at);
}

/* --------------------------------------------------------------------------------------- the pump */

static void
stop_input (PushSession *push)
{
  if (push->input >= 0)
    close (push->input);
  if (push->to_child >= 0)
    close (push->to_child);
  push->input = push->to_child = -1;
  push->n_pending = 0;
}

static void
read_input (PushSession *push)
{
  ssize_t got = read (push->input, push->buffer, PUMP_BYTES);
  if (got < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  if (got <= 0)
    {
      stop_input (push);
      return;
    }
  tap_feed (&push->tap, push->buffer, (gsize) got);
  push->pending = push->buffer;
  push->n_pending = (gsize) got;
}

static void
write_child (PushSession *push)
{
  ssize_t wrote = write (push->to_child, push->pending, push->n_pending);
  if (wrote < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  if (wrote < 0)
    {
      stop_input (push);
      return;
    }
  push->pending += wrote;
  push->n_pending -= (gsize) wrote;
  if (push->n_pending == 0 && push->input < 0)
    stop_input (push);
}

/* ------------------------------------------------------------------------------------ hook's words */

static gboolean
send_hook (PushSession *push, GsCall *call, const GString *text, GError **error)
{
  gsize at = 0;
  while (at < text->len)
    {
      ssize_t wrote = send (push->hook, text->str + at, text->len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (wrote > 0)
        at += (gsize) wrote;
      else if (wrote < 0 && errno == EAGAIN)
        {
          struct pollfd fds[2] = { { .fd = push->hook, .events = POLLOUT } };
          if (!call_poll (call, fds, 1, "answer git receive-pack", error))
            return FALSE;
        }
      else if (wrote < 0 && errno != EINTR)
        return fsu_fail (error, errno, "answer %s", "git receive-pack");
    }
  return TRUE;
}

static gboolean
add_command (PushSession *push, const char *line, gsize len, GError **error)
{
  GsRefUpdate update = { .name = NULL };
  const char *first = memchr (line, ' ', len);
  gsize old_len = first != NULL ? (gsize) (first - line) : 0;
  const char *second = first != NULL ? memchr (first + 1, ' ', len - old_len - 1) : NULL;
  gsize new_len = second != NULL ? (gsize) (second - first - 1) : 0;
  if (second == NULL || !gs_oid_parse (line, old_len, &update.old_oid)
      || !gs_oid_parse (first + 1, new_len, &update.new_oid))
    return gs_fail (error, GS_ERROR_INTERNAL, "git receive-pack handed over a command that cannot be read");
  push->names_bytes += len;
  if (push->names->len >= GIT_PUSH_COMMANDS_MAX || push->names_bytes > GIT_PUSH_COMMANDS_BYTES)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "a push may have at most %u commands with %u bytes together",
                    GIT_PUSH_COMMANDS_MAX, GIT_PUSH_COMMANDS_BYTES);
  char *name = g_strndup (second + 1, len - (gsize) (second + 1 - line));
  g_ptr_array_add (push->names, name);
  update.name = name;
  g_array_append_val (push->updates, update);
  return TRUE;
}

/* First "version=1\0features" and a flush, which we answer; then the commands and a flush. */
static gboolean
hear_hook (PushSession *push, GsCall *call, GError **error)
{
  gsize at = 0;
  while (!push->complete)
    {
      const char *payload;
      gsize used, len;
      PktType type = pkt_parse (push->heard->str + at, push->heard->len - at, &used, &payload, &len);
      if (type == PKT_MORE)
        break;
      if (type != PKT_DATA && type != PKT_FLUSH)
        return gs_fail (error, GS_ERROR_INTERNAL, "the proc-receive hook spoke something else than packet lines");
      at += used;
      if (type == PKT_FLUSH && push->greeted)
        push->complete = TRUE;
      else if (type == PKT_FLUSH)
        {
          g_autoptr (GString) answer = g_string_new (NULL);
          pkt_printf (answer, "version=1\n");
          pkt_flush (answer);
          push->greeted = TRUE;
          if (!send_hook (push, call, answer, error))
            return FALSE;
        }
      else if (!push->greeted)
        {
          const char *nul = memchr (payload, '\0', len);
          if (nul != NULL)
            push->atomic |= pkt_has_word (nul + 1, pkt_chomp (nul + 1, len - (gsize) (nul + 1 - payload)), "atomic");
        }
      else if (!add_command (push, payload, pkt_chomp (payload, len), error))
        return FALSE;
    }
  g_string_erase (push->heard, 0, (gssize) at);
  return TRUE;
}

int
push_said_fd (const Txn *txn)
{
  return txn->push != NULL ? txn->push->said : -1;
}

const GPtrArray *
push_options (const Txn *txn)
{
  return txn->push != NULL ? txn->push->tap.options : NULL;
}

/* Keeps the first descriptor that comes along; any other is none of ours. */
static void
take_descriptor (PushSession *push, struct msghdr *message)
{
  for (struct cmsghdr *head = CMSG_FIRSTHDR (message); head != NULL; head = CMSG_NXTHDR (message, head))
    {
      int fd;
      if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS || head->cmsg_len != CMSG_LEN (sizeof fd))
        continue;
      memcpy (&fd, CMSG_DATA (head), sizeof fd);
      if (push->said < 0)
        push->said = fd;
      else
        close (fd);
    }
}

static gboolean
read_hook (PushSession *push, GsCall *call, GError **error)
{
  char buffer[16384];
  union
  {
    struct cmsghdr align;
    char bytes[CMSG_SPACE (sizeof (int))];
  } control;
  struct iovec room = { buffer, sizeof buffer };
  struct msghdr message
      = { .msg_iov = &room, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
  ssize_t got = recvmsg (push->hook, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && (errno == EINTR || errno == EAGAIN))
    return TRUE;
  if (got <= 0)
    {
      close (push->hook); /* the child is ending; its descriptor will tell */
      push->hook = -1;
      return TRUE;
    }
  take_descriptor (push, &message);
  /* A byte that no packet begins with brings the descriptor. */
  g_string_append_len (push->heard, buffer + (buffer[0] == '\1'), got - (buffer[0] == '\1'));
  return hear_hook (push, call, error);
}

/* Until all commands are here, or the child has ended without asking (*@ret_ended). */
static gboolean
carry (PushSession *push, GsCall *call, gboolean *ret_ended, GError **error)
{
  *ret_ended = FALSE;
  while (!push->complete)
    {
      struct pollfd fds[6]
          = { { .fd = push->child.pidfd, .events = POLLIN }, { .fd = push->child.err_fd, .events = POLLIN } };
      gboolean empty = push->n_pending == 0;
      fds[2] = (struct pollfd){ .fd = push->hook, .events = POLLIN };
      fds[3] = (struct pollfd){ .fd = push->to_child >= 0 && empty ? push->input : -1, .events = POLLIN };
      fds[4] = (struct pollfd){ .fd = push->to_child, .events = empty ? 0 : POLLOUT };
      if (!call_poll (call, fds, 5, "receive a push", error))
        return FALSE;
      child_read_stderr (&push->child);
      if (fds[2].revents != 0 && !read_hook (push, call, error))
        return FALSE;
      if (fds[0].revents != 0 && !push->complete)
        {
          *ret_ended = TRUE;
          return TRUE;
        }
      if (fds[4].revents & (POLLERR | POLLHUP))
        stop_input (push);
      else if (!empty && fds[4].revents != 0)
        write_child (push);
      else if (empty && fds[3].revents != 0)
        {
          read_input (push);
          /* A connection that broke looks like an end; its transport has cancelled the call before. */
          if (push->input < 0 && !gs_call_check (call, "receive a push", error))
            return FALSE;
        }
    }
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- policy */

static void
refuse (GsRefVerdict *verdict, GsErrorCode code, const char *reason)
{
  g_free (verdict->reason);
  verdict->code = code;
  verdict->reason = g_strdup (reason);
}

static void
refuse_all (Txn *txn, GsErrorCode code, const char *reason)
{
  for (guint i = 0; i < txn->n_verdicts; i++)
    refuse (&txn->verdicts[i], code, reason);
}

/* In the hook's answer a name ends at the first space: a word on such a ref would be heard as one on another ref. */
static gboolean
can_be_named (const char *name)
{
  for (const char *at = name; *at != '\0'; at++)
    if ((guchar) *at <= ' ' || *at == 0x7f)
      return FALSE;
  return TRUE;
}

/* What git reports of one of them, it cannot report rightly of the others: none of them may have happened. */
static void
refuse_if_unspeakable (Txn *txn)
{
  const PushSession *push = txn->push;
  for (guint i = 0; i < push->names->len; i++)
    if (!can_be_named (push->names->pdata[i]))
      {
        refuse_all (txn, GS_ERROR_INVALID_ARGUMENT, "a ref name of this push has a space or a control byte");
        return;
      }
}

/*
 * git drops commands that it finds wrong itself and hands over the others, in an atomic push too. (What came in the
 * pack is whole in any case: index-pack --strict looks for everything that the new objects name.)
 */
static void
refuse_if_dropped (Txn *txn)
{
  PushSession *push = txn->push;
  const char *reason = push->tap.certificate ? "push certificates are not supported" : "atomic push failure";
  if (!push->tap.certificate && (!push->atomic || push->tap.commands == push->updates->len))
    return;
  refuse_all (txn, GS_ERROR_FAILED_PRECONDITION, reason);
}

/* The hooks get all options or none. */
static void
refuse_if_endless_options (Txn *txn)
{
  g_autofree char *reason = NULL;
  if (!txn->push->tap.endless_options)
    return;
  reason = g_strdup_printf ("a push may have at most %u push options with %u bytes together", GIT_PUSH_OPTIONS_MAX,
                            GIT_PUSH_OPTIONS_BYTES);
  refuse_all (txn, GS_ERROR_OUT_OF_RANGE, reason);
}

/* A pack can grow on arrival: what its deltas build on is appended, and the index is as long as there are objects. */
static gboolean
refuse_if_too_much (Txn *txn, GError **error)
{
  g_autofree char *objects = quarantine_objects_dir (txn->repo, txn->quarantine);
  g_autoptr (GError) why = NULL;
  if (bound_check (txn->repo->storage, objects, &why))
    return TRUE;
  if (gs_error_code (why) != GS_ERROR_OUT_OF_RANGE)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  for (guint i = 0; i < txn->push->updates->len; i++)
    refuse (&txn->verdicts[i], GS_ERROR_OUT_OF_RANGE, why->message);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ begin */

static gboolean
greet_client (Txn *txn, GsCall *call, const GsPush *request, int output, GError **error)
{
  gsize len;
  GBytes *refs;
  if (request->stateless)
    return TRUE;
  refs = advertise_refs (txn->repo, GS_SERVICE_RECEIVE_PACK, pkt_protocol_version (request->protocol), error);
  if (refs == NULL)
    return FALSE;
  const char *data = g_bytes_get_data (refs, &len);
  gboolean sent = call_write (call, output, data, len, "send the ref advertisement", error);
  g_bytes_unref (refs);
  return sent;
}

static guint64
smaller_limit (guint64 one, guint64 other)
{
  return one == 0 || other == 0 ? MAX (one, other) : MIN (one, other);
}

/* The smallest of the storage's, the caller's and the repository's own; 0 = none. */
static gboolean
input_limit (Repo *repo, const GsPush *request, guint64 *ret_limit, GError **error)
{
  RefSnapshot *refs = ref_store_snapshot (repo->refs, error);
  g_autoptr (Settings) settings = refs != NULL ? settings_load (repo, refs, NULL, error) : NULL;
  if (refs != NULL)
    ref_snapshot_unref (refs);
  if (settings != NULL)
    *ret_limit = smaller_limit (smaller_limit (repo->storage->max_push_bytes, request->max_input_bytes),
                                settings_size (settings, SETTING_MAX_INPUT));
  return settings != NULL;
}

static gboolean
start_receive_pack (Txn *txn, const GsPush *request, int output, GError **error)
{
  Repo *repo = txn->repo;
  PushSession *push = txn->push;
  const char *const argv[] = { "receive-pack", "--stateless-rpc", repo->dir, NULL };
  g_autofree char *quarantine = quarantine_objects_dir (repo, txn->quarantine);
  int input[2] = { -1, -1 }, hook[2] = { -1, -1 };
  gboolean started = FALSE;
  guint64 limit;
  if (!input_limit (repo, request, &limit, error))
    return FALSE;
  if (pipe2 (input, O_CLOEXEC) != 0 || socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, hook) != 0)
    fsu_fail (error, errno, "make pipes for %s", "git receive-pack");
  else
    {
      const ChildSpec spec = { .role = CHILD_RECEIVE,
                               .git_dir = NULL,
                               .argv = argv,
                               .quarantine = quarantine,
                               .alternate = repo->objects,
                               .protocol = request->protocol,
                               .max_input = limit,
                               .max_file = repo->storage->max_push_bytes,
                               .input = input[0],
                               .output = output,
                               .extra = hook[1] };
      started = child_start (repo->storage, &spec, &push->child, error);
    }
  if (input[0] >= 0)
    close (input[0]);
  if (hook[1] >= 0)
    close (hook[1]);
  push->to_child = input[1];
  push->hook = hook[0];
  if (started)
    fcntl (push->to_child, F_SETFL, O_NONBLOCK);
  return started;
}

static PushSession *
push_new (void)
{
  PushSession *push = g_new0 (PushSession, 1);
  push->child.err_fd = -1;
  push->hook = push->input = push->to_child = push->said = -1;
  push->tap.partial = g_string_new (NULL);
  push->heard = g_string_new (NULL);
  push->names = g_ptr_array_new_with_free_func (g_free);
  push->updates = g_array_new (FALSE, FALSE, sizeof (GsRefUpdate));
  push->buffer = g_malloc (PUMP_BYTES);
  return push;
}

static void
push_free (Txn *txn)
{
  PushSession *push = g_steal_pointer (&txn->push);
  if (push == NULL)
    return;
  stop_input (push);
  if (push->hook >= 0)
    close (push->hook);
  if (push->said >= 0)
    close (push->said);
  child_clear (&push->child);
  g_string_free (push->tap.partial, TRUE);
  g_clear_pointer (&push->tap.options, g_ptr_array_unref);
  g_string_free (push->heard, TRUE);
  g_ptr_array_unref (push->names);
  g_array_unref (push->updates);
  g_free (push->buffer);
  g_clear_pointer (&push->head, g_bytes_unref);
  g_free (push);
}

void
push_kill (Txn *txn)
{
  push_free (txn);
}

/* -------------------------------------------------------------------------------------------- end */

static void
log_child (Txn *txn, int status)
{
  Storage *storage = txn->repo->storage;
  g_autofree char *said = g_utf8_make_valid (txn->push->child.err->str, (gssize) txn->push->child.err->len);
  const GsField fields[]
      = { GS_TEXT ("replica", txn->repo->path), GS_NUMBER ("status", status), GS_TEXT ("said", said) };
  if (*said != '\0' || status != 0)
    storage->host->log (storage->host, GS_LOG_INFO, "storage.push.git-said", fields, G_N_ELEMENTS (fields));
}

void
push_finish (Txn *txn, GsCall *call, const GError *why)
{
  PushSession *push = txn->push;
  g_autoptr (GString) answer = g_string_new (NULL);
  g_autofree char *reason = NULL;
  int status;
  if (push == NULL)
    return;
  stop_input (push);
  if (push->said >= 0)
    close (push->said);
  push->said = -1; /* git waits for its end */
  if (why != NULL)
    reason = g_strdelimit (g_strdup (why->message), "\r\n\t", ' ');
  for (guint i = 0; i < push->names->len && push->hook >= 0; i++)
    {
      const GsRefVerdict *verdict = &txn->verdicts[i];
      if (!can_be_named (push->names->pdata[i]))
        continue; /* git says by itself that it heard nothing of it */
      if (verdict->code != GS_OK)
        pkt_printf (answer, "ng %s %s", (char *) push->names->pdata[i],
                    verdict->reason != NULL ? verdict->reason : gs_error_name (verdict->code));
      else if (why != NULL)
        pkt_printf (answer, "ng %s %s", (char *) push->names->pdata[i], reason);
      else
        pkt_printf (answer, "ok %s", (char *) push->names->pdata[i]);
    }
  pkt_flush (answer);
  if (push->hook >= 0 && send_hook (push, call, answer, NULL))
    {
      close (push->hook);
      push->hook = -1;
      if (child_wait (&push->child, call, NULL, &status, NULL))
        log_child (txn, status);
    }
  push_free (txn);
}

/* The child ended without asking: the client was told why in git's words, or is gone. */
static gboolean
ended_early (Txn *txn, GsCall *call, GError **error)
{
  int status = child_reap (&txn->push->child);
  g_autoptr (GError) failed = NULL;
  gboolean told = child_check (&txn->push->child, status, &failed);
  log_child (txn, status);
  if (!gs_call_check (call, "receive a push", error))
    return FALSE;
  /* A client that finds nothing to do after the advertisement just goes. */
  if (txn->push->tap.state == TAP_COMMANDS && !txn->push->tap.first_seen && txn->push->tap.partial->len == 0)
    told = TRUE;
  if (!told)
    return gs_fail (error, WIFSIGNALED (status) ? (GsErrorCode) failed->code : GS_ERROR_INVALID_ARGUMENT,
                    "push to repository %" G_GUINT64_FORMAT ": %s", txn->repo->id, failed->message);
  push_free (txn);
  quarantine_drop (txn->repo, txn->quarantine);
  g_clear_pointer (&txn->quarantine, g_free);
  txn->vote = (GsVote){ .size = sizeof txn->vote };
  return TRUE;
}

static gboolean
receive (Txn *txn, GsCall *call, const GsPush *request, GsStream *stream, GError **error)
{
  PushSession *push = txn->push;
  gboolean ended = FALSE;
  int output;
  push->input = stream->complete ? -1 : stream->open_input (stream, error);
  if ((!stream->complete && push->input < 0) || (output = stream->open_output (stream, error)) < 0)
    return FALSE;
  push->head = g_bytes_ref (stream->head);
  push->pending = g_bytes_get_data (push->head, &push->n_pending);
  tap_feed (&push->tap, push->pending, push->n_pending);
  gboolean started
      = greet_client (txn, call, request, output, error) && start_receive_pack (txn, request, output, error);
  close (output);
  if (started && push->n_pending == 0 && push->input < 0)
    stop_input (push);
  if (!started || !carry (push, call, &ended, error))
    return FALSE;
  if (ended)
    return ended_early (txn, call, error);
  txn->n_verdicts = push->updates->len;
  txn->verdicts = g_new0 (GsRefVerdict, MAX (txn->n_verdicts, 1));
  refuse_if_dropped (txn);
  refuse_if_unspeakable (txn);
  refuse_if_endless_options (txn);
  return refuse_if_too_much (txn, error)
         && rules_judge (txn, call, (GsRefUpdate *) push->updates->data, push->updates->len, error)
         && txn_prepare (txn, call, (const GsRefUpdate *) push->updates->data, push->updates->len, push->atomic,
                         push->tap.trailer, push->tap.pack_bytes >= PACK_MIN ? PACK_TRAILER : 0, error)
         && hooks_ask (txn, call, request->run_hooks, error);
}

gboolean
storage_stage_push (gpointer self, GsCall *call, const GsRepo *repo, const GsPush *request, GsStream *stream,
                    gpointer *ret_txn, const GsVote **ret_vote, GError **error)
{
  Storage *storage = self;
  GError *failed = NULL;
  Repo *open = repo_open (storage, repo, TRUE, error);
  if (open == NULL)
    return FALSE;
  storage->host->metric_update (storage->metric.pushes, 1);
  Txn *txn = g_new0 (Txn, 1);
  txn->repo = open;
  txn->txid = request->txid;
  txn->push = push_new ();
  if (!quarantine_make (open, &request->txid, &txn->quarantine, &failed)
      || !receive (txn, call, request, stream, &failed))
    {
      ref_txn_abort (g_steal_pointer (&txn->refs));
      /* The verdicts are made once all commands are there. */
      if (txn->push != NULL && txn->verdicts != NULL && !gs_call_cancelled (call))
        {
          quarantine_drop (open, txn->quarantine);
          g_clear_pointer (&txn->quarantine, g_free);
          push_finish (txn, call, failed);
        }
      push_free (txn);
      txn_free (txn);
      g_propagate_error (error, failed);
      return FALSE;
    }
  if (txn->refs == NULL && txn->push != NULL)
    {
      quarantine_drop (open, txn->quarantine);
      g_clear_pointer (&txn->quarantine, g_free);
      push_finish (txn, call, NULL);
    }
  *ret_txn = txn;
  *ret_vote = &txn->vote;
  return TRUE;
}
