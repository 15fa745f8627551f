#!/usr/bin/env bash
# Tries every parser of what comes from outside with inputs that nobody has thought of, for some seconds each
# (FUZZ_SECONDS), as many at once as there are processors. An input that fails is kept under the package's
# testdata/fuzz, where every go test tries it again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

mapfile -t packages < <(grep -rl --include='*_test.go' '^func Fuzz' internal | xargs -n 1 dirname | sort -u)
for package in "${packages[@]}"; do
	binary="$work/${package//\//.}"
	go test -c -fuzz=. -o "$binary" "./$package"
	for target in $(cd "$package" && "$binary" -test.list '^Fuzz'); do
		echo "$package $binary $target"
	done
done >"$work/targets"

# Go before 1.27 may take the end of the time for a failure (go.dev/issue/75804). Others name their input.
only_the_time_was_over() {
	grep -qx '    context deadline exceeded' "$1" && ! grep -qE 'Failing input written|seed corpus entry' "$1"
}

# Those of one package share nothing but its folder.
try() {
	local log="$2.$3.log"
	if ! (cd "$1" && "$2" -test.run '^$' -test.fuzz "^$3\$" -test.fuzztime "${FUZZ_SECONDS:-2}s" -test.parallel 1 \
		-test.fuzzcachedir "$2.$3" -test.timeout 2m) >"$log" 2>&1 && ! only_the_time_was_over "$log"; then
		{ echo "$1: $3"; cat "$log"; } >&2
		exit 255 # ends xargs
	fi
}
export -f try only_the_time_was_over
xargs -P "$(getconf _NPROCESSORS_ONLN)" -L 1 bash -c 'try "$@"' try <"$work/targets"
echo "fuzz: $(wc -l <"$work/targets") targets hold in ${#packages[@]} packages"
