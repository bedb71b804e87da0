/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to JSON text. See json.h. */
#include "base/text.h"
#include "json.h"

#include <math.h>

/* Every JSON reader keeps whole numbers up to here; beyond, many round. */
#define EXACT_MAX (G_GINT64_CONSTANT (1) << 53)
#define MASKED "\"***\""

typedef struct
{
  const GsiMethods *methods;
  GsiJsonFlags flags;
  GString *out;
  guint depth;
} Writer;

static void write_message (Writer *writer, const ProtobufCMessage *message);

static void
new_line (Writer *writer)
{
  if (!(writer->flags & GSI_JSON_PRETTY))
    return;
  g_string_append_c (writer->out, '\n');
  for (guint i = 0; i < writer->depth; i++)
    g_string_append (writer->out, "  ");
}

/* Text that people can read: a file's lines count, what drives a terminal does not. */
static gboolean
is_text (const ProtobufCBinaryData *bytes)
{
  if (!g_utf8_validate_len ((const char *) bytes->data, bytes->len, NULL))
    return FALSE;
  for (gsize i = 0; i < bytes->len; i++)
    {
      guint8 c = bytes->data[i];
      if ((c < 0x20 && c != '\n' && c != '\t' && c != '\r') || c == 0x7f)
        return FALSE;
      if (c == 0xc2 && i + 1 < bytes->len && bytes->data[i + 1] < 0xa0)
        return FALSE; /* U+0080 to U+009F */
    }
  return TRUE;
}

static void
write_bytes (Writer *writer, const ProtobufCFieldDescriptor *field, const ProtobufCBinaryData *bytes)
{
  GString *out = writer->out;
  if (bytes->len == 0)
    g_string_append (out, "\"\"");
  else if (gsi_methods_field (writer->methods, field) & GSI_FIELD_HEX)
    {
      gsize at = out->len + 1;
      g_string_append_c (out, '"');
      g_string_set_size (out, at + 2 * bytes->len);
      gs_hex (bytes->data, bytes->len, out->str + at);
      g_string_append_c (out, '"');
    }
  else if (is_text (bytes))
    gsi_text_append_json (out, (const char *) bytes->data, (gssize) bytes->len);
  else
    {
      g_autofree char *base64 = g_base64_encode (bytes->data, bytes->len);
      g_string_append_printf (out, "{\"base64\":%s\"", writer->flags & GSI_JSON_PRETTY ? " " : "");
      g_string_append (out, base64);
      g_string_append (out, "\"}");
    }
}

static void
write_signed (GString *out, gint64 value)
{
  gboolean exact = value <= EXACT_MAX && value >= -EXACT_MAX;
  g_string_append_printf (out, exact ? "%" G_GINT64_FORMAT : "\"%" G_GINT64_FORMAT "\"", value);
}

static void
write_unsigned (GString *out, guint64 value)
{
  gboolean exact = value <= (guint64) EXACT_MAX;
  g_string_append_printf (out, exact ? "%" G_GUINT64_FORMAT : "\"%" G_GUINT64_FORMAT "\"", value);
}

static void
write_real (GString *out, double value)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];
  if (isnan (value))
    g_string_append (out, "\"NaN\"");
  else if (isinf (value))
    g_string_append (out, value < 0 ? "\"-Infinity\"" : "\"Infinity\"");
  else
    g_string_append (out, g_ascii_dtostr (text, sizeof text, value));
}

static void
write_enum (GString *out, const ProtobufCEnumDescriptor *descriptor, int value)
{
  const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value (descriptor, value);
  if (known != NULL)
    g_string_append_printf (out, "\"%s\"", known->name);
  else
    g_string_append_printf (out, "%d", value);
}

static void
write_value (Writer *writer, const ProtobufCFieldDescriptor *field, gconstpointer member)
{
  GString *out = writer->out;
  switch (field->type)
    {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
      write_signed (out, *(const gint32 *) member);
      break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
      write_unsigned (out, *(const guint32 *) member);
      break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
      write_signed (out, *(const gint64 *) member);
      break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
      write_unsigned (out, *(const guint64 *) member);
      break;
    case PROTOBUF_C_TYPE_FLOAT:
      write_real (out, *(const float *) member);
      break;
    case PROTOBUF_C_TYPE_DOUBLE:
      write_real (out, *(const double *) member);
      break;
    case PROTOBUF_C_TYPE_BOOL:
      g_string_append (out, *(const protobuf_c_boolean *) member ? "true" : "false");
      break;
    case PROTOBUF_C_TYPE_ENUM:
      write_enum (out, field->descriptor, *(const int *) member);
      break;
    case PROTOBUF_C_TYPE_STRING:
      gsi_text_append_json (out, *(char *const *) member ? *(char *const *) member : "", -1);
      break;
    case PROTOBUF_C_TYPE_BYTES:
      write_bytes (writer, field, member);
      break;
    case PROTOBUF_C_TYPE_MESSAGE:
      write_message (writer, *(ProtobufCMessage *const *) member);
      break;
    }
}

gsize
gsi_json_member_size (ProtobufCType type)
{
  switch (type)
    {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
      return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
      return sizeof (gpointer);
    case PROTOBUF_C_TYPE_BYTES:
      return sizeof (ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
      return sizeof (protobuf_c_boolean);
    default:
      return 4;
    }
}

static void
write_array (Writer *writer, const ProtobufCFieldDescriptor *field, const guint8 *members, gsize n)
{
  gsize size = gsi_json_member_size (field->type);
  if (n == 0)
    {
      g_string_append (writer->out, "[]");
      return;
    }
  g_string_append_c (writer->out, '[');
  writer->depth++;
  for (gsize i = 0; i < n; i++)
    {
      if (i > 0)
        g_string_append_c (writer->out, ',');
      new_line (writer);
      write_value (writer, field, members + i * size);
    }
  writer->depth--;
  new_line (writer);
  g_string_append_c (writer->out, ']');
}

static gboolean
is_default (const ProtobufCFieldDescriptor *field, gconstpointer member)
{
  static const guint8 zeros[8];
  switch (field->type)
    {
    case PROTOBUF_C_TYPE_STRING:
      return *(char *const *) member == NULL || **(char *const *) member == '\0';
    case PROTOBUF_C_TYPE_BYTES:
      return ((const ProtobufCBinaryData *) member)->len == 0;
    default:
      return memcmp (member, zeros, gsi_json_member_size (field->type)) == 0;
    }
}

/* Is there something to write? A message that is absent is left out even where defaults are wanted. */
static gboolean
is_shown (const Writer *writer, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
  const guint8 *base = (const guint8 *) message;
  gboolean defaults = (writer->flags & GSI_JSON_DEFAULTS) != 0;
  if (field->label == PROTOBUF_C_LABEL_REPEATED)
    return defaults || *(const gsize *) (base + field->quantifier_offset) > 0;
  if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
    return *(const guint32 *) (base + field->quantifier_offset) == field->id;
  if (field->type == PROTOBUF_C_TYPE_MESSAGE)
    return *(ProtobufCMessage *const *) (base + field->offset) != NULL;
  return defaults || !is_default (field, base + field->offset);
}

static void
write_message (Writer *writer, const ProtobufCMessage *message)
{
  const ProtobufCMessageDescriptor *descriptor = message->descriptor;
  const guint8 *base = (const guint8 *) message;
  gboolean any = FALSE;
  g_string_append_c (writer->out, '{');
  writer->depth++;
  for (guint i = 0; i < descriptor->n_fields; i++)
    {
      const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
      if (!is_shown (writer, message, field))
        continue;
      if (any)
        g_string_append_c (writer->out, ',');
      any = TRUE;
      new_line (writer);
      g_string_append_printf (writer->out, "\"%s\":%s", field->name, writer->flags & GSI_JSON_PRETTY ? " " : "");
      if ((writer->flags & GSI_JSON_MASK) && (gsi_methods_field (writer->methods, field) & GSI_FIELD_SENSITIVE))
        g_string_append (writer->out, MASKED);
      else if (field->label == PROTOBUF_C_LABEL_REPEATED)
        write_array (writer, field, *(const guint8 *const *) (base + field->offset),
                     *(const gsize *) (base + field->quantifier_offset));
      else
        write_value (writer, field, base + field->offset);
    }
  writer->depth--;
  if (any)
    new_line (writer);
  g_string_append_c (writer->out, '}');
}

char *
gsi_json_write (const GsiMethods *methods, const ProtobufCMessage *message, GsiJsonFlags flags, gsize *ret_len)
{
  Writer writer = { methods, flags, g_string_sized_new (256), 0 };
  write_message (&writer, message);
  if (ret_len != NULL)
    *ret_len = writer.out->len;
  return g_string_free (writer.out, FALSE);
}
