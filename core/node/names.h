/* SPDX-License-Identifier: Apache-2.0 */
/**
 * names.h - bytes and ids in messages, to and from what storages take.
 */
#ifndef GSI_NODE_NAMES_H
#define GSI_NODE_NAMES_H

#include "gitstead/v1/types.pb-c.h"
#include "node/node.h"

/** Longest ref name, revision or path that is taken from a client, in bytes. */
#define GSI_NAME_MAX 4096

/** A C string of @bytes: *full*, or NULL with INVALID_ARGUMENT naming @field when empty, too long or with a NUL. */
char *gsi_name_text (const ProtobufCBinaryData *bytes, const char *field, GError **error);

/**
 * The full name of the branch @bytes, which has refs/heads/ or not: *full*; NULL with INVALID_ARGUMENT naming @field. Whether
 * it is well-formed its storage says.
 */
char *gsi_name_branch (const ProtobufCBinaryData *bytes, const char *field, GError **error);

/** An object id in hex; "" gives len 0 when @may_be_empty. FALSE with INVALID_ARGUMENT naming @field. */
gboolean gsi_name_oid (const char *hex, gboolean may_be_empty, const char *field, GsOid *ret_oid, GError **error);

/** The hex of @oid, "" for none. *full*. */
char *gsi_name_oid_hex (const GsOid *oid);

/** Borrows @text. */
ProtobufCBinaryData gsi_name_bytes (const char *text);

/**
 * What @page of this call asks for: how many entries, and the name after which it begins (*full*, NULL from the start).
 * @repository: the target's id, 0 when the call is of none. INVALID_ARGUMENT naming page.limit or page.token.
 */
gboolean gsi_page_begin (const GsiCall *call, guint64 repository, const Gitstead__V1__Page *page, gsize *ret_limit,
                         char **ret_after, GError **error);

/** The token for the page after @last. *full* (g_free ret.data). */
ProtobufCBinaryData gsi_page_token (const GsiCall *call, guint64 repository, const char *last);

/** Most bytes that a page's entries may take together: well under the smallest message limit of known clients. */
#define GSI_PAGE_BYTES (512 * 1024)

/** Fills a Receipt message that borrows from @receipt. */
void gsi_receipt_message (const GsiReceipt *receipt, Gitstead__V1__Receipt *ret_message);

#endif
