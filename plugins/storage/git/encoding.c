/* SPDX-License-Identifier: Apache-2.0 */
/* Text of commits in UTF-8: see encoding.h. */
#include "encoding.h"

#include <string.h>

#define NAME_MAX_BYTES 40

gboolean
encoding_is_utf8 (const char *encoding, gsize encoding_len)
{
  return (encoding_len == 5 && g_ascii_strncasecmp (encoding, "utf-8", 5) == 0)
         || (encoding_len == 4 && g_ascii_strncasecmp (encoding, "utf8", 4) == 0);
}

char *
encoding_to_utf8 (const char *encoding, gsize encoding_len, const char *text, gsize len, gsize *ret_len)
{
  char name[NAME_MAX_BYTES + 1], *made;
  gsize made_len = 0;
  if (encoding_len == 0 || encoding_len > NAME_MAX_BYTES || len > G_MAXSSIZE || encoding_is_utf8 (encoding, encoding_len))
    return NULL;
  /* The C library takes more than a name here: "//TRANSLIT", and paths of modules. */
  for (gsize i = 0; i < encoding_len; i++)
    if (!g_ascii_isalnum (encoding[i]) && strchr ("-_.:+", encoding[i]) == NULL)
      return NULL;
  memcpy (name, encoding, encoding_len);
  name[encoding_len] = '\0';
  made = g_convert (text, (gssize) len, "UTF-8", g_ascii_strcasecmp (name, "latin-1") == 0 ? "ISO-8859-1" : name, NULL, &made_len,
                    NULL);
  if (made != NULL)
    *ret_len = made_len;
  return made;
}
