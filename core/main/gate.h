/* SPDX-License-Identifier: Apache-2.0 */
/**
 * gate.h - before each storage of this process: no call passes while its disk is not the one that the metadata store knows.
 *
 * An unmounted disk leaves an empty folder, which looks like a new storage; another storage's disk looks like a whole one.
 * Neither may take a repository, say that one is gone, or drop what is staged on it.
 */
#ifndef GSI_MAIN_GATE_H
#define GSI_MAIN_GATE_H

#include "main/generation.h"

/**
 * Puts its gate before @storage, which is filled in from its instance: the same one for as long as the instance is the same.
 * Nothing for a storage of another process, which looks after its disks itself, or for one that has none. Main thread.
 */
void gsi_gate_put (GsiServer *server, GsiStorage *storage);
/**
 * Asks each storage which disk it has and the metadata store which it should be, and closes or opens its gate. One that
 * opens has its staged writes settled. A gate stays as it is while the store does not answer. Any thread.
 */
void gsi_gates_look (GsiServer *server, GsiGeneration *generation);
/** Is any storage of @generation behind a closed gate? Any thread. */
gboolean gsi_gates_closed (GsiGeneration *generation);
/** A GDestroyNotify. */
void gsi_gate_free (gpointer gate);

#endif
