/* SPDX-License-Identifier: Apache-2.0 */
/**
 * loadplugin.h - a plugin of the build, opened as the server opens it, for tests that drive it without the core.
 */
#ifndef TESTS_LOADPLUGIN_H
#define TESTS_LOADPLUGIN_H

#include <gitstead/plugin.h>

G_BEGIN_DECLS

/** The descriptor of @file ("cache-memory.so", looked up in GITSTEAD_TEST_PLUGIN_PATH when that is set,
 * or a path). Never NULL. */
const GsPlugin *load_plugin (const char *file);

G_END_DECLS

#endif
