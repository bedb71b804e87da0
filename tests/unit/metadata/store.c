/* SPDX-License-Identifier: Apache-2.0 */
/* See store.h. */
#include "store.h"

#include "loadplugin.h"

#include <unistd.h>

char *
store_postgres_path (const char *conninfo)
{
  return g_strdup_printf ("%s#test %d %08x", conninfo, (int) getpid (), g_random_int ());
}

gboolean
store_open (Store *store, const char *file, const char *path, const char *auto_migrate, const char *busy_timeout,
            GError **error)
{
  memset (store, 0, sizeof *store);
  store->plugin = load_plugin (file);
  store->ops = store->plugin->ops;
  store->host = fake_host_new ("metadata default");
  if (strcmp (file, "metadata-postgres.so") == 0)
    {
      g_auto (GStrv) parts = g_strsplit (path, "#", 2);
      store->config = fake_config_new (store->plugin, "conninfo", parts[0], "schema", parts[1], "auto_migrate",
                                       auto_migrate, "pool_wait", busy_timeout, "connections", "2", NULL);
    }
  else
    store->config = fake_config_new (store->plugin, "path", path, "auto_migrate", auto_migrate, "busy_timeout",
                                     busy_timeout, "readers", "2", NULL);
  store->self = store->plugin->create (&store->host->host, fake_config_get (store->config), error);
  if (store->self == NULL)
    return FALSE;
  store->started = store->plugin->start (store->self, error);
  return store->started;
}

void
store_close (Store *store)
{
  if (store->started)
    store->plugin->stop (store->self);
  if (store->self != NULL)
    store->plugin->destroy (store->self);
  fake_config_free (store->config);
  fake_host_free (store->host);
  memset (store, 0, sizeof *store);
}

guint64
store_make_repo (Store *store, const char *path, GError **error)
{
  g_autoptr (FakeCall) call = fake_call_new (0);
  GsReplicaRow alpha = { sizeof alpha, "alpha", 0, 0, 0 };
  const GsReplicaRow *replicas[] = { &alpha };
  g_autofree char *replica_path = NULL;
  GsRepoRow row = { .size = sizeof row,
                    .virtual_storage = "default",
                    .path = path,
                    .format = GS_FORMAT_SHA1,
                    .replicas = replicas,
                    .n_replicas = 1 };
  if (!store->ops->repo_reserve (store->self, &call->call, "default", path, &row.id, error))
    return 0;
  row.replica_path = replica_path = g_strdup_printf ("r/%" G_GUINT64_FORMAT, row.id);
  return store->ops->repo_record (store->self, &call->call, &row, &call->call.id, error) ? row.id : 0;
}

gboolean
store_decide (Store *store, GsCall *call, guint64 id, guint64 expected, GError **error)
{
  static const char *const alpha[] = { "alpha", NULL };
  g_autoptr (FakeCall) own = fake_call_new (0);
  GsRefUpdate update = { .name = "refs/heads/main", .old_oid = { .len = 20 }, .new_oid = { .len = 20, .raw = { 1 } } };
  GsDecideRequest request = { .size = sizeof request,
                              .repository_id = id,
                              .expected_generation = expected,
                              .updates = &update,
                              .n_updates = 1,
                              .voters = alpha,
                              .caller = "tester" };
  guint64 generation;
  request.txid = own->call.id;
  return store->ops->decide (store->self, call != NULL ? call : &own->call, &request, &generation, error);
}

static gboolean
take_row (const GsRepoRow *row, gpointer user)
{
  guint64 *values = user;
  values[0] = row->id;
  values[1] = row->generation;
  return FALSE;
}

guint64
store_generation (Store *store, guint64 id, GError **error)
{
  g_autoptr (FakeCall) call = fake_call_new (0);
  guint64 values[2];
  return store->ops->repo_get (store->self, &call->call, id, take_row, values, error) ? values[1] : G_MAXUINT64;
}

guint64
store_find (Store *store, const char *path, GError **error)
{
  g_autoptr (FakeCall) call = fake_call_new (0);
  guint64 values[2];
  return store->ops->repo_find (store->self, &call->call, "default", path, take_row, values, error) ? values[0] : 0;
}
