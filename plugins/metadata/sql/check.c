/* SPDX-License-Identifier: Apache-2.0 */
/* What every store refuses before it looks at anything: policies, nodes, jobs and leases out of form. See sql.h. */
#include "sql.h"

#define COPIES_MAX 1000
#define NAME_MAX_BYTES 255
#define KIND_MAX_BYTES 64
#define TEXT_MAX_BYTES 1000
#define LEASE_MIN_US 1000
#define LEASE_MAX_US (24 * 3600 * (gint64) G_USEC_PER_SEC)
#define DELAY_MAX_US (10 * 365 * 24 * 3600 * (gint64) G_USEC_PER_SEC)

static gboolean
plain (const char *text, gsize max)
{
  return strlen (text) <= max && strpbrk (text, "\r\n") == NULL && g_utf8_validate (text, -1, NULL);
}

gboolean
sql_name_check (const char *what, const char *name, GError **error)
{
  if (name == NULL || *name == '\0' || !plain (name, NAME_MAX_BYTES))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "the name of a %s is empty, longer than 255 bytes or not plain text", what);
  return TRUE;
}

gboolean
sql_policy_check (guint32 copies, const char *consistency, GError **error)
{
  if (copies > COPIES_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%u copies of a repository are asked for, at most %d can be",
                    copies, COPIES_MAX);
  if (consistency != NULL && !plain (consistency, NAME_MAX_BYTES))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the name of a consistency plugin is too long or not plain text");
  return TRUE;
}

gboolean
sql_node_check (const GsNodeRow *row, GError **error)
{
  static const GsTxId none;
  if (!sql_name_check ("storage", row->storage, error))
    return FALSE;
  if (memcmp (&row->disk_id, &none, sizeof none) == 0 || row->instance == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the report of node “%s” names no disk or no process",
                    row->storage);
  if ((row->address != NULL && !plain (row->address, TEXT_MAX_BYTES))
      || (row->zone != NULL && !plain (row->zone, NAME_MAX_BYTES)) || row->free_bytes > (guint64) G_MAXINT64
      || row->total_bytes > (guint64) G_MAXINT64)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "the report of node “%s” has an address, zone or size that cannot be kept", row->storage);
  return TRUE;
}

gboolean
sql_node_state_check (GsNodeState state, GError **error)
{
  if (state != GS_NODE_ACTIVE && state != GS_NODE_DRAINING && state != GS_NODE_REMOVED)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%d is not the state of a node", (int) state);
  return TRUE;
}

gboolean
sql_id_check (guint64 id, GError **error)
{
  if (id > (guint64) G_MAXINT64)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%" G_GUINT64_FORMAT " is out of range for a repository's id", id);
  return TRUE;
}

gboolean
sql_node_admit (const GsNodeRow *row, const SqlNodeKnown *known, const char *disk_owner, GError **error)
{
  if (disk_owner != NULL && strcmp (disk_owner, row->storage) != 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "node “%s” reports the disk of node “%s”: one disk cannot be two nodes. If it was renamed, remove "
                    "and forget “%s” first; if it was copied, give the copy an empty disk",
                    row->storage, disk_owner, disk_owner);
  if (known == NULL)
    return TRUE;
  if (memcmp (&known->disk_id, &row->disk_id, sizeof row->disk_id) != 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "node “%s” is known with another disk than the one that reports now: either two nodes have this "
                    "name, or its disk was replaced. Give one of them another name, or remove and forget “%s” first",
                    row->storage, row->storage);
  if (known->state == GS_NODE_REMOVED)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "node “%s” was removed from the cluster; stop it, or set it active again", row->storage);
  if (known->replaced == row->instance)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "node “%s” was taken over by a process that started later on the same disk; stop one of the two",
                    row->storage);
  return TRUE;
}

gboolean
sql_job_check (const GsJobRow *job, GError **error)
{
  if (job->kind == NULL || *job->kind == '\0' || !plain (job->kind, KIND_MAX_BYTES)
      || (job->lane != NULL && !plain (job->lane, KIND_MAX_BYTES)))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "the kind or lane of a job is empty, longer than 64 bytes or not plain text");
  if ((job->target != NULL && !plain (job->target, NAME_MAX_BYTES))
      || (job->source != NULL && !plain (job->source, NAME_MAX_BYTES)))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "a %s job names a storage that none can be called", job->kind);
  if (job->reason != NULL && (strlen (job->reason) > TEXT_MAX_BYTES || !g_utf8_validate (job->reason, -1, NULL)))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the reason of a %s job is longer than 1000 bytes or not text",
                    job->kind);
  if (job->repository_id > (guint64) G_MAXINT64 || job->due_wall_us < 0 || job->due_wall_us > DELAY_MAX_US)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the repository or delay of a %s job is out of range", job->kind);
  return TRUE;
}

gboolean
sql_lease_check (gint64 lease_us, GError **error)
{
  if (lease_us < LEASE_MIN_US || lease_us > LEASE_MAX_US)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "a lease lasts from a millisecond to a day");
  return TRUE;
}

gboolean
sql_job_lost (guint64 id, GError **error)
{
  return gs_fail (error, GS_ERROR_ABORTED,
                  "job %" G_GUINT64_FORMAT " is no longer this worker's: its lease ran out, or another took it", id);
}

gboolean
sql_lease_lost (const char *name, GError **error)
{
  return gs_fail (error, GS_ERROR_ABORTED, "the lease “%s” ran out, was given back or was taken by another", name);
}

gboolean
sql_lease_held (const char *name, const char *owner, gint64 left_us, GError **error)
{
  return gs_fail (error, GS_ERROR_ABORTED, "“%s” has the lease “%s” for another %" G_GINT64_FORMAT " ms", owner, name,
                  left_us / 1000);
}

gboolean
sql_replica_last (guint64 repository_id, const char *storage, gboolean only, GError **error)
{
  return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                  "the replica of repository %" G_GUINT64_FORMAT " on “%s” is the %s one: make another first",
                  repository_id, storage, only ? "only" : "only current");
}

gboolean
sql_no_replica (guint64 repository_id, const char *storage, GError **error)
{
  return gs_fail (error, GS_ERROR_NOT_FOUND, "“%s” holds no replica of repository %" G_GUINT64_FORMAT, storage,
                  repository_id);
}

gboolean
sql_no_node (const char *storage, GError **error)
{
  return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no node “%s”: none of that name ever reported", storage);
}

gboolean
sql_node_in_use (const char *storage, gboolean removed, GError **error)
{
  return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "node “%s” cannot be forgotten: %s", storage,
                  removed ? "replicas are recorded on it" : "it is part of the cluster; remove it first");
}

char *
sql_failure_text (const char *failure)
{
  g_autofree char *valid = g_utf8_make_valid (failure, -1);
  gsize len = strlen (valid);
  if (len > TEXT_MAX_BYTES)
    {
      char *end = g_utf8_find_prev_char (valid, valid + TEXT_MAX_BYTES + 1);
      *(end != NULL ? end : valid) = '\0';
    }
  return g_steal_pointer (&valid);
}
