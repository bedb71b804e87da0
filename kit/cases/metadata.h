/* SPDX-License-Identifier: Apache-2.0 */
/**
 * metadata.h - what the two files of the metadata suite share.
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
  } replicas[8];
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

#endif
