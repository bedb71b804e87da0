/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer's own mutation, and every other time the target's. See fuzz.h. */
#include "fuzz.h"

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
