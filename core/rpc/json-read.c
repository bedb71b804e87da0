/* SPDX-License-Identifier: Apache-2.0 */
/* JSON text to messages. See json.h. */
#include "base/text.h"
#include "json.h"

#include <jansson.h>
#include <math.h>
#include <wire/details.h>

/* The schema is a handful deep; a parser's stack is no place for a stranger's wishes. */
#define MAX_DEPTH 32
/* What jansson's tree may take beside the text: its nodes are many times larger than what they come from. */
#define MAX_TREE (16 * 1024 * 1024)
#define OBJECT_COST 320
#define MEMBER_COST 128
#define EXACT_MAX 9007199254740992.0

/* Where in the request we are, for messages. Lives on the stack of the reader. */
typedef struct Place Place;
struct Place
{
  const Place *parent;
  const char *field;
  gssize index; /* -1: not in an array */
};

typedef struct
{
  const GsiMethods *methods;
  GsArena *arena;
  GError **error;
} Reader;

static gboolean read_message (const Reader *reader, const Place *place, const ProtobufCMessageDescriptor *descriptor,
                              json_t *json, ProtobufCMessage **ret_message);

/* ------------------------------------------------------------------------------------------------ messages */

static void
append_place (GString *out, const Place *place)
{
  if (place == NULL)
    return;
  append_place (out, place->parent);
  if (out->len > 0)
    g_string_append_c (out, '.');
  g_string_append (out, place->field);
  if (place->index >= 0)
    g_string_append_printf (out, "[%" G_GSSIZE_FORMAT "]", place->index);
}

/* @place stands before the message, @field (NULL: it is no field's fault) is what programs are told. */
static gboolean G_GNUC_PRINTF (4, 5)
wrong_at (const Reader *reader, const Place *place, const Place *field, const char *format, ...)
{
  g_autoptr (GString) out = g_string_new (NULL), path = g_string_new (NULL);
  va_list args;
  append_place (out, place);
  g_string_append (out, out->len > 0 ? ": " : "the request: ");
  va_start (args, format);
  g_string_append_vprintf (out, format, args);
  va_end (args);
  gs_fail (reader->error, GS_ERROR_INVALID_ARGUMENT, "%s", out->str);
  append_place (path, field);
  return path->len > 0 && gs_detail_field (reader->error, path->str);
}

#define wrong(reader_, place_, ...) wrong_at (reader_, place_, place_, __VA_ARGS__)

static gpointer
take (const Reader *reader, gsize n_bytes)
{
  gpointer memory = gs_arena_alloc (reader->arena, n_bytes);
  if (memory == NULL)
    gs_fail (reader->error, GS_ERROR_OUT_OF_RANGE, "decoding the request would take more memory than one call may use");
  return memory;
}

static const char *
kind_of (const json_t *json)
{
  switch (json_typeof (json))
    {
    case JSON_OBJECT:
      return "an object";
    case JSON_ARRAY:
      return "an array";
    case JSON_STRING:
      return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
      return "a number";
    case JSON_NULL:
      return "null";
    default:
      return "a boolean";
    }
}

/* ------------------------------------------------------------------------------------------------- numbers */

/* Whole numbers come as numbers or, beyond what JavaScript keeps exactly, as strings of digits. */
static gboolean
read_signed (const Reader *reader, const Place *place, json_t *json, gint64 min, gint64 max, gint64 *ret_value)
{
  gint64 value;
  if (json_is_integer (json))
    value = json_integer_value (json);
  else if (json_is_real (json) && fabs (json_real_value (json)) <= EXACT_MAX
           && json_real_value (json) == floor (json_real_value (json)))
    value = (gint64) json_real_value (json);
  else if (!json_is_string (json))
    return wrong (reader, place, "wants a whole number, not %s",
                  json_is_real (json) ? "one with a fraction or that large" : kind_of (json));
  else if (!g_ascii_string_to_signed (json_string_value (json), 10, G_MININT64, G_MAXINT64, &value, NULL))
    return wrong (reader, place, "wants a whole number, not that string");
  if (value < min || value > max)
    return wrong (reader, place, "wants a number from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT, min, max);
  *ret_value = value;
  return TRUE;
}

static gboolean
read_unsigned (const Reader *reader, const Place *place, json_t *json, guint64 max, guint64 *ret_value)
{
  gint64 value;
  if (json_is_string (json))
    {
      if (!g_ascii_string_to_unsigned (json_string_value (json), 10, 0, max, ret_value, NULL))
        return wrong (reader, place, "wants a whole number from 0 to %" G_GUINT64_FORMAT ", not that string", max);
      return TRUE;
    }
  if (!read_signed (reader, place, json, G_MININT64, G_MAXINT64, &value))
    return FALSE;
  if (value < 0 || (guint64) value > max)
    return wrong (reader, place, "wants a number from 0 to %" G_GUINT64_FORMAT, max);
  *ret_value = (guint64) value;
  return TRUE;
}

static gboolean
read_real (const Reader *reader, const Place *place, json_t *json, double *ret_value)
{
  const char *text = json_string_value (json);
  if (json_is_number (json))
    *ret_value = json_number_value (json);
  else if (text != NULL && strcmp (text, "NaN") == 0)
    *ret_value = NAN;
  else if (text != NULL && strcmp (text, "Infinity") == 0)
    *ret_value = INFINITY;
  else if (text != NULL && strcmp (text, "-Infinity") == 0)
    *ret_value = -INFINITY;
  else
    return wrong (reader, place, "wants a number, not %s", kind_of (json));
  return TRUE;
}

static gboolean
read_enum (const Reader *reader, const Place *place, const ProtobufCEnumDescriptor *descriptor, json_t *json,
           int *ret_value)
{
  const char *name = json_string_value (json), *near;
  const ProtobufCEnumValue *known;
  g_autofree const char **names = NULL;
  gint64 number;
  if (name == NULL)
    {
      if (!read_signed (reader, place, json, G_MININT32, G_MAXINT32, &number))
        return FALSE;
      *ret_value = (int) number;
      return TRUE;
    }
  known = protobuf_c_enum_descriptor_get_value_by_name (descriptor, name);
  if (known != NULL)
    {
      *ret_value = known->value;
      return TRUE;
    }
  names = g_new0 (const char *, descriptor->n_values);
  for (guint i = 0; i < descriptor->n_values; i++)
    names[i] = descriptor->values[i].name;
  near = gsi_text_nearest (name, names, descriptor->n_values);
  if (near == NULL && descriptor->n_values > 1)
    near = descriptor->values[1].name;
  return wrong (reader, place, "\"%.40s\" is none of %s's values; did you mean \"%s\"?", name, descriptor->short_name,
                near ? near : "");
}

/* ------------------------------------------------------------------------------------------- text and bytes */

static gboolean
read_string (const Reader *reader, const Place *place, json_t *json, char **ret_text)
{
  gsize len = json_string_length (json);
  char *text;
  if (!json_is_string (json))
    return wrong (reader, place, "wants a string, not %s", kind_of (json));
  text = take (reader, len + 1);
  if (text == NULL)
    return FALSE;
  memcpy (text, json_string_value (json), len);
  text[len] = '\0';
  *ret_text = text;
  return TRUE;
}

/* Both alphabets, padding or not, and nothing else: GLib's decoder passes over what it does not know. */
static int
base64_digit (char c)
{
  if (c >= 'A' && c <= 'Z')
    return c - 'A';
  if (c >= 'a' && c <= 'z')
    return c - 'a' + 26;
  if (c >= '0' && c <= '9')
    return c - '0' + 52;
  return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

static gboolean
read_base64 (const Reader *reader, const Place *place, json_t *json, ProtobufCBinaryData *ret_bytes)
{
  json_t *value = json_object_get (json, "base64");
  const char *text = json_string_value (value);
  gsize n_digits = json_string_length (value), len = 0;
  guint32 bits = 0;
  guint8 *bytes;
  if (text == NULL || json_object_size (json) != 1)
    return wrong (reader, place, "wants a string, or {\"base64\": \"...\"} for bytes that are no text");
  for (gsize padding = 0; padding < 2 && n_digits > 0 && text[n_digits - 1] == '='; padding++)
    n_digits--;
  if (n_digits % 4 == 1)
    return wrong (reader, place, "the base64 text has an impossible length");
  bytes = take (reader, n_digits / 4 * 3 + 3);
  if (bytes == NULL)
    return FALSE;
  for (gsize i = 0; i < n_digits; i++)
    {
      int digit = base64_digit (text[i]);
      if (digit < 0)
        return wrong (reader, place, "the base64 text has a wrong character at %" G_GSIZE_FORMAT, i);
      bits = bits << 6 | (guint32) digit;
      if (i % 4 > 0)
        bytes[len++] = (guint8) (bits >> (6 - 2 * (i % 4)));
    }
  ret_bytes->data = bytes;
  ret_bytes->len = len;
  return TRUE;
}

static gboolean
read_bytes (const Reader *reader, const Place *place, const ProtobufCFieldDescriptor *field, json_t *json,
            ProtobufCBinaryData *ret_bytes)
{
  const char *text = json_string_value (json);
  gsize len = json_string_length (json);
  gboolean hex = (gsi_methods_field (reader->methods, field) & GSI_FIELD_HEX) != 0;
  guint8 *bytes;
  if (json_is_object (json))
    return read_base64 (reader, place, json, ret_bytes);
  if (text == NULL)
    return wrong (reader, place, "wants a string, not %s", kind_of (json));
  if (len == 0)
    return TRUE;
  bytes = take (reader, len);
  if (bytes == NULL)
    return FALSE;
  if (hex && (len % 2 != 0 || !gs_unhex (text, len / 2, bytes)))
    return wrong (reader, place, "wants hex digits, two for each byte");
  if (!hex)
    memcpy (bytes, text, len);
  ret_bytes->data = bytes;
  ret_bytes->len = hex ? len / 2 : len;
  return TRUE;
}

/* -------------------------------------------------------------------------------------------------- values */

static gboolean
read_value (const Reader *reader, const Place *place, const ProtobufCFieldDescriptor *field, json_t *json,
            gpointer member)
{
  gint64 number;
  guint64 count;
  double real;
  switch (field->type)
    {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
      if (!read_signed (reader, place, json, G_MININT32, G_MAXINT32, &number))
        return FALSE;
      *(gint32 *) member = (gint32) number;
      return TRUE;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
      if (!read_unsigned (reader, place, json, G_MAXUINT32, &count))
        return FALSE;
      *(guint32 *) member = (guint32) count;
      return TRUE;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
      return read_signed (reader, place, json, G_MININT64, G_MAXINT64, member);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
      return read_unsigned (reader, place, json, G_MAXUINT64, member);
    case PROTOBUF_C_TYPE_FLOAT:
      if (!read_real (reader, place, json, &real))
        return FALSE;
      *(float *) member = (float) real;
      return TRUE;
    case PROTOBUF_C_TYPE_DOUBLE:
      return read_real (reader, place, json, member);
    case PROTOBUF_C_TYPE_BOOL:
      if (!json_is_boolean (json))
        return wrong (reader, place, "wants true or false, not %s", kind_of (json));
      *(protobuf_c_boolean *) member = json_is_true (json);
      return TRUE;
    case PROTOBUF_C_TYPE_ENUM:
      return read_enum (reader, place, field->descriptor, json, member);
    case PROTOBUF_C_TYPE_STRING:
      return read_string (reader, place, json, member);
    case PROTOBUF_C_TYPE_BYTES:
      return read_bytes (reader, place, field, json, member);
    default:
      return read_message (reader, place, field->descriptor, json, member);
    }
}

static gboolean
read_array (const Reader *reader, Place *place, const ProtobufCFieldDescriptor *field, json_t *json, guint8 *base)
{
  gsize n = json_array_size (json), size = gsi_json_member_size (field->type);
  guint8 *members;
  if (!json_is_array (json))
    return wrong (reader, place, "wants an array, not %s", kind_of (json));
  if (n == 0)
    return TRUE;
  members = take (reader, n * size); /* n is bounded by the text's length */
  if (members == NULL)
    return FALSE;
  for (gsize i = 0; i < n; i++)
    {
      json_t *element = json_array_get (json, i);
      place->index = (gssize) i;
      if (json_is_null (element))
        return wrong (reader, place, "null is no element");
      if (field->type == PROTOBUF_C_TYPE_STRING)
        *(char **) (members + i * size) = (char *) protobuf_c_empty_string;
      if (!read_value (reader, place, field, element, members + i * size))
        return FALSE;
    }
  *(gpointer *) (base + field->offset) = members;
  *(gsize *) (base + field->quantifier_offset) = n;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------------- objects */

/* "old_oid" is also "oldOid". */
static gboolean
is_named (const char *name, const char *key)
{
  if (strcmp (name, key) == 0)
    return TRUE;
  for (; *name != '\0'; name++, key++)
    {
      char c = *name;
      if (c == '_' && name[1] != '\0')
        c = g_ascii_toupper (*++name);
      if (c != *key)
        return FALSE;
    }
  return *key == '\0';
}

static const ProtobufCFieldDescriptor *
find_field (const Reader *reader, const Place *place, const ProtobufCMessageDescriptor *descriptor, const char *key)
{
  g_autofree const char **names = NULL;
  const char *near;
  const Place here = { place, key, -1 };
  for (guint i = 0; i < descriptor->n_fields; i++)
    if (is_named (descriptor->fields[i].name, key))
      return &descriptor->fields[i];
  names = g_new0 (const char *, MAX (descriptor->n_fields, 1));
  for (guint i = 0; i < descriptor->n_fields; i++)
    names[i] = descriptor->fields[i].name;
  near = gsi_text_nearest (key, names, descriptor->n_fields);
  wrong_at (reader, place, &here, "%s has no field \"%.60s\"%s%s%s", descriptor->short_name, key,
            near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
  return NULL;
}

static gboolean
read_field (const Reader *reader, const Place *parent, const ProtobufCFieldDescriptor *field, json_t *json,
            guint8 *base)
{
  Place place = { parent, field->name, -1 };
  if (json_is_null (json))
    return TRUE; /* as if it were not there */
  if (field->label == PROTOBUF_C_LABEL_REPEATED)
    return read_array (reader, &place, field, json, base);
  if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
    {
      guint32 *which = (guint32 *) (base + field->quantifier_offset);
      if (*which != 0)
        return wrong (reader, &place, "another field of its choice is set already");
      *which = field->id;
      if (field->type == PROTOBUF_C_TYPE_STRING)
        *(char **) (base + field->offset) = (char *) protobuf_c_empty_string;
    }
  return read_value (reader, &place, field, json, base + field->offset);
}

static gboolean
read_message (const Reader *reader, const Place *place, const ProtobufCMessageDescriptor *descriptor, json_t *json,
              ProtobufCMessage **ret_message)
{
  g_autofree gboolean *seen = NULL;
  ProtobufCMessage *message;
  const char *key;
  json_t *value;
  if (!json_is_object (json))
    return wrong (reader, place, "wants an object, not %s", kind_of (json));
  message = take (reader, descriptor->sizeof_message);
  if (message == NULL)
    return FALSE;
  protobuf_c_message_init (descriptor, message);
  seen = g_new0 (gboolean, MAX (descriptor->n_fields, 1));
  json_object_foreach (json, key, value)
  {
    const ProtobufCFieldDescriptor *field = find_field (reader, place, descriptor, key);
    if (field == NULL)
      return FALSE;
    if (seen[field - descriptor->fields])
      return wrong (reader, place, "the field \"%s\" is there twice", field->name);
    seen[field - descriptor->fields] = TRUE;
    if (!read_field (reader, place, field, value, (guint8 *) message))
      return FALSE;
  }
  *ret_message = message;
  return TRUE;
}

/* -------------------------------------------------------------------------------------------------- the text */

/* Bounds what the parser will build, before it builds it. */
static gboolean
check_shape (const Reader *reader, const char *text, gsize len)
{
  gsize depth = 0, cost = 0;
  gboolean in_string = FALSE;
  for (gsize i = 0; i < len; i++)
    {
      char c = text[i];
      if (in_string)
        {
          if (c == '\\')
            i++;
          else if (c == '"')
            in_string = FALSE;
          continue;
        }
      if (c == '"')
        in_string = TRUE;
      else if (c == '{' || c == '[')
        {
          cost += OBJECT_COST;
          if (++depth > MAX_DEPTH)
            return wrong (reader, NULL, "nested more than %d deep", MAX_DEPTH);
        }
      else if ((c == '}' || c == ']') && depth > 0)
        depth--;
      else if (c == ',' || c == ':')
        cost += MEMBER_COST;
    }
  if (cost > MAX_TREE)
    return gs_fail (reader->error, GS_ERROR_OUT_OF_RANGE,
                    "decoding the request would take more memory than one call may use");
  return TRUE;
}

static gboolean
is_blank (const char *text, gsize len)
{
  for (gsize i = 0; i < len; i++)
    if (!g_ascii_isspace (text[i]))
      return FALSE;
  return TRUE;
}

ProtobufCMessage *
gsi_json_read (const GsiMethods *methods, GsArena *arena, const ProtobufCMessageDescriptor *descriptor,
               const char *text, gsize len, GError **error)
{
  const Reader reader = { methods, arena, error };
  ProtobufCMessage *message = NULL;
  json_error_t why;
  json_t *json;

  if (len == 0 || is_blank (text, len))
    {
      text = "{}";
      len = 2;
    }
  if (!check_shape (&reader, text, len))
    return NULL;
  json = json_loadb (text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
  if (json == NULL)
    {
      g_autofree char *valid = g_utf8_make_valid (why.text, -1);
      wrong (&reader, NULL, "not JSON: line %d, column %d: %s", why.line, why.column, valid);
      return NULL;
    }
  if (!read_message (&reader, NULL, descriptor, json, &message))
    message = NULL;
  json_decref (json);
  return message;
}
