/* SPDX-License-Identifier: Apache-2.0 */
/*
 * consistency/quorum: all that are current and healthy take the write; it is decided when a majority of the assigned
 * replicas, and at least min_copies of them, voted alike.
 *
 * Who decides is the metadata store, so a majority is not what keeps two routers from deciding differently: it is what
 * makes sure that whatever majority of the disks survives has every acknowledged write.
 */
#include "tally.h"

typedef struct
{
  gboolean all;
  gint64 laggard_wait_us;
} Quorum;

static gpointer
quorum_txn_new (gpointer self, const GsTxnSetup *setup, GError **error)
{
  const Quorum *quorum = self;
  Tally *tally = tally_new (setup, error);
  gsize n_needed = quorum->all ? setup->n_participants : setup->n_participants / 2 + 1;
  if (tally == NULL)
    return NULL;
  n_needed = MAX (n_needed, setup->min_copies);
  if (setup->min_copies > setup->n_participants)
    tally_refuse (tally, GS_ERROR_FAILED_PRECONDITION,
                  g_strdup_printf ("min_copies asks for %" G_GSIZE_FORMAT
                                   " durable copies, and the repository has %" G_GSIZE_FORMAT
                                   "; give it more replicas or lower min_copies",
                                   setup->min_copies, setup->n_participants));
  else if (tally_able (tally) < n_needed)
    tally_refuse_missing (tally, n_needed);
  else
    tally_begin_with (tally, tally_able (tally), n_needed, quorum->laggard_wait_us);
  return tally;
}

static void
quorum_txn_step (gpointer self, gpointer txn, const GsEvent *event, GsActions *out)
{
  tally_step (txn, event, out);
}

static void
quorum_txn_free (gpointer self, gpointer txn)
{
  tally_free (txn);
}

static const GsOption quorum_options[] = {
  { .key = "rule",
    .type = GS_OPTION_CHOICE,
    .fallback = "majority",
    .choices = "majority|all",
    .help
    = "How many of the assigned replicas have to take a write: more than half of them, or all. min_copies may ask "
      "for more than the majority." },
  { .key = "laggard_wait",
    .type = GS_OPTION_DURATION,
    .fallback = "5s",
    .min = G_USEC_PER_SEC / 1000,
    .max = 60 * (gint64) G_USEC_PER_SEC,
    .help = "How long a write waits for the remaining replicas once enough have it, first to stage and then to apply "
            "it. One that takes longer is left behind, to be repaired." },
  { NULL },
};

static gpointer
quorum_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Quorum *quorum = g_new0 (Quorum, 1);
  quorum->all = strcmp (config->string (config, "rule"), "all") == 0;
  quorum->laggard_wait_us = config->integer (config, "laggard_wait");
  return quorum;
}

static const GsConsistencyOps quorum_ops = {
  .txn_new = quorum_txn_new,
  .txn_step = quorum_txn_step,
  .txn_free = quorum_txn_free,
};

GS_PLUGIN_DEFINE (GsConsistencyOps, .kind = GS_KIND_CONSISTENCY, .threads = GS_THREADS_PARALLEL, .name = "quorum",
                  .version = "0.1.0",
                  .summary = "A majority of the assigned replicas takes each write before the answer",
                  .license = "Apache-2.0", .options = quorum_options, .ops = &quorum_ops, .create = quorum_create,
                  .destroy = g_free)
