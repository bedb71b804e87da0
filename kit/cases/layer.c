/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contract cases of kind LAYER: what is behind it here is a cache made for the purpose, which notes what reaches it. The
 * layer has its options as they are given; with its defaults it has to be transparent.
 */
#include "engine.h"
#include "guard.h"

#include <string.h>

/* A cache that notes its calls. */
typedef struct
{
  guint n_calls; /* atomic */
  GsCall *call;
  GBytes *key, *value; /* borrowed: compared alone */
  gint64 ttl_us;
  pthread_t thread;
  GBytes *gives;        /* by lookup; may be NULL */
  const GError *fails; /* with this; NULL = not */
} Inner;

static gboolean
note (Inner *inner, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  inner->call = call;
  inner->key = key;
  inner->value = value;
  inner->ttl_us = ttl_us;
  inner->thread = pthread_self ();
  inner->n_calls++;
  if (inner->fails != NULL && error != NULL)
    *error = g_error_copy (inner->fails);
  return inner->fails == NULL;
}

static gboolean
inner_lookup (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  Inner *inner = self;
  if (!note (inner, call, key, NULL, 0, error))
    return FALSE;
  *ret_value = inner->gives != NULL ? g_bytes_ref (inner->gives) : NULL;
  return TRUE;
}

static gboolean
inner_store (gpointer self, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  return note (self, call, key, value, ttl_us, error);
}

static gboolean
inner_forget (gpointer self, GsCall *call, GBytes *prefix, GError **error)
{
  return note (self, call, prefix, NULL, 0, error);
}

static void
inner_stats (gpointer self, GsCacheStats *ret_stats)
{
  ret_stats->hits = 4711;
}

static const GsCacheOps inner_ops
    = { .lookup = inner_lookup, .store = inner_store, .forget_prefix = inner_forget, .stats = inner_stats };

/* The lookups alone: for many threads. */
static gboolean
counting_lookup (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  __atomic_add_fetch (&((Inner *) self)->n_calls, 1, __ATOMIC_RELAXED);
  *ret_value = NULL;
  return TRUE;
}

static const GsCacheOps counting_ops = { .lookup = counting_lookup, .stats = inner_stats };

static void
never_called (void)
{
}

/* wrap is called by one thread at a time; cases run beside each other. */
static gboolean
wrap_in_turn (Conformance *c, const GsInstance *behind, GsInstance *ret_outer, GError **error)
{
  static GsMutex turn = GS_MUTEX_INIT;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&turn);
  return ((const GsLayerOps *) c->ops)->wrap (c->self, behind, ret_outer, error);
}

static GsInstance
instance_of (guint32 kind, gpointer self, const void *ops)
{
  return (GsInstance){ .size = sizeof (GsInstance), .kind = kind, .self = self, .ops = ops, .name = "behind" };
}

/* FALSE, with the case skipped or failed, when there is nothing to look at. */
static gboolean
wrap_cache (Conformance *c, Inner *inner, const GsCacheOps *ops, GsInstance *ret_outer)
{
  GsInstance behind = instance_of (GS_KIND_CACHE, inner, ops);
  g_autoptr (GError) error = NULL;
  *ret_outer = (GsInstance){ .size = sizeof *ret_outer };
  if (wrap_in_turn (c, &behind, ret_outer, &error))
    return TRUE;
  if (gs_error_code (error) == GS_ERROR_UNIMPLEMENTED)
    conformance_skip (c, "it wraps no caches, which these cases use");
  else
    conformance_fail (c, "a cache that is wrapped, or UNIMPLEMENTED", "%s", error != NULL ? error->message : "no error");
  return FALSE;
}

/* Once with the even slots filled, once with the odd ones. FALSE when the kind is not wrapped. */
static gboolean
look_at_gaps (Conformance *c, guint32 kind)
{
  gsize n = conformance_tables[kind].size / sizeof (gpointer);
  void (*const filler) (void) = never_called;
  for (gsize odd = 0; odd < 2; odd++)
    {
      g_autofree gpointer *table = g_new0 (gpointer, n);
      GsInstance behind = instance_of (kind, table, table), outer = { .size = sizeof outer };
      g_autoptr (GError) error = NULL;
      for (gsize i = odd; i < n; i += 2)
        memcpy (&table[i], &filler, sizeof filler);
      if (!wrap_in_turn (c, &behind, &outer, &error))
        {
          conformance_code (c, FALSE, error, GS_ERROR_UNIMPLEMENTED, "wrap of a kind that is not wrapped");
          return FALSE;
        }
      if (outer.ops == NULL)
        {
          conformance_fail (c, "a table of slots", "wrap succeeded and gave none, for kind %s",
                            conformance_tables[kind].kind);
          return TRUE;
        }
      for (gsize i = 0; i < n; i++)
        if ((((gpointer const *) outer.ops)[i] != NULL) != (table[i] != NULL))
          conformance_fail (c, "exactly the slots that the wrapped instance has", "slot %" G_GSIZE_FORMAT " of kind %s %s",
                            i + 1, conformance_tables[kind].kind, table[i] != NULL ? "is missing" : "was added");
    }
  return TRUE;
}

static void
same_slots (Conformance *c)
{
  static const guint32 kinds[]
      = { GS_KIND_TRANSPORT, GS_KIND_STORAGE, GS_KIND_METADATA, GS_KIND_CACHE, GS_KIND_ACCESS };
  guint n_wrapped = 0;
  for (guint i = 0; i < G_N_ELEMENTS (kinds) && !conformance_has_failed (c); i++)
    n_wrapped += look_at_gaps (c, kinds[i]);
  CHECK (c, n_wrapped > 0, "a kind that it wraps", "UNIMPLEMENTED for all");
}

static void
other_kinds (Conformance *c)
{
  static const guint32 kinds[] = { GS_KIND_ROUTING, GS_KIND_CONSISTENCY, GS_KIND_LAYER, GS_KIND_MAX + 1 };
  gpointer table[64] = { NULL };
  for (guint i = 0; i < G_N_ELEMENTS (kinds); i++)
    {
      GsInstance behind = instance_of (kinds[i], table, table), outer = { .size = sizeof outer };
      CHECK_CODE (c, GS_ERROR_UNIMPLEMENTED, wrap_in_turn (c, &behind, &outer, &error));
    }
}

static void
goes_through (Conformance *c)
{
  Inner inner = { 0 };
  GsInstance outer;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GBytes) key = g_bytes_new_static ("k", 1), value = g_bytes_new_static ("v", 1), found = NULL;
  const GsCacheOps *ops;
  GsCacheStats stats = { .size = sizeof stats };
  if (!wrap_cache (c, &inner, &inner_ops, &outer))
    return;
  ops = outer.ops;
  CHECK_OK (c, ops->store (outer.self, &call, key, value, 77, &error));
  CHECK (c, inner.n_calls == 1, "one call for one call", "%u", inner.n_calls);
  CHECK (c, inner.call == &call && inner.key == key && inner.value == value && inner.ttl_us == 77,
         "the arguments as they were given to store", "others");
  CHECK (c, pthread_equal (inner.thread, pthread_self ()), "the call in its caller's thread", "another thread");
  inner.gives = value;
  CHECK_OK (c, ops->lookup (outer.self, &call, key, &found, &error));
  CHECK (c, inner.n_calls == 2 && inner.key == key, "one call with the arguments of lookup", "%u calls", inner.n_calls - 1);
  CHECK (c, found == value, "what lookup gave", "something else");
  CHECK_OK (c, ops->forget_prefix (outer.self, &call, key, &error));
  CHECK (c, inner.n_calls == 3 && inner.key == key, "one call with the argument of forget_prefix", "%u calls",
         inner.n_calls - 2);
  ops->stats (outer.self, &stats);
  CHECK (c, stats.hits == 4711, "what stats gave", "%" G_GUINT64_FORMAT, stats.hits);
}

static void
failures_too (Conformance *c)
{
  g_autoptr (GError) fails = g_error_new (GS_ERROR, GS_ERROR_ABORTED, "the cache behind says no");
  Inner inner = { .fails = fails };
  GsInstance outer;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GBytes) key = g_bytes_new_static ("k", 1);
  g_autoptr (GError) error = NULL;
  static char other;
  GBytes *found = (GBytes *) &other;
  const GsCacheOps *ops;
  gboolean ok;
  if (!wrap_cache (c, &inner, &inner_ops, &outer))
    return;
  ops = outer.ops;
  ok = ops->lookup (outer.self, &call, key, &found, &error);
  if (!conformance_code (c, ok, error, GS_ERROR_ABORTED, "lookup of a cache that fails"))
    return;
  CHECK (c, strstr (error->message, fails->message) != NULL, "the message of the error", "%s", error->message);
  CHECK (c, found == (GBytes *) &other, "out parameters untouched by a slot that fails", "changed");
  CHECK (c, inner.n_calls == 1, "one call for one call", "%u", inner.n_calls);
  ok = ops->store (outer.self, &call, key, key, 0, NULL); /* a caller that does not ask why */
  CHECK (c, !ok, "store to fail as the cache behind did", "it succeeded");
}

static void
apart (Conformance *c)
{
  Inner one = { 0 }, two = { 0 };
  GsInstance outer_one, outer_two;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GBytes) key = g_bytes_new_static ("k", 1);
  if (!wrap_cache (c, &one, &inner_ops, &outer_one) || !wrap_cache (c, &two, &inner_ops, &outer_two))
    return;
  CHECK_OK (c, ((const GsCacheOps *) outer_two.ops)->store (outer_two.self, &call, key, key, 0, &error));
  CHECK (c, one.n_calls == 0 && two.n_calls == 1, "the call at the second of two instances",
         "%u at the first and %u at the second", one.n_calls, two.n_calls);
  CHECK_OK (c, ((const GsCacheOps *) outer_one.ops)->store (outer_one.self, &call, key, key, 0, &error));
  CHECK (c, one.n_calls == 1 && two.n_calls == 1, "the call at the first of two instances",
         "%u at the first and %u at the second", one.n_calls, two.n_calls);
}

/* ---------------------------------------------------------------------------- what it makes fail itself */

/* What was given to callers and is not back yet. */
typedef struct
{
  guint n_calls, n_given;
} Giver;

static void
taken_back (gpointer user)
{
  ((Giver *) user)->n_given--;
}

static gboolean
giver_lookup (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  Giver *giver = self;
  giver->n_calls++;
  giver->n_given++;
  *ret_value = g_bytes_new_with_free_func ("v", 1, taken_back, giver);
  return TRUE;
}

static gboolean
giver_stage (gpointer self, GsCall *call, const GsRepo *repo, const GsChangeSet *change, gpointer *ret_txn,
             const GsVote **ret_vote, GError **error)
{
  static const GsVote vote = { .size = sizeof vote };
  Giver *giver = self;
  giver->n_calls++;
  giver->n_given++;
  *ret_txn = giver;
  *ret_vote = &vote;
  return TRUE;
}

static void
giver_abort (gpointer self, GsCall *call, gpointer txn, const GError *why)
{
  taken_back (self);
}

static const GsCacheOps giver_cache = { .lookup = giver_lookup, .stats = inner_stats };
static const GsStorageOps giver_storage = { .stage = giver_stage, .abort = giver_abort };

static gboolean
ask_cache (Conformance *c, const GsInstance *outer, gpointer untouched, GError **error)
{
  GsCall call = conformance_call (c, 0);
  g_autoptr (GBytes) key = g_bytes_new_static ("k", 1);
  GBytes *found = untouched;
  if (((const GsCacheOps *) outer->ops)->lookup (outer->self, &call, key, &found, error))
    {
      g_bytes_unref (found);
      return TRUE;
    }
  if (found != untouched)
    conformance_fail (c, "out parameters untouched by a slot that fails", "lookup changed its own");
  return FALSE;
}

static gboolean
ask_storage (Conformance *c, const GsInstance *outer, gpointer untouched, GError **error)
{
  const GsStorageOps *ops = outer->ops;
  GsCall call = conformance_call (c, 0);
  GsRepo repo = { sizeof repo, 1, "one" };
  GsChangeSet change = { .size = sizeof change, .txid = conformance_txid (c) };
  gpointer txn = untouched;
  const GsVote *vote = untouched;
  if (ops->stage (outer->self, &call, &repo, &change, &txn, &vote, error))
    {
      ops->abort (outer->self, &call, txn, NULL);
      return TRUE;
    }
  if (txn != untouched || vote != untouched)
    conformance_fail (c, "out parameters untouched by a slot that fails", "stage changed its own");
  return FALSE;
}

#define N_ASKED 64

/* How many calls it made fail; 0 when it does not wrap the kind either. */
static guint
look_at_failures (Conformance *c, guint32 kind, const void *ops,
                  gboolean (*ask) (Conformance *c, const GsInstance *outer, gpointer untouched, GError **error))
{
  static char untouched;
  Giver giver = { 0 };
  GsInstance behind = instance_of (kind, &giver, ops), outer = { .size = sizeof outer };
  guint n_failed = 0;
  if (!wrap_in_turn (c, &behind, &outer, NULL))
    return 0;
  for (guint i = 0; i < N_ASKED && !conformance_has_failed (c); i++)
    {
      g_autoptr (GError) error = NULL;
      gboolean ok = ask (c, &outer, &untouched, &error);
      n_failed += !ok;
      if (!ok && (error == NULL || error->domain != GS_ERROR))
        conformance_fail (c, "an error of GS_ERROR from what the layer makes fail", "%s",
                          error != NULL ? error->message : "none at all");
    }
  if (giver.n_given != 0)
    conformance_fail (c, "what the wrapped instance gave to be given back when its caller hears of a failure",
                      "%u of %u were kept", giver.n_given, giver.n_calls);
  return n_failed;
}

static void
own_failures (Conformance *c)
{
  guint n = look_at_failures (c, GS_KIND_CACHE, &giver_cache, ask_cache);
  n += look_at_failures (c, GS_KIND_STORAGE, &giver_storage, ask_storage);
  if (n == 0)
    conformance_skip (c, "it makes nothing fail, with the options that it has");
}

#define N_THREADS 4
#define N_EACH 500

static void
crowd_body (Conformance *c, guint index, gpointer user)
{
  const GsInstance *outer = user;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GBytes) key = g_bytes_new_static ("k", 1);
  for (guint i = 0; i < N_EACH && !conformance_has_failed (c); i++)
    {
      GBytes *found = NULL;
      CHECK_OK (c, ((const GsCacheOps *) outer->ops)->lookup (outer->self, &call, key, &found, &error));
    }
}

static void
crowd (Conformance *c)
{
  Inner inner = { 0 };
  GsInstance outer;
  if (!wrap_cache (c, &inner, &counting_ops, &outer))
    return;
  conformance_parallel (c, N_THREADS, crowd_body, &outer);
  CHECK (c, inner.n_calls == N_THREADS * N_EACH, "one call for one call, from many threads at once", "%u for %d",
         inner.n_calls, N_THREADS * N_EACH);
}

const ConformanceCase conformance_layer[] = {
  { "L1", "a wrapped instance has the slots that it had, no more and no fewer", same_slots },
  { "L1", "what cannot be wrapped is refused", other_kinds },
  { "L2", "arguments and results go through", goes_through },
  { "L2", "failures go through", failures_too },
  { "L3", "what the layer makes fail sets an error, touches nothing, and gives back what there was", own_failures },
  { "L4", "two instances behind one layer", apart },
  { "L2", "many threads at once", crowd },
  { NULL, NULL, NULL },
};
