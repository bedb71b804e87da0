# SPDX-License-Identifier: Apache-2.0
"""
Writes, for every slot of every kind that can be wrapped, a function that asks the layer before and after it calls the
wrapped instance's (wrap.h). From the headers, so that no slot is forgotten: wrap.py OUTPUT HEADER...
"""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'api'))
from slots import Kind, declared  # noqa: E402

# How what a slot gave is given back when its caller is to hear that it failed. A type that stands for an owner and is not
# here stops the build: somebody has to say who frees it.
GIVE_BACK = {
    'GBytes **': 'g_bytes_unref (*{name});',
    'char **': 'g_free (*{name});',
    'GsComputed **': 'ops->computed_free (wrap->inner.self, *{name});',
    'const GsIdentity **': 'ops->release (wrap->inner.self, *{name});',
    'gpointer *': 'ops->abort (wrap->inner.self, call, *{name}, mine);',  # a transaction
    'const GsVote **': '',  # goes with its transaction
}


def is_owner(kind_of):
    return kind_of.endswith('**') or kind_of == 'gpointer *'


def flags(names):
    found = ['WRAP_FAILS'] if names[-1] == 'error' else []
    if 'txn' in names and 'WRAP_FAILS' in found:
        found.append('WRAP_CONSUMES')
    return ' | '.join(found) or '0'


def wrapper(kind, table, number, result, slot, parameters):
    names = [name for _, name in parameters]
    types = [kind_of for kind_of, _ in parameters]
    fails = names[-1] == 'error'
    arguments = ', '.join(['wrap->inner.self'] + ['&mine' if name == 'error' else name for name in names[1:]])
    outs = [(kind_of, name) for kind_of, name in parameters if name.startswith('ret_')]
    fields = [f'.slot = &{kind}_rows[{number}]'] + [f'.call = {name}' for kind_of, name in parameters if kind_of == 'GsCall *'] \
        + [f'.repo = {name}' for kind_of, name in parameters if kind_of == 'const GsRepo *']
    lines = [f'static {result}', f'{kind}_{slot} ({declared(parameters)})', '{', '  const Wrap *wrap = self;',
             f'  const {table} *ops = wrap->inner.ops;', f'  WrapPass pass = {{ {", ".join(fields)} }};']
    if not fails:
        if result != 'void':
            lines.append(f'  {result} result;')
        lines += ['  wrap_enter (wrap, &pass, NULL);',
                  f'  {"result = " if result != "void" else ""}ops->{slot} ({arguments});',
                  '  wrap_after (wrap, &pass, NULL);']
        return '\n'.join(lines + (['  return result;'] if result != 'void' else []) + ['}', ''])
    if result != 'gboolean':
        sys.exit(f'{kind}.{slot}: it can fail and returns {result}, which is not understood')
    lines.append('  GError *mine = NULL;')
    lines += [f'  guint8 {name}_before[sizeof *{name}] = {{ 0 }};' for _, name in outs]
    lines += ['  gboolean result;', '  if (!wrap_enter (wrap, &pass, error))', '    return FALSE;']
    lines += [f'  if (pass.fail)\n    memcpy ({name}_before, {name}, sizeof *{name});' for _, name in outs]
    lines += [f'  result = ops->{slot} ({arguments});', '  if (result && pass.fail)', '    {',
              '      wrap_fail (wrap, &pass, &mine);', '      result = FALSE;']
    for kind_of, name in outs:
        if is_owner(kind_of):
            if kind_of not in GIVE_BACK:
                sys.exit(f'{kind}.{slot}: how is {name} ({kind_of}) given back? Say so in {os.path.basename(__file__)}')
            text = GIVE_BACK[kind_of].format(name=name)
            if text:
                lines.append(f'      if (*{name} != NULL)\n        {text}')
    lines += [f'      memcpy ({name}, {name}_before, sizeof *{name});' for _, name in outs]
    lines += ['    }', '  wrap_after (wrap, &pass, mine);', '  if (mine != NULL)', '    g_propagate_error (error, mine);',
              '  return result;', '}', '']
    return '\n'.join(lines)


def main(output, headers):
    out = ['/* Made by wrap.py from the headers of the kinds. */', '#include "wrap.h"', '', '#include <string.h>', '']
    tables = []
    for header in headers:
        read = Kind(header)
        kind, table, slots = read.name, read.table, read.slots
        out.append(f'static const WrapSlot {kind}_rows[] = {{')
        out += [f'  {{ "{slot}", {flags([name for _, name in parameters])} }},' for _, slot, parameters in slots]
        out += ['  { NULL, 0 },', '};', '']
        out += [wrapper(kind, table, number, *one) for number, one in enumerate(slots)]
        out.append(f'static const {table} {kind}_table = {{')
        out += [f'  .{slot} = {kind}_{slot},' for _, slot, _ in slots] + ['};', '']
        tables.append((kind, table))
    out += ['const WrapSlot *', 'wrap_slots (guint32 kind)', '{', '  switch (kind)', '    {']
    for kind, _ in tables:
        out += [f'    case GS_KIND_{kind.upper()}:', f'      return {kind}_rows;']
    out += ['    default:', '      return NULL;', '    }', '}', '', 'const void *',
            'wrap_table (guint32 kind, gsize *ret_size)', '{', '  switch (kind)', '    {']
    for kind, table in tables:
        out += [f'    case GS_KIND_{kind.upper()}:', f'      *ret_size = sizeof ({table});', f'      return &{kind}_table;']
    out += ['    default:', '      return NULL;', '    }', '}', '']
    with open(output, 'w', encoding='utf-8') as target:
        target.write('\n'.join(out))


main(sys.argv[1], sys.argv[2:])
