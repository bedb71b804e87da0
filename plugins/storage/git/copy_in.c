/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replica copied at a position, the receiving end. The copy becomes a whole replica in a folder of its own, with hard
 * links to the packs that are here already; when it was found good it changes places with the old one in one rename.
 */
#include "child.h"
#include "disk.h"
#include "git.h"
#include "label.h"
#include "pool.h"
#include "refs_internal.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK (64 * 1024)
#define COPY_LINE_MAX 65536u
#define LINK_TRIES 10
/* What index-pack makes of a pack without objects. */
#define EMPTY_PACK "pack-029d08823bd8a8eab510ad6ac75c823cfd3ed31e"

typedef struct
{
  Storage *storage;
  GsCall *call;
  const GsRepo *repo;
  guint32 flags;
  char *dir, *temp; /* the replica's folder; that of the copy */
  /* the stream */
  GsStream *stream;
  gsize head_off;
  int fd;
  /* what it says */
  ReplicaRecord record;
  char *head;
  gboolean whole, has_pack;
  guint64 refs_bytes;
  /* what is here */
  Repo *old; /* NULL: none, or of no use */
  int tips;  /* spool: what must be reachable, without what was before */
} Import;

/* -------------------------------------------------------------------------------------- the stream */

static gboolean
in_exactly (Import *in, char *to, gsize len, GError **error)
{
  gsize head_len;
  const char *head = g_bytes_get_data (in->stream->head, &head_len);
  while (len > 0)
    {
      gssize n = (gssize) MIN (len, head_len - in->head_off);
      if (n > 0)
        {
          memcpy (to, head + in->head_off, (gsize) n);
          in->head_off += (gsize) n;
        }
      else if (!in->stream->complete)
        {
          struct pollfd fds[2] = { { .fd = in->fd, .events = POLLIN } };
          if (!call_poll (in->call, fds, 1, "take a copy in", error))
            return FALSE;
          n = read (in->fd, to, len);
          if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
          if (n < 0)
            return fsu_fail (error, errno, "take a copy in");
        }
      if (n == 0)
        return gs_call_check (in->call, "taking a copy in", error)
               && gs_fail (error, GS_ERROR_UNAVAILABLE, "the copy of replica %s ends before it is whole",
                           in->repo->replica_path);
      to += n;
      len -= (gsize) n;
    }
  return TRUE;
}

static gboolean
bad_copy (const Import *in, const char *what, GError **error)
{
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the copy for replica %s cannot be read: %s", in->repo->replica_path,
                  what);
}

static gboolean
number (const char *text, guint64 *ret_number)
{
  return g_ascii_string_to_unsigned (text, 10, 0, G_MAXUINT64, ret_number, NULL);
}

static gboolean
take_range (Import *in, const char *text)
{
  GenerationRange range;
  g_auto (GStrv) ends = g_strsplit (text, "-", 3);
  if (g_strv_length (ends) != 2 || !number (ends[0], &range.from) || !number (ends[1], &range.to)
      || range.from > range.to)
    return FALSE;
  g_array_append_val (in->record.ahead, range);
  return TRUE;
}

static gboolean
take_line (Import *in, const char *key, const char *value, guint *seen)
{
  static const char *const keys[] = { "repository", "format", "generation", "digest", "head", "basis", "pack", "refs" };
  guint which = 0;
  if (strcmp (key, "ahead") == 0)
    return take_range (in, value);
  while (which < G_N_ELEMENTS (keys) && strcmp (keys[which], key) != 0)
    which++;
  *seen |= 1u << which;
  switch (which)
    {
    case 0:
      return number (value, &in->record.id);
    case 1:
      return strcmp (value, "sha1") == 0;
    case 2:
      return number (value, &in->record.generation);
    case 3:
      return strlen (value) == 2 * GS_DIGEST_SIZE && gs_unhex (value, GS_DIGEST_SIZE, in->record.digest.bytes);
    case 4:
      in->head = g_strdup (value);
      return g_str_has_prefix (value, "refs/") && ref_name_well_formed (value, strlen (value));
    case 5:
      in->whole = strcmp (value, "whole") == 0;
      return in->whole || strcmp (value, "part") == 0;
    case 6:
      in->has_pack = strcmp (value, "yes") == 0;
      return in->has_pack || strcmp (value, "no") == 0;
    case 7:
      return number (value, &in->refs_bytes) && in->refs_bytes <= REF_PACKED_MAX;
    default:
      return FALSE;
    }
}

static gboolean
take_header (Import *in, GChecksum *sum, GError **error)
{
  g_autoptr (GString) text = g_string_new (NULL);
  guint seen = 0;
  while (!g_str_has_suffix (text->str, "\n\n"))
    {
      char byte;
      if (text->len >= GIT_COPY_HEADER_MAX)
        return bad_copy (in, "its header has no end", error);
      if (!in_exactly (in, &byte, 1, error))
        return FALSE;
      g_string_append_c (text, byte);
    }
  g_checksum_update (sum, (const guchar *) text->str, (gssize) text->len);
  if (memchr (text->str, '\0', text->len) != NULL || !g_str_has_prefix (text->str, GIT_COPY_MAGIC "\n"))
    return bad_copy (in, "it is none, or of a newer version", error);
  g_auto (GStrv) lines = g_strsplit (text->str, "\n", -1);
  for (guint i = 1; lines[i] != NULL && *lines[i] != '\0'; i++)
    {
      char *value = strchr (lines[i], ' ');
      if (value == NULL)
        return bad_copy (in, "a line of its header says nothing", error);
      *value++ = '\0';
      if ((strcmp (lines[i], "head") == 0 && in->head != NULL) || !take_line (in, lines[i], value, &seen))
        return bad_copy (in, "a line of its header makes no sense", error);
    }
  if (seen != 0xff || in->has_pack != (in->refs_bytes > 0))
    return bad_copy (in, "its header lacks something", error);
  if (in->record.id != in->repo->id)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the copy for replica %s is of repository %" G_GUINT64_FORMAT ", not of %" G_GUINT64_FORMAT,
                    in->repo->replica_path, in->record.id, in->repo->id);
  return TRUE;
}

/* -------------------------------------------------------------------------------------------- refs */

typedef struct
{
  Import *in;
  GString *line, *before, *tips;
  GsDigest digest;
  gboolean after_ref; /* a peeled value may follow */
} RefLines;

static gboolean
take_ref_line (RefLines *to, const char *line, gsize len)
{
  GsDigest term;
  GsOid oid;
  if (*line == '^')
    {
      gboolean good = to->after_ref && len == 41 && gs_oid_parse (line + 1, 40, &oid);
      to->after_ref = FALSE;
      return good;
    }
  to->after_ref = TRUE;
  if (len < 46 || line[40] != ' ' || !gs_oid_parse (line, 40, &oid) || !ref_name_well_formed (line + 41, len - 41)
      || strcmp (line + 41, to->before->str) <= 0)
    return FALSE;
  g_string_assign (to->before, line + 41);
  ref_digest_term (line + 41, &oid, NULL, &term);
  gs_digest_add (&to->digest, &term);
  g_string_append_len (to->tips, line, 40);
  g_string_append_c (to->tips, '\n');
  return TRUE;
}

static gboolean
take_ref_bytes (RefLines *to, const char *chunk, gsize len, GError **error)
{
  for (const char *end = chunk + len; chunk < end;)
    {
      const char *nl = memchr (chunk, '\n', (gsize) (end - chunk));
      g_string_append_len (to->line, chunk, (nl != NULL ? nl : end) - chunk);
      chunk = nl != NULL ? nl + 1 : end;
      if (to->line->len > COPY_LINE_MAX)
        return bad_copy (to->in, "a ref has no end", error);
      if (nl == NULL)
        break;
      if (memchr (to->line->str, '\0', to->line->len) != NULL || !take_ref_line (to, to->line->str, to->line->len))
        return bad_copy (to->in, "a ref makes no sense", error);
      g_string_truncate (to->line, 0);
    }
  if (!fsu_write_all (to->in->tips, to->tips->str, to->tips->len, "a temporary file", error))
    return FALSE;
  g_string_truncate (to->tips, 0);
  return TRUE;
}

static gboolean
copy_refs (RefLines *to, int packed, GChecksum *sum, GError **error)
{
  static const char comment[] = "# pack-refs with: peeled fully-peeled sorted \n";
  g_autofree char *chunk = g_malloc (CHUNK);
  guint64 left = to->in->refs_bytes;
  if (!fsu_write_all (packed, comment, strlen (comment), "packed-refs", error))
    return FALSE;
  while (left > 0)
    {
      gsize n = MIN (left, CHUNK);
      if (!in_exactly (to->in, chunk, n, error) || !fsu_write_all (packed, chunk, n, "packed-refs", error)
          || !take_ref_bytes (to, chunk, n, error))
        return FALSE;
      g_checksum_update (sum, (const guchar *) chunk, (gssize) n);
      left -= n;
    }
  return to->line->len == 0 || bad_copy (to->in, "its refs are cut short", error);
}

static gboolean
take_refs (Import *in, GChecksum *sum, GError **error)
{
  g_autofree char *path = g_strconcat (in->temp, "/packed-refs", NULL);
  RefLines to = { in, g_string_new (NULL), g_string_new (NULL), g_string_new (NULL), { { 0 } }, FALSE };
  int packed = fsu_create_exclusive (AT_FDCWD, path, 0666);
  char last[GIT_COPY_SUM + 1] = "";
  gboolean good = packed >= 0 || fsu_fail (error, errno, "make %s", path);
  ref_digest_term ("HEAD", NULL, in->head, &to.digest);
  good = good && copy_refs (&to, packed, sum, error) && in_exactly (in, last, GIT_COPY_SUM, error)
         && (!in->storage->sync || fsu_sync_fd (packed, path, error));
  if (good && (last[GIT_COPY_SUM - 1] != '\n' || memcmp (last, g_checksum_get_string (sum), GIT_COPY_SUM - 1) != 0))
    good = bad_copy (in, "its checksum does not fit", error);
  if (good && memcmp (&to.digest, &in->record.digest, sizeof to.digest) != 0)
    good = gs_fail (error, GS_ERROR_DATA_LOSS, "the copy for replica %s has refs that its record does not mean",
                    in->repo->replica_path);
  if (packed >= 0)
    close (packed);
  g_string_free (to.line, TRUE);
  g_string_free (to.before, TRUE);
  g_string_free (to.tips, TRUE);
  return good;
}

/* ----------------------------------------------------------------------------------------- objects */

/* Links the files of one folder. *@ret_gone: one was there and no longer is. */
static gboolean
link_folder (const Import *in, const char *folder, const char *const *suffixes, gboolean *ret_gone, GError **error)
{
  g_autofree char *from_dir = g_strconcat (in->old->objects, "/", folder, NULL);
  g_autofree char *to_dir = g_strconcat (in->temp, "/objects/", folder, NULL);
  g_autoptr (GPtrArray) names = disk_names (from_dir, error);
  if (names == NULL || (names->len > 0 && mkdir (to_dir, 0777) != 0 && errno != EEXIST))
    return names != NULL && fsu_fail (error, errno, "make folder %s", to_dir);
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *from = g_build_filename (from_dir, names->pdata[i], NULL);
      g_autofree char *to = g_build_filename (to_dir, names->pdata[i], NULL);
      gboolean wanted = suffixes == NULL;
      for (guint k = 0; suffixes != NULL && suffixes[k] != NULL; k++)
        wanted |= g_str_has_prefix (names->pdata[i], "pack-") && g_str_has_suffix (names->pdata[i], suffixes[k]);
      if (!wanted || link (from, to) == 0 || errno == EEXIST)
        continue;
      if (errno != ENOENT)
        return fsu_fail (error, errno, "link %s", from);
      *ret_gone = TRUE;
    }
  return TRUE;
}

/*
 * Housekeeping may replace packs meanwhile: a new pack is there before those that it replaces go, so a listing of which
 * every pack could still be linked has all objects. Loose objects come first, as they only ever move into packs.
 */
static gboolean
link_objects (const Import *in, GError **error)
{
  static const char *const packs[] = { ".pack", ".rev", ".idx", ".keep", ".mtimes", NULL };
  g_autoptr (GPtrArray) names = disk_names (in->old->objects, error);
  gboolean gone = TRUE;
  if (names == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    if (strlen (names->pdata[i]) == 2 && !link_folder (in, names->pdata[i], NULL, &gone, error))
      return FALSE;
  for (guint tries = 0; gone; tries++)
    {
      gone = FALSE;
      if (tries == LINK_TRIES)
        return gs_fail (error, GS_ERROR_BUSY, "replica %s: its packs change all the time", in->repo->replica_path);
      if (!link_folder (in, "pack", packs, &gone, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
run_git (Import *in, const char *const *argv, int input, const ChildInput *pumped, GError **error)
{
  const ChildSpec spec
      = { .role = CHILD_PLAIN, .git_dir = in->temp, .argv = argv, .input = input, .output = -1, .extra = -1 };
  Child child;
  int status;
  if (!child_start (in->storage, &spec, &child, error))
    {
      if (pumped != NULL)
        close (pumped->to);
      return FALSE;
    }
  gboolean good = child_wait (&child, in->call, pumped, &status, error) && child_check (&child, status, error);
  child_clear (&child);
  return good;
}

/* The rest of the stream. Every object's id is computed from what arrived. */
static gboolean
take_pack (Import *in, GError **error)
{
  static const char *const argv[] = { "index-pack", "--stdin", "--fix-thin", NULL };
  gsize head_len = g_bytes_get_size (in->stream->head);
  g_autoptr (GBytes) rest = g_bytes_new_from_bytes (in->stream->head, in->head_off, head_len - in->head_off);
  gsize len;
  const void *bytes = g_bytes_get_data (rest, &len);
  gboolean good;
  int input[2] = { -1, -1 };
  if (in->stream->complete)
    {
      input[0] = memory_fd (bytes, len, error);
      good = input[0] >= 0 && run_git (in, argv, input[0], NULL, error);
      if (input[0] >= 0)
        close (input[0]);
    }
  else if (pipe2 (input, O_CLOEXEC) != 0)
    return fsu_fail (error, errno, "make a pipe for git index-pack");
  else
    {
      const ChildInput pumped = { .head = rest, .from = in->fd, .to = input[1] };
      fcntl (input[1], F_SETFL, O_NONBLOCK);
      in->fd = -1; /* child_wait closes it */
      good = run_git (in, argv, input[0], &pumped, error);
      close (input[0]);
    }
  if (!good)
    {
      g_prefix_error (error, "the copy for replica %s: ", in->repo->replica_path);
      return FALSE;
    }
  for (guint i = 0; i < 3; i++)
    {
      static const char *const suffixes[] = { ".pack", ".idx", ".rev" };
      g_autofree char *path = g_strconcat (in->temp, "/objects/pack/" EMPTY_PACK, suffixes[i], NULL);
      unlink (path);
    }
  return TRUE;
}

/* What the old replica had is whole: objects are never deleted. */
static gboolean
check_reachable (Import *in, GError **error)
{
  static const char *const argv[] = { "rev-list", "--objects", "--quiet", "--stdin", NULL };
  RefSnapshot *before = in->old != NULL && !in->whole ? ref_store_snapshot (in->old->refs, NULL) : NULL;
  g_autoptr (GString) lines = g_string_new (NULL);
  gboolean good;
  for (gsize i = 0; before != NULL && i < ref_snapshot_count (before); i++)
    {
      RefEntry entry;
      char hex[GS_OID_HEX_MAX + 1];
      ref_snapshot_get (before, i, &entry);
      gs_oid_hex (&entry.oid, hex);
      if (!entry.missing)
        g_string_append_printf (lines, "^%s\n", hex);
    }
  if (before != NULL)
    ref_snapshot_unref (before);
  good = fsu_write_all (in->tips, lines->str, lines->len, "a temporary file", error)
         && (lseek (in->tips, 0, SEEK_SET) == 0 || fsu_fail (error, errno, "read back %s", "a temporary file"))
         && run_git (in, argv, in->tips, NULL, error);
  if (!good)
    g_prefix_error (error, "the copy for replica %s is not whole: ", in->repo->replica_path);
  return good;
}

/* Files with one name are new. */
static gboolean
sync_objects (const Import *in, GError **error)
{
  g_autofree char *objects = g_strconcat (in->temp, "/objects", NULL);
  g_autoptr (GPtrArray) folders = disk_names (objects, error);
  if (!in->storage->sync)
    return TRUE;
  for (guint i = 0; folders != NULL && i < folders->len; i++)
    {
      g_autofree char *dir = g_build_filename (objects, folders->pdata[i], NULL);
      g_autoptr (GPtrArray) names = disk_names (dir, error);
      for (guint k = 0; names != NULL && k < names->len; k++)
        {
          g_autofree char *file = g_build_filename (dir, names->pdata[k], NULL);
          struct stat st;
          if (lstat (file, &st) == 0 && S_ISREG (st.st_mode) && st.st_nlink == 1 && !disk_sync (file, TRUE, error))
            return FALSE;
        }
      if (names == NULL || !disk_sync (dir, FALSE, error))
        return FALSE;
    }
  return folders != NULL && disk_sync (objects, FALSE, error) && disk_sync (in->temp, FALSE, error);
}

/* ------------------------------------------------------------------------------------- publication */

static gboolean
holds (const ReplicaRecord *record, const GenerationRange *range)
{
  for (guint i = 0; i < record->ahead->len; i++)
    {
      const GenerationRange *one = &g_array_index (record->ahead, GenerationRange, i);
      if (one->from <= range->from && one->to >= range->to)
        return TRUE;
    }
  return range->to <= record->generation;
}

/*
 * Nobody can open it any more. A write that was applied to it meanwhile must not get lost; nor to one that is to be
 * replaced: somebody else may have replaced it since, and it serves again.
 */
static gboolean
check_old (const Import *in, GError **error)
{
  const gboolean replace = (in->flags & GS_IMPORT_REPLACE) != 0;
  g_autofree char *journal_dir = g_strconcat (in->dir, "/" REF_JOURNAL_DIR, NULL);
  g_autoptr (GPtrArray) journal = NULL;
  ReplicaRecord old;
  gboolean good;
  if (!replica_record_read (in->dir, &old, replace ? NULL : error))
    return replace;
  good = old.generation <= in->record.generation;
  for (guint i = 0; good && i < old.ahead->len; i++)
    good = holds (&in->record, &g_array_index (old.ahead, GenerationRange, i));
  good = good || old.id != in->repo->id || strcmp (old.storage, in->storage->uuid) != 0;
  replica_record_clear (&old);
  if (!good)
    return gs_fail (error, GS_ERROR_ABORTED, "replica %s holds a write that the copy lacks", in->repo->replica_path);
  journal = replace ? NULL : disk_names (journal_dir, error);
  if (journal == NULL)
    return replace;
  return journal->len == 0
         || gs_fail (error, GS_ERROR_BUSY, "replica %s has a staged write, which has to be settled first",
                     in->repo->replica_path);
}

/* Others may borrow any object of a pool, so it only gains some; a member is made whole by itself, and is none any more. */
static gboolean
check_pool (const Import *in, GError **error)
{
  g_autofree char *pool = g_build_filename (in->dir, GIT_POOL, NULL);
  g_autofree char *from_dir = g_build_filename (in->dir, GIT_MEMBERS, NULL);
  g_autofree char *to_dir = g_build_filename (in->temp, GIT_MEMBERS, NULL);
  g_autoptr (GPtrArray) names = NULL;
  if (in->whole)
    return pool_check_free (in->storage, in->dir, in->repo->id, error);
  if (disk_exists (pool))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "replica %s borrows objects, which a part of a copy does not complete", in->repo->replica_path);
  names = disk_names (from_dir, error);
  if (names == NULL || (names->len > 0 && mkdir (to_dir, 0777) != 0))
    return names != NULL && fsu_fail (error, errno, "make folder %s", to_dir);
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *from = g_build_filename (from_dir, names->pdata[i], NULL);
      g_autofree char *to = g_build_filename (to_dir, names->pdata[i], NULL);
      if (link (from, to) != 0)
        return fsu_fail (error, errno, "link %s", from);
    }
  /* A pool whose list of members is lost takes itself for unused: the folder's own name must be on the medium too. */
  return names->len == 0 || !in->storage->sync
         || (disk_sync (to_dir, FALSE, error) && disk_sync (in->temp, FALSE, error));
}

/* In the place where what was given up is kept, an absolute path leads to the pool. */
static gboolean
pin_pool (const Import *in, GError **error)
{
  g_autofree char *pool = g_build_filename (in->dir, GIT_POOL, NULL);
  g_autofree char *alternates = g_build_filename (in->dir, "objects/info/alternates", NULL);
  g_autofree char *text = disk_exists (pool) ? fsu_read (AT_FDCWD, alternates, 1 << 16, NULL, error) : g_strdup ("");
  g_autofree char *objects = NULL, *whole = NULL;
  if (text == NULL)
    return FALSE;
  g_strchomp (text);
  if (*text == '\0' || *text == '/')
    return TRUE;
  objects = g_strconcat (in->dir, "/objects", NULL);
  whole = g_canonicalize_filename (text, objects);
  g_free (text);
  text = g_strconcat (whole, "\n", NULL);
  return disk_replace (alternates, text, strlen (text), in->storage->sync, error);
}

/* Where one that was given up goes. *full*; NULL with @error. */
static char *
kept_place (const Import *in, GError **error)
{
  g_autofree char *root = g_build_filename (in->storage->root, GIT_ROOT_KEPT, NULL);
  ReplicaRecord old;
  guint64 generation = 0;
  char random[33];
  if (!disk_make_dirs (in->storage->root, GIT_ROOT_KEPT, TRUE, error) || !pin_pool (in, error))
    return NULL;
  if (replica_record_read (in->dir, &old, NULL))
    {
      generation = old.generation;
      replica_record_clear (&old);
    }
  storage_random_hex (in->storage, random);
  return g_strdup_printf ("%s/%" G_GINT64_FORMAT "-%" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT "-%.8s.git", root,
                          in->storage->host->wall_us (in->storage->host) / G_USEC_PER_SEC, in->repo->id, generation,
                          random);
}

/*
 * What was given up is nobody's to clear away, so it must not be among the unfinished things for a moment. Killed in between
 * there is no replica here; it was behind, and is made anew.
 */
static gboolean
put_aside (Import *in, GError **error)
{
  g_autofree char *kept = kept_place (in, error);
  if (kept == NULL || !label_carry (in->storage, in->dir, in->temp, error)
      || !disk_move (in->dir, kept, in->storage->sync, error))
    return FALSE;
  in->storage->host->log (in->storage->host, GS_LOG_WARNING, "storage.replica.kept",
                          (GsField[]) { GS_TEXT ("replica", in->repo->replica_path), GS_TEXT ("folder", kept) }, 2);
  storage_crash_point (in->storage, "import.kept");
  return replica_move_new (in->storage, in->temp, in->dir, in->repo->replica_path, error);
}

static gboolean
exchange (Import *in, GError **error)
{
  g_autofree char *trash = storage_trash_path (in->storage, in->repo->id);
  g_autofree char *parent = g_path_get_dirname (in->dir);
  g_autoptr (GError) left = NULL;
  if ((in->flags & GS_IMPORT_KEEP) != 0)
    return put_aside (in, error);
  if (!label_carry (in->storage, in->dir, in->temp, error))
    return FALSE;
  if (renameat2 (AT_FDCWD, in->temp, AT_FDCWD, in->dir, RENAME_EXCHANGE) != 0)
    return fsu_fail (error, errno, "exchange %s with its copy", in->dir);
  if (in->storage->sync && !disk_sync (parent, FALSE, error))
    return FALSE;
  storage_crash_point (in->storage, "import.exchanged");
  if (!disk_move (in->temp, trash, in->storage->sync, &left))
    in->storage->host->log (in->storage->host, GS_LOG_WARNING, "storage.import.left",
                            (GsField[]) { GS_TEXT ("replica", in->repo->replica_path), GS_TEXT ("error", left->message) },
                            2);
  return TRUE;
}

static gboolean
publish (Import *in, GError **error)
{
  const char *path = in->repo->replica_path;
  g_autofree char *parent = g_path_get_dirname (path);
  g_autofree char *to_parent = g_path_get_dirname (in->dir);
  if (!repo_take_out (in->storage, path, error))
    return FALSE;
  gboolean done = disk_exists (in->dir)
                      ? check_old (in, error) && check_pool (in, error) && exchange (in, error)
                      : (strcmp (parent, ".") == 0
                         || disk_make_dirs (in->storage->root, parent, in->storage->sync, error))
                            && replica_move_new (in->storage, in->temp, in->dir, path, error);
  repo_removed (in->storage, path);
  return done;
}

static gboolean
import_steps (Import *in, GError **error)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  in->fd = in->stream->complete ? -1 : in->stream->open_input (in->stream, error);
  in->tips = storage_spool (in->storage, in->fd >= 0 || in->stream->complete ? error : NULL);
  if ((in->fd < 0 && !in->stream->complete) || in->tips < 0 || !take_header (in, sum, error))
    return FALSE;
  if (!in->whole && in->old != NULL)
    {
      g_autofree char *pool = g_build_filename (in->dir, GIT_POOL, NULL);
      if (disk_exists (pool)) /* before the pack comes over */
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                        "replica %s borrows objects, which a part of a copy does not complete", in->repo->replica_path);
    }
  if (!in->whole && in->old == NULL)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the copy for replica %s is only a part, and there is nothing here that it completes",
                    in->repo->replica_path);
  if (!storage_tmp_dir (in->storage, "import", &in->temp, error)
      || !replica_fill (in->storage, in->temp, &in->record, in->head, error))
    return FALSE;
  storage_crash_point (in->storage, "import.begun");
  if (!take_refs (in, sum, error) || (!in->whole && !link_objects (in, error))
      || (in->has_pack && !take_pack (in, error)))
    return FALSE;
  storage_crash_point (in->storage, "import.received");
  if ((in->has_pack && !check_reachable (in, error)) || !sync_objects (in, error))
    return FALSE;
  storage_crash_point (in->storage, "import.checked");
  return publish (in, error);
}

static void
import_clear (Import *in)
{
  if (in->fd >= 0)
    close (in->fd);
  if (in->tips >= 0)
    close (in->tips);
  if (in->temp != NULL)
    fsu_remove_tree (AT_FDCWD, in->temp, NULL);
  if (in->old != NULL)
    repo_close (in->old, FALSE);
  replica_record_clear (&in->record);
  g_free (in->head);
  g_free (in->temp);
  g_free (in->dir);
}

gboolean
storage_import (gpointer self, GsCall *call, const GsRepo *repo, guint32 flags, GsStream *stream,
                GsReplicaState *ret_state, GError **error)
{
  Storage *storage = self;
  Import in = { .storage = storage, .call = call, .repo = repo, .flags = flags, .stream = stream, .fd = -1, .tips = -1 };
  g_autoptr (GError) why = NULL;
  gboolean done = FALSE;
  Repo *made;
  if (!replica_target_check (repo, error) || !gs_call_check (call, "take a copy in", error))
    return FALSE;
  in.dir = g_build_filename (storage->root, repo->replica_path, NULL);
  in.record.format = GS_FORMAT_SHA1;
  in.record.ahead = g_array_new (FALSE, FALSE, sizeof (GenerationRange));
  g_strlcpy (in.record.storage, storage->uuid, sizeof in.record.storage);
  if ((flags & GS_IMPORT_REPLACE) == 0)
    in.old = repo_open (storage, repo, FALSE, &why);
  if (why == NULL || why->code == GS_ERROR_NOT_FOUND)
    done = import_steps (&in, error);
  else
    g_propagate_error (error, g_steal_pointer (&why));
  if (done)
    {
      *ret_state = (GsReplicaState) { .size = sizeof *ret_state,
                                      .repository_id = repo->id,
                                      .generation = in.record.generation,
                                      .refs_digest = in.record.digest,
                                      .format = in.record.format };
      storage_crash_point (storage, "import.published");
      made = repo_open (storage, repo, FALSE, NULL);
      if (made != NULL)
        {
          maintain_note (made);
          repo_close (made, FALSE);
        }
    }
  import_clear (&in);
  return done;
}
