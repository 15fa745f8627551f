package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// provider compares what an account has with what rows say of it, both ways.
func (r *reconciler) provider(ctx context.Context, p provider.Provider) error {
	lister, ok := p.(provider.Lister)
	if !ok {
		return nil
	}
	seen := map[upload.ID]bool{} // completed uploads whose assets are there
	began := time.Now()
	err := lister.List(ctx, r.base.Installation.ID, func(page []provider.Listed) error {
		r.plan.Compared.Assets[p.Name()] += len(page)
		return r.listed(ctx, p, lister, page, began, seen)
	})
	if err == nil {
		err = r.gone(ctx, p, lister, seen)
	}
	if err != nil {
		return r.unanswered(ctx, p, err)
	}
	return nil
}

// listed finds the assets of this installation that no row names. They are asked for once more, and then the rows:
// what was being deleted is gone by then.
func (r *reconciler) listed(ctx context.Context, p provider.Provider, lister provider.Lister, page []provider.Listed, now time.Time, seen map[upload.ID]bool) error {
	left, err := r.unnamed(ctx, p, page, seen)
	if err != nil {
		return err
	}
	left = slices.DeleteFunc(left, func(l provider.Listed) bool { return now.Sub(l.MadeAt) < r.Grace })
	if len(left) == 0 {
		return nil
	}
	ask := make([]upload.Asset, len(left))
	for i, l := range left {
		ask[i] = l.Asset
	}
	absent, err := lister.Absent(ctx, ask)
	if err != nil {
		return err
	}
	left = slices.DeleteFunc(left, func(l provider.Listed) bool { return slices.Contains(absent, l.Asset) })
	if left, err = r.unnamed(ctx, p, left, seen); err != nil {
		return err
	}
	for _, l := range left {
		id, _ := l.Upload(r.base.Installation.ID)
		d := Difference{Kind: AssetUnnamed, UploadID: id, Provider: p.Name(), AssetID: l.Asset.ID, ResourceType: l.Asset.ResourceType,
			Bytes: l.Asset.Size, Since: l.MadeAt, Text: "an asset of this installation that no row names", Action: "delete it there"}
		if r.Apply {
			if err := p.Delete(ctx, l.Asset); err != nil {
				return err
			}
			d.Done = true
		}
		r.found(d)
	}
	return nil
}

// unnamed returns those of the assets that are this installation's and that no row names, and adds to seen whose
// the others are.
func (r *reconciler) unnamed(ctx context.Context, p provider.Provider, listed []provider.Listed, seen map[upload.ID]bool) ([]provider.Listed, error) {
	assets, uploads := make([]string, len(listed)), make([]upload.ID, len(listed))
	var ours []provider.Listed
	for i, l := range listed {
		assets[i] = l.Asset.ID
		var own bool
		if uploads[i], own = l.Upload(r.base.Installation.ID); own {
			ours = append(ours, l)
		}
	}
	names, err := postgres.NameAssets(ctx, r.base.Pool, p.Name(), assets, uploads)
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, n := range names {
		named[n.Asset] = named[n.Asset] || n.Named
		for _, id := range n.Uploads {
			seen[id] = true
		}
	}
	return slices.DeleteFunc(ours, func(l provider.Listed) bool { return named[l.Asset.ID] }), nil
}

// gone finds completed uploads whose assets the provider does not have. A row says that its asset is to be deleted
// before it is: one that is completed after its asset was not found has lost it.
func (r *reconciler) gone(ctx context.Context, p provider.Provider, lister provider.Lister, seen map[upload.ID]bool) error {
	for after := upload.ID(""); ; {
		rows, err := postgres.StoredAssets(ctx, r.base.Pool, p.Name(), r.Grace, after, rowsAtOnce)
		if err != nil || len(rows) == 0 {
			return err
		}
		r.plan.Compared.Stored += len(rows)
		after = rows[len(rows)-1].Upload
		var ids []upload.ID
		var ask []upload.Asset
		for _, row := range rows {
			if !seen[row.Upload] {
				ids, ask = append(ids, row.Upload), append(ask, row.Asset)
			}
		}
		if len(ask) == 0 {
			continue
		}
		absent, err := lister.Absent(ctx, ask)
		if err != nil {
			return err
		}
		still, err := postgres.StillStored(ctx, r.base.Pool, ids)
		if err != nil {
			return err
		}
		for _, row := range still {
			if !slices.Contains(absent, row.Asset) {
				continue
			}
			if err := r.lose(ctx, p, row); err != nil {
				return err
			}
		}
	}
}

// lose says, and with Apply writes, that an upload's asset is gone.
func (r *reconciler) lose(ctx context.Context, p provider.Provider, row postgres.StoredAsset) error {
	d := Difference{Kind: AssetGone, UploadID: row.Upload, Provider: p.Name(), AssetID: row.Asset.ID, ResourceType: row.Asset.ResourceType,
		Bytes: row.Asset.Size, Since: row.CompletedAt, Text: "the provider does not have a completed upload's asset", Action: "mark the upload deleted"}
	if r.Apply {
		u := upload.Upload{ID: row.Upload, UserID: row.UserID}
		err := pgx.BeginFunc(ctx, r.base.Pool, func(tx pgx.Tx) error {
			return postgres.LoseAsset(ctx, tx, r.base.Queue, u, fmt.Sprintf("The file is not at %s any more.", title(p.Name())))
		})
		if errors.Is(err, postgres.ErrNoUpload) {
			return nil // its owner has deleted it meanwhile
		}
		if err != nil {
			return err
		}
		d.Done = true
	}
	r.found(d)
	return nil
}

// title is a provider's name as a person writes it.
func title(name string) string {
	if name == "uploadcare" {
		return "Uploadcare"
	}
	return "Cloudinary"
}
