/* SPDX-License-Identifier: Apache-2.0 */
/* The method table, from the embedded descriptor set. See methods.h. */
#include "methods.h"

#include "base/text.h"
#include "gitstead/v1/options.pb-c.h"
#include "google/protobuf/descriptor.pb-c.h"

#include <wire/methods.h>

typedef Google__Protobuf__FileDescriptorSet FileSet;
typedef Google__Protobuf__FileDescriptorProto FileProto;
typedef Google__Protobuf__DescriptorProto MessageProto;
typedef Google__Protobuf__FieldDescriptorProto FieldProto;

/* Numbers of the extensions in options.proto. */
#define OPTION_TARGET 50001
#define OPTION_SENSITIVE 50002
#define OPTION_HEX 50003

#define OUR_PACKAGE "gitstead."
#define REPOSITORY_MESSAGE "gitstead.v1.Repository"
/* Our own schema is a few dozen kilobytes; decoded it takes some hundreds. */
#define SET_BUDGET (16 * 1024 * 1024)

struct GsiMethods
{
  GsWireMethods *wire;     /* owns the names */
  GPtrArray *rows;         /* GsiMethod, ordered by number */
  GHashTable *by_number;   /* number -> GsiMethod */
  GHashTable *by_name;     /* name -> GsiMethod */
  GPtrArray *messages;     /* const ProtobufCMessageDescriptor, borrowed */
  GHashTable *by_message;  /* full name -> const ProtobufCMessageDescriptor */
  GHashTable *field_flags; /* const ProtobufCFieldDescriptor -> GsiFieldFlags; absent = 0 */
};

/* What exists only while the table is built. */
typedef struct
{
  GsiMethods *methods;
  GHashTable *protos; /* full name -> MessageProto: our messages as the set describes them */
} Build;

void
gsi_methods_free (GsiMethods *methods)
{
  if (methods == NULL)
    return;
  g_hash_table_unref (methods->by_number);
  g_hash_table_unref (methods->by_name);
  g_hash_table_unref (methods->by_message);
  g_hash_table_unref (methods->field_flags);
  g_ptr_array_unref (methods->rows);
  g_ptr_array_unref (methods->messages);
  gs_wire_methods_free (methods->wire);
  g_free (methods);
}

/* --------------------------------------------------------------------------------- options of the schema */

/* protobuf-c keeps options it was not generated with as unknown fields. The last one of a number counts. */
static const ProtobufCMessageUnknownField *
unknown_field (const ProtobufCMessage *options, guint32 number)
{
  for (guint i = options ? options->n_unknown_fields : 0; i > 0; i--)
    if (options->unknown_fields[i - 1].tag == number)
      return &options->unknown_fields[i - 1];
  return NULL;
}

static gboolean
bool_option (const ProtobufCMessage *options, guint32 number)
{
  const ProtobufCMessageUnknownField *field = unknown_field (options, number);
  return field != NULL && field->wire_type == PROTOBUF_C_WIRE_TYPE_VARINT && field->len > 0 && field->data[0] == 1;
}

static GsiFieldFlags
field_options (const FieldProto *field)
{
  const ProtobufCMessage *options = field->options ? &field->options->base : NULL;
  return (bool_option (options, OPTION_TARGET) ? GSI_FIELD_TARGET : 0)
         | (bool_option (options, OPTION_SENSITIVE) ? GSI_FIELD_SENSITIVE : 0)
         | (bool_option (options, OPTION_HEX) ? GSI_FIELD_HEX : 0);
}

/* ------------------------------------------------------------------------------------- rules for messages */

static gboolean
collect_messages (Build *build, const char *prefix, MessageProto *const *protos, gsize n, GError **error)
{
  for (gsize i = 0; i < n; i++)
    {
      MessageProto *proto = protos[i];
      g_autofree char *name = g_strconcat (prefix, ".", proto->name, NULL);
      if (proto->options != NULL && proto->options->has_map_entry && proto->options->map_entry)
        return gs_fail (error, GS_ERROR_INTERNAL, "schema: %s is the entry of a map<>: use a repeated message", name);
      for (gsize k = 0; k < proto->n_field; k++)
        if (proto->field[k]->has_proto3_optional && proto->field[k]->proto3_optional)
          return gs_fail (error, GS_ERROR_INTERNAL, "schema: %s.%s is `optional`: use a oneof or a message", name,
                          proto->field[k]->name);
      if (!collect_messages (build, name, proto->nested_type, proto->n_nested_type, error))
        return FALSE;
      g_hash_table_replace (build->protos, g_steal_pointer (&name), proto);
    }
  return TRUE;
}

#define WHITE 0
#define GREY 1
#define BLACK 2

/* Decoding recurses along the schema: a cycle would let a stranger choose the depth of our stack. */
static gboolean
check_recursion (Build *build, GHashTable *colours, const char *name, GError **error)
{
  const MessageProto *proto = g_hash_table_lookup (build->protos, name);
  guint colour = GPOINTER_TO_UINT (g_hash_table_lookup (colours, name));
  if (proto == NULL || colour == BLACK)
    return TRUE;
  if (colour == GREY)
    return gs_fail (error, GS_ERROR_INTERNAL, "schema: %s contains itself", name);
  g_hash_table_insert (colours, (gpointer) name, GUINT_TO_POINTER (GREY));
  for (gsize i = 0; i < proto->n_field; i++)
    if (proto->field[i]->type_name != NULL
        && !check_recursion (build, colours, proto->field[i]->type_name + 1, error))
      return FALSE;
  g_hash_table_insert (colours, (gpointer) name, GUINT_TO_POINTER (BLACK));
  return TRUE;
}

static gboolean
check_all_recursion (Build *build, GError **error)
{
  g_autoptr (GHashTable) colours = g_hash_table_new (g_str_hash, g_str_equal);
  GHashTableIter iter;
  gpointer name;
  g_hash_table_iter_init (&iter, build->protos);
  while (g_hash_table_iter_next (&iter, &name, NULL))
    if (!check_recursion (build, colours, name, error))
      return FALSE;
  return TRUE;
}

/* Enters @descriptor and all below it. The set has no cycle, and the code was generated from the set. */
static void
add_message (Build *build, const ProtobufCMessageDescriptor *descriptor)
{
  const MessageProto *proto = g_hash_table_lookup (build->protos, descriptor->name);
  if (!g_hash_table_insert (build->methods->by_message, (gpointer) descriptor->name, (gpointer) descriptor))
    return;
  g_ptr_array_add (build->methods->messages, (gpointer) descriptor);
  for (gsize i = 0; proto != NULL && i < proto->n_field; i++)
    {
      GsiFieldFlags flags = field_options (proto->field[i]);
      const ProtobufCFieldDescriptor *field
          = protobuf_c_message_descriptor_get_field (descriptor, (unsigned) proto->field[i]->number);
      if (field != NULL && flags != 0)
        g_hash_table_insert (build->methods->field_flags, (gpointer) field, GUINT_TO_POINTER (flags));
    }
  for (guint i = 0; i < descriptor->n_fields; i++)
    if (descriptor->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
      add_message (build, descriptor->fields[i].descriptor);
}

/* -------------------------------------------------------------------------------------- rules for methods */

/* The wire's table has seen to it that the marks fit the scope. */
static gboolean
find_target (GsiMethod *row, const GsWireMethod *wire, GError **error)
{
  const ProtobufCFieldDescriptor *field
      = wire->target ? protobuf_c_message_descriptor_get_field_by_name (row->request, wire->target) : NULL;
  if (wire->target == NULL)
    return TRUE;
  if (field == NULL || field->type != PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_REPEATED
      || (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0
      || strcmp (((const ProtobufCMessageDescriptor *) field->descriptor)->name, REPOSITORY_MESSAGE) != 0)
    return gs_fail (error, GS_ERROR_INTERNAL, "schema: %s: the target field %s is not a single %s", row->name,
                    wire->target, REPOSITORY_MESSAGE);
  row->target = field;
  return TRUE;
}

static gboolean
needed_scope (const GsWireMethod *wire, GsScope *ret_needs, GError **error)
{
  switch (wire->permission)
    {
    case GITSTEAD__V1__PERMISSION__BY_OPERATION:
      *ret_needs = wire->operation == GSI_ACCESSOR  ? GS_SCOPE_READ
                   : wire->operation == GSI_MUTATOR ? GS_SCOPE_WRITE
                                                    : GS_SCOPE_ADMIN;
      return TRUE;
    case GITSTEAD__V1__PERMISSION__NONE:
      *ret_needs = GS_SCOPE_NONE;
      return TRUE;
    case GITSTEAD__V1__PERMISSION__READ:
      *ret_needs = GS_SCOPE_READ;
      return TRUE;
    case GITSTEAD__V1__PERMISSION__WRITE:
      *ret_needs = GS_SCOPE_WRITE;
      return TRUE;
    case GITSTEAD__V1__PERMISSION__ADMIN:
    case GITSTEAD__V1__PERMISSION__CLUSTER: /* no client's scope is enough: see GsiMethod.cluster */
      *ret_needs = GS_SCOPE_ADMIN;
      return TRUE;
    default:
      return gs_fail (error, GS_ERROR_INTERNAL, "schema: %s has an unknown permission, %u", wire->name,
                      wire->permission);
    }
}

static gboolean
add_method (Build *build, const GsWireMethod *wire, GError **error)
{
  GsiMethod *row = g_new0 (GsiMethod, 1);
  row->name = wire->name;
  g_ptr_array_add (build->methods->rows, row); /* owned from here, whatever happens */
  if (strcmp (wire->request->name, wire->input) != 0 || strcmp (wire->reply->name, wire->output) != 0)
    return gs_fail (error, GS_ERROR_INTERNAL, "schema: the generated code does not match %s", row->name);
  if (wire->operation > GSI_MAINTENANCE || wire->scope > GSI_SCOPE_SERVER)
    return gs_fail (error, GS_ERROR_INTERNAL, "schema: %s has an unknown operation or scope", row->name);
  if (!needed_scope (wire, &row->needs, error))
    return FALSE;
  row->number = wire->number;
  row->operation = (GsiOperation) wire->operation;
  row->scope = (GsiScope) wire->scope;
  row->bytes_in = wire->bytes_in;
  row->bytes_out = wire->bytes_out;
  row->storage = wire->storage;
  row->cached = wire->cached;
  row->cluster = wire->permission == GITSTEAD__V1__PERMISSION__CLUSTER;
  row->timeout_us = (gint64) wire->timeout_ms * 1000;
  row->request = wire->request;
  row->reply = wire->reply;
  add_message (build, row->request);
  add_message (build, row->reply);
  if (!find_target (row, wire, error))
    return FALSE;
  if (row->storage && row->target == NULL)
    return gs_fail (error, GS_ERROR_INTERNAL, "schema: %s is a storage's, but names no repository", row->name);
  if (row->cached && (!row->storage || row->operation != GSI_ACCESSOR || row->bytes_in || row->bytes_out))
    return gs_fail (error, GS_ERROR_INTERNAL, "schema: %s is cached, but no accessor of a storage without bulk bytes", row->name);
  if (!g_hash_table_insert (build->methods->by_name, (gpointer) row->name, row))
    return gs_fail (error, GS_ERROR_INTERNAL, "schema: two methods are named %s", row->name);
  g_hash_table_insert (build->methods->by_number, GUINT_TO_POINTER (row->number), row);
  return TRUE;
}

/* ----------------------------------------------------------------------------------------------- building */

static gboolean
is_ours (const FileProto *file)
{
  return file->package != NULL && g_str_has_prefix (file->package, OUR_PACKAGE);
}

static gboolean
build_from (Build *build, const FileSet *set, GError **error)
{
  const GsWireMethod *rows;
  gsize n_rows;
  for (gsize i = 0; i < set->n_file; i++)
    if (is_ours (set->file[i])
        && !collect_messages (build, set->file[i]->package, set->file[i]->message_type, set->file[i]->n_message_type,
                              error))
      return FALSE;
  if (!check_all_recursion (build, error))
    return FALSE;
  rows = gs_wire_methods_all (build->methods->wire, &n_rows);
  for (gsize i = 0; i < n_rows; i++)
    if (!add_method (build, &rows[i], error))
      return FALSE;
  return TRUE;
}

GsiMethods *
gsi_methods_new_from (const guint8 *set_bytes, gsize n_bytes, GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (SET_BUDGET);
  g_autoptr (GsiMethods) methods = g_new0 (GsiMethods, 1);
  Build build = { methods, g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL) };
  FileSet *set;
  gboolean good;

  methods->rows = g_ptr_array_new_with_free_func (g_free);
  methods->by_number = g_hash_table_new (NULL, NULL);
  methods->by_name = g_hash_table_new (g_str_hash, g_str_equal);
  methods->messages = g_ptr_array_new ();
  methods->by_message = g_hash_table_new (g_str_hash, g_str_equal);
  methods->field_flags = g_hash_table_new (NULL, NULL);
  set = google__protobuf__file_descriptor_set__unpack (gs_arena_allocator (arena), n_bytes, set_bytes);
  if (set == NULL)
    gs_fail (error, GS_ERROR_INTERNAL, "schema: the embedded descriptor set cannot be decoded");
  else
    methods->wire = gs_wire_methods_new_from (set_bytes, n_bytes, error);
  good = methods->wire != NULL && build_from (&build, set, error);
  g_hash_table_unref (build.protos);
  if (!good)
    return NULL;
  return g_steal_pointer (&methods);
}

GsiMethods *
gsi_methods_new (GError **error)
{
  return gsi_methods_new_from (gs_wire_descriptor_set, gs_wire_descriptor_set_size, error);
}

/* ---------------------------------------------------------------------------------------------- looking up */

const GsiMethod *
gsi_methods_by_number (const GsiMethods *methods, guint32 number)
{
  return g_hash_table_lookup (methods->by_number, GUINT_TO_POINTER (number));
}

const GsiMethod *
gsi_methods_by_name (const GsiMethods *methods, const char *name)
{
  return g_hash_table_lookup (methods->by_name, name);
}

const char *
gsi_methods_nearest (const GsiMethods *methods, const char *name)
{
  g_autofree const char **names = g_new0 (const char *, methods->rows->len);
  for (guint i = 0; i < methods->rows->len; i++)
    names[i] = ((const GsiMethod *) methods->rows->pdata[i])->name;
  return gsi_text_nearest (name, names, methods->rows->len);
}

const GsiMethod *const *
gsi_methods_all (const GsiMethods *methods, gsize *ret_n)
{
  *ret_n = methods->rows->len;
  return (const GsiMethod *const *) methods->rows->pdata;
}

const ProtobufCMessageDescriptor *
gsi_methods_message (const GsiMethods *methods, const char *full_name)
{
  return g_hash_table_lookup (methods->by_message, full_name);
}

const ProtobufCMessageDescriptor *const *
gsi_methods_messages (const GsiMethods *methods, gsize *ret_n)
{
  *ret_n = methods->messages->len;
  return (const ProtobufCMessageDescriptor *const *) methods->messages->pdata;
}

GsiFieldFlags
gsi_methods_field (const GsiMethods *methods, const ProtobufCFieldDescriptor *field)
{
  return (GsiFieldFlags) GPOINTER_TO_UINT (g_hash_table_lookup (methods->field_flags, field));
}
