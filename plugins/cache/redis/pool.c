/* SPDX-License-Identifier: Apache-2.0 */
/* Connections, their timeouts, and leaving a lost server alone. See pool.h. */
#include "pool.h"

#include <fcntl.h>
#include <poll.h>

#define BACKOFF_FIRST_US (G_USEC_PER_SEC / 10)

void
redis_add (RedisCommand *command, const void *part, gsize length)
{
  g_assert (command->n < (int) G_N_ELEMENTS (command->parts));
  command->parts[command->n] = part != NULL ? part : "";
  command->lengths[command->n++] = length;
}

void
redis_add_text (RedisCommand *command, const char *text)
{
  redis_add (command, text, strlen (text));
}

void
redis_pool_init (RedisPool *pool)
{
  gs_mutex_init (&pool->lock);
  gs_cond_init (&pool->given);
  pool->idle = g_ptr_array_new ();
  pool->backoff_us = BACKOFF_FIRST_US;
}

/* The lock is held; the caller closes what it gets, without it. */
static GPtrArray *
take_idle (RedisPool *pool)
{
  GPtrArray *taken = pool->idle;
  pool->idle = g_ptr_array_new ();
  pool->n_open -= taken->len;
  return taken;
}

static void
close_all (GPtrArray *connections)
{
  for (guint i = 0; i < connections->len; i++)
    redisFree (connections->pdata[i]);
  g_ptr_array_unref (connections);
}

void
redis_pool_close (RedisPool *pool)
{
  GPtrArray *idle;
  gs_mutex_lock (&pool->lock);
  idle = take_idle (pool);
  gs_mutex_unlock (&pool->lock);
  close_all (idle);
}

void
redis_pool_clear (RedisPool *pool)
{
  redis_pool_close (pool);
  g_ptr_array_unref (pool->idle);
  gs_cond_clear (&pool->given);
  gs_mutex_clear (&pool->lock);
  redis_address_clear (&pool->address);
  g_free (pool->url);
  g_free (pool->user);
  g_free (pool->password);
}

/* --------------------------------------------------------------------------------- up and down */

static void
now_down (RedisPool *pool, const char *why)
{
  gint64 now_us = g_get_monotonic_time ();
  gboolean news;
  GPtrArray *idle;
  gint64 wait_us;
  gs_mutex_lock (&pool->lock);
  /* Several commands may fail for one reason: the wait doubles only when a try after it failed. */
  news = pool->down_until_us == 0;
  if (news || pool->probing)
    {
      pool->down_until_us = now_us + pool->backoff_us;
      pool->backoff_us = MIN (pool->backoff_us * 2, pool->backoff_max_us);
    }
  pool->probing = FALSE;
  wait_us = pool->down_until_us - now_us;
  idle = take_idle (pool);
  gs_cond_broadcast (&pool->given);
  gs_mutex_unlock (&pool->lock);
  close_all (idle);
  if (news)
    pool->host->log (pool->host, GS_LOG_WARNING, "cache.redis.down",
                     (GsField[]){ GS_TEXT ("url", pool->url), GS_TEXT ("error", why),
                                  GS_NUMBER ("retry_ms", wait_us / 1000) },
                     3);
}

/* Gives a connection that worked back. */
static void
give (RedisPool *pool, redisContext *context)
{
  gboolean news;
  gs_mutex_lock (&pool->lock);
  news = pool->probing;
  pool->probing = FALSE;
  if (news)
    pool->down_until_us = 0;
  if (pool->down_until_us == 0)
    pool->backoff_us = BACKOFF_FIRST_US;
  g_ptr_array_add (pool->idle, context);
  gs_cond_broadcast (&pool->given);
  gs_mutex_unlock (&pool->lock);
  if (news)
    pool->host->log (pool->host, GS_LOG_INFO, "cache.redis.up", (GsField[]){ GS_TEXT ("url", pool->url) }, 1);
}

static void
forget_one (RedisPool *pool, redisContext *context)
{
  gs_mutex_lock (&pool->lock);
  pool->n_open--;
  gs_cond_broadcast (&pool->given);
  gs_mutex_unlock (&pool->lock);
  if (context != NULL)
    redisFree (context);
}

/* --------------------------------------------------------------------------------- one exchange */

static struct timeval
timeval_of (gint64 us)
{
  us = MAX (us, 1000);
  return (struct timeval){ .tv_sec = us / G_USEC_PER_SEC, .tv_usec = us % G_USEC_PER_SEC };
}

/* Data is there, or the end of the connection is. FALSE when the time is over. */
static gboolean
wait_readable (redisContext *context, gint64 deadline_us)
{
  for (;;)
    {
      struct pollfd ready = { .fd = context->fd, .events = POLLIN };
      gint64 left_us = deadline_us - g_get_monotonic_time ();
      int n;
      if (left_us <= 0)
        return FALSE;
      n = poll (&ready, 1, (int) MIN ((left_us + 999) / 1000, 60000));
      if (n > 0)
        return TRUE;
      if (n < 0 && errno != EINTR)
        return TRUE; /* the read will say what is wrong */
    }
}

/* NULL with *@ret_why; the connection is then of no use any more. */
static redisReply *
exchange (redisContext *context, const RedisCommand *command, gint64 deadline_us, const char **ret_why)
{
  void *reply = NULL;
  int done = 0;
  *ret_why = "it does not answer in time";
  if (redisAppendCommandArgv (context, command->n, (const char **) command->parts, command->lengths) != REDIS_OK)
    goto failed;
  while (!done)
    {
      if (g_get_monotonic_time () >= deadline_us)
        return NULL;
      if (redisBufferWrite (context, &done) != REDIS_OK)
        goto failed;
    }
  for (;;)
    {
      if (redisGetReplyFromReader (context, &reply) != REDIS_OK)
        goto failed;
      if (reply != NULL)
        return reply;
      if (!wait_readable (context, deadline_us))
        return NULL;
      if (redisBufferRead (context) != REDIS_OK)
        goto failed;
    }

failed:
  *ret_why = context->errstr[0] != '\0' ? context->errstr : "the connection broke";
  return NULL;
}

/* For the commands of a new connection. An error reply is a failure, too. */
static gboolean
demand (redisContext *context, const RedisCommand *command, gint64 deadline_us, char **ret_why)
{
  const char *why = NULL;
  redisReply *reply = exchange (context, command, deadline_us, &why);
  gboolean ok = reply != NULL && reply->type != REDIS_REPLY_ERROR;
  if (!ok)
    *ret_why = g_strdup (reply != NULL ? reply->str : why);
  if (reply != NULL)
    freeReplyObject (reply);
  return ok;
}

static gboolean
greet (RedisPool *pool, redisContext *context, gint64 deadline_us, char **ret_why)
{
  if (pool->password != NULL)
    {
      RedisCommand auth = { .n = 0 };
      redis_add_text (&auth, "AUTH");
      if (pool->user != NULL)
        redis_add_text (&auth, pool->user);
      redis_add_text (&auth, pool->password);
      if (!demand (context, &auth, deadline_us, ret_why))
        return FALSE;
    }
  if (pool->address.database != 0)
    {
      g_autofree char *number = g_strdup_printf ("%u", pool->address.database);
      RedisCommand database = { .n = 0 };
      redis_add_text (&database, "SELECT");
      redis_add_text (&database, number);
      return demand (context, &database, deadline_us, ret_why);
    }
  return TRUE;
}

/* NULL with *@ret_why (*full*). */
static redisContext *
connect_one (RedisPool *pool, char **ret_why)
{
  const RedisAddress *address = &pool->address;
  struct timeval patience = timeval_of (pool->connect_timeout_us);
  redisContext *context = address->path != NULL
                              ? redisConnectUnixWithTimeout (address->path, patience)
                              : redisConnectWithTimeout (address->host, address->port, patience);
  if (context == NULL || context->err != 0)
    {
      *ret_why = g_strdup (context != NULL ? context->errstr : "no memory for a connection");
      if (context != NULL)
        redisFree (context);
      return NULL;
    }
  /* Reads are polled for; this bounds a single write. */
  if (fcntl (context->fd, F_SETFD, FD_CLOEXEC) != 0
      || redisSetTimeout (context, timeval_of (pool->timeout_us)) != REDIS_OK)
    *ret_why = g_strdup (g_strerror (errno));
  else if (greet (pool, context, g_get_monotonic_time () + pool->connect_timeout_us, ret_why))
    return context;
  redisFree (context);
  return NULL;
}

/*
 * A connection, or leave to make one (*@ret_context NULL). FALSE: the server is being left alone, or all connections
 * are in use until the deadline.
 */
static gboolean
take (RedisPool *pool, gint64 deadline_us, redisContext **ret_context)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&pool->lock);
  for (;;)
    {
      if (pool->down_until_us != 0 && (pool->probing || g_get_monotonic_time () < pool->down_until_us))
        return FALSE;
      if (pool->idle->len > 0 || pool->n_open < pool->max_connections)
        break;
      if (!gs_cond_wait_until (&pool->given, &pool->lock, deadline_us))
        return FALSE;
    }
  pool->probing = pool->down_until_us != 0;
  *ret_context = NULL;
  if (pool->idle->len > 0)
    *ret_context = g_ptr_array_steal_index (pool->idle, pool->idle->len - 1);
  else
    pool->n_open++;
  return TRUE;
}

/* The one who tries whether the server is back did not find out. */
static void
end_probe (RedisPool *pool)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&pool->lock);
  pool->probing = FALSE;
}

static void
drop_idle (RedisPool *pool)
{
  redis_pool_close (pool);
  end_probe (pool);
}

/* Is it up, but in no state to serve? */
static gboolean
is_unfit (const redisReply *reply)
{
  static const char *const states[] = { "NOAUTH", "LOADING", "MASTERDOWN", "BUSY", "NOPERM" };
  if (reply->type != REDIS_REPLY_ERROR)
    return FALSE;
  for (gsize i = 0; i < G_N_ELEMENTS (states); i++)
    if (g_str_has_prefix (reply->str, states[i]))
      return TRUE;
  return FALSE;
}

redisReply *
redis_pool_run (RedisPool *pool, GsCall *call, const RedisCommand *command)
{
  gint64 server_us = g_get_monotonic_time () + pool->timeout_us; /* the server's time, which the call may cut short */
  redisReply *reply = NULL;
  for (;;)
    {
      redisContext *context = NULL;
      g_autofree char *refused = NULL;
      const char *why = NULL;
      gboolean used, closed;
      if (!take (pool, MIN (server_us, call->deadline_us), &context))
        return NULL;
      used = context != NULL;
      if (!used && (context = connect_one (pool, &refused)) == NULL)
        {
          forget_one (pool, NULL);
          now_down (pool, refused);
          return NULL;
        }
      if (!used)
        server_us = g_get_monotonic_time () + pool->timeout_us;
      reply = exchange (context, command, MIN (server_us, call->deadline_us), &why);
      if (reply != NULL && !is_unfit (reply))
        {
          give (pool, context);
          return reply;
        }
      closed = reply == NULL && (context->err == REDIS_ERR_EOF || (context->err == REDIS_ERR_IO && errno != EAGAIN));
      if (closed && used)
        {
          /* The server closed a connection that was idle, as it may: a new one will do, if it is there at all. */
          forget_one (pool, context);
          drop_idle (pool);
          continue;
        }
      if (reply == NULL && context->err == 0 && g_get_monotonic_time () < server_us)
        {
          /* The call's time was up, not the server's. The answer is still to come: the connection is of no use. */
          forget_one (pool, context);
          end_probe (pool);
          return NULL;
        }
      refused = g_strdup (reply != NULL ? reply->str : why);
      if (reply != NULL)
        freeReplyObject (reply);
      forget_one (pool, context);
      now_down (pool, refused);
      return NULL;
    }
}
