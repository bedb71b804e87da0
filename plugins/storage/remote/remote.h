/* SPDX-License-Identifier: Apache-2.0 */
/**
 * remote.h - the inside of storage/remote: every slot of a storage as a call to the node that exports it.
 *
 * Several control connections to one node, a thread that says at every interval that we are there (and sees whether the
 * node is), and a thread that breaks off streams whose call was cancelled or whose node is gone. A node that is known to
 * be away fails calls at once; whatever was under way with it ends within a tick.
 */
#ifndef STORAGE_REMOTE_H
#define STORAGE_REMOTE_H

#include <gitstead/storage.h>
#include <gitstead/thread.h>
#include <gitstead-client.h>

#include "gitstead/v1/node.pb-c.h"

/* Optional slots of the storage behind, as Node/Session tells them. */
#define SLOT_PUSH (1u << 0)
#define SLOT_ADVERTISE (1u << 1)
#define SLOT_UPLOAD_PACK (1u << 2)
#define SLOT_RESOLVE (1u << 3)
#define SLOT_READ (1u << 4)
#define SLOT_STREAM (1u << 5)
#define SLOT_TREE (1u << 6)
#define SLOT_QUERY (1u << 7)
#define SLOT_COMPUTE (1u << 8)
#define SLOT_EXPORT (1u << 9)
#define SLOT_IMPORT (1u << 10)
#define SLOT_SCRUB (1u << 11)

#define CONNECTIONS_MAX 16
/* One message in a stream: the largest is a vote on very many refs. */
#define FRAME_MAX (64u << 20)
#define ARENA_BYTES (256u << 20)

/* Versions of what is said between routers and nodes; core/node/serve.h has the same two, and says when they are raised. */
#define REMOTE_PROTOCOL 1u
#define REMOTE_PROTOCOL_OLDEST 1u

typedef struct
{
  const GsHost *host;
  char *url, *storage; /* there */
  guint n_connections;
  gint64 probe_interval_us, probe_timeout_us, call_timeout_us;
  GsClientOptions options; /* its texts are ours */
  char *token, *tls_ca, *tls_certificate, *tls_key, *tls_server_name;
  GsClient *clients[CONNECTIONS_MAX];
  guint next; /* atomic */
  GsTxId session;
  GsMetric *up_gauge;

  GsMutex lock;
  GsCond changed;
  gboolean down;       /* known to be away */
  guint64 falls;       /* how often it went away; atomic too */
  gboolean suspect;    /* look at once */
  gboolean stopping;
  char *why;           /* it is down */
  char *program;       /* what the node runs, as it said last */
  guint32 slots;
  gboolean known;      /* the node has said what it has */
  GPtrArray *streams;  /* of Flow: under way */
  GsThread prober, watcher;
  gboolean probes, watches;
} Remote;

/** A stream to the node under way, known to the watcher. */
typedef struct
{
  Remote *self;
  GsCall *call; /* NULL: of none any more; under the lock */
  GsClientStream *stream;
  guint64 falls; /* when it began */
  gint64 until_us; /* when it is broken off, whatever its call says; under the lock */
  gboolean broken_off; /* by the watcher; under the lock */
  GBytes *reply; /* once finished */
} Flow;

/* ------------------------------------------------------------------------------------------ session.c */

gboolean remote_begin (Remote *self, GError **error);
void remote_end (Remote *self);
/** FALSE with UNAVAILABLE while the node is known to be away. */
gboolean remote_there (Remote *self, GError **error);
/** A call got no answer: look at the node at once, and take it for away until it answers. */
void remote_lost (Remote *self, const char *why);

/* --------------------------------------------------------------------------------------------- call.c */

/** Repeat it once when the connection broke: it reads. */
#define CALL_AGAIN (1u << 0)
/** Whatever became of the caller: the write is decided. */
#define CALL_FATE (1u << 1)

gboolean remote_call (Remote *self, GsCall *call, guint32 method, const ProtobufCMessage *request, guint flags,
                      const ProtobufCMessageDescriptor *reply_type, GsArena *arena, gpointer ret_reply, GError **error);
Flow *flow_open (Remote *self, GsCall *call, guint32 method, const ProtobufCMessage *request, GError **error);
/** Up to @len bytes; 0 at the end, -1 with @error. */
gssize flow_read (Flow *flow, gpointer buffer, gsize len, GError **error);
/** Exactly @len bytes. */
gboolean flow_read_all (Flow *flow, gpointer buffer, gsize len, GError **error);
gboolean flow_write (Flow *flow, gconstpointer bytes, gsize len, GError **error);
/** The next message of a listing; *@ret_message NULL at the end. */
gboolean flow_message (Flow *flow, const ProtobufCMessageDescriptor *type, GsArena *arena, gpointer ret_message,
                       GError **error);
/** How the call ended. The reply is in flow->reply. */
gboolean flow_finish (Flow *flow, GError **error);
/** From here on it belongs to no call: only the loss of the node breaks it off, or the end of its own time. */
void flow_detach (Flow *flow);
/** Its end is due within the time that calls without a deadline have: a node whose disk hangs answers probes all the same. */
void flow_limit (Flow *flow);
/** Breaks off what is not finished. NULL is fine. */
void flow_free (Flow *flow);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Flow, flow_free)

/** Carries what the caller of @stream sends to the node, on a thread of its own. */
typedef struct
{
  Flow *flow;
  GsStream *stream;
  int fd, wake;
  GsThread thread;
  gboolean running;
} Carrier;

gboolean carrier_begin (Carrier *carrier, Flow *flow, GsStream *stream, GError **error);
/** Ends it whether its input has ended or not. */
void carrier_end (Carrier *carrier);
/** Everything the node sends to @stream's output. */
gboolean flow_to_stream (Flow *flow, GsStream *stream, GError **error);
gboolean write_fd (GsCall *call, int fd, const guint8 *bytes, gsize len, GError **error);

/** Borrows from its arguments. @repo NULL: none. */
void remote_target (Remote *self, GsCall *call, const GsRepo *repo, Gitstead__V1__NodeTarget *ret_target);
ProtobufCBinaryData remote_bytes (gconstpointer data, gsize len);
ProtobufCBinaryData remote_text (const char *text);
ProtobufCBinaryData remote_oid (const GsOid *oid);
/** FALSE with INTERNAL: the node's answer makes no sense. */
gboolean remote_read_oid (Remote *self, const ProtobufCBinaryData *data, GsOid *ret_oid, GError **error);
gboolean remote_read_exactly (Remote *self, const ProtobufCBinaryData *data, gpointer to, gsize len, GError **error);
/** A C string, or NULL with INTERNAL. *full*. */
char *remote_read_text (Remote *self, const ProtobufCBinaryData *data, GError **error);

/* --------------------------------------------------------------------------------------------- slots */

extern const GsStorageOps remote_ops;

gboolean remote_create (gpointer self, GsCall *call, const GsRepo *repo, const GsRepoSpec *spec, GError **error);
gboolean remote_remove (gpointer self, GsCall *call, const GsRepo *repo, GError **error);
gboolean remote_exists (gpointer self, GsCall *call, const GsRepo *repo, gboolean *ret_exists, GError **error);
gboolean remote_list (gpointer self, GsCall *call, GsRepoVisit visit, gpointer user, GError **error);
gboolean remote_measure (gpointer self, GsCall *call, const GsRepo *repo, GsRepoSize *ret_size, GError **error);
gboolean remote_state (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error);
gboolean remote_list_refs (gpointer self, GsCall *call, const GsRepo *repo, const GsRefQuery *query, GsRefVisit visit,
                           gpointer user, GError **error);
gboolean remote_find_ref (gpointer self, GsCall *call, const GsRepo *repo, const char *name, GsRefVisit visit,
                          gpointer user, GError **error);
gboolean remote_advertise (gpointer self, GsCall *call, const GsRepo *repo, guint32 service, const char *protocol,
                           GBytes **ret_bytes, GError **error);
gboolean remote_upload_pack (gpointer self, GsCall *call, const GsRepo *repo, const char *protocol, gboolean stateless,
                             GsStream *stream, GError **error);
gboolean remote_resolve_revision (gpointer self, GsCall *call, const GsRepo *repo, const char *revision,
                                  gsize revision_len, GsObject *ret_object, GError **error);
gboolean remote_read_object (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *oid, guint64 max_bytes,
                             GsObject *ret_object, GBytes **ret_bytes, GError **error);
gboolean remote_stream_object (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *oid, GsStream *stream,
                               GError **error);
gboolean remote_list_tree (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *tree, GsTreeVisit visit,
                           gpointer user, GError **error);
gboolean remote_query (gpointer self, GsCall *call, const GsRepo *repo, const GsQuery *query, GBytes **ret_reply,
                       GError **error);

gboolean remote_stage (gpointer self, GsCall *call, const GsRepo *repo, const GsChangeSet *change, gpointer *ret_txn,
                       const GsVote **ret_vote, GError **error);
gboolean remote_stage_push (gpointer self, GsCall *call, const GsRepo *repo, const GsPush *push, GsStream *stream,
                            gpointer *ret_txn, const GsVote **ret_vote, GError **error);
gboolean remote_commit (gpointer self, GsCall *call, gpointer txn, const GsDecision *decision, GError **error);
void remote_abort (gpointer self, GsCall *call, gpointer txn, const GError *why);
gboolean remote_pending (gpointer self, GsCall *call, GsPendingVisit visit, gpointer user, GError **error);
gboolean remote_resolve (gpointer self, GsCall *call, const GsRepo *repo, const GsTxId *txid,
                         const GsDecision *decision, GError **error);
gboolean remote_compute (gpointer self, GsCall *call, const GsRepo *repo, const GsQuery *query,
                         GsComputed **ret_computed, GError **error);
void remote_computed_free (gpointer self, GsComputed *computed);

gboolean remote_export (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *haves, gsize n_haves,
                        GsStream *stream, GError **error);
gboolean remote_import (gpointer self, GsCall *call, const GsRepo *repo, guint32 flags, GsStream *stream,
                        GsReplicaState *ret_state, GError **error);
gboolean remote_scrub (gpointer self, GsCall *call, const GsRepo *repo, guint64 bytes_per_second, GError **error);

/** FALSE with UNIMPLEMENTED when the storage behind is known not to have the slot. */
gboolean remote_has_slot (Remote *self, guint32 slot, const char *what, GError **error);

/** A write that the node holds for us. */
typedef struct
{
  GsTxId txid;
  guint64 repository_id;
  char *replica_path;
  GsArena *arena; /* the vote's message */
  GsVote vote;
  GsRefUpdate *updates;
  GsRefVerdict *verdicts;
  GPtrArray *texts;
  /* of a push */
  Flow *flow;
  GsStream *stream; /* NULL once the client is gone */
  int output; /* the client's; -1 until there is something to say, or for good */
  gboolean ended; /* the node has nothing more to say */
} Txn;

Txn *txn_new (const GsTxId *txid, const GsRepo *repo);
void txn_free (Txn *txn);
/** The node's vote. */
gboolean txn_take_vote (Remote *self, Txn *txn, const Gitstead__V1__NodeVote *message, GError **error);
/** A node that was to stage a write drops what it may have staged of it. Errors are of no use to anybody. */
void remote_forget (Remote *self, GsCall *call, const GsRepo *repo, const GsTxId *txid);
/** Passes git's answers on: up to the node's vote, or, @to_end, until the call ends. Its outcome then. */
gboolean push_relay (Remote *self, Txn *txn, GsCall *call, GsStream *stream, gboolean to_end, GError **error);

#endif
