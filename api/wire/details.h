/* SPDX-License-Identifier: Apache-2.0 */
/**
 * details.h - what errors tell programs: the entries of gitstead.v1.ErrorDetails that a GError carries.
 *
 * Whoever knows adds an entry right where it makes the error; everything between there and the caller only passes the
 * error on. docs/errors.md lists which entries come with what.
 */
#ifndef GITSTEAD_WIRE_DETAILS_H
#define GITSTEAD_WIRE_DETAILS_H

#include <wire/wire.h>

#include "gitstead/v1/envelope.pb-c.h"

G_BEGIN_DECLS

/**
 * All functions here return FALSE, for `return gs_detail_…`, and do nothing when @error or *@error is NULL, when the error
 * is of another domain, or when it carries as much as it may. Texts that are no UTF-8 are made so.
 */

/** Adds @entry; its status, when 0, becomes the error's code. */
gboolean gs_detail_add (GError **error, const Gitstead__V1__ErrorDetail *entry);
/** The request's @field is wrong. "updates[2].old_oid" is about entry 3 of updates. */
gboolean gs_detail_field (GError **error, const char *field);
/** The @type named @name is not there, is there already, is damaged: the error's code says which. */
gboolean gs_detail_name (GError **error, const char *type, const char *name);
/** The @type named @name must be @expected and is @actual (either may be NULL: not said, not known). @field may be NULL. */
gboolean gs_detail_differs (GError **error, const char *field, const char *type, const char *name, const char *expected,
                            const char *actual);
/** A bound was reached: there may be @limit, there are @value. */
gboolean gs_detail_limit (GError **error, const char *name, guint64 limit, guint64 value);
/** Every entry's field is below @field from now on: "path" becomes "actions[3].path", and none becomes "actions[3]". */
gboolean gs_detail_below (GError **error, const char *field);

/** What @error carries, decoded into @arena. NULL when it carries nothing. *borrowed until the arena is freed*. */
const Gitstead__V1__ErrorDetails *gs_details (const GError *error, GsArena *arena);
/** Has @error carry @details (NULL = nothing) instead of what it had: for what came over the wire. */
void gs_details_set (GError *error, const Gitstead__V1__ErrorDetails *details);

G_END_DECLS

#endif
