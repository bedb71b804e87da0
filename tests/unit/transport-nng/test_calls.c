/* SPDX-License-Identifier: Apache-2.0 */
/* Calls as stock nng makes them: its REQ socket against the transport, over every scheme. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "nngserver.h"
#include "peer.h"

static void
ping_over (const char *listen)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (NgServer) server = ng_server_new (&error, "listen", listen, NULL);
  assert_null (error);
  Req *req = req_new (server->urls[0]);
  for (int i = 0; i < 100; i++)
    {
      Reply reply;
      assert_true (req_call (req, NS_PING, "hello", 5, &reply));
      assert_int_equal (reply.status, 0);
      assert_int_equal (reply.payload_len, 5);
      assert_memory_equal (reply.payload, "hello", 5);
      assert_int_equal (reply.header->server_epoch, 4711);
      assert_memory_equal (reply.header->call_id.data, req->last_id.bytes, 16);
      reply_clear (&reply);
    }
  req_free (req);
}

static void
stock_tcp (void **state)
{
  ping_over ("tcp://127.0.0.1:0");
}

static void
stock_ipc (void **state)
{
  char *dir = fake_tempdir_new ();
  g_autofree char *url = g_strdup_printf ("ipc://%s/s", dir);
  ping_over (url);
  fake_tempdir_remove (dir);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (stock_tcp), cmocka_unit_test (stock_ipc) };
  return cmocka_run_group_tests_name ("calls", tests, NULL, NULL);
}
