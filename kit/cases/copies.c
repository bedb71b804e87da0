/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind STORAGE: replicas copied out, taken in, and read through. */
#include "storage.h"

#include <fcntl.h>
#include <unistd.h>

/* What export writes into a file, and import reads from memory. */
typedef struct
{
  GsStream stream; /* first */
  int fd;          /* of the output; -1 unless it was opened */
  GBytes *sent;
} CopyStream;

static gboolean
accept_stream (GsStream *stream)
{
  return TRUE;
}

static int
no_input (GsStream *stream, GError **error)
{
  gs_fail (error, GS_ERROR_INTERNAL, "all of the input was in the head");
  return -1;
}

static int
open_output (GsStream *stream, GError **error)
{
  CopyStream *copy = (CopyStream *) stream;
  g_autofree char *name = NULL;
  copy->fd = g_file_open_tmp ("conformance-XXXXXX", &name, NULL);
  if (copy->fd < 0)
    {
      gs_fail (error, GS_ERROR_INTERNAL, "no temporary file can be made");
      return -1;
    }
  unlink (name);
  return fcntl (copy->fd, F_DUPFD_CLOEXEC, 3);
}

static gboolean
send_all (GsStream *stream, GBytes *bytes, GError **error)
{
  ((CopyStream *) stream)->sent = g_bytes_ref (bytes);
  return TRUE;
}

static void
copy_stream (CopyStream *ret_copy, GBytes *input)
{
  *ret_copy = (CopyStream){ .stream = { .size = sizeof ret_copy->stream,
                                        .head = input,
                                        .complete = TRUE,
                                        .accept = accept_stream,
                                        .open_input = no_input,
                                        .open_output = open_output,
                                        .send_all = send_all },
                            .fd = -1 };
}

/* *full*, NULL with @error. */
static GBytes *
export_to_bytes (Conformance *c, const GsRepo *repo, const GsOid *haves, gsize n_haves, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GBytes) nothing = g_bytes_new_static ("", 0);
  g_autoptr (GByteArray) all = g_byte_array_new ();
  guint8 chunk[4096];
  CopyStream copy;
  ssize_t n;
  copy_stream (&copy, nothing);
  gboolean done = ops->export_replica (c->self, &call, repo, haves, n_haves, &copy.stream, error);
  if (done && copy.fd >= 0 && lseek (copy.fd, 0, SEEK_SET) == 0)
    while ((n = read (copy.fd, chunk, sizeof chunk)) > 0)
      g_byte_array_append (all, chunk, (guint) n);
  if (copy.fd >= 0)
    close (copy.fd);
  if (done && copy.sent != NULL)
    return copy.sent;
  g_clear_pointer (&copy.sent, g_bytes_unref);
  return done ? g_byte_array_free_to_bytes (g_steal_pointer (&all)) : NULL;
}

static gboolean
import_bytes (Conformance *c, const GsRepo *repo, guint32 flags, GBytes *bytes, GsReplicaState *ret_state, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  CopyStream copy;
  copy_stream (&copy, bytes);
  return ops->import_replica (c->self, &call, repo, flags, &copy.stream, ret_state, error);
}

static gboolean
can_copy (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  if (ops->export_replica != NULL && ops->import_replica != NULL)
    return TRUE;
  conformance_skip (c, "the plugin does not copy replicas");
  return FALSE;
}

/* The slots of a storage behind another are known only by asking. */
static gboolean
unimplemented (Conformance *c, const GError *error)
{
  if (error == NULL || error->code != GS_ERROR_UNIMPLEMENTED)
    return FALSE;
  conformance_skip (c, "the storage behind does not copy replicas");
  return TRUE;
}

/* Another place for a replica of the same repository. */
static Replica
beside (Conformance *c, const Replica *replica)
{
  Replica other;
  replica_name (c, &other);
  other.repo.id = replica->repo.id;
  return other;
}

static gboolean
same_refs (Conformance *c, const Replica *a, Replica *b)
{
  const GsRefQuery query = { .size = sizeof query, .include_head = TRUE };
  g_autoptr (GError) error = NULL;
  g_autofree char *left = NULL, *right = NULL;
  b->repo.replica_path = b->path;
  left = refs_text (c, a, &query, &error);
  right = left != NULL ? refs_text (c, b, &query, &error) : NULL;
  if (right == NULL || strcmp (left, right) != 0)
    conformance_fail (c, "the same refs in the copy", "%s", error != NULL ? error->message : right);
  return right != NULL && strcmp (left, right) == 0;
}

static gboolean
states_equal (const GsReplicaState *a, const GsReplicaState *b)
{
  return a->repository_id == b->repository_id && a->generation == b->generation && a->format == b->format
         && memcmp (&a->refs_digest, &b->refs_digest, sizeof a->refs_digest) == 0;
}

void
copy_whole (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsReplicaState here = { .size = sizeof here }, there = { .size = sizeof there };
  g_autoptr (GError) why = NULL;
  g_autoptr (GBytes) copy = NULL;
  Replica source, target;
  GsOid first, second, third;
  if (!can_copy (c) || !replica_make (c, &source) || !write_one (c, &source, "refs/heads/main", 1, &first)
      || !write_one (c, &source, "refs/heads/x/y", 2, &second))
    return;
  target = beside (c, &source);
  target.repo.replica_path = target.path;
  copy = export_to_bytes (c, &source.repo, NULL, 0, &why);
  if (unimplemented (c, why))
    return;
  CHECK (c, copy != NULL, "a copy", "%s", why->message);
  CHECK_OK (c, import_bytes (c, &target.repo, 0, copy, &there, &error));
  CHECK_OK (c, ops->state (c->self, &call, &source.repo, &here, &error));
  CHECK (c, states_equal (&here, &there), "the state that was copied as the new one's", "another");
  CHECK_OK (c, ops->state (c->self, &call, &target.repo, &there, &error));
  CHECK (c, states_equal (&here, &there), "the same id, generation and digest in both", "others");
  if (!same_refs (c, &source, &target))
    return;
  /* It goes on as the other one does. */
  if (!write_one (c, &target, "refs/heads/z", 3, &third))
    return;
  CHECK_CODE (c, GS_ERROR_ABORTED, import_bytes (c, &target.repo, 0, copy, &there, &error));
  CHECK_CODE (c, GS_ERROR_ABORTED, import_bytes (c, &target.repo, GS_IMPORT_REPLACE, copy, &there, &error));
  CHECK_OK (c, ops->state (c->self, &call, &target.repo, &there, &error));
  CHECK (c, there.generation == 3, "a replica that is ahead of the copy as it was", "generation %" G_GUINT64_FORMAT,
         there.generation);
}

void
copy_part (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsReplicaState there = { .size = sizeof there };
  g_autoptr (GBytes) early = NULL, late = NULL;
  g_autoptr (GError) why = NULL;
  Replica source, target;
  GsOid haves[2] = { { 0 } }, second;
  if (!can_copy (c) || !replica_make (c, &source) || !write_one (c, &source, "refs/heads/main", 1, &haves[0]))
    return;
  haves[1] = haves[0];
  haves[1].raw[3] ^= 0x55; /* which nobody knows */
  target = beside (c, &source);
  target.repo.replica_path = target.path;
  early = export_to_bytes (c, &source.repo, NULL, 0, &why);
  if (unimplemented (c, why))
    return;
  CHECK (c, early != NULL, "a copy", "%s", why->message);
  CHECK_OK (c, import_bytes (c, &target.repo, 0, early, &there, &error));
  if (!write_one (c, &source, "refs/heads/later", 2, &second))
    return;
  late = export_to_bytes (c, &source.repo, haves, G_N_ELEMENTS (haves), &why);
  CHECK (c, late != NULL, "a copy without what the receiver has", "%s", why->message);
  CHECK_OK (c, import_bytes (c, &target.repo, 0, late, &there, &error));
  CHECK (c, there.generation == 2, "generation 2", "%" G_GUINT64_FORMAT, there.generation);
  if (!same_refs (c, &source, &target))
    return;
  CHECK_OK (c, ops->remove (c->self, &call, &target.repo, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->state (c->self, &call, &target.repo, &there, &error));
}

void
copy_refused (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0), cancelled = conformance_call (c, 0);
  GsReplicaState there = { .size = sizeof there };
  g_autoptr (GBytes) copy = NULL;
  g_autoptr (GError) why = NULL;
  Replica source, target, stranger;
  gboolean exists = TRUE;
  GsOid oid;
  gsize len;
  if (!can_copy (c) || !replica_make (c, &source) || !write_one (c, &source, "refs/heads/main", 1, &oid))
    return;
  target = beside (c, &source);
  target.repo.replica_path = target.path;
  copy = export_to_bytes (c, &source.repo, NULL, 0, &why);
  if (unimplemented (c, why))
    return;
  CHECK (c, copy != NULL, "a copy", "%s", why->message);
  len = g_bytes_get_size (copy);
  for (guint i = 0; i < 12; i++)
    {
      g_autoptr (GError) refusal = NULL;
      g_autofree guint8 *bytes = g_memdup2 (g_bytes_get_data (copy, NULL), len);
      g_autoptr (GBytes) bad = NULL;
      bytes[len * i / 12] ^= 4;
      bad = g_bytes_new (bytes, i % 2 != 0 ? len : len * i / 12);
      CHECK (c, !import_bytes (c, &target.repo, 0, bad, &there, &refusal), "a damaged copy refused", "it was taken in (%u)", i);
      CHECK_OK (c, ops->exists (c->self, &call, &target.repo, &exists, &error));
      CHECK (c, !exists, "nothing of a damaged copy", "a replica (%u)", i);
    }
  if (!replica_make (c, &stranger))
    return;
  CHECK_CODE (c, GS_ERROR_FAILED_PRECONDITION, import_bytes (c, &stranger.repo, 0, copy, &there, &error));
  CHECK_CODE (c, GS_ERROR_FAILED_PRECONDITION,
              import_bytes (c, &stranger.repo, GS_IMPORT_REPLACE, copy, &there, &error));
  cancelled.cancelled = 1;
  {
    CopyStream stream;
    copy_stream (&stream, copy);
    CHECK_CODE (c, GS_ERROR_CANCELLED,
                ops->import_replica (c->self, &cancelled, &target.repo, 0, &stream.stream, &there, &error));
  }
  CHECK_OK (c, import_bytes (c, &target.repo, 0, copy, &there, &error));
}

/* A vote says that the old values are there and locked: nothing takes their place before it has its end. */
void
copy_beside_a_write (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsReplicaState there = { .size = sizeof there };
  g_autoptr (GBytes) copy = NULL, pack = NULL;
  g_autoptr (GError) why = NULL;
  const GsVote *vote;
  Replica source, target;
  gpointer txn = NULL;
  GsOid oid, other;
  if (!can_copy (c) || !replica_make (c, &source) || !write_one (c, &source, "refs/heads/main", 1, &oid))
    return;
  target = beside (c, &source);
  target.repo.replica_path = target.path;
  copy = export_to_bytes (c, &source.repo, NULL, 0, &why);
  if (unimplemented (c, why))
    return;
  CHECK (c, copy != NULL, "a copy", "%s", why->message);
  CHECK_OK (c, import_bytes (c, &target.repo, 0, copy, &there, &error));
  pack = pack_commits (c, 1, &other);
  const GsRefUpdate update = update_create ("refs/heads/open", &other);
  const GsChangeSet change
      = { .size = sizeof change, .txid = conformance_txid (c), .updates = &update, .n_updates = 1, .pack = pack };
  CHECK_OK (c, ops->stage (c->self, &call, &target.repo, &change, &txn, &vote, &error));
  CHECK_CODE (c, GS_ERROR_BUSY, import_bytes (c, &target.repo, 0, copy, &there, &error));
  CHECK_CODE (c, GS_ERROR_BUSY, import_bytes (c, &target.repo, GS_IMPORT_REPLACE, copy, &there, &error));
  ops->abort (c->self, &call, txn, NULL);
  CHECK_OK (c, import_bytes (c, &target.repo, 0, copy, &there, &error));
  CHECK_OK (c, import_bytes (c, &target.repo, GS_IMPORT_REPLACE, copy, &there, &error));
  same_refs (c, &source, &target);
}

void
read_through (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0), cancelled = conformance_call (c, 0);
  GsReplicaState before = { .size = sizeof before }, after = { .size = sizeof after };
  g_autoptr (GError) why = NULL;
  Replica replica, absent;
  GsOid oid;
  if (ops->scrub == NULL)
    {
      conformance_skip (c, "the plugin does not read replicas through");
      return;
    }
  if (!replica_make (c, &replica))
    return;
  if (!ops->scrub (c->self, &call, &replica.repo, 0, &why) && unimplemented (c, why))
    return;
  CHECK (c, why == NULL, "an empty replica found whole", "%s", why->message);
  if (!write_one (c, &replica, "refs/heads/main", 1, &oid))
    return;
  CHECK_OK (c, ops->state (c->self, &call, &replica.repo, &before, &error));
  CHECK_OK (c, ops->scrub (c->self, &call, &replica.repo, 0, &error));
  CHECK_OK (c, ops->scrub (c->self, &call, &replica.repo, 1 << 20, &error));
  CHECK_OK (c, ops->state (c->self, &call, &replica.repo, &after, &error));
  CHECK (c, states_equal (&before, &after), "a replica that reading through left alone", "another state");
  replica_name (c, &absent);
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->scrub (c->self, &call, &absent.repo, 0, &error));
  cancelled.cancelled = 1;
  CHECK_CODE (c, GS_ERROR_CANCELLED, ops->scrub (c->self, &cancelled, &replica.repo, 0, &error));
}
