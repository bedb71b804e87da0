/* SPDX-License-Identifier: Apache-2.0 */
/* Names in trees: see pathcheck.h. */
#include "pathcheck.h"

#include <string.h>

/* Code points that HFS+ ignores in names. */
static gboolean
hfs_ignores (gunichar c)
{
  return (c >= 0x200c && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) || (c >= 0x206a && c <= 0x206f) || c == 0xfeff;
}

/* @wanted in lower case, without the dot. */
static gboolean
hfs_is (const char *name, gsize len, const char *wanted)
{
  const char *at = name, *end = name + len;
  gsize matched = 0, want = strlen (wanted) + 1;
  while (at < end)
    {
      gunichar c = g_utf8_get_char_validated (at, end - at);
      if (c == (gunichar) -1 || c == (gunichar) -2)
        return FALSE;
      at = g_utf8_next_char (at);
      if (hfs_ignores (c))
        continue;
      if (matched >= want || c >= 0x80 || g_ascii_tolower ((char) c) != (matched == 0 ? '.' : wanted[matched - 1]))
        return FALSE;
      matched++;
    }
  return matched == want;
}

/* NTFS drops spaces and dots at the end, and ':' begins a stream's name. */
static gboolean
ntfs_ends (const char *name, gsize len)
{
  gsize i = 0;
  while (i < len && (name[i] == ' ' || name[i] == '.'))
    i++;
  return i == len || name[i] == ':' || name[i] == '\\';
}

static gboolean
ntfs_begins (const char *name, gsize len, const char *with)
{
  gsize n = strlen (with);
  return len >= n && g_ascii_strncasecmp (name, with, n) == 0 && ntfs_ends (name + n, len - n);
}

static gboolean
is_dotgit (const char *name, gsize len)
{
  if (hfs_is (name, len, "git"))
    return TRUE;
  /* Windows takes a backslash for a slash. */
  for (const char *at = name; at != NULL;)
    {
      gsize left = len - (gsize) (at - name);
      if (ntfs_begins (at, left, ".git") || ntfs_begins (at, left, "git~1"))
        return TRUE;
      at = memchr (at, '\\', left);
      if (at != NULL)
        at++;
    }
  return FALSE;
}

const char *
path_part_fault (const char *name, gsize len)
{
  if (len == 0)
    return "is empty";
  if (len == 1 && name[0] == '.')
    return "is \".\"";
  if (len == 2 && name[0] == '.' && name[1] == '.')
    return "is \"..\"";
  return is_dotgit (name, len) ? "means .git to some file system" : NULL;
}

gboolean
path_part_is_gitmodules (const char *name, gsize len)
{
  static const char *const begins[] = { ".gitmodules", "gitmod~1", "gitmod~2", "gitmod~3", "gitmod~4" };
  if (hfs_is (name, len, "gitmodules"))
    return TRUE;
  for (gsize i = 0; i < G_N_ELEMENTS (begins); i++)
    if (ntfs_begins (name, len, begins[i]))
      return TRUE;
  /* What NTFS makes of it when those are taken: a hash, cut at any place, a tilde and digits. */
  if (len >= 3 && g_ascii_strncasecmp (name, "gi7", 3) == 0)
    return memchr (name, '~', len) != NULL;
  return FALSE;
}

gboolean
path_part_is_judged (const char *name, gsize len)
{
  /* Wider than git's own rules on purpose: whoever asks leaves the judgement to git. */
  if (path_part_is_gitmodules (name, len))
    return TRUE;
  if (hfs_is (name, len, "gitattributes") || hfs_is (name, len, "gitignore") || hfs_is (name, len, "mailmap"))
    return TRUE;
  return (len >= 4 && g_ascii_strncasecmp (name, ".git", 4) == 0) || memchr (name, '~', len) != NULL;
}

gboolean
path_check (const char *path, gsize len, const char *field, GError **error)
{
  gsize parts = 0;
  if (len == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: must not be empty", field);
  if (len > PATH_BYTES_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: has %" G_GSIZE_FORMAT " bytes; at most %d are taken", field,
                    len, PATH_BYTES_MAX);
  if (memchr (path, '\0', len) != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: has a NUL byte in it", field);
  for (const char *at = path, *end = path + len; at <= end;)
    {
      const char *slash = at < end ? memchr (at, '/', (gsize) (end - at)) : NULL;
      gsize part = (gsize) ((slash != NULL ? slash : end) - at);
      const char *fault = path_part_fault (at, part);
      if (fault != NULL)
        {
          g_autofree char *shown = g_utf8_make_valid (path, (gssize) len);
          return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: '%s' has a part that %s", field, shown, fault);
        }
      if (++parts > PATH_PARTS_MAX)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: has more than %d parts", field, PATH_PARTS_MAX);
      if (slash == NULL)
        break;
      at = slash + 1;
    }
  return TRUE;
}
