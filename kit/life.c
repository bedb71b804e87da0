/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of every plugin, whatever its kind: its life, and what it leaves behind. See plugin.h. */
#include "engine.h"

#include <malloc.h>
#include <poll.h>

#define LIVES 6

static guint
count_entries (const char *folder)
{
  g_autoptr (GDir) dir = g_dir_open (folder, 0, NULL);
  guint n = 0;
  while (dir != NULL && g_dir_read_name (dir) != NULL)
    n++;
  return n;
}

ConformanceUsage
conformance_usage (void)
{
  struct mallinfo2 info = mallinfo2 ();
  return (ConformanceUsage){ .bytes = info.uordblks + info.hblkhd,
                             .descriptors = count_entries ("/proc/self/fd"),
                             .threads = count_entries ("/proc/self/task") };
}

/* Once more is no leak: something may be kept for the next time. Every time more is. */
char *
conformance_growth (const ConformanceUsage *usages, guint n)
{
  gsize bytes = G_MAXSIZE;
  guint descriptors = G_MAXUINT, threads = G_MAXUINT;
  for (guint i = 1; i < n; i++)
    {
      const ConformanceUsage *before = &usages[i - 1], *after = &usages[i];
      bytes = MIN (bytes, after->bytes > before->bytes ? after->bytes - before->bytes : 0);
      descriptors
          = MIN (descriptors, after->descriptors > before->descriptors ? after->descriptors - before->descriptors : 0);
      threads = MIN (threads, after->threads > before->threads ? after->threads - before->threads : 0);
    }
  if (n < 2 || (bytes == 0 && descriptors == 0 && threads == 0))
    return NULL;
  if (threads > 0)
    return g_strdup_printf ("%u thread%s", threads, threads == 1 ? "" : "s");
  if (descriptors > 0)
    return g_strdup_printf ("%u open descriptor%s", descriptors, descriptors == 1 ? "" : "s");
  return g_strdup_printf ("at least %" G_GSIZE_FORMAT " bytes", bytes);
}

/* One that runs beside it may open or start something at the very moment; a create that does, does it every time. */
#define CREATIONS 4

static void
never_started (Conformance *c)
{
  const GsPlugin *plugin = c->target->plugin;
  guint descriptors = G_MAXUINT, threads = G_MAXUINT;
  for (int i = 0; i < CREATIONS && (descriptors > 0 || threads > 0); i++)
    {
      g_autoptr (GError) error = NULL;
      ConformanceUsage before = conformance_usage (), after;
      gpointer other;
      conformance_note (c->target, "create");
      other = plugin->create (&c->host, c->target->config, &error);
      conformance_note (c->target, "");
      CHECK (c, other != NULL, "another instance, with the same options", "%s",
             error != NULL ? error->message : "NULL without an error");
      CHECK (c, error == NULL, "no error from a create that succeeds", "%s", error->message);
      after = conformance_usage ();
      conformance_note (c->target, "destroy");
      plugin->destroy (other);
      conformance_note (c->target, "");
      descriptors = MIN (descriptors, after.descriptors > before.descriptors ? after.descriptors - before.descriptors : 0);
      threads = MIN (threads, after.threads > before.threads ? after.threads - before.threads : 0);
    }
  CHECK (c, descriptors == 0, "create takes memory only", "it opened %u descriptors", descriptors);
  CHECK (c, threads == 0, "create takes memory only", "it started %u threads", threads);
}

#define SETTLE_US (2 * G_USEC_PER_SEC)

/*
 * What is used now; more descriptors than @before get a moment to go, threads and memory do not. A library may close in a
 * thread of its own what it was given back, and offer no way to wait for that: nng_stream_free hands the connection to nng's
 * reaper, which closes it some milliseconds later. What is lost for good is lost after the moment, too.
 */
static ConformanceUsage
settled_usage (const ConformanceUsage *before)
{
  ConformanceUsage usage = conformance_usage ();
  gint64 until_us = g_get_monotonic_time () + SETTLE_US;
  while (before != NULL && usage.descriptors > before->descriptors && g_get_monotonic_time () < until_us)
    {
      poll (NULL, 0, 1);
      usage.descriptors = count_entries ("/proc/self/fd");
    }
  return usage;
}

static void
many_lives (Conformance *c)
{
  ConformanceUsage usages[LIVES];
  g_autofree char *grown = NULL;
  for (guint i = 0; i < LIVES; i++)
    {
      CHECK_OK (c, conformance_restart (c, &error));
      conformance_end (c);
      usages[i] = settled_usage (i > 1 ? &usages[i - 1] : NULL);
    }
  grown = conformance_growth (usages + 1, LIVES - 1); /* the first life may make what all share */
  CHECK (c, grown == NULL, "nothing left when an instance is destroyed", "each life left %s behind", grown);
  CHECK_OK (c, conformance_restart (c, &error));
}

const ConformanceCase conformance_life[] = {
  { "P2", "an instance that was never started can be destroyed, beside one that runs", never_started, TRUE },
  { "P3", "of an instance that was destroyed nothing is left", many_lives, TRUE },
  { NULL, NULL, NULL },
};
