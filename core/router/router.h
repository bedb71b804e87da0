/* SPDX-License-Identifier: Apache-2.0 */
/**
 * router.h - routing a call: locate the repository, choose replicas, carry writes through the one write
 * path (stage, decide, apply, acknowledge), recover what a crash left undecided.
 *
 * Stateless but for its configuration: everything it knows of repositories it asks the metadata store.
 * Handlers run on worker and stream threads, any number at once.
 */
#ifndef GSI_ROUTER_ROUTER_H
#define GSI_ROUTER_ROUTER_H

#include <gitstead/access.h>
#include <gitstead/consistency.h>
#include <gitstead/metadata.h>
#include <gitstead/routing.h>

#include "node/node.h"
#include "router/events.h"
#include "router/row.h"
#include "rpc/methods.h"
#include "rpc/rpc.h"

/** A named group of storages that clients see as one. */
typedef struct
{
  const char *name;
  const GsiStorage *const *storages;
  gsize n_storages;
  const GsRoutingOps *routing;
  gpointer routing_self;
  const GsConsistencyOps *consistency;
  gpointer consistency_self;
  gsize n_copies;   /* replicas that a new repository gets */
  gsize min_copies; /* never acknowledge with fewer durable copies */
} GsiStorageGroup;

/** A consistency instance that repositories may ask for by its name. */
typedef struct
{
  const char *name;
  const GsConsistencyOps *ops;
  gpointer self;
} GsiPolicy;

/** How repositories are looked after (repair.h, care.h). */
typedef struct
{
  guint64 repair_rate, scrub_rate; /* bytes a second; 0 = no limit */
  gint64 round_every_us;
  gint64 verify_every_us, scrub_every_us; /* 0 = never by itself */
  gint64 leftover_grace_us;
  gint64 move_grace_us; /* a replica that was moved keeps its files so long: reads that were sent there are at work by then */
} GsiCare;

/** Everything the router stands on. All borrowed for the router's life; filled in by core/main. */
typedef struct
{
  const GsHost *host; /* log, clock, random, timers */
  const GsMetadataOps *metadata;
  gpointer metadata_self;
  const GsAccessOps *access;
  gpointer access_self;
  const GsCacheOps *cache;
  gpointer cache_self;
  const GsiStorageGroup *const *virtual_storages; /* the first is the default */
  gsize n_virtual_storages;
  const GsiPolicy *policies; /* all consistency instances */
  gsize n_policies;
  const GsiStorage *const *storages; /* all of this process */
  gsize n_storages;
  GsiWiring *wiring; /* keeps all of the above while somebody refers to it; NULL: it stays anyway */
  struct GsiPool *pool; /* threads for the participants of writes; NULL: each write goes on in one thread */
  /** Is that write in the hand of another router, which staged it in this process as a node? NULL = never. */
  gboolean (*holds) (gpointer user, const GsTxId *txid);
  gpointer holds_user;
  GsiEvents *events; /* where what is done is told; may be NULL */
  GsiCare care;
  gint64 known_for_us; /* so long reads go on by what the metadata store said last; 0 = not at all */
  const char *program; /* what runs here, as "gitstead/VERSION"; may be NULL */
  const char *crash_at; /* tests: the process kills itself at this named step; NULL = never */
} GsiRouterConfig;

typedef struct GsiRouter GsiRouter;

/** *full*. Copies @config. */
GsiRouter *gsi_router_new (const GsiRouterConfig *config);
/**
 * As gsi_router_new, for a configuration that follows that of @before: both know of the same writes under way. The
 * old one goes on until gsi_router_take_over. *full*.
 */
GsiRouter *gsi_router_new_after (const GsiRouterConfig *config, GsiRouter *before);
/** From now on @router settles what is open. Waits for nothing. */
void gsi_router_take_over (GsiRouter *router);
/** No new round of settling begins, by no router that shares it, and none is running when it returns; writes of this one
 *  that go on behind their answer have come to their end. The timers have been stopped. */
void gsi_router_stop (GsiRouter *router);
/** After every call has ended. NULL is fine. */
void gsi_router_free (GsiRouter *router);

/** The handlers of every call on a repository and of the Token and Cluster services, for gsi_rpc_handle_all; user data is the
 *  router. The list ends with number 0. *full* (g_free). */
GsiBinding *gsi_router_bindings (const GsiMethods *methods);

/**
 * Settles every write that an earlier process left staged: decided ones are applied, others get an abort
 * mark and are dropped. To be called before the first call is taken; blocks. FALSE when a storage or the
 * metadata store cannot be read.
 */
gboolean gsi_router_recover (GsiRouter *router, GError **error);

/** Is that write in this router's hand? */
gboolean gsi_router_holds (GsiRouter *router, const GsTxId *txid);

/**
 * One round of housekeeping: the storages' own care, and replicas without a record go into the trash once an earlier round
 * saw them too. @suspects (consumed) is what the last round returned, an empty set at first. *full*. To be called every
 * few minutes from a worker thread, one round at a time.
 */
GHashTable *gsi_router_maintain (GsiRouter *router, GHashTable *suspects);
/** Tells the metadata store what is on the disk of @storage, unless it has joined: see node_found in metadata.h. */
void gsi_router_join_disk (GsiRouter *router, const GsiStorage *storage, GsCall *call);
/** Ends the round under way soon, and every later one at once. From any thread; does not wait. */
void gsi_router_maintain_stop (GsiRouter *router);

/* ---- shared by the router's files ---- */

/** Upkeep that somebody asks for, beside the rounds: one or the other in the whole cluster. BUSY. *@ret_token for the end. */
gboolean gsi_router_upkeep_begin (GsiRouter *router, GsCall *call, guint64 *ret_token, GError **error);
void gsi_router_upkeep_end (GsiRouter *router, guint64 token);

const GsiRouterConfig *gsi_router_config (GsiRouter *router);
/** A named step (docs/architecture.md): crash tests let the process die here. */
void gsi_router_crash_point (GsiRouter *router, const char *point);
/** The same, of what is done several times: "POINT.COUNT". */
void gsi_router_crash_point_at (GsiRouter *router, const char *point, guint count);
/** Makes @call the round of housekeeping that gsi_router_maintain_stop cancels; NULL when it has ended. */
void gsi_router_set_round (GsiRouter *router, GsCall *call);
/** Readable once maintenance is to stop; -1 when there is none. */
int gsi_router_stop_fd (GsiRouter *router);
/** @name "" = the default one. NULL with NOT_FOUND naming those there are. */
const GsiStorageGroup *gsi_router_virtual_storage (GsiRouter *router, const char *name, GError **error);
/** So long a replica may take to say how far it is while there is another that can be asked. */
#define GSI_TELL_US (400 * 1000)
/** How long a call waits for replicas that are there and behind: a read for what was decided to be applied, of which a busy disk
 *  may take seconds, a write for a repair. */
#define GSI_LATE_WAIT_US (3 * G_USEC_PER_SEC)
/** So many writes wait for a repair at a time, each on a thread that others need. */
#define GSI_WAITING_MAX 16
/** FALSE: as many wait already, and this one is to be refused. Otherwise gsi_router_wait_end follows. Any thread. */
gboolean gsi_router_wait_begin (GsiRouter *router);
void gsi_router_wait_end (GsiRouter *router);
/** How long a read waits for the metadata store to be as far as the caller knows the repository to be. */
#define GSI_FRESH_WAIT_US (1 * G_USEC_PER_SEC)

/**
 * The row of the call's target. NULL with NOT_FOUND naming it, or with UNAVAILABLE when it stays older than the state that
 * the caller has seen. *full*. *@ret_vs has the repository's own consistency policy, when it has one; one that is not
 * configured here refuses mutators with FAILED_PRECONDITION.
 */
GsiRow *gsi_router_locate (GsiRouter *router, GsiCall *call, const GsiStorageGroup **ret_vs, GError **error);
/** The same, whatever its policy: *@ret_vs is the virtual storage as it is configured. */
GsiRow *gsi_router_locate_anyway (GsiRouter *router, GsiCall *call, const GsiStorageGroup **ret_vs, GError **error);
/** @group with the policy that a repository has: itself for "", NULL when there is none of that name. */
const GsiStorageGroup *gsi_router_policy (GsiRouter *router, const GsiStorageGroup *group, const char *consistency);
/** A storage of this process by name, NULL when there is none. */
const GsiStorage *gsi_router_storage (GsiRouter *router, const char *name);
/**
 * Where no replica of @row is recorded as current, asks the storages: one whose apply failed was recorded as behind, and
 * has caught up since. Corrects @row and the record.
 */
void gsi_router_recheck (GsiRouter *router, GsiCall *call, GsiRow *row);
/**
 * Does the replica of @row on @storage show @generation? What it said moments ago counts. FALSE with UNAVAILABLE, or what
 * the storage says.
 */
gboolean gsi_router_is_fresh (GsiRouter *router, const GsiStorage *storage, const GsiRow *row, guint64 generation,
                              gint64 until_us, GError **error);
/** Waits a moment, longer from time to time; FALSE when @until_us is over or the caller is gone. */
gboolean gsi_router_pause (const GsCall *call, gint64 *delay_us, gint64 until_us);

/** A storage as routing plugins see it. Borrows from @storage. */
GsNodeView gsi_router_view (const GsiStorage *storage);
/** The same, with what is known of its node: drained or not, and the room on its disk. */
GsNodeView gsi_router_node_view (GsiRouter *router, const GsiStorage *storage);
/** A located replica. Borrows from its arguments. */
GsiReplica gsi_router_replica (GsiRouter *router, const GsiStorage *storage, const GsiRow *row);
/** The path of a repository's replicas below their storages' roots: "@r/ab/cd/ID.git". *full*. */
char *gsi_router_replica_path (guint64 id);

/** The last reads; lives as long as @router. */
struct GsiRecent *gsi_router_recent (GsiRouter *router);
/** What is known of nodes; lives as long as @router. */
struct GsiNodes *gsi_router_nodes (GsiRouter *router);
/** Looks at the nodes anew: every second or two, from a worker thread. FALSE when the metadata store is away. */
gboolean gsi_router_look_at_nodes (GsiRouter *router, GError **error);

/** Queues a repair job for a replica that lacks a write, unless that was done moments ago. @reason is constant. */
void gsi_router_ask_repair (GsiRouter *router, GsCall *call, guint64 id, const char *storage, const char *reason);

/** How many copies there should be: the repository's own number, or the virtual storage's; 0 when that is not known here. */
guint gsi_router_wanted_copies (GsiRouter *router, const GsiRow *row);
/**
 * Is the replica at @index one of those that writes are counted by? Where there are more than there should be, those that
 * are behind are not: they are on their way in, or out, and a majority must not depend on them.
 */
gboolean gsi_router_counts (GsiRouter *router, const GsiRow *row, gsize index);

/** A write goes on behind its answer. FALSE when there are too many of them, or the end has come. */
gboolean gsi_router_background_begin (GsiRouter *router);
void gsi_router_background_end (GsiRouter *router);
/** The end has come: who waits for something gives up. */
gboolean gsi_router_stopping (GsiRouter *router);

/* read.c, write.c, repository.c, token.c */
gboolean gsi_router_read (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_everywhere (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_write (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_repository_create (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_repository_get (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_repository_exists (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_repository_list (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_repository_delete (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_repository_rename (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_repository_changes (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_token_create (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_token_list (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_token_revoke (gpointer router, GsiCall *call, GError **error);

/** Settles one storage's staged writes (recover.c). */
gboolean gsi_router_settle (GsiRouter *router, const GsiStorage *storage, GsCall *call, GError **error);
/** Asks for a settle of @storage soon: an apply failed or an outcome is not known. */
void gsi_router_settle_later (GsiRouter *router, const GsiStorage *storage);

#endif
