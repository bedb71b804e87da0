/* SPDX-License-Identifier: Apache-2.0 */
/* A door between a store and its PostgreSQL server, which a test can shut, jam, or slam in the middle of a commit. */
#ifndef TESTS_METADATA_CUTTER_H
#define TESTS_METADATA_CUTTER_H

#include <glib.h>

typedef struct Cutter Cutter;

typedef enum
{
  CUTTER_PASS,
  CUTTER_BEFORE_COMMIT, /* a connection that sends COMMIT is cut before the server gets it */
  CUTTER_AFTER_COMMIT,  /* … and here when the server has answered, before the store hears it */
  CUTTER_FROZEN,        /* nothing is passed on, nothing is cut */
  CUTTER_AWAY           /* all are cut, and nobody is let in */
} CutterMode;

/** Stands before the server whose unix socket is in the folder @server, port 5432. *full*. */
Cutter *cutter_new (const char *server);
void cutter_free (Cutter *cutter);
/** The folder of its own socket. */
const char *cutter_folder (Cutter *cutter);
/** Holds when it returns. */
void cutter_set (Cutter *cutter, CutterMode mode);

#endif
