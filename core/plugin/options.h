/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - one mapping of the config file, checked against option rows: what create sees as GsConfig. */
#ifndef GSI_PLUGIN_OPTIONS_H
#define GSI_PLUGIN_OPTIONS_H

#include "base/config.h"
#include <gitstead/plugin.h>

typedef struct GsiOptions GsiOptions;

/**
 * Checks @mapping (NULL: nothing is set) against @rows (NULL: none). @what names it in messages: "storage default".
 * @others are keys that belong to somebody else ("plugin", "name", roles), NULL-terminated, may be NULL. Every mistake
 * goes to @problems; unknown keys are told with the nearest known one. Secrets given as {file: …}, {env: …} or
 * {credential: …} are read here. *full*, never NULL, complete only when no problem was added.
 */
GsiOptions *gsi_options_new (const GsOption *rows, const GsiNode *mapping, const char *what, const char *const *others,
                             GsiProblems *problems);
void gsi_options_free (GsiOptions *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiOptions, gsi_options_free)

/** As plugins see it; its strings live as long as @options. An unknown key is a bug of ours: it answers as unset. */
const GsConfig *gsi_options_config (const GsiOptions *options);

/** Short forms. */
const char *gsi_options_string (const GsiOptions *options, const char *key);
gint64 gsi_options_integer (const GsiOptions *options, const char *key);
gboolean gsi_options_boolean (const GsiOptions *options, const char *key);
const char *const *gsi_options_list (const GsiOptions *options, const char *key);

/** Appends the effective values as YAML lines "INDENTkey: value", secrets as "********"; unset ones are left out. */
void gsi_options_print (const GsiOptions *options, guint indent, GString *out);

/** What one option was and what it is to be. */
typedef struct
{
  const GsOption *row;
  char *text; /* "size: 1MiB -> 2MiB"; secrets are masked */
} GsiOptionChange;

/** Options of one plugin's rows that differ in effect: GsiOptionChange, empty when none does. *full*
 *  (g_ptr_array_unref). */
GPtrArray *gsi_options_diff (const GsiOptions *before, const GsiOptions *after);
/** Gives the options that are not reloadable in @after the values that they have in @before. Both have the same rows. */
void gsi_options_retain (GsiOptions *after, const GsiOptions *before);
/** Do two lists of that key, not necessarily of one plugin, have an element in common? */
gboolean gsi_options_share (const GsiOptions *one, const GsiOptions *other, const char *key);

/** Is the row array itself sane? FALSE with @error naming the row. @reserved as @others above. */
gboolean gsi_options_check_rows (const GsOption *rows, const char *const *reserved, GError **error);

/** "text", "integer", "duration", … */
const char *gsi_option_type_name (guint32 type);

#endif
