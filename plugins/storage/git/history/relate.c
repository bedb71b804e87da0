/* SPDX-License-Identifier: Apache-2.0 */
/* How commits stand to each other: see relate.h. */
#include "history/relate.h"

enum
{
  LEFT = 1 << 0,
  RIGHT = 1 << 1,
  STALE = 1 << 2,  /* below a common ancestor */
  RESULT = 1 << 3,
  QUEUED = 1 << 4,
  COUNTED_LEFT = 1 << 5,
  COUNTED_RIGHT = 1 << 6,
  YES = 1 << 7,
  NO = 1 << 8,
  ON_STACK = 1 << 9, /* grafts can make circles */
  SIDES = LEFT | RIGHT
};

/**
 * A walk that paints commits from several tips down, children before parents. In the tail that holds only as far as the
 * dates are right, so a commit whose paint changes is queued again; below, in the graph, every commit comes once, with its
 * last paint. @open counts the queued ones whose paint can still change an answer.
 */
typedef struct
{
  HistView *view;
  HistQueue queue;
  guint32 done; /* with all of these flags a commit is of no more interest */
  gsize open;
} Paint;

static void
paint_init (Paint *paint, HistView *view, guint32 done)
{
  *paint = (Paint){ .view = view, .done = done };
  hist_queue_init (&paint->queue);
  hist_flags_reset (view);
}

static inline gboolean
is_open (const Paint *paint, guint32 flags)
{
  return (flags & paint->done) != paint->done;
}

static gboolean
paint_add (Paint *paint, guint32 pos, guint32 colour, GError **error)
{
  guint32 *flags = hist_flags (paint->view, pos), before = *flags;
  HistCommit commit;
  if ((before & colour) == colour)
    return TRUE;
  hist_flags_add (paint->view, pos, colour);
  if ((before & QUEUED) != 0)
    {
      paint->open -= is_open (paint, before) && !is_open (paint, *flags);
      return TRUE;
    }
  if (!hist_view_commit (paint->view, pos, &commit, error))
    return FALSE;
  *flags |= QUEUED;
  paint->open += is_open (paint, *flags);
  hist_queue_push (&paint->queue, pos, commit.generation, commit.date);
  return TRUE;
}

/* FALSE at the end or with @error. */
static gboolean
paint_next (Paint *paint, guint32 *ret_pos, HistCommit *ret_commit, GError **error)
{
  HistItem item;
  if (!hist_tick (paint->view, error) || !hist_queue_pop (&paint->queue, &item))
    return FALSE;
  guint32 *flags = hist_flags (paint->view, item.pos);
  *flags &= ~(guint32) QUEUED;
  paint->open -= is_open (paint, *flags);
  *ret_pos = item.pos;
  return hist_view_commit (paint->view, item.pos, ret_commit, error);
}

static gboolean
paint_parents (Paint *paint, const HistCommit *commit, guint32 colour, GError **error)
{
  for (guint32 i = 0; i < commit->n_parents; i++)
    if (!paint_add (paint, hist_parent (commit, i), colour, error))
      return FALSE;
  return TRUE;
}

/* Of the tail nothing is sure until it has all been walked. */
static gboolean
paint_settled (const Paint *paint)
{
  const HistItem *next = hist_queue_peek (&paint->queue);
  return paint->open == 0 && (next == NULL || next->key != HIST_INFINITY);
}

static gboolean
paint_end (Paint *paint, gboolean done)
{
  hist_queue_clear (&paint->queue);
  return done;
}

/* -------------------------------------------------------------------------------------- merge bases */

static gboolean
walk_bases (Paint *paint, GArray *found, GError **error)
{
  GError *failed = NULL;
  HistCommit commit;
  guint32 pos;
  /* A base is right whatever comes from stale ones; two in one line are told apart later. */
  while (paint->open > 0 && paint_next (paint, &pos, &commit, &failed))
    {
      guint32 *flags = hist_flags (paint->view, pos), colour = *flags & (SIDES | STALE);
      if (colour == SIDES)
        {
          if ((*flags & RESULT) == 0)
            {
              *flags |= RESULT;
              g_array_append_val (found, pos);
            }
          colour |= STALE;
        }
      if (!paint_parents (paint, &commit, colour, &failed))
        break;
    }
  if (failed == NULL)
    return TRUE;
  g_propagate_error (error, failed);
  return FALSE;
}

static gboolean
common (HistView *view, guint32 one, const guint32 *others, gsize n, GArray *found, GError **error)
{
  Paint paint;
  paint_init (&paint, view, STALE);
  gboolean done = paint_add (&paint, one, LEFT, error);
  for (gsize i = 0; i < n && done; i++)
    done = paint_add (&paint, others[i], RIGHT, error);
  done = done && walk_bases (&paint, found, error);
  for (guint i = found->len; done && i-- > 0;)
    if ((*hist_flags (view, g_array_index (found, guint32, i)) & STALE) != 0)
      g_array_remove_index (found, i);
  return paint_end (&paint, done);
}

/* In the graph the walk meets no commit before its descendants, so it has found out already. */
static gboolean
is_sure (const HistView *view, const GArray *found)
{
  for (guint i = 0; i < found->len; i++)
    if (!hist_in_graph (view, g_array_index (found, guint32, i)))
      return FALSE;
  return TRUE;
}

/* Removes those that another one reaches. */
static gboolean
reduce (HistView *view, GArray *found, GError **error)
{
  for (guint i = found->len; i-- > 0;)
    for (guint k = 0; k < found->len; k++)
      {
        gboolean is = FALSE;
        guint32 each = g_array_index (found, guint32, i), other = g_array_index (found, guint32, k);
        if (k != i && each != other && !hist_is_ancestor (view, each, other, &is, error))
          return FALSE;
        if (is || (k < i && each == other))
          {
            g_array_remove_index (found, i);
            break;
          }
      }
  return TRUE;
}

static gint
younger_first (gconstpointer a, gconstpointer b, gpointer user)
{
  HistCommit one, two;
  guint32 first = *(const guint32 *) a, second = *(const guint32 *) b;
  if (!hist_view_commit (user, first, &one, NULL) || !hist_view_commit (user, second, &two, NULL))
    return 0;
  return one.date != two.date ? (one.date < two.date ? 1 : -1) : memcmp (one.oid, two.oid, HIST_RAW);
}

gboolean
hist_merge_bases (HistView *view, guint32 one, const guint32 *others, gsize n, GArray *bases, GError **error)
{
  g_autoptr (GArray) found = g_array_new (FALSE, FALSE, sizeof (guint32));
  if (!common (view, one, others, n, found, error) || (!is_sure (view, found) && !reduce (view, found, error)))
    return FALSE;
  g_array_sort_with_data (found, younger_first, view);
  g_array_append_vals (bases, found->data, found->len);
  return TRUE;
}

gboolean
hist_octopus_bases (HistView *view, const guint32 *tips, gsize n, GArray *bases, GError **error)
{
  g_autoptr (GArray) at = g_array_new (FALSE, FALSE, sizeof (guint32));
  if (n > 0)
    g_array_append_val (at, tips[0]);
  for (gsize i = 1; i < n; i++)
    {
      g_autoptr (GArray) next = g_array_new (FALSE, FALSE, sizeof (guint32));
      for (guint k = 0; k < at->len; k++)
        if (!hist_merge_bases (view, g_array_index (at, guint32, k), &tips[i], 1, next, error))
          return FALSE;
      g_array_unref (at);
      at = g_steal_pointer (&next);
    }
  if (!reduce (view, at, error))
    return FALSE;
  g_array_sort_with_data (at, younger_first, view);
  g_array_append_vals (bases, at->data, at->len);
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- reaching */

/* From @pos down nothing can be @wanted. */
static inline gboolean
is_below (const HistView *view, guint32 pos, guint32 wanted, guint64 generation)
{
  if (!hist_in_graph (view, pos))
    return FALSE;
  return !hist_in_graph (view, wanted) || hist_graph_generation (view->graph, pos) <= generation;
}

gboolean
hist_is_ancestor (HistView *view, guint32 ancestor, guint32 tip, gboolean *ret_is, GError **error)
{
  gboolean contains;
  if (!hist_containing (view, ancestor, &tip, 1, &contains, error))
    return FALSE;
  *ret_is = contains;
  return TRUE;
}

typedef struct
{
  guint32 pos, next;
} Frame;

/* Depth first, each commit once, whoever asks: what is known of one stays known. */
static gboolean
search (HistView *view, guint32 wanted, guint64 generation, guint32 tip, GArray *stack, GError **error)
{
  Frame first = { tip, 0 };
  g_array_append_val (stack, first);
  while (stack->len > 0)
    {
      Frame *top = &g_array_index (stack, Frame, stack->len - 1);
      guint32 verdict = *hist_flags (view, top->pos) & (YES | NO), parent = HIST_NONE;
      HistCommit commit;
      if (verdict == 0 && top->pos == wanted)
        verdict = YES;
      else if (verdict == 0 && is_below (view, top->pos, wanted, generation))
        verdict = NO;
      if (!hist_tick (view, error) || (verdict == 0 && !hist_view_commit (view, top->pos, &commit, error)))
        return FALSE;
      while (verdict == 0 && parent == HIST_NONE)
        {
          guint32 known;
          if (top->next >= commit.n_parents)
            {
              verdict = NO;
              break;
            }
          parent = hist_parent (&commit, top->next);
          known = *hist_flags (view, parent);
          if ((known & YES) != 0)
            verdict = YES;
          else if ((known & (NO | ON_STACK)) != 0)
            {
              top->next++;
              parent = HIST_NONE;
            }
        }
      if (verdict != 0)
        {
          hist_flags_add (view, top->pos, verdict);
          g_array_set_size (stack, stack->len - 1);
          continue;
        }
      Frame next = { parent, 0 };
      hist_flags_add (view, parent, ON_STACK);
      g_array_append_val (stack, next);
    }
  return TRUE;
}

gboolean
hist_containing (HistView *view, guint32 wanted, const guint32 *tips, gsize n, gboolean *ret_contains, GError **error)
{
  g_autoptr (GArray) stack = g_array_new (FALSE, FALSE, sizeof (Frame));
  guint64 generation
      = hist_in_graph (view, wanted) ? hist_graph_generation (view->graph, wanted) : HIST_INFINITY;
  hist_flags_reset (view);
  for (gsize i = 0; i < n; i++)
    {
      if ((*hist_flags (view, tips[i]) & (YES | NO)) == 0 && !search (view, wanted, generation, tips[i], stack, error))
        return FALSE;
      ret_contains[i] = (*hist_flags (view, tips[i]) & YES) != 0;
    }
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- counting */

/* Counts what has only the one or only the other paint; what was counted too early is taken back. */
static gboolean
count_sides (Paint *paint, guint64 *left, guint64 *right, GError **error)
{
  GError *failed = NULL;
  HistCommit commit;
  guint32 pos;
  while (!paint_settled (paint) && paint_next (paint, &pos, &commit, &failed))
    {
      guint32 *flags = hist_flags (paint->view, pos), colour = *flags & SIDES;
      guint32 counted = colour == LEFT ? COUNTED_LEFT : colour == RIGHT ? COUNTED_RIGHT : 0;
      *left += (counted == COUNTED_LEFT) - (guint64) ((*flags & COUNTED_LEFT) != 0);
      *right += (counted == COUNTED_RIGHT) - (guint64) ((*flags & COUNTED_RIGHT) != 0);
      *flags = (*flags & ~(guint32) (COUNTED_LEFT | COUNTED_RIGHT)) | counted;
      if (!paint_parents (paint, &commit, colour, &failed))
        break;
    }
  if (failed == NULL)
    return TRUE;
  g_propagate_error (error, failed);
  return FALSE;
}

gboolean
hist_ahead_behind (HistView *view, guint32 left, guint32 right, guint64 *ret_left, guint64 *ret_right, GError **error)
{
  guint64 ahead = 0, behind = 0;
  Paint paint;
  paint_init (&paint, view, SIDES);
  gboolean done = paint_add (&paint, left, LEFT, error) && paint_add (&paint, right, RIGHT, error)
                  && count_sides (&paint, &ahead, &behind, error);
  if (!paint_end (&paint, done))
    return FALSE;
  *ret_left = ahead;
  *ret_right = behind;
  return TRUE;
}

/* Nothing is left out, so the order does not matter. */
static gboolean
count_all (HistView *view, const guint32 *include, gsize n, guint64 *ret_count, GError **error)
{
  g_autoptr (GArray) stack = g_array_new (FALSE, FALSE, sizeof (guint32));
  guint64 count = 0;
  hist_flags_reset (view);
  for (gsize i = 0; i < n; i++)
    {
      gboolean is_new = *hist_flags (view, include[i]) == 0;
      if (is_new)
        {
          hist_flags_add (view, include[i], LEFT);
          g_array_append_val (stack, include[i]);
        }
    }
  while (stack->len > 0)
    {
      HistCommit commit;
      guint32 pos = g_array_index (stack, guint32, stack->len - 1);
      g_array_set_size (stack, stack->len - 1);
      if (!hist_tick (view, error) || !hist_view_commit (view, pos, &commit, error))
        return FALSE;
      count++;
      for (guint32 i = 0; i < commit.n_parents; i++)
        {
          guint32 parent = hist_parent (&commit, i);
          if (*hist_flags (view, parent) != 0)
            continue;
          hist_flags_add (view, parent, LEFT);
          g_array_append_val (stack, parent);
        }
    }
  *ret_count = count;
  return TRUE;
}

gboolean
hist_count (HistView *view, const guint32 *include, gsize n_include, const guint32 *exclude, gsize n_exclude,
            guint64 *ret_count, GError **error)
{
  guint64 count = 0, other = 0;
  Paint paint;
  if (n_exclude == 0)
    return count_all (view, include, n_include, ret_count, error);
  paint_init (&paint, view, RIGHT);
  gboolean done = TRUE;
  for (gsize i = 0; i < n_exclude && done; i++)
    done = paint_add (&paint, exclude[i], RIGHT, error);
  for (gsize i = 0; i < n_include && done; i++)
    done = paint_add (&paint, include[i], LEFT, error);
  done = done && count_sides (&paint, &count, &other, error);
  if (!paint_end (&paint, done))
    return FALSE;
  *ret_count = count;
  return TRUE;
}
