/* SPDX-License-Identifier: Apache-2.0 */
/**
 * engine.h - runs the numbered contract cases of a kind on any plugin of that kind, ours or a third party's.
 *
 * A library: it prints nothing and ends no process, so that a test runner and `gitstead plugin check` share it.
 * Cases use the plugin's slots alone, names of their own, and no more than the header of the kind promises;
 * optional slots that are missing are skipped with a reason.
 */
#ifndef CONFORMANCE_ENGINE_H
#define CONFORMANCE_ENGINE_H

#include <gitstead/access.h>
#include <gitstead/cache.h>
#include <gitstead/consistency.h>
#include <gitstead/layer.h>
#include <gitstead/metadata.h>
#include <gitstead/routing.h>
#include <gitstead/storage.h>
#include <gitstead/thread.h>
#include <gitstead/transport.h>

G_BEGIN_DECLS

/* ------------------------------------------------------------------------------------ for runners */

typedef enum
{
  CONFORMANCE_PASSED,
  CONFORMANCE_FAILED,
  CONFORMANCE_SKIPPED
} ConformanceResult;

/** What a case found. Borrowed until the report returns. */
typedef struct
{
  const char *kind;    /* "metadata" */
  guint number;        /* of the case within its kind, from 1 */
  const char *promise; /* what it checks, as the kind's header numbers it: "M2" */
  const char *title;
  ConformanceResult result;
  const char *expected; /* FAILED */
  const char *happened; /* FAILED; SKIPPED: why */
} ConformanceOutcome;

typedef void (*ConformanceReport) (const ConformanceOutcome *outcome, gpointer user);

/** Something that stands between the cases and the plugin: gitstead/layer.h. */
typedef struct
{
  const GsPlugin *plugin;
  const GsConfig *config;
} ConformanceLayer;

/** What is tested. @host and @config are lent for the whole run; needs are resolved by @host. */
typedef struct
{
  const GsPlugin *plugin;
  const GsHost *host;
  const GsConfig *config;
  /** The slot under way is written here, "" between calls, so that whoever watches can tell after a crash. May be NULL. */
  char *note;
  /**
   * Which call of each case, counted from 1, is made with a call that is over before it is made as the case has it: cancelled
   * for odd numbers, out of time for even ones. What fails so has changed nothing (P7), or the case notices. 0: none; or
   * every call, one way or the other.
   */
  guint interrupt;
  /** In how many threads each case runs at once, beside itself; 0 and 1: alone. Only calls that the plugin's thread model
   * allows overlap. Cases that have to be alone are skipped. */
  guint crowd;
  /** Which call of submit and timer, counted from 1 in each life of an instance, the host turns down; or all of them. */
  guint host_fault;
  gboolean fresh; /* each case has an instance, and layers, of its own */
  const ConformanceLayer *layers; /* the outermost first */
  gsize n_layers;
  gboolean repeat_busy; /* a call that comes back BUSY is made again: for layers that make calls fail so */
  /**
   * Cuts the plugin off from the server that it speaks with: with @answers 0 at once, else in place of that answer of the
   * server, counted from now, and then for good. -1 connects it again. NULL: nobody can.
   */
  void (*reach) (int answers, gpointer user);
  gpointer reach_user;
} ConformanceTarget;

#define CONFORMANCE_NOTE_SIZE 64
#define CONFORMANCE_CANCEL_ALL G_MAXUINT
#define CONFORMANCE_DELAY_ALL (G_MAXUINT - 1)
#define CONFORMANCE_HOST_FAULT_ALL G_MAXUINT

/**
 * Runs every case (or case number @only, when not 0) and reports each. FALSE with @error when there is no
 * suite for the kind, or the plugin could not be created, started or started again.
 */
gboolean conformance_run (const ConformanceTarget *target, guint only, ConformanceReport report, gpointer user,
                          GError **error);
/** The same, and says in @ret_reached whether the cases made so many calls that one was interrupted. May be NULL. */
gboolean conformance_run_interrupted (const ConformanceTarget *target, guint only, ConformanceReport report, gpointer user,
                                      gboolean *ret_reached, GError **error);
/** How many cases a kind has: its own, then those that every plugin has to pass. */
guint conformance_n_cases (guint32 kind);
typedef struct ConformanceCase ConformanceCase;
/** Case @number, from 1; NULL when there is none. */
const ConformanceCase *conformance_case (guint32 kind, guint number);

/** What the process holds. Bytes are 0 where the C library cannot tell (under a sanitizer). */
typedef struct
{
  gsize bytes;
  guint descriptors, threads;
} ConformanceUsage;

ConformanceUsage conformance_usage (void);
/** What grew in each step of @usages[0..@n): "4096 bytes", "1 descriptor". NULL when nothing did. *full*. */
char *conformance_growth (const ConformanceUsage *usages, guint n);

/* ---------------------------------------------------------------------------------------- for cases */

/** Answers calls that come in by a transport, in place of the lender's host. */
typedef struct
{
  gboolean (*method) (gpointer user, GsMethodInfo *ret_info);
  GsCallHandle (*call_begin) (gpointer user, const GsInbound *inbound);
  void (*call_cancel) (gpointer user, GsCallHandle call);
  gpointer user;
} ConformanceDesk;

typedef struct Conformance Conformance;
struct Conformance
{
  Conformance *all; /* the one with the instance; another where a case runs beside itself */
  GsHost host; /* the target's, with the clocks moved by skew_us */
  const ConformanceDesk *desk; /* atomic; NULL = none */
  const ConformanceTarget *target;
  gint64 skew_us; /* atomic */
  gpointer self;   /* for the slots of @ops; NULL when there is no instance */
  gboolean started;
  const void *ops; /* the plugin's table, completed with NULL, each call of it looked at (guard.h) */
  gpointer instance; /* the plugin's own self */
  const void *real_ops;
  char tag[17];    /* differs in every run: part of all names */
  GsMutex lock;    /* of what follows */
  gboolean failed;
  const char *promise; /* that was broken, when it is not the case's own */
  char *expected;
  char *happened;
  char *skipped;
  guint n_calls;   /* atomic: those that could be interrupted, in this case */
  gboolean reached; /* one was interrupted, in any case of this run */
  gboolean abandoned; /* what the case finds is of no account */
  char *interrupted; /* which call came back, and with what, in this case */
  gpointer *layers; /* the selves of target->layers */
  GString *logged; /* all that the plugin logged, a line each */
  GHashTable *turns; /* guint64: see guard_enter */
  GHashTable *handed_out; /* staged and computed writes -> guint64, their repository */
  GsCond turned;
  guint n_host_calls; /* atomic */
};

/** The row after the last has run NULL. */
struct ConformanceCase
{
  const char *promise;
  const char *title;
  void (*run) (Conformance *c);
  gboolean alone; /* it restarts the instance, moves the clock, or looks at what others do, too */
};

/** A call without deadline unless @timeout_us is not 0. Cleared by nothing: it holds nothing. */
GsCall conformance_call (Conformance *c, gint64 timeout_us);
/** Random bytes that differ in every call. */
GsTxId conformance_txid (Conformance *c);
/** A repository path of this run: "conformance-TAG/NAME.git". *full*. */
char *conformance_path (Conformance *c, const char *name);
/** Stops and destroys the instance. Does nothing when there is none. */
void conformance_end (Conformance *c);
/** Stops and destroys the instance and makes a new one with the same options. */
gboolean conformance_restart (Conformance *c, GError **error);
/** Moves both clocks that the plugin sees forward. */
void conformance_advance (Conformance *c, gint64 by_us);
/** See ConformanceTarget.reach. FALSE: it cannot be done here. */
gboolean conformance_reach (Conformance *c, int answers);
/** What the plugin has logged so far. *full*. */
char *conformance_log (Conformance *c);
/** Does the plugin declare this option? */
gboolean conformance_has_option (Conformance *c, const char *key);
/** Does it keep things beyond its instance? One that requires no option was told no place to keep them in. */
gboolean conformance_keeps (Conformance *c);

/** Keeps the first failure. From any thread. */
void conformance_fail (Conformance *c, const char *expected, const char *happened_format, ...) G_GNUC_PRINTF (3, 4);
/** The same, when what was broken is not the promise of the case. @promise is constant. */
void conformance_break (Conformance *c, const char *promise, const char *expected, const char *happened_format, ...)
    G_GNUC_PRINTF (4, 5);
/** Notes what the plugin is doing: a slot's name, or "" for nothing. */
void conformance_note (const ConformanceTarget *target, const char *slot);
/** TRUE when @error has @code; otherwise fails and is FALSE. @ok is what the slot returned. */
gboolean conformance_code (Conformance *c, gboolean ok, const GError *error, int code, const char *what);
gboolean conformance_has_failed (Conformance *c);
void conformance_skip (Conformance *c, const char *why);
/** As skip, whatever the case has found or still finds. */
void conformance_abandon (Conformance *c, const char *why);
/** Notes that a call that was over came back from @slot with @error. */
void conformance_interrupted (Conformance *c, const char *slot, const GError *error);

/** Runs @body (c, index, user) in @n threads at once and joins them; the guard takes the turns that the plugin asks for. */
typedef void (*ConformanceBody) (Conformance *c, guint index, gpointer user);
void conformance_parallel (Conformance *c, guint n, ConformanceBody body, gpointer user);

/** Leaves the case unless @condition. What happened is printf-like. */
#define CHECK(c, condition, expected, ...)                                                                             \
  do                                                                                                                   \
    if (!(condition))                                                                                                  \
      {                                                                                                                \
        conformance_fail ((c), expected, __VA_ARGS__);                                                                 \
        return;                                                                                                        \
      }                                                                                                                \
  while (0)

/** Leaves the case unless @call (which uses `&error`) returns TRUE. */
#define CHECK_OK(c, call)                                                                                              \
  do                                                                                                                   \
    {                                                                                                                  \
      g_autoptr (GError) error = NULL;                                                                                 \
      gboolean ok_ = (call);                                                                                           \
      if (!conformance_code ((c), ok_, error, GS_OK, #call))                                                           \
        return;                                                                                                        \
    }                                                                                                                  \
  while (0)

/** Leaves the case unless @call (which uses `&error`) fails with @code. */
#define CHECK_CODE(c, code, call)                                                                                      \
  do                                                                                                                   \
    {                                                                                                                  \
      g_autoptr (GError) error = NULL;                                                                                 \
      gboolean ok_ = (call);                                                                                           \
      if (!conformance_code ((c), ok_, error, (code), #call))                                                          \
        return;                                                                                                        \
    }                                                                                                                  \
  while (0)

extern const ConformanceCase conformance_metadata[];
extern const ConformanceCase conformance_routing[];
extern const ConformanceCase conformance_consistency[];
extern const ConformanceCase conformance_cache[];
extern const ConformanceCase conformance_access[];
extern const ConformanceCase conformance_storage[];
extern const ConformanceCase conformance_transport[];
extern const ConformanceCase conformance_layer[];
extern const ConformanceCase conformance_life[]; /* of every kind */

G_END_DECLS

#endif
