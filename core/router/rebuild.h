/* SPDX-License-Identifier: Apache-2.0 */
/**
 * rebuild.h - a repository's record made of what its replicas say of themselves. Nothing here asks anybody: what was found
 * goes in, the record and what the replicas do not agree on come out.
 *
 * The rules: the highest generation holds. Where replicas have different refs at it, none is trusted: the repository is
 * recorded as having lost its newest write, one generation above them. The newest label names it. Of two repositories with
 * one path the one that was named last keeps it, the other gets a path below lost-and-found/.
 */
#ifndef GSI_ROUTER_REBUILD_H
#define GSI_ROUTER_REBUILD_H

#include <gitstead/metadata.h>

#include "gitstead/v1/cluster.pb-c.h"

/** A replica that was found. */
typedef struct
{
  guint64 id;
  const char *storage; /* borrowed */
  char *replica_path;
  guint64 generation;
  GsDigest refs_digest;
  GsObjectFormat format;
  guint64 version; /* of its label; 0 = it has none */
  char *virtual_storage, *path, *consistency;
  guint32 copies;
  gint64 created_us;
} GsiSeen;

void gsi_seen_free (gpointer seen);

typedef struct
{
  Gitstead__V1__ClusterRebuildConflictKind kind;
  guint64 id;
  char *storage, *text;
  gboolean blocks; /* what is on that storage is not all taken care of */
} GsiConflict;

void gsi_conflict_free (gpointer conflict);
/** @storage may be NULL. @text *full*. */
void gsi_conflict_add (GPtrArray *conflicts, Gitstead__V1__ClusterRebuildConflictKind kind, guint64 id,
                       const char *storage, gboolean blocks, char *text);

/** What is to be recorded. */
typedef struct
{
  guint64 id, generation, version;
  char *virtual_storage; /* NULL: nobody knows */
  char *path;
  const char *replica_path; /* a replica's */
  GsDigest refs_digest;
  GsObjectFormat format;
  guint32 copies;
  const char *consistency; /* a replica's, or "" */
  gint64 created_us;
  GPtrArray *replicas; /* of GsiSeen, borrowed */
  gboolean lost;
} GsiRebuilt;

void gsi_rebuilt_free (gpointer rebuilt);
/** @seen: at least one, all of one repository, borrowed as long as the result. *full*. */
GsiRebuilt *gsi_rebuild_merge (GPtrArray *seen, GPtrArray *conflicts);
/** Is the path that of a repository that is recorded? TRUE when it cannot be told. */
typedef gboolean (*GsiPathTaken) (const char *virtual_storage, const char *path, gpointer user);
/** Gives each of @all (GsiRebuilt, with a virtual storage) a path of its own, and sorts them by id. */
void gsi_rebuild_names (GPtrArray *all, GsiPathTaken taken, gpointer user, GPtrArray *conflicts);

#endif
