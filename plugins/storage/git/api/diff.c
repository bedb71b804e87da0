/* SPDX-License-Identifier: Apache-2.0 */
/* DiffService: git finds the differences, so that clients see what they see at home; we bound and page them. */
#include "diff.h"

#define PATHS_MAX 500
#define COMPARED_PARENTS_MAX 64u /* each is compared, and the commit read again for it */
#define PAIRS_MAX 1000
#define CONTEXT_MAX 1000
#define PATCH_ID_MAX (64u << 20)

/* ------------------------------------------------------------------------------------ command line */

static gboolean
check_options (const Gitstead__V1__DiffOptions *options, GError **error)
{
  if (!api_take_enum (&gitstead__v1__diff_whitespace__descriptor, (int) options->whitespace, "options.whitespace", error)
      || !api_take_enum (&gitstead__v1__diff_algorithm__descriptor, (int) options->algorithm, "options.algorithm", error))
    return FALSE;
  if (options->rename_similarity > 100)
    return api_invalid (error, "options.rename_similarity", "%u is no percentage", options->rename_similarity);
  if (options->no_context && options->context != 0)
    return api_invalid (error, "options.no_context", "not together with context");
  if (options->copies && options->no_renames)
    return api_invalid (error, "options.copies", "not together with no_renames");
  return TRUE;
}

static gboolean
add_options (GitCall *call, GPtrArray *argv, const Gitstead__V1__DiffOptions *options, gboolean patch, GError **error)
{
  static const char *const whitespace[] = { NULL, "-b", "-w", "--ignore-space-at-eol", "--ignore-cr-at-eol" };
  static const char *const algorithms[] = { "myers", "minimal", "patience", "histogram" };
  const guint similarity = options->rename_similarity == 0 ? 50 : options->rename_similarity;
  guint64 context;
  if (!check_options (options, error)
      || !api_take_limit (options->context, 3, CONTEXT_MAX, "options.context", &context, error))
    return FALSE;
  g_autofree char *find = g_strdup_printf ("--find-%s=%u%%", options->copies ? "copies" : "renames", similarity);
  g_autofree char *unified = g_strdup_printf ("--unified=%" G_GUINT64_FORMAT, options->no_context ? 0 : context);
  g_autofree char *algorithm = g_strdup_printf ("--diff-algorithm=%s", algorithms[options->algorithm]);
  if (whitespace[options->whitespace] != NULL)
    g_ptr_array_add (argv, (gpointer) whitespace[options->whitespace]);
  if (options->ignore_blank_lines)
    g_ptr_array_add (argv, (gpointer) "--ignore-blank-lines");
  g_ptr_array_add (argv, api_text (call, algorithm, -1));
  g_ptr_array_add (argv, options->no_renames ? (gpointer) "--no-renames" : api_text (call, find, -1));
  /* Asking for context or words is asking for a patch. */
  if (patch)
    g_ptr_array_add (argv, api_text (call, unified, -1));
  if (patch && options->words)
    g_ptr_array_add (argv, (gpointer) "--word-diff=porcelain");
  return TRUE;
}

const char *const *
diff_argv (GitCall *call, const Gitstead__V1__DiffOptions *options, const char *const *formats, const ApiSides *sides,
           GError **error)
{
  static const char *const always[] = { "-r", "--full-index", "--no-abbrev", "--no-color", "--no-ext-diff", "--no-textconv",
                                        "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short" };
  static const Gitstead__V1__DiffOptions none = GITSTEAD__V1__DIFF_OPTIONS__INIT;
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  gboolean patch = FALSE;
  options = options != NULL ? options : &none;
  g_ptr_array_add (argv, (gpointer) "diff-tree");
  for (gsize i = 0; i < G_N_ELEMENTS (always); i++)
    g_ptr_array_add (argv, (gpointer) always[i]);
  for (; *formats != NULL; formats++)
    {
      patch = patch || strcmp (*formats, "--patch") == 0;
      g_ptr_array_add (argv, (gpointer) *formats);
    }
  if (!add_options (call, argv, options, patch, error))
    return NULL;
  g_ptr_array_add (argv, (gpointer) sides->left);
  g_ptr_array_add (argv, (gpointer) sides->right);
  g_ptr_array_add (argv, (gpointer) "--");
  if (!api_add_pathspecs (call, argv, options->paths, options->n_paths, PATHS_MAX, ":(top,literal)", "options.paths", error))
    return NULL;
  g_ptr_array_add (argv, NULL);
  const char **copy = api_alloc (call, argv->len * sizeof *copy);
  memcpy (copy, argv->pdata, argv->len * sizeof *copy);
  return copy;
}

/* -------------------------------------------------------------------------------------- raw records */

static const char status_letters[] = "?ADMRCT"; /* in the order of DiffStatus */

/* @path NULL: only how many paths follow is wanted. */
static gboolean
raw_header (GitCall *call, const char *field, gsize len, Gitstead__V1__DiffPath *path, guint *ret_paths)
{
  const gsize hex = 2 * (gsize) call->repo->format, oids = 1 + 6 + 1 + 6 + 1;
  const char *letter = field + oids + 2 * (hex + 1), *status;
  if (len < oids + 2 * (hex + 1) + 1 || field[0] != ':' || (status = strchr (status_letters + 1, *letter)) == NULL)
    return FALSE;
  *ret_paths = *letter == 'R' || *letter == 'C' ? 2 : 1;
  if (path == NULL)
    return TRUE;
  path->old_mode = (guint32) g_ascii_strtoull (field + 1, NULL, 8);
  path->new_mode = (guint32) g_ascii_strtoull (field + 8, NULL, 8);
  path->old_oid = api_text (call, field + oids, (gssize) hex);
  path->new_oid = api_text (call, field + oids + hex + 1, (gssize) hex);
  path->status = (Gitstead__V1__DiffStatus) (status - status_letters);
  path->similarity = (guint32) g_ascii_strtoull (letter + 1, NULL, 10);
  return TRUE;
}

gboolean
diff_raw_field (GitCall *call, RawReader *reader, const char *field, gsize len, Gitstead__V1__DiffPath **ret_path,
                GError **error)
{
  if (reader->paths == 0)
    {
      reader->path = api_message (call, &gitstead__v1__diff_path__descriptor);
      return raw_header (call, field, len, reader->path, &reader->paths)
             || gs_fail (error, GS_ERROR_INTERNAL, "git diff-tree gave a record that is not understood");
    }
  if (reader->path->old_path.len == 0)
    reader->path->old_path = reader->path->new_path = api_bytes (call, field, len);
  else
    reader->path->new_path = api_bytes (call, field, len);
  if (--reader->paths == 0)
    *ret_path = reader->path;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- pages */

gboolean
diff_page_begin (GitCall *call, const Gitstead__V1__Page *page, const ProtobufCBinaryData *left,
                 const ProtobufCBinaryData *right, ApiPage *ret_page, ApiSides *ret_sides, guint64 *ret_skip,
                 GError **error)
{
  const gsize raw = (gsize) call->repo->format;
  if (!api_page_begin (call, page, ret_page, error))
    return FALSE;
  *ret_skip = 0;
  if (ret_page->state == NULL)
    return api_take_sides (call, left, right, ret_sides, error);
  if (ret_page->state_len != 2 * raw + sizeof *ret_skip)
    return gs_page_bad (error);
  memcpy (ret_skip, ret_page->state + 2 * raw, sizeof *ret_skip);
  return api_page_sides (call, ret_page->state, ret_sides, error);
}

ProtobufCBinaryData
diff_page_token (GitCall *call, const ApiSides *sides, guint64 skip)
{
  const gsize raw = (gsize) call->repo->format;
  guint8 state[2 * GS_OID_RAW_MAX + sizeof skip];
  gs_unhex (sides->left, raw, state);
  gs_unhex (sides->right, raw, state + raw);
  memcpy (state + 2 * raw, &skip, sizeof skip);
  return api_page_token (call, state, 2 * raw + sizeof skip);
}

/* ------------------------------------------------------------------------------------------ streams */

static gboolean
diff_raw (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  static const char *const formats[] = { "--patch", NULL };
  const Gitstead__V1__DiffRawRequest *request = (const void *) message;
  const char *const *argv;
  ApiSides sides;
  return api_take_sides (call, &request->left, &request->right, &sides, error)
         && (argv = diff_argv (call, request->options, formats, &sides, error)) != NULL
         && api_run_stream (call, argv, NULL, error);
}

static gboolean
diff_patch (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__DiffPatchRequest *request = (const void *) message;
  g_autofree char *range = NULL;
  g_autoptr (GBytes) bytes = NULL;
  CommitParts parts;
  GsOid left = { .len = 0 }, right;
  if (!api_take_commit (call, &request->right, "right", &right, error))
    return FALSE;
  if (request->left.len > 0 && !api_take_commit (call, &request->left, "left", &left, error))
    return FALSE;
  if (!api_read (call, &right, GS_OBJECT_COMMIT, API_COMMIT_MAX, &bytes, error)
      || !api_commit_parse (call, &right, g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), &parts, error))
    return FALSE;
  if (left.len == 0 && parts.n_parents > 0)
    left = parts.parents[0];
  range = left.len > 0 ? g_strdup_printf ("%s..%s", api_hex (call, &left), api_hex (call, &right))
                       : g_strdup (api_hex (call, &right));
  const char *const argv[]
      = { "format-patch", "--stdout", "--no-signature", "--no-ext-diff", "--no-textconv", "--full-index",
          "--subject-prefix=PATCH", "--no-cover-letter", "--no-attach", "--no-thread", "--no-base", "--no-color",
          left.len > 0 ? range : "--root", left.len > 0 ? "--" : range, left.len > 0 ? NULL : "--", NULL };
  return api_run_stream (call, argv, NULL, error);
}

/* -------------------------------------------------------------------------------------------- stats */

typedef struct
{
  GitCall *call;
  ApiPage page;
  Gitstead__V1__DiffStatsReply *reply;
  Gitstead__V1__DiffStat *stat; /* under way; NULL = an earlier page's, of which nothing is kept: the token bounds no @skip */
  guint paths;                  /* that it still lacks */
  guint64 skip, seen;
  gboolean more;
} Stats;

static void
stat_done (Stats *stats, gboolean *ret_enough)
{
  Gitstead__V1__DiffStat *stat = stats->stat;
  if (stat == NULL)
    stats->seen++;
  else if (!api_page_room (&stats->page, stat->old_path.len + stat->new_path.len + 32))
    stats->more = *ret_enough = TRUE;
  else
    {
      stats->seen++;
      API_APPEND (stats->call, stats->reply, files, stat);
    }
}

/* "<added>\t<deleted>\t<path>", or with an empty path and then two fields more. */
static gboolean
stat_field (ApiFields *fields, const char *field, gsize len, gboolean *ret_enough, GError **error)
{
  Stats *stats = fields->user;
  const char *tab, *path;
  if (stats->paths > 0)
    {
      if (stats->stat != NULL)
        *(stats->paths == 2 ? &stats->stat->old_path : &stats->stat->new_path) = api_bytes (stats->call, field, len);
      if (--stats->paths == 0)
        stat_done (stats, ret_enough);
      return TRUE;
    }
  tab = strchr (field, '\t');
  path = tab != NULL ? strchr (tab + 1, '\t') : NULL;
  if (path == NULL)
    return gs_fail (error, GS_ERROR_INTERNAL, "git diff-tree gave a record that is not understood");
  path++;
  stats->stat = NULL;
  if (stats->seen >= stats->skip)
    {
      stats->stat = api_message (stats->call, &gitstead__v1__diff_stat__descriptor);
      stats->stat->binary = field[0] == '-';
      stats->stat->additions = g_ascii_strtoull (field, NULL, 10);
      stats->stat->deletions = g_ascii_strtoull (tab + 1, NULL, 10);
    }
  if (*path == '\0')
    {
      stats->paths = 2;
      return TRUE;
    }
  if (stats->stat != NULL)
    stats->stat->old_path = stats->stat->new_path = api_bytes (stats->call, path, strlen (path));
  stat_done (stats, ret_enough);
  return TRUE;
}

static gboolean
diff_stats (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  static const char *const formats[] = { "--numstat", "-z", NULL };
  const Gitstead__V1__DiffStatsRequest *request = (const void *) message;
  Gitstead__V1__DiffStatsReply *reply = (void *) answer;
  Stats stats = { .call = call, .reply = reply };
  ApiFields fields = { .separator = '\0', .max = DIFF_FIELD_MAX, .visit = stat_field, .user = &stats };
  const char *const *argv;
  ApiSides sides;
  if (!diff_page_begin (call, request->page, &request->left, &request->right, &stats.page, &sides, &stats.skip, error)
      || (argv = diff_argv (call, request->options, formats, &sides, error)) == NULL
      || !api_run_fields (call, argv, NULL, NULL, &fields, error))
    return FALSE;
  if (stats.more)
    reply->next_page_token = diff_page_token (call, &sides, stats.seen);
  return TRUE;
}

/* ------------------------------------------------------------------------------------ changed paths */

/* One comparison: a pair of the request, and which parent of it. */
typedef struct
{
  ApiSides sides;
  guint32 pair, parent;
} Comparison;

typedef struct
{
  GitCall *call;
  ApiPage page;
  Gitstead__V1__DiffChangedPathsReply *reply;
  GArray *comparisons;
  guint next; /* comparison whose header comes next */
  RawReader raw;
  guint64 skip, seen;
  gboolean more;
} Changed;

static gboolean
add_pair (GitCall *call, GArray *comparisons, guint32 index, const Gitstead__V1__DiffPair *pair,
          Gitstead__V1__DiffMerges merges, GError **error)
{
  Comparison comparison = { .pair = index };
  gsize n_parents = 0;
  GsOid commit;
  if (pair->left.len > 0 || pair->right.len == 0)
    {
      if (!api_take_sides (call, &pair->left, &pair->right, &comparison.sides, error))
        {
          g_prefix_error (error, "pairs.");
          return FALSE;
        }
      g_array_append_val (comparisons, comparison);
      return TRUE;
    }
  if (!api_take_commit (call, &pair->right, "pairs.right", &commit, error)
      || !api_parent_sides (call, &commit, 0, &comparison.sides, &n_parents, error))
    return FALSE;
  if (n_parents > 1 && merges == GITSTEAD__V1__DIFF_MERGES__MERGES_NONE)
    return TRUE;
  if (merges == GITSTEAD__V1__DIFF_MERGES__MERGES_ALL_PARENTS && n_parents > COMPARED_PARENTS_MAX)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                    "pairs.right: a commit has %" G_GSIZE_FORMAT " parents; at most %u are compared", n_parents,
                    COMPARED_PARENTS_MAX);
  g_array_append_val (comparisons, comparison);
  for (gsize i = 1; i < n_parents && merges == GITSTEAD__V1__DIFF_MERGES__MERGES_ALL_PARENTS; i++)
    {
      comparison.parent = (guint32) i;
      if (!gs_call_check (call->call, "find changed paths", error)
          || !api_parent_sides (call, &commit, i, &comparison.sides, NULL, error))
        return FALSE;
      g_array_append_val (comparisons, comparison);
    }
  return TRUE;
}

/* git goes on in silence after two trees of which it cannot read one. */
static gboolean
not_compared (const Changed *changed, GError **error)
{
  const ApiSides *sides = &g_array_index (changed->comparisons, Comparison, changed->next).sides;
  return gs_fail (error, GS_ERROR_DATA_LOSS, "tree %s or %s of repository %" G_GUINT64_FORMAT " is damaged or lost", sides->left,
                  sides->right, changed->call->repo->id);
}

/* "<left> <right>\n" stands before the records of each comparison, whether it has any or not. */
static gboolean
take_headers (Changed *changed, const char **field, gsize *len, GError **error)
{
  const gsize line = 2 * (2 * (gsize) changed->call->repo->format + 1);
  while (changed->raw.paths == 0 && *len >= line && **field != ':')
    {
      const Comparison *at = &g_array_index (changed->comparisons, Comparison, changed->next);
      if (changed->next >= changed->comparisons->len)
        return gs_fail (error, GS_ERROR_INTERNAL, "git diff-tree answered more than it was asked");
      if (memcmp (*field, at->sides.left, line / 2 - 1) != 0 || memcmp (*field + line / 2, at->sides.right, line / 2 - 1) != 0)
        return not_compared (changed, error);
      changed->next++;
      *field += line;
      *len -= line;
    }
  return TRUE;
}

/* A record of an earlier page: counted, and nothing of it kept, as the token bounds no skip. */
static gboolean
changed_skip (Changed *changed, const char *field, gsize len, GError **error)
{
  RawReader *raw = &changed->raw;
  if (raw->paths == 0)
    return raw_header (changed->call, field, len, NULL, &raw->paths)
           || gs_fail (error, GS_ERROR_INTERNAL, "git diff-tree gave a record that is not understood");
  changed->seen += --raw->paths == 0;
  return TRUE;
}

static gboolean
changed_field (ApiFields *fields, const char *field, gsize len, gboolean *ret_enough, GError **error)
{
  Changed *changed = fields->user;
  Gitstead__V1__DiffPath *path = NULL;
  Gitstead__V1__DiffChangedPath *entry;
  if (!take_headers (changed, &field, &len, error))
    return FALSE;
  if (len == 0 && changed->raw.paths == 0)
    return TRUE;
  if (changed->next == 0)
    return gs_fail (error, GS_ERROR_INTERNAL, "git diff-tree gave a record before a header");
  if (changed->seen < changed->skip)
    return changed_skip (changed, field, len, error);
  if (!diff_raw_field (changed->call, &changed->raw, field, len, &path, error))
    return FALSE;
  if (path == NULL)
    return TRUE;
  if (!api_page_room (&changed->page, path->old_path.len + path->new_path.len + 130))
    {
      changed->more = *ret_enough = TRUE;
      return TRUE;
    }
  changed->seen++;
  entry = api_message (changed->call, &gitstead__v1__diff_changed_path__descriptor);
  entry->pair = g_array_index (changed->comparisons, Comparison, changed->next - 1).pair;
  entry->parent = g_array_index (changed->comparisons, Comparison, changed->next - 1).parent;
  entry->path = path;
  API_APPEND (changed->call, changed->reply, paths, entry);
  return TRUE;
}

/* "--diff-filter=AM"; *@ret_filter stays NULL when all are wanted. */
static gboolean
take_statuses (GitCall *call, const Gitstead__V1__DiffChangedPathsRequest *request, char **ret_filter, GError **error)
{
  g_autoptr (GString) filter = g_string_new ("--diff-filter=");
  for (gsize i = 0; i < request->n_statuses; i++)
    {
      if (!api_take_enum (&gitstead__v1__diff_status__descriptor, (int) request->statuses[i], "statuses", error))
        return FALSE;
      if (request->statuses[i] == GITSTEAD__V1__DIFF_STATUS__DIFF_STATUS_UNSPECIFIED)
        return api_invalid (error, "statuses", "DIFF_STATUS_UNSPECIFIED becomes of no path");
      if (strchr (filter->str + strlen ("--diff-filter="), status_letters[request->statuses[i]]) == NULL)
        g_string_append_c (filter, status_letters[request->statuses[i]]);
    }
  *ret_filter = request->n_statuses > 0 ? api_text (call, filter->str, -1) : NULL;
  return TRUE;
}

static gboolean
run_changed (Changed *changed, const Gitstead__V1__DiffChangedPathsRequest *request, const char *filter, GString *input,
             GError **error)
{
  const char *const argv[] = { "diff-tree", "--stdin", "-r", "-z", "--raw", "--no-abbrev", "--no-ext-diff",
                               request->renames ? "--find-renames" : "--no-renames", filter, NULL };
  ApiFields fields = { .separator = '\0', .max = 256 * (PAIRS_MAX + DIFF_FIELD_MAX), .visit = changed_field, .user = changed,
                       .take_rest = TRUE }; /* headers of comparisons without a difference */
  g_autoptr (GBytes) bytes = g_bytes_new (input->str, input->len);
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  guint8 state[32 + sizeof changed->skip];
  gsize digest = 32;
  g_checksum_update (sum, (const guchar *) input->str, (gssize) input->len);
  g_checksum_get_digest (sum, state, &digest);
  if (changed->page.state != NULL)
    {
      if (changed->page.state_len != sizeof state)
        return gs_page_bad (error);
      if (memcmp (changed->page.state, state, digest) != 0)
        return gs_fail (error, GS_ERROR_ABORTED,
                        "page.token: the revisions lead elsewhere than when the first page was read; begin again without one");
      memcpy (&changed->skip, changed->page.state + digest, sizeof changed->skip);
    }
  if (!api_run_fields (changed->call, argv, bytes, NULL, &fields, error))
    return FALSE;
  if (!changed->more && changed->next < changed->comparisons->len)
    return not_compared (changed, error);
  memcpy (state + digest, &changed->seen, sizeof changed->seen);
  if (changed->more)
    changed->reply->next_page_token = api_page_token (changed->call, state, sizeof state);
  return TRUE;
}

static gboolean
diff_changed_paths (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__DiffChangedPathsRequest *request = (const void *) message;
  g_autoptr (GArray) comparisons = g_array_new (FALSE, FALSE, sizeof (Comparison));
  Changed changed = { .call = call, .reply = (void *) answer, .comparisons = comparisons };
  g_autoptr (GString) input = g_string_new (NULL);
  char *filter = NULL;
  if (!api_take_count (request->n_pairs, PAIRS_MAX, "pairs", error) || !take_statuses (call, request, &filter, error)
      || !api_take_enum (&gitstead__v1__diff_merges__descriptor, (int) request->merges, "merges", error)
      || !api_page_begin (call, request->page, &changed.page, error))
    return FALSE;
  for (gsize i = 0; i < request->n_pairs; i++)
    if (!gs_call_check (call->call, "find changed paths", error)
        || !add_pair (call, comparisons, (guint32) i, request->pairs[i], request->merges, error))
      return FALSE;
  for (guint i = 0; i < comparisons->len; i++)
    {
      const ApiSides *sides = &g_array_index (comparisons, Comparison, i).sides;
      g_string_append_printf (input, "%s %s\n", sides->left, sides->right);
    }
  return run_changed (&changed, request, filter, input, error);
}

/* ------------------------------------------------------------------------------------------ patch id */

static gboolean
keep_patch (gpointer user, const char *data, gsize len, gboolean *ret_enough, GError **error)
{
  GString *patch = user;
  if (patch->len + len > PATCH_ID_MAX)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "the difference has more than %u bytes", PATCH_ID_MAX);
  g_string_append_len (patch, data, (gssize) len);
  return TRUE;
}

static gboolean
diff_patch_id (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  static const char *const formats[] = { "--patch", NULL };
  static const char *const patch_id[] = { "patch-id", "--stable", NULL };
  const Gitstead__V1__DiffPatchIdRequest *request = (const void *) message;
  Gitstead__V1__DiffPatchIdReply *reply = (void *) answer;
  GString *patch = g_string_new (NULL);
  g_autoptr (GString) id = g_string_new (NULL);
  const char *const *argv;
  ApiSides sides;
  gboolean done = api_take_sides (call, &request->left, &request->right, &sides, error)
                  && (argv = diff_argv (call, NULL, formats, &sides, error)) != NULL
                  && api_run (call, argv, NULL, NULL, keep_patch, patch, error);
  g_autoptr (GBytes) bytes = g_string_free_to_bytes (patch);
  if (!done || !api_run (call, patch_id, bytes, NULL, keep_patch, id, error))
    return FALSE;
  reply->patch_id = api_text (call, id->str, (gssize) strspn (id->str, "0123456789abcdef"));
  return TRUE;
}

const ApiRow api_diff_rows[] = {
  API_ROW (800, api_diff_parsed, diff_parsed_request, diff_parsed_reply),
  API_ROW (801, diff_raw, diff_raw_request, diff_raw_reply),
  API_ROW (802, diff_patch, diff_patch_request, diff_patch_reply),
  API_ROW (803, diff_stats, diff_stats_request, diff_stats_reply),
  API_ROW (804, diff_changed_paths, diff_changed_paths_request, diff_changed_paths_reply),
  API_ROW (805, diff_patch_id, diff_patch_id_request, diff_patch_id_reply),
  API_ROW (806, api_diff_range, diff_range_request, diff_range_reply),
  { 0 },
};
