#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Forwards of a running instance, with a fake QEMU around the real guest agent. The guest agent is a process
# of this host: what listens here listens in the "guest" too. So listeners of the guest are bound to
# 127.0.0.2, and the host's side is 127.0.0.1.
. "$(dirname "$0")/lib.sh"

: "${FAKE_QEMU:?}" "${GUESTAGENT:?}"

[ "$(uname -m)" = x86_64 ] || skip_all "the fake QEMU is one for x86_64"

export QEMU_SYSTEM_X86_64=$FAKE_QEMU
export FAKE_QEMU_GUEST=$GUESTAGENT

GUEST_PORT=$(free_port)
OTHER_PORT=$(free_port)
HOST_PORT=$(free_port)
ADDED_PORT=$(free_port)
REMAP_PORT=$(free_port)
EVENTS=$LIMA_HOME/vm/ha.stdout.log

template() {
	truncate -s 1M "$TMP/disk.img"
	cat <<-YAML
		arch: x86_64
		images:
		- location: $TMP/disk.img
		cpus: 1
		memory: 256MiB
		disk: 2MiB
		user:
		  name: nobody
		# what leads where
		portForwards:
		- guestIP: 127.0.0.2
		  guestPort: $GUEST_PORT # first
		  hostPort: $HOST_PORT
		- guestIP: 127.0.0.2
		  guestPort: $OTHER_PORT
		  hostPort: $HOST_PORT
		- guestIP: 127.0.0.2
		  guestPort: $REMAP_PORT
		  hostPort: $REMAP_PORT
		  onConflict: remap
		- guestPortRange: [1, 65535]
		  guestIP: 0.0.0.0
		  guestIPMustBeZero: false
		  ignore: true
	YAML
}

# Listens on $1 port $2 and answers each connection with the line $3; returns when it listens.
serve() {
	cat >"$TMP/serve.py" <<-'PYTHON'
		import socket, sys
		s = socket.create_server((sys.argv[1], int(sys.argv[2])))
		open(sys.argv[4], "w").close()
		while True:
		    c, _ = s.accept()
		    c.sendall(sys.argv[3].encode() + b"\n")
		    c.close()
	PYTHON
	mkfifo "$TMP/ready.$2"
	background python3 "$TMP/serve.py" "$1" "$2" "$3" "$TMP/ready.$2"
	cat "$TMP/ready.$2"
	rm "$TMP/ready.$2"
}

# The first line that a connection to $1 port $2 gives.
ask() {
	local line=""

	exec 7<>"/dev/tcp/$1/$2" || return 1
	read -r -t 10 line <&7 || true
	exec 7<&-
	echo "$line"
}

# Waits until a new event has $1.
mark() {
	MARK=$(wc -l <"$EVENTS")
}

event() {
	timeout 10 grep -q -m1 -e "$1" < <(exec tail --pid="$$" -n "+$((MARK + 1))" -F "$EVENTS" 2>/dev/null) ||
		fail "no event has '$1': $(tail -n "+$((MARK + 1))" "$EVENTS")"
}

state_of() {
	"$LIMACTL" ports vm --format '{{.GuestAddr}} {{.HostAddr}} {{.State}} {{.Remapped}}' | grep "^$1 "
}

test_an_instance_that_does_not_run_has_no_forwards() {
	chmod 711 "$TMP" # for the guest's user
	mkdir -m 777 "$TMP/guest"
	template | expect 0 limactl create --name vm -
	expect 1 limactl ports vm
	has err 'instance `vm` is not running, it is `Stopped`'
	expect 1 limactl ports add --temporary vm 8080:80
	has err 'is not running'
	expect 1 limactl ports none
}

test_a_listener_is_listed_with_its_rule() {
	expect 0 limactl start vm
	mark
	serve 127.0.0.2 "$GUEST_PORT" one
	event '"type":"forwarding","protocol":"tcp","guestAddr":"127.0.0.2:'"$GUEST_PORT"'"'
	expect 0 limactl ports vm
	has out "127.0.0.2:$GUEST_PORT"
	expect 0 limactl ports vm --json
	grep '"guestAddr":"127.0.0.2:'"$GUEST_PORT"'"' "$TMP/out" | grep '"state":"forwarding"' |
		grep '"rule":"portForwards\[0\]"' | grep -q '"origin":"socket"'
	[ "$(ask 127.0.0.1 "$HOST_PORT")" = one ]
	expect 1 limactl ports vm --json --format yaml
	expect 1 limactl ports vm --format '{{.Nothing'
}

test_a_second_service_of_a_host_port_stands_by_and_takes_over() {
	local first=$(head -n1 "$BACKGROUND")

	mark
	serve 127.0.0.2 "$OTHER_PORT" two
	event '"type":"failed","protocol":"tcp","guestAddr":"127.0.0.2:'"$OTHER_PORT"'"'
	[ "$(state_of 127.0.0.2:$OTHER_PORT)" = "127.0.0.2:$OTHER_PORT 127.0.0.1:$HOST_PORT standby false" ]
	expect 0 limactl list --json vm
	has out '"portConflicts":[{'
	has out "the host's address serves 127.0.0.2:$GUEST_PORT of the guest"
	mark
	kill "$first"
	event '"type":"forwarding","protocol":"tcp","guestAddr":"127.0.0.2:'"$OTHER_PORT"'"'
	[ "$(ask 127.0.0.1 "$HOST_PORT")" = two ]
	expect 0 limactl list --json vm
	lacks out portConflicts
}

test_a_move_to_all_addresses_keeps_the_forward() {
	mark
	kill "$(tail -n1 "$BACKGROUND")"
	event '"type":"stopping"'
	expect 0 limactl ports add vm --temporary --static=false "$ADDED_PORT:127.0.0.2:$GUEST_PORT"
	mark
	serve 127.0.0.2 "$GUEST_PORT" here
	event '"hostAddr":"127.0.0.1:'"$ADDED_PORT"'"'
	kill "$PID"
	wait_gone "$PID" 5
	mark
	serve 0.0.0.0 "$GUEST_PORT" everywhere
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		case $(state_of "0.0.0.0:$GUEST_PORT" || true) in *forwarding*) break ;; esac
		tail -n "+$((MARK + 1))" -f "$EVENTS" 2>/dev/null | timeout 1 grep -q -m1 portForward || true
	done
	[ "$(ask 127.0.0.1 "$ADDED_PORT")" = everywhere ]
	kill "$PID"
	wait_gone "$PID" 5
	expect 0 limactl ports remove vm "$ADDED_PORT:127.0.0.2:$GUEST_PORT" --temporary
}

test_a_taken_port_is_remapped_where_the_rule_says_so() {
	local port

	serve 127.0.0.1 "$REMAP_PORT" foreign
	mark
	serve 127.0.0.2 "$REMAP_PORT" mine
	event '"type":"forwarding","protocol":"tcp","guestAddr":"127.0.0.2:'"$REMAP_PORT"'"'
	port=$(state_of "127.0.0.2:$REMAP_PORT" | sed 's/.*127.0.0.1:\([0-9]*\) forwarding true/\1/')
	[ "$port" != "$REMAP_PORT" ]
	[ "$(ask 127.0.0.1 "$port")" = mine ]
	[ "$(ask 127.0.0.1 "$REMAP_PORT")" = foreign ]
}

test_a_port_that_its_owner_gives_back_is_forwarded_at_once() {
	serve 127.0.0.1 "$ADDED_PORT" foreign
	expect 1 limactl ports add vm "$ADDED_PORT:127.0.0.2:$GUEST_PORT"
	has err "listening on 127.0.0.1:$ADDED_PORT: Address already in use by process $PID (python3"
	! grep -q "$ADDED_PORT" "$LIMA_HOME/vm/lima.yaml" || fail "lima.yaml was changed"
	expect 0 limactl ports add vm --temporary --on-conflict skip "$ADDED_PORT:127.0.0.2:$REMAP_PORT"
	has err "conflict"
	mark
	kill "$PID"
	event '"type":"forwarding".*"hostAddr":"127.0.0.1:'"$ADDED_PORT"'"'
	[ "$(ask 127.0.0.1 "$ADDED_PORT")" = mine ]
	expect 0 limactl ports remove --temporary vm "$ADDED_PORT:127.0.0.2:$REMAP_PORT"
	expect 1 limactl ports remove --temporary vm "$ADDED_PORT:127.0.0.2:$REMAP_PORT"
	has err 'has no such rule'
}

test_added_rules_are_kept_in_lima_yaml_unless_temporary() {
	local temporary lasting

	lasting=$(free_port)
	expect 0 limactl ports add vm "$lasting:127.0.0.2:$REMAP_PORT"
	temporary=$(free_port)
	expect 0 limactl ports add vm "127.0.0.3:$temporary:127.0.0.2:$REMAP_PORT" --temporary
	[ "$(ask 127.0.0.1 "$lasting")" = mine ]
	[ "$(ask 127.0.0.3 "$temporary")" = mine ]
	grep -q "^# what leads where" "$LIMA_HOME/vm/lima.yaml"
	grep -q "guestPort: $GUEST_PORT # first" "$LIMA_HOME/vm/lima.yaml"
	grep -q "hostPort: $lasting" "$LIMA_HOME/vm/lima.yaml"
	! grep -q "$temporary" "$LIMA_HOME/vm/lima.yaml" || fail "a temporary rule is in lima.yaml"
	expect 0 limactl restart vm
	wait_line "$EVENTS" '"hostAddr":"127.0.0.1:'"$lasting"'"' 10
	[ "$(ask 127.0.0.1 "$lasting")" = mine ]
	expect 0 limactl ports vm
	lacks out "127.0.0.3:$temporary"

	expect 0 limactl ports remove vm "$lasting:127.0.0.2:$REMAP_PORT"
	! grep -q "$lasting" "$LIMA_HOME/vm/lima.yaml" || fail "the rule is still in lima.yaml"
	grep -q "^# what leads where" "$LIMA_HOME/vm/lima.yaml"
	expect 0 limactl ports vm
	lacks out "127.0.0.1:$lasting "
}

test_all_specs_of_a_command_or_none() {
	local free

	free=$(free_port)
	expect 1 limactl ports add vm "$free:80" "80:x"
	has err "'80:x', character 4: 'x' is not a port from 1 to 65535"
	serve 127.0.0.1 "$ADDED_PORT" foreign
	expect 1 limactl ports add vm "$free:80" "$ADDED_PORT:80"
	expect 0 limactl ports vm
	lacks out "127.0.0.1:$free "
	kill "$PID"
	expect 1 limactl ports add vm 22
	has err "22"
	expect 1 limactl ports add vm
}

test_a_socket_of_the_host_leads_to_a_port() {
	expect 0 limactl ports add vm --temporary "$TMP/s.sock:127.0.0.2:$REMAP_PORT"
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
assert s.recv(100) == b"mine\n"
' "$TMP/s.sock"
	[ "$(stat -c %a "$TMP/s.sock")" = 600 ]
	expect 0 limactl ports remove vm "$TMP/s.sock:127.0.0.2:$REMAP_PORT"
	[ ! -e "$TMP/s.sock" ]
}

# Answers each datagram to $1 port $2 with the text $3 in front of it.
serve_udp() {
	cat >"$TMP/serve_udp.py" <<-'PYTHON'
		import socket, sys
		s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		s.bind((sys.argv[1], int(sys.argv[2])))
		open(sys.argv[4], "w").close()
		while True:
		    data, who = s.recvfrom(65536)
		    s.sendto(sys.argv[3].encode() + data, who)
	PYTHON
	mkfifo "$TMP/ready.udp"
	background python3 "$TMP/serve_udp.py" "$1" "$2" "$3" "$TMP/ready.udp"
	cat "$TMP/ready.udp"
	rm "$TMP/ready.udp"
}

ask_udp() {
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
s.sendto(b"ping", (sys.argv[1], int(sys.argv[2])))
print(s.recv(65536).decode())
' "$1" "$2"
}

test_udp_is_forwarded_beside_tcp() {
	mark
	serve_udp 127.0.0.2 "$REMAP_PORT" echo:
	event '"type":"forwarding","protocol":"udp","guestAddr":"127.0.0.2:'"$REMAP_PORT"'"'
	[ "$(ask_udp 127.0.0.1 "$REMAP_PORT")" = echo:ping ]
	expect 0 limactl ports add vm --temporary "$ADDED_PORT:127.0.0.2:$REMAP_PORT/udp"
	[ "$(ask_udp 127.0.0.1 "$ADDED_PORT")" = echo:ping ]
	expect 0 limactl ports remove vm --temporary "$ADDED_PORT:127.0.0.2:$REMAP_PORT"
	kill "$PID"
}

test_a_socket_of_the_guest_leads_to_the_host() {
	cat >"$TMP/unix.py" <<-'PYTHON'
		import socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.bind(sys.argv[1])
		s.listen()
		open(sys.argv[2], "w").close()
		while True:
		    c, _ = s.accept()
		    c.sendall(b"of the host")
		    c.close()
	PYTHON
	mkfifo "$TMP/ready.unix"
	background python3 "$TMP/unix.py" "$TMP/host.sock" "$TMP/ready.unix"
	cat "$TMP/ready.unix"
	mark
	expect 0 limactl ports add vm --temporary --reverse "$TMP/host.sock:$TMP/guest/guest.sock"
	event '"type":"forwarding".*guest.sock'
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
assert s.recv(100) == b"of the host"
' "$TMP/guest/guest.sock"
	expect 0 limactl ports vm --format '{{.GuestAddr}} {{.State}} {{.Reverse}}'
	has out "$TMP/guest/guest.sock forwarding true"
	expect 0 limactl ports remove vm --reverse "$TMP/host.sock:$TMP/guest/guest.sock"
}

test_the_api_refuses_what_makes_no_sense() {
	local body

	for body in '[]' '{' '{"rule":1}' '{"rule":{},"x":1}' '{"rule":{"guestPort":99999}}' \
		'{"rule":{"guestPort":80,"hostIP":"x"}}' '{"rule":{"nobody":80}}' '{"rule":{},"temporary":1}'; do
		[ "$(curl -s -o /dev/null -w '%{http_code}' --unix-socket "$LIMA_HOME/vm/ha.sock" \
			-X POST -d "$body" http://localhost/v1/ports)" = 400 ] || fail "accepted: $body"
	done
	[ "$(curl -s -o /dev/null -w '%{http_code}' --unix-socket "$LIMA_HOME/vm/ha.sock" \
		-X PUT -d '{}' http://localhost/v1/ports)" = 405 ]
}

test_a_rule_that_must_work_makes_the_start_degraded() {
	expect 0 limactl stop vm
	expect 0 limactl ports add vm "$ADDED_PORT:127.0.0.2:$GUEST_PORT"
	expect 1 limactl ports add vm "$ADDED_PORT:127.0.0.2:$GUEST_PORT"
	has err 'lima.yaml has such a rule already'
	serve 127.0.0.1 "$ADDED_PORT" foreign
	expect 1 limactl start vm
	has err "is not forwarded to 127.0.0.1:$ADDED_PORT"
	mark
	kill "$PID"
	event '"type":"forwarding".*"hostAddr":"127.0.0.1:'"$ADDED_PORT"'"'
	! tail -n1 "$EVENTS" | grep -q degraded || fail "still degraded"
	expect 0 limactl delete -f vm
}

run_tests test_an_instance_that_does_not_run_has_no_forwards test_a_listener_is_listed_with_its_rule \
	test_a_second_service_of_a_host_port_stands_by_and_takes_over \
	test_a_move_to_all_addresses_keeps_the_forward test_a_taken_port_is_remapped_where_the_rule_says_so \
	test_a_port_that_its_owner_gives_back_is_forwarded_at_once \
	test_added_rules_are_kept_in_lima_yaml_unless_temporary test_all_specs_of_a_command_or_none \
	test_a_socket_of_the_host_leads_to_a_port test_udp_is_forwarded_beside_tcp \
	test_a_socket_of_the_guest_leads_to_the_host test_the_api_refuses_what_makes_no_sense \
	test_a_rule_that_must_work_makes_the_start_degraded
