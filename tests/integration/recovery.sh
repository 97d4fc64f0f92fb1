#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What becomes of forwards when what carries them dies: the guest agent is killed, its port's connection is
# cut, the VM stands still. With a fake QEMU around the real guest agent, which it starts again as systemd
# would. As in ports.sh, listeners of the "guest" are bound to 127.0.0.2.
. "$(dirname "$0")/lib.sh"

: "${FAKE_QEMU:?}" "${GUESTAGENT:?}"

[ "$(uname -m)" = x86_64 ] || skip_all "the fake QEMU is one for x86_64"

export QEMU_SYSTEM_X86_64=$FAKE_QEMU
export FAKE_QEMU_GUEST=$GUESTAGENT
export FAKE_QEMU_AGAIN_MS=50

export GUEST_PORT HOST_PORT
GUEST_PORT=$(free_port)
HOST_PORT=$(free_port)
STAND_STILL_S=${STAND_STILL_S:-2}

template() {
	truncate -s 1M "$TMP/disk.img"
	cat <<-YAML
		arch: x86_64
		images:
		- location: $TMP/disk.img
		cpus: 1
		memory: 256MiB
		disk: 2MiB
		portForwards:
		- guestIP: 127.0.0.2
		  guestPort: $GUEST_PORT
		  hostPort: $HOST_PORT
		- guestPortRange: [1, 65535]
		  guestIP: 0.0.0.0
		  guestIPMustBeZero: false
		  ignore: true
	YAML
}

# Echoes on TCP and UDP in the "guest", opens connections through the host's port, and says on stdout what
# it sees: a line a word of stdin.
cat >"$TMP/traffic.py" <<'PYTHON'
import os, socket, sys, threading, time

GUEST = ("127.0.0.2", int(os.environ["GUEST_PORT"]))
HOST = ("127.0.0.1", int(os.environ["HOST_PORT"]))
DEADLINE_S = 20

def serve_one(c):
    with c:
        try:
            while data := c.recv(65536):
                c.sendall(data)
        except OSError:
            pass

def serve_tcp(s):
    while True:
        threading.Thread(target=serve_one, args=(s.accept()[0],), daemon=True).start()

def serve_udp(s):
    while True:
        try:
            data, peer = s.recvfrom(65536)
            s.sendto(data, peer)
        except OSError:
            pass

def echo(sock, data):
    sock.sendall(data)
    got = b""
    while len(got) < len(data):
        part = sock.recv(len(data) - len(got))
        if not part:
            raise ConnectionResetError
        got += part
    assert got == data

def attempt():
    try:
        sock = socket.create_connection(HOST, timeout=DEADLINE_S)
        echo(sock, b"new")
        return sock
    except (ConnectionError, TimeoutError):
        return None

def attempt_udp():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(0.1)
    sock.connect(HOST)
    try:
        sock.send(b"datagram")
        return sock.recv(100) == b"datagram"
    except OSError:
        return False
    finally:
        sock.close()

def until(what):
    began = time.monotonic()
    while not (result := what()):
        assert time.monotonic() < began + DEADLINE_S, "waited in vain"
    return result, int((time.monotonic() - began) * 1000)

def ended(socks):
    for sock in socks:
        sock.settimeout(DEADLINE_S)
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass

threading.Thread(target=serve_tcp, args=(socket.create_server(GUEST),), daemon=True).start()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(GUEST)
threading.Thread(target=serve_udp, args=(udp,), daemon=True).start()
socks = []
for line in sys.stdin:
    word = line.strip()
    if word == "open":
        socks = [until(attempt)[0] for _ in range(20)]
        until(attempt_udp)
        print("open", flush=True)
    elif word == "send":  # what can't be answered now
        for sock in socks:
            sock.sendall(b"while")
        print("sent", flush=True)
    elif word == "ended":
        began = time.monotonic()
        ended(socks)
        print("all ended after", int((time.monotonic() - began) * 1000), "ms", flush=True)
    elif word == "again":
        print("again after", until(attempt)[1], "ms, datagrams", until(attempt_udp)[1], "ms", flush=True)
    elif word == "silence":
        sock = socks[0]
        sock.settimeout(float(os.environ["STAND_STILL_S"]))
        try:
            sock.recv(1)
            print("noise", flush=True)
        except TimeoutError:
            print("silence", flush=True)
    elif word == "answered":
        for sock in socks:
            sock.settimeout(DEADLINE_S)
            got = b""
            while len(got) < 5:
                got += sock.recv(5 - len(got))
            assert got == b"while"
            echo(sock, b"still here")
        print("all answered", flush=True)
PYTHON

# Says the word $1 to the traffic and waits for an answer that begins with $2.
traffic() {
	local answer

	echo "$1" >&8
	read -r -t $((60 + STAND_STILL_S)) answer <&9 || fail "no answer to '$1'"
	echo "$1: $answer"
	[[ $answer == "$2"* ]] || fail "'$answer' is no '$2'"
}

begin() {
	export STAND_STILL_S
	coproc TRAFFIC { exec python3 "$TMP/traffic.py"; }
	echo "$TRAFFIC_PID" >>"$BACKGROUND"
	exec 8>&"${TRAFFIC[1]}" 9<&"${TRAFFIC[0]}"
}

qemu_pid() {
	cat "$LIMA_HOME/vm/qemu.pid"
}

agent_pid() {
	pgrep -P "$(qemu_pid)"
}

sessions() {
	grep -c 'guest agent .* on .*, boot' "$LIMA_HOME/vm/ha.stderr.log" || true
}

test_start() {
	template >"$TMP/vm.yaml"
	expect 0 limactl --debug start --tty=false --name=vm "$TMP/vm.yaml"
}

test_a_killed_guest_agent_resets_its_connections_and_all_comes_back() {
	local before

	begin
	traffic open open
	before=$(agent_pid)
	kill -KILL "$before"
	traffic ended "all ended"
	traffic again "again after"
	[ "$(agent_pid)" != "$before" ] || fail "the guest agent is the old one"
}

test_a_cut_port_resets_its_connections_and_all_comes_back() {
	begin
	traffic open open
	kill -USR1 "$(qemu_pid)"
	traffic ended "all ended"
	traffic again "again after"
}

test_a_vm_that_stands_still_loses_nothing() {
	local before

	begin
	traffic open open
	before=$(sessions)
	kill -STOP "$(qemu_pid)"
	traffic send sent
	traffic silence silence
	kill -CONT "$(qemu_pid)"
	traffic answered "all answered"
	[ "$(sessions)" = "$before" ] || fail "the session was lost"
}

test_an_agent_killed_while_the_vm_stands_still_comes_back() {
	begin
	traffic open open
	kill -STOP "$(qemu_pid)"
	kill -KILL "$(agent_pid)"
	kill -CONT "$(qemu_pid)"
	traffic ended "all ended"
	traffic again "again after"
}

test_stop() {
	expect 0 limactl stop vm
}

run_tests test_start test_a_killed_guest_agent_resets_its_connections_and_all_comes_back \
	test_a_cut_port_resets_its_connections_and_all_comes_back test_a_vm_that_stands_still_loses_nothing \
	test_an_agent_killed_while_the_vm_stands_still_comes_back test_stop
