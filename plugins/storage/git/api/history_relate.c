/* SPDX-License-Identifier: Apache-2.0 */
/* HistoryService: how commits stand to each other. */
#include "api/history.h"

#include "history/relate.h"

#define PAIRS_MAX 1000u
#define BASES_MAX 100u
#define PREFIXES_MAX 64u
#define REF_BYTES 100 /* beside its name */

static gboolean
check_pairs (gsize n, GError **error)
{
  return (n > 0 && n <= PAIRS_MAX)
         || api_invalid (error, "pairs", "%" G_GSIZE_FORMAT " given, 1 to %u are taken", n, PAIRS_MAX);
}

static gboolean
take_pair (GitCall *call, HistView *view, const Gitstead__V1__HistoryPair *pair, guint32 *ret_left, guint32 *ret_right,
           GError **error)
{
  return gs_call_check (call->call, "compare commits", error)
         && history_take (call, view, &pair->left, "pairs.left", ret_left, error)
         && history_take (call, view, &pair->right, "pairs.right", ret_right, error);
}

gboolean
history_ahead_behind (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__HistoryAheadBehindRequest *request = (const void *) message;
  Gitstead__V1__HistoryAheadBehindReply *reply = (void *) answer;
  guint32 left, right;
  if (!check_pairs (request->n_pairs, error))
    return FALSE;
  g_autoptr (HistView) view = hist_view_open (call->repo, call->call, error);
  for (gsize i = 0; view != NULL && i < request->n_pairs; i++)
    {
      Gitstead__V1__HistoryDistance *distance = api_message (call, &gitstead__v1__history_distance__descriptor);
      if (!take_pair (call, view, request->pairs[i], &left, &right, error)
          || !hist_ahead_behind (view, left, right, &distance->ahead, &distance->behind, error))
        return FALSE;
      API_APPEND (call, reply, distances, distance);
    }
  return view != NULL;
}

gboolean
history_is_ancestor (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__HistoryIsAncestorRequest *request = (const void *) message;
  Gitstead__V1__HistoryIsAncestorReply *reply = (void *) answer;
  guint32 left, right;
  gboolean is;
  if (!check_pairs (request->n_pairs, error))
    return FALSE;
  g_autoptr (HistView) view = hist_view_open (call->repo, call->call, error);
  for (gsize i = 0; view != NULL && i < request->n_pairs; i++)
    {
      if (!take_pair (call, view, request->pairs[i], &left, &right, error)
          || !hist_is_ancestor (view, left, right, &is, error))
        return FALSE;
      API_APPEND (call, reply, ancestor, is);
    }
  return view != NULL;
}

gboolean
history_merge_base (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__HistoryMergeBaseRequest *request = (const void *) message;
  Gitstead__V1__HistoryMergeBaseReply *reply = (void *) answer;
  g_autoptr (GArray) bases = g_array_new (FALSE, FALSE, sizeof (guint32));
  gsize n = request->n_revisions;
  if (n < 2 || n > BASES_MAX)
    return api_invalid (error, "revisions", "%" G_GSIZE_FORMAT " given, 2 to %u are taken", n, BASES_MAX);
  g_autoptr (HistView) view = hist_view_open (call->repo, call->call, error);
  guint32 *tips = api_alloc (call, n * sizeof *tips);
  for (gsize i = 0; view != NULL && i < n; i++)
    if (!history_take (call, view, &request->revisions[i], "revisions", &tips[i], error))
      return FALSE;
  if (view == NULL
      || !(request->octopus ? hist_octopus_bases (view, tips, n, bases, error)
                            : hist_merge_bases (view, tips[0], tips + 1, n - 1, bases, error)))
    return FALSE;
  for (guint i = 0; i < bases->len; i++)
    {
      GsOid oid;
      hist_view_gs_oid (view, g_array_index (bases, guint32, i), &oid);
      API_APPEND (call, reply, oids, api_hex (call, &oid));
    }
  return TRUE;
}

/* ------------------------------------------------------------------------------------ refs containing */

typedef struct
{
  GitCall *call;
  HistView *view;
  const Gitstead__V1__HistoryRefsContainingRequest *request;
  GArray *indices, *tips; /* of candidates: in the snapshot; positions */
} Containing;

static gboolean
has_prefix (const Gitstead__V1__HistoryRefsContainingRequest *request, const RefEntry *entry)
{
  for (gsize i = 0; i < request->n_prefixes; i++)
    {
      const ProtobufCBinaryData *prefix = &request->prefixes[i]; /* its data is NULL when it is empty */
      if (prefix->len == 0 || (entry->name_len >= prefix->len && memcmp (entry->name, prefix->data, prefix->len) == 0))
        return TRUE;
    }
  return request->n_prefixes == 0;
}

/* A tag may lead to something else than a commit; what the graph has is one. */
static gboolean
tip_of (Containing *containing, const RefEntry *entry, guint32 *ret_pos, GError **error)
{
  const GsOid *oid = entry->peeled.len != 0 ? &entry->peeled : &entry->oid;
  ObjectHandle *odb = api_odb (containing->call, error);
  g_autoptr (GError) why = NULL;
  GsObjectType type;
  guint64 size;
  *ret_pos = HIST_NONE;
  if (odb == NULL)
    return FALSE;
  if (containing->view->graph != NULL && hist_graph_find (containing->view->graph, oid->raw, ret_pos))
    return TRUE;
  if (!odb_header (containing->call->repo, odb, oid, &type, &size, &why))
    {
      /* One that is lost leads nowhere, and the calls about the ref say so; whatever else is wrong may be over the next time. */
      if (gs_error_code (why) == GS_ERROR_NOT_FOUND)
        return TRUE;
      g_propagate_prefixed_error (error, g_steal_pointer (&why), "where %s leads: ", entry->name);
      return FALSE;
    }
  if (type != GS_OBJECT_COMMIT)
    return TRUE;
  *ret_pos = hist_view_find (containing->view, oid->raw, error);
  return *ret_pos != HIST_NONE;
}

static gboolean
find_candidates (Containing *containing, RefSnapshot *refs, const ApiPage *page, GError **error)
{
  g_autofree char *after = page->state != NULL ? g_strndup ((const char *) page->state, page->state_len) : NULL;
  gsize from = after != NULL ? ref_snapshot_seek (refs, after) : 0;
  for (gsize i = from; i < ref_snapshot_count (refs); i++)
    {
      RefEntry entry;
      guint32 index = (guint32) i, pos;
      ref_snapshot_get (refs, i, &entry);
      if (entry.missing || ref_name_hidden (containing->call->repo->refs, entry.name)
          || !has_prefix (containing->request, &entry) || (after != NULL && strcmp (entry.name, after) == 0))
        continue;
      if (!hist_tick (containing->view, error) || !tip_of (containing, &entry, &pos, error))
        return FALSE;
      if (pos == HIST_NONE)
        continue;
      g_array_append_val (containing->indices, index);
      g_array_append_val (containing->tips, pos);
    }
  return TRUE;
}

static gboolean
give_refs (Containing *containing, RefSnapshot *refs, const gboolean *contains, ApiPage *page,
           Gitstead__V1__HistoryRefsContainingReply *reply)
{
  const char *last = NULL;
  for (guint i = 0; i < containing->indices->len; i++)
    {
      RefEntry entry;
      if (!contains[i])
        continue;
      ref_snapshot_get (refs, g_array_index (containing->indices, guint32, i), &entry);
      if (!api_page_room (page, entry.name_len + REF_BYTES))
        {
          reply->next_page_token = api_page_token (containing->call, last, strlen (last));
          return TRUE;
        }
      Gitstead__V1__Ref *ref = api_message (containing->call, &gitstead__v1__ref__descriptor);
      ref->name = api_bytes (containing->call, entry.name, entry.name_len);
      ref->oid = api_hex (containing->call, &entry.oid);
      if (entry.peeled.len != 0)
        ref->peeled = api_hex (containing->call, &entry.peeled);
      API_APPEND (containing->call, reply, refs, ref);
      last = entry.name;
    }
  return TRUE;
}

static gboolean
contain (Containing *containing, guint32 wanted, ApiPage *page, Gitstead__V1__HistoryRefsContainingReply *reply,
         GError **error)
{
  RefSnapshot *refs = api_refs (containing->call, error);
  if (refs == NULL || !find_candidates (containing, refs, page, error))
    return FALSE;
  g_autofree gboolean *contains = g_new0 (gboolean, containing->tips->len + 1);
  return hist_containing (containing->view, wanted, (const guint32 *) (gpointer) containing->tips->data,
                          containing->tips->len, contains, error)
         && give_refs (containing, refs, contains, page, reply);
}

gboolean
history_refs_containing (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__HistoryRefsContainingRequest *request = (const void *) message;
  ApiPage page;
  guint32 wanted;
  if (request->n_prefixes > PREFIXES_MAX)
    return api_invalid (error, "prefixes", "%" G_GSIZE_FORMAT " given, at most %u are taken", request->n_prefixes,
                        PREFIXES_MAX);
  if (!api_page_begin (call, request->page, &page, error))
    return FALSE;
  if (page.state != NULL && (page.state_len > API_NAME_MAX || memchr (page.state, '\0', page.state_len) != NULL))
    return gs_page_bad (error);
  g_autoptr (HistView) view = hist_view_open (call->repo, call->call, error);
  if (view == NULL || !history_take (call, view, &request->revision, "revision", &wanted, error))
    return FALSE;
  Containing containing = { .call = call, .view = view, .request = request };
  containing.indices = g_array_new (FALSE, FALSE, sizeof (guint32));
  containing.tips = g_array_new (FALSE, FALSE, sizeof (guint32));
  gboolean done = contain (&containing, wanted, &page, (void *) answer, error);
  g_array_unref (containing.indices);
  g_array_unref (containing.tips);
  return done;
}
