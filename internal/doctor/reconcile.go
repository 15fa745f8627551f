package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"slipway/internal/config"
	"slipway/internal/process"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// DifferenceKind is in what the three do not agree: rows, staging and providers.
type DifferenceKind string

const (
	StagedUnneeded   DifferenceKind = "staged_unneeded"    // a file in staging that no upload needs
	StagedInTrash    DifferenceKind = "staged_in_trash"    // an upload's file is in the trash
	StagedMissing    DifferenceKind = "staged_missing"     // an upload's file is not there
	AssetUnnamed     DifferenceKind = "asset_unnamed"      // an asset of this installation that no row names
	AssetGone        DifferenceKind = "asset_gone"         // a completed upload's asset is not there
	GuideRowDiffers  DifferenceKind = "guide_row_differs"  // a guide's row says something else than its upload
	GuideRowForeign  DifferenceKind = "guide_row_foreign"  // it is another user's
	GuideRowMissing  DifferenceKind = "guide_row_missing"  // a completed upload has none
	GuideRowDangling DifferenceKind = "guide_row_dangling" // it names an upload that has no file
)

// Difference is one place where they do not agree, and what can be done about it.
type Difference struct {
	Kind         DifferenceKind      `json:"kind"`
	UploadID     upload.ID           `json:"upload_id,omitempty"`
	Provider     string              `json:"provider,omitempty"`
	AssetID      string              `json:"asset_id,omitempty"`
	ResourceType upload.ResourceType `json:"resource_type,omitempty"`
	Bytes        int64               `json:"bytes,omitempty"`
	Since        time.Time           `json:"since,omitzero"`
	Text         string              `json:"text"`
	Action       string              `json:"action,omitempty"` // what applying does; "" where only a person can act
	Done         bool                `json:"done,omitempty"`   // it was applied
}

// Plan is what a comparison has come to.
type Plan struct {
	Installation string       `json:"installation"`
	Grace        string       `json:"grace"`
	Applied      bool         `json:"applied"`
	Compared     Compared     `json:"compared"`
	Differences  []Difference `json:"differences"`
	Unanswered   []Unanswered `json:"unanswered,omitempty"`
}

// Compared is how much was looked at.
type Compared struct {
	Uploads int            `json:"uploads"` // whose bytes staging is to have
	Stored  int            `json:"stored"`  // that a provider is to have
	Assets  map[string]int `json:"assets"`  // that each provider lists
}

// Unanswered is what could not be compared.
type Unanswered struct {
	Part string `json:"part"`
	Why  string `json:"why"`
}

// Open is how many differences are there still.
func (p Plan) Open() (n int) {
	for _, d := range p.Differences {
		if !d.Done {
			n++
		}
	}
	return n
}

// ReconcileOptions say what is compared, and whether it is mended.
type ReconcileOptions struct {
	Config *config.Config
	Grace  time.Duration // nothing younger counts: it may be on its way
	Apply  bool
	Log    *slog.Logger
}

// Reconcile compares the rows of this installation with what staging and the providers have. It changes nothing
// but with Apply, and touches nothing of another installation. Traffic may go on: what is on its way, or changes
// meanwhile, is no difference.
func Reconcile(ctx context.Context, o ReconcileOptions) (Plan, error) {
	plan := Plan{Grace: o.Grace.String(), Applied: o.Apply, Differences: []Difference{}, Compared: Compared{Assets: map[string]int{}}}
	if info, err := os.Stat(o.Config.Staging.Dir); err != nil || !info.IsDir() {
		return plan, fmt.Errorf("%s is no staging folder; set STAGING_DIR to the one that the uploads were received into", o.Config.Staging.Dir)
	}
	base, err := process.OpenDirect(ctx, o.Config, "slipway-doctor", o.Log)
	if err != nil {
		return plan, err
	}
	defer base.Pool.Close()
	plan.Installation = base.Installation.ID
	r := &reconciler{ReconcileOptions: o, base: base, plan: &plan}
	if err := r.staging(ctx); err != nil {
		return plan, err
	}
	for _, name := range []string{"uploadcare", "cloudinary"} {
		if err := r.guideRows(ctx, name); err != nil {
			return plan, err
		}
	}
	providers, err := process.Providers(o.Config)
	if err != nil {
		return plan, err
	}
	for _, p := range providers {
		if err := r.provider(ctx, p); err != nil {
			return plan, err
		}
	}
	return plan, nil
}

// reconciler is one run.
type reconciler struct {
	ReconcileOptions
	base *process.Base
	plan *Plan
}

func (r *reconciler) found(d Difference) { r.plan.Differences = append(r.plan.Differences, d) }

// unanswered notes an error of a provider's; others are returned.
func (r *reconciler) unanswered(ctx context.Context, p provider.Provider, err error) error {
	var refused *provider.Error
	if ctx.Err() != nil || !errors.As(err, &refused) {
		return err
	}
	why := reason(err).Error()
	if refused.RetryAfter > 0 {
		why += fmt.Sprintf("; ask again in %s", refused.RetryAfter.Round(time.Second))
	}
	r.plan.Unanswered = append(r.plan.Unanswered, Unanswered{p.Name(), why})
	return nil
}
