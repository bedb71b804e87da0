/* SPDX-License-Identifier: Apache-2.0 */
/* call.c - `gitstead call`: any method of the API, JSON in and out, bulk bytes from stdin and to stdout. */
#include "cli.h"
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <gitstead/error.h>
#include <string.h>
#include <unistd.h>

/* More than any server takes: 64 MiB, in base64. */
#define REQUEST_MAX (96 * 1024 * 1024)

static char *output_file;

static const GOptionEntry options[]
    = { { "output", 'o', 0, G_OPTION_ARG_FILENAME, &output_file, "Write a streaming method's bytes to FILE", "FILE" },
        G_OPTION_ENTRY_NULL };

/* All of @fd, up to a bound. *full*. */
static char *
read_all (int fd, const char *what, gsize *ret_len, GError **error)
{
  g_autoptr (GString) text = g_string_new (NULL);
  char buffer[8192];
  for (;;)
    {
      gssize n = read (fd, buffer, sizeof buffer);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        {
          int err = errno;
          gs_fail (error, gs_error_from_errno (err), "cannot read %s: %s", what, g_strerror (err));
          return NULL;
        }
      if (n == 0)
        break;
      g_string_append_len (text, buffer, n);
      if (text->len > REQUEST_MAX)
        {
          gs_fail (error, GS_ERROR_OUT_OF_RANGE, "%s is longer than any server takes", what);
          return NULL;
        }
    }
  *ret_len = text->len;
  return g_string_free (g_steal_pointer (&text), FALSE);
}

/* JSON itself, "@file" or "-". *full*. */
static char *
read_request (const char *argument, gsize *ret_len, GError **error)
{
  if (argument == NULL)
    {
      *ret_len = 0;
      return g_strdup ("");
    }
  if (strcmp (argument, "-") == 0)
    return read_all (STDIN_FILENO, "standard input", ret_len, error);
  if (argument[0] == '@')
    {
      char *text;
      int fd = open (argument + 1, O_RDONLY | O_CLOEXEC);
      if (fd < 0)
        {
          int err = errno;
          gs_fail (error, gs_error_from_errno (err), "cannot open '%s': %s", argument + 1, g_strerror (err));
          return NULL;
        }
      text = read_all (fd, argument + 1, ret_len, error);
      close (fd);
      return text;
    }
  *ret_len = strlen (argument);
  return g_strdup (argument);
}

static int
no_such_method (const GsiMethods *methods, const char *name)
{
  const char *near = gsi_methods_nearest (methods, name);
  if (near != NULL)
    return gsi_cli_usage ("methods", "there is no method '%s'; did you mean '%s'?", name, near);
  return gsi_cli_usage ("methods", "there is no method '%s'; 'gitstead methods' lists them", name);
}

static int
wrong_request (const GsiMethod *method, const GError *error)
{
  gsi_cli_fail (error, "cannot call %s", method->name);
  if (!gsi_cli_json ())
    g_printerr ("See 'gitstead methods --describe %s'.\n", method->name);
  return GSI_EXIT_USAGE;
}

static int
call_streaming (const GsiMethod *method, const ProtobufCMessage *request)
{
  g_autoptr (GError) error = NULL;
  const ProtobufCMessage *reply = NULL;
  gboolean ok;
  int output = STDOUT_FILENO;
  if (output_file != NULL)
    {
      output = open (output_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
      if (output < 0)
        {
          int err = errno;
          gs_fail (&error, gs_error_from_errno (err), "%s", g_strerror (err));
          return gsi_cli_fail (error, "cannot write '%s'", output_file);
        }
    }
  else if (method->bytes_out && isatty (STDOUT_FILENO))
    return gsi_cli_usage ("call", "%s gives bytes, which a terminal cannot show: send them into a file or a pipe, or use "
                                  "--output", method->name);
  ok = gsi_cli_call_stream (method, request, method->bytes_in ? STDIN_FILENO : -1, method->bytes_out ? output : -1, &reply,
                            &error);
  if (output_file != NULL && close (output) != 0 && ok)
    {
      int err = errno;
      ok = gs_fail (&error, gs_error_from_errno (err), "cannot write '%s': %s", output_file, g_strerror (err));
    }
  if (!ok)
    return gsi_cli_fail (error, "cannot call %s", method->name);
  /* Standard output is the bytes' own unless they went elsewhere. */
  if (reply != NULL && (!method->bytes_out || output_file != NULL) && !gsi_cli_print_json (reply, &error))
    return gsi_cli_fail (error, "cannot print the reply of %s", method->name);
  return GSI_EXIT_OK;
}

static int
call_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *text = NULL;
  gsize len = 0;
  const GsiMethods *methods = gsi_cli_methods (&error);
  const GsiMethod *method;
  const ProtobufCMessage *request, *reply;

  if (methods == NULL)
    return gsi_cli_fail (error, "cannot read the list of methods");
  method = gsi_methods_by_name (methods, args[0]);
  if (method == NULL)
    return no_such_method (methods, args[0]);
  if (method->bytes_in && n_args > 1 && strcmp (args[1], "-") == 0)
    return gsi_cli_usage ("call", "%s reads its bytes from standard input: give the JSON as an argument or as @FILE",
                          method->name);
  if (output_file != NULL && !method->bytes_out)
    return gsi_cli_usage ("call", "%s gives no bytes to write to '%s'", method->name, output_file);
  text = read_request (n_args > 1 ? args[1] : NULL, &len, &error);
  if (text == NULL)
    return gsi_cli_fail (error, "cannot read the request");
  request = gsi_json_read (methods, gsi_cli_arena (), method->request, text, len, &error);
  if (request == NULL)
    return wrong_request (method, error);
  if (method->bytes_in || method->bytes_out)
    return call_streaming (method, request);

  reply = gsi_cli_call (method->name, request, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot call %s", method->name);
  if (!gsi_cli_quiet () && !gsi_cli_print_json (reply, &error))
    return gsi_cli_fail (error, "cannot print the reply of %s", method->name);
  return GSI_EXIT_OK;
}

const GsiVerb gsi_call_verbs[] = {
  { .name = "",
    .arguments = "METHOD [JSON|@FILE|-]",
    .summary = "Call any method of the API with JSON",
    .about = "Calls a method with a request in JSON (given as it is, from a file as @FILE, or from standard input as -) and "
             "prints its reply as JSON. 'gitstead methods' lists the methods, 'gitstead methods --describe METHOD' explains "
             "one. Of a streaming method the bytes come from standard input and go to standard output (or --output).",
    .examples = "  gitstead call Server/Info\n"
                "  gitstead call Ref/List '{\"repository\": {\"path\": \"group/project\"}, \"prefixes\": [\"refs/tags/\"]}'\n"
                "  gitstead call Object/Stream '{\"repository\": {\"path\": \"group/project\"}, \"revision\": "
                "\"main:README.md\"}' > README.md",
    .options = options,
    .min_args = 1,
    .max_args = 2,
    .run = call_run },
  { NULL },
};
