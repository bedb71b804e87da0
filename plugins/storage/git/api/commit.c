/* SPDX-License-Identifier: Apache-2.0 */
/* CommitService: single commits. What is in their trees: tree.c. */
#include "details.h"

#define MESSAGE_MAX (64u << 10)
#define SIGNATURES_MAX 100

/* Fills in *@ret_commit unless the revision leads to none, and may. */
static gboolean
get_one (GitCall *call, const Gitstead__V1__CommitGetRequest *request, gsize index, guint64 message_max,
         Gitstead__V1__Commit **ret_commit, GError **error)
{
  g_autoptr (GError) why = NULL;
  GsOid oid;
  if (api_take_commit (call, &request->revisions[index], "revisions", &oid, &why))
    return api_commit_detailed (call, &oid, message_max, request->details, ret_commit, error);
  if (request->allow_missing && why->code == GS_ERROR_NOT_FOUND)
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

static gboolean
commit_get (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__CommitGetRequest *request = (const void *) message;
  Gitstead__V1__CommitGetReply *reply = (void *) answer;
  const gsize most = api_details_limit (request->details);
  Gitstead__V1__Commit **commits = api_alloc (call, (most + 1) * sizeof *commits);
  guint64 message_max;
  gsize bytes = 0;
  if (!api_take_count (request->n_revisions, most, "revisions", error) || !api_take_details (request->details, error)
      || !api_take_limit (request->message_limit, MESSAGE_MAX, MESSAGE_MAX, "message_limit", &message_max, error))
    return FALSE;
  for (gsize i = 0; i < request->n_revisions && bytes < API_PAGE_BYTES; i++)
    {
      Gitstead__V1__CommitGetEntry *entry = api_message (call, &gitstead__v1__commit_get_entry__descriptor);
      if (!gs_call_check (call->call, "get commits", error)
          || !get_one (call, request, i, message_max, &entry->commit, error))
        return FALSE;
      commits[reply->n_entries] = entry->commit;
      bytes += protobuf_c_message_get_packed_size (&entry->base) + 8;
      API_APPEND (call, reply, entries, entry);
    }
  return api_add_details (call, request->details, commits, reply->n_entries, error);
}

/* ------------------------------------------------------------------------------------------- stats */

/* "<added>\t<deleted>\t<path>" */
static gboolean
count_lines (ApiFields *fields, const char *field, gsize len, gboolean *ret_enough, GError **error)
{
  Gitstead__V1__CommitStatsReply *reply = fields->user;
  char *rest;
  reply->files++;
  reply->additions += g_ascii_strtoull (field, &rest, 10); /* "-" of a binary file is 0 */
  rest = strchr (field, '\t');
  if (rest != NULL)
    reply->deletions += g_ascii_strtoull (rest + 1, NULL, 10);
  return TRUE;
}

static gboolean
commit_stats (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__CommitStatsRequest *request = (const void *) message;
  Gitstead__V1__CommitStatsReply *reply = (void *) answer;
  ApiFields fields = { .separator = '\0', .max = 1u << 20, .visit = count_lines, .user = reply };
  ApiSides sides;
  GsOid oid;
  if (!api_take_commit (call, &request->revision, "revision", &oid, error)
      || !api_parent_sides (call, &oid, 0, &sides, NULL, error))
    return FALSE;
  const char *const argv[]
      = { "diff-tree", "-r", "-z", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv", "--end-of-options",
          sides.left, sides.right, NULL };
  reply->oid = api_hex (call, &oid);
  return api_run_fields (call, argv, NULL, NULL, &fields, error);
}

/* ---------------------------------------------------------------------------------------- signatures */

Gitstead__V1__SignatureKind
api_signature_kind (const char *signature, gsize len)
{
  static const struct
  {
    const char *begin;
    Gitstead__V1__SignatureKind kind;
  } kinds[] = {
    { "-----BEGIN PGP SIGNATURE-----", GITSTEAD__V1__SIGNATURE_KIND__SIGNATURE_PGP },
    { "-----BEGIN PGP MESSAGE-----", GITSTEAD__V1__SIGNATURE_KIND__SIGNATURE_PGP },
    { "-----BEGIN SSH SIGNATURE-----", GITSTEAD__V1__SIGNATURE_KIND__SIGNATURE_SSH },
    { "-----BEGIN SIGNED MESSAGE-----", GITSTEAD__V1__SIGNATURE_KIND__SIGNATURE_X509 },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (kinds); i++)
    if (len >= strlen (kinds[i].begin) && memcmp (signature, kinds[i].begin, strlen (kinds[i].begin)) == 0)
      return kinds[i].kind;
  return len > 0 ? GITSTEAD__V1__SIGNATURE_KIND__SIGNATURE_OTHER : GITSTEAD__V1__SIGNATURE_KIND__SIGNATURE_NONE;
}

/*
 * A commit's signature is a header field whose later lines begin with a space; what it is over is the commit without any
 * such field.
 */
static void
split_commit (const char *data, gsize len, const char *field, GString *signature, GString *payload)
{
  const char *at = data, *end = data + len;
  const gsize field_len = strlen (field);
  gboolean header = TRUE, inside = FALSE, wanted = FALSE;
  while (at < end)
    {
      const char *newline = memchr (at, '\n', (gsize) (end - at));
      const char *next = newline != NULL ? newline + 1 : end;
      gsize line = (gsize) (next - at);
      gboolean begins = header && line > field_len && memcmp (at, field, field_len) == 0 && at[field_len] == ' ';
      gboolean other = header && line > 13 && memcmp (at, "gpgsig", 6) == 0 && (at[6] == ' ' || at[6] == '-');
      inside = header && *at == ' ' ? inside : (begins || other);
      wanted = begins || (wanted && inside && *at == ' ');
      if (!inside)
        g_string_append_len (payload, at, (gssize) line);
      else if (wanted)
        {
          gsize skip = begins ? field_len + 1 : 1;
          g_string_append_len (signature, at + skip, (gssize) (line - skip));
        }
      header = header && *at != '\n';
      at = next;
    }
}

static gboolean
commit_signatures (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__CommitSignaturesRequest *request = (const void *) message;
  Gitstead__V1__CommitSignaturesReply *reply = (void *) answer;
  gsize bytes = 0;
  if (!api_take_count (request->n_revisions, SIGNATURES_MAX, "revisions", error))
    return FALSE;
  for (gsize i = 0; i < request->n_revisions; i++)
    {
      Gitstead__V1__ObjectSignature *entry = api_message (call, &gitstead__v1__object_signature__descriptor);
      g_autoptr (GString) signature = g_string_new (NULL), payload = g_string_new (NULL);
      g_autoptr (GBytes) data = NULL;
      GsOid oid;
      if (!gs_call_check (call->call, "get signatures", error)
          || !api_take_commit (call, &request->revisions[i], "revisions", &oid, error)
          || !api_read (call, &oid, GS_OBJECT_COMMIT, API_COMMIT_MAX, &data, error))
        return FALSE;
      split_commit (g_bytes_get_data (data, NULL), g_bytes_get_size (data), "gpgsig", signature, payload);
      entry->oid = api_hex (call, &oid);
      entry->kind = api_signature_kind (signature->str, signature->len);
      bytes += signature->len + payload->len;
      if (bytes > API_PAGE_BYTES)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "revisions: the signed bytes are more than %d: ask for fewer at once",
                        API_PAGE_BYTES);
      if (signature->len > 0)
        {
          entry->signature = api_bytes (call, signature->str, signature->len);
          entry->payload = api_bytes (call, payload->str, payload->len);
        }
      API_APPEND (call, reply, signatures, entry);
    }
  return TRUE;
}

const ApiRow api_commit_rows[] = {
  API_ROW (700, commit_get, commit_get_request, commit_get_reply),
  API_ROW (701, commit_stats, commit_stats_request, commit_stats_reply),
  API_ROW (702, commit_signatures, commit_signatures_request, commit_signatures_reply),
  API_ROW (703, api_tree_entries, commit_tree_entries_request, commit_tree_entries_reply),
  API_ROW (704, api_file_list, commit_file_list_request, commit_file_list_reply),
  { 0 },
};
