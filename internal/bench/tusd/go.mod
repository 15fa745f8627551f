module slipway/internal/bench/tusd

go 1.26.0

require (
	github.com/tus/tusd/v2 v2.10.0
	golang.org/x/exp v0.0.0-20250106191152-7588d65b2ba8
)
