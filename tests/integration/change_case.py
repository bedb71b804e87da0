# SPDX-License-Identifier: Apache-2.0
"""What the tests of ChangeService share: calls on a repository of their own, and stock git beside it."""
import base64
import json
import os
import shutil
import tempfile

import gitstead_test
from gitstead_test import ServerTestCase


WHO = {"name": "Ann Author", "email": "ann@example.org", "seconds": 1600000000, "zone": "+0200"}
OTHER = {"name": "Otto Other", "email": "otto@example.org", "seconds": 1600000100, "zone": "-0330"}


def raw(data):
    """Bytes for JSON."""
    return {"base64": base64.b64encode(data).decode()}


def action(kind, path, **rest):
    found = {"kind": "FILE_" + kind, "path": path if isinstance(path, str) else raw(path)}
    found.update({name: raw(value) if isinstance(value, bytes) else value for name, value in rest.items()})
    return found


class ChangeTestCase(ServerTestCase):
    COUNT = 0

    def setUp(self):
        super().setUp()
        type(self).COUNT += 1
        self.path = "change%s%d" % (type(self).__name__.lower(), self.COUNT)
        self.url = self.server.create(self.path)
        self.repository = {"path": self.path}
        self.folder = self.server.replica(self.path)
        self.work = tempfile.mkdtemp(prefix="gitstead-change-")
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        self.git = gitstead_test.Git(self.server.bearer()["Authorization"].split()[1])

    # ----------------------------------------------------------------------------------- calling

    def call(self, method, **request):
        return self.server.call("Change/" + method, dict(request, repository=self.repository))

    def refused(self, method, code, *words, **request):
        """The call fails with @code, its message holds @words, and nothing is left behind."""
        before = self.server.files()
        found, text = self.attempt(method, request)
        self.assertEqual(found, code, "%s: %s" % (method, text))
        for word in words:
            self.assertIn(word, text)
        self.server.assert_settled(before)
        return text

    def attempt(self, method, request):
        """The code of the outcome, and the reply or the message."""
        body = json.dumps(dict(request, repository=self.repository))
        reply = self.server.http("POST", "/api/v1/Change/" + method, body,
                                 dict(self.server.bearer(), **{"Content-Type": "application/json"}), timeout=120)
        found = json.loads(reply.body)
        return ("OK", found) if reply.status == 200 else (found["code"], found["message"])

    def write(self, branch="main", **rest):
        return dict({"branch": branch, "committer": WHO}, **rest)

    def commit(self, *actions, branch="main", message="Change", **rest):
        options = {name: rest.pop(name) for name in ("allow_empty", "orphan") if name in rest}
        return self.call("CommitFiles", write=self.write(branch, **rest), message=message, actions=list(actions), **options)

    # ------------------------------------------------------------------------------------ stock git

    def env(self, author=WHO, committer=None):
        committer = committer or author
        return {"GIT_AUTHOR_NAME": author["name"], "GIT_AUTHOR_EMAIL": author["email"],
                "GIT_AUTHOR_DATE": "%d %s" % (author["seconds"], author["zone"]),
                "GIT_COMMITTER_NAME": committer["name"], "GIT_COMMITTER_EMAIL": committer["email"],
                "GIT_COMMITTER_DATE": "%d %s" % (committer["seconds"], committer["zone"])}

    def clone(self, name="clone"):
        folder = os.path.join(self.work, name)
        self.git("clone", "-q", "-c", "core.protectNTFS=false", self.url, folder)
        return folder

    def push(self, folder, *specs):
        self.git("push", "-q", self.url, *specs, cwd=folder)

    def tip(self, ref="refs/heads/main"):
        return self.git("rev-parse", ref, cwd=self.folder)

    def settled(self):
        """Nothing is left of any write, and stock git finds the repository whole."""
        self.server.assert_settled()
        self.git.fsck(self.folder)
