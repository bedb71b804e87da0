#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Generates the C code of the wire contract: generate.py PROTOC SOURCE_DIR OUT_DIR

Writes OUT_DIR/gitstead/v1/*.pb-c.h (and descriptor.pb-c.h, which the distribution does not ship),
flat copies of the .c files that the build system can name, and the descriptor set as a C array: the
method registry is read from it at start, and it is the server's self-description. Beside it stands the list of
the services' compiled descriptors.
"""
import glob
import os
import re
import shutil
import subprocess
import sys

# Method names that C++ cannot have as members of the services' structs, which list them in order: nobody uses their names.
CXX_KEYWORDS = r"delete|new|export|operator|private|protected|public|template|this|throw|try|catch|typename|using|virtual"


def main():
    protoc, source, out = sys.argv[1:4]
    protos = sorted(glob.glob(os.path.join(source, "gitstead/v1/*.proto")))
    names = [os.path.relpath(p, source) for p in protos]
    subprocess.run([protoc, "-I.", "-I/usr/include", "--c_out=" + os.path.abspath(out)]
                   + names + ["google/protobuf/descriptor.proto"], cwd=source, check=True)
    for name in names:
        header = os.path.join(out, name.replace(".proto", ".pb-c.h"))
        with open(header) as f:
            text = f.read()
        with open(header, "w") as f:
            f.write(re.sub(r"\(\*(%s)\)\(" % CXX_KEYWORDS, r"(*\1_)(", text))
    set_file = os.path.abspath(os.path.join(out, "descriptor-set.bin"))
    subprocess.run([protoc, "-I.", "-I/usr/include", "--include_imports", "--descriptor_set_out=" + set_file]
                   + names, cwd=source, check=True)
    for name in names + ["google/protobuf/descriptor.proto"]:
        generated = os.path.join(out, name.replace(".proto", ".pb-c.c"))
        shutil.copyfile(generated, os.path.join(out, name.replace("/", "_").replace(".proto", ".pb-c.c")))
    with open(set_file, "rb") as f:
        data = f.read()
    services = []
    for name in names:
        with open(os.path.join(out, name.replace(".proto", ".pb-c.h"))) as f:
            services += re.findall(r"^extern const ProtobufCServiceDescriptor (\w+);", f.read(), re.M)
    with open(os.path.join(out, "descriptor-set.c"), "w") as f:
        f.write("#include <stddef.h>\n#include <stdint.h>\n")
        f.write("extern const uint8_t gs_wire_descriptor_set[];\nextern const size_t gs_wire_descriptor_set_size;\n")
        f.write("const uint8_t gs_wire_descriptor_set[] = {")
        for i, byte in enumerate(data):
            f.write(("\n" if i % 20 == 0 else "") + "%d," % byte)
        f.write("\n};\nconst size_t gs_wire_descriptor_set_size = sizeof gs_wire_descriptor_set;\n")
        f.write("#include <protobuf-c/protobuf-c.h>\n")
        f.write("".join("extern const ProtobufCServiceDescriptor %s;\n" % s for s in services))
        f.write("extern const ProtobufCServiceDescriptor *const gs_wire_services[];\n")
        f.write("const ProtobufCServiceDescriptor *const gs_wire_services[] = {%s, 0};\n"
                % ", ".join("&" + s for s in services))
    with open(os.path.join(out, "proto.stamp.h"), "w") as f:
        f.write("/* Depend on this to be built after the generated headers. */\n")


main()
