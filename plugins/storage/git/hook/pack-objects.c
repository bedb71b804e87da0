/* SPDX-License-Identifier: Apache-2.0 */
/* What git upload-pack runs in the place of git pack-objects (uploadpack.packObjectsHook), with the command that it would have
 * run as arguments. It hands the server (the socket inherited as descriptor 3) that command, the objects asked for, as a file,
 * and where the pack and the progress go, and waits for one byte:
 *
 *   '0'  the pack is there, whole
 *   'r'  run the command here
 *   else, or nothing: it failed
 *
 * Where there is no server to ask, it runs the command.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SERVER_FD 3
#define COMMAND_MAX 65536

/* Standard input as a file that can be read more than once; -1: failed. */
static int
spool_input (void)
{
  char buffer[65536];
  int fd = memfd_create ("pack-objects", MFD_CLOEXEC);
  for (;;)
    {
      ssize_t got = fd >= 0 ? read (STDIN_FILENO, buffer, sizeof buffer) : -1, at = 0;
      if (got < 0 && fd >= 0 && errno == EINTR)
        continue;
      if (got <= 0)
        return got == 0 ? fd : -1;
      while (at < got)
        {
          ssize_t wrote = write (fd, buffer + at, (size_t) (got - at));
          if (wrote < 0 && errno != EINTR)
            return -1;
          at += wrote > 0 ? wrote : 0;
        }
    }
}

/* 0: nobody was asked. */
static int
ask (char **command, int input)
{
  static char text[COMMAND_MAX];
  size_t len = 0;
  const int fds[3] = { input, STDOUT_FILENO, STDERR_FILENO };
  union
  {
    struct cmsghdr align;
    char bytes[CMSG_SPACE (sizeof fds)];
  } control = { .bytes = { 0 } };
  struct iovec data = { text, 0 };
  struct msghdr message
      = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
  struct cmsghdr *head = CMSG_FIRSTHDR (&message);
  ssize_t done;
  char answer;
  for (; *command != NULL; command++)
    {
      size_t one = strlen (*command) + 1;
      if (one > sizeof text - len)
        return 0;
      memcpy (text + len, *command, one);
      len += one;
    }
  data.iov_len = len;
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN (sizeof fds);
  memcpy (CMSG_DATA (head), fds, sizeof fds);
  do
    done = sendmsg (SERVER_FD, &message, MSG_NOSIGNAL);
  while (done < 0 && errno == EINTR);
  if (done < 0)
    return 0;
  do
    done = recv (SERVER_FD, &answer, 1, 0);
  while (done < 0 && errno == EINTR);
  return done == 1 ? answer : '1';
}

int
main (int argc, char **argv)
{
  int input, answer;
  if (argc < 2 || (input = spool_input ()) < 0)
    return 1;
  answer = ask (argv + 1, input);
  if (answer != 'r' && answer != 0)
    return answer == '0' ? 0 : 1;
  if (lseek (input, 0, SEEK_SET) != 0 || dup2 (input, STDIN_FILENO) < 0)
    return 1;
  close (SERVER_FD);
  execvp (argv[1], argv + 1);
  return 127;
}
