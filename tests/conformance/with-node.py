# SPDX-License-Identifier: Apache-2.0
"""Runs a command beside a node: with-node.py GITSTEAD PLUGINS STORAGE-PLUGIN COMMAND…, where {url} is where the node
listens, {socket} the path of that socket, and {token} its cluster token. The node exports one storage, "remote", which is what
the runner calls its instance. git-late is a storage of git that is slow to say that it has staged a push."""
import base64
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time

SERVE = """
server: {{log_level: warning, cluster_token: "{token}", exports: [remote]}}
metadata: {{plugin: sqlite, path: {folder}/metadata.db}}
access: {{plugin: token}}
storages:
  - {{name: remote, plugin: {plugin}{options}}}
transports:
  - {{plugin: nng, listen: ["{url}"]}}
"""


def main():
    program, plugins, plugin, *command = sys.argv[1:]
    folder = tempfile.mkdtemp(prefix="gitstead-node-")
    url = "ipc://%s/s" % folder
    token = "gs_%s_%s" % (os.urandom(6).hex(), base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("="))
    config = os.path.join(folder, "node.yaml")
    os.mkdir(os.path.join(folder, "store"))
    options = ", path: %s/store, lock_wait: 200ms" % folder if plugin != "memory" else ""
    if plugin == "git-late":
        plugin = "git"
        options += ", layers: [{plugin: delay, slots: [stage_push], when: after, time: 200ms}]"
    with open(config, "w") as file:
        file.write(SERVE.format(token=token, folder=folder, plugin=plugin, options=options, url=url))
    os.chmod(config, 0o600)
    env = dict(os.environ, GITSTEAD_PLUGIN_PATH=plugins)
    node = subprocess.Popen([program, "serve", "--config", config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            env=env)
    try:
        deadline = time.monotonic() + 60
        while not os.path.exists(os.path.join(folder, "s")):
            if node.poll() is not None or time.monotonic() > deadline:
                print("Bail out! the node did not start")
                return 1
            select.select([], [], [], 0.02)
        return subprocess.run([part.replace("{url}", url).replace("{socket}", os.path.join(folder, "s")).replace("{token}", token) for part in command]).returncode
    finally:
        node.terminate()
        if node.wait(60) != 0:
            print("# the node ended with status %d" % node.returncode)
        shutil.rmtree(folder, ignore_errors=True)


sys.exit(main())
