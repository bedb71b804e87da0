/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_new.h - `gitstead plugin new`, and the templates that it writes (plugins/skeleton, embedded). */
#ifndef GSI_MAIN_PLUGIN_NEW_H
#define GSI_MAIN_PLUGIN_NEW_H

#include <glib.h>

typedef struct
{
  const char *name, *text;
} GsiTemplate;

/** Ends with name NULL. */
extern const GsiTemplate gsi_templates[];

int gsi_plugin_new_run (int n_args, char **args);

#endif
