/* SPDX-License-Identifier: Apache-2.0 */
/**
 * methods.h - the method table and what else the schema says, read from the embedded descriptor set.
 *
 * The generated C code drops every option. The descriptor set, compiled in beside it, has them: it is
 * decoded once at start, checked, and never changes after. One per process is enough; any thread may read.
 */
#ifndef GSI_RPC_METHODS_H
#define GSI_RPC_METHODS_H

#include "call.h"

typedef struct GsiMethods GsiMethods;

/**
 * Reads and checks the schema. NULL with INTERNAL naming the method or field when the schema breaks a
 * rule: numbers unique and not 0, an operation and a scope for each method, exactly one target field of type
 * Repository for REPOSITORY scope and none otherwise, no recursive message, no proto3 optional, no map.
 * *full*, gsi_methods_free.
 */
GsiMethods *gsi_methods_new (GError **error);
/** The same from @set, for tests of the checks. Messages resolve to those that are compiled in. */
GsiMethods *gsi_methods_new_from (const guint8 *set, gsize n_bytes, GError **error);
void gsi_methods_free (GsiMethods *methods);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiMethods, gsi_methods_free)

/** By number. NULL when there is none. *borrowed as long as @methods*, as all below. */
const GsiMethod *gsi_methods_by_number (const GsiMethods *methods, guint32 number);
/** By name, "Repository/Create". NULL when there is none. */
const GsiMethod *gsi_methods_by_name (const GsiMethods *methods, const char *name);
/** The name nearest to @name, for "did you mean"; NULL when none is near. */
const char *gsi_methods_nearest (const GsiMethods *methods, const char *name);
/** All of them, ordered by number. */
const GsiMethod *const *gsi_methods_all (const GsiMethods *methods, gsize *ret_n);

/** A message type by its full name ("gitstead.v1.Ref"); NULL when no method leads to it. */
const ProtobufCMessageDescriptor *gsi_methods_message (const GsiMethods *methods, const char *full_name);
/** All message types that methods lead to, in no particular order. */
const ProtobufCMessageDescriptor *const *gsi_methods_messages (const GsiMethods *methods, gsize *ret_n);

/** What the options say of a field. */
typedef enum
{
  GSI_FIELD_TARGET = 1 << 0,    /* names the repository */
  GSI_FIELD_SENSITIVE = 1 << 1, /* never logged */
  GSI_FIELD_HEX = 1 << 2        /* bytes that people read as hex */
} GsiFieldFlags;

/** Pure. 0 for fields that have no options. */
GsiFieldFlags gsi_methods_field (const GsiMethods *methods, const ProtobufCFieldDescriptor *field);

#endif
