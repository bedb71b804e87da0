/* SPDX-License-Identifier: Apache-2.0 */
/* What the calls of ChangeService have in common: see change.h. */
#include "change.h"

#include <string.h>
#include <wire/details.h>

#define ZONE_HOURS_MAX 14

/* ------------------------------------------------------------------------------------- the values */

static gboolean
is_all_of (const ProtobufCBinaryData *text, const char *characters)
{
  for (gsize i = 0; i < text->len; i++)
    if (text->data[i] == '\0' || strchr (characters, text->data[i]) == NULL)
      return FALSE;
  return TRUE;
}

gboolean
change_message (const ProtobufCBinaryData *message, const char *field, char **ret_text, GError **error)
{
  const char *data = (const char *) message->data;
  if (message->len == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: must not be empty", field);
  if (message->len > CHANGE_MESSAGE_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: has %" G_GSIZE_FORMAT " bytes; at most %u are taken", field,
                    message->len, CHANGE_MESSAGE_MAX);
  if (memchr (data, '\0', message->len) != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: has a NUL byte in it", field);
  if (is_all_of (message, " \t\n\v\f\r"))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: must not be empty, and there are only spaces in it", field);
  g_autofree char *text = g_strndup (data, message->len);
  *ret_text = data[message->len - 1] == '\n' ? g_steal_pointer (&text) : g_strconcat (text, "\n", NULL);
  return TRUE;
}

static char *
ident_part (const ProtobufCBinaryData *part, const char *field, const char *what, GError **error)
{
  static const char refused[] = "<>\n\r";
  const char *why = NULL;
  if (part->len == 0)
    why = "must not be empty";
  else if (part->len > PATH_MAX)
    why = "is too long";
  else if (memchr (part->data, '\0', part->len) != NULL)
    why = "has a NUL byte in it";
  else if (g_ascii_isspace (part->data[0]) || g_ascii_isspace (part->data[part->len - 1]))
    why = "begins or ends with a space";
  else if (is_all_of (part, ".,:;\"\\' "))
    why = "has nothing in it that git keeps of a name";
  for (gsize i = 0; why == NULL && i < part->len; i++)
    if (part->data[i] != '\0' && strchr (refused, part->data[i]) != NULL)
      why = "has '<', '>' or a line break in it";
  if (why == NULL)
    return g_strndup ((const char *) part->data, part->len);
  gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s.%s: %s", field, what, why);
  return NULL;
}

static gboolean
zone_valid (const ProtobufCBinaryData *bytes)
{
  const guint8 *zone = bytes->data;
  if (bytes->len != 5 || (zone[0] != '+' && zone[0] != '-'))
    return FALSE;
  for (int i = 1; i < 5; i++)
    if (!g_ascii_isdigit (zone[i]))
      return FALSE;
  return (zone[1] - '0') * 10 + zone[2] - '0' <= ZONE_HOURS_MAX && zone[3] < '6';
}

char *
change_ident (const Gitstead__V1__Person *user, const char *field, GError **error)
{
  g_autofree char *name = NULL, *email = NULL;
  if (user == NULL)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: must be set: a commit or tag says who made it", field);
      return NULL;
    }
  name = ident_part (&user->name, field, "name", error);
  email = name != NULL ? ident_part (&user->email, field, "email", error) : NULL;
  if (email == NULL)
    return NULL;
  if (user->seconds < 0)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s.seconds: %" G_GINT64_FORMAT " is before 1970", field,
               user->seconds);
      return NULL;
    }
  if (user->seconds > CHANGE_SECONDS_MAX)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
               "%s.seconds: %" G_GINT64_FORMAT " is after the year 2514, which is as far as git's commit-graph counts", field,
               user->seconds);
      return NULL;
    }
  if (!zone_valid (&user->zone))
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s.zone: must be an offset like +0200, of at most %d hours", field,
               ZONE_HOURS_MAX);
      return NULL;
    }
  return g_strdup_printf ("%s <%s> %" G_GINT64_FORMAT " %.5s", name, email, user->seconds,
                          (const char *) user->zone.data);
}

/* ----------------------------------------------------------------------------------------- begin */

static gboolean
take_ref (Change *change, const ProtobufCBinaryData *name, const char *field, const char *prefix, GError **error)
{
  g_autoptr (GError) why = NULL;
  RefSnapshot *refs;
  RefEntry entry;
  if (name->len == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: must not be empty", field);
  if (memchr (name->data, '\0', name->len) != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: has a NUL byte in it", field);
  g_autofree char *text = g_strndup ((const char *) name->data, name->len);
  change->ref_field = field;
  change->ref = g_str_has_prefix (text, "refs/") ? g_steal_pointer (&text) : g_strconcat (prefix, text, NULL);
  if (!ref_name_valid (change->ref, &why))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: %s", field, why->message);
  if (ref_name_hidden (change->repo->refs, change->ref))
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED, "%s: refs below %s are the server's own", field,
                    GIT_HIDDEN_REFS);
  refs = api_refs (&change->api, error);
  if (refs == NULL)
    return FALSE;
  change->old_oid = (GsOid){ .len = GS_FORMAT_SHA1 };
  if (ref_snapshot_find (refs, change->ref, &entry))
    change->old_oid = entry.oid;
  return TRUE;
}

static gboolean
check_expected (Change *change, const char *expected, const char *field, GError **error)
{
  GsOid oid;
  char has[GS_OID_HEX_MAX + 1];
  if (*expected == '\0')
    return TRUE;
  if (!api_take_oid (&change->api, expected, field, &oid, error))
    return FALSE;
  if (gs_oid_equal (&oid, &change->old_oid))
    return TRUE;
  gs_oid_hex (&change->old_oid, has);
  if (gs_oid_is_zero (&change->old_oid))
    gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s does not exist; %s says it is at %s", change->ref, field, expected);
  else
    gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s is at %s, not at %s", change->ref, has, expected);
  return gs_detail_differs (error, field, "ref", change->ref, expected, has);
}

gboolean
change_begin_ref (Change *change, const ProtobufCBinaryData *name, const char *field, const char *prefix,
                  const char *expected, gboolean dry_run, GError **error)
{
  change->dry_run = dry_run;
  if (!take_ref (change, name, field, prefix, error) || !check_expected (change, expected, "expected_old_oid", error))
    return FALSE;
  if (!g_str_has_prefix (change->ref, prefix))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: %s is not below %s", field, change->ref, prefix);
  return TRUE;
}

/* The commit that the change is made on. */
static gboolean
take_base (Change *change, const ProtobufCBinaryData *start, GError **error)
{
  gboolean exists = !gs_oid_is_zero (&change->old_oid);
  if (start->len > 0)
    {
      if (!api_take_commit (&change->api, start, "write.start", &change->base, error))
        return FALSE;
      if (exists && !change->force && !gs_oid_equal (&change->base, &change->old_oid))
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                        "%s exists: to begin it anew at write.start, so that its own commits may be lost, set "
                        "write.force",
                        change->ref);
    }
  else if (exists)
    {
      GsObjectType type;
      if (!draft_type (change->draft, &change->old_oid, &type, error))
        return FALSE;
      if (type != GS_OBJECT_COMMIT)
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s holds a %s, and no commit can be made on one",
                        change->ref, odb_type_name (type));
      change->base = change->old_oid;
    }
  return change->base.len == 0 || commit_tree (change, &change->base, &change->base_tree, error);
}

gboolean
change_begin (Change *change, const Gitstead__V1__ChangeWrite *write, gboolean need_committer, GError **error)
{
  if (write == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "write: must be set: it names the branch");
  change->force = write->force;
  change->dry_run = write->dry_run;
  if ((need_committer || write->committer != NULL)
      && (change->committer = change_ident (write->committer, "write.committer", error)) == NULL)
    return FALSE;
  if (write->author != NULL && (change->author = change_ident (write->author, "write.author", error)) == NULL)
    return FALSE;
  if (*write->expected_new_oid != '\0'
      && !api_take_oid (&change->api, write->expected_new_oid, "write.expected_new_oid", &change->expected_new, error))
    return FALSE;
  return take_ref (change, &write->branch, "write.branch", "refs/heads/", error)
         && check_expected (change, write->expected_old_oid, "write.expected_old_oid", error)
         && take_base (change, &write->start, error);
}

gboolean
change_need_base (Change *change, GError **error)
{
  return change->base.len != 0
         || gs_fail (error, GS_ERROR_NOT_FOUND, "there is no %s: write.start says where it shall begin", change->ref);
}

/* -------------------------------------------------------------------------------------- the result */

/* What git takes for an option or for another name, and what stands above or below a ref that is there. */
static gboolean
check_new_name (const Change *change, GError **error)
{
  const char *last = strchr (change->ref + strlen ("refs/"), '/');
  g_autofree char *name = g_strdup (change->ref), *below = g_strconcat (change->ref, "/", NULL);
  RefEntry entry;
  gsize at;
  if ((g_str_has_prefix (change->ref, "refs/heads/") || g_str_has_prefix (change->ref, "refs/tags/"))
      && (last[1] == '-' || strcmp (last, "/HEAD") == 0))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: '%s' is no name for a branch or tag: git takes it for something else",
                    change->ref_field, last + 1);
  for (char *slash; (slash = strrchr (name, '/')) != NULL;)
    {
      *slash = '\0';
      if (ref_snapshot_find (change->api.refs, name, &entry))
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s: '%s' exists; cannot create '%s'", change->ref_field, name,
                        change->ref);
    }
  at = ref_snapshot_seek (change->api.refs, below);
  if (at < ref_snapshot_count (change->api.refs))
    {
      ref_snapshot_get (change->api.refs, at, &entry);
      if (g_str_has_prefix (entry.name, below))
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s: '%s' exists; cannot create '%s'", change->ref_field,
                        entry.name, change->ref);
    }
  return TRUE;
}

gboolean
change_result (Change *change, const GsOid *oid, const GsOid *tree, GError **error)
{
  if (change->expected_new.len != 0 && !gs_oid_equal (&change->expected_new, oid))
    {
      char is[GS_OID_HEX_MAX + 1], expected[GS_OID_HEX_MAX + 1];
      gs_oid_hex (oid, is);
      gs_oid_hex (&change->expected_new, expected);
      return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                      "%s would get %s and not %s as expected: look at the result again", change->ref, is, expected);
    }
  if (gs_oid_is_zero (&change->old_oid) && !gs_oid_is_zero (oid) && !check_new_name (change, error))
    return FALSE;
  change->new_oid = *oid;
  if (tree != NULL)
    change->tree = *tree;
  if (gs_oid_equal (&change->new_oid, &change->old_oid))
    change->outcome = GITSTEAD__V1__CHANGE_OUTCOME__CHANGE_UNCHANGED;
  else
    change->outcome
        = change->dry_run ? GITSTEAD__V1__CHANGE_OUTCOME__CHANGE_DRY_RUN : GITSTEAD__V1__CHANGE_OUTCOME__CHANGE_DONE;
  return TRUE;
}

void
change_unchanged (Change *change)
{
  change->outcome = GITSTEAD__V1__CHANGE_OUTCOME__CHANGE_UNCHANGED;
  change->new_oid = change->old_oid;
  change->tree = change->base_tree;
}
