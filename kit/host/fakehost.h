/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fakehost.h - a host, options, a call and a stream for tests that drive a plugin without the core.
 *
 * Everything here reports a misuse by g_error (the test binary dies with the reason).
 */
#ifndef TESTS_FAKEHOST_H
#define TESTS_FAKEHOST_H

#include <gitstead/host.h>

G_BEGIN_DECLS

/* ------------------------------------------------------------------------------------------ host */

/**
 * @host is handed to the plugin; a test may overwrite any of its slots before that. By default: logs are
 * recorded (and printed when GITSTEAD_TEST_LOG is set), clock and random are real, submit and timer run work
 * on one thread of the fake host, metrics are kept by name, calls in answer UNIMPLEMENTED.
 */
typedef struct FakeHostPrivate FakeHostPrivate;
typedef struct
{
  GsHost host;
  FakeHostPrivate *p;
} FakeHost;

/** @instance as it stands in messages, "storage default". *full*. */
FakeHost *fake_host_new (const char *instance);
/** Runs out the work under way, forgets what waits, frees. */
void fake_host_free (FakeHost *fake);
/** Makes need (@role) find this instance. */
void fake_host_add_need (FakeHost *fake, const char *role, guint32 kind, gpointer self, const void *ops);
/** How many records with @event were logged so far. */
guint fake_host_logged (FakeHost *fake, const char *event);
/** The whole log so far, a line per record "LEVEL event key=value …". *full*. */
char *fake_host_log_text (FakeHost *fake);
/** The last value (gauge), the sum (counter) or the number of observations (histogram). 0 when there is none. */
double fake_host_metric (FakeHost *fake, const char *name, const char *labels);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (FakeHost, fake_host_free)

/* --------------------------------------------------------------------------------------- options */

typedef struct FakeConfig FakeConfig;

/**
 * Options from "key", "value", …, NULL as they would stand in the file (lists: "a,b,c"), with @plugin's rows for
 * types and fallbacks. An unknown key, a value of the wrong type or a missing required option is a g_error.
 */
FakeConfig *fake_config_new (const GsPlugin *plugin, ...) G_GNUC_NULL_TERMINATED;
const GsConfig *fake_config_get (const FakeConfig *config);
void fake_config_free (FakeConfig *config);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (FakeConfig, fake_config_free)

/* ------------------------------------------------------------------------------------------ call */

typedef struct
{
  GsCall call;
  int cancel_event; /* eventfd, -1 until asked for */
  pthread_mutex_t lock;
} FakeCall;

/** A call with a random id and @timeout_us (0 = none). *full*. */
FakeCall *fake_call_new (gint64 timeout_us);
/** From any thread. */
void fake_call_cancel (FakeCall *fake);
void fake_call_free (FakeCall *fake);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (FakeCall, fake_call_free)

/* ---------------------------------------------------------------------------------------- stream */

/** A stream over two descriptors. */
typedef struct
{
  GsStream stream;
  int input;    /* handed out by open_input, then -1 */
  int output;   /* handed out by open_output, then -1 */
  GBytes *sent; /* what send_all gave; NULL until then. With an output descriptor it is written there too. */
} FakeStream;

/** @head may be NULL (empty). Takes both descriptors (-1 = none). @input -1 means the stream is complete. *full*. */
FakeStream *fake_stream_new (GBytes *head, int input, int output);
/** With pipes: the test writes to *@ret_to_plugin and reads *@ret_from_plugin. Either may be NULL = none. */
FakeStream *fake_stream_pipes (GBytes *head, int *ret_to_plugin, int *ret_from_plugin);
void fake_stream_free (FakeStream *fake);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (FakeStream, fake_stream_free)

/* --------------------------------------------------------------------------------------- folders */

/** A fresh folder below TMPDIR. *full*. */
char *fake_tempdir_new (void);
/** Removes the folder and everything in it, then frees @path. */
void fake_tempdir_remove (char *path);
/** Removes a tree; links are not followed. */
void fake_remove_tree (const char *path);

G_END_DECLS

#endif
