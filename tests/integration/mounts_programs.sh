#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What programs do in a folder that the guest agent has mounted: git, SQLite, stress-ng, trees as package
# managers make them. The kernel is this host's; see mounts_lib.sh.
. "$(dirname "$0")/mounts_lib.sh"

for program in git sqlite3 stress-ng tar; do
	command -v "$program" >/dev/null || skip_all "$program is not installed"
done

# Of stress-ng, with --verify: what works with files, and needs neither other devices nor another kernel.
STRESSORS=(access chdir chmod chown copy-file dentry dir dirdeep dirmany fallocate fcntl file-ioctl filename flock
	fstat getdent hdd link locka lockf lockofd open rename seek symlink sync-file touch
	utime xattr)
SECONDS_EACH=${SECONDS_EACH:-1}

test_start() {
	write_template <<-YAML
		mounts:
		- location: "$SHARED"
		  mountPoint: "$SEEN"
		  writable: true
	YAML
	expect 0 limactl start --tty=false --name vm "$TMP/vm.yaml"
	git config --global user.name test
	git config --global user.email test@example.org
	git config --global --add safe.directory '*'
}

# A history of some depth and breadth.
make_history() {
	local i

	git init -q "$1"
	for i in $(seq 20); do
		mkdir -p "$1/d$i"
		seq "$i" $((i * 50)) | split -l 10 - "$1/d$i/f"
		git -C "$1" add .
		git -C "$1" commit -qm "commit $i"
	done
}

test_git_clones_collects_and_checks() {
	make_history "$TMP/origin"
	git clone -q --no-local "$TMP/origin" "$SEEN/clone"
	git -C "$SEEN/clone" checkout -q -b topic HEAD~10
	git -C "$SEEN/clone" rm -q -r d1
	git -C "$SEEN/clone" mv d2 d2moved
	git -C "$SEEN/clone" commit -qm moved
	git -C "$SEEN/clone" rebase -q origin/HEAD
	git -C "$SEEN/clone" gc -q --aggressive --prune=now
	git -C "$SEEN/clone" fsck --strict --no-progress
	[ -z "$(git -C "$SEEN/clone" status --porcelain)" ] || fail "$(git -C "$SEEN/clone" status --porcelain)"
	# The host, which has other inode numbers and times, agrees after one look.
	[ -z "$(git -C "$SHARED/clone" status --porcelain)" ] || fail "$(git -C "$SHARED/clone" status --porcelain)"
	git clone -q "$SEEN/clone" "$SEEN/local" # by hard links
	git -C "$SEEN/local" fsck --strict --no-progress
	rm -rf "$SEEN/clone" "$SEEN/local"
}

test_sqlite_keeps_a_log_beside_the_database() {
	local db=$SEEN/db.sqlite i

	[ "$(sqlite3 "$db" 'pragma journal_mode=wal; create table t(a integer primary key, b text);')" = wal ] || fail "no WAL"
	for i in 1 2 3 4; do
		{
			echo ".timeout 20000"
			for _ in $(seq 50); do
				echo "begin immediate; insert into t(b) values(hex(randomblob(200))); commit;"
			done
		} | sqlite3 "$db" &
	done
	wait
	[ "$(sqlite3 "$db" 'select count(*) from t;')" = 200 ] || fail "$(sqlite3 "$db" 'select count(*) from t;') rows"
	[ "$(sqlite3 "$db" 'pragma integrity_check;')" = ok ] || fail "not intact"
	sqlite3 "$db" 'pragma wal_checkpoint(truncate); pragma journal_mode=delete; vacuum;'
	[ "$(sqlite3 "$SHARED/db.sqlite" 'pragma integrity_check; select count(*) from t;' | tr '\n' ' ')" = "ok 200 " ] || fail "the host sees something else"
	rm "$db"
}

# Many small folders, scoped names, links to programs, files replaced while they are in use, all moved at last.
test_trees_of_packages_come_and_go() {
	local tree=$SEEN/node_modules.tmp

	python3 - "$tree" <<-'PYTHON'
		import os, sys
		top = sys.argv[1]
		for i in range(150):
		    package = f"{top}/@scope{i % 7}/package-{i}" if i % 3 else f"{top}/package-{i}"
		    os.makedirs(f"{package}/lib/node_modules/deep-{i}/dist")
		    for name in ("package.json", "README.md", "lib/index.js", "lib/.hidden", f"lib/node_modules/deep-{i}/dist/x.min.js"):
		        with open(f"{package}/{name}.tmp", "w") as f:
		            f.write(name * (i + 1))
		        os.chmod(f"{package}/{name}.tmp", 0o755 if name.endswith(".js") else 0o644)
		        os.rename(f"{package}/{name}.tmp", f"{package}/{name}")
		    os.makedirs(f"{top}/.bin", exist_ok=True)
		    os.symlink(os.path.relpath(f"{package}/lib/index.js", f"{top}/.bin"), f"{top}/.bin/tool-{i}")
	PYTHON
	mv "$tree" "$SEEN/node_modules"
	[ "$(find "$SEEN/node_modules" -type f | wc -l)" = 750 ] || fail "not all files"
	[ -z "$(find "$SEEN/node_modules/.bin" -xtype l)" ] || fail "links lead nowhere"
	tar -C "$SEEN" -cf "$SEEN/tree.tar" node_modules
	mkdir "$SEEN/again" "$TMP/again"
	tar -C "$SEEN/again" -xpf "$SEEN/tree.tar"
	tar -C "$TMP/again" -xpf "$SHARED/tree.tar"
	diff -r --no-dereference "$SEEN/again" "$TMP/again"
	cp -a "$SEEN/node_modules" "$SEEN/copy"
	diff -r --no-dereference "$SEEN/copy" "$SHARED/node_modules"
	rm -rf "$SEEN/node_modules" "$SEEN/again" "$SEEN/copy" "$SEEN/tree.tar"
	[ -z "$(ls "$SHARED")" ] || fail "$(ls "$SHARED") is left"
}

test_stressors_find_no_fault() {
	local name failed=

	mkdir "$SEEN/stress"
	for name in "${STRESSORS[@]}"; do
		timeout 60 stress-ng --"$name" 2 --timeout "$SECONDS_EACH" --verify --temp-path "$SEEN/stress" >"$TMP/stress" 2>&1 || {
			failed="$failed $name"
			cat "$TMP/stress"
		}
	done
	[ -z "$failed" ] || fail "of stress-ng:$failed"
	[ -z "$(ls "$SHARED/stress")" ] || fail "$(ls "$SHARED/stress") is left"
}

run_tests test_start test_git_clones_collects_and_checks test_sqlite_keeps_a_log_beside_the_database \
	test_trees_of_packages_come_and_go test_stressors_find_no_fault
