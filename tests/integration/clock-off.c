/* SPDX-License-Identifier: Apache-2.0 */
/* Loaded before all other libraries: the wall clock is an hour ahead. The monotonic one is as it is. */
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define OFF 3600

int
clock_gettime (clockid_t clock, struct timespec *ret_time)
{
  int failed = (int) syscall (SYS_clock_gettime, clock, ret_time);
  if (failed == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    ret_time->tv_sec += OFF;
  return failed;
}

int
gettimeofday (struct timeval *restrict ret_time, void *restrict zone)
{
  struct timespec now;
  (void) zone;
  if (clock_gettime (CLOCK_REALTIME, &now) != 0)
    return -1;
  ret_time->tv_sec = now.tv_sec;
  ret_time->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t
time (time_t *ret_time)
{
  struct timespec now;
  if (clock_gettime (CLOCK_REALTIME, &now) != 0)
    return -1;
  if (ret_time != NULL)
    *ret_time = now.tv_sec;
  return now.tv_sec;
}
