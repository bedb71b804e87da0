/* SPDX-License-Identifier: Apache-2.0 */
/**
 * turns.h - the turns that a plugin's declared threads ask for (GS_THREADS_SERIAL, GS_THREADS_PER_REPO).
 *
 * An instance of such a plugin is called through a table of its own, which stands before its layers: each function (made
 * from the headers by turns.py) takes the turn, calls the instance's slot, and gives the turn back. Nobody else has to
 * know of turns. A PARALLEL plugin is called directly.
 */
#ifndef GSI_PLUGIN_TURNS_H
#define GSI_PLUGIN_TURNS_H

#include "plugin/registry-private.h"

/** How long a call waits for its turn. */
typedef enum
{
  GSI_PATIENCE_CALL,   /* until it is cancelled or out of time */
  GSI_PATIENCE_SHORT,  /* and no longer than some seconds, then BUSY: a storage's disk, which has no deadline, and what moves
                          a stream, whose other end may be waiting for a turn that this one's neighbour has */
  GSI_PATIENCE_ENDLESS /* it must be made: it cannot fail, takes what it is given whatever comes out of it, or is a question
                          (authorize, place) whose answer is wanted */
} GsiPatience;

/** The table of a kind whose plugins may ask for turns, every slot filled; its self is the GsiInstance. NULL for others. */
extern const void *const gsi_turn_tables[GS_KIND_MAX + 1];

/** Puts turns before a created instance and its layers, in outer, if its plugin asks for any. */
void gsi_turns_wrap (GsiInstance *instance);
void gsi_turns_init (GsiInstance *instance);
void gsi_turns_clear (GsiInstance *instance);

/* ---- for the table's functions ---- */

/**
 * Takes the turn of @repository_id (0: the call is about none; only a SERIAL plugin has a turn for it then). FALSE,
 * without a turn and nothing done, with CANCELLED or DEADLINE_EXCEEDED when @call is over, BUSY when patience is, INTERNAL
 * when this thread has the turn already: a callback must not call what called it. Never FALSE with ENDLESS.
 */
gboolean gsi_turn_enter (GsiInstance *instance, guint64 repository_id, GsiPatience patience, GsCall *call,
                         GError **error);
void gsi_turn_leave (GsiInstance *instance, guint64 repository_id);

/** Notes that @what was handed out for a repository, for the slot that will get nothing but it. NULL is fine. */
void gsi_turn_hand_out (GsiInstance *instance, gpointer what, guint64 repository_id);
/** Whose it is, and forgets it: the slot takes it. 0 when it is not known. */
guint64 gsi_turn_repository_of (GsiInstance *instance, gpointer what);

#endif
