#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The host's resolver with the host's real means (getaddrinfo, /etc), in a mount namespace of its own, where
# the files of /etc may be changed at will. Its one server is dns_upstream.py.
#
# Meson gives SERVE_DNS.

if [ -z "${IN_NAMESPACE-}" ] && [ "$(id -u)" -eq 0 ] && unshare -m true 2>/dev/null; then
    IN_NAMESPACE=yes exec unshare -m --propagation private "$0" "$@"
fi

. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
: "${SERVE_DNS:?is set by meson test}"
[ -n "${IN_NAMESPACE-}" ] || skip_all "a mount namespace needs root"

UPSTREAM=127.0.0.78

# Replaces a file of the host for us alone, by one with this text.
replace() {
    printf '%s\n' "$2" >"$TMP/$(basename "$1")"
    mount --bind "$TMP/$(basename "$1")" "$1"
}

ask() {
    "$here/dns_ask.py" "127.0.0.1:$UDP" "$@"
}

ask_tcp() {
    "$here/dns_ask.py" "127.0.0.1:$TCP" "$@" tcp
}

answers() {
    expect 0 ask "$1" "$2"
    is "$3"
    expect 0 ask_tcp "$1" "$2"
    is "$3"
}

same_as_upstream() {
    "$here/dns_ask.py" "$UPSTREAM" "$1" "$2" tcp >"$TMP/want"
    expect 0 ask "$1" "$2"
    cmp "$TMP/want" "$TMP/out" || fail "$1 $2 differs by UDP"
    expect 0 ask_tcp "$1" "$2"
    cmp "$TMP/want" "$TMP/out" || fail "$1 $2 differs by TCP"
}

replace /etc/resolv.conf "nameserver $UPSTREAM"
replace /etc/hosts '127.0.0.1 localhost'
replace /etc/nsswitch.conf 'hosts: files dns'
background "$here/dns_upstream.py" "$UPSTREAM" 53 >"$TMP/upstream"
wait_line "$TMP/upstream" ready 20
background "$SERVE_DNS" -6 host.lima.internal=192.168.5.2 web.lan=example.test >"$TMP/ports"
wait_line "$TMP/ports" ' ' 20
read -r UDP TCP <"$TMP/ports"

test_every_type_is_what_the_hosts_server_says() {
    local type

    for type in A AAAA TXT SRV HTTPS; do
        same_as_upstream example.test "$type"
    done
    same_as_upstream long.example.test TXT
    same_as_upstream nothing.test TXT
}

test_addresses_come_by_the_hosts_own_means() {
    answers host.lima.internal A $'code 0\n1 c0a80502'
    answers web.lan A $'code 0\n1 0a141e28'
    answers localhost A $'code 0\n1 7f000001'
    answers v4.example.test A $'code 0\n1 0a141e28'
}

test_no_data_and_no_name_are_told_apart() {
    answers v4.example.test AAAA 'code 0'
    answers text.example.test A 'code 0'
    answers text.example.test AAAA 'code 0'
    answers nothing.test A 'code 3'
    answers localhost AAAA 'code 0'
    answers host.lima.internal AAAA 'code 0'
}

test_the_search_list_is_the_clients_affair() {
    printf 'nameserver %s\nsearch example.test\n' "$UPSTREAM" >/etc/resolv.conf
    answers a.test A 'code 3' # and not a.test.example.test, which there is
    printf 'nameserver %s\n' "$UPSTREAM" >/etc/resolv.conf
}

test_a_change_of_the_table_is_seen_by_the_next_query() {
    local n

    for n in 1 2 3 4 5 6 7 8 9; do
        echo "10.0.0.$n changing.lan" >/etc/hosts
        expect 0 ask changing.lan A
        is "code 0"$'\n'"1 0a00000$n"
    done
    echo '10.0.0.16 later.lan' >"$TMP/other"
    mount --bind "$TMP/other" /etc/hosts
    answers later.lan A $'code 0\n1 0a000010'
    umount /etc/hosts
    answers changing.lan A $'code 0\n1 0a000009'
}

test_a_change_of_the_servers_is_seen_by_the_next_query() {
    : >/etc/resolv.conf
    answers example.test TXT 'code 2'
    echo nameserver 127.0.0.79 >/etc/resolv.conf # nobody there
    answers example.test TXT 'code 2'
    answers example.test A 'code 2'
    echo "nameserver $UPSTREAM" >/etc/resolv.conf
    same_as_upstream example.test TXT
    same_as_upstream example.test A
}

test_a_change_of_nsswitch_is_seen_by_the_next_query() {
    echo '10.0.0.1 example.test' >/etc/hosts
    answers example.test A $'code 0\n1 0a000001'
    echo 'hosts: dns' >/etc/nsswitch.conf
    answers example.test A $'code 0\n1 0a141e28'
    echo 'hosts: dns files' >/etc/nsswitch.conf
    answers example.test A $'code 0\n1 0a141e28'
    echo '10.0.0.1 table.test' >/etc/hosts
    answers table.test A $'code 0\n1 0a000001'
}

run_tests \
    test_every_type_is_what_the_hosts_server_says \
    test_addresses_come_by_the_hosts_own_means \
    test_no_data_and_no_name_are_told_apart \
    test_the_search_list_is_the_clients_affair \
    test_a_change_of_the_table_is_seen_by_the_next_query \
    test_a_change_of_the_servers_is_seen_by_the_next_query \
    test_a_change_of_nsswitch_is_seen_by_the_next_query
