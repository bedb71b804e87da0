/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer's own mutation, and every other time the target's. See fuzz.h. */
#include "fuzz.h"

#include <stdlib.h>

/* libFuzzer keeps the input of an abort, but not of the trap that g_error ends in. */
static void
log_and_abort (const char *domain, GLogLevelFlags level, const char *text, gpointer user)
{
  g_printerr ("%s\n", text);
  if ((level & G_LOG_FLAG_FATAL) != 0)
    abort ();
}

int LLVMFuzzerInitialize (int *argc, char ***argv);

int
LLVMFuzzerInitialize (int *argc, char ***argv)
{
  g_log_set_default_handler (log_and_abort, NULL);
  return 0;
}

size_t LLVMFuzzerMutate (uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator (uint8_t *data, size_t size, size_t max_size, unsigned int seed);

size_t
LLVMFuzzerCustomMutator (uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
  if (fuzz_mutate != NULL && seed % 3 != 0)
    {
      gsize made = fuzz_mutate (data, size, max_size, seed);
      if (made > 0)
        return made;
    }
  return LLVMFuzzerMutate (data, size, max_size);
}
