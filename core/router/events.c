/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of events and its streams: see events.h. */
#include "router/events.h"

#include "rpc/json.h"

#include <gitstead/thread.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define KEPT 10000
#define KEPT_BYTES (16u << 20)
#define STREAMS_MAX 32u   /* each holds a thread that a clone could have */
#define STREAMS_SHARE 8u /* of one caller: the others find room */
#define BATCH 100
#define REFS_TOLD 100
#define FOLLOW_MAX_S 86400u
#define ALIVE_US (15 * G_USEC_PER_SEC)
#define POSITION_BYTES 16
#define ITEM_BUDGET (1u << 20)
#define TEXT_FULL (256u << 10) /* then it is sent before more is made */

struct GsiEvent
{
  gint refs; /* atomic */
  guint32 kind;
  char *path;
  guint8 *data; /* the message */
  gsize len;
};

/* A stream, as whoever publishes sees it. */
typedef struct
{
  int wake; /* its eventfd */
  const char *caller; /* the call's */
} Follower;

struct GsiEvents
{
  guint64 epoch;
  GsMutex lock; /* of all that follows */
  GsiEvent *ring[KEPT];
  guint64 oldest, next; /* numbers; what is kept is [oldest, next) */
  gsize bytes;
  guint64 ended;   /* rises when all streams are to end */
  GArray *streams; /* Follower */
};


/* ------------------------------------------------------------------------------------------ one event */

GsiEvent *
gsi_event_new (const Gitstead__V1__Event *message)
{
  GsiEvent *event = g_new0 (GsiEvent, 1);
  event->refs = 1;
  event->kind = (guint32) message->kind;
  event->path = g_strdup (message->repository != NULL ? message->repository->path : "");
  event->len = gitstead__v1__event__get_packed_size (message);
  event->data = g_malloc (event->len + 1);
  gitstead__v1__event__pack (message, event->data);
  return event;
}

void
gsi_event_free (GsiEvent *event)
{
  if (event == NULL || !g_atomic_int_dec_and_test (&event->refs))
    return;
  g_free (event->path);
  g_free (event->data);
  g_free (event);
}

static char *
hex_or_empty (const GsOid *oid, char *hex)
{
  hex[0] = '\0';
  if (oid->len > 0)
    gs_oid_hex (oid, hex);
  return hex;
}

GsiEvent *
gsi_event_of_write (const GsRefUpdate *updates, gsize n_updates, const char *virtual_storage, const char *path, guint64 id,
                    const char *caller, guint64 generation, gint64 time_us)
{
  Gitstead__V1__Event message = GITSTEAD__V1__EVENT__INIT;
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  gsize n = MIN (n_updates, REFS_TOLD);
  g_autofree Gitstead__V1__EventRef *refs = g_new (Gitstead__V1__EventRef, n + 1);
  g_autofree Gitstead__V1__EventRef **pointers = g_new (Gitstead__V1__EventRef *, n + 1);
  g_autofree char *hex = g_malloc ((2 * n + 1) * (GS_OID_HEX_MAX + 1));
  for (gsize i = 0; i < n; i++)
    {
      gitstead__v1__event_ref__init (pointers[i] = &refs[i]);
      refs[i].name = (ProtobufCBinaryData){ strlen (updates[i].name), (guint8 *) updates[i].name };
      refs[i].old_oid = hex_or_empty (&updates[i].old_oid, hex + 2 * i * (GS_OID_HEX_MAX + 1));
      refs[i].new_oid = hex_or_empty (&updates[i].new_oid, hex + (2 * i + 1) * (GS_OID_HEX_MAX + 1));
      if (updates[i].new_symref != NULL)
        refs[i].symref_target
            = (ProtobufCBinaryData){ strlen (updates[i].new_symref), (guint8 *) updates[i].new_symref };
    }
  repository.virtual_storage = (char *) virtual_storage;
  repository.path = (char *) path;
  message.kind = GITSTEAD__V1__EVENT_KIND__EVENT_WRITE;
  message.time_us = time_us;
  message.repository = &repository;
  message.repository_id = id;
  message.caller = (char *) caller;
  message.generation = generation;
  message.refs = pointers;
  message.n_refs = n;
  message.ref_count = n_updates;
  return gsi_event_new (&message);
}

void
gsi_events_tell (GsiEvents *events, Gitstead__V1__EventKind kind, const char *virtual_storage, const char *path, guint64 id,
                 const char *caller, const char *old_path, const char *storage, gint64 time_us)
{
  Gitstead__V1__Event message = GITSTEAD__V1__EVENT__INIT;
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  repository.virtual_storage = (char *) virtual_storage;
  repository.path = (char *) path;
  message.kind = kind;
  message.time_us = time_us;
  message.repository = &repository;
  message.repository_id = id;
  message.caller = (char *) (caller != NULL ? caller : "");
  message.old_path = (char *) (old_path != NULL ? old_path : "");
  message.storage = (char *) (storage != NULL ? storage : "");
  gsi_events_publish (events, gsi_event_new (&message));
}

/* --------------------------------------------------------------------------------------------- the ring */

GsiEvents *
gsi_events_new (guint64 epoch)
{
  GsiEvents *events = g_new0 (GsiEvents, 1);
  events->epoch = epoch;
  events->streams = g_array_new (FALSE, FALSE, sizeof (Follower));
  gs_mutex_init (&events->lock);
  return events;
}

void
gsi_events_free (GsiEvents *events)
{
  if (events == NULL)
    return;
  for (guint64 i = events->oldest; i < events->next; i++)
    gsi_event_free (events->ring[i % KEPT]);
  g_array_free (events->streams, TRUE);
  gs_mutex_clear (&events->lock);
  g_free (events);
}

/* Under the lock. An eventfd takes it whoever reads when; what is in it already is enough. */
static void
wake_all (GsiEvents *events)
{
  static const guint64 one = 1;
  for (guint i = 0; i < events->streams->len; i++)
    if (write (g_array_index (events->streams, Follower, i).wake, &one, sizeof one) < 0)
      continue;
}

void
gsi_events_publish (GsiEvents *events, GsiEvent *event)
{
  if (events == NULL || event == NULL)
    {
      gsi_event_free (event);
      return;
    }
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&events->lock);
  while (events->oldest < events->next
         && (events->next - events->oldest >= KEPT || events->bytes + event->len > KEPT_BYTES))
    {
      GsiEvent *old = events->ring[events->oldest++ % KEPT];
      events->bytes -= old->len;
      gsi_event_free (old);
    }
  events->ring[events->next++ % KEPT] = event;
  events->bytes += event->len;
  wake_all (events);
}

void
gsi_events_end_streams (GsiEvents *events)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&events->lock);
  events->ended++;
  wake_all (events);
}

/* ------------------------------------------------------------------------------------------- a stream */

typedef struct
{
  GsiEvents *events;
  const GsiMethods *methods;
  GsiCall *call;
  const Gitstead__V1__EventsRequest *request;
  int wake, out;
  guint64 at;    /* the number of the next event to be told */
  guint64 ended; /* what it was when we began */
  gboolean missed;
  gint64 until_us, told_us;
  GString *text;
} Stream;

static void
put_position (const Stream *stream, guint8 ret_position[POSITION_BYTES])
{
  guint64 parts[2] = { GUINT64_TO_BE (stream->events->epoch), GUINT64_TO_BE (stream->at) };
  memcpy (ret_position, parts, sizeof parts);
}

static gboolean
take_position (Stream *stream, GError **error)
{
  const ProtobufCBinaryData *position = &stream->request->position;
  GsiEvents *events = stream->events;
  guint64 parts[2];
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&events->lock);
  stream->ended = events->ended;
  stream->at = stream->request->from_oldest ? events->oldest : events->next;
  if (position->len == 0)
    return TRUE;
  if (position->len != sizeof parts)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "position: not one that a server gave out");
  memcpy (parts, position->data, sizeof parts);
  stream->at = GUINT64_FROM_BE (parts[1]);
  if (GUINT64_FROM_BE (parts[0]) != events->epoch)
    {
      /* Of another process, or before a restart. */
      stream->missed = TRUE;
      stream->at = events->oldest;
    }
  else if (stream->at > events->next)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "position: not one that this server gave out");
  return TRUE;
}

/* Some events as they stand, and whether those before them are gone. */
static gboolean
take_events (Stream *stream, GsiEvent *ret_events[BATCH], gsize *ret_n)
{
  GsiEvents *events = stream->events;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&events->lock);
  stream->missed = stream->missed || stream->at < events->oldest;
  stream->at = MAX (stream->at, events->oldest);
  for (*ret_n = 0; *ret_n < BATCH && stream->at + *ret_n < events->next; (*ret_n)++)
    {
      ret_events[*ret_n] = events->ring[(stream->at + *ret_n) % KEPT];
      g_atomic_int_inc (&ret_events[*ret_n]->refs);
    }
  return events->ended == stream->ended;
}

static void
add_item (Stream *stream, Gitstead__V1__Event *event)
{
  Gitstead__V1__EventItem item = GITSTEAD__V1__EVENT_ITEM__INIT;
  guint8 position[POSITION_BYTES];
  gsize len;
  put_position (stream, position);
  item.event = event;
  item.position = (ProtobufCBinaryData){ sizeof position, position };
  item.missed = stream->missed;
  stream->missed = FALSE;
  g_autofree char *line = gsi_json_write (stream->methods, &item.base, GSI_JSON_COMPACT, &len);
  g_string_append_len (stream->text, line, (gssize) len);
  g_string_append_c (stream->text, '\n');
}

static gboolean
is_wanted (const Stream *stream, const GsiEvent *event)
{
  gboolean kind = stream->request->n_kinds == 0;
  for (gsize i = 0; i < stream->request->n_kinds; i++)
    kind = kind || stream->request->kinds[i] == event->kind;
  return kind && g_str_has_prefix (event->path, stream->request->prefix)
         && gsi_call_authorize (stream->call, GS_SCOPE_READ, event->path, NULL);
}

static void
add_event (Stream *stream, const GsiEvent *event)
{
  g_autoptr (GsArena) arena = NULL;
  ProtobufCMessage *message;
  stream->at++;
  if (!is_wanted (stream, event))
    return;
  arena = gs_arena_new (ITEM_BUDGET);
  message = gs_wire_decode (arena, &gitstead__v1__event__descriptor, event->data, event->len, NULL);
  if (message == NULL)
    return;
  Gitstead__V1__Event *told = (Gitstead__V1__Event *) message;
  /* Where it came from may be none of the reader's business, although where it is now is. */
  if (*told->old_path != '\0' && !gsi_call_authorize (stream->call, GS_SCOPE_READ, told->old_path, NULL))
    told->old_path = (char *) "";
  add_item (stream, told);
}

/* FALSE: the call is over, or something is wrong with @fd. */
static gboolean
wait_for (Stream *stream, int fd, short what, gint64 until_us, GError **error)
{
  GsCall *base = &stream->call->base;
  gint64 left_us = MAX (MIN (until_us, base->deadline_us) - g_get_monotonic_time (), 0);
  struct pollfd fds[2] = { { .fd = fd, .events = what }, { .fd = base->cancel_fd (base), .events = POLLIN } };
  if (poll (fds, 2, (int) MIN ((left_us + 999) / 1000, 60000)) < 0 && errno != EINTR)
    return gs_fail (error, GS_ERROR_INTERNAL, "wait for events: %s", g_strerror (errno));
  return gs_call_check (base, "tell events", error);
}

static gboolean
send_text (Stream *stream, GError **error)
{
  for (gsize at = 0; at < stream->text->len;)
    {
      ssize_t wrote = write (stream->out, stream->text->str + at, stream->text->len - at);
      if (wrote > 0)
        at += (gsize) wrote;
      else if (wrote < 0 && errno == EAGAIN)
        {
          if (!wait_for (stream, stream->out, POLLOUT, G_MAXINT64, error))
            return FALSE;
        }
      else if (wrote < 0 && errno != EINTR)
        return gs_fail (error, GS_ERROR_CANCELLED, "tell events: the client reads no more: %s", g_strerror (errno));
    }
  if (stream->text->len > 0)
    stream->told_us = g_get_monotonic_time ();
  g_string_truncate (stream->text, 0);
  return TRUE;
}

static gboolean
run_stream (Stream *stream, GError **error)
{
  gint64 follow_us = (gint64) stream->request->follow_s * G_USEC_PER_SEC;
  stream->told_us = g_get_monotonic_time ();
  stream->until_us = stream->told_us + follow_us;
  for (;;)
    {
      GsiEvent *some[BATCH];
      guint64 count;
      gsize n;
      gboolean go_on = take_events (stream, some, &n);
      if (stream->missed)
        add_item (stream, NULL);
      gboolean sent = n == 0 || gsi_call_recheck (stream->call, error);
      for (gsize i = 0; i < n; i++)
        {
          if (sent)
            add_event (stream, some[i]);
          gsi_event_free (some[i]);
          sent = sent && (stream->text->len < TEXT_FULL || send_text (stream, error));
        }
      if (!sent)
        return FALSE;
      gint64 now = g_get_monotonic_time ();
      if (n == 0 && follow_us > 0 && now - stream->told_us >= ALIVE_US)
        add_item (stream, NULL);
      if (!send_text (stream, error))
        return FALSE;
      if (n == 0 && (now >= stream->until_us || !go_on))
        return TRUE;
      if (n == 0 && !wait_for (stream, stream->wake, POLLIN, MIN (stream->until_us, stream->told_us + ALIVE_US), error))
        return FALSE;
      if (n == 0 && read (stream->wake, &count, sizeof count) < 0 && errno != EAGAIN && errno != EINTR)
        return gs_fail (error, GS_ERROR_INTERNAL, "wait for events: %s", g_strerror (errno));
    }
}

static gboolean
subscribe (Stream *stream, GError **error)
{
  const Follower follower = { stream->wake, stream->call->base.identity->name };
  GArray *streams = stream->events->streams;
  guint own = 0;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&stream->events->lock);
  for (guint i = 0; i < streams->len; i++)
    own += strcmp (g_array_index (streams, Follower, i).caller, follower.caller) == 0;
  if (streams->len >= STREAMS_MAX)
    return gs_fail (error, GS_ERROR_BUSY, "%u clients follow the events already", STREAMS_MAX);
  if (own >= STREAMS_SHARE)
    return gs_fail (error, GS_ERROR_BUSY, "“%s” follows the events with %u streams already, which is the share of one caller",
                    follower.caller, STREAMS_SHARE);
  g_array_append_val (streams, follower);
  return TRUE;
}

static void
unsubscribe (Stream *stream)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&stream->events->lock);
  for (guint i = stream->events->streams->len; i > 0; i--)
    if (g_array_index (stream->events->streams, Follower, i - 1).wake == stream->wake)
      g_array_remove_index_fast (stream->events->streams, i - 1);
}

static gboolean
check_request (const Gitstead__V1__EventsRequest *request, GError **error)
{
  for (gsize i = 0; i < request->n_kinds; i++)
    if (request->kinds[i] == 0
        || protobuf_c_enum_descriptor_get_value (&gitstead__v1__event_kind__descriptor, (int) request->kinds[i]) == NULL)
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "kinds: %d is no kind of event", (int) request->kinds[i]);
  if (request->follow_s > FOLLOW_MAX_S)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "follow_s: %u is more than a day, %u", request->follow_s,
                    FOLLOW_MAX_S);
  return TRUE;
}

gboolean
gsi_events_stream (GsiEvents *events, const GsiMethods *methods, GsiCall *call, GError **error)
{
  Stream stream
      = { .events = events, .methods = methods, .call = call, .request = (const void *) call->request, .out = -1 };
  Gitstead__V1__EventsReply reply = GITSTEAD__V1__EVENTS_REPLY__INIT;
  Gitstead__V1__EventItem end = GITSTEAD__V1__EVENT_ITEM__INIT;
  guint8 position[POSITION_BYTES];
  gboolean done;
  if (!check_request (stream.request, error) || !take_position (&stream, error))
    return FALSE;
  stream.wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stream.wake < 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "make an event descriptor: %s", g_strerror (errno));
  done = subscribe (&stream, error);
  if (done)
    {
      stream.text = g_string_new (NULL);
      stream.out = call->stream->open_output (call->stream, error);
      done = stream.out >= 0;
      if (done)
        fcntl (stream.out, F_SETFL, fcntl (stream.out, F_GETFL) | O_NONBLOCK);
      done = done && run_stream (&stream, error);
      unsubscribe (&stream);
      if (stream.out >= 0)
        close (stream.out);
      g_string_free (stream.text, TRUE);
    }
  close (stream.wake);
  if (!done)
    return FALSE;
  put_position (&stream, position);
  end.position = (ProtobufCBinaryData){ sizeof position, position };
  reply.end = &end;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}
