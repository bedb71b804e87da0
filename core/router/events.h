/* SPDX-License-Identifier: Apache-2.0 */
/**
 * events.h - what was done through this process, for those who subscribe: the last ones, numbered, in memory.
 *
 * Who publishes never waits for who reads. A reader has a position, not a queue: one that is slower than the ring is
 * long learns that it missed some, and goes on with the oldest that is kept.
 */
#ifndef GSI_ROUTER_EVENTS_H
#define GSI_ROUTER_EVENTS_H

#include "rpc/rpc.h"

#include "gitstead/v1/server.pb-c.h"

typedef struct GsiEvents GsiEvents;
/** One that is ready to be published. */
typedef struct GsiEvent GsiEvent;

/** @epoch marks positions of this process's life. *full*. */
GsiEvents *gsi_events_new (guint64 epoch);
/** After the last stream and the last publisher. NULL is fine. */
void gsi_events_free (GsiEvents *events);

/** Copies @message. *full*: gsi_events_publish, or gsi_event_free. */
GsiEvent *gsi_event_new (const Gitstead__V1__Event *message);
/** NULL is fine. */
void gsi_event_free (GsiEvent *event);
/** Takes over @event. @events NULL: nobody wants to know. Any thread. */
void gsi_events_publish (GsiEvents *events, GsiEvent *event);

/** A write's event, of the updates that were decided. *full*. */
GsiEvent *gsi_event_of_write (const GsRefUpdate *updates, gsize n_updates, const char *virtual_storage, const char *path,
                              guint64 id, const char *caller, guint64 generation, gint64 time_us);
/** An event that is told at once. @old_path and @storage may be NULL. */
void gsi_events_tell (GsiEvents *events, Gitstead__V1__EventKind kind, const char *virtual_storage, const char *path,
                      guint64 id, const char *caller, const char *old_path, const char *storage, gint64 time_us);

/** The handler of Server/Events. */
gboolean gsi_events_stream (GsiEvents *events, const GsiMethods *methods, GsiCall *call, GError **error);
/** Every stream ends soon, well; its client goes on from its position. Does not wait. */
void gsi_events_end_streams (GsiEvents *events);

#endif
