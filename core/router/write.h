/* SPDX-License-Identifier: Apache-2.0 */
/**
 * write.h - one write on its way: stage, decide, apply, acknowledge, over any number of participants.
 *
 * One thread at a time runs the machine (write.c): it feeds events to the consistency plugin and carries its actions
 * out. With several participants, staging, committing and aborting are jobs on threads of their own (write_part.c),
 * whose results come back as events; a push's bytes are dealt out to all by one more (write_push.c). After the
 * acknowledgement the machine goes on in the background until the last participant has answered.
 */
#ifndef GSI_ROUTER_WRITE_H
#define GSI_ROUTER_WRITE_H

#include <gitstead/thread.h>

#include "router/settle.h"

typedef struct Write Write;
typedef struct Tee Tee;

/** The stream of a caller, for a participant that may outlive the call: cut off, it can be opened no more. */
typedef struct
{
  GsStream stream; /* first */
  GsMutex lock;
  GsCond unused;
  guint n_users;
  GsStream *outer; /* NULL once cut */
} Leash;

typedef enum
{
  PART_IDLE,
  PART_STAGING,
  PART_STAGED,
  PART_COMMITTING,
  PART_ABORTING,
  PART_OVER
} PartState;

/** An assigned replica. */
typedef struct
{
  GsParticipant view;
  const GsiStorage *storage;
  /* the machine's */
  gboolean voter, applied;
  gboolean told;   /* the plugin had its answer to STAGE */
  gboolean unasked; /* another policy took over, and does not want it */
  gboolean nothing; /* it staged no update, and has told its client why; under the lock */
  gboolean behind; /* recorded as not having the write, though the decision names it */
  /* its own call: it may outlive the caller's */
  GsiCall call;    /* call.base first: what cancel_fd gets */
  Write *write;
  gsize index;
  int cancel_fd;      /* under the lock */
  PartState state;    /* under the lock */
  gboolean unwanted;  /* under the lock: what it stages is dropped at once */
  gpointer txn;       /* of whoever the state gives it to */
  const GsVote *vote;
  GError *why;        /* abort's; of its job */
} Part;

/** Whether the hooks let a write through. */
typedef enum
{
  HOOKS_OPEN, /* not known yet */
  HOOKS_PASSED,
  HOOKS_NOT_PASSED
} HooksFate;

typedef enum
{
  WRITE_RUNNING,
  WRITE_ACKNOWLEDGED,
  WRITE_FAILED
} WriteEnd;

struct Write
{
  GsiRouter *router;
  const GsiRouterConfig *config;
  GsiCall *call; /* NULL in the background */
  const GsiStorageGroup *vs;
  const GsiWriteBinding *binding; /* NULL: the storage computes the change set itself */
  GsComputed *computed;           /* that change set */
  const GsiStorage *computer;
  GsiRow *row;
  char *path, *replica_path; /* the row may be read anew while jobs use these */
  guint64 id;
  GsTxId txid;
  GsIdentity identity; /* copies, for the participants' calls */
  char *identity_name, *identity_prefix, *peer;
  Part **parts;
  gsize n_parts;
  GArray *actions; /* of GsAction, of one step */
  gpointer txn;    /* the consistency plugin's */
  GsDecision decision;
  guint8 vote[32];  /* what the voters agreed on */
  gboolean alone;   /* one participant: all happens on the caller's thread, with its call and its stream */
  gboolean open;    /* nobody knows whether it was decided: what is staged stays so until the store says it */
  gboolean left;    /* to a restart: its locks and its process are still there */
  gboolean begun;   /* bytes of the client's, or of another source, were used up */
  gsize asker;      /* who asks the repository's hooks: the first that stages */
  gboolean has_asker;
  GsiEvent *event; /* told when it is acknowledged, or at its end: it is decided */
  WriteEnd end;
  gint64 timer_us; /* 0 = none */
  Tee *tee;
  Leash *leash; /* of a push with one participant */

  GsMutex lock;
  GsCond changed;
  GArray *events; /* of Event, first to be fed first */
  guint n_jobs, n_staging;
  gboolean moved;   /* nothing was done: its replicas were moved away, and others were written since */
  guint n_moved;
  gboolean overtaken; /* voters missed another write that was decided meanwhile */
  gboolean handed_over; /* to another policy, with what is staged: nobody is asked anew */
  guint n_staged, n_applied; /* the machine's: so many events of each there were */
  gboolean nothing; /* a participant staged no update: there is nothing to decide */
  HooksFate hooks;  /* what the one who asks them found */
  guint8 asked[32]; /* and the vote that it was about */
  GError *why;      /* the first reason: it is nearest to the cause */
};

/** Keeps the first reason. Takes over @why. */
void write_blame (Write *write, GError *why);
void write_event (Write *write, guint32 type, gsize participant, const guint8 *digest);
/** Another policy goes on with what is staged: its BEGIN is the next event. *full*: @txn is that of @group. */
void write_hand_over (Write *write, const GsiStorageGroup *group, gpointer txn);

/* ---- write_decide.c */

/** Asks the metadata store; DECIDED or REFUSED is the next event, or the write is left open. */
void write_decide (Write *write);
/**
 * Of an open write, behind its answer: asks on until the store says what became of it, which is the next event. FALSE:
 * the router stops before; the write is left to the next start.
 */
gboolean write_await_store (Write *write);

/* ---- write_part.c */

PartState write_part_state (Part *part);
/** The call that a participant's slots get; its own once the caller was answered. */
GsCall *write_part_call (Part *part);
gboolean write_parts_setup (Write *write, GError **error);
/** The caller has its answer: participants no longer reach it, nor its call. */
void write_unleash (Write *write);
/** The plugin's transaction, for its participants as they are seen now. */
gpointer write_txn_new (Write *write, GError **error);
void write_parts_free (Write *write);
/** The participants of one step that are to stage. */
void write_stage (Write *write, const gsize *indexes, gsize n);
void write_apply (Write *write, gsize index);
void write_abort (Write *write, gsize index);
/** Every job under way is asked to stop. */
void write_cancel_parts (Write *write, gboolean staging_only);
void write_cancel_part (Write *write, gsize index);

/* ---- write_push.c */

/** Deals the client's bytes of a push out to the participants @indexes. FALSE with BUSY. */
gboolean tee_begin (Write *write, const gsize *indexes, gsize n, GError **error);
/** The stream that a participant gets. */
GsStream *tee_stream (Tee *tee, gsize index);
/** A participant has nothing more to say or hear. */
void tee_part_over (Tee *tee, gsize index);
/** The same of one that is left as it is, with its ends of the conversation in its hands. */
void tee_part_left (Tee *tee, gsize index);
/** The client hears nothing more: nobody knows how it ended. */
void tee_cut_client (Tee *tee);
/** The client may hear how it ended: from a participant that @preferred says is the one, or from any that told. */
void tee_release (Tee *tee, gsize preferred, gboolean any);
/** Until the client has heard it; its stream is not touched any more. */
void tee_wait_client (Tee *tee);
/** Did the client hear from a participant, to the end of its report, that its push is refused? After tee_wait_client. */
gboolean tee_told (Tee *tee);
/** After every participant is over. NULL is fine. */
void tee_free (Tee *tee);

#endif
