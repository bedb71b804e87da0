/* SPDX-License-Identifier: Apache-2.0 */
/* One mapping against option rows. See options.h. */
#include "plugin/options.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS_MAX 256
#define KEY_MAX 48
#define VALUE_MAX 65536
#define LIST_MAX 4096
#define SECRET_MAX 65536
#define MASK "********"

typedef struct
{
  const GsOption *row;
  gboolean set;
  char *text;    /* STRING, CHOICE, PATH */
  gint64 number; /* INT, DURATION, SIZE, BOOL */
  char **list;
} Value;

struct GsiOptions
{
  GsConfig config;
  Value *values;
  gsize n_values;
};

static const char *const type_names[]
    = { NULL, "text", "integer", "boolean", "duration", "size", "choice", "path", "list" };

const char *
gsi_option_type_name (guint32 type)
{
  return type >= GS_OPTION_STRING && type <= GS_OPTION_LIST ? type_names[type] : "unknown";
}

/* -------------------------------------------------------------------------------------------- one text */

static char *
limit_text (const GsOption *row, gint64 limit)
{
  switch (row->type)
    {
    case GS_OPTION_SIZE:
      return gsi_text_size_exact (limit);
    case GS_OPTION_DURATION:
      return gsi_text_duration_exact (limit);
    default:
      return g_strdup_printf ("%" G_GINT64_FORMAT, limit);
    }
}

static gboolean
check_limits (const GsOption *row, gint64 value, GError **error)
{
  g_autofree char *min = NULL, *max = NULL, *seen = NULL;

  if ((row->min == 0 && row->max == 0) || (value >= row->min && value <= row->max))
    return TRUE;
  min = limit_text (row, row->min);
  max = limit_text (row, row->max);
  seen = limit_text (row, value);
  if (row->max == G_MAXINT64)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "must be at least %s, not %s", min, seen);
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "must be from %s to %s, not %s", min, max, seen);
}

static gboolean
is_choice (const char *choices, const char *text)
{
  g_auto (GStrv) words = g_strsplit (choices, "|", -1);
  return g_strv_contains ((const char *const *) words, text);
}

static gboolean
check_text (const char *text, GError **error)
{
  if (strlen (text) > VALUE_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "is longer than %d bytes", VALUE_MAX);
  for (const char *at = text; *at != '\0'; at++)
    if ((guchar) *at < 0x20 || *at == 0x7f)
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "has a control character in it");
  return TRUE;
}

static gboolean take_list (Value *value, const GsiNode *node, const char *what, GsiProblems *problems);

/* A list's fallback, "[a, b]", or one element given without brackets. */
static gboolean
parse_list (const char *text, Value *value, GError **error)
{
  g_autofree char *yaml = NULL;
  g_autoptr (GsiProblems) problems = NULL;
  g_autoptr (GsiConfigFile) config = NULL;
  const GsiNode *node;

  if (text[0] != '[')
    {
      if (!check_text (text, error))
        return FALSE;
      value->list = g_new0 (char *, 2);
      value->list[0] = g_strdup (text);
      return TRUE;
    }
  yaml = g_strdup_printf ("list: %s\n", text);
  problems = gsi_problems_new ();
  config = gsi_config_parse ("list", yaml, strlen (yaml), problems);
  node = gsi_node_get (gsi_config_root (config), "list");
  if (node != NULL && node->type == GSI_NODE_SEQUENCE && take_list (value, node, "list", problems))
    return TRUE;
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "wants a list such as [a, b], not \"%.80s\"", text);
}

/* Sets @value from @text as the row wants it. A failure's message completes "KEY …". */
static gboolean
parse_text (const GsOption *row, const char *text, const char *folder, Value *value, GError **error)
{
  gboolean flag = FALSE;

  switch (row->type)
    {
    case GS_OPTION_INT:
      if (!gsi_text_parse_integer (text, &value->number, error))
        return FALSE;
      break;
    case GS_OPTION_DURATION:
      if (!gsi_text_parse_duration (text, &value->number, error))
        return FALSE;
      break;
    case GS_OPTION_SIZE:
      if (!gsi_text_parse_size (text, &value->number, error))
        return FALSE;
      break;
    case GS_OPTION_BOOL:
      if (!gsi_text_parse_boolean (text, &flag, error))
        return FALSE;
      value->number = flag;
      return TRUE;
    case GS_OPTION_CHOICE:
      if (!is_choice (row->choices, text))
        {
          g_autofree char *shown = g_strdelimit (g_strdup (row->choices), "|", ',');
          return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "must be one of %s, not \"%.80s\"", shown, text);
        }
      value->text = g_strdup (text);
      return TRUE;
    case GS_OPTION_PATH:
      if (text[0] == '\0')
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "wants a path, not an empty text");
      if (!check_text (text, error))
        return FALSE;
      value->text = g_canonicalize_filename (text, folder);
      return TRUE;
    case GS_OPTION_STRING:
      if (!check_text (text, error))
        return FALSE;
      value->text = g_strdup (text);
      return TRUE;
    default:
      return parse_list (text, value, error);
    }
  return check_limits (row, value->number, error);
}

static void
value_clear (Value *value)
{
  if (value->text != NULL)
    explicit_bzero (value->text, strlen (value->text));
  for (char **word = value->list; word != NULL && *word != NULL; word++)
    explicit_bzero (*word, strlen (*word));
  g_clear_pointer (&value->text, g_free);
  g_clear_pointer (&value->list, g_strfreev);
}

/* ---------------------------------------------------------------------------------------- the rows */

static gboolean
check_row (const GsOption *row, GError **error)
{
  Value value = { 0 };
  g_autoptr (GError) failed = NULL;

  for (const char *at = row->key; *at != '\0'; at++)
    if (!g_ascii_islower (*at) && (at == row->key || (!g_ascii_isdigit (*at) && *at != '_')))
      return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "a key is [a-z][a-z0-9_]*");
  if (row->key[0] == '\0' || strlen (row->key) > KEY_MAX)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "a key has 1 to %d bytes", KEY_MAX);
  if (row->type < GS_OPTION_STRING || row->type > GS_OPTION_LIST)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "there is no type %u", row->type);
  if (row->help == NULL || row->help[0] == '\0')
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it has no help");
  if ((row->type == GS_OPTION_CHOICE) != (row->choices != NULL && row->choices[0] != '\0'))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "choices belong to the type choice, and it must have some");
  if (row->min > row->max)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "its lower limit is above its upper one");
  if ((row->min != 0 || row->max != 0) && row->type != GS_OPTION_INT && row->type != GS_OPTION_DURATION
      && row->type != GS_OPTION_SIZE)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "limits belong to integers, durations and sizes");
  if (row->fallback != NULL && (row->flags & GS_OPTION_REQUIRED) != 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it is required and has a fallback: only one makes sense");
  if (row->fallback != NULL && !parse_text (row, row->fallback, "/", &value, &failed))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "its fallback %s", failed->message);
  value_clear (&value);
  return TRUE;
}

gboolean
gsi_options_check_rows (const GsOption *rows, const char *const *reserved, GError **error)
{
  for (gsize i = 0; rows != NULL && rows[i].key != NULL; i++)
    {
      g_autoptr (GError) failed = NULL;
      if (i == ROWS_MAX)
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it has more than %d options, or the list has no end",
                        ROWS_MAX);
      if (check_row (&rows[i], &failed))
        {
          if (reserved != NULL && g_strv_contains (reserved, rows[i].key))
            gs_fail (&failed, GS_ERROR_FAILED_PRECONDITION, "the key is taken by the server or by a need");
          for (gsize j = 0; j < i && failed == NULL; j++)
            if (strcmp (rows[i].key, rows[j].key) == 0)
              gs_fail (&failed, GS_ERROR_FAILED_PRECONDITION, "it stands twice");
        }
      if (failed != NULL)
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                        "its option \"%.64s\" (row %" G_GSIZE_FORMAT ") is wrong: %s", rows[i].key, i, failed->message);
    }
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- secrets */

/* A file that nobody else can read. One newline at its end does not count. */
static char *
read_secret_file (const char *path, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  g_autofree char *text = NULL;
  struct stat st;
  ssize_t n;

  if (fd < 0 || fstat (fd, &st) != 0)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "cannot be taken from %s: %s", path, g_strerror (errno));
      if (fd >= 0)
        close (fd);
      return NULL;
    }
  text = g_malloc0 (SECRET_MAX + 2);
  if (!S_ISREG (st.st_mode))
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "cannot be taken from %s: it is not a regular file", path);
  else if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
             "cannot be taken from %s: others can read or change it (mode %04o). Run: chmod 600 %s", path,
             (guint) (st.st_mode & 07777), path);
  else if ((n = read (fd, text, SECRET_MAX + 1)) < 0)
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "cannot be taken from %s: %s", path, g_strerror (errno));
  else if (n > SECRET_MAX)
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "cannot be taken from %s: it is larger than %d bytes", path, SECRET_MAX);
  else
    {
      close (fd);
      if (n > 0 && text[n - 1] == '\n')
        text[--n] = '\0';
      if (n == 0 || strlen (text) != (gsize) n || !g_utf8_validate (text, n, NULL))
        {
          explicit_bzero (text, SECRET_MAX);
          gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "cannot be taken from %s: it is empty or not UTF-8 text", path);
          return NULL;
        }
      return g_steal_pointer (&text);
    }
  close (fd);
  explicit_bzero (text, SECRET_MAX);
  return NULL;
}

/* systemd makes the folder readable for this service alone, whatever the modes inside say. */
static char *
read_credential (const char *name, GError **error)
{
  const char *folder = g_getenv ("CREDENTIALS_DIRECTORY");
  g_autofree char *path = NULL;

  if (strchr (name, '/') != NULL || name[0] == '.' || name[0] == '\0')
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "cannot be taken from a credential: \"%.64s\" is no credential's name",
             name);
  else if (folder == NULL)
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
             "cannot be taken from the credential \"%.64s\": CREDENTIALS_DIRECTORY is not set. Add LoadCredential= to "
             "the service",
             name);
  else
    {
      path = g_build_filename (folder, name, NULL);
      return read_secret_file (path, error);
    }
  return NULL;
}

/* What {file: …}, {env: …} or {credential: …} stands for. */
static char *
read_secret (const GsiNode *node, const char *folder, GError **error)
{
  const GsiNode *where = node->n_items == 1 ? node->items[0] : NULL;
  const char *how = where != NULL ? node->keys[0]->text : NULL;
  const char *value;

  if (where == NULL || where->type != GSI_NODE_SCALAR || where->empty
      || (strcmp (how, "file") != 0 && strcmp (how, "env") != 0 && strcmp (how, "credential") != 0))
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "wants one of {file: PATH}, {env: NAME} or {credential: NAME}");
      return NULL;
    }
  if (strcmp (how, "file") == 0)
    {
      g_autofree char *path = g_canonicalize_filename (where->text, folder);
      return read_secret_file (path, error);
    }
  if (strcmp (how, "credential") == 0)
    return read_credential (where->text, error);
  value = g_getenv (where->text);
  if (value == NULL || value[0] == '\0')
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "cannot be taken from the environment: %.64s is not set", where->text);
      return NULL;
    }
  if (!g_utf8_validate (value, -1, NULL))
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "cannot be taken from the environment: %.64s is not UTF-8",
               where->text);
      return NULL;
    }
  return g_strdup (value);
}

/* ------------------------------------------------------------------------------------- one mapping */

static char *
folder_of (const GsiNode *node)
{
  g_autofree char *folder = g_path_get_dirname (node->file);
  return g_canonicalize_filename (folder, NULL);
}

static gboolean
take_list (Value *value, const GsiNode *node, const char *what, GsiProblems *problems)
{
  gboolean fine = node->n_items <= LIST_MAX;

  if (!fine)
    {
      gsi_problems_add (problems, node, "%s: %s has more than %d elements", what, value->row->key, LIST_MAX);
      return FALSE;
    }
  value->list = g_new0 (char *, node->n_items + 1);
  for (guint i = 0, n = 0; i < node->n_items; i++)
    {
      const GsiNode *item = node->items[i];
      g_autoptr (GError) error = NULL;
      if (item->type != GSI_NODE_SCALAR || item->empty)
        gs_fail (&error, GS_ERROR_INVALID_ARGUMENT, "wants texts, not %s", gsi_node_kind (item));
      else if (check_text (item->text, &error))
        value->list[n++] = g_strdup (item->text);
      if (error != NULL)
        {
          gsi_problems_add (problems, item, "%s: %s %s", what, value->row->key, error->message);
          fine = FALSE;
        }
    }
  return fine;
}

static void
take_value (Value *value, const GsiNode *node, const char *what, GsiProblems *problems)
{
  const GsOption *row = value->row;
  g_autofree char *folder = folder_of (node);
  g_autofree char *secret = NULL;
  g_autoptr (GError) error = NULL;

  if (node->type == GSI_NODE_SEQUENCE && row->type == GS_OPTION_LIST)
    {
      value->set = take_list (value, node, what, problems);
      return;
    }
  if (node->type == GSI_NODE_MAPPING && (row->flags & GS_OPTION_SECRET) != 0)
    {
      secret = read_secret (node, folder, &error);
      if (secret != NULL)
        value->set = parse_text (row, secret, folder, value, &error);
      if (secret != NULL)
        explicit_bzero (secret, strlen (secret));
      /* What is wrong with a secret may be told; the secret may not. */
      if (secret != NULL && error != NULL && row->type != GS_OPTION_STRING)
        {
          g_clear_error (&error);
          gs_fail (&error, GS_ERROR_INVALID_ARGUMENT, "is not a %s", gsi_option_type_name (row->type));
        }
    }
  else if (node->type == GSI_NODE_SCALAR && node->empty)
    gs_fail (&error, GS_ERROR_INVALID_ARGUMENT, "has no value; remove the line, or write \"\" for an empty text");
  else if (node->type == GSI_NODE_SCALAR)
    value->set = parse_text (row, node->text, folder, value, &error);
  else
    gs_fail (&error, GS_ERROR_INVALID_ARGUMENT, "wants a %s, not %s", gsi_option_type_name (row->type),
             gsi_node_kind (node));
  if (error != NULL)
    gsi_problems_add (problems, node, "%s: %s %s", what, row->key, error->message);
}

static Value *
find_value (const GsiOptions *options, const char *key)
{
  for (gsize i = 0; i < options->n_values; i++)
    if (strcmp (options->values[i].row->key, key) == 0)
      return &options->values[i];
  return NULL;
}

static void
complain_unknown (const GsiOptions *options, const GsiNode *key, const char *what, const char *const *others,
                  GsiProblems *problems)
{
  g_autoptr (GPtrArray) known = g_ptr_array_new ();
  const char *nearest;

  for (gsize i = 0; i < options->n_values; i++)
    g_ptr_array_add (known, (gpointer) options->values[i].row->key);
  for (gsize i = 0; others != NULL && others[i] != NULL; i++)
    g_ptr_array_add (known, (gpointer) others[i]);
  nearest = gsi_text_nearest (key->text, (const char *const *) known->pdata, known->len);
  if (nearest != NULL)
    gsi_problems_add (problems, key, "%s: there is no option \"%s\"; did you mean \"%s\"?", what, key->text, nearest);
  else
    {
      g_autofree char *all = NULL;
      g_ptr_array_add (known, NULL);
      all = g_strjoinv (", ", (char **) known->pdata);
      gsi_problems_add (problems, key, "%s: there is no option \"%s\"; known: %s", what, key->text,
                        all[0] != '\0' ? all : "none");
    }
}

/* ------------------------------------------------------------------------------------ GsConfig's slots */

static const Value *
value_of (const GsConfig *config, const char *key)
{
  const Value *value = find_value (config->priv, key);
  return value != NULL && value->set ? value : NULL;
}

static const char *
config_string (const GsConfig *config, const char *key)
{
  const Value *value = value_of (config, key);
  return value != NULL ? value->text : NULL;
}

static gint64
config_integer (const GsConfig *config, const char *key)
{
  const Value *value = value_of (config, key);
  return value != NULL ? value->number : 0;
}

static gboolean
config_boolean (const GsConfig *config, const char *key)
{
  const Value *value = value_of (config, key);
  return value != NULL && value->number != 0;
}

static const char *const *
config_list (const GsConfig *config, const char *key)
{
  static const char *const none[] = { NULL };
  const Value *value = value_of (config, key);
  return value != NULL && value->list != NULL ? (const char *const *) value->list : none;
}

GsiOptions *
gsi_options_new (const GsOption *rows, const GsiNode *mapping, const char *what, const char *const *others,
                 GsiProblems *problems)
{
  GsiOptions *options = g_new0 (GsiOptions, 1);

  options->config
      = (GsConfig){ sizeof (GsConfig), options, config_string, config_integer, config_boolean, config_list };
  while (rows != NULL && rows[options->n_values].key != NULL)
    options->n_values++;
  options->values = g_new0 (Value, options->n_values);
  for (gsize i = 0; i < options->n_values; i++)
    {
      Value *value = &options->values[i];
      const GsiNode *node = mapping != NULL ? gsi_node_get (mapping, rows[i].key) : NULL;

      value->row = &rows[i];
      if (node != NULL)
        take_value (value, node, what, problems);
      else if (rows[i].fallback != NULL)
        {
          g_autofree char *folder = mapping != NULL ? folder_of (mapping) : g_get_current_dir ();
          value->set = parse_text (value->row, rows[i].fallback, folder, value, NULL);
        }
      else if ((rows[i].flags & GS_OPTION_REQUIRED) != 0)
        gsi_problems_add (problems, mapping, "%s: the option \"%s\" is missing: %s", what, rows[i].key, rows[i].help);
    }
  for (guint i = 0; mapping != NULL && i < mapping->n_items; i++)
    if (find_value (options, mapping->keys[i]->text) == NULL
        && (others == NULL || !g_strv_contains (others, mapping->keys[i]->text)))
      complain_unknown (options, mapping->keys[i], what, others, problems);
  return options;
}

void
gsi_options_free (GsiOptions *options)
{
  if (options == NULL)
    return;
  for (gsize i = 0; i < options->n_values; i++)
    value_clear (&options->values[i]);
  g_free (options->values);
  g_free (options);
}

const GsConfig *
gsi_options_config (const GsiOptions *options)
{
  return &options->config;
}

const char *
gsi_options_string (const GsiOptions *options, const char *key)
{
  return config_string (&options->config, key);
}

gint64
gsi_options_integer (const GsiOptions *options, const char *key)
{
  return config_integer (&options->config, key);
}

gboolean
gsi_options_boolean (const GsiOptions *options, const char *key)
{
  return config_boolean (&options->config, key);
}

const char *const *
gsi_options_list (const GsiOptions *options, const char *key)
{
  return config_list (&options->config, key);
}

/* ---------------------------------------------------------------------------------------- printing */

static void
print_value (const Value *value, GString *out)
{
  g_autofree char *text = NULL;

  if ((value->row->flags & GS_OPTION_SECRET) != 0)
    {
      g_string_append (out, "\"" MASK "\"");
      return;
    }
  switch (value->row->type)
    {
    case GS_OPTION_BOOL:
      g_string_append (out, value->number != 0 ? "true" : "false");
      break;
    case GS_OPTION_INT:
    case GS_OPTION_SIZE:
    case GS_OPTION_DURATION:
      text = limit_text (value->row, value->number);
      g_string_append (out, text);
      break;
    case GS_OPTION_LIST:
      g_string_append_c (out, '[');
      for (char **word = value->list; *word != NULL; word++)
        {
          if (word != value->list)
            g_string_append (out, ", ");
          gsi_text_append_json (out, *word, -1);
        }
      g_string_append_c (out, ']');
      break;
    default:
      /* A JSON string is a YAML one. */
      gsi_text_append_json (out, value->text, -1);
      break;
    }
}

void
gsi_options_print (const GsiOptions *options, guint indent, GString *out)
{
  for (gsize i = 0; i < options->n_values; i++)
    {
      const Value *value = &options->values[i];
      if (!value->set)
        continue;
      g_string_append_printf (out, "%*s%s: ", (int) indent, "", value->row->key);
      print_value (value, out);
      g_string_append_c (out, '\n');
    }
}

/* ------------------------------------------------------------------------------------------ comparing */

static gboolean
same_value (const Value *one, const Value *other)
{
  if (one->set != other->set || one->number != other->number || g_strcmp0 (one->text, other->text) != 0
      || (one->list == NULL) != (other->list == NULL))
    return FALSE;
  return one->list == NULL || g_strv_equal ((const char *const *) one->list, (const char *const *) other->list);
}

static void
option_change_free (gpointer data)
{
  GsiOptionChange *change = data;
  g_free (change->text);
  g_free (change);
}

static void
append_value (const Value *value, GString *out)
{
  if (value->set)
    print_value (value, out);
  else
    g_string_append (out, "unset");
}

GPtrArray *
gsi_options_diff (const GsiOptions *before, const GsiOptions *after)
{
  GPtrArray *changes = g_ptr_array_new_with_free_func (option_change_free);
  for (gsize i = 0; i < after->n_values; i++)
    {
      const Value *now = &after->values[i];
      const Value *was = find_value (before, now->row->key);
      GString *text;
      GsiOptionChange *change;
      if (was == NULL || same_value (was, now))
        continue;
      text = g_string_new (now->row->key);
      g_string_append (text, ": ");
      append_value (was, text);
      g_string_append (text, " -> ");
      append_value (now, text);
      change = g_new0 (GsiOptionChange, 1);
      change->row = now->row;
      change->text = g_string_free (text, FALSE);
      g_ptr_array_add (changes, change);
    }
  return changes;
}

void
gsi_options_retain (GsiOptions *after, const GsiOptions *before)
{
  for (gsize i = 0; i < after->n_values; i++)
    {
      Value *now = &after->values[i];
      const Value *was = find_value (before, now->row->key);
      if (was == NULL || (now->row->flags & GS_OPTION_RELOADABLE) != 0 || same_value (was, now))
        continue;
      value_clear (now);
      now->set = was->set;
      now->number = was->number;
      now->text = g_strdup (was->text);
      now->list = g_strdupv (was->list);
    }
}

gboolean
gsi_options_share (const GsiOptions *one, const GsiOptions *other, const char *key)
{
  const Value *left = find_value (one, key), *right = find_value (other, key);
  if (left == NULL || right == NULL || left->list == NULL || right->list == NULL)
    return FALSE;
  for (char **word = left->list; *word != NULL; word++)
    if (g_strv_contains ((const char *const *) right->list, *word))
      return TRUE;
  return FALSE;
}
