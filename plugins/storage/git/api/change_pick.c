/* SPDX-License-Identifier: Apache-2.0 */
/* ChangeService: CherryPick, Revert and Rebase. Each repeats, or takes back, what one commit after another changed. */
#include "change.h"

#include "../child.h"
#include "../encoding.h"

#include <string.h>
#include <sys/wait.h>

#define LIST_MAX (41u * (CHANGE_STEPS_MAX + 1))

/** One step: the three trees to merge, and what the new commit says. */
typedef struct
{
  GsOid commit;
  GsOid from, to; /* trees: what is repeated is the way from one to the other */
  const char *author, *encoding;
  const char *message;
  gsize message_len;
  gboolean keep_empty; /* one that never changed a file is repeated as such */
} Pick;

/* Where the change stands after the steps so far. */
typedef struct
{
  GsOid tip, tree;
  GsOid start; /* the commit on which the first step was made */
} At;

static gboolean
empty_tree (Change *change, GsOid *ret_tree, GError **error)
{
  return draft_add (change->draft, GS_OBJECT_TREE, "", 0, ret_tree, error);
}

/* *@ret_clean FALSE: the change ends with a conflict. */
static gboolean
take_pick (Change *change, const Pick *pick, At *at, gboolean *ret_clean, GError **error)
{
  char ours[GS_OID_HEX_MAX + 1], theirs[GS_OID_HEX_MAX + 1];
  const MergeNames names = { ours, theirs };
  GsOid tree;
  gs_oid_hex (&at->start, ours);
  gs_oid_hex (&pick->commit, theirs);
  if (!gs_call_check (change->call, "repeating commits", error)
      || !change_merge_trees (change, &pick->from, &at->tree, &pick->to, &names, &tree, ret_clean, error))
    return FALSE;
  if (!*ret_clean)
    {
      change->conflict_oid = pick->commit;
      return TRUE;
    }
  if (gs_oid_equal (&tree, &at->tree) && !(pick->keep_empty && gs_oid_equal (&pick->from, &pick->to)))
    return TRUE;
  at->tree = tree;
  return commit_add (change, &tree, &at->tip, 1, pick->author, pick->encoding, pick->message, pick->message_len,
                     &at->tip, error);
}

/* The parent's tree that a commit's change is counted from. */
static gboolean
parent_tree (Change *change, const GsOid *oid, const CommitParts *info, guint32 mainline, GsOid *ret_tree,
             GError **error)
{
  char hex[GS_OID_HEX_MAX + 1];
  guint parents = (guint) info->n_parents;
  gs_oid_hex (oid, hex);
  if (parents > 1 && mainline == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "mainline: %s is a merge; say from which of its %u parents its change is counted", hex, parents);
  if (mainline > MAX (parents, 1))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "mainline: %s has %u parents, not %u", hex, parents, mainline);
  if (mainline != 0 && parents < 2)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "mainline: %s is no merge", hex);
  if (parents == 0)
    return empty_tree (change, ret_tree, error);
  return commit_tree (change, &info->parents[mainline > 0 ? mainline - 1 : 0], ret_tree, error);
}

static gboolean
finish (Change *change, const At *at, GError **error)
{
  if (gs_oid_equal (&at->tip, &change->old_oid))
    {
      change_unchanged (change);
      return TRUE;
    }
  return change_result (change, &at->tip, &at->tree, error);
}

/* --------------------------------------------------------------------------- cherry-pick, revert */

/* As git repeats a message: from the first line that has something in it. */
static void
skip_blank_lines (CommitParts *info)
{
  gsize at = 0;
  while (at < info->message_len && g_ascii_isspace (info->message[at]))
    if (info->message[at++] == '\n')
      {
        info->message += at;
        info->message_len -= at;
        at = 0;
      }
  if (at == info->message_len)
    info->message_len = 0;
}

/* git's own words. The subject is the first line, whatever follows it. */
static char *
revert_message (const GsOid *oid, const CommitParts *info, guint32 mainline)
{
  g_autoptr (GString) text = g_string_new ("Revert \"");
  const char *nl = info->message_len > 0 ? memchr (info->message, '\n', info->message_len) : NULL;
  char hex[GS_OID_HEX_MAX + 1];
  g_string_append_len (text, info->message, nl != NULL ? nl - info->message : (gssize) info->message_len);
  gs_oid_hex (oid, hex);
  g_string_append_printf (text, "\"\n\nThis reverts commit %s", hex);
  if (mainline != 0)
    {
      gs_oid_hex (&info->parents[mainline - 1], hex);
      g_string_append_printf (text, ", reversing\nchanges made to %s", hex);
    }
  g_string_append (text, ".\n");
  return g_string_free (g_steal_pointer (&text), FALSE);
}

/* As git repeats it: new commits are in UTF-8. One that cannot be brought to it keeps its bytes, and the name of what they are. */
static void
to_utf8 (Change *change, CommitParts *info)
{
  gsize author_len, message_len;
  /* No name of an encoding means this one. */
  if (encoding_is_utf8 (info->encoding, info->encoding_len))
    {
      info->encoding = NULL;
      info->encoding_len = 0;
      return;
    }
  g_autofree char *author
      = encoding_to_utf8 (info->encoding, info->encoding_len, info->author, info->author_len, &author_len);
  g_autofree char *message
      = encoding_to_utf8 (info->encoding, info->encoding_len, info->message, info->message_len, &message_len);
  /* A NUL can come of bytes that are not text, and would end the author's line. */
  if (author == NULL || message == NULL || strlen (author) != author_len || strpbrk (author, "\r\n") != NULL)
    return;
  info->author = api_text (&change->api, author, (gssize) author_len);
  info->author_len = author_len;
  info->message = api_text (&change->api, message, (gssize) message_len);
  info->message_len = message_len;
  info->encoding = NULL;
  info->encoding_len = 0;
}

static gboolean
pick_one (Change *change, const GsOid *oid, guint32 mainline, gboolean revert, gboolean keep_empty, const char *message,
          At *at, gboolean *ret_clean, GError **error)
{
  CommitParts info;
  g_autofree char *made = NULL;
  Pick pick = { .commit = *oid, .keep_empty = keep_empty };
  GsOid parent;
  if (!commit_read (change, oid, &info, error) || !parent_tree (change, oid, &info, mainline, &parent, error))
    return FALSE;
  to_utf8 (change, &info);
  skip_blank_lines (&info);
  pick.from = revert ? info.tree : parent;
  pick.to = revert ? parent : info.tree;
  pick.author = revert || change->author != NULL ? change->author
                                                 : api_text (&change->api, info.author, (gssize) info.author_len);
  pick.message = message;
  if (message == NULL && revert)
    pick.message = made = revert_message (oid, &info, mainline);
  if (pick.message != NULL)
    pick.message_len = strlen (pick.message);
  else
    {
      pick.message = info.message;
      pick.message_len = info.message_len;
      if (info.encoding != NULL)
        pick.encoding = api_text (&change->api, info.encoding, (gssize) info.encoding_len);
    }
  return take_pick (change, &pick, at, ret_clean, error);
}

static gboolean
pick_all (Change *change, const Gitstead__V1__ChangeWrite *write, const ProtobufCBinaryData *commits, gsize n,
          guint32 mainline, const ProtobufCBinaryData *message, gboolean revert, GError **error)
{
  g_autofree char *text = NULL;
  gboolean clean = TRUE;
  At at;
  if (n == 0 || n > CHANGE_STEPS_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "commits: there are %" G_GSIZE_FORMAT "; 1 to %u are taken", n,
                    CHANGE_STEPS_MAX);
  if (message->len > 0 && n > 1)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "message: is for one commit, and there are %" G_GSIZE_FORMAT, n);
  if ((message->len > 0 && !change_message (message, "message", &text, error))
      || !change_begin (change, write, TRUE, error) || !change_need_base (change, error))
    return FALSE;
  at = (At){ change->base, change->base_tree, change->base };
  for (gsize i = 0; i < n && clean; i++)
    {
      g_autofree char *field = g_strdup_printf ("commits[%" G_GSIZE_FORMAT "]", i);
      GsOid oid;
      if (!api_take_commit (&change->api, &commits[i], field, &oid, error)
          || !pick_one (change, &oid, mainline, revert, FALSE, text, &at, &clean, error))
        return FALSE;
    }
  return !clean || finish (change, &at, error);
}

gboolean
change_cherry_pick (Change *change, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__ChangeCherryPickRequest *request = (gconstpointer) message;
  return pick_all (change, request->write, request->commits, request->n_commits, request->mainline, &request->message,
                   FALSE, error);
}

gboolean
change_revert (Change *change, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__ChangeRevertRequest *request = (gconstpointer) message;
  return pick_all (change, request->write, request->commits, request->n_commits, request->mainline, &request->message,
                   TRUE, error);
}

/* ----------------------------------------------------------------------------------------- rebase */

/* The branch's own commits, oldest first: no merges, nothing that upstream has by another name. */
static gboolean
own_commits (Change *change, const GsOid *upstream, GArray *commits, GError **error)
{
  char has[GS_OID_HEX_MAX + 1], lacks[GS_OID_HEX_MAX + 1], most[32];
  g_autofree char *range = NULL, *said = NULL;
  g_autoptr (GBytes) answer = NULL;
  int status;
  gsize len;
  gs_oid_hex (&change->base, has);
  gs_oid_hex (upstream, lacks);
  range = g_strdup_printf ("%s...%s", lacks, has);
  g_snprintf (most, sizeof most, "--max-count=%u", CHANGE_STEPS_MAX + 1);
  const char *const argv[] = { "rev-list",     "--reverse", "--topo-order", "--no-merges", "--cherry-pick",
                               "--right-only", most,        range,          "--",          NULL };
  const ChildSpec spec
      = { .role = CHILD_PLAIN, .git_dir = change->repo->dir, .argv = argv, .input = -1, .output = -1, .extra = -1 };
  if (!child_run (change->storage, &spec, change->call, NULL, LIST_MAX, &answer, &status, &said, error))
    return FALSE;
  if (!WIFEXITED (status) || WEXITSTATUS (status) != 0)
    return gs_fail (error, GS_ERROR_DATA_LOSS, "git rev-list cannot walk the history of %s: %s", change->ref, said);
  const char *at = g_bytes_get_data (answer, &len), *end = at + len;
  for (GsOid oid; end - at > 40 && gs_oid_parse (at, 40, &oid); at += 41)
    g_array_append_val (commits, oid);
  return commits->len <= CHANGE_STEPS_MAX
         || gs_fail (error, GS_ERROR_OUT_OF_RANGE, "%s has more than %u commits to be repeated", change->ref,
                     CHANGE_STEPS_MAX);
}

static gboolean
rebase_steps (Change *change, const GsOid *onto, const GArray *commits, GError **error)
{
  gboolean clean = TRUE;
  At at = { .tip = *onto, .start = *onto };
  if (!commit_tree (change, onto, &at.tree, error))
    return FALSE;
  for (guint i = 0; i < commits->len && clean; i++)
    {
      const GsOid *oid = &g_array_index (commits, GsOid, i);
      CommitParts info;
      if (!commit_read (change, oid, &info, error))
        return FALSE;
      /* One that stands on the new base already stays what it is. */
      if (info.n_parents == 1 && gs_oid_equal (&info.parents[0], &at.tip))
        at = (At){ *oid, info.tree, *oid };
      else if (!pick_one (change, oid, 0, FALSE, TRUE, NULL, &at, &clean, error))
        return FALSE;
    }
  return !clean || finish (change, &at, error);
}

gboolean
change_rebase (Change *change, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__ChangeRebaseRequest *request = (gconstpointer) message;
  g_autoptr (GArray) commits = g_array_new (FALSE, FALSE, sizeof (GsOid));
  GsOid onto, upstream;
  if (!change_begin (change, request->write, TRUE, error) || !change_need_base (change, error)
      || !api_take_commit (&change->api, &request->onto, "onto", &onto, error))
    return FALSE;
  if (change->author != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "write.author: commits that are rebased keep their authors");
  upstream = onto;
  if (request->upstream.len > 0 && !api_take_commit (&change->api, &request->upstream, "upstream", &upstream, error))
    return FALSE;
  return own_commits (change, &upstream, commits, error) && rebase_steps (change, &onto, commits, error);
}
