/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind METADATA: a store that cannot be reached. */
#include "metadata.h"

#define ANSWERS_MAX 12
#define PATIENCE_US (10 * G_USEC_PER_SEC)

static gboolean
put (Conformance *c, const char *id, GError **error)
{
  static const guint8 verifier[64] = { 1 };
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, PATIENCE_US);
  GsTokenRow row = { sizeof row, id, "conformance", verifier, GS_SCOPE_READ, "", 0, 0 };
  return ops->token_put (c->self, &call, &row, error);
}

static gboolean
ignore_token (const GsTokenRow *row, gpointer user)
{
  return TRUE;
}

static gboolean
ignore_row (const GsRepoRow *row, gpointer user)
{
  return TRUE;
}

/* Once it can be reached again, which may take a moment to be seen. FALSE after failing the case. */
static gboolean
is_there (Conformance *c, const char *id, gboolean *ret_there)
{
  const GsMetadataOps *ops = c->ops;
  gint64 until_us = g_get_monotonic_time () + PATIENCE_US;
  int code;
  do
    {
      GsCall call = conformance_call (c, PATIENCE_US);
      g_autoptr (GError) error = NULL;
      *ret_there = ops->token_get (c->self, &call, id, ignore_token, NULL, &error);
      code = *ret_there ? GS_OK : gs_error_code (error);
      if (code != GS_ERROR_UNAVAILABLE && code != GS_OK && code != GS_ERROR_NOT_FOUND)
        {
          conformance_fail (c, "UNAVAILABLE or an answer to a question", "%s", error->message);
          return FALSE;
        }
    }
  while (code == GS_ERROR_UNAVAILABLE && g_get_monotonic_time () < until_us);
  if (code == GS_ERROR_UNAVAILABLE)
    conformance_fail (c, "a store that can be reached again to answer again", "UNAVAILABLE for 10 s");
  return code != GS_ERROR_UNAVAILABLE;
}

void
unreachable (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, PATIENCE_US);
  g_autoptr (GError) reading = NULL, writing = NULL;
  g_autofree char *id = g_strndup (c->tag, 12), *path = conformance_path (c, "unreachable");
  guint64 repository_id = make_repo (c, path), reserved = 4711;
  gboolean read, wrote, there = FALSE;
  if (repository_id == 0 || !conformance_reach (c, 0))
    {
      if (repository_id != 0)
        conformance_skip (c, "nothing stands between it and its store that could be cut");
      return;
    }
  read = ops->repo_get (c->self, &call, repository_id, ignore_row, NULL, &reading);
  wrote = ops->repo_reserve (c->self, &call, VS, path, &reserved, &writing);
  if (!conformance_code (c, read, reading, GS_ERROR_UNAVAILABLE, "a question to a store that cannot be reached")
      || !conformance_code (c, wrote, writing, GS_ERROR_UNAVAILABLE, "a write to a store that cannot be reached"))
    {
      conformance_reach (c, -1);
      return;
    }
  g_clear_error (&writing);
  wrote = put (c, id, &writing);
  conformance_reach (c, -1);
  if (!conformance_code (c, wrote, writing, GS_ERROR_UNAVAILABLE, "a write to a store that cannot be reached")
      || !is_there (c, id, &there))
    return;
  CHECK (c, !there, "nothing done by what was UNAVAILABLE", "it was done");
  CHECK_OK (c, put (c, id, &error));
}

/* The connection is lost in place of the first answer, then of the second, and so on until there is none to be lost. */
void
answers_lost (Conformance *c)
{
  guint n_lost = 0;
  for (int answers = 1; answers <= ANSWERS_MAX && !conformance_has_failed (c); answers++)
    {
      g_autofree char *id = g_strdup_printf ("%.10s%02d", c->tag + 4, answers); /* not the id of the case above */
      g_autoptr (GError) error = NULL;
      gboolean wrote, there = FALSE;
      int code;
      if (!is_there (c, id, &there))
        return;
      if (!conformance_reach (c, answers))
        {
          conformance_skip (c, "nothing stands between it and its store that could be cut");
          return;
        }
      wrote = put (c, id, &error);
      code = wrote ? GS_OK : gs_error_code (error);
      conformance_reach (c, -1);
      n_lost += !wrote;
      CHECK (c, wrote || code == GS_ERROR_UNAVAILABLE || code == GS_ERROR_UNKNOWN,
             "UNAVAILABLE, or UNKNOWN when the store may have done it", "%s", error->message);
      if (!is_there (c, id, &there))
        return;
      CHECK (c, code != GS_OK || there, "what was written there", "it is not, after answer %d was lost", answers);
      CHECK (c, code != GS_ERROR_UNAVAILABLE || !there, "nothing done by what was UNAVAILABLE",
             "it was done, when answer %d was lost: that is UNKNOWN", answers);
    }
  CHECK (c, n_lost > 0, "a lost answer to be noticed", "every write succeeded");
}
