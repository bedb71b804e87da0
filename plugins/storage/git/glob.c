/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of names: see glob.h. */
#include "glob.h"

#include <string.h>

/* One row of states per byte of the name. */
gboolean
glob_matches (const char *pattern, const char *name)
{
  gsize n = strlen (pattern);
  g_autofree guint8 *now = g_malloc0 (n + 1), *then = g_malloc0 (n + 1);
  now[0] = 1;
  for (const char *c = name;; c++)
    {
      for (gsize i = 0; i < n; i++)
        if (now[i] && pattern[i] == '*')
          now[i + 1 + (pattern[i + 1] == '*')] = 1; /* matches nothing */
      if (*c == '\0')
        return now[n];
      memset (then, 0, n + 1);
      for (gsize i = 0; i < n; i++)
        {
          gboolean deep = pattern[i] == '*' && pattern[i + 1] == '*';
          if (!now[i])
            continue;
          if (pattern[i] == '*' && (deep || *c != '/'))
            then[i] = 1;
          else if (pattern[i] == *c || (pattern[i] == '?' && *c != '/'))
            then[i + 1] = 1;
        }
      guint8 *swap = now;
      now = then;
      then = swap;
    }
}

const char *
glob_fault (const char *pattern)
{
  if (strpbrk (pattern, "[\\") != NULL || strstr (pattern, "***") != NULL)
    return "there are ?, * and **, nothing else";
  return NULL;
}
