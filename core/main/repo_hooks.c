/* SPDX-License-Identifier: Apache-2.0 */
/* repo_hooks.c - `gitstead repo hooks`: the programs that belong to a repository, from and to a folder. */
#include "repo_files.h"

#include "cli.h"
#include "command.h"

#include <errno.h>
#include <gitstead/error.h>
#include <gitstead/v1/files.pb-c.h>
#include <string.h>
#include <sys/stat.h>

#define HOOK_MAX (1024 * 1024)

static const char *const folders[] = { "pre-receive.d", "update.d", "post-receive.d" };

/* ------------------------------------------------------------------------------------------------- set */

typedef struct
{
  GPtrArray *files;    /* HookFile messages */
  GPtrArray *memory;   /* what they point to */
} Found;

static gboolean
add_file (Found *found, const char *dir, const char *path, GError **error)
{
  g_autofree char *full = g_build_filename (dir, path, NULL);
  Gitstead__V1__HookFile *file = g_new (Gitstead__V1__HookFile, 1);
  char *content = NULL;
  gsize len = 0;
  struct stat st;
  gitstead__v1__hook_file__init (file);
  g_ptr_array_add (found->memory, file);
  if (stat (full, &st) != 0 || !S_ISREG (st.st_mode) || st.st_size > HOOK_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s is no file of at most 1 MiB", full);
  if (!g_file_get_contents (full, &content, &len, error))
    return FALSE;
  g_ptr_array_add (found->memory, content);
  file->path = g_strdup (path);
  g_ptr_array_add (found->memory, file->path);
  file->content = (ProtobufCBinaryData) { len, (guint8 *) content };
  g_ptr_array_add (found->files, file);
  return TRUE;
}

/* Other things that lie in the folder are none of ours. */
static gboolean
read_folder (Found *found, const char *dir, GError **error)
{
  struct stat st;
  if (stat (dir, &st) != 0)
    {
      int err = errno;
      return gs_fail (error, gs_error_from_errno (err), "%s: %s", dir, g_strerror (err));
    }
  if (!S_ISDIR (st.st_mode))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s is no folder", dir);
  for (gsize i = 0; i < G_N_ELEMENTS (folders); i++)
    {
      g_autofree char *path = g_build_filename (dir, folders[i], NULL);
      g_autoptr (GDir) open = g_dir_open (path, 0, NULL);
      for (const char *name; open != NULL && (name = g_dir_read_name (open)) != NULL;)
        {
          g_autofree char *file = g_build_filename (folders[i], name, NULL);
          if (!add_file (found, dir, file, error))
            return FALSE;
        }
    }
  return found->files->len > 0
         || gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                     "%s has no files in pre-receive.d, update.d or post-receive.d; 'clear' takes all hooks away", dir);
}

static int
send_hooks (char *path, const Found *found)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__RepositoryHooksSetRequest request = GITSTEAD__V1__REPOSITORY_HOOKS_SET_REQUEST__INIT;
  const Gitstead__V1__RepositoryHooksSetReply *reply;
  repository.path = path;
  request.repository = &repository;
  request.files = (Gitstead__V1__HookFile **) found->files->pdata;
  request.n_files = found->files->len;
  reply = (gconstpointer) gsi_cli_call ("Repository/HooksSet", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot change the hooks of repository '%s'", path);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the reply");
  gsi_cli_say (reply->receipt != NULL ? "Repository '%s' has %u hook%s now."
                                      : "Repository '%s' had these %u hook%s already.",
               path, found->files->len, found->files->len == 1 ? "" : "s");
  return GSI_EXIT_OK;
}

static int
run_set (char *path, const char *dir)
{
  g_autoptr (GPtrArray) files = g_ptr_array_new (), memory = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GError) error = NULL;
  Found found = { files, memory };
  if (dir != NULL && !read_folder (&found, dir, &error))
    return gsi_cli_fail (error, "cannot read the hooks");
  return send_hooks (path, &found);
}

/* ------------------------------------------------------------------------------------------------- get */

/* The server's word is not taken for a path on this machine. */
static gboolean
write_file (const char *dir, const Gitstead__V1__HookFile *file, GError **error)
{
  for (gsize i = 0; i < G_N_ELEMENTS (folders); i++)
    {
      g_autofree char *folder = g_build_filename (dir, folders[i], NULL), *full = NULL;
      const char *name = file->path + strlen (folders[i]) + 1;
      if (!g_str_has_prefix (file->path, folders[i]) || file->path[strlen (folders[i])] != '/' || *name == '\0'
          || *name == '.' || strchr (name, '/') != NULL)
        continue;
      full = g_build_filename (folder, name, NULL);
      if (g_mkdir_with_parents (folder, 0777) != 0)
        return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: %s", folder, g_strerror (errno));
      return g_file_set_contents_full (full, (const char *) file->content.data, (gssize) file->content.len,
                                       G_FILE_SET_CONTENTS_CONSISTENT, 0777, error);
    }
  return gs_fail (error, GS_ERROR_INTERNAL, "the server told a hook by the name '%.100s'", file->path);
}

static int
run_get (char *path, const char *dir)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__RepositoryHooksGetRequest request = GITSTEAD__V1__REPOSITORY_HOOKS_GET_REQUEST__INIT;
  const Gitstead__V1__RepositoryHooksGetReply *reply;
  repository.path = path;
  request.repository = &repository;
  reply = (gconstpointer) gsi_cli_call ("Repository/HooksGet", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot read the hooks of repository '%s'", path);
  for (gsize i = 0; i < reply->n_files && dir != NULL; i++)
    if (!write_file (dir, reply->files[i], &error))
      return gsi_cli_fail (error, "cannot write the hooks");
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the hooks");
  for (gsize i = 0; i < reply->n_files; i++)
    g_print ("%s\n", reply->files[i]->path);
  if (!reply->run && reply->n_files > 0 && !gsi_cli_quiet ())
    g_printerr ("They do not run: the storage's option run_hooks is off.\n");
  return GSI_EXIT_OK;
}

int
gsi_repo_hooks_run (int n_args, char **args)
{
  const char *dir = n_args > 2 ? args[2] : NULL;
  if (strcmp (args[0], "get") == 0)
    return run_get (args[1], dir);
  if (strcmp (args[0], "clear") == 0 && dir == NULL)
    return run_set (args[1], NULL);
  if (strcmp (args[0], "set") == 0 && dir != NULL)
    return run_set (args[1], dir);
  return gsi_cli_usage ("repo hooks", "say get PATH [FOLDER], set PATH FOLDER or clear PATH");
}
