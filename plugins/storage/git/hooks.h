/* SPDX-License-Identifier: Apache-2.0 */
/**
 * hooks.h - programs that belong to a repository and are asked about its writes. They are the set of files `hooks`
 * (settings.h): pre-receive.d/<name>, update.d/<name> and post-receive.d/<name>, run in the order of their names.
 *
 * A hook is run as git runs it, with what git would give it, as a child of ours: clean environment, process group, limits,
 * and an end when its time is up or the caller goes. What it says goes to whoever pushes.
 */
#ifndef STORAGE_GIT_HOOKS_H
#define STORAGE_GIT_HOOKS_H

#include "settings.h"

#define FILESET_HOOKS "hooks"

/** Is it a path that a hook may have? */
gboolean hook_path_valid (const char *path, gsize len);
/**
 * Of a prepared write: asks the hooks when @run, and says in its vote what became of it. When one says no, every update is
 * refused in the verdicts, and nothing is prepared any more. FALSE when the call is over.
 */
gboolean hooks_ask (Txn *txn, GsCall *call, gboolean run, GError **error);
/** Of a write that is applied: runs those that are only told. Their failures are logged. */
void hooks_tell (Txn *txn, GsCall *call);
/** Where the one who pushes reads what is said: a descriptor that stays the push's, or -1. push.c. */
int push_said_fd (const Txn *txn);
/** A push's options, char*; NULL when its client does not have such, or it is no push. *borrowed until it ends*. push.c. */
const GPtrArray *push_options (const Txn *txn);

#endif
