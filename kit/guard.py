# SPDX-License-Identifier: Apache-2.0
"""
Writes, for every slot of every kind's table, a function that calls the plugin's slot and holds what came back against
what every slot promises (guard.h). From the headers, so that no slot is forgotten: guard.py OUTPUT HEADER...
"""
import os
import re
import sys

TABLE = re.compile(r'typedef struct\s*\{([^{}]*)\}\s*(Gs\w+Ops);')
SLOT = re.compile(r'((?:const\s+)?\w+[\s*]*)\(\*(\w+)\)\s*\(([^()]*)\)\s*;')


def strip(text):
    return re.sub(r'/\*.*?\*/', '', text, flags=re.DOTALL)


def parse(parameter):
    match = re.match(r'^(.*?)(\w+)$', ' '.join(parameter.split()))
    return match.group(1).strip(), match.group(2)


def wrapper(kind, table, result, slot, parameters):
    names = [name for _, name in parameters]
    declared = ', '.join(f'{kind_of}{"" if kind_of.endswith("*") else " "}{name}' for kind_of, name in parameters)
    call = next((name for kind_of, name in parameters if kind_of == 'GsCall *'), 'NULL')
    outs = [(kind_of, name) for kind_of, name in parameters if name.startswith('ret_')]
    fails = names[-1] == 'error'
    arguments = ', '.join(['guard->self'] + ['&mine' if name == 'error' else name for name in names[1:]])
    lines = [f'static {result}', f'{kind}_{slot} ({declared})', '{',
             '  const ConformanceGuard *guard = self;',
             f'  const {table} *ops = guard->ops;']
    if result == 'void':
        lines += [f'  guard_enter (guard, "{slot}");', f'  ops->{slot} ({arguments});',
                  f'  guard_leave (guard, "{slot}", {call});']
    else:
        if fails:
            lines.append('  GError *mine = NULL;')
            for _, name in outs:
                lines.append(f'  guint8 {name}_before[sizeof *{name}];')
        lines.append(f'  {result} result;')
        if fails:
            for _, name in outs:
                lines.append(f'  guard_copy ({name}_before, {name}, sizeof *{name});')
        lines += [f'  guard_enter (guard, "{slot}");', f'  result = ops->{slot} ({arguments});',
                  f'  guard_leave (guard, "{slot}", {call});']
        if fails:
            good = 'result' if result == 'gboolean' else 'result != NULL'
            lines.append(f'  guard_error (guard, "{slot}", {good}, mine);')
            for _, name in outs:
                lines.append(f'  if (!({good}))\n    guard_untouched (guard, "{slot}", "{name}", {name}_before, '
                             f'{name}, sizeof *{name});')
            lines += ['  if (mine != NULL)', '    g_propagate_error (error, mine);']
        lines.append('  return result;')
    return '\n'.join(lines + ['}', ''])


def main(output, headers):
    out = ['/* Made by guard.py from the headers of the kinds. */', '#include "guard.h"', '']
    tables = []
    for header in headers:
        with open(header, encoding='utf-8') as source:
            text = strip(source.read())
        kind = os.path.basename(header).split('.')[0]
        found = TABLE.search(text)
        if not found:
            sys.exit(f'{header}: no table of slots')
        slots = []
        for result, slot, parameters in SLOT.findall(found.group(1)):
            slots.append(slot)
            out.append(wrapper(kind, found.group(2), ' '.join(result.split()), slot,
                               [parse(one) for one in parameters.split(',')]))
        if len(slots) != found.group(1).count('(*'):
            sys.exit(f'{header}: a slot that is not understood')
        out.append(f'static const {found.group(2)} {kind}_slots = {{')
        out += [f'  .{slot} = {kind}_{slot},' for slot in slots] + ['};', '']
        tables.append((kind, found.group(2)))
    out.append('const ConformanceTable conformance_tables[GS_KIND_MAX + 1] = {')
    for kind, table in tables:
        out.append(f'  [GS_KIND_{kind.upper()}] = {{ "{kind}", &{kind}_slots, sizeof ({table}) }},')
    out += ['};', '']
    with open(output, 'w', encoding='utf-8') as target:
        target.write('\n'.join(out))


main(sys.argv[1], sys.argv[2:])
