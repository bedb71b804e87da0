/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Details of commits: see details.h. Trailers are found in the message that was read anyway; refs by one pass over the snapshot
 * for all commits of a reply; lines by one git process for all of them.
 */
#include "details.h"

#include "../trailers.h"

#define PREFIXES_MAX 64u
#define TRAILERS_MAX 200u
#define TRAILER_BYTES (32u << 10)     /* of all trailers of one commit */
#define REFS_MAX 100u                 /* of one commit */
#define REF_BYTES (256u << 10)        /* of one reply */
#define TICK 4096u

/* ---------------------------------------------------------------------------------------- prefixes */

gboolean
api_take_prefixes (const ProtobufCBinaryData *prefixes, gsize n, const char *field, GError **error)
{
  if (n > PREFIXES_MAX)
    return api_invalid (error, field, "%" G_GSIZE_FORMAT " given, at most %u are taken", n, PREFIXES_MAX);
  for (gsize i = 0; i < n; i++)
    {
      if (prefixes[i].len > API_NAME_MAX)
        return api_invalid (error, field, "has %" G_GSIZE_FORMAT " bytes; at most %d are taken", prefixes[i].len, API_NAME_MAX);
      if (prefixes[i].len < strlen ("refs/") || memcmp (prefixes[i].data, "refs/", strlen ("refs/")) != 0
          || memchr (prefixes[i].data, '\0', prefixes[i].len) != NULL)
        return api_invalid (error, field, "no ref begins so: their names begin with refs/ and have no NUL");
    }
  return TRUE;
}

gboolean
api_has_prefix (const ProtobufCBinaryData *prefixes, gsize n, const char *name, gsize name_len)
{
  for (gsize i = 0; i < n; i++)
    if (name_len >= prefixes[i].len && memcmp (name, prefixes[i].data, prefixes[i].len) == 0)
      return TRUE;
  return FALSE;
}

/* ---------------------------------------------------------------------------------------- trailers */

typedef struct
{
  GitCall *call;
  Gitstead__V1__Commit *commit;
  gsize bytes;
} Trailers;

static gboolean
add_trailer (const char *key, gsize key_len, const char *value, gsize value_len, gpointer user)
{
  Trailers *trailers = user;
  Gitstead__V1__Commit *commit = trailers->commit;
  Gitstead__V1__CommitTrailer *trailer;
  trailers->bytes += key_len + value_len;
  commit->trailers_cut = commit->n_trailers >= TRAILERS_MAX || trailers->bytes > TRAILER_BYTES;
  if (commit->trailers_cut)
    return FALSE;
  trailer = api_message (trailers->call, &gitstead__v1__commit_trailer__descriptor);
  trailer->key = api_bytes (trailers->call, key, key_len);
  trailer->value = api_bytes (trailers->call, value, value_len);
  API_APPEND (trailers->call, commit, trailers, trailer);
  return TRUE;
}

gboolean
api_commit_detailed (GitCall *call, const GsOid *oid, guint64 message_max, const Gitstead__V1__CommitDetails *details,
                     Gitstead__V1__Commit **ret_commit, GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  CommitParts parts;
  if (!api_commit_read (call, oid, message_max, &bytes, &parts, ret_commit, error))
    return FALSE;
  if (details != NULL && details->trailers)
    {
      Trailers trailers = { call, *ret_commit, 0 };
      trailers_parse (parts.message, parts.message_len, add_trailer, &trailers);
    }
  return TRUE;
}

/* -------------------------------------------------------------------------------------------- refs */

/* Which commits of a reply an id is: the same one may be there more than once. */
typedef struct
{
  GHashTable *first; /* hex -> index + 1 */
  guint *next;       /* index + 1 of another one with that id; 0 = none */
} Found;

static void
found_init (Found *found, GitCall *call, Gitstead__V1__Commit *const *commits, gsize n)
{
  found->first = g_hash_table_new (g_str_hash, g_str_equal);
  found->next = api_alloc (call, (n + 1) * sizeof *found->next);
  for (gsize i = 0; i < n; i++)
    if (commits[i] != NULL)
      {
        found->next[i] = GPOINTER_TO_UINT (g_hash_table_lookup (found->first, commits[i]->oid));
        g_hash_table_insert (found->first, commits[i]->oid, GUINT_TO_POINTER ((guint) i + 1));
      }
}

static void
add_ref (GitCall *call, Gitstead__V1__Commit *commit, const RefEntry *entry, gsize *left)
{
  commit->ref_count++;
  if (commit->n_refs >= REFS_MAX || entry->name_len > *left)
    return;
  *left -= entry->name_len;
  API_APPEND (call, commit, refs, api_bytes (call, entry->name, entry->name_len));
}

static gboolean
add_refs (GitCall *call, const Gitstead__V1__CommitDetails *details, Gitstead__V1__Commit *const *commits, gsize n,
          GError **error)
{
  RefSnapshot *refs = api_refs (call, error);
  gsize left = REF_BYTES;
  gboolean done = refs != NULL;
  Found found;
  if (!done)
    return FALSE;
  found_init (&found, call, commits, n);
  for (gsize i = 0; done && i < ref_snapshot_count (refs); i++)
    {
      RefEntry entry;
      char hex[GS_OID_HEX_MAX + 1];
      ref_snapshot_get (refs, i, &entry);
      done = i % TICK != 0 || gs_call_check (call->call, "find the refs of commits", error);
      if (entry.missing || ref_name_hidden (call->repo->refs, entry.name)
          || (details->n_ref_prefixes > 0
              && !api_has_prefix (details->ref_prefixes, details->n_ref_prefixes, entry.name, entry.name_len)))
        continue;
      gs_oid_hex (entry.peeled.len != 0 ? &entry.peeled : &entry.oid, hex);
      for (guint k = GPOINTER_TO_UINT (g_hash_table_lookup (found.first, hex)); k != 0; k = found.next[k - 1])
        add_ref (call, commits[k - 1], &entry, &left);
    }
  g_hash_table_unref (found.first);
  return done;
}

/* ------------------------------------------------------------------------------------------- lines */

/*
 * git diff-tree --stdin answers each pair of trees by a line with both ids, and by another one when they differ:
 * " 3 files changed, 2 insertions(+), 1 deletion(-)", of which what would be 0 is left out.
 */
typedef struct
{
  GitCall *call;
  GPtrArray *commits; /* of those asked for */
  const char *asked;  /* "<left> <right>\n" for each */
  gsize line;         /* length of one of these */
  guint n;            /* answered so far */
} Lines;

static gboolean
take_line (ApiFields *fields, const char *field, gsize len, gboolean *ret_enough, GError **error)
{
  Lines *lines = fields->user;
  Gitstead__V1__Commit *commit;
  (void) ret_enough;
  if (len > 0 && *field != ' ')
    {
      if (lines->n >= lines->commits->len || len != lines->line - 1
          || memcmp (field, lines->asked + lines->n * lines->line, len) != 0)
        return gs_fail (error, GS_ERROR_INTERNAL, "git diff-tree answered something else than it was asked");
      lines->n++;
      return TRUE;
    }
  if (lines->n == 0)
    return gs_fail (error, GS_ERROR_INTERNAL, "git diff-tree gave numbers before what they are of");
  commit = lines->commits->pdata[lines->n - 1];
  for (const char *at = field; at != NULL;)
    {
      char *word;
      guint64 number = g_ascii_strtoull (at + 1, &word, 10);
      if (g_str_has_prefix (word, " file"))
        commit->stats->files = number;
      else if (g_str_has_prefix (word, " insertion"))
        commit->stats->additions = number;
      else if (g_str_has_prefix (word, " deletion"))
        commit->stats->deletions = number;
      else
        return gs_fail (error, GS_ERROR_INTERNAL, "git diff-tree gave numbers that are not understood");
      at = strchr (word, ',');
    }
  return TRUE;
}

/* git goes on in silence after two trees of which it cannot read one. */
static gboolean
all_answered (const Lines *lines, GError **error)
{
  if (lines->n == lines->commits->len)
    return TRUE;
  const Gitstead__V1__Commit *commit = lines->commits->pdata[lines->n];
  return gs_fail (error, GS_ERROR_DATA_LOSS, "commit %s of repository %" G_GUINT64_FORMAT " cannot be compared: a tree is damaged or lost",
                  commit->oid, lines->call->repo->id);
}

static gboolean
add_lines (GitCall *call, Gitstead__V1__Commit *const *commits, gsize n, GError **error)
{
  static const char *const argv[] = { "diff-tree", "--stdin", "-r", "--shortstat", "--no-renames", "--no-ext-diff",
                                      "--no-textconv", NULL };
  const gsize line = 2 * (2 * (gsize) call->repo->format + 1);
  g_autoptr (GPtrArray) asked = g_ptr_array_new ();
  GString *input = g_string_new (NULL);
  gboolean done = TRUE;
  for (gsize i = 0; i < n && done; i++)
    {
      ApiSides sides;
      GsOid oid;
      if (commits[i] == NULL)
        continue;
      done = gs_call_check (call->call, "compare commits", error) && api_take_oid (call, commits[i]->oid, "oid", &oid, error)
             && api_parent_sides (call, &oid, 0, &sides, NULL, error);
      if (!done)
        break;
      commits[i]->stats = api_message (call, &gitstead__v1__commit_lines__descriptor);
      g_string_append_printf (input, "%s %s\n", sides.left, sides.right);
      g_ptr_array_add (asked, commits[i]);
    }
  g_autoptr (GBytes) bytes = g_string_free_to_bytes (input);
  Lines lines = { call, asked, g_bytes_get_data (bytes, NULL), line, 0 };
  ApiFields fields = { .separator = '\n', .max = 2 * line, .visit = take_line, .user = &lines };
  return done
         && (asked->len == 0
             || (api_run_fields (call, argv, bytes, NULL, &fields, error) && all_answered (&lines, error)));
}

/* --------------------------------------------------------------------------------------------- all */

gboolean
api_take_details (const Gitstead__V1__CommitDetails *details, GError **error)
{
  if (details == NULL)
    return TRUE;
  if (details->n_ref_prefixes > 0 && !details->refs)
    return api_invalid (error, "details.ref_prefixes", "only together with refs");
  return api_take_prefixes (details->ref_prefixes, details->n_ref_prefixes, "details.ref_prefixes", error);
}

gsize
api_details_limit (const Gitstead__V1__CommitDetails *details)
{
  return details != NULL && details->stats ? DETAILS_STATS_MAX : GS_PAGE_ENTRIES_MAX;
}

gboolean
api_add_details (GitCall *call, const Gitstead__V1__CommitDetails *details, Gitstead__V1__Commit *const *commits, gsize n,
                 GError **error)
{
  if (details == NULL || n == 0)
    return TRUE;
  return (!details->refs || add_refs (call, details, commits, n, error))
         && (!details->stats || add_lines (call, commits, n, error));
}
