/* SPDX-License-Identifier: Apache-2.0 */
/* config-private.h - shared by config.c (files, includes, problems) and config-parse.c (YAML to nodes). */
#ifndef GSI_BASE_CONFIG_PRIVATE_H
#define GSI_BASE_CONFIG_PRIVATE_H

#include "base/config.h"

#define GSI_CONFIG_MAX_BYTES (1024 * 1024)
#define GSI_CONFIG_MAX_FILES 256
#define GSI_CONFIG_MAX_DEPTH 16
#define GSI_CONFIG_MAX_NODES 65536

struct GsiConfigFile
{
  char *path;
  GsiNode *root;
  GPtrArray *names; /* names of files; nodes point into them */
  guint n_nodes;
};

GsiNode *gsi_node_new (GsiConfigFile *config, GsiNodeType type, const char *file, guint line, guint column);
void gsi_node_free (GsiNode *node);
/** Takes over @key (NULL in a sequence) and @value. */
void gsi_node_append (GsiNode *parent, GsiNode *key, GsiNode *value);

/** One YAML document as nodes; NULL, with problems, when it is not one or is no mapping. An empty one is an empty
 * mapping. */
GsiNode *gsi_config_parse_yaml (GsiConfigFile *config, const char *file, const char *text, gsize len,
                                GsiProblems *problems);

#endif
