/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repository/Mirror: another server's repository gets what this one has. First what it has is read, then each ref is pushed
 * with the value that was read as a lease: what somebody moves there meanwhile is rejected, never overwritten.
 */
#include "transfer.h"

#include <string.h>

#define ANSWER_MAX (64u << 20)
#define PATTERNS_MAX 1000
#define LOOK_MAX 5000
#define BATCH 400 /* refs of one push: they stand in its command line */

typedef struct
{
  GitCall *call;
  const Gitstead__V1__RepositoryMirrorRequest *request; /* NULL: only to look */
  Remote remote;
  Guest guest;
  GPtrArray *patterns; /* char* of the call */
  GHashTable *theirs;
  GPtrArray *moves;
  guint64 unchanged;
} Mirror;

static void
mirror_clear (Mirror *mirror)
{
  guest_close (&mirror->guest);
  remote_clear (&mirror->remote);
  g_clear_pointer (&mirror->patterns, g_ptr_array_unref);
  g_clear_pointer (&mirror->theirs, g_hash_table_unref);
  g_clear_pointer (&mirror->moves, g_ptr_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Mirror, mirror_clear)

static gboolean
take_patterns (Mirror *mirror, const ProtobufCBinaryData *refs, gsize n, const char *const *fallback, GError **error)
{
  if (n > PATTERNS_MAX)
    return api_invalid (error, "refs", "up to %d are taken", PATTERNS_MAX);
  for (gsize i = 0; i < n; i++)
    {
      char *pattern, *star;
      if (!api_take_text (mirror->call, &refs[i], "refs", &pattern, error)
          || !rule_pattern_check (pattern, "refs", error))
        return FALSE;
      star = strchr (pattern, '*');
      if (star != NULL && star[1] != '\0')
        return api_invalid (error, "refs", "'%s' has its '*' elsewhere than at the end", pattern);
      g_ptr_array_add (mirror->patterns, pattern);
    }
  for (; n == 0 && *fallback != NULL; fallback++)
    g_ptr_array_add (mirror->patterns, (gpointer) *fallback);
  return TRUE;
}

static gboolean
is_covered (const Mirror *mirror, const char *name)
{
  if (ref_name_hidden (mirror->call->repo->refs, name) || !g_str_has_prefix (name, "refs/"))
    return FALSE;
  for (guint i = 0; i < mirror->patterns->len; i++)
    {
      g_autofree char *found = rule_map (mirror->patterns->pdata[i], mirror->patterns->pdata[i], name);
      if (found != NULL)
        return TRUE;
    }
  return FALSE;
}

static gboolean
read_theirs (Mirror *mirror, GError **error)
{
  const char *const argv[] = { "ls-remote", "--refs", "--", mirror->remote.url, NULL };
  g_autoptr (GBytes) output = NULL;
  return guest_run (&mirror->guest, &mirror->remote, argv, NULL, REFS_LIST_MAX, &output, NULL, error)
         && refs_table_read (mirror->theirs, mirror->call->storage, output, "", error);
}

/* ------------------------------------------------------------------------------------------- planning */

static gboolean
plan_ours (Mirror *mirror, RefSnapshot *refs, GError **error)
{
  guint looked = 0;
  for (gsize i = 0; i < ref_snapshot_count (refs); i++)
    {
      const GsOid *there;
      RefEntry here;
      Move *move;
      ref_snapshot_get (refs, i, &here);
      if (!is_covered (mirror, here.name))
        continue;
      if (!api_ref_whole (mirror->call, &here, error))
        return FALSE;
      there = g_hash_table_lookup (mirror->theirs, here.name);
      if (there != NULL && gs_oid_equal (there, &here.oid))
        {
          mirror->unchanged++;
          continue;
        }
      move = moves_add (mirror->moves, here.name, there, &here.oid);
      if (there != NULL && !move_judge (&mirror->guest, move, &looked, error))
        return FALSE;
      if (move->outcome == GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_REPLACED && mirror->request->keep_divergent)
        move->outcome = GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_DIVERGENT;
    }
  return TRUE;
}

/* What is there alone. With keep_divergent it is somebody's own work when we do not even have the object. */
static gboolean
plan_deletions (Mirror *mirror, RefSnapshot *refs, GError **error)
{
  ObjectHandle *odb = api_odb (mirror->call, error);
  GHashTableIter iter;
  gpointer name, oid;
  if (odb == NULL)
    return FALSE;
  g_hash_table_iter_init (&iter, mirror->theirs);
  while (g_hash_table_iter_next (&iter, &name, &oid))
    {
      RefEntry here;
      GsObjectType type;
      guint64 size;
      Move *move;
      if (!is_covered (mirror, name) || ref_snapshot_find (refs, name, &here) || !ref_name_valid (name, NULL))
        continue;
      move = moves_add (mirror->moves, name, oid, NULL);
      if (mirror->request->keep_divergent && !odb_header (mirror->call->repo, odb, oid, &type, &size, NULL))
        move->outcome = GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_DIVERGENT;
    }
  return TRUE;
}

/* -------------------------------------------------------------------------------------------- pushing */

static gboolean
is_pushed (const Move *move)
{
  return move->outcome != GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_DIVERGENT;
}

/* A porcelain line: "<flag>\t<from>:<to>\t<summary>". */
static void
take_answer (GHashTable *by_name, char *line)
{
  char *pair = strchr (line, '\t'), *summary = pair != NULL ? strchr (pair + 1, '\t') : NULL, *to;
  Move *move;
  if (summary == NULL || line[0] != '!')
    return;
  *summary = '\0';
  to = strrchr (pair + 1, ':');
  move = to != NULL ? g_hash_table_lookup (by_name, to + 1) : NULL;
  if (move == NULL)
    return;
  move->outcome = GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_REJECTED;
  g_free (move->reason);
  move->reason = g_utf8_make_valid (summary + 1, -1);
}

static gboolean
push_some (Mirror *mirror, GPtrArray *batch, GError **error)
{
  g_autoptr (GPtrArray) argv = g_ptr_array_new (), texts = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GHashTable) by_name = g_hash_table_new (g_str_hash, g_str_equal);
  g_autoptr (GBytes) output = NULL;
  int status;
  gsize len;
  g_ptr_array_add (argv, (gpointer) "push");
  g_ptr_array_add (argv, (gpointer) "--porcelain");
  g_ptr_array_add (argv, (gpointer) "--quiet");
  g_ptr_array_add (argv, (gpointer) "--no-verify");
  for (guint i = 0; i < batch->len; i++)
    {
      const Move *move = batch->pdata[i];
      char old_hex[GS_OID_HEX_MAX + 1];
      gs_oid_hex (&move->old_oid, old_hex);
      g_ptr_array_add (texts, g_strdup_printf ("--force-with-lease=%s:%s", move->name,
                                               gs_oid_is_zero (&move->old_oid) ? "" : old_hex));
      g_ptr_array_add (argv, g_ptr_array_index (texts, texts->len - 1));
      g_hash_table_insert (by_name, move->name, (gpointer) move);
    }
  g_ptr_array_add (argv, (gpointer) "--");
  g_ptr_array_add (argv, mirror->remote.url);
  for (guint i = 0; i < batch->len; i++)
    {
      const Move *move = batch->pdata[i];
      char new_hex[GS_OID_HEX_MAX + 1];
      gs_oid_hex (&move->new_oid, new_hex);
      g_ptr_array_add (texts, g_strdup_printf ("%s:%s", gs_oid_is_zero (&move->new_oid) ? "" : new_hex, move->name));
      g_ptr_array_add (argv, g_ptr_array_index (texts, texts->len - 1));
    }
  g_ptr_array_add (argv, NULL);
  if (!guest_run (&mirror->guest, &mirror->remote, (const char *const *) argv->pdata, NULL, ANSWER_MAX, &output, &status,
                  error))
    return FALSE;
  const char *data = g_bytes_get_data (output, &len);
  g_autofree char *text = g_strndup (data != NULL ? data : "", len);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  gboolean done = FALSE;
  for (char **line = lines; *line != NULL; line++)
    {
      done = done || strcmp (*line, "Done") == 0;
      take_answer (by_name, *line);
    }
  /* 1 is also what it says when the push as a whole failed: then there is nobody to blame by name. */
  if (status != 0)
    for (guint i = 0; i < batch->len; i++)
      done = done || ((const Move *) batch->pdata[i])->reason != NULL;
  return status == 0 || done
         || gs_fail (error, GS_ERROR_UNAVAILABLE, "git push with %s failed as a whole", mirror->remote.shown);
}

static gboolean
push_all (Mirror *mirror, GError **error)
{
  g_autoptr (GPtrArray) batch = g_ptr_array_new ();
  for (guint i = 0; i <= mirror->moves->len; i++)
    {
      if (i < mirror->moves->len && is_pushed (mirror->moves->pdata[i]))
        g_ptr_array_add (batch, mirror->moves->pdata[i]);
      if (batch->len > 0 && (batch->len == BATCH || i == mirror->moves->len))
        {
          if (!push_some (mirror, batch, error))
            return FALSE;
          g_ptr_array_set_size (batch, 0);
        }
    }
  return TRUE;
}

gboolean
api_repository_mirror (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  static const char *const own_names[] = { "refs/heads/*", "refs/tags/*", NULL };
  g_auto (Mirror) mirror = { .call = call, .request = (const void *) message };
  Gitstead__V1__RepositoryMirrorReply *reply = (void *) answer;
  RefSnapshot *refs;
  mirror.patterns = g_ptr_array_new ();
  mirror.theirs = refs_table_new ();
  mirror.moves = moves_new ();
  if (!take_patterns (&mirror, mirror.request->refs, mirror.request->n_refs, own_names, error)
      || !remote_take (call, mirror.request->remote, REMOTE_WRITE, &mirror.remote, error)
      || !guest_open (&mirror.guest, call, error) || !read_theirs (&mirror, error) || (refs = api_refs (call, error)) == NULL
      || !plan_ours (&mirror, refs, error) || (mirror.request->prune && !plan_deletions (&mirror, refs, error)))
    return FALSE;
  moves_sort (mirror.moves);
  if (!mirror.request->dry_run && !push_all (&mirror, error))
    return FALSE;
  reply->refs = moves_messages (call, mirror.moves, &reply->n_refs, &reply->more_refs);
  reply->unchanged = mirror.unchanged;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- looking */

static gboolean
read_head (Mirror *mirror, Gitstead__V1__RepositoryRemoteRefsReply *reply, GError **error)
{
  const char *const argv[] = { "ls-remote", "--symref", "--", mirror->remote.url, "HEAD", NULL };
  g_autoptr (GBytes) output = NULL;
  gsize len;
  if (!guest_run (&mirror->guest, &mirror->remote, argv, NULL, API_NAME_MAX * 4, &output, NULL, error))
    return FALSE;
  const char *data = g_bytes_get_data (output, &len);
  g_autofree char *text = g_strndup (data != NULL ? data : "", len);
  char *tab = strstr (text, "\tHEAD");
  if (g_str_has_prefix (text, "ref: ") && tab != NULL)
    {
      *tab = '\0';
      if (ref_name_valid (text + strlen ("ref: "), NULL))
        reply->head = api_bytes (mirror->call, text + strlen ("ref: "), strlen (text + strlen ("ref: ")));
    }
  return TRUE;
}

static int
by_text (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *) a, *(const char *const *) b);
}

gboolean
api_repository_remote_refs (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  static const char *const all[] = { "refs/*", NULL };
  const Gitstead__V1__RepositoryRemoteRefsRequest *request = (const void *) message;
  Gitstead__V1__RepositoryRemoteRefsReply *reply = (void *) answer;
  g_auto (Mirror) mirror = { .call = call };
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer name;
  gsize bytes = 0;
  mirror.patterns = g_ptr_array_new ();
  mirror.theirs = refs_table_new ();
  mirror.moves = moves_new ();
  if (!take_patterns (&mirror, request->refs, request->n_refs, all, error)
      || !remote_take (call, request->remote, REMOTE_READ, &mirror.remote, error) || !guest_open (&mirror.guest, call, error)
      || !read_theirs (&mirror, error) || !read_head (&mirror, reply, error))
    return FALSE;
  g_hash_table_iter_init (&iter, mirror.theirs);
  while (g_hash_table_iter_next (&iter, &name, NULL))
    if (is_covered (&mirror, name))
      g_ptr_array_add (names, name);
  g_ptr_array_sort (names, by_text);
  for (guint i = 0; i < names->len && i < LOOK_MAX && bytes < API_PAGE_BYTES; i++)
    {
      Gitstead__V1__Ref *ref = api_message (call, &gitstead__v1__ref__descriptor);
      ref->name = api_bytes (call, names->pdata[i], strlen (names->pdata[i]));
      ref->oid = api_hex (call, g_hash_table_lookup (mirror.theirs, names->pdata[i]));
      bytes += ref->name.len + 60;
      API_APPEND (call, reply, refs, ref);
    }
  reply->more_refs = names->len - reply->n_refs;
  return TRUE;
}
