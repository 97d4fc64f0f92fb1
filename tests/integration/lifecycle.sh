#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Start, list, forward, take over, stop and delete, with a fake QEMU around the real guest agent. The guest
# agent is a process of this host: what listens here listens in the "guest" too, so ports are mapped.
. "$(dirname "$0")/lib.sh"

: "${FAKE_QEMU:?}" "${GUESTAGENT:?}"

[ "$(uname -m)" = x86_64 ] || skip_all "the fake QEMU is one for x86_64"

export QEMU_SYSTEM_X86_64=$FAKE_QEMU
export FAKE_QEMU_GUEST=$GUESTAGENT

GUEST_PORT=$(free_port)
HOST_PORT=$(free_port)

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
		- guestPort: $GUEST_PORT
		  hostPort: $HOST_PORT
		- guestPortRange: [1, 65535]
		  ignore: true
		message: |
		  Hello from {{.Name}}
	YAML
}

events() {
	echo "$LIMA_HOME/$1/ha.stdout.log"
}

pid_of() {
	cat "$LIMA_HOME/$1"
}

status_of() {
	"$LIMACTL" list --format '{{.Status}}' "$1" 2>/dev/null
}

# Answers each connection to port $1 with the line "hello".
serve() {
	cat >"$TMP/serve.py" <<-'PYTHON'
		import socket, sys
		s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
		while True:
		    c, _ = s.accept()
		    c.sendall(b"hello\n")
		    c.close()
	PYTHON
	background python3 "$TMP/serve.py" "$1"
}

# The first line that a connection to port $1 gives.
ask() {
	local line

	exec 7<>"/dev/tcp/127.0.0.1/$1"
	read -r -t 10 line <&7
	exec 7<&-
	echo "$line"
}

test_start_ends_when_the_guest_is_ready() {
	template | expect 0 limactl create --name one -
	expect 0 limactl start one
	has err 'msg="READY. Run `limactl shell one` to open the shell."'
	has err "SSH Local Port: "
	has err "Hello from one"
	[ "$(status_of one)" = Running ]
	expect 0 limactl list --json one
	has out '"status":"Running"'
	has out '"sshLocalPort":'
	has out '"hostAgentPID":'
	has out '"driverPID":'
}

test_start_of_what_runs_says_so() {
	local before

	before=$(pid_of one/ha.pid)
	expect 0 limactl start one
	has err 'The instance `one` is already running. Run `limactl shell one` to open the shell.'
	[ "$(pid_of one/ha.pid)" = "$before" ]
	expect 1 limactl delete one
	has err 'expected status `Stopped`, got `Running`'
}

test_a_listener_in_the_guest_is_reached_through_the_host() {
	serve "$GUEST_PORT"
	wait_line "$(events one)" '"portForward":{"type":"forwarding"' 10
	[ "$(ask "$HOST_PORT")" = hello ]
	kill "$PID"
	wait_line "$(events one)" '"portForward":{"type":"stopping"' 10
}

# A server that stops listening while it still serves somebody, as one does that shuts down gracefully.
test_a_connection_outlives_its_listener() {
	python3 -c '
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
connection, _ = listener.accept()
listener.close()
while data := connection.recv(100):
    connection.sendall(data)
' "$GUEST_PORT" &
	python3 -c '
import socket, sys, time
port, deadline = int(sys.argv[1]), time.monotonic() + 10
while True:
    try:
        connection = socket.create_connection(("127.0.0.1", port), 10)
        break
    except ConnectionRefusedError:
        assert time.monotonic() < deadline
while True:
    try:
        socket.create_connection(("127.0.0.1", port), 10).recv(1)
    except ConnectionRefusedError:
        break
    except ConnectionResetError:
        pass
connection.sendall(b"still here")
assert connection.recv(100) == b"still here"
' "$HOST_PORT"
	wait
}

test_a_killed_agent_is_replaced_and_the_vm_goes_on() {
	local agent vm

	agent=$(pid_of one/ha.pid) vm=$(pid_of one/qemu.pid)
	serve "$GUEST_PORT"
	wait_line "$(events one)" '"portForward":{"type":"forwarding"' 10
	kill -KILL "$agent"
	wait_gone "$agent" 5
	[ "$(status_of one)" = Broken ]
	expect 1 limactl stop one
	has err "limactl start one"
	expect 0 limactl start one
	has err READY
	[ "$(status_of one)" = Running ]
	[ "$(pid_of one/qemu.pid)" = "$vm" ]
	[ "$(pid_of one/ha.pid)" != "$agent" ]
	wait_line "$(events one)" '"portForward":{"type":"forwarding"' 10
	[ "$(ask "$HOST_PORT")" = hello ]
	kill "$PID"
}

test_stop_ends_all_processes() {
	local agent vm

	agent=$(pid_of one/ha.pid) vm=$(pid_of one/qemu.pid)
	expect 0 limactl stop one
	wait_gone "$agent" 0
	wait_gone "$vm" 0
	[ "$(status_of one)" = Stopped ]
	[ -z "$(find "$LIMA_HOME/one" -name '*.pid' -o -name '*.sock')" ] || fail "left: $(ls "$LIMA_HOME/one")"
	expect 1 limactl stop one
}

test_restart_brings_new_processes() {
	local vm

	expect 0 limactl start one
	vm=$(pid_of one/qemu.pid)
	expect 0 limactl restart one --memory 0.5
	[ "$(pid_of one/qemu.pid)" != "$vm" ]
	grep -q '^memory: "\?0.5GiB' "$LIMA_HOME/one/lima.yaml"
	expect 0 limactl list --yq .memory one
	is 536870912
}

test_forced_delete_leaves_nothing() {
	local agent vm

	agent=$(pid_of one/ha.pid) vm=$(pid_of one/qemu.pid)
	expect 0 limactl delete -f one
	wait_gone "$agent" 0
	wait_gone "$vm" 0
	[ ! -e "$LIMA_HOME/one" ]
	! pgrep -f "$LIMA_HOME/one/" || fail "a process is left"
	! grep -F "$LIMA_HOME/one/" /proc/net/unix || fail "a socket is left"
}

test_a_qemu_that_cannot_start_is_named() {
	template | expect 0 limactl create --name bad -
	expect 1 env FAKE_QEMU_FAIL="no such machine" "$LIMACTL" start bad
	has err 'instance `bad` did not start'
	has err "no such machine"
	[ "$(status_of bad)" = Stopped ]
}

test_a_qemu_killed_while_booting_ends_the_start_at_once() {
	local starter vm before

	: >"$(events bad)" # the start before is over
	FAKE_QEMU_GUEST_MS=3600000 background "$LIMACTL" start bad 2>"$TMP/err"
	starter=$PID
	wait_line "$(events bad)" '"stage"' 10
	vm=$(pid_of bad/qemu.pid)
	before=$(now)
	kill -KILL "$vm"
	wait_gone "$starter" 5
	[ $(($(now) - before)) -lt 2000 ] || fail "it took $(($(now) - before)) ms"
	! wait "$starter" || fail "start succeeded"
	cat "$TMP/err"
	has err 'instance `bad` did not start'
	grep -qi "qemu" "$TMP/err"
	[ "$(status_of bad)" = Stopped ]
}

test_a_start_without_progress_is_given_up_and_taken_down() {
	local before

	before=$(now)
	FAKE_QEMU_GUEST_MS=3600000 expect 1 limactl start --timeout 1s bad
	has err 'instance `bad` was not ready within 1s'
	has err '; it waited for the '
	[ $(($(now) - before)) -lt 10000 ]
	[ "$(status_of bad)" = Stopped ]
}

test_ctrl_c_leaves_a_vm_that_can_be_waited_for_or_stopped() {
	local starter

	: >"$(events bad)" # the start before is over
	FAKE_QEMU_GUEST_MS=2000 background "$LIMACTL" start bad 2>"$TMP/err"
	starter=$PID
	wait_line "$(events bad)" '"stage"' 10
	kill -TERM "$starter"
	wait_gone "$starter" 5
	cat "$TMP/err"
	has err 'instance `bad` goes on starting in the background'
	expect 0 limactl start bad
	has err READY
	expect 0 limactl stop bad
}

test_two_starts_at_once_make_one_vm() {
	local first second ok=0

	FAKE_QEMU_GUEST_MS=500 background "$LIMACTL" start bad 2>"$TMP/err1"
	first=$PID
	FAKE_QEMU_GUEST_MS=500 background "$LIMACTL" start bad 2>"$TMP/err2"
	second=$PID
	! wait "$first" || ok=$((ok + 1))
	! wait "$second" || ok=$((ok + 1))
	cat "$TMP/err1" "$TMP/err2"
	[ "$ok" -ge 1 ] || fail "neither start succeeded"
	[ "$ok" -eq 2 ] || cat "$TMP/err1" "$TMP/err2" | grep -q 'another limactl command is at work'
	[ "$(pgrep -cf "^$FAKE_QEMU .*$LIMA_HOME/bad/")" -eq 1 ] || fail "not one QEMU"
	expect 0 limactl stop bad
}

test_a_deaf_guest_is_stopped_by_force() {
	FAKE_QEMU_DEAF=1 expect 0 limactl start bad
	expect 0 limactl stop -f bad
	[ "$(status_of bad)" = Stopped ]
	expect 0 limactl delete bad
	[ ! -e "$LIMA_HOME/bad" ]
}

# It may be pressed before the guest listens, which nothing tells.
test_a_guest_that_hears_late_is_asked_again() {
	FAKE_QEMU_BOOTING=1 expect 0 limactl start bad
	SECONDS=0
	expect 0 limactl stop bad
	[ "$(status_of bad)" = Stopped ]
	[ "$SECONDS" -lt 30 ] || fail "stopped after $SECONDS s"
	! grep -q 'did not power down' "$LIMA_HOME/bad/ha.stderr.log" || fail "it was killed"
}

test_start_creates_what_is_not_there() {
	template >"$TMP/fresh.yaml"
	expect 0 limactl start "$TMP/fresh.yaml"
	has err 'limactl shell fresh'
	expect 0 limactl delete -f fresh
}

run_tests test_start_ends_when_the_guest_is_ready test_start_of_what_runs_says_so \
	test_a_listener_in_the_guest_is_reached_through_the_host test_a_connection_outlives_its_listener \
	test_a_killed_agent_is_replaced_and_the_vm_goes_on test_stop_ends_all_processes \
	test_restart_brings_new_processes test_forced_delete_leaves_nothing \
	test_a_qemu_that_cannot_start_is_named test_a_qemu_killed_while_booting_ends_the_start_at_once \
	test_a_start_without_progress_is_given_up_and_taken_down \
	test_ctrl_c_leaves_a_vm_that_can_be_waited_for_or_stopped test_two_starts_at_once_make_one_vm \
	test_a_guest_that_hears_late_is_asked_again test_a_deaf_guest_is_stopped_by_force test_start_creates_what_is_not_there
