/* SPDX-License-Identifier: Apache-2.0 */
/**
 * settings.h - sets of small files that belong to a repository, and the one that holds its settings.
 *
 * A set is a tree that a ref of the server's own names, refs/gitstead/files/<set>: so it is replaced as a whole, in one
 * transaction with any other refs, is in the refs digest, and goes wherever the refs go. Its version is the tree's id.
 */
#ifndef STORAGE_GIT_SETTINGS_H
#define STORAGE_GIT_SETTINGS_H

#include "odb.h"

#define FILESET_REFS GIT_HIDDEN_REFS "files/"
#define FILESET_CONFIG "config"
#define FILESET_FILES_MAX 100u
#define FILESET_FILE_BYTES (1u << 20)
#define FILESET_BYTES (4u << 20) /* of all files together */
#define FILESET_DEPTH 2

/** The set's tree; *@ret_tree has len 0 when there is no such set. */
void fileset_find (RefSnapshot *refs, const char *set, GsOid *ret_tree);
/** @path and @content are borrowed until it returns. */
typedef gboolean (*FilesetVisit) (const char *path, guint32 mode, GBytes *content, gpointer user, GError **error);
/** Every file of a set, in git's order. DATA_LOSS when it is damaged or larger than a set may be. */
gboolean fileset_read (Repo *repo, const GsOid *tree, FilesetVisit visit, gpointer user, GError **error);

/* --------------------------------------------------------------------------------------- settings */

#define SETTINGS_FILE "config"
#define SETTINGS_VALUES_MAX 100u
#define SETTINGS_VALUE_MAX 1000u

typedef enum
{
  SETTING_DESCRIPTION,
  SETTING_FROZEN,
  SETTING_MAX_OBJECT,
  SETTING_PROTECTED,
  SETTING_DENY_DELETES,
  SETTING_DENY_NON_FAST_FORWARDS,
  SETTING_MAX_INPUT,
  SETTINGS_N
} SettingKey;

typedef enum
{
  SETTING_TEXT,
  SETTING_BOOL,
  SETTING_SIZE,
  SETTING_PATTERN
} SettingType;

typedef struct
{
  const char *name;
  SettingType type;
  gboolean many; /* it may have several values */
  const char *help;
} SettingRow;

extern const SettingRow setting_rows[SETTINGS_N];

/** The key of a name, whatever its case; -1 for none. */
int setting_find (const char *name);
/** "boolean", "size", ... */
const char *setting_type_name (SettingType type);

typedef struct
{
  GPtrArray *values[SETTINGS_N]; /* char *, as they are kept */
} Settings;

Settings *settings_new (void);
void settings_free (Settings *settings);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Settings, settings_free)
/** Adds a value, as people write it. INVALID_ARGUMENT with @field. */
gboolean settings_add (Settings *settings, int key, const char *value, gsize len, const char *field, GError **error);
gboolean settings_empty (const Settings *settings);
/** Those of the repository; empty ones when it has none. @ret_version (may be NULL) has len 0 then. *full*. */
Settings *settings_load (Repo *repo, RefSnapshot *refs, GsOid *ret_version, GError **error);
/** As they stand in the file. *full*. */
GString *settings_text (const Settings *settings);

gboolean settings_flag (const Settings *settings, SettingKey key);
/** 0 = not set. */
guint64 settings_size (const Settings *settings, SettingKey key);
/** Does one of the key's patterns match the ref? */
gboolean settings_match (const Settings *settings, SettingKey key, const char *name);

/* ------------------------------------------------------------------------------------------ rules.c */

/**
 * Refuses, in @txn's verdicts, the updates that the settings forbid. Where it takes the old value to tell, and the caller
 * named none, it is filled in: then the update holds only as long as that is the value.
 */
gboolean rules_judge (Txn *txn, GsCall *call, GsRefUpdate *updates, gsize n, GError **error);

#endif
