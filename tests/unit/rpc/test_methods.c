/* SPDX-License-Identifier: Apache-2.0 */
/* The method table: what the schema says arrives, and a schema that breaks a rule stops the start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gitstead/v1/options.pb-c.h"
#include "gitstead/v1/ref.pb-c.h"
#include "google/protobuf/descriptor.pb-c.h"
#include "rpc/methods.h"

#include <string.h>

typedef Google__Protobuf__FileDescriptorSet FileSet;
typedef Google__Protobuf__DescriptorProto MessageProto;
typedef Google__Protobuf__FieldDescriptorProto FieldProto;
typedef Google__Protobuf__MethodDescriptorProto MethodProto;

static void
rows (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GsiMethods) methods = gsi_methods_new (&error);
  const GsiMethod *const *all;
  const GsiMethod *row;
  gsize n;
  if (methods == NULL)
    fail_msg ("%s", error->message);
  all = gsi_methods_all (methods, &n);
  assert_true (n >= 25);
  for (gsize i = 0; i < n; i++)
    {
      assert_true (i == 0 || all[i - 1]->number < all[i]->number);
      assert_ptr_equal (gsi_methods_by_number (methods, all[i]->number), all[i]);
      assert_ptr_equal (gsi_methods_by_name (methods, all[i]->name), all[i]);
      assert_int_equal (all[i]->target != NULL, all[i]->scope == GSI_SCOPE_REPOSITORY);
      assert_ptr_equal (gsi_methods_message (methods, all[i]->request->name), all[i]->request);
    }
  row = gsi_methods_by_name (methods, "Ref/Update");
  assert_int_equal (row->number, 202);
  assert_int_equal (row->operation, GSI_MUTATOR);
  assert_int_equal (row->needs, GS_SCOPE_WRITE);
  assert_ptr_equal (row->request, &gitstead__v1__ref_update_request__descriptor);
  assert_string_equal (row->target->name, "repository");
  row = gsi_methods_by_name (methods, "Git/ReceivePack");
  assert_true (row->bytes_in && row->bytes_out);
  assert_int_equal (row->timeout_us, G_GINT64_CONSTANT (14400000000));
  assert_int_equal (gsi_methods_by_name (methods, "Repository/Delete")->needs, GS_SCOPE_ADMIN);
  assert_int_equal (gsi_methods_by_name (methods, "Server/Ping")->needs, GS_SCOPE_NONE);
  assert_int_equal (gsi_methods_by_name (methods, "Token/List")->operation, GSI_ACCESSOR);
  assert_null (gsi_methods_by_number (methods, 0));
  assert_null (gsi_methods_by_name (methods, "ref/update"));
  assert_string_equal (gsi_methods_nearest (methods, "Ref/Updat"), "Ref/Update");
  assert_null (gsi_methods_nearest (methods, "completely different"));
}

static GsiFieldFlags
flags_of (GsiMethods *methods, const char *message, const char *field)
{
  const ProtobufCMessageDescriptor *descriptor = gsi_methods_message (methods, message);
  assert_non_null (descriptor);
  return gsi_methods_field (methods, protobuf_c_message_descriptor_get_field_by_name (descriptor, field));
}

static void
flags (void **state)
{
  g_autoptr (GsiMethods) methods = gsi_methods_new (NULL);
  assert_int_equal (flags_of (methods, "gitstead.v1.Receipt", "transaction_id"), GSI_FIELD_HEX);
  assert_int_equal (flags_of (methods, "gitstead.v1.Receipt", "replicas"), 0);
  assert_int_equal (flags_of (methods, "gitstead.v1.TokenCreateReply", "secret"), GSI_FIELD_SENSITIVE);
  assert_int_equal (flags_of (methods, "gitstead.v1.RefListRequest", "repository"), GSI_FIELD_TARGET);
  assert_int_equal (flags_of (methods, "gitstead.v1.CancelRequest", "call_id"), GSI_FIELD_HEX);
  assert_null (gsi_methods_message (methods, "gitstead.v1.Nothing"));
}

/* ------------------------------------------------------------------------------------------ broken schemas */

static FileSet *
load (GsArena *arena)
{
  FileSet *set = google__protobuf__file_descriptor_set__unpack (gs_arena_allocator (arena), gs_wire_descriptor_set_size,
                                                                gs_wire_descriptor_set);
  assert_non_null (set);
  return set;
}

static MessageProto *
message_of (FileSet *set, const char *name)
{
  for (gsize i = 0; i < set->n_file; i++)
    for (gsize k = 0; k < set->file[i]->n_message_type; k++)
      if (strcmp (set->file[i]->message_type[k]->name, name) == 0)
        return set->file[i]->message_type[k];
  fail_msg ("no message %s", name);
  return NULL;
}

static FieldProto *
field_of (FileSet *set, const char *message, const char *name)
{
  MessageProto *proto = message_of (set, message);
  for (gsize i = 0; i < proto->n_field; i++)
    if (strcmp (proto->field[i]->name, name) == 0)
      return proto->field[i];
  fail_msg ("no field %s.%s", message, name);
  return NULL;
}

static MethodProto *
method_of (FileSet *set, const char *service, const char *name)
{
  for (gsize i = 0; i < set->n_file; i++)
    for (gsize k = 0; k < set->file[i]->n_service; k++)
      for (gsize m = 0; m < set->file[i]->service[k]->n_method; m++)
        if (strcmp (set->file[i]->service[k]->name, service) == 0
            && strcmp (set->file[i]->service[k]->method[m]->name, name) == 0)
          return set->file[i]->service[k]->method[m];
  fail_msg ("no method %s.%s", service, name);
  return NULL;
}

static void
pack_rule (GsArena *arena, MethodProto *method, const Gitstead__V1__MethodRule *rule)
{
  ProtobufCMessageUnknownField *field = &method->options->base.unknown_fields[0];
  field->data = gs_arena_alloc (arena, 64);
  field->len = 1 + gitstead__v1__method_rule__pack (rule, field->data + 1);
  field->data[0] = (guint8) (field->len - 1);
}

static void
set_rule (GsArena *arena, MethodProto *method, guint32 number, int operation, int scope, int permission)
{
  Gitstead__V1__MethodRule rule = GITSTEAD__V1__METHOD_RULE__INIT;
  rule.number = number;
  rule.operation = operation;
  rule.scope = scope;
  rule.permission = permission;
  pack_rule (arena, method, &rule);
}

/* A method whose replies are to be kept, by the core itself or by a storage. */
static void
set_cached (GsArena *arena, MethodProto *method, int operation, gboolean storage)
{
  Gitstead__V1__MethodRule rule = GITSTEAD__V1__METHOD_RULE__INIT;
  rule.number = 200;
  rule.operation = operation;
  rule.scope = GITSTEAD__V1__SCOPE__REPOSITORY;
  rule.storage = storage;
  rule.cached = TRUE;
  pack_rule (arena, method, &rule);
}

static void
refuses (FileSet *set, const char *says)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) bytes = gs_wire_encode (&set->base);
  g_autoptr (GsiMethods) methods
      = gsi_methods_new_from (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), &error);
  if (methods != NULL)
    fail_msg ("was taken; should say \"%s\"", says);
  assert_int_equal (gs_error_code (error), GS_ERROR_INTERNAL);
  if (strstr (error->message, says) == NULL)
    fail_msg ("\"%s\" does not say \"%s\"", error->message, says);
}

#define BROKEN(name_, says_, ...)                                                                                      \
  static void name_ (void **state)                                                                                     \
  {                                                                                                                    \
    g_autoptr (GsArena) arena = gs_arena_new (16 * 1024 * 1024);                                                       \
    FileSet *set = load (arena);                                                                                       \
    __VA_ARGS__;                                                                                                       \
    refuses (set, says_);                                                                                              \
  }

BROKEN (same_number, "the same number 202",
        set_rule (arena, method_of (set, "RefService", "List"), 202, GSI_ACCESSOR, GSI_SCOPE_REPOSITORY, 0))
BROKEN (cached_by_the_core, "Ref/List is cached, but",
        set_cached (arena, method_of (set, "RefService", "List"), GSI_ACCESSOR, FALSE))
BROKEN (cached_write, "Ref/List is cached, but",
        set_cached (arena, method_of (set, "RefService", "List"), GSI_MUTATOR, TRUE))
BROKEN (no_number, "RefService/List has no rule",
        set_rule (arena, method_of (set, "RefService", "List"), 0, GSI_ACCESSOR, GSI_SCOPE_REPOSITORY, 0))
BROKEN (no_rule, "RefService/List has no rule",
        method_of (set, "RefService", "List")->options->base.n_unknown_fields = 0)
BROKEN (no_operation, "Ref/List names no operation",
        set_rule (arena, method_of (set, "RefService", "List"), 200, 0, GSI_SCOPE_REPOSITORY, 0))
BROKEN (unknown_operation, "unknown operation",
        set_rule (arena, method_of (set, "RefService", "List"), 200, 9, GSI_SCOPE_REPOSITORY, 0))
BROKEN (unknown_permission, "unknown permission, 9",
        set_rule (arena, method_of (set, "RefService", "List"), 200, GSI_ACCESSOR, GSI_SCOPE_REPOSITORY, 9))
BROKEN (target_without_scope, "Ref/List has 1 target fields",
        set_rule (arena, method_of (set, "RefService", "List"), 200, GSI_ACCESSOR, GSI_SCOPE_SERVER, 0))
BROKEN (scope_without_target, "Ref/List has 0 target fields",
        field_of (set, "RefListRequest", "repository")->options->base.n_unknown_fields = 0)
BROKEN (two_targets, "Ref/List has 2 target fields",
        field_of (set, "RefListRequest", "page")->options = field_of (set, "RefListRequest", "repository")->options)
BROKEN (target_of_another_type, "the target field page is not a single gitstead.v1.Repository",
        field_of (set, "RefListRequest", "page")->options = field_of (set, "RefListRequest", "repository")->options;
        field_of (set, "RefListRequest", "repository")->options = NULL)
BROKEN (recursion, "gitstead.v1.RefListRequest contains itself",
        field_of (set, "RefListRequest", "page")->type_name = (char *) ".gitstead.v1.RefListRequest")
BROKEN (recursion_by_two, "contains itself",
        field_of (set, "RefUpdateRequest", "updates")->type_name = (char *) ".gitstead.v1.RefListReply";
        field_of (set, "RefListReply", "refs")->type_name = (char *) ".gitstead.v1.RefUpdateRequest")
BROKEN (optional, "gitstead.v1.Page.limit is `optional`", field_of (set, "Page", "limit")->has_proto3_optional = 1;
        field_of (set, "Page", "limit")->proto3_optional = 1)
BROKEN (map, "gitstead.v1.Page is the entry of a map<>",
        Google__Protobuf__MessageOptions options = GOOGLE__PROTOBUF__MESSAGE_OPTIONS__INIT;
        options.has_map_entry = options.map_entry = 1; message_of (set, "Page")->options = &options)
BROKEN (other_code, "Ref/List", method_of (set, "RefService", "List")->input_type = (char *) ".gitstead.v1.Page")

static void
not_a_set (void **state)
{
  static const guint8 garbage[] = { 0x0a, 0xff, 0xff };
  g_autoptr (GError) error = NULL;
  assert_null (gsi_methods_new_from (garbage, sizeof garbage, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_INTERNAL);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (rows),
    cmocka_unit_test (flags),
    cmocka_unit_test (same_number),
    cmocka_unit_test (cached_by_the_core),
    cmocka_unit_test (cached_write),
    cmocka_unit_test (no_number),
    cmocka_unit_test (no_rule),
    cmocka_unit_test (no_operation),
    cmocka_unit_test (unknown_operation),
    cmocka_unit_test (unknown_permission),
    cmocka_unit_test (target_without_scope),
    cmocka_unit_test (scope_without_target),
    cmocka_unit_test (two_targets),
    cmocka_unit_test (target_of_another_type),
    cmocka_unit_test (recursion),
    cmocka_unit_test (recursion_by_two),
    cmocka_unit_test (optional),
    cmocka_unit_test (map),
    cmocka_unit_test (other_code),
    cmocka_unit_test (not_a_set),
  };
  return cmocka_run_group_tests_name ("rpc-methods", tests, NULL, NULL);
}
