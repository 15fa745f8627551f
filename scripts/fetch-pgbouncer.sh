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
grep -qsx 'ID=debian' /etc/os-release || give_up "it can be fetched on Debian alone"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[[ -r $keys ]] || give_up "the keys to check a download with are missing: $keys"
# The mirror that this machine uses.
mirror="$(find /etc/apt -name '*.list' -o -name '*.sources' | xargs cat | sed -nE 's#^[^\#]*(https?://[^ ]+/debian)/?( .*)?$#\1#p' | sed -n 1p)"
[[ -n $mirror ]] || give_up "no mirror of Debian is named in /etc/apt"

mkdir -p "$cache"
exec 9>"$home.lock"
flock 9
is_there && exit 0 # by now

echo "Fetching PgBouncer into $home" >&2
work="$(mktemp -d "$home.XXXXXX")"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/apt/{lists/partial,cache/archives/partial} "$work"/{debs,root}
touch "$work/apt/status"
echo "deb [signed-by=$keys] $mirror $release main" >"$work/apt/sources.list"
cat >"$work/apt/conf" <<CONF
Dir::Etc::SourceList "$work/apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$work/apt/lists";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
export APT_CONFIG="$work/apt/conf"
{
	apt-get -qq update && cd "$work/debs" && apt-get -qq download "${packages[@]}"
} >"$work/log" 2>&1 || { cat "$work/log" >&2; give_up "Debian's could not be fetched"; }
for deb in "$work"/debs/*.deb; do
	dpkg-deb -x "$deb" "$work/root"
done

cat >"$work/root/pgbouncer" <<'RUN'
#!/bin/sh
here="$(dirname "$0")"
exec "$here"/usr/lib/*/ld-linux-*.so.? --inhibit-cache --library-path "$(echo "$here"/usr/lib/*-linux-gnu*)" "$here/usr/sbin/pgbouncer" "$@"
RUN
chmod -R a+rX "$work/root"
chmod 755 "$work/root/pgbouncer"
will_do "$work/root/pgbouncer" || give_up "Debian's does not run here"
rm -rf "$home"
mv "$work/root" "$home"
