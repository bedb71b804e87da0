/* SPDX-License-Identifier: Apache-2.0 */
/**
 * gitstead-client.h - libgitstead: calls to a Gitstead server from C.
 *
 *   g_autoptr (GsClient) client = gs_client_new (&(GsClientOptions) { sizeof (GsClientOptions), .url = url }, &error);
 *   g_autoptr (GsArena) arena = gs_arena_new (GS_CLIENT_ARENA);
 *   Gitstead__V1__PingRequest ping = GITSTEAD__V1__PING_REQUEST__INIT;
 *   ProtobufCMessage *reply;
 *   if (!gs_client_call (client, "Server/Ping", &ping.base, NULL, arena, &reply, &error)) …
 *
 * gitstead-calls.h has each call as a function of its own types; gs_details (wire/details.h) tells what an error is about.
 *
 * One client is one server (or one virtual address). Any number of threads may call at once; their calls
 * share one connection, which is made on the first call and made anew when it broke. Bulk bytes travel on
 * connections of their own (gs_client_stream_open).
 *
 * Errors are in GS_ERROR with the wire's status codes. What the transport adds: UNAVAILABLE when the call
 * surely never reached the server, UNKNOWN when it may have been carried out, DEADLINE_EXCEEDED when time
 * was up. A call that may be repeated is, with the same call id, as long as its time lasts; the server runs
 * it once. So an UNKNOWN that reaches the caller means: repeat it yourself with the same call id
 * (GsClientCall.call_id), or look at the state.
 */
#ifndef GITSTEAD_CLIENT_H
#define GITSTEAD_CLIENT_H

#include <gitstead/types.h>
#include <wire/details.h>
#include <wire/methods.h>
#include <wire/wire.h>

G_BEGIN_DECLS

/** Enough for any reply: messages are at most 1 MiB on the wire. */
#define GS_CLIENT_ARENA (8 * 1024 * 1024)

/** How to reach a server and as whom. Strings are copied. Zero means the default. */
typedef struct
{
  guint32 size;
  const char *url;   /* "tcp://host:port", "tls+tcp://host:port", "ipc:///path" */
  /**
   * "gs_<id>_<secret>"; NULL = none (a unix socket shows the process's user id, TLS the client certificate).
   * Over plain tcp requests are signed and the token itself never travels; over TLS and unix sockets it is sent.
   */
  const char *token;
  gint64 timeout_us;         /* of a call with all its repeats; default 30 s */
  gint64 connect_timeout_us; /* of one attempt to connect; default 5 s */
  guint32 max_attempts;      /* tries of one call at most; default 10; 1 = never repeat */
  const char *tls_ca;          /* PEM file of trusted authorities; NULL = the system's */
  const char *tls_certificate; /* PEM file, for a server that asks for client certificates … */
  const char *tls_key;         /* … and its key */
  const char *tls_server_name; /* the name that the certificate must have; NULL = the URL's host */
  const char *agent;           /* for the server's log; default "libgitstead/VERSION" */
  /**
   * Hears of each failed try of a call after which another one is due (@attempt counts from 1), on the caller's thread and before
   * the pause between them: a program may say what it waits for. The other one is left out when the call's time is over before
   * it. @why is *borrowed until it returns*. It must not use the client. NULL = nobody listens.
   */
  void (*retrying) (gpointer user, guint32 attempt, const GError *why);
  gpointer retrying_user;
} GsClientOptions;

/** Wishes for one call, and what became of it. Everything zero but @size is fine. */
typedef struct
{
  guint32 size;
  gint64 timeout_us;    /* 0 = the client's */
  GsTxId call_id;       /* all zero = random; afterwards the one that was used */
  const char *trace;    /* W3C traceparent; NULL = none */
  /** Looked at every 50 ms while the call waits for its reply: TRUE gives it up with CANCELLED. It must not block. NULL = never. */
  gboolean (*stop) (gpointer user);
  gpointer stop_user;
  /* out */
  guint32 ret_attempts;     /* how often the request was sent or tried to */
  GsRetry ret_retry;        /* after a failure: the server's verdict, or the code's */
  gint64 ret_retry_after_us; /* the server's advice; 0 = none */
  guint64 ret_server_epoch; /* of the last reply; 0 = none came */
  /* in: of the target repository; the answer shows no older state, or is UNAVAILABLE. 0 = what is known now */
  guint64 generation;
  /* out, after a write without bulk bytes: the repository's generation with it; 0 = nothing was written */
  guint64 ret_generation;
} GsClientCall;

typedef struct GsClient GsClient;

#pragma GCC visibility push(default) /* of the library nothing else can be seen */

/**
 * Checks the options; connects nothing. NULL with INVALID_ARGUMENT. *full*, freed by gs_client_free.
 */
GsClient *gs_client_new (const GsClientOptions *options, GError **error);
/** No call may be under way. Closes the connection. NULL is fine. */
void gs_client_free (GsClient *client);
/** The table of methods, for names, numbers and message types. *borrowed until the client is freed*. */
const GsWireMethods *gs_client_methods (const GsClient *client);

/**
 * Calls @method ("Repository/Create", or its number in digits) and waits. @request must have the method's
 * request type. @call may be NULL. @ret_reply (which may be NULL) is *borrowed until @arena is freed*.
 */
gboolean gs_client_call (GsClient *client, const char *method, const ProtobufCMessage *request, GsClientCall *call,
                         GsArena *arena, ProtobufCMessage **ret_reply, GError **error);
/**
 * The same by number and with encoded messages, for methods this library does not know. @payload may be
 * NULL (empty). @ret_payload *full*, may be NULL.
 */
gboolean gs_client_call_raw (GsClient *client, guint32 method, GBytes *payload, GsClientCall *call,
                             GBytes **ret_payload, GError **error);

/* ---------------------------------------------------------------------------------------- streams */

/**
 * A call with bulk bytes. One thread may read while another writes; nothing else at once. Every wait ends
 * at the latest 60 s after the last byte moved in either direction.
 */
typedef struct GsClientStream GsClientStream;

/**
 * Begins a streaming method ("Git/UploadPack", …) and connects its stream. Failures before the first byte
 * come from here, and only of those @call tells; the stream's end gives its own. *full*, freed by gs_client_stream_free.
 */
GsClientStream *gs_client_stream_open (GsClient *client, const char *method, const ProtobufCMessage *request,
                                       GsClientCall *call, GError **error);
/** The same with an encoded request, by number. @payload may be NULL (empty). */
GsClientStream *gs_client_stream_open_raw (GsClient *client, guint32 method, GBytes *payload, GsClientCall *call,
                                           GError **error);
/** Up to @len bytes; 0 at the end of the server's bytes; -1 with @error. Blocks until there are some. */
gssize gs_client_stream_read (GsClientStream *stream, gpointer buffer, gsize len, GError **error);
/** All of @len bytes, or FALSE. Blocks while the server does not take them: read, or both wait for ever. */
gboolean gs_client_stream_write (GsClientStream *stream, gconstpointer bytes, gsize len, GError **error);
/** No more bytes from us. Reading goes on. */
gboolean gs_client_stream_end (GsClientStream *stream, GError **error);
/**
 * Ends our side when that was not done, reads away what is left and gives the call's outcome: only TRUE
 * means that the bytes were whole. @arena, @ret_reply as in gs_client_call; both may be NULL.
 */
gboolean gs_client_stream_finish (GsClientStream *stream, GsArena *arena, ProtobufCMessage **ret_reply,
                                  GError **error);
/** The same, the reply still encoded. @ret_payload *full*, may be NULL. */
gboolean gs_client_stream_finish_raw (GsClientStream *stream, GBytes **ret_payload, GError **error);
/** From any thread, while the stream is not freed: the call is cancelled, and whoever reads or writes fails at once. */
void gs_client_stream_cancel (GsClientStream *stream);
/** Without a finish before, the call is cancelled. NULL is fine. */
void gs_client_stream_free (GsClientStream *stream);

/* ----------------------------------------------------------------------------------------- helpers */

/** Where bulk bytes come from and go to. Begin with GS_CLIENT_BULK; of each direction one of the two counts, or none. */
typedef struct
{
  guint32 size;
  int from_fd; /* the bytes that are sent, up to its end; -1 = none, or from @read. Stays the caller's */
  int to_fd;   /* takes the bytes that are received; -1 = they are dropped, or go to @write. Stays the caller's */
  /** Up to @len bytes into @buffer; 0 at the end; -1 with @error gives the call up. On a thread of its own; it must not wait for ever. */
  gssize (*read) (gpointer user, gpointer buffer, gsize len, GError **error);
  /** Takes all of @bytes (*borrowed until it returns*), or FALSE with @error gives the call up. On the caller's thread. */
  gboolean (*write) (gpointer user, gconstpointer bytes, gsize len, GError **error);
  gpointer user;
} GsClientBulk;

#define GS_CLIENT_BULK { sizeof (GsClientBulk), -1, -1, NULL, NULL, NULL }

/**
 * A streaming call from its beginning to its end, both ways at once. Only TRUE means that the bytes were whole: after FALSE
 * throw away what came. @bulk may be NULL (nothing is sent, what comes is dropped); the others as in gs_client_call. What of
 * @bulk fails on this side is final: ret_retry is GS_RETRY_NEVER.
 */
gboolean gs_client_transfer (GsClient *client, const char *method, const ProtobufCMessage *request,
                             const GsClientBulk *bulk, GsClientCall *call, GsArena *arena, ProtobufCMessage **ret_reply,
                             GError **error);

/** One page's reply, *borrowed until it returns*. FALSE: no more, please. */
typedef gboolean (*GsClientPage) (const ProtobufCMessage *reply, gpointer user);

/**
 * Makes the same call again and again, each time for the next page, until there is none or @visit had enough. The request's
 * own page says how many entries a page has and where to begin; it is left as it is. Of @call the wishes hold for each
 * page, and what became of the last one is in it. INVALID_ARGUMENT for a method that has no pages.
 * @ret_token (may be NULL): where to go on when @visit stopped, for page.token of another request (*full*); NULL at the end.
 */
gboolean gs_client_pages (GsClient *client, const char *method, const ProtobufCMessage *request, GsClientCall *call,
                          GsClientPage visit, gpointer user, GBytes **ret_token, GError **error);

/**
 * One try, which makes one call with @call, whose time is set. @call->call_id is all zero at first and after a lost race:
 * look at the state and build the request. When it is not zero, whether the last request was carried out is not known: send
 * the very same one again, without looking, for under one id the server takes no other. So @user keeps what it was made of.
 * The bulk bytes of a streaming call begin anew with each try.
 */
typedef gboolean (*GsClientAttempt) (GsClient *client, GsClientCall *call, gpointer user, GError **error);

/**
 * Repeats @attempt with growing pauses until it succeeds, fails for good, or @timeout_us (0 = the client's) is over. After
 * a failure of which the outcome is not known it gets the same call id, so that the server runs it once; after a lost race
 * (FAILED_PRECONDITION, ABORTED: look again) a new one. An attempt that fails before its call is judged by its error's code;
 * CANCELLED is final then, as the program gave up (the stop of a look, say). gs_client_call does the first of these by itself,
 * for as long as the client's timeout and max_attempts say; this is for whatever has to read something anew between the tries.
 */
gboolean gs_client_retry (GsClient *client, gint64 timeout_us, GsClientAttempt attempt, gpointer user, GError **error);

#pragma GCC visibility pop

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsClient, gs_client_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsClientStream, gs_client_stream_free)

G_END_DECLS

#endif
