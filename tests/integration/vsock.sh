#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Tunnels over vsock, with a fake QEMU and a fake vhost-device-vsock around the real agents.
. "$(dirname "$0")/lib.sh"

: "${FAKE_QEMU:?}" "${FAKE_VSOCK:?}" "${GUESTAGENT:?}"

[ "$(uname -m)" = x86_64 ] || skip_all "the fake QEMU is one for x86_64"

here=$(cd "$(dirname "$0")" && pwd)
export QEMU_SYSTEM_X86_64=$FAKE_QEMU
export FAKE_QEMU_GUEST=$GUESTAGENT
export FAKE_QEMU_STREAM=$TMP/stream.sock
export FAKE_VSOCK_LOG=$TMP/vsock.log
export LIMA_GUEST_TRANSPORT=vsock
mkdir "$TMP/bin"
ln -s "$FAKE_VSOCK" "$TMP/bin/vhost-device-vsock"
export PATH=$TMP/bin:$PATH

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
	YAML
}

# The host agent's log has a line that matches.
log_has() {
	wait_line "$LIMA_HOME/one/ha.stderr.log" "$1" 20
}

connections() {
	grep -c connected "$FAKE_VSOCK_LOG" || true
}

info() {
	curl -fsS --unix-socket "$LIMA_HOME/one/ha.sock" http://lima/v1/info
}

test_vsock_is_found_and_used() {
	template | expect 0 limactl create --name one -
	expect 0 limactl start one
	log_has 'interactive ones by vsock, bulk by vsock'
	info | grep -q '"bulk":"vsock"'
	expect 0 limactl list --yq .guest.transport.bulk one
	is vsock
	background "$here/vm_traffic.py" serve "$GUEST_PORT"
	"$here/vm_traffic.py" wait "$HOST_PORT" open 10
	before=$(connections)
	"$here/vm_traffic.py" call "$HOST_PORT" 100 20
	[ "$(connections)" -ge $((before + 100)) ] || fail "only $(($(connections) - before)) connections"
}

test_a_vsock_that_dies_leaves_virtio_serial() {
	local before

	pkill -KILL -f "$LIMA_HOME/one/vsock.sock"
	log_has 'ended with signal 9'
	before=$(connections)
	"$here/vm_traffic.py" call "$HOST_PORT" 50 10
	[ "$(connections)" = "$before" ]
	expect 0 limactl stop one
	[ -z "$(find "$LIMA_HOME/one" -name '*.pid' -o -name '*.sock')" ] || fail "left: $(ls "$LIMA_HOME/one")"
}

test_virtio_forbids_it() {
	LIMA_GUEST_TRANSPORT=virtio expect 0 limactl start one
	[ ! -e "$LIMA_HOME/one/vsock.sock" ]
	info | grep -q '"bulk":"virtio-serial"'
	expect 0 limactl stop one
}

test_a_vsock_that_does_not_start_is_no_failure() {
	printf '#!/bin/sh\necho broken; exit 1\n' >"$TMP/broken"
	chmod +x "$TMP/broken"
	ln -sf "$TMP/broken" "$TMP/bin/vhost-device-vsock"
	expect 0 limactl start one
	grep -q 'no vsock' "$LIMA_HOME/one/ha.stderr.log"
	grep -q broken "$LIMA_HOME/one/vsock.log"
	"$here/vm_traffic.py" wait "$HOST_PORT" open 10
	"$here/vm_traffic.py" call "$HOST_PORT" 10 10
	expect 0 limactl delete -f one
	! pgrep -f "$LIMA_HOME/one/" || fail "a process is left"
}

run_tests test_vsock_is_found_and_used test_a_vsock_that_dies_leaves_virtio_serial test_virtio_forbids_it \
	test_a_vsock_that_does_not_start_is_no_failure
