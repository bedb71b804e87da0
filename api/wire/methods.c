/* SPDX-License-Identifier: Apache-2.0 */
/* The method table out of the descriptor set. See methods.h. */
#include "methods.h"

#include "gitstead/v1/options.pb-c.h"
#include "google/protobuf/descriptor.pb-c.h"

#define RULE_TAG 50001   /* MethodOptions.rule */
#define TARGET_TAG 50001 /* FieldOptions.target */
#define LENGTH_DELIMITED 2

struct GsWireMethods
{
  GArray *rows;         /* of GsWireMethod, by number */
  GStringChunk *strings;
};

typedef Google__Protobuf__FileDescriptorSet FileSet;
typedef Google__Protobuf__FileDescriptorProto File;
typedef Google__Protobuf__ServiceDescriptorProto Service;
typedef Google__Protobuf__MethodDescriptorProto Method;

static const ProtobufCMessageUnknownField *
unknown_field (const ProtobufCMessage *message, guint32 tag)
{
  for (unsigned i = 0; i < message->n_unknown_fields; i++)
    if (message->unknown_fields[i].tag == tag)
      return &message->unknown_fields[i];
  return NULL;
}

/* The extension is unknown to the generated code and kept raw, its length still in front. */
static Gitstead__V1__MethodRule *
read_rule (const Method *method)
{
  const ProtobufCMessageUnknownField *field
      = method->options != NULL ? unknown_field (&method->options->base, RULE_TAG) : NULL;
  gsize skip = 0;
  if (field == NULL || field->wire_type != LENGTH_DELIMITED)
    return NULL;
  while (skip < field->len && (field->data[skip] & 0x80))
    skip++;
  if (++skip > field->len)
    return NULL;
  return gitstead__v1__method_rule__unpack (NULL, field->len - skip, field->data + skip);
}

static const ProtobufCServiceDescriptor *
compiled_service (const char *name)
{
  for (gsize i = 0; gs_wire_services[i] != NULL; i++)
    if (g_str_equal (gs_wire_services[i]->name, name))
      return gs_wire_services[i];
  return NULL;
}

/* "gitstead.v1.X" of ".gitstead.v1.X" */
static const char *
plain_name (const char *name)
{
  return name != NULL && name[0] == '.' ? name + 1 : name;
}

static const Google__Protobuf__DescriptorProto *
find_message (const FileSet *set, const char *name)
{
  for (gsize i = 0; i < set->n_file; i++)
    {
      const File *file = set->file[i];
      gsize package = strlen (file->package);
      if (!g_str_has_prefix (name, file->package) || name[package] != '.')
        continue;
      for (gsize k = 0; k < file->n_message_type; k++)
        if (g_str_equal (file->message_type[k]->name, name + package + 1))
          return file->message_type[k];
    }
  return NULL;
}

/* The name of the only field marked as target; NULL when there is none or more than one. */
static const char *
find_target (const FileSet *set, const char *input, guint *ret_n)
{
  const Google__Protobuf__DescriptorProto *message = find_message (set, input);
  const char *found = NULL;
  *ret_n = 0;
  for (gsize i = 0; message != NULL && i < message->n_field; i++)
    {
      const Google__Protobuf__FieldDescriptorProto *field = message->field[i];
      const ProtobufCMessageUnknownField *mark
          = field->options != NULL ? unknown_field (&field->options->base, TARGET_TAG) : NULL;
      if (mark == NULL || mark->len != 1 || mark->data[0] == 0)
        continue;
      found = field->name;
      (*ret_n)++;
    }
  return *ret_n == 1 ? found : NULL;
}

static const char *
keep (GsWireMethods *methods, const char *text)
{
  return text != NULL ? g_string_chunk_insert_const (methods->strings, text) : NULL;
}

static gboolean
add_method (GsWireMethods *methods, const FileSet *set, const char *full_service, const Service *service,
            const Method *method, GError **error)
{
  const ProtobufCServiceDescriptor *compiled = compiled_service (full_service);
  const ProtobufCMethodDescriptor *types
      = compiled != NULL ? protobuf_c_service_descriptor_get_method_by_name (compiled, method->name) : NULL;
  gsize stem = strlen (service->name);
  Gitstead__V1__MethodRule *rule = read_rule (method);
  g_autofree char *name = NULL;
  GsWireMethod row = { 0 };
  guint n_targets;

  if (rule == NULL || rule->number == 0 || types == NULL)
    {
      if (rule != NULL)
        gitstead__v1__method_rule__free_unpacked (rule, NULL);
      return gs_fail (error, GS_ERROR_INTERNAL, "the wire contract: %s/%s has no rule with a number or no code",
                      full_service, method->name);
    }
  if (g_str_has_suffix (service->name, "Service"))
    stem -= strlen ("Service");
  name = g_strdup_printf ("%.*s/%s", (int) stem, service->name, method->name);
  row.number = rule->number;
  row.name = keep (methods, name);
  row.service = keep (methods, full_service);
  row.operation = rule->operation;
  row.scope = rule->scope;
  row.permission = rule->permission;
  row.bytes_in = rule->bytes_in;
  row.bytes_out = rule->bytes_out;
  row.timeout_ms = rule->timeout_ms;
  row.storage = rule->storage;
  row.cached = rule->cached;
  row.input = keep (methods, plain_name (method->input_type));
  row.output = keep (methods, plain_name (method->output_type));
  row.target = keep (methods, find_target (set, row.input, &n_targets));
  row.request = types->input;
  row.reply = types->output;
  gitstead__v1__method_rule__free_unpacked (rule, NULL);
  if (row.operation == GITSTEAD__V1__OPERATION__OPERATION_UNSPECIFIED
      || row.scope == GITSTEAD__V1__SCOPE__SCOPE_UNSPECIFIED)
    return gs_fail (error, GS_ERROR_INTERNAL, "the wire contract: %s names no operation or no scope", row.name);
  if (n_targets != (row.scope == GITSTEAD__V1__SCOPE__REPOSITORY ? 1 : 0))
    return gs_fail (error, GS_ERROR_INTERNAL,
                    "the wire contract: %s has %u target fields, which does not go with its scope", row.name,
                    n_targets);
  g_array_append_val (methods->rows, row);
  return TRUE;
}

static int
by_number (gconstpointer a, gconstpointer b)
{
  guint32 x = ((const GsWireMethod *) a)->number, y = ((const GsWireMethod *) b)->number;
  return (x > y) - (x < y);
}

static gboolean
add_all (GsWireMethods *methods, const FileSet *set, GError **error)
{
  for (gsize i = 0; i < set->n_file; i++)
    for (gsize k = 0; k < set->file[i]->n_service; k++)
      {
        const Service *service = set->file[i]->service[k];
        g_autofree char *full = g_strdup_printf ("%s.%s", set->file[i]->package, service->name);
        for (gsize m = 0; m < service->n_method; m++)
          if (!add_method (methods, set, full, service, service->method[m], error))
            return FALSE;
      }
  g_array_sort (methods->rows, by_number);
  for (guint i = 1; i < methods->rows->len; i++)
    {
      const GsWireMethod *row = &g_array_index (methods->rows, GsWireMethod, i);
      if (row[-1].number == row->number)
        return gs_fail (error, GS_ERROR_INTERNAL, "the wire contract: %s and %s have the same number %u", row[-1].name,
                        row->name, row->number);
    }
  return TRUE;
}

GsWireMethods *
gs_wire_methods_new (GError **error)
{
  return gs_wire_methods_new_from (gs_wire_descriptor_set, gs_wire_descriptor_set_size, error);
}

GsWireMethods *
gs_wire_methods_new_from (const guint8 *bytes, gsize n_bytes, GError **error)
{
  GsWireMethods *methods;
  gboolean good;
  FileSet *set = google__protobuf__file_descriptor_set__unpack (NULL, n_bytes, bytes);
  if (set == NULL)
    {
      gs_fail (error, GS_ERROR_INTERNAL, "the embedded descriptor set cannot be read");
      return NULL;
    }
  methods = g_new0 (GsWireMethods, 1);
  methods->rows = g_array_new (FALSE, FALSE, sizeof (GsWireMethod));
  methods->strings = g_string_chunk_new (1024);
  good = add_all (methods, set, error);
  google__protobuf__file_descriptor_set__free_unpacked (set, NULL);
  if (!good)
    g_clear_pointer (&methods, gs_wire_methods_free);
  return methods;
}

void
gs_wire_methods_free (GsWireMethods *methods)
{
  if (methods == NULL)
    return;
  g_array_unref (methods->rows);
  g_string_chunk_free (methods->strings);
  g_free (methods);
}

const GsWireMethod *
gs_wire_methods_find (const GsWireMethods *methods, guint32 number, const char *name)
{
  for (guint i = 0; i < methods->rows->len; i++)
    {
      const GsWireMethod *row = &g_array_index (methods->rows, GsWireMethod, i);
      if (number != 0 ? row->number == number : name != NULL && g_str_equal (row->name, name))
        return row;
    }
  return NULL;
}

const GsWireMethod *
gs_wire_methods_all (const GsWireMethods *methods, gsize *ret_n)
{
  *ret_n = methods->rows->len;
  return (const GsWireMethod *) methods->rows->data;
}
