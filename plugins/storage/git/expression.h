/* SPDX-License-Identifier: Apache-2.0 */
/** expression.h - regular expressions of clients, before they come to a git process. */
#ifndef STORAGE_GIT_EXPRESSION_H
#define STORAGE_GIT_EXPRESSION_H

#include <gitstead/error.h>

/**
 * INVALID_ARGUMENT naming @field for a POSIX extended regular expression that would take the C library gigabytes or minutes:
 * one that grows too large by its repetitions, or that refers back to what was found. Whether it is one at all it does not say.
 */
gboolean expression_check (const char *text, gsize len, const char *field, GError **error);

#endif
