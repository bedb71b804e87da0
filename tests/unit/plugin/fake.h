/* SPDX-License-Identifier: Apache-2.0 */
/* fake.h - plugins for testing the loader and the registry: a table whose slots are all filled in and never called. */
#ifndef TEST_FAKE_H
#define TEST_FAKE_H

#include <gitstead/access.h>
#include <gitstead/cache.h>
#include <gitstead/consistency.h>
#include <gitstead/metadata.h>
#include <gitstead/routing.h>
#include <gitstead/storage.h>
#include <gitstead/transport.h>

static inline void
fake_slot (void)
{
}

#define FAKE_TABLE(Type_)                                                                                              \
  {                                                                                                                    \
    [0 ... sizeof (Type_) / sizeof (gpointer) - 1] = (gpointer) fake_slot                                              \
  }

/* Up to the slot, which is optional as are those behind it. */
#define FAKE_TABLE_BEFORE(Type_, slot_)                                                                                \
  {                                                                                                                    \
    [0 ... G_STRUCT_OFFSET (Type_, slot_) / sizeof (gpointer) - 1] = (gpointer) fake_slot,                             \
    [sizeof (Type_) / sizeof (gpointer) - 1] = NULL                                                                    \
  }

static inline gpointer
fake_create (const GsHost *host, const GsConfig *config, GError **error)
{
  return g_malloc0 (1);
}

static inline void
fake_destroy (gpointer self)
{
  g_free (self);
}

/* What a good descriptor of a cache says, without the header. */
#define FAKE_CACHE                                                                                                     \
  .kind = GS_KIND_CACHE, .threads = GS_THREADS_PARALLEL, .version = "1.2.3", .summary = "For tests.",                  \
  .license = "Apache-2.0", .create = fake_create, .destroy = fake_destroy

#endif
