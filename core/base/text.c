/* SPDX-License-Identifier: Apache-2.0 */
/* Words for people and machines. See text.h. */
#include "base/text.h"

#include <string.h>

#define WORD_MAX 64

guint
gsi_text_distance (const char *a, const char *b)
{
  gsize a_len = strlen (a), b_len = strlen (b);
  guint rows[3][WORD_MAX + 1];
  guint *before = rows[0], *last = rows[1], *now = rows[2];

  if (a_len > WORD_MAX || b_len > WORD_MAX)
    return strcmp (a, b) == 0 ? 0 : G_MAXUINT;
  for (gsize j = 0; j <= b_len; j++)
    last[j] = (guint) j;
  for (gsize i = 1; i <= a_len; i++)
    {
      guint *spare = before;
      now[0] = (guint) i;
      for (gsize j = 1; j <= b_len; j++)
        {
          guint best = last[j - 1] + (a[i - 1] != b[j - 1]);
          best = MIN (best, last[j] + 1);
          best = MIN (best, now[j - 1] + 1);
          if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
            best = MIN (best, before[j - 2] + 1);
          now[j] = best;
        }
      before = last;
      last = now;
      now = spare;
    }
  return last[b_len];
}

const char *
gsi_text_nearest (const char *word, const char *const *words, gsize n)
{
  const char *nearest = NULL;
  guint least = G_MAXUINT;

  for (gsize i = 0; i < n; i++)
    {
      guint distance;
      if (words[i] == NULL)
        continue;
      distance = gsi_text_distance (word, words[i]);
      if (distance < least)
        {
          least = distance;
          nearest = words[i];
        }
    }
  /* A third of the letters wrong is a typo; more is another word. */
  if (nearest == NULL || least > MAX (1, MAX (strlen (word), strlen (nearest)) / 3))
    return NULL;
  return nearest;
}

/* ---------------------------------------------------------------------------------------- escaping */

/* Length of the UTF-8 character at @text, 0 when it is none. */
static gsize
character_length (const char *text, gsize left)
{
  gunichar c = g_utf8_get_char_validated (text, (gssize) MIN (left, 6));
  if (c == (gunichar) -1 || c == (gunichar) -2)
    return 0;
  return (gsize) (g_utf8_next_char (text) - text);
}

void
gsi_text_append_json (GString *out, const char *text, gssize len)
{
  gsize left = len < 0 ? strlen (text) : (gsize) len;

  g_string_append_c (out, '"');
  while (left > 0)
    {
      guchar c = (guchar) *text;
      gsize n = 1;

      if (c == '"' || c == '\\')
        {
          g_string_append_c (out, '\\');
          g_string_append_c (out, (char) c);
        }
      else if (c == '\n')
        g_string_append (out, "\\n");
      else if (c == '\t')
        g_string_append (out, "\\t");
      else if (c == '\r')
        g_string_append (out, "\\r");
      else if (c < 0x20 || c == 0x7f)
        g_string_append_printf (out, "\\u%04x", c);
      else if (c < 0x80)
        g_string_append_c (out, (char) c);
      else if ((n = character_length (text, left)) > 0)
        g_string_append_len (out, text, (gssize) n);
      else
        {
          g_string_append (out, "\xef\xbf\xbd");
          n = 1;
        }
      text += n;
      left -= n;
    }
  g_string_append_c (out, '"');
}

static gboolean
needs_quotes (const char *text, gsize len)
{
  if (len == 0)
    return TRUE;
  for (gsize i = 0; i < len; i++)
    if (text[i] == ' ' || text[i] == '"' || text[i] == '=' || text[i] == '\\')
      return TRUE;
  return FALSE;
}

/* @lines: line breaks stay, and a backslash is only itself. */
static void
append_escaped (GString *out, const char *text, gsize left, gboolean quote, gboolean lines)
{
  while (left > 0)
    {
      guchar c = (guchar) *text;
      gsize n = 1;

      if (c == '\n')
        g_string_append (out, lines ? "\n  " : "\\n");
      else if (c == '\t')
        g_string_append (out, "\\t");
      else if (c == '\r')
        g_string_append (out, "\\r");
      else if ((c == '\\' && !lines) || (quote && c == '"'))
        {
          g_string_append_c (out, '\\');
          g_string_append_c (out, (char) c);
        }
      else if (c >= 0x20 && c < 0x7f)
        g_string_append_c (out, (char) c);
      /* The C1 controls can drive a terminal too. */
      else if (c >= 0xc3 && (n = character_length (text, left)) > 0)
        g_string_append_len (out, text, (gssize) n);
      else if (c == 0xc2 && left > 1 && (guchar) text[1] >= 0xa0 && (n = character_length (text, left)) > 0)
        g_string_append_len (out, text, (gssize) n);
      else
        {
          g_string_append_printf (out, "\\x%02x", c);
          n = 1;
        }
      text += n;
      left -= n;
    }
}

void
gsi_text_append_escaped (GString *out, const char *text, gssize len, gboolean quote)
{
  gsize left = len < 0 ? strlen (text) : (gsize) len;

  quote = quote && needs_quotes (text, left);
  if (quote)
    g_string_append_c (out, '"');
  append_escaped (out, text, left, quote, FALSE);
  if (quote)
    g_string_append_c (out, '"');
}

void
gsi_text_append_message (GString *out, const char *text)
{
  gsize len = strlen (text);
  while (len > 0 && text[len - 1] == '\n')
    len--;
  append_escaped (out, text, len, FALSE, TRUE);
}

/* ------------------------------------------------------------------------------ sizes and durations */

typedef struct
{
  const char *word;   /* in config files */
  const char *people; /* in messages */
  gint64 factor;
} Unit;

static const Unit size_units[] = {
  { "TiB", "TiB", G_GINT64_CONSTANT (1) << 40 },
  { "GiB", "GiB", 1 << 30 },
  { "MiB", "MiB", 1 << 20 },
  { "KiB", "KiB", 1 << 10 },
  { "B", "B", 1 },
};

static const Unit time_units[] = {
  { "d", "d", G_GINT64_CONSTANT (86400000000) },
  { "h", "h", G_GINT64_CONSTANT (3600000000) },
  { "m", "min", 60000000 },
  { "s", "s", 1000000 },
  { "ms", "ms", 1000 },
  { "us", "µs", 1 },
};

/* One decimal, and none when it is 0. */
static char *
for_people (guint64 value, const Unit *units, gsize n)
{
  const Unit *unit = &units[n - 1];
  guint64 whole, tenths;

  for (gsize i = 0; i < n; i++)
    if (value >= (guint64) units[i].factor)
      {
        unit = &units[i];
        break;
      }
  whole = value / (guint64) unit->factor;
  tenths = (value % (guint64) unit->factor) / MAX (1, (guint64) unit->factor / 10);
  if (tenths == 0 || tenths > 9 || whole >= 100)
    return g_strdup_printf ("%" G_GUINT64_FORMAT " %s", whole, unit->people);
  return g_strdup_printf ("%" G_GUINT64_FORMAT ".%" G_GUINT64_FORMAT " %s", whole, tenths, unit->people);
}

/* The largest unit that divides it. */
static char *
exact (gint64 value, const Unit *units, gsize n)
{
  for (gsize i = 0; i < n; i++)
    if (value != 0 && value % units[i].factor == 0)
      return g_strdup_printf ("%" G_GINT64_FORMAT "%s", value / units[i].factor, units[i].word);
  return g_strdup ("0");
}

char *
gsi_text_size (guint64 bytes)
{
  return for_people (bytes, size_units, G_N_ELEMENTS (size_units));
}

char *
gsi_text_duration (gint64 us)
{
  if (us == 0)
    return g_strdup ("0 s");
  if (us < 0)
    {
      g_autofree char *positive = for_people ((guint64) - (us + 1) + 1, time_units, G_N_ELEMENTS (time_units));
      return g_strconcat ("-", positive, NULL);
    }
  return for_people ((guint64) us, time_units, G_N_ELEMENTS (time_units));
}

char *
gsi_text_size_exact (gint64 bytes)
{
  return exact (bytes, size_units, G_N_ELEMENTS (size_units));
}

char *
gsi_text_duration_exact (gint64 us)
{
  return exact (us, time_units, G_N_ELEMENTS (time_units));
}

/* Digits from @text on; FALSE when there is none or the number does not fit. */
static gboolean
read_digits (const char **text, gint64 *ret_value)
{
  gint64 value = 0;
  const char *at = *text;

  if (!g_ascii_isdigit (*at))
    return FALSE;
  for (; g_ascii_isdigit (*at); at++)
    if (__builtin_mul_overflow (value, 10, &value) || __builtin_add_overflow (value, *at - '0', &value))
      return FALSE;
  *text = at;
  *ret_value = value;
  return TRUE;
}

static const Unit *
find_unit (const char *word, const Unit *units, gsize n)
{
  for (gsize i = 0; i < n; i++)
    if (strcmp (units[i].word, word) == 0)
      return &units[i];
  return NULL;
}

/* The text goes into a message on one line of a terminal. */
static char *
shown (const char *text)
{
  GString *out = g_string_new ("\"");
  gsi_text_append_escaped (out, text, (gssize) MIN (strlen (text), 80), FALSE);
  g_string_append_c (out, '"');
  return g_string_free (out, FALSE);
}

gboolean
gsi_text_parse_size (const char *text, gint64 *ret_bytes, GError **error)
{
  const char *at = text;
  gint64 value;
  const Unit *unit = NULL;

  if (read_digits (&at, &value))
    unit = *at == '\0' ? &size_units[G_N_ELEMENTS (size_units) - 1]
                       : find_unit (at, size_units, G_N_ELEMENTS (size_units));
  if (unit == NULL || __builtin_mul_overflow (value, unit->factor, &value))
    {
      g_autofree char *seen = shown (text);
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "wants a size such as 4096, 64KiB, 10MiB or 1GiB, not %s",
                      seen);
    }
  *ret_bytes = value;
  return TRUE;
}

gboolean
gsi_text_parse_duration (const char *text, gint64 *ret_us, GError **error)
{
  const char *at = text;
  gint64 value, part = 0, scale = 1;
  const Unit *unit = NULL;

  if (strcmp (text, "0") == 0)
    {
      *ret_us = 0;
      return TRUE;
    }
  if (read_digits (&at, &value))
    {
      gboolean fine = TRUE;
      if (*at == '.')
        {
          /* Six decimals of a day are below a second: more say nothing. */
          fine = g_ascii_isdigit (*++at);
          for (int i = 0; g_ascii_isdigit (*at) && fine; at++, i++)
            {
              fine = i < 6;
              part = part * 10 + (*at - '0');
              scale *= 10;
            }
        }
      if (fine)
        unit = find_unit (at, time_units, G_N_ELEMENTS (time_units));
    }
  if (unit == NULL || __builtin_mul_overflow (value, unit->factor, &value)
      || __builtin_add_overflow (value, unit->factor / scale * part + unit->factor % scale * part / scale, &value))
    {
      g_autofree char *seen = shown (text);
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "wants a duration such as 500ms, 10s, 5m, 2h or 1d, not %s",
                      seen);
    }
  *ret_us = value;
  return TRUE;
}

gboolean
gsi_text_parse_integer (const char *text, gint64 *ret_value, GError **error)
{
  const char *at = text;
  gboolean negative = *at == '-';
  gint64 value;

  if (*at == '-' || *at == '+')
    at++;
  if (!read_digits (&at, &value) || *at != '\0')
    {
      g_autofree char *seen = shown (text);
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "wants a whole number, not %s", seen);
    }
  *ret_value = negative ? -value : value;
  return TRUE;
}

gboolean
gsi_text_parse_boolean (const char *text, gboolean *ret_value, GError **error)
{
  g_autofree char *seen = NULL;

  if (strcmp (text, "true") == 0 || strcmp (text, "false") == 0)
    {
      *ret_value = text[0] == 't';
      return TRUE;
    }
  seen = shown (text);
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "wants true or false, not %s", seen);
}
