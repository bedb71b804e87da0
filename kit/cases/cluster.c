/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind METADATA: policies, nodes, jobs and leases. */
#include "metadata.h"

#include <poll.h>

#define LONG_US (60 * (gint64) G_USEC_PER_SEC)
#define SHORT_US (20 * 1000)
#define PATIENCE_US (10 * (gint64) G_USEC_PER_SEC) /* for what has to happen when a short lease is over */

/* A name that no other run uses. *full*. */
static char *
own_name (Conformance *c, const char *name)
{
  return g_strdup_printf ("%s-%s", name, c->tag);
}

/* ----------------------------------------------------------------------------- policies and replicas */

static gboolean
get_repo (Conformance *c, guint64 id, Seen *seen, GError **error)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  return ops->repo_get (c->self, &call, id, see_row, seen, error);
}

void
policies (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "policy"), *long_name = g_strnfill (1000, 'x');
  g_auto (Seen) seen = { 0 };
  guint64 id = make_repo (c, path);
  if (id == 0)
    return;
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen.copies == 0 && strcmp (seen.consistency, "") == 0, "at first the virtual storage's", "%u copies, “%s”",
         seen.copies, seen.consistency);
  CHECK_OK (c, ops->repo_set_policy (c->self, &call, id, 3, "quorum", &error));
  if (conformance_keeps (c))
    CHECK_OK (c, conformance_restart (c, &error));
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen.copies == 3 && strcmp (seen.consistency, "quorum") == 0, "3 copies by quorum", "%u copies, “%s”",
         seen.copies, seen.consistency);
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, ops->repo_set_policy (c->self, &call, id, 100000, "", &error));
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, ops->repo_set_policy (c->self, &call, id, 1, long_name, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->repo_set_policy (c->self, &call, id + 1000000, 1, "", &error));
  CHECK_OK (c, ops->repo_set_policy (c->self, &call, id, 0, NULL, &error));
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen.copies == 0 && strcmp (seen.consistency, "") == 0 && seen.generation == 0, "the policy taken back",
         "%u copies, “%s”", seen.copies, seen.consistency);
}

typedef struct
{
  guint64 ids[64];
  guint n, stop_after;
} Listed;

static gboolean
list_row (const GsRepoRow *row, gpointer user)
{
  Listed *listed = user;
  listed->ids[listed->n++] = row->id;
  return listed->n < G_N_ELEMENTS (listed->ids) && listed->n != listed->stop_after;
}

void
listing_by_id (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *storage = own_name (c, "gamma");
  guint64 ids[5];
  Listed listed = { .n = 0 };
  for (guint i = 0; i < G_N_ELEMENTS (ids); i++)
    {
      g_autofree char *name = g_strdup_printf ("by-id-%u", 9 - i), *path = conformance_path (c, name);
      ids[i] = make_repo (c, path);
      if (ids[i] == 0)
        return;
      if (i != 2)
        CHECK_OK (c, ops->replica_set (c->self, &call, ids[i], storage, 0, FALSE, &error));
    }
  CHECK_OK (c, ops->repo_list_all (c->self, &call, ids[0] - 1, 5, list_row, &listed, &error));
  CHECK (c, listed.n == 5 && memcmp (listed.ids, ids, sizeof ids) == 0, "five repositories in order of id",
         "%u, first %" G_GUINT64_FORMAT, listed.n, listed.ids[0]);
  listed.n = 0;
  CHECK_OK (c, ops->repo_list_all (c->self, &call, ids[1], 2, list_row, &listed, &error));
  CHECK (c, listed.n == 2 && listed.ids[0] == ids[2] && listed.ids[1] == ids[3], "two after the second", "%u",
         listed.n);
  listed.n = 0;
  CHECK_OK (c, ops->repo_list_on (c->self, &call, storage, 0, 100, list_row, &listed, &error));
  CHECK (c, listed.n == 4 && listed.ids[1] == ids[1] && listed.ids[2] == ids[3], "the four with a replica there", "%u",
         listed.n);
  listed.n = 0;
  CHECK_OK (c, ops->repo_list_on (c->self, &call, storage, ids[1], 1, list_row, &listed, &error));
  CHECK (c, listed.n == 1 && listed.ids[0] == ids[3], "one after the second", "%u", listed.n);
  listed.n = 0;
  listed.stop_after = 2;
  CHECK_OK (c, ops->repo_list_on (c->self, &call, storage, 0, 100, list_row, &listed, &error));
  CHECK (c, listed.n == 2, "no more than the visitor wants", "%u", listed.n);
}

void
dropping (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "dropping");
  g_auto (Seen) seen = { 0 };
  guint64 id = make_repo (c, path), generation;
  if (id == 0)
    return;
  CHECK_OK (c, decide_simple (c, id, 0, "alpha", NULL, &generation, &error)); /* beta is behind now */
  CHECK_CODE (c, GS_ERROR_FAILED_PRECONDITION, ops->replica_drop (c->self, &call, id, "alpha", FALSE, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->replica_drop (c->self, &call, id, "gamma", FALSE, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->replica_drop (c->self, &call, id + 1000000, "alpha", FALSE, &error));
  CHECK_OK (c, ops->replica_drop (c->self, &call, id, "beta", FALSE, &error));
  CHECK_CODE (c, GS_ERROR_FAILED_PRECONDITION, ops->replica_drop (c->self, &call, id, "alpha", FALSE, &error));
  CHECK_OK (c, ops->replica_set (c->self, &call, id, "gamma", 1, FALSE, &error));
  CHECK_OK (c, ops->replica_drop (c->self, &call, id, "alpha", FALSE, &error)); /* moved */
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen.n_replicas == 1 && seen_replica (&seen, "gamma") == 1, "gamma alone", "%" G_GSIZE_FORMAT " replicas",
         seen.n_replicas);
  CHECK_OK (c, ops->replica_drop (c->self, &call, id, "gamma", TRUE, &error));
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen.n_replicas == 0, "none", "%" G_GSIZE_FORMAT " replicas", seen.n_replicas);
}

void
verifying (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "verifying");
  g_auto (Seen) seen = { 0 };
  guint64 id = make_repo (c, path);
  if (id == 0)
    return;
  CHECK_OK (c, ops->replica_verified (c->self, &call, id, "beta", FALSE, &error));
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c,
         seen.replicas[1].verified_wall_us > 0 && seen.replicas[1].scrubbed_wall_us == 0
             && seen.replicas[0].verified_wall_us == 0 && seen.replicas[1].generation == 0,
         "beta verified, not scrubbed", "verified %" G_GINT64_FORMAT ", scrubbed %" G_GINT64_FORMAT,
         seen.replicas[1].verified_wall_us, seen.replicas[1].scrubbed_wall_us);
  CHECK_OK (c, ops->replica_verified (c->self, &call, id, "beta", TRUE, &error));
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen.replicas[1].scrubbed_wall_us > 0, "beta scrubbed", "never");
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->replica_verified (c->self, &call, id, "gamma", FALSE, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->replica_verified (c->self, &call, id + 1000000, "beta", FALSE, &error));
}

void
latecomers (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "latecomers");
  g_auto (Seen) seen = { 0 };
  guint64 id = make_repo (c, path), generation = 0;
  if (id == 0)
    return;
  CHECK_OK (c, decide_simple (c, id, 0, "alpha", NULL, &generation, &error));
  /* It was staged before it missed the first. */
  CHECK_CODE (c, GS_ERROR_ABORTED, decide_simple (c, id, 1, "beta", NULL, &generation, &error));
  CHECK_OK (c, decide_given_up (c, id, 1, "beta", &generation, &error));
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, generation == 2 && seen_replica (&seen, "beta") == 0, "beta behind: it lacks generation 1",
         "beta at %" G_GUINT64_FORMAT, seen_replica (&seen, "beta"));
  CHECK (c, seen_replica (&seen, "alpha") == 1, "alpha at 1", "at %" G_GUINT64_FORMAT, seen_replica (&seen, "alpha"));
  CHECK_OK (c, ops->replica_set (c->self, &call, id, "beta", 2, FALSE, &error)); /* repaired */
  CHECK_OK (c, decide_simple (c, id, 2, "beta", NULL, &generation, &error));
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen_replica (&seen, "beta") == 3, "beta current again", "at %" G_GUINT64_FORMAT,
         seen_replica (&seen, "beta"));
}

/* -------------------------------------------------------------------------------------------- nodes */

typedef struct
{
  const char *storage;
  guint n, n_all;
  GsNodeState state;
  char address[64], zone[64];
  guint64 instance, free_bytes;
  gint64 age_us, seen_wall_us;
} SeenNode;

static gboolean
see_node (const GsNodeRow *row, gpointer user)
{
  SeenNode *seen = user;
  seen->n_all++;
  if (strcmp (row->storage, seen->storage) != 0)
    return TRUE;
  seen->n++;
  seen->state = row->state;
  g_strlcpy (seen->address, row->address, sizeof seen->address);
  g_strlcpy (seen->zone, row->zone, sizeof seen->zone);
  seen->instance = row->instance;
  seen->free_bytes = row->free_bytes;
  seen->age_us = row->age_us;
  seen->seen_wall_us = row->seen_wall_us;
  return TRUE;
}

static GsNodeRow
node_row (Conformance *c, const char *storage)
{
  return (GsNodeRow){ .size = sizeof (GsNodeRow),
                      .storage = storage,
                      .disk_id = conformance_txid (c),
                      .instance = 0xfedcba9876543210u,
                      .address = "tcp://127.0.0.1:1",
                      .zone = "north/r1",
                      .free_bytes = 1000,
                      .total_bytes = 2000 };
}

void
nodes_report (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *name = own_name (c, "node");
  GsNodeRow row = node_row (c, name);
  SeenNode seen = { .storage = name };
  GsNodeState state = 0;
  CHECK_OK (c, ops->node_report (c->self, &call, &row, &state, &error));
  CHECK (c, state == GS_NODE_ACTIVE, "active at first", "%d", state);
  if (conformance_keeps (c))
    CHECK_OK (c, conformance_restart (c, &error));
  CHECK_OK (c, ops->node_list (c->self, &call, see_node, &seen, &error));
  CHECK (c,
         seen.n == 1 && strcmp (seen.address, row.address) == 0 && strcmp (seen.zone, row.zone) == 0
             && seen.instance == row.instance && seen.free_bytes == 1000 && seen.seen_wall_us > 0,
         "the node as it reported", "%u times, %s, %s", seen.n, seen.address, seen.zone);
  CHECK (c, seen.age_us >= 0 && seen.age_us < LONG_US, "seen just now", "%" G_GINT64_FORMAT " us ago", seen.age_us);
  CHECK_OK (c, ops->node_set_state (c->self, &call, name, GS_NODE_DRAINING, &error));
  row.free_bytes = 500;
  CHECK_OK (c, ops->node_report (c->self, &call, &row, &state, &error));
  CHECK (c, state == GS_NODE_DRAINING, "draining, whatever it reports", "%d", state);
  seen.n = 0;
  CHECK_OK (c, ops->node_list (c->self, &call, see_node, &seen, &error));
  CHECK (c, seen.n == 1 && seen.state == GS_NODE_DRAINING && seen.free_bytes == 500, "draining, with the new report",
         "state %d, %" G_GUINT64_FORMAT " bytes free", seen.state, seen.free_bytes);
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->node_set_state (c->self, &call, "nobody", GS_NODE_ACTIVE, &error));
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, ops->node_set_state (c->self, &call, name, (GsNodeState) 9, &error));
  row.storage = "";
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, ops->node_report (c->self, &call, &row, &state, &error));
}

/* The report is refused, the message has @says in it, and what was recorded stays. */
static void
refused_report (Conformance *c, const GsNodeRow *row, const char *says)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsNodeState state = 77;
  g_autoptr (GError) why = NULL;
  CHECK (c, !ops->node_report (c->self, &call, row, &state, &why), "the report refused", "it was taken");
  CHECK (c, gs_error_code (why) == GS_ERROR_FAILED_PRECONDITION && strstr (why->message, says) != NULL,
         "FAILED_PRECONDITION saying why", "%s", why->message);
}

void
nodes_refused (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *name = own_name (c, "one"), *other = own_name (c, "two"), *path = conformance_path (c, "held");
  GsNodeRow row = node_row (c, name), twin = node_row (c, name), copied = row;
  SeenNode seen = { .storage = name };
  GsNodeState state = 0;
  guint64 id = make_repo (c, path);
  if (id == 0)
    return;
  CHECK_OK (c, ops->node_report (c->self, &call, &row, &state, &error));
  refused_report (c, &twin, "another disk");
  copied.storage = other;
  refused_report (c, &copied, name);
  row.instance = 2; /* started again */
  CHECK_OK (c, ops->node_report (c->self, &call, &row, &state, &error));
  row.instance = 0xfedcba9876543210u; /* and the one before it is still there */
  refused_report (c, &row, "started later");
  CHECK_OK (c, ops->node_list (c->self, &call, see_node, &seen, &error));
  CHECK (c, seen.n == 1 && seen.instance == 2, "the newest process", "%" G_GUINT64_FORMAT, seen.instance);
  CHECK_CODE (c, GS_ERROR_FAILED_PRECONDITION, ops->node_forget (c->self, &call, name, &error));
  CHECK_OK (c, ops->node_set_state (c->self, &call, name, GS_NODE_REMOVED, &error));
  row.instance = 2;
  refused_report (c, &row, "removed");
  CHECK_OK (c, ops->replica_set (c->self, &call, id, name, 0, FALSE, &error));
  CHECK_CODE (c, GS_ERROR_FAILED_PRECONDITION, ops->node_forget (c->self, &call, name, &error));
  CHECK_OK (c, ops->replica_drop (c->self, &call, id, name, FALSE, &error));
  CHECK_OK (c, ops->node_forget (c->self, &call, name, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->node_forget (c->self, &call, name, &error));
  CHECK_OK (c, ops->node_report (c->self, &call, &twin, &state, &error)); /* the name with a new disk */
  CHECK (c, state == GS_NODE_ACTIVE, "a new node", "%d", state);
}

/* ------------------------------------------------------------------------------------------- leases */

static gboolean
take_lease (Conformance *c, const char *name, const char *owner, gint64 lease_us, guint64 *ret_token, GError **error)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  return ops->lease_take (c->self, &call, name, owner, lease_us, ret_token, error);
}

/* Until the short lease that another has is over. */
static gboolean
take_lease_after (Conformance *c, const char *name, const char *owner, guint64 *ret_token)
{
  gint64 end_us = g_get_monotonic_time () + PATIENCE_US;
  do
    {
      g_autoptr (GError) error = NULL;
      if (take_lease (c, name, owner, LONG_US, ret_token, &error))
        return TRUE;
      poll (NULL, 0, 1);
    }
  while (g_get_monotonic_time () < end_us);
  conformance_fail (c, "the lease free when its time is over", "it was not");
  return FALSE;
}

typedef struct
{
  const char *name;
  guint n;
  char owner[64];
  guint64 token;
  gint64 left_us;
} SeenLease;

static gboolean
see_lease (const GsLeaseRow *row, gpointer user)
{
  SeenLease *seen = user;
  if (strcmp (row->name, seen->name) != 0)
    return TRUE;
  seen->n++;
  g_strlcpy (seen->owner, row->owner, sizeof seen->owner);
  seen->token = row->token;
  seen->left_us = row->left_us;
  return TRUE;
}

void
leases (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *name = own_name (c, "lease");
  SeenLease seen = { .name = name };
  guint64 first = 0, again = 0, second = 0, third = 0;
  g_autoptr (GError) why = NULL;
  CHECK_OK (c, take_lease (c, name, "a", LONG_US, &first, &error));
  CHECK (c,
         !take_lease (c, name, "b", LONG_US, &second, &why) && gs_error_code (why) == GS_ERROR_ABORTED
             && strstr (why->message, "“a”") != NULL,
         "ABORTED naming the holder", "%s", why != NULL ? why->message : "it was taken");
  CHECK_OK (c, take_lease (c, name, "a", LONG_US, &again, &error));
  CHECK (c, first > 0 && again > first, "a greater token", "%" G_GUINT64_FORMAT " after %" G_GUINT64_FORMAT, again,
         first);
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->lease_renew (c->self, &call, name, first, LONG_US, &error));
  CHECK_OK (c, ops->lease_release (c->self, &call, name, first, &error)); /* not the last: nothing happens */
  CHECK_CODE (c, GS_ERROR_ABORTED, take_lease (c, name, "b", LONG_US, &second, &error));
  if (conformance_keeps (c))
    CHECK_OK (c, conformance_restart (c, &error));
  CHECK_OK (c, ops->lease_renew (c->self, &call, name, again, LONG_US, &error));
  CHECK_OK (c, ops->lease_list (c->self, &call, see_lease, &seen, &error));
  CHECK (c, seen.n == 1 && seen.token == again && strcmp (seen.owner, "a") == 0 && seen.left_us > LONG_US / 2,
         "the lease of a", "of %s, %" G_GINT64_FORMAT " us left", seen.owner, seen.left_us);
  CHECK_OK (c, ops->lease_release (c->self, &call, name, again, &error));
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->lease_renew (c->self, &call, name, again, LONG_US, &error));
  CHECK_OK (c, take_lease (c, name, "b", SHORT_US, &second, &error));
  if (!take_lease_after (c, name, "c", &third))
    return;
  CHECK (c, second > again && third > second, "tokens that rise", "%" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT, second,
         third);
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->lease_renew (c->self, &call, name, second, LONG_US, &error));
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, take_lease (c, "", "a", LONG_US, &first, &error));
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, take_lease (c, name, "a", 0, &first, &error));
}

typedef struct
{
  char *name;
  guint64 tokens[8];
} Race;

static void
lease_body (Conformance *c, guint index, gpointer user)
{
  Race *race = user;
  g_autofree char *owner = g_strdup_printf ("owner-%u", index);
  g_autoptr (GError) error = NULL;
  guint64 token;
  if (take_lease (c, race->name, owner, LONG_US, &token, &error))
    race->tokens[index] = token;
  else
    CHECK (c, gs_error_code (error) == GS_ERROR_ABORTED, "ABORTED", "%s", error->message);
}

void
lease_race (Conformance *c)
{
  Race race = { own_name (c, "race"), { 0 } };
  guint n = 0;
  conformance_parallel (c, G_N_ELEMENTS (race.tokens), lease_body, &race);
  for (guint i = 0; i < G_N_ELEMENTS (race.tokens); i++)
    n += race.tokens[i] != 0;
  g_free (race.name);
  CHECK (c, c->skipped != NULL || n == 1, "one holder", "%u", n);
}

/* --------------------------------------------------------------------------------------------- hints */

static void
hint_body (Conformance *c, guint index, gpointer user)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  guint64 *ids = user, seen = 0;
  if (index == 0)
    {
      /* The other thread adds its job only when this one has looked, so what it waits for is yet to come. */
      GsJobFilter filter = { sizeof filter, 0, ids[0], NULL, NULL };
      gint64 end_us = g_get_monotonic_time () + PATIENCE_US;
      CHECK_OK (c, ops->wait_hint (c->self, &call, 0, LONG_US, &seen, &error));
      g_atomic_pointer_set (&ids[1], 1);
      for (guint64 n = 0; n == 0;)
        {
          CHECK (c, g_get_monotonic_time () < end_us, "woken by a job", "nobody woke it");
          CHECK_OK (c, ops->wait_hint (c->self, &call, seen, 2 * PATIENCE_US, &seen, &error));
          CHECK_OK (c, ops->job_list (c->self, &call, &filter, 0, 10, count_job, &n, &error));
        }
    }
  else
    {
      g_autofree char *kind = own_name (c, "awaited");
      GsJobRow job = { .size = sizeof job, .kind = kind, .repository_id = ids[0] };
      guint64 id;
      gint64 end_us = g_get_monotonic_time () + PATIENCE_US;
      while (g_atomic_pointer_get (&ids[1]) == 0 && g_get_monotonic_time () < end_us)
        poll (NULL, 0, 1);
      CHECK_OK (c, ops->job_add (c->self, &call, &job, &id, &error));
    }
}

void
hints (Conformance *c)
{
  const GsMetadataOps *ops = c->ops, *real = c->real_ops;
  GsCall call = conformance_call (c, 0), late = conformance_call (c, SHORT_US);
  g_autofree char *path = conformance_path (c, "hints");
  gint64 end_us = g_get_monotonic_time () + PATIENCE_US;
  guint64 ids[2] = { 0, 0 }, seen = 0, again;
  if (real->wait_hint == NULL)
    {
      conformance_skip (c, "the plugin has no wait_hint");
      return;
    }
  CHECK_OK (c, ops->wait_hint (c->self, &call, 0, LONG_US, &seen, &error)); /* at once */
  again = seen;
  CHECK_OK (c, ops->wait_hint (c->self, &call, seen, 1000, &again, &error));
  CHECK (c, again != 0, "a number to go on with", "0");
  for (gboolean over = FALSE; !over;) /* something else may wake it; the end of the call's time ends it */
    {
      g_autoptr (GError) why = NULL;
      over = !ops->wait_hint (c->self, &late, again, LONG_US, &again, &why);
      CHECK (c, g_get_monotonic_time () < end_us, "an end with the call's time", "it waits on");
      CHECK (c, !over || gs_error_code (why) == GS_ERROR_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "%s", why->message);
    }
  ids[0] = make_repo (c, path);
  if (ids[0] != 0)
    conformance_parallel (c, 2, hint_body, ids);
}
