# `make test` is all that CI checks; the other targets are its parts, and conveniences.

GOLANGCI_LINT ?= go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The modules of the workspace, as paths from here. Each must also do without the workspace.
MODULES = $(patsubst $(CURDIR)/%,./%,$(patsubst $(CURDIR),.,$(shell env -u GOWORK go list -m -f '{{.Dir}}')))

SHELL := bash

# each runs a command in every module. If it fails in any, the end names the modules, and the packages and tests.
each = @set -o pipefail; failed=; log=$$(mktemp); trap 'rm -f $$log' EXIT; for module in $(MODULES); do \
	echo "--- $(1): $$module"; \
	(cd $$module && $(2)) 2>&1 | tee -a $$log || failed="$$failed $$module"; \
	done; if [ -n "$$failed" ]; then echo "=== $(1) failed in:$$failed"; $(failures); exit 1; fi

# failures are the lines of go test that name what failed, the last 50 of them.
failures = grep -aE '^ *--- FAIL: |^FAIL[[:space:]]+[^[:space:]]|^panic: ' $$log | tail -n 50

.PHONY: test needs vet race oldest lint versions bench soak fmt help

test: needs vet race lint ## all checks: needs, vet, race, lint

needs: ## that the programs which the tests call are on this machine
	@missing=$$(.ci/missing); if [ -n "$$missing" ]; then \
		echo "make test needs programs that are not here. On Debian or Ubuntu: apt-get install" $$missing; \
		echo "Elsewhere, name them in TENANCY_PGBOUNCER and CHROMIUM if they are not in PATH."; exit 1; fi >&2

vet: ## formatting, go vet, and that each module's go.mod and go.sum are complete
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted; run make fmt:" $$unformatted >&2; exit 1; fi
	$(call each,vet,GOWORK=off go mod tidy -diff && GOWORK=off go vet ./...)

# One go test for all modules, the longest first, so that no processor waits for the last package of each. Without debugging information, which no
# test reads, a program is linked in less time.
race: ## all tests, with the race detector; vet is a target of its own
	@set -o pipefail; log=$$(mktemp); trap 'rm -f $$log' EXIT; \
	go test -race -vet=off -ldflags=-w -count=1 -timeout 20m ./tests/... ./examples/... ./examples/tasks/... $(MODULES:%=%/...) 2>&1 | tee -a $$log || \
	{ echo "=== tests failed"; $(failures); exit 1; }

# The workspace needs the Go version of its newest module. The others do without it, and are for users of an older one.
oldest: ## the tests of all modules that Go 1.25 is enough for, without the workspace
	@failed=; for file in $$(grep -lx 'go 1\.25\.0' go.mod */go.mod */*/go.mod); do \
	(cd $$(dirname $$file) && GOWORK=off go test -count=1 -timeout 15m ./...) || failed="$$failed $$file"; \
	done; if [ -n "$$failed" ]; then echo "=== tests failed in:$$failed"; exit 1; fi

lint: ## golangci-lint, at a pinned version
	$(call each,lint,$(GOLANGCI_LINT) run ./...)

bench: ## measure for some 20 minutes, and write docs/benchmark.md
	go run ./tests/tools/bench

VERSIONS ?= 14 15 16 17 18

versions: ## the tests on each PostgreSQL of VERSIONS, downloaded where it is not installed
	@set -o pipefail; failed=; log=$$(mktemp); trap 'rm -f $$log' EXIT; for version in $(VERSIONS); do \
	echo "--- PostgreSQL $$version"; \
	TENANCY_PG_VERSION=$$version go test -count=1 -timeout 15m ./internal/pgserver/... ./tests/... ./examples/... ./examples/tasks/... 2>&1 | \
		tee -a $$log || failed="$$failed $$version"; \
	done; if [ -n "$$failed" ]; then echo "=== tests failed on PostgreSQL:$$failed"; $(failures); exit 1; fi

soak: ## ten minutes of work for many tenants while connections break
	go run ./tests/tools/soak

fmt: ## format the code and tidy the modules
	gofmt -w .
	$(call each,tidy,GOWORK=off go mod tidy)

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)
