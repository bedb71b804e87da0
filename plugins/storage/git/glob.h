/* SPDX-License-Identifier: Apache-2.0 */
/** glob.h - patterns of names with slashes in them: refs and paths. */
#ifndef STORAGE_GIT_GLOB_H
#define STORAGE_GIT_GLOB_H

#include <glib.h>

/**
 * Does @pattern match @name as a whole? "?" and "*" match anything but "/", "**" anything at all; all else is itself. Takes no
 * more than length times length steps, whatever the pattern.
 */
gboolean glob_matches (const char *pattern, const char *name);
/** NULL when @pattern has nothing in it that is no pattern of ours; else why not. */
const char *glob_fault (const char *pattern);

#endif
