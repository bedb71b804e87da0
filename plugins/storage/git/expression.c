/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounds of regular expressions: see expression.h. The C library writes a repetition out, "a{3}" as "aaa" and "a+" as "aa*", and
 * those inside of others again and again: twenty bytes can become billions of nodes. What it would write is counted here.
 */
#include "expression.h"

#include <string.h>

#define NODES_MAX 1024u

typedef struct
{
  const char *at, *end;
  guint64 *sums; /* of the groups that are open, the whole first */
  gsize depth;
} Reader;

static guint64
times (guint64 a, guint64 b)
{
  return b != 0 && a > G_MAXUINT32 / b ? G_MAXUINT32 : a * b;
}

/* Behind the "[" to behind the "]" that ends it. */
static void
skip_bracket (Reader *reader)
{
  const char *at = reader->at;
  at += at < reader->end && *at == '^';
  at += at < reader->end && *at == ']';
  while (at < reader->end && *at != ']')
    {
      const char kind = at + 1 < reader->end ? at[1] : '\0';
      const gboolean inner = *at == '[' && (kind == ':' || kind == '.' || kind == '=');
      at += inner ? 2 : 1;
      while (inner && at < reader->end && (at[0] != ']' || at[-1] != kind))
        at++;
      at += inner && at < reader->end;
    }
  reader->at = at < reader->end ? at + 1 : at;
}

/* "{2,5}" and the like: how often it writes out what stands before it. 0 when it is no repetition. */
static guint64
take_interval (Reader *reader)
{
  const char *at = reader->at + 1;
  guint64 most = 0, number = 0;
  for (; at < reader->end && (g_ascii_isdigit (*at) || *at == ','); at++)
    {
      number = *at == ',' ? 0 : MIN (number * 10 + (guint64) (*at - '0'), G_MAXUINT16);
      most = MAX (most, number);
    }
  if (at >= reader->end || *at != '}' || at == reader->at + 1)
    return 0;
  reader->at = at + 1;
  return most + 1;
}

/* Of an atom, with all repetitions that stand behind it. */
static guint64
repeated (Reader *reader, guint64 nodes)
{
  for (guint64 often; reader->at < reader->end; reader->at++)
    switch (*reader->at)
      {
      case '+':
        nodes = times (nodes, 2);
        break;
      case '*':
      case '?':
        break;
      case '{':
        often = take_interval (reader);
        if (often == 0)
          return nodes;
        nodes = times (nodes, often);
        reader->at--;
        break;
      default:
        return nodes;
      }
  return nodes;
}

static gboolean
too_large (const char *field, GError **error)
{
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                  "%s: the regular expression is too large with its repetitions written out: more than %u characters", field, NODES_MAX);
}

static gboolean
read_one (Reader *reader, const char *field, GError **error)
{
  guint64 nodes = 1, *sum;
  const char c = *reader->at++;
  if (c == '(')
    {
      reader->sums[++reader->depth] = 1;
      return TRUE;
    }
  if (c == '\\' && reader->at < reader->end && g_ascii_isdigit (*reader->at))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: a regular expression does not refer back with \\%c", field, *reader->at);
  if (c == '\\' && reader->at < reader->end)
    reader->at++;
  else if (c == '[')
    skip_bracket (reader);
  else if (c == ')' && reader->depth > 0)
    nodes = reader->sums[reader->depth--];
  sum = &reader->sums[reader->depth];
  *sum += repeated (reader, nodes);
  return *sum <= NODES_MAX || too_large (field, error);
}

gboolean
expression_check (const char *text, gsize len, const char *field, GError **error)
{
  g_autofree guint64 *sums = g_new0 (guint64, len + 2);
  Reader reader = { text, text + len, sums, 0 };
  while (reader.at < reader.end)
    if (!read_one (&reader, field, error))
      return FALSE;
  return TRUE;
}
