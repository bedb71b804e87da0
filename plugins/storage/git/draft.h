/* SPDX-License-Identifier: Apache-2.0 */
/**
 * draft.h - new objects that nobody can see yet: they gather in one pack, in memory or in a file without a name.
 *
 * What is added stands in the pack even when the repository has it: an object that no ref reaches may lie in one
 * replica and be absent from another, and the pack must be whole for all of them. What may be left out is what a ref
 * of the repository reaches, and only the caller knows that.
 *
 * One thread at a time.
 */
#ifndef STORAGE_GIT_DRAFT_H
#define STORAGE_GIT_DRAFT_H

#include "odb.h"

typedef struct Draft Draft;

/** @max_bytes bounds the sum of the objects' inflated sizes; 0 = no bound. *full*. */
Draft *draft_new (Repo *repo, ObjectHandle *handle, guint64 max_bytes);
void draft_free (Draft *draft);
/** Adding what was added before is fine. OUT_OF_RANGE past the bound. */
gboolean draft_add (Draft *draft, GsObjectType type, const void *data, gsize len, GsOid *ret_oid, GError **error);
gboolean draft_has (const Draft *draft, const GsOid *oid);
/** Reads an object, the draft's own (not its blobs) or the repository's; as odb_read. */
gboolean draft_read (Draft *draft, const GsOid *oid, guint64 max, GsObjectType *ret_type, GBytes **ret_bytes,
                     GError **error);
/** The type of an object of the draft or of the repository. NOT_FOUND when absent. */
gboolean draft_type (Draft *draft, const GsOid *oid, GsObjectType *ret_type, GError **error);
/** Ends it: the whole pack, *full*; *@ret_pack is NULL when nothing was added. */
gboolean draft_pack (Draft *draft, GBytes **ret_pack, GError **error);

/** Writes the draft's trees, commits and tags that were not exported before as loose objects into @objects, so that a
 * git process sees them. */
gboolean draft_export (Draft *draft, const char *objects, GError **error);

Repo *draft_repo (Draft *draft);
ObjectHandle *draft_handle (Draft *draft);

/** The id that an object would have; SHA-1 that refuses bytes made to collide. */
gboolean object_id (GsObjectType type, const void *data, gsize len, GsOid *ret_oid, GError **error);

/** For hash tables whose keys are GsOid. */
guint oid_hash (gconstpointer oid);
gboolean oid_equal (gconstpointer a, gconstpointer b);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Draft, draft_free)

#endif
