/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the contract cases of a plugin's kind as TAP: runner FILE.so [KEY=VALUE…]. "{tmp}" in a value is a fresh folder.
 */
#include "engine.h"
#include "fakehost.h"
#include "loadplugin.h"

#include <stdio.h>

#define OPTIONS_MAX 4

typedef struct
{
  const GsPlugin *plugin;
  FakeHost *host;
  char *folder;
  char *keys[OPTIONS_MAX], *values[OPTIONS_MAX];
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
  int *n_failed = user;
  gboolean failed = outcome->result == CONFORMANCE_FAILED;
  printf ("%s %u - [%s] %s%s%s\n", failed ? "not ok" : "ok", outcome->number, outcome->promise, outcome->title,
          outcome->result == CONFORMANCE_SKIPPED ? " # SKIP " : "",
          outcome->result == CONFORMANCE_SKIPPED ? outcome->happened : "");
  if (failed)
    printf ("# expected: %s\n# happened: %s\n", outcome->expected, outcome->happened);
  fflush (stdout);
  *n_failed += failed;
}

static int
run_all (Run *run)
{
  g_autoptr (FakeConfig) config
      = fake_config_new (run->plugin, run->keys[0], run->values[0], run->keys[1], run->values[1], run->keys[2],
                         run->values[2], run->keys[3], run->values[3], NULL);
  ConformanceTarget target = { run->plugin, &run->host->host, fake_config_get (config) };
  g_autoptr (GError) error = NULL;
  int n_failed = 0;
  printf ("1..%u\n", conformance_n_cases (run->plugin->kind));
  if (conformance_run (&target, 0, print_outcome, &n_failed, &error))
    return n_failed > 0;
  printf ("Bail out! %s: %s\n", run->plugin->name, error->message);
  return 1;
}

static void
parse_options (Run *run, int argc, char **argv)
{
  for (int i = 0; i < argc; i++)
    {
      char *equals = strchr (argv[i], '=');
      g_auto (GStrv) around = NULL;
      if (equals == NULL || i == OPTIONS_MAX)
        g_error ("usage: runner FILE.so [KEY=VALUE…] with at most %d options", OPTIONS_MAX);
      around = g_strsplit (equals + 1, "{tmp}", -1);
      run->keys[i] = g_strndup (argv[i], (gsize) (equals - argv[i]));
      run->values[i] = g_strjoinv (run->folder, around);
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
  parse_options (&run, argc - 2, argv + 2);
  for (const GsNeed *need = run.plugin->needs; need != NULL && need->role != NULL; need++)
    if (need->kind == GS_KIND_METADATA)
      start_metadata (&run);
  failed = run_all (&run);
  for (guint i = 0; i < OPTIONS_MAX; i++)
    {
      g_free (run.keys[i]);
      g_free (run.values[i]);
    }
  fake_host_free (run.host);
  if (run.metadata != NULL)
    {
      run.metadata->stop (run.metadata_self);
      run.metadata->destroy (run.metadata_self);
      fake_config_free (run.metadata_config);
      fake_host_free (run.metadata_host);
    }
  fake_tempdir_remove (run.folder);
  return failed;
}
