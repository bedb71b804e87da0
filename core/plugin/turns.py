# SPDX-License-Identifier: Apache-2.0
"""
Writes, for every slot of every kind whose plugins may ask for turns, a function that takes the turn, calls the
instance's own and gives the turn back (turns.h). From the headers, so that no slot is forgotten: turns.py OUTPUT HEADER...
"""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'api'))
from slots import Kind, declared, hands_out, repository_of  # noqa: E402


def patience(kind, parameters):
    """How long the call waits, and the call itself: see GsiPatience."""
    names = [name for _, name in parameters]
    types = [kind_of for kind_of, _ in parameters]
    call = 'call' if 'GsCall *' in types else 'NULL'
    if names[-1] != 'error' or 'txn' in names:  # it cannot fail, or takes what it is given whatever comes out of it
        return 'GSI_PATIENCE_ENDLESS', 'NULL'
    if call == 'NULL' and kind.name != 'storage':  # its answer is wanted, and what is before it ends soon or by its deadline
        return 'GSI_PATIENCE_ENDLESS', 'NULL'
    if 'GsStream *' in types or call == 'NULL':
        return 'GSI_PATIENCE_SHORT', call
    if 'const GsQuery *' in types:
        return 'query->stream != NULL ? GSI_PATIENCE_SHORT : GSI_PATIENCE_CALL', call
    return 'GSI_PATIENCE_CALL', call


def wrapper(kind, result, slot, parameters):
    names = [name for _, name in parameters]
    how_long, call = patience(kind, parameters)
    # Of a plugin of another kind it is always the turn of the whole instance.
    repository = repository_of(parameters, 'gsi_turn_repository_of (instance, {name})') if kind.name == 'storage' else '0'
    arguments = ', '.join(['instance->inner.self'] + names[1:])
    lines = [f'static {result}', f'{kind.name}_{slot} ({declared(parameters)})', '{', '  GsiInstance *instance = self;',
             f'  const {kind.table} *ops = instance->inner.ops;', f'  const guint64 repository = {repository};']
    if result != 'void':
        lines.append(f'  {result} result;')
    if how_long == 'GSI_PATIENCE_ENDLESS':
        lines.append(f'  gsi_turn_enter (instance, repository, {how_long}, {call}, NULL);')
    else:
        lines += [f'  if (!gsi_turn_enter (instance, repository, {how_long}, {call}, error))',
                  f'    return {"FALSE" if result == "gboolean" else "NULL"};']
    lines.append(f'  {"result = " if result != "void" else ""}ops->{slot} ({arguments});')
    if kind.name == 'storage':
        for name in hands_out(parameters):
            lines += ['  if (result)', f'    gsi_turn_hand_out (instance, *{name}, repository);']
    lines.append('  gsi_turn_leave (instance, repository);')
    if result != 'void':
        lines.append('  return result;')
    return '\n'.join(lines + ['}', ''])


def main(output, headers):
    kinds = [Kind(header) for header in headers]
    out = ['/* Made by turns.py from the headers of the kinds. */', '#include "plugin/turns.h"', '']
    for kind in kinds:
        out.append(f'#include <gitstead/{kind.name}.h>')
    out.append('')
    for kind in kinds:
        out += [wrapper(kind, *one) for one in kind.slots]
        out.append(f'static const {kind.table} {kind.name}_table = {{')
        out += [f'  .{slot} = {kind.name}_{slot},' for _, slot, _ in kind.slots] + ['};', '']
    out += ['const void *const gsi_turn_tables[GS_KIND_MAX + 1] = {']
    out += [f'  [GS_KIND_{kind.name.upper()}] = &{kind.name}_table,' for kind in kinds] + ['};', '']
    with open(output, 'w', encoding='utf-8') as target:
        target.write('\n'.join(out))


main(sys.argv[1], sys.argv[2:])
