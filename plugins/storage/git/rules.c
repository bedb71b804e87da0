/* SPDX-License-Identifier: Apache-2.0 */
/* What the storage's options and a repository's settings forbid: see settings.h. */
#include "child.h"
#include "fsutil.h"
#include "settings.h"

#include <unistd.h>

#define OBJECT_LINE_MAX 256

typedef struct
{
  Txn *txn;
  GsCall *call;
  RefSnapshot *refs;
  Settings *settings;
} Judge;

static void
refuse (GsRefVerdict *verdict, const char *reason)
{
  g_free (verdict->reason);
  verdict->code = GS_ERROR_PERMISSION_DENIED;
  verdict->reason = g_strdup (reason);
}

/* Is @old an ancestor of @new? FALSE with @error when git could not tell. */
static gboolean
is_fast_forward (const Judge *judge, const GsRefUpdate *update, gboolean *ret_is, GError **error)
{
  Txn *txn = judge->txn;
  char old_hex[GS_OID_HEX_MAX + 1], new_hex[GS_OID_HEX_MAX + 1];
  const char *const argv[] = { "merge-base", "--is-ancestor", old_hex, new_hex, NULL };
  g_autofree char *quarantine
      = txn->quarantine != NULL ? quarantine_objects_dir (txn->repo, txn->quarantine) : NULL;
  const ChildSpec spec = { .role = CHILD_PLAIN,
                           .git_dir = txn->repo->dir,
                           .argv = argv,
                           .quarantine = quarantine,
                           .alternate = txn->repo->objects,
                           .input = -1,
                           .output = -1,
                           .extra = -1 };
  int status;
  gs_oid_hex (&update->old_oid, old_hex);
  gs_oid_hex (&update->new_oid, new_hex);
  if (!child_run (txn->repo->storage, &spec, judge->call, NULL, 0, NULL, &status, NULL, error))
    return FALSE;
  *ret_is = status == 0;
  return TRUE;
}

static gboolean
judge_one (const Judge *judge, GsRefUpdate *update, GsRefVerdict *verdict, GError **error)
{
  const Storage *storage = judge->txn->repo->storage;
  const Settings *settings = judge->settings;
  const gboolean push = judge->txn->push != NULL, deletes = gs_oid_is_zero (&update->new_oid);
  gboolean is_protected = settings_match (settings, SETTING_PROTECTED, update->name), forward;
  if (settings_match (settings, SETTING_FROZEN, update->name))
    {
      refuse (verdict, "the ref is frozen (gitstead.frozenRef)");
      return TRUE;
    }
  if (deletes && is_protected)
    refuse (verdict, "deletion prohibited: the ref is protected (gitstead.protectedRef)");
  else if (deletes && push && (storage->deny_deletes || settings_flag (settings, SETTING_DENY_DELETES)))
    refuse (verdict, "deletion prohibited");
  if (deletes)
    return TRUE;
  if (!is_protected
      && !(push && g_str_has_prefix (update->name, "refs/heads/")
           && (storage->deny_non_fast_forwards || settings_flag (settings, SETTING_DENY_NON_FAST_FORWARDS))))
    return TRUE;
  if (update->old_oid.len == 0)
    {
      RefEntry entry;
      update->old_oid.len = (guint8) judge->txn->repo->format;
      if (ref_snapshot_find (judge->refs, update->name, &entry))
        update->old_oid = entry.oid;
    }
  if (gs_oid_is_zero (&update->old_oid) || gs_oid_equal (&update->old_oid, &update->new_oid))
    return TRUE;
  if (!is_fast_forward (judge, update, &forward, error))
    return FALSE;
  if (!forward)
    refuse (verdict, is_protected ? "non-fast-forward: the ref is protected (gitstead.protectedRef)" : "non-fast-forward");
  return TRUE;
}

/* --------------------------------------------------------------------------------------- large objects */

/* Lines "<bytes> <id>"; the first one that is too large ends it. */
static gboolean
scan_sizes (GsCall *call, Child *child, int from, guint64 max, char **ret_found, GError **error)
{
  char buffer[OBJECT_LINE_MAX * 64];
  gsize have = 0;
  for (;;)
    {
      struct pollfd fds[3] = { { .fd = from, .events = POLLIN }, { .fd = child->err_fd, .events = POLLIN } };
      char *line = buffer, *end;
      if (!call_poll (call, fds, 2, "look at the sizes of objects", error))
        return FALSE;
      child_read_stderr (child);
      if (fds[0].revents == 0)
        continue;
      ssize_t got = read (from, buffer + have, sizeof buffer - have);
      if (got < 0 && (errno == EINTR || errno == EAGAIN))
        continue;
      if (got < 0)
        return fsu_fail (error, errno, "read from git %s", child->name);
      if (got == 0)
        return TRUE;
      have += (gsize) got;
      for (; (end = memchr (line, '\n', have - (gsize) (line - buffer))) != NULL; line = end + 1)
        {
          *end = '\0';
          if (g_ascii_strtoull (line, NULL, 10) > max)
            {
              *ret_found = g_strdup (line);
              return TRUE;
            }
        }
      have -= (gsize) (line - buffer);
      if (have == sizeof buffer)
        return gs_fail (error, GS_ERROR_INTERNAL, "git cat-file told a line without an end");
      memmove (buffer, line, have);
    }
}

/* The first object in the quarantine of more than @max bytes: "<bytes> <id>", NULL for none. */
static gboolean
find_large (Txn *txn, GsCall *call, guint64 max, char **ret_found, GError **error)
{
  static const char *const argv[] = { "cat-file", "--batch-all-objects", "--unordered",
                                      "--batch-check=%(objectsize) %(objectname)", NULL };
  g_autofree char *quarantine = quarantine_objects_dir (txn->repo, txn->quarantine);
  g_autofree char *found = NULL;
  Child child;
  int fds[2], status;
  gboolean done;
  if (pipe2 (fds, O_CLOEXEC) != 0)
    return fsu_fail (error, errno, "make a pipe for %s", "git cat-file");
  const ChildSpec spec = { .role = CHILD_PLAIN,
                           .git_dir = txn->repo->dir,
                           .argv = argv,
                           .quarantine = quarantine,
                           .alternate = quarantine, /* only what the write brings */
                           .input = -1,
                           .output = fds[1],
                           .extra = -1 };
  done = child_start (txn->repo->storage, &spec, &child, error);
  close (fds[1]);
  if (!done)
    {
      close (fds[0]);
      return FALSE;
    }
  done = scan_sizes (call, &child, fds[0], max, &found, error);
  close (fds[0]);
  if (done && found == NULL)
    done = child_wait (&child, call, NULL, &status, error) && child_check (&child, status, error);
  else
    child_end (&child);
  child_clear (&child);
  if (done)
    *ret_found = g_steal_pointer (&found);
  return done;
}

static gboolean
judge_objects (const Judge *judge, gsize n, GError **error)
{
  guint64 max = settings_size (judge->settings, SETTING_MAX_OBJECT);
  g_autofree char *found = NULL, *reason = NULL;
  const char *id;
  if (max == 0 || judge->txn->quarantine == NULL)
    return TRUE;
  if (!find_large (judge->txn, judge->call, max, &found, error))
    return FALSE;
  if (found == NULL)
    return TRUE;
  id = strchr (found, ' ');
  reason = g_strdup_printf ("object%s is larger than %" G_GUINT64_FORMAT " bytes (gitstead.maxObjectSize)",
                            id != NULL ? id : "", max);
  for (gsize i = 0; i < n; i++)
    refuse (&judge->txn->verdicts[i], reason);
  return TRUE;
}

gboolean
rules_judge (Txn *txn, GsCall *call, GsRefUpdate *updates, gsize n, GError **error)
{
  /* The rules must not stand in the way of their own change. */
  if (txn->own_refs)
    return TRUE;
  RefSnapshot *refs = ref_store_snapshot (txn->repo->refs, error);
  g_autoptr (Settings) settings = refs != NULL ? settings_load (txn->repo, refs, NULL, error) : NULL;
  const Judge judge = { txn, call, refs, settings };
  gboolean done = settings != NULL && judge_objects (&judge, n, error);
  for (gsize i = 0; done && i < n; i++)
    if (txn->verdicts[i].code == GS_OK && updates[i].new_symref == NULL)
      done = judge_one (&judge, &updates[i], &txn->verdicts[i], error);
  if (refs != NULL)
    ref_snapshot_unref (refs);
  return done;
}
