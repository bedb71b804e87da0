/* SPDX-License-Identifier: Apache-2.0 */
/* See refs_fixture.h. */
#include "refs_fixture.h"

#include "fsutil.h"

#include <gitstead/thread.h>

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char **
git_environment (void)
{
  static const char *const fixed[] = { "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME=/nonexistent",
    "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_AUTHOR_DATE=1700000000 +0000", "GIT_COMMITTER_NAME=C",
    "GIT_COMMITTER_EMAIL=c@example.org", "GIT_COMMITTER_DATE=1700000000 +0000", "LC_ALL=C", NULL };
  GPtrArray *all = g_ptr_array_new ();
  for (guint i = 0; fixed[i] != NULL; i++)
    g_ptr_array_add (all, g_strdup (fixed[i]));
  g_ptr_array_add (all, g_strconcat ("PATH=", g_getenv ("PATH"), NULL));
  g_ptr_array_add (all, NULL);
  return (char **) g_ptr_array_free (all, FALSE);
}

static int
run (const Repo *repo, char **argv, char **ret_output, char **ret_errors)
{
  g_auto (GStrv) environment = git_environment ();
  g_autoptr (GError) error = NULL;
  int status = -1;
  if (!g_spawn_sync (repo->dir, argv, environment,
                     G_SPAWN_SEARCH_PATH | (ret_output ? 0 : G_SPAWN_STDOUT_TO_DEV_NULL)
                         | (ret_errors ? 0 : G_SPAWN_STDERR_TO_DEV_NULL),
                     NULL, NULL, ret_output, ret_errors, &status, &error))
    fail_msg ("git: %s", error->message);
  return WIFEXITED (status) ? WEXITSTATUS (status) : 128 + WTERMSIG (status);
}

static GPtrArray *
arguments (va_list list)
{
  GPtrArray *argv = g_ptr_array_new ();
  char *argument;
  g_ptr_array_add (argv, (gpointer) "git");
  while ((argument = va_arg (list, char *)) != NULL)
    g_ptr_array_add (argv, argument);
  g_ptr_array_add (argv, NULL);
  return argv;
}

char *
git (const Repo *repo, ...)
{
  g_autoptr (GPtrArray) argv = NULL;
  g_autofree char *errors = NULL;
  char *output = NULL;
  va_list list;
  int code;
  va_start (list, repo);
  argv = arguments (list);
  va_end (list);
  code = run (repo, (char **) argv->pdata, &output, &errors);
  if (code != 0)
    {
      g_autofree char *line = g_strjoinv (" ", (char **) argv->pdata);
      fail_msg ("%s: exit code %d: %s", line, code, errors);
    }
  return g_strchomp (output);
}

int
git_try (const Repo *repo, ...)
{
  g_autoptr (GPtrArray) argv = NULL;
  va_list list;
  va_start (list, repo);
  argv = arguments (list);
  va_end (list);
  return run (repo, (char **) argv->pdata, NULL, NULL);
}

int
git_feed (const Repo *repo, const char *input, const char *first, const char *second)
{
  g_autofree char *path = g_build_filename (repo->dir, "test-input", NULL);
  const char *argv[] = { "sh", "-c", "exec git \"$1\" \"$2\" < test-input", "sh", first, second, NULL };
  int code;
  g_file_set_contents (path, input, -1, NULL);
  code = run (repo, (char **) argv, NULL, NULL);
  unlink (path);
  return code;
}

GsOid
oid_of (const char *hex)
{
  GsOid oid = { 0 };
  assert_true (gs_oid_parse (hex, strlen (hex), &oid));
  return oid;
}

char *
hex_of (const GsOid *oid)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (oid, hex);
  return g_strdup (hex);
}

GsOid
zero_oid (void)
{
  return (GsOid) { .len = 20 };
}

GsTxId
next_txid (void)
{
  static gint next;
  GsTxId txid = { { 0 } };
  gint number = g_atomic_int_add (&next, 1) + 1;
  pid_t pid = getpid ();
  memcpy (txid.bytes, &number, sizeof number);
  memcpy (txid.bytes + 8, &pid, sizeof pid);
  return txid;
}

Repo *
repo_new (void)
{
  Repo *repo = g_new0 (Repo, 1);
  g_autofree char *tree = NULL, *nothing = NULL, *target = NULL, *object = NULL, *target2 = NULL, *object2 = NULL;
  repo->dir = g_dir_make_tmp ("gitstead-refs-XXXXXX", NULL);
  assert_non_null (repo->dir);
  repo->notes = g_string_new (NULL);
  nothing = git (repo, "init", "-q", "--bare", "-b", "main", ".", NULL);
  tree = git (repo, "mktree", "--missing", NULL);
  for (guint i = 0; i < N_COMMITS; i++)
    {
      g_autofree char *message = g_strdup_printf ("commit %u", i);
      g_autofree char *hex = git (repo, "commit-tree", "-m", message, tree, NULL);
      repo->commits[i] = oid_of (hex);
    }
  repo->blob = oid_of (tree);
  target = hex_of (&repo->commits[0]);
  g_free (git (repo, "tag", "-a", "-m", "t", "temporary", target, NULL));
  object = git (repo, "rev-parse", "temporary", NULL);
  repo->tag = oid_of (object);
  g_free (git (repo, "tag", "-a", "-m", "t", "nested", object, NULL));
  object2 = git (repo, "rev-parse", "nested", NULL);
  repo->nested = oid_of (object2);
  g_free (git (repo, "tag", "-d", "temporary", "nested", NULL));
  repo->absent = oid_of ("1234567890123456789012345678901234567890");
  return repo;
}

#define SAVED (N_COMMITS + 3)

static GsOid *
saved_oid (Repo *repo, guint i)
{
  return i < N_COMMITS ? &repo->commits[i] : i == N_COMMITS ? &repo->tag : i == N_COMMITS + 1 ? &repo->nested : &repo->blob;
}

void
repo_save (const Repo *repo)
{
  g_autoptr (GString) text = g_string_new (NULL);
  for (guint i = 0; i < SAVED; i++)
    {
      g_autofree char *hex = hex_of (saved_oid ((Repo *) repo, i));
      g_string_append_printf (text, "%s\n", hex);
    }
  write_file (repo, "test-objects", text->str);
}

Repo *
repo_load (const char *dir)
{
  Repo *repo = g_new0 (Repo, 1);
  g_autofree char *text = NULL;
  g_auto (GStrv) lines = NULL;
  repo->dir = g_strdup (dir);
  repo->notes = g_string_new (NULL);
  text = read_file (repo, "test-objects");
  lines = g_strsplit (text, "\n", -1);
  for (guint i = 0; i < SAVED; i++)
    gs_oid_parse (lines[i], strlen (lines[i]), saved_oid (repo, i));
  repo->absent = (GsOid) { .len = 20, .raw = { 0x12, 0x34 } };
  return repo;
}

Repo *
repo_copy (const Repo *repo)
{
  g_autofree char *dir = g_dir_make_tmp ("gitstead-refs-XXXXXX", NULL);
  const char *argv[] = { "cp", "-a", ".", dir, NULL };
  assert_int_equal (run (repo, (char **) argv, NULL, NULL), 0);
  return repo_load (dir);
}

void
repo_free (Repo *repo)
{
  if (repo == NULL)
    return;
  fsu_remove_tree (AT_FDCWD, repo->dir, NULL);
  repo_forget (repo);
}

void
repo_forget (Repo *repo)
{
  g_string_free (repo->notes, TRUE);
  g_free (repo->dir);
  g_free (repo);
}

static gboolean
peel (gpointer user, const GsOid *oid, GsOid *ret_peeled, gboolean *ret_is_commit, GError **error)
{
  Repo *repo = user;
  g_atomic_int_inc (&repo->peels);
  memset (ret_peeled, 0, sizeof *ret_peeled);
  *ret_is_commit = FALSE;
  for (guint i = 0; i < N_COMMITS; i++)
    if (gs_oid_equal (oid, &repo->commits[i]))
      {
        *ret_is_commit = TRUE;
        return TRUE;
      }
  if (gs_oid_equal (oid, &repo->blob))
    return TRUE;
  if (!gs_oid_equal (oid, &repo->tag) && !gs_oid_equal (oid, &repo->nested))
    return gs_fail (error, GS_ERROR_NOT_FOUND, "no such object");
  *ret_peeled = repo->commits[0];
  return TRUE;
}

static void
note (gpointer user, GsLogLevel level, const char *event, const char *name)
{
  Repo *repo = user;
  g_string_append_printf (repo->notes, "%s %s\n", event, name);
}

RefStoreOptions
repo_options (Repo *repo)
{
  static const char *const hidden[] = { "refs/gitstead/", NULL };
  return (RefStoreOptions) { .format = GS_FORMAT_SHA1, .peel = peel, .user = repo, .lock_wait_us = 5 * G_USEC_PER_SEC,
                             .bulk_threshold = 20, .pack_threshold = 8, .hidden = hidden, .note = note };
}

RefStore *
repo_store (Repo *repo)
{
  RefStoreOptions options = repo_options (repo);
  g_autoptr (GError) error = NULL;
  RefStore *store = ref_store_open (repo->dir, &options, &error);
  if (store == NULL)
    fail_msg ("open: %s", error->message);
  return store;
}

char *
store_listing (RefStore *store)
{
  g_autoptr (GError) error = NULL;
  RefSnapshot *snapshot = ref_store_snapshot (store, &error);
  GString *text = g_string_new (NULL);
  if (snapshot == NULL)
    fail_msg ("snapshot: %s", error->message);
  for (gsize i = 0; i < ref_snapshot_count (snapshot); i++)
    {
      RefEntry entry;
      g_autofree char *hex = NULL;
      ref_snapshot_get (snapshot, i, &entry);
      assert_int_equal (strlen (entry.name), entry.name_len);
      if (entry.missing)
        continue;
      hex = hex_of (&entry.oid);
      g_string_append_printf (text, "%s %s\n", hex, entry.name);
      if (entry.peeled.len != 0)
        {
          g_autofree char *peeled = hex_of (&entry.peeled);
          g_string_append_printf (text, "%s %s^{}\n", peeled, entry.name);
        }
    }
  ref_snapshot_unref (snapshot);
  return g_strchomp (g_string_free (text, FALSE));
}

static void
assert_digest (Repo *repo, RefStore *store)
{
  RefStoreOptions options = repo_options (repo);
  RefStore *anew = ref_store_open (repo->dir, &options, NULL);
  RefSnapshot *ours = ref_store_snapshot (store, NULL), *theirs = ref_store_snapshot (anew, NULL);
  GsDigest left, right;
  assert_non_null (ours);
  assert_non_null (theirs);
  ref_snapshot_digest (ours, &left);
  ref_snapshot_digest (theirs, &right);
  assert_memory_equal (&left, &right, sizeof left);
  assert_string_equal (ref_snapshot_head (ours), ref_snapshot_head (theirs));
  ref_snapshot_unref (ours);
  ref_snapshot_unref (theirs);
  ref_store_free (anew);
}

void
assert_like_git (Repo *repo, RefStore *store)
{
  g_autofree char *ours = store_listing (store), *head = NULL;
  g_autofree char *theirs = NULL;
  RefSnapshot *snapshot;
  if (*ours == '\0')
    assert_int_equal (git_try (repo, "show-ref", "-d", NULL), 1);
  else
    {
      theirs = git (repo, "show-ref", "-d", NULL);
      assert_string_equal (ours, theirs);
    }
  snapshot = ref_store_snapshot (store, NULL);
  head = git (repo, "symbolic-ref", "HEAD", NULL);
  assert_string_equal (head, ref_snapshot_head (snapshot));
  ref_snapshot_unref (snapshot);
  assert_int_equal (git_try (repo, "fsck", "--no-dangling", NULL), 0);
  assert_digest (repo, store);
}

char *
value_of (RefStore *store, const char *name)
{
  g_autoptr (GError) error = NULL;
  RefSnapshot *snapshot = ref_store_snapshot (store, &error);
  RefEntry entry;
  char *value;
  if (snapshot == NULL)
    fail_msg ("snapshot: %s", error->message);
  value = ref_snapshot_find (snapshot, name, &entry) ? hex_of (&entry.oid) : g_strdup ("");
  ref_snapshot_unref (snapshot);
  return value;
}

void
verdicts_clear (GsRefVerdict *verdicts, gsize n)
{
  for (gsize i = 0; i < n; i++)
    g_clear_pointer (&verdicts[i].reason, g_free);
}

RefTxn *
prepare (RefStore *store, const GsRefUpdate *updates, gsize n, gboolean atomic, GsRefVerdict *verdicts)
{
  g_autoptr (GError) error = NULL;
  GsTxId txid = next_txid ();
  RefTxn *txn = NULL;
  if (!ref_store_prepare (store, NULL, &txid, updates, n, atomic, NULL, verdicts, &txn, &error))
    fail_msg ("prepare: %s", error->message);
  return txn;
}

void
apply (RefStore *store, const GsRefUpdate *updates, gsize n)
{
  g_autofree GsRefVerdict *verdicts = g_new0 (GsRefVerdict, n);
  g_autoptr (GError) error = NULL;
  RefTxn *txn = prepare (store, updates, n, TRUE, verdicts);
  for (gsize i = 0; i < n; i++)
    if (verdicts[i].code != GS_OK)
      fail_msg ("%s: %s", updates[i].name, verdicts[i].reason);
  assert_non_null (txn);
  if (!ref_txn_commit (txn, 1, &error))
    fail_msg ("commit: %s", error->message);
  if (!ref_txn_finish (txn, &error))
    fail_msg ("finish: %s", error->message);
}

void
apply_one (RefStore *store, const char *name, GsOid old_oid, GsOid new_oid)
{
  apply (store, &SET (name, old_oid, new_oid), 1);
}

void
assert_refused (RefStore *store, const char *name, GsOid old_oid, GsOid new_oid, GsErrorCode code)
{
  GsRefVerdict verdict = { 0 };
  RefTxn *txn = prepare (store, &SET (name, old_oid, new_oid), 1, FALSE, &verdict);
  assert_null (txn);
  if (verdict.code != code)
    fail_msg ("%s: verdict %s (%s) instead of %s", name, gs_error_name (verdict.code), verdict.reason,
              gs_error_name (code));
  assert_non_null (verdict.reason);
  g_free (verdict.reason);
}

void
write_file (const Repo *repo, const char *path, const char *content)
{
  g_autofree char *full = g_build_filename (repo->dir, path, NULL);
  g_autofree char *parent = g_path_get_dirname (full);
  g_mkdir_with_parents (parent, 0777);
  assert_true (g_file_set_contents (full, content, -1, NULL));
}

char *
read_file (const Repo *repo, const char *path)
{
  g_autofree char *full = g_build_filename (repo->dir, path, NULL);
  char *content = NULL;
  return g_file_get_contents (full, &content, NULL, NULL) ? content : NULL;
}

gboolean
file_exists (const Repo *repo, const char *path)
{
  g_autofree char *full = g_build_filename (repo->dir, path, NULL);
  return g_file_test (full, G_FILE_TEST_EXISTS);
}

char *
tree_listing (const Repo *repo)
{
  const char *argv[] = { "sh", "-c", "find . -path ./objects -prune -o -print | sort", NULL };
  char *output = NULL;
  assert_int_equal (run (repo, (char **) argv, &output, NULL), 0);
  return output;
}
