/* SPDX-License-Identifier: Apache-2.0 */
/** router.h - what the files of a router share: writes (router.c), reads and repair (read.c). */
#ifndef TESTS_SIM_ROUTER_H
#define TESTS_SIM_ROUTER_H

#include "sim.h"

#define WRITES_MAX 12
#define READS_MAX 8
#define CALLS_MAX 96
#define EVENTS_MAX 32

/* What a call was for, and with it what its answer or its loss means. */
typedef enum
{
  CALL_FREE,
  CALL_WRITE_BY_CALL, /* has this call id been decided already? */
  CALL_WRITE_ROW,
  CALL_WRITE_STAGE,
  CALL_WRITE_DECIDE,
  CALL_WRITE_REFRESH,  /* the generation moved on: the row again */
  CALL_WRITE_FIND_OUT, /* the store did not say whether it decided */
  CALL_WRITE_COMMIT,
  CALL_WRITE_BEFORE_FAILURE, /* it failed; or did the same call succeed elsewhere? */
  CALL_READ_ROW,
  CALL_READ_FETCH,
  CALL_REPAIR_ROW,
  CALL_REPAIR
} CallKind;

typedef struct
{
  CallKind kind;
  guint64 id;
  guint to;
  guint owner; /* write or read */
  guint part;
} Call;

typedef enum
{
  WRITE_FREE,
  WRITE_LOCATING,
  WRITE_RUNNING,
  WRITE_ENDED /* answered; late events are still told to the plugin */
} WriteState;

typedef struct
{
  WriteState state;
  SimMessage request;
  SimTxId txid;
  guint generation; /* of the row, then of the decision */
  guint voters, applied;
  guint n_open; /* calls under way */
  guint64 vote[SIM_NODES_MAX];
  GsParticipant views[SIM_NODES_MAX];
  gpointer txn;
  GsEvent events[EVENTS_MAX];
  guint8 digests[EVENTS_MAX][32];
  guint n_events;
  gboolean stepping, decided, acknowledged;
  int blame;   /* the first failure: it is nearer to the cause than what follows from it */
  guint timer; /* the newest timer of the plugin */
} Write;

typedef struct
{
  gboolean used;
  SimMessage request;
  guint tried, tries;
  guint generation;
} Read;

struct SimRouter
{
  Write writes[WRITES_MAX];
  Read reads[READS_MAX];
  Call calls[CALLS_MAX];
  guint count;
  gboolean looking; /* for what has to be repaired */
  gint64 sick_until[SIM_NODES_MAX];
};

enum
{
  T_CALL_OVER, /* the argument is the call's id */
  T_PLUGIN,    /* write and serial of the timer */
  T_FIND_OUT,  /* write */
  T_READ_AGAIN,
  T_REPAIR
};

/** Sends @message (->from is set here) and remembers what for. */
void router_ask (Sim *sim, guint router, SimMessage *message, gint64 timeout_us, CallKind kind, guint owner,
                 guint part);
void router_tell_client (Sim *sim, guint router, const SimMessage *request, int code, guint generation);

/* read.c; @answer NULL: the call was lost */
void read_begin (Sim *sim, guint router, const SimMessage *request);
void read_answer (Sim *sim, guint router, const Call *call, const SimMessage *answer);
void read_again (Sim *sim, guint router, guint64 read);
void repair_soon (Sim *sim, guint router);
void repair_round (Sim *sim, guint router);
void repair_answer (Sim *sim, guint router, const Call *call, const SimMessage *answer);

#endif
