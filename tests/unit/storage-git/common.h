/* SPDX-License-Identifier: Apache-2.0 */
/* What the suites of storage/git share: an instance in a fresh folder, objects made by stock git, and running git. */
#ifndef TEST_STORAGE_GIT_COMMON_H
#define TEST_STORAGE_GIT_COMMON_H

#include "fakehost.h"

#include <gitstead/storage.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

typedef struct
{
  char *dir;  /* fresh; everything is below it */
  char *root; /* dir/root */
  char *work; /* dir/work: a repository of stock git with a little history */
  FakeHost *host;
  FakeConfig *config;
  const GsPlugin *plugin;
  const GsStorageOps *ops;
  gpointer self;
  FakeCall *call;
} Fixture;

/** Started; with one more option unless @key is NULL. */
Fixture *fixture_new (const char *key, const char *value);
void fixture_free (Fixture *fixture);
/** Stops and destroys the instance, then makes a new one on the same folder (not started when @start is FALSE). */
void fixture_restart (Fixture *fixture, gboolean start, const char *key, const char *value);

/** The repository with this id, at "@r/<id>.git". Borrowed until the next call. */
GsRepo fixture_repo (guint64 id);
/** Creates it, with default branch refs/heads/main. */
GsRepo fixture_create (Fixture *fixture, guint64 id);
char *fixture_path (Fixture *fixture, const GsRepo *repo, const char *below);

/** Runs `sh -c` with $ROOT, $WORK, $DIR, $SERVE and a clean git environment; fails the test unless it exits with 0.
 * *full*. */
char *sh (Fixture *fixture, const char *format, ...) G_GNUC_PRINTF (2, 3);
/** The same, but any exit code is fine; standard error is in the text too. */
char *sh_any (Fixture *fixture, int *ret_status, const char *format, ...) G_GNUC_PRINTF (3, 4);
/** sh, as bytes. */
GBytes *sh_bytes (Fixture *fixture, const char *format, ...) G_GNUC_PRINTF (2, 3);

GsOid oid_of (const char *hex);
/** The id that a revision has in the work repository. */
GsOid work_oid (Fixture *fixture, const char *revision);
/** All objects that a revision of the work repository reaches. */
GBytes *work_pack (Fixture *fixture, const char *revisions);

/** Stages and commits @updates with @pack at the next generation; fails the test unless all are accepted. */
void apply_changes (Fixture *fixture, const GsRepo *repo, const GsRefUpdate *updates, gsize n, GBytes *pack);
/** The value of a ref; len 0 when absent. */
GsOid ref_value (Fixture *fixture, const GsRepo *repo, const char *name);
GsReplicaState state_of (Fixture *fixture, const GsRepo *repo);

/** No quarantine, lock, journal record, temporary file; git fsck finds nothing wrong. */
void assert_nothing_left (Fixture *fixture, const GsRepo *repo);
/** Fails the test, with the error's text, unless @error has @code and its message has @part. Clears it. */
void assert_gs_error (GError **error, int code, const char *part);

/** A pkt-line request to a stateless service: lines, NULL at the end; "0000" and "0001" are flush and delimiter. */
GBytes *pkt_request (const char *const *lines);
GBytes *bytes_join (GBytes *first, GBytes *second);

#endif
