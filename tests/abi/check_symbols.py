# SPDX-License-Identifier: Apache-2.0
"""Every plugin defines one dynamic symbol, gs_plugin_query: nothing of it can clash with another or be linked against."""
import subprocess
import sys

nm, *plugins = sys.argv[1:]
bad = 0
for plugin in plugins:
    lines = subprocess.run([nm, '-D', '--defined-only', plugin], capture_output=True, text=True, check=True).stdout.splitlines()
    names = sorted(line.split()[-1] for line in lines)
    if names != ['gs_plugin_query']:
        bad += 1
        print(f'{plugin} shows {", ".join(names) or "nothing"}; only gs_plugin_query may be seen. Is something neither static nor '
              f'hidden?')
print(f'{len(plugins)} plugins looked at, {bad} show too much or too little')
sys.exit(1 if bad or not plugins else 0)
