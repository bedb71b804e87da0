/* SPDX-License-Identifier: Apache-2.0 */
/* The proc-receive hook that git receive-pack runs: passes bytes between git (standard input and output) and the
 * server (the socket inherited as descriptor 3). It knows nothing of what it carries; its end of file is the server's.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SERVER_FD 3

/* 1: moved something; 0: end of file; -1: failed. */
static int
move (int from, int to)
{
  char buffer[16384];
  ssize_t got, at = 0;
  do
    got = read (from, buffer, sizeof buffer);
  while (got < 0 && errno == EINTR);
  if (got <= 0)
    return (int) got;
  while (at < got)
    {
      ssize_t wrote = write (to, buffer + at, (size_t) (got - at));
      if (wrote < 0 && errno == EINTR)
        continue;
      if (wrote < 0)
        return -1;
      at += wrote;
    }
  return 1;
}

int
main (void)
{
  struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = SERVER_FD, .events = POLLIN } };
  for (;;)
    {
      int moved;
      if (poll (fds, 2, -1) < 0)
        {
          if (errno == EINTR)
            continue;
          return 1;
        }
      if (fds[1].revents != 0)
        {
          moved = move (SERVER_FD, STDOUT_FILENO);
          if (moved <= 0)
            return moved == 0 ? 0 : 1;
        }
      if (fds[0].revents != 0)
        {
          moved = move (STDIN_FILENO, SERVER_FD);
          if (moved < 0)
            return 1;
          if (moved == 0)
            {
              shutdown (SERVER_FD, SHUT_WR);
              fds[0].fd = -1;
            }
        }
    }
}
