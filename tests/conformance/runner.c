/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the contract cases of a plugin's kind as TAP:
 * runner FILE.so [KEY=VALUE…] [--only PROMISE] [--through SOCKET] [--interrupt N] [--layer FILE.so [KEY=VALUE…]].
 * "{tmp}" in a value is a fresh folder. With --interrupt the cases run with the first to the Nth call of each interrupted, and with
 * all calls, by cancelling and by time. With --through something that can be cut stands before the socket of the server that the
 * plugin speaks with, "{through}" in a value and in the folder "{through-folder}"; give it first. With --layer through a layer, whose BUSY is taken for an invitation to try again.
 */
#include "engine.h"
#include "fakehost.h"
#include "loadplugin.h"
#include "proxy.h"

#include <stdio.h>

#define OPTIONS_MAX 4

typedef struct
{
  char *keys[OPTIONS_MAX], *values[OPTIONS_MAX];
} Options;

typedef struct
{
  guint n, n_failed, interrupt;
} Count;

typedef struct
{
  const GsPlugin *plugin, *layer;
  FakeHost *host;
  char *folder;
  Options options, layer_options;
  guint interrupt; /* 0: not; else one more than was asked for */
  const char *only; /* the promise; NULL = all */
  Proxy *proxy;
  char *through, *through_folder;
  const GsPlugin *metadata; /* for plugins that need a metadata store */
  FakeHost *metadata_host;
  FakeConfig *metadata_config;
  gpointer metadata_self;
} Run;

static void
start_metadata (Run *run)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *path = g_build_filename (run->folder, "needed-metadata.db", NULL);
  run->metadata = load_plugin ("metadata-sqlite.so");
  run->metadata_host = fake_host_new ("metadata needed");
  run->metadata_config = fake_config_new (run->metadata, "path", path, NULL);
  run->metadata_self
      = run->metadata->create (&run->metadata_host->host, fake_config_get (run->metadata_config), &error);
  if (run->metadata_self == NULL || !run->metadata->start (run->metadata_self, &error))
    g_error ("starting the metadata store that is needed: %s", error->message);
  fake_host_add_need (run->host, "metadata", GS_KIND_METADATA, run->metadata_self, run->metadata->ops);
}

static void
print_outcome (const ConformanceOutcome *outcome, gpointer user)
{
  Count *count = user;
  gboolean failed = outcome->result == CONFORMANCE_FAILED;
  printf ("%s %u - [%s] %s", failed ? "not ok" : "ok", ++count->n, outcome->promise, outcome->title);
  if (count->interrupt >= CONFORMANCE_DELAY_ALL)
    printf (", every call %s first", count->interrupt == CONFORMANCE_CANCEL_ALL ? "cancelled" : "out of time");
  else if (count->interrupt > 0)
    printf (", call %u interrupted", count->interrupt);
  printf ("%s%s\n", outcome->result == CONFORMANCE_SKIPPED ? " # SKIP " : "",
          outcome->result == CONFORMANCE_SKIPPED ? outcome->happened : "");
  if (failed)
    printf ("# expected: %s\n# happened: %s\n", outcome->expected, outcome->happened);
  fflush (stdout);
  count->n_failed += failed;
}

static FakeConfig *
config_new (const GsPlugin *plugin, const Options *o)
{
  return fake_config_new (plugin, o->keys[0], o->values[0], o->keys[1], o->values[1], o->keys[2], o->values[2], o->keys[3],
                          o->values[3], NULL);
}

/* All cases, or those of the promise that is wanted. */
static gboolean
run_cases (const Run *run, const ConformanceTarget *target, Count *count, gboolean *ret_reached, GError **error)
{
  guint n = conformance_n_cases (run->plugin->kind);
  if (run->only == NULL)
    return conformance_run_interrupted (target, 0, print_outcome, count, ret_reached, error);
  for (guint number = 1; number <= n; number++)
    if (strcmp (conformance_case (run->plugin->kind, number)->promise, run->only) == 0
        && !conformance_run_interrupted (target, number, print_outcome, count, ret_reached, error))
      return FALSE;
  return TRUE;
}

static gboolean
run_once (const Run *run, ConformanceTarget *target, guint interrupt, Count *count, gboolean *ret_reached)
{
  g_autoptr (GError) error = NULL;
  target->interrupt = count->interrupt = interrupt;
  if (run_cases (run, target, count, ret_reached, &error))
    return TRUE;
  printf ("Bail out! %s: %s\n", run->plugin->name, error->message);
  return FALSE;
}

static int
run_all (Run *run)
{
  g_autoptr (FakeConfig) config = config_new (run->plugin, &run->options);
  g_autoptr (FakeConfig) layer_config = run->layer != NULL ? config_new (run->layer, &run->layer_options) : NULL;
  const ConformanceLayer layer = { run->layer, run->layer != NULL ? fake_config_get (layer_config) : NULL };
  ConformanceTarget target = { .plugin = run->plugin,
                               .host = &run->host->host,
                               .config = fake_config_get (config),
                               .layers = &layer,
                               .n_layers = run->layer != NULL,
                               .repeat_busy = run->layer != NULL,
                               .reach = run->proxy != NULL ? proxy_reach : NULL,
                               .reach_user = run->proxy };
  Count count = { 0 };
  gboolean reached = TRUE, fine = TRUE;
  if (run->interrupt == 0)
    fine = run_once (run, &target, 0, &count, &reached);
  for (guint i = 1; fine && reached && i < run->interrupt; i++)
    fine = run_once (run, &target, i, &count, &reached);
  if (fine && run->interrupt > 0)
    fine = run_once (run, &target, CONFORMANCE_CANCEL_ALL, &count, &reached)
           && run_once (run, &target, CONFORMANCE_DELAY_ALL, &count, &reached);
  printf ("1..%u\n", count.n);
  return !fine || count.n_failed > 0;
}

/* @text with @by for @what. *full*. */
static char *
replaced (const char *text, const char *what, const char *by)
{
  g_auto (GStrv) around = g_strsplit (text, what, -1);
  return g_strjoinv (by != NULL ? by : what, around);
}

static char *
expanded (const Run *run, const char *text)
{
  g_autofree char *one = replaced (text, "{tmp}", run->folder);
  g_autofree char *two = replaced (one, "{through}", run->through);
  return replaced (two, "{through-folder}", run->through_folder);
}

static void
go_through (Run *run, const char *real)
{
  g_autofree char *name = g_path_get_basename (real);
  run->through_folder = g_build_filename (run->folder, "through", NULL);
  run->through = g_build_filename (run->through_folder, name, NULL);
  if (g_mkdir_with_parents (run->through_folder, 0700) != 0)
    g_error ("making %s: %s", run->through_folder, g_strerror (errno));
  run->proxy = proxy_new (run->through, real);
}

static void
parse_options (Run *run, char **argv)
{
  Options *options = &run->options;
  guint n = 0;
  for (; *argv != NULL; argv++)
    {
      char *equals = strchr (*argv, '=');
      if (strcmp (*argv, "--only") == 0 && argv[1] != NULL)
        {
          run->only = *++argv;
          continue;
        }
      if (strcmp (*argv, "--through") == 0 && argv[1] != NULL && run->proxy == NULL)
        {
          go_through (run, *++argv);
          continue;
        }
      if (strcmp (*argv, "--interrupt") == 0 && argv[1] != NULL)
        {
          run->interrupt = (guint) g_ascii_strtoull (*++argv, NULL, 10) + 1;
          continue;
        }
      if (strcmp (*argv, "--layer") == 0 && argv[1] != NULL && run->layer == NULL)
        {
          run->layer = load_plugin (*++argv);
          options = &run->layer_options;
          n = 0;
          continue;
        }
      if (equals == NULL || n == OPTIONS_MAX)
        g_error ("usage: runner FILE.so [KEY=VALUE…] [--interrupt N] [--layer FILE.so [KEY=VALUE…]] with at most %d options",
                 OPTIONS_MAX);
      options->keys[n] = g_strndup (*argv, (gsize) (equals - *argv));
      options->values[n++] = expanded (run, equals + 1);
    }
}

static void
options_clear (Options *options)
{
  for (guint i = 0; i < OPTIONS_MAX; i++)
    {
      g_free (options->keys[i]);
      g_free (options->values[i]);
    }
}

int
main (int argc, char **argv)
{
  Run run = { 0 };
  int failed;
  if (argc < 2)
    {
      fputs ("usage: runner FILE.so [KEY=VALUE…]\n", stderr);
      return 2;
    }
  run.plugin = load_plugin (argv[1]);
  run.folder = fake_tempdir_new ();
  run.host = fake_host_new (run.plugin->name);
  parse_options (&run, argv + 2);
  for (const GsNeed *need = run.plugin->needs; need != NULL && need->role != NULL; need++)
    if (need->kind == GS_KIND_METADATA)
      start_metadata (&run);
  failed = run_all (&run);
  options_clear (&run.options);
  options_clear (&run.layer_options);
  fake_host_free (run.host);
  if (run.metadata != NULL)
    {
      run.metadata->stop (run.metadata_self);
      run.metadata->destroy (run.metadata_self);
      fake_config_free (run.metadata_config);
      fake_host_free (run.metadata_host);
    }
  if (run.proxy != NULL)
    proxy_free (run.proxy);
  g_free (run.through);
  g_free (run.through_folder);
  fake_tempdir_remove (run.folder);
  return failed;
}
