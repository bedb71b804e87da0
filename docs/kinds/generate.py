# SPDX-License-Identifier: Apache-2.0
"""
Writes docs/kinds/KIND.md from the header of each kind and its conformance cases: generate.py [--check]. With --check nothing
is written, and the exit code is 1 when a page does not say what the header says.
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KINDS = ['transport', 'storage', 'metadata', 'routing', 'consistency', 'cache', 'access', 'layer']


# Held up by the guard around every call (kit/guard.c).
EVERY = {'S1': 'every call of every case that fails', 'M6': 'every call of every case that fails'}


def read(*path):
    with open(os.path.join(ROOT, *path), encoding='utf-8') as source:
        return source.read()


def plain(comment):
    lines = [re.sub(r'^\s*\*? ?', '', line) for line in comment.splitlines()]
    return ' '.join(' '.join(lines).split())


def promises(text):
    """Every "[S31] …" of the comments, in order; it ends where the next begins, or its comment or paragraph."""
    found = []
    for comment in re.findall(r'/\*\*?(.*?)\*/', text, re.DOTALL):
        paragraphs = re.split(r'\n\s*\*?\s*\n', comment)
        for paragraph in paragraphs:
            pieces = re.split(r'\[([A-Z]\d+)\]', paragraph)
            for number, what in zip(pieces[1::2], pieces[2::2]):
                found.append((number, plain(what)))
    return found


def cases(kind):
    return re.findall(r'^\s*\{ "([A-Z]\d+)", "((?:[^"\\]|\\.)*)"', read('kit', 'cases', kind + '.c'), re.MULTILINE)


def slots(text):
    table = re.split(r'\}\s*Gs\w+Ops;', text)[0].rpartition('typedef struct')[2]
    for comment, name in re.findall(r'(?:/\*\*((?:(?!\*/).)*)\*/\s*)?(?:const )?\w+[\s*]*\(\*(\w+)\)\s*\([^()]*\)\s*;', table, re.DOTALL):
        yield name, plain(comment)


def page(kind):
    text = read('api', 'gitstead', kind + '.h')
    head = re.search(r'/\*\*(.*?)\*/', text, re.DOTALL).group(1)
    about = []
    for paragraph in re.split(r'\n\s*\*\s*\n', re.split(r'\n\s*\*\s*\[[A-Z]\d+\]', head)[0]):
        about.append(plain(paragraph))
    title = re.sub(r'^\w+\.h - ', '', about[0])
    out = [f'# {kind}', '', f'<!-- Made by docs/kinds/generate.py from api/gitstead/{kind}.h and kit/cases/{kind}.c. -->', '',
           title[0].upper() + title[1:]]
    for paragraph in about[1:]:
        if paragraph != 'Promises of every slot':
            out += ['', paragraph]
    out += ['', f'Header: `gitstead/{kind}.h`. Begin with `gitstead plugin new {kind} NAME`; check with `gitstead plugin check '
            f'{kind}-NAME.so`.', '', '## Promises', '', '| number | promise | cases |', '|---|---|---|']
    listed = cases(kind)
    own = promises(text)
    for number, what in own:
        tested = '; '.join(title for promise, title in listed if promise == number)
        out.append(f'| {number} | {what.replace("|", "/")} | {tested or EVERY.get(number, "-")} |')
    extra = [(promise, title) for promise, title in listed if promise not in dict(own)]
    for promise, title in extra:
        out.append(f'| {promise} | as every plugin promises | {title} |')
    out += ['', 'P1 to P8, which every plugin makes, stand in [plugins.md](../plugins.md#what-every-plugin-promises).', '',
            '## Slots', '', '| slot | contract |', '|---|---|']
    for name, what in slots(text):
        out.append(f'| `{name}` | {what.replace("|", "/") or "see the promises"} |')
    codes = []
    for code in re.findall(r'GS_ERROR_([A-Z_]+) = \d+,?\s*/\*\s*(.*?)\s+retry:\s*(\w+)', read('api', 'gitstead', 'error.h')):
        if re.search(r'\b%s\b' % code[0], text):
            codes.append(code)
    out += ['', '## Failures', '', 'A slot fails with an error of the domain `GS_ERROR` and leaves its out parameters as they were. '
            'The codes that this contract gives a meaning of its own; the others as in [errors.md](../errors.md):', '',
            '| code | means | repeat |', '|---|---|---|']
    for code, means, retry in codes:
        out.append(f'| {code} | {means} | {retry} |')
    if not codes:
        out.append('| - | none of its own | |')
    return '\n'.join(out) + '\n'


def main():
    stale = []
    for kind in KINDS:
        path, text = os.path.join('docs', 'kinds', kind + '.md'), page(kind)
        if '--check' not in sys.argv:
            with open(os.path.join(ROOT, path), 'w', encoding='utf-8') as out:
                out.write(text)
        elif not os.path.isfile(os.path.join(ROOT, path)) or read(path) != text:
            stale.append(path)
    if stale:
        sys.exit('not what the headers say: %s; run docs/kinds/generate.py' % ', '.join(stale))


main()
