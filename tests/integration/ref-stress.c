/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref-stress SECONDS [SEED]: the ref store and stock git at work in one repository at the same time.
 *
 * Our threads create, update and delete refs of their own (loose, packed, in bulk among 100,000, swapping directory and
 * file); git updates and deletes others in a loop; both write some shared ones; git and we pack all the time. A model
 * says what each ref must hold. Every commit is checked by its writer at once, refs that are never deleted by every
 * reader all the time, everything at the end, by us and by git. Exit code 0 when no ref was lost, hidden or torn.
 */
#include "fsutil.h"
#include "refs.h"

#include <gitstead/thread.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_VALUES 4096
#define N_BULK 100000
#define BULK_STEP 300
#define N_OWN 40
#define N_WRITERS 3
#define N_SWAPPERS 2
#define N_SHARED 8
#define N_GIT 12
#define MAX_BATCH 512

typedef struct
{
  char *dir;
  RefStore *store;
  GsOid values[N_VALUES]; /* commits that exist */
  GHashTable *known;      /* GsOid; constant after set-up */
  gint stop;              /* atomic, as all below */
  gint faults;
  gint commits, retries, updates, deletions, bulk_updates, swaps, snapshots, other_snapshots;
  gint git_updates, git_failures, git_packs, git_lists, own_packs;
} Stress;

typedef struct
{
  Stress *stress;
  guint number;
  GRand *rand;
  guint next_value;
  GHashTable *model; /* name → index of value; absent: no such ref */
} Actor;

static void G_GNUC_PRINTF (2, 3)
fault (Stress *stress, const char *format, ...)
{
  va_list args;
  if (g_atomic_int_add (&stress->faults, 1) >= 20)
    return;
  va_start (args, format);
  fprintf (stderr, "FAULT ");
  vfprintf (stderr, format, args);
  fprintf (stderr, "\n");
  va_end (args);
}

static guint
value_hash (gconstpointer key)
{
  guint hash;
  memcpy (&hash, ((const GsOid *) key)->raw, sizeof hash);
  return hash;
}

static gboolean
value_equal (gconstpointer a, gconstpointer b)
{
  return gs_oid_equal (a, b);
}

static gboolean
peel (gpointer user, const GsOid *oid, GsOid *ret_peeled, gboolean *ret_is_commit, GError **error)
{
  Stress *stress = user;
  memset (ret_peeled, 0, sizeof *ret_peeled);
  *ret_is_commit = TRUE;
  return g_hash_table_contains (stress->known, oid) || gs_fail (error, GS_ERROR_NOT_FOUND, "no such object");
}

/* -------------------------------------------------------------------------------------------- git */

/** Runs git with @input (may be NULL) on its standard input. */
static gboolean
run_git (Stress *stress, const char *input, const char *arguments, char **ret_output)
{
  g_autofree char *path = NULL, *command = NULL;
  g_autoptr (GError) error = NULL;
  int status = -1;
  if (input != NULL)
    {
      int fd = g_file_open_tmp ("ref-stress-XXXXXX", &path, NULL);
      if (fd < 0 || !fsu_write_all (fd, input, strlen (input), path, NULL))
        return FALSE;
      close (fd);
    }
  command = g_strdup_printf ("exec git --git-dir=\"$1\" -c core.filesRefLockTimeout=60000 -c core.packedRefsTimeout=100 "
                             "-c user.name=s -c user.email=s@example.org %s <%s", arguments, path ? path : "/dev/null");
  {
    const char *argv[] = { "sh", "-c", command, "sh", stress->dir, NULL };
    if (!g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH | (ret_output ? 0 : G_SPAWN_STDOUT_TO_DEV_NULL)
                       | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, ret_output, NULL, &status, &error))
      fprintf (stderr, "ref-stress: %s\n", error->message);
  }
  if (path != NULL)
    unlink (path);
  return status == 0;
}

static void
set_up (Stress *stress)
{
  g_autoptr (GString) script = g_string_new (NULL);
  g_autofree char *init = NULL, *output = NULL;
  g_auto (GStrv) lines = NULL;
  guint n = 0;
  stress->dir = g_dir_make_tmp ("gitstead-stress-XXXXXX", NULL);
  stress->known = g_hash_table_new (value_hash, value_equal);
  if (!run_git (stress, NULL, "init -q --bare -b main \"$1\"", NULL))
    exit (2);
  for (guint i = 0; i < N_VALUES; i++)
    g_string_append_printf (script, "commit refs/heads/seed\ncommitter s <s@example.org> %u +0000\ndata 1\nx\n\n",
                            1000000000 + i);
  if (!run_git (stress, script->str, "fast-import --quiet", NULL)
      || !run_git (stress, NULL, "rev-list refs/heads/seed", &output))
    exit (2);
  lines = g_strsplit (output, "\n", 0);
  for (guint i = 0; lines[i] != NULL && n < N_VALUES; i++)
    if (gs_oid_parse (lines[i], strlen (lines[i]), &stress->values[n]))
      {
        g_hash_table_add (stress->known, &stress->values[n]);
        n++;
      }
  if (n != N_VALUES)
    exit (2);
}

static char *
value_hex (Stress *stress, guint value)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (&stress->values[value], hex);
  return g_strdup (hex);
}

/* ------------------------------------------------------------------------------------- transactions */

/** A new value, not used by this actor for long: git's own pruning confuses a ref made again with the same one. */
static guint
fresh_value (Actor *actor)
{
  return actor->next_value++ % N_VALUES;
}

static void
make_txid (Actor *actor, GsTxId *ret_txid)
{
  memset (ret_txid, 0, sizeof *ret_txid);
  for (guint i = 0; i < 3; i++)
    {
      guint32 dice = g_rand_int (actor->rand);
      memcpy (ret_txid->bytes + 4 * i, &dice, sizeof dice);
    }
  ret_txid->bytes[15] = (guint8) actor->number;
}

/** The batch until it is committed. FALSE: refused for good, or time is up. */
static gboolean
write_batch (Actor *actor, const GsRefUpdate *updates, gsize n)
{
  Stress *stress = actor->stress;
  g_autofree GsRefVerdict *verdicts = g_new0 (GsRefVerdict, n);
  g_autoptr (GError) error = NULL;
  for (;;)
    {
      RefTxn *txn = NULL;
      GsTxId txid;
      gboolean again = FALSE;
      make_txid (actor, &txid);
      if (!ref_store_prepare (stress->store, NULL, &txid, updates, n, TRUE, NULL, verdicts, &txn, &error))
        {
          fault (stress, "prepare: %s", error->message);
          return FALSE;
        }
      for (gsize i = 0; i < n; i++)
        {
          if (verdicts[i].code == GS_ERROR_ABORTED)
            again = TRUE;
          else if (verdicts[i].code != GS_OK)
            {
              fault (stress, "%s refused: %s", updates[i].name, verdicts[i].reason);
              again = FALSE;
              i = n;
              break;
            }
        }
      for (gsize i = 0; i < n; i++)
        g_clear_pointer (&verdicts[i].reason, g_free);
      if (txn == NULL)
        {
          if (!again || g_atomic_int_get (&stress->stop) > 1)
            return FALSE;
          g_atomic_int_inc (&stress->retries);
          continue;
        }
      if (g_rand_int_range (actor->rand, 0, 20) == 0)
        {
          ref_txn_abort (txn);
          continue;
        }
      if (!ref_txn_commit (txn, 1, &error) || !ref_txn_finish (txn, &error))
        {
          fault (stress, "commit: %s", error->message);
          return FALSE;
        }
      g_atomic_int_inc (&stress->commits);
      return TRUE;
    }
}

/** A model's batch, with exact old values; the model is brought forward when it is committed. */
static void
write_model (Actor *actor, char *const *names, const int *values, guint n)
{
  Stress *stress = actor->stress;
  GsRefUpdate updates[MAX_BATCH] = { { 0 } };
  const GsOid zero = { .len = 20 };
  for (guint i = 0; i < n; i++)
    {
      gpointer now;
      gboolean exists = g_hash_table_lookup_extended (actor->model, names[i], NULL, &now);
      updates[i] = (GsRefUpdate) { names[i], exists ? stress->values[GPOINTER_TO_UINT (now)] : zero,
                                   values[i] < 0 ? zero : stress->values[values[i]], NULL };
    }
  if (!write_batch (actor, updates, n))
    return;
  for (guint i = 0; i < n; i++)
    if (values[i] < 0)
      {
        g_hash_table_remove (actor->model, names[i]);
        g_atomic_int_inc (&stress->deletions);
      }
    else
      {
        g_hash_table_replace (actor->model, g_strdup (names[i]), GUINT_TO_POINTER ((guint) values[i]));
        g_atomic_int_inc (&stress->updates);
      }
}

/** What @snapshot says of @name against the model. */
static void
check_name (Actor *actor, RefSnapshot *snapshot, const char *name, const char *who)
{
  gpointer value;
  gboolean expected = g_hash_table_lookup_extended (actor->model, name, NULL, &value);
  RefEntry entry;
  gboolean found = ref_snapshot_find (snapshot, name, &entry);
  if (found != expected)
    fault (actor->stress, "%s: %s is %s", who, name, found ? "there though deleted" : "lost");
  else if (found && !gs_oid_equal (&entry.oid, &actor->stress->values[GPOINTER_TO_UINT (value)]))
    fault (actor->stress, "%s: %s has an old value", who, name);
  else if (found && entry.missing)
    fault (actor->stress, "%s: %s is said to have no object", who, name);
}

/** Leaves the lock of packed-refs to others at times; git, which only polls for it, would hardly ever get it. */
static void
pace (Actor *actor, guint most_us)
{
  g_usleep ((gulong) g_rand_int_range (actor->rand, 0, (gint) most_us));
}

static RefSnapshot *
look (Stress *stress, RefStore *store)
{
  g_autoptr (GError) error = NULL;
  RefSnapshot *snapshot = ref_store_snapshot (store, &error);
  if (snapshot == NULL)
    fault (stress, "snapshot: %s", error->message);
  return snapshot;
}

/** As check_names, once our store looked at the files again: beside a commit of ours it need not for 100 ms. */
static void
check_names_soon (Actor *actor, char *const *names, guint n, const char *who)
{
  gint64 until_us = g_get_monotonic_time () + 110 * 1000;
  for (;;)
    {
      gboolean last = g_get_monotonic_time () > until_us, same = TRUE;
      RefSnapshot *snapshot = look (actor->stress, actor->stress->store);
      for (guint i = 0; snapshot != NULL && i < n; i++)
        {
          gpointer value;
          gboolean expected = g_hash_table_lookup_extended (actor->model, names[i], NULL, &value);
          RefEntry entry;
          if (last)
            check_name (actor, snapshot, names[i], who);
          else if (ref_snapshot_find (snapshot, names[i], &entry) != expected
                   || (expected && !gs_oid_equal (&entry.oid, &actor->stress->values[GPOINTER_TO_UINT (value)])))
            same = FALSE;
        }
      ref_snapshot_unref (snapshot);
      if (last || same)
        return;
    }
}

static void
check_names (Actor *actor, char *const *names, guint n, const char *who)
{
  RefSnapshot *snapshot = look (actor->stress, actor->stress->store);
  for (guint i = 0; snapshot != NULL && i < n; i++)
    check_name (actor, snapshot, names[i], who);
  ref_snapshot_unref (snapshot);
}

/* ------------------------------------------------------------------------------------------- actors */

/** Few refs, often: created, moved, deleted; number 0 of each is never deleted. */
static void *
writes_own (void *user)
{
  Actor *actor = user;
  char *names[N_OWN];
  for (guint i = 0; i < N_OWN; i++)
    names[i] = g_strdup_printf ("refs/heads/own%u/%s%02u", actor->number, i % 3 ? "" : "deep/er/", i);
  while (!g_atomic_int_get (&actor->stress->stop) && !g_atomic_int_get (&actor->stress->faults))
    {
      char *batch[3];
      int values[3];
      guint first = (guint) g_rand_int_range (actor->rand, 0, N_OWN), n = (guint) g_rand_int_range (actor->rand, 1, 4);
      for (guint i = 0; i < n; i++)
        {
          guint which = (first + i * 7) % N_OWN;
          gboolean delete = which != 0 && g_rand_int_range (actor->rand, 0, 12) == 0;
          batch[i] = names[which];
          values[i] = delete ? -1 : (int) fresh_value (actor);
        }
      write_model (actor, batch, values, n);
      check_names (actor, names, N_OWN, "writer");
      pace (actor, 60 * 1000);
    }
  for (guint i = 0; i < N_OWN; i++)
    g_free (names[i]);
  return NULL;
}

/** One batch deletes x and makes x/y; the next the other way round. */
static void *
swaps (void *user)
{
  Actor *actor = user;
  char *names[3];
  guint now = 0;
  for (guint i = 0; i < 3; i++)
    names[i] = g_strdup_printf ("refs/heads/swap%u%s", actor->number, i == 0 ? "" : i == 1 ? "/y" : "/y/z");
  while (!g_atomic_int_get (&actor->stress->stop) && !g_atomic_int_get (&actor->stress->faults))
    {
      guint then = (now + 1 + (guint) g_rand_int_range (actor->rand, 0, 2)) % 3;
      char *batch[2] = { names[now], names[then] };
      int values[2] = { -1, (int) fresh_value (actor) };
      write_model (actor, batch, values, 2);
      now = then;
      check_names (actor, names, 3, "swapper");
      g_atomic_int_inc (&actor->stress->swaps);
      pace (actor, 400 * 1000);
    }
  for (guint i = 0; i < 3; i++)
    g_free (names[i]);
  return NULL;
}

/** Among the hundred thousand: bulk moves, and deletions of odd ones, which come back. */
static void *
writes_bulk (void *user)
{
  Actor *actor = user;
  Stress *stress = actor->stress;
  while (!g_atomic_int_get (&stress->stop) && !g_atomic_int_get (&stress->faults))
    {
      char *names[BULK_STEP];
      int values[BULK_STEP];
      guint first = (guint) g_rand_int_range (actor->rand, 0, N_BULK - 2 * BULK_STEP);
      guint n = g_rand_boolean (actor->rand) ? BULK_STEP : 5; /* over and under the threshold */
      for (guint i = 0; i < n; i++)
        {
          guint which = first + 2 * i + (guint) g_rand_int_range (actor->rand, 0, 2);
          names[i] = g_strdup_printf ("refs/bulk/%06u", which);
          values[i] = which % 2 && g_rand_int_range (actor->rand, 0, 3) == 0 ? -1 : (int) fresh_value (actor);
        }
      write_model (actor, names, values, n);
      check_names (actor, names, n, "bulk writer");
      g_atomic_int_add (&stress->bulk_updates, (gint) n);
      for (guint i = 0; i < n; i++)
        g_free (names[i]);
      pace (actor, 600 * 1000);
    }
  return NULL;
}

/** Shared refs, without looking at the old value. */
static void *
writes_shared (void *user)
{
  Actor *actor = user;
  while (!g_atomic_int_get (&actor->stress->stop) && !g_atomic_int_get (&actor->stress->faults))
    {
      g_autofree char *name = g_strdup_printf ("refs/heads/shared/%d", g_rand_int_range (actor->rand, 0, N_SHARED));
      GsRefUpdate update = { name, { 0 }, actor->stress->values[fresh_value (actor)], NULL };
      write_batch (actor, &update, 1);
    }
  return NULL;
}

static void *
packs (void *user)
{
  Actor *actor = user;
  while (!g_atomic_int_get (&actor->stress->stop) && !g_atomic_int_get (&actor->stress->faults))
    {
      g_autoptr (GError) error = NULL;
      if (ref_store_pack (actor->stress->store, FALSE, &error))
        g_atomic_int_inc (&actor->stress->own_packs);
      else if (error->code != GS_ERROR_ABORTED)
        fault (actor->stress, "pack: %s", error->message);
      pace (actor, 1000 * 1000);
    }
  return NULL;
}

static void *
git_packs (void *user)
{
  Actor *actor = user;
  while (!g_atomic_int_get (&actor->stress->stop) && !g_atomic_int_get (&actor->stress->faults))
    if (run_git (actor->stress, NULL, "pack-refs --all --prune", NULL))
      g_atomic_int_inc (&actor->stress->git_packs);
    else
      g_atomic_int_inc (&actor->stress->git_failures);
  return NULL;
}

/** git's own refs and shared ones by git update-ref; what git said is done must be seen by us. */
static void *
git_writes (void *user)
{
  Actor *actor = user;
  Stress *stress = actor->stress;
  char *names[N_GIT];
  for (guint i = 0; i < N_GIT; i++)
    names[i] = g_strdup_printf ("refs/heads/git/%s%02u", i % 2 ? "sub/" : "", i);
  while (!g_atomic_int_get (&stress->stop) && !g_atomic_int_get (&stress->faults))
    {
      g_autoptr (GString) script = g_string_new (NULL);
      g_autofree char *shared = value_hex (stress, fresh_value (actor));
      guint first = (guint) g_rand_int_range (actor->rand, 0, N_GIT);
      int values[3];
      for (guint i = 0; i < 3; i++)
        {
          guint which = (first + i) % N_GIT;
          gboolean delete = which != 0 && g_hash_table_contains (actor->model, names[which])
                            && g_rand_int_range (actor->rand, 0, 4) == 0;
          g_autofree char *hex = NULL;
          values[i] = delete ? -1 : (int) fresh_value (actor);
          hex = delete ? NULL : value_hex (stress, (guint) values[i]);
          g_string_append_printf (script, delete ? "delete %s\n" : "update %s %s\n", names[which], hex);
        }
      g_string_append_printf (script, "update refs/heads/shared/%d %s\n", g_rand_int_range (actor->rand, 0, N_SHARED),
                              shared);
      if (!run_git (stress, script->str, "update-ref --stdin", NULL))
        {
          g_atomic_int_inc (&stress->git_failures);
          continue;
        }
      for (guint i = 0; i < 3; i++)
        {
          const char *name = names[(first + i) % N_GIT];
          if (values[i] < 0)
            g_hash_table_remove (actor->model, name);
          else
            g_hash_table_replace (actor->model, g_strdup (name), GUINT_TO_POINTER ((guint) values[i]));
        }
      g_atomic_int_inc (&stress->git_updates);
      check_names_soon (actor, names, N_GIT, "git");
    }
  for (guint i = 0; i < N_GIT; i++)
    g_free (names[i]);
  return NULL;
}

/** What is never deleted is in every snapshot; shared refs hold something that was written. */
static void
check_permanent (Actor *actor, RefSnapshot *snapshot)
{
  Stress *stress = actor->stress;
  RefEntry entry;
  for (guint i = 0; i < N_WRITERS; i++)
    {
      g_autofree char *name = g_strdup_printf ("refs/heads/own%u/deep/er/00", i);
      if (!ref_snapshot_find (snapshot, name, &entry) || !g_hash_table_contains (stress->known, &entry.oid))
        fault (stress, "reader: %s lost or torn", name);
    }
  for (guint i = 0; i < N_SHARED; i++)
    {
      g_autofree char *name = g_strdup_printf ("refs/heads/shared/%u", i);
      if (!ref_snapshot_find (snapshot, name, &entry) || !g_hash_table_contains (stress->known, &entry.oid))
        fault (stress, "reader: %s lost or torn", name);
    }
  for (guint i = 0; i < 50; i++)
    {
      g_autofree char *name = g_strdup_printf ("refs/bulk/%06d", g_rand_int_range (actor->rand, 0, N_BULK / 2) * 2);
      if (!ref_snapshot_find (snapshot, name, &entry) || !g_hash_table_contains (stress->known, &entry.oid))
        fault (stress, "reader: %s lost or torn", name);
    }
  if (ref_snapshot_count (snapshot) < N_BULK / 2)
    fault (stress, "reader: only %" G_GSIZE_FORMAT " refs", ref_snapshot_count (snapshot));
}

static void *
reads (void *user)
{
  Actor *actor = user;
  while (!g_atomic_int_get (&actor->stress->stop) && !g_atomic_int_get (&actor->stress->faults))
    {
      RefSnapshot *snapshot = look (actor->stress, actor->stress->store);
      if (snapshot != NULL)
        check_permanent (actor, snapshot);
      ref_snapshot_unref (snapshot);
      g_atomic_int_inc (&actor->stress->snapshots);
    }
  return NULL;
}

static RefStoreOptions
store_options (Stress *stress)
{
  return (RefStoreOptions) { .format = GS_FORMAT_SHA1, .peel = peel, .user = stress,
                             .lock_wait_us = 30 * G_USEC_PER_SEC, .bulk_threshold = 200, .pack_threshold = 64 };
}

/** A store of its own, like another process: all it knows comes from the files. */
static void *
reads_from_files (void *user)
{
  Actor *actor = user;
  RefStoreOptions options = store_options (actor->stress);
  RefStore *store = ref_store_open (actor->stress->dir, &options, NULL);
  while (!g_atomic_int_get (&actor->stress->stop) && !g_atomic_int_get (&actor->stress->faults))
    {
      RefSnapshot *snapshot = look (actor->stress, store);
      if (snapshot != NULL)
        check_permanent (actor, snapshot);
      ref_snapshot_unref (snapshot);
      g_atomic_int_inc (&actor->stress->other_snapshots);
    }
  ref_store_free (store);
  return NULL;
}

/** What git sees of the permanent ones. */
static void *
git_reads (void *user)
{
  Actor *actor = user;
  while (!g_atomic_int_get (&actor->stress->stop) && !g_atomic_int_get (&actor->stress->faults))
    {
      g_autofree char *output = NULL;
      g_auto (GStrv) lines = NULL;
      if (!run_git (actor->stress, NULL, "for-each-ref --format='%(refname)' refs/heads/own0/deep/er/00 "
                                         "refs/heads/own1/deep/er/00 refs/heads/own2/deep/er/00 refs/heads/shared", &output))
        {
          fault (actor->stress, "git for-each-ref failed");
          continue;
        }
      lines = g_strsplit (output, "\n", 0);
      if (g_strv_length (lines) - 1 != N_WRITERS + N_SHARED)
        fault (actor->stress, "git lists %u permanent refs instead of %u", g_strv_length (lines) - 1,
               N_WRITERS + N_SHARED);
      g_atomic_int_inc (&actor->stress->git_lists);
    }
  return NULL;
}

/* ----------------------------------------------------------------------------------------- all of it */

typedef struct
{
  void *(*run) (void *);
  guint number;
} Role;

static const Role roles[]
    = { { writes_own, 0 },  { writes_own, 1 }, { writes_own, 2 }, { swaps, 3 },      { swaps, 4 },
        { writes_bulk, 5 }, { git_writes, 6 }, { writes_shared, 7 }, { packs, 8 },   { git_packs, 9 },
        { reads, 10 },      { reads, 11 },     { reads_from_files, 12 }, { git_reads, 13 } };

static void
actor_init (Actor *actor, Stress *stress, guint number, guint seed)
{
  actor->stress = stress;
  actor->number = number;
  actor->rand = g_rand_new_with_seed (seed * 100 + number);
  actor->next_value = (guint) g_rand_int_range (actor->rand, 0, N_VALUES);
  actor->model = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
}

/** All refs that are never deleted, and the hundred thousand in one transaction. */
static void
make_first_refs (Stress *stress, Actor *actors)
{
  g_autofree GsRefUpdate *updates = g_new0 (GsRefUpdate, N_BULK);
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < N_BULK; i++)
    {
      char *name = g_strdup_printf ("refs/bulk/%06u", i);
      g_ptr_array_add (names, name);
      updates[i] = (GsRefUpdate) { name, { .len = 20 }, stress->values[i % N_VALUES], NULL };
      g_hash_table_insert (actors[5].model, g_strdup (name), GUINT_TO_POINTER (i % N_VALUES));
    }
  while (!write_batch (&actors[5], updates, N_BULK) && !stress->faults)
    ;
  for (guint i = 0; i < N_WRITERS; i++)
    {
      char *name = g_strdup_printf ("refs/heads/own%u/deep/er/00", i);
      int value = 0;
      g_ptr_array_add (names, name);
      write_model (&actors[i], &name, &value, 1);
    }
  for (guint i = 0; i < N_SWAPPERS; i++)
    {
      char *name = g_strdup_printf ("refs/heads/swap%u", N_WRITERS + i);
      int value = 0;
      g_ptr_array_add (names, name);
      write_model (&actors[N_WRITERS + i], &name, &value, 1);
    }
  for (guint i = 0; i < N_SHARED; i++)
    {
      char *name = g_strdup_printf ("refs/heads/shared/%u", i);
      GsRefUpdate update = { name, { .len = 20 }, stress->values[0], NULL };
      g_ptr_array_add (names, name);
      write_batch (&actors[0], &update, 1);
    }
}

/** Every model against a store opened anew and against git. */
static void
check_end (Stress *stress, Actor *actors, guint n_actors)
{
  RefStoreOptions options = store_options (stress);
  RefStore *store = ref_store_open (stress->dir, &options, NULL);
  RefSnapshot *ours = look (stress, store), *live = look (stress, stress->store);
  g_autofree char *output = NULL;
  g_autoptr (GString) listing = g_string_new (NULL);
  gsize expected = N_SHARED + 1; /* and the seed */
  GsDigest left, right;
  if (ours == NULL || live == NULL)
    return;
  for (guint i = 0; i < n_actors; i++)
    {
      GHashTableIter iter;
      gpointer name;
      g_hash_table_iter_init (&iter, actors[i].model);
      while (g_hash_table_iter_next (&iter, &name, NULL))
        {
          check_name (&actors[i], ours, name, "end");
          check_name (&actors[i], live, name, "end, live");
        }
      expected += g_hash_table_size (actors[i].model);
    }
  if (ref_snapshot_count (ours) != expected)
    fault (stress, "end: %" G_GSIZE_FORMAT " refs instead of %" G_GSIZE_FORMAT, ref_snapshot_count (ours), expected);
  ref_snapshot_digest (ours, &left);
  ref_snapshot_digest (live, &right);
  if (memcmp (&left, &right, sizeof left) != 0)
    fault (stress, "end: the digest kept along is not the one computed anew");
  for (gsize i = 0; i < ref_snapshot_count (ours); i++)
    {
      RefEntry entry;
      char hex[GS_OID_HEX_MAX + 1];
      ref_snapshot_get (ours, i, &entry);
      gs_oid_hex (&entry.oid, hex);
      g_string_append_printf (listing, "%s %s\n", hex, entry.name);
    }
  if (!run_git (stress, NULL, "show-ref", &output) || strcmp (output, listing->str) != 0)
    fault (stress, "end: git lists other refs than we do");
  if (!run_git (stress, NULL, "fsck --no-dangling --connectivity-only", NULL))
    fault (stress, "end: git fsck finds faults");
  ref_snapshot_unref (ours);
  ref_snapshot_unref (live);
  ref_store_free (store);
}

static void
check_leftovers (Stress *stress)
{
  const char *argv[] = { "find", ".", "(", "-name", "*.lock", "-o", "-name", "packed-refs.new", "-o", "-path",
                         "./gitstead/journal/*", "-o", "-name", ".gitstead-tmp-*", ")", NULL };
  g_autofree char *output = NULL;
  if (!g_spawn_sync (stress->dir, (char **) argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &output, NULL, NULL, NULL)
      || *output != '\0')
    fault (stress, "end: left behind: %s", output ? output : "?");
}

int
main (int argc, char **argv)
{
  Stress stress = { 0 };
  Actor actors[G_N_ELEMENTS (roles)] = { 0 };
  GsThread threads[G_N_ELEMENTS (roles)];
  guint seconds = argc > 1 ? (guint) atoi (argv[1]) : 10;
  guint seed = argc > 2 ? (guint) atoi (argv[2]) : (guint) (g_get_real_time () % 1000000);
  RefStoreOptions options;
  gint64 end;
  printf ("ref-stress: %u s, seed %u\n", seconds, seed);
  set_up (&stress);
  options = store_options (&stress);
  stress.store = ref_store_open (stress.dir, &options, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (roles); i++)
    actor_init (&actors[i], &stress, roles[i].number, seed);
  make_first_refs (&stress, actors);
  end = g_get_monotonic_time () + (gint64) seconds * G_USEC_PER_SEC;
  for (guint i = 0; i < G_N_ELEMENTS (roles); i++)
    if (gs_thread_start (&threads[i], "stress", roles[i].run, &actors[i]) != 0)
      exit (2);
  while (g_get_monotonic_time () < end && !g_atomic_int_get (&stress.faults))
    g_usleep (50 * 1000);
  g_atomic_int_set (&stress.stop, 1);
  for (guint i = 0; i < G_N_ELEMENTS (roles); i++)
    gs_thread_join (threads[i]);
  check_end (&stress, actors, G_N_ELEMENTS (roles));
  check_leftovers (&stress);
  printf ("ours: %d commits (%d updates, %d deletions; %d in bulk batches, %d swaps), %d retries, %d packs\n",
          stress.commits, stress.updates, stress.deletions, stress.bulk_updates, stress.swaps, stress.retries,
          stress.own_packs);
  printf ("git:  %d update-ref batches, %d pack-refs, %d for-each-ref, %d refused by locks\n", stress.git_updates,
          stress.git_packs, stress.git_lists, stress.git_failures);
  printf ("read: %d snapshots of the live store, %d of one that knows only the files\n", stress.snapshots,
          stress.other_snapshots);
  printf ("faults: %d\n", stress.faults);
  if (stress.faults == 0)
    fsu_remove_tree (AT_FDCWD, stress.dir, NULL);
  else
    printf ("kept: %s\n", stress.dir);
  ref_store_free (stress.store);
  for (guint i = 0; i < G_N_ELEMENTS (roles); i++)
    {
      g_rand_free (actors[i].rand);
      g_hash_table_unref (actors[i].model);
    }
  g_hash_table_unref (stress.known);
  g_free (stress.dir);
  return stress.faults != 0;
}
