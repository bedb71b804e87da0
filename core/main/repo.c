/* SPDX-License-Identifier: Apache-2.0 */
/* repo.c - `gitstead repo`: repositories of a running server. */
#include "base/text.h"
#include "cli.h"
#include "cluster.h"
#include "command.h"
#include "repo_files.h"

#include <gitstead/types.h>
#include <gitstead/v1/repository.pb-c.h>
#include <gitstead/v1/server.pb-c.h>
#include <string.h>

static Gitstead__V1__Repository
name_of (char *path)
{
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  repository.path = path;
  return repository;
}

static char *
hex_of (const ProtobufCBinaryData *bytes)
{
  char *hex = g_malloc (2 * bytes->len + 1);
  gs_hex (bytes->data, bytes->len, hex);
  return hex;
}

/* "1/1 current": how many replicas hold everything. */
static char *
replica_count (const Gitstead__V1__RepositoryInfo *info)
{
  gsize current = 0;
  for (gsize i = 0; i < info->n_replicas; i++)
    current += info->replicas[i]->current ? 1 : 0;
  return g_strdup_printf ("%" G_GSIZE_FORMAT "/%" G_GSIZE_FORMAT, current, info->n_replicas);
}

static const char *
path_of (const Gitstead__V1__RepositoryInfo *info)
{
  return info->repository != NULL ? info->repository->path : "";
}

/* ------------------------------------------------------------------------------------------ create */

static char *default_branch;

static const GOptionEntry create_options[]
    = { { "default-branch", 'b', 0, G_OPTION_ARG_STRING, &default_branch, "Name of the first branch (default: main)",
          "BRANCH" },
        G_OPTION_ENTRY_NULL };

/* Where git finds it: only a help for people, so that no failure here counts. */
static void
print_clone_urls (const char *path)
{
  Gitstead__V1__InfoRequest request = GITSTEAD__V1__INFO_REQUEST__INIT;
  const Gitstead__V1__InfoReply *info;
  info = (const Gitstead__V1__InfoReply *) gsi_cli_call ("Server/Info", &request.base, NULL);
  for (gsize i = 0; info != NULL && i < info->n_endpoints; i++)
    if (g_str_has_prefix (info->endpoints[i], "http"))
      gsi_cli_say ("  git clone %s%s%s", info->endpoints[i], g_str_has_suffix (info->endpoints[i], "/") ? "" : "/",
                   path);
}

static int
create_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__Repository repository = name_of (args[0]);
  Gitstead__V1__RepositoryCreateRequest request = GITSTEAD__V1__REPOSITORY_CREATE_REQUEST__INIT;
  const Gitstead__V1__RepositoryCreateReply *reply;
  request.repository = &repository;
  if (default_branch != NULL)
    {
      request.default_branch.data = (guint8 *) default_branch;
      request.default_branch.len = strlen (default_branch);
    }
  reply = (const Gitstead__V1__RepositoryCreateReply *) gsi_cli_call ("Repository/Create", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot create repository '%s'", args[0]);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the new repository");
  if (reply->info != NULL)
    {
      gsi_cli_say ("Created repository '%s' (id %" G_GUINT64_FORMAT ").", path_of (reply->info), reply->info->id);
      if (!gsi_cli_quiet ())
        print_clone_urls (path_of (reply->info));
    }
  return GSI_EXIT_OK;
}

/* -------------------------------------------------------------------------------------------- list */

static int list_limit;

static const GOptionEntry list_options[]
    = { { "limit", 'n', 0, G_OPTION_ARG_INT, &list_limit, "Print at most N repositories (default: all)", "N" },
        G_OPTION_ENTRY_NULL };

/* All pages as one reply. The rows live in the program's arena. */
static gboolean
list_all (const char *prefix, GPtrArray *rows, GError **error)
{
  Gitstead__V1__RepositoryListRequest request = GITSTEAD__V1__REPOSITORY_LIST_REQUEST__INIT;
  Gitstead__V1__Page page = GITSTEAD__V1__PAGE__INIT;
  request.prefix = (char *) prefix;
  request.page = &page;
  for (;;)
    {
      const Gitstead__V1__RepositoryListReply *reply;
      if (list_limit > 0)
        page.limit = MIN (1000, (guint32) list_limit - rows->len);
      reply = (const Gitstead__V1__RepositoryListReply *) gsi_cli_call ("Repository/List", &request.base, error);
      if (reply == NULL)
        return FALSE;
      for (gsize i = 0; i < reply->n_repositories; i++)
        g_ptr_array_add (rows, reply->repositories[i]);
      if (reply->next_page_token.len == 0 || (list_limit > 0 && rows->len >= (guint) list_limit))
        return TRUE;
      page.token = reply->next_page_token;
    }
}

static void
print_list (const GPtrArray *rows)
{
  GsiTable *table;
  if (rows->len == 0)
    {
      g_printerr ("There are no repositories%s.\n", gsi_cli_quiet () ? "" : "; 'gitstead repo create PATH' makes one");
      return;
    }
  table = gsi_table_new ((const char *[]) { "PATH", ">ID", ">GENERATION", "REPLICAS", "LAST WRITE", NULL });
  for (guint i = 0; i < rows->len; i++)
    {
      const Gitstead__V1__RepositoryInfo *info = rows->pdata[i];
      g_autofree char *id = g_strdup_printf ("%" G_GUINT64_FORMAT, info->id);
      g_autofree char *generation = g_strdup_printf ("%" G_GUINT64_FORMAT, info->generation);
      g_autofree char *replicas = replica_count (info);
      g_autofree char *changed = gsi_cli_time (info->changed_us);
      gsi_table_row (table, path_of (info), id, generation, replicas, changed, NULL);
    }
  gsi_table_print (table);
}

static int
list_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) rows = g_ptr_array_new ();
  if (list_limit < 0)
    return gsi_cli_usage ("repo list", "--limit wants a number of 1 or more");
  if (!list_all (n_args > 0 ? args[0] : "", rows, &error))
    return gsi_cli_fail (error, "cannot list repositories");
  if (gsi_cli_json ())
    {
      Gitstead__V1__RepositoryListReply whole = GITSTEAD__V1__REPOSITORY_LIST_REPLY__INIT;
      whole.n_repositories = rows->len;
      whole.repositories = (Gitstead__V1__RepositoryInfo **) rows->pdata;
      return gsi_cli_finish_json (&whole.base, "the repositories");
    }
  if (gsi_cli_quiet ())
    {
      for (guint i = 0; i < rows->len; i++)
        g_print ("%s\n", path_of (rows->pdata[i]));
      return GSI_EXIT_OK;
    }
  print_list (rows);
  return GSI_EXIT_OK;
}

/* -------------------------------------------------------------------------------------------- show */

static void
print_info (const Gitstead__V1__RepositoryInfo *info)
{
  g_autofree char *id = g_strdup_printf ("%" G_GUINT64_FORMAT, info->id);
  g_autofree char *generation = g_strdup_printf ("%" G_GUINT64_FORMAT, info->generation);
  g_autofree char *digest = hex_of (&info->refs_digest);
  g_autofree char *created = gsi_cli_time (info->created_us);
  g_autofree char *changed = gsi_cli_time (info->changed_us);
  const char *storage = info->repository != NULL ? info->repository->virtual_storage : "";
  g_autoptr (GPtrArray) pairs = g_ptr_array_new ();
  g_autoptr (GPtrArray) texts = g_ptr_array_new_with_free_func (g_free);
  const char *const fixed[] = { "path", path_of (info), "id", id, "virtual storage", storage, "object format",
                                info->object_format, "generation", generation, "refs digest", digest, "created", created,
                                "last write", changed, "replica path", info->replica_path };
  for (gsize i = 0; i < G_N_ELEMENTS (fixed); i++)
    g_ptr_array_add (pairs, (gpointer) fixed[i]);
  for (gsize i = 0; i < info->n_replicas; i++)
    {
      const Gitstead__V1__Replica *replica = info->replicas[i];
      char *text = g_strdup_printf ("%s, generation %" G_GUINT64_FORMAT ", %s", replica->storage, replica->generation,
                                    replica->current ? "current" : "behind");
      g_ptr_array_add (texts, text);
      g_ptr_array_add (pairs, (gpointer) "replica");
      g_ptr_array_add (pairs, text);
    }
  g_ptr_array_add (pairs, NULL);
  gsi_cli_print_pairs ((const char *const *) pairs->pdata);
}

static int
show_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__Repository repository = name_of (args[0]);
  Gitstead__V1__RepositoryGetRequest request = GITSTEAD__V1__REPOSITORY_GET_REQUEST__INIT;
  const Gitstead__V1__RepositoryGetReply *reply;
  request.repository = &repository;
  reply = (const Gitstead__V1__RepositoryGetReply *) gsi_cli_call ("Repository/Get", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot show repository '%s'", args[0]);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the repository");
  if (reply->info != NULL && !gsi_cli_quiet ())
    print_info (reply->info);
  return GSI_EXIT_OK;
}

/* ------------------------------------------------------------------------------------------ delete */

static gboolean delete_yes;

static const GOptionEntry delete_options[]
    = { { "yes", 'y', 0, G_OPTION_ARG_NONE, &delete_yes, "Do not ask", NULL }, G_OPTION_ENTRY_NULL };

static int
delete_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__Repository repository = name_of (args[0]);
  Gitstead__V1__RepositoryDeleteRequest request = GITSTEAD__V1__REPOSITORY_DELETE_REQUEST__INIT;
  const ProtobufCMessage *reply;
  if (!delete_yes && !gsi_cli_can_ask ())
    return gsi_cli_usage ("repo delete", "there is no terminal to ask on; say --yes to delete '%s'", args[0]);
  if (!delete_yes)
    {
      g_autofree char *question = g_strdup_printf ("Delete repository '%s' on %s?", args[0], gsi_cli_server ());
      if (!gsi_cli_ask (question))
        {
          g_printerr ("Nothing was deleted.\n");
          return GSI_EXIT_FAILED;
        }
    }
  request.repository = &repository;
  reply = gsi_cli_call ("Repository/Delete", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot delete repository '%s'", args[0]);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (reply, "the reply");
  gsi_cli_say ("Deleted repository '%s'. What its storages hold of it goes to their trash for the configured grace time.", args[0]);
  return GSI_EXIT_OK;
}

/* ------------------------------------------------------------------------------------ rename, size */

static int
rename_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__Repository repository = name_of (args[0]);
  Gitstead__V1__RepositoryRenameRequest request = GITSTEAD__V1__REPOSITORY_RENAME_REQUEST__INIT;
  const Gitstead__V1__RepositoryRenameReply *reply;
  request.repository = &repository;
  request.new_path = args[1];
  reply = (const Gitstead__V1__RepositoryRenameReply *) gsi_cli_call ("Repository/Rename", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot rename repository '%s' to '%s'", args[0], args[1]);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the repository");
  gsi_cli_say ("Renamed repository '%s' to '%s'.", args[0], reply->info != NULL ? path_of (reply->info) : args[1]);
  return GSI_EXIT_OK;
}

static int
size_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *total = NULL, *objects = NULL, *refs = NULL, *n_refs = NULL, *n_packs = NULL;
  Gitstead__V1__Repository repository = name_of (args[0]);
  Gitstead__V1__RepositorySizeRequest request = GITSTEAD__V1__REPOSITORY_SIZE_REQUEST__INIT;
  const Gitstead__V1__RepositorySizeReply *reply;
  request.repository = &repository;
  reply = (const Gitstead__V1__RepositorySizeReply *) gsi_cli_call ("Repository/Size", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot measure repository '%s'", args[0]);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the size");
  if (gsi_cli_quiet ())
    {
      g_print ("%" G_GUINT64_FORMAT "\n", reply->total_bytes);
      return GSI_EXIT_OK;
    }
  total = gsi_text_size (reply->total_bytes);
  objects = gsi_text_size (reply->objects_bytes);
  refs = gsi_text_size (reply->refs_bytes);
  n_refs = g_strdup_printf ("%" G_GUINT64_FORMAT, reply->refs);
  n_packs = g_strdup_printf ("%" G_GUINT64_FORMAT, reply->packs);
  gsi_cli_print_pairs ((const char *[]) { "total", total, "objects", objects, "refs", refs, "number of refs", n_refs,
                                          "number of packs", n_packs, NULL });
  return GSI_EXIT_OK;
}

const GsiVerb gsi_repo_verbs[] = {
  { .name = "create",
    .arguments = "PATH",
    .summary = "Create an empty repository",
    .about = "Creates an empty repository at PATH (\"group/project\"; \".git\" is added when it is missing). Fails when "
             "there is one already, also under a name that differs only in upper and lower case. Needs an admin token, or "
             "the server's socket.\nWith --quiet it prints nothing.",
    .examples = "  gitstead repo create group/project\n"
                "  gitstead repo create legacy/app --default-branch master\n"
                "  gitstead repo create ci/cache --server tcp://git.example.org:8419 --token-file ~/.gitstead-token",
    .options = create_options,
    .min_args = 1,
    .max_args = 1,
    .run = create_run },
  { .name = "list",
    .arguments = "[PREFIX]",
    .summary = "List repositories",
    .about = "Lists the repositories that the caller may read, in order of their paths; with PREFIX those whose path "
             "begins so.\nWith --quiet it prints the paths alone, one per line.",
    .examples = "  gitstead repo list\n"
                "  gitstead repo list group/ --json\n"
                "  gitstead repo list --quiet | while read -r path; do gitstead repo size \"$path\"; done",
    .options = list_options,
    .max_args = 1,
    .run = list_run },
  { .name = "show",
    .arguments = "PATH",
    .summary = "Show all that is known of a repository",
    .about = "Shows id, generation (raised by one with every write), refs digest (equal digests mean equal refs) and where "
             "the copies are.\nWith --quiet it prints nothing: the exit code says whether the repository is there.",
    .examples = "  gitstead repo show group/project\n"
                "  gitstead repo show group/project --json\n"
                "  gitstead repo show group/project --quiet && echo it is there",
    .min_args = 1,
    .max_args = 1,
    .run = show_run },
  { .name = "adopt",
    .arguments = "STORAGE [FOLDER [PATH]]",
    .summary = "Take over bare repositories of an old tree",
    .about = "FOLDER is a bare repository below the root of STORAGE, whose option old_tree lets it have one. It becomes a\n"
             "replica where it lies: nothing is copied, and a symbolic link keeps its old name readable. All of it is read\n"
             "first, and what cannot be served is refused and stays as it was. From then on only Gitstead may write to it,\n"
             "so stop whatever else does before. PATH is what clients call it, FOLDER when it is not given.",
    .examples = "  gitstead repo adopt old --list\n"
                "  gitstead repo adopt old group/project.git\n"
                "  gitstead repo adopt old --all --prefix legacy/",
    .options = gsi_repo_adopt_options,
    .min_args = 1,
    .max_args = 3,
    .run = gsi_repo_adopt_run },
  { .name = "delete",
    .arguments = "PATH",
    .summary = "Delete a repository",
    .about = "Deletes a repository: for clients it is gone at once; its files stay in the storage's trash for the configured "
             "grace time. Asks first; without a terminal --yes is needed.",
    .examples = "  gitstead repo delete group/project\n"
                "  gitstead repo delete group/project --yes",
    .options = delete_options,
    .min_args = 1,
    .max_args = 1,
    .run = delete_run },
  { .name = "rename",
    .arguments = "PATH NEW-PATH",
    .summary = "Give a repository another path",
    .about = "Gives a repository another path. Takes a moment whatever its size: nothing moves on disk. Clients that use "
             "the old path get \"not found\".",
    .examples = "  gitstead repo rename group/project group/renamed\n"
                "  gitstead repo rename inbox/project archive/2026/project",
    .min_args = 2,
    .max_args = 2,
    .run = rename_run },
  { .name = "move",
    .arguments = "REPOSITORY --to STORAGE [--from STORAGE]",
    .summary = "Move a replica to another storage, while the repository is used",
    .about = "The replica is copied to STORAGE; then writes wait for less than a second, and the new one takes the place of the "
             "old one, whose files go to the trash. Reads go on throughout, and there are never fewer current replicas than "
             "before. The routers carry it out and go on when one of them dies; a write that began long before is "
             "waited for. REPOSITORY is a path, or VIRTUAL-STORAGE:PATH.\n"
             "The exit code is 0 when it was moved, else 1.",
    .examples = "  gitstead repo move group/project --to node4\n"
                "  gitstead repo move group/project --from node1 --to node4 --no-wait",
    .options = cluster_move_options,
    .min_args = 1,
    .max_args = 1,
    .run = cluster_move_run },
  { .name = "size",
    .arguments = "PATH",
    .summary = "Measure a repository's disk use",
    .about = "Measures what a repository takes on disk, and counts its refs and packs.\nWith --quiet it prints the total in "
             "bytes.",
    .examples = "  gitstead repo size group/project\n"
                "  gitstead repo size group/project --quiet",
    .min_args = 1,
    .max_args = 1,
    .run = size_run },
  { .name = "config",
    .arguments = "get|set|unset|keys PATH [KEY [VALUE...]]",
    .summary = "Read or change a repository's settings",
    .about = "Settings belong to a repository as its refs do: every replica has the same, and every write keeps to them.\n"
             "get prints all that are set, or the values of KEY alone, one per line; the exit code is 1 when it has none. set "
             "gives KEY these values and no others, with --add these too. unset takes KEY away. keys lists what can be set. "
             "Changing them needs an admin token, or the server's socket.",
    .examples = "  gitstead repo config keys group/project\n"
                "  gitstead repo config set group/project gitstead.protectedRef refs/heads/main 'refs/tags/*'\n"
                "  gitstead repo config set group/project gitstead.protectedRef refs/heads/stable --add\n"
                "  gitstead repo config get group/project receive.denyDeletes\n"
                "  gitstead repo config unset group/project receive.denyDeletes",
    .options = gsi_repo_config_options,
    .min_args = 2,
    .max_args = -1,
    .run = gsi_repo_config_run },
  { .name = "hooks",
    .arguments = "get|set|clear PATH [FOLDER]",
    .summary = "Read or replace a repository's hooks",
    .about = "Hooks are programs that a repository's writes are shown to: those in pre-receive.d and update.d can refuse one, those "
             "in post-receive.d are told of it. They run in the order of their names, with the server's own rights, and only where "
             "the storage's option run_hooks is on.\n"
             "get lists them, and writes them below FOLDER; set puts those in FOLDER in the place of all that there are; clear "
             "takes all away. Needs an admin token, or the server's socket.",
    .examples = "  gitstead repo hooks set group/project ./hooks\n"
                "  gitstead repo hooks get group/project\n"
                "  gitstead repo hooks get group/project ./copy\n"
                "  gitstead repo hooks clear group/project",
    .min_args = 2,
    .max_args = 3,
    .run = gsi_repo_hooks_run },
  { NULL },
};
