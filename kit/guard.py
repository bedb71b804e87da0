# SPDX-License-Identifier: Apache-2.0
"""
Writes, for every slot of every kind's table, a function that calls the plugin's slot and holds what came back against
what every slot promises (guard.h). From the headers, so that no slot is forgotten: guard.py OUTPUT HEADER...
"""
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'api'))
from slots import Kind, declared, hands_out, repository_of  # noqa: E402


def visits(text):
    """Name and item of each callback that is given one item after the other."""
    return re.findall(r'typedef gboolean \(\*(Gs\w+Visit)\) \((const \w+ \*)\w+, gpointer user\);', text)


def visitor(name, item):
    return f'''static gboolean
guard_{name} ({item}item, gpointer data)
{{
  GuardVisit *watch = data;
  watch->n++;
  guard_called_back (watch);
  return (({name}) watch->visit) (item, watch->user);
}}
'''


def turn_of(parameters):
    return repository_of(parameters, 'turn')


def interrupted(kind, slot, parameters, outs, arguments):
    """The call as one that is over, before the real one; nothing where it could not be made again."""
    names = [name for _, name in parameters]
    types = [kind_of for kind_of, _ in parameters]
    if 'GsCall *' not in types or 'GsStream *' in types or 'txn' in names:
        return []
    when = ' && query->stream == NULL' if 'const GsQuery *' in types else ''
    given = ', '.join('&over' if one == 'call' else one for one in arguments)
    lines = ['  GsCall over;']
    lines += [f'  if (guard_interrupts (guard, call, &over){when})', '    {', f'      guard_enter (guard, "{slot}", {turn_of(parameters)});',
              f'      result = ops->{slot} ({given});', f'      guard_leave (guard, "{slot}", {turn_of(parameters)}, &over);',
              f'      guard_error (guard, "{slot}", result, mine);', '      if (!result)', '        {']
    lines += [f'          guard_untouched (guard, "{slot}", "{name}", {name}_before, {name}, sizeof *{name});' for _, name in outs]
    lines += ['        }', f'      if (result || !guard_again (guard, "{slot}", mine, {"watch.n" if "&watch" in arguments else "0"}))', '        {',
              '          if (mine != NULL)', '            g_propagate_error (error, mine);', '          return result;', '        }',
              '      g_clear_error (&mine);', '    }']
    return lines


def wrapper(kind, table, result, slot, parameters):
    names = [name for _, name in parameters]
    call = next((name for kind_of, name in parameters if kind_of == 'GsCall *'), 'NULL')
    outs = [(kind_of, name) for kind_of, name in parameters if name.startswith('ret_')]
    fails = names[-1] == 'error'
    listed = ['guard->self'] + ['&mine' if name == 'error' else name for name in names[1:]]
    visit = next((kind_of for kind_of, _ in parameters if kind_of.endswith('Visit')), None)
    if visit:
        swapped = {'visit': f'guard_{visit}', 'user': '&watch'}
        listed = [swapped.get(one, one) for one in listed]
    arguments = ', '.join(listed)
    lines = [f'static {result}', f'{kind}_{slot} ({declared(parameters)})', '{',
             '  const ConformanceGuard *guard = self;',
             f'  const {table} *ops = guard->ops;']
    if visit:
        lines.append(f'  GuardVisit watch = {{ (GuardFunction) visit, user, 0, guard, "{slot}", pthread_self () }};')
    turn = turn_of(parameters)
    if turn == 'turn':
        lines.append(f'  const guint64 turn = {repository_of(parameters, "guard_repository_of (guard, {name})")};')
    if result == 'void':
        lines += [f'  guard_enter (guard, "{slot}", {turn});', f'  ops->{slot} ({arguments});',
                  f'  guard_leave (guard, "{slot}", {turn}, {call});']
    else:
        if fails:
            lines.append('  GError *mine = NULL;')
            for _, name in outs:
                lines.append(f'  guint8 {name}_before[sizeof *{name}];')
        lines.append(f'  {result} result;')
        tries = fails and result == 'gboolean'
        if tries:
            more = interrupted(kind, slot, parameters, outs, listed)
            lines += [line for line in more if line.endswith(';') and line.startswith('  G')]
            lines.append('  guint n_tries = 0;')
        if fails:
            for _, name in outs:
                lines.append(f'  guard_copy ({name}_before, {name}, sizeof *{name});')
        if tries:
            lines += [line for line in more if not (line.endswith(';') and line.startswith('  G'))] + ['  do', '    {']
        lines += [f'  guard_enter (guard, "{slot}", {turn});', f'  result = ops->{slot} ({arguments});',
                  f'  guard_leave (guard, "{slot}", {turn}, {call});']
        if fails:
            good = 'result' if result == 'gboolean' else 'result != NULL'
            lines.append(f'  guard_error (guard, "{slot}", {good}, mine);')
            for _, name in outs:
                lines.append(f'  if (!({good}))\n    guard_untouched (guard, "{slot}", "{name}", {name}_before, '
                             f'{name}, sizeof *{name});')
            if tries:
                lines += ['    }', '  while (guard_repeats (guard, &n_tries, &mine));']
            for name in hands_out(parameters):
                lines += ['  if (result)', f'    guard_handed_out (guard, *{name}, repo->id);']
            lines += ['  if (mine != NULL)', '    g_propagate_error (error, mine);']
        lines.append('  return result;')
    return '\n'.join(lines + ['}', ''])


def main(output, headers):
    out = ['/* Made by guard.py from the headers of the kinds. */', '#include "guard.h"', '']
    tables = []
    for header in headers:
        kind = Kind(header)
        out += [visitor(*one) for one in visits(kind.text)]
        out += [wrapper(kind.name, kind.table, *one) for one in kind.slots]
        out.append(f'static const {kind.table} {kind.name}_slots = {{')
        out += [f'  .{slot} = {kind.name}_{slot},' for _, slot, _ in kind.slots] + ['};', '']
        tables.append((kind.name, kind.table))
    out.append('const ConformanceTable conformance_tables[GS_KIND_MAX + 1] = {')
    for kind, table in tables:
        out.append(f'  [GS_KIND_{kind.upper()}] = {{ "{kind}", &{kind}_slots, sizeof ({table}) }},')
    out += ['};', '']
    with open(output, 'w', encoding='utf-8') as target:
        target.write('\n'.join(out))


main(sys.argv[1], sys.argv[2:])
