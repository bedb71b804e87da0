/* SPDX-License-Identifier: Apache-2.0 */
/* describe.h - plugins and options as text for people: `gitstead plugin show`, the generated reference. */
#ifndef GSI_PLUGIN_DESCRIBE_H
#define GSI_PLUGIN_DESCRIBE_H

#include "plugin/loader.h"

/** One row of an option table, every cell as text. Strings *full*; free with gsi_option_text_clear. */
typedef struct
{
  const char *key, *type, *help; /* borrowed from the row */
  char *fallback;                /* "" when none; masked for secrets */
  char *limits;                  /* "1..65535", "1 KiB..1 GiB", "a | b | c", "" */
  char *flags;                   /* "required, secret, reloadable" or "" */
} GsiOptionText;

void gsi_option_text (const GsOption *row, GsiOptionText *ret_text);
void gsi_option_text_clear (GsiOptionText *text);

/** "0.1". *full*. */
char *gsi_plugin_abi_text (const GsiPlugin *plugin);

/** All of a plugin for a terminal, as `gitstead plugin show` prints it. *full*. */
char *gsi_plugin_describe (const GsiPlugin *plugin);

/** The configuration reference in Markdown: the server section and every plugin that @loader finds. *full*. */
char *gsi_describe_reference (GsiLoader *loader);

#endif
