/* SPDX-License-Identifier: Apache-2.0 */
/* Protobuf from strangers: decoding stays within its budget, and what was decoded survives encoding and JSON. */
#include "fuzz.h"

#include "rpc/json.h"

#include <string.h>

#define BUDGET (256 * 1024)

static GsiMethods *methods;

static const ProtobufCMessageDescriptor *
pick (guint8 byte)
{
  const ProtobufCMessageDescriptor *const *types;
  gsize n;
  if (methods == NULL)
    methods = gsi_methods_new (NULL);
  types = gsi_methods_messages (methods, &n);
  return types[byte % n];
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GsArena) arena = gs_arena_new (BUDGET), again_arena = gs_arena_new (16 * BUDGET);
  g_autoptr (GError) error = NULL;
  g_autofree char *text = NULL, *again_text = NULL;
  const ProtobufCMessageDescriptor *type;
  ProtobufCMessage *message, *again;
  gsize len;
  if (size == 0)
    return 0;
  type = pick (data[0]);
  message = gs_wire_decode (arena, type, data + 1, size - 1, &error);
  FUZZ_CHECK ((message == NULL) == (error != NULL));
  if (message == NULL)
    {
      FUZZ_CHECK (gs_error_code (error) == GS_ERROR_INVALID_ARGUMENT || gs_error_code (error) == GS_ERROR_BUSY);
      return 0;
    }
  g_autoptr (GBytes) bytes = gs_wire_encode (message);
  text = gsi_json_write (methods, message, 0, &len);
  FUZZ_CHECK (g_utf8_validate (text, (gssize) len, NULL));
  again = gsi_json_read (methods, again_arena, message->descriptor, text, len, &error);
  FUZZ_CHECK (again != NULL); /* unknown fields are gone, all others are there */
  again_text = gsi_json_write (methods, again, 0, NULL);
  FUZZ_CHECK (strcmp (text, again_text) == 0);
  return 0;
}

GPtrArray *
fuzz_seeds (void)
{
  GPtrArray *seeds = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  gsize n;
  pick (0);
  gsi_methods_messages (methods, &n);
  for (gsize i = 0; i < n; i++)
    for (gsize k = 0; fuzz_json_texts[k] != NULL; k++)
      {
        g_autoptr (GsArena) arena = gs_arena_new (BUDGET);
        g_autoptr (GByteArray) seed = g_byte_array_new ();
        const char *text = fuzz_json_texts[k];
        const ProtobufCMessageDescriptor *descriptor = pick ((guint8) i);
        ProtobufCMessage *message = gsi_json_read (methods, arena, descriptor, text, strlen (text), NULL);
        guint8 type = (guint8) i;
        if (message == NULL)
          continue; /* a text of another type */
        g_autoptr (GBytes) bytes = gs_wire_encode (message);
        g_byte_array_append (seed, &type, 1);
        g_byte_array_append (seed, g_bytes_get_data (bytes, NULL), (guint) g_bytes_get_size (bytes));
        g_ptr_array_add (seeds, g_byte_array_free_to_bytes (g_steal_pointer (&seed)));
      }
  return seeds;
}
