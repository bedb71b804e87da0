/* SPDX-License-Identifier: Apache-2.0 */
/**
 * details.h - what commits in a reply tell beyond what stands in them, when a call asks for it; and lists of ref prefixes.
 */
#ifndef STORAGE_GIT_API_DETAILS_H
#define STORAGE_GIT_API_DETAILS_H

#include "api.h"

#define DETAILS_STATS_MAX 200u /* commits of one reply that are compared with their parents */

/** At most 64, each the beginning of a full ref name: INVALID_ARGUMENT naming @field. */
gboolean api_take_prefixes (const ProtobufCBinaryData *prefixes, gsize n, const char *field, GError **error);
/** TRUE when one of them begins @name. */
gboolean api_has_prefix (const ProtobufCBinaryData *prefixes, gsize n, const char *name, gsize name_len);

/** Checks what is asked for; @details may be NULL. */
gboolean api_take_details (const Gitstead__V1__CommitDetails *details, GError **error);
/** How many commits a page may have at most with these. */
gsize api_details_limit (const Gitstead__V1__CommitDetails *details);
/** A commit as a message, with those of the details that its own bytes tell. */
gboolean api_commit_detailed (GitCall *call, const GsOid *oid, guint64 message_max, const Gitstead__V1__CommitDetails *details,
                              Gitstead__V1__Commit **ret_commit, GError **error);
/** Fills in the rest for all commits of a reply, of which some may be NULL, and some the same commit. */
gboolean api_add_details (GitCall *call, const Gitstead__V1__CommitDetails *details, Gitstead__V1__Commit *const *commits,
                          gsize n, GError **error);

#endif
