/* SPDX-License-Identifier: Apache-2.0 */
/**
 * tally.h - what the consistency plugins with several participants share: a write that is staged on some of the
 * assigned replicas, decided once enough of them voted alike, and acknowledged once the voters applied it or were given
 * up.
 *
 * Whom to ask and how many votes are enough is the plugin's; so is refusing a write before it begins. One that has not
 * answered when enough others have is waited for a while and then left behind, in staging as in applying.
 */
#ifndef CONSISTENCY_TALLY_H
#define CONSISTENCY_TALLY_H

#include <gitstead/consistency.h>

typedef struct Tally Tally;

/** NULL with FAILED_PRECONDITION when there is no participant. Keeps the names of @setup. *full*. */
Tally *tally_new (const GsTxnSetup *setup, GError **error);
void tally_free (Tally *tally);

/** Participants that are current and healthy: those that can be asked. */
gsize tally_able (const Tally *tally);
/** Asks the first @n_asked of them and decides with @n_needed equal votes, at least 1 and at most @n_asked. */
void tally_begin_with (Tally *tally, gsize n_asked, gsize n_needed, gint64 laggard_wait_us);
/**
 * Refuses the write at its beginning: fewer than @n_needed can be asked. Says who is missing and why; UNAVAILABLE, or
 * FAILED_PRECONDITION when no replica is current, which nobody can wait away.
 */
void tally_refuse_missing (Tally *tally, gsize n_needed);
/** The same with another reason. Takes over @reason. */
void tally_refuse (Tally *tally, GsErrorCode code, char *reason);

void tally_step (Tally *tally, const GsEvent *event, GsActions *out);

#endif
