#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Forwards over ssh: the "guest" is this host, as in lifecycle.sh, and its sshd a real one on the port that
# the configuration names.
. "$(dirname "$0")/lib.sh"

: "${FAKE_QEMU:?}" "${GUESTAGENT:?}"

[ "$(uname -m)" = x86_64 ] || skip_all "the fake QEMU is one for x86_64"
[ -x /usr/sbin/sshd ] || skip_all "no sshd; install openssh-server"

export QEMU_SYSTEM_X86_64=$FAKE_QEMU
export FAKE_QEMU_GUEST=$GUESTAGENT

GUEST_PORT=$(free_port)
HOST_PORT=$(free_port)
SSH_PORT=$(free_port)
USER_NAME=$(id -un)
if [ "$USER_NAME" = root ]; then
	USER_NAME=nobody # root is no name for a user of an instance
	mkdir -p /run/sshd
fi

template() {
	truncate -s 1M "$TMP/disk.img"
	cat <<-YAML
		arch: x86_64
		images:
		- location: $TMP/disk.img
		cpus: 1
		memory: 256MiB
		disk: 2MiB
		ssh:
		  localPort: $SSH_PORT
		user:
		  name: $USER_NAME
		portForwards:
		- guestPort: $GUEST_PORT
		  hostPort: $HOST_PORT
		  static: ${1-false}
		- guestPortRange: [1, 65535]
		  ignore: true
	YAML
}

events() {
	echo "$LIMA_HOME/$1/ha.stdout.log"
}

pid_of() {
	cat "$LIMA_HOME/$1"
}

start_sshd() {
	[ -e "$TMP/host_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$TMP/host_key"
	cat >"$TMP/sshd_config" <<-CONFIG
		ListenAddress 127.0.0.1:$SSH_PORT
		HostKey $TMP/host_key
		AuthorizedKeysFile $LIMA_HOME/_config/user.pub
		StrictModes no
		UsePAM no
		PidFile none
		PasswordAuthentication no
		LogLevel VERBOSE
	CONFIG
	chmod 755 "$TMP" "$LIMA_HOME" "$LIMA_HOME/_config" # read with the rights of the user
	background /usr/sbin/sshd -D -e -f "$TMP/sshd_config" 2>>"$TMP/sshd.log"
	echo "$PID" >"$TMP/sshd.pid"
}

# Kills process $1 and what came from it: sessions have two processes each.
kill_tree() {
	local pid

	kill -STOP "$1"
	for pid in $(cat "/proc/$1/task/$1/children"); do
		kill_tree "$pid"
	done
	kill -KILL "$1"
}

stop_sshd() {
	kill_tree "$(cat "$TMP/sshd.pid")"
}

# Sends back what each connection to port $1 brings, and its end.
serve() {
	cat >"$TMP/serve.py" <<-'PYTHON'
		import socket, sys, threading
		def visit(c):
		    while data := c.recv(65536):
		        c.sendall(data)
		    c.close()
		s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
		while True:
		    threading.Thread(target=visit, args=s.accept()[:1], daemon=True).start()
	PYTHON
	background python3 "$TMP/serve.py" "$1"
}

# Sends $2 bytes to port $1 and wants them back; within 10 s.
exchange() {
	python3 -c '
import os, socket, sys, threading
data = os.urandom(int(sys.argv[2]))
c = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
def send():
    c.sendall(data)
    c.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
got = bytearray()
while part := c.recv(65536):
    got += part
assert got == data, (len(got), len(data))
' "$1" "$2"
}

test_a_wrong_value_is_named() {
	template | expect 0 limactl create --name one -
	LIMA_SSH_PORT_FORWARDER=maybe expect 1 limactl start one
	has err "LIMA_SSH_PORT_FORWARDER: 'maybe' is neither true nor false"
}

test_a_listener_in_the_guest_is_reached_through_ssh() {
	LIMA_SSH_PORT_FORWARDER=true expect 0 limactl start one
	start_sshd # the agent wants the port to be free at first
	serve "$GUEST_PORT"
	wait_line "$(events one)" '"portForward":{"type":"forwarding"' 10
	exchange "$HOST_PORT" 3000000
	grep -q "Accepted publickey for $USER_NAME" "$TMP/sshd.log"
}

test_no_ssh_runs_for_it() {
	local pid

	for pid in $(cat "/proc/$(pid_of one/ha.pid)/task/$(pid_of one/ha.pid)/children"); do
		[ "$(cat "/proc/$pid/comm")" != ssh ]
	done
}

test_a_new_sshd_is_found_and_the_port_stays() {
	python3 -c '
import socket, sys
c = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
c.sendall(b"x")
assert c.recv(1) == b"x"
print("up", flush=True)
try:
    assert c.recv(1) == b"", "data"
    raise SystemExit("an orderly end")
except ConnectionResetError:
    print("reset", flush=True)
' "$HOST_PORT" >"$TMP/before" &
	wait_line "$TMP/before" up 10
	stop_sshd
	wait_line "$TMP/before" reset 10
	start_sshd
	exchange "$HOST_PORT" 1000
}

test_who_takes_a_vm_over_decides_what_carries() {
	local agent wants

	for wants in false true; do
		agent=$(pid_of one/ha.pid)
		kill -KILL "$agent"
		wait_gone "$agent" 5
		LIMA_SSH_PORT_FORWARDER=$wants expect 0 limactl start one
		wait_line "$(events one)" '"portForward":{"type":"forwarding"' 10
		exchange "$HOST_PORT" 1000
		if [ "$wants" = true ]; then
			wait_line "$LIMA_HOME/one/ha.stderr.log" "forwards go through ssh" 10
		else
			! grep "forwards go through ssh" "$LIMA_HOME/one/ha.stderr.log" || fail "ssh is used"
		fi
	done
	expect 0 limactl stop one
}

test_plain_mode_forwards_what_is_static() {
	template true | expect 0 limactl create --name two --plain -
	stop_sshd
	limactl start two 2>"$TMP/start" &
	wait_line "$(events two)" '"sshLocalPort"' 10
	start_sshd
	wait_line "$TMP/start" READY 30
	exchange "$HOST_PORT" 1000
	expect 0 limactl stop -f two
}

run_tests \
	test_a_wrong_value_is_named \
	test_a_listener_in_the_guest_is_reached_through_ssh \
	test_no_ssh_runs_for_it \
	test_a_new_sshd_is_found_and_the_port_stays \
	test_who_takes_a_vm_over_decides_what_carries \
	test_plain_mode_forwards_what_is_static
