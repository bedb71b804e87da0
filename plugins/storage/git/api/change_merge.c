/* SPDX-License-Identifier: Apache-2.0 */
/* ChangeService/Merge. */
#include "change.h"

#include <string.h>

typedef Gitstead__V1__ChangeMergeRequest Request;

static gboolean
check_style (const Request *request, GError **error)
{
  switch (request->style)
    {
    case GITSTEAD__V1__MERGE_STYLE__MERGE_COMMIT:
    case GITSTEAD__V1__MERGE_STYLE__MERGE_FAST_FORWARD:
    case GITSTEAD__V1__MERGE_STYLE__MERGE_FAST_FORWARD_ONLY:
    case GITSTEAD__V1__MERGE_STYLE__MERGE_SQUASH:
      return TRUE;
    default:
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "style: %d is not a style of merging", (int) request->style);
    }
}

/* What the branch has that does not contain the other, and the other way round. */
static gboolean
relate (Change *change, const GsOid *source, gboolean *ret_contained, gboolean *ret_forward, GError **error)
{
  *ret_forward = FALSE;
  return change_is_ancestor (change, source, &change->base, ret_contained, error)
         && (*ret_contained || change_is_ancestor (change, &change->base, source, ret_forward, error));
}

static gboolean
move_forward (Change *change, const GsOid *source, GError **error)
{
  GsOid tree;
  return commit_tree (change, source, &tree, error) && change_result (change, source, &tree, error);
}

/* A branch that begins at write.start still gets a value when there is nothing to merge. */
static gboolean
contained (Change *change, GError **error)
{
  if (!gs_oid_equal (&change->base, &change->old_oid))
    return change_result (change, &change->base, &change->base_tree, error);
  change_unchanged (change);
  return TRUE;
}

static gboolean
make_commit (Change *change, const Request *request, const GsOid *source, gboolean forward, GError **error)
{
  const GsOid parents[] = { change->base, *source };
  gsize n_parents = request->style == GITSTEAD__V1__MERGE_STYLE__MERGE_SQUASH ? 1 : 2;
  g_autofree char *text = NULL;
  gboolean clean = TRUE;
  GsOid tree, commit;
  if (!change_message (&request->message, "message", &text, error))
    return FALSE;
  /* What the branch has, the other has too: its tree is the result. */
  if (forward ? !commit_tree (change, source, &tree, error)
              : !change_merge_commits (change, &change->base, source, request->allow_unrelated, &tree, &clean, error))
    return FALSE;
  if (!clean)
    return TRUE;
  return commit_add (change, &tree, parents, n_parents, change->author, NULL, text, strlen (text), &commit, error)
         && change_result (change, &commit, &tree, error);
}

gboolean
change_merge (Change *change, const ProtobufCMessage *message, GError **error)
{
  const Request *request = (gconstpointer) message;
  gboolean only = request->style == GITSTEAD__V1__MERGE_STYLE__MERGE_FAST_FORWARD_ONLY;
  gboolean is_contained, forward;
  GsOid source;
  if (!check_style (request, error) || !change_begin (change, request->write, !only, error)
      || !change_need_base (change, error)
      || !api_take_commit (&change->api, &request->source, "source", &source, error)
      || !relate (change, &source, &is_contained, &forward, error))
    return FALSE;
  if (is_contained)
    return contained (change, error);
  if (forward && (only || request->style == GITSTEAD__V1__MERGE_STYLE__MERGE_FAST_FORWARD))
    return move_forward (change, &source, error);
  if (only)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "%s cannot be moved forward: it has commits that the source does not have", change->ref);
  return make_commit (change, request, &source, forward, error);
}
