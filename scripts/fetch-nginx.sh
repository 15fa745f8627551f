#!/usr/bin/env bash
# Sees to it that there is an nginx for the test of docs/proxy.md. Where none is found, Debian's is unpacked into
# the cache; nothing is installed on the machine, where it would begin to serve port 80. The test looks in the
# same places (internal/httpapi).
set -euo pipefail

release=trixie
packages=(nginx libc6 libcrypt1 libpcre2-8-0 libssl3t64 zlib1g libzstd1)

cache=/var/cache/slipway
if [[ $EUID -ne 0 ]]; then
	cache="${XDG_CACHE_HOME:-$HOME/.cache}/slipway"
fi
home="$cache/nginx"

will_do() {
	"$1" -v 2>&1 | grep -q '^nginx version: nginx/1\.[1-9][0-9]'
}

is_there() {
	local program
	for program in nginx /usr/sbin/nginx "$home/nginx"; do
		if will_do "$program"; then return 0; fi
	done
	return 1
}

give_up() {
	echo "The test of docs/proxy.md needs nginx, and $1." >&2
	echo "Install it so that it is found in PATH (Debian, Ubuntu: apt-get install nginx-light; Fedora: dnf install nginx; macOS: brew install nginx)." >&2
	exit 1
}

is_there && exit 0
mkdir -p "$cache"
exec 9>"$home.lock"
flock 9
is_there && exit 0 # by now

echo "Fetching nginx into $home" >&2
fault="$("$(dirname "${BASH_SOURCE[0]}")/unpack-debian.sh" "$home" usr/sbin/nginx "$release" "${packages[@]}" 2>&1)" || give_up "$fault"
will_do "$home/nginx" || give_up "Debian's does not run here"
