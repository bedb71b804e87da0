/* SPDX-License-Identifier: Apache-2.0 */
/**
 * command.h - the table of subcommands of the `gitstead` program.
 *
 * Exit codes everywhere: 0 done, 1 failed, 2 the command line was wrong (then nothing was tried).
 */
#ifndef GSI_MAIN_COMMAND_H
#define GSI_MAIN_COMMAND_H

#include <glib.h>

#define GSI_EXIT_OK 0
#define GSI_EXIT_FAILED 1
#define GSI_EXIT_USAGE 2

/** One thing that a command does ("create" of "repo"). The array ends with name NULL. */
typedef struct
{
  const char *name;      /* "" in a command that does one thing only */
  const char *arguments; /* as usage shows them: "PATH [NEW-PATH]"; "" for none */
  const char *summary;   /* one line, for lists */
  const char *about;     /* paragraphs that teach; NULL = the summary says it all */
  const char *examples;  /* lines "  gitstead …" */
  const GOptionEntry *options; /* its own, beside the common ones; NULL for none */
  int min_args, max_args;      /* of what is left after the options; max -1 = any number */
  gboolean local;              /* talks to no server: no --server, --token-file, --timeout */
  /** Gets what is left after the options. Returns an exit code. */
  int (*run) (int n_args, char **args);
} GsiVerb;

typedef struct
{
  const char *name, *summary;
  /** Parses its own command line (argv[0] is its name). NULL when @verbs says it all. Returns an exit code. */
  int (*run) (int argc, char **argv);
  const GsiVerb *verbs;      /* NULL for commands that parse for themselves */
  const char *about;         /* for the help of a command with several verbs */
  const char *words;         /* commands that parse for themselves: what completion offers, split by blanks */
} GsiCommand;

/** All of them, in the order in which help lists them; ends with name NULL. main.c. */
extern const GsiCommand gsi_commands[];

/** Finds @command's verb, parses options, runs it. @argc, @argv as main has them, from the command's name on. */
int gsi_command_run (const GsiCommand *command, int argc, char **argv);
/** Prints how @command is used, or one verb of it (@verb NULL: the command). */
void gsi_command_help (const GsiCommand *command, const GsiVerb *verb);

int gsi_command_serve (int argc, char **argv); /* serve.c */
int gsi_command_check (int argc, char **argv); /* check.c */

extern const GsiVerb gsi_repo_verbs[];       /* repo.c */
extern const GsiVerb gsi_cluster_verbs[];    /* cluster.c */
extern const GsiVerb gsi_token_verbs[];      /* token.c */
extern const GsiVerb gsi_call_verbs[];       /* call.c */
extern const GsiVerb gsi_methods_verbs[];    /* methods.c */
extern const GsiVerb gsi_events_verbs[];     /* cli_events.c */
extern const GsiVerb gsi_reload_verbs[];     /* cli_reload.c */
extern const GsiVerb gsi_plugin_verbs[];     /* plugin.c */
extern const GsiVerb gsi_metadata_verbs[];   /* metadata.c */
extern const GsiVerb gsi_completion_verbs[]; /* completion.c */

#endif
