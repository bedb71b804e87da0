/* SPDX-License-Identifier: Apache-2.0 */
/** steps.h - plays one history to a consistency plugin and compares the very actions, for the tests of single ones. */
#ifndef TESTS_STEPS_H
#define TESTS_STEPS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead/consistency.h>

#include "fakehost.h"
#include "loadplugin.h"

typedef struct
{
  const char *plugin;      /* "consistency-direct.so" */
  const char *key, *value; /* an option, or NULL */
} Stepped;

/* The last reason of a failure. */
static char steps_reason[512];

static inline void
steps_add_action (GsActions *actions, const GsAction *action)
{
  static const char *const names[]
      = { "?", "stage", "decide", "voter", "apply", "abort", "acknowledge", "fail", "repair", "timer" };
  GString *text = actions->priv;
  g_string_append_printf (text, "%s", names[MIN (action->type, G_N_ELEMENTS (names) - 1)]);
  if (action->type == GS_ACTION_FAIL)
    {
      g_string_append_printf (text, ":%s", gs_error_name ((int) action->code));
      g_strlcpy (steps_reason, action->reason, sizeof steps_reason);
    }
  else if (action->type == GS_ACTION_TIMER)
    g_string_append_printf (text, ":%dms", (int) (action->delay_us / 1000));
  else if (action->type != GS_ACTION_DECIDE && action->type != GS_ACTION_ACKNOWLEDGE)
    g_string_append_printf (text, "%d", (int) action->participant);
  g_string_append_c (text, ' ');
}

/*
 * Events: B begin, S staged, s staged with another vote, L lost, D decided, R refused, A applied, T timer; a digit
 * names the participant. Flags, one for each: C current and healthy, c current only, O healthy only, o neither. They
 * are called node-0, node-1, ….
 */
static inline void
steps_play (const Stepped *stepped, const char *flags, gsize min_copies, const char *events, const char *expected)
{
  static const char letters[] = "?BSLDRATHU";
  static const char *const names[] = { "node-0", "node-1", "node-2", "node-3", "node-4" };
  static const guint8 digests[2][32] = { { 1 }, { 1, 2 } };
  const GsPlugin *plugin = load_plugin (stepped->plugin);
  const GsConsistencyOps *ops = plugin->ops;
  g_autoptr (FakeHost) host = fake_host_new (plugin->name);
  FakeConfig *config = fake_config_new (plugin, stepped->key, stepped->value, NULL);
  gpointer self = plugin->create (&host->host, fake_config_get (config), NULL), txn;
  GsParticipant parts[5] = { { 0 } };
  const GsParticipant *list[5];
  GsTxnSetup setup = { sizeof setup, list, strlen (flags), min_copies };
  g_autoptr (GString) text = g_string_new (NULL);
  GsActions out = { sizeof out, text, steps_add_action };
  for (gsize i = 0; i < setup.n_participants; i++)
    {
      parts[i] = (GsParticipant){ sizeof parts[i], names[i], strchr ("cC", flags[i]) != NULL,
                                  strchr ("CO", flags[i]) != NULL };
      list[i] = &parts[i];
    }
  txn = ops->txn_new (self, &setup, NULL);
  assert_non_null (txn);
  memset (parts, 0, sizeof parts); /* what was handed over is copied, but for the names */
  for (const char *at = events; *at != '\0'; at++)
    {
      GsEvent event = { sizeof event, (guint32) (strchr (letters, g_ascii_toupper (*at)) - letters), 0, NULL };
      if (event.type == GS_EVENT_STAGED)
        event.digest = digests[*at == 's'];
      if (g_ascii_isdigit (at[1]))
        event.participant = (gsize) (*++at - '0');
      ops->txn_step (self, txn, &event, &out);
    }
  assert_string_equal (g_strchomp (text->str), expected);
  ops->txn_free (self, txn);
  plugin->destroy (self);
  fake_config_free (config);
}

#endif
