/* SPDX-License-Identifier: Apache-2.0 */
/**
 * create.h - the steps of making a repository: an id, replicas, perhaps what is in it, and last of all its record, by which
 * clients see it. Whatever fails before the record leaves nothing: what could not be put away at once has no record, and
 * housekeeping finds it.
 */
#ifndef GSI_ROUTER_CREATE_H
#define GSI_ROUTER_CREATE_H

#include "router/router.h"

/** The storages that get a replica, chosen by the routing plugin. *full*; NULL with @error. */
GPtrArray *gsi_create_place (GsiRouter *router, const GsiStorageGroup *group, guint64 id, const char *path,
                             GError **error);
/** Empty replicas on all of @storages, or on none. @ret_state: of the last one. */
gboolean gsi_create_replicas (GsiRouter *router, GPtrArray *storages, GsiCall *call, const GsRepo *repo,
                              const GsRepoSpec *spec, GsReplicaState *ret_state, GError **error);
/** Removes the first @n of them as well as it can. */
void gsi_create_put_away (GPtrArray *storages, guint n, const GsRepo *repo);
/** Makes it visible under the call's path. On failure the replicas are put away, unless it may have succeeded. */
gboolean gsi_create_record (GsiRouter *router, GsiCall *call, const GsiStorageGroup *group, const GsRepo *repo,
                            const GsReplicaState *state, GPtrArray *storages, GError **error);
/** Answers with what the metadata store knows of it. */
gboolean gsi_create_reply (GsiRouter *router, GsiCall *call, guint64 id, GError **error);

/* create_from.c: Repository/CreateFromBundle, CreateFromUrl and Fork. */
gboolean gsi_router_create_from_bundle (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_create_from_url (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_fork (gpointer router, GsiCall *call, GError **error);
/* Repository/FetchFrom: a write like others, whose bulk bytes are another repository's. */
#define GSI_METHOD_FETCH_FROM 157
gboolean gsi_router_fetch_from (gpointer router, GsiCall *call, GError **error);

/* adopt.c: Repository/Adopt, Cluster/Folders. */
gboolean gsi_router_adopt (gpointer router, GsiCall *call, GError **error);

/* pool.c */
gboolean gsi_router_pool_link (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_pool_unlink (gpointer router, GsiCall *call, GError **error);
gboolean gsi_router_pool_info (gpointer router, GsiCall *call, GError **error);
/** The row of a pool that a request names. NULL unless the caller is its administrator. *full*. */
GsiRow *gsi_router_pool_find (GsiRouter *router, GsiCall *call, const Gitstead__V1__Repository *named, GError **error);
/** Links a new replica to the pool's on the same storage, and packs it without what that has; nothing where there is none. */
gboolean gsi_router_pool_join (GsiCall *call, const GsiStorage *storage, const GsRepo *repo, const GsiRow *pool,
                               GError **error);
/** FALSE with FAILED_PRECONDITION when others borrow from the repository. Each storage refuses for itself as well. */
gboolean gsi_router_pool_check_free (GsiRouter *router, GsiCall *call, const GsiRow *row, GError **error);

#endif
