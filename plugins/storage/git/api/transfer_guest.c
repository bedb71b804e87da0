/* SPDX-License-Identifier: Apache-2.0 */
/* The repository inside a quarantine in which git speaks with other servers: see transfer.h. */
#include "transfer.h"

#include "../bound.h"
#include "../disk.h"
#include "../fsutil.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPOOL_PIECE (128u << 10)
#define PACK_HEADER 12

/* ------------------------------------------------------------------------------------------- life */

static gboolean
write_file (const char *dir, const char *name, const char *text, gsize len, GError **error)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  int fd = fsu_create_exclusive (AT_FDCWD, path, 0666);
  gboolean done;
  if (fd < 0)
    return fsu_fail (error, errno, "make the file %s", path);
  done = fsu_write_all (fd, text, len, path, error);
  close (fd);
  return done;
}

/* What we have: so that the other side sends only what we have not, and git's own check knows where to stop. */
static gboolean
write_haves (Guest *guest, GError **error)
{
  RefSnapshot *refs = api_refs (guest->call, error);
  g_autoptr (GString) text = g_string_new ("# pack-refs with: sorted \n");
  guint n = 0;
  if (refs == NULL)
    return FALSE;
  for (gsize i = 0; i < ref_snapshot_count (refs); i++)
    {
      char hex[GS_OID_HEX_MAX + 1];
      RefEntry ref;
      ref_snapshot_get (refs, i, &ref);
      if (ref.missing)
        continue;
      gs_oid_hex (&ref.oid, hex);
      g_string_append_printf (text, "%s refs/have/%010u\n", hex, n++);
    }
  return write_file (guest->dir, "packed-refs", text->str, text->len, error);
}

gboolean
guest_open (Guest *guest, GitCall *call, GError **error)
{
  static const char config[] = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
  static const char head[] = "ref: refs/heads/none\n";
  GsTxId name;
  *guest = (Guest){ .call = call };
  call->storage->host->random (call->storage->host, name.bytes, sizeof name.bytes);
  if (!quarantine_make (call->repo, &name, &guest->quarantine, error))
    return FALSE;
  guest->objects = quarantine_objects_dir (call->repo, guest->quarantine);
  guest->dir = g_path_get_dirname (guest->objects);
  return disk_make_dirs (guest->dir, "refs/new", FALSE, error)
         && write_file (guest->dir, "config", config, strlen (config), error)
         && write_file (guest->dir, "HEAD", head, strlen (head), error) && write_haves (guest, error);
}

void
guest_close (Guest *guest)
{
  if (guest->quarantine != NULL)
    quarantine_drop (guest->call->repo, guest->quarantine);
  g_clear_pointer (&guest->quarantine, g_free);
  g_clear_pointer (&guest->objects, g_free);
  g_clear_pointer (&guest->dir, g_free);
}

/* ------------------------------------------------------------------------------------------ running */

/* What git says, and what that means to our caller. The first one that is found counts. */
static const struct
{
  const char *sign;
  GsErrorCode code;
} meanings[] = {
  { "File too large", GS_ERROR_OUT_OF_RANGE },
  { "couldn't find remote ref", GS_ERROR_NOT_FOUND },
  { "lacks these prerequisite", GS_ERROR_FAILED_PRECONDITION },
  { "could not read Username", GS_ERROR_PERMISSION_DENIED },
  { "Authentication failed", GS_ERROR_PERMISSION_DENIED },
  { "returned error: 403", GS_ERROR_PERMISSION_DENIED },
  { "returned error: 404", GS_ERROR_NOT_FOUND },
  { "' not found", GS_ERROR_NOT_FOUND },
  { "does not appear to be a git repository", GS_ERROR_NOT_FOUND },
  { "returned error: 30", GS_ERROR_FAILED_PRECONDITION },
  { "redirect", GS_ERROR_FAILED_PRECONDITION },
  { "dubious ownership", GS_ERROR_PERMISSION_DENIED },
  { "look like a v2 or v3 bundle", GS_ERROR_INVALID_ARGUMENT },
  { "unrecognized header", GS_ERROR_INVALID_ARGUMENT },
  { "invalid gitfile format", GS_ERROR_INVALID_ARGUMENT }, /* a bundle with a broken header is taken for one */
  { "fsck error", GS_ERROR_INVALID_ARGUMENT },
  { "index-pack", GS_ERROR_INVALID_ARGUMENT },
  { "did not send all necessary objects", GS_ERROR_INVALID_ARGUMENT },
  { "unable to access", GS_ERROR_UNAVAILABLE },
};

static gboolean
told (const Remote *remote, const char *command, int status, const char *said, GError **error)
{
  GsErrorCode code = remote != NULL && remote->settings != NULL ? GS_ERROR_UNAVAILABLE : GS_ERROR_INTERNAL;
  if (WIFSIGNALED (status))
    return gs_fail (error,
                    WTERMSIG (status) == SIGXFSZ || WTERMSIG (status) == SIGXCPU ? GS_ERROR_OUT_OF_RANGE
                                                                                : GS_ERROR_INTERNAL,
                    "git %s was ended by signal %d: it took more time or space than it may", command, WTERMSIG (status));
  for (gsize i = 0; i < G_N_ELEMENTS (meanings); i++)
    if (strstr (said, meanings[i].sign) != NULL)
      {
        code = meanings[i].code;
        break;
      }
  return gs_fail (error, code, "git %s%s%s: %s", command, remote != NULL ? " with " : "",
                  remote != NULL ? remote->shown : "", *said != '\0' ? said : "it failed without a word");
}

/* git does not say that it was ended for writing more than it may. */
static gboolean
has_full_file (const Guest *guest, guint64 max)
{
  g_autofree char *dir = g_build_filename (guest->objects, "pack", NULL);
  g_autoptr (GPtrArray) names = disk_names (dir, NULL);
  gboolean found = FALSE;
  for (guint i = 0; names != NULL && i < names->len && !found; i++)
    {
      g_autofree char *path = g_build_filename (dir, names->pdata[i], NULL);
      struct stat st;
      found = stat (path, &st) == 0 && (guint64) st.st_size >= max;
    }
  return found;
}

gboolean
guest_too_many_refs (const Storage *storage, GError **error)
{
  return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                  "the other side has more than %" G_GINT64_FORMAT " refs, the storage's option max_remote_refs; name fewer "
                  "of them, or raise it",
                  storage->max_remote_refs);
}

/* The other side decides how many files come, of objects and of refs. */
static gboolean
watch (gpointer user, GError **error)
{
  const Guest *guest = user;
  Storage *storage = guest->call->storage;
  const BoundSum limits = { 0, (guint64) storage->max_remote_refs };
  g_autofree char *refs = g_build_filename (guest->dir, "refs", NULL);
  BoundSum sum;
  if (!bound_check (storage, guest->objects, error) || !bound_measure (refs, &limits, &sum, error))
    return FALSE;
  return sum.files <= limits.files || guest_too_many_refs (storage, error);
}

/* The other side may have written what it liked; and where our files are is nobody's business. */
static char *
readable (const Guest *guest, const char *said)
{
  g_autoptr (GString) plain = g_string_new (said);
  g_string_replace (plain, guest->dir, "(quarantine)", 0);
  char *text = g_utf8_make_valid (plain->str, -1);
  for (char *at = text; *at != '\0'; at++)
    if (*at == '\n' || *at == '\r')
      *at = ' ';
    else if (g_ascii_iscntrl (*at))
      *at = '?';
  return text;
}

gboolean
guest_run (Guest *guest, const Remote *remote, const char *const *argv, GBytes *input, gsize max, GBytes **ret_output,
           int *ret_status, GError **error)
{
  Repo *repo = guest->call->repo;
  g_autoptr (GBytes) output = NULL;
  g_autofree char *said = NULL, *clean = NULL;
  gboolean foreign = remote != NULL && !remote->own;
  int status;
  const ChildSpec spec = { .role = CHILD_PLAIN,
                           .git_dir = guest->dir,
                           .argv = argv,
                           .quarantine = guest->objects,
                           .alternate = repo->objects,
                           .settings = remote != NULL ? (const char *const *) remote->settings->pdata : NULL,
                           .max_file = foreign ? repo->storage->max_push_bytes : 0,
                           .watch = foreign ? watch : NULL,
                           .watch_user = guest,
                           .input = -1,
                           .output = -1,
                           .extra = -1 };
  guest->bounded |= foreign;
  if (!child_run (repo->storage, &spec, guest->call->call, input, max, ret_output != NULL ? &output : NULL, &status, &said,
                  error)
      || (foreign && !watch (guest, error)))
    {
      if (remote != NULL)
        g_prefix_error (error, "git %s with %s: ", argv[0], remote->shown);
      return FALSE;
    }
  clean = readable (guest, said);
  if (!WIFEXITED (status) || WEXITSTATUS (status) > (ret_status != NULL ? 1 : 0))
    return spec.max_file > 0 && has_full_file (guest, spec.max_file)
               ? gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                          "git %s with %s: it brings more than the %" G_GUINT64_FORMAT
                          " bytes of the storage's option max_push_bytes",
                          argv[0], remote->shown, spec.max_file)
               : told (remote, argv[0], status, clean, error);
  if (ret_status != NULL)
    *ret_status = WEXITSTATUS (status);
  if (ret_output != NULL)
    *ret_output = g_steal_pointer (&output);
  return TRUE;
}

gboolean
guest_is_ancestor (Guest *guest, const GsOid *ancestor, const GsOid *oid, gboolean *ret_is, GError **error)
{
  char a[GS_OID_HEX_MAX + 1], b[GS_OID_HEX_MAX + 1];
  const char *const argv[] = { "merge-base", "--is-ancestor", a, b, NULL };
  g_autoptr (GError) why = NULL;
  int status = 1;
  gs_oid_hex (ancestor, a);
  gs_oid_hex (oid, b);
  /* 128: one of them is no commit, or is not here. */
  if (!guest_run (guest, NULL, argv, NULL, 0, NULL, &status, &why) && !gs_call_check (guest->call->call, argv[0], error))
    return FALSE;
  *ret_is = why == NULL && status == 0;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ spooling */

static gboolean
spool_rest (GitCall *call, int from, int to, guint64 left, const char *path, GError **error)
{
  g_autofree char *buffer = g_malloc (SPOOL_PIECE);
  for (;;)
    {
      struct pollfd fds[2] = { { .fd = from, .events = POLLIN } };
      ssize_t got;
      if (!call_poll (call->call, fds, 1, "read the bulk bytes", error))
        return FALSE;
      got = read (from, buffer, SPOOL_PIECE);
      if (got < 0 && (errno == EINTR || errno == EAGAIN))
        continue;
      if (got < 0)
        return fsu_fail (error, errno, "read %s", "the bulk bytes");
      if (got == 0) /* the end of a stream that broke is none */
        return gs_call_check (call->call, "read the bulk bytes", error);
      if ((guint64) got > left)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "the bulk bytes are more than the storage's max_push_bytes");
      left -= (guint64) got;
      if (!fsu_write_all (to, buffer, (gsize) got, path, error))
        return FALSE;
    }
}

gboolean
guest_spool (Guest *guest, const char *path, guint64 max, GError **error)
{
  GsStream *stream = guest->call->stream;
  guint64 left = max != 0 ? max : G_MAXUINT64;
  gsize head_len = 0;
  const guint8 *head = stream != NULL ? g_bytes_get_data (stream->head, &head_len) : NULL;
  int from = -1, to;
  gboolean done;
  if (stream == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the call has no bulk bytes");
  if (head_len > left)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "the bulk bytes are more than the storage's max_push_bytes");
  to = fsu_create_exclusive (AT_FDCWD, path, 0600);
  if (to < 0)
    return fsu_fail (error, errno, "make the file %s", path);
  done = fsu_write_all (to, head, head_len, path, error)
         && (stream->complete || (from = stream->open_input (stream, error)) >= 0)
         && (from < 0 || spool_rest (guest->call, from, to, left - head_len, path, error));
  if (from >= 0)
    close (from);
  close (to);
  return done;
}

/* ---------------------------------------------------------------------------------------------- packs */

static GBytes *
map_file (int fd, const char *path, GError **error)
{
  GMappedFile *map = fd >= 0 ? g_mapped_file_new_from_fd (fd, FALSE, NULL) : g_mapped_file_new (path, FALSE, NULL);
  GBytes *bytes;
  if (map == NULL)
    {
      gs_fail (error, GS_ERROR_UNAVAILABLE, "the pack in %s cannot be mapped", path);
      return NULL;
    }
  bytes = g_mapped_file_get_bytes (map);
  g_mapped_file_unref (map);
  return bytes;
}

/* A server that only gives files gives loose objects, too. */
static gboolean
has_loose_objects (const Guest *guest)
{
  g_autoptr (GPtrArray) names = disk_names (guest->objects, NULL);
  gboolean found = FALSE;
  for (guint i = 0; names != NULL && i < names->len && !found; i++)
    found = strlen (names->pdata[i]) == 2;
  return found;
}

/* Where we had nothing, the only pack that came is all there is. NULL without an error: look on. */
static GBytes *
sole_pack (Guest *guest, GError **error)
{
  g_autofree char *dir = g_build_filename (guest->objects, "pack", NULL), *found = NULL;
  g_autoptr (GPtrArray) names = disk_names (dir, error);
  RefSnapshot *refs = api_refs (guest->call, error);
  if (names == NULL || refs == NULL || ref_snapshot_count (refs) > 0 || has_loose_objects (guest))
    return NULL;
  for (guint i = 0; i < names->len; i++)
    if (g_str_has_suffix (names->pdata[i], ".pack"))
      {
        if (found != NULL)
          return NULL;
        found = g_build_filename (dir, names->pdata[i], NULL);
      }
  return found != NULL ? map_file (-1, found, error) : NULL;
}

static void
add_oid (GString *text, const GsOid *oid)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (oid, hex);
  g_string_append_printf (text, "%s\n", hex);
}

static gboolean
pack_objects (Guest *guest, GBytes *input, const char *path, GError **error)
{
  static const char *const argv[] = { "pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset", NULL };
  Repo *repo = guest->call->repo;
  ChildSpec spec = { .role = CHILD_PLAIN,
                     .git_dir = guest->dir,
                     .argv = argv,
                     .quarantine = guest->objects,
                     .alternate = repo->objects,
                     .max_file = guest->bounded ? repo->storage->max_push_bytes : 0,
                     .input = -1,
                     .output = fsu_create_exclusive (AT_FDCWD, path, 0600),
                     .extra = -1 };
  g_autofree char *said = NULL;
  gboolean done;
  int status;
  if (spec.output < 0)
    return fsu_fail (error, errno, "make the file %s", path);
  done = child_run (repo->storage, &spec, guest->call->call, input, 0, NULL, &status, &said, error);
  close (spec.output);
  if (done && WIFSIGNALED (status) && WTERMSIG (status) == SIGXFSZ)
    return bound_check_bytes (repo->storage, G_MAXUINT64, error);
  return done && (status == 0 || told (NULL, argv[0], status, said, error));
}

gboolean
guest_pack (Guest *guest, const GArray *tips, GBytes **ret_pack, GError **error)
{
  g_autoptr (GError) why = NULL;
  g_autoptr (GBytes) pack = sole_pack (guest, &why);
  g_autoptr (GString) text = g_string_new (NULL);
  g_autofree char *path = g_build_filename (guest->dir, "new.pack", NULL);
  RefSnapshot *refs = api_refs (guest->call, error);
  const guint8 *data;
  gsize len;
  if (pack != NULL)
    {
      *ret_pack = g_steal_pointer (&pack);
      return TRUE;
    }
  if (why != NULL)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if (refs == NULL)
    return FALSE;
  for (guint i = 0; i < tips->len; i++)
    add_oid (text, &g_array_index (tips, GsOid, i));
  g_string_append (text, "--not\n");
  for (gsize i = 0; i < ref_snapshot_count (refs); i++)
    {
      RefEntry ref;
      ref_snapshot_get (refs, i, &ref);
      if (!ref.missing)
        add_oid (text, &ref.oid);
    }
  g_autoptr (GBytes) input = g_bytes_new (text->str, text->len);
  if (!pack_objects (guest, input, path, error) || (pack = map_file (-1, path, error)) == NULL)
    return FALSE;
  data = g_bytes_get_data (pack, &len);
  *ret_pack = len < PACK_HEADER || memcmp (data + 8, "\0\0\0\0", 4) == 0 ? NULL : g_steal_pointer (&pack);
  return TRUE;
}
