/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind STORAGE: staging and voting. What comes of it is in commits.c. */
#include "storage.h"

#include <stdlib.h>

GsRefUpdate
update_create (const char *name, const GsOid *oid)
{
  return (GsRefUpdate){ .name = name, .old_oid = { .len = oid->len }, .new_oid = *oid };
}

GsRefUpdate
update_move (const char *name, const GsOid *from, const GsOid *to)
{
  return (GsRefUpdate){ .name = name, .old_oid = *from, .new_oid = *to };
}

GsRefUpdate
update_delete (const char *name, const GsOid *from)
{
  return (GsRefUpdate){ .name = name, .old_oid = *from, .new_oid = { .len = from->len } };
}

gboolean
stage_write (Conformance *c, const Replica *replica, const GsRefUpdate *updates, gsize n, gboolean atomic, GBytes *pack,
       Staged *ret_staged, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 60 * G_USEC_PER_SEC);
  GsChangeSet change = { sizeof change, conformance_txid (c), updates, n, atomic, pack };
  ret_staged->txid = change.txid;
  return ops->stage (c->self, &call, &replica->repo, &change, &ret_staged->txn, &ret_staged->vote, error);
}

gboolean
commit_write (Conformance *c, Staged *staged, guint64 generation, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsDecision decision = { sizeof decision, staged->txid, generation, { { 0 } } };
  return ops->commit (c->self, &call, g_steal_pointer (&staged->txn), &decision, error);
}

void
drop_write (Conformance *c, Staged *staged)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  if (staged->txn != NULL)
    ops->abort (c->self, &call, g_steal_pointer (&staged->txn), NULL);
}

gboolean
replica_state (Conformance *c, const Replica *replica, GsReplicaState *ret_state, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  return ops->state (c->self, &call, &replica->repo, ret_state, error);
}

gboolean
write_refs (Conformance *c, const Replica *replica, const GsRefUpdate *updates, gsize n, GBytes *pack,
            guint64 generation)
{
  g_autoptr (GError) error = NULL;
  Staged staged = { 0 };
  if (!stage_write (c, replica, updates, n, TRUE, pack, &staged, &error))
    {
      conformance_fail (c, "a write to test with", "staging: %s", error->message);
      return FALSE;
    }
  if (staged.vote->n_updates != n)
    {
      conformance_fail (c, "a write to test with", "refused: %s",
                        staged.vote->n_verdicts > 0 && staged.vote->verdicts[0].reason != NULL
                            ? staged.vote->verdicts[0].reason
                            : "?");
      drop_write (c, &staged);
      return FALSE;
    }
  if (commit_write (c, &staged, generation, &error))
    return TRUE;
  conformance_fail (c, "a write to test with", "committing: %s", error->message);
  return FALSE;
}

gboolean
write_one (Conformance *c, const Replica *replica, const char *name, guint64 generation, GsOid *ret_oid)
{
  g_autoptr (GBytes) pack = pack_commits (c, 1, ret_oid);
  GsRefUpdate update = update_create (name, ret_oid);
  return write_refs (c, replica, &update, 1, pack, generation);
}

char *
refs_now (Conformance *c, const Replica *replica)
{
  GsRefQuery query = { .size = sizeof query, .include_head = TRUE };
  g_autoptr (GError) error = NULL;
  char *text = refs_text (c, replica, &query, &error);
  if (text == NULL)
    conformance_fail (c, "a list of refs", "%s", error->message);
  return text != NULL ? text : g_strdup ("");
}

static gboolean
count_pending (const GsPending *pending, gpointer user)
{
  const Replica *replica = ((gpointer *) user)[0];
  if (pending->repo.id == replica->repo.id)
    ++*(guint *) ((gpointer *) user)[1];
  return TRUE;
}

guint
n_pending (Conformance *c, const Replica *replica)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GError) error = NULL;
  guint n = 0;
  gpointer user[] = { (gpointer) replica, &n };
  if (!ops->pending (c->self, &call, count_pending, user, &error))
    conformance_fail (c, "the writes that are pending", "%s", error->message);
  return n;
}

/* --------------------------------------------------------------------------------------------- stage */

void
stage_invisible (Conformance *c)
{
  Replica replica;
  GsOid oids[2];
  g_autoptr (GBytes) pack = pack_commits (c, 2, oids);
  GsRefUpdate updates[2];
  GsReplicaState before = { .size = sizeof before }, during = { .size = sizeof during };
  g_autofree char *refs_before = NULL, *refs_during = NULL, *refs_after = NULL;
  Staged staged = { 0 };
  if (!replica_make (c, &replica))
    return;
  updates[0] = update_create ("refs/heads/main", &oids[0]);
  updates[1] = update_create ("refs/tags/t", &oids[1]);
  refs_before = refs_now (c, &replica);
  CHECK_OK (c, replica_state (c, &replica, &before, &error));
  CHECK_OK (c, stage_write (c, &replica, updates, 2, FALSE, pack, &staged, &error));
  refs_during = refs_now (c, &replica);
  CHECK_OK (c, replica_state (c, &replica, &during, &error));
  CHECK_OK (c, commit_write (c, &staged, 1, &error));
  refs_after = refs_now (c, &replica);
  CHECK (c,
         strcmp (refs_before, refs_during) == 0 && during.generation == 0
             && memcmp (&before.refs_digest, &during.refs_digest, sizeof before.refs_digest) == 0,
         "no change to be seen while it is staged", "%s", refs_during);
  CHECK (c, strstr (refs_after, "refs/heads/main=") != NULL && strstr (refs_after, "refs/tags/t=") != NULL,
         "both refs once committed", "%s", refs_after);
}

void
expected_vote (const Replica *replica, const GsRefUpdate *updates, gsize n, GBytes *pack, guint8 ret_digest[32])
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  guint8 head[9] = { 1 };
  gsize len = 32, n_pack;
  for (int i = 0; i < 8; i++)
    head[8 - i] = (guint8) (replica->repo.id >> 8 * i);
  g_checksum_update (sum, head, sizeof head);
  for (gsize i = 0; i < n; i++) /* the caller gives them in order of name */
    {
      char old_hex[GS_OID_HEX_MAX + 1], new_hex[GS_OID_HEX_MAX + 1];
      g_autofree char *line = NULL;
      gs_oid_hex (&updates[i].old_oid, old_hex);
      gs_oid_hex (&updates[i].new_oid, new_hex);
      line = updates[i].new_symref != NULL ? g_strdup_printf ("ref: %s HEAD\n", updates[i].new_symref)
                                           : g_strdup_printf ("%s %s %s\n", old_hex, new_hex, updates[i].name);
      g_checksum_update (sum, (const guchar *) line, -1);
    }
  if (pack != NULL)
    {
      const guint8 *bytes = g_bytes_get_data (pack, &n_pack);
      g_checksum_update (sum, bytes + n_pack - 20, 20);
    }
  g_checksum_get_digest (sum, ret_digest, &len);
}

void
stage_vote (Conformance *c)
{
  Replica one, two;
  GsOid oids[3];
  g_autoptr (GBytes) pack = pack_commits (c, 3, oids);
  GsRefUpdate first, asked[3], sorted[3];
  guint8 expected[32];
  Staged here = { 0 }, there = { 0 };
  gboolean same, right, true_old, in_order;
  if (!replica_make (c, &one) || !replica_make (c, &two))
    return;
  {
    /* A second replica of the same repository, under a path of its own. */
    const GsStorageOps *ops = c->ops;
    GsCall call = conformance_call (c, 0);
    GsRepoSpec spec = { sizeof spec, GS_FORMAT_SHA1, "refs/heads/main" };
    CHECK_OK (c, ops->remove (c->self, &call, &two.repo, &error));
    two.repo.id = one.repo.id;
    CHECK_OK (c, ops->create (c->self, &call, &two.repo, &spec, &error));
  }
  first = update_create ("refs/heads/b", &oids[0]);
  if (!write_refs (c, &one, &first, 1, pack, 1) || !write_refs (c, &two, &first, 1, pack, 1))
    return;
  asked[0] = update_create ("refs/heads/c", &oids[1]);
  asked[1] = (GsRefUpdate){ .name = "refs/heads/b", .new_oid = oids[2] }; /* old value: do not look */
  asked[2] = update_create ("refs/heads/a", &oids[1]);
  sorted[0] = asked[2];
  sorted[1] = update_move ("refs/heads/b", &oids[0], &oids[2]);
  sorted[2] = asked[0];
  expected_vote (&one, sorted, 3, pack, expected);
  CHECK_OK (c, stage_write (c, &one, asked, 3, FALSE, pack, &here, &error));
  CHECK_OK (c, stage_write (c, &two, asked, 3, FALSE, pack, &there, &error));
  same = memcmp (here.vote->digest, there.vote->digest, 32) == 0;
  right = memcmp (here.vote->digest, expected, 32) == 0;
  in_order = here.vote->n_updates == 3 && strcmp (here.vote->updates[0].name, "refs/heads/a") == 0
             && strcmp (here.vote->updates[2].name, "refs/heads/c") == 0;
  true_old = in_order && gs_oid_equal (&here.vote->updates[1].old_oid, &oids[0]);
  drop_write (c, &here);
  drop_write (c, &there);
  CHECK (c, in_order, "the accepted updates in order of name", "another order");
  CHECK (c, true_old, "the true old value filled in", "another");
  CHECK (c, same, "equal votes of two replicas", "different ones");
  CHECK (c, right, "the digest that storage.h describes", "another");
}

/* Stages one update and compares its verdict; what was accepted is dropped. */
static void
check_verdict (Conformance *c, const Replica *replica, const GsRefUpdate *update, GBytes *pack, int code)
{
  Staged staged = { 0 };
  int got;
  g_autofree char *reason = NULL;
  gsize n_updates, n_verdicts;
  CHECK_OK (c, stage_write (c, replica, update, 1, FALSE, pack, &staged, &error));
  n_updates = staged.vote->n_updates;
  n_verdicts = staged.vote->n_verdicts;
  got = n_verdicts == 1 ? (int) staged.vote->verdicts[0].code : -1;
  reason = g_strdup (n_verdicts == 1 ? staged.vote->verdicts[0].reason : NULL);
  drop_write (c, &staged);
  CHECK (c, n_verdicts == 1 && n_updates == (code == GS_OK), "one verdict, and an update only when accepted",
         "%" G_GSIZE_FORMAT " verdicts and %" G_GSIZE_FORMAT " updates for %s", n_verdicts, n_updates, update->name);
  CHECK (c, got == code && (reason == NULL) == (code == GS_OK), gs_error_name (code), "%s (%s) for %s",
         gs_error_name (got), reason != NULL ? reason : "no reason", update->name);
}

void
stage_refusals (Conformance *c)
{
  Replica replica;
  GsOid oids[3];
  g_autoptr (GBytes) pack = pack_commits (c, 3, oids);
  GsRefUpdate first, updates[5];
  Staged staged = { 0 };
  int codes[5] = { 0 };
  gsize n_updates;
  if (!replica_make (c, &replica))
    return;
  first = update_create ("refs/heads/main", &oids[0]);
  if (!write_refs (c, &replica, &first, 1, pack, 1))
    return;
  check_verdict (c, &replica, &first, NULL, GS_ERROR_FAILED_PRECONDITION); /* exists */
  check_verdict (c, &replica, &(GsRefUpdate){ "refs/heads/main", oids[1], oids[2], NULL }, NULL,
                 GS_ERROR_FAILED_PRECONDITION); /* stale */
  check_verdict (c, &replica, &(GsRefUpdate){ "refs/heads/gone", oids[0], oids[2], NULL }, NULL,
                 GS_ERROR_FAILED_PRECONDITION); /* not there */
  check_verdict (c, &replica, &(GsRefUpdate){ "refs/heads/main", oids[0], oids[1], NULL }, NULL, GS_OK);
  check_verdict (c, &replica, &(GsRefUpdate){ "refs/heads/main", { 0 }, oids[1], NULL }, NULL, GS_OK);
  check_verdict (c, &replica, &(GsRefUpdate){ "refs/heads/main", oids[0], { .len = 20 }, NULL }, NULL, GS_OK);
  check_verdict (c, &replica, &(GsRefUpdate){ "refs/heads/main", oids[0], { .len = 32, .raw = { 1 } }, NULL }, NULL,
                 GS_ERROR_INVALID_ARGUMENT); /* an id of another format */
  updates[0] = update_create ("refs/heads/z", &oids[1]);
  updates[1] = update_create ("refs/heads/main", &oids[1]); /* exists */
  updates[2] = update_create ("refs/heads/twice", &oids[1]);
  updates[3] = update_create ("refs/heads/a", &oids[2]);
  updates[4] = update_create ("refs/heads/twice", &oids[2]);
  CHECK_OK (c, stage_write (c, &replica, updates, 5, FALSE, NULL, &staged, &error));
  for (gsize i = 0; i < 5 && staged.vote->n_verdicts == 5; i++)
    codes[i] = (int) staged.vote->verdicts[i].code;
  n_updates = staged.vote->n_updates;
  drop_write (c, &staged);
  CHECK (c,
         codes[0] == GS_OK && codes[1] == GS_ERROR_FAILED_PRECONDITION && codes[2] == GS_ERROR_INVALID_ARGUMENT
             && codes[3] == GS_OK && codes[4] == GS_ERROR_INVALID_ARGUMENT && n_updates == 2,
         "OK, FAILED_PRECONDITION, INVALID_ARGUMENT (a name twice), OK, INVALID_ARGUMENT, and 2 updates",
         "%d, %d, %d, %d, %d and %" G_GSIZE_FORMAT " updates", codes[0], codes[1], codes[2], codes[3], codes[4],
         n_updates);
}

void
stage_bad_names (Conformance *c)
{
  static const char *const names[] = { "main",
                                       "refs/heads/",
                                       "refs/heads/a..b",
                                       "refs/heads/.a",
                                       "refs/heads/a b",
                                       "refs/heads/a.lock",
                                       "refs/heads/a~1",
                                       "refs/heads/a^",
                                       "refs/heads/a:b",
                                       "refs/heads/a?",
                                       "refs/heads/a*",
                                       "refs/heads/a[",
                                       "refs/heads/a\\",
                                       "refs/heads/a.",
                                       "refs/heads//a",
                                       "refs/heads/a/",
                                       "refs/heads/@{a",
                                       "refs/heads/a\x01",
                                       "refs/heads/a\x7f",
                                       "../refs/heads/a",
                                       "/refs/heads/a",
                                       "refs/../heads/a",
                                       "refs/heads/a/../b",
                                       "objects/pack",
                                       "refs/heads/a.lock/b",
                                       "FETCH_HEAD",
                                       "" };
  Replica replica;
  GsOid oid;
  g_autoptr (GBytes) pack = pack_commits (c, 1, &oid);
  if (!replica_make (c, &replica))
    return;
  for (gsize i = 0; i < G_N_ELEMENTS (names); i++)
    {
      GsRefUpdate update = update_create (names[i], &oid);
      check_verdict (c, &replica, &update, pack, GS_ERROR_INVALID_ARGUMENT);
    }
  check_verdict (c, &replica, &(GsRefUpdate){ .name = "HEAD", .new_symref = "refs/tags/x" }, NULL,
                 GS_ERROR_INVALID_ARGUMENT);
  check_verdict (c, &replica, &(GsRefUpdate){ .name = "HEAD", .new_symref = "refs/heads/a..b" }, NULL,
                 GS_ERROR_INVALID_ARGUMENT);
  check_verdict (c, &replica, &(GsRefUpdate){ .name = "HEAD", .new_oid = oid }, NULL, GS_ERROR_INVALID_ARGUMENT);
  check_verdict (c, &replica, &(GsRefUpdate){ .name = "refs/heads/s", .new_oid = oid, .new_symref = "refs/heads/x" },
                 pack, GS_ERROR_INVALID_ARGUMENT);
}

void
stage_atomic (Conformance *c)
{
  Replica replica;
  GsOid oids[2];
  g_autoptr (GBytes) pack = pack_commits (c, 2, oids);
  GsRefUpdate updates[3];
  Staged staged = { 0 };
  g_autofree char *refs = NULL;
  gsize n_updates, n_refused = 0;
  if (!replica_make (c, &replica))
    return;
  updates[0] = update_create ("refs/heads/a", &oids[0]);
  updates[1] = update_create ("refs/heads/b..c", &oids[0]);
  updates[2] = update_create ("refs/heads/d", &oids[1]);
  CHECK_OK (c, stage_write (c, &replica, updates, 3, TRUE, pack, &staged, &error));
  n_updates = staged.vote->n_updates;
  for (gsize i = 0; i < staged.vote->n_verdicts; i++)
    n_refused += staged.vote->verdicts[i].code != GS_OK;
  drop_write (c, &staged);
  CHECK (c, n_updates == 0 && n_refused == 3, "all three refused, nothing to decide",
         "%" G_GSIZE_FORMAT " refused, %" G_GSIZE_FORMAT " updates", n_refused, n_updates);
  CHECK (c, write_refs (c, &replica, &updates[0], 1, pack, 1), "no lock left behind", "one");
  refs = refs_now (c, &replica);
  CHECK (c, strstr (refs, "refs/heads/d=") == NULL, "nothing of the refused write", "%s", refs);
}

void
stage_conflicts (Conformance *c)
{
  Replica replica;
  GsOid oid;
  GsRefUpdate both[2];
  Staged staged = { 0 };
  gsize n_updates;
  if (!replica_make (c, &replica) || !write_one (c, &replica, "refs/heads/a", 1, &oid))
    return;
  check_verdict (c, &replica, &(GsRefUpdate){ "refs/heads/a/b", { .len = 20 }, oid, NULL }, NULL,
                 GS_ERROR_FAILED_PRECONDITION);
  check_verdict (c, &replica, &(GsRefUpdate){ "refs/heads/a/b/c", { .len = 20 }, oid, NULL }, NULL,
                 GS_ERROR_FAILED_PRECONDITION);
  check_verdict (c, &replica, &(GsRefUpdate){ "refs/heads/a-b", { .len = 20 }, oid, NULL }, NULL, GS_OK);
  both[0] = update_delete ("refs/heads/a", &oid);
  both[1] = update_create ("refs/heads/a/b", &oid); /* in place of what goes in the same write */
  if (!write_refs (c, &replica, both, 2, NULL, 2))
    return;
  check_verdict (c, &replica, &(GsRefUpdate){ "refs/heads/a", { .len = 20 }, oid, NULL }, NULL,
                 GS_ERROR_FAILED_PRECONDITION);
  both[0] = update_create ("refs/heads/new", &oid);
  both[1] = update_create ("refs/heads/new/below", &oid);
  CHECK_OK (c, stage_write (c, &replica, both, 2, FALSE, NULL, &staged, &error));
  n_updates = staged.vote->n_updates;
  drop_write (c, &staged);
  CHECK (c, n_updates <= 1, "not both of two names that exclude each other", "both");
}

void
stage_bad_pack (Conformance *c)
{
  Replica replica;
  GsOid oid;
  g_autoptr (GBytes) pack = pack_commits (c, 1, &oid), cut = NULL, flipped = NULL, empty = g_bytes_new_static ("", 0);
  gsize n_bytes;
  const guint8 *bytes = g_bytes_get_data (pack, &n_bytes);
  guint8 *copy = g_memdup2 (bytes, n_bytes);
  GsRefUpdate update = update_create ("refs/heads/main", &oid);
  GBytes *bad[3];
  g_autofree char *before = NULL, *after = NULL;
  copy[n_bytes / 2] ^= 0x40;
  flipped = g_bytes_new_take (copy, n_bytes);
  cut = g_bytes_new (bytes, n_bytes - 7);
  bad[0] = cut;
  bad[1] = flipped;
  bad[2] = empty;
  if (!replica_make (c, &replica))
    return;
  before = refs_now (c, &replica);
  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      static char untouched;
      Staged staged = { .txn = &untouched };
      CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, stage_write (c, &replica, &update, 1, FALSE, bad[i], &staged, &error));
      CHECK (c, staged.txn == &untouched && staged.vote == NULL, "[S1] outputs untouched on failure", "they were set");
    }
  CHECK (c, n_pending (c, &replica) == 0, "nothing pending after refused packs", "%u", n_pending (c, &replica));
  after = refs_now (c, &replica);
  CHECK (c, strcmp (before, after) == 0, "no ref changed", "%s", after);
  CHECK (c, write_refs (c, &replica, &update, 1, pack, 1), "the whole pack taken afterwards", "not");
}

void
stage_side_by_side (Conformance *c)
{
  Replica replica;
  GsOid oids[2];
  g_autoptr (GBytes) pack = pack_commits (c, 2, oids);
  GsRefUpdate a, b, below;
  Staged first = { 0 }, second = { 0 }, same = { 0 }, under = { 0 };
  g_autofree char *refs = NULL;
  gsize n_second = 0, n_same = 0, n_under = 0;
  gboolean ok_second, ok_same, ok_under;
  if (!replica_make (c, &replica))
    return;
  a = update_create ("refs/heads/a", &oids[0]);
  b = update_create ("refs/heads/b", &oids[1]);
  below = update_create ("refs/heads/a/below", &oids[1]);
  CHECK_OK (c, stage_write (c, &replica, &a, 1, FALSE, pack, &first, &error));
  ok_second = stage_write (c, &replica, &b, 1, FALSE, pack, &second, NULL);
  ok_same = stage_write (c, &replica, &a, 1, FALSE, pack, &same, NULL);
  ok_under = stage_write (c, &replica, &below, 1, FALSE, pack, &under, NULL);
  if (ok_second)
    n_second = second.vote->n_updates;
  if (ok_same)
    n_same = same.vote->n_updates;
  if (ok_under)
    n_under = under.vote->n_updates;
  drop_write (c, &same);
  drop_write (c, &under);
  if (!ok_second || n_second != 1)
    {
      drop_write (c, &first);
      drop_write (c, &second);
      conformance_fail (c, "two writes to different refs staged side by side", "the second was refused");
      return;
    }
  CHECK_OK (c, commit_write (c, &second, 1, &error));
  CHECK_OK (c, commit_write (c, &first, 2, &error));
  CHECK (c, n_same == 0, "a second write to a staged ref refused", "it was accepted");
  CHECK (c, n_under == 0, "a write below a staged ref refused", "it was accepted");
  refs = refs_now (c, &replica);
  CHECK (c, strstr (refs, "refs/heads/a=") != NULL && strstr (refs, "refs/heads/b=") != NULL, "both refs", "%s", refs);
}
