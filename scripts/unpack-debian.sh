#!/usr/bin/env bash
# unpack-debian.sh HOME PROGRAM RELEASE PACKAGE...: unpacks packages of a release of Debian into the folder HOME,
# and makes there a command of PROGRAM's own name that runs it with the libraries and the loader of the
# packages, C library included. Nothing is installed on the machine, and no right of root's is needed. Says
# on its standard error why it cannot.
set -euo pipefail
home="$1" program="$2" release="$3"
packages=("${@:4}")

give_up() {
	echo "$1" >&2
	exit 1
}

grep -qsx 'ID=debian' /etc/os-release || give_up "it can be fetched on Debian alone"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[[ -r $keys ]] || give_up "the keys to check a download with are missing: $keys"
# The mirror that this machine uses.
mirror="$(find /etc/apt -name '*.list' -o -name '*.sources' | xargs cat | sed -nE 's#^[^\#]*(https?://[^ ]+/debian)/?( .*)?$#\1#p' | sed -n 1p)"
[[ -n $mirror ]] || give_up "no mirror of Debian is named in /etc/apt"

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

command="$work/root/$(basename "$program")"
cat >"$command" <<RUN
#!/bin/sh
here="\$(dirname "\$0")"
exec "\$here"/usr/lib/*/ld-linux-*.so.? --inhibit-cache --library-path "\$(echo "\$here"/usr/lib/*-linux-gnu*)" "\$here/$program" "\$@"
RUN
chmod -R a+rX "$work/root"
chmod 755 "$command"
rm -rf "$home"
mv "$work/root" "$home"
