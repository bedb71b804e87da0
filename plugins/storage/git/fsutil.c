/* SPDX-License-Identifier: Apache-2.0 */
/**
 * fsutil.c - see fsutil.h.
 */
#include "fsutil.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

gboolean
fsu_fail (GError **error, int err, const char *format, ...)
{
  g_autofree char *what = NULL;
  va_list args;
  va_start (args, format);
  what = g_strdup_vprintf (format, args);
  va_end (args);
  return gs_fail (error, gs_error_from_errno (err), "%s: %s", what, g_strerror (err));
}

gboolean
fsu_write_all (int fd, const void *data, gsize len, const char *path, GError **error)
{
  const char *at = data;
  while (len > 0)
    {
      ssize_t n = write (fd, at, MIN (len, (gsize) 1 << 30));
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return fsu_fail (error, n < 0 ? errno : ENOSPC, "writing %s", path);
      at += n;
      len -= (gsize) n;
    }
  return TRUE;
}

gboolean
fsu_sync_fd (int fd, const char *path, GError **error)
{
  int failed;
  do
    failed = fsync (fd);
  while (failed != 0 && errno == EINTR);
  return failed == 0 || fsu_fail (error, errno, "syncing %s to the medium", path);
}

gboolean
fsu_sync_dir (int dirfd, const char *path, GError **error)
{
  gboolean ok;
  int fd = openat (dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return fsu_fail (error, errno, "opening directory %s", path);
  ok = fsu_sync_fd (fd, path, error);
  close (fd);
  return ok;
}

gboolean
fsu_sync_parent (int dirfd, const char *path, GError **error)
{
  const char *slash = strrchr (path, '/');
  g_autofree char *parent = NULL;
  if (slash == NULL)
    return fsu_sync_dir (dirfd, ".", error);
  parent = slash == path ? g_strdup ("/") : g_strndup (path, (gsize) (slash - path));
  return fsu_sync_dir (dirfd, parent, error);
}

gboolean
fsu_mkdirs (int dirfd, const char *path, mode_t mode, GError **error)
{
  g_autofree char *copy = g_strdup (path);
  gsize len = strlen (copy);
  for (gsize i = 1; i <= len; i++)
    {
      char kept = copy[i];
      if ((kept != '/' && kept != '\0') || copy[i - 1] == '/')
        continue;
      copy[i] = '\0';
      if (mkdirat (dirfd, copy, mode) == 0)
        {
          if (!fsu_sync_parent (dirfd, copy, error))
            return FALSE;
        }
      else if (errno != EEXIST)
        return fsu_fail (error, errno, "making directory %s", copy);
      else
        {
          struct stat st;
          /* Links to directories above us are the administrator's business: follow them. */
          if (fstatat (dirfd, copy, &st, 0) != 0)
            return fsu_fail (error, errno, "looking at %s", copy);
          if (!S_ISDIR (st.st_mode))
            return fsu_fail (error, ENOTDIR, "making directory %s", copy);
        }
      copy[i] = kept;
    }
  return TRUE;
}

int
fsu_create_exclusive (int dirfd, const char *path, mode_t mode)
{
  int fd;
  do
    fd = openat (dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
  while (fd < 0 && errno == EINTR);
  return fd;
}

gboolean
fsu_replace (int dirfd, const char *path, const void *data, gsize len, mode_t mode, GError **error)
{
  const char *slash = strrchr (path, '/');
  g_autofree char *temporary = NULL;
  guint64 dice = 0;
  int fd;
  if (getrandom (&dice, sizeof dice, 0) != (ssize_t) sizeof dice)
    return fsu_fail (error, errno, "drawing a name for a temporary file beside %s", path);
  temporary = g_strdup_printf ("%.*s" FSU_TEMPORARY_PREFIX "%016" G_GINT64_MODIFIER "x",
                               slash ? (int) (slash - path + 1) : 0, path, dice);
  fd = fsu_create_exclusive (dirfd, temporary, mode);
  if (fd < 0)
    return fsu_fail (error, errno, "making a temporary file beside %s", path);
  if (!fsu_write_all (fd, data, len, path, error) || !fsu_sync_fd (fd, path, error))
    {
      close (fd);
      unlinkat (dirfd, temporary, 0);
      return FALSE;
    }
  close (fd);
  if (renameat (dirfd, temporary, dirfd, path) != 0)
    {
      fsu_fail (error, errno, "putting %s in place", path);
      unlinkat (dirfd, temporary, 0);
      return FALSE;
    }
  return fsu_sync_parent (dirfd, path, error);
}

char *
fsu_read (int dirfd, const char *path, gsize max_bytes, gsize *ret_len, GError **error)
{
  g_autofree char *data = NULL;
  struct stat st;
  gsize room, len = 0;
  int fd = openat (dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0)
    {
      fsu_fail (error, errno, "opening %s", path);
      return NULL;
    }
  if (fstat (fd, &st) != 0)
    {
      fsu_fail (error, errno, "looking at %s", path);
      close (fd);
      return NULL;
    }
  if (!S_ISREG (st.st_mode))
    {
      fsu_fail (error, S_ISDIR (st.st_mode) ? EISDIR : EINVAL, "reading %s", path);
      close (fd);
      return NULL;
    }
  room = (guint64) st.st_size > max_bytes ? max_bytes + 1 : (gsize) st.st_size + 1;
  data = g_try_malloc (room + 1);
  while (data != NULL && len < room)
    {
      ssize_t n = read (fd, data + len, room - len);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        {
          fsu_fail (error, errno, "reading %s", path);
          close (fd);
          return NULL;
        }
      if (n == 0)
        break;
      len += (gsize) n;
      if (len == room && room <= max_bytes)
        {
          /* It grew while we read. */
          char *larger = g_try_realloc (data, MIN (room * 2, max_bytes + 1) + 1);
          if (larger == NULL)
            g_clear_pointer (&data, g_free);
          else
            data = larger;
          room = MIN (room * 2, max_bytes + 1);
        }
    }
  close (fd);
  if (data == NULL)
    {
      gs_fail (error, GS_ERROR_UNAVAILABLE, "reading %s: no memory for its content", path);
      return NULL;
    }
  if (len > max_bytes)
    {
      gs_fail (error, GS_ERROR_OUT_OF_RANGE, "reading %s: longer than the limit of %" G_GSIZE_FORMAT " bytes", path,
               max_bytes);
      return NULL;
    }
  data[len] = '\0';
  if (ret_len != NULL)
    *ret_len = len;
  return g_steal_pointer (&data);
}

gboolean
fsu_rename (int dirfd, const char *from, const char *to, GError **error)
{
  if (renameat (dirfd, from, dirfd, to) != 0)
    return fsu_fail (error, errno, "renaming %s to %s", from, to);
  return fsu_sync_parent (dirfd, to, error) && fsu_sync_parent (dirfd, from, error);
}

gboolean
fsu_unlink (int dirfd, const char *path, GError **error)
{
  if (unlinkat (dirfd, path, 0) != 0)
    return errno == ENOENT || fsu_fail (error, errno, "removing %s", path);
  return fsu_sync_parent (dirfd, path, error);
}

gboolean
fsu_remove_tree (int dirfd, const char *path, GError **error)
{
  /* A stack of paths: each directory is listed, its files removed, and visited again once its children are gone. */
  g_autoptr (GPtrArray) stack = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (stack, g_strdup (path));
  while (stack->len > 0)
    {
      const char *top = stack->pdata[stack->len - 1];
      struct dirent *entry;
      DIR *dir;
      int fd;
      if (unlinkat (dirfd, top, AT_REMOVEDIR) == 0 || errno == ENOENT)
        {
          g_ptr_array_remove_index (stack, stack->len - 1);
          continue;
        }
      if (errno == ENOTDIR)
        {
          if (unlinkat (dirfd, top, 0) != 0 && errno != ENOENT)
            return fsu_fail (error, errno, "removing %s", top);
          g_ptr_array_remove_index (stack, stack->len - 1);
          continue;
        }
      if (errno != ENOTEMPTY && errno != EEXIST)
        return fsu_fail (error, errno, "removing directory %s", top);
      fd = openat (dirfd, top, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
      dir = fd < 0 ? NULL : fdopendir (fd);
      if (dir == NULL)
        {
          int err = errno;
          if (fd >= 0)
            close (fd);
          return fsu_fail (error, err, "listing directory %s", top);
        }
      while ((entry = readdir (dir)) != NULL)
        {
          if (strcmp (entry->d_name, ".") == 0 || strcmp (entry->d_name, "..") == 0)
            continue;
          if (unlinkat (fd, entry->d_name, 0) == 0 || errno == ENOENT)
            continue;
          if (errno == EISDIR || errno == EPERM)
            g_ptr_array_add (stack, g_build_filename (top, entry->d_name, NULL));
          else
            {
              fsu_fail (error, errno, "removing %s/%s", top, entry->d_name);
              closedir (dir);
              return FALSE;
            }
        }
      closedir (dir);
    }
  return TRUE;
}
