/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the contract cases of a plugin's kind as TAP:
 * runner FILE.so [--through SOCKET] [KEY=VALUE…] [--only PROMISE]… [--crowd N] [--host-busy] [--interrupt N | --fault N]
 *   [--layer FILE.so [KEY=VALUE…]]…
 * "{tmp}" in a value is a fresh folder.
 *   --interrupt  with the first to the Nth call of each case interrupted, and with all, by cancelling and by time
 *   --fault      behind layer/fault, with the first to the Nth call of each case failing (BUSY): nothing may be left behind
 *   --layer      through layers, the first outermost, whose BUSY is taken for an invitation to try again
 *   --crowd      each case in N threads at once
 *   --host-busy  with a host that turns down all work for its pool
 *   --through    with something that can be cut before the socket of the server that the plugin speaks with: "{through}" in a
 *                value, in the folder "{through-folder}"
 */
#include "engine.h"
#include "fakehost.h"
#include "loadplugin.h"
#include "proxy.h"

#include <stdio.h>

#define OPTIONS_MAX 4
#define LAYERS_MAX 3

typedef struct
{
  char *keys[OPTIONS_MAX], *values[OPTIONS_MAX];
} Options;

typedef struct
{
  guint n, n_failed, interrupt, fault;
} Count;

typedef struct
{
  const GsPlugin *plugin, *layers[LAYERS_MAX];
  guint n_layers;
  FakeHost *host;
  char *folder;
  Options options, layer_options[LAYERS_MAX];
  guint interrupt; /* 0: not; else one more than was asked for */
  guint fault;
  gboolean host_busy;
  guint crowd;
  GPtrArray *only; /* promises; empty = all */
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
  if (count->fault > 0)
    printf (", call %u failing", count->fault);
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
  if (run->only->len == 0)
    return conformance_run_interrupted (target, 0, print_outcome, count, ret_reached, error);
  for (guint number = 1; number <= n; number++)
    if (g_ptr_array_find_with_equal_func (run->only, conformance_case (run->plugin->kind, number)->promise, g_str_equal, NULL)
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

#define ROUNDS_MIN 6 /* to see whether each leaves something behind: malloc's remainders differ by a few bytes */

/* Each case with its first call failing in the layer, then with its second, and so on. */
static gboolean
run_faults (const Run *run, ConformanceTarget *target, Count *count)
{
  const GsPlugin *fault = load_plugin ("layer-fault.so");
  guint n_rounds = MAX (run->fault, ROUNDS_MIN);
  g_autofree ConformanceUsage *usages = g_new0 (ConformanceUsage, n_rounds + 1);
  g_autofree char *grown = NULL;
  gboolean fine = TRUE;
  target->fresh = target->repeat_busy = TRUE; /* the layer counts from the start of its instance */
  usages[0] = conformance_usage ();
  for (guint i = 0; fine && i < n_rounds; i++)
    {
      g_autofree char *nth = g_strdup_printf ("%u", i % run->fault + 1);
      g_autoptr (FakeConfig) config = fake_config_new (fault, "nth", nth, "code", "BUSY", NULL);
      const ConformanceLayer layer = { fault, fake_config_get (config) };
      FakeHost *host = fake_host_new (run->plugin->name); /* what it notes is nothing left behind */
      gboolean reached;
      if (run->metadata != NULL)
        fake_host_add_need (host, "metadata", GS_KIND_METADATA, run->metadata_self, run->metadata->ops);
      target->host = &host->host;
      target->layers = &layer;
      target->n_layers = 1;
      count->fault = i % run->fault + 1;
      fine = run_once (run, target, 0, count, &reached);
      fake_host_free (host);
      usages[i + 1] = conformance_usage ();
    }
  grown = conformance_growth (usages + 1, n_rounds);
  printf ("%s %u - [P3] nothing is left behind by what failed\n", grown == NULL ? "ok" : "not ok", ++count->n);
  if (grown != NULL)
    printf ("# happened: each round left %s\n", grown);
  count->n_failed += grown != NULL;
  return fine;
}

static int
run_all (Run *run)
{
  g_autoptr (FakeConfig) config = config_new (run->plugin, &run->options);
  g_autoptr (GPtrArray) layer_configs = g_ptr_array_new_with_free_func ((GDestroyNotify) fake_config_free);
  ConformanceLayer layers[LAYERS_MAX];
  ConformanceTarget target = { .plugin = run->plugin,
                               .host = &run->host->host,
                               .config = fake_config_get (config),
                               .layers = layers,
                               .n_layers = run->n_layers,
                               .repeat_busy = run->n_layers > 0,
                               .crowd = run->crowd,
                               .host_fault = run->host_busy ? CONFORMANCE_HOST_FAULT_ALL : 0,
                               .reach = run->proxy != NULL ? proxy_reach : NULL,
                               .reach_user = run->proxy };
  Count count = { 0 };
  gboolean reached = TRUE, fine = TRUE;
  for (guint i = 0; i < run->n_layers; i++)
    {
      FakeConfig *own = config_new (run->layers[i], &run->layer_options[i]);
      g_ptr_array_add (layer_configs, own);
      layers[i] = (ConformanceLayer){ run->layers[i], fake_config_get (own) };
    }
  if (run->fault > 0)
    fine = run_faults (run, &target, &count);
  else if (run->interrupt == 0)
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
          g_ptr_array_add (run->only, *++argv);
          continue;
        }
      if (strcmp (*argv, "--host-busy") == 0)
        {
          run->host_busy = TRUE;
          continue;
        }
      if ((strcmp (*argv, "--crowd") == 0 || strcmp (*argv, "--fault") == 0) && argv[1] != NULL)
        {
          guint *number = strcmp (*argv, "--crowd") == 0 ? &run->crowd : &run->fault;
          *number = (guint) g_ascii_strtoull (*++argv, NULL, 10);
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
      if (strcmp (*argv, "--layer") == 0 && argv[1] != NULL && run->n_layers < LAYERS_MAX)
        {
          options = &run->layer_options[run->n_layers];
          run->layers[run->n_layers++] = load_plugin (*++argv);
          n = 0;
          continue;
        }
      if (equals == NULL || n == OPTIONS_MAX)
        g_error ("“%s” is not understood, or there are more than %d options", *argv, OPTIONS_MAX);
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
  g_autoptr (GPtrArray) only = g_ptr_array_new ();
  Run run = { .only = only };
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
  for (guint i = 0; i < run.n_layers; i++)
    options_clear (&run.layer_options[i]);
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
