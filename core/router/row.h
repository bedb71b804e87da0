/* SPDX-License-Identifier: Apache-2.0 */
/**
 * row.h - a repository's metadata row, owned: what the metadata store shows only for the length of a callback.
 */
#ifndef GSI_ROUTER_ROW_H
#define GSI_ROUTER_ROW_H

#include <gitstead/metadata.h>

#include "gitstead/v1/repository.pb-c.h"

typedef struct
{
  char *storage;
  guint64 generation;
  gint64 verified_wall_us, scrubbed_wall_us; /* 0 = never */
} GsiRowReplica;

typedef struct
{
  guint64 id;
  char *virtual_storage;
  char *path;
  char *replica_path;
  GsObjectFormat format;
  guint64 generation;
  GsDigest refs_digest;
  gint64 created_wall_us, changed_wall_us;
  GsiRowReplica *replicas;
  gsize n_replicas;
  guint32 copies;    /* 0 = as many as the virtual storage's */
  char *consistency; /* "" = the virtual storage's */
} GsiRow;

/** A copy. *full*. */
GsiRow *gsi_row_new (const GsRepoRow *row);
GsiRow *gsi_row_copy (const GsiRow *row);
/** NULL is fine. */
void gsi_row_free (GsiRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiRow, gsi_row_free)

/** A GsRepoRowVisit that keeps a copy in the GsiRow * that @user points to. */
gboolean gsi_row_visit (const GsRepoRow *row, gpointer user);

/** The row as a message that owns everything. *full*, freed by gsi_row_message_free. */
Gitstead__V1__RepositoryInfo *gsi_row_message (const GsiRow *row);
void gsi_row_message_free (gpointer message);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Gitstead__V1__RepositoryInfo, gsi_row_message_free)

#endif
