/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ref/Delete: which refs go, from one snapshot. The write that follows expects each of them to be what it was here: a ref that
 * moves meanwhile is not deleted unseen.
 */
#include "change.h"
#include "details.h"

#include "gitstead/v1/ref.pb-c.h"

#define NAMES_MAX 10000u
#define DELETED_MAX 100000u
#define TOLD_MAX 1000u
#define TOLD_BYTES (256u << 10)
#define TICK 4096u

typedef struct
{
  GitCall *call;
  const Gitstead__V1__RefDeleteRequest *request;
  RefSnapshot *refs;
  GArray *updates;  /* GsRefUpdate; the names are @texts' */
  GPtrArray *texts;
  Gitstead__V1__RefDeleteReply reply;
} Deletion;

static void
delete (Deletion *deletion, const RefEntry *entry)
{
  GsRefUpdate update = { .name = g_strdup (entry->name), .old_oid = entry->oid, .new_oid = { .len = entry->oid.len } };
  g_ptr_array_add (deletion->texts, (gpointer) update.name);
  g_array_append_val (deletion->updates, update);
}

/* The updates are in order of their names. */
static void
tell (Deletion *deletion)
{
  GitCall *call = deletion->call;
  Gitstead__V1__RefDeleteReply *reply = &deletion->reply;
  gsize bytes = 0;
  reply->deleted = deletion->updates->len;
  for (guint i = 0; i < deletion->updates->len && reply->n_refs < TOLD_MAX; i++)
    {
      Gitstead__V1__Ref *ref = api_message (call, &gitstead__v1__ref__descriptor);
      RefEntry entry;
      if (!ref_snapshot_find (deletion->refs, g_array_index (deletion->updates, GsRefUpdate, i).name, &entry)
          || (bytes += entry.name_len) > TOLD_BYTES)
        return;
      ref->name = api_bytes (call, entry.name, entry.name_len);
      ref->oid = api_hex (call, &entry.oid);
      if (entry.peeled.len != 0)
        ref->peeled = api_hex (call, &entry.peeled);
      API_APPEND (call, reply, refs, ref);
    }
}

/* ------------------------------------------------------------------------------------------- named */

static gboolean
take_name (Deletion *deletion, gsize index, GHashTable *seen, const char **ret_name, GError **error)
{
  const Gitstead__V1__RefDeleteRequest *request = deletion->request;
  g_autoptr (GError) why = NULL;
  char *name;
  if (!api_take_text (deletion->call, &request->names[index], "names", &name, error))
    return FALSE;
  if (!ref_name_valid (name, &why))
    return api_invalid (error, "names", "%s", why->message);
  if (ref_name_hidden (deletion->call->repo->refs, name))
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED, "names: refs below %s are the server's own", GIT_HIDDEN_REFS);
  if (!g_hash_table_add (seen, name))
    return api_invalid (error, "names", "'%s' is there twice", name);
  *ret_name = name;
  return TRUE;
}

static gint
by_name (gconstpointer a, gconstpointer b)
{
  return strcmp (((const GsRefUpdate *) a)->name, ((const GsRefUpdate *) b)->name);
}

static gboolean
delete_named (Deletion *deletion, GError **error)
{
  const Gitstead__V1__RefDeleteRequest *request = deletion->request;
  g_autoptr (GHashTable) seen = g_hash_table_new (g_str_hash, g_str_equal);
  const char *name = NULL;
  if (request->n_names > NAMES_MAX)
    return api_invalid (error, "names", "%" G_GSIZE_FORMAT " given, at most %u are taken", request->n_names, NAMES_MAX);
  for (gsize i = 0; i < request->n_names; i++)
    {
      RefEntry entry;
      if (!take_name (deletion, i, seen, &name, error))
        return FALSE;
      if (ref_snapshot_find (deletion->refs, name, &entry))
        delete (deletion, &entry);
      else if (request->allow_missing)
        API_APPEND (deletion->call, &deletion->reply, missing, request->names[i]);
      else
        return gs_fail (error, GS_ERROR_NOT_FOUND, "names: there is no ref %s", name);
    }
  g_array_sort (deletion->updates, by_name);
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- all but some */

static gboolean
delete_others (Deletion *deletion, GError **error)
{
  const Gitstead__V1__RefDeleteRequest *request = deletion->request;
  if (!api_take_prefixes (request->except_prefixes, request->n_except_prefixes, "except_prefixes", error))
    return FALSE;
  for (gsize i = 0; i < ref_snapshot_count (deletion->refs); i++)
    {
      RefEntry entry;
      ref_snapshot_get (deletion->refs, i, &entry);
      if (i % TICK == 0 && !gs_call_check (deletion->call->call, "choose refs", error))
        return FALSE;
      if (ref_name_hidden (deletion->call->repo->refs, entry.name)
          || api_has_prefix (request->except_prefixes, request->n_except_prefixes, entry.name, entry.name_len))
        continue;
      if (deletion->updates->len >= DELETED_MAX)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "except_prefixes: more than %u refs would be deleted at once; delete some of "
                        "them before, by more prefixes or by their names", DELETED_MAX);
      delete (deletion, &entry);
    }
  return TRUE;
}

/* --------------------------------------------------------------------------------------------- all */

static gboolean
choose (Deletion *deletion, GError **error)
{
  const Gitstead__V1__RefDeleteRequest *request = deletion->request;
  if (request->n_names > 0 && request->n_except_prefixes > 0)
    return api_invalid (error, "except_prefixes", "not together with names");
  if (request->n_names + request->n_except_prefixes == 0)
    return api_invalid (error, "names", "must name at least one ref, or except_prefixes say which ones stay");
  if (request->n_names == 0 && request->allow_missing)
    return api_invalid (error, "allow_missing", "only together with names");
  deletion->refs = api_refs (deletion->call, error);
  if (deletion->refs == NULL)
    return FALSE;
  return request->n_names > 0 ? delete_named (deletion, error) : delete_others (deletion, error);
}

gboolean
ref_delete_compute (Storage *storage, GsCall *base, const GsRepo *repo, const GsQuery *query, GsComputed **ret_computed,
                    GError **error)
{
  static const ApiRow row = API_ROW (REF_DELETE_METHOD, NULL, ref_delete_request, ref_delete_reply);
  GitCall call;
  if (!api_open (&call, storage, base, repo, query, &row, FALSE, error))
    return FALSE;
  Deletion deletion = { .call = &call, .request = (gconstpointer) call.request };
  deletion.updates = g_array_new (FALSE, TRUE, sizeof (GsRefUpdate));
  deletion.texts = g_ptr_array_new_with_free_func (g_free);
  gitstead__v1__ref_delete_reply__init (&deletion.reply);
  gboolean done = choose (&deletion, error);
  if (done)
    {
      tell (&deletion);
      if (deletion.request->dry_run)
        g_array_set_size (deletion.updates, 0);
      *ret_computed = computed_new (deletion.updates, deletion.texts, NULL, gs_wire_encode (&deletion.reply.base));
    }
  else
    {
      g_array_unref (deletion.updates);
      g_ptr_array_unref (deletion.texts);
    }
  api_close (&call);
  return done;
}
