/* SPDX-License-Identifier: Apache-2.0 */
/* Packs that fetches share, where it takes a look inside: what tests/integration/test_pack_cache.py cannot ask for. */
#include "common.h"

#include "git.h"
#include "packcache_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* All that it is sent. */
static GByteArray *
read_all (Client *client)
{
  GByteArray *all = g_byte_array_new ();
  guint8 buffer[65536];
  ssize_t got;
  while ((got = read (client->from, buffer, sizeof buffer)) > 0)
    g_byte_array_append (all, buffer, (guint) got);
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
  assert_true (first->len > strtoul (LARGE, NULL, 10));
  assert_memory_equal (first->data + first->len - 40, second->data + second->len - 40, 40);
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

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_stalled_reader),
    cmocka_unit_test (test_slow_reader),
    cmocka_unit_test (test_unreadable),
  };
  return cmocka_run_group_tests_name ("storage/git shared packs", tests, NULL, NULL);
}
