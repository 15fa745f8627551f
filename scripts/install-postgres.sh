#!/usr/bin/env bash
# Sees to it that there are psql, pg_dump and pg_restore for the tests of docs/running.md and docs/backup.md. Where none are
# found, root on Debian gets PostgreSQL from there, server included, for pg_dump is none for a server that is newer;
# no cluster is made, and nothing is started. Everybody else is told how to. The tests look in the same places
# (internal/e2e).
set -euo pipefail

for dir in "${PG_BIN_DIR:-}" /usr/lib/postgresql/*/bin; do
	if [[ -x $dir/pg_dump && -x $dir/pg_restore && -x $dir/psql ]]; then exit 0; fi
done
if type -P pg_dump pg_restore psql >/dev/null; then exit 0; fi
if [[ $EUID -ne 0 ]] || ! type -P apt-get >/dev/null; then
	echo "The tests of docs/backup.md need psql, pg_dump and pg_restore in PATH or in PG_BIN_DIR, from a PostgreSQL with its server." >&2
	echo "Debian: sudo apt-get install postgresql. Fedora: sudo dnf install postgresql-server. macOS: brew install postgresql@17." >&2
	exit 1
fi
echo "Installing PostgreSQL" >&2
mkdir -p /etc/postgresql-common/createcluster.d
echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/slipway.conf
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
