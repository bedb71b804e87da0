/* SPDX-License-Identifier: Apache-2.0 */
/**
 * api.h - calls of the Git API that this storage carries out by itself: the table of methods, and what handlers share.
 *
 * A handler is a row of a service's table: number, descriptors, function. It gets the decoded request and an empty
 * reply of its method's type; whatever the reply points to is taken from api_alloc and friends and lives until
 * the call ends. Values of the request are unchecked: the api_take_* functions check them, naming the field.
 */
#ifndef STORAGE_GIT_API_H
#define STORAGE_GIT_API_H

#include "child.h"
#include "odb.h"

#include "gitstead/v1/commit.pb-c.h"
#include "gitstead/v1/types.pb-c.h"

#include <wire/page.h>

#define API_NAME_MAX 4096               /* bytes of a ref name, revision or path */
#define API_PAGE_BYTES (512 * 1024)     /* of a page's entries together, or of one reply's bulk */
#define API_COMMIT_MAX GIT_STREAM_BYTES /* a commit object larger than this is refused */

/** A call under way. One thread. */
typedef struct
{
  Storage *storage;
  Repo *repo;
  GsCall *call;
  GsStream *stream; /* NULL unless the method has bulk bytes */
  guint32 method;
  ObjectHandle *odb;           /* api_odb */
  RefSnapshot *refs;           /* api_refs */
  GsArena *arena;              /* the request */
  GsArena *replies;            /* what api_alloc gives */
  ProtobufCMessage *request;   /* in @arena */
  gboolean writer;             /* @repo is held as a writer */
} GitCall;

/** TRUE with @reply filled in, or FALSE with @error. */
typedef gboolean (*ApiHandler) (GitCall *call, const ProtobufCMessage *request, ProtobufCMessage *reply,
                                GError **error);

/** One method. A table of them ends with number 0. */
typedef struct
{
  guint32 number;
  const ProtobufCMessageDescriptor *request, *reply;
  ApiHandler handler;
} ApiRow;

/** The descriptors of a method's messages by their C names: API_ROW (700, commit_get, commit_get_request,
 * commit_get_reply). */
#define API_ROW(number_, handler_, request_, reply_)                                                                   \
  {                                                                                                                    \
    number_, &gitstead__v1__##request_##__descriptor, &gitstead__v1__##reply_##__descriptor, handler_                 \
  }

/* ----------------------------------------------------------------------------------------- tables */

extern const ApiRow api_blob_rows[];
extern const ApiRow api_commit_rows[];
extern const ApiRow api_diff_rows[];
extern const ApiRow api_files_rows[];
extern const ApiRow api_history_rows[];
extern const ApiRow api_label_rows[];
extern const ApiRow api_object_rows[];
extern const ApiRow api_pool_rows[];
extern const ApiRow api_ref_rows[];
extern const ApiRow api_repository_rows[];

/* ------------------------------------------------------------------------------------------- life */

/** The row of @number in @rows; NULL when it is not there. */
const ApiRow *api_find (const ApiRow *rows, guint32 number);
/** Opens the repository and decodes the request. After FALSE there is nothing to close. */
gboolean api_open (GitCall *call, Storage *storage, GsCall *base, const GsRepo *repo, const GsQuery *query,
                   const ApiRow *row, gboolean writer, GError **error);
/** The same without a request, for slots that are not a call of the Git API. */
gboolean api_open_plain (GitCall *call, Storage *storage, GsCall *base, const GsRepo *repo, GError **error);
/** Everything taken from the call goes. */
void api_close (GitCall *call);
/** An empty message of @descriptor's type. *borrowed until api_close*. */
gpointer api_message (GitCall *call, const ProtobufCMessageDescriptor *descriptor);

/** This call's object handle, and its one snapshot of the refs. NULL with @error. *borrowed until api_close*. */
ObjectHandle *api_odb (GitCall *call, GError **error);
RefSnapshot *api_refs (GitCall *call, GError **error);
/**
 * For what promises all refs, or this one: DATA_LOSS naming a ref whose object is gone. Left out without a word, a copy
 * would be taken for whole.
 */
gboolean api_ref_whole (GitCall *call, const RefEntry *ref, GError **error);

/* ----------------------------------------------------------------------------------------- memory */

/* Zeroed, never NULL. *borrowed until api_close*. A handler bounds what it takes. */
gpointer api_alloc (GitCall *call, gsize n_bytes);
char *api_text (GitCall *call, const char *text, gssize len);
ProtobufCBinaryData api_bytes (GitCall *call, gconstpointer data, gsize len);
char *api_hex (GitCall *call, const GsOid *oid);

/** A repeated field that grows by one: @field_ and n_@field_ of @message_. */
#define API_APPEND(call_, message_, field_, element_)                                                                  \
  G_STMT_START                                                                                                         \
  {                                                                                                                    \
    (message_)->field_ = api_grow ((call_), (message_)->field_, (message_)->n_##field_, sizeof *(message_)->field_);   \
    (message_)->field_[(message_)->n_##field_++] = (element_);                                                         \
  }                                                                                                                    \
  G_STMT_END
/** @array with room for element @n: moved when @n is 0 or a power of two. */
gpointer api_grow (GitCall *call, gpointer array, gsize n, gsize element_size);

/* ----------------------------------------------------------------------------------- checking values */

/** INVALID_ARGUMENT "FIELD: why". Returns FALSE. */
gboolean api_invalid (GError **error, const char *field, const char *format, ...) G_GNUC_PRINTF (3, 4);

/**
 * Has *@error tell programs that it is about the value @bytes of @field ("revisions", "range.include"), and which of them when
 * the field repeats. @type says what the value is; NULL = the field is wrong in itself. Returns FALSE.
 */
gboolean api_blame (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, const char *type, GError **error);

/** A C string of @bytes: 1 to API_NAME_MAX bytes without NUL. */
gboolean api_take_text (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, char **ret_text,
                        GError **error);
/**
 * A path inside a tree, without slashes at its ends ("" for the whole tree only when @may_be_empty): no empty, "."
 * or ".." part, no NUL. One slash at the end is taken away; where a file may not have it: api_take_entry.
 */
gboolean api_take_path (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, gboolean may_be_empty,
                        char **ret_path, GError **error);
/** A full object id of this repository's format. */
gboolean api_take_oid (GitCall *call, const char *hex, const char *field, GsOid *ret_oid, GError **error);
/** A value of a proto enum that is known. */
gboolean api_take_enum (const ProtobufCEnumDescriptor *descriptor, int value, const char *field, GError **error);
/** 0 = @fallback; more than @most is refused. */
gboolean api_take_limit (guint64 value, guint64 fallback, guint64 most, const char *field, guint64 *ret_limit,
                         GError **error);

/** A repeated field with 1 to @most elements. */
gboolean api_take_count (gsize n, gsize most, const char *field, GError **error);

/* -------------------------------------------------------------------------------------- revisions */

/**
 * What a revision names. docs/api/revisions.md has the syntax, and there is no other: a full object id, a unique
 * beginning of one (from 4 digits), HEAD, a full ref name, or a short tag or branch name; then any number of "~", "~N",
 * "^", "^N", "^{commit}", "^{tree}", "^{blob}", "^{tag}", "^{}"; then maybe ":PATH". INVALID_ARGUMENT for anything else,
 * naming @field; NOT_FOUND when it leads nowhere, or to an object of another type than is wanted; DATA_LOSS naming the
 * object when an object on the way is damaged. A submodule's commit has type COMMIT, mode 0160000 and no size.
 */
gboolean api_take_revision (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsObject *ret_object,
                            GError **error);
/** The same; NOT_FOUND for a submodule, too. */
gboolean api_take_object (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsObject *ret_object,
                          GError **error);
/** The same, peeled to a commit. */
gboolean api_take_commit (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsOid *ret_commit,
                          GError **error);
/** The tree of a commit that is one. */
gboolean api_commit_tree (GitCall *call, const GsOid *commit, GsOid *ret_tree, GError **error);
/** The same, peeled to a tree. */
gboolean api_take_tree (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsOid *ret_tree,
                        GError **error);
/**
 * The tree whose id stands at @raw in a page token's state. A client may have changed it, and the tree may be gone since the
 * first page: INVALID_ARGUMENT as from gs_page_bad, not damage.
 */
gboolean api_page_tree (GitCall *call, const guint8 *raw, GsOid *ret_tree, GError **error);
/** Two trees to compare, in hex. */
typedef struct
{
  const char *left, *right;
} ApiSides;

/** Trees of fields left and right. An empty left is the first parent of the right commit, or the empty tree for a root.
 */
gboolean api_take_sides (GitCall *call, const ProtobufCBinaryData *left, const ProtobufCBinaryData *right,
                         ApiSides *ret_sides, GError **error);
/** Two trees of a page token's state, at @raw one behind the other; see api_page_tree. */
gboolean api_page_sides (GitCall *call, const guint8 *raw, ApiSides *ret_sides, GError **error);
/** A commit's tree, and parent @n's (0 = the first one); the empty tree when it has none. */
gboolean api_parent_sides (GitCall *call, const GsOid *commit, gsize n, ApiSides *ret_sides, gsize *ret_n_parents,
                           GError **error);
/** The entry at @path in @tree ("" = the tree itself). *@ret_found FALSE when there is none. */
gboolean api_find_path (GitCall *call, const GsOid *tree, const char *path, GsObject *ret_object, gboolean *ret_found,
                        GError **error);
/** What a path has to be. */
typedef enum
{
  API_ANY,
  API_FOLDER, /* "" is the tree itself */
  API_FILE
} ApiEntryKind;
/**
 * A path that has to be in @tree, and what is there. INVALID_ARGUMENT as api_take_path; NOT_FOUND naming @field when
 * there is nothing of that kind. With a slash at its end it is a folder's.
 */
gboolean api_take_entry (GitCall *call, const GsOid *tree, const ProtobufCBinaryData *bytes, const char *field,
                         ApiEntryKind kind, char **ret_path, GsObject *ret_object, GError **error);
/** Appends the ids (GsOid) that begin with the hex digits @prefix, in their order, at most @most. */
gboolean api_ids_alike (GitCall *call, const char *prefix, guint most, GArray *ids, GError **error);

/* ----------------------------------------------------------------------------------------- reading */

/** An object of a wanted type. DATA_LOSS naming it when it is damaged or absent although something refers to it. */
gboolean api_read (GitCall *call, const GsOid *oid, GsObjectType type, guint64 max, GBytes **ret_bytes,
                   GError **error);
/** Makes an error of reading @oid, to which something refers, DATA_LOSS naming it: absent is lost. */
void api_name_loss (GitCall *call, const GsOid *oid, GError **error);

/** Where a commit's parts stand in its bytes. Borrows from them. */
typedef struct
{
  GsOid tree;
  GsOid *parents; /* of the call */
  gsize n_parents;
  const char *author, *committer; /* the lines' contents */
  gsize author_len, committer_len;
  const char *encoding; /* NULL = UTF-8 */
  gsize encoding_len;
  gboolean is_signed;
  const char *message;
  gsize message_len;
} CommitParts;

/** FALSE with DATA_LOSS naming @oid when the bytes are no commit. */
gboolean api_commit_parse (GitCall *call, const GsOid *oid, const char *data, gsize len, CommitParts *ret_parts,
                           GError **error);
/** "Name <mail> 1234567890 +0100", as lenient as git is. Unset fields stay empty. */
Gitstead__V1__Person *api_person (GitCall *call, const char *line, gsize len);
/** Seconds since 1970 of such a line; 0 when it has none. */
gint64 api_person_time (const char *line, gsize len);
/** A commit as a message; @message_max cuts its text. */
gboolean api_commit_message (GitCall *call, const GsOid *oid, guint64 message_max, Gitstead__V1__Commit **ret_commit,
                             GError **error);
/** The same with its bytes (*full*), which the parts borrow from. */
gboolean api_commit_read (GitCall *call, const GsOid *oid, guint64 message_max, GBytes **ret_bytes, CommitParts *ret_parts,
                          Gitstead__V1__Commit **ret_commit, GError **error);

/** One path of a tree. *@ret_more FALSE ends the walk. @path borrowed until it returns. */
typedef gboolean (*ApiTreeVisit) (GitCall *call, const char *path, const GsTreeEntry *entry, gpointer user,
                                  gboolean *ret_more, GError **error);
/**
 * Visits what is in @tree, and with @recursive all below, in git's order, folders before what is in them. Paths begin
 * with
 * @base. @after (NULL = from the start) is a path below @tree that was visited before: it goes on behind it.
 */
gboolean api_walk_tree (GitCall *call, const GsOid *tree, const char *base, const char *after, gboolean recursive,
                        ApiTreeVisit visit, gpointer user, GError **error);

/* ------------------------------------------------------------------------------------- running git */

/** A piece of a child's output. *@ret_enough TRUE ends the child: that is no failure. */
typedef gboolean (*ApiOutput) (gpointer user, const char *data, gsize len, gboolean *ret_enough, GError **error);
/**
 * Runs git with @input (may be NULL) and gives its output to @visit as it comes. @argv never has a caller's text where
 * git could take it for an option or a revision. With @ret_status an exit code of 1 is no failure. DATA_LOSS when git
 * says that an object cannot be read.
 */
gboolean api_run (GitCall *call, const char *const *argv, GBytes *input, int *ret_status, ApiOutput visit,
                  gpointer user, GError **error);
/** The same with what else @spec has: role, settings, an input descriptor that stays the caller's (unless there is @input). */
gboolean api_run_as (GitCall *call, ChildSpec spec, GBytes *input, int *ret_status, ApiOutput visit, gpointer user,
                     GError **error);
/** The same, its output straight to the client. */
gboolean api_run_stream (GitCall *call, const char *const *argv, GBytes *input, GError **error);

/** Output that is made of fields, each ended by @separator. */
typedef struct ApiFields ApiFields;
struct ApiFields
{
  char separator;
  gsize max; /* bytes of a field */
  gboolean (*visit) (ApiFields *fields, const char *field, gsize len, gboolean *ret_enough, GError **error);
  gpointer user;
  gboolean may_cut; /* a longer field is cut, not an error */
  gboolean take_rest; /* what stands behind the last separator is a field, too; only without *ret_enough */
  gsize cut;        /* bytes that this one lacks */
  GString *field;   /* what is there of the next one */
};
gboolean api_run_fields (GitCall *call, const char *const *argv, GBytes *input, int *ret_status, ApiFields *fields,
                         GError **error);
/** @first with @input, its output the input of @second, whose output has the fields. */
gboolean api_run_pair (GitCall *call, const char *const *first, GBytes *input, const char *const *second, ApiFields *fields,
                       GError **error);
/** For output that has fields only in part. */
gboolean api_fields_feed (ApiFields *fields, const char *data, gsize len, gboolean *ret_enough, GError **error);

/* ------------------------------------------------------------------------------------------ paging */

/** A page that is being filled. */
typedef struct
{
  gsize limit;
  const guint8 *state; /* what the last page's api_page_token left, checked to be of this very request; NULL = begin */
  gsize state_len;
  gsize n, bytes; /* so far */
} ApiPage;

/** See gs_page_begin. What is in the token's state is the caller's to check; gs_page_bad when it makes no sense. */
gboolean api_page_begin (GitCall *call, const Gitstead__V1__Page *page, ApiPage *ret_page, GError **error);
/** Such a page has at most @most entries: INVALID_ARGUMENT naming page.limit when more were asked for. */
gboolean api_page_most (ApiPage *page, const Gitstead__V1__Page *asked, gsize most, GError **error);
/** Takes room for one more entry of about @bytes; FALSE: the page is full. The first one always fits. */
gboolean api_page_room (ApiPage *page, gsize bytes);
/** The token for the next page, which gets @state back. */
ProtobufCBinaryData api_page_token (GitCall *call, gconstpointer state, gsize len);

/* ------------------------------------------------------------- handlers that other files' tables name */

gboolean api_tree_entries (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean api_object_size (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean api_object_list (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean api_diff_range (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean api_file_list (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean api_diff_parsed (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean api_search_names (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean api_search_content (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean api_repository_archive (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer,
                                 GError **error);
gboolean api_repository_fsck (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean api_repository_optimize (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer,
                                  GError **error);
gboolean api_repository_prune (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean api_repository_snapshot (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer,
                                  GError **error);
gboolean api_repository_bundle (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer,
                                GError **error);
/** Paths of a request behind git's "--", each with @magic (":(top,literal)") before it. */
gboolean api_add_pathspecs (GitCall *call, GPtrArray *argv, const ProtobufCBinaryData *paths, gsize n, gsize most,
                            const char *magic, const char *field, GError **error);
/** How a signature begins says its kind; NONE for none. */
Gitstead__V1__SignatureKind api_signature_kind (const char *signature, gsize len);

/* ------------------------------------------------------------------------------------------ streams */

/** The whole bulk output of a call that makes little. */
gboolean api_send (GitCall *call, const void *data, gsize len, GError **error);

#endif
