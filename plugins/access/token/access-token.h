/* SPDX-License-Identifier: Apache-2.0 */
/**
 * access-token.h - the inside of access/token: tokens as the metadata store has them, kept for a moment.
 */
#ifndef ACCESS_TOKEN_H
#define ACCESS_TOKEN_H

#include <gitstead/access.h>
#include <gitstead/metadata.h>
#include <gitstead/thread.h>

#include "token.h"

/** A token as it was read. Counted references; immutable. */
typedef struct
{
  gint n_refs;
  gint64 read_us; /* when, on the host's monotonic clock */
  gboolean known; /* FALSE: there is none of this id; verifier is all zero then */
  guint8 verifier[GS_TOKEN_VERIFIER_SIZE];
  GsScope scope;
  char *name;
  char *prefix;
  gint64 expires_wall_us;
} StoredToken;

typedef struct
{
  const GsHost *host;
  GsScope anonymous;
  GsScope certificate;
  gboolean peer_admin;
  gint64 known_for_us; /* see its option */
  const GsMetadataOps *metadata;
  gpointer metadata_self;
  GsMutex lock;       /* of tokens */
  GHashTable *tokens; /* id -> StoredToken */
} Access;

/* ----------------------------------------------------------------------------------------- store.c */

/**
 * The token of @id, at most a second old, or known_for while the store cannot be reached; one that is not known comes back
 * too. *full*, stored_token_unref.
 */
StoredToken *access_lookup (Access *self, GsCall *call, const char *id, GError **error);
/** Forgets what is kept of @id. */
void access_forget (Access *self, const char *id);
void stored_token_unref (StoredToken *token);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (StoredToken, stored_token_unref)

gboolean access_token_create (gpointer self, GsCall *call, const GsToken *token, char **ret_id, char **ret_secret,
                              GError **error);
gboolean access_token_list (gpointer self, GsCall *call, GsTokenVisit visit, gpointer user, GError **error);
gboolean access_token_revoke (gpointer self, GsCall *call, const char *id, GError **error);

/* ----------------------------------------------------------------------------------------- check.c */

const char *access_scope_name (GsScope scope);
/** Is @path one that a token with @prefix may name? At segment boundaries: "group" holds "group/x" and "group.git". */
gboolean access_prefix_holds (const char *prefix, const char *path);
/** INVALID_ARGUMENT unless the token can be made. */
gboolean access_check_new (const GsToken *token, gint64 now_wall_us, GError **error);

#endif
