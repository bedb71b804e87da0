/* SPDX-License-Identifier: Apache-2.0 */
/**
 * sim.h - a cluster in one thread with virtual time, so that a history is a function of its seed.
 *
 * Clients, routers, nodes and the metadata store exchange messages through a network that delays, reorders, repeats and
 * loses them; all but the store crash, restart and hang. Routers run the real consistency plugins and carry their
 * actions out as core/router/write.c does; nodes and the store are models of what api/gitstead/storage.h and metadata.h
 * promise. One repository, a few refs, every written value different from all others, so that what a client saw tells
 * which writes it saw (check.c).
 */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include <gitstead/consistency.h>

#define SIM_NODES_MAX 5
#define SIM_ROUTERS_MAX 3
#define SIM_CLIENTS_MAX 4
#define SIM_REFS 4
#define SIM_UPDATES_MAX 2
#define SIM_GENERATIONS_MAX 256
#define SIM_OPS_MAX 24
#define SIM_ACTORS (1 + SIM_NODES_MAX + SIM_ROUTERS_MAX + SIM_CLIENTS_MAX)

#define MS ((gint64) 1000)
#define SECOND (1000 * MS)

/* Mistakes that can be made on purpose, to see that the checks notice them. */
typedef enum
{
  BUG_NONE,
  BUG_SKIP_CAS,
  BUG_ACKNOWLEDGE_EARLY,
  BUG_FORGET_FENCING,
  BUG_APPLY_TWICE,
  BUG_IGNORE_LOST_VOTE,
  BUG_FORGET_ABORT_MARK,
  BUG_ANY_VOTE,
  BUG_STALE_VOTER,
  BUG_STALE_READ,
  BUG_SETTLE_WITHOUT_VOTE,
  BUG_DROP_UNKNOWN,
  BUG_NO_LOCKS,
  BUG_TORN_APPLY,
  BUG_FORGET_REPAIR,
  N_BUGS
} SimBug;

extern const char *const sim_bug_names[N_BUGS];

typedef guint64 SimTxId; /* its bits: router, its incarnation, count */

typedef struct
{
  guint ref;
  guint64 old_value, new_value;
} SimUpdate;

typedef struct
{
  SimUpdate updates[SIM_UPDATES_MAX];
  guint n;
} SimChange;

/* Which generations a replica has applied. */
typedef struct
{
  guint64 bits[SIM_GENERATIONS_MAX / 64];
} SimApplied;

typedef enum
{
  M_WRITE,       /* client -> router: key, change; answered M_DONE */
  M_READ,        /* client -> router; answered M_DONE with refs */
  M_DONE,        /* code, generation */
  M_ROW,         /* router -> store; answered M_ROW_IS */
  M_ROW_IS,      /* generation, replicas */
  M_BY_CALL,     /* router -> store: key; answered M_TX_IS */
  M_DECIDE,      /* router -> store: txid, key, change, generation (expected), nodes (voters); answered M_DECIDE_IS */
  M_DECIDE_IS,   /* code, generation */
  M_TX_ABORT,    /* anybody -> store: txid; answered M_TX_IS */
  M_TX_IS,       /* decided (generation, nodes: its voters) or not */
  M_REPLICA_SET, /* router -> store: node, generation, force */
  M_STAGE,       /* router -> node: txid, change; answered M_STAGED */
  M_STAGED,      /* code, digest */
  M_COMMIT,      /* router -> node: txid, change, generation; answered M_COMMITTED */
  M_COMMITTED,   /* code */
  M_DROP,        /* router -> node: txid */
  M_FETCH,       /* router -> node: generation (floor); answered M_REFS */
  M_SNAPSHOT,    /* node -> node; answered M_REFS */
  M_REFS,        /* code, refs, applied */
  M_REPAIR,      /* router -> node: node (source); answered M_REPAIRED */
  M_REPAIRED,    /* code, generation */
  M_RESET        /* the connection broke: whatever it owed is lost */
} SimType;

typedef struct
{
  SimType type;
  guint from, to;
  guint64 call; /* of who asks; echoed in the answer */
  SimTxId txid;
  guint64 key;
  int code;
  guint generation;
  guint node;
  guint nodes; /* a bit for each */
  gboolean decided, force;
  guint64 digest;
  SimChange change;
  guint64 refs[SIM_REFS];
  guint replicas[SIM_NODES_MAX];
  SimApplied applied;
} SimMessage;

/* ------------------------------------------------------------------------------------------ actors */

#define STORE 0u

typedef struct
{
  gboolean up;
  guint incarnation;   /* timers of an earlier one never fire */
  gint64 paused_until; /* what is meant for it waits */
} SimActor;

typedef struct
{
  SimTxId txid;
  guint64 key;
  SimChange change;
  guint voters;
  gint64 at;
} SimLogged;

typedef struct
{
  guint generation;
  guint replicas[SIM_NODES_MAX];
  SimLogged log[SIM_GENERATIONS_MAX]; /* by generation, from 1 */
  GHashTable *aborted;                /* of SimTxId */
} SimStore;

typedef enum
{
  TX_FREE,
  TX_WAITING,   /* for locks of others; in memory only */
  TX_PREPARING, /* has locks; its record is being made durable */
  TX_STAGED,    /* in the journal */
  TX_PUBLISHED  /* refs are new, the stamp is not: journalled, in hand */
} SimTxState;

#define SIM_TXS_MAX 24

typedef struct
{
  SimTxState state;
  SimTxId txid;
  SimChange change;
  guint generation; /* of its decision, once known */
  guint asker;
  guint64 call;  /* to be answered: the stage, then the commit */
  guint serial;  /* timers are for one of them */
  gboolean redo; /* it was published before a crash */
} SimTx;

typedef struct
{
  /* durable */
  guint64 refs[SIM_REFS];
  SimApplied applied;
  SimTx txs[SIM_TXS_MAX]; /* TX_STAGED and TX_PUBLISHED survive a crash */
  /* not durable */
  guint serial;
  guint64 repair_call;
  guint repair_asker;
} SimNode;

typedef struct SimRouter SimRouter;

typedef enum
{
  OP_READ,
  OP_WRITE
} SimOpKind;

typedef enum
{
  OP_OPEN,
  OP_OK,
  OP_FAILED,
  OP_UNKNOWN
} SimOpEnd;

/* What a client did, as it saw it. */
typedef struct
{
  SimOpKind kind;
  SimOpEnd end;
  gint64 start, stop;
  guint64 key;
  SimChange change;
  guint64 refs[SIM_REFS];
  guint generation;
  guint client, attempts;
  gboolean ambiguous; /* an attempt was made whose end is not known */
} SimOp;

typedef struct
{
  SimOp ops[SIM_OPS_MAX];
  guint n_ops;
  guint64 call; /* under way */
  guint64 refs[SIM_REFS];
  gboolean knows; /* refs were read since the last failure */
  gboolean idle;
} SimClient;

/* ------------------------------------------------------------------------------------------- world */

typedef struct
{
  guint n_nodes, n_routers, n_clients, n_ops;
  guint min_copies, n_needed; /* n_needed: how many have a write before it is acknowledged */
  const char *consistency;
  gboolean crashes, pauses, partitions, repeats, slow_spikes, lost_answers, bad_votes;
  gint64 heal_at, end_at;
} SimSetup;

typedef struct SimEvent SimEvent;

typedef struct
{
  guint64 seed;
  SimBug bug;
  SimSetup setup;
  const GsConsistencyOps *ops;
  gpointer self;
  guint64 dice;
  gint64 now;
  SimEvent **heap;
  guint n_heap, heap_size;
  GPtrArray *spare; /* of SimEvent */
  guint64 n_events, next_seq, next_call, next_value, next_key;
  SimActor actors[SIM_ACTORS];
  gint64 cut_until[SIM_ACTORS][SIM_ACTORS];
  SimStore store;
  SimNode nodes[SIM_NODES_MAX];
  SimRouter *routers;
  SimClient clients[SIM_CLIENTS_MAX];
  GString *trace;  /* NULL: not wanted */
  char *violation; /* the first one */
} Sim;

/** A consistency plugin that routers run. */
typedef struct
{
  const char *name;
  const GsConsistencyOps *ops;
  gpointer self;
} SimPlugin;

#define SIM_DIRECT 0
#define SIM_PRIMARY 1
#define SIM_QUORUM 2

/* world.c */
/** @plugins: the three, in this order. */
Sim *sim_new (const SimPlugin *plugins, guint64 seed, SimBug bug, gboolean traced);
void sim_free (Sim *sim);
/** Plays the whole history and checks it. FALSE with sim->violation when it breaks a promise. */
gboolean sim_run (Sim *sim);
void sim_violation (Sim *sim, const char *format, ...) G_GNUC_PRINTF (2, 3);
void sim_trace (Sim *sim, const char *format, ...) G_GNUC_PRINTF (2, 3);

guint64 sim_random (Sim *sim);
/** From @low to @high, both possible. */
gint64 sim_between (Sim *sim, gint64 low, gint64 high);
gboolean sim_chance (Sim *sim, double probability);

static inline guint
actor_node (guint node)
{
  return 1 + node;
}

static inline guint
actor_router (guint router)
{
  return 1 + SIM_NODES_MAX + router;
}

static inline guint
actor_client (guint client)
{
  return 1 + SIM_NODES_MAX + SIM_ROUTERS_MAX + client;
}

/** Puts @message into the network; @message->from and ->to are set. Copies it. */
void sim_send (Sim *sim, const SimMessage *message);
/** Answers @question with @answer, whose type and content are set. */
void sim_answer (Sim *sim, const SimMessage *question, SimMessage *answer);
/** Calls the actor's timer function with @what and @arg after @delay_us, unless it crashes before. */
void sim_timer (Sim *sim, guint actor, gint64 delay_us, guint what, guint64 arg);
/** A new id for a call. */
guint64 sim_call (Sim *sim);

static inline gboolean
applied_has (const SimApplied *applied, guint generation)
{
  return generation == 0 || (applied->bits[generation / 64] >> (generation % 64) & 1) != 0;
}

static inline void
applied_add (SimApplied *applied, guint generation)
{
  applied->bits[generation / 64] |= (guint64) 1 << (generation % 64);
}

/** The generation up to which nothing is missing. */
guint applied_up_to (const SimApplied *applied);

/* store.c */
void store_message (Sim *sim, const SimMessage *message);
gboolean store_is_aborted (const SimStore *store, SimTxId txid);
/** The generation that decided @txid, 0 when none did. */
guint store_decided (const SimStore *store, SimTxId txid);

/* node.c */
void node_message (Sim *sim, guint node, const SimMessage *message);
void node_timer (Sim *sim, guint node, guint what, guint64 arg);
void node_crash (Sim *sim, guint node);
void node_start (Sim *sim, guint node);
/** Has it the write on its disk, applied or journalled? */
gboolean node_holds (const SimNode *node, SimTxId txid, guint generation);

/* router.c, read.c */
void routers_init (Sim *sim);
void routers_free (Sim *sim);
void router_message (Sim *sim, guint router, const SimMessage *message);
void router_timer (Sim *sim, guint router, guint what, guint64 arg);
void router_crash (Sim *sim, guint router);
void router_start (Sim *sim, guint router);

/* client.c */
void client_message (Sim *sim, guint client, const SimMessage *message);
void client_timer (Sim *sim, guint client, guint what, guint64 arg);
void client_start (Sim *sim, guint client);
/** Has every client had an answer to everything, or given up? */
gboolean clients_done (const Sim *sim);

/* check.c */
/** All is quiet and equal? Says what is not in *@ret_why (borrowed until the next call) when it is not NULL. */
gboolean check_settled (Sim *sim, const char **ret_why);
/** The clients' histories against each other and against the store's log. */
void check_history (Sim *sim);

#endif
