#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# DNS of a real machine: its queries reach the host's resolver, by the rules of its agent, and get what the
# host itself gets. In a mount namespace of its own, where the host's files may be changed at will.
#
# Meson gives VM_IMAGES, the folder that keeps the image, and LIMA_DATADIR.

if [ -z "${IN_NAMESPACE-}" ] && [ "$(id -u)" -eq 0 ] && unshare -m true 2>/dev/null; then
    IN_NAMESPACE=yes exec unshare -m --propagation private "$0" "$@"
fi

. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
: "${VM_IMAGES:?is set by meson test}"

[ -n "${IN_NAMESPACE-}" ] || skip_all "a mount namespace needs root"
for program in qemu-system-x86_64 qemu-img mmdebstrap ssh python3; do
    command -v "$program" >/dev/null || skip_all "$program is not installed"
done
[ "$(uname -m)" = x86_64 ] || skip_all "no image for $(uname -m) is built here yet"

mkdir -p "$VM_IMAGES" "$LIMA_HOME"
chmod 700 "$LIMA_HOME"
ln -s "$VM_IMAGES" "$LIMA_HOME/_images"

BOOT=600
LOG=$LIMA_HOME/d/ha.stderr.log
UPSTREAM=127.0.0.77
RULES="the guest asks the host's resolver, by "

guest() {
    limactl shell --workdir / d "$@" </dev/null
}

# What the guest's DNS says, and what the host's server says.
guest_asks() {
    limactl shell --workdir / d python3 - 192.168.5.3 "$@" <"$here/dns_ask.py"
}

host_asks() {
    "$here/dns_ask.py" "$UPSTREAM" "$@"
}

# Replaces a file of the host for us alone.
replace() {
    cp "$1" "$TMP/$(basename "$1")"
    mount --bind "$TMP/$(basename "$1")" "$1"
}

test_a_machine_starts_whose_dns_is_the_hosts() {
    [ -e "$VM_IMAGES/debian-12/info.json" ] || limactl image build debian-12
    replace /etc/hosts
    replace /etc/resolv.conf
    echo "nameserver $UPSTREAM" >/etc/resolv.conf
    background "$here/dns_upstream.py" "$UPSTREAM" 53 >"$TMP/upstream"
    wait_line "$TMP/upstream" ready 20
    cat >"$TMP/d.yaml" <<YAML
images:
- location: image:debian-12
  arch: x86_64
cpus: 2
memory: 1GiB
disk: 6GiB
user:
  name: tester
hostResolver:
  ipv6: true
  hosts:
    db.lan: 10.7.7.7
    Store.lan: db.lan
    web.lan: example.test
YAML
    expect 0 limactl --debug --tty=false start --timeout "${BOOT}s" --name d "$TMP/d.yaml"
    wait_line "$LOG" "$RULES" 60
    grep -o "$RULES.*" "$LOG"
}

test_the_guests_own_programs_know_the_fixed_names() {
    expect 0 guest getent ahostsv4 host.lima.internal
    has out 192.168.5.2
    expect 0 guest getent ahostsv4 lima-d.internal
    has out 192.168.5.15
    expect 0 guest getent ahostsv4 STORE.lan
    has out 10.7.7.7
}

test_every_type_is_what_the_host_gets() {
    local type

    for type in A AAAA TXT SRV HTTPS; do
        host_asks example.test "$type" >"$TMP/want"
        expect 0 guest_asks example.test "$type"
        cmp "$TMP/want" "$TMP/out" || fail "$type differs"
    done
    host_asks nothing.test TXT >"$TMP/want"
    expect 0 guest_asks nothing.test TXT
    cmp "$TMP/want" "$TMP/out" || fail "a missing name differs"
    expect 0 guest_asks nothing.test A
    is "code 3"
    host_asks example.test A >"$TMP/want"
    expect 0 guest_asks web.lan A
    cmp "$TMP/want" "$TMP/out" || fail "an alias differs"
}

test_three_kilobytes_come_by_udp_and_by_tcp() {
    local way

    host_asks long.example.test TXT tcp >"$TMP/want"
    [ "$(wc -c <"$TMP/want")" -gt 6000 ] || fail "the host itself has got too little"
    for way in udp tcp; do
        expect 0 guest_asks long.example.test TXT "$way"
        cmp "$TMP/want" "$TMP/out" || fail "by $way it differs"
    done
}

test_changes_on_the_host_are_seen_by_the_next_query() {
    expect 0 guest_asks changed.lan AAAA
    echo 10.8.8.1 changed.lan >>/etc/hosts
    expect 0 guest_asks changed.lan A
    is "code 0"$'\n'"1 0a080801"
    sed 's/10.8.8.1/10.8.8.2/' "$TMP/hosts" >"$TMP/new"
    cat "$TMP/new" >/etc/hosts
    expect 0 guest_asks changed.lan A
    is "code 0"$'\n'"1 0a080802"
    : >/etc/resolv.conf
    expect 0 guest_asks example.test TXT
    is "code 2"
    echo "nameserver $UPSTREAM" >/etc/resolv.conf
    expect 0 guest_asks example.test TXT
    has out "code 0"
}

test_a_new_session_puts_the_rules_up_again() {
    local lines

    lines=$(wc -l <"$LOG")
    guest sudo systemctl restart lima-guestagent || : # the shell's own connection goes with it
    timeout 60 grep -q -m1 "$RULES" < <(exec tail --pid="$$" -n +"$((lines + 1))" -F "$LOG" 2>/dev/null) ||
        fail "the rules are not up again"
    expect 0 guest_asks db.lan A
    is "code 0"$'\n'"1 0a070707"
}

test_delete_leaves_nothing() {
    limactl delete -f d
    [ ! -e "$LIMA_HOME/d" ] || fail "a folder is left"
}

run_tests \
    test_a_machine_starts_whose_dns_is_the_hosts \
    test_the_guests_own_programs_know_the_fixed_names \
    test_every_type_is_what_the_host_gets \
    test_three_kilobytes_come_by_udp_and_by_tcp \
    test_changes_on_the_host_are_seen_by_the_next_query \
    test_a_new_session_puts_the_rules_up_again \
    test_delete_leaves_nothing
