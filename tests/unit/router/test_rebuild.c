/* SPDX-License-Identifier: Apache-2.0 */
/* Records made of what replicas say of themselves: the rules, whatever order things are found in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "router/rebuild.h"

#define KIND(kind_) GITSTEAD__V1__CLUSTER_REBUILD_CONFLICT_KIND__CLUSTER_REBUILD_##kind_

/* @path NULL: it has no label. */
static GsiSeen *
replica (guint64 id, const char *storage, guint64 generation, guint8 digest, guint64 version, const char *path)
{
  GsiSeen *seen = g_new0 (GsiSeen, 1);
  seen->id = id;
  seen->storage = storage;
  seen->replica_path = g_strdup_printf ("@r/%" G_GUINT64_FORMAT ".git", id);
  seen->generation = generation;
  seen->refs_digest.bytes[0] = digest;
  seen->format = GS_FORMAT_SHA1;
  if (path == NULL)
    return seen;
  seen->version = version;
  seen->virtual_storage = g_strdup ("default");
  seen->path = g_strdup (path);
  seen->consistency = g_strdup ("");
  seen->created_us = 77;
  return seen;
}

/* The list of them, in each of the orders that turning it gives. *full*. */
static GPtrArray *
seen_list (guint turn, gsize n, GsiSeen **replicas)
{
  GPtrArray *list = g_ptr_array_new_with_free_func (gsi_seen_free);
  for (gsize i = 0; i < n; i++)
    g_ptr_array_add (list, replicas[(i + turn) % n]);
  return list;
}

static guint
count (const GPtrArray *conflicts, Gitstead__V1__ClusterRebuildConflictKind kind)
{
  guint n = 0;
  for (guint i = 0; i < conflicts->len; i++)
    n += ((GsiConflict *) conflicts->pdata[i])->kind == kind;
  return n;
}

static guint64
generation_on (const GsiRebuilt *rebuilt, const char *storage)
{
  for (guint i = 0; i < rebuilt->replicas->len; i++)
    if (strcmp (((GsiSeen *) rebuilt->replicas->pdata[i])->storage, storage) == 0)
      return ((GsiSeen *) rebuilt->replicas->pdata[i])->generation;
  return G_MAXUINT64;
}

static void
highest_generation_holds (void **state)
{
  for (guint turn = 0; turn < 3; turn++)
    {
      GsiSeen *replicas[] = { replica (4, "one", 7, 1, 10, "a.git"), replica (4, "two", 9, 2, 10, "a.git"),
                              replica (4, "three", 9, 2, 10, "a.git") };
      g_autoptr (GPtrArray) seen = seen_list (turn, 3, replicas);
      g_autoptr (GPtrArray) conflicts = g_ptr_array_new_with_free_func (gsi_conflict_free);
      GsiRebuilt *rebuilt = gsi_rebuild_merge (seen, conflicts);
      assert_int_equal (rebuilt->id, 4);
      assert_int_equal (rebuilt->generation, 9);
      assert_int_equal (rebuilt->refs_digest.bytes[0], 2);
      assert_int_equal (rebuilt->created_us, 77);
      assert_false (rebuilt->lost);
      assert_int_equal (generation_on (rebuilt, "one"), 7);
      assert_int_equal (generation_on (rebuilt, "three"), 9);
      assert_int_equal (conflicts->len, 1);
      assert_int_equal (count (conflicts, KIND (BEHIND)), 1);
      gsi_rebuilt_free (rebuilt);
    }
}

/* Also where most have the same: nobody knows what was decided. */
static void
differing_refs_are_not_trusted (void **state)
{
  for (guint turn = 0; turn < 3; turn++)
    {
      GsiSeen *replicas[] = { replica (4, "one", 9, 1, 10, "a.git"), replica (4, "two", 9, 2, 10, "a.git"),
                              replica (4, "three", 9, 2, 10, "a.git") };
      static const GsDigest nothing;
      g_autoptr (GPtrArray) seen = seen_list (turn, 3, replicas);
      g_autoptr (GPtrArray) conflicts = g_ptr_array_new_with_free_func (gsi_conflict_free);
      GsiRebuilt *rebuilt = gsi_rebuild_merge (seen, conflicts);
      assert_true (rebuilt->lost);
      assert_int_equal (rebuilt->generation, 10); /* more than any of them has */
      assert_memory_equal (&rebuilt->refs_digest, &nothing, sizeof nothing);
      assert_int_equal (rebuilt->replicas->len, 3);
      assert_int_equal (count (conflicts, KIND (DIVERGED)), 1);
      gsi_rebuilt_free (rebuilt);
    }
}

static void
newest_label_names_it (void **state)
{
  for (guint turn = 0; turn < 3; turn++)
    {
      /* The one with most writes was away when the repository was renamed. */
      GsiSeen *replicas[] = { replica (4, "one", 9, 1, 10, "old.git"), replica (4, "two", 8, 2, 11, "new.git"),
                              replica (4, "three", 9, 1, 0, NULL) };
      g_autoptr (GPtrArray) conflicts = g_ptr_array_new_with_free_func (gsi_conflict_free);
      g_autoptr (GPtrArray) seen = NULL;
      GsiRebuilt *rebuilt;
      replicas[1]->copies = 2;
      seen = seen_list (turn, 3, replicas);
      rebuilt = gsi_rebuild_merge (seen, conflicts);
      assert_string_equal (rebuilt->path, "new.git");
      assert_int_equal (rebuilt->copies, 2);
      assert_int_equal (rebuilt->version, 11);
      assert_int_equal (count (conflicts, KIND (NAMES_DIFFER)), 0);
      gsi_rebuilt_free (rebuilt);
    }
}

static void
names_that_differ_are_told (void **state)
{
  GsiSeen *replicas[] = { replica (4, "one", 9, 1, 10, "a.git"), replica (4, "two", 9, 1, 10, "b.git") };
  g_autoptr (GPtrArray) seen = seen_list (0, 2, replicas);
  g_autoptr (GPtrArray) conflicts = g_ptr_array_new_with_free_func (gsi_conflict_free);
  GsiRebuilt *rebuilt = gsi_rebuild_merge (seen, conflicts);
  assert_string_equal (rebuilt->path, "a.git");
  assert_int_equal (conflicts->len, 1);
  assert_int_equal (count (conflicts, KIND (NAMES_DIFFER)), 1);
  gsi_rebuilt_free (rebuilt);
}

static void
without_a_name (void **state)
{
  GsiSeen *replicas[] = { replica (42, "one", 9, 1, 0, NULL) };
  g_autoptr (GPtrArray) seen = seen_list (0, 1, replicas);
  g_autoptr (GPtrArray) conflicts = g_ptr_array_new_with_free_func (gsi_conflict_free);
  GsiRebuilt *rebuilt = gsi_rebuild_merge (seen, conflicts);
  assert_string_equal (rebuilt->path, "lost-and-found/42.git");
  assert_null (rebuilt->virtual_storage);
  assert_int_equal (count (conflicts, KIND (NAMELESS)), 1);
  gsi_rebuilt_free (rebuilt);
}

/* A copy in another folder, which perhaps somebody made by hand, is left out; so is a second one on the same storage. */
static void
in_another_folder (void **state)
{
  GsiSeen *replicas[] = { replica (4, "one", 9, 1, 10, "a.git"), replica (4, "two", 9, 1, 10, "a.git"),
                          replica (4, "two", 8, 1, 10, "a.git") };
  g_autoptr (GPtrArray) conflicts = g_ptr_array_new_with_free_func (gsi_conflict_free);
  g_autoptr (GPtrArray) seen = NULL;
  GsiRebuilt *rebuilt;
  g_free (replicas[2]->replica_path);
  replicas[2]->replica_path = g_strdup ("@r/elsewhere.git");
  seen = seen_list (1, 3, replicas);
  rebuilt = gsi_rebuild_merge (seen, conflicts);
  assert_int_equal (rebuilt->replicas->len, 2);
  assert_int_equal (generation_on (rebuilt, "two"), 9);
  assert_int_equal (conflicts->len, 1);
  assert_int_equal (count (conflicts, KIND (MISPLACED)), 1);
  assert_true (((GsiConflict *) conflicts->pdata[0])->blocks);
  gsi_rebuilt_free (rebuilt);
}

static gboolean
taken (const char *virtual_storage, const char *path, gpointer user)
{
  return strcmp (path, "recorded.git") == 0;
}

static void
one_path_each (void **state)
{
  GsiSeen *first = replica (1, "one", 1, 1, 30, "Same.git"), *second = replica (2, "one", 1, 1, 20, "same.git"),
          *third = replica (3, "one", 1, 1, 40, "recorded.git"), *fourth = replica (4, "one", 1, 1, 10, "free.git");
  GsiSeen *const each[] = { fourth, second, first, third };
  g_autoptr (GPtrArray) conflicts = g_ptr_array_new_with_free_func (gsi_conflict_free);
  g_autoptr (GPtrArray) all = g_ptr_array_new_with_free_func (gsi_rebuilt_free);
  GPtrArray *lists[4];
  static const char *const paths[] = { "Same.git", "lost-and-found/2/same.git", "lost-and-found/3/recorded.git", "free.git" };
  for (gsize i = 0; i < 4; i++)
    {
      lists[i] = g_ptr_array_new_with_free_func (gsi_seen_free);
      g_ptr_array_add (lists[i], each[i]);
      g_ptr_array_add (all, gsi_rebuild_merge (lists[i], conflicts));
    }
  gsi_rebuild_names (all, taken, NULL, conflicts);
  for (guint i = 0; i < 4; i++)
    {
      assert_int_equal (((GsiRebuilt *) all->pdata[i])->id, i + 1);
      assert_string_equal (((GsiRebuilt *) all->pdata[i])->path, paths[i]);
    }
  assert_int_equal (count (conflicts, KIND (PATH_TAKEN)), 2);
  assert_int_equal (conflicts->len, 2);
  g_ptr_array_set_size (all, 0);
  for (gsize i = 0; i < 4; i++)
    g_ptr_array_unref (lists[i]);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (highest_generation_holds),
                                      cmocka_unit_test (differing_refs_are_not_trusted),
                                      cmocka_unit_test (newest_label_names_it),
                                      cmocka_unit_test (names_that_differ_are_told),
                                      cmocka_unit_test (without_a_name),
                                      cmocka_unit_test (in_another_folder),
                                      cmocka_unit_test (one_path_each) };
  return cmocka_run_group_tests_name ("records made of replicas", tests, NULL, NULL);
}
