/* SPDX-License-Identifier: Apache-2.0 */
/*
 * consistency/@NAME@: one replica takes the write and applies it before the answer.
 *
 * Of several assigned replicas the first that is current and healthy takes it; the others are repaired afterwards.
 * Once the decision was asked for, only the metadata store can say no: a participant that is lost then has the write
 * in its journal and applies it when it is back.
 *
 * It is whole as it stands; what a transaction promises stands in gitstead/consistency.h.
 */
#include <gitstead/consistency.h>

typedef enum
{
  DIRECT_NEW,
  DIRECT_STAGING,
  DIRECT_DECIDING,
  DIRECT_APPLYING,
  DIRECT_ACKNOWLEDGED,
  DIRECT_FAILED
} DirectState;

typedef struct
{
  DirectState state;
  gsize n_participants;
  gsize chosen;
  gboolean lost;      /* while the decision was under way */
  const char *refuse; /* why it fails before it begins; NULL = it does not */
  guint32 refuse_code;
} DirectTxn;

static void
act (GsActions *out, guint32 type, gsize participant)
{
  out->add (out, &(GsAction){ .type = type, .participant = participant });
}

static void
fail (DirectTxn *txn, GsActions *out, guint32 code, const char *reason)
{
  out->add (out, &(GsAction){ .type = GS_ACTION_FAIL, .code = code, .reason = reason });
  txn->state = DIRECT_FAILED;
}

static void
acknowledge (DirectTxn *txn, GsActions *out)
{
  act (out, GS_ACTION_ACKNOWLEDGE, 0);
  for (gsize i = 0; i < txn->n_participants; i++)
    if (i != txn->chosen || txn->lost)
      act (out, GS_ACTION_REPAIR, i);
  txn->state = DIRECT_ACKNOWLEDGED;
}

static void
choose (DirectTxn *txn, const GsTxnSetup *setup)
{
  gboolean current = FALSE;
  for (gsize i = 0; i < setup->n_participants; i++)
    {
      if (setup->participants[i]->current && setup->participants[i]->healthy)
        {
          txn->chosen = i;
          return;
        }
      current = current || setup->participants[i]->current;
    }
  txn->refuse_code = current ? GS_ERROR_UNAVAILABLE : GS_ERROR_FAILED_PRECONDITION;
  txn->refuse = current ? "no node that has the newest state of the repository can be reached"
                        : "no replica has the newest state of the repository; it is read-only until one is repaired";
}

static gpointer
direct_txn_new (gpointer self, const GsTxnSetup *setup, GError **error)
{
  DirectTxn *txn;
  if (setup->n_participants == 0 || setup->participants == NULL)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "the repository has no replica that could take a write");
      return NULL;
    }
  txn = g_new0 (DirectTxn, 1);
  txn->n_participants = setup->n_participants;
  choose (txn, setup);
  if (setup->min_copies > 1)
    {
      txn->refuse_code = GS_ERROR_FAILED_PRECONDITION;
      txn->refuse
          = "min_copies asks for more than one durable copy, and consistency “@NAME@” makes one; choose another "
            "consistency for this virtual storage";
    }
  return txn;
}

static void
on_lost (DirectTxn *txn, GsActions *out)
{
  if (txn->state == DIRECT_STAGING)
    {
      act (out, GS_ACTION_ABORT, txn->chosen); /* it may have staged it and been lost on the way back */
      fail (txn, out, GS_ERROR_UNAVAILABLE, "the replica that was to take it did not");
    }
  else if (txn->state == DIRECT_DECIDING || txn->state == DIRECT_APPLYING)
    {
      txn->lost = TRUE;
      if (txn->state == DIRECT_APPLYING)
        acknowledge (txn, out); /* decided, and durable in its journal */
    }
}

static void
on_staged (DirectTxn *txn, GsActions *out)
{
  if (txn->state == DIRECT_STAGING)
    {
      txn->state = DIRECT_DECIDING;
      act (out, GS_ACTION_VOTER, txn->chosen);
      act (out, GS_ACTION_DECIDE, 0);
    }
  else if (txn->state == DIRECT_FAILED)
    act (out, GS_ACTION_ABORT, txn->chosen); /* it staged after we gave it up */
}

static void
on_decided (DirectTxn *txn, GsActions *out)
{
  txn->state = DIRECT_APPLYING;
  act (out, GS_ACTION_APPLY, txn->chosen);
  if (txn->lost)
    acknowledge (txn, out);
}

static void
direct_txn_step (gpointer self, gpointer data, const GsEvent *event, GsActions *out)
{
  DirectTxn *txn = data;
  gboolean ours = event->participant == txn->chosen;
  switch (event->type)
    {
    case GS_EVENT_BEGIN:
      if (txn->state != DIRECT_NEW)
        break;
      txn->state = DIRECT_STAGING;
      if (txn->refuse != NULL)
        fail (txn, out, txn->refuse_code, txn->refuse);
      else
        act (out, GS_ACTION_STAGE, txn->chosen);
      break;
    case GS_EVENT_STAGED:
      if (ours)
        on_staged (txn, out);
      else
        act (out, GS_ACTION_ABORT, event->participant); /* never asked for: it must not keep locks */
      break;
    case GS_EVENT_LOST:
      if (ours)
        on_lost (txn, out);
      break;
    case GS_EVENT_DECIDED:
      if (txn->state == DIRECT_DECIDING)
        on_decided (txn, out);
      break;
    case GS_EVENT_REFUSED:
      if (txn->state == DIRECT_DECIDING)
        {
          act (out, GS_ACTION_ABORT, txn->chosen);
          fail (txn, out, GS_ERROR_ABORTED, "it was aborted before it could be decided");
        }
      break;
    case GS_EVENT_UNDECIDED: /* the one that took it missed another write meanwhile */
      if (txn->state == DIRECT_DECIDING)
        {
          act (out, GS_ACTION_ABORT, txn->chosen);
          fail (txn, out, GS_ERROR_ABORTED, "another write was decided meanwhile without the replica that took it");
        }
      break;
    case GS_EVENT_APPLIED:
      if (ours && txn->state == DIRECT_APPLYING)
        acknowledge (txn, out);
      break;
    default: /* no timer is ever asked for; after BEHIND comes UNDECIDED */
      break;
    }
}

static void
direct_txn_free (gpointer self, gpointer txn)
{
  g_free (txn);
}

static gpointer
direct_create (const GsHost *host, const GsConfig *config, GError **error)
{
  return g_new0 (char, 1); /* nothing to keep */
}

static const GsConsistencyOps direct_ops = {
  .txn_new = direct_txn_new,
  .txn_step = direct_txn_step,
  .txn_free = direct_txn_free,
};

GS_PLUGIN_DEFINE (GsConsistencyOps, .kind = GS_KIND_CONSISTENCY, .threads = GS_THREADS_PARALLEL, .name = "@NAME@",
                  .version = "0.1.0", .summary = "One replica takes each write and applies it before the answer",
                  .license = "Apache-2.0", .ops = &direct_ops, .create = direct_create, .destroy = g_free)
