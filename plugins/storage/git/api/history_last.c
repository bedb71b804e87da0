/* SPDX-License-Identifier: Apache-2.0 */
/* HistoryService: who changed a path, or each entry of a directory, last. */
#include "api/history.h"

#include "history/last.h"

#define MESSAGE_MAX (64u << 10)
#define PATH_MESSAGE (4u << 10)
#define TREE_MESSAGE (1u << 10)
#define ENTRY_BYTES 110 /* beside its name */

static gboolean
one_path (GitCall *call, HistoryCommits *commits, guint32 tip, const ProtobufCBinaryData *bytes,
          Gitstead__V1__HistoryPathCommit *entry, GError **error)
{
  char *path;
  guint32 pos;
  gboolean is_new;
  if (!api_take_path (call, bytes, "paths", FALSE, &path, error))
    return FALSE;
  gsize len = strlen (path);
  const char *text = path;
  HistPaths *paths = hist_paths_new (commits->view, &text, &len, 1, error);
  if (paths == NULL)
    return FALSE;
  gboolean done = hist_last_for_path (commits->view, tip, paths, &pos, error)
                  && (pos == HIST_NONE || history_commits_get (commits, pos, &entry->commit, &is_new, error));
  hist_paths_free (paths);
  entry->path = *bytes;
  return done;
}

gboolean
history_last_for_path (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__HistoryLastForPathRequest *request = (const void *) message;
  Gitstead__V1__HistoryLastForPathReply *reply = (void *) answer;
  HistoryCommits commits;
  guint64 message_max;
  guint32 tip;
  gboolean done = TRUE;
  if (request->n_paths == 0 || request->n_paths > HIST_PATHS_MAX)
    return api_invalid (error, "paths", "%" G_GSIZE_FORMAT " given, 1 to %u are taken", request->n_paths,
                        HIST_PATHS_MAX);
  if (!api_take_limit (request->message_limit, PATH_MESSAGE, MESSAGE_MAX, "message_limit", &message_max, error))
    return FALSE;
  g_autoptr (HistView) view = hist_view_open (call->repo, call->call, error);
  if (view == NULL || !history_take (call, view, &request->revision, "revision", &tip, error))
    return FALSE;
  history_commits_init (&commits, call, view, request->ids_only, message_max);
  for (gsize i = 0; i < request->n_paths && done; i++)
    {
      Gitstead__V1__HistoryPathCommit *entry = api_message (call, &gitstead__v1__history_path_commit__descriptor);
      done = one_path (call, &commits, tip, &request->paths[i], entry, error);
      API_APPEND (call, reply, entries, entry);
    }
  history_commits_clear (&commits);
  return done;
}

/* ---------------------------------------------------------------------------------------- directories */

/** A page of a directory. Its token: the commit's id, then the number of the next entry. */
typedef struct
{
  guint32 next; /* big endian */
  guint8 tip[HIST_RAW];
} TreeToken;

static gboolean
tree_begin (GitCall *call, HistView *view, const Gitstead__V1__HistoryLastForTreeRequest *request, const ApiPage *page,
            guint32 *ret_tip, guint *ret_from, GError **error)
{
  TreeToken token;
  GsOid oid;
  if (page->state == NULL)
    {
      *ret_from = 0;
      return history_take (call, view, &request->revision, "revision", ret_tip, error);
    }
  if (page->state_len != sizeof token)
    return gs_page_bad (error);
  memcpy (&token, page->state, sizeof token);
  char hex[2 * HIST_RAW + 1];
  gs_hex (token.tip, HIST_RAW, hex);
  const ProtobufCBinaryData revision = { 2 * HIST_RAW, (guint8 *) hex };
  if (!api_take_commit (call, &revision, "page.token", &oid, NULL))
    return gs_page_bad (error);
  *ret_from = GUINT32_FROM_BE (token.next);
  *ret_tip = hist_view_find (view, oid.raw, error);
  return *ret_tip != HIST_NONE;
}

static gboolean
give_entries (GitCall *call, HistoryCommits *commits, const GArray *lasts, ApiPage *page,
              Gitstead__V1__HistoryLastForTreeReply *reply, guint *ret_given, GError **error)
{
  guint i = 0;
  for (; i < lasts->len; i++)
    {
      const HistLast *last = &g_array_index (lasts, HistLast, i);
      Gitstead__V1__HistoryTreeEntry *entry = api_message (call, &gitstead__v1__history_tree_entry__descriptor);
      Gitstead__V1__Commit *commit;
      gboolean is_new;
      GsOid oid = { .len = HIST_RAW };
      if (!history_commits_get (commits, last->commit, &commit, &is_new, error))
        return FALSE;
      gsize bytes
          = last->name_len + ENTRY_BYTES + (is_new ? protobuf_c_message_get_packed_size (&commit->base) + 8 : 0);
      if (!api_page_room (page, bytes))
        break;
      memcpy (oid.raw, last->entry.oid, HIST_RAW);
      entry->name = api_bytes (call, last->name, last->name_len);
      entry->mode = last->entry.mode;
      entry->type = (Gitstead__V1__ObjectType) odb_mode_type (last->entry.mode);
      entry->oid = api_hex (call, &oid);
      entry->commit = commit->oid;
      API_APPEND (call, reply, entries, entry);
      if (is_new)
        API_APPEND (call, reply, commits, commit);
    }
  *ret_given = i;
  return TRUE;
}

static gboolean
give_tree (GitCall *call, HistView *view, guint32 tip, guint from, HistPaths *path, ApiPage *page, guint64 message_max,
           gboolean ids_only, Gitstead__V1__HistoryLastForTreeReply *reply, GError **error)
{
  g_autoptr (GArray) lasts = g_array_new (FALSE, FALSE, sizeof (HistLast));
  HistoryCommits commits;
  guint n, given;
  guint to = from + (guint) MIN (page->limit, G_MAXUINT - from);
  g_array_set_clear_func (lasts, hist_last_clear);
  if (!hist_last_for_tree (view, tip, path, from, to, lasts, &n, error))
    return FALSE;
  history_commits_init (&commits, call, view, ids_only, message_max);
  gboolean done = give_entries (call, &commits, lasts, page, reply, &given, error);
  history_commits_clear (&commits);
  if (done && from + given < n)
    {
      TreeToken token;
      memcpy (token.tip, hist_view_oid (view, tip), HIST_RAW);
      token.next = GUINT32_TO_BE (from + given);
      reply->next_page_token = api_page_token (call, &token, sizeof token);
    }
  return done;
}

gboolean
history_last_for_tree (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__HistoryLastForTreeRequest *request = (const void *) message;
  guint64 message_max;
  ApiPage page;
  guint32 tip = HIST_NONE;
  guint from = 0;
  char *text;
  if (!api_take_path (call, &request->path, "path", TRUE, &text, error)
      || !api_take_limit (request->message_limit, TREE_MESSAGE, MESSAGE_MAX, "message_limit", &message_max, error)
      || !api_page_begin (call, request->page, &page, error))
    return FALSE;
  g_autoptr (HistView) view = hist_view_open (call->repo, call->call, error);
  if (view == NULL || !tree_begin (call, view, request, &page, &tip, &from, error))
    return FALSE;
  const char *path = text;
  gsize len = strlen (text);
  HistPaths *paths = hist_paths_new (view, &path, &len, len > 0 ? 1 : 0, error);
  if (paths == NULL)
    return FALSE;
  gboolean done
      = give_tree (call, view, tip, from, paths, &page, message_max, request->ids_only, (void *) answer, error);
  hist_paths_free (paths);
  return done;
}
