/* SPDX-License-Identifier: Apache-2.0 */
/**
 * access.h - kind ACCESS, class BLOCKING: who is calling, and may they.
 *
 *   [A1] Wrong or unknown credentials give UNAUTHENTICATED; NONE gives the anonymous identity when
 *        that is configured, UNAUTHENTICATED otherwise. The message never says which part was wrong.
 *   [A2] Secrets are compared in constant time and never logged or kept in the clear.
 *   [A3] authorize gives PERMISSION_DENIED naming what is missing, without saying whether a
 *        repository exists.
 *   [A4] A revoked or expired token stops working within one second. While the metadata store cannot
 *        be reached, one that is not expired may go on, for a time that the operator sets.
 *   [A5] recheck says of an identity that was given out what authenticate would say of the credentials that it was given
 *        for: UNAUTHENTICATED, within one second, once they are revoked or expired. Whatever else keeps it from knowing is
 *        another code, and says nothing.
 */
#ifndef GITSTEAD_ACCESS_H
#define GITSTEAD_ACCESS_H

#include "host.h"

G_BEGIN_DECLS

/** A token as lists show it: never its secret. Strings borrowed until the callback returns. */
typedef struct
{
  guint32 size;
  const char *id;
  const char *name;
  GsScope scope;
  const char *prefix;
  gint64 created_wall_us;
  gint64 expires_wall_us; /* 0 = never */
} GsToken;

typedef gboolean (*GsTokenVisit) (const GsToken *token, gpointer user);

typedef struct
{
  /** @ret_identity *full*, given back with release. */
  gboolean (*authenticate) (gpointer self, GsCall *call, const GsCredentials *credentials,
                            const GsIdentity **ret_identity, GError **error);
  void (*release) (gpointer self, const GsIdentity *identity);
  /** May @identity do work of @scope on the repository @path (NULL: on the server itself)? Never blocks. */
  gboolean (*authorize) (gpointer self, const GsIdentity *identity, GsScope scope, const char *path,
                         GError **error);

  /** Makes a token. @ret_secret *full* (g_free): the only time it is shown. Optional, with the two below. */
  gboolean (*token_create) (gpointer self, GsCall *call, const GsToken *token, char **ret_id,
                            char **ret_secret, GError **error);
  gboolean (*token_list) (gpointer self, GsCall *call, GsTokenVisit visit, gpointer user,
                          GError **error);
  /** NOT_FOUND when there is no such token. */
  gboolean (*token_revoke) (gpointer self, GsCall *call, const char *id, GError **error);

  /**
   * Does what @identity was given for still count? Asked every few seconds about calls that last. @call: the server's own,
   * with a deadline. Optional: without it what is given out counts until the call's end.
   */
  gboolean (*recheck) (gpointer self, GsCall *call, const GsIdentity *identity, GError **error);
} GsAccessOps;

G_END_DECLS

#endif
