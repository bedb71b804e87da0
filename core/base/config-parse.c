/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML to nodes. libyaml's events, not its documents: only there do anchors, tags and depth show before memory is taken
 * for what they stand for. The first syntax error ends a file; refused features do not.
 */
#include "base/config-private.h"

#include "base/text.h"

#include <string.h>
#include <yaml.h>

/* A collection that is being filled. */
typedef struct
{
  GsiNode *node;
  GsiNode *key;     /* MAPPING: waiting for its value */
  gboolean dropped; /* the key was refused: so is its value */
} Level;

typedef struct
{
  GsiConfigFile *config;
  const char *file;
  GsiProblems *problems;
  yaml_parser_t yaml;
  GsiNode *root;
  Level levels[GSI_CONFIG_MAX_DEPTH];
  guint depth;
  gboolean failed;
} Parse;

static void G_GNUC_PRINTF (3, 4) complain (Parse *parse, yaml_mark_t mark, const char *format, ...)
{
  const GsiNode place = { .file = parse->file, .line = (guint) mark.line + 1, .column = (guint) mark.column + 1 };
  g_autofree char *message = NULL;
  va_list args;

  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);
  gsi_problems_add (parse->problems, &place, "%s", message);
}

static void
complain_syntax (Parse *parse)
{
  const yaml_parser_t *yaml = &parse->yaml;
  yaml_mark_t mark = yaml->problem_mark;

  /* A reader error (bad UTF-8) has an offset and no mark; where reading stood is near enough. */
  if (yaml->error == YAML_READER_ERROR)
    mark = yaml->mark;
  complain (parse, mark, "this is not YAML: %s%s%s", yaml->problem != NULL ? yaml->problem : "unknown reason",
            yaml->context != NULL ? ", " : "", yaml->context != NULL ? yaml->context : "");
  parse->failed = TRUE;
}

/* Is there room for one node more? */
static gboolean
count_node (Parse *parse, yaml_mark_t mark)
{
  if (++parse->config->n_nodes <= GSI_CONFIG_MAX_NODES)
    return TRUE;
  complain (parse, mark, "the configuration has more than %d values: is this the right file?", GSI_CONFIG_MAX_NODES);
  parse->failed = TRUE;
  return FALSE;
}

/* Hands a finished value to the collection that is open. Takes @node over. */
static void
deliver (Parse *parse, GsiNode *node)
{
  Level *level = parse->depth > 0 ? &parse->levels[parse->depth - 1] : NULL;

  if (level == NULL)
    {
      g_assert (parse->root == NULL);
      parse->root = node;
    }
  else if (level->node->type == GSI_NODE_SEQUENCE)
    gsi_node_append (level->node, NULL, node);
  else if (level->dropped)
    {
      level->dropped = FALSE;
      gsi_node_free (node);
    }
  else
    gsi_node_append (level->node, g_steal_pointer (&level->key), node);
}

static gboolean
wants_key (const Parse *parse)
{
  const Level *level = parse->depth > 0 ? &parse->levels[parse->depth - 1] : NULL;
  return level != NULL && level->node->type == GSI_NODE_MAPPING && level->key == NULL && !level->dropped;
}

static void
take_key (Parse *parse, GsiNode *key, yaml_mark_t mark)
{
  Level *level = &parse->levels[parse->depth - 1];
  const GsiNode *twin = NULL;

  for (guint i = 0; i < level->node->n_items; i++)
    if (strcmp (level->node->keys[i]->text, key->text) == 0)
      twin = level->node->keys[i];
  if (twin != NULL)
    complain (parse, mark, "\"%s\" is given twice; the first time in line %u", key->text, twin->line);
  else if (strcmp (key->text, "<<") == 0)
    complain (parse, mark, "merge keys (\"<<\") are not taken: write the values out");
  else if (key->text[0] == '\0' || strlen (key->text) > 64)
    complain (parse, mark, "a key must have 1 to 64 bytes");
  else
    {
      level->key = key;
      return;
    }
  level->dropped = TRUE;
  gsi_node_free (key);
}

static void
take_scalar (Parse *parse, const yaml_event_t *event)
{
  const char *text = (const char *) event->data.scalar.value;
  gsize len = event->data.scalar.length;
  yaml_mark_t mark = event->start_mark;
  GsiNode *node;

  if (event->data.scalar.anchor != NULL)
    complain (parse, mark, "anchors (\"&%s\") are not taken: write the value out where it is wanted",
              (const char *) event->data.scalar.anchor);
  if (event->data.scalar.tag != NULL)
    complain (parse, mark, "tags (\"%s\") are not taken: each option has its own type",
              (const char *) event->data.scalar.tag);
  if (!count_node (parse, mark))
    return;
  if (memchr (text, '\0', len) != NULL || !g_utf8_validate (text, (gssize) len, NULL))
    {
      complain (parse, mark, "the text is not UTF-8, or has a zero byte in it");
      text = "?";
      len = 1;
    }
  node = gsi_node_new (parse->config, GSI_NODE_SCALAR, parse->file, (guint) mark.line + 1, (guint) mark.column + 1);
  node->text = g_strndup (text, len);
  node->empty = len == 0 && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
  if (wants_key (parse))
    take_key (parse, node, mark);
  else
    deliver (parse, node);
}

static void
open_collection (Parse *parse, const yaml_event_t *event)
{
  gboolean mapping = event->type == YAML_MAPPING_START_EVENT;
  const yaml_char_t *anchor = mapping ? event->data.mapping_start.anchor : event->data.sequence_start.anchor;
  const yaml_char_t *tag = mapping ? event->data.mapping_start.tag : event->data.sequence_start.tag;
  yaml_mark_t mark = event->start_mark;
  Level *level;

  if (anchor != NULL)
    complain (parse, mark, "anchors (\"&%s\") are not taken: write the value out where it is wanted",
              (const char *) anchor);
  if (tag != NULL)
    complain (parse, mark, "tags (\"%s\") are not taken: each option has its own type", (const char *) tag);
  if (wants_key (parse))
    {
      complain (parse, mark, "a key must be a plain word");
      parse->failed = TRUE;
    }
  else if (parse->depth == GSI_CONFIG_MAX_DEPTH)
    {
      complain (parse, mark, "more than %d levels", GSI_CONFIG_MAX_DEPTH);
      parse->failed = TRUE;
    }
  if (parse->failed || !count_node (parse, mark))
    return;
  level = &parse->levels[parse->depth++];
  memset (level, 0, sizeof *level);
  level->node = gsi_node_new (parse->config, mapping ? GSI_NODE_MAPPING : GSI_NODE_SEQUENCE, parse->file,
                              (guint) mark.line + 1, (guint) mark.column + 1);
}

static void
take_event (Parse *parse, const yaml_event_t *event)
{
  switch (event->type)
    {
    case YAML_SCALAR_EVENT:
      take_scalar (parse, event);
      break;
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT:
      open_collection (parse, event);
      break;
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
      deliver (parse, parse->levels[--parse->depth].node);
      break;
    case YAML_ALIAS_EVENT:
      complain (parse, event->start_mark, "aliases (\"*%s\") are not taken: write the value out",
                (const char *) event->data.alias.anchor);
      parse->failed = TRUE;
      break;
    case YAML_DOCUMENT_START_EVENT:
      if (parse->root != NULL)
        {
          complain (parse, event->start_mark, "a second document (\"---\") is not taken: make it one");
          parse->failed = TRUE;
        }
      else if (event->data.document_start.version_directive != NULL
               || event->data.document_start.tag_directives.start != event->data.document_start.tag_directives.end)
        complain (parse, event->start_mark, "directives (\"%%…\") are not taken");
      break;
    default:
      break;
    }
}

GsiNode *
gsi_config_parse_yaml (GsiConfigFile *config, const char *file, const char *text, gsize len, GsiProblems *problems)
{
  Parse parse = { .config = config, .file = file, .problems = problems };
  gboolean more = TRUE;

  if (!yaml_parser_initialize (&parse.yaml))
    {
      gsi_problems_add_file (problems, file, "no memory for parsing it");
      return NULL;
    }
  yaml_parser_set_encoding (&parse.yaml, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string (&parse.yaml, (const unsigned char *) text, len);
  while (more && !parse.failed)
    {
      yaml_event_t event;
      if (!yaml_parser_parse (&parse.yaml, &event))
        {
          complain_syntax (&parse);
          break;
        }
      take_event (&parse, &event);
      more = event.type != YAML_STREAM_END_EVENT;
      yaml_event_delete (&event);
    }
  yaml_parser_delete (&parse.yaml);
  /* What was open when it failed belongs to nobody yet. */
  while (parse.depth > 0)
    {
      Level *level = &parse.levels[--parse.depth];
      gsi_node_free (level->key);
      gsi_node_free (level->node);
    }
  if (parse.failed)
    g_clear_pointer (&parse.root, gsi_node_free);
  else if (parse.root == NULL || (parse.root->type == GSI_NODE_SCALAR && parse.root->empty))
    {
      g_clear_pointer (&parse.root, gsi_node_free);
      parse.root = gsi_node_new (config, GSI_NODE_MAPPING, file, 1, 1);
    }
  else if (parse.root->type != GSI_NODE_MAPPING)
    {
      gsi_problems_add (problems, parse.root, "the file must be a mapping (\"key: value\"), not %s",
                        gsi_node_kind (parse.root));
      g_clear_pointer (&parse.root, gsi_node_free);
    }
  return parse.root;
}
