# SPDX-License-Identifier: Apache-2.0
"""
Writes the templates of `gitstead plugin new` as C texts: embed.py OUTPUT API-FOLDER FILE... In a template KIND.c, a line
@SLOTS@ becomes a function for each slot of the kind, as its header has them, that hands the call on, and the table of these.
"""
import os
import re
import sys
import textwrap

TABLE = re.compile(r'typedef struct\s*\{([^{}]*)\}\s*(Gs\w+Ops);')
SLOT = re.compile(r'((?:const\s+)?\w+[\s*]*)\(\*(\w+)\)\s*\(([^()]*)\)\s*;')


# Says by being there that the storage is elsewhere: not for one that only hands on.
LEFT_OUT = ['probe', 'program']


def hand_on(kind, result, slot, parameters):
    result, parameters = ' '.join(result.split()), ' '.join(parameters.split())
    names = [re.search(r'(\w+)$', one.strip()).group(1) for one in parameters.split(',')]
    head = f'my_{slot} ('
    lines = textwrap.wrap('gpointer data, ' + parameters.split(',', 1)[1].strip(), 118 - len(head))
    call = f'inner_ops (self)->{slot} ({", ".join(["self->inner.self"] + names[1:])});'
    body = [f'static {result}', head + ('\n' + ' ' * len(head)).join(lines) + ')', '{', '  Self *self = data;']
    if names[-1] == 'error' and result == 'gboolean':
        body += [f'  if (inner_ops (self)->{slot} == NULL)',
                 f'    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the {kind} behind @NAME@ cannot do that");']
    return '\n'.join(body + ['  ' + ('' if result == 'void' else 'return ') + call, '}', ''])


def slots(api, kind):
    with open(os.path.join(api, 'gitstead', kind + '.h'), encoding='utf-8') as header:
        found = TABLE.search(re.sub(r'/\*.*?\*/', '', header.read(), flags=re.DOTALL))
    rows = SLOT.findall(found.group(1))
    if len(rows) != found.group(1).count('(*'):
        sys.exit(f'{kind}.h: a slot that is not understood')
    rows = [row for row in rows if row[1] not in LEFT_OUT]
    return '\n'.join([hand_on(kind, *row) for row in rows] + [f'static const {found.group(2)} ops = {{']
                     + [f'  .{slot} = my_{slot},' for _, slot, _ in rows] + ['};'])


def literal(text):
    lines = text.split('\n')
    return '\n'.join('    "%s%s"' % (line.replace('\\', '\\\\').replace('"', '\\"').replace('\t', '\\t'),
                                     '\\n' if i < len(lines) - 1 else '') for i, line in enumerate(lines))


out = ['/* Made by embed.py. */', '#include "plugin_new.h"', '', 'const GsiTemplate gsi_templates[] = {']
for path in sys.argv[3:]:
    with open(path, encoding='utf-8') as source:
        text = source.read()
    name = os.path.basename(path)
    if '@SLOTS@' in text:
        text = text.replace('@SLOTS@', slots(sys.argv[2], name.split('.')[0]))
    out.append('  { "%s",\n%s },' % (name, literal(text)))
out += ['  { NULL, NULL },', '};', '']
with open(sys.argv[1], 'w', encoding='utf-8') as target:
    target.write('\n'.join(out))
