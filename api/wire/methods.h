/* SPDX-License-Identifier: Apache-2.0 */
/**
 * methods.h - every method of the wire contract with its rule, read from the embedded descriptor set.
 *
 * Server and client look methods up here, so that neither knows a method by its name alone.
 */
#ifndef GITSTEAD_WIRE_METHODS_H
#define GITSTEAD_WIRE_METHODS_H

#include <wire/wire.h>

G_BEGIN_DECLS

/** The compiled descriptors of all services of the API; ends with NULL. Constant. */
extern const ProtobufCServiceDescriptor *const gs_wire_services[];

/** One method. The enums are the numbers of options.proto. Strings live as long as the table. */
typedef struct
{
  guint32 number;
  const char *name;    /* "Repository/Create": the service's name without "Service" */
  const char *service; /* "gitstead.v1.RepositoryService" */
  guint32 operation;   /* Operation: 1 accessor, 2 mutator, 3 maintenance */
  guint32 scope;       /* Scope: 1 repository, 2 storage, 3 server */
  guint32 permission;  /* Permission: 0 by operation, 1 none, 2 read, 3 write, 4 admin */
  gboolean bytes_in;   /* the client sends bulk bytes */
  gboolean bytes_out;  /* the server sends bulk bytes */
  guint32 timeout_ms;  /* 0 = the server's default */
  gboolean storage;    /* the storage plugin carries it out by itself */
  gboolean cached;  /* the server keeps replies, by the refs and the request */
  const char *input;   /* full names of the messages: "gitstead.v1.RepositoryCreateRequest" */
  const char *output;
  const char *target;  /* field of the request that names the repository; NULL unless scope is repository */
  const ProtobufCMessageDescriptor *request, *reply;
} GsWireMethod;

/** The table. Immutable once made; any number of threads may look. */
typedef struct GsWireMethods GsWireMethods;

/**
 * Reads the embedded descriptor set. *full*, freed by gs_wire_methods_free. NULL with INTERNAL when the
 * contract breaks its own rules (a method without a number or twice the same, no or two target fields).
 */
GsWireMethods *gs_wire_methods_new (GError **error);
/** The same from another descriptor set, for tests of the rules; messages are those that are compiled in. */
GsWireMethods *gs_wire_methods_new_from (const guint8 *set, gsize n_bytes, GError **error);
void gs_wire_methods_free (GsWireMethods *methods);

/** By number, or by name when @number is 0 (letters' case counts). NULL when there is none. */
const GsWireMethod *gs_wire_methods_find (const GsWireMethods *methods, guint32 number, const char *name);
/** All rows in order of their numbers. *borrowed until the table is freed*. */
const GsWireMethod *gs_wire_methods_all (const GsWireMethods *methods, gsize *ret_n);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsWireMethods, gs_wire_methods_free)

G_END_DECLS

#endif
