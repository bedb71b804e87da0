/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replica's move, step by step: on the metadata store in memory, with three disks that do what each test has them do at the moment
 * of a copy or of a look.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "fakehost.h"
#include "router/repair.h"
#include "router/settle.h"

const GsPlugin *gs_plugin_query (void);

typedef struct World World;

typedef struct
{
  World *world;
  const char *name;
  gboolean exists, away;
  guint64 generation;
  guint32 writers;
  guint n_imports, n_removed;
  gboolean busy; /* it cannot be removed now */
  void (*on_import) (World *world); /* once */
  void (*on_state) (World *world);  /* once */
} Disk;

struct World
{
  FakeHost *host;
  FakeConfig *options;
  gpointer store;
  const GsMetadataOps *ops;
  Disk disks[3];
  GsiStorage storages[3];
  const GsiStorage *list[3];
  GsiStorageGroup group;
  const GsiStorageGroup *groups[1];
  GsiRouter *router;
  GsiRepairer *repairer;
  GsCall call;
  GsIdentity identity;
  guint64 id;
};

/* ---------------------------------------------------------------------------------------------- disks */

static GsDigest
digest_at (guint64 generation)
{
  GsDigest digest;
  memset (&digest, (int) generation, sizeof digest);
  return digest;
}

static gboolean
disk_state (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  Disk *disk = self;
  void (*hook) (World *) = disk->on_state;
  if (!disk->exists)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "nothing is there");
  *ret_state = (GsReplicaState) { .size = sizeof *ret_state, .repository_id = repo->id, .generation = disk->generation,
                                  .refs_digest = digest_at (disk->generation), .format = GS_FORMAT_SHA1,
                                  .writers = disk->writers };
  disk->on_state = NULL;
  if (hook != NULL)
    hook (disk->world);
  return TRUE;
}

static gboolean
disk_exists (gpointer self, GsCall *call, const GsRepo *repo, gboolean *ret_exists, GError **error)
{
  *ret_exists = ((Disk *) self)->exists;
  return TRUE;
}

static gboolean
disk_remove (gpointer self, GsCall *call, const GsRepo *repo, GError **error)
{
  Disk *disk = self;
  if (disk->busy)
    return gs_fail (error, GS_ERROR_BUSY, "a write is under way");
  disk->exists = FALSE;
  disk->n_removed++;
  return TRUE;
}

static gboolean
disk_list_refs (gpointer self, GsCall *call, const GsRepo *repo, const GsRefQuery *query, GsRefVisit visit, gpointer user,
                GError **error)
{
  return TRUE;
}

static gboolean
disk_pending (gpointer self, GsCall *call, GsPendingVisit visit, gpointer user, GError **error)
{
  return TRUE;
}

static gboolean
disk_export (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *haves, gsize n_haves, GsStream *stream,
             GError **error)
{
  /* A copy: who has read it from the pipe may be writing to the disk while this call still returns. */
  const guint64 generation = ((Disk *) self)->generation;
  int fd = stream->open_output (stream, error);
  gboolean sent = fd >= 0 && write (fd, &generation, sizeof generation) == sizeof generation;
  if (fd >= 0)
    close (fd);
  return sent;
}

static gboolean
disk_import (gpointer self, GsCall *call, const GsRepo *repo, guint32 flags, GsStream *stream, GsReplicaState *ret_state,
             GError **error)
{
  Disk *disk = self;
  void (*hook) (World *) = disk->on_import;
  guint64 generation;
  int fd = stream->open_input (stream, error);
  gboolean came = fd >= 0 && read (fd, &generation, sizeof generation) == sizeof generation;
  if (fd >= 0)
    close (fd);
  if (!came)
    return FALSE;
  disk->exists = TRUE;
  disk->generation = generation;
  disk->n_imports++;
  *ret_state = (GsReplicaState) { .size = sizeof *ret_state, .repository_id = repo->id, .generation = generation,
                                  .refs_digest = digest_at (generation), .format = GS_FORMAT_SHA1 };
  disk->on_import = NULL;
  if (hook != NULL)
    hook (disk->world);
  return TRUE;
}

static gboolean
disk_probe (gpointer self, GError **error)
{
  return !((Disk *) self)->away || gs_fail (error, GS_ERROR_UNAVAILABLE, "it is away");
}

static const GsStorageOps disk_ops = { .state = disk_state, .exists = disk_exists, .remove = disk_remove, .pending = disk_pending,
                                       .list_refs = disk_list_refs, .export_replica = disk_export,
                                       .import_replica = disk_import, .probe = disk_probe };

/* ---------------------------------------------------------------------------------------------- world */

/* A write that this disk alone takes. */
static gboolean
decide_on (World *world, Disk *disk, GError **error)
{
  const char *voters[] = { disk->name, NULL };
  GsDecideRequest request = { .size = sizeof request, .repository_id = world->id, .voters = voters, .caller = "test" };
  guint64 generation;
  GsiRow *row = NULL;
  gboolean decided;
  assert_true (world->ops->repo_get (world->store, &world->call, world->id, gsi_row_visit, &row, NULL));
  world->host->host.random (&world->host->host, &request.txid, sizeof request.txid);
  world->host->host.random (&world->host->host, &request.call_id, sizeof request.call_id);
  request.expected_generation = row->generation;
  request.refs_digest = digest_at (row->generation + 1);
  decided = world->ops->decide (world->store, &world->call, &request, &generation, error);
  if (decided)
    disk->generation = generation;
  gsi_row_free (row);
  return decided;
}

static void
write_on_one (World *world)
{
  assert_true (decide_on (world, &world->disks[0], NULL));
}

static GsiRow *
row_of (World *world)
{
  GsiRow *row = NULL;
  if (!world->ops->repo_get (world->store, &world->call, world->id, gsi_row_visit, &row, NULL))
    return NULL;
  return row;
}

/* Where it is recorded, as "one:3 two:0". *full*. */
static char *
places (World *world)
{
  g_autoptr (GsiRow) row = row_of (world);
  GString *text = g_string_new (NULL);
  for (gsize i = 0; row != NULL && i < row->n_replicas; i++)
    g_string_append_printf (text, "%s%s:%u", i > 0 ? " " : "", row->replicas[i].storage, (guint) row->replicas[i].generation);
  return g_string_free (text, FALSE);
}

#define assert_places(world_, text_)                                                                                   \
  do                                                                                                                   \
    {                                                                                                                  \
      g_autofree char *found_ = places (world_);                                                                       \
      assert_string_equal (found_, (text_));                                                                           \
    }                                                                                                                  \
  while (0)

typedef struct
{
  const char *kind, *target;
  guint n;
} Sought;

static gboolean
count_job (const GsJobRow *job, gpointer user)
{
  Sought *sought = user;
  sought->n += strcmp (job->kind, sought->kind) == 0 && strcmp (job->target, sought->target) == 0;
  return TRUE;
}

static guint
queued (World *world, const char *kind, const char *target)
{
  const GsJobFilter filter = { .size = sizeof filter, .states = 1u << GS_JOB_QUEUED };
  Sought sought = { kind, target, 0 };
  assert_true (world->ops->job_list (world->store, &world->call, &filter, 0, 100, count_job, &sought, NULL));
  return sought.n;
}

static gboolean
is_held (const GsLeaseRow *lease, gpointer user)
{
  *(gboolean *) user = *(gboolean *) user || lease->left_us > 0;
  return TRUE;
}

static gboolean
held (World *world)
{
  gboolean any = FALSE;
  assert_true (world->ops->lease_list (world->store, &world->call, is_held, &any, NULL));
  return any;
}

static void
make_repository (World *world, guint n_writes)
{
  const GsReplicaRow one = { .size = sizeof one, .storage = "one" };
  const GsReplicaRow *const replicas[] = { &one };
  GsRepoRow row = { .size = sizeof row, .virtual_storage = "default", .path = "p.git", .format = GS_FORMAT_SHA1,
                    .replicas = replicas, .n_replicas = 1, .refs_digest = digest_at (0) };
  g_autofree char *path = NULL;
  GsTxId call_id;
  assert_true (world->ops->repo_reserve (world->store, &world->call, "default", "p.git", &world->id, NULL));
  world->host->host.random (&world->host->host, &call_id, sizeof call_id);
  row.id = world->id;
  row.replica_path = path = gsi_router_replica_path (world->id);
  assert_true (world->ops->repo_record (world->store, &world->call, &row, &call_id, NULL));
  world->disks[0].exists = TRUE;
  for (guint i = 0; i < n_writes; i++)
    write_on_one (world);
}

static int
setup (void **state)
{
  static const char *const names[] = { "one", "two", "three" };
  const GsPlugin *memory = gs_plugin_query ();
  World *world = g_new0 (World, 1);
  GsiRouterConfig config = { 0 };
  guint pending;
  world->host = fake_host_new ("core");
  world->options = fake_config_new (memory, NULL);
  world->store = memory->create (&world->host->host, fake_config_get (world->options), NULL);
  world->ops = memory->ops;
  assert_true (memory->start == NULL || memory->start (world->store, NULL));
  for (int i = 0; i < 3; i++)
    {
      world->disks[i] = (Disk) { .world = world, .name = names[i] };
      world->storages[i] = (GsiStorage) { .name = names[i], .ops = &disk_ops, .self = &world->disks[i], .zone = "", .weight = 1 };
      world->list[i] = &world->storages[i];
    }
  world->group = (GsiStorageGroup) { .name = "default", .storages = world->list, .n_storages = 3, .n_copies = 1, .min_copies = 1 };
  world->groups[0] = &world->group;
  config.host = &world->host->host;
  config.metadata = world->ops;
  config.metadata_self = world->store;
  config.storages = world->list;
  config.n_storages = 3;
  config.virtual_storages = world->groups;
  config.n_virtual_storages = 1;
  world->router = gsi_router_new (&config);
  /* A lease that is longer than this machine may stand still. */
  world->repairer = gsi_repairer_new (&(GsiRepairerConfig) { .host = &world->host->host, .lease_us = 15 * G_USEC_PER_SEC });
  gsi_own_call_init (&world->call, &world->identity, "test");
  assert_true (world->ops->migrate (world->store, &world->call, FALSE, &pending, NULL));
  *state = world;
  return 0;
}

static int
teardown (void **state)
{
  World *world = *state;
  const GsPlugin *memory = gs_plugin_query ();
  gsi_repairer_free (world->repairer);
  gsi_router_free (world->router);
  if (memory->stop != NULL)
    memory->stop (world->store);
  memory->destroy (world->store);
  fake_config_free (world->options);
  fake_host_free (world->host);
  g_free (world);
  return 0;
}

/* One attempt; @ret_hopeless may be NULL. */
static gboolean
attempt (World *world, gboolean (*run) (GsiJob *, GError **), const char *source, const char *target, gboolean *ret_hopeless,
         GError **error)
{
  GsiJob job = { .repairer = world->repairer,
                 .router = world->router,
                 .config = gsi_router_config (world->router),
                 .repository_id = world->id,
                 .kind = (char *) "move",
                 .source = (char *) source,
                 .target = (char *) target,
                 .reason = (char *) "a test",
                 .attempts = 1,
                 .stop_fd = -1 };
  gboolean done;
  gsi_own_call_init (&job.call, &job.identity, "test");
  done = run (&job, error);
  if (ret_hopeless != NULL)
    *ret_hopeless = job.hopeless;
  return done;
}

/* As a job does it: again, when the machine stood still for longer than writers are held up for a move. */
static gboolean
succeeds (World *world, gboolean (*run) (GsiJob *, GError **), const char *source, const char *target)
{
  gboolean done = FALSE, hopeless = FALSE;
  for (guint i = 0; !done && !hopeless && i < 50; i++)
    done = attempt (world, run, source, target, &hopeless, NULL);
  return done;
}

/* ---------------------------------------------------------------------------------------------- tests */

/* While it is copied the new one is recorded as behind, and the old one stays. */
static void
check_during_copy (World *world)
{
  assert_places (world, "one:3 two:0");
}

static void
test_moves (void **state)
{
  World *world = *state;
  make_repository (world, 3);
  world->disks[1].on_import = check_during_copy;
  assert_true (succeeds (world, gsi_job_move, "one", "two"));
  assert_places (world, "two:3");
  assert_int_equal (world->disks[1].n_imports, 1);
  assert_true (world->disks[0].exists); /* until its readers are gone */
  assert_int_equal (queued (world, "remove", "one"), 1);
  assert_false (held (world));

  assert_true (succeeds (world, gsi_job_remove, "two", "one"));
  assert_int_equal (world->disks[0].n_removed, 1);
  assert_places (world, "two:3");
}

static void
test_waits_for_writers (void **state)
{
  World *world = *state;
  g_autoptr (GError) why = NULL;
  gboolean hopeless = TRUE;
  make_repository (world, 3);
  world->disks[0].writers = 1;
  assert_false (attempt (world, gsi_job_move, "one", "two", &hopeless, &why));
  assert_int_equal (gs_error_code (why), GS_ERROR_BUSY);
  assert_false (hopeless);
  assert_false (held (world));
  /* Whatever it has: no write is to count on it. */
  assert_places (world, "one:3 two:2");

  /* That write can be decided, and what the new one lacks is copied. */
  write_on_one (world);
  world->disks[0].writers = 0;
  assert_true (succeeds (world, gsi_job_move, "one", "two"));
  assert_places (world, "two:4");
  assert_int_equal (world->disks[1].n_imports, 2);
}

/* Between the last look and the exchange. */
static void
test_write_at_the_last_moment (void **state)
{
  World *world = *state;
  make_repository (world, 3);
  world->disks[1].on_state = write_on_one;
  assert_true (succeeds (world, gsi_job_move, "one", "two"));
  assert_places (world, "two:4");
  assert_int_equal (world->disks[1].generation, 4);
}

/* From then on the store takes no decision that the old one alone voted for. */
static void
test_late_vote_is_refused (void **state)
{
  World *world = *state;
  g_autoptr (GError) why = NULL;
  make_repository (world, 3);
  assert_true (succeeds (world, gsi_job_move, "one", "two"));
  assert_false (decide_on (world, &world->disks[0], &why));
  assert_int_equal (gs_error_code (why), GS_ERROR_ABORTED);
}

static void
delete_it (World *world)
{
  GsiRow *row = NULL;
  assert_true (world->ops->repo_delete (world->store, &world->call, "default", "p.git", gsi_row_visit, &row, NULL));
  gsi_row_free (row);
}

static void
test_deleted_meanwhile (void **state)
{
  World *world = *state;
  make_repository (world, 3);
  world->disks[1].on_import = delete_it;
  assert_true (succeeds (world, gsi_job_move, "one", "two"));
  assert_false (world->disks[1].exists);
  assert_int_equal (world->disks[1].n_removed, 1);
  assert_false (held (world));
}

static void
test_never_written (void **state)
{
  World *world = *state;
  make_repository (world, 0);
  assert_true (succeeds (world, gsi_job_move, "one", "two"));
  assert_places (world, "two:0");
  assert_true (world->disks[1].exists);
}

static void
check_unrecorded (World *world)
{
  assert_places (world, "one:0"); /* it would count as current at once */
  write_on_one (world);
}

static void
test_first_write_meanwhile (void **state)
{
  World *world = *state;
  make_repository (world, 0);
  world->disks[1].on_import = check_unrecorded;
  assert_true (succeeds (world, gsi_job_move, "one", "two"));
  assert_places (world, "two:1");
  assert_int_equal (world->disks[1].generation, 1);
}

static void
drain (World *world, const char *storage)
{
  GsNodeRow node = { .size = sizeof node, .storage = storage, .instance = 1, .address = "", .zone = "" };
  GsNodeState before;
  memset (&node.disk_id, storage[0], sizeof node.disk_id);
  assert_true (world->ops->node_report (world->store, &world->call, &node, &before, NULL));
  assert_true (world->ops->node_set_state (world->store, &world->call, storage, GS_NODE_DRAINING, NULL));
}

/* Half way: what was made goes again. */
static void
test_target_drained_meanwhile (void **state)
{
  World *world = *state;
  g_autoptr (GError) why = NULL;
  gboolean hopeless = FALSE;
  make_repository (world, 3);
  world->disks[0].writers = 1;
  assert_false (attempt (world, gsi_job_move, "one", "two", NULL, NULL));
  drain (world, "two");
  assert_false (attempt (world, gsi_job_move, "one", "two", &hopeless, &why));
  assert_true (hopeless);
  assert_non_null (strstr (why->message, "is being drained"));
  assert_int_equal (queued (world, "remove", "two"), 1);
  assert_true (succeeds (world, gsi_job_remove, "", "two"));
  assert_places (world, "one:3");
  assert_int_equal (world->disks[1].n_removed, 1);
}

/* Who took it before died between the exchange and its end. */
static void
test_taken_over_after_the_exchange (void **state)
{
  World *world = *state;
  make_repository (world, 3);
  assert_true (world->ops->replica_set (world->store, &world->call, world->id, "two", 3, FALSE, NULL));
  assert_true (world->ops->replica_drop (world->store, &world->call, world->id, "one", FALSE, NULL));
  assert_true (succeeds (world, gsi_job_move, "one", "two"));
  assert_places (world, "two:3");
  assert_int_equal (world->disks[1].n_imports, 0);
  assert_int_equal (queued (world, "remove", "one"), 1);
}

/* … or in the middle of the exchange. */
static void
test_taken_over_in_the_exchange (void **state)
{
  World *world = *state;
  make_repository (world, 3);
  world->disks[1].exists = TRUE;
  world->disks[1].generation = 3;
  assert_true (world->ops->replica_set (world->store, &world->call, world->id, "two", 3, FALSE, NULL));
  assert_true (succeeds (world, gsi_job_move, "one", "two"));
  assert_places (world, "two:3");
  assert_int_equal (world->disks[1].n_imports, 0);
}

/* The record says that the new one is current; its disk lost it. */
static void
test_old_one_stays_when_the_new_one_is_not_there (void **state)
{
  World *world = *state;
  g_autoptr (GError) why = NULL;
  make_repository (world, 3);
  assert_true (world->ops->replica_set (world->store, &world->call, world->id, "two", 3, FALSE, NULL));
  assert_false (attempt (world, gsi_job_move, "one", "two", NULL, &why));
  assert_places (world, "one:3 two:3");
  assert_false (held (world));
}

static void
test_nothing_to_move (void **state)
{
  World *world = *state;
  g_autoptr (GError) why = NULL;
  gboolean hopeless = FALSE;
  make_repository (world, 3);
  assert_false (attempt (world, gsi_job_move, "three", "two", &hopeless, &why));
  assert_true (hopeless);
  assert_places (world, "one:3");
}

static void
test_removal_of_what_is_left (void **state)
{
  World *world = *state;
  g_autoptr (GError) why = NULL;
  make_repository (world, 3);
  world->disks[2].exists = TRUE;
  world->disks[2].busy = TRUE;
  assert_false (attempt (world, gsi_job_remove, "two", "three", NULL, &why));
  assert_int_equal (gs_error_code (why), GS_ERROR_BUSY);
  world->disks[2].busy = FALSE;
  /* Not what a move is to use. */
  assert_true (gsi_move_ask (world->router, &world->call, world->id, "one", "three", "a test", 0, NULL, NULL));
  assert_true (succeeds (world, gsi_job_remove, "two", "three"));
  assert_true (world->disks[2].exists);
  /* Nor what is in use. */
  assert_true (succeeds (world, gsi_job_remove, "two", "one"));
  assert_true (world->disks[0].exists);
  assert_places (world, "one:3");
}

static void
refused (World *world, const char *from, const char *to, GsErrorCode code)
{
  g_autoptr (GsiRow) row = row_of (world);
  g_autoptr (GError) why = NULL;
  assert_true (gsi_router_look_at_nodes (world->router, NULL));
  assert_false (gsi_move_check (world->router, row, from, to, &why));
  assert_int_equal (gs_error_code (why), code);
}

static void
test_what_makes_no_sense (void **state)
{
  World *world = *state;
  g_autoptr (GsiRow) row = NULL;
  make_repository (world, 3);
  row = row_of (world);
  assert_true (gsi_move_check (world->router, row, "one", "two", NULL));
  refused (world, "one", "one", GS_ERROR_INVALID_ARGUMENT);
  refused (world, "one", "four", GS_ERROR_NOT_FOUND);
  refused (world, "two", "three", GS_ERROR_NOT_FOUND);
  world->disks[1].away = TRUE;
  refused (world, "one", "two", GS_ERROR_UNAVAILABLE);
  drain (world, "three");
  refused (world, "one", "three", GS_ERROR_FAILED_PRECONDITION);
  world->disks[1].away = FALSE;
  assert_true (world->ops->replica_set (world->store, &world->call, world->id, "two", 0, FALSE, NULL));
  refused (world, "one", "two", GS_ERROR_ALREADY_EXISTS);
  assert_true (world->ops->replica_set (world->store, &world->call, world->id, "one", 0, TRUE, NULL));
  assert_true (world->ops->node_set_state (world->store, &world->call, "three", GS_NODE_ACTIVE, NULL));
  refused (world, "one", "three", GS_ERROR_FAILED_PRECONDITION);
}

/* More than there should be: who is behind is not counted. Otherwise everybody is. */
static void
test_who_counts (void **state)
{
  World *world = *state;
  GsiRowReplica replicas[3] = { { .storage = (char *) "one", .generation = 5 }, { .storage = (char *) "two", .generation = 0 },
                                { .storage = (char *) "three", .generation = 5 } };
  GsiRow row = { .id = 1, .virtual_storage = (char *) "default", .generation = 5, .replicas = replicas, .n_replicas = 3, .copies = 2 };
  assert_true (gsi_router_counts (world->router, &row, 0));
  assert_false (gsi_router_counts (world->router, &row, 1));
  assert_true (gsi_router_counts (world->router, &row, 2));
  row.copies = 3;
  assert_true (gsi_router_counts (world->router, &row, 1));
  row.copies = 2;
  replicas[2].generation = 4; /* one of the two is needed */
  assert_false (gsi_router_counts (world->router, &row, 1));
  assert_true (gsi_router_counts (world->router, &row, 2));
  replicas[1].generation = replicas[2].generation = 5;
  assert_true (gsi_router_counts (world->router, &row, 1));
}

#define TEST(name_) cmocka_unit_test_setup_teardown (name_, setup, teardown)

int
main (void)
{
  const struct CMUnitTest tests[] = { TEST (test_moves),
                                      TEST (test_waits_for_writers),
                                      TEST (test_write_at_the_last_moment),
                                      TEST (test_late_vote_is_refused),
                                      TEST (test_deleted_meanwhile),
                                      TEST (test_never_written),
                                      TEST (test_first_write_meanwhile),
                                      TEST (test_target_drained_meanwhile),
                                      TEST (test_taken_over_after_the_exchange),
                                      TEST (test_taken_over_in_the_exchange),
                                      TEST (test_old_one_stays_when_the_new_one_is_not_there),
                                      TEST (test_nothing_to_move),
                                      TEST (test_removal_of_what_is_left),
                                      TEST (test_what_makes_no_sense),
                                      TEST (test_who_counts) };
  return cmocka_run_group_tests_name ("moves", tests, NULL, NULL);
}
