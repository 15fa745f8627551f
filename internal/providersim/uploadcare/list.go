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

// listQuery is what a listing asks for. Pages are named by the time stamp that they begin at
// (from) or end before (to), and offset passes over files that share it.
type listQuery struct {
	removed    bool
	stored     *bool
	limit      int
	offset     int
	descending bool
	from, to   time.Time
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
	if l.from, err = readListTime(q.Get("from")); err != nil {
		return l, badQuery("from")
	}
	if l.to, err = readListTime(q.Get("to")); err != nil {
		return l, badQuery("to")
	}
	return l, nil
}

// readListTime reads ISO 8601, with or without fraction and zone; "" is the zero time.
func readListTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	return time.Parse("2006-01-02T15:04:05", text)
}

func badQuery(name string) error {
	return &restError{Status: 400, Detail: name + " is invalid."}
}

// takes is whether a file belongs into the listing, on whatever page.
func (l listQuery) takes(a Asset) bool {
	return l.removed == (a.Removed != nil) && (l.stored == nil || *l.stored == (a.Stored != nil))
}

// compare orders two moments as the listing does.
func (l listQuery) compare(a, b time.Time) int {
	if l.descending {
		return b.Compare(a)
	}
	return a.Compare(b)
}

// page is the bounds of the asked page in the ordered files.
func (l listQuery) page(files []Asset) (first, last int) {
	position := func(t time.Time) int {
		at, _ := slices.BinarySearchFunc(files, t, func(a Asset, t time.Time) int { return l.compare(a.Uploaded, t) })
		return at
	}
	if !l.to.IsZero() {
		last = min(position(l.to)+l.offset, len(files))
		return max(0, last-l.limit), last
	}
	if !l.from.IsZero() {
		first = position(l.from)
	}
	first = min(first+l.offset, len(files))
	return first, min(first+l.limit, len(files))
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
		return cmp.Or(l.compare(a.Uploaded, b.Uploaded), strings.Compare(a.UUID, b.UUID))
	})
	first, last := l.page(found)
	results := []restView{}
	for _, a := range found[first:last] {
		results = append(results, c.view(s, a))
	}
	page := map[string]any{
		"next": nil, "previous": nil, "total": len(found), "totals": totals, "per_page": l.limit, "results": results,
	}
	if last < len(found) {
		page["next"] = pageLink(c.Request, "from", found, last)
	}
	if first > 0 {
		page["previous"] = pageLink(c.Request, "to", found, first)
	}
	return restAnswer{http.StatusOK, page}, nil
}

// pageLink is the address of the page that begins at, or ends before, files[at].
func pageLink(r *http.Request, bound string, files []Asset, at int) string {
	stamp := files[at].Uploaded
	offset := 0
	for offset < at && files[at-offset-1].Uploaded.Equal(stamp) {
		offset++
	}
	q := r.URL.Query()
	q.Del("from")
	q.Del("to")
	q.Set(bound, stamp.Format("2006-01-02T15:04:05.000000-07:00"))
	q.Set("offset", strconv.Itoa(offset))
	return fmt.Sprintf("%s%s?%s", apiBase(r), r.URL.Path, q.Encode())
}
