/* SPDX-License-Identifier: Apache-2.0 */
/**
 * transfer.h - whole histories that come from a bundle or another server, or go there.
 *
 * git does the speaking, in a repository of its own inside a quarantine (a Guest): with nothing of ours in it but the
 * values of our refs, and with our objects behind its own. What arrives becomes one pack and a list of ref updates, which
 * go the one write path like any other change; the guest is gone when the call ends.
 */
#ifndef STORAGE_GIT_API_TRANSFER_H
#define STORAGE_GIT_API_TRANSFER_H

#include "../child.h"
#include "api.h"

#include "gitstead/v1/repository.pb-c.h"
#include "gitstead/v1/transfer.pb-c.h"

/* ------------------------------------------------------------------------------ transfer_remote.c */

/** Another server, checked: where git may go and how. */
typedef struct
{
  char *url;
  const char *shown;   /* what people are told of it */
  GPtrArray *settings; /* for ChildSpec.settings */
  gboolean own;        /* what it has is ours already, on another replica: as large as it is */
} Remote;

/** What a call wants of it. */
typedef enum
{
  REMOTE_READ,
  REMOTE_WRITE
} RemoteUse;

/** INVALID_ARGUMENT naming the field for what is no plain URL, PERMISSION_DENIED where remote_allow does not name it. */
gboolean remote_take (GitCall *call, const Gitstead__V1__Remote *message, RemoteUse use, Remote *ret_remote,
                      GError **error);
/** A file of ours, for a bundle. */
void remote_file (const char *path, Remote *ret_remote);
void remote_clear (Remote *remote);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Remote, remote_clear)
/** Are the option's entries well-formed? */
gboolean remote_allow_check (const char *const *allow, GError **error);

/* ------------------------------------------------------------------------------- transfer_guest.c */

typedef struct
{
  GitCall *call;
  char *quarantine; /* its name */
  char *dir;        /* GIT_DIR */
  char *objects;
  gboolean bounded; /* what is in it came from elsewhere */
} Guest;

gboolean guest_open (Guest *guest, GitCall *call, GError **error);
void guest_close (Guest *guest);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Guest, guest_close)
/**
 * Runs git in it. Its output, at most @max bytes, *full*. With @ret_status an exit code of 1 is no failure. What the other
 * side said stands in the error's message.
 */
gboolean guest_run (Guest *guest, const Remote *remote, const char *const *argv, GBytes *input, gsize max,
                    GBytes **ret_output, int *ret_status, GError **error);
/** OUT_OF_RANGE, naming the option. Always FALSE. */
gboolean guest_too_many_refs (const Storage *storage, GError **error);
/** Is @ancestor in the history of @oid? Both commits, of ours or of the guest's; FALSE for anything else. */
gboolean guest_is_ancestor (Guest *guest, const GsOid *ancestor, const GsOid *oid, gboolean *ret_is, GError **error);
/** The bulk bytes of the call as the file @path, at most @max bytes (0 = no bound). */
gboolean guest_spool (Guest *guest, const char *path, guint64 max, GError **error);
/** All that @tips reach and no ref of ours: one pack, *full*; NULL when that is nothing. */
gboolean guest_pack (Guest *guest, const GArray *tips, GBytes **ret_pack, GError **error);

/* ------------------------------------------------------------------------------- transfer_rules.c */

/** One refspec. */
typedef struct
{
  char *source, *destination;
  gboolean force;
} Rule;

typedef struct
{
  GArray *rules; /* Rule */
  gboolean prune, dry_run;
} Rules;

/** @fallback: NULL-terminated refspecs where the message has none. */
gboolean rules_take (GitCall *call, const Gitstead__V1__TransferRules *message, const char *const *fallback,
                     Rules *ret_rules, GError **error);
void rules_clear (Rules *rules);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Rules, rules_clear)
/** Where a rule puts @name, *full*; NULL when it does not take it. */
char *rule_map (const char *from, const char *to, const char *name);
/** FALSE with INVALID_ARGUMENT unless it is a full ref name with at most one '*'. */
gboolean rule_pattern_check (const char *pattern, const char *field, GError **error);

/** The refs of the other side: name -> GsOid. */
GHashTable *refs_table_new (void);
/** Most bytes that a list of another server's refs may take. */
#define REFS_LIST_MAX (128u << 20)
/**
 * Adds lines "<oid> SP or TAB <name>"; @prefix is taken off the names. Peeled ones are left out. OUT_OF_RANGE for more than
 * the @storage takes from another server (NULL: it is none).
 */
gboolean refs_table_read (GHashTable *table, const Storage *storage, GBytes *lines, const char *prefix, GError **error);

/** What a transfer does to one ref. */
typedef struct
{
  char *name;
  GsOid old_oid, new_oid;
  Gitstead__V1__TransferOutcome outcome;
  char *reason;
} Move;

/** Those that differ, ordered by name. */
GPtrArray *moves_new (void);
Move *moves_add (GPtrArray *moves, const char *name, const GsOid *old_oid, const GsOid *new_oid);
void moves_sort (GPtrArray *moves);
/** For a moved ref: REPLACED or FORWARDED. @looked counts over the call. */
gboolean move_judge (Guest *guest, Move *move, guint *looked, GError **error);
/** The first of them as messages; *@ret_more: how many are left. */
Gitstead__V1__TransferRef **moves_messages (GitCall *call, const GPtrArray *moves, gsize *ret_n, guint64 *ret_more);

/* ------------------------------------------------------------------------------- transfer_fetch.c */

/** Is it one of ours? Then storage_compute leaves it to transfer_compute. */
gboolean transfer_knows (guint32 method);
gboolean transfer_compute (Storage *storage, GsCall *call, const GsRepo *repo, const GsQuery *query,
                           GsComputed **ret_computed, GError **error);

/* ---------------------------------------------------------------------------------------------- pool.c */

/** Pool/Refresh: the members' refs. */
gboolean pool_compute_refresh (GitCall *call, GsComputed **ret_computed, GError **error);

/* ------------------------------------------------------------------------------- transfer_mirror.c */

gboolean api_repository_mirror (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error);
gboolean api_repository_remote_refs (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer,
                                     GError **error);

#endif
