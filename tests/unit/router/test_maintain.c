/* SPDX-License-Identifier: Apache-2.0 */
/* A round of housekeeping that would last for hours ends when the server stops, and none begins after that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead/thread.h>

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "fakehost.h"
#include "router/settle.h"

typedef struct
{
  int begun[2]; /* pipe */
  guint rounds, lists;
} Disk;

/* Works until it is cancelled. */
static gboolean
disk_maintain (gpointer self, GsCall *call, GError **error)
{
  Disk *disk = self;
  struct pollfd cancel = { .fd = call->cancel_fd (call), .events = POLLIN };
  disk->rounds++;
  if (write (disk->begun[1], "x", 1) != 1 || cancel.fd < 0)
    return gs_fail (error, GS_ERROR_INTERNAL, "nothing to wait on");
  while (poll (&cancel, 1, -1) <= 0)
    ;
  return gs_call_check (call, "maintain", error);
}

static gboolean
disk_list (gpointer self, GsCall *call, GsRepoVisit visit, gpointer user, GError **error)
{
  ((Disk *) self)->lists++;
  return TRUE;
}

typedef struct
{
  GsiRouter *router;
  GHashTable *suspects;
} Round;

static void *
run_round (void *user)
{
  Round *round = user;
  round->suspects = gsi_router_maintain (round->router, round->suspects);
  return NULL;
}

static void
test_stop (void **state)
{
  Disk disk = { 0 };
  const GsStorageOps ops = { .maintain = disk_maintain, .list = disk_list };
  const GsiStorage first = { "first", &ops, &disk }, second = { "second", &ops, &disk };
  const GsiStorage *const storages[] = { &first, &second };
  g_autoptr (FakeHost) host = fake_host_new ("core");
  const GsiRouterConfig config = { .storages = storages, .n_storages = 2, .host = &host->host };
  Round round = { gsi_router_new (&config), g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL) };
  GsThread thread;
  char byte;
  assert_int_equal (pipe (disk.begun), 0);
  assert_int_equal (gs_thread_start (&thread, "round", run_round, &round), 0);
  assert_int_equal (read (disk.begun[0], &byte, 1), 1);
  gsi_router_maintain_stop (round.router);
  gs_thread_join (thread);
  /* The second storage's turn does not come, nobody complains, and no later round begins. */
  run_round (&round);
  assert_int_equal (disk.rounds, 1);
  assert_int_equal (disk.lists, 0);
  assert_int_equal (fake_host_logged (host, "maintain.failed"), 0);
  g_hash_table_destroy (round.suspects);
  gsi_router_free (round.router);
  close (disk.begun[0]);
  close (disk.begun[1]);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (test_stop) };
  return cmocka_run_group_tests_name ("housekeeping rounds", tests, NULL, NULL);
}
