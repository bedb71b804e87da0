/* SPDX-License-Identifier: Apache-2.0 */
/* When a replica is taken for damaged, and when it stays in use all the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "fakehost.h"
#include "router/repair.h"
#include "router/settle.h"

#define ID 7
#define NOW 5

/* A metadata store with one repository at generation 5, and the two disks that it is on. */
typedef struct
{
  guint64 recorded[2];
  gboolean both_at_once; /* whoever takes "one" out of use finds "two" out of use after it */
  guint n_jobs;
  guint64 on_disk;       /* of "one" */
  gboolean staged, away; /* a decided write waits there; the disk cannot be reached */
} World;

static gboolean
store_get (gpointer self, GsCall *call, guint64 id, GsRepoRowVisit visit, gpointer user, GError **error)
{
  const World *world = self;
  const GsReplicaRow one = { .size = sizeof one, .storage = "one", .generation = world->recorded[0] },
                     two = { .size = sizeof two, .storage = "two", .generation = world->recorded[1] };
  const GsReplicaRow *const replicas[] = { &one, &two };
  const GsRepoRow row = { .size = sizeof row, .id = ID, .generation = NOW, .virtual_storage = "default", .path = "p",
                          .replica_path = "p.git", .replicas = replicas, .n_replicas = 2 };
  visit (&row, user);
  return TRUE;
}

static gboolean
store_set (gpointer self, GsCall *call, guint64 id, const char *storage, guint64 generation, gboolean force,
           GError **error)
{
  World *world = self;
  guint64 *recorded = &world->recorded[strcmp (storage, "two") == 0];
  *recorded = force ? MIN (*recorded, generation) : MAX (*recorded, generation);
  if (force && world->both_at_once)
    world->recorded[1] = 0;
  return TRUE;
}

static gboolean
store_job (gpointer self, GsCall *call, const GsJobRow *job, guint64 *ret_id, GError **error)
{
  World *world = self;
  assert_string_equal (job->kind, GSI_JOB_REPAIR);
  assert_string_equal (job->target, "one");
  *ret_id = ++world->n_jobs;
  return TRUE;
}

static gboolean
disk_state (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  const World *world = self;
  if (world->away)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "storage 'one' is not served: it is the disk of another");
  ret_state->repository_id = ID;
  ret_state->generation = world->on_disk;
  return TRUE;
}

/* What is staged comes to its end when somebody asks for it. */
static gboolean
disk_pending (gpointer self, GsCall *call, GsPendingVisit visit, gpointer user, GError **error)
{
  World *world = self;
  if (world->staged)
    world->on_disk = NOW;
  return TRUE;
}

static gboolean
disk_probe (gpointer self, GError **error)
{
  return !((World *) self)->away;
}

static const GsMetadataOps store_ops = { .repo_get = store_get, .replica_set = store_set, .job_add = store_job };
static const GsStorageOps disk_ops = { .state = disk_state, .pending = disk_pending, .probe = disk_probe };

typedef struct
{
  FakeHost *host;
  GsiStorage storage;
  const GsiStorage *storages[1];
  GsiRouter *router;
  GsCall call;
  GsIdentity identity;
} Setting;

static void
begin (Setting *setting, World *world)
{
  *setting = (Setting) { .host = fake_host_new ("core"), .storage = { "one", &disk_ops, world } };
  setting->storages[0] = &setting->storage;
  const GsiRouterConfig config = { .storages = setting->storages, .n_storages = 1, .host = &setting->host->host,
                                   .metadata = &store_ops, .metadata_self = world };
  setting->router = gsi_router_new (&config);
  gsi_own_call_init (&setting->call, &setting->identity, "test");
}

static void
end (Setting *setting)
{
  gsi_router_free (setting->router);
  fake_host_free (setting->host);
}

static void
test_out_of_use (void **state)
{
  World world = { { NOW, NOW } };
  Setting setting;
  begin (&setting, &world);
  assert_true (gsi_quarantine_replica (setting.router, &setting.call, ID, "one", "a bit", NULL));
  assert_int_equal (world.recorded[0], 0);
  assert_int_equal (world.n_jobs, 1);
  end (&setting);
}

/* The last one that is current stays in use, also when the other one goes at the same moment. */
static void
test_last_one (void **state)
{
  for (guint i = 0; i < 2; i++)
    {
      World world = { { NOW, i == 0 ? NOW - 1 : NOW }, .both_at_once = i == 1 };
      g_autoptr (GError) why = NULL;
      Setting setting;
      begin (&setting, &world);
      assert_false (gsi_quarantine_replica (setting.router, &setting.call, ID, "one", "a bit", &why));
      assert_int_equal (gs_error_code (why), GS_ERROR_DATA_LOSS);
      assert_int_equal (world.recorded[0], NOW);
      assert_int_equal (world.n_jobs, 0);
      end (&setting);
    }
}

/* Behind its record: damage, unless the write waits there to be applied. */
static void
test_staged_is_no_damage (void **state)
{
  for (guint staged = 0; staged < 2; staged++)
    {
      World world = { { NOW, NOW }, .on_disk = NOW - 1, .staged = staged };
      g_autofree char *damage = NULL;
      Setting setting;
      begin (&setting, &world);
      assert_true (gsi_verify_replica (setting.router, &setting.call, ID, &setting.storage, &damage, NULL));
      assert_int_equal (damage == NULL, staged);
      end (&setting);
    }
}

/* A node that is not served says nothing about its replicas. */
static void
test_away_is_no_damage (void **state)
{
  World world = { { NOW, NOW }, .away = TRUE };
  g_autoptr (GError) why = NULL;
  char *damage = NULL;
  Setting setting;
  begin (&setting, &world);
  assert_false (gsi_verify_replica (setting.router, &setting.call, ID, &setting.storage, &damage, &why));
  assert_int_equal (gs_error_code (why), GS_ERROR_UNAVAILABLE);
  assert_null (damage);
  end (&setting);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (test_out_of_use), cmocka_unit_test (test_last_one),
                                      cmocka_unit_test (test_staged_is_no_damage),
                                      cmocka_unit_test (test_away_is_no_damage) };
  return cmocka_run_group_tests_name ("verification", tests, NULL, NULL);
}
