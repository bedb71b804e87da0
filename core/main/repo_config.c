/* SPDX-License-Identifier: Apache-2.0 */
/* repo_config.c - `gitstead repo config`: the settings that belong to a repository. */
#include "repo_files.h"

#include "cli.h"
#include "command.h"

#include <gitstead/v1/files.pb-c.h>
#include <string.h>

static gboolean config_add;
static char *config_expect;

const GOptionEntry gsi_repo_config_options[]
    = { { "add", 'a', 0, G_OPTION_ARG_NONE, &config_add, "set: keep the values that the setting has", NULL },
        { "expect", 0, 0, G_OPTION_ARG_STRING, &config_expect,
          "set, unset: only when the settings are at this version, as get --json tells it", "VERSION" },
        G_OPTION_ENTRY_NULL };

/* ------------------------------------------------------------------------------------------- get, keys */

static const Gitstead__V1__RepositoryConfigGetReply *
ask (char *path, char **keys, gsize n_keys, gboolean describe, GError **error)
{
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__RepositoryConfigGetRequest request = GITSTEAD__V1__REPOSITORY_CONFIG_GET_REQUEST__INIT;
  repository.path = path;
  request.repository = &repository;
  request.keys = keys;
  request.n_keys = n_keys;
  request.describe = describe;
  return (gconstpointer) gsi_cli_call ("Repository/ConfigGet", &request.base, error);
}

/* A key's values alone when one was asked for: for scripts. */
static int
run_get (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  const Gitstead__V1__RepositoryConfigGetReply *reply = ask (args[0], args + 1, (gsize) n_args - 1, FALSE, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot read the settings of repository '%s'", args[0]);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the settings");
  for (gsize i = 0; i < reply->n_entries; i++)
    for (gsize k = 0; k < reply->entries[i]->n_values; k++)
      if (n_args == 2)
        g_print ("%s\n", reply->entries[i]->values[k]);
      else
        g_print ("%s = %s\n", reply->entries[i]->key, reply->entries[i]->values[k]);
  return n_args == 2 && reply->n_entries == 0 ? GSI_EXIT_FAILED : GSI_EXIT_OK;
}

static int
run_keys (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  const Gitstead__V1__RepositoryConfigGetReply *reply = ask (args[0], NULL, 0, TRUE, &error);
  GsiTable *table;
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot read the settings of repository '%s'", args[0]);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the settings");
  if (gsi_cli_quiet ())
    {
      for (gsize i = 0; i < reply->n_keys; i++)
        g_print ("%s\n", reply->keys[i]->key);
      return GSI_EXIT_OK;
    }
  table = gsi_table_new ((const char *[]) { "KEY", "TYPE", "VALUES", "WHAT IT DOES", NULL });
  for (gsize i = 0; i < reply->n_keys; i++)
    gsi_table_row (table, reply->keys[i]->key, reply->keys[i]->type, reply->keys[i]->many ? "several" : "one",
                   reply->keys[i]->help, NULL);
  gsi_table_print (table);
  return GSI_EXIT_OK;
}

/* ------------------------------------------------------------------------------------------ set, unset */

static int
change (char *path, Gitstead__V1__ConfigEntry **entries, gsize n_entries)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__RepositoryConfigSetRequest request = GITSTEAD__V1__REPOSITORY_CONFIG_SET_REQUEST__INIT;
  const Gitstead__V1__RepositoryConfigSetReply *reply;
  repository.path = path;
  request.repository = &repository;
  request.entries = entries;
  request.n_entries = n_entries;
  request.add = config_add;
  if (config_expect != NULL)
    request.expected_version = config_expect;
  reply = (gconstpointer) gsi_cli_call ("Repository/ConfigSet", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot change the settings of repository '%s'", path);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the reply");
  gsi_cli_say (reply->receipt != NULL ? "Changed the settings of repository '%s'."
                                      : "The settings of repository '%s' were like that already.",
               path);
  return GSI_EXIT_OK;
}

static int
run_set (int n_args, char **args)
{
  Gitstead__V1__ConfigEntry entry = GITSTEAD__V1__CONFIG_ENTRY__INIT, *entries[] = { &entry };
  if (n_args < 3)
    return gsi_cli_usage ("repo config", "set wants PATH KEY VALUE...");
  entry.key = args[1];
  entry.values = args + 2;
  entry.n_values = (gsize) n_args - 2;
  return change (args[0], entries, 1);
}

static int
run_unset (int n_args, char **args)
{
  gsize n = (gsize) n_args - 1;
  g_autofree Gitstead__V1__ConfigEntry *entries = g_new (Gitstead__V1__ConfigEntry, n + 1);
  g_autofree Gitstead__V1__ConfigEntry **pointers = g_new (Gitstead__V1__ConfigEntry *, n + 1);
  if (n == 0)
    return gsi_cli_usage ("repo config", "unset wants PATH KEY...");
  for (gsize i = 0; i < n; i++)
    {
      gitstead__v1__config_entry__init (pointers[i] = &entries[i]);
      entries[i].key = args[1 + i];
    }
  return change (args[0], pointers, n);
}

int
gsi_repo_config_run (int n_args, char **args)
{
  static const struct
  {
    const char *name;
    int (*run) (int n_args, char **args);
  } actions[] = { { "get", run_get }, { "set", run_set }, { "unset", run_unset }, { "keys", run_keys } };
  for (gsize i = 0; i < G_N_ELEMENTS (actions); i++)
    if (strcmp (args[0], actions[i].name) == 0)
      return actions[i].run (n_args - 1, args + 1);
  return gsi_cli_usage ("repo config", "'%s' is none of get, set, unset and keys", args[0]);
}
