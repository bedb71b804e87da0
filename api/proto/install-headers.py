#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs the generated headers of the wire contract: install-headers.py BUILT_DIR INCLUDE_DIR

meson cannot name the outputs of a custom target that lie in folders of their own.
"""
import glob
import os
import shutil
import sys

built, include = sys.argv[1:3]
target = os.path.join(os.environ.get("MESON_INSTALL_DESTDIR_PREFIX", ""), include)
for folder in ("gitstead/v1", "google/protobuf"):
    os.makedirs(os.path.join(target, folder), exist_ok=True)
    for header in glob.glob(os.path.join(built, folder, "*.pb-c.h")):
        shutil.copy(header, os.path.join(target, folder))
