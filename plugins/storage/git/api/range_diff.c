/* SPDX-License-Identifier: Apache-2.0 */
/* Diff/Range: what `git range-diff` says of two series of commits, line by line. */
#include "diff.h"

#define COMMITS_MAX 500 /* git compares each with each */
#define FACTOR_DEFAULT 60
#define FACTOR_MAX 1000
#define PATCH_DEFAULT (32u << 10)
#define PATCH_MAX (256u << 10)
#define LINE_MAX_BYTES (64u << 10)
#define INDENT 4 /* of a patch's lines; numbers of at most COMMITS_MAX stand further left */

typedef struct
{
  const char *old_base, *old_tip, *new_base, *new_tip; /* ids */
} Series;

typedef struct
{
  GitCall *call;
  Gitstead__V1__DiffRangeReply *reply;
  Gitstead__V1__DiffRangePair *pair; /* the one whose patch is being read */
  GString *patch;
  gsize max, left; /* bytes: of each patch, of all */
  Gitstead__V1__DiffRangeStatus alone; /* what all have when one series is empty */
} Reader;

/* ------------------------------------------------------------------------------------------ reading */

static void
pair_done (Reader *reader)
{
  if (reader->pair == NULL)
    return;
  reader->left -= MIN (reader->left, reader->patch->len);
  reader->pair->patch = api_bytes (reader->call, reader->patch->str, reader->patch->len);
  g_string_truncate (reader->patch, 0);
}

/* "  2:  <id>", for none of them "  -:  -----". Where it ends; NULL when it is something else. */
static const char *
take_side (Reader *reader, const char *at, guint32 *ret_number, char **ret_oid)
{
  const gsize hex = 2 * (gsize) reader->call->repo->format;
  const char *colon;
  GsOid oid;
  at += strspn (at, " ");
  colon = at + strspn (at, "-0123456789");
  if (colon == at || !g_str_has_prefix (colon, ":  ") || strlen (colon) < hex + 3)
    return NULL;
  if (*at != '-')
    {
      if (!gs_oid_parse (colon + 3, hex, &oid))
        return NULL;
      *ret_number = (guint32) g_ascii_strtoull (at, NULL, 10);
      *ret_oid = api_hex (reader->call, &oid);
    }
  return colon + 3 + hex;
}

static gboolean
take_header (Reader *reader, const char *line)
{
  static const char signs[] = "?=!<>"; /* in the order of DiffRangeStatus */
  Gitstead__V1__DiffRangePair *pair = api_message (reader->call, &gitstead__v1__diff_range_pair__descriptor);
  const char *at = take_side (reader, line, &pair->old_number, &pair->old_oid), *sign;
  if (at == NULL || at[0] != ' ' || at[1] == '\0' || (sign = strchr (signs + 1, at[1])) == NULL || at[2] != ' '
      || take_side (reader, at + 2, &pair->new_number, &pair->new_oid) == NULL)
    return FALSE;
  pair->status = (Gitstead__V1__DiffRangeStatus) (sign - signs);
  pair_done (reader);
  reader->pair = pair;
  API_APPEND (reader->call, reader->reply, pairs, pair);
  return TRUE;
}

static gboolean
range_line (ApiFields *fields, const char *line, gsize len, gboolean *ret_enough, GError **error)
{
  Reader *reader = fields->user;
  gsize room = MIN (reader->max, reader->left);
  if (len < INDENT || memcmp (line, "    ", INDENT) != 0)
    return (len == 0 && reader->pair != NULL) || take_header (reader, line)
           || gs_fail (error, GS_ERROR_INTERNAL, "git range-diff gave a line that is not understood");
  if (reader->pair == NULL)
    return gs_fail (error, GS_ERROR_INTERNAL, "git range-diff gave a patch of nothing");
  line += INDENT;
  len -= INDENT;
  if (reader->pair->patch_cut || reader->patch->len + len + 1 > room || fields->cut > 0)
    reader->pair->patch_cut = TRUE;
  else
    g_string_append_c (g_string_append_len (reader->patch, line, (gssize) len), '\n');
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- request */

static gboolean
take_one (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, const char **ret_hex, GError **error)
{
  GsOid oid;
  if (!api_take_commit (call, bytes, field, &oid, error))
    return FALSE;
  *ret_hex = api_hex (call, &oid);
  return TRUE;
}

static gboolean
take_series (GitCall *call, const Gitstead__V1__DiffRangeRequest *request, Series *ret_series, GError **error)
{
  Series series;
  if (!take_one (call, &request->old_tip, "old_tip", &series.old_tip, error)
      || !take_one (call, &request->new_tip, "new_tip", &series.new_tip, error))
    return FALSE;
  series.old_base = series.new_tip;
  series.new_base = series.old_tip;
  if ((request->old_base.len > 0 && !take_one (call, &request->old_base, "old_base", &series.old_base, error))
      || (request->new_base.len > 0 && !take_one (call, &request->new_base, "new_base", &series.new_base, error)))
    return FALSE;
  *ret_series = series;
  return TRUE;
}

static gboolean
keep_count (ApiFields *fields, const char *line, gsize len, gboolean *ret_enough, GError **error)
{
  *(guint64 *) fields->user = g_ascii_strtoull (line, NULL, 10);
  return TRUE;
}

static gboolean
check_count (GitCall *call, const char *base, const char *tip, const char *field, GError **error)
{
  g_autofree char *without = g_strconcat ("^", base, NULL);
  const char *const argv[] = { "rev-list", "--count", "--no-merges", "--max-count=501", tip, without, "--", NULL };
  guint64 count = 0;
  ApiFields fields = { .separator = '\n', .max = 100, .visit = keep_count, .user = &count };
  if (!api_run_fields (call, argv, NULL, NULL, &fields, error))
    return FALSE;
  return count <= COMMITS_MAX
         || gs_fail (error, GS_ERROR_OUT_OF_RANGE, "%s: the series has more than %d commits", field, COMMITS_MAX);
}

/* git takes A..A for no range. What stands alone has nothing to be compared with. */
static gboolean
alone_line (ApiFields *fields, const char *line, gsize len, gboolean *ret_enough, GError **error)
{
  Reader *reader = fields->user;
  Gitstead__V1__DiffRangePair *pair = api_message (reader->call, &gitstead__v1__diff_range_pair__descriptor);
  char *oid = api_text (reader->call, line, (gssize) len);
  guint32 number = (guint32) reader->reply->n_pairs + 1;
  if (reader->alone == GITSTEAD__V1__DIFF_RANGE_STATUS__DIFF_RANGE_GONE)
    {
      pair->old_oid = oid;
      pair->old_number = number;
    }
  else
    {
      pair->new_oid = oid;
      pair->new_number = number;
    }
  pair->status = reader->alone;
  API_APPEND (reader->call, reader->reply, pairs, pair);
  return TRUE;
}

static gboolean
list_alone (Reader *reader, Gitstead__V1__DiffRangeStatus status, const char *base, const char *tip, GError **error)
{
  g_autofree char *without = g_strconcat ("^", base, NULL);
  const char *const argv[] = { "rev-list", "--reverse", "--date-order", "--no-merges", tip, without, "--", NULL };
  ApiFields fields = { .separator = '\n', .max = 100, .visit = alone_line, .user = reader };
  reader->alone = status;
  return api_run_fields (reader->call, argv, NULL, NULL, &fields, error);
}

static gboolean
read_pair_lines (gpointer user, const char *data, gsize len, gboolean *ret_enough, GError **error)
{
  return api_fields_feed (user, data, len, ret_enough, error);
}

static gboolean
compare (Reader *reader, const Series *series, guint64 factor, gboolean patches, GError **error)
{
  g_autofree char *creation = g_strdup_printf ("--creation-factor=%" G_GUINT64_FORMAT, factor);
  g_autofree char *old = g_strdup_printf ("%s..%s", series->old_base, series->old_tip);
  g_autofree char *new = g_strdup_printf ("%s..%s", series->new_base, series->new_tip);
  g_autofree char *abbrev = g_strdup_printf ("%d", 2 * (int) reader->call->repo->format);
  const char *const settings[] = { "core.abbrev", abbrev, "log.showSignature", "false", NULL };
  const char *const argv[]
      = { "range-diff", "--no-color", "--no-notes", "--no-ext-diff", "--no-textconv", creation,
          patches ? "--patch" : "--no-patch", old, new, "--", NULL };
  const ChildSpec spec = { .role = CHILD_PLAIN, .argv = argv, .settings = settings, .input = -1 };
  ApiFields fields = { .separator = '\n', .max = LINE_MAX_BYTES, .visit = range_line, .user = reader, .may_cut = TRUE,
                       .field = g_string_new (NULL) };
  gboolean done = api_run_as (reader->call, spec, NULL, NULL, read_pair_lines, &fields, error);
  g_string_free (fields.field, TRUE);
  return done;
}

gboolean
api_diff_range (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__DiffRangeRequest *request = (const void *) message;
  Reader reader = { .call = call, .reply = (void *) answer, .left = API_PAGE_BYTES };
  guint64 factor, max;
  Series series;
  if (!api_take_limit (request->creation_factor, FACTOR_DEFAULT, FACTOR_MAX, "creation_factor", &factor, error)
      || !api_take_limit (request->max_patch_bytes, PATCH_DEFAULT, PATCH_MAX, "max_patch_bytes", &max, error)
      || !take_series (call, request, &series, error)
      || !check_count (call, series.old_base, series.old_tip, "old_tip", error)
      || !check_count (call, series.new_base, series.new_tip, "new_tip", error))
    return FALSE;
  reader.max = (gsize) max;
  reader.patch = g_string_new (NULL);
  gboolean done;
  if (strcmp (series.old_base, series.old_tip) == 0)
    done = list_alone (&reader, GITSTEAD__V1__DIFF_RANGE_STATUS__DIFF_RANGE_NEW, series.new_base, series.new_tip, error);
  else if (strcmp (series.new_base, series.new_tip) == 0)
    done = list_alone (&reader, GITSTEAD__V1__DIFF_RANGE_STATUS__DIFF_RANGE_GONE, series.old_base, series.old_tip, error);
  else
    done = compare (&reader, &series, factor, request->patches, error);
  pair_done (&reader);
  g_string_free (reader.patch, TRUE);
  return done;
}
