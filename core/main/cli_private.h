/* SPDX-License-Identifier: Apache-2.0 */
/* cli_private.h - between cli.c and cli_client.c: what was asked for, and how the last call ended. */
#ifndef GSI_MAIN_CLI_PRIVATE_H
#define GSI_MAIN_CLI_PRIVATE_H

#include <glib.h>

/** --token-file and --timeout as given; NULL and 0 when not. */
const char *gsi_cli_token_file (void);
gint64 gsi_cli_timeout_us (void);
/** --generation; 0 when it was not given. */
guint64 gsi_cli_generation (void);
/** Did the server answer the last call, if only with an error? */
gboolean gsi_cli_server_answered (void);
/** The method that was called last; NULL when no call was tried: what failed is on this side. *borrowed for ever*. */
const char *gsi_cli_called (void);
/** The server's advice on when to repeat the last call; 0 = none. */
gint64 gsi_cli_retry_after_us (void);
/** Prints "gitstead: <note>: <error>" for whoever watches; not with --json or --quiet. */
void gsi_cli_note (const char *note, const GError *error);

#endif
