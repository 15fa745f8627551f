// Package postgres holds every statement, and knows how this service shares a database with others.
package postgres

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Names are the schemas that a database keeps our tables and the guides' tables in. Statements are
// written with the defaults, "slipway." and "public.", and are rewritten where they differ.
type Names struct {
	Schema string // ours, River's and goose's tables
	Guide  string // uploadcare_files and cloudinary_files
}

// DefaultNames are the schemas as the documentation names them.
var DefaultNames = Names{Schema: "slipway", Guide: "public"}

var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,47}$`)

// Check refuses a name that would have to be quoted.
func (n Names) Check() error {
	for _, s := range []string{n.Schema, n.Guide} {
		if !plainName.MatchString(s) {
			return fmt.Errorf("schema name %q: use lower-case letters, digits and _, at most 48", s)
		}
	}
	return nil
}

// SQL puts the names into a statement.
func (n Names) SQL(s string) string {
	if n == DefaultNames {
		return s
	}
	return strings.NewReplacer(
		"slipway.", n.Schema+".",
		"SCHEMA slipway", "SCHEMA "+n.Schema,
		"SCHEMA public", "SCHEMA "+n.Guide,
		"'slipway_events'", "'"+n.channel()+"'",
		"public.", n.Guide+".",
	).Replace(s)
}

func (n Names) channel() string { return n.Schema + "_events" }

// args are a statement's named arguments; passing them also puts the connection's Names in.
type args map[string]any

func (a args) RewriteQuery(ctx context.Context, conn *pgx.Conn, sql string, _ []any) (string, []any, error) {
	return pgx.NamedArgs(a).RewriteQuery(ctx, conn, namesOf(conn).SQL(sql), nil)
}

const namesKey = "slipway.names"

func namesOf(conn *pgx.Conn) Names {
	if n, ok := conn.PgConn().CustomData()[namesKey].(Names); ok {
		return n
	}
	return DefaultNames
}
