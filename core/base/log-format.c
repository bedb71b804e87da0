/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two forms of a record. Text: "TIME LEVEL event key=value …". JSON: one flat object a line, fields beside the
 * fixed members; a field that has the name of one of these gets a '_' behind it, so that no client can forge them.
 */
#include "base/log-private.h"

#include "base/clock.h"
#include "base/text.h"

#include <string.h>

#define FIELD_MAX 4096

const char *
gsi_log_level_name (GsLogLevel level)
{
  static const char *const names[] = { "error", "warning", "info", "debug" };
  return names[CLAMP ((int) level, 0, 3)];
}

/* A long text loses its tail, at a whole character. */
static gssize
bounded (const char *text)
{
  gsize len = strnlen (text, FIELD_MAX + 1);

  if (len <= FIELD_MAX)
    return (gssize) len;
  len = FIELD_MAX;
  while (len > FIELD_MAX - 4 && ((guchar) text[len] & 0xc0) == 0x80)
    len--;
  return (gssize) len;
}

static void
append_text (GString *line, const char *key, const char *text)
{
  g_string_append_printf (line, " %s=", key);
  gsi_text_append_escaped (line, text, bounded (text), TRUE);
}

static void
append_json (GString *line, const char *key, const char *text)
{
  g_string_append_c (line, ',');
  gsi_text_append_json (line, key, -1);
  g_string_append_c (line, ':');
  gsi_text_append_json (line, text, bounded (text));
}

static gboolean
is_fixed (const char *key)
{
  static const char *const fixed[] = { "time", "level", "event", "instance", "thread", "call", "truncated" };
  for (guint i = 0; i < G_N_ELEMENTS (fixed); i++)
    if (strcmp (fixed[i], key) == 0)
      return TRUE;
  return FALSE;
}

static void
append_field (GString *line, guint32 format, const GsField *field)
{
  g_autofree char *other = is_fixed (field->key) ? g_strconcat (field->key, "_", NULL) : NULL;
  const char *key = other != NULL ? other : field->key;

  if (field->text == NULL && format == GSI_LOG_JSON)
    {
      g_string_append_c (line, ',');
      gsi_text_append_json (line, key, -1);
      g_string_append_printf (line, ":%" G_GINT64_FORMAT, field->number);
    }
  else if (field->text == NULL)
    g_string_append_printf (line, " %s=%" G_GINT64_FORMAT, key, field->number);
  else if (format == GSI_LOG_JSON)
    append_json (line, key, field->text);
  else
    append_text (line, key, field->text);
}

void
gsi_log_format (GString *line, guint32 format, const GsiLogRecord *record)
{
  void (*append) (GString *, const char *, const char *) = format == GSI_LOG_JSON ? append_json : append_text;
  char time_text[GSI_CLOCK_TEXT_SIZE];
  gboolean cut = FALSE;

  gsi_clock_text (record->wall_us, time_text);
  g_string_truncate (line, 0);
  if (format == GSI_LOG_JSON)
    {
      g_string_append_printf (line, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":", time_text,
                              gsi_log_level_name (record->level));
      gsi_text_append_json (line, record->event, -1);
    }
  else
    {
      g_string_append_printf (line, "%s %-7s ", time_text, gsi_log_level_name (record->level));
      gsi_text_append_escaped (line, record->event, -1, FALSE);
    }
  if (record->instance != NULL)
    append (line, "instance", record->instance);
  for (gsize i = 0; i < record->n_fields && !cut; i++)
    {
      gsize before = line->len;
      append_field (line, format, &record->fields[i]);
      /* Room for what follows. */
      cut = line->len > GSI_LOG_LINE_MAX - 256;
      if (cut)
        g_string_truncate (line, before);
    }
  if (record->call != NULL)
    append (line, "call", record->call);
  if (record->thread != NULL)
    append (line, "thread", record->thread);
  if (cut)
    g_string_append (line, format == GSI_LOG_JSON ? ",\"truncated\":true" : " truncated=true");
  g_string_append (line, format == GSI_LOG_JSON ? "}\n" : "\n");
}
