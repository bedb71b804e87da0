/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache/redis: recently used answers in a redis server, which several servers can share.
 *
 * Whatever is wrong with the server is a miss. Its size is that of the server (maxmemory, with an eviction policy such as
 * allkeys-lru). A value is kept behind a head of 16 bytes, little endian: "GsR1", 0 u32, when its time is over i64 (wall
 * clock, 0 = never). The server's own expiry frees the room; the head decides here, where the clock is ours.
 */
#include "pool.h"

#define KEY_MAX 1024
#define HEAD_BYTES 16
#define SCAN_COUNT "500"
/* Forgetting frees room early and no more: it is not worth holding a call for longer. */
#define FORGET_US (5 * G_USEC_PER_SEC)

typedef struct
{
  RedisPool pool;
  char *prefix;
  gint64 ttl_us;
  gsize max_entry;
  guint64 hits, misses; /* atomic */
} Redis;

static char *
full_key (const Redis *self, GBytes *key, gsize *ret_length)
{
  gsize n_prefix = strlen (self->prefix), n_key;
  gconstpointer bytes = g_bytes_get_data (key, &n_key);
  char *full = g_malloc (n_prefix + n_key + 1);
  memcpy (full, self->prefix, n_prefix);
  if (n_key > 0)
    memcpy (full + n_prefix, bytes, n_key);
  full[n_prefix + n_key] = '\0';
  *ret_length = n_prefix + n_key;
  return full;
}

static void
complain (Redis *self, const char *doing, const redisReply *reply)
{
  const GsHost *host = self->pool.host;
  host->log (host, GS_LOG_WARNING, "cache.redis.refused",
             (GsField[]){ GS_TEXT ("url", self->pool.url), GS_TEXT ("for", doing), GS_TEXT ("error", reply->str) }, 3);
}

/* The value in a reply; NULL when it is none of ours, too large or over. *full*. */
static GBytes *
value_in (Redis *self, const redisReply *reply)
{
  gint64 expires_us;
  if (reply->type == REDIS_REPLY_ERROR)
    complain (self, "GETRANGE", reply);
  if (reply->type != REDIS_REPLY_STRING || (gsize) reply->len < HEAD_BYTES
      || (gsize) reply->len > HEAD_BYTES + self->max_entry || memcmp (reply->str, "GsR1\0\0\0\0", 8) != 0)
    return NULL;
  memcpy (&expires_us, reply->str + 8, sizeof expires_us);
  expires_us = (gint64) GUINT64_FROM_LE ((guint64) expires_us);
  if (expires_us != 0 && self->pool.host->wall_us (self->pool.host) >= expires_us)
    return NULL;
  return g_bytes_new (reply->str + HEAD_BYTES, (gsize) reply->len - HEAD_BYTES);
}

static gboolean
redis_lookup (gpointer data, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  Redis *self = data;
  GBytes *value = NULL;
  if (!gs_call_check (call, "looking an answer up", error))
    return FALSE;
  if (g_bytes_get_size (key) <= KEY_MAX)
    {
      gsize length;
      g_autofree char *full = full_key (self, key, &length), *last = NULL;
      RedisCommand command = { .n = 0 };
      redisReply *reply;
      /* Not GET: however much somebody else put there, no more than we may have is sent. */
      last = g_strdup_printf ("%" G_GSIZE_FORMAT, HEAD_BYTES + self->max_entry);
      redis_add_text (&command, "GETRANGE");
      redis_add (&command, full, length);
      redis_add_text (&command, "0");
      redis_add_text (&command, last);
      reply = redis_pool_run (&self->pool, call, &command);
      if (reply != NULL)
        {
          value = value_in (self, reply);
          freeReplyObject (reply);
        }
    }
  __atomic_add_fetch (value != NULL ? &self->hits : &self->misses, 1, __ATOMIC_RELAXED);
  *ret_value = value;
  return TRUE;
}

static void
run_and_forget (Redis *self, GsCall *call, const RedisCommand *command)
{
  redisReply *reply = redis_pool_run (&self->pool, call, command);
  if (reply == NULL)
    return;
  if (reply->type == REDIS_REPLY_ERROR)
    complain (self, command->parts[0], reply);
  freeReplyObject (reply);
}

static gboolean
redis_store (gpointer data, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  Redis *self = data;
  gsize n_value, length;
  gconstpointer bytes = g_bytes_get_data (value, &n_value);
  g_autofree char *full = NULL, *text = NULL, *ttl_ms = NULL;
  RedisCommand command = { .n = 0 };
  gint64 expires_us = 0;
  guint64 expires_le;

  /* A success that stored nothing would leave an older answer in its place. */
  if (!gs_call_check (call, "storing an answer", error))
    return FALSE;
  if (g_bytes_get_size (key) > KEY_MAX)
    return TRUE;
  full = full_key (self, key, &length);
  if (n_value > self->max_entry)
    {
      redis_add_text (&command, "UNLINK"); /* the old answer does not outlive a new one */
      redis_add (&command, full, length);
      run_and_forget (self, call, &command);
      return TRUE;
    }
  text = g_try_malloc (HEAD_BYTES + n_value);
  if (text == NULL)
    return TRUE;
  if (ttl_us <= 0)
    ttl_us = self->ttl_us;
  if (ttl_us > 0)
    expires_us = self->pool.host->wall_us (self->pool.host) + ttl_us;
  expires_le = GUINT64_TO_LE ((guint64) expires_us);
  memcpy (text, "GsR1\0\0\0\0", 8);
  memcpy (text + 8, &expires_le, sizeof expires_le);
  if (n_value > 0)
    memcpy (text + HEAD_BYTES, bytes, n_value);
  redis_add_text (&command, "SET");
  redis_add (&command, full, length);
  redis_add (&command, text, HEAD_BYTES + n_value);
  if (ttl_us > 0)
    {
      ttl_ms = g_strdup_printf ("%" G_GINT64_FORMAT, MAX (ttl_us / 1000, 1));
      redis_add_text (&command, "PX");
      redis_add_text (&command, ttl_ms);
    }
  run_and_forget (self, call, &command);
  return TRUE;
}

/* -------------------------------------------------------------------------------------- forgetting */

/* A pattern that matches what begins with @key, whatever bytes it holds. *full*. */
static GString *
pattern_of (const char *key, gsize length)
{
  GString *pattern = g_string_sized_new (length + 8);
  for (gsize i = 0; i < length; i++)
    {
      if (memchr ("*?[]^-\\", key[i], 7) != NULL)
        g_string_append_c (pattern, '\\');
      g_string_append_c (pattern, key[i]);
    }
  g_string_append_c (pattern, '*');
  return pattern;
}

/* Removes what one step of a scan found. */
static void
unlink_keys (Redis *self, GsCall *call, const redisReply *keys)
{
  for (gsize i = 0; i < keys->elements;)
    {
      RedisCommand command = { .n = 0 };
      redis_add_text (&command, "UNLINK");
      for (; i < keys->elements && command.n < (int) G_N_ELEMENTS (command.parts); i++)
        if (keys->element[i]->type == REDIS_REPLY_STRING)
          redis_add (&command, keys->element[i]->str, (gsize) keys->element[i]->len);
      if (command.n > 1)
        run_and_forget (self, call, &command);
    }
}

static gboolean
redis_forget_prefix (gpointer data, GsCall *call, GBytes *prefix, GError **error)
{
  Redis *self = data;
  gsize length;
  g_autofree char *full = full_key (self, prefix, &length), *cursor = g_strdup ("0");
  g_autoptr (GString) pattern = pattern_of (full, length);
  gint64 until_us = g_get_monotonic_time () + FORGET_US;
  if (!gs_call_check (call, "forgetting answers", error))
    return FALSE;
  do
    {
      RedisCommand command = { .n = 0 };
      redisReply *reply;
      redis_add_text (&command, "SCAN");
      redis_add_text (&command, cursor);
      redis_add_text (&command, "MATCH");
      redis_add (&command, pattern->str, pattern->len);
      redis_add_text (&command, "COUNT");
      redis_add_text (&command, SCAN_COUNT);
      reply = redis_pool_run (&self->pool, call, &command);
      if (reply == NULL)
        return TRUE;
      g_free (cursor);
      cursor = NULL;
      if (reply->type == REDIS_REPLY_ERROR)
        complain (self, "SCAN", reply);
      if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[0]->type == REDIS_REPLY_STRING
          && reply->element[1]->type == REDIS_REPLY_ARRAY)
        {
          cursor = g_strdup (reply->element[0]->str);
          unlink_keys (self, call, reply->element[1]);
        }
      freeReplyObject (reply);
    }
  while (cursor != NULL && strcmp (cursor, "0") != 0 && !gs_call_cancelled (call)
         && g_get_monotonic_time () < MIN (until_us, call->deadline_us));
  return TRUE;
}

static void
redis_stats (gpointer data, GsCacheStats *ret_stats)
{
  Redis *self = data;
  *ret_stats = (GsCacheStats){ .size = sizeof *ret_stats,
                               .hits = __atomic_load_n (&self->hits, __ATOMIC_RELAXED),
                               .misses = __atomic_load_n (&self->misses, __ATOMIC_RELAXED) };
}

/* -------------------------------------------------------------------------------------------- life */

static const GsOption redis_options[] = {
  { .key = "url",
    .type = GS_OPTION_STRING,
    .flags = GS_OPTION_REQUIRED,
    .help = "Where the server is: redis://HOST:PORT/DATABASE, unix:///PATH?db=DATABASE, or the path of its socket." },
  { .key = "user", .type = GS_OPTION_STRING, .help = "The user to log in as; unset: the default user." },
  { .key = "password",
    .type = GS_OPTION_STRING,
    .flags = GS_OPTION_SECRET,
    .help = "The password to log in with; unset: none." },
  { .key = "prefix",
    .type = GS_OPTION_STRING,
    .fallback = "gitstead:",
    .help = "What all keys begin with. Servers that share a metadata store can share it." },
  { .key = "ttl",
    .type = GS_OPTION_DURATION,
    .fallback = "1d",
    .min = 0,
    .max = G_GINT64_CONSTANT (365) * 86400 * G_USEC_PER_SEC,
    .help = "How long an answer is kept that names no time of its own; 0: as long as the server has room." },
  { .key = "max_entry",
    .type = GS_OPTION_SIZE,
    .fallback = "16MiB",
    .min = 1024,
    .max = 256 << 20,
    .help = "Larger answers are not kept." },
  { .key = "connections",
    .type = GS_OPTION_INT,
    .fallback = "8",
    .min = 1,
    .max = 256,
    .help = "Connections at once; a look-up that finds them all in use waits up to the timeout." },
  { .key = "connect_timeout",
    .type = GS_OPTION_DURATION,
    .fallback = "500ms",
    .min = 1000,
    .max = 60 * G_USEC_PER_SEC,
    .help = "How long making a connection may take." },
  { .key = "timeout",
    .type = GS_OPTION_DURATION,
    .fallback = "250ms",
    .min = 1000,
    .max = 60 * G_USEC_PER_SEC,
    .help = "How long a look-up waits for the server before it counts as a miss and the server as lost." },
  { .key = "backoff",
    .type = GS_OPTION_DURATION,
    .fallback = "10s",
    .min = 100 * 1000,
    .max = 3600 * (gint64) G_USEC_PER_SEC,
    .help = "A lost server is tried again after 100 ms, then after twice as long each time, up to this." },
  { NULL },
};

static gpointer
redis_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Redis *self;
  RedisAddress address = { NULL };
  const char *url = config->string (config, "url"), *prefix = config->string (config, "prefix");
  if (!redis_address_parse (url, &address, error))
    return NULL;
  self = g_new0 (Redis, 1);
  self->pool.host = host;
  self->pool.address = address;
  self->pool.url = g_strdup (url);
  self->pool.user = g_strdup (config->string (config, "user"));
  self->pool.password = g_strdup (config->string (config, "password"));
  self->pool.connect_timeout_us = config->integer (config, "connect_timeout");
  self->pool.timeout_us = config->integer (config, "timeout");
  self->pool.backoff_max_us = config->integer (config, "backoff");
  self->pool.max_connections = (guint) config->integer (config, "connections");
  self->prefix = g_strdup (prefix != NULL ? prefix : "");
  self->ttl_us = config->integer (config, "ttl");
  self->max_entry = (gsize) config->integer (config, "max_entry");
  redis_pool_init (&self->pool);
  return self;
}

/* Tells early when the server is not there; everything works without it. */
static gboolean
redis_start (gpointer data, GError **error)
{
  Redis *self = data;
  RedisCommand command = { .n = 0 };
  GsCall call = { .size = sizeof call, .deadline_us = G_MAXINT64 };
  redis_add_text (&command, "PING");
  run_and_forget (self, &call, &command);
  return TRUE;
}

static void
redis_stop (gpointer data)
{
  redis_pool_close (&((Redis *) data)->pool);
}

static void
redis_destroy (gpointer data)
{
  Redis *self = data;
  redis_pool_clear (&self->pool);
  g_free (self->prefix);
  g_free (self);
}

static const GsCacheOps redis_ops = {
  .lookup = redis_lookup,
  .store = redis_store,
  .forget_prefix = redis_forget_prefix,
  .stats = redis_stats,
};

GS_PLUGIN_DEFINE (GsCacheOps, .kind = GS_KIND_CACHE, .threads = GS_THREADS_PARALLEL, .name = "redis",
                  .version = "0.1.0", .summary = "Recently used answers in a redis server; without it, misses",
                  .license = "Apache-2.0", .options = redis_options, .ops = &redis_ops, .create = redis_create,
                  .start = redis_start, .stop = redis_stop, .destroy = redis_destroy)
