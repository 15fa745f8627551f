#!/usr/bin/env bash
# Finds what the tests need beside Go and Node.js, and fetches what is missing. Silent and quick when all
# is there.
set -euo pipefail
scripts="$(dirname "${BASH_SOURCE[0]}")"

"$scripts/install-postgres.sh"
"$scripts/fetch-pgbouncer.sh"
"$scripts/fetch-nginx.sh"
"$scripts/install-chromium.sh"
"$scripts/install-flask.sh"
