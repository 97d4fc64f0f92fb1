#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run in the guest as a user who owns nothing: tries every door between guest and host, and says
which one has opened. Exit status 0: none.
"""
import glob
import os
import socket
import sys

CID_ANY_LOCAL = 1  # linux/vm_sockets.h: VMADDR_CID_LOCAL
CID_HOST = 2
AGENT_PORT = 2222
INFO = b"\x06\x0a\x04Info\x00"  # StreamOpen and an empty InfoRequest, as docs/protocol.md has them

opened = []


def files():
    doors = glob.glob("/dev/virtio-ports/*") + glob.glob("/dev/vport*")
    if not doors:
        opened.append("no virtio port was found: this test tests nothing")
    for path in doors + glob.glob("/dev/vhost-*") + ["/dev/mem", "/dev/port"]:
        for mode in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            try:
                os.close(os.open(path, mode | os.O_NONBLOCK))
                opened.append(f"{path} with mode {mode}")
            except OSError:
                pass
    for path in ("/mnt/lima-cidata",):
        try:
            os.listdir(path)
            opened.append(path)
        except OSError:
            pass


def says_something(sock):
    """Something answers to the protocol's first call."""
    sock.settimeout(5)
    try:
        sock.sendall(INFO)
        return bool(sock.recv(1))
    except OSError:
        return False


def agent_socket():
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect("/run/lima-guestagent/agent.sock")
        except OSError:
            return
        if says_something(sock):
            opened.append("the agent's socket")


def vsock():
    for cid in (CID_ANY_LOCAL, CID_HOST, own_cid()):
        for port in (AGENT_PORT, 1024, 22):
            try:
                with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
                    sock.settimeout(5)
                    sock.connect((cid, port))
                    if says_something(sock):
                        opened.append(f"vsock {cid}:{port}")
            except OSError:
                pass


def own_cid():
    try:
        with open("/dev/vsock", "rb") as device:
            import fcntl
            import struct
            request = 0x07B9  # IOCTL_VM_SOCKETS_GET_LOCAL_CID
            return struct.unpack("I", fcntl.ioctl(device, request, b"\0" * 4))[0]
    except OSError:
        return CID_ANY_LOCAL


def host_ports(ports):
    """Ports of the host's loopback at which nothing may speak the control protocols."""
    for port in ports:
        with socket.socket() as sock:
            sock.settimeout(10)
            try:
                sock.connect(("192.168.5.2", port))
                sock.sendall(b"GET /v1/info HTTP/1.0\r\n\r\n")
                data = sock.recv(64)
            except OSError:
                continue
            if data.startswith((b"HTTP/", b'{"QMP"')):
                opened.append(f"a control interface at the host's port {port}: {data!r}")


files()
agent_socket()
vsock()
host_ports(int(word) for word in sys.argv[1:])
print("\n".join(opened))
sys.exit(1 if opened else 0)
