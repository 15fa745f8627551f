// Package migrations holds the database's history as SQL, oldest first. River's own tables are
// migrated by River, after these.
package migrations

import "embed"

//go:embed *.sql
var FS embed.FS
