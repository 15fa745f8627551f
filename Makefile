# What people do here. `make run` and `make test` need Go and Node.js, and nothing that runs already.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

golangci_lint := go tool -modfile=tools/golangci-lint/go.mod golangci-lint
govulncheck   := go tool -modfile=tools/govulncheck/go.mod govulncheck

.PHONY: help
help: ## show this
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

.PHONY: web
web: ## build the page into web/dist
	@scripts/build-web.sh

# Without npm everything else is built all the same, and a plain page is served.
.PHONY: build
build: ## build the commands into bin/
	@scripts/build-web.sh || echo "the page could not be built; what was built before is served, or a plain page" >&2
	go build -o bin/ ./cmd/...

.PHONY: run
run: build ## run everything on this machine: make run ARGS="--port 4000"
	bin/slipway dev $(ARGS)

# The tests bring what they need: databases of their own, simulators, the vendors' own clients.
# Packages run side by side on as many cores as there are.
.PHONY: test
test: test-tools ## run all tests
	go test -count=1 -timeout 10m ./...
	@scripts/fuzz.sh

.PHONY: fuzz
fuzz: ## try the parsers of what comes from outside, for longer: make fuzz FUZZ_SECONDS=60
	@FUZZ_SECONDS=$(or $(FUZZ_SECONDS),30) scripts/fuzz.sh

.PHONY: check
check: format vet lint imports vulnerabilities race ## all that a change must pass

.PHONY: format
format:
	@unformatted="$$(go list -f '{{.Dir}}' ./... | xargs gofmt -l)"; \
	if [[ -n $$unformatted ]]; then echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; fi

.PHONY: vet
vet:
	go vet ./...

.PHONY: lint
lint:
	$(golangci_lint) run ./...

# What the linter cannot see: what a command links by way of others.
.PHONY: imports
imports:
	@deps="$$(go list -deps ./cmd/worker)"; \
	if grep -E '^(github.com/gofiber/|slipway/internal/httpapi$$)' <<<"$$deps"; then \
		echo "cmd/worker links these; it serves no HTTP but its health"; exit 1; fi

.PHONY: vulnerabilities
vulnerabilities:
	@tools/govulncheck/check $(govulncheck) ./...

.PHONY: test-tools
test-tools: web
	@scripts/test-tools.sh

.PHONY: race
race: test-tools
	go test -race -count=1 -timeout 20m ./...

.PHONY: screenshots
screenshots: test-tools ## take the pictures of the page that the README shows
	SCREENSHOTS=$(CURDIR)/docs/images go test -count=1 ./internal/browser -run TestThePage/pictures

.PHONY: bench
bench: ## measure, beside yardsticks in the same run: make bench ARGS="-only small"
	go run ./internal/bench $(ARGS)

# Seeds of faults in delivery, tried side by side in each of six databases.
SEEDS ?= 500
.PHONY: crash
crash: ## kill, stop and starve everything while files go through, and count: make crash ARGS="-seed 7" SEEDS=1000
	go run ./internal/crash $(ARGS)
	go test -count=1 -timeout 2h ./internal/push -run TestWhateverHappens -rapid.checks=$(SEEDS)

.PHONY: guides
guides: ## walk both guides from top to bottom, and print what held
	go run ./internal/guides/walk
