/* SPDX-License-Identifier: Apache-2.0 */
/**
 * storage.h - what the files of the storage suite share.
 */
#ifndef CONFORMANCE_STORAGE_SUITE_H
#define CONFORMANCE_STORAGE_SUITE_H

#include "engine.h"

/** A replica to work on, made by replica_make. */
typedef struct
{
  GsRepo repo;
  char path[80];
} Replica;

/** Creates an empty SHA-1 replica with the default branch refs/heads/main. FALSE after failing the case. */
gboolean replica_make (Conformance *c, Replica *ret_replica);
/** An id and a path that nobody uses yet; nothing is created. */
void replica_name (Conformance *c, Replica *ret_replica);

/** Objects to point refs at: @n root commits on the empty tree, in one pack. *full*. */
GBytes *pack_commits (Conformance *c, guint n, GsOid *ret_oids);

/** Adds what one ref adds to the refs digest, or takes it off; HEAD by @symref. */
void digest_ref (GsDigest *digest, const char *name, const GsOid *oid, const char *symref, gboolean add);

/** Stages, and commits at @generation when everything was accepted. FALSE after failing the case. */
gboolean write_refs (Conformance *c, const Replica *replica, const GsRefUpdate *updates, gsize n, GBytes *pack,
                     guint64 generation);
/** Creates @name at a new commit, as generation @generation. */
gboolean write_one (Conformance *c, const Replica *replica, const char *name, guint64 generation, GsOid *ret_oid);

/** "create refs/heads/x" for new_oid; old all-zero. */
GsRefUpdate update_create (const char *name, const GsOid *oid);
GsRefUpdate update_move (const char *name, const GsOid *from, const GsOid *to);
GsRefUpdate update_delete (const char *name, const GsOid *from);

/** All refs as "NAME=HEX " lines joined, HEAD as "HEAD->TARGET ". *full*; NULL with @error. */
char *refs_text (Conformance *c, const Replica *replica, const GsRefQuery *query, GError **error);

void stage_invisible (Conformance *c);
void stage_vote (Conformance *c);
void stage_refusals (Conformance *c);
void stage_bad_names (Conformance *c);
void stage_atomic (Conformance *c);
void stage_conflicts (Conformance *c);
void stage_bad_pack (Conformance *c);
void stage_side_by_side (Conformance *c);
void stage_one_ref_at_once (Conformance *c);
void commit_state (Conformance *c);
void commit_out_of_order (Conformance *c);
void commit_all_or_nothing (Conformance *c);
void commit_head (Conformance *c);
void abort_leaves_nothing (Conformance *c);
void resolve_unknown (Conformance *c);
void crowd_of_writers (Conformance *c);

#endif
