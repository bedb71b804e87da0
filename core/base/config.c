/* SPDX-License-Identifier: Apache-2.0 */
/* Files, includes, nodes and problems. See config.h. */
#include "base/config-private.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROBLEMS_MAX 100
#define INCLUDE_DEPTH_MAX 8

/* ----------------------------------------------------------------------------------------- problems */

typedef struct
{
  char *text;
  guint file, line, column, order; /* for sorting; a file's number is that of its first problem */
} Problem;

struct GsiProblems
{
  GPtrArray *list;
  GPtrArray *files;
  guint n_dropped;
  gboolean sorted;
};

static void
problem_free (gpointer data)
{
  Problem *problem = data;
  g_free (problem->text);
  g_free (problem);
}

GsiProblems *
gsi_problems_new (void)
{
  GsiProblems *problems = g_new0 (GsiProblems, 1);
  problems->list = g_ptr_array_new_with_free_func (problem_free);
  problems->files = g_ptr_array_new_with_free_func (g_free);
  return problems;
}

void
gsi_problems_free (GsiProblems *problems)
{
  if (problems == NULL)
    return;
  g_ptr_array_unref (problems->list);
  g_ptr_array_unref (problems->files);
  g_free (problems);
}

static guint
file_number (GsiProblems *problems, const char *file)
{
  guint i;

  if (g_ptr_array_find_with_equal_func (problems->files, file, g_str_equal, &i))
    return i;
  g_ptr_array_add (problems->files, g_strdup (file));
  return problems->files->len - 1;
}

static void
add_problem (GsiProblems *problems, const char *file, guint line, guint column, const char *message)
{
  Problem *problem;
  GString *text;

  if (problems->list->len == PROBLEMS_MAX)
    {
      problems->n_dropped++;
      return;
    }
  text = g_string_new (NULL);
  if (file != NULL)
    g_string_append (text, file);
  if (line > 0)
    g_string_append_printf (text, ":%u:%u", line, column);
  if (text->len > 0)
    g_string_append (text, ": ");
  /* Messages quote what stands in files: keep each on its line. */
  gsi_text_append_escaped (text, message, -1, FALSE);
  problem = g_new0 (Problem, 1);
  problem->text = g_string_free (text, FALSE);
  problem->file = file != NULL ? file_number (problems, file) : 0;
  problem->line = line;
  problem->column = column;
  problem->order = problems->list->len;
  g_ptr_array_add (problems->list, problem);
  problems->sorted = FALSE;
}

void
gsi_problems_add (GsiProblems *problems, const GsiNode *at, const char *format, ...)
{
  g_autofree char *message = NULL;
  va_list args;

  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);
  add_problem (problems, at != NULL ? at->file : NULL, at != NULL ? at->line : 0, at != NULL ? at->column : 0, message);
}

void
gsi_problems_add_file (GsiProblems *problems, const char *file, const char *format, ...)
{
  g_autofree char *message = NULL;
  va_list args;

  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);
  add_problem (problems, file, 0, 0, message);
}

guint
gsi_problems_count (const GsiProblems *problems)
{
  return problems->list->len;
}

static gint
by_place (gconstpointer a, gconstpointer b)
{
  const Problem *one = *(const Problem *const *) a, *other = *(const Problem *const *) b;

  if (one->file != other->file)
    return one->file < other->file ? -1 : 1;
  if (one->line != other->line)
    return one->line < other->line ? -1 : 1;
  if (one->column != other->column)
    return one->column < other->column ? -1 : 1;
  return one->order < other->order ? -1 : 1;
}

static void
sort_problems (const GsiProblems *problems)
{
  if (!problems->sorted)
    {
      g_ptr_array_sort (problems->list, by_place);
      ((GsiProblems *) problems)->sorted = TRUE;
    }
}

const char *
gsi_problems_get (const GsiProblems *problems, guint index)
{
  sort_problems (problems);
  return ((const Problem *) g_ptr_array_index (problems->list, index))->text;
}

gboolean
gsi_problems_check (const GsiProblems *problems, GError **error)
{
  g_autoptr (GString) all = g_string_new (NULL);

  if (problems->list->len == 0)
    return TRUE;
  for (guint i = 0; i < problems->list->len; i++)
    g_string_append_printf (all, "%s%s", i > 0 ? "\n" : "", gsi_problems_get (problems, i));
  if (problems->n_dropped > 0)
    g_string_append_printf (all, "\n… and %u more", problems->n_dropped);
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s", all->str);
}

/* -------------------------------------------------------------------------------------------- nodes */

GsiNode *
gsi_node_new (GsiConfigFile *config, GsiNodeType type, const char *file, guint line, guint column)
{
  GsiNode *node = g_new0 (GsiNode, 1);
  node->type = type;
  node->file = file;
  node->line = line;
  node->column = column;
  return node;
}

/* Recursive, but the depth of a tree is limited where it is made. */
void
gsi_node_free (GsiNode *node)
{
  if (node == NULL)
    return;
  for (guint i = 0; i < node->n_items; i++)
    {
      gsi_node_free (node->items[i]);
      if (node->type == GSI_NODE_MAPPING)
        gsi_node_free (node->keys[i]);
    }
  /* It may have been a password. */
  if (node->text != NULL)
    explicit_bzero (node->text, strlen (node->text));
  g_free (node->text);
  g_free (node->items);
  g_free (node->keys);
  g_free (node);
}

void
gsi_node_append (GsiNode *parent, GsiNode *key, GsiNode *value)
{
  /* Room for the next power of two. */
  if ((parent->n_items & (parent->n_items - 1)) == 0)
    {
      guint room = MAX (1, parent->n_items * 2);
      parent->items = g_renew (GsiNode *, parent->items, room);
      if (key != NULL)
        parent->keys = g_renew (GsiNode *, parent->keys, room);
    }
  parent->items[parent->n_items] = value;
  if (key != NULL)
    parent->keys[parent->n_items] = key;
  parent->n_items++;
}

static gssize
find_key (const GsiNode *mapping, const char *key)
{
  for (guint i = 0; i < mapping->n_items; i++)
    if (strcmp (mapping->keys[i]->text, key) == 0)
      return i;
  return -1;
}

const GsiNode *
gsi_node_get (const GsiNode *mapping, const char *key)
{
  gssize i = mapping->type == GSI_NODE_MAPPING ? find_key (mapping, key) : -1;
  return i >= 0 ? mapping->items[i] : NULL;
}

const char *
gsi_node_kind (const GsiNode *node)
{
  switch (node->type)
    {
    case GSI_NODE_SEQUENCE:
      return "a sequence";
    case GSI_NODE_MAPPING:
      return "a mapping";
    default:
      return node->empty ? "nothing" : "a text";
    }
}

/* ----------------------------------------------------------------------------------------- includes */

static void load_file (GsiConfigFile *config, const char *path, const GsiNode *from, guint depth,
                       GsiProblems *problems);

/* Where "include" stands, or nowhere for the first file. */
static void
complain (GsiProblems *problems, const GsiNode *from, const char *path, const char *what)
{
  if (from != NULL)
    gsi_problems_add (problems, from, "including %s: %s", path, what);
  else
    gsi_problems_add_file (problems, path, "%s", what);
}

static char *
read_file (const char *path, const GsiNode *from, gsize *ret_len, GsiProblems *problems)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  g_autofree char *text = NULL;
  struct stat st;
  gsize len = 0;

  if (fd < 0 || fstat (fd, &st) != 0)
    {
      complain (problems, from, path, g_strerror (errno));
      if (fd >= 0)
        close (fd);
      return NULL;
    }
  if (!S_ISREG (st.st_mode) || st.st_size > GSI_CONFIG_MAX_BYTES)
    {
      complain (problems, from, path, S_ISREG (st.st_mode) ? "it is larger than 1 MiB" : "it is not a regular file");
      close (fd);
      return NULL;
    }
  text = g_malloc (GSI_CONFIG_MAX_BYTES + 1);
  while (len <= GSI_CONFIG_MAX_BYTES)
    {
      ssize_t n = read (fd, text + len, GSI_CONFIG_MAX_BYTES + 1 - len);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        {
          if (n < 0)
            complain (problems, from, path, g_strerror (errno));
          close (fd);
          if (n < 0)
            return NULL;
          *ret_len = len;
          return g_steal_pointer (&text);
        }
      len += (gsize) n;
    }
  complain (problems, from, path, "it is larger than 1 MiB");
  close (fd);
  return NULL;
}

/* Moves the entries of @from that @to has not, joins those of both. */
static void
merge (GsiNode *to, GsiNode *from, guint level, GsiProblems *problems)
{
  for (guint i = 0; i < from->n_items; i++)
    {
      GsiNode *key = from->type == GSI_NODE_MAPPING ? g_steal_pointer (&from->keys[i]) : NULL;
      GsiNode *value = g_steal_pointer (&from->items[i]);
      gssize twin = key != NULL ? find_key (to, key->text) : -1;

      if (twin < 0)
        {
          gsi_node_append (to, key, value);
          continue;
        }
      if (level == 0 && to->items[twin]->type == value->type && value->type != GSI_NODE_SCALAR)
        merge (to->items[twin], value, 1, problems);
      else
        gsi_problems_add (problems, key, "\"%s\" is already given at %s:%u:%u", key->text, to->keys[twin]->file,
                          to->keys[twin]->line, to->keys[twin]->column);
      gsi_node_free (key);
      gsi_node_free (value);
    }
}

static gint
by_bytes (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *) a, *(const char *const *) b);
}

/* A path whose last component may be a pattern, to be taken from the folder of the file that it stands in. */
static void
include_one (GsiConfigFile *config, const GsiNode *node, guint depth, GsiProblems *problems)
{
  g_autofree char *here = g_path_get_dirname (node->file);
  g_autofree char *full
      = g_path_is_absolute (node->text) ? g_strdup (node->text) : g_build_filename (here, node->text, NULL);
  g_autofree char *folder = g_path_get_dirname (full);
  g_autofree char *pattern = g_path_get_basename (full);
  g_autoptr (GPtrArray) found = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GError) error = NULL;
  g_autoptr (GDir) dir = NULL;
  const char *name;

  if (strpbrk (pattern, "*?[") == NULL)
    {
      load_file (config, full, node, depth, problems);
      return;
    }
  dir = g_dir_open (folder, 0, &error);
  if (dir == NULL)
    {
      gsi_problems_add (problems, node, "including %s: %s", full, error->message);
      return;
    }
  /* A pattern that matches nothing is fine: conf.d starts out empty. */
  while ((name = g_dir_read_name (dir)) != NULL)
    if (fnmatch (pattern, name, FNM_PERIOD) == 0)
      g_ptr_array_add (found, g_build_filename (folder, name, NULL));
  g_ptr_array_sort (found, by_bytes);
  for (guint i = 0; i < found->len; i++)
    load_file (config, g_ptr_array_index (found, i), node, depth, problems);
}

static void
include_all (GsiConfigFile *config, const GsiNode *node, guint depth, GsiProblems *problems)
{
  if (node->type == GSI_NODE_SEQUENCE)
    for (guint i = 0; i < node->n_items; i++)
      if (node->items[i]->type == GSI_NODE_SCALAR && !node->items[i]->empty)
        include_one (config, node->items[i], depth, problems);
      else
        gsi_problems_add (problems, node->items[i], "include wants paths, not %s", gsi_node_kind (node->items[i]));
  else if (node->type == GSI_NODE_SCALAR && !node->empty)
    include_one (config, node, depth, problems);
  else
    gsi_problems_add (problems, node, "include wants a path or a sequence of paths, not %s", gsi_node_kind (node));
}

/* Takes "include" out of a file's own top level. *full*. */
static GsiNode *
take_include (GsiNode *mapping)
{
  gssize i = find_key (mapping, "include");
  GsiNode *value;

  if (i < 0)
    return NULL;
  value = mapping->items[i];
  gsi_node_free (mapping->keys[i]);
  mapping->n_items--;
  for (guint at = (guint) i; at < mapping->n_items; at++)
    {
      mapping->keys[at] = mapping->keys[at + 1];
      mapping->items[at] = mapping->items[at + 1];
    }
  return value;
}

static void
add_text (GsiConfigFile *config, const char *name, const char *text, gsize len, guint depth, GsiProblems *problems)
{
  char *file = g_strdup (name);
  GsiNode *tree, *include;

  g_ptr_array_add (config->names, file);
  tree = gsi_config_parse_yaml (config, file, text, len, problems);
  if (tree == NULL)
    return;
  include = take_include (tree);
  merge (config->root, tree, 0, problems);
  gsi_node_free (tree);
  if (include != NULL)
    include_all (config, include, depth + 1, problems);
  gsi_node_free (include);
}

static void
load_file (GsiConfigFile *config, const char *path, const GsiNode *from, guint depth, GsiProblems *problems)
{
  g_autofree char *text = NULL;
  gsize len = 0;

  if (depth > INCLUDE_DEPTH_MAX)
    gsi_problems_add (problems, from, "including %s: more than %d files deep; does a file include itself?", path,
                      INCLUDE_DEPTH_MAX);
  else if (config->names->len >= GSI_CONFIG_MAX_FILES)
    complain (problems, from, path, "more than 256 files");
  else if ((text = read_file (path, from, &len, problems)) != NULL)
    {
      add_text (config, path, text, len, depth, problems);
      explicit_bzero (text, len);
    }
}

/* ----------------------------------------------------------------------------------------- in and out */

static GsiConfigFile *
config_new (const char *path)
{
  GsiConfigFile *config = g_new0 (GsiConfigFile, 1);
  config->path = g_strdup (path);
  config->names = g_ptr_array_new_with_free_func (g_free);
  config->root = gsi_node_new (config, GSI_NODE_MAPPING, config->path, 1, 1);
  return config;
}

GsiConfigFile *
gsi_config_load (const char *path, GsiProblems *problems)
{
  GsiConfigFile *config = config_new (path);
  load_file (config, path, NULL, 0, problems);
  return config;
}

GsiConfigFile *
gsi_config_parse (const char *name, const char *text, gsize len, GsiProblems *problems)
{
  GsiConfigFile *config = config_new (name);
  if (len > GSI_CONFIG_MAX_BYTES)
    gsi_problems_add_file (problems, name, "it is larger than 1 MiB");
  else
    add_text (config, name, text, len, 0, problems);
  return config;
}

void
gsi_config_free (GsiConfigFile *config)
{
  if (config == NULL)
    return;
  gsi_node_free (config->root);
  g_ptr_array_unref (config->names);
  g_free (config->path);
  g_free (config);
}

const GsiNode *
gsi_config_root (const GsiConfigFile *config)
{
  return config->root;
}

const char *
gsi_config_path (const GsiConfigFile *config)
{
  return config->path;
}
