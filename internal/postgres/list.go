package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/upload"
)

// UploadFilter narrows a list; zero values ask for nothing.
type UploadFilter struct {
	Statuses      []upload.Status
	Provider      string
	ErrorCode     string
	NamePrefix    string
	CreatedAfter  *time.Time
	CreatedBefore *time.Time
	Before        upload.ID // only uploads that come behind this one in the list
	Limit         int
}

// where is what f asks of uploads u but for their place in the list, beside other conditions; its arguments are those
// that withArgs adds.
func (f UploadFilter) where() string {
	where := f.created()
	if len(f.Statuses) > 0 {
		where += ` AND u.status = ANY (@statuses)`
	}
	if f.Provider != "" {
		where += ` AND u.provider = @provider`
	}
	if f.ErrorCode != "" {
		where += ` AND u.error_code = @code`
	}
	if f.NamePrefix != "" {
		where += ` AND starts_with(u.file_name, @prefix)`
	}
	return where
}

func (f UploadFilter) created() string {
	where := ""
	if f.CreatedAfter != nil {
		where += ` AND u.created_at > @created_after`
	}
	if f.CreatedBefore != nil {
		where += ` AND u.created_at < @created_before`
	}
	return where
}

// behind is the place in the list from which on f asks for uploads u.
func (f UploadFilter) behind() string {
	if f.Before == "" {
		return ""
	}
	return ` AND (u.created_at, u.id) < ((SELECT b.created_at FROM slipway.uploads b WHERE b.id = @before AND b.user_id = @user), @before::uuid)`
}

func (f UploadFilter) withArgs(a args) args {
	maps.Copy(a, args{"statuses": f.Statuses, "provider": f.Provider, "code": f.ErrorCode, "prefix": f.NamePrefix,
		"created_after": f.CreatedAfter, "created_before": f.CreatedBefore, "before": f.Before})
	return a
}

// UploadPage is a page of a list. Next is the upload behind which the next one begins, "" after the last page. A page that is
// narrowed by names may have fewer uploads than were asked for, or none, and a next one all the same: so much was looked through.
type UploadPage struct {
	Uploads []upload.Upload
	Next    upload.ID
}

const (
	listed      = `u.user_id = @user AND u.status NOT IN ('joined', 'deleted') AND NOT u.partial`
	newestFirst = ` ORDER BY u.created_at DESC, u.id DESC`

	// fewNames are read and sorted at once; where more begin as asked for, the list is looked through, so many at a time.
	fewNames = 500
	lookedAt = 500
)

// ListUploads returns a page of a user's uploads, newest first, without the pieces of files. Whatever it is narrowed by, it
// reads no more of the user's history than some pages.
func ListUploads(ctx context.Context, db Querier, user string, f UploadFilter) (UploadPage, error) {
	a := f.withArgs(args{"user": user, "limit": f.Limit + 1})
	if f.NamePrefix == "" {
		return f.page(ctx, db, f.listing("u.id"), a)
	}
	rows, err := db.Query(ctx, `
		SELECT u.id
		FROM slipway.uploads u
		WHERE u.user_id = @user AND u.file_name ~>=~ @prefix::text AND u.file_name ~<=~ (@prefix::text || repeat(chr(1114111), 64))
		ORDER BY u.file_name USING ~<~
		LIMIT @few`, args{"user": user, "prefix": f.NamePrefix, "few": fewNames + 1})
	named, err := collect("list uploads by name", rows, err, pgx.RowTo[upload.ID])
	if err != nil {
		return UploadPage{}, err
	}
	if len(named) <= fewNames {
		a["named"] = named
		return f.page(ctx, db, `SELECT u.id FROM slipway.uploads u WHERE u.id = ANY (@named::uuid[]) AND `+listed+f.where()+f.behind()+newestFirst+` LIMIT @limit`, a)
	}
	return f.lookThrough(ctx, db, a)
}

// listing chooses the first uploads that f asks for but for their names. Of each status at each provider the newest are read from
// an index, which is as many as there are of all together at most.
func (f UploadFilter) listing(columns string) string {
	if len(f.Statuses) == 0 && f.Provider == "" && f.ErrorCode == "" {
		return `SELECT ` + columns + ` FROM slipway.uploads u WHERE ` + listed + f.created() + f.behind() + newestFirst + ` LIMIT @limit`
	}
	code := ""
	if f.ErrorCode != "" {
		code = ` AND u.error_code = @code`
	}
	return `
		SELECT ` + columns + `
		FROM unnest(@any_status::text[]) s(name)
		CROSS JOIN unnest(@any_provider::text[]) p(name)
		CROSS JOIN LATERAL (
			SELECT u.id, u.created_at, u.file_name
			FROM slipway.uploads u
			WHERE u.user_id = @user AND u.status = s.name AND u.provider = p.name AND NOT u.partial` + code + f.created() + f.behind() + newestFirst + `
			LIMIT @limit) u` + newestFirst + `
		LIMIT @limit`
}

// choices are the statuses and providers that listing looks at.
func (f UploadFilter) choices(a args) args {
	statuses, providers := f.Statuses, GuideProviders
	if len(statuses) == 0 {
		statuses = upload.Statuses()
	}
	statuses = slices.DeleteFunc(slices.Clone(statuses), func(s upload.Status) bool { return s == upload.Joined || s == upload.Deleted })
	slices.Sort(statuses)
	if f.Provider != "" {
		providers = []string{f.Provider}
	}
	a["any_status"], a["any_provider"] = slices.Compact(statuses), providers
	return a
}

// page reads the uploads that ids chooses, one more than the page has.
func (f UploadFilter) page(ctx context.Context, db Querier, ids string, a args) (UploadPage, error) {
	rows, err := db.Query(ctx, `
		SELECT `+uploadColumns+`
		FROM (`+ids+`) chosen
		CROSS JOIN LATERAL (SELECT * FROM slipway.uploads u WHERE u.id = chosen.id LIMIT 1) u`+newestFirst, f.choices(a)) // not as a join, for which all might be read
	found, err := collect("list uploads", rows, err, scanUpload)
	if err != nil || len(found) <= f.Limit {
		return UploadPage{Uploads: found}, err
	}
	return UploadPage{Uploads: found[:f.Limit], Next: found[f.Limit-1].ID}, nil
}

// lookThrough looks for names among the first uploads that f asks for otherwise.
func (f UploadFilter) lookThrough(ctx context.Context, db Querier, a args) (UploadPage, error) {
	a["limit"] = lookedAt
	rows, err := db.Query(ctx, f.listing(`u.id, starts_with(u.file_name, @prefix)`), f.choices(a))
	type look struct {
		ID    upload.ID
		Named bool
	}
	looks, err := collect("look through uploads", rows, err, pgx.RowToStructByPos[look])
	if err != nil {
		return UploadPage{}, err
	}
	next := upload.ID("")
	if len(looks) == lookedAt {
		next = looks[lookedAt-1].ID
	}
	var named []upload.ID
	for _, l := range looks {
		switch {
		case !l.Named:
		case len(named) == f.Limit:
			next = named[f.Limit-1]
		default:
			named = append(named, l.ID)
		}
	}
	p, err := f.page(ctx, db, `SELECT unnest(@named::uuid[]) AS id`, f.withArgs(args{"named": named}))
	p.Next = next
	return p, err
}

// Versions returns the versions of uploads, whoever owns them. One that is not there has none.
func Versions(ctx context.Context, db Querier, ids []upload.ID) (map[upload.ID]int64, error) {
	rows, err := db.Query(ctx, `SELECT id, version FROM slipway.uploads WHERE id = ANY (@ids::uuid[])`, args{"ids": ids})
	if err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	versions := make(map[upload.ID]int64, len(ids))
	var id upload.ID
	var version int64
	_, err = pgx.ForEachRow(rows, []any{&id, &version}, func() error {
		versions[id] = version
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	return versions, nil
}
