/* SPDX-License-Identifier: Apache-2.0 */
/**
 * reload.h - from the running configuration to the file's: load and check, start what is new beside the old, switch,
 * let the old end. Until the switch every failure leaves all as it was. See docs/decisions/0017-reload.md.
 */
#ifndef GSI_MAIN_RELOAD_H
#define GSI_MAIN_RELOAD_H

#include "main/server.h"

/**
 * Reloads. Main thread. FALSE with all problems of the file, or the one that kept something from starting: then the
 * server goes on as before. @ret_changes (of GsiConfigChange, *full*, may be NULL) says what differs. The log file is
 * opened again in any case.
 */
gboolean gsi_server_reload (GsiServer *server, GPtrArray **ret_changes, GError **error);

/** For calls: asks the main thread for a reload that begins after now and waits for its end. */
gboolean gsi_reload_ask (GsiServer *server, GsCall *call, GPtrArray **ret_changes, GError **error);
/** Main thread: carries out what was asked for, once for all who wait. */
void gsi_reload_asked (GsiServer *server);
/** Main thread, as the server stops: nobody waits any longer. */
void gsi_reload_refuse (GsiServer *server);

/** Main thread: ends what earlier generations had alone and nobody uses any more. */
void gsi_reload_reap (GsiServer *server);

#endif
