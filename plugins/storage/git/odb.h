/* SPDX-License-Identifier: Apache-2.0 */
/**
 * odb.h - reading objects through libgit2: one handle per user at a time, header first, packs only.
 *
 * The handles see packs and nothing else: libgit2 1.5 loops for ever on a loose object that was cut short, which is
 * just what a power cut leaves, and we never make loose ones. Those of a repository that was brought in, or that
 * somebody made beside us, are read by a git process.
 */
#ifndef STORAGE_GIT_ODB_H
#define STORAGE_GIT_ODB_H

#include "git.h"

typedef struct ObjectHandle ObjectHandle;

/** A handle for this thread's use until odb_return. *full*. */
ObjectHandle *odb_borrow (Repo *repo, GError **error);
void odb_return (Repo *repo, ObjectHandle *handle);

/** libgit2's own handle, which sees packs only. *borrowed until odb_return*. */
struct git_odb *odb_git2 (ObjectHandle *handle);

/** NOT_FOUND when absent. */
gboolean odb_header (Repo *repo, ObjectHandle *handle, const GsOid *oid, GsObjectType *ret_type, guint64 *ret_size,
                     GError **error);
/** Looks at the header first; OUT_OF_RANGE when it is larger than @max. @ret_bytes *full*. */
gboolean odb_read (Repo *repo, ObjectHandle *handle, const GsOid *oid, guint64 max, GsObjectType *ret_type,
                   GBytes **ret_bytes, GError **error);
/** Follows annotated tags to what is not one; *@ret_oid may be @oid itself. */
gboolean odb_peel (Repo *repo, ObjectHandle *handle, const GsOid *oid, GsOid *ret_oid, GsObjectType *ret_type,
                   GError **error);
/** How many objects have an id that begins with the hex digits @prefix (at least 2): 0, 1 (it is *@ret_oid), or 2 for more. */
gboolean odb_find_prefix (Repo *repo, ObjectHandle *handle, const char *prefix, guint *ret_found, GsOid *ret_oid,
                          GError **error);
/** "commit", "tree", …; NULL for NONE. */
const char *odb_type_name (GsObjectType type);
/** Reads "<field> <40 hex>\n" at the start of @data. */
gboolean odb_parse_link (const char *data, gsize len, const char *field, GsOid *ret_oid);

/** The next entry of a tree's bytes; @name is borrowed from them and NUL-terminated. FALSE at the end or when damaged.
 */
gboolean odb_tree_next (const char **at, gsize *left, const char **ret_name, guint32 *ret_mode, GsOid *ret_oid);
GsObjectType odb_mode_type (guint32 mode);

#define ODB_TREE_MAX (64u << 20)
#define ODB_TAG_MAX (4u << 20)

#endif
