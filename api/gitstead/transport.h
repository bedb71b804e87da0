/* SPDX-License-Identifier: Apache-2.0 */
/**
 * transport.h - kind TRANSPORT, class ASYNC: brings calls in from outside.
 *
 * A transport owns its I/O threads. It turns what arrives into GsInbound and hands it to
 * host->call_begin, which only enqueues; replies come through the call's done function.
 *   [T1] start listens or fails; after it returns, every address in endpoints accepts connections.
 *   [T2] Every size from the network is bounded before memory is taken for it.
 *   [T3] A peer that connects and leaves, sends garbage, half a message or nothing is dropped within
 *        the configured times, and costs the others nothing.
 *   [T4] A peer that goes away cancels its calls.
 *   [T5] drain stops accepting; calls under way go on. stop returns with no thread left.
 */
#ifndef GITSTEAD_TRANSPORT_H
#define GITSTEAD_TRANSPORT_H

#include "host.h"

G_BEGIN_DECLS

typedef struct
{
  /**
   * The URLs that accept connections now, with the ports that were really bound, NULL-terminated.
   * *full* (g_strfreev). From start to stop.
   */
  char **(*endpoints) (gpointer self);
  /**
   * Makes one unary call from inside this process and waits for it; for the inproc transport and for
   * tests. Optional. @ret_payload *full*.
   */
  gboolean (*call) (gpointer self, const char *method, GsEncoding encoding, GBytes *payload,
                    const GsCredentials *credentials, gint64 timeout_us, GBytes **ret_payload,
                    GError **error);
} GsTransportOps;

G_END_DECLS

#endif
