# SPDX-License-Identifier: Apache-2.0
"""libgitstead shows the functions of its header and nothing else: check_client.py NM LIBRARY HEADER

What it shows is its ABI, so the list stands in client-symbols.txt, and grows only: a name that goes breaks programs.
"""
import os
import re
import subprocess
import sys

nm, library, header = sys.argv[1:]
with open(header, encoding="utf-8") as file:
    text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
text = text[text.index("#pragma GCC visibility push"):text.index("#pragma GCC visibility pop")]
declared = set(re.findall(r"\b(gs_\w+) \((?!\*)", text))
lines = subprocess.run([nm, "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout.splitlines()
shown = {line.split()[-1] for line in lines}
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "client-symbols.txt"), encoding="utf-8") as file:
    kept = set(file.read().split())
wrong = []
for names, what in ((declared - shown, "in the header but not in the library"), (shown - declared, "in the library but not in the header"),
                    (kept - shown, "gone from the library: programs that use it would no longer start"),
                    (shown - kept, "new: add it to tests/abi/client-symbols.txt")):
    wrong += ["%s is %s" % (name, what) for name in sorted(names)]
print("\n".join(wrong) or "%d functions" % len(shown))
sys.exit(1 if wrong or not shown else 0)
