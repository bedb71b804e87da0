/* SPDX-License-Identifier: Apache-2.0 */
/* Revisions of the Git API, read by a parser of our own: no caller's text ever reaches git's or libgit2's. See api.h.
 */
#include "api.h"

#define ABBREV_MIN 4
#define STEPS_MAX 1000000 /* "~N" */

static gboolean
bad (GError **error, const char *field, const char *why)
{
  return api_invalid (
      error, field,
      "%s; a revision is an object id, HEAD, a ref, tag or branch name, then maybe ~N, ^N, ^{TYPE}, and at "
      "the end :PATH",
      why);
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
  static const char *const places[] = { "", "refs/tags/", "refs/heads/" };
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

/* An id, a ref, or the unique beginning of an id, in this order. */
static gboolean
resolve_base (GitCall *call, const char *name, const char *field, GsOid *ret_oid, GError **error)
{
  gsize len = strlen (name), full = 2 * (gsize) call->repo->format;
  RefSnapshot *snapshot;
  ObjectHandle *odb;
  if (len == 0)
    return bad (error, field, "it names nothing");
  if (name[0] == '-')
    return bad (error, field, "it begins with '-'");
  if (len == full && gs_oid_parse (name, len, ret_oid))
    return TRUE;
  if (strcmp (name, "HEAD") != 0)
    {
      g_autofree char *below
          = g_str_has_prefix (name, "refs/") ? g_strdup (name) : g_strconcat ("refs/heads/", name, NULL);
      g_autoptr (GError) why = NULL;
      if (!ref_name_valid (below, &why))
        return bad (error, field, "no valid name");
    }
  if ((snapshot = api_refs (call, error)) == NULL || (odb = api_odb (call, error)) == NULL)
    return FALSE;
  if (find_ref (call, snapshot, name, ret_oid))
    return TRUE;
  if (len >= ABBREV_MIN && len < full && all_hex (name, len))
    {
      guint found;
      if (!odb_find_prefix (call->repo, odb, name, &found, ret_oid, error))
        return FALSE;
      if (found == 1)
        return TRUE;
      if (found > 1)
        return api_invalid (error, field, "%s is the beginning of several object ids; give more digits", name);
    }
  return gs_fail (error, GS_ERROR_NOT_FOUND, "%s: repository %" G_GUINT64_FORMAT " has no revision %s", field,
                  call->repo->id, name);
}

/* ---------------------------------------------------------------------------------------- suffixes */

static gboolean
peel_to (GitCall *call, const char *field, GsObjectType wanted, GsOid *oid, GError **error)
{
  ObjectHandle *odb = api_odb (call, error);
  GsObjectType type;
  guint64 size;
  GsOid peeled;
  if (odb == NULL || !odb_header (call->repo, odb, oid, &type, &size, error))
    return FALSE;
  if (type == wanted)
    return TRUE;
  if (!odb_peel (call->repo, odb, oid, &peeled, &type, error))
    {
      api_name_loss (call, oid, error);
      return FALSE;
    }
  if (wanted == GS_OBJECT_TREE && type == GS_OBJECT_COMMIT)
    {
      g_autoptr (GBytes) bytes = NULL;
      CommitParts parts;
      if (!api_read (call, &peeled, GS_OBJECT_COMMIT, API_COMMIT_MAX, &bytes, error)
          || !api_commit_parse (call, &peeled, g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), &parts, error))
        return FALSE;
      peeled = parts.tree;
      type = GS_OBJECT_TREE;
    }
  if (wanted != GS_OBJECT_NONE && type != wanted)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "%s: it leads to a %s, not to a %s", field, odb_type_name (type),
                    odb_type_name (wanted));
  *oid = peeled;
  return TRUE;
}

static gboolean
parent_of (GitCall *call, const char *field, guint64 n, GsOid *oid, GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  const gsize hex_len = 2 * (gsize) call->repo->format;
  guint64 n_parents = 0;
  GsOid link, wanted = { .len = 0 };
  gsize len;
  const char *at, *end;
  /* Nothing of the commits on the way is kept: a revision may name a million of them. */
  if (!api_read (call, oid, GS_OBJECT_COMMIT, API_COMMIT_MAX, &bytes, error))
    return FALSE;
  at = g_bytes_get_data (bytes, &len);
  end = at + len;
  if (!odb_parse_link (at, len, "tree", &link))
    {
      gs_fail (error, GS_ERROR_DATA_LOSS, "it names no tree");
      api_name_loss (call, oid, error);
      return FALSE;
    }
  for (at += strlen ("tree ") + hex_len + 1; at < end && odb_parse_link (at, (gsize) (end - at), "parent", &link);
       at += strlen ("parent ") + hex_len + 1)
    if (++n_parents == n)
      wanted = link;
  if (wanted.len == 0)
    {
      char hex[GS_OID_HEX_MAX + 1];
      gs_oid_hex (oid, hex);
      return gs_fail (error, GS_ERROR_NOT_FOUND,
                      "%s: commit %s has %" G_GUINT64_FORMAT " parents, not %" G_GUINT64_FORMAT, field, hex, n_parents,
                      n);
    }
  *oid = wanted;
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

/* "^{...}" at @at. */
static gboolean
apply_type (GitCall *call, const char **at, const char *field, GsOid *oid, GError **error)
{
  for (GsObjectType type = GS_OBJECT_NONE; type <= GS_OBJECT_TAG; type++)
    {
      g_autofree char *text = g_strdup_printf ("^{%s}", type == GS_OBJECT_NONE ? "" : odb_type_name (type));
      if (!g_str_has_prefix (*at, text))
        continue;
      *at += strlen (text);
      return peel_to (call, field, type, oid, error);
    }
  return bad (error, field, "^{...} takes commit, tree, blob, tag or nothing");
}

static gboolean
apply_suffixes (GitCall *call, const char *at, const char *field, GsOid *oid, GError **error)
{
  while (*at != '\0')
    {
      gboolean first = *at == '~';
      guint64 n = 1;
      if (g_str_has_prefix (at, "^{"))
        {
          if (!apply_type (call, &at, field, oid, error))
            return FALSE;
          continue;
        }
      if (*at != '~' && *at != '^')
        return bad (error, field, "something follows that is not understood");
      at++;
      if (!take_number (&at, field, &n, error) || !peel_to (call, field, GS_OBJECT_COMMIT, oid, error))
        return FALSE;
      if (!first && n > 0 && !parent_of (call, field, n, oid, error))
        return FALSE;
      for (guint64 i = 0; first && i < n; i++)
        if (!gs_call_check (call->call, "find a revision", error) || !parent_of (call, field, 1, oid, error))
          return FALSE;
    }
  return TRUE;
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

static gboolean
resolve_path (GitCall *call, const char *path, const char *field, GsOid *base, GsObject *ret_object, GError **error)
{
  const ProtobufCBinaryData bytes = { strlen (path), (guint8 *) path };
  gboolean found;
  char *checked;
  if (!api_take_path (call, &bytes, field, TRUE, &checked, error) || !peel_to (call, field, GS_OBJECT_TREE, base, error)
      || !api_find_path (call, base, checked, ret_object, &found, error))
    return FALSE;
  return found || gs_fail (error, GS_ERROR_NOT_FOUND, "%s: there is no path %s", field, checked);
}

/* ------------------------------------------------------------------------------------------- doors */

static gboolean
resolve (GitCall *call, const char *revision, const char *field, GsObject *ret_object, GError **error)
{
  gsize colon = strcspn (revision, ":"), name = strcspn (revision, "~^:");
  g_autofree char *base = g_strndup (revision, name);
  g_autofree char *suffixes = g_strndup (revision + name, colon - name);
  GsObject object = { .size = sizeof object };
  ObjectHandle *odb = api_odb (call, error);
  GsOid oid;
  for (gsize i = 0; i < colon; i++)
    if (g_ascii_iscntrl (revision[i]) || revision[i] == ' ')
      return bad (error, field, "it has a control character or a space");
  if (odb == NULL || !resolve_base (call, base, field, &oid, error)
      || !apply_suffixes (call, suffixes, field, &oid, error))
    return FALSE;
  if (revision[colon] == ':')
    {
      if (!resolve_path (call, revision + colon + 1, field, &oid, &object, error))
        return FALSE;
    }
  else
    object.oid = oid;
  /* A submodule's commit is in another repository. */
  if (object.mode != 0160000)
    {
      gboolean there = odb_header (call->repo, odb, &object.oid, &object.type, &object.object_bytes, error);
      /* What a name or a tree leads to has to be there; a bare id has not. */
      if (!there && (object.mode != 0 || strlen (base) != 2 * (gsize) call->repo->format || *suffixes != '\0'))
        api_name_loss (call, &object.oid, error);
      if (!there)
        return FALSE;
    }
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

gboolean
api_resolve (GitCall *call, const char *revision, const char *field, GsObject *ret_object, GError **error)
{
  return name_field (resolve (call, revision, field, ret_object, error), field, error);
}

gboolean
api_take_revision (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsObject *ret_object,
                   GError **error)
{
  char *text;
  return api_take_text (call, bytes, field, &text, error) && api_resolve (call, text, field, ret_object, error);
}

static gboolean
take_as (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsObjectType wanted, GsOid *ret_oid,
         GError **error)
{
  GsObject object;
  if (!api_take_revision (call, bytes, field, &object, error))
    return FALSE;
  if (object.mode == 0160000)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "%s: it leads to a submodule, whose commit is in another repository",
                    field);
  if (!name_field (peel_to (call, field, wanted, &object.oid, error), field, error))
    return FALSE;
  *ret_oid = object.oid;
  return TRUE;
}

gboolean
api_take_commit (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsOid *ret_commit, GError **error)
{
  return take_as (call, bytes, field, GS_OBJECT_COMMIT, ret_commit, error);
}

gboolean
api_take_tree (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, GsOid *ret_tree, GError **error)
{
  return take_as (call, bytes, field, GS_OBJECT_TREE, ret_tree, error);
}

/* ------------------------------------------------------------------------------------------- sides */

/* Git knows it without having it. */
#define EMPTY_TREE "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

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
      left = parts.parents[n];
      if (!peel_to (call, "right", GS_OBJECT_TREE, &left, error))
        {
          api_name_loss (call, &parts.parents[n], error);
          return FALSE;
        }
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
