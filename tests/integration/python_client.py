#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs api/examples/python/gitstead_client.py in a virtual environment with a stock nng binding.

    python_client.py URL ARGUMENT…    as the example takes them

The environment is made once, in the folder GITSTEAD_TEST_VENV (default: a folder of the user's in TMPDIR), with pynng and
protobuf from the package index. Exits with 77 and a reason where they cannot be had.
"""
import os
import subprocess
import sys
import tempfile

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXAMPLE = os.path.join(SOURCE, "api/examples/python/gitstead_client.py")
PACKAGES = ["pynng", "protobuf"]
IMPORTS = "import pynng, google.protobuf.text_format"


def skip(reason):
    print("the Python client was not tried: " + reason, file=sys.stderr)
    sys.exit(77)


def works(python):
    return subprocess.run([python, "-c", IMPORTS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def prepare():
    """The interpreter to run the example with."""
    if works(sys.executable):
        return sys.executable
    folder = os.environ.get("GITSTEAD_TEST_VENV",
                            os.path.join(tempfile.gettempdir(), "gitstead-test-venv-%d" % os.getuid()))
    python = os.path.join(folder, "bin/python3")
    if os.path.exists(python) and works(python):
        return python
    made = subprocess.run([sys.executable, "-m", "venv", folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode != 0:
        skip("no virtual environment can be made here: " + (made.stdout.strip().splitlines() or ["?"])[-1])
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
    installed = subprocess.run(command + PACKAGES, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if installed.returncode != 0 or not works(python):
        skip("pip cannot install %s: %s" % (" and ".join(PACKAGES), (installed.stdout.strip().splitlines() or ["?"])[-1]))
    return python


if __name__ == "__main__":
    interpreter = prepare()
    os.execv(interpreter, [interpreter, EXAMPLE] + sys.argv[1:])
