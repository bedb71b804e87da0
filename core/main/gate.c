/* SPDX-License-Identifier: Apache-2.0 */
/* Storages behind their gates. See gate.h. */
#include "main/gate.h"

#include "base/clock.h"
#include "main/server.h"
#include "router/settle.h"

/* Of the metadata store's answer. */
#define PATIENCE_US (5 * G_USEC_PER_SEC)

/* Lives as long as the server: who holds an earlier generation, or serves as a node, still calls through it. */
typedef struct
{
  GsStorageOps ops;          /* what callers see; first */
  const GsStorageOps *inner;
  gpointer self;
  char *name;
  GsMutex lock;
  gint closed; /* atomic */
  char *why;   /* under the lock */
} Gate;

/* UNAVAILABLE: it says nothing about any replica, and another storage may have what is asked for. */
static gboolean
passes (Gate *gate, GError **error)
{
  if (G_LIKELY (!__atomic_load_n (&gate->closed, __ATOMIC_ACQUIRE)))
    return TRUE;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&gate->lock);
  return gate->why == NULL || gs_fail (error, GS_ERROR_UNAVAILABLE, "%s", gate->why);
}

/* -------------------------------------------------------------------------------------------- slots */

#define REPO gpointer self, GsCall *call, const GsRepo *repo

/* A slot of that name: its parameters, and what of them the storage gets behind its self. */
#define SLOT(slot_, parameters_, arguments_)                                                                          \
  static gboolean gate_##slot_ parameters_                                                                            \
  {                                                                                                                   \
    Gate *gate = self;                                                                                                \
    return passes (gate, error) && gate->inner->slot_ arguments_;                                                     \
  }

SLOT (create, (REPO, const GsRepoSpec *spec, GError **error), (gate->self, call, repo, spec, error))
SLOT (remove, (REPO, GError **error), (gate->self, call, repo, error))
SLOT (exists, (REPO, gboolean *ret_exists, GError **error), (gate->self, call, repo, ret_exists, error))
SLOT (list, (gpointer self, GsCall *call, GsRepoVisit visit, gpointer user, GError **error),
      (gate->self, call, visit, user, error))
SLOT (measure, (REPO, GsRepoSize *ret_size, GError **error), (gate->self, call, repo, ret_size, error))
SLOT (state, (REPO, GsReplicaState *ret_state, GError **error), (gate->self, call, repo, ret_state, error))
SLOT (list_refs, (REPO, const GsRefQuery *query, GsRefVisit visit, gpointer user, GError **error),
      (gate->self, call, repo, query, visit, user, error))
SLOT (find_ref, (REPO, const char *name, GsRefVisit visit, gpointer user, GError **error),
      (gate->self, call, repo, name, visit, user, error))
SLOT (stage, (REPO, const GsChangeSet *change, gpointer *ret_txn, const GsVote **ret_vote, GError **error),
      (gate->self, call, repo, change, ret_txn, ret_vote, error))
SLOT (stage_push,
      (REPO, const GsPush *push, GsStream *stream, gpointer *ret_txn, const GsVote **ret_vote, GError **error),
      (gate->self, call, repo, push, stream, ret_txn, ret_vote, error))
SLOT (resolve, (REPO, const GsTxId *txid, const GsDecision *decision, GError **error),
      (gate->self, call, repo, txid, decision, error))
SLOT (maintain, (gpointer self, GsCall *call, GError **error), (gate->self, call, error))
SLOT (advertise, (REPO, guint32 service, const char *protocol, GBytes **ret_bytes, GError **error),
      (gate->self, call, repo, service, protocol, ret_bytes, error))
SLOT (upload_pack, (REPO, const char *protocol, gboolean stateless, GsStream *stream, GError **error),
      (gate->self, call, repo, protocol, stateless, stream, error))
SLOT (resolve_revision, (REPO, const char *revision, gsize revision_len, GsObject *ret_object, GError **error),
      (gate->self, call, repo, revision, revision_len, ret_object, error))
SLOT (read_object,
      (REPO, const GsOid *oid, guint64 max_bytes, GsObject *ret_object, GBytes **ret_bytes, GError **error),
      (gate->self, call, repo, oid, max_bytes, ret_object, ret_bytes, error))
SLOT (stream_object, (REPO, const GsOid *oid, GsStream *stream, GError **error),
      (gate->self, call, repo, oid, stream, error))
SLOT (list_tree, (REPO, const GsOid *tree, GsTreeVisit visit, gpointer user, GError **error),
      (gate->self, call, repo, tree, visit, user, error))
SLOT (query, (REPO, const GsQuery *query, GBytes **ret_reply, GError **error),
      (gate->self, call, repo, query, ret_reply, error))
SLOT (compute, (REPO, const GsQuery *query, GsComputed **ret_computed, GError **error),
      (gate->self, call, repo, query, ret_computed, error))
SLOT (export_replica, (REPO, const GsOid *haves, gsize n_haves, GsStream *stream, GError **error),
      (gate->self, call, repo, haves, n_haves, stream, error))
SLOT (import_replica, (REPO, guint32 flags, GsStream *stream, GsReplicaState *ret_state, GError **error),
      (gate->self, call, repo, flags, stream, ret_state, error))
SLOT (scrub, (REPO, guint64 bytes_per_second, GError **error), (gate->self, call, repo, bytes_per_second, error))

/* What was staged while the gate was open is in the storage's hand: it is brought to its end. */
static gboolean
gate_commit (gpointer self, GsCall *call, gpointer txn, const GsDecision *decision, GError **error)
{
  Gate *gate = self;
  return gate->inner->commit (gate->self, call, txn, decision, error);
}

static void
gate_abort (gpointer self, GsCall *call, gpointer txn, const GError *why)
{
  Gate *gate = self;
  gate->inner->abort (gate->self, call, txn, why);
}

/* Of another disk nothing is settled, and a server with other storages starts all the same. */
static gboolean
gate_pending (gpointer self, GsCall *call, GsPendingVisit visit, gpointer user, GError **error)
{
  Gate *gate = self;
  return !passes (gate, NULL) || gate->inner->pending (gate->self, call, visit, user, error);
}

static void
gate_computed_free (gpointer self, GsComputed *computed)
{
  Gate *gate = self;
  gate->inner->computed_free (gate->self, computed);
}

static gboolean
gate_disk (gpointer self, GsDisk *ret_disk, GError **error)
{
  Gate *gate = self;
  return gate->inner->disk (gate->self, ret_disk, error);
}

/* A slot that the storage lacks is lacking here too: callers look. */
#define PUT(slot_) gate->ops.slot_ = gate->inner->slot_ != NULL ? gate_##slot_ : NULL

static void
put_slots (Gate *gate)
{
  PUT (create), PUT (remove), PUT (exists), PUT (list), PUT (measure), PUT (state);
  PUT (list_refs), PUT (find_ref);
  PUT (stage), PUT (stage_push), PUT (commit), PUT (abort), PUT (pending), PUT (resolve), PUT (maintain);
  PUT (advertise), PUT (upload_pack);
  PUT (resolve_revision), PUT (read_object), PUT (stream_object), PUT (list_tree);
  PUT (query), PUT (compute), PUT (computed_free);
  PUT (disk), PUT (export_replica), PUT (import_replica), PUT (scrub);
}

/* A slot that is added to the table must be added here; probe and program are of storages in other processes only. */
G_STATIC_ASSERT (sizeof (GsStorageOps) == 30 * sizeof (gpointer));

/* -------------------------------------------------------------------------------------- their keeping */

void
gsi_gate_free (gpointer data)
{
  Gate *gate = data;
  gs_mutex_clear (&gate->lock);
  g_free (gate->name);
  g_free (gate->why);
  g_free (gate);
}

void
gsi_gate_put (GsiServer *server, GsiStorage *storage)
{
  Gate *gate = NULL;
  if (storage->ops->probe != NULL || storage->ops->disk == NULL)
    return;
  for (guint i = 0; i < server->gates->len && gate == NULL; i++)
    {
      Gate *one = server->gates->pdata[i];
      if (one->self == storage->self && one->inner == storage->ops && strcmp (one->name, storage->name) == 0)
        gate = one;
    }
  if (gate == NULL)
    {
      gate = g_new0 (Gate, 1);
      gate->inner = storage->ops;
      gate->self = storage->self;
      gate->name = g_strdup (storage->name);
      gs_mutex_init (&gate->lock);
      put_slots (gate);
      g_ptr_array_add (server->gates, gate);
    }
  storage->ops = &gate->ops;
  storage->self = gate;
}

static Gate *
gate_of (const GsiStorage *storage)
{
  return storage->ops->disk == gate_disk ? storage->self : NULL;
}

gboolean
gsi_gates_closed (GsiGeneration *generation)
{
  for (guint i = 0; i < generation->storages->len; i++)
    {
      Gate *gate = gate_of (generation->storages->pdata[i]);
      if (gate != NULL && __atomic_load_n (&gate->closed, __ATOMIC_ACQUIRE))
        return TRUE;
    }
  return FALSE;
}

/* -------------------------------------------------------------------------------------------- looking */

typedef struct
{
  const char *storage;
  GsTxId id;
  gboolean other_disk; /* the storage is known with another one */
  char *owner;         /* who the disk is known to be of; NULL: nobody, or it */
} Look;

static gboolean
look_at_node (const GsNodeRow *row, gpointer user)
{
  Look *look = user;
  const gboolean same_name = strcmp (row->storage, look->storage) == 0;
  const gboolean same_disk = memcmp (&row->disk_id, &look->id, sizeof look->id) == 0;
  if (same_name && !same_disk)
    look->other_disk = TRUE;
  if (same_disk && !same_name && look->owner == NULL)
    look->owner = g_strdup (row->storage);
  return TRUE;
}

/* *@ret_why (*full*) is NULL when it is the right one, or a new one. FALSE: that cannot be known now. */
static gboolean
judge (Gate *gate, const GsiRouterConfig *config, GsCall *call, char **ret_why)
{
  Look look = { .storage = gate->name };
  GsDisk disk = { .size = sizeof disk };
  if (!gate->inner->disk (gate->self, &disk, NULL))
    return FALSE;
  look.id = disk.id;
  if (!config->metadata->node_list (config->metadata_self, call, look_at_node, &look, NULL))
    {
      g_free (look.owner);
      return FALSE;
    }
  *ret_why = NULL;
  if (look.owner != NULL)
    *ret_why = g_strdup_printf ("storage '%s' is not served: its path has the disk of storage '%s'. Mount the right disk "
                                "there and restart the server",
                                gate->name, look.owner);
  else if (look.other_disk)
    *ret_why = g_strdup_printf ("storage '%s' is not served: what its path has is not the disk that the metadata store "
                                "knows by this name, as when a disk is not mounted. Mount it and restart the server; to "
                                "begin with a new one, see \"A disk is not there\" in docs/operations.md",
                                gate->name);
  g_free (look.owner);
  return TRUE;
}

/* Takes @why. TRUE: this opened it. */
static gboolean
turn (Gate *gate, const GsHost *host, char *why)
{
  gboolean was_closed;
  gs_mutex_lock (&gate->lock);
  was_closed = gate->why != NULL;
  g_free (gate->why);
  gate->why = g_strdup (why);
  __atomic_store_n (&gate->closed, why != NULL, __ATOMIC_RELEASE);
  gs_mutex_unlock (&gate->lock);
  if (why != NULL && !was_closed)
    host->log (host, GS_LOG_ERROR, "storage.disk.refused",
               (GsField[]){ GS_TEXT ("storage", gate->name), GS_TEXT ("error", why) }, 2);
  if (why == NULL && was_closed)
    host->log (host, GS_LOG_INFO, "storage.disk.accepted", (GsField[]){ GS_TEXT ("storage", gate->name) }, 1);
  g_free (why);
  return why == NULL && was_closed;
}

void
gsi_gates_look (GsiServer *server, GsiGeneration *generation)
{
  const GsiRouterConfig *config = gsi_router_config (generation->router);
  GsIdentity identity;
  GsCall call;
  if (config->metadata->node_list == NULL)
    return;
  gsi_own_call_init (&call, &identity, "disks");
  call.deadline_us = gsi_clock_now_us () + PATIENCE_US;
  for (guint i = 0; i < generation->storages->len; i++)
    {
      const GsiStorage *storage = generation->storages->pdata[i];
      Gate *gate = gate_of (storage);
      char *why;
      if (gate != NULL && judge (gate, config, &call, &why) && turn (gate, gsi_host_get (server->host), why))
        gsi_router_settle_later (generation->router, storage);
    }
}
