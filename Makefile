# Two commands for a newcomer: `make run` and `make test`. The rest is for developers.

HOST    := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
OUT     := target/wharf
BIN     := $(OUT)/bin
# runw and the shim: one process a container, so static, small, without a runtime to start and at a fixed place: relocating
# itself would cost each start 130 page faults and each shim 200 KiB of its own
STATIC  := -C target-feature=+crt-static -C relocation-model=static
SMALL   := target/$(HOST)/small
export WHARF_BIN_DIR := $(CURDIR)/$(BIN)

.PHONY: run stop build test check interop bench promise soak test-vm fuzz-smoke fuzz clean setup setup-test help

help:
	@sed -n 's/^## //p' Makefile

## make run      install what is missing, build, start the daemons, run a first container
run: setup build
	@packaging/stack start
	@packaging/stack greet

## make stop     end the daemons that `make run` started; containers go on
stop:
	@packaging/stack stop

## make build    the five programs, in target/wharf/bin
build:
	RUSTFLAGS="$(STATIC)" cargo build --locked --profile small --target $(HOST) -p runw -p containerd-shim-wharf-v2 -p wharf-test-workload
	cargo build --locked --release -p wharf-lifecycled -p wharfd -p wharf
	@mkdir -p $(BIN)
	@for p in runw containerd-shim-wharf-v2 wharf-test-workload; do packaging/replace $(SMALL)/$$p $(BIN)/$$p; done
	@for p in wharf-lifecycled wharfd wharf; do packaging/replace target/release/$$p $(BIN)/$$p; done

## make test     every test, root tests included, isolated from this machine
test: setup-test build
	packaging/run-tests

## make interop  one swap each way at every seam, beside Debian's originals
interop: setup-test build
	packaging/run-tests interop

## make promise  the restart test alone
promise: setup-test build
	packaging/run-tests promise

## make soak     the tests of random input with more of it, from SEEDS (20) seeds, the first of them SEED (the time)
soak: setup-test
	packaging/soak $(or $(SEEDS),20) $(SEED)

## make check    format, lints, dependency policy, architecture, docs
check:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo fmt --all --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz -p wharf-fuzz-entries --all-targets -- -D warnings
	cargo test --locked -q -p wharf-integration-tests --test architecture
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet

## make bench    paired with the originals; writes docs/benchmarks.md
bench: setup-test build
	cargo build --locked --release -p wharf-integration-tests --example transfer --example tasks
	@mkdir -p $(BIN)/../examples
	@for e in transfer tasks; do packaging/replace target/release/examples/$$e $(BIN)/../examples/$$e; done
	integration-tests/bench/run

## make test-vm  the runtime's root tests on pure cgroup v2 and under systemd, in small virtual machines
test-vm: build
	@packaging/setup vm
	VM_REPORT=docs/test-vm.md integration-tests/vm/run

## make fuzz-smoke   mutated input for every parser of foreign data, SECONDS (20) a target; no nightly compiler needed
fuzz-smoke:
	cargo run --locked --quiet --manifest-path fuzz/Cargo.toml --target-dir target/fuzz -p wharf-fuzz-entries --bin fuzz-smoke -- --seconds $(or $(SECONDS),20) --seed $(or $(SEED),1)

## make fuzz   libFuzzer on TARGET (all) for SECONDS (20), with coverage and the address sanitizer; needs a nightly compiler
fuzz:
	fuzz/libfuzzer "$(or $(TARGET),all)" $(or $(SECONDS),20)

setup:
	@packaging/setup build

setup-test:
	@packaging/setup test

clean:
	cargo clean
