/* SPDX-License-Identifier: Apache-2.0 */
/* M9: gives a lease to whoever asks while another has it. */
#include "bad.h"

BAD_GOOD (GsMetadataOps);

typedef struct
{
  const char *name;
  char *owner;
} Holder;

static gboolean
note (const GsLeaseRow *row, gpointer user)
{
  Holder *holder = user;
  if (strcmp (row->name, holder->name) == 0)
    holder->owner = g_strdup (row->owner);
  return TRUE;
}

static gboolean
bad_lease_take (gpointer self, GsCall *call, const char *name, const char *owner, gint64 lease_us, guint64 *ret_token,
                GError **error)
{
  Holder holder = { name, NULL };
  gboolean ok;
  good_ops.lease_list (self, call, note, &holder, NULL);
  ok = good_ops.lease_take (self, call, name, holder.owner != NULL ? holder.owner : owner, lease_us, ret_token, error);
  g_free (holder.owner);
  return ok;
}

BAD_PLUGIN (GsMetadataOps, "metadata-sqlite.so", ops->lease_take = bad_lease_take)
