/* SPDX-License-Identifier: Apache-2.0 */
/* The commits of a repository for one call: see view.h. */
#include "history/view.h"

#include "disk.h"
#include "fsutil.h"

#include <sys/stat.h>

#define SEGMENT 4096u
#define ARENA_BLOCK 16384u
#define OPEN_TRIES 5u
#define SIDE_FILE_MAX (64u << 20) /* grafts, shallow */

/* A commit that the graph does not have. */
struct HistTail
{
  guint8 oid[HIST_RAW], tree[HIST_RAW];
  gboolean read;
  guint64 date;
  guint32 n_parents;
  const guint32 *parents;
  guint32 flags, mark;
};

/* What was read of a commit: it never changes, so it is never stale. */
typedef struct
{
  guint8 oid[HIST_RAW], tree[HIST_RAW];
  guint64 date;
  guint32 n_parents;
  guint8 parents[];
} Fact;

typedef struct
{
  guint64 inode, size;
  gint64 sec, nsec;
} Stamp;

struct HistStore
{
  Storage *storage;
  GsMutex lock;
  gboolean opened, damaged;
  Stamp stamps[2]; /* of the graph's two files */
  HistGraph *graph;
  GHashTable *facts; /* raw id -> Fact */
};

/* ------------------------------------------------------------------------------------------- store */

static guint
raw_hash (gconstpointer raw)
{
  guint hash;
  memcpy (&hash, raw, sizeof hash);
  return hash;
}

static gboolean
raw_equal (gconstpointer a, gconstpointer b)
{
  return memcmp (a, b, HIST_RAW) == 0;
}

HistStore *
hist_store_new (Storage *storage)
{
  HistStore *store = g_new0 (HistStore, 1);
  store->storage = storage;
  gs_mutex_init (&store->lock);
  store->facts = g_hash_table_new_full (raw_hash, raw_equal, NULL, g_free);
  return store;
}

/* Under the lock. */
static void
forget_facts (HistStore *store)
{
  g_atomic_int_add (&store->storage->history_facts, -(gint) g_hash_table_size (store->facts));
  g_hash_table_remove_all (store->facts);
}

/* Takes @fact. */
static void
remember (HistStore *store, Fact *fact)
{
  gboolean kept = g_atomic_int_add (&store->storage->history_facts, 1) < HIST_FACTS_ALL;
  gs_mutex_lock (&store->lock);
  kept = kept && g_hash_table_size (store->facts) < HIST_FACTS_MAX && !g_hash_table_contains (store->facts, fact->oid);
  if (kept)
    g_hash_table_insert (store->facts, fact->oid, fact);
  gs_mutex_unlock (&store->lock);
  if (kept)
    return;
  g_atomic_int_add (&store->storage->history_facts, -1);
  g_free (fact);
}

void
hist_store_free (HistStore *store)
{
  forget_facts (store);
  if (store->graph != NULL)
    hist_graph_unref (store->graph);
  g_hash_table_unref (store->facts);
  gs_mutex_clear (&store->lock);
  g_free (store);
}

static Stamp
stamp_of (const char *objects, const char *name)
{
  g_autofree char *path = g_strconcat (objects, name, NULL);
  struct stat st;
  if (stat (path, &st) != 0)
    return (Stamp){ 0 };
  return (Stamp){ st.st_ino, (guint64) st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec };
}

static void
log_ignored (const Repo *repo, const char *why)
{
  const GsField fields[] = { GS_TEXT ("replica", repo->path), GS_TEXT ("reason", why) };
  repo->storage->host->log (repo->storage->host, GS_LOG_WARNING, "storage.history.graph-ignored", fields,
                            G_N_ELEMENTS (fields));
}

static void
take_stamps (const Repo *repo, Stamp stamps[2])
{
  stamps[0] = stamp_of (repo->objects, "/info/commit-graph");
  stamps[1] = stamp_of (repo->objects, "/info/commit-graphs/commit-graph-chain");
}

/* A git process beside us may take layers away between our look at the list and at them: then the list has changed, too. */
static HistGraph *
open_graph (const Repo *repo, const HistGraph *before, Stamp stamps[2], char **ret_why)
{
  for (guint i = 0;; i++)
    {
      Stamp now[2];
      HistGraph *graph = hist_graph_open (repo->objects, before, ret_why);
      take_stamps (repo, now);
      if (*ret_why == NULL || i == OPEN_TRIES || memcmp (now, stamps, sizeof now) == 0)
        return graph;
      memcpy (stamps, now, sizeof now);
      g_clear_pointer (ret_why, g_free);
      if (graph != NULL)
        hist_graph_unref (graph);
    }
}

/* What replaces the graph, when its files are not those of @stamps. Opened without the lock: that may take a while. */
static HistGraph *
store_graph (Repo *repo)
{
  HistStore *store = repo->history;
  g_autofree char *why = NULL;
  Stamp stamps[2];
  take_stamps (repo, stamps);
  gs_mutex_lock (&store->lock);
  HistGraph *before = store->graph != NULL ? hist_graph_ref (store->graph) : NULL;
  gboolean same = store->opened && memcmp (stamps, store->stamps, sizeof stamps) == 0;
  gs_mutex_unlock (&store->lock);
  if (same)
    return before;
  HistGraph *graph = open_graph (repo, before, stamps, &why);
  gs_mutex_lock (&store->lock);
  HistGraph *dropped = store->graph;
  store->graph = graph != NULL ? hist_graph_ref (graph) : NULL;
  memcpy (store->stamps, stamps, sizeof stamps);
  store->opened = TRUE;
  store->damaged = why != NULL;
  forget_facts (store);
  gs_mutex_unlock (&store->lock);
  if (dropped != NULL)
    hist_graph_unref (dropped);
  if (before != NULL)
    hist_graph_unref (before);
  if (why != NULL)
    {
      log_ignored (repo, why);
      maintain_note (repo);
    }
  return graph;
}

gboolean
hist_store_check (Repo *repo)
{
  HistGraph *graph = store_graph (repo);
  if (graph != NULL)
    hist_graph_unref (graph);
  gs_mutex_lock (&repo->history->lock);
  gboolean damaged = repo->history->damaged;
  gs_mutex_unlock (&repo->history->lock);
  return !damaged;
}

/* ---------------------------------------------------------------------------------- grafts, shallow */

static gboolean
graft_line (HistView *view, const char *line, gboolean shallow)
{
  g_auto (GStrv) words = g_strsplit (line, " ", -1);
  GByteArray *parents;
  guint8 raw[HIST_RAW];
  if (words[0] == NULL || *words[0] == '\0' || *words[0] == '#')
    return TRUE;
  for (guint i = 0; words[i] != NULL; i++)
    if (strlen (words[i]) != 2 * HIST_RAW || !gs_unhex (words[i], HIST_RAW, raw) || (shallow && i > 0))
      return FALSE;
  parents = g_byte_array_new ();
  for (guint i = 1; words[i] != NULL; i++)
    {
      gs_unhex (words[i], HIST_RAW, raw);
      g_byte_array_append (parents, raw, HIST_RAW);
    }
  gs_unhex (words[0], HIST_RAW, raw);
  g_hash_table_replace (view->grafts, g_memdup2 (raw, HIST_RAW), parents);
  return TRUE;
}

static void
free_parents (gpointer parents)
{
  g_byte_array_unref (parents);
}

static gboolean
read_grafts (HistView *view, const char *name, gboolean shallow, GError **error)
{
  g_autofree char *path = g_strconcat (view->repo->dir, name, NULL);
  if (!disk_exists (path))
    return TRUE;
  g_autofree char *text = fsu_read (AT_FDCWD, path, SIDE_FILE_MAX, NULL, error);
  if (text == NULL)
    return FALSE;
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  if (view->grafts == NULL)
    view->grafts = g_hash_table_new_full (raw_hash, raw_equal, g_free, free_parents);
  for (guint i = 0; lines[i] != NULL; i++)
    if (!graft_line (view, lines[i], shallow))
      return gs_fail (error, GS_ERROR_DATA_LOSS, "%s, line %u: it is no list of commits", path, i + 1);
  return TRUE;
}

/* ------------------------------------------------------------------------------------ open and close */

HistView *
hist_view_open (Repo *repo, GsCall *call, GError **error)
{
  g_autoptr (HistView) view = g_new0 (HistView, 1);
  view->repo = repo;
  view->call = call;
  view->segments = g_ptr_array_new_with_free_func (g_free);
  view->arena = g_ptr_array_new_with_free_func (g_free);
  view->touched = g_array_new (FALSE, FALSE, sizeof (guint32));
  view->handle = odb_borrow (repo, error);
  if (view->handle == NULL || !read_grafts (view, "/info/grafts", FALSE, error)
      || !read_grafts (view, "/shallow", TRUE, error))
    return NULL;
  if (view->grafts == NULL)
    view->graph = store_graph (repo);
  view->n_graph = view->graph != NULL ? view->graph->n : 0;
  return g_steal_pointer (&view);
}

void
hist_view_close (HistView *view)
{
  if (view->handle != NULL)
    odb_return (view->repo, view->handle);
  if (view->graph != NULL)
    hist_graph_unref (view->graph);
  if (view->grafts != NULL)
    g_hash_table_unref (view->grafts);
  g_free (view->graph_flags);
  g_free (view->graph_marks);
  g_free (view->slots);
  g_ptr_array_unref (view->segments);
  g_ptr_array_unref (view->arena);
  g_array_unref (view->touched);
  g_free (view);
}

/* -------------------------------------------------------------------------------------------- tail */

static inline HistTail *
tail_at (const HistView *view, guint32 index)
{
  return (HistTail *) view->segments->pdata[index / SEGMENT] + index % SEGMENT;
}

static void
slots_grow (HistView *view)
{
  guint32 n = MAX (view->n_slots * 2, 1024);
  g_free (view->slots);
  view->slots = g_new0 (guint32, n);
  view->n_slots = n;
  for (guint32 i = 0; i < view->n_tail; i++)
    {
      guint32 at = raw_hash (tail_at (view, i)->oid) & (n - 1);
      while (view->slots[at] != 0)
        at = (at + 1) & (n - 1);
      view->slots[at] = i + 1;
    }
}

static guint32
tail_find (HistView *view, const guint8 *raw, GError **error)
{
  if (view->n_tail + view->n_tail / 2 >= view->n_slots)
    slots_grow (view);
  guint32 at = raw_hash (raw) & (view->n_slots - 1);
  for (; view->slots[at] != 0; at = (at + 1) & (view->n_slots - 1))
    if (memcmp (tail_at (view, view->slots[at] - 1)->oid, raw, HIST_RAW) == 0)
      return view->n_graph + view->slots[at] - 1;
  if (view->n_tail >= HIST_TAIL_MAX || view->n_graph >= HIST_NONE - HIST_TAIL_MAX)
    {
      gs_fail (error, GS_ERROR_OUT_OF_RANGE,
               "repository %" G_GUINT64_FORMAT " has too many commits outside of its commit-graph", view->repo->id);
      return HIST_NONE;
    }
  if (view->n_tail % SEGMENT == 0)
    g_ptr_array_add (view->segments, g_new0 (HistTail, SEGMENT));
  memcpy (tail_at (view, view->n_tail)->oid, raw, HIST_RAW);
  view->slots[at] = ++view->n_tail;
  return view->n_graph + view->n_tail - 1;
}

guint32
hist_view_find (HistView *view, const guint8 *raw, GError **error)
{
  guint32 pos;
  if (view->graph != NULL && hist_graph_find (view->graph, raw, &pos))
    return pos;
  return tail_find (view, raw, error);
}

/* ----------------------------------------------------------------------------------- reading the tail */

static gboolean
no_commit (const HistView *view, const guint8 *raw, const char *what, GError **error)
{
  char hex[2 * HIST_RAW + 1];
  gs_hex (raw, HIST_RAW, hex);
  return gs_fail (error, GS_ERROR_DATA_LOSS, "read commit %s of repository %" G_GUINT64_FORMAT ": %s", hex, view->repo->id,
                  what);
}

static gboolean
read_text (HistView *view, const guint8 *raw, GBytes **ret_bytes, GError **error)
{
  g_autoptr (GError) why = NULL;
  GsOid oid = { .len = HIST_RAW };
  GsObjectType type;
  GBytes *bytes;
  memcpy (oid.raw, raw, HIST_RAW);
  if (!odb_read (view->repo, view->handle, &oid, HIST_COMMIT_MAX, &type, &bytes, &why))
    return no_commit (view, raw, why->message, error);
  if (type != GS_OBJECT_COMMIT)
    {
      g_bytes_unref (bytes);
      return no_commit (view, raw, "it is no commit", error);
    }
  *ret_bytes = bytes;
  return TRUE;
}

/* The committer's date as git reads it: the number behind the last '>' of the line. 0 when there is none. */
static guint64
parse_date (const char *at, const char *end)
{
  for (; at < end && *at != '\n' && !(end - at > 10 && memcmp (at, "committer ", 10) == 0);)
    {
      const char *newline = memchr (at, '\n', (gsize) (end - at));
      if (newline == NULL)
        return 0;
      at = newline + 1;
    }
  const char *newline = at < end ? memchr (at, '\n', (gsize) (end - at)) : NULL;
  const char *bracket = newline != NULL && *at != '\n' ? memrchr (at, '>', (gsize) (newline - at)) : NULL;
  guint64 date = 0;
  if (bracket == NULL)
    return 0;
  for (at = bracket + 1; at < newline && *at == ' '; at++)
    ;
  for (; at < newline && g_ascii_isdigit (*at); at++)
    {
      if (date > (G_MAXINT64 - 9) / 10)
        return 0;
      date = date * 10 + (guint64) (*at - '0');
    }
  return date;
}

static Fact *
parse_fact (const HistView *view, const guint8 *raw, GBytes *bytes, GError **error)
{
  gsize len;
  const char *data = g_bytes_get_data (bytes, &len), *end = data + len;
  g_autoptr (GByteArray) parents = g_byte_array_new ();
  GsOid tree, parent;
  if (!odb_parse_link (data, len, "tree", &tree))
    {
      no_commit (view, raw, "it names no tree", error);
      return NULL;
    }
  const char *at = data + strlen ("tree ") + 2 * HIST_RAW + 1;
  for (; odb_parse_link (at, (gsize) (end - at), "parent", &parent); at += strlen ("parent ") + 2 * HIST_RAW + 1)
    g_byte_array_append (parents, parent.raw, HIST_RAW);
  Fact *fact = g_malloc (sizeof *fact + parents->len);
  memcpy (fact->oid, raw, HIST_RAW);
  memcpy (fact->tree, tree.raw, HIST_RAW);
  fact->date = parse_date (at, end);
  fact->n_parents = parents->len / HIST_RAW;
  if (parents->len > 0)
    memcpy (fact->parents, parents->data, parents->len);
  return fact;
}

static guint32 *
arena_take (HistView *view, guint32 n)
{
  /* The first word of a block says how much of it is taken. */
  guint32 *block = view->arena->len > 0 ? view->arena->pdata[view->arena->len - 1] : NULL;
  if (block == NULL || n >= ARENA_BLOCK || block[0] + n > ARENA_BLOCK)
    {
      block = g_new (guint32, MAX (ARENA_BLOCK, n + 1));
      block[0] = 1;
      g_ptr_array_add (view->arena, block);
    }
  guint32 *taken = block + block[0];
  block[0] += n;
  return taken;
}

static gboolean
take_fact (HistView *view, HistTail *tail, const Fact *fact, GError **error)
{
  const GByteArray *graft = view->grafts != NULL ? g_hash_table_lookup (view->grafts, tail->oid) : NULL;
  const guint8 *raw = graft != NULL ? graft->data : fact->parents;
  guint32 n = graft != NULL ? graft->len / HIST_RAW : fact->n_parents;
  guint32 *parents = arena_take (view, n);
  for (guint32 i = 0; i < n; i++)
    if ((parents[i] = hist_view_find (view, raw + (gsize) i * HIST_RAW, error)) == HIST_NONE)
      return FALSE;
  memcpy (tail->tree, fact->tree, HIST_RAW);
  tail->date = fact->date;
  tail->n_parents = n;
  tail->parents = parents;
  tail->read = TRUE;
  return TRUE;
}

static gboolean
tail_read (HistView *view, HistTail *tail, GError **error)
{
  HistStore *store = view->repo->history;
  g_autoptr (GBytes) bytes = NULL;
  g_autofree Fact *fact = NULL;
  gs_mutex_lock (&store->lock);
  const Fact *known = g_hash_table_lookup (store->facts, tail->oid);
  if (known != NULL)
    fact = g_memdup2 (known, sizeof *known + (gsize) known->n_parents * HIST_RAW);
  gs_mutex_unlock (&store->lock);
  if (fact != NULL)
    return take_fact (view, tail, fact, error);
  if (!read_text (view, tail->oid, &bytes, error) || (fact = parse_fact (view, tail->oid, bytes, error)) == NULL
      || !take_fact (view, tail, fact, error))
    return FALSE;
  remember (store, g_steal_pointer (&fact));
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- commits */

gboolean
hist_view_commit (HistView *view, guint32 pos, HistCommit *ret_commit, GError **error)
{
  if (pos < view->n_graph)
    {
      hist_graph_record (view->graph, pos, &ret_commit->record);
      ret_commit->oid = ret_commit->record.oid;
      ret_commit->tree = ret_commit->record.tree;
      ret_commit->date = ret_commit->record.date;
      ret_commit->n_parents = ret_commit->record.n_parents;
      ret_commit->generation = hist_graph_generation (view->graph, pos);
      ret_commit->list = NULL;
      return TRUE;
    }
  HistTail *tail = tail_at (view, pos - view->n_graph);
  if (!tail->read && !tail_read (view, tail, error))
    return FALSE;
  ret_commit->oid = tail->oid;
  ret_commit->tree = tail->tree;
  ret_commit->date = tail->date;
  ret_commit->generation = HIST_INFINITY;
  ret_commit->n_parents = tail->n_parents;
  ret_commit->list = tail->parents;
  return TRUE;
}

const guint8 *
hist_view_oid (const HistView *view, guint32 pos)
{
  return pos < view->n_graph ? hist_graph_oid (view->graph, pos) : tail_at (view, pos - view->n_graph)->oid;
}

void
hist_view_gs_oid (const HistView *view, guint32 pos, GsOid *ret_oid)
{
  memset (ret_oid, 0, sizeof *ret_oid);
  ret_oid->len = HIST_RAW;
  memcpy (ret_oid->raw, hist_view_oid (view, pos), HIST_RAW);
}

gboolean
hist_view_text (HistView *view, guint32 pos, GBytes **ret_bytes, GError **error)
{
  return read_text (view, hist_view_oid (view, pos), ret_bytes, error);
}

/* ------------------------------------------------------------------------------------------- flags */

/* The kernel gives zeroed pages as they are touched: a walk of ten commits costs ten, however many there are. */
static guint32 *
words (guint32 **at, guint32 n)
{
  if (*at == NULL)
    *at = g_new0 (guint32, n);
  return *at;
}

guint32 *
hist_flags (HistView *view, guint32 pos)
{
  if (pos < view->n_graph)
    return words (&view->graph_flags, view->n_graph) + pos;
  return &tail_at (view, pos - view->n_graph)->flags;
}

guint32 *
hist_mark (HistView *view, guint32 pos)
{
  if (pos < view->n_graph)
    return words (&view->graph_marks, view->n_graph) + pos;
  return &tail_at (view, pos - view->n_graph)->mark;
}

void
hist_flags_add (HistView *view, guint32 pos, guint32 bits)
{
  guint32 *flags = hist_flags (view, pos);
  if (*flags == 0)
    g_array_append_val (view->touched, pos);
  *flags |= bits;
}

void
hist_flags_reset (HistView *view)
{
  for (guint i = 0; i < view->touched->len; i++)
    *hist_flags (view, g_array_index (view->touched, guint32, i)) = 0;
  g_array_set_size (view->touched, 0);
}
