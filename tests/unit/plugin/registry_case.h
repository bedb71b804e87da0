/* SPDX-License-Identifier: Apache-2.0 */
/**
 * registry_case.h - what the tests of the registry share: a host for it with a folder of its own, and nobody to call.
 */
#ifndef PLUGIN_REGISTRY_CASE_H
#define PLUGIN_REGISTRY_CASE_H

#include "plugin/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

typedef struct
{
  char *folder;
  char *trace; /* what fake plugins write that are told to */
  char *log_path;
  GsiLog *log; /* NULL: nothing is logged */
  GsiMetrics *metrics;
  GsiPool *pool;
  GsiTimers *timers;
  GsiHostSetup setup;
  GsiRegistry *registry; /* the case's, which may leave it; freed first */
} Fixture;

/** With plugins from @plugin_path. *full*. */
Fixture *fixture_new (const char *plugin_path, gboolean logs);
/** For a teardown: 0, or -1 when its folder holds what nobody here made. */
int fixture_free (Fixture *fixture);

/** As a file in its folder. */
GsiRegistry *parse_yaml (Fixture *fixture, const char *yaml, GError **error);
/** What the fakes wrote. *full*. */
char *traced (Fixture *fixture);
void assert_has (const char *text, const char *part);

#endif
