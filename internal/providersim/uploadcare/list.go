package uploadcare

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	listLimit    = 100
	maxListLimit = 1000
)

// listQuery is what a listing asks for.
type listQuery struct {
	removed    bool
	stored     *bool
	limit      int
	offset     int
	descending bool
	from       time.Time
}

func readListQuery(q url.Values) (listQuery, error) {
	l := listQuery{limit: listLimit}
	var err error
	if text := q.Get("removed"); text != "" {
		if l.removed, err = strconv.ParseBool(text); err != nil {
			return l, badQuery("removed")
		}
	}
	if text := q.Get("stored"); text != "" {
		stored, err := strconv.ParseBool(text)
		if err != nil {
			return l, badQuery("stored")
		}
		l.stored = &stored
	}
	if text := q.Get("limit"); text != "" {
		if l.limit, err = strconv.Atoi(text); err != nil || l.limit < 1 || l.limit > maxListLimit {
			return l, badQuery("limit")
		}
	}
	if text := q.Get("offset"); text != "" {
		if l.offset, err = strconv.Atoi(text); err != nil || l.offset < 0 {
			return l, badQuery("offset")
		}
	}
	switch q.Get("ordering") {
	case "", "datetime_uploaded":
	case "-datetime_uploaded":
		l.descending = true
	default:
		return l, badQuery("ordering")
	}
	if text := q.Get("from"); text != "" {
		if l.from, err = time.Parse("2006-01-02T15:04:05", strings.TrimSuffix(text, "Z")); err != nil {
			return l, badQuery("from")
		}
	}
	return l, nil
}

func badQuery(name string) error {
	return &restError{Status: 400, Detail: name + " is invalid."}
}

// takes is whether a file belongs into the listing.
func (l listQuery) takes(a Asset) bool {
	switch {
	case l.removed != (a.Removed != nil):
		return false
	case l.stored != nil && *l.stored != (a.Stored != nil):
		return false
	case l.from.IsZero():
		return true
	case l.descending:
		return !a.Uploaded.After(l.from)
	default:
		return !a.Uploaded.Before(l.from)
	}
}

// list answers with a page of files.
func (s *Sim) list(c restCall) (restAnswer, error) {
	l, err := readListQuery(c.URL.Query())
	if err != nil {
		return restAnswer{}, err
	}
	now := s.Controls.Clock.Now()
	totals := map[string]int{"removed": 0, "stored": 0, "unstored": 0}
	var found []Asset
	for _, a := range s.assets.All() {
		a = a.at(now)
		if !s.known(a, true) {
			continue
		}
		switch {
		case a.Removed != nil:
			totals["removed"]++
		case a.Stored != nil:
			totals["stored"]++
		default:
			totals["unstored"]++
		}
		if l.takes(a) {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(a, b Asset) int {
		order := cmp.Or(a.Uploaded.Compare(b.Uploaded), strings.Compare(a.UUID, b.UUID))
		if l.descending {
			return -order
		}
		return order
	})
	first, last := min(l.offset, len(found)), min(l.offset+l.limit, len(found))
	results := []restView{}
	for _, a := range found[first:last] {
		results = append(results, s.restView(c.Request, a))
	}
	page := map[string]any{
		"next": nil, "previous": nil, "total": len(found), "totals": totals, "per_page": l.limit, "results": results,
	}
	if last < len(found) {
		page["next"] = pageLink(c.Request, last)
	}
	if first > 0 {
		page["previous"] = pageLink(c.Request, max(0, first-l.limit))
	}
	return restAnswer{http.StatusOK, page}, nil
}

func pageLink(r *http.Request, offset int) string {
	q := r.URL.Query()
	q.Set("offset", strconv.Itoa(offset))
	return fmt.Sprintf("%s%s?%s", apiBase(r), r.URL.Path, q.Encode())
}
