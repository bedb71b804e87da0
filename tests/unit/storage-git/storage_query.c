/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storage-query ROOT PATH: calls of the Git API on one replica, without a server. Creates it when it is not there. Each
 * line of the input is one of
 *   Service/Method {…}          answered by the reply as JSON, or "!CODE message"
 *   @time N Service/Method {…}  carries it out N times; answered by the microseconds that the quickest took
 *   @memory                     VmHWM and RssAnon in KiB
 *   @log                        what the storage has logged
 *   @maintain                   one round of maintenance; "done" or "!CODE message"
 */
#include "fakehost.h"

#include <gitstead/storage.h>
#include <rpc/json.h>
#include <wire/wire.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const GsPlugin *gs_plugin_query (void);

static const GsStorageOps *ops;
static gpointer self;
static GsRepo repo = { .size = sizeof repo, .id = 42 };

static void
print_error (GError *error)
{
  for (char *at = error->message; *at != '\0'; at++)
    if (*at == '\n')
      *at = ' ';
  printf ("!%s %s\n", gs_error_name (error->code), error->message);
  g_error_free (error);
}

static GBytes *
query (const GsiMethod *method, GBytes *request, GError **error)
{
  FakeCall *call = fake_call_new (120 * G_USEC_PER_SEC);
  GsQuery question = { sizeof question, method->number, request, NULL };
  GBytes *reply = NULL;
  gboolean done = ops->query (self, &call->call, &repo, &question, &reply, error);
  fake_call_free (call);
  return done ? reply : NULL;
}

static void
carry_out (const GsiMethods *methods, const char *line, guint times)
{
  const char *space = strchr (line, ' ');
  g_autofree char *name = space != NULL ? g_strndup (line, (gsize) (space - line)) : g_strdup (line);
  const GsiMethod *method = gsi_methods_by_name (methods, name);
  g_autoptr (GsArena) arena = gs_arena_new (64 << 20);
  GError *error = NULL;
  gint64 best = G_MAXINT64;
  if (method == NULL)
    {
      printf ("!UNKNOWN there is no method %s\n", name);
      return;
    }
  const char *json = space != NULL ? space + 1 : "";
  ProtobufCMessage *request = gsi_json_read (methods, arena, method->request, json, strlen (json), &error);
  if (request == NULL)
    {
      print_error (error);
      return;
    }
  g_autoptr (GBytes) bytes = gs_wire_encode (request);
  g_autoptr (GBytes) reply = NULL;
  for (guint i = 0; i < MAX (times, 1); i++)
    {
      gint64 began = g_get_monotonic_time ();
      g_clear_pointer (&reply, g_bytes_unref);
      reply = query (method, bytes, &error);
      if (reply == NULL)
        {
          print_error (error);
          return;
        }
      best = MIN (best, g_get_monotonic_time () - began);
    }
  if (times > 0)
    {
      printf ("%" G_GINT64_FORMAT "\n", best);
      return;
    }
  gsize len;
  const guint8 *data = g_bytes_get_data (reply, &len);
  ProtobufCMessage *message = gs_wire_decode (arena, method->reply, data, len, &error);
  if (message == NULL)
    {
      print_error (error);
      return;
    }
  g_autofree char *text = gsi_json_write (methods, message, GSI_JSON_DEFAULTS, NULL);
  puts (text);
}

static void
print_memory (void)
{
  g_autofree char *text = NULL;
  long peak = 0, now = 0;
  if (g_file_get_contents ("/proc/self/status", &text, NULL, NULL))
    {
      const char *high = strstr (text, "VmHWM:"), *size = strstr (text, "RssAnon:");
      peak = high != NULL ? strtol (high + 6, NULL, 10) : 0;
      now = size != NULL ? strtol (size + 8, NULL, 10) : 0;
    }
  printf ("%ld %ld\n", peak, now);
}

static void
maintain (void)
{
  FakeCall *call = fake_call_new (120 * G_USEC_PER_SEC);
  GError *error = NULL;
  if (ops->maintain (self, &call->call, &error))
    puts ("done");
  else
    print_error (error);
  fake_call_free (call);
}

static void
print_log (FakeHost *host)
{
  g_autofree char *log = fake_host_log_text (host);
  g_strdelimit (log, "\n", ';');
  puts (log);
}

static void
one_line (const GsiMethods *methods, FakeHost *host, char *line)
{
  char *rest = NULL;
  if (strcmp (line, "@memory") == 0)
    print_memory ();
  else if (strcmp (line, "@log") == 0)
    print_log (host);
  else if (strcmp (line, "@maintain") == 0)
    maintain ();
  else if (g_str_has_prefix (line, "@time "))
    {
      guint times = (guint) strtoul (line + 6, &rest, 10);
      carry_out (methods, rest + 1, times);
    }
  else
    carry_out (methods, line, 0);
  fflush (stdout);
}

static int
fail (const char *doing, GError *error)
{
  fprintf (stderr, "storage-query: %s: %s\n", doing, error->message);
  g_error_free (error);
  return 1;
}

int
main (int argc, char **argv)
{
  const GsPlugin *plugin = gs_plugin_query ();
  g_autoptr (FakeHost) host = fake_host_new ("storage test");
  GError *error = NULL;
  gboolean exists;
  if (argc != 3)
    return 2;
  g_autoptr (GsiMethods) methods = gsi_methods_new (&error);
  if (methods == NULL)
    return fail ("read the schema", error);
  ops = plugin->ops;
  repo.replica_path = argv[2];
  g_autoptr (FakeConfig) config
      = fake_config_new (plugin, "path", argv[1], "hook_dir", g_getenv ("GITSTEAD_TEST_HOOK_DIR"), NULL);
  self = plugin->create (&host->host, fake_config_get (config), &error);
  if (self == NULL || !plugin->start (self, &error))
    return fail ("start", error);
  FakeCall *call = fake_call_new (60 * G_USEC_PER_SEC);
  const GsRepoSpec spec = { .size = sizeof spec, .format = GS_FORMAT_SHA1, .default_branch = "refs/heads/main" };
  if (!ops->exists (self, &call->call, &repo, &exists, &error)
      || (!exists && !ops->create (self, &call->call, &repo, &spec, &error)))
    return fail ("create", error);
  fake_call_free (call);
  char *line = NULL;
  size_t size = 0;
  for (ssize_t len; (len = getline (&line, &size, stdin)) > 0;)
    {
      line[len - (line[len - 1] == '\n')] = '\0';
      one_line (methods, host, line);
    }
  free (line);
  plugin->stop (self);
  plugin->destroy (self);
  return 0;
}
