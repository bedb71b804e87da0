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

typedef struct
{
  guint64 max_files, max_lines, max_bytes, max_patch_bytes;
  guint64 safe_files, safe_lines, safe_bytes; /* 0 = none */
} Limits;

typedef struct
{
  GitCall *call;
  ApiPage page;
  Limits limits;
  Gitstead__V1__DiffParsedReply *reply;
  RawReader raw;
  GPtrArray *paths; /* of DiffPath: one more than the limit at most */

  /* the file whose patch is being read; its message when it has come to one */
  guint at;
  gboolean has_patch;
  GString *patch;
  guint64 patch_size, additions, deletions;
  gboolean binary;
  guint64 old_left, new_left; /* lines of the hunk */

  guint next;           /* the file to be given out next */
  guint64 lines, bytes; /* of all so far, given out or not */
  guint64 skip;
  gboolean more;
} Parse;

static gboolean
take_limits (const Gitstead__V1__DiffLimits *asked, Limits *ret_limits, GError **error)
{
  static const Gitstead__V1__DiffLimits none = GITSTEAD__V1__DIFF_LIMITS__INIT;
  asked = asked != NULL ? asked : &none;
  *ret_limits = (Limits){ .safe_files = asked->safe_files, .safe_lines = asked->safe_lines, .safe_bytes = asked->safe_bytes };
  return api_take_limit (asked->max_files, 1000, FILES_MAX, "limits.max_files", &ret_limits->max_files, error)
         && api_take_limit (asked->max_lines, 50000, LINES_MAX, "limits.max_lines", &ret_limits->max_lines, error)
         && api_take_limit (asked->max_bytes, 5u << 20, BYTES_MAX, "limits.max_bytes", &ret_limits->max_bytes, error)
         && api_take_limit (asked->max_patch_bytes, 100u << 10, PATCH_MAX, "limits.max_patch_bytes",
                            &ret_limits->max_patch_bytes, error);
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
  Gitstead__V1__DiffFile *file;
  if (parse->next >= limits->max_files || parse->lines > limits->max_lines || parse->bytes > limits->max_bytes)
    {
      parse->reply->overflow = *ret_enough = TRUE;
      return;
    }
  if (parse->next >= parse->skip)
    {
      gboolean too_large = mine && parse->patch_size > limits->max_patch_bytes;
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
      if (mine)
        {
          file->patch = api_bytes (parse->call, parse->patch->str, len);
          file->patch_size = parse->patch_size;
          file->additions = parse->additions;
          file->deletions = parse->deletions;
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
  while (at < parse->paths->len && !is_header_of (line, len, parse->paths->pdata[at]))
    at++;
  if (at >= parse->paths->len && parse->paths->len > parse->limits.max_files)
    at = (guint) parse->limits.max_files; /* past the limit nobody kept the records */
  else if (at >= parse->paths->len)
    return gs_fail (error, GS_ERROR_INTERNAL, "git diff-tree gave a patch without a record");
  if (parse->has_patch && at == parse->at)
    return TRUE; /* the second half of a change of type */
  /* One file more than the limit tells that it is passed. */
  give_until (parse, at >= parse->limits.max_files ? at + 1 : at, ret_enough);
  parse->at = at;
  parse->has_patch = TRUE;
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
  if (parse->patch_size > parse->limits.max_patch_bytes)
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
  if (parse->old_left > 0 || parse->new_left > 0 || *line == '\\')
    {
      hunk_line (parse, *line);
      keep_line (parse, line, len, cut);
    }
  else if (g_str_has_prefix (line, "@@ "))
    {
      if (!begin_hunk (parse, line))
        return gs_fail (error, GS_ERROR_INTERNAL, "git diff-tree gave a hunk that is not understood");
      keep_line (parse, line, len, cut);
    }
  else if (g_str_has_prefix (line, "diff --git "))
    return begin_patch (parse, line, len, ret_enough, error);
  else if (g_str_has_prefix (line, "Binary files "))
    parse->binary = TRUE;
  if (parse->lines > parse->limits.max_lines || parse->bytes > parse->limits.max_bytes)
    {
      give_until (parse, parse->at, ret_enough);
      if (!*ret_enough)
        parse->reply->overflow = *ret_enough = TRUE;
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
  if (parse->paths->len > parse->limits.max_files)
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
      || (argv = diff_argv (call, request->options, formats, &sides, error)) == NULL
      || !api_run_fields (call, argv, NULL, NULL, &fields, error))
    return FALSE;
  enough = parse.more || parse.reply->overflow;
  give_until (&parse, paths->len, &enough);
  if (parse.more)
    parse.reply->next_page_token = diff_page_token (call, &sides, parse.next);
  return TRUE;
}
