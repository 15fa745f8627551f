# from-debian.sh is sourced by scripts that see to it that a program is there which the tests run. Where none of the
# machine will do, the one of a release of Debian is unpacked into the cache, with the libraries that it was
# built for; nothing is installed on the machine, and no right of root's is needed. The tests look in the
# same places.
# shellcheck shell=bash

cache=/var/cache/slipway # where the user that root lends to servers can go
if [[ $EUID -ne 0 ]]; then
	cache="${XDG_CACHE_HOME:-$HOME/.cache}/slipway"
fi

# see_to NAME RELEASE PACKAGE...: sees to NAME, which PACKAGE... of RELEASE have in /usr/sbin. The script that asks has
# will_do PROGRAM, which tells whether a program serves, and $needs and $remedy, two sentences for people.
see_to() {
	local name="$1" home="$cache/$1" fault
	is_there "$name" "$home" && return
	mkdir -p "$cache"
	exec 9>"$home.lock"
	flock 9
	is_there "$name" "$home" && return # by now

	echo "Fetching $name into $home" >&2
	fault="$("$(dirname "${BASH_SOURCE[0]}")/unpack-debian.sh" "$home" "usr/sbin/$name" "${@:2}" 2>&1)" || give_up "$fault"
	will_do "$home/$name" || give_up "Debian's does not run here"
}

is_there() {
	local program
	for program in "$1" "/usr/sbin/$1" "$2/$1"; do
		if will_do "$program"; then return 0; fi
	done
	return 1
}

give_up() {
	echo "$needs, and $1." >&2
	echo "$remedy" >&2
	exit 1
}
