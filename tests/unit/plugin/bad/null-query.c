/* SPDX-License-Identifier: Apache-2.0 */
/* The query function returns NULL. */
#include "../fake.h"

GS_EXPORT const GsPlugin *gs_plugin_query (void);
const GsPlugin *
gs_plugin_query (void)
{
  return NULL;
}
