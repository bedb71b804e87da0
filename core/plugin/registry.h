/* SPDX-License-Identifier: Apache-2.0 */
/**
 * registry.h - from a config file to running plugin instances.
 *
 *   gsi_registry_load    reads the file, loads the plugins it names, checks everything: `gitstead check` ends here
 *   gsi_registry_create  makes every instance (memory only)
 *   gsi_registry_start   starts those of the given kinds whose turn it is, needs first
 *   (serving)
 *   gsi_registry_drain   nothing new
 *   gsi_registry_stop    stops those of the given kinds, in the exact reverse
 *   gsi_registry_free    destroys all, after all have stopped
 * Load to free are called from one thread.
 *
 * The file:
 *
 *   # Optional: more files, in sorted order; see base/config.h
 *   include: conf.d/\*.yaml
 *   # Optional; rows: gsi_server_options
 *   server: {name: node-1, workers: 16, …}
 *   # Optional; searched before GITSTEAD_PLUGIN_PATH and the built-in folder
 *   plugin_path: [dir, …]
 *   # Each of these three is a mapping, or a sequence of mappings: the core uses the first, needs may name the others.
 *   # Without a cache, the plugin "none" stands in.
 *   metadata: {plugin: NAME, …}
 *   access: {plugin: NAME, …}
 *   cache: {plugin: NAME, …}
 *   storages:
 *     - {name: default, plugin: NAME, zone: ZONE/RACK, weight: 1, …}
 *   # Optional: policies that `gitstead cluster set-consistency` can give to repositories; each has a name
 *   consistencies:
 *     - {name: NAME, plugin: NAME, …}
 *   virtual_storages:
 *     - {name: default, storages: [default], routing: {plugin: NAME, …}, consistency: {plugin: NAME, …}, copies: 1, min_copies: 1}
 *   transports:
 *     - {name: http, plugin: NAME, …}
 *
 * Every plugin mapping holds `plugin` (a name, or an absolute path of a .so), `name` (see below), the plugin's options,
 * and for each of its needs, if wanted, the role as key and an instance's name as value. Names are [a-z][a-z0-9-]*, at
 * most 32 bytes, unique within a kind. A storage has `zone` and `weight` besides (gsi_storage_options). Without `name`: "default" for metadata, access and cache; the plugin's name for
 * transports; the virtual storage's name for routing and consistency; storages and virtual storages must have one.
 */
#ifndef GSI_PLUGIN_REGISTRY_H
#define GSI_PLUGIN_REGISTRY_H

#include "plugin/host.h"
#include "plugin/loader.h"
#include "plugin/options.h"

typedef struct GsiRegistry GsiRegistry;
typedef struct GsiInstance GsiInstance;

/** Sets of kinds. */
#define GSI_KIND_BIT(kind_) (1u << (kind_))
#define GSI_KINDS_ALL (~0u)
#define GSI_KINDS_INNER (GSI_KINDS_ALL & ~GSI_KIND_BIT (GS_KIND_TRANSPORT))

/** Rows of the `server:` section (server-options.c). */
extern const GsOption gsi_server_options[];
/** Rows that every storage mapping has beside its plugin's (server-options.c). */
extern const GsOption gsi_storage_options[];

/** A named group of storages as clients see it. Borrowed from the registry. */
typedef struct
{
  const char *name;
  const char *const *storages; /* names, NULL-terminated */
  gsize n_storages;
  GsiInstance *routing, *consistency;
  GsiInstance *const *instances; /* the storages themselves, n_storages */
  gsize copies; /* replicas of a new repository */
  gsize min_copies;
} GsiVirtualStorage;

/** NULL with INVALID_ARGUMENT and every problem, one "FILE:LINE:COL: message" a line. *full*. */
GsiRegistry *gsi_registry_load (const char *path, GError **error);
/** As gsi_registry_load, for a configuration that is to follow @before, which stays as it is. */
GsiRegistry *gsi_registry_load_after (const char *path, const GsiRegistry *before, GError **error);
/** From memory; relative paths are taken from the folder of @name. */
GsiRegistry *gsi_registry_parse (const char *name, const char *text, GError **error);
/** Stops what runs first. Instances that another registry holds as well go on. NULL is fine. */
void gsi_registry_free (GsiRegistry *registry);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiRegistry, gsi_registry_free)

/** The checked `server:` section. */
const GsiOptions *gsi_registry_server (const GsiRegistry *registry);
/** The core's own options of a storage, by the rows of gsi_storage_options; NULL for other kinds. */
const GsiOptions *gsi_registry_core_options (const GsiRegistry *registry, const GsiInstance *storage);
GsiLoader *gsi_registry_loader (const GsiRegistry *registry);

/** Effective configuration as YAML, secrets masked. *full*. */
char *gsi_registry_print (const GsiRegistry *registry);

/** Creates all that are not; on failure what was made is destroyed again. @setup is copied; see GsiHostSetup. */
gboolean gsi_registry_create (GsiRegistry *registry, const GsiHostSetup *setup, GError **error);

/** Starts those of @kinds that are not running: in a registry that follows another one, the new ones. Needs of other kinds must be running. On failure what this call started
 * is stopped again in reverse. */
gboolean gsi_registry_start (GsiRegistry *registry, guint32 kinds, GError **error);
/** Asks those of @kinds that run to take nothing new, in reverse start order. Never blocks. */
void gsi_registry_drain (GsiRegistry *registry, guint32 kinds);
/** Stops those of @kinds that run and that no other registry holds, in the exact reverse of their start order. */
void gsi_registry_stop (GsiRegistry *registry, guint32 kinds);
/** The same at the end of the process: also those that another registry holds. */
void gsi_registry_end (GsiRegistry *registry, guint32 kinds);

/** The instance of that kind and name; NULL when there is none. @name NULL: the first of the kind. */
GsiInstance *gsi_registry_get (const GsiRegistry *registry, guint32 kind, const char *name);
/** All of a kind in the order of the file. NULL-terminated, borrowed. */
GsiInstance *const *gsi_registry_all (const GsiRegistry *registry, guint32 kind);
/** NULL-terminated, borrowed; the first is the default one. */
const GsiVirtualStorage *const *gsi_registry_virtual_storages (const GsiRegistry *registry);
/** @name NULL or "": the first. NULL when there is none of that name. */
const GsiVirtualStorage *gsi_registry_virtual_storage (const GsiRegistry *registry, const char *name);

/* ---------------------------------------------------------------------------------------- reload */

/** What becomes of a thing that differs between two configurations. */
typedef enum
{
  GSI_CHANGE_ADDED,
  GSI_CHANGE_REMOVED,
  GSI_CHANGE_REPLACED, /* a new instance beside the old one, which ends when nobody uses it any more */
  GSI_CHANGE_ADJUSTED, /* taken in place */
  GSI_CHANGE_RESTART   /* goes on as it was: a restart takes it */
} GsiChangeKind;

typedef struct
{
  GsiChangeKind kind;
  char *what;   /* "storage default", "server", "virtual storage default" */
  char *detail; /* "size: 1MiB -> 2MiB", … or why; "" for none. Secrets are masked */
} GsiConfigChange;

/** Of GsiConfigChange, for another thread. *full*. */
GPtrArray *gsi_changes_copy (const GPtrArray *changes);
/** "added", "removed", "replaced", "adjusted", "needs a restart". */
const char *gsi_change_name (GsiChangeKind kind);

/**
 * Makes @fresh, which was just loaded, follow @before: each instance that need not be new is carried over, running as
 * it is. Returns every difference (GsiConfigChange, *full*, g_ptr_array_unref). @retired: registries (may be NULL)
 * that ended before and whose instances may still run; what they hold is not made a second time. FAILED_PRECONDITION
 * when the two cannot be had together; then @fresh can only be freed.
 */
GPtrArray *gsi_registry_follow (GsiRegistry *fresh, GsiRegistry *before, GPtrArray *retired, GError **error);

/** Asks what was carried over to prepare for its changed options and the files that they name. On failure nothing has
 *  changed and @fresh can only be freed. */
gboolean gsi_registry_adjust (GsiRegistry *fresh, GError **error);
/** Has what they prepared taken (@take) or dropped. */
void gsi_registry_adjusted (GsiRegistry *fresh, gboolean take);

/** Those of @kinds that run in @before and are not in @after. *full* (g_ptr_array_unref); instances borrowed from @before. */
GPtrArray *gsi_registry_gone (const GsiRegistry *before, const GsiRegistry *after, guint32 kinds);
/** Keeps @instance and what it needs running, whatever becomes of the registries that have it. Main thread. */
void gsi_instance_hold (GsiInstance *instance);
/** Gives it back: stops and destroys what nobody has any more. */
void gsi_instance_release (GsiInstance *instance);
/** Asks @instance to take nothing new. */
void gsi_instance_drain (GsiInstance *instance);

/* ------------------------------------------------------------------------------------- instances */

/**
 * Kind, self, table and name. Constant from create to free. Any number of threads may call the table: a plugin that
 * declares fewer at once is called through turns, which the table takes (turns.h).
 */
const GsInstance *gsi_instance (const GsiInstance *instance);
const GsiPlugin *gsi_instance_plugin (const GsiInstance *instance);
const GsiOptions *gsi_instance_options (const GsiInstance *instance);
gboolean gsi_instance_running (const GsiInstance *instance);
/** Calls that it began and that have not ended: of transports. Any thread. */
guint gsi_instance_calls (const GsiInstance *instance);

/** `GSI_OPS (instance, GsStorageOps)->create (GSI_SELF (instance), …)` */
#define GSI_OPS(instance_, Type_) ((const Type_ *) gsi_instance (instance_)->ops)
#define GSI_SELF(instance_) (gsi_instance (instance_)->self)

#endif
