/* SPDX-License-Identifier: Apache-2.0 */
/* Files and folders of the storage: see disk.h. */
#include "disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

gboolean
disk_sync (const char *path, gboolean file, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | (file ? 0 : O_DIRECTORY));
  if (fd < 0)
    return fsu_fail (error, errno, "open to sync %s", path);
  int failed = fsync (fd) == 0 ? 0 : errno;
  close (fd);
  return failed == 0 || fsu_fail (error, failed, "sync %s", path);
}

static gboolean
sync_parent (const char *path, GError **error)
{
  g_autofree char *parent = g_path_get_dirname (path);
  return disk_sync (parent, FALSE, error);
}

gboolean
disk_make_dirs (const char *base, const char *relative, gboolean sync, GError **error)
{
  g_auto (GStrv) parts = g_strsplit (relative, "/", -1);
  g_autoptr (GString) path = g_string_new (base);
  for (guint i = 0; parts[i] != NULL; i++)
    {
      if (parts[i][0] == '\0')
        continue;
      g_string_append_c (path, '/');
      g_string_append (path, parts[i]);
      if (mkdir (path->str, 0777) != 0 && errno != EEXIST)
        return fsu_fail (error, errno, "make folder %s", path->str);
      /* Also when it was there: whoever made it may not have come to its sync yet. */
      if (sync && !sync_parent (path->str, error))
        return FALSE;
    }
  return TRUE;
}

gboolean
disk_replace (const char *path, const char *data, gsize len, gboolean sync, GError **error)
{
  if (sync)
    return fsu_replace (AT_FDCWD, path, data, len, 0666, error);
  g_autofree char *dir = g_path_get_dirname (path);
  g_autofree char *temp = g_build_filename (dir, FSU_TEMPORARY_PREFIX "XXXXXX", NULL);
  int fd = g_mkstemp_full (temp, O_RDWR | O_CLOEXEC, 0666);
  if (fd < 0)
    return fsu_fail (error, errno, "make temporary file %s", temp);
  gboolean done = fsu_write_all (fd, data, len, temp, error);
  close (fd);
  if (done && rename (temp, path) != 0)
    done = fsu_fail (error, errno, "rename into place %s", path);
  if (!done)
    unlink (temp);
  return done;
}

gboolean
disk_move (const char *from, const char *to, gboolean sync, GError **error)
{
  if (rename (from, to) != 0)
    return fsu_fail (error, errno, "rename %s", from);
  return !sync || (sync_parent (to, error) && sync_parent (from, error));
}

gboolean
disk_exists (const char *path)
{
  struct stat st;
  return lstat (path, &st) == 0;
}

GPtrArray *
disk_names (const char *path, GError **error)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  DIR *dir = opendir (path);
  struct dirent *entry;
  if (dir == NULL && errno == ENOENT)
    return g_steal_pointer (&names);
  if (dir == NULL)
    {
      fsu_fail (error, errno, "open folder %s", path);
      return NULL;
    }
  while (errno = 0, (entry = readdir (dir)) != NULL)
    if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
      g_ptr_array_add (names, g_strdup (entry->d_name));
  int failed = errno;
  closedir (dir);
  if (failed != 0)
    {
      fsu_fail (error, failed, "read folder %s", path);
      return NULL;
    }
  return g_steal_pointer (&names);
}

gboolean
disk_measure (const char *path, DiskUse *ret_use, GError **error)
{
  g_autoptr (GPtrArray) stack = g_ptr_array_new_with_free_func (g_free);
  DiskUse use = { 0, 0 };
  g_ptr_array_add (stack, g_strdup (path));
  while (stack->len > 0)
    {
      g_autofree char *at = g_ptr_array_steal_index_fast (stack, stack->len - 1);
      struct stat st;
      if (lstat (at, &st) != 0)
        {
          if (errno == ENOENT)
            continue;
          return fsu_fail (error, errno, "look at %s", at);
        }
      if (!S_ISDIR (st.st_mode))
        {
          use.bytes += (guint64) st.st_size;
          use.files++;
          continue;
        }
      g_autoptr (GPtrArray) names = disk_names (at, error);
      if (names == NULL)
        return FALSE;
      for (guint i = 0; i < names->len; i++)
        g_ptr_array_add (stack, g_strconcat (at, "/", names->pdata[i], NULL));
    }
  *ret_use = use;
  return TRUE;
}
