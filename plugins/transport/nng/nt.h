/* SPDX-License-Identifier: Apache-2.0 */
/**
 * nt.h - inside of transport/nng: what its files share.
 *
 * plugin.c  options, start, stop, the reaper     net.c   addresses and our own sockets
 * conn.c    one control connection (SP framing)  tls.c   GnuTLS in memory and over sockets
 * call.c    envelopes in, replies out            auth.c  credentials, signatures, nonces
 * data.c    data listeners and tickets           stream.c, pump.c  one stream and its bytes
 *
 * Threads: nng's callbacks, the host's workers, the reaper, the data thread and one per active stream.
 * Locks are leaves, except that nothing of nng or GnuTLS calls back into a lock holder.
 */
#ifndef NT_H
#define NT_H

#include <gitstead/thread.h>
#include <gitstead/transport.h>
#include <gnutls/gnutls.h>
#include <nng/nng.h>
#include <wire/frame.h>
#include <wire/wire.h>

#include "gitstead/v1/envelope.pb-c.h"

typedef struct Nt Nt;
typedef struct NtListener NtListener;
typedef struct NtConn NtConn;
typedef struct NtCall NtCall;
typedef struct NtStream NtStream;
typedef struct NtData NtData;
typedef struct NtDataListener NtDataListener;
typedef struct NtNonces NtNonces;
typedef struct NtTlsCreds NtTlsCreds;

/* --------------------------------------------------------------------------------------- net.c */

typedef enum
{
  NT_TCP,
  NT_TLS,
  NT_IPC
} NtScheme;

/** "tcp://host:port", "tls+tcp://host:port" or "ipc:///path", taken apart. */
typedef struct
{
  NtScheme scheme;
  char *host; /* "" = any address; without brackets */
  guint port;
  char *path;
} NtUrl;

NtUrl *nt_url_parse (const char *text, GError **error);
void nt_url_free (NtUrl *url);
/** With @port in place of the URL's; @host_too FALSE leaves the host empty. *full*. */
char *nt_url_text (const NtUrl *url, guint port, gboolean host_too);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (NtUrl, nt_url_free)

/** Who is at the other end of a connection. */
typedef struct
{
  NtScheme scheme;
  gboolean loopback;
  guint32 uid;        /* IPC */
  guint8 address[16]; /* TCP, TLS: the address, v4 mapped */
  char text[96];      /* "nng tcp 127.0.0.1:5123", for logs */
} NtPeer;

void nt_peer_from_nng (NtPeer *ret_peer, NtScheme scheme, nng_stream *stream);
void nt_peer_from_socket (NtPeer *ret_peer, NtScheme scheme, int fd);
/** May what @control asked for be fetched by @data? */
gboolean nt_peer_same (const NtPeer *control, const NtPeer *data);

/** A listening socket of our own: non-blocking, close-on-exec. -1 with @error. */
int nt_listen (const NtUrl *url, guint ipc_mode, guint *ret_port, GError **error);
/** Sets what a connected data socket needs. */
void nt_tune_socket (int fd, NtScheme scheme, gint64 idle_us);

/* --------------------------------------------------------------------------------------- tls.c */

/** NULL with @error when a file is missing or wrong. @client_ca may be NULL: then clients need no certificate. */
NtTlsCreds *nt_tls_creds_new (const char *certificate, const char *key, const char *client_ca, GError **error);
void nt_tls_creds_unref (NtTlsCreds *creds);
/** A server session without a transport, with the instance's present credentials; NULL when memory is out. */
gnutls_session_t nt_tls_session_new (Nt *nt);
/** NULL is fine. */
void nt_tls_session_free (gnutls_session_t session);
/** The verified client certificate's common name, or its first DNS name; NULL when none was shown. *full*. */
char *nt_tls_peer_name (gnutls_session_t session);
/** What is wrong with the certificate of a client whose handshake failed with @rv. *full*, NULL when it is something else. */
char *nt_tls_refusal (gnutls_session_t session, int rv);

/* -------------------------------------------------------------------------------------- auth.c */

/** At most @limit within a minute; @seed is random. */
NtNonces *nt_nonces_new (gsize limit, const guint8 seed[16]);
void nt_nonces_free (NtNonces *nonces);

#define NT_NONCE_SIZE (GS_FRAME_NONCE_SIZE + 12) /* nonce and key id */

typedef enum
{
  NT_NONCE_NEW,
  NT_NONCE_SEEN,
  NT_NONCE_FULL
} NtNonceVerdict;

/** Remembers a nonce for as long as its time can be within the window. */
NtNonceVerdict nt_nonces_add (NtNonces *nonces, const guint8 nonce[NT_NONCE_SIZE], gint64 now_us);
/** Forgets one whose signature turned out wrong, so that strangers cannot fill the memory. */
void nt_nonces_remove (NtNonces *nonces, const guint8 nonce[NT_NONCE_SIZE]);

/** What nt_auth found; the credentials point into it, the header and the connection. */
typedef struct
{
  GsCredentials credentials;
  GBytes *signed_data;
  gboolean has_nonce;
  guint8 nonce[NT_NONCE_SIZE];
} NtAuth;

/** FALSE with UNAUTHENTICATED, INVALID_ARGUMENT or BUSY. Clear @ret_auth with nt_auth_clear either way. */
gboolean nt_auth (NtConn *conn, const GsFrame *frame, const Gitstead__V1__RequestHeader *header, const GsTxId *call_id,
                  NtAuth *ret_auth, GError **error);
void nt_auth_clear (NtAuth *auth);

/* -------------------------------------------------------------------------------------- plugin.c */

typedef struct
{
  guint ipc_mode;
  gsize max_message;
  guint max_in_flight, max_connections, max_streams;
  gint64 handshake_us, message_us, write_us, idle_us, quiet_us, ticket_us;
  gboolean allow_plain_bearer;
} NtLimits;

struct NtListener
{
  Nt *nt;
  NtUrl *url;
  char *bound; /* the URL with the real port */
  nng_stream_listener *listener;
  nng_aio *aio;
  NtDataListener *data; /* where its streams go */
};

/** One instance. */
struct Nt
{
  const GsHost *host;
  NtLimits limits;
  char **listen, **data_listen;
  char *certificate, *key, *client_ca;
  GPtrArray *listeners; /* NtListener */
  NtNonces *nonces;
  NtData *data;
  guint64 epoch;
  gint draining; /* atomic */

  GsMutex lock;
  GsCond changed;
  NtTlsCreds *creds; /* of sessions from now on; NULL: there is no TLS address */
  NtConn *conns;    /* open ones, linked */
  guint n_conns;    /* not yet freed */
  guint n_calls;    /* between call_begin and the end of done */
  guint n_unsent;   /* replies made and not yet sent */
  guint n_streams;  /* streaming calls */
  GQueue to_close, to_free; /* NtConn: the reaper's */
  GQueue to_drop;           /* nng_stream: refused connections */
  gboolean quit;
  gboolean reaper_runs;
  GsThread reaper;

  GsMetric *connections, *requests, *bytes_in, *bytes_out, *rejected, *streams;
};

void nt_count (Nt *nt, GsMetric *metric, double n);
/** Takes a refused stream away, later. */
void nt_drop (Nt *nt, nng_stream *stream);

/* ---------------------------------------------------------------------------------------- conn.c */

#define NT_SMALL 1024

/** One control connection. Fields above @lock never change once it is open. */
struct NtConn
{
  gint refs;
  Nt *nt;
  NtDataListener *data; /* where its streams go */
  nng_stream *stream;
  nng_aio *rx_aio, *tx_aio;
  NtPeer peer;
  gint64 opened_us;
  gboolean proven; /* atomic: a call on it had good credentials */
  NtConn *next, *prev; /* under nt->lock */
  char *certificate;   /* set once, before the first request */

  GsMutex lock;
  gboolean closed, greeted, hello_sent, receiving, sending, parsing, again;
  gint64 close_us; /* not 0: nothing more is taken, and then it is closed */
  guint8 *rx; /* small, or one of its own */
  gsize rx_off, rx_len, rx_cap;
  gint64 message_us; /* when the first byte of an unfinished message came; 0 = none */
  gint64 quiet_us;   /* since when it asks nothing: it greeted, or got its last reply */
  guint8 small[NT_SMALL];
  GQueue tx; /* GBytes */
  gsize tx_off; /* of the head that is sent */
  gint64 tx_deadline_us; /* 0 = nothing waits */
  GQueue calls; /* NtCall */
  guint in_flight; /* requests taken and not yet answered on the wire */

  gnutls_session_t tls; /* NULL on plain connections; everything below under @lock */
  gboolean tls_ready, tls_stuck;
  char *tls_refused; /* why its handshake failed, when that is about its certificate */
  guint8 *raw;
  gsize raw_off, raw_len;
  GByteArray *tls_out; /* encrypted, not yet handed to nng */
  GByteArray *tls_sending;
  guint tls_messages; /* replies inside tls_sending */
};

/** Takes @stream over. */
void nt_conn_open (NtListener *listener, nng_stream *stream);
NtConn *nt_conn_ref (NtConn *conn);
void nt_conn_unref (NtConn *conn);
/** Cancels its calls and hands it to the reaper. Any number of times, from any thread but under no lock. */
void nt_conn_close (NtConn *conn);
/** Its calls under way, with a reference each. *full*. */
GPtrArray *nt_conn_calls (NtConn *conn);
/** The reaper's: releases everything. */
void nt_conn_free (NtConn *conn);
/** Queues one framed message; takes @message. It ends one request in flight. */
void nt_conn_send (NtConn *conn, GBytes *message, gboolean close_after);

/* ---------------------------------------------------------------------------------------- call.c */

/** A request under way. */
struct NtCall
{
  gint refs;
  Nt *nt;
  NtConn *conn; /* counted; NULL once the reply is given. One thread at a time: the host's order of calls */
  GList link;   /* in conn->calls, while conn is set; under conn->lock */
  guint8 trace[GS_SP_TTL * 4];
  gsize trace_len;
  GsTxId call_id;
  gboolean has_nonce;
  guint8 nonce[NT_NONCE_SIZE];
  NtStream *stream; /* of a streaming method; counted until done */

  GsMutex lock;
  GsCond known;
  gboolean has_handle; /* call_begin has returned */
  GsCallHandle handle;
  gboolean cancelled, ready; /* asked for; passed on as soon as the handle is known */
};

/** Carries out the message @body (after SP's length). FALSE: close the connection. */
gboolean nt_request (NtConn *conn, const guint8 *body, gsize len);
/** Sends a reply. @header, @payload borrowed. */
void nt_reply (NtConn *conn, const guint8 *trace, gsize trace_len, const GsTxId *call_id, guint32 status,
               const char *message, GsRetry retry, gint64 retry_after_us, GBytes *payload, gboolean close_after);
/** Fills a reply header; the strings and bytes it points to are the arguments'. */
void nt_reply_header (Nt *nt, Gitstead__V1__ReplyHeader *ret_header, const GsTxId *call_id, const char *message,
                      GsRetry retry, gint64 retry_after_us);
/** What a header says of an error: decoded into *@ret_arena, which is the caller's to free. NULL for NULL. */
Gitstead__V1__ErrorDetails *nt_details (GsArena **ret_arena, GBytes *details);
NtCall *nt_call_ref (NtCall *call);
void nt_call_unref (NtCall *call);
/** The connection is done with this call: its end does not cancel it any more. */
void nt_call_detach (NtCall *call);
/** Cancels now, or as soon as the host has told the handle. */
void nt_call_cancel (NtCall *call);
/** Cancels, and returns only when the host was told. Waits for call_begin to return: not from within it. */
void nt_call_cancel_now (NtCall *call);
/** Tells the host that the stream's peer is there, now or as soon as the handle is known. */
void nt_call_ready (NtCall *call);

/* ------------------------------------------------------------------------------ data.c, stream.c */

/** Where streams connect. */
struct NtDataListener
{
  NtUrl *url;
  char *bound; /* for people */
  guint port;
  int fd;
  gboolean unlink;
};

NtData *nt_data_new (Nt *nt);
/** Listens and starts the thread. */
gboolean nt_data_start (NtData *data, GError **error);
/** Cancels every streaming call; a worker that sits in a full pipe is freed by the pipe's end soon after. */
void nt_data_cancel (NtData *data);
/** Ends every stream, then the thread. All calls must have ended. Harmless when not started. */
void nt_data_stop (NtData *data);
void nt_data_free (NtData *data);
/** The listener for streams of calls that came through @listener. */
NtDataListener *nt_data_listener_for (NtData *data, const NtListener *listener);
/** Makes @stream wait for its peer; takes a reference. FALSE when stopping. */
gboolean nt_data_expect (NtData *data, NtStream *stream);
/** A stream's thread has ended and waits to be joined. */
void nt_data_finished (NtData *data, NtStream *stream);

/** How a call ended, kept. */
typedef struct
{
  gboolean set;
  guint32 code;
  GsRetry retry;
  gint64 retry_after_us;
  char *message;
  GBytes *payload;
  guint64 generation;
  GBytes *details;
} NtEnd;

/** One streaming call: the host's GsStream, its ticket, and later its connection and thread. */
struct NtStream
{
  GsStream base;
  gint refs;
  Nt *nt;
  NtCall *call; /* counted */
  NtDataListener *listener;
  gboolean bytes_in, bytes_out;
  guint8 ticket[GS_STREAM_TICKET_SIZE];
  gint64 expires_us;
  NtPeer peer; /* of the control connection, then of the data connection */

  /* set before the thread starts */
  int fd;
  gnutls_session_t tls;
  GsThread thread;

  GsMutex lock;
  int wake; /* eventfd; the thread waits on it */
  gboolean accepted;
  gboolean broken;    /* the peer is gone: nothing opens any more */
  gboolean stopping;
  gboolean input_open, output_open;
  int input_w;  /* our end of the pipe; the thread takes it (-1) */
  int output_r;
  GBytes *all;
  NtEnd end;
};

NtStream *nt_stream_new (NtCall *call, NtDataListener *listener, const GsMethodInfo *info);
NtStream *nt_stream_ref (NtStream *stream);
void nt_stream_unref (NtStream *stream);
/** From done: TRUE when the trailer will tell the outcome, FALSE when the caller has to reply. */
gboolean nt_stream_done (NtStream *stream, const GsOutcome *outcome);
void nt_stream_wake (NtStream *stream);
/** The server goes down: end soon, whatever the peer does. */
void nt_stream_stop (NtStream *stream);
/** The thread of an active stream. */
void *nt_pump_run (void *stream);

#endif
