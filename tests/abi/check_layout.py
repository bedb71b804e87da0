# SPDX-License-Identifier: Apache-2.0
"""
Compares sizes, offsets, types and constants of the public headers with layout.txt, and asks for a line in the ledger when
they change. The structs are found in the headers' text, the numbers by the compiler. With --update, writes layout.txt anew.
"""
import argparse
import difflib
import hashlib
import os
import re
import shlex
import subprocess
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument('--cc', required=True)
parser.add_argument('--cflags', required=True)
parser.add_argument('--api', required=True)
parser.add_argument('--layout', required=True)
parser.add_argument('--ledger', required=True)
parser.add_argument('--update', action='store_true')
parser.add_argument('headers', nargs='+')
options = parser.parse_args()

# The thread shim's structs are private to each side: nothing of them crosses the boundary.
NOT_ABI = {'GsMutex', 'GsCond', 'GsThread'}


def read(name):
    with open(os.path.join(options.api, 'gitstead', name + '.h'), encoding='utf-8') as source:
        text = source.read()
    text = re.sub(r'/\*.*?\*/', ' ', text, flags=re.DOTALL)
    return re.sub(r'\\\n', ' ', text)


def members(body):
    names = []
    depth, start = 0, 0
    for at, c in enumerate(body):
        depth += (c == '(') - (c == ')')
        if c == ';' and depth == 0:
            text = ' '.join(body[start:at].split())
            names += [(name, text) for name in declared(text)]
            start = at + 1
    return names


def declared(declaration):
    slot = re.search(r'\(\s*\*\s*(\w+)\s*\)\s*\(', declaration)
    if slot:
        return [slot.group(1)]
    return [re.search(r'(\w+)\s*(?:\[[^\]]*\])?\s*$', piece).group(1) for piece in declaration.split(',')]


def program():
    lines = ['#include <stddef.h>', '#include <stdio.h>'] + [f'#include <gitstead/{name}.h>' for name in options.headers]
    lines += ['int main (void)', '{']
    for header in options.headers:
        text = read(header)
        for match in re.finditer(r'#define (GS_[A-Z0-9_]+) +(\(?\d[0-9a-fxu<( )]*)$', text, re.MULTILINE):
            lines.append(f'  printf ("{match.group(1)} %lld\\n", (long long) {match.group(1)});')
        for match in re.finditer(r'typedef enum\s*\{(.*?)\}\s*(\w+);', text, re.DOTALL):
            for entry in match.group(1).split(','):
                name = entry.split('=')[0].strip()
                if name:
                    lines.append(f'  printf ("{match.group(2)}.{name} %d\\n", (int) {name});')
        structs = [(m.group(2), m.group(1)) for m in re.finditer(r'typedef struct\s*\{([^{}]*)\}\s*(\w+);', text)]
        structs += [(m.group(1), m.group(2)) for m in re.finditer(r'^struct (\w+)\s*\{([^{}]*)\};', text, re.MULTILINE)]
        for name, body in structs:
            if name in NOT_ABI:
                continue
            lines.append(f'  printf ("{name} size %zu\\n", sizeof ({name}));')
            for member, text in members(body):
                lines.append(f'  printf ("{name}.{member} %zu + %zu: {text}\\n", offsetof ({name}, {member}), '
                             f'sizeof ((({name} *) 0)->{member}));')
    return '\n'.join(lines + ['  return 0;', '}', ''])


def measure():
    with tempfile.TemporaryDirectory() as folder:
        source, binary = os.path.join(folder, 'layout.c'), os.path.join(folder, 'layout')
        with open(source, 'w', encoding='utf-8') as out:
            out.write(program())
        subprocess.run(shlex.split(options.cc) + ['-std=gnu11', '-D_GNU_SOURCE', '-I', options.api]
                       + shlex.split(options.cflags) + [source, '-o', binary, '-lglib-2.0', '-lpthread'], check=True)
        return subprocess.run([binary], capture_output=True, text=True, check=True).stdout


if sys.maxsize < 2 ** 32:
    print('layout.txt is that of 64-bit machines')
    sys.exit(77)

now = measure()
if now.count(' size ') < 20:
    sys.exit('hardly any struct was found: has the form of the headers changed?')
mark = hashlib.sha256(now.encode()).hexdigest()[:12]
if options.update:
    with open(options.layout, 'w', encoding='utf-8') as out:
        out.write(now)
with open(options.layout, encoding='utf-8') as source:
    kept = source.read()
with open(options.ledger, encoding='utf-8') as source:
    ledger = source.read()

major, minor = (re.search(rf'^GS_ABI_{word} (\d+)$', now, re.MULTILINE).group(1) for word in ('MAJOR', 'MINOR'))
status = 0
if now != kept:
    status = 1
    sys.stdout.writelines(difflib.unified_diff(kept.splitlines(True), now.splitlines(True), 'layout.txt', 'the headers'))
    print('\nThe layout of the plugin ABI has changed. If that is wanted: appended at an end, raise GS_ABI_MINOR; anything\n'
          'else, raise GS_ABI_MAJOR (see the ledger for the time before the first release); then write the new layout\n'
          'with "ninja abi-layout-update".')
if f'## {major}.{minor}\n' not in ledger:
    status = 1
    print(f'{options.ledger} has no section "## {major}.{minor}".')
if f'`{mark}`' not in ledger:
    status = 1
    print(f'{options.ledger} has no line for this layout: add what changed and why, ending in (layout `{mark}`).')
sys.exit(0 if options.update else status)
