/* SPDX-License-Identifier: Apache-2.0 */
/**
 * walk.h - listing commits as git log lists them: the same commits in the same order.
 */
#ifndef STORAGE_GIT_HISTORY_WALK_H
#define STORAGE_GIT_HISTORY_WALK_H

#include "history/trees.h"

typedef enum
{
  HIST_ORDER_DATE,        /* git log's default: by committer's date, as the walk meets them */
  HIST_ORDER_TOPO,        /* children first, lines of history together: --topo-order */
  HIST_ORDER_DATE_TOPO,   /* children first, else by committer's date: --date-order */
  HIST_ORDER_AUTHOR_DATE  /* children first, else by author's date: --author-date-order */
} HistOrder;

/** Text to look for: plain bytes, none of them a newline. */
typedef struct
{
  const char *text;
  gsize len;
} HistText;

typedef struct
{
  const guint32 *include, *exclude;
  gsize n_include, n_exclude;
  HistOrder order;
  gboolean first_parent;
  gboolean has_since, has_until;
  guint64 since, until; /* committer's date, seconds; both inclusive */
  guint32 min_parents, max_parents; /* max 0xffffffff = any */
  HistPaths *paths;     /* NULL = all; borrowed */
  const HistText *author, *committer, *message; /* any one of each must be found */
  gsize n_author, n_committer, n_message;
  gboolean all_messages; /* all of @message must be found */
  gboolean ignore_case;  /* of ASCII letters; the texts are in lower case then */
} HistWalkSpec;

typedef struct HistWalk HistWalk;

/** @spec and what it points to is borrowed until the walk is freed. The view's flags are the walk's. */
HistWalk *hist_walk_new (HistView *view, const HistWalkSpec *spec, GError **error);
void hist_walk_free (HistWalk *walk);
/** FALSE at the end (*@error unset) or on failure. */
gboolean hist_walk_next (HistWalk *walk, guint32 *ret_pos, GError **error);

#endif
