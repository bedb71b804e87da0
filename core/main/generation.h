/* SPDX-License-Identifier: Apache-2.0 */
/**
 * generation.h - what one configuration made of the server: instances, router, limits. It never changes.
 *
 * A reload makes the next one beside it. Calls and the server's own work hold a generation by its wiring from begin to
 * end, so the old one ends when the last of them has. See docs/decisions/0017-reload.md.
 */
#ifndef GSI_MAIN_GENERATION_H
#define GSI_MAIN_GENERATION_H

#include "plugin/registry.h"
#include "router/router.h"
#include "rpc/rpc.h"

typedef struct GsiServer GsiServer;

typedef struct
{
  GsiServer *server;
  GsiRegistry *registry;
  GsiRouter *router;  /* NULL until gsi_generation_wire */
  GsiWiring *wiring;  /* the server's own reference; NULL once it was replaced */
  GPtrArray *storages; /* of GsiStorage */
  GPtrArray *groups;   /* of GsiStorageGroup */
  GArray *policies;    /* of GsiPolicy */
  GPtrArray *probes;   /* of GsiProbe (probe.h) */
  GPtrArray *gone;     /* transports that the next one does not have; NULL before it was replaced */
  gint64 retired_us;   /* when it was replaced */
  gint released;       /* atomic: nobody holds the wiring any more */
} GsiGeneration;

/** *full* (gsi_generation_free). Takes @registry. */
GsiGeneration *gsi_generation_new (GsiServer *server, GsiRegistry *registry);
/** Makes router and wiring of the registry's instances, which run, after those of @before (may be NULL). */
void gsi_generation_wire (GsiGeneration *generation, GsiGeneration *before);
/** Stops and destroys what no other generation holds. The wiring was released, or no call ever began. NULL is fine. */
void gsi_generation_free (GsiGeneration *generation);

/** The calls' limits as the `server:` section has them. */
void gsi_generation_limits (const GsiRegistry *registry, GsiRpcLimits *ret_limits);

#endif
