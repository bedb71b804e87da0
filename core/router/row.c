/* SPDX-License-Identifier: Apache-2.0 */
/* Owned copies of metadata rows, and their messages. See row.h. */
#include "router/row.h"

GsiRow *
gsi_row_new (const GsRepoRow *row)
{
  GsiRow *copy = g_new0 (GsiRow, 1);
  copy->id = row->id;
  copy->virtual_storage = g_strdup (row->virtual_storage);
  copy->path = g_strdup (row->path);
  copy->replica_path = g_strdup (row->replica_path);
  copy->format = row->format;
  copy->generation = row->generation;
  copy->refs_digest = row->refs_digest;
  copy->created_wall_us = row->created_wall_us;
  copy->changed_wall_us = row->changed_wall_us;
  copy->copies = row->copies;
  copy->consistency = g_strdup (row->consistency != NULL ? row->consistency : "");
  copy->n_replicas = row->n_replicas;
  copy->replicas = g_new0 (GsiRowReplica, MAX (row->n_replicas, 1));
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      copy->replicas[i].storage = g_strdup (row->replicas[i]->storage);
      copy->replicas[i].generation = row->replicas[i]->generation;
      copy->replicas[i].verified_wall_us = row->replicas[i]->verified_wall_us;
      copy->replicas[i].scrubbed_wall_us = row->replicas[i]->scrubbed_wall_us;
    }
  return copy;
}

GsiRow *
gsi_row_copy (const GsiRow *row)
{
  GsiRow *copy = g_memdup2 (row, sizeof *row);
  copy->virtual_storage = g_strdup (row->virtual_storage);
  copy->path = g_strdup (row->path);
  copy->replica_path = g_strdup (row->replica_path);
  copy->consistency = g_strdup (row->consistency);
  copy->replicas = g_new0 (GsiRowReplica, MAX (row->n_replicas, 1));
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      copy->replicas[i] = row->replicas[i];
      copy->replicas[i].storage = g_strdup (row->replicas[i].storage);
    }
  return copy;
}

void
gsi_row_free (GsiRow *row)
{
  if (row == NULL)
    return;
  for (gsize i = 0; i < row->n_replicas; i++)
    g_free (row->replicas[i].storage);
  g_free (row->replicas);
  g_free (row->virtual_storage);
  g_free (row->path);
  g_free (row->replica_path);
  g_free (row->consistency);
  g_free (row);
}

gboolean
gsi_row_visit (const GsRepoRow *row, gpointer user)
{
  GsiRow **ret_row = user;
  gsi_row_free (*ret_row);
  *ret_row = gsi_row_new (row);
  return FALSE;
}

Gitstead__V1__RepositoryInfo *
gsi_row_message (const GsiRow *row)
{
  Gitstead__V1__RepositoryInfo *info = g_new (Gitstead__V1__RepositoryInfo, 1);
  gitstead__v1__repository_info__init (info);
  info->repository = g_new (Gitstead__V1__Repository, 1);
  gitstead__v1__repository__init (info->repository);
  info->repository->virtual_storage = g_strdup (row->virtual_storage);
  info->repository->path = g_strdup (row->path);
  info->id = row->id;
  info->generation = row->generation;
  info->refs_digest.data = g_memdup2 (row->refs_digest.bytes, sizeof row->refs_digest.bytes);
  info->refs_digest.len = sizeof row->refs_digest.bytes;
  info->object_format = g_strdup (row->format == GS_FORMAT_SHA256 ? "sha256" : "sha1");
  info->created_us = row->created_wall_us;
  info->changed_us = row->changed_wall_us;
  info->replica_path = g_strdup (row->replica_path);
  info->n_replicas = row->n_replicas;
  info->replicas = g_new0 (Gitstead__V1__Replica *, MAX (row->n_replicas, 1));
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      Gitstead__V1__Replica *replica = g_new (Gitstead__V1__Replica, 1);
      gitstead__v1__replica__init (replica);
      replica->storage = g_strdup (row->replicas[i].storage);
      replica->generation = row->replicas[i].generation;
      replica->current = row->replicas[i].generation >= row->generation;
      info->replicas[i] = replica;
    }
  return info;
}

void
gsi_row_message_free (gpointer message)
{
  Gitstead__V1__RepositoryInfo *info = message;
  if (info == NULL)
    return;
  for (gsize i = 0; i < info->n_replicas; i++)
    {
      g_free (info->replicas[i]->storage);
      g_free (info->replicas[i]);
    }
  g_free (info->replicas);
  g_free (info->repository->virtual_storage);
  g_free (info->repository->path);
  g_free (info->repository);
  g_free (info->refs_digest.data);
  g_free (info->object_format);
  g_free (info->replica_path);
  g_free (info);
}
