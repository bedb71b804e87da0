/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pool.h - connections of cache/redis to its server.
 *
 * A bounded number of connections, each used by one thread at a time. When the server is lost or slow it is left
 * alone for a while, which doubles as long as it stays so; meanwhile every command fails at once. After that, one
 * command at a time tries whether it is back.
 */
#ifndef CACHE_REDIS_POOL_H
#define CACHE_REDIS_POOL_H

#include <gitstead/cache.h>
#include <gitstead/thread.h>

#include <hiredis/hiredis.h>

/** Where the server is. */
typedef struct
{
  char *host; /* NULL for a unix socket */
  int port;
  char *path;
  guint database;
} RedisAddress;

/** "redis://HOST[:PORT][/DATABASE]", "unix:///PATH[?db=DATABASE]", "/PATH". INVALID_ARGUMENT. */
gboolean redis_address_parse (const char *url, RedisAddress *ret_address, GError **error);
void redis_address_clear (RedisAddress *address);

typedef struct
{
  const GsHost *host;
  RedisAddress address;
  char *url; /* for messages */
  char *user, *password; /* NULL = none */
  gint64 connect_timeout_us, timeout_us, backoff_max_us;
  guint max_connections;

  GsMutex lock; /* of what follows */
  GsCond given;
  GPtrArray *idle; /* of redisContext */
  guint n_open;    /* idle ones and those in use */
  gint64 down_until_us; /* 0 = it is not down */
  gint64 backoff_us;
  gboolean probing; /* somebody tries whether it is back */
} RedisPool;

/** Before this, the fields above `lock` are filled in. */
void redis_pool_init (RedisPool *pool);
/** Closes the idle ones. */
void redis_pool_close (RedisPool *pool);
void redis_pool_clear (RedisPool *pool);

/** A command, binary safe. */
typedef struct
{
  const char *parts[64];
  gsize lengths[64];
  int n;
} RedisCommand;

void redis_add (RedisCommand *command, const void *part, gsize length);
void redis_add_text (RedisCommand *command, const char *text);

/**
 * Runs a command within the timeout and the call's deadline. *full* (freeReplyObject); an error reply of the server is a
 * reply. NULL when there is none, for whatever reason; what is worth telling was logged.
 */
redisReply *redis_pool_run (RedisPool *pool, GsCall *call, const RedisCommand *command);

#endif
