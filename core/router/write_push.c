/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A push with several participants: the client's bytes go to each as they come, at the pace of the slowest, and one that
 * takes nothing for too long while the others wait is dropped. Of git's answers the client hears one participant's
 * progress as it comes, and, once the write's end is known, the report of one that has it from first hand: nobody tells
 * the client "ok" before the write is acknowledged.
 *
 * One thread moves all bytes; nothing it holds blocks.
 */
#include "router/write.h"

#include "base/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CHUNK (64 * 1024)
#define QUEUE_MAX (4 * 1024 * 1024)   /* bytes that one participant may be behind */
#define LAGGARD_US (3 * G_USEC_PER_SEC)
#define REPORT_MAX (64 * 1024 * 1024) /* what one participant may have to say at the end */
#define CHATTER_MAX (256 * 1024)      /* progress that waits for a slow client; what is more is left out */
#define LOOK_MS 200
#define NOBODY G_MAXSIZE

typedef enum
{
  SAYS_REFS,    /* the advertisement of a session, to its flush */
  SAYS_PACKETS, /* progress */
  SAYS_REPORT   /* all the rest */
} Says;

typedef struct
{
  GsStream stream; /* what the participant gets; first */
  Tee *tee;
  gsize index;  /* of the participant */
  gboolean left; /* nobody will say or hear anything more; under the lock */
  int in[2];    /* it reads [0] */
  int out[2];   /* it writes [1] */
  GQueue queue; /* of GBytes: not yet taken */
  gsize queued, taken; /* bytes; of the first one */
  gint64 moved_us;
  Says says;
  GByteArray *partial; /* of a packet */
  GByteArray *report;
  gboolean endless; /* it said more than anybody would listen to */
} Lane;

struct Tee
{
  Write *write;
  GsStream *client;
  gboolean session; /* the advertisement is part of the conversation */
  gsize min_copies; /* of the policy that the write began with */
  Lane *lanes;
  gsize n_lanes;
  int wake;
  gsize speaker; /* whose progress the client hears */
  /* the client's ends */
  int input, output;
  gboolean input_ended, gone; /* gone: it cannot be told anything more */
  GQueue relay;               /* of GBytes */
  gsize relayed, relay_bytes; /* of the first one; of all */
  gboolean refs_told;         /* the advertisement is out */
  gboolean refused;           /* by the report for it, which is whole */
  /* under the lock */
  GsMutex lock;
  GsCond changed;
  gboolean released, any, answered, ended;
  gboolean cut; /* the client is not to hear how it ended */
  gboolean told; /* it heard to the end that it is refused */
  gsize preferred;
};

/* ---------------------------------------------------------------------------------- what lanes give */

static void
close_end (int *fd)
{
  if (*fd >= 0)
    close (*fd);
  *fd = -1;
}

static int
take_end (Lane *lane, int *end, const char *what, GError **error)
{
  Tee *tee = lane->tee;
  int fd;
  gs_mutex_lock (&tee->lock);
  fd = *end;
  *end = -1;
  gs_mutex_unlock (&tee->lock);
  if (fd < 0)
    gs_fail (error, GS_ERROR_INTERNAL, "a push's %s was opened twice", what);
  return fd;
}

static int
lane_open_input (GsStream *stream, GError **error)
{
  Lane *lane = (Lane *) stream;
  return take_end (lane, &lane->in[0], "input", error);
}

static int
lane_open_output (GsStream *stream, GError **error)
{
  Lane *lane = (Lane *) stream;
  return take_end (lane, &lane->out[1], "output", error);
}

static gboolean
lane_send_all (GsStream *stream, GBytes *bytes, GError **error)
{
  int fd = lane_open_output (stream, error);
  gsize len;
  const guint8 *data = g_bytes_get_data (bytes, &len);
  if (fd < 0)
    return FALSE;
  while (len > 0)
    {
      ssize_t n = write (fd, data, len);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        break;
      data += n;
      len -= (gsize) n;
    }
  close (fd);
  return len == 0 || gs_fail (error, GS_ERROR_CANCELLED, "answering a push: the client is gone");
}

GsStream *
tee_stream (Tee *tee, gsize index)
{
  for (gsize i = 0; i < tee->n_lanes; i++)
    if (tee->lanes[i].index == index)
      return &tee->lanes[i].stream;
  return NULL;
}

void
tee_part_over (Tee *tee, gsize index)
{
  Lane *lane = (Lane *) tee_stream (tee, index);
  if (lane == NULL)
    return;
  gs_mutex_lock (&tee->lock);
  close_end (&lane->in[0]);
  close_end (&lane->out[1]);
  gs_mutex_unlock (&tee->lock);
  eventfd_write (tee->wake, 1);
}

void
tee_part_left (Tee *tee, gsize index)
{
  Lane *lane = (Lane *) tee_stream (tee, index);
  if (lane == NULL)
    return;
  gs_mutex_lock (&tee->lock);
  lane->left = TRUE;
  gs_mutex_unlock (&tee->lock);
  eventfd_write (tee->wake, 1);
}

/* --------------------------------------------------------------------------------------- to the client */

static void
relay_bytes (Tee *tee, const guint8 *bytes, gsize len)
{
  if (len == 0 || tee->gone)
    return;
  g_queue_push_tail (&tee->relay, g_bytes_new (bytes, len));
  tee->relay_bytes += len;
}

static void
drop_client (Tee *tee)
{
  tee->gone = TRUE;
  g_queue_clear_full (&tee->relay, (GDestroyNotify) g_bytes_unref);
  tee->relay_bytes = tee->relayed = 0;
  if (tee->output >= 0)
    close (tee->output);
  tee->output = -1;
}

/* Writes what the client takes now. */
static void
relay_some (Tee *tee)
{
  while (!g_queue_is_empty (&tee->relay) && !tee->gone)
    {
      GBytes *first = g_queue_peek_head (&tee->relay);
      gsize len;
      const guint8 *data = g_bytes_get_data (first, &len);
      ssize_t n;
      if (tee->output < 0)
        {
          tee->output = tee->client->open_output (tee->client, NULL);
          if (tee->output < 0)
            {
              drop_client (tee);
              return;
            }
          fcntl (tee->output, F_SETFL, O_NONBLOCK);
        }
      n = write (tee->output, data + tee->relayed, len - tee->relayed);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0 && errno == EAGAIN)
        return;
      if (n <= 0)
        {
          drop_client (tee);
          return;
        }
      tee->relayed += (gsize) n;
      tee->relay_bytes -= (gsize) n;
      if (tee->relayed < len)
        continue;
      g_bytes_unref (g_queue_pop_head (&tee->relay));
      tee->relayed = 0;
    }
}

/* --------------------------------------------------------------------------------- what lanes say */

/* The length of the packet at @bytes with its header; 0 = more is needed, or -1 = it is none. */
static gssize
packet_length (const guint8 *bytes, gsize len)
{
  gssize n = 0;
  if (len < 4)
    return 0;
  for (int i = 0; i < 4; i++)
    {
      int digit = g_ascii_xdigit_value ((char) bytes[i]);
      if (digit < 0)
        return -1;
      n = n << 4 | digit;
    }
  if (n < 4)
    return 4;
  return len >= (gsize) n ? n : 0;
}

static gboolean
is_chatter (const guint8 *packet, gssize len)
{
  return (len > 5 && packet[4] == 2) || (len == 5 && packet[4] == 1); /* progress, or a sign of life */
}

static gboolean
is_speaker (const Lane *lane)
{
  return lane->tee->speaker == (gsize) (lane - lane->tee->lanes);
}

/* Half a report would be taken for a whole one: one that is too long is none. */
static void
lane_keep (Lane *lane, const guint8 *bytes, guint len)
{
  lane->endless = lane->endless || lane->report->len + (gsize) len > REPORT_MAX;
  if (!lane->endless)
    g_byte_array_append (lane->report, bytes, len);
  else if (lane->report->len > 0)
    {
      g_byte_array_unref (lane->report);
      lane->report = g_byte_array_new ();
    }
}

/* Takes whole packets off what a lane said, and tells the speaker's. */
static void
lane_parse (Lane *lane)
{
  Tee *tee = lane->tee;
  gsize at = 0;
  while (lane->says != SAYS_REPORT && at < lane->partial->len)
    {
      const guint8 *packet = lane->partial->data + at;
      gssize len = packet_length (packet, lane->partial->len - at);
      if (len == 0)
        break;
      if (len < 0 || (lane->says == SAYS_PACKETS && !is_chatter (packet, len)))
        {
          lane->says = SAYS_REPORT;
          break;
        }
      if (is_speaker (lane) && (lane->says == SAYS_REFS || tee->relay_bytes < CHATTER_MAX))
        relay_bytes (tee, packet, (gsize) len);
      if (lane->says == SAYS_REFS && len == 4 && memcmp (packet, "0000", 4) == 0)
        {
          lane->says = SAYS_PACKETS;
          tee->refs_told = tee->refs_told || is_speaker (lane);
        }
      at += (gsize) len;
    }
  if (lane->says == SAYS_REPORT)
    {
      lane_keep (lane, lane->partial->data + at, lane->partial->len - (guint) at);
      at = lane->partial->len;
    }
  g_byte_array_remove_range (lane->partial, 0, (guint) at);
}

/* Its answers are no more to be had: another takes over, unless the client has half of what it said first. */
static void
lane_silent (Lane *lane)
{
  Tee *tee = lane->tee;
  close_end (&lane->out[0]);
  if (lane->partial->len > 0 && lane->says != SAYS_REFS)
    {
      lane_keep (lane, lane->partial->data, lane->partial->len);
      g_byte_array_set_size (lane->partial, 0);
    }
  if (!is_speaker (lane) || (tee->session && !tee->refs_told))
    return;
  for (gsize i = 0; i < tee->n_lanes; i++)
    if (tee->lanes[i].out[0] >= 0)
      {
        tee->speaker = i;
        return;
      }
}

/* An advertisement is told whole, at the pace of the client. */
static gboolean
may_listen (const Lane *lane)
{
  return !(lane->says == SAYS_REFS && is_speaker (lane) && lane->tee->relay_bytes >= CHATTER_MAX && !lane->tee->gone);
}

static void
lane_listen (Lane *lane, guint8 *chunk)
{
  ssize_t n = read (lane->out[0], chunk, CHUNK);
  if (n < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  if (n <= 0)
    {
      lane_silent (lane);
      return;
    }
  g_byte_array_append (lane->partial, chunk, (guint) n);
  lane_parse (lane);
}

/* ------------------------------------------------------------------------------------- to the lanes */

static void
lane_clear_queue (Lane *lane)
{
  g_queue_clear_full (&lane->queue, (GDestroyNotify) g_bytes_unref);
  lane->queued = lane->taken = 0;
}

static void
lane_give (Lane *lane)
{
  while (!g_queue_is_empty (&lane->queue))
    {
      gsize len;
      const guint8 *data = g_bytes_get_data (g_queue_peek_head (&lane->queue), &len);
      ssize_t n = write (lane->in[1], data + lane->taken, len - lane->taken);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0 && errno == EAGAIN)
        return;
      lane->moved_us = g_get_monotonic_time ();
      if (n <= 0)
        {
          /* It wants no more: it has refused the push, or is lost, which its job tells. */
          lane_clear_queue (lane);
          close_end (&lane->in[1]);
          return;
        }
      lane->taken += (gsize) n;
      lane->queued -= (gsize) n;
      if (lane->taken < len)
        continue;
      g_bytes_unref (g_queue_pop_head (&lane->queue));
      lane->taken = 0;
    }
  if (lane->tee->input_ended)
    close_end (&lane->in[1]);
}

static void
deal_out (Tee *tee, GBytes *bytes)
{
  if (g_bytes_get_size (bytes) == 0)
    return;
  for (gsize i = 0; i < tee->n_lanes; i++)
    {
      Lane *lane = &tee->lanes[i];
      if (lane->in[1] < 0)
        continue;
      if (lane->queued == 0)
        lane->moved_us = g_get_monotonic_time ();
      g_queue_push_tail (&lane->queue, g_bytes_ref (bytes));
      lane->queued += g_bytes_get_size (bytes);
      lane_give (lane);
    }
}

static void
end_input (Tee *tee)
{
  close_end (&tee->input);
  tee->input_ended = TRUE;
  for (gsize i = 0; i < tee->n_lanes; i++)
    if (tee->lanes[i].in[1] >= 0)
      lane_give (&tee->lanes[i]);
  gsi_router_crash_point (tee->write->router, "push.sent");
}

static void
hear_client (Tee *tee, guint8 *chunk)
{
  ssize_t n = read (tee->input, chunk, CHUNK);
  g_autoptr (GBytes) bytes = NULL;
  if (n < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  if (n <= 0)
    {
      /* A transport cancels before it closes: the participants must not take this for the end. */
      if (gs_call_cancelled (&tee->write->call->base))
        write_cancel_parts (tee->write, TRUE);
      end_input (tee);
      return;
    }
  bytes = g_bytes_new (chunk, (gsize) n);
  deal_out (tee, bytes);
  gsi_router_crash_point (tee->write->router, "push.relayed");
}

/* One that has taken nothing for long while there is room at the others holds everybody up. */
static gboolean
may_read (Tee *tee)
{
  gint64 now_us = g_get_monotonic_time ();
  gsize n_live = 0, n_full = 0;
  Lane *stuck = NULL;
  for (gsize i = 0; i < tee->n_lanes; i++)
    {
      Lane *lane = &tee->lanes[i];
      if (lane->in[1] < 0)
        continue;
      n_live++;
      if (lane->queued < QUEUE_MAX)
        continue;
      n_full++;
      if (now_us - lane->moved_us > LAGGARD_US)
        stuck = lane;
    }
  if (stuck != NULL && n_live - n_full >= MAX (tee->min_copies, 1))
    {
      lane_clear_queue (stuck);
      write_cancel_part (tee->write, stuck->index); /* before its input ends */
      close_end (&stuck->in[1]);
      n_full--;
      n_live--;
    }
  return n_live > 0 && n_full == 0;
}

/* ------------------------------------------------------------------------------------------ the end */

/*
 * How much of a report is whole packets; *@ret_ends: with a flush behind, as every report that was told to its end. One of
 * a participant that was cancelled may break off anywhere, and a client waits for ever for the rest of half a packet.
 */
static gsize
whole_packets (const Lane *lane, gboolean *ret_ends)
{
  gsize at = 0;
  gssize len = 0;
  *ret_ends = FALSE;
  while (at < lane->report->len && (len = packet_length (lane->report->data + at, lane->report->len - at)) > 0)
    {
      *ret_ends = len == 4 && memcmp (lane->report->data + at, "0000", 4) == 0;
      at += (gsize) len;
    }
  if (at < lane->report->len)
    *ret_ends = FALSE;
  return len < 0 ? lane->report->len : at; /* what is no packets is told as it is */
}

static gboolean
is_whole (const Lane *lane)
{
  gboolean ends;
  whole_packets (lane, &ends);
  return ends;
}

/*
 * Whose report the client gets: one that is whole, or what there is when all have ended. NOBODY = none yet. Of what is decided
 * only those may tell who voted for it: the others refused it, or were told to drop it.
 */
static gsize
choose_report (Tee *tee)
{
  const gboolean decided = tee->write->end == WRITE_ACKNOWLEDGED; /* since before it was released */
  gsize last = NOBODY;
  gboolean waiting = FALSE;
  for (gsize i = 0; i < tee->n_lanes; i++)
    {
      const Lane *lane = &tee->lanes[i];
      if (decided && !tee->write->parts[lane->index]->voter)
        continue;
      if (lane->out[0] >= 0)
        waiting = waiting || tee->any || lane->index == tee->preferred;
      else if (is_whole (lane) && (tee->any || lane->index == tee->preferred))
        return i;
      else if (last == NOBODY || lane->report->len > tee->lanes[last].report->len)
        last = i;
    }
  return waiting ? NOBODY : last;
}

/* Does a line of it begin so, whatever packets that is in? */
static gboolean
report_has (const Lane *lane, const char *begin)
{
  const gsize n = strlen (begin);
  for (gsize at = 4; at + n <= lane->report->len; at++)
    if (memcmp (lane->report->data + at, begin, n) == 0 && packet_length (lane->report->data + at - 4, 4) >= 0)
      return TRUE;
  return FALSE;
}

/*
 * The client gets the report of @lane. Whoever says "ok" to a ref of a write that was not made is wrong, as a node of an older
 * version may be: that is not passed on.
 */
static void
tell_report (Tee *tee, const Lane *lane)
{
  const gboolean failed = tee->write->end != WRITE_ACKNOWLEDGED && !tee->write->nothing;
  gboolean ends;
  gsize n_bytes = whole_packets (lane, &ends);
  if (failed && report_has (lane, "ok refs/"))
    drop_client (tee);
  else
    relay_bytes (tee, lane->report->data, n_bytes);
  tee->refused = failed && ends && report_has (lane, "ng refs/");
}

/* TRUE when the client has all and its ends are closed. */
static gboolean
answer_client (Tee *tee)
{
  gboolean released, cut, told;
  gs_mutex_lock (&tee->lock);
  released = tee->released;
  cut = tee->cut;
  gs_mutex_unlock (&tee->lock);
  if (tee->answered || !released)
    return tee->answered;
  if (cut)
    drop_client (tee);
  else if (tee->speaker != NOBODY)
    {
      gsize chosen = choose_report (tee);
      if (chosen == NOBODY)
        return FALSE;
      tell_report (tee, &tee->lanes[chosen]);
      tee->speaker = NOBODY;
    }
  relay_some (tee);
  if (gs_call_cancelled (&tee->write->call->base))
    drop_client (tee);
  if (!g_queue_is_empty (&tee->relay))
    return FALSE;
  told = tee->refused && !tee->gone;
  drop_client (tee);
  close_end (&tee->input);
  tee->input_ended = TRUE;
  gs_mutex_lock (&tee->lock);
  tee->told = told;
  tee->answered = TRUE;
  gs_cond_broadcast (&tee->changed);
  gs_mutex_unlock (&tee->lock);
  return TRUE;
}

/* Who was left as it is keeps its ends of the pipes: only we can end the conversation. */
static void
drop_left (Tee *tee)
{
  for (gsize i = 0; i < tee->n_lanes; i++)
    {
      Lane *lane = &tee->lanes[i];
      gboolean left;
      gs_mutex_lock (&tee->lock);
      left = lane->left;
      gs_mutex_unlock (&tee->lock);
      if (!left || lane->out[0] < 0)
        continue;
      lane_clear_queue (lane);
      close_end (&lane->in[1]);
      lane_silent (lane);
    }
}

static gboolean
lanes_open (const Tee *tee)
{
  for (gsize i = 0; i < tee->n_lanes; i++)
    if (tee->lanes[i].out[0] >= 0)
      return TRUE;
  return FALSE;
}

static void
tee_turn (Tee *tee, guint8 *chunk)
{
  g_autofree struct pollfd *fds = g_new0 (struct pollfd, 3 + 2 * tee->n_lanes);
  nfds_t n = 0;
  eventfd_t count;
  fds[n++] = (struct pollfd) { .fd = tee->wake, .events = POLLIN };
  fds[n++] = (struct pollfd) { .fd = !tee->input_ended && may_read (tee) ? tee->input : -1, .events = POLLIN };
  fds[n++] = (struct pollfd) { .fd = !g_queue_is_empty (&tee->relay) ? tee->output : -1, .events = POLLOUT };
  for (gsize i = 0; i < tee->n_lanes; i++)
    {
      Lane *lane = &tee->lanes[i];
      fds[n++] = (struct pollfd) { .fd = may_listen (lane) ? lane->out[0] : -1, .events = POLLIN };
      fds[n++] = (struct pollfd) { .fd = lane->queued > 0 ? lane->in[1] : -1, .events = POLLOUT };
    }
  if (poll (fds, n, LOOK_MS) <= 0)
    return;
  if (fds[0].revents != 0)
    eventfd_read (tee->wake, &count);
  for (gsize i = 0; i < tee->n_lanes; i++)
    {
      if (fds[3 + 2 * i].revents != 0)
        lane_listen (&tee->lanes[i], chunk);
      if (fds[4 + 2 * i].revents != 0)
        lane_give (&tee->lanes[i]);
    }
  if (fds[1].revents != 0)
    hear_client (tee, chunk);
  drop_left (tee);
}

static void
tee_work (gpointer user)
{
  Tee *tee = user;
  g_autofree guint8 *chunk = g_malloc (CHUNK);
  deal_out (tee, tee->client->head);
  gsi_router_crash_point (tee->write->router, "push.begun");
  if (tee->input < 0)
    end_input (tee);
  while (!answer_client (tee) || lanes_open (tee))
    {
      relay_some (tee);
      tee_turn (tee, chunk);
    }
  for (gsize i = 0; i < tee->n_lanes; i++)
    close_end (&tee->lanes[i].in[1]);
  gs_mutex_lock (&tee->lock);
  tee->ended = TRUE;
  gs_cond_broadcast (&tee->changed);
  gs_mutex_unlock (&tee->lock);
}

void
tee_release (Tee *tee, gsize preferred, gboolean any)
{
  gs_mutex_lock (&tee->lock);
  tee->released = TRUE;
  tee->preferred = preferred;
  tee->any = any;
  gs_mutex_unlock (&tee->lock);
  eventfd_write (tee->wake, 1);
}

void
tee_cut_client (Tee *tee)
{
  gs_mutex_lock (&tee->lock);
  tee->released = tee->cut = TRUE;
  gs_mutex_unlock (&tee->lock);
  eventfd_write (tee->wake, 1);
}

void
tee_wait_client (Tee *tee)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&tee->lock);
  while (!tee->answered)
    gs_cond_wait (&tee->changed, &tee->lock);
}

gboolean
tee_told (Tee *tee)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&tee->lock);
  return tee->told;
}

/* ------------------------------------------------------------------------------------------- begin */

static gboolean
lane_make (Tee *tee, Lane *lane, gsize index)
{
  lane->tee = tee;
  lane->index = index;
  lane->in[0] = lane->in[1] = lane->out[0] = lane->out[1] = -1;
  lane->partial = g_byte_array_new ();
  lane->report = g_byte_array_new ();
  g_queue_init (&lane->queue);
  lane->says = tee->session ? SAYS_REFS : SAYS_PACKETS;
  lane->stream = (GsStream) { .size = sizeof lane->stream,
                              .head = g_bytes_new (NULL, 0),
                              .open_input = lane_open_input,
                              .open_output = lane_open_output,
                              .send_all = lane_send_all };
  return pipe2 (lane->in, O_CLOEXEC) == 0 && pipe2 (lane->out, O_CLOEXEC) == 0
         && fcntl (lane->in[1], F_SETFL, O_NONBLOCK) == 0 && fcntl (lane->out[0], F_SETFL, O_NONBLOCK) == 0;
}

static void
tee_clear (Tee *tee)
{
  for (gsize i = 0; i < tee->n_lanes; i++)
    {
      Lane *lane = &tee->lanes[i];
      lane_clear_queue (lane);
      close_end (&lane->in[0]);
      close_end (&lane->in[1]);
      close_end (&lane->out[0]);
      close_end (&lane->out[1]);
      g_byte_array_unref (lane->partial);
      g_byte_array_unref (lane->report);
      g_bytes_unref (lane->stream.head);
    }
  drop_client (tee);
  close_end (&tee->input);
  close_end (&tee->wake);
  gs_cond_clear (&tee->changed);
  gs_mutex_clear (&tee->lock);
  g_free (tee->lanes);
  g_free (tee);
}

gboolean
tee_begin (Write *write, const gsize *indexes, gsize n, GError **error)
{
  Tee *tee = g_new0 (Tee, 1);
  gboolean made = TRUE;
  tee->write = write;
  tee->client = write->call->stream;
  tee->session = gsi_node_push_is_session (write->call);
  tee->min_copies = write->vs->min_copies;
  tee->lanes = g_new0 (Lane, n);
  tee->input = tee->output = -1;
  tee->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  g_queue_init (&tee->relay);
  gs_mutex_init (&tee->lock);
  gs_cond_init (&tee->changed);
  for (; tee->n_lanes < n; tee->n_lanes++)
    made = lane_make (tee, &tee->lanes[tee->n_lanes], indexes[tee->n_lanes]) && made;
  if (!made || tee->wake < 0)
    gs_fail (error, GS_ERROR_BUSY, "the push to '%s' cannot be dealt out: %s", write->path, g_strerror (errno));
  else if (!tee->client->complete && (tee->input = tee->client->open_input (tee->client, error)) < 0)
    made = FALSE;
  else
    {
      write->tee = tee;
      if (gsi_pool_submit (write->config->pool, tee_work, tee, error))
        return TRUE;
      write->tee = NULL;
    }
  tee_clear (tee);
  return FALSE;
}

void
tee_free (Tee *tee)
{
  if (tee == NULL)
    return;
  gs_mutex_lock (&tee->lock);
  while (!tee->ended)
    gs_cond_wait (&tee->changed, &tee->lock);
  gs_mutex_unlock (&tee->lock);
  tee_clear (tee);
}
