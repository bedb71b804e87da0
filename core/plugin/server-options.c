/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of the `server:` section, and those that every storage has. A row that is added here is checked, printed and documented by itself. */
#include "plugin/registry.h"

#define KIB G_GINT64_CONSTANT (1024)
#define MIB (1024 * KIB)
#define SECOND G_GINT64_CONSTANT (1000000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)

const GsOption gsi_storage_options[] = {
  { .key = "zone", .type = GS_OPTION_STRING, .flags = GS_OPTION_RELOADABLE,
    .help = "Where it is, ZONE or ZONE/RACK, for routings that spread copies or read from nearby." },
  { .key = "weight", .type = GS_OPTION_INT, .fallback = "1", .min = 0, .max = 1000000,
    .flags = GS_OPTION_RELOADABLE, .help = "Its share of new repositories against the other storages'; 0: it gets none." },
  { .key = NULL },
};

const GsOption gsi_server_options[] = {
  { .key = "name", .type = GS_OPTION_STRING, .fallback = "gitstead", .help = "Name of this node in logs and status pages." },
  { .key = "workers", .type = GS_OPTION_INT, .fallback = "16", .min = 1, .max = 1024,
    .help = "Threads for ordinary calls." },
  { .key = "queue", .type = GS_OPTION_INT, .fallback = "1024", .min = 1, .max = 1000000,
    .help = "Calls that wait for a worker; beyond it callers are told to try again." },
  { .key = "streams", .type = GS_OPTION_INT, .fallback = "128", .min = 1, .max = 4096,
    .help = "Fetches, pushes and other streaming calls at once, each on a thread of its own." },
  { .key = "timers", .type = GS_OPTION_INT, .fallback = "65536", .min = 64, .max = 1000000,
    .help = "Timers that may wait at once." },
  { .key = "log_level", .type = GS_OPTION_CHOICE, .fallback = "info", .choices = "error|warning|info|debug",
    .flags = GS_OPTION_RELOADABLE, .help = "Least severe level that is logged." },
  { .key = "log_topics", .type = GS_OPTION_LIST, .flags = GS_OPTION_RELOADABLE,
    .help = "Levels by event prefix, such as \"storage=debug\"; the longest prefix wins." },
  { .key = "log_format", .type = GS_OPTION_CHOICE, .fallback = "text", .choices = "text|json",
    .help = "Lines for people, or one JSON object a line." },
  { .key = "log_file", .type = GS_OPTION_PATH,
    .help = "File to append the log to; it is opened again on a reload. Unset: standard error." },
  { .key = "log_repeats", .type = GS_OPTION_INT, .fallback = "100", .min = 0, .max = 1000000,
    .flags = GS_OPTION_RELOADABLE,
    .help = "Warnings and errors of one event and instance that are written per second; the rest are counted. 0: no limit." },
  { .key = "shutdown_grace", .type = GS_OPTION_DURATION, .fallback = "30s", .max = 24 * HOUR,
    .flags = GS_OPTION_RELOADABLE, .help = "How long calls under way may go on after SIGTERM before they are cancelled." },
  { .key = "max_in_flight", .type = GS_OPTION_INT, .fallback = "1000", .min = 1, .max = 1000000,
    .flags = GS_OPTION_RELOADABLE, .help = "Calls under way at once, queued ones included; beyond it callers are told to try again." },
  { .key = "max_per_repository", .type = GS_OPTION_INT, .fallback = "128", .min = 1, .max = 100000,
    .flags = GS_OPTION_RELOADABLE, .help = "Calls under way at once for one repository; beyond it callers are told to try again." },
  { .key = "max_message", .type = GS_OPTION_SIZE, .fallback = "1MiB", .min = 64 * KIB, .max = 64 * MIB,
    .flags = GS_OPTION_RELOADABLE, .help = "Largest request that is not bulk data." },
  { .key = "call_timeout", .type = GS_OPTION_DURATION, .fallback = "30s", .min = 100000, .max = HOUR,
    .flags = GS_OPTION_RELOADABLE, .help = "Time for an ordinary call whose caller names none." },
  { .key = "idempotency_window", .type = GS_OPTION_DURATION, .fallback = "10m", .min = SECOND, .max = 24 * HOUR,
    .flags = GS_OPTION_RELOADABLE, .help = "How long the answer to a call id is kept, for callers that send it again." },
  { .key = "idempotency_entries", .type = GS_OPTION_INT, .fallback = "65536", .min = 16, .max = 10000000,
    .flags = GS_OPTION_RELOADABLE, .help = "Answers that are kept at most." },
  { .key = "maintenance_interval", .type = GS_OPTION_DURATION, .fallback = "10m", .min = SECOND, .max = 24 * HOUR,
    .flags = GS_OPTION_RELOADABLE, .help = "How often storages are given time for their upkeep." },
  { .key = "cluster_token", .type = GS_OPTION_STRING, .flags = GS_OPTION_SECRET,
    .help = "The secret that the processes of one cluster share, in the form of an access token: routers show it to nodes." },
  { .key = "exports", .type = GS_OPTION_LIST,
    .help = "Storages of this process that routers of the cluster may use: what makes it a node. It needs cluster_token." },
  { .key = "stage_lease", .type = GS_OPTION_DURATION, .fallback = "10s", .min = SECOND, .max = HOUR,
    .help = "How long a node keeps a write for a router that went silent before it asks the metadata store what became of it." },
  { .key = NULL },
};
