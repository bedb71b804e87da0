/* SPDX-License-Identifier: Apache-2.0 */
/**
 * cluster.h - what the files of `gitstead cluster` share: words for what the API numbers, and verbs.
 */
#ifndef GSI_MAIN_CLUSTER_H
#define GSI_MAIN_CLUSTER_H

#include "cli.h"
#include "command.h"

#include <gitstead/v1/cluster.pb-c.h>

/** "healthy", "degraded", "read-only", "unavailable", "LOST". */
const char *cluster_health (Gitstead__V1__ClusterHealth health);
/** "active", "draining", "removed". */
const char *cluster_state (Gitstead__V1__ClusterNodeState state);
/** "12.3 GiB"; "-" for 0. *full*. */
char *cluster_bytes (guint64 bytes);
/** "3 min ago"; "never" for 0. *full*. */
char *cluster_ago (gint64 wall_us);
/** "a, b"; @empty when there is none. *full*. */
char *cluster_names (char *const *names, gsize n, const char *empty);
/** "VIRTUAL-STORAGE:PATH"; "(deleted)" for NULL. *full*. */
char *cluster_full_name (const Gitstead__V1__Repository *repository);
/** A repository's name in a request: "PATH", or "VIRTUAL-STORAGE:PATH". @text is changed. */
Gitstead__V1__Repository cluster_repository (char *text);

/**
 * Runs @show once, or with --watch again and again until it fails, on a screen that is cleared before. @show gets
 * @user and returns an exit code.
 */
int cluster_watch (int (*show) (gpointer user), gpointer user);
/** --watch, --every, --times; the last entries of a verb's options, before G_OPTION_ENTRY_NULL. */
#define CLUSTER_WATCH_OPTIONS                                                                                          \
  { "watch", 'w', 0, G_OPTION_ARG_NONE, &cluster_watching, "Show it again and again", NULL },                          \
    { "every", 0, 0, G_OPTION_ARG_STRING, &cluster_every, "With --watch: once in TIME (default: 2s)", "TIME" },        \
    { "times", 0, 0, G_OPTION_ARG_INT, &cluster_times, "With --watch: so often, and then end (default: for ever)", "N" }
extern gboolean cluster_watching;
extern char *cluster_every;
extern int cluster_times;

int cluster_status_run (int n_args, char **args);
int cluster_nodes_run (int n_args, char **args);
int cluster_dataloss_run (int n_args, char **args);
int cluster_explain_run (int n_args, char **args);
extern const GOptionEntry cluster_status_options[], cluster_nodes_options[], cluster_dataloss_options[],
    cluster_explain_options[];

int cluster_factor_run (int n_args, char **args);
int cluster_consistency_run (int n_args, char **args);
int cluster_receipt_run (int n_args, char **args);
int cluster_verify_run (int n_args, char **args);
int cluster_untracked_run (int n_args, char **args);
int cluster_adopt_run (int n_args, char **args);
int cluster_accept_run (int n_args, char **args);
int cluster_drain_run (int n_args, char **args);
int cluster_undrain_run (int n_args, char **args);
int cluster_remove_run (int n_args, char **args);
int cluster_add_run (int n_args, char **args);
int cluster_rebalance_run (int n_args, char **args);
int cluster_moves_run (int n_args, char **args);
/** `gitstead repo move`. */
int cluster_move_run (int n_args, char **args);
extern const GOptionEntry cluster_move_options[], cluster_moves_options[];
extern const GOptionEntry cluster_verify_options[], cluster_accept_options[], cluster_remove_options[],
    cluster_rebalance_options[];

#endif
