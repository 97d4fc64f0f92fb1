# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For the integration tests: sourced by bash. Each test is a function, run in a subshell under set -e; its
# output is shown only if it fails. Everything happens below one temporary folder, $TMP, with its own
# LIMA_HOME; at the end all instances are killed and the folder goes away.
#
#	. "$(dirname "$0")/lib.sh"
#	test_x() { ... }
#	run_tests test_x test_y
#
# Meson gives LIMACTL, FAKE_QEMU and GUESTAGENT.

: "${LIMACTL:?is set by meson test}"

TMP=$(mktemp -d "${TMPDIR:-/tmp}/lima-test.XXXXXX")
export LIMA_HOME=$TMP/home
export XDG_CACHE_HOME=$TMP/cache
export HOME=$TMP/user
export LIMA_GUEST_TRANSPORT=${LIMA_GUEST_TRANSPORT:-virtio} # tests of vsock say so themselves
unset LIMA_INSTANCE LIMA_SHELL LIMA_WORKDIR LIMA_TEMPLATES_PATH _LIMA_OUTPUT_IS_TTY
mkdir -p "$HOME"
BACKGROUND=$TMP/background # pids of what tests left running, one a line
: >"$BACKGROUND"

limactl() {
	"$LIMACTL" "$@"
}

clean_up() {
	local names pid

	while read -r pid; do
		kill -KILL "$pid" 2>/dev/null || true
	done <"$BACKGROUND"
	mapfile -t names < <("$LIMACTL" list -q 2>/dev/null)
	if [ "${#names[@]}" -gt 0 ]; then
		"$LIMACTL" delete -f "${names[@]}" 2>/dev/null || true
	fi
	rm -rf "$TMP"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

skip_all() {
	echo "1..0 # SKIP $*"
	exit 0
}

run_tests() {
	local number=0 name status

	echo "1..$#"
	for name in "$@"; do
		number=$((number + 1))
		(
			set -eu
			"$name"
		) >"$TMP/log" 2>&1
		status=$?
		if [ "$status" -eq 0 ]; then
			echo "ok $number - ${name#test_}"
		else
			sed 's/^/# /' "$TMP/log"
			echo "not ok $number - ${name#test_}"
		fi
	done
}

fail() {
	echo "FAILED: $*"
	exit 1
}

# Runs a command that has to end with status $1; stdout in $TMP/out, stderr in $TMP/err.
expect() {
	local want=$1 got=0

	shift
	echo "+ $*"
	"$@" >"$TMP/out" 2>"$TMP/err" || got=$?
	cat "$TMP/out" "$TMP/err"
	[ "$got" -eq "$want" ] || fail "status $got, not $want: $*"
}

# The last command's stdout or stderr (out, err) contains the fixed text.
has() {
	grep -qF -- "$2" "$TMP/$1" || fail "std$1 lacks: $2"
}

lacks() {
	! grep -qF -- "$2" "$TMP/$1" || fail "std$1 has: $2"
}

# stdout is exactly this text.
is() {
	[ "$(cat "$TMP/out")" = "$1" ] || fail "stdout is not: $1"
}

# Starts a command that the end of the tests kills; its pid in $PID.
background() {
	"$@" &
	PID=$!
	echo "$PID" >>"$BACKGROUND"
}

# Waits until a line of file $1, which may not be there yet, matches $2; at most $3 seconds.
wait_line() {
	timeout "$3" grep -q -m1 -e "$2" < <(exec tail --pid="$$" -n +1 -F "$1" 2>/dev/null) ||
		fail "no line of $1 matches '$2' within $3 s"
}

# The same for $4 lines, counted from the first one of the file.
wait_lines() {
	timeout "$3" grep -q -m1 . < <(exec tail --pid="$$" -n +1 -F "$1" 2>/dev/null | grep --line-buffered -e "$2" | sed -nu "$4p") ||
		fail "fewer than $4 lines of $1 match '$2' within $3 s"
}

# Waits until process $1 is gone, whoever its parent is; at most $2 seconds.
wait_gone() {
	python3 - "$1" "$2" <<-'PYTHON' || fail "process $1 is still there after $2 s"
		import os, select, sys
		try:
		    fd = os.pidfd_open(int(sys.argv[1]))
		except ProcessLookupError:
		    sys.exit(0)
		sys.exit(not select.select([fd], [], [], float(sys.argv[2]))[0])
	PYTHON
}

# A TCP port of 127.0.0.1 that nobody uses.
free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Milliseconds.
now() {
	date +%s%3N
}
