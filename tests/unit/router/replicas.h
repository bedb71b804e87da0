/* SPDX-License-Identifier: Apache-2.0 */
/**
 * replicas.h - a router over three storages and a metadata store that misbehave on demand, for tests of what several
 * replicas owe each other: locks that meet, replicas that are slow to apply, a store that goes silent.
 */
#ifndef TESTS_REPLICAS_H
#define TESTS_REPLICAS_H

#include <gitstead/thread.h>

#include "base/metrics.h"
#include "base/pool.h"
#include "fakehost.h"
#include "router/settle.h"
#include "rpc/rpc.h"

#define N_DISKS 3
#define REPO_ID 7

typedef struct Cluster Cluster;

/** A storage that keeps refs in memory. Everything under the cluster's lock. */
typedef struct
{
  Cluster *cluster;
  const char *name;
  GHashTable *refs;  /* name -> hex */
  GHashTable *locks; /* name -> the transaction that holds it */
  guint64 generation;
  guint n_staged, n_committed, n_aborted, n_states, n_reads;
  gboolean holds_commit; /* a decided write is not applied until this is FALSE */
  gboolean fails_commit, away;
  gboolean probe_lies; /* who is away seems to be there, who is there seems to be away */
  gboolean create_fails;
  GsErrorCode find_code; /* what becomes of whoever looks for a ref here */
  const char *first; /* the value whose writer is to be the first one here */
  gboolean hooks; /* the repository has hooks here: whoever asks them does so once all others have staged */
  GsErrorCode hooks_code; /* what becomes of the one who asks; PERMISSION_DENIED: a hook says no, others: it is lost */
  guint n_asked;
  gboolean refuses; /* a push's one command, which it tells the client */
  gboolean drops_unsaid; /* it was told to drop a push, and not why */
  const char *last_words; /* what it says of a push before it fails */
  gsize chatter; /* bytes that a push says before it votes, as a report that never ends */
} Disk;

typedef struct
{
  GsTxId txid, call_id;
  guint64 generation;
  GsDigest digest;
  gboolean aborted; /* an abort mark */
  char **voters;
} Decision;

struct Cluster
{
  GsMutex lock;
  GsCond changed;
  Disk disks[N_DISKS];
  /* the metadata store */
  guint64 generation, replica_generations[N_DISKS];
  GsDigest digest;
  GPtrArray *decisions; /* of Decision */
  gboolean silent;       /* it answers nothing about decisions … */
  gboolean silent_takes; /* … and takes them all the same */
  guint n_asked;         /* of tx_abort */
  guint lower_at_decision; /* disks, a bit each, that are taken out of use as the next decision is asked for */
  guint64 jobs;          /* repair jobs, a bit per disk */
  guint n_rows;
  guint n_replicas; /* that the repository has: the first of the disks */
  guint gone; /* of these the disks that have none after all, a bit per disk … */
  guint swap; /* … which change as the next decision is asked for, … */
  guint swap_writes; /* … with so many writes to the disks that are left then */
  gboolean rows_away; /* it cannot be asked for rows */
  guint repaired_at; /* so many looks at the row later all replicas are recorded as current; 0 = never */
  const char *policy, *policy_at_decision; /* the repository's own; the one that it has from the next decision on */
  guint64 old_rows; /* so often it shows the row as it was a generation ago */
  guint32 copies;   /* of the row that was recorded */
  guint n_recorded; /* replicas in it */
  gint64 skew_us;   /* of the clock that the router sees; grows by skew_step_us with each look */
  gint64 skew_step_us;
  gint64 patience_us; /* of its callers; 0 = the server's */
  /* what drives it */
  FakeHost *host;
  GsiPool *workers, *streams, *participants;
  GsiMetrics *metrics;
  GsiRpc *rpc;
  GsiStorage storages[N_DISKS];
  const GsiStorage *storage_list[N_DISKS];
  GsiStorageGroup group;
  const GsiStorageGroup *groups[1];
  gpointer consistency, majority;
  FakeConfig *consistency_config, *majority_config;
  GsiPolicy policies[1]; /* "majority" */
  GsiRouter *router;
};

/** @rule as of consistency/quorum. */
Cluster *cluster_new (const char *rule);
/** Stops the router, once. */
void cluster_stop (Cluster *cluster);
void cluster_free (Cluster *cluster);

typedef struct
{
  GsMutex lock;
  GsCond ended;
  gboolean over;
  GsErrorCode code;
  GsRetry retry;
  char *message;
  GBytes *payload;
  GBytes *request;
  guint64 generation;
} Answer;

/** Begins a call; @stream may be NULL. */
void cluster_begin (Cluster *cluster, guint32 method, const ProtobufCMessage *request, GsStream *stream,
                    guint64 generation, Answer *answer);
/** FALSE when it has no end within ten seconds. */
gboolean answer_wait (Answer *answer);
void answer_clear (Answer *answer);

/** One Ref/Update of @name to @hex; @old_hex NULL = whatever it is. */
void cluster_update (Cluster *cluster, const char *name, const char *old_hex, const char *hex, Answer *answer);
/** One Ref/Find. */
void cluster_find (Cluster *cluster, const char *name, guint64 generation, Answer *answer);
/** One Repository/Create. */
void cluster_create (Cluster *cluster, Answer *answer);
/** A push on pipes; the fake disks take what comes for "NAME HEX". */
void cluster_push (Cluster *cluster, GsStream *stream, Answer *answer);

/** Waits until @check says so. FALSE after ten seconds. */
gboolean cluster_eventually (Cluster *cluster, gboolean (*check) (Cluster *cluster));
/** What all of them have for @name, NULL when they differ or have none. *borrowed*. */
const char *cluster_value (Cluster *cluster, const char *name);

#endif
