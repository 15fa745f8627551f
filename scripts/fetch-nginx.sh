#!/usr/bin/env bash
# Sees to it that there is an nginx for the test of docs/proxy.md (internal/httpapi). Installed, it would begin to
# serve port 80.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/from-debian.sh"

needs="The test of docs/proxy.md needs nginx"
remedy="Install it so that it is found in PATH (Debian, Ubuntu: apt-get install nginx-light; Fedora: dnf install nginx; macOS: brew install nginx)."

will_do() {
	"$1" -v 2>&1 | grep -q '^nginx version: nginx/1\.[1-9][0-9]'
}

see_to nginx trixie nginx libc6 libcrypt1 libpcre2-8-0 libssl3t64 zlib1g libzstd1
