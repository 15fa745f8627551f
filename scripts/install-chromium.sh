#!/usr/bin/env bash
# Sees to it that there is a Chromium for the tests of pages. Where none is found, root on Debian gets it
# from there; everybody else is told how to. The tests look for the same names (internal/browser).
set -euo pipefail

for program in chromium chromium-browser google-chrome; do
	if [[ -x "$(type -P "$program")" ]]; then exit 0; fi
done
if [[ $EUID -ne 0 ]] || ! type -P apt-get >/dev/null; then
	echo "The tests of pages need Chromium in PATH, as chromium, chromium-browser or google-chrome." >&2
	echo "Debian: sudo apt-get install chromium. Fedora: sudo dnf install chromium. macOS: brew install chromium." >&2
	exit 1
fi
echo "Installing Chromium" >&2
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
