/* SPDX-License-Identifier: Apache-2.0 */
/**
 * proxy.h - stands before a server's unix socket, so that a test can cut a plugin off from it.
 */
#ifndef CONFORMANCE_PROXY_H
#define CONFORMANCE_PROXY_H

#include <glib.h>

typedef struct Proxy Proxy;

/** Listens at @path and hands on to the unix socket @real. A misuse is a g_error. *full*. */
Proxy *proxy_new (const char *path, const char *real);
/** 0: all connections end, new ones are refused. @answers > 0: that happens in place of so many-th piece that the server
 * sends from now on. -1: it can be reached again. See ConformanceTarget.reach. */
void proxy_reach (int answers, gpointer proxy);
void proxy_free (Proxy *proxy);

#endif
