# Everything here works the same on a developer's machine and in CI. Needed: Go.
# PostgreSQL is found or fetched by the programs themselves; the tests also need
# Node.js, which `make test` installs where it may.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

# -buildvcs=false: the go command gives up on a checkout that is somebody else's,
# as it often is in containers; the commit comes by the linker instead.
BUILD := go build -buildvcs=false -ldflags "-X main.version=$(VERSION) -X main.commit=$(COMMIT)"
TOOL  := go tool -modfile=tools/go.mod

.PHONY: help
help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.PHONY: build
build: ## Build bin/posthorn.
	@mkdir -p bin
	$(BUILD) -o bin/posthorn ./cmd/posthorn

.PHONY: run
run: build ## Try Posthorn: posthorn dev. Ctrl-C ends it.
	@# exec: signals reach posthorn itself, and nothing stands in between.
	@exec bin/posthorn dev

.PHONY: test
test: node postgres ## Run every test, with the race detector.
	go test -race -timeout 12m ./...

# How long there are faults; SOAK_SEED comes from the environment too.
SOAK_DURATION ?= 10m
.PHONY: soak
soak: postgres ## Break everything at random for SOAK_DURATION (10m) and judge; SOAK_SEED replays.
	SOAK_DURATION=$(SOAK_DURATION) go test -race -count=1 -timeout 24h -v -run '^TestFaults$$' ./internal/soak

.PHONY: mutants
mutants: postgres ## Plant bugs into a copy, one by one; each must fail its test. ONLY=07 for one.
	@go run ./internal/mutants $(if $(ONLY),-only $(ONLY))

.PHONY: check
check: format vet lint generated modules plantable ## Check format, lint, generated files and modules.

.PHONY: bench
bench: build ## Measure this machine, in eight to nine minutes; BENCH=--quick in three.
	@bin/posthorn bench $(BENCH)

# --- what test needs ---------------------------------------------------------

# The signatures are held against the libraries that receivers use, which run on
# Node.js.
.PHONY: node
node:
	@tools/need-node

# The packages' tests run at once; where PostgreSQL must be fetched first, one of
# them does it alone.
.PHONY: postgres
postgres:
	@go test -race -run '^TestNewIsMigratedAndNewEmptyIsNot$$' ./internal/pgtest

# --- the parts of check --------------------------------------------------------

.PHONY: format
format:
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted (gofmt -w):"; echo "$$unformatted"; exit 1; fi

.PHONY: vet
vet:
	go vet ./...

.PHONY: lint
lint:
	$(TOOL) staticcheck ./...
	$(TOOL) revive -config revive.toml -formatter friendly ./...

# Without git: the files are compared with what they were before.
.PHONY: generated
generated:
	@before=$$(mktemp); trap 'rm -f "$$before"' EXIT; \
	cp api/openapi.gen.go "$$before"; \
	go generate ./api; \
	cmp -s "$$before" api/openapi.gen.go \
		|| { echo "api/openapi.gen.go was not current; go generate ./api has made it so"; exit 1; }

.PHONY: modules
modules:
	go mod tidy -diff
	cd tools && go mod tidy -diff
	go mod verify

# The planted bugs of `make mutants` are patches: each must still apply and compile.
.PHONY: plantable
plantable:
	@go run ./internal/mutants -check
