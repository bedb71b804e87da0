/* SPDX-License-Identifier: Apache-2.0 */
/* Crash reports. See crash.h. Everything below report() is async-signal-safe: no allocation, no stdio, no lock. */
#include "base/crash.h"

#include <gitstead/thread.h>

#include <execinfo.h>
#include <link.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define NOTES_MAX 64
#define NOTE_BYTES 200
#define FRAMES_MAX 64

static char title[64] = "gitstead";
static const GsiLog *log_of_process;
static struct
{
  char line[NOTE_BYTES];
  gsize from, to; /* where the file is mapped; 0: not known */
} notes[NOTES_MAX];
static guint n_notes; /* atomic; lines below it are whole */
static GsMutex notes_lock = GS_MUTEX_INIT;

static void
say (const char *text)
{
  gsize len = strlen (text);
  while (len > 0)
    {
      ssize_t n = write (STDERR_FILENO, text, len);
      if (n <= 0)
        return;
      text += n;
      len -= (gsize) n;
    }
}

static void
say_number (guint64 value, guint base)
{
  char digits[32];
  char *at = digits + sizeof digits - 1;

  *at = '\0';
  do
    *--at = "0123456789abcdef"[value % base];
  while ((value /= base) > 0);
  say (at);
}

static const char *
signal_name (int number)
{
  switch (number)
    {
    case SIGSEGV:
      return "SIGSEGV";
    case SIGBUS:
      return "SIGBUS";
    case SIGILL:
      return "SIGILL";
    case SIGFPE:
      return "SIGFPE";
    default:
      return "SIGABRT";
    }
}

/* The innermost plugin on the stack: what it called, in a library or with abort, is its doing. */
static void
say_whose (void *const *frames, int n_frames)
{
  guint n = __atomic_load_n (&n_notes, __ATOMIC_ACQUIRE);
  for (int frame = 0; frame < n_frames; frame++)
    for (guint i = 0; i < n; i++)
      if ((gsize) frames[frame] >= notes[i].from && (gsize) frames[frame] < notes[i].to)
        {
          say ("*** In plugin ");
          say (notes[i].line);
          say ("\n");
          return;
        }
  say ("*** In no plugin\n");
}

static void
report (int number, siginfo_t *info, void *context)
{
  static int reported;
  char thread[17] = "";
  void *frames[FRAMES_MAX];
  int n_frames;

  /* A second thread that crashes meanwhile waits for the process to end. */
  if (__atomic_exchange_n (&reported, 1, __ATOMIC_ACQ_REL) != 0)
    {
      pause ();
      _exit (128 + number);
    }
  prctl (PR_GET_NAME, thread);
  say ("\n*** ");
  say (title);
  say (" died of ");
  say (signal_name (number));
  if (number == SIGSEGV || number == SIGBUS)
    {
      say (" at address 0x");
      say_number ((guint64) (gsize) info->si_addr, 16);
    }
  say (" in thread ");
  say (thread);
  say (", process ");
  say_number ((guint64) getpid (), 10);
  say ("\n");
  n_frames = backtrace (frames, FRAMES_MAX);
  say_whose (frames, n_frames);
  if (gsi_log_call ()[0] != '\0')
    {
      say ("*** Working on call ");
      say (gsi_log_call ());
      say ("\n");
    }
  say ("*** Backtrace:\n");
  backtrace_symbols_fd (frames, n_frames, STDERR_FILENO);
  say ("*** Loaded plugins:\n");
  for (guint i = 0, n = __atomic_load_n (&n_notes, __ATOMIC_ACQUIRE); i < n; i++)
    {
      say (notes[i].line);
      say ("\n");
    }
  if (log_of_process != NULL)
    {
      say ("*** Last log records:\n");
      gsi_log_write_last (log_of_process, STDERR_FILENO);
    }
  say ("*** End of report\n");
  /* It is blocked while we are here, and takes effect on return. */
  signal (number, SIG_DFL);
  raise (number);
}

void
gsi_crash_install (const char *title_, const GsiLog *log)
{
  static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
  static char stack[64 * 1024];
  const stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
  struct sigaction action = { .sa_flags = SA_SIGINFO | SA_ONSTACK };
  void *frames[2];

  g_strlcpy (title, title_, sizeof title);
  log_of_process = log;
  /* The first call loads libgcc, which allocates: not in the handler. */
  backtrace (frames, G_N_ELEMENTS (frames));
  /* Of this thread alone: an overflow of its stack is reported, one of another thread's is not. */
  sigaltstack (&alternate, NULL);
  action.sa_sigaction = report;
  sigemptyset (&action.sa_mask);
  for (guint i = 0; i < G_N_ELEMENTS (signals); i++)
    sigaction (signals[i], &action, NULL);
}

void
gsi_crash_forget_log (void)
{
  log_of_process = NULL;
}

typedef struct
{
  gsize code, from, to;
} Mapping;

/* Stops at the file that @data's code is in. */
static int
look_at_file (struct dl_phdr_info *info, size_t size, void *data)
{
  Mapping *found = data;
  gsize from = G_MAXSIZE, to = 0;

  for (guint i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_LOAD)
      {
        gsize at = (gsize) info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        from = MIN (from, at);
        to = MAX (to, at + info->dlpi_phdr[i].p_memsz);
      }
  if (found->code < from || found->code >= to)
    return 0;
  found->from = from;
  found->to = to;
  return 1;
}

void
gsi_crash_note (const char *line, const void *code)
{
  Mapping mapping = { .code = (gsize) code };
  guint n;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&notes_lock);

  if (code != NULL)
    dl_iterate_phdr (look_at_file, &mapping);
  n = __atomic_load_n (&n_notes, __ATOMIC_RELAXED);
  for (guint i = 0; i < n; i++)
    if (strncmp (notes[i].line, line, NOTE_BYTES - 1) == 0)
      return;
  if (n == NOTES_MAX)
    return;
  g_strlcpy (notes[n].line, line, NOTE_BYTES);
  notes[n].from = mapping.from;
  notes[n].to = mapping.to;
  __atomic_store_n (&n_notes, n + 1, __ATOMIC_RELEASE);
}
