/* SPDX-License-Identifier: Apache-2.0 */
/**
 * calls.h - what the targets that make calls begin with: words that lead somewhere in the repository of fixture.sh, bodies of
 * git's own wire, and requests from files in which each line is a method, a blank and the request as JSON.
 */
#ifndef TESTS_FUZZ_CALLS_H
#define TESTS_FUZZ_CALLS_H

#include "rpc/methods.h"

/** NULL at the end. */
extern const char *const call_words[];

/** A body of a fetch or a push, as it comes over HTTP. */
typedef struct
{
  guint16 number; /* the method's */
  guint8 flags;
  const char *text;
  gsize len;
} CallBody;
extern const CallBody call_bodies[];
extern const gsize n_call_bodies;

typedef struct
{
  GsiMethods *methods;
  gboolean (*wants) (const GsiMethod *method);
  /* Adds what it makes of a request to @seeds (GBytes); @number differs from one to the next. */
  void (*add) (GPtrArray *seeds, const GsiMethod *method, guint8 number, ProtobufCMessage *request);
} Calls;

/** The requests in @file; g_error where it has one that is none. */
void calls_add_file (const Calls *calls, const char *file, GPtrArray *seeds);
/** A request for each method, filled by rule. */
void calls_add_shaped (const Calls *calls, GPtrArray *seeds);

#endif
