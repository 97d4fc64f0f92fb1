#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a guest says about itself, and other versions of its agent: with a fake QEMU around the real guest
# agent, which replaces its own file, so it runs as a copy.
. "$(dirname "$0")/lib.sh"

: "${FAKE_QEMU:?}" "${GUESTAGENT:?}" "${GUESTAGENT_NEXT:?}" "${GUESTAGENT_OLD:?}"

[ "$(uname -m)" = x86_64 ] || skip_all "the fake QEMU is one for x86_64"

export QEMU_SYSTEM_X86_64=$FAKE_QEMU
export FAKE_QEMU_GUEST=$TMP/guest/lima-guestagent

mkdir "$TMP/guest"
cp "$GUESTAGENT" "$FAKE_QEMU_GUEST"
VERSION=$("$GUESTAGENT" version)
VERSION=${VERSION#lima-guestagent }

template() {
	truncate -s 1M "$TMP/disk.img"
	cat <<-YAML
		arch: x86_64
		images:
		- location: $TMP/disk.img
		cpus: 1
		memory: 256MiB
		disk: 2MiB
		portForwards: # other tests' listeners are not ours
		- guestPortRange: [1, 65535]
		  ignore: true
	YAML
}

# The guest's version as `list` shows it.
version_is() {
	expect 0 limactl list --yq .guest.agentVersion one
	is "$1"
}

# The agent's file and what lies beside it.
files_are() {
	[ "$(cd "$TMP/guest" && echo *)" = "$*" ] || fail "$TMP/guest has $(ls "$TMP/guest")"
}

test_list_shows_what_the_guest_says() {
	template | expect 0 limactl create --name one -
	expect 0 limactl list --yq .guest one
	is null
	expect 0 limactl start one
	version_is "$VERSION"
	expect 0 limactl list one --yq '.guest | [.kernel, .arch, .bootID] | @tsv'
	is "$(printf '%s\t%s\t%s' "$(uname -r)" "$(uname -m)" "$(cat /proc/sys/kernel/random/boot_id)")"
	expect 0 limactl list one --yq '.guest | .uptime > 0 and (.load | length) == 3 and .processes > 0
		and .memory.available > 0 and .memory.available <= .memory.total
		and .disk.available <= .disk.total and .swap.free <= .swap.total
		and .agent.memory > 0 and .agent.streams > 0 and .age == 0'
	is true
}

test_templates_and_filters_see_the_guest() {
	expect 0 limactl list --format '{{.Guest.AgentVersion}} {{.Guest.Memory.Total}}' one
	has out "$VERSION "
	expect 0 limactl list --filter '.guest.disk.total > 0' --format '{{.Name}}'
	is one
	expect 0 limactl list --list-fields
	has out Guest
}

test_info_has_the_running_guests() {
	expect 0 limactl info --yq .guests.one.agentVersion
	is "$VERSION"
}

test_a_frozen_guest_costs_little_and_what_was_known_is_shown() {
	local guest before

	guest=$(pgrep -P "$(cat "$LIMA_HOME/one/qemu.pid")")
	kill -STOP "$guest"
	before=$(now)
	expect 0 limactl list --yq '.guest.age > 0 and .guest.memory.total > 0' one
	[ $(($(now) - before)) -lt 3000 ] || fail "took $(($(now) - before)) ms"
	kill -CONT "$guest"
	is true
}

test_another_agent_takes_over() {
	local agent before

	agent=$(pgrep -P "$(cat "$LIMA_HOME/one/qemu.pid")")
	expect 0 limactl guest-install --program "$GUESTAGENT_NEXT" one
	has err 'The guest agent of `one` is version 9.9.9 now.'
	version_is 9.9.9
	files_are lima-guestagent lima-guestagent.previous
	cmp "$GUESTAGENT_NEXT" "$FAKE_QEMU_GUEST"
	cmp "$GUESTAGENT" "$FAKE_QEMU_GUEST.previous"
	[ "$(pgrep -P "$(cat "$LIMA_HOME/one/qemu.pid")")" = "$agent" ] || fail "another process"
}

test_the_same_agent_is_not_sent_twice() {
	expect 0 limactl guest-install --program "$GUESTAGENT_NEXT" one
	has err 'is this one already, version 9.9.9'
}

test_rollback_brings_the_old_one_back() {
	expect 0 limactl guest-install --rollback one
	version_is "$VERSION"
	cmp "$GUESTAGENT" "$FAKE_QEMU_GUEST"
	files_are lima-guestagent lima-guestagent.previous
}

test_what_is_no_agent_leaves_the_old_one() {
	echo text >"$TMP/text"
	expect 1 limactl guest-install --program "$TMP/text" one
	has err "is no program"
	expect 1 limactl guest-install --program "$(realpath /bin/true)" one
	has err "does not run on this machine"
	expect 1 limactl guest-install --program "$TMP/nothing" one
	has err "No such file"
	expect 1 limactl guest-install --program "$TMP/text" --rollback one
	has err "conflicts"
	version_is "$VERSION"
	cmp "$GUESTAGENT" "$FAKE_QEMU_GUEST"
	files_are lima-guestagent lima-guestagent.previous
}

test_an_older_agent_is_upgraded_when_the_host_agent_begins() {
	expect 0 limactl stop one
	cp "$GUESTAGENT_OLD" "$FAKE_QEMU_GUEST"
	expect 0 limactl start one
	wait_line "$LIMA_HOME/one/ha.stderr.log" "the guest goes on with version $VERSION of its agent" 20
	version_is "$VERSION"
	cmp "$GUESTAGENT" "$FAKE_QEMU_GUEST"
}

test_a_stopped_instance_is_told_of() {
	expect 0 limactl stop one
	expect 1 limactl guest-install one
	has err 'instance `one` is not running'
}

# Whoever speaks there is the host to the agent.
test_a_socket_for_the_host_is_its_owners_alone() {
	(umask 0 && exec "$GUESTAGENT" run --transport "unix:$TMP/host.sock" --no-boot) 2>"$TMP/agent.log" &
	agent=$!
	wait_line "$TMP/agent.log" "ports by" 10
	mode=$(stat -c %a "$TMP/host.sock")
	kill "$agent"
	wait_gone "$agent" 10
	[ "$mode" = 600 ] || fail "the socket has mode $mode"
}

run_tests test_list_shows_what_the_guest_says test_templates_and_filters_see_the_guest \
	test_info_has_the_running_guests test_a_frozen_guest_costs_little_and_what_was_known_is_shown \
	test_another_agent_takes_over test_the_same_agent_is_not_sent_twice \
	test_rollback_brings_the_old_one_back test_what_is_no_agent_leaves_the_old_one \
	test_an_older_agent_is_upgraded_when_the_host_agent_begins test_a_stopped_instance_is_told_of \
	test_a_socket_for_the_host_is_its_owners_alone
