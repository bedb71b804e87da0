/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HistoryService: what a git process does: listings along renames and by regular expressions, and blame. Whatever comes
 * from a client stands behind "--", or is glued to its option; revisions are resolved ids.
 */
#include "api/history.h"

#include "child.h"

#include <stdio.h>
#include <sys/wait.h>

#define LINE_BYTES (2 * HIST_RAW + 1)
#define LISTED_MAX 5000000u
#define BLAME_OUTPUT_MAX (64u << 20)
#define BLAME_HUNKS_MAX 20000u
#define BLAME_RANGES_MAX 100u
#define BLAME_MESSAGE 1024u

/* ------------------------------------------------------------------------------------------- listing */

typedef struct
{
  GPtrArray *argv;
} Args;

static void args_add (Args *args, const char *format, ...) G_GNUC_PRINTF (2, 3);

static void
args_add (Args *args, const char *format, ...)
{
  va_list list;
  va_start (list, format);
  g_ptr_array_add (args->argv, g_strdup_vprintf (format, list));
  va_end (list);
}

static void
add_texts (Args *args, const char *option, const ProtobufCBinaryData *texts, gsize n)
{
  for (gsize i = 0; i < n; i++)
    args_add (args, "%s=%.*s", option, (int) texts[i].len, (const char *) texts[i].data);
}

static void
add_conditions (Args *args, const Gitstead__V1__HistoryRange *range)
{
  static const char *const orders[] = { NULL, "--topo-order", "--date-order", "--author-date-order" };
  if (orders[range->order] != NULL)
    args_add (args, "%s", orders[range->order]);
  if (range->first_parent)
    args_add (args, "--first-parent");
  if (range->merges != GITSTEAD__V1__HISTORY_MERGES__HISTORY_MERGES_ALL)
    args_add (args, range->merges == GITSTEAD__V1__HISTORY_MERGES__HISTORY_MERGES_NONE ? "--no-merges" : "--merges");
  if (range->since > 0)
    args_add (args, "--max-age=%" G_GINT64_FORMAT, range->since);
  if (range->until > 0)
    args_add (args, "--min-age=%" G_GINT64_FORMAT, range->until);
  if (range->ignore_case)
    args_add (args, "--regexp-ignore-case");
  if (range->all_messages)
    args_add (args, "--all-match");
  if (range->follow)
    args_add (args, "--follow");
  args_add (args, range->regex ? "--extended-regexp" : "--fixed-strings");
  add_texts (args, "--author", range->author, range->n_author);
  add_texts (args, "--committer", range->committer, range->n_committer);
  add_texts (args, "--grep", range->message, range->n_message);
}

/* On standard input: of all refs of a large repository there are more than a command line takes. */
static void
add_ids (GString *input, const char *prefix, const GArray *ids)
{
  for (guint i = 0; i < ids->len; i++)
    {
      char hex[GS_OID_HEX_MAX + 1];
      gs_oid_hex (&g_array_index (ids, GsOid, i), hex);
      g_string_append_printf (input, "%s%s\n", prefix, hex);
    }
}

static gboolean
take_ids (GBytes *output, guint64 skip, GByteArray *ids, GError **error)
{
  gsize len;
  const char *data = g_bytes_get_data (output, &len);
  for (gsize at = 0; at < len; at += LINE_BYTES)
    {
      guint8 raw[HIST_RAW];
      if (len - at < LINE_BYTES || data[at + LINE_BYTES - 1] != '\n' || !gs_unhex (data + at, HIST_RAW, raw))
        return gs_fail (error, GS_ERROR_INTERNAL, "list commits: git answered something else than ids");
      if (at / LINE_BYTES >= skip)
        g_byte_array_append (ids, raw, HIST_RAW);
    }
  return TRUE;
}

/* The regular expressions are the only thing of the client's that can be wrong by now. */
static gboolean
git_said (const char *doing, int status, const char *said, GError **error)
{
  const char *fatal = strstr (said, "fatal: ");
  if (WIFEXITED (status) && WEXITSTATUS (status) == 0)
    return TRUE;
  /* Of a message, and of an author or a committer. */
  if (fatal != NULL && (g_str_has_prefix (fatal, "fatal: command line, '") || g_str_has_prefix (fatal, "fatal: header, '")))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "a regular expression is not understood: %.200s", fatal);
  return gs_fail (error, child_failure (status, said), "%s: git ended with status %d: %.500s", doing, status, said);
}

gboolean
history_list_by_git (GitCall *call, const Gitstead__V1__HistoryRange *range, const GArray *include,
                     const GArray *exclude, guint64 skip, guint64 max, GByteArray *ids, GError **error)
{
  g_autoptr (GPtrArray) argv = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GString) tips = g_string_new (NULL);
  g_autoptr (GBytes) output = NULL, input = NULL;
  g_autofree char *said = NULL;
  Args args = { argv };
  int status;
  if (skip > LISTED_MAX || max > LISTED_MAX)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                    "list commits: along renames, or by regular expressions, at most %u are listed", LISTED_MAX);
  args_add (&args, "--literal-pathspecs");
  args_add (&args, "log");
  args_add (&args, "--format=%%H");
  args_add (&args, "--no-use-mailmap");
  /* What git skips it does not compare, and so it does not see renames there: we leave those commits out ourselves. */
  args_add (&args, "--max-count=%" G_GUINT64_FORMAT, skip + max);
  add_conditions (&args, range);
  add_ids (tips, "", include);
  add_ids (tips, "^", exclude);
  input = g_string_free_to_bytes (g_steal_pointer (&tips));
  args_add (&args, "--stdin");
  args_add (&args, "--");
  for (gsize i = 0; i < range->n_paths; i++)
    args_add (&args, "%.*s", (int) range->paths[i].len, (const char *) range->paths[i].data);
  g_ptr_array_add (argv, NULL);
  const ChildSpec spec = { .role = CHILD_PLAIN, .git_dir = call->repo->dir, .argv = (const char *const *) argv->pdata,
                           .input = -1, .output = -1, .extra = -1 };
  return child_run (call->storage, &spec, call->call, input, (gsize) (skip + max + 1) * LINE_BYTES, &output, &status,
                    &said, error)
         && git_said ("list commits", status, said, error) && take_ids (output, skip, ids, error);
}

/* --------------------------------------------------------------------------------------------- blame */

/** git blame --incremental: a line "<id> <original line> <line> <count>", then facts, the last of them the file name.
 */
typedef struct
{
  GitCall *call;
  HistoryCommits commits;
  Gitstead__V1__HistoryBlameReply *reply;
  Gitstead__V1__HistoryBlameHunk *hunk; /* whose facts are being read */
} Blame;

/* Undoes git's quoting of odd names. */
static ProtobufCBinaryData
unquote (GitCall *call, const char *text, gsize len)
{
  g_autoptr (GString) plain = g_string_new (NULL);
  if (len < 2 || text[0] != '"' || text[len - 1] != '"')
    return api_bytes (call, text, len);
  for (gsize i = 1; i + 1 < len; i++)
    {
      static const char from[] = "abtnvfr", to[] = "\a\b\t\n\v\f\r";
      const char *known = NULL;
      if (text[i] != '\\' || i + 2 >= len)
        {
          g_string_append_c (plain, text[i]);
          continue;
        }
      i++;
      if (text[i] >= '0' && text[i] <= '3' && i + 3 < len)
        {
          g_string_append_c (plain, (char) ((text[i] - '0') << 6 | (text[i + 1] - '0') << 3 | (text[i + 2] - '0')));
          i += 2;
        }
      else if ((known = memchr (from, text[i], sizeof from - 1)) != NULL)
        g_string_append_c (plain, to[known - from]);
      else
        g_string_append_c (plain, text[i]);
    }
  return api_bytes (call, plain->str, plain->len);
}

static gboolean
blame_garbled (GError **error)
{
  return gs_fail (error, GS_ERROR_INTERNAL, "blame: git answered something that is not understood");
}

static gboolean
blame_head (Blame *blame, const char *line, gsize len, GError **error)
{
  g_autofree char *text = g_strndup (line, len);
  guint8 raw[HIST_RAW];
  guint original, final, count;
  if (len < LINE_BYTES || !gs_unhex (text, HIST_RAW, raw)
      || sscanf (text + 2 * HIST_RAW, " %u %u %u", &original, &final, &count) != 3)
    return blame_garbled (error);
  if (blame->reply->n_hunks >= BLAME_HUNKS_MAX)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "blame: there are more than %u hunks; ask for ranges of lines",
                    BLAME_HUNKS_MAX);
  Gitstead__V1__HistoryBlameHunk *hunk = api_message (blame->call, &gitstead__v1__history_blame_hunk__descriptor);
  Gitstead__V1__Commit *commit;
  gboolean is_new;
  guint32 pos = hist_view_find (blame->commits.view, raw, error);
  if (pos == HIST_NONE || !history_commits_get (&blame->commits, pos, &commit, &is_new, error))
    return FALSE;
  if (is_new)
    API_APPEND (blame->call, blame->reply, commits, commit);
  hunk->commit = commit->oid;
  hunk->line = final;
  hunk->count = count;
  hunk->original_line = original;
  API_APPEND (blame->call, blame->reply, hunks, hunk);
  blame->hunk = hunk;
  return TRUE;
}

static gboolean
blame_parse (Blame *blame, GBytes *output, GError **error)
{
  gsize len;
  const char *data = g_bytes_get_data (output, &len), *end = data + len;
  for (const char *at = data; at < end;)
    {
      const char *newline = memchr (at, '\n', (gsize) (end - at));
      if (newline == NULL)
        return blame_garbled (error);
      gsize line = (gsize) (newline - at);
      if (blame->hunk == NULL && !blame_head (blame, at, line, error))
        return FALSE;
      else if (line > 9 && memcmp (at, "filename ", 9) == 0)
        {
          blame->hunk->original_path = unquote (blame->call, at + 9, line - 9);
          blame->hunk = NULL;
        }
      at = newline + 1;
    }
  return blame->hunk == NULL || blame_garbled (error);
}

static int
by_line (const void *a, const void *b)
{
  const Gitstead__V1__HistoryBlameHunk *one = *(Gitstead__V1__HistoryBlameHunk *const *) a;
  const Gitstead__V1__HistoryBlameHunk *two = *(Gitstead__V1__HistoryBlameHunk *const *) b;
  return one->line < two->line ? -1 : one->line > two->line;
}

static gboolean
blame_ranges (Args *args, const Gitstead__V1__HistoryBlameRequest *request, GError **error)
{
  if (request->n_ranges > BLAME_RANGES_MAX)
    return api_invalid (error, "ranges", "%" G_GSIZE_FORMAT " given, at most %u are taken", request->n_ranges,
                        BLAME_RANGES_MAX);
  for (gsize i = 0; i < request->n_ranges; i++)
    {
      const Gitstead__V1__HistoryLines *lines = request->ranges[i];
      if (lines->first == 0)
        return api_invalid (error, "ranges.first", "lines are counted from 1");
      if (lines->count == 0)
        args_add (args, "-L%u,", lines->first);
      else
        args_add (args, "-L%u,+%u", lines->first, lines->count);
    }
  return TRUE;
}

static gboolean
blame_said (int status, const char *said, GError **error)
{
  if (WIFEXITED (status) && WEXITSTATUS (status) != 0 && strstr (said, " has only ") != NULL)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "ranges.first: the file has fewer lines");
  return git_said ("blame", status, said, error);
}

static gboolean
blame_run (GitCall *call, const Gitstead__V1__HistoryBlameRequest *request, const GsOid *commit, const char *path,
           GBytes **ret_output, GError **error)
{
  g_autoptr (GPtrArray) argv = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GBytes) output = NULL;
  g_autofree char *said = NULL;
  char hex[GS_OID_HEX_MAX + 1];
  Args args = { argv };
  int status;
  gs_oid_hex (commit, hex);
  args_add (&args, "blame");
  args_add (&args, "--incremental");
  if (request->ignore_whitespace)
    args_add (&args, "-w");
  if (request->detect_moves)
    {
      args_add (&args, "-M");
      args_add (&args, "-C");
    }
  if (!blame_ranges (&args, request, error))
    return FALSE;
  args_add (&args, "%s", hex);
  args_add (&args, "--");
  args_add (&args, "%s", path);
  g_ptr_array_add (argv, NULL);
  const ChildSpec spec = { .role = CHILD_PLAIN, .git_dir = call->repo->dir, .argv = (const char *const *) argv->pdata,
                           .input = -1, .output = -1, .extra = -1 };
  if (!child_run (call->storage, &spec, call->call, NULL, BLAME_OUTPUT_MAX, &output, &status, &said, error)
      || !blame_said (status, said, error))
    return FALSE;
  *ret_output = g_steal_pointer (&output);
  return TRUE;
}

/* git's own messages for these are for a work tree. */
static gboolean
blame_check (GitCall *call, const Gitstead__V1__HistoryBlameRequest *request, GsOid *ret_commit, char **ret_path,
             GError **error)
{
  GsObject file;
  GsOid tree;
  ObjectHandle *odb = api_odb (call, error);
  if (odb == NULL || !api_take_commit (call, &request->revision, "revision", ret_commit, error)
      || !api_commit_tree (call, ret_commit, &tree, error)
      || !api_take_entry (call, &tree, &request->path, "path", API_FILE, ret_path, &file, error))
    return FALSE;
  if (odb_header (call->repo, odb, &file.oid, &file.type, &file.object_bytes, error))
    return TRUE;
  api_name_loss (call, &file.oid, error);
  return FALSE;
}

gboolean
history_blame (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__HistoryBlameRequest *request = (const void *) message;
  Blame blame = { .call = call, .reply = (void *) answer };
  g_autoptr (GBytes) output = NULL;
  GsOid commit;
  char *path;
  if (!blame_check (call, request, &commit, &path, error) || !blame_run (call, request, &commit, path, &output, error))
    return FALSE;
  g_autoptr (HistView) view = hist_view_open (call->repo, call->call, error);
  if (view == NULL)
    return FALSE;
  history_commits_init (&blame.commits, call, view, FALSE, BLAME_MESSAGE);
  gboolean done = blame_parse (&blame, output, error);
  history_commits_clear (&blame.commits);
  if (done && blame.reply->n_hunks > 0)
    qsort (blame.reply->hunks, blame.reply->n_hunks, sizeof *blame.reply->hunks, by_line);
  return done;
}
