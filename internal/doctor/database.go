package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/config"
	"slipway/internal/postgres"
	"slipway/internal/process"
)

const database = "database"

// postgresDown are the codes of PostgreSQL that say why nobody is let in.
const (
	wrongPassword = "28P01"
	notAllowed    = "28000"
	noDatabase    = "3D000"
)

func (e *exam) database(ctx context.Context) {
	c := e.Config.Database
	if c.URL == "" || e.faulty("DATABASE_URL", "DATABASE_SCHEMA", "GUIDE_SCHEMA") {
		return
	}
	names := process.Names(e.Config)
	pool, facts, ok := e.reach(ctx, "DATABASE_URL", c.URL, names)
	if !ok {
		return
	}
	defer pool.Close()

	migrator := pool // whose rights count for the migrations
	if c.DirectURL != c.URL && !e.faulty(c.DirectFrom) {
		direct, _, ok := e.reach(ctx, c.DirectFrom, c.DirectURL, names)
		if ok {
			defer direct.Close()
			migrator = direct
		}
	}
	e.announcements(ctx, pool, names)
	if e.schema(ctx, pool, migrator, facts, names) {
		e.identity(ctx, pool, facts)
		e.wall(ctx, pool)
		e.pauses(ctx, pool)
		e.use(ctx, pool)
	}
	e.guideTables(ctx, migrator, facts, names)
}

// reach connects and says where that led.
func (e *exam) reach(ctx context.Context, variable string, url config.Secret, names postgres.Names) (*pgxpool.Pool, postgres.Facts, bool) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	where := place(url)
	pool, err := postgres.Open(context.WithoutCancel(ctx), postgres.Options{URL: url.Reveal(), Pooled: true, MaxConns: 2, Names: names, AppName: "slipway-doctor"})
	if err != nil {
		e.fail(database, "see "+variable, "%s: %v", where, reason(err))
		return nil, postgres.Facts{}, false
	}
	began := time.Now()
	facts, err := postgres.Inspect(ctx, pool, names)
	if err != nil {
		pool.Close()
		e.fail(database, unreachedRemedy(variable, err), "%s cannot be used: %v", where, reason(err))
		return nil, facts, false
	}
	took := time.Since(began)
	power := ""
	switch {
	case facts.Superuser:
		power = ", a superuser"
	case facts.BypassRLS:
		power = ", which bypasses row-level security"
	}
	version, _, _ := strings.Cut(facts.Version, " ") // a packager's words may follow
	e.ok(database, "%s answers in %s: PostgreSQL %s, as %s%s", where, round(took), version, facts.Role, power)
	if !facts.Supported {
		e.fail(database, "move to PostgreSQL 15 or newer", "PostgreSQL %s is too old", version)
		pool.Close()
		return nil, facts, false
	}
	return pool, facts, true
}

// place is where a connection string leads, without user and password.
func place(url config.Secret) string {
	cfg, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		return "the address"
	}
	way := "direct"
	if strings.Contains(cfg.Host, "-pooler.") {
		way = "pooled"
	}
	return fmt.Sprintf("database %s at %s (%s)", cfg.Database, cfg.Host, way)
}

func unreachedRemedy(variable string, err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case wrongPassword, notAllowed:
			return "put the right user and password into " + variable + "; Neon's dashboard shows them under Connect"
		case noDatabase:
			return "create the database, or name another in " + variable
		}
	}
	return "see to it that the server runs, that " + variable + " names its host and port, and that no firewall is between"
}

// announcements checks that LISTEN really works: through a transaction pooler it succeeds, and nothing ever comes.
func (e *exam) announcements(ctx context.Context, pool *pgxpool.Pool, names postgres.Names) {
	c := e.Config.Database
	if e.faulty(c.DirectFrom) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hearTime)
	defer cancel()
	took, err := postgres.Hear(ctx, pool, c.DirectURL.Reveal(), names)
	if err != nil {
		e.warn(database, "set DATABASE_URL_UNPOOLED to a connection string that leads to Postgres itself, without a pooler",
			"LISTEN by %s does not work, so Slipway will ask each second instead: %v", c.DirectFrom, reason(err))
		return
	}
	e.ok(database, "LISTEN works by %s: news arrive after %s", c.DirectFrom, round(took))
}

// schema tells whether the tables are there and of this program's version.
func (e *exam) schema(ctx context.Context, pool, migrator *pgxpool.Pool, facts postgres.Facts, names postgres.Names) bool {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	err := postgres.CheckSchema(ctx, pool, names)
	if err == nil {
		e.ok(database, "schema %s has version %d, which this program needs", names.Schema, facts.Schema)
		return true
	}
	if !errors.Is(err, postgres.ErrSchemaOld) {
		e.fail(database, "see to the rights of the role", "schema %s cannot be read: %v", names.Schema, reason(err))
		return false
	}
	if facts.Schema == 0 {
		e.fail(database, "run `slipway migrate`", "schema %s is not there yet", names.Schema)
	} else {
		e.fail(database, "run `slipway migrate`", "schema %s has version %d, which is older than this program", names.Schema, facts.Schema)
	}
	lacks, err := postgres.Lacking(ctx, migrator, names)
	if err != nil {
		e.fail(database, "see to the rights of the role", "what the migration needs cannot be asked: %v", reason(err))
	}
	for _, l := range lacks {
		e.fail(database, l.Remedy, "%s", l.Problem)
	}
	return false
}

// identity tells whose database this is.
func (e *exam) identity(ctx context.Context, pool *pgxpool.Pool, facts postgres.Facts) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	in, err := postgres.ReadInstallation(ctx, pool, e.Config.Database.DirectURL.Reveal())
	switch {
	case errors.Is(err, postgres.ErrCopy):
		e.fail(database, "run `slipway migrate --copy` to make it an installation of its own, or `slipway migrate --moved` if the original is gone",
			"it is a copy of installation %s, which belongs to database %s on %s", in.ID, in.Database, in.Host)
	case err != nil:
		e.fail(database, "run `slipway migrate`", "the installation cannot be read: %v", reason(err))
	default:
		e.ok(database, "this is installation %s", in.ID)
		e.installation, e.stagingID = in.ID, facts.StagingID
	}
}

func (e *exam) wall(ctx context.Context, pool *pgxpool.Pool) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	if err := postgres.CheckWall(ctx, pool); err != nil {
		what, remedy, _ := strings.Cut(reason(err).Error(), "; mend it with: ")
		e.fail(database, cmp.Or(remedy, "run `slipway migrate` as the tables' owner, and see what has changed the policies"), "users are not kept apart: %s", what)
		return
	}
	e.ok(database, "requests run as slipway_api and see their own user's uploads alone")
}

// use remembers how staging's room is used.
func (e *exam) use(ctx context.Context, pool *pgxpool.Pool) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	used, err := postgres.ReadRoom(ctx, pool)
	if err != nil {
		e.fail(database, "see to the rights of the role", "how staging is used cannot be read: %v", reason(err))
		return
	}
	e.used = &used
}

// pauses remembers which accounts the workers have stopped sending to.
func (e *exam) pauses(ctx context.Context, pool *pgxpool.Pool) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	states, err := postgres.Providers(ctx, pool)
	if err != nil {
		e.fail(database, "see to the rights of the role", "what the workers know of the providers cannot be read: %v", reason(err))
		return
	}
	e.paused = map[string]string{}
	for _, s := range states {
		if s.PausedUntil != nil {
			e.paused[s.Name] = fmt.Sprintf("the workers ask it again at %s: %s", s.PausedUntil.Local().Format(time.TimeOnly), s.PauseReason)
		}
	}
}

func (e *exam) guideTables(ctx context.Context, pool *pgxpool.Pool, facts postgres.Facts, names postgres.Names) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	found, err := postgres.GuideFaults(ctx, pool, names)
	if err != nil {
		e.fail(database, "see to the rights of the role", "the guides' tables cannot be looked at: %v", reason(err))
		return
	}
	for _, fault := range found {
		what, remedy, _ := strings.Cut(fault.Error(), "; mend it with: ")
		e.fail(database, remedy, "%s", what)
	}
	hidden := e.hiddenTables(ctx, pool, facts, names)
	switch {
	case len(found) > 0 || hidden:
	case facts.GuideReady:
		e.ok(database, "%[1]s.uploadcare_files and %[1]s.cloudinary_files fit", names.Guide)
	default:
		e.ok(database, "nothing is in the way of the guides' tables in schema %s", names.Guide)
	}
}

// hiddenTables tells whether a guide table's row-level security keeps its rows from Slipway's requests.
func (e *exam) hiddenTables(ctx context.Context, pool *pgxpool.Pool, facts postgres.Facts, names postgres.Names) bool {
	if facts.Schema == 0 {
		return false // the migration adds the policies
	}
	hidden, err := postgres.HiddenGuideTables(ctx, pool, names)
	if err != nil {
		e.fail(database, "see to the rights of the role", "the guides' tables cannot be looked at: %v", reason(err))
		return true
	}
	for _, table := range hidden {
		e.fail(database, "run `slipway migrate --rls-guide-tables`", "row-level security is on for %s, and no policy lets requests see their users' rows", table)
	}
	return len(hidden) > 0
}

// round is a duration as short as it is worth knowing.
func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
