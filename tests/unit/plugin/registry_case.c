/* SPDX-License-Identifier: Apache-2.0 */
/* The registry's host in tests: see registry_case.h. */
#include "registry_case.h"

#include <glib/gstdio.h>

static gboolean
no_method (gpointer user, guint32 number, const char *name, GsMethodInfo *ret_info)
{
  return FALSE;
}

static GsCallHandle
no_begin (gpointer user, const char *instance, const GsInbound *inbound)
{
  return 0;
}

static void
no_call (gpointer user, GsCallHandle call)
{
}

static GBytes *
no_page (gpointer user, const char *page, gboolean *ret_ok)
{
  *ret_ok = FALSE;
  return g_bytes_new_static ("", 0);
}

Fixture *
fixture_new (const char *plugin_path, gboolean logs)
{
  Fixture *fixture = g_new0 (Fixture, 1);
  fixture->folder = g_dir_make_tmp ("gitstead-registry-XXXXXX", NULL);
  assert_non_null (fixture->folder);
  fixture->trace = g_build_filename (fixture->folder, "trace", NULL);
  fixture->log_path = g_build_filename (fixture->folder, "log", NULL);
  if (logs)
    {
      const GsiLogSettings settings = { .level = GS_LOG_DEBUG, .path = fixture->log_path };
      fixture->log = gsi_log_new (&settings, NULL);
    }
  fixture->metrics = gsi_metrics_new (100);
  fixture->pool = gsi_pool_new ("test", 2, 16, NULL);
  fixture->timers = gsi_timers_new (fixture->pool, 16, NULL);
  fixture->setup = (GsiHostSetup){ .log = fixture->log,
                                   .metrics = fixture->metrics,
                                   .pool = fixture->pool,
                                   .timers = fixture->timers,
                                   .services = { NULL, no_method, no_begin, no_call, no_call, no_page } };
  g_setenv ("GITSTEAD_PLUGIN_PATH", plugin_path, TRUE);
  return fixture;
}

int
fixture_free (Fixture *fixture)
{
  int left;
  gsi_registry_free (fixture->registry);
  gsi_timers_free (fixture->timers);
  gsi_pool_free (fixture->pool);
  gsi_metrics_free (fixture->metrics);
  gsi_log_free (fixture->log);
  g_unlink (fixture->trace);
  g_unlink (fixture->log_path);
  left = g_rmdir (fixture->folder);
  g_free (fixture->log_path);
  g_free (fixture->trace);
  g_free (fixture->folder);
  g_free (fixture);
  return left;
}

GsiRegistry *
parse_yaml (Fixture *fixture, const char *yaml, GError **error)
{
  g_autofree char *name = g_build_filename (fixture->folder, "gitstead.yaml", NULL);
  return gsi_registry_parse (name, yaml, error);
}

char *
traced (Fixture *fixture)
{
  char *text = NULL;
  if (!g_file_get_contents (fixture->trace, &text, NULL, NULL))
    text = g_strdup ("");
  return text;
}

void
assert_has (const char *text, const char *part)
{
  if (strstr (text, part) == NULL)
    fail_msg ("\"%s\" does not say \"%s\"", text, part);
}
