/* SPDX-License-Identifier: Apache-2.0 */
/* text.h - words for people and machines: escaping, sizes, durations, the nearest known word. */
#ifndef GSI_BASE_TEXT_H
#define GSI_BASE_TEXT_H

#include <gitstead/error.h>

/** Edit distance, a swap of neighbours counting one. Words beyond 64 bytes count as unlike everything. */
guint gsi_text_distance (const char *a, const char *b);

/** The one of @words (@n of them; NULL entries are skipped) nearest to @word, or NULL when none is near enough. */
const char *gsi_text_nearest (const char *word, const char *const *words, gsize n);

/** Appends @text as a JSON string with its quotes. @len -1: up to NUL. Bytes that are not UTF-8 become U+FFFD. */
void gsi_text_append_json (GString *out, const char *text, gssize len);

/**
 * Appends @text for a human on one line: control characters and broken UTF-8 as \n, \t, \xNN. With @quote, in double
 * quotes when it is empty or holds blanks, quotes or '='.
 */
void gsi_text_append_escaped (GString *out, const char *text, gssize len, gboolean quote);

/**
 * Appends a message for a human on a terminal. Control characters and broken UTF-8 become \t, \xNN, but its lines stay
 * lines (indented, so that none passes for one of ours), and what was escaped before is not escaped again.
 */
void gsi_text_append_message (GString *out, const char *text);

/** "10 MiB", "1.5 GiB", "512 B". *full*. */
char *gsi_text_size (guint64 bytes);

/** "3 min", "1.5 s", "250 ms", "2 d"; "0 s". *full*. */
char *gsi_text_duration (gint64 us);

/** As gsi_text_size and _duration, in the form a config file takes: "10MiB", "3m", "1500ms". *full*. */
char *gsi_text_size_exact (gint64 bytes);
char *gsi_text_duration_exact (gint64 us);

/**
 * Parse what a config file holds. A failure's message completes "KEY …": "wants a duration such as …, not …".
 * Sizes: digits, then nothing, B, KiB, MiB, GiB or TiB. Durations: digits (a decimal part is allowed), then us, ms, s,
 * m, h or d; a bare 0 is a duration too. Integers: decimal with an optional sign. Booleans: true or false.
 */
gboolean gsi_text_parse_size (const char *text, gint64 *ret_bytes, GError **error);
gboolean gsi_text_parse_duration (const char *text, gint64 *ret_us, GError **error);
gboolean gsi_text_parse_integer (const char *text, gint64 *ret_value, GError **error);
gboolean gsi_text_parse_boolean (const char *text, gboolean *ret_value, GError **error);

#endif
