/* SPDX-License-Identifier: Apache-2.0 */
/* Is the node there? And who is told when it is not. See remote.h. */
#include "remote.h"

#define TICK_US (50 * 1000)

gboolean
remote_there (Remote *self, GError **error)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  if (!self->down)
    return TRUE;
  return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: the node at %s cannot be reached: %s", self->host->instance,
                  self->url, self->why != NULL ? self->why : "it was lost");
}

/* FALSE: that was known. Under the lock. */
static gboolean
set_down (Remote *self, const char *why)
{
  gboolean news = !self->down;
  self->down = TRUE;
  if (news)
    __atomic_add_fetch (&self->falls, 1, __ATOMIC_RELEASE);
  g_free (self->why);
  self->why = g_strdup (why);
  gs_cond_broadcast (&self->changed);
  return news;
}

static void
tell (Remote *self, const char *why)
{
  self->host->metric_update (self->up_gauge, why == NULL);
  self->host->log (self->host, why == NULL ? GS_LOG_INFO : GS_LOG_WARNING, why == NULL ? "node.up" : "node.down",
                   (GsField[]) { GS_TEXT ("url", self->url), GS_TEXT ("error", why) }, why == NULL ? 1 : 2);
}

void
remote_lost (Remote *self, const char *why)
{
  gboolean news;
  gs_mutex_lock (&self->lock);
  news = set_down (self, why);
  self->suspect = TRUE;
  gs_mutex_unlock (&self->lock);
  if (news)
    tell (self, why);
}

/* ------------------------------------------------------------------------------------------- probing */

#define PROGRAM_MAX 63

/* A node that was not told of versions, or does not know of them, speaks the first. */
static gboolean
check_protocol (Remote *self, const Gitstead__V1__NodeSessionReply *reply, const char *program, GError **error)
{
  const guint32 newest = MAX (reply->protocol, 1), oldest = MAX (reply->oldest_protocol, 1);
  if (newest >= REMOTE_PROTOCOL_OLDEST && oldest <= REMOTE_PROTOCOL)
    return TRUE;
  return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                  "the node at %s (%s) speaks versions %u to %u of the protocol between routers and nodes, and this router "
                  "%u to %u; upgrade the %s",
                  self->url, program, oldest, newest, REMOTE_PROTOCOL_OLDEST, REMOTE_PROTOCOL,
                  newest < REMOTE_PROTOCOL_OLDEST ? "node" : "router");
}

/* *@ret_program: what the node runs, also when that is why it is refused. *full*, NULL when it did not say. */
static gboolean
probe (Remote *self, guint32 *ret_slots, char **ret_program, GError **error)
{
  Gitstead__V1__NodeSessionRequest request = GITSTEAD__V1__NODE_SESSION_REQUEST__INIT;
  const Gitstead__V1__NodeSessionReply *reply;
  g_autoptr (GsArena) arena = gs_arena_new (1024 * 1024);
  GsClientCall wire = { .size = sizeof wire, .timeout_us = self->probe_timeout_us };
  g_autoptr (GBytes) payload = NULL;
  g_autoptr (GBytes) answer = NULL;
  gsize len;
  const guint8 *bytes;
  request.session = remote_bytes (self->session.bytes, GS_TXID_SIZE);
  request.storage = self->storage;
  request.protocol = REMOTE_PROTOCOL;
  request.oldest_protocol = REMOTE_PROTOCOL_OLDEST;
  payload = gs_wire_encode (&request.base);
  if (!gs_client_call_raw (self->clients[0], 1000, payload, &wire, &answer, error))
    return FALSE;
  bytes = g_bytes_get_data (answer, &len);
  reply = (gpointer) gs_wire_decode (arena, &gitstead__v1__node_session_reply__descriptor, bytes, len, error);
  if (reply == NULL)
    return FALSE;
  if (reply->program[0] != '\0' && g_utf8_validate (reply->program, -1, NULL))
    *ret_program = g_utf8_substring (reply->program, 0, MIN (PROGRAM_MAX, g_utf8_strlen (reply->program, -1)));
  *ret_slots = reply->slots;
  return check_protocol (self, reply, *ret_program != NULL ? *ret_program : "an unknown program", error);
}

static void
probe_once (Remote *self)
{
  g_autoptr (GError) why = NULL;
  guint32 slots = 0;
  char *program = NULL;
  gboolean up = probe (self, &slots, &program, &why), news;
  gs_mutex_lock (&self->lock);
  if (program != NULL)
    {
      g_free (self->program);
      self->program = program;
    }
  self->suspect = FALSE;
  if (up)
    {
      news = self->down || !self->known;
      self->down = FALSE;
      self->known = TRUE;
      self->slots = slots;
    }
  else
    {
      /* A node that was away and is back with a certificate that does not fit is another matter to look into. */
      gboolean other = self->down && g_strcmp0 (self->why, why->message) != 0;
      news = set_down (self, why->message) || other;
    }
  gs_mutex_unlock (&self->lock);
  if (news)
    tell (self, up ? NULL : why->message);
}

static void *
probe_run (void *data)
{
  Remote *self = data;
  gint64 next_us = g_get_monotonic_time () + self->probe_interval_us;
  gs_mutex_lock (&self->lock);
  while (!self->stopping)
    {
      gboolean waited = gs_cond_wait_until (&self->changed, &self->lock, next_us);
      if (self->stopping || (waited && !self->suspect))
        continue;
      gs_mutex_unlock (&self->lock);
      probe_once (self);
      next_us = g_get_monotonic_time () + self->probe_interval_us;
      gs_mutex_lock (&self->lock);
    }
  gs_mutex_unlock (&self->lock);
  return NULL;
}

/* ------------------------------------------------------------------------------------------ watching */

static gboolean
is_over (const Flow *flow)
{
  return g_get_monotonic_time () > flow->until_us || (flow->call != NULL && gs_call_cancelled (flow->call))
         || (flow->call != NULL && flow->call->deadline_us != G_MAXINT64
             && g_get_monotonic_time () > flow->call->deadline_us)
         || __atomic_load_n (&flow->self->falls, __ATOMIC_ACQUIRE) != flow->falls;
}

/* A flow leaves the list before it is freed, under the lock: what stands there can be broken off. */
static void *
watch_run (void *data)
{
  Remote *self = data;
  gs_mutex_lock (&self->lock);
  while (!self->stopping)
    {
      for (guint i = 0; i < self->streams->len; i++)
        {
          Flow *flow = self->streams->pdata[i];
          if (flow->broken_off || !is_over (flow))
            continue;
          flow->broken_off = TRUE;
          gs_client_stream_cancel (flow->stream);
        }
      gs_cond_wait_until (&self->changed, &self->lock,
                          self->streams->len > 0 ? g_get_monotonic_time () + TICK_US : G_MAXINT64);
    }
  gs_mutex_unlock (&self->lock);
  return NULL;
}

/* --------------------------------------------------------------------------------------------- life */

gboolean
remote_begin (Remote *self, GError **error)
{
  for (guint i = 0; i < self->n_connections; i++)
    {
      self->clients[i] = gs_client_new (&self->options, error);
      if (self->clients[i] == NULL)
        return FALSE;
    }
  self->host->random (self->host, self->session.bytes, sizeof self->session.bytes);
  self->stopping = FALSE;
  probe_once (self); /* a node that is away now may come later */
  self->probes = gs_thread_start (&self->prober, "node-probe", probe_run, self) == 0;
  self->watches = gs_thread_start (&self->watcher, "node-watch", watch_run, self) == 0;
  if (!self->probes || !self->watches)
    {
      remote_end (self);
      return gs_fail (error, GS_ERROR_BUSY, "%s: no thread can be started", self->host->instance);
    }
  return TRUE;
}

void
remote_end (Remote *self)
{
  gs_mutex_lock (&self->lock);
  self->stopping = TRUE;
  gs_cond_broadcast (&self->changed);
  gs_mutex_unlock (&self->lock);
  if (self->probes)
    gs_thread_join (self->prober);
  if (self->watches)
    gs_thread_join (self->watcher);
  self->probes = self->watches = FALSE;
  for (guint i = 0; i < CONNECTIONS_MAX; i++)
    g_clear_pointer (&self->clients[i], gs_client_free);
}
