/* SPDX-License-Identifier: Apache-2.0 */
/**
 * repo_files.h - what `gitstead repo` does with the sets of files of a repository, and with trees of before.
 */
#ifndef GSI_MAIN_REPO_FILES_H
#define GSI_MAIN_REPO_FILES_H

#include <glib.h>

extern const GOptionEntry gsi_repo_config_options[];
int gsi_repo_config_run (int n_args, char **args);
int gsi_repo_hooks_run (int n_args, char **args);

/* repo_adopt.c */
extern const GOptionEntry gsi_repo_adopt_options[];
int gsi_repo_adopt_run (int n_args, char **args);

#endif
