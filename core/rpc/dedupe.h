/* SPDX-License-Identifier: Apache-2.0 */
/**
 * dedupe.h - at most once: a write that arrives twice under one call id is carried out once.
 *
 * Plain data, guarded by dispatch's lock. A key is (caller's name, call id). Its first call, the leader, runs;
 * calls that come while it does join it and end as it ends; later ones get the outcome that was kept.
 */
#ifndef GSI_RPC_DEDUPE_H
#define GSI_RPC_DEDUPE_H

#include <gitstead/host.h>

#define GSI_DEDUPE_HASH_SIZE 32

/** How a call ended, shared by all who asked. Immutable once made. */
typedef struct
{
  gint refs; /* atomic, in line: ThreadSanitizer cannot see counts kept inside GLib */
  GsErrorCode code;
  GsRetry retry;
  gint64 retry_after_us;
  char *message;
  GBytes *payload;
  guint64 generation; /* set right after it was made; 0 = nothing was written */
  GBytes *details;    /* set right after it was made: of an error, as its caller wants it; NULL = none */
} GsiEnd;

/** @message NULL when OK; @payload NULL unless OK, borrowed. *full*, gsi_end_unref. */
GsiEnd *gsi_end_new (GsErrorCode code, const char *message, gint64 retry_after_us, GBytes *payload);
GsiEnd *gsi_end_ref (GsiEnd *end);
void gsi_end_unref (GsiEnd *end);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiEnd, gsi_end_unref)

typedef struct GsiDedupe GsiDedupe;
typedef struct GsiDedupeEntry GsiDedupeEntry;

GsiDedupe *gsi_dedupe_new (gint64 keep_us, guint max_outcomes, gsize max_bytes);
void gsi_dedupe_free (GsiDedupe *dedupe);
/** For outcomes from now on; what is kept already stays its time, as far as there is room. */
void gsi_dedupe_set_limits (GsiDedupe *dedupe, gint64 keep_us, guint max_outcomes, gsize max_bytes);

typedef struct
{
  GsTxId id;
  const char *caller;                      /* borrowed; copied when kept */
  guint32 method;
  gboolean stream;                         /* bulk bytes: neither comparable nor to be sent again */
  guint8 hash[GSI_DEDUPE_HASH_SIZE];       /* of the encoding and the payload */
} GsiDedupeKey;

typedef enum
{
  GSI_DEDUPE_LEAD,     /* run it; *ret_entry is the call's until gsi_dedupe_finish */
  GSI_DEDUPE_JOIN,     /* it waits in *ret_entry now */
  GSI_DEDUPE_KEPT,     /* *ret_end is how it ended; *full* */
  GSI_DEDUPE_STREAMING,/* a streaming call of this id is under way and cannot be joined */
  GSI_DEDUPE_STREAMED, /* a streaming call of this id has succeeded */
  GSI_DEDUPE_OTHER     /* the id belongs to a call that asks for something else */
} GsiDedupeVerdict;

GsiDedupeVerdict gsi_dedupe_enter (GsiDedupe *dedupe, const GsiDedupeKey *key, gpointer call, gint64 now_us,
                                   GsiDedupeEntry **ret_entry, GsiEnd **ret_end);
/** Somebody joined and still waits. */
gboolean gsi_dedupe_awaited (const GsiDedupeEntry *entry);
/** A joined call does not wait any longer. */
void gsi_dedupe_leave (GsiDedupeEntry *entry, gpointer call);

/**
 * The leader has ended. Returns the calls that end with it (to be ended with @end by the caller; *full* array
 * of borrowed calls, may be NULL). When it ended only because its own caller gave up or its own time was up,
 * *ret_heir is the joined call that must run now, as the new leader of @entry; the others stay joined.
 * @may_inherit FALSE: nobody runs any more.
 */
GPtrArray *gsi_dedupe_finish (GsiDedupe *dedupe, GsiDedupeEntry *entry, GsiEnd *end, gboolean may_inherit,
                              gint64 now_us, gpointer *ret_heir);
/** Drops outcomes whose time is over. */
void gsi_dedupe_sweep (GsiDedupe *dedupe, gint64 now_us);
/** Kept outcomes. */
guint gsi_dedupe_kept (const GsiDedupe *dedupe);

#endif
