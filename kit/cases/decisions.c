/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind METADATA: decisions on writes, abort marks, the audit log. */
#include "metadata.h"

static GsDecideRequest
request_new (Conformance *c, guint64 id, guint64 expected)
{
  static const char *const alpha[] = { "alpha", NULL };
  GsDecideRequest request = { .size = sizeof request,
                              .repository_id = id,
                              .txid = conformance_txid (c),
                              .expected_generation = expected,
                              .voters = alpha,
                              .caller = "tester" };
  memset (request.refs_digest.bytes, (int) (expected + 1), GS_DIGEST_SIZE);
  memset (request.vote, 9, sizeof request.vote);
  return request;
}

static gboolean
decide_as (Conformance *c, guint64 id, guint64 expected, const char *voter, const GsTxId *txid, guint32 flags,
           guint64 *ret_generation, GError **error)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  const char *const voters[] = { voter, NULL };
  GsRefUpdate update = { .name = "refs/heads/main", .old_oid = { .len = 20 }, .new_oid = { .len = 20, .raw = { 1 } } };
  GsDecideRequest request = request_new (c, id, expected);
  request.voters = voters;
  request.updates = &update;
  request.n_updates = 1;
  request.flags = flags;
  if (txid != NULL)
    request.txid = *txid;
  return ops->decide (c->self, &call, &request, ret_generation, error);
}

gboolean
decide_simple (Conformance *c, guint64 id, guint64 expected, const char *voter, const GsTxId *txid,
               guint64 *ret_generation, GError **error)
{
  return decide_as (c, id, expected, voter, txid, 0, ret_generation, error);
}

gboolean
decide_given_up (Conformance *c, guint64 id, guint64 expected, const char *voter, guint64 *ret_generation, GError **error)
{
  return decide_as (c, id, expected, voter, NULL, GS_DECIDE_BEHIND, ret_generation, error);
}

static gboolean
get_repo (Conformance *c, guint64 id, Seen *seen, GError **error)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  return ops->repo_get (c->self, &call, id, see_row, seen, error);
}

static gboolean
count_change (const GsChange *change, gpointer user)
{
  (*(guint *) user)++;
  return TRUE;
}

static gboolean
state_of (Conformance *c, guint64 id, const GsTxId *txid, GsTxState *ret_state, guint *ret_visits, GError **error)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  *ret_visits = 0;
  return ops->tx_find (c->self, &call, id, txid, ret_state, count_change, ret_visits, error);
}

void
decide_once (Conformance *c)
{
  g_autofree char *path = conformance_path (c, "decide-once");
  g_auto (Seen) seen = { 0 };
  guint64 id = make_repo (c, path), generation = 0;
  if (id == 0)
    return;
  CHECK_OK (c, decide_simple (c, id, 0, "alpha", NULL, &generation, &error));
  CHECK (c, generation == 1, "generation 1", "%" G_GUINT64_FORMAT, generation);
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen.generation == 1 && seen.refs_digest.bytes[0] == 1 && seen.refs_digest.bytes[31] == 1,
         "the repository at 1 with the new digest", "%" G_GUINT64_FORMAT, seen.generation);
  CHECK (c, seen_replica (&seen, "alpha") == 1 && seen_replica (&seen, "beta") == 0,
         "the voter alpha at 1, beta still at 0", "alpha %" G_GUINT64_FORMAT ", beta %" G_GUINT64_FORMAT,
         seen_replica (&seen, "alpha"), seen_replica (&seen, "beta"));
  generation = 55;
  CHECK_CODE (c, GS_ERROR_ABORTED, decide_simple (c, id, 0, "alpha", NULL, &generation, &error));
  CHECK_CODE (c, GS_ERROR_ABORTED, decide_simple (c, id, 2, "alpha", NULL, &generation, &error));
  CHECK (c, generation == 55, "[M6] the generation untouched on failure", "%" G_GUINT64_FORMAT, generation);
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen.generation == 1 && seen_replica (&seen, "alpha") == 1, "nothing changed by a refused decision",
         "generation %" G_GUINT64_FORMAT, seen.generation);
}

#define RACE_ROUNDS 40
#define RACERS 4

typedef struct
{
  guint64 id;
  gint n_won[RACE_ROUNDS];
} Race;

static void
race_body (Conformance *c, guint index, gpointer user)
{
  Race *race = user;
  for (guint64 round = 0; round < RACE_ROUNDS;)
    {
      g_autoptr (GError) why = NULL;
      guint64 generation = 0;
      g_auto (Seen) seen = { 0 };
      if (decide_simple (c, race->id, round, "alpha", NULL, &generation, &why))
        g_atomic_int_inc (&race->n_won[round]);
      else
        CHECK (c, gs_error_code (why) == GS_ERROR_ABORTED, "ABORTED for those who lost", "%s", why->message);
      CHECK_OK (c, get_repo (c, race->id, &seen, &error));
      CHECK (c, seen.generation > round, "a generation past the one that was raced for", "%" G_GUINT64_FORMAT,
             seen.generation);
      round = seen.generation;
    }
}

void
decide_at_once (Conformance *c)
{
  g_autofree char *path = conformance_path (c, "race");
  Race race = { make_repo (c, path), { 0 } };
  if (race.id == 0)
    return;
  conformance_parallel (c, RACERS, race_body, &race);
  for (int i = 0; i < RACE_ROUNDS && c->skipped == NULL && !conformance_has_failed (c); i++)
    CHECK (c, race.n_won[i] == 1, "one winner for each generation", "%d for generation %d", race.n_won[i], i);
}

void
decide_again (Conformance *c)
{
  g_autofree char *path = conformance_path (c, "again");
  GsTxId txid = conformance_txid (c);
  g_auto (Seen) seen = { 0 };
  guint64 id = make_repo (c, path), generation = 0;
  if (id == 0)
    return;
  CHECK_OK (c, decide_simple (c, id, 0, "alpha", &txid, &generation, &error));
  CHECK_OK (c, decide_simple (c, id, 1, "alpha", NULL, &generation, &error));
  CHECK_OK (c, decide_simple (c, id, 0, "alpha", &txid, &generation, &error));
  CHECK (c, generation == 1, "the first generation, 1", "%" G_GUINT64_FORMAT, generation);
  CHECK_OK (c, decide_simple (c, id, 2, "alpha", &txid, &generation, &error));
  CHECK (c, generation == 1, "the first generation, 1, whatever is expected now", "%" G_GUINT64_FORMAT, generation);
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen.generation == 2, "the repository still at 2", "%" G_GUINT64_FORMAT, seen.generation);
}

void
decide_same_call (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "same-call");
  g_auto (Seen) seen = { 0 };
  guint64 id = make_repo (c, path), generation = 0;
  GsDecideRequest first = request_new (c, id, 0), second = request_new (c, id, 1);
  guint n_visits = 0;
  if (id == 0)
    return;
  first.call_id = second.call_id = conformance_txid (c);
  CHECK_OK (c, ops->decide (c->self, &call, &first, &generation, &error));
  CHECK_CODE (c, GS_ERROR_ALREADY_EXISTS, ops->decide (c->self, &call, &second, &generation, &error));
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen.generation == 1, "one decision for one call", "generation %" G_GUINT64_FORMAT, seen.generation);
  CHECK_OK (c, ops->change_by_call (c->self, &call, id, &first.call_id, count_change, &n_visits, &error));
  CHECK (c, n_visits == 1, "the change found by its call", "%u visits", n_visits);
  memset (&first.call_id, 0, sizeof first.call_id);
  CHECK_OK (c, ops->change_by_call (c->self, &call, id, &first.call_id, count_change, &n_visits, &error));
  CHECK (c, n_visits == 1, "nothing found for no call id", "%u visits", n_visits);
}

void
decide_nowhere (Conformance *c)
{
  static const char *const nobody[] = { NULL }, *const stranger[] = { "alpha", "omega", NULL };
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "nowhere");
  g_auto (Seen) seen = { 0 };
  guint64 id = make_repo (c, path), generation = 66;
  GsDecideRequest request = request_new (c, id, 0);
  if (id == 0)
    return;
  request.voters = nobody;
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, ops->decide (c->self, &call, &request, &generation, &error));
  request.voters = stranger;
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->decide (c->self, &call, &request, &generation, &error));
  request.flags = GS_DECIDE_BEHIND;
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->decide (c->self, &call, &request, &generation, &error));
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen.generation == 0 && seen_replica (&seen, "alpha") == 0, "all or nothing: still at 0",
         "generation %" G_GUINT64_FORMAT ", alpha %" G_GUINT64_FORMAT, seen.generation, seen_replica (&seen, "alpha"));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, decide_simple (c, id + 1000000, 0, "alpha", NULL, &generation, &error));
  CHECK_OK (c, ops->repo_delete (c->self, &call, VS, path, see_row, &seen, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, decide_simple (c, id, 0, "alpha", NULL, &generation, &error));
  CHECK (c, generation == 66, "[M6] the generation untouched on failure", "%" G_GUINT64_FORMAT, generation);
}

/* A replica is taken out of use after it voted: its vote promises a copy that may be bad. */
void
decide_out_of_use (Conformance *c)
{
  static const char *const both[] = { "alpha", "beta", NULL }, *const alpha[] = { "alpha", NULL };
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "out-of-use");
  g_auto (Seen) seen = { 0 }, after = { 0 };
  guint64 id = make_repo (c, path), generation = 66;
  GsDecideRequest request = request_new (c, id, 1);
  GsTxState state = GS_TX_DECIDED;
  guint n_visits;
  if (id == 0)
    return;
  CHECK_OK (c, decide_simple (c, id, 0, "alpha", NULL, &generation, &error));
  CHECK_OK (c, ops->replica_set (c->self, &call, id, "beta", 1, FALSE, &error));
  CHECK_OK (c, ops->replica_set (c->self, &call, id, "beta", 0, TRUE, &error)); /* found damaged */
  generation = 66;
  request.voters = both;
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->decide (c->self, &call, &request, &generation, &error));
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, generation == 66 && seen.generation == 1 && seen_replica (&seen, "alpha") == 1,
         "nothing decided with a voter that is out of use", "generation %" G_GUINT64_FORMAT, seen.generation);
  CHECK_OK (c, state_of (c, id, &request.txid, &state, &n_visits, &error));
  CHECK (c, state == GS_TX_UNKNOWN, "the same transaction can be asked for again", "state %d", state);
  request.voters = alpha;
  CHECK_OK (c, ops->decide (c->self, &call, &request, &generation, &error));
  CHECK_OK (c, get_repo (c, id, &after, &error));
  CHECK (c, generation == 2 && seen_replica (&after, "alpha") == 2 && seen_replica (&after, "beta") == 0,
         "decided with the one that is left", "generation %" G_GUINT64_FORMAT, generation);
  CHECK_OK (c, ops->replica_drop (c->self, &call, id, "beta", TRUE, &error));
  request = request_new (c, id, 2);
  request.voters = both;
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->decide (c->self, &call, &request, &generation, &error));
}

void
abort_and_decide (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "abort");
  GsTxId aborted = conformance_txid (c), decided = conformance_txid (c), never = conformance_txid (c);
  g_auto (Seen) seen = { 0 };
  GsTxState state = GS_TX_UNKNOWN;
  guint64 id = make_repo (c, path), generation = 0;
  guint n_visits;
  if (id == 0)
    return;
  CHECK_OK (c, ops->tx_abort (c->self, &call, id, &aborted, &state, &error));
  CHECK (c, state == GS_TX_ABORTED, "ABORTED", "%d", state);
  CHECK_CODE (c, GS_ERROR_FAILED_PRECONDITION, decide_simple (c, id, 0, "alpha", &aborted, &generation, &error));
  CHECK_OK (c, ops->tx_abort (c->self, &call, id, &aborted, &state, &error));
  CHECK (c, state == GS_TX_ABORTED, "ABORTED again", "%d", state);
  CHECK_OK (c, decide_simple (c, id, 0, "alpha", &decided, &generation, &error));
  CHECK_OK (c, ops->tx_abort (c->self, &call, id, &decided, &state, &error));
  CHECK (c, state == GS_TX_DECIDED, "DECIDED: too late to abort", "%d", state);
  CHECK_OK (c, state_of (c, id, &aborted, &state, &n_visits, &error));
  CHECK (c, state == GS_TX_ABORTED && n_visits == 0, "ABORTED, no change shown", "%d, %u visits", state, n_visits);
  CHECK_OK (c, state_of (c, id, &decided, &state, &n_visits, &error));
  CHECK (c, state == GS_TX_DECIDED && n_visits == 1, "DECIDED, one change shown", "%d, %u visits", state, n_visits);
  CHECK_OK (c, state_of (c, id, &never, &state, &n_visits, &error));
  CHECK (c, state == GS_TX_UNKNOWN && n_visits == 0, "UNKNOWN", "%d, %u visits", state, n_visits);
  CHECK_OK (c, ops->repo_delete (c->self, &call, VS, path, see_row, &seen, &error));
  CHECK_OK (c, ops->tx_abort (c->self, &call, id, &decided, &state, &error));
  CHECK (c, state == GS_TX_DECIDED, "DECIDED, also when the repository is gone", "%d", state);
}

#define DUELS 30

typedef struct
{
  guint64 id;
  GsTxId txids[DUELS];
  gint says[4][DUELS]; /* GsTxState as each thread was told */
} Duel;

static void
duel_body (Conformance *c, guint index, gpointer user)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  Duel *duel = user;
  for (int i = 0; i < DUELS; i++)
    {
      GsTxState state = GS_TX_UNKNOWN;
      if (index % 2 == 0)
        CHECK_OK (c, ops->tx_abort (c->self, &call, duel->id, &duel->txids[i], &state, &error));
      while (index % 2 == 1 && state == GS_TX_UNKNOWN)
        {
          g_autoptr (GError) why = NULL;
          g_auto (Seen) seen = { 0 };
          guint64 generation;
          CHECK_OK (c, get_repo (c, duel->id, &seen, &error));
          if (decide_simple (c, duel->id, seen.generation, "alpha", &duel->txids[i], &generation, &why))
            state = GS_TX_DECIDED;
          else if (gs_error_code (why) == GS_ERROR_FAILED_PRECONDITION)
            state = GS_TX_ABORTED;
          else
            CHECK (c, gs_error_code (why) == GS_ERROR_ABORTED, "ABORTED or FAILED_PRECONDITION", "%s", why->message);
        }
      duel->says[index][i] = (gint) state;
    }
}

void
abort_at_once (Conformance *c)
{
  g_autofree char *path = conformance_path (c, "duel");
  g_autofree Duel *duel = g_new0 (Duel, 1);
  duel->id = make_repo (c, path);
  if (duel->id == 0)
    return;
  for (int i = 0; i < DUELS; i++)
    duel->txids[i] = conformance_txid (c);
  conformance_parallel (c, 4, duel_body, duel);
  for (int i = 0; i < DUELS && c->skipped == NULL && !conformance_has_failed (c); i++)
    {
      GsTxState state = GS_TX_UNKNOWN;
      guint n_visits;
      CHECK_OK (c, state_of (c, duel->id, &duel->txids[i], &state, &n_visits, &error));
      for (int k = 0; k < 4; k++)
        CHECK (c, duel->says[k][i] == (gint) state, "everybody told the same", "thread %d was told %d, it is %d", k,
               duel->says[k][i], state);
    }
}

/* -------------------------------------------------------------------------------------- the audit log */

typedef struct
{
  Conformance *c;
  const GsDecideRequest *request; /* NULL: do not compare */
  guint n;
  guint64 last;
  guint stop_after;
} Reader;

static gboolean
same_update (const GsRefUpdate *a, const GsRefUpdate *b)
{
  return strcmp (a->name, b->name) == 0 && gs_oid_equal (&a->old_oid, &b->old_oid)
         && gs_oid_equal (&a->new_oid, &b->new_oid) && g_strcmp0 (a->new_symref, b->new_symref) == 0;
}

static gboolean
read_change (const GsChange *change, gpointer user)
{
  Reader *reader = user;
  const GsDecideRequest *request = reader->request;
  reader->n++;
  if (change->generation <= reader->last)
    conformance_fail (reader->c, "changes in order of generation", "%" G_GUINT64_FORMAT " after %" G_GUINT64_FORMAT,
                      change->generation, reader->last);
  reader->last = change->generation;
  if (request != NULL)
    {
      if (change->repository_id != request->repository_id || change->generation != request->expected_generation + 1
          || memcmp (&change->txid, &request->txid, sizeof change->txid) != 0
          || memcmp (&change->call_id, &request->call_id, sizeof change->call_id) != 0
          || memcmp (&change->refs_digest, &request->refs_digest, sizeof change->refs_digest) != 0
          || memcmp (change->vote, request->vote, sizeof change->vote) != 0
          || strcmp (change->caller, request->caller) != 0 || change->decided_wall_us <= 0
          || g_strv_length ((char **) change->voters) != g_strv_length ((char **) request->voters)
          || change->n_updates != request->n_updates)
        conformance_fail (reader->c, "the change as it was decided", "another one (generation %" G_GUINT64_FORMAT ")",
                          change->generation);
      for (gsize i = 0; i < MIN (change->n_updates, request->n_updates); i++)
        if (!same_update (&change->updates[i], &request->updates[i]))
          conformance_fail (reader->c, "each ref update as it was decided", "update %" G_GSIZE_FORMAT " (%s) differs",
                            i, change->updates[i].name);
    }
  return reader->n != reader->stop_after;
}

static void
fill_updates (GsRefUpdate *updates, gsize n, char (*names)[32])
{
  for (gsize i = 0; i < n; i++)
    {
      g_snprintf (names[i], sizeof names[i], "refs/heads/b%" G_GSIZE_FORMAT, i);
      updates[i] = (GsRefUpdate){ .name = names[i], .old_oid = { .len = 20 }, .new_oid = { .len = 20 } };
      updates[i].new_oid.raw[i % 20] = (guint8) (i + 1);
    }
  updates[0] = (GsRefUpdate){ .name = "HEAD", .new_symref = "refs/heads/trunk" };
  updates[1].name = "refs/heads/ünïcode/~tilde";
  updates[2].old_oid = (GsOid){ .len = 20, .raw = { 0xff, 1, 2 } }; /* a deletion */
  updates[2].new_oid = (GsOid){ .len = 20 };
  updates[3].old_oid = (GsOid){ .len = 0 }; /* not looked at */
  updates[4].new_oid = (GsOid){ .len = 32, .raw = { 0xab } };
}

void
changes_read_back (Conformance *c)
{
  static const char *const both[] = { "alpha", "beta", NULL };
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "read-back");
  g_autofree GsRefUpdate *updates = g_new0 (GsRefUpdate, 500);
  g_autofree char (*names)[32] = g_malloc0 (500 * sizeof *names);
  guint64 id = make_repo (c, path), generation = 0;
  GsDecideRequest request = request_new (c, id, 0);
  Reader reader = { c, &request, 0, 0, 0 }, by_call = reader, all = { c, NULL, 0, 2, 0 }, some = { c, NULL, 0, 0, 3 };
  GsTxState state = GS_TX_UNKNOWN;
  if (id == 0)
    return;
  fill_updates (updates, 500, names);
  request.updates = updates;
  request.n_updates = 500;
  request.voters = both;
  request.call_id = conformance_txid (c);
  request.caller = "Jörg “the tester”";
  CHECK_OK (c, ops->decide (c->self, &call, &request, &generation, &error));
  CHECK_OK (c, ops->tx_find (c->self, &call, id, &request.txid, &state, read_change, &reader, &error));
  CHECK (c, reader.n == 1 && state == GS_TX_DECIDED, "one change", "%u", reader.n);
  CHECK_OK (c, ops->change_by_call (c->self, &call, id, &request.call_id, read_change, &by_call, &error));
  CHECK (c, by_call.n == 1, "one change by call", "%u", by_call.n);
  for (guint64 i = 1; i < 10; i++)
    CHECK_OK (c, decide_simple (c, id, i, "alpha", NULL, &generation, &error));
  CHECK_OK (c, ops->change_list (c->self, &call, id, 2, 100, read_change, &all, &error));
  CHECK (c, all.n == 8 && all.last == 10, "generations 3 to 10", "%u up to %" G_GUINT64_FORMAT, all.n, all.last);
  CHECK_OK (c, ops->change_list (c->self, &call, id, 0, 5, read_change, &some, &error));
  CHECK (c, some.n == 3, "no more once the visitor said stop", "%u", some.n);
  some = (Reader){ c, NULL, 0, 0, 0 };
  CHECK_OK (c, ops->change_list (c->self, &call, id, 0, 5, read_change, &some, &error));
  CHECK (c, some.n == 5, "at most the limit, 5", "%u", some.n);
}

void
decisions_survive (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "survive");
  GsTxId decided = conformance_txid (c), aborted = conformance_txid (c);
  GsTxState state = GS_TX_UNKNOWN;
  g_auto (Seen) seen = { 0 };
  guint64 id, generation = 0;
  guint n_visits;
  if (!conformance_keeps (c))
    {
      conformance_skip (c, "the plugin requires no option that says where it keeps things, so they end with it");
      return;
    }
  id = make_repo (c, path);
  if (id == 0)
    return;
  CHECK_OK (c, decide_simple (c, id, 0, "beta", &decided, &generation, &error));
  CHECK_OK (c, ops->tx_abort (c->self, &call, id, &aborted, &state, &error));
  CHECK_OK (c, conformance_restart (c, &error));
  CHECK_OK (c, get_repo (c, id, &seen, &error));
  CHECK (c, seen.generation == 1 && seen_replica (&seen, "beta") == 1, "generation 1 on beta", "%" G_GUINT64_FORMAT,
         seen.generation);
  CHECK_OK (c, state_of (c, id, &decided, &state, &n_visits, &error));
  CHECK (c, state == GS_TX_DECIDED, "DECIDED", "%d", state);
  CHECK_CODE (c, GS_ERROR_FAILED_PRECONDITION, decide_simple (c, id, 1, "alpha", &aborted, &generation, &error));
}

static void
crowd_body (Conformance *c, guint index, gpointer user)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  for (int i = 0; i < 6; i++)
    {
      g_autofree char *name = g_strdup_printf ("crowd-%u-%d", index, i), *path = conformance_path (c, name);
      g_autofree char *prefix = g_strdup_printf ("conformance-%s/crowd-%u-", c->tag, index);
      g_auto (Seen) seen = { 0 };
      guint64 id = make_repo (c, path), generation = 0;
      if (id == 0)
        return;
      for (guint64 k = 0; k < 3; k++)
        CHECK_OK (c, decide_simple (c, id, k, "alpha", NULL, &generation, &error));
      CHECK_OK (c, get_repo (c, id, &seen, &error));
      CHECK (c, seen.generation == 3, "its own repository at 3", "%" G_GUINT64_FORMAT, seen.generation);
      CHECK_OK (c, ops->repo_list (c->self, &call, VS, prefix, "", 100, see_row, &seen, &error));
      CHECK (c, seen.n_calls == (guint) i + 2, "all of its own repositories", "%u", seen.n_calls - 1);
    }
}

void
crowd (Conformance *c)
{
  conformance_parallel (c, 6, crowd_body, NULL);
}
