/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas that change their place, as operators ask for it and see it: Cluster/Move, Cluster/Moves. */
#include "router/cluster.h"

#include "router/repair.h"

#include <wire/details.h>

#define MOVES_MAX 1000

static Gitstead__V1__ClusterMoveJob *
message_of (GsiBag *bag, const GsJobRow *job, const GsiRow *row)
{
  static const char *const states[] = { "", "queued", "running", "done", "failed" };
  Gitstead__V1__ClusterMoveJob *move
      = GSI_BAG_MESSAGE (bag, Gitstead__V1__ClusterMoveJob, gitstead__v1__cluster_move_job__init);
  move->id = job->id;
  move->repository = row != NULL ? gsi_bag_repository (bag, row) : NULL;
  move->repository_id = job->repository_id;
  move->from = gsi_bag_text (bag, job->source);
  move->to = gsi_bag_text (bag, job->target);
  move->state = (char *) (job->state >= GS_JOB_QUEUED && job->state <= GS_JOB_FAILED ? states[job->state] : "");
  move->reason = gsi_bag_text (bag, job->reason);
  move->worker = gsi_bag_text (bag, job->worker);
  move->attempts = job->attempts;
  move->error = gsi_bag_text (bag, job->error);
  move->due_us = job->due_wall_us;
  move->started_us = job->started_wall_us;
  move->ended_us = job->ended_wall_us;
  return move;
}

/* ------------------------------------------------------------------------------------------- asking */

typedef struct
{
  GsiBag *bag;
  const GsiRow *row;
  const char *from, *to;
  Gitstead__V1__ClusterMoveJob *same, *other;
} Open;

static gboolean
look_for_move (const GsJobRow *job, gpointer user)
{
  Open *open = user;
  Gitstead__V1__ClusterMoveJob *move = message_of (open->bag, job, open->row);
  if (strcmp (job->source, open->from) == 0 && strcmp (job->target, open->to) == 0)
    open->same = move;
  else
    open->other = move;
  return TRUE;
}

static gboolean
find_move (const GsJobRow *job, gpointer user)
{
  ((Open *) user)->same = message_of (((Open *) user)->bag, job, ((Open *) user)->row);
  return FALSE;
}

/* Whose replica goes, where that goes without saying. */
static const char *
source_of (const GsiRow *row, const char *from, GError **error)
{
  g_autoptr (GString) names = g_string_new (NULL);
  if (from[0] != '\0')
    return from;
  if (row->n_replicas == 1)
    return row->replicas[0].storage;
  for (gsize i = 0; i < row->n_replicas; i++)
    g_string_append_printf (names, "%s%s", i > 0 ? ", " : "", row->replicas[i].storage);
  gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "from: repository '%s' has %" G_GSIZE_FORMAT " replicas (%s); say which one moves",
           row->path, row->n_replicas, names->str);
  return NULL;
}

gboolean
gsi_cluster_move (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__ClusterMoveRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterMoveReply reply = GITSTEAD__V1__CLUSTER_MOVE_REPLY__INIT;
  g_autoptr (GPtrArray) bag = gsi_bag_new ();
  g_autoptr (GsiRow) row = gsi_router_locate_anyway (router, call, NULL, error);
  Open open = { bag, row, row != NULL ? source_of (row, request->from, error) : NULL, request->to, NULL, NULL };
  guint64 id;
  if (open.from == NULL || !gsi_router_look_at_nodes (router, error))
    return FALSE;
  if (config->metadata->job_add == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata store keeps no jobs, so that nothing can be moved");
  if (!gsi_move_each (router, &call->base, row->id, 0, 0, FALSE, look_for_move, &open, error))
    return FALSE;
  if (open.other != NULL)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "repository '%s' is being moved already, from '%s' to '%s' (job %" G_GUINT64_FORMAT
                    "): wait for its end; 'gitstead cluster moves' shows it",
                    row->path, open.other->from, open.other->to, open.other->id);
  if (open.same == NULL)
    {
      if (!gsi_move_check (router, row, open.from, open.to, error)
          || !gsi_move_ask (router, &call->base, row->id, open.from, open.to, "an operator asked for it", 0, &id, error)
          || !gsi_move_each (router, &call->base, row->id, id, id, TRUE, find_move, &open, error))
        return FALSE;
      config->host->log (config->host, GS_LOG_INFO, "cluster.move",
                         (GsField[]) { GS_TEXT ("path", row->path), GS_TEXT ("from", open.from), GS_TEXT ("storage", open.to),
                                       GS_TEXT ("by", call->base.identity->name) },
                         4);
    }
  reply.move = open.same;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ listing */

typedef struct
{
  GsiRouter *router;
  GsiCall *call;
  GsiBag *bag;
  GPtrArray *moves;
  gsize limit;
  gboolean ended;
  Gitstead__V1__ClusterMovesReply *reply;
} Listing;

static gboolean
list_move (const GsJobRow *job, gpointer user)
{
  Listing *listing = user;
  const gboolean open = job->state == GS_JOB_QUEUED || job->state == GS_JOB_RUNNING;
  listing->reply->queued += job->state == GS_JOB_QUEUED;
  listing->reply->running += job->state == GS_JOB_RUNNING;
  listing->reply->done += job->state == GS_JOB_DONE;
  listing->reply->failed += job->state == GS_JOB_FAILED;
  if ((open || listing->ended) && listing->moves->len < listing->limit)
    g_ptr_array_add (listing->moves, message_of (listing->bag, job, NULL));
  return TRUE;
}

/* Not while the store shows jobs: one question at a time. */
static void
name_moves (Listing *listing)
{
  const GsiRouterConfig *config = gsi_router_config (listing->router);
  for (guint i = 0; i < listing->moves->len; i++)
    {
      Gitstead__V1__ClusterMoveJob *move = listing->moves->pdata[i];
      GsiRow *row = NULL;
      if (config->metadata->repo_get (config->metadata_self, &listing->call->base, move->repository_id, gsi_row_visit, &row,
                                      NULL))
        move->repository = gsi_bag_repository (listing->bag, row);
      gsi_row_free (row);
    }
}

gboolean
gsi_cluster_moves (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const Gitstead__V1__ClusterMovesRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterMovesReply reply = GITSTEAD__V1__CLUSTER_MOVES_REPLY__INIT;
  g_autoptr (GPtrArray) bag = gsi_bag_new (), moves = g_ptr_array_new ();
  Listing listing = { router, call, bag, moves, request->limit != 0 ? request->limit : MOVES_MAX,
                      request->ended, &reply };
  if (request->limit > MOVES_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "limit: %u is more than the most, %d", request->limit, MOVES_MAX)
           || gs_detail_field (error, "limit");
  if (!gsi_cluster_is_router (router, error)
      || !gsi_move_each (router, &call->base, 0, request->first_id, request->last_id, TRUE, list_move, &listing, error))
    return FALSE;
  name_moves (&listing);
  reply.moves = (Gitstead__V1__ClusterMoveJob **) moves->pdata;
  reply.n_moves = moves->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}
