/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim [--seeds FROM-TO] [--bug NAME | --each-bug] [--trace]: plays a history per seed, as TAP.
 *
 * No history may break a promise; the first one that does is played again and printed. With --bug one has to: a mistake
 * made on purpose has to be noticed within the seeds, and the history that shows it has to be the same every time.
 */
#include "sim.h"

#include "fakehost.h"
#include "loadplugin.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct
{
  guint64 n_events, n_decided, n_aborted, n_ok, n_failed, n_unknown;
  gint64 virtual_us;
} Totals;

static void
count_history (const Sim *sim, Totals *totals)
{
  totals->n_events += sim->n_events;
  totals->virtual_us += sim->now;
  totals->n_decided += sim->store.generation;
  totals->n_aborted += g_hash_table_size (sim->store.aborted);
  for (guint c = 0; c < sim->setup.n_clients; c++)
    for (guint i = 0; i < sim->clients[c].n_ops; i++)
      {
        totals->n_ok += sim->clients[c].ops[i].end == OP_OK;
        totals->n_failed += sim->clients[c].ops[i].end == OP_FAILED;
        totals->n_unknown += sim->clients[c].ops[i].end == OP_UNKNOWN;
      }
}

/* The first seed from @from to @to that breaks a promise, and how (*full*); 0 when none does. */
static guint64
first_violation (const SimPlugin *plugins, guint64 from, guint64 to, SimBug bug, Totals *totals, char **ret_how)
{
  for (guint64 seed = from; seed <= to; seed++)
    {
      Sim *sim = sim_new (plugins, seed, bug, FALSE);
      gboolean good = sim_run (sim);
      count_history (sim, totals);
      if (!good)
        *ret_how = g_strdup (sim->violation);
      sim_free (sim);
      if (!good)
        return seed;
    }
  return 0;
}

/* Plays @seed again; the trace, *full*, ends with the violation if there is one. */
static char *
replay (const SimPlugin *plugins, guint64 seed, SimBug bug)
{
  Sim *sim = sim_new (plugins, seed, bug, TRUE);
  char *trace;
  sim_run (sim);
  trace = g_strdup (sim->trace->str);
  sim_free (sim);
  return trace;
}

static void
print_comment (const char *text)
{
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **at = lines; *at != NULL; at++)
    if (**at != '\0')
      printf ("# %s\n", *at);
}

static gboolean
play_well (const SimPlugin *plugins, guint64 from, guint64 to, gboolean traced)
{
  Totals totals = { 0 };
  g_autofree char *how = NULL, *trace = NULL;
  gint64 start = g_get_monotonic_time ();
  guint64 seed = first_violation (plugins, from, to, BUG_NONE, &totals, &how);
  printf ("# %" G_GUINT64_FORMAT " events, %" G_GUINT64_FORMAT " writes decided, %" G_GUINT64_FORMAT
          " aborted; clients: %" G_GUINT64_FORMAT " ok, %" G_GUINT64_FORMAT " failed, %" G_GUINT64_FORMAT
          " unknown; %.0f s of virtual time in %.1f s\n",
          totals.n_events, totals.n_decided, totals.n_aborted, totals.n_ok, totals.n_failed, totals.n_unknown,
          (double) totals.virtual_us / 1e6, (double) (g_get_monotonic_time () - start) / 1e6);
  if (seed != 0 || traced)
    {
      trace = replay (plugins, seed != 0 ? seed : from, BUG_NONE);
      print_comment (trace);
    }
  if (seed != 0)
    printf ("# seed %" G_GUINT64_FORMAT ": %s\n# again: sim --seeds %" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT
            " --trace\n",
            seed, how, seed, seed);
  return seed == 0;
}

/* Is the mistake noticed, and is the history that shows it the same when it is played again? */
static gboolean
play_bug (const SimPlugin *plugins, guint64 from, guint64 to, SimBug bug, gboolean traced)
{
  Totals totals = { 0 };
  g_autofree char *how = NULL, *trace = NULL, *again = NULL;
  guint64 seed = first_violation (plugins, from, to, bug, &totals, &how);
  if (seed == 0)
    return FALSE;
  trace = replay (plugins, seed, bug);
  again = replay (plugins, seed, bug);
  if (traced)
    print_comment (trace);
  printf ("# seed %" G_GUINT64_FORMAT ": %s\n", seed, how);
  return strcmp (trace, again) == 0 && strstr (trace, how) != NULL;
}

static void
plugin_open (SimPlugin *plugin, const char *name)
{
  g_autofree char *file = g_strdup_printf ("consistency-%s.so", name);
  const GsPlugin *found = load_plugin (file);
  FakeHost *host = fake_host_new (name);
  FakeConfig *config = fake_config_new (found, NULL, NULL, NULL);
  plugin->name = name;
  plugin->ops = found->ops;
  plugin->self = found->create (&host->host, fake_config_get (config), NULL);
  if (plugin->self == NULL)
    g_error ("%s: create failed", name);
  fake_config_free (config);
  fake_host_free (host); /* pure plugins have no use for it after create */
}

static gboolean
point (guint *number, gboolean ok, const char *what)
{
  printf ("%s %u - %s\n", ok ? "ok" : "not ok", ++*number, what);
  fflush (stdout);
  return ok;
}

int
main (int argc, char **argv)
{
  static const char *const names[] = { "direct", "primary", "quorum" };
  SimPlugin plugins[G_N_ELEMENTS (names)];
  g_autofree char *seeds = NULL, *bug_name = NULL;
  gboolean traced = FALSE, each_bug = FALSE, ok = TRUE;
  GOptionEntry entries[]
      = { { "seeds", 0, 0, G_OPTION_ARG_STRING, &seeds, "Which histories", "FROM-TO" },
          { "bug", 0, 0, G_OPTION_ARG_STRING, &bug_name, "Make a mistake on purpose, and notice it", "NAME" },
          { "each-bug", 0, 0, G_OPTION_ARG_NONE, &each_bug, "All of them, one after the other", NULL },
          { "trace", 0, 0, G_OPTION_ARG_NONE, &traced, "Print what happens in the first one", NULL },
          { NULL } };
  g_autoptr (GOptionContext) context = g_option_context_new (NULL);
  g_autoptr (GError) error = NULL;
  guint64 from = 1, to = 1000;
  guint number = 0, n_points = 0;

  g_option_context_add_main_entries (context, entries, NULL);
  if (!g_option_context_parse (context, &argc, &argv, &error)
      || (seeds != NULL && sscanf (seeds, "%" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT, &from, &to) != 2) || from == 0)
    {
      fprintf (stderr, "sim: %s\n", error != NULL ? error->message : "--seeds wants FROM-TO, from 1");
      return 2;
    }
  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    plugin_open (&plugins[i], names[i]);
  for (guint bug = 1; bug < N_BUGS; bug++)
    if (each_bug || g_strcmp0 (bug_name, sim_bug_names[bug]) == 0)
      {
        n_points++;
        ok = point (&number, play_bug (plugins, from, to, (SimBug) bug, traced), sim_bug_names[bug]) && ok;
      }
  if (bug_name != NULL && n_points == 0)
    {
      fprintf (stderr, "sim: there is no mistake called '%s'\n", bug_name);
      return 2;
    }
  if (n_points == 0)
    {
      g_autofree char *what = g_strdup_printf ("histories %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, from, to);
      n_points = 1;
      ok = point (&number, play_well (plugins, from, to, traced), what);
    }
  printf ("1..%u\n", n_points);
  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    g_free (plugins[i].self);
  return ok ? 0 : 1;
}
