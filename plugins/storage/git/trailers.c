/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trailers of a message: see trailers.h. There is no grammar of them but what git takes for one: the last paragraph, unless it is
 * the title, when all of its lines are trailers, or a quarter of them and one that git itself writes.
 */
#include "trailers.h"

#include <string.h>

#define SEPARATOR ':'
#define COMMENT '#'

/* A message as git sees it: up to the first NUL. */
typedef struct
{
  const char *text;
  gsize len;
} Text;

/* Not the C library's: git knows four of them. */
static gboolean
is_space (char c)
{
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static gsize
next_line (const Text *text, gsize at)
{
  const char *end = at < text->len ? memchr (text->text + at, '\n', text->len - at) : NULL;
  return end != NULL ? (gsize) (end - text->text) + 1 : text->len;
}

/* The line that ends at @end, its own line break with it. Not for 0. */
static gsize
last_line (const Text *text, gsize end)
{
  const char *before = end > 1 ? memrchr (text->text, '\n', end - 1) : NULL;
  return before != NULL ? (gsize) (before - text->text) + 1 : 0;
}

static gboolean
is_blank (const Text *text, gsize at)
{
  while (at < text->len && text->text[at] != '\n' && is_space (text->text[at]))
    at++;
  return at >= text->len || text->text[at] == '\n';
}

static gboolean
begins (const Text *text, gsize at, const char *with)
{
  gsize len = strlen (with);
  return text->len - at >= len && memcmp (text->text + at, with, len) == 0;
}

/* Where the separator of the line at @at stands; @at when it is no trailer. */
static gsize
find_separator (const Text *text, gsize at)
{
  gboolean space = FALSE;
  for (gsize i = at; i < text->len; i++)
    {
      char c = text->text[i];
      if (c == SEPARATOR)
        return i;
      if (!space && (g_ascii_isalnum (c) || c == '-'))
        continue;
      if (i == at || (c != ' ' && c != '\t'))
        return at;
      space = TRUE;
    }
  return at;
}

/* Without what editors leave at the end: a cut line and what follows it, comments, empty lines, an old list of conflicts. */
static gsize
find_end (const Text *text)
{
  static const char cut[] = "\n# ------------------------ >8 ------------------------\n";
  const char *found = begins (text, 0, cut + 1) ? text->text : memmem (text->text, text->len, cut, sizeof cut - 1);
  gsize limit = found == NULL ? text->len : found == text->text ? 0 : (gsize) (found - text->text) + 1;
  gsize ignored = 0; /* 0 = the last line counts, as a first one that does not always does */
  gboolean conflicts = FALSE;
  for (gsize at = 0; at < limit; at = next_line (text, at))
    {
      if (text->text[at] == COMMENT || text->text[at] == '\n')
        ignored = ignored != 0 ? ignored : at;
      else if (begins (text, at, "Conflicts:\n"))
        {
          conflicts = TRUE;
          ignored = ignored != 0 ? ignored : at;
        }
      else if (!conflicts || text->text[at] != '\t')
        {
          conflicts = conflicts && ignored == 0;
          ignored = 0;
        }
    }
  return ignored != 0 ? ignored : limit;
}

static gboolean
is_gits_own (const Text *text, gsize at)
{
  return begins (text, at, "Signed-off-by: ") || begins (text, at, "(cherry picked from commit ");
}

/* Where the trailers begin; @end when there are none. Lines that begin with a space belong to the one above them. */
static gsize
find_start (const Text *text, gsize end)
{
  gboolean only_spaces = TRUE, own = FALSE;
  guint64 trailers = 0, others = 0, continued = 0;
  gsize title = 0;
  while (title < end && (text->text[title] == COMMENT || !is_blank (text, title)))
    title = next_line (text, title);
  for (gsize at = end; at > 0;)
    {
      at = last_line (text, at);
      if (at < title)
        return end;
      if (text->text[at] == COMMENT)
        {
          others += continued;
          continued = 0;
          continue;
        }
      if (is_blank (text, at))
        {
          if (only_spaces)
            continue;
          others += continued;
          return (own && trailers * 3 >= others) || (trailers > 0 && others == 0) ? next_line (text, at) : end;
        }
      only_spaces = FALSE;
      if (is_gits_own (text, at))
        own = TRUE;
      else if (is_space (text->text[at]))
        {
          continued++;
          continue;
        }
      else if (find_separator (text, at) == at)
        {
          others += 1 + continued;
          continued = 0;
          continue;
        }
      trailers++;
      continued = 0;
    }
  return end;
}

static void
trim (const char **text, gsize *len)
{
  while (*len > 0 && is_space ((*text)[*len - 1]))
    (*len)--;
  for (; *len > 0 && is_space (**text); (*text)++)
    (*len)--;
}

/* Each line break, with the spaces behind it, becomes one space. */
static void
unfold (const char *text, gsize len, GString *out)
{
  g_string_truncate (out, 0);
  for (gsize i = 0; i < len;)
    {
      char c = text[i++];
      if (c == '\n')
        while (i < len && is_space (text[i]))
          i++;
      g_string_append_c (out, c == '\n' ? ' ' : c);
    }
}

void
trailers_parse (const char *message, gsize len, TrailerVisit visit, gpointer user)
{
  g_autoptr (GString) value = g_string_new (NULL);
  Text text = { message, strnlen (message, len) };
  /* Empty lines before the title are none of it. */
  for (gsize next; text.len > 0 && is_blank (&text, 0); text.text += next, text.len -= next)
    next = next_line (&text, 0);
  gsize end = text.len > 0 ? find_end (&text) : 0, start = find_start (&text, end);
  for (gsize at = start, next; at < end; at = next)
    {
      gsize separator = find_separator (&text, at);
      next = next_line (&text, at);
      if (separator == at || separator >= end)
        continue;
      while (next < end && is_space (text.text[next]))
        next = next_line (&text, next);
      const char *key = text.text + at, *rest = text.text + separator + 1;
      gsize key_len = separator - at, rest_len = MIN (next, end) - separator - 1;
      trim (&key, &key_len);
      trim (&rest, &rest_len);
      unfold (rest, rest_len, value);
      rest = value->str;
      rest_len = value->len;
      trim (&rest, &rest_len);
      if (!visit (key, key_len, rest, rest_len, user))
        return;
    }
}
