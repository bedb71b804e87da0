/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repositories that are born with a history: from a bundle, from another server, from another repository of ours. One
 * replica computes what comes in, as for any write; all of them stage and apply it before the record makes the repository
 * visible. So there is no moment at which a client sees a part of it, and a failure leaves a replica that no record names.
 */
#include "router/create.h"
#include "router/settle.h"

#include "gitstead/v1/repository.pb-c.h"
#include "node/names.h"
#include "rpc/path.h"
#include "rpc/rpc.h"

#include <fcntl.h>
#include <gitstead/thread.h>
#include <poll.h>
#include <unistd.h>

#define METHOD_BUNDLE_CREATE 126
#define METHOD_FORK 151 /* to a storage: fill it from the bundle in the stream, which is the source's own */

/* A creation under way. */
typedef struct
{
  GsiRouter *router;
  GsiCall *call;
  const GsiStorageGroup *group;
  GsRepo repo;
  GsReplicaState state;
  GPtrArray *storages;
  GsQuery query; /* what the first replica is asked; method 0 = it stays empty */
  /* for a fork: where its bulk bytes come from */
  const GsiStorage *source;
  const GsiRow *source_row;
  GBytes *source_request;
  const GsiRow *pool; /* that it borrows from; NULL = none */
} Creation;

/* ---------------------------------------------------------------------------- from another repository */

/*
 * A fork is a bundle of the source that never lies anywhere: its storage writes it into one end of a pipe on a thread of
 * its own, and the new replica reads the other. They need not be of one process.
 */
typedef struct
{
  GsStream out, in;
  int pipe[2]; /* each end is its taker's */
  int ended;   /* the end that is read, once more: it tells when the other one is closed */
  GBytes *none;
  const GsiStorage *source;
  GsRepo repo;
  GsQuery query;
  GsCall call; /* a copy: two threads cannot share one */
  gboolean done;
  GError *why;
  GsThread thread;
} Supply;

static int
supply_open (int *end, GError **error)
{
  int fd = *end;
  *end = -1;
  if (fd < 0)
    gs_fail (error, GS_ERROR_INTERNAL, "the pipe of a fork was opened twice");
  return fd;
}

static int
supply_open_input (GsStream *stream, GError **error)
{
  return supply_open (&((Supply *) (void *) ((char *) stream - G_STRUCT_OFFSET (Supply, in)))->pipe[0], error);
}

static int
supply_open_output (GsStream *stream, GError **error)
{
  return supply_open (&((Supply *) (void *) ((char *) stream - G_STRUCT_OFFSET (Supply, out)))->pipe[1], error);
}

static int
no_input (GsStream *stream, GError **error)
{
  (void) stream;
  gs_fail (error, GS_ERROR_INTERNAL, "this stream has no such side");
  return -1;
}

static gboolean
no_send (GsStream *stream, GBytes *bytes, GError **error)
{
  (void) stream;
  (void) bytes;
  return gs_fail (error, GS_ERROR_INTERNAL, "this stream takes no whole answer");
}

static int
no_cancel_fd (GsCall *call)
{
  (void) call;
  return -1; /* then the flag is looked at */
}

static void *
supply_run (void *data)
{
  Supply *supply = data;
  g_autoptr (GBytes) reply = NULL;
  supply->done = supply->source->ops->query (supply->source->self, &supply->call, &supply->repo, &supply->query, &reply,
                                             &supply->why);
  if (supply->pipe[1] >= 0)
    {
      close (supply->pipe[1]);
      supply->pipe[1] = -1;
    }
  return NULL;
}

static gboolean
supply_begin (Supply *supply, const Creation *creation, GError **error)
{
  const GsiRow *row = creation->source_row;
  const GsCall *call = &creation->call->base;
  *supply = (Supply) { .source = creation->source, .pipe = { -1, -1 }, .ended = -1 };
  supply->none = g_bytes_new (NULL, 0);
  supply->repo = (GsRepo) { sizeof (GsRepo), row->id, row->replica_path };
  supply->in = (GsStream) { .size = sizeof (GsStream), .head = supply->none, .open_input = supply_open_input,
                            .open_output = no_input, .send_all = no_send };
  supply->out = (GsStream) { .size = sizeof (GsStream), .head = supply->none, .complete = TRUE, .open_input = no_input,
                             .open_output = supply_open_output, .send_all = no_send };
  supply->query = (GsQuery) { sizeof (GsQuery), METHOD_BUNDLE_CREATE, creation->source_request,
                               &supply->out };
  /* Not the whole struct: others may say at any moment that the call is cancelled. */
  supply->call = (GsCall) { .size = sizeof supply->call, .id = call->id, .deadline_us = call->deadline_us,
                            .identity = call->identity, .peer = call->peer, .cancel_fd = no_cancel_fd };
  if (pipe2 (supply->pipe, O_CLOEXEC) != 0 || (supply->ended = fcntl (supply->pipe[0], F_DUPFD_CLOEXEC, 0)) < 0
      || gs_thread_start (&supply->thread, "fork", supply_run, supply) != 0)
    {
      for (int i = 0; i < 2; i++)
        if (supply->pipe[i] >= 0)
          close (supply->pipe[i]);
      if (supply->ended >= 0)
        close (supply->ended);
      g_bytes_unref (supply->none);
      return gs_fail (error, GS_ERROR_BUSY, "a fork cannot be carried now: no pipe or thread can be had");
    }
  return TRUE;
}

/*
 * What the source's side failed with is why the other one failed too. TRUE: both are done. A source that has written its last
 * is about to say how it ended, and is not to be cut off; one that still writes, or makes up its mind, is, and fails only for that.
 */
static gboolean
supply_end (Supply *supply, gboolean filled, GError **error)
{
  struct pollfd written = { .fd = supply->ended };
  const gboolean cut = !filled && (poll (&written, 1, 0) != 1 || (written.revents & POLLHUP) == 0);
  gboolean done;
  if (cut)
    __atomic_store_n (&supply->call.cancelled, 1, __ATOMIC_RELEASE);
  close (supply->ended);
  if (supply->pipe[0] >= 0)
    close (supply->pipe[0]);
  gs_thread_join (supply->thread);
  g_bytes_unref (supply->none);
  done = filled && supply->done;
  if (!supply->done && !cut && gs_error_code (supply->why) != GS_ERROR_CANCELLED)
    {
      g_clear_error (error);
      g_propagate_error (error, g_steal_pointer (&supply->why));
    }
  g_clear_error (&supply->why);
  return done;
}

/* ------------------------------------------------------------------------------------------- filling */

static void
abort_staged (Creation *creation, gpointer *txns, const GError *why)
{
  for (guint i = 0; i < creation->storages->len; i++)
    {
      const GsiStorage *storage = creation->storages->pdata[i];
      if (txns[i] != NULL)
        storage->ops->abort (storage->self, &creation->call->base, g_steal_pointer (&txns[i]), why);
    }
}

static gboolean
check_vote (const GsiStorage *storage, const GsVote *vote, const GsVote *first, gsize n_updates, GError **error)
{
  for (gsize i = 0; i < vote->n_verdicts; i++)
    if (vote->verdicts[i].code != GS_OK)
      return gs_fail (error, vote->verdicts[i].code, "storage '%s' refused a ref: %s", storage->name,
                      vote->verdicts[i].reason != NULL ? vote->verdicts[i].reason : "no reason given");
  if (vote->n_updates != n_updates || memcmp (vote->digest, first->digest, sizeof vote->digest) != 0)
    return gs_fail (error, GS_ERROR_INTERNAL, "storage '%s' took something else than the first one", storage->name);
  return TRUE;
}

static gboolean
stage_all (Creation *creation, const GsChangeSet *change, gpointer *txns, const GsVote **ret_vote, GError **error)
{
  for (guint i = 0; i < creation->storages->len; i++)
    {
      const GsiStorage *storage = creation->storages->pdata[i];
      const GsVote *vote;
      if (!storage->ops->stage (storage->self, &creation->call->base, &creation->repo, change, &txns[i], &vote, error))
        {
          txns[i] = NULL;
          return FALSE;
        }
      if (i == 0)
        *ret_vote = vote;
      if (!check_vote (storage, vote, *ret_vote, change->n_updates, error))
        return FALSE;
    }
  return TRUE;
}

/* The first write of a repository that nobody knows of yet: there is nobody to agree with, and no record to decide it by. */
static gboolean
write_all (Creation *creation, GsChangeSet *change, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (creation->router);
  g_autofree gpointer *txns = g_new0 (gpointer, creation->storages->len);
  const GsVote *vote = NULL;
  GsDecision decision = { sizeof decision };
  g_autoptr (GError) why = NULL;
  gboolean done;
  config->host->random (config->host, change->txid.bytes, sizeof change->txid.bytes);
  decision.txid = change->txid;
  decision.generation = creation->state.generation + 1;
  decision.refs_digest = creation->state.refs_digest;
  gsi_settler_claim (gsi_router_settler (creation->router), &change->txid);
  done = stage_all (creation, change, txns, &vote, &why);
  if (done)
    {
      gsi_router_crash_point (creation->router, "create.staged");
      gs_digest_add (&decision.refs_digest, &vote->refs_plus);
      gs_digest_sub (&decision.refs_digest, &vote->refs_minus);
    }
  for (guint i = 0; i < creation->storages->len && done; i++)
    {
      const GsiStorage *storage = creation->storages->pdata[i];
      done = storage->ops->commit (storage->self, &creation->call->base, g_steal_pointer (&txns[i]), &decision, &why);
      gsi_router_crash_point_at (creation->router, "create.applied", i + 1);
    }
  abort_staged (creation, txns, why);
  gsi_settler_release (gsi_router_settler (creation->router), &change->txid);
  if (!done)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  creation->state.generation = decision.generation;
  creation->state.refs_digest = decision.refs_digest;
  return TRUE;
}

static gboolean
compute (Creation *creation, GsComputed **ret_computed, GError **error)
{
  const GsiStorage *first = creation->storages->pdata[0];
  GsQuery query = creation->query;
  g_autoptr (GError) why = NULL;
  Supply supply;
  gboolean done;
  if (creation->source == NULL)
    return first->ops->compute (first->self, &creation->call->base, &creation->repo, &query, ret_computed, error);
  if (!supply_begin (&supply, creation, error))
    return FALSE;
  query.stream = &supply.in;
  done = first->ops->compute (first->self, &creation->call->base, &creation->repo, &query, ret_computed, &why);
  if (supply_end (&supply, done, &why))
    return TRUE;
  if (done)
    first->ops->computed_free (first->self, *ret_computed);
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

static gboolean
fill (Creation *creation, GError **error)
{
  const GsiStorage *first = creation->storages->pdata[0];
  GsComputed *computed = NULL;
  gboolean done;
  if (creation->query.method == 0)
    return TRUE;
  if (first->ops->compute == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "storage '%s' makes empty repositories only", first->name);
  if (!compute (creation, &computed, error))
    return FALSE;
  done = computed->change.n_updates == 0 || write_all (creation, &computed->change, error);
  first->ops->computed_free (first->self, computed);
  return done;
}

/* ------------------------------------------------------------------------------------------ the steps */

static gboolean
head_name (const ProtobufCBinaryData *field, char **ret_head, GError **error)
{
  if (field->len == 0)
    return TRUE;
  *ret_head = gsi_name_branch (field, "default_branch", error);
  return *ret_head != NULL;
}

static gboolean
join_pool (Creation *creation, GError **error)
{
  for (guint i = 0; creation->pool != NULL && i < creation->storages->len; i++)
    if (!gsi_router_pool_join (creation->call, creation->storages->pdata[i], &creation->repo, creation->pool, error))
      return FALSE;
  return TRUE;
}

/* @head NULL: "main", until what comes in says otherwise. */
static gboolean
create (Creation *creation, guint64 id, const char *head, GError **error)
{
  GsiRouter *router = creation->router;
  GsRepoSpec spec = { sizeof spec, GS_FORMAT_SHA1, head != NULL ? head : "refs/heads/main" };
  g_autoptr (GPtrArray) storages = gsi_create_place (router, creation->group, id, creation->call->path, error);
  g_autofree char *replica_path = gsi_router_replica_path (id);
  if (storages == NULL)
    return FALSE;
  creation->storages = storages;
  creation->state.size = sizeof creation->state;
  creation->repo = (GsRepo) { sizeof (GsRepo), id, replica_path };
  if (!gsi_create_replicas (router, storages, creation->call, &creation->repo, &spec, &creation->state, error))
    {
      g_prefix_error (error, "cannot create repository '%s': ", creation->call->path);
      return FALSE;
    }
  if (!fill (creation, error) || !join_pool (creation, error))
    {
      gsi_create_put_away (storages, storages->len, &creation->repo);
      return FALSE;
    }
  return gsi_create_record (router, creation->call, creation->group, &creation->repo, &creation->state, storages, error)
         && gsi_create_reply (router, creation->call, id, error);
}

/* *@ret_id 0: the call was a repeat, and has been answered. */
static gboolean
begin (Creation *creation, GsiRouter *router, GsiCall *call, guint64 *ret_id, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  guint64 id = 0;
  creation->router = router;
  creation->call = call;
  creation->group = gsi_router_virtual_storage (router, call->virtual_storage, error);
  if (creation->group == NULL
      || !config->metadata->repo_created_by (config->metadata_self, &call->base, &call->base.id, &id, error))
    return FALSE;
  *ret_id = 0;
  if (id != 0)
    return gsi_create_reply (router, call, id, error);
  return config->metadata->repo_reserve (config->metadata_self, &call->base, creation->group->name, call->path, ret_id,
                                         error);
}

static gboolean
create_from_request (GsiRouter *router, GsiCall *call, const ProtobufCBinaryData *default_branch, GError **error)
{
  Creation creation = { 0 };
  g_autofree char *head = NULL;
  g_autoptr (GBytes) request = NULL;
  guint64 id;
  if (!head_name (default_branch, &head, error) || !begin (&creation, router, call, &id, error))
    return FALSE;
  if (id == 0)
    return TRUE;
  request = gs_wire_encode (call->request);
  creation.query = (GsQuery) { sizeof (GsQuery), call->method->number, request,
                               call->method->bytes_in ? call->stream : NULL };
  return create (&creation, id, head, error);
}

gboolean
gsi_router_create_from_bundle (gpointer user, GsiCall *call, GError **error)
{
  const Gitstead__V1__RepositoryCreateFromBundleRequest *request = (const void *) call->request;
  return create_from_request (user, call, &request->default_branch, error);
}

gboolean
gsi_router_create_from_url (gpointer user, GsiCall *call, GError **error)
{
  const Gitstead__V1__RepositoryCreateFromUrlRequest *request = (const void *) call->request;
  return create_from_request (user, call, &request->default_branch, error);
}

/* --------------------------------------------------------------------------------------------- forks */

typedef struct
{
  char *head;
  gboolean any;
} SourceRefs;

static gboolean
see_ref (const GsRef *ref, gpointer user)
{
  SourceRefs *refs = user;
  if (ref->symref_target != NULL)
    refs->head = g_strdup (ref->symref_target);
  else
    refs->any = TRUE;
  return !refs->any;
}

/* One that is recorded to have the last decision may still be applying it: it is asked. NULL: there is none for a while. */
static const GsiStorage *
fresh_source (GsiRouter *router, GsiCall *call, const GsiRow *row)
{
  const gint64 until_us = MIN (g_get_monotonic_time () + GSI_LATE_WAIT_US, call->base.deadline_us);
  gint64 delay_us = 0;
  gboolean any = FALSE;
  do
    for (gsize i = 0; i < row->n_replicas; i++)
      {
        const GsiStorage *storage = gsi_router_storage (router, row->replicas[i].storage);
        if (storage == NULL || storage->ops->query == NULL || row->replicas[i].generation < row->generation
            || !gsi_router_view (storage).healthy)
          continue;
        any = TRUE;
        if (gsi_router_is_fresh (router, storage, row, row->generation,
                                 MIN (g_get_monotonic_time () + GSI_TELL_US, until_us), NULL))
          return storage;
      }
  while (any && gsi_router_pause (&call->base, &delay_us, until_us));
  return NULL;
}

/* The source, and a replica of it that has all that was decided. */
static const GsiStorage *
find_source (GsiRouter *router, GsiCall *call, const Gitstead__V1__Repository *named, GsiRow **ret_row, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  const GsiStorageGroup *group;
  const GsiStorage *found;
  g_autofree char *path = NULL;
  g_autoptr (GError) why = NULL;
  if (named == NULL || !gsi_path_normalize (named->path, &path, &why))
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "source: %s", why != NULL ? why->message : "must be set");
      return NULL;
    }
  group = gsi_router_virtual_storage (router, named->virtual_storage, error);
  if (group == NULL || !gsi_call_authorize (call, GS_SCOPE_READ, path, error))
    return NULL;
  if (!config->metadata->repo_find (config->metadata_self, &call->base, group->name, path, gsi_row_visit, ret_row, &why))
    {
      if (gs_error_code (why) == GS_ERROR_NOT_FOUND)
        gs_fail (error, GS_ERROR_NOT_FOUND, "source: there is no repository '%s' in virtual storage '%s'", path, group->name);
      else
        g_propagate_error (error, g_steal_pointer (&why));
      return NULL;
    }
  gsi_router_recheck (router, call, *ret_row);
  if ((found = fresh_source (router, call, *ret_row)) != NULL)
    return found;
  gs_fail (error, GS_ERROR_UNAVAILABLE, "source: no replica of '%s' that is current can be reached", path);
  return NULL;
}

static GBytes *
bundle_request (const Gitstead__V1__RepositoryForkRequest *request)
{
  Gitstead__V1__RepositoryBundleCreateRequest bundle = GITSTEAD__V1__REPOSITORY_BUNDLE_CREATE_REQUEST__INIT;
  bundle.refs = request->refs;
  bundle.n_refs = request->n_refs;
  return gs_wire_encode (&bundle.base);
}

static GBytes *
fill_request (const char *head)
{
  Gitstead__V1__RepositoryForkRequest request = GITSTEAD__V1__REPOSITORY_FORK_REQUEST__INIT;
  request.default_branch = gsi_name_bytes (head);
  return gs_wire_encode (&request.base);
}

gboolean
gsi_router_fork (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const Gitstead__V1__RepositoryForkRequest *request = (const void *) call->request;
  const GsRefQuery look = { .size = sizeof look, .include_head = TRUE };
  Creation creation = { 0 };
  g_autoptr (GsiRow) row = NULL, pool = NULL;
  g_autofree char *head = NULL;
  SourceRefs refs = { NULL, FALSE };
  const GsiStorage *source;
  const char *named = NULL;
  GsRepo repo = { sizeof repo };
  g_autoptr (GBytes) asked = NULL, taken = NULL;
  guint64 id;
  if (!head_name (&request->default_branch, &head, error)
      || (source = find_source (router, call, request->source, &row, error)) == NULL
      || (request->pool != NULL && (pool = gsi_router_pool_find (router, call, request->pool, error)) == NULL))
    return FALSE;
  creation.pool = pool;
  repo.id = row->id;
  repo.replica_path = row->replica_path;
  if (!source->ops->list_refs (source->self, &call->base, &repo, &look, see_ref, &refs, error)
      || !begin (&creation, router, call, &id, error))
    {
      g_free (refs.head);
      return FALSE;
    }
  /* One that the caller names must be among what comes; the source's own need not. */
  if (head != NULL)
    named = head;
  else
    head = g_steal_pointer (&refs.head);
  g_free (refs.head);
  if (id == 0)
    return TRUE;
  if (refs.any || request->n_refs > 0)
    {
      asked = bundle_request (request);
      taken = fill_request (named);
      creation.query = (GsQuery) { sizeof (GsQuery), METHOD_FORK, taken, NULL };
      creation.source = source;
      creation.source_row = row;
      creation.source_request = asked;
    }
  return create (&creation, id, head, error);
}

/* -------------------------------------------------------------------- into a repository that is there */

/* The refs that the rules name one by one, or NULL: all of them are needed to tell. Borrows from @rules; the table is *full*. */
static ProtobufCBinaryData *
named_sources (const Gitstead__V1__TransferRules *rules, gsize *ret_n)
{
  gsize n = rules != NULL ? rules->n_refspecs : 0;
  g_autofree ProtobufCBinaryData *names = g_new0 (ProtobufCBinaryData, n + 1);
  for (gsize i = 0; i < n; i++)
    {
      const ProtobufCBinaryData *spec = &rules->refspecs[i];
      gsize plus = spec->len > 0 && spec->data[0] == '+';
      const guint8 *colon = spec->len > 0 ? memchr (spec->data, ':', spec->len) : NULL;
      if (colon == NULL || memchr (spec->data, '*', spec->len) != NULL)
        return NULL;
      names[i] = (ProtobufCBinaryData) { (gsize) (colon - spec->data) - plus, spec->data + plus };
      /* What is no full name (HEAD, or a mistake that the storage explains) no bundle can be asked for. */
      if (names[i].len < 5 || memcmp (names[i].data, "refs/", 5) != 0)
        return NULL;
    }
  *ret_n = n;
  return n > 0 ? g_steal_pointer (&names) : NULL;
}

gboolean
gsi_router_fetch_from (gpointer user, GsiCall *call, GError **error)
{
  const Gitstead__V1__RepositoryFetchFromRequest *request = (const void *) call->request;
  Gitstead__V1__RepositoryBundleCreateRequest bundle = GITSTEAD__V1__REPOSITORY_BUNDLE_CREATE_REQUEST__INIT;
  Creation from = { .router = user, .call = call };
  g_autoptr (GsiRow) row = NULL;
  g_autoptr (GBytes) asked = NULL;
  g_autofree ProtobufCBinaryData *names = named_sources (request->rules, &bundle.n_refs);
  GError *why = NULL;
  Supply supply;
  gboolean done;
  from.source = find_source (user, call, request->source, &row, error);
  if (from.source == NULL)
    return FALSE;
  bundle.refs = names;
  from.source_row = row;
  from.source_request = asked = gs_wire_encode (&bundle.base);
  if (!supply_begin (&supply, &from, error))
    return FALSE;
  call->stream = &supply.in;
  done = gsi_router_write (user, call, &why);
  call->stream = NULL;
  /* What is written stands, whatever the other side says in the end; a repeated call did not even read it. */
  (void) supply_end (&supply, FALSE, done ? NULL : &why);
  if (!done)
    g_propagate_error (error, why);
  return done;
}
