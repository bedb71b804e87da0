/* SPDX-License-Identifier: Apache-2.0 */
/**
 * nngserver.h - transport/nng over a host that carries out a few test methods, for tests of both its sides.
 */
#ifndef TESTS_NNGSERVER_H
#define TESTS_NNGSERVER_H

#include "fakehost.h"

#include <gitstead/thread.h>
#include <gitstead/transport.h>

G_BEGIN_DECLS

#define NS_PING 2u      /* Server/Ping: the request's bytes come back; nothing else is looked at */
#define NS_HOLD 9001u   /* runs until it is cancelled or ns_release; then an empty reply */
#define NS_COUNT 9002u  /* counts how often a call id was carried out */
#define NS_WHO 9003u    /* replies with the credentials as text */
#define NS_BIG 9004u    /* the request is a number in digits: a reply of so many bytes */
#define NS_FAIL 9005u   /* the request is a status in digits: fails with it */
#define NS_ECHO 9010u   /* stream: sends back what it gets, then its request as the trailer's payload */
#define NS_SOURCE 9011u /* stream out: so many bytes as the request says in digits, through a pipe */
#define NS_WHOLE 9012u  /* stream out: the request's bytes through send_all */
#define NS_SINK 9013u   /* stream in: the reply says how many bytes came, and "cancelled" when they were not whole */
#define NS_REFUSE 9014u /* stream both ways: fails before it accepts */
#define NS_KEPT 9016u   /* stream out: "abc", and a copy of the output stays open as a grandchild's would */
#define NS_LAZY 9015u   /* stream both ways: accepts and is ready, but opens nothing until it is cancelled or released */

/** A signed request with key id "000102030405" is checked against the key of this token. */
#define NS_TOKEN "gs_000102030405_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

typedef struct
{
  GsHost host; /* the fake host's, with calls */
  FakeHost *fake;
  gpointer self; /* the plugin's instance */
  const GsPlugin *plugin;
  char **urls;
  /* under lock */
  GsMutex lock;
  GsCond changed;
  GHashTable *calls;  /* handle -> call under way */
  GHashTable *counts; /* hex of call id -> times */
  GPtrArray *threads;
  guint64 next_handle;
  guint n_cancelled, n_begun;
  guint held; /* NS_HOLD calls that wait */
  gboolean released;
  const char *count_file;  /* NS_COUNT also adds a line with the call id here; NULL = no */
  gboolean count_silently; /* NS_COUNT never replies: somebody is about to kill the server */
  int kept_fd; /* what NS_KEPT left open, or -1 */
  gint64 wall_offset_us; /* added to the host's wall clock */
} NgServer;

/** Starts the transport with these options ("key", "value", …, NULL). NULL with @error when start fails. */
NgServer *ng_server_new (GError **error, ...) G_GNUC_NULL_TERMINATED;
/** Stops it; every call must be able to end. */
void ng_server_free (NgServer *server);
/** Lets NS_HOLD and NS_LAZY calls end. */
void ng_server_release (NgServer *server);
/** Waits until @n NS_HOLD calls wait, at most 20 s. */
gboolean ng_server_wait_held (NgServer *server, guint n);
/** Waits until no call is under way, at most 20 s. */
gboolean ng_server_wait_idle (NgServer *server);
/** How often a call with this id was carried out by NS_COUNT. */
guint ng_server_count (NgServer *server, const GsTxId *call_id);
guint ng_server_cancelled (NgServer *server);
guint ng_server_begun (NgServer *server);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (NgServer, ng_server_free)

G_END_DECLS

#endif
