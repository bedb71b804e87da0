/* SPDX-License-Identifier: Apache-2.0 */
/* Reads: any current replica serves; a failed one is retried elsewhere while nothing has been sent. */
#include "router/recent.h"
#include "router/settle.h"

static GsiReadHandler
find_read (const GsiMethod *method)
{
  if (method->storage)
    return gsi_node_query;
  for (const GsiReadBinding *read = gsi_node_reads (); read->number != 0; read++)
    if (read->number == method->number)
      return read->read;
  return NULL;
}

/* Does it say something about the replica rather than about the request? */
static gboolean
worth_another_replica (const GError *error)
{
  int code = gs_error_code (error);
  /* UNKNOWN: an answer that broke off. A write may then be done or not; a read is asked for again. */
  return code == GS_ERROR_UNAVAILABLE || code == GS_ERROR_UNKNOWN || code == GS_ERROR_DATA_LOSS || code == GS_ERROR_INTERNAL;
}

typedef struct
{
  GsNodeView view;
  const GsiStorage *storage;
} Candidate;

/* Replicas that hold everything decided so far and are on a storage of this process. */
static GArray *
current_replicas (GsiRouter *router, const GsiRow *row)
{
  GArray *candidates = g_array_new (FALSE, TRUE, sizeof (Candidate));
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiStorage *storage = gsi_router_storage (router, row->replicas[i].storage);
      Candidate candidate = { .storage = storage };
      if (storage == NULL || row->replicas[i].generation < row->generation)
        continue;
      candidate.view = gsi_router_view (storage);
      g_array_append_val (candidates, candidate);
    }
  return candidates;
}

static gboolean
pick (const GsiStorageGroup *vs, const GsHost *host, guint64 id, GArray *candidates, gsize *ret_index,
      GError **error)
{
  guint64 key_bytes = GUINT64_TO_BE (id), dice;
  g_autoptr (GBytes) key = g_bytes_new (&key_bytes, sizeof key_bytes);
  g_autofree const GsNodeView **views = g_new (const GsNodeView *, candidates->len);
  for (guint i = 0; i < candidates->len; i++)
    views[i] = &g_array_index (candidates, Candidate, i).view;
  host->random (host, &dice, sizeof dice);
  return vs->routing->pick_reader (vs->routing_self, key, views, candidates->len, dice, ret_index, error);
}

/* Runs the read, counted as under way on its storage. */
static gboolean
read_counted (GsiReadHandler read, const GsiReplica *replica, GsiCall *call, GError **error)
{
  guint32 *reads = replica->storage->reads;
  gboolean ok;
  if (reads != NULL)
    __atomic_add_fetch (reads, 1, __ATOMIC_RELAXED);
  ok = read (replica, call, error);
  if (reads != NULL)
    __atomic_sub_fetch (reads, 1, __ATOMIC_RELAXED);
  return ok;
}

/* Who is thought to be away is asked last: the mark may be wrong, and never condemns everybody. *full*. */
static GArray *
set_unhealthy_aside (GArray *candidates)
{
  GArray *aside = g_array_new (FALSE, FALSE, sizeof (Candidate));
  for (guint i = candidates->len; i > 0; i--)
    {
      Candidate candidate = g_array_index (candidates, Candidate, i - 1);
      if (candidate.view.healthy)
        continue;
      candidate.view.healthy = TRUE; /* when its turn comes, all are like it */
      g_array_append_val (aside, candidate);
      g_array_remove_index (candidates, i - 1);
    }
  return aside;
}

static void
take_all (GArray *candidates, GArray *others)
{
  g_array_append_vals (candidates, others->data, others->len);
  g_array_set_size (others, 0);
}

/* The caller's stream, and whether a replica has taken or given bytes: from then on no other can answer. */
typedef struct
{
  GsStream stream; /* first */
  GsStream *outer;
  gboolean touched;
} Watched;

static int
watched_input (GsStream *stream, GError **error)
{
  Watched *watched = (Watched *) stream;
  watched->touched = TRUE;
  return watched->outer->open_input (watched->outer, error);
}

static int
watched_output (GsStream *stream, GError **error)
{
  Watched *watched = (Watched *) stream;
  watched->touched = TRUE;
  return watched->outer->open_output (watched->outer, error);
}

static gboolean
watched_send_all (GsStream *stream, GBytes *bytes, GError **error)
{
  Watched *watched = (Watched *) stream;
  watched->touched = TRUE;
  return watched->outer->send_all (watched->outer, bytes, error);
}

static void
watch_stream (GsiCall *call, Watched *watched)
{
  if (call->stream == NULL)
    return;
  *watched = (Watched) { .stream = { .size = sizeof watched->stream,
                                     .head = call->stream->head,
                                     .complete = call->stream->complete,
                                     .open_input = watched_input,
                                     .open_output = watched_output,
                                     .send_all = watched_send_all },
                         .outer = call->stream };
  call->stream = &watched->stream;
}

/*
 * The record of a decided write names its voters before they have applied it: between the first and the last of them
 * somebody could see a write and then not see it. With one replica there is nobody to compare with; what its caller knows
 * counts all the same.
 */
static gboolean
shows (GsiRouter *router, const GsiCall *call, const GsiStorage *storage, const GsiRow *row, gboolean others,
       GError **error)
{
  gint64 until_us = others ? g_get_monotonic_time () + GSI_TELL_US : G_MAXINT64;
  if (row->n_replicas < 2 && call->generation == 0)
    return TRUE;
  return gsi_router_is_fresh (router, storage, row, MAX (row->generation, call->generation),
                              MIN (until_us, call->base.deadline_us), error);
}

/* So long a decided write may take to be applied before it is asked whether its router died in between. */
#define FINISH_AFTER_US (300 * 1000)
#define FINISH_US (5 * G_USEC_PER_SEC)

/*
 * A storage that has no replica where the metadata store knows one has lost it: its NOT_FOUND must not look as if there were
 * no such repository. One that was deleted or moved meanwhile is really not found.
 */
static void
tell_loss (GsiRouter *router, GsiCall *call, const GsiStorage *storage, const GsiRow *row, GError **why)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  const GsiReplica replica = gsi_router_replica (router, storage, row);
  g_autoptr (GsiRow) now = NULL;
  gboolean there = TRUE, recorded = FALSE;
  if (gs_error_code (*why) != GS_ERROR_NOT_FOUND
      || !storage->ops->exists (storage->self, &call->base, &replica.repo, &there, NULL) || there
      || !config->metadata->repo_get (config->metadata_self, &call->base, row->id, gsi_row_visit, &now, NULL))
    return;
  for (gsize i = 0; i < now->n_replicas; i++)
    recorded |= strcmp (now->replicas[i].storage, storage->name) == 0;
  if (!recorded)
    return;
  g_clear_error (why);
  gs_fail (why, GS_ERROR_DATA_LOSS,
           "the replica of repository '%s' on storage '%s' is missing; 'gitstead cluster explain' says what others there are",
           row->path, storage->name);
  config->host->log (config->host, GS_LOG_WARNING, "replica.missing",
                     (GsField[]){ GS_NUMBER ("repository", row->id), GS_TEXT ("path", row->path),
                                  GS_TEXT ("storage", storage->name) },
                     3);
  if (row->n_replicas > 1)
    gsi_router_ask_repair (router, &call->base, row->id, storage->name, "its replica is missing");
}

/* Waiting for replicas that have not applied yet what was decided. */
typedef struct
{
  gint64 until_us, finish_us, delay_us;
} Patience;

/*
 * Is there somebody to ask? Those that are thought to be away become candidates when nobody else is left, those that are
 * behind become candidates again, after a moment. FALSE: it was long enough.
 */
static gboolean
look_again (GsiRouter *router, GsiCall *call, const GsiRow *row, GArray *candidates, GArray *late, GArray *aside,
            Patience *patience)
{
  if (candidates->len == 0)
    take_all (candidates, aside);
  if (candidates->len > 0 || late->len == 0)
    return candidates->len > 0;
  if (!gsi_router_pause (&call->base, &patience->delay_us, patience->until_us))
    return FALSE;
  if (g_get_monotonic_time () > patience->finish_us)
    {
      gint64 until_us = MIN (g_get_monotonic_time () + FINISH_US, call->base.deadline_us);
      for (guint i = 0; i < late->len; i++)
        gsi_router_finish (router, g_array_index (late, Candidate, i).storage, row, until_us);
      patience->finish_us = G_MAXINT64;
      patience->until_us += FINISH_AFTER_US;
    }
  take_all (candidates, late);
  return TRUE;
}

static gboolean
read_anywhere (GsiRouter *router, GsiCall *call, const GsiStorageGroup *vs, const GsiRow *row, const Watched *watched,
               GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  GsiReadHandler read = find_read (call->method);
  g_autoptr (GArray) candidates = current_replicas (router, row);
  g_autoptr (GArray) aside = set_unhealthy_aside (candidates);
  g_autoptr (GArray) late = g_array_new (FALSE, FALSE, sizeof (Candidate));
  gint64 now_us = g_get_monotonic_time ();
  Patience patience = { now_us + GSI_LATE_WAIT_US, now_us + FINISH_AFTER_US, 0 };
  g_autoptr (GError) why = NULL;
  g_autofree char *passed_over = NULL;

  while (look_again (router, call, row, candidates, late, aside, &patience))
    {
      const GsiStorage *storage;
      GsiReplica replica;
      gsize index = 0;
      if (!pick (vs, config->host, row->id, candidates, &index, error))
        return FALSE;
      if (why != NULL)
        {
          g_free (passed_over);
          passed_over = g_strdup (why->message);
        }
      g_clear_error (&why);
      storage = g_array_index (candidates, Candidate, index).storage;
      if (!shows (router, call, storage, row, candidates->len + late->len + aside->len > 1, &why))
        {
          tell_loss (router, call, storage, row, &why);
          if (gs_error_code (why) == GS_ERROR_UNAVAILABLE && gsi_router_view (storage).healthy)
            g_array_append_val (late, g_array_index (candidates, Candidate, index));
          g_array_remove_index (candidates, (guint) index);
          continue;
        }
      replica = gsi_router_replica (router, storage, row);
      if (read_counted (read, &replica, call, &why))
        {
          gsi_recent_note (gsi_router_recent (router), row->id, replica.storage->name,
                           config->host->wall_us (config->host), candidates->len, passed_over);
          return TRUE;
        }
      tell_loss (router, call, storage, row, &why);
      if (!worth_another_replica (why) || watched->touched || gs_call_cancelled (&call->base))
        break; /* where bytes are on their way, the client decides */
      g_array_remove_index (candidates, (guint) index);
    }
  if (why == NULL)
    return gs_fail (error, GS_ERROR_UNAVAILABLE,
                    "no current replica of repository '%s' can be reached (generation %" G_GUINT64_FORMAT
                    "); it is being repaired, try again",
                    row->path, row->generation);
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

gboolean
gsi_router_read (gpointer user, GsiCall *call, GError **error)
{
  const GsiStorageGroup *vs;
  g_autoptr (GsiRow) row = gsi_router_locate (user, call, &vs, error);
  Watched watched = { .outer = NULL };
  gboolean done;
  if (row == NULL)
    return FALSE;
  gsi_router_recheck (user, call, row);
  watch_stream (call, &watched);
  done = read_anywhere (user, call, vs, row, &watched, error);
  if (watched.outer != NULL)
    call->stream = watched.outer;
  return done;
}

/* ------------------------------------------------------------------------------------- maintenance of all */

/*
 * On every replica that this process reaches, current or not, one after the other. One that fails does not keep the others from
 * it.
 */
gboolean
gsi_router_everywhere (gpointer user, GsiCall *call, GError **error)
{
  g_autoptr (GsiRow) row = gsi_router_locate (user, call, NULL, error);
  g_autoptr (GByteArray) replies = g_byte_array_new ();
  g_autoptr (GError) failed = NULL;
  GsiReplica replica = { NULL };
  guint64 token;
  if (row == NULL)
    return FALSE;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiStorage *storage = gsi_router_storage (user, row->replicas[i].storage);
      g_autoptr (GError) why = NULL;
      if (storage == NULL)
        continue;
      if (!gsi_router_upkeep_begin (user, &call->base, &token, failed == NULL ? &failed : NULL))
        break;
      replica = gsi_router_replica (user, storage, row);
      if (!gsi_node_maintain (&replica, call, replies, &why) && failed == NULL)
        {
          g_prefix_error (&why, "storage '%s': ", storage->name);
          failed = g_steal_pointer (&why);
        }
      gsi_router_upkeep_end (user, token);
    }
  if (failed != NULL)
    {
      g_propagate_error (error, g_steal_pointer (&failed));
      return FALSE;
    }
  if (replica.storage == NULL)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "no replica of repository '%s' can be reached", row->path);
  return gsi_node_joined_reply (&replica, call, replies, error);
}
