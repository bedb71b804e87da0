/* SPDX-License-Identifier: Apache-2.0 */
/* refs-list [COUNT]: lists COUNT (100000) packed refs with our ref store and with git for-each-ref; prints both. */
#include "fsutil.h"
#include "refs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 7

static gint64
spawn_us (const char *dir, const char *const *argv)
{
  gint64 begin = g_get_monotonic_time ();
  int status;
  g_autoptr (GError) error = NULL;
  if (!g_spawn_sync (dir, (char **) argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
                     NULL, &status, &error)
      || status != 0)
    {
      fprintf (stderr, "refs-list: %s failed: %s\n", argv[1], error ? error->message : "exit code");
      exit (1);
    }
  return g_get_monotonic_time () - begin;
}

/** A repository of @count packed branches on one commit. */
static void
make_repository (const char *dir, guint count)
{
  static const char *const init[] = { "git", "init", "-q", "--bare", ".", NULL };
  const char *commit[] = { "git", "-c", "user.name=b", "-c", "user.email=b@example.org", "commit-tree", "-m", "c",
                           "4b825dc642cb6eb9a060e54bf8d69288fbee4904", NULL };
  static const char *const tree[] = { "git", "mktree", NULL };
  g_autofree char *hex = NULL, *path = g_build_filename (dir, "packed-refs", NULL);
  GString *text = g_string_new ("# pack-refs with: peeled fully-peeled sorted \n");
  spawn_us (dir, init);
  spawn_us (dir, tree);
  if (!g_spawn_sync (dir, (char **) commit, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &hex, NULL, NULL, NULL))
    exit (1);
  g_strchomp (hex);
  for (guint i = 0; i < count; i++)
    g_string_append_printf (text, "%s refs/heads/branch-number-%07u\n", hex, i);
  if (!g_file_set_contents (path, text->str, (gssize) text->len, NULL))
    exit (1);
  g_string_free (text, TRUE);
}

/** One listing: every name and id is looked at. Opens the store when *@store is NULL. */
static gint64
list_us (const char *dir, RefStore **store, guint count)
{
  const RefStoreOptions options = { .format = GS_FORMAT_SHA1 };
  gint64 begin = g_get_monotonic_time ();
  RefSnapshot *snapshot;
  gsize bytes = 0;
  if (*store == NULL)
    *store = ref_store_open (dir, &options, NULL);
  snapshot = *store ? ref_store_snapshot (*store, NULL) : NULL;
  if (snapshot == NULL || ref_snapshot_count (snapshot) != count)
    {
      fprintf (stderr, "refs-list: the store does not list %u refs\n", count);
      exit (1);
    }
  for (gsize i = 0; i < count; i++)
    {
      RefEntry entry;
      char hex[GS_OID_HEX_MAX + 1];
      ref_snapshot_get (snapshot, i, &entry);
      gs_oid_hex (&entry.oid, hex);
      bytes += entry.name_len + (gsize) hex[0];
    }
  ref_snapshot_unref (snapshot);
  if (bytes == 0)
    exit (1);
  return g_get_monotonic_time () - begin;
}

int
main (int argc, char **argv)
{
  static const char *const each[] = { "git", "for-each-ref", NULL };
  static const char *const names[] = { "git", "for-each-ref", "--format=%(objectname) %(refname)", NULL };
  guint count = argc > 1 ? (guint) atoi (argv[1]) : 100000;
  g_autofree char *dir = g_dir_make_tmp ("gitstead-bench-XXXXXX", NULL);
  gint64 git_us = G_MAXINT64, plain_us = G_MAXINT64, cold_us = G_MAXINT64, warm_us = G_MAXINT64;
  RefStore *store = NULL;
  make_repository (dir, count);
  for (guint i = 0; i < ROUNDS; i++)
    {
      RefStore *fresh = NULL;
      git_us = MIN (git_us, spawn_us (dir, each));
      plain_us = MIN (plain_us, spawn_us (dir, names));
      cold_us = MIN (cold_us, list_us (dir, &fresh, count));
      ref_store_free (fresh);
      warm_us = MIN (warm_us, list_us (dir, &store, count));
    }
  ref_store_free (store);
  printf ("%u packed refs, best of %d\n", count, ROUNDS);
  printf ("git for-each-ref                    %9.2f ms\n", git_us / 1000.0);
  printf ("git for-each-ref, id and name only  %9.2f ms\n", plain_us / 1000.0);
  printf ("ref store, opened anew              %9.2f ms   %.1f times faster than for-each-ref\n", cold_us / 1000.0,
          (double) git_us / cold_us);
  printf ("ref store, as a server has it       %9.2f ms   %.1f times faster than for-each-ref\n", warm_us / 1000.0,
          (double) git_us / warm_us);
  fsu_remove_tree (AT_FDCWD, dir, NULL);
  return 0;
}
