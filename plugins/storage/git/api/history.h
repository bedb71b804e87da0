/* SPDX-License-Identifier: Apache-2.0 */
/**
 * history.h - what the files of HistoryService share.
 */
#ifndef STORAGE_GIT_API_HISTORY_H
#define STORAGE_GIT_API_HISTORY_H

#include "api.h"
#include "history/view.h"

#include "gitstead/v1/history.pb-c.h"

/** The position of a revision's commit. */
gboolean history_take (GitCall *call, HistView *view, const ProtobufCBinaryData *revision, const char *field,
                       guint32 *ret_pos, GError **error);
/** A commit as a message, or its id alone when @ids_only. */
gboolean history_message (GitCall *call, HistView *view, guint32 pos, gboolean ids_only, guint64 message_max,
                          Gitstead__V1__Commit **ret_commit, GError **error);

/** A commit as a message, once however often it is asked for. */
typedef struct
{
  GitCall *call;
  HistView *view;
  gboolean ids_only;
  guint64 message_max;
  GHashTable *known; /* position -> Commit, of the call */
} HistoryCommits;

void history_commits_init (HistoryCommits *commits, GitCall *call, HistView *view, gboolean ids_only,
                           guint64 message_max);
void history_commits_clear (HistoryCommits *commits);
/** *@ret_new: it was not asked for before. */
gboolean history_commits_get (HistoryCommits *commits, guint32 pos, Gitstead__V1__Commit **ret_commit,
                              gboolean *ret_new, GError **error);

/**
 * The same listing by a git process: renames and regular expressions. @request has the conditions, @include and
 * @exclude are resolved. Appends raw ids (HIST_RAW bytes each) to @ids: at most @max after @skip.
 */
gboolean history_list_by_git (GitCall *call, const Gitstead__V1__HistoryRange *range, const GArray *include,
                              const GArray *exclude, guint64 skip, guint64 max, GByteArray *ids, GError **error);

gboolean history_ahead_behind (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer,
                               GError **error);
gboolean history_is_ancestor (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean history_merge_base (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean history_refs_containing (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer,
                                  GError **error);
gboolean history_last_for_path (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer,
                                GError **error);
gboolean history_last_for_tree (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer,
                                GError **error);
gboolean history_blame (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);

#endif
