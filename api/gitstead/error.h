/* SPDX-License-Identifier: Apache-2.0 */
/**
 * error.h - the one error domain that crosses the plugin boundary and the wire.
 *
 * Every call that can fail for more than one reason returns gboolean (or a pointer) and takes a
 * GError **. The code says what a program may do next; the message says to a person what was
 * attempted, on which repository or node, why it failed and what to do.
 *
 * The codes are the wire's status codes, number for number (docs/wire-protocol.md), and follow the
 * closed list that gRPC made common, so that clients of other Git servers find what they know.
 */
#ifndef GITSTEAD_ERROR_H
#define GITSTEAD_ERROR_H

#include <errno.h>
#include <glib.h>
#include <stdarg.h>

G_BEGIN_DECLS

/** The error domain. Safe from any thread. Never make a GError of it by hand: it carries more than a GError shows. */
#define GS_ERROR (gs_error_quark ())

/* g_quark_from_string copies: the quark never points into a plugin's own memory. */
static inline GQuark
gs_error_quark (void)
{
  return g_quark_from_string ("gitstead-error");
}

/**
 * What went wrong, by what the caller can do about it. "Same" means: repeating the very same call
 * (same call id) is safe and may succeed; "new" means: look again, then make a new call.
 */
typedef enum
{
  GS_OK = 0,
  GS_ERROR_CANCELLED = 1,           /* the caller gave up or went away          retry: same  */
  GS_ERROR_UNKNOWN = 2,             /* outcome not known (connection lost)      retry: same  */
  GS_ERROR_INVALID_ARGUMENT = 3,    /* the request itself is wrong              retry: never */
  GS_ERROR_DEADLINE_EXCEEDED = 4,   /* not done in time; may still have happened retry: same */
  GS_ERROR_NOT_FOUND = 5,           /* repository, ref, object, method          retry: never */
  GS_ERROR_ALREADY_EXISTS = 6,      /* the name is taken                        retry: never */
  GS_ERROR_PERMISSION_DENIED = 7,   /* known caller, not allowed                retry: never */
  GS_ERROR_BUSY = 8,                /* a bound was reached; nothing was done    retry: same  */
  GS_ERROR_FAILED_PRECONDITION = 9, /* state forbids it (stale value, read-only) retry: new  */
  GS_ERROR_ABORTED = 10,            /* lost a race (lock, compare-and-swap)     retry: new   */
  GS_ERROR_OUT_OF_RANGE = 11,       /* past a limit or the end                  retry: never */
  GS_ERROR_UNIMPLEMENTED = 12,      /* this server or plugin cannot do that     retry: never */
  GS_ERROR_INTERNAL = 13,           /* our bug                                  retry: never */
  GS_ERROR_UNAVAILABLE = 14,        /* not now; nothing was done                retry: same  */
  GS_ERROR_DATA_LOSS = 15,          /* stored data is damaged                   retry: never */
  GS_ERROR_UNAUTHENTICATED = 16     /* credentials missing or wrong             retry: never */
} GsErrorCode;

/** Whether a caller may repeat a failed call. The numbers are the wire's. */
typedef enum
{
  GS_RETRY_NEVER = 0,
  GS_RETRY_SAME = 1, /* repeat with the same call id */
  GS_RETRY_NEW = 2   /* read the state again, then make a new call */
} GsRetry;

/** The retry verdict that belongs to a code. Pure. */
static inline GsRetry
gs_error_retry (int code)
{
  switch (code)
    {
    case GS_ERROR_CANCELLED:
    case GS_ERROR_UNKNOWN:
    case GS_ERROR_DEADLINE_EXCEEDED:
    case GS_ERROR_BUSY:
    case GS_ERROR_UNAVAILABLE:
      return GS_RETRY_SAME;
    case GS_ERROR_FAILED_PRECONDITION:
    case GS_ERROR_ABORTED:
      return GS_RETRY_NEW;
    default:
      return GS_RETRY_NEVER;
    }
}

/** The name of a code as it stands in logs, JSON and docs; "INTERNAL" for a number we do not know. */
static inline const char *
gs_error_name (int code)
{
  static const char *const names[]
      = { "OK",          "CANCELLED",     "UNKNOWN",      "INVALID_ARGUMENT", "DEADLINE_EXCEEDED",
          "NOT_FOUND",   "ALREADY_EXISTS", "PERMISSION_DENIED", "BUSY",       "FAILED_PRECONDITION",
          "ABORTED",     "OUT_OF_RANGE",  "UNIMPLEMENTED", "INTERNAL",        "UNAVAILABLE",
          "DATA_LOSS",   "UNAUTHENTICATED" };
  return code >= 0 && code < (int) G_N_ELEMENTS (names) ? names[code] : "INTERNAL";
}

/**
 * What an error carries beside code and message: an encoded gitstead.v1.ErrorDetails (api/proto), for programs. Copies,
 * prefixes and propagation keep it. Frozen: it stands before each GError of the domain, whoever made it.
 */
typedef struct
{
  guint8 *details;
  gsize n_details;
} GsErrorExtra;

/** More than so many bytes are not kept: they travel in a reply's header. */
#define GS_ERROR_DETAILS_MAX (8 * 1024)

G_STATIC_ASSERT (sizeof (GsErrorExtra) == 2 * sizeof (gsize)); /* GLib rounds up to that */

static inline GsErrorExtra *
gs_error_extra (const GError *error)
{
  return (GsErrorExtra *) (void *) ((guint8 *) (void *) error - sizeof (GsErrorExtra));
}

static inline void
gs_error_extra_init (GError *error)
{
  gs_error_extra (error)->details = NULL;
  gs_error_extra (error)->n_details = 0;
}

static inline void
gs_error_extra_copy (const GError *from, GError *to)
{
  gs_error_extra (to)->details = (guint8 *) g_memdup2 (gs_error_extra (from)->details, gs_error_extra (from)->n_details);
  gs_error_extra (to)->n_details = gs_error_extra (from)->n_details;
}

static inline void
gs_error_extra_clear (GError *error)
{
  g_free (gs_error_extra (error)->details);
}

/*
 * Once in a process, by whatever of it is loaded first, and so before anything can make an error of the domain. Loading is
 * one at a time: nothing comes between the look and the mark.
 */
__attribute__ ((constructor)) static void
gs_error_register (void)
{
  if (g_quark_try_string ("gitstead-error has details") != 0)
    return;
  g_error_domain_register ("gitstead-error", sizeof (GsErrorExtra), gs_error_extra_init, gs_error_extra_copy,
                           gs_error_extra_clear);
  g_quark_from_string ("gitstead-error has details");
}

/** The details that @error carries. NULL when there are none. *borrowed until the error is freed or gets more*. Pure. */
static inline const guint8 *
gs_error_details (const GError *error, gsize *ret_n_bytes)
{
  gboolean some = error != NULL && error->domain == GS_ERROR && gs_error_extra (error)->n_details > 0;
  *ret_n_bytes = some ? gs_error_extra (error)->n_details : 0;
  return some ? gs_error_extra (error)->details : NULL;
}

/** Has @error, of our domain, carry @n_bytes of an encoded ErrorDetails instead of what it had. Too many: none. */
static inline void
gs_error_set_details (GError *error, const guint8 *bytes, gsize n_bytes)
{
  guint8 *copy = n_bytes <= GS_ERROR_DETAILS_MAX ? (guint8 *) g_memdup2 (bytes, n_bytes) : NULL;
  if (error->domain == GS_ERROR)
    {
      g_free (gs_error_extra (error)->details);
      gs_error_extra (error)->details = copy;
      gs_error_extra (error)->n_details = copy != NULL ? n_bytes : 0;
    }
  else
    g_free (copy);
}

/** The code of any GError: its own when it is ours, INTERNAL for a foreign domain, OK for NULL. */
static inline int
gs_error_code (const GError *error)
{
  if (error == NULL)
    return GS_OK;
  return error->domain == GS_ERROR ? error->code : GS_ERROR_INTERNAL;
}

/** Sets @error (which may be NULL) and returns FALSE: `return gs_fail (error, GS_ERROR_…, "…");`. */
static inline gboolean G_GNUC_PRINTF (3, 4)
gs_fail (GError **error, GsErrorCode code, const char *format, ...)
{
  va_list args;
  if (error == NULL)
    return FALSE;
  va_start (args, format);
  *error = g_error_new_valist (GS_ERROR, code, format, args);
  va_end (args);
  return FALSE;
}

/** The code that an errno stands for, for a failed system call on our own files and sockets. */
static inline GsErrorCode
gs_error_from_errno (int err)
{
  switch (err)
    {
    case ENOENT:
      return GS_ERROR_NOT_FOUND;
    case EEXIST:
      return GS_ERROR_ALREADY_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
      return GS_ERROR_FAILED_PRECONDITION;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
      return GS_ERROR_UNAVAILABLE;
    case EIO:
      return GS_ERROR_DATA_LOSS;
    case ETIMEDOUT:
      return GS_ERROR_DEADLINE_EXCEEDED;
    case EPIPE:
    case ECONNRESET:
      return GS_ERROR_CANCELLED;
    default:
      return GS_ERROR_INTERNAL;
    }
}

G_END_DECLS

#endif
