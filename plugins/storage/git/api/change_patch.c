/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ChangeService/ApplyPatch: mailed patches become commits, as git am makes them, without a work tree: git's own
 * mailsplit, mailinfo and apply on an index in the quarantine.
 */
#include "change.h"

#include "../child.h"
#include "../fsutil.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define INFO_MAX (1u << 20)
#define SAID_MAX 20u /* lines of git's words that are told */

typedef struct
{
  Change *change;
  char *objects; /* of the quarantine */
  char *dir, *index, *text, *diff;
} Patcher;

/* What a mail says. */
typedef struct
{
  char *ident; /* "name <mail> seconds zone" */
  char *subject;
  char *message;
} Mail;

static void
patcher_clear (Patcher *patcher)
{
  g_free (patcher->objects);
  g_free (patcher->dir);
  g_free (patcher->index);
  g_free (patcher->text);
  g_free (patcher->diff);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Patcher, patcher_clear)

static void
mail_clear (Mail *mail)
{
  g_free (mail->ident);
  g_free (mail->subject);
  g_free (mail->message);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Mail, mail_clear)

/* FALSE only when it could not be run; *@ret_status is its exit code. */
static gboolean
run_git (const Patcher *patcher, const char *const *argv, GBytes *input, GBytes **ret_output, int *ret_status,
         char **ret_said, GError **error)
{
  Change *change = patcher->change;
  const ChildSpec spec = { .role = CHILD_PLAIN,
                           .git_dir = change->repo->dir,
                           .argv = argv,
                           .quarantine = patcher->objects,
                           .alternate = change->repo->objects,
                           .index = patcher->index,
                           .input = -1,
                           .output = -1,
                           .extra = -1 };
  g_autofree char *said = NULL;
  int status;
  if (!child_run (change->storage, &spec, change->call, input, INFO_MAX, ret_output, &status, &said, error))
    return FALSE;
  if (!WIFEXITED (status))
    {
      if (ret_output != NULL)
        g_clear_pointer (ret_output, g_bytes_unref);
      return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "git %s did not come to its end: it took too much time or memory",
                      argv[0]);
    }
  *ret_status = WEXITSTATUS (status);
  *ret_said = g_steal_pointer (&said);
  return TRUE;
}

/* It must succeed; *@ret_line (may be NULL) is the first line of what it gives. */
static gboolean
run_line (const Patcher *patcher, const char *const *argv, GBytes *input, char **ret_line, GError **error)
{
  g_autofree char *said = NULL;
  g_autoptr (GBytes) output = NULL;
  int status;
  gsize len;
  if (!run_git (patcher, argv, input, &output, &status, &said, error))
    return FALSE;
  if (status != 0)
    return gs_fail (error, child_failure (status, said),
                    "git %s failed in repository %" G_GUINT64_FORMAT ": %s", argv[0], patcher->change->repo->id, said);
  if (ret_line == NULL)
    return TRUE;
  const char *data = g_bytes_get_data (output, &len);
  const char *nl = len > 0 ? memchr (data, '\n', len) : NULL;
  *ret_line = g_strndup (data, nl != NULL ? (gsize) (nl - data) : len);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- mail */

static gboolean
two_digits (const char **at, guint most, guint *ret_value)
{
  if (!g_ascii_isdigit ((*at)[0]) || !g_ascii_isdigit ((*at)[1]))
    return FALSE;
  *ret_value = (guint) ((*at)[0] - '0') * 10 + (guint) ((*at)[1] - '0');
  *at += 2;
  return *ret_value <= most;
}

/* "Thu, 7 Apr 2005 15:14:13 -0700", as mails have it. */
static gboolean
parse_date (const char *text, gint64 *ret_seconds, char ret_zone[6])
{
  static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const char *at = strchr (text, ',') != NULL ? strchr (text, ',') + 1 : text, *month;
  char *after, name[4] = { 0 };
  guint day, year, hour, minute, second = 0, zone_hour, zone_minute;
  at += strspn (at, " ");
  day = (guint) g_ascii_strtoull (at, &after, 10);
  at = after + strspn (after, " ");
  if (after == text || strlen (at) < 4)
    return FALSE;
  memcpy (name, at, 3);
  month = strstr (months, name);
  if (month == NULL || (month - months) % 3 != 0)
    return FALSE;
  at += 3 + strspn (at + 3, " ");
  year = (guint) g_ascii_strtoull (at, &after, 10);
  at = after + strspn (after, " ");
  if (year < 1970 || year > 9999 || !two_digits (&at, 23, &hour) || *at++ != ':' || !two_digits (&at, 59, &minute)
      || (*at == ':' && (at++, !two_digits (&at, 60, &second))))
    return FALSE;
  at += strspn (at, " ");
  if (*at != '+' && *at != '-')
    return FALSE;
  g_strlcpy (ret_zone, at, 6);
  at++;
  if (!two_digits (&at, 14, &zone_hour) || !two_digits (&at, 59, &zone_minute))
    return FALSE;
  g_autoptr (GDateTime) when
      = g_date_time_new_utc ((gint) year, (gint) (month - months) / 3 + 1, (gint) day, (gint) hour, (gint) minute, 0);
  if (when == NULL)
    return FALSE;
  gint64 offset = (gint64) (zone_hour * 60 + zone_minute) * 60;
  *ret_seconds = g_date_time_to_unix (when) + second - (ret_zone[0] == '-' ? -offset : offset);
  return *ret_seconds >= 0 && *ret_seconds <= CHANGE_SECONDS_MAX;
}

/* As git stripspace: no space at the ends of lines, no two empty lines, none at the ends. */
static char *
strip_space (const char *text)
{
  g_autoptr (GString) out = g_string_new (NULL);
  gboolean empty = FALSE;
  for (const char *at = text; *at != '\0';)
    {
      const char *nl = strchr (at, '\n');
      gsize len = nl != NULL ? (gsize) (nl - at) : strlen (at), kept = len;
      while (kept > 0 && strchr (" \t\r", at[kept - 1]) != NULL)
        kept--;
      if (kept == 0)
        empty = out->len > 0;
      else
        {
          if (empty)
            g_string_append_c (out, '\n');
          empty = FALSE;
          g_string_append_len (out, at, (gssize) kept);
          g_string_append_c (out, '\n');
        }
      at += len + (nl != NULL ? 1 : 0);
    }
  return g_string_free (g_steal_pointer (&out), FALSE);
}

static gboolean
no_mail (GError **error, gsize number, const char *why)
{
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "patch: mail %" G_GSIZE_FORMAT " %s", number, why);
}

/* What git takes off both ends of a name or an address. */
static char *
strip_crud (const char *text)
{
  static const char crud[] = ".,:;<>\"\\'";
  gsize len = strlen (text);
  while (len > 0 && ((guint8) text[len - 1] <= 32 || strchr (crud, text[len - 1]) != NULL))
    len--;
  while (len > 0 && ((guint8) *text <= 32 || strchr (crud, *text) != NULL))
    text++, len--;
  return g_strndup (text, len);
}

/* mailinfo prints "Author: ", "Email: ", "Subject: " and "Date: " lines. */
static gboolean
read_info (const char *info, const char *body, gsize number, Mail *mail, GError **error)
{
  g_autofree char *name = NULL, *email = NULL, *date = NULL, *whole = NULL;
  g_autoptr (GString) subject = g_string_new (NULL);
  g_auto (GStrv) lines = g_strsplit (info, "\n", -1);
  char zone[6];
  gint64 seconds;
  for (char **line = lines; *line != NULL; line++)
    if (g_str_has_prefix (*line, "Subject: "))
      g_string_append_printf (subject, "%s%s", subject->len > 0 ? "\n" : "", *line + strlen ("Subject: "));
    else if (g_str_has_prefix (*line, "Author: ") && name == NULL)
      name = strip_crud (*line + strlen ("Author: "));
    else if (g_str_has_prefix (*line, "Email: ") && email == NULL)
      email = strip_crud (*line + strlen ("Email: "));
    else if (g_str_has_prefix (*line, "Date: ") && date == NULL)
      date = g_strdup (*line + strlen ("Date: "));
  if (name == NULL || email == NULL || *name == '\0' || *email == '\0' || strpbrk (name, "<>") != NULL
      || strpbrk (email, "<>") != NULL)
    return no_mail (error, number, "does not say who it is from");
  if (date == NULL || !parse_date (date, &seconds, zone))
    return no_mail (error, number, "has no date that is understood");
  if (subject->len == 0)
    return no_mail (error, number, "has no subject");
  whole = g_strconcat (subject->str, "\n\n", body, NULL);
  mail->ident = g_strdup_printf ("%s <%s> %" G_GINT64_FORMAT " %s", name, email, seconds, zone);
  mail->subject = g_strdup (subject->str);
  mail->message = strip_space (whole);
  return TRUE;
}

static gboolean
read_mail (const Patcher *patcher, gsize number, Mail *mail, GError **error)
{
  const char *const argv[] = { "mailinfo", patcher->text, patcher->diff, NULL };
  g_autofree char *file = g_strdup_printf ("%s/%04" G_GSIZE_FORMAT, patcher->dir, number);
  g_autofree char *body = NULL, *said = NULL, *info = NULL;
  g_autoptr (GBytes) output = NULL, input = NULL;
  int status;
  gsize len;
  char *bytes = fsu_read (AT_FDCWD, file, G_MAXINT, &len, error);
  if (bytes == NULL)
    return FALSE;
  input = g_bytes_new_take (bytes, len);
  unlink (file);
  if (!run_git (patcher, argv, input, &output, &status, &said, error))
    return FALSE;
  body = status == 0 ? fsu_read (AT_FDCWD, patcher->text, CHANGE_MESSAGE_MAX, &len, error) : NULL;
  if (status == 0 && body == NULL)
    return FALSE;
  if (status != 0 || strlen (body) != len)
    return no_mail (error, number, "cannot be read as a mail with a patch");
  info = g_strndup (g_bytes_get_data (output, NULL), g_bytes_get_size (output));
  return read_info (info, body, number, mail, error);
}

/* ------------------------------------------------------------------------------------------ patch */

/* Not an error: the patch does not fit what is there. What a merge said of it comes behind. */
static void
tell_misfit (const Patcher *patcher, const Mail *mail, gsize number, const char *said)
{
  Change *change = patcher->change;
  g_auto (GStrv) lines = g_strsplit (said, "\n", -1);
  change->outcome = GITSTEAD__V1__CHANGE_OUTCOME__CHANGE_CONFLICT;
  g_ptr_array_insert (change->messages, 0,
                      g_strdup_printf ("mail %" G_GSIZE_FORMAT " does not apply: %s", number, mail->subject));
  for (guint i = 0; lines[i] != NULL && i < SAID_MAX; i++)
    g_ptr_array_insert (change->messages, (int) i + 1, g_strdup (lines[i]));
}

static gboolean
write_index (const Patcher *patcher, GsOid *ret_tree, GError **error)
{
  static const char *const write[] = { "write-tree", NULL };
  g_autofree char *hex = NULL;
  return run_line (patcher, write, NULL, &hex, error)
         && (gs_oid_parse (hex, strlen (hex), ret_tree)
             || gs_fail (error, GS_ERROR_INTERNAL, "git write-tree gave an answer that is not understood"));
}

static gboolean
read_index (const Patcher *patcher, const GsOid *tree, GError **error)
{
  char hex[GS_OID_HEX_MAX + 1];
  const char *const read[] = { "read-tree", hex, NULL };
  gs_oid_hex (tree, hex);
  return run_line (patcher, read, NULL, NULL, error);
}

/* *@ret_fits FALSE: it does not, and *@ret_said, which is replaced, says why. */
static gboolean
run_apply (const Patcher *patcher, const char *option, gboolean *ret_fits, char **ret_said, GError **error)
{
  const char *const argv[] = { "apply", "--whitespace=nowarn", option, patcher->diff, NULL };
  int status;
  g_clear_pointer (ret_said, g_free);
  if (!run_git (patcher, argv, NULL, NULL, &status, ret_said, error))
    return FALSE;
  *ret_fits = status == 0;
  return TRUE;
}

/*
 * As git am falls back: the patch is applied to the very blobs that it names, in trees that have nothing else, and what it
 * changed there is merged into what is here. *@ret_fits FALSE: they are not here, or do not merge.
 */
static gboolean
apply_three_way (const Patcher *patcher, const Mail *mail, gsize number, const char *said, GsOid *tree,
                 gboolean *ret_fits, GError **error)
{
  g_autofree char *fake = g_strconcat (patcher->index, ".fake", NULL), *option = NULL, *why = NULL, *name = NULL;
  const MergeNames names = { "HEAD", name = g_strdup_printf ("mail-%" G_GSIZE_FORMAT, number) };
  Patcher apart = *patcher;
  GsOid base, theirs, merged;
  apart.index = fake;
  option = g_strconcat ("--build-fake-ancestor=", fake, NULL);
  unlink (fake);
  if (!run_apply (patcher, option, ret_fits, &why, error)
      || (*ret_fits
          && (!write_index (&apart, &base, error) || !run_apply (&apart, "--cached", ret_fits, &why, error))))
    return FALSE;
  if (!*ret_fits)
    {
      tell_misfit (patcher, mail, number, why);
      return TRUE;
    }
  if (!write_index (&apart, &theirs, error)
      || !change_merge_patch (patcher->change, &base, tree, &theirs, &names, &merged, ret_fits, error))
    return FALSE;
  if (!*ret_fits)
    {
      tell_misfit (patcher, mail, number, said);
      return TRUE;
    }
  *tree = merged;
  return read_index (patcher, tree, error);
}

static gboolean
apply_mail (const Patcher *patcher, gsize number, gboolean three_way, GsOid *tip, GsOid *tree, gboolean *ret_fits,
            GError **error)
{
  Change *change = patcher->change;
  g_auto (Mail) mail = { 0 };
  g_autofree char *said = NULL;
  const GsOid before = *tree;
  if (!read_mail (patcher, number, &mail, error) || !run_apply (patcher, "--cached", ret_fits, &said, error))
    return FALSE;
  if (*ret_fits)
    {
      if (!write_index (patcher, tree, error) || !change_collect (change, tree, &before, 1, error))
        return FALSE;
    }
  else if (strstr (said, "No valid patches") != NULL || strstr (said, "corrupt patch") != NULL)
    return no_mail (error, number, "has no patch, or a damaged one");
  else if (!three_way)
    {
      tell_misfit (patcher, &mail, number, said);
      return TRUE;
    }
  else if (!apply_three_way (patcher, &mail, number, said, tree, ret_fits, error))
    return FALSE;
  /* What is there already needs no commit. */
  else if (!*ret_fits || gs_oid_equal (tree, &before))
    return TRUE;
  return commit_add (change, tree, tip, 1, change->author != NULL ? change->author : mail.ident, NULL, mail.message,
                     strlen (mail.message), tip, error);
}

static gboolean
split_mails (const Patcher *patcher, const ProtobufCBinaryData *patch, gsize *ret_n, GError **error)
{
  g_autofree char *where = g_strconcat ("-o", patcher->dir, NULL), *count = NULL;
  const char *const argv[] = { "mailsplit", "-b", where, NULL };
  g_autoptr (GBytes) input = g_bytes_new_static (patch->data, patch->len);
  if (!fsu_mkdirs (AT_FDCWD, patcher->dir, 0777, error) || !run_line (patcher, argv, input, &count, error))
    return FALSE;
  *ret_n = (gsize) g_ascii_strtoull (count, NULL, 10);
  if (*ret_n == 0 || *ret_n > CHANGE_STEPS_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "patch: has %" G_GSIZE_FORMAT " mails; 1 to %u are taken", *ret_n,
                    CHANGE_STEPS_MAX);
  return TRUE;
}

static gboolean
apply_all (Change *change, const Gitstead__V1__ChangeApplyPatchRequest *request, GError **error)
{
  g_auto (Patcher) patcher = { .change = change, .objects = change_scratch (change, error) };
  GsOid tip = change->base, tree = change->base_tree;
  gboolean fits = TRUE;
  gsize n;
  if (patcher.objects == NULL)
    return FALSE;
  /* Beside the objects, in the quarantine. */
  patcher.dir = g_strconcat (patcher.objects, "/../mails", NULL);
  patcher.index = g_strconcat (patcher.objects, "/../index", NULL);
  patcher.text = g_strconcat (patcher.objects, "/../text", NULL);
  patcher.diff = g_strconcat (patcher.objects, "/../diff", NULL);
  if (!split_mails (&patcher, &request->patch, &n, error) || !read_index (&patcher, &tree, error))
    return FALSE;
  for (gsize i = 1; i <= n && fits; i++)
    if (!gs_call_check (change->call, "applying patches", error)
        || !apply_mail (&patcher, i, request->three_way, &tip, &tree, &fits, error))
      return FALSE;
  return !fits || change_result (change, &tip, &tree, error);
}

gboolean
change_apply_patch (Change *change, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__ChangeApplyPatchRequest *request = (gconstpointer) message;
  if (request->patch.len == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "patch: must not be empty");
  return change_begin (change, request->write, TRUE, error) && change_need_base (change, error)
         && apply_all (change, request, error);
}
