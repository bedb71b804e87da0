/* SPDX-License-Identifier: Apache-2.0 */
/**
 * change.h - what the calls of ChangeService have in common: the ref a change goes to, who makes it, the objects it
 * makes, its answer.
 *
 * A handler looks at the state (change_begin), adds objects to the draft, and says what the ref shall have
 * (change_result) or that it cannot be (change_conflicts). Nothing it does can be seen by readers, and what it needs on
 * the disk lies in a quarantine of its own that goes when the call ends.
 */
#ifndef STORAGE_GIT_API_CHANGE_H
#define STORAGE_GIT_API_CHANGE_H

#include "../draft.h"
#include "api.h"

#include "gitstead/v1/change.pb-c.h"

#define CHANGE_STEPS_MAX 1000u        /* commits or patches that one call repeats */
#define CHANGE_INPUT_MAX (256u << 20) /* bytes of one file that comes as bulk bytes */
#define CHANGE_READ_MAX (256u << 20)  /* bytes of all commits that one call reads */
#define CHANGE_MESSAGE_MAX (512u << 10)
#define CHANGE_SECONDS_MAX ((G_GINT64_CONSTANT (1) << 34) - 1) /* what git's commit-graph has room for */

/** One side of a conflict; @mode 0 = absent. */
typedef struct
{
  GsOid oid;
  guint32 mode;
} ConflictSide;

typedef struct
{
  char *path;
  ConflictSide side[3]; /* base, ours, theirs */
} Conflict;

/** A file whose content git has rules for, and the action that put it there. */
typedef struct
{
  GsOid oid;
  char *action; /* "actions[3] '.gitmodules'" */
} Special;

typedef struct
{
  GitCall api;
  Storage *storage;
  GsCall *call;
  Repo *repo;
  Draft *draft;
  char *scratch; /* name of the quarantine for git's own objects; NULL until one is needed */

  char *ref;       /* full name */
  const char *ref_field; /* of the request, that it came in */
  GsOid old_oid;   /* zero = absent */
  GsOid base;      /* the commit to work on; len 0 = there is none */
  GsOid base_tree; /* len 0 without one */
  gboolean force, dry_run;
  char *author, *committer; /* "name <mail> seconds zone"; NULL = not given */
  GsOid expected_new;       /* len 0 = any */

  Gitstead__V1__ChangeOutcome outcome;
  GsOid new_oid;        /* zero = delete */
  GsOid tree;           /* len 0 = not a commit */
  GPtrArray *conflicts; /* Conflict */
  GPtrArray *messages;  /* char * */
  GArray *commits;      /* GsOid */
  gsize commit_bytes;   /* of those read */
  GsOid conflict_oid;

  GPtrArray *special; /* Special: files that git looks into when they come */

  gsize input_head; /* bytes taken of the stream's head */
  int input_fd;     /* -1 until it is opened */
} Change;

/* -------------------------------------------------------------------------------------- change.c */

/** Reads what all calls that make commits have. @need_committer: INVALID_ARGUMENT without one. */
gboolean change_begin (Change *change, const Gitstead__V1__ChangeWrite *write, gboolean need_committer, GError **error);
/** For calls that change a ref and make no commit. @prefix: of a short name. @expected: hex or "". */
gboolean change_begin_ref (Change *change, const ProtobufCBinaryData *name, const char *field, const char *prefix,
                           const char *expected, gboolean dry_run, GError **error);
/** NOT_FOUND unless there is a commit to work on. */
gboolean change_need_base (Change *change, GError **error);
/** The ref shall have @oid; @tree NULL when that is no commit. Looks at expected_new_oid. */
gboolean change_result (Change *change, const GsOid *oid, const GsOid *tree, GError **error);
void change_unchanged (Change *change);

/** FALSE with INVALID_ARGUMENT when empty, too long or with a NUL; *@ret_text *full*, ends with a line break. */
gboolean change_message (const ProtobufCBinaryData *message, const char *field, char **ret_text, GError **error);
/** "name <mail> seconds zone", *full*; NULL with INVALID_ARGUMENT. */
char *change_ident (const Gitstead__V1__Person *user, const char *field, GError **error);

/* ------------------------------------------------------------------------------------- commits.c */

/** The parts live as long as the call. */
gboolean commit_read (Change *change, const GsOid *oid, CommitParts *ret_parts, GError **error);
gboolean commit_tree (Change *change, const GsOid *oid, GsOid *ret_tree, GError **error);
/** Adds a commit to the draft. @author: the line's content; NULL = the committer. @encoding NULL = none. */
gboolean commit_add (Change *change, const GsOid *tree, const GsOid *parents, gsize n_parents, const char *author,
                     const char *encoding, const char *message, gsize message_len, GsOid *ret_oid, GError **error);

/* --------------------------------------------------------------------------------------- merge.c */

/** What the two sides are called in git's words on a conflict, and in paths that it makes up: no '/'. */
typedef struct
{
  const char *ours, *theirs;
} MergeNames;

/** Is @ancestor @commit or in its history? */
gboolean change_is_ancestor (Change *change, const GsOid *ancestor, const GsOid *commit, gboolean *ret_is,
                             GError **error);
/**
 * Three-way merge of trees, as git does it: *@ret_clean FALSE = conflicts are in @change. The tree's new objects are in
 * the draft.
 */
gboolean change_merge_trees (Change *change, const GsOid *base, const GsOid *ours, const GsOid *theirs,
                             const MergeNames *names, GsOid *ret_tree, gboolean *ret_clean, GError **error);
/** The same where @base and @theirs are only in the quarantine and have only the paths of a patch. */
gboolean change_merge_patch (Change *change, const GsOid *base, const GsOid *ours, const GsOid *theirs,
                             const MergeNames *names, GsOid *ret_tree, gboolean *ret_clean, GError **error);
/** Merge of two commits of the repository by all their merge bases. */
gboolean change_merge_commits (Change *change, const GsOid *ours, const GsOid *theirs, gboolean unrelated,
                               GsOid *ret_tree, gboolean *ret_clean, GError **error);
/** The merge when no path was changed on both sides; *@ret_merged FALSE: one was, or may have been. merge_paths.c. */
gboolean change_merge_paths (Change *change, const GsOid *base, const GsOid *ours, const GsOid *theirs, GsOid *ret_tree,
                             gboolean *ret_merged, GError **error);
/** Notes the unmerged entries in @data: rows "<mode> <oid> <stage>\t<path>" that end with NUL. */
gboolean change_read_stages (Change *change, const char *data, gsize len);
/** The quarantine's objects folder, *full*; made on first use. */
char *change_scratch (Change *change, GError **error);
/** Adds what the tree in the quarantine has and none of the @n_known trees have. */
gboolean change_collect (Change *change, const GsOid *tree, const GsOid *known, gsize n_known, GError **error);

/* ------------------------------------------------------------------------------------- change_input.c */

/** The next @n bulk bytes. INVALID_ARGUMENT when there are fewer or the call has none. */
gboolean change_input_take (Change *change, guint64 n, GBytes **ret_bytes, GError **error);
/** INVALID_ARGUMENT when there are more. */
gboolean change_input_end (Change *change, GError **error);

/* ------------------------------------------------------------------------------------- the calls */

gboolean change_commit_files (Change *change, const ProtobufCMessage *request, GError **error);
gboolean change_create_branch (Change *change, const ProtobufCMessage *request, GError **error);
gboolean change_update_branch (Change *change, const ProtobufCMessage *request, GError **error);
gboolean change_delete_branch (Change *change, const ProtobufCMessage *request, GError **error);
gboolean change_create_tag (Change *change, const ProtobufCMessage *request, GError **error);
gboolean change_delete_tag (Change *change, const ProtobufCMessage *request, GError **error);
gboolean change_merge (Change *change, const ProtobufCMessage *request, GError **error);
gboolean change_cherry_pick (Change *change, const ProtobufCMessage *request, GError **error);
gboolean change_revert (Change *change, const ProtobufCMessage *request, GError **error);
gboolean change_rebase (Change *change, const ProtobufCMessage *request, GError **error);
gboolean change_apply_patch (Change *change, const ProtobufCMessage *request, GError **error);

/* ------------------------------------------------------------------------------------- compute.c */

gboolean storage_compute (gpointer self, GsCall *call, const GsRepo *repo, const GsQuery *query,
                          GsComputed **ret_computed, GError **error);
void storage_computed_free (gpointer self, GsComputed *computed);
/** Ref/Delete, which needs nothing of a Change. ref_delete.c. */
gboolean ref_delete_compute (Storage *storage, GsCall *base, const GsRepo *repo, const GsQuery *query, GsComputed **ret_computed,
                             GError **error);
#define REF_DELETE_METHOD 212u
/** What a computer found: GsRefUpdates, whose texts are @texts' own. Takes all of it; @pack may be NULL. *full*. */
GsComputed *computed_new (GArray *updates, GPtrArray *texts, GBytes *pack, GBytes *reply);

#endif
