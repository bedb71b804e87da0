/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wrap.h - what the layers have in common: a function for every slot of every kind that can be wrapped (made from the
 * headers by wrap.py), which asks the layer before and after the wrapped instance's own.
 *
 * Each layer is compiled with its own copy. It defines wrap_before and wrap_after, and gives wrap_table to GsLayerOps.
 */
#ifndef LAYERS_WRAP_H
#define LAYERS_WRAP_H

#include <gitstead/access.h>
#include <gitstead/cache.h>
#include <gitstead/layer.h>
#include <gitstead/metadata.h>
#include <gitstead/storage.h>
#include <gitstead/thread.h>
#include <gitstead/transport.h>

/* A slot that can fail: it has an error to set. */
#define WRAP_FAILS (1u << 0)
/* It takes what it is given whatever comes out of it: it must not be left out. */
#define WRAP_CONSUMES (1u << 1)

typedef struct
{
  const char *name; /* "find_ref" */
  guint32 flags;
} WrapSlot;

/* Slots of a kind, in the order of its table; ends with name NULL. NULL for a kind that is not wrapped. */
const WrapSlot *wrap_slots (guint32 kind);

typedef struct WrapList WrapList;

/* One wrapped instance. */
typedef struct
{
  WrapList *list;
  GsInstance inner;
  gpointer *ops; /* of wrapped functions, with the gaps of inner.ops */
} Wrap;

/* What a layer's self begins with. */
struct WrapList
{
  const GsHost *host;
  char **chosen; /* names of slots; empty = all */
  GPtrArray *wraps;
};

/* One call on its way through. */
typedef struct
{
  const WrapSlot *slot;
  GsCall *call;       /* NULL: the slot takes none */
  const GsRepo *repo; /* NULL: the slot takes none */
  gint64 began_us;    /* the layer's own */
  guint64 number;     /* the layer's own */
  gboolean chosen;    /* by the option "slots" */
  gboolean fail;      /* set by wrap_before: once it has succeeded, undo what the caller would get, and fail */
} WrapPass;

/* FALSE with @error: the wrapped instance is not asked. Always TRUE for a slot without WRAP_FAILS or with WRAP_CONSUMES. */
gboolean wrap_before (const Wrap *wrap, WrapPass *pass, GError **error);
/* For pass->fail. Sets @error. */
void wrap_fail (const Wrap *wrap, const WrapPass *pass, GError **error);
/* @error is what the caller will get, NULL when it succeeded. */
void wrap_after (const Wrap *wrap, const WrapPass *pass, const GError *error);

/* GsLayerOps.wrap. */
gboolean wrap_wrap (gpointer list, const GsInstance *inner, GsInstance *ret_outer, GError **error);
/* Takes over the option "slots". */
void wrap_list_init (WrapList *list, const GsHost *host, const GsConfig *config);
void wrap_list_clear (WrapList *list);

/* For the generated functions: fills in @pass and asks wrap_before. */
gboolean wrap_enter (const Wrap *wrap, WrapPass *pass, GError **error);
/* The table of a kind, all slots filled, and its size. */
const void *wrap_table (guint32 kind, gsize *ret_size);

/* The row of the option that wrap_list_init reads. */
#define WRAP_SLOTS_OPTION                                                                                              \
  {                                                                                                                    \
    .key = "slots", .type = GS_OPTION_LIST,                                                                            \
    .help = "Names of the slots that are meant, as the kind's header has them. Unset: all."                            \
  }

#endif
