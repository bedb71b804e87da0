/* SPDX-License-Identifier: Apache-2.0 */
/* The details of errors: see details.h. */
#include "details.h"

#define ARENA (64 * 1024) /* decoded, what GS_ERROR_DETAILS_MAX bytes can hold at most */

static gboolean
can_carry (GError **error)
{
  return error != NULL && *error != NULL && (*error)->domain == GS_ERROR;
}

/* "updates[2].old_oid" is about the third one. */
static guint32
entry_of (const char *field)
{
  const char *open = strchr (field, '[');
  char *end;
  guint64 index = open != NULL ? g_ascii_strtoull (open + 1, &end, 10) : 0;
  return open != NULL && end != open + 1 && *end == ']' && index < G_MAXUINT32 ? (guint32) index + 1 : 0;
}

gboolean
gs_detail_add (GError **error, const Gitstead__V1__ErrorDetail *entry)
{
  Gitstead__V1__ErrorDetails one = GITSTEAD__V1__ERROR_DETAILS__INIT;
  Gitstead__V1__ErrorDetail whole = *entry, *entries[] = { &whole };
  g_autofree char *field = g_utf8_make_valid (entry->field, -1), *expected = g_utf8_make_valid (entry->expected, -1),
                  *actual = g_utf8_make_valid (entry->actual, -1), *reason = g_utf8_make_valid (entry->reason, -1);
  g_autofree guint8 *bytes = NULL;
  const guint8 *before;
  gsize n_before, n_bytes;
  if (!can_carry (error))
    return FALSE;
  whole.field = field;
  whole.expected = expected;
  whole.actual = actual;
  whole.reason = reason;
  if (whole.status == GS_OK)
    whole.status = (guint32) (*error)->code;
  if (whole.entry == 0)
    whole.entry = entry_of (field);
  one.entries = entries;
  one.n_entries = 1;
  before = gs_error_details (*error, &n_before);
  n_bytes = gitstead__v1__error_details__get_packed_size (&one);
  if (n_before + n_bytes > GS_ERROR_DETAILS_MAX)
    return FALSE;
  /* Two encoded messages behind each other are one message that has the entries of both. */
  bytes = g_malloc (n_before + n_bytes);
  if (n_before > 0)
    memcpy (bytes, before, n_before);
  gitstead__v1__error_details__pack (&one, bytes + n_before);
  gs_error_set_details (*error, bytes, n_before + n_bytes);
  return FALSE;
}

gboolean
gs_detail_field (GError **error, const char *field)
{
  Gitstead__V1__ErrorDetail entry = GITSTEAD__V1__ERROR_DETAIL__INIT;
  entry.field = (char *) field;
  return gs_detail_add (error, &entry);
}

gboolean
gs_detail_name (GError **error, const char *type, const char *name)
{
  Gitstead__V1__ErrorDetail entry = GITSTEAD__V1__ERROR_DETAIL__INIT;
  entry.type = (char *) type;
  entry.name = (ProtobufCBinaryData){ strlen (name), (guint8 *) name };
  return gs_detail_add (error, &entry);
}

gboolean
gs_detail_differs (GError **error, const char *field, const char *type, const char *name, const char *expected,
                   const char *actual)
{
  Gitstead__V1__ErrorDetail entry = GITSTEAD__V1__ERROR_DETAIL__INIT;
  if (field != NULL)
    entry.field = (char *) field;
  entry.type = (char *) type;
  entry.name = (ProtobufCBinaryData){ strlen (name), (guint8 *) name };
  if (expected != NULL)
    entry.expected = (char *) expected;
  if (actual != NULL)
    entry.actual = (char *) actual;
  return gs_detail_add (error, &entry);
}

gboolean
gs_detail_limit (GError **error, const char *name, guint64 limit, guint64 value)
{
  Gitstead__V1__ErrorDetail entry = GITSTEAD__V1__ERROR_DETAIL__INIT;
  entry.type = (char *) "limit";
  entry.name = (ProtobufCBinaryData){ strlen (name), (guint8 *) name };
  entry.limit = limit;
  entry.value = value;
  return gs_detail_add (error, &entry);
}

const Gitstead__V1__ErrorDetails *
gs_details (const GError *error, GsArena *arena)
{
  gsize n_bytes;
  const guint8 *bytes = gs_error_details (error, &n_bytes);
  if (bytes == NULL)
    return NULL;
  return (gconstpointer) gs_wire_decode (arena, &gitstead__v1__error_details__descriptor, bytes, n_bytes, NULL);
}

void
gs_details_set (GError *error, const Gitstead__V1__ErrorDetails *details)
{
  g_autoptr (GBytes) bytes = details != NULL ? gs_wire_encode (&details->base) : NULL;
  gsize n_bytes = 0;
  const guint8 *data = bytes != NULL ? g_bytes_get_data (bytes, &n_bytes) : NULL;
  gs_error_set_details (error, data, n_bytes);
}

gboolean
gs_detail_below (GError **error, const char *field)
{
  g_autoptr (GsArena) arena = gs_arena_new (ARENA);
  const Gitstead__V1__ErrorDetails *details = can_carry (error) ? gs_details (*error, arena) : NULL;
  if (details == NULL)
    return FALSE;
  gs_error_set_details (*error, NULL, 0);
  for (gsize i = 0; i < details->n_entries; i++)
    {
      Gitstead__V1__ErrorDetail entry = *details->entries[i];
      g_autofree char *path = g_strconcat (field, entry.field[0] != '\0' ? "." : "", entry.field, NULL);
      entry.field = path;
      entry.entry = entry_of (path);
      gs_detail_add (error, &entry);
    }
  return FALSE;
}
