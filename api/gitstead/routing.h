/* SPDX-License-Identifier: Apache-2.0 */
/**
 * routing.h - kind ROUTING, class PURE: decides where repositories go and who answers a read.
 *
 * No I/O, clock, threads or blocking; the same input gives the same output, on every router. What it
 * needs to know is in the views, dice come in as an argument. Any thread, any number at once.
 *   [R1] place returns exactly min (@n_copies, number of eligible nodes) different nodes, best first.
 *        Eligible is who is healthy and has a weight above 0; UNAVAILABLE when nobody is.
 *   [R2] place is a function of its arguments alone; with one node gone, repositories not on it stay.
 *   [R3] pick_reader returns a candidate that is healthy, whenever there is one.
 *   [R4] Neither returns a node that is draining while another would do.
 *   [R5] place_named keeps what place promises, and answers as place does where no name matters.
 */
#ifndef GITSTEAD_ROUTING_H
#define GITSTEAD_ROUTING_H

#include "host.h"

G_BEGIN_DECLS

/** A node with one storage, as the router sees it. Lists are arrays of pointers: this struct can grow. */
typedef struct
{
  guint32 size;
  const char *name;        /* unique in the virtual storage, never NULL */
  const char *zone;        /* "" when not configured */
  gint64 weight;           /* from the configuration; 1 by default; 0 = no new repositories */
  gboolean healthy;
  gboolean draining;
  guint32 in_flight;       /* calls under way */
  guint64 used_bytes, free_bytes; /* 0 when not known */
} GsNodeView;

typedef struct
{
  /** @key names the repository (its id in 8 bytes big endian). @ret_nodes has room for @n_copies indexes. */
  gboolean (*place) (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n_nodes,
                     gsize n_copies, gsize *ret_nodes, gsize *ret_n, GError **error);
  /** @candidates are the current replicas. @dice is a random number. UNAVAILABLE when none is healthy. */
  gboolean (*pick_reader) (gpointer self, GBytes *key, const GsNodeView *const *candidates,
                           gsize n_candidates, guint64 dice, gsize *ret_index, GError **error);
  /** Optional, called instead of place: by policies that go by names. @path is what clients call the repository. */
  gboolean (*place_named) (gpointer self, GBytes *key, const char *path, const GsNodeView *const *nodes,
                           gsize n_nodes, gsize n_copies, gsize *ret_nodes, gsize *ret_n, GError **error);
} GsRoutingOps;

G_END_DECLS

#endif
