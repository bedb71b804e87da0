/* SPDX-License-Identifier: Apache-2.0 */
/**
 * plugin_check.h - `gitstead plugin check`: the part that watches, and the part that is watched.
 *
 * Each case runs in a process of its own, so that a plugin that crashes, hangs or leaks is reported and not fatal. The
 * child is this program again, with --run-case; it writes one JSON object to descriptor GSI_CASE_REPORT_FD, and the slot
 * under way into the memory behind GSI_CASE_NOTE_FD.
 */
#ifndef GSI_MAIN_PLUGIN_CHECK_H
#define GSI_MAIN_PLUGIN_CHECK_H

#include <glib.h>

#define GSI_CASE_REPORT_FD 3
#define GSI_CASE_NOTE_FD 4

/** What the child needs to know. Borrowed. */
typedef struct
{
  const char *file;           /* the plugin */
  const char *const *folders; /* where plugins that it needs are looked for; NULL-terminated, may be NULL */
  const char *const *options; /* "key=value"; NULL-terminated, may be NULL */
  const char *const *needs;   /* "role=plugin"; the same */
  const char *folder;         /* an empty one, for the plugin's data */
  int number;                 /* of the case; 0 = only load, and describe what was found */
  gint64 patience_us;         /* a case that took longer is not run again to look for leaks */
} GsiCaseRun;

/** Runs it and reports. Ends the process. */
void gsi_case_run (const GsiCaseRun *run) G_GNUC_NORETURN;

int gsi_plugin_check_run (int n_args, char **args);
extern const GOptionEntry gsi_plugin_check_options[];

#endif
