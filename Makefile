# A list of commands; each is also what it prints.
.PHONY: build demo test test-full bench fuzz lint

build:      ## the program and the agent, optimised: target/release/{sockerless,sockerless-agent}
	scripts/build release

demo:       ## docker run, exec, logs -f and stop, from nothing
	scripts/demo

test:       ## everything but the long forms
	scripts/test

test-full:  ## the long forms too; writes docs/results.md
	scripts/test full

bench:      ## side by side with a real Docker Engine, as ratios
	scripts/bench

fuzz:       ## the parsers, for a bounded time
	scripts/fuzz

lint:       ## formatting, clippy, shellcheck, unused dependencies
	scripts/lint
