/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_git.c - stock git through transport/http, with stock git behind it. */
#include "service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/wait.h>

static char *folder;

/* Runs a shell script in the folder; the script's own output goes to standard error. */
static void
run (const char *format, ...)
{
  va_list args;
  g_autofree char *script = NULL;
  g_autofree char *whole = NULL;
  const char *argv[] = { "sh", "-c", NULL, NULL };
  g_autoptr (GError) error = NULL;
  g_autofree char *out = NULL;
  g_autofree char *err = NULL;
  int status = 0;
  va_start (args, format);
  script = g_strdup_vprintf (format, args);
  va_end (args);
  whole = g_strdup_printf ("set -e; cd '%s'; export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 "
                           "GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@b; %s",
                           folder, script);
  argv[2] = whole;
  assert_true (g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status, &error));
  if (status != 0)
    fail_msg ("%s\n%s\n%s", script, out, err);
}

static int
set_up (void **state)
{
  folder = fake_tempdir_new ();
  service_set_folder (folder);
  run ("git init -q -b main source; cd source;"
       "for i in 1 2 3 4 5 6 7 8 9 10; do seq $i 200 >file$i; git add .; git commit -q -m c$i; done;"
       "git tag -a -m t v1; git branch side HEAD~3;"
       "git init -q -b main --bare ../a.git; git -C ../a.git config receive.advertisePushOptions true;"
       "git -C ../a.git config receive.denyDeleteCurrent ignore; git -C ../a.git config uploadpack.allowFilter true;"
       "printf '#!/bin/sh\\nenv | grep PUSH_OPTION >options || true\\n' >../a.git/hooks/post-receive;"
       "chmod +x ../a.git/hooks/post-receive");
  *state = served_new ("http://127.0.0.1:0", NULL);
  return 0;
}

static int
tear_down (void **state)
{
  served_free (*state);
  fake_tempdir_remove (folder);
  return 0;
}

static void
push_then_clone (void **state, int version)
{
  Served *served = *state;
  run ("cd source; git -c protocol.version=%d push -q %s/git/a.git main side v1", version, served->url);
  run ("git -c protocol.version=%d clone -q --mirror %s/git/a.git copy.git; git -C copy.git fsck --strict;"
       "git -C copy.git for-each-ref >got; git -C source for-each-ref | grep -v remotes >want; cmp got want",
       version, served->url);
}

static void
test_v0 (void **state)
{
  push_then_clone (state, 0);
  assert_string_equal (service_seen ()->protocol, "");
}

static void
test_v1 (void **state)
{
  push_then_clone (state, 1);
  assert_string_equal (service_seen ()->protocol, "version=1");
}

static void
test_v2 (void **state)
{
  push_then_clone (state, 2);
  assert_string_equal (service_seen ()->protocol, "version=2");
}

static void
test_chunked_push (void **state)
{
  Served *served = *state;
  /* More than http.postBuffer: git probes, then sends chunks. */
  run ("cd source; head -c 3000000 /dev/urandom >big; git add big; git commit -q -m big;"
       "git -c http.postBuffer=65536 push -q %s/git/a.git main; git -C ../a.git fsck --strict;"
       "test $(git rev-parse main) = $(git -C ../a.git rev-parse main)",
       served->url);
  assert_true (service_seen ()->bytes_in > 3000000);
  assert_false (service_seen ()->complete);
}

static void
test_gzip_fetch (void **state)
{
  Served *served = *state;
  /* Git compresses requests above 1 KiB: wants of forty different branches are. */
  run ("cd source; for i in $(seq 40); do git commit -q --allow-empty -m l$i; git branch b$i; done;"
       "git push -q --all %s/git/a.git; cd ..;"
       "for v in 0 2; do GIT_TRACE_CURL=$PWD/trace git -c protocol.version=$v clone -q --mirror %s/git/a.git copy$v;"
       "grep -qi 'Content-Encoding: gzip' trace; rm trace; git -C copy$v fsck --strict;"
       "test $(git -C copy$v for-each-ref | wc -l) = 42; done",
       served->url, served->url);
}

static void
test_push_options (void **state)
{
  Served *served = *state;
  run ("cd source; git push -q -o one=1 -o two %s/git/a.git main; grep -q 'GIT_PUSH_OPTION_0=one=1' ../a.git/options;"
       "grep -q 'GIT_PUSH_OPTION_1=two' ../a.git/options",
       served->url);
}

static void
test_shallow_and_partial (void **state)
{
  Served *served = *state;
  run ("cd source; git push -q %s/git/a.git main; cd ..; git clone -q --depth 2 %s/git/a.git shallow;"
       "test $(git -C shallow rev-list --count HEAD) = 2; git -C shallow fetch -q --deepen 3;"
       "test $(git -C shallow rev-list --count HEAD) = 5; git clone -q --filter=blob:none --no-checkout %s/git/a.git "
       "partial;"
       "git -C partial rev-list --objects --missing=print HEAD | grep -q '^?'; git -C partial checkout -q main;"
       "test -s partial/file1",
       served->url, served->url, served->url);
}

static void
test_refused_push (void **state)
{
  Served *served = *state;
  run ("cd source; git push -q %s/git/a.git main; git checkout -q --orphan other; git commit -q -m other;"
       "if git push %s/git/a.git other:main 2>../err; then exit 1; fi; grep -q rejected ../err;"
       "git push -q --force-with-lease=main:main %s/git/a.git other:main;"
       "git push -q %s/git/a.git :main; test -z \"$(git ls-remote %s/git/a.git)\"",
       served->url, served->url, served->url, served->url, served->url);
}

/* The failure that the host names reaches the person at the terminal. */
static void
test_errors_shown (void **state)
{
  Served *served = *state;
  run ("if git ls-remote %s/fail/5 2>err; then exit 1; fi; grep -q 'remote: it was told to fail' err; grep -q 'not "
       "found' err;"
       "if git ls-remote %s/fail/14 2>err; then exit 1; fi; grep -q 'error: 503' err;"
       "if git ls-remote %s/fail/16 2>err; then exit 1; fi; grep -q -e 'Authentication' -e 'could not read Username' "
       "err",
       served->url, served->url, served->url);
}

static void
test_credentials (void **state)
{
  Served *served = *state;
  run ("cd source; git push -q http://robot:s3cret%%40x@127.0.0.1:%u/git/a.git main", served->port);
  /* git shows them only when asked to, and this server does not ask. */
  run ("git ls-remote -q http://127.0.0.1:%u/git/a.git >/dev/null;"
       "git -c http.extraHeader='Authorization: Basic cm9ib3Q6czNjcmV0' ls-remote -q http://127.0.0.1:%u/git/a.git "
       ">/dev/null",
       served->port, served->port);
  assert_int_equal (service_seen ()->credentials, GS_CREDENTIALS_BASIC);
  assert_string_equal (service_seen ()->user, "robot");
  assert_string_equal (service_seen ()->secret, "s3cret");
}

/* Byte for byte what git http-backend says, headers that matter included. */
static void
test_same_as_http_backend (void **state)
{
  Served *served = *state;
  static const char *const services[] = { "git-upload-pack", "git-receive-pack" };
  static const char *const protocols[] = { "", "version=1", "version=2" };
  run ("cd source; git push -q %s/git/a.git main side v1", served->url);
  for (guint i = 0; i < G_N_ELEMENTS (services); i++)
    for (guint j = 0; j < G_N_ELEMENTS (protocols); j++)
      run ("GIT_PROJECT_ROOT=$PWD GIT_HTTP_EXPORT_ALL=1 PATH_INFO=/a.git/info/refs REQUEST_METHOD=GET REMOTE_USER=x "
           "QUERY_STRING=service=%s GIT_PROTOCOL='%s' git http-backend >cgi;"
           "sed '1,/^.$/d' cgi >want; curl -s -D head -H 'Git-Protocol: %s' '%s/git/a.git/info/refs?service=%s' >got;"
           "cmp want got; sed '/^.$/q' cgi | grep -v '^.$' | sort >wanthead;"
           "grep -i -e '^Expires' -e '^Pragma' -e '^Cache-Control' -e '^Content-Type' head | sort >gothead;"
           "cmp wanthead gothead",
           services[i], protocols[j], protocols[j], served->url, services[i]);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_v0, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_v1, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_v2, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_chunked_push, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_gzip_fetch, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_push_options, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_shallow_and_partial, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_refused_push, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_errors_shown, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_credentials, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_same_as_http_backend, set_up, tear_down),
  };
  return cmocka_run_group_tests_name ("http-git", tests, NULL, NULL);
}
