#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Traffic for the tests with real machines.

vm_traffic.py serve PORT
    Answers each connection, once it was half-closed, with the SHA-256 of what came and all of it.
vm_traffic.py call PORT TOTAL PARALLEL
    Makes TOTAL connections, PARALLEL at a time, each sending a random amount and half-closing; checks
    that everything came back.
vm_traffic.py wait PORT open|closed SECONDS
    Until the port of 127.0.0.1 accepts (and answers with something or waits), or refuses.
"""
import concurrent.futures
import hashlib
import random
import socket
import socketserver
import sys
import time


def read_all(sock):
    parts = []
    while True:
        part = sock.recv(65536)
        if not part:
            return b"".join(parts)
        parts.append(part)


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        data = read_all(self.request)
        self.request.sendall(hashlib.sha256(data).digest() + data)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512


def serve(port):
    Server(("127.0.0.1", port), Handler).serve_forever()


def call_once(port, seed):
    rng = random.Random(seed)
    data = rng.randbytes(rng.choice((0, 1, 100, 5000, 100000)))
    with socket.create_connection(("127.0.0.1", port), 120) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        back = read_all(sock)
    if back != hashlib.sha256(data).digest() + data:
        raise SystemExit(f"connection {seed}: sent {len(data)} bytes, {len(back)} came back")
    return len(data)


def call(port, total, parallel):
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        begin = time.monotonic()
        sent = sum(pool.map(lambda seed: call_once(port, seed), range(total)))
    print(f"{total} connections, {sent} bytes each way, {time.monotonic() - begin:.1f} s")


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    except ConnectionRefusedError:
        return False


def wait(port, state, seconds):
    """There is no event for somebody else's port: it is asked again and again."""
    deadline = time.monotonic() + seconds
    while is_open(port) != (state == "open"):
        if time.monotonic() > deadline:
            raise SystemExit(f"port {port} is not {state} after {seconds} s")
        time.sleep(0.005)


COMMANDS = {
    "serve": (serve, int),
    "call": (call, int, int, int),
    "wait": (wait, int, str, float),
}

if __name__ == "__main__":
    function, *types = COMMANDS[sys.argv[1]]
    function(*(kind(word) for kind, word in zip(types, sys.argv[2:], strict=True)))
