#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Mounts of type reverse-sshfs: the guest's own sshfs, and OpenSSH's sftp, at the file server's SFTP.
. "$(dirname "$0")/mounts_lib.sh"

for program in sshfs sftp python3; do
	command -v "$program" >/dev/null || skip_all "$program is not installed"
done

LINKS=$TMP/guest/links
OTHER=$TMP/other

# The processes of sshfs in this mount namespace.
sshfs_pids() {
	pgrep --ns $$ --nslist mnt -f "sshfs :/ "
}

test_start_mounts_by_sshfs() {
	mkdir -p "$SHARED/folder" "$OTHER"
	echo hello >"$SHARED/file"
	echo other >"$OTHER/file"
	ln -s file "$SHARED/inside"
	ln -s "$OTHER/file" "$SHARED/outside"
	write_template <<-YAML
		mountType: reverse-sshfs
		mountInotify: true
		mounts:
		- location: "$SHARED"
		  mountPoint: "$SEEN"
		  writable: true
		  sshfs:
		    sftpDriver: builtin
		    cache: false
		- location: "$OTHER"
		  mountPoint: "$NESTED"
		  type: agent
		- location: "$SHARED"
		  mountPoint: "$READ_ONLY"
		  sshfs:
		    sftpDriver: openssh-sftp-server
		- location: "$SHARED"
		  mountPoint: "$LINKS"
		  sshfs:
		    followSymlinks: true
	YAML
	mkdir "$SHARED/nested"
	expect 0 limactl start --tty=false --name vm "$TMP/vm.yaml"
	expect 0 cat "$SEEN/file"
	is hello
	expect 0 cat "$NESTED/file"
	is other
	expect 0 stat -f -c %T "$SEEN" "$READ_ONLY" "$LINKS"
	lacks out tmpfs
	grep -c "fuse.sshfs lima-" /proc/self/mountinfo | grep -qx 3 || fail "$(cat /proc/self/mountinfo)"
	expect 0 stat -c %U "$SEEN/file"
	is nobody
	expect 0 limactl mounts vm
	has out reverse-sshfs
	lacks out failed
}

test_files_pass_both_ways() {
	head -c 5000000 /dev/urandom >"$SEEN/data"
	cmp "$SEEN/data" "$SHARED/data"
	mkdir -p "$SEEN/tree/a/b"
	cp -r "$PROTO/." "$SEEN/tree/a/b/"
	diff -r "$SEEN/tree" "$SHARED/tree"
	mv "$SEEN/tree/a" "$SEEN/tree/c"
	[ -d "$SHARED/tree/c/b" ] || fail "not renamed"
	ln "$SEEN/data" "$SEEN/data2"
	[ "$SHARED/data" -ef "$SHARED/data2" ] || fail "no hard link"
	ln -s ../x "$SEEN/tree/link"
	[ "$(readlink "$SHARED/tree/link")" = ../x ] || fail "another link"
	[ "$(readlink "$SEEN/outside")" = "$OTHER/file" ] || fail "the guest does not see where a link leads"
	chmod 640 "$SEEN/data"
	[ "$(stat -c %a "$SHARED/data")" = 640 ] || fail "mode $(stat -c %a "$SHARED/data")"
	touch -d 2001-02-03T04:05:06Z "$SEEN/data"
	[ "$(stat -c %Y "$SHARED/data")" = 981173106 ] || fail "another time"
	truncate -s 1000 "$SEEN/data"
	[ "$(stat -c %s "$SHARED/data")" = 1000 ] || fail "another size"
	echo more >>"$SEEN/data"
	[ "$(tail -1 "$SHARED/data")" = more ] || [ "$(tail -c 5 "$SHARED/data")" = more ] || fail "not appended"
	rm -r "$SEEN/tree" "$SEEN/data" "$SEEN/data2"
	[ ! -e "$SHARED/tree" ] && [ ! -e "$SHARED/data" ] || fail "still there"
	[ "$(stat -f -c %b "$SEEN")" -gt 0 ] || fail "no blocks"
}

test_a_read_only_mount_is_so_on_both_sides() {
	expect 1 touch "$READ_ONLY/new"
	has err "Read-only file system"
	mount -o remount,rw "$READ_ONLY" || true
	expect 1 touch "$READ_ONLY/new"
	expect 1 rm -f "$READ_ONLY/file"
	[ -e "$SHARED/file" ] || fail "it is gone"
}

test_links_are_followed_within_the_folder_alone() {
	expect 0 cat "$LINKS/inside"
	is hello
	expect 1 cat "$LINKS/outside"
	[ ! -L "$LINKS/inside" ] || fail "it is a link still"
}

# What the client of OpenSSH makes of this server.
test_the_sftp_of_openssh_works_with_it() {
	mkdir -p "$TMP/sftp/dir" "$TMP/sftp/shared/sub"
	echo one >"$TMP/sftp/shared/one"
	"$FILESERVER" --source "$TMP/sftp/shared" --dir "$TMP/sftp/dir" --id "$(printf '%032d' 0)" --writable --sftp >"$TMP/sftp/out" &
	wait_line "$TMP/sftp/out" ready 10
	printf '#!/bin/sh\nexec python3 "%s" "%s"\n' "$HERE/mounts_sftp_connect.py" "$TMP/sftp/dir/sock" >"$TMP/sftp/connect"
	chmod +x "$TMP/sftp/connect"
	cat >"$TMP/sftp/batch" <<-SFTP
		ls -l
		get one $TMP/sftp/got
		put $TMP/sftp/got sub/two
		put -f $TMP/sftp/got sub/three
		rename sub/two sub/four
		ln sub/four sub/five
		ln -s four sub/six
		chmod 600 sub/four
		mkdir made
		df
		-rmdir sub
		-get ../../../../../../etc/hostname $TMP/sftp/escaped
		rm sub/three
		rmdir made
	SFTP
	expect 0 sftp -q -D "$TMP/sftp/connect" -b "$TMP/sftp/batch"
	has out one
	has err 'rmdir "/sub": Failure'
	[ ! -e "$TMP/sftp/escaped" ] || fail "it got out"
	[ "$(cat "$TMP/sftp/got" "$TMP/sftp/shared/sub/four")" = "$(printf 'one\none')" ] || fail "other contents"
	[ "$(stat -c %a:%h "$TMP/sftp/shared/sub/four")" = 600:2 ] || fail "$(stat "$TMP/sftp/shared/sub/four")"
	[ "$(readlink "$TMP/sftp/shared/sub/six")" = four ] || fail "no link"
	[ "$(ls "$TMP/sftp/shared" "$TMP/sftp/shared/sub" | grep -c 'made\|three')" = 0 ] || fail "something is left"
	pkill -f "lima-fileserver --source $TMP/sftp/shared"
}

test_a_hostile_guest_gets_errors_and_nothing_else() {
	python3 "$HERE/mounts_hostile_sftp.py" "$FILESERVER" >"$TMP/tap"
	cat "$TMP/tap"
	! grep -q '^not ok' "$TMP/tap" || fail "see above"
	grep -q '^ok' "$TMP/tap" || fail "no test ran"
}

is_there() {
	expect 0 cat "$SEEN/file"
	is hello
	expect 0 cat "$NESTED/file"
	is other
	[ "$(state "$SEEN")" = mounted ] || fail "state: $(state "$SEEN")"
}

# Runs a command that ends the mount at $SEEN in some way, and waits until it is back.
comes_back() {
	local log=$LIMA_HOME/vm/ha.stderr.log before

	before=$(grep -c "is mounted at '$SEEN'" "$log")
	"$@"
	wait_lines "$log" "is mounted at '$SEEN'" 20 $((before + 1))
	is_there
}

test_it_mounts_again_by_itself_whatever_dies() {
	comes_back kill -KILL "$(server_pid "$SHARED" | head -1)" "$(server_pid "$SHARED" | tail -1)"
	comes_back pkill -KILL --ns $$ --nslist mnt -f "sshfs :/ "
	comes_back kill -USR1 "$(cat "$LIMA_HOME/vm/qemu.pid")" # cuts the port
	kill -KILL "$(cat "$LIMA_HOME/vm/ha.pid")"
	expect 0 limactl start --tty=false vm
	is_there
}

test_watchers_see_a_touch() {
	local mtime watcher

	mkdir -p "$SHARED/touched/old"
	echo one >"$SHARED/touched/old/file"
	python3 -u "$HERE/mounts_touches.py" "$SEEN/touched" >"$TMP/touches" &
	watcher=$!
	wait_line "$TMP/touches" "^watching old" 10
	chmod 600 "$SHARED/touched/old/file" # first: a touch sets the mode that it has found
	echo two >>"$SHARED/touched/old/file"
	mtime=$(stat -c %y "$SHARED/touched/old/file")
	wait_line "$TMP/touches" "^ATTRIB old/file" 10
	mkdir -p "$SHARED/touched/new/folder"
	wait_line "$TMP/touches" "^watching new/folder" 10
	echo one >"$SHARED/touched/new/folder/file"
	wait_line "$TMP/touches" "^ATTRIB new/folder/file" 10
	touch "$SHARED/touched/end"
	wait "$watcher"
	[ "$(stat -c %y:%a "$SHARED/touched/old/file")" = "$mtime:600" ] || fail "$(stat "$SHARED/touched/old/file")"
}

test_mounts_come_and_go_without_a_trace() {
	local before after

	mkdir -p "$TMP/added"
	echo added >"$TMP/added/file"
	before=$(pgrep -fc "lima-fileserver .*$TMP"; sshfs_pids | wc -l; ls "/proc/$(cat "$LIMA_HOME/vm/ha.pid")/fd" | wc -l)
	for _ in $(seq 10); do
		expect 0 limactl mounts add vm "$TMP/added:$TMP/guest/added" --writable --temporary --type reverse-sshfs
		grep -q "$TMP/guest/added .* fuse.sshfs" /proc/self/mountinfo || fail "not mounted by sshfs"
		expect 0 cat "$TMP/guest/added/file"
		is added
		expect 0 limactl mounts remove vm "$TMP/guest/added"
		[ ! -e "$TMP/guest/added/file" ] || fail "it is still there"
	done
	after=$(pgrep -fc "lima-fileserver .*$TMP"; sshfs_pids | wc -l; ls "/proc/$(cat "$LIMA_HOME/vm/ha.pid")/fd" | wc -l)
	[ "$before" = "$after" ] || fail "before: $before, after: $after"
}

test_what_the_guest_unmounts_stays_so() {
	umount "$LINKS"
	wait_line "$LIMA_HOME/vm/ha.stderr.log" "the guest has unmounted '$LINKS'" 10
	[ "$(state "$LINKS")" = unmounted ] || fail "state: $(state "$LINKS")"
}

test_without_sshfs_the_guest_agent_mounts_it() {
	mount --bind /dev/null "$(command -v sshfs)"
	expect 0 limactl mounts add vm "$TMP/added:$TMP/guest/added" --temporary --type reverse-sshfs
	expect 0 cat "$TMP/guest/added/file"
	is added
	wait_line "$LIMA_HOME/vm/ha.stderr.log" "the guest has no sshfs" 10
	grep -q "$TMP/guest/added .* fuse.lima" /proc/self/mountinfo || fail "not mounted by the agent"
	umount "$(command -v sshfs)"
}

run_tests test_start_mounts_by_sshfs test_files_pass_both_ways test_a_read_only_mount_is_so_on_both_sides \
	test_links_are_followed_within_the_folder_alone test_the_sftp_of_openssh_works_with_it \
	test_a_hostile_guest_gets_errors_and_nothing_else test_it_mounts_again_by_itself_whatever_dies \
	test_watchers_see_a_touch test_mounts_come_and_go_without_a_trace test_what_the_guest_unmounts_stays_so \
	test_without_sshfs_the_guest_agent_mounts_it
