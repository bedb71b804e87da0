/* SPDX-License-Identifier: Apache-2.0 */
/* How a repository is judged: by its record, by who answers, and by what the consistency plugin would say to a write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fakehost.h"
#include "router/cluster.h"
#include "router/nodes.h"

/* A storage that is there, or not. */
typedef struct
{
  gboolean away;
} Node;

static gboolean
node_probe (gpointer self, GError **error)
{
  return !((Node *) self)->away || gs_fail (error, GS_ERROR_UNAVAILABLE, "it was switched off");
}

static const GsStorageOps node_ops = { .probe = node_probe };

/* A policy that wants so many votes, and waits for its timer when it has fewer. */
typedef struct
{
  gsize n_needed, n_stage, n_staged;
  gboolean decided;
} Policy;

static gpointer
policy_new (gpointer self, const GsTxnSetup *setup, GError **error)
{
  Policy *policy = self;
  if (setup->n_participants == 0)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "nobody could take a write");
      return NULL;
    }
  policy->n_stage = policy->n_staged = 0;
  policy->decided = FALSE;
  for (gsize i = 0; i < setup->n_participants; i++)
    policy->n_stage += setup->participants[i]->current && setup->participants[i]->healthy;
  return policy;
}

static void
policy_step (gpointer self, gpointer txn, const GsEvent *event, GsActions *out)
{
  Policy *policy = txn;
  if (event->type == GS_EVENT_BEGIN)
    {
      for (gsize i = 0; i < policy->n_stage; i++)
        out->add (out, &(GsAction){ .type = GS_ACTION_STAGE, .participant = i });
      out->add (out, &(GsAction){ .type = GS_ACTION_TIMER, .delay_us = 1 });
    }
  if (event->type == GS_EVENT_STAGED && ++policy->n_staged >= policy->n_needed && !policy->decided)
    {
      policy->decided = TRUE;
      out->add (out, &(GsAction){ .type = GS_ACTION_DECIDE });
    }
  if (event->type == GS_EVENT_TIMER && !policy->decided)
    out->add (out, &(GsAction){ .type = GS_ACTION_FAIL, .code = GS_ERROR_UNAVAILABLE, .reason = "too few voted" });
}

static void
policy_free (gpointer self, gpointer txn)
{
}

static const GsConsistencyOps policy_ops = { policy_new, policy_step, policy_free };

typedef struct
{
  Node nodes[3];
  GsiStorage storages[3];
  const GsiStorage *list[3];
  Policy strict, loose;
  GsiPolicy policies[2];
  GsiStorageGroup group;
  const GsiStorageGroup *groups[1];
  FakeHost *host;
  GsiRouter *router;
  GsiRowReplica replicas[3];
  GsiRow row;
} Fixture;

static int
setup (void **state)
{
  static char names[3][8] = { "one", "two", "three" };
  Fixture *fixture = g_new0 (Fixture, 1);
  GsiRouterConfig config = { 0 };
  for (int i = 0; i < 3; i++)
    {
      fixture->storages[i] = (GsiStorage){ names[i], &node_ops, &fixture->nodes[i], "", 1, NULL };
      fixture->list[i] = &fixture->storages[i];
      fixture->replicas[i] = (GsiRowReplica){ names[i], 7, 0, 0 };
    }
  fixture->strict.n_needed = 2;
  fixture->loose.n_needed = 1;
  fixture->policies[0] = (GsiPolicy){ "strict", &policy_ops, &fixture->strict };
  fixture->policies[1] = (GsiPolicy){ "loose", &policy_ops, &fixture->loose };
  fixture->group = (GsiStorageGroup){ .name = "default", .storages = fixture->list, .n_storages = 3,
                                      .consistency = &policy_ops, .consistency_self = &fixture->strict, .n_copies = 3,
                                      .min_copies = 1 };
  fixture->groups[0] = &fixture->group;
  fixture->host = fake_host_new ("core");
  config.host = &fixture->host->host;
  config.storages = fixture->list;
  config.n_storages = 3;
  config.virtual_storages = fixture->groups;
  config.n_virtual_storages = 1;
  config.policies = fixture->policies;
  config.n_policies = 2;
  fixture->router = gsi_router_new (&config);
  fixture->row = (GsiRow){ .id = 1, .virtual_storage = (char *) "default", .path = (char *) "a.git", .generation = 7,
                           .replicas = fixture->replicas, .n_replicas = 3, .consistency = (char *) "" };
  *state = fixture;
  return 0;
}

static int
teardown (void **state)
{
  Fixture *fixture = *state;
  gsi_router_free (fixture->router);
  fake_host_free (fixture->host);
  g_free (fixture);
  return 0;
}

static Gitstead__V1__ClusterHealth
judge (Fixture *fixture, GsiVerdict *verdict)
{
  gsi_verdict_clear (verdict);
  gsi_cluster_judge (fixture->router, &fixture->group, &fixture->row, verdict);
  return verdict->health;
}

static void
test_from_well_to_lost (void **state)
{
  Fixture *fixture = *state;
  g_auto (GsiVerdict) verdict = { 0 };
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_HEALTHY);
  assert_true (verdict.writable);
  assert_int_equal (verdict.n_current_up, 3);

  fixture->replicas[0].generation = 5;
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_DEGRADED);
  assert_true (verdict.writable);

  fixture->nodes[1].away = TRUE;
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_READ_ONLY);
  assert_string_equal (verdict.why_not, "too few voted");
  assert_int_equal (verdict.n_current, 2);

  fixture->nodes[2].away = TRUE;
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_UNAVAILABLE);
  assert_int_equal (verdict.best, 7);
  assert_int_equal (verdict.best_up, 5);

  fixture->row.generation = 8;
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_LOST);
  assert_int_equal (verdict.n_current, 0);

  /* Who is further than the record is current all the same. */
  fixture->replicas[0].generation = 9;
  fixture->nodes[1].away = fixture->nodes[2].away = FALSE;
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_READ_ONLY);
}

static void
test_wanted_copies (void **state)
{
  Fixture *fixture = *state;
  g_auto (GsiVerdict) verdict = { 0 };
  fixture->row.n_replicas = 2;
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_DEGRADED);
  assert_int_equal (verdict.n_wanted, 3);
  fixture->row.copies = 2;
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_HEALTHY);
  /* One that has a replica left over works no worse. */
  fixture->row.n_replicas = 3;
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_HEALTHY);
  fixture->row.n_replicas = 0;
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_LOST);
  assert_string_equal (verdict.why_not, "nobody could take a write");
}

static void
test_own_policy (void **state)
{
  Fixture *fixture = *state;
  g_auto (GsiVerdict) verdict = { 0 };
  fixture->nodes[0].away = fixture->nodes[1].away = TRUE;
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_READ_ONLY);
  fixture->row.consistency = (char *) "loose";
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_DEGRADED);
  fixture->row.consistency = (char *) "unknown";
  assert_int_equal (judge (fixture, &verdict), GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_READ_ONLY);
  assert_non_null (strstr (verdict.why_not, "'unknown'"));
  assert_ptr_equal (gsi_router_policy (fixture->router, &fixture->group, ""), &fixture->group);
  assert_ptr_equal (gsi_router_policy (fixture->router, &fixture->group, "loose")->consistency_self, &fixture->loose);
  assert_null (gsi_router_policy (fixture->router, &fixture->group, "unknown"));
  /* A virtual storage with a policy of its own is the same virtual storage. */
  assert_non_null (gsi_router_policy (fixture->router, gsi_router_policy (fixture->router, &fixture->group, "loose"), "strict"));
}

static void
test_unconfigured (void **state)
{
  Fixture *fixture = *state;
  g_auto (GsiVerdict) verdict = { 0 };
  g_autofree char *why = NULL;
  gsi_cluster_judge (fixture->router, NULL, &fixture->row, &verdict);
  assert_false (verdict.writable);
  assert_non_null (strstr (verdict.why_not, "no virtual storage 'default'"));
  assert_false (gsi_cluster_up (fixture->router, "four", &why));
  assert_non_null (strstr (why, "'four'"));
  g_clear_pointer (&why, g_free);
  fixture->nodes[0].away = TRUE;
  assert_false (gsi_cluster_up (fixture->router, "one", &why));
  assert_string_equal (why, "it was switched off");
}

/* -------------------------------------------------------------------------------------------- nodes */

/* What the store says, by the router's metadata slots. */
typedef struct
{
  GsNodeRow rows[2];
  gsize n;
  gboolean away;
} Store;

static gboolean
store_list (gpointer self, GsCall *call, GsNodeRowVisit visit, gpointer user, GError **error)
{
  Store *store = self;
  if (store->away)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "the store is away");
  for (gsize i = 0; i < store->n; i++)
    visit (&store->rows[i], user);
  return TRUE;
}

static void
test_nodes (void **state)
{
  Fixture *fixture = *state;
  const GsMetadataOps ops = { .node_list = store_list };
  Store store = { .rows = { { .storage = "one", .state = GS_NODE_DRAINING, .address = "tcp://a", .free_bytes = 10,
                              .total_bytes = 30 },
                            { .storage = "gone", .state = GS_NODE_REMOVED, .address = "" } },
                  .n = 2 };
  GsiRouterConfig config = *gsi_router_config (fixture->router);
  GsiRouter *router;
  GsNodeView view;
  g_autoptr (GPtrArray) all = NULL;
  g_autoptr (GError) error = NULL;
  config.metadata = &ops;
  config.metadata_self = &store;
  router = gsi_router_new_after (&config, fixture->router);
  assert_true (gsi_router_look_at_nodes (router, &error));
  view = gsi_router_node_view (router, &fixture->storages[0]);
  assert_true (view.draining);
  assert_int_equal (view.weight, 0);
  assert_int_equal (view.free_bytes, 10);
  assert_int_equal (view.used_bytes, 20);
  assert_false (gsi_router_node_view (router, &fixture->storages[1]).draining);
  assert_int_equal (gsi_router_node_view (router, &fixture->storages[1]).weight, 1);
  assert_int_equal (gsi_nodes_state (gsi_router_nodes (router), "gone"), GS_NODE_REMOVED);
  /* The router before it shares what is known, and a store that is away takes nothing from it. */
  store.away = TRUE;
  fixture->nodes[2].away = TRUE;
  assert_false (gsi_router_look_at_nodes (router, &error));
  assert_int_equal (gsi_nodes_state (gsi_router_nodes (fixture->router), "one"), GS_NODE_DRAINING);
  all = gsi_nodes_all (gsi_router_nodes (router));
  assert_int_equal (all->len, 4);
  assert_string_equal (((GsiNodeInfo *) all->pdata[0])->storage, "gone");
  assert_false (((GsiNodeInfo *) all->pdata[2])->up);
  assert_true (((GsiNodeInfo *) all->pdata[2])->since_wall_us > 0);
  /* A removed one gets nothing, whatever its weight; one that was forgotten is as if it had never reported. */
  store.away = FALSE;
  store.n = 1;
  store.rows[0].state = GS_NODE_REMOVED;
  assert_true (gsi_router_look_at_nodes (router, NULL));
  assert_int_equal (gsi_router_node_view (router, &fixture->storages[0]).weight, 0);
  assert_int_equal (gsi_nodes_state (gsi_router_nodes (router), "gone"), GS_NODE_ACTIVE);
  gsi_router_free (router);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_from_well_to_lost, setup, teardown),
    cmocka_unit_test_setup_teardown (test_wanted_copies, setup, teardown),
    cmocka_unit_test_setup_teardown (test_own_policy, setup, teardown),
    cmocka_unit_test_setup_teardown (test_unconfigured, setup, teardown),
    cmocka_unit_test_setup_teardown (test_nodes, setup, teardown),
  };
  return cmocka_run_group_tests_name ("cluster", tests, NULL, NULL);
}
