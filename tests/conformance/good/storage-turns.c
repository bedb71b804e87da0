/* SPDX-License-Identifier: Apache-2.0 */
/* Takes one call at a time, of all (SERIAL) or of each repository, and ends the process when it gets two: turns are the
 * host's. */
#include "../bad/bad.h"

BAD_GOOD (GsStorageOps);

static GsMutex lock = GS_MUTEX_INIT;
static GHashTable *under_way;

static guint64
key_of (const GsRepo *repo)
{
  return TURNS == GS_THREADS_SERIAL ? 1 : repo->id;
}

static void
enter (guint64 key)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&lock);
  if (under_way == NULL)
    under_way = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  if (!g_hash_table_add (under_way, g_memdup2 (&key, sizeof key)))
    g_error ("two calls at once");
}

static void
leave (guint64 key)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&lock);
  g_hash_table_remove (under_way, &key);
}

static gboolean
turn_state (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  gboolean ok;
  enter (key_of (repo));
  sched_yield ();
  ok = good_ops.state (self, call, repo, ret_state, error);
  leave (key_of (repo));
  return ok;
}

static gboolean
turn_list_refs (gpointer self, GsCall *call, const GsRepo *repo, const GsRefQuery *query, GsRefVisit visit,
                gpointer user, GError **error)
{
  gboolean ok;
  enter (key_of (repo));
  ok = good_ops.list_refs (self, call, repo, query, visit, user, error);
  leave (key_of (repo));
  return ok;
}

static gboolean
turn_stage (gpointer self, GsCall *call, const GsRepo *repo, const GsChangeSet *change, gpointer *ret_txn,
            const GsVote **ret_vote, GError **error)
{
  gboolean ok;
  enter (key_of (repo));
  sched_yield ();
  ok = good_ops.stage (self, call, repo, change, ret_txn, ret_vote, error);
  leave (key_of (repo));
  return ok;
}

static gboolean
turn_stage_push (gpointer self, GsCall *call, const GsRepo *repo, const GsPush *push, GsStream *stream,
                 gpointer *ret_txn, const GsVote **ret_vote, GError **error)
{
  gboolean ok;
  enter (key_of (repo));
  ok = good_ops.stage_push (self, call, repo, push, stream, ret_txn, ret_vote, error);
  leave (key_of (repo));
  return ok;
}

static gboolean
turn_advertise (gpointer self, GsCall *call, const GsRepo *repo, guint32 service, const char *protocol,
                GBytes **ret_bytes, GError **error)
{
  gboolean ok;
  enter (key_of (repo));
  ok = good_ops.advertise (self, call, repo, service, protocol, ret_bytes, error);
  leave (key_of (repo));
  return ok;
}

static gboolean
turn_upload_pack (gpointer self, GsCall *call, const GsRepo *repo, const char *protocol, gboolean stateless,
                  GsStream *stream, GError **error)
{
  gboolean ok;
  enter (key_of (repo));
  ok = good_ops.upload_pack (self, call, repo, protocol, stateless, stream, error);
  leave (key_of (repo));
  return ok;
}

/* What the good one lacks is still lacking. */
#define TURN(slot_) ops->slot_ = good_ops.slot_ != NULL ? turn_##slot_ : NULL

BAD_PLUGIN (GsStorageOps, GOOD_FILE, bad.threads = TURNS; TURN (state); TURN (list_refs); TURN (stage);
            TURN (stage_push); TURN (advertise); TURN (upload_pack))
