#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A DNS server in the place of those that the host's resolv.conf names, for tests without a network.

Usage: dns_upstream.py ADDRESS PORT
Prints "ready" once it answers, by UDP and by TCP.
At and below example.test there is one record of each of A, AAAA, TXT, SRV and HTTPS; long.example.test has 3 kB of
TXT, which UDP cuts; v4.example.test has an A record alone, text.example.test a TXT record. Other names of .test
are not there. Everything else is not answered at all.
"""

import signal
import socketserver
import struct
import sys
import threading

A, AAAA, TXT, SRV, HTTPS = 1, 28, 16, 33, 65
LONG = b"".join(bytes([250]) + bytes([97 + i]) * 250 for i in range(12))
RECORDS = {
    A: bytes([10, 20, 30, 40]),
    AAAA: bytes.fromhex("fd00") + bytes(13) + b"\x07",
    TXT: b"\x09some text",
    SRV: struct.pack(">HHH", 1, 2, 443) + b"\x06target\x07example\x04test\x00",
    HTTPS: b"\x00\x01\x00" + struct.pack(">HH", 1, 3) + b"\x02h2",
}
ONLY = {"v4.example.test": A, "text.example.test": TXT}


def question(query):
    """(name, type, end of the question)"""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    return ".".join(labels), struct.unpack(">H", query[at + 1:at + 3])[0], at + 5


def answer(query, by_tcp):
    name, kind, end = question(query)
    flags, records = 0x8180, []
    if not name.endswith(".test"):
        return None
    if name == "long.example.test" and kind == TXT:
        flags, records = (flags, [LONG]) if by_tcp else (flags | 0x200, [])
    elif name in ONLY:
        records = [RECORDS[kind]] if kind == ONLY[name] else []
    elif name == "example.test" or name.endswith(".example.test"):
        records = [RECORDS[kind]] if kind in RECORDS else []
    else:
        flags |= 3
    header = query[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0)
    body = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 77, len(r)) + r for r in records)
    return header + query[12:end] + body


class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        reply = answer(self.request[0], False)
        if reply:
            self.request[1].sendto(reply, self.client_address)


class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        while len(prefix := self.rfile.read(2)) == 2:
            reply = answer(self.rfile.read(struct.unpack(">H", prefix)[0]), True)
            if reply:
                self.wfile.write(struct.pack(">H", len(reply)) + reply)


class TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def main():
    where = (sys.argv[1], int(sys.argv[2]))
    for server in (socketserver.UDPServer(where, Udp), TcpServer(where, Tcp)):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    signal.pause()


main()
