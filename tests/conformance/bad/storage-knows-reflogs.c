/* SPDX-License-Identifier: Apache-2.0 */
/* S60: understands revisions that are not in the contract. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
bad_resolve (gpointer self, GsCall *call, const GsRepo *repo, const char *revision, gsize revision_len, GsObject *ret_object,
             GError **error)
{
  const char *at = memchr (revision, '@', revision_len);
  return good_ops.resolve_revision (self, call, repo, revision, at != NULL && at > revision ? (gsize) (at - revision) : revision_len,
                                    ret_object, error);
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", ops->resolve_revision = bad_resolve)
