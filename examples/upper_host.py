#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The host's side of org.example.upper: upper_host.py ~/.lima/INSTANCE/ga.sock <text

guest_pb2.py is made by: protoc -I "$(pkg-config --variable=protodir lima-guest)" --python_out=. guest.proto
"""
import socket
import sys
import threading

import guest_pb2


def message(data):
    """A short message behind its length."""
    assert len(data) < 0x80
    return bytes([len(data)]) + data


def copy_input(connection):
    while data := sys.stdin.buffer.read1(65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def main():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    stream = connection.makefile("rb")
    open_ = guest_pb2.StreamOpen(service="org.example.upper")
    connection.sendall(message(open_.SerializeToString()))
    length = stream.read(1)
    if not length:
        sys.exit("the guest has ended the call")
    reply = guest_pb2.StreamReply.FromString(stream.read(length[0]))
    if reply.error:
        sys.exit(reply.message)
    threading.Thread(target=copy_input, args=(connection,), daemon=True).start()
    while data := stream.read1(65536):
        sys.stdout.buffer.write(data)
    sys.stdout.flush()


main()
