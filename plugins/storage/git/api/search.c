/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RepositoryService: searches. Names are found by a walk of our own. Lines are found by git grep, as many as a page takes; the
 * lines around them are read here, of the page's files only, because git's own context cannot be told from its matches for sure.
 */
#include "api.h"

#include "../expression.h"
#include "../glob.h"

#include "gitstead/v1/repository.pb-c.h"

#define TEXT_MAX 1000
#define PATTERNS_MAX 20u
#define PATTERN_MAX 200u
#define SEARCH_PATHS_MAX 500
#define LINE_BYTES 4096u
#define PATH_BYTES (64u << 10)
#define CONTEXT_MAX 20
#define CONTEXT_BYTES 1024u

static gboolean
take_search_text (GitCall *call, const ProtobufCBinaryData *bytes, char **ret_text, GError **error)
{
  if (bytes->len > TEXT_MAX)
    return api_invalid (error, "text", "%" G_GSIZE_FORMAT " bytes, at most %d are taken", bytes->len, TEXT_MAX);
  return api_take_text (call, bytes, "text", ret_text, error);
}

/* -------------------------------------------------------------------------------------------- names */

typedef struct
{
  ApiPage page;
  Gitstead__V1__RepositorySearchNamesReply *reply;
  const char *text;      /* these two in lower case when case does not count */
  const char **patterns;
  gsize n_patterns;
  gboolean ignore_case;
  gsize base_len;
  char *last;
  gboolean more;
} Names;

static void
lower (char *text)
{
  for (; *text != '\0'; text++)
    *text = g_ascii_tolower (*text);
}

static gboolean
name_wanted (const Names *names, const char *path)
{
  g_autofree char *folded = names->ignore_case ? g_ascii_strdown (path, -1) : NULL;
  const char *name = folded != NULL ? folded : path;
  gboolean wanted = names->n_patterns == 0;
  if (strstr (name, names->text) == NULL)
    return FALSE;
  for (gsize i = 0; i < names->n_patterns && !wanted; i++)
    wanted = glob_matches (names->patterns[i], name);
  return wanted;
}

static gboolean
add_name (GitCall *call, const char *path, const GsTreeEntry *entry, gpointer user, gboolean *ret_more, GError **error)
{
  Names *names = user;
  (void) error;
  if (entry->type == GS_OBJECT_TREE || !name_wanted (names, path))
    return TRUE;
  if (!api_page_room (&names->page, strlen (path) + 8))
    {
      names->more = TRUE;
      *ret_more = FALSE;
      return TRUE;
    }
  names->last = api_text (call, path + names->base_len, -1);
  API_APPEND (call, names->reply, paths, api_bytes (call, path, strlen (path)));
  return TRUE;
}

/* The tree of a page is that of the first one: "<tree><path>". */
static gboolean
names_begin (GitCall *call, const Gitstead__V1__RepositorySearchNamesRequest *request, Names *names, GsOid *ret_tree,
             const char **ret_after, GError **error)
{
  const gsize raw = (gsize) call->repo->format;
  GsObject object;
  char *base;
  if (!api_page_begin (call, request->page, &names->page, error))
    return FALSE;
  *ret_after = NULL;
  if (names->page.state != NULL)
    {
      if (names->page.state_len <= raw || memchr (names->page.state + raw, 0, names->page.state_len - raw) != NULL)
        return gs_page_bad (error);
      *ret_after = api_text (call, (const char *) names->page.state + raw, (gssize) (names->page.state_len - raw));
      return api_page_tree (call, names->page.state, ret_tree, error);
    }
  if (!api_take_tree (call, &request->revision, "revision", ret_tree, error)
      || !api_take_entry (call, ret_tree, &request->path, "path", API_FOLDER, &base, &object, error))
    return FALSE;
  *ret_tree = object.oid;
  return TRUE;
}

static gboolean
take_name_patterns (GitCall *call, const Gitstead__V1__RepositorySearchNamesRequest *request, Names *names, GError **error)
{
  if (request->n_patterns > PATTERNS_MAX)
    return api_invalid (error, "patterns", "%" G_GSIZE_FORMAT " given, at most %u are taken", request->n_patterns, PATTERNS_MAX);
  names->patterns = api_alloc (call, (request->n_patterns + 1) * sizeof *names->patterns);
  for (gsize i = 0; i < request->n_patterns; i++)
    {
      char *pattern;
      if (request->patterns[i].len > PATTERN_MAX)
        return api_invalid (error, "patterns", "%" G_GSIZE_FORMAT " bytes, at most %u are taken", request->patterns[i].len, PATTERN_MAX);
      if (!api_take_text (call, &request->patterns[i], "patterns", &pattern, error))
        return FALSE;
      if (glob_fault (pattern) != NULL)
        return api_invalid (error, "patterns", "'%s': %s", pattern, glob_fault (pattern));
      if (request->ignore_case)
        lower (pattern);
      names->patterns[names->n_patterns++] = pattern;
    }
  return TRUE;
}

gboolean
api_search_names (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__RepositorySearchNamesRequest *request = (const void *) message;
  Names names = { .reply = (void *) answer, .ignore_case = request->ignore_case };
  char *text = api_text (call, "", 0), *base;
  const char *after;
  GsOid tree;
  if (((request->text.len > 0 || request->n_patterns == 0) && !take_search_text (call, &request->text, &text, error))
      || !take_name_patterns (call, request, &names, error)
      || !api_take_path (call, &request->path, "path", TRUE, &base, error)
      || !names_begin (call, request, &names, &tree, &after, error))
    return FALSE;
  if (request->ignore_case)
    lower (text);
  names.text = text;
  names.base_len = *base != '\0' ? strlen (base) + 1 : 0;
  if (!api_walk_tree (call, &tree, base, after, TRUE, add_name, &names, error))
    return FALSE;
  if (names.more)
    {
      g_autoptr (GByteArray) state = g_byte_array_new ();
      g_byte_array_append (state, tree.raw, tree.len);
      g_byte_array_append (state, (const guint8 *) names.last, (guint) strlen (names.last));
      names.reply->next_page_token = api_page_token (call, state->data, state->len);
    }
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ content */

/* Output of git grep -z: "<tree>:<path>" NUL "<line>" NUL "<column>" NUL "<text>" newline. */
typedef struct
{
  GitCall *call;
  ApiPage page;
  Gitstead__V1__RepositorySearchContentReply *reply;
  Gitstead__V1__ContentMatch *match; /* under way; NULL = an earlier page's, of which nothing is kept: the token bounds no @skip */
  guint part; /* 0 path, 1 line, 2 column, 3 text */
  guint64 skip, seen;
  gboolean more;
} Grep;

static gboolean
grep_field (ApiFields *fields, const char *field, gsize len, gboolean *ret_enough, GError **error)
{
  Grep *grep = fields->user;
  const gsize prefix = 2 * (gsize) grep->call->repo->format + 1;
  if (grep->part == 0)
    {
      if (fields->cut > 0)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "a path of repository %" G_GUINT64_FORMAT " has more than %u bytes",
                        grep->call->repo->id, PATH_BYTES);
      if (len <= prefix || field[prefix - 1] != ':')
        return gs_fail (error, GS_ERROR_INTERNAL, "git grep gave a line that is not understood");
      grep->match = NULL;
      if (grep->seen >= grep->skip)
        {
          grep->match = api_message (grep->call, &gitstead__v1__content_match__descriptor);
          grep->match->path = api_bytes (grep->call, field + prefix, len - prefix);
        }
    }
  else if (grep->match == NULL)
    grep->seen += grep->part == 3;
  else if (grep->part == 1)
    grep->match->line = g_ascii_strtoull (field, NULL, 10);
  else if (grep->part == 2)
    grep->match->column = g_ascii_strtoull (field, NULL, 10);
  else if (!api_page_room (&grep->page, len + grep->match->path.len + 34))
    grep->more = *ret_enough = TRUE;
  else
    {
      grep->seen++;
      grep->match->text = api_bytes (grep->call, field, len);
      API_APPEND (grep->call, grep->reply, matches, grep->match);
    }
  grep->part = (grep->part + 1) % 4;
  fields->separator = grep->part == 3 ? '\n' : '\0';
  fields->max = grep->part == 3 ? LINE_BYTES : PATH_BYTES; /* a line may be cut; a path that is cut is another one */
  return TRUE;
}

/* ------------------------------------------------------------------------------- lines around a match */

/* The file that the last match was in, read as far as it. */
typedef struct
{
  GitCall *call;
  const GsOid *tree;
  guint64 wanted; /* lines on either side */
  const ProtobufCBinaryData *path;
  GBytes *bytes;  /* NULL = larger than is read */
  const char *data, *end, *at;
  guint64 line;   /* that begins at @at */
  gsize taken;    /* bytes of the lines around the present match */
} Around;

static gboolean
around_open (Around *around, const ProtobufCBinaryData *path, GError **error)
{
  GitCall *call = around->call;
  const char *name = api_text (call, (const char *) path->data, (gssize) path->len);
  ObjectHandle *odb = api_odb (call, error);
  GsObject file;
  GsObjectType type;
  guint64 size;
  gboolean found;
  g_clear_pointer (&around->bytes, g_bytes_unref);
  around->path = path;
  if (odb == NULL || !gs_call_check (call->call, "read lines around matches", error)
      || !api_find_path (call, around->tree, name, &file, &found, error))
    return FALSE;
  if (!found)
    return gs_fail (error, GS_ERROR_INTERNAL, "git grep found something in %s, which is not there", name);
  if (!odb_header (call->repo, odb, &file.oid, &type, &size, error))
    {
      api_name_loss (call, &file.oid, error);
      return FALSE;
    }
  if (size > GIT_STREAM_BYTES)
    return TRUE;
  if (!api_read (call, &file.oid, GS_OBJECT_BLOB, GIT_STREAM_BYTES, &around->bytes, error))
    return FALSE;
  around->data = around->at = g_bytes_get_data (around->bytes, NULL);
  around->end = around->data + g_bytes_get_size (around->bytes);
  around->line = 1;
  return TRUE;
}

/* Behind the line at @at; NULL at the end of the file. */
static const char *
line_after (const Around *around, const char *at)
{
  const char *newline = memchr (at, '\n', (gsize) (around->end - at));
  return newline != NULL && newline + 1 < around->end ? newline + 1 : NULL;
}

static ProtobufCBinaryData
line_bytes (Around *around, const char *at)
{
  const char *newline = memchr (at, '\n', (gsize) (around->end - at));
  gsize len = MIN ((gsize) ((newline != NULL ? newline : around->end) - at), CONTEXT_BYTES);
  around->taken += len + 3;
  return api_bytes (around->call, at, len);
}

static gboolean
around_match (Around *around, Gitstead__V1__ContentMatch *match, GError **error)
{
  const char *first, *at;
  gsize n = 0;
  around->taken = 0;
  if ((around->path == NULL || around->path->len != match->path.len
       || memcmp (around->path->data, match->path.data, match->path.len) != 0)
      && !around_open (around, &match->path, error))
    return FALSE;
  if (around->bytes == NULL)
    return TRUE;
  while (around->line < match->line && (at = line_after (around, around->at)) != NULL)
    {
      around->at = at;
      around->line++;
    }
  if (around->line != match->line)
    return gs_fail (error, GS_ERROR_INTERNAL, "git grep found line %" G_GUINT64_FORMAT " of a file with fewer", match->line);
  for (first = around->at; n < around->wanted && first > around->data; n++)
    {
      const char *newline = first - 1 > around->data ? memrchr (around->data, '\n', (gsize) (first - 1 - around->data)) : NULL;
      first = newline != NULL ? newline + 1 : around->data;
    }
  for (; first < around->at; first = line_after (around, first))
    API_APPEND (around->call, match, before, line_bytes (around, first));
  for (at = around->at, n = 0; n < around->wanted && (at = line_after (around, at)) != NULL; n++)
    API_APPEND (around->call, match, after, line_bytes (around, at));
  return TRUE;
}

/* With them fewer matches may fit a page: the rest is for the next one. */
static gboolean
add_around (Grep *grep, const GsOid *tree, guint64 wanted, GError **error)
{
  Gitstead__V1__RepositorySearchContentReply *reply = grep->reply;
  Around around = { .call = grep->call, .tree = tree, .wanted = wanted };
  gboolean done = TRUE;
  gsize bytes = grep->page.bytes, n = 0;
  while (done && n < reply->n_matches)
    {
      done = around_match (&around, reply->matches[n], error);
      bytes += around.taken;
      if (done && n > 0 && bytes > API_PAGE_BYTES)
        break;
      n++;
    }
  g_clear_pointer (&around.bytes, g_bytes_unref);
  if (!done || n == reply->n_matches)
    return done;
  grep->seen -= reply->n_matches - n;
  grep->more = TRUE;
  reply->n_matches = n;
  return TRUE;
}

/* --------------------------------------------------------------------------------------- the request */

static gboolean
grep_begin (Grep *grep, const Gitstead__V1__RepositorySearchContentRequest *request, GsOid *ret_tree, GError **error)
{
  const gsize raw = (gsize) grep->call->repo->format;
  if (!api_page_begin (grep->call, request->page, &grep->page, error))
    return FALSE;
  if (grep->page.state == NULL)
    return api_take_tree (grep->call, &request->revision, "revision", ret_tree, error);
  if (grep->page.state_len != raw + sizeof grep->skip)
    return gs_page_bad (error);
  memcpy (&grep->skip, grep->page.state + raw, sizeof grep->skip);
  return api_page_tree (grep->call, grep->page.state, ret_tree, error);
}

static gboolean
take_grep (GitCall *call, const Gitstead__V1__RepositorySearchContentRequest *request, char **ret_text, GError **error)
{
  guint64 context;
  if (!take_search_text (call, &request->text, ret_text, error))
    return FALSE;
  if (strchr (*ret_text, '\n') != NULL)
    return api_invalid (error, "text", "contains a newline");
  if (request->max_per_file > G_MAXINT32)
    return api_invalid (error, "max_per_file", "%u is too many", request->max_per_file);
  return api_take_limit (request->context, 0, CONTEXT_MAX, "context", &context, error)
         && (!request->regular_expression || expression_check (*ret_text, strlen (*ret_text), "text", error));
}

/* NULL with @error. */
static GPtrArray *
grep_argv (GitCall *call, const Gitstead__V1__RepositorySearchContentRequest *request, char *text, const GsOid *tree, GError **error)
{
  static const char *const always[] = { "grep",       "-z",           "-n",          "--column",     "-I",
                                        "--full-name", "--no-color", "--no-textconv", "--threads=1", "--no-recurse-submodules" };
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  for (gsize i = 0; i < G_N_ELEMENTS (always); i++)
    g_ptr_array_add (argv, (gpointer) always[i]);
  if (request->ignore_case)
    g_ptr_array_add (argv, (gpointer) "-i");
  if (request->whole_words)
    g_ptr_array_add (argv, (gpointer) "-w");
  if (request->max_per_file != 0)
    {
      g_autofree char *max = g_strdup_printf ("--max-count=%u", request->max_per_file);
      g_ptr_array_add (argv, api_text (call, max, -1));
    }
  g_ptr_array_add (argv, (gpointer) (request->regular_expression ? "-E" : "-F"));
  g_ptr_array_add (argv, (gpointer) "-e");
  g_ptr_array_add (argv, text);
  g_ptr_array_add (argv, api_hex (call, tree));
  g_ptr_array_add (argv, (gpointer) "--");
  if (!api_add_pathspecs (call, argv, request->paths, request->n_paths, SEARCH_PATHS_MAX, ":(top,literal)", "paths", error))
    return NULL;
  g_ptr_array_add (argv, NULL);
  return g_steal_pointer (&argv);
}

gboolean
api_add_pathspecs (GitCall *call, GPtrArray *argv, const ProtobufCBinaryData *paths, gsize n, gsize most,
                   const char *magic, const char *field, GError **error)
{
  if (n > most)
    return api_invalid (error, field, "%" G_GSIZE_FORMAT " given, up to %" G_GSIZE_FORMAT " are taken", n, most);
  for (gsize i = 0; i < n; i++)
    {
      char *path;
      if (!api_take_path (call, &paths[i], field, FALSE, &path, error))
        return FALSE;
      g_autofree char *spec = g_strconcat (magic, path, NULL);
      g_ptr_array_add (argv, api_text (call, spec, -1));
    }
  return TRUE;
}

gboolean
api_search_content (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__RepositorySearchContentRequest *request = (const void *) message;
  Grep grep = { .call = call, .reply = (void *) answer };
  ApiFields fields = { .separator = '\0', .max = PATH_BYTES, .may_cut = TRUE, .visit = grep_field, .user = &grep };
  guint8 state[GS_OID_RAW_MAX + sizeof grep.skip];
  g_autoptr (GPtrArray) argv = NULL;
  g_autoptr (GError) why = NULL;
  int status;
  char *text;
  GsOid tree;
  if (!take_grep (call, request, &text, error) || !grep_begin (&grep, request, &tree, error)
      || (argv = grep_argv (call, request, text, &tree, error)) == NULL)
    return FALSE;
  if (!api_run_fields (call, (const char *const *) argv->pdata, NULL, &status, &fields, &why))
    {
      if (request->regular_expression && strstr (why->message, "-e option") != NULL)
        return api_invalid (error, "text", "no regular expression: %s", why->message);
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if (request->context > 0 && !add_around (&grep, &tree, request->context, error))
    return FALSE;
  memcpy (state, tree.raw, tree.len);
  memcpy (state + tree.len, &grep.seen, sizeof grep.seen);
  if (grep.more)
    grep.reply->next_page_token = api_page_token (call, state, tree.len + sizeof grep.seen);
  return TRUE;
}
