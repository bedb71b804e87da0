/* SPDX-License-Identifier: Apache-2.0 */
/* cluster.c - `gitstead cluster`: the list of its verbs, and what they share. */
#include "cluster.h"

#include "base/text.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

gboolean cluster_watching;
char *cluster_every;
int cluster_times;

const char *
cluster_health (Gitstead__V1__ClusterHealth health)
{
  static const char *const names[] = { "?", "healthy", "degraded", "read-only", "unavailable", "LOST" };
  return health < G_N_ELEMENTS (names) ? names[health] : "?";
}

const char *
cluster_state (Gitstead__V1__ClusterNodeState state)
{
  static const char *const names[] = { "?", "active", "draining", "removed" };
  return state < G_N_ELEMENTS (names) ? names[state] : "?";
}

char *
cluster_bytes (guint64 bytes)
{
  return bytes == 0 ? g_strdup ("-") : g_format_size_full (bytes, G_FORMAT_SIZE_IEC_UNITS);
}

char *
cluster_ago (gint64 wall_us)
{
  gint64 s = (g_get_real_time () - wall_us) / G_USEC_PER_SEC;
  if (wall_us == 0)
    return g_strdup ("never");
  if (s < 1)
    return g_strdup ("now");
  if (s < 120)
    return g_strdup_printf ("%" G_GINT64_FORMAT " s ago", s);
  if (s < 7200)
    return g_strdup_printf ("%" G_GINT64_FORMAT " min ago", s / 60);
  if (s < 2 * 86400)
    return g_strdup_printf ("%" G_GINT64_FORMAT " h ago", s / 3600);
  return g_strdup_printf ("%" G_GINT64_FORMAT " d ago", s / 86400);
}

char *
cluster_names (char *const *names, gsize n, const char *empty)
{
  GString *text = g_string_new (NULL);
  for (gsize i = 0; i < n; i++)
    g_string_append_printf (text, "%s%s", i > 0 ? ", " : "", names[i]);
  if (n == 0)
    g_string_append (text, empty);
  return g_string_free (text, FALSE);
}

char *
cluster_full_name (const Gitstead__V1__Repository *repository)
{
  return repository != NULL ? g_strdup_printf ("%s:%s", repository->virtual_storage, repository->path)
                            : g_strdup ("(deleted)");
}

Gitstead__V1__Repository
cluster_repository (char *text)
{
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  char *colon = strchr (text, ':');
  repository.path = text;
  if (colon == NULL)
    return repository;
  *colon = '\0';
  repository.virtual_storage = text;
  repository.path = colon + 1;
  return repository;
}

int
cluster_watch (int (*show) (gpointer user), gpointer user)
{
  g_autoptr (GError) error = NULL;
  gint64 every_us = 2 * G_USEC_PER_SEC;
  if (!cluster_watching)
    return cluster_every == NULL && cluster_times == 0 ? show (user)
                                                        : gsi_cli_usage ("cluster", "--every and --times go with --watch");
  if (cluster_every != NULL && !gsi_text_parse_duration (cluster_every, &every_us, &error))
    return gsi_cli_usage ("cluster", "--every %s", error->message);
  if (cluster_times < 0 || every_us < G_USEC_PER_SEC / 10 || every_us > G_GINT64_CONSTANT (3600) * G_USEC_PER_SEC)
    return gsi_cli_usage ("cluster", "--every wants 100ms to 1h, --times a number of 1 or more");
  for (int round = 1;; round++)
    {
      int status;
      if (isatty (STDOUT_FILENO))
        g_print ("\033[H\033[2J");
      status = show (user);
      if (status != GSI_EXIT_OK || round == cluster_times)
        return status;
      fflush (stdout);
      if (poll (NULL, 0, (int) (every_us / 1000)) < 0 && errno != EINTR)
        return GSI_EXIT_FAILED;
    }
}

const GsiVerb gsi_cluster_verbs[] = {
  { .name = "status",
    .arguments = "[VIRTUAL-STORAGE]",
    .summary = "Count repositories by how they are, nodes and jobs",
    .about = "The first look. A repository is healthy when it has as many current replicas as it should and all of them "
             "can be reached; degraded when it is read and written with fewer; read-only when too few are there for a "
             "write; unavailable when all that hold its newest write are away; LOST when no replica is recorded as "
             "holding it.\nThe exit code is 0 when every repository can be read and written and every node is up, else "
             "1.",
    .examples = "  gitstead cluster status\n  gitstead cluster status --watch\n  gitstead cluster status --json",
    .options = cluster_status_options,
    .max_args = 1,
    .run = cluster_status_run },
  { .name = "nodes",
    .arguments = "",
    .summary = "List the nodes: up or not, since when, latency, disk, replicas",
    .about = "As the router that is asked sees them: ask another router to compare. BEHIND counts replicas that miss a "
             "write.",
    .examples = "  gitstead cluster nodes\n  gitstead cluster nodes --watch --every 1s",
    .options = cluster_nodes_options,
    .max_args = 0,
    .run = cluster_nodes_run },
  { .name = "explain",
    .arguments = "REPOSITORY",
    .summary = "Say everything about one repository's replicas, and what to do",
    .about = "Where each replica is and why, what its disk holds against what is recorded, who would serve a read, whether "
             "a write would be accepted and what blocks it, which work is queued, and what to do next.\nREPOSITORY is a "
             "path, or VIRTUAL-STORAGE:PATH.",
    .examples = "  gitstead cluster explain group/project\n  gitstead cluster explain archive:group/project --watch",
    .options = cluster_explain_options,
    .min_args = 1,
    .max_args = 1,
    .run = cluster_explain_run },
  { .name = "dataloss",
    .arguments = "[VIRTUAL-STORAGE]",
    .summary = "List repositories whose acknowledged writes no replica holds",
    .about = "Lists each repository of which the newest acknowledged write is on no replica, with the generation that was "
             "acknowledged and the newest that is left. With --unavailable also those whose newest write is only on nodes "
             "that are away.\nThe exit code is 0 when there is none, else 1.",
    .examples = "  gitstead cluster dataloss\n  gitstead cluster dataloss --unavailable --json",
    .options = cluster_dataloss_options,
    .max_args = 1,
    .run = cluster_dataloss_run },
  { .name = "accept-dataloss",
    .arguments = "REPOSITORY NODE",
    .summary = "Go on with one replica where acknowledged writes are lost",
    .about = "For a repository whose newest writes are lost for good, or whose nodes that hold them will not come back: "
             "NODE's replica counts from now on, and the others follow it. It must be the one that holds most of those "
             "that can be reached. A repository of which nothing is lost is refused.\nThe writes that are given up are "
             "listed with the refs and commits that they set, and stay in 'gitstead call Repository/Changes': on a disk "
             "that comes back the commits are there under these ids. --dry-run lists them and changes nothing.",
    .examples = "  gitstead cluster accept-dataloss group/project node2 --dry-run\n"
                "  gitstead cluster accept-dataloss group/project node2 --yes",
    .options = cluster_accept_options,
    .min_args = 2,
    .max_args = 2,
    .run = cluster_accept_run },
  { .name = "set-replication-factor",
    .arguments = "FACTOR REPOSITORY...",
    .summary = "Say how many replicas repositories should have",
    .about = "FACTOR is at most the number of nodes that take replicas, at least the virtual storage's min_copies, and "
             "\"default\" for the virtual storage's own. Repair makes and removes replicas accordingly. The factor of a "
             "whole virtual storage is 'copies' in the configuration.",
    .examples = "  gitstead cluster set-replication-factor 3 group/project\n"
                "  gitstead repo list group/ --quiet | xargs gitstead cluster set-replication-factor default",
    .min_args = 2,
    .max_args = -1,
    .run = cluster_factor_run },
  { .name = "set-consistency",
    .arguments = "POLICY REPOSITORY...",
    .summary = "Say which consistency policy writes to repositories go by",
    .about = "POLICY is the name of a consistency instance in the configuration (section consistencies, or a virtual "
             "storage's), and \"default\" for the virtual storage's own. It holds from the next write on; writes under way "
             "end as they began.",
    .examples = "  gitstead cluster set-consistency eventual mirrors/linux\n"
                "  gitstead cluster set-consistency default mirrors/linux",
    .min_args = 2,
    .max_args = -1,
    .run = cluster_consistency_run },
  { .name = "receipt",
    .arguments = "verify REPOSITORY RECEIPT",
    .summary = "Hold a write's receipt against the record and the disks",
    .about = "RECEIPT is what a call that writes printed as \"receipt\", @FILE with it, or its transaction id. Says whether "
             "such a write was decided, whether all that the receipt says is so, and which replicas hold it now.\nThe exit "
             "code is 0 when it is genuine and a replica holds it, else 1.",
    .examples = "  gitstead cluster receipt verify group/project 4be1d1a8f9c04b6f9d8e7a6b5c4d3e2f\n"
                "  gitstead cluster receipt verify group/project @receipt.json",
    .min_args = 3,
    .max_args = 3,
    .run = cluster_receipt_run },
  { .name = "verify",
    .arguments = "[REPOSITORY]",
    .summary = "Compare replicas with the record now",
    .about = "Asks each replica's disk for identity, generation and refs digest. What is as recorded is noted as verified; "
             "what is not counts as behind from then on, and its repair is queued. Without REPOSITORY all are "
             "compared.\nThe exit code is 0 when all are as recorded, else 1.",
    .examples = "  gitstead cluster verify group/project\n  gitstead cluster verify --node node2",
    .options = cluster_verify_options,
    .max_args = 1,
    .run = cluster_verify_run },
  { .name = "untracked",
    .arguments = "[NODE]",
    .summary = "List replicas on disks that no record names",
    .about = "Asks the nodes for every replica that they have, and lists those that belong to no repository, or to one that "
             "has no replica recorded there. Housekeeping moves the former to the trash after a while; 'gitstead cluster "
             "adopt' takes the latter back.",
    .examples = "  gitstead cluster untracked\n  gitstead cluster untracked node2 --json",
    .max_args = 1,
    .run = cluster_untracked_run },
  { .name = "adopt",
    .arguments = "REPOSITORY NODE",
    .summary = "Take a replica back that no record names",
    .about = "Records the replica that NODE has of REPOSITORY, at the generation that its disk says. Refused when it is "
             "another repository's, or holds something that the repository has not.",
    .examples = "  gitstead cluster adopt group/project node2",
    .min_args = 2,
    .max_args = 2,
    .run = cluster_adopt_run },
  { .name = "drain",
    .arguments = "NODE",
    .summary = "Give a node no new replicas, and move those that it has elsewhere",
    .about = "The node serves what it has until then, and its replicas are moved one by one, also where there is no other "
             "copy. Refused when its virtual storages would be left with fewer nodes than min_copies. 'gitstead cluster "
             "nodes' shows how many replicas are left and how many moves are under way; 'undrain' takes it back.",
    .examples = "  gitstead cluster drain node2\n  gitstead cluster nodes --watch",
    .min_args = 1,
    .max_args = 1,
    .run = cluster_drain_run },
  { .name = "undrain",
    .arguments = "NODE",
    .summary = "Take a drained or removed node back",
    .examples = "  gitstead cluster undrain node2",
    .min_args = 1,
    .max_args = 1,
    .run = cluster_undrain_run },
  { .name = "add-node",
    .arguments = "NODE",
    .summary = "Check whether a node is fit to take part",
    .about = "A node takes part when it is in the configuration of every router. This checks one that is: that a virtual "
             "storage uses it, that it answers with our cluster token, reports to our metadata store, has a disk of its "
             "own, is neither drained nor removed, and holds no replicas of repositories that nobody knows (a foreign or an "
             "old disk). Changes nothing.\nThe exit code is 0 when it is fit, else 1.",
    .examples = "  gitstead reload && gitstead cluster add-node node4",
    .min_args = 1,
    .max_args = 1,
    .run = cluster_add_run },
  { .name = "remove-node",
    .arguments = "NODE",
    .summary = "Say that a node is no part of the cluster any more",
    .about = "Refused as long as a replica is recorded on it: drain it first. With --forget, of a node that was removed, its "
             "name is free for another disk.",
    .examples = "  gitstead cluster remove-node node2\n  gitstead cluster remove-node node2 --forget",
    .options = cluster_remove_options,
    .min_args = 1,
    .max_args = 1,
    .run = cluster_remove_run },
  { .name = "rebalance",
    .arguments = "--plan|--apply [VIRTUAL-STORAGE]",
    .summary = "Move replicas to where the routing plugin would have them today",
    .about = "Has the routing plugin place every repository anew, with the nodes as they are (drained ones get nothing). "
             "--plan lists what would move, how many bytes that copies, and about how long it takes, and changes nothing. "
             "--apply queues these moves and shows how they get on; the routers carry them out, half of their repair_workers "
             "at a time, while the repositories are read and written. Interrupted, they go on by themselves; run again, what is "
             "missing is queued. With --rate moves begin one after another so that they copy no more than that.\n"
             "The exit code is 0 when all moves were made, else 1.",
    .examples = "  gitstead cluster rebalance --plan\n  gitstead cluster rebalance --apply --rate 20MB\n"
                "  gitstead cluster rebalance --apply --limit 100 --no-wait",
    .options = cluster_rebalance_options,
    .max_args = 1,
    .run = cluster_rebalance_run },
  { .name = "moves",
    .arguments = "",
    .summary = "List the moves of replicas that wait or are under way",
    .about = "Whoever asked for them: 'repo move', 'cluster rebalance' or the draining of a node. ATTEMPTS above 1 with a "
             "NOTE says what was in the way; such a move is made again by itself.",
    .examples = "  gitstead cluster moves --watch\n  gitstead cluster moves --all --json",
    .options = cluster_moves_options,
    .max_args = 0,
    .run = cluster_moves_run },
  { NULL }
};
