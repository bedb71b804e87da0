/* SPDX-License-Identifier: Apache-2.0 */
/* bad.h - makes a plugin that breaks one promise out of one that keeps them all. */
#ifndef CONFORMANCE_BAD_H
#define CONFORMANCE_BAD_H

#include <dlfcn.h>
#include <gitstead/access.h>
#include <gitstead/cache.h>
#include <gitstead/consistency.h>
#include <gitstead/layer.h>
#include <gitstead/metadata.h>
#include <gitstead/routing.h>
#include <gitstead/storage.h>
#include <gitstead/thread.h>
#include <gitstead/transport.h>
#include <string.h>

static inline const GsPlugin *
bad_load_good (const char *file)
{
  g_autofree char *path = g_build_filename (GOOD_PLUGINS, file, NULL);
  void *library = dlopen (path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  GsPluginQuery query = NULL;
  if (library != NULL)
    *(void **) &query = dlsym (library, GS_PLUGIN_QUERY_SYMBOL);
  return query != NULL ? query () : NULL;
}

/**
 * The plugin in @file_ with changes: statements that assign to @bad (a GsPlugin) and @ops (its table). `good` and
 * `good_ops` are the originals. The self of the slots is the original's.
 */
#define BAD_PLUGIN(Ops_, file_, ...)                                                                                   \
  GS_EXPORT const GsPlugin *gs_plugin_query (void);                                                                    \
  GS_EXPORT const GsPlugin *gs_plugin_query (void)                                                                     \
  {                                                                                                                    \
    static GsPlugin bad;                                                                                               \
    static Ops_ bad_ops;                                                                                               \
    Ops_ *ops = &bad_ops;                                                                                              \
    const GsPlugin *found = bad_load_good (file_);                                                                     \
    if (found == NULL)                                                                                                 \
      return NULL;                                                                                                     \
    good = *found;                                                                                                     \
    good_ops = *(const Ops_ *) found->ops;                                                                             \
    bad = good;                                                                                                        \
    bad_ops = good_ops;                                                                                                \
    bad.ops = ops;                                                                                                     \
    __VA_ARGS__;                                                                                                       \
    return &bad;                                                                                                       \
  }

#define BAD_GOOD(Ops_)                                                                                                 \
  static GsPlugin good;                                                                                                \
  static Ops_ good_ops

#endif
