/* SPDX-License-Identifier: Apache-2.0 */
/**
 * shape.h - messages that are sound protobuf with unsound values: what a mutation of bytes rarely makes.
 */
#ifndef TESTS_FUZZ_SHAPE_H
#define TESTS_FUZZ_SHAPE_H

#include <wire/wire.h>

/** Values that lead somewhere. */
typedef struct
{
  const char *const *words; /* for bytes and strings; NULL at the end */
  GRand *rand;
  GsArena *arena; /* whatever the message gets is taken from it */
} Shape;

/** Fills each field of @message with something likely, to the bottom. */
void shape_fill (Shape *shape, ProtobufCMessage *message);
/** Changes one value somewhere in @message, or makes a list longer or shorter. */
void shape_change (Shape *shape, ProtobufCMessage *message);

#endif
