/* SPDX-License-Identifier: Apache-2.0 */
/**
 * call.h - a call inside the server, and how methods are bound to it.
 *
 * The method table is read from the embedded descriptor set: operation, scope, permission, target
 * field and streaming all come from the options in api/proto. Nothing here goes by a method's name.
 */
#ifndef GSI_RPC_CALL_H
#define GSI_RPC_CALL_H

#include <gitstead/access.h>
#include <gitstead/host.h>
#include <wire/wire.h>

/** How a method touches what is stored; the numbers of options.proto. */
typedef enum
{
  GSI_ACCESSOR = 1,
  GSI_MUTATOR = 2,
  GSI_MAINTENANCE = 3
} GsiOperation;

typedef enum
{
  GSI_SCOPE_REPOSITORY = 1,
  GSI_SCOPE_STORAGE = 2,
  GSI_SCOPE_SERVER = 3
} GsiScope;

/** One row of the method table. Constant after start. */
typedef struct
{
  guint32 number;
  const char *name; /* "Repository/Create": the service's name without "Service" */
  GsiOperation operation;
  GsiScope scope;
  GsScope needs;    /* what the caller must be allowed; GS_SCOPE_NONE = anybody */
  gboolean bytes_in, bytes_out;
  gboolean cluster; /* only for other processes of the cluster, by the cluster token; @needs says nothing then */
  gboolean storage; /* the storage plugin carries it out: its slots query and compute */
  gboolean cached;  /* of such an accessor: its replies are kept in the cache */
  gint64 timeout_us; /* 0 = the server's default */
  const ProtobufCMessageDescriptor *request, *reply;
  const ProtobufCFieldDescriptor *target; /* field of the request that holds the Repository; NULL unless REPOSITORY */
} GsiMethod;

/** A call under way, as handlers see it. Valid until the handler returns. */
typedef struct
{
  GsCall base;             /* what plugins get: &call->base */
  const GsiMethod *method;
  const ProtobufCMessage *request; /* decoded and checked; cast to the method's request type */
  GsStream *stream;        /* bulk bytes, for streaming methods; never NULL there */
  const char *virtual_storage; /* REPOSITORY scope: of the target, "" = the default one; else NULL */
  const char *path;        /* REPOSITORY scope: the target's path, checked and in normal form ("a/b.git") */
  guint64 generation;      /* of the target: no older state is to be shown; 0 = the caller knows of none */
  guint64 written;         /* set by whoever wrote: the target's generation with it */
} GsiCall;

/**
 * Carries out a call on a worker or stream thread. On TRUE it has called gsi_call_reply once (a method
 * whose reply is empty may leave that out). On FALSE @error says why.
 */
typedef gboolean (*GsiHandler) (gpointer user, GsiCall *call, GError **error);

/** Keeps the reply, encoded as the caller wants it. @reply is borrowed until return. */
void gsi_call_reply (GsiCall *call, const ProtobufCMessage *reply);

/** Method and handler, for gsi_rpc_handle_all. The list ends with number 0. */
typedef struct
{
  guint32 number;
  GsiHandler handler;
} GsiBinding;

#endif
