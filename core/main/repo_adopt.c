/* SPDX-License-Identifier: Apache-2.0 */
/* repo_adopt.c - `gitstead repo adopt`: an old tree of bare repositories, taken over where it lies. */
#include "cli.h"
#include "command.h"
#include "repo_files.h"

#include <gitstead/types.h>
#include <gitstead/v1/cluster.pb-c.h>
#include <gitstead/v1/repository.pb-c.h>
#include <string.h>

static gboolean adopt_all, adopt_list;
static char *adopt_prefix;

const GOptionEntry gsi_repo_adopt_options[]
    = { { "all", 'a', 0, G_OPTION_ARG_NONE, &adopt_all, "Adopt all that are there", NULL },
        { "list", 'l', 0, G_OPTION_ARG_NONE, &adopt_list, "Only list what could be adopted", NULL },
        { "prefix", 'p', 0, G_OPTION_ARG_STRING, &adopt_prefix,
          "What goes before a folder's name to make a path: \"old/\"", "TEXT" },
        G_OPTION_ENTRY_NULL };

/* The next page; NULL with @error. */
static const Gitstead__V1__ClusterFoldersReply *
page (char *storage, const ProtobufCBinaryData *after, GError **error)
{
  Gitstead__V1__ClusterFoldersRequest request = GITSTEAD__V1__CLUSTER_FOLDERS_REQUEST__INIT;
  request.storage = storage;
  if (after != NULL)
    request.after = *after;
  return (const Gitstead__V1__ClusterFoldersReply *) gsi_cli_call ("Cluster/Folders", &request.base, error);
}

static gboolean
adopt_one (char *storage, const ProtobufCBinaryData *folder, const char *path, GError **error)
{
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__RepositoryAdoptRequest request = GITSTEAD__V1__REPOSITORY_ADOPT_REQUEST__INIT;
  const Gitstead__V1__RepositoryCreateReply *reply;
  repository.path = (char *) path;
  request.repository = &repository;
  request.storage = storage;
  request.folder = *folder;
  reply = (const Gitstead__V1__RepositoryCreateReply *) gsi_cli_call ("Repository/Adopt", &request.base, error);
  if (reply == NULL)
    return FALSE;
  if (gsi_cli_json ())
    return gsi_cli_print_json (&reply->base, error);
  gsi_cli_say ("Adopted '%s' (id %" G_GUINT64_FORMAT ").",
               reply->info != NULL && reply->info->repository != NULL ? reply->info->repository->path : path,
               reply->info != NULL ? reply->info->id : 0);
  return TRUE;
}

static char *
path_for (const char *folder, gsize len)
{
  g_autofree char *text = g_strndup (folder, len);
  return g_strconcat (adopt_prefix != NULL ? adopt_prefix : "", text, NULL);
}

/* One that cannot be adopted is told, and the others go on. */
static void
adopt_folder (char *storage, const ProtobufCBinaryData *folder, guint *n_failed)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *path = path_for ((const char *) folder->data, folder->len);
  if (adopt_one (storage, folder, path, &error))
    return;
  gsi_cli_fail (error, "cannot adopt '%s' of storage '%s'", path, storage);
  (*n_failed)++;
}

static int
adopt_many (char *storage)
{
  g_autoptr (GError) error = NULL;
  const Gitstead__V1__ClusterFoldersReply *reply = NULL;
  guint n = 0, n_failed = 0;
  do
    {
      reply = page (storage, reply != NULL && reply->n_folders > 0 ? &reply->folders[reply->n_folders - 1] : NULL,
                    &error);
      if (reply == NULL)
        return gsi_cli_fail (error, "cannot list what could be adopted on storage '%s'", storage);
      for (gsize i = 0; i < reply->n_folders; i++, n++)
        if (adopt_list)
          g_print ("%.*s\n", (int) reply->folders[i].len, (const char *) reply->folders[i].data);
        else
          adopt_folder (storage, &reply->folders[i], &n_failed);
    }
  while (reply->more && reply->n_folders > 0);
  if (!adopt_list && !gsi_cli_json ())
    gsi_cli_say ("%u repositories adopted, %u could not be.", n - n_failed, n_failed);
  return n_failed == 0 ? GSI_EXIT_OK : GSI_EXIT_FAILED;
}

int
gsi_repo_adopt_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *path = NULL;
  ProtobufCBinaryData folder;
  if ((n_args > 1) == (adopt_all || adopt_list))
    return gsi_cli_usage ("repo adopt", "say one FOLDER, or --all, or --list");
  if (n_args > 2 && adopt_prefix != NULL)
    return gsi_cli_usage ("repo adopt", "say a PATH or a --prefix");
  if (n_args == 1)
    return adopt_many (args[0]);
  folder = (ProtobufCBinaryData){ strlen (args[1]), (guint8 *) args[1] };
  path = n_args > 2 ? g_strdup (args[2]) : path_for (args[1], strlen (args[1]));
  if (!adopt_one (args[0], &folder, path, &error))
    return gsi_cli_fail (error, "cannot adopt '%s' of storage '%s'", path, args[0]);
  return GSI_EXIT_OK;
}
