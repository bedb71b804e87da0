/* SPDX-License-Identifier: Apache-2.0 */
/* Opening plugins for tests. See loadplugin.h. */
#include "loadplugin.h"

#include <dlfcn.h>
#include <string.h>

const GsPlugin *
load_plugin (const char *file)
{
  g_autofree char *path = strchr (file, '/') != NULL
                              ? g_strdup (file)
                              : g_build_filename (g_getenv ("GITSTEAD_TEST_PLUGIN_PATH"), file, NULL);
  gpointer module = dlopen (path, RTLD_NOW | RTLD_LOCAL);
  GsPluginQuery query = NULL;
  if (module != NULL)
    *(void **) &query = dlsym (module, GS_PLUGIN_QUERY_SYMBOL);
  if (query == NULL)
    g_error ("loading %s: %s", path, dlerror ());
  return query ();
}
