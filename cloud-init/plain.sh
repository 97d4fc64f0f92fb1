# SPDX-License-Identifier: Apache-2.0
# Provisioning in plain mode, run by cloud-init from the seed medium on every boot:
# `plain.sh boot` early, `plain.sh provision` late. A failing script is named, and the rest still runs.
seed=/mnt/lima-cidata
status=0

# Lines of KEY=VALUE, taken literally.
while IFS= read -r line; do
    export "$line"
done <$seed/param.env
user=$(sed -n 's/^LIMA_CIDATA_USER=//p' $seed/lima.env)

run() {
    "$@" && return
    status=$?
    echo "lima: $script failed with status $status" >&2
}

case $1 in
boot)
    for script in $seed/provision.boot/*; do
        [ -f "$script" ] && run /bin/sh "$script"
    done
    ;;
provision)
    for script in $seed/provision.system/*; do
        [ -f "$script" ] && run "$script"
    done
    for script in $seed/provision.user/*; do
        [ -f "$script" ] || continue
        # The medium is root's alone: the user gets a copy.
        copy=$(mktemp /tmp/lima-user-script.XXXXXX) && cat "$script" >"$copy" &&
            chown "$user" "$copy" && chmod 0700 "$copy" &&
            run sudo -iu "$user" "--preserve-env=$(sed -n 's/=.*//p' $seed/param.env | paste -sd,)" "$copy"
        rm -f "$copy"
    done
    ;;
esac
exit $status
