/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listing commits: see walk.h.
 *
 * What a limited history looks like is not defined by a formula but by what git's walk does, clock skew and all. So
 * this walk takes the same decisions at the same moments: which commits are known to be excluded when a merge is
 * looked at, and when it has seen enough.
 */
#include "history/walk.h"

#include "encoding.h"

#define SLOP 5 /* commits that a limited walk goes on after nothing of interest is left */
#define KEPT_SHIFT 16

enum
{
  SEEN = 1 << 0,
  EXCLUDED = 1 << 1,
  ADDED = 1 << 2,    /* its parents were looked at */
  SAME = 1 << 3,     /* nothing changed at the paths */
  BOTTOM = 1 << 4,   /* excluded by name */
  READ = 1 << 5,     /* its parents are known */
  QUEUED = 1 << 6,
  EXPLORED = 1 << 7,
  INDEGREE = 1 << 8
  /* From KEPT_SHIFT on: the one parent that the simplified history keeps, plus one. */
};

struct HistWalk
{
  HistView *view;
  const HistWalkSpec *spec;
  HistQueue queue;      /* by date */
  gsize interesting;    /* in @queue, not excluded */
  gboolean listed;      /* @list is the answer */
  GArray *list;
  guint list_at;

  gboolean topo;        /* walk as needed; below */
  HistQueue explore, indegree, ready;
  GArray *stack;        /* instead of @ready for HIST_ORDER_TOPO */
  guint64 floor;        /* indegrees are known down to this generation */
  GHashTable *author_dates;
};

/* ------------------------------------------------------------------------------------------ flags */

static inline guint32 *
flags_of (HistWalk *walk, guint32 pos)
{
  return hist_flags (walk->view, pos);
}

static void
exclude (HistWalk *walk, guint32 pos)
{
  guint32 *flags = flags_of (walk, pos);
  walk->interesting -= (*flags & (QUEUED | EXCLUDED)) == QUEUED;
  *flags |= EXCLUDED;
}

static inline gboolean
is_relevant (guint32 flags)
{
  return (flags & (EXCLUDED | BOTTOM)) != EXCLUDED;
}

static gboolean
get (HistWalk *walk, guint32 pos, HistCommit *ret_commit, GError **error)
{
  if (!hist_view_commit (walk->view, pos, ret_commit, error))
    return FALSE;
  *flags_of (walk, pos) |= READ;
  return TRUE;
}

/* Its parents in the simplified history. */
static guint32
n_parents (HistWalk *walk, guint32 pos, const HistCommit *commit)
{
  return *flags_of (walk, pos) >> KEPT_SHIFT != 0 ? 1 : commit->n_parents;
}

static guint32
nth_parent (HistWalk *walk, guint32 pos, const HistCommit *commit, guint32 nth)
{
  guint32 kept = *flags_of (walk, pos) >> KEPT_SHIFT;
  return hist_parent (commit, kept != 0 ? kept - 1 : nth);
}

/* The parents, and theirs as far as they are known: whoever is not is marked when it is met. */
static gboolean
exclude_parents (HistWalk *walk, guint32 pos, GError **error)
{
  g_autoptr (GArray) pending = g_array_new (FALSE, FALSE, sizeof (guint32));
  g_array_append_val (pending, pos);
  for (gboolean first = TRUE; pending->len > 0; first = FALSE)
    {
      guint32 at = g_array_index (pending, guint32, pending->len - 1);
      HistCommit commit;
      g_array_set_size (pending, pending->len - 1);
      if (!first && (*flags_of (walk, at) & EXCLUDED) != 0)
        continue;
      if (!first)
        exclude (walk, at);
      if ((*flags_of (walk, at) & READ) == 0)
        continue;
      if (!hist_tick (walk->view, error) || !hist_view_commit (walk->view, at, &commit, error))
        return FALSE;
      for (guint32 i = 0; i < n_parents (walk, at, &commit); i++)
        {
          guint32 parent = nth_parent (walk, at, &commit, i);
          g_array_append_val (pending, parent);
        }
    }
  return TRUE;
}

/* ---------------------------------------------------------------------------------- simplification */

/* Follow the first parent that has the same at the paths; a commit that differs from all of them is shown. */
static gboolean
simplify (HistWalk *walk, guint32 pos, const HistCommit *commit, GError **error)
{
  guint32 *flags = flags_of (walk, pos);
  guint relevant = 0, relevant_changes = 0, other_changes = 0;
  HistCommit parent;
  if (commit->n_parents == 0)
    {
      gboolean empty;
      if (!hist_paths_empty (walk->spec->paths, pos, &empty, error))
        return FALSE;
      *flags |= empty ? SAME : 0;
      return TRUE;
    }
  for (guint32 i = 0; i < commit->n_parents; i++)
    {
      guint32 at = hist_parent (commit, i);
      gboolean matters = is_relevant (*flags_of (walk, at)), same;
      relevant += matters;
      if (i == 1 && walk->spec->first_parent)
        break;
      if (!get (walk, at, &parent, error) || !hist_paths_same (walk->spec->paths, pos, at, i, &same, error))
        return FALSE;
      if (same && matters && i + 1 < 1u << KEPT_SHIFT)
        {
          *flags |= SAME | (i + 1) << KEPT_SHIFT;
          return TRUE;
        }
      if (!same)
        {
          relevant_changes += matters;
          other_changes += !matters;
        }
    }
  if (relevant > 0 ? relevant_changes == 0 : other_changes == 0)
    *flags |= SAME;
  return TRUE;
}

typedef void (*Put) (HistWalk *walk, guint32 pos, const HistCommit *commit);

static void
put_by_date (HistWalk *walk, guint32 pos, const HistCommit *commit)
{
  guint32 *flags = flags_of (walk, pos);
  *flags |= QUEUED;
  walk->interesting += (*flags & EXCLUDED) == 0;
  hist_queue_push (&walk->queue, pos, commit->date, 0);
}

static void
put_explore (HistWalk *walk, guint32 pos, const HistCommit *commit)
{
  hist_queue_push (&walk->explore, pos, commit->generation, commit->date);
}

/* Once per commit: hands its exclusion on or simplifies, and puts parents not seen before where @put says (may be
 * NULL). */
static gboolean
visit_parents (HistWalk *walk, guint32 pos, const HistCommit *commit, Put put, GError **error)
{
  guint32 *flags = flags_of (walk, pos);
  HistCommit parent;
  if ((*flags & ADDED) != 0)
    return TRUE;
  *flags |= ADDED;
  gboolean excluded = (*flags & EXCLUDED) != 0;
  if (!excluded && walk->spec->paths != NULL && !simplify (walk, pos, commit, error))
    return FALSE;
  for (guint32 i = 0; i < n_parents (walk, pos, commit); i++)
    {
      guint32 at = nth_parent (walk, pos, commit, i);
      if (excluded)
        exclude (walk, at);
      if (!get (walk, at, &parent, error) || (excluded && !exclude_parents (walk, at, error)))
        return FALSE;
      if ((*flags_of (walk, at) & SEEN) == 0)
        {
          *flags_of (walk, at) |= SEEN;
          if (put != NULL)
            put (walk, at, &parent);
        }
      if (!excluded && walk->spec->first_parent)
        break;
    }
  return TRUE;
}

/* ----------------------------------------------------------------------------------- walks with ends */

static gboolean
pop_by_date (HistWalk *walk, guint32 *ret_pos)
{
  HistItem item;
  if (!hist_queue_pop (&walk->queue, &item))
    return FALSE;
  guint32 *flags = flags_of (walk, item.pos);
  walk->interesting -= (*flags & EXCLUDED) == 0;
  *flags &= ~(guint32) QUEUED;
  *ret_pos = item.pos;
  return TRUE;
}

/* How many more to look at: as long as something may still turn out to be excluded. */
static int
slop_left (const HistWalk *walk, guint64 date, int slop)
{
  const HistItem *next = hist_queue_peek (&walk->queue);
  if (next == NULL)
    return 0;
  return date <= next->key || walk->interesting > 0 ? SLOP : slop - 1;
}

static gboolean
limit (HistWalk *walk, GError **error)
{
  const HistWalkSpec *spec = walk->spec;
  guint64 date = G_MAXUINT64;
  int slop = SLOP;
  guint32 pos;
  walk->listed = TRUE;
  while (pop_by_date (walk, &pos))
    {
      HistCommit commit;
      if (!hist_tick (walk->view, error) || !get (walk, pos, &commit, error))
        return FALSE;
      if (spec->has_since && commit.date < spec->since)
        exclude (walk, pos);
      if (!visit_parents (walk, pos, &commit, put_by_date, error))
        return FALSE;
      if ((*flags_of (walk, pos) & EXCLUDED) != 0)
        {
          if (!exclude_parents (walk, pos, error))
            return FALSE;
          slop = slop_left (walk, date, slop);
          if (slop == 0)
            break;
          continue;
        }
      if (spec->has_until && commit.date > spec->until)
        continue;
      date = commit.date;
      g_array_append_val (walk->list, pos);
    }
  return TRUE;
}

/* --------------------------------------------------------------------------------------- topologically */

static gboolean
author_date (HistWalk *walk, guint32 pos, guint64 *ret_date, GError **error)
{
  gpointer known;
  GBytes *bytes;
  gsize len;
  guint64 date = 0;
  if (g_hash_table_lookup_extended (walk->author_dates, GUINT_TO_POINTER (pos), NULL, &known))
    {
      *ret_date = GPOINTER_TO_SIZE (known);
      return TRUE;
    }
  if (!hist_view_text (walk->view, pos, &bytes, error))
    return FALSE;
  const char *data = g_bytes_get_data (bytes, &len), *end = data + len;
  for (const char *at = data; at < end && *at != '\n';)
    {
      const char *newline = memchr (at, '\n', (gsize) (end - at));
      if (newline == NULL)
        break;
      const char *bracket
          = newline - at > 7 && memcmp (at, "author ", 7) == 0 ? memrchr (at, '>', (gsize) (newline - at)) : NULL;
      if (bracket != NULL)
        {
          date = g_ascii_strtoull (bracket + 1, NULL, 10);
          break;
        }
      at = newline + 1;
    }
  g_bytes_unref (bytes);
  g_hash_table_insert (walk->author_dates, GUINT_TO_POINTER (pos), GSIZE_TO_POINTER ((gsize) date));
  *ret_date = date;
  return TRUE;
}

/* All its children were given: it may come next. */
static gboolean
put_ready (HistWalk *walk, guint32 pos, GError **error)
{
  HistCommit commit;
  guint64 date;
  if (walk->spec->order == HIST_ORDER_TOPO)
    {
      g_array_append_val (walk->stack, pos);
      return TRUE;
    }
  if (!hist_view_commit (walk->view, pos, &commit, error))
    return FALSE;
  date = commit.date;
  if (walk->spec->order == HIST_ORDER_AUTHOR_DATE && !author_date (walk, pos, &date, error))
    return FALSE;
  hist_queue_push (&walk->ready, pos, date, 0);
  return TRUE;
}

static gboolean
pop_ready (HistWalk *walk, guint32 *ret_pos)
{
  HistItem item;
  if (walk->spec->order == HIST_ORDER_TOPO)
    {
      if (walk->stack->len == 0)
        return FALSE;
      *ret_pos = g_array_index (walk->stack, guint32, walk->stack->len - 1);
      g_array_set_size (walk->stack, walk->stack->len - 1);
      return TRUE;
    }
  if (!hist_queue_pop (&walk->ready, &item))
    return FALSE;
  *ret_pos = item.pos;
  return TRUE;
}

/* The first tip is to come first. */
static void
turn_stack (HistWalk *walk)
{
  guint32 *items = (guint32 *) (gpointer) walk->stack->data;
  for (guint i = 0, k = walk->stack->len; i + 1 < k; i++)
    {
      guint32 other = items[--k];
      items[k] = items[i];
      items[i] = other;
    }
}

/* Sorts the finished list. A mark is the number of children in it plus one. */
static gboolean
sort_list (HistWalk *walk, GError **error)
{
  g_autoptr (GArray) sorted = g_array_sized_new (FALSE, FALSE, sizeof (guint32), walk->list->len);
  HistCommit commit;
  guint32 pos;
  for (guint i = 0; i < walk->list->len; i++)
    *hist_mark (walk->view, g_array_index (walk->list, guint32, i)) = 1;
  for (guint i = 0; i < walk->list->len; i++)
    {
      pos = g_array_index (walk->list, guint32, i);
      if (!hist_view_commit (walk->view, pos, &commit, error))
        return FALSE;
      for (guint32 k = 0; k < n_parents (walk, pos, &commit); k++)
        {
          guint32 *mark = hist_mark (walk->view, nth_parent (walk, pos, &commit, k));
          *mark += *mark != 0;
        }
    }
  for (guint i = 0; i < walk->list->len; i++)
    {
      pos = g_array_index (walk->list, guint32, i);
      if (*hist_mark (walk->view, pos) == 1 && !put_ready (walk, pos, error))
        return FALSE;
    }
  turn_stack (walk);
  while (pop_ready (walk, &pos))
    {
      if (!hist_tick (walk->view, error) || !hist_view_commit (walk->view, pos, &commit, error))
        return FALSE;
      for (guint32 k = 0; k < n_parents (walk, pos, &commit); k++)
        {
          guint32 at = nth_parent (walk, pos, &commit, k), *mark = hist_mark (walk->view, at);
          if (*mark != 0 && --*mark == 1 && !put_ready (walk, at, error))
            return FALSE;
        }
      *hist_mark (walk->view, pos) = 0;
      g_array_append_val (sorted, pos);
    }
  g_array_unref (walk->list);
  walk->list = g_steal_pointer (&sorted);
  return TRUE;
}

/* ------------------------------------------------------------------------- topologically, as needed */

static gboolean
explore_to (HistWalk *walk, guint64 generation, GError **error)
{
  const HistItem *next;
  HistItem item;
  HistCommit commit;
  while ((next = hist_queue_peek (&walk->explore)) != NULL && next->key >= generation)
    {
      hist_queue_pop (&walk->explore, &item);
      if (!hist_tick (walk->view, error) || !get (walk, item.pos, &commit, error))
        return FALSE;
      if (walk->spec->has_since && commit.date < walk->spec->since)
        exclude (walk, item.pos);
      if (!visit_parents (walk, item.pos, &commit, put_explore, error)
          || ((*flags_of (walk, item.pos) & EXCLUDED) != 0 && !exclude_parents (walk, item.pos, error)))
        return FALSE;
    }
  return TRUE;
}

static gboolean
count_to (HistWalk *walk, guint64 generation, GError **error)
{
  const HistItem *next;
  HistItem item;
  HistCommit commit, parent;
  while ((next = hist_queue_peek (&walk->indegree)) != NULL && next->key >= generation)
    {
      hist_queue_pop (&walk->indegree, &item);
      if (!hist_tick (walk->view, error) || !get (walk, item.pos, &commit, error)
          || !explore_to (walk, commit.generation, error))
        return FALSE;
      for (guint32 i = 0; i < n_parents (walk, item.pos, &commit); i++)
        {
          guint32 at = nth_parent (walk, item.pos, &commit, i), *mark = hist_mark (walk->view, at);
          if (!get (walk, at, &parent, error))
            return FALSE;
          *mark = *mark != 0 ? *mark + 1 : 2;
          if ((*flags_of (walk, at) & INDEGREE) == 0)
            {
              *flags_of (walk, at) |= INDEGREE;
              hist_queue_push (&walk->indegree, at, parent.generation, parent.date);
            }
          if (walk->spec->first_parent)
            break;
        }
    }
  return TRUE;
}

static gboolean
topo_begin (HistWalk *walk, const GArray *tips, GError **error)
{
  walk->topo = TRUE;
  walk->floor = HIST_INFINITY;
  for (guint i = 0; i < tips->len; i++)
    {
      guint32 pos = g_array_index (tips, guint32, i);
      HistCommit commit;
      if (!get (walk, pos, &commit, error))
        return FALSE;
      *flags_of (walk, pos) |= EXPLORED | INDEGREE;
      hist_queue_push (&walk->explore, pos, commit.generation, commit.date);
      hist_queue_push (&walk->indegree, pos, commit.generation, commit.date);
      walk->floor = MIN (walk->floor, commit.generation);
      *hist_mark (walk->view, pos) = 1;
    }
  if (!count_to (walk, walk->floor, error))
    return FALSE;
  for (guint i = 0; i < tips->len; i++)
    {
      guint32 pos = g_array_index (tips, guint32, i);
      if (*hist_mark (walk->view, pos) == 1 && !put_ready (walk, pos, error))
        return FALSE;
    }
  turn_stack (walk);
  return TRUE;
}

static gboolean
topo_expand (HistWalk *walk, guint32 pos, const HistCommit *commit, GError **error)
{
  if (!visit_parents (walk, pos, commit, NULL, error))
    return FALSE;
  for (guint32 i = 0; i < n_parents (walk, pos, commit); i++)
    {
      guint32 at = nth_parent (walk, pos, commit, i);
      HistCommit parent;
      if ((*flags_of (walk, at) & EXCLUDED) != 0)
        continue;
      if (!get (walk, at, &parent, error))
        return FALSE;
      if (parent.generation < walk->floor)
        {
          walk->floor = parent.generation;
          if (!count_to (walk, walk->floor, error))
            return FALSE;
        }
      if (--*hist_mark (walk->view, at) == 1 && !put_ready (walk, at, error))
        return FALSE;
      if (walk->spec->first_parent)
        break;
    }
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ filters */

/* *full*. A message may have megabytes: each of its bytes is lowered once, and then the search is linear. */
static char *
lowered (const char *data, gsize len)
{
  char *lower = g_malloc (len + 1);
  for (gsize i = 0; i < len; i++)
    lower[i] = g_ascii_tolower (data[i]);
  return lower;
}

/* With @ignore_case the texts are in lower case already. */
static gboolean
find_any (const char *data, gsize len, const HistText *texts, gsize n, gboolean all, gboolean ignore_case)
{
  g_autofree char *lower = ignore_case && n > 0 ? lowered (data, len) : NULL;
  gsize found = 0;
  for (gsize i = 0; i < n; i++)
    found += memmem (lower != NULL ? lower : data, len, texts[i].text, texts[i].len) != NULL;
  return n == 0 || (all ? found == n : found > 0);
}

static gboolean
find_person (const char *data, const char *end, const char *field, const HistText *texts, gsize n, gboolean ignore_case)
{
  gsize field_len = strlen (field);
  if (n == 0)
    return TRUE;
  for (const char *at = data; at < end && *at != '\n';)
    {
      const char *newline = memchr (at, '\n', (gsize) (end - at));
      if (newline == NULL)
        return FALSE;
      if ((gsize) (newline - at) > field_len && memcmp (at, field, field_len) == 0)
        {
          const char *bracket = memrchr (at, '>', (gsize) (newline - at)),
                     *stop = bracket != NULL ? bracket + 1 : newline;
          return stop > at + field_len
                 && find_any (at + field_len, (gsize) (stop - at) - field_len, texts, n, FALSE, ignore_case);
        }
      at = newline + 1;
    }
  return FALSE;
}

/* The whole commit as UTF-8, *full*; NULL when it is, or cannot be brought to it. */
static char *
as_utf8 (const char *data, gsize len, gsize *ret_len)
{
  static const char field[] = "\nencoding ";
  const char *blank = memmem (data, len, "\n\n", 2);
  gsize head = blank != NULL ? (gsize) (blank + 1 - data) : len;
  const char *found = memmem (data, head, field, sizeof field - 1), *name = found != NULL ? found + sizeof field - 1 : NULL;
  const char *stop = name != NULL ? memchr (name, '\n', (gsize) (data + head - name)) : NULL;
  return stop != NULL ? encoding_to_utf8 (name, (gsize) (stop - name), data, len, ret_len) : NULL;
}

static gboolean
text_matches (const HistWalkSpec *spec, GBytes *bytes)
{
  gsize len;
  const char *data = g_bytes_get_data (bytes, &len);
  g_autofree char *plain = as_utf8 (data, len, &len);
  data = plain != NULL ? plain : data;
  const char *end = data + len;
  const char *blank = memmem (data, len, "\n\n", 2), *message = blank != NULL ? blank + 2 : end;
  return find_person (data, end, "author ", spec->author, spec->n_author, spec->ignore_case)
         && find_person (data, end, "committer ", spec->committer, spec->n_committer, spec->ignore_case)
         && find_any (message, (gsize) (end - message), spec->message, spec->n_message, spec->all_messages,
                      spec->ignore_case);
}

/* Is it shown? */
static gboolean
is_wanted (HistWalk *walk, guint32 pos, const HistCommit *commit, gboolean *ret_wanted, GError **error)
{
  const HistWalkSpec *spec = walk->spec;
  guint32 flags = *flags_of (walk, pos), parents = n_parents (walk, pos, commit);
  GBytes *bytes;
  *ret_wanted = FALSE;
  if ((flags & EXCLUDED) != 0 || (spec->paths != NULL && (flags & SAME) != 0)
      || (spec->has_until && commit->date > spec->until) || parents < spec->min_parents || parents > spec->max_parents)
    return TRUE;
  if (spec->n_author + spec->n_committer + spec->n_message > 0)
    {
      if (!hist_view_text (walk->view, pos, &bytes, error))
        return FALSE;
      *ret_wanted = text_matches (spec, bytes);
      g_bytes_unref (bytes);
      return TRUE;
    }
  *ret_wanted = TRUE;
  return TRUE;
}

/* ------------------------------------------------------------------------------------ begin and step */

static gint
older_last (gconstpointer a, gconstpointer b, gpointer user)
{
  HistCommit one, two;
  if (!hist_view_commit (user, *(const guint32 *) a, &one, NULL)
      || !hist_view_commit (user, *(const guint32 *) b, &two, NULL))
    return 0;
  return one.date < two.date ? 1 : one.date > two.date ? -1 : 0;
}

static gboolean
take_tips (HistWalk *walk, GArray *tips, GError **error)
{
  const HistWalkSpec *spec = walk->spec;
  HistCommit commit;
  for (gsize i = 0; i < spec->n_exclude; i++)
    *flags_of (walk, spec->exclude[i]) |= EXCLUDED | BOTTOM;
  for (gsize i = 0; i < spec->n_include + spec->n_exclude; i++)
    {
      guint32 pos = i < spec->n_include ? spec->include[i] : spec->exclude[i - spec->n_include];
      if (!get (walk, pos, &commit, error))
        return FALSE;
      if ((*flags_of (walk, pos) & EXCLUDED) != 0 && !exclude_parents (walk, pos, error))
        return FALSE;
      if ((*flags_of (walk, pos) & SEEN) == 0)
        {
          *flags_of (walk, pos) |= SEEN;
          g_array_append_val (tips, pos);
        }
    }
  g_array_sort_with_data (tips, older_last, walk->view);
  return TRUE;
}

static gboolean
begin (HistWalk *walk, GError **error)
{
  g_autoptr (GArray) tips = g_array_new (FALSE, FALSE, sizeof (guint32));
  gboolean topo = walk->spec->order != HIST_ORDER_DATE, levels = walk->view->graph != NULL;
  if (!take_tips (walk, tips, error))
    return FALSE;
  if (topo && levels)
    return topo_begin (walk, tips, error);
  for (guint i = 0; i < tips->len; i++)
    {
      HistCommit commit;
      guint32 pos = g_array_index (tips, guint32, i);
      if (!get (walk, pos, &commit, error))
        return FALSE;
      put_by_date (walk, pos, &commit);
    }
  if (topo || walk->spec->n_exclude > 0)
    return limit (walk, error) && (!topo || sort_list (walk, error));
  return TRUE;
}

HistWalk *
hist_walk_new (HistView *view, const HistWalkSpec *spec, GError **error)
{
  HistWalk *walk = g_new0 (HistWalk, 1);
  walk->view = view;
  walk->spec = spec;
  walk->list = g_array_new (FALSE, FALSE, sizeof (guint32));
  walk->stack = g_array_new (FALSE, FALSE, sizeof (guint32));
  walk->author_dates = g_hash_table_new (NULL, NULL);
  hist_queue_init (&walk->queue);
  hist_queue_init (&walk->explore);
  hist_queue_init (&walk->indegree);
  hist_queue_init (&walk->ready);
  if (begin (walk, error))
    return walk;
  hist_walk_free (walk);
  return NULL;
}

void
hist_walk_free (HistWalk *walk)
{
  g_array_unref (walk->list);
  g_array_unref (walk->stack);
  g_hash_table_unref (walk->author_dates);
  hist_queue_clear (&walk->queue);
  hist_queue_clear (&walk->explore);
  hist_queue_clear (&walk->indegree);
  hist_queue_clear (&walk->ready);
  g_free (walk);
}

static gboolean
step (HistWalk *walk, guint32 *ret_pos)
{
  if (walk->listed)
    {
      if (walk->list_at >= walk->list->len)
        return FALSE;
      *ret_pos = g_array_index (walk->list, guint32, walk->list_at++);
      return TRUE;
    }
  if (!walk->topo)
    return pop_by_date (walk, ret_pos);
  if (!pop_ready (walk, ret_pos))
    return FALSE;
  *hist_mark (walk->view, *ret_pos) = 0;
  return TRUE;
}

gboolean
hist_walk_next (HistWalk *walk, guint32 *ret_pos, GError **error)
{
  const HistWalkSpec *spec = walk->spec;
  guint32 pos;
  while (step (walk, &pos))
    {
      HistCommit commit;
      gboolean wanted;
      if (!hist_tick (walk->view, error) || !get (walk, pos, &commit, error))
        return FALSE;
      if (!walk->listed)
        {
          if (spec->has_since && commit.date < spec->since)
            continue;
          if (!(walk->topo ? topo_expand (walk, pos, &commit, error)
                           : visit_parents (walk, pos, &commit, put_by_date, error)))
            return FALSE;
        }
      if (!is_wanted (walk, pos, &commit, &wanted, error))
        return FALSE;
      if (wanted)
        {
          *ret_pos = pos;
          return TRUE;
        }
    }
  return FALSE;
}
