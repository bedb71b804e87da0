/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pool.h - replicas that borrow the objects of another one on the same storage: their pool.
 *
 * In a member objects/info/alternates leads to the pool, for git, and GIT_POOL says the same with the pool's identity. In the
 * pool there is a file for each member in GIT_MEMBERS. That file is there before the member borrows anything and goes after the
 * member has stopped, so a pool that is removed only without such files takes nothing away from anybody. A file whose replica
 * is gone, or is no longer linked, is a leftover of a crash or of a removal, and is taken away by whoever looks.
 *
 * No housekeeping deletes objects of any replica (repack.h), and whoever asks for it is refused while there are members
 * (prune.h), so what a member leaves to its pool stays there, whatever becomes of the pool's refs.
 */
#ifndef STORAGE_GIT_POOL_H
#define STORAGE_GIT_POOL_H

#include "repack.h"

#define GIT_POOL "gitstead/pool"       /* in a member: "<pool's id> <its path>\n" */
#define GIT_MEMBERS "gitstead/members" /* in a pool: "<member's id>" holding "<its path>\n" */

/**
 * For a replica that is being opened: *@ret_objects the pool's objects, *full*, NULL when it has none. FAILED_PRECONDITION for
 * one that borrows from anywhere else, or from a pool that knows nothing of it.
 */
gboolean pool_check (Storage *storage, const char *dir, guint64 id, char **ret_objects, GError **error);
/** The pool's objects, *full*; NULL when the replica has none. */
char *pool_objects (Repo *repo);
/** The pool of a member; *@ret_id 0 when it has none. @ret_path *full*. */
gboolean pool_of (const char *dir, guint64 *ret_id, char **ret_path, GError **error);
/** Members of the replica in @dir: GsRepo, whose paths are their own. Takes leftovers away. *full*, NULL with @error. */
GArray *pool_members (Storage *storage, const char *dir, guint64 id, GError **error);
/** FALSE with FAILED_PRECONDITION when somebody borrows from the replica in @dir. */
gboolean pool_check_free (Storage *storage, const char *dir, guint64 id, GError **error);

/** Until repack_unlock nobody becomes a member of the replica, or ceases to be one: for moments only. -1 with @error. */
int pool_hold (Repo *repo, GError **error);
/** Links @member to @pool; both are held as writers. */
gboolean pool_link (Repo *member, Repo *pool, GError **error);
/** Packs @member without what its pool has. */
gboolean pool_reduce (Repo *member, GsCall *call, GError **error);
/** Makes @member whole by itself. Not held as a writer. *@ret_pool: what it was linked to, 0 = nothing. */
gboolean pool_unlink (Repo *member, GsCall *call, guint64 *ret_pool, GError **error);

#endif
