/* SPDX-License-Identifier: Apache-2.0 */
/* The proc-receive hook that git receive-pack runs: passes bytes between git (standard input and output) and the
 * server (the socket inherited as descriptor 3). It knows nothing of what it carries; its end of file is the server's.
 * Before that it hands the server its standard error, with a byte that no packet begins with: what is written there git
 * passes on to the client.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
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

static int
send_standard_error (void)
{
  char byte = 1;
  int fd = STDERR_FILENO;
  union
  {
    struct cmsghdr align;
    char bytes[CMSG_SPACE (sizeof (int))];
  } control = { .bytes = { 0 } };
  struct iovec data = { &byte, 1 };
  struct msghdr message
      = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
  struct cmsghdr *head = CMSG_FIRSTHDR (&message);
  ssize_t sent;
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN (sizeof fd);
  memcpy (CMSG_DATA (head), &fd, sizeof fd);
  do
    sent = sendmsg (SERVER_FD, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent == 1;
}

int
main (void)
{
  struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = SERVER_FD, .events = POLLIN } };
  if (!send_standard_error ())
    return 1;
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
