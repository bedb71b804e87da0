/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded decoding. See wire.h. */
#include "wire.h"

#include "details.h"

#define ARENA_ALIGN 16
#define ARENA_BLOCK (8 * 1024)

typedef struct Block Block;
struct Block
{
  Block *next;
  gsize used, size;
  guint8 data[] __attribute__ ((aligned (ARENA_ALIGN)));
};

struct GsArena
{
  ProtobufCAllocator allocator;
  Block *blocks; /* the newest first */
  gsize left;    /* of the budget */
  gboolean spent; /* an allocation was refused: it was over the budget */
};

static void *
arena_pb_alloc (void *user, size_t n_bytes)
{
  return gs_arena_alloc (user, n_bytes);
}

static void
arena_pb_free (void *user, void *pointer)
{
  /* All memory goes at once, with the arena. */
}

GsArena *
gs_arena_new (gsize budget_bytes)
{
  GsArena *arena = g_new0 (GsArena, 1);
  arena->allocator.alloc = arena_pb_alloc;
  arena->allocator.free = arena_pb_free;
  arena->allocator.allocator_data = arena;
  arena->left = budget_bytes;
  return arena;
}

void
gs_arena_free (GsArena *arena)
{
  if (arena == NULL)
    return;
  while (arena->blocks != NULL)
    {
      Block *next = arena->blocks->next;
      g_free (arena->blocks);
      arena->blocks = next;
    }
  g_free (arena);
}

gpointer
gs_arena_alloc (GsArena *arena, gsize n_bytes)
{
  gsize need;
  Block *block = arena->blocks;
  gpointer result;

  if (n_bytes > arena->left || n_bytes > G_MAXSIZE / 2)
    {
      arena->spent = TRUE;
      return NULL;
    }
  need = (MAX (n_bytes, 1) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
  if (block == NULL || block->size - block->used < need)
    {
      gsize size = MAX (need, ARENA_BLOCK);
      block = g_try_malloc0 (sizeof *block + size);
      if (block == NULL)
        {
          arena->spent = TRUE;
          return NULL;
        }
      block->size = size;
      block->next = arena->blocks;
      arena->blocks = block;
    }
  result = block->data + block->used;
  block->used += need;
  arena->left -= MIN (arena->left, need);
  return result;
}

ProtobufCAllocator *
gs_arena_allocator (GsArena *arena)
{
  return &arena->allocator;
}

/* ------------------------------------------------------------------------------------ validation */

static gboolean check_message (const ProtobufCMessage *message, GError **error);

/* What is wrong in a member is wrong at a path from the message on. @index -1: there is one, or it is not known which. */
static gboolean
wrong_below (const ProtobufCFieldDescriptor *field, gssize index, GError **error)
{
  g_autofree char *path = index < 0 ? g_strdup (field->name) : g_strdup_printf ("%s[%" G_GSSIZE_FORMAT "]", field->name, index);
  return field->type == PROTOBUF_C_TYPE_MESSAGE ? gs_detail_below (error, path) : gs_detail_field (error, path);
}

static gboolean
check_string (const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, const char *text,
              GError **error)
{
  /* A NUL inside cuts the C string short; protobuf-c keeps no length, so the raw length is lost here.
   * decode below compares lengths by encoding the message again. */
  if (text != NULL && !g_utf8_validate (text, -1, NULL))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s.%s: not valid UTF-8", message->descriptor->short_name,
                    field->name);
  return TRUE;
}

static gboolean
check_member (const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, gconstpointer member,
              GError **error)
{
  if (field->type == PROTOBUF_C_TYPE_STRING)
    return check_string (message, field, *(char *const *) member, error);
  if (field->type == PROTOBUF_C_TYPE_MESSAGE && *(ProtobufCMessage *const *) member != NULL)
    return check_message (*(ProtobufCMessage *const *) member, error);
  return TRUE;
}

static gboolean
check_message (const ProtobufCMessage *message, GError **error)
{
  const ProtobufCMessageDescriptor *descriptor = message->descriptor;
  for (unsigned i = 0; i < descriptor->n_fields; i++)
    {
      const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
      const guint8 *base = (const guint8 *) message;
      if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE)
        continue;
      if (field->label == PROTOBUF_C_LABEL_REPEATED)
        {
          gsize n = *(const gsize *) (base + field->quantifier_offset);
          const gpointer *members = *(gpointer *const *) (base + field->offset);
          for (gsize k = 0; k < n; k++)
            if (!check_member (message, field, &members[k], error))
              return wrong_below (field, (gssize) k, error);
        }
      else if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
               && *(const guint32 *) (base + field->quantifier_offset) != field->id)
        continue;
      else if (!check_member (message, field, base + field->offset, error))
        return wrong_below (field, -1, error);
    }
  return TRUE;
}

/* -------------------------------------------------------------------- strings with a NUL, in the raw bytes */

typedef struct
{
  const guint8 *at, *end;
} Cursor;

static gboolean
cursor_varint (Cursor *cursor, guint64 *ret_value)
{
  guint64 value = 0;
  for (guint shift = 0; shift < 64 && cursor->at < cursor->end; shift += 7)
    {
      guint8 byte = *cursor->at++;
      value |= (guint64) (byte & 0x7f) << shift;
      if (!(byte & 0x80))
        {
          *ret_value = value;
          return TRUE;
        }
    }
  return FALSE;
}

/* The schema has no recursive message (a test sees to it), so the depth is the schema's own. */
static gboolean
check_raw (const ProtobufCMessageDescriptor *descriptor, const guint8 *bytes, gsize n_bytes, GError **error)
{
  Cursor cursor = { bytes, n_bytes > 0 ? bytes + n_bytes : bytes }; /* @bytes may be NULL for nothing */
  while (cursor.at < cursor.end)
    {
      guint64 tag, length = 0;
      const ProtobufCFieldDescriptor *field;
      if (!cursor_varint (&cursor, &tag))
        return FALSE;
      switch (tag & 7)
        {
        case 0:
          if (!cursor_varint (&cursor, &length))
            return FALSE;
          continue;
        case 1:
          length = 8;
          break;
        case 5:
          length = 4;
          break;
        case 2:
          if (!cursor_varint (&cursor, &length))
            return FALSE;
          break;
        default:
          return FALSE;
        }
      if (length > (guint64) (cursor.end - cursor.at))
        return FALSE;
      if ((tag & 7) == 2 && tag >> 3 <= G_MAXUINT32)
        {
          field = protobuf_c_message_descriptor_get_field (descriptor, (unsigned) (tag >> 3));
          if (field != NULL && field->type == PROTOBUF_C_TYPE_STRING && memchr (cursor.at, 0, length) != NULL)
            return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s.%s: contains a NUL byte", descriptor->short_name,
                            field->name)
                   || wrong_below (field, -1, error);
          if (field != NULL && field->type == PROTOBUF_C_TYPE_MESSAGE
              && !check_raw (field->descriptor, cursor.at, length, error))
            return wrong_below (field, -1, error);
        }
      cursor.at += length;
    }
  return TRUE;
}

ProtobufCMessage *
gs_wire_decode (GsArena *arena, const ProtobufCMessageDescriptor *descriptor, const guint8 *bytes, gsize n_bytes,
                GError **error)
{
  g_autoptr (GError) why = NULL;
  ProtobufCMessage *message;

  if (!check_raw (descriptor, bytes, n_bytes, &why))
    {
      if (why == NULL)
        gs_fail (&why, GS_ERROR_INVALID_ARGUMENT, "%s: %" G_GSIZE_FORMAT " bytes that are not such a message",
                 descriptor->short_name, n_bytes);
      g_propagate_error (error, g_steal_pointer (&why));
      return NULL;
    }
  message = protobuf_c_message_unpack (descriptor, &arena->allocator, n_bytes, bytes);
  if (message == NULL)
    {
      if (arena->spent)
        gs_fail (error, GS_ERROR_OUT_OF_RANGE, "%s: decoding it would take more memory than one call may use",
                 descriptor->short_name);
      else
        gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: %" G_GSIZE_FORMAT " bytes that are not such a message",
                 descriptor->short_name, n_bytes);
      return NULL;
    }
  return check_message (message, error) ? message : NULL;
}

GBytes *
gs_wire_encode (const ProtobufCMessage *message)
{
  gsize n_bytes = protobuf_c_message_get_packed_size (message);
  guint8 *bytes = g_malloc (MAX (n_bytes, 1));
  protobuf_c_message_pack (message, bytes);
  return g_bytes_new_take (bytes, n_bytes);
}
