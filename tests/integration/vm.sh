#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Real machines: QEMU, the kernel and cloud-init of an image that is built from Debian's packages once per
# build folder. Few machines are booted and much is asked of each; tests run in the order given below and
# build upon each other.
#
# Meson gives VM_IMAGES, the folder that keeps the image, and LIMA_DATADIR.

. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
: "${VM_IMAGES:?is set by meson test}"

for program in qemu-system-x86_64 qemu-img mmdebstrap ssh python3 curl; do
    command -v "$program" >/dev/null || skip_all "$program is not installed"
done
[ "$(uname -m)" = x86_64 ] || skip_all "no image for $(uname -m) is built here yet"

mkdir -p "$VM_IMAGES" "$LIMA_HOME"
chmod 700 "$LIMA_HOME"
ln -s "$VM_IMAGES" "$LIMA_HOME/_images"

# Seconds: generous, since a machine may be emulated on a busy host. The product's own bounds are tested
# by numbers of their own.
BOOT=600
DIR=$LIMA_HOME/a

# In the guest; never interactive.
guest() {
    limactl shell --transport "${WAY:-auto}" --workdir / a "$@" </dev/null
}

# Starts the machine that the first tests made; without one, limactl would make another.
start_again() {
    [ -e "$DIR/lima.yaml" ] || fail "there is no instance to start"
    limactl --tty=false start --timeout "${BOOT}s" a
}

SHARED=$TMP/shared
DEVICES=$TMP/devices # apart: a touch there is a change of attributes to a mount by the agent
SEEN="/home/tester.guest/shared folder"

write_template() {
    # What is there from the start is held by the guest agent before anybody can watch it.
    mkdir -p "$SHARED" "$DEVICES/touched/old/folder"
    echo one >"$DEVICES/touched/old/folder/file"
    echo "from the host" >"$SHARED/file"
    echo "from the host" >"$DEVICES/file"
    cat >"$TMP/a.yaml" <<YAML
images:
- location: image:debian-12
  arch: x86_64
cpus: 2
memory: 1GiB
disk: 6GiB
mountInotify: true
mounts:
- location: "$TMP/shared"
  mountPoint: "{{.Home}}/shared folder"
  writable: true
- location: "$TMP/shared"
  mountPoint: /mnt/by-9p
  type: 9p
- location: "$TMP/devices"
  mountPoint: /mnt/by-9p-writable
  type: 9p
  writable: true
- location: "$TMP/devices"
  mountPoint: /mnt/by-virtiofs
  type: virtiofs
  writable: true
- location: "$TMP/shared"
  mountPoint: /mnt/by-sshfs
  type: reverse-sshfs
  writable: true
user:
  name: tester
  comment: "Tester of 'odd' \\"names\\""
env:
  GREETING: "hello world"
param:
  word: "one 'two' \\"three\\" \$four"
provision:
- mode: boot
  script: |
    echo "boot \$PARAM_word" >>/var/tmp/boot-script
- mode: system
  script: |
    #!/bin/bash
    cp "/home/tester.guest/shared folder/file" /var/tmp/copied-from-the-host
    echo "\$(id -un) \$PARAM_word" >/var/tmp/system-script
- mode: user
  script: |
    #!/bin/bash
    echo "\$(id -un) \$HOME \$PARAM_word" >/var/tmp/user-script
probes:
- description: "the scripts have run"
  script: |
    #!/bin/bash
    test -e /var/tmp/user-script
  hint: "see /var/tmp"
YAML
}

test_an_image_is_built_once() {
    [ -e "$VM_IMAGES/debian-12/info.json" ] || limactl image build debian-12
    expect 0 limactl image list
    has out debian-12
    for file in disk kernel initrd cmdline; do
        [ -s "$VM_IMAGES/debian-12/$file" ] || fail "there is no $file"
    done
}

test_start_of_a_new_instance_ends_ready() {
    write_template
    expect 0 limactl --tty=false start --timeout "${BOOT}s" --name a "$TMP/a.yaml"
    has err READY
}

test_shell_passes_the_exit_status_on() {
    for WAY in agent ssh; do
        expect 37 guest sh -c 'exit 37'
        expect 0 guest -- true
        expect 1 guest false
        expect 127 guest no-such-command
    done
    WAY=agent expect 137 guest sh -c 'kill -KILL $$'
    WAY=agent expect 143 guest sh -c 'kill $$'
    # ssh does not tell which signal ended a command.
    WAY=ssh expect 255 guest sh -c 'kill $$'
}

test_shell_passes_arguments_on_unchanged() {
    local odd=$'two  words\nline 2\n\t\'single\' "double" $HOME `id` \\ * ~ ; & | > #'

    for WAY in agent ssh; do
        expect 0 guest printf '%s|' "$odd" '' -n '$(exit 3)'
        is "$odd||-n|\$(exit 3)|"
        expect 0 guest sh -c 'sh -c "printf %s \"nested '"'"'quotes'"'"'\""'
        is "nested 'quotes'"
        expect 0 guest FOO='a b' sh -c 'echo "$FOO"'
        is 'a b'
        expect 0 limactl shell --transport "$WAY" --workdir /usr a pwd
        is /usr
        expect 0 env VAR='x "y"' "$LIMACTL" shell --transport "$WAY" --preserve-env --workdir / a \
            sh -c 'echo "$VAR"'
        is 'x "y"'
        printf 'in\0put' | limactl shell --transport "$WAY" --workdir / a cat | cmp - <(printf 'in\0put')
    done
}

test_a_command_is_the_users_either_way() {
    for WAY in agent ssh; do
        guest sh -c 'id; umask; ulimit -n; sudo -n id -u; systemctl --user show-environment >/dev/null && echo bus
            echo "$HOME $USER $LOGNAME $SHELL $PATH $XDG_RUNTIME_DIR $DBUS_SESSION_BUS_ADDRESS $LANG $GREETING"' \
            >"$TMP/$WAY"
    done
    diff "$TMP/agent" "$TMP/ssh"
    grep -q '^bus$' "$TMP/agent"
}

test_shell_works_under_the_name_lima() {
    expect 0 env LIMA_INSTANCE=a LIMACTL="$LIMACTL" "$LIMA" uname -s
    is Linux
}

test_list_shows_what_runs() {
    limactl list --json a >"$TMP/list.json"
    python3 - "$TMP/list.json" "$DIR" <<'PYTHON'
import json, os, sys
got = json.load(open(sys.argv[1]))
want = {"name": "a", "status": "Running", "hostname": "lima-a", "dir": sys.argv[2], "vmType": "qemu",
        "arch": "x86_64", "cpus": 2, "memory": 1 << 30, "disk": 6 << 30, "sshAddress": "127.0.0.1",
        "protected": False}
for key, value in want.items():
    assert got.get(key) == value, (key, got.get(key), value)
assert 0 < got["sshLocalPort"] < 65536, got
for key in ("hostAgentPID", "driverPID"):
    os.kill(got[key], 0)
PYTHON
    expect 0 limactl list --format '{{.Status}} {{.SSHLocalPort}}' a
    [ "$(cat "$TMP/out")" = "Running $(sed -n 's/^  Port //p' "$DIR/ssh.config")" ]
    ssh -F "$DIR/ssh.config" lima-a true
}

test_list_shows_what_the_guest_says() {
    expect 0 limactl list a --yq '.guest | [.os, .kernel, .bootID] | join("|")'
    is "$(guest sh -c '. /etc/os-release; echo "$PRETTY_NAME|$(uname -r)|$(cat /proc/sys/kernel/random/boot_id)"')"
    expect 0 limactl list a --yq '.guest | .memory.total > 800000000 and .memory.available > 0
        and .disk.total > 5000000000 and .disk.available > 0 and (.load | length) == 3'
    is true
}

test_a_clock_that_was_set_wrong_is_put_right() {
    local error

    guest sudo date -s '2001-02-03 04:05:06' >/dev/null
    wait_line "$DIR/ha.stderr.log" "the guest's clock was off by -" 120
    error=$(($(guest date +%s) - $(date +%s)))
    [ "${error#-}" -le 5 ] || fail "the guest is $error s off"
    guest sudo date -s '+1 hour' >/dev/null
    wait_line "$DIR/ha.stderr.log" "the guest's clock was off by 3[56]" 120
    error=$(($(guest date +%s) - $(date +%s)))
    [ "${error#-}" -le 5 ] || fail "the guest is $error s off"
}

test_the_guest_is_as_configured() {
    expect 0 guest id -un
    is tester
    expect 0 guest sh -c 'echo "$HOME" && hostname && getent hosts host.lima.internal | cut -d" " -f1'
    is $'/home/tester.guest\nlima-a\n192.168.5.2'
    expect 0 guest sh -c 'echo "$GREETING"; sudo -n id -u; nproc'
    is $'hello world\n0\n2'
    expect 0 guest sh -c 'getent passwd tester | cut -d: -f5'
    is "Tester of 'odd' \"names\""
    # The root file system fills the disk.
    expect 0 guest sh -c 'test "$(df --output=size -B1M / | tail -1)" -gt 5000'
    # What is on the seed is root's alone.
    expect 2 guest ls /mnt/lima-cidata/
}

test_scripts_have_run_as_the_right_users() {
    local word="one 'two' \"three\" \$four"

    expect 0 guest cat /var/tmp/boot-script /var/tmp/system-script /var/tmp/user-script
    is "boot $word"$'\n'"root $word"$'\n'"tester /home/tester.guest $word"
}

test_a_listener_is_forwarded_as_long_as_it_listens() {
    guest sudo systemd-run --quiet --unit=web --working-directory=/usr/share/doc \
        python3 -m http.server 8080
    "$here/vm_traffic.py" wait 8080 open 60
    curl -fsS --max-time 60 http://127.0.0.1:8080/ >"$TMP/index"
    grep -q openssh-server "$TMP/index"
    wait_line "$DIR/ha.stdout.log" '"forwarding".*8080' 5
    guest sudo systemctl stop web
    "$here/vm_traffic.py" wait 8080 closed 10
}

descriptors() {
    echo "host $(find "/proc/$(cat "$DIR/ha.pid")/fd" -mindepth 1 | wc -l)"
    echo "guest $(guest sudo sh -c 'ls /proc/$(pidof lima-guestagent | cut -d" " -f1)/fd | wc -l')"
}

test_a_thousand_connections_leave_nothing_behind() {
    local before

    limactl shell --workdir / a sudo tee /usr/local/bin/traffic <"$here/vm_traffic.py" >/dev/null
    guest sudo chmod +x /usr/local/bin/traffic
    guest sudo systemd-run --quiet --unit=echo -p LimitNOFILE=4096 /usr/local/bin/traffic serve 7100
    "$here/vm_traffic.py" wait 7100 open 60
    "$here/vm_traffic.py" call 7100 20 20
    before=$(descriptors)
    "$here/vm_traffic.py" call 7100 1000 200
    for _ in 1 2 3 4 5; do
        [ "$(descriptors)" != "$before" ] || return 0
    done
    fail "descriptors before: $before; after: $(descriptors)"
}

# Every port that our processes listen on at the host is tried from the guest as well.
test_nobody_in_the_guest_reaches_a_control_interface() {
    local ports

    ports=$(ss -Hltnp | grep -E "pid=($(cat "$DIR/ha.pid")|$(cat "$DIR/qemu.pid"))," | awk '{print $4}' |
        sed 's/.*://' | sort -un)
    # shellcheck disable=SC2086
    limactl shell --workdir / a sudo -u nobody python3 - $ports <"$here/vm_nobody.py" >"$TMP/out" ||
        fail "open: $(cat "$TMP/out")"
    # The host's sockets are the user's alone.
    find "$DIR" -type s ! -perm 600 >"$TMP/out"
    is ''
    [ "$(stat -c %a "$DIR")" = 700 ]
}

test_folders_of_the_host_are_mounted_before_the_scripts_run() {
    [ "$(guest cat /var/tmp/copied-from-the-host)" = "from the host" ]
    [ "$(guest cat "$SEEN/file")" = "from the host" ]
    [ "$(guest stat -c %U "$SEEN/file")" = tester ]
    [ "$(guest cat /mnt/by-9p/file)" = "from the host" ]
    expect 1 guest sudo touch /mnt/by-9p/new
    guest sh -c 'echo "from the guest" >"$1/new"' sh "$SEEN"
    [ "$(cat "$SHARED/new")" = "from the guest" ]
    [ "$(guest cat /mnt/by-virtiofs/file)" = "from the host" ]
    guest sudo sh -c 'echo "from the guest" >/mnt/by-virtiofs/new'
    [ "$(cat "$DEVICES/new")" = "from the guest" ]
    [ "$(guest cat /mnt/by-sshfs/new)" = "from the guest" ]
    guest cp /mnt/by-sshfs/new /mnt/by-sshfs/newest
    [ "$(cat "$SHARED/newest")" = "from the guest" ]
    guest grep -q "/mnt/by-sshfs fuse.sshfs" /proc/mounts
    echo changed >"$SHARED/file"
    [ "$(guest cat "$SEEN/file")" = changed ]
    expect 0 limactl mounts a
    has out "$SEEN"
    lacks out failed
    # Debian 12's QEMU has a virtiofsd for root; without one the guest agent mounts it.
    guest grep -q "/mnt/by-virtiofs $([ -x /usr/lib/qemu/virtiofsd ] && [ "$(id -u)" -eq 0 ] && echo virtiofs)" /proc/mounts
}

test_the_mounted_folder_is_a_file_system() {
    cp "$here/mounts_posix.py" "$SHARED/"
    mkdir "$SHARED/posix"
    cat >"$SHARED/posix.sh" <<-'SH'
	# The tests compare two views of a folder; the guest has but one of this one.
	exec python3 "$1/mounts_posix.py" "$1/posix" "$1/posix"
	SH
    guest sudo sh "$SEEN/posix.sh" "$SEEN" >"$TMP/tap"
    cat "$TMP/tap"
    ! grep -q '^not ok' "$TMP/tap"
    grep -c '^ok' "$TMP/tap" | grep -qx "$(sed -n 's/^1\.\.//p' "$TMP/tap")"
}

# By a device, they see a touch: of files that were there, and in folders that were not.
test_watchers_of_devices_see_a_touch() {
    local mtime top pids='' tops=/mnt/by-9p-writable

    guest grep -q '/mnt/by-virtiofs virtiofs' /proc/mounts && tops="$tops /mnt/by-virtiofs"
    cp "$here/mounts_touches.py" "$SHARED/"
    for top in $tops; do
        guest sudo python3 -u "$SEEN/mounts_touches.py" "$top/touched" >"$TMP/touches.${top##*/}" &
        pids="$pids $!"
    done
    for top in $tops; do
        wait_line "$TMP/touches.${top##*/}" "^watching old/folder" 30
    done
    echo two >>"$DEVICES/touched/old/folder/file"
    mtime=$(stat -c %y "$DEVICES/touched/old/folder/file")
    for top in $tops; do
        wait_line "$TMP/touches.${top##*/}" "^ATTRIB old/folder/file" 10
    done
    mkdir -p "$DEVICES/touched/new/folder"
    for top in $tops; do
        wait_line "$TMP/touches.${top##*/}" "^watching new/folder" 10
    done
    echo one >"$DEVICES/touched/new/folder/file"
    for top in $tops; do
        wait_line "$TMP/touches.${top##*/}" "^ATTRIB new/folder/file" 10
    done
    touch "$DEVICES/touched/end"
    # shellcheck disable=SC2086
    wait $pids
    # Neither the time nor anything else has come back.
    [ "$(stat -c %y "$DEVICES/touched/old/folder/file")" = "$mtime" ]
    for top in $tops; do
        [ "$(grep -c '^ATTRIB old/folder/file' "$TMP/touches.${top##*/}")" -eq 1 ]
    done
}

test_a_folder_by_virtiofs_comes_and_goes_while_the_machine_runs() {
    local pid record

    guest grep -q '/mnt/by-virtiofs virtiofs' /proc/mounts || return 0
    mkdir -p "$TMP/hot"
    echo hot >"$TMP/hot/file"
    for _ in 1 2; do
        expect 0 limactl mounts add a "$TMP/hot:/mnt/hot" --type virtiofs --writable --temporary
        guest grep -q '/mnt/hot virtiofs' /proc/mounts
        [ "$(guest cat /mnt/hot/file)" = hot ]
        guest sudo sh -c 'echo new >/mnt/hot/new'
        [ "$(cat "$TMP/hot/new")" = new ]
        record=$(find "$DIR" -name 'virtiofsd-*.pid' -newer "$TMP/hot/file")
        read -r pid _ <"$record"
        expect 0 limactl mounts remove a /mnt/hot
        wait_gone "$pid" 10
        [ ! -e "$record" ]
        ! guest grep -q '/mnt/hot' /proc/mounts
        touch "$TMP/hot/file"
    done
}

# The guest agent mounts what it served, and nothing in the guest waits for it.
test_a_virtiofsd_that_dies_is_replaced_and_forgotten() {
    local pid record

    guest grep -q '/mnt/by-virtiofs virtiofs' /proc/mounts || return 0
    touch "$TMP/hot/file"
    expect 0 limactl mounts add a "$TMP/hot:/mnt/hot" --type virtiofs --writable --temporary
    record=$(find "$DIR" -name 'virtiofsd-*.pid' -newer "$TMP/hot/file")
    read -r pid _ <"$record"
    kill -KILL -- "-$pid"
    wait_line "$DIR/ha.stderr.log" "the dead device of '/mnt/hot' is gone" 30
    guest grep -q '/mnt/hot fuse.lima' /proc/mounts
    [ "$(guest cat /mnt/hot/file)" = hot ]
    expect 0 guest timeout 20 sudo sync
    [ ! -e "$record" ]
    expect 0 limactl mounts remove a /mnt/hot
}

test_watchers_in_the_guest_see_what_the_host_does() {
    cp "$here/mounts_events.py" "$SHARED/"
    mkdir "$SHARED/events"
    EVENTS_QUIET=0.2 EVENTS_BURST=500 python3 "$here/mounts_events.py" "$SEEN/events" "$SHARED/events" "$TMP/local" \
        "$LIMACTL" shell --workdir / a sudo python3 -u "$SEEN/mounts_events.py" >"$TMP/tap" || true
    cat "$TMP/tap"
    ! grep -q '^not ok' "$TMP/tap"
    grep -c '^ok' "$TMP/tap" | grep -qx "$(sed -n 's/^1\.\.//p' "$TMP/tap")"
}

# 200 MB with an fsync each MB, while everything that carries them is killed in turn, or stands still.
STANDSTILL=30 # seconds
test_a_program_that_writes_notices_no_death() {
    local pid digest

    cat >"$SHARED/write.py" <<-'PYTHON'
	import hashlib, os, sys, time
	digest = hashlib.sha256()
	with open(sys.argv[1] + "/written", "wb", buffering=0) as f:
	    for i in range(200):
	        block = os.urandom(1 << 20)
	        assert f.write(block) == len(block)
	        os.fsync(f.fileno())
	        digest.update(block)
	        print(i, flush=True)
	        time.sleep(0.05)
	print("digest", digest.hexdigest(), flush=True)
	PYTHON
    guest sh -c 'cd /; setsid nohup python3 "$1/write.py" "$1" >"$1/progress" 2>&1 </dev/null &' sh "$SEEN"
    wait_line "$SHARED/progress" '^3$' 60
    guest sudo pkill -KILL -x lima-guestagent || true
    wait_line "$SHARED/progress" '^30$' 60
    pkill -KILL -f "lima-fileserver --source $SHARED "
    wait_line "$SHARED/progress" '^60$' 60
    pid=$(cat "$DIR/ha.pid")
    kill -KILL "$pid"
    wait_gone "$pid" 10
    start_again
    wait_line "$SHARED/progress" '^100$' 60
    pid=$(cat "$DIR/qemu.pid")
    kill -STOP "$pid"
    expect 0 limactl mounts a
    has out "the guest does not answer"
    lacks out mounted
    sleep "$STANDSTILL" # the fault itself
    expect 0 limactl mounts a
    has out "the guest does not answer"
    kill -CONT "$pid"
    wait_line "$SHARED/progress" '^digest' 240
    digest=$(sed -n 's/^digest //p' "$SHARED/progress")
    [ "$digest" = "$(sha256sum <"$SHARED/written" | cut -d' ' -f1)" ] || fail "$(cat "$SHARED/progress")"
    expect 0 limactl mounts a
    has out mounted
    lacks out waiting
    lacks out failed
}

test_a_mount_is_there_within_half_a_second_and_goes_without_a_trace() {
    local began taken

    mkdir "$TMP/added"
    echo added >"$TMP/added/file"
    for _ in 1 2 3 4 5; do
        began=$(now)
        limactl mounts add a "$TMP/added:/mnt/added" --temporary
        taken=$(($(now) - began))
        echo "added in $taken ms"
        [ "$(guest cat /mnt/added/file)" = added ]
        limactl mounts remove a /mnt/added
    done
    expect 1 guest cat /mnt/added/file
    expect 1 guest grep /mnt/added /proc/mounts
    [ "$(pgrep -fc "lima-fileserver --source $TMP/added ")" -eq 0 ]
}

test_a_killed_host_agent_is_replaced_without_a_reboot() {
    local boot agent vm

    boot=$(guest cat /proc/sys/kernel/random/boot_id)
    agent=$(cat "$DIR/ha.pid")
    vm=$(cat "$DIR/qemu.pid")
    kill -KILL "$agent"
    wait_gone "$agent" 5
    expect 0 limactl list --format '{{.Status}}' a
    is Broken
    expect 0 start_again
    has err READY
    [ "$(cat "$DIR/qemu.pid")" = "$vm" ] || fail "it is another QEMU"
    [ "$(guest cat /proc/sys/kernel/random/boot_id)" = "$boot" ] || fail "the guest was rebooted"
    "$here/vm_traffic.py" wait 7100 open 10
    "$here/vm_traffic.py" call 7100 20 20
}

# Whoever takes the machine over decides what carries its forwards.
test_forwards_go_over_ssh_if_that_is_wanted() {
    local agent pid

    agent=$(cat "$DIR/ha.pid")
    kill -KILL "$agent"
    wait_gone "$agent" 5
    LIMA_SSH_PORT_FORWARDER=true expect 0 start_again
    has err READY
    wait_line "$DIR/ha.stderr.log" "forwards go through ssh" 30
    "$here/vm_traffic.py" wait 7100 open 10
    "$here/vm_traffic.py" call 7100 100 20
    agent=$(cat "$DIR/ha.pid")
    for pid in $(cat "/proc/$agent/task/$agent/children"); do
        [ "$(cat "/proc/$pid/comm")" != ssh ] || fail "the host agent runs ssh"
    done
    guest sudo pkill -KILL -f 'sshd: tester' || true # the shell's own session too
    wait_line "$DIR/ha.stderr.log" "forwards through ssh, retrying" 30
    "$here/vm_traffic.py" call 7100 20 20
    kill -KILL "$agent"
    wait_gone "$agent" 5
    expect 0 start_again
    "$here/vm_traffic.py" wait 7100 open 10
    "$here/vm_traffic.py" call 7100 20 20
}

test_stop_powers_the_guest_down() {
    local agent vm

    agent=$(cat "$DIR/ha.pid")
    vm=$(cat "$DIR/qemu.pid")
    guest cat /proc/sys/kernel/random/boot_id | tr -d - >"$TMP/boot"
    expect 0 limactl stop a
    wait_gone "$agent" 1
    wait_gone "$vm" 1
    expect 0 limactl list --format '{{.Status}}' a
    is Stopped
    [ -z "$(find "$DIR" -name '*.pid' -o -name '*.sock')" ] || fail "left behind: $(ls "$DIR")"
}

test_a_later_start_needs_no_cloud_init() {
    expect 0 start_again
    has err READY
    expect 0 guest sudo journalctl -q -b 0 -o cat -u cloud-init-local -u cloud-init -u cloud-init-main
    is ''
    expect 0 guest wc -l /var/tmp/boot-script
    is '2 /var/tmp/boot-script'
}

# By the boot's id and without a limit: a clock that was set meanwhile has mixed order and numbers up.
test_the_journal_tells_of_an_orderly_end() {
    expect 0 guest sudo journalctl -q -o cat "_BOOT_ID=$(cat "$TMP/boot")"
    has out 'Reached target poweroff.target'
    has out 'Journal stopped'
}

test_a_changed_seed_is_applied_by_cloud_init() {
    limactl stop a
    echo 'timezone: Asia/Tokyo' >>"$DIR/lima.yaml"
    expect 0 start_again
    expect 0 guest date +%Z
    is JST
}

test_a_failing_script_is_named_with_its_last_lines() {
    limactl stop a
    cat >"$TMP/fail.yaml" <<'YAML'
- mode: system
  script: |
    #!/bin/bash
    echo "about to fail"
    echo "for a reason" >&2
    exit 7
YAML
    python3 - "$DIR/lima.yaml" "$TMP/fail.yaml" <<'PYTHON'
import sys
text = open(sys.argv[1]).read()
item = open(sys.argv[2]).read()
open(sys.argv[1], "w").write(text.replace("probes:\n", item + "probes:\n", 1))
PYTHON
    expect 1 start_again
    has err 'system'
    has err '7'
    has err 'for a reason'
    expect 0 guest true
}

test_qemu_killed_during_boot_ends_start_at_once() {
    local start begin vm

    limactl stop a
    rm "$DIR/serial.log"
    start_again >"$TMP/start.out" 2>&1 &
    start=$!
    wait_line "$DIR/serial.log" 'systemd' 120
    vm=$(cat "$DIR/qemu.pid")
    begin=$(now)
    kill -KILL "$vm"
    if wait "$start"; then
        fail "start succeeded"
    fi
    [ $(($(now) - begin)) -lt 2000 ] || fail "it took $(($(now) - begin)) ms"
    cat "$TMP/start.out"
    grep -qi 'qemu' "$TMP/start.out"
    grep -qi 'signal 9\|killed' "$TMP/start.out"
    expect 0 limactl list --format '{{.Status}}' a
    is Stopped
}

blank() {
    truncate -s 64M "$TMP/blank.img"
    printf 'images:\n- location: %s\n  arch: x86_64\nmemory: 512MiB\ncpus: 1\ndisk: 64MiB\n%s\n' \
        "$TMP/blank.img" "$2" >"$TMP/$1.yaml"
    local begin
    begin=$(now)
    expect 1 limactl --tty=false start --timeout 120s --name "$1" "$TMP/$1.yaml"
    [ $(($(now) - begin)) -lt 30000 ] || fail "it took $(($(now) - begin)) ms"
    grep -qi 'boot' "$TMP/err"
    limactl delete -f "$1"
}

test_a_blank_disk_is_noticed_by_the_bios() {
    blank bios 'firmware: {legacyBIOS: true}'
    grep -qi 'no bootable device' "$TMP/err"
}

test_a_blank_disk_is_noticed_by_uefi() {
    blank uefi ''
}

test_a_plain_machine_boots_by_uefi_and_runs_its_scripts() {
    cat >"$TMP/p.yaml" <<YAML
images:
- location: $VM_IMAGES/debian-12/disk
  arch: x86_64
cpus: 2
memory: 1GiB
disk: 6GiB
plain: true
user:
  name: tester
portForwards:
- guestPort: 7200
  hostPort: 17200
  static: true
provision:
- mode: system
  script: |
    #!/bin/bash
    id -un >/var/tmp/system-script
- mode: user
  script: |
    #!/bin/bash
    id -un >/var/tmp/user-script
YAML
    expect 0 limactl --tty=false start --timeout "${BOOT}s" --name p "$TMP/p.yaml"
    limactl shell --workdir / p sudo cloud-init status --wait
    expect 0 limactl shell --workdir / p cat /var/tmp/system-script /var/tmp/user-script
    is $'root\ntester'
    expect 1 limactl shell --workdir / p pidof lima-guestagent
    expect 0 limactl shell --workdir / p test -d /sys/firmware/efi
    limactl shell --workdir / p sudo tee /usr/local/bin/traffic <"$here/vm_traffic.py" >/dev/null
    limactl shell --workdir / p sudo systemd-run --quiet --unit=echo \
        python3 /usr/local/bin/traffic serve 7200
    # The host listens already; in the guest the server has to.
    limactl shell --workdir / p python3 /usr/local/bin/traffic wait 7200 open 60
    "$here/vm_traffic.py" call 17200 20 20
    limactl stop p
}

test_delete_leaves_nothing() {
    limactl delete -f a p
    [ ! -e "$LIMA_HOME/a" ] && [ ! -e "$LIMA_HOME/p" ] || fail "a folder is left"
    # The test's own tails may still wait for lines.
    ! pgrep -af "$LIMA_HOME/[ap]/" | grep -v '^[0-9]* tail ' | grep . || fail "a process is left"
    ! grep -F "$LIMA_HOME/" /proc/net/unix || fail "a socket is left"
}

run_tests \
    test_an_image_is_built_once \
    test_start_of_a_new_instance_ends_ready \
    test_shell_passes_the_exit_status_on \
    test_shell_passes_arguments_on_unchanged \
    test_a_command_is_the_users_either_way \
    test_shell_works_under_the_name_lima \
    test_list_shows_what_runs \
    test_list_shows_what_the_guest_says \
    test_a_clock_that_was_set_wrong_is_put_right \
    test_the_guest_is_as_configured \
    test_scripts_have_run_as_the_right_users \
    test_a_listener_is_forwarded_as_long_as_it_listens \
    test_a_thousand_connections_leave_nothing_behind \
    test_nobody_in_the_guest_reaches_a_control_interface \
    test_folders_of_the_host_are_mounted_before_the_scripts_run \
    test_the_mounted_folder_is_a_file_system \
    test_watchers_of_devices_see_a_touch \
    test_a_folder_by_virtiofs_comes_and_goes_while_the_machine_runs \
    test_a_virtiofsd_that_dies_is_replaced_and_forgotten \
    test_watchers_in_the_guest_see_what_the_host_does \
    test_a_program_that_writes_notices_no_death \
    test_a_mount_is_there_within_half_a_second_and_goes_without_a_trace \
    test_a_killed_host_agent_is_replaced_without_a_reboot \
    test_forwards_go_over_ssh_if_that_is_wanted \
    test_stop_powers_the_guest_down \
    test_a_later_start_needs_no_cloud_init \
    test_the_journal_tells_of_an_orderly_end \
    test_a_changed_seed_is_applied_by_cloud_init \
    test_a_failing_script_is_named_with_its_last_lines \
    test_qemu_killed_during_boot_ends_start_at_once \
    test_a_blank_disk_is_noticed_by_the_bios \
    test_a_blank_disk_is_noticed_by_uefi \
    test_a_plain_machine_boots_by_uefi_and_runs_its_scripts \
    test_delete_leaves_nothing
