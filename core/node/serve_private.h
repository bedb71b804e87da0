/* SPDX-License-Identifier: Apache-2.0 */
/* serve_private.h - what the files of the node's service share. */
#ifndef GSI_NODE_SERVE_PRIVATE_H
#define GSI_NODE_SERVE_PRIVATE_H

#include "gitstead/v1/node.pb-c.h"
#include "node/names.h"
#include "node/serve.h"

#include <gitstead/thread.h>

/* Writes that routers may have staged here at once. */
#define GSI_SERVE_STAGED_MAX 16384
/* Entries and bytes that a reply holds before the stream is asked for. */
#define GSI_SERVE_REPLY_BYTES (600 * 1024)
/* One message of a stream: the largest is a vote. */
#define GSI_SERVE_FRAME_MAX (64u << 20)
#define GSI_SERVE_UPDATES_MAX 1000000

typedef enum
{
  STAGED_STAGING, /* a call works on it */
  STAGED_WAITING, /* its fate is awaited */
  STAGED_ORDERED, /* a push whose fate is known: its own call carries it out */
  STAGED_WORKING  /* a call commits or aborts it */
} StagedState;

/** A write in a router's hand. Under the lock but for what its state gives to one call. */
typedef struct
{
  GsTxId txid, session;
  const GsiStorage *storage;
  guint64 repository_id;
  char *replica_path;
  StagedState state;
  gboolean push;
  gpointer txn;
  gint64 silent_us; /* since when nobody is known to want it; 0 = its router is there */
  gboolean broken;  /* the conversation with its router is over … */
  GsTxId router;    /* … which had this session */
  /* the order */
  gboolean commit;
  GsDecision decision;
  GError *why;
} Staged;

struct GsiServe
{
  GsiServeConfig config;
  GsMutex lock;
  GsCond changed;
  GHashTable *staged;   /* Staged -> itself, owned; by txid and storage */
  GHashTable *refused;  /* name of a storage -> why nobody may use it */
  GHashTable *sessions; /* GsTxId -> gint64: when it was last heard of */
  GsThread watch;
  gboolean watching, stopping;
};

/** A call's target, checked, with the original caller as the call's identity until it is left. */
typedef struct
{
  GsiCall *call;
  const GsiStorage *storage;
  GsRepo repo;
  char *path;
  GsIdentity identity;
  const GsIdentity *outer;
  const char *outer_peer;
} Inside;

/** FALSE with NOT_FOUND or INVALID_ARGUMENT. Leave it in any case. */
gboolean gsi_serve_enter (GsiServe *serve, GsiCall *call, const Gitstead__V1__NodeTarget *target, Inside *ret_inside,
                          GError **error);
void gsi_serve_leave (Inside *inside);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Inside, gsi_serve_leave)

/** FALSE with UNIMPLEMENTED unless @slot is there. */
gboolean gsi_serve_has (const Inside *inside, gboolean slot, const char *what, GError **error);

/* ---- bytes and messages */

ProtobufCBinaryData gsi_serve_bytes (gconstpointer data, gsize len);
gboolean gsi_serve_txid (const ProtobufCBinaryData *data, const char *field, GsTxId *ret_txid, GError **error);
gboolean gsi_serve_oid (const ProtobufCBinaryData *data, const char *field, GsOid *ret_oid, GError **error);
/** A C string, "" for no bytes. *full*, NULL with @error. */
char *gsi_serve_text (const ProtobufCBinaryData *data, const char *field, GError **error);

/** Messages one after another on a call's output. */
typedef struct
{
  GsiCall *call;
  int fd;
  GByteArray *buffer;
  gboolean failed;
  GError *why;
} Outflow;

void gsi_serve_out_open (Outflow *ret_out, GsiCall *call);
/** FALSE once something failed; close tells what. */
gboolean gsi_serve_out_message (Outflow *out, const ProtobufCMessage *message);
/** The same with one that is encoded already. */
gboolean gsi_serve_out_encoded (Outflow *out, GBytes *message);
gboolean gsi_serve_out_bytes (Outflow *out, gconstpointer data, gsize len);
gboolean gsi_serve_out_close (Outflow *out, GError **error);

/** All of @len bytes of a call's input; @head_off counts what was taken of the stream's head. */
typedef struct
{
  GsiCall *call;
  gsize head_off;
  int fd; /* -1 until it is opened */
} Inflow;

gboolean gsi_serve_in_exactly (Inflow *in, guint8 *to, gsize len, GError **error);
/** To the end, at most @max bytes. *full*. */
GBytes *gsi_serve_in_all (Inflow *in, gsize max, GError **error);
void gsi_serve_in_close (Inflow *in);

/** Writes all of it, heeding the call's cancel and deadline. */
gboolean gsi_serve_write_all (GsCall *call, int fd, const guint8 *data, gsize len, GError **error);

/* ---- writes (serve_write.c, serve_push.c) */

gboolean gsi_serve_stage (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_stage_small (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_stage_push (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_settle (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_pending (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_resolve (gpointer serve, GsiCall *call, GError **error);

/** Takes a place for a write. NULL with BUSY or ALREADY_EXISTS. */
Staged *gsi_serve_staged_new (GsiServe *serve, const Inside *inside, const GsTxId *txid, const GsTxId *session,
                              gboolean push, GError **error);
/** Its place is free again. */
void gsi_serve_staged_drop (GsiServe *serve, Staged *staged);
/** Records in the metadata store how far a replica says it is. */
void gsi_serve_record (GsiServe *serve, const GsiStorage *storage, guint64 repository_id, const char *replica_path);
/** Commits or aborts by the order in it, on @call. Its place is free afterwards. */
gboolean gsi_serve_staged_carry_out (GsiServe *serve, Staged *staged, GsCall *call, GError **error);
/**
 * What the metadata store says of a write whose router is silent becomes its order. FALSE: it cannot be told yet;
 * @for_good: an undecided one is marked aborted.
 */
gboolean gsi_serve_staged_ask (GsiServe *serve, Staged *staged, gboolean for_good);
/** Commits or aborts, or looks after, what sessions that went silent have staged. From the watch's thread. */
void gsi_serve_sweep (GsiServe *serve, gboolean all);

/** A call of the node's own: no deadline, never cancelled. */
void gsi_serve_own_call (GsCall *ret_call, GsIdentity *ret_identity);

typedef struct
{
  Gitstead__V1__NodeVote message;
  GPtrArray *updates, *verdicts;
} VoteMessage;

/** Borrows from @vote. Cleared by gsi_serve_vote_clear. */
void gsi_serve_vote_message (const GsVote *vote, VoteMessage *ret_message);
void gsi_serve_vote_clear (VoteMessage *message);

/* ---- reads (serve_read.c) */

gboolean gsi_serve_create (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_remove (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_exists (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_list (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_measure (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_state (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_list_refs (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_stream_refs (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_find_ref (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_advertise (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_upload_pack (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_resolve_revision (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_read_object (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_stream_object (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_list_tree (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_query (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_compute (gpointer serve, GsiCall *call, GError **error);

/* ---- copies (serve_copy.c) */

#define GSI_SERVE_HAVES_MAX 20000

gboolean gsi_serve_export (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_import (gpointer serve, GsiCall *call, GError **error);
gboolean gsi_serve_scrub (gpointer serve, GsiCall *call, GError **error);

#endif
