/* SPDX-License-Identifier: Apache-2.0 */
/**
 * diff.h - what the two files of DiffService share: git's command line, and its raw records.
 */
#ifndef STORAGE_GIT_API_DIFF_H
#define STORAGE_GIT_API_DIFF_H

#include "api.h"

#include "gitstead/v1/diff.pb-c.h"

#define DIFF_FIELD_MAX (64u << 10)

/**
 * "diff-tree", @formats (NULL-terminated), what @options (may be NULL) ask for, the two sides, the paths. NULL with
 * INVALID_ARGUMENT naming the field. *borrowed until api_close*.
 */
const char *const *diff_argv (GitCall *call, const Gitstead__V1__DiffOptions *options, const char *const *formats,
                              const ApiSides *sides, GError **error);

/** Records of --raw -z as they come: ":MODE MODE OID OID STATUS", one path, for renames and copies another one. */
typedef struct
{
  Gitstead__V1__DiffPath *path; /* the one under way */
  guint paths;                  /* that it still lacks */
} RawReader;

/** *@ret_path is set when a record is complete. FALSE with INTERNAL for what is no record. */
gboolean diff_raw_field (GitCall *call, RawReader *reader, const char *field, gsize len, Gitstead__V1__DiffPath **ret_path,
                         GError **error);

/** The sides of a page and how many entries came before it: from the token, or from left and right. */
gboolean diff_page_begin (GitCall *call, const Gitstead__V1__Page *page, const ProtobufCBinaryData *left,
                          const ProtobufCBinaryData *right, ApiPage *ret_page, ApiSides *ret_sides, guint64 *ret_skip,
                          GError **error);
ProtobufCBinaryData diff_page_token (GitCall *call, const ApiSides *sides, guint64 skip);

#endif
