/* SPDX-License-Identifier: Apache-2.0 */
/* Durable files and folders: see disk.h. */
#include "disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

gboolean
disk_fail (GError **error, int err, const char *doing, const char *path)
{
  return gs_fail (error, gs_error_from_errno (err), "%s %s: %s", doing, path, g_strerror (err));
}

gboolean
disk_sync (const char *path, gboolean file, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | (file ? 0 : O_DIRECTORY));
  if (fd < 0)
    return disk_fail (error, errno, "open to sync", path);
  int failed = fsync (fd) == 0 ? 0 : errno;
  close (fd);
  return failed == 0 || disk_fail (error, failed, "sync", path);
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
      if (mkdir (path->str, 0777) != 0)
        {
          if (errno == EEXIST)
            continue;
          return disk_fail (error, errno, "make folder", path->str);
        }
      if (sync && !sync_parent (path->str, error))
        return FALSE;
    }
  return TRUE;
}

gboolean
disk_write_all (int fd, const void *data, gsize len, const char *what, GError **error)
{
  const char *at = data;
  while (len > 0)
    {
      ssize_t wrote = write (fd, at, len);
      if (wrote < 0 && errno == EINTR)
        continue;
      if (wrote < 0)
        return disk_fail (error, errno, "write", what);
      at += wrote;
      len -= (gsize) wrote;
    }
  return TRUE;
}

gboolean
disk_replace (const char *path, const char *data, gsize len, gboolean sync, GError **error)
{
  g_autofree char *temp = g_strconcat (path, ".XXXXXX", NULL);
  int fd = g_mkstemp_full (temp, O_RDWR | O_CLOEXEC, 0666);
  gboolean done;
  if (fd < 0)
    return disk_fail (error, errno, "make temporary file", temp);
  done = disk_write_all (fd, data, len, temp, error);
  if (done && sync && fsync (fd) != 0)
    done = disk_fail (error, errno, "sync", temp);
  close (fd);
  if (done && rename (temp, path) != 0)
    done = disk_fail (error, errno, "rename into place", path);
  if (!done)
    {
      unlink (temp);
      return FALSE;
    }
  return !sync || sync_parent (path, error);
}

char *
disk_read (const char *path, gsize max, gsize *ret_len, GError **error)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  struct stat st;
  if (fd < 0)
    {
      disk_fail (error, errno, "open", path);
      return NULL;
    }
  if (fstat (fd, &st) != 0 || !S_ISREG (st.st_mode) || (guint64) st.st_size > max)
    {
      close (fd);
      gs_fail (error, GS_ERROR_OUT_OF_RANGE, "read %s: not a regular file of at most %" G_GSIZE_FORMAT " bytes", path, max);
      return NULL;
    }
  gsize size = (gsize) st.st_size, have = 0;
  g_autofree char *text = g_malloc (size + 1);
  while (have < size)
    {
      ssize_t got = read (fd, text + have, size - have);
      if (got < 0 && errno == EINTR)
        continue;
      if (got < 0)
        {
          int failed = errno;
          close (fd);
          disk_fail (error, failed, "read", path);
          return NULL;
        }
      if (got == 0)
        break;
      have += (gsize) got;
    }
  close (fd);
  text[have] = '\0';
  if (ret_len != NULL)
    *ret_len = have;
  return g_steal_pointer (&text);
}

gboolean
disk_move (const char *from, const char *to, gboolean sync, GError **error)
{
  if (rename (from, to) != 0)
    return disk_fail (error, errno, "rename", from);
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
      disk_fail (error, errno, "open folder", path);
      return NULL;
    }
  while (errno = 0, (entry = readdir (dir)) != NULL)
    if (strcmp (entry->d_name, ".") != 0 && strcmp (entry->d_name, "..") != 0)
      g_ptr_array_add (names, g_strdup (entry->d_name));
  int failed = errno;
  closedir (dir);
  if (failed != 0)
    {
      disk_fail (error, failed, "read folder", path);
      return NULL;
    }
  return g_steal_pointer (&names);
}

/* Depth first with an own stack of paths: a folder is pushed twice, the second visit removes it. */
typedef struct
{
  char *path;
  gboolean emptied;
} RemoveStep;

static void
remove_step_free (gpointer data)
{
  RemoveStep *step = data;
  g_free (step->path);
  g_free (step);
}

static void
push_step (GPtrArray *stack, char *path)
{
  RemoveStep *step = g_new0 (RemoveStep, 1);
  step->path = path;
  g_ptr_array_add (stack, step);
}

gboolean
disk_remove (const char *path, GError **error)
{
  g_autoptr (GPtrArray) stack = g_ptr_array_new_with_free_func (remove_step_free);
  push_step (stack, g_strdup (path));
  while (stack->len > 0)
    {
      RemoveStep *step = stack->pdata[stack->len - 1];
      if (!step->emptied && unlink (step->path) != 0 && errno != ENOENT)
        {
          if (errno != EISDIR && errno != EPERM)
            return disk_fail (error, errno, "remove", step->path);
          g_autoptr (GPtrArray) names = disk_names (step->path, error);
          if (names == NULL)
            return FALSE;
          step->emptied = TRUE;
          for (guint i = 0; i < names->len; i++)
            push_step (stack, g_strconcat (step->path, "/", names->pdata[i], NULL));
          continue;
        }
      if (step->emptied && rmdir (step->path) != 0 && errno != ENOENT)
        return disk_fail (error, errno, "remove folder", step->path);
      g_ptr_array_set_size (stack, (gint) stack->len - 1);
    }
  return TRUE;
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
          return disk_fail (error, errno, "look at", at);
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
