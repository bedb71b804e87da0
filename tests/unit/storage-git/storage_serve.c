/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storage-serve ROOT PATH SERVICE: one session of the storage plugin on standard input and output, for
 * stock git: git -c protocol.ext.allow=always clone "ext::storage-serve ROOT x.git %S". Creates the repository when
 * it is not there. A push is decided at once, at the generation after the replica's, as one node alone would.
 *
 * SERVICE is git's name for it (git-upload-pack, git-receive-pack), or one of
 *   refs       prints the refs and the state
 *   maintain   one round of maintenance, with GIT_PROGRAM (env) as the option git
 *   export     a copy of the replica; HAVES (env): what the receiver has
 *   import     takes a copy in; REPLACE (env): what is there is of no use
 *   scrub      reads all of it
 *   recover    starts, resolves what is pending as DECIDE says (env: commit, abort), prints what was pending
 */
#include "fakehost.h"

#include <gitstead/storage.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const GsPlugin *gs_plugin_query (void);

static const GsStorageOps *ops;
static gpointer self;
static GsRepo repo = { .size = sizeof repo, .id = 42 };

static int
fail (const char *doing, GError *error)
{
  fprintf (stderr, "storage-serve: %s: %s: %s\n", doing, gs_error_name (error->code), error->message);
  g_error_free (error);
  return 1;
}

static int
push (FakeCall *call, FakeStream *stream)
{
  GError *error = NULL;
  GsReplicaState state;
  const GsVote *vote;
  gpointer txn;
  GsPush request = { .size = sizeof request, .protocol = g_getenv ("GIT_PROTOCOL") };
  GsDecision decision = { .size = sizeof decision };
  memcpy (request.txid.bytes, call->call.id.bytes, sizeof request.txid.bytes);
  if (request.protocol == NULL)
    request.protocol = "";
  if (!ops->stage_push (self, &call->call, &repo, &request, &stream->stream, &txn, &vote, &error))
    return fail ("stage_push", error);
  if (vote->n_updates == 0 || g_getenv ("DECIDE_ABORT") != NULL)
    {
      g_autoptr (GError) why = g_error_new (GS_ERROR, GS_ERROR_ABORTED, "the quorum said no");
      ops->abort (self, &call->call, txn, vote->n_updates == 0 ? NULL : why);
      return 0;
    }
  if (!ops->state (self, &call->call, &repo, &state, &error))
    return fail ("state", error);
  decision.txid = request.txid;
  decision.generation = state.generation + 1;
  if (!ops->commit (self, &call->call, txn, &decision, &error))
    return fail ("commit", error);
  return 0;
}

static gboolean
print_ref (const GsRef *ref, gpointer user)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (&ref->oid, hex);
  printf ("%s %s%s%s\n", ref->oid.len != 0 ? hex : "unborn", ref->name, ref->symref_target != NULL ? " -> " : "",
          ref->symref_target != NULL ? ref->symref_target : "");
  return TRUE;
}

static int
refs (FakeCall *call)
{
  GError *error = NULL;
  GsReplicaState state;
  GsRefQuery query = { .size = sizeof query, .include_head = TRUE };
  char digest[65];
  if (!ops->list_refs (self, &call->call, &repo, &query, print_ref, NULL, &error))
    return fail ("list_refs", error);
  if (!ops->state (self, &call->call, &repo, &state, &error))
    return fail ("state", error);
  gs_hex (state.refs_digest.bytes, GS_DIGEST_SIZE, digest);
  printf ("generation %" G_GUINT64_FORMAT " digest %s\n", state.generation, digest);
  return 0;
}

static gboolean
collect_pending (const GsPending *pending, gpointer user)
{
  g_array_append_val ((GArray *) user, pending->txid);
  return TRUE;
}

static int
recover (FakeCall *call)
{
  GError *error = NULL;
  GsReplicaState state;
  g_autoptr (GArray) found = g_array_new (FALSE, FALSE, sizeof (GsTxId));
  const char *decide = g_getenv ("DECIDE");
  if (!ops->pending (self, &call->call, collect_pending, found, &error))
    return fail ("pending", error);
  printf ("pending %u\n", found->len);
  for (guint i = 0; i < found->len; i++)
    {
      const GsTxId *txid = &g_array_index (found, GsTxId, i);
      if (!ops->state (self, &call->call, &repo, &state, &error))
        return fail ("state", error);
      GsDecision decision = { .size = sizeof decision, .txid = *txid, .generation = state.generation + 1 };
      gboolean commit = g_strcmp0 (decide, "commit") == 0;
      if (!ops->resolve (self, &call->call, &repo, txid, commit ? &decision : NULL, &error))
        return fail ("resolve", error);
    }
  return refs (call);
}

static int
export_copy (FakeCall *call, FakeStream *stream)
{
  GError *error = NULL;
  g_auto (GStrv) words = g_strsplit (g_getenv ("HAVES") != NULL ? g_getenv ("HAVES") : "", " ", -1);
  g_autoptr (GArray) haves = g_array_new (FALSE, FALSE, sizeof (GsOid));
  for (guint i = 0; words[i] != NULL; i++)
    {
      GsOid oid;
      if (gs_oid_parse (words[i], strlen (words[i]), &oid))
        g_array_append_val (haves, oid);
    }
  if (!ops->export_replica (self, &call->call, &repo, (const GsOid *) haves->data, haves->len, &stream->stream, &error))
    return fail ("export", error);
  return 0;
}

static int
import_copy (FakeCall *call, FakeStream *stream)
{
  GError *error = NULL;
  GsReplicaState state;
  if (!ops->import_replica (self, &call->call, &repo, g_getenv ("REPLACE") != NULL ? GS_IMPORT_REPLACE : 0,
                            &stream->stream, &state, &error))
    return fail ("import", error);
  return refs (call);
}

static int
run (const char *service, FakeCall *call, FakeStream *stream)
{
  GError *error = NULL;
  const char *protocol = g_getenv ("GIT_PROTOCOL");
  if (strcmp (service, "refs") == 0)
    return refs (call);
  if (strcmp (service, "recover") == 0)
    return recover (call);
  if (strcmp (service, "maintain") == 0)
    return ops->maintain (self, &call->call, &error) ? 0 : fail ("maintain", error);
  if (strcmp (service, "prune") == 0)
    {
      static const guint8 request[] = { 3 << 3, 1 }; /* RepositoryPruneRequest: no_grace */
      g_autoptr (GBytes) bytes = g_bytes_new_static (request, sizeof request), reply = NULL;
      const GsQuery query = { sizeof query, 140, bytes, NULL };
      return ops->query (self, &call->call, &repo, &query, &reply, &error) ? 0 : fail ("prune", error);
    }
  if (strcmp (service, "export") == 0)
    return export_copy (call, stream);
  if (strcmp (service, "import") == 0)
    return import_copy (call, stream);
  if (strcmp (service, "scrub") == 0)
    return ops->scrub (self, &call->call, &repo, 0, &error) ? 0 : fail ("scrub", error);
  if (strcmp (service, "git-receive-pack") == 0 || strcmp (service, "receive-pack") == 0)
    return push (call, stream);
  if (!ops->upload_pack (self, &call->call, &repo, protocol != NULL ? protocol : "", FALSE, &stream->stream, &error))
    return fail ("upload_pack", error);
  return 0;
}

int
main (int argc, char **argv)
{
  const GsPlugin *plugin = gs_plugin_query ();
  g_autoptr (FakeHost) host = fake_host_new ("storage test");
  GError *error = NULL;
  const char *crash_at = g_getenv ("CRASH_AT"), *denies = g_getenv ("DENY"), *fsck = g_getenv ("FSCK");
  const char *git = g_getenv ("GIT_PROGRAM");
  int status;
  if (argc != 4)
    return 2;
  signal (SIGPIPE, SIG_IGN);
  ops = plugin->ops;
  repo.replica_path = argv[2];
  g_autoptr (FakeConfig) config = fake_config_new (
      plugin, "path", argv[1], "hook_dir", g_getenv ("GITSTEAD_TEST_HOOK_DIR"), "crash_at",
      crash_at != NULL ? crash_at : "none", "deny_deletes", denies != NULL ? "true" : "false", "deny_non_fast_forwards",
      denies != NULL ? "true" : "false", "fsck", fsck != NULL ? fsck : "lenient", "lock_wait", "1s", "git",
      git != NULL ? git : "git", NULL);
  self = plugin->create (&host->host, fake_config_get (config), &error);
  if (self == NULL || !plugin->start (self, &error))
    return fail ("start", error);
  FakeCall *call = fake_call_new (60 * G_USEC_PER_SEC);
  FakeStream *stream = fake_stream_new (NULL, dup (0), dup (1));
  const GsRepoSpec spec = { .size = sizeof spec, .format = GS_FORMAT_SHA1, .default_branch = "refs/heads/main" };
  gboolean exists;
  if (!ops->exists (self, &call->call, &repo, &exists, &error)
      || (!exists && strcmp (argv[3], "import") != 0 && !ops->create (self, &call->call, &repo, &spec, &error)))
    return fail ("create", error);
  status = run (argv[3], call, stream);
  fake_stream_free (stream);
  fake_call_free (call);
  plugin->stop (self);
  plugin->destroy (self);
  return status;
}
