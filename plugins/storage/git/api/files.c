/* SPDX-License-Identifier: Apache-2.0 */
/* RepositoryService: the sets of files that belong to a repository. */
#include "../draft.h"
#include "../hooks.h"
#include "../treeedit.h"
#include "change.h"
#include "files.h"

#include <string.h>

#define ENTRIES_MAX 100u
#define HOOK_BYTES (512u << 10)
#define HOOKS_BYTES (768u << 10)

static char *
version_hex (GitCall *call, const GsOid *tree)
{
  GsOid none = { .len = (guint8) call->repo->format };
  return api_hex (call, tree->len != 0 ? tree : &none);
}

/* --------------------------------------------------------------------------------------------- reading */

static gboolean
unknown_key (const char *field, const char *key, GError **error)
{
  g_autoptr (GString) known = g_string_new (NULL);
  g_autofree char *shown = g_strndup (key, 100);
  for (int i = 0; i < SETTINGS_N; i++)
    g_string_append_printf (known, "%s%s", i > 0 ? ", " : "", setting_rows[i].name);
  return api_invalid (error, field, "there is no setting '%s'; there are: %s", shown, known->str);
}

static void
tell_keys (GitCall *call, Gitstead__V1__RepositoryConfigGetReply *reply)
{
  for (int i = 0; i < SETTINGS_N; i++)
    {
      const SettingRow *row = &setting_rows[i];
      Gitstead__V1__ConfigKey *key = api_message (call, &gitstead__v1__config_key__descriptor);
      key->key = api_text (call, row->name, -1);
      key->type = api_text (call, setting_type_name (row->type), -1);
      key->many = row->many;
      key->help = api_text (call, row->help, -1);
      API_APPEND (call, reply, keys, key);
    }
}

static gboolean
config_get (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__RepositoryConfigGetRequest *request = (gconstpointer) message;
  Gitstead__V1__RepositoryConfigGetReply *reply = (gpointer) answer;
  gboolean wanted[SETTINGS_N] = { FALSE };
  RefSnapshot *refs = api_refs (call, error);
  g_autoptr (Settings) settings = NULL;
  GsOid version;
  for (gsize i = 0; i < request->n_keys; i++)
    {
      int key = setting_find (request->keys[i]);
      if (key < 0)
        return unknown_key ("keys", request->keys[i], error);
      wanted[key] = TRUE;
    }
  settings = refs != NULL ? settings_load (call->repo, refs, &version, error) : NULL;
  if (settings == NULL)
    return FALSE;
  reply->version = version_hex (call, &version);
  for (int i = 0; i < SETTINGS_N; i++)
    {
      const GPtrArray *values = settings->values[i];
      Gitstead__V1__ConfigEntry *entry;
      if (values->len == 0 || (request->n_keys > 0 && !wanted[i]))
        continue;
      entry = api_message (call, &gitstead__v1__config_entry__descriptor);
      entry->key = api_text (call, setting_rows[i].name, -1);
      for (guint k = 0; k < values->len; k++)
        API_APPEND (call, entry, values, api_text (call, values->pdata[k], -1));
      API_APPEND (call, reply, entries, entry);
    }
  if (request->describe)
    tell_keys (call, reply);
  return TRUE;
}

typedef struct
{
  GitCall *call;
  Gitstead__V1__RepositoryHooksGetReply *reply;
} HooksTold;

static gboolean
tell_hook (const char *path, guint32 mode, GBytes *content, gpointer user, GError **error)
{
  HooksTold *told = user;
  Gitstead__V1__HookFile *file = api_message (told->call, &gitstead__v1__hook_file__descriptor);
  gsize len;
  const void *data = g_bytes_get_data (content, &len);
  file->path = api_text (told->call, path, -1);
  file->content = api_bytes (told->call, data, len);
  API_APPEND (told->call, told->reply, files, file);
  return TRUE;
}

static gboolean
hooks_get (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  HooksTold told = { call, (gpointer) answer };
  RefSnapshot *refs = api_refs (call, error);
  GsOid tree;
  if (refs == NULL)
    return FALSE;
  fileset_find (refs, FILESET_HOOKS, &tree);
  told.reply->version = version_hex (call, &tree);
  told.reply->run = call->storage->run_hooks;
  return tree.len == 0 || fileset_read (call->repo, &tree, tell_hook, &told, error);
}

const ApiRow api_files_rows[] = {
  API_ROW (130, config_get, repository_config_get_request, repository_config_get_reply),
  API_ROW (132, hooks_get, repository_hooks_get_request, repository_hooks_get_reply),
  { 0, NULL, NULL, NULL },
};

/* --------------------------------------------------------------------------------------------- writing */

/* A set that is being made, and what it takes the place of. */
typedef struct
{
  GitCall *call;
  const char *set;
  GsOid old_tree, new_tree; /* len 0 = none */
  Draft *draft;
} SetWrite;

/* Only what the caller has seen is replaced. */
static gboolean
check_version (const SetWrite *write, const char *expected, GError **error)
{
  const char *has = version_hex (write->call, &write->old_tree);
  GsOid oid;
  if (*expected == '\0')
    return TRUE;
  if (!api_take_oid (write->call, expected, "expected_version", &oid, error))
    return FALSE;
  return strcmp (has, expected) == 0
         || gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "the %s of the repository is at version %s, not at %s", write->set,
                     has, expected);
}

/* The change set that puts the new tree in the place of the old one; nothing when they are the same. */
static gboolean
set_computed (SetWrite *write, GBytes *reply, GsComputed **ret_computed, GError **error)
{
  const GsOid zero = { .len = (guint8) write->call->repo->format };
  const GsOid *from = write->old_tree.len != 0 ? &write->old_tree : &zero;
  const GsOid *to = write->new_tree.len != 0 ? &write->new_tree : &zero;
  GArray *updates;
  GPtrArray *texts;
  GBytes *pack = NULL;
  if (!gs_oid_equal (from, to) && write->new_tree.len != 0 && !draft_pack (write->draft, &pack, error))
    {
      g_bytes_unref (reply);
      return FALSE;
    }
  updates = g_array_new (FALSE, TRUE, sizeof (GsRefUpdate));
  texts = g_ptr_array_new_with_free_func (g_free);
  if (!gs_oid_equal (from, to))
    {
      GsRefUpdate update = { .name = g_strconcat (FILESET_REFS, write->set, NULL), .old_oid = *from, .new_oid = *to };
      g_ptr_array_add (texts, (gpointer) update.name);
      g_array_append_val (updates, update);
    }
  *ret_computed = computed_new (updates, texts, pack, reply);
  (*ret_computed)->change.own_refs = TRUE;
  return TRUE;
}

static gboolean
apply_entry (Settings *settings, const Gitstead__V1__RepositoryConfigSetRequest *request,
             const Gitstead__V1__ConfigEntry *entry, gboolean *seen, GError **error)
{
  int key = setting_find (entry->key);
  if (key < 0)
    return unknown_key ("entries.key", entry->key, error);
  if (seen[key])
    return api_invalid (error, "entries.key", "%s is there twice", setting_rows[key].name);
  seen[key] = TRUE;
  if (!request->add || !setting_rows[key].many || entry->n_values == 0)
    g_ptr_array_set_size (settings->values[key], 0);
  for (gsize i = 0; i < entry->n_values; i++)
    if (!settings_add (settings, key, entry->values[i], strlen (entry->values[i]), "entries.values", error))
      return FALSE;
  return TRUE;
}

static gboolean
write_settings (SetWrite *write, const Settings *settings, GError **error)
{
  g_autoptr (GString) text = settings_text (settings);
  g_autoptr (GByteArray) tree = g_byte_array_new ();
  static const char entry[] = "100644 " SETTINGS_FILE; /* its NUL is the entry's */
  GsOid blob;
  if (settings_empty (settings))
    return TRUE;
  if (!draft_add (write->draft, GS_OBJECT_BLOB, text->str, text->len, &blob, error))
    return FALSE;
  g_byte_array_append (tree, (const guint8 *) entry, sizeof entry);
  g_byte_array_append (tree, blob.raw, blob.len);
  return draft_add (write->draft, GS_OBJECT_TREE, tree->data, tree->len, &write->new_tree, error);
}

static gboolean
config_set (SetWrite *write, const ProtobufCMessage *message, GsComputed **ret_computed, GError **error)
{
  const Gitstead__V1__RepositoryConfigSetRequest *request = (gconstpointer) message;
  Gitstead__V1__RepositoryConfigSetReply reply = GITSTEAD__V1__REPOSITORY_CONFIG_SET_REPLY__INIT;
  gboolean seen[SETTINGS_N] = { FALSE };
  g_autoptr (Settings) settings = NULL;
  RefSnapshot *refs = api_refs (write->call, error);
  write->set = FILESET_CONFIG;
  if (request->n_entries > ENTRIES_MAX)
    return api_invalid (error, "entries", "%" G_GSIZE_FORMAT " given, up to %u are taken", request->n_entries, ENTRIES_MAX);
  if (request->n_entries == 0 && !request->replace)
    return api_invalid (error, "entries", "must name at least one setting, or replace must be set");
  settings = refs != NULL ? settings_load (write->call->repo, refs, &write->old_tree, error) : NULL;
  if (settings == NULL || !check_version (write, request->expected_version, error))
    return FALSE;
  for (int i = 0; i < SETTINGS_N && request->replace; i++)
    g_ptr_array_set_size (settings->values[i], 0);
  for (gsize i = 0; i < request->n_entries; i++)
    if (!apply_entry (settings, request, request->entries[i], seen, error))
      return FALSE;
  if (!write_settings (write, settings, error))
    return FALSE;
  reply.version = version_hex (write->call, &write->new_tree);
  return set_computed (write, gs_wire_encode (&reply.base), ret_computed, error);
}

static gboolean
put_hook (SetWrite *write, TreeEdit *edit, const Gitstead__V1__HookFile *file, gsize *total, GError **error)
{
  GsOid blob, other;
  guint32 mode;
  if (!hook_path_valid (file->path, strlen (file->path)))
    return api_invalid (error, "files.path",
                        "'%.120s' is not pre-receive.d/NAME, update.d/NAME or post-receive.d/NAME, with a NAME of at most 100 "
                        "letters, digits, '-', '_' and '.' that begins with a letter or digit",
                        file->path);
  *total += file->content.len;
  if (file->content.len == 0 || file->content.len > HOOK_BYTES || *total > HOOKS_BYTES)
    return api_invalid (error, "files.content", "%s: a hook has 1 to %u bytes, all of them together %u", file->path, HOOK_BYTES,
                        HOOKS_BYTES);
  if (!tree_edit_find (edit, file->path, &mode, &other, error))
    return FALSE;
  if (mode != 0)
    return api_invalid (error, "files.path", "%s is there twice", file->path);
  return draft_add (write->draft, GS_OBJECT_BLOB, file->content.data, file->content.len, &blob, error)
         && tree_edit_put (edit, file->path, 0100755, &blob, error);
}

static gboolean
hooks_set (SetWrite *write, const ProtobufCMessage *message, GsComputed **ret_computed, GError **error)
{
  const Gitstead__V1__RepositoryHooksSetRequest *request = (gconstpointer) message;
  Gitstead__V1__RepositoryHooksSetReply reply = GITSTEAD__V1__REPOSITORY_HOOKS_SET_REPLY__INIT;
  g_autoptr (TreeEdit) edit = tree_edit_new (write->draft, NULL);
  RefSnapshot *refs = api_refs (write->call, error);
  gsize total = 0;
  write->set = FILESET_HOOKS;
  if (refs == NULL)
    return FALSE;
  if (request->n_files > FILESET_FILES_MAX)
    return api_invalid (error, "files", "%" G_GSIZE_FORMAT " given, up to %u are taken", request->n_files, FILESET_FILES_MAX);
  fileset_find (refs, FILESET_HOOKS, &write->old_tree);
  if (!check_version (write, request->expected_version, error))
    return FALSE;
  for (gsize i = 0; i < request->n_files; i++)
    if (!put_hook (write, edit, request->files[i], &total, error))
      return FALSE;
  if (request->n_files > 0 && !tree_edit_write (edit, &write->new_tree, error))
    return FALSE;
  reply.version = version_hex (write->call, &write->new_tree);
  return set_computed (write, gs_wire_encode (&reply.base), ret_computed, error);
}

typedef struct
{
  ApiRow row;
  gboolean (*run) (SetWrite *write, const ProtobufCMessage *request, GsComputed **ret_computed, GError **error);
} Writer;

static const Writer writers[] = {
  { API_ROW (131, NULL, repository_config_set_request, repository_config_set_reply), config_set },
  { API_ROW (133, NULL, repository_hooks_set_request, repository_hooks_set_reply), hooks_set },
};

static const Writer *
find_writer (guint32 method)
{
  for (gsize i = 0; i < G_N_ELEMENTS (writers); i++)
    if (writers[i].row.number == method)
      return &writers[i];
  return NULL;
}

gboolean
files_knows (guint32 method)
{
  return find_writer (method) != NULL;
}

gboolean
files_compute (Storage *storage, GsCall *base, const GsRepo *repo, const GsQuery *query, GsComputed **ret_computed,
               GError **error)
{
  const Writer *writer = find_writer (query->method);
  ObjectHandle *handle;
  gboolean done = FALSE;
  GitCall call;
  if (!api_open (&call, storage, base, repo, query, &writer->row, FALSE, error))
    return FALSE;
  if (call.repo->format != GS_FORMAT_SHA1)
    gs_fail (error, GS_ERROR_UNIMPLEMENTED, "repositories with SHA-256 ids have no sets of files");
  else if ((handle = api_odb (&call, error)) != NULL)
    {
      SetWrite write = { .call = &call, .draft = draft_new (call.repo, handle, 2 * FILESET_BYTES) };
      done = writer->run (&write, call.request, ret_computed, error);
      draft_free (write.draft);
    }
  api_close (&call);
  return done;
}
