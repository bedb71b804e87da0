/* SPDX-License-Identifier: Apache-2.0 */
/* Reads: any current replica serves; a failed one is retried elsewhere while nothing has been sent. */
#include "router/router.h"

static GsiReadHandler
find_read (guint32 number)
{
  for (const GsiReadBinding *read = gsi_node_reads (); read->number != 0; read++)
    if (read->number == number)
      return read->read;
  return NULL;
}

/* Does it say something about the replica rather than about the request? */
static gboolean
worth_another_replica (const GError *error)
{
  int code = gs_error_code (error);
  return code == GS_ERROR_UNAVAILABLE || code == GS_ERROR_DATA_LOSS || code == GS_ERROR_INTERNAL;
}

typedef struct
{
  GsNodeView view;
  const GsiStorage *storage;
} Candidate;

/* Replicas that hold everything decided so far and are on a storage of this process. */
static GArray *
current_replicas (GsiRouter *router, const GsiRow *row)
{
  GArray *candidates = g_array_new (FALSE, TRUE, sizeof (Candidate));
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiStorage *storage = gsi_router_storage (router, row->replicas[i].storage);
      Candidate candidate = { .storage = storage };
      if (storage == NULL || row->replicas[i].generation < row->generation)
        continue;
      candidate.view = gsi_router_view (storage);
      g_array_append_val (candidates, candidate);
    }
  return candidates;
}

static gboolean
pick (const GsiStorageGroup *vs, const GsHost *host, guint64 id, GArray *candidates, gsize *ret_index,
      GError **error)
{
  guint64 key_bytes = GUINT64_TO_BE (id), dice;
  g_autoptr (GBytes) key = g_bytes_new (&key_bytes, sizeof key_bytes);
  g_autofree const GsNodeView **views = g_new (const GsNodeView *, candidates->len);
  for (guint i = 0; i < candidates->len; i++)
    views[i] = &g_array_index (candidates, Candidate, i).view;
  host->random (host, &dice, sizeof dice);
  return vs->routing->pick_reader (vs->routing_self, key, views, candidates->len, dice, ret_index, error);
}

/* Runs the read, counted as under way on its storage. */
static gboolean
read_counted (GsiReadHandler read, const GsiReplica *replica, GsiCall *call, GError **error)
{
  guint32 *reads = replica->storage->reads;
  gboolean ok;
  if (reads != NULL)
    __atomic_add_fetch (reads, 1, __ATOMIC_RELAXED);
  ok = read (replica, call, error);
  if (reads != NULL)
    __atomic_sub_fetch (reads, 1, __ATOMIC_RELAXED);
  return ok;
}

gboolean
gsi_router_read (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  GsiReadHandler read = find_read (call->method->number);
  const GsiStorageGroup *vs;
  g_autoptr (GsiRow) row = gsi_router_locate (router, call, &vs, error);
  g_autoptr (GArray) candidates = NULL;
  g_autoptr (GError) why = NULL;

  if (row == NULL)
    return FALSE;
  gsi_router_recheck (router, call, row);
  candidates = current_replicas (router, row);
  while (candidates->len > 0)
    {
      GsiReplica replica;
      gsize index = 0;
      if (!pick (vs, config->host, row->id, candidates, &index, error))
        return FALSE;
      g_clear_error (&why);
      replica = gsi_router_replica (router, g_array_index (candidates, Candidate, index).storage, row);
      if (read_counted (read, &replica, call, &why))
        return TRUE;
      if (!worth_another_replica (why) || (call->stream != NULL && gs_call_cancelled (&call->base)))
        break;
      g_array_remove_index (candidates, (guint) index);
      if (call->method->bytes_out)
        break; /* bytes may be on their way: the client decides */
    }
  if (why == NULL)
    return gs_fail (error, GS_ERROR_UNAVAILABLE,
                    "no current replica of repository '%s' can be reached (generation %" G_GUINT64_FORMAT
                    "); it is being repaired, try again",
                    row->path, row->generation);
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}
