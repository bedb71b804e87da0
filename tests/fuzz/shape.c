/* SPDX-License-Identifier: Apache-2.0 */
/* See shape.h. */
#include "shape.h"

#include "rpc/json.h"

#include <string.h>

#define DEPTH_MAX 8
#define LIST_MAX 6

static const guint64 numbers[] = { 0, 1, 2, 3, 7, 10, 100, 1000, 1001, 65535, 0x7fffffff, 0x80000000, 0xffffffff,
                                   0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 1500000000, 33188 };

static guint
below (Shape *shape, guint n)
{
  return (guint) g_rand_int_range (shape->rand, 0, (gint32) MAX (n, 1));
}

static gpointer
take (Shape *shape, gsize n_bytes)
{
  gpointer memory = gs_arena_alloc (shape->arena, MAX (n_bytes, 1));
  g_assert (memory != NULL); /* the caller gave room enough */
  return memory;
}

static const char *
word (Shape *shape)
{
  guint n = 0;
  while (shape->words[n] != NULL)
    n++;
  return shape->words[below (shape, n)];
}

/* A word as it is, two of them, or one with a byte that does not belong. */
static ProtobufCBinaryData
some_bytes (Shape *shape, gboolean text)
{
  const char *first = word (shape), *second = below (shape, 4) == 0 ? word (shape) : "";
  ProtobufCBinaryData bytes = { strlen (first) + strlen (second), NULL };
  bytes.data = take (shape, bytes.len + 1);
  memcpy (bytes.data, first, strlen (first));
  memcpy (bytes.data + strlen (first), second, strlen (second));
  if (bytes.len > 0 && below (shape, 5) == 0)
    bytes.data[below (shape, (guint) bytes.len)] = (guint8) (text ? 1 + below (shape, 126) : below (shape, 256));
  if (below (shape, 12) == 0)
    bytes.len = below (shape, (guint) bytes.len + 1);
  bytes.data[bytes.len] = '\0';
  return bytes;
}

static void
set_scalar (Shape *shape, const ProtobufCFieldDescriptor *field, gpointer at)
{
  guint64 number = numbers[below (shape, G_N_ELEMENTS (numbers))];
  ProtobufCBinaryData bytes;
  switch (field->type)
    {
    case PROTOBUF_C_TYPE_STRING:
      bytes = some_bytes (shape, TRUE);
      *(char **) at = (char *) bytes.data;
      return;
    case PROTOBUF_C_TYPE_BYTES:
      *(ProtobufCBinaryData *) at = some_bytes (shape, FALSE);
      return;
    case PROTOBUF_C_TYPE_BOOL:
      *(protobuf_c_boolean *) at = below (shape, 2) == 0;
      return;
    case PROTOBUF_C_TYPE_ENUM:
      *(guint32 *) at = below (shape, 8) == 0 ? (guint32) number : below (shape, 10);
      return;
    default:
      number = below (shape, 2) == 0 ? below (shape, 20) : number;
      memcpy (at, &number, gsi_json_member_size (field->type)); /* little endian: the low bytes */
    }
}

static ProtobufCMessage *
new_message (Shape *shape, const ProtobufCFieldDescriptor *field)
{
  const ProtobufCMessageDescriptor *descriptor = field->descriptor;
  ProtobufCMessage *message = take (shape, descriptor->sizeof_message);
  protobuf_c_message_init (descriptor, message);
  return message;
}

/* Room for @n elements where there are *@count. */
static guint8 *
resize (Shape *shape, const ProtobufCFieldDescriptor *field, ProtobufCMessage *message, gsize n)
{
  gsize *count = (gsize *) ((guint8 *) message + field->quantifier_offset), size = gsi_json_member_size (field->type);
  guint8 **list = (guint8 **) ((guint8 *) message + field->offset), *room = take (shape, n * size);
  if (*count > 0)
    memcpy (room, *list, MIN (*count, n) * size);
  for (gsize i = *count; i < n; i++)
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
      ((ProtobufCMessage **) room)[i] = new_message (shape, field);
    else
      set_scalar (shape, field, room + i * size);
  *list = room;
  *count = n;
  return room;
}

static void
fill (Shape *shape, ProtobufCMessage *message, guint depth)
{
  for (unsigned i = 0; i < message->descriptor->n_fields; i++)
    {
      const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
      guint8 *at = (guint8 *) message + field->offset;
      ProtobufCMessage *inner = NULL;
      if (field->label == PROTOBUF_C_LABEL_REPEATED)
        {
          guint8 *list = resize (shape, field, message, 1 + below (shape, 2));
          inner = field->type == PROTOBUF_C_TYPE_MESSAGE ? *(ProtobufCMessage **) list : NULL;
        }
      else if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        inner = *(ProtobufCMessage **) at = new_message (shape, field);
      else if (below (shape, 3) != 0)
        set_scalar (shape, field, at);
      if (inner != NULL && depth < DEPTH_MAX)
        fill (shape, inner, depth + 1);
    }
}

void
shape_fill (Shape *shape, ProtobufCMessage *message)
{
  fill (shape, message, 0);
}

static void
change (Shape *shape, ProtobufCMessage *message, guint depth)
{
  const ProtobufCFieldDescriptor *field;
  ProtobufCMessage *inner = NULL;
  guint8 *at;
  if (message->descriptor->n_fields == 0 || depth > DEPTH_MAX)
    return;
  field = &message->descriptor->fields[below (shape, message->descriptor->n_fields)];
  at = (guint8 *) message + field->offset;
  if (field->label == PROTOBUF_C_LABEL_REPEATED)
    {
      gsize n = *(gsize *) ((guint8 *) message + field->quantifier_offset);
      if (n == 0 || below (shape, 4) == 0)
        {
          resize (shape, field, message, below (shape, 2) == 0 ? MIN (n + 1, LIST_MAX) : n - MIN (n, 1));
          return;
        }
      at = *(guint8 **) at + below (shape, (guint) n) * gsi_json_member_size (field->type);
    }
  if (field->type != PROTOBUF_C_TYPE_MESSAGE)
    {
      set_scalar (shape, field, at);
      return;
    }
  inner = *(ProtobufCMessage **) at;
  if (inner == NULL || below (shape, 16) == 0)
    inner = *(ProtobufCMessage **) at = new_message (shape, field);
  change (shape, inner, depth + 1);
}

void
shape_change (Shape *shape, ProtobufCMessage *message)
{
  change (shape, message, 0);
}
