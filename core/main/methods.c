/* SPDX-License-Identifier: Apache-2.0 */
/* methods.c - `gitstead methods`: the API as this program was built with, without a server. */
#include "api-comments.h"
#include "cli.h"
#include "command.h"

#include <gitstead/v1/server.pb-c.h>
#include <string.h>

static char *describe;

static const GOptionEntry options[]
    = { { "describe", 'd', 0, G_OPTION_ARG_STRING, &describe, "Explain one method: request, reply, fields", "METHOD" },
        G_OPTION_ENTRY_NULL };

static const char *
operation_name (GsiOperation operation)
{
  return operation == GSI_ACCESSOR ? "accessor" : operation == GSI_MUTATOR ? "mutator" : "maintenance";
}

static const char *
scope_name (GsiScope scope)
{
  return scope == GSI_SCOPE_REPOSITORY ? "repository" : scope == GSI_SCOPE_STORAGE ? "storage" : "server";
}

static const char *
needs_name (GsScope needs)
{
  static const char *const names[] = { "nothing", "read", "write", "admin" };
  return (guint) needs < G_N_ELEMENTS (names) ? names[needs] : "?";
}

static const char *
bytes_name (const GsiMethod *method)
{
  return method->bytes_in && method->bytes_out ? "in, out" : method->bytes_in ? "in" : method->bytes_out ? "out" : "";
}

/* What the .proto file says above @name ("gitstead.v1.Ref.name", "gitstead.v1.RefService.List"); "" when nothing. */
static const char *
comment_of (const char *name)
{
  gsize low = 0, high = gsi_n_api_comments;
  while (low < high)
    {
      gsize middle = (low + high) / 2;
      int order = strcmp (name, gsi_api_comments[middle].name);
      if (order == 0)
        return gsi_api_comments[middle].text;
      if (order < 0)
        high = middle;
      else
        low = middle + 1;
    }
  return "";
}

static const char *
method_comment (const GsiMethod *method)
{
  const char *slash = strchr (method->name, '/');
  g_autofree char *full = g_strdup_printf ("gitstead.v1.%.*sService.%s", (int) (slash - method->name), method->name,
                                           slash + 1);
  const char *text = comment_of (full);
  if (text[0] != '\0')
    return text;
  /* The server's own service is called just that. */
  g_free (full);
  full = g_strdup_printf ("gitstead.v1.%.*s.%s", (int) (slash - method->name), method->name, slash + 1);
  return comment_of (full);
}

/* ------------------------------------------------------------------------------------------ describe */

static const char *
type_name (const ProtobufCFieldDescriptor *field)
{
  switch (field->type)
    {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
      return "int32";
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
      return "int64";
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
      return "uint32";
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
      return "uint64";
    case PROTOBUF_C_TYPE_FLOAT:
      return "float";
    case PROTOBUF_C_TYPE_DOUBLE:
      return "double";
    case PROTOBUF_C_TYPE_BOOL:
      return "bool";
    case PROTOBUF_C_TYPE_STRING:
      return "string";
    case PROTOBUF_C_TYPE_BYTES:
      return "bytes";
    case PROTOBUF_C_TYPE_ENUM:
      return ((const ProtobufCEnumDescriptor *) field->descriptor)->short_name;
    default:
      return ((const ProtobufCMessageDescriptor *) field->descriptor)->short_name;
    }
}

static void
print_message (const GsiMethods *methods, const ProtobufCMessageDescriptor *message, GPtrArray *more)
{
  const char *about = comment_of (message->name);
  g_print ("\n%s%s\n", message->short_name, message->n_fields == 0 ? ": no fields" : "");
  if (about[0] != '\0')
    g_print ("  %s\n", about);
  for (unsigned i = 0; i < message->n_fields; i++)
    {
      const ProtobufCFieldDescriptor *field = &message->fields[i];
      g_autofree char *full = g_strconcat (message->name, ".", field->name, NULL);
      g_autofree char *type = g_strconcat (field->label == PROTOBUF_C_LABEL_REPEATED ? "list of " : "", type_name (field),
                                           (gsi_methods_field (methods, field) & GSI_FIELD_HEX) ? ", as hex" : "", NULL);
      g_auto (GStrv) comment = g_strsplit (comment_of (full), "\n", -1);
      g_print ("  %-18s %s\n", field->name, type);
      for (gsize line = 0; comment[line] != NULL; line++)
        g_print ("  %-18s   %s\n", "", comment[line]);
      if ((field->type == PROTOBUF_C_TYPE_MESSAGE || field->type == PROTOBUF_C_TYPE_ENUM)
          && !g_ptr_array_find (more, field->descriptor, NULL))
        g_ptr_array_add (more, (gpointer) field->descriptor);
    }
}

static void
print_enum (const ProtobufCEnumDescriptor *type)
{
  g_print ("\n%s\n", type->short_name);
  for (unsigned i = 0; i < type->n_values; i++)
    {
      g_autofree char *full = g_strconcat (type->name, ".", type->values[i].name, NULL);
      const char *text = comment_of (full);
      g_print ("  %s%s%s\n", type->values[i].name, text[0] != '\0' ? "   " : "", text);
    }
}

static void
print_method (const GsiMethods *methods, const GsiMethod *method)
{
  g_autoptr (GPtrArray) types = g_ptr_array_new ();
  const char *text = method_comment (method);
  g_print ("%s (number %u): %s on a %s, needs %s%s%s\n", method->name, method->number, operation_name (method->operation),
           scope_name (method->scope), needs_name (method->needs),
           method->bytes_in || method->bytes_out ? ", bulk bytes " : "", bytes_name (method));
  if (text[0] != '\0')
    g_print ("%s\n", text);
  g_ptr_array_add (types, (gpointer) method->request);
  g_ptr_array_add (types, (gpointer) method->reply);
  /* Grows while it is walked: each type that a field names is explained once, after its user. */
  for (guint i = 0; i < types->len; i++)
    {
      const ProtobufCMessageDescriptor *type = types->pdata[i];
      if (type->magic == PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC)
        print_message (methods, type, types);
      else
        print_enum (types->pdata[i]);
    }
}

/* ----------------------------------------------------------------------------------------------- list */

/* The same message that Server/Methods answers with. */
static int
print_json (const GsiMethod *const *all, gsize n)
{
  g_autoptr (GError) error = NULL;
  g_autofree Gitstead__V1__Method *rows = g_new0 (Gitstead__V1__Method, n);
  g_autofree Gitstead__V1__Method **list = g_new0 (Gitstead__V1__Method *, n);
  Gitstead__V1__MethodsReply reply = GITSTEAD__V1__METHODS_REPLY__INIT;
  for (gsize i = 0; i < n; i++)
    {
      gitstead__v1__method__init (&rows[i]);
      rows[i].name = (char *) all[i]->name;
      rows[i].number = all[i]->number;
      rows[i].operation = (Gitstead__V1__Operation) all[i]->operation;
      rows[i].scope = (Gitstead__V1__Scope) all[i]->scope;
      /* Permission has one more row than GsScope, in front. */
      rows[i].permission = all[i]->cluster ? GITSTEAD__V1__PERMISSION__CLUSTER : (Gitstead__V1__Permission) (all[i]->needs + 1);
      rows[i].bytes_in = all[i]->bytes_in;
      rows[i].bytes_out = all[i]->bytes_out;
      rows[i].request = (char *) all[i]->request->name;
      rows[i].reply = (char *) all[i]->reply->name;
      list[i] = &rows[i];
    }
  reply.n_methods = n;
  reply.methods = list;
  if (!gsi_cli_print_json (&reply.base, &error))
    return gsi_cli_fail (error, "cannot print the methods");
  return GSI_EXIT_OK;
}

static int
methods_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  const GsiMethods *methods = gsi_cli_methods (&error);
  const GsiMethod *const *all;
  const GsiMethod *one;
  GsiTable *table;
  gsize n = 0;

  if (methods == NULL)
    return gsi_cli_fail (error, "cannot read the list of methods");
  if (describe != NULL)
    {
      one = gsi_methods_by_name (methods, describe);
      if (one == NULL)
        {
          const char *near = gsi_methods_nearest (methods, describe);
          return gsi_cli_usage ("methods", "there is no method '%s'%s%s%s", describe, near != NULL ? "; did you mean '" : "",
                                near != NULL ? near : "", near != NULL ? "'?" : "");
        }
      if (gsi_cli_json ())
        return print_json (&one, 1);
      print_method (methods, one);
      return GSI_EXIT_OK;
    }
  all = gsi_methods_all (methods, &n);
  if (gsi_cli_json ())
    return print_json (all, n);
  if (gsi_cli_quiet ())
    {
      for (gsize i = 0; i < n; i++)
        g_print ("%s\n", all[i]->name);
      return GSI_EXIT_OK;
    }
  table = gsi_table_new ((const char *[]) { "METHOD", ">NUMBER", "OPERATION", "SCOPE", "NEEDS", "BYTES", NULL });
  for (gsize i = 0; i < n; i++)
    {
      g_autofree char *number = g_strdup_printf ("%u", all[i]->number);
      gsi_table_row (table, all[i]->name, number, operation_name (all[i]->operation), scope_name (all[i]->scope),
                     needs_name (all[i]->needs), bytes_name (all[i]), NULL);
    }
  gsi_table_print (table);
  return GSI_EXIT_OK;
}

const GsiVerb gsi_methods_verbs[] = {
  { .name = "",
    .arguments = "",
    .summary = "List and describe the API's methods",
    .about = "Lists the methods that this version of Gitstead has: what each does (accessor: reads; mutator: changes), on "
             "what, what a caller needs to be allowed, and whether bulk bytes travel with it. Needs no server; 'gitstead "
             "call Server/Methods' asks a running one.",
    .examples = "  gitstead methods\n"
                "  gitstead methods --describe Ref/List\n"
                "  gitstead methods --json",
    .options = options,
    .max_args = 0,
    .local = TRUE,
    .run = methods_run },
  { NULL },
};
