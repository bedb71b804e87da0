/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind STORAGE: what git clients are told, fetches and pushes. All of them are optional slots. */
#include "storage.h"
#include "stream.h"

#include <fcntl.h>
#include <unistd.h>

#define LONG_US (60 * G_USEC_PER_SEC)
#define ZERO_ID "0000000000000000000000000000000000000000"

/* ----------------------------------------------------------------------------------- advertisements */

/* Every packet as a line, without what follows a NUL; "." for a mark. NULL when it is not packet lines. *full*. */
static char *
packets_text (const char *at, gsize left)
{
  g_autoptr (GString) text = g_string_new (NULL);
  const char *bytes;
  gsize len;
  for (;;)
    switch (packet_next (&at, &left, &bytes, &len))
      {
      case PACKET_DATA:
        g_string_append_len (text, bytes, (gssize) strnlen (bytes, len));
        if (text->len > 0 && text->str[text->len - 1] != '\n')
          g_string_append_c (text, '\n');
        break;
      case PACKET_FLUSH:
        g_string_append (text, ".\n");
        break;
      case PACKET_END:
        return g_string_free (g_steal_pointer (&text), FALSE);
      default:
        return NULL;
      }
}

/* NULL after failing or skipping the case. *full*. */
static char *
advertisement (Conformance *c, const Replica *replica, guint32 service, const char *protocol)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, LONG_US);
  g_autoptr (GBytes) bytes = NULL;
  g_autoptr (GError) error = NULL;
  const char *data;
  gsize len;
  char *text;
  if (ops->advertise == NULL || !ops->advertise (c->self, &call, &replica->repo, service, protocol, &bytes, &error))
    {
      if (!lacks (c, ops->advertise != NULL, error))
        conformance_fail (c, "an advertisement", "%s", error->message);
      return NULL;
    }
  data = g_bytes_get_data (bytes, &len);
  text = packets_text (data, len);
  if (text == NULL || !g_str_has_suffix (text, ".\n"))
    conformance_fail (c, "packet lines with a flush packet at the end", "%.80s",
                      text != NULL ? text : "something else");
  else if (strstr (text, "# service=") != NULL)
    conformance_fail (c, "no smart-HTTP service header: transports write it", "%.80s", text);
  else
    return text;
  g_free (text);
  return NULL;
}

void
refs_advertised (Conformance *c)
{
  Replica replica, empty;
  Project p;
  char hex[GS_OID_HEX_MAX + 1], tag[GS_OID_HEX_MAX + 1];
  g_autofree char *v0 = NULL, *v1 = NULL, *v2 = NULL, *push = NULL, *nothing = NULL;
  g_autofree char *refs = NULL, *peeled = NULL, *with_head = NULL;
  if (!project_make (c, &replica, &p) || !replica_make (c, &empty)
      || (v0 = advertisement (c, &replica, GS_SERVICE_UPLOAD_PACK, "")) == NULL)
    return;
  gs_oid_hex (&p.commit, hex);
  gs_oid_hex (&p.tag, tag);
  refs = g_strdup_printf ("%s refs/heads/main\n%s refs/tags/v1\n", hex, tag);
  peeled = g_strdup_printf ("%s%s refs/tags/v1^{}\n.\n", refs, hex);
  with_head = g_strdup_printf ("%s HEAD\n%s", hex, peeled);
  CHECK (c, strcmp (v0, with_head) == 0, "HEAD, every ref, and what tags lead to, for a fetch", "%s", v0);
  if ((v1 = advertisement (c, &replica, GS_SERVICE_UPLOAD_PACK, "version=1")) == NULL)
    return;
  CHECK (c, g_str_has_prefix (v1, "version 1\n") && g_str_has_suffix (v1, with_head),
         "\"version 1\", and then the same", "%s", v1);
  if ((v2 = advertisement (c, &replica, GS_SERVICE_UPLOAD_PACK, "version=2")) == NULL)
    return;
  CHECK (c, g_str_has_prefix (v2, "version 2\n") && strstr (v2, "\nls-refs") != NULL && strstr (v2, "\nfetch") != NULL,
         "\"version 2\", with the commands ls-refs and fetch", "%s", v2);
  if ((push = advertisement (c, &replica, GS_SERVICE_RECEIVE_PACK, "")) == NULL)
    return;
  CHECK (c, g_str_has_prefix (push, refs) && strstr (push, "^{}") == NULL, "every ref and nothing else for a push",
         "%s", push);
  if ((nothing = advertisement (c, &empty, GS_SERVICE_RECEIVE_PACK, "")) == NULL)
    return;
  CHECK (c, g_str_has_prefix (nothing, ZERO_ID " capabilities^{}\n"), "the capabilities of a replica without refs",
         "%s", nothing);
}

/* ------------------------------------------------------------------------------------------- fetches */

/* What the storage answers to @request. NULL after skipping the case, or failing it unless @may_fail. *full*. */
static GString *
fetch (Conformance *c, const Replica *replica, const char *protocol, gboolean stateless, const GString *request,
       gboolean may_fail)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, LONG_US);
  g_autoptr (GError) error = NULL;
  GString *got;
  Taker taker;
  gboolean ok;
  if (ops->upload_pack == NULL)
    {
      lacks (c, FALSE, NULL);
      return NULL;
    }
  if (!taker_begin (c, &taker, request->str, request->len))
    return NULL;
  ok = ops->upload_pack (c->self, &call, &replica->repo, protocol, stateless, &taker.fake->stream, &error);
  got = taker_end (&taker);
  if (ok || (may_fail && gs_error_code (error) != GS_ERROR_UNIMPLEMENTED))
    return got;
  g_string_free (got, TRUE);
  if (!lacks (c, TRUE, error))
    conformance_fail (c, "a fetch that is served", "%s", error->message);
  return NULL;
}

static void
check_pack (Conformance *c, const char *pack, gsize len)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA1);
  guint8 digest[20];
  gsize n = sizeof digest;
  guint32 count;
  CHECK (c, len > 32 && memcmp (pack, "PACK\0\0\0\2", 8) == 0, "a pack", "%" G_GSIZE_FORMAT " bytes of something else",
         len);
  memcpy (&count, pack + 8, sizeof count);
  CHECK (c, GUINT32_FROM_BE (count) == PROJECT_OBJECTS, "a pack with every object that the commit leads to",
         "%u of %d objects", GUINT32_FROM_BE (count), PROJECT_OBJECTS);
  g_checksum_update (sum, (const guchar *) pack, (gssize) len - 20);
  g_checksum_get_digest (sum, digest, &n);
  CHECK (c, memcmp (digest, pack + len - 20, 20) == 0, "a pack that is whole", "its checksum is another's");
}

void
fetch_request (Conformance *c)
{
  g_autoptr (GString) request = g_string_new (NULL), pack = g_string_new (NULL), got = NULL;
  const char *at, *bytes;
  gsize left, len;
  char hex[GS_OID_HEX_MAX + 1];
  gboolean begun = FALSE;
  PacketType type;
  Replica replica;
  Project p;
  if (!project_make (c, &replica, &p))
    return;
  gs_oid_hex (&p.commit, hex);
  packet_text (request, "command=fetch");
  g_string_append (request, "0001");
  packet_text (request, "want %s\n", hex);
  packet_text (request, "done\n");
  g_string_append (request, "0000");
  got = fetch (c, &replica, "version=2", TRUE, request, FALSE);
  if (got == NULL)
    return;
  at = got->str;
  left = got->len;
  while ((type = packet_next (&at, &left, &bytes, &len)) == PACKET_DATA)
    if (!begun)
      begun = len == 9 && memcmp (bytes, "packfile\n", 9) == 0;
    else if (len > 0 && bytes[0] == 1)
      g_string_append_len (pack, bytes + 1, (gssize) len - 1);
  CHECK (c, begun && type == PACKET_FLUSH, "a packfile section with a flush packet at the end",
         "%" G_GSIZE_FORMAT " bytes: %.40s", got->len, got->str);
  check_pack (c, pack->str, pack->len);
}

void
fetch_session (Conformance *c)
{
  g_autoptr (GString) request = g_string_new (NULL), got = NULL;
  const char *at, *bytes;
  gsize left, len;
  char hex[GS_OID_HEX_MAX + 1];
  Replica replica;
  Project p;
  if (!project_make (c, &replica, &p))
    return;
  gs_oid_hex (&p.commit, hex);
  packet_text (request, "want %s\n", hex);
  g_string_append (request, "0000");
  packet_text (request, "done\n");
  got = fetch (c, &replica, "", FALSE, request, FALSE);
  if (got == NULL)
    return;
  at = got->str;
  left = got->len;
  while (packet_next (&at, &left, &bytes, &len) == PACKET_DATA)
    ;
  CHECK (c, got->len > 45 && memcmp (got->str + 4, hex, 40) == 0, "the advertisement before anything else",
         "%" G_GSIZE_FORMAT " bytes: %.60s", got->len, got->str);
  CHECK (c, packet_next (&at, &left, &bytes, &len) == PACKET_DATA && memcmp (bytes, "NAK\n", 4) == 0,
         "NAK: nothing in common", "%" G_GSIZE_FORMAT " bytes without it", left);
  check_pack (c, at, left);
}

void
fetch_unknown (Conformance *c)
{
  g_autoptr (GString) request = g_string_new (NULL), got = NULL;
  Replica replica;
  Project p;
  if (!project_make (c, &replica, &p))
    return;
  packet_text (request, "command=fetch");
  g_string_append (request, "0001");
  packet_text (request, "want 0123456789012345678901234567890123456789\n");
  packet_text (request, "done\n");
  g_string_append (request, "0000");
  got = fetch (c, &replica, "version=2", TRUE, request, TRUE);
  if (got == NULL)
    return;
  CHECK (c, got->len == 0 || strstr (got->str, "ERR ") != NULL, "the error in git's own words, once output was opened",
         "%.80s", got->str);
  CHECK (c, memmem (got->str, got->len, "PACK", 4) == NULL, "no pack for an object that is not there", "one");
}

/* -------------------------------------------------------------------------------------------- pushes */

/* One command, stateless. *full*. */
static GString *
push_request (const char *name, const GsOid *from, const GsOid *to, GBytes *pack)
{
  GString *request = g_string_new (NULL);
  g_autoptr (GString) line = g_string_new (NULL);
  char from_hex[GS_OID_HEX_MAX + 1] = ZERO_ID, to_hex[GS_OID_HEX_MAX + 1];
  gsize len;
  const char *bytes = g_bytes_get_data (pack, &len);
  if (from != NULL)
    gs_oid_hex (from, from_hex);
  gs_oid_hex (to, to_hex);
  g_string_append_printf (line, "%s %s %s", from_hex, to_hex, name);
  g_string_append_len (line, "\0 report-status", 15);
  packet_add (request, line->str, line->len);
  g_string_append (request, "0000");
  g_string_append_len (request, bytes, (gssize) len);
  return request;
}

static gboolean
stage_push (Conformance *c, GsCall *call, const Replica *replica, Taker *taker, Staged *ret_staged, GError **error)
{
  const GsStorageOps *ops = c->ops;
  GsPush push = { .size = sizeof push, .txid = conformance_txid (c), .protocol = "", .stateless = TRUE };
  ret_staged->txid = push.txid;
  return ops->stage_push (c->self, call, &replica->repo, &push, &taker->fake->stream, &ret_staged->txn,
                          &ret_staged->vote, error);
}

/* Stages a push. FALSE after failing or skipping the case; then there is no taker. */
static gboolean
push_begin (Conformance *c, const Replica *replica, const GString *request, Taker *taker, Staged *ret_staged)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, LONG_US);
  g_autoptr (GError) error = NULL;
  if (ops->stage_push == NULL)
    {
      lacks (c, FALSE, NULL);
      return FALSE;
    }
  if (!taker_begin (c, taker, request->str, request->len))
    return FALSE;
  if (stage_push (c, &call, replica, taker, ret_staged, &error))
    return TRUE;
  g_string_free (taker_end (taker), TRUE);
  if (!lacks (c, TRUE, error))
    conformance_fail (c, "a push that is staged", "%s", error->message);
  return FALSE;
}

void
push_taken (Conformance *c)
{
  Replica replica;
  GsOid oid;
  g_autoptr (GBytes) pack = pack_commits (c, 1, &oid);
  g_autoptr (GString) request = push_request ("refs/heads/main", NULL, &oid, pack), got = NULL;
  GsRefUpdate update = update_create ("refs/heads/main", &oid);
  g_autofree char *during = NULL, *after = NULL;
  guint8 expected[32];
  Staged staged = { 0 };
  gboolean whole, right, committed;
  g_autoptr (GError) error = NULL;
  Taker taker;
  if (!replica_make (c, &replica) || !push_begin (c, &replica, request, &taker, &staged))
    return;
  expected_vote (&replica, &update, 1, pack, expected);
  whole = staged.vote->n_updates == 1 && strcmp (staged.vote->updates[0].name, "refs/heads/main") == 0
          && gs_oid_equal (&staged.vote->updates[0].new_oid, &oid);
  right = memcmp (staged.vote->digest, expected, 32) == 0;
  during = refs_now (c, &replica);
  committed = commit_write (c, &staged, 1, &error);
  got = taker_end (&taker);
  after = refs_now (c, &replica);
  CHECK (c, whole, "the command as the one update of the vote", "another");
  CHECK (c, right, "the digest that storage.h describes, with the checksum of the pack as it was sent", "another");
  CHECK (c, strstr (during, "refs/heads/main=") == NULL, "nothing to be seen before it is committed", "%s", during);
  CHECK (c, committed, "a commit", "%s", error->message);
  CHECK (c, strstr (after, "refs/heads/main=") != NULL, "the ref once it is committed", "%s", after);
  CHECK (c, strstr (got->str, "unpack ok\n") != NULL && strstr (got->str, "ok refs/heads/main\n") != NULL,
         "the client told that it is done", "%s", got->str);
}

/* Whether there is a reason or not. */
static void
drop_push (Conformance *c, const GError *why)
{
  const GsStorageOps *ops = c->ops;
  GsCall call = conformance_call (c, LONG_US);
  Replica replica;
  GsOid oid, next;
  g_autoptr (GBytes) pack = pack_commits (c, 1, &next);
  g_autoptr (GString) request = NULL, got = NULL;
  g_autofree char *before = NULL, *after = NULL;
  GsRepoSize size = { .size = sizeof size }, size_after = { .size = sizeof size_after };
  GsRefUpdate update;
  Staged staged = { 0 };
  Taker taker;
  if (!replica_make (c, &replica) || !write_one (c, &replica, "refs/heads/main", 1, &oid))
    return;
  before = refs_now (c, &replica);
  CHECK_OK (c, ops->measure (c->self, &call, &replica.repo, &size, &error));
  request = push_request ("refs/heads/main", &oid, &next, pack);
  if (!push_begin (c, &replica, request, &taker, &staged))
    return;
  ops->abort (c->self, &call, g_steal_pointer (&staged.txn), why);
  got = taker_end (&taker);
  after = refs_now (c, &replica);
  CHECK (c, strcmp (before, after) == 0, "the refs as before", "%s", after);
  CHECK (c, strstr (got->str, "\nok ") == NULL && strstr (got->str, "ok refs/heads/main") == NULL,
         "a client that is not told of a dropped push that it is done", "%s", got->str);
  CHECK (c, strstr (got->str, "ng refs/heads/main ") != NULL && (why == NULL || strstr (got->str, why->message) != NULL),
         "the client told that its command was not carried out, and why", "%s", got->str);
  CHECK_OK (c, ops->measure (c->self, &call, &replica.repo, &size_after, &error));
  CHECK (c, size.objects_bytes == size_after.objects_bytes && n_pending (c, &replica) == 0, "nothing left behind",
         "objects or a record of the write");
  update = update_move ("refs/heads/main", &oid, &next);
  write_refs (c, &replica, &update, 1, pack, 2); /* no lock either */
}

void
push_dropped (Conformance *c)
{
  g_autoptr (GError) why = g_error_new_literal (GS_ERROR, GS_ERROR_ABORTED, "the test says so");
  drop_push (c, why);
}

void
push_dropped_without_reason (Conformance *c)
{
  drop_push (c, NULL);
}

void
push_refused (Conformance *c)
{
  Replica replica;
  GsOid oid, next;
  g_autoptr (GBytes) pack = pack_commits (c, 1, &next);
  g_autoptr (GString) request = NULL, got = NULL;
  g_autofree char *before = NULL, *after = NULL;
  Staged staged = { 0 };
  gsize n_updates;
  Taker taker;
  if (!replica_make (c, &replica) || !write_one (c, &replica, "refs/heads/main", 1, &oid))
    return;
  before = refs_now (c, &replica);
  request = push_request ("refs/heads/main", &next, &next, pack); /* that is not what the ref has */
  if (!push_begin (c, &replica, request, &taker, &staged))
    return;
  n_updates = staged.vote->n_updates;
  drop_write (c, &staged);
  got = taker_end (&taker);
  after = refs_now (c, &replica);
  CHECK (c, n_updates == 0, "nothing to decide", "%" G_GSIZE_FORMAT " updates", n_updates);
  CHECK (c, strstr (got->str, "ng refs/heads/main ") != NULL, "the client told that its command is refused", "%s",
         got->str);
  CHECK (c, strcmp (before, after) == 0, "the refs as before", "%s", after);
}

/* A client that sends a part and goes. */
typedef struct
{
  int to;
  const GString *request;
  FakeCall *call;
  GsThread thread;
} Leaver;

static void *
send_and_leave (void *data)
{
  Leaver *leaver = data;
  gsize part = leaver->request->len - 30; /* most of the pack */
  for (gsize at = 0; at < part;)
    {
      ssize_t wrote = write (leaver->to, leaver->request->str + at, part - at);
      if (wrote <= 0)
        break;
      at += (gsize) wrote;
    }
  fake_call_cancel (leaver->call); /* a transport does so before it closes a broken connection's descriptor */
  close (leaver->to);
  return NULL;
}

void
push_left (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  Replica replica;
  GsOid oid;
  g_autoptr (GBytes) pack = pack_commits (c, 1, &oid);
  g_autoptr (GString) request = push_request ("refs/heads/main", NULL, &oid, pack);
  g_autofree char *before = NULL, *after = NULL;
  g_autoptr (GError) error = NULL;
  g_autoptr (FakeCall) fake = fake_call_new (LONG_US);
  Leaver leaver = { .request = request, .call = fake };
  GsRefUpdate update = update_create ("refs/heads/main", &oid);
  Staged staged = { 0 };
  int ends[2];
  gboolean ok;
  Taker taker;
  if (ops->stage_push == NULL)
    {
      lacks (c, FALSE, NULL);
      return;
    }
  if (!replica_make (c, &replica))
    return;
  before = refs_now (c, &replica);
  CHECK (c, pipe2 (ends, O_CLOEXEC) == 0, "a pipe for the test", "none");
  leaver.to = ends[1];
  if (!taker_begin_from (c, &taker, ends[0]))
    {
      close (ends[1]);
      return;
    }
  CHECK (c, gs_thread_start (&leaver.thread, "conformance", send_and_leave, &leaver) == 0, "a thread for the test",
         "none");
  ok = stage_push (c, &fake->call, &replica, &taker, &staged, &error);
  gs_thread_join (leaver.thread);
  if (ok)
    drop_write (c, &staged);
  g_string_free (taker_end (&taker), TRUE);
  if (!ok && lacks (c, TRUE, error))
    return;
  CHECK (c, !ok, "half a push not staged, when its client has gone", "it was");
  after = refs_now (c, &replica);
  CHECK (c, strcmp (before, after) == 0 && n_pending (c, &replica) == 0, "nothing left of it", "%s", after);
  write_refs (c, &replica, &update, 1, pack, 1);
}

/* A caller that gives its push up some time after it began. */
typedef struct
{
  FakeCall *call;
  gint64 at_us;
  GsThread thread;
} Quitter;

static void *
quit_later (void *data)
{
  Quitter *quitter = data;
  while (g_get_monotonic_time () < quitter->at_us)
    g_usleep (50);
  fake_call_cancel (quitter->call);
  return NULL;
}

#define QUITTERS 16
#define FREE_AGAIN_US (5 * G_USEC_PER_SEC) /* well below what a lost partner is waited for */

/* FALSE after failing the case. *@ret_us: how long staging took. */
static gboolean
push_and_quit (Conformance *c, const Replica *replica, const GString *request, gint64 after_us, gint64 *ret_us)
{
  g_autoptr (FakeCall) fake = fake_call_new (LONG_US);
  const gint64 begin_us = g_get_monotonic_time ();
  Quitter quitter = { .call = fake, .at_us = begin_us + after_us };
  Staged staged = { 0 };
  gboolean quits = after_us < G_MAXINT64 / 2;
  g_autoptr (GError) error = NULL;
  gboolean ok;
  Taker taker;
  if (!taker_begin (c, &taker, request->str, request->len))
    return FALSE;
  if (quits && gs_thread_start (&quitter.thread, "conformance", quit_later, &quitter) != 0)
    quits = FALSE;
  ok = stage_push (c, &fake->call, replica, &taker, &staged, &error);
  *ret_us = g_get_monotonic_time () - begin_us;
  if (quits)
    gs_thread_join (quitter.thread);
  if (ok)
    drop_write (c, &staged);
  g_string_free (taker_end (&taker), TRUE);
  return ok || !lacks (c, TRUE, error);
}

/* Whatever a push that is given up was about, nothing of it stands in the way of the next one. */
void
push_given_up (Conformance *c)
{
  const GsStorageOps *ops = c->ops;
  Replica replica;
  GsOid oid;
  g_autoptr (GBytes) pack = pack_commits (c, 1, &oid);
  g_autoptr (GString) request = push_request ("refs/heads/main", NULL, &oid, pack);
  GsRefUpdate update = update_create ("refs/heads/main", &oid);
  gint64 whole_us, us;
  if (ops->stage_push == NULL)
    {
      lacks (c, FALSE, NULL);
      return;
    }
  if (!replica_make (c, &replica) || !push_and_quit (c, &replica, request, G_MAXINT64 / 2, &whole_us))
    return;
  for (int i = 0; i < QUITTERS; i++)
    {
      gint64 until_us;
      gboolean taken = FALSE;
      if (!push_and_quit (c, &replica, request, whole_us * (i + 1) / QUITTERS, &us))
        return;
      until_us = g_get_monotonic_time () + FREE_AGAIN_US;
      while (!taken && g_get_monotonic_time () < until_us)
        {
          Staged staged = { 0 };
          g_autoptr (GError) error = NULL;
          taken = stage_write (c, &replica, &update, 1, TRUE, pack, &staged, &error);
          if (taken)
            {
              taken = staged.vote->n_updates == 1;
              drop_write (c, &staged);
            }
        }
      CHECK (c, taken, "the ref free again once the push is given up", "it is locked for seconds");
    }
}
