/* SPDX-License-Identifier: Apache-2.0 */
/* Writes held back for a moment. See hold.h. */
#include "router/hold.h"

#include <stdio.h>

/* Leases are kept for ever, so there are only so many; repositories that share one wait for each other. */
#define HOLDS 64
#define POLL_US (10 * 1000)

static void
hold_name (guint64 id, char ret_name[16])
{
  snprintf (ret_name, 16, "hold-%02u", (guint) (id % HOLDS));
}

gboolean
gsi_hold_take (GsiRouter *router, GsCall *call, guint64 id, GsiHold *ret_hold, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autofree char *owner = g_strdup_printf ("%" G_GUINT64_FORMAT " writes to this repository", id);
  GsiHold hold = { .id = id, .since_us = g_get_monotonic_time () };
  char name[16];
  hold_name (id, name);
  if (!config->metadata->lease_take (config->metadata_self, call, name, owner, GSI_HOLD_MAX_US, &hold.token, error))
    return FALSE;
  *ret_hold = hold;
  return TRUE;
}

void
gsi_hold_release (GsiRouter *router, GsCall *call, const GsiHold *hold)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  char name[16];
  hold_name (hold->id, name);
  config->metadata->lease_release (config->metadata_self, call, name, hold->token, NULL);
}

typedef struct
{
  const char *name;
  guint64 id;
  gboolean held;
} Look;

static gboolean
look_at (const GsLeaseRow *row, gpointer user)
{
  Look *look = user;
  if (strcmp (row->name, look->name) == 0)
    look->held = row->left_us > 0 && g_ascii_strtoull (row->owner, NULL, 10) == look->id;
  return TRUE;
}

/* A store that does not answer will say so to the write itself. */
static gboolean
is_held (const GsiRouterConfig *config, GsCall *call, guint64 id)
{
  char name[16];
  Look look = { name, id, FALSE };
  hold_name (id, name);
  return config->metadata->lease_list (config->metadata_self, call, look_at, &look, NULL) && look.held;
}

static gboolean
all_current (const GsiRow *row)
{
  for (gsize i = 0; i < row->n_replicas; i++)
    if (row->replicas[i].generation < row->generation)
      return FALSE;
  return TRUE;
}

/* One replica more than there should be: it may be on its way in, and another on its way out. */
static gboolean
is_moving (GsiRouter *router, const GsiRow *row)
{
  const guint wanted = gsi_router_wanted_copies (router, row);
  return wanted > 0 && row->n_replicas > wanted;
}

gboolean
gsi_hold_wait (GsiRouter *router, GsCall *call, GsiRow **row, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  gint64 until_us = g_get_monotonic_time () + GSI_HOLD_MAX_US;
  GsiRow *now = NULL;
  gboolean waited = FALSE;
  if (config->metadata->lease_list == NULL || (all_current (*row) && !is_moving (router, *row)))
    return TRUE;
  while (is_held (config, call, (*row)->id) && g_get_monotonic_time () < until_us)
    {
      if (!gs_call_check (call, "waiting for a replica that is being made current", error))
        return FALSE;
      waited = TRUE;
      g_usleep (POLL_US);
    }
  if (!waited)
    return TRUE;
  if (!config->metadata->repo_get (config->metadata_self, call, (*row)->id, gsi_row_visit, &now, error))
    return FALSE;
  gsi_row_free (*row);
  *row = now;
  return TRUE;
}
