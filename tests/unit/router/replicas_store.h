/* SPDX-License-Identifier: Apache-2.0 */
/* replicas_store.h - between replicas.c and replicas_store.c. */
#ifndef TESTS_REPLICAS_STORE_H
#define TESTS_REPLICAS_STORE_H

#include <gitstead/metadata.h>

/** Its instance is a Cluster. */
extern const GsMetadataOps replicas_metadata;
/** Of a Decision. */
void decision_free (gpointer data);

#endif
