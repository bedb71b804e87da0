/* SPDX-License-Identifier: Apache-2.0 */
/**
 * copy.h - a replica copied from one storage to another, through this process, at constant memory.
 */
#ifndef GSI_ROUTER_COPY_H
#define GSI_ROUTER_COPY_H

#include <gitstead/storage.h>
#include <gitstead/thread.h>

#include "router/router.h"

/** So many bytes a second for all that share it. Zeroed is fine but for its lock. */
typedef struct
{
  GsMutex lock;
  gint64 next_us;
} GsiPacer;

/** Waits until @bytes more are in order at @rate (0 = always), or the call is cancelled. */
void gsi_pacer_wait (GsiPacer *pacer, guint64 rate, gsize bytes, const GsCall *call);

typedef struct
{
  GsiRouter *router; /* who does it */
  const GsiStorage *source, *target;
  GsRepo repo;
  gboolean replace; /* what the target has is of no use */
  GsiPacer *pacer;
  guint64 rate;
  /* what became of it */
  GsReplicaState state;     /* of the target, when it went well */
  guint64 bytes;
  gboolean source_failed;   /* otherwise: whose fault */
} GsiCopy;

/** Blocks. */
gboolean gsi_copy_replica (GsiCopy *copy, GsCall *call, GError **error);

#endif
