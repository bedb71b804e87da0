/* SPDX-License-Identifier: Apache-2.0 */
/**
 * repair_steps.h - one replica on its way to be current, step by step: what a repair and a move have in common.
 */
#ifndef GSI_ROUTER_REPAIR_STEPS_H
#define GSI_ROUTER_REPAIR_STEPS_H

#include "router/repair.h"

typedef struct
{
  GsiJob *job;
  const GsiRouterConfig *config;
  GsCall *call;
  const GsiStorage *target;
  GsiRow *row;
  GsiRowReplica *mine; /* in the row; NULL: it is no replica any more */
  gboolean replace, settled;
  gboolean fresh;      /* the target has nothing of it that could be in the way */
  gboolean modest;     /* however far it comes, it is recorded as behind: writes are not to count on it yet */
  guint64 reached;     /* what the target's disk was seen to have, as it was decided */
  GHashTable *bad;     /* names of sources that failed */
  const char *source;
  guint rounds;
  guint64 bytes, from_generation;
  gint64 held_us;
} GsiRepair;

/** @job's target. */
void gsi_repair_init (GsiRepair *repair, GsiJob *job);
void gsi_repair_clear (GsiRepair *repair);
/** Reads the row; it is NULL when the repository is gone. FALSE also when there is nothing to repair any more: then without @error. */
gboolean gsi_repair_refresh (GsiRepair *repair, GError **error);
/** By the row as it was read last. */
gboolean gsi_repair_is_current (const GsiRepair *repair);
/** That, or its disk has all that was decided by then. */
gboolean gsi_repair_has_all (const GsiRepair *repair);
/** One copy, then the row anew. FALSE without @error: there is nothing to repair any more. */
gboolean gsi_repair_copy_once (GsiRepair *repair, GError **error);
/** As far as it comes without holding writes back, at a repository that was written. FALSE without @error: there is nothing to repair any more. */
gboolean gsi_repair_approach (GsiRepair *repair, GError **error);

#endif
