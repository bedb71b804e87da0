/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind METADATA: repositories, replicas and tokens. Decisions are in decisions.c. */
#include "metadata.h"

/* ------------------------------------------------------------------------------------- what rows hold */

void
seen_clear (Seen *seen)
{
  g_free (seen->path);
  g_free (seen->replica_path);
  g_free (seen->virtual_storage);
  memset (seen, 0, sizeof *seen);
}

gboolean
see_row (const GsRepoRow *row, gpointer user)
{
  Seen *seen = user;
  seen->n_calls++;
  g_free (seen->path);
  g_free (seen->replica_path);
  g_free (seen->virtual_storage);
  seen->id = row->id;
  seen->virtual_storage = g_strdup (row->virtual_storage);
  seen->path = g_strdup (row->path);
  seen->replica_path = g_strdup (row->replica_path);
  seen->format = row->format;
  seen->generation = row->generation;
  seen->refs_digest = row->refs_digest;
  seen->created_wall_us = row->created_wall_us;
  seen->copies = row->copies;
  g_strlcpy (seen->consistency, row->consistency, sizeof seen->consistency);
  seen->n_replicas = MIN (row->n_replicas, G_N_ELEMENTS (seen->replicas));
  for (gsize i = 0; i < seen->n_replicas; i++)
    {
      g_strlcpy (seen->replicas[i].storage, row->replicas[i]->storage, sizeof seen->replicas[i].storage);
      seen->replicas[i].generation = row->replicas[i]->generation;
      seen->replicas[i].verified_wall_us = row->replicas[i]->verified_wall_us;
      seen->replicas[i].scrubbed_wall_us = row->replicas[i]->scrubbed_wall_us;
    }
  return TRUE;
}

guint64
seen_replica (const Seen *seen, const char *storage)
{
  for (gsize i = 0; i < seen->n_replicas; i++)
    if (strcmp (seen->replicas[i].storage, storage) == 0)
      return seen->replicas[i].generation;
  return G_MAXUINT64;
}

gboolean
record_repo (Conformance *c, const char *path, const GsTxId *call_id, guint64 *ret_id, GError **error)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsReplicaRow one = { sizeof one, "alpha", 0, 0, 0 }, two = { sizeof two, "beta", 0, 0, 0 };
  const GsReplicaRow *replicas[] = { &one, &two };
  g_autofree char *replica_path = NULL;
  GsRepoRow row = { .size = sizeof row, .virtual_storage = VS, .path = path, .format = GS_FORMAT_SHA1 };
  guint64 id;
  if (!ops->repo_reserve (c->self, &call, VS, path, &id, error))
    return FALSE;
  replica_path = g_strdup_printf ("conformance/%" G_GUINT64_FORMAT, id);
  row.id = id;
  row.replica_path = replica_path;
  memset (row.refs_digest.bytes, 7, sizeof row.refs_digest.bytes);
  row.replicas = replicas;
  row.n_replicas = 2;
  if (!ops->repo_record (c->self, &call, &row, call_id, error))
    return FALSE;
  *ret_id = id;
  return TRUE;
}

guint64
make_repo (Conformance *c, const char *path)
{
  g_autoptr (GError) error = NULL;
  GsTxId none = { { 0 } };
  guint64 id = 0;
  if (!record_repo (c, path, &none, &id, &error))
    conformance_fail (c, "a repository to test with", "%s: %s", gs_error_name (gs_error_code (error)), error->message);
  return id;
}

static gboolean
find_repo (Conformance *c, const char *path, Seen *seen, GError **error)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  return ops->repo_find (c->self, &call, VS, path, see_row, seen, error);
}

/* ------------------------------------------------------------------------------------- repositories */

static void
round_trip (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "round trip ü");
  g_auto (Seen) seen = { 0 }, again = { 0 };
  guint64 id = make_repo (c, path);
  if (id == 0)
    return;
  CHECK_OK (c, find_repo (c, path, &seen, &error));
  CHECK (c, seen.n_calls == 1, "one visit", "%u visits", seen.n_calls);
  CHECK (c, seen.id == id && strcmp (seen.path, path) == 0 && strcmp (seen.virtual_storage, VS) == 0,
         "the row that was recorded", "id %" G_GUINT64_FORMAT ", path %s", seen.id, seen.path);
  CHECK (c, seen.format == GS_FORMAT_SHA1 && seen.generation == 0 && seen.refs_digest.bytes[31] == 7,
         "format, generation and digest as recorded", "%d, %" G_GUINT64_FORMAT ", %d", seen.format, seen.generation,
         seen.refs_digest.bytes[31]);
  CHECK (c, seen.created_wall_us > 0, "a time of creation", "%" G_GINT64_FORMAT, seen.created_wall_us);
  CHECK (c, seen.n_replicas == 2 && seen_replica (&seen, "alpha") == 0 && seen_replica (&seen, "beta") == 0,
         "replicas alpha and beta at 0", "%" G_GSIZE_FORMAT " replicas", seen.n_replicas);
  CHECK_OK (c, ops->repo_get (c->self, &call, id, see_row, &again, &error));
  CHECK (c, again.id == id && strcmp (again.path, path) == 0, "the same row by id", "path %s", again.path);
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->repo_get (c->self, &call, id + 1000000, see_row, &again, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->repo_find (c->self, &call, "another", path, see_row, &again, &error));
}

static void
reserve_writes_nothing (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "reserved");
  g_auto (Seen) seen = { 0 };
  guint64 first = 0, second = 0;
  CHECK_OK (c, ops->repo_reserve (c->self, &call, VS, path, &first, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, find_repo (c, path, &seen, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->repo_get (c->self, &call, first, see_row, &seen, &error));
  CHECK_OK (c, ops->repo_reserve (c->self, &call, VS, path, &second, &error));
  CHECK (c, first != 0 && second != 0 && first != second, "two different ids",
         "%" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT, first, second);
}

static void
name_taken (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "taken");
  GsRepoRow row = { .size = sizeof row, .virtual_storage = VS, .path = path, .format = GS_FORMAT_SHA256 };
  GsTxId none = { { 0 } };
  g_auto (Seen) seen = { 0 };
  guint64 early = 0, id, late = 77;
  g_autofree char *replica_path = NULL;
  CHECK_OK (c, ops->repo_reserve (c->self, &call, VS, path, &early, &error));
  id = make_repo (c, path);
  if (id == 0)
    return;
  CHECK_CODE (c, GS_ERROR_ALREADY_EXISTS, ops->repo_reserve (c->self, &call, VS, path, &late, &error));
  CHECK (c, late == 77, "[M6] the id untouched on failure", "%" G_GUINT64_FORMAT, late);
  row.id = early;
  row.replica_path = replica_path = g_strdup_printf ("conformance/%" G_GUINT64_FORMAT, early);
  CHECK_CODE (c, GS_ERROR_ALREADY_EXISTS, ops->repo_record (c->self, &call, &row, &none, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->repo_get (c->self, &call, early, see_row, &seen, &error));
  CHECK_OK (c, find_repo (c, path, &seen, &error));
  CHECK (c, seen.id == id, "the first repository untouched", "id %" G_GUINT64_FORMAT, seen.id);
}

static void
case_tricks (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "Straße-é"), *upper = conformance_path (c, "STRASSE-É"),
                  *composed = conformance_path (c, "Straße-e\xcc\x81"), *other = conformance_path (c, "other");
  g_autoptr (GError) why = NULL;
  guint64 id;
  if (make_repo (c, path) == 0 || make_repo (c, other) == 0)
    return;
  CHECK (c, !ops->repo_reserve (c->self, &call, VS, upper, &id, &why), "no name that differs in case only",
         "it was taken");
  CHECK (c, gs_error_code (why) == GS_ERROR_ALREADY_EXISTS && strstr (why->message, path) != NULL,
         "ALREADY_EXISTS naming the repository it collides with", "%s", why->message);
  CHECK_CODE (c, GS_ERROR_ALREADY_EXISTS, ops->repo_reserve (c->self, &call, VS, composed, &id, &error));
  CHECK_CODE (c, GS_ERROR_ALREADY_EXISTS, ops->repo_rename (c->self, &call, VS, other, upper, &error));
  CHECK_OK (c, ops->repo_rename (c->self, &call, VS, path, upper, &error)); /* its own name, in other letters */
}

typedef struct
{
  GPtrArray *paths;
  gsize stop_after;
} Listed;

static gboolean
list_row (const GsRepoRow *row, gpointer user)
{
  Listed *listed = user;
  g_ptr_array_add (listed->paths, g_strdup (row->path));
  return listed->paths->len != listed->stop_after;
}

static char *
list_text (Conformance *c, const char *prefix, const char *after, gsize limit, gsize stop_after, GError **error)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GPtrArray) paths = g_ptr_array_new_with_free_func (g_free);
  Listed listed = { paths, stop_after };
  g_autoptr (GString) text = g_string_new (NULL);
  if (!ops->repo_list (c->self, &call, VS, prefix, after, limit, list_row, &listed, error))
    return NULL;
  for (guint i = 0; i < paths->len; i++)
    {
      char *name = strrchr (g_ptr_array_index (paths, i), '/');
      g_string_append (text, name != NULL ? name + 1 : "?");
      g_string_append_c (text, ' ');
    }
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static void
check_list (Conformance *c, const char *prefix, const char *after, gsize limit, gsize stop_after, const char *expected)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *got = list_text (c, prefix, after, limit, stop_after, &error);
  if (got == NULL || strcmp (got, expected) != 0)
    conformance_fail (c, expected, "%s (prefix %s, after %s, limit %" G_GSIZE_FORMAT ")",
                      got != NULL ? got : error->message, prefix, after, limit);
}

static void
listing (Conformance *c)
{
  static const char *const names[] = { "list/b", "list/B2", "list/a", "list/a-b", "list/a0", "list/ü", "list2/x" };
  g_autofree char *prefix = g_strdup_printf ("conformance-%s/list/", c->tag), *after = NULL, *whole = NULL;
  for (gsize i = 0; i < G_N_ELEMENTS (names); i++)
    {
      g_autofree char *path = conformance_path (c, names[i]);
      if (make_repo (c, path) == 0)
        return;
    }
  after = g_strconcat (prefix, "a.git", NULL);
  whole = g_strdup_printf ("conformance-%s/list", c->tag);
  check_list (c, prefix, "", 100, 0, "B2.git a-b.git a.git a0.git b.git ü.git ");
  check_list (c, prefix, after, 100, 0, "a0.git b.git ü.git ");
  check_list (c, prefix, after, 2, 0, "a0.git b.git ");
  check_list (c, prefix, "", 100, 2, "B2.git a-b.git ");
  check_list (c, prefix, "zzz", 100, 0, "");
  check_list (c, prefix, "A", 1, 0, "B2.git ");
  check_list (c, whole, "", 100, 0, "B2.git a-b.git a.git a0.git b.git ü.git x.git ");
}

static void
renaming (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "before"), *next = conformance_path (c, "after"),
                  *other = conformance_path (c, "in-the-way"), *replica_path = NULL;
  g_auto (Seen) seen = { 0 }, gone = { 0 };
  guint64 id = make_repo (c, path);
  if (id == 0 || make_repo (c, other) == 0)
    return;
  CHECK_OK (c, find_repo (c, path, &seen, &error));
  replica_path = g_strdup (seen.replica_path);
  CHECK_CODE (c, GS_ERROR_ALREADY_EXISTS, ops->repo_rename (c->self, &call, VS, path, other, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->repo_rename (c->self, &call, VS, next, path, &error));
  CHECK_OK (c, ops->repo_rename (c->self, &call, VS, path, next, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, find_repo (c, path, &gone, &error));
  CHECK_OK (c, find_repo (c, next, &seen, &error));
  CHECK (c, seen.id == id && strcmp (seen.replica_path, replica_path) == 0, "the same id and replica path", "%s",
         seen.replica_path);
  CHECK (c, make_repo (c, path) != 0, "the old name free again", "it was not");
}

static void
deleting (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "deleted");
  GsTxId none = { { 0 } };
  g_auto (Seen) seen = { 0 }, gone = { 0 };
  GsRepoRow row = { .size = sizeof row, .virtual_storage = VS, .path = path, .format = GS_FORMAT_SHA1 };
  guint64 id = make_repo (c, path), next;
  if (id == 0)
    return;
  CHECK_OK (c, ops->repo_delete (c->self, &call, VS, path, see_row, &seen, &error));
  CHECK (c, seen.n_calls == 1 && seen.id == id && seen.n_replicas == 2, "one visit with the row as it was",
         "%u visits, id %" G_GUINT64_FORMAT ", %" G_GSIZE_FORMAT " replicas", seen.n_calls, seen.id, seen.n_replicas);
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, find_repo (c, path, &gone, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->repo_get (c->self, &call, id, see_row, &gone, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->repo_delete (c->self, &call, VS, path, see_row, &gone, &error));
  next = make_repo (c, path);
  CHECK (c, next != 0 && next != id, "a new id for the same path", "%" G_GUINT64_FORMAT, next);
  CHECK_OK (c, ops->repo_delete (c->self, &call, VS, path, see_row, &gone, &error));
  row.id = id;
  row.replica_path = "conformance/again";
  CHECK_CODE (c, GS_ERROR_ALREADY_EXISTS, ops->repo_record (c->self, &call, &row, &none, &error));
}

static void
ids_survive_restarts (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GHashTable) ids = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  g_autofree char *path = conformance_path (c, "ids");
  g_auto (Seen) seen = { 0 };
  for (int round = 0; round < 4; round++)
    {
      guint64 id = 0;
      if (round % 2 == 0)
        CHECK_OK (c, ops->repo_reserve (c->self, &call, VS, path, &id, &error)); /* the newest id, not recorded */
      else
        {
          id = make_repo (c, path); /* the newest id, recorded and deleted */
          CHECK_OK (c, ops->repo_delete (c->self, &call, VS, path, see_row, &seen, &error));
        }
      CHECK (c, g_hash_table_add (ids, g_memdup2 (&id, sizeof id)), "an id that was never given out",
             "%" G_GUINT64_FORMAT " again", id);
      CHECK_OK (c, conformance_restart (c, &error));
    }
}

static void
reserve_body (Conformance *c, guint index, gpointer user)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  guint64 *ids = user;
  g_autofree char *path = conformance_path (c, "reserved-at-once");
  for (int i = 0; i < 25; i++)
    CHECK_OK (c, ops->repo_reserve (c->self, &call, VS, path, &ids[index * 25 + i], &error));
}

static void
reserve_at_once (Conformance *c)
{
  guint64 ids[4 * 25] = { 0 };
  g_autoptr (GHashTable) seen = g_hash_table_new (g_int64_hash, g_int64_equal);
  conformance_parallel (c, 4, reserve_body, ids);
  if (c->skipped != NULL || conformance_has_failed (c))
    return;
  for (gsize i = 0; i < G_N_ELEMENTS (ids); i++)
    CHECK (c, g_hash_table_add (seen, &ids[i]), "100 different ids", "%" G_GUINT64_FORMAT " twice", ids[i]);
}

static void
create_body (Conformance *c, guint index, gpointer user)
{
  g_autoptr (GError) error = NULL;
  GsTxId none = { { 0 } };
  gint *n_made = user;
  for (int i = 0; i < 10; i++)
    {
      g_autofree char *name = g_strdup_printf ("contended-%d", i), *path = conformance_path (c, name);
      guint64 id;
      g_clear_error (&error);
      if (record_repo (c, path, &none, &id, &error))
        g_atomic_int_inc (n_made);
      else
        CHECK (c, gs_error_code (error) == GS_ERROR_ALREADY_EXISTS, "ALREADY_EXISTS", "%s", error->message);
    }
}

static void
create_at_once (Conformance *c)
{
  gint n_made = 0;
  conformance_parallel (c, 4, create_body, &n_made);
  CHECK (c, c->skipped != NULL || n_made == 10, "each of 10 contended names taken once", "%d were made", n_made);
}

static void
created_by (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsTxId call_id = conformance_txid (c), other = conformance_txid (c), none = { { 0 } };
  g_autofree char *path = conformance_path (c, "created-by");
  guint64 id = 0, found = 99;
  CHECK_OK (c, ops->repo_created_by (c->self, &call, &call_id, &found, &error));
  CHECK (c, found == 0, "0: it created none", "%" G_GUINT64_FORMAT, found);
  CHECK_OK (c, record_repo (c, path, &call_id, &id, &error));
  CHECK_OK (c, ops->repo_created_by (c->self, &call, &call_id, &found, &error));
  CHECK (c, found == id, "the id that the call created", "%" G_GUINT64_FORMAT, found);
  CHECK_OK (c, ops->repo_created_by (c->self, &call, &other, &found, &error));
  CHECK (c, found == 0, "0 for another call", "%" G_GUINT64_FORMAT, found);
  CHECK_OK (c, ops->repo_created_by (c->self, &call, &none, &found, &error));
  CHECK (c, found == 0, "0 for no call id", "%" G_GUINT64_FORMAT, found);
}

static void
bad_paths (Conformance *c)
{
  static const char *const paths[] = { "", "a\nb", "a\x01", "bad\xff" };
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *huge = g_strnfill (100000, 'a'), *good = conformance_path (c, "good");
  guint64 id = 5;
  if (make_repo (c, good) == 0)
    return;
  for (gsize i = 0; i < G_N_ELEMENTS (paths); i++)
    {
      CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, ops->repo_reserve (c->self, &call, VS, paths[i], &id, &error));
      CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, ops->repo_rename (c->self, &call, VS, good, paths[i], &error));
    }
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, ops->repo_reserve (c->self, &call, VS, huge, &id, &error));
  CHECK (c, id == 5, "[M6] the id untouched on failure", "%" G_GUINT64_FORMAT, id);
}

/* ----------------------------------------------------------------------------------------- replicas */

static void
replicas (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *path = conformance_path (c, "replicas");
  g_auto (Seen) seen = { 0 };
  guint64 id = make_repo (c, path), generation;
  if (id == 0)
    return;
  for (guint64 i = 0; i < 3; i++)
    CHECK_OK (c, decide_simple (c, id, i, "alpha", NULL, &generation, &error));
  CHECK_OK (c, ops->replica_set (c->self, &call, id, "beta", 2, FALSE, &error));
  CHECK_OK (c, ops->replica_set (c->self, &call, id, "beta", 1, FALSE, &error));
  CHECK_OK (c, find_repo (c, path, &seen, &error));
  CHECK (c, seen_replica (&seen, "beta") == 2, "beta at 2: never lowered without force", "%" G_GUINT64_FORMAT,
         seen_replica (&seen, "beta"));
  CHECK_OK (c, ops->replica_set (c->self, &call, id, "beta", 1, TRUE, &error));
  CHECK_OK (c, ops->replica_set (c->self, &call, id, "gamma", 3, FALSE, &error)); /* a new replica, after a repair */
  CHECK_OK (c, find_repo (c, path, &seen, &error));
  CHECK (c,
         seen_replica (&seen, "beta") == 1 && seen_replica (&seen, "gamma") == 3 && seen_replica (&seen, "alpha") == 3,
         "beta lowered by force, gamma added, alpha as it was", "beta %" G_GUINT64_FORMAT ", gamma %" G_GUINT64_FORMAT,
         seen_replica (&seen, "beta"), seen_replica (&seen, "gamma"));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->replica_set (c->self, &call, id + 1000000, "beta", 0, FALSE, &error));
  CHECK_CODE (c, GS_ERROR_FAILED_PRECONDITION, ops->replica_set (c->self, &call, id, "beta", 4, FALSE, &error));
}

/* ------------------------------------------------------------------------------------------- tokens */

typedef struct
{
  guint n;
  char id[64], name[64], prefix[64];
  guint8 verifier[64];
  guint32 scope;
  gint64 created_wall_us, expires_wall_us;
  const char *only;
} SeenToken;

static gboolean
see_token (const GsTokenRow *row, gpointer user)
{
  SeenToken *seen = user;
  if (seen->only != NULL && strcmp (seen->only, row->id) != 0)
    return TRUE;
  seen->n++;
  g_strlcpy (seen->id, row->id, sizeof seen->id);
  g_strlcpy (seen->name, row->name, sizeof seen->name);
  g_strlcpy (seen->prefix, row->prefix, sizeof seen->prefix);
  memcpy (seen->verifier, row->verifier, sizeof seen->verifier);
  seen->scope = row->scope;
  seen->created_wall_us = row->created_wall_us;
  seen->expires_wall_us = row->expires_wall_us;
  return TRUE;
}

static void
tokens (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  guint8 verifier[64];
  GsTokenRow row = { sizeof row, c->tag, "CI – ü", verifier, 2, "group/", 1234567890123456, 2234567890123456 };
  SeenToken seen = { 0 }, listed = { .only = c->tag };
  for (guint i = 0; i < sizeof verifier; i++)
    verifier[i] = (guint8) (i * 5);
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->token_get (c->self, &call, c->tag, see_token, &seen, &error));
  CHECK_OK (c, ops->token_put (c->self, &call, &row, &error));
  CHECK_CODE (c, GS_ERROR_ALREADY_EXISTS, ops->token_put (c->self, &call, &row, &error));
  if (conformance_keeps (c))
    CHECK_OK (c, conformance_restart (c, &error));
  CHECK_OK (c, ops->token_get (c->self, &call, c->tag, see_token, &seen, &error));
  CHECK (c,
         seen.n == 1 && strcmp (seen.id, c->tag) == 0 && strcmp (seen.name, row.name) == 0
             && strcmp (seen.prefix, row.prefix) == 0 && memcmp (seen.verifier, verifier, 64) == 0 && seen.scope == 2
             && seen.created_wall_us == row.created_wall_us && seen.expires_wall_us == row.expires_wall_us,
         "the token as it was put", "name %s, scope %u", seen.name, seen.scope);
  CHECK_OK (c, ops->token_list (c->self, &call, see_token, &listed, &error));
  CHECK (c, listed.n == 1, "the token in the list once", "%u times", listed.n);
  CHECK_OK (c, ops->token_delete (c->self, &call, c->tag, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->token_get (c->self, &call, c->tag, see_token, &seen, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->token_delete (c->self, &call, c->tag, &error));
}

/* ---------------------------------------------------------------------------------------------- calls */

static void
migrated (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  guint pending = 99;
  CHECK_OK (c, ops->migrate (c->self, &call, TRUE, &pending, &error));
  CHECK (c, pending == 0, "no step missing in a store that serves", "%u", pending);
  CHECK_OK (c, ops->migrate (c->self, &call, FALSE, &pending, &error));
  CHECK (c, pending == 0, "migrating again does nothing", "%u", pending);
}

static void
stopped_calls (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall cancelled = conformance_call (c, 0), late = conformance_call (c, 1);
  g_autofree char *path = conformance_path (c, "stopped");
  g_auto (Seen) seen = { 0 };
  guint64 id = make_repo (c, path);
  if (id == 0)
    return;
  late.deadline_us = g_get_monotonic_time () - 1;
  cancelled.cancelled = 1;
  CHECK_CODE (c, GS_ERROR_CANCELLED, ops->repo_delete (c->self, &cancelled, VS, path, see_row, &seen, &error));
  CHECK_CODE (c, GS_ERROR_DEADLINE_EXCEEDED, ops->repo_delete (c->self, &late, VS, path, see_row, &seen, &error));
  CHECK (c, seen.n_calls == 0, "no visit", "%u", seen.n_calls);
  CHECK_OK (c, find_repo (c, path, &seen, &error));
}

const ConformanceCase conformance_metadata[] = {
  { "M1", "a recorded repository is found by path and by id, as it was recorded", round_trip },
  { "M1", "reserving an id records nothing", reserve_writes_nothing },
  { "M1", "a name is taken once, also when it was reserved before; a refused record leaves nothing", name_taken },
  { "M8", "names that differ only in case or composition collide, and the message says with which", case_tricks },
  { "M1", "listing goes in order of bytes, within prefix, after, limit and until the visitor stops", listing },
  { "M1", "renaming keeps id and replica path and frees the old name", renaming },
  { "M4", "deleting shows the row, frees the name and never the id", deleting },
  { "M4", "ids are not reused after restarts, recorded or not", ids_survive_restarts, TRUE },
  { "M5", "ids reserved at once are all different", reserve_at_once },
  { "M5", "of repositories recorded at once under one name one is made", create_at_once },
  { "M1", "a repository is found by the call that created it", created_by },
  { "M6", "paths that cannot be kept are refused", bad_paths },
  { "M1", "replicas are raised, lowered only by force, and added", replicas },
  { "M1", "tokens are kept, listed and deleted", tokens, TRUE },
  { "M1", "a store that serves has no migration missing", migrated },
  { "M1", "cancelled and late calls do nothing", stopped_calls },
  { "M2", "a decision raises the generation by one, for the voters too; a stale one is ABORTED", decide_once },
  { "M2", "of decisions at once for one generation one succeeds", decide_at_once },
  { "M2", "a repeated transaction gets its first generation", decide_again },
  { "M2", "one call is decided once, whatever its transactions", decide_same_call },
  { "M2", "without a repository, a voter or a known replica nothing is decided", decide_nowhere },
  { "M10", "a voter that was taken out of use, or is no replica, is not counted: ABORTED, and the rest may go on",
    decide_out_of_use },
  { "M3", "aborted stays aborted, decided stays decided", abort_and_decide },
  { "M3", "abort and decision at once: one holds, and all are told the same", abort_at_once },
  { "M1", "a change is read back as it was decided, by transaction, by call and in order", changes_read_back },
  { "M1", "decisions and abort marks survive a restart", decisions_survive, TRUE },
  { "M5", "many writers and readers at once", crowd },
  { "M10", "a voter that missed an earlier write counts when that is given up, and stays behind until it is repaired",
    latecomers },
  { "M1", "how many copies and which consistency a repository should have is kept", policies, TRUE },
  { "M1", "repositories are listed in order of id, all or those on one storage", listing_by_id, TRUE },
  { "M1", "a replica is forgotten, but neither the only nor the only current one", dropping },
  { "M1", "when a replica was verified and scrubbed is kept", verifying },
  { "M1", "a node is kept as it reported, in the state that operators gave it", nodes_report, TRUE },
  { "M1", "two nodes of one name or one disk, removed and taken over ones are refused", nodes_refused },
  { "M9", "a lease has one holder, ends by its time, and its tokens rise", leases, TRUE },
  { "M9", "of takers of a lease at once one gets it", lease_race },
  { "M1", "a job is queued once, due at the earlier time, and shown to who takes it", jobs_queue, TRUE },
  { "M1", "a job that failed is queued again or given up, one that was done stays as history", jobs_end },
  { "M9", "jobs of one lane on one repository run one after the other", jobs_lanes },
  { "M9", "a job whose lease ran out is another's, and the token of the first is worth nothing", jobs_leases },
  { "M1", "jobs are listed by state, repository, kind and target, and pruned when they are old", jobs_list, TRUE },
  { "M9", "workers at once: every job is done once, one at a time per repository", jobs_race },
  { "M5", "whoever waits for jobs is woken", hints },
  { "M7", "a store that is cut off is UNAVAILABLE, did nothing, and answers again later", unreachable, TRUE },
  { "M7", "a lost answer is UNAVAILABLE only where nothing was done", answers_lost, TRUE },
  { NULL, NULL, NULL },
};
