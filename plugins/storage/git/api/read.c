/* SPDX-License-Identifier: Apache-2.0 */
/* Reading commits for the Git API: their parts, as lenient as git is, and as messages. See api.h. */
#include "api.h"

#define PARENTS_MAX 10000 /* kept for the whole call */

void
api_name_loss (GitCall *call, const GsOid *oid, GError **error)
{
  char hex[GS_OID_HEX_MAX + 1];
  if (error == NULL || *error == NULL || ((*error)->code != GS_ERROR_NOT_FOUND && (*error)->code != GS_ERROR_DATA_LOSS))
    return;
  g_autofree char *why = g_strdup ((*error)->message);
  g_clear_error (error);
  gs_oid_hex (oid, hex);
  gs_fail (error, GS_ERROR_DATA_LOSS, "object %s of repository %" G_GUINT64_FORMAT " is damaged or lost: %s", hex,
           call->repo->id, why);
}

gboolean
api_read (GitCall *call, const GsOid *oid, GsObjectType type, guint64 max, GBytes **ret_bytes, GError **error)
{
  ObjectHandle *odb = api_odb (call, error);
  GsObjectType found;
  GBytes *bytes;
  if (odb == NULL)
    return FALSE;
  if (!odb_read (call->repo, odb, oid, max, &found, &bytes, error))
    {
      api_name_loss (call, oid, error);
      return FALSE;
    }
  if (found != type)
    {
      g_bytes_unref (bytes);
      gs_fail (error, GS_ERROR_DATA_LOSS, "it is a %s where a %s belongs", odb_type_name (found), odb_type_name (type));
      api_name_loss (call, oid, error);
      return FALSE;
    }
  *ret_bytes = bytes;
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- commits */

static gboolean
no_commit (GitCall *call, const GsOid *oid, const char *why, GError **error)
{
  gs_fail (error, GS_ERROR_DATA_LOSS, "%s", why);
  api_name_loss (call, oid, error);
  return FALSE;
}

/* Is the line at @at one of field @name? Its content follows a space. */
static gboolean
is_field (const char *at, gsize len, const char *name)
{
  gsize n = strlen (name);
  return len > n && at[n] == ' ' && memcmp (at, name, n) == 0;
}

static void
take_field (CommitParts *parts, const char *at, gsize len)
{
  if (parts->author == NULL && is_field (at, len, "author"))
    {
      parts->author = at + strlen ("author ");
      parts->author_len = len - strlen ("author ");
    }
  else if (parts->committer == NULL && is_field (at, len, "committer"))
    {
      parts->committer = at + strlen ("committer ");
      parts->committer_len = len - strlen ("committer ");
    }
  else if (parts->encoding == NULL && is_field (at, len, "encoding"))
    {
      parts->encoding = at + strlen ("encoding ");
      parts->encoding_len = len - strlen ("encoding ");
    }
  else if (is_field (at, len, "gpgsig") || is_field (at, len, "gpgsig-sha256"))
    parts->is_signed = TRUE;
}

gboolean
api_commit_parse (GitCall *call, const GsOid *oid, const char *data, gsize len, CommitParts *ret_parts, GError **error)
{
  CommitParts parts = { .message = "" };
  const gsize hex = 2 * (gsize) call->repo->format;
  const char *at = data, *end = data + len;
  GsOid parent;
  if (!odb_parse_link (at, len, "tree", &parts.tree))
    return no_commit (call, oid, "it names no tree", error);
  for (at += strlen ("tree ") + hex + 1; odb_parse_link (at, (gsize) (end - at), "parent", &parent);
       at += strlen ("parent ") + hex + 1)
    {
      if (parts.n_parents >= PARENTS_MAX)
        return no_commit (call, oid, "it has too many parents", error);
      API_APPEND (call, &parts, parents, parent);
    }
  while (at < end && *at != '\n')
    {
      const char *line_end = memchr (at, '\n', (gsize) (end - at));
      line_end = line_end != NULL ? line_end : end;
      take_field (&parts, at, (gsize) (line_end - at));
      at = line_end < end ? line_end + 1 : end;
    }
  if (at < end)
    {
      parts.message = at + 1;
      parts.message_len = (gsize) (end - at - 1);
    }
  if (parts.author == NULL || parts.committer == NULL)
    return no_commit (call, oid, "it names no author or no committer", error);
  *ret_parts = parts;
  return TRUE;
}

/* -------------------------------------------------------------------------------------------- people */

typedef struct
{
  const char *name, *mail, *date, *zone;
  gsize name_len, mail_len, date_len, zone_len;
} Ident;

static void
split_ident (const char *line, gsize len, Ident *ret_ident)
{
  const char *end = line + len, *less = memchr (line, '<', len), *greater, *at;
  Ident ident = { .name = line };
  const char *name_end = less != NULL ? less : end;
  while (ident.name < name_end && g_ascii_isspace (*ident.name))
    ident.name++;
  while (name_end > ident.name && g_ascii_isspace (name_end[-1]))
    name_end--;
  ident.name_len = (gsize) (name_end - ident.name);
  *ret_ident = ident;
  if (less == NULL || (greater = memchr (less, '>', (gsize) (end - less))) == NULL)
    return;
  ident.mail = less + 1;
  ident.mail_len = (gsize) (greater - ident.mail);
  /* The date stands behind the last one: mails with '>' in them exist. */
  for (at = end; at[-1] != '>'; at--)
    ;
  while (at < end && *at == ' ')
    at++;
  ident.date = at;
  while (at < end && g_ascii_isdigit (*at))
    at++;
  ident.date_len = (gsize) (at - ident.date);
  while (at < end && *at == ' ')
    at++;
  if (ident.date_len > 0 && at < end && (*at == '+' || *at == '-'))
    {
      ident.zone = at++;
      while (at < end && g_ascii_isdigit (*at))
        at++;
      ident.zone_len = (gsize) (at - ident.zone);
    }
  *ret_ident = ident;
}

static gint64
ident_time (const Ident *ident)
{
  gint64 seconds = 0;
  for (gsize i = 0; i < ident->date_len; i++)
    {
      gint64 digit = ident->date[i] - '0';
      if (seconds > (G_MAXINT64 - digit) / 10)
        return 0;
      seconds = seconds * 10 + digit;
    }
  return seconds;
}

gint64
api_person_time (const char *line, gsize len)
{
  Ident ident;
  split_ident (line, len, &ident);
  return ident_time (&ident);
}

Gitstead__V1__Person *
api_person (GitCall *call, const char *line, gsize len)
{
  Gitstead__V1__Person *person = api_message (call, &gitstead__v1__person__descriptor);
  Ident ident;
  split_ident (line, len, &ident);
  person->name = api_bytes (call, ident.name, ident.name_len);
  person->email = api_bytes (call, ident.mail, ident.mail_len);
  person->seconds = ident_time (&ident);
  person->zone = api_bytes (call, ident.zone, ident.zone_len);
  return person;
}

gboolean
api_commit_read (GitCall *call, const GsOid *oid, guint64 message_max, GBytes **ret_bytes, CommitParts *ret_parts,
                 Gitstead__V1__Commit **ret_commit, GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  Gitstead__V1__Commit *commit;
  CommitParts parts;
  if (!api_read (call, oid, GS_OBJECT_COMMIT, API_COMMIT_MAX, &bytes, error)
      || !api_commit_parse (call, oid, g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), &parts, error))
    return FALSE;
  commit = api_message (call, &gitstead__v1__commit__descriptor);
  commit->oid = api_hex (call, oid);
  commit->tree = api_hex (call, &parts.tree);
  for (gsize i = 0; i < parts.n_parents; i++)
    API_APPEND (call, commit, parents, api_hex (call, &parts.parents[i]));
  commit->author = api_person (call, parts.author, parts.author_len);
  commit->committer = api_person (call, parts.committer, parts.committer_len);
  commit->message = api_bytes (call, parts.message, MIN (parts.message_len, message_max));
  commit->message_size = parts.message_len;
  commit->encoding = api_bytes (call, parts.encoding, parts.encoding_len);
  commit->signed_ = parts.is_signed;
  *ret_commit = commit;
  *ret_parts = parts;
  *ret_bytes = g_steal_pointer (&bytes);
  return TRUE;
}

gboolean
api_commit_message (GitCall *call, const GsOid *oid, guint64 message_max, Gitstead__V1__Commit **ret_commit,
                    GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  CommitParts parts;
  return api_commit_read (call, oid, message_max, &bytes, &parts, ret_commit, error);
}
