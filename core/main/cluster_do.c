/* SPDX-License-Identifier: Apache-2.0 */
/* cluster_do.c - the verbs of `gitstead cluster` that change something, or prove it. */
#include "cluster.h"

#include "base/text.h"

#include <gitstead/types.h>
#include <string.h>

static char *
number (guint64 n)
{
  return g_strdup_printf ("%" G_GUINT64_FORMAT, n);
}

/* What a command is told of a number on its command line. FALSE when it is none, or too great. */
static gboolean
parse_number (const char *text, guint64 most, guint64 *ret_number)
{
  return g_ascii_string_to_unsigned (text, 10, 0, most, ret_number, NULL);
}

/* ------------------------------------------------------------------------------------------ policies */

static void
print_policy (const Gitstead__V1__ClusterPolicyReply *reply)
{
  g_autofree char *now = cluster_names (reply->storages, reply->n_storages, "nobody");
  gsi_cli_say ("'%s' should have %u replicas (%s) and has %" G_GSIZE_FORMAT ": %s. Its writes go by '%s' (%s).",
               reply->repository->path, reply->copies, reply->own_copies ? "its own factor" : "its virtual storage's",
               reply->n_storages, now, reply->consistency,
               reply->own_consistency ? "its own policy" : "its virtual storage's");
}

int
cluster_factor_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterSetReplicationFactorRequest request = GITSTEAD__V1__CLUSTER_SET_REPLICATION_FACTOR_REQUEST__INIT;
  guint64 copies = 0;
  if (strcmp (args[0], "default") != 0 && (!parse_number (args[0], 64, &copies) || copies == 0))
    return gsi_cli_usage ("cluster set-replication-factor", "the factor wants 1 to 64, or \"default\", not '%s'", args[0]);
  request.copies = (guint32) copies;
  for (int i = 1; i < n_args; i++)
    {
      Gitstead__V1__Repository repository = cluster_repository (args[i]);
      const Gitstead__V1__ClusterPolicyReply *reply;
      request.repository = &repository;
      reply = (const Gitstead__V1__ClusterPolicyReply *) gsi_cli_call ("Cluster/SetReplicationFactor", &request.base, &error);
      if (reply == NULL)
        return gsi_cli_fail (error, "cannot set the replication factor of '%s'", repository.path);
      if (gsi_cli_json () && gsi_cli_finish_json (&reply->base, "the policy") != GSI_EXIT_OK)
        return GSI_EXIT_FAILED;
      if (!gsi_cli_json ())
        print_policy (reply);
    }
  return GSI_EXIT_OK;
}

int
cluster_consistency_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterSetConsistencyRequest request = GITSTEAD__V1__CLUSTER_SET_CONSISTENCY_REQUEST__INIT;
  request.consistency = strcmp (args[0], "default") == 0 ? request.consistency : args[0];
  for (int i = 1; i < n_args; i++)
    {
      Gitstead__V1__Repository repository = cluster_repository (args[i]);
      const Gitstead__V1__ClusterPolicyReply *reply;
      request.repository = &repository;
      reply = (const Gitstead__V1__ClusterPolicyReply *) gsi_cli_call ("Cluster/SetConsistency", &request.base, &error);
      if (reply == NULL)
        return gsi_cli_fail (error, "cannot set the consistency policy of '%s'", repository.path);
      if (gsi_cli_json () && gsi_cli_finish_json (&reply->base, "the policy") != GSI_EXIT_OK)
        return GSI_EXIT_FAILED;
      if (!gsi_cli_json ())
        print_policy (reply);
    }
  return GSI_EXIT_OK;
}

/* ------------------------------------------------------------------------------------------ receipts */

/* A transaction id in hex, or the JSON that a call printed: the receipt itself, or a reply that holds one. */
static Gitstead__V1__Receipt *
parse_receipt (const char *text, GError **error)
{
  const GsiMethods *methods = gsi_cli_methods (error);
  g_autofree char *whole = NULL;
  const char *member = strstr (text, "\"receipt\"");
  const char *open = member != NULL ? strchr (member, '{') : strchr (text, '{');
  const char *close = open != NULL ? strchr (open, '}') : NULL; /* a receipt has no objects inside */
  if (methods == NULL)
    return NULL;
  if (open == NULL)
    whole = g_strdup_printf ("{\"transaction_id\": \"%s\"}", text);
  else if (close != NULL)
    whole = g_strndup (open, (gsize) (close - open) + 1);
  else
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the receipt is not whole");
      return NULL;
    }
  return (Gitstead__V1__Receipt *) gsi_json_read (methods, gsi_cli_arena (), &gitstead__v1__receipt__descriptor, whole,
                                                  strlen (whole), error);
}

static void
print_receipt (const Gitstead__V1__ClusterVerifyReceiptReply *reply)
{
  gsi_cli_say ("%s.", reply->verdict);
  if (reply->recorded == NULL)
    return;
  g_autofree char *decided = gsi_cli_time (reply->decided_us);
  gsi_cli_say ("Generation %" G_GUINT64_FORMAT " (now %" G_GUINT64_FORMAT "), decided %s for %s.",
               reply->recorded->generation, reply->generation, decided, reply->caller);
  GsiTable *table = gsi_table_new ((const char *[]) { "REPLICA", "HOLDS IT", ">GENERATION", "BY", "IN THE RECEIPT", NULL });
  for (gsize i = 0; i < reply->n_holders; i++)
    {
      const Gitstead__V1__ClusterHolder *holder = reply->holders[i];
      g_autofree char *generation = number (holder->generation);
      gsi_table_row (table, holder->storage, holder->holds ? "yes" : "NO", generation,
                     holder->proven ? "its disk" : "the record", holder->named ? "yes" : "no", NULL);
    }
  gsi_table_print (table);
}

int
cluster_receipt_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterVerifyReceiptRequest request = GITSTEAD__V1__CLUSTER_VERIFY_RECEIPT_REQUEST__INIT;
  const Gitstead__V1__ClusterVerifyReceiptReply *reply;
  g_autofree char *read = NULL;
  if (strcmp (args[0], "verify") != 0)
    return gsi_cli_usage ("cluster receipt", "want \"verify\", not '%s'", args[0]);
  Gitstead__V1__Repository repository = cluster_repository (args[1]);
  if (args[2][0] == '@' && !g_file_get_contents (args[2] + 1, &read, NULL, &error))
    return gsi_cli_usage ("cluster receipt", "%s", error->message);
  request.repository = &repository;
  request.receipt = parse_receipt (read != NULL ? g_strstrip (read) : args[2], &error);
  if (request.receipt == NULL)
    return gsi_cli_usage ("cluster receipt", "the receipt cannot be read: %s", error->message);
  reply = (const Gitstead__V1__ClusterVerifyReceiptReply *) gsi_cli_call ("Cluster/VerifyReceipt", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot verify a receipt of '%s'", repository.path);
  if (gsi_cli_json () && gsi_cli_finish_json (&reply->base, "the verdict") != GSI_EXIT_OK)
    return GSI_EXIT_FAILED;
  if (!gsi_cli_json () && !gsi_cli_quiet ())
    print_receipt (reply);
  return reply->genuine && reply->held_by > 0 ? GSI_EXIT_OK : GSI_EXIT_FAILED;
}

/* ----------------------------------------------------------------------------- verify, untracked, adopt */

static char *verify_storage;

const GOptionEntry cluster_verify_options[]
    = { { "node", 0, 0, G_OPTION_ARG_STRING, &verify_storage, "Only replicas on NODE", "NODE" }, G_OPTION_ENTRY_NULL };

int
cluster_verify_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterVerifyRequest request = GITSTEAD__V1__CLUSTER_VERIFY_REQUEST__INIT;
  const Gitstead__V1__ClusterVerifyReply *reply;
  if (n_args > 0)
    {
      Gitstead__V1__Repository repository = cluster_repository (args[0]);
      request.path = repository.path;
      request.virtual_storage = repository.virtual_storage;
    }
  if (verify_storage != NULL)
    request.storage = verify_storage;
  reply = (const Gitstead__V1__ClusterVerifyReply *) gsi_cli_call ("Cluster/Verify", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot verify replicas");
  if (gsi_cli_json () && gsi_cli_finish_json (&reply->base, "what was found") != GSI_EXIT_OK)
    return GSI_EXIT_FAILED;
  for (gsize i = 0; !gsi_cli_json () && i < reply->n_findings; i++)
    {
      const Gitstead__V1__ClusterFinding *finding = reply->findings[i];
      g_print ("%s:%s on %s: %s\n", finding->repository->virtual_storage, finding->repository->path, finding->storage,
               finding->text);
    }
  if (!gsi_cli_json ())
    gsi_cli_say ("%" G_GUINT64_FORMAT " replicas are as recorded, %" G_GUINT64_FORMAT " are not, %" G_GUINT64_FORMAT
                 " could not be asked.",
                 reply->well, reply->wrong, reply->unasked);
  return reply->wrong == 0 && reply->unasked == 0 ? GSI_EXIT_OK : GSI_EXIT_FAILED;
}

static void
print_untracked (const Gitstead__V1__ClusterUntrackedReply *reply)
{
  GsiTable *table = gsi_table_new ((const char *[]) { "NODE", ">ID", ">GENERATION", "FOLDER", "WHY", NULL });
  for (gsize i = 0; i < reply->n_replicas; i++)
    {
      const Gitstead__V1__ClusterUntrackedReplica *one = reply->replicas[i];
      g_autofree char *id = number (one->repository_id), *generation = number (one->generation);
      g_autofree char *name = one->repository != NULL ? cluster_full_name (one->repository) : NULL;
      g_autofree char *why = name != NULL ? g_strdup_printf ("%s (%s)", one->why, name) : g_strdup (one->why);
      gsi_table_row (table, one->storage, id, generation, one->replica_path, why, NULL);
    }
  gsi_table_print (table);
}

int
cluster_untracked_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterUntrackedRequest request = GITSTEAD__V1__CLUSTER_UNTRACKED_REQUEST__INIT;
  const Gitstead__V1__ClusterUntrackedReply *reply;
  if (n_args > 0)
    request.storage = args[0];
  request.limit = 10000;
  reply = (const Gitstead__V1__ClusterUntrackedReply *) gsi_cli_call ("Cluster/Untracked", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot look for untracked replicas");
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the untracked replicas");
  if (reply->n_replicas > 0 && gsi_cli_quiet ())
    for (gsize i = 0; i < reply->n_replicas; i++)
      g_print ("%s %s\n", reply->replicas[i]->storage, reply->replicas[i]->replica_path);
  else if (reply->n_replicas > 0)
    print_untracked (reply);
  gsi_cli_say ("%" G_GSIZE_FORMAT "%s of %" G_GUINT64_FORMAT " replicas on disks are named by no record.", reply->n_replicas,
               reply->more ? " or more" : "", reply->looked_at);
  for (gsize i = 0; i < reply->n_unasked; i++)
    g_printerr ("gitstead: not asked: %s\n", reply->unasked[i]);
  return reply->n_unasked == 0 ? GSI_EXIT_OK : GSI_EXIT_FAILED;
}

int
cluster_adopt_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterAdoptRequest request = GITSTEAD__V1__CLUSTER_ADOPT_REQUEST__INIT;
  Gitstead__V1__Repository repository = cluster_repository (args[0]);
  const Gitstead__V1__ClusterAdoptReply *reply;
  request.repository = &repository;
  request.storage = args[1];
  reply = (const Gitstead__V1__ClusterAdoptReply *) gsi_cli_call ("Cluster/Adopt", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot adopt the replica of '%s' on %s", repository.path, args[1]);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the replica");
  gsi_cli_say ("The replica on %s is one of '%s' again, at generation %" G_GUINT64_FORMAT " (%s).", args[1], repository.path,
               reply->generation, reply->current ? "current" : "behind: its repair is queued");
  return GSI_EXIT_OK;
}

/* -------------------------------------------------------------------------------------- accept-dataloss */

static gboolean accept_yes, accept_dry;

const GOptionEntry cluster_accept_options[]
    = { { "yes", 'y', 0, G_OPTION_ARG_NONE, &accept_yes, "Do not ask", NULL },
        { "dry-run", 'n', 0, G_OPTION_ARG_NONE, &accept_dry, "Only say what would be given up", NULL },
        G_OPTION_ENTRY_NULL };

static void
print_lost (const Gitstead__V1__ClusterAcceptDataLossReply *reply, const char *path, const char *storage)
{
  gsi_cli_say ("'%s' was acknowledged up to generation %" G_GUINT64_FORMAT "; %s holds %" G_GUINT64_FORMAT
               ". Given up are %" G_GUINT64_FORMAT " writes:",
               path, reply->generation, storage, reply->kept_generation, reply->generation - reply->kept_generation);
  for (gsize i = 0; i < reply->n_lost; i++)
    {
      const Gitstead__V1__ClusterLostWrite *write = reply->lost[i];
      g_autofree char *when = gsi_cli_time (write->decided_us);
      gsi_cli_say ("  generation %" G_GUINT64_FORMAT ", %s, by %s", write->generation, when, write->caller);
      for (gsize k = 0; k < write->n_refs; k++)
        gsi_cli_say ("    %.*s -> %s", (int) write->refs[k]->name.len, (const char *) write->refs[k]->name.data,
                     write->refs[k]->new_oid);
    }
}

int
cluster_accept_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterAcceptDataLossRequest request = GITSTEAD__V1__CLUSTER_ACCEPT_DATA_LOSS_REQUEST__INIT;
  Gitstead__V1__Repository repository = cluster_repository (args[0]);
  const Gitstead__V1__ClusterAcceptDataLossReply *reply;
  if (!accept_yes && !accept_dry && !gsi_cli_can_ask ())
    return gsi_cli_usage ("cluster accept-dataloss", "this cannot be taken back: --yes does it, --dry-run shows it first");
  request.repository = &repository;
  request.storage = args[1];
  request.dry_run = accept_dry || !accept_yes;
  reply = (const Gitstead__V1__ClusterAcceptDataLossReply *) gsi_cli_call ("Cluster/AcceptDataLoss", &request.base, &error);
  if (reply != NULL && request.dry_run && !accept_dry)
    {
      print_lost (reply, repository.path, args[1]);
      if (!gsi_cli_ask ("Give these writes up, for good?"))
        return GSI_EXIT_FAILED;
      request.dry_run = FALSE;
      reply = (const Gitstead__V1__ClusterAcceptDataLossReply *) gsi_cli_call ("Cluster/AcceptDataLoss", &request.base, &error);
    }
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot accept the loss of writes to '%s'", repository.path);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "what was given up");
  print_lost (reply, repository.path, args[1]);
  if (request.dry_run)
    gsi_cli_say ("Nothing was changed.");
  else
    gsi_cli_say ("'%s' goes on from generation %" G_GUINT64_FORMAT " with the replica on %s; the others follow it.",
                 repository.path, reply->new_generation, args[1]);
  return GSI_EXIT_OK;
}

/* ---------------------------------------------------------------------------------------------- nodes */

static int
set_node (const char *storage, Gitstead__V1__ClusterNodeState state, gboolean forget, const char *verb, const char *done)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterSetNodeRequest request = GITSTEAD__V1__CLUSTER_SET_NODE_REQUEST__INIT;
  const Gitstead__V1__ClusterSetNodeReply *reply;
  request.storage = (char *) storage;
  request.state = state;
  request.forget = forget;
  reply = (const Gitstead__V1__ClusterSetNodeReply *) gsi_cli_call ("Cluster/SetNode", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot %s '%s'", verb, storage);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the node");
  gsi_cli_say ("'%s' %s. It has %" G_GUINT64_FORMAT " replicas, %" G_GUINT64_FORMAT
               " of them the only current one of their repository.",
               storage, done, reply->replicas, reply->only_current);
  return GSI_EXIT_OK;
}

int
cluster_drain_run (int n_args, char **args)
{
  return set_node (args[0], GITSTEAD__V1__CLUSTER_NODE_STATE__CLUSTER_NODE_DRAINING, FALSE, "drain",
                   "gets no new replicas from now on, and serves those that it has");
}

int
cluster_undrain_run (int n_args, char **args)
{
  return set_node (args[0], GITSTEAD__V1__CLUSTER_NODE_STATE__CLUSTER_NODE_ACTIVE, FALSE, "take back",
                   "is active again");
}

static gboolean remove_forget;

const GOptionEntry cluster_remove_options[]
    = { { "forget", 0, 0, G_OPTION_ARG_NONE, &remove_forget,
          "Of a removed node: forget it, so that another disk can have its name", NULL },
        G_OPTION_ENTRY_NULL };

int
cluster_remove_run (int n_args, char **args)
{
  if (remove_forget)
    return set_node (args[0], GITSTEAD__V1__CLUSTER_NODE_STATE__CLUSTER_NODE_STATE_UNSPECIFIED, TRUE, "forget",
                     "is forgotten: take it out of every router's configuration, or give its name to another disk");
  return set_node (args[0], GITSTEAD__V1__CLUSTER_NODE_STATE__CLUSTER_NODE_REMOVED, FALSE, "remove",
                   "is no part of the cluster any more; take it out of every router's configuration");
}

int
cluster_add_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterCheckNodeRequest request = GITSTEAD__V1__CLUSTER_CHECK_NODE_REQUEST__INIT;
  const Gitstead__V1__ClusterCheckNodeReply *reply;
  GsiTable *table;
  request.storage = args[0];
  reply = (const Gitstead__V1__ClusterCheckNodeReply *) gsi_cli_call ("Cluster/CheckNode", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot check '%s'", args[0]);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the checks") == GSI_EXIT_OK && reply->fit ? GSI_EXIT_OK : GSI_EXIT_FAILED;
  if (!gsi_cli_quiet ())
    {
      table = gsi_table_new ((const char *[]) { "CHECK", "RESULT", "", NULL });
      for (gsize i = 0; i < reply->n_checks; i++)
        gsi_table_row (table, reply->checks[i]->what, reply->checks[i]->passed ? "ok" : "FAILED", reply->checks[i]->text, NULL);
      gsi_table_print (table);
      gsi_cli_say (reply->fit ? "'%s' is fit: new repositories may be placed on it." : "'%s' is not fit.", args[0]);
    }
  return reply->fit ? GSI_EXIT_OK : GSI_EXIT_FAILED;
}
