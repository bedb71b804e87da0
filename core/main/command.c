/* SPDX-License-Identifier: Apache-2.0 */
/* command.c - from a command line to a verb: options, number of arguments, help, near misses. */
#include "command.h"
#include "base/text.h"
#include "cli.h"

#include <string.h>

static gboolean
is_single (const GsiCommand *command)
{
  return command->verbs[0].name[0] == '\0';
}

/* "repo create" or "version" */
static char *
full_name (const GsiCommand *command, const GsiVerb *verb)
{
  return verb == NULL || verb->name[0] == '\0' ? g_strdup (command->name)
                                               : g_strconcat (command->name, " ", verb->name, NULL);
}

/* Breaks @text at blanks so that lines stay below 80 columns; "\n" in it stays. */
static char *
wrap (const char *text)
{
  GString *out = g_string_new (NULL);
  gsize column = 0;
  while (*text != '\0')
    {
      gsize word = strcspn (text, " \n");
      if (column > 0 && column + 1 + word > 79)
        {
          g_string_append_c (out, '\n');
          column = 0;
        }
      else if (column > 0)
        {
          g_string_append_c (out, ' ');
          column++;
        }
      g_string_append_len (out, text, word);
      column += word;
      text += word;
      if (*text == '\n')
        {
          g_string_append_c (out, '\n');
          column = 0;
        }
      if (*text != '\0')
        text++;
    }
  return g_string_free (out, FALSE);
}

static GOptionContext *
verb_context (const GsiCommand *command, const GsiVerb *verb)
{
  GOptionContext *context = g_option_context_new (verb->arguments);
  g_autofree char *about = wrap (verb->about != NULL ? verb->about : verb->summary);
  g_autofree char *examples = g_strconcat ("Examples:\n", verb->examples, NULL);
  g_option_context_set_summary (context, about);
  g_option_context_set_description (context, examples);
  g_option_context_set_help_enabled (context, FALSE);
  if (verb->options != NULL)
    g_option_context_add_main_entries (context, verb->options, NULL);
  g_option_context_add_main_entries (context, verb->local ? gsi_cli_local_options () : gsi_cli_server_options (), NULL);
  return context;
}

static void
print_verb_help (const GsiCommand *command, const GsiVerb *verb)
{
  g_autoptr (GOptionContext) context = verb_context (command, verb);
  g_autofree char *name = full_name (command, verb);
  g_autofree char *program = g_strconcat ("gitstead ", name, NULL);
  g_autofree char *text = NULL;
  g_set_prgname (program);
  text = g_option_context_get_help (context, TRUE, NULL);
  g_print ("%s", text);
  g_set_prgname ("gitstead");
}

void
gsi_command_help (const GsiCommand *command, const GsiVerb *verb)
{
  g_autofree char *about = NULL;
  if (verb == NULL && is_single (command))
    verb = &command->verbs[0];
  if (verb != NULL)
    {
      print_verb_help (command, verb);
      return;
    }
  about = wrap (command->about != NULL ? command->about : command->summary);
  g_print ("Usage: gitstead %s VERB [OPTION]... [ARGUMENT]...\n\n%s\n\nVerbs:\n", command->name, about);
  for (verb = command->verbs; verb->name != NULL; verb++)
    {
      g_autofree char *usage = g_strconcat (verb->name, " ", verb->arguments, NULL);
      g_print ("  %-22s %s\n", usage, verb->summary);
    }
  g_print ("\n'gitstead %s VERB --help' explains one of them.\n", command->name);
}

static int
check_count (const GsiCommand *command, const GsiVerb *verb, int n)
{
  g_autofree char *name = full_name (command, verb);
  if (n < verb->min_args)
    return gsi_cli_usage (name, "'%s' needs %s: gitstead %s %s", name, n == 0 ? "an argument" : "more arguments", name,
                          verb->arguments);
  if (verb->max_args >= 0 && n > verb->max_args)
    return verb->max_args == 0 ? gsi_cli_usage (name, "'%s' takes no arguments", name)
                               : gsi_cli_usage (name, "too many arguments: gitstead %s %s", name, verb->arguments);
  return GSI_EXIT_OK;
}

/* @argc, @argv: from the last word of the command's name on. */
static int
run_verb (const GsiCommand *command, const GsiVerb *verb, int argc, char **argv)
{
  g_autoptr (GOptionContext) context = verb_context (command, verb);
  g_autoptr (GError) error = NULL;
  g_autofree char *name = full_name (command, verb);
  gboolean help = FALSE;
  const GOptionEntry help_entry[]
      = { { "help", 'h', 0, G_OPTION_ARG_NONE, &help, "Explain this command", NULL }, G_OPTION_ENTRY_NULL };
  int code;

  g_option_context_add_main_entries (context, help_entry, NULL);
  if (!g_option_context_parse (context, &argc, &argv, &error))
    return gsi_cli_usage (name, "%s", error->message);
  if (help)
    {
      print_verb_help (command, verb);
      return GSI_EXIT_OK;
    }
  /* "--" only marks where options end. */
  if (argc > 1 && strcmp (argv[1], "--") == 0)
    {
      argv++;
      argc--;
    }
  code = check_count (command, verb, argc - 1);
  return code != GSI_EXIT_OK ? code : verb->run (argc - 1, argv + 1);
}

static int
no_such_verb (const GsiCommand *command, const char *word)
{
  const char *names[32];
  const char *near;
  gsize n = 0;
  for (const GsiVerb *verb = command->verbs; verb->name != NULL && n < G_N_ELEMENTS (names); verb++)
    names[n++] = verb->name;
  near = gsi_text_nearest (word, names, n);
  if (near != NULL)
    return gsi_cli_usage (command->name, "'%s' has no '%s'; did you mean '%s %s'?", command->name, word, command->name,
                          near);
  return gsi_cli_usage (command->name, "'%s' has no '%s'", command->name, word);
}

int
gsi_command_run (const GsiCommand *command, int argc, char **argv)
{
  g_autoptr (GOptionContext) context = NULL;
  g_autoptr (GError) error = NULL;
  gboolean help = FALSE;
  const GOptionEntry help_entry[]
      = { { "help", 'h', 0, G_OPTION_ARG_NONE, &help, NULL, NULL }, G_OPTION_ENTRY_NULL };

  if (is_single (command))
    return run_verb (command, &command->verbs[0], argc, argv);

  /* Common options may stand between the command and its verb: only those, so parsing stops at the verb. */
  context = g_option_context_new (NULL);
  g_option_context_set_help_enabled (context, FALSE);
  g_option_context_set_strict_posix (context, TRUE);
  g_option_context_add_main_entries (context, help_entry, NULL);
  g_option_context_add_main_entries (context, gsi_cli_server_options (), NULL);
  if (!g_option_context_parse (context, &argc, &argv, &error))
    return gsi_cli_usage (command->name, "%s", error->message);
  if (help)
    {
      gsi_command_help (command, NULL);
      return GSI_EXIT_OK;
    }
  if (argc < 2)
    {
      gsi_cli_usage (command->name, "'%s' needs a verb", command->name);
      return GSI_EXIT_USAGE;
    }
  for (const GsiVerb *verb = command->verbs; verb->name != NULL; verb++)
    if (strcmp (verb->name, argv[1]) == 0)
      return run_verb (command, verb, argc - 1, argv + 1);
  return no_such_verb (command, argv[1]);
}
