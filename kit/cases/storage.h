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

#define PROJECT_BIG (2u << 20)
#define PROJECT_OBJECTS 5 /* that the commit leads to, itself included */

/** A commit with files, and a tag on it: lib-x (executable) and lib/part hold @text, lib.c holds PROJECT_BIG bytes. */
typedef struct
{
  GsOid small, big, lib, tree, commit, tag;
  char text[2 * GS_TXID_SIZE + 1];
} Project;

/** All of it in one pack. *full*. */
GBytes *pack_project (Conformance *c, Project *ret);
/** A replica with refs/heads/main at the commit and refs/tags/v1 at the tag, at generation 1. FALSE after failing the case. */
gboolean project_make (Conformance *c, Replica *ret_replica, Project *ret);

/** Adds what one ref adds to the refs digest, or takes it off; HEAD by @symref. */
void digest_ref (GsDigest *digest, const char *name, const GsOid *oid, const char *symref, gboolean add);

/** A staged write in hand. */
typedef struct
{
  gpointer txn; /* NULL = none */
  const GsVote *vote;
  GsTxId txid;
} Staged;

gboolean stage_write (Conformance *c, const Replica *replica, const GsRefUpdate *updates, gsize n, gboolean atomic, GBytes *pack,
                      Staged *ret_staged, GError **error);
gboolean commit_write (Conformance *c, Staged *staged, guint64 generation, GError **error);
/** Aborts it, when there is one. */
void drop_write (Conformance *c, Staged *staged);
/** What a vote on @updates, in order of name and with their true old values, has to be. */
void expected_vote (const Replica *replica, const GsRefUpdate *updates, gsize n, GBytes *pack, guint8 ret_digest[32]);

gboolean replica_state (Conformance *c, const Replica *replica, GsReplicaState *ret_state, GError **error);
/** All refs and HEAD, for comparing before and after. "" after failing the case. *full*. */
char *refs_now (Conformance *c, const Replica *replica);
/** How many writes to the replica wait for their fate. */
guint n_pending (Conformance *c, const Replica *replica);

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
void own_refs_kept (Conformance *c);
void own_refs_refused (Conformance *c);
void hooks_absent (Conformance *c);
void crowd_of_writers (Conformance *c);
void copy_whole (Conformance *c);
void copy_part (Conformance *c);
void copy_refused (Conformance *c);
void copy_beside_a_write (Conformance *c);
void read_through (Conformance *c);

/** Is it a slot that the storage lacks, or that answered UNIMPLEMENTED? Then skips the case. */
gboolean lacks (Conformance *c, gboolean has, const GError *error);
void refs_advertised (Conformance *c);
void fetch_request (Conformance *c);
void fetch_session (Conformance *c);
void fetch_unknown (Conformance *c);
void push_taken (Conformance *c);
void push_dropped (Conformance *c);
void push_dropped_without_reason (Conformance *c);
void push_given_up (Conformance *c);
void push_refused (Conformance *c);
void push_left (Conformance *c);
void revisions_resolve (Conformance *c);
void revisions_refused (Conformance *c);
void objects_read (Conformance *c);
void objects_streamed (Conformance *c);
void trees_listed (Conformance *c);
void api_answered (Conformance *c);
void api_computed (Conformance *c);
void pending_after_death (Conformance *c);
void maintained (Conformance *c);
void maintained_under_load (Conformance *c);
void probed (Conformance *c);
void medium (Conformance *c);
void program_told (Conformance *c);

#endif
