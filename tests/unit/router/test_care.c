/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked to be looked at when a node comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "fakehost.h"
#include "router/care.h"
#include "router/repair.h"
#include "router/settle.h"

#define REPOSITORIES 450 /* more than two pages */
#define BEHIND 3         /* every so many-th replica */

/* A metadata store, and what is queued in it. */
typedef struct
{
  guint asked[REPOSITORIES + 1]; /* how often, by the repository's id */
  guint64 refuse, gone;          /* one whose job is not taken: now, or never */
  guint64 fails;                 /* one whose job the store fails at, whenever it is asked */
  guint64 unread;                /* no page that begins after this one is read; 0 = all are */
} World;

static guint64
generation_of (guint64 id)
{
  return id % BEHIND == 0 ? 1 : 2;
}

static gboolean
store_list_on (gpointer self, GsCall *call, const char *storage, guint64 after, gsize limit, GsRepoRowVisit visit,
               gpointer user, GError **error)
{
  const World *world = self;
  assert_string_equal (storage, "one");
  if (world->unread != 0 && after >= world->unread)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "the store does not answer");
  for (guint64 id = after + 1; id <= REPOSITORIES && limit > 0; id++, limit--)
    {
      /* Verified just now, by a clock that is ahead. */
      const GsReplicaRow one = { .size = sizeof one, .storage = "one", .generation = generation_of (id),
                                 .verified_wall_us = G_MAXINT64 },
                         two = { .size = sizeof two, .storage = "two", .generation = 2 };
      const GsReplicaRow *const replicas[] = { &one, &two };
      const GsRepoRow row = { .size = sizeof row, .id = id, .generation = 2, .virtual_storage = "default", .path = "p",
                              .replica_path = "p.git", .replicas = replicas, .n_replicas = 2 };
      if (!visit (&row, user))
        break;
    }
  return TRUE;
}

static gboolean
store_job (gpointer self, GsCall *call, const GsJobRow *job, guint64 *ret_id, GError **error)
{
  World *world = self;
  assert_string_equal (job->kind, generation_of (job->repository_id) < 2 ? GSI_JOB_REPAIR : GSI_JOB_VERIFY);
  assert_string_equal (job->target, "one");
  if (job->repository_id == world->gone)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no such repository");
  if (job->repository_id == world->refuse)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "the store does not answer");
  if (job->repository_id == world->fails)
    return gs_fail (error, GS_ERROR_INTERNAL, "the store has a fault");
  world->asked[job->repository_id]++;
  *ret_id = job->repository_id;
  return TRUE;
}

static const GsMetadataOps store_ops = { .repo_list_on = store_list_on, .job_add = store_job };

typedef struct
{
  World world;
  FakeHost *host;
  GsiRouter *router;
  GsCall call;
  GsIdentity identity;
} Setting;

static int
begin (void **state)
{
  Setting *setting = g_new0 (Setting, 1);
  setting->host = fake_host_new ("core");
  const GsiRouterConfig config
      = { .host = &setting->host->host, .metadata = &store_ops, .metadata_self = &setting->world };
  setting->router = gsi_router_new (&config);
  gsi_own_call_init (&setting->call, &setting->identity, "test");
  *state = setting;
  return 0;
}

static int
end (void **state)
{
  Setting *setting = *state;
  gsi_router_free (setting->router);
  fake_host_free (setting->host);
  g_free (setting);
  return 0;
}

static gboolean
came_back (Setting *setting, guint64 *after)
{
  return gsi_care_came_back (setting->router, &setting->call, "one", after);
}

/* Each of them, whenever it was verified last: its disk may be another one since. */
static void
test_all_of_it (void **state)
{
  Setting *setting = *state;
  guint64 after = 0;
  assert_true (came_back (setting, &after));
  assert_int_equal (after, REPOSITORIES);
  for (guint id = 1; id <= REPOSITORIES; id++)
    assert_int_equal (setting->world.asked[id], 1);
}

/* What the store did not take is asked later, what it took is not asked twice. */
static void
test_the_store_goes_away (void **state)
{
  Setting *setting = *state;
  guint64 after = 0;
  setting->world.refuse = 17;
  assert_false (came_back (setting, &after));
  assert_int_equal (after, 16);
  setting->world.refuse = 0;
  setting->world.unread = 200;
  assert_false (came_back (setting, &after));
  assert_in_range (after, 200, REPOSITORIES - 1);
  assert_false (came_back (setting, &after));
  setting->world.unread = 0;
  assert_true (came_back (setting, &after));
  for (guint id = 1; id <= REPOSITORIES; id++)
    assert_int_equal (setting->world.asked[id], 1);
}

/* A repository that is gone does not keep the others from being looked at. */
static void
test_one_is_gone (void **state)
{
  Setting *setting = *state;
  guint64 after = 0;
  setting->world.gone = 17;
  assert_true (came_back (setting, &after));
  for (guint id = 1; id <= REPOSITORIES; id++)
    assert_int_equal (setting->world.asked[id], id != 17);
}

/* Nor does one at which the store fails each time, and that is said: nobody looks at it now. */
static void
test_one_fails (void **state)
{
  Setting *setting = *state;
  guint64 after = 0;
  setting->world.fails = 17;
  assert_true (came_back (setting, &after));
  for (guint id = 1; id <= REPOSITORIES; id++)
    assert_int_equal (setting->world.asked[id], id != 17);
  assert_true (fake_host_logged (setting->host, "repair.ask.failed"));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_all_of_it, begin, end),
    cmocka_unit_test_setup_teardown (test_the_store_goes_away, begin, end),
    cmocka_unit_test_setup_teardown (test_one_is_gone, begin, end),
    cmocka_unit_test_setup_teardown (test_one_fails, begin, end),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
