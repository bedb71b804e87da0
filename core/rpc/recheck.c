/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rights that end while a call lasts. Who may is asked when a call begins; a clone, a stream of events or a fetch from another
 * server goes on for hours with the answer, so it is asked again while they do.
 */
#include "private.h"

static int
no_cancel_fd (GsCall *call)
{
  return -1;
}

/* With references. */
static GPtrArray *
calls_under_way (GsiRpc *rpc)
{
  GPtrArray *calls = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer value;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&rpc->lock);
  g_hash_table_iter_init (&iter, rpc->calls);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Call *call = value;
      if (call->identity != NULL && call->identity != &gsi_cluster_identity && call->stop == STOP_NONE)
        g_ptr_array_add (calls, gsi_record_ref (call));
    }
  return calls;
}

/* A stream is not to wait long for an answer that says nothing. */
#define STREAM_PATIENCE_US (2 * G_USEC_PER_SEC)

/* FALSE only when the plugin says so: one that cannot tell now is asked again. */
static gboolean
still_counts (const Call *call, gint64 until_us)
{
  const GsiWiringSetup *wiring = &call->wiring->setup;
  g_autoptr (GError) why = NULL;
  GsCall own = { .size = sizeof own };
  own.deadline_us = until_us;
  own.identity = call->identity;
  own.peer = "";
  own.cancel_fd = no_cancel_fd;
  return wiring->access->recheck == NULL || wiring->access->recheck (wiring->access_self, &own, call->identity, &why)
         || gs_error_code (why) != GS_ERROR_UNAUTHENTICATED;
}

gboolean
gsi_call_recheck (GsiCall *public_call, GError **error)
{
  Call *call = (Call *) public_call;
  if (call->identity == NULL || call->identity == &gsi_cluster_identity
      || still_counts (call, g_get_monotonic_time () + STREAM_PATIENCE_US))
    return TRUE;
  g_propagate_error (error, gsi_record_stop_error (call, STOP_REVOKED));
  return FALSE;
}

static void
end_revoked (Call *call)
{
  GsiRpc *rpc = call->rpc;
  gboolean ours;
  gsi_log (rpc->log, GS_LOG_INFO, "call.revoked", GS_TEXT ("method", call->call.method->name),
           GS_TEXT ("caller", call->identity->name), GS_TEXT ("peer", call->peer));
  gs_mutex_lock (&rpc->lock);
  ours = gsi_record_stop_locked (call, STOP_REVOKED, TRUE);
  gs_mutex_unlock (&rpc->lock);
  if (ours)
    gsi_record_end_stopped (call);
}

void
gsi_rpc_recheck (GsiRpc *rpc)
{
  g_autoptr (GPtrArray) calls = calls_under_way (rpc);
  gint64 until_us = g_get_monotonic_time () + GSI_RECHECK_PATIENCE_US;
  for (guint i = 0; i < calls->len; i++)
    {
      Call *call = calls->pdata[i];
      if (g_get_monotonic_time () < until_us && !still_counts (call, until_us))
        end_revoked (call);
      gsi_record_unref (call);
    }
}
