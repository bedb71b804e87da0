# SPDX-License-Identifier: Apache-2.0
"""What the tests of whole histories share: calls, and comparing a repository with the one that it came from."""
import base64
import json
import os

from git_histories import git, history
from gitstead_test import Git, ServerTestCase, refs_digest


def text(value):
    """A bytes field as text."""
    return base64.b64decode(value["base64"]).decode("utf-8", "surrogateescape") if isinstance(value, dict) else value


def table(reply):
    """{name: outcome} of a transfer's reply."""
    return {text(ref["name"]): ref["outcome"].replace("TRANSFER_", "") for ref in reply["refs"]}


class TransferCase(ServerTestCase):
    COUNT = 0

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin = cls.server.new_token("admin")

    def setUp(self):
        super().setUp()
        self.work = self.scratch()
        TransferCase.COUNT += 1
        self.name = "t%d" % TransferCase.COUNT

    def repository(self, name=None):
        return {"repository": {"path": name or self.name}}

    def stream(self, method, request, data, check=True):
        result = self.server.cli("call", method, json.dumps(request), input=data, text=False, check=False)
        if check:
            self.assertEqual(result.returncode, 0, result.stderr.decode())
            return json.loads(result.stdout)
        self.assertEqual(result.returncode, 1, result.stdout)
        return result.stderr.decode()

    def attempt(self, method, request):
        """The code of the outcome, and the reply or the message."""
        reply = self.server.http("POST", "/api/v1/" + method, json.dumps(request), {
            "Authorization": "Bearer " + self.admin, "Content-Type": "application/json"}, timeout=120)
        found = json.loads(reply.body)
        return ("OK", found) if reply.status == 200 else (found["code"], found["message"])

    def refused(self, code, method, request, *mentions):
        found, message = self.attempt(method, request)
        self.assertEqual(found, code, "%s %s: %s" % (method, request, message))
        self.assertMentions(message, *mentions)
        return message

    def push(self, name, folder, *specs):
        """A repository of the server with what is in @folder."""
        url = self.server.create(name)
        self.git("push", "-q", url, *(specs or ("+refs/*:refs/*",)), cwd=folder)
        return url

    def refs(self, folder):
        return dict(reversed(line.split(" ", 1)) for line in
                    Git()("for-each-ref", "--format=%(objectname) %(refname)", cwd=folder).splitlines())

    def same(self, name, folder, head=None):
        """The repository has @folder's refs and objects, and its record says so."""
        replica = self.server.replica(name)
        self.assertEqual(self.refs(replica), self.refs(folder))
        if head:
            self.assertEqual(Git()("symbolic-ref", "HEAD", cwd=replica), head)
        Git()("fsck", "--full", "--connectivity-only", cwd=replica)
        self.assertEqual(git(replica, "rev-list", "--all", "--objects", "--no-object-names"),
                         git(folder, "rev-list", "--all", "--objects", "--no-object-names"))
        info = self.server.info(name)
        self.assertEqual(info["refs_digest"], refs_digest(Git(), replica))
        return info

    def grow(self, folder, branch="main", name="file"):
        """One more commit on a branch of a bare repository."""
        blob = git(folder, "hash-object", "-w", "--stdin", input=os.urandom(40).hex().encode()).decode().strip()
        tree = git(folder, "mktree", input=("100644 blob %s\t%s\n" % (blob, name)).encode()).decode().strip()
        parent = git(folder, "rev-parse", "--verify", "-q", branch).decode().strip()
        oid = git(folder, "commit-tree", "-p", parent, "-m", "More", tree).decode().strip()
        git(folder, "update-ref", "refs/heads/" + branch, oid)
        return oid

    def copy(self, name):
        folder = os.path.join(self.work, "%s%d" % (name, len(os.listdir(self.work))))
        Git()("clone", "-q", "--mirror", history(name), folder)
        return folder
