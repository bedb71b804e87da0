/* SPDX-License-Identifier: Apache-2.0 */
/* Revisions of the Git API, read by a parser of our own: no caller's text ever reaches git's or libgit2's. See api.h.
 */
#include "api.h"

#include "history/view.h"

#define ABBREV_MIN 4
#define STEPS_MAX G_MAXINT32 /* "~N": as many as git takes; the walk ends at the root anyway */
#define STEPS_BY_ONE 32      /* for more of them the commit-graph is opened */
#define STEPS_TICK 1024
#define TAGS_MAX 64      /* tags of tags */
#define ALIKE_MAX 1000   /* objects whose ids begin alike that are looked at … */
#define ALIKE_SHOWN 10   /* … and of these, told */

/* A revision on its way. */
typedef struct
{
  GitCall *call;
  const char *field;
  GsOid oid;
  gboolean linked; /* a ref or an object names @oid: that it is absent is a loss */
} Walker;

static gboolean
bad (GError **error, const char *field, const char *why)
{
  return api_invalid (error, field,
                      "%s; a revision is an object id or its first digits (4 or more), HEAD, or a ref, tag or branch name; "
                      "then maybe ~N, ^N, ^{commit}, ^{tree}, ^{blob}, ^{tag}, ^{}; and at the end :PATH",
                      why);
}

/* ---------------------------------------------------------------------------------------- peeling */

/* The type of what it is at. NOT_FOUND only when nothing but the caller said that there is such an object. */
static gboolean
look (Walker *walker, GsObjectType *ret_type, guint64 *ret_size, GError **error)
{
  ObjectHandle *odb = api_odb (walker->call, error);
  if (odb == NULL)
    return FALSE;
  if (odb_header (walker->call->repo, odb, &walker->oid, ret_type, ret_size, error))
    return TRUE;
  if (walker->linked)
    api_name_loss (walker->call, &walker->oid, error);
  return FALSE;
}

static gboolean
tag_target (Walker *walker, GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  GsOid target;
  gsize len;
  if (!api_read (walker->call, &walker->oid, GS_OBJECT_TAG, ODB_TAG_MAX, &bytes, error))
    return FALSE;
  const char *data = g_bytes_get_data (bytes, &len);
  if (!odb_parse_link (data, len, "object", &target))
    {
      gs_fail (error, GS_ERROR_DATA_LOSS, "a tag that names no object");
      api_name_loss (walker->call, &walker->oid, error);
      return FALSE;
    }
  walker->oid = target;
  walker->linked = TRUE;
  return TRUE;
}

static gboolean
commit_tree_of (Walker *walker, GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  GsOid tree;
  gsize len;
  if (!api_read (walker->call, &walker->oid, GS_OBJECT_COMMIT, API_COMMIT_MAX, &bytes, error))
    return FALSE;
  const char *data = g_bytes_get_data (bytes, &len);
  if (!odb_parse_link (data, len, "tree", &tree))
    {
      gs_fail (error, GS_ERROR_DATA_LOSS, "it names no tree");
      api_name_loss (walker->call, &walker->oid, error);
      return FALSE;
    }
  walker->oid = tree;
  walker->linked = TRUE;
  return TRUE;
}

/* Through tags, and for a tree through a commit, to @wanted; NONE: to the first that is no tag. */
static gboolean
peel_to (Walker *walker, GsObjectType wanted, GError **error)
{
  GsObjectType type;
  guint64 size;
  for (guint n = 0; n <= TAGS_MAX; n++)
    {
      if (!look (walker, &type, &size, error))
        return FALSE;
      if (type == wanted || (wanted == GS_OBJECT_NONE && type != GS_OBJECT_TAG))
        return TRUE;
      if (type == GS_OBJECT_COMMIT && wanted == GS_OBJECT_TREE)
        return commit_tree_of (walker, error);
      if (type != GS_OBJECT_TAG)
        return gs_fail (error, GS_ERROR_NOT_FOUND, "%s: it leads to a %s, not to a %s", walker->field, odb_type_name (type),
                        odb_type_name (wanted));
      if (!tag_target (walker, error))
        return FALSE;
    }
  return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "%s: it leads through more than %d tags", walker->field, TAGS_MAX);
}

/* ------------------------------------------------------------------------------------------ names */

static gboolean
all_hex (const char *text, gsize len)
{
  for (gsize i = 0; i < len; i++)
    if (!g_ascii_isxdigit (text[i]))
      return FALSE;
  return len > 0;
}

static gboolean
find_ref (GitCall *call, RefSnapshot *snapshot, const char *name, GsOid *ret_oid)
{
  /* git's order, without remotes: a server has none of its own. */
  static const char *const places[] = { "", "refs/", "refs/tags/", "refs/heads/" };
  RefEntry entry;
  if (strcmp (name, "HEAD") == 0)
    {
      if (!ref_snapshot_find (snapshot, ref_snapshot_head (snapshot), &entry))
        return FALSE;
      *ret_oid = entry.oid;
      return TRUE;
    }
  for (gsize i = 0; i < G_N_ELEMENTS (places); i++)
    {
      g_autofree char *full = g_strconcat (places[i], name, NULL);
      if (g_str_has_prefix (full, "refs/") && !ref_name_hidden (call->repo->refs, full)
          && ref_snapshot_find (snapshot, full, &entry))
        {
          *ret_oid = entry.oid;
          return TRUE;
        }
    }
  return FALSE;
}

/* Can it be what is wanted, as git's own rule has it: a commit or what leads to one, a tree or what leads to one? */
static gboolean
leads_to (GitCall *call, const GsOid *oid, GsObjectType wanted)
{
  Walker walker = { .call = call, .field = "", .oid = *oid };
  return peel_to (&walker, wanted, NULL);
}

static void
tell_alike (GitCall *call, GString *text, const GArray *alike)
{
  ObjectHandle *odb = api_odb (call, NULL);
  for (guint i = 0; i < alike->len && i < ALIKE_SHOWN; i++)
    {
      const GsOid *oid = &g_array_index (alike, GsOid, i);
      char hex[GS_OID_HEX_MAX + 1];
      GsObjectType type;
      guint64 size;
      gboolean read = odb != NULL && odb_header (call->repo, odb, oid, &type, &size, NULL);
      gs_oid_hex (oid, hex);
      g_string_append_printf (text, "%s%s (%s)", i > 0 ? ", " : "", hex, read ? odb_type_name (type) : "damaged");
    }
  if (alike->len > ALIKE_SHOWN)
    g_string_append (text, ", and more");
}

/*
 * Several ids begin so. Where a commit or a tree is needed, those that lead to none do not count, as with git; where that
 * leaves not one, all that there are are told.
 */
static gboolean
choose (GitCall *call, const char *name, const char *field, GsObjectType wanted, GsOid *ret_oid, GError **error)
{
  g_autoptr (GArray) alike = g_array_new (FALSE, FALSE, sizeof (GsOid));
  g_autoptr (GString) told = g_string_new (NULL);
  guint fit = 0;
  if (!api_ids_alike (call, name, ALIKE_MAX + 1, alike, error))
    return FALSE;
  for (guint i = 0; i < alike->len && alike->len <= ALIKE_MAX && wanted != GS_OBJECT_NONE; i++)
    {
      const GsOid *oid = &g_array_index (alike, GsOid, i);
      if (!gs_call_check (call->call, "find a revision", error))
        return FALSE;
      if (leads_to (call, oid, wanted) && fit++ == 0)
        *ret_oid = *oid;
    }
  if (fit == 1)
    return TRUE;
  tell_alike (call, told, alike);
  return api_invalid (error, field, "%s is the beginning of several object ids: %s; give more digits", name, told->str);
}

static gboolean
check_name (const char *name, const char *field, GError **error)
{
  g_autofree char *full = g_str_has_prefix (name, "refs/") ? g_strdup (name) : g_strconcat ("refs/heads/", name, NULL);
  g_autoptr (GError) why = NULL;
  if (*name == '\0')
    return bad (error, field, "it names nothing");
  if (*name == '-')
    return bad (error, field, "it begins with '-'");
  if (strcmp (name, "@") == 0)
    return bad (error, field, "'@' is not taken: write HEAD");
  return strcmp (name, "HEAD") == 0 || ref_name_valid (full, &why) || bad (error, field, "no valid name");
}

/* An id, a ref, or the unique beginning of an id, in this order. @wanted: what it has to lead to, if that is known. */
static gboolean
resolve_base (Walker *walker, const char *name, GsObjectType wanted, GError **error)
{
  GitCall *call = walker->call;
  gsize len = strlen (name), full = 2 * (gsize) call->repo->format;
  RefSnapshot *snapshot;
  ObjectHandle *odb;
  if (len == full && gs_oid_parse (name, len, &walker->oid))
    return TRUE;
  if ((snapshot = api_refs (call, error)) == NULL || (odb = api_odb (call, error)) == NULL)
    return FALSE;
  walker->linked = TRUE;
  if (find_ref (call, snapshot, name, &walker->oid))
    return TRUE;
  if (len >= ABBREV_MIN && len < full && all_hex (name, len))
    {
      guint found;
      if (!odb_find_prefix (call->repo, odb, name, &found, &walker->oid, error))
        return FALSE;
      if (found > 0)
        return found == 1 || choose (call, name, walker->field, wanted, &walker->oid, error);
    }
  return gs_fail (error, GS_ERROR_NOT_FOUND, "%s: repository %" G_GUINT64_FORMAT " has no revision %s", walker->field,
                  call->repo->id, name);
}

/* ---------------------------------------------------------------------------------------- suffixes */

static gboolean
no_parent (const Walker *walker, guint64 n_parents, guint64 n, GError **error)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (&walker->oid, hex);
  return gs_fail (error, GS_ERROR_NOT_FOUND, "%s: commit %s has %" G_GUINT64_FORMAT " parents, not %" G_GUINT64_FORMAT,
                  walker->field, hex, n_parents, n);
}

/* From a commit to its parent @n. */
static gboolean
to_parent (Walker *walker, guint64 n, GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  const gsize hex_len = 2 * (gsize) walker->call->repo->format;
  guint64 n_parents = 0;
  GsOid link, wanted = { .len = 0 };
  gsize len;
  const char *at, *end;
  /* Nothing of the commits on the way is kept: there may be a million of them. */
  if (!api_read (walker->call, &walker->oid, GS_OBJECT_COMMIT, API_COMMIT_MAX, &bytes, error))
    return FALSE;
  at = g_bytes_get_data (bytes, &len);
  end = at + len;
  if (!odb_parse_link (at, len, "tree", &link))
    {
      gs_fail (error, GS_ERROR_DATA_LOSS, "it names no tree");
      api_name_loss (walker->call, &walker->oid, error);
      return FALSE;
    }
  for (at += strlen ("tree ") + hex_len + 1; at < end && odb_parse_link (at, (gsize) (end - at), "parent", &link);
       at += strlen ("parent ") + hex_len + 1)
    if (++n_parents == n)
      wanted = link;
  if (wanted.len == 0)
    return no_parent (walker, n_parents, n, error);
  walker->oid = wanted;
  walker->linked = TRUE;
  return TRUE;
}

/* As many of the @n steps as the commit-graph knows: none of a commit that is not in it. */
static gboolean
steps_in_graph (Walker *walker, HistView *view, guint64 n, guint64 *ret_done, GError **error)
{
  guint64 done = 0;
  guint32 pos;
  HistCommit commit;
  *ret_done = 0;
  if (view->graph == NULL || !hist_graph_find (view->graph, walker->oid.raw, &pos))
    return TRUE;
  for (; done < n; done++)
    {
      if (!hist_tick (view, error) || !hist_view_commit (view, pos, &commit, error))
        return FALSE;
      if (commit.n_parents == 0)
        break;
      pos = hist_parent (&commit, 0);
    }
  hist_view_gs_oid (view, pos, &walker->oid);
  walker->linked = walker->linked || done > 0;
  *ret_done = done;
  return done == n || no_parent (walker, 0, 1, error);
}

/* "~@n" from a commit. The root ends it, however large @n is. */
static gboolean
to_ancestor (Walker *walker, guint64 n, GError **error)
{
  g_autoptr (HistView) view = NULL;
  if (n > STEPS_BY_ONE && (view = hist_view_open (walker->call->repo, walker->call->call, error)) == NULL)
    return FALSE;
  for (guint64 i = 0; i < n; i++)
    {
      guint64 done = 0;
      if (view != NULL && !steps_in_graph (walker, view, n - i, &done, error))
        return FALSE;
      if (done > 0)
        return TRUE;
      if ((i % STEPS_TICK == 0 && !gs_call_check (walker->call->call, "find a revision", error))
          || !to_parent (walker, 1, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
take_number (const char **at, const char *field, guint64 *ret_n, GError **error)
{
  guint64 n = 0;
  if (!g_ascii_isdigit (**at))
    {
      *ret_n = 1;
      return TRUE;
    }
  for (; g_ascii_isdigit (**at); (*at)++)
    if ((n = n * 10 + (guint64) (**at - '0')) > STEPS_MAX)
      return bad (error, field, "a number is too large");
  *ret_n = n;
  return TRUE;
}

/* The type in "^{...}" at @at; NONE for "^{}". */
static gboolean
take_type (const char **at, const char *field, GsObjectType *ret_type, GError **error)
{
  for (GsObjectType type = GS_OBJECT_NONE; type <= GS_OBJECT_TAG; type++)
    {
      g_autofree char *text = g_strdup_printf ("^{%s}", type == GS_OBJECT_NONE ? "" : odb_type_name (type));
      if (!g_str_has_prefix (*at, text))
        continue;
      *at += strlen (text);
      *ret_type = type;
      return TRUE;
    }
  return bad (error, field, "^{...} takes commit, tree, blob, tag or nothing");
}

/* Walks along them; with @walker NULL it only checks them. */
static gboolean
apply_suffixes (Walker *walker, const char *at, const char *field, GError **error)
{
  while (*at != '\0')
    {
      const char sign = *at;
      GsObjectType type = GS_OBJECT_NONE;
      guint64 n = 0;
      if (g_str_has_prefix (at, "^{"))
        {
          if (!take_type (&at, field, &type, error) || (walker != NULL && !peel_to (walker, type, error)))
            return FALSE;
          continue;
        }
      if (sign != '~' && sign != '^')
        return bad (error, field, "something follows that is not understood");
      at++;
      if (!take_number (&at, field, &n, error))
        return FALSE;
      if (walker == NULL)
        continue;
      if (!peel_to (walker, GS_OBJECT_COMMIT, error)
          || !(sign == '~' ? to_ancestor (walker, n, error) : n == 0 || to_parent (walker, n, error)))
        return FALSE;
    }
  return TRUE;
}

/* What the base of a revision has to lead to, as git guesses it from what stands behind it. */
static GsObjectType
wanted_of_base (const char *suffixes, gboolean has_path, GsObjectType wanted)
{
  if (g_str_has_prefix (suffixes, "^{tree}"))
    return GS_OBJECT_TREE;
  if (g_str_has_prefix (suffixes, "^{") && !g_str_has_prefix (suffixes, "^{commit}"))
    return GS_OBJECT_NONE;
  if (*suffixes != '\0')
    return GS_OBJECT_COMMIT;
  return has_path ? GS_OBJECT_TREE : wanted;
}

/* ------------------------------------------------------------------------------------------- paths */

gboolean
api_find_path (GitCall *call, const GsOid *tree, const char *path, GsObject *ret_object, gboolean *ret_found,
               GError **error)
{
  GsObject object = { .size = sizeof object, .oid = *tree, .mode = 040000, .type = GS_OBJECT_TREE };
  gboolean found = TRUE;
  for (const char *at = path; *at != '\0' && found;)
    {
      gsize len = strcspn (at, "/");
      g_autoptr (GBytes) bytes = NULL;
      if (object.type != GS_OBJECT_TREE)
        {
          found = FALSE;
          break;
        }
      GsOid oid = object.oid;
      if (!api_read (call, &oid, GS_OBJECT_TREE, ODB_TREE_MAX, &bytes, error))
        return FALSE;
      gsize left;
      const char *entries = g_bytes_get_data (bytes, &left), *name;
      guint32 mode;
      GsOid entry;
      found = FALSE;
      while (!found && odb_tree_next (&entries, &left, &name, &mode, &entry))
        if (strncmp (name, at, len) == 0 && name[len] == '\0')
          {
            object = (GsObject){ .size = sizeof object, .oid = entry, .type = odb_mode_type (mode), .mode = mode };
            found = TRUE;
          }
      if (!found && left > 0)
        {
          gs_fail (error, GS_ERROR_DATA_LOSS, "it is no tree");
          api_name_loss (call, &oid, error);
          return FALSE;
        }
      at += len + (at[len] == '/');
    }
  *ret_found = found;
  if (found)
    *ret_object = object;
  return TRUE;
}

gboolean
api_take_entry (GitCall *call, const GsOid *tree, const ProtobufCBinaryData *bytes, const char *field, ApiEntryKind kind,
                char **ret_path, GsObject *ret_object, GError **error)
{
  gboolean found, folder = kind == API_FOLDER || (bytes->len > 0 && bytes->data[bytes->len - 1] == '/');
  GsObject object;
  char *path;
  if (!api_take_path (call, bytes, field, kind == API_FOLDER, &path, error)
      || !api_find_path (call, tree, path, &object, &found, error))
    return FALSE;
  const char *what = object.mode == 0160000 ? "submodule" : object.type == GS_OBJECT_TREE ? "directory" : "file";
  if (!found)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "%s: there is no %s %s", field,
                    folder ? "directory" : kind == API_FILE ? "file" : "path", path);
  if (folder && (kind == API_FILE || object.type != GS_OBJECT_TREE))
    return gs_fail (error, GS_ERROR_NOT_FOUND, "%s: there is no directory %s: it is a %s", field, path, what);
  if (kind == API_FILE && object.type != GS_OBJECT_BLOB)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "%s: there is no file %s: it is a %s", field, path, what);
  *ret_path = path;
  *ret_object = object;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- doors */

/* @wanted only helps to choose; NONE = nothing is known. */
static gboolean
resolve (GitCall *call, const char *revision, const char *field, GsObjectType wanted, GsObject *ret_object, GError **error)
{
  gsize colon = strcspn (revision, ":"), name = strcspn (revision, "~^:");
  gboolean has_path = revision[colon] == ':';
  g_autofree char *base = g_strndup (revision, name);
  g_autofree char *suffixes = g_strndup (revision + name, colon - name);
  const char *path = has_path ? revision + colon + 1 : "";
  const ProtobufCBinaryData path_bytes = { strlen (path), (guint8 *) path };
  Walker walker = { .call = call, .field = field };
  GsObject object = { .size = sizeof object };
  char *checked;
  for (gsize i = 0; i < colon; i++)
    if (g_ascii_iscntrl (revision[i]) || revision[i] == ' ')
      return bad (error, field, "it has a control character or a space");
  /* What is malformed is so wherever it leads. */
  if (!check_name (base, field, error) || !apply_suffixes (NULL, suffixes, field, error)
      || (*path != '\0' && !api_take_path (call, &path_bytes, field, TRUE, &checked, error))
      || !resolve_base (&walker, base, wanted_of_base (suffixes, has_path, wanted), error)
      || !apply_suffixes (&walker, suffixes, field, error))
    return FALSE;
  if (has_path)
    {
      if (!peel_to (&walker, GS_OBJECT_TREE, error)
          || !api_take_entry (call, &walker.oid, &path_bytes, field, *path == '\0' ? API_FOLDER : API_ANY, &checked, &object,
                              error))
        return FALSE;
      walker.oid = object.oid;
      walker.linked = TRUE;
    }
  object.oid = walker.oid;
  /* A submodule's commit is in another repository. */
  if (object.mode != 0160000 && !look (&walker, &object.type, &object.object_bytes, error))
    return FALSE;
  *ret_object = object;
  return TRUE;
}

/* Whatever it is about, it says which field led there. */
static gboolean
name_field (gboolean done, const char *field, GError **error)
{
  g_autofree char *prefix = g_strconcat (field, ":", NULL);
  if (!done && error != NULL && *error != NULL && !g_str_has_prefix ((*error)->message, prefix))
    g_prefix_error (error, "%s ", prefix);
  return done;
}

static gboolean
take_revision (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsObjectType wanted, GsObject *ret_object,
               GError **error)
{
  if (bytes->len == 0)
    return bad (error, field, "must not be empty") || api_blame (call, bytes, field, NULL, error);
  if (memchr (bytes->data, 0, MIN (bytes->len, API_NAME_MAX)) != NULL)
    return bad (error, field, "contains a NUL byte") || api_blame (call, bytes, field, "revision", error);
  char *text;
  return (api_take_text (call, bytes, field, &text, error)
          && name_field (resolve (call, text, field, wanted, ret_object, error), field, error))
         || api_blame (call, bytes, field, "revision", error);
}

gboolean
api_take_revision (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsObject *ret_object,
                   GError **error)
{
  return take_revision (call, bytes, field, GS_OBJECT_NONE, ret_object, error);
}

gboolean
api_take_object (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsObject *ret_object, GError **error)
{
  if (!api_take_revision (call, bytes, field, ret_object, error))
    return FALSE;
  return ret_object->mode != 0160000
         || gs_fail (error, GS_ERROR_NOT_FOUND, "%s: it leads to a submodule, whose commit is in another repository", field)
         || api_blame (call, bytes, field, "revision", error);
}

static gboolean
take_as (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsObjectType wanted, GsOid *ret_oid,
         GError **error)
{
  GsObject object;
  if (!take_revision (call, bytes, field, wanted, &object, error))
    return FALSE;
  if (object.mode == 0160000)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "%s: it leads to a submodule, whose commit is in another repository", field)
           || api_blame (call, bytes, field, "revision", error);
  Walker walker = { call, field, object.oid, TRUE };
  if (!name_field (peel_to (&walker, wanted, error), field, error))
    return api_blame (call, bytes, field, "revision", error);
  *ret_oid = walker.oid;
  return TRUE;
}

gboolean
api_take_commit (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsOid *ret_commit, GError **error)
{
  return take_as (call, bytes, field, GS_OBJECT_COMMIT, ret_commit, error);
}

gboolean
api_commit_tree (GitCall *call, const GsOid *commit, GsOid *ret_tree, GError **error)
{
  Walker walker = { call, "", *commit, TRUE };
  if (!commit_tree_of (&walker, error))
    return FALSE;
  *ret_tree = walker.oid;
  return TRUE;
}

gboolean
api_take_tree (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsOid *ret_tree, GError **error)
{
  return take_as (call, bytes, field, GS_OBJECT_TREE, ret_tree, error);
}

gboolean
storage_resolve_revision (gpointer self, GsCall *base, const GsRepo *repo, const char *revision, gsize revision_len,
                          GsObject *ret_object, GError **error)
{
  const ProtobufCBinaryData bytes = { revision_len, (guint8 *) revision };
  GitCall call;
  if (!api_open_plain (&call, self, base, repo, error))
    return FALSE;
  gboolean done = api_take_revision (&call, &bytes, "revision", ret_object, error);
  api_close (&call);
  return done;
}

/* ------------------------------------------------------------------------------------------- sides */

/* Git knows it without having it. */
#define EMPTY_TREE "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

gboolean
api_page_tree (GitCall *call, const guint8 *raw, GsOid *ret_tree, GError **error)
{
  ObjectHandle *odb = api_odb (call, error);
  GsOid tree = { .len = (guint8) call->repo->format };
  g_autoptr (GError) why = NULL;
  GsObjectType type;
  guint64 size;
  if (odb == NULL)
    return FALSE;
  memcpy (tree.raw, raw, tree.len);
  if (!odb_header (call->repo, odb, &tree, &type, &size, &why) && why->code != GS_ERROR_NOT_FOUND)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if (why != NULL || type != GS_OBJECT_TREE)
    return gs_page_bad (error);
  *ret_tree = tree;
  return TRUE;
}

gboolean
api_page_sides (GitCall *call, const guint8 *raw, ApiSides *ret_sides, GError **error)
{
  const gsize len = (gsize) call->repo->format;
  const char *hex[2];
  for (gsize i = 0; i < G_N_ELEMENTS (hex); i++)
    {
      GsOid tree = { .len = (guint8) len };
      memcpy (tree.raw, raw + i * len, len);
      hex[i] = api_hex (call, &tree);
      if (strcmp (hex[i], EMPTY_TREE) != 0 && !api_page_tree (call, tree.raw, &tree, error))
        return FALSE;
    }
  *ret_sides = (ApiSides){ hex[0], hex[1] };
  return TRUE;
}

gboolean
api_parent_sides (GitCall *call, const GsOid *commit, gsize n, ApiSides *ret_sides, gsize *ret_n_parents,
                  GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  CommitParts parts;
  GsOid left;
  if (!api_read (call, commit, GS_OBJECT_COMMIT, API_COMMIT_MAX, &bytes, error)
      || !api_commit_parse (call, commit, g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), &parts, error))
    return FALSE;
  if (n < parts.n_parents)
    {
      Walker walker = { call, "right", parts.parents[n], TRUE };
      if (!peel_to (&walker, GS_OBJECT_TREE, error))
        {
          api_name_loss (call, &parts.parents[n], error);
          return FALSE;
        }
      left = walker.oid;
    }
  if (ret_n_parents != NULL)
    *ret_n_parents = parts.n_parents;
  *ret_sides = (ApiSides){ n < parts.n_parents ? api_hex (call, &left) : EMPTY_TREE, api_hex (call, &parts.tree) };
  return TRUE;
}

gboolean
api_take_sides (GitCall *call, const ProtobufCBinaryData *left, const ProtobufCBinaryData *right, ApiSides *ret_sides,
                GError **error)
{
  GsOid left_tree, right_tree;
  if (left->len == 0)
    return api_take_commit (call, right, "right", &right_tree, error)
           && name_field (api_parent_sides (call, &right_tree, 0, ret_sides, NULL, error), "right", error);
  if (!api_take_tree (call, left, "left", &left_tree, error)
      || !api_take_tree (call, right, "right", &right_tree, error))
    return FALSE;
  *ret_sides = (ApiSides){ api_hex (call, &left_tree), api_hex (call, &right_tree) };
  return TRUE;
}
