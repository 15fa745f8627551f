package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// guideTable is a table as a guide defines it, and the columns of ours beside it.
type guideTable struct {
	name    string
	key     string // the provider's name of an asset, unique
	columns []guideColumn
	ours    []guideColumn // nullable, added by the migration where they are absent
}

type guideColumn struct {
	name, sqlType string
	add           string // how a missing one is added
	maybe         bool   // not filled in every row that we write, so it may not be NOT NULL
}

var (
	guideID   = guideColumn{name: "id", sqlType: "integer", add: "ADD COLUMN id serial"}
	guideTime = guideColumn{name: "upload_timestamp", sqlType: "timestamp with time zone",
		add: "ADD COLUMN upload_timestamp timestamp with time zone, ALTER COLUMN upload_timestamp SET DEFAULT now()"} // in this order old rows get none
)

func guideText(name string) guideColumn {
	return guideColumn{name: name, sqlType: "text", add: "ADD COLUMN " + name + " text"}
}

func guideKey(name string) guideColumn {
	return guideColumn{name: name, sqlType: "text", add: "ADD COLUMN " + name + " text UNIQUE"}
}

var guideTables = []guideTable{
	{
		name:    "uploadcare_files",
		key:     "file_id",
		columns: []guideColumn{guideID, guideKey("file_id"), guideText("file_url"), guideText("user_id"), guideTime},
		ours: []guideColumn{
			{name: "upload_id", sqlType: "uuid"}, {name: "file_name", sqlType: "text"}, {name: "content_type", sqlType: "text"},
			{name: "size", sqlType: "bigint"},
		},
	},
	{
		name:    "cloudinary_files",
		key:     "public_id",
		columns: []guideColumn{guideID, guideKey("public_id"), guideText("media_url"), guideText("resource_type"), guideText("user_id"), guideTime},
		ours: []guideColumn{
			{name: "upload_id", sqlType: "uuid"}, {name: "file_name", sqlType: "text"}, {name: "content_type", sqlType: "text", maybe: true},
			{name: "size", sqlType: "bigint", maybe: true}, {name: "version", sqlType: "bigint", maybe: true}, {name: "format", sqlType: "text", maybe: true},
			{name: "width", sqlType: "integer", maybe: true}, {name: "height", sqlType: "integer", maybe: true}, {name: "tags", sqlType: "text[]"},
		},
	},
}

// alike lists the types that serve as well as the guide's own.
var alike = map[string][]string{
	"integer": {"bigint"},
	"text":    {"character varying"},
	"text[]":  {"character varying[]"},
}

// shortest is the length from which a varchar holds whatever we write: names and types have at most
// 255 bytes, URLs and ids fewer.
const shortest = 255

// foundTable is what leads a guide table's name.
type foundTable struct {
	Kind      string // of pg_class
	Own       bool
	Owner, Me string // quoted
	Forced    bool   // row-level security binds us although we are the owner
}

// foundColumn is a column as the database has it.
type foundColumn struct {
	Name, Quoted string
	Type         string // without its length
	Length       int    // of a varchar; 0 is any
	Required     bool   // NOT NULL
	Filled       bool   // by a default, an identity or an expression
	Key          bool   // unique by itself
	Castable     []string
}

// castable tells whether a USING expression leads from the column's type to another.
func (c foundColumn) castable(to string) bool {
	return to == "text" || slices.Contains(c.Castable, to)
}

// checkGuideTables refuses a table of a guide's name that Slipway could not write to, naming the
// statement that mends each fault. A table that is absent is fine.
func checkGuideTables(ctx context.Context, pool *pgxpool.Pool, n Names) error {
	var faults []error
	for _, t := range guideTables {
		table := n.Guide + "." + t.name
		found, err := t.faults(ctx, pool, table)
		if err != nil {
			return fmt.Errorf("look at %s: %w", table, err)
		}
		for _, f := range found {
			faults = append(faults, fmt.Errorf("table %s: %s; mend it with: %s", table, f.what, f.mend))
		}
	}
	return errors.Join(faults...)
}

// fault is why a table does not fit, and the statement after which it does.
type fault struct{ what, mend string }

func (t guideTable) faults(ctx context.Context, pool *pgxpool.Pool, table string) ([]fault, error) {
	rows, err := pool.Query(ctx, `
		SELECT c.relkind::text AS kind, pg_has_role(c.relowner, 'USAGE') AS own,
		       quote_ident(pg_get_userbyid(c.relowner)) AS owner, quote_ident(current_user) AS me,
		       c.relrowsecurity AND c.relforcerowsecurity AND NOT (r.rolsuper OR r.rolbypassrls) AS forced
		FROM pg_class c, pg_roles r
		WHERE c.oid = to_regclass($1) AND r.rolname = current_user`, table)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[foundTable])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	alter := "ALTER TABLE " + table + " "
	if word, ok := map[string]string{"v": "VIEW", "m": "MATERIALIZED VIEW", "f": "FOREIGN TABLE"}[found.Kind]; ok {
		return []fault{{"it is a " + word, fmt.Sprintf("ALTER %s %s RENAME TO %s_before", word, table, t.name)}}, nil
	}
	if !found.Own {
		return []fault{{fmt.Sprintf("it belongs to %s, not to %s; as a superuser, or migrate as %s", found.Owner, found.Me, found.Owner),
			alter + "OWNER TO " + found.Me}}, nil
	}
	columns, err := t.found(ctx, pool, table)
	if err != nil {
		return nil, err
	}
	var faults []fault
	if found.Forced {
		faults = append(faults, fault{"row-level security is forced on its owner, whom no policy of ours names", alter + "NO FORCE ROW LEVEL SECURITY"})
	}
	for _, want := range t.columns {
		i := slices.IndexFunc(columns, func(c foundColumn) bool { return c.Name == want.name })
		if i < 0 {
			faults = append(faults, fault{"column " + want.name + " is missing", alter + want.add})
			continue
		}
		c := columns[i]
		switch f, wrong := c.wrongType(alter, want); {
		case wrong:
			faults = append(faults, f)
		case want.name == t.key && !c.Key:
			faults = append(faults, fault{"column " + want.name + " is not unique", alter + "ADD UNIQUE (" + want.name + ")"})
		case want.name == "id" && !c.Filled:
			var next int64
			if err := pool.QueryRow(ctx, `SELECT coalesce(max(id), 0) + 1 FROM `+table).Scan(&next); err != nil {
				return nil, err
			}
			faults = append(faults, fault{"column id has no default",
				fmt.Sprintf("%sALTER COLUMN id SET NOT NULL, ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (START WITH %d)", alter, max(next, 1))})
		}
	}
	for _, c := range columns {
		i := slices.IndexFunc(t.ours, func(o guideColumn) bool { return o.name == c.Name })
		if i >= 0 {
			if f, wrong := c.wrongType(alter, t.ours[i]); wrong {
				faults = append(faults, f)
				continue
			}
		}
		ours := i >= 0 && !t.ours[i].maybe
		guides := slices.ContainsFunc(t.columns, func(g guideColumn) bool { return g.name == c.Name })
		if c.Required && !c.Filled && !ours && !guides {
			faults = append(faults, fault{"column " + c.Name + " is NOT NULL and has no default, so no row could be written",
				alter + "ALTER COLUMN " + c.Quoted + " DROP NOT NULL"})
		}
	}
	return faults, nil
}

// wrongType tells whether what we write does not go into the column. One whose values cannot become
// what is wanted keeps them under another name.
func (c foundColumn) wrongType(alter string, want guideColumn) (fault, bool) {
	fits := c.Type == want.sqlType || slices.Contains(alike[want.sqlType], c.Type)
	switch {
	case fits && c.Length > 0 && c.Length < shortest:
		return fault{fmt.Sprintf("column %s holds %d characters, which may be too few", c.Name, c.Length), alter + "ALTER COLUMN " + c.Name + " TYPE text"}, true
	case fits:
		return fault{}, false
	}
	what := fmt.Sprintf("column %s is %s, not %s", c.Name, c.Type, want.sqlType)
	if c.castable(want.sqlType) {
		return fault{what, fmt.Sprintf("%sALTER COLUMN %s TYPE %s USING %s::%s", alter, c.Name, want.sqlType, c.Name, want.sqlType)}, true
	}
	mend := fmt.Sprintf("%sRENAME COLUMN %s TO %s_before", alter, c.Name, c.Name)
	if c.Required && !c.Filled {
		mend += fmt.Sprintf("; %sALTER COLUMN %s_before DROP NOT NULL", alter, c.Name)
	}
	if want.add != "" {
		mend += "; " + alter + want.add
	}
	return fault{what, mend}, true
}

func (t guideTable) found(ctx context.Context, pool *pgxpool.Pool, table string) ([]foundColumn, error) {
	rows, err := pool.Query(ctx, `
		SELECT a.attname AS name, quote_ident(a.attname) AS quoted, format_type(a.atttypid, NULL) AS type,
		       CASE WHEN a.atttypid = 'varchar'::regtype AND a.atttypmod > 4 THEN a.atttypmod - 4 ELSE 0 END AS length,
		       a.attnotnull AS required, a.atthasdef OR a.attidentity <> '' AS filled,
		       EXISTS (
		           SELECT FROM pg_index i
		           WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
		             AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) AS key,
		       CASE t.typcategory WHEN 'S' THEN ARRAY['uuid', 'bigint', 'integer', 'timestamp with time zone', 'text[]']
		            ELSE ARRAY(SELECT format_type(casttarget, NULL) FROM pg_cast WHERE castsource = a.atttypid) END AS castable
		FROM pg_attribute a
		JOIN pg_type t ON t.oid = a.atttypid
		WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
		ORDER BY a.attnum`, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[foundColumn])
}
