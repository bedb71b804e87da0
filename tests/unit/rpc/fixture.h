/* SPDX-License-Identifier: Apache-2.0 */
/* fixture.h - a dispatcher with a fake access plugin, and calls whose end can be waited for. */
#ifndef RPC_FIXTURE_H
#define RPC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/pool.h"
#include "gitstead/v1/git.pb-c.h"
#include "gitstead/v1/ref.pb-c.h"
#include "gitstead/v1/repository.pb-c.h"
#include "gitstead/v1/server.pb-c.h"
#include "rpc/rpc.h"

#include <gitstead/thread.h>

#define PING 2
#define CANCEL 3
#define REPOSITORY_GET 101
#define REPOSITORY_EXISTS 102
#define REPOSITORY_LIST 103
#define REPOSITORY_DELETE 104
#define REF_UPDATE 202
#define UPLOAD_PACK 401
#define RECEIVE_PACK 402

typedef struct Fixture Fixture;
typedef struct Wait Wait;
typedef struct FakeStream FakeStream;

/* What a test's handler does; set before the call. Runs on a pool's thread: no asserts in it. */
typedef gboolean (*Play) (Fixture *f, GsiCall *call, GError **error);

struct Fixture
{
  GsiRpcLimits limits;
  guint n_workers, queue, n_stream_threads, stream_queue;
  GsiPool *workers, *streams;
  GsiMetrics *metrics;
  GsiLog *log;
  int log_fd;
  gboolean quiet; /* no trace, no debug log */
  GsiRpc *rpc;

  GsMutex lock;
  GsCond changed;
  GString *trace;      /* under lock: the steps that fakes saw, "auth authorize run " */
  guint n_run;         /* handler begun */
  guint n_identities;  /* given out and not released */
  gboolean gate_open;  /* gated plays wait for it */
  guint n_at_gate;
  char *last_path, *last_storage;
  GsScope last_scope;
  void (*on_authorize) (Fixture *f);
  const char *doubted;    /* recheck of this identity fails … */
  GsErrorCode doubt;      /* … with this */
  Play play;           /* NULL: reply with the empty message of the method */
};

/* A call as its transport would see it. */
struct Wait
{
  Fixture *f;
  gboolean over;
  guint n_done;
  GsErrorCode code;
  GsRetry retry;
  gint64 retry_after_us;
  char *message;
  GBytes *payload;
  GBytes *details;
  GsCallHandle handle;
};

struct FakeStream
{
  GsStream base;
  Fixture *f;
  gboolean flows; /* what accept says */
  guint n_accepts;
  Wait *wait;
  void (*on_accept) (FakeStream *stream);
};

/* Starts with small pools; change limits in @f between fixture_init and fixture_start. */
void fixture_init (Fixture *f);
void fixture_start (Fixture *f);
void fixture_stop (Fixture *f);

/* Credentials: bearer "NAME:SCOPE[:PREFIX]", scope r, w or a. NULL: none. */
void fixture_begin (Fixture *f, Wait *wait, guint32 method, GsEncoding encoding, GBytes *payload, const char *token,
                    const char *call_id, gint64 timeout_us, GsStream *stream);
/* Common form: @path's repository as the request of a method whose first field is the target. */
void fixture_call (Fixture *f, Wait *wait, guint32 method, const char *path, const char *token, const char *call_id);
GBytes *fixture_request (const char *path);
void wait_over (Wait *wait);
gboolean wait_is_over (Wait *wait);
void wait_over_quietly (Wait *wait); /* no assert: for threads of the test */
void wait_clear (Wait *wait);
/* Before expect_end, of a call in protobuf: its one detail is this limit. */
void expect_limit (Wait *wait, const char *name, guint64 limit, guint64 value);
#define expect_end(wait_, code_, says_)                                                                                \
  _expect_end ((wait_), (code_), (says_), __FILE__, __LINE__)
void _expect_end (Wait *wait, GsErrorCode code, const char *says, const char *file, int line);

void stream_init (FakeStream *stream, Fixture *f, gboolean flows);
void stream_clear (FakeStream *stream);

/* Plays. */
/* As play_gate, but stops when it was cancelled meanwhile. */
gboolean play_gate_heeding (Fixture *f, GsiCall *call, GError **error);
gboolean play_gate (Fixture *f, GsiCall *call, GError **error); /* waits for the gate, then replies empty */
gboolean play_until_cancelled (Fixture *f, GsiCall *call, GError **error);
/* Waits until @n handlers stand at the gate / have begun. */
void wait_at_gate (Fixture *f, guint n);
void wait_run (Fixture *f, guint n);
GsCallHandle handle_of (Wait *wait); /* waits until fixture_begin has it */
void open_gate (Fixture *f);
void note (Fixture *f, const char *step);
char *taken_trace (Fixture *f); /* and empties it */
double counted (Fixture *f, const char *name, const char *labels);
void wait_counted (Fixture *f, const char *name, const char *labels, double n);

#endif
