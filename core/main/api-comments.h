/* SPDX-License-Identifier: Apache-2.0 */
/* api-comments.h - what the .proto files say of each name; the table is made by api-comments.py. */
#ifndef GSI_MAIN_API_COMMENTS_H
#define GSI_MAIN_API_COMMENTS_H

#include <glib.h>

typedef struct
{
  const char *name; /* "gitstead.v1.Ref.name" */
  const char *text;
} GsiApiComment;

/** Ordered by the bytes of their names. */
extern const GsiApiComment gsi_api_comments[];
extern const gsize gsi_n_api_comments;

#endif
