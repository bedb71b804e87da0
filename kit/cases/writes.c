/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind STORAGE: staging, voting, committing and aborting. */
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

/* A staged write in hand. */
typedef struct
{
  gpointer txn;
  const GsVote *vote;
  GsTxId txid;
} Staged;

static gboolean
stage (Conformance *c, const Replica *replica, const GsRefUpdate *updates, gsize n, gboolean atomic, GBytes *pack,
       Staged *ret_staged, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 60 * G_USEC_PER_SEC);
  GsChangeSet change = { sizeof change, conformance_txid (c), updates, n, atomic, pack };
  ret_staged->txid = change.txid;
  return ops->stage (c->self, &call, &replica->repo, &change, &ret_staged->txn, &ret_staged->vote, error);
}

static gboolean
commit (Conformance *c, Staged *staged, guint64 generation, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsDecision decision = { sizeof decision, staged->txid, generation, { { 0 } } };
  return ops->commit (c->self, &call, g_steal_pointer (&staged->txn), &decision, error);
}

static void
drop (Conformance *c, Staged *staged)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  if (staged->txn != NULL)
    ops->abort (c->self, &call, g_steal_pointer (&staged->txn), NULL);
}

static gboolean
get_state (Conformance *c, const Replica *replica, GsReplicaState *ret_state, GError **error)
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
  if (!stage (c, replica, updates, n, TRUE, pack, &staged, &error))
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
      drop (c, &staged);
      return FALSE;
    }
  if (commit (c, &staged, generation, &error))
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

/* The refs, for comparing before and after. */
static char *
all_refs (Conformance *c, const Replica *replica)
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

static guint
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
  refs_before = all_refs (c, &replica);
  CHECK_OK (c, get_state (c, &replica, &before, &error));
  CHECK_OK (c, stage (c, &replica, updates, 2, FALSE, pack, &staged, &error));
  refs_during = all_refs (c, &replica);
  CHECK_OK (c, get_state (c, &replica, &during, &error));
  CHECK_OK (c, commit (c, &staged, 1, &error));
  refs_after = all_refs (c, &replica);
  CHECK (c,
         strcmp (refs_before, refs_during) == 0 && during.generation == 0
             && memcmp (&before.refs_digest, &during.refs_digest, sizeof before.refs_digest) == 0,
         "no change to be seen while it is staged", "%s", refs_during);
  CHECK (c, strstr (refs_after, "refs/heads/main=") != NULL && strstr (refs_after, "refs/tags/t=") != NULL,
         "both refs once committed", "%s", refs_after);
}

static void
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
  CHECK_OK (c, stage (c, &one, asked, 3, FALSE, pack, &here, &error));
  CHECK_OK (c, stage (c, &two, asked, 3, FALSE, pack, &there, &error));
  same = memcmp (here.vote->digest, there.vote->digest, 32) == 0;
  right = memcmp (here.vote->digest, expected, 32) == 0;
  in_order = here.vote->n_updates == 3 && strcmp (here.vote->updates[0].name, "refs/heads/a") == 0
             && strcmp (here.vote->updates[2].name, "refs/heads/c") == 0;
  true_old = in_order && gs_oid_equal (&here.vote->updates[1].old_oid, &oids[0]);
  drop (c, &here);
  drop (c, &there);
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
  CHECK_OK (c, stage (c, replica, update, 1, FALSE, pack, &staged, &error));
  n_updates = staged.vote->n_updates;
  n_verdicts = staged.vote->n_verdicts;
  got = n_verdicts == 1 ? (int) staged.vote->verdicts[0].code : -1;
  reason = g_strdup (n_verdicts == 1 ? staged.vote->verdicts[0].reason : NULL);
  drop (c, &staged);
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
  CHECK_OK (c, stage (c, &replica, updates, 5, FALSE, NULL, &staged, &error));
  for (gsize i = 0; i < 5 && staged.vote->n_verdicts == 5; i++)
    codes[i] = (int) staged.vote->verdicts[i].code;
  n_updates = staged.vote->n_updates;
  drop (c, &staged);
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
  CHECK_OK (c, stage (c, &replica, updates, 3, TRUE, pack, &staged, &error));
  n_updates = staged.vote->n_updates;
  for (gsize i = 0; i < staged.vote->n_verdicts; i++)
    n_refused += staged.vote->verdicts[i].code != GS_OK;
  drop (c, &staged);
  CHECK (c, n_updates == 0 && n_refused == 3, "all three refused, nothing to decide",
         "%" G_GSIZE_FORMAT " refused, %" G_GSIZE_FORMAT " updates", n_refused, n_updates);
  CHECK (c, write_refs (c, &replica, &updates[0], 1, pack, 1), "no lock left behind", "one");
  refs = all_refs (c, &replica);
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
  CHECK_OK (c, stage (c, &replica, both, 2, FALSE, NULL, &staged, &error));
  n_updates = staged.vote->n_updates;
  drop (c, &staged);
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
  before = all_refs (c, &replica);
  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      static char untouched;
      Staged staged = { .txn = &untouched };
      CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, stage (c, &replica, &update, 1, FALSE, bad[i], &staged, &error));
      CHECK (c, staged.txn == &untouched && staged.vote == NULL, "[S1] outputs untouched on failure", "they were set");
    }
  CHECK (c, n_pending (c, &replica) == 0, "nothing pending after refused packs", "%u", n_pending (c, &replica));
  after = all_refs (c, &replica);
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
  CHECK_OK (c, stage (c, &replica, &a, 1, FALSE, pack, &first, &error));
  ok_second = stage (c, &replica, &b, 1, FALSE, pack, &second, NULL);
  ok_same = stage (c, &replica, &a, 1, FALSE, pack, &same, NULL);
  ok_under = stage (c, &replica, &below, 1, FALSE, pack, &under, NULL);
  if (ok_second)
    n_second = second.vote->n_updates;
  if (ok_same)
    n_same = same.vote->n_updates;
  if (ok_under)
    n_under = under.vote->n_updates;
  drop (c, &same);
  drop (c, &under);
  if (!ok_second || n_second != 1)
    {
      drop (c, &first);
      drop (c, &second);
      conformance_fail (c, "two writes to different refs staged side by side", "the second was refused");
      return;
    }
  CHECK_OK (c, commit (c, &second, 1, &error));
  CHECK_OK (c, commit (c, &first, 2, &error));
  CHECK (c, n_same == 0, "a second write to a staged ref refused", "it was accepted");
  CHECK (c, n_under == 0, "a write below a staged ref refused", "it was accepted");
  refs = all_refs (c, &replica);
  CHECK (c, strstr (refs, "refs/heads/a=") != NULL && strstr (refs, "refs/heads/b=") != NULL, "both refs", "%s", refs);
}

/* ------------------------------------------------------------------------------------ commit and abort */

static void
check_state (Conformance *c, const Replica *replica, guint64 generation, const GsDigest *digest)
{
  GsReplicaState state = { .size = sizeof state };
  CHECK_OK (c, get_state (c, replica, &state, &error));
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
  CHECK_OK (c, stage (c, &replica, updates, 2, TRUE, pack, &staged, &error));
  gs_digest_add (&sum, &staged.vote->refs_plus);
  gs_digest_sub (&sum, &staged.vote->refs_minus);
  CHECK_OK (c, commit (c, &staged, 1, &error));
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
      CHECK_OK (c, stage (c, &replica, &update, 1, FALSE, pack, &staged[i], &error));
    }
  CHECK_OK (c, commit (c, &staged[1], 2, &error));
  CHECK_OK (c, get_state (c, &replica, &state, &error));
  CHECK (c, state.generation == 0, "still generation 0: the first decision is not applied", "%" G_GUINT64_FORMAT,
         state.generation);
  CHECK_OK (c, commit (c, &staged[2], 3, &error));
  CHECK_OK (c, commit (c, &staged[0], 1, &error));
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
      for (guint64 i = 0; i < 60 && !conformance_has_failed (c); i++)
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
  refs = all_refs (c, &replica);
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
  refs_before = all_refs (c, &replica);
  CHECK_OK (c, ops->measure (c->self, &call, &replica.repo, &before, &error));
  updates[0] = update_move ("refs/heads/main", &oid, &next);
  updates[1] = update_create ("refs/heads/deep/er/new", &next);
  updates[2] = (GsRefUpdate){ .name = "HEAD", .new_symref = "refs/heads/other" };
  CHECK_OK (c, stage (c, &replica, updates, 3, TRUE, pack, &staged, &error));
  ops->abort (c->self, &call, g_steal_pointer (&staged.txn), why);
  refs_after = all_refs (c, &replica);
  CHECK (c, strcmp (refs_before, refs_after) == 0, "the refs as before", "%s", refs_after);
  CHECK_OK (c, ops->measure (c->self, &call, &replica.repo, &after, &error));
  CHECK (c, before.objects_bytes == after.objects_bytes && before.n_packs == after.n_packs, "no object left behind",
         "%" G_GUINT64_FORMAT " bytes of objects, before %" G_GUINT64_FORMAT, after.objects_bytes,
         before.objects_bytes);
  CHECK (c, n_pending (c, &replica) == 0, "nothing pending", "%u", n_pending (c, &replica));
  write_refs (c, &replica, updates, 3, pack, 2); /* no lock is left behind */
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
  before = all_refs (c, &replica);
  for (int i = 0; i < 2; i++)
    {
      CHECK_OK (c, ops->resolve (c->self, &call, &replica.repo, &txid, NULL, &error));
      CHECK_OK (c, ops->resolve (c->self, &call, &replica.repo, &decision.txid, i == 0 ? NULL : &decision, &error));
    }
  after = all_refs (c, &replica);
  CHECK (c, strcmp (before, after) == 0, "the refs as before", "%s", after);
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
      if (!stage (c, &contest->replica, &update, 1, FALSE, NULL, &staged, &why))
        {
          CHECK (c, gs_error_code (why) == GS_ERROR_ABORTED || gs_error_code (why) == GS_ERROR_FAILED_PRECONDITION,
                 "ABORTED or FAILED_PRECONDITION for the loser", "%s", why->message);
          continue;
        }
      if (staged.vote->n_updates == 0)
        {
          int code = staged.vote->n_verdicts == 1 ? (int) staged.vote->verdicts[0].code : -1;
          drop (c, &staged);
          CHECK (c, code == GS_ERROR_ABORTED || code == GS_ERROR_FAILED_PRECONDITION,
                 "ABORTED or FAILED_PRECONDITION for the loser", "%s", gs_error_name (code));
          continue;
        }
      CHECK_OK (c, commit (c, &staged, (guint64) g_atomic_int_add (&contest->generation, 1) + 1, &error));
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
  CHECK_OK (c, get_state (c, &contest.replica, &state, &error));
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
      CHECK_OK (c, stage (c, &contest->replica, &update, 1, FALSE, NULL, &staged, &error));
      if (staged.vote->n_updates != 1)
        {
          drop (c, &staged);
          conformance_fail (c, "writes to different refs never in each other's way", "one was refused");
          return;
        }
      CHECK_OK (c, commit (c, &staged, (guint64) g_atomic_int_add (&contest->generation, 1) + 1, &error));
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
