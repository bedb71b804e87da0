/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A storage that counts its calls without any lock, as it may: TURNS_THREADS and TURNS_NAME come from the build. measure
 * tells how many calls there were (n_packs) and how many met another one (n_refs), of the repository or of all.
 */
#include "../fake.h"

#include <sched.h>

#define N_KEYS 16

typedef struct
{
  guint inside, met, calls;
} Count;

typedef struct
{
  Count counts[N_KEYS];
} Turns;

static Count *
enter (gpointer data, guint64 repository_id)
{
  Turns *self = data;
  Count *count = &self->counts[TURNS_THREADS == GS_THREADS_SERIAL ? 0 : repository_id % N_KEYS];
  count->calls++;
  if (count->inside++ > 0)
    count->met++;
  sched_yield ();
  return count;
}

static void
leave (Count *count)
{
  sched_yield ();
  count->inside--;
}

static gboolean
turns_list (gpointer self, GsCall *call, GsRepoVisit visit, gpointer user, GError **error)
{
  const GsRepo repo = { .size = sizeof repo };
  if (TURNS_THREADS == GS_THREADS_SERIAL)
    leave (enter (self, 0));
  visit (&repo, user);
  return TRUE;
}

static gboolean
turns_measure (gpointer self, GsCall *call, const GsRepo *repo, GsRepoSize *ret_size, GError **error)
{
  const Count *count = enter (self, repo->id);
  ret_size->n_packs = count->calls;
  ret_size->n_refs = count->met;
  leave ((Count *) count);
  return TRUE;
}

static gboolean
turns_state (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  leave (enter (self, repo->id));
  ret_state->repository_id = repo->id;
  return TRUE;
}

static gboolean
turns_list_refs (gpointer self, GsCall *call, const GsRepo *repo, const GsRefQuery *query, GsRefVisit visit,
                 gpointer user, GError **error)
{
  Count *count = enter (self, repo->id);
  visit (NULL, user);
  leave (count);
  return TRUE;
}

static gboolean
turns_stage (gpointer self, GsCall *call, const GsRepo *repo, const GsChangeSet *change, gpointer *ret_txn,
             const GsVote **ret_vote, GError **error)
{
  leave (enter (self, repo->id));
  *ret_txn = g_memdup2 (&repo->id, sizeof repo->id);
  *ret_vote = NULL;
  return TRUE;
}

static gboolean
turns_commit (gpointer self, GsCall *call, gpointer txn, const GsDecision *decision, GError **error)
{
  g_autofree guint64 *repository_id = txn;
  leave (enter (self, *repository_id));
  return TRUE;
}

static void
turns_abort (gpointer self, GsCall *call, gpointer txn, const GError *why)
{
  g_autofree guint64 *repository_id = txn;
  leave (enter (self, *repository_id));
}

static gboolean
turns_compute (gpointer self, GsCall *call, const GsRepo *repo, const GsQuery *query, GsComputed **ret_computed,
               GError **error)
{
  GsComputed *computed = g_new0 (GsComputed, 1);
  leave (enter (self, repo->id));
  computed->priv = g_memdup2 (&repo->id, sizeof repo->id);
  *ret_computed = computed;
  return TRUE;
}

static void
turns_computed_free (gpointer self, GsComputed *computed)
{
  leave (enter (self, *(guint64 *) computed->priv));
  g_free (computed->priv);
  g_free (computed);
}

static gboolean
turns_stream_object (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *oid, GsStream *stream, GError **error)
{
  leave (enter (self, repo->id));
  return TRUE;
}

static gpointer
turns_create (const GsHost *host, const GsConfig *config, GError **error)
{
  return g_new0 (Turns, 1);
}

static const GsStorageOps ops = {
#define NONE(slot_) .slot_ = (gpointer) fake_slot
  NONE (create),
  NONE (remove),
  NONE (exists),
  .list = turns_list,
  .measure = turns_measure,
  .state = turns_state,
  .list_refs = turns_list_refs,
  NONE (find_ref),
  .stage = turns_stage,
  .commit = turns_commit,
  .abort = turns_abort,
  NONE (pending),
  NONE (resolve),
  NONE (maintain),
  .stream_object = turns_stream_object,
  .compute = turns_compute,
  .computed_free = turns_computed_free,
};

GS_PLUGIN_DEFINE (GsStorageOps, .kind = GS_KIND_STORAGE, .threads = TURNS_THREADS, .name = TURNS_NAME, .version = "1",
                  .summary = "For tests.", .license = "Apache-2.0", .ops = &ops, .create = turns_create,
                  .destroy = fake_destroy)
