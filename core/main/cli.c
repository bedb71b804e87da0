/* SPDX-License-Identifier: Apache-2.0 */
/* cli.c - common options, messages and printing of the client subcommands. */
#include "cli.h"
#include "base/text.h"
#include "cli_private.h"
#include "command.h"

#include <string.h>
#include <unistd.h>
#include <wire/details.h>

#define DETAILS_SHOWN 20

static struct
{
  char *server, *token_file;
  gint64 timeout_us;
  guint64 generation;
  gboolean json, quiet;
} settings;

static gboolean
take_generation (const char *option, const char *value, gpointer user, GError **error)
{
  if (g_ascii_string_to_unsigned (value, 10, 0, G_MAXINT64, &settings.generation, NULL))
    return TRUE;
  g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
               "--generation wants the number that a receipt names, not \"%s\"", value);
  return FALSE;
}

static gboolean
take_timeout (const char *option, const char *value, gpointer user, GError **error)
{
  g_autoptr (GError) why = NULL;
  gint64 us = 0;
  if (gsi_text_parse_duration (value, &us, &why) && us > 0)
    {
      settings.timeout_us = us;
      return TRUE;
    }
  g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "--timeout %s",
               why != NULL ? why->message : "must be longer than nothing");
  return FALSE;
}

#define LOCAL_OPTIONS                                                                                                  \
  { "json", 0, 0, G_OPTION_ARG_NONE, &settings.json, "Print JSON", NULL },                                             \
    { "quiet", 'q', 0, G_OPTION_ARG_NONE, &settings.quiet, "Print only what a script needs", NULL }

const GOptionEntry *
gsi_cli_local_options (void)
{
  static const GOptionEntry entries[] = { LOCAL_OPTIONS, G_OPTION_ENTRY_NULL };
  return entries;
}

const GOptionEntry *
gsi_cli_server_options (void)
{
  static const GOptionEntry entries[]
      = { { "server", 's', 0, G_OPTION_ARG_STRING, &settings.server,
            "The server to speak to (GITSTEAD_SERVER; default: its socket on this machine)", "URL" },
          { "token-file", 0, 0, G_OPTION_ARG_FILENAME, &settings.token_file,
            "Read the access token from FILE (otherwise GITSTEAD_TOKEN)", "FILE" },
          { "timeout", 0, 0, G_OPTION_ARG_CALLBACK, take_timeout, "Give up after TIME: 500ms, 30s, 5m", "TIME" },
          { "generation", 0, 0, G_OPTION_ARG_CALLBACK, take_generation,
            "Show no older state of the repository than this, from a receipt", "N" },
          LOCAL_OPTIONS,
          G_OPTION_ENTRY_NULL };
  return entries;
}

gboolean
gsi_cli_json (void)
{
  return settings.json;
}

gboolean
gsi_cli_quiet (void)
{
  return settings.quiet;
}

const char *
gsi_cli_token_file (void)
{
  return settings.token_file;
}

guint64
gsi_cli_generation (void)
{
  return settings.generation;
}

gint64
gsi_cli_timeout_us (void)
{
  return settings.timeout_us;
}

const char *
gsi_cli_server (void)
{
  static char *usual;
  const char *env = g_getenv ("GITSTEAD_SERVER");
  const char *runtime = g_getenv ("XDG_RUNTIME_DIR");
  if (settings.server != NULL)
    return settings.server;
  if (env != NULL && env[0] != '\0')
    return env;
  if (usual == NULL && runtime != NULL && runtime[0] == '/')
    {
      g_autofree char *path = g_build_filename (runtime, "gitstead.sock", NULL);
      if (access (path, F_OK) == 0)
        usual = g_strconcat ("ipc://", path, NULL);
    }
  if (usual == NULL)
    usual = g_strdup ("ipc:///run/gitstead/gitstead.sock");
  return usual;
}

/* ------------------------------------------------------------------------------------- messages */

/* What a person can do about it. NULL when the message says it all. */
static char *
hint_for (const GError *error)
{
  g_autofree char *wait = NULL;
  gint64 advice = gsi_cli_retry_after_us ();
  if (gsi_cli_called () == NULL) /* this side's own failure: its message says it all */
    return NULL;
  if (advice > 0)
    wait = gsi_text_duration (advice);
  switch (gs_error_code (error))
    {
    case GS_ERROR_UNAVAILABLE:
      if (gsi_cli_server_answered ())
        return g_strdup_printf ("nothing was done; repeat it in %s", wait != NULL ? wait : "a moment");
      return g_strdup_printf ("is a server running at %s? 'gitstead serve --config FILE' starts one; --server or "
                              "GITSTEAD_SERVER name another",
                              gsi_cli_server ());
    case GS_ERROR_BUSY:
      return g_strdup_printf ("the server is at one of its limits and did nothing; repeat it in %s",
                              wait != NULL ? wait : "a moment");
    case GS_ERROR_UNAUTHENTICATED:
      return g_strdup ("set GITSTEAD_TOKEN or use --token-file; an administrator makes tokens with 'gitstead token create'");
    case GS_ERROR_PERMISSION_DENIED:
      return g_strdup ("'gitstead token list' shows what each token may do");
    case GS_ERROR_ABORTED:
      return g_strdup ("somebody else was faster; look at the state again, then repeat it");
    case GS_ERROR_DEADLINE_EXCEEDED:
      return g_strdup ("it may have been done all the same: look before you repeat it; --timeout gives it longer");
    case GS_ERROR_UNKNOWN:
      return g_strdup ("the connection was lost: it may have been done or not; look before you repeat it");
    case GS_ERROR_UNIMPLEMENTED:
      return g_strdup ("'gitstead call Server/Methods' lists what this server can do");
    case GS_ERROR_DATA_LOSS:
      return g_strdup ("the stored data is damaged: see docs/operations.md before you change anything");
    case GS_ERROR_INTERNAL:
      return g_strdup ("this is a fault of the server; its log has the record of this call");
    default:
      return NULL;
    }
}

static void
append_details (const GError *error, GString *text)
{
  const Gitstead__V1__ErrorDetails *details = gs_details (error, gsi_cli_arena ());
  const GsiMethods *methods = gsi_cli_methods (NULL);
  if (details == NULL || methods == NULL)
    return;
  g_string_append (text, ",\"details\":[");
  for (gsize i = 0; i < details->n_entries; i++)
    {
      g_autofree char *entry = gsi_json_write (methods, &details->entries[i]->base, GSI_JSON_COMPACT, NULL);
      g_string_append_printf (text, "%s%s", i > 0 ? "," : "", entry);
    }
  g_string_append_c (text, ']');
}

/* A line for each thing that is wrong, where the message does not say it all. */
static void
print_details (const GError *error)
{
  const Gitstead__V1__ErrorDetails *details = gs_details (error, gsi_cli_arena ());
  for (gsize i = 0; details != NULL && i < details->n_entries; i++)
    {
      const Gitstead__V1__ErrorDetail *entry = details->entries[i];
      /* without a name there are no bytes at all to copy */
      g_autofree char *name = entry->name.len > 0 ? g_strndup ((const char *) entry->name.data, entry->name.len) : g_strdup ("");
      g_autoptr (GString) line = g_string_new (NULL), shown = g_string_new ("  ");
      if (details->n_entries == 1 && entry->expected[0] == '\0')
        return;
      if (i == DETAILS_SHOWN)
        {
          g_printerr ("  and %" G_GSIZE_FORMAT " more; --json has them all\n", details->n_entries - i);
          return;
        }
      g_string_append (line, entry->field);
      if (name[0] != '\0')
        g_string_append_printf (line, "%s%s %s", line->len > 0 ? ", " : "", entry->type, name);
      if (entry->reason[0] != '\0')
        g_string_append_printf (line, ": %s", entry->reason);
      if (entry->expected[0] != '\0')
        g_string_append_printf (line, "; expected %s", entry->expected);
      if (entry->actual[0] != '\0')
        g_string_append_printf (line, ", is %s", entry->actual);
      gsi_text_append_message (shown, line->str);
      g_printerr ("%s\n", shown->str);
    }
}

/* As the API's JSON has errors, so that a program reads both with the same code; and which call it was. */
static void
print_json_error (const GError *error, const char *what)
{
  static const char *const retries[] = { "never", "same", "new" };
  g_autofree char *message = what != NULL ? g_strconcat (what, ": ", error->message, NULL) : g_strdup (error->message);
  g_autoptr (GString) text = g_string_new ("{\"code\":");
  int code = gs_error_code (error);
  gsi_text_append_json (text, gs_error_name (code), -1);
  g_string_append (text, ",\"message\":");
  gsi_text_append_json (text, message, -1);
  g_string_append_printf (text, ",\"retry\":\"%s\"", retries[gs_error_retry (code)]);
  append_details (error, text);
  if (gsi_cli_called () != NULL && gsi_cli_retry_after_us () > 0)
    g_string_append_printf (text, ",\"retry_after_ms\":%" G_GINT64_FORMAT, (gsi_cli_retry_after_us () + 999) / 1000);
  if (gsi_cli_called () != NULL)
    {
      g_string_append (text, ",\"method\":");
      gsi_text_append_json (text, gsi_cli_called (), -1);
      g_string_append (text, ",\"server\":");
      gsi_text_append_json (text, gsi_cli_server (), -1);
    }
  g_printerr ("%s}\n", text->str);
}

int
gsi_cli_usage (const char *command, const char *format, ...)
{
  g_autofree char *message = NULL;
  g_autoptr (GString) line = g_string_new ("gitstead: ");
  va_list args;
  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);
  if (settings.json)
    {
      g_autoptr (GError) error = g_error_new_literal (GS_ERROR, GS_ERROR_INVALID_ARGUMENT, message);
      print_json_error (error, NULL);
      return GSI_EXIT_USAGE;
    }
  gsi_text_append_message (line, message);
  g_printerr ("%s\n", line->str);
  if (command == NULL)
    g_printerr ("See 'gitstead --help'.\n");
  else
    g_printerr ("See 'gitstead %s --help'.\n", command);
  return GSI_EXIT_USAGE;
}

int
gsi_cli_fail (const GError *error, const char *format, ...)
{
  g_autofree char *what = NULL;
  g_autofree char *hint = hint_for (error);
  g_autoptr (GString) line = g_string_new ("gitstead: ");
  va_list args;
  va_start (args, format);
  what = g_strdup_vprintf (format, args);
  va_end (args);
  if (settings.json)
    {
      print_json_error (error, what);
      return GSI_EXIT_FAILED;
    }
  gsi_text_append_message (line, what);
  g_string_append (line, ": ");
  gsi_text_append_message (line, error->message);
  g_printerr ("%s\n", line->str);
  print_details (error);
  if (hint != NULL && !settings.quiet)
    g_printerr ("hint: %s\n", hint);
  return GSI_EXIT_FAILED;
}

void
gsi_cli_note (const char *note, const GError *error)
{
  g_autoptr (GString) line = g_string_new ("gitstead: ");
  if (settings.json || settings.quiet)
    return;
  gsi_text_append_message (line, note);
  g_string_append (line, ": ");
  gsi_text_append_message (line, error->message);
  g_printerr ("%s\n", line->str);
}

int
gsi_cli_fail_config (const GError *error, const char *path, const char *what)
{
  gsize len = strlen (path);
  gboolean places = strncmp (error->message, path, len) == 0 && error->message[len] == ':' && g_ascii_isdigit (error->message[len + 1]);
  if (settings.json || (!places && strchr (error->message, '\n') == NULL))
    return gsi_cli_fail (error, "%s", what);
  g_printerr ("gitstead: %s:\n%s\n", what, error->message);
  return GSI_EXIT_FAILED;
}

void
gsi_cli_say (const char *format, ...)
{
  g_autofree char *text = NULL;
  g_autoptr (GString) line = g_string_new (NULL);
  va_list args;
  if (settings.quiet)
    return;
  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  gsi_text_append_message (line, text);
  g_print ("%s\n", line->str);
}

gboolean
gsi_cli_can_ask (void)
{
  return isatty (STDIN_FILENO) && isatty (STDERR_FILENO);
}

gboolean
gsi_cli_ask (const char *question)
{
  char answer[16];
  g_printerr ("%s [y/N] ", question);
  if (fgets (answer, sizeof answer, stdin) == NULL)
    {
      g_printerr ("\n");
      return FALSE;
    }
  g_strstrip (answer);
  return g_ascii_strcasecmp (answer, "y") == 0 || g_ascii_strcasecmp (answer, "yes") == 0;
}

/* --------------------------------------------------------------------------------------- output */

char *
gsi_cli_time (gint64 wall_us)
{
  g_autoptr (GDateTime) when = NULL;
  if (wall_us == 0)
    return g_strdup ("never");
  when = g_date_time_new_from_unix_utc (wall_us / G_USEC_PER_SEC);
  return when != NULL ? g_date_time_format (when, "%Y-%m-%d %H:%M:%SZ")
                      : g_strdup_printf ("%" G_GINT64_FORMAT " us", wall_us);
}

void
gsi_cli_print_pairs (const char *const *pairs)
{
  gsize width = 0;
  for (gsize i = 0; pairs[i] != NULL; i += 2)
    if (pairs[i + 1] != NULL)
      width = MAX (width, strlen (pairs[i]));
  for (gsize i = 0; pairs[i] != NULL; i += 2)
    if (pairs[i + 1] != NULL)
      {
        g_autoptr (GString) value = g_string_new (NULL);
        gsi_text_append_escaped (value, pairs[i + 1], -1, FALSE);
        g_print ("%s:%*s %s\n", pairs[i], (int) (width - strlen (pairs[i])), "", value->str);
      }
}

gboolean
gsi_cli_print_json (const ProtobufCMessage *message, GError **error)
{
  const GsiMethods *methods = gsi_cli_methods (error);
  g_autofree char *text = NULL;
  if (methods == NULL)
    return FALSE;
  text = gsi_json_write (methods, message, GSI_JSON_PRETTY | GSI_JSON_DEFAULTS, NULL);
  if (text == NULL)
    return FALSE;
  g_print ("%s\n", text);
  return TRUE;
}

int
gsi_cli_finish_json (const ProtobufCMessage *message, const char *what)
{
  g_autoptr (GError) error = NULL;
  if (!gsi_cli_print_json (message, &error))
    return gsi_cli_fail (error, "cannot print %s", what);
  return GSI_EXIT_OK;
}
