# SPDX-License-Identifier: Apache-2.0
"""Writes the templates of `gitstead plugin new` as C texts: embed.py OUTPUT FILE..."""
import os
import sys

out = ['/* Made by embed.py. */', '#include "plugin_new.h"', '', 'const GsiTemplate gsi_templates[] = {']
for path in sys.argv[2:]:
    with open(path, encoding='utf-8') as source:
        lines = source.read().split('\n')
    text = '\n'.join('    "%s%s"' % (line.replace('\\', '\\\\').replace('"', '\\"').replace('\t', '\\t'), '\\n' if i < len(lines) - 1 else '')
                     for i, line in enumerate(lines))
    out.append('  { "%s",\n%s },' % (os.path.basename(path), text))
out += ['  { NULL, NULL },', '};', '']
with open(sys.argv[1], 'w', encoding='utf-8') as target:
    target.write('\n'.join(out))
