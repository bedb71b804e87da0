/* SPDX-License-Identifier: Apache-2.0 */
/* RepositoryService: what git fsck finds, as messages; and housekeeping of one replica when somebody asks for it. */
#include "api.h"
#include "child.h"
#include "fsutil.h"
#include "prune.h"

#include "gitstead/v1/repository.pb-c.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define FINDINGS_DEFAULT 1000
#define FINDINGS_MAX 10000
#define TEXT_BYTES 1000
#define LINE_BYTES 4096
#define READ_BYTES (64 * 1024)
#define GRACE_SECONDS (14 * 24 * 3600)
#define GRACE_MAX_SECONDS (G_GUINT64_CONSTANT (100) * 366 * 24 * 3600)
#define AT_ONCE 2 /* of one storage: each reads a whole repository */

typedef Gitstead__V1__FsckFinding Finding;

/* Standard output and standard error, each a line at a time: git tells of some faults here and of others there. */
typedef struct
{
  GitCall *call;
  Gitstead__V1__RepositoryFsckReply *reply;
  guint64 limit;
  Finding *link; /* the broken link whose second line comes next */
  ApiFields lines[2];
} Fsck;

/* ---------------------------------------------------------------------------------------- one line */

static const char *const types[] = { "blob", "tree", "commit", "tag" };

static const char *
known_type (const char *text, gsize len)
{
  for (gsize i = 0; i < G_N_ELEMENTS (types); i++)
    if (strlen (types[i]) == len && memcmp (types[i], text, len) == 0)
      return types[i];
  return "";
}

/* "<type> <id>", with any number of spaces before them. Where it ends, NULL when it is something else. */
static const char *
take_object (Fsck *fsck, const char *at, char **ret_type, char **ret_oid)
{
  gsize hex = 2 * (gsize) fsck->call->repo->format;
  GsOid oid;
  while (*at == ' ')
    at++;
  const char *space = strchr (at, ' ');
  if (space == NULL || strlen (space + 1) < hex || !gs_oid_parse (space + 1, hex, &oid))
    return NULL;
  *ret_type = (char *) known_type (at, (gsize) (space - at));
  *ret_oid = api_hex (fsck->call, &oid);
  return space + 1 + hex;
}

/* "missingEmail: invalid author/committer line" */
static void
take_check (Fsck *fsck, Finding *finding, const char *text)
{
  const char *colon = strchr (text, ':');
  if (colon == NULL || strcspn (text, " ") < (gsize) (colon - text))
    return;
  finding->check = api_text (fsck->call, text, colon - text);
}

static gboolean
is_ref_fault (const char *text)
{
  return (g_str_has_prefix (text, "refs/") || g_str_has_prefix (text, "HEAD"))
         && (strstr (text, "invalid sha1 pointer") != NULL || strstr (text, "not a commit") != NULL
             || strstr (text, "points at nothing") != NULL);
}

/* The first id in the line is what it is about. */
static void
find_oid (Fsck *fsck, Finding *finding, const char *text)
{
  gsize hex = 2 * (gsize) fsck->call->repo->format;
  GsOid oid;
  for (const char *at = text; strlen (at) >= hex; at += strspn (at, " "))
    {
      gsize len = strspn (at, "0123456789abcdef");
      if (len == hex && gs_oid_parse (at, hex, &oid))
        {
          finding->oid = api_hex (fsck->call, &oid);
          return;
        }
      at += len > 0 ? len : 1;
    }
}

static void
judge (Fsck *fsck, Finding *finding, const char *line)
{
  static const char *const weights[] = { "error in ", "warning in " };
  static const char *const levels[] = { "error: ", "fatal: ", "warning: " };
  finding->weight = GITSTEAD__V1__FSCK_WEIGHT__FSCK_ERROR;
  for (gsize i = 0; i < G_N_ELEMENTS (weights); i++)
    if (g_str_has_prefix (line, weights[i]))
      {
        const char *rest = take_object (fsck, line + strlen (weights[i]), &finding->object_type, &finding->oid);
        finding->kind = GITSTEAD__V1__FSCK_KIND__FSCK_BAD_OBJECT;
        finding->weight = i == 0 ? GITSTEAD__V1__FSCK_WEIGHT__FSCK_ERROR : GITSTEAD__V1__FSCK_WEIGHT__FSCK_WARNING;
        if (rest != NULL && g_str_has_prefix (rest, ": "))
          take_check (fsck, finding, rest + 2);
        return;
      }
  if (g_str_has_prefix (line, "missing ") && take_object (fsck, line + 8, &finding->object_type, &finding->oid) != NULL)
    {
      finding->kind = GITSTEAD__V1__FSCK_KIND__FSCK_MISSING;
      return;
    }
  if (g_str_has_prefix (line, "broken link from ")
      && take_object (fsck, line + 17, &finding->object_type, &finding->oid) != NULL)
    {
      finding->kind = GITSTEAD__V1__FSCK_KIND__FSCK_BROKEN_LINK;
      fsck->link = finding;
      return;
    }
  for (gsize i = 0; i < G_N_ELEMENTS (levels); i++)
    if (g_str_has_prefix (line, levels[i]))
      {
        line += strlen (levels[i]);
        if (i == 2)
          finding->weight = GITSTEAD__V1__FSCK_WEIGHT__FSCK_WARNING;
        finding->kind = is_ref_fault (line) ? GITSTEAD__V1__FSCK_KIND__FSCK_BAD_REF
                                            : GITSTEAD__V1__FSCK_KIND__FSCK_CORRUPT;
        break;
      }
  find_oid (fsck, finding, line);
}

/* Where a replica lies is nobody's business. */
static ProtobufCBinaryData
told (Fsck *fsck, const char *line)
{
  g_auto (GStrv) parts = g_strsplit (line, fsck->call->repo->dir, -1);
  g_autofree char *text = g_strjoinv ("", parts);
  return api_bytes (fsck->call, text, MIN (strlen (text), TEXT_BYTES));
}

static gboolean
fsck_line (ApiFields *fields, const char *line, gsize len, gboolean *ret_enough, GError **error)
{
  Fsck *fsck = fields->user;
  Gitstead__V1__RepositoryFsckReply *reply = fsck->reply;
  char *type;
  /* The second line of a broken link. */
  if (len > 0 && line[0] == ' ')
    {
      const char *to = strstr (line, "to ");
      if (to != NULL && fsck->link != NULL)
        take_object (fsck, to + 3, &type, &fsck->link->to_oid);
      fsck->link = NULL;
      return TRUE;
    }
  if (len == 0 || g_str_has_prefix (line, "notice: ") || g_str_has_prefix (line, "dangling "))
    return TRUE;
  /* Also those that there is no room for are read, for their weight. */
  Finding spare = GITSTEAD__V1__FSCK_FINDING__INIT;
  gboolean room = reply->n_findings < fsck->limit;
  Finding *finding = room ? api_message (fsck->call, &gitstead__v1__fsck_finding__descriptor) : &spare;
  if (room)
    {
      finding->text = told (fsck, line);
      judge (fsck, finding, line);
      API_APPEND (fsck->call, reply, findings, finding);
    }
  else
    finding->weight = g_str_has_prefix (line, "warning") ? GITSTEAD__V1__FSCK_WEIGHT__FSCK_WARNING
                                                         : GITSTEAD__V1__FSCK_WEIGHT__FSCK_ERROR;
  reply->errors += finding->weight == GITSTEAD__V1__FSCK_WEIGHT__FSCK_ERROR;
  reply->warnings += finding->weight == GITSTEAD__V1__FSCK_WEIGHT__FSCK_WARNING;
  return TRUE;
}

/* --------------------------------------------------------------------------------------- the process */

static gboolean
fsck_read (Fsck *fsck, int fd, ApiFields *fields, gboolean *ret_open, GError **error)
{
  g_autofree char *buffer = g_malloc (READ_BYTES);
  gboolean enough = FALSE;
  ssize_t got = read (fd, buffer, READ_BYTES);
  if (got < 0 && (errno == EINTR || errno == EAGAIN))
    return TRUE;
  if (got < 0)
    return fsu_fail (error, errno, "read from git %s", "fsck");
  *ret_open = got > 0;
  return got == 0 || api_fields_feed (fields, buffer, (gsize) got, &enough, error);
}

static gboolean
fsck_follow (Fsck *fsck, Child *child, int from, GError **error)
{
  gboolean open = TRUE, open_err = TRUE;
  while (open || open_err)
    {
      struct pollfd fds[3] = { { .fd = open ? from : -1, .events = POLLIN },
                               { .fd = open_err ? child->err_fd : -1, .events = POLLIN } };
      if (!call_poll (fsck->call->call, fds, 2, child->name, error)
          || (fds[0].revents != 0 && !fsck_read (fsck, from, &fsck->lines[0], &open, error))
          || (fds[1].revents != 0 && !fsck_read (fsck, child->err_fd, &fsck->lines[1], &open_err, error)))
        return FALSE;
    }
  return TRUE;
}

static gboolean
fsck_run (Fsck *fsck, const char *const *argv, GError **error)
{
  GitCall *call = fsck->call;
  ChildSpec spec
      = { .role = CHILD_MAINTAIN, .git_dir = call->repo->dir, .argv = argv, .input = -1, .output = -1, .extra = -1 };
  Child child = { .err_fd = -1 };
  int out[2], status = 0;
  if (pipe2 (out, O_CLOEXEC) != 0)
    return fsu_fail (error, errno, "make a pipe for git %s", argv[0]);
  spec.output = out[1];
  gboolean done = child_start (call->storage, &spec, &child, error);
  close (out[1]);
  done = done && fsck_follow (fsck, &child, out[0], error);
  close (out[0]);
  done = done && child_wait (&child, call->call, NULL, &status, error);
  /* Any exit code is one of its verdicts, as long as it said why. */
  if (done && (!WIFEXITED (status) || (WEXITSTATUS (status) != 0 && fsck->reply->errors == 0)))
    done = child_check (&child, status, error);
  child_clear (&child);
  return done;
}

gboolean
api_repository_fsck (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__RepositoryFsckRequest *request = (const void *) message;
  Gitstead__V1__RepositoryFsckReply *reply = (void *) answer;
  const char *const argv[] = { "fsck", "--full", "--no-dangling", "--no-reflogs", "--no-progress",
                               request->connectivity_only ? "--connectivity-only" : NULL, NULL };
  Fsck fsck = { .call = call, .reply = reply };
  if (!api_take_limit (request->limit, FINDINGS_DEFAULT, FINDINGS_MAX, "limit", &fsck.limit, error))
    return FALSE;
  if (g_atomic_int_add (&call->storage->fscks, 1) >= AT_ONCE)
    {
      g_atomic_int_add (&call->storage->fscks, -1);
      return gs_fail (error, GS_ERROR_BUSY,
                      "%d repositories of this storage are being checked already; try again later", AT_ONCE);
    }
  for (gsize i = 0; i < G_N_ELEMENTS (fsck.lines); i++)
    fsck.lines[i] = (ApiFields){ .separator = '\n', .max = LINE_BYTES, .may_cut = TRUE, .visit = fsck_line,
                                 .user = &fsck, .field = g_string_new (NULL) };
  gboolean done = fsck_run (&fsck, argv, error);
  for (gsize i = 0; i < G_N_ELEMENTS (fsck.lines); i++)
    g_string_free (fsck.lines[i].field, TRUE);
  g_atomic_int_add (&call->storage->fscks, -1);
  reply->ok = reply->errors == 0;
  return done;
}

/* ------------------------------------------------------------------------------------------ optimizing */

gboolean
api_repository_optimize (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  static const CareWish wishes[] = { CARE_DUE, CARE_GEOMETRIC, CARE_FULL, CARE_GRAPH };
  const Gitstead__V1__RepositoryOptimizeRequest *request = (const void *) message;
  Gitstead__V1__RepositoryOptimizeReply *reply = (void *) answer;
  Gitstead__V1__RepositoryOptimized *done;
  CareDone care;
  if (!api_take_enum (&gitstead__v1__optimize_strategy__descriptor, (int) request->strategy, "strategy", error)
      || !maintain_now (call->repo, wishes[request->strategy], call->call, &care, error))
    return FALSE;
  done = api_message (call, &gitstead__v1__repository_optimized__descriptor);
  done->repacked = care.kind == REPACK_FULL        ? GITSTEAD__V1__OPTIMIZE_STRATEGY__OPTIMIZE_FULL
                   : care.kind == REPACK_GEOMETRIC ? GITSTEAD__V1__OPTIMIZE_STRATEGY__OPTIMIZE_GEOMETRIC
                                                   : GITSTEAD__V1__OPTIMIZE_STRATEGY__OPTIMIZE_DUE;
  done->packs_before = care.before.packs;
  done->packs_after = care.after.packs;
  done->pack_bytes_before = care.before.bytes;
  done->pack_bytes_after = care.after.bytes;
  done->commit_graph_written = care.graph;
  API_APPEND (call, reply, replicas, done);
  return TRUE;
}

gboolean
api_repository_prune (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__RepositoryPruneRequest *request = (const void *) message;
  Gitstead__V1__RepositoryPruneReply *reply = (void *) answer;
  Gitstead__V1__RepositoryPruned *pruned;
  PruneWish wish = { .dry_run = request->dry_run };
  guint64 seconds;
  PruneDone done;
  if (request->no_grace && request->grace_seconds != 0)
    return api_invalid (error, "no_grace", "not together with grace_seconds");
  if (!api_take_limit (request->grace_seconds, GRACE_SECONDS, GRACE_MAX_SECONDS, "grace_seconds", &seconds, error))
    return FALSE;
  wish.grace_us = request->no_grace ? 0 : (gint64) seconds * G_USEC_PER_SEC;
  if (!maintain_prune (call->repo, &wish, call->call, &done, error))
    return FALSE;
  pruned = api_message (call, &gitstead__v1__repository_pruned__descriptor);
  pruned->objects = done.objects;
  pruned->bytes = done.bytes;
  pruned->kept_objects = done.kept;
  pruned->kept_bytes = done.kept_bytes;
  API_APPEND (call, reply, replicas, pruned);
  return TRUE;
}
