/* SPDX-License-Identifier: Apache-2.0 */
/**
 * link.h - inside of libgitstead: one connection to a server, shared by concurrent calls.
 */
#ifndef GITSTEAD_CLIENT_LINK_H
#define GITSTEAD_CLIENT_LINK_H

#include "gitstead-client.h"

#include <gitstead/thread.h>
#include <gnutls/gnutls.h>
#include <wire/frame.h>

#include "gitstead/v1/envelope.pb-c.h"

typedef enum
{
  GS_LINK_TCP,
  GS_LINK_TLS,
  GS_LINK_IPC
} GsLinkScheme;

/** Where a server is, and how to speak TLS to it. Immutable. */
typedef struct
{
  char *url; /* as it was given */
  GsLinkScheme scheme;
  char *host;
  guint port;
  char *path;
  gnutls_certificate_credentials_t credentials; /* NULL unless TLS */
  char *server_name;
} GsAddress;

/** Parses tcp://, tls+tcp:// and ipc:// into @ret_address, which is zeroed before. FALSE with INVALID_ARGUMENT. */
G_GNUC_INTERNAL gboolean gs_address_parse (GsAddress *ret_address, const char *url, gboolean empty_host,
                                           GError **error);
G_GNUC_INTERNAL void gs_address_clear (GsAddress *address);
/** A client session that checks the server's certificate and name. NULL with @error. */
G_GNUC_INTERNAL gnutls_session_t gs_address_session (const GsAddress *address, GError **error);

/** A request that waits for its reply; on the caller's stack. Owned by the link between send and forget. */
typedef struct
{
  guint32 id;
  GBytes *message; /* framed; until it is sent */
  gboolean begun;  /* some of it may have reached the server */
  gboolean failed; /* the connection broke */
  gboolean stopped; /* the caller gave it up */
  GBytes *reply;   /* the envelope, when it came */
} GsPending;

typedef struct GsLink GsLink;

/** Connects and exchanges greetings, until @until_us. NULL with UNAVAILABLE. *full*. */
G_GNUC_INTERNAL GsLink *gs_link_open (const GsAddress *address, gint64 until_us, GError **error);
/** Never from a callback. */
G_GNUC_INTERNAL void gs_link_unref (GsLink *link);
G_GNUC_INTERNAL GsLink *gs_link_ref (GsLink *link);
G_GNUC_INTERNAL gboolean gs_link_is_broken (GsLink *link);
/**
 * Sends @envelope and waits until its reply is there, the link broke or @until_us. Fills @pending, whose reply is
 * the caller's then. TRUE when a reply came. Gives up when @call's stop says so.
 */
G_GNUC_INTERNAL gboolean gs_link_call (GsLink *link, GByteArray *envelope, gint64 until_us, const GsClientCall *call,
                                       GsPending *pending);

/** What a client needs beyond its file. */
struct GsClient
{
  GsAddress address;
  char *token;
  char token_id[16];
  guint8 signing_key[32];
  char *agent;
  gint64 timeout_us, connect_timeout_us;
  guint32 max_attempts;
  void (*retrying) (gpointer user, guint32 attempt, const GError *why);
  gpointer retrying_user;
  GsWireMethods *methods;
  GsMutex lock;
  GsCond changed;
  GsLink *link;       /* NULL = none yet */
  gboolean connecting; /* one thread connects for all */
};

/** For messages: "Repository/Create on tcp://…". *full*. */
G_GNUC_INTERNAL char *gs_client_what (const GsClient *client, guint32 method);
/** @said without the method's name at its beginning, where @what has it already: servers name it, too. */
G_GNUC_INTERNAL const char *gs_client_said (const char *what, const char *said);
/** Has *@error carry what a reply's header says of it. */
G_GNUC_INTERNAL void gs_client_details (GError **error, const Gitstead__V1__ErrorDetails *details);
/** Waits before try @attempt + 1, longer each time, at least @advice_us. FALSE: there is no time for one. */
G_GNUC_INTERNAL gboolean gs_client_pause (guint32 attempt, gint64 advice_us, gint64 until_us);
/** The verdict of a failure's @header. */
G_GNUC_INTERNAL void gs_client_verdict (const Gitstead__V1__ReplyHeader *header, GsRetry *ret_retry, gint64 *ret_retry_after_us);
/** After a finish that failed: into @call what its end said of repeating it. */
G_GNUC_INTERNAL void gs_client_stream_verdict (const GsClientStream *stream, GsClientCall *call);
/** What it was opened for; NULL for a method that is not in the table. */
G_GNUC_INTERNAL const GsWireMethod *gs_client_stream_method (const GsClientStream *stream);
/** Strong random bytes. */
G_GNUC_INTERNAL void gs_client_random (void *to, gsize len);

#endif
