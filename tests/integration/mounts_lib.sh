# SPDX-License-Identifier: Apache-2.0
# For tests of mounts: a fake QEMU around the real guest agent, whose kernel is this host's, in a mount
# namespace of its own. To be sourced first.
if [ -z "${MOUNTS_NAMESPACE:-}" ]; then
	if [ "$(uname -m)" != x86_64 ] || [ "$(id -u)" -ne 0 ] || [ ! -c /dev/fuse ] || ! unshare -m true 2>/dev/null; then
		echo "1..0 # SKIP needs x86_64, root, /dev/fuse and a mount namespace"
		exit 0
	fi
	MOUNTS_NAMESPACE=1 exec unshare -m --propagation private "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"

: "${FAKE_QEMU:?}" "${GUESTAGENT:?}" "${FILESERVER:?}" "${HOSTAGENT:?}"

export QEMU_SYSTEM_X86_64=$FAKE_QEMU
export FAKE_QEMU_GUEST=$GUESTAGENT
HERE=$(dirname "$0")

# As installed, not as built: each program has to find the others.
mkdir -p "$TMP/prefix/bin" "$TMP/prefix/libexec/lima" "$TMP/prefix/share/lima"
cp "$LIMACTL" "$TMP/prefix/bin/limactl"
cp -RL "$(dirname "$LIMACTL")/../share/lima/." "$TMP/prefix/share/lima/"
cp "$HOSTAGENT" "$TMP/prefix/libexec/lima/lima-hostagent"
cp "$FILESERVER" "$TMP/prefix/libexec/lima/lima-fileserver"
LIMACTL=$TMP/prefix/bin/limactl
SHARED=$TMP/shared
SEEN=$TMP/guest/seen
READ_ONLY="$TMP/guest/read only"
NESTED=$SEEN/nested

end_mounts() {
	"$LIMACTL" delete -f vm 2>/dev/null
	awk -v top="$TMP/" 'index($5, top) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r point; do
		umount -l "$(printf '%b' "$point")"
	done
	clean_up
}
trap end_mounts EXIT

# The state of the mount at $1.
state() {
	limactl mounts vm --json | python3 -c '
import json, sys
for line in sys.stdin:
    mount = json.loads(line)
    if mount["mountPoint"] == sys.argv[1]:
        print(mount["state"])' "$1"
}

# Waits until the file at $1 can be read, for at most $2 seconds.
wait_readable() {
	timeout "$2" cat "$1" >/dev/null || fail "$1 is not readable within $2 s"
}

server_pid() {
	pgrep -f "lima-fileserver --source $1 --dir"
}

# Writes the template $TMP/vm.yaml, which ends with the lines of standard input.
write_template() {
	chmod 711 "$TMP" # other users have to get to the mounts
	mkdir -p "$SHARED" "$TMP/guest"
	truncate -s 1M "$TMP/disk.img"
	{
		cat <<-YAML
			arch: x86_64
			images:
			- location: $TMP/disk.img
			cpus: 1
			memory: 256MiB
			disk: 2MiB
			user:
			  name: nobody
			portForwards: # the "guest" has the ports of this host, and so those of other tests
			- guestPortRange: [1, 65535]
			  guestIP: 0.0.0.0
			  guestIPMustBeZero: false
			  ignore: true
		YAML
		cat
	} >"$TMP/vm.yaml"
}
