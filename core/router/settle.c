/* SPDX-License-Identifier: Apache-2.0 */
/* Settling staged writes whose end is open. See settle.h. */
#include "router/settle.h"

#include <gitstead/thread.h>

#define SETTLE_DELAY_US (1 * G_USEC_PER_SEC)
#define SETTLE_DOUBLINGS 6 /* a round looks at every replica's journal: what fails again is tried ever less often */

#define DOUBTS_MAX 10000   /* beyond, a replica that is current after all waits for the next verification */

/* A replica that is recorded as behind, and may have caught up by itself. */
typedef struct
{
  char *storage; /* its name: a reload may take the storage away */
  guint64 repository_id, generation;
  char *replica_path;
} Doubt;

static void
doubt_free (gpointer data)
{
  g_free (((Doubt *) data)->replica_path);
  g_free (((Doubt *) data)->storage);
  g_free (data);
}

struct GsiSettler
{
  gint refs; /* atomic */
  const GsHost *host;
  GsMutex lock;
  GsCond idle;
  GHashTable *claimed; /* of GsTxId *: writes under way in this process */
  GsiRouter *router;   /* of the next round; its wiring, if any, is held as long as it is this one */
  GsiWiring *wiring;
  GHashTable *wanted;  /* names of storages: rounds asked for */
  GQueue doubts;       /* of Doubt */
  gboolean armed;   /* a timer is set, or a round is under way */
  gboolean working; /* a round is under way */
  gboolean stopping;
  guint n_failed; /* rounds in a row that left something open */
};

static guint
txid_hash (gconstpointer key)
{
  guint hash;
  memcpy (&hash, key, sizeof hash); /* random bytes already */
  return hash;
}

static gboolean
txid_equal (gconstpointer a, gconstpointer b)
{
  return memcmp (a, b, GS_TXID_SIZE) == 0;
}

GsiSettler *
gsi_settler_new (const GsHost *host)
{
  GsiSettler *settler = g_new0 (GsiSettler, 1);
  settler->refs = 1;
  settler->host = host;
  gs_mutex_init (&settler->lock);
  gs_cond_init (&settler->idle);
  settler->claimed = g_hash_table_new_full (txid_hash, txid_equal, g_free, NULL);
  settler->wanted = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  return settler;
}

GsiSettler *
gsi_settler_ref (GsiSettler *settler)
{
  __atomic_add_fetch (&settler->refs, 1, __ATOMIC_RELAXED);
  return settler;
}

void
gsi_settler_take_over (GsiSettler *settler, GsiRouter *router)
{
  GsiWiring *before;
  gs_mutex_lock (&settler->lock);
  before = settler->wiring;
  settler->router = router;
  settler->wiring = gsi_wiring_ref (gsi_router_config (router)->wiring);
  gs_mutex_unlock (&settler->lock);
  gsi_wiring_unref (before);
}

void
gsi_settler_stop (GsiSettler *settler)
{
  GsiWiring *wiring;
  gs_mutex_lock (&settler->lock);
  settler->stopping = TRUE;
  while (settler->working)
    gs_cond_wait (&settler->idle, &settler->lock);
  wiring = g_steal_pointer (&settler->wiring);
  gs_mutex_unlock (&settler->lock);
  gsi_wiring_unref (wiring);
}

void
gsi_settler_unref (GsiSettler *settler)
{
  if (settler == NULL || __atomic_sub_fetch (&settler->refs, 1, __ATOMIC_ACQ_REL) > 0)
    return;
  gsi_wiring_unref (settler->wiring);
  g_hash_table_destroy (settler->claimed);
  g_hash_table_destroy (settler->wanted);
  g_queue_clear_full (&settler->doubts, doubt_free);
  gs_cond_clear (&settler->idle);
  gs_mutex_clear (&settler->lock);
  g_free (settler);
}

void
gsi_settler_claim (GsiSettler *settler, const GsTxId *txid)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&settler->lock);
  g_hash_table_add (settler->claimed, g_memdup2 (txid->bytes, sizeof txid->bytes));
}

void
gsi_settler_release (GsiSettler *settler, const GsTxId *txid)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&settler->lock);
  g_hash_table_remove (settler->claimed, txid->bytes);
}

gboolean
gsi_router_holds (GsiRouter *router, const GsTxId *txid)
{
  GsiSettler *settler = gsi_router_settler (router);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&settler->lock);
  return g_hash_table_contains (settler->claimed, txid->bytes);
}

static int
no_cancel_fd (GsCall *call)
{
  return -1;
}

void
gsi_own_call_init (GsCall *ret_call, GsIdentity *ret_identity, const char *doing)
{
  memset (ret_call, 0, sizeof *ret_call);
  memset (ret_identity, 0, sizeof *ret_identity);
  ret_identity->size = sizeof *ret_identity;
  ret_identity->name = "server";
  ret_identity->scope = GS_SCOPE_ADMIN;
  ret_identity->prefix = "";
  ret_call->size = sizeof *ret_call;
  ret_call->deadline_us = G_MAXINT64;
  ret_call->identity = ret_identity;
  ret_call->peer = doing;
  ret_call->cancel_fd = no_cancel_fd;
}

/* ------------------------------------------------------------------------------------- one storage */

typedef struct
{
  guint64 repository_id;
  char *replica_path;
  GsTxId txid;
} Open;

static void
open_clear (gpointer data)
{
  g_free (((Open *) data)->replica_path);
}

static gboolean
collect_pending (const GsPending *pending, gpointer user)
{
  Open open = { pending->repo.id, g_strdup (pending->repo.replica_path), pending->txid };
  g_array_append_val ((GArray *) user, open);
  return TRUE;
}

/* What became of it, and what that means for one storage. */
typedef struct
{
  GsTxState state;
  GsDecision decision;
  const char *storage;
  gboolean voted;     /* the decision names it */
  gboolean recorded;  /* as a replica of the repository … */
  guint64 generation; /* … that is so far */
} Fate;

static gboolean
take_decision (const GsChange *change, gpointer user)
{
  Fate *fate = user;
  fate->decision.generation = change->generation;
  fate->decision.refs_digest = change->refs_digest;
  fate->voted = change->voters == NULL || g_strv_contains (change->voters, fate->storage);
  return FALSE;
}

/* An abort mark, unless it is decided: then by whom, and how far the storage's replica is. */
static gboolean
find_fate (const GsiRouterConfig *config, GsCall *call, const Open *open, Fate *fate, GError **error)
{
  g_autoptr (GsiRow) row = NULL;
  g_autoptr (GError) why = NULL;
  if (!config->metadata->tx_abort (config->metadata_self, call, open->repository_id, &open->txid, &fate->state, &why)
      || (fate->state == GS_TX_DECIDED
          && (!config->metadata->tx_find (config->metadata_self, call, open->repository_id, &open->txid, &fate->state,
                                          take_decision, fate, &why)
              || !config->metadata->repo_get (config->metadata_self, call, open->repository_id, gsi_row_visit, &row,
                                              &why))))
    {
      if (gs_error_code (why) == GS_ERROR_NOT_FOUND)
        {
          fate->state = GS_TX_ABORTED; /* the repository is no longer recorded */
          return TRUE;
        }
      g_propagate_prefixed_error (error, g_steal_pointer (&why),
                                  "cannot settle a staged write of '%s': ", open->replica_path);
      return FALSE;
    }
  for (gsize i = 0; row != NULL && i < row->n_replicas; i++)
    if (strcmp (row->replicas[i].storage, fate->storage) == 0)
      {
        fate->recorded = TRUE;
        fate->generation = row->replicas[i].generation;
      }
  return TRUE;
}

/*
 * The storage cannot bring it to its end now. That concerns one replica: it is recorded as behind, so that nobody reads
 * what lacks a decided write, and a later round tries again; the others are served meanwhile.
 */
static void
put_off (GsiRouter *router, const GsiStorage *storage, GsCall *call, const Open *open, const Fate *fate,
         const GError *why)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  if (fate->state == GS_TX_DECIDED && fate->recorded && fate->generation >= fate->decision.generation)
    config->metadata->replica_set (config->metadata_self, call, open->repository_id, storage->name,
                                   fate->decision.generation - 1, TRUE, NULL);
  config->host->log (config->host, GS_LOG_ERROR, "write.settle.failed",
                     (GsField[]){ GS_TEXT ("storage", storage->name), GS_TEXT ("replica", open->replica_path),
                                  GS_TEXT ("error", why->message) },
                     3);
  gsi_router_settle_later (router, storage);
}

/* Applies it, or drops it: what was not decided, and what was decided without this storage. */
static gboolean
bring_to_end (const GsiStorage *storage, GsCall *call, const Open *open, const Fate *fate, gboolean *ret_applied,
              GError **error)
{
  const GsRepo repo = { sizeof repo, open->repository_id, open->replica_path };
  *ret_applied = fate->state == GS_TX_DECIDED && fate->voted;
  if (fate->state == GS_TX_DECIDED && !fate->recorded)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the write was decided, and '%s' is not recorded as a replica of repository %" G_GUINT64_FORMAT
                    "; was the storage called otherwise?",
                    storage->name, open->repository_id);
  return storage->ops->resolve (storage->self, call, &repo, &open->txid, *ret_applied ? &fate->decision : NULL, error);
}

/*
 * A storage that staged and was left behind does not apply what was decided without its vote: its replica would look as
 * if it had that write and those before it. For the same reason the record only follows a replica that has all before.
 */
static gboolean
settle_one (GsiRouter *router, const GsiStorage *storage, GsCall *call, const Open *open, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  Fate fate = { .decision = { .size = sizeof fate.decision, .txid = open->txid }, .storage = storage->name };
  g_autoptr (GError) why = NULL;
  gboolean applied;
  char hex[2 * GS_TXID_SIZE + 1];

  if (!find_fate (config, call, open, &fate, error))
    return FALSE;
  if (!bring_to_end (storage, call, open, &fate, &applied, &why))
    {
      put_off (router, storage, call, open, &fate, why);
      return TRUE;
    }
  /* NOT_FOUND: the repository was deleted after the decision; there is nothing to record any more. */
  if (applied && fate.generation + 1 >= fate.decision.generation
      && !config->metadata->replica_set (config->metadata_self, call, open->repository_id, storage->name,
                                         fate.decision.generation, FALSE, &why)
      && gs_error_code (why) != GS_ERROR_NOT_FOUND)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  gs_hex (open->txid.bytes, sizeof open->txid.bytes, hex);
  config->host->log (config->host, GS_LOG_INFO, "write.settled",
                     (GsField[]){ GS_TEXT ("storage", storage->name), GS_TEXT ("replica", open->replica_path),
                                  GS_TEXT ("transaction", hex), GS_TEXT ("outcome", applied ? "applied" : "dropped") },
                     4);
  return TRUE;
}

static gboolean
node_holds (GsiRouter *router, const GsTxId *txid)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  return config->holds != NULL && config->holds (config->holds_user, txid);
}

gboolean
gsi_router_settle (GsiRouter *router, const GsiStorage *storage, GsCall *call, GError **error)
{
  g_autoptr (GArray) open = g_array_new (FALSE, TRUE, sizeof (Open));
  gboolean done = TRUE;
  g_array_set_clear_func (open, open_clear);
  if (!storage->ops->pending (storage->self, call, collect_pending, open, error))
    return FALSE;
  for (guint i = 0; i < open->len; i++)
    {
      const Open *one = &g_array_index (open, Open, i);
      /* One that cannot be settled now must not keep the others open; the first error is told. */
      if (!gsi_router_holds (router, &one->txid) && !node_holds (router, &one->txid)
          && !settle_one (router, storage, call, one, done ? error : NULL))
        done = FALSE;
    }
  return done;
}

/* So many decided writes a replica is helped with at once. */
#define FINISH_MAX 16

typedef struct
{
  const char *storage;
  GArray *decided; /* of GsDecision */
} Lacked;

/* Up to one that the storage did not vote for: it has something else staged, or nothing, and is repaired. */
static gboolean
collect_decided (const GsChange *change, gpointer user)
{
  Lacked *lacked = user;
  const GsDecision decision = { sizeof decision, change->txid, change->generation, change->refs_digest };
  if (change->voters == NULL || !g_strv_contains (change->voters, lacked->storage))
    return FALSE;
  g_array_append_val (lacked->decided, decision);
  return TRUE;
}

void
gsi_router_finish (GsiRouter *router, const GsiStorage *storage, const GsiRow *row, gint64 until_us)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  const GsRepo repo = { sizeof repo, row->id, row->replica_path };
  g_autoptr (GArray) decided = g_array_new (FALSE, TRUE, sizeof (GsDecision));
  Lacked lacked = { storage->name, decided };
  GsReplicaState state = { .size = sizeof state };
  GsIdentity identity;
  GsCall own;
  if (storage->ops->probe == NULL)
    return; /* what is staged in this process has its writer here, or was recovered at the start */
  gsi_own_call_init (&own, &identity, "finish");
  own.deadline_us = until_us;
  if (!storage->ops->state (storage->self, &own, &repo, &state, NULL) || state.repository_id != row->id
      || !config->metadata->change_list (config->metadata_self, &own, row->id, state.generation, FINISH_MAX,
                                         collect_decided, &lacked, NULL))
    return;
  for (guint i = 0; i < decided->len; i++)
    {
      const GsDecision *one = &g_array_index (decided, GsDecision, i);
      if (gsi_router_holds (router, &one->txid)
          || !storage->ops->resolve (storage->self, &own, &repo, &one->txid, one, NULL))
        break;
    }
}

gboolean
gsi_router_recover (GsiRouter *router, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  GsIdentity identity;
  GsCall call;
  gsi_own_call_init (&call, &identity, "recovery");
  for (gsize i = 0; i < config->n_storages; i++)
    /* A storage of another process is settled there when that starts; it may be away now, and writes of other routers
     * are under way on it. */
    if (config->storages[i]->ops->probe == NULL && !gsi_router_settle (router, config->storages[i], &call, error))
      {
        g_prefix_error (error, "storage '%s': ", config->storages[i]->name);
        return FALSE;
      }
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- later */

static void settler_arm (GsiSettler *settler);

/* Takes what is wanted, unless the end has come, and who is to do it. *full*. */
static GPtrArray *
settler_take (GsiSettler *settler, GsiRouter **ret_router, GsiWiring **ret_wiring)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&settler->lock);
  GPtrArray *storages = g_ptr_array_new_with_free_func (g_free);
  GHashTableIter iter;
  gpointer storage;
  settler->working = !settler->stopping;
  g_hash_table_iter_init (&iter, settler->wanted);
  while (settler->working && g_hash_table_iter_next (&iter, &storage, NULL))
    g_ptr_array_add (storages, g_strdup (storage));
  *ret_router = settler->router;
  *ret_wiring = gsi_wiring_ref (settler->wiring);
  g_hash_table_remove_all (settler->wanted);
  return storages;
}

/* TRUE: there is nothing to doubt any more. */
static gboolean
clear_up (GsiRouter *router, const GsiStorage *storage, const Doubt *doubt, GsCall *call)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  GsRepo repo = { sizeof repo, doubt->repository_id, doubt->replica_path };
  GsReplicaState state = { .size = sizeof state };
  g_autoptr (GError) why = NULL;
  if (!storage->ops->state (storage->self, call, &repo, &state, &why))
    return gs_error_code (why) != GS_ERROR_UNAVAILABLE;
  if (state.repository_id == doubt->repository_id && state.generation >= doubt->generation)
    config->metadata->replica_set (config->metadata_self, call, doubt->repository_id, storage->name, state.generation,
                                   FALSE, NULL);
  return TRUE;
}

static void
clear_up_all (GsiSettler *settler, GsiRouter *router, const GsiStorage *storage, GsCall *call)
{
  GQueue mine = G_QUEUE_INIT, kept = G_QUEUE_INIT;
  Doubt *doubt;
  gs_mutex_lock (&settler->lock);
  while ((doubt = g_queue_pop_head (&settler->doubts)) != NULL)
    g_queue_push_tail (strcmp (doubt->storage, storage->name) == 0 ? &mine : &kept, doubt);
  settler->doubts = kept;
  gs_mutex_unlock (&settler->lock);
  while ((doubt = g_queue_pop_head (&mine)) != NULL)
    {
      if (clear_up (router, storage, doubt, call))
        doubt_free (doubt);
      else
        {
          gs_mutex_lock (&settler->lock);
          g_queue_push_tail (&settler->doubts, doubt);
          g_hash_table_add (settler->wanted, g_strdup (storage->name));
          gs_mutex_unlock (&settler->lock);
        }
    }
}

static void
settler_work (gpointer user)
{
  GsiSettler *settler = user;
  const GsHost *host = settler->host;
  GsiRouter *router;
  GsiWiring *wiring;
  g_autoptr (GPtrArray) storages = settler_take (settler, &router, &wiring);
  gboolean again, away = FALSE;
  GsIdentity identity;
  GsCall call;

  gsi_own_call_init (&call, &identity, "settle");
  for (guint i = 0; i < storages->len; i++)
    {
      const GsiStorage *one = gsi_router_storage (router, storages->pdata[i]);
      g_autoptr (GError) why = NULL;
      if (one == NULL)
        continue;
      if (one->ops->probe != NULL && !one->ops->probe (one->self, NULL))
        {
          away = TRUE; /* which is no reason to look ever less often */
          gs_mutex_lock (&settler->lock);
          g_hash_table_add (settler->wanted, g_strdup (one->name));
          gs_mutex_unlock (&settler->lock);
          continue;
        }
      if (gsi_router_settle (router, one, &call, &why))
        {
          clear_up_all (settler, router, one, &call);
          continue;
        }
      host->log (host, GS_LOG_WARNING, "settle.failed",
                 (GsField[]){ GS_TEXT ("storage", one->name), GS_TEXT ("error", why->message) }, 2);
      gs_mutex_lock (&settler->lock);
      g_hash_table_add (settler->wanted, g_strdup (one->name));
      gs_mutex_unlock (&settler->lock);
    }

  gs_mutex_lock (&settler->lock);
  settler->armed = settler->working = FALSE;
  again = !settler->stopping && g_hash_table_size (settler->wanted) > 0;
  settler->n_failed = again && !away ? settler->n_failed + 1 : 0;
  gs_cond_broadcast (&settler->idle);
  gs_mutex_unlock (&settler->lock);
  gsi_wiring_unref (wiring);
  if (again)
    settler_arm (settler);
}

static void
settler_arm (GsiSettler *settler)
{
  const GsHost *host = settler->host;
  gint64 delay_us;
  gs_mutex_lock (&settler->lock);
  if (settler->armed || settler->stopping)
    {
      gs_mutex_unlock (&settler->lock);
      return;
    }
  settler->armed = TRUE;
  delay_us = SETTLE_DELAY_US << MIN (settler->n_failed, SETTLE_DOUBLINGS);
  gs_mutex_unlock (&settler->lock);
  if (host->timer (host, delay_us, settler_work, settler) != 0)
    return;
  gs_mutex_lock (&settler->lock);
  settler->armed = FALSE; /* too many timers: the next failure asks again */
  gs_mutex_unlock (&settler->lock);
}

void
gsi_settler_later (GsiSettler *settler, const char *storage)
{
  gs_mutex_lock (&settler->lock);
  g_hash_table_add (settler->wanted, g_strdup (storage));
  gs_mutex_unlock (&settler->lock);
  settler_arm (settler);
}

void
gsi_settler_later_replica (GsiSettler *settler, const GsiStorage *storage, guint64 repository_id,
                           const char *replica_path, guint64 generation)
{
  gs_mutex_lock (&settler->lock);
  if (settler->doubts.length < DOUBTS_MAX)
    {
      Doubt *doubt = g_new (Doubt, 1);
      *doubt = (Doubt) { g_strdup (storage->name), repository_id, generation, g_strdup (replica_path) };
      g_queue_push_tail (&settler->doubts, doubt);
    }
  gs_mutex_unlock (&settler->lock);
  gsi_settler_later (settler, storage->name);
}
