/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is to call an instance. See turns.h. */
#include "plugin/turns.h"

#include "base/clock.h"

/* How late a cancelled call may notice while it waits for its turn. */
#define LOOK_US 50000

/* GSI_PATIENCE_SHORT: calls that wait for each other end by it. */
#define PATIENCE_US (10 * G_USEC_PER_SEC)

/* A turn that is taken. */
typedef struct
{
  guint64 key;        /* the repository's id; 0 for SERIAL */
  const guint *owner; /* n_held of the thread that has it */
  guint depth;
} Turn;

/* How many turns this thread has, of all instances. Its address stands for the thread. */
static __thread guint n_held;

void
gsi_turns_init (GsiInstance *instance)
{
  instance->patience_us = PATIENCE_US;
  gs_mutex_init (&instance->lock);
  gs_cond_init (&instance->turn);
  instance->turns = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, g_free);
  instance->handed_out = g_hash_table_new_full (NULL, NULL, NULL, g_free);
}

void
gsi_turns_clear (GsiInstance *instance)
{
  g_hash_table_unref (instance->turns);
  g_hash_table_unref (instance->handed_out);
  gs_mutex_clear (&instance->lock);
  gs_cond_clear (&instance->turn);
  g_free (instance->turn_ops);
}

void
gsi_turns_wrap (GsiInstance *instance)
{
  const void *table = gsi_turn_tables[instance->pub.kind];
  const gpointer *inner = instance->outer.ops;

  if (instance->plugin->plugin.threads == GS_THREADS_PARALLEL || table == NULL)
    return;
  instance->inner = instance->outer;
  g_free (instance->turn_ops);
  instance->turn_ops = g_memdup2 (table, gsi_kind_ops_size (instance->pub.kind));
  /* Every member of a table is a function's address; what is lacking has to be seen to be. */
  for (gsize i = 0; i < gsi_kind_ops_size (instance->pub.kind) / sizeof (gpointer); i++)
    if (inner[i] == NULL)
      instance->turn_ops[i] = NULL;
  instance->outer.self = instance;
  instance->outer.ops = instance->turn_ops;
}

/* The turn that a call must take. FALSE: none. */
static gboolean
which_turn (const GsiInstance *instance, guint64 repository_id, guint64 *ret_turn)
{
  *ret_turn = instance->plugin->plugin.threads == GS_THREADS_SERIAL ? 0 : repository_id;
  return instance->plugin->plugin.threads == GS_THREADS_SERIAL || repository_id != 0;
}

/* May the call wait on? */
static gboolean
check_waiting (const GsiInstance *instance, const Turn *turn, gint64 until_us, GsCall *call, GError **error)
{
  g_autofree char *doing = NULL;

  if (turn->owner == &n_held)
    return gs_fail (error, GS_ERROR_INTERNAL,
                    "Calling %s (plugin %s) from a callback of one of its own calls: it takes one call at a time "
                    "(threads %s), so this one would wait for itself",
                    instance->label, instance->plugin->plugin.name,
                    gsi_threads_name (instance->plugin->plugin.threads));
  doing = g_strdup_printf ("Waiting for a turn on %s", instance->label);
  if (call != NULL && !gs_call_check (call, doing, error))
    return FALSE;
  if (gsi_clock_now_us () >= until_us)
    return gs_fail (error, GS_ERROR_BUSY,
                    "%s: its plugin %s takes one call at a time (threads %s) and has been at others for %.3g seconds. "
                    "Nothing was done; try again",
                    doing, instance->plugin->plugin.name, gsi_threads_name (instance->plugin->plugin.threads),
                    (double) instance->patience_us / G_USEC_PER_SEC);
  return TRUE;
}

gboolean
gsi_turn_enter (GsiInstance *instance, guint64 repository_id, GsiPatience patience, GsCall *call, GError **error)
{
  guint64 key;
  gint64 until_us = G_MAXINT64;
  Turn *turn;

  if (!which_turn (instance, repository_id, &key))
    return TRUE;
  /* Who has a turn of another instance must not wait for ever for this one: somebody may be waiting the other way. */
  if (patience == GSI_PATIENCE_SHORT || (patience == GSI_PATIENCE_CALL && n_held > 0))
    until_us = gsi_clock_now_us () + instance->patience_us;
  gs_mutex_lock (&instance->lock);
  while ((turn = g_hash_table_lookup (instance->turns, &key)) != NULL)
    {
      gint64 wake_us
          = MIN (until_us, call != NULL ? MIN (call->deadline_us, gsi_clock_now_us () + LOOK_US) : G_MAXINT64);
      if (patience == GSI_PATIENCE_ENDLESS && turn->owner == &n_held)
        break; /* from a callback, and not to be refused: then within the call that it comes from */
      if (patience != GSI_PATIENCE_ENDLESS && !check_waiting (instance, turn, until_us, call, error))
        {
          gs_mutex_unlock (&instance->lock);
          return FALSE;
        }
      gs_cond_wait_until (&instance->turn, &instance->lock, wake_us);
    }
  if (turn == NULL)
    {
      turn = g_new0 (Turn, 1);
      turn->key = key;
      turn->owner = &n_held;
      g_hash_table_insert (instance->turns, &turn->key, turn);
    }
  turn->depth++;
  gs_mutex_unlock (&instance->lock);
  n_held++;
  return TRUE;
}

void
gsi_turn_leave (GsiInstance *instance, guint64 repository_id)
{
  guint64 key;
  Turn *turn;

  if (!which_turn (instance, repository_id, &key))
    return;
  n_held--;
  gs_mutex_lock (&instance->lock);
  turn = g_hash_table_lookup (instance->turns, &key);
  if (--turn->depth == 0)
    {
      g_hash_table_remove (instance->turns, &key);
      gs_cond_broadcast (&instance->turn);
    }
  gs_mutex_unlock (&instance->lock);
}

void
gsi_turn_hand_out (GsiInstance *instance, gpointer what, guint64 repository_id)
{
  g_autoptr (GsMutexLocker) hold = NULL;

  if (what == NULL || instance->plugin->plugin.threads != GS_THREADS_PER_REPO)
    return;
  hold = gs_mutex_hold (&instance->lock);
  g_hash_table_replace (instance->handed_out, what, g_memdup2 (&repository_id, sizeof repository_id));
}

guint64
gsi_turn_repository_of (GsiInstance *instance, gpointer what)
{
  g_autoptr (GsMutexLocker) hold = NULL;
  const guint64 *found;
  guint64 repository_id;

  if (instance->plugin->plugin.threads != GS_THREADS_PER_REPO)
    return 0;
  hold = gs_mutex_hold (&instance->lock);
  found = g_hash_table_lookup (instance->handed_out, what);
  repository_id = found != NULL ? *found : 0;
  g_hash_table_remove (instance->handed_out, what);
  return repository_id;
}
