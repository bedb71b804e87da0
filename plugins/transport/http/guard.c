/* SPDX-License-Identifier: Apache-2.0 */
/* guard.c - the header guard. */
#include "guard.h"

/* RFC 9110's token: what a header's name is made of. */
static gboolean
is_token (const char *text, gsize length)
{
  if (length == 0)
    return FALSE;
  for (gsize i = 0; i < length; i++)
    if (!g_ascii_isalnum (text[i]) && (text[i] == '\0' || strchr ("!#$%&'*+-.^_`|~", text[i]) == NULL))
      return FALSE;
  return TRUE;
}

static gboolean
is_clean (const char *text, gsize length)
{
  for (gsize i = 0; i < length; i++)
    if (((guint8) text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f)
      return FALSE;
  return TRUE;
}

void
guard_header (Guard *guard, const char *name, gsize name_len, const char *value, gsize value_len)
{
  const struct
  {
    const char *name;
    const char **slot;
  } known[] = { { "Host", &guard->host },
                { "Content-Length", &guard->content_length },
                { "Transfer-Encoding", &guard->transfer_encoding },
                { "Expect", &guard->expect },
                { "Content-Type", &guard->content_type },
                { "Content-Encoding", &guard->content_encoding },
                { "Authorization", &guard->authorization },
                { "Git-Protocol", &guard->git_protocol },
                { "X-Gitstead-Call-Id", &guard->call_id },
                { "X-Gitstead-Timeout-Ms", &guard->timeout_ms },
                { "X-Gitstead-Generation", &guard->generation } };

  if (value == NULL)
    value = "";
  if (!is_token (name, name_len))
    guard->bad_name = name;
  else if (!is_clean (value, value_len))
    guard->bad_value = name;
  for (guint i = 0; i < G_N_ELEMENTS (known); i++)
    if (g_ascii_strcasecmp (name, known[i].name) == 0)
      {
        if (*known[i].slot != NULL)
          guard->repeated = known[i].name;
        *known[i].slot = value;
      }
}

static guint
refuse (guint status, const char *why, const char **ret_why)
{
  *ret_why = why;
  return status;
}

guint
guard_check (Guard *guard, gboolean http11, const char **ret_why)
{
  if (guard->bad_name != NULL)
    return refuse (400, "a header's name has a character that names can't have", ret_why);
  if (guard->bad_value != NULL)
    return refuse (400, "a header's value has a control character", ret_why);
  if (guard->repeated != NULL)
    return refuse (400, "a header that may stand only once is repeated", ret_why);
  if (http11 && guard->host == NULL)
    return refuse (400, "the Host header is missing", ret_why);
  if (guard->transfer_encoding != NULL)
    {
      if (guard->content_length != NULL)
        return refuse (400, "both Content-Length and Transfer-Encoding are given", ret_why);
      if (!http11)
        return refuse (400, "Transfer-Encoding needs HTTP/1.1", ret_why);
      if (g_ascii_strcasecmp (guard->transfer_encoding, "chunked") != 0)
        return refuse (501, "the only Transfer-Encoding understood is 'chunked'", ret_why);
      guard->length = G_MAXUINT64;
      guard->has_body = TRUE;
    }
  if (guard->content_length != NULL)
    {
      if (!g_ascii_isdigit (guard->content_length[0])
          || !g_ascii_string_to_unsigned (guard->content_length, 10, 0, G_MAXINT64, &guard->length, NULL))
        return refuse (400, "Content-Length is not a number", ret_why);
      guard->has_body = guard->length != 0;
    }
  if (guard->expect != NULL)
    {
      if (g_ascii_strcasecmp (guard->expect, "100-continue") != 0)
        return refuse (417, "the only Expect understood is '100-continue'", ret_why);
      guard->expects_continue = http11;
    }
  return 0;
}
