/* SPDX-License-Identifier: Apache-2.0 */
/* HistoryService: listing and counting commits, and the table of its methods. */
#include "api/history.h"

#include "api/details.h"
#include "expression.h"
#include "history/relate.h"
#include "history/walk.h"

#define TIPS_MAX 1000u
#define TEXTS_MAX 16u
#define TEXT_MAX 1024u
#define MESSAGE_MAX (64u << 10)
#define ID_BYTES 48          /* what a commit of which only the id is told takes */
#define TOKEN_TIPS_MAX 256u  /* more than these are not written into a token, only their sum */
#define GIT_COUNT_MAX 5000000u
#define REVERSE_MAX 1000000u

/* ------------------------------------------------------------------------------------------ shared */

gboolean
history_take (GitCall *call, HistView *view, const ProtobufCBinaryData *revision, const char *field, guint32 *ret_pos,
              GError **error)
{
  GsOid oid;
  if (!api_take_commit (call, revision, field, &oid, error))
    return FALSE;
  guint32 pos = hist_view_find (view, oid.raw, error);
  if (pos == HIST_NONE)
    return FALSE;
  *ret_pos = pos;
  return TRUE;
}

gboolean
history_message (GitCall *call, HistView *view, guint32 pos, gboolean ids_only, guint64 message_max,
                 Gitstead__V1__Commit **ret_commit, GError **error)
{
  GsOid oid;
  hist_view_gs_oid (view, pos, &oid);
  if (!ids_only)
    return api_commit_message (call, &oid, message_max, ret_commit, error);
  Gitstead__V1__Commit *commit = api_message (call, &gitstead__v1__commit__descriptor);
  commit->oid = api_hex (call, &oid);
  *ret_commit = commit;
  return TRUE;
}

void
history_commits_init (HistoryCommits *commits, GitCall *call, HistView *view, gboolean ids_only, guint64 message_max)
{
  *commits = (HistoryCommits){ call, view, ids_only, message_max, g_hash_table_new (NULL, NULL) };
}

void
history_commits_clear (HistoryCommits *commits)
{
  g_hash_table_unref (commits->known);
}

gboolean
history_commits_get (HistoryCommits *commits, guint32 pos, Gitstead__V1__Commit **ret_commit, gboolean *ret_new,
                     GError **error)
{
  Gitstead__V1__Commit *known = g_hash_table_lookup (commits->known, GUINT_TO_POINTER (pos));
  gboolean is_new = known == NULL;
  if (is_new
      && !history_message (commits->call, commits->view, pos, commits->ids_only, commits->message_max, &known, error))
    return FALSE;
  if (is_new)
    g_hash_table_insert (commits->known, GUINT_TO_POINTER (pos), known);
  *ret_commit = known;
  *ret_new = is_new;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ a range */

/** A HistoryRange, checked and resolved. */
typedef struct
{
  const Gitstead__V1__HistoryRange *range;
  GArray *include, *exclude; /* positions */
  HistWalkSpec spec;
  HistText *texts;
  gboolean by_git;
} Range;

static void
range_clear (Range *range)
{
  g_clear_pointer (&range->include, g_array_unref);
  g_clear_pointer (&range->exclude, g_array_unref);
  g_clear_pointer (&range->spec.paths, hist_paths_free);
}

static gboolean
take_texts (GitCall *call, const ProtobufCBinaryData *from, gsize n, const char *field,
            const Gitstead__V1__HistoryRange *range, const HistText **ret_texts, gsize *ret_n, GError **error)
{
  HistText *texts = api_alloc (call, (n + 1) * sizeof *texts);
  if (n > TEXTS_MAX)
    return api_invalid (error, field, "%" G_GSIZE_FORMAT " given, at most %u are taken", n, TEXTS_MAX);
  for (gsize i = 0; i < n; i++)
    {
      if (from[i].len == 0 || from[i].len > TEXT_MAX)
        return api_invalid (error, field, "a text has 1 to %u bytes", TEXT_MAX);
      if (memchr (from[i].data, '\n', from[i].len) != NULL || memchr (from[i].data, '\0', from[i].len) != NULL)
        return api_invalid (error, field, "a text has no newline and no NUL");
      if (range->regex && !expression_check ((const char *) from[i].data, from[i].len, field, error))
        return FALSE;
      char *text = api_text (call, (const char *) from[i].data, (gssize) from[i].len);
      for (char *at = text; range->ignore_case && *at != '\0'; at++)
        *at = g_ascii_tolower (*at);
      texts[i] = (HistText){ text, from[i].len };
    }
  *ret_texts = texts;
  *ret_n = n;
  return TRUE;
}

static gboolean
take_paths (GitCall *call, HistView *view, const Gitstead__V1__HistoryRange *from, Range *range, GError **error)
{
  gsize n = from->n_paths;
  if (n > HIST_PATHS_MAX)
    return api_invalid (error, "range.paths", "%" G_GSIZE_FORMAT " given, at most %u are taken", n, HIST_PATHS_MAX);
  if (from->follow && (n != 1 || from->order != GITSTEAD__V1__HISTORY_ORDER__HISTORY_ORDER_DATE))
    return api_invalid (error, "range.follow", "takes one path and the default order");
  if (n == 0)
    return TRUE;
  const char **texts = api_alloc (call, n * sizeof *texts);
  gsize *lens = api_alloc (call, n * sizeof *lens);
  for (gsize i = 0; i < n; i++)
    {
      char *path;
      if (!api_take_path (call, &from->paths[i], "range.paths", FALSE, &path, error))
        return FALSE;
      texts[i] = path;
      lens[i] = strlen (path);
    }
  range->spec.paths = hist_paths_new (view, texts, lens, (guint) n, error);
  return range->spec.paths != NULL;
}

static gboolean
take_conditions (GitCall *call, HistView *view, const Gitstead__V1__HistoryRange *from, Range *range, GError **error)
{
  HistWalkSpec *spec = &range->spec;
  if (!api_take_enum (&gitstead__v1__history_order__descriptor, (int) from->order, "range.order", error)
      || !api_take_enum (&gitstead__v1__history_merges__descriptor, (int) from->merges, "range.merges", error))
    return FALSE;
  if (from->since < 0 || from->until < 0)
    return api_invalid (error, from->since < 0 ? "range.since" : "range.until", "is negative");
  spec->order = (HistOrder) from->order;
  spec->first_parent = from->first_parent;
  spec->min_parents = from->merges == GITSTEAD__V1__HISTORY_MERGES__HISTORY_MERGES_ONLY ? 2 : 0;
  spec->max_parents = from->merges == GITSTEAD__V1__HISTORY_MERGES__HISTORY_MERGES_NONE ? 1 : G_MAXUINT32;
  spec->has_since = from->since > 0;
  spec->since = (guint64) from->since;
  spec->has_until = from->until > 0;
  spec->until = (guint64) from->until;
  spec->all_messages = from->all_messages;
  spec->ignore_case = from->ignore_case;
  range->by_git = from->follow || (from->regex && from->n_author + from->n_committer + from->n_message > 0);
  return api_take_prefixes (from->include_refs, from->n_include_refs, "range.include_refs", error)
         && api_take_prefixes (from->exclude_refs, from->n_exclude_refs, "range.exclude_refs", error)
         && take_texts (call, from->author, from->n_author, "range.author", from, &spec->author,
                     &spec->n_author, error)
         && take_texts (call, from->committer, from->n_committer, "range.committer", from, &spec->committer,
                        &spec->n_committer, error)
         && take_texts (call, from->message, from->n_message, "range.message", from, &spec->message,
                        &spec->n_message, error)
         && take_paths (call, view, from, range, error);
}

static gboolean
take_each (GitCall *call, HistView *view, const ProtobufCBinaryData *from, gsize n, const char *field, GArray *out,
           GError **error)
{
  guint32 pos;
  if (n > TIPS_MAX)
    return api_invalid (error, field, "%" G_GSIZE_FORMAT " given, at most %u are taken", n, TIPS_MAX);
  for (gsize i = 0; i < n; i++)
    {
      if (!gs_call_check (call->call, "resolve revisions", error)
          || !history_take (call, view, &from[i], field, &pos, error))
        return FALSE;
      g_array_append_val (out, pos);
    }
  return TRUE;
}

static gboolean
is_commit (GitCall *call, HistView *view, const GsOid *oid)
{
  ObjectHandle *odb = api_odb (call, NULL);
  GsObjectType type;
  guint64 size;
  guint32 pos;
  return (view->graph != NULL && hist_graph_find (view->graph, oid->raw, &pos))
         || (odb != NULL && odb_header (call->repo, odb, oid, &type, &size, NULL) && type == GS_OBJECT_COMMIT);
}

/* Those whose names begin with one of @prefixes; with none of these every one. */
static gboolean
add_refs (GitCall *call, HistView *view, const ProtobufCBinaryData *prefixes, gsize n_prefixes, GArray *out, GError **error)
{
  RefSnapshot *refs = api_refs (call, error);
  if (refs == NULL)
    return FALSE;
  for (gsize i = 0; i < ref_snapshot_count (refs); i++)
    {
      RefEntry entry;
      ref_snapshot_get (refs, i, &entry);
      const GsOid *oid = entry.peeled.len != 0 ? &entry.peeled : &entry.oid;
      if (i % HIST_TICK == 0 && !gs_call_check (call->call, "resolve refs", error))
        return FALSE;
      if (n_prefixes > 0 && !api_has_prefix (prefixes, n_prefixes, entry.name, entry.name_len))
        continue;
      if (entry.missing || ref_name_hidden (call->repo->refs, entry.name) || !is_commit (call, view, oid))
        continue;
      guint32 pos = hist_view_find (view, oid->raw, error);
      if (pos == HIST_NONE)
        return FALSE;
      g_array_append_val (out, pos);
    }
  return TRUE;
}

/* An empty repository has an empty history, as long as nobody names a revision of it. */
static gboolean
add_head (GitCall *call, HistView *view, GArray *out, gboolean may_lack, GError **error)
{
  const ProtobufCBinaryData head = { 4, (guint8 *) "HEAD" };
  g_autoptr (GError) why = NULL;
  guint32 pos;
  if (history_take (call, view, &head, "range.include", &pos, &why))
    g_array_append_val (out, pos);
  else if (!may_lack || why->code != GS_ERROR_NOT_FOUND)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  return TRUE;
}

static gboolean
take_tips (GitCall *call, HistView *view, const Gitstead__V1__HistoryRange *from, Range *range, GError **error)
{
  if (!take_each (call, view, from->include, from->n_include, "range.include", range->include, error)
      || !take_each (call, view, from->exclude, from->n_exclude, "range.exclude", range->exclude, error))
    return FALSE;
  if (from->all_refs && !add_refs (call, view, NULL, 0, range->include, error))
    return FALSE;
  if (from->n_include_refs > 0
      && !add_refs (call, view, from->include_refs, from->n_include_refs, range->include, error))
    return FALSE;
  if (from->n_exclude_refs > 0
      && !add_refs (call, view, from->exclude_refs, from->n_exclude_refs, range->exclude, error))
    return FALSE;
  if (from->all_refs || from->n_include + from->n_include_refs == 0)
    return add_head (call, view, range->include, from->all_refs, error);
  return TRUE;
}

/* After it, whether it failed or not, range_clear. */
static gboolean
range_begin (GitCall *call, HistView *view, const Gitstead__V1__HistoryRange *from, Range *range, GError **error)
{
  static const Gitstead__V1__HistoryRange everything = GITSTEAD__V1__HISTORY_RANGE__INIT;
  *range = (Range){ .range = from != NULL ? from : &everything };
  range->include = g_array_new (FALSE, FALSE, sizeof (guint32));
  range->exclude = g_array_new (FALSE, FALSE, sizeof (guint32));
  return take_conditions (call, view, range->range, range, error);
}

static void
range_ready (Range *range)
{
  range->spec.include = (const guint32 *) (gpointer) range->include->data;
  range->spec.n_include = range->include->len;
  range->spec.exclude = (const guint32 *) (gpointer) range->exclude->data;
  range->spec.n_exclude = range->exclude->len;
}

/* ------------------------------------------------------------------------------------------- pages */

/*
 * What a token holds: how many commits were given already, and the ids that the listing began at, so that the next page
 * is of the same history. Of very many ids only a sum: then the listing ends when refs move.
 */
typedef struct
{
  guint64 given, n_include, n_exclude; /* big endian */
} TokenHead;

static void
tips_sum (const HistView *view, const Range *range, guint8 ret_sum[32])
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  gsize len = 32;
  for (guint i = 0; i < range->include->len; i++)
    g_checksum_update (sum, hist_view_oid (view, g_array_index (range->include, guint32, i)), HIST_RAW);
  for (guint i = 0; i < range->exclude->len; i++)
    g_checksum_update (sum, hist_view_oid (view, g_array_index (range->exclude, guint32, i)), HIST_RAW);
  g_checksum_get_digest (sum, ret_sum, &len);
}

static ProtobufCBinaryData
make_token (GitCall *call, const HistView *view, const Range *range, guint64 given)
{
  g_autoptr (GByteArray) state = g_byte_array_new ();
  TokenHead head = { GUINT64_TO_BE (given), GUINT64_TO_BE ((guint64) range->include->len),
                     GUINT64_TO_BE ((guint64) range->exclude->len) };
  g_byte_array_append (state, (const guint8 *) &head, sizeof head);
  if (range->include->len + range->exclude->len > TOKEN_TIPS_MAX)
    {
      guint8 sum[32];
      tips_sum (view, range, sum);
      g_byte_array_append (state, sum, sizeof sum);
      return api_page_token (call, state->data, state->len);
    }
  for (guint i = 0; i < range->include->len; i++)
    g_byte_array_append (state, hist_view_oid (view, g_array_index (range->include, guint32, i)), HIST_RAW);
  for (guint i = 0; i < range->exclude->len; i++)
    g_byte_array_append (state, hist_view_oid (view, g_array_index (range->exclude, guint32, i)), HIST_RAW);
  return api_page_token (call, state->data, state->len);
}

static gboolean
tips_of_token (GitCall *call, HistView *view, const guint8 *at, guint64 n, GArray *out, GError **error)
{
  for (guint64 i = 0; i < n; i++, at += HIST_RAW)
    {
      GsOid oid = { .len = HIST_RAW };
      memcpy (oid.raw, at, HIST_RAW);
      if (!is_commit (call, view, &oid))
        return gs_page_bad (error);
      guint32 pos = hist_view_find (view, at, error);
      if (pos == HIST_NONE)
        return FALSE;
      g_array_append_val (out, pos);
    }
  return TRUE;
}

/* Where the listing goes on, with the tips it had. */
static gboolean
resume (GitCall *call, HistView *view, const ApiPage *page, Range *range, guint64 *ret_given, GError **error)
{
  TokenHead head;
  guint8 sum[32];
  if (page->state == NULL)
    {
      *ret_given = 0;
      return take_tips (call, view, range->range, range, error);
    }
  if (page->state_len < sizeof head)
    return gs_page_bad (error);
  memcpy (&head, page->state, sizeof head);
  guint64 n_include = GUINT64_FROM_BE (head.n_include), n_exclude = GUINT64_FROM_BE (head.n_exclude);
  gsize left = page->state_len - sizeof head;
  const guint8 *at = page->state + sizeof head;
  *ret_given = GUINT64_FROM_BE (head.given);
  if (n_include <= TOKEN_TIPS_MAX && n_exclude <= TOKEN_TIPS_MAX && n_include + n_exclude <= TOKEN_TIPS_MAX)
    {
      if (left != (n_include + n_exclude) * HIST_RAW)
        return gs_page_bad (error);
      return tips_of_token (call, view, at, n_include, range->include, error)
             && tips_of_token (call, view, at + n_include * HIST_RAW, n_exclude, range->exclude, error);
    }
  if (left != sizeof sum || !take_tips (call, view, range->range, range, error))
    return left == sizeof sum ? FALSE : gs_page_bad (error);
  tips_sum (view, range, sum);
  return memcmp (sum, at, sizeof sum) == 0
         || gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                     "refs have moved since the first page of this listing; begin again");
}

/* ------------------------------------------------------------------------------------------- listing */

/** A page of commits that is being filled. */
typedef struct
{
  GitCall *call;
  HistView *view;
  const Gitstead__V1__HistoryListRequest *request;
  Gitstead__V1__HistoryListReply *reply;
  ApiPage page;
  guint64 message_max;
  guint64 left;   /* of max_count: how many more there may be, on this page and later ones */
  guint64 n;
  gboolean more;  /* one did not go in that belongs to the next page */
  GArray *turned; /* with reverse: all positions, youngest first */
} Listing;

static gboolean
listing_message (Listing *listing, guint32 pos, Gitstead__V1__Commit **ret_commit, GError **error)
{
  GsOid oid;
  if (listing->request->ids_only)
    return history_message (listing->call, listing->view, pos, TRUE, 0, ret_commit, error);
  hist_view_gs_oid (listing->view, pos, &oid);
  return api_commit_detailed (listing->call, &oid, listing->message_max, listing->request->details, ret_commit, error);
}

/* *@ret_full: it did not go in. */
static gboolean
listing_add (Listing *listing, guint32 pos, gboolean *ret_full, GError **error)
{
  Gitstead__V1__Commit *commit;
  *ret_full = TRUE;
  if (listing->n >= listing->left)
    return TRUE;
  listing->more = TRUE;
  if (listing->page.n > 0 && listing->page.n >= listing->page.limit)
    return TRUE;
  if (!listing_message (listing, pos, &commit, error))
    return FALSE;
  if (!api_page_room (&listing->page, listing->request->ids_only ? ID_BYTES
                                                                  : protobuf_c_message_get_packed_size (&commit->base) + 8))
    return TRUE;
  API_APPEND (listing->call, listing->reply, commits, commit);
  listing->n++;
  *ret_full = listing->more = FALSE;
  return TRUE;
}

/* One commit of the listing as it comes. With reverse it is kept until all are there. */
static gboolean
listing_take (Listing *listing, guint32 pos, gboolean *ret_full, GError **error)
{
  if (listing->turned == NULL)
    return listing_add (listing, pos, ret_full, error);
  *ret_full = listing->request->max_count != 0 && listing->turned->len >= listing->request->max_count;
  if (*ret_full)
    return TRUE;
  if (listing->turned->len >= REVERSE_MAX)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "reverse: there are more than %u commits; max_count, skip or a smaller range "
                    "make them fewer", REVERSE_MAX);
  g_array_append_val (listing->turned, pos);
  return TRUE;
}

static gboolean
list_by_walk (Listing *listing, Range *range, guint64 skip, GError **error)
{
  GError *failed = NULL;
  HistWalk *walk = hist_walk_new (listing->view, &range->spec, error);
  gboolean full = FALSE;
  guint32 pos;
  if (walk == NULL)
    return FALSE;
  while (!full && hist_walk_next (walk, &pos, &failed))
    if (skip > 0)
      skip--;
    else if (!listing_take (listing, pos, &full, &failed))
      break;
  hist_walk_free (walk);
  if (failed == NULL)
    return TRUE;
  g_propagate_error (error, failed);
  return FALSE;
}

static gboolean
list_by_git (Listing *listing, Range *range, guint64 skip, GError **error)
{
  const guint64 most = listing->turned == NULL ? listing->page.limit + 1
                       : listing->request->max_count != 0 ? MIN (listing->request->max_count, REVERSE_MAX + 1)
                                                          : REVERSE_MAX + 1;
  g_autoptr (GByteArray) ids = g_byte_array_new ();
  g_autoptr (GArray) include = g_array_new (FALSE, FALSE, sizeof (GsOid)),
                     exclude = g_array_new (FALSE, FALSE, sizeof (GsOid));
  gboolean full = FALSE;
  for (guint i = 0; i < range->include->len + range->exclude->len; i++)
    {
      gboolean in = i < range->include->len;
      GsOid oid;
      hist_view_gs_oid (listing->view,
                        in ? g_array_index (range->include, guint32, i)
                           : g_array_index (range->exclude, guint32, i - range->include->len),
                        &oid);
      g_array_append_val (in ? include : exclude, oid);
    }
  if (!history_list_by_git (listing->call, range->range, include, exclude, skip, most, ids, error))
    return FALSE;
  for (guint i = 0; i < ids->len && !full; i += HIST_RAW)
    {
      guint32 pos = hist_view_find (listing->view, ids->data + i, error);
      if (pos == HIST_NONE || !listing_take (listing, pos, &full, error))
        return FALSE;
    }
  return TRUE;
}

/* The page of what was kept, from the end on; @given were on pages before. */
static gboolean
list_turned (Listing *listing, guint64 given, GError **error)
{
  gboolean full = FALSE;
  for (guint64 i = given; i < listing->turned->len && !full; i++)
    {
      guint32 pos = g_array_index (listing->turned, guint32, listing->turned->len - 1 - (guint) i);
      if (!listing_add (listing, pos, &full, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
list_range (Listing *listing, Range *range, GError **error)
{
  const guint64 most = listing->request->max_count;
  guint64 given = 0, skip = listing->request->skip;
  if (!resume (listing->call, listing->view, &listing->page, range, &given, error))
    return FALSE;
  range_ready (range);
  if (given > G_MAXINT64 || skip > G_MAXINT64)
    return api_invalid (error, "skip", "is too large");
  if (most != 0 && given > most)
    return gs_page_bad (error);
  listing->left = most != 0 ? most - given : G_MAXUINT64;
  if (listing->turned == NULL)
    skip += given;
  if (range->include->len == 0)
    return TRUE;
  if (!(range->by_git ? list_by_git (listing, range, skip, error) : list_by_walk (listing, range, skip, error))
      || (listing->turned != NULL && !list_turned (listing, given, error)))
    return FALSE;
  if (listing->more)
    listing->reply->next_page_token = make_token (listing->call, listing->view, range, given + listing->n);
  return TRUE;
}

static gboolean
take_list (Listing *listing, GError **error)
{
  const Gitstead__V1__HistoryListRequest *request = listing->request;
  if (!api_take_limit (request->message_limit, MESSAGE_MAX, MESSAGE_MAX, "message_limit", &listing->message_max, error)
      || !api_take_details (request->details, error) || !api_page_begin (listing->call, request->page, &listing->page, error)
      || !api_page_most (&listing->page, request->page, api_details_limit (request->details), error))
    return FALSE;
  return request->details == NULL || !request->ids_only || api_invalid (error, "details", "not together with ids_only");
}

static gboolean
history_list (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  Listing listing = { .call = call, .request = (const void *) message, .reply = (void *) answer };
  Range range;
  if (!take_list (&listing, error))
    return FALSE;
  g_autoptr (HistView) view = hist_view_open (call->repo, call->call, error);
  if (view == NULL)
    return FALSE;
  g_autoptr (GArray) turned = listing.request->reverse ? g_array_new (FALSE, FALSE, sizeof (guint32)) : NULL;
  listing.view = view;
  listing.turned = turned;
  gboolean done
      = range_begin (call, view, listing.request->range, &range, error) && list_range (&listing, &range, error);
  range_clear (&range);
  return done && api_add_details (call, listing.request->details, listing.reply->commits, listing.reply->n_commits, error);
}

/* ------------------------------------------------------------------------------------------ counting */

static gboolean
count_by_git (GitCall *call, HistView *view, const Range *range, guint64 limit, guint64 *ret_count, GError **error)
{
  g_autoptr (GByteArray) ids = g_byte_array_new ();
  g_autoptr (GArray) include = g_array_new (FALSE, FALSE, sizeof (GsOid)),
                     exclude = g_array_new (FALSE, FALSE, sizeof (GsOid));
  GsOid oid;
  for (guint i = 0; i < range->include->len; i++)
    {
      hist_view_gs_oid (view, g_array_index (range->include, guint32, i), &oid);
      g_array_append_val (include, oid);
    }
  for (guint i = 0; i < range->exclude->len; i++)
    {
      hist_view_gs_oid (view, g_array_index (range->exclude, guint32, i), &oid);
      g_array_append_val (exclude, oid);
    }
  if (!history_list_by_git (call, range->range, include, exclude, 0, MIN (limit, GIT_COUNT_MAX), ids, error))
    return FALSE;
  *ret_count = ids->len / HIST_RAW;
  return TRUE;
}

static gboolean
count_by_walk (HistView *view, const HistWalkSpec *spec, guint64 limit, guint64 *ret_count, GError **error)
{
  GError *failed = NULL;
  HistWalk *walk = hist_walk_new (view, spec, error);
  guint64 count = 0;
  guint32 pos;
  if (walk == NULL)
    return FALSE;
  while (count < limit && hist_walk_next (walk, &pos, &failed))
    count++;
  hist_walk_free (walk);
  if (failed != NULL)
    {
      g_propagate_error (error, failed);
      return FALSE;
    }
  *ret_count = count;
  return TRUE;
}

/* Reachability alone. */
static gboolean
is_plain (const HistWalkSpec *spec)
{
  return !spec->first_parent && !spec->has_since && !spec->has_until && spec->min_parents == 0
         && spec->max_parents == G_MAXUINT32 && spec->paths == NULL
         && spec->n_author + spec->n_committer + spec->n_message == 0;
}

static gboolean
count_range (GitCall *call, HistView *view, Range *range, guint64 limit, guint64 *ret_count, GError **error)
{
  const HistWalkSpec *spec = &range->spec;
  if (!take_tips (call, view, range->range, range, error))
    return FALSE;
  range_ready (range);
  *ret_count = 0;
  if (spec->n_include == 0)
    return TRUE;
  if (range->by_git)
    return count_by_git (call, view, range, limit, ret_count, error);
  if (!is_plain (spec) || (limit != G_MAXUINT64 && spec->n_exclude == 0))
    /* In the order that was asked for: where clocks are wrong it has a say in where the history ends. */
    return count_by_walk (view, spec, limit, ret_count, error);
  if (!hist_count (view, spec->include, spec->n_include, spec->exclude, spec->n_exclude, ret_count, error))
    return FALSE;
  *ret_count = MIN (*ret_count, limit);
  return TRUE;
}

static gboolean
history_count (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__HistoryCountRequest *request = (const void *) message;
  Gitstead__V1__HistoryCountReply *reply = (void *) answer;
  guint64 limit = request->limit != 0 ? request->limit : G_MAXUINT64;
  g_autoptr (HistView) view = hist_view_open (call->repo, call->call, error);
  Range range;
  if (view == NULL)
    return FALSE;
  gboolean done = range_begin (call, view, request->range, &range, error)
                  && count_range (call, view, &range, limit, &reply->count, error);
  range_clear (&range);
  return done;
}

const ApiRow api_history_rows[] = {
  API_ROW (240, history_refs_containing, history_refs_containing_request, history_refs_containing_reply),
  API_ROW (720, history_list, history_list_request, history_list_reply),
  API_ROW (721, history_count, history_count_request, history_count_reply),
  API_ROW (722, history_ahead_behind, history_ahead_behind_request, history_ahead_behind_reply),
  API_ROW (723, history_is_ancestor, history_is_ancestor_request, history_is_ancestor_reply),
  API_ROW (724, history_merge_base, history_merge_base_request, history_merge_base_reply),
  API_ROW (725, history_last_for_path, history_last_for_path_request, history_last_for_path_reply),
  API_ROW (726, history_last_for_tree, history_last_for_tree_request, history_last_for_tree_reply),
  API_ROW (727, history_blame, history_blame_request, history_blame_reply),
  { 0 },
};
