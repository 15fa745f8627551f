package push_test

import (
	"testing"
	"time"

	"slipway/internal/providersim"
	"slipway/internal/upload"
)

func TestTheTimeToDeliverEnds(t *testing.T) {
	tests := map[string]struct {
		within time.Duration
		fault  providersim.Rule
	}{
		"while parts are on their way":      {3 * time.Second, providersim.Rule{Method: "PUT", Action: providersim.Stall}},
		"while the provider is not itself":  {3 * time.Second, providersim.Rule{Action: providersim.Answer, Status: 503}},
		"before a worker has come to it":    {time.Millisecond, providersim.Rule{}},
		"while what it has sent is settled": {3 * time.Second, providersim.Rule{Path: "/multipart/complete/", Action: providersim.Stall}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			y.ingest.MaxAttempts = 1000
			y.ingest.DeliverWithin = tt.within
			if tt.fault.Action != "" {
				y.fault(t, "uploadcare", tt.fault)
			}
			u := y.accept(t, "uploadcare", random(12*mib))
			y.worker(t)
			failed := y.awaitStatus(t, u.ID, upload.Failed)
			if failed.Error == nil || failed.Error.Code != upload.DeadlineExceeded || !failed.Error.Retryable {
				t.Errorf("failed with %+v, want %s", failed.Error, upload.DeadlineExceeded)
			}
			if began := y.controls["uploadcare"].Requests.Find("POST", nil); tt.fault.Action == "" && len(began) > 0 {
				t.Errorf("it was begun too late: %+v", began)
			}
		})
	}
}
