/* SPDX-License-Identifier: Apache-2.0 */
/* cli_events.c - `gitstead events`: what a server does, a line of JSON for each thing. */
#include "cli.h"
#include "command.h"

#include <gitstead/v1/server.pb-c.h>
#include <string.h>
#include <unistd.h>

#define DAY_S 86400

static gboolean follow, from_oldest;
static char *prefix, *position;
static char **kinds;

static const GOptionEntry options[]
    = { { "follow", 'f', 0, G_OPTION_ARG_NONE, &follow, "Wait for more, until interrupted", NULL },
        { "prefix", 0, 0, G_OPTION_ARG_STRING, &prefix, "Only of repositories whose path begins so", "PATH" },
        { "kind", 0, 0, G_OPTION_ARG_STRING_ARRAY, &kinds,
          "Only write, created, deleted, renamed or replica-behind; can be repeated", "KIND" },
        { "position", 0, 0, G_OPTION_ARG_STRING, &position, "Begin behind this one, as an earlier line has it", "HEX" },
        { "from-oldest", 0, 0, G_OPTION_ARG_NONE, &from_oldest, "Begin at the oldest one that the server keeps", NULL },
        { NULL } };

static gboolean
take_kinds (GArray *found, GError **error)
{
  static const char *const names[] = { "write", "created", "deleted", "renamed", "replica-behind" };
  for (char **one = kinds; one != NULL && *one != NULL; one++)
    {
      Gitstead__V1__EventKind kind = GITSTEAD__V1__EVENT_KIND__EVENT_KIND_UNSPECIFIED;
      for (guint i = 0; i < G_N_ELEMENTS (names); i++)
        if (strcmp (*one, names[i]) == 0)
          kind = (Gitstead__V1__EventKind) (GITSTEAD__V1__EVENT_KIND__EVENT_WRITE + i);
      if (kind == GITSTEAD__V1__EVENT_KIND__EVENT_KIND_UNSPECIFIED)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "'%s' is no kind of event: they are write, created, deleted, renamed and replica-behind", *one);
      g_array_append_val (found, kind);
    }
  return TRUE;
}

static gboolean
take_hex (const char *hex, guint8 *ret_bytes, gsize *ret_len, gsize most)
{
  gsize len = strlen (hex);
  if (len % 2 != 0 || len / 2 > most)
    return FALSE;
  for (gsize i = 0; i < len; i++)
    if (!g_ascii_isxdigit (hex[i]))
      return FALSE;
  for (gsize i = 0; i < len / 2; i++)
    ret_bytes[i] = (guint8) (g_ascii_xdigit_value (hex[2 * i]) << 4 | g_ascii_xdigit_value (hex[2 * i + 1]));
  *ret_len = len / 2;
  return TRUE;
}

static int
events_run (int n_args, char **args)
{
  g_autoptr (GArray) found = g_array_new (FALSE, FALSE, sizeof (Gitstead__V1__EventKind));
  g_autoptr (GError) error = NULL;
  const GsiMethods *methods = gsi_cli_methods (&error);
  const GsiMethod *method = methods != NULL ? gsi_methods_by_name (methods, "Server/Events") : NULL;
  guint8 at[64];
  gsize at_len = 0;
  (void) n_args;
  (void) args;
  if (method == NULL)
    return gsi_cli_fail (error, "cannot follow the events");
  if (!take_kinds (found, &error))
    return gsi_cli_usage ("events", "%s", error->message);
  if (position != NULL && !take_hex (position, at, &at_len, sizeof at))
    return gsi_cli_usage ("events", "'%s' is no position: those are hex digits from an earlier line", position);
  do
    {
      Gitstead__V1__EventsRequest request = GITSTEAD__V1__EVENTS_REQUEST__INIT;
      const ProtobufCMessage *reply = NULL;
      request.position = (ProtobufCBinaryData){ at_len, at };
      request.from_oldest = from_oldest;
      request.prefix = prefix != NULL ? prefix : (char *) "";
      request.kinds = (Gitstead__V1__EventKind *) (gpointer) found->data;
      request.n_kinds = found->len;
      request.follow_s = follow ? DAY_S : 0;
      if (!gsi_cli_call_stream (method, &request.base, -1, STDOUT_FILENO, &reply, &error))
        return gsi_cli_fail (error, "the events ended");
      /* The server ends a stream now and then: when it reloads, or after a day. */
      const Gitstead__V1__EventsReply *end = (const void *) reply;
      if (end == NULL || end->end == NULL || end->end->position.len > sizeof at)
        break;
      at_len = end->end->position.len;
      memcpy (at, end->end->position.data, at_len);
    }
  while (follow);
  return GSI_EXIT_OK;
}

const GsiVerb gsi_events_verbs[]
    = { { .name = "",
          .arguments = "",
          .summary = "Tell what the server does: pushes, new repositories, deletions, renames",
          .about = "Prints a line of JSON for each thing that is done through the server: the event, and the position behind "
                   "it. With --follow it waits for more; without, it ends behind what is there, which is nothing unless "
                   "--position or --from-oldest says where to begin. A line with \"missed\" says that others before it are "
                   "lost, because the server keeps only the last 10,000 and those since its start; the changes of a "
                   "repository are kept for ever (Repository/Changes). A line with a position alone says that all is well. "
                   "Only what the token may read is told.",
          .examples = "  gitstead events --follow\n  gitstead events --follow --prefix group/ --kind write --position "
                      "7f0c2b3d4e5f60710000000000000012",
          .options = options,
          .run = events_run },
        { NULL } };
