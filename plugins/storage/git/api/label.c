/* SPDX-License-Identifier: Apache-2.0 */
/* What routers ask replicas beside Git: their labels, and what of them was given up. */
#include "api.h"

#include "../disk.h"
#include "../label.h"

#include "gitstead/v1/node.pb-c.h"

#define KEPT_MAX 10000

static Gitstead__V1__ReplicaLabel *
label_message (GitCall *call, const ReplicaLabel *label)
{
  Gitstead__V1__ReplicaLabel *message = api_message (call, &gitstead__v1__replica_label__descriptor);
  message->version = label->version;
  message->virtual_storage = api_text (call, label->virtual_storage, -1);
  message->path = api_text (call, label->path, -1);
  message->copies = label->copies;
  message->consistency = api_text (call, label->consistency, -1);
  message->created_us = label->created_us;
  return message;
}

static gboolean
answer_label (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__ReplicaLabelRequest *request = (const void *) message;
  Gitstead__V1__ReplicaLabelReply *reply = (void *) answer;
  g_auto (ReplicaLabel) label = { 0 };
  g_autoptr (GError) why = NULL;
  if (request->label != NULL)
    {
      const Gitstead__V1__ReplicaLabel *wanted = request->label;
      const ReplicaLabel given = { wanted->version, wanted->virtual_storage, wanted->path, wanted->copies,
                                   wanted->consistency, wanted->created_us };
      if (!label_write (call->repo, &given, error))
        return FALSE;
    }
  if (label_read (call->repo->dir, &label, &why))
    reply->label = label_message (call, &label);
  else if (why->code == GS_ERROR_DATA_LOSS)
    reply->problem = api_text (call, why->message, -1);
  else if (why->code != GS_ERROR_NOT_FOUND)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  return TRUE;
}

static gboolean
answer_kept (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  Gitstead__V1__ReplicaKeptReply *reply = (void *) answer;
  g_autofree char *root = g_build_filename (call->storage->root, GIT_ROOT_KEPT, NULL);
  g_autoptr (GPtrArray) names = NULL;
  (void) message;
  if (!disk_exists (root))
    return TRUE;
  names = disk_names (root, error);
  if (names == NULL)
    return FALSE;
  reply->kept = api_alloc (call, (names->len + 1) * sizeof *reply->kept);
  for (guint i = 0; i < names->len && reply->n_kept < KEPT_MAX; i++)
    {
      g_auto (GStrv) parts = g_strsplit (names->pdata[i], "-", 4);
      g_autofree char *folder = g_build_filename (root, names->pdata[i], NULL);
      Gitstead__V1__ReplicaKept *one = api_message (call, &gitstead__v1__replica_kept__descriptor);
      guint64 kept_s;
      if (g_strv_length (parts) < 3 || !g_ascii_string_to_unsigned (parts[0], 10, 0, G_MAXINT64, &kept_s, NULL)
          || !g_ascii_string_to_unsigned (parts[1], 10, 1, G_MAXINT64, &one->repository_id, NULL)
          || !g_ascii_string_to_unsigned (parts[2], 10, 0, G_MAXINT64, &one->generation, NULL))
        continue;
      one->kept_s = (gint64) kept_s;
      one->folder = api_text (call, folder, -1);
      reply->kept[reply->n_kept++] = one;
    }
  return TRUE;
}

const ApiRow api_label_rows[] = {
  API_ROW (1090, answer_label, replica_label_request, replica_label_reply),
  API_ROW (1091, answer_kept, replica_kept_request, replica_kept_reply),
  { 0, NULL, NULL, NULL },
};
