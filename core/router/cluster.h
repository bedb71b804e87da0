/* SPDX-License-Identifier: Apache-2.0 */
/**
 * cluster.h - what the calls of the Cluster service share: how a repository is, and messages that free themselves.
 */
#ifndef GSI_ROUTER_CLUSTER_H
#define GSI_ROUTER_CLUSTER_H

#include "router/router.h"

#include "gitstead/v1/cluster.pb-c.h"

/** The handlers; the list ends with number 0. */
const GsiBinding *gsi_cluster_bindings (void);

/* ------------------------------------------------------------------------------------- judging */

/** How one repository is, by its record and by who answers now. */
typedef struct
{
  Gitstead__V1__ClusterHealth health;
  gsize n_wanted;     /* replicas that there should be */
  gsize n_counted;    /* those that there are, without the ones on their way */
  gsize n_current, n_current_up, n_up;
  guint64 best;       /* newest generation that any replica is recorded to hold */
  guint64 best_up;    /* the same of those that can be reached */
  gboolean writable;
  char *why_not;      /* writable FALSE: a sentence */
} GsiVerdict;

void gsi_verdict_clear (GsiVerdict *verdict);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (GsiVerdict, gsi_verdict_clear)

/** @group NULL: this router's configuration has no virtual storage of that name. Asks nobody. */
void gsi_cluster_judge (GsiRouter *router, const GsiStorageGroup *group, const GsiRow *row, GsiVerdict *ret_verdict);
/**
 * Would the consistency plugin take a write with these participants? It is asked with a transaction that never happens:
 * every participant that it wants votes alike. FALSE: *@ret_why (*full*) has its own words.
 */
gboolean gsi_cluster_would_write (const GsiStorageGroup *group, const GsTxnSetup *setup, char **ret_why);
/** By name, without an error; NULL when there is none. */
const GsiStorageGroup *gsi_cluster_group (GsiRouter *router, const char *name);
/** A process that is only a node knows nothing of virtual storages: FALSE, saying where to go. */
gboolean gsi_cluster_is_router (GsiRouter *router, GError **error);
/** Is that storage there? @ret_why (may be NULL, *full*) is set when it is not. */
gboolean gsi_cluster_up (GsiRouter *router, const char *storage, char **ret_why);
/** Every repository that the metadata store has, in order of id, one batch after another; FALSE from @visit ends it. */
gboolean gsi_cluster_each (GsiRouter *router, GsCall *call, guint64 after, gboolean (*visit) (GsiRow *row, gpointer user),
                           gpointer user, GError **error);

/* ----------------------------------------------------------------------------------- messages */

/** Everything that a reply points to; goes with it. */
typedef GPtrArray GsiBag;

static inline GsiBag *
gsi_bag_new (void)
{
  return g_ptr_array_new_with_free_func (g_free);
}

/** Keeps @memory until the bag is freed, and returns it. */
static inline gpointer
gsi_bag_keep (GsiBag *bag, gpointer memory)
{
  g_ptr_array_add (bag, memory);
  return memory;
}

static inline char *
gsi_bag_text (GsiBag *bag, const char *text)
{
  return gsi_bag_keep (bag, g_strdup (text != NULL ? text : ""));
}

char *gsi_bag_printf (GsiBag *bag, const char *format, ...) G_GNUC_PRINTF (2, 3);
/** A message of that type, empty. */
#define GSI_BAG_MESSAGE(bag_, Type_, init_)                                                                            \
  ({                                                                                                                   \
    Type_ *message_ = gsi_bag_keep ((bag_), g_new (Type_, 1));                                                         \
    init_ (message_);                                                                                                  \
    message_;                                                                                                          \
  })
ProtobufCBinaryData gsi_bag_bytes (GsiBag *bag, gconstpointer bytes, gsize len);
/** The pointers of @list for a repeated field; takes @list. */
gpointer gsi_bag_list (GsiBag *bag, GPtrArray *list, gsize *ret_n);
Gitstead__V1__Repository *gsi_bag_repository (GsiBag *bag, const GsiRow *row);

/* ------------------------------------------------------------------------------------- the calls */

gboolean gsi_cluster_status (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_nodes (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_data_loss (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_explain (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_set_replication_factor (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_set_consistency (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_verify_receipt (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_verify (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_untracked (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_folders (gpointer router, GsiCall *call, GError **error); /* adopt.c */
gboolean gsi_cluster_adopt (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_accept_data_loss (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_set_node (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_check_node (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_rebalance_plan (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_rebalance_apply (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_move (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_moves (gpointer router, GsiCall *call, GError **error);
gboolean gsi_cluster_rebuild_metadata (gpointer router, GsiCall *call, GError **error);

#endif
