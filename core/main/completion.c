/* SPDX-License-Identifier: Apache-2.0 */
/* completion.c - `gitstead completion bash`: made from the tables of commands and options. */
#include "cli.h"
#include "command.h"

#include <string.h>

static void
append_options (GString *out, const GOptionEntry *entries)
{
  for (; entries != NULL && entries->long_name != NULL; entries++)
    if ((entries->flags & G_OPTION_FLAG_HIDDEN) == 0 && entries->long_name[0] != '\0')
      g_string_append_printf (out, "--%s ", entries->long_name);
}

/* One line of the case: words that may follow "COMMAND VERB". */
static void
append_case (GString *out, const GsiCommand *command, const GsiVerb *verb)
{
  g_autoptr (GString) words = g_string_new (NULL);
  append_options (words, verb->options);
  append_options (words, verb->local ? gsi_cli_local_options () : gsi_cli_server_options ());
  g_string_append (words, "--help");
  g_string_append_printf (out, "    '%s %s') options='%s' ;;\n", command->name, verb->name, words->str);
}

static void
append_tables (GString *out)
{
  g_string_append (out, "  local commands='");
  for (const GsiCommand *command = gsi_commands; command->name != NULL; command++)
    g_string_append_printf (out, "%s%s", command == gsi_commands ? "" : " ", command->name);
  g_string_append (out, "'\n  case $command in\n");
  for (const GsiCommand *command = gsi_commands; command->name != NULL; command++)
    {
      if (command->verbs == NULL || command->verbs[0].name[0] == '\0')
        continue;
      g_string_append_printf (out, "    %s) verbs='", command->name);
      for (const GsiVerb *verb = command->verbs; verb->name != NULL; verb++)
        g_string_append_printf (out, "%s%s", verb == command->verbs ? "" : " ", verb->name);
      g_string_append (out, "' ;;\n");
    }
  g_string_append (out, "  esac\n  [ -n \"$verbs\" ] || verb=\n  case \"$command $verb\" in\n");
  for (const GsiCommand *command = gsi_commands; command->name != NULL; command++)
    {
      if (command->verbs == NULL)
        g_string_append_printf (out, "    '%s ') options='%s' ;;\n", command->name, command->words);
      for (const GsiVerb *verb = command->verbs; verb != NULL && verb->name != NULL; verb++)
        append_case (out, command, verb);
    }
  g_string_append (out, "  esac\n");
}

static int
completion_run (int n_args, char **args)
{
  g_autoptr (GString) out = g_string_new (NULL);
  if (strcmp (args[0], "bash") != 0)
    return gsi_cli_usage ("completion", "there is completion for bash only, not for '%s'", args[0]);
  g_string_append (out, "# bash completion for gitstead; made by 'gitstead completion bash'\n"
                        "_gitstead ()\n"
                        "{\n"
                        "  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n"
                        "  local command= verb= verbs= options= i place=0\n"
                        "  # The first two words that are no options are command and verb.\n"
                        "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
                        "    case ${COMP_WORDS[i]} in\n"
                        "      --server|-s|--token-file|--timeout) ((i++)) ;;\n"
                        "      -*) ;;\n"
                        "      *) if [ -z \"$command\" ]; then command=${COMP_WORDS[i]}; place=1\n"
                        "         elif [ -z \"$verb\" ]; then verb=${COMP_WORDS[i]}; place=2\n"
                        "         else place=3; fi ;;\n"
                        "    esac\n"
                        "  done\n");
  append_tables (out);
  g_string_append (out,
                   "  COMPREPLY=()\n"
                   "  case $previous in\n"
                   "    --token-file|--output|-o|--config) COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n"
                   "    --plugin-path) COMPREPLY=($(compgen -d -- \"$word\")); return ;;\n"
                   "    --scope) COMPREPLY=($(compgen -W 'read write admin' -- \"$word\")); return ;;\n"
                   "    --describe|-d) COMPREPLY=($(compgen -W \"$(gitstead methods --quiet 2>/dev/null)\" -- \"$word\")); return ;;\n"
                   "    --server|-s|--timeout|--expires|--prefix|--limit) return ;;\n"
                   "  esac\n"
                   "  case $word in\n"
                   "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")); return ;;\n"
                   "  esac\n"
                   "  if [ $place = 0 ]; then\n"
                   "    COMPREPLY=($(compgen -W \"$commands\" -- \"$word\"))\n"
                   "  elif [ $place = 1 ] && [ -n \"$verbs\" ]; then\n"
                   "    COMPREPLY=($(compgen -W \"$verbs\" -- \"$word\"))\n"
                   "  else\n"
                   "    # Live names: asked of the server, with little patience.\n"
                   "    case \"$command $verb\" in\n"
                   "      'repo show'|'repo delete'|'repo rename'|'repo size'|'repo list')\n"
                   "        COMPREPLY=($(compgen -W \"$(gitstead repo list --quiet --timeout 1s 2>/dev/null)\" -- \"$word\")) ;;\n"
                   "      'repo config')\n"
                   "        case $place in\n"
                   "          2) COMPREPLY=($(compgen -W 'get set unset keys' -- \"$word\")) ;;\n"
                   "          3) COMPREPLY=($(compgen -W \"$(gitstead repo list --quiet --timeout 1s 2>/dev/null)\" -- \"$word\")) ;;\n"
                   "          4) COMPREPLY=($(compgen -W \"$(gitstead repo config keys \"${COMP_WORDS[COMP_CWORD-1]}\" --quiet --timeout 1s 2>/dev/null)\" -- \"$word\")) ;;\n"
                   "        esac ;;\n"
                   "      'repo hooks')\n"
                   "        case $place in\n"
                   "          2) COMPREPLY=($(compgen -W 'get set clear' -- \"$word\")) ;;\n"
                   "          3) COMPREPLY=($(compgen -W \"$(gitstead repo list --quiet --timeout 1s 2>/dev/null)\" -- \"$word\")) ;;\n"
                   "          4) COMPREPLY=($(compgen -d -- \"$word\")) ;;\n"
                   "        esac ;;\n"
                   "      'token revoke')\n"
                   "        COMPREPLY=($(compgen -W \"$(gitstead token list --quiet --timeout 1s 2>/dev/null)\" -- \"$word\")) ;;\n"
                   "      'call '*)\n"
                   "        [ $place = 1 ] && COMPREPLY=($(compgen -W \"$(gitstead methods --quiet 2>/dev/null)\" -- \"$word\")) ;;\n"
                   "      'plugin show'|'plugin check')\n"
                   "        COMPREPLY=($(compgen -W \"$(gitstead plugin list --quiet 2>/dev/null)\" -- \"$word\")) ;;\n"
                   "      'plugin new')\n"
                   "        [ $place = 2 ] && COMPREPLY=($(compgen -W 'transport storage metadata routing consistency cache access layer' -- \"$word\")) ;;\n"
                   "      'help '*)\n"
                   "        [ $place = 1 ] && COMPREPLY=($(compgen -W \"$commands\" -- \"$word\")) ;;\n"
                   "      'completion '*)\n"
                   "        COMPREPLY=($(compgen -W 'bash' -- \"$word\")) ;;\n"
                   "    esac\n"
                   "  fi\n"
                   "}\n"
                   "complete -F _gitstead gitstead\n");
  g_print ("%s", out->str);
  return GSI_EXIT_OK;
}

const GsiVerb gsi_completion_verbs[] = {
  { .name = "",
    .arguments = "SHELL",
    .summary = "Print a shell's completion script",
    .about = "Prints a script that lets the shell complete commands, options, and names of repositories, tokens, methods and "
             "plugins. SHELL is bash. An installed Gitstead brings it along.",
    .examples = "  source <(gitstead completion bash)\n"
                "  gitstead completion bash > ~/.local/share/bash-completion/completions/gitstead",
    .min_args = 1,
    .max_args = 1,
    .local = TRUE,
    .run = completion_run },
  { NULL },
};
