/* SPDX-License-Identifier: Apache-2.0 */
/* Readiness, metrics and the status page. */
#include "main/server.h"

#include "base/text.h"
#include "main/probe.h"

/* What keeps the server from being ready before any store or storage is asked; NULL: nothing. */
static const char *
server_phase (GsiServer *server)
{
  if (__atomic_load_n (&server->stopping, __ATOMIC_ACQUIRE))
    return "the server is stopping: calls under way are finished, new ones refused";
  if (!__atomic_load_n (&server->recovered, __ATOMIC_ACQUIRE))
    return "the server is starting: staged writes are being settled";
  return NULL;
}

/* A router is ready as long as some node of each virtual storage is there: one that is away is no reason to send clients
 * elsewhere. Who is there is known already: nobody is asked. */
static void
look_at_nodes (const GsiRouterConfig *config, GPtrArray *problems)
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
        g_ptr_array_add (problems, g_strdup_printf ("every node of virtual storage '%s': %s", group->name,
                                                    why != NULL ? why->message : "away"));
    }
}

/* @ret_checks (may be NULL): every check with its age, a sentence each, *full*. */
static GPtrArray *
look (GsiServer *server, GPtrArray **ret_checks)
{
  GPtrArray *problems = g_ptr_array_new_with_free_func (g_free);
  GPtrArray *checks = g_ptr_array_new_with_free_func (g_free);
  const char *phase = server_phase (server);
  GsiWiring *wiring;
  GsiGeneration *generation = gsi_server_hold (server, &wiring);
  g_autoptr (GArray) results = gsi_probes_look (generation);

  if (phase != NULL)
    g_ptr_array_add (problems, g_strdup (phase));
  for (guint i = 0; phase == NULL && i < results->len; i++)
    {
      const GsiProbeResult *one = &g_array_index (results, GsiProbeResult, i);
      if (one->problem != NULL)
        g_ptr_array_add (problems, g_strdup_printf ("%s '%s': %s", one->what, one->name, one->problem));
      g_ptr_array_add (checks, g_strdup_printf ("%s '%s': %s (%.1f s ago)", one->what, one->name,
                                                one->problem != NULL ? one->problem : "ok",
                                                (double) one->age_us / G_USEC_PER_SEC));
    }
  if (phase == NULL)
    {
      guint n_before = problems->len;
      look_at_nodes (gsi_router_config (generation->router), problems);
      for (guint i = n_before; i < problems->len; i++)
        g_ptr_array_add (checks, g_strdup (problems->pdata[i]));
    }
  gsi_wiring_unref (wiring);
  if (ret_checks != NULL)
    *ret_checks = checks;
  else
    g_ptr_array_unref (checks);
  return problems;
}

GPtrArray *
gsi_server_problems (GsiServer *server)
{
  return look (server, NULL);
}

/* --------------------------------------------------------------------------------------- rendering */

static GBytes *
string_page (GString *text)
{
  return g_string_free_to_bytes (text);
}

static void
append_line (gpointer line, gpointer text)
{
  g_string_append_printf (text, "%s\n", (const char *) line);
}

static GBytes *
page_ready (GsiServer *server, gboolean *ret_ok)
{
  g_autoptr (GPtrArray) checks = NULL;
  g_autoptr (GPtrArray) problems = look (server, &checks);
  GString *text = g_string_new (problems->len == 0 ? "ready\n" : "not ready\n");
  if (checks->len == 0)
    g_ptr_array_foreach (problems, append_line, text);
  g_ptr_array_foreach (checks, append_line, text);
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
  GsiWiring *wiring;
  GsiGeneration *generation = gsi_server_hold (server, &wiring);
  g_string_append (html, "<h2>Plugins</h2><table><tr><th>kind</th><th>name</th><th>plugin</th><th>version</th></tr>");
  for (guint32 kind = 1; kind <= GS_KIND_MAX; kind++)
    for (GsiInstance *const *one = gsi_registry_all (generation->registry, kind); *one != NULL; one++)
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
  gsi_wiring_unref (wiring);
}

static void
append_checks (GPtrArray *checks, GString *html)
{
  g_string_append (html, "<h2>Checks</h2><ul>");
  for (guint i = 0; i < checks->len; i++)
    {
      g_string_append (html, "<li>");
      append_escaped (html, checks->pdata[i]);
      g_string_append (html, "</li>");
    }
  g_string_append (html, "</ul>");
}

static GBytes *
page_status (GsiServer *server, gboolean *ret_ok)
{
  static const char head[]
      = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Gitstead</title><style>"
        "body{font:15px/1.5 system-ui,sans-serif;max-width:56em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse}td,th{text-align:left;padding:.2em 1em .2em 0}"
        ".ok{color:#176b2c}.bad{color:#a4161a}</style></head><body><h1>Gitstead " GSI_VERSION "</h1>";
  g_autoptr (GPtrArray) checks = NULL;
  g_autoptr (GPtrArray) problems = look (server, &checks);
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
  append_checks (checks, html);
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
