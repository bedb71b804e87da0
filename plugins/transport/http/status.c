/* SPDX-License-Identifier: Apache-2.0 */
/* status.c - error codes as HTTP statuses, and words for people. */
#include "http.h"

guint
http_status_of (GsErrorCode code, gboolean anonymous)
{
  switch (code)
    {
    case GS_OK:
      return 200;
    case GS_ERROR_INVALID_ARGUMENT:
    case GS_ERROR_OUT_OF_RANGE:
      return 400;
    case GS_ERROR_UNAUTHENTICATED:
      return 401;
    case GS_ERROR_PERMISSION_DENIED:
      /* Whoever showed nothing yet is asked to; git then asks its credential helpers. */
      return anonymous ? 401 : 403;
    case GS_ERROR_NOT_FOUND:
      return 404;
    case GS_ERROR_ALREADY_EXISTS:
    case GS_ERROR_FAILED_PRECONDITION:
    case GS_ERROR_ABORTED:
      return 409;
    case GS_ERROR_UNIMPLEMENTED:
      return 501;
    case GS_ERROR_BUSY:
    case GS_ERROR_UNAVAILABLE:
    case GS_ERROR_CANCELLED:
      return 503;
    case GS_ERROR_DEADLINE_EXCEEDED:
      return 504;
    default:
      return 500;
    }
}

GsErrorCode
http_code_of (guint status)
{
  switch (status)
    {
    case 401:
      return GS_ERROR_UNAUTHENTICATED;
    case 403:
      return GS_ERROR_PERMISSION_DENIED;
    case 404:
      return GS_ERROR_NOT_FOUND;
    case 413:
      return GS_ERROR_OUT_OF_RANGE;
    case 405:
    case 415:
    case 417:
    case 501:
      return GS_ERROR_UNIMPLEMENTED;
    case 503:
      return GS_ERROR_UNAVAILABLE;
    case 504:
      return GS_ERROR_DEADLINE_EXCEEDED;
    default:
      return status < 500 ? GS_ERROR_INVALID_ARGUMENT : GS_ERROR_INTERNAL;
    }
}

const char *
http_hint_of (guint status)
{
  switch (status)
    {
    case 401:
      return "Use a token as the password, with any user name.";
    case 403:
      return "The token does not allow this; ask an administrator for one that does.";
    case 413:
      return "Send less at once.";
    case 503:
      return "Nothing was done. Try again in a moment.";
    case 504:
      return "It may or may not have been done. Look, then try again.";
    default:
      return NULL;
    }
}

static void
append_json_string (GString *out, const char *text)
{
  g_autofree char *valid = g_utf8_make_valid (text, -1);
  g_string_append_c (out, '"');
  for (const char *c = valid; *c != '\0'; c++)
    {
      if (*c == '"' || *c == '\\')
        g_string_append_printf (out, "\\%c", *c);
      else if ((guint8) *c < 0x20 || *c == 0x7f)
        g_string_append_printf (out, "\\u%04x", (guint8) *c);
      else
        g_string_append_c (out, *c);
    }
  g_string_append_c (out, '"');
}

GBytes *
http_error_json (GsErrorCode code, GsRetry retry, gint64 retry_after_us, const char *message, GBytes *details)
{
  static const char *const retries[] = { "never", "same", "new" };
  GString *out = g_string_new (NULL);
  g_string_append_printf (out, "{\"code\":\"%s\",\"message\":", gs_error_name (code));
  append_json_string (out, message);
  g_string_append_printf (out, ",\"retry\":\"%s\"", retries[(guint) retry < G_N_ELEMENTS (retries) ? retry : 0]);
  if (retry_after_us > 0)
    g_string_append_printf (out, ",\"retry_after_ms\":%" G_GINT64_FORMAT, (retry_after_us + 999) / 1000);
  if (details != NULL)
    {
      gsize len;
      const char *list = g_bytes_get_data (details, &len);
      g_string_append (out, ",\"details\":");
      g_string_append_len (out, list, (gssize) len);
    }
  g_string_append (out, "}\n");
  return g_string_free_to_bytes (out);
}

char *
http_escape (const char *text)
{
  GString *out = g_string_new (NULL);
  for (gsize i = 0; text[i] != '\0' && i < 1024; i++)
    {
      guint8 c = (guint8) text[i];
      if (c < 0x20 || c >= 0x7f || c == '\\')
        g_string_append_printf (out, "\\x%02x", c);
      else
        g_string_append_c (out, (char) c);
    }
  return g_string_free (out, FALSE);
}
