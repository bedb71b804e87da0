#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Gitstead client in Python, on a stock nng binding: written from docs/wire-protocol.md and api/proto alone.

    pip install pynng protobuf
    gitstead_client.py URL refs GROUP/PROJECT              lists the refs
    gitstead_client.py URL read GROUP/PROJECT REVISION     writes an object's bytes to standard output
    gitstead_client.py URL call METHOD [TEXT]              any method; the request in protobuf's text form
    gitstead_client.py URL tour GROUP/PROJECT              makes the repository and shows the ten most used calls on it

URL is tcp://HOST:PORT or ipc:///PATH. GITSTEAD_TOKEN holds the token; over tcp it signs the requests and never travels.
GITSTEAD_PROTO names the folder with gitstead/v1/*.proto, when it is not found beside this file. protoc must be there.
"""
import hashlib
import hmac
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

import google.protobuf.text_format
import pynng
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

HERE = os.path.dirname(os.path.abspath(__file__))
CODES = ("OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED BUSY "
         "FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED").split()
RETRY_SAME = 1
DATA, END, TRAILER, RESET, PING = 1, 2, 3, 4, 5  # chunks of a stream
CHUNK_MAX = 256 * 1024


class Error(Exception):
    """What the server answered, or that nobody did."""

    def __init__(self, code, message, retry=0, retry_after=0.0, details=()):
        super().__init__("%s: %s" % (CODES[code] if code < len(CODES) else code, message))
        self.code, self.retry, self.retry_after = code, retry, retry_after
        self.details = details  # of gitstead.v1.ErrorDetail


class Api:
    """The messages and methods, from the .proto files: names, numbers and types all come from there."""

    def __init__(self, folder):
        with tempfile.NamedTemporaryFile(suffix=".bin") as out:
            names = sorted("gitstead/v1/" + name for name in os.listdir(os.path.join(folder, "gitstead/v1"))
                           if name.endswith(".proto"))
            subprocess.run(["protoc", "-I", folder, "-I", "/usr/include", "--include_imports",
                            "--descriptor_set_out", out.name] + names, check=True, stderr=subprocess.DEVNULL)
            files = descriptor_pb2.FileDescriptorSet.FromString(out.read())
        self.pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self.pool.Add(file) if hasattr(self.pool, "Add") else self.pool.AddSerializedFile(file.SerializeToString())
        rule = self.type("google.protobuf.MethodOptions"), self.pool.FindExtensionByName("gitstead.v1.rule")
        self.methods = {}
        for file in files.file:
            for service in file.service:
                for method in service.method:
                    options = rule[0].FromString(method.options.SerializeToString())
                    name = "%s/%s" % (service.name.removesuffix("Service"), method.name)
                    self.methods[name] = (options.Extensions[rule[1]].number, self.type(method.input_type[1:]),
                                          self.type(method.output_type[1:]))

    def type(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))


class Client:
    def __init__(self, url, token=None, api=None, timeout=30.0):
        self.api = api or Api(find_proto())
        self.url, self.token, self.timeout = url, token, timeout
        # Resending is off: a resent request would be the same bytes, and a signed one is refused the second time.
        self.socket = pynng.Req0(resend_time=-1, recv_timeout=int(timeout * 1000), send_timeout=int(timeout * 1000),
                                 recv_max_size=64 << 20)
        self.socket.dial(url, block=True)

    def close(self):
        self.socket.close()

    def call(self, name, request=None, **fields):
        """Makes one call; repeats it under the same call id as long as the server says so and there is time."""
        number, request_type, reply_type = self.api.methods[name]
        request = request or request_type(**fields)
        call_id, deadline, attempt = os.urandom(16), time.monotonic() + self.timeout, 0
        while True:
            try:
                return reply_type.FromString(self.try_once(number, request.SerializeToString(), call_id, attempt, deadline))
            except Error as error:
                pause = max(error.retry_after, min(0.05 * 2 ** attempt, 2.0))
                if error.retry != RETRY_SAME or attempt >= 9 or time.monotonic() + pause >= deadline:
                    raise
                time.sleep(pause)
                attempt += 1

    def stream(self, name, request=None, data=b"", **fields):
        """A call with bulk bytes, all of them in memory: its reply, and the bytes that came."""
        number, request_type, reply_type = self.api.methods[name]
        request, deadline = request or request_type(**fields), time.monotonic() + self.timeout
        ticket = self.api.type("gitstead.v1.StreamTicket").FromString(
            self.try_once(number, request.SerializeToString(), os.urandom(16), 0, deadline))
        with self.open_stream(ticket) as stream:
            for at in range(0, len(data), CHUNK_MAX):
                send_chunk(stream, DATA, data[at:at + CHUNK_MAX])
            send_chunk(stream, END)
            found = []
            while True:
                kind, chunk = receive_chunk(stream)
                if kind == DATA:
                    found.append(chunk)
                elif kind == TRAILER:
                    break
                elif kind == RESET:
                    raise Error(2, "the server broke the stream off")
            trailer = self.api.type("gitstead.v1.StreamTrailer").FromString(chunk)
        if trailer.status != 0:
            raise Error(trailer.status, trailer.header.message, trailer.header.retry, trailer.header.retry_after_ms / 1000,
                        trailer.header.details.entries)
        return reply_type.FromString(trailer.payload), b"".join(found)

    def open_stream(self, ticket):
        scheme, _, address = ticket.endpoint.partition("://")
        if scheme == "ipc":
            stream = socket.socket(socket.AF_UNIX)
            where = address
        else:
            stream = socket.socket()
            host, _, port = address.rpartition(":")
            where = (host or self.url.partition("://")[2].rpartition(":")[0], int(port))
        stream.settimeout(self.timeout)
        stream.connect(where)
        stream.sendall(b"GSD1" + bytes(4) + ticket.ticket)
        answer = exactly(stream, 8)
        if answer != b"GSD1" + bytes(4):
            raise Error(struct.unpack(">I", answer[4:])[0], "the server does not take the ticket")
        return stream

    def try_once(self, number, payload, call_id, attempt, deadline):
        header = self.api.type("gitstead.v1.RequestHeader")(
            call_id=call_id, attempt=attempt, agent="gitstead-python-example",
            timeout_ms=max(1, int((deadline - time.monotonic()) * 1000)))
        if self.token and self.url.startswith("tcp://"):
            self.sign(header, number, payload)
        elif self.token:
            header.auth.bearer = self.token
        head = header.SerializeToString()
        try:
            self.socket.send(struct.pack(">2sBBIII", b"GS", 1, 0, number, len(head), len(payload)) + head + payload)
            reply = self.socket.recv()
        except pynng.exceptions.NNGException as why:
            # Whether it was done is not known; the same call id makes a repeat harmless.
            raise Error(2, "no reply from %s: %s" % (self.url, why), RETRY_SAME)
        return self.read_reply(reply)

    def read_reply(self, reply):
        magic, major, flags, status, head_len, payload_len = struct.unpack(">2sBBIII", reply[:16])
        if magic != b"GS" or major != 1 or not flags & 1 or len(reply) != 16 + head_len + payload_len:
            raise Error(13, "the reply makes no sense")
        header = self.api.type("gitstead.v1.ReplyHeader").FromString(reply[16:16 + head_len])
        if status != 0:
            raise Error(status, header.message, header.retry, header.retry_after_ms / 1000, header.details.entries)
        return reply[16 + head_len:]

    def sign(self, header, number, payload):
        _, key_id, secret = self.token.split("_", 2)
        signature = header.auth.signature
        signature.key_id, signature.time, signature.nonce = key_id, int(time.time()), os.urandom(16)
        key = hashlib.sha256(b"gitstead sign v1\0" + secret.encode()).digest()
        signed = (struct.pack(">2sBBIII", b"GS", 1, 0, number, 0, len(payload)) + header.call_id + key_id.encode()
                  + struct.pack(">Q", signature.time) + signature.nonce + hashlib.sha256(payload).digest())
        signature.tag = hmac.new(key, signed, "sha256").digest()

    # ------------------------------------------------------------------------------ some of the API

    def repository(self, path):
        return self.api.type("gitstead.v1.Repository")(path=path)

    def refs(self, path):
        """Yields every ref, page by page."""
        page = self.api.type("gitstead.v1.Page")()
        while True:
            reply = self.call("Ref/List", repository=self.repository(path), head=not page.token, page=page)
            yield from reply.refs
            if not reply.next_page_token:
                return
            page.token = reply.next_page_token

    def read(self, path, revision):
        """The bytes of an object of up to 512 KiB."""
        return self.call("Object/Read", repository=self.repository(path), revision=os.fsencode(revision)).data


def exactly(stream, size):
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            raise Error(2, "the stream broke")
        data += more
    return data


def send_chunk(stream, kind, data=b""):
    stream.sendall(struct.pack(">BxxxI", kind, len(data)) + data)


def receive_chunk(stream):
    kind, size = struct.unpack(">BxxxI", exactly(stream, 8))
    if size > CHUNK_MAX:
        raise Error(13, "a chunk of %d bytes" % size)
    return kind, exactly(stream, size)


def tour(client, path):
    """The ten most used calls. The same request on the same state gives the same ids everywhere."""
    enum = client.api.pool.FindEnumTypeByName

    def name_of(kind, number):
        return enum("gitstead.v1." + kind).values_by_number[number].name

    def call(name, text=""):
        request = client.api.methods[name][1](repository=client.repository(path))
        google.protobuf.text_format.Merge(text, request)
        return client.call(name, request)

    def write(branch, seconds):
        return 'write { branch: "%s" committer { name: "Ann Author" email: "ann@example.org" seconds: %d zone: "+0200" } }' % (
            branch, seconds)

    def quoted(data):
        return '"%s"' % data.decode().replace("\n", "\\n")

    def put(file, content):
        return 'actions { kind: FILE_PUT path: "%s" content: %s }' % (file, quoted(content))

    print("created, objects %s" % call("Repository/Create", 'default_branch: "main"').info.object_format)
    first = call("Change/CommitFiles", write("main", 1700000000) + 'message: "Begin"' + put("README.md", b"# Tour\n")
                 + put("src/main.c", b"int main (void) { return 0; }\n"))
    print("committed %s" % first.new_oid)
    call("Change/CreateBranch", 'branch: "topic" revision: "main"')
    second = call("Change/CommitFiles", write("topic", 1700000100) + 'message: "Say more"'
                  + put("README.md", b"# Tour\n\nTen calls.\n"))
    print("committed %s" % second.new_oid)
    for ref in call("Ref/List", "head: true page { limit: 100 }").refs:
        print("ref %s %s" % (ref.oid, ref.name.decode()))
    for entry in call("Commit/Get", 'revisions: "topic"').entries:
        commit = entry.commit
        print("commit %s by %s: %s" % (commit.oid, commit.author.name.decode(), quoted(commit.message)))
    for commit in call("History/List", 'range { include: "topic" }').commits:
        print("history %s" % commit.oid)
    for entry in call("Commit/TreeEntries", 'revision: "topic" recursive: true').entries:
        print("entry %06o %s %s" % (entry.mode, name_of("ObjectType", entry.type), entry.path.decode()))
    blob = call("Blob/Get", 'revision: "topic:README.md"').blob
    print("blob %d bytes: %s" % (blob.size, quoted(blob.data)))
    for file in call("Diff/Parsed", 'left: "main" right: "topic"').files:
        print("diff %s +%d -%d" % (file.path.new_path.decode(), file.additions, file.deletions))
    merged = call("Change/Merge", write("main", 1700000200) + 'source: "topic" message: "Merge topic"')
    print("merged %s %s" % (name_of("ChangeOutcome", merged.outcome), merged.new_oid))
    request = client.api.methods["Repository/Archive"][1](repository=client.repository(path))
    google.protobuf.text_format.Merge('revision: "main" format: ARCHIVE_TAR prefix: "tour/"', request)
    print("archive %s" % hashlib.sha256(client.stream("Repository/Archive", request)[1]).hexdigest())
    try:
        call("Commit/Get", 'revisions: "nowhere"')
    except Error as error:
        for entry in error.details:
            print("refused %s %s" % (CODES[error.code], entry.field))


def find_proto():
    for folder in (os.environ.get("GITSTEAD_PROTO"), os.path.join(HERE, "../../proto"),
                   "/usr/share/gitstead/proto", "/usr/local/share/gitstead/proto"):
        if folder and os.path.isdir(os.path.join(folder, "gitstead/v1")):
            return folder
    sys.exit("the .proto files were not found; name their folder in GITSTEAD_PROTO")


def main(arguments):
    if len(arguments) < 3:
        sys.exit(__doc__)
    url, command, *rest = arguments
    client = Client(url, os.environ.get("GITSTEAD_TOKEN"))
    try:
        if command == "refs" and len(rest) == 1:
            for ref in client.refs(rest[0]):
                print("%s %s" % (ref.oid or "-", os.fsdecode(ref.name)))
        elif command == "read" and len(rest) == 2:
            sys.stdout.buffer.write(client.read(*rest))
        elif command == "tour" and len(rest) == 1:
            tour(client, rest[0])
        elif command == "call" and rest and rest[0] in client.api.methods:
            request = client.api.methods[rest[0]][1]()
            google.protobuf.text_format.Parse(rest[1] if len(rest) > 1 else "", request)
            print(client.call(rest[0], request), end="")
        else:
            sys.exit(__doc__)
    except Error as error:
        sys.exit("gitstead_client.py: %s" % error)
    finally:
        client.close()


if __name__ == "__main__":
    main(sys.argv[1:])
