/* SPDX-License-Identifier: Apache-2.0 */
/**
 * nodes.h - what a router knows of nodes beside its configuration: their state as the metadata store has it, and since
 * when each answers or does not.
 *
 * A timer refreshes it, so that placing and reading ask nobody. When the metadata store is away, the last it said stands.
 */
#ifndef GSI_ROUTER_NODES_H
#define GSI_ROUTER_NODES_H

#include "router/router.h"

typedef struct GsiNodes GsiNodes;

/** One storage. Texts borrowed as long as the table that gsi_nodes_all gave. */
typedef struct
{
  char *storage;
  gboolean reported; /* the metadata store knows it: what follows is set */
  GsNodeState state;
  GsTxId disk_id;
  char *address;
  guint64 free_bytes, total_bytes;
  gint64 seen_wall_us;
  gboolean joined;
  /* Of the storages of this process: */
  gboolean looked, up;
  gint64 since_wall_us; /* 0 = it was so from the first look on */
} GsiNodeInfo;

/** *full*. Shared by the routers of one process, one after the other. */
GsiNodes *gsi_nodes_new (void);
GsiNodes *gsi_nodes_ref (GsiNodes *nodes);
/** NULL is fine. */
void gsi_nodes_unref (GsiNodes *nodes);

/** Looks at the storages of @router and asks the metadata store. FALSE when that is away: then only the former is new. */
gboolean gsi_nodes_refresh (GsiNodes *nodes, GsiRouter *router, GsCall *call, GError **error);
/** A storage's state: ACTIVE for one that never reported. Never blocks. */
GsNodeState gsi_nodes_state (GsiNodes *nodes, const char *storage);
/** Fills in what is known of its disk; untouched when nothing is. Never blocks. */
void gsi_nodes_room (GsiNodes *nodes, const char *storage, guint64 *ret_free, guint64 *ret_total);
/** Copies of all that are known, in order of name: of GsiNodeInfo. *full* (g_ptr_array_unref). */
GPtrArray *gsi_nodes_all (GsiNodes *nodes);

#endif
