# SPDX-License-Identifier: Apache-2.0
"""
Every promise that a header of the API numbers has a case of its kind's suite. Those that no single case can hold up - what
every call is looked at for, and what loading and the life of the process show - are named by the code that watches them, and
then a plugin that breaks one of them has to be kept in bad/. Usage: test_promises.py SOURCE-FOLDER; TAP comes out.
"""
import glob
import os
import re
import sys

ROOT = sys.argv[1]
NUMBER = re.compile(r'\[([A-Z]\d+)\]')
# What watches every call, and `gitstead plugin check`, which watches the process.
WATCHERS = ['kit/guard.c', 'kit/engine.c', 'core/main/plugin_case.c', 'core/main/plugin_check.c']


def read(path):
    with open(path, encoding='utf-8') as source:
        return source.read()


def found(pattern, paths, **flags):
    return {number for path in paths for number in re.findall(pattern, read(path), **flags)}


headers = sorted(glob.glob(os.path.join(ROOT, 'api', 'gitstead', '*.h')))
cases = found(r'^\s*\{ "([A-Z]\d+)", "', glob.glob(os.path.join(ROOT, 'kit', 'cases', '*.c')) + [os.path.join(ROOT, 'kit', 'life.c')],
              flags=re.MULTILINE)
watched = found(r'"([A-Z]\d+)"', [os.path.join(ROOT, path) for path in WATCHERS])
broken = found(r'^/\* ([A-Z]\d+): ', glob.glob(os.path.join(ROOT, 'tests', 'conformance', 'bad', '*.c')), flags=re.MULTILINE)
count = failed = 0
promised = set()


def point(good, text):
    global count, failed
    count += 1
    failed += not good
    print('%s %d - %s' % ('ok' if good else 'not ok', count, text))


for header in headers:
    for number in NUMBER.findall(read(header)):
        if number in promised:
            continue
        promised.add(number)
        name = os.path.basename(header)
        if number in cases:
            point(True, '%s %s has a case' % (name, number))
        elif number in watched:
            point(number in broken, '%s %s is watched by the engine, and a plugin in bad/ breaks it' % (name, number))
        else:
            point(False, '%s %s has a case, or is watched by %s' % (name, number, ', '.join(WATCHERS)))
for number in sorted((cases | broken) - promised):
    point(False, '%s, which a case or a plugin in bad/ is about, stands in a header' % number)
point(len(promised) > 60, 'the headers number their promises: %d' % len(promised))
print('1..%d' % count)
sys.exit(1 if failed else 0)
