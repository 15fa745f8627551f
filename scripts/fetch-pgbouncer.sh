#!/usr/bin/env bash
# Sees to it that there is a PgBouncer which carries prepared statements, as Neon's pooler does: 1.21 or
# newer. Debian 12 has an older one. Where none is found, Debian 13's is unpacked into the cache together
# with the libraries that it was built for, its C library included; nothing is installed on the machine,
# and no right of root's is needed. The tests look in the same places (postgrestest).
set -euo pipefail

oldest=1.21
release=trixie
# What the program is linked against, and the loader that brings it together.
packages=(pgbouncer libc6 libgcc-s1 libevent-2.1-7t64 libcares2 libssl3t64 zlib1g libzstd1 libpam0g libaudit1 libcap-ng0 libsystemd0 libcap2)

cache=/var/cache/slipway # where the user that root lends to servers can go
if [[ $EUID -ne 0 ]]; then
	cache="${XDG_CACHE_HOME:-$HOME/.cache}/slipway"
fi
home="$cache/pgbouncer"

will_do() {
	local version
	version="$("$1" --version 2>/dev/null | sed -n 's/^PgBouncer \([0-9.]*\).*/\1/p')"
	[[ -n $version && "$(printf '%s\n' "$oldest" "$version" | sort -V | head -n 1)" == "$oldest" ]]
}

is_there() {
	local program
	for program in pgbouncer /usr/sbin/pgbouncer "$home/pgbouncer"; do
		if will_do "$program"; then return 0; fi
	done
	return 1
}

give_up() {
	echo "The tests need PgBouncer $oldest or newer, and $1." >&2
	echo "Install it so that it is found in PATH (Debian 13, Ubuntu 24.04: apt-get install pgbouncer; macOS: brew install pgbouncer)." >&2
	exit 1
}

is_there && exit 0
mkdir -p "$cache"
exec 9>"$home.lock"
flock 9
is_there && exit 0 # by now

echo "Fetching PgBouncer into $home" >&2
fault="$("$(dirname "${BASH_SOURCE[0]}")/unpack-debian.sh" "$home" usr/sbin/pgbouncer "$release" "${packages[@]}" 2>&1)" || give_up "$fault"
will_do "$home/pgbouncer" || give_up "Debian's does not run here"
