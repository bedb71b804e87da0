/* SPDX-License-Identifier: Apache-2.0 */
/**
 * service.h - the server that transport/http is tested against: a fake host whose calls run on threads of
 * their own and do what the repository's path says.
 *
 *   echo            everything that comes in goes out, through pipes
 *   sink            reads to the end, answers "N bytes" in one piece
 *   source/N        N bytes of output, made as they go
 *   silent          succeeds without a byte
 *   whole/N         N bytes in one piece
 *   fail/CODE       fails before it takes a byte
 *   fail-late/CODE  reads to the end, then fails
 *   fail-output     100 bytes of output, then fails
 *   head            answers what it found in head, and whether that was all
 *   few             reads some bytes, closes its input, answers
 *   close-fail/CODE reads some bytes, closes its input, fails
 *   chatty          writes 1 MiB, then reads to the end, then answers
 *   hang            accepts, then waits until it is cancelled
 *   hang-closed     never accepts, waits until it is cancelled
 *   gated           accepts, waits for service_open_gate, then reads to the end
 *   grandchild      writes "out", is done, and the output's other end stays open
 *   git/PATH        stock git on the bare repository PATH below the service's folder
 */
#ifndef TESTS_HTTP_SERVICE_H
#define TESTS_HTTP_SERVICE_H

#include <fakehost.h>
#include <gitstead/transport.h>

typedef struct
{
  guint begun, accepted, done, cancelled, max_running;
  char *path, *protocol, *user, *secret, *certificate, *peer, *method;
  guint32 credentials, service;
  gsize head;
  gboolean complete, eof_uncancelled; /* the input ended while the call was not cancelled */
  gint64 timeout_us;
  GsTxId call_id;
  guint64 bytes_in;
} ServiceRecord;

typedef struct
{
  FakeHost *fake;
  FakeConfig *config;
  const GsPlugin *plugin;
  gpointer self;
  char *url;
  guint16 port;
} Served;

/** The plugin under test. */
const GsPlugin *served_plugin (void);
/** Starts the plugin on a free port with these options ("key", "value", …, NULL). Dies on failure. */
Served *served_new (const char *listen, ...) G_GNUC_NULL_TERMINATED;
/** Stops it, joins every call, and checks that no descriptor is left that was not there before. */
void served_free (Served *served);
void served_drain (Served *served);
void served_stop (Served *served);

/** What was seen so far; strings borrowed until the next call. */
const ServiceRecord *service_seen (void);
/** Waits (20 s at most) until @count calls were cancelled / are done / were begun. */
gboolean service_wait_cancelled (guint count);
gboolean service_wait_done (guint count);
gboolean service_wait_begun (guint count);
void service_open_gate (void);
void service_set_ready (gboolean ready);
void service_set_folder (const char *folder);

guint count_fds (void);
/** Waits (20 s at most) until not more than @count descriptors are open. */
gboolean wait_fds (guint count);

#endif
