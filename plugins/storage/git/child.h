/* SPDX-License-Identifier: Apache-2.0 */
/**
 * child.h - running git: clean environment, forced configuration, own process group, limits, and an end in bounded
 * time.
 */
#ifndef STORAGE_GIT_CHILD_H
#define STORAGE_GIT_CHILD_H

#include "git.h"

#include <poll.h>
#include <sys/types.h>

/** What a child may do: chooses the forced configuration. */
typedef enum
{
  CHILD_PLAIN,
  CHILD_UPLOAD,
  CHILD_RECEIVE, /* the only one with hooks: ours */
  CHILD_MAINTAIN /* low priority, one thread, syncs the files it writes */
} ChildRole;

#define CHILD_BESIDE_MAX 4

/** What is waited for beside a child (child_wait), on the same thread. */
typedef struct
{
  /** Fills in at most CHILD_BESIDE_MAX, and says how many. */
  guint (*fds) (gpointer user, struct pollfd *fds);
  /** They have been looked at; never waits. */
  void (*ready) (gpointer user, const struct pollfd *fds, guint n);
  gpointer user;
} ChildBeside;

typedef struct
{
  ChildRole role;
  const char *program;           /* absolute; run instead of git, and all that it says goes to @output; NULL = git */
  const char *const *variables;  /* further environment: "NAME=value", ..., NULL; NULL = none */
  const char *git_dir;     /* absolute; NULL for commands that need none */
  const char *const *argv; /* after "git", NULL-terminated */
  const char *quarantine;  /* objects folder to write to, with the repository's as alternate; NULL = the repository's */
  const char *alternate;
  const char *index;    /* GIT_INDEX_FILE; NULL = none */
  const char *protocol; /* GIT_PROTOCOL; NULL or "" = none */
  guint64 max_input;    /* receive.maxInputSize; 0 = none */
  const char *const *settings; /* further configuration: name, value, ..., NULL; NULL = none. It travels in the environment:
                                  no other user of the machine sees it, and no file has it */
  guint64 max_file;            /* bytes of any file that it writes; 0 = none */
  /* Asked again and again while it runs (child_wait, child_run); FALSE ends it with that error. NULL = nobody asks. */
  gboolean (*watch) (gpointer user, GError **error);
  gpointer watch_user;
  const ChildBeside *beside; /* NULL = nothing; outlives the child */
  int input, output;    /* -1 = /dev/null; stay the caller's */
  int extra;            /* becomes descriptor 3; -1 = none */
} ChildSpec;

#define CHILD_STDERR_MAX 4096

typedef struct
{
  Storage *storage;
  pid_t pid;
  int pidfd;
  int err_fd; /* read end, non-blocking; -1 after end of file */
  GString *err;
  const char *name; /* "receive-pack", for messages */
  gint64 started_us;
  gboolean (*watch) (gpointer user, GError **error);
  gpointer watch_user;
  const ChildBeside *beside;
  int timer; /* readable when it is time to ask @watch; -1 = never */
} Child;

gboolean child_start (Storage *storage, const ChildSpec *spec, Child *ret_child, GError **error);
/** Reads what is there of its standard error; keeps the first CHILD_STDERR_MAX bytes. */
void child_read_stderr (Child *child);
/** What child_wait passes on: @head, then what @from gives, into @to, a non-blocking pipe. */
typedef struct
{
  GBytes *head; /* may be NULL */
  int from;     /* blocking; -1 = no more after @head */
  int to;
} ChildInput;

/**
 * Waits for its end within the call's time, passing @input (may be NULL; its descriptors are closed) meanwhile.
 * *@ret_status as waitpid has it. FALSE: the call is over, and so is the child.
 */
gboolean child_wait (Child *child, GsCall *call, const ChildInput *input, int *ret_status, GError **error);
/** SIGTERM to the group, SIGKILL after two seconds, reaped. Harmless on one that has ended. */
void child_end (Child *child);
/** Reaps one that has exited (pidfd readable), and kills what is left of its group. */
int child_reap (Child *child);
/** FALSE, with @error made of the status and its standard error, unless it exited with 0. */
gboolean child_check (Child *child, int status, GError **error);
/** The same for one that read the repository's own objects: DATA_LOSS when it says that one cannot be read. */
gboolean child_check_objects (Child *child, int status, GError **error);
/** Does what git says on its standard error tell of an object that is damaged or lost? Revisions are ids when they come to
 *  it, found before. */
gboolean child_said_loss (const char *said);
/** What it means that one which read the repository's own objects ended with @status, not 0, having said @said: OUT_OF_RANGE
 *  past child_cpu or child_memory, DATA_LOSS when an object cannot be read, INTERNAL else. */
GsErrorCode child_failure (int status, const char *said);
void child_clear (Child *child);
/**
 * Runs to the end with @input (may be NULL); its output, at most @max bytes (below 2 GiB), *full* in *@ret_output (may
 * be NULL); what it said on standard error, *full* in *@ret_said (may be NULL). Any exit status is TRUE. OUT_OF_RANGE
 * as soon as it gives more than @max: it is ended, and no more than that was ever taken.
 */
gboolean child_run (Storage *storage, const ChildSpec *spec, GsCall *call, GBytes *input, gsize max,
                    GBytes **ret_output, int *ret_status, char **ret_said, GError **error);

/** poll, but never past the call's deadline; @fds[n_fds] has room for one more (the cancel descriptor). FALSE: stop. */
gboolean call_poll (GsCall *call, struct pollfd *fds, nfds_t n_fds, const char *doing, GError **error);
/** Writes all to a blocking descriptor, but never past the call's deadline. */
gboolean call_write (GsCall *call, int fd, const char *data, gsize len, const char *doing, GError **error);
/** A descriptor with @bytes in it, at its start. */
int memory_fd (const void *bytes, gsize len, GError **error);

#endif
