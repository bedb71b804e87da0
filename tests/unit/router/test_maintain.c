/* SPDX-License-Identifier: Apache-2.0 */
/* A round of housekeeping that would last for hours ends when the server stops, and none begins after that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead/thread.h>

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "fakehost.h"
#include "router/settle.h"

typedef struct
{
  int begun[2]; /* pipe */
  guint rounds, lists;
} Disk;

/* Works until it is cancelled. */
static gboolean
disk_maintain (gpointer self, GsCall *call, GError **error)
{
  Disk *disk = self;
  struct pollfd cancel = { .fd = call->cancel_fd (call), .events = POLLIN };
  disk->rounds++;
  if (write (disk->begun[1], "x", 1) != 1 || cancel.fd < 0)
    return gs_fail (error, GS_ERROR_INTERNAL, "nothing to wait on");
  while (poll (&cancel, 1, -1) <= 0)
    ;
  return gs_call_check (call, "maintain", error);
}

static gboolean
disk_list (gpointer self, GsCall *call, GsRepoVisit visit, gpointer user, GError **error)
{
  ((Disk *) self)->lists++;
  return TRUE;
}

/* A metadata store that knows repository 7, with a replica on "first", and one lease. */
typedef struct
{
  gboolean taken;    /* the lease, by another */
  guint n_taken, n_released;
  gboolean away, joined;
  guint n_found;
  guint64 highest;   /* that it was told of */
} Store;

static gboolean
store_take (gpointer self, GsCall *call, const char *name, const char *owner, gint64 lease_us, guint64 *ret_token,
            GError **error)
{
  Store *store = self;
  if (store->taken)
    return gs_fail (error, GS_ERROR_ABORTED, "another has it");
  store->n_taken++;
  *ret_token = 1;
  return TRUE;
}

static gboolean
store_release (gpointer self, GsCall *call, const char *name, guint64 token, GError **error)
{
  ((Store *) self)->n_released++;
  return TRUE;
}

static gboolean
store_get (gpointer self, GsCall *call, guint64 id, GsRepoRowVisit visit, gpointer user, GError **error)
{
  const GsReplicaRow replica = { .size = sizeof replica, .storage = "first" };
  const GsReplicaRow *const replicas[] = { &replica };
  const GsRepoRow row = { .size = sizeof row, .id = 7, .replicas = replicas, .n_replicas = 1 };
  if (id != 7)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no repository %u", (guint) id);
  visit (&row, user);
  return TRUE;
}

static const GsMetadataOps store_ops
    = { .lease_take = store_take, .lease_release = store_release, .repo_get = store_get };

typedef struct
{
  GsiRouter *router;
  GHashTable *suspects;
} Round;

static void *
run_round (void *user)
{
  Round *round = user;
  round->suspects = gsi_router_maintain (round->router, round->suspects);
  return NULL;
}

static void
test_stop (void **state)
{
  Disk disk = { 0 };
  const GsStorageOps ops = { .maintain = disk_maintain, .list = disk_list };
  const GsiStorage first = { "first", &ops, &disk }, second = { "second", &ops, &disk };
  const GsiStorage *const storages[] = { &first, &second };
  g_autoptr (FakeHost) host = fake_host_new ("core");
  Store store = { 0 };
  const GsiRouterConfig config = { .storages = storages, .n_storages = 2, .host = &host->host,
                                   .metadata = &store_ops, .metadata_self = &store };
  Round round = { gsi_router_new (&config), g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL) };
  GsThread thread;
  char byte;
  assert_int_equal (pipe (disk.begun), 0);
  assert_int_equal (gs_thread_start (&thread, "round", run_round, &round), 0);
  assert_int_equal (read (disk.begun[0], &byte, 1), 1);
  gsi_router_maintain_stop (round.router);
  gs_thread_join (thread);
  /* The second storage's turn does not come, nobody complains, and no later round begins. */
  run_round (&round);
  assert_int_equal (disk.rounds, 1);
  assert_int_equal (disk.lists, 0);
  assert_int_equal (fake_host_logged (host, "maintain.failed"), 0);
  assert_int_equal (store.n_taken, 2);
  assert_int_equal (store.n_released, 2);
  g_hash_table_destroy (round.suspects);
  gsi_router_free (round.router);
  close (disk.begun[0]);
  close (disk.begun[1]);
}

/* What lies on a disk, and what of it was removed. */
typedef struct
{
  guint upkeeps;
  GString *removed;
  guint n_strangers; /* more of what nobody knows */
  guint8 disk;       /* its id; 0: it has none */
} Shelf;

static gboolean
shelf_maintain (gpointer self, GsCall *call, GError **error)
{
  ((Shelf *) self)->upkeeps++;
  return TRUE;
}

static gboolean
shelf_list (gpointer self, GsCall *call, GsRepoVisit visit, gpointer user, GError **error)
{
  const GsRepo known = { sizeof known, 7, "7.git" }, unknown = { sizeof unknown, 8, "8.git" };
  gboolean more = visit (&known, user) && visit (&unknown, user);
  for (guint i = 0; more && i < ((Shelf *) self)->n_strangers; i++)
    {
      const GsRepo stranger = { sizeof stranger, 100 + i, "stranger.git" };
      more = visit (&stranger, user);
    }
  return TRUE;
}

static gboolean
shelf_disk (gpointer self, GsDisk *ret_disk, GError **error)
{
  ret_disk->id = (GsTxId) { { ((Shelf *) self)->disk } };
  return TRUE;
}

static gboolean
shelf_remove (gpointer self, GsCall *call, const GsRepo *repo, GError **error)
{
  g_string_append_printf (((Shelf *) self)->removed, "%s ", repo->replica_path);
  return TRUE;
}

static gboolean
shelf_probe (gpointer self, GError **error)
{
  return TRUE;
}

/* Nobody's replicas go after the grace, also one of a repository that has its replicas elsewhere. */
static void
test_leftovers (void **state)
{
  Shelf first_shelf = { 0, g_string_new (NULL) }, second_shelf = { 0, g_string_new (NULL) };
  const GsStorageOps ops = { .maintain = shelf_maintain, .list = shelf_list, .remove = shelf_remove };
  const GsStorageOps elsewhere = { .maintain = shelf_maintain, .list = shelf_list, .probe = shelf_probe };
  const GsiStorage first = { "first", &ops, &first_shelf }, second = { "second", &ops, &second_shelf },
                   third = { "third", &elsewhere, &second_shelf };
  const GsiStorage *const storages[] = { &first, &second, &third };
  g_autoptr (FakeHost) host = fake_host_new ("core");
  Store store = { 0 };
  GsiRouterConfig config = { .storages = storages, .n_storages = 3, .host = &host->host, .metadata = &store_ops,
                             .metadata_self = &store, .care = { .leftover_grace_us = 3600 * (gint64) G_USEC_PER_SEC } };
  GsiRouter *router = gsi_router_new (&config);
  GHashTable *suspects = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  for (guint i = 0; i < 3; i++)
    suspects = gsi_router_maintain (router, suspects);
  assert_int_equal (g_hash_table_size (suspects), 3);
  assert_string_equal (first_shelf.removed->str, "");
  assert_int_equal (first_shelf.upkeeps, 3);
  assert_int_equal (second_shelf.upkeeps, 3);
  gsi_router_free (router);

  /* While another process does upkeep, leftovers are looked for all the same. */
  config.care.leftover_grace_us = 0;
  store.taken = TRUE;
  router = gsi_router_new (&config);
  suspects = gsi_router_maintain (router, suspects);
  assert_string_equal (first_shelf.removed->str, "8.git ");
  assert_string_equal (second_shelf.removed->str, "7.git 8.git ");
  assert_int_equal (first_shelf.upkeeps, 3);
  g_hash_table_destroy (suspects);
  gsi_router_free (router);
  g_string_free (first_shelf.removed, TRUE);
  g_string_free (second_shelf.removed, TRUE);
}

/* "first" reported itself with disk 1, "second" with disk 2. */
static gboolean
store_nodes (gpointer self, GsCall *call, GsNodeRowVisit visit, gpointer user, GError **error)
{
  const GsNodeRow first = { .size = sizeof first, .storage = "first", .disk_id = { { 1 } },
                            .joined = ((Store *) self)->joined };
  const GsNodeRow second = { .size = sizeof second, .storage = "second", .disk_id = { { 2 } } };
  if (((Store *) self)->away)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "away");
  return visit (&first, user) && (visit (&second, user), TRUE);
}

static gboolean
store_found (gpointer self, GsCall *call, const char *storage, guint64 highest_id, gboolean joined, GError **error)
{
  Store *store = self;
  assert_string_equal (storage, "first");
  store->n_found++;
  store->joined = store->joined || joined;
  store->highest = highest_id;
  return TRUE;
}

/* Ids up to 101 were given out. */
static gboolean
store_reserve (gpointer self, GsCall *call, const char *virtual_storage, const char *path, guint64 *ret_id, GError **error)
{
  *ret_id = 102;
  return TRUE;
}

/* Nothing but what is recorded: repository 7. */
static gboolean
shelf_list_known (gpointer self, GsCall *call, GsRepoVisit visit, gpointer user, GError **error)
{
  const GsRepo known = { sizeof known, 7, "7.git" }, damaged = { sizeof damaged, 0, "damaged.git" };
  return visit (&known, user) && (((Shelf *) self)->n_strangers == 0 || visit (&damaged, user));
}

/* Rounds of housekeeping on "first" with the replicas of @list; what was removed. */
static char *
sweep_unjoined (gpointer list, Store *store, guint n_strangers, guint rounds, guint *ret_complaints)
{
  Shelf shelf = { 0, g_string_new (NULL), n_strangers, 1 };
  const GsMetadataOps joins = { .lease_take = store_take, .lease_release = store_release, .repo_get = store_get,
                                .node_list = store_nodes, .node_found = store_found, .repo_reserve = store_reserve };
  const GsStorageOps ops = { .maintain = shelf_maintain, .list = list, .remove = shelf_remove, .disk = shelf_disk };
  const GsiStorage first = { "first", &ops, &shelf };
  const GsiStorage *const storages[] = { &first };
  g_autoptr (FakeHost) host = fake_host_new ("core");
  const GsiRouterConfig config = { .storages = storages, .n_storages = 1, .host = &host->host, .metadata = &joins,
                                   .metadata_self = store };
  GsiRouter *router = gsi_router_new (&config);
  GHashTable *suspects = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  for (guint i = 0; i < rounds; i++)
    suspects = gsi_router_maintain (router, suspects);
  *ret_complaints = fake_host_logged (host, "maintain.disk.unknown");
  g_hash_table_destroy (suspects);
  gsi_router_free (router);
  return g_string_free (shelf.removed, FALSE);
}

/* A store that never knew a disk, because it was lost or is another cluster's, has nothing cleared there, however little. */
static void
test_not_joined (void **state)
{
  Store store = { 0 };
  guint n_complaints;
  g_autofree char *removed = sweep_unjoined (shelf_list, &store, 3, 4, &n_complaints);
  assert_string_equal (removed, "");
  assert_int_equal (n_complaints, 4);
  assert_false (store.joined);
  assert_int_equal (store.highest, 102); /* no id of what is there is given out anew */

  /* Nobody knows whose a damaged one is. */
  g_free (removed);
  removed = sweep_unjoined (shelf_list_known, &store, 1, 2, &n_complaints);
  assert_int_equal (n_complaints, 2);
  assert_false (store.joined);

  /* All of it is recorded: it joins, and what is left over later goes. */
  g_free (removed);
  removed = sweep_unjoined (shelf_list_known, &store, 0, 1, &n_complaints);
  assert_int_equal (n_complaints, 0);
  assert_true (store.joined);
  g_free (removed);
  removed = sweep_unjoined (shelf_list, &store, 0, 2, &n_complaints);
  assert_string_equal (removed, "8.git ");
  assert_int_equal (store.n_found, 4 + 2 + 1);
  /* What this store cannot have made, because it is an old one, stays, and its id is not given out. */
  g_free (removed);
  removed = sweep_unjoined (shelf_list, &store, 4, 2, &n_complaints);
  assert_string_equal (removed, "8.git stranger.git stranger.git ");
  assert_int_equal (store.highest, 103);
  /* A damaged one is nobody's to clear away. */
  g_free (removed);
  removed = sweep_unjoined (shelf_list_known, &store, 1, 3, &n_complaints);
  assert_string_equal (removed, "");
}

/* What two rounds remove of "first", which has @disk, and the logged complaints. */
static char *
sweep (guint8 disk, guint n_strangers, gboolean away, guint *ret_complaints)
{
  Shelf shelf = { 0, g_string_new (NULL), n_strangers, disk };
  const GsMetadataOps knows_nodes = { .lease_take = store_take, .lease_release = store_release, .repo_get = store_get,
                                      .node_list = store_nodes };
  const GsStorageOps ops
      = { .maintain = shelf_maintain, .list = shelf_list, .remove = shelf_remove, .disk = shelf_disk };
  const GsiStorage first = { "first", &ops, &shelf };
  const GsiStorage *const storages[] = { &first };
  g_autoptr (FakeHost) host = fake_host_new ("core");
  Store store = { .away = away };
  const GsiRouterConfig config = { .storages = storages, .n_storages = 1, .host = &host->host,
                                   .metadata = &knows_nodes, .metadata_self = &store };
  GsiRouter *router = gsi_router_new (&config);
  GHashTable *suspects = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  for (guint i = 0; i < 2; i++)
    suspects = gsi_router_maintain (router, suspects);
  *ret_complaints = fake_host_logged (host, "maintain.leftovers.many");
  g_hash_table_destroy (suspects);
  gsi_router_free (router);
  return g_string_free (shelf.removed, FALSE);
}

/* A disk that was put into the wrong node, and a metadata store that is not the one that was meant. */
static void
test_not_left_over (void **state)
{
  static const struct
  {
    guint8 disk;
    guint n_strangers;
    gboolean away;
    guint n_removed, n_complaints;
  } cases[] = { { 1, 0, FALSE, 1, 0 },  { 1, 5, FALSE, 6, 0 }, { 1, 500, FALSE, 0, 2 }, { 2, 0, FALSE, 0, 0 },
                { 3, 0, FALSE, 0, 0 }, { 1, 0, TRUE, 0, 0 } };
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      guint n_complaints;
      g_autofree char *removed = sweep (cases[i].disk, cases[i].n_strangers, cases[i].away, &n_complaints);
      g_auto (GStrv) names = g_strsplit (removed, " ", -1);
      assert_int_equal (*removed != '\0' ? g_strv_length (names) - 1 : 0, cases[i].n_removed);
      assert_int_equal (n_complaints, cases[i].n_complaints);
    }
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (test_stop), cmocka_unit_test (test_leftovers), cmocka_unit_test (test_not_left_over),
          cmocka_unit_test (test_not_joined) };
  return cmocka_run_group_tests_name ("housekeeping rounds", tests, NULL, NULL);
}
