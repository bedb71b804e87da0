/* SPDX-License-Identifier: Apache-2.0 */
/* cli_reload.c - `gitstead reload`: has a running server take its configuration file again. */
#include "cli.h"
#include "command.h"

#include <gitstead/v1/server.pb-c.h>

static const char *
kind_name (Gitstead__V1__ConfigChangeKind kind)
{
  switch (kind)
    {
    case GITSTEAD__V1__CONFIG_CHANGE_KIND__CONFIG_ADDED:
      return "added";
    case GITSTEAD__V1__CONFIG_CHANGE_KIND__CONFIG_REMOVED:
      return "removed";
    case GITSTEAD__V1__CONFIG_CHANGE_KIND__CONFIG_REPLACED:
      return "replaced";
    case GITSTEAD__V1__CONFIG_CHANGE_KIND__CONFIG_ADJUSTED:
      return "adjusted";
    case GITSTEAD__V1__CONFIG_CHANGE_KIND__CONFIG_NEEDS_RESTART:
      return "needs a restart";
    default:
      return "changed";
    }
}

static int
reload_run (int n_args, char **args)
{
  static const char *const titles[] = { "CHANGE", "WHAT", "DETAIL", NULL };
  const Gitstead__V1__ReloadRequest request = GITSTEAD__V1__RELOAD_REQUEST__INIT;
  g_autoptr (GError) error = NULL;
  const Gitstead__V1__ReloadReply *reply = (const void *) gsi_cli_call ("Server/Reload", &request.base, &error);
  GsiTable *table;

  if (reply == NULL)
    return gsi_cli_fail (error, "the configuration was not taken; the server goes on as it was");
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the reply");
  if (gsi_cli_quiet ())
    return GSI_EXIT_OK;
  if (reply->n_changes == 0)
    {
      gsi_cli_say ("%s: nothing changed", reply->config);
      return GSI_EXIT_OK;
    }
  table = gsi_table_new (titles);
  for (gsize i = 0; i < reply->n_changes; i++)
    gsi_table_row (table, kind_name (reply->changes[i]->kind), reply->changes[i]->what, reply->changes[i]->detail, NULL);
  gsi_table_print (table);
  if (reply->restart_needed)
    g_printerr ("gitstead: what needs a restart goes on as it was until the server is restarted\n");
  return GSI_EXIT_OK;
}

const GsiVerb gsi_reload_verbs[]
    = { { .name = "",
          .arguments = "",
          .summary = "Have the server take over what changed in its configuration",
          .about = "Makes the server read its configuration file again, and prints what changed: what was added, removed, "
                   "replaced by a new instance or taken in place, and what only a restart takes. Calls under way go on with "
                   "what they began with. Certificates are read again and the log file is opened again, whether anything "
                   "changed or not. A file with mistakes is refused with all of them, as 'gitstead check' prints them, and "
                   "the server goes on as it was. Needs an administrator's token, or the server's socket. SIGHUP does the "
                   "same without an answer.",
          .examples = "  gitstead reload\n  gitstead check --config /etc/gitstead/gitstead.yaml && gitstead reload --json",
          .run = reload_run },
        { NULL } };
