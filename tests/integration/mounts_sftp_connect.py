#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Joins stdin and stdout with a file server's socket, as the host agent does: mounts_sftp_connect.py SOCKET"""
import os
import select
import socket
import struct
import sys

sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.sendall(b"LIMAMNT\2" + struct.pack("=III", 1000, 1000, 0))
while True:
    ready, _, _ = select.select([0, sock], [], [])
    for source in ready:
        data = sock.recv(65536) if source is sock else os.read(0, 65536)
        if not data:
            sys.exit(0)
        if source is sock:
            os.write(1, data)
        else:
            sock.sendall(data)
