/* SPDX-License-Identifier: Apache-2.0 */
/*
 * consistency/primary: the primary takes the write and the answer comes after its apply; the others are repaired at
 * once.
 *
 * The primary is the first assigned replica that is current and healthy. While the others have not caught up it is the
 * only current one, so it stays the primary by itself; when it dies before they did, the repository is read-only until
 * it is back or its newest writes are given up. With min_copies above 1 the next ones in line have to take the write as
 * well.
 */
#include "tally.h"

typedef struct
{
  gint64 laggard_wait_us;
} Primary;

static gpointer
primary_txn_new (gpointer self, const GsTxnSetup *setup, GError **error)
{
  const Primary *primary = self;
  gsize n_needed = MAX (setup->min_copies, 1);
  Tally *tally = tally_new (setup, error);
  if (tally == NULL)
    return NULL;
  if (n_needed > setup->n_participants)
    tally_refuse (tally, GS_ERROR_FAILED_PRECONDITION,
                  g_strdup_printf ("min_copies asks for %" G_GSIZE_FORMAT
                                   " durable copies, and the repository has %" G_GSIZE_FORMAT
                                   "; give it more replicas or lower min_copies",
                                   n_needed, setup->n_participants));
  else if (tally_able (tally) < n_needed)
    tally_refuse_missing (tally, n_needed);
  else
    tally_begin_with (tally, n_needed, n_needed, primary->laggard_wait_us);
  return tally;
}

static void
primary_txn_step (gpointer self, gpointer txn, const GsEvent *event, GsActions *out)
{
  tally_step (txn, event, out);
}

static void
primary_txn_free (gpointer self, gpointer txn)
{
  tally_free (txn);
}

static const GsOption primary_options[] = {
  { .key = "laggard_wait",
    .type = GS_OPTION_DURATION,
    .fallback = "500ms",
    .min = G_USEC_PER_SEC / 1000,
    .max = 60 * (gint64) G_USEC_PER_SEC,
    .help = "With min_copies above 1: how long a decided write waits for the slower of them to apply it." },
  { NULL },
};

static gpointer
primary_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Primary *primary = g_new0 (Primary, 1);
  primary->laggard_wait_us = config->integer (config, "laggard_wait");
  return primary;
}

static const GsConsistencyOps primary_ops = {
  .txn_new = primary_txn_new,
  .txn_step = primary_txn_step,
  .txn_free = primary_txn_free,
};

GS_PLUGIN_DEFINE (GsConsistencyOps, .kind = GS_KIND_CONSISTENCY, .threads = GS_THREADS_PARALLEL, .name = "primary",
                  .version = "0.1.0", .summary = "The primary takes each write; the other replicas follow",
                  .license = "Apache-2.0", .options = primary_options, .ops = &primary_ops, .create = primary_create,
                  .destroy = g_free)
