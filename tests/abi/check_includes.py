# SPDX-License-Identifier: Apache-2.0
"""
Includes go one way: api knows nobody, core knows api and, inside, only what is below; plugins know api and themselves. The
core includes no library that belongs to a plugin. Usage: check_includes.py ROOT, or --self-test.
"""
import os
import re
import sys
import tempfile

PARTS = ['base', 'plugin', 'rpc', 'node', 'router', 'main']
PLUGIN_LIBRARIES = re.compile(r'^(nng|git2|sqlite3|libpq|postgres|microhttpd|gnutls|hiredis)\b')
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def sources(root, folder):
    for place, folders, names in os.walk(os.path.join(root, folder)):
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        for name in sorted(names):
            if name.endswith(('.c', '.h', '.cc', '.cpp', '.inc')):
                yield os.path.relpath(os.path.join(place, name), root)


def includes(root, path):
    with open(os.path.join(root, path), encoding='utf-8') as source:
        text = source.read()
    for match in INCLUDE.finditer(text):
        yield text.count('\n', 0, match.start(1)) + 1, match.group(1)


def resolve(root, path, name):
    """Where in the tree an include leads to, as the build's include folders would find it; None when outside."""
    here = os.path.normpath(os.path.join(os.path.dirname(path), name))
    for candidate in (here, os.path.join('core', name), os.path.join('api', name), os.path.join('kit', name),
                      os.path.normpath(name)):
        if not candidate.startswith('..') and os.path.isfile(os.path.join(root, candidate)):
            return candidate
    return None


def part_of(path):
    pieces = path.split('/')
    return PARTS.index(pieces[1]) if pieces[0] == 'core' and len(pieces) > 2 and pieces[1] in PARTS else None


def home_of(path):
    """A plugin's own folders: its kind's, since siblings of a kind may share a part of it (plugins/metadata/sql)."""
    return '/'.join(path.split('/')[:2])


def complaint(root, path, name):
    target = resolve(root, path, name)
    top = path.split('/')[0]
    target_top = target.split('/')[0] if target else None
    if top == 'api':
        if target_top in ('kit', 'core', 'plugins', 'tests'):
            return 'api knows nobody'
    elif top == 'kit':
        if target_top in ('core', 'plugins', 'tests'):
            return 'the kit knows api alone'
    elif top == 'core':
        if target_top in ('plugins', 'tests'):
            return 'the core knows api alone'
        if PLUGIN_LIBRARIES.match(name):
            return 'this library belongs to a plugin'
        if target_top == 'core' and part_of(target) is not None and part_of(path) is not None \
                and part_of(target) > part_of(path):
            return f'{PARTS[part_of(target)]} is above {PARTS[part_of(path)]}'
    elif top == 'plugins':
        if target_top in ('kit', 'core', 'tests'):
            return 'a plugin knows api alone'
        if target_top == 'plugins' and home_of(target) != home_of(path):
            return 'a plugin knows no other kind of plugin'
    return None


def check(root):
    problems, looked = [], 0
    for folder in ('api', 'kit', 'core', 'plugins'):
        for path in sources(root, folder):
            looked += 1
            for line, name in includes(root, path):
                why = complaint(root, path, name)
                if why:
                    problems.append(f'{path}:{line}: includes {name}: {why}')
    return problems, looked


def self_test():
    tree = {
        'api/gitstead/x.h': '#include "base/log.h"\n',
        'api/gitstead/y.h': '#include "x.h"\n#include <glib.h>\n',
        'core/base/log.h': '#include "rpc/call.h"\n#include <gitstead/y.h>\n',
        'core/base/db.c': '#include <sqlite3.h>\n#  include <nng/nng.h>\n#include "log.h"\n',
        'core/rpc/call.h': '#include "base/log.h"\n#include "../../plugins/cache/lru/lru.h"\n',
        'plugins/cache/lru/lru.h': '#include <gitstead/y.h>\n',
        'plugins/cache/lru/lru.c': '#include "lru.h"\n#include "base/log.h"\n#include <sqlite3.h>\n',
        'plugins/storage/git/git.c': '#include "../../cache/lru/lru.h"\n',
    }
    want = [('api/gitstead/x.h', 'base/log.h'), ('core/base/db.c', 'sqlite3.h'), ('core/base/db.c', 'nng/nng.h'),
            ('core/base/log.h', 'rpc/call.h'), ('core/rpc/call.h', '../../plugins/cache/lru/lru.h'),
            ('plugins/cache/lru/lru.c', 'base/log.h'), ('plugins/storage/git/git.c', '../../cache/lru/lru.h')]
    with tempfile.TemporaryDirectory() as root:
        for path, text in tree.items():
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), 'w', encoding='utf-8') as out:
                out.write(text)
        problems, _ = check(root)
    seen = sorted((line.split(':')[0], line.split('includes ')[1].split(':')[0]) for line in problems)
    if seen != sorted(want):
        print('wanted', sorted(want), 'and saw', seen, sep='\n')
        return 1
    return 0


if sys.argv[1:] == ['--self-test']:
    sys.exit(self_test())
found, n_files = check(sys.argv[1])
print('\n'.join(found))
print(f'{n_files} files looked at, {len(found)} includes go the wrong way')
sys.exit(1 if found or n_files == 0 else 0)
