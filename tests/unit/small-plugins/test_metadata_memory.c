/* SPDX-License-Identifier: Apache-2.0 */
/* metadata/memory: ids that no earlier instance gave out, visitors that call back in, and that it says what it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead/metadata.h>

#include "fakehost.h"
#include "loadplugin.h"

typedef struct
{
  const GsPlugin *plugin;
  const GsMetadataOps *ops;
  FakeHost *host;
  FakeCall *call;
  gpointer self;
  guint n_visits;
} Store;

static void
store_start (Store *store)
{
  store->self = store->plugin->create (&store->host->host, NULL, NULL);
  assert_non_null (store->self);
  assert_true (store->plugin->start (store->self, NULL));
}

static int
store_new (void **state)
{
  Store *store = g_new0 (Store, 1);
  store->plugin = load_plugin ("metadata-memory.so");
  store->ops = store->plugin->ops;
  store->host = fake_host_new ("metadata default");
  store->call = fake_call_new (0);
  store_start (store);
  *state = store;
  return 0;
}

static int
store_free (void **state)
{
  Store *store = *state;
  store->plugin->destroy (store->self);
  fake_call_free (store->call);
  fake_host_free (store->host);
  g_free (store);
  return 0;
}

static guint64
reserve (Store *store, const char *path)
{
  guint64 id = 0;
  assert_true (store->ops->repo_reserve (store->self, &store->call->call, "default", path, &id, NULL));
  return id;
}

static void
make_repo (Store *store, const char *path)
{
  GsReplicaRow replica = { sizeof replica, "alpha", 0, 0, 0 };
  const GsReplicaRow *replicas[] = { &replica };
  g_autofree char *replica_path = g_strdup_printf ("r/%s", path);
  GsRepoRow row = { .size = sizeof row, .id = reserve (store, path), .virtual_storage = "default", .path = path,
                    .replica_path = replica_path, .format = GS_FORMAT_SHA1, .replicas = replicas, .n_replicas = 1 };
  GsTxId none = { { 0 } };
  assert_true (store->ops->repo_record (store->self, &store->call->call, &row, &none, NULL));
}

static void
new_ids_after_a_restart (void **state)
{
  Store *store = *state;
  guint64 last = 0;
  for (int i = 0; i < 500; i++)
    last = reserve (store, "p");
  store->plugin->destroy (store->self);
  store_start (store);
  assert_true (reserve (store, "p") > last);
}

static gboolean
rename_what_is_shown (const GsRepoRow *row, gpointer user)
{
  Store *store = user;
  g_autofree char *path = g_strconcat ("new-", row->path, NULL);
  store->n_visits++;
  assert_true (store->ops->repo_rename (store->self, &store->call->call, "default", row->path, path, NULL));
  assert_true (strlen (row->path) < strlen (path)); /* still ours to read */
  return TRUE;
}

static void
visitors_may_call_back (void **state)
{
  Store *store = *state;
  for (int i = 0; i < 10; i++)
    {
      g_autofree char *path = g_strdup_printf ("p%d", i);
      make_repo (store, path);
    }
  assert_true (store->ops->repo_list (store->self, &store->call->call, "default", "p", "", 100, rename_what_is_shown,
                                      store, NULL));
  assert_int_equal (store->n_visits, 10);
  assert_true (store->ops->repo_find (store->self, &store->call->call, "default", "new-p3", rename_what_is_shown, store,
                                      NULL));
  assert_int_equal (store->n_visits, 11);
}

static void
other_virtual_storages_are_apart (void **state)
{
  Store *store = *state;
  guint64 id = 0;
  make_repo (store, "same");
  assert_true (store->ops->repo_reserve (store->self, &store->call->call, "another", "same", &id, NULL));
  assert_true (
      store->ops->repo_list (store->self, &store->call->call, "another", "", "", 100, rename_what_is_shown, store, NULL));
  assert_int_equal (store->n_visits, 0);
}

static void
says_that_it_forgets (void **state)
{
  Store *store = *state;
  assert_int_equal (fake_host_logged (store->host, "metadata.memory.volatile"), 1);
}

int
main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, store_new, store_free)
  const struct CMUnitTest tests[] = { CASE (new_ids_after_a_restart), CASE (visitors_may_call_back),
                                      CASE (other_virtual_storages_are_apart), CASE (says_that_it_forgets) };
  return cmocka_run_group_tests_name ("metadata-memory", tests, NULL, NULL);
}
