/* SPDX-License-Identifier: Apache-2.0 */
/* registry-private.h - shared by settings.c (file to instances), order.c (needs), instance.c and registry.c (life), and
 * reload.c (from one registry to the next). */
#ifndef GSI_PLUGIN_REGISTRY_PRIVATE_H
#define GSI_PLUGIN_REGISTRY_PRIVATE_H

#include "plugin/loader-private.h"
#include "plugin/registry.h"
#include <gitstead/thread.h>

typedef struct GsiLayer GsiLayer;

struct GsiInstance
{
  guint refs;        /* registries that hold it; of the main thread */
  GsiLoader *loader; /* a reference: plugin lives in it */
  GsInstance pub;    /* the plugin's own */
  GsInstance outer;  /* what others call: that, the outermost layer's, or the turns before them */
  GsInstance inner;  /* what is called when it is one's turn; of a plugin that asks for turns */
  gpointer *turn_ops; /* the table of turns, with the gaps of inner.ops */
  GPtrArray *layers; /* GsiLayer, the outermost first */
  char *name, *label;      /* "default", "storage default" */
  const GsiPlugin *plugin; /* NULL when it could not be loaded: there is a problem about it already */
  GsiOptions *options;
  GsiOptions *wanted; /* during a reload: the options that it is to take in place; NULL when they stay */
  gpointer adjusting; /* during a reload: what its adjust slot returned */
  const GsiNode *node; /* its mapping; NULL for one that nobody wrote */
  GsiInstance **needs; /* one per row of the plugin's needs; NULL for an optional one that is absent */
  gsize n_needs;
  GsiHost *host;
  gboolean created, running, stopped;
  guint mark; /* for order.c */

  GsMutex lock; /* of turns */
  GsCond turn;
  gint64 patience_us; /* see GSI_PATIENCE_SHORT */
  GHashTable *turns; /* those that are taken, by repository id (guint64); 0 for SERIAL */
  GHashTable *handed_out; /* staged and computed writes -> guint64, their repository; for PER_REPO */
};

typedef struct
{
  GsiVirtualStorage pub;
  const GsiNode *node;
  char *name;
  char **storages;
  GPtrArray *instances; /* GsiInstance, NULL-terminated */
} GsiVirtual;

struct GsiRegistry
{
  GsiConfigFile *config;
  GsiLoader *loader;
  GsiOptions *server;
  GPtrArray *instances;                /* all, in the order of the file; a reference each */
  GPtrArray *by_kind[GS_KIND_MAX + 1]; /* NULL-terminated */
  GPtrArray *virtuals;                 /* GsiVirtual, owned */
  GPtrArray *virtual_list;             /* &GsiVirtual.pub, NULL-terminated */
  GHashTable *core_options;            /* storage -> GsiOptions by gsi_storage_options */
  GPtrArray *order;                    /* instances, needs first */
  GPtrArray *started;                  /* as they were started */
};

/** @node may be NULL. Registered with the registry. */
GsiInstance *gsi_instance_new (GsiRegistry *registry, guint32 kind, const char *name, const GsiNode *node);
/** After it was destroyed. NULL is fine. */
void gsi_instance_unref (GsiInstance *instance);

/** Reads every section into instances and virtual storages. @before, if any, lends its loader where that looks in the
 *  same folders. */
void gsi_settings_read (GsiRegistry *registry, const GsiRegistry *before, GsiProblems *problems);
/** Fills in every instance's needs and registry->order. */
void gsi_order_resolve (GsiRegistry *registry, GsiProblems *problems);

/* ---- layers.c: what stands before an instance ---- */

/** Reads `layers`; the instance's plugin has been loaded. */
void gsi_layers_read (GsiRegistry *registry, GsiInstance *instance, GsiProblems *problems);
/** Creates the layers of a created instance and puts them before it, in outer. On failure destroy is still to be called. */
gboolean gsi_layers_create (GsiInstance *instance, const GsiHostSetup *setup, GError **error);
/** Before the instance is started. On failure those that were started are stopped. */
gboolean gsi_layers_start (GsiInstance *instance, GError **error);
void gsi_layers_drain (GsiInstance *instance);
/** After the instance has stopped. */
void gsi_layers_stop (GsiInstance *instance);
/** Before the instance is destroyed. */
void gsi_layers_destroy (GsiInstance *instance);
void gsi_layers_free (GsiInstance *instance);
/** Do both have the same layers with the same options, as they are printed (the secrets of a layer masked)? */
gboolean gsi_layers_equal (const GsiInstance *one, const GsiInstance *other);
void gsi_layers_print (const GsiInstance *instance, guint indent, GString *out);

/** "found: a, b" or "none was found in DIR, DIR". *full*. */
char *gsi_settings_found (GsiRegistry *registry, guint32 kind);
/** The line that adds an instance of @kind to a config file. *full*. */
char *gsi_settings_line (guint32 kind);

#endif
