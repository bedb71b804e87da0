/* SPDX-License-Identifier: Apache-2.0 */
/**
 * cli.h - what the client subcommands share: common options, messages, tables, calls to the server.
 *
 * The program runs one command and ends, on one thread: the options live in this file's statics.
 */
#ifndef GSI_MAIN_CLI_H
#define GSI_MAIN_CLI_H

#include <glib.h>
#include <rpc/json.h>
#include <stdio.h>

/* -------------------------------------------------------------------------------------- options */

/** --json and --quiet; and, for commands that talk to a server, --server, --token-file and --timeout. */
const GOptionEntry *gsi_cli_local_options (void);
const GOptionEntry *gsi_cli_server_options (void);
gboolean gsi_cli_json (void);
gboolean gsi_cli_quiet (void);
/** The server that will be spoken to: --server, GITSTEAD_SERVER or the usual socket. *borrowed for ever*. */
const char *gsi_cli_server (void);

/* ------------------------------------------------------------------------------------- messages */

/** Prints "gitstead: …" and where help is; returns GSI_EXIT_USAGE. @command: "repo create"; NULL = the program. */
int gsi_cli_usage (const char *command, const char *format, ...) G_GNUC_PRINTF (2, 3);
/** Prints "gitstead: <what was attempted>: <error>" and, where one is known, a hint; returns GSI_EXIT_FAILED. */
int gsi_cli_fail (const GError *error, const char *format, ...) G_GNUC_PRINTF (2, 3);
/**
 * The same for what is wrong with the configuration @path or comes of it. Several problems stand on lines of their own, as
 * "FILE:LINE:COLUMN: …", which editors know.
 */
int gsi_cli_fail_config (const GError *error, const char *path, const char *what);
/** Prints to standard output unless --quiet. */
void gsi_cli_say (const char *format, ...) G_GNUC_PRINTF (1, 2);
/** Asks on the terminal; TRUE for yes. FALSE when there is no terminal: look at gsi_cli_can_ask first. */
gboolean gsi_cli_ask (const char *question);
gboolean gsi_cli_can_ask (void);

/* --------------------------------------------------------------------------------------- output */

/** "2026-01-31 12:00:00Z"; "never" for 0. *full*. */
char *gsi_cli_time (gint64 wall_us);

/** A table for people. Columns whose title begins with '>' are aligned right. */
typedef struct GsiTable GsiTable;
/** @titles: NULL-terminated, borrowed until return. *full*. */
GsiTable *gsi_table_new (const char *const *titles);
/** One string per column, then NULL; fewer leave the last ones empty. All borrowed until return. */
void gsi_table_row (GsiTable *table, ...) G_GNUC_NULL_TERMINATED;
/** Prints it (the titles alone when there is no row) and frees it. */
void gsi_table_print (GsiTable *table);
/** "key:  value" lines, aligned: pairs of strings; a pair whose value is NULL is left out. Ends with NULL. */
void gsi_cli_print_pairs (const char *const *pairs);
/** Prints @message as JSON, as the API writes it. */
gboolean gsi_cli_print_json (const ProtobufCMessage *message, GError **error);
/** The same as the last thing that a command does: returns its exit code. @what names the message in an error. */
int gsi_cli_finish_json (const ProtobufCMessage *message, const char *what);

/* ---------------------------------------------------------------------------------------- calls */

/** The schema. Read on first use. NULL with @error when it is broken. *borrowed for ever*. */
const GsiMethods *gsi_cli_methods (GError **error);
/** Where replies are kept. *borrowed for ever*; they live as long as the program. */
GsArena *gsi_cli_arena (void);
/** Makes one call and waits for its reply, which lives until the program ends. NULL with @error. */
const ProtobufCMessage *gsi_cli_call (const char *method, const ProtobufCMessage *request, GError **error);
/**
 * The same for a streaming method: bytes go in from @input and out to @output (descriptors, borrowed; -1 for
 * a direction that the method has not). The reply may be NULL without an error when the method gave none.
 */
gboolean gsi_cli_call_stream (const GsiMethod *method, const ProtobufCMessage *request, int input, int output,
                              const ProtobufCMessage **ret_reply, GError **error);

#endif
