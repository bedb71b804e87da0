/* SPDX-License-Identifier: Apache-2.0 */
/* What a client author includes needs nothing before it and gives no warning. */
#include <gitstead-calls.h>

int
main (void)
{
  return sizeof (GsClientBulk) == 0;
}
