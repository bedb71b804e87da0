# SPDX-License-Identifier: Apache-2.0
"""
Reads the tables of slots out of the kinds' headers (gitstead/*.h), for whoever writes a function for every slot: the
kit's guard, the layers, the turns of the core. What it does not understand stops the build, so that no slot is forgotten.
"""
import os
import re
import sys

TABLE = re.compile(r'typedef struct\s*\{([^{}]*)\}\s*(Gs\w+Ops);')
SLOT = re.compile(r'((?:const\s+)?\w+[\s*]*)\(\*(\w+)\)\s*\(([^()]*)\)\s*;')

# What a slot gets that another one handed out for a repository: it belongs to that repository still.
HANDED_OUT = ('txn', 'computed')


class Kind:
    """name ("storage"), table ("GsStorageOps"), slots [(result, name, [(type, name)])], text (without comments)."""

    def __init__(self, header):
        with open(header, encoding='utf-8') as source:
            self.text = re.sub(r'/\*.*?\*/', '', source.read(), flags=re.DOTALL)
        self.name = os.path.basename(header).split('.')[0]
        found = TABLE.search(self.text)
        if not found:
            sys.exit(f'{header}: no table of slots')
        self.table = found.group(2)
        self.slots = [(' '.join(result.split()), slot, [parse(one) for one in parameters.split(',')])
                      for result, slot, parameters in SLOT.findall(found.group(1))]
        if len(self.slots) != found.group(1).count('(*'):
            sys.exit(f'{header}: a slot that is not understood')


def parse(parameter):
    match = re.match(r'^(.*?)(\w+)$', ' '.join(parameter.split()))
    return match.group(1).strip(), match.group(2)


def declared(parameters):
    return ', '.join(f'{kind_of}{"" if kind_of.endswith("*") else " "}{name}' for kind_of, name in parameters)


def repository_of(parameters, handed_out):
    """The id of the repository that a call is about, as an expression; 0 = none. @handed_out: a format of {name}."""
    for kind_of, name in parameters:
        if kind_of == 'const GsRepo *':
            return f'{name}->id'
        if name in HANDED_OUT:
            return handed_out.format(name=name)
    return '0'


def hands_out(parameters):
    """Names of the out parameters that belong to the call's repository."""
    return [name for _, name in parameters if name.startswith('ret_') and name[4:] in HANDED_OUT]
