/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kinds: names, sizes of their tables, and which slots a plugin must fill. A slot that is added to a kind's header
 * gets its row here; a test compares.
 */
#include "plugin/loader.h"

#include <gitstead/access.h>
#include <gitstead/cache.h>
#include <gitstead/consistency.h>
#include <gitstead/layer.h>
#include <gitstead/metadata.h>
#include <gitstead/routing.h>
#include <gitstead/storage.h>
#include <gitstead/transport.h>

#include <string.h>

#define REQUIRED(Type_, slot_) { #slot_, G_STRUCT_OFFSET (Type_, slot_), TRUE, FALSE }
#define OPTIONAL(Type_, slot_) { #slot_, G_STRUCT_OFFSET (Type_, slot_), FALSE, FALSE }
/* Optional, and of no use when it had to wait for other calls. */
#define ANY_TIME(Type_, slot_) { #slot_, G_STRUCT_OFFSET (Type_, slot_), FALSE, TRUE }
#define END { NULL, 0, FALSE, FALSE }

static const GsiSlot transport_slots[] = {
  REQUIRED (GsTransportOps, endpoints),
  OPTIONAL (GsTransportOps, call),
  END,
};

static const GsiSlot storage_slots[] = {
  REQUIRED (GsStorageOps, create),           REQUIRED (GsStorageOps, remove),
  REQUIRED (GsStorageOps, exists),           REQUIRED (GsStorageOps, list),
  REQUIRED (GsStorageOps, measure),          REQUIRED (GsStorageOps, state),
  REQUIRED (GsStorageOps, list_refs),        REQUIRED (GsStorageOps, find_ref),
  REQUIRED (GsStorageOps, stage),            OPTIONAL (GsStorageOps, stage_push),
  REQUIRED (GsStorageOps, commit),           REQUIRED (GsStorageOps, abort),
  REQUIRED (GsStorageOps, pending),          REQUIRED (GsStorageOps, resolve),
  REQUIRED (GsStorageOps, maintain),         OPTIONAL (GsStorageOps, advertise),
  OPTIONAL (GsStorageOps, upload_pack),      OPTIONAL (GsStorageOps, resolve_revision),
  OPTIONAL (GsStorageOps, read_object),      OPTIONAL (GsStorageOps, stream_object),
  OPTIONAL (GsStorageOps, list_tree),        OPTIONAL (GsStorageOps, query),
  OPTIONAL (GsStorageOps, compute),          OPTIONAL (GsStorageOps, computed_free),
  ANY_TIME (GsStorageOps, probe),            OPTIONAL (GsStorageOps, disk),
  OPTIONAL (GsStorageOps, export_replica),   OPTIONAL (GsStorageOps, import_replica),
  OPTIONAL (GsStorageOps, scrub),            ANY_TIME (GsStorageOps, program),
  END,
};

static const GsiSlot metadata_slots[] = {
  REQUIRED (GsMetadataOps, migrate),        REQUIRED (GsMetadataOps, repo_reserve),
  REQUIRED (GsMetadataOps, repo_record),    REQUIRED (GsMetadataOps, repo_find),
  REQUIRED (GsMetadataOps, repo_get),       REQUIRED (GsMetadataOps, repo_list),
  REQUIRED (GsMetadataOps, repo_rename),    REQUIRED (GsMetadataOps, repo_delete),
  REQUIRED (GsMetadataOps, repo_created_by), REQUIRED (GsMetadataOps, decide),
  REQUIRED (GsMetadataOps, tx_find),        REQUIRED (GsMetadataOps, tx_abort),
  REQUIRED (GsMetadataOps, change_by_call), REQUIRED (GsMetadataOps, change_list),
  REQUIRED (GsMetadataOps, replica_set),    REQUIRED (GsMetadataOps, token_put),
  REQUIRED (GsMetadataOps, token_get),      REQUIRED (GsMetadataOps, token_list),
  REQUIRED (GsMetadataOps, token_delete),   REQUIRED (GsMetadataOps, repo_set_policy),
  REQUIRED (GsMetadataOps, repo_list_all),  REQUIRED (GsMetadataOps, repo_list_on),
  REQUIRED (GsMetadataOps, replica_drop),   REQUIRED (GsMetadataOps, replica_verified),
  REQUIRED (GsMetadataOps, node_report),    REQUIRED (GsMetadataOps, node_list),
  REQUIRED (GsMetadataOps, node_set_state), REQUIRED (GsMetadataOps, node_forget),
  REQUIRED (GsMetadataOps, job_add),        REQUIRED (GsMetadataOps, job_take),
  REQUIRED (GsMetadataOps, job_renew),      REQUIRED (GsMetadataOps, job_end),
  REQUIRED (GsMetadataOps, job_list),       REQUIRED (GsMetadataOps, job_prune),
  REQUIRED (GsMetadataOps, lease_take),     REQUIRED (GsMetadataOps, lease_renew),
  REQUIRED (GsMetadataOps, lease_release),  REQUIRED (GsMetadataOps, lease_list),
  ANY_TIME (GsMetadataOps, wait_hint),      END,
};

static const GsiSlot routing_slots[] = {
  REQUIRED (GsRoutingOps, place),
  REQUIRED (GsRoutingOps, pick_reader),
  OPTIONAL (GsRoutingOps, place_named),
  END,
};

static const GsiSlot consistency_slots[] = {
  REQUIRED (GsConsistencyOps, txn_new),
  REQUIRED (GsConsistencyOps, txn_step),
  REQUIRED (GsConsistencyOps, txn_free),
  END,
};

static const GsiSlot cache_slots[] = {
  REQUIRED (GsCacheOps, lookup),        REQUIRED (GsCacheOps, store),
  REQUIRED (GsCacheOps, forget_prefix), REQUIRED (GsCacheOps, stats),
  END,
};

static const GsiSlot access_slots[] = {
  REQUIRED (GsAccessOps, authenticate), REQUIRED (GsAccessOps, release),
  REQUIRED (GsAccessOps, authorize),    OPTIONAL (GsAccessOps, token_create),
  OPTIONAL (GsAccessOps, token_list),   OPTIONAL (GsAccessOps, token_revoke),
  OPTIONAL (GsAccessOps, recheck),
  END,
};

static const GsiSlot layer_slots[] = {
  REQUIRED (GsLayerOps, wrap),
  END,
};

static const struct
{
  const char *name;
  const GsiSlot *slots;
  gsize ops_size;
} kinds[GS_KIND_MAX + 1] = {
  [GS_KIND_TRANSPORT] = { "transport", transport_slots, sizeof (GsTransportOps) },
  [GS_KIND_STORAGE] = { "storage", storage_slots, sizeof (GsStorageOps) },
  [GS_KIND_METADATA] = { "metadata", metadata_slots, sizeof (GsMetadataOps) },
  [GS_KIND_ROUTING] = { "routing", routing_slots, sizeof (GsRoutingOps) },
  [GS_KIND_CONSISTENCY] = { "consistency", consistency_slots, sizeof (GsConsistencyOps) },
  [GS_KIND_CACHE] = { "cache", cache_slots, sizeof (GsCacheOps) },
  [GS_KIND_ACCESS] = { "access", access_slots, sizeof (GsAccessOps) },
  [GS_KIND_LAYER] = { "layer", layer_slots, sizeof (GsLayerOps) },
};

const char *
gsi_kind_name (guint32 kind)
{
  return kind <= GS_KIND_MAX ? kinds[kind].name : NULL;
}

guint32
gsi_kind_from_name (const char *name, gssize len)
{
  gsize n = len < 0 ? strlen (name) : (gsize) len;

  for (guint32 kind = 1; kind <= GS_KIND_MAX; kind++)
    if (strlen (kinds[kind].name) == n && memcmp (kinds[kind].name, name, n) == 0)
      return kind;
  return 0;
}

gboolean
gsi_kind_has_layers (guint32 kind)
{
  return kind == GS_KIND_STORAGE || kind == GS_KIND_METADATA || kind == GS_KIND_CACHE || kind == GS_KIND_ACCESS
         || kind == GS_KIND_TRANSPORT;
}

gboolean
gsi_kind_takes_threads (guint32 kind, guint32 threads)
{
  switch (threads)
    {
    case GS_THREADS_SERIAL:
      return kind != GS_KIND_TRANSPORT && kind != GS_KIND_LAYER;
    case GS_THREADS_PER_REPO:
      return kind == GS_KIND_STORAGE;
    default:
      return threads == GS_THREADS_PARALLEL;
    }
}

const char *
gsi_threads_name (guint32 threads)
{
  switch (threads)
    {
    case GS_THREADS_SERIAL:
      return "serial";
    case GS_THREADS_PER_REPO:
      return "per-repository";
    case GS_THREADS_PARALLEL:
      return "parallel";
    default:
      return "unknown";
    }
}

const GsiSlot *
gsi_kind_slots (guint32 kind)
{
  return kinds[kind].slots;
}

gsize
gsi_kind_ops_size (guint32 kind)
{
  return kinds[kind].ops_size;
}

gboolean
gsi_slot_filled (const GsiPlugin *plugin, const GsiSlot *slot)
{
  gpointer function;
  memcpy (&function, (const char *) plugin->ops + slot->offset, sizeof function);
  return function != NULL;
}
