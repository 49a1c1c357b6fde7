# Every target works from a fresh clone. TRIBUTARY_CACHE: where test servers are kept (CONTRIBUTING.md).

.PHONY: help quickstart test check unit simulate mutations e2e instructions sbom servers bench fuzz deb

help:
	@echo "make quickstart   a busy Postgres into a local lake, with proof, in a minute (after the build)"
	@echo "make test         everything below: formatting, lints, unit and end-to-end tests"
	@echo "make check        formatting and lints"
	@echo "make unit         unit, golden-script and property tests, and sessions with real servers"
	@echo "make simulate     the daemon between a scripted Postgres and a store that fails; SEEDS=1..5000, or SEEDS=123 with its trace"
	@echo "make mutations    bugs put in on purpose, each of which the simulation has to find; takes a copy, and changes nothing here"
	@echo "make e2e          the release build against real Postgres and S3 servers; ONLY=word runs some"
	@echo "make instructions what a row takes, counted by callgrind, against bench/instructions/bounds.txt"
	@echo "make sbom         what the daemon is made of, as CycloneDX: target/tributary.cdx.json"
	@echo "make servers      installs the servers of the end-to-end tests into the cache"
	@echo "make bench        benchmarks (bench/README.md); WORKLOAD=narrow SIZE=small ROUNDS=1 for a quick look"
	@echo "make deb          the Debian package, in target/debian; needs cargo install cargo-deb"
	@echo "make fuzz         the decoder's fuzz targets, FUZZ_SECONDS=60 each"

quickstart:
	@./scripts/quickstart.sh

test:
	@./scripts/test.sh format lints unit e2e instructions

check:
	@./scripts/test.sh format lints

unit:
	@./scripts/test.sh unit

simulate:
	@TRIBUTARY_SEEDS=$(or $(SEEDS),1..500) cargo test --locked --quiet -p simulation -- --nocapture every_row

mutations:
	@./scripts/mutations.sh $(ONLY)

e2e:
	@./scripts/test.sh e2e

instructions:
	@./scripts/test.sh instructions

sbom:
	@mkdir -p target && ./scripts/sbom.py > target/tributary.cdx.json && echo target/tributary.cdx.json

servers:
	@./scripts/test-servers.sh

bench:
	@[ -n "$$BIN" ] || cargo build --release --locked --quiet -p tributary
	@./bench/run.py $(if $(SIZE),--size $(SIZE)) $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(MAJOR),--major $(MAJOR)) \
	  $(if $(CONNECTIONS),--connections $(CONNECTIONS)) $(if $(ONLY),--only $(ONLY)) $(if $(RESULTS),--results $(RESULTS)) $(WORKLOAD)

# The program writes its own pages and completions: no file of them can be older than it.
deb:
	@rm -rf target/package && mkdir -p target/package
	@cargo run --locked --quiet --profile dist -p tributary -- man target/package/man > /dev/null
	@for shell in bash zsh fish; do \
	  cargo run --locked --quiet --profile dist -p tributary -- completions $$shell > target/package/tributary.$$shell || exit 1; \
	done
	@cargo deb --locked --profile dist -p tributary

fuzz:
	@./scripts/fuzz.sh
