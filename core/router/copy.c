/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas copied from storage to storage. See copy.h. */
#include "router/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define CHUNK (64 * 1024)
#define NAP_US (100 * 1000)
#define HAVES_MAX 20000

void
gsi_pacer_wait (GsiPacer *pacer, guint64 rate, gsize bytes, const GsCall *call)
{
  gint64 now_us = g_get_monotonic_time (), until_us;
  if (rate == 0)
    return;
  gs_mutex_lock (&pacer->lock);
  until_us = MAX (pacer->next_us, now_us);
  pacer->next_us = until_us + (gint64) ((double) bytes * G_USEC_PER_SEC / (double) rate);
  gs_mutex_unlock (&pacer->lock);
  while ((now_us = g_get_monotonic_time ()) < until_us && !gs_call_cancelled (call))
    g_usleep ((gulong) MIN (until_us - now_us, NAP_US));
}

/* One end of a pipe as a storage's stream. */
typedef struct
{
  GsStream stream; /* first: what the storage gets */
  int fd;          /* until it is taken */
} End;

static gboolean
end_accept (GsStream *stream)
{
  return TRUE;
}

static int
end_open (GsStream *stream, GError **error)
{
  End *end = (End *) stream;
  int fd = end->fd;
  end->fd = -1;
  if (fd < 0)
    gs_fail (error, GS_ERROR_INTERNAL, "a copy's stream was opened twice");
  return fd;
}

static int
end_never (GsStream *stream, GError **error)
{
  gs_fail (error, GS_ERROR_INTERNAL, "a copy's stream goes one way");
  return -1;
}

static gboolean
end_send_all (GsStream *stream, GBytes *bytes, GError **error)
{
  return gs_fail (error, GS_ERROR_INTERNAL, "a copy is not sent in one piece");
}

static void
end_init (End *end, GBytes *nothing, gboolean sends, int fd)
{
  *end = (End) { .stream = { .size = sizeof end->stream,
                             .head = nothing,
                             .complete = sends,
                             .accept = end_accept,
                             .open_input = sends ? end_never : end_open,
                             .open_output = sends ? end_open : end_never,
                             .send_all = end_send_all },
                 .fd = fd };
}

typedef struct
{
  GsiCopy *copy;
  GsCall *call;
  GArray *haves; /* of GsOid */
  End out, in;
  int from, to; /* the pump's */
  GError *export_why;
  gboolean exported;
} Work;

static void *
export_run (void *user)
{
  Work *work = user;
  const GsiStorage *source = work->copy->source;
  work->exported = source->ops->export_replica (source->self, work->call, &work->copy->repo,
                                                (const GsOid *) work->haves->data, work->haves->len, &work->out.stream,
                                                &work->export_why);
  if (work->out.fd >= 0)
    close (work->out.fd);
  return NULL;
}

/* When either end is gone the other one learns it from the pipes. */
static void *
pump_run (void *user)
{
  Work *work = user;
  g_autofree guint8 *chunk = g_malloc (CHUNK);
  gboolean good = TRUE;
  while (good)
    {
      ssize_t n = read (work->from, chunk, CHUNK);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        break;
      gsi_pacer_wait (work->copy->pacer, work->copy->rate, (gsize) n, work->call);
      for (ssize_t at = 0; good && at < n;)
        {
          ssize_t put = write (work->to, chunk + at, (gsize) (n - at));
          if (put < 0 && errno == EINTR)
            continue;
          good = put > 0;
          at += put;
        }
      __atomic_add_fetch (&work->copy->bytes, (guint64) n, __ATOMIC_RELAXED);
      gsi_router_crash_point (work->copy->router, "repair.copying");
    }
  close (work->from);
  close (work->to);
  return NULL;
}

static gboolean
collect_have (const GsRef *ref, gpointer user)
{
  GArray *haves = user;
  if (ref->oid.len > 0 && ref->symref_target == NULL)
    g_array_append_val (haves, ref->oid);
  return haves->len < HAVES_MAX;
}

/* A replica that is not there, or cannot be read, has nothing. */
static GArray *
find_haves (const GsiCopy *copy, GsCall *call)
{
  GArray *haves = g_array_new (FALSE, FALSE, sizeof (GsOid));
  const GsRefQuery query = { .size = sizeof query, .include_hidden = TRUE, .limit = HAVES_MAX };
  if (!copy->replace
      && !copy->target->ops->list_refs (copy->target->self, call, &copy->repo, &query, collect_have, haves, NULL))
    g_array_set_size (haves, 0);
  return haves;
}

static gboolean
run_ends (Work *work, GError **error)
{
  GsiCopy *copy = work->copy;
  GsThread exporter, pump;
  g_autoptr (GError) why = NULL;
  gboolean taken = FALSE, pumps, exports;
  pumps = gs_thread_start (&pump, "copy-pump", pump_run, work) == 0;
  if (!pumps)
    {
      close (work->from);
      close (work->to);
    }
  exports = pumps && gs_thread_start (&exporter, "copy-out", export_run, work) == 0;
  if (!exports)
    {
      close (work->out.fd);
      gs_fail (&why, GS_ERROR_BUSY, "no thread can be started to copy a replica");
    }
  else
    taken = copy->target->ops->import_replica (copy->target->self, work->call, &copy->repo,
                                               copy->replace ? GS_IMPORT_REPLACE : 0, &work->in.stream, &copy->state,
                                               &why);
  if (work->in.fd >= 0)
    close (work->in.fd);
  if (exports)
    gs_thread_join (exporter);
  if (pumps)
    gs_thread_join (pump);
  if (taken)
    return TRUE;
  /* A receiver that gave up makes the sender fail too: only what the sender found by itself is its fault. */
  copy->source_failed = work->export_why != NULL && !g_error_matches (work->export_why, GS_ERROR, GS_ERROR_CANCELLED)
                        && (gs_error_code (why) == GS_ERROR_UNAVAILABLE || gs_error_code (why) == GS_ERROR_INTERNAL
                            || gs_error_code (work->export_why) == GS_ERROR_DATA_LOSS);
  g_propagate_error (error, copy->source_failed ? g_steal_pointer (&work->export_why) : g_steal_pointer (&why));
  return FALSE;
}

gboolean
gsi_copy_replica (GsiCopy *copy, GsCall *call, GError **error)
{
  g_autoptr (GBytes) nothing = g_bytes_new_static ("", 0);
  Work work = { .copy = copy, .call = call };
  int near[2], far[2];
  gboolean done;
  copy->source_failed = FALSE;
  if (copy->source->ops->export_replica == NULL || copy->target->ops->import_replica == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "storage '%s' cannot copy replicas",
                    copy->source->ops->export_replica == NULL ? copy->source->name : copy->target->name);
  if (pipe2 (near, O_CLOEXEC) != 0)
    return gs_fail (error, GS_ERROR_BUSY, "no pipe can be made to copy a replica: %s", g_strerror (errno));
  if (pipe2 (far, O_CLOEXEC) != 0)
    {
      close (near[0]);
      close (near[1]);
      return gs_fail (error, GS_ERROR_BUSY, "no pipe can be made to copy a replica: %s", g_strerror (errno));
    }
  work.haves = find_haves (copy, call);
  work.from = near[0];
  work.to = far[1];
  end_init (&work.out, nothing, TRUE, near[1]);
  end_init (&work.in, nothing, FALSE, far[0]);
  copy->state = (GsReplicaState) { .size = sizeof copy->state };
  done = run_ends (&work, error);
  g_array_unref (work.haves);
  g_clear_error (&work.export_why);
  return done;
}
