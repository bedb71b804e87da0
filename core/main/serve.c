/* SPDX-License-Identifier: Apache-2.0 */
/* `gitstead serve` and `gitstead check`: signals, exit codes, and nothing else. */
#include "main/cli.h"
#include "main/command.h"
#include "main/reload.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Tells the service manager, when there is one, that the server is up (sd_notify's protocol, in ten lines). */
static void
notify_manager (const char *state)
{
  const char *path = g_getenv ("NOTIFY_SOCKET");
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  gsize len = path == NULL ? 0 : strlen (path);
  int fd;
  if (len == 0 || len >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@'))
    return;
  memcpy (address.sun_path, path, len);
  if (path[0] == '@')
    address.sun_path[0] = '\0';
  fd = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return;
  if (sendto (fd, state, strlen (state), MSG_NOSIGNAL, (struct sockaddr *) &address,
              (socklen_t) (G_STRUCT_OFFSET (struct sockaddr_un, sun_path) + len))
      < 0)
    g_printerr ("gitstead: cannot tell the service manager: %s\n", g_strerror (errno));
  close (fd);
}

/* The manager wants to know the time, so that it can tell this reload from the one before. */
static void
notify_reloading (void)
{
  g_autofree char *state
      = g_strdup_printf ("RELOADING=1\nMONOTONIC_USEC=%" G_GINT64_FORMAT, g_get_monotonic_time ());
  notify_manager (state);
}

/* TRUE: the server is to end. */
static gboolean
take_signals (GsiServer *server, int signal_fd)
{
  struct signalfd_siginfo info;
  gboolean reload = FALSE;
  while (read (signal_fd, &info, sizeof info) == sizeof info)
    {
      if (info.ssi_signo != SIGHUP)
        return TRUE;
      reload = TRUE;
    }
  if (reload)
    {
      notify_reloading ();
      gsi_server_reload (server, NULL, NULL); /* the log says how it went */
      notify_manager ("READY=1");
    }
  return FALSE;
}

/* Signals stay blocked in every thread that libraries start; only the main thread takes them, here. */
static void
wait_for_end (GsiServer *server, int signal_fd)
{
  struct pollfd fds[] = { { signal_fd, POLLIN, 0 }, { gsi_server_wake_fd (server), POLLIN, 0 } };
  for (;;)
    {
      if (poll (fds, G_N_ELEMENTS (fds), 1000) < 0 && errno != EINTR)
        return;
      if (take_signals (server, signal_fd))
        return;
      gsi_server_turn (server);
    }
}

static gboolean
parse_config_option (int argc, char **argv, const char *summary, char **ret_config, gboolean *ret_print)
{
  g_autoptr (GOptionContext) context = g_option_context_new (NULL);
  g_autoptr (GError) error = NULL;
  g_autofree char *config = NULL;
  const char *command = argv[0];
  GOptionEntry entries[]
      = { { "config", 'c', 0, G_OPTION_ARG_FILENAME, &config, "The configuration file", "FILE" },
          { ret_print != NULL ? "print" : NULL, 'p', 0, G_OPTION_ARG_NONE, ret_print,
            "Print the effective configuration, secrets masked", NULL },
          { NULL } };
  g_option_context_add_main_entries (context, entries, NULL);
  g_option_context_set_summary (context, summary);
  if (!g_option_context_parse (context, &argc, &argv, &error))
    {
      gsi_cli_usage (command, "%s", error->message);
      return FALSE;
    }
  if (config == NULL || argc > 1)
    {
      gsi_cli_usage (command, "%s", config == NULL ? "--config FILE is missing" : "too many arguments");
      return FALSE;
    }
  *ret_config = g_steal_pointer (&config);
  return TRUE;
}

int
gsi_command_serve (int argc, char **argv)
{
  g_autofree char *config = NULL;
  g_autoptr (GError) error = NULL;
  g_autoptr (GsiServer) server = NULL;
  sigset_t signals;
  int signal_fd;

  if (!parse_config_option (argc, argv,
                            "Runs a server until SIGTERM or SIGINT, which let calls under way finish. SIGHUP, or "
                            "'gitstead reload', takes over what changed in the configuration.\n\nExample:\n  gitstead serve --config /etc/gitstead.yaml",
                            &config, NULL))
    return GSI_EXIT_USAGE;
  signal (SIGPIPE, SIG_IGN);
  sigemptyset (&signals);
  sigaddset (&signals, SIGTERM);
  sigaddset (&signals, SIGINT);
  sigaddset (&signals, SIGHUP);
  pthread_sigmask (SIG_BLOCK, &signals, NULL);
  signal_fd = signalfd (-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signal_fd < 0)
    {
      g_printerr ("gitstead: cannot serve: waiting for signals: %s\n", g_strerror (errno));
      return GSI_EXIT_FAILED;
    }

  server = gsi_server_new (config, &error);
  if (server == NULL || !gsi_server_start (server, &error))
    {
      close (signal_fd);
      return gsi_cli_fail_config (error, config, "cannot serve");
    }
  notify_manager ("READY=1");
  wait_for_end (server, signal_fd);
  notify_manager ("STOPPING=1");
  gsi_server_stop (server);
  close (signal_fd);
  return GSI_EXIT_OK;
}

int
gsi_command_check (int argc, char **argv)
{
  g_autofree char *config = NULL;
  g_autoptr (GError) error = NULL;
  g_autoptr (GsiServer) server = NULL;
  gboolean print = FALSE;

  if (!parse_config_option (argc, argv,
                            "Reads a configuration file and says everything that is wrong with it, without starting "
                            "anything.\n\nExample:\n  gitstead check --config /etc/gitstead.yaml",
                            &config, &print))
    return GSI_EXIT_USAGE;
  server = gsi_server_new (config, &error);
  if (server == NULL)
    return gsi_cli_fail_config (error, config, "cannot use the configuration");
  if (print)
    {
      g_autofree char *text = gsi_registry_print (server->now->registry);
      fputs (text, stdout);
    }
  else
    g_print ("%s: ok\n", config);
  return GSI_EXIT_OK;
}
