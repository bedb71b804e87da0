/* SPDX-License-Identifier: Apache-2.0 */
/**
 * probe.h - is the metadata store there, are the storages? Asked every second on the worker pool.
 *
 * Pages and calls look at the last answers and never wait: a disk that hangs holds up one worker, and nobody who asks
 * how the server is. A thing that has not answered for GSI_PROBE_PATIENCE_US is not ready.
 */
#ifndef GSI_MAIN_PROBE_H
#define GSI_MAIN_PROBE_H

#include "main/generation.h"

#define GSI_PROBE_EVERY_US (1 * G_USEC_PER_SEC)
#define GSI_PROBE_PATIENCE_US (5 * G_USEC_PER_SEC)

typedef struct GsiProbe GsiProbe;

/** Makes @generation's probes; what @before (may be NULL) asked already is asked on. Others are asked once, here. */
void gsi_probes_make (GsiGeneration *generation, GsiGeneration *before);
void gsi_probe_unref (GsiProbe *probe);

/** Begins to ask what @server has now, every second until it stops. Once. */
void gsi_probes_start (GsiServer *server);
/** The rounds in which calls that last are asked whether they still may (gsi_rpc_recheck); likewise. */
void gsi_rechecks_start (GsiServer *server);

/** How one thing was when it answered last. */
typedef struct
{
  const char *what;  /* "storage", "metadata store" */
  const char *name;  /* borrowed from the generation */
  char *problem;     /* NULL: it is well. *full* */
  gint64 age_us;     /* since the last answer */
} GsiProbeResult;

/** All of @generation's. Never blocks. *full* (g_array_unref), of GsiProbeResult. */
GArray *gsi_probes_look (GsiGeneration *generation);

#endif
