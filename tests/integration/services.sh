#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Services of other programs: the examples, in every pairing of their languages, over ga.sock and the socket
# that the guest agent has for root's programs; and what either socket refuses.
#
# Meson gives EXAMPLES, the folder of the compiled ones, and PROTO, the folder of guest.proto.

. "$(dirname "$0")/lib.sh"

sources=$(cd "$(dirname "$0")/../../examples" && pwd)
export FAKE_QEMU_GUEST=$GUESTAGENT FAKE_QEMU_GUEST_SOCKET=$TMP/guest/agent.sock
export QEMU_SYSTEM_X86_64=$FAKE_QEMU
export LIMA_GUEST_SOCKET=$FAKE_QEMU_GUEST_SOCKET PYTHONPATH=$TMP/python
GA=$LIMA_HOME/x/ga.sock

# The distribution's module belongs to the distribution's Python.
for PYTHON in python3 /usr/bin/python3 ''; do
	[ -n "$PYTHON" ] || skip_all "python3-protobuf is not installed"
	! "$PYTHON" -c 'import google.protobuf' 2>/dev/null || break
done
mkdir -p "$PYTHONPATH"
protoc -I "$PROTO" --python_out="$PYTHONPATH" guest.proto

start_instance() {
	truncate -s 64M "$TMP/image"
	printf 'images:\n- location: %s\n  arch: x86_64\n' "$TMP/image" >"$TMP/x.yaml"
	printf 'portForwards:\n- guestPortRange: [1, 65535]\n  ignore: true\n' >>"$TMP/x.yaml"
	limactl --tty=false start --name x "$TMP/x.yaml"
	[ "$(stat -c %a "$GA")" = 600 ]
	[ "$(stat -c %a "$LIMA_GUEST_SOCKET")" = 600 ]
	[ "$(stat -c %a "$TMP/guest")" = 755 ]
}

test_an_instance_starts() {
	start_instance
}

# serve PROGRAM...: in the background, until it says that it serves.
serve() {
	: >"$TMP/served"
	background "$@" >"$TMP/served" 2>&1
	wait_line "$TMP/served" serving 10
}

stop_serving() {
	kill "$PID"
	wait_gone "$PID" 5
}

test_c_and_python_talk_to_each_other() {
	local text=$'many words\nand lines' server

	for server in "$EXAMPLES/upper_guest" "$PYTHON $sources/upper_guest.py"; do
		# shellcheck disable=SC2086
		serve $server
		expect 0 "$EXAMPLES/upper_host" "$GA" "$text"
		is $'MANY WORDS\nAND LINES'
		printf '%s' "$text" >"$TMP/text"
		"$PYTHON" "$sources/upper_host.py" "$GA" <"$TMP/text" >"$TMP/out"
		is $'MANY WORDS\nAND LINES'
		head -c 3000000 /dev/urandom | base64 | tr 'A-Z' 'a-z' >"$TMP/long"
		"$PYTHON" "$sources/upper_host.py" "$GA" <"$TMP/long" >"$TMP/out"
		tr 'a-z' 'A-Z' <"$TMP/long" | cmp - "$TMP/out"
		stop_serving
	done
}

test_a_name_is_served_by_one_program_at_a_time() {
	serve "$EXAMPLES/upper_guest"
	expect 1 timeout 10 "$EXAMPLES/upper_guest"
	has err "another program serves"
	stop_serving
	expect 1 "$EXAMPLES/upper_host" "$GA" x
	has err "no program serves 'org.example.upper'"
	serve "$EXAMPLES/upper_guest"
	expect 0 "$EXAMPLES/upper_host" "$GA" again
	is AGAIN
	stop_serving
}

# One call by hand: socket, service, request message; prints errno and words of the reply.
call() {
	"$PYTHON" - "$@" <<-'PYTHON'
		import socket, sys
		import guest_pb2 as pb
		path, service, request = sys.argv[1:]
		def framed(m):
		    d = m.SerializeToString()
		    return bytes([len(d)]) + d
		s = socket.socket(socket.AF_UNIX)
		s.settimeout(20)
		s.connect(path)
		s.sendall(framed(pb.StreamOpen(service=service)) + framed(eval(request, {"pb": pb})))
		n = s.recv(1)
		reply = pb.StreamReply.FromString(s.recv(n[0]))
		print(reply.error, reply.message)
	PYTHON
}

test_the_sockets_refuse_in_words() {
	expect 0 call "$GA" Nothing 'pb.InfoRequest()'
	has out "95 no program serves 'Nothing'"
	expect 0 call "$GA" Register 'pb.RegisterRequest(service="a.b")'
	has out "95 "
	# A program of the guest is not the host: it gets no tunnel, no command run, no shutdown.
	for service in Tunnel Exec Events Listen Redirect Upgrade Shutdown Clock a.b; do
		expect 0 call "$LIMA_GUEST_SOCKET" "$service" 'pb.ShutdownRequest()'
		has out "95 "
	done
	for name in Info nodot .a a. 'a b.c' ''; do
		expect 0 call "$LIMA_GUEST_SOCKET" Register "pb.RegisterRequest(service='$name')"
		has out "22 a service's name has"
	done
	expect 0 call "$LIMA_GUEST_SOCKET" Accept 'pb.AcceptRequest(id=7)'
	has out "2 nothing waits under this id"
}

# Python as a user who owns nothing, and may enter no folder of root's.
as_nobody() {
	(cd / && PATH=/usr/bin:/bin setpriv --reuid=65534 --regid=65534 --clear-groups python3 "$@")
}

test_another_user_cannot_connect() {
	[ "$(id -u)" -eq 0 ] || return 0 # only root can become somebody else
	chmod 755 "$TMP" "$LIMA_HOME" "$LIMA_HOME/x"
	for socket in "$GA" "$LIMA_GUEST_SOCKET"; do
		expect 1 as_nobody -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])' "$socket"
		has err "PermissionError"
	done
	# Not even where somebody has opened the modes: the credentials decide.
	chmod 666 "$LIMA_GUEST_SOCKET"
	expect 1 as_nobody -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.settimeout(20)
s.sendall(b"\x06\x0a\x04Info\x00")
sys.exit(s.recv(1) == b"")' "$LIMA_GUEST_SOCKET"
	chmod 600 "$LIMA_GUEST_SOCKET"
}

test_a_service_outlives_a_lost_session() {
	serve "$EXAMPLES/upper_guest"
	kill -KILL "$(cat "$LIMA_HOME/x/ha.pid")"
	wait_gone "$(cat "$LIMA_HOME/x/ha.pid")" 5
	limactl --tty=false start x
	expect 0 "$EXAMPLES/upper_host" "$GA" still
	is STILL
	stop_serving
}

test_stop_removes_the_sockets() {
	limactl stop x
	[ ! -e "$GA" ] && [ ! -e "$LIMA_GUEST_SOCKET" ]
}

run_tests \
	test_an_instance_starts \
	test_c_and_python_talk_to_each_other \
	test_a_name_is_served_by_one_program_at_a_time \
	test_the_sockets_refuse_in_words \
	test_another_user_cannot_connect \
	test_a_service_outlives_a_lost_session \
	test_stop_removes_the_sockets
