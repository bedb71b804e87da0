/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind STORAGE: what a process that died had staged, periodic care, and storages of other processes.
 */
#include "storage.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the process that dies leaves for us to know. */
typedef struct
{
  gboolean staged[2];
  GsTxId txids[2];
  guint8 votes[2][32];
} Left;

static const char *const names[2] = { "refs/heads/kept", "refs/heads/lost" };

typedef struct
{
  Replica replica;
  GsRefUpdate updates[2];
  GBytes *pack;
} Work;

/* Stages two writes and dies, with an instance of its own. */
static void
stage_and_die (Conformance *c, const Work *work, Left *left)
{
  if (conformance_restart (c, NULL))
    for (int i = 0; i < 2; i++)
      {
        Staged staged = { 0 };
        left->staged[i] = stage_write (c, &work->replica, &work->updates[i], 1, TRUE, work->pack, &staged, NULL)
                          && staged.vote->n_updates == 1;
        if (!left->staged[i])
          break;
        left->txids[i] = staged.txid;
        memcpy (left->votes[i], staged.vote->digest, 32);
      }
  _exit (0);
}

/* FALSE after failing the case. */
static gboolean
lose_a_process (Conformance *c, const Work *work, Left *left)
{
  int status = 0;
  pid_t pid;
  conformance_end (c);
  pid = fork ();
  if (pid == 0)
    stage_and_die (c, work, left);
  while (pid > 0 && waitpid (pid, &status, 0) < 0 && errno == EINTR)
    ;
  if (pid < 0 || !WIFEXITED (status) || !left->staged[0] || !left->staged[1])
    {
      conformance_fail (c, "two writes staged by a process that dies", "%s",
                        pid < 0 ? g_strerror (errno) : "it could not");
      conformance_restart (c, NULL);
      return FALSE;
    }
  return TRUE;
}

typedef struct
{
  const Left *left;
  const Work *work;
  guint n[2], n_wrong;
} SeenPending;

static gboolean
see_pending (const GsPending *pending, gpointer user)
{
  SeenPending *seen = user;
  if (pending->repo.id != seen->work->replica.repo.id)
    return TRUE;
  for (int i = 0; i < 2; i++)
    if (memcmp (&pending->txid, &seen->left->txids[i], sizeof pending->txid) == 0)
      {
        seen->n[i]++;
        seen->n_wrong += memcmp (pending->vote, seen->left->votes[i], 32) != 0
                         || strcmp (pending->repo.replica_path, seen->work->replica.path) != 0;
        return TRUE;
      }
  seen->n_wrong++;
  return TRUE;
}

static void
check_left (Conformance *c, const Work *work, const Left *left)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  SeenPending seen = { .left = left, .work = work };
  GsDecision decision = { sizeof decision, left->txids[0], 2, { { 0 } } };
  GsReplicaState state = { .size = sizeof state };
  GsDigest digest = { { 0 } };
  g_autofree char *before = refs_now (c, &work->replica), *after = NULL;
  CHECK (c, strstr (before, names[0]) == NULL && strstr (before, names[1]) == NULL,
         "what was only staged not to be seen", "%s", before);
  CHECK_OK (c, ops->pending (c->self, &call, see_pending, &seen, &error));
  CHECK (c, seen.n[0] == 1 && seen.n[1] == 1, "each write that an earlier process had staged, once", "%u and %u times",
         seen.n[0], seen.n[1]);
  CHECK (c, seen.n_wrong == 0, "its repository, path, transaction and vote as they were", "others");
  for (int i = 0; i < 2; i++) /* told again, it is the same */
    {
      CHECK_OK (c, ops->resolve (c->self, &call, &work->replica.repo, &left->txids[0], &decision, &error));
      CHECK_OK (c, ops->resolve (c->self, &call, &work->replica.repo, &left->txids[1], NULL, &error));
    }
  after = refs_now (c, &work->replica);
  CHECK (c, strstr (after, names[0]) != NULL && strstr (after, names[1]) == NULL,
         "the decided write applied, the other dropped", "%s", after);
  CHECK_OK (c, replica_state (c, &work->replica, &state, &error));
  digest_ref (&digest, "HEAD", NULL, "refs/heads/main", TRUE);
  digest_ref (&digest, "refs/heads/main", &work->updates[0].new_oid, NULL, TRUE);
  digest_ref (&digest, names[0], &work->updates[0].new_oid, NULL, TRUE);
  CHECK (c, state.generation == 2 && memcmp (&state.refs_digest, &digest, sizeof digest) == 0,
         "generation 2 and the digest of the refs", "generation %" G_GUINT64_FORMAT, state.generation);
  CHECK (c, n_pending (c, &work->replica) == 0, "nothing pending any more", "%u", n_pending (c, &work->replica));
  write_refs (c, &work->replica, &work->updates[1], 1, work->pack, 3); /* no lock of the dead is left */
}

/* Does it only hand on to another storage, which lives on? */
static gboolean
hands_on (Conformance *c)
{
  for (const GsNeed *need = c->target->plugin->needs; need != NULL && need->role != NULL; need++)
    if (need->kind == GS_KIND_STORAGE)
      return TRUE;
  return FALSE;
}

void
pending_after_death (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsOid oids[2];
  g_autoptr (GBytes) pack = pack_commits (c, 2, oids);
  GsRefUpdate first = update_create ("refs/heads/main", &oids[0]);
  Work work = { .pack = pack };
  gboolean there = FALSE;
  Left *left;
#ifdef __SANITIZE_THREAD__
  conformance_skip (c, "ThreadSanitizer does not follow a process that is forked with threads");
  return;
#endif
  if (ops->probe != NULL || hands_on (c))
    {
      conformance_skip (c, "another process or storage keeps it, and cares for what is left");
      return;
    }
  if (!replica_make (c, &work.replica) || !write_refs (c, &work.replica, &first, 1, pack, 1))
    return;
  for (int i = 0; i < 2; i++)
    work.updates[i] = update_create (names[i], &oids[i]);
  CHECK_OK (c, conformance_restart (c, &error));
  {
    GsCall call = conformance_call (c, 0);
    CHECK_OK (c, ops->exists (c->self, &call, &work.replica.repo, &there, &error));
  }
  if (!there)
    {
      conformance_skip (c, "the plugin keeps nothing over a restart");
      return;
    }
  left = mmap (NULL, sizeof *left, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK (c, left != MAP_FAILED, "memory for the test", "none");
  if (lose_a_process (c, &work, left))
    {
      g_autoptr (GError) why = NULL;
      if (conformance_restart (c, &why))
        check_left (c, &work, left);
      else
        conformance_fail (c, "a start after a process died", "%s", why->message);
    }
  munmap (left, sizeof *left);
}

void
resolve_unknown (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  Replica replica;
  GsOid oid;
  GsTxId txid = conformance_txid (c);
  GsDecision decision = { sizeof decision, txid, 2, { { 0 } } };
  g_autofree char *before = NULL, *after = NULL;
  if (!replica_make (c, &replica) || !write_one (c, &replica, "refs/heads/main", 1, &oid))
    return;
  before = refs_now (c, &replica);
  for (int i = 0; i < 2; i++)
    {
      CHECK_OK (c, ops->resolve (c->self, &call, &replica.repo, &txid, NULL, &error));
      CHECK_OK (c, ops->resolve (c->self, &call, &replica.repo, &decision.txid, i == 0 ? NULL : &decision, &error));
    }
  after = refs_now (c, &replica);
  CHECK (c, strcmp (before, after) == 0, "the refs as before", "%s", after);
}

/* ---------------------------------------------------------------------------------------------- care */

#define SOON_US (5 * G_USEC_PER_SEC)

void
maintained (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0), cancelled = conformance_call (c, 0);
  GsReplicaState before = { .size = sizeof before }, after = { .size = sizeof after };
  g_autofree char *refs_before = NULL, *refs_after = NULL;
  g_autoptr (GError) why = NULL;
  g_autoptr (GBytes) pack = NULL;
  GsRefUpdate updates[2];
  Staged staged = { 0 };
  Replica replica;
  GsOid oid, next;
  gint64 began_us;
  pack = pack_commits (c, 1, &next);
  if (!replica_make (c, &replica) || !write_one (c, &replica, "refs/heads/main", 1, &oid)
      || !write_one (c, &replica, "refs/heads/deep/er", 2, &oid))
    return;
  updates[0] = update_create ("refs/heads/more", &next);
  updates[1] = update_create ("refs/tags/v1", &next);
  refs_before = refs_now (c, &replica);
  CHECK_OK (c, replica_state (c, &replica, &before, &error));
  CHECK_OK (c, stage_write (c, &replica, updates, 2, TRUE, pack, &staged, &error));
  if (!ops->maintain (c->self, &call, &why))
    {
      drop_write (c, &staged);
      conformance_fail (c, "care for the replicas", "%s", why->message);
      return;
    }
  refs_after = refs_now (c, &replica);
  CHECK_OK (c, commit_write (c, &staged, 3, &error)); /* what is staged meanwhile is left alone */
  CHECK (c, strcmp (refs_before, refs_after) == 0, "the refs as before", "%s", refs_after);
  CHECK_OK (c, ops->maintain (c->self, &call, &error));
  CHECK_OK (c, replica_state (c, &replica, &after, &error));
  CHECK (c, after.generation == 3, "generation 3, that of the last commit", "%" G_GUINT64_FORMAT, after.generation);
  cancelled.cancelled = 1;
  began_us = g_get_monotonic_time ();
  if (!ops->maintain (c->self, &cancelled, &why))
    CHECK (c, gs_error_code (why) == GS_ERROR_CANCELLED, "CANCELLED", "%s", why->message);
  CHECK (c, g_get_monotonic_time () - began_us < SOON_US, "a cancelled round to end within seconds", "it took longer");
}

typedef struct
{
  Replica replicas[3];
  GsOid oids[3];
} Kept;

/* Thread 0 cares; the others write, each to a repository of its own. */
static void
care_body (Conformance *c, guint index, gpointer user)
{
  const GsStorageOps *ops = c->ops;
  Kept *kept = user;
  for (guint i = 0; i < 5 && !conformance_has_failed (c); i++)
    {
      g_autofree char *name = g_strdup_printf ("refs/heads/of-%u", i);
      GsCall call = conformance_call (c, 0);
      if (index == 0)
        CHECK_OK (c, ops->maintain (c->self, &call, &error));
      else if (!write_one (c, &kept->replicas[index], name, i + 1, &kept->oids[index]))
        return;
    }
}

void
maintained_under_load (Conformance *c)
{
  Kept kept;
  for (guint i = 1; i < 3; i++)
    if (!replica_make (c, &kept.replicas[i]))
      return;
  conformance_parallel (c, 3, care_body, &kept);
  for (guint i = 1; i < 3 && !conformance_has_failed (c); i++)
    {
      g_autofree char *refs = refs_now (c, &kept.replicas[i]);
      for (guint n = 0; n < 5; n++)
        {
          g_autofree char *name = g_strdup_printf ("refs/heads/of-%u=", n);
          CHECK (c, c->skipped != NULL || strstr (refs, name) != NULL, "every write that was made meanwhile", "%s",
                 refs);
        }
    }
}

/* ------------------------------------------------------------------------------------ another process */

void
probed (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  g_autoptr (GError) error = NULL;
  gint64 began_us = g_get_monotonic_time ();
  Replica replica;
  gboolean ok;
  if (ops->probe == NULL)
    {
      conformance_skip (c, "it lives in this process");
      return;
    }
  if (!replica_make (c, &replica))
    return;
  ok = ops->probe (c->self, &error);
  if (!ok && lacks (c, TRUE, error))
    return;
  CHECK (c, ok, "a storage that works to be there", "%s", error != NULL ? error->message : "no error");
  CHECK (c, g_get_monotonic_time () - began_us < SOON_US, "an answer at once", "it blocked");
  if (!conformance_reach (c, 0))
    return;
  for (gint64 until_us = g_get_monotonic_time () + 10 * G_USEC_PER_SEC; ok && g_get_monotonic_time () < until_us;)
    {
      g_clear_error (&error);
      ok = ops->probe (c->self, &error);
    }
  conformance_reach (c, -1);
  CHECK (c, !ok, "to be told that it is not there any more", "it is said to be there");
  CHECK (c, gs_error_code (error) == GS_ERROR_UNAVAILABLE && error->message[0] != '\0', "UNAVAILABLE, and why",
         "%s: %s", gs_error_name (gs_error_code (error)), error->message);
  for (gint64 until_us = g_get_monotonic_time () + 10 * G_USEC_PER_SEC; !ok && g_get_monotonic_time () < until_us;)
    ok = ops->probe (c->self, NULL);
  CHECK (c, ok, "to be told that it is there again", "it is not");
}

void
program_told (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  g_autofree char *program = NULL;
  g_autoptr (GError) error = NULL;
  if (ops->program == NULL)
    {
      conformance_skip (c, "the storage lives in this process");
      return;
    }
  CHECK (c, ops->probe != NULL, "a storage of another process", "none that can be away");
  if (ops->program (c->self, &program, &error))
    CHECK (c, program != NULL && *program != '\0' && g_utf8_validate (program, -1, NULL), "a program's name", "%s",
           program != NULL ? program : "nothing");
  else
    CHECK (c, gs_error_code (error) == GS_ERROR_UNAVAILABLE, "UNAVAILABLE when nothing was heard", "%s", error->message);
}

/* FALSE after failing or skipping the case. */
static gboolean
ask_disk (Conformance *c, GsDisk *ret_disk)
{
  const GsStorageOps *ops = c->ops;
  g_autoptr (GError) error = NULL;
  *ret_disk = (GsDisk){ .size = sizeof *ret_disk };
  if (ops->disk != NULL && ops->disk (c->self, ret_disk, &error))
    return TRUE;
  if (!lacks (c, ops->disk != NULL, error))
    conformance_fail (c, "which medium it is", "%s", error->message);
  return FALSE;
}

void
medium (Conformance *c)
{
  static const GsTxId none = { { 0 } };
  GsDisk disk, again, later;
  if (!ask_disk (c, &disk) || !ask_disk (c, &again))
    return;
  CHECK (c, memcmp (&disk.id, &none, sizeof none) != 0, "an id of the medium", "all zero");
  CHECK (c, memcmp (&disk.id, &again.id, sizeof disk.id) == 0, "the same id when it is asked again", "another");
  CHECK (c, disk.free_bytes <= disk.total_bytes, "no more free than there is",
         "%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " bytes", disk.free_bytes, disk.total_bytes);
  CHECK_OK (c, conformance_restart (c, &error));
  if (!ask_disk (c, &later))
    return;
  CHECK (c, !conformance_keeps (c) || memcmp (&disk.id, &later.id, sizeof disk.id) == 0, "the same id after a restart",
         "another");
}
