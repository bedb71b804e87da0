/* SPDX-License-Identifier: Apache-2.0 */
/**
 * repair.h - the workers that carry out what is queued in the metadata store: replicas made current, read through, taken away.
 *
 * Any number of processes share the queue. A job is held by a lease that is renewed while it goes on; who lost it stops.
 * Jobs of one repository that must not run at once share a lane, so that never two of its replicas are worked on. What
 * cannot be done now is tried again, ever less often, and never given up: the job's row says why.
 */
#ifndef GSI_ROUTER_REPAIR_H
#define GSI_ROUTER_REPAIR_H

#include "router/copy.h"
#include "router/router.h"

/* Kinds of jobs. */
#define GSI_JOB_REPAIR "repair" /* makes the target current */
#define GSI_JOB_VERIFY "verify" /* the target's identity and refs against what is recorded */
#define GSI_JOB_SCRUB "scrub"   /* that, and every object */
#define GSI_JOB_REMOVE "remove" /* the target is one copy too many */
#define GSI_JOB_MOVE "move"     /* the target takes the place of the source */

typedef struct GsiRepairer GsiRepairer;

typedef struct
{
  const GsHost *host;
  guint n_workers; /* 0: this process leaves it to others */
  gint64 lease_us;
  /** The router as it is now, held by *@ret_wiring. */
  GsiRouter *(*hold) (gpointer user, GsiWiring **ret_wiring);
  gpointer user;
} GsiRepairerConfig;

/** *full*. Copies @config. */
GsiRepairer *gsi_repairer_new (const GsiRepairerConfig *config);
/** Workers that cannot be started are logged. */
void gsi_repairer_start (GsiRepairer *repairer);
/** Jobs under way are asked to end, and go back into the queue. Waits for them. */
void gsi_repairer_stop (GsiRepairer *repairer);
/** After stop. NULL is fine. */
void gsi_repairer_free (GsiRepairer *repairer);

/**
 * Queues a job of one of the kinds above, in @after_us. The same job that is queued already is it. *@ret_id (may be NULL) is
 * the job's.
 */
gboolean gsi_router_ask_job (GsiRouter *router, GsCall *call, const char *kind, guint64 repository_id,
                             const char *storage, const char *reason, gint64 after_us, guint64 *ret_id, GError **error);

/* ---- moves (move.c) ---- */

/** Why a replica of @row cannot move from @from to @to: FALSE with @error. Both are names of storages. */
gboolean gsi_move_check (GsiRouter *router, const GsiRow *row, const char *from, const char *to, GError **error);
/** Queues a move that begins in @after_us. *@ret_id (may be NULL) is the job's. Several of one repository wait for each other. */
gboolean gsi_move_ask (GsiRouter *router, GsCall *call, guint64 repository_id, const char *from, const char *to,
                       const char *reason, gint64 after_us, guint64 *ret_id, GError **error);
/**
 * Every move that waits or runs; with @ended those too that ended. @repository_id 0 = of all. FALSE from @visit ends it.
 */
gboolean gsi_move_each (GsiRouter *router, GsCall *call, guint64 repository_id, guint64 first_id, guint64 last_id,
                        gboolean ended, GsJobRowVisit visit, gpointer user, GError **error);

/* ---- for the jobs (repair_job.c, move.c, verify.c) ---- */

typedef struct
{
  GsCall call; /* first */
  GsIdentity identity;
  int stop_fd;
  GsiRepairer *repairer;
  GsiRouter *router;
  const GsiRouterConfig *config;
  guint64 job_id, token, repository_id;
  char *kind, *target, *source, *reason;
  guint32 attempts;
  gint64 renew_us; /* when the lease was renewed last */
  gboolean hopeless; /* it failed, and will not do better */
} GsiJob;

GsiPacer *gsi_repairer_pacer (GsiRepairer *repairer);
typedef enum
{
  GSI_REPAIR_DONE,
  GSI_REPAIR_FAILED,
  GSI_REPAIR_BYTES,
  GSI_REPAIR_DAMAGED,
  GSI_REPAIR_SCRUBBED,
  GSI_REPAIR_MOVED,
  GSI_REPAIR_COUNTS
} GsiRepairCount;
void gsi_repairer_count (GsiRepairer *repairer, GsiRepairCount what, double n);

gboolean gsi_job_repair (GsiJob *job, GError **error);
gboolean gsi_job_verify (GsiJob *job, GError **error);
gboolean gsi_job_scrub (GsiJob *job, GError **error);
gboolean gsi_job_remove (GsiJob *job, GError **error);
gboolean gsi_job_move (GsiJob *job, GError **error);

/** One look at a replica against what is recorded: *@ret_damage (*full*) says what is wrong, NULL when nothing is.
 *  FALSE: it cannot be told now. */
gboolean gsi_verify_replica (GsiRouter *router, GsCall *call, guint64 id, const GsiStorage *storage, char **ret_damage,
                             GError **error);
/** Nobody uses the replica any more, and its repair is queued; unless it is the last one that is current. */
gboolean gsi_quarantine_replica (GsiRouter *router, GsCall *call, guint64 id, const char *storage, const char *damage,
                                 GError **error);

#endif
