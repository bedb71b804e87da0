/* SPDX-License-Identifier: Apache-2.0 */
/* Opening plugins for tests. See loadplugin.h. */
#include "loadplugin.h"

#include <dlfcn.h>
#include <string.h>

const GsPlugin *
load_plugin (const char *file)
{
  const char *folder = g_getenv ("GITSTEAD_TEST_PLUGIN_PATH");
  /* A path says where it is; so does a name where no folder is told. */
  g_autofree char *path = strchr (file, '/') != NULL || folder == NULL ? g_canonicalize_filename (file, NULL)
                                                                       : g_build_filename (folder, file, NULL);
  gpointer module = dlopen (path, RTLD_NOW | RTLD_LOCAL);
  GsPluginQuery query = NULL;
  if (module != NULL)
    *(void **) &query = dlsym (module, GS_PLUGIN_QUERY_SYMBOL);
  if (query == NULL)
    g_error ("loading %s: %s", path, dlerror ());
  return query ();
}
