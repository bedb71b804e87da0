/* SPDX-License-Identifier: Apache-2.0 */
/* loader-private.h - shared by loader.c (files) and loader-check.c (what a descriptor must be like). */
#ifndef GSI_PLUGIN_LOADER_PRIVATE_H
#define GSI_PLUGIN_LOADER_PRIVATE_H

#include "plugin/loader.h"

#define GSI_NAME_MAX 32

/** [a-z][a-z0-9-]*, at most 32. */
gboolean gsi_name_is_fine (const char *name, gssize len);

/** Keys of a plugin's mapping that are not its options. NULL-terminated. */
/** The keys of a plugin mapping that are the core's, by kind; NULL-terminated. */
const char *const *gsi_plugin_keys (guint32 kind);

/**
 * Takes over what @found (as gs_plugin_query gave it) says, after checking it all. NULL with the reason, which does not
 * name the file. *full* (gsi_plugin_free).
 */
GsiPlugin *gsi_plugin_new (const GsPlugin *found, const char *path, GError **error);
void gsi_plugin_free (GsiPlugin *plugin);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiPlugin, gsi_plugin_free)

#endif
