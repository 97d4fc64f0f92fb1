#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Commands through the guest agent, which the fake QEMU runs as a process of this host: whatever a command
# does in the "guest" is done by whoever runs the tests.
. "$(dirname "$0")/lib.sh"

: "${FAKE_QEMU:?}" "${GUESTAGENT:?}"

[ "$(uname -m)" = x86_64 ] || skip_all "the fake QEMU is one for x86_64"

here=$(cd "$(dirname "$0")" && pwd)
export QEMU_SYSTEM_X86_64=$FAKE_QEMU
export FAKE_QEMU_GUEST=$GUESTAGENT

# A login shell without the profile of whoever runs the tests.
make_shell() {
	cat >"$TMP/shell" <<-'SHELL'
		#!/bin/bash
		shift # -l
		exec /bin/bash --noprofile --norc "$@"
	SHELL
	chmod +x "$TMP/shell"
}

guest() {
	limactl shell --transport agent --shell "$TMP/shell" --workdir / x "$@"
}

# The pid of the command that wrote it to file $1, once it is there.
pid_from() {
	wait_line "$1" '[0-9]' 10
	cat "$1"
}

test_start() {
	make_shell
	truncate -s 1M "$TMP/disk.img"
	limactl create --name x - <<-YAML
		arch: x86_64
		images:
		- location: $TMP/disk.img
		cpus: 1
		memory: 256MiB
		disk: 2MiB
		portForwards:
		- guestPortRange: [1, 65535]
		  ignore: true
	YAML
	expect 0 limactl start x
	[ "$(stat -c %a "$LIMA_HOME/x/ga.sock")" = 600 ]
}

test_every_exit_status_passes() {
	local status

	for status in 0 1 2 42 126 127 128 137 254 255; do
		expect "$status" guest sh -c "exit $status"
	done
	expect 0 guest true
	expect 1 guest false
}

test_a_killed_command_tells_its_signal() {
	expect 137 guest sh -c 'kill -KILL $$'
	expect 143 guest sh -c 'kill $$'
	expect 139 guest sh -c 'ulimit -c 0; kill -SEGV $$'
}

test_arguments_arrive_unchanged() {
	local odd=$'two  words\nline 2\n\t\'single\' "double" $HOME `id` \\ * ~ ; & | > # \xff\xfe'

	expect 0 guest printf '%s|' "$odd" '' -n '$(exit 3)' ''
	printf '%s|' "$odd" '' -n '$(exit 3)' '' | cmp - "$TMP/out"
	expect 0 guest FOO='a b' sh -c 'echo "$FOO"'
	is 'a b'
	expect 0 guest "$(head -c 100000 /dev/zero | tr '\0' x | sed 's/^/echo /' | cut -c 1-4)" ok
	is ok
}

test_an_argument_list_that_is_too_long_is_named() {
	local long

	long=$(head -c 100000 /dev/zero | tr '\0' x)
	expect 0 guest sh -c 'echo ${#1}' sh "$long"
	is 100000
	expect 1 guest echo "$long" "$long" "$long"
	has err 'more than fits one request'
	has err 'standard input'
}

test_environment() {
	expect 0 guest sh -c 'echo "$HOME $LOGNAME $USER $SHELL"'
	is "$(getent passwd "$(id -u)" | awk -F: '{print $6, $1, $1, $7}')"
	expect 0 env VAR='x "y"' "$LIMACTL" shell --preserve-env --shell "$TMP/shell" x sh -c 'echo "$VAR"'
	is 'x "y"'
	expect 0 env VAR=x "$LIMACTL" shell --shell "$TMP/shell" x sh -c 'echo "${VAR-none}"'
	is none
	# Nothing of the agent's own.
	expect 1 guest sh -c 'env | grep FAKE_QEMU'
}

test_a_command_is_an_ordinary_process() {
	expect 0 guest python3 -c '
import os, signal
print(os.getsid(0) != os.getppid(), sorted(os.listdir("/proc/self/fd"), key=int)[:3])
print([s for s in range(1, 32) if s not in (9, 19) and signal.getsignal(s) == signal.SIG_IGN])
print(signal.pthread_sigmask(signal.SIG_BLOCK, []), oct(os.umask(0)))
print(open("/proc/self/oom_score_adj").read().strip(), len(os.listdir("/proc/self/fd")))
'
	# Python itself ignores SIGPIPE and SIGXFSZ; the listing has a descriptor of its own.
	is "True ['0', '1', '2']"$'\n[13, 25]\nset() 0o22\n0 4'
}

test_working_directory() {
	expect 0 limactl shell --shell "$TMP/shell" --workdir /usr x pwd
	is /usr
	expect 0 limactl shell --shell "$TMP/shell" x pwd
	is "$(getent passwd "$(id -u)" | cut -d: -f6)"
	expect 1 limactl shell --shell "$TMP/shell" --workdir /no/such x pwd
	has err "entering '/no/such': No such file or directory"
}

test_what_cannot_be_executed_is_named() {
	expect 127 limactl shell --shell /no/such x true
	has err '/no/such: No such file or directory'
	expect 126 limactl shell --shell /etc/passwd x true
	has err '/etc/passwd: Permission denied'
	expect 127 guest no-such-command
	has err 'no-such-command'
}

test_bytes_pass_both_ways() {
	head -c 50000000 /dev/urandom >"$TMP/blob"
	local begin

	begin=$(now)
	guest cat <"$TMP/blob" | cmp - "$TMP/blob"
	echo "50 MB there and back in $(($(now) - begin)) ms"
	printf 'in\0put' | guest cat | cmp - <(printf 'in\0put')
	expect 0 guest sh -c 'echo out; echo err >&2'
	[ "$(cat "$TMP/out") $(cat "$TMP/err")" = "out err" ]
}

test_a_slow_reader_loses_nothing() {
	guest seq 1000000 | python3 -c '
import hashlib, sys
total = hashlib.sha256()
while data := sys.stdin.buffer.read1(777):
    total.update(data)
print(total.hexdigest())' >"$TMP/got"
	[ "$(cat "$TMP/got")" = "$(seq 1000000 | sha256sum | cut -d' ' -f1)" ]
}

test_a_command_that_does_not_read_hears_signals() {
	local pid

	# Standard input is full: more than all windows and pipes on the way hold.
	head -c 5000000 /dev/zero | "$LIMACTL" shell --shell "$TMP/shell" x sh -c \
		'trap "echo heard; exit 3" TERM; echo "$PPID" >&2; sleep 60 & wait' >"$TMP/heard" 2>"$TMP/pid" &
	pid=$!
	wait_line "$TMP/pid" '[0-9]' 10
	kill -TERM "$pid"
	wait "$pid" && fail "status 0" || [ "$?" -eq 3 ]
	[ "$(cat "$TMP/heard")" = heard ]
}

test_input_that_nobody_wants_ends_its_writer() {
	timeout 10 bash -c 'yes | "$@"; echo "${PIPESTATUS[0]}"' bash \
		"$LIMACTL" shell --shell "$TMP/shell" x sh -c 'exec <&-; sleep 0.2; echo done' >"$TMP/out"
	is $'done\n141'
}

test_output_that_nobody_wants_ends_the_command() {
	timeout 10 bash -c '"$@" | head -1; echo "${PIPESTATUS[0]}"' bash \
		"$LIMACTL" shell --shell "$TMP/shell" x sh -c 'echo $$ >'"$TMP/yes.pid"'; exec yes' >"$TMP/out"
	is $'y\n141'
	wait_gone "$(cat "$TMP/yes.pid")" 5
}

test_closed_and_empty_streams() {
	expect 0 guest cat </dev/null
	is ''
	expect 0 guest sh -c 'cat; echo end' <&-
	is end
	guest true >&- 2>&-
	guest sh -c 'echo x; echo y >&2' >&- 2>&- <&-
}

test_output_outlives_the_command() {
	expect 5 guest sh -c '(sleep 0.2; echo late) & exit 5'
	is late
}

test_flags_of_our_descriptors_stay() {
	python3 - "$LIMACTL" "$TMP/shell" <<-'PYTHON'
		import fcntl, os, subprocess, sys
		ours, theirs = os.pipe()
		flags = fcntl.fcntl(theirs, fcntl.F_GETFL)
		p = subprocess.Popen([sys.argv[1], "shell", "--shell", sys.argv[2], "x", "sh", "-c", "echo a; read b"],
		                     stdin=subprocess.PIPE, stdout=theirs)
		assert os.read(ours, 10) == b"a\n"
		assert fcntl.fcntl(theirs, fcntl.F_GETFL) == flags
		assert fcntl.fcntl(p.stdin, fcntl.F_GETFL) & os.O_NONBLOCK == 0
		p.communicate(b"b\n")
		assert p.returncode == 0
	PYTHON
}

test_a_killed_client_hangs_the_command_up() {
	local client

	sleep 60 | "$LIMACTL" shell --shell "$TMP/shell" x sh -c 'echo $$ >'"$TMP/sleep.pid"'; exec sleep 60' &
	client=$!
	pid_from "$TMP/sleep.pid"
	kill -KILL "$client"
	wait_gone "$(cat "$TMP/sleep.pid")" 5
}

test_signals_are_passed_on() {
	timeout 30 python3 - "$LIMACTL" "$TMP/shell" <<-'PYTHON'
		import signal, subprocess, sys
		signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
		for name in "INT", "TERM", "HUP":
		    # What the command leaves running would hold the pipes.
		    script = f"trap 'echo got; kill $!; exit 4' {name}; sleep 60 & echo ready; wait"
		    p = subprocess.Popen([sys.argv[1], "shell", "--shell", sys.argv[2], "x", "bash", "-c", script],
		                         stdout=subprocess.PIPE, text=True)
		    assert p.stdout.readline() == "ready\n"
		    p.send_signal(getattr(signal, "SIG" + name))
		    assert p.stdout.readline() == "got\n", name
		    assert p.wait() == 4, (name, p.returncode)
	PYTHON
}

test_the_third_signal_ends_us() {
	timeout 30 python3 - "$LIMACTL" "$TMP/shell" <<-'PYTHON'
		import os, select, signal, subprocess, sys
		script = "trap 'echo no' TERM; echo $$; while :; do sleep 60 & wait; done"
		p = subprocess.Popen([sys.argv[1], "shell", "--shell", sys.argv[2], "x", "bash", "-c", script],
		                     stdout=subprocess.PIPE, text=True)
		command = os.pidfd_open(int(p.stdout.readline()))
		for _ in range(2):
		    p.send_signal(signal.SIGTERM)
		    assert p.stdout.readline() == "no\n"
		p.send_signal(signal.SIGTERM)
		assert p.wait() == -signal.SIGTERM, p.returncode
		assert select.select([command], [], [], 10)[0], "the command runs on"
	PYTHON
}

test_a_terminal() {
	timeout 60 "$here/shell_pty.py" "$LIMACTL" "$TMP/shell"
}

test_a_broken_connection_is_255_at_once() {
	local client vm begin status=0

	rm -f "$TMP/sleep.pid"
	limactl shell --shell "$TMP/shell" x sh -c 'echo $$ >'"$TMP/sleep.pid"'; exec sleep 60' 2>"$TMP/err" &
	client=$!
	pid_from "$TMP/sleep.pid"
	begin=$(now)
	kill -KILL "$(pgrep -f "^$GUESTAGENT run" -P "$(cat "$LIMA_HOME/x/qemu.pid")")"
	wait "$client" || status=$?
	[ $(($(now) - begin)) -lt 1000 ] || fail "it took $(($(now) - begin)) ms"
	[ "$status" -eq 255 ] || fail "status $status"
	has err 'the connection to instance `x` broke'
}

test_without_an_agent_ssh_is_used() {
	# The stand-in for ssh says what it was called with.
	printf '#!/bin/sh\ncase "$*" in *-V*) echo OpenSSH_9.2p1 >&2;; *) echo ssh "$@";; esac\n' >"$TMP/ssh"
	chmod +x "$TMP/ssh"
	expect 0 env SSH="$TMP/ssh" "$LIMACTL" shell x true
	has out 'exec /bin/bash -l -c true'
	expect 1 env SSH="$TMP/ssh" "$LIMACTL" shell --transport agent x true
	has err 'the guest agent runs no commands now'
	has err -- '--transport=ssh'
	expect 1 limactl shell --transport pigeon x true
	has err "invalid --transport 'pigeon'"
}

run_tests test_start test_every_exit_status_passes test_a_killed_command_tells_its_signal \
	test_arguments_arrive_unchanged test_an_argument_list_that_is_too_long_is_named test_environment \
	test_a_command_is_an_ordinary_process test_working_directory test_what_cannot_be_executed_is_named \
	test_bytes_pass_both_ways test_a_slow_reader_loses_nothing \
	test_a_command_that_does_not_read_hears_signals test_input_that_nobody_wants_ends_its_writer \
	test_output_that_nobody_wants_ends_the_command test_closed_and_empty_streams \
	test_output_outlives_the_command test_flags_of_our_descriptors_stay \
	test_a_killed_client_hangs_the_command_up test_signals_are_passed_on test_the_third_signal_ends_us test_a_terminal \
	test_a_broken_connection_is_255_at_once test_without_an_agent_ssh_is_used
