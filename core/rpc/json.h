/* SPDX-License-Identifier: Apache-2.0 */
/**
 * json.h - messages as JSON and back, by reflection. docs/api-json.md is the description for people.
 *
 * proto3's JSON mapping with what people need changed: bytes that are text are text, ids marked `hex` are hex,
 * 64-bit numbers are numbers as long as every JSON reader keeps them exact, names are as in the .proto files.
 */
#ifndef GSI_RPC_JSON_H
#define GSI_RPC_JSON_H

#include "methods.h"

typedef enum
{
  GSI_JSON_COMPACT = 0,
  GSI_JSON_PRETTY = 1 << 0,   /* indented by two */
  GSI_JSON_DEFAULTS = 1 << 1, /* also fields that have their default value */
  GSI_JSON_MASK = 1 << 2      /* sensitive fields as "***", for logs */
} GsiJsonFlags;

/** Writes @message. *full* (g_free), *ret_len bytes before the NUL (@ret_len may be NULL). */
char *gsi_json_write (const GsiMethods *methods, const ProtobufCMessage *message, GsiJsonFlags flags,
                      gsize *ret_len);

/**
 * Reads one JSON object as a message of type @descriptor, into @arena. Nothing at all is the empty message.
 * INVALID_ARGUMENT names the place ("updates[2].old_oid") and what is wrong there, and for an unknown field the
 * nearest known one; BUSY when the arena's budget does not suffice. *borrowed until the arena is freed*.
 */
ProtobufCMessage *gsi_json_read (const GsiMethods *methods, GsArena *arena,
                                 const ProtobufCMessageDescriptor *descriptor, const char *text, gsize len,
                                 GError **error);

/** Bytes of one element of a repeated field. Pure. */
gsize gsi_json_member_size (ProtobufCType type);

#endif
