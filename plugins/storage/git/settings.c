/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of files of a repository, and its settings: see settings.h. */
#include "settings.h"

#include <string.h>

/* ------------------------------------------------------------------------------------------- a set */

void
fileset_find (RefSnapshot *refs, const char *set, GsOid *ret_tree)
{
  g_autofree char *name = g_strconcat (FILESET_REFS, set, NULL);
  RefEntry entry;
  *ret_tree = (GsOid) { 0 };
  if (ref_snapshot_find (refs, name, &entry))
    *ret_tree = entry.oid;
}

typedef struct
{
  Repo *repo;
  ObjectHandle *handle;
  FilesetVisit visit;
  gpointer user;
  guint n_files;
  gsize n_bytes;
} SetRead;

static gboolean
read_one (SetRead *read, const GsOid *oid, GsObjectType type, GBytes **ret_bytes, GError **error)
{
  g_autoptr (GError) why = NULL;
  char hex[GS_OID_HEX_MAX + 1];
  GsObjectType found = type;
  g_autoptr (GBytes) bytes = NULL;
  if (odb_read (read->repo, read->handle, oid, FILESET_FILE_BYTES, &found, &bytes, &why) && found == type)
    {
      *ret_bytes = g_steal_pointer (&bytes);
      return TRUE;
    }
  gs_oid_hex (oid, hex);
  return gs_fail (error, GS_ERROR_DATA_LOSS, "object %s of a file set of repository %" G_GUINT64_FORMAT ": %s", hex,
                  read->repo->id, why != NULL ? why->message : "it is of another type");
}

static gboolean
read_folder (SetRead *read, const GsOid *tree, const char *folder, guint depth, GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  const char *at, *name;
  guint32 mode;
  gsize left;
  GsOid oid;
  if (depth > FILESET_DEPTH)
    return gs_fail (error, GS_ERROR_DATA_LOSS, "a file set of repository %" G_GUINT64_FORMAT " is deeper than one may be",
                    read->repo->id);
  if (!read_one (read, tree, GS_OBJECT_TREE, &bytes, error))
    return FALSE;
  at = g_bytes_get_data (bytes, &left);
  while (left > 0 && odb_tree_next (&at, &left, &name, &mode, &oid))
    {
      g_autofree char *path = g_strconcat (folder, *folder != '\0' ? "/" : "", name, NULL);
      g_autoptr (GBytes) content = NULL;
      if (odb_mode_type (mode) == GS_OBJECT_TREE)
        {
          if (!read_folder (read, &oid, path, depth + 1, error))
            return FALSE;
          continue;
        }
      if (!read_one (read, &oid, GS_OBJECT_BLOB, &content, error))
        return FALSE;
      read->n_bytes += g_bytes_get_size (content);
      if (++read->n_files > FILESET_FILES_MAX || read->n_bytes > FILESET_BYTES)
        return gs_fail (error, GS_ERROR_DATA_LOSS, "a file set of repository %" G_GUINT64_FORMAT " is larger than one may be",
                        read->repo->id);
      if (!read->visit (path, mode, content, read->user, error))
        return FALSE;
    }
  return left == 0
         || gs_fail (error, GS_ERROR_DATA_LOSS, "a file set of repository %" G_GUINT64_FORMAT " is damaged", read->repo->id);
}

gboolean
fileset_read (Repo *repo, const GsOid *tree, FilesetVisit visit, gpointer user, GError **error)
{
  SetRead read = { .repo = repo, .visit = visit, .user = user };
  gboolean done;
  read.handle = odb_borrow (repo, error);
  if (read.handle == NULL)
    return FALSE;
  done = read_folder (&read, tree, "", 1, error);
  odb_return (repo, read.handle);
  return done;
}

/* ------------------------------------------------------------------------------------------- values */

/* In the order in which they stand in the file. None of them is the name of a program or a file. */
const SettingRow setting_rows[SETTINGS_N] = {
  [SETTING_DESCRIPTION] = { "gitstead.description", SETTING_TEXT, FALSE, "What the repository is, in a line." },
  [SETTING_FROZEN] = { "gitstead.frozenRef", SETTING_PATTERN, TRUE,
                       "Refs that nobody may create, move or delete: full names, with at most one '*'." },
  [SETTING_MAX_OBJECT] = { "gitstead.maxObjectSize", SETTING_SIZE, FALSE,
                           "Largest object that a write may bring, in bytes once unpacked; 0 is no limit." },
  [SETTING_PROTECTED]
  = { "gitstead.protectedRef", SETTING_PATTERN, TRUE,
      "Refs that may be created and moved forward, never deleted or rewound: full names, with at most one '*'." },
  [SETTING_DENY_DELETES] = { "receive.denyDeletes", SETTING_BOOL, FALSE, "Refuse pushes that delete refs." },
  [SETTING_DENY_NON_FAST_FORWARDS] = { "receive.denyNonFastForwards", SETTING_BOOL, FALSE,
                                       "Refuse pushes that move a branch to a commit that does not contain it." },
  [SETTING_MAX_INPUT]
  = { "receive.maxInputSize", SETTING_SIZE, FALSE, "Largest pack that a push may bring, in bytes; 0 is no limit." },
};

int
setting_find (const char *name)
{
  for (int i = 0; i < SETTINGS_N; i++)
    if (g_ascii_strcasecmp (setting_rows[i].name, name) == 0)
      return i;
  return -1;
}

const char *
setting_type_name (SettingType type)
{
  static const char *const names[] = { "text", "boolean", "size", "pattern" };
  return names[type];
}

Settings *
settings_new (void)
{
  Settings *settings = g_new0 (Settings, 1);
  for (int i = 0; i < SETTINGS_N; i++)
    settings->values[i] = g_ptr_array_new_with_free_func (g_free);
  return settings;
}

void
settings_free (Settings *settings)
{
  if (settings == NULL)
    return;
  for (int i = 0; i < SETTINGS_N; i++)
    g_ptr_array_unref (settings->values[i]);
  g_free (settings);
}

gboolean
settings_empty (const Settings *settings)
{
  for (int i = 0; i < SETTINGS_N; i++)
    if (settings->values[i]->len > 0)
      return FALSE;
  return TRUE;
}

/* As git reads them. *full*; NULL when it is none. */
static char *
take_boolean (const char *value)
{
  static const char *const yes[] = { "true", "yes", "on", "1" }, *const no[] = { "false", "no", "off", "0" };
  for (gsize i = 0; i < G_N_ELEMENTS (yes); i++)
    {
      if (g_ascii_strcasecmp (value, yes[i]) == 0)
        return g_strdup ("true");
      if (g_ascii_strcasecmp (value, no[i]) == 0)
        return g_strdup ("false");
    }
  return NULL;
}

/* A number with k, m or g behind it, as git has them; kept in bytes. */
static char *
take_size (const char *value)
{
  static const char units[] = "kmg";
  gsize len = strlen (value);
  const char *unit = len > 1 ? strchr (units, g_ascii_tolower (value[len - 1])) : NULL;
  g_autofree char *digits = g_strndup (value, unit != NULL ? len - 1 : len);
  guint shift = unit != NULL ? 10 * (guint) (unit - units + 1) : 0;
  guint64 number;
  if (!g_ascii_string_to_unsigned (digits, 10, 0, (guint64) G_MAXINT64 >> shift, &number, NULL))
    return NULL;
  return g_strdup_printf ("%" G_GUINT64_FORMAT, number << shift);
}

static char *
take_pattern (const char *value)
{
  g_autofree char *plain = g_strdup (value);
  char *star = strchr (plain, '*');
  if (star != NULL)
    *star = 'x';
  return g_str_has_prefix (value, "refs/") && !g_str_has_prefix (value, GIT_HIDDEN_REFS) && ref_name_valid (plain, NULL)
             ? g_strdup (value)
             : NULL;
}

static gboolean
is_text (const char *value, gsize len)
{
  for (gsize i = 0; i < len; i++)
    if ((guchar) value[i] < 0x20 || value[i] == 0x7f)
      return FALSE;
  return len > 0 && g_utf8_validate (value, (gssize) len, NULL);
}

gboolean
settings_add (Settings *settings, int key, const char *value, gsize len, const char *field, GError **error)
{
  static const char *const wants[]
      = { "a line of text", "true or false", "a number of bytes, maybe with k, m or g behind it",
          "a full ref name below refs/, not one of the server's own, with at most one '*' for any part of it" };
  const SettingRow *row = &setting_rows[key];
  GPtrArray *values = settings->values[key];
  g_autofree char *text = NULL, *taken = NULL;
  if (len > SETTINGS_VALUE_MAX || !is_text (value, len))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "%s: a value of %s is 1 to %u bytes of UTF-8 without control characters", field, row->name,
                    SETTINGS_VALUE_MAX);
  text = g_strndup (value, len);
  switch (row->type)
    {
    case SETTING_BOOL:
      taken = take_boolean (text);
      break;
    case SETTING_SIZE:
      taken = take_size (text);
      break;
    case SETTING_PATTERN:
      taken = take_pattern (text);
      break;
    default:
      taken = g_strdup (text);
    }
  if (taken == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: %s wants %s, not '%s'", field, row->name, wants[row->type], text);
  if (g_ptr_array_find_with_equal_func (values, taken, g_str_equal, NULL))
    return TRUE;
  if (values->len >= (row->many ? SETTINGS_VALUES_MAX : 1))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: %s has at most %u value%s", field, row->name,
                    row->many ? SETTINGS_VALUES_MAX : 1, row->many ? "s" : "");
  g_ptr_array_add (values, g_steal_pointer (&taken));
  return TRUE;
}

/* -------------------------------------------------------------------------------------------- the file */

GString *
settings_text (const Settings *settings)
{
  GString *text = g_string_new (NULL);
  for (int i = 0; i < SETTINGS_N; i++)
    for (guint k = 0; k < settings->values[i]->len; k++)
      g_string_append_printf (text, "%s %s\n", setting_rows[i].name, (const char *) settings->values[i]->pdata[k]);
  return text;
}

/* What is not understood may forbid something: nothing is let through without it. */
static gboolean
parse_file (const char *path, guint32 mode, GBytes *content, gpointer user, GError **error)
{
  gsize len;
  const char *data = g_bytes_get_data (content, &len);
  g_autofree char *text = g_strndup (data != NULL ? data : "", len);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  if (strcmp (path, SETTINGS_FILE) != 0)
    return TRUE;
  for (char **line = lines; *line != NULL; line++)
    {
      char *value = strchr (*line, ' ');
      int key;
      if (**line == '\0')
        continue;
      if (value != NULL)
        *value++ = '\0';
      key = setting_find (*line);
      if (key < 0 || value == NULL)
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                        "the settings have '%s', which this version of the server does not know", *line);
      if (!settings_add (user, key, value, strlen (value), "settings", error))
        return FALSE;
    }
  return TRUE;
}

Settings *
settings_load (Repo *repo, RefSnapshot *refs, GsOid *ret_version, GError **error)
{
  g_autoptr (Settings) settings = settings_new ();
  GsOid tree;
  fileset_find (refs, FILESET_CONFIG, &tree);
  if (tree.len != 0 && !fileset_read (repo, &tree, parse_file, settings, error))
    return NULL;
  if (ret_version != NULL)
    *ret_version = tree;
  return g_steal_pointer (&settings);
}

/* ---------------------------------------------------------------------------------------------- asking */

gboolean
settings_flag (const Settings *settings, SettingKey key)
{
  const GPtrArray *values = settings->values[key];
  return values->len > 0 && strcmp (values->pdata[0], "true") == 0;
}

guint64
settings_size (const Settings *settings, SettingKey key)
{
  const GPtrArray *values = settings->values[key];
  return values->len > 0 ? g_ascii_strtoull (values->pdata[0], NULL, 10) : 0;
}

static gboolean
pattern_matches (const char *pattern, const char *name)
{
  const char *star = strchr (pattern, '*');
  gsize head, tail, len = strlen (name);
  if (star == NULL)
    return strcmp (pattern, name) == 0;
  head = (gsize) (star - pattern);
  tail = strlen (star + 1);
  return len >= head + tail && strncmp (name, pattern, head) == 0 && strcmp (name + len - tail, star + 1) == 0;
}

gboolean
settings_match (const Settings *settings, SettingKey key, const char *name)
{
  for (guint i = 0; i < settings->values[key]->len; i++)
    if (pattern_matches (settings->values[key]->pdata[i], name))
      return TRUE;
  return FALSE;
}
