/* SPDX-License-Identifier: Apache-2.0 */
/* CommitService: single commits and what is in them. */
#include "api.h"

#define GET_MAX 1000
#define MESSAGE_MAX (64u << 10)

/* Fills in *@ret_commit unless the revision leads to none and @allow_missing. */
static gboolean
get_one (GitCall *call, const ProtobufCBinaryData *revision, guint64 message_max, gboolean allow_missing,
         Gitstead__V1__Commit **ret_commit, GError **error)
{
  g_autoptr (GError) why = NULL;
  GsOid oid;
  if (api_take_commit (call, revision, "revisions", &oid, &why))
    return api_commit_message (call, &oid, message_max, ret_commit, error);
  if (allow_missing && why->code == GS_ERROR_NOT_FOUND)
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

static gboolean
commit_get (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__CommitGetRequest *request = (const void *) message;
  Gitstead__V1__CommitGetReply *reply = (void *) answer;
  guint64 message_max;
  gsize bytes = 0;
  if (request->n_revisions == 0 || request->n_revisions > GET_MAX)
    return api_invalid (error, "revisions", "%" G_GSIZE_FORMAT " given, 1 to %d are taken", request->n_revisions,
                        GET_MAX);
  if (!api_take_limit (request->message_limit, MESSAGE_MAX, MESSAGE_MAX, "message_limit", &message_max, error))
    return FALSE;
  for (gsize i = 0; i < request->n_revisions && bytes < API_PAGE_BYTES; i++)
    {
      Gitstead__V1__CommitGetEntry *entry = api_message (call, &gitstead__v1__commit_get_entry__descriptor);
      if (!gs_call_check (call->call, "get commits", error)
          || !get_one (call, &request->revisions[i], message_max, request->allow_missing, &entry->commit, error))
        return FALSE;
      bytes += entry->commit != NULL ? protobuf_c_message_get_packed_size (&entry->base) + 8 : 8;
      API_APPEND (call, reply, entries, entry);
    }
  return TRUE;
}

const ApiRow api_commit_rows[] = {
  API_ROW (700, commit_get, commit_get_request, commit_get_reply),
  { 0 },
};
