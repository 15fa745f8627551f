#!/usr/bin/env bash
# Sees to it that there is a PgBouncer which carries prepared statements, as Neon's pooler does: 1.21 or newer, which
# Debian 12 does not have (postgrestest).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/from-debian.sh"

oldest=1.21
needs="The tests need PgBouncer $oldest or newer"
remedy="Install it so that it is found in PATH (Debian 13, Ubuntu 24.04: apt-get install pgbouncer; macOS: brew install pgbouncer)."

will_do() {
	local version
	version="$("$1" --version 2>/dev/null | sed -n 's/^PgBouncer \([0-9.]*\).*/\1/p')"
	[[ -n $version && "$(printf '%s\n' "$oldest" "$version" | sort -V | head -n 1)" == "$oldest" ]]
}

# What the program is linked against, and the loader that brings it together.
see_to pgbouncer trixie pgbouncer libc6 libgcc-s1 libevent-2.1-7t64 libcares2 libssl3t64 zlib1g libzstd1 libpam0g libaudit1 libcap-ng0 libsystemd0 libcap2
