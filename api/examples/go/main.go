// SPDX-License-Identifier: Apache-2.0

// A Gitstead client in Go on the standard library alone, written from docs/wire-protocol.md and api/proto.
//
//	go run . URL tour GROUP/PROJECT     makes the repository and shows the ten most used calls on it
//
// URL is tcp://HOST:PORT or ipc:///PATH. GITSTEAD_TOKEN holds the token; over tcp it signs the requests and never travels.
// GITSTEAD_PROTO names the folder with gitstead/v1/*.proto (default: ../../proto).
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
)

// tour makes the calls; the first failure ends it.
type tour struct {
	client     *Client
	repository Message
	err        error
}

func (t *tour) call(name string, request Message) Message {
	if t.err != nil {
		return Message{}
	}
	request["repository"] = t.repository
	reply, err := t.client.Call(name, request)
	if err != nil {
		t.err = fmt.Errorf("%s: %w", name, err)
		return Message{}
	}
	return reply
}

// say prints one line; nothing after a failure.
func (t *tour) say(format string, values ...any) {
	if t.err == nil {
		fmt.Printf(format+"\n", values...)
	}
}

func list(value any) []any {
	found, _ := value.([]any)
	return found
}

func inner(value any, name string) any {
	message, _ := value.(Message)
	return message[name]
}

func put(path, content string) any {
	return Message{"kind": "FILE_PUT", "path": path, "content": content}
}

// write says where, by whom and when: the same request on the same state gives the same ids everywhere.
func write(branch string, seconds int64) Message {
	return Message{"branch": branch, "committer": Message{
		"name": "Ann Author", "email": "ann@example.org", "seconds": seconds, "zone": "+0200"}}
}

func (t *tour) run() {
	made := t.call("Repository/Create", Message{"default_branch": "main"})
	t.say("created, objects %v", inner(made["info"], "object_format"))

	first := t.call("Change/CommitFiles", Message{"write": write("main", 1700000000), "message": "Begin",
		"actions": []any{put("README.md", "# Tour\n"), put("src/main.c", "int main (void) { return 0; }\n")}})
	t.say("committed %v", first["new_oid"])
	t.call("Change/CreateBranch", Message{"branch": "topic", "revision": "main"})
	second := t.call("Change/CommitFiles", Message{"write": write("topic", 1700000100), "message": "Say more",
		"actions": []any{put("README.md", "# Tour\n\nTen calls.\n")}})
	t.say("committed %v", second["new_oid"])

	for _, ref := range list(t.call("Ref/List", Message{"head": true, "page": Message{"limit": 100}})["refs"]) {
		t.say("ref %v %v", inner(ref, "oid"), inner(ref, "name"))
	}
	for _, entry := range list(t.call("Commit/Get", Message{"revisions": []any{"topic"}})["entries"]) {
		commit := inner(entry, "commit")
		t.say("commit %v by %v: %q", inner(commit, "oid"), inner(inner(commit, "author"), "name"), inner(commit, "message"))
	}
	for _, commit := range list(t.call("History/List", Message{"range": Message{"include": []any{"topic"}}})["commits"]) {
		t.say("history %v", inner(commit, "oid"))
	}
	for _, entry := range list(t.call("Commit/TreeEntries", Message{"revision": "topic", "recursive": true})["entries"]) {
		t.say("entry %06o %v %v", inner(entry, "mode"), inner(entry, "type"), inner(entry, "path"))
	}
	blob := t.call("Blob/Get", Message{"revision": "topic:README.md"})["blob"]
	t.say("blob %v bytes: %q", inner(blob, "size"), inner(blob, "data"))
	for _, file := range list(t.call("Diff/Parsed", Message{"left": "main", "right": "topic"})["files"]) {
		t.say("diff %v +%v -%v", inner(inner(file, "path"), "new_path"), inner(file, "additions"), inner(file, "deletions"))
	}
	merged := t.call("Change/Merge", Message{"write": write("main", 1700000200), "source": "topic", "message": "Merge topic"})
	t.say("merged %v %v", merged["outcome"], merged["new_oid"])
	t.archive()
}

// archive takes bulk bytes: they come on a connection of their own.
func (t *tour) archive() {
	var archive bytes.Buffer
	if t.err != nil {
		return
	}
	_, err := t.client.CallStream("Repository/Archive", Message{"repository": t.repository, "revision": "main",
		"format": "ARCHIVE_TAR", "prefix": "tour/"}, nil, &archive)
	if err != nil {
		t.err = fmt.Errorf("Repository/Archive: %w", err)
		return
	}
	t.say("archive %x", sha256.Sum256(archive.Bytes()))

	// A refusal is typed.
	_, err = t.client.Call("Commit/Get", Message{"repository": t.repository, "revisions": []any{"nowhere"}})
	var refused *Error
	if !errors.As(err, &refused) {
		t.err = fmt.Errorf("a revision that is not there: %v", err)
		return
	}
	for _, entry := range refused.Details {
		t.say("refused %s %v", refused.Code, inner(entry, "field"))
	}
}

func main() {
	if len(os.Args) != 4 || os.Args[2] != "tour" {
		fmt.Fprintln(os.Stderr, strings.TrimSpace("usage: client URL tour GROUP/PROJECT"))
		os.Exit(2)
	}
	folder := os.Getenv("GITSTEAD_PROTO")
	if folder == "" {
		folder = "../../proto"
	}
	schema, err := ReadSchema(folder)
	var client *Client
	if err == nil {
		client, err = Dial(os.Args[1], os.Getenv("GITSTEAD_TOKEN"), schema)
	}
	if err == nil {
		defer client.Close()
		t := &tour{client: client, repository: Message{"path": os.Args[3]}}
		t.run()
		err = t.err
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}
