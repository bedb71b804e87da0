/* SPDX-License-Identifier: Apache-2.0 */
/* Time and dice. See clock.h. */
#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

gint64
gsi_clock_now_us (void)
{
  return g_get_monotonic_time ();
}

gint64
gsi_clock_wall_us (void)
{
  return g_get_real_time ();
}

void
gsi_clock_text (gint64 wall_us, char ret_text[GSI_CLOCK_TEXT_SIZE])
{
  time_t seconds = (time_t) (wall_us / G_USEC_PER_SEC);
  int micros = (int) (wall_us % G_USEC_PER_SEC);
  struct tm tm;
  gsize len;

  if (micros < 0)
    {
      micros += G_USEC_PER_SEC;
      seconds--;
    }
  /* A time so far away that its year does not fit is not worth failing over. */
  if (gmtime_r (&seconds, &tm) == NULL)
    memset (&tm, 0, sizeof tm);
  len = strftime (ret_text, GSI_CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
  g_snprintf (ret_text + len, GSI_CLOCK_TEXT_SIZE - len, ".%06dZ", micros);
}

void
gsi_random (gpointer buffer, gsize len)
{
  guint8 *to = buffer;

  while (len > 0)
    {
      ssize_t got = getrandom (to, len, 0);
      if (got > 0)
        {
          to += got;
          len -= (gsize) got;
        }
      else if (errno != EINTR)
        /* Ids and keys made without randomness would be worse than no server. */
        g_error ("getrandom: %s", g_strerror (errno));
    }
}
