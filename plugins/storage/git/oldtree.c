/* SPDX-License-Identifier: Apache-2.0 */
/* Looks through the repositories of an old tree: which there are, and who borrows objects of whom. See oldtree.h. */
#include "oldtree.h"

#include "adopt.h"
#include "disk.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH_MAX 8u
#define ALTERNATES "objects/info/alternates"
#define ALTERNATES_MAX (1u << 20)
/* A whole tree is looked through for one repository of it: for the next ones that is not repeated at once. */
#define LOANS_KEPT_US (60 * G_USEC_PER_SEC)
#define LOANS_KEPT_TIMES 10

typedef void (*FolderVisit) (const char *folder, const char *dir, gpointer user);

typedef struct
{
  char *folder; /* whose alternates name it */
  char *objects; /* with no link on the way */
} Loan;

static guint
depth_of (const char *path)
{
  guint depth = *path != '\0' ? 1 : 0;
  for (const char *at = path; (at = strchr (at, '/')) != NULL; at++)
    depth++;
  return depth;
}

static gboolean
is_folder (const char *path)
{
  struct stat st;
  return lstat (path, &st) == 0 && S_ISDIR (st.st_mode);
}

/* Repositories below the root that are no replicas; what is in one is not looked at. */
static gboolean
walk (const Storage *storage, GsCall *call, FolderVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) stack = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (stack, g_strdup (""));
  while (stack->len > 0)
    {
      g_autofree char *at = g_ptr_array_steal_index_fast (stack, stack->len - 1);
      g_autofree char *dir = g_build_filename (storage->root, at, NULL);
      g_autoptr (GPtrArray) names = disk_names (dir, NULL); /* one that may not be read has nothing to adopt */
      if (!gs_call_check (call, "looking for repositories", error))
        return FALSE;
      for (guint i = 0; names != NULL && i < names->len; i++)
        {
          const char *name = names->pdata[i];
          g_autofree char *path = *at != '\0' ? g_strconcat (at, "/", name, NULL) : g_strdup (name);
          g_autofree char *full = g_build_filename (storage->root, path, NULL);
          g_autofree char *record = g_build_filename (full, GIT_RECORD, NULL);
          if ((*at == '\0' && (g_str_has_prefix (name, "gitstead-") || strcmp (name, ADOPT_REPLICAS) == 0))
              || !is_folder (full) || disk_exists (record))
            continue;
          if (adopt_looks_bare (full))
            visit (path, full, user);
          else if (depth_of (path) < DEPTH_MAX)
            g_ptr_array_add (stack, g_steal_pointer (&path));
        }
    }
  return TRUE;
}

/* -------------------------------------------------------------------------------------- candidates */

typedef struct
{
  const char *after;
  GPtrArray *found;
} Candidates;

static void
note_candidate (const char *folder, const char *dir, gpointer user)
{
  Candidates *candidates = user;
  if (strcmp (folder, candidates->after) > 0 && strcmp (folder, ".git") != 0 && !g_str_has_suffix (folder, "/.git"))
    g_ptr_array_add (candidates->found, g_strdup (folder));
}

static int
by_name (gconstpointer left, gconstpointer right)
{
  return strcmp (*(char *const *) left, *(char *const *) right);
}

GPtrArray *
oldtree_folders (const Storage *storage, GsCall *call, const char *after, GError **error)
{
  g_autoptr (GPtrArray) found = g_ptr_array_new_with_free_func (g_free);
  Candidates candidates = { after, found };
  if (!walk (storage, call, note_candidate, &candidates, error))
    return NULL;
  g_ptr_array_sort (found, by_name);
  return g_steal_pointer (&found);
}

/* ----------------------------------------------------------------------------------------- lenders */

static void
loan_free (gpointer data)
{
  Loan *loan = data;
  g_free (loan->folder);
  g_free (loan->objects);
  g_free (loan);
}

/* With no link on the way, NULL with errno. *full*. */
static char *
real_path (const char *path)
{
  char *real = realpath (path, NULL);
  char *mine = g_strdup (real);
  free (real);
  return mine;
}

/* Where a line of alternates leads, NULL when nowhere. *full*. */
static char *
lender_of (const char *dir, const char *line)
{
  g_autofree char *plain = NULL, *path = NULL;
  gsize len = strlen (line);
  if (*line == '\0' || *line == '#')
    return NULL;
  if (len >= 2 && line[0] == '"' && line[len - 1] == '"') /* quoted as C does */
    {
      g_autofree char *inner = g_strndup (line + 1, len - 2);
      plain = g_strcompress (inner);
      line = plain;
    }
  path = *line == '/' ? g_strdup (line) : g_build_filename (dir, "objects", line, NULL);
  return real_path (path);
}

static void
note_loans (const char *folder, const char *dir, gpointer user)
{
  GPtrArray *loans = user;
  g_autofree char *path = g_build_filename (dir, ALTERNATES, NULL);
  g_autofree char *file = real_path (path);
  g_autofree char *text = file != NULL ? fsu_read (AT_FDCWD, file, ALTERNATES_MAX, NULL, NULL) : NULL;
  g_auto (GStrv) lines = text != NULL ? g_strsplit (text, "\n", -1) : NULL;
  for (guint i = 0; lines != NULL && lines[i] != NULL; i++)
    {
      char *objects = lender_of (dir, lines[i]);
      Loan *loan;
      if (objects == NULL)
        continue;
      loan = g_new (Loan, 1);
      *loan = (Loan){ g_strdup (folder), objects };
      g_ptr_array_add (loans, loan);
    }
}

/* Who borrows of @objects? Belongs to @loans. */
static const char *
find_borrower (const GPtrArray *loans, const char *objects)
{
  for (guint i = 0; i < loans->len; i++)
    {
      const Loan *loan = loans->pdata[i];
      if (strcmp (loan->objects, objects) == 0)
        return loan->folder;
    }
  return NULL;
}

static gboolean
look_anew (Storage *storage, GsCall *call, GError **error)
{
  const gint64 began_us = g_get_monotonic_time ();
  g_autoptr (GPtrArray) loans = g_ptr_array_new_with_free_func (loan_free);
  GPtrArray *before;
  gint64 now_us;
  if (!walk (storage, call, note_loans, loans, error))
    return FALSE;
  now_us = g_get_monotonic_time ();
  gs_mutex_lock (&storage->lock);
  before = storage->loans;
  storage->loans = g_steal_pointer (&loans);
  storage->loans_until_us = now_us + MAX (LOANS_KEPT_US, LOANS_KEPT_TIMES * (now_us - began_us));
  gs_mutex_unlock (&storage->lock);
  g_clear_pointer (&before, g_ptr_array_unref);
  return TRUE;
}

static gboolean
are_known (Storage *storage)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&storage->lock);
  return storage->loans != NULL && g_get_monotonic_time () < storage->loans_until_us;
}

static char *
known_borrower (Storage *storage, const char *objects)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&storage->lock);
  return g_strdup (find_borrower (storage->loans, objects));
}

static gboolean
still_borrows (const Storage *storage, const char *folder, const char *objects)
{
  g_autoptr (GPtrArray) loans = g_ptr_array_new_with_free_func (loan_free);
  g_autofree char *dir = g_build_filename (storage->root, folder, NULL);
  note_loans (folder, dir, loans);
  return find_borrower (loans, objects) != NULL;
}

gboolean
oldtree_borrower (Storage *storage, GsCall *call, const char *dir, char **ret_folder, GError **error)
{
  g_autofree char *path = g_build_filename (dir, "objects", NULL), *objects = real_path (path), *borrower = NULL;
  if (objects == NULL)
    return fsu_fail (error, errno, "look at %s", path);
  if (!are_known (storage) && !look_anew (storage, call, error))
    return FALSE;
  borrower = known_borrower (storage, objects);
  /* That one may have ended it since, as its owner was asked to; there may be others. */
  if (borrower != NULL && !still_borrows (storage, borrower, objects))
    {
      if (!look_anew (storage, call, error))
        return FALSE;
      g_free (borrower);
      borrower = known_borrower (storage, objects);
    }
  *ret_folder = g_steal_pointer (&borrower);
  return TRUE;
}
