# `make help` says what there is. The tests run as root: they play the machine (users, registries,
# full disks) and run Ashlar as ordinary users. The demo runs as whoever calls it; root hands it
# to an ordinary user.
SHELL := /bin/bash
SCRIPTS := tests/support/scripts

# What the tests stand on, as Debian calls it: a compiler's linker, the base images, the judges,
# registries, and what makes an ordinary user a builder.
TEST_PACKAGES := gcc libc6-dev make tar xz-utils zstd attr libcap2-bin util-linux passwd \
	busybox-static uidmap mmdebstrap ca-certificates openssl curl \
	skopeo umoci buildah podman libarchive-tools docker-registry apache2-utils git bzip2 \
	e2fsprogs strace redis-server iproute2
BENCH_PACKAGES := $(TEST_PACKAGES) pigz

# How many seeds `make faults`, `make farm-faults` and `make remote-faults` run.
RUNS := 300

# The seed of `make simulate`.
SEED := 1

.PHONY: help build demo test test-packages test-users test-bases test-judges faults farm-faults remote-faults lint bench simulate fuzz \
	clean-scratch

help: ## Say what there is
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

build: ## Build the programs, optimised
	cargo build --release

demo: ## Build a base and a two-stage image without root, run it, build it again
	examples/demo/run.sh

test: test-packages test-users test-bases test-judges ## Install what the tests need, and run them all
	# With the tests, so that what both need is compiled once: alone it has other features.
	cargo build --workspace --bins --tests
	$(SCRIPTS)/run-tests.sh

test-packages:
	$(SCRIPTS)/packages.sh $(TEST_PACKAGES)

test-users: test-packages
	$(SCRIPTS)/users.sh

test-bases: test-packages
	$(SCRIPTS)/bases.sh target/test-bases

test-judges: test-packages
	$(SCRIPTS)/cache-judges.sh target/test-judges

lint: ## Check format, lints and documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet

bench: test-users test-bases ## Measure Ashlar beside buildah (BENCH="row..." chooses rows)
	$(SCRIPTS)/packages.sh $(BENCH_PACKAGES)
	cargo build --release -p ashlar -p ashlar-cache-server -p ashlar-worker -p ashlar-e2e
	target/release/ashlar-bench $(BENCH)

faults: test-users test-bases ## Builds with a cache that everything happens to (RUNS=300 seeds)
	cargo build -p ashlar -p ashlar-cache-server -p ashlar-worker
	ASHLAR_TEST_RUNS=$(RUNS) cargo test -p ashlar-e2e --test e2e cache::faults -- --nocapture

farm-faults: test-users test-bases test-judges ## The same for three servers over Redis and S3 (RUNS=300 seeds)
	cargo build -p ashlar -p ashlar-cache-server -p ashlar-worker
	ASHLAR_TEST_RUNS=$(RUNS) cargo test -p ashlar-e2e --test e2e cache::farm_ -- --nocapture \
		--test-threads=1

remote-faults: test-users test-bases test-judges ## Builds on workers, with one server and with two, that everything happens to (RUNS=300 seeds)
	cargo build -p ashlar -p ashlar-cache-server -p ashlar-worker
	ASHLAR_TEST_RUNS=$(RUNS) cargo test -p ashlar-e2e --test e2e workers::faults -- --nocapture \
		--test-threads=1

simulate: ## Simulate the queue of 10,000 workers for an hour (SEED=1)
	cargo run --release -p ashlar-queue --example simulate -- --seed $(SEED) --both

fuzz: ## Fuzz the Dockerfile language and split layers (SECONDS_EACH=60; needs a nightly compiler)
	$(SCRIPTS)/packages.sh g++
	$(SCRIPTS)/fuzz.sh $(SECONDS_EACH)

clean-scratch: ## Remove what tests and benchmarks leave under /var/tmp
	rm -rf /var/tmp/ashlar-e2e /var/tmp/ashlar-bench
