/* SPDX-License-Identifier: Apache-2.0 */
/**
 * label.h - what a replica keeps of its repository beside Git's data and its own identity: the name, and what it should be
 * like. Nothing reads it while the metadata store is there; it is what that store is made of again when it is lost.
 */
#ifndef STORAGE_GIT_LABEL_H
#define STORAGE_GIT_LABEL_H

#include "git.h"

#define GIT_LABEL "gitstead/label"

typedef struct
{
  guint64 version;
  char *virtual_storage, *path;
  guint32 copies;
  char *consistency;
  gint64 created_us;
} ReplicaLabel;

void label_clear (ReplicaLabel *label);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (ReplicaLabel, label_clear)

/** Of the replica in the folder @dir. NOT_FOUND when it has none; DATA_LOSS. *full*. */
gboolean label_read (const char *dir, ReplicaLabel *ret_label, GError **error);
/**
 * Says what holds from now on, durably. Nothing is written when it says the same; otherwise its version is raised above the
 * one that is there. INVALID_ARGUMENT for texts that cannot stand in a line.
 */
gboolean label_write (Repo *repo, const ReplicaLabel *label, GError **error);
/** The label of the replica in @from is that of the one in @to, where there is one. */
gboolean label_carry (const Storage *storage, const char *from, const char *to, GError **error);

#endif
