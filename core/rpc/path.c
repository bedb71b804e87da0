/* SPDX-License-Identifier: Apache-2.0 */
/* Repository paths. See path.h. */
#include "path.h"

#include <string.h>

#define SUFFIX ".git"
#define SUFFIX_LEN 4
#define SHOWN 60 /* bytes of a bad path that a message repeats */

/* A segment of the input, and where it stands in there. */
typedef struct
{
  const char *text;
  gsize len, at;
  gboolean last;
} Segment;

/* Quotes what came from outside so that a message stays one line of readable text. */
static char *
quote (const char *text, gsize len)
{
  g_autofree char *valid = g_utf8_make_valid (text, (gssize) MIN (len, SHOWN));
  g_autofree char *escaped = g_strescape (valid, NULL);
  return g_strdup_printf ("\"%s%s\"", escaped, len > SHOWN ? "..." : "");
}

static gboolean
refuse (GError **error, const Segment *segment, gsize offset, const char *why)
{
  g_autofree char *shown = quote (segment->text, segment->len);
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "repository path: at byte %" G_GSIZE_FORMAT ", in %s: %s",
                  segment->at + offset, shown, why);
}

static gboolean
ends_with (const char *text, gsize len, const char *suffix)
{
  gsize n = strlen (suffix);
  return len >= n && g_ascii_strncasecmp (text + len - n, suffix, n) == 0;
}

/* Git and shells give these a meaning in ref names, patterns, remote addresses or on other systems. */
static const char *
forbidden_character (gunichar c)
{
  GUnicodeType type = g_unichar_type (c);
  if (type == G_UNICODE_CONTROL)
    return "a control character";
  if (type == G_UNICODE_FORMAT || type == G_UNICODE_LINE_SEPARATOR || type == G_UNICODE_PARAGRAPH_SEPARATOR)
    return "an invisible character";
  if (c < 0x80 && strchr ("\\:?*[~^", (int) c) != NULL)
    return "one of \\ : ? * [ ~ ^";
  return NULL;
}

static gboolean
check_characters (const Segment *segment, GError **error)
{
  const char *end = segment->text + segment->len;
  for (const char *at = segment->text; at < end; at = g_utf8_next_char (at))
    {
      const char *why = forbidden_character (g_utf8_get_char (at));
      if (why != NULL)
        return refuse (error, segment, (gsize) (at - segment->text), why);
    }
  return TRUE;
}

/* @base_len: without a trailing ".git". "a." and "a..git" would be one repository: both are looked at. */
static gboolean
check_ends (const Segment *segment, gsize base_len, GError **error)
{
  const char *text = segment->text;
  if (text[0] == '.')
    return refuse (error, segment, 0, "it begins with '.'");
  if (text[0] == '-')
    return refuse (error, segment, 0, "it begins with '-'");
  if (text[base_len - 1] == '.')
    return refuse (error, segment, base_len - 1, "it ends with '.'");
  if (ends_with (text, base_len, ".lock"))
    return refuse (error, segment, base_len - 5, "it ends with \".lock\"");
  if (g_unichar_isspace (g_utf8_get_char (text)))
    return refuse (error, segment, 0, "it begins with a space");
  if (g_unichar_isspace (g_utf8_get_char (g_utf8_find_prev_char (text, text + base_len))))
    return refuse (error, segment, base_len - 1, "it ends with a space");
  return TRUE;
}

static gboolean
check_segment (const Segment *segment, GError **error)
{
  gsize base_len = segment->len;
  if (segment->len == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "repository path: at byte %" G_GSIZE_FORMAT
                    ": an empty segment (a '/' too many)", segment->at);
  if (ends_with (segment->text, segment->len, SUFFIX) && segment->len > SUFFIX_LEN)
    {
      base_len -= SUFFIX_LEN;
      if (memcmp (segment->text + base_len, SUFFIX, SUFFIX_LEN) != 0)
        return refuse (error, segment, base_len, "the suffix is \".git\", in small letters");
      if (!segment->last)
        return refuse (error, segment, base_len, "only the last segment may end with \".git\"");
      if (ends_with (segment->text, base_len, SUFFIX))
        return refuse (error, segment, base_len - SUFFIX_LEN, "\".git\" twice");
    }
  if (base_len + (segment->last ? SUFFIX_LEN : 0) > GSI_PATH_SEGMENT_MAX)
    return refuse (error, segment, GSI_PATH_SEGMENT_MAX, "the segment is longer than 100 bytes");
  return check_characters (segment, error) && check_ends (segment, base_len, error);
}

static gboolean
check_whole (const char *input, gsize len, GError **error)
{
  const char *bad;
  if (len == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "repository path: it is empty");
  if (len > GSI_PATH_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "repository path: %" G_GSIZE_FORMAT " bytes, the limit is %d",
                    len, GSI_PATH_MAX);
  if (!g_utf8_validate (input, (gssize) len, &bad))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "repository path: at byte %" G_GSIZE_FORMAT ": not UTF-8",
                    (gsize) (bad - input));
  if (input[0] == '/')
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "repository path: it begins with '/'; leave that out");
  if (input[len - 1] == '/')
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "repository path: it ends with '/'; leave that out");
  return TRUE;
}

gboolean
gsi_path_normalize (const char *input, char **ret_normal, GError **error)
{
  gsize len = strlen (input);
  const char *at = input;
  char *normal;

  if (!check_whole (input, len, error))
    return FALSE;
  for (;;)
    {
      const char *slash = strchr (at, '/');
      Segment segment = { at, slash ? (gsize) (slash - at) : strlen (at), (gsize) (at - input), slash == NULL };
      if (!check_segment (&segment, error))
        return FALSE;
      if (slash == NULL)
        break;
      at = slash + 1;
    }
  normal = g_strconcat (input, g_str_has_suffix (input, SUFFIX) ? NULL : SUFFIX, NULL);
  if (strlen (normal) > GSI_PATH_MAX)
    {
      g_free (normal);
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "repository path: with \".git\" it is longer than %d bytes",
                      GSI_PATH_MAX);
    }
  *ret_normal = normal;
  return TRUE;
}

char *
gsi_path_key (const char *normal)
{
  g_autofree char *decomposed = g_utf8_normalize (normal, -1, G_NORMALIZE_NFD);
  g_autofree char *folded = g_utf8_casefold (decomposed ? decomposed : normal, -1);
  char *key = g_utf8_normalize (folded, -1, G_NORMALIZE_NFC);
  return key ? key : g_strdup (folded);
}
