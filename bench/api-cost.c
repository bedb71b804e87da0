/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api-cost URL REPOSITORY GIT-DIR [ROUNDS]: what a read of each kind costs over the wire, beside a git process for each, beside
 * one `git cat-file --batch` that is kept, and beside libgit2 in the process, on the same repository. bench/api-cost.py
 * starts a server for it. Everything is warm; the median counts.
 */
#include "gitstead-client.h"
#include "rpc/json.h"

#include <git2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAWNS_MAX 15
#define ARGS_MAX 12

typedef struct Bench Bench;
typedef struct
{
  const char *title, *method;
  const char *request;        /* JSON without its repository; $TIP, $OLD, $FILE, $FOLDER, $BLOB stand for what is there */
  const char *git[ARGS_MAX];  /* the same of git; without any there is nothing that compares */
  const char *batch;          /* what cat-file --batch is asked; NULL = it cannot tell */
  void (*libgit2) (Bench *);  /* NULL = it has nothing of the kind, or nobody would use it so */
} Row;

struct Bench
{
  GsClient *client;
  GsiMethods *methods;
  const char *path, *git_dir;
  guint rounds;
  git_repository *repository;
  char *tip, *old, *file, *folder, *blob;
  FILE *to_batch, *from_batch;
  double empty_us;
};

static void G_GNUC_PRINTF (1, 2) G_GNUC_NORETURN
die (const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  fprintf (stderr, "api-cost: %s\n", text);
  exit (1);
}

/* -------------------------------------------------------------------------------------------- words */

static char *
filled (const Bench *bench, const char *text)
{
  const char *const from[] = { "$TIP", "$OLD", "$FILE", "$FOLDER", "$BLOB" };
  const char *const to[] = { bench->tip, bench->old, bench->file, bench->folder, bench->blob };
  GString *out = g_string_new (text);
  for (gsize i = 0; i < G_N_ELEMENTS (from); i++)
    g_string_replace (out, from[i], to[i], 0);
  return g_string_free (out, FALSE);
}

static char *
ask_git (const Bench *bench, const char *command)
{
  g_autofree char *full = g_strdup_printf ("git -C '%s' %s", bench->git_dir, command), *out = NULL;
  const char *argv[] = { "sh", "-c", full, NULL };
  g_autoptr (GError) error = NULL;
  if (!g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, NULL, NULL, &error))
    die ("%s: %s", full, error->message);
  return g_strdup (g_strchomp (out));
}

/* --------------------------------------------------------------------------------------- measuring */

static int
compare (gconstpointer a, gconstpointer b)
{
  gint64 left = *(const gint64 *) a, right = *(const gint64 *) b;
  return (left > right) - (left < right);
}

static double
median_us (GArray *times)
{
  g_array_sort (times, compare);
  return (double) g_array_index (times, gint64, times->len / 2);
}

static double
ours_us (Bench *bench, const Row *row)
{
  const GsiMethod *method = gsi_methods_by_name (bench->methods, row->method);
  g_autoptr (GsArena) arena = gs_arena_new (1 << 20);
  g_autoptr (GArray) times = g_array_new (FALSE, FALSE, sizeof (gint64));
  g_autofree char *inner = filled (bench, row->request), *json = NULL;
  g_autoptr (GError) error = NULL;
  ProtobufCMessage *request;
  if (method->target != NULL)
    json = g_strdup_printf ("{\"repository\": {\"path\": \"%s\"}%s%s}", bench->path, *inner != '\0' ? ", " : "", inner);
  else
    json = g_strdup_printf ("{%s}", inner);
  request = gsi_json_read (bench->methods, arena, method->request, json, strlen (json), &error);
  if (request == NULL)
    die ("%s: %s", row->method, error->message);
  g_autoptr (GBytes) payload = gs_wire_encode (request);
  for (guint i = 0; i < bench->rounds; i++)
    {
      g_autoptr (GBytes) reply = NULL;
      gint64 began = g_get_monotonic_time (), took;
      if (!gs_client_call_raw (bench->client, method->number, payload, NULL, &reply, &error))
        die ("%s: %s", row->method, error->message);
      took = g_get_monotonic_time () - began;
      g_array_append_val (times, took);
    }
  return median_us (times);
}

static double
spawned_us (const Bench *bench, const Row *row)
{
  g_autoptr (GArray) times = g_array_new (FALSE, FALSE, sizeof (gint64));
  g_autoptr (GPtrArray) argv = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (argv, g_strdup ("git"));
  g_ptr_array_add (argv, g_strdup ("-C"));
  g_ptr_array_add (argv, g_strdup (bench->git_dir));
  for (gsize i = 0; i < ARGS_MAX && row->git[i] != NULL; i++)
    g_ptr_array_add (argv, filled (bench, row->git[i]));
  g_ptr_array_add (argv, NULL);
  for (guint i = 0; i < MIN (bench->rounds, SPAWNS_MAX); i++)
    {
      g_autoptr (GError) error = NULL;
      gint64 began = g_get_monotonic_time (), took;
      if (!g_spawn_sync (NULL, (char **) argv->pdata, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
                         NULL, NULL, NULL, NULL, NULL, &error))
        die ("git %s: %s", row->git[0], error->message);
      took = g_get_monotonic_time () - began;
      g_array_append_val (times, took);
    }
  return median_us (times);
}

static void
start_batch (Bench *bench)
{
  const char *argv[] = { "git", "-C", bench->git_dir, "cat-file", "--batch", NULL };
  g_autoptr (GError) error = NULL;
  int in, out;
  if (!g_spawn_async_with_pipes (NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &in, &out, NULL, &error))
    die ("git cat-file: %s", error->message);
  bench->to_batch = fdopen (in, "w");
  bench->from_batch = fdopen (out, "r");
}

static double
batch_us (Bench *bench, const Row *row)
{
  g_autoptr (GArray) times = g_array_new (FALSE, FALSE, sizeof (gint64));
  g_autofree char *question = filled (bench, row->batch);
  for (guint i = 0; i < bench->rounds; i++)
    {
      char line[512], *buffer;
      gint64 began = g_get_monotonic_time (), took;
      gsize size;
      fprintf (bench->to_batch, "%s\n", question);
      fflush (bench->to_batch);
      if (fgets (line, sizeof line, bench->from_batch) == NULL || strrchr (line, ' ') == NULL)
        die ("git cat-file does not answer %s", question);
      size = strtoul (strrchr (line, ' '), NULL, 10) + 1;
      buffer = g_malloc (size);
      if (fread (buffer, 1, size, bench->from_batch) != size)
        die ("git cat-file ended");
      g_free (buffer);
      took = g_get_monotonic_time () - began;
      g_array_append_val (times, took);
    }
  return median_us (times);
}

static double
libgit2_us (Bench *bench, const Row *row)
{
  g_autoptr (GArray) times = g_array_new (FALSE, FALSE, sizeof (gint64));
  for (guint i = 0; i < bench->rounds; i++)
    {
      gint64 began = g_get_monotonic_time (), took;
      row->libgit2 (bench);
      took = g_get_monotonic_time () - began;
      g_array_append_val (times, took);
    }
  return median_us (times);
}

/* ------------------------------------------------------------------------------------------ libgit2 */

static void
must (int code)
{
  if (code < 0)
    die ("libgit2: %s", git_error_last () != NULL ? git_error_last ()->message : "?");
}

static git_object *
look_up (Bench *bench, const char *revision)
{
  g_autofree char *text = filled (bench, revision);
  git_object *object;
  must (git_revparse_single (&object, bench->repository, text));
  return object;
}

static void
l2_commit (Bench *bench)
{
  git_object_free (look_up (bench, "$TIP"));
}

static void
l2_blob (Bench *bench)
{
  git_object_free (look_up (bench, "$TIP:$FILE"));
}

static void
l2_ref (Bench *bench)
{
  git_reference *reference;
  must (git_reference_lookup (&reference, bench->repository, "refs/heads/main"));
  git_reference_free (reference);
}

static void
l2_refs (Bench *bench)
{
  git_reference_iterator *iterator;
  const char *name;
  must (git_reference_iterator_new (&iterator, bench->repository));
  for (int i = 0; i < 100 && git_reference_next_name (&name, iterator) == 0; i++)
    ;
  git_reference_iterator_free (iterator);
}

static void
l2_tree (Bench *bench)
{
  git_tree *tree = (git_tree *) look_up (bench, "$TIP:$FOLDER");
  for (size_t i = 0; i < git_tree_entrycount (tree); i++)
    git_tree_entry_name (git_tree_entry_byindex (tree, i));
  git_tree_free (tree);
}

static void
l2_diff (Bench *bench)
{
  git_tree *left = (git_tree *) look_up (bench, "$TIP~^{tree}"), *right = (git_tree *) look_up (bench, "$TIP^{tree}");
  git_diff *diff;
  git_buf text = GIT_BUF_INIT;
  must (git_diff_tree_to_tree (&diff, bench->repository, left, right, NULL));
  must (git_diff_find_similar (diff, NULL));
  must (git_diff_to_buf (&text, diff, GIT_DIFF_FORMAT_PATCH));
  git_buf_dispose (&text);
  git_diff_free (diff);
  git_tree_free (left);
  git_tree_free (right);
}

static void
l2_walk (Bench *bench)
{
  git_revwalk *walk;
  git_oid oid;
  must (git_revwalk_new (&walk, bench->repository));
  git_revwalk_sorting (walk, GIT_SORT_TIME);
  must (git_oid_fromstr (&oid, bench->tip));
  must (git_revwalk_push (walk, &oid));
  for (int i = 0; i < 20 && git_revwalk_next (&oid, walk) == 0; i++)
    {
      git_commit *commit;
      must (git_commit_lookup (&commit, bench->repository, &oid));
      git_commit_free (commit);
    }
  git_revwalk_free (walk);
}

static void
l2_base (Bench *bench)
{
  git_oid left, right, base;
  must (git_oid_fromstr (&left, bench->tip));
  must (git_oid_fromstr (&right, bench->old));
  must (git_merge_base (&base, bench->repository, &left, &right));
}

static void
l2_ahead (Bench *bench)
{
  git_oid left, right;
  size_t ahead, behind;
  must (git_oid_fromstr (&left, bench->tip));
  must (git_oid_fromstr (&right, bench->old));
  must (git_graph_ahead_behind (&ahead, &behind, bench->repository, &left, &right));
}

/* --------------------------------------------------------------------------------------------- rows */

static const Row rows[] = {
  { "empty call", "Server/Ping", "", { NULL }, NULL, NULL },
  { "commit by id", "Commit/Get", "\"revisions\": [\"$TIP\"]", { "cat-file", "commit", "$TIP" }, "$TIP", l2_commit },
  { "commit by branch", "Commit/Get", "\"revisions\": [\"main\"]", { "cat-file", "commit", "main" }, "main", l2_commit },
  { "ref by name", "Ref/Find", "\"name\": \"refs/heads/main\"", { "rev-parse", "--verify", "refs/heads/main" }, NULL, l2_ref },
  { "100 refs", "Ref/List", "\"page\": {\"limit\": 100}", { "for-each-ref", "--count=100" }, NULL, l2_refs },
  { "file by path", "Blob/Get", "\"revision\": \"$TIP:$FILE\"", { "cat-file", "blob", "$TIP:$FILE" }, "$TIP:$FILE", l2_blob },
  { "existence of 3 objects", "Object/Exist", "\"revisions\": [\"$TIP\", \"$OLD\", \"$BLOB\"]",
    { "rev-parse", "$TIP", "$OLD", "$BLOB" }, NULL, NULL },
  { "directory", "Commit/TreeEntries", "\"revision\": \"$TIP\", \"path\": \"$FOLDER\"", { "ls-tree", "$TIP:$FOLDER" }, "$TIP:$FOLDER", l2_tree },
  { "20 commits", "History/List", "\"range\": {\"include\": [\"$TIP\"]}, \"page\": {\"limit\": 20}", { "log", "--format=raw", "-20", "$TIP" },
    NULL, l2_walk },
  { "20 commits of a file", "History/List",
    "\"range\": {\"include\": [\"$TIP\"], \"paths\": [\"$FILE\"]}, \"page\": {\"limit\": 20}",
    { "log", "--format=raw", "-20", "$TIP", "--", "$FILE" }, NULL, NULL },
  { "merge base", "History/MergeBase", "\"revisions\": [\"$TIP\", \"$OLD\"]", { "merge-base", "--all", "$TIP", "$OLD" }, NULL, l2_base },
  { "ahead/behind", "History/AheadBehind", "\"pairs\": [{\"left\": \"$TIP\", \"right\": \"$OLD\"}]",
    { "rev-list", "--count", "--left-right", "$TIP...$OLD" }, NULL, l2_ahead },
  { "last commit of a path", "History/LastForPath", "\"revision\": \"$TIP\", \"paths\": [\"$FILE\"]",
    { "log", "-1", "--format=raw", "$TIP", "--", "$FILE" }, NULL, NULL },
  { "refs that contain a commit", "History/RefsContaining", "\"revision\": \"$OLD\", \"prefixes\": [\"refs/heads/\"]",
    { "branch", "--contains", "$OLD" }, NULL, NULL },
  { "diff of a commit", "Diff/Parsed", "\"right\": \"$TIP\"", { "diff-tree", "-p", "-M", "$TIP~", "$TIP" }, NULL, l2_diff },
  { "changed paths of a commit", "Diff/ChangedPaths", "\"pairs\": [{\"right\": \"$TIP\"}]", { "diff-tree", "-r", "$TIP~", "$TIP" }, NULL, NULL },
  { "tags with commits, newest 20", "Ref/Query",
    "\"patterns\": [\"refs/tags/\"], \"sort\": \"REF_SORT_DATE\", \"descending\": true, \"commits\": true, \"page\": {\"limit\": 20}",
    { "for-each-ref", "--sort=-creatordate", "--count=20", "--format=%(objectname) %(*objectname) %(subject)", "refs/tags/" }, NULL, NULL },
  { "repository statistics", "Repository/Statistics", "", { "count-objects", "-v" }, NULL, NULL },
  { "blame", "History/Blame", "\"revision\": \"$TIP\", \"path\": \"$FILE\"", { "blame", "--porcelain", "$TIP", "--", "$FILE" }, NULL, NULL },
};

static void
cell (double us, double ours)
{
  if (us < 0)
    printf (" %18s |", "");
  else
    printf (" %9.0f (%6.2f) |", us, us / ours);
}

static void
print_row (Bench *bench, const Row *row)
{
  double ours = ours_us (bench, row);
  if (bench->empty_us == 0)
    bench->empty_us = ours;
  printf ("| %-30s | %8.0f | %6.2f |", row->title, ours, ours / bench->empty_us);
  cell (row->git[0] != NULL ? spawned_us (bench, row) : -1, ours);
  cell (row->batch != NULL ? batch_us (bench, row) : -1, ours);
  cell (row->libgit2 != NULL ? libgit2_us (bench, row) : -1, ours);
  printf ("\n");
  fflush (stdout);
}

static void
learn (Bench *bench)
{
  bench->tip = ask_git (bench, "rev-parse main");
  bench->old = ask_git (bench, "rev-list --skip=2000 --max-count=1 main || git rev-list --max-parents=0 main | tail -1");
  if (*bench->old == '\0')
    bench->old = ask_git (bench, "rev-list --max-parents=0 --max-count=1 main");
  bench->file = ask_git (bench, "log -1 --skip=5 --diff-filter=M --no-renames --name-only --format= main | head -1");
  bench->folder = g_path_get_dirname (bench->file);
  if (strcmp (bench->folder, ".") == 0)
    *bench->folder = '\0';
  g_autofree char *command = g_strdup_printf ("rev-parse 'main:%s'", bench->file);
  bench->blob = ask_git (bench, command);
}

int
main (int argc, char **argv)
{
  Bench bench = { 0 };
  g_autoptr (GError) error = NULL;
  if (argc < 4)
    die ("usage: api-cost URL REPOSITORY GIT-DIR [ROUNDS]");
  const GsClientOptions options = { .size = sizeof options, .url = argv[1] };
  bench.path = argv[2];
  bench.git_dir = argv[3];
  bench.rounds = argc > 4 ? (guint) MAX (atoi (argv[4]), 1) : 300;
  bench.methods = gsi_methods_new (&error);
  bench.client = bench.methods != NULL ? gs_client_new (&options, &error) : NULL;
  if (bench.client == NULL)
    die ("%s", error->message);
  must (git_libgit2_init ());
  must (git_repository_open (&bench.repository, bench.git_dir));
  start_batch (&bench);
  learn (&bench);
  printf ("tip %.10s, another commit %.10s, file %s; microseconds (and how many times ours)\n\n", bench.tip, bench.old, bench.file);
  printf ("| %-30s | %8s | %6s | %18s | %18s | %18s |\n|---|--:|--:|--:|--:|--:|\n", "", "ours", "/empty", "git, a process", "cat-file --batch",
          "libgit2");
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    print_row (&bench, &rows[i]);
  gs_client_free (bench.client);
  git_repository_free (bench.repository);
  return 0;
}
