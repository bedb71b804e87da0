/* SPDX-License-Identifier: Apache-2.0 */
/* log-private.h - from a record to its line; shared by log.c and log-format.c. */
#ifndef GSI_BASE_LOG_PRIVATE_H
#define GSI_BASE_LOG_PRIVATE_H

#include "base/log.h"

/** A record longer than this is cut: a line must not grow with what a client sends. */
#define GSI_LOG_LINE_MAX 16384

typedef struct
{
  GsLogLevel level;
  gint64 wall_us;
  const char *thread;   /* NULL when it has no name */
  const char *call;     /* hex, NULL when none */
  const char *instance; /* NULL: the core */
  const char *event;
  const GsField *fields;
  gsize n_fields;
} GsiLogRecord;

const char *gsi_log_level_name (GsLogLevel level);

/** Sets @line to the record's line with its newline. */
void gsi_log_format (GString *line, guint32 format, const GsiLogRecord *record);

#endif
