/* SPDX-License-Identifier: Apache-2.0 */
/* A storage without repositories that does not answer while the file "gate" is a FIFO which nobody writes to. */
#include <gitstead/storage.h>

#include <fcntl.h>
#include <unistd.h>

typedef struct
{
  char *gate;
} Slow;

static void
unused (void)
{
}

static gboolean
slow_exists (gpointer data, GsCall *call, const GsRepo *repo, gboolean *ret_exists, GError **error)
{
  Slow *self = data;
  int fd = open (self->gate, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return gs_fail (error, gs_error_from_errno (errno), "the gate %s cannot be opened: %s", self->gate, g_strerror (errno));
  close (fd);
  *ret_exists = FALSE;
  return TRUE;
}

static gboolean
slow_pending (gpointer data, GsCall *call, GsPendingVisit visit, gpointer user, GError **error)
{
  return TRUE;
}

static gpointer
slow_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Slow *self = g_new0 (Slow, 1);
  self->gate = g_strdup (config->string (config, "gate"));
  return self;
}

static void
slow_destroy (gpointer data)
{
  Slow *self = data;
  g_free (self->gate);
  g_free (self);
}

static const GsOption options[] = {
  { .key = "gate", .type = GS_OPTION_PATH, .flags = GS_OPTION_REQUIRED, .help = "The file that is opened for every answer." },
  { .key = NULL },
};

#define SLOT(name_) [G_STRUCT_OFFSET (GsStorageOps, name_) / sizeof (gpointer)]

/* Every slot is filled in but that of storages in other processes; the two that a server without repositories calls are real. */
#pragma GCC diagnostic ignored "-Woverride-init"
static const gpointer table[] = { [0 ... sizeof (GsStorageOps) / sizeof (gpointer) - 1] = (gpointer) unused,
                                  SLOT (exists) = (gpointer) slow_exists,
                                  SLOT (pending) = (gpointer) slow_pending,
                                  SLOT (probe) = NULL };

GS_PLUGIN_DEFINE (GsStorageOps, .kind = GS_KIND_STORAGE, .threads = GS_THREADS_PARALLEL, .name = "slow", .version = "1",
                  .summary = "Waits.", .license = "Apache-2.0", .options = options, .ops = table, .create = slow_create,
                  .destroy = slow_destroy)
