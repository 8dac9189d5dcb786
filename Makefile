# Every target installs what it lacks first (Debian 12; on Ubuntu, Chromium is a snap and has to be brought along).
SHELL := /bin/bash
CARGO_FLAGS ?= --locked
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))

.PHONY: help setup demo test delivery-test ci check deb image-test fly-test vm-test packer-test bench bench-rfb soak fuzz clean

help:
	@echo "make demo        install, build, start a sandbox on this machine and print a link to it"
	@echo "make test        install, build, run all tests"
	@echo "make delivery-test tests what releases, deploys and watches: workflows, scripts, fly/, dashboards and alerts"
	@echo "make ci          what CI runs: formatting, lints, configuration samples, then make test"
	@echo "make deb         the Debian package, in target/debian"
	@echo "make image-test  boots a Debian tree with that package and real systemd, and tests it from outside; needs root"
	@echo "make fly-test    the same without systemd, as on a Fly Machine"
	@echo "make vm-test     the same tree with a kernel of its own, in an emulated machine"
	@echo "make packer-test has Packer judge packer/"
	@echo "make bench       the relay beside websockify, the CDP proxy and sessions beside doing without, each in one run"
	@echo "make bench-rfb   a display served natively beside x11vnc, x0vncserver and Xvnc behind websockify, in one run"
	@echo "make soak        sessions that come and go and are killed at random, SOAK_ROUNDS (default 100) times three"
	@echo "make fuzz        each fuzz target for FUZZ_SECONDS (default 60); needs cargo-fuzz and a nightly toolchain"

setup:
	@.ci/setup test

demo:
	@.ci/setup run
	cargo build $(CARGO_FLAGS) --release
	@exec $(TARGET_DIR)/release/valetd dev $(DEMO_FLAGS)

check: setup
	cargo fmt --check
	cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	shellcheck .ci/aws-login .ci/changed .ci/publish .ci/release-notes .ci/run .ci/setup fly/push packer/bake packer/setup
	shellcheck tests/delivery/files tests/delivery/promtool tests/delivery/run tests/delivery/stand-ins/gh
	shellcheck tests/api/*.sh tests/fixtures/services/*.sh tests/image/run tests/packer.sh fly/sbom
	shellcheck deb/build deb/check deb/reproduce deb/tools deb/lib/* deb/scripts/*
	shellcheck --external-sources --source-path=SCRIPTDIR ami/provision ami/lib.sh ami/[0-9]*

test: setup
	cargo test $(CARGO_FLAGS)
	cargo build $(CARGO_FLAGS)
	tests/image/run --smoke "$${VALETD:-$(TARGET_DIR)/debug/valetd}" $(TARGET_DIR)/smoke
	SCHEMATHESIS_VENV=$(TARGET_DIR)/schemathesis tests/api/schemathesis.sh "$${VALETD:-$(TARGET_DIR)/debug/valetd}"
	tests/delivery/run "$${VALETD:-$(TARGET_DIR)/debug/valetd}"
	cd tests/e2e && export VALETD="$${VALETD:-$(TARGET_DIR)/debug/valetd}" \
	  && VALETD_DISPLAY__RFB=x11vnc node --test --test-concurrency=1 view.test.js spectator.test.js \
	  && node --test --test-concurrency=1

delivery-test: setup
	cargo build $(CARGO_FLAGS)
	tests/delivery/run "$${VALETD:-$(TARGET_DIR)/debug/valetd}"

ci: check test

deb:
	@.ci/setup image
	deb/check "$$(deb/build)"

# The package as it is, where there is one: DEB=path.
image-test:
	@.ci/setup image
	tests/image/run "$${DEB:-$$(deb/build)}"

fly-test:
	@.ci/setup image
	tests/image/run --container "$${DEB:-$$(deb/build)}"

vm-test:
	@.ci/setup image
	tests/image/run --vm "$${DEB:-$$(deb/build)}"

packer-test:
	@.ci/setup image
	tests/packer.sh

bench: setup
	cargo bench $(CARGO_FLAGS) --bench bridge
	cargo bench $(CARGO_FLAGS) --bench cdp
	cargo bench $(CARGO_FLAGS) --bench create

# Other flags in BENCH_FLAGS: --viewers 10, --seconds 10, --only typing,click.
bench-rfb: setup
	cargo bench $(CARGO_FLAGS) --bench rfb -- $(BENCH_FLAGS)

SOAK_ROUNDS ?= 100
soak: setup
	SOAK_ROUNDS=$(SOAK_ROUNDS) cargo test $(CARGO_FLAGS) --test it soak -- --nocapture

FUZZ_SECONDS ?= 60
fuzz:
	cd fuzz && for target in $$(cargo +nightly fuzz list); do \
	  cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

clean:
	cargo clean
