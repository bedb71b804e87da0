/* SPDX-License-Identifier: Apache-2.0 */
/* A metadata store opened for a test, and the few things that the tests do with it. */
#ifndef TESTS_METADATA_STORE_H
#define TESTS_METADATA_STORE_H

#include <gitstead/metadata.h>

#include "fakehost.h"

typedef struct
{
  const GsPlugin *plugin;
  const GsMetadataOps *ops;
  FakeHost *host;
  FakeConfig *config;
  gpointer self;
  gboolean started;
} Store;

/** What a database and a schema in it are called where a path is asked for: "CONNINFO#SCHEMA". *full*. */
char *store_postgres_path (const char *conninfo);
/** Opens @path with the plugin @file. FALSE with @error when start fails; close it all the same. */
gboolean store_open (Store *store, const char *file, const char *path, const char *auto_migrate,
                     const char *busy_timeout, GError **error);
void store_close (Store *store);

/** Makes a repository with one replica on "alpha". 0 with @error. */
guint64 store_make_repo (Store *store, const char *path, GError **error);
/** Decides with a random transaction id, as generation @expected + 1. @call may be NULL. */
gboolean store_decide (Store *store, GsCall *call, guint64 id, guint64 expected, GError **error);
/** The repository's generation; G_MAXUINT64 with @error. */
guint64 store_generation (Store *store, guint64 id, GError **error);
/** The id of the repository of that path; 0 with @error. */
guint64 store_find (Store *store, const char *path, GError **error);

#endif
