# Canopus. `make help` lists what there is.

GO        ?= go
PREFIX    ?= /usr/local
VERSION   := 0.1.0
COMMIT    := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
BUILT     := $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null || echo 1970-01-01T00:00:00Z)
LDFLAGS   := -s -w -X main.release=$(VERSION) -X main.commit=$(COMMIT) -X main.built=$(BUILT)
CANOPUS   := bin/canopus
# Debian packages: what the build and a node need, and what only the tests need.
BUILD_DEPS := gcc libc6-dev libseccomp-dev pkg-config
NODE_DEPS  := nftables iproute2 conntrack kmod
TEST_DEPS  := busybox-static skopeo
RACE       ?= -race
export CGO_ENABLED ?= 1
export GOTOOLCHAIN ?= local
export GOFLAGS ?= -buildvcs=false

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help deps test-deps bundle build install up down reset status test unit e2e scale vet staticcheck lint bench bench-scheduler scale-bench scale-plots fuzz generate parity conformance clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# want PACKAGES: install those that are missing, when root may.
want = @missing=""; for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ]; then echo "installing$$missing"; \
		{ apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $$missing; } >/dev/null; \
	else echo "missing$$missing: run 'sudo apt-get install$$missing'"; exit $(2); fi

deps: ## install the Debian packages that the build and a node need (as root)
	$(call want,$(BUILD_DEPS) $(NODE_DEPS),1)

test-deps: deps
	$(call want,$(TEST_DEPS),0)

bundle: deps ## build containerd, runc, CNI plugins, kubectl and the small images that canopus carries
	@echo "runtime programs (a few minutes the first time)"
	@$(MAKE) --no-print-directory -C runtime

build: bundle ## build bin/canopus
	@start=$$(date +%s); printf '  %-28s' canopus; mkdir -p bin; \
	$(GO) build -trimpath -ldflags "$(LDFLAGS)" -o $(CANOPUS) ./cmd/canopus && echo " $$(( $$(date +%s) - start )) s"

install: build ## copy canopus to PREFIX/bin
	install -D -m 0755 $(CANOPUS) $(DESTDIR)$(PREFIX)/bin/canopus

up: build ## build and start a cluster on this machine, with a demo
	@$(CANOPUS) up --demo

down: ## stop Canopus and its pods
	@$(CANOPUS) stop --pods

reset: ## remove every trace of Canopus from this machine
	@$(CANOPUS) reset --yes

status: ## tell how the cluster is
	@$(CANOPUS) status

test: test-deps build vet staticcheck unit e2e ## every test, from unit tests to real containers
	@$(MAKE) --no-print-directory scale SCALE=
	@$(MAKE) --no-print-directory conformance MISSING=

unit: ## tests of packages, with the race detector
	$(GO) build -o bin/report ./test/report
	KUBE_CACHE_MUTATION_DETECTOR=true $(GO) test -json $(RACE) -timeout 20m ./cmd/... ./internal/... ./runtime/... ./test/report | bin/report -packages

e2e: build test-deps ## end-to-end tests on real containers (root)
	@$(MAKE) --no-print-directory -C runtime test-image
	$(GO) build -o bin/report ./test/report
	$(GO) test -json -count=1 -timeout 15m -parallel 4 ./test/e2e/... | bin/report

MISSING ?= -missing
conformance: build test-deps ## conformance tests on two nodes, counted by area (root)
	@$(MAKE) --no-print-directory -C runtime test-image
	$(GO) build -o bin/report ./test/report
	$(GO) test -json -count=1 -timeout 15m -parallel 12 ./test/conformance | bin/report -conformance $(MISSING)

SCALE ?= -nodes 1000 -pods 30000
scale: build ## a cluster of 1,000 nodes without machines, with 30,000 pods (SCALE="-nodes 300 -pods 6000" for fewer)
	$(GO) build -o bin/report ./test/report
	$(GO) test -json -count=1 -timeout 60m ./test/scale $(SCALE) | bin/report

vet: ## go vet
	$(GO) vet ./...

staticcheck: ## staticcheck
	@$(GO) build -C tools -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...

lint: ## the house rules
	$(GO) test ./internal/lint

bench: build ## print the figures of the README
	$(GO) run ./test/bench

SCALE_BENCH ?= -scale-nodes 5000 -scale-pods 150000
scale-bench: build ## measure 5,000 nodes and 150,000 pods for 20 minutes, then make docs/scale.md (8 GiB)
	@code=0; $(GO) run ./test/bench -only scale -scale-series docs/scale.json $(SCALE_BENCH) || code=$$?; \
	$(MAKE) --no-print-directory scale-plots && exit $$code

scale-plots: ## make docs/scale.md and its plots from docs/scale.json
	$(GO) run -C tools ./scaleplot -in ../docs/scale.json -dir ../docs

bench-scheduler: build ## pods scheduled per second, in process and through the API, at 1,000 and 5,000 nodes
	$(GO) run ./test/bench -only scheduler

fuzz: ## every fuzz target for a minute
	@for p in $$(grep -rl --include='*_test.go' '^func Fuzz' cmd internal | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$p/*_test.go | cut -d' ' -f2); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 1m ./$$p || exit 1; done; done

generate: ## make the OpenAPI documents again
	$(GO) generate ./internal/apiserver/openapi

parity: ## compare what is published, and the metrics of a cluster, with data of a release: make parity SPEC=dir [CLUSTER=kubeconfig]
	$(GO) run ./test/parity -spec $(SPEC) $(if $(CLUSTER),-cluster $(CLUSTER))

clean: ## remove what was built
	rm -rf bin
	$(MAKE) --no-print-directory -C runtime clean
