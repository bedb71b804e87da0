# SPDX-License-Identifier: Apache-2.0
"""Compiles each public header alone, in the languages in which plugins are written, and a small plugin in each. TAP."""
import argparse
import os
import shlex
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument('--cc', required=True)
parser.add_argument('--cxx', required=True)
parser.add_argument('--cflags', required=True)
parser.add_argument('--api', required=True)
parser.add_argument('headers', nargs='+')
options = parser.parse_args()

PLUGIN = '''
#include <gitstead/cache.h>
static gboolean lookup (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{ (void) self; (void) key; *ret_value = NULL; return gs_call_check (call, "lookup", error); }
static gboolean store (gpointer self, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{ (void) self; (void) call; (void) key; (void) value; (void) ttl_us; (void) error; return TRUE; }
static gboolean forget_prefix (gpointer self, GsCall *call, GBytes *prefix, GError **error)
{ (void) self; (void) call; (void) prefix; (void) error; return TRUE; }
static void stats (gpointer self, GsCacheStats *ret_stats) { (void) self; ret_stats->n_entries = 0; }
static gpointer create (const GsHost *host, const GsConfig *config, GError **error)
{ (void) host; (void) config; (void) error; return g_malloc0 (1); }
static void destroy (gpointer self) { g_free (self); }
static const GsCacheOps ops = { lookup, store, forget_prefix, stats };
GS_PLUGIN_DEFINE (GsCacheOps, .kind = GS_KIND_CACHE, .threads = GS_THREADS_PARALLEL, .name = "tiny", .version = "1",
                  .summary = "Nothing.", .license = "Apache-2.0", .options = NULL, .needs = NULL, .ops = &ops,
                  .create = create, .start = NULL, .drain = NULL, .stop = NULL, .destroy = destroy)
'''

# Strict ISO modes hide POSIX; the thread shim is all about it.
POSIX = ['-D_POSIX_C_SOURCE=200809L']
LANGUAGES = [('C11', options.cc, '.c', ['-std=c11', '-pedantic']), ('C17', options.cc, '.c', ['-std=c17', '-pedantic']),
             ('GNU C11', options.cc, '.c', ['-std=gnu11', '-D_GNU_SOURCE']), ('C++17', options.cxx, '.cc', ['-std=c++17'])]

glib = ['-isystem' + flag[2:] if flag.startswith('-I') else flag for flag in shlex.split(options.cflags)]


def compile_text(compiler, suffix, flags, text):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'alone' + suffix)
        with open(path, 'w', encoding='utf-8') as out:
            out.write(text)
        return subprocess.run(shlex.split(compiler) + flags + POSIX + glib
                              + ['-Wall', '-Wextra', '-Werror', '-I', options.api, '-fsyntax-only', path],
                              capture_output=True, text=True, check=False)


number = failed = 0
total = len(LANGUAGES) * (len(options.headers) + 1)
print(f'1..{total}')
for language, compiler, suffix, flags in LANGUAGES:
    for name in options.headers + [None]:
        number += 1
        what = f'{name}.h alone' if name else 'a small plugin'
        if not compiler:
            print(f'ok {number} - {what} in {language} # SKIP no C++ compiler')
            continue
        include = f'#include <gitstead/{name}.h>\n#include <gitstead/{name}.h>\n' if name else PLUGIN
        end = 'extern int a_translation_unit_is_not_empty;\n'
        done = compile_text(compiler, suffix, flags, include + end)
        print(f'{"ok" if done.returncode == 0 else "not ok"} {number} - {what} in {language}')
        if done.returncode != 0:
            failed += 1
            print('\n'.join('# ' + line for line in done.stderr.splitlines()[:20]))
sys.exit(1 if failed else 0)
