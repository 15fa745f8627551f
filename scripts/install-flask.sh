#!/usr/bin/env bash
# Sees to it that a python3 has Flask, PyJWT and python-dotenv, of which the Flask server in
# docs/from-the-guides.md is made. Where none has, root on Debian gets them from there; everybody else is
# told how to. The walk through the guides tries the same ones (internal/guides/walk).
set -euo pipefail

for python in python3 /usr/bin/python3; do
	if "$python" -c 'import flask, jwt, dotenv' 2>/dev/null; then exit 0; fi
done
if [[ $EUID -ne 0 ]] || ! type -P apt-get >/dev/null; then
	echo "The tests of the Flask server need a python3 in PATH with Flask, PyJWT and python-dotenv." >&2
	echo "Debian: sudo apt-get install python3-flask python3-jwt python3-dotenv. Elsewhere: python3 -m pip install Flask PyJWT python-dotenv." >&2
	exit 1
fi
echo "Installing Flask" >&2
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-flask python3-jwt python3-dotenv >/dev/null
