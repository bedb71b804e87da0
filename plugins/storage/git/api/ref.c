/* SPDX-License-Identifier: Apache-2.0 */
/* RefService: refs by pattern and target, sorted, with their commits and tags. All from one snapshot, in process. */
#include "api.h"

#include "../glob.h"

#include "gitstead/v1/ref.pb-c.h"

#define PATTERNS_MAX 100
#define POINTS_AT_MAX 1000
#define NAMES_MAX 1000
#define TAGS_MAX 64 /* of tags */
#define RICH_MAX 200 /* entries with commits or tags */
#define MESSAGE_DEFAULT 1024
#define MESSAGE_MAX (64u << 10)

/* ----------------------------------------------------------------------------------------- patterns */

static gboolean
matches_start (const char *pattern, const char *name)
{
  gsize len = strlen (pattern);
  return g_str_has_prefix (name, pattern)
         && (len > 0 && (pattern[len - 1] == '/' || name[len] == '/' || name[len] == '\0'));
}

static gboolean
matches (const char *const *patterns, const char *name)
{
  if (*patterns == NULL)
    return TRUE;
  for (; *patterns != NULL; patterns++)
    if (matches_start (*patterns, name) || (strpbrk (*patterns, "*?") != NULL && glob_matches (*patterns, name)))
      return TRUE;
  return FALSE;
}

static gboolean
take_patterns (GitCall *call, const ProtobufCBinaryData *bytes, gsize n, const char *const **ret_patterns,
               GError **error)
{
  const char **patterns = api_alloc (call, (n + 1) * sizeof *patterns);
  if (n > PATTERNS_MAX)
    return api_invalid (error, "patterns", "%" G_GSIZE_FORMAT " given, up to %d are taken", n, PATTERNS_MAX);
  for (gsize i = 0; i < n; i++)
    {
      char *pattern;
      if (!api_take_text (call, &bytes[i], "patterns", &pattern, error))
        return FALSE;
      if (!g_str_has_prefix (pattern, "refs/") && strchr ("*?", *pattern) == NULL)
        return api_invalid (error, "patterns", "'%s' can match no ref: they begin with refs/", pattern);
      if (glob_fault (pattern) != NULL)
        return api_invalid (error, "patterns", "'%s': %s", pattern, glob_fault (pattern));
      patterns[i] = pattern;
    }
  *ret_patterns = patterns;
  return TRUE;
}

/* -------------------------------------------------------------------------------------------- tags */

/* The lines of a tag's header. */
typedef struct
{
  GsOid target;
  GsObjectType type;
  const char *name, *tagger, *message, *signature; /* signature: in the message, its end when there is none */
  gsize name_len, tagger_len;
  const char *end;
} TagParts;

static const char *
take_line (const char *at, const char *end, const char *field, const char **ret_value, gsize *ret_len)
{
  gsize len = strlen (field);
  const char *newline = at < end ? memchr (at, '\n', (gsize) (end - at)) : NULL;
  if (newline == NULL || (gsize) (newline - at) < len || memcmp (at, field, len) != 0)
    return at;
  *ret_value = at + len;
  *ret_len = (gsize) (newline - at) - len;
  return newline + 1;
}

/* The last signature that begins a line: git's own rule. */
static const char *
find_signature (const char *message, const char *end)
{
  const char *found = end;
  for (const char *at = message; at < end;)
    {
      const char *newline = memchr (at, '\n', (gsize) (end - at));
      Gitstead__V1__SignatureKind kind = api_signature_kind (at, (gsize) (end - at));
      if (kind != GITSTEAD__V1__SIGNATURE_KIND__SIGNATURE_OTHER && kind != GITSTEAD__V1__SIGNATURE_KIND__SIGNATURE_NONE)
        found = at;
      at = newline != NULL ? newline + 1 : end;
    }
  return found;
}

static gboolean
parse_tag (GitCall *call, const GsOid *oid, const char *data, gsize len, TagParts *ret_parts, GError **error)
{
  TagParts parts = { .end = data + len };
  const char *at = data, *type = NULL;
  gsize type_len = 0;
  if (!odb_parse_link (at, len, "object", &parts.target))
    {
      gs_fail (error, GS_ERROR_DATA_LOSS, "it names no object");
      api_name_loss (call, oid, error);
      return FALSE;
    }
  at += strlen ("object ") + 2 * (gsize) call->repo->format + 1;
  at = take_line (at, parts.end, "type ", &type, &type_len);
  for (GsObjectType each = GS_OBJECT_COMMIT; type != NULL && each <= GS_OBJECT_TAG; each++)
    if (strlen (odb_type_name (each)) == type_len && memcmp (odb_type_name (each), type, type_len) == 0)
      parts.type = each;
  at = take_line (at, parts.end, "tag ", &parts.name, &parts.name_len);
  at = take_line (at, parts.end, "tagger ", &parts.tagger, &parts.tagger_len);
  /* Fields that nobody knows, then an empty line. */
  while (at < parts.end && *at != '\n')
    {
      const char *newline = memchr (at, '\n', (gsize) (parts.end - at));
      at = newline != NULL ? newline + 1 : parts.end;
    }
  parts.message = at < parts.end ? at + 1 : parts.end;
  parts.signature = find_signature (parts.message, parts.end);
  *ret_parts = parts;
  return TRUE;
}

static gboolean
read_tag (GitCall *call, const GsOid *oid, guint64 message_max, gboolean signature, Gitstead__V1__Tag **ret_tag,
          GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  Gitstead__V1__Tag *tag;
  TagParts parts;
  if (!api_read (call, oid, GS_OBJECT_TAG, ODB_TAG_MAX, &bytes, error)
      || !parse_tag (call, oid, g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), &parts, error))
    return FALSE;
  const char *data = g_bytes_get_data (bytes, NULL);
  gsize message = (gsize) (parts.signature - parts.message), signed_len = (gsize) (parts.end - parts.signature);
  tag = api_message (call, &gitstead__v1__tag__descriptor);
  tag->oid = api_hex (call, oid);
  tag->name = api_bytes (call, parts.name, parts.name_len);
  tag->target = api_hex (call, &parts.target);
  tag->target_type = (Gitstead__V1__ObjectType) parts.type;
  if (parts.tagger != NULL)
    tag->tagger = api_person (call, parts.tagger, parts.tagger_len);
  tag->message = api_bytes (call, parts.message, MIN (message, message_max));
  tag->message_size = message;
  tag->signature_kind = api_signature_kind (parts.signature, signed_len);
  if (signature && signed_len > 0)
    {
      if (g_bytes_get_size (bytes) > API_PAGE_BYTES / 2)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                        "signatures: tag %s has %" G_GSIZE_FORMAT " bytes, too many for a reply", tag->oid,
                        g_bytes_get_size (bytes));
      tag->signature = api_message (call, &gitstead__v1__object_signature__descriptor);
      tag->signature->oid = tag->oid;
      tag->signature->kind = tag->signature_kind;
      tag->signature->signature = api_bytes (call, parts.signature, signed_len);
      tag->signature->payload = api_bytes (call, data, (gsize) (parts.signature - data));
    }
  *ret_tag = tag;
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- entries */

typedef struct
{
  gboolean commits, tags, signatures;
  guint64 message_max;
} Wanted;

/* @name and @oid of a ref; @peeled of an annotated tag. */
static gboolean
make_entry (GitCall *call, const Wanted *wanted, const char *name, const RefEntry *ref, const char *symref,
            Gitstead__V1__RefEntry **ret_entry, GError **error)
{
  Gitstead__V1__RefEntry *entry = api_message (call, &gitstead__v1__ref_entry__descriptor);
  const GsOid *leads_to = ref->peeled.len > 0 ? &ref->peeled : &ref->oid;
  entry->ref = api_message (call, &gitstead__v1__ref__descriptor);
  entry->ref->name = api_bytes (call, name, strlen (name));
  entry->ref->oid = api_hex (call, &ref->oid);
  entry->ref->peeled = api_hex (call, &ref->peeled);
  if (symref != NULL)
    entry->ref->symref_target = api_bytes (call, symref, strlen (symref));
  if (wanted->tags && ref->peeled.len > 0
      && !read_tag (call, &ref->oid, wanted->message_max, wanted->signatures, &entry->tag, error))
    return FALSE;
  if (wanted->commits && leads_to->len > 0)
    {
      ObjectHandle *odb = api_odb (call, error);
      GsObjectType type;
      guint64 size;
      if (odb == NULL)
        return FALSE;
      if (!odb_header (call->repo, odb, leads_to, &type, &size, error))
        {
          api_name_loss (call, leads_to, error);
          return FALSE;
        }
      if (type == GS_OBJECT_COMMIT && !api_commit_message (call, leads_to, wanted->message_max, &entry->commit, error))
        return FALSE;
    }
  *ret_entry = entry;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- query */

/* A ref that is listed, with its place in the order. */
typedef struct
{
  gint64 date;
  const char *name;
  gsize index; /* in the snapshot */
} Row;

typedef struct
{
  Gitstead__V1__RefSort by;
  gboolean descending;
} Order;

static gint
compare_rows (gconstpointer a, gconstpointer b, gpointer user)
{
  const Row *left = a, *right = b;
  const Order *order = user;
  gint way = 0;
  if (order->by == GITSTEAD__V1__REF_SORT__REF_SORT_DATE)
    way = left->date < right->date ? -1 : left->date > right->date;
  else if (order->by == GITSTEAD__V1__REF_SORT__REF_SORT_VERSION)
    way = strverscmp (left->name, right->name);
  else
    way = strcmp (left->name, right->name);
  if (order->descending)
    way = -way;
  return way != 0 ? way : strcmp (left->name, right->name);
}

static gboolean
creator_date (GitCall *call, const RefEntry *ref, gint64 *ret_date, GError **error)
{
  ObjectHandle *odb = api_odb (call, error);
  g_autoptr (GBytes) bytes = NULL;
  GsObjectType type;
  guint64 size;
  *ret_date = 0;
  if (odb == NULL)
    return FALSE;
  if (!odb_header (call->repo, odb, &ref->oid, &type, &size, error))
    {
      api_name_loss (call, &ref->oid, error);
      return FALSE;
    }
  if (type != GS_OBJECT_COMMIT && type != GS_OBJECT_TAG)
    return TRUE;
  if (!api_read (call, &ref->oid, type, API_COMMIT_MAX, &bytes, error))
    return FALSE;
  if (type == GS_OBJECT_TAG)
    {
      TagParts parts;
      if (!parse_tag (call, &ref->oid, g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), &parts, error))
        return FALSE;
      *ret_date = parts.tagger != NULL ? api_person_time (parts.tagger, parts.tagger_len) : 0;
    }
  else
    {
      CommitParts parts;
      if (!api_commit_parse (call, &ref->oid, g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), &parts, error))
        return FALSE;
      *ret_date = api_person_time (parts.committer, parts.committer_len);
    }
  return TRUE;
}

static gboolean
one_of (const GsOid *oid, const GsOid *oids, gsize n)
{
  for (gsize i = 0; i < n; i++)
    if (gs_oid_equal (oid, &oids[i]))
      return TRUE;
  return FALSE;
}

/* Itself, what it leads to, or a tag on the way. */
static gboolean
points_at_one (GitCall *call, const RefEntry *ref, const GsOid *oids, gsize n, gboolean *ret_yes, GError **error)
{
  GsOid at = ref->oid;
  *ret_yes = n == 0 || one_of (&ref->oid, oids, n) || one_of (&ref->peeled, oids, n);
  for (guint depth = 0; depth < TAGS_MAX && !*ret_yes && ref->peeled.len > 0 && !gs_oid_equal (&at, &ref->peeled);
       depth++)
    {
      g_autoptr (GBytes) bytes = NULL;
      TagParts parts;
      if (!api_read (call, &at, GS_OBJECT_TAG, ODB_TAG_MAX, &bytes, error)
          || !parse_tag (call, &at, g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), &parts, error))
        return FALSE;
      at = parts.target;
      *ret_yes = one_of (&at, oids, n);
    }
  return TRUE;
}

/* What a page may show: the first @most rows behind @start that the order has, however many refs there are. */
typedef struct
{
  const Gitstead__V1__RefQueryRequest *request;
  const char *const *patterns;
  GsOid *oids; /* of points_at */
  Order order;
  Row start;   /* name NULL: from the beginning */
  gsize most;
  GArray *rows; /* by name: in order; otherwise a heap, the last row of the order first */
} Selection;

/* Puts rows->data[@i] where it belongs among those below it. */
static void
sift_down (Row *rows, gsize n, gsize i, Order *order)
{
  for (gsize child; (child = 2 * i + 1) < n; i = child)
    {
      if (child + 1 < n && compare_rows (&rows[child + 1], &rows[child], order) > 0)
        child++;
      if (compare_rows (&rows[child], &rows[i], order) <= 0)
        return;
      Row swap = rows[child];
      rows[child] = rows[i];
      rows[i] = swap;
    }
}

static void
keep_best (Selection *selection, const Row *row)
{
  GArray *rows = selection->rows;
  Row *heap = (Row *) (gpointer) rows->data;
  if (rows->len == selection->most)
    {
      if (compare_rows (row, &heap[0], &selection->order) >= 0)
        return;
      heap[0] = *row;
      sift_down (heap, rows->len, 0, &selection->order);
      return;
    }
  g_array_append_val (rows, *row);
  heap = (Row *) (gpointer) rows->data;
  for (gsize i = rows->len - 1; i > 0 && compare_rows (&heap[i], &heap[(i - 1) / 2], &selection->order) > 0;
       i = (i - 1) / 2)
    {
      Row swap = heap[i];
      heap[i] = heap[(i - 1) / 2];
      heap[(i - 1) / 2] = swap;
    }
}

static gboolean
consider (GitCall *call, Selection *selection, RefSnapshot *snapshot, gsize i, GError **error)
{
  const Gitstead__V1__RefQueryRequest *request = selection->request;
  Row row = { .index = i };
  gboolean wanted;
  RefEntry ref;
  ref_snapshot_get (snapshot, i, &ref);
  row.name = ref.name;
  if (!gs_call_check (call->call, "list refs", error))
    return FALSE;
  if (ref_name_hidden (call->repo->refs, ref.name) || !matches (selection->patterns, ref.name))
    return TRUE;
  /* As git does; but whoever asks for the commits is told that one is lost. */
  if (ref.missing && !request->commits && !request->tags)
    return TRUE;
  if (!points_at_one (call, &ref, selection->oids, request->n_points_at, &wanted, error))
    return FALSE;
  if (!wanted)
    return TRUE;
  if (request->sort == GITSTEAD__V1__REF_SORT__REF_SORT_DATE && !creator_date (call, &ref, &row.date, error))
    return FALSE;
  if (selection->start.name != NULL && compare_rows (&row, &selection->start, &selection->order) <= 0)
    return TRUE;
  if (selection->order.by == GITSTEAD__V1__REF_SORT__REF_SORT_DATE
      || selection->order.by == GITSTEAD__V1__REF_SORT__REF_SORT_VERSION)
    keep_best (selection, &row);
  else
    g_array_append_val (selection->rows, row);
  return TRUE;
}

/* The refs that begin as all patterns begin: [low, high) of the snapshot. */
static void
find_range (const RefSnapshot *snapshot, const char *const *patterns, gsize *ret_low, gsize *ret_high)
{
  gsize len = *patterns != NULL ? strcspn (*patterns, "*?") : 0;
  for (const char *const *each = patterns; *each != NULL; each++)
    {
      gsize same = 0;
      while (same < len && (*each)[same] == (*patterns)[same])
        same++;
      len = same;
    }
  g_autofree char *prefix = g_strndup (*patterns != NULL ? *patterns : "", len);
  *ret_low = ref_snapshot_seek (snapshot, prefix);
  while (len > 0 && (guchar) prefix[len - 1] == 0xff)
    prefix[--len] = '\0';
  if (len > 0)
    prefix[len - 1]++;
  *ret_high = len > 0 ? ref_snapshot_seek (snapshot, prefix) : ref_snapshot_count (snapshot);
}

/* By name the page is looked up; in another order every ref has to be looked at, but only a page's are kept. */
static gboolean
collect (GitCall *call, Selection *selection, RefSnapshot *snapshot, GError **error)
{
  gboolean by_name = selection->order.by != GITSTEAD__V1__REF_SORT__REF_SORT_DATE
                     && selection->order.by != GITSTEAD__V1__REF_SORT__REF_SORT_VERSION;
  gboolean back = by_name && selection->order.descending;
  gsize low, high;
  find_range (snapshot, selection->patterns, &low, &high);
  if (by_name && selection->start.name != NULL)
    {
      gsize at = ref_snapshot_seek (snapshot, selection->start.name);
      low = back ? low : MAX (low, at);
      high = back ? MIN (high, at) : high;
    }
  for (; low < high && (!by_name || selection->rows->len < selection->most); low += !back, high -= back)
    if (!consider (call, selection, snapshot, back ? high - 1 : low, error))
      return FALSE;
  if (!by_name)
    g_array_sort_with_data (selection->rows, compare_rows, &selection->order);
  return TRUE;
}

static gboolean
take_selection (GitCall *call, Selection *selection, GError **error)
{
  const Gitstead__V1__RefQueryRequest *request = selection->request;
  selection->oids = api_alloc (call, (request->n_points_at + 1) * sizeof *selection->oids);
  if (request->n_points_at > POINTS_AT_MAX)
    return api_invalid (error, "points_at", "%" G_GSIZE_FORMAT " given, up to %d are taken", request->n_points_at,
                        POINTS_AT_MAX);
  for (gsize i = 0; i < request->n_points_at; i++)
    if (!api_take_oid (call, request->points_at[i], "points_at", &selection->oids[i], error))
      return FALSE;
  return take_patterns (call, request->patterns, request->n_patterns, &selection->patterns, error);
}

/* The row behind which the page begins: "<date><name>". */
static gboolean
take_start (GitCall *call, const ApiPage *page, Row *ret_row, GError **error)
{
  if (page->state_len <= sizeof ret_row->date
      || memchr (page->state + sizeof ret_row->date, 0, page->state_len - sizeof ret_row->date) != NULL)
    return gs_page_bad (error);
  memcpy (&ret_row->date, page->state, sizeof ret_row->date);
  ret_row->name = api_text (call, (const char *) page->state + sizeof ret_row->date,
                            (gssize) (page->state_len - sizeof ret_row->date));
  return TRUE;
}

static ProtobufCBinaryData
start_token (GitCall *call, const Row *row)
{
  g_autoptr (GByteArray) state = g_byte_array_new ();
  g_byte_array_append (state, (const guint8 *) &row->date, sizeof row->date);
  g_byte_array_append (state, (const guint8 *) row->name, (guint) strlen (row->name));
  return api_page_token (call, state->data, state->len);
}

static gboolean
ref_query (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__RefQueryRequest *request = (const void *) message;
  Gitstead__V1__RefQueryReply *reply = (void *) answer;
  g_autoptr (GArray) rows = g_array_new (FALSE, FALSE, sizeof (Row));
  Wanted wanted = { request->commits, request->tags, request->signatures, 0 };
  Selection selection = { .request = request, .order = { request->sort, request->descending }, .rows = rows };
  RefSnapshot *snapshot;
  ApiPage page;
  if (!api_take_enum (&gitstead__v1__ref_sort__descriptor, (int) request->sort, "sort", error)
      || !api_take_limit (request->message_limit, MESSAGE_DEFAULT, MESSAGE_MAX, "message_limit", &wanted.message_max,
                          error)
      || !api_page_begin (call, request->page, &page, error)
      || (page.state != NULL && !take_start (call, &page, &selection.start, error)))
    return FALSE;
  if ((wanted.commits || wanted.tags) && !api_page_most (&page, request->page, RICH_MAX, error))
    return FALSE;
  selection.most = page.limit + 1; /* one more says that there is a next page */
  if (!take_selection (call, &selection, error) || (snapshot = api_refs (call, error)) == NULL
      || !collect (call, &selection, snapshot, error))
    return FALSE;
  for (guint i = 0; i < rows->len; i++)
    {
      const Row *row = &g_array_index (rows, Row, i);
      Gitstead__V1__RefEntry *entry;
      RefEntry ref;
      ref_snapshot_get (snapshot, row->index, &ref);
      if (!gs_call_check (call->call, "list refs", error)
          || (i < page.limit && !make_entry (call, &wanted, ref.name, &ref, NULL, &entry, error)))
        return FALSE;
      if (i >= page.limit || !api_page_room (&page, protobuf_c_message_get_packed_size (&entry->base) + 8))
        {
          reply->next_page_token = start_token (call, &g_array_index (rows, Row, i - 1));
          break;
        }
      API_APPEND (call, reply, refs, entry);
    }
  return TRUE;
}

/* --------------------------------------------------------------------------------------------- many */

static gboolean
ref_find_many (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__RefFindManyRequest *request = (const void *) message;
  Gitstead__V1__RefFindManyReply *reply = (void *) answer;
  Wanted wanted = { request->commits, request->tags, FALSE, 0 };
  RefSnapshot *snapshot = api_refs (call, error);
  gsize most = wanted.commits || wanted.tags ? RICH_MAX : NAMES_MAX, bytes = 0;
  if (snapshot == NULL || !api_take_count (request->n_names, most, "names", error)
      || !api_take_limit (request->message_limit, MESSAGE_DEFAULT, MESSAGE_MAX, "message_limit", &wanted.message_max,
                          error))
    return FALSE;
  for (gsize i = 0; i < request->n_names; i++)
    {
      Gitstead__V1__RefEntry *entry = api_message (call, &gitstead__v1__ref_entry__descriptor);
      const char *symref = NULL;
      RefEntry ref = { 0 };
      gboolean found;
      char *name;
      if (!gs_call_check (call->call, "find refs", error)
          || !api_take_text (call, &request->names[i], "names", &name, error))
        return FALSE;
      if (strcmp (name, "HEAD") == 0)
        {
          symref = ref_snapshot_head (snapshot);
          if (!ref_snapshot_find (snapshot, symref, &ref))
            ref = (RefEntry){ 0 };
          found = TRUE;
        }
      else if (!g_str_has_prefix (name, "refs/"))
        return api_invalid (error, "names", "'%s' is not below refs/, and not HEAD", name);
      else
        found = !ref_name_hidden (call->repo->refs, name) && ref_snapshot_find (snapshot, name, &ref) && !ref.missing;
      if (found && !make_entry (call, &wanted, name, &ref, symref, &entry, error))
        return FALSE;
      bytes += protobuf_c_message_get_packed_size (&entry->base) + 8;
      if (bytes > API_PAGE_BYTES)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "names: the reply would be too large: ask for fewer at once");
      API_APPEND (call, reply, refs, entry);
    }
  return TRUE;
}

const ApiRow api_ref_rows[] = {
  API_ROW (210, ref_query, ref_query_request, ref_query_reply),
  API_ROW (211, ref_find_many, ref_find_many_request, ref_find_many_reply),
  { 0 },
};
