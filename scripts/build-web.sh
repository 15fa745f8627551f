#!/usr/bin/env bash
# Builds the page at / from web/ into web/dist, which Slipway's commands carry inside. Silent and quick when
# that is done already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../web"

built=dist/index.html
installed=node_modules/.installed
lock="$(sha256sum package-lock.json 2>/dev/null || shasum -a 256 package-lock.json)"

is_built() {
	[[ -f $built ]] && [[ -z "$(find index.html package.json package-lock.json tsconfig.json vite.config.ts src -newer "$built" -print -quit)" ]]
}

if is_built; then exit 0; fi

if ! command -v npm >/dev/null; then
	echo "The page needs Node.js with npm to be built: version 20.19, 22.12 or later." >&2
	exit 1
fi

if [[ "$(cat "$installed" 2>/dev/null)" != "$lock" ]]; then
	echo "fetching what the page is made of (npm ci)"
	npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	echo "$lock" >"$installed"
fi

echo "building the page (web/dist)"
npm run --silent build -- --logLevel=warn
