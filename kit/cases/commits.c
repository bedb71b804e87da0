/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind STORAGE: committing and aborting, and many writers at once. */
#include "storage.h"

/* ------------------------------------------------------------------------------------ commit and abort */

static void
check_state (Conformance *c, const Replica *replica, guint64 generation, const GsDigest *digest)
{
  GsReplicaState state = { .size = sizeof state };
  CHECK_OK (c, replica_state (c, replica, &state, &error));
  CHECK (c, state.generation == generation, "the decided generation",
         "%" G_GUINT64_FORMAT " instead of %" G_GUINT64_FORMAT, state.generation, generation);
  CHECK (c, memcmp (&state.refs_digest, digest, sizeof *digest) == 0, "the digest of the refs as they are",
         "another, at generation %" G_GUINT64_FORMAT, generation);
}

void
commit_state (Conformance *c)
{
  Replica replica;
  GsOid oids[2];
  g_autoptr (GBytes) pack = pack_commits (c, 2, oids);
  GsRefUpdate updates[2];
  GsDigest digest = { { 0 } }, sum;
  Staged staged = { 0 };
  if (!replica_make (c, &replica))
    return;
  digest_ref (&digest, "HEAD", NULL, "refs/heads/main", TRUE);
  updates[0] = update_create ("refs/heads/main", &oids[0]);
  updates[1] = update_create ("refs/tags/v1", &oids[0]);
  sum = digest;
  CHECK_OK (c, stage_write (c, &replica, updates, 2, TRUE, pack, &staged, &error));
  gs_digest_add (&sum, &staged.vote->refs_plus);
  gs_digest_sub (&sum, &staged.vote->refs_minus);
  CHECK_OK (c, commit_write (c, &staged, 1, &error));
  digest_ref (&digest, "refs/heads/main", &oids[0], NULL, TRUE);
  digest_ref (&digest, "refs/tags/v1", &oids[0], NULL, TRUE);
  CHECK (c, memcmp (&sum, &digest, sizeof sum) == 0, "before + refs_plus - refs_minus as the digest after", "another");
  check_state (c, &replica, 1, &digest);
  updates[0] = update_move ("refs/heads/main", &oids[0], &oids[1]);
  updates[1] = update_delete ("refs/tags/v1", &oids[0]);
  if (!write_refs (c, &replica, updates, 2, NULL, 2))
    return;
  digest_ref (&digest, "refs/heads/main", &oids[0], NULL, FALSE);
  digest_ref (&digest, "refs/heads/main", &oids[1], NULL, TRUE);
  digest_ref (&digest, "refs/tags/v1", &oids[0], NULL, FALSE);
  check_state (c, &replica, 2, &digest);
  CHECK (c, n_pending (c, &replica) == 0, "nothing pending", "%u", n_pending (c, &replica));
}

void
commit_out_of_order (Conformance *c)
{
  Replica replica;
  GsOid oids[3];
  g_autoptr (GBytes) pack = pack_commits (c, 3, oids);
  static const char *const names[] = { "refs/heads/one", "refs/heads/two", "refs/heads/three" };
  GsReplicaState state = { .size = sizeof state };
  Staged staged[3] = { { 0 } };
  GsDigest digest = { { 0 } };
  if (!replica_make (c, &replica))
    return;
  digest_ref (&digest, "HEAD", NULL, "refs/heads/main", TRUE);
  for (int i = 0; i < 3; i++)
    {
      GsRefUpdate update = update_create (names[i], &oids[i]);
      digest_ref (&digest, names[i], &oids[i], NULL, TRUE);
      CHECK_OK (c, stage_write (c, &replica, &update, 1, FALSE, pack, &staged[i], &error));
    }
  CHECK_OK (c, commit_write (c, &staged[1], 2, &error));
  CHECK_OK (c, replica_state (c, &replica, &state, &error));
  CHECK (c, state.generation == 0, "still generation 0: the first decision is not applied", "%" G_GUINT64_FORMAT,
         state.generation);
  CHECK_OK (c, commit_write (c, &staged[2], 3, &error));
  CHECK_OK (c, commit_write (c, &staged[0], 1, &error));
  check_state (c, &replica, 3, &digest);
}

typedef struct
{
  Replica replica;
  GsOid oids[2];
  gint done; /* atomic */
  gint n_reads;
} Pair;

static gboolean
see_pair (const GsRef *ref, gpointer user)
{
  GsOid *oids = user;
  oids[strcmp (ref->name, "refs/heads/x/right") == 0] = ref->oid;
  return TRUE;
}

/* Thread 0 moves two refs together, back and forth; the others look whether they ever differ. */
static void
pair_body (Conformance *c, guint index, gpointer user)
{
  const GsStorageOps *ops = c->ops;
  Pair *pair = user;
  GsRefQuery query = { .size = sizeof query };
  if (index == 0)
    {
      for (guint64 i = 0; i < 30 && !conformance_has_failed (c); i++)
        {
          const GsOid *from = &pair->oids[i % 2], *to = &pair->oids[1 - i % 2];
          GsRefUpdate updates[2]
              = { update_move ("refs/heads/left", from, to), update_move ("refs/heads/x/right", from, to) };
          write_refs (c, &pair->replica, updates, 2, NULL, i + 2);
        }
      g_atomic_int_set (&pair->done, 1);
      return;
    }
  do
    {
      GsCall call = conformance_call (c, 0);
      GsOid seen[2] = { { 0 } };
      CHECK_OK (c, ops->list_refs (c->self, &call, &pair->replica.repo, &query, see_pair, seen, &error));
      CHECK (c, seen[0].len == 20 && gs_oid_equal (&seen[0], &seen[1]), "two refs that move together, together",
             "they differed");
      g_atomic_int_inc (&pair->n_reads);
    }
  while (!g_atomic_int_get (&pair->done) && !conformance_has_failed (c));
}

void
commit_all_or_nothing (Conformance *c)
{
  Pair pair = { 0 };
  g_autoptr (GBytes) pack = pack_commits (c, 2, pair.oids);
  GsRefUpdate updates[2]
      = { update_create ("refs/heads/left", &pair.oids[0]), update_create ("refs/heads/x/right", &pair.oids[0]) };
  if (!replica_make (c, &pair.replica) || !write_refs (c, &pair.replica, updates, 2, pack, 1))
    return;
  conformance_parallel (c, 3, pair_body, &pair);
  CHECK (c, c->skipped != NULL || pair.n_reads > 0, "some reads", "none");
}

void
commit_head (Conformance *c)
{
  Replica replica;
  GsOid oid;
  GsRefUpdate updates[2];
  g_autofree char *refs = NULL;
  GsDigest digest = { { 0 } };
  if (!replica_make (c, &replica) || !write_one (c, &replica, "refs/heads/main", 1, &oid))
    return;
  updates[0] = (GsRefUpdate){ .name = "HEAD", .new_symref = "refs/heads/trunk" };
  updates[1] = update_create ("refs/heads/trunk", &oid);
  if (!write_refs (c, &replica, updates, 2, NULL, 2))
    return;
  refs = refs_now (c, &replica);
  CHECK (c, g_str_has_prefix (refs, "HEAD->refs/heads/trunk "), "HEAD moved to trunk", "%s", refs);
  digest_ref (&digest, "HEAD", NULL, "refs/heads/trunk", TRUE);
  digest_ref (&digest, "refs/heads/main", &oid, NULL, TRUE);
  digest_ref (&digest, "refs/heads/trunk", &oid, NULL, TRUE);
  check_state (c, &replica, 2, &digest);
}

void
abort_leaves_nothing (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  Replica replica;
  GsOid oid, next;
  g_autoptr (GBytes) pack = pack_commits (c, 1, &next);
  GsRefUpdate updates[3];
  GsRepoSize before = { .size = sizeof before }, after = { .size = sizeof after };
  g_autofree char *refs_before = NULL, *refs_after = NULL;
  g_autoptr (GError) why = g_error_new_literal (GS_ERROR, GS_ERROR_ABORTED, "the test says so");
  Staged staged = { 0 };
  if (!replica_make (c, &replica) || !write_one (c, &replica, "refs/heads/main", 1, &oid))
    return;
  refs_before = refs_now (c, &replica);
  CHECK_OK (c, ops->measure (c->self, &call, &replica.repo, &before, &error));
  updates[0] = update_move ("refs/heads/main", &oid, &next);
  updates[1] = update_create ("refs/heads/deep/er/new", &next);
  updates[2] = (GsRefUpdate){ .name = "HEAD", .new_symref = "refs/heads/other" };
  CHECK_OK (c, stage_write (c, &replica, updates, 3, TRUE, pack, &staged, &error));
  ops->abort (c->self, &call, g_steal_pointer (&staged.txn), why);
  refs_after = refs_now (c, &replica);
  CHECK (c, strcmp (refs_before, refs_after) == 0, "the refs as before", "%s", refs_after);
  CHECK_OK (c, ops->measure (c->self, &call, &replica.repo, &after, &error));
  CHECK (c, before.objects_bytes == after.objects_bytes && before.n_packs == after.n_packs, "no object left behind",
         "%" G_GUINT64_FORMAT " bytes of objects, before %" G_GUINT64_FORMAT, after.objects_bytes,
         before.objects_bytes);
  CHECK (c, n_pending (c, &replica) == 0, "nothing pending", "%u", n_pending (c, &replica));
  write_refs (c, &replica, updates, 3, pack, 2); /* no lock is left behind */
}

/* ---------------------------------------------------------------------------------------- many writers */

typedef struct
{
  Replica replica;
  GsOid oids[4];
  gint generation; /* atomic: what the decisions have reached */
  gint n_won;
} Contest;

/* Everybody tries to move one ref from where it is; decisions are counted as the metadata store would. */
static void
contest_body (Conformance *c, guint index, gpointer user)
{
  const GsStorageOps *ops = c->ops;
  Contest *contest = user;
  for (int i = 0; i < 15 && !conformance_has_failed (c); i++)
    {
      GsCall call = conformance_call (c, 0);
      GsRefQuery query = { .size = sizeof query };
      GsOid seen[2] = { { 0 } };
      GsRefUpdate update;
      Staged staged = { 0 };
      g_autoptr (GError) why = NULL;
      CHECK_OK (c, ops->list_refs (c->self, &call, &contest->replica.repo, &query, see_pair, seen, &error));
      update = update_move ("refs/heads/main", &seen[0], &contest->oids[(index + (guint) i) % 4]);
      if (!stage_write (c, &contest->replica, &update, 1, FALSE, NULL, &staged, &why))
        {
          CHECK (c, gs_error_code (why) == GS_ERROR_ABORTED || gs_error_code (why) == GS_ERROR_FAILED_PRECONDITION,
                 "ABORTED or FAILED_PRECONDITION for the loser", "%s", why->message);
          continue;
        }
      if (staged.vote->n_updates == 0)
        {
          int code = staged.vote->n_verdicts == 1 ? (int) staged.vote->verdicts[0].code : -1;
          drop_write (c, &staged);
          CHECK (c, code == GS_ERROR_ABORTED || code == GS_ERROR_FAILED_PRECONDITION,
                 "ABORTED or FAILED_PRECONDITION for the loser", "%s", gs_error_name (code));
          continue;
        }
      CHECK_OK (c, commit_write (c, &staged, (guint64) g_atomic_int_add (&contest->generation, 1) + 1, &error));
      g_atomic_int_inc (&contest->n_won);
    }
}

void
stage_one_ref_at_once (Conformance *c)
{
  Contest contest = { .generation = 1 };
  GsReplicaState state = { .size = sizeof state };
  g_autoptr (GBytes) pack = pack_commits (c, 4, contest.oids);
  GsRefUpdate update = update_create ("refs/heads/main", &contest.oids[0]);
  if (!replica_make (c, &contest.replica) || !write_refs (c, &contest.replica, &update, 1, pack, 1))
    return;
  conformance_parallel (c, 4, contest_body, &contest);
  if (c->skipped != NULL || conformance_has_failed (c))
    return;
  CHECK (c, contest.n_won > 0, "somebody to win", "nobody");
  CHECK_OK (c, replica_state (c, &contest.replica, &state, &error));
  CHECK (c, state.generation == (guint64) contest.n_won + 1, "one generation for each winner",
         "%" G_GUINT64_FORMAT " with %d winners", state.generation, contest.n_won);
}

static void
crowd_body (Conformance *c, guint index, gpointer user)
{
  Contest *contest = user;
  g_autofree char *name = g_strdup_printf ("refs/heads/of-%u", index);
  for (int i = 0; i < 12 && !conformance_has_failed (c); i++)
    {
      GsRefUpdate update = i == 0 ? update_create (name, &contest->oids[0])
                                  : update_move (name, &contest->oids[(i - 1) % 4], &contest->oids[i % 4]);
      Staged staged = { 0 };
      CHECK_OK (c, stage_write (c, &contest->replica, &update, 1, FALSE, NULL, &staged, &error));
      if (staged.vote->n_updates != 1)
        {
          drop_write (c, &staged);
          conformance_fail (c, "writes to different refs never in each other's way", "one was refused");
          return;
        }
      CHECK_OK (c, commit_write (c, &staged, (guint64) g_atomic_int_add (&contest->generation, 1) + 1, &error));
    }
}

void
crowd_of_writers (Conformance *c)
{
  Contest contest = { .generation = 1 };
  g_autoptr (GBytes) pack = pack_commits (c, 4, contest.oids);
  GsRefUpdate update = update_create ("refs/heads/main", &contest.oids[0]);
  GsDigest digest = { { 0 } };
  if (!replica_make (c, &contest.replica) || !write_refs (c, &contest.replica, &update, 1, pack, 1))
    return;
  conformance_parallel (c, 4, crowd_body, &contest);
  if (c->skipped != NULL || conformance_has_failed (c))
    return;
  digest_ref (&digest, "HEAD", NULL, "refs/heads/main", TRUE);
  digest_ref (&digest, "refs/heads/main", &contest.oids[0], NULL, TRUE);
  for (guint i = 0; i < 4; i++)
    {
      g_autofree char *name = g_strdup_printf ("refs/heads/of-%u", i);
      digest_ref (&digest, name, &contest.oids[11 % 4], NULL, TRUE);
    }
  check_state (c, &contest.replica, 49, &digest);
}
