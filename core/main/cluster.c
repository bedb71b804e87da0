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
  { NULL }
};
