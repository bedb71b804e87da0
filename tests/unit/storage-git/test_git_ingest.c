/* SPDX-License-Identifier: Apache-2.0 */
/* Small packs taken in natively: what is taken is what git index-pack --strict takes, byte for byte; nothing else is.
 */
#include "common.h"

#include "child.h"
#include "disk.h"
#include "draft.h"
#include "ingest.h"
#include "pathcheck.h"

#include <git2.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct
{
  Fixture *f;
  GsRepo where;
  Repo *repo;
  ObjectHandle *handle;
  char *objects; /* a fresh quarantine's */
  char *name;
} Bench;

static void
bench_open (Bench *b)
{
  g_autoptr (GError) error = NULL;
  GsTxId txid;
  b->f = fixture_new (NULL, NULL);
  b->where = fixture_create (b->f, 1);
  b->repo = repo_open (b->f->self, &b->where, FALSE, &error);
  assert_non_null (b->repo);
  b->handle = odb_borrow (b->repo, &error);
  b->f->host->host.random (&b->f->host->host, txid.bytes, sizeof txid.bytes);
  assert_true (quarantine_make (b->repo, &txid, &b->name, &error));
  b->objects = quarantine_objects_dir (b->repo, b->name);
}

static void
bench_close (Bench *b)
{
  quarantine_drop (b->repo, b->name);
  odb_return (b->repo, b->handle);
  repo_close (b->repo, FALSE);
  g_free (b->name);
  g_free (b->objects);
  fixture_free (b->f);
}

/* Takes the pack and removes what was written. */
static gboolean
taken (Bench *b, GBytes *pack)
{
  g_autoptr (GError) error = NULL;
  gboolean is = FALSE;
  assert_true (ingest_pack (b->repo, &b->f->call->call, pack, b->objects, &is, &error));
  g_autofree char *packs = g_build_filename (b->objects, "pack", NULL);
  g_autoptr (GPtrArray) names = disk_names (packs, &error);
  assert_non_null (names);
  assert_int_equal (names->len, is ? 2 : 0);
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *file = g_build_filename (packs, names->pdata[i], NULL);
      assert_int_equal (unlink (file), 0);
    }
  return is;
}

/* Does git's own strict check take it, in a repository that has nothing? */
static gboolean
git_takes (Bench *b, GBytes *pack)
{
  int status;
  gsize len;
  const char *data = g_bytes_get_data (pack, &len);
  g_autofree char *file = g_build_filename (b->f->dir, "pack", NULL);
  assert_true (g_file_set_contents (file, data, (gssize) len, NULL));
  g_free (sh_any (b->f, &status,
                  "rm -rf $DIR/judge && git init -q --bare $DIR/judge && "
                  "GIT_DIR=$DIR/judge git index-pack --strict --stdin <$DIR/pack"));
  return status == 0;
}

static void
test_a_good_pack_is_indexed_as_git_does_it (void **state)
{
  Bench b;
  g_autoptr (GError) error = NULL;
  gboolean is = FALSE;
  (void) state;
  bench_open (&b);
  /* With an annotated tag, an executable, a link, a submodule and odd names. */
  g_free (sh (
      b.f, "cd $WORK && git checkout -q -B odd main && mkdir -p deep/er && echo x >deep/er/x && chmod +x deep/er/x && "
           "ln -s x deep/er/link && echo y >\"$(printf 'na\\351ve')\" && git add -A && "
           "git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,sub && "
           "git commit -q -m odd && git tag -a -m tag annotated"));
  g_autoptr (GBytes) pack
      = sh_bytes (b.f, "cd $WORK && git rev-list --objects odd annotated | git pack-objects -q --window=0 --stdout");
  assert_true (ingest_pack (b.repo, &b.f->call->call, pack, b.objects, &is, &error));
  assert_true (is);
  g_autofree char *file = g_build_filename (b.f->dir, "in.pack", NULL);
  assert_true (g_file_set_contents (file, g_bytes_get_data (pack, NULL), (gssize) g_bytes_get_size (pack), NULL));
  g_free (
      sh (b.f,
          "cd $DIR && git index-pack --no-rev-index -o git.idx in.pack >/dev/null && cmp git.idx '%s'/pack/*.idx && "
          "cmp in.pack '%s'/pack/*.pack && test $(ls '%s'/pack | wc -l) = 2",
          b.objects, b.objects, b.objects));
  g_free (sh (b.f, "rm -f '%s'/pack/*", b.objects));
  /* The same with deltas is left to git. */
  g_autoptr (GBytes) deltas
      = sh_bytes (b.f, "cd $WORK && seq 1 5000 >long && git add long && git commit -q -m l && seq 1 5001 >long && "
                       "git commit -q -am l && git rev-list --objects HEAD | git pack-objects -q --stdout");
  assert_false (taken (&b, deltas));
  assert_true (git_takes (&b, deltas));
  bench_close (&b);
}

static GBytes *
pack_with (Bench *b, GsObjectType type, const char *data, gsize len)
{
  static const char person[] = "A <a@b> 1 +0000";
  g_autoptr (GError) error = NULL;
  Draft *draft = draft_new (b->repo, b->handle, 0);
  GBytes *pack;
  GsOid blob, tree, commit, oid;
  char hex[GS_OID_HEX_MAX + 1];
  /* What the cases refer to. */
  assert_true (draft_add (draft, GS_OBJECT_BLOB, "x", 1, &blob, &error));
  assert_true (draft_add (draft, GS_OBJECT_TREE, "", 0, &tree, &error));
  gs_oid_hex (&tree, hex);
  g_autofree char *text = g_strdup_printf ("tree %s\nauthor %s\ncommitter %s\n\nm\n", hex, person, person);
  assert_true (draft_add (draft, GS_OBJECT_COMMIT, text, strlen (text), &commit, &error));
  assert_true (draft_add (draft, type, data, len, &oid, &error));
  assert_true (draft_pack (draft, &pack, &error));
  draft_free (draft);
  return pack;
}

static GByteArray *
tree_of (const char *const *rows)
{
  GByteArray *tree = g_byte_array_new ();
  GsOid blob;
  assert_true (object_id (GS_OBJECT_BLOB, "x", 1, &blob, NULL));
  for (; *rows != NULL; rows++)
    {
      g_byte_array_append (tree, (const guint8 *) *rows, (guint) strlen (*rows) + 1);
      g_byte_array_append (tree, blob.raw, 20);
    }
  return tree;
}

static void
test_trees_are_judged_as_git_judges (void **state)
{
  static const char *const cases[][3] = {
    { "100644 a", "100644 b", NULL },
    { "100644 b", "100644 a", NULL },
    { "100644 a", "100644 a", NULL },
    { "100644 a", "100755 a", NULL },
    { "0100644 a", NULL },
    { "100664 a", NULL },
    { "100600 a", NULL },
    { "120000 a", NULL },
    { "160000 a", NULL },
    { "40000 a", NULL },
    { "644 a", NULL },
    { "100644 .", NULL },
    { "100644 ..", NULL },
    { "100644 .git", NULL },
    { "100644 .GIT", NULL },
    { "100644 .git ", NULL },
    { "100644 .git.", NULL },
    { "100644 git~1", NULL },
    { "100644 .git::x", NULL },
    { "100644 a/b", NULL },
    { "100644 ", NULL },
    { "100644 a\\.git", NULL },
    { "100644 .g\xe2\x80\x8cit", NULL },
    { "100644 \xff\xfe", NULL },
    { "100644 .gitx", NULL },
    { "120000 .gitmodules", NULL },
    { "100644 .gitmodules", NULL },
    { "120000 .gitattributes", NULL },
    { "100644 a b", NULL },
    { "100644 a.b", "40000 a", NULL },
    { "100644 a", "100644 a.b", NULL },
    { "100644 -", NULL },
    { "100644 a~1", NULL },
  };
  Bench b;
  guint good = 0, native = 0;
  (void) state;
  bench_open (&b);
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_autoptr (GByteArray) tree = tree_of (cases[i]);
      g_autoptr (GBytes) pack = pack_with (&b, GS_OBJECT_TREE, (const char *) tree->data, tree->len);
      gboolean ours = taken (&b, pack), gits = git_takes (&b, pack);
      if (ours && !gits)
        fail_msg ("%s is taken, and git refuses it", cases[i][0]);
      good += gits;
      native += ours;
    }
  /* What is common is not left to git. */
  assert_true (native >= 6 && native <= good);
  bench_close (&b);
}

/* One byte changed here and there: whatever is still taken, git takes too. */
static void
judge_mutants (Bench *b, GsObjectType type, const char *data, gsize len, guint rounds)
{
  static const char odd[] = "\0\n <>0+-:a/";
  GRand *random = g_rand_new_with_seed (7);
  guint n = 0;
  for (guint i = 0; i < rounds; i++)
    {
      g_autofree char *copy = g_memdup2 (data, len);
      gsize at = (gsize) g_rand_int_range (random, 0, (gint32) len);
      copy[at] = g_rand_boolean (random) ? odd[g_rand_int_range (random, 0, sizeof odd - 1)]
                                         : (char) g_rand_int_range (random, 0, 256);
      g_autoptr (GBytes) pack = pack_with (b, type, copy, g_rand_int_range (random, 0, 8) == 0 ? at : len);
      if (!taken (b, pack))
        continue;
      n++;
      if (!git_takes (b, pack))
        fail_msg ("a %s with byte %u changed to %02x is taken, and git refuses it", odb_type_name (type), (guint) at,
                  (guchar) copy[at]);
    }
  assert_true (n < rounds);
  g_rand_free (random);
}

static void
test_mutants (void **state)
{
  static const char *const rows[] = { "100644 a", "100755 bcd", "100644 e-f", "100644 x\xff", NULL };
  Bench b;
  GsOid tree, commit;
  char hex[GS_OID_HEX_MAX + 1];
  (void) state;
  bench_open (&b);
  g_autoptr (GByteArray) listing = tree_of (rows);
  judge_mutants (&b, GS_OBJECT_TREE, (const char *) listing->data, listing->len, 150);
  assert_true (object_id (GS_OBJECT_TREE, "", 0, &tree, NULL));
  gs_oid_hex (&tree, hex);
  g_autofree char *first = g_strdup_printf ("tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nm\n", hex);
  assert_true (object_id (GS_OBJECT_COMMIT, first, strlen (first), &commit, NULL));
  char parent[GS_OID_HEX_MAX + 1];
  gs_oid_hex (&commit, parent);
  g_autofree char *text = g_strdup_printf (
      "tree %s\nparent %s\nauthor A U Thor <a@example.org> 1112912053 -0700\ncommitter C <c@d> 1112912053 +0200\n\nm\n",
      hex, parent);
  judge_mutants (&b, GS_OBJECT_COMMIT, text, strlen (text), 200);
  g_autofree char *tag
      = g_strdup_printf ("object %s\ntype commit\ntag v1.0\ntagger T <t@u> 1112912053 +0000\n\nText\n", parent);
  judge_mutants (&b, GS_OBJECT_TAG, tag, strlen (tag), 150);
  bench_close (&b);
}

static void
test_damaged_packs_are_not_taken (void **state)
{
  Bench b;
  GRand *random = g_rand_new_with_seed (11);
  (void) state;
  bench_open (&b);
  g_autoptr (GBytes) pack = pack_with (&b, GS_OBJECT_BLOB, "some more bytes than one", 24);
  gsize len;
  const guint8 *data = g_bytes_get_data (pack, &len);
  assert_true (taken (&b, pack));
  for (guint i = 0; i < 3000; i++)
    {
      g_autofree guint8 *copy = g_memdup2 (data, len);
      gsize at = (gsize) g_rand_int_range (random, 0, (gint32) len - 20), keep = len, hash_len = 20;
      copy[at] ^= (guint8) g_rand_int_range (random, 1, 256);
      if (i % 5 == 0)
        keep = 20 + (gsize) g_rand_int_range (random, 0, (gint32) len - 20);
      /* The trailer is right, so that the rest is looked at. */
      g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA1);
      g_checksum_update (sum, copy, (gssize) keep - 20);
      g_checksum_get_digest (sum, copy + keep - 20, &hash_len);
      g_autoptr (GBytes) bad = g_bytes_new (copy, keep);
      if (taken (&b, bad) && !git_takes (&b, bad))
        fail_msg ("byte %u damaged in round %u is taken, and git refuses it", (guint) at, i);
    }
  g_rand_free (random);
  bench_close (&b);
}

static void
test_what_is_not_there_is_not_taken (void **state)
{
  Bench b;
  (void) state;
  bench_open (&b);
  static const char lost[] = "1111111111111111111111111111111111111111";
  g_autofree char *text = g_strdup_printf ("tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nm\n", lost);
  g_autoptr (GBytes) pack = pack_with (&b, GS_OBJECT_COMMIT, text, strlen (text));
  assert_false (taken (&b, pack));
  g_autofree char *tag = g_strdup_printf ("object %s\ntype blob\ntag v\ntagger T <t@u> 1 +0000\n\nText\n", lost);
  g_autoptr (GBytes) tags = pack_with (&b, GS_OBJECT_TAG, tag, strlen (tag));
  assert_false (taken (&b, tags));
  /* A tree that says of a blob that it is a folder. */
  static const char *const rows[] = { "40000 a", NULL };
  g_autoptr (GByteArray) tree = tree_of (rows);
  g_autoptr (GBytes) folder = pack_with (&b, GS_OBJECT_TREE, (const char *) tree->data, tree->len);
  assert_false (taken (&b, folder));
  bench_close (&b);
}

/* Names, against git's own check of a path that is about to be written. */
static void
test_paths (void **state)
{
  static const struct
  {
    const char *path;
    gboolean good;
  } cases[] = {
    { "a", TRUE },
    { "a/b/c", TRUE },
    { ".gitignore", TRUE },
    { "a/.gitattributes", TRUE },
    { "...", TRUE },
    { "git", TRUE },
    { "git~2", TRUE },
    { ".gitx", TRUE },
    { "a b", TRUE },
    { "\xff/\xc3\xa4", TRUE },
    { "", FALSE },
    { "/", FALSE },
    { "a/", FALSE },
    { "/a", FALSE },
    { "a//b", FALSE },
    { ".", FALSE },
    { "..", FALSE },
    { "a/./b", FALSE },
    { "a/..", FALSE },
    { ".git", FALSE },
    { ".GiT/x", FALSE },
    { "a/.git/b", FALSE },
    { "git~1", FALSE },
    { "GIT~1", FALSE },
    { ".git. .", FALSE },
    { ".git:x", FALSE },
    { "a\\.git\\b", FALSE },
    { ".g\xe2\x80\x8dit", FALSE },
    { ".git\xef\xbb\xbf", FALSE },
  };
  (void) state;
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_autoptr (GError) error = NULL;
      gboolean good = path_check (cases[i].path, strlen (cases[i].path), "path", &error);
      if (good != cases[i].good)
        fail_msg ("path '%s' is %s", cases[i].path, good ? "taken" : "refused");
      if (!good)
        assert_gs_error (&error, GS_ERROR_INVALID_ARGUMENT, "path:");
    }
  assert_true (path_part_is_gitmodules (".GITMODULES", 11));
  assert_true (path_part_is_gitmodules (".gitmodules . ", 14));
  assert_true (path_part_is_gitmodules ("GITMOD~3", 8));
  assert_true (path_part_is_gitmodules ("GI7EBA~1", 8));
  assert_true (path_part_is_gitmodules (".git\xe2\x80\x8cmodules", 14));
  assert_false (path_part_is_gitmodules ("gitmodules", 10));
  assert_false (path_part_is_gitmodules (".gitmodulesx", 12));
}

/*
 * The ids of objects that are taken without a git process come from libgit2, and its SHA-1 finds the known kind of collision.
 * Two files of the same SHA-1 were published (shattered.io); their first 320 bytes are enough. As objects they have a header
 * before them and no longer collide, so libgit2 is asked for the SHA-1 of the bare bytes: opening a file as configuration
 * takes it, before anything is read from it.
 */
static void
test_collisions_are_found (void **state)
{
  static const char *const common
      =
          "255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474682032203020522f48656967687420332030"
          "20522f547970652034203020522f537562747970652035203020522f46696c7465722036203020522f436f6c6f7253706163"
          "652037203020522f4c656e6774682038203020522f42697473506572436f6d706f6e656e7420383e3e0a73747265616d0aff"
          "d8fffe00245348412d3120697320646561642121212121852fec092339759c39b1a1c63c4c97e1fffe01";
  static const char *const ends[] = {
        "7f46dc93a6b67e013b029aaa1db2560b45ca67d688c7f84b8c4c791fe02b3df614f86db1690901c56b45c1530afedfb76038"
        "e972722fe7ad728f0e4904e046c230570fe9d41398abe12ef5bc942be33542a4802d98b5d70f2a332ec37fac3514e74ddc0f"
        "2cc1a874cd0c78305a21566461309789606bd0bf3f98cda8044629a1",
        "7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de218f86db3a90901d5df45c14f26fedfb3dc38"
        "e96ac22fe7bd728f0e45bce046d23c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e332edf93ac3500eb4ddc0d"
        "ecc1a864790c782c76215660dd309791d06bd0af3f98cda4bc4629b1",
  };
  Bench b;
  bench_open (&b);
  g_autofree char *path = g_build_filename (b.f->dir, "shattered", NULL), *first = NULL;
  for (gsize i = 0; i < G_N_ELEMENTS (ends); i++)
    {
      g_autofree char *hex = g_strconcat (common, ends[i], NULL);
      guint8 bytes[320];
      git_config *config = NULL;
      GsOid oid;
      assert_int_equal (strlen (hex), 2 * sizeof bytes);
      assert_true (gs_unhex (hex, sizeof bytes, bytes));
      g_autofree char *plain = g_compute_checksum_for_data (G_CHECKSUM_SHA1, bytes, sizeof bytes);
      assert_true (first == NULL || strcmp (plain, first) == 0); /* plain SHA-1 cannot tell them apart */
      g_free (first);
      first = g_steal_pointer (&plain);
      assert_true (g_file_set_contents (path, (const char *) bytes, sizeof bytes, NULL));
      assert_int_not_equal (git_config_open_ondisk (&config, path), 0);
      assert_non_null (strstr (git_error_last ()->message, "SHA1 collision attack detected"));
      /* The id of an object is computed by the same. */
      assert_true (object_id (GS_OBJECT_BLOB, bytes, sizeof bytes, &oid, NULL));
    }
  bench_close (&b);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_a_good_pack_is_indexed_as_git_does_it),
    cmocka_unit_test (test_trees_are_judged_as_git_judges),
    cmocka_unit_test (test_mutants),
    cmocka_unit_test (test_damaged_packs_are_not_taken),
    cmocka_unit_test (test_what_is_not_there_is_not_taken),
    cmocka_unit_test (test_paths),
    cmocka_unit_test (test_collisions_are_found),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
