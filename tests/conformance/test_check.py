# SPDX-License-Identifier: Apache-2.0
"""
`gitstead plugin check` on plugins that break one promise each: that one has to be named. Usage: test_check.py PROGRAM PLUGINS BROKEN-PLUGINS, and TAP comes out.
"""
import concurrent.futures
import glob
import json
import os
import re
import subprocess
import sys

PROGRAM, GOOD, BAD = sys.argv[1:4]
# These look for growth of the C library's heap, which a sanitizer replaces.
SANITIZED = bool(os.environ.get('GITSTEAD_TEST_SANITIZED'))
SOURCE = os.path.dirname(os.path.abspath(__file__))
OPTIONS = {'transport-deaf': ['--option', 'listen=http://127.0.0.1:0'],
           'transport-ignores-leavers': ['--option', 'listen=http://127.0.0.1:0'],
           'cache-hangs': ['--time-limit', '3s']}
AT_ONCE = 4
count = failed = 0


def check(file, *options):
    result = subprocess.run([PROGRAM, 'plugin', 'check', '--json', '--plugin-path', GOOD, *options, file],
                            capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return result.returncode, json.loads(result.stdout) if result.stdout else {}, result.stderr


def check_for(file, promise, options):
    """The cases of the promise; all of them where it is one that every case looks at."""
    if promise.startswith('P'):
        code, said, stderr = check(file, *options)
        return code, [row for row in said.get('cases', []) if row['result'] == 'failed'], stderr
    broken, text, worst = [], '', 0
    for case in check(file, '--list', *options)[1].get('cases', []):
        if case['promise'] == promise:
            code, said, stderr = check(file, '--case', str(case['number']), *options)
            broken += [row for row in said.get('cases', []) if row['result'] == 'failed']
            text, worst = text + stderr, max(worst, code)
    if promise in [row['promise'] for row in broken]:
        return worst, broken, text
    code, said, stderr = check(file, *options) # every case looks at it, whatever else it is about
    return code, [row for row in said.get('cases', []) if row['result'] == 'failed'], stderr


def point(ok, text, detail=''):
    global count, failed
    count += 1
    failed += not ok
    print('%s %d - %s' % ('ok' if ok else 'not ok', count, text))
    for line in detail.splitlines() if not ok else []:
        print('# ' + line)
    sys.stdout.flush()


def skip(text, why):
    global count
    count += 1
    print('ok %d - %s # SKIP %s' % (count, text, why))


def only(names):
    wanted = os.environ.get('GITSTEAD_TEST_ONLY')
    return [name for name in names if not wanted or wanted in name]


def look(path):
    """Whether its broken promise is named, and what the points of it are."""
    name = os.path.basename(path)[:-3]
    with open(os.path.join(SOURCE, 'bad', name + '.c'), encoding='utf-8') as source:
        promise = re.match(r'/\* ([A-Z]\d+): ', source.readlines()[1]).group(1)
    if SANITIZED and promise == 'P3':
        return [(skip, name, 'needs the C library\'s own heap')]
    code, broken, stderr = check_for(path, promise, OPTIONS.get(name, []))
    points = [(point, code == 1 and promise in [row['promise'] for row in broken], '%s breaks %s' % (name, promise),
               'exit code %d\n%s%s' % (code, json.dumps(broken, indent=1), stderr))]
    for row in broken:
        if row['promise'] == promise:
            points.append((point, row['expected'] != '' and row['happened'] != '',
                           '%s: %s' % (name, (row['happened'].splitlines() or ['nothing'])[0])))
            break
    return points


# What the checker itself does with its memory a third of them shows as well as all.
paths = only(sorted(glob.glob(os.path.join(BAD, '*.so'))))[::3 if SANITIZED else 1]
# Most of its time each waits to see whether something happens after all, so several at once.
with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
    for points in pool.map(look, paths):
        for kind, *rest in points:
            kind(*rest)

print('1..%d' % count)
sys.exit(1 if failed else 0)
