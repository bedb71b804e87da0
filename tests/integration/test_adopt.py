# SPDX-License-Identifier: Apache-2.0
"""A tree of bare repositories that was there before: adopted where it lies, moved to other nodes bit by bit, and back."""
import hashlib
import json
import os
import shutil
import subprocess
import threading

import cluster_test
import gitstead_test
from cluster_test import Cluster, Node, Traffic
from gitstead_test import Git, Server, TestCase, eventually

FOLDERS = ["alone.git", "group/a.git", "group/b.git", "group/sub/c", "other/d.git", "other/e.git"]


def old_tree(root, folders, scratch):
    """Bare repositories as stock git leaves them; folder -> commit of main."""
    git, tips = Git(), {}
    work = scratch()
    git("init", "-q", "-b", "main", cwd=work)
    for n, folder in enumerate(folders):
        with open(os.path.join(work, "file"), "w") as out:
            out.write("%s\n" % folder + os.urandom(2000).hex())
        git("add", ".", cwd=work)
        git("commit", "-q", "-m", folder, cwd=work)
        bare = os.path.join(root, folder)
        os.makedirs(os.path.dirname(bare), exist_ok=True)
        git("clone", "-q", "--bare", "--no-local", "--no-hardlinks", work, bare, cwd=work)
        git("config", "receive.denyDeletes", "true", cwd=bare)
        git("update-ref", "refs/heads/loose%d" % n, "HEAD", cwd=bare)
        tips[folder] = git("rev-parse", "HEAD", cwd=bare)
    return tips


class Router(cluster_test.Router):
    """One copy of each; `percent` and `prefixes` of the repositories have their place on the new nodes."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.canary = {"percent": 0}
        self.server_options.update({"care_interval": "1s", "move_grace": "1s"})

    def configuration(self):
        config = super().configuration()
        usual = config["storages"][0]
        config["storages"] = [dict(usual, name=node.name, url="tcp://%s:%d" % (node.host, node.nng_port)) for node in self.nodes]
        names = [node.name for node in self.nodes]
        config["virtual_storages"][0].update(
            storages=names, routing=dict({"plugin": "canary", "storages": names[1:]}, **self.canary))
        return config


class Canary(Cluster):
    def setUp(self):
        self.metadata = self.metadata_store()
        self.cluster_token = cluster_test.new_token()
        self.nodes = [Node(self.metadata, self.cluster_token, name) for name in ("old", "one", "two")]
        self.old = self.nodes[0]
        for node in self.nodes:
            self.addCleanup(node.clean)
        self.tips = old_tree(self.old.root, FOLDERS, self.scratch)
        self.old.storage_options["old_tree"] = "true"
        for node in self.nodes:
            node.start()
        self.router = Router(self.metadata, self.cluster_token, self.nodes, consistency="direct", copies=1, min_copies=1)
        self.addCleanup(self.router.clean)
        self.router.start()
        self.token = self.router.new_token("write")

    def places(self):
        found = self.router.call("Repository/List", {})["repositories"]
        return {one["repository"]["path"]: [replica["storage"] for replica in one["replicas"]] for one in found}

    def share(self, **canary):
        """The routing plugin's options, and everything where these want it."""
        self.router.canary = canary
        self.router.write_config()
        self.router.cli("reload")
        self.router.cli("cluster", "rebalance", "--apply", timeout=300)
        self.assertEqual(json.loads(self.router.cli("cluster", "rebalance", "--plan", "--json").stdout)["moves"], [])
        return self.places()

    def readable(self, folder):
        """By those who know the old tree alone."""
        return Git().run("log", "-1", cwd=self.scratch(), env={"GIT_DIR": os.path.join(self.old.root, folder)}).returncode == 0

    def test_there_and_back(self):
        listed = self.router.cli("repo", "adopt", "old", "--list").stdout.split()
        self.assertEqual(listed, sorted(FOLDERS))
        packs = {folder: os.stat(os.path.join(self.old.root, folder, "objects/pack")).st_ino for folder in FOLDERS}
        self.assertMentions(self.router.cli("repo", "adopt", "old", "group/a.git").stdout, "Adopted 'group/a.git'")
        self.assertMentions(self.router.cli("repo", "adopt", "old", "--all").stdout, "5 repositories adopted, 0 could not be")
        self.assertEqual(self.router.cli("repo", "adopt", "old", "--list").stdout, "")
        paths = [folder if folder.endswith(".git") else folder + ".git" for folder in FOLDERS]
        self.assertEqual(self.places(), {path: ["old"] for path in paths})
        git = Git(self.token)
        for folder, path in zip(FOLDERS, paths):
            # The same files, by their old name and by ours.
            self.assertEqual(os.stat(os.path.join(self.old.root, folder, "objects/pack")).st_ino, packs[folder])
            self.assertTrue(self.readable(folder))
            clone = self.scratch()
            git("clone", "-q", "%s/%s" % (self.router.url, path), clone, cwd=clone)
            self.assertEqual(git("rev-parse", "HEAD", cwd=clone), self.tips[folder])
        self.assertMentions(self.router.cli("cluster", "verify").stdout, "6 replicas are as recorded, 0 are not")

        # One by name, under pushes; then a share; then all; and back.
        traffic = [Traffic(self, self.router, path.removesuffix(".git"), self.token, "w%d" % n)
                   for n, path in enumerate(("group/a.git", "other/d.git"))]
        for one in traffic:
            one.start()
            one.until(lambda: len(one.times) >= 2, 60, "pushes")
        places = self.share(prefixes=["group/a.git"])
        self.assertNotEqual(places.pop("group/a.git"), ["old"])
        self.assertEqual(set(map(tuple, places.values())), {("old",)})
        eventually(lambda: not self.readable("group/a.git"), 60, "the old name being gone")
        some = [path for path, where in self.share(percent=50).items() if where != ["old"]]
        self.assertNotIn("old", [where[0] for where in self.share(percent=100).values()])
        again = [path for path, where in self.share(percent=50).items() if where != ["old"]]
        self.assertEqual(again, some)
        self.assertEqual(self.share(percent=0), {path: ["old"] for path in paths})
        for one in traffic:
            before = len(one.times)
            one.until(lambda: len(one.times) > before + 1, 60, "pushes afterwards")
            one.stop()
            self.assertEqual(one.failed, [])
        for folder, path in zip(FOLDERS, paths):
            info = self.router.info(path)
            Git().fsck(self.old.path(info["replica_path"]))
            refs = self.replica_refs(self.old, info)
            self.assertEqual(refs["refs/heads/main"], self.tips[folder])
            for one in traffic:
                if path in one.url:
                    self.assertEqual({name: refs[name] for name in one.acknowledged}, one.acknowledged)
            # Whoever knows the old name reads what was pushed meanwhile.
            self.assertTrue(self.readable(folder))
        print("# %d pushes went on, longest gap %.2f s" % (sum(len(one.times) for one in traffic),
                                                         max(one.longest_gap() for one in traffic)))


class Refused(TestCase):
    """What cannot be served stays as it was; what was begun and not ended goes back."""

    def setUp(self):
        self.server = Server(storage={"old_tree": "true"},
                             server={"maintenance_interval": "1s", "leftover_grace": "1s"})
        self.addCleanup(self.server.clean)
        self.git = Git()

    def bare(self, folder):
        return os.path.join(self.server.root, folder)

    def content(self, folder):
        found = {}
        for at, folders, files in os.walk(self.bare(folder)):
            for name in files + [one for one in folders if os.path.islink(os.path.join(at, one))]:
                path = os.path.join(at, name)
                if os.path.islink(path):
                    found[path] = os.readlink(path)
                else:
                    with open(path, "rb") as file:
                        found[path] = hashlib.sha256(file.read()).hexdigest()
        return found

    def adopt(self, *arguments):
        return self.server.cli("repo", "adopt", "default", *arguments, check=False)

    def adopt_until_killed(self, folder):
        """The command would try again when there is a server again, so it ends with this one."""
        command = subprocess.Popen([gitstead_test.PROGRAM, "repo", "adopt", "default", folder], cwd=self.server.folder,
                                   env=gitstead_test.clean_environment({"GITSTEAD_SERVER": "ipc://" + self.server.socket}),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            status = self.server.process.wait(60 * gitstead_test.SLOW)
        finally:
            command.kill()
            command.wait()
        self.assertEqual(status, -9)
        self.server.process = None

    def refused(self, folder, *words):
        before = self.content(folder)
        result = self.adopt(folder)
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertMentions(result.stderr, *words)
        self.assertEqual(self.content(folder), before)
        self.assertFalse(os.path.islink(self.bare(folder)))

    def write(self, path, text=""):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as out:
            out.write(text)

    def test_what_cannot_be_served(self):
        names = ["alternates", "shallow", "locked", "pushing", "link", "missing", "detached", "symbolic", "ours", "broken",
                 "index", "unreachable", "good"]
        tips = old_tree(self.server.root, names, self.scratch)
        self.git("init", "-q", "--bare", "--object-format=sha256", self.bare("sha256"), cwd=self.server.root)
        self.server.storage_options["old_tree"] = "false"
        self.server.write_config()
        refused = gitstead_test.run_program("serve", "--config", self.server.config)
        self.assertEqual(refused.returncode, 1)
        self.assertMentions(refused.stderr, "has files but no gitstead-storage marker", "old_tree")
        self.server.storage_options["old_tree"] = "true"
        self.server.start()

        self.write(self.bare("alternates/objects/info/alternates"), self.bare("index/objects") + "\n")
        self.refused("alternates", "borrows objects")
        self.write(self.bare("shallow/shallow"), tips["shallow"] + "\n")
        self.refused("shallow", "shallow clone")
        self.write(self.bare("locked/refs/heads/main.lock"))
        self.refused("locked", "main.lock", "git process is at work")
        self.write(self.bare("pushing/objects/incoming-x/pack/p"))
        self.refused("pushing", "incoming-x", "git process is at work")
        os.symlink(self.bare("good/objects/pack"), self.bare("link/objects/aa"))
        self.refused("link", "neither a file nor a folder")
        for name in os.listdir(self.bare("missing/objects/pack")):
            os.chmod(self.bare("missing/objects/pack/" + name), 0o644)
        blob = self.git("rev-parse", "HEAD:file", cwd=self.bare("missing"))
        pack = [self.bare("missing/objects/pack/" + one) for one in os.listdir(self.bare("missing/objects/pack"))]
        moved = self.scratch()
        for one in pack:
            shutil.move(one, moved)
        for one in os.listdir(moved):
            if one.endswith(".pack"):
                self.git.run("unpack-objects", "-q", cwd=self.bare("missing"), input=open(os.path.join(moved, one), "rb").read())
        os.unlink(self.bare("missing/objects/%s/%s" % (blob[:2], blob[2:])))
        self.refused("missing", "not whole", blob)
        self.git("update-ref", "--no-deref", "HEAD", tips["detached"], cwd=self.bare("detached"))
        self.refused("detached", "HEAD names a commit")
        self.git("symbolic-ref", "refs/heads/alias", "refs/heads/main", cwd=self.bare("symbolic"))
        self.refused("symbolic", "symbolic")
        self.git("update-ref", "refs/gitstead/x", tips["ours"], cwd=self.bare("ours"))
        self.refused("ours", "refs/gitstead/")
        self.write(self.bare("broken/refs/heads/broken"), "00\n")
        self.refused("broken", "broken")
        self.write(self.bare("index/index"))
        self.refused("index", "working tree")
        self.refused("sha256", "extensions")
        # An unreachable commit whose tree is gone: a push of a ref to it would be believed.
        blob = self.git("rev-parse", "HEAD:file", cwd=self.bare("unreachable"))
        tree = self.git("mktree", cwd=self.bare("unreachable"), input=("100644 blob %s\tother\n" % blob).encode())
        commit = self.git("commit-tree", tree, "-m", "lost", cwd=self.bare("unreachable"))
        os.unlink(self.bare("unreachable/objects/%s/%s" % (tree[:2], tree[2:])))
        self.refused("unreachable", "not whole", "git prune")
        self.git("prune", "--expire=now", cwd=self.bare("unreachable"))
        self.assertEqual(self.adopt("unreachable").returncode, 0)

        for folder, words in (("no/such", ("there is no folder",)), ("../x", ("..",)), ("@r/00", ("the storage made itself",)),
                              ("gitstead-tmp", ("uses itself",)), ("/etc", ("relative",)), ("good/objects", ("no bare repository",))):
            result = self.adopt(folder, "some/path")
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertMentions(result.stderr, *words)
        self.server.create("taken")
        result = self.adopt("good", "taken")
        self.assertMentions(result.stderr, "taken.git", "exists")
        self.assertFalse(os.path.islink(self.bare("good")))
        for arguments in ((), ("--all", "--list", "good"), ("good", "--all"), ("good", "a", "--prefix", "b/")):
            self.assertEqual(self.adopt(*arguments).returncode, 2, arguments)
        self.assertMentions(self.server.cli("repo", "adopt", "nowhere", "good", check=False).stderr, "no storage 'nowhere'")
        # One that fails is told, and the others go on.
        result = self.adopt("--all", "--prefix", "legacy/")
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stdout, "Adopted 'legacy/good.git'", "1 repositories adopted, 12 could not be")
        again = self.adopt("good", "again")
        self.assertMentions(again.stderr, "symbolic link", "adopted already")
        self.assertEqual(self.git("rev-parse", "main", cwd=self.bare("good")), tips["good"])
        # Deleted, it goes to the trash like any other, not back.
        self.server.cli("repo", "delete", "legacy/good", "--yes")
        self.assertFalse(os.path.exists(self.bare("good")))

    def test_eight_at_once_adopt_one(self):
        tips = old_tree(self.server.root, ["one", "other"], self.scratch)
        self.server.start()
        results = []
        threads = [threading.Thread(target=lambda n=n: results.append(self.adopt("one", "path%d" % n))) for n in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        won = [one.stdout.split("'")[1] for one in results if one.returncode == 0]
        self.assertEqual(len(won), 1, [one.stderr for one in results])
        self.assertEqual(self.server.cli("repo", "list", "-q").stdout.split(), won)
        git = Git(self.server.new_token("read"))
        self.assertEqual(git("ls-remote", "%s/%s" % (self.server.url, won[0]), "refs/heads/main", cwd=self.server.folder).split()[0], tips["one"])
        self.assertEqual(self.git("rev-parse", "main", cwd=self.bare("one")), tips["one"])
        self.git.fsck(os.path.realpath(self.bare("one")))
        # And two who want one path for two folders.
        results.clear()
        threads = [threading.Thread(target=lambda: results.append(self.adopt("other", "same"))) for _ in range(2)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        self.assertEqual(sorted(one.returncode for one in results), [0, 1], [one.stderr for one in results])

    def test_killed_before_it_is_recorded(self):
        tips = old_tree(self.server.root, ["a/b.git"], self.scratch)
        before = self.content("a/b.git")
        self.server.server_options["crash_at"] = "create.made.1"
        self.server.start()
        self.adopt_until_killed("a/b.git")
        self.assertTrue(os.path.islink(self.bare("a/b.git")))
        self.assertEqual(self.git("rev-parse", "main", cwd=self.bare("a/b.git")), tips["a/b.git"])
        del self.server.server_options["crash_at"]
        self.server.start()
        # Nobody's: housekeeping puts it back instead of into the trash.
        eventually(lambda: not os.path.islink(self.bare("a/b.git")), 60, "its being put back")
        eventually(lambda: not os.path.exists(self.bare("a/b.git/gitstead")), 60, "its marks being gone")
        self.assertEqual(self.content("a/b.git"), before)
        self.assertEqual(os.listdir(os.path.join(self.server.root, "gitstead-trash")), [])
        self.assertEqual(self.adopt("a/b.git").returncode, 0)
        clone = self.scratch()
        Git(self.server.new_token("read"))("clone", "-q", self.server.url + "/a/b.git", clone, cwd=clone)
        self.assertEqual(self.git("rev-parse", "HEAD", cwd=clone), tips["a/b.git"])

    def test_killed_at_each_mark(self):
        """Whatever is there of the marks, the old configuration comes back, and nothing goes into the trash."""
        tips = old_tree(self.server.root, ["a/b.git", "a/detached.git"], self.scratch)
        # All of it is read before its HEAD is found to be none that can be served: it goes back at once.
        self.git("update-ref", "--no-deref", "HEAD", tips["a/detached.git"], cwd=self.bare("a/detached.git"))
        for point, folder in (("adopt.recorded", "a/b.git"), ("adopt.marked", "a/b.git"),
                              ("adopt.config-back", "a/detached.git")):
            before = self.content(folder)
            self.server.start(crash_at=point)
            self.adopt_until_killed(folder)
            self.assertTrue(os.path.exists(self.bare(folder + "/gitstead/replica")), point)
            self.server.start()
            # Which goes last.
            eventually(lambda: not os.path.exists(self.bare(folder + "/gitstead")), 60, "its marks being gone after " + point)
            self.assertEqual(self.content(folder), before, point)
            self.assertFalse(os.path.islink(self.bare(folder)))
            self.assertEqual(os.listdir(os.path.join(self.server.root, "gitstead-trash")), [])
            self.server.stop()
        self.server.start()
        self.assertEqual(self.adopt("a/b.git").returncode, 0)
        self.assertEqual(self.git("rev-parse", "main", cwd=self.bare("a/b.git")), tips["a/b.git"])

    def test_who_administers_a_prefix_takes_no_folder(self):
        old_tree(self.server.root, ["finance/secret.git"], self.scratch)
        self.server.start()
        before = self.content("finance/secret.git")
        for prefix, path, code in (("team/", "team/x", 1), ("finance/", "finance/secret", 1), ("", "team/x", 0)):
            env = {"GITSTEAD_TOKEN": self.server.new_token("admin", prefix),
                   "GITSTEAD_SERVER": "tcp://127.0.0.1:%d" % self.server.nng_port}
            result = self.server.cli("repo", "adopt", "default", "finance/secret.git", path, check=False, env=env)
            self.assertEqual(result.returncode, code, result.stdout + result.stderr)
            if code != 0:
                self.assertMentions(result.stderr, prefix, "not on the server")
                self.assertEqual(self.content("finance/secret.git"), before)
                self.assertEqual(self.server.cli("repo", "list", "-q").stdout, "")
        self.assertTrue(os.path.islink(self.bare("finance/secret.git")))

    def test_others_borrow_its_objects(self):
        old_tree(self.server.root, ["base.git", "other.git"], self.scratch)
        for borrower in ("forks/fork.git", "work"):
            bare = ["--bare"] if borrower != "work" else []
            self.git("clone", "-q", "--shared", *bare, self.bare("base.git"), self.bare(borrower), cwd=self.server.root)
        alternates = self.bare("forks/fork.git/objects/info/alternates")
        self.write(alternates, "# whose\n\"../../../base.git\\057objects\"\n")
        self.git.fsck(self.bare("forks/fork.git"))
        self.server.start()
        for _ in range(2):
            # Each is named until it borrows no more, and the others then.
            result = self.adopt("base.git")
            self.assertEqual(result.returncode, 1, result.stdout)
            named = "forks/fork.git" if "forks/fork.git borrows" in result.stderr else "work/.git"
            self.refused("base.git", named + " borrows its objects", "git repack -a -d")
            self.git("repack", "-a", "-d", "-q", cwd=self.bare(named))
            os.unlink(self.bare(named + "/objects/info/alternates"))
        self.assertEqual(self.adopt("other.git").returncode, 0)
        self.assertEqual(self.adopt("base.git").returncode, 0)
        self.assertEqual(self.adopt("forks/fork.git").returncode, 0)

    def test_planted_in_the_servers_own_folder(self):
        names = ["top", "inner", "dangling", "file", "filled", "empty"]
        old_tree(self.server.root, names, self.scratch)
        target = self.scratch()
        self.write(os.path.join(target, "mine"), "mine\n")
        os.symlink(target, self.bare("top/gitstead"))
        os.symlink(os.path.join(target, "nothing"), self.bare("dangling/gitstead"))
        self.write(self.bare("file/gitstead"))
        os.mkdir(self.bare("inner/gitstead"))
        os.symlink(target, self.bare("inner/gitstead/quarantine"))
        self.write(self.bare("filled/gitstead/journal/planted"))
        os.makedirs(self.bare("empty/gitstead/quarantine"))
        self.server.start()
        for folder, words in (("top", "no folder"), ("dangling", "no folder"), ("file", "no folder"),
                              ("inner", "gitstead/quarantine"), ("filled", "gitstead/journal")):
            self.refused(folder, words, "nothing was changed")
        self.assertEqual(os.listdir(target), ["mine"])
        self.assertEqual(self.adopt("empty").returncode, 0)


if __name__ == "__main__":
    gitstead_test.main()
