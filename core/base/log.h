/* SPDX-License-Identifier: Apache-2.0 */
/**
 * log.h - structured records: a constant dotted event name and fields, never a formatted sentence.
 *
 * A record is one line and one write(2), as text for people or as a JSON object. The log adds time, level, thread, the
 * plugin instance and the id of the call that this thread works on. Whoever decides, logs, once; functions that
 * return a GError do not log it.
 *
 * Repeats: of each (event, instance) at most `repeats` records are written per second; the rest are counted
 * and reported as "log.repeated". Warnings and errors alone are limited: a fault that goes round in circles must not
 * fill the disk, but the record of who did what (INFO) stays whole.
 */
#ifndef GSI_BASE_LOG_H
#define GSI_BASE_LOG_H

#include <gitstead/types.h>

typedef struct GsiLog GsiLog;

#define GSI_LOG_TEXT 0u
#define GSI_LOG_JSON 1u

/** Zero is a good setting for all but @level, where it means errors alone. */
typedef struct
{
  GsLogLevel level;
  guint32 format;     /* GSI_LOG_TEXT or GSI_LOG_JSON */
  const char *path;   /* file to append to, made with mode 0640; NULL = standard error */
  const char *topics; /* levels by event prefix, "storage=debug,rpc.call=warning"; the longest wins; NULL = none */
  guint repeats;      /* per event and second; 0 = no limit */
} GsiLogSettings;

/** *full* (gsi_log_free). Fails when the file cannot be opened or a topic is malformed. */
GsiLog *gsi_log_new (const GsiLogSettings *settings, GError **error);

/** As gsi_log_new, onto a descriptor that stays the caller's. For tests. */
GsiLog *gsi_log_new_fd (const GsiLogSettings *settings, int fd, GError **error);

/** Reports what was held back, then closes. NULL is fine. No thread may use it any more. */
void gsi_log_free (GsiLog *log);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiLog, gsi_log_free)

/** Opens the file of the same path again (after rotation). The old one stays in use when it fails. Any thread. */
gboolean gsi_log_reopen (GsiLog *log, GError **error);

/** Takes over level, topics and repeats; format and path stay. Any thread. */
gboolean gsi_log_set_levels (GsiLog *log, const GsiLogSettings *settings, GError **error);

/** Is a record of @level worth making? @event NULL: for any event. @log may be NULL: no. */
gboolean gsi_log_enabled (GsiLog *log, GsLogLevel level, const char *event);

/** Writes one record. @instance NULL: the core. @log may be NULL. Any thread; errno is kept. */
void gsi_log_write (GsiLog *log, GsLogLevel level, const char *instance, const char *event, const GsField *fields,
                    gsize n_fields);

/** gsi_log (log, GS_LOG_INFO, "pool.started", GS_TEXT ("pool", name), GS_NUMBER ("threads", n)); */
#define gsi_log(log_, level_, event_, ...)                                                                             \
  G_STMT_START                                                                                                         \
  {                                                                                                                    \
    if (gsi_log_enabled ((log_), (level_), (event_)))                                                                  \
      {                                                                                                                \
        const GsField gsi_log_fields_[] = { __VA_ARGS__ };                                                             \
        gsi_log_write ((log_), (level_), NULL, (event_), gsi_log_fields_, G_N_ELEMENTS (gsi_log_fields_));             \
      }                                                                                                                \
  }                                                                                                                    \
  G_STMT_END

/** The two fields that tell an error: code name and message. */
#define GSI_LOG_ERROR_FIELDS(error_)                                                                                   \
  GS_TEXT ("code", gs_error_name (gs_error_code (error_))), GS_TEXT ("message", (error_) ? (error_)->message : "")

/** Reports counts of held-back records whose second is over. The main loop calls it every second or so. */
void gsi_log_sweep (GsiLog *log);

/** From now on, records of this thread carry this call id; NULL ends it. @id is copied. */
void gsi_log_set_call (const GsTxId *id);

/** Sends GLib's own messages (g_warning and so on) here, as event "glib.message", until @log is freed or another has them. */
void gsi_log_take_glib (GsiLog *log);

/* ---- for crash reports ---- */

/** The call that this thread works on, in hex; "" when none. Async-signal-safe. */
const char *gsi_log_call (void);

/** Writes the last records to @fd, the oldest first. Async-signal-safe. */
void gsi_log_write_last (const GsiLog *log, int fd);

#endif
