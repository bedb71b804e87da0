/* SPDX-License-Identifier: Apache-2.0 */
/**
 * plugin.h - what a Gitstead plugin is.
 *
 * A plugin is a shared object with one exported function, gs_plugin_query, which returns a constant
 * descriptor. It links nothing of the host: everything it may ask for comes through GsHost (host.h).
 * It keeps no writable globals: one plugin can run several times with different options. It is never
 * unloaded.
 *
 * Loading: the host opens the file with immediate, local binding, reads the frozen GsAbi header and
 * refuses on any mismatch before it touches anything else; it copies min (theirs, ours) bytes of
 * descriptor and table, and checks the required slots of the kind, in release builds too.
 *
 * Life of an instance:
 *   create  - memory only: no threads, files or sockets. Options are already checked.
 *   start   - open, spawn; the last place to fail loudly. Needs are started before.
 *   (serving)
 *   drain   - take nothing new; never blocks. Optional.
 *   stop    - return when no thread or callback of this instance can run any more. Optional.
 *   destroy - free; also called on an instance whose start failed or never happened.
 * All calls of one instance's life come from one thread, in this order. Instances stop in the exact
 * reverse of their start order, and all have stopped before any is destroyed.
 *
 * What every plugin promises, beside what its kind does. `gitstead plugin check` looks at all of it.
 *   [P1] The file is whole: header, sizes, descriptor and option rows are right, every required slot is
 *        filled, and gs_plugin_query does nothing but return the descriptor.
 *   [P2] Instances know nothing of each other. create takes memory only; an instance that was never
 *        started, or whose start failed, can be destroyed.
 *   [P3] When an instance is destroyed nothing of it is left: no memory, descriptor or thread. (A descriptor that a
 *        library closes in a thread of its own may be closed a moment later.)
 *   [P4] What fails sets an error of the domain GS_ERROR and leaves out parameters as they were; what succeeds sets none.
 *   [P5] Every slot returns, at the latest soon after the call's deadline.
 *   [P6] No slot ends the process, whatever it is given that its header allows.
 *   [P7] A call that is cancelled or out of time when a slot gets it is either carried out all the same, or fails
 *        with nothing changed: made again, it does what it would have done. Not where the slot says otherwise.
 *   [P8] A callback that a slot is given runs in the thread of the slot's caller, before the slot returns.
 */
#ifndef GITSTEAD_PLUGIN_H
#define GITSTEAD_PLUGIN_H

#include "types.h"

G_BEGIN_DECLS

/**
 * The ABI version. While the major is 0 every mismatch is refused, in both numbers; from 1.0 on a
 * plugin loads when its major is equal and its minor is not greater than the host's.
 */
#define GS_ABI_MAJOR 0u
#define GS_ABI_MINOR 1u
#define GS_ABI_MAGIC 0x47735031u /* "GsP1" */

/** Frozen for ever, across major versions: whatever else changes, these 16 bytes can be read. */
typedef struct
{
  guint32 magic;
  guint16 abi_major;
  guint16 abi_minor;
  guint32 struct_size; /* sizeof (GsPlugin) when the plugin was compiled */
  guint32 ops_size;    /* sizeof (its kind's table) when it was compiled */
} GsAbi;

/** The kinds. Fixed-width constants, not an enum: the width of an enum is not ABI. */
#define GS_KIND_TRANSPORT 1u
#define GS_KIND_STORAGE 2u
#define GS_KIND_METADATA 3u
#define GS_KIND_ROUTING 4u
#define GS_KIND_CONSISTENCY 5u
#define GS_KIND_CACHE 6u
#define GS_KIND_ACCESS 7u
#define GS_KIND_LAYER 8u /* stands before one of another kind: layer.h */
#define GS_KIND_MAX 8u
/**
 * How much at once the slots of an instance's table tolerate; the host sees to it, with turns. Those of GsPlugin come
 * from one thread, and may come while calls are under way.
 *
 * A turn lasts from call to return, callbacks and the whole of a stream included. Who waits for one gets
 * CANCELLED or DEADLINE_EXCEEDED when its call is over; a call with a stream, or a disk, gets BUSY after
 * some seconds. Nothing was done then. What must be made waits without end: slots that get no call, commit and abort. So a
 * slot of such a plugin does not wait for another call of the same instance (a stage for the commit of another write):
 * it says ABORTED or BUSY at once. A callback does not call the instance that called it.
 *
 * Who declares what: a STORAGE any; METADATA, ROUTING, CONSISTENCY, CACHE and ACCESS, whose slots do not say which
 * repository they are about, SERIAL or PARALLEL; a TRANSPORT, which is called while a call of its own is under way, and a
 * LAYER PARALLEL alone. Slots that are called whatever else is under way (probe of STORAGE, wait_hint of
 * METADATA) are for PARALLEL plugins alone, and so is filling a need of another plugin, which calls without turns. The
 * host refuses to load what declares otherwise.
 */
#define GS_THREADS_SERIAL 0u   /* one call at a time */
#define GS_THREADS_PER_REPO 1u /* one call at a time per repository; those about none (list, pending, maintain, disk) besides.
                                  A staged or computed write is about the repository that it was made for */
#define GS_THREADS_PARALLEL 2u /* any number */

/** Types of options. The text of the config file is checked and converted before create. */
#define GS_OPTION_STRING 1u   /* UTF-8, no control characters */
#define GS_OPTION_INT 2u      /* min..max */
#define GS_OPTION_BOOL 3u     /* true | false */
#define GS_OPTION_DURATION 4u /* "500ms", "10s", "5m", "2h", "1d"; value and limits in microseconds */
#define GS_OPTION_SIZE 5u     /* "4096", "64KiB", "10MiB", "1GiB"; value and limits in bytes */
#define GS_OPTION_CHOICE 6u   /* one of choices, separated by '|' */
#define GS_OPTION_PATH 7u     /* a path; relative ones are taken from the config file's folder */
#define GS_OPTION_LIST 8u     /* a sequence of strings */

#define GS_OPTION_REQUIRED (1u << 0)
#define GS_OPTION_SECRET (1u << 1)     /* masked when printed; may be given as {file: …} or {env: …} */
#define GS_OPTION_RELOADABLE (1u << 2) /* a running instance can take a change: see GsPlugin.adjust */

/** One option. Rows of arrays are frozen: this struct never grows. The array ends with key NULL. */
typedef struct
{
  const char *key;
  const char *fallback; /* as it would stand in the config file; NULL = unset */
  const char *choices;  /* for GS_OPTION_CHOICE: "a|b|c" */
  const char *help;     /* one sentence; it becomes the reference page */
  gint64 min, max;      /* both 0 = no limits */
  guint32 type;
  guint32 flags;
} GsOption;

/**
 * Another instance that must be there. @role is the config key that names it ("metadata"); when the
 * config does not name one, the only instance of @kind is taken. The array ends with role NULL.
 */
typedef struct
{
  const char *role;
  guint32 kind;
  guint32 flags; /* GS_NEED_OPTIONAL */
} GsNeed;

#define GS_NEED_OPTIONAL (1u << 0)

/**
 * The checked options of one instance. Handed to create; borrowed until create returns, and so is
 * every string it gives. Unset options answer NULL, 0, FALSE or an empty list.
 */
typedef struct GsConfig GsConfig;
struct GsConfig
{
  guint32 size;
  gpointer priv;
  const char *(*string) (const GsConfig *config, const char *key);
  gint64 (*integer) (const GsConfig *config, const char *key); /* INT, DURATION (us), SIZE (bytes) */
  gboolean (*boolean) (const GsConfig *config, const char *key);
  const char *const *(*list) (const GsConfig *config, const char *key); /* NULL-terminated, never NULL */
};

typedef struct GsHost GsHost;

/** The descriptor. Constant data. Append only. */
typedef struct
{
  GsAbi abi; /* filled in by GS_PLUGIN_DEFINE */
  guint32 kind;
  guint32 threads;
  const char *name;    /* [a-z][a-z0-9-]*, at most 32 */
  const char *version; /* the plugin's own, for people */
  const char *summary; /* one line */
  const char *license; /* SPDX expression */
  const GsOption *options; /* may be NULL */
  const GsNeed *needs;     /* may be NULL */
  const void *ops;         /* GsStorageOps, GsCacheOps, … by kind */
  /** Returns the instance (*full*, freed by destroy) or NULL with @error. @host outlives it. */
  gpointer (*create) (const GsHost *host, const GsConfig *config, GError **error);
  gboolean (*start) (gpointer self, GError **error); /* may be NULL */
  void (*drain) (gpointer self);                     /* may be NULL */
  void (*stop) (gpointer self);                      /* may be NULL */
  void (*destroy) (gpointer self);
  /**
   * On a reload, for an instance that goes on running: reads again what its options name (certificates), and takes
   * changes of those options that it declares GS_OPTION_RELOADABLE; the others are as they were. Prepares only: what
   * it returns (*full*, not NULL) goes to adjusted. NULL with @error: the reload is refused, and all goes on as it
   * was. @config is borrowed until return. Called from the thread of start and stop. Optional, with adjusted.
   */
  gpointer (*adjust) (gpointer self, const GsConfig *config, GError **error);
  /** Takes what adjust prepared (@take) or drops it, and frees it. Cannot fail and does not block. */
  void (*adjusted) (gpointer self, gpointer change, gboolean take);
} GsPlugin;

#if defined(__cplusplus)
#define GS_EXPORT extern "C" __attribute__ ((visibility ("default")))
#else
#define GS_EXPORT __attribute__ ((visibility ("default")))
#endif

/** The one exported symbol. Pure: it may be called by tools that never create an instance. */
typedef const GsPlugin *(*GsPluginQuery) (void);
#define GS_PLUGIN_QUERY_SYMBOL "gs_plugin_query"

/**
 * Writes gs_plugin_query. Use: GS_PLUGIN_DEFINE (GsCacheOps, .kind = GS_KIND_CACHE, .name = "…", …);
 * Members that are left out are NULL, those too that later versions of this header append.
 */
#define GS_PLUGIN_DEFINE(OpsType, ...)                                                             \
  _Pragma ("GCC diagnostic push")                                                                  \
  _Pragma ("GCC diagnostic ignored \"-Wmissing-field-initializers\"")                              \
  GS_EXPORT const GsPlugin *gs_plugin_query (void);                                                \
  GS_EXPORT const GsPlugin *gs_plugin_query (void)                                                 \
  {                                                                                                \
    static const GsPlugin plugin                                                                   \
        = { .abi = { GS_ABI_MAGIC, GS_ABI_MAJOR, GS_ABI_MINOR, sizeof (GsPlugin),                  \
                     sizeof (OpsType) },                                                           \
            __VA_ARGS__ };                                                                         \
    return &plugin;                                                                                \
  }                                                                                                \
  _Pragma ("GCC diagnostic pop")

G_END_DECLS

#endif
