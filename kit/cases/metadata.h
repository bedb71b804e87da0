/* SPDX-License-Identifier: Apache-2.0 */
/**
 * metadata.h - what the files of the metadata suite share.
 */
#ifndef CONFORMANCE_METADATA_H
#define CONFORMANCE_METADATA_H

#include "engine.h"

#define VS "conformance"

/** A copy of the last row that was shown, and how many were. */
typedef struct
{
  guint n_calls;
  guint64 id, generation;
  char *virtual_storage, *path, *replica_path;
  GsObjectFormat format;
  GsDigest refs_digest;
  gint64 created_wall_us;
  gsize n_replicas;
  struct
  {
    char storage[32];
    guint64 generation;
    gint64 verified_wall_us, scrubbed_wall_us;
  } replicas[8];
  guint32 copies;
  char consistency[32];
} Seen;

void seen_clear (Seen *seen);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Seen, seen_clear)

gboolean see_row (const GsRepoRow *row, gpointer user);
/** G_MAXUINT64 when there is none. */
guint64 seen_replica (const Seen *seen, const char *storage);

/** Reserves and records a repository with replicas alpha and beta at generation 0. */
gboolean record_repo (Conformance *c, const char *path, const GsTxId *call_id, guint64 *ret_id, GError **error);
/** The same; 0 after failing the case. */
guint64 make_repo (Conformance *c, const char *path);
/** Decides a one-ref write by @voter, with a new transaction id unless @txid is given. */
gboolean decide_simple (Conformance *c, guint64 id, guint64 expected, const char *voter, const GsTxId *txid,
                        guint64 *ret_generation, GError **error);
/** The same by a voter that may be behind (GS_DECIDE_BEHIND). */
gboolean decide_given_up (Conformance *c, guint64 id, guint64 expected, const char *voter, guint64 *ret_generation,
                          GError **error);

void decide_once (Conformance *c);
void decide_at_once (Conformance *c);
void decide_again (Conformance *c);
void decide_same_call (Conformance *c);
void decide_nowhere (Conformance *c);
void abort_and_decide (Conformance *c);
void abort_at_once (Conformance *c);
void changes_read_back (Conformance *c);
void decisions_survive (Conformance *c);
void crowd (Conformance *c);

/* reach.c */
void unreachable (Conformance *c);
void answers_lost (Conformance *c);

/* cluster.c */
void policies (Conformance *c);
void listing_by_id (Conformance *c);
void dropping (Conformance *c);
void verifying (Conformance *c);
void latecomers (Conformance *c);
void decide_out_of_use (Conformance *c);
void nodes_report (Conformance *c);
void nodes_refused (Conformance *c);
void leases (Conformance *c);
void lease_race (Conformance *c);
void hints (Conformance *c);

/* jobs.c */
/** Counts into a guint64. */
gboolean count_job (const GsJobRow *row, gpointer user);
void jobs_queue (Conformance *c);
void jobs_end (Conformance *c);
void jobs_lanes (Conformance *c);
void jobs_leases (Conformance *c);
void jobs_list (Conformance *c);
void jobs_race (Conformance *c);

#endif
