/* SPDX-License-Identifier: Apache-2.0 */
/* Readiness, metrics and the status page. */
#include "main/server.h"

#include "base/text.h"
#include "router/settle.h"

static int
problem_add (GPtrArray *problems, const char *what, const char *name, const GError *why)
{
  g_ptr_array_add (problems, g_strdup_printf ("%s '%s': %s", what, name, why->message));
  return 0;
}

static gboolean
ignore_row (const GsRepoRow *row, gpointer user)
{
  return FALSE;
}

/* A router is ready as long as some node of each virtual storage is there: one that is away is no reason to send clients
 * elsewhere. */
static void
probe_nodes (const GsiRouterConfig *config, GPtrArray *problems)
{
  for (gsize i = 0; i < config->n_virtual_storages; i++)
    {
      const GsiStorageGroup *group = config->virtual_storages[i];
      g_autoptr (GError) why = NULL;
      gboolean there = FALSE;
      for (gsize k = 0; k < group->n_storages && !there; k++)
        {
          const GsiStorage *storage = group->storages[k];
          g_clear_error (&why);
          there = storage->ops->probe == NULL || storage->ops->probe (storage->self, &why);
        }
      if (!there)
        problem_add (problems, "every node of virtual storage", group->name, why);
    }
}

/* Cheap questions that a store or disk which is away cannot answer. */
static void
probe (GsiServer *server, GPtrArray *problems)
{
  const GsiRouterConfig *config = gsi_router_config (server->router);
  GsIdentity identity;
  GsCall call;
  gsi_own_call_init (&call, &identity, "readiness");
  call.deadline_us = g_get_monotonic_time () + 5 * G_USEC_PER_SEC;
  {
    g_autoptr (GError) why = NULL;
    const char *name = config->n_virtual_storages > 0 ? config->virtual_storages[0]->name : "none";
    if (!config->metadata->repo_list (config->metadata_self, &call, name, "", "", 1, ignore_row, NULL, &why))
      problem_add (problems, "metadata store", gsi_instance (gsi_registry_get (server->registry, GS_KIND_METADATA, NULL))->name,
                   why);
  }
  for (gsize i = 0; i < config->n_storages; i++)
    {
      const GsiStorage *storage = config->storages[i];
      GsRepo nobody = { sizeof nobody, 0, "@r/00/00/0.git" };
      g_autoptr (GError) why = NULL;
      gboolean exists;
      if (storage->ops->probe != NULL)
        continue;
      if (!storage->ops->exists (storage->self, &call, &nobody, &exists, &why))
        problem_add (problems, "storage", storage->name, why);
    }
  probe_nodes (config, problems);
}

GPtrArray *
gsi_server_problems (GsiServer *server)
{
  GPtrArray *problems = g_ptr_array_new_with_free_func (g_free);
  if (__atomic_load_n (&server->stopping, __ATOMIC_ACQUIRE))
    g_ptr_array_add (problems, g_strdup ("the server is stopping: calls under way are finished, new ones refused"));
  else if (!__atomic_load_n (&server->recovered, __ATOMIC_ACQUIRE))
    g_ptr_array_add (problems, g_strdup ("the server is starting: staged writes are being settled"));
  else
    probe (server, problems);
  return problems;
}

/* --------------------------------------------------------------------------------------- rendering */

static GBytes *
string_page (GString *text)
{
  return g_string_free_to_bytes (text);
}

static GBytes *
page_ready (GsiServer *server, gboolean *ret_ok)
{
  g_autoptr (GPtrArray) problems = gsi_server_problems (server);
  GString *text = g_string_new (problems->len == 0 ? "ready\n" : "not ready\n");
  for (guint i = 0; i < problems->len; i++)
    g_string_append_printf (text, "%s\n", (const char *) problems->pdata[i]);
  *ret_ok = problems->len == 0;
  return string_page (text);
}

static void
append_escaped (GString *html, const char *text)
{
  g_autofree char *escaped = g_markup_escape_text (text, -1);
  g_string_append (html, escaped);
}

static void
append_cell (GString *html, const char *text)
{
  g_string_append (html, "<td>");
  append_escaped (html, text);
  g_string_append (html, "</td>");
}

static void
append_instances (GsiServer *server, GString *html)
{
  g_string_append (html, "<h2>Plugins</h2><table><tr><th>kind</th><th>name</th><th>plugin</th><th>version</th></tr>");
  for (guint32 kind = 1; kind <= GS_KIND_MAX; kind++)
    for (GsiInstance *const *one = gsi_registry_all (server->registry, kind); *one != NULL; one++)
      {
        const GsiPlugin *plugin = gsi_instance_plugin (*one);
        g_string_append (html, "<tr>");
        append_cell (html, gsi_kind_name (kind));
        append_cell (html, gsi_instance (*one)->name);
        append_cell (html, plugin->plugin.name);
        append_cell (html, plugin->plugin.version);
        g_string_append (html, "</tr>");
      }
  g_string_append (html, "</table>");
}

static GBytes *
page_status (GsiServer *server, gboolean *ret_ok)
{
  static const char head[]
      = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Gitstead</title><style>"
        "body{font:15px/1.5 system-ui,sans-serif;max-width:56em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse}td,th{text-align:left;padding:.2em 1em .2em 0}"
        ".ok{color:#176b2c}.bad{color:#a4161a}</style></head><body><h1>Gitstead " GSI_VERSION "</h1>";
  g_autoptr (GPtrArray) problems = gsi_server_problems (server);
  g_autofree char *uptime
      = gsi_text_duration ((guint64) (g_get_monotonic_time () - server->started_us) / G_USEC_PER_SEC * G_USEC_PER_SEC);
  GString *html = g_string_new (head);

  g_string_append_printf (html, "<p class=\"%s\">%s</p>", problems->len == 0 ? "ok" : "bad",
                          problems->len == 0 ? "ready" : "not ready");
  for (guint i = 0; i < problems->len; i++)
    {
      g_string_append (html, "<p class=\"bad\">");
      append_escaped (html, problems->pdata[i]);
      g_string_append (html, "</p>");
    }
  g_string_append_printf (html, "<p>up for %s, %u calls under way; <a href=\"/metrics\">metrics</a>, "
                                "<a href=\"/readyz\">readiness</a></p>",
                          uptime, gsi_rpc_in_flight (server->rpc));
  append_instances (server, html);
  g_string_append (html, "</body></html>\n");
  *ret_ok = problems->len == 0;
  return string_page (html);
}

GBytes *
gsi_server_page (gpointer user, const char *page, gboolean *ret_ok)
{
  GsiServer *server = user;
  if (strcmp (page, GS_PAGE_READY) == 0)
    return page_ready (server, ret_ok);
  if (strcmp (page, GS_PAGE_STATUS) == 0)
    return page_status (server, ret_ok);
  *ret_ok = strcmp (page, GS_PAGE_METRICS) == 0;
  return *ret_ok ? gsi_metrics_render (server->metrics) : g_bytes_new_static ("", 0);
}
