/* SPDX-License-Identifier: Apache-2.0 */
/* Refspecs, the other side's refs, and what a transfer does to each: see transfer.h. */
#include "transfer.h"

#include <string.h>

#define RULES_MAX 1000
#define TOLD_MAX 5000
#define LOOKED_MAX 2000

/* ------------------------------------------------------------------------------------------ patterns */

gboolean
rule_pattern_check (const char *pattern, const char *field, GError **error)
{
  g_autoptr (GError) why = NULL;
  g_autofree char *plain = g_strdup (pattern);
  char *star = strchr (plain, '*');
  if (star != NULL)
    *star = 'x';
  if (!g_str_has_prefix (pattern, "refs/"))
    return api_invalid (error, field, "'%s' is not below refs/", pattern);
  return ref_name_valid (plain, &why) || api_invalid (error, field, "'%s': %s", pattern, why->message);
}

char *
rule_map (const char *from, const char *to, const char *name)
{
  const char *star = strchr (from, '*'), *target = strchr (to, '*');
  gsize head, tail, len = strlen (name);
  if (star == NULL)
    return strcmp (from, name) == 0 ? g_strdup (to) : NULL;
  head = (gsize) (star - from);
  tail = strlen (star + 1);
  if (len < head + tail + 1 || strncmp (name, from, head) != 0 || strcmp (name + len - tail, star + 1) != 0
      || target == NULL)
    return NULL;
  return g_strdup_printf ("%.*s%.*s%s", (int) (target - to), to, (int) (len - head - tail), name + head, target + 1);
}

static void
rule_clear (gpointer data)
{
  Rule *rule = data;
  g_free (rule->source);
  g_free (rule->destination);
}

static gboolean
take_refspec (GitCall *call, const char *text, gboolean force, GArray *rules, GError **error)
{
  static const char field[] = "rules.refspecs";
  const char *at = text + (*text == '+'), *colon = strchr (at, ':');
  Rule rule = { NULL, NULL, force || *text == '+' };
  if (colon == NULL)
    return api_invalid (error, field, "'%s' has no ':' between source and destination", text);
  rule.source = g_strndup (at, (gsize) (colon - at));
  rule.destination = g_strdup (colon + 1);
  g_array_append_val (rules, rule);
  /* HEAD can be had from somewhere; here it names a branch, and is no place for a commit. */
  if ((strcmp (rule.source, "HEAD") != 0 && !rule_pattern_check (rule.source, field, error))
      || !rule_pattern_check (rule.destination, field, error))
    return FALSE;
  if ((strchr (rule.source, '*') == NULL) != (strchr (rule.destination, '*') == NULL))
    return api_invalid (error, field, "'%s' has a '*' on one side only", text);
  if (strchr (rule.destination, '*') == NULL && ref_name_hidden (call->repo->refs, rule.destination))
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED, "%s: refs below %s are the server's own", field, GIT_HIDDEN_REFS);
  return TRUE;
}

gboolean
rules_take (GitCall *call, const Gitstead__V1__TransferRules *message, const char *const *fallback, Rules *ret_rules,
            GError **error)
{
  gboolean force = message != NULL && message->force;
  ret_rules->prune = message != NULL && message->prune;
  ret_rules->dry_run = message != NULL && message->dry_run;
  ret_rules->rules = g_array_new (FALSE, FALSE, sizeof (Rule));
  g_array_set_clear_func (ret_rules->rules, rule_clear);
  if (message != NULL && message->n_refspecs > RULES_MAX)
    return api_invalid (error, "rules.refspecs", "up to %d are taken", RULES_MAX);
  if (message == NULL || message->n_refspecs == 0)
    for (; *fallback != NULL; fallback++)
      if (!take_refspec (call, *fallback, force, ret_rules->rules, error))
        return FALSE;
  for (gsize i = 0; message != NULL && i < message->n_refspecs; i++)
    {
      char *text;
      if (!api_take_text (call, &message->refspecs[i], "rules.refspecs", &text, error)
          || !take_refspec (call, text, force, ret_rules->rules, error))
        return FALSE;
    }
  return TRUE;
}

void
rules_clear (Rules *rules)
{
  g_clear_pointer (&rules->rules, g_array_unref);
}

/* --------------------------------------------------------------------------------- the other side's refs */

GHashTable *
refs_table_new (void)
{
  return g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
}

gboolean
refs_table_read (GHashTable *table, const Storage *storage, GBytes *lines, const char *prefix, GError **error)
{
  gsize left;
  const char *at = g_bytes_get_data (lines, &left);
  while (left > 0)
    {
      const char *nl = memchr (at, '\n', left);
      gsize len = nl != NULL ? (gsize) (nl - at) : left;
      gsize id = 0;
      GsOid oid;
      while (id < len && at[id] != ' ' && at[id] != '\t')
        id++;
      if (id + 1 >= len || !gs_oid_parse (at, id, &oid) || memchr (at, '\0', len) != NULL)
        return gs_fail (error, GS_ERROR_UNAVAILABLE, "the other side's list of refs cannot be read");
      g_autofree char *name = g_strndup (at + id + 1, len - id - 1);
      if (g_str_has_prefix (name, prefix) && !g_str_has_suffix (name, "^{}"))
        g_hash_table_replace (table, g_strdup (name + strlen (prefix)), g_memdup2 (&oid, sizeof oid));
      if (storage != NULL && g_hash_table_size (table) > (guint64) storage->max_remote_refs)
        return guest_too_many_refs (storage, error);
      at += len + (nl != NULL);
      left -= len + (nl != NULL);
    }
  return TRUE;
}

/* ------------------------------------------------------------------------------------------------ moves */

static void
move_free (gpointer data)
{
  Move *move = data;
  g_free (move->name);
  g_free (move->reason);
  g_free (move);
}

GPtrArray *
moves_new (void)
{
  return g_ptr_array_new_with_free_func (move_free);
}

Move *
moves_add (GPtrArray *moves, const char *name, const GsOid *old_oid, const GsOid *new_oid)
{
  Move *move = g_new0 (Move, 1);
  move->name = g_strdup (name);
  move->old_oid.len = move->new_oid.len = GS_FORMAT_SHA1;
  if (old_oid != NULL)
    move->old_oid = *old_oid;
  if (new_oid != NULL)
    move->new_oid = *new_oid;
  move->outcome = old_oid == NULL   ? GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_CREATED
                  : new_oid == NULL ? GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_DELETED
                                    : GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_REPLACED;
  g_ptr_array_add (moves, move);
  return move;
}

static int
by_name (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(Move *const *) a)->name, (*(Move *const *) b)->name);
}

void
moves_sort (GPtrArray *moves)
{
  g_ptr_array_sort (moves, by_name);
}

gboolean
move_judge (Guest *guest, Move *move, guint *looked, GError **error)
{
  gboolean forward = FALSE;
  /* A tag is a name for one thing for ever, so git says. */
  if (!g_str_has_prefix (move->name, "refs/tags/") && (*looked)++ < LOOKED_MAX
      && !guest_is_ancestor (guest, &move->old_oid, &move->new_oid, &forward, error))
    return FALSE;
  move->outcome = forward ? GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_FORWARDED
                          : GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_REPLACED;
  return TRUE;
}

Gitstead__V1__TransferRef **
moves_messages (GitCall *call, const GPtrArray *moves, gsize *ret_n, guint64 *ret_more)
{
  gsize n = MIN (moves->len, TOLD_MAX), bytes = 0;
  Gitstead__V1__TransferRef **rows = api_alloc (call, (n + 1) * sizeof *rows);
  for (*ret_n = 0; *ret_n < n && bytes < API_PAGE_BYTES; (*ret_n)++)
    {
      const Move *move = moves->pdata[*ret_n];
      Gitstead__V1__TransferRef *row = api_message (call, &gitstead__v1__transfer_ref__descriptor);
      row->name = api_bytes (call, move->name, strlen (move->name));
      row->old_oid = api_hex (call, &move->old_oid);
      row->new_oid = api_hex (call, &move->new_oid);
      row->outcome = move->outcome;
      if (move->reason != NULL)
        row->reason = api_text (call, move->reason, -1);
      bytes += row->name.len + 100;
      rows[*ret_n] = row;
    }
  *ret_more = moves->len - *ret_n;
  return rows;
}
