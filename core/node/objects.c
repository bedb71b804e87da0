/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the Object service, and disk use, on one replica. */
#include "gitstead/v1/object.pb-c.h"
#include "gitstead/v1/repository.pb-c.h"
#include "node/names.h"

#include <wire/details.h>
#include <wire/page.h>

/* What one Read may return; larger objects are streamed. */
#define READ_MAX (512 * 1024)
#define MODE_SUBMODULE 0160000

static gboolean
unable (const GsiReplica *replica, const char *what, GError **error)
{
  return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "storage '%s' cannot %s", replica->storage->name, what);
}

/* Resolves a revision. The storage says what is wrong with it. */
static gboolean
resolve_text (const GsiReplica *replica, GsiCall *call, const char *revision, gsize len, GsObject *ret_object, GError **error)
{
  const GsStorageOps *ops = replica->storage->ops;
  if (ops->resolve_revision == NULL)
    return unable (replica, "look up objects", error);
  ret_object->size = sizeof *ret_object;
  return ops->resolve_revision (replica->storage->self, &call->base, &replica->repo, revision, len, ret_object, error);
}

static gboolean
resolve (const GsiReplica *replica, GsiCall *call, const ProtobufCBinaryData *revision, GsObject *ret_object,
         GError **error)
{
  g_autofree char *text = NULL;
  if (revision->len > GSI_NAME_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "revision: %" G_GSIZE_FORMAT " bytes, at most %d are taken", revision->len,
                    GSI_NAME_MAX)
           || gs_detail_field (error, "revision");
  text = g_malloc (revision->len + 1);
  if (revision->len > 0)
    memcpy (text, revision->data, revision->len);
  text[revision->len] = '\0';
  return resolve_text (replica, call, text, revision->len, ret_object, error);
}

/* Has it content here? A submodule's commit has not. */
static gboolean
resolve_here (const GsiReplica *replica, GsiCall *call, const ProtobufCBinaryData *revision, GsObject *ret_object,
              GError **error)
{
  return resolve (replica, call, revision, ret_object, error)
         && (ret_object->mode != MODE_SUBMODULE
             || gs_fail (error, GS_ERROR_NOT_FOUND,
                         "revision: it leads to a submodule, whose commit is in another repository")
             || gs_detail_field (error, "revision"));
}

/* With "^{tree}" behind it; behind a path that cannot stand. */
static gboolean
resolve_tree (const GsiReplica *replica, GsiCall *call, const ProtobufCBinaryData *revision, GsOid *ret_tree, GError **error)
{
  g_autoptr (GString) text = g_string_new (NULL);
  GsObject object = { 0 };
  if (revision->len > GSI_NAME_MAX || (revision->len > 0 && memchr (revision->data, ':', revision->len) != NULL))
    {
      char hex[GS_OID_HEX_MAX + 1];
      if (!resolve_here (replica, call, revision, &object, error))
        return FALSE;
      gs_oid_hex (&object.oid, hex);
      g_string_append (text, hex);
    }
  else if (revision->len > 0)
    g_string_append_len (text, (const char *) revision->data, (gssize) revision->len);
  g_string_append (text, "^{tree}");
  if (object.type != GS_OBJECT_TREE && !resolve_text (replica, call, text->str, text->len, &object, error))
    return FALSE;
  *ret_tree = object.oid;
  return TRUE;
}

/* @hex must outlive the message. */
static void
object_message (const GsObject *object, char hex[GS_OID_HEX_MAX + 1], Gitstead__V1__Object *ret_message)
{
  gitstead__v1__object__init (ret_message);
  gs_oid_hex (&object->oid, hex);
  ret_message->oid = hex;
  ret_message->type = (Gitstead__V1__ObjectType) object->type;
  ret_message->size = object->object_bytes;
  ret_message->mode = object->mode;
}

gboolean
gsi_node_object_resolve (const GsiReplica *replica, GsiCall *call, GError **error)
{
  const Gitstead__V1__ObjectResolveRequest *request = (const void *) call->request;
  Gitstead__V1__ObjectResolveReply reply = GITSTEAD__V1__OBJECT_RESOLVE_REPLY__INIT;
  Gitstead__V1__Object message;
  char hex[GS_OID_HEX_MAX + 1];
  GsObject object = { 0 };
  if (!resolve (replica, call, &request->revision, &object, error))
    return FALSE;
  object_message (&object, hex, &message);
  reply.object = &message;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

gboolean
gsi_node_object_read (const GsiReplica *replica, GsiCall *call, GError **error)
{
  const Gitstead__V1__ObjectReadRequest *request = (const void *) call->request;
  const GsStorageOps *ops = replica->storage->ops;
  Gitstead__V1__ObjectReadReply reply = GITSTEAD__V1__OBJECT_READ_REPLY__INIT;
  guint64 limit = request->limit == 0 ? READ_MAX : request->limit;
  Gitstead__V1__Object message;
  char hex[GS_OID_HEX_MAX + 1];
  GsObject object = { 0 }, read = { sizeof read };
  g_autoptr (GBytes) bytes = NULL;

  if (limit > READ_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "limit: %" G_GUINT64_FORMAT " is more than the most, %d", limit, READ_MAX)
           || gs_detail_field (error, "limit");
  if (!resolve_here (replica, call, &request->revision, &object, error))
    return FALSE;
  if (ops->read_object == NULL)
    return unable (replica, "read objects", error);
  if (!ops->read_object (replica->storage->self, &call->base, &replica->repo, &object.oid, limit, &read, &bytes,
                         error))
    return FALSE;
  read.mode = object.mode;
  object_message (&read, hex, &message);
  reply.object = &message;
  reply.data.data = (guint8 *) g_bytes_get_data (bytes, &reply.data.len);
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

gboolean
gsi_node_object_stream (const GsiReplica *replica, GsiCall *call, GError **error)
{
  const Gitstead__V1__ObjectStreamRequest *request = (const void *) call->request;
  const GsStorageOps *ops = replica->storage->ops;
  Gitstead__V1__ObjectStreamReply reply = GITSTEAD__V1__OBJECT_STREAM_REPLY__INIT;
  Gitstead__V1__Object message;
  char hex[GS_OID_HEX_MAX + 1];
  GsObject object = { 0 };

  if (!resolve_here (replica, call, &request->revision, &object, error))
    return FALSE;
  if (ops->stream_object == NULL)
    return unable (replica, "stream objects", error);
  if (!ops->stream_object (replica->storage->self, &call->base, &replica->repo, &object.oid, call->stream, error))
    return FALSE;
  object_message (&object, hex, &message);
  reply.object = &message;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* -------------------------------------------------------------------------------------- directories */

typedef struct
{
  GPtrArray *entries; /* of TreeEntry messages */
  const char *after;  /* skip up to this name; NULL = none */
  gsize limit, bytes;
  gboolean more;
} TreeListing;

static void
tree_entry_free (gpointer data)
{
  Gitstead__V1__TreeEntry *entry = data;
  g_free (entry->name.data);
  g_free (entry->oid);
  g_free (entry);
}

static gboolean
tree_visit (const GsTreeEntry *entry, gpointer user)
{
  TreeListing *listing = user;
  Gitstead__V1__TreeEntry *message;
  if (listing->after != NULL)
    {
      if (strcmp (listing->after, entry->name) == 0)
        listing->after = NULL;
      return TRUE;
    }
  if (listing->entries->len >= listing->limit || listing->bytes >= GSI_PAGE_BYTES)
    {
      listing->more = TRUE;
      return FALSE;
    }
  message = g_new (Gitstead__V1__TreeEntry, 1);
  gitstead__v1__tree_entry__init (message);
  message->name = gsi_name_bytes (g_strdup (entry->name));
  message->oid = gsi_name_oid_hex (&entry->oid);
  message->mode = entry->mode;
  message->type = (Gitstead__V1__ObjectType) entry->type;
  listing->bytes += message->name.len + 64;
  g_ptr_array_add (listing->entries, message);
  return TRUE;
}

/* The tree of a page is that of the first one: a token's state is "<tree>/<name of the last entry>". */
static gboolean
tree_of_token (const char *state, GsOid *ret_tree, const char **ret_after, GError **error)
{
  const char *slash = strchr (state, '/');
  if (slash == NULL || slash[1] == '\0' || !gs_oid_parse (state, (gsize) (slash - state), ret_tree))
    return gs_page_bad (error);
  *ret_after = slash + 1;
  return TRUE;
}

static ProtobufCBinaryData
tree_token (const GsiReplica *replica, const GsiCall *call, const GsOid *tree, const Gitstead__V1__TreeEntry *last)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (tree, hex);
  g_autofree char *state = g_strdup_printf ("%s/%s", hex, (const char *) last->name.data);
  return gsi_page_token (call, replica->repo.id, state);
}

gboolean
gsi_node_object_list_tree (const GsiReplica *replica, GsiCall *call, GError **error)
{
  const Gitstead__V1__ObjectListTreeRequest *request = (const void *) call->request;
  const GsStorageOps *ops = replica->storage->ops;
  g_autoptr (GPtrArray) entries = g_ptr_array_new_with_free_func (tree_entry_free);
  Gitstead__V1__ObjectListTreeReply reply = GITSTEAD__V1__OBJECT_LIST_TREE_REPLY__INIT;
  TreeListing listing = { entries, NULL, 0, 0, FALSE };
  g_autofree char *state = NULL;
  g_autoptr (GError) why = NULL;
  GsOid tree;

  if (ops->list_tree == NULL)
    return unable (replica, "list trees", error);
  if (!gsi_page_begin (call, replica->repo.id, request->page, &listing.limit, &state, error)
      || !(state != NULL ? tree_of_token (state, &tree, &listing.after, error)
                         : resolve_tree (replica, call, &request->revision, &tree, error)))
    return FALSE;
  if (!ops->list_tree (replica->storage->self, &call->base, &replica->repo, &tree, tree_visit, &listing, &why))
    {
      if (state != NULL && why->code == GS_ERROR_NOT_FOUND)
        return gs_page_bad (error);
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if (listing.after != NULL)
    return gs_page_bad (error);
  reply.entries = (Gitstead__V1__TreeEntry **) entries->pdata;
  reply.n_entries = entries->len;
  if (listing.more)
    reply.next_page_token = tree_token (replica, call, &tree, reply.entries[entries->len - 1]);
  gsi_call_reply (call, &reply.base);
  g_free (reply.next_page_token.data);
  return TRUE;
}

gboolean
gsi_node_repository_size (const GsiReplica *replica, GsiCall *call, GError **error)
{
  Gitstead__V1__RepositorySizeReply reply = GITSTEAD__V1__REPOSITORY_SIZE_REPLY__INIT;
  GsRepoSize size = { sizeof size };
  if (!replica->storage->ops->measure (replica->storage->self, &call->base, &replica->repo, &size, error))
    return FALSE;
  reply.total_bytes = size.total_bytes;
  reply.objects_bytes = size.objects_bytes;
  reply.refs_bytes = size.refs_bytes;
  reply.refs = size.n_refs;
  reply.packs = size.n_packs;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}
