/* SPDX-License-Identifier: Apache-2.0 */
/* libgitstead in a module that goes: errors of its domain work on. Links neither library itself. test-unload LIBRARY */
#include <dlfcn.h>
#include <glib.h>
#include <stdio.h>

static gboolean
load_and_unload (const char *path)
{
  void *module = dlopen (path, RTLD_NOW | RTLD_LOCAL);
  if (module == NULL)
    {
      printf ("# %s\n", dlerror ());
      return FALSE;
    }
  return dlsym (module, "gs_client_new") != NULL && dlclose (module) == 0;
}

int
main (int argc, char **argv)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GError) copy = NULL;
  if (argc != 2)
    return 2;
  if (!load_and_unload (argv[1]))
    printf ("not ok 1 - unloaded\n1..1\n");
  else
    {
      /* GLib calls the functions that were registered while it was there. */
      error = g_error_new_literal (g_quark_from_static_string ("gitstead-error"), 5, "not there");
      copy = g_error_copy (error);
      printf ("ok 1 - unloaded\n%sok 2 - errors afterwards\n1..2\n", copy->code == 5 ? "" : "not ");
    }
  return 0;
}
