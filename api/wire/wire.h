/* SPDX-License-Identifier: Apache-2.0 */
/**
 * wire.h - decoding messages from strangers with a bound on memory.
 *
 * protobuf-c checks neither depth nor memory: two megabytes of empty sub-messages become ninety. Every
 * decode therefore goes through an arena with a budget; freeing the arena frees the message.
 */
#ifndef GITSTEAD_WIRE_H
#define GITSTEAD_WIRE_H

#include <gitstead/types.h>
#include <protobuf-c/protobuf-c.h>

G_BEGIN_DECLS

/** All .proto files of the API as a serialized FileDescriptorSet, imports included. Constant. */
extern const guint8 gs_wire_descriptor_set[];
extern const gsize gs_wire_descriptor_set_size;

/** A bump allocator with a budget. One thread at a time. */
typedef struct GsArena GsArena;

/** @budget_bytes bounds all that is ever taken from it. *full*, freed by gs_arena_free. */
GsArena *gs_arena_new (gsize budget_bytes);
/** Frees the arena and everything taken from it. NULL is fine. */
void gs_arena_free (GsArena *arena);
/** Zeroed memory, aligned for anything; NULL when the budget is spent. *borrowed until the arena is freed*. */
gpointer gs_arena_alloc (GsArena *arena, gsize n_bytes);
/** Makes protobuf-c allocate from @arena. *borrowed until the arena is freed*. */
ProtobufCAllocator *gs_arena_allocator (GsArena *arena);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsArena, gs_arena_free)

/**
 * Decodes @bytes as a message of type @descriptor into @arena, then checks every string of it: valid
 * UTF-8 and no NUL (protobuf-c checks neither). NULL with INVALID_ARGUMENT naming the message (and the
 * field), or OUT_OF_RANGE when the budget does not suffice. *borrowed until the arena is freed*; never free it.
 */
ProtobufCMessage *gs_wire_decode (GsArena *arena, const ProtobufCMessageDescriptor *descriptor,
                                  const guint8 *bytes, gsize n_bytes, GError **error);

/** Encodes @message. *full*. Never fails: we made it. */
GBytes *gs_wire_encode (const ProtobufCMessage *message);

G_END_DECLS

#endif
