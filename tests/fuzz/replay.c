/* SPDX-License-Identifier: Apache-2.0 */
/* The main of a fuzz target where there is no libFuzzer. See fuzz.h. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 20000
#define MAX_SIZE 4096

static guint n_files;

/* On the heap at its exact size: a read past the end is seen by AddressSanitizer. */
static void
run_input (const guint8 *data, gsize size)
{
  guint8 *exact = malloc (size); /* never NULL here, not for 0 either, as with libFuzzer */
  if (size > 0)
    memcpy (exact, data, size);
  LLVMFuzzerTestOneInput (exact, size);
  free (exact);
}

static void
run_file (const char *path)
{
  g_autofree char *data = NULL;
  g_autoptr (GError) error = NULL;
  gsize size;
  if (!g_file_get_contents (path, &data, &size, &error))
    g_error ("%s", error->message);
  n_files++;
  run_input ((const guint8 *) data, size);
}

static void
run_path (const char *path)
{
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  const char *name;
  if (dir == NULL)
    {
      run_file (path);
      return;
    }
  while ((name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *file = g_build_filename (path, name, NULL);
      run_file (file);
    }
}

/* One change as a fuzzer makes it: a bit, a byte, a run cut out or doubled, a piece of another seed. */
static gsize
mutate (GRand *rand, guint8 *data, gsize size, GBytes *other)
{
  gsize at = size > 0 ? (gsize) g_rand_int_range (rand, 0, (gint32) size) : 0, n, other_size;
  gsize run = (gsize) g_rand_int_range (rand, 1, 16);
  const guint8 *other_data = g_bytes_get_data (other, &other_size);
  switch (size > 0 ? g_rand_int_range (rand, 0, 6) : 5)
    {
    case 0:
      data[at] ^= (guint8) (1 << g_rand_int_range (rand, 0, 8));
      return size;
    case 1:
      data[at] = (guint8) g_rand_int (rand);
      return size;
    case 2:
      n = MIN (size - at, run);
      memmove (data + at, data + at + n, size - at - n);
      return size - n;
    case 3:
      n = MIN (size - at, 4 * run);
      if (size + n > MAX_SIZE)
        return size;
      memmove (data + at + n, data + at, size - at);
      return size + n;
    case 4:
      return at;
    default:
      n = MIN (other_size, MAX_SIZE - at);
      memcpy (data + at, other_data, n);
      return MAX (size, at + n);
    }
}

static void
run_mutations (GPtrArray *seeds, guint n_rounds)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (4711);
  for (guint i = 0; i < n_rounds; i++)
    {
      guint8 buffer[MAX_SIZE];
      GBytes *seed = seeds->pdata[i % seeds->len];
      gsize size = MIN (g_bytes_get_size (seed), sizeof buffer);
      gboolean shaped = FALSE;
      guint n_changes = i < seeds->len ? 0 : (guint) g_rand_int_range (rand, 1, 6);
      memcpy (buffer, g_bytes_get_data (seed, NULL), size);
      if (n_changes > 0 && fuzz_mutate != NULL && i % 4 != 0)
        {
          gsize made = fuzz_mutate (buffer, size, sizeof buffer, g_rand_int (rand));
          shaped = made > 0;
          size = shaped ? made : size;
        }
      for (guint k = 0; k < n_changes && !shaped; k++)
        size = mutate (rand, buffer, size, seeds->pdata[(guint) g_rand_int_range (rand, 0, (gint32) seeds->len)]);
      run_input (buffer, size);
    }
}

/* With --write-seeds FOLDER it writes them there, for libFuzzer to begin with. */
static void
write_seeds (GPtrArray *seeds, const char *folder)
{
  for (guint i = 0; i < seeds->len; i++)
    {
      g_autofree char *path = g_strdup_printf ("%s/seed-%04u", folder, i);
      g_autoptr (GError) error = NULL;
      gsize size;
      const char *data = g_bytes_get_data (seeds->pdata[i], &size);
      if (!g_file_set_contents (path, data, (gssize) size, &error))
        g_error ("%s", error->message);
    }
}

int
main (int argc, char **argv)
{
  g_autoptr (GPtrArray) seeds = fuzz_seeds ();
  const char *rounds = g_getenv ("GITSTEAD_FUZZ_ROUNDS");
  guint n_rounds = rounds ? (guint) atoi (rounds) : argc > 1 ? 0 : ROUNDS;
  FUZZ_CHECK (seeds->len > 0);
  if (argc == 3 && strcmp (argv[1], "--write-seeds") == 0)
    {
      write_seeds (seeds, argv[2]);
      return 0;
    }
  for (int i = 1; i < argc; i++)
    run_path (argv[i]);
  run_mutations (seeds, n_rounds);
  printf ("%u files, %u other inputs\n", n_files, n_rounds);
  return 0;
}
