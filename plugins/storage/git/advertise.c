/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What git clients learn about refs, without a process: advertisements of protocol v0, v1 and v2, and ls-refs.
 * Capabilities are those of the installed git, asked once at the start, because a spawned git does the second step.
 */
#include "child.h"
#include "disk.h"
#include "git.h"
#include "pktline.h"

#include <stdio.h>
#include <string.h>

#define SYMREF_MARK '\1'   /* stands in upload_caps where HEAD's target goes */
#define PREFIXES_MAX 65536 /* from so many ref-prefix lines on, git ignores them all */
#define PROBE_MAX (64 * 1024)

/* ------------------------------------------------------------------------------------------ probe */

static GBytes *
probe_ask (Storage *storage, const char *dir, ChildRole role, const char *service, const char *protocol, GError **error)
{
  const char *const argv[] = { service, "--advertise-refs", dir, NULL };
  const ChildSpec spec = { .role = role, .argv = argv, .protocol = protocol, .input = -1, .output = -1, .extra = -1 };
  GBytes *answer = NULL;
  int status;
  if (!child_run (storage, &spec, NULL, NULL, PROBE_MAX, &answer, &status, NULL, error))
    return NULL;
  if (status == 0)
    return answer;
  g_bytes_unref (answer);
  gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s %s does not work (status %d): is this a working git?", storage->git,
           service, status);
  return NULL;
}

/* The capabilities of the first line, after its NUL. NULL when there are none. */
static char *
first_caps (GBytes *answer)
{
  const char *payload;
  gsize len, used, payload_len;
  const char *data = g_bytes_get_data (answer, &len);
  if (pkt_parse (data, len, &used, &payload, &payload_len) != PKT_DATA)
    return NULL;
  const char *nul = memchr (payload, '\0', payload_len);
  if (nul == NULL)
    return NULL;
  nul++;
  return g_strndup (nul, pkt_chomp (nul, payload_len - (gsize) (nul - payload)));
}

static gboolean
probe_repository (Storage *storage, const char *dir, GError **error)
{
  static const char commit[] = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor a <a@b> 0 +0000\n"
                               "committer a <a@b> 0 +0000\n\nprobe\n";
  const char *const argv[] = { "hash-object", "-t", "commit", "-w", "--stdin", NULL };
  const ChildSpec spec = { .role = CHILD_PLAIN, .git_dir = dir, .argv = argv, .input = -1, .output = -1, .extra = -1 };
  g_autoptr (GBytes) input = g_bytes_new_static (commit, sizeof commit - 1);
  g_autofree char *head = g_strconcat (dir, "/HEAD", NULL);
  g_autofree char *config = g_strconcat (dir, "/config", NULL);
  g_autofree char *branch = g_strconcat (dir, "/refs/heads/main", NULL);
  GBytes *oid = NULL;
  int status;
  if (!disk_make_dirs (dir, "objects", FALSE, error) || !disk_make_dirs (dir, "refs/heads", FALSE, error)
      || !disk_replace (head, "ref: refs/heads/main\n", 21, FALSE, error)
      || !disk_replace (config, "[core]\n\tbare = true\n", 20, FALSE, error)
      || !child_run (storage, &spec, NULL, input, PROBE_MAX, &oid, &status, NULL, error))
    return FALSE;
  gboolean made
      = status == 0
            ? disk_replace (branch, g_bytes_get_data (oid, NULL), g_bytes_get_size (oid), FALSE, error)
            : gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s cannot write an object in %s", storage->git, dir);
  g_bytes_unref (oid);
  return made;
}

static gboolean
probe_in (Storage *storage, const char *dir, GError **error)
{
  static const char symref[] = "symref=HEAD:refs/heads/main";
  g_autoptr (GBytes) upload = NULL, receive = NULL, v2 = NULL;
  char *at;
  if (!probe_repository (storage, dir, error)
      || (upload = probe_ask (storage, dir, CHILD_UPLOAD, "upload-pack", NULL, error)) == NULL
      || (receive = probe_ask (storage, dir, CHILD_RECEIVE, "receive-pack", NULL, error)) == NULL
      || (v2 = probe_ask (storage, dir, CHILD_UPLOAD, "upload-pack", "version=2", error)) == NULL)
    return FALSE;
  storage->upload_caps = first_caps (upload);
  storage->receive_caps = first_caps (receive);
  storage->v2_advertisement = g_strndup (g_bytes_get_data (v2, NULL), g_bytes_get_size (v2));
  at = storage->upload_caps != NULL ? strstr (storage->upload_caps, symref) : NULL;
  if (at == NULL || storage->receive_caps == NULL || !g_str_has_prefix (storage->v2_advertisement, "000eversion 2\n"))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s advertises in a way this program does not know",
                    storage->git);
  *at = SYMREF_MARK;
  memmove (at + 1, at + sizeof symref - 1, strlen (at + sizeof symref - 1) + 1);
  return TRUE;
}

/* "git version 2.39.5", and whatever a distribution or vendor says behind it. */
static gboolean
probe_version (Storage *storage, GError **error)
{
  static const char *const argv[] = { "version", NULL };
  static const char prefix[] = "git version ";
  const ChildSpec spec = { .role = CHILD_PLAIN, .argv = argv, .input = -1, .output = -1, .extra = -1 };
  g_autoptr (GBytes) answer = NULL;
  guint major = 0, minor = 0;
  int status;
  if (!child_run (storage, &spec, NULL, NULL, PROBE_MAX, &answer, &status, NULL, error))
    return FALSE;
  g_autofree char *text = g_strndup (g_bytes_get_data (answer, NULL), g_bytes_get_size (answer));
  if (status != 0 || !g_str_has_prefix (text, prefix) || sscanf (text + strlen (prefix), "%u.%u", &major, &minor) != 2
      || major > 1000 || minor > 999)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s does not say which version of git it is: %s", storage->git,
                    g_strchomp (text));
  storage->git_version = GIT_VERSION (major, minor);
  return TRUE;
}

gboolean
advertise_probe (Storage *storage, GError **error)
{
  if (!probe_version (storage, error))
    return FALSE;
  g_autofree char *dir = g_strconcat (storage->root, "/" GIT_ROOT_TMP "/probe-XXXXXX", NULL);
  if (g_mkdtemp_full (dir, 0700) == NULL)
    return fsu_fail (error, errno, "make folder %s", dir);
  gboolean known = probe_in (storage, dir, error);
  fsu_remove_tree (AT_FDCWD, dir, NULL);
  return known;
}

/* --------------------------------------------------------------------------------------- snapshots */

G_DEFINE_AUTOPTR_CLEANUP_FUNC (RefSnapshot, ref_snapshot_unref)

/*
 * Refs whose object is missing are shown, as git does since 2.34: whoever fetches one is told, whereas a mirror that
 * prunes would take a hidden ref for a deleted one.
 */
static gboolean
is_shown (Repo *repo, const RefSnapshot *snapshot, gsize index, RefEntry *ret_entry)
{
  ref_snapshot_get (snapshot, index, ret_entry);
  return !ref_name_hidden (repo->refs, ret_entry->name);
}

/* FALSE while HEAD is unborn. */
static gboolean
shown_head (Repo *repo, const RefSnapshot *snapshot, RefEntry *ret_entry)
{
  const char *target = ref_snapshot_head (snapshot);
  return !ref_name_hidden (repo->refs, target) && ref_snapshot_find (snapshot, target, ret_entry);
}

/* --------------------------------------------------------------------------------- advertisements */

static void
append_ref (GString *out, const GsOid *oid, const char *name, const char *suffix, const char *caps)
{
  char hex[GS_OID_HEX_MAX + 1];
  gsize start = out->len;
  gs_oid_hex (oid, hex);
  g_string_append (out, "0000");
  g_string_append (out, hex);
  g_string_append_c (out, ' ');
  g_string_append (out, name);
  g_string_append (out, suffix);
  if (caps != NULL)
    {
      g_string_append_c (out, '\0');
      g_string_append (out, caps);
    }
  g_string_append_c (out, '\n');
  gsize size = out->len - start;
  for (int i = 0; i < 4; i++)
    out->str[start + (gsize) i] = "0123456789abcdef"[size >> (12 - 4 * i) & 15];
}

static char *
upload_caps (const Storage *storage, const char *head)
{
  const char *mark = strchr (storage->upload_caps, SYMREF_MARK);
  if (head != NULL)
    return g_strdup_printf ("%.*ssymref=HEAD:%s%s", (int) (mark - storage->upload_caps), storage->upload_caps, head,
                            mark + 1);
  /* Without the space before it. */
  return g_strdup_printf ("%.*s%s", (int) (mark - storage->upload_caps) - 1, storage->upload_caps, mark + 1);
}

GBytes *
advertise_refs (Repo *repo, guint32 service, int version, GError **error)
{
  Storage *storage = repo->storage;
  gboolean upload = service == GS_SERVICE_UPLOAD_PACK;
  static const GsOid zero = { .len = 20 };
  RefEntry entry;
  if (upload && version == 2)
    return g_bytes_new (storage->v2_advertisement, strlen (storage->v2_advertisement));
  g_autoptr (RefSnapshot) snapshot = ref_store_snapshot (repo->refs, error);
  if (snapshot == NULL)
    return NULL;
  gboolean head = upload && shown_head (repo, snapshot, &entry);
  g_autofree char *all_caps
      = upload ? upload_caps (storage, head ? entry.name : NULL) : g_strdup (storage->receive_caps);
  const char *caps = all_caps;
  gsize n = ref_snapshot_count (snapshot);
  GString *out = g_string_sized_new (512 + n * 80);
  if (version == 1)
    pkt_printf (out, "version 1\n");
  if (head)
    append_ref (out, &entry.oid, "HEAD", "", g_steal_pointer (&caps));
  for (gsize i = 0; i < n; i++)
    {
      if (!is_shown (repo, snapshot, i, &entry))
        continue;
      append_ref (out, &entry.oid, entry.name, "", g_steal_pointer (&caps));
      if (upload && entry.peeled.len != 0)
        append_ref (out, &entry.peeled, entry.name, "^{}", NULL);
    }
  if (!upload && caps != NULL)
    append_ref (out, &zero, "capabilities^{}", "", caps);
  pkt_flush (out);
  return g_string_free_to_bytes (out);
}

gboolean
storage_advertise (gpointer self, GsCall *call, const GsRepo *repo, guint32 service, const char *protocol,
                   GBytes **ret_bytes, GError **error)
{
  Storage *storage = self;
  GBytes *bytes;
  if (service != GS_SERVICE_UPLOAD_PACK && service != GS_SERVICE_RECEIVE_PACK)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "there is no git service %u", service);
  Repo *open = repo_open (storage, repo, FALSE, error);
  if (open == NULL)
    return FALSE;
  bytes = advertise_refs (open, service, pkt_protocol_version (protocol), error);
  repo_close (open, FALSE);
  if (bytes == NULL)
    return FALSE;
  storage->host->metric_update (storage->metric.native_lists, 1);
  *ret_bytes = bytes;
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- ls-refs */

typedef struct
{
  gboolean peel, symrefs, unborn;
  GPtrArray *prefixes;
  char *error; /* what the client is told */
} LsRefs;

static void
ls_refs_capability (LsRefs *ask, const char *line)
{
  if (g_str_has_prefix (line, "object-format="))
    {
      if (strcmp (line, "object-format=sha1") != 0)
        ask->error
            = g_strdup_printf ("mismatched object format: server sha1; client %s", line + strlen ("object-format="));
    }
  else if (!g_str_has_prefix (line, "agent=") && !g_str_has_prefix (line, "server-option=")
           && !g_str_has_prefix (line, "session-id=") && strcmp (line, "command=ls-refs") != 0)
    ask->error = g_strdup_printf ("unknown capability '%s'", line);
}

static void
ls_refs_argument (LsRefs *ask, const char *line)
{
  if (strcmp (line, "peel") == 0)
    ask->peel = TRUE;
  else if (strcmp (line, "symrefs") == 0)
    ask->symrefs = TRUE;
  else if (strcmp (line, "unborn") == 0)
    ask->unborn = TRUE;
  else if (g_str_has_prefix (line, "ref-prefix "))
    {
      if (ask->prefixes->len < PREFIXES_MAX)
        g_ptr_array_add (ask->prefixes, g_strdup (line + strlen ("ref-prefix ")));
    }
  else
    ask->error = g_strdup_printf ("unexpected line: '%s'", line);
}

static void
ls_refs_parse (LsRefs *ask, const char *request, gsize len)
{
  gboolean arguments = FALSE;
  gsize used, payload_len;
  const char *payload;
  for (gsize at = 0; ask->error == NULL; at += used)
    {
      PktType type = pkt_parse (request + at, len - at, &used, &payload, &payload_len);
      if (type == PKT_FLUSH)
        return;
      if (type == PKT_DELIM && !arguments)
        arguments = TRUE;
      else if (type == PKT_DATA)
        {
          g_autofree char *line = g_strndup (payload, pkt_chomp (payload, payload_len));
          if (arguments)
            ls_refs_argument (ask, line);
          else
            ls_refs_capability (ask, line);
        }
      else
        ask->error = g_strdup ("expected flush after ls-refs arguments");
    }
}

static int
compare_text (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *) a, *(const char *const *) b);
}

/* Sorted, without those that another one covers. */
static void
tidy_prefixes (GPtrArray *prefixes)
{
  guint kept = 0;
  if (prefixes->len >= PREFIXES_MAX)
    g_ptr_array_set_size (prefixes, 0);
  g_ptr_array_sort (prefixes, compare_text);
  for (guint i = 0; i < prefixes->len; i++)
    {
      char *prefix = prefixes->pdata[i];
      if (kept > 0 && g_str_has_prefix (prefix, prefixes->pdata[kept - 1]))
        g_free (prefix);
      else
        prefixes->pdata[kept++] = prefix;
      if (kept != i + 1)
        prefixes->pdata[i] = NULL;
    }
  g_ptr_array_set_size (prefixes, (gint) kept);
}

static gboolean
any_prefix (const GPtrArray *prefixes, const char *name)
{
  for (guint i = 0; i < prefixes->len; i++)
    if (g_str_has_prefix (name, prefixes->pdata[i]))
      return TRUE;
  return prefixes->len == 0;
}

static void
ls_refs_line (GString *out, const LsRefs *ask, const char *name, const RefEntry *entry, const char *symref)
{
  char hex[GS_OID_HEX_MAX + 1];
  gsize start = out->len;
  g_string_append (out, "0000");
  if (entry != NULL)
    gs_oid_hex (&entry->oid, hex);
  g_string_append (out, entry != NULL ? hex : "unborn");
  g_string_append_c (out, ' ');
  g_string_append (out, name);
  if (ask->symrefs && symref != NULL)
    {
      g_string_append (out, " symref-target:");
      g_string_append (out, symref);
    }
  if (ask->peel && entry != NULL && entry->peeled.len != 0)
    {
      gs_oid_hex (&entry->peeled, hex);
      g_string_append (out, " peeled:");
      g_string_append (out, hex);
    }
  g_string_append_c (out, '\n');
  gsize size = out->len - start;
  for (int i = 0; i < 4; i++)
    out->str[start + (gsize) i] = "0123456789abcdef"[size >> (12 - 4 * i) & 15];
}

static void
ls_refs_range (Repo *repo, const RefSnapshot *snapshot, const LsRefs *ask, const char *prefix, GString *out)
{
  gsize n = ref_snapshot_count (snapshot);
  for (gsize i = ref_snapshot_seek (snapshot, prefix); i < n; i++)
    {
      RefEntry entry;
      gboolean shown = is_shown (repo, snapshot, i, &entry);
      if (!g_str_has_prefix (entry.name, prefix))
        break;
      if (shown)
        ls_refs_line (out, ask, entry.name, &entry, NULL);
    }
}

static GBytes *
ls_refs_answer (Repo *repo, LsRefs *ask, GError **error)
{
  RefEntry entry;
  g_autoptr (RefSnapshot) snapshot = ref_store_snapshot (repo->refs, error);
  if (snapshot == NULL)
    return NULL;
  GString *out = g_string_new (NULL);
  const char *target = ref_snapshot_head (snapshot);
  tidy_prefixes (ask->prefixes);
  if (any_prefix (ask->prefixes, "HEAD"))
    {
      if (shown_head (repo, snapshot, &entry))
        ls_refs_line (out, ask, "HEAD", &entry, target);
      else if (*target != '\0' && ask->unborn && ask->symrefs && !ref_name_hidden (repo->refs, target))
        ls_refs_line (out, ask, "HEAD", NULL, target);
    }
  for (guint i = 0; i < ask->prefixes->len; i++)
    ls_refs_range (repo, snapshot, ask, ask->prefixes->pdata[i], out);
  if (ask->prefixes->len == 0)
    ls_refs_range (repo, snapshot, ask, "", out);
  pkt_flush (out);
  return g_string_free_to_bytes (out);
}

GBytes *
advertise_ls_refs (Repo *repo, const char *request, gsize len, GError **error)
{
  LsRefs ask = { .prefixes = g_ptr_array_new_with_free_func (g_free) };
  GBytes *answer;
  ls_refs_parse (&ask, request, len);
  if (ask.error != NULL)
    {
      GString *out = g_string_new (NULL);
      g_autofree char *said = g_strndup (ask.error, 1000);
      pkt_printf (out, "ERR %s", said);
      answer = g_string_free_to_bytes (out);
    }
  else
    answer = ls_refs_answer (repo, &ask, error);
  g_ptr_array_unref (ask.prefixes);
  g_free (ask.error);
  return answer;
}

/* -------------------------------------------------------------------------------- refs for the API */

static gboolean
query_matches (const GsRefQuery *query, const char *name)
{
  if (query->prefixes == NULL || query->prefixes[0] == NULL)
    return TRUE;
  for (gsize i = 0; query->prefixes[i] != NULL; i++)
    if (g_str_has_prefix (name, query->prefixes[i]))
      return TRUE;
  return FALSE;
}

static gboolean
visit_head (const RefSnapshot *snapshot, GsRefVisit visit, gpointer user)
{
  RefEntry entry;
  GsRef ref = { .size = sizeof ref, .name = "HEAD", .symref_target = ref_snapshot_head (snapshot) };
  if (ref_snapshot_find (snapshot, ref.symref_target, &entry))
    {
      ref.oid = entry.oid;
      ref.peeled = entry.peeled;
    }
  return visit (&ref, user);
}

static void
visit_refs (Repo *repo, const RefSnapshot *snapshot, const GsRefQuery *query, GsRefVisit visit, gpointer user)
{
  gsize n = ref_snapshot_count (snapshot), left = query->limit != 0 ? query->limit : G_MAXSIZE;
  gsize at = query->after != NULL ? ref_snapshot_seek (snapshot, query->after) : 0;
  if (query->include_head && query->after == NULL && query_matches (query, "HEAD")
      && (!visit_head (snapshot, visit, user) || --left == 0))
    return;
  /* One prefix is a range; several are looked at in one pass, so that the order stays. */
  gboolean one = query->prefixes != NULL && query->prefixes[0] != NULL && query->prefixes[1] == NULL;
  if (one)
    at = MAX (at, ref_snapshot_seek (snapshot, query->prefixes[0]));
  for (; at < n; at++)
    {
      RefEntry entry;
      ref_snapshot_get (snapshot, at, &entry);
      gboolean matches = query_matches (query, entry.name);
      if (one && !matches)
        return;
      if (!matches || (query->after != NULL && strcmp (entry.name, query->after) == 0)
          || (!query->include_hidden && ref_name_hidden (repo->refs, entry.name)))
        continue;
      const GsRef ref = { .size = sizeof ref, .name = entry.name, .oid = entry.oid, .peeled = entry.peeled };
      if (!visit (&ref, user) || --left == 0)
        return;
    }
}

gboolean
storage_list_refs (gpointer self, GsCall *call, const GsRepo *repo, const GsRefQuery *query, GsRefVisit visit,
                   gpointer user, GError **error)
{
  Repo *open = repo_open (self, repo, FALSE, error);
  RefSnapshot *snapshot = open != NULL ? ref_store_snapshot (open->refs, error) : NULL;
  if (snapshot != NULL)
    {
      visit_refs (open, snapshot, query, visit, user);
      ref_snapshot_unref (snapshot);
    }
  if (open != NULL)
    repo_close (open, FALSE);
  return snapshot != NULL;
}

gboolean
storage_find_ref (gpointer self, GsCall *call, const GsRepo *repo, const char *name, GsRefVisit visit, gpointer user,
                  GError **error)
{
  RefEntry entry;
  gboolean found = FALSE;
  g_autoptr (GError) why = NULL;
  Repo *open = repo_open (self, repo, FALSE, error);
  RefSnapshot *snapshot = open != NULL ? ref_store_snapshot (open->refs, error) : NULL;
  if (snapshot != NULL && strcmp (name, "HEAD") == 0)
    {
      visit_head (snapshot, visit, user);
      found = TRUE;
    }
  else if (snapshot != NULL && g_str_has_prefix (name, "refs/") && !ref_name_valid (name, &why))
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "name: '%s': %s", name, why->message);
  else if (snapshot != NULL && !ref_name_hidden (open->refs, name) && ref_snapshot_find (snapshot, name, &entry))
    {
      const GsRef ref = { .size = sizeof ref, .name = entry.name, .oid = entry.oid, .peeled = entry.peeled };
      visit (&ref, user);
      found = TRUE;
    }
  else if (snapshot != NULL)
    gs_fail (error, GS_ERROR_NOT_FOUND, "repository %" G_GUINT64_FORMAT " has no ref %s", repo->id, name);
  if (snapshot != NULL)
    ref_snapshot_unref (snapshot);
  if (open != NULL)
    repo_close (open, FALSE);
  return found;
}
