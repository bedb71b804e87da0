/* SPDX-License-Identifier: Apache-2.0 */
/**
 * page.h - pages of a listing: the one rule for their limits and tokens, whoever carries the call out.
 *
 * A token is a version, a sum over what it was given out for (method, repository, and the request but for its repository and
 * page), and the listing's own state. The sum keeps tokens of other calls out by mistake; it is no secret, so the state is a
 * stranger's all the same.
 */
#ifndef GITSTEAD_WIRE_PAGE_H
#define GITSTEAD_WIRE_PAGE_H

#include <wire/wire.h>

#include "gitstead/v1/types.pb-c.h"

G_BEGIN_DECLS

#define GS_PAGE_ENTRIES_MAX 1000 /* of a page, and how many it has when nothing is said */
#define GS_PAGE_STATE_MAX 8183

/** What a page is asked of. */
typedef struct
{
  guint32 method;
  guint64 repository; /* its id; 0 when the call is of none */
  const ProtobufCMessage *request;
} GsPageOf;

/**
 * Reads @page (NULL = the first one). *@ret_state is borrowed from it, NULL when the listing begins; it has at least one byte.
 * INVALID_ARGUMENT naming page.limit or page.token.
 */
gboolean gs_page_begin (const GsPageOf *of, const Gitstead__V1__Page *page, gsize *ret_limit, const guint8 **ret_state,
                        gsize *ret_len, GError **error);
/** INVALID_ARGUMENT: not a token of ours, or its state makes no sense. Returns FALSE. */
gboolean gs_page_bad (GError **error);

/** How long a token with @len bytes of state is. */
gsize gs_page_token_size (gsize len);
/** Writes the token for the next page to @ret_token. */
void gs_page_token_write (const GsPageOf *of, gconstpointer state, gsize len, guint8 *ret_token);

G_END_DECLS

#endif
