/* SPDX-License-Identifier: Apache-2.0 */
/**
 * route.h - which of the server's resources a request names. Pure functions.
 */
#ifndef GS_TRANSPORT_HTTP_ROUTE_H
#define GS_TRANSPORT_HTTP_ROUTE_H

#include <gitstead/types.h>

typedef enum
{
  ROUTE_NONE,
  ROUTE_INFO_REFS,
  ROUTE_UPLOAD_PACK,
  ROUTE_RECEIVE_PACK,
  ROUTE_API,
  ROUTE_HEALTH,
  ROUTE_READY,
  ROUTE_METRICS,
  ROUTE_STATUS,
  ROUTE_COUNT
} RouteKind;

typedef enum
{
  SERVICE_NONE, /* no service named: git's dumb protocol */
  SERVICE_UPLOAD_PACK,
  SERVICE_RECEIVE_PACK
} RouteService;

typedef struct
{
  RouteKind kind;
  RouteService service; /* for INFO_REFS */
  char *target;         /* repository path, or the name of the API's method; *full* */
} Route;

/** Name for metrics and logs. */
const char *route_name (RouteKind kind);

/**
 * Takes @uri (as it came, query included) apart. FALSE with INVALID_ARGUMENT when it is not a path that
 * any resource could have: control characters, encoded slashes, "..", bytes that are not UTF-8.
 */
gboolean route_parse (const char *uri, Route *ret_route, GError **error);
void route_clear (Route *route);

/** The highest of the versions that a Git-Protocol value ("version=2:…") asks for; 0 without one. */
int route_protocol_version (const char *protocol);
/** Is @protocol fit to be handed on: short, and of the characters that git uses? */
gboolean route_protocol_valid (const char *protocol);

#endif
