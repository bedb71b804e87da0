/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks of a repository: see hooks.h. */
#include "hooks.h"

#include "child.h"
#include "disk.h"

#include <fcntl.h>
#include <string.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOOK_NAME_MAX 100

static const char *const kinds[] = { "pre-receive.d/", "update.d/", "post-receive.d/" };

gboolean
hook_path_valid (const char *path, gsize len)
{
  for (gsize i = 0; i < G_N_ELEMENTS (kinds); i++)
    {
      gsize head = strlen (kinds[i]);
      if (len <= head || len - head > HOOK_NAME_MAX || strncmp (path, kinds[i], head) != 0)
        continue;
      for (gsize k = head; k < len; k++)
        if (!g_ascii_isalnum (path[k]) && (k == head || strchr ("-_.", path[k]) == NULL))
          return FALSE;
      return TRUE;
    }
  return FALSE;
}

/* ---------------------------------------------------------------------------------------- as files */

/* The hooks of one kind, in a folder of their own for as long as they run. */
typedef struct
{
  Txn *txn;
  GsCall *call;
  const char *kind; /* "update.d/" */
  char *dir;
  GPtrArray *names; /* in order */
} Hooks;

static gboolean
write_program (const char *path, GBytes *content, GError **error)
{
  gsize len, at = 0;
  const char *data = g_bytes_get_data (content, &len);
  int fd = open (path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0700);
  gboolean done = fd >= 0;
  while (done && at < len)
    {
      ssize_t wrote = write (fd, data + at, len - at);
      if (wrote > 0)
        at += (gsize) wrote;
      else
        done = wrote < 0 && errno == EINTR;
    }
  if (!done)
    fsu_fail (error, errno, "write the hook %s", path);
  if (fd >= 0)
    close (fd);
  return done;
}

static gboolean
take_hook (const char *path, guint32 mode, GBytes *content, gpointer user, GError **error)
{
  Hooks *hooks = user;
  g_autofree char *file = NULL;
  if (!g_str_has_prefix (path, hooks->kind))
    return TRUE;
  if (!hook_path_valid (path, strlen (path)))
    return gs_fail (error, GS_ERROR_DATA_LOSS, "repository %" G_GUINT64_FORMAT " has a hook with an impossible name",
                    hooks->txn->repo->id);
  if (hooks->dir == NULL && !storage_tmp_dir (hooks->txn->repo->storage, "hooks", &hooks->dir, error))
    return FALSE;
  g_ptr_array_add (hooks->names, g_strdup (path + strlen (hooks->kind)));
  file = g_build_filename (hooks->dir, hooks->names->pdata[hooks->names->len - 1], NULL);
  return write_program (file, content, error);
}

static void
hooks_close (Hooks *hooks)
{
  if (hooks->dir != NULL)
    fsu_remove_tree (AT_FDCWD, hooks->dir, NULL);
  g_free (hooks->dir);
  g_ptr_array_unref (hooks->names);
}

static gboolean
hooks_open (Hooks *hooks, Txn *txn, GsCall *call, const GsOid *tree, const char *kind, GError **error)
{
  *hooks = (Hooks) { .txn = txn, .call = call, .kind = kind, .names = g_ptr_array_new_with_free_func (g_free) };
  if (fileset_read (txn->repo, tree, take_hook, hooks, error))
    return TRUE;
  hooks_close (hooks);
  return FALSE;
}

/* ------------------------------------------------------------------------------------------ one of them */

/* "pre-receive" */
static char *
kind_name (const Hooks *hooks)
{
  return g_strndup (hooks->kind, strlen (hooks->kind) - strlen (".d/"));
}

static GPtrArray *
make_variables (const Hooks *hooks, const char *quarantine)
{
  GPtrArray *list = g_ptr_array_new_with_free_func (g_free);
  const GsIdentity *who = hooks->call->identity;
  const GPtrArray *options = push_options (hooks->txn);
  char txid[GIT_TXID_HEX + 1];
  gs_hex (hooks->txn->txid.bytes, GS_TXID_SIZE, txid);
  g_ptr_array_add (list, g_strdup_printf ("GITSTEAD_REPOSITORY_ID=%" G_GUINT64_FORMAT, hooks->txn->repo->id));
  g_ptr_array_add (list, g_strdup_printf ("GITSTEAD_USER=%s", who != NULL && who->name != NULL ? who->name : ""));
  g_ptr_array_add (list, g_strdup_printf ("GITSTEAD_TRANSACTION=%s", txid));
  if (quarantine != NULL)
    g_ptr_array_add (list, g_strdup_printf ("GIT_QUARANTINE_PATH=%s", quarantine));
  if (options != NULL)
    g_ptr_array_add (list, g_strdup_printf ("GIT_PUSH_OPTION_COUNT=%u", options->len));
  for (guint i = 0; options != NULL && i < options->len; i++)
    g_ptr_array_add (list, g_strdup_printf ("GIT_PUSH_OPTION_%u=%s", i, (const char *) options->pdata[i]));
  g_ptr_array_add (list, NULL);
  return list;
}

/* Until it ends, its time is up, or the caller is gone. */
static gboolean
await_hook (Hooks *hooks, Child *child, int *ret_status, GError **error)
{
  const gint64 limit_us = hooks->txn->repo->storage->hook_timeout_us;
  const struct itimerspec when
      = { .it_value = { .tv_sec = limit_us / G_USEC_PER_SEC, .tv_nsec = limit_us % G_USEC_PER_SEC * 1000 } };
  int timer = timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  gboolean done = timer >= 0 && timerfd_settime (timer, 0, &when, NULL) == 0;
  if (!done)
    fsu_fail (error, errno, "make a timer for %s", "a hook");
  while (done)
    {
      struct pollfd fds[4] = { { .fd = child->pidfd, .events = POLLIN },
                               { .fd = child->err_fd, .events = POLLIN },
                               { .fd = timer, .events = POLLIN } };
      done = call_poll (hooks->call, fds, 3, "run a hook", error);
      child_read_stderr (child);
      if (done && fds[0].revents != 0)
        break;
      if (done && fds[2].revents != 0)
        done = gs_fail (error, GS_ERROR_PERMISSION_DENIED, "it took longer than %" G_GINT64_FORMAT " seconds",
                        limit_us / G_USEC_PER_SEC);
    }
  if (timer >= 0)
    close (timer);
  if (done)
    *ret_status = child_reap (child);
  else
    child_end (child);
  child_read_stderr (child);
  return done;
}

/* PERMISSION_DENIED with what it said, as far as nobody else heard it. */
static gboolean
run_hook (Hooks *hooks, const char *name, const char *const *arguments, const GString *input, GError **error)
{
  Txn *txn = hooks->txn;
  g_autofree char *program = g_build_filename (hooks->dir, name, NULL), *kind = kind_name (hooks), *said = NULL;
  g_autofree char *quarantine
      = txn->quarantine != NULL ? quarantine_objects_dir (txn->repo, txn->quarantine) : NULL;
  g_autoptr (GPtrArray) variables = make_variables (hooks, quarantine);
  g_autoptr (GError) why = NULL;
  Child child;
  int status = 0, in = memory_fd (input->str, input->len, error);
  const ChildSpec spec = { .role = CHILD_PLAIN,
                           .program = program,
                           .variables = (const char *const *) variables->pdata,
                           .git_dir = txn->repo->dir,
                           .argv = arguments,
                           .quarantine = quarantine,
                           .alternate = txn->repo->objects,
                           .input = in,
                           .output = push_said_fd (txn),
                           .extra = -1 };
  gboolean done = in >= 0 && child_start (txn->repo->storage, &spec, &child, error);
  if (in >= 0)
    close (in);
  if (!done)
    {
      g_prefix_error (error, "%s hook %s cannot be run: ", kind, name);
      return FALSE;
    }
  done = await_hook (hooks, &child, &status, &why);
  said = g_strchomp (g_utf8_make_valid (child.err->str, (gssize) child.err->len));
  child_clear (&child);
  if (done && status == 0)
    return TRUE;
  if (why != NULL && why->code != GS_ERROR_PERMISSION_DENIED)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  return gs_fail (error, GS_ERROR_PERMISSION_DENIED, "%s hook declined%s%s%s%s%s", kind,
                  arguments[0] != NULL ? " " : "", arguments[0] != NULL ? arguments[0] : "",
                  why != NULL || *said != '\0' ? ": " : "", why != NULL ? why->message : "", why == NULL ? said : "");
}

/* ------------------------------------------------------------------------------------------- all of them */

static const char *
update_hexes (const GsRefUpdate *update, char old_hex[GS_OID_HEX_MAX + 1], char new_hex[GS_OID_HEX_MAX + 1])
{
  gs_oid_hex (&update->old_oid, old_hex);
  gs_oid_hex (&update->new_oid, new_hex);
  return update->name;
}

/* The updates as lines, as git gives them. They are kept: once it is applied the write has none any more. */
static GString *
update_lines (const GsVote *vote)
{
  GString *lines = g_string_new (NULL);
  for (gsize i = 0; i < vote->n_updates; i++)
    {
      char old_hex[GS_OID_HEX_MAX + 1], new_hex[GS_OID_HEX_MAX + 1];
      if (vote->updates[i].new_symref != NULL)
        continue;
      const char *name = update_hexes (&vote->updates[i], old_hex, new_hex);
      g_string_append_printf (lines, "%s %s %s\n", old_hex, new_hex, name);
    }
  return lines;
}

static gboolean
run_for_all (Hooks *hooks, GError **error)
{
  static const char *const none[] = { NULL };
  const GString *lines = hooks->txn->hook_lines;
  for (guint i = 0; i < hooks->names->len && lines->len > 0; i++)
    if (!run_hook (hooks, hooks->names->pdata[i], none, lines, error))
      return FALSE;
  return TRUE;
}

/* Each gets one update as its arguments. */
static gboolean
run_for_each (Hooks *hooks, GError **error)
{
  const GsVote *vote = &hooks->txn->vote;
  g_autoptr (GString) nothing = g_string_new (NULL);
  for (gsize i = 0; i < vote->n_updates; i++)
    {
      char old_hex[GS_OID_HEX_MAX + 1], new_hex[GS_OID_HEX_MAX + 1];
      if (vote->updates[i].new_symref != NULL)
        continue;
      const char *const arguments[] = { update_hexes (&vote->updates[i], old_hex, new_hex), old_hex, new_hex, NULL };
      for (guint k = 0; k < hooks->names->len; k++)
        if (!run_hook (hooks, hooks->names->pdata[k], arguments, nothing, error))
          return FALSE;
    }
  return TRUE;
}

static gboolean
run_kind (Txn *txn, GsCall *call, const char *kind, gboolean (*run) (Hooks *hooks, GError **error), GError **error)
{
  Hooks hooks;
  gboolean done;
  if (!hooks_open (&hooks, txn, call, &txn->hooks, kind, error))
    return FALSE;
  done = run (&hooks, error);
  hooks_close (&hooks);
  return done;
}

/* The whole write is refused: who pushes reads why behind each ref. */
static void
refuse_all (Txn *txn, const GError *why)
{
  for (gsize i = 0; i < txn->n_verdicts; i++)
    if (txn->verdicts[i].code == GS_OK)
      {
        txn->verdicts[i].code = (GsErrorCode) why->code;
        txn->verdicts[i].reason = g_strdelimit (g_strdup (why->message), "\r\n\t", ' ');
      }
  ref_txn_abort (g_steal_pointer (&txn->refs));
  txn->vote.updates = NULL;
  txn->vote.n_updates = 0;
  txn->vote.hooks = GS_HOOKS_NONE;
}

gboolean
hooks_ask (Txn *txn, GsCall *call, gboolean run, GError **error)
{
  g_autoptr (GError) why = NULL;
  RefSnapshot *refs;
  if (!txn->repo->storage->run_hooks || txn->own_refs || txn->vote.n_updates == 0)
    return TRUE;
  refs = ref_store_snapshot (txn->repo->refs, error);
  if (refs == NULL)
    return FALSE;
  fileset_find (refs, FILESET_HOOKS, &txn->hooks);
  ref_snapshot_unref (refs);
  if (txn->hooks.len == 0)
    return TRUE;
  txn->vote.hooks = run ? GS_HOOKS_PASSED : GS_HOOKS_UNASKED;
  if (!run)
    return TRUE;
  txn->hook_lines = update_lines (&txn->vote);
  if (run_kind (txn, call, kinds[0], run_for_all, &why) && run_kind (txn, call, kinds[1], run_for_each, &why))
    return TRUE;
  if (!gs_call_check (call, "run a hook", error))
    return FALSE;
  refuse_all (txn, why);
  return TRUE;
}

void
hooks_tell (Txn *txn, GsCall *call)
{
  g_autoptr (GError) why = NULL;
  Storage *storage = txn->repo->storage;
  if (txn->vote.hooks != GS_HOOKS_PASSED || run_kind (txn, call, kinds[2], run_for_all, &why))
    return;
  storage->host->log (storage->host, GS_LOG_WARNING, "storage.hook.failed",
                      (GsField[]) { GS_TEXT ("replica", txn->repo->path), GS_TEXT ("error", why->message) }, 2);
}
