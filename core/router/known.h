/* SPDX-License-Identifier: Apache-2.0 */
/**
 * known.h - what the metadata store said last of repositories, so that reads go on while it cannot be reached. Of this
 * process and since its start; bounded: when there are too many, it begins anew. Any thread.
 */
#ifndef GSI_ROUTER_KNOWN_H
#define GSI_ROUTER_KNOWN_H

#include "router/row.h"

typedef struct GsiKnown GsiKnown;

GsiKnown *gsi_known_new (void);
GsiKnown *gsi_known_ref (GsiKnown *known);
/** NULL is fine. */
void gsi_known_unref (GsiKnown *known);
/** @row is what the store says now; NULL: it says that there is no such repository. */
void gsi_known_note (GsiKnown *known, const char *virtual_storage, const char *path, const GsiRow *row, gint64 now_us);
/** A copy of what it said at most @age_us microseconds ago. *full*; NULL when that is too long ago, or nothing. */
GsiRow *gsi_known_recall (GsiKnown *known, const char *virtual_storage, const char *path, gint64 now_us, gint64 age_us);

#endif
