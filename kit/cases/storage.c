/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind STORAGE: replicas and reading refs. Writes are in writes.c. */
#include "storage.h"

/* ------------------------------------------------------------------------------------------- replicas */

void
replica_name (Conformance *c, Replica *ret_replica)
{
  GsTxId dice = conformance_txid (c);
  guint64 id = 0;
  memcpy (&id, dice.bytes + 1, 5);
  g_snprintf (ret_replica->path, sizeof ret_replica->path, "conformance/%s/%" G_GUINT64_FORMAT, c->tag, id + 1);
  ret_replica->repo = (GsRepo){ sizeof ret_replica->repo, id + 1, ret_replica->path };
}

static gboolean
create (Conformance *c, const GsRepo *repo, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsRepoSpec spec = { sizeof spec, GS_FORMAT_SHA1, "refs/heads/main" };
  return ops->create (c->self, &call, repo, &spec, error);
}

gboolean
replica_make (Conformance *c, Replica *ret_replica)
{
  g_autoptr (GError) error = NULL;
  replica_name (c, ret_replica);
  if (create (c, &ret_replica->repo, &error))
    return TRUE;
  conformance_fail (c, "a replica to test with", "%s", error->message);
  return FALSE;
}

void
digest_ref (GsDigest *digest, const char *name, const GsOid *oid, const char *symref, gboolean add)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  char hex[GS_OID_HEX_MAX + 1];
  g_autofree char *value = NULL;
  GsDigest term;
  gsize len = sizeof term.bytes;
  if (symref == NULL)
    gs_oid_hex (oid, hex);
  value = symref != NULL ? g_strdup_printf ("ref: %s\n", symref) : g_strdup_printf ("%s\n", hex);
  g_checksum_update (sum, (const guchar *) name, (gssize) strlen (name) + 1);
  g_checksum_update (sum, (const guchar *) value, -1);
  g_checksum_get_digest (sum, term.bytes, &len);
  if (add)
    gs_digest_add (digest, &term);
  else
    gs_digest_sub (digest, &term);
}

static gboolean
get_state (Conformance *c, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  return ops->state (c->self, &call, repo, ret_state, error);
}

static gboolean
exists (Conformance *c, const GsRepo *repo, gboolean *ret_exists, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  return ops->exists (c->self, &call, repo, ret_exists, error);
}

static void
created (Conformance *c)
{
  Replica replica;
  GsReplicaState state = { .size = sizeof state };
  GsDigest digest = { { 0 } };
  gboolean there = TRUE;
  replica_name (c, &replica);
  CHECK_OK (c, exists (c, &replica.repo, &there, &error));
  CHECK (c, !there, "no replica before it is created", "one");
  CHECK_OK (c, create (c, &replica.repo, &error));
  CHECK_OK (c, exists (c, &replica.repo, &there, &error));
  CHECK (c, there, "a replica after it was created", "none");
  CHECK_OK (c, get_state (c, &replica.repo, &state, &error));
  digest_ref (&digest, "HEAD", NULL, "refs/heads/main", TRUE);
  CHECK (c, state.repository_id == replica.repo.id && state.generation == 0 && state.format == GS_FORMAT_SHA1,
         "its id, generation 0 and SHA-1", "%" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT ", %d", state.repository_id,
         state.generation, state.format);
  CHECK (c, memcmp (&state.refs_digest, &digest, sizeof digest) == 0, "HEAD's term alone as the refs digest",
         "another");
  CHECK_CODE (c, GS_ERROR_ALREADY_EXISTS, create (c, &replica.repo, &error));
  replica.repo.id++;
  CHECK_CODE (c, GS_ERROR_ALREADY_EXISTS, create (c, &replica.repo, &error));
}

static void
found (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  Replica replica;
  GsRepo other;
  gboolean there = TRUE;
  replica_name (c, &replica);
  CHECK_OK (c, exists (c, &replica.repo, &there, &error));
  CHECK (c, !there, "no replica where none was made", "one");
  if (!replica_make (c, &replica))
    return;
  other = replica.repo;
  other.id += 1000;
  for (int i = 0; i < 2; i++)
    {
      there = FALSE;
      CHECK_OK (c, exists (c, i == 0 ? &replica.repo : &other, &there, &error));
      CHECK (c, there, "the replica at the path, of whatever repository", "none for %s id", i == 0 ? "its own" : "another");
    }
  CHECK_OK (c, ops->remove (c->self, &call, &replica.repo, &error));
  CHECK_OK (c, exists (c, &replica.repo, &there, &error));
  CHECK (c, !there, "no replica where one was removed", "one");
}

static void
not_created (Conformance *c)
{
  static const char *const paths[] = { "", "/absolute", "../up", "a/../b", "a//b", "a/./b", ".." };
  static const char *const branches[]
      = { "main", "refs/heads/", "refs/tags/x", "refs/heads/a..b", "refs/heads/a b", "" };
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0), cancelled = conformance_call (c, 0);
  Replica replica;
  gboolean there = TRUE;
  GsRepoSpec spec = { sizeof spec, GS_FORMAT_SHA1, "refs/heads/main" };
  for (gsize i = 0; i < G_N_ELEMENTS (paths); i++)
    {
      GsRepo repo = { sizeof repo, 77, paths[i] };
      CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, create (c, &repo, &error));
    }
  replica_name (c, &replica);
  for (gsize i = 0; i < G_N_ELEMENTS (branches); i++)
    {
      spec.default_branch = branches[i];
      CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, ops->create (c->self, &call, &replica.repo, &spec, &error));
    }
  spec.default_branch = "refs/heads/main";
  cancelled.cancelled = 1;
  CHECK_CODE (c, GS_ERROR_CANCELLED, ops->create (c->self, &cancelled, &replica.repo, &spec, &error));
  CHECK_OK (c, exists (c, &replica.repo, &there, &error));
  CHECK (c, !there, "nothing at the path after refused creations", "a replica");
  CHECK_OK (c, create (c, &replica.repo, &error));
}

static void
removed (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  Replica replica;
  GsReplicaState state = { .size = sizeof state };
  GsOid oid;
  gboolean there = TRUE;
  if (!replica_make (c, &replica) || !write_one (c, &replica, "refs/heads/main", 1, &oid))
    return;
  CHECK_OK (c, ops->remove (c->self, &call, &replica.repo, &error));
  CHECK_OK (c, exists (c, &replica.repo, &there, &error));
  CHECK (c, !there, "nothing at the path once removed", "a replica");
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->remove (c->self, &call, &replica.repo, &error));
  replica.repo.id++;
  CHECK_OK (c, create (c, &replica.repo, &error)); /* the path is free at once, for another repository */
  CHECK_OK (c, get_state (c, &replica.repo, &state, &error));
  CHECK (c, state.generation == 0 && state.repository_id == replica.repo.id, "a new, empty replica",
         "generation %" G_GUINT64_FORMAT, state.generation);
  CHECK_OK (c, ops->maintain (c->self, &call, &error));
  CHECK_OK (c, get_state (c, &replica.repo, &state, &error)); /* care for the trash leaves the new one alone */
}

static gboolean
count_repo (const GsRepo *repo, gpointer user)
{
  GHashTable *counts = user;
  guint n = GPOINTER_TO_UINT (g_hash_table_lookup (counts, repo->replica_path));
  g_hash_table_replace (counts, g_strdup (repo->replica_path), GUINT_TO_POINTER (n + 1));
  return TRUE;
}

static gboolean
stop_at_once (const GsRepo *repo, gpointer user)
{
  ++*(guint *) user;
  return FALSE;
}

static void
listed (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GHashTable) counts = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  Replica replicas[5];
  guint n_visits = 0;
  for (int i = 0; i < 5; i++)
    if (!replica_make (c, &replicas[i]))
      return;
  CHECK_OK (c, ops->remove (c->self, &call, &replicas[4].repo, &error));
  CHECK_OK (c, ops->list (c->self, &call, count_repo, counts, &error));
  for (int i = 0; i < 5; i++)
    {
      guint n = GPOINTER_TO_UINT (g_hash_table_lookup (counts, replicas[i].path));
      CHECK (c, n == (i < 4), "each replica once, a removed one not", "%s %u times", replicas[i].path, n);
    }
  CHECK_OK (c, ops->list (c->self, &call, stop_at_once, &n_visits, &error));
  CHECK (c, n_visits == 1, "no visit after the visitor said stop", "%u", n_visits);
}

static gboolean
ignore_ref (const GsRef *ref, gpointer user)
{
  return TRUE;
}

/* What every slot on a replica says when it is not there or another repository's. */
static void
all_slots_refuse (Conformance *c, const GsRepo *repo, int code, int or_code)
{
  const GsStorageOps *ops = c->ops;
  for (int i = 0; i < 7; i++)
    {
      GsCall call = conformance_call (c, 0);
      g_autoptr (GError) why = NULL;
      GsReplicaState state = { 0 };
      GsRepoSize size = { 0 };
      GsRefQuery query = { sizeof query, NULL, NULL, 0, FALSE, FALSE };
      GsChangeSet change = { sizeof change, conformance_txid (c), NULL, 0, FALSE, NULL };
      GsTxId txid = conformance_txid (c);
      gpointer txn = NULL;
      const GsVote *vote = NULL;
      gboolean ok = i == 0   ? ops->state (c->self, &call, repo, &state, &why)
                    : i == 1 ? ops->measure (c->self, &call, repo, &size, &why)
                    : i == 2 ? ops->list_refs (c->self, &call, repo, &query, ignore_ref, NULL, &why)
                    : i == 3 ? ops->find_ref (c->self, &call, repo, "HEAD", ignore_ref, NULL, &why)
                    : i == 4 ? ops->stage (c->self, &call, repo, &change, &txn, &vote, &why)
                    : i == 5 ? ops->resolve (c->self, &call, repo, &txid, NULL, &why)
                             : ops->remove (c->self, &call, repo, &why);
      CHECK (c, !ok && why != NULL && (why->code == code || why->code == or_code), gs_error_name (code), "slot %d: %s",
             i,
             ok            ? "TRUE"
             : why != NULL ? why->message
                           : "no error");
      CHECK (c, state.repository_id == 0 && size.n_refs == 0 && txn == NULL && vote == NULL,
             "[S1] outputs untouched on failure", "slot %d set them", i);
    }
}

static void
absent (Conformance *c)
{
  Replica replica;
  replica_name (c, &replica);
  all_slots_refuse (c, &replica.repo, GS_ERROR_NOT_FOUND, GS_ERROR_NOT_FOUND);
}

static void
another_repository (Conformance *c)
{
  Replica replica;
  GsRepo wrong;
  GsReplicaState state = { .size = sizeof state };
  gboolean there = FALSE;
  if (!replica_make (c, &replica))
    return;
  wrong = replica.repo;
  wrong.id += 1000;
  all_slots_refuse (c, &wrong, GS_ERROR_FAILED_PRECONDITION, GS_ERROR_DATA_LOSS);
  CHECK_OK (c, exists (c, &wrong, &there, &error));
  CHECK (c, there, "exists, of whatever repository", "not");
  CHECK_OK (c, get_state (c, &replica.repo, &state, &error));
}

static void
measured (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsRepoSize before = { .size = sizeof before }, after = { .size = sizeof after };
  Replica replica;
  GsOid oid;
  if (!replica_make (c, &replica))
    return;
  CHECK_OK (c, ops->measure (c->self, &call, &replica.repo, &before, &error));
  if (!write_one (c, &replica, "refs/heads/main", 1, &oid) || !write_one (c, &replica, "refs/tags/v1", 2, &oid))
    return;
  CHECK_OK (c, ops->measure (c->self, &call, &replica.repo, &after, &error));
  CHECK (c, before.n_refs == 0 && after.n_refs == 2, "0 refs, then 2", "%" G_GUINT64_FORMAT ", then %" G_GUINT64_FORMAT,
         before.n_refs, after.n_refs);
  CHECK (c,
         after.objects_bytes > before.objects_bytes && after.total_bytes >= after.objects_bytes + after.refs_bytes
             && after.n_packs > before.n_packs,
         "more objects and packs than before, and a total of it all", "%" G_GUINT64_FORMAT " bytes of objects",
         after.objects_bytes);
}

static void
durable (Conformance *c)
{
  GsReplicaState before = { .size = sizeof before }, after = { .size = sizeof after };
  GsRefQuery query = { .size = sizeof query, .include_head = TRUE };
  g_autofree char *refs_before = NULL, *refs_after = NULL;
  Replica replica;
  GsOid oid;
  gboolean there = FALSE;
  if (!replica_make (c, &replica) || !write_one (c, &replica, "refs/heads/main", 1, &oid)
      || !write_one (c, &replica, "refs/heads/topic/x", 2, &oid))
    return;
  CHECK_OK (c, get_state (c, &replica.repo, &before, &error));
  CHECK_OK (c, (refs_before = refs_text (c, &replica, &query, &error)) != NULL);
  CHECK_OK (c, conformance_restart (c, &error));
  CHECK_OK (c, exists (c, &replica.repo, &there, &error));
  if (!there)
    {
      conformance_skip (c, "the plugin keeps nothing over a restart");
      return;
    }
  CHECK_OK (c, get_state (c, &replica.repo, &after, &error));
  CHECK (c, after.generation == 2 && memcmp (&before.refs_digest, &after.refs_digest, sizeof before.refs_digest) == 0,
         "the same generation and digest", "generation %" G_GUINT64_FORMAT, after.generation);
  CHECK_OK (c, (refs_after = refs_text (c, &replica, &query, &error)) != NULL);
  CHECK (c, strcmp (refs_before, refs_after) == 0, "the same refs", "%s", refs_after);
}

/* -------------------------------------------------------------------------------------------- refs */

static gboolean
add_text (const GsRef *ref, gpointer user)
{
  GString *text = user;
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (&ref->oid, hex);
  hex[8] = '\0';
  if (ref->symref_target != NULL)
    g_string_append_printf (text, "%s->%s ", ref->name, ref->symref_target);
  else
    g_string_append_printf (text, "%s=%s ", ref->name, hex);
  return TRUE;
}

char *
refs_text (Conformance *c, const Replica *replica, const GsRefQuery *query, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GString) text = g_string_new (NULL);
  if (!ops->list_refs (c->self, &call, &replica->repo, query, add_text, text, error))
    return NULL;
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static gboolean
add_name (const GsRef *ref, gpointer user)
{
  g_string_append_printf (user, "%s ", ref->name);
  return TRUE;
}

static void
check_names (Conformance *c, const Replica *replica, const GsRefQuery *query, const char *expected)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GString) text = g_string_new (NULL);
  CHECK_OK (c, ops->list_refs (c->self, &call, &replica->repo, query, add_name, text, &error));
  CHECK (c, strcmp (text->str, expected) == 0, expected, "%s", text->str);
}

static void
refs_listed (Conformance *c)
{
  static const char *const names[]
      = { "refs/tags/v1", "refs/heads/b/c", "refs/heads/main", "refs/heads/b-x", "refs/heads/ü", "refs/notes/commits" };
  static const char *const heads[] = { "refs/heads/", NULL }, *const two[] = { "refs/heads/b", "refs/tags/v", NULL },
                           *const none[] = { NULL };
  Replica replica;
  GsOid oids[G_N_ELEMENTS (names)];
  GsRefUpdate updates[G_N_ELEMENTS (names)];
  g_autoptr (GBytes) pack = pack_commits (c, G_N_ELEMENTS (names), oids);
  gsize n = 0;
  if (!replica_make (c, &replica))
    return;
  for (gsize i = 0; i < G_N_ELEMENTS (names); i++)
    updates[n++] = update_create (names[i], &oids[i]);
  if (!write_refs (c, &replica, updates, n, pack, 1))
    return;
#define QUERY(...) (&(GsRefQuery){ .size = sizeof (GsRefQuery), __VA_ARGS__ })
  check_names (c, &replica, QUERY (.include_head = TRUE),
               "HEAD refs/heads/b-x refs/heads/b/c refs/heads/main refs/heads/ü refs/notes/commits refs/tags/v1 ");
  check_names (c, &replica, QUERY (.prefixes = none),
               "refs/heads/b-x refs/heads/b/c refs/heads/main refs/heads/ü refs/notes/commits refs/tags/v1 ");
  check_names (c, &replica, QUERY (.prefixes = heads), "refs/heads/b-x refs/heads/b/c refs/heads/main refs/heads/ü ");
  check_names (c, &replica, QUERY (.prefixes = two), "refs/heads/b-x refs/heads/b/c refs/tags/v1 ");
  check_names (c, &replica, QUERY (.after = "refs/heads/b/c"),
               "refs/heads/main refs/heads/ü refs/notes/commits refs/tags/v1 ");
  check_names (c, &replica, QUERY (.after = "refs/heads/b"),
               "refs/heads/b-x refs/heads/b/c refs/heads/main refs/heads/ü refs/notes/commits refs/tags/v1 ");
  check_names (c, &replica, QUERY (.after = "refs/heads/main", .include_head = TRUE),
               "refs/heads/ü refs/notes/commits refs/tags/v1 ");
  check_names (c, &replica, QUERY (.after = "refs/heads/b-x", .limit = 2), "refs/heads/b/c refs/heads/main ");
  check_names (c, &replica, QUERY (.prefixes = heads, .limit = 1, .after = "refs/heads/main"), "refs/heads/ü ");
  check_names (c, &replica, QUERY (.after = "refs/zzz"), "");
#undef QUERY
}

static gboolean
stop_at_ref (const GsRef *ref, gpointer user)
{
  ++*(guint *) user;
  return FALSE;
}

typedef struct
{
  guint n;
  GsOid oid, peeled;
  char name[64], target[64];
} SeenRef;

static gboolean
see_ref (const GsRef *ref, gpointer user)
{
  SeenRef *seen = user;
  seen->n++;
  seen->oid = ref->oid;
  seen->peeled = ref->peeled;
  g_strlcpy (seen->name, ref->name, sizeof seen->name);
  g_strlcpy (seen->target, ref->symref_target != NULL ? ref->symref_target : "", sizeof seen->target);
  return TRUE;
}

static void
refs_found (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsRefQuery query = { .size = sizeof query, .include_head = TRUE };
  Replica replica;
  SeenRef seen = { 0 };
  GsOid oid;
  guint n_visits = 0;
  if (!replica_make (c, &replica))
    return;
  CHECK_OK (c, ops->find_ref (c->self, &call, &replica.repo, "HEAD", see_ref, &seen, &error));
  CHECK (c, seen.n == 1 && strcmp (seen.target, "refs/heads/main") == 0 && seen.oid.len == 0,
         "HEAD to refs/heads/main, unborn", "%s, id of %d bytes", seen.target, seen.oid.len);
  CHECK_CODE (c, GS_ERROR_NOT_FOUND,
              ops->find_ref (c->self, &call, &replica.repo, "refs/heads/main", see_ref, &seen, &error));
  if (!write_one (c, &replica, "refs/heads/main", 1, &oid))
    return;
  memset (&seen, 0, sizeof seen);
  CHECK_OK (c, ops->find_ref (c->self, &call, &replica.repo, "refs/heads/main", see_ref, &seen, &error));
  CHECK (c,
         seen.n == 1 && strcmp (seen.name, "refs/heads/main") == 0 && gs_oid_equal (&seen.oid, &oid)
             && seen.peeled.len == 0 && seen.target[0] == '\0',
         "the branch at its commit", "%s", seen.name);
  memset (&seen, 0, sizeof seen);
  CHECK_OK (c, ops->find_ref (c->self, &call, &replica.repo, "HEAD", see_ref, &seen, &error));
  CHECK (c, strcmp (seen.target, "refs/heads/main") == 0 && gs_oid_equal (&seen.oid, &oid), "HEAD born, at that commit",
         "%s", seen.target);
  CHECK_CODE (c, GS_ERROR_NOT_FOUND,
              ops->find_ref (c->self, &call, &replica.repo, "refs/heads", see_ref, &seen, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND,
              ops->find_ref (c->self, &call, &replica.repo, "refs/heads/main/x", see_ref, &seen, &error));
  CHECK_OK (c, ops->list_refs (c->self, &call, &replica.repo, &query, stop_at_ref, &n_visits, &error));
  CHECK (c, n_visits == 1, "no visit after the visitor said stop", "%u", n_visits);
}

static void
many_refs (Conformance *c)
{
  enum
  {
    N = 600
  };
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree GsRefUpdate *updates = g_new0 (GsRefUpdate, N);
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  Replica replica;
  GsOid oid;
  g_autoptr (GBytes) pack = pack_commits (c, 1, &oid);
  guint n_seen = 0;
  char after[64] = "";
  if (!replica_make (c, &replica))
    return;
  for (guint i = 0; i < N; i++)
    {
      g_ptr_array_add (names, g_strdup_printf ("refs/heads/%02x/branch-%u", (i * 37) % 256, i));
      updates[i] = update_create (g_ptr_array_index (names, i), &oid);
    }
  if (!write_refs (c, &replica, updates, N, pack, 1))
    return;
  for (;;) /* by pages, as a client would */
    {
      SeenRef seen = { 0 };
      GsRefQuery query = { .size = sizeof query, .after = after, .limit = 50 };
      CHECK_OK (c, ops->list_refs (c->self, &call, &replica.repo, &query, see_ref, &seen, &error));
      if (seen.n == 0)
        break;
      CHECK (c, strcmp (seen.name, after) > 0, "pages in order", "%s after %s", seen.name, after);
      n_seen += seen.n;
      g_strlcpy (after, seen.name, sizeof after);
    }
  CHECK (c, n_seen == N, "each of 600 refs once, over all pages", "%u", n_seen);
}

const ConformanceCase conformance_storage[] = {
  { "S10", "a replica is created empty, once", created },
  { "S10", "bad paths and branches create nothing", not_created },
  { "S11", "a removed replica's path is free at once", removed },
  { "S12", "whether there is a replica at a path, of whatever repository", found },
  { "S13", "each replica is listed once", listed },
  { "S2", "a replica that is not there gives NOT_FOUND", absent },
  { "S2", "a replica of another repository is refused and not changed", another_repository },
  { "S14", "the size is measured", measured },
  { "S3", "what was committed survives a restart", durable, TRUE },
  { "S20", "refs in order of bytes, by prefixes, after and limit, HEAD first", refs_listed },
  { "S21", "one ref is found, HEAD too, born or not", refs_found },
  { "S20", "many refs, by pages", many_refs },
  { "S30", "what is staged is invisible until it is committed", stage_invisible },
  { "S30", "the vote is the digest of the changes, the same on every replica", stage_vote },
  { "S30", "refused updates stand in the verdicts, in the order of the request", stage_refusals },
  { "S30", "names that git would not take are refused", stage_bad_names },
  { "S30", "atomic: one refused refuses all", stage_atomic },
  { "S30", "names above and below each other", stage_conflicts },
  { "S30", "a damaged pack is refused and leaves nothing", stage_bad_pack },
  { "S31", "writes to different refs are staged side by side; one ref is locked", stage_side_by_side },
  { "S31", "of writers of one ref at once each generation has one", stage_one_ref_at_once },
  { "S33", "a commit raises generation and digest", commit_state },
  { "S33", "disjoint writes commit in any order", commit_out_of_order },
  { "S4", "readers see all of a commit or nothing", commit_all_or_nothing },
  { "S33", "HEAD is moved as part of a write", commit_head },
  { "S34", "an aborted write leaves nothing", abort_leaves_nothing },
  { "S41", "resolving what nobody knows is fine", resolve_unknown },
  { "S31", "writers of different refs at once", crowd_of_writers },
  { "S32", "a push is staged with its digest, invisible, and reported once it is committed", push_taken },
  { "S32", "a push that is dropped leaves nothing, and its client is told why", push_dropped },
  { "S34", "the client of a push that is dropped without a reason is not told that it is done", push_dropped_without_reason },
  { "S32", "a push that is given up, at whatever moment, holds no lock", push_given_up },
  { "S32", "a push whose commands are all refused has nothing to decide", push_refused },
  { "S32", "half a push of a client that has gone leaves nothing", push_left },
  { "S35", "the server's own refs are swapped with others, and seen by no client", own_refs_kept },
  { "S35", "a change set that is not the server's own cannot name its refs", own_refs_refused },
  { "S36", "of a repository without hooks nobody is asked, and every vote says so", hooks_absent },
  { "S40", "what a process that died had staged waits for its fate, and takes it", pending_after_death, TRUE },
  { "S42", "periodic care changes nothing that is seen, and ends when it is cancelled", maintained },
  { "S42", "periodic care beside writers", maintained_under_load },
  { "S50", "refs are advertised in every version of the protocol", refs_advertised },
  { "S51", "a stateless fetch gives a whole pack", fetch_request },
  { "S51", "a session gives the advertisement and a whole pack", fetch_session },
  { "S51", "a fetch of what is not there is refused in git's words", fetch_unknown },
  { "S60", "every form of revision leads to its object", revisions_resolve },
  { "S60", "malformed revisions are INVALID_ARGUMENT, absent ones NOT_FOUND", revisions_refused },
  { "S61", "an object is read, within its limit", objects_read },
  { "S62", "an object's bytes are streamed, small or large", objects_streamed },
  { "S63", "a tree is listed in git's order", trees_listed },
  { "S70", "an accessor of the Git API is answered, an unknown one UNIMPLEMENTED", api_answered },
  { "S71", "the same request computes the same change, and nothing is written", api_computed },
  { "S72", "a storage of another process says whether it is there", probed, TRUE },
  { "S74", "a storage of another process says which program it lives in", program_told, TRUE },
  { "S73", "a medium is the same when it is asked again, and after a restart", medium, TRUE },
  { "S80", "a copy of a replica is the replica, and goes on as it does", copy_whole },
  { "S80", "a copy without what the receiver has completes it", copy_part },
  { "S81", "a copy that is damaged, another's or cut short is not taken in", copy_refused },
  { "S81", "a copy waits for the end of a staged write", copy_beside_a_write },
  { "S82", "a replica that is read through is found whole, and left alone", read_through },
  { NULL, NULL, NULL },
};
