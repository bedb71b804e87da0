/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_new.c - `gitstead plugin new`: a small, whole plugin to begin with. */
#include "plugin_new.h"
#include "base/text.h"
#include "cli.h"
#include "command.h"
#include "plugin/loader.h"

#include <errno.h>
#include <gitstead/error.h>
#include <glib/gstdio.h>
#include <string.h>

#define NAME_MAX_LEN 32

static const char *
find_template (const char *name)
{
  for (const GsiTemplate *one = gsi_templates; one->name != NULL; one++)
    if (strcmp (one->name, name) == 0)
      return one->text;
  return NULL;
}

static gboolean
is_name (const char *name)
{
  if (!g_ascii_islower (name[0]) || strlen (name) > NAME_MAX_LEN)
    return FALSE;
  for (; *name != '\0'; name++)
    if (!g_ascii_islower (*name) && !g_ascii_isdigit (*name) && *name != '-')
      return FALSE;
  return TRUE;
}

static char *
replace_all (const char *text, const char *what, const char *with)
{
  g_auto (GStrv) parts = g_strsplit (text, what, -1);
  return g_strjoinv (with, parts);
}

static gboolean
write_file (const char *folder, const char *file, const char *template, const char *kind, const char *name,
            GError **error)
{
  g_autofree char *path = g_build_filename (folder, file, NULL);
  g_autofree char *named = replace_all (find_template (template), "@NAME@", name);
  g_autofree char *text = replace_all (named, "@KIND@", kind);
  return g_file_set_contents (path, text, -1, error);
}

static int
no_such_kind (const char *word)
{
  const char *kinds[GS_KIND_MAX];
  const char *near;
  for (guint32 kind = 1; kind <= GS_KIND_MAX; kind++)
    kinds[kind - 1] = gsi_kind_name (kind);
  near = gsi_text_nearest (word, kinds, G_N_ELEMENTS (kinds));
  if (near != NULL)
    return gsi_cli_usage ("plugin new", "there is no kind '%s'; did you mean '%s'?", word, near);
  return gsi_cli_usage ("plugin new",
                        "there is no kind '%s': they are transport, storage, metadata, routing, consistency, cache, access and layer",
                        word);
}

int
gsi_plugin_new_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  const char *name = args[1], *folder = n_args > 2 ? args[2] : name;
  const char *kind = gsi_kind_name (gsi_kind_from_name (args[0], (gssize) strlen (args[0])));
  g_autofree char *source = NULL, *source_template = NULL;
  if (kind == NULL)
    return no_such_kind (args[0]);
  if (!is_name (name))
    return gsi_cli_usage ("plugin new", "'%s' is no name for a plugin: want [a-z][a-z0-9-]*, at most %d bytes", name,
                          NAME_MAX_LEN);
  if (g_mkdir (folder, 0777) != 0)
    {
      gs_fail (&error, gs_error_from_errno (errno), "making the folder %s: %s", folder, g_strerror (errno));
      return gsi_cli_fail (error, "cannot write a new plugin");
    }
  source = g_strconcat (name, ".c", NULL);
  source_template = g_strconcat (kind, ".c", NULL);
  if (!write_file (folder, source, source_template, kind, name, &error)
      || !write_file (folder, "meson.build", "meson.build.in", kind, name, &error)
      /* With a character that no plugin's name has: it is never the source itself. */
      || !write_file (folder, "own_test.c", "test.c.in", kind, name, &error)
      || !write_file (folder, "README.md", "README.md.in", kind, name, &error))
    return gsi_cli_fail (error, "cannot write a new plugin to %s", folder);
  gsi_cli_say ("%s: %s, meson.build, own_test.c and README.md are written", folder, source);
  gsi_cli_say ("next: cd %s && meson setup build && meson test -C build", folder);
  return GSI_EXIT_OK;
}
