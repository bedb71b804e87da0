/* SPDX-License-Identifier: Apache-2.0 */
/* See common.h. */
#include "common.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern const GsPlugin *gs_plugin_query (void);

static FakeConfig *
make_config (Fixture *fixture, const char *key, const char *value)
{
  return fake_config_new (fixture->plugin, "path", fixture->root, "hook_dir", g_getenv ("GITSTEAD_TEST_HOOK_DIR"),
                          "lock_wait", "200ms", key, value, NULL);
}

static void
start (Fixture *fixture, gboolean start_it)
{
  g_autoptr (GError) error = NULL;
  fixture->self = fixture->plugin->create (&fixture->host->host, fake_config_get (fixture->config), &error);
  if (fixture->self == NULL || (start_it && !fixture->plugin->start (fixture->self, &error)))
    fail_msg ("start: %s", error->message);
}

static void
make_work (Fixture *fixture)
{
  g_free (sh (fixture, "git init -q -b main $WORK && cd $WORK && mkdir -p dir/sub && echo one >one && echo two >dir/two"
                       " && echo three >dir/sub/three && git add . && git commit -q -m first && git tag light"
                       " && git tag -a -m annotated v1 && git tag -a -m nested v1-nested v1 && echo more >>one"
                       " && git commit -qam second && git branch topic HEAD~1"));
}

Fixture *
fixture_new (const char *key, const char *value)
{
  Fixture *fixture = g_new0 (Fixture, 1);
  signal (SIGPIPE, SIG_IGN);
  fixture->dir = fake_tempdir_new ();
  fixture->root = g_build_filename (fixture->dir, "root", NULL);
  fixture->work = g_build_filename (fixture->dir, "work", NULL);
  fixture->plugin = gs_plugin_query ();
  fixture->ops = fixture->plugin->ops;
  fixture->host = fake_host_new ("storage test");
  fixture->call = fake_call_new (240 * G_USEC_PER_SEC);
  fixture->config = make_config (fixture, key, value);
  start (fixture, TRUE);
  make_work (fixture);
  return fixture;
}

static void
stop (Fixture *fixture)
{
  if (fixture->self == NULL)
    return;
  fixture->plugin->stop (fixture->self);
  fixture->plugin->destroy (fixture->self);
  fixture->self = NULL;
}

void
fixture_restart (Fixture *fixture, gboolean start_it, const char *key, const char *value)
{
  stop (fixture);
  fake_config_free (fixture->config);
  fixture->config = make_config (fixture, key, value);
  start (fixture, start_it);
}

void
fixture_free (Fixture *fixture)
{
  stop (fixture);
  fake_call_free (fixture->call);
  fake_config_free (fixture->config);
  fake_host_free (fixture->host);
  fake_tempdir_remove (fixture->dir);
  g_free (fixture->root);
  g_free (fixture->work);
  g_free (fixture);
}

GsRepo
fixture_repo (guint64 id)
{
  static char path[64];
  g_snprintf (path, sizeof path, "@r/%" G_GUINT64_FORMAT ".git", id);
  return (GsRepo){ .size = sizeof (GsRepo), .id = id, .replica_path = path };
}

GsRepo
fixture_create (Fixture *fixture, guint64 id)
{
  const GsRepoSpec spec = { .size = sizeof spec, .format = GS_FORMAT_SHA1, .default_branch = "refs/heads/main" };
  g_autoptr (GError) error = NULL;
  GsRepo repo = fixture_repo (id);
  if (!fixture->ops->create (fixture->self, &fixture->call->call, &repo, &spec, &error))
    fail_msg ("create: %s", error->message);
  return repo;
}

char *
fixture_path (Fixture *fixture, const GsRepo *repo, const char *below)
{
  return g_build_filename (fixture->root, repo->replica_path, below, NULL);
}

/* ------------------------------------------------------------------------------------------ shell */

static char **
shell_environment (Fixture *fixture)
{
  static const char *const kept[] = { "PATH", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "GITSTEAD_TEST_HOOK_DIR" };
  char **env = g_new0 (char *, 1);
  for (gsize i = 0; i < G_N_ELEMENTS (kept); i++)
    if (g_getenv (kept[i]) != NULL)
      env = g_environ_setenv (env, kept[i], g_getenv (kept[i]), TRUE);
  env = g_environ_setenv (env, "ROOT", fixture->root, TRUE);
  env = g_environ_setenv (env, "WORK", fixture->work, TRUE);
  env = g_environ_setenv (env, "DIR", fixture->dir, TRUE);
  env = g_environ_setenv (env, "SERVE", g_getenv ("GITSTEAD_TEST_SERVE"), TRUE);
  env = g_environ_setenv (env, "HOME", fixture->dir, TRUE);
  env = g_environ_setenv (env, "LC_ALL", "C", TRUE);
  env = g_environ_setenv (env, "GIT_CONFIG_NOSYSTEM", "1", TRUE);
  env = g_environ_setenv (env, "GIT_AUTHOR_NAME", "A U Thor", TRUE);
  env = g_environ_setenv (env, "GIT_AUTHOR_EMAIL", "author@example.com", TRUE);
  env = g_environ_setenv (env, "GIT_COMMITTER_NAME", "C O Mitter", TRUE);
  env = g_environ_setenv (env, "GIT_COMMITTER_EMAIL", "committer@example.com", TRUE);
  env = g_environ_setenv (env, "GIT_CONFIG_COUNT", "3", TRUE);
  env = g_environ_setenv (env, "GIT_CONFIG_KEY_0", "protocol.ext.allow", TRUE);
  env = g_environ_setenv (env, "GIT_CONFIG_VALUE_0", "always", TRUE);
  env = g_environ_setenv (env, "GIT_CONFIG_KEY_1", "gc.auto", TRUE);
  env = g_environ_setenv (env, "GIT_CONFIG_VALUE_1", "0", TRUE);
  env = g_environ_setenv (env, "GIT_CONFIG_KEY_2", "advice.nestedTag", TRUE);
  env = g_environ_setenv (env, "GIT_CONFIG_VALUE_2", "false", TRUE);
  return env;
}

static char *
run_shell (Fixture *fixture, const char *command, gboolean with_errors, gsize *ret_len, int *ret_status)
{
  g_auto (GStrv) env = shell_environment (fixture);
  g_autofree char *file = g_build_filename (fixture->dir, "output", NULL);
  g_autofree char *full = g_strdup_printf ("( %s ) >%s%s", command, file, with_errors ? " 2>&1" : "");
  const char *argv[] = { "/bin/sh", "-c", full, NULL };
  g_autoptr (GError) error = NULL;
  char *text = NULL;
  if (!g_spawn_sync (NULL, (char **) argv, env, G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL, NULL, ret_status,
                     &error)
      || !g_file_get_contents (file, &text, ret_len, &error))
    fail_msg ("%s: %s", command, error->message);
  return text;
}

static char *
run_format (Fixture *fixture, gboolean with_errors, gsize *ret_len, int *ret_status, const char *format, va_list args)
{
  g_autofree char *command = g_strdup_vprintf (format, args);
  char *text = run_shell (fixture, command, with_errors, ret_len, ret_status);
  if (!with_errors && *ret_status != 0)
    fail_msg ("exit status %d: %s", *ret_status, command);
  return text;
}

char *
sh (Fixture *fixture, const char *format, ...)
{
  va_list args;
  gsize len;
  int status;
  va_start (args, format);
  char *text = run_format (fixture, FALSE, &len, &status, format, args);
  va_end (args);
  return text;
}

char *
sh_any (Fixture *fixture, int *ret_status, const char *format, ...)
{
  va_list args;
  gsize len;
  va_start (args, format);
  char *text = run_format (fixture, TRUE, &len, ret_status, format, args);
  va_end (args);
  return text;
}

GBytes *
sh_bytes (Fixture *fixture, const char *format, ...)
{
  va_list args;
  gsize len;
  int status;
  va_start (args, format);
  char *text = run_format (fixture, FALSE, &len, &status, format, args);
  va_end (args);
  return g_bytes_new_take (text, len);
}

/* ---------------------------------------------------------------------------------------- objects */

GsOid
oid_of (const char *hex)
{
  GsOid oid;
  if (!gs_oid_parse (hex, strlen (hex), &oid))
    fail_msg ("'%s' is no object id", hex);
  return oid;
}

GsOid
work_oid (Fixture *fixture, const char *revision)
{
  g_autofree char *hex = sh (fixture, "git -C $WORK rev-parse --verify '%s'", revision);
  return oid_of (g_strchomp (hex));
}

GBytes *
work_pack (Fixture *fixture, const char *revisions)
{
  return sh_bytes (fixture, "cd $WORK && git rev-list --objects %s | git pack-objects -q --stdout", revisions);
}

/* ----------------------------------------------------------------------------------------- writing */

void
apply_changes (Fixture *fixture, const GsRepo *repo, const GsRefUpdate *updates, gsize n, GBytes *pack)
{
  g_autoptr (GError) error = NULL;
  GsChangeSet change = { .size = sizeof change, .updates = updates, .n_updates = n, .pack = pack };
  GsDecision decision = { .size = sizeof decision };
  const GsVote *vote;
  gpointer txn;
  fixture->host->host.random (&fixture->host->host, change.txid.bytes, sizeof change.txid.bytes);
  if (!fixture->ops->stage (fixture->self, &fixture->call->call, repo, &change, &txn, &vote, &error))
    fail_msg ("stage: %s", error->message);
  for (gsize i = 0; i < n; i++)
    if (vote->verdicts[i].code != GS_OK)
      fail_msg ("%s was refused: %s", updates[i].name, vote->verdicts[i].reason);
  decision.txid = change.txid;
  decision.generation = state_of (fixture, repo).generation + 1;
  if (!fixture->ops->commit (fixture->self, &fixture->call->call, txn, &decision, &error))
    fail_msg ("commit: %s", error->message);
}

static gboolean
copy_oid (const GsRef *ref, gpointer user)
{
  *(GsOid *) user = ref->oid;
  return TRUE;
}

GsOid
ref_value (Fixture *fixture, const GsRepo *repo, const char *name)
{
  g_autoptr (GError) error = NULL;
  GsOid oid = { .len = 0 };
  if (!fixture->ops->find_ref (fixture->self, &fixture->call->call, repo, name, copy_oid, &oid, &error)
      && error->code != GS_ERROR_NOT_FOUND)
    fail_msg ("find_ref: %s", error->message);
  return oid;
}

GsReplicaState
state_of (Fixture *fixture, const GsRepo *repo)
{
  g_autoptr (GError) error = NULL;
  GsReplicaState state;
  if (!fixture->ops->state (fixture->self, &fixture->call->call, repo, &state, &error))
    fail_msg ("state: %s", error->message);
  return state;
}

/* ------------------------------------------------------------------------------------------ checks */

void
assert_nothing_left (Fixture *fixture, const GsRepo *repo)
{
  g_autofree char *left = sh (
      fixture,
      "cd $ROOT/%s && find . -name '*.lock' -o -path './gitstead/quarantine/*' -o -path './gitstead/journal/*'"
      " -o -name '.gitstead-tmp-*' -o -name 'tmp_*' -o -name 'shallow*' -o -name '*.keep'; ls -A $ROOT/gitstead-tmp",
      repo->replica_path);
  g_autofree char *fsck = sh (fixture, "git -C $ROOT/%s fsck --no-dangling --strict 2>/dev/null", repo->replica_path);
  assert_string_equal (left, "");
  assert_string_equal (fsck, "");
}

void
assert_gs_error (GError **error, int code, const char *part)
{
  if (*error == NULL)
    fail_msg ("it did not fail; %s was expected", gs_error_name (code));
  if ((*error)->domain != GS_ERROR || (*error)->code != code || strstr ((*error)->message, part) == NULL)
    fail_msg ("expected %s with '%s', got %s: %s", gs_error_name (code), part, gs_error_name ((*error)->code),
              (*error)->message);
  g_clear_error (error);
}

GBytes *
pkt_request (const char *const *lines)
{
  GString *out = g_string_new (NULL);
  for (gsize i = 0; lines[i] != NULL; i++)
    if (strcmp (lines[i], "0000") == 0 || strcmp (lines[i], "0001") == 0)
      g_string_append (out, lines[i]);
    else
      g_string_append_printf (out, "%04x%s", (guint) strlen (lines[i]) + 4, lines[i]);
  return g_string_free_to_bytes (out);
}

GBytes *
bytes_join (GBytes *first, GBytes *second)
{
  GByteArray *all = g_byte_array_new ();
  g_byte_array_append (all, g_bytes_get_data (first, NULL), (guint) g_bytes_get_size (first));
  g_byte_array_append (all, g_bytes_get_data (second, NULL), (guint) g_bytes_get_size (second));
  return g_byte_array_free_to_bytes (all);
}
