/* SPDX-License-Identifier: Apache-2.0 */
/**
 * http.h - what the files of transport/http share.
 *
 * Three sorts of threads meet here. The library's own workers run the access handler, the response
 * readers and the notices of ended requests; the host's threads run the slots of the stream and the
 * call's done; the pump watches, for suspended requests, their pipes, their clients and the clock.
 * A Request is shared by all of them: what its lock guards stands below the line that says so, and the
 * rest belongs to the library's worker of that connection.
 *
 * The order of locks is Request.lock -> the library's own; nothing is taken the other way round.
 */
#ifndef GS_TRANSPORT_HTTP_H
#define GS_TRANSPORT_HTTP_H

#include <gitstead/thread.h>
#include <gitstead/transport.h>
#include <microhttpd.h>

#include "auth.h"
#include "decode.h"
#include "guard.h"
#include "route.h"

#define HTTP_HEAD_MAX ((gsize) 64 * 1024)           /* bodies up to here go to the host in one piece */
#define HTTP_EARLY_MAX ((gsize) 4 * 1024 * 1024)    /* output kept while the request is still being read */
#define HTTP_DRAIN_MAX ((guint64) 64 * 1024 * 1024) /* of a body that nobody wants any more */
#define HTTP_GRACE_US (5 * G_USEC_PER_SEC)

typedef struct HttpServer HttpServer;
typedef struct HttpListener HttpListener;
typedef struct HttpDaemon HttpDaemon;
typedef struct HttpPump HttpPump;
typedef struct HttpConnection HttpConnection;
typedef struct HttpRequest HttpRequest;

/** The options of one instance, checked. */
typedef struct
{
  char **listen;
  char *tls_certificate, *tls_key, *tls_client_ca;
  guint threads, max_connections;
  gsize max_header;
  gint64 idle_timeout_us, request_timeout_us;
  guint64 max_body, max_inflate;
  gsize json_body_max;
  char *realm;
  gboolean metrics_off, metrics_loopback;
} HttpOptions;

/** Those that a reload changes are read by many threads. */
#define HTTP_OPTION(server_, field_) __atomic_load_n (&(server_)->options.field_, __ATOMIC_RELAXED)

/** What counts as "how did it end" in the metrics. */
typedef enum
{
  HTTP_CLASS_2XX,
  HTTP_CLASS_3XX,
  HTTP_CLASS_4XX,
  HTTP_CLASS_5XX,
  HTTP_CLASS_ABORTED, /* the connection broke before the answer was out */
  HTTP_CLASS_COUNT
} HttpClass;

typedef struct
{
  GsMetric *requests[ROUTE_COUNT][HTTP_CLASS_COUNT];
  GsMetric *seconds[ROUTE_COUNT];
  GsMetric *bytes_in, *bytes_out, *in_flight, *connections;
} HttpMetrics;

/** One instance. */
struct HttpServer
{
  const GsHost *host;
  HttpOptions options;
  HttpMetrics metrics;
  HttpPump *pump;
  GPtrArray *listeners; /* of HttpListener */
  gint draining;        /* atomic */
  gint stopping;        /* atomic; set before every suspended request is woken for the last time */
  gint in_flight;       /* atomic */
  gint reaping;         /* atomic: a look at former daemons is due */

  GsMutex lock;
  GsCond empty;            /* no request is left */
  GHashTable *requests;    /* id -> HttpRequest, all that can be found */
  guint n_requests;        /* all that live */
  GHashTable *connections; /* id -> HttpConnection */
  guint64 next_id;
};

/** One daemon of the library with its workers. */
struct HttpDaemon
{
  HttpListener *listener;
  struct MHD_Daemon *daemon;
  guint n_handed; /* connections given to it that have not ended; guarded by the server's lock */
};

/**
 * One address, served by one daemon of the library: a reload that changes certificates or threads puts another one in
 * its place, and the former one keeps the connections that it has. We accept the connections and hand them
 * over: the library's own way to stop listening (MHD_quiesce_daemon) races with its workers and then aborts the
 * whole process.
 */
struct HttpListener
{
  HttpServer *server;
  HttpDaemon *daemon; /* takes new connections; changed under the server's lock */
  GPtrArray *former;  /* of HttpDaemon: have connections left; guarded by the server's lock */
  char *tls_sum;      /* checksum of the files that the daemon was made with; NULL without TLS */
  int fd;
  gboolean tls;
  char *url;                /* as endpoints shows it */
  gint n_connections;       /* atomic */
  gint paused;              /* atomic: the limit was reached, or descriptors ran out */
  gboolean open, accepting; /* guarded by the pump's lock */
};

/**
 * A TCP connection, for what the library does not see to: a deadline for slow senders, and clients that leave.
 * (It reads on an edge-triggered set and takes a short read for the end of what is there; a FIN that came with the
 * last bytes then goes unnoticed until the idle timeout, and on a suspended connection it does not look at all.)
 * Guarded by the server's lock.
 */
struct HttpConnection
{
  guint64 id;
  HttpListener *listener;
  int fd;
  gint64 deadline_us;   /* what is awaited (a request's header, a small body) must be there by then */
  gboolean half_closed; /* the client sends no more */
  guint64 request;      /* id of the request under way; 0 = none */
};

typedef enum
{
  PHASE_NEW,     /* only the request line is known */
  PHASE_BARE,    /* its header is fine, and there is no body */
  PHASE_COLLECT, /* the body is gathered in head */
  PHASE_ASK,     /* the call has begun without a body; waiting for the host's word */
  PHASE_STREAM,  /* the body goes into the pipe as it comes */
  PHASE_DRAIN,   /* nobody wants the rest of the body */
  PHASE_RESULT,  /* all is read; waiting for output */
  PHASE_ANSWERED
} HttpPhase;

typedef enum
{
  FLOW_GO,   /* done here */
  FLOW_WAIT, /* suspended */
  FLOW_CUT   /* the connection is to be cut */
} HttpFlow;

#define WATCH_CLIENT 1u
#define WATCH_INPUT 2u
#define WATCH_OUTPUT 3u

struct HttpRequest
{
  GsStream stream; /* first: the host hands it back */
  HttpServer *server;
  HttpListener *listener;
  HttpConnection *tcp;
  struct MHD_Connection *connection;
  guint64 id;
  gint refs; /* atomic: the connection, the call, the response's reader, whoever looked it up */

  char *uri; /* as it came, query included */
  char method[12];
  char peer[80];
  Route route;
  HttpPhase phase;
  Guard guard;
  gint64 begun_us;
  gboolean counted;

  GByteArray *collected;
  gsize collect_max;
  Decoder decoder;
  GByteArray *decoded; /* inflated bytes on their way into the pipe */
  gsize decoded_at;
  guint64 bytes_in, bytes_out, drained;
  gboolean linger; /* answered without reading the body */
  gboolean anonymous;
  guint status;      /* of the answer; 0 = none */
  GByteArray *early; /* output that came before the response began */
  gsize early_at;

  GsMutex lock;
  /* ---- guarded by lock ---- */
  gboolean suspended;
  gboolean left;    /* the client sends no more: when there is something to wait for, it counts as gone */
  gboolean gone;    /* the client left, or the connection ended */
  gboolean expired; /* its time was up */
  guint watching;   /* bit per WATCH_* of a pipe that is in the pump's set */
  gint64 deadline_us;
  gboolean began, accepted, done, cancelled, handle_known;
  GsCallHandle handle;
  int input;  /* our end: we write */
  int output; /* our end: we read */
  gboolean input_opened, input_ended, output_eof;
  GBytes *whole;    /* what send_all gave */
  GsErrorCode code; /* with done */
  GsRetry retry;
  gint64 retry_after_us;
  char *message;
  GBytes *payload;
  GBytes *details; /* of its failure: a JSON array */
  guint64 generation; /* of the repository, with what was written */
  guint local_status; /* a failure found here, not by the host */
  char *local_message;
};

/* ---- request.c: life of a request, suspending and waking ---- */

HttpRequest *http_request_new (HttpListener *listener, struct MHD_Connection *connection, const char *uri);
HttpRequest *http_request_ref (HttpRequest *request);
void http_request_unref (HttpRequest *request);
/** The connection is done with it: cancels its call and closes its pipes. Drops the connection's reference. */
void http_request_finish (HttpRequest *request, enum MHD_RequestTerminationCode why);
/**
 * With the lock held, on the library's worker: suspends until woken; @watch is a set of 1 << WATCH_*. FALSE,
 * not suspended, when the client is gone or the server stops: then the connection is to be cut.
 */
gboolean http_request_suspend_locked (HttpRequest *request, guint watch);
/** With the lock held: resumes it if it is suspended. */
void http_request_wake_locked (HttpRequest *request);
/** TRUE with @ret_handle when a cancel is due now; the caller cancels after it let go of the lock. */
gboolean http_request_want_cancel_locked (HttpRequest *request, GsCallHandle *ret_handle);
/** Cancels its call, if one is under way. */
void http_request_cancel (HttpRequest *request);
/** Keeps the first failure that was found on this side, and cancels the call. */
void http_request_fail (HttpRequest *request, guint status, const char *format, ...) G_GNUC_PRINTF (3, 4);
/** Sets when the connection is cut unless something else happened. G_MAXINT64 = never. */
void http_request_connection_deadline (HttpRequest *request, gint64 deadline_us);

/* ---- call.c: the request as a call of the host ---- */

/** Begins the call of a request whose body is @collected (complete) or still to come. */
void http_call_begin (HttpRequest *request, gboolean complete);

/* ---- body.c: bytes from the client ---- */

/** Takes what it can of @data. FALSE: cut the connection. Afterwards *@length bytes are left. */
gboolean http_body_take (HttpRequest *request, const char *data, size_t *length);
/** No more comes. FLOW_GO: all is with the call. FLOW_WAIT: suspended on the way there; call again. */
HttpFlow http_body_end (HttpRequest *request);

/* ---- answer.c: bytes to the client ---- */

/** Sends the answer when it is known, else suspends. MHD_NO: cut the connection. */
enum MHD_Result http_answer_call (HttpRequest *request);
/** A complete answer; takes @body. */
enum MHD_Result http_answer_bytes (HttpRequest *request, guint status, const char *type, GBytes *body);
/** A failure, in the form the route's clients read: text, or JSON below /api. */
enum MHD_Result http_answer_error (HttpRequest *request, guint status, const char *message);
/** Moves output that is there already into early, until that holds about @limit bytes. */
void http_answer_slurp (HttpRequest *request, gsize limit);

/* ---- handler.c ---- */

enum MHD_Result http_handle (void *user, struct MHD_Connection *connection, const char *url, const char *method,
                             const char *version, const char *data, size_t *length, void **context);

/* ---- pump.c ---- */

HttpPump *http_pump_new (HttpServer *server, GError **error);
/** Stops the thread; nothing may be suspended any more. */
void http_pump_free (HttpPump *pump);
/** Accepts the connections of a listener, until it is unlistened. */
void http_pump_listen (HttpPump *pump, HttpListener *listener);
void http_pump_unlisten (HttpPump *pump, HttpListener *listener);
/** Looks at once whether a paused listener may go on. */
void http_pump_poke (HttpPump *pump);
/** Tells when the client of @tcp ends its sending side, until it is forgotten. */
void http_pump_watch_client (HttpPump *pump, const HttpConnection *tcp);
void http_pump_forget_client (HttpPump *pump, const HttpConnection *tcp);
/** Both with the request's lock held; they only change the kernel's set. */
void http_pump_watch (HttpPump *pump, HttpRequest *request, guint watch);
void http_pump_forget (HttpPump *pump, HttpRequest *request);
/** Reads and drops what still comes on a copy of @fd, so that the answer is not lost in a reset. */
void http_pump_linger (HttpPump *pump, int fd, gboolean tls);

/* ---- reload.c ---- */

gpointer http_adjust (gpointer self, const GsConfig *config, GError **error);
void http_adjusted (gpointer self, gpointer change, gboolean take);

/* ---- plugin.c ---- */

/** Fills @ret_options (cleared before) with copies; what it holds is freed by http_options_clear. */
gboolean http_options_read (const GsHost *host, const GsConfig *config, HttpOptions *ret_options, GError **error);
void http_options_clear (HttpOptions *options);

/* ---- listen.c ---- */

gboolean http_listen (HttpServer *server, const char *url, GError **error);
/** What https addresses serve with, as it is on disk now. */
typedef struct
{
  char *certificate, *key, *ca;
  char *sum; /* of all three */
} HttpTls;
gboolean http_tls_read (HttpServer *server, const HttpOptions *options, HttpTls *ret_tls, GError **error);
/** Wipes the key. */
void http_tls_clear (HttpTls *tls);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (HttpTls, http_tls_clear)
/** A daemon for @listener's connections. @tls is for https. *full*. */
HttpDaemon *http_daemon_new (HttpListener *listener, const HttpOptions *options, const HttpTls *tls, GError **error);
/** Cuts the connections that are left. NULL is fine. */
void http_daemon_free (HttpDaemon *daemon);
/** Stops former daemons that have no connection left; looks again later when others have. */
void http_reap (HttpServer *server);
/** Takes what waits. FALSE: pause for a while. */
gboolean http_listener_accept (HttpListener *listener);
gboolean http_listener_has_room (HttpListener *listener);
void http_listener_free (HttpListener *listener);

/* ---- status.c ---- */

guint http_status_of (GsErrorCode code, gboolean anonymous);
/** The code that JSON shows for a failure found here. */
GsErrorCode http_code_of (guint status);
/** *full*: {"code": …, "message": …, "retry": …}. */
GBytes *http_error_json (GsErrorCode code, GsRetry retry, gint64 retry_after_us, const char *message,
                         GBytes *details);
const char *http_hint_of (guint status);
/** *full*: control characters and non-ASCII as \xNN, cut at 1 KiB. */
char *http_escape (const char *text);

/* ---- metrics.c ---- */

void http_metrics_register (HttpServer *server);
/** Logs and counts one request that has ended. */
void http_metrics_ended (HttpRequest *request, gboolean aborted);

#endif
