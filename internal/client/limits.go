package client

import (
	"context"
	"maps"
	"net/http"
	"slices"
)

// Providers are the providers that the caller may send files to, in alphabetical order.
func (c *Client) Providers(ctx context.Context) ([]string, error) {
	var limits struct {
		Providers map[string]struct{} `json:"providers"`
	}
	_, err := c.call(ctx, request{method: http.MethodGet, path: "/v1/limits", timeout: callTimeout}, &limits)
	return slices.Sorted(maps.Keys(limits.Providers)), err
}
