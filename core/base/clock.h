/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - time and dice. */
#ifndef GSI_BASE_CLOCK_H
#define GSI_BASE_CLOCK_H

#include <glib.h>

/** Monotonic, on g_get_monotonic_time's scale (that of deadlines and gs_cond_wait_until). */
gint64 gsi_clock_now_us (void);

/** Since 1970, UTC. */
gint64 gsi_clock_wall_us (void);

/** Writes "2025-01-31T12:00:00.123456Z" for a gsi_clock_wall_us time. */
#define GSI_CLOCK_TEXT_SIZE 32
void gsi_clock_text (gint64 wall_us, char ret_text[GSI_CLOCK_TEXT_SIZE]);

/** Fills @buffer with cryptographically strong bytes from the kernel. Cannot fail once the system is up. */
void gsi_random (gpointer buffer, gsize len);

#endif
