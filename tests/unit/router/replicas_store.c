/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata store of one repository. See replicas.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "replicas.h"
#include "replicas_store.h"

#include <string.h>

static int
disk_number (Cluster *cluster, const char *name)
{
  for (int i = 0; i < N_DISKS; i++)
    if (strcmp (cluster->disks[i].name, name) == 0)
      return i;
  return -1;
}

static gboolean
show_row (Cluster *cluster, GsRepoRowVisit visit, gpointer user)
{
  GsReplicaRow replicas[N_DISKS];
  const GsReplicaRow *pointers[N_DISKS];
  GsRepoRow row = { .size = sizeof row, .id = REPO_ID, .virtual_storage = "default", .path = "a.git",
                    .replica_path = "@r/a", .format = GS_FORMAT_SHA1, .replicas = pointers };
  gs_mutex_lock (&cluster->lock);
  row.generation = cluster->generation;
  row.refs_digest = cluster->digest;
  cluster->n_rows++;
  row.consistency = cluster->policy;
  for (guint i = 0; cluster->repaired_at == 1 && i < cluster->n_replicas; i++)
    cluster->replica_generations[i] = cluster->generation;
  if (cluster->repaired_at > 0)
    cluster->repaired_at--;
  for (guint i = 0; i < cluster->n_replicas; i++)
    {
      replicas[i] = (GsReplicaRow) { sizeof replicas[i], cluster->disks[i].name, cluster->replica_generations[i], 0, 0 };
      if ((cluster->gone & 1u << i) == 0)
        pointers[row.n_replicas++] = &replicas[i];
    }
  if (cluster->old_rows > 0)
    {
      cluster->old_rows--;
      row.generation--;
    }
  gs_mutex_unlock (&cluster->lock);
  visit (&row, user);
  return TRUE;
}

static gboolean
meta_find (gpointer self, GsCall *call, const char *vs, const char *path, GsRepoRowVisit visit, gpointer user,
           GError **error)
{
  Cluster *cluster = self;
  if (cluster->rows_away)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "the store is away");
  return show_row (self, visit, user);
}

static gboolean
meta_get (gpointer self, GsCall *call, guint64 id, GsRepoRowVisit visit, gpointer user, GError **error)
{
  return show_row (self, visit, user);
}

static Decision *
decision_of (Cluster *cluster, const GsTxId *txid)
{
  for (guint i = 0; i < cluster->decisions->len; i++)
    {
      Decision *one = cluster->decisions->pdata[i];
      if (memcmp (&one->txid, txid, sizeof *txid) == 0)
        return one;
    }
  return NULL;
}

void
decision_free (gpointer data)
{
  g_strfreev (((Decision *) data)->voters);
  g_free (data);
}

/* Replicas change their places just now. Under the lock. */
static void
swap_places (Cluster *cluster)
{
  cluster->gone ^= cluster->swap;
  cluster->swap = 0;
  cluster->generation += cluster->swap_writes;
  for (guint i = 0; i < N_DISKS; i++)
    if ((cluster->gone & 1u << i) == 0)
      cluster->replica_generations[i] = cluster->disks[i].generation += cluster->swap_writes;
  cluster->swap_writes = 0;
}

static gboolean
meta_decide (gpointer self, GsCall *call, const GsDecideRequest *request, guint64 *ret_generation, GError **error)
{
  Cluster *cluster = self;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&cluster->lock);
  Decision *decision = decision_of (cluster, &request->txid);
  if (cluster->silent && !cluster->silent_takes)
    return gs_fail (error, GS_ERROR_UNKNOWN, "no answer");
  if (decision != NULL)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "there is an abort mark");
  if (cluster->swap != 0)
    swap_places (cluster);
  if (cluster->policy_at_decision != NULL)
    cluster->policy = cluster->policy_at_decision;
  if (request->expected_generation != cluster->generation)
    return gs_fail (error, GS_ERROR_ABORTED, "moved on");
  for (guint i = 0; request->voters[i] != NULL; i++)
    if ((cluster->gone & 1u << disk_number (cluster, request->voters[i])) != 0)
      return gs_fail (error, GS_ERROR_ABORTED, "%s holds no replica", request->voters[i]);
  for (guint i = 0; i < N_DISKS; i++)
    if ((cluster->lower_at_decision >> i & 1) != 0)
      cluster->replica_generations[i] = 0; /* somebody found it damaged in this moment */
  cluster->lower_at_decision = 0;
  for (guint i = 0; request->voters[i] != NULL; i++)
    if (cluster->replica_generations[disk_number (cluster, request->voters[i])] != request->expected_generation)
      return gs_fail (error, GS_ERROR_ABORTED, "a voter is not in use");
  decision = g_new0 (Decision, 1);
  decision->txid = request->txid;
  decision->call_id = request->call_id;
  decision->generation = ++cluster->generation;
  decision->digest = cluster->digest = request->refs_digest;
  decision->voters = g_strdupv ((char **) request->voters);
  for (guint i = 0; request->voters[i] != NULL; i++)
    cluster->replica_generations[disk_number (cluster, request->voters[i])] = cluster->generation;
  g_ptr_array_add (cluster->decisions, decision);
  if (cluster->silent)
    return gs_fail (error, GS_ERROR_UNKNOWN, "no answer");
  *ret_generation = decision->generation;
  return TRUE;
}

static gboolean
meta_tx_abort (gpointer self, GsCall *call, guint64 id, const GsTxId *txid, GsTxState *ret_state, GError **error)
{
  Cluster *cluster = self;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&cluster->lock);
  Decision *decision = decision_of (cluster, txid);
  cluster->n_asked++;
  gs_cond_broadcast (&cluster->changed);
  if (cluster->silent)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "no answer");
  if (decision == NULL)
    {
      decision = g_new0 (Decision, 1);
      decision->txid = *txid;
      decision->aborted = TRUE;
      g_ptr_array_add (cluster->decisions, decision);
    }
  *ret_state = decision->aborted ? GS_TX_ABORTED : GS_TX_DECIDED;
  return TRUE;
}

static gboolean
meta_tx_find (gpointer self, GsCall *call, guint64 id, const GsTxId *txid, GsTxState *ret_state, GsChangeVisit visit,
              gpointer user, GError **error)
{
  Cluster *cluster = self;
  GsChange change = { .size = sizeof change };
  Decision *decision;
  gs_mutex_lock (&cluster->lock);
  decision = decision_of (cluster, txid);
  if (decision != NULL)
    {
      change.generation = decision->generation;
      change.refs_digest = decision->digest;
      change.voters = (const char *const *) decision->voters;
    }
  gs_mutex_unlock (&cluster->lock);
  *ret_state = decision == NULL ? GS_TX_UNKNOWN : decision->aborted ? GS_TX_ABORTED : GS_TX_DECIDED;
  if (*ret_state == GS_TX_DECIDED)
    visit (&change, user);
  return TRUE;
}

static gboolean
meta_change_by_call (gpointer self, GsCall *call, guint64 id, const GsTxId *call_id, GsChangeVisit visit,
                     gpointer user, GError **error)
{
  return TRUE;
}

static gboolean
meta_change_list (gpointer self, GsCall *call, guint64 id, guint64 after, gsize limit, GsChangeVisit visit, gpointer user,
                  GError **error)
{
  Cluster *cluster = self;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&cluster->lock);
  for (guint i = 0; i < cluster->decisions->len && limit > 0; i++)
    {
      const Decision *one = cluster->decisions->pdata[i];
      const GsChange change = { .size = sizeof change, .repository_id = id, .generation = one->generation,
                                .txid = one->txid, .refs_digest = one->digest,
                                .voters = (const char *const *) one->voters };
      if (one->aborted || one->generation <= after)
        continue;
      limit--;
      if (!visit (&change, user))
        break;
    }
  return TRUE;
}

static gboolean
meta_replica_set (gpointer self, GsCall *call, guint64 id, const char *storage, guint64 generation, gboolean force,
                  GError **error)
{
  Cluster *cluster = self;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&cluster->lock);
  guint64 *recorded = &cluster->replica_generations[disk_number (cluster, storage)];
  *recorded = force ? MIN (*recorded, generation) : MAX (*recorded, generation);
  cluster->gone &= ~(1u << disk_number (cluster, storage));
  return TRUE;
}

static gboolean
meta_job_add (gpointer self, GsCall *call, const GsJobRow *job, guint64 *ret_id, GError **error)
{
  Cluster *cluster = self;
  int disk = disk_number (cluster, job->target);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&cluster->lock);
  assert_string_equal (job->kind, "repair");
  cluster->jobs |= disk >= 0 ? 1u << disk : 0;
  *ret_id = 1;
  return TRUE;
}

static gboolean
meta_created_by (gpointer self, GsCall *call, const GsTxId *call_id, guint64 *ret_id, GError **error)
{
  *ret_id = 0;
  return TRUE;
}

static gboolean
meta_reserve (gpointer self, GsCall *call, const char *vs, const char *path, guint64 *ret_id, GError **error)
{
  *ret_id = REPO_ID;
  return TRUE;
}

static gboolean
meta_record (gpointer self, GsCall *call, const GsRepoRow *row, const GsTxId *call_id, GError **error)
{
  Cluster *cluster = self;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&cluster->lock);
  cluster->copies = row->copies;
  cluster->n_recorded = (guint) row->n_replicas;
  return TRUE;
}

const GsMetadataOps replicas_metadata
    = { .repo_find = meta_find,         .repo_get = meta_get,           .decide = meta_decide,
        .tx_abort = meta_tx_abort,      .tx_find = meta_tx_find,        .change_by_call = meta_change_by_call,
        .change_list = meta_change_list,
        .replica_set = meta_replica_set, .job_add = meta_job_add,       .repo_created_by = meta_created_by,
        .repo_reserve = meta_reserve,   .repo_record = meta_record };
