/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fuzz.h - a fuzz target is LLVMFuzzerTestOneInput plus seeds.
 *
 * With -Dfuzz=true (clang) it is linked with libFuzzer as fuzz-NAME-libfuzzer. Otherwise replay.c is its main: it runs the
 * files that it is given, then a fixed number of mutations of the seeds, the same ones each time.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <glib.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

/** Inputs to start from, for replay.c. *full*: GBytes. */
GPtrArray *fuzz_seeds (void);

/**
 * Optional: changes an input in a way that fits its format, the same way for the same @seed. Returns its new size, at most
 * @max_size, or 0 when it cannot.
 */
gsize fuzz_mutate (guint8 *data, gsize size, gsize max_size, guint32 seed) __attribute__ ((weak));

/** JSON texts that exercise every kind of field; the first byte of an input picks the message type. */
extern const char *const fuzz_json_texts[];

/** Ends the process with a core: the input is a finding. */
#define FUZZ_CHECK(condition_)                                                                                         \
  do                                                                                                                   \
    if (!(condition_))                                                                                                 \
      g_error ("%s:%d: %s", __FILE__, __LINE__, #condition_);                                                          \
  while (0)

#endif
