# Every target works from a fresh clone. TRIBUTARY_CACHE: where test servers are kept (CONTRIBUTING.md).

.PHONY: help quickstart test check unit e2e servers bench fuzz

help:
	@echo "make quickstart   a busy Postgres into a local lake, with proof, in a minute (after the build)"
	@echo "make test         everything below: formatting, lints, unit and end-to-end tests"
	@echo "make check        formatting and lints"
	@echo "make unit         unit, golden-script and property tests, and sessions with real servers"
	@echo "make e2e          the release build against real Postgres and S3 servers; ONLY=word runs some"
	@echo "make servers      installs the servers of the end-to-end tests into the cache"
	@echo "make bench        benchmarks (bench/README.md); ROWS=200000 ROUNDS=1 for a quick look"
	@echo "make fuzz         the decoder's fuzz targets, FUZZ_SECONDS=60 each"

quickstart:
	@./scripts/quickstart.sh

test:
	@./scripts/test.sh format lints unit e2e

check:
	@./scripts/test.sh format lints

unit:
	@./scripts/test.sh unit

e2e:
	@./scripts/test.sh e2e

servers:
	@./scripts/test-servers.sh

bench:
	@[ -n "$$BIN" ] || cargo build --release --locked --quiet -p tributary
	@./bench/run.py $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(CONNECTIONS),--connections $(CONNECTIONS)) $(WORKLOAD)

fuzz:
	@./scripts/fuzz.sh
