#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every source looks as clang-format would have it. One test per top folder, TAP.
cd "$1" || exit 1
if ! command -v clang-format >/dev/null; then
    echo "1..0 # SKIP clang-format is not installed"
    exit 0
fi
# Another version formats some things differently.
case $(clang-format --version) in
*"version 14."*) ;;
*)
    echo "1..0 # SKIP the sources are formatted by clang-format 14, here is another"
    exit 0
    ;;
esac
n=0
status=0
for folder in proto guest host tests; do
    n=$((n + 1))
    if find "$folder" -name '*.[ch]' -print0 | xargs -0 clang-format --dry-run -Werror >&2; then
        echo "ok $n - $folder"
    else
        echo "not ok $n - $folder"
        status=1
    fi
done
echo "1..$n"
exit $status
