/* SPDX-License-Identifier: Apache-2.0 */
/* cluster_move.c - replicas that change their place: `repo move`, `cluster rebalance`, `cluster moves`, and waiting for them. */
#include "cluster.h"

#include "base/text.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define LOOK_MS 500
/* Where progress goes to a file, a line is enough once in a while. */
#define TELL_US (5 * G_USEC_PER_SEC)

static gboolean no_wait;

#define NO_WAIT_OPTION                                                                                                 \
  { "no-wait", 0, 0, G_OPTION_ARG_NONE, &no_wait, "Only queue: the routers do the rest", NULL }

/* -------------------------------------------------------------------------------------------- waiting */

typedef struct
{
  guint64 first, last; /* ids of jobs */
  gint64 told_us;
  guint64 told_done;
  gboolean line; /* an unfinished one is on the screen */
} Wait;

/* On a terminal one line that changes, elsewhere a line now and then. */
static void
tell (Wait *wait, const Gitstead__V1__ClusterMovesReply *reply)
{
  const guint64 all = reply->queued + reply->running + reply->done + reply->failed;
  const gint64 now_us = g_get_monotonic_time ();
  const gboolean terminal = isatty (STDERR_FILENO);
  if (gsi_cli_quiet () || gsi_cli_json ()
      || (!terminal && (reply->done == wait->told_done || now_us - wait->told_us < TELL_US)))
    return;
  g_printerr ("%s%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " moved, %" G_GUINT64_FORMAT " under way, %" G_GUINT64_FORMAT
              " given up%s",
              terminal ? "\r\033[K" : "", reply->done, all, reply->running, reply->failed, terminal ? "" : "\n");
  wait->line = terminal;
  wait->told_us = now_us;
  wait->told_done = reply->done;
}

/* Until all have ended. NULL with @error: they go on all the same. */
static const Gitstead__V1__ClusterMovesReply *
await (guint64 first, guint64 last, GError **error)
{
  Gitstead__V1__ClusterMovesRequest request = GITSTEAD__V1__CLUSTER_MOVES_REQUEST__INIT;
  Wait wait = { first, last, 0, 0, FALSE };
  const Gitstead__V1__ClusterMovesReply *reply;
  request.first_id = first;
  request.last_id = last;
  request.limit = 1;
  for (;;)
    {
      reply = (const Gitstead__V1__ClusterMovesReply *) gsi_cli_call ("Cluster/Moves", &request.base, error);
      if (reply != NULL)
        tell (&wait, reply);
      if (reply == NULL || reply->queued + reply->running == 0
          || (poll (NULL, 0, LOOK_MS) < 0 && errno != EINTR))
        break;
    }
  if (wait.line)
    g_printerr ("\n");
  if (reply == NULL)
    return NULL;
  request.ended = TRUE;
  request.limit = 0;
  return (const Gitstead__V1__ClusterMovesReply *) gsi_cli_call ("Cluster/Moves", &request.base, error);
}

static void
print_moves (const Gitstead__V1__ClusterMovesReply *reply, gboolean failed_only)
{
  GsiTable *table = gsi_table_new ((const char *[]) { ">JOB", "REPOSITORY", "FROM", "TO", "STATE", ">ATTEMPTS", "WHY", "NOTE",
                                                      NULL });
  for (gsize i = 0; i < reply->n_moves; i++)
    {
      const Gitstead__V1__ClusterMoveJob *move = reply->moves[i];
      g_autofree char *id = g_strdup_printf ("%" G_GUINT64_FORMAT, move->id), *name = cluster_full_name (move->repository);
      g_autofree char *attempts = g_strdup_printf ("%u", move->attempts);
      if (!failed_only || strcmp (move->state, "failed") == 0)
        gsi_table_row (table, id, name, move->from, move->to, move->state, attempts, move->reason, move->error, NULL);
    }
  gsi_table_print (table);
}

/* Of what was queued: waits, tells, and says how it went. */
static int
finish (guint64 first, guint64 last)
{
  g_autoptr (GError) error = NULL;
  const Gitstead__V1__ClusterMovesReply *reply = await (first, last, &error);
  int status;
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot see how the moves get on (they go on; 'gitstead cluster moves' shows them)");
  status = reply->failed == 0 ? GSI_EXIT_OK : GSI_EXIT_FAILED;
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the moves") == GSI_EXIT_OK ? status : GSI_EXIT_FAILED;
  if (reply->failed > 0 && !gsi_cli_quiet ())
    print_moves (reply, TRUE);
  gsi_cli_say ("%" G_GUINT64_FORMAT " moved, %" G_GUINT64_FORMAT " given up.", reply->done, reply->failed);
  return status;
}

/* ------------------------------------------------------------------------------------------- repo move */

static char *move_from, *move_to;

const GOptionEntry cluster_move_options[]
    = { { "from", 0, 0, G_OPTION_ARG_STRING, &move_from, "The storage whose replica moves; needless where there is one only",
          "STORAGE" },
        { "to", 0, 0, G_OPTION_ARG_STRING, &move_to, "The storage that gets it", "STORAGE" },
        NO_WAIT_OPTION,
        G_OPTION_ENTRY_NULL };

int
cluster_move_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterMoveRequest request = GITSTEAD__V1__CLUSTER_MOVE_REQUEST__INIT;
  Gitstead__V1__Repository repository = cluster_repository (args[0]);
  const Gitstead__V1__ClusterMoveReply *reply;
  if (move_to == NULL)
    return gsi_cli_usage ("repo move", "want --to STORAGE");
  request.repository = &repository;
  request.from = move_from != NULL ? move_from : request.from;
  request.to = move_to;
  reply = (const Gitstead__V1__ClusterMoveReply *) gsi_cli_call ("Cluster/Move", &request.base, &error);
  if (reply == NULL || reply->move == NULL)
    return gsi_cli_fail (error, "cannot move '%s' to '%s'", repository.path, move_to);
  if (!no_wait)
    return finish (reply->move->id, reply->move->id);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the move");
  gsi_cli_say ("The move of '%s' from %s to %s is queued (job %" G_GUINT64_FORMAT ").", repository.path, reply->move->from,
               reply->move->to, reply->move->id);
  return GSI_EXIT_OK;
}

/* ------------------------------------------------------------------------------------------- the list */

static gboolean moves_all;

const GOptionEntry cluster_moves_options[]
    = { { "all", 'a', 0, G_OPTION_ARG_NONE, &moves_all, "Also those of the last day that ended", NULL },
        CLUSTER_WATCH_OPTIONS,
        G_OPTION_ENTRY_NULL };

static int
moves_show (gpointer user)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterMovesRequest request = GITSTEAD__V1__CLUSTER_MOVES_REQUEST__INIT;
  const Gitstead__V1__ClusterMovesReply *reply;
  request.ended = moves_all;
  reply = (const Gitstead__V1__ClusterMovesReply *) gsi_cli_call ("Cluster/Moves", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot list moves");
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the moves");
  if (reply->n_moves > 0)
    print_moves (reply, FALSE);
  gsi_cli_say ("%" G_GUINT64_FORMAT " moves wait, %" G_GUINT64_FORMAT " are under way; %" G_GUINT64_FORMAT
               " were made and %" G_GUINT64_FORMAT " given up in the last day.",
               reply->queued, reply->running, reply->done, reply->failed);
  return GSI_EXIT_OK;
}

int
cluster_moves_run (int n_args, char **args)
{
  return cluster_watch (moves_show, NULL);
}

/* ------------------------------------------------------------------------------------------ rebalance */

static gboolean rebalance_plan, rebalance_apply;
static char *rebalance_rate;
static int rebalance_limit;

const GOptionEntry cluster_rebalance_options[]
    = { { "plan", 0, 0, G_OPTION_ARG_NONE, &rebalance_plan, "Say what would be moved", NULL },
        { "apply", 0, 0, G_OPTION_ARG_NONE, &rebalance_apply, "Move it", NULL },
        { "limit", 0, 0, G_OPTION_ARG_INT, &rebalance_limit, "At most N moves (default: 1000)", "N" },
        { "rate", 0, 0, G_OPTION_ARG_STRING, &rebalance_rate,
          "BYTES a second, of all moves together (--plan reckons with 50MB, --apply has no limit of its own)", "BYTES" },
        NO_WAIT_OPTION,
        G_OPTION_ENTRY_NULL };

static void
print_plan (const Gitstead__V1__ClusterRebalancePlanReply *reply)
{
  g_autofree char *bytes = cluster_bytes (reply->bytes);
  g_autofree char *time = gsi_text_duration ((gint64) MIN (reply->seconds, 1000u * 86400) * G_USEC_PER_SEC);
  if (reply->n_moves > 0)
    {
      GsiTable *table = gsi_table_new ((const char *[]) { "REPOSITORY", "FROM", "TO", ">COPIES", NULL });
      for (gsize i = 0; i < reply->n_moves; i++)
        {
          const Gitstead__V1__ClusterMove *move = reply->moves[i];
          g_autofree char *name = cluster_full_name (move->repository), *size = cluster_bytes (move->bytes);
          gsi_table_row (table, name, move->from[0] != '\0' ? move->from : "(one more)",
                         move->to[0] != '\0' ? move->to : "(one less)", size, NULL);
        }
      gsi_table_print (table);
    }
  gsi_cli_say ("%" G_GUINT64_FORMAT " moves for %" G_GUINT64_FORMAT " repositories%s; those listed copy %s in about %s.",
               reply->count_moves, reply->looked_at, reply->more ? " (not all are listed)" : "", bytes, time);
}

static int
plan_run (const char *virtual_storage, guint64 rate)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterRebalancePlanRequest request = GITSTEAD__V1__CLUSTER_REBALANCE_PLAN_REQUEST__INIT;
  const Gitstead__V1__ClusterRebalancePlanReply *reply;
  request.bytes_per_second = rate;
  request.limit = (guint32) rebalance_limit;
  request.virtual_storage = (char *) virtual_storage;
  reply = (const Gitstead__V1__ClusterRebalancePlanReply *) gsi_cli_call ("Cluster/RebalancePlan", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot plan moves");
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the plan");
  print_plan (reply);
  return GSI_EXIT_OK;
}

static int
apply_run (const char *virtual_storage, guint64 rate)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterRebalanceApplyRequest request = GITSTEAD__V1__CLUSTER_REBALANCE_APPLY_REQUEST__INIT;
  const Gitstead__V1__ClusterRebalanceApplyReply *reply;
  g_autofree char *bytes = NULL;
  request.bytes_per_second = rate;
  request.limit = (guint32) rebalance_limit;
  request.virtual_storage = (char *) virtual_storage;
  reply = (const Gitstead__V1__ClusterRebalanceApplyReply *) gsi_cli_call ("Cluster/RebalanceApply", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot rebalance");
  if (gsi_cli_json () && (no_wait || reply->queued == 0))
    return gsi_cli_finish_json (&reply->base, "what was queued");
  bytes = cluster_bytes (reply->bytes);
  if (!gsi_cli_json ())
    gsi_cli_say ("%" G_GUINT64_FORMAT " moves are queued for %" G_GUINT64_FORMAT " repositories%s; they copy %s.", reply->queued,
                 reply->looked_at, reply->more ? " (there are more: run it again afterwards)" : "", bytes);
  if (!gsi_cli_json () && reply->busy > 0)
    gsi_cli_say ("%" G_GUINT64_FORMAT " are of repositories that are being moved already.", reply->busy);
  if (!gsi_cli_json () && reply->left > 0)
    gsi_cli_say ("%" G_GUINT64_FORMAT " replicas are too few or too many, which repair sees to.", reply->left);
  return no_wait || reply->queued == 0 ? GSI_EXIT_OK : finish (reply->first_id, reply->last_id);
}

int
cluster_rebalance_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  const char *virtual_storage = n_args > 0 ? args[0] : "";
  gint64 rate = 0;
  if (rebalance_plan == rebalance_apply)
    return gsi_cli_usage ("cluster rebalance", "want --plan or --apply");
  if (rebalance_rate != NULL && (!gsi_text_parse_size (rebalance_rate, &rate, &error) || rate <= 0))
    return gsi_cli_usage ("cluster rebalance", "--rate %s", error != NULL ? error->message : "must be more than nothing");
  if (rebalance_limit < 0 || rebalance_limit > 10000)
    return gsi_cli_usage ("cluster rebalance", "--limit wants 1 to 10000");
  return rebalance_plan ? plan_run (virtual_storage, (guint64) rate) : apply_run (virtual_storage, (guint64) rate);
}
