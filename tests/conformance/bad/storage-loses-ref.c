/* SPDX-License-Identifier: Apache-2.0 */
/* S20: leaves the last ref out of a list. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

typedef struct
{
  GsRefVisit visit;
  gpointer user;
  GsRef held;
  char *name;
  gboolean go_on;
} Late;

/* Hands on the one before, so that the last is never handed on. */
static gboolean
hold_back (const GsRef *ref, gpointer user)
{
  Late *late = user;
  if (ref->symref_target != NULL)
    return late->visit (ref, late->user);
  if (late->name != NULL)
    {
      late->held.name = late->name;
      late->go_on = late->visit (&late->held, late->user);
    }
  g_free (late->name);
  late->held = *ref;
  late->name = g_strdup (ref->name);
  return late->go_on;
}

static gboolean
bad_list_refs (gpointer self, GsCall *call, const GsRepo *repo, const GsRefQuery *query, GsRefVisit visit, gpointer user,
               GError **error)
{
  Late late = { .visit = visit, .user = user, .go_on = TRUE };
  gboolean listed = good_ops.list_refs (self, call, repo, query, hold_back, &late, error);
  g_free (late.name);
  return listed;
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", ops->list_refs = bad_list_refs)
