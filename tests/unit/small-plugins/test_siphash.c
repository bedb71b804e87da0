/* SPDX-License-Identifier: Apache-2.0 */
/* SipHash-2-4 against the published vectors: key 00 01 … 0f, input 00 01 02 …. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "siphash.h"

static void
vectors (void **state)
{
  /* From the reference implementation: the first ones, the paper's example of 15 bytes, and one of whole words. */
  static const struct
  {
    gsize n;
    guint64 hash;
  } rows[] = { { 0, G_GUINT64_CONSTANT (0x726fdb47dd0e0e31) },
               { 1, G_GUINT64_CONSTANT (0x74f839c593dc67fd) },
               { 7, G_GUINT64_CONSTANT (0xab0200f58b01d137) },
               { 8, G_GUINT64_CONSTANT (0x93f5f5799a932462) },
               { 15, G_GUINT64_CONSTANT (0xa129ca6149be45e5) } };
  const guint64 key[2] = { G_GUINT64_CONSTANT (0x0706050403020100), G_GUINT64_CONSTANT (0x0f0e0d0c0b0a0908) };
  guint8 input[16];
  for (guint i = 0; i < sizeof input; i++)
    input[i] = (guint8) i;
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    assert_true (siphash24 (key, input, rows[i].n) == rows[i].hash);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (vectors) };
  return cmocka_run_group_tests_name ("siphash", tests, NULL, NULL);
}
