/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind STORAGE: objects, revisions, and calls of the Git API. All of them are optional slots. */
#include "storage.h"
#include "stream.h"

gboolean
lacks (Conformance *c, gboolean has, const GError *error)
{
  if (has && gs_error_code (error) != GS_ERROR_UNIMPLEMENTED)
    return FALSE;
  conformance_skip (c, "the storage cannot do that");
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- revisions */

static gboolean
resolve (Conformance *c, const Replica *replica, const char *revision, GsObject *ret_object, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  return ops->resolve_revision (c->self, &call, &replica->repo, revision, strlen (revision), ret_object, error);
}

static void
resolves_to (Conformance *c, const Replica *replica, const char *revision, const GsOid *oid, GsObjectType type,
             guint32 mode, guint64 n_bytes)
{
  GsObject object = { .size = sizeof object };
  g_autoptr (GError) error = NULL;
  char hex[GS_OID_HEX_MAX + 1] = "";
  if (conformance_has_failed (c))
    return;
  if (!resolve (c, replica, revision, &object, &error))
    {
      conformance_fail (c, "every form of revision that the header names", "“%s”: %s", revision, error->message);
      return;
    }
  gs_oid_hex (&object.oid, hex);
  CHECK (c, gs_oid_equal (&object.oid, oid) && object.type == type, "the object that the revision names",
         "%s of type %d for “%s”", hex, object.type, revision);
  CHECK (c, object.mode == mode, "the mode of what was found by path, and none of what was not", "%o for “%s”",
         object.mode, revision);
  CHECK (c, n_bytes == 0 || object.object_bytes == n_bytes, "the object's size", "%" G_GUINT64_FORMAT " for “%s”",
         object.object_bytes, revision);
}

void
revisions_resolve (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  Replica replica;
  Project p;
  GsObject object = { .size = sizeof object };
  g_autoptr (GError) error = NULL;
  char hex[GS_OID_HEX_MAX + 1];
  g_autofree char *at_path = NULL, *begin = NULL;
  if (!project_make (c, &replica, &p))
    return;
  if (ops->resolve_revision == NULL || !resolve (c, &replica, "HEAD", &object, &error))
    {
      if (!lacks (c, ops->resolve_revision != NULL, error))
        conformance_fail (c, "HEAD to be found", "%s", error->message);
      return;
    }
  gs_oid_hex (&p.commit, hex);
  at_path = g_strconcat (hex, ":lib/part", NULL);
  begin = g_strndup (hex, 16);
  resolves_to (c, &replica, "HEAD", &p.commit, GS_OBJECT_COMMIT, 0, 0);
  resolves_to (c, &replica, hex, &p.commit, GS_OBJECT_COMMIT, 0, 0);
  resolves_to (c, &replica, "refs/heads/main", &p.commit, GS_OBJECT_COMMIT, 0, 0);
  resolves_to (c, &replica, "main", &p.commit, GS_OBJECT_COMMIT, 0, 0);
  resolves_to (c, &replica, "v1", &p.tag, GS_OBJECT_TAG, 0, 0);
  resolves_to (c, &replica, begin, &p.commit, GS_OBJECT_COMMIT, 0, 0);
  resolves_to (c, &replica, "heads/main", &p.commit, GS_OBJECT_COMMIT, 0, 0);
  resolves_to (c, &replica, "tags/v1", &p.tag, GS_OBJECT_TAG, 0, 0);
  resolves_to (c, &replica, "v1^{commit}", &p.commit, GS_OBJECT_COMMIT, 0, 0);
  resolves_to (c, &replica, "v1^{tag}", &p.tag, GS_OBJECT_TAG, 0, 0);
  resolves_to (c, &replica, "v1^{}", &p.commit, GS_OBJECT_COMMIT, 0, 0);
  resolves_to (c, &replica, "v1~0", &p.commit, GS_OBJECT_COMMIT, 0, 0);
  resolves_to (c, &replica, "main^0^{tree}", &p.tree, GS_OBJECT_TREE, 0, 0);
  resolves_to (c, &replica, "main~0:lib", &p.lib, GS_OBJECT_TREE, 040000, 0);
  resolves_to (c, &replica, "main^{tree}", &p.tree, GS_OBJECT_TREE, 0, 0);
  resolves_to (c, &replica, "main:lib.c", &p.big, GS_OBJECT_BLOB, 0100644, PROJECT_BIG);
  resolves_to (c, &replica, "v1:lib", &p.lib, GS_OBJECT_TREE, 040000, 0);
  resolves_to (c, &replica, at_path, &p.small, GS_OBJECT_BLOB, 0100644, strlen (p.text));
}

void
revisions_refused (Conformance *c)
{
  static const char *const malformed[]
      = { "",      "@",     "main@{1}", "@{-1}", "main..v1", "^main", "main^@", "main^!", "main^{/x}", ":/x", "-x", "a b",
          "main\n", "main~x", "main^{", "main~99999999999999999999", "~1", "main:lib/../lib.c", "main:/lib.c", "main:lib//part",
          "main^{thing}", ":lib.c" };
  static const char *const absent[]
      = { "nowhere",      "refs/heads/nowhere", "0123456789012345678901234567890123456789",
          "main:nowhere", "main:lib.c/part",    "main:lib.c/", "main^{blob}", "HEAD^", "main~1", "main~1000000000", "main^2" };
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  Replica replica;
  Project p;
  GsObject object = { .size = sizeof object };
  g_autoptr (GError) first = NULL;
  if (!project_make (c, &replica, &p))
    return;
  if (ops->resolve_revision == NULL || !resolve (c, &replica, "HEAD", &object, &first))
    {
      if (!lacks (c, ops->resolve_revision != NULL, first))
        conformance_fail (c, "HEAD to be found", "%s", first->message);
      return;
    }
  for (gsize i = 0; i < G_N_ELEMENTS (malformed); i++)
    {
      g_autoptr (GError) why = NULL;
      gboolean ok = resolve (c, &replica, malformed[i], &object, &why);
      CHECK (c, !ok && gs_error_code (why) == GS_ERROR_INVALID_ARGUMENT,
             "INVALID_ARGUMENT for what is no such revision", "“%s”: %s", malformed[i],
             ok ? "an object" : why->message);
    }
  for (gsize i = 0; i < G_N_ELEMENTS (absent); i++)
    {
      g_autoptr (GError) why = NULL;
      gboolean ok = resolve (c, &replica, absent[i], &object, &why);
      CHECK (c, !ok && gs_error_code (why) == GS_ERROR_NOT_FOUND, "NOT_FOUND for what is not there", "“%s”: %s",
             absent[i], ok ? "an object" : why->message);
    }
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, /* the length counts, not the NUL */
              ops->resolve_revision (c->self, &call, &replica.repo, "main\0x", 6, &object, &error));
  CHECK_OK (c, ops->resolve_revision (c->self, &call, &replica.repo, "mainly", 4, &object, &error));
}

/* ------------------------------------------------------------------------------------------- objects */

void
objects_read (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  Replica replica;
  Project p;
  GsOid nothing = { .len = 20, .raw = { 1 } };
  GsObject object = { .size = sizeof object };
  g_autoptr (GBytes) small = NULL, big = NULL, other = NULL;
  g_autoptr (GError) why = NULL;
  gsize len;
  if (!project_make (c, &replica, &p))
    return;
  if (ops->read_object == NULL
      || !ops->read_object (c->self, &call, &replica.repo, &p.small, 4096, &object, &small, &why))
    {
      if (!lacks (c, ops->read_object != NULL, why))
        conformance_fail (c, "the bytes of a blob", "%s", why->message);
      return;
    }
  CHECK (c,
         g_bytes_get_size (small) == strlen (p.text)
             && memcmp (g_bytes_get_data (small, &len), p.text, strlen (p.text)) == 0,
         "the bytes of the blob", "others, %" G_GSIZE_FORMAT, g_bytes_get_size (small));
  CHECK (c,
         object.type == GS_OBJECT_BLOB && gs_oid_equal (&object.oid, &p.small)
             && object.object_bytes == strlen (p.text),
         "type, id and size beside them", "type %d, %" G_GUINT64_FORMAT " bytes", object.type, object.object_bytes);
  CHECK_OK (c, ops->read_object (c->self, &call, &replica.repo, &p.big, PROJECT_BIG, &object, &big, &error));
  CHECK (c, g_bytes_get_size (big) == PROJECT_BIG, "an object that is just as large as it may be",
         "%" G_GSIZE_FORMAT " bytes", g_bytes_get_size (big));
  CHECK_CODE (c, GS_ERROR_OUT_OF_RANGE,
              ops->read_object (c->self, &call, &replica.repo, &p.big, PROJECT_BIG - 1, &object, &other, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND,
              ops->read_object (c->self, &call, &replica.repo, &nothing, 4096, &object, &other, &error));
}

void
objects_streamed (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  const GsOid *oids[2];
  Replica replica;
  Project p;
  if (!project_make (c, &replica, &p))
    return;
  oids[0] = &p.small;
  oids[1] = &p.big;
  for (int i = 0; i < 2; i++)
    {
      GsCall call = conformance_call (c, 60 * G_USEC_PER_SEC);
      gsize wanted = i == 0 ? strlen (p.text) : PROJECT_BIG;
      g_autoptr (GString) got = NULL;
      g_autoptr (GError) error = NULL;
      Taker taker;
      gboolean ok;
      if (ops->stream_object == NULL)
        {
          lacks (c, FALSE, NULL);
          return;
        }
      if (!taker_begin (c, &taker, "", 0))
        return;
      ok = ops->stream_object (c->self, &call, &replica.repo, oids[i], &taker.fake->stream, &error);
      got = taker_end (&taker);
      if (!ok && lacks (c, TRUE, error))
        return;
      CHECK (c, ok, "the object's bytes on the stream", "%s", error->message);
      CHECK (c, got->len == wanted, "all bytes of the object", "%" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT, got->len,
             wanted);
      for (gsize at = 0; at < wanted; at++)
        CHECK (c, (guint8) got->str[at] == (i == 0 ? (guint8) p.text[at] : (guint8) (at * 31 + at / 251)),
               "the object's own bytes", "another at %" G_GSIZE_FORMAT, at);
    }
}

typedef struct
{
  GString *text;
  guint n, stop_after;
} SeenTree;

static gboolean
see_entry (const GsTreeEntry *entry, gpointer user)
{
  SeenTree *seen = user;
  g_string_append_printf (seen->text, "%s %o %d %d ", entry->name, entry->mode, entry->type, entry->oid.raw[0]);
  return ++seen->n != seen->stop_after;
}

void
trees_listed (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  Replica replica;
  Project p;
  GsOid nothing = { .len = 20, .raw = { 1 } };
  g_autoptr (GString) text = g_string_new (NULL), more = g_string_new (NULL);
  SeenTree seen = { .text = text }, first = { .text = more, .stop_after = 1 };
  g_autofree char *expected = NULL;
  g_autoptr (GError) why = NULL;
  if (!project_make (c, &replica, &p))
    return;
  if (ops->list_tree == NULL || !ops->list_tree (c->self, &call, &replica.repo, &p.tree, see_entry, &seen, &why))
    {
      if (!lacks (c, ops->list_tree != NULL, why))
        conformance_fail (c, "the entries of a tree", "%s", why->message);
      return;
    }
  expected = g_strdup_printf ("lib-x 100755 3 %d lib.c 100644 3 %d lib 40000 2 %d ", p.small.raw[0], p.big.raw[0],
                              p.lib.raw[0]);
  CHECK (c, strcmp (text->str, expected) == 0,
         "lib-x, lib.c and the folder lib, as git orders them, with mode and type", "%s", text->str);
  CHECK_OK (c, ops->list_tree (c->self, &call, &replica.repo, &p.tree, see_entry, &first, &error));
  CHECK (c, first.n == 1, "no visit after the visitor said stop", "%u", first.n);
  CHECK_CODE (c, GS_ERROR_NOT_FOUND,
              ops->list_tree (c->self, &call, &replica.repo, &nothing, see_entry, &first, &error));
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->list_tree (c->self, &call, &replica.repo, &p.big, see_entry, &first, &error));
}

/* ------------------------------------------------------------------------------------------- Git API */

#define COMMIT_GET 700
#define CHANGE_COMMIT_FILES 850
#define NO_METHOD 4000000000u

/* A member of a protobuf message: bytes, text or another message. */
static void
put_bytes (GString *message, guint tag, const char *bytes, gssize n)
{
  gsize len = n < 0 ? strlen (bytes) : (gsize) n; /* below 128, as are numbers: one byte */
  g_string_append_c (message, (char) (tag << 3 | 2));
  g_string_append_c (message, (char) len);
  g_string_append_len (message, bytes, (gssize) len);
}

static void
put_number (GString *message, guint tag, guint number)
{
  g_string_append_c (message, (char) (tag << 3));
  g_string_append_c (message, (char) number);
}

static GBytes *
commit_request (const char *revision)
{
  g_autoptr (GString) request = g_string_new (NULL);
  put_bytes (request, 2, revision, -1);
  return g_bytes_new (request->str, request->len);
}

/* A file "new" with one commit more on refs/heads/main. */
static GBytes *
change_request (void)
{
  g_autoptr (GString) request = g_string_new (NULL), write = g_string_new (NULL), person = g_string_new (NULL);
  g_autoptr (GString) action = g_string_new (NULL);
  put_bytes (person, 1, "A", -1);
  put_bytes (person, 2, "a@example.com", -1);
  put_number (person, 3, 7);
  put_bytes (person, 4, "+0000", -1);
  put_bytes (write, 1, "refs/heads/main", -1);
  put_bytes (write, 3, person->str, (gssize) person->len);
  put_number (action, 1, 1);
  put_bytes (action, 2, "new", -1);
  put_bytes (action, 4, "content\n", -1);
  put_bytes (request, 2, write->str, (gssize) write->len);
  put_bytes (request, 3, "one more", -1);
  put_bytes (request, 4, action->str, (gssize) action->len);
  return g_bytes_new (request->str, request->len);
}

static gboolean
holds (GBytes *message, const char *text)
{
  gsize len;
  const char *bytes = g_bytes_get_data (message, &len);
  return bytes != NULL && memmem (bytes, len, text, strlen (text)) != NULL;
}

void
api_answered (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 60 * G_USEC_PER_SEC);
  g_autoptr (GBytes) request = commit_request ("main"), absent = commit_request ("nowhere"), reply = NULL, other = NULL;
  GsQuery query = { sizeof query, NO_METHOD, request, NULL };
  g_autoptr (GError) why = NULL;
  char hex[GS_OID_HEX_MAX + 1];
  Replica replica;
  Project p;
  if (!project_make (c, &replica, &p))
    return;
  if (ops->query == NULL)
    {
      lacks (c, FALSE, NULL);
      return;
    }
  CHECK_CODE (c, GS_ERROR_UNIMPLEMENTED, ops->query (c->self, &call, &replica.repo, &query, &other, &error));
  query.method = COMMIT_GET;
  if (!ops->query (c->self, &call, &replica.repo, &query, &reply, &why))
    {
      if (!lacks (c, TRUE, why))
        conformance_fail (c, "an answer to Commit/Get", "%s", why->message);
      return;
    }
  gs_oid_hex (&p.commit, hex);
  CHECK (c, reply != NULL && holds (reply, hex) && holds (reply, p.text), "the commit with its message in the reply",
         "a reply without them");
  query.request = absent;
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->query (c->self, &call, &replica.repo, &query, &other, &error));
}

/* FALSE after failing or skipping the case. */
static gboolean
compute (Conformance *c, const Replica *replica, GBytes *request, GsComputed **ret_computed)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, 60 * G_USEC_PER_SEC);
  GsQuery query = { sizeof query, CHANGE_COMMIT_FILES, request, NULL };
  g_autoptr (GError) error = NULL;
  if (ops->compute (c->self, &call, &replica->repo, &query, ret_computed, &error))
    return TRUE;
  if (!lacks (c, TRUE, error))
    conformance_fail (c, "what Change/CommitFiles would write", "%s", error->message);
  return FALSE;
}

/* Looks at two results for one request, and writes the first. */
static void
look_at_computed (Conformance *c, const Replica *replica, const Project *p, const GsComputed *one,
                  const GsComputed *two)
{
  const GsRefUpdate *update = one->change.updates;
  g_autofree char *refs = NULL;
  char hex[GS_OID_HEX_MAX + 1];
  CHECK (c, one->change.n_updates == 1 && strcmp (update->name, "refs/heads/main") == 0,
         "one update, of refs/heads/main", "%" G_GSIZE_FORMAT " updates", one->change.n_updates);
  CHECK (c, gs_oid_equal (&update->old_oid, &p->commit), "what the branch has as the expected old value", "another");
  CHECK (c, one->change.pack != NULL && one->reply != NULL, "the new objects in one pack, and a reply", "none");
  CHECK (c, two->change.n_updates == 1 && gs_oid_equal (&update->new_oid, &two->change.updates->new_oid),
         "the same request on the same refs to give the same objects", "two different ones");
  if (!write_refs (c, replica, one->change.updates, 1, one->change.pack, 2))
    return;
  gs_oid_hex (&update->new_oid, hex);
  hex[8] = '\0';
  refs = refs_now (c, replica);
  CHECK (c, strstr (refs, hex) != NULL && holds (one->reply, hex), "what the reply says, once it is written", "%s",
         refs);
}

void
api_computed (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  g_autoptr (GBytes) request = change_request ();
  GsComputed *one = NULL, *two = NULL;
  g_autofree char *before = NULL, *after = NULL;
  GsRepoSize size = { .size = sizeof size }, size_after = { .size = sizeof size_after };
  GsCall call = conformance_call (c, 60 * G_USEC_PER_SEC);
  Replica replica;
  Project p;
  if (!project_make (c, &replica, &p))
    return;
  CHECK (c, (ops->compute == NULL) == (ops->computed_free == NULL), "compute and computed_free, or neither",
         "one of them");
  if (ops->compute == NULL)
    {
      lacks (c, FALSE, NULL);
      return;
    }
  before = refs_now (c, &replica);
  CHECK_OK (c, ops->measure (c->self, &call, &replica.repo, &size, &error));
  if (!compute (c, &replica, request, &one))
    return;
  if (compute (c, &replica, request, &two))
    {
      after = refs_now (c, &replica);
      if (strcmp (before, after) != 0)
        conformance_fail (c, "nothing written that readers could see", "refs %s", after);
      else if (ops->measure (c->self, &call, &replica.repo, &size_after, NULL) && size.n_packs != size_after.n_packs)
        conformance_fail (c, "nothing written that readers could see", "a pack more");
      else
        look_at_computed (c, &replica, &p, one, two);
      ops->computed_free (c->self, two);
    }
  ops->computed_free (c->self, one);
}
