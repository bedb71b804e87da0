/* SPDX-License-Identifier: Apache-2.0 */
/**
 * crash.h - what is said when the process dies of a fatal signal: the signal, the thread, the plugin whose code it was in,
 * the call that was worked on, a backtrace, the loaded plugins with their versions and the last log records. Then the signal's own action follows (core dump).
 */
#ifndef GSI_BASE_CRASH_H
#define GSI_BASE_CRASH_H

#include "base/log.h"

/** Installs the handlers for SEGV, BUS, ILL, FPE and ABRT. @title is "gitstead 0.1.0"; @log may be NULL and must stay.
 */
void gsi_crash_install (const char *title, const GsiLog *log);

/** The log goes away: reports do without it. */
void gsi_crash_forget_log (void);

/**
 * Adds one line to "loaded plugins". @code is an address in the file that it is about, so that a report can say that it
 * died in there; NULL: not known. At most 64 lines of 200 bytes are kept. Any thread.
 */
void gsi_crash_note (const char *line, const void *code);

#endif
