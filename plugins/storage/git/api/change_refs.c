/* SPDX-License-Identifier: Apache-2.0 */
/* ChangeService: branches and tags, which are names for what is here already. */
#include "change.h"

#include <string.h>

#define HEADS "refs/heads/"
#define TAGS "refs/tags/"

static gboolean
taken (const Change *change)
{
  return !gs_oid_is_zero (&change->old_oid);
}

/* ---------------------------------------------------------------------------------------- branches */

static gboolean
result_commit (Change *change, const GsOid *oid, GError **error)
{
  GsOid tree;
  return commit_tree (change, oid, &tree, error) && change_result (change, oid, &tree, error);
}

gboolean
change_create_branch (Change *change, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__ChangeCreateBranchRequest *request = (gconstpointer) message;
  GsOid oid;
  if (!change_begin_ref (change, &request->branch, "branch", HEADS, "", request->dry_run, error)
      || !api_take_commit (&change->api, &request->revision, "revision", &oid, error))
    return FALSE;
  if (taken (change))
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "branch %s is there already", change->ref);
  return result_commit (change, &oid, error);
}

gboolean
change_update_branch (Change *change, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__ChangeUpdateBranchRequest *request = (gconstpointer) message;
  GsOid oid;
  gboolean forward = TRUE;
  if (!change_begin_ref (change, &request->branch, "branch", HEADS, request->expected_old_oid, request->dry_run, error)
      || !api_take_commit (&change->api, &request->revision, "revision", &oid, error))
    return FALSE;
  if (!taken (change))
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no branch %s", change->ref);
  if (!request->force && !change_is_ancestor (change, &change->old_oid, &oid, &forward, error))
    return FALSE;
  if (!forward)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "%s would lose commits: it is not in the history of the revision; force does it nevertheless",
                    change->ref);
  return result_commit (change, &oid, error);
}

static gboolean
delete_ref (Change *change, GError **error)
{
  const GsOid none = { .len = GS_FORMAT_SHA1 };
  if (!taken (change))
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no %s", change->ref);
  return change_result (change, &none, NULL, error);
}

gboolean
change_delete_branch (Change *change, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__ChangeDeleteBranchRequest *request = (gconstpointer) message;
  return change_begin_ref (change, &request->branch, "branch", HEADS, request->expected_old_oid, request->dry_run,
                           error)
         && delete_ref (change, error);
}

/* -------------------------------------------------------------------------------------------- tags */

static gboolean
add_tag_object (Change *change, const GsOid *target, const char *text, GsOid *ret_oid, GError **error)
{
  g_autoptr (GString) tag = g_string_new (NULL);
  GsObjectType type;
  char hex[GS_OID_HEX_MAX + 1];
  if (!draft_type (change->draft, target, &type, error))
    return FALSE;
  gs_oid_hex (target, hex);
  g_string_append_printf (tag, "object %s\ntype %s\ntag %s\ntagger %s\n\n%s", hex, odb_type_name (type),
                          change->ref + strlen (TAGS), change->committer, text);
  return draft_add (change->draft, GS_OBJECT_TAG, tag->str, tag->len, ret_oid, error);
}

gboolean
change_create_tag (Change *change, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__ChangeCreateTagRequest *request = (gconstpointer) message;
  g_autofree char *text = NULL;
  GsObject target = { .size = sizeof target };
  GsOid oid;
  if (!change_begin_ref (change, &request->tag, "tag", TAGS, request->expected_old_oid, request->dry_run, error)
      || !api_take_revision (&change->api, &request->revision, "revision", &target, error))
    return FALSE;
  if (taken (change) && !request->force)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "tag %s is there already", change->ref);
  if (request->message.len == 0)
    {
      if (request->tagger != NULL)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "message: must not be empty where a tagger is given");
      return change_result (change, &target.oid, NULL, error);
    }
  change->committer = change_ident (request->tagger, "tagger", error);
  return change->committer != NULL && change_message (&request->message, "message", &text, error)
         && add_tag_object (change, &target.oid, text, &oid, error) && change_result (change, &oid, NULL, error);
}

gboolean
change_delete_tag (Change *change, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__ChangeDeleteTagRequest *request = (gconstpointer) message;
  return change_begin_ref (change, &request->tag, "tag", TAGS, request->expected_old_oid, request->dry_run, error)
         && delete_ref (change, error);
}
