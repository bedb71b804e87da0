/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the `gitstead` program: finds the command that was asked for and runs it. */
#include "base/text.h"
#include "cli.h"
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <gitstead/plugin.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

static int
version_run (int n_args, char **args)
{
  if (gsi_cli_json ())
    g_print ("{\n  \"version\": \"%s\",\n  \"abi\": \"%u.%u\"\n}\n", GSI_VERSION, GS_ABI_MAJOR, GS_ABI_MINOR);
  else if (gsi_cli_quiet ())
    g_print ("%s\n", GSI_VERSION);
  else
    g_print ("gitstead %s (plugin ABI %u.%u)\n", GSI_VERSION, GS_ABI_MAJOR, GS_ABI_MINOR);
  return GSI_EXIT_OK;
}

static const GsiVerb version_verbs[]
    = { { .name = "",
          .arguments = "",
          .summary = "Print the version",
          .about = "Prints the version of this program and the plugin ABI that it loads. 'gitstead call Server/Info' says "
                   "the same of a running server.",
          .examples = "  gitstead version\n  gitstead version --json",
          .local = TRUE,
          .run = version_run },
        { NULL } };

static int help_run (int n_args, char **args);

static const GsiVerb help_verbs[]
    = { { .name = "",
          .arguments = "[COMMAND [VERB]]",
          .summary = "Explain a command",
          .about = "Prints what 'gitstead COMMAND VERB --help' prints.",
          .examples = "  gitstead help\n  gitstead help repo\n  gitstead help repo create",
          .max_args = 2,
          .local = TRUE,
          .run = help_run },
        { NULL } };

const GsiCommand gsi_commands[] = {
#ifdef GSI_WITH_SERVER
  { .name = "serve", .summary = "Run the server", .run = gsi_command_serve, .words = "--config --help" },
  { .name = "check",
    .summary = "Check a configuration file",
    .run = gsi_command_check,
    .words = "--config --print --help" },
#endif
#ifdef GSI_WITH_SERVER
  { .name = "metadata",
    .summary = "Look at the metadata store's schema, and bring it up to date",
    .verbs = gsi_metadata_verbs,
    .about = "Works on the metadata store that a configuration file names, whether a server runs or not. A server refuses "
             "to start on a schema that is missing, behind or newer, except that SQLite (by default) and PostgreSQL (with "
             "auto_migrate) bring theirs up to date by themselves." },
#endif
  { .name = "repo",
    .summary = "Create, list, show, rename and delete repositories",
    .verbs = gsi_repo_verbs,
    .about = "Works on the repositories of a running server. A repository is named by its path, \"group/project\"; a "
             "\".git\" at its end may be left out. Clients clone it as http://HOST:PORT/group/project.git." },
  { .name = "cluster",
    .summary = "Look after nodes and replicas",
    .verbs = gsi_cluster_verbs,
    .about = "What an operator asks and does about the nodes and replicas of a running cluster. Any router answers; "
             "docs/operations.md has a runbook. Needs an administrator's token, or the server's socket." },
  { .name = "token",
    .summary = "Create, list and revoke access tokens",
    .verbs = gsi_token_verbs,
    .about = "A token lets somebody in: git sends it as the password over HTTP (with any user name), this program from "
             "the variable GITSTEAD_TOKEN. It has a scope (read, write, admin) and may be bound to repositories whose "
             "path begins with a prefix. The server keeps no token in the clear." },
  { .name = "call", .summary = "Call any method of the API with JSON", .verbs = gsi_call_verbs },
  { .name = "methods", .summary = "List and describe the API's methods", .verbs = gsi_methods_verbs },
  { .name = "events", .summary = "Tell what the server does: pushes, new repositories, deletions, renames", .verbs = gsi_events_verbs },
  { .name = "reload", .summary = "Have the server take over what changed in its configuration", .verbs = gsi_reload_verbs },
  { .name = "plugin",
    .summary = "List and describe plugins",
    .verbs = gsi_plugin_verbs,
    .about = "Looks at plugin files on this machine. No server is needed; no plugin is started." },
  { .name = "completion", .summary = "Print a shell's completion script", .verbs = gsi_completion_verbs },
  { .name = "version", .summary = "Print the version", .verbs = version_verbs },
  { .name = "help", .summary = "Explain a command", .verbs = help_verbs },
  { NULL },
};

static void
print_overview (FILE *to)
{
  fprintf (to, "Usage: gitstead COMMAND [OPTION]... [ARGUMENT]...\n\n"
               "Gitstead stores Git repositories and serves them over smart HTTP and nng.\n\nCommands:\n");
  for (const GsiCommand *command = gsi_commands; command->name != NULL; command++)
    fprintf (to, "  %-12s %s\n", command->name, command->summary);
  fprintf (to, "\nCommon options:\n"
               "  --server URL       the server to speak to (GITSTEAD_SERVER), e.g. ipc:///run/gitstead/gitstead.sock\n"
               "  --token-file FILE  read the access token from FILE (otherwise from GITSTEAD_TOKEN)\n"
               "  --json             print JSON, for programs\n"
               "  --quiet            print only what a script needs\n"
               "  --timeout TIME     give up after TIME, e.g. 30s\n\n"
               "Exit codes: 0 done, 1 failed, 2 the command line was wrong.\n\n"
               "Examples:\n"
               "  gitstead serve --config /etc/gitstead/gitstead.yaml\n"
               "  gitstead repo create group/project\n"
               "  gitstead help token create\n");
}

static const GsiCommand *
find_command (const char *name)
{
  for (const GsiCommand *command = gsi_commands; command->name != NULL; command++)
    if (strcmp (command->name, name) == 0)
      return command;
  return NULL;
}

static int
no_such_command (const char *name)
{
  const char *names[32];
  const char *near;
  gsize n = 0;
  for (const GsiCommand *command = gsi_commands; command->name != NULL && n < G_N_ELEMENTS (names); command++)
    names[n++] = command->name;
  near = gsi_text_nearest (name, names, n);
  if (near != NULL)
    return gsi_cli_usage (NULL, "there is no command '%s'; did you mean '%s'?", name, near);
  return gsi_cli_usage (NULL, "there is no command '%s'", name);
}

/* Runs a command that parses for itself; its help shows the whole name. */
static int
run_own (const GsiCommand *command, int argc, char **argv)
{
  g_autofree char *program = g_strconcat ("gitstead ", command->name, NULL);
  g_set_prgname (program);
  return command->run (argc, argv);
}

static int
help_run (int n_args, char **args)
{
  const GsiCommand *command;
  if (n_args == 0)
    {
      print_overview (stdout);
      return GSI_EXIT_OK;
    }
  command = find_command (args[0]);
  if (command == NULL)
    return no_such_command (args[0]);
  if (command->verbs == NULL)
    {
      char help[] = "--help";
      char *argv[] = { args[0], help, NULL };
      return run_own (command, 2, argv);
    }
  if (n_args == 1)
    {
      gsi_command_help (command, NULL);
      return GSI_EXIT_OK;
    }
  for (const GsiVerb *verb = command->verbs; verb->name != NULL; verb++)
    if (strcmp (verb->name, args[1]) == 0)
      {
        gsi_command_help (command, verb);
        return GSI_EXIT_OK;
      }
  return gsi_cli_usage (command->name, "'%s' has no '%s'", command->name, args[1]);
}

/* Common options may stand before the command too: this takes them off. */
static gboolean
parse_leading_options (int *argc, char ***argv, gboolean *ret_help, gboolean *ret_version, GError **error)
{
  gboolean help = FALSE, version = FALSE;
  const GOptionEntry own[] = { { "help", 'h', 0, G_OPTION_ARG_NONE, &help, NULL, NULL },
                               { "version", 0, 0, G_OPTION_ARG_NONE, &version, NULL, NULL },
                               G_OPTION_ENTRY_NULL };
  g_autoptr (GOptionContext) context = g_option_context_new (NULL);
  g_option_context_set_help_enabled (context, FALSE);
  g_option_context_set_strict_posix (context, TRUE);
  g_option_context_add_main_entries (context, own, NULL);
  g_option_context_add_main_entries (context, gsi_cli_server_options (), NULL);
  if (!g_option_context_parse (context, argc, argv, error))
    return FALSE;
  *ret_help = help;
  *ret_version = version;
  return TRUE;
}

/* GLib would turn what the locale cannot show into '?': fatal for JSON and for names. */
static void
print_raw (const char *text)
{
  fputs (text, stdout);
}

static void
print_raw_error (const char *text)
{
  fputs (text, stderr);
}

/* Descriptors 0 to 2 that are closed would be taken by the next files: output must not end up in a socket. */
static void
fill_standard_fds (void)
{
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    if (fcntl (fd, F_GETFD) < 0) /* 0 and 1 the wrong way round, so that using them fails as it would */
      (void) !open ("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_WRONLY);
}

/* What did not reach its reader was not done. */
static int
flush_output (int code)
{
  if (fflush (stdout) == 0 && !ferror (stdout))
    return code;
  fprintf (stderr, "gitstead: cannot write the output: %s\n", g_strerror (errno));
  return code == GSI_EXIT_OK ? GSI_EXIT_FAILED : code;
}

static int
run (int argc, char **argv)
{
  g_autoptr (GError) error = NULL;
  gboolean help = FALSE, version = FALSE;
  const GsiCommand *command;

  g_set_prgname ("gitstead");
  g_set_print_handler (print_raw);
  g_set_printerr_handler (print_raw_error);
  if (!parse_leading_options (&argc, &argv, &help, &version, &error))
    return gsi_cli_usage (NULL, "%s", error->message);
  if (version)
    return version_run (0, NULL);
  if (help)
    return help_run (argc - 1, argv + 1);
  if (argc < 2)
    {
      print_overview (stderr);
      return GSI_EXIT_USAGE;
    }
  command = find_command (argv[1]);
  if (command == NULL)
    return no_such_command (argv[1]);
  if (command->verbs == NULL)
    return run_own (command, argc - 1, argv + 1);
  return gsi_command_run (command, argc - 1, argv + 1);
}

int
main (int argc, char **argv)
{
  fill_standard_fds ();
  setlocale (LC_ALL, "");
  return flush_output (run (argc, argv));
}
