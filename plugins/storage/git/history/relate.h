/* SPDX-License-Identifier: Apache-2.0 */
/**
 * relate.h - how commits stand to each other: common ancestors, distances, who reaches whom.
 *
 * Every answer is exact, also where the clocks of committers went wrong. Generations cut the walks off; what the graph
 * does not have yet has none and is walked as a whole.
 */
#ifndef STORAGE_GIT_HISTORY_RELATE_H
#define STORAGE_GIT_HISTORY_RELATE_H

#include "history/view.h"

/** The best common ancestors of @one and a merge of all of @others: git merge-base --all. Appends positions, the youngest
 * first. */
gboolean hist_merge_bases (HistView *view, guint32 one, const guint32 *others, gsize n, GArray *bases, GError **error);
/** The best ones that all @tips have in common: git merge-base --all --octopus. */
gboolean hist_octopus_bases (HistView *view, const guint32 *tips, gsize n, GArray *bases, GError **error);
/** Is @ancestor reached from @tip? A commit reaches itself. */
gboolean hist_is_ancestor (HistView *view, guint32 ancestor, guint32 tip, gboolean *ret_is, GError **error);
/** How many commits only @left reaches, and how many only @right. */
gboolean hist_ahead_behind (HistView *view, guint32 left, guint32 right, guint64 *ret_left, guint64 *ret_right,
                            GError **error);
/** How many commits are reached from @include and not from @exclude. */
gboolean hist_count (HistView *view, const guint32 *include, gsize n_include, const guint32 *exclude, gsize n_exclude,
                     guint64 *ret_count, GError **error);
/** Sets ret_contains[i]: does tips[i] reach @wanted? One walk for all. */
gboolean hist_containing (HistView *view, guint32 wanted, const guint32 *tips, gsize n, gboolean *ret_contains,
                          GError **error);

#endif
