/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api-cost URL REPOSITORY GIT-DIR PEER [SECONDS [WORD]]: what a call of each kind costs over the wire, beside stock git
 * doing the same in processes of its own, beside one `git cat-file --batch` that is kept, and beside libgit2 in the
 * process. GIT-DIR is the server's replica of the repository, PEER a folder that is made: the same repository, for git
 * to write to. bench/api-cost.py starts a server for it. Everything is warm. The sides take turns, so that what else
 * the machine does meets them alike: the medians count, and the median of each turn's ratio. A row takes SECONDS (2) at
 * most, and three turns at least. WORD: only rows with it in their title.
 */
#include "gitstead-client.h"
#include "rpc/json.h"

#include <git2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TURNS_MAX 25
#define TURNS_MIN 3
#define OURS_IN_TURN 10
#define CALLS_US (100 * 1000) /* no more calls in a turn than take so long */
#define FILES 100
#define COMMITS_HEAVY 5000

typedef struct Bench Bench;
typedef struct
{
  const char *title, *method;
  const char
      *request;    /* JSON without its repository. "$" and a word in capitals stands for what is there; see filled() */
  const char *git; /* the same as a command of the shell in PEER; NULL: there is nothing that compares */
  const char *batch;         /* what cat-file --batch is asked; NULL = it cannot tell */
  void (*libgit2) (Bench *); /* NULL = it has nothing of the kind, or nobody would use it so */
  const char *input;         /* what the file bench-input in PEER has, for git */
  gboolean heavy;            /* packs the repository: only of a small one */
} Row;

struct Bench
{
  GsClient *client;
  GsiMethods *methods;
  const char *path, *git_dir, *peer;
  gint64 row_us;
  git_repository *repository;
  char *tip, *old, *file, *folder, *blob, *plain;
  guint64 number; /* of calls so far: what must differ from one to the next has it in its name */
  FILE *to_batch, *from_batch;
  double empty_us;
  guint n_slow;
  gboolean small;
};

static void G_GNUC_PRINTF (1, 2) G_GNUC_NORETURN die (const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *text = g_strdup_vprintf (format, args);
  va_end (args);
  fprintf (stderr, "api-cost: %s\n", text);
  exit (1);
}

/* -------------------------------------------------------------------------------------------- words */

/* The 100 files of the larger commit, as actions of ours or as lines for fast-import. */
static char *
many_files (gboolean actions)
{
  GString *out = g_string_new (NULL);
  for (guint i = 0; i < FILES; i++)
    if (actions)
      g_string_append_printf (
          out, "%s{\"kind\": \"FILE_PUT\", \"path\": \"bench/$N/%02u/file-%u\", \"content\": \"file %u of $N\"}",
          i > 0 ? ", " : "", i % 10, i, i);
    else
      g_string_append_printf (out, "M 644 inline bench/$N/%02u/file-%u\ndata <<E\nfile %u of $N\nE\n", i % 10, i, i);
  return g_string_free (out, FALSE);
}

static char *
filled (const Bench *bench, const char *text)
{
  g_autofree char *actions = many_files (TRUE), *lines = many_files (FALSE),
                  *number = g_strdup_printf ("%" G_GUINT64_FORMAT, bench->number);
  const char *const from[]
      = { "$ACTIONS", "$LINES", "$WHO", "$TIP", "$OLD", "$FILE", "$FOLDER", "$BLOB", "$PLAIN", "$N" };
  const char *const to[]
      = { actions,
          lines,
          "{\"name\": \"B\", \"email\": \"b@example.org\", \"seconds\": 1600000000, \"zone\": \"+0000\"}",
          bench->tip,
          bench->old,
          bench->file,
          bench->folder,
          bench->blob,
          bench->plain,
          number };
  GString *out = g_string_new (text);
  for (gsize i = 0; i < G_N_ELEMENTS (from); i++)
    if (to[i] != NULL)
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
  double left = *(const double *) a, right = *(const double *) b;
  return (left > right) - (left < right);
}

static double
median (GArray *values)
{
  g_array_sort (values, compare);
  return values->len > 0 ? g_array_index (values, double, values->len / 2) : -1;
}

static GArray *
numbers (void)
{
  return g_array_new (FALSE, FALSE, sizeof (double));
}

static GBytes *
make_request (const Bench *bench, const GsiMethod *method, const char *text)
{
  g_autoptr (GsArena) arena = gs_arena_new (1 << 20);
  g_autofree char *inner = filled (bench, text), *json = NULL;
  g_autoptr (GError) error = NULL;
  ProtobufCMessage *request;
  if (method->target != NULL)
    json = g_strdup_printf ("{\"repository\": {\"path\": \"%s\"}%s%s}", bench->path, *inner != '\0' ? ", " : "", inner);
  else
    json = g_strdup_printf ("{%s}", inner);
  request = gsi_json_read (bench->methods, arena, method->request, json, strlen (json), &error);
  if (request == NULL)
    die ("%s: %s", method->name, error->message);
  return gs_wire_encode (request);
}

static gboolean
read_stream (Bench *bench, const GsiMethod *method, GBytes *payload, GError **error)
{
  char buffer[64 * 1024];
  gssize got;
  g_autoptr (GsClientStream) stream = gs_client_stream_open_raw (bench->client, method->number, payload, NULL, error);
  if (stream == NULL)
    return FALSE;
  while ((got = gs_client_stream_read (stream, buffer, sizeof buffer, error)) > 0)
    ;
  return got == 0 && gs_client_stream_finish_raw (stream, NULL, error);
}

static double
call_us (Bench *bench, const char *name, const char *text)
{
  const GsiMethod *method = gsi_methods_by_name (bench->methods, name);
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) payload = NULL, reply = NULL;
  if (method == NULL)
    die ("there is no method %s", name);
  bench->number++;
  payload = make_request (bench, method, text);
  gint64 began = g_get_monotonic_time ();
  gboolean done = method->bytes_out ? read_stream (bench, method, payload, &error)
                                    : gs_client_call_raw (bench->client, method->number, payload, NULL, &reply, &error);
  if (!done)
    die ("%s: %s", name, error->message);
  return (double) (g_get_monotonic_time () - began);
}

static double
ours_us (Bench *bench, const Row *row)
{
  g_autoptr (GArray) times = numbers ();
  double sum = 0;
  for (guint i = 0; i < OURS_IN_TURN && sum < CALLS_US; i++)
    {
      double us = call_us (bench, row->method, row->request);
      g_array_append_val (times, us);
      sum += us;
    }
  return median (times);
}

/* One command is run without a shell, as a server would; several need one. */
static double
git_us (Bench *bench, const Row *row)
{
  bench->number++;
  g_autofree char *command = filled (bench, row->git), *input = row->input != NULL ? filled (bench, row->input) : NULL;
  g_auto (GStrv) words = g_strsplit (command, " ", -1);
  const char *script[] = { "sh", "-ec", command, NULL };
  gboolean plain = strpbrk (command, "$&|;<>'\"") == NULL;
  g_autoptr (GError) error = NULL;
  int status;
  if (input != NULL)
    {
      g_autofree char *path = g_build_filename (bench->peer, "bench-input", NULL);
      if (!g_file_set_contents (path, input, -1, &error))
        die ("%s", error->message);
    }
  gint64 began = g_get_monotonic_time ();
  if (!g_spawn_sync (bench->peer, plain ? words : (char **) script, NULL,
                     G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, NULL, &status, &error)
      || !g_spawn_check_wait_status (status, &error))
    die ("%s: %s", command, error->message);
  return (double) (g_get_monotonic_time () - began);
}

static void
start_batch (Bench *bench)
{
  const char *argv[] = { "git", "-C", bench->git_dir, "cat-file", "--batch", NULL };
  g_autoptr (GError) error = NULL;
  int in, out;
  if (!g_spawn_async_with_pipes (NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &in, &out, NULL,
                                 &error))
    die ("git cat-file: %s", error->message);
  bench->to_batch = fdopen (in, "w");
  bench->from_batch = fdopen (out, "r");
}

static double
batch_us (Bench *bench, const Row *row)
{
  g_autofree char *question = filled (bench, row->batch);
  g_autoptr (GArray) times = numbers ();
  for (guint i = 0; i < OURS_IN_TURN; i++)
    {
      char line[512], *buffer;
      gint64 began = g_get_monotonic_time ();
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
      double us = (double) (g_get_monotonic_time () - began);
      g_array_append_val (times, us);
    }
  return median (times);
}

static double
libgit2_us (Bench *bench, const Row *row)
{
  g_autoptr (GArray) times = numbers ();
  for (guint i = 0; i < OURS_IN_TURN; i++)
    {
      gint64 began = g_get_monotonic_time ();
      row->libgit2 (bench);
      double us = (double) (g_get_monotonic_time () - began);
      g_array_append_val (times, us);
    }
  return median (times);
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
  git_tree *left = (git_tree *) look_up (bench, "$PLAIN~^{tree}"),
           *right = (git_tree *) look_up (bench, "$PLAIN^{tree}");
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

#define RANGE(more_) "\"range\": {\"include\": [\"$TIP\"]" more_ "}, \"page\": {\"limit\": 20}"
/* A new branch each time, so that each call finds the same. */
#define ON(start_) "\"write\": {\"branch\": \"w/$N\", \"start\": \"" start_ "\", \"committer\": $WHO}"
/* What git has without a work tree, to put commit C upon $at: an index of its own, three trees into one, a commit. */
#define PICK(base_, theirs_)                                                                                           \
  "git read-tree -i -m --aggressive " base_ " $at " theirs_                                                            \
  "; t=$(git write-tree); at=$(git commit-tree -p $at -m m $t); "
#define INDEX "GIT_INDEX_FILE=$PWD/bench-index; export GIT_INDEX_FILE; rm -f $GIT_INDEX_FILE; "

static const Row rows[] = {
  { "empty call", "Server/Ping", "", NULL, NULL, NULL, NULL },
  { "commit by id", "Commit/Get", "\"revisions\": [\"$TIP\"]", "git cat-file commit $TIP", "$TIP", l2_commit, NULL },
  { "commit by branch", "Commit/Get", "\"revisions\": [\"main\"]", "git cat-file commit main", "main", l2_commit,
    NULL },
  { "ref by name", "Ref/Find", "\"name\": \"refs/heads/main\"", "git rev-parse --verify refs/heads/main", NULL, l2_ref,
    NULL },
  { "100 refs", "Ref/List", "\"page\": {\"limit\": 100}", "git for-each-ref --count=100", NULL, l2_refs, NULL },
  { "file by path", "Blob/Get", "\"revision\": \"$TIP:$FILE\"", "git cat-file blob $TIP:$FILE", "$TIP:$FILE", l2_blob,
    NULL },
  { "existence of 3 objects", "Object/Exist", "\"revisions\": [\"$TIP\", \"$OLD\", \"$BLOB\"]",
    "git rev-parse $TIP $OLD $BLOB", NULL, NULL, NULL },
  { "directory", "Commit/TreeEntries", "\"revision\": \"$TIP\", \"path\": \"$FOLDER\"", "git ls-tree $TIP:$FOLDER",
    "$TIP:$FOLDER", l2_tree, NULL },
  { "20 commits", "History/List", RANGE (""), "git log --format=raw -20 $TIP", NULL, l2_walk, NULL },
  { "20 commits of a file", "History/List", RANGE (", \"paths\": [\"$FILE\"]"),
    "git log --format=raw -20 $TIP -- $FILE", NULL, NULL, NULL },
  { "20 commits by author", "History/List", RANGE (", \"author\": [\"Ada\"]"),
    "git log --format=raw -20 --author=Ada $TIP", NULL, NULL, NULL },
  { "count all commits", "History/Count", "\"range\": {\"include\": [\"$TIP\"]}", "git rev-list --count $TIP", NULL,
    NULL, NULL },
  { "merge base", "History/MergeBase", "\"revisions\": [\"$TIP\", \"$OLD\"]", "git merge-base --all $TIP $OLD", NULL,
    l2_base, NULL },
  { "is ancestor", "History/IsAncestor", "\"pairs\": [{\"left\": \"$OLD\", \"right\": \"$TIP\"}]",
    "git merge-base --is-ancestor $OLD $TIP", NULL, NULL, NULL },
  { "ahead/behind", "History/AheadBehind", "\"pairs\": [{\"left\": \"$TIP\", \"right\": \"$OLD\"}]",
    "git rev-list --count --left-right $TIP...$OLD", NULL, l2_ahead, NULL },
  { "last commit of a path", "History/LastForPath", "\"revision\": \"$TIP\", \"paths\": [\"$FILE\"]",
    "git log -1 --format=raw $TIP -- $FILE", NULL, NULL, NULL },
  { "last commit of each entry, root", "History/LastForTree", "\"revision\": \"$TIP\"",
    "git ls-tree -z --name-only $TIP | xargs -0 -n 1 git log -1 --format=raw $TIP --", NULL, NULL, NULL },
  { "refs that contain a commit", "History/RefsContaining",
    "\"revision\": \"$OLD\", \"prefixes\": [\"refs/heads/\"], \"page\": {\"limit\": 1000}",
    "git branch --contains $OLD", NULL, NULL, NULL },
  { "blame", "History/Blame", "\"revision\": \"$TIP\", \"path\": \"$FILE\"", "git blame --porcelain $TIP -- $FILE",
    NULL, NULL, NULL },
  { "diff of a commit", "Diff/Parsed", "\"right\": \"$PLAIN\"", "git diff-tree -p -M $PLAIN~ $PLAIN", NULL, l2_diff,
    NULL },
  { "changed paths of a commit", "Diff/ChangedPaths", "\"pairs\": [{\"right\": \"$PLAIN\"}]",
    "git diff-tree -r $PLAIN~ $PLAIN", NULL, NULL, NULL },
  { "range-diff of 10 commits", "Diff/Range",
    "\"old_tip\": \"bench/ten\", \"old_base\": \"bench/ten~10\", \"new_tip\": \"bench/moved\", \"new_base\": "
    "\"bench/moved~10\"",
    "git range-diff -s bench/ten~10..bench/ten bench/moved~10..bench/moved", NULL, NULL, NULL },
  { "tags with commits, newest 20", "Ref/Query",
    "\"patterns\": [\"refs/tags/\"], \"sort\": \"REF_SORT_DATE\", \"descending\": true, \"commits\": true, \"page\": "
    "{\"limit\": 20}",
    "git for-each-ref --sort=-creatordate --count=20 '--format=%(objectname) %(*objectname) %(subject)' refs/tags/",
    NULL, NULL, NULL },
  { "repository statistics", "Repository/Statistics", "", "git count-objects -v", NULL, NULL, NULL },
  { "size of what a branch adds", "Object/Size", "\"revisions\": [\"$TIP\"], \"excluded\": [\"$OLD\"]",
    "git rev-list --objects --disk-usage --use-bitmap-index $TIP ^$OLD", NULL, NULL, NULL },
  { "1000 objects of all", "Object/List", "\"page\": {\"limit\": 1000}",
    "git cat-file --batch-check --batch-all-objects --unordered | head -n 1000", NULL, NULL, NULL },
  { "search of names", "Repository/SearchNames", "\"revision\": \"$TIP\", \"text\": \"main\"",
    "git ls-tree -r --name-only $TIP | grep main || :", NULL, NULL, NULL },
  { "search of contents", "Repository/SearchContent", "\"revision\": \"$TIP\", \"text\": \"line 1\"",
    "git grep -n -F -e 'line 1' $TIP || :", NULL, NULL, NULL },
  { "archive, tar", "Repository/Archive", "\"revision\": \"$TIP\", \"format\": \"ARCHIVE_TAR\"",
    "git archive --format=tar $TIP", NULL, NULL, NULL },
  { "what a prune would delete", "Repository/Prune", "\"dry_run\": true",
    "git repack -a -d -n -q --cruft --cruft-expiration=never --write-midx --write-bitmap-index", NULL, NULL, NULL,
    TRUE },
  { "update a ref", "Ref/Update", "\"updates\": [{\"name\": \"refs/heads/w/$N\", \"new_oid\": \"$TIP\"}]",
    "git update-ref refs/heads/w/$N $TIP", NULL, NULL, NULL },
  { "commit one file", "Change/CommitFiles",
    ON ("$TIP") ", \"message\": \"m\", \"actions\": [{\"kind\": \"FILE_PUT\", \"path\": \"bench/$N\", \"content\": "
                "\"file of $N\"}]",
    "git fast-import --quiet --date-format=raw < bench-input", NULL, NULL,
    "commit refs/heads/w/$N\ncommitter B <b@example.org> 1600000000 +0000\ndata 1\nm\nfrom $TIP\nM 644 inline "
    "bench/$N\ndata <<E\nfile of $N\nE\n" },
  { "commit 100 files", "Change/CommitFiles", ON ("$TIP") ", \"message\": \"m\", \"actions\": [$ACTIONS]",
    "git fast-import --quiet --date-format=raw < bench-input", NULL, NULL,
    "commit refs/heads/w/$N\ncommitter B <b@example.org> 1600000000 +0000\ndata 1\nm\nfrom $TIP\n$LINES" },
  { "annotated tag", "Change/CreateTag",
    "\"tag\": \"t$N\", \"revision\": \"$TIP\", \"message\": \"m\", \"tagger\": $WHO", "git tag -a -m m t$N $TIP", NULL,
    NULL, NULL },
  { "merge", "Change/Merge", ON ("$TIP") ", \"source\": \"bench/side\", \"message\": \"m\"",
    "t=$(git merge-tree --write-tree $TIP bench/side); git update-ref refs/heads/w/$N $(git commit-tree -p $TIP -p "
    "bench/side -m m $t)",
    NULL, NULL, NULL },
  { "squash", "Change/Merge",
    ON ("$TIP") ", \"source\": \"bench/ten\", \"message\": \"m\", \"style\": \"MERGE_SQUASH\"",
    "t=$(git merge-tree --write-tree $TIP bench/ten); git update-ref refs/heads/w/$N $(git commit-tree -p $TIP -m m "
    "$t)",
    NULL, NULL, NULL },
  { "cherry-pick", "Change/CherryPick", ON ("$TIP") ", \"commits\": [\"bench/side\"]",
    INDEX "at=$TIP; " PICK ("bench/side~", "bench/side") "git update-ref refs/heads/w/$N $at", NULL, NULL, NULL },
  { "revert", "Change/Revert", ON ("bench/side") ", \"commits\": [\"bench/side\"]",
    INDEX "at=bench/side; " PICK ("bench/side", "bench/side~") "git update-ref refs/heads/w/$N $at", NULL, NULL, NULL },
  { "rebase of 10 commits", "Change/Rebase", ON ("bench/ten") ", \"onto\": \"$TIP\"",
    INDEX "at=$TIP; for c in $(git rev-list --reverse bench/ten~10..bench/ten); do " PICK (
        "$c~", "$c") "done; git update-ref refs/heads/w/$N $at",
    NULL, NULL, NULL },
  { "apply a patch", "Change/ApplyPatch",
    ON ("$TIP") ", \"patch\": \"From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\\nFrom: B "
                "<b@example.org>\\nDate: Mon, 1 Jan 2024 "
                "00:00:00 +0000\\nSubject: [PATCH] m\\n\\n---\\n\\ndiff --git a/bench-patch b/bench-patch\\nnew file "
                "mode 100644\\n--- /dev/null\\n+++ "
                "b/bench-patch\\n@@ -0,0 +1 @@\\n+file of $N\\n-- \\n2.39\\n\"",
    INDEX "git read-tree $TIP; git apply --cached bench-input; t=$(git write-tree); git update-ref refs/heads/w/$N "
          "$(git commit-tree -p $TIP -m m $t)",
    NULL, NULL,
    "diff --git a/bench-patch b/bench-patch\nnew file mode 100644\n--- /dev/null\n+++ b/bench-patch\n@@ -0,0 +1 "
    "@@\n+file of $N\n" },
};

static void
cell (GArray *times, GArray *ratios)
{
  if (times->len == 0)
    printf (" %18s |", "");
  else
    printf (" %9.0f (%6.2f) |", median (times), median (ratios));
}

static void
add (GArray *times, GArray *ratios, double us, double ours)
{
  double ratio = us / ours;
  g_array_append_val (times, us);
  g_array_append_val (ratios, ratio);
}

static void
print_row (Bench *bench, const Row *row)
{
  g_autoptr (GArray) ours = numbers (), none = numbers ();
  g_autoptr (GArray) git = numbers (), git_ratio = numbers (), batch = numbers (), batch_ratio = numbers (),
                     l2 = numbers (), l2_ratio = numbers ();
  call_us (bench, row->method, row->request);
  if (row->git != NULL)
    git_us (bench, row);
  gint64 until_us = g_get_monotonic_time () + bench->row_us;
  for (guint i = 0; i < (bench->row_us > 0 ? TURNS_MIN : 1) || (i < TURNS_MAX && g_get_monotonic_time () < until_us);
       i++)
    {
      double us = ours_us (bench, row);
      add (ours, none, us, us);
      if (row->git != NULL)
        add (git, git_ratio, git_us (bench, row), us);
      if (row->batch != NULL)
        add (batch, batch_ratio, batch_us (bench, row), us);
      if (row->libgit2 != NULL)
        add (l2, l2_ratio, libgit2_us (bench, row), us);
    }
  if (bench->empty_us == 0)
    bench->empty_us = median (ours);
  printf ("| %-33s | %8.0f | %6.2f |", row->title, median (ours), median (ours) / bench->empty_us);
  cell (git, git_ratio);
  cell (batch, batch_ratio);
  cell (l2, l2_ratio);
  printf ("\n");
  fflush (stdout);
  bench->n_slow += git_ratio->len > 0 && median (git_ratio) < 1 / 1.5;
}

static void
learn (Bench *bench)
{
  g_autofree char *count = ask_git (bench, "rev-list --count main");
  bench->small = atoi (count) < COMMITS_HEAVY;
  bench->tip = ask_git (bench, "rev-parse main");
  bench->old = ask_git (bench, "rev-list --skip=2000 --max-count=1 main");
  if (*bench->old == '\0')
    bench->old = ask_git (bench, "rev-list --max-parents=0 --max-count=1 main");
  bench->plain = ask_git (bench, "rev-list --no-merges --max-count=1 main");
  bench->file = ask_git (
      bench, "log --diff-filter=M --no-renames --name-only --format= main | grep -v '[^A-Za-z0-9/._-]' | head -1");
  bench->folder = g_path_get_dirname (bench->file);
  if (strcmp (bench->folder, ".") == 0)
    *bench->folder = '\0';
  g_autofree char *command = g_strdup_printf ("rev-parse 'main:%s'", bench->file);
  bench->blob = ask_git (bench, command);
}

/* Branches to merge, pick and move: one commit, and ten, off older commits; and the ten moved. Then git gets its own
 * repository. */
static void
prepare (Bench *bench)
{
  static const char side[]
      = "\"write\": {\"branch\": \"bench/side\", \"start\": \"$TIP~3\", \"committer\": $WHO}, \"message\": \"side\", "
        "\"actions\": [{\"kind\": \"FILE_PUT\", \"path\": \"bench-side\", \"content\": \"side\"}]";
  static const char ten[] = "\"write\": {\"branch\": \"bench/ten\", \"committer\": $WHO}, \"message\": \"one of ten\", "
                            "\"actions\": [{\"kind\": \"FILE_PUT\", \"path\": \"bench-ten/$N\", \"content\": \"$N\"}]";
  static const char base[] = "\"branch\": \"bench/ten\", \"revision\": \"$TIP~5\"";
  static const char branch[] = "\"branch\": \"bench/moved\", \"revision\": \"bench/ten\"";
  static const char moved[] = "\"write\": {\"branch\": \"bench/moved\", \"committer\": $WHO}, \"onto\": \"$TIP\"";
  const char *copy[] = { "cp", "-a", bench->git_dir, bench->peer, NULL };
  g_autoptr (GError) error = NULL;
  int status;
  call_us (bench, "Change/CommitFiles", side);
  call_us (bench, "Change/CreateBranch", base);
  for (guint i = 0; i < 10; i++)
    call_us (bench, "Change/CommitFiles", ten);
  call_us (bench, "Change/CreateBranch", branch);
  call_us (bench, "Change/Rebase", moved);
  if (!g_spawn_sync (NULL, (char **) copy, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status, &error)
      || !g_spawn_check_wait_status (status, &error))
    die ("cp: %s", error->message);
}

int
main (int argc, char **argv)
{
  Bench bench = { 0 };
  g_autoptr (GError) error = NULL;
  if (argc < 5)
    die ("usage: api-cost URL REPOSITORY GIT-DIR PEER [SECONDS [WORD]]");
  const GsClientOptions options = { .size = sizeof options, .url = argv[1] };
  bench.path = argv[2];
  bench.git_dir = argv[3];
  bench.peer = argv[4];
  bench.row_us = (gint64) ((argc > 5 ? atof (argv[5]) : 2) * G_USEC_PER_SEC);
  bench.methods = gsi_methods_new (&error);
  bench.client = bench.methods != NULL ? gs_client_new (&options, &error) : NULL;
  if (bench.client == NULL)
    die ("%s", error->message);
  must (git_libgit2_init ());
  must (git_repository_open (&bench.repository, bench.git_dir));
  learn (&bench);
  prepare (&bench);
  start_batch (&bench);
  printf ("tip %.10s, another commit %.10s, file %s; microseconds (and how many times ours)\n\n", bench.tip, bench.old,
          bench.file);
  printf ("| %-33s | %8s | %6s | %18s | %18s | %18s |\n|---|--:|--:|--:|--:|--:|\n", "", "ours", "/empty",
          "git, processes", "cat-file --batch", "libgit2");
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    if (i == 0 || ((argc <= 6 || strstr (rows[i].title, argv[6]) != NULL) && (bench.small || !rows[i].heavy)))
      print_row (&bench, &rows[i]);
  printf ("\n%u rows took more than 1.5 times git's time\n", bench.n_slow);
  gs_client_free (bench.client);
  git_repository_free (bench.repository);
  return 0;
}
