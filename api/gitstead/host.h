/* SPDX-License-Identifier: Apache-2.0 */
/**
 * host.h - the services that the host lends to a plugin instance. The plugin's only door.
 *
 * Every slot may be called from any thread of the plugin unless it says otherwise, from create until
 * destroy returns. Tests hand in a fake host, the simulator one with a virtual clock and seeded dice.
 * Hold no lock of your own while calling a slot.
 */
#ifndef GITSTEAD_HOST_H
#define GITSTEAD_HOST_H

#include "plugin.h"

G_BEGIN_DECLS

/** Another instance, resolved from a need. Borrowed until our stop returns. */
typedef struct
{
  guint32 size;
  guint32 kind;
  gpointer self;
  const void *ops;     /* the kind's table, complete: slots the plugin lacks are NULL */
  const char *name;    /* the instance's name in the config */
} GsInstance;

/** A metric handle. Owned by the host for its whole life. */
typedef struct GsMetric GsMetric;

#define GS_METRIC_COUNTER 1u
#define GS_METRIC_GAUGE 2u
#define GS_METRIC_HISTOGRAM 3u /* seconds; fixed buckets 0.5 ms to 60 s */

/* -------------------------------------------------------------------- calls in, for transports */

/** How the payload of a call is written. */
typedef enum
{
  GS_ENCODING_PROTOBUF = 0,
  GS_ENCODING_JSON = 1
} GsEncoding;

/** What a caller showed to prove who it is. Everything borrowed until call_begin returns. */
typedef struct
{
  guint32 size;
  guint32 kind;            /* GS_CREDENTIALS_* */
  const char *user;        /* BASIC: user name; HMAC: key (token) id */
  const char *secret;      /* BASIC: password; BEARER: token */
  guint32 uid;             /* PEER: user id of the process at the other end of the unix socket */
  const guint8 *signed_data; /* HMAC: the bytes that were signed … */
  gsize signed_len;
  const guint8 *tag;       /* … and HMAC-SHA-256 over them, 32 bytes */
  const char *certificate; /* CERTIFICATE: common name of a verified client certificate */
} GsCredentials;

#define GS_CREDENTIALS_NONE 0u
#define GS_CREDENTIALS_BEARER 1u
#define GS_CREDENTIALS_BASIC 2u
#define GS_CREDENTIALS_HMAC 3u
#define GS_CREDENTIALS_PEER 4u
#define GS_CREDENTIALS_CERTIFICATE 5u

/** How a call ended. Borrowed until @done returns; take references on the GBytes. */
typedef struct
{
  guint32 size;
  GsErrorCode code;
  GsRetry retry;
  const char *message;   /* NULL when OK */
  gint64 retry_after_us; /* 0 = no advice */
  GBytes *payload;       /* the reply in the call's encoding; NULL unless OK */
  gboolean unproven;     /* the credentials were not found to be right: nobody looked at them, or they were wrong */
  guint64 generation;    /* after a write: the repository's with it; 0 = nothing was written */
  GBytes *details;       /* of an error: an encoded gitstead.v1.ErrorDetails, or a JSON array of its entries; may be NULL */
} GsOutcome;

/** A call that a transport hands in. Borrowed until call_begin returns, except where said. */
typedef struct
{
  guint32 size;
  guint32 method;            /* number from methods.proto, or 0 to go by name */
  const char *method_name;   /* "Repository/Create" when method is 0 */
  GsEncoding encoding;
  GBytes *payload;           /* the host takes its own reference */
  GsTxId call_id;            /* all zero = none given: the host makes one; mutators then run at most once per arrival */
  gint64 timeout_us;         /* remaining; 0 = the host's default for the method */
  const GsCredentials *credentials;
  const char *peer;          /* "http 127.0.0.1:5123", for logs */
  GsStream *stream;          /* bulk bytes, for streaming methods; must live until @done; NULL otherwise */
  /**
   * Called exactly once, from any thread, possibly before call_begin returns. It only enqueues:
   * it must not block or take long. After it returns the host touches neither @user nor @stream.
   */
  void (*done) (gpointer user, const GsOutcome *outcome);
  gpointer user;
  guint64 generation;        /* of the target repository: no older state is to be shown; 0 = none was asked for */
} GsInbound;

/** A call under way. Valid from call_begin until @done returns. */
typedef guint64 GsCallHandle;

/** What a transport needs to know of a method before it begins a call. */
typedef struct
{
  guint32 size;
  guint32 number;
  const char *name;    /* "Git/UploadPack"; borrowed for ever */
  gboolean streams_in;  /* the client sends bulk bytes */
  gboolean streams_out; /* the server sends bulk bytes */
} GsMethodInfo;

/** Readiness and pages that any transport which faces people can show. */
#define GS_PAGE_METRICS "metrics" /* Prometheus text format */
#define GS_PAGE_STATUS "status"   /* HTML */
#define GS_PAGE_READY "ready"     /* plain text, one line per check */

/** The host's services. @size first; append only. */
struct GsHost
{
  guint32 size;
  gpointer priv;
  const char *instance; /* this instance's name, for messages: "storage default" */

  /** Writes one record: a constant dotted event name and fields; never a formatted sentence. */
  void (*log) (const GsHost *host, GsLogLevel level, const char *event, const GsField *fields,
               gsize n_fields);
  gboolean (*log_enabled) (const GsHost *host, GsLogLevel level);

  gint64 (*now_us) (const GsHost *host);                       /* monotonic */
  gint64 (*wall_us) (const GsHost *host);                      /* since 1970, UTC */
  void (*random) (const GsHost *host, gpointer buffer, gsize len); /* cryptographically strong */

  /**
   * Runs @work on the worker pool. FALSE with BUSY when its queue is full: nothing was queued.
   * @work may block and honours its own deadline.
   */
  gboolean (*submit) (const GsHost *host, void (*work) (gpointer user), gpointer user, GError **error);
  /** Calls @work once on the worker pool after @delay_us. Returns a handle for timer_cancel; 0 when full. */
  guint64 (*timer) (const GsHost *host, gint64 delay_us, void (*work) (gpointer user), gpointer user);
  /** TRUE: it will not run. FALSE: it ran or is running. Never blocks. */
  gboolean (*timer_cancel) (const GsHost *host, guint64 timer);

  /** Registers (or finds) a metric. @labels is NULL or `key="value"` pairs, constant and few. *borrowed for ever*. */
  GsMetric *(*metric) (const GsHost *host, guint32 type, const char *name, const char *help,
                       const char *labels);
  /** Counter: adds; gauge: sets; histogram: observes (seconds). Wait-free for counter and gauge. */
  void (*metric_update) (GsMetric *metric, double value);

  /** The instance that fills a declared need. FALSE for an optional one that is absent. From start on. */
  gboolean (*need) (const GsHost *host, const char *role, GsInstance *ret_instance);

  /* ---- for transports ---- */

  /** By number (name NULL) or by name. FALSE when there is no such method. Never blocks. */
  gboolean (*method) (const GsHost *host, guint32 number, const char *name, GsMethodInfo *ret_info);
  /**
   * Starts a call; never blocks. Checks and queues it; every failure, BUSY included, comes through
   * @done. The handle is good for cancel and ready until @done has returned.
   */
  GsCallHandle (*call_begin) (const GsHost *host, const GsInbound *inbound);
  /** The client went away, or asked for it. Harmless on a call that has ended. Never blocks. */
  void (*call_cancel) (const GsHost *host, GsCallHandle call);
  /** The peer of a stream whose accept said FALSE has connected. */
  void (*call_ready) (const GsHost *host, GsCallHandle call);
  /** Renders a GS_PAGE_*. *full*. @ret_ok says whether the state it shows is good. May take milliseconds. */
  GBytes *(*page) (const GsHost *host, const char *page, gboolean *ret_ok);
  /** Random per start of the server, so that clients see a restart: what Server/Hello tells. 0 = not known. */
  guint64 epoch;
};

G_END_DECLS

#endif
