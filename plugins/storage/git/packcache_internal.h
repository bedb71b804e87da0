/* SPDX-License-Identifier: Apache-2.0 */
/**
 * packcache_internal.h - what the files of the pack cache share: packcache.c has the table, packmake.c makes a pack,
 * packfetch.c serves one fetch.
 *
 * A Pack is in the table while it may be found; the table, its maker and each of its readers hold a reference. It is made as
 * long as somebody reads it: the last reader that leaves stops the maker, and joins its thread.
 *
 * Bytes go into the file as long as the cache has room. From then on the pack is *narrow*: nobody may find it any more, and each
 * further piece is kept in memory until all who read the pack have taken it.
 */
#ifndef STORAGE_GIT_PACKCACHE_INTERNAL_H
#define STORAGE_GIT_PACKCACHE_INTERNAL_H

#include "fsutil.h"
#include "packcache.h"

#define PACK_KEY_LEN 64 /* SHA-256, hex */
#define PACK_PIECE (128u * 1024)
#define PACK_AHEAD (64u << 20)           /* a pack is made at most so far ahead of the fastest of its readers */
#define PACK_STALL_US (60 * G_USEC_PER_SEC) /* PackCache.stall_us; tests have less time */
#define PACK_SAID_MAX 4096u
#define PACK_PAST_MAX 4096u /* keys in PackCache.past */

struct PackCache
{
  Storage *storage;
  guint64 max_bytes;
  gint64 age_us;
  guint min_uses;
  guint max_packs;
  gint64 stall_us; /* how long a reader of a narrow pack that takes nothing may keep the others waiting */
  char *hook; /* as git takes it; NULL until start */

  struct
  {
    GsMetric *hits, *misses, *bypassed, *made, *served, *bytes, *packs;
  } metric;

  GsMutex lock;
  GHashTable *packs; /* key -> Pack */
  GHashTable *asked; /* key -> Asked */
  GHashTable *past;  /* key -> gint64: until when who asks for it goes past the cache */
  guint64 held;      /* bytes of all files, those of packs that left the table included */
  gboolean sweeps;   /* a timer is set */
};

/** How often a pack was asked for lately. */
typedef struct
{
  guint n;
  gint64 last_us;
} Asked;

/** Who reads a pack. In its owner's memory; all under the cache's lock. */
typedef struct
{
  int wake;        /* eventfd */
  guint64 taken;   /* bytes */
  gint64 took_us;  /* when it last took any, or joined */
  gboolean waits;  /* for bytes */
  gboolean dropped; /* it kept others waiting too long */
} PackReader;

typedef struct
{
  PackCache *cache;
  char key[PACK_KEY_LEN + 1];
  guint64 repo_id;
  char *replica; /* for the log */

  /* the maker's own */
  int file;
  Child child;
  int from; /* the child's output */
  guint64 room; /* free on the medium when it was last looked at */
  guint64 looked_at;

  GsThread thread;

  /* under the cache's lock */
  guint refs;
  int wake; /* eventfd: the maker's; -1 once it has ended */
  GPtrArray *readers; /* PackReader */
  gboolean listed, threaded, joined;
  gboolean stop;    /* asks the maker to end */
  gboolean waits;   /* the maker, for readers */
  gboolean ended, failed;
  gboolean narrow;
  guint64 held;  /* bytes that were taken for the file */
  guint64 filed; /* bytes in the file */
  guint64 made;  /* bytes in all; those after @filed: given away, but for the last tail->len */
  GByteArray *tail;
  gint64 tail_since_us;
  GString *said; /* whole lines of its progress */
  GString *line; /* the one that is under way, up to its '\r' */
  guint line_serial;
  gint64 made_us; /* when it ended */
  gint64 last_used_us;
} Pack;

/* ------------------------------------------------------------------------------------------ packcache.c */

/**
 * The pack with @key, a new one if there is none: then *@ret_new is TRUE, and the caller begins it or calls it a failure.
 * NULL without @error: this one is not for the cache. @reader becomes one of its readers. *full*.
 */
Pack *pack_find (PackCache *cache, const char *key, const Repo *repo, PackReader *reader, gboolean *ret_new,
                 GError **error);
/** Gives back what pack_find gave. */
void pack_leave (Pack *pack, PackReader *reader);
void pack_unref (Pack *pack);
/** Under the lock: TRUE when it was in the table, whose reference is the caller's now. */
gboolean pack_unlist (Pack *pack);
/** Under the lock. */
void pack_wake_maker (Pack *pack);
void pack_wake_readers (Pack *pack, gboolean all);
/**
 * Takes @n bytes of room, at the cost of packs that nobody reads. FALSE: there is none; *@ret_too_large says whether that is
 * because of the pack itself, and so will not change.
 */
gboolean pack_reserve (Pack *pack, gsize n, gboolean *ret_too_large);
/** Under the lock: who asks for @key goes past the cache; for a day if it is @too_large, else for as long as packs are kept. */
void pack_cache_pass (PackCache *cache, const char *key, gboolean too_large);
/** Under the lock: gives back what it has not written. */
void pack_unreserve (Pack *pack);
/** Shows the present figures. */
void pack_cache_tell (PackCache *cache);
void wake_fd (int fd);
void drain_fd (int fd);

/* ------------------------------------------------------------------------------------------- packmake.c */

/** Begins to make it with "pack-objects ..." as @argv and @input. FALSE: it is a failed pack now. */
gboolean pack_make (Pack *pack, const Repo *repo, const char *const *argv, int input, GError **error);

#endif
