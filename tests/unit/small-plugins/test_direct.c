/* SPDX-License-Identifier: Apache-2.0 */
/* consistency/direct: the very actions for the histories that matter, late and repeated events included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead/consistency.h>

#include "fakehost.h"
#include "loadplugin.h"

/* "B S0 D A0 | STAGE0 …": letters stand for events and actions, digits for participants. */
static void
add_action (GsActions *actions, const GsAction *action)
{
  static const char *const names[]
      = { "?", "stage", "decide", "voter", "apply", "abort", "acknowledge", "fail", "repair", "timer" };
  GString *text = actions->priv;
  g_string_append_printf (text, "%s", names[MIN (action->type, G_N_ELEMENTS (names) - 1)]);
  if (action->type == GS_ACTION_FAIL)
    g_string_append_printf (text, ":%s", gs_error_name ((int) action->code));
  else if (action->type != GS_ACTION_DECIDE && action->type != GS_ACTION_ACKNOWLEDGE)
    g_string_append_printf (text, "%d", (int) action->participant);
  g_string_append_c (text, ' ');
}

/* Events: B begin, S staged, L lost, D decided, R refused, A applied, T timer; a digit names the participant. */
static void
plays (const char *flags, gsize min_copies, const char *events, const char *expected)
{
  static const char letters[] = "?BSLDRAT";
  static const guint8 digest[32] = { 1 };
  const GsPlugin *plugin = load_plugin ("consistency-direct.so");
  const GsConsistencyOps *ops = plugin->ops;
  g_autoptr (FakeHost) host = fake_host_new ("consistency direct");
  gpointer self = plugin->create (&host->host, NULL, NULL), txn;
  GsParticipant parts[4] = { { 0 } };
  const GsParticipant *list[4];
  GsTxnSetup setup = { sizeof setup, list, strlen (flags), min_copies };
  g_autoptr (GString) text = g_string_new (NULL);
  GsActions out = { sizeof out, text, add_action };
  for (gsize i = 0; i < setup.n_participants; i++)
    {
      parts[i] = (GsParticipant){ sizeof parts[i], "node", strchr ("cC", flags[i]) != NULL,
                                  strchr ("CO", flags[i]) != NULL };
      list[i] = &parts[i];
    }
  txn = ops->txn_new (self, &setup, NULL);
  assert_non_null (txn);
  for (const char *at = events; *at != '\0'; at++)
    {
      GsEvent event = { sizeof event, (guint32) (strchr (letters, *at) - letters), 0, digest };
      if (g_ascii_isdigit (at[1]))
        event.participant = (gsize) (*++at - '0');
      ops->txn_step (self, txn, &event, &out);
    }
  assert_string_equal (g_strchomp (text->str), expected);
  ops->txn_free (self, txn);
  plugin->destroy (self);
}

/* Flags: C current and healthy, c current only, O healthy only, o neither. */
static void
histories (void **state)
{
  plays ("C", 1, "BS0DA0", "stage0 voter0 decide apply0 acknowledge");
  plays ("oOcC", 1, "BS3DA3", "stage3 voter3 decide apply3 acknowledge repair0 repair1 repair2");
  plays ("C", 1, "BL0", "stage0 abort0 fail:UNAVAILABLE");
  plays ("C", 1, "BL0S0", "stage0 abort0 fail:UNAVAILABLE abort0"); /* staged after it was given up */
  plays ("C", 1, "BS0R", "stage0 voter0 decide abort0 fail:ABORTED");
  plays ("C", 1, "BS0L0R", "stage0 voter0 decide abort0 fail:ABORTED");
  plays ("C", 1, "BS0L0D", "stage0 voter0 decide apply0 acknowledge repair0"); /* durable in its journal */
  plays ("C", 1, "BS0DL0", "stage0 voter0 decide apply0 acknowledge repair0");
  plays ("CC", 1, "BS1S0DA1A0", "stage0 abort1 voter0 decide apply0 acknowledge repair1");
}

static void
refusals (void **state)
{
  plays ("c", 1, "B", "fail:UNAVAILABLE");
  plays ("oO", 1, "B", "fail:FAILED_PRECONDITION");
  plays ("CC", 2, "B", "fail:FAILED_PRECONDITION");
}

static void
stray_events (void **state)
{
  plays ("C", 1, "S0", ""); /* before the beginning */
  plays ("C", 1, "BB", "stage0");
  plays ("C", 1, "BDRA0T", "stage0"); /* nobody asked for a decision */
  plays ("C", 1, "BS0S0", "stage0 voter0 decide");
  plays ("C", 1, "BS0A0", "stage0 voter0 decide"); /* nobody said apply */
  plays ("C", 1, "BS0DDRA0A0L0DR", "stage0 voter0 decide apply0 acknowledge");
  plays ("C", 1, "BL0L0DRA0", "stage0 abort0 fail:UNAVAILABLE");
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (histories), cmocka_unit_test (refusals), cmocka_unit_test (stray_events) };
  return cmocka_run_group_tests_name ("direct", tests, NULL, NULL);
}
