/* SPDX-License-Identifier: Apache-2.0 */
/* What a write brings, added up: see bound.h. */
#include "bound.h"

#include "fsutil.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096u
#define DEPTH_MAX 64 /* deeper than any ref name or object can lead */

static gboolean
is_over (const BoundSum *sum, const BoundSum *limits)
{
  return (limits->bytes != 0 && sum->bytes > limits->bytes) || (limits->files != 0 && sum->files > limits->files);
}

static gboolean
add_folder (int parent, const char *name, const BoundSum *limits, guint depth, BoundSum *sum, GError **error)
{
  int fd = openat (parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  DIR *dir = fd >= 0 ? fdopendir (fd) : NULL;
  gboolean good = TRUE;
  int failed = errno;
  if (dir == NULL && fd >= 0)
    close (fd);
  if (dir == NULL)
    return failed == ENOENT || fsu_fail (error, failed, "look into %s", name);
  while (good && !is_over (sum, limits))
    {
      struct stat st;
      errno = 0;
      const struct dirent *entry = readdir (dir);
      if (entry == NULL)
        {
          good = errno == 0 || fsu_fail (error, errno, "look into %s", name);
          break;
        }
      if (strcmp (entry->d_name, ".") == 0 || strcmp (entry->d_name, "..") == 0
          || fstatat (fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        continue;
      if (S_ISDIR (st.st_mode) && depth < DEPTH_MAX)
        good = add_folder (fd, entry->d_name, limits, depth + 1, sum, error);
      else
        {
          sum->files++;
          sum->bytes += MAX ((guint64) st.st_size, BLOCK);
        }
    }
  closedir (dir);
  return good;
}

gboolean
bound_measure (const char *dir, const BoundSum *limits, BoundSum *ret_sum, GError **error)
{
  BoundSum sum = { 0, 0 };
  if (!add_folder (AT_FDCWD, dir, limits, 0, &sum, error))
    return FALSE;
  *ret_sum = sum;
  return TRUE;
}

gboolean
bound_check_bytes (Storage *storage, guint64 bytes, GError **error)
{
  if (storage->max_push_bytes == 0 || bytes <= storage->max_push_bytes)
    return TRUE;
  return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                  "it brings more than the %" G_GUINT64_FORMAT " bytes of the storage's option max_push_bytes",
                  storage->max_push_bytes);
}

gboolean
bound_check (Storage *storage, const char *objects, GError **error)
{
  const BoundSum limits = { storage->max_push_bytes, 0 };
  BoundSum sum;
  return storage->max_push_bytes == 0
         || (bound_measure (objects, &limits, &sum, error) && bound_check_bytes (storage, sum.bytes, error));
}
