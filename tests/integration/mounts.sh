#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Mounts by the guest agent, with a fake QEMU around the real one: its kernel is this host's, and everything
# else is what runs with a real VM, in a mount namespace of its own.
. "$(dirname "$0")/mounts_lib.sh"

test_start_mounts_what_the_configuration_names() {
	mkdir -p "$SHARED/folder" "$TMP/other"
	echo hello >"$SHARED/file"
	echo other >"$TMP/other/file"
	write_template <<-YAML
		mountInotify: true
		mounts:
		- location: "$TMP/other"
		  mountPoint: "$NESTED"
		- location: "$SHARED"
		  mountPoint: "$SEEN"
		  writable: true
		- location: "$SHARED"
		  mountPoint: "$READ_ONLY"
		- location: "$TMP/made"
		  mountPoint: "$TMP/guest/made"
		- location: "$SHARED"
		  mountPoint: "$TMP/guest/uncached"
		  9p:
		    cache: none
	YAML
	mkdir "$SHARED/nested"
	expect 0 limactl start --tty=false --name vm "$TMP/vm.yaml"
	expect 0 cat "$SEEN/file"
	is hello
	expect 0 cat "$NESTED/file"
	is other
	expect 0 stat -c %U "$SEEN/file"
	is nobody
	[ -d "$TMP/made" ] || fail "the missing location was not made"
	expect 0 limactl mounts vm
	has out "$SEEN"
	has out mounted
	lacks out failed
}

test_a_read_only_mount_is_so_on_both_sides() {
	expect 1 touch "$READ_ONLY/new"
	has err "Read-only file system"
	mount -o remount,rw "$READ_ONLY" || true
	expect 1 touch "$READ_ONLY/new"
	expect 1 rm "$READ_ONLY/file"
	has err "Read-only file system"
}

test_it_is_a_file_system() {
	python3 "$HERE/mounts_posix.py" "$SEEN" "$SHARED" >"$TMP/tap"
	cat "$TMP/tap"
	! grep -q '^not ok' "$TMP/tap" || fail "see above"
	grep -c '^ok' "$TMP/tap" | grep -qx "$(sed -n 's/^1\.\.//p' "$TMP/tap")" || fail "not all tests ran"
}

test_a_hostile_guest_gets_errors_and_nothing_else() {
	python3 "$HERE/mounts_hostile.py" "$FILESERVER" >"$TMP/tap"
	cat "$TMP/tap"
	! grep -q '^not ok' "$TMP/tap" || fail "see above"
	grep -q '^ok' "$TMP/tap" || fail "no test ran"
}

# Writes 300 blocks, each of them synced, and prints their digest; holds the file open all the time.
writer() {
	python3 - "$SEEN/written" <<-'PYTHON'
		import hashlib, os, sys, time
		digest = hashlib.sha256()
		with open(sys.argv[1], "wb", buffering=0) as f:
		    for i in range(300):
		        block = os.urandom(65536)
		        assert f.write(block) == len(block)
		        os.fsync(f.fileno())
		        digest.update(block)
		        if i == 20:
		            print("begun", flush=True)
		        time.sleep(0.005) # so that it goes on while others are killed
		print(digest.hexdigest())
	PYTHON
}

# With the server stopped, only what the kernel knows already can be found.
test_a_folder_whose_names_are_looked_up_is_read_whole() {
	local reader known= try name

	for try in $(seq 8); do # nobody waits for the reading: it is given ever more time
		name=many$try
		mkdir "$TMP/$name"
		seq -f "$TMP/$name/%g" 300 | xargs touch
		mv "$TMP/$name" "$SHARED" # nothing of what is in it has been told of
		stat -c %n "$SEEN/$name"/{1,2,3,4,5,6} >/dev/null
		for _ in $(seq $((try * 20))); do
			stat -f "$SEEN" >/dev/null
		done
		pkill -STOP -f "lima-fileserver --source $SHARED --dir"
		seq -f "$SEEN/$name/%g" 300 | xargs stat -c %n >"$TMP/known" &
		reader=$!
		! timeout 2 tail --pid="$reader" -s 0.02 -f /dev/null || known=all
		pkill -CONT -f "lima-fileserver --source $SHARED --dir"
		wait "$reader" || fail "not all were found"
		[ -z "$known" ] || break
	done
	[ "$known" ] || fail "the kernel never knew all 300"
	wait_readable "$SEEN/file" 10
}

test_a_disk_that_hangs_delays_nothing_else() {
	mkdir "$TMP/slow"
	python3 "$HERE/slowfs.py" "$TMP/slow" >"$TMP/slow.out"
	expect 0 limactl mounts add vm "$TMP/slow:$TMP/guest/slow" --writable --temporary
	cat "$TMP/guest/slow/held" >"$TMP/held" &
	local reader=$! result=0
	wait_line "$TMP/slow.out" "holds READ" 20
	python3 -c 'import os, sys; os.fsync(os.open(sys.argv[1], os.O_RDWR))' "$TMP/guest/slow/quick" 2>"$TMP/sync.err" &
	local syncer=$!
	wait_line "$TMP/slow.out" "holds FSYNC" 20
	expect 0 timeout 5 cat "$TMP/guest/slow/quick"
	is quick
	expect 0 timeout 5 ls "$TMP/guest/slow"
	has out held
	kill -USR1 "$(cat "$LIMA_HOME/vm/qemu.pid")" # cuts the port: both are asked for again
	expect 0 timeout 10 stat -f "$TMP/guest/slow"
	[ "$(grep -c '^holds' "$TMP/slow.out")" -eq 2 ] || fail "done twice: $(cat "$TMP/slow.out")"
	kill -USR1 "$(sed -n 's/^pid //p' "$TMP/slow.out")"
	wait "$reader" || fail "the reader failed"
	cmp "$TMP/held" <(yes held | head -1024 | tr -d '\n') || fail "other bytes were read"
	wait "$syncer" || result=$?
	[ "$result" -eq 1 ] || fail "fsync did not fail"
	grep -q "Input/output error" "$TMP/sync.err" || fail "$(cat "$TMP/sync.err")"
	expect 0 limactl mounts remove vm "$TMP/guest/slow"
	umount "$TMP/slow"
}

test_a_program_that_writes_does_not_notice_what_dies() {
	writer >"$TMP/digest" 2>"$TMP/writer.err" &
	local writer=$!
	wait_line "$TMP/digest" begun 20
	kill -KILL "$(server_pid "$SHARED" | head -1)" "$(server_pid "$SHARED" | tail -1)"
	wait_readable "$SEEN/file" 30
	kill -USR1 "$(cat "$LIMA_HOME/vm/qemu.pid")" # cuts the port
	wait_readable "$SEEN/file" 30
	kill -KILL "$(cat "$LIMA_HOME/vm/ha.pid")"
	expect 0 limactl start --tty=false vm
	wait_readable "$SEEN/file" 30
	wait "$writer" || fail "the writer failed: $(cat "$TMP/writer.err")"
	[ "$(tail -1 "$TMP/digest")" = "$(sha256sum <"$SHARED/written" | cut -d' ' -f1)" ] || fail "the file is another one"
	[ "$(state "$SEEN")" = mounted ] || fail "state: $(state "$SEEN")"
}

test_a_server_whose_state_is_lost_mounts_anew() {
	local dir

	for dir in "$LIMA_HOME"/vm/mnt/*; do
		echo garbage >"$dir/state"
	done
	pkill -KILL -f "lima-fileserver --source $SHARED --dir"
	for _ in $(seq 100); do
		[ "$(timeout 5 cat "$SEEN/file" 2>/dev/null)" != hello ] || break
	done
	expect 0 cat "$SEEN/file"
	is hello
	[ "$(state "$SEEN")" = mounted ] || fail "state: $(state "$SEEN")"
	for _ in $(seq 100); do
		[ "$(timeout 5 cat "$NESTED/file" 2>/dev/null)" != other ] || break
	done
	expect 0 cat "$NESTED/file"
}

test_what_the_host_changes_is_seen_at_once() {
	python3 - "$SEEN" "$SHARED" <<-'PYTHON'
		import os, sys, time
		seen, shared = sys.argv[1:3]
		late = []
		def until(what):
		    began = time.monotonic()
		    while not what():
		        assert time.monotonic() - began < 5, "never seen"
		    late.append(time.monotonic() - began)
		def read():
		    with open(f"{seen}/watched/f") as f:
		        return f.read()
		os.mkdir(f"{shared}/watched")
		with open(f"{shared}/watched/f", "w") as f:
		    f.write("0")
		assert read() == "0" and os.listdir(f"{seen}/watched") == ["f"]
		for i in range(200):
		    with open(f"{shared}/watched/f", "w") as f:
		        f.write(str(i) * (i % 5 + 1))
		    until(lambda: read() == str(i) * (i % 5 + 1))
		    with open(f"{shared}/watched/n{i}", "w") as f:
		        pass
		    until(lambda: os.path.exists(f"{seen}/watched/n{i}") and f"n{i}" in os.listdir(f"{seen}/watched"))
		    os.rename(f"{shared}/watched/n{i}", f"{shared}/watched/m{i}")
		    until(lambda: not os.path.exists(f"{seen}/watched/n{i}") and os.path.exists(f"{seen}/watched/m{i}"))
		    os.unlink(f"{shared}/watched/m{i}")
		    until(lambda: os.listdir(f"{seen}/watched") == ["f"])
		os.chmod(f"{shared}/watched/f", 0o600)
		until(lambda: os.stat(f"{seen}/watched/f").st_mode & 0o777 == 0o600)
		late.sort()
		print("median %.1f ms, p99 %.1f ms" % (late[len(late) // 2] * 1000, late[len(late) * 99 // 100] * 1000))
	PYTHON
}

test_folders_that_the_guest_makes_are_known_to_it_but_not_for_longer_than_they_are_so() {
	python3 - "$SEEN" "$SHARED" <<-'PYTHON'
		import os, sys, time
		seen, shared = sys.argv[1:3]
		def until(what):
		    began = time.monotonic()
		    while not what():
		        assert time.monotonic() - began < 5, "never seen"
		for i in range(100):
		    here, there = f"{seen}/own{i}", f"{shared}/own{i}"
		    os.mkdir(here)
		    assert not os.path.exists(f"{here}/host")
		    for name in ("a", "b"):
		        with open(f"{here}/{name}", "x") as f:
		            f.write(name)
		        assert os.stat(here).st_mtime_ns == os.stat(there).st_mtime_ns
		    os.mkdir(f"{here}/below")
		    assert os.stat(here).st_nlink == os.stat(there).st_nlink
		    os.rename(f"{here}/b", f"{here}/below/c")
		    os.unlink(f"{here}/a")
		    assert os.stat(here).st_mtime_ns == os.stat(there).st_mtime_ns
		    assert os.stat(f"{here}/below").st_mtime_ns == os.stat(f"{there}/below").st_mtime_ns
		    assert not os.path.exists(f"{here}/b") and os.path.exists(f"{here}/below/c")
		    assert not os.path.exists(f"{here}/host")
		    with open(f"{there}/host", "w") as f:
		        pass
		    until(lambda: os.path.exists(f"{here}/host"))
		    until(lambda: os.stat(here).st_mtime_ns == os.stat(there).st_mtime_ns)
		    os.mkdir(f"{there}/below/host")
		    until(lambda: os.path.exists(f"{here}/below/host") and os.stat(f"{here}/below").st_nlink == 3)
		    os.chmod(there, 0o700)
		    until(lambda: os.stat(here).st_mode & 0o777 == 0o700)
		    if i % 2:
		        os.rmdir(f"{here}/below/host")
		        os.unlink(f"{here}/below/c")
		        os.rmdir(f"{here}/below")
		        os.unlink(f"{here}/host")
		        os.rmdir(here)
	PYTHON
}

test_what_the_host_mounts_in_the_share_is_seen_at_once() {
	local here="$SEEN/place to mount/at" there="$SHARED/place to mount/at"

	mkdir -p "$there/below"
	echo below >"$there/file"
	expect 0 cat "$here/file"
	is below
	mount -t tmpfs test "$there"
	echo above >"$there/file"
	for _ in $(seq 50); do
		[ "$(cat "$here/file")" != above ] || break
		sleep 0.1
	done
	expect 0 cat "$here/file"
	is above
	expect 0 ls "$here"
	is file
	umount -l "$there" # the file server has descriptors in it
	for _ in $(seq 50); do
		[ "$(cat "$here/file")" != below ] || break
		sleep 0.1
	done
	expect 0 cat "$here/file"
	is below
}

test_without_a_cache_there_is_nothing_to_wait_for() {
	mkdir "$SHARED/plain"
	python3 - "$TMP/guest/uncached/plain" "$SHARED/plain" <<-'PYTHON'
		import os, sys
		seen, shared = sys.argv[1:3]
		def read():
		    with open(f"{seen}/f") as f:
		        return f.read()
		for i in range(200):
		    with open(f"{shared}/f", "w") as f:
		        f.write(str(i) * (i % 5 + 1))
		    assert read() == str(i) * (i % 5 + 1), i
		    os.rename(f"{shared}/f", f"{shared}/g")
		    assert os.listdir(seen) == ["g"] and not os.path.exists(f"{seen}/f"), i
		    os.unlink(f"{shared}/g")
		    assert not os.path.exists(f"{seen}/g"), i
	PYTHON
}

test_watchers_see_what_the_host_does() {
	mkdir "$SHARED/events" "$SHARED/more"
	python3 "$HERE/mounts_events.py" "$SEEN/events" "$SHARED/events" "$TMP/local" >"$TMP/tap" || true
	cat "$TMP/tap"
	! grep -q '^not ok' "$TMP/tap" || fail "see above"
	grep -q '^ok' "$TMP/tap" || fail "no test ran"
	python3 "$HERE/mounts_events.py" "$READ_ONLY/more" "$SHARED/more" "$TMP/local2" >"$TMP/tap" || true
	cat "$TMP/tap"
	! grep -q '^not ok' "$TMP/tap" || fail "see above"
	grep -q '^ok' "$TMP/tap" || fail "no test ran"
}

test_watchers_learn_what_happened_while_the_server_was_dead() {
	local agent watcher

	mkdir -p "$SHARED/lost/folder"
	echo 1 >"$SHARED/lost/changed"
	echo 1 >"$SHARED/lost/kept"
	echo 1 >"$SHARED/lost/removed"
	sleep 60 | python3 -u "$HERE/mounts_events.py" --watch "$SEEN/lost" >"$TMP/events" &
	watcher=$!
	wait_line "$TMP/events" ready 10
	ls -l "$SEEN/lost" "$SEEN/lost/folder"
	sleep 0.1 # so that the times of files tell what comes now from what was before
	agent=$(cat "$LIMA_HOME/vm/ha.pid")
	kill -STOP "$agent"
	pkill -KILL -f "lima-fileserver --source $SHARED --dir"
	echo 2 >>"$SHARED/lost/changed"
	echo 2 >"$SHARED/lost/new"
	rm "$SHARED/lost/removed"
	mkdir "$SHARED/lost/folder/inner"
	kill -CONT "$agent"
	wait_line "$TMP/events" "DELETE removed" 10
	wait_line "$TMP/events" "CREATE new" 10
	wait_line "$TMP/events" "MODIFY changed" 10
	wait_line "$TMP/events" "CREATE folder/inner/" 10
	echo later >"$SHARED/lost/folder/later"
	wait_line "$TMP/events" "CREATE folder/later" 10
	! grep -q kept "$TMP/events" || fail "$(cat "$TMP/events")"
	kill "$watcher"
}

test_mounts_come_and_go_without_a_trace() {
	local before after program=$TMP/prefix/libexec/lima/lima-hostagent

	cp "$program" "$program.new" # as an upgrade of the package does while it runs
	mv "$program.new" "$program"
	mkdir -p "$TMP/added"
	echo added >"$TMP/added/file"
	before=$(pgrep -fc "lima-fileserver .*$TMP" || true; ls "/proc/$(cat "$LIMA_HOME/vm/ha.pid")/fd" | wc -l)
	for _ in $(seq "${MOUNT_ROUNDS:-20}"); do
		expect 0 limactl mounts add vm "$TMP/added:$TMP/guest/added" --writable --temporary
		expect 0 cat "$TMP/guest/added/file"
		is added
		expect 0 limactl mounts remove vm "$TMP/guest/added"
		[ ! -e "$TMP/guest/added/file" ] || fail "it is still there"
	done
	after=$(pgrep -fc "lima-fileserver .*$TMP" || true; ls "/proc/$(cat "$LIMA_HOME/vm/ha.pid")/fd" | wc -l)
	[ "$before" = "$after" ] || fail "before: $before, after: $after"
	[ "$(ls "$LIMA_HOME/vm/mnt" | wc -l)" -eq 5 ] || fail "folders are left"
}

test_a_mount_that_is_added_is_kept_in_the_configuration() {
	expect 0 limactl mounts add vm "$TMP/added:$TMP/guest/kept"
	grep -q "$TMP/guest/kept" "$LIMA_HOME/vm/lima.yaml" || fail "not in lima.yaml"
	expect 1 limactl mounts add vm "$TMP/other:$TMP/guest/kept"
	has err "already"
	expect 0 limactl mounts remove vm "$TMP/guest/kept"
	! grep -q "$TMP/guest/kept" "$LIMA_HOME/vm/lima.yaml" || fail "still in lima.yaml"
	expect 1 limactl mounts remove vm "$TMP/guest/kept"
	has err "no mount"
}

test_a_mount_in_use_is_removed_by_force_only() {
	expect 0 limactl mounts add vm "$TMP/added:$TMP/guest/busy" --temporary
	exec 9<"$TMP/guest/busy/file"
	expect 1 limactl mounts remove vm "$TMP/guest/busy"
	has err busy
	expect 0 limactl mounts remove vm "$TMP/guest/busy" --force
	exec 9<&-
}

test_what_the_guest_unmounts_stays_so() {
	cat "$NESTED/file" # so that its folder is watched, and
	echo x >"$TMP/other/more" # a process is there that replays this
	wait_readable "$NESTED/more" 5
	umount "$NESTED"
	wait_line "$LIMA_HOME/vm/ha.stderr.log" "the guest has unmounted '$NESTED'" 10
	[ "$(state "$NESTED")" = unmounted ] || fail "state: $(state "$NESTED")"
}

test_a_mount_that_cannot_be_is_said_and_the_others_come_up() {
	echo >"$TMP/guest/in-the-way"
	expect 1 limactl mounts add vm "$TMP/added:$TMP/guest/in-the-way"
	has err "in-the-way"
	expect 1 limactl mounts add vm "/proc/cannot/be/made:$TMP/guest/x"
	has err "/proc/cannot"
	expect 1 limactl mounts add vm "$SHARED/file:$TMP/guest/x"
	has err "must be a folder"
	expect 1 limactl mounts add vm "$SHARED:/etc"
	has err "guest's own"
	[ "$(state "$SEEN")" = mounted ] || fail "state: $(state "$SEEN")"
}

# The next start: what is in the way of one mount stays, and is named wherever one looks.
test_a_mount_that_fails_at_the_start_is_named_and_the_others_come_up() {
	expect 0 limactl stop -f vm
	umount -l "$READ_ONLY" "$SEEN" "$TMP/guest/uncached" "$TMP/guest/made" 2>/dev/null || true
	rmdir "$TMP/guest/made"
	echo >"$TMP/guest/made"
	expect 1 limactl start --tty=false vm
	has err DEGRADED
	has err "$TMP/guest/made"
	expect 0 limactl mounts vm
	has out failed
	expect 0 limactl list --json vm
	has out '"mountFailures":[{'
	expect 0 cat "$SEEN/file"
	is hello
}

# Where nobody keeps its descriptors, the mount ends with it: also when a child of it waits for its answers.
test_a_guest_agent_that_is_killed_while_it_replays_leaves_no_process() {
	local agent child children

	expect 0 limactl stop -f vm
	umount -l "$READ_ONLY" "$SEEN" "$TMP/guest/uncached" 2>/dev/null || true
	rm "$TMP/guest/made"
	FAKE_QEMU_AGAIN_MS=100 expect 0 limactl start --tty=false vm
	for round in 1 2 3 4 5; do
		mkdir "$SHARED/burst$round"
		ls "$SEEN/burst$round"
		agent=$(pgrep -P "$(cat "$LIMA_HOME/vm/qemu.pid")")
		(cd "$SHARED/burst$round" && seq 2000 | xargs touch)
		children=$(pgrep -P "$agent")
		[ -n "$children" ] || fail "nobody replays"
		kill -KILL "$agent"
		for child in $children; do
			wait_gone "$child" 5
		done
		for _ in $(seq 50); do
			[ "$(timeout 5 cat "$SEEN/file" 2>/dev/null)" != hello ] || break
			sleep 0.1 # it is in pieces until it is mounted anew
		done
		[ "$(timeout 5 cat "$SEEN/file")" = hello ] || fail "$(limactl mounts vm)"
	done
}

run_tests test_start_mounts_what_the_configuration_names test_a_read_only_mount_is_so_on_both_sides \
	test_it_is_a_file_system test_a_hostile_guest_gets_errors_and_nothing_else \
	test_a_folder_whose_names_are_looked_up_is_read_whole test_a_disk_that_hangs_delays_nothing_else \
	test_a_program_that_writes_does_not_notice_what_dies test_a_server_whose_state_is_lost_mounts_anew \
	test_what_the_host_changes_is_seen_at_once \
	test_folders_that_the_guest_makes_are_known_to_it_but_not_for_longer_than_they_are_so \
	test_what_the_host_mounts_in_the_share_is_seen_at_once test_without_a_cache_there_is_nothing_to_wait_for \
	test_watchers_see_what_the_host_does \
	test_watchers_learn_what_happened_while_the_server_was_dead test_mounts_come_and_go_without_a_trace \
	test_a_mount_that_is_added_is_kept_in_the_configuration test_a_mount_in_use_is_removed_by_force_only \
	test_what_the_guest_unmounts_stays_so test_a_mount_that_cannot_be_is_said_and_the_others_come_up \
	test_a_mount_that_fails_at_the_start_is_named_and_the_others_come_up \
	test_a_guest_agent_that_is_killed_while_it_replays_leaves_no_process
