/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's service: a push. The client's bytes go to the storage as they come; what the storage answers is framed,
 * because its vote travels among git's bytes. One thread moves the answers, so that a storage (or its git) writes into
 * an ordinary pipe, and goes on reading when the router is gone: what was decided is applied all the same.
 */
#include "node/serve_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FRAME_GIT 0
#define FRAME_VOTE 1
#define CHUNK (64 * 1024)
/* How soon a router's going is seen while its word is awaited. */
#define LOOK_US (200 * 1000)

typedef struct
{
  GsStream stream; /* what the storage gets */
  GsiCall *call;
  int answers[2]; /* its output; the write end is the storage's once it has opened it */
  int out;        /* to the router */
  int wake;       /* eventfd: there is a vote */
  GsThread thread;
  gboolean gone;  /* nothing can be sent any more; the thread's */
  gint failed;    /* atomic: the same, for others */
  GsMutex lock;
  GBytes *vote;    /* to be sent */
  gboolean ending; /* nothing more comes */
} Push;

static int
push_open_input (GsStream *stream, GError **error)
{
  Push *push = (Push *) stream;
  return push->call->stream->open_input (push->call->stream, error);
}

static int
push_open_output (GsStream *stream, GError **error)
{
  Push *push = (Push *) stream;
  int fd = push->answers[1];
  push->answers[1] = -1;
  if (fd < 0)
    gs_fail (error, GS_ERROR_INTERNAL, "a push's output was opened twice");
  return fd;
}

static gboolean
push_send_all (GsStream *stream, GBytes *bytes, GError **error)
{
  Push *push = (Push *) stream;
  int fd = push_open_output (stream, error);
  gsize len;
  const guint8 *data = g_bytes_get_data (bytes, &len);
  gboolean sent = fd >= 0 && gsi_serve_write_all (&push->call->base, fd, data, len, error);
  if (fd >= 0)
    close (fd);
  return sent;
}

static void
send_frame (Push *push, guint8 type, const guint8 *bytes, gsize len)
{
  guint8 header[5] = { type };
  guint32 size = GUINT32_TO_BE ((guint32) len);
  memcpy (header + 1, &size, sizeof size);
  if (push->gone)
    return;
  push->gone = !gsi_serve_write_all (&push->call->base, push->out, header, sizeof header, NULL)
               || !gsi_serve_write_all (&push->call->base, push->out, bytes, len, NULL);
  if (push->gone)
    __atomic_store_n (&push->failed, 1, __ATOMIC_RELEASE);
}

/* FALSE: and there is nothing more to come. */
static gboolean
send_vote (Push *push)
{
  g_autoptr (GBytes) vote = NULL;
  eventfd_t count;
  gsize len;
  const guint8 *data;
  gboolean ending;
  eventfd_read (push->wake, &count);
  gs_mutex_lock (&push->lock);
  vote = g_steal_pointer (&push->vote);
  ending = push->ending;
  gs_mutex_unlock (&push->lock);
  if (vote != NULL)
    {
      data = g_bytes_get_data (vote, &len);
      send_frame (push, FRAME_VOTE, data, len);
    }
  return !ending;
}

static void *
push_run (void *data)
{
  Push *push = data;
  g_autofree guint8 *chunk = g_malloc (CHUNK);
  int answers = push->answers[0];
  gboolean more = TRUE;
  /* A storage may end its answers before it votes, or vote before it has any. */
  while (more || answers >= 0)
    {
      struct pollfd fds[2] = { { .fd = answers, .events = POLLIN }, { .fd = more ? push->wake : -1, .events = POLLIN } };
      ssize_t n;
      if (poll (fds, 2, -1) < 0)
        continue;
      if (fds[1].revents != 0)
        more = send_vote (push);
      if (fds[0].revents == 0)
        continue;
      n = read (answers, chunk, CHUNK);
      if (n < 0 && (errno == EINTR || errno == EAGAIN))
        continue;
      if (n <= 0)
        answers = -1;
      else
        send_frame (push, FRAME_GIT, chunk, (gsize) n);
    }
  return NULL;
}

static gboolean
push_begin (Push *push, GsiCall *call, GError **error)
{
  *push = (Push) { .call = call, .answers = { -1, -1 }, .out = -1, .wake = -1 };
  push->stream = (GsStream) { .size = sizeof push->stream,
                              .head = call->stream->head,
                              .complete = call->stream->complete,
                              .open_input = push_open_input,
                              .open_output = push_open_output,
                              .send_all = push_send_all };
  push->out = call->stream->open_output (call->stream, error);
  if (push->out < 0)
    return FALSE;
  gs_mutex_init (&push->lock);
  push->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (push->wake < 0 || pipe2 (push->answers, O_CLOEXEC) != 0
      || gs_thread_start (&push->thread, "push", push_run, push) != 0)
    {
      gs_fail (error, GS_ERROR_BUSY, "a push cannot be carried now: %s", g_strerror (errno));
      for (int i = 0; i < 2; i++)
        if (push->answers[i] >= 0)
          close (push->answers[i]);
      if (push->wake >= 0)
        close (push->wake);
      close (push->out);
      gs_mutex_clear (&push->lock);
      return FALSE;
    }
  return TRUE;
}

/* The storage has closed its output, or never opened it. */
static void
push_end (Push *push)
{
  if (push->answers[1] >= 0)
    close (push->answers[1]);
  gs_mutex_lock (&push->lock);
  push->ending = TRUE;
  gs_mutex_unlock (&push->lock);
  eventfd_write (push->wake, 1);
  gs_thread_join (push->thread);
  close (push->answers[0]);
  close (push->wake);
  close (push->out);
  g_clear_pointer (&push->vote, g_bytes_unref);
  gs_mutex_clear (&push->lock);
}

static void
tell_vote (Push *push, const GsVote *vote)
{
  VoteMessage message;
  gsi_serve_vote_message (vote, &message);
  gs_mutex_lock (&push->lock);
  push->vote = gs_wire_encode (&message.message.base);
  gs_mutex_unlock (&push->lock);
  gsi_serve_vote_clear (&message);
  eventfd_write (push->wake, 1);
}

/* Before the vote is told: its router's word may come at once. */
static void
expect_order (GsiServe *serve, Staged *staged)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&serve->lock);
  /* Otherwise it was aborted while it was staged. */
  staged->state = staged->state == STAGED_STAGING ? STAGED_WAITING : STAGED_ORDERED;
}

/*
 * Until the write's fate is known: from its router, or, when that is gone, from the sweep over silent ones. FALSE: the
 * server stops and the metadata store does not say: the journal keeps it for the next start.
 */
static gboolean
await_order (GsiServe *serve, Staged *staged, Push *push)
{
  gboolean ordered = FALSE, stopping = FALSE;
  gs_mutex_lock (&serve->lock);
  while (staged->state != STAGED_ORDERED && !stopping)
    {
      gs_cond_wait_until (&serve->changed, &serve->lock, g_get_monotonic_time () + LOOK_US);
      if (staged->state == STAGED_WAITING
          && (gs_call_cancelled (&push->call->base) || __atomic_load_n (&push->failed, __ATOMIC_ACQUIRE)))
        {
          static const GsTxId nobody;
          if (!staged->broken)
            {
              staged->silent_us = g_get_monotonic_time ();
              staged->router = staged->session;
            }
          staged->broken = TRUE;
          staged->session = nobody; /* its router is gone: the sweep looks after it */
          stopping = serve->stopping;
        }
    }
  ordered = staged->state == STAGED_ORDERED;
  if (!ordered)
    staged->state = STAGED_WORKING;
  gs_mutex_unlock (&serve->lock);
  return ordered || gsi_serve_staged_ask (serve, staged, TRUE);
}

static gboolean
settle_push (GsiServe *serve, Staged *staged, Push *push, GError **error)
{
  const GsiStorage *storage = staged->storage;
  guint64 repository_id = staged->repository_id;
  g_autofree char *replica_path = g_strdup (staged->replica_path);
  gboolean done, commit, silent;
  if (!await_order (serve, staged, push))
    {
      staged->txn = NULL;
      gsi_serve_staged_drop (serve, staged);
      return gs_fail (error, GS_ERROR_UNKNOWN, "the metadata store does not say what became of the push");
    }
  commit = staged->commit;
  silent = gs_call_cancelled (&push->call->base);
  done = gsi_serve_staged_carry_out (serve, staged, &push->call->base, error);
  if (done && commit && silent) /* its router took it for lost */
    gsi_serve_record (serve, storage, repository_id, replica_path);
  return done;
}

static gboolean
carry_push (GsiServe *serve, GsiCall *call, const Inside *in, Staged *staged, Push *push, GError **error)
{
  const Gitstead__V1__NodeStagePushRequest *request = (const void *) call->request;
  const GsStorageOps *ops = in->storage->ops;
  GsPush wanted = { sizeof wanted, staged->txid, request->protocol, request->stateless, request->max_input_bytes,
                    request->run_hooks };
  const GsVote *vote = NULL;
  if (!ops->stage_push (in->storage->self, &call->base, &in->repo, &wanted, &push->stream, &staged->txn, &vote, error))
    {
      gsi_serve_staged_drop (serve, staged);
      return FALSE;
    }
  if (vote->n_updates > 0)
    {
      expect_order (serve, staged);
      tell_vote (push, vote);
      return settle_push (serve, staged, push, error);
    }
  tell_vote (push, vote);
  ops->abort (in->storage->self, &call->base, g_steal_pointer (&staged->txn), NULL);
  gsi_serve_staged_drop (serve, staged);
  return TRUE;
}

gboolean
gsi_serve_stage_push (gpointer user, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeStagePushRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  GsTxId txid, session;
  Staged *staged;
  gboolean done;
  Push push;
  if (!gsi_serve_txid (&request->txid, "txid", &txid, error)
      || !gsi_serve_txid (&request->session, "session", &session, error)
      || !gsi_serve_enter (user, call, request->target, &in, error)
      || !gsi_serve_has (&in, in.storage->ops->stage_push != NULL, "take pushes", error)
      || !push_begin (&push, call, error))
    return FALSE;
  staged = gsi_serve_staged_new (user, &in, &txid, &session, TRUE, error);
  done = staged != NULL && carry_push (user, call, &in, staged, &push, error);
  push_end (&push);
  return done;
}
