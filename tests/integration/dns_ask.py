#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks a DNS server, and prints what a second one must answer too: the code, and the records without TTL.

Usage: dns_ask.py SERVER[:PORT] NAME TYPE [tcp]
A cut answer by UDP (which may have 4096 bytes) ends with status 3. For guests, which have no dig.
"""

import socket
import struct
import sys

TYPES = {"A": 1, "CNAME": 5, "TXT": 16, "AAAA": 28, "SRV": 33, "HTTPS": 65}
WAIT_S = 10


def receive(sock, size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            sys.exit("the connection ended early")
        data += piece
    return data


def exchange(server, query, by_tcp):
    if by_tcp:
        with socket.create_connection(server, WAIT_S) as sock:
            sock.sendall(struct.pack(">H", len(query)) + query)
            return receive(sock, struct.unpack(">H", receive(sock, 2))[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(server)
        sock.send(query)
        return sock.recv(65535)


def skip_name(data, at):
    while data[at] and data[at] < 64:
        at += 1 + data[at]
    return at + (2 if data[at] else 1)


def main():
    server, name, kind = sys.argv[1:4]
    address, _, port = server.partition(":")
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    query = (struct.pack(">HHHHHH", 0x4c4d, 0x0100, 1, 0, 0, 1) + labels + b"\0" +
             struct.pack(">HH", TYPES[kind], 1) + b"\0" + struct.pack(">HHIH", 41, 4096, 0, 0))
    data = exchange((address, int(port or 53)), query, "tcp" in sys.argv[4:])
    ident, flags, _, count = struct.unpack(">HHHH", data[:8])
    if ident != 0x4c4d or flags & 0x0200:
        sys.exit(3)
    at, records = skip_name(data, 12) + 4, []
    for _ in range(count):
        at = skip_name(data, at)
        number, _, _, size = struct.unpack(">HHIH", data[at:at + 10])
        records.append(f"{number} {data[at + 10:at + 10 + size].hex()}")
        at += 10 + size
    print(f"code {flags & 15}", *sorted(records), sep="\n")


main()
