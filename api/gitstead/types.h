/* SPDX-License-Identifier: Apache-2.0 */
/**
 * types.h - the values that cross the plugin boundary.
 *
 * Ownership words, used in every public header: *full* - the receiver owns it and frees it;
 * *borrowed until X* - the giver keeps it, the receiver may use it until X and copies what it keeps.
 * Times are microseconds; `_us` on the monotonic clock (g_get_monotonic_time) unless the name says wall.
 * Sizes are bytes.
 */
#ifndef GITSTEAD_TYPES_H
#define GITSTEAD_TYPES_H

#include "error.h"

#include <string.h>

G_BEGIN_DECLS

/* ---------------------------------------------------------------------------------- identifiers */

#define GS_OID_RAW_MAX 32  /* room for SHA-256; SHA-1 uses the first 20 */
#define GS_OID_HEX_MAX 64
#define GS_TXID_SIZE 16
#define GS_DIGEST_SIZE 32

/** Object format of a repository. The number is its object id's length in bytes. */
typedef enum
{
  GS_FORMAT_SHA1 = 20,
  GS_FORMAT_SHA256 = 32
} GsObjectFormat;

/** An object id. @len is 20 or 32; 0 means "none". The all-zero id of Git is len 20 with zero bytes. */
typedef struct
{
  guint8 len;
  guint8 raw[GS_OID_RAW_MAX];
} GsOid;

/** A transaction id or call id: 16 random bytes. */
typedef struct
{
  guint8 bytes[GS_TXID_SIZE];
} GsTxId;

/**
 * An order-free checksum over all refs of a repository: the sum modulo 2^256 (little endian) of
 * SHA-256 ("<name>\0<hex value>\n") over each ref, and of SHA-256 ("HEAD\0ref: <target>\n") for HEAD.
 * Empty repositories hold HEAD's term alone. See docs/on-disk.md.
 */
typedef struct
{
  guint8 bytes[GS_DIGEST_SIZE];
} GsDigest;

/** @sum += @term modulo 2^256. */
static inline void
gs_digest_add (GsDigest *sum, const GsDigest *term)
{
  guint carry = 0;
  for (int i = 0; i < GS_DIGEST_SIZE; i++)
    {
      carry += (guint) sum->bytes[i] + term->bytes[i];
      sum->bytes[i] = (guint8) carry;
      carry >>= 8;
    }
}

/** @sum -= @term modulo 2^256. */
static inline void
gs_digest_sub (GsDigest *sum, const GsDigest *term)
{
  gint borrow = 0;
  for (int i = 0; i < GS_DIGEST_SIZE; i++)
    {
      gint value = (gint) sum->bytes[i] - term->bytes[i] - borrow;
      borrow = value < 0;
      sum->bytes[i] = (guint8) value;
    }
}

/** Writes @len bytes as lower-case hex and a NUL; @ret_hex has room for 2 * len + 1. */
static inline void
gs_hex (const guint8 *bytes, gsize len, char *ret_hex)
{
  static const char digits[] = "0123456789abcdef";
  for (gsize i = 0; i < len; i++)
    {
      ret_hex[2 * i] = digits[bytes[i] >> 4];
      ret_hex[2 * i + 1] = digits[bytes[i] & 15];
    }
  ret_hex[2 * len] = '\0';
}

/** Reads 2 * @len hex digits (either case). FALSE, @ret_bytes undefined, when one is not a hex digit. */
static inline gboolean
gs_unhex (const char *hex, gsize len, guint8 *ret_bytes)
{
  for (gsize i = 0; i < len; i++)
    {
      int high = g_ascii_xdigit_value (hex[2 * i]);
      int low = high < 0 ? -1 : g_ascii_xdigit_value (hex[2 * i + 1]);
      if (low < 0)
        return FALSE;
      ret_bytes[i] = (guint8) (high << 4 | low);
    }
  return TRUE;
}

static inline void
gs_oid_hex (const GsOid *oid, char ret_hex[GS_OID_HEX_MAX + 1])
{
  gs_hex (oid->raw, oid->len, ret_hex);
}

/** Parses exactly 40 or 64 hex digits of @hex (@hex_len says how many there are). */
static inline gboolean
gs_oid_parse (const char *hex, gsize hex_len, GsOid *ret_oid)
{
  GsOid oid;
  if (hex_len != 40 && hex_len != 64)
    return FALSE;
  memset (&oid, 0, sizeof oid);
  oid.len = (guint8) (hex_len / 2);
  if (!gs_unhex (hex, oid.len, oid.raw))
    return FALSE;
  *ret_oid = oid;
  return TRUE;
}

/** TRUE for "no id" and for Git's all-zero id. */
static inline gboolean
gs_oid_is_zero (const GsOid *oid)
{
  for (guint i = 0; i < oid->len; i++)
    if (oid->raw[i] != 0)
      return FALSE;
  return TRUE;
}

static inline gboolean
gs_oid_equal (const GsOid *a, const GsOid *b)
{
  return a->len == b->len && memcmp (a->raw, b->raw, a->len) == 0;
}

/* ---------------------------------------------------------------------------------------- callers */

/** What a token may do. A greater one includes the smaller. */
typedef enum
{
  GS_SCOPE_NONE = 0,
  GS_SCOPE_READ = 1,
  GS_SCOPE_WRITE = 2,
  GS_SCOPE_ADMIN = 3
} GsScope;

/** Who is calling, as the access plugin found out. Immutable; owned by the call. */
typedef struct
{
  guint32 size;          /* sizeof (GsIdentity) of whoever made it */
  const char *name;      /* for logs and the audit log: a token's name, "uid:1000", "anonymous" */
  GsScope scope;
  const char *prefix;    /* repository paths this caller may name; "" = all */
} GsIdentity;

/**
 * One call, from the client to the last child process it starts.
 *
 * Owned by the core and valid until the slot that got it returns: a transaction's commit or abort gets one
 * of its own, which may be another. Slots that block look at @deadline_us and the cancel flag.
 */
typedef struct GsCall GsCall;
struct GsCall
{
  guint32 size;
  GsTxId id;                   /* call id: correlation and idempotency key */
  gint64 deadline_us;          /* absolute, monotonic; G_MAXINT64 = none */
  const GsIdentity *identity;  /* borrowed until the call ends */
  const char *peer;            /* where it came from, for logs: "http 127.0.0.1:5123" */
  gint cancelled;              /* atomic; read it through gs_call_cancelled */
  /**
   * A file descriptor that becomes readable when the call is cancelled (never read it; poll it).
   * Made on first use, owned by the call. -1 when none can be had: then look at the flag in turns.
   */
  int (*cancel_fd) (GsCall *call);
};

static inline gboolean
gs_call_cancelled (const GsCall *call)
{
  return __atomic_load_n (&call->cancelled, __ATOMIC_ACQUIRE) != 0;
}

/** FALSE with CANCELLED or DEADLINE_EXCEEDED when the call should stop. @doing names the work. */
static inline gboolean
gs_call_check (const GsCall *call, const char *doing, GError **error)
{
  if (gs_call_cancelled (call))
    return gs_fail (error, GS_ERROR_CANCELLED, "%s: the caller went away or cancelled", doing);
  if (call->deadline_us != G_MAXINT64 && g_get_monotonic_time () >= call->deadline_us)
    return gs_fail (error, GS_ERROR_DEADLINE_EXCEEDED, "%s: the call's time was up", doing);
  return TRUE;
}

/* ----------------------------------------------------------------------------------- repositories */

/** A replica as a storage plugin sees it. Borrowed until the slot returns. */
typedef struct
{
  guint32 size;
  guint64 id;               /* the repository's id, never reused; 0 is no id */
  const char *replica_path; /* relative to the storage's root, made by the core from the id */
} GsRepo;

/** How far a replica is: what stands in its own directory (docs/on-disk.md). */
typedef struct
{
  guint32 size;
  guint64 repository_id;
  guint64 generation;     /* every decided write up to here is applied */
  GsDigest refs_digest;   /* of the refs as they are now */
  GsObjectFormat format;
  guint32 writers;        /* writes that are being staged there, or are staged, right now */
} GsReplicaState;

/* ------------------------------------------------------------------------------------------ refs */

/**
 * One reference. @name and @symref_target are borrowed until the callback that got it returns.
 * HEAD is listed as name "HEAD" with @symref_target set; its @oid has len 0 while it is unborn.
 */
typedef struct
{
  guint32 size;
  const char *name;
  GsOid oid;
  GsOid peeled;              /* len 0 unless the ref is an annotated tag; fully peeled */
  const char *symref_target; /* NULL unless symbolic */
} GsRef;

/**
 * One requested change of one ref.
 *
 * @old_oid: len 0 = do not look; all-zero = must not exist; else must be the present value.
 * @new_oid: all-zero = delete; else create or move. For HEAD, @new_symref names the new target
 * and both ids have len 0.
 */
typedef struct
{
  const char *name;
  GsOid old_oid;
  GsOid new_oid;
  const char *new_symref; /* only for "HEAD" */
} GsRefUpdate;

/** What became of one update of a change set. @reason is NULL when it is accepted. */
typedef struct
{
  GsErrorCode code; /* GS_OK, or why this one was refused */
  char *reason;     /* short, as git prints it after "! [remote rejected]" */
} GsRefVerdict;

/* ---------------------------------------------------------------------------------------- streams */

/**
 * Bulk bytes both ways, made by a transport, used by whoever carries the call out.
 *
 * The input is @head followed by what open_input's descriptor gives; with @complete, @head is all.
 * End of file on the input means END only while the call is not cancelled: a transport cancels the
 * call *before* it closes a broken connection's descriptor, so look at gs_call_cancelled after EOF.
 *
 * Either send_all is called once or open_output once, never both. Threads: one at a time.
 * The descriptors are ordinary pollable ones (pipes or sockets), blocking, close-on-exec, owned by
 * the receiver (*full*), so a child process can have them directly: back-pressure is the kernel's.
 */
typedef struct GsStream GsStream;
struct GsStream
{
  guint32 size;
  GBytes *head;      /* borrowed until the call ends; never NULL */
  gboolean complete; /* no more input after head */
  /**
   * Called by the core when the call passed all checks. TRUE: bytes may flow now. FALSE: the
   * transport will call host->call_ready when its peer has connected (or cancel the call).
   */
  gboolean (*accept) (GsStream *stream);
  /** *full*; -1 with @error on failure. At end of input the descriptor gives EOF. */
  int (*open_input) (GsStream *stream, GError **error);
  /** *full*; -1 with @error. Closing it ends the output; the call's outcome says whether it was whole. */
  int (*open_output) (GsStream *stream, GError **error);
  /** The whole output in one piece; @bytes is borrowed (the transport takes its own reference). */
  gboolean (*send_all) (GsStream *stream, GBytes *bytes, GError **error);
};

/* ------------------------------------------------------------------------------------ log fields */

typedef enum
{
  GS_LOG_ERROR = 0,
  GS_LOG_WARNING = 1,
  GS_LOG_INFO = 2,
  GS_LOG_DEBUG = 3
} GsLogLevel;

/**
 * One field of a log record. Exactly one of @text and @number counts: @number when @text is NULL.
 * Rows of arrays are frozen: this struct never grows.
 */
typedef struct
{
  const char *key;
  const char *text;
  gint64 number;
} GsField;

static inline GsField
gs_field_text (const char *key, const char *text)
{
  GsField field;
  field.key = key;
  field.text = text != NULL ? text : "";
  field.number = 0;
  return field;
}

static inline GsField
gs_field_number (const char *key, gint64 number)
{
  GsField field;
  field.key = key;
  field.text = NULL;
  field.number = number;
  return field;
}

#define GS_TEXT(key_, text_) gs_field_text ((key_), (text_))
#define GS_NUMBER(key_, number_) gs_field_number ((key_), (gint64) (number_))

/* --------------------------------------------------------------------------------- growing structs */

/** Does @table (a struct that begins with or has @size) reach as far as @member? */
#define GS_HAS(table_, size_, type_, member_)                                                      \
  ((size_) >= G_STRUCT_OFFSET (type_, member_) + sizeof (((type_ *) (table_))->member_))

G_END_DECLS

#endif
