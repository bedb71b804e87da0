/* SPDX-License-Identifier: Apache-2.0 */
/**
 * config.h - the configuration file as a tree: YAML with file, line and column on every node.
 *
 * Only what a person writes by hand is taken: mappings, sequences and scalars. Anchors, aliases, tags, merge keys,
 * several documents and duplicate keys are refused. Scalars stay text; option rows give them types (plugin/options.h),
 * so YAML's guesses about "no" or 0777 never come into play. Sizes are bounded: 1 MiB a file, 256 files, 16 levels,
 * 65,536 nodes.
 *
 * `include:` at the top level (a path, a pattern in its last component, or a sequence of these; relative to the file it
 * stands in) adds files in sorted order. They are merged into one tree: sequences of the same top-level key are
 * joined, mappings are joined key by key, and a key given twice is an error that names both places.
 *
 * Nothing stops at the first mistake: problems are collected and told all in one go.
 */
#ifndef GSI_BASE_CONFIG_H
#define GSI_BASE_CONFIG_H

#include <gitstead/error.h>

typedef enum
{
  GSI_NODE_SCALAR,
  GSI_NODE_SEQUENCE,
  GSI_NODE_MAPPING
} GsiNodeType;

/** Owned by its GsiConfigFile; constant once loaded. */
typedef struct GsiNode GsiNode;
struct GsiNode
{
  GsiNodeType type;
  const char *file;   /* as it was opened; borrowed from the tree */
  guint line, column; /* from 1 */
  char *text;         /* SCALAR: valid UTF-8 */
  gboolean empty;     /* SCALAR: a plain one with nothing in it ("key:") */
  guint n_items;      /* SEQUENCE, MAPPING */
  GsiNode **items;    /* values */
  GsiNode **keys;     /* MAPPING: scalars, as many as values */
};

/** Problems found so far, each "FILE:LINE:COL: message". */
typedef struct GsiProblems GsiProblems;

GsiProblems *gsi_problems_new (void);
void gsi_problems_free (GsiProblems *problems);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiProblems, gsi_problems_free)
/** @at NULL: no place. At most 100 are kept; the rest are counted. */
void gsi_problems_add (GsiProblems *problems, const GsiNode *at, const char *format, ...) G_GNUC_PRINTF (3, 4);
/** At a file as a whole: "FILE: message". */
void gsi_problems_add_file (GsiProblems *problems, const char *file, const char *format, ...) G_GNUC_PRINTF (3, 4);
guint gsi_problems_count (const GsiProblems *problems);
/** The @index-th, in order of place; borrowed. */
const char *gsi_problems_get (const GsiProblems *problems, guint index);
/** TRUE when there are none; else FALSE and INVALID_ARGUMENT with all of them, one a line. */
gboolean gsi_problems_check (const GsiProblems *problems, GError **error);

/** A loaded configuration: a file and what it includes. */
typedef struct GsiConfigFile GsiConfigFile;

/** Never NULL: what could not be read is in @problems, and the tree holds the rest. *full*. */
GsiConfigFile *gsi_config_load (const char *path, GsiProblems *problems);
/** From memory, as if it were a file of that name. For tests and defaults. */
GsiConfigFile *gsi_config_parse (const char *name, const char *text, gsize len, GsiProblems *problems);
void gsi_config_free (GsiConfigFile *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiConfigFile, gsi_config_free)

/** The top-level mapping; never NULL, without "include". */
const GsiNode *gsi_config_root (const GsiConfigFile *config);
const char *gsi_config_path (const GsiConfigFile *config);

/** Value of @key in a mapping; NULL when absent. */
const GsiNode *gsi_node_get (const GsiNode *mapping, const char *key);
/** "a mapping", "a sequence", "a text", for messages. */
const char *gsi_node_kind (const GsiNode *node);

#endif
