/* SPDX-License-Identifier: Apache-2.0 */
/* Packs that fetches share, where it takes a look inside: what tests/integration/test_pack_cache.py cannot ask for. */
#include "common.h"

#include "git.h"
#include "packcache_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PATIENCE_US (120 * G_USEC_PER_SEC)
#define LARGE "6000000"

/* One client, with a thread of its own for the server's side. */
typedef struct
{
  Fixture *f;
  GsRepo repo;
  FakeCall *call;
  FakeStream *stream;
  GsThread thread;
  int from;
  gboolean served;
  GByteArray *all; /* read_beside's */
} Client;

static void *
serve (void *user)
{
  Client *client = user;
  g_autoptr (GError) error = NULL;
  client->served = client->f->ops->upload_pack (client->f->self, &client->call->call, &client->repo, "version=2", TRUE,
                                                &client->stream->stream, &error);
  fake_stream_free (client->stream);
  return NULL;
}

static void
ask (Client *client, Fixture *f, const GsRepo *repo)
{
  char hex[GS_OID_HEX_MAX + 1];
  GsOid oid = work_oid (f, "main");
  gs_oid_hex (&oid, hex);
  g_autofree char *want = g_strdup_printf ("want %s\n", hex);
  const char *const lines[] = { "command=fetch", "0001", "ofs-delta\n", want, "done\n", "0000", NULL };
  g_autoptr (GBytes) request = pkt_request (lines);
  int pair[2];
  assert_int_equal (pipe2 (pair, O_CLOEXEC), 0);
  *client = (Client) { .f = f, .repo = *repo, .from = pair[0] };
  client->call = fake_call_new (PATIENCE_US);
  client->stream = fake_stream_new (request, -1, pair[1]);
  assert_int_equal (gs_thread_start (&client->thread, "client", serve, client), 0);
}

/* Appends to @all; FALSE: that was all. */
static gboolean
read_some (Client *client, GByteArray *all)
{
  guint8 buffer[65536];
  ssize_t got = read (client->from, buffer, sizeof buffer);
  if (got > 0)
    g_byte_array_append (all, buffer, (guint) got);
  return got > 0;
}

/* All that it is sent. */
static GByteArray *
read_all (Client *client)
{
  GByteArray *all = g_byte_array_new ();
  while (read_some (client, all))
    ;
  close (client->from);
  client->from = -1;
  gs_thread_join (client->thread);
  fake_call_free (client->call);
  return all;
}

static void
await_metric (Fixture *f, const char *name, double value)
{
  const gint64 until_us = g_get_monotonic_time () + PATIENCE_US;
  while (fake_host_metric (f->host, name, NULL) != value)
    {
      if (g_get_monotonic_time () > until_us)
        fail_msg ("%s is %g, not %g", name, fake_host_metric (f->host, name, NULL), value);
      g_usleep (1000);
    }
}

/* A git that makes no pack before somebody writes into $DIR/gate. */
static Fixture *
gated_fixture (GsRepo *ret_repo)
{
  Fixture *f = fixture_new (NULL, NULL);
  g_autofree char *git = g_build_filename (f->dir, "bin/git", NULL);
  g_free (sh (f,
              "mkdir $DIR/bin && mkfifo $DIR/gate && cd $WORK && head -c " LARGE " /dev/urandom >large && git add large && git "
              "commit -q -m large && printf '#!/bin/sh\\ncase \" $* \" in *\" pack-objects \"*\" --stdout \"*) read line <%s/gate;; "
              "esac\\nexec %%s \"$@\"\\n' $(command -v git) >$DIR/bin/git && chmod +x $DIR/bin/git",
              f->dir));
  *ret_repo = fixture_create (f, 1);
  g_autoptr (GBytes) pack = work_pack (f, "main");
  GsRefUpdate update = { .name = "refs/heads/main", .new_oid = work_oid (f, "main") };
  apply_changes (f, ret_repo, &update, 1, pack);
  fixture_restart (f, TRUE, "git", git);
  return f;
}

static void
open_gate (Fixture *f)
{
  g_free (sh (f, "echo >$DIR/gate"));
}

static void
begin_two (Fixture *f, const GsRepo *repo, Client clients[2])
{
  for (int i = 0; i < 2; i++)
    ask (&clients[i], f, repo);
  await_metric (f, "gitstead_storage_pack_cache_misses_total", 1);
  await_metric (f, "gitstead_storage_pack_cache_hits_total", 1);
}

/* Where there is no room, a client that hangs holds back the others, but not for ever. */
static void
test_stalled_reader (void **state)
{
  GsRepo repo;
  Client clients[2];
  Fixture *f = gated_fixture (&repo);
  PackCache *cache = ((Storage *) f->self)->packs;
  /* The file takes half of this, and that is more than fits on the way to a client that reads nothing. */
  cache->max_bytes = 2 << 20;
  cache->stall_us = G_USEC_PER_SEC / 5;
  begin_two (f, &repo, clients);
  open_gate (f);
  g_autoptr (GByteArray) whole = read_all (&clients[0]), part = read_all (&clients[1]);
  assert_true (clients[0].served);
  assert_true (whole->len > strtoul (LARGE, NULL, 10));
  assert_true (part->len < whole->len / 2);
  assert_int_equal (fake_host_logged (f->host, "storage.pack-cache.full"), 1);
  assert_int_equal (fake_host_logged (f->host, "storage.pack-cache.stalled"), 1);
  await_metric (f, "gitstead_storage_pack_cache_bytes", 0);
  fixture_free (f);
}

static void *
read_beside (void *user)
{
  Client *client = user;
  client->all = read_all (client);
  return NULL;
}

/* The pack that is under way: the caller's as long as one of its readers is. */
static Pack *
only_pack (PackCache *cache)
{
  gpointer pack = NULL;
  GHashTableIter iter;
  gs_mutex_lock (&cache->lock);
  assert_int_equal (g_hash_table_size (cache->packs), 1);
  g_hash_table_iter_init (&iter, cache->packs);
  g_hash_table_iter_next (&iter, NULL, &pack);
  gs_mutex_unlock (&cache->lock);
  return pack;
}

/* The first one of them has all there is, so that it waits for the others. */
static gboolean
is_waiting (Pack *pack)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&pack->cache->lock);
  const PackReader *first = pack->readers->pdata[0];
  return pack->narrow && pack->waits && first->taken == pack->made;
}

static guint
count_readers (Pack *pack)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&pack->cache->lock);
  return pack->readers->len;
}

static guint64
taken_by (Pack *pack, guint reader)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&pack->cache->lock);
  assert_true (reader < pack->readers->len);
  return ((PackReader *) pack->readers->pdata[reader])->taken;
}

/* As if nobody after @first had taken anything for an hour; @ret_taken is what the reader @first + 1 has by then. */
static void
let_an_hour_pass (Pack *pack, guint first, guint64 *ret_taken)
{
  const gint64 then_us = g_get_monotonic_time () - G_TIME_SPAN_HOUR;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&pack->cache->lock);
  pack->tail_since_us = then_us;
  for (guint i = first + 1; i < pack->readers->len; i++)
    {
      PackReader *reader = pack->readers->pdata[i];
      reader->took_us = then_us;
      if (i == first + 1 && ret_taken != NULL)
        *ret_taken = reader->taken;
    }
}

static void
set_stall (PackCache *cache, gint64 stall_us)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&cache->lock);
  cache->stall_us = stall_us;
}

/* The pack in an answer, which comes in packets of band 1. What git tells meanwhile, in the others, differs each time. */
static GByteArray *
pack_of (const GByteArray *answer)
{
  GByteArray *pack = g_byte_array_new ();
  guint len;
  for (gsize at = 0; at + 4 <= answer->len; at += MAX (len, 4))
    {
      char hex[5] = { 0 };
      memcpy (hex, answer->data + at, 4);
      len = (guint) strtoul (hex, NULL, 16);
      assert_true (len <= answer->len - at);
      if (len > 5 && answer->data[at + 4] == 1)
        g_byte_array_append (pack, answer->data + at + 5, len - 5);
    }
  assert_true (pack->len > strtoul (LARGE, NULL, 10));
  assert_memory_equal (pack->data, "PACK", 4);
  return pack;
}

static void
assert_one_pack (const GByteArray *left, const GByteArray *right)
{
  g_autoptr (GByteArray) first = pack_of (left), second = pack_of (right);
  assert_int_equal (first->len, second->len);
  assert_memory_equal (first->data, second->data, first->len);
}

/* Of two that others wait for, the one that takes something now and then is waited for as long as it does. The test moves the
   clock: however long a machine pauses, nobody is slow by that. */
static void
test_slow_and_stalled_reader (void **state)
{
  enum { FAST, SLOW, STALLED, CLIENTS };
  GsRepo repo;
  Client clients[CLIENTS];
  Fixture *f = gated_fixture (&repo);
  PackCache *cache = ((Storage *) f->self)->packs;
  const gint64 until_us = g_get_monotonic_time () + PATIENCE_US;
  GsThread thread;
  guint64 before = 0;
  cache->max_bytes = 2 << 20;
  cache->stall_us = G_MAXINT64;
  for (int i = 0; i < CLIENTS; i++)
    {
      ask (&clients[i], f, &repo);
      await_metric (f, "gitstead_storage_pack_cache_misses_total", 1);
      await_metric (f, "gitstead_storage_pack_cache_hits_total", i);
    }
  Pack *pack = only_pack (cache);
  open_gate (f);
  assert_int_equal (gs_thread_start (&thread, "fast", read_beside, &clients[FAST]), 0);
  while (!is_waiting (pack))
    {
      assert_true (g_get_monotonic_time () < until_us);
      g_usleep (1000);
    }
  let_an_hour_pass (pack, FAST, &before);
  g_autoptr (GByteArray) slow = g_byte_array_new ();
  while (taken_by (pack, SLOW) == before)
    assert_true (read_some (&clients[SLOW], slow));
  set_stall (cache, G_TIME_SPAN_HOUR / 2);
  /* The other one may still take what fits on the way to its client. */
  while (count_readers (pack) == CLIENTS)
    {
      assert_true (g_get_monotonic_time () < until_us);
      let_an_hour_pass (pack, SLOW, NULL);
      g_usleep (1000);
    }
  while (fake_host_logged (f->host, "storage.pack-cache.stalled") == 0)
    {
      assert_true (g_get_monotonic_time () < until_us);
      g_usleep (1000);
    }
  while (read_some (&clients[SLOW], slow))
    ;
  g_autoptr (GByteArray) rest = read_all (&clients[SLOW]), part = read_all (&clients[STALLED]);
  gs_thread_join (thread);
  g_autoptr (GByteArray) whole = clients[FAST].all;
  assert_int_equal (rest->len, 0);
  assert_true (clients[FAST].served);
  assert_true (clients[SLOW].served);
  assert_one_pack (whole, slow);
  assert_true (part->len < whole->len / 2);
  assert_int_equal (fake_host_logged (f->host, "storage.pack-cache.stalled"), 1);
  fixture_free (f);
}

/* What was too large is not tried again when it has been forgotten how often it was asked for. */
static void
test_too_large_goes_past (void **state)
{
  GsRepo repo;
  Client client;
  Fixture *f = gated_fixture (&repo);
  PackCache *cache = ((Storage *) f->self)->packs;
  cache->max_bytes = 2 << 20;
  ask (&client, f, &repo);
  await_metric (f, "gitstead_storage_pack_cache_misses_total", 1);
  open_gate (f);
  g_autoptr (GByteArray) first = read_all (&client);
  assert_true (first->len > strtoul (LARGE, NULL, 10));
  cache->age_us = 0;
  pack_cache_sweep (cache);
  assert_int_equal (g_hash_table_size (cache->asked), 0);
  ask (&client, f, &repo);
  /* Made by upload-pack's own git, which no gate holds back. */
  await_metric (f, "gitstead_storage_pack_cache_bypassed_total", 1);
  g_autoptr (GByteArray) second = read_all (&client);
  assert_true (second->len > strtoul (LARGE, NULL, 10));
  assert_int_equal (fake_host_metric (f->host, "gitstead_storage_pack_cache_misses_total", NULL), 1);
  fixture_free (f);
}

/* How many of them are remembered has a bound; what a full disk did not take is tried again soon. */
static void
test_what_goes_past_is_bounded (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  PackCache *cache = ((Storage *) f->self)->packs;
  char key[PACK_KEY_LEN + 1];
  for (guint i = 0; i <= PACK_PAST_MAX; i++)
    {
      g_snprintf (key, sizeof key, "%064u", i);
      gs_mutex_lock (&cache->lock);
      pack_cache_pass (cache, key, i > 0);
      gs_mutex_unlock (&cache->lock);
    }
  assert_int_equal (g_hash_table_size (cache->past), PACK_PAST_MAX);
  assert_true (g_hash_table_contains (cache->past, key));
  g_snprintf (key, sizeof key, "%064u", 0);
  assert_false (g_hash_table_contains (cache->past, key));
  /* One again that is there leaves the others. */
  g_snprintf (key, sizeof key, "%064u", 1);
  cache->age_us = 0;
  gs_mutex_lock (&cache->lock);
  pack_cache_pass (cache, key, FALSE);
  gs_mutex_unlock (&cache->lock);
  assert_int_equal (g_hash_table_size (cache->past), PACK_PAST_MAX);
  pack_cache_sweep (cache);
  assert_int_equal (g_hash_table_size (cache->past), PACK_PAST_MAX - 1);
  assert_false (g_hash_table_contains (cache->past, key));
  fixture_free (f);
}

/* One that is only slow gets all of it. */
static void
test_slow_reader (void **state)
{
  GsRepo repo;
  Client clients[2];
  Fixture *f = gated_fixture (&repo);
  begin_two (f, &repo, clients);
  open_gate (f);
  g_autoptr (GByteArray) first = read_all (&clients[0]);
  await_metric (f, "gitstead_storage_pack_cache_packs", 1);
  g_autoptr (GByteArray) second = read_all (&clients[1]);
  assert_one_pack (first, second);
  assert_int_equal (fake_host_logged (f->host, "storage.pack-cache.full"), 0);
  fixture_free (f);
}

/* A file that lost its end fails the fetch, and is read by nobody else. */
static void
test_unreadable (void **state)
{
  GsRepo repo;
  Client clients[2];
  Fixture *f = gated_fixture (&repo);
  PackCache *cache = ((Storage *) f->self)->packs;
  GHashTableIter iter;
  gpointer pack;
  begin_two (f, &repo, clients);
  open_gate (f);
  g_autoptr (GByteArray) whole = read_all (&clients[0]), also = read_all (&clients[1]);
  assert_int_equal (g_hash_table_size (cache->packs), 1);
  g_hash_table_iter_init (&iter, cache->packs);
  assert_true (g_hash_table_iter_next (&iter, NULL, &pack));
  assert_int_equal (ftruncate (((Pack *) pack)->file, 1000000), 0);
  ask (&clients[0], f, &repo);
  g_autoptr (GByteArray) part = read_all (&clients[0]);
  assert_true (part->len < whole->len / 2);
  assert_int_equal (fake_host_logged (f->host, "storage.pack-cache.unreadable"), 1);
  assert_int_equal (g_hash_table_size (cache->packs), 0);
  ask (&clients[0], f, &repo);
  open_gate (f);
  g_autoptr (GByteArray) again = read_all (&clients[0]);
  assert_true (again->len > strtoul (LARGE, NULL, 10));
  assert_int_equal (fake_host_metric (f->host, "gitstead_storage_pack_cache_misses_total", NULL), 2);
  fixture_free (f);
}

/* When set, what happens just before the next read of a pack's file, on the fetch's thread. */
static struct
{
  GsMutex lock;
  Pack *pack;
} cut;

/* In place of the C library's. */
ssize_t
pread (int fd, void *buffer, size_t n, off_t at)
{
  Pack *pack = NULL;
  gs_mutex_lock (&cut.lock);
  if (cut.pack != NULL && fd == cut.pack->file)
    pack = g_steal_pointer (&cut.pack);
  gs_mutex_unlock (&cut.lock);
  if (pack != NULL)
    {
      gs_mutex_lock (&pack->cache->lock);
      ((PackReader *) pack->readers->pdata[0])->dropped = TRUE;
      g_ptr_array_remove_index (pack->readers, 0);
      gs_mutex_unlock (&pack->cache->lock);
      assert_int_equal (ftruncate (fd, 0), 0);
    }
  return preadv (fd, &(struct iovec) { buffer, n }, 1, at);
}

/* One that is let go of while it reads the file finds the file cut; that is no damage. */
static void
test_let_go_of_while_it_reads (void **state)
{
  GsRepo repo;
  Client clients[2];
  Fixture *f = gated_fixture (&repo);
  begin_two (f, &repo, clients);
  open_gate (f);
  g_autoptr (GByteArray) whole = read_all (&clients[0]), also = read_all (&clients[1]);
  Pack *pack = only_pack (((Storage *) f->self)->packs);
  gs_mutex_lock (&cut.lock);
  cut.pack = pack;
  gs_mutex_unlock (&cut.lock);
  ask (&clients[0], f, &repo);
  g_autoptr (GByteArray) part = read_all (&clients[0]);
  assert_null (cut.pack);
  assert_true (part->len < whole->len / 2);
  assert_true (also->len > strtoul (LARGE, NULL, 10));
  assert_int_equal (fake_host_logged (f->host, "storage.pack-cache.stalled"), 1);
  assert_int_equal (fake_host_logged (f->host, "storage.pack-cache.unreadable"), 0);
  fixture_free (f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_stalled_reader),
    cmocka_unit_test (test_slow_and_stalled_reader),
    cmocka_unit_test (test_too_large_goes_past),
    cmocka_unit_test (test_what_goes_past_is_bounded),
    cmocka_unit_test (test_slow_reader),
    cmocka_unit_test (test_unreadable),
    cmocka_unit_test (test_let_go_of_while_it_reads),
  };
  gs_mutex_init (&cut.lock);
  return cmocka_run_group_tests_name ("storage/git shared packs", tests, NULL, NULL);
}
