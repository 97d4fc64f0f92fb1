#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A guest tool: serves org.example.upper, which sends text back in capitals. Needs root.

guest_pb2.py is made by: protoc -I "$(pkg-config --variable=protodir lima-guest)" --python_out=. guest.proto
"""
import os
import socket
import sys
import threading

import guest_pb2

SOCKET = os.environ.get("LIMA_GUEST_SOCKET", "/run/lima-guestagent/agent.sock")


def send(stream, message):
    data = message.SerializeToString()
    prefix, rest = bytearray(), len(data)
    while rest >= 0x80:
        prefix.append(rest & 0x7F | 0x80)
        rest >>= 7
    prefix.append(rest)
    stream.write(bytes(prefix) + data)
    stream.flush()


def receive(stream, message):
    """None at the end of the stream."""
    length = shift = 0
    while True:
        byte = stream.read(1)
        if not byte:
            return None
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            break
    message.ParseFromString(stream.read(length))
    return message


def call(service, request):
    """A connection on which the agent has accepted the call."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(SOCKET)
    stream = connection.makefile("rwb")
    send(stream, guest_pb2.StreamOpen(service=service))
    send(stream, request)
    reply = receive(stream, guest_pb2.StreamReply())
    if reply is None or reply.error:
        sys.exit(f"{service}: {reply.message if reply else 'no answer'}")
    return connection, stream


def serve(incoming):
    connection, stream = call("Accept", guest_pb2.AcceptRequest(id=incoming.accepted.id))
    while data := stream.read1(65536):
        stream.write(data.upper())
        stream.flush()
    connection.shutdown(socket.SHUT_WR)


def main():
    _, registration = call("Register", guest_pb2.RegisterRequest(service="org.example.upper"))
    print("serving", flush=True)
    while incoming := receive(registration, guest_pb2.Incoming()):
        threading.Thread(target=serve, args=(incoming,), daemon=True).start()


main()
