/* SPDX-License-Identifier: Apache-2.0 */
/* cli_table.c - tables for people, by libsmartcols. No colours; nothing is cut off when it goes into a pipe. */
#include "base/text.h"
#include "cli.h"

#include <libsmartcols.h>
#include <stdlib.h>
#include <unistd.h>

struct GsiTable
{
  struct libscols_table *table;
  gsize n_columns;
};

/* libsmartcols fails only for want of memory; there GLib's answer is to end the program, and so is ours. */
static void
must (int failed)
{
  if (failed != 0)
    g_error ("out of memory for a table");
}

GsiTable *
gsi_table_new (const char *const *titles)
{
  GsiTable *table = g_new0 (GsiTable, 1);
  table->table = scols_new_table ();
  must (table->table == NULL);
  scols_table_enable_colors (table->table, 0);
  must (scols_table_set_column_separator (table->table, "  "));
  if (!isatty (STDOUT_FILENO))
    scols_table_set_termforce (table->table, SCOLS_TERMFORCE_NEVER);
  for (; titles[table->n_columns] != NULL; table->n_columns++)
    {
      const char *title = titles[table->n_columns];
      gboolean right = title[0] == '>';
      must (scols_table_new_column (table->table, title + right, 0, right ? SCOLS_FL_RIGHT : 0) == NULL);
    }
  return table;
}

void
gsi_table_row (GsiTable *table, ...)
{
  struct libscols_line *line = scols_table_new_line (table->table, NULL);
  va_list args;
  must (line == NULL);
  va_start (args, table);
  for (gsize i = 0; i < table->n_columns; i++)
    {
      const char *cell = va_arg (args, const char *);
      g_autoptr (GString) clean = g_string_new (NULL);
      if (cell == NULL)
        break;
      gsi_text_append_escaped (clean, cell, -1, FALSE);
      must (scols_line_set_data (line, i, clean->str));
    }
  va_end (args);
}

void
gsi_table_print (GsiTable *table)
{
  char *printed = NULL;
  char **lines;
  /* Through a string, so that no line ends in blanks. */
  must (scols_print_table_to_string (table->table, &printed));
  lines = g_strsplit (printed, "\n", -1);
  for (gsize i = 0; lines[i] != NULL; i++)
    if (lines[i][0] != '\0')
      g_print ("%s\n", g_strchomp (lines[i]));
  g_strfreev (lines);
  free (printed);
  scols_unref_table (table->table);
  g_free (table);
}
