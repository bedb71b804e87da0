/* SPDX-License-Identifier: Apache-2.0 */
/* Histories that come in, from a bundle or another server: what they change here, as one change set. */
#include "transfer.h"

#include "../fsutil.h"
#include "change.h"

#include "gitstead/v1/pool.pb-c.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NEW_REFS "refs/new/"

static const char *const own_names[] = { "refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*", NULL };
static const char *const everything[] = { "refs/*:refs/*", NULL };

/* Where the history is, and what is asked of it. */
typedef struct
{
  GitCall *call;
  Remote remote;
  Rules rules;
  gboolean is_bundle;
  guint64 bundle_refs;         /* that it has */
  gboolean creates;           /* the repository is new, and gets a first branch */
  gboolean branch_given;      /* it has been told which */
  Guest guest;
  GHashTable *theirs;         /* name -> GsOid: what was fetched */
  char *their_head;           /* "refs/heads/main", or NULL */
  GsOid their_head_oid;       /* len 0 = not known */
  GPtrArray *moves;           /* Move */
  guint64 unchanged;
} Intake;

static void
intake_clear (Intake *intake)
{
  guest_close (&intake->guest);
  remote_clear (&intake->remote);
  rules_clear (&intake->rules);
  g_clear_pointer (&intake->theirs, g_hash_table_unref);
  g_clear_pointer (&intake->moves, g_ptr_array_unref);
  g_clear_pointer (&intake->their_head, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Intake, intake_clear)

/* ------------------------------------------------------------------------------------------ fetching */

/* HEAD's target where the other side says it: "ref: refs/heads/main\tHEAD", and its value: "<oid>\tHEAD". */
static gboolean
ask_head (Intake *intake, GError **error)
{
  const char *const argv[] = { "ls-remote", "--symref", "--", intake->remote.url, "HEAD", NULL };
  g_autoptr (GBytes) output = NULL;
  gsize len;
  if (!guest_run (&intake->guest, &intake->remote, argv, NULL, API_NAME_MAX * 4, &output, NULL, error))
    return FALSE;
  const char *data = g_bytes_get_data (output, &len);
  g_autofree char *text = g_strndup (data != NULL ? data : "", len);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (char **line = lines; *line != NULL; line++)
    {
      char *tab = strchr (*line, '\t');
      if (tab == NULL || strcmp (tab, "\tHEAD") != 0)
        continue;
      *tab = '\0';
      if (g_str_has_prefix (*line, "ref: refs/heads/") && ref_name_valid (*line + strlen ("ref: "), NULL))
        {
          g_free (intake->their_head);
          intake->their_head = g_strdup (*line + strlen ("ref: "));
        }
      else if (!gs_oid_parse (*line, strlen (*line), &intake->their_head_oid))
        intake->their_head_oid.len = 0;
    }
  return TRUE;
}

/* Everything that any rule names, below refs/new/ under its own name. */
static gboolean
fetch (Intake *intake, GError **error)
{
  static const char *const list[] = { "for-each-ref", "--format=%(objectname) %(refname)", NEW_REFS, NULL };
  const char *const argv[] = { "fetch", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules",
                               "--quiet", "--stdin", "--", intake->remote.url, NULL };
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (GHashTable) seen = g_hash_table_new (g_str_hash, g_str_equal);
  g_autoptr (GBytes) input = NULL, output = NULL;
  for (guint i = 0; i < intake->rules.rules->len; i++)
    {
      const char *source = g_array_index (intake->rules.rules, Rule, i).source;
      if (g_hash_table_add (seen, (gpointer) source))
        g_string_append_printf (text, "+%s:" NEW_REFS "%s\n", source, source);
    }
  input = g_bytes_new (text->str, text->len);
  return guest_run (&intake->guest, &intake->remote, argv, input, 0, NULL, NULL, error)
         && guest_run (&intake->guest, NULL, list, NULL, REFS_LIST_MAX, &output, NULL, error)
         && refs_table_read (intake->theirs, intake->remote.own ? NULL : intake->call->storage, output, NEW_REFS, error);
}

/* ------------------------------------------------------------------------------------------- planning */

/* What each of their refs becomes here: name -> the Rule and their GsOid. */
typedef struct
{
  const Rule *rule;
  const GsOid *oid;
} Wanted;

static gboolean
map_names (Intake *intake, GHashTable *wanted, GError **error)
{
  GHashTableIter iter;
  gpointer name, oid;
  g_hash_table_iter_init (&iter, intake->theirs);
  while (g_hash_table_iter_next (&iter, &name, &oid))
    for (guint i = 0; i < intake->rules.rules->len; i++)
      {
        const Rule *rule = &g_array_index (intake->rules.rules, Rule, i);
        g_autofree char *here = rule_map (rule->source, rule->destination, name);
        const Wanted *other = here != NULL ? g_hash_table_lookup (wanted, here) : NULL;
        Wanted one = { rule, oid };
        if (here == NULL || ref_name_hidden (intake->call->repo->refs, name)
            || ref_name_hidden (intake->call->repo->refs, here))
          continue;
        if (!ref_name_valid (here, NULL))
          return api_invalid (error, "rules.refspecs", "%s would become %s, which is no ref name", (const char *) name, here);
        if (other != NULL && !gs_oid_equal (other->oid, oid))
          return api_invalid (error, "rules.refspecs", "two refs of the other side would become %s", here);
        if (other != NULL && (other->rule->force || !rule->force))
          continue;
        g_hash_table_replace (wanted, g_steal_pointer (&here), g_memdup2 (&one, sizeof one));
      }
  return TRUE;
}

static gboolean
plan_updates (Intake *intake, GHashTable *wanted, RefSnapshot *refs, GError **error)
{
  GHashTableIter iter;
  gpointer name, value;
  guint looked = 0;
  g_hash_table_iter_init (&iter, wanted);
  while (g_hash_table_iter_next (&iter, &name, &value))
    {
      const Wanted *one = value;
      RefEntry here;
      gboolean exists = ref_snapshot_find (refs, name, &here);
      if (exists && gs_oid_equal (&here.oid, one->oid))
        {
          intake->unchanged++;
          continue;
        }
      Move *move = moves_add (intake->moves, name, exists ? &here.oid : NULL, one->oid);
      if (exists && !move_judge (&intake->guest, move, &looked, error))
        return FALSE;
      if (move->outcome == GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_REPLACED && !one->rule->force)
        move->outcome = GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_DIVERGENT;
    }
  return TRUE;
}

static void
plan_deletions (Intake *intake, GHashTable *wanted, RefSnapshot *refs)
{
  for (gsize i = 0; i < ref_snapshot_count (refs); i++)
    {
      RefEntry here;
      gboolean covered = FALSE;
      ref_snapshot_get (refs, i, &here);
      if (ref_name_hidden (intake->call->repo->refs, here.name) || g_hash_table_contains (wanted, here.name))
        continue;
      for (guint k = 0; k < intake->rules.rules->len && !covered; k++)
        {
          const Rule *rule = &g_array_index (intake->rules.rules, Rule, k);
          g_autofree char *there = rule_map (rule->destination, rule->source, here.name);
          covered = there != NULL;
        }
      if (covered)
        moves_add (intake->moves, here.name, &here.oid, NULL);
    }
}

static gboolean
plan (Intake *intake, GError **error)
{
  g_autoptr (GHashTable) wanted = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  RefSnapshot *refs = api_refs (intake->call, error);
  if (refs == NULL || !map_names (intake, wanted, error) || !plan_updates (intake, wanted, refs, error))
    return FALSE;
  if (intake->rules.prune)
    plan_deletions (intake, wanted, refs);
  moves_sort (intake->moves);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- results */

static gboolean
move_writes (const Move *move)
{
  return move->outcome != GITSTEAD__V1__TRANSFER_OUTCOME__TRANSFER_DIVERGENT;
}

static gboolean
is_branch (const Move *move)
{
  return g_str_has_prefix (move->name, "refs/heads/");
}

static const char *
branch_here (const Intake *intake, const char *name)
{
  for (guint i = 0; name != NULL && i < intake->moves->len; i++)
    {
      const Move *move = intake->moves->pdata[i];
      if (is_branch (move) && strcmp (move->name, name) == 0)
        return move->name;
    }
  return NULL;
}

/* Their first branch by the name that it has here; NULL when it does not come. */
static const char *
their_branch_here (const Intake *intake)
{
  const char *found = NULL;
  for (guint i = 0; intake->their_head != NULL && found == NULL && i < intake->rules.rules->len; i++)
    {
      const Rule *rule = &g_array_index (intake->rules.rules, Rule, i);
      g_autofree char *here = rule_map (rule->source, rule->destination, intake->their_head);
      found = branch_here (intake, here);
    }
  return found;
}

/* The usual one, or the first; of those at @oid, or (NULL) of all. */
static const char *
likely_branch (const Intake *intake, const GsOid *oid)
{
  static const char *const usual[] = { "refs/heads/main", "refs/heads/master" };
  const char *found = NULL;
  gsize best = G_N_ELEMENTS (usual) + 1;
  for (guint i = 0; i < intake->moves->len; i++)
    {
      const Move *move = intake->moves->pdata[i];
      gsize rank = 0;
      if (!is_branch (move) || (oid != NULL && !gs_oid_equal (&move->new_oid, oid)))
        continue;
      while (rank < G_N_ELEMENTS (usual) && strcmp (move->name, usual[rank]) != 0)
        rank++;
      if (rank < best)
        {
          best = rank;
          found = move->name;
        }
    }
  return found;
}

/*
 * The branch that a new repository's HEAD shall name: theirs, or one that is where their HEAD is, or the likeliest. Only where
 * no branch comes may it be one that is not there yet.
 */
static const char *
first_branch (const Intake *intake)
{
  const char *found = their_branch_here (intake);
  if (found == NULL && intake->their_head_oid.len != 0)
    found = likely_branch (intake, &intake->their_head_oid);
  if (found == NULL)
    found = likely_branch (intake, NULL);
  return found != NULL ? found : intake->their_head;
}

/* One that the caller names must come, too, or the repository would look empty to whoever clones it. */
static gboolean
check_first_branch (const Intake *intake, GError **error)
{
  const char *head = ref_snapshot_head (intake->call->refs);
  if (!intake->creates || !intake->branch_given || likely_branch (intake, NULL) == NULL || branch_here (intake, head) != NULL)
    return TRUE;
  return api_invalid (error, "default_branch", "%s is none of the branches that come in", head);
}

static void
add_update (GArray *updates, GPtrArray *texts, const char *name, const GsOid *old_oid, const GsOid *new_oid,
            const char *symref)
{
  GsRefUpdate update = { .name = g_strdup (name), .new_symref = g_strdup (symref) };
  g_ptr_array_add (texts, (gpointer) update.name);
  if (symref != NULL)
    g_ptr_array_add (texts, (gpointer) update.new_symref);
  else
    {
      update.old_oid = *old_oid;
      update.new_oid = *new_oid;
    }
  g_array_append_val (updates, update);
}

static GBytes *
make_reply (Intake *intake)
{
  Gitstead__V1__TransferReply reply = GITSTEAD__V1__TRANSFER_REPLY__INIT;
  reply.refs = moves_messages (intake->call, intake->moves, &reply.n_refs, &reply.more_refs);
  reply.unchanged = intake->unchanged;
  return gs_wire_encode (&reply.base);
}

static gboolean
make_computed (Intake *intake, GsComputed **ret_computed, GError **error)
{
  GArray *updates = g_array_new (FALSE, TRUE, sizeof (GsRefUpdate));
  GPtrArray *texts = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GArray) tips = g_array_new (FALSE, FALSE, sizeof (GsOid));
  const char *head = intake->creates && !intake->branch_given ? first_branch (intake) : NULL;
  GBytes *pack = NULL;
  for (guint i = 0; i < intake->moves->len && !intake->rules.dry_run; i++)
    {
      const Move *move = intake->moves->pdata[i];
      if (!move_writes (move))
        continue;
      add_update (updates, texts, move->name, &move->old_oid, &move->new_oid, NULL);
      if (!gs_oid_is_zero (&move->new_oid))
        g_array_append_val (tips, move->new_oid);
    }
  if (head != NULL && strcmp (head, ref_snapshot_head (intake->call->refs)) != 0)
    add_update (updates, texts, "HEAD", NULL, NULL, head);
  if (tips->len > 0 && !guest_pack (&intake->guest, tips, &pack, error))
    {
      g_array_unref (updates);
      g_ptr_array_unref (texts);
      return FALSE;
    }
  *ret_computed = computed_new (updates, texts, pack, make_reply (intake));
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- the methods */

/* The lines of a bundle before its pack. @seen counts its refs. */
static gboolean
read_bundle_head (FILE *file, guint64 *seen, GError **error)
{
  char line[4096];
  gboolean starts = TRUE;
  for (guint64 at = 0; fgets (line, sizeof line, file) != NULL; at++)
    {
      gboolean ends = strchr (line, '\n') != NULL;
      if (starts && at > 0 && line[0] == '\n')
        return TRUE;
      if (starts && g_str_has_prefix (line, "@object-format=") && strcmp (line, "@object-format=sha1\n") != 0)
        return gs_fail (error, GS_ERROR_UNIMPLEMENTED,
                        "the bundle is of a repository with other ids than SHA-1, which is all that bundles are taken of");
      *seen += starts && g_ascii_isxdigit (line[0]);
      starts = ends;
    }
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the bundle ends within its list of refs: it is cut short");
}

/*
 * git takes a file that is no bundle for a repository, and one that says "gitdir: …" for a pointer to a repository elsewhere:
 * whoever sends that would get any repository of this storage. What begins like a bundle can be nothing else. And git does not
 * read the pack of a bundle none of whose refs it is to take, so that one that is broken looks whole: see check_taken.
 */
static gboolean
check_bundle (Intake *intake, const char *path, GError **error)
{
  static const char *const signatures[] = { "# v2 git bundle\n", "# v3 git bundle\n" };
  char begin[sizeof "# v2 git bundle\n"] = { 0 };
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  FILE *file = fd >= 0 ? fdopen (fd, "r") : NULL;
  gboolean known = FALSE, done;
  if (file == NULL)
    {
      int failed = errno;
      if (fd >= 0)
        close (fd);
      return fsu_fail (error, failed, "read %s", "the bundle");
    }
  known = fread (begin, 1, sizeof begin - 1, file) == sizeof begin - 1
          && (strcmp (begin, signatures[0]) == 0 || strcmp (begin, signatures[1]) == 0);
  if (!known)
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
             "the bundle does not look like a v2 or v3 bundle; make one with \"git bundle create\"");
  rewind (file);
  done = known && read_bundle_head (file, &intake->bundle_refs, error);
  fclose (file);
  if (done && intake->bundle_refs == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the bundle has no refs, so there is nothing to take from it");
  return done;
}

/* A bundle that has refs of which none was wanted is a mistake: its history would be left out without a word. */
static gboolean
check_taken (const Intake *intake, GError **error)
{
  if (!intake->is_bundle || g_hash_table_size (intake->theirs) > 0)
    return TRUE;
  return api_invalid (error, "rules.refspecs",
                      "they take none of the bundle's %" G_GUINT64_FORMAT
                      " refs (\"git bundle list-heads\" tells them); HEAD:refs/heads/main takes a HEAD that is on no branch",
                      intake->bundle_refs);
}

static gboolean
take_bundle (Intake *intake, const Gitstead__V1__TransferRules *rules, const char *const *fallback, gboolean own,
             GError **error)
{
  g_autofree char *path = NULL;
  if (!rules_take (intake->call, rules, fallback, &intake->rules, error)
      || !guest_open (&intake->guest, intake->call, error))
    return FALSE;
  path = g_build_filename (intake->guest.dir, "incoming.bundle", NULL);
  intake->is_bundle = TRUE;
  remote_file (path, &intake->remote);
  intake->remote.own = own;
  return guest_spool (&intake->guest, path, own ? 0 : intake->call->storage->max_push_bytes, error)
         && check_bundle (intake, path, error);
}

static gboolean
take_remote (Intake *intake, const Gitstead__V1__Remote *remote, const Gitstead__V1__TransferRules *rules, GError **error)
{
  return rules_take (intake->call, rules, own_names, &intake->rules, error)
         && remote_take (intake->call, remote, REMOTE_READ, &intake->remote, error)
         && guest_open (&intake->guest, intake->call, error);
}

static gboolean
take_create_from_bundle (Intake *intake, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__RepositoryCreateFromBundleRequest *request = (const void *) message;
  intake->creates = TRUE;
  intake->branch_given = request->default_branch.len > 0;
  return take_bundle (intake, request->rules, everything, FALSE, error);
}

/* The router hands over what BundleCreate gave of the source; no client can come here with a bundle of its own. */
static gboolean
take_fork (Intake *intake, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__RepositoryForkRequest *request = (const void *) message;
  intake->creates = TRUE;
  intake->branch_given = request->default_branch.len > 0;
  /* HEAD of the new replica is the source's already. */
  if (!intake->branch_given)
    {
      if (api_refs (intake->call, error) == NULL)
        return FALSE;
      intake->their_head = g_strdup (ref_snapshot_head (intake->call->refs));
    }
  return take_bundle (intake, NULL, everything, TRUE, error);
}

static gboolean
take_create_from_url (Intake *intake, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__RepositoryCreateFromUrlRequest *request = (const void *) message;
  intake->creates = TRUE;
  intake->branch_given = request->default_branch.len > 0;
  return take_remote (intake, request->remote, request->rules, error);
}

static gboolean
take_bundle_apply (Intake *intake, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__RepositoryBundleApplyRequest *request = (const void *) message;
  return take_bundle (intake, request->rules, own_names, FALSE, error);
}

static gboolean
take_fetch (Intake *intake, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__RepositoryFetchRequest *request = (const void *) message;
  return take_remote (intake, request->remote, request->rules, error);
}

/* The router hands over a bundle of the source's, as for a fork. */
static gboolean
take_fetch_from (Intake *intake, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__RepositoryFetchFromRequest *request = (const void *) message;
  return take_bundle (intake, request->rules, own_names, TRUE, error);
}

static const struct
{
  ApiRow row;
  gboolean (*take) (Intake *intake, const ProtobufCMessage *message, GError **error);
} methods[] = {
  { API_ROW (150, NULL, repository_create_from_bundle_request, transfer_reply), take_create_from_bundle },
  { API_ROW (151, NULL, repository_fork_request, transfer_reply), take_fork },
  { API_ROW (152, NULL, repository_create_from_url_request, transfer_reply), take_create_from_url },
  { API_ROW (153, NULL, repository_bundle_apply_request, transfer_reply), take_bundle_apply },
  { API_ROW (154, NULL, repository_fetch_request, transfer_reply), take_fetch },
  { API_ROW (157, NULL, repository_fetch_from_request, transfer_reply), take_fetch_from },
  { API_ROW (902, NULL, pool_refresh_request, transfer_reply), NULL }, /* from here: pool.c */
};

static int
find_method (guint32 number)
{
  for (gsize i = 0; i < G_N_ELEMENTS (methods); i++)
    if (methods[i].row.number == number)
      return (int) i;
  return -1;
}

gboolean
transfer_knows (guint32 number)
{
  return find_method (number) >= 0;
}

/* The refs as they are now are what all that follows is compared with: a ref that moves meanwhile fails the write. */
static gboolean
run (Intake *intake, int method, GsComputed **ret_computed, GError **error)
{
  if (intake->call->repo->format == GS_FORMAT_SHA1 && methods[method].take == NULL)
    return pool_compute_refresh (intake->call, ret_computed, error);
  if (intake->call->repo->format != GS_FORMAT_SHA1)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "repositories with SHA-256 ids take histories by pushing only");
  intake->theirs = refs_table_new ();
  intake->moves = moves_new ();
  if (!methods[method].take (intake, intake->call->request, error))
    return FALSE;
  if (intake->creates)
    intake->rules.prune = intake->rules.dry_run = FALSE;
  return (!intake->creates || intake->branch_given || intake->their_head != NULL || ask_head (intake, error))
         && fetch (intake, error) && check_taken (intake, error) && plan (intake, error)
         && check_first_branch (intake, error) && make_computed (intake, ret_computed, error);
}

gboolean
transfer_compute (Storage *storage, GsCall *base, const GsRepo *repo, const GsQuery *query, GsComputed **ret_computed,
                  GError **error)
{
  int method = find_method (query->method);
  GitCall call;
  gboolean done;
  if (!api_open (&call, storage, base, repo, query, &methods[method].row, FALSE, error))
    return FALSE;
  {
    g_auto (Intake) intake = { .call = &call };
    done = run (&intake, method, ret_computed, error);
    if (!done && intake.remote.url != NULL)
      g_prefix_error (error, "repository %" G_GUINT64_FORMAT ": ", repo->id);
  }
  api_close (&call);
  return done;
}
