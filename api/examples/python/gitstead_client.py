#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Gitstead client in Python, on a stock nng binding: written from docs/wire-protocol.md and api/proto alone.

    pip install pynng protobuf
    gitstead_client.py URL refs GROUP/PROJECT              lists the refs
    gitstead_client.py URL read GROUP/PROJECT REVISION     writes an object's bytes to standard output
    gitstead_client.py URL call METHOD [TEXT]              any method; the request in protobuf's text form

URL is tcp://HOST:PORT or ipc:///PATH. GITSTEAD_TOKEN holds the token; over tcp it signs the requests and never travels.
GITSTEAD_PROTO names the folder with gitstead/v1/*.proto, when it is not found beside this file. protoc must be there.
"""
import hashlib
import hmac
import os
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


class Error(Exception):
    """What the server answered, or that nobody did."""

    def __init__(self, code, message, retry=0, retry_after=0.0):
        super().__init__("%s: %s" % (CODES[code] if code < len(CODES) else code, message))
        self.code, self.retry, self.retry_after = code, retry, retry_after


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
            raise Error(status, header.message, header.retry, header.retry_after_ms / 1000)
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
