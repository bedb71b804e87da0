/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Diff/Parsed: the output of `git diff-tree --raw -z --patch`, file by file. First come raw records, then the patches
 * in the same order; a file may have none (white space that does not count) or two (it changed its type). Lines of hunks
 * are counted, so no content is taken for a header.
 */
#include "diff.h"

#define LINE_BYTES (1u << 20)
#define FILES_MAX 100000
#define LINES_MAX 5000000
#define BYTES_MAX (512u << 20)
#define PATCH_MAX (400u << 10)
#define EXTENSIONS_MAX 100u
#define EXTENSION_BYTES 100u

typedef struct
{
  guint64 max_files, max_lines, max_bytes, max_patch_bytes;
  guint64 safe_files, safe_lines, safe_bytes; /* 0 = none */
  Gitstead__V1__DiffExtensionLimit *const *extensions;
  gsize n_extensions;
  gboolean all_paths;
} Limits;

typedef struct
{
  GitCall *call;
  ApiPage page;
  Limits limits;
  Gitstead__V1__DiffParsedReply *reply;
  RawReader raw;
  GPtrArray *paths; /* of DiffPath */
  guint paths_max;  /* one more than so many are kept */
  gboolean words;   /* hunks of words: their lines are not those that the header counts */
  gboolean in_hunk; /* with words */

  /* the file whose patch is being read; its message when it has come to one */
  guint at;
  gboolean has_patch;
  GString *patch;
  guint64 patch_max;
  guint64 patch_size, additions, deletions;
  gboolean binary;
  guint64 old_left, new_left; /* lines of the hunk */

  guint next;           /* the file to be given out next */
  guint64 lines, bytes; /* of all so far, given out or not */
  guint64 skip;
  gboolean more;
} Parse;

static gboolean
take_extensions (const Gitstead__V1__DiffLimits *asked, GError **error)
{
  if (asked->n_extensions > EXTENSIONS_MAX)
    return api_invalid (error, "limits.extensions", "%" G_GSIZE_FORMAT " given, at most %u are taken", asked->n_extensions,
                        EXTENSIONS_MAX);
  for (gsize i = 0; i < asked->n_extensions; i++)
    {
      const Gitstead__V1__DiffExtensionLimit *one = asked->extensions[i];
      const ProtobufCBinaryData *text = &one->extension;
      if (text->len == 0 || text->len > EXTENSION_BYTES)
        return api_invalid (error, "limits.extensions.extension", "has 1 to %u bytes", EXTENSION_BYTES);
      if (memchr (text->data, '.', text->len) != NULL || memchr (text->data, '/', text->len) != NULL
          || memchr (text->data, '\0', text->len) != NULL)
        return api_invalid (error, "limits.extensions.extension", "no name ends so: there is no dot, slash or NUL in it");
      if (one->max_patch_bytes == 0 || one->max_patch_bytes > PATCH_MAX)
        return api_invalid (error, "limits.extensions.max_patch_bytes", "is 1 to %u", PATCH_MAX);
      for (gsize k = 0; k < i; k++)
        if (asked->extensions[k]->extension.len == text->len
            && memcmp (asked->extensions[k]->extension.data, text->data, text->len) == 0)
          return api_invalid (error, "limits.extensions.extension", "'%.*s' is there twice", (int) text->len, (const char *) text->data);
    }
  return TRUE;
}

static gboolean
take_limits (const Gitstead__V1__DiffLimits *asked, Limits *ret_limits, GError **error)
{
  static const Gitstead__V1__DiffLimits none = GITSTEAD__V1__DIFF_LIMITS__INIT;
  asked = asked != NULL ? asked : &none;
  *ret_limits = (Limits){ .safe_files = asked->safe_files, .safe_lines = asked->safe_lines, .safe_bytes = asked->safe_bytes,
                          .extensions = asked->extensions, .n_extensions = asked->n_extensions, .all_paths = asked->all_paths };
  return api_take_limit (asked->max_files, 1000, FILES_MAX, "limits.max_files", &ret_limits->max_files, error)
         && api_take_limit (asked->max_lines, 50000, LINES_MAX, "limits.max_lines", &ret_limits->max_lines, error)
         && api_take_limit (asked->max_bytes, 5u << 20, BYTES_MAX, "limits.max_bytes", &ret_limits->max_bytes, error)
         && api_take_limit (asked->max_patch_bytes, 100u << 10, PATCH_MAX, "limits.max_patch_bytes",
                            &ret_limits->max_patch_bytes, error)
         && take_extensions (asked, error);
}

static guint64
patch_max (const Limits *limits, const ProtobufCBinaryData *path)
{
  const guint8 *dot = memrchr (path->data, '.', path->len), *slash = memrchr (path->data, '/', path->len);
  if (dot == NULL || (slash != NULL && slash > dot))
    return limits->max_patch_bytes;
  const gsize len = (gsize) (path->data + path->len - dot - 1);
  for (gsize i = 0; i < limits->n_extensions; i++)
    if (limits->extensions[i]->extension.len == len && memcmp (limits->extensions[i]->extension.data, dot + 1, len) == 0)
      return limits->extensions[i]->max_patch_bytes;
  return limits->max_patch_bytes;
}

/* ---------------------------------------------------------------------------------------- giving out */

static gboolean
over (guint64 value, guint64 limit)
{
  return limit != 0 && value > limit;
}

/* The next file is complete: with the patch that was read, when it is its. TRUE in *@ret_enough: nothing more is wanted. */
static void
give (Parse *parse, gboolean *ret_enough)
{
  const Limits *limits = &parse->limits;
  Gitstead__V1__DiffPath *path = parse->paths->pdata[parse->next];
  gboolean mine = parse->has_patch && parse->at == parse->next;
  gboolean past = parse->next >= limits->max_files || parse->lines > limits->max_lines || parse->bytes > limits->max_bytes;
  Gitstead__V1__DiffFile *file;
  parse->reply->overflow = parse->reply->overflow || past;
  if (past && !limits->all_paths)
    {
      *ret_enough = TRUE;
      return;
    }
  mine = mine && !past;
  if (parse->next >= parse->skip)
    {
      gboolean too_large = mine && parse->patch_size > parse->patch_max;
      gboolean collapsed = over (parse->next + 1, limits->safe_files) || over (parse->lines, limits->safe_lines)
                           || over (parse->bytes, limits->safe_bytes);
      gsize len = mine && !too_large && !collapsed ? parse->patch->len : 0;
      if (!api_page_room (&parse->page, len + path->old_path.len + path->new_path.len + 180))
        {
          parse->more = *ret_enough = TRUE;
          return;
        }
      file = api_message (parse->call, &gitstead__v1__diff_file__descriptor);
      file->path = path;
      file->omitted = past;
      if (mine)
        {
          file->patch = api_bytes (parse->call, parse->patch->str, len);
          file->patch_size = parse->patch_size;
          /* Of what is a file of lines on one side only git counts none. */
          file->additions = parse->binary ? 0 : parse->additions;
          file->deletions = parse->binary ? 0 : parse->deletions;
          file->binary = parse->binary;
          file->too_large = too_large;
          file->collapsed = collapsed && !too_large && parse->patch_size > 0;
        }
      API_APPEND (parse->call, parse->reply, files, file);
    }
  parse->next++;
}

static void
give_until (Parse *parse, guint index, gboolean *ret_enough)
{
  while (!*ret_enough && parse->next < index)
    give (parse, ret_enough);
}

/* ----------------------------------------------------------------------------------------- reading */

/* As git quotes names in headers. */
static void
append_quoted (GString *text, const char *prefix, const ProtobufCBinaryData *path)
{
  static const char plain[] = "abtnvfr";
  gsize start = text->len;
  gboolean quoted = FALSE;
  g_string_append_c (text, '"');
  g_string_append (text, prefix);
  for (gsize i = 0; i < path->len; i++)
    {
      guint8 c = path->data[i];
      if (c >= 7 && c <= 13)
        g_string_append_printf (text, "\\%c", plain[c - 7]);
      else if (c == '"' || c == '\\')
        g_string_append_printf (text, "\\%c", c);
      else if (c < 32 || c >= 127)
        g_string_append_printf (text, "\\%03o", c);
      else
        {
          g_string_append_c (text, (char) c);
          continue;
        }
      quoted = TRUE;
    }
  if (quoted)
    g_string_append_c (text, '"');
  else
    g_string_erase (text, (gssize) start, 1);
}

static gboolean
is_header_of (const char *line, gsize len, const Gitstead__V1__DiffPath *path)
{
  g_autoptr (GString) expected = g_string_new ("diff --git ");
  append_quoted (expected, "a/", &path->old_path);
  g_string_append_c (expected, ' ');
  append_quoted (expected, "b/", &path->new_path);
  return expected->len == len && memcmp (expected->str, line, len) == 0;
}

/* A patch begins: whose? */
static gboolean
begin_patch (Parse *parse, const char *line, gsize len, gboolean *ret_enough, GError **error)
{
  guint at = parse->has_patch ? parse->at : 0;
  parse->in_hunk = FALSE;
  while (at < parse->paths->len && !is_header_of (line, len, parse->paths->pdata[at]))
    at++;
  if (at >= parse->paths->len && parse->paths->len > parse->paths_max)
    at = parse->paths_max; /* past the limit nobody kept the records */
  else if (at >= parse->paths->len)
    return gs_fail (error, GS_ERROR_INTERNAL, "git diff-tree gave a patch without a record");
  if (parse->has_patch && at == parse->at)
    return TRUE; /* the second half of a change of type */
  /* One file more than the limit tells that it is passed. */
  give_until (parse, at >= parse->limits.max_files ? at + 1 : at, ret_enough);
  if (parse->reply->overflow)
    *ret_enough = TRUE; /* of patches; the paths are all here */
  parse->at = at;
  parse->has_patch = TRUE;
  parse->patch_max = patch_max (&parse->limits, &((const Gitstead__V1__DiffPath *) parse->paths->pdata[at])->new_path);
  parse->binary = FALSE;
  parse->patch_size = parse->additions = parse->deletions = 0;
  g_string_truncate (parse->patch, 0);
  return TRUE;
}

static void
keep_line (Parse *parse, const char *line, gsize len, gsize cut)
{
  parse->patch_size += len + cut + 1;
  parse->bytes += len + cut + 1;
  if (parse->patch_size > parse->patch_max)
    return;
  g_string_append_len (parse->patch, line, (gssize) len);
  g_string_append_c (parse->patch, '\n');
}

/* "@@ -1,2 +3,4 @@ …": a count that is left out is 1. */
static gboolean
begin_hunk (Parse *parse, const char *line)
{
  const char *at = line + strlen ("@@ ");
  for (int side = 0; side < 2; side++)
    {
      char *end;
      guint64 count = 1;
      if (*at != (side == 0 ? '-' : '+'))
        return FALSE;
      g_ascii_strtoull (at + 1, &end, 10);
      if (*end == ',')
        count = g_ascii_strtoull (end + 1, &end, 10);
      if (*end != ' ')
        return FALSE;
      *(side == 0 ? &parse->old_left : &parse->new_left) = count;
      at = end + 1;
    }
  return TRUE;
}

static void
hunk_line (Parse *parse, char sign)
{
  if (sign == '\\')
    return;
  parse->lines++;
  if (sign != '+' && parse->old_left > 0)
    parse->old_left--;
  if (sign != '-' && parse->new_left > 0)
    parse->new_left--;
  parse->additions += sign == '+';
  parse->deletions += sign == '-';
}

static gboolean
patch_line (Parse *parse, const char *line, gsize len, gsize cut, gboolean *ret_enough, GError **error)
{
  const gboolean inside = parse->words ? parse->in_hunk && strchr (" +-~\\", *line) != NULL
                                       : parse->old_left > 0 || parse->new_left > 0 || *line == '\\';
  if (inside)
    {
      hunk_line (parse, *line);
      keep_line (parse, line, len, cut);
    }
  else if (g_str_has_prefix (line, "@@ "))
    {
      if (!begin_hunk (parse, line))
        return gs_fail (error, GS_ERROR_INTERNAL, "git diff-tree gave a hunk that is not understood");
      parse->in_hunk = TRUE;
      keep_line (parse, line, len, cut);
    }
  else if (g_str_has_prefix (line, "diff --git "))
    return begin_patch (parse, line, len, ret_enough, error);
  else if (g_str_has_prefix (line, "Binary files "))
    parse->binary = TRUE;
  if (parse->lines > parse->limits.max_lines || parse->bytes > parse->limits.max_bytes)
    {
      give_until (parse, parse->at, ret_enough);
      parse->reply->overflow = parse->reply->overflow || !parse->more;
      *ret_enough = TRUE;
    }
  return TRUE;
}

/* Of a record that nobody will see. */
static void
skip_record (RawReader *raw, const char *field)
{
  if (raw->paths > 0)
    raw->paths--;
  else
    raw->paths = strstr (field, " R") != NULL || strstr (field, " C") != NULL ? 2 : 1;
}

static gboolean
parse_field (ApiFields *fields, const char *field, gsize len, gboolean *ret_enough, GError **error)
{
  Parse *parse = fields->user;
  Gitstead__V1__DiffPath *path = NULL;
  if (fields->separator == '\n')
    return patch_line (parse, field, len, fields->cut, ret_enough, error);
  if (len == 0 && parse->raw.paths == 0)
    {
      fields->separator = '\n';
      return TRUE;
    }
  if (parse->paths->len > parse->paths_max)
    {
      skip_record (&parse->raw, field);
      return TRUE;
    }
  if (!diff_raw_field (parse->call, &parse->raw, field, len, &path, error))
    return FALSE;
  if (path != NULL)
    g_ptr_array_add (parse->paths, path);
  return TRUE;
}

gboolean
api_diff_parsed (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  static const char *const formats[] = { "--raw", "--patch", "-z", NULL };
  const Gitstead__V1__DiffParsedRequest *request = (const void *) message;
  g_autoptr (GPtrArray) paths = g_ptr_array_new ();
  g_autoptr (GString) patch = g_string_new (NULL);
  Parse parse = { .call = call, .reply = (void *) answer, .paths = paths, .patch = patch };
  ApiFields fields = { .separator = '\0', .max = LINE_BYTES, .may_cut = TRUE, .visit = parse_field, .user = &parse };
  const char *const *argv;
  gboolean enough;
  ApiSides sides;
  if (!take_limits (request->limits, &parse.limits, error)
      || !diff_page_begin (call, request->page, &request->left, &request->right, &parse.page, &sides, &parse.skip, error)
      || (argv = diff_argv (call, request->options, formats, &sides, error)) == NULL)
    return FALSE;
  parse.paths_max = parse.limits.all_paths ? FILES_MAX : (guint) parse.limits.max_files;
  parse.words = request->options != NULL && request->options->words;
  if (!api_run_fields (call, argv, NULL, NULL, &fields, error))
    return FALSE;
  enough = parse.more || (parse.reply->overflow && !parse.limits.all_paths);
  give_until (&parse, paths->len, &enough);
  if (parse.more)
    parse.reply->next_page_token = diff_page_token (call, &sides, parse.next);
  return TRUE;
}
