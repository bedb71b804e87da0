/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind STORAGE: the server's own refs, below refs/gitstead/, and what a vote says of hooks. */
#include "storage.h"

#define OWN "refs/gitstead/files/set"

static gboolean
stage_own (Conformance *c, const Replica *replica, const GsRefUpdate *updates, gsize n, GBytes *pack, Staged *ret_staged,
           GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 60 * G_USEC_PER_SEC);
  const GsChangeSet change = { .size = sizeof change,
                               .txid = conformance_txid (c),
                               .updates = updates,
                               .n_updates = n,
                               .atomic = TRUE,
                               .pack = pack,
                               .own_refs = TRUE };
  ret_staged->txid = change.txid;
  return ops->stage (c->self, &call, &replica->repo, &change, &ret_staged->txn, &ret_staged->vote, error);
}

static gboolean
never (const GsRef *ref, gpointer user)
{
  return TRUE;
}

static void
check_digest (Conformance *c, const Replica *replica, const GsDigest *digest)
{
  GsReplicaState state = { .size = sizeof state };
  CHECK_OK (c, replica_state (c, replica, &state, &error));
  CHECK (c, memcmp (&state.refs_digest, digest, sizeof *digest) == 0, "a digest of all refs, the server's own among them",
         "another");
}

/* @value NULL: it has to be absent. */
static void
check_shown (Conformance *c, const Replica *replica, const GsOid *value)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsRefQuery query = { .size = sizeof query, .include_head = TRUE, .include_hidden = TRUE };
  g_autofree char *clients = refs_now (c, replica);
  g_autoptr (GError) why = NULL;
  g_autofree char *all = refs_text (c, replica, &query, &why);
  g_autofree char *wanted = NULL;
  char hex[GS_OID_HEX_MAX + 1] = "";
  CHECK (c, all != NULL, "a list of all refs", "%s", why->message);
  CHECK (c, strstr (clients, OWN) == NULL, "no own ref in what clients are shown", "%s", clients);
  if (value != NULL)
    gs_oid_hex (value, hex);
  hex[8] = '\0'; /* as refs_text has them */
  wanted = g_strconcat (OWN "=", hex, " ", NULL);
  CHECK (c, (strstr (all, OWN) != NULL) == (value != NULL) && (value == NULL || strstr (all, wanted) != NULL),
         "the own ref as it was written", "%s", all);
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->find_ref (c->self, &call, &replica->repo, OWN, never, NULL, &error));
}

void
own_refs_kept (Conformance *c)
{
  Replica replica;
  GsOid oids[3];
  g_autoptr (GBytes) pack = pack_commits (c, 3, oids);
  GsDigest digest = { { 0 } };
  GsRefUpdate updates[2];
  Staged staged = { 0 };
  if (!replica_make (c, &replica))
    return;
  digest_ref (&digest, "HEAD", NULL, "refs/heads/main", TRUE);
  updates[0] = update_create (OWN, &oids[0]);
  updates[1] = update_create ("refs/heads/main", &oids[1]);
  CHECK_OK (c, stage_own (c, &replica, updates, 2, pack, &staged, &error));
  CHECK (c, staged.vote->n_updates == 2, "both updates accepted", "%" G_GSIZE_FORMAT, staged.vote->n_updates);
  check_shown (c, &replica, NULL);
  CHECK_OK (c, commit_write (c, &staged, 1, &error));
  digest_ref (&digest, OWN, &oids[0], NULL, TRUE);
  digest_ref (&digest, "refs/heads/main", &oids[1], NULL, TRUE);
  check_digest (c, &replica, &digest);
  check_shown (c, &replica, &oids[0]);
  /* All or nothing with the others, and only in the place of what its writer has seen. */
  updates[0] = update_move (OWN, &oids[1], &oids[2]);
  updates[1] = update_move ("refs/heads/main", &oids[1], &oids[2]);
  CHECK_OK (c, stage_own (c, &replica, updates, 2, NULL, &staged, &error));
  CHECK (c, staged.vote->n_updates == 0 && staged.vote->verdicts[0].code == GS_ERROR_FAILED_PRECONDITION,
         "a stale own ref refuses the whole write", "%" G_GSIZE_FORMAT " updates", staged.vote->n_updates);
  drop_write (c, &staged);
  check_digest (c, &replica, &digest);
  updates[0] = update_move (OWN, &oids[0], &oids[2]);
  CHECK_OK (c, stage_own (c, &replica, updates, 2, NULL, &staged, &error));
  drop_write (c, &staged);
  check_shown (c, &replica, &oids[0]);
  CHECK_OK (c, stage_own (c, &replica, updates, 2, NULL, &staged, &error));
  CHECK_OK (c, commit_write (c, &staged, 2, &error));
  check_shown (c, &replica, &oids[2]);
  updates[0] = update_delete (OWN, &oids[2]);
  CHECK_OK (c, stage_own (c, &replica, updates, 1, NULL, &staged, &error));
  CHECK_OK (c, commit_write (c, &staged, 3, &error));
  check_shown (c, &replica, NULL);
}

void
own_refs_refused (Conformance *c)
{
  Replica replica;
  GsOid oids[2];
  g_autoptr (GBytes) pack = pack_commits (c, 2, oids);
  GsRefUpdate updates[2];
  Staged staged = { 0 };
  if (!replica_make (c, &replica))
    return;
  updates[0] = update_create (OWN, &oids[0]);
  updates[1] = update_create ("refs/heads/main", &oids[1]);
  CHECK_OK (c, stage_write (c, &replica, updates, 2, FALSE, pack, &staged, &error));
  CHECK (c,
         staged.vote->n_updates == 1 && staged.vote->verdicts[0].code == GS_ERROR_PERMISSION_DENIED
             && staged.vote->verdicts[1].code == GS_OK,
         "the own ref refused with PERMISSION_DENIED, and the other taken", "%" G_GSIZE_FORMAT " updates and code %d",
         staged.vote->n_updates, staged.vote->verdicts[0].code);
  CHECK_OK (c, commit_write (c, &staged, 1, &error));
  check_shown (c, &replica, NULL);
}

void
hooks_absent (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  Replica replica;
  GsOid oids[2];
  g_autoptr (GBytes) pack = pack_commits (c, 2, oids);
  if (!replica_make (c, &replica))
    return;
  for (int asked = 0; asked < 2; asked++)
    {
      GsCall call = conformance_call (c, 60 * G_USEC_PER_SEC);
      const GsRefUpdate update = update_create (asked ? "refs/heads/asked" : "refs/heads/not", &oids[asked]);
      const GsChangeSet change = { .size = sizeof change,
                                   .txid = conformance_txid (c),
                                   .updates = &update,
                                   .n_updates = 1,
                                   .pack = pack,
                                   .run_hooks = asked };
      Staged staged = { .txid = change.txid };
      CHECK_OK (c, ops->stage (c->self, &call, &replica.repo, &change, &staged.txn, &staged.vote, &error));
      CHECK (c, staged.vote->n_updates == 1 && staged.vote->hooks == GS_HOOKS_NONE, "an accepted update, and no hooks",
             "%" G_GSIZE_FORMAT " updates, hooks %u", staged.vote->n_updates, staged.vote->hooks);
      CHECK_OK (c, commit_write (c, &staged, (guint64) asked + 1, &error));
    }
}
