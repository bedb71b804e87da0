/* SPDX-License-Identifier: Apache-2.0 */
/* Running git: see child.h. */
#include "child.h"

#include "disk.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define CHILD_GRACE_US (2 * G_USEC_PER_SEC)
#define CHILD_FDS 5 /* that child_wait looks at for the child itself */
#define PUMP_BYTES (128 * 1024)
#define WATCH_US (G_USEC_PER_SEC / 4)
#define WATCH_SHARE 10 /* at least so many times as long as looking took passes before the next look */
#define BUSY_TRIES 100u
#define BUSY_PAUSE_US (20 * 1000)
#define NICE_LOW 10 /* gives way, but gets on: the longer it takes, the more packs there are meanwhile */
#define IOPRIO_OF_PROCESS 1
#define IOPRIO_LOW (2 << 13 | 7) /* class best-effort, so that it is slow but never starved */

/* ----------------------------------------------------------------------------------- environment */

typedef struct
{
  const char *key, *value;
} Setting;

/* Whatever stands in a repository's own config file, none of it may run a program or change a rule. */
static const Setting settings_all[] = {
  { "safe.directory", "*" },
  { "core.fsmonitor", "false" },
  { "core.untrackedCache", "false" },
  { "core.sshCommand", "false" },
  { "core.gitProxy", "false" },
  { "core.askPass", "false" },
  { "core.pager", "cat" },
  { "core.editor", "false" },
  { "core.alternateRefsCommand", "exit 0 #" },
  { "core.attributesFile", "/dev/null" },
  { "core.excludesFile", "/dev/null" },
  { "core.logAllRefUpdates", "false" },
  { "core.fsync", "none" }, /* whoever publishes files syncs them, folders included */
  { "core.bigFileThreshold", "64m" },
  { "credential.helper", "" },
  { "core.quotePath", "true" },
  { "diff.external", "" },
  { "diff.suppressBlankEmpty", "false" },
  { "gpg.program", "false" },
  { "gc.auto", "0" },
  { "gc.autoDetach", "false" },
  { "maintenance.auto", "false" },
  { "receive.autogc", "false" },
  { "protocol.allow", "never" },
  { "pack.windowMemory", "100m" },
  { "pack.writeReverseIndex", "true" },
  { "tar.umask", "0002" },
  { "tar.tar.gz.command", "git archive gzip" },
  { "transfer.advertiseSID", "false" },
  { "transfer.bundleURI", "false" },
};

static const Setting settings_upload[] = {
  { "transfer.hideRefs", GIT_HIDDEN_REFS },
  { "uploadpack.allowFilter", "true" },
  { "uploadpackfilter.sparse:oid.allow", "false" },
  /* Protocol v2 lets a client ask for any object; one rule for all versions. */
  { "uploadpack.allowAnySHA1InWant", "true" },
  { "uploadpack.keepAlive", "5" },
};

static const Setting settings_receive[] = {
  { "receive.procReceiveRefs", "refs" },
  { "receive.advertisePushOptions", "true" },
  { "receive.advertiseAtomic", "true" },
  { "receive.fsckObjects", "true" },
  { "receive.unpackLimit", "1" },
  { "receive.denyDeletes", "false" },
  { "receive.denyDeleteCurrent", "ignore" },
  { "receive.denyCurrentBranch", "ignore" },
  { "receive.denyNonFastForwards", "false" },
  { "receive.shallowUpdate", "false" },
  { "receive.updateServerInfo", "false" },
  { "receive.keepAlive", "5" },
};

static const Setting settings_maintain[] = {
  { "pack.threads", "1" },
  { "pack.packSizeLimit", "0" },
  { "repack.packKeptObjects", "false" },
  { "core.multiPackIndex", "true" },
  { "core.commitGraph", "true" },
};

/* Faults that old, real histories have and that harm nobody. */
static const Setting settings_lenient[] = {
  { "receive.fsck.badTimezone", "ignore" },
  { "receive.fsck.missingSpaceBeforeDate", "ignore" },
  { "receive.fsck.zeroPaddedFilemode", "ignore" },
};

typedef struct
{
  GPtrArray *env;
  guint n_settings;
} Environment;

static void env_add (Environment *env, const char *format, ...) G_GNUC_PRINTF (2, 3);

static void
env_add (Environment *env, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_ptr_array_add (env->env, g_strdup_vprintf (format, args));
  va_end (args);
}

static void
env_setting (Environment *env, const char *key, const char *value)
{
  env_add (env, "GIT_CONFIG_KEY_%u=%s", env->n_settings, key);
  env_add (env, "GIT_CONFIG_VALUE_%u=%s", env->n_settings, value);
  env->n_settings++;
}

static void
env_settings (Environment *env, const Setting *settings, gsize n)
{
  for (gsize i = 0; i < n; i++)
    env_setting (env, settings[i].key, settings[i].value);
}

/* GIT_ALTERNATE_OBJECT_DIRECTORIES separates by ':' unless the path is quoted as a C string. */
static char *
quote_alternate (const char *path)
{
  g_autoptr (GString) quoted = g_string_new ("\"");
  for (const char *at = path; *at != '\0'; at++)
    {
      if (*at == '"' || *at == '\\')
        g_string_append_c (quoted, '\\');
      g_string_append_c (quoted, *at);
    }
  g_string_append_c (quoted, '"');
  return g_string_free (g_steal_pointer (&quoted), FALSE);
}

static GPtrArray *
make_environment (Storage *storage, const ChildSpec *spec)
{
  Environment env = { g_ptr_array_new_with_free_func (g_free), 0 };
  if (spec->program != NULL)
    env_add (&env, "PATH=%s:/usr/local/bin:/usr/bin:/bin", storage->git_path);
  else
    env_add (&env, "PATH=%s", storage->git_path);
  env_add (&env, "HOME=/nonexistent");
  env_add (&env, "LC_ALL=C");
  env_add (&env, "TZ=UTC");
  env_add (&env, "GIT_CONFIG_NOSYSTEM=1");
  env_add (&env, "GIT_CONFIG_SYSTEM=/dev/null");
  env_add (&env, "GIT_CONFIG_GLOBAL=/dev/null");
  env_add (&env, "GIT_ATTR_NOSYSTEM=1");
  env_add (&env, "GIT_NO_REPLACE_OBJECTS=1");
  env_add (&env, "GIT_NO_LAZY_FETCH=1");
  env_add (&env, "GIT_OPTIONAL_LOCKS=0");
  env_add (&env, "GIT_TERMINAL_PROMPT=0");
  env_add (&env, "GIT_ADVICE=0");
  if (spec->git_dir != NULL)
    env_add (&env, "GIT_DIR=%s", spec->git_dir);
  if (spec->protocol != NULL && *spec->protocol != '\0')
    env_add (&env, "GIT_PROTOCOL=%s", spec->protocol);
  if (spec->index != NULL)
    env_add (&env, "GIT_INDEX_FILE=%s", spec->index);
  if (spec->quarantine != NULL)
    {
      g_autofree char *alternate = quote_alternate (spec->alternate);
      env_add (&env, "GIT_OBJECT_DIRECTORY=%s", spec->quarantine);
      env_add (&env, "GIT_ALTERNATE_OBJECT_DIRECTORIES=%s", alternate);
    }
  env_settings (&env, settings_all, G_N_ELEMENTS (settings_all));
  env_setting (&env, "core.hooksPath", spec->role == CHILD_RECEIVE ? storage->hook_dir : "/dev/null");
  if (spec->role == CHILD_UPLOAD)
    env_settings (&env, settings_upload, G_N_ELEMENTS (settings_upload));
  if (spec->role == CHILD_MAINTAIN)
    {
      env_settings (&env, settings_maintain, G_N_ELEMENTS (settings_maintain));
      /* It puts new files in the place of old ones itself. */
      if (storage->sync)
        env_setting (&env, "core.fsync", "objects,derived-metadata");
    }
  if (spec->role == CHILD_RECEIVE)
    {
      env_settings (&env, settings_receive, G_N_ELEMENTS (settings_receive));
      if (!storage->fsck_strict)
        env_settings (&env, settings_lenient, G_N_ELEMENTS (settings_lenient));
      if (spec->max_input != 0)
        {
          g_autofree char *limit = g_strdup_printf ("%" G_GUINT64_FORMAT, spec->max_input);
          env_setting (&env, "receive.maxInputSize", limit);
        }
    }
  for (const char *const *pair = spec->settings; pair != NULL && *pair != NULL; pair += 2)
    env_setting (&env, pair[0], pair[1]);
  env_add (&env, "GIT_CONFIG_COUNT=%u", env.n_settings);
  for (const char *const *variable = spec->variables; variable != NULL && *variable != NULL; variable++)
    env_add (&env, "%s", *variable);
  g_ptr_array_add (env.env, NULL);
  return env.env;
}

/* ------------------------------------------------------------------------------------------ start */

static void
limit_child (Storage *storage, const ChildSpec *spec, pid_t pid)
{
  struct rlimit none = { 0, 0 };
  prlimit (pid, RLIMIT_CORE, &none, NULL);
  if (spec->max_file > 0)
    {
      struct rlimit file = { (rlim_t) spec->max_file, (rlim_t) spec->max_file };
      prlimit (pid, RLIMIT_FSIZE, &file, NULL);
    }
  if (storage->child_cpu_seconds > 0)
    {
      struct rlimit cpu = { (rlim_t) storage->child_cpu_seconds, (rlim_t) storage->child_cpu_seconds + 5 };
      prlimit (pid, RLIMIT_CPU, &cpu, NULL);
    }
  /* Private memory; packs that are mapped for reading do not count, so a big repository is no reason to fail. */
  if (storage->child_memory > 0)
    {
      struct rlimit memory = { (rlim_t) storage->child_memory, (rlim_t) storage->child_memory };
      prlimit (pid, RLIMIT_DATA, &memory, NULL);
    }
}

/* Whatever it starts inherits this. */
static void
lower_priority (pid_t pid)
{
  setpriority (PRIO_PROCESS, (id_t) pid, NICE_LOW);
  syscall (SYS_ioprio_set, IOPRIO_OF_PROCESS, pid, IOPRIO_LOW);
}

static int
spawn_git (Storage *storage, const ChildSpec *spec, int error_fd, pid_t *ret_pid)
{
  g_autoptr (GPtrArray) env = make_environment (storage, spec);
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attr;
  sigset_t none, all;
  int failed;

  g_ptr_array_add (argv, (gpointer) (spec->program != NULL ? spec->program : storage->git));
  for (gsize i = 0; spec->argv[i] != NULL; i++)
    g_ptr_array_add (argv, (gpointer) spec->argv[i]);
  g_ptr_array_add (argv, NULL);

  posix_spawn_file_actions_init (&actions);
  if (spec->input >= 0)
    posix_spawn_file_actions_adddup2 (&actions, spec->input, 0);
  else
    posix_spawn_file_actions_addopen (&actions, 0, "/dev/null", O_RDONLY, 0);
  if (spec->output >= 0)
    posix_spawn_file_actions_adddup2 (&actions, spec->output, 1);
  else if (spec->program != NULL)
    posix_spawn_file_actions_adddup2 (&actions, error_fd, 1);
  else
    posix_spawn_file_actions_addopen (&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2 (&actions, spec->program != NULL && spec->output >= 0 ? spec->output : error_fd, 2);
  if (spec->extra >= 0)
    posix_spawn_file_actions_adddup2 (&actions, spec->extra, 3);
  posix_spawn_file_actions_addclosefrom_np (&actions, spec->extra >= 0 ? 4 : 3);

  sigemptyset (&none);
  sigfillset (&all);
  sigdelset (&all, SIGKILL);
  sigdelset (&all, SIGSTOP);
  posix_spawnattr_init (&attr);
  posix_spawnattr_setflags (&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setpgroup (&attr, 0);
  posix_spawnattr_setsigmask (&attr, &none);
  posix_spawnattr_setsigdefault (&attr, &all);
  /* A program that was written just now may still be open for writing in a child that another thread has begun. */
  for (guint tries = 0;; tries++)
    {
      failed = posix_spawn (ret_pid, argv->pdata[0], &actions, &attr, (char **) argv->pdata, (char **) env->pdata);
      if (failed != ETXTBSY || tries >= BUSY_TRIES)
        break;
      g_usleep (BUSY_PAUSE_US);
    }
  posix_spawnattr_destroy (&attr);
  posix_spawn_file_actions_destroy (&actions);
  return failed;
}

/* ------------------------------------------------------------------------------------------ watch */

static void
arm_watch (const Child *child, gint64 in_us)
{
  const struct itimerspec when
      = { .it_value = { (time_t) (in_us / G_USEC_PER_SEC), (long) (in_us % G_USEC_PER_SEC) * 1000 } };
  timerfd_settime (child->timer, 0, &when, NULL);
}

/* Its timer is due. */
static gboolean
ask_watch (const Child *child, GError **error)
{
  gint64 began = g_get_monotonic_time ();
  if (!child->watch (child->watch_user, error))
    return FALSE;
  arm_watch (child, MAX (WATCH_US, (g_get_monotonic_time () - began) * WATCH_SHARE));
  return TRUE;
}

gboolean
child_start (Storage *storage, const ChildSpec *spec, Child *ret_child, GError **error)
{
  int err[2], pidfd, failed;
  int timer = spec->watch != NULL ? timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK) : -1;
  pid_t pid;
  if (spec->watch != NULL && timer < 0)
    return fsu_fail (error, errno, "make a timer for %s", "git");
  if (pipe2 (err, O_CLOEXEC) != 0)
    {
      fsu_fail (error, errno, "make a pipe for %s", "git");
      if (timer >= 0)
        close (timer);
      return FALSE;
    }
  failed = spawn_git (storage, spec, err[1], &pid);
  close (err[1]);
  if (failed != 0)
    {
      close (err[0]);
      if (timer >= 0)
        close (timer);
      return fsu_fail (error, failed, "start %s", spec->program != NULL ? spec->program : storage->git);
    }
  pidfd = (int) syscall (SYS_pidfd_open, pid, 0);
  if (pidfd < 0)
    {
      failed = errno;
      kill (-pid, SIGKILL);
      while (waitpid (pid, NULL, 0) < 0 && errno == EINTR)
        ;
      close (err[0]);
      if (timer >= 0)
        close (timer);
      return fsu_fail (error, failed, "watch %s", storage->git);
    }
  limit_child (storage, spec, pid);
  if (spec->role == CHILD_MAINTAIN)
    lower_priority (pid);
  fcntl (err[0], F_SETFL, O_NONBLOCK);
  fcntl (pidfd, F_SETFD, FD_CLOEXEC);
  *ret_child = (Child){ .storage = storage,
                        .pid = pid,
                        .pidfd = pidfd,
                        .err_fd = err[0],
                        .err = g_string_new (NULL),
                        .name = spec->program != NULL ? "hook" : spec->argv[0],
                        .started_us = g_get_monotonic_time (),
                        .watch = spec->watch,
                        .watch_user = spec->watch_user,
                        .beside = spec->beside,
                        .timer = timer };
  if (timer >= 0)
    arm_watch (ret_child, WATCH_US);
  storage->host->metric_update (storage->metric.children, 1);
  return TRUE;
}

/* -------------------------------------------------------------------------------------------- end */

void
child_read_stderr (Child *child)
{
  char buffer[1024];
  while (child->err_fd >= 0)
    {
      ssize_t got = read (child->err_fd, buffer, sizeof buffer);
      if (got < 0 && errno == EINTR)
        continue;
      if (got < 0 && errno == EAGAIN)
        return;
      if (got <= 0)
        {
          close (child->err_fd);
          child->err_fd = -1;
          return;
        }
      gsize room = CHILD_STDERR_MAX - MIN (child->err->len, CHILD_STDERR_MAX);
      g_string_append_len (child->err, buffer, (gssize) MIN (room, (gsize) got));
    }
}

int
child_reap (Child *child)
{
  siginfo_t info;
  int status = 0;
  /* Still a zombie: its number, and so its group's, is not given to anybody else yet. */
  while (waitid (P_PIDFD, (id_t) child->pidfd, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
    ;
  kill (-child->pid, SIGKILL);
  while (waitpid (child->pid, &status, 0) < 0 && errno == EINTR)
    ;
  child_read_stderr (child);
  close (child->pidfd);
  child->pidfd = -1;
  child->pid = 0;
  return status;
}

void
child_end (Child *child)
{
  struct pollfd fd = { .fd = child->pidfd, .events = POLLIN };
  gint64 until = g_get_monotonic_time () + CHILD_GRACE_US;
  if (child->pid == 0)
    return;
  kill (-child->pid, SIGTERM);
  for (;;)
    {
      gint64 left = until - g_get_monotonic_time ();
      int ready = poll (&fd, 1, left > 0 ? (int) ((left + 999) / 1000) : 0);
      child_read_stderr (child);
      if (ready > 0 || (ready == 0 && left <= 0))
        break;
    }
  if (fd.revents == 0)
    {
      const GsField fields[] = { GS_TEXT ("command", child->name) };
      child->storage->host->log (child->storage->host, GS_LOG_WARNING, "storage.child.killed", fields, 1);
      kill (-child->pid, SIGKILL);
    }
  child->storage->host->metric_update (child->storage->metric.killed, 1);
  child_reap (child);
}

void
child_clear (Child *child)
{
  if (child->pid != 0)
    child_end (child);
  if (child->err_fd >= 0)
    close (child->err_fd);
  child->err_fd = -1;
  if (child->watch != NULL && child->timer >= 0)
    close (child->timer);
  child->timer = -1;
  if (child->err != NULL)
    g_string_free (child->err, TRUE);
  child->err = NULL;
}

/* child_cpu, or child_memory: git's own words, and zlib's. */
static gboolean
over_limit (int status, const char *said)
{
  if (WIFSIGNALED (status))
    return WTERMSIG (status) == SIGXCPU;
  return strstr (said, "Out of memory") != NULL || strstr (said, "out of memory") != NULL;
}

gboolean
child_check (Child *child, int status, GError **error)
{
  g_autofree char *said = g_utf8_make_valid (child->err->str, (gssize) child->err->len);
  g_strchomp (said);
  if (WIFEXITED (status) && WEXITSTATUS (status) == 0)
    return TRUE;
  if (WIFSIGNALED (status))
    return gs_fail (error, over_limit (status, said) ? GS_ERROR_OUT_OF_RANGE : GS_ERROR_INTERNAL,
                    "git %s was ended by signal %d%s%s", child->name, WTERMSIG (status), *said != '\0' ? ": " : "",
                    said);
  return gs_fail (error, over_limit (status, said) ? GS_ERROR_OUT_OF_RANGE : GS_ERROR_INTERNAL,
                  "git %s exited with %d%s%s", child->name, WEXITSTATUS (status), *said != '\0' ? ": " : "", said);
}

gboolean
child_said_loss (const char *said)
{
  static const char *const signs[] = { "unable to read", "bad object", "corrupt", "missing ", "could not read", "Could not read",
                                       "cannot read", "is empty", "inflate", "not a valid object", "unable to unpack",
                                       "bad tree", "failed to read object", "unable to parse", "in tree entry",
                                       "too-short tree", "bogus commit", "not a commit", "not a tree", "not a blob",
                                       "not a tag", "Invalid revision range", "bad revision", "Not a valid" };
  for (gsize i = 0; i < G_N_ELEMENTS (signs); i++)
    if (strstr (said, signs[i]) != NULL)
      return TRUE;
  return FALSE;
}

GsErrorCode
child_failure (int status, const char *said)
{
  if (over_limit (status, said))
    return GS_ERROR_OUT_OF_RANGE;
  return WIFEXITED (status) && child_said_loss (said) ? GS_ERROR_DATA_LOSS : GS_ERROR_INTERNAL;
}

gboolean
child_check_objects (Child *child, int status, GError **error)
{
  g_autoptr (GError) why = NULL;
  if (child_check (child, status, &why))
    return TRUE;
  return gs_fail (error, child_failure (status, why->message), "%s", why->message);
}

/* --------------------------------------------------------------------------------------- waiting */

gboolean
call_poll (GsCall *call, struct pollfd *fds, nfds_t n_fds, const char *doing, GError **error)
{
  int cancel = call != NULL ? call->cancel_fd (call) : -1;
  fds[n_fds] = (struct pollfd){ .fd = cancel, .events = POLLIN };
  for (;;)
    {
      struct timespec wait = { 0, 0 }, *limit = NULL;
      if (call != NULL && !gs_call_check (call, doing, error))
        return FALSE;
      if (call != NULL && (call->deadline_us != G_MAXINT64 || cancel < 0))
        {
          gint64 left = call->deadline_us == G_MAXINT64 ? G_MAXINT64 : call->deadline_us - g_get_monotonic_time ();
          if (cancel < 0)
            left = MIN (left, G_USEC_PER_SEC / 10);
          left = MAX (left, 0);
          wait.tv_sec = (time_t) (left / G_USEC_PER_SEC);
          wait.tv_nsec = (long) (left % G_USEC_PER_SEC) * 1000;
          limit = &wait;
        }
      int ready = ppoll (fds, n_fds + 1, limit, NULL);
      if (ready < 0 && errno != EINTR)
        return fsu_fail (error, errno, "wait for %s", doing);
      if (ready > 0 && fds[n_fds].revents == 0)
        return TRUE;
    }
}

typedef struct
{
  int from, to;
  const char *at; /* to be written */
  gsize left;
  char *buffer;
} Pump;

static void
pump_close (Pump *pump)
{
  if (pump->from >= 0)
    close (pump->from);
  if (pump->to >= 0)
    close (pump->to);
  pump->from = pump->to = -1;
  pump->left = 0;
}

/* An input that fails ends like one that is over: the reader sees an incomplete request and says so. */
static void
pump_read (Pump *pump)
{
  ssize_t got = read (pump->from, pump->buffer, PUMP_BYTES);
  if (got < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  if (got <= 0)
    {
      pump_close (pump);
      return;
    }
  pump->at = pump->buffer;
  pump->left = (gsize) got;
}

static void
pump_write (Pump *pump)
{
  ssize_t wrote = write (pump->to, pump->at, pump->left);
  if (wrote < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  if (wrote < 0)
    {
      pump_close (pump);
      return;
    }
  pump->at += wrote;
  pump->left -= (gsize) wrote;
  if (pump->left == 0 && pump->from < 0)
    pump_close (pump);
}

gboolean
child_wait (Child *child, GsCall *call, const ChildInput *input, int *ret_status, GError **error)
{
  Pump pump = { .from = -1, .to = -1 };
  g_autofree char *buffer = NULL;
  if (input != NULL)
    {
      buffer = g_malloc (PUMP_BYTES);
      pump = (Pump){ .from = input->from, .to = input->to, .buffer = buffer };
      if (input->head != NULL)
        pump.at = g_bytes_get_data (input->head, &pump.left);
      if (pump.left == 0 && pump.from < 0)
        pump_close (&pump);
    }
  for (;;)
    {
      struct pollfd fds[CHILD_FDS + CHILD_BESIDE_MAX + 1] = { { .fd = child->pidfd, .events = POLLIN }, { .fd = child->err_fd, .events = POLLIN } };
      fds[2] = (struct pollfd){ .fd = pump.left == 0 ? pump.from : -1, .events = POLLIN };
      fds[3] = (struct pollfd){ .fd = pump.to, .events = pump.left != 0 ? POLLOUT : 0 };
      fds[4] = (struct pollfd){ .fd = child->watch != NULL ? child->timer : -1, .events = POLLIN };
      guint beside = child->beside != NULL ? child->beside->fds (child->beside->user, fds + CHILD_FDS) : 0;
      if (!call_poll (call, fds, CHILD_FDS + beside, child->name, error)
          || (fds[4].revents != 0 && !ask_watch (child, error)))
        {
          pump_close (&pump);
          child_end (child);
          return FALSE;
        }
      child_read_stderr (child);
      if (fds[0].revents != 0)
        break;
      if (beside > 0)
        child->beside->ready (child->beside->user, fds + CHILD_FDS, beside);
      if (fds[3].revents & (POLLERR | POLLHUP))
        pump_close (&pump);
      else if (fds[3].revents != 0)
        pump_write (&pump);
      else if (fds[2].revents != 0)
        pump_read (&pump);
    }
  pump_close (&pump);
  *ret_status = child_reap (child);
  return TRUE;
}

/* The descriptor is ours now and a child's later; while we write, a slow reader must not hold us past the deadline. */
gboolean
call_write (GsCall *call, int fd, const char *data, gsize len, const char *doing, GError **error)
{
  int flags = fcntl (fd, F_GETFL);
  gboolean done = TRUE;
  fcntl (fd, F_SETFL, flags | O_NONBLOCK);
  while (done && len > 0)
    {
      ssize_t wrote = write (fd, data, len);
      struct pollfd fds[2] = { { .fd = fd, .events = POLLOUT } };
      if (wrote > 0)
        {
          data += wrote;
          len -= (gsize) wrote;
        }
      else if (wrote < 0 && errno == EAGAIN)
        done = call_poll (call, fds, 1, doing, error);
      else if (wrote < 0 && errno != EINTR)
        done = fsu_fail (error, errno, "%s to the client", doing);
    }
  fcntl (fd, F_SETFL, flags);
  return done;
}

int
memory_fd (const void *bytes, gsize len, GError **error)
{
  int fd = memfd_create ("gitstead", MFD_CLOEXEC);
  if (fd < 0)
    {
      fsu_fail (error, errno, "make %s", "a memory file");
      return -1;
    }
  if (!fsu_write_all (fd, bytes, len, "a memory file", error) || lseek (fd, 0, SEEK_SET) != 0)
    {
      close (fd);
      return -1;
    }
  return fd;
}

/* Until it has ended, or gave more than @max bytes: then the error says so, and the child is ended by the caller. */
static gboolean
collect_output (Child *child, GsCall *call, int from, gsize max, GByteArray *output, GError **error)
{
  g_autofree guint8 *buffer = g_malloc (PUMP_BYTES);
  for (;;)
    {
      struct pollfd fds[5] = { { .fd = from, .events = POLLIN }, { .fd = child->err_fd, .events = POLLIN } };
      fds[2] = (struct pollfd){ .fd = child->pidfd, .events = POLLIN };
      fds[3] = (struct pollfd){ .fd = child->watch != NULL ? child->timer : -1, .events = POLLIN };
      if (!call_poll (call, fds, 4, child->name, error) || (fds[3].revents != 0 && !ask_watch (child, error)))
        return FALSE;
      child_read_stderr (child);
      /*
       * What it wrote before it ended is read before its end counts. poll looks at one after the other: it may have written
       * after the pipe was looked at, and ended before its own turn came.
       */
      if (fds[0].revents == 0 && fds[2].revents != 0 && poll (fds, 1, 0) == 0)
        return TRUE;
      ssize_t got = fds[0].revents != 0 ? read (from, buffer, PUMP_BYTES) : -1;
      if (fds[0].revents == 0 || (got < 0 && (errno == EINTR || errno == EAGAIN)))
        continue;
      if (got < 0)
        return fsu_fail (error, errno, "read from git %s", child->name);
      if (got == 0)
        return TRUE;
      if ((gsize) got > max - output->len)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "git %s gave more than %" G_GSIZE_FORMAT " bytes", child->name,
                        max);
      g_byte_array_append (output, buffer, (guint) got);
    }
}

gboolean
child_run (Storage *storage, const ChildSpec *spec, GsCall *call, GBytes *input, gsize max, GBytes **ret_output,
           int *ret_status, char **ret_said, GError **error)
{
  g_autoptr (GByteArray) output = g_byte_array_new ();
  ChildSpec with = *spec;
  int out[2] = { -1, -1 };
  gboolean ok = TRUE;
  Child child = { .err_fd = -1 };
  g_return_val_if_fail (max < G_MAXUINT / 2, FALSE); /* what a GByteArray holds */
  with.input = input != NULL ? memory_fd (g_bytes_get_data (input, NULL), g_bytes_get_size (input), error) : -1;
  if (input != NULL && with.input < 0)
    return FALSE;
  if (ret_output != NULL && pipe2 (out, O_CLOEXEC) != 0)
    ok = fsu_fail (error, errno, "make a pipe for git %s", spec->argv[0]);
  if (ret_output != NULL)
    with.output = out[1];
  ok = ok && child_start (storage, &with, &child, error);
  if (out[1] >= 0)
    close (out[1]);
  ok = ok && (ret_output == NULL || collect_output (&child, call, out[0], max, output, error));
  /* Whoever still writes is told that nobody reads any more, before it is ended. */
  if (out[0] >= 0)
    close (out[0]);
  ok = ok && child_wait (&child, call, NULL, ret_status, error);
  if (ok && ret_output != NULL)
    *ret_output = g_byte_array_free_to_bytes (g_steal_pointer (&output));
  if (ok && ret_said != NULL)
    *ret_said = g_strchomp (g_utf8_make_valid (child.err->str, (gssize) child.err->len));
  child_clear (&child);
  if (with.input >= 0)
    close (with.input);
  return ok;
}
