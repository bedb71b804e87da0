/* SPDX-License-Identifier: Apache-2.0 */
/**
 * sql.h - what the SQL metadata stores share: statements, migrations, and the text forms of values that
 * have no column type of their own. Linked into each store's plugin.
 *
 * Form of a change's ref updates: one line per update, in the order of the request,
 *   OLD SP NEW SP NAME LF
 * where OLD and NEW are hex object ids, "-" for none (not looked at), or, for NEW of a symbolic ref,
 * "ref:TARGET". Ref names hold neither spaces nor line ends, so the form needs no quoting.
 * Form of the voters: one storage name a line.
 */
#ifndef METADATA_SQL_H
#define METADATA_SQL_H

#include <gitstead/metadata.h>

#include "sql-text.h"

typedef struct
{
  guint number;
  const char *name;
  const char *checksum; /* SHA-256 of the file, hex */
  const char *text;
} SqlMigration;

typedef struct
{
  const char *token; /* "{BLOB}" */
  const char *value;
} SqlToken;

extern const char *const sql_queries[SQL_N_QUERIES];
extern const SqlMigration sql_migrations[SQL_N_MIGRATIONS];

/** @text with every token of @tokens (ends with token NULL) replaced. *full*. */
char *sql_expand (const char *text, const SqlToken *tokens);

/** INVALID_ARGUMENT when @path cannot be kept: empty, over 4096 bytes, not UTF-8, control or noncharacters. */
gboolean sql_path_check (const char *path, GError **error);
/** The key on which paths collide: without case, in one Unicode normal form. @path is checked. *full*. */
char *sql_path_key (const char *path);
/** The range of paths that begin with @prefix and are greater than @after: [first, beyond). Both *full*. */
void sql_path_range (const char *prefix, const char *after, char **ret_first, char **ret_beyond);

/** NULL with INVALID_ARGUMENT when a name cannot be a ref's. *full*. */
GBytes *sql_updates_encode (const GsRefUpdate *updates, gsize n_updates, GError **error);
/** *full* (GArray of GsRefUpdate); the names live in @ret_text (*full*). NULL with DATA_LOSS when it is not that form.
 */
GArray *sql_updates_decode (const void *bytes, gsize n_bytes, char **ret_text, GError **error);

/** NULL with INVALID_ARGUMENT when there is none, or a name cannot be a storage's. *full*. */
char *sql_voters_encode (const char *const *voters, GError **error);
/** *full* (g_strfreev). */
char **sql_voters_decode (const char *text);

/* ---------------------------------------------------------- check.c: what all stores refuse, in the same words */

/** Each: INVALID_ARGUMENT when it is out of form. */
gboolean sql_name_check (const char *what, const char *name, GError **error);
gboolean sql_policy_check (guint32 copies, const char *consistency, GError **error);
gboolean sql_node_check (const GsNodeRow *row, GError **error);
gboolean sql_node_state_check (GsNodeState state, GError **error);
gboolean sql_id_check (guint64 id, GError **error);
gboolean sql_job_check (const GsJobRow *job, GError **error);
gboolean sql_lease_check (gint64 lease_us, GError **error);

/** What is recorded of a node. */
typedef struct
{
  GsTxId disk_id;
  guint64 instance, replaced;
  GsNodeState state;
} SqlNodeKnown;

/** May the node report? @known NULL: none of its name did; @disk_owner: which node has its disk, or NULL. */
gboolean sql_node_admit (const GsNodeRow *row, const SqlNodeKnown *known, const char *disk_owner, GError **error);

/** Failures that more than one store tells. Always FALSE. */
gboolean sql_job_lost (guint64 id, GError **error);
gboolean sql_lease_lost (const char *name, GError **error);
gboolean sql_lease_held (const char *name, const char *owner, gint64 left_us, GError **error);
gboolean sql_replica_last (guint64 repository_id, const char *storage, gboolean only, GError **error);
gboolean sql_no_replica (guint64 repository_id, const char *storage, GError **error);
gboolean sql_no_node (const char *storage, GError **error);
gboolean sql_node_in_use (const char *storage, gboolean removed, GError **error);
/** At most 1000 bytes of valid text. *full*. */
char *sql_failure_text (const char *failure);

#endif
