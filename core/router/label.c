/* SPDX-License-Identifier: Apache-2.0 */
/* Labels of replicas. See label.h. */
#include "router/label.h"

#include "router/repair.h"
#include "router/settle.h"

#define METHOD_LABEL 1090
#define REPLY_BUDGET (4u << 20)
/* The record may change while its label is written. */
#define TRIES 5
/* Of one storage: nobody who renames a repository waits longer for a node that hangs. */
#define PATIENCE_US (2 * G_USEC_PER_SEC)

const ProtobufCMessage *
gsi_replica_ask (const GsiStorage *storage, GsCall *call, const GsRepo *repo, guint32 method,
                 const ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply, GsArena *arena, GError **error)
{
  g_autoptr (GBytes) bytes = NULL, answer = NULL;
  GsQuery query = { sizeof query, method, NULL, NULL };
  const guint8 *data;
  gsize len;
  if (storage->ops->query == NULL)
    {
      gs_fail (error, GS_ERROR_UNIMPLEMENTED, "storage '%s' answers no questions about its replicas", storage->name);
      return NULL;
    }
  query.request = bytes = gs_wire_encode (request);
  if (!storage->ops->query (storage->self, call, repo, &query, &answer, error))
    return NULL;
  data = g_bytes_get_data (answer, &len);
  return gs_wire_decode (arena, reply, data, len, error);
}

static gboolean
same_label (const GsiRow *a, const GsiRow *b)
{
  return strcmp (a->virtual_storage, b->virtual_storage) == 0 && strcmp (a->path, b->path) == 0 && a->copies == b->copies
         && g_strcmp0 (a->consistency, b->consistency) == 0;
}

static gboolean
put (const GsiRouterConfig *config, GsCall *call, const GsiStorage *storage, const GsiRow *row, GError **error)
{
  const GsRepo repo = { sizeof repo, row->id, row->replica_path };
  Gitstead__V1__ReplicaLabelRequest request = GITSTEAD__V1__REPLICA_LABEL_REQUEST__INIT;
  Gitstead__V1__ReplicaLabel label = GITSTEAD__V1__REPLICA_LABEL__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  label.version = (guint64) MAX (config->host->wall_us (config->host), 1);
  label.virtual_storage = row->virtual_storage;
  label.path = row->path;
  label.copies = row->copies;
  label.consistency = row->consistency != NULL ? row->consistency : (char *) "";
  label.created_us = row->created_wall_us;
  request.label = &label;
  return gsi_replica_ask (storage, call, &repo, METHOD_LABEL, &request.base,
                          &gitstead__v1__replica_label_reply__descriptor, arena, error) != NULL;
}

/* TRUE with *@ret_row NULL: it is gone. */
static gboolean
read_row (const GsiRouterConfig *config, GsCall *call, guint64 id, GsiRow **ret_row, GError **error)
{
  g_autoptr (GError) why = NULL;
  if (config->metadata->repo_get (config->metadata_self, call, id, gsi_row_visit, ret_row, &why)
      || gs_error_code (why) == GS_ERROR_NOT_FOUND)
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

/*
 * Two who write it at the same time may each have read another record. So who wrote looks again: whoever is last sees the
 * record that holds.
 */
gboolean
gsi_label_write (GsiRouter *router, GsCall *call, const GsiStorage *storage, guint64 id, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GsiRow) row = NULL;
  if (storage->ops->query == NULL)
    return TRUE;
  if (!read_row (config, call, id, &row, error))
    return FALSE;
  for (guint i = 0; row != NULL && i < TRIES; i++)
    {
      g_autoptr (GsiRow) after = NULL;
      g_autoptr (GError) why = NULL;
      if (!put (config, call, storage, row, &why))
        {
          if (gs_error_code (why) == GS_ERROR_UNIMPLEMENTED)
            return TRUE;
          g_propagate_error (error, g_steal_pointer (&why));
          return FALSE;
        }
      if (!read_row (config, call, id, &after, error))
        return FALSE;
      if (after == NULL || same_label (row, after))
        return TRUE;
      gsi_row_free (row);
      row = g_steal_pointer (&after);
    }
  return TRUE;
}

void
gsi_label_spread (GsiRouter *router, guint64 id)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GsiRow) row = NULL;
  GsIdentity identity;
  GsCall call;
  gsi_own_call_init (&call, &identity, "label");
  call.deadline_us = g_get_monotonic_time () + PATIENCE_US;
  if (!read_row (config, &call, id, &row, NULL) || row == NULL)
    return; /* the next verification of each replica sees to it */
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiStorage *storage = gsi_router_storage (router, row->replicas[i].storage);
      g_autoptr (GError) why = NULL;
      if (storage != NULL && storage->ops->query == NULL)
        continue; /* it keeps none */
      call.deadline_us = g_get_monotonic_time () + PATIENCE_US;
      if (storage != NULL && (storage->ops->probe == NULL || storage->ops->probe (storage->self, NULL))
          && gsi_label_write (router, &call, storage, id, &why))
        continue;
      call.deadline_us = g_get_monotonic_time () + PATIENCE_US;
      gsi_router_ask_job (router, &call, GSI_JOB_VERIFY, id, row->replicas[i].storage,
                          "it was away when its repository was named anew", 0, NULL, NULL);
    }
}
