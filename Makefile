# `make build` needs Go alone, `make demo` Go and Node. `make test` sets up the rest by itself.

GO         ?= go
# A count, since a time that runs out can be taken for a failure (go.dev/issue/75804).
FUZZTIME   ?= 10000x

# Tools run at a fixed version and stay out of go.mod.
GOLANGCI    = $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
# Reads the bill of materials off a binary.
SYFT        = $(GO) run github.com/anchore/syft/cmd/syft@v1.33.0
GOVULNCHECK = $(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0

# The real peers share two cores with Chromium, so packages take turns.
GOTEST      = $(GO) test -race -shuffle=on -p=1

# The race detector empties pools at random, so allocations are counted without it.
ALLOCTEST   = $(GO) test -run=Alloc -count=1 ./rewrite ./transport ./gateway ./gateway/transaction

# What other systems than Linux do with browsers: a goroutine for each.
PORTABLETEST = GOOS=darwin $(GO) vet ./transport && $(GO) test -tags=goroutines -run=WS -count=1 ./transport

PHONE       = cmd/viaduct-demo/phone

.PHONY: demo demo-picture phone build release test test-full attacks setup lint fmt fuzz bench microbench instructions vuln

demo: phone ## viaduct with a PBX and a phone page, on this machine; DEMO_FLAGS are its flags
	$(GO) run ./cmd/viaduct-demo $(DEMO_FLAGS)

phone: $(PHONE)/node_modules/.package-lock.json ## the phone page's script
	npm run build --silent --prefix $(PHONE)

$(PHONE)/node_modules/.package-lock.json: $(PHONE)/package-lock.json
	npm ci --prefix $(PHONE)
	touch $@

demo-picture: phone ## the demo's picture in the README, taken anew
	VIADUCT_DEMO_PICTURES=$(CURDIR)/bin $(GO) test -count=1 -run=TestLook ./cmd/viaduct-demo/e2e
	cp bin/desktop-light-messages.png deploy/demo.png

build: ## the viaduct binary, in this directory
	$(GO) build ./cmd/viaduct

# The same bytes from the same commit, wherever it is built: no paths, no clock, nobody's name.
RELEASE     = bin/release
ARCHIVE     = tar --sort=name --mtime=@$$(git log -1 --format=%ct) --owner=0 --group=0 --numeric-owner --mode=go=u,go-w -cf -

release: ## archives for linux amd64 and arm64, their checksums and bills of materials, in bin/release; syft needs jq
	rm -rf $(RELEASE)
	@set -e; for arch in amd64 arm64; do \
		name=viaduct-linux-$$arch; \
		mkdir -p $(RELEASE)/$$name; \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -trimpath -buildvcs=true -ldflags=-s -o $(RELEASE)/$$name/viaduct ./cmd/viaduct; \
		$(SYFT) scan --quiet file:$(RELEASE)/$$name/viaduct --source-name viaduct -o cyclonedx-json=$(RELEASE)/syft.json; \
		jq --arg here $(CURDIR)/$(RELEASE)/$$name/ \
			'del(.serialNumber, .metadata.timestamp) | walk(if type == "string" then ltrimstr($$here) else . end)' \
			$(RELEASE)/syft.json > $(RELEASE)/$$name.cdx.json; \
		rm $(RELEASE)/syft.json; \
		cp LICENSE CHANGELOG.md deploy/systemd/viaduct.service deploy/systemd/viaduct.env deploy/systemd/90-viaduct.conf $(RELEASE)/$$name; \
		$(ARCHIVE) -C $(RELEASE) $$name | gzip -9n > $(RELEASE)/$$name.tar.gz; \
		rm -r $(RELEASE)/$$name; \
	done
	cd $(RELEASE) && sha256sum * > SHA256SUMS

test: setup lint ## everything once: lint, tests against real peers, a little fuzzing
	$(GOTEST) -timeout=20m ./...
	$(PORTABLETEST)
	$(ALLOCTEST)
	$(MAKE) fuzz

test-full: setup lint ## every scenario with every client on every leg; prints the matrix
	VIADUCT_E2E_FULL=1 $(GOTEST) -timeout=90m -v ./cmd/viaduct/e2e
	$(GOTEST) -timeout=20m $$($(GO) list ./... | grep -v /viaduct/e2e$$)
	$(ALLOCTEST)

attacks: ## every test that attacks; writes what happened to deploy/SECURITY.md
	VIADUCT_RENEW_ATTACKS=1 $(GO) test -count=1 -timeout=40m -run=TestDocsAttacks ./cmd/viaduct

setup: ## Debian and npm packages that the tests need
	.ci/setup

lint:
	$(GOLANGCI) run

fmt:
	$(GOLANGCI) fmt

fuzz: ## each fuzz target so many times; FUZZTIME may be a time too
	@set -e; for package in ./rewrite ./transport ./gateway ./gateway/rtpengine; do \
		targets=$$($(GO) test -list='^Fuzz' $$package); \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "fuzz $$package $$target"; \
			$(GO) test -run='^$$' -fuzz="^$$target$$" -fuzztime=$(FUZZTIME) $$package; \
		done; \
	done

bench: build ## viaduct under load beside other servers, on this machine; BENCH_FLAGS are the load's flags
	$(GO) build -o bin/ ./cmd/viaduct-load
	.ci/install kamailio kamailio-websocket-modules
	bin/viaduct-load bench --write=deploy/BENCHMARKS.md $(BENCH_FLAGS)

microbench: ## what one message costs; 0 allocs/op is a test, the time is not
	$(GO) test -run='^$$' -bench=. -benchmem ./rewrite ./gateway ./gateway/transaction

instructions: ## what one message may cost, counted anew for the test that guards it
	VIADUCT_RENEW_INSTRUCTIONS=1 $(GO) test -count=1 ./cmd/viaduct-load/guard

vuln: ## known vulnerabilities; needs the vulnerability database
	$(GOVULNCHECK) ./...
