/* SPDX-License-Identifier: Apache-2.0 */
/* Calls about what is in trees: CommitService's listings, and ObjectService's Exist. */
#include "api.h"

#include "gitstead/v1/object.pb-c.h"

#define EXIST_MAX 5000
#define ENTRY_BYTES 120 /* of an entry beside its names */

/* A listing: which tree, and, from the token, how far the last page came. */
typedef struct
{
  ApiPage page;
  GsOid tree;
  const char *base;  /* where the tree stands, "" = at the top */
  const char *after; /* below the tree; NULL = from the start */
  guint8 pass;       /* of trees first: 0 folders, 1 the rest */
  char *last;        /* entry of this page, below the tree */
  gboolean more;
} Listing;

/* The tree of a page is that of the first one. */
static gboolean
listing_begin (GitCall *call, const ProtobufCBinaryData *revision, const ProtobufCBinaryData *path,
               const Gitstead__V1__Page *page, Listing *ret_listing, GError **error)
{
  Listing listing = { .tree = { .len = 0 } };
  const gsize raw = (gsize) call->repo->format;
  GsObject object;
  char *base;
  if (!api_page_begin (call, page, &listing.page, error) || !api_take_path (call, path, "path", TRUE, &base, error))
    return FALSE;
  listing.base = base;
  if (listing.page.state != NULL)
    {
      if (listing.page.state_len < 2 + raw || memchr (listing.page.state + 1 + raw, 0, listing.page.state_len - 1 - raw))
        return gs_page_bad (error);
      listing.pass = listing.page.state[0];
      if (!api_page_tree (call, listing.page.state + 1, &listing.tree, error))
        return FALSE;
      listing.after = api_text (call, (const char *) listing.page.state + 1 + raw,
                                (gssize) (listing.page.state_len - 1 - raw));
    }
  else
    {
      if (!api_take_tree (call, revision, "revision", &listing.tree, error)
          || !api_take_entry (call, &listing.tree, path, "path", API_FOLDER, &base, &object, error))
        return FALSE;
      listing.tree = object.oid;
    }
  *ret_listing = listing;
  return TRUE;
}

/* FALSE: the page is full; @path stays for the next one. */
static gboolean
listing_room (GitCall *call, Listing *listing, const char *path, gsize bytes)
{
  if (!api_page_room (&listing->page, bytes))
    {
      listing->more = TRUE;
      return FALSE;
    }
  listing->last = api_text (call, path + (*listing->base != '\0' ? strlen (listing->base) + 1 : 0), -1);
  return TRUE;
}

static ProtobufCBinaryData
listing_token (GitCall *call, const Listing *listing)
{
  g_autoptr (GByteArray) state = g_byte_array_new ();
  if (!listing->more)
    return (ProtobufCBinaryData){ 0 };
  g_byte_array_append (state, &listing->pass, 1);
  g_byte_array_append (state, listing->tree.raw, listing->tree.len);
  g_byte_array_append (state, (const guint8 *) listing->last, (guint) strlen (listing->last));
  return api_page_token (call, state->data, state->len);
}

/* ------------------------------------------------------------------------------------------- entries */

typedef struct
{
  Listing listing;
  const Gitstead__V1__CommitTreeEntriesRequest *request;
  Gitstead__V1__CommitTreeEntriesReply *reply;
} Entries;

/* Down to the first folder that holds more than one folder, or something else. */
static gboolean
flat_path (GitCall *call, const char *path, const GsTreeEntry *entry, ProtobufCBinaryData *ret_path, GError **error)
{
  g_autoptr (GString) flat = g_string_new (path);
  GsOid at = entry->oid;
  gboolean alone = entry->type == GS_OBJECT_TREE;
  while (alone && flat->len < API_NAME_MAX)
    {
      g_autoptr (GBytes) bytes = NULL;
      GsTreeEntry inner;
      if (!api_read (call, &at, GS_OBJECT_TREE, ODB_TREE_MAX, &bytes, error))
        return FALSE;
      gsize left;
      const char *data = g_bytes_get_data (bytes, &left);
      alone = odb_tree_next (&data, &left, &inner.name, &inner.mode, &inner.oid) && left == 0
              && odb_mode_type (inner.mode) == GS_OBJECT_TREE;
      if (alone)
        g_string_append_printf (flat, "/%s", inner.name);
      at = inner.oid;
    }
  *ret_path = api_bytes (call, flat->str, flat->len);
  return TRUE;
}

static gboolean
add_entry (GitCall *call, const char *path, const GsTreeEntry *entry, gpointer user, gboolean *ret_more, GError **error)
{
  Entries *entries = user;
  const Gitstead__V1__CommitTreeEntriesRequest *request = entries->request;
  Gitstead__V1__CommitTreeEntry *message;
  if (request->trees_first && (entry->type == GS_OBJECT_TREE) != (entries->listing.pass == 0))
    return TRUE;
  *ret_more = listing_room (call, &entries->listing, path, strlen (path) * (request->flat_paths ? 2 : 1) + ENTRY_BYTES);
  if (!*ret_more)
    return TRUE;
  message = api_message (call, &gitstead__v1__commit_tree_entry__descriptor);
  message->path = api_bytes (call, path, strlen (path));
  message->mode = entry->mode;
  message->type = (Gitstead__V1__ObjectType) entry->type;
  message->oid = api_hex (call, &entry->oid);
  if (request->sizes && entry->type == GS_OBJECT_BLOB)
    {
      GsObjectType type;
      if (!odb_header (call->repo, api_odb (call, NULL), &entry->oid, &type, &message->size, error))
        {
          api_name_loss (call, &entry->oid, error);
          return FALSE;
        }
    }
  if (request->flat_paths && !flat_path (call, path, entry, &message->flat_path, error))
    return FALSE;
  API_APPEND (call, entries->reply, entries, message);
  return TRUE;
}

gboolean
api_tree_entries (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__CommitTreeEntriesRequest *request = (const void *) message;
  Gitstead__V1__CommitTreeEntriesReply *reply = (void *) answer;
  Entries entries = { .request = request, .reply = reply };
  Listing *listing = &entries.listing;
  if (request->recursive && (request->trees_first || request->flat_paths))
    return api_invalid (error, request->trees_first ? "trees_first" : "flat_paths", "not together with recursive");
  if (!listing_begin (call, &request->revision, &request->path, request->page, listing, error))
    return FALSE;
  if (listing->pass > (request->trees_first ? 1 : 0))
    return gs_page_bad (error);
  reply->tree = api_hex (call, &listing->tree);
  if (!api_walk_tree (call, &listing->tree, listing->base, listing->after, request->recursive, add_entry, &entries, error))
    return FALSE;
  if (request->trees_first && listing->pass == 0 && !listing->more)
    {
      char *last = listing->last;
      listing->pass = 1;
      if (!api_walk_tree (call, &listing->tree, listing->base, NULL, FALSE, add_entry, &entries, error))
        return FALSE;
      /* The page ended with the last folder. */
      if (listing->more && listing->last == last)
        listing->pass = 0;
    }
  reply->next_page_token = listing_token (call, listing);
  return TRUE;
}

/* --------------------------------------------------------------------------------------------- files */

typedef struct
{
  Listing listing;
  Gitstead__V1__CommitFileListReply *reply;
} Files;

static gboolean
add_file (GitCall *call, const char *path, const GsTreeEntry *entry, gpointer user, gboolean *ret_more, GError **error)
{
  Files *files = user;
  if (entry->type == GS_OBJECT_TREE)
    return TRUE;
  *ret_more = listing_room (call, &files->listing, path, strlen (path) + 8);
  if (*ret_more)
    API_APPEND (call, files->reply, paths, api_bytes (call, path, strlen (path)));
  return TRUE;
}

gboolean
api_file_list (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__CommitFileListRequest *request = (const void *) message;
  Gitstead__V1__CommitFileListReply *reply = (void *) answer;
  Files files = { .reply = reply };
  Listing *listing = &files.listing;
  if (!listing_begin (call, &request->revision, &request->path, request->page, listing, error)
      || !api_walk_tree (call, &listing->tree, listing->base, listing->after, TRUE, add_file, &files, error))
    return FALSE;
  reply->next_page_token = listing_token (call, listing);
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- existence */

static gboolean
object_exist (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__ObjectExistRequest *request = (const void *) message;
  Gitstead__V1__ObjectExistReply *reply = (void *) answer;
  if (!api_take_count (request->n_revisions, EXIST_MAX, "revisions", error))
    return FALSE;
  for (gsize i = 0; i < request->n_revisions; i++)
    {
      Gitstead__V1__Object *entry = api_message (call, &gitstead__v1__object__descriptor);
      g_autoptr (GError) why = NULL;
      GsObject object;
      if (!gs_call_check (call->call, "look for objects", error))
        return FALSE;
      if (api_take_revision (call, &request->revisions[i], "revisions", &object, &why))
        {
          entry->oid = api_hex (call, &object.oid);
          entry->type = (Gitstead__V1__ObjectType) object.type;
          entry->size = object.object_bytes;
          entry->mode = object.mode;
        }
      else if (why->code != GS_ERROR_NOT_FOUND)
        {
          g_propagate_error (error, g_steal_pointer (&why));
          return FALSE;
        }
      API_APPEND (call, reply, objects, entry);
    }
  return TRUE;
}

const ApiRow api_object_rows[] = {
  API_ROW (304, object_exist, object_exist_request, object_exist_reply),
  API_ROW (305, api_object_size, object_size_request, object_size_reply),
  API_ROW (306, api_object_list, object_list_request, object_list_reply),
  { 0 },
};
