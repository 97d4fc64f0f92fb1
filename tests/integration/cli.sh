#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The command line without any virtual machine.
. "$(dirname "$0")/lib.sh"

disk=$TMP/disk.img
truncate -s 1M "$disk"

template() {
	cat <<-YAML
		images:
		- location: $disk
		cpus: 1
		memory: 256MiB
		disk: 2MiB
		plain: true
	YAML
}

test_help_goes_to_stdout() {
	expect 0 limactl --help
	has out "Basic Commands:"
	expect 0 limactl
	has out "Basic Commands:"
	expect 0 limactl help start
	has out "limactl start [NAME|FILE.yaml|URL]"
	expect 0 limactl start -h
	has out "Flags inherited from \`limactl create\`:"
	expect 0 limactl image
	has out "limactl image [command]"
}

test_version_is_printed() {
	expect 0 limactl --version
	has out "limactl version 2."
	expect 0 limactl -v
}

test_unknown_commands_are_refused_with_a_suggestion() {
	expect 1 limactl ssh
	has err 'unknown command \"ssh\" for \"limactl\"'
	has err "Did you mean this?"
	has err "shell"
	expect 1 limactl image frobnicate
	has err 'unknown command \"frobnicate\" for \"limactl image\"'
}

test_wrong_flags_and_counts_are_refused() {
	expect 1 limactl list --nope
	has err "unknown flag: --nope"
	expect 1 limactl start --timeout 5
	has err "invalid argument"
	expect 1 limactl delete
	has err "requires at least 1 arg(s), only received 0"
	expect 1 limactl info x
	has err 'unknown command \"x\" for \"limactl info\"'
	expect 1 limactl hostagent x
	has err 'required flag(s) \"socket\" not set'
}

test_log_flags_work_on_both_sides_of_the_command() {
	expect 0 limactl --log-format json list
	has err '"level":"warning"'
	expect 0 limactl list --log-format=json
	has err '"level":"warning"'
	expect 0 limactl --log-level error list
	lacks err "No instance found"
	expect 1 limactl --log-level loud list
	expect 1 limactl --tty --yes list
	has err "cannot use both"
}

test_empty_list_is_a_warning() {
	expect 0 limactl list
	has err 'level=warning msg="No instance found. Run `limactl create` to create an instance."'
	is ""
	expect 1 limactl list nobody
	has err 'level=warning msg="No instance matching nobody found."'
	has err 'level=fatal msg="unmatched instances"'
	[ ! -e "$LIMA_HOME" ] || fail "list has made $LIMA_HOME"
}

test_list_refuses_options_that_conflict() {
	expect 1 limactl list --quiet --json
	has err "option --quiet can only be used with '--format table'"
	expect 1 limactl list --yq .name --format table
	has err "option --yq only works with --format json or yaml"
	expect 1 limactl list --json --format yaml
	expect 0 limactl list --list-fields
	[ "$(wc -l <"$TMP/out")" -ge 23 ]
	sort -c "$TMP/out"
}

test_validate_names_file_line_and_key() {
	printf 'cpus: two\nmemory: 4GiB\nimages:\n- location: %s\n' "$disk" >"$TMP/bad.yaml"
	expect 1 limactl validate "$TMP/bad.yaml"
	has err "bad.yaml:1:"
	has err "cpus"
	printf 'cpus: [1\n' >"$TMP/bad.yaml"
	expect 1 limactl validate "$TMP/bad.yaml"
	has err "bad.yaml"
	template >"$TMP/good.yaml"
	expect 0 limactl validate "$TMP/good.yaml"
	has err "$TMP/good.yaml\`: OK"
	expect 0 limactl validate --fill "$TMP/good.yaml"
	has out "cpus: 1"
	has out "vmType: qemu"
	expect 1 limactl validate template:nonexistent
}

test_shipped_templates_are_valid() {
	local name

	for name in $("$LIMACTL" create --list-templates); do
		expect 0 limactl validate "template:$name"
		lacks err level=warning
	done
}

test_create_and_delete_without_start() {
	template | expect 0 limactl create --name one --cpus 2 -
	has err "limactl start one"
	[ "$(stat -c %a "$LIMA_HOME/one")" = 700 ]
	[ -s "$LIMA_HOME/one/disk" ]
	grep -q '^cpus: 2$' "$LIMA_HOME/one/lima.yaml"
	grep -q '^v2\.' "$LIMA_HOME/one/lima-version"
	expect 0 limactl list --json
	has out '{"name":"one","hostname":"lima-one","status":"Stopped","dir":"'
	template | expect 1 limactl create --name one -
	has err 'instance `one` already exists'
	expect 0 limactl delete one
	has err 'msg="Deleted `one` ('
	[ ! -e "$LIMA_HOME/one" ]
	expect 0 limactl delete one
	has err 'level=warning msg="Ignoring non-existent instance `one`"'
}

test_a_failed_create_leaves_nothing() {
	template >"$TMP/two.yaml"
	expect 1 limactl create --name 'bad..name' "$TMP/two.yaml"
	has err 'bad..name'
	expect 1 limactl create --cpus=-1 "$TMP/two.yaml"
	expect 1 limactl create --param k=v "$TMP/two.yaml"
	has err 'error while processing flag `param`: template does not define param `k`'
	expect 1 limactl create --set '.cpus = "lots"' "$TMP/two.yaml"
	expect 1 limactl create --set '.cpus = env.HOME' "$TMP/two.yaml"
	has err "env operations have been disabled"
	expect 1 limactl create --name "$(printf 'n%.0s' $(seq 76))" "$TMP/two.yaml"
	template | sed "s|$disk|$TMP|" >"$TMP/three.yaml"
	expect 1 limactl create "$TMP/three.yaml"
	[ -z "$(ls "$LIMA_HOME" | grep -v '^_')" ] || fail "left: $(ls "$LIMA_HOME")"
	template | expect 1 limactl create -
	has err "--name"
}

test_list_in_all_formats() {
	template | expect 0 limactl create --name b -
	template | expect 0 limactl create --name a -
	mkdir "$LIMA_HOME/empty" "$LIMA_HOME/_config2"
	expect 0 limactl list
	[ "$(sed -n 2,3p "$TMP/out" | cut -c1)" = "$(printf 'a\nb')" ]
	has out "NAME     STATUS     SSH            VMTYPE    ARCH      CPUS    MEMORY    DISK    DIR"
	has out "a        Stopped    127.0.0.1:0    qemu"
	has out "256MiB"
	has out "empty    Broken     :0"
	has err 'instance `empty` has errors'
	expect 0 limactl list -q
	is "$(printf 'a\nb\nempty')"
	expect 0 limactl list b a -q
	is "$(printf 'b\na')"
	expect 0 limactl ls --format '{{.Name}} {{.Status}} {{.CPUs}} {{.Config.CPUs}}' a
	is "a Stopped 1 1"
	expect 1 limactl ls --format '{{.Nope}}' a
	has err "can't evaluate field Nope"
	is ""
	expect 0 limactl list --yq .name a b
	is "$(printf 'a\nb')"
	expect 0 limactl list -l '.name == "b"' -q
	is b
	expect 0 limactl list --format yaml a
	[ "$(sed -n 1,2p "$TMP/out")" = "$(printf -- '---\nname: a')" ]
	expect 0 env _LIMA_OUTPUT_IS_TTY=1 "$LIMACTL" list --json a
	[ "$(wc -l <"$TMP/out")" -gt 10 ]
	rmdir "$LIMA_HOME/_config2"
}

test_delete_keeps_folders_that_are_no_instances() {
	expect 1 limactl delete empty a
	has err 'instance `empty` directory'
	has err 'Deleted `a`'
	[ -d "$LIMA_HOME/empty" ]
	rmdir "$LIMA_HOME/empty"
	: >"$LIMA_HOME/b/protected"
	expect 1 limactl delete -f b
	has err 'failed to delete instance `b`: instance is protected'
	rm "$LIMA_HOME/b/protected"
	expect 0 limactl rm b
}

test_stop_of_what_does_not_run_is_refused() {
	template | expect 0 limactl create --name s -
	expect 1 limactl stop s
	has err "limactl stop -f"
	expect 0 limactl stop -f s
	expect 1 limactl stop nobody
	has err 'instance `nobody` does not exist'
	expect 0 limactl delete s
}

test_flags_change_an_existing_instance_only_if_valid() {
	template | expect 0 limactl create --name e -
	expect 1 limactl start e --memory 0.000000001
	expect 1 limactl restart e --set '.cpus = "x"'
	grep -q '^memory: 256MiB$' "$LIMA_HOME/e/lima.yaml"
	expect 0 limactl delete e
}

test_verbs_exclude_each_other() {
	template | expect 0 limactl create --name l -
	exec 8>"$LIMA_HOME/l/lima.lock"
	flock 8
	expect 1 limactl start l
	has err 'another limactl command is at work on instance `l`'
	expect 1 limactl delete -f l
	exec 8>&-
	expect 0 limactl delete l
}

test_info_is_json() {
	expect 0 limactl info
	python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); assert d["vmTypes"] == ["qemu"]' "$TMP/out"
	expect 0 limactl info --yq .limaHome
	is "$LIMA_HOME"
}

test_lima_is_a_short_form_of_shell() {
	expect 0 "$LIMA" --help
	has out "Usage: lima"
	expect 0 env LIMACTL="$LIMACTL" "$LIMA" --version
	has out "limactl version"
	expect 1 env LIMACTL="$LIMACTL" "$LIMA" true
	has err 'instance `default` does not exist'
	expect 0 env LIMACTL=echo LIMA_INSTANCE=x LIMA_SHELL=/bin/zsh LIMA_WORKDIR='/a b' "$LIMA" ls -l
	is "shell --workdir /a b --shell /bin/zsh --instance x ls -l"
}

run_tests test_help_goes_to_stdout test_version_is_printed \
	test_unknown_commands_are_refused_with_a_suggestion test_wrong_flags_and_counts_are_refused \
	test_log_flags_work_on_both_sides_of_the_command test_empty_list_is_a_warning \
	test_list_refuses_options_that_conflict test_validate_names_file_line_and_key \
	test_shipped_templates_are_valid test_create_and_delete_without_start \
	test_a_failed_create_leaves_nothing test_list_in_all_formats \
	test_delete_keeps_folders_that_are_no_instances test_stop_of_what_does_not_run_is_refused \
	test_flags_change_an_existing_instance_only_if_valid test_verbs_exclude_each_other \
	test_info_is_json test_lima_is_a_short_form_of_shell
