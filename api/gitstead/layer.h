/* SPDX-License-Identifier: Apache-2.0 */
/**
 * layer.h - kind LAYER, of the class of what it wraps: stands between an instance and whoever calls it.
 *
 * A layer wraps an instance of a blocking or async kind (storage, metadata, cache, access, transport): the
 * configuration names it under `layers` of that instance, and from then on the core and all whose need the
 * instance fills call the layer's slots in its place. Layers stack: the first that is named is called first.
 * Pure kinds are not wrapped: what has no effects has nothing to watch or to delay.
 *
 * Life: a layer is created after what it wraps and wraps it at once; it is started before and stopped after it,
 * and destroyed before it. A layer has no needs, and declares GS_THREADS_PARALLEL: turns are taken outside, as
 * the wrapped plugin declares.
 *   [L1] wrap gives a table with exactly the slots that the wrapped instance has, and UNIMPLEMENTED for a kind
 *        that the layer does not wrap.
 *   [L2] What the layer does not mean to change goes through as it is: arguments, results, errors, out
 *        parameters; one call for one call, in the thread of the caller.
 *   [L3] A slot that fails by the layer's doing keeps its kind's promises: an error of GS_ERROR, out
 *        parameters untouched, and whatever the wrapped instance gave is given back to it.
 *   [L4] Several instances, of different kinds too, can be wrapped by one layer, and know nothing of each other.
 */
#ifndef GITSTEAD_LAYER_H
#define GITSTEAD_LAYER_H

#include "host.h"

G_BEGIN_DECLS

typedef struct
{
  /**
   * Wraps @inner, whose table is complete (slots that are lacking are NULL) and which the layer copies: it
   * stays until the layer is destroyed, and none of its slots is called before it was started. @ret_outer is what
   * to call in its place; its self and ops are borrowed until the layer is destroyed. Called before start, by one
   * thread at a time.
   */
  gboolean (*wrap) (gpointer self, const GsInstance *inner, GsInstance *ret_outer, GError **error);
} GsLayerOps;

G_END_DECLS

#endif
