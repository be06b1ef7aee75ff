# A list of commands; each is also what it prints.
.PHONY: build demo test compare lint

build:      ## the program and the agent, optimised: target/release/{sockerless,sockerless-agent}
	scripts/build release

demo:       ## docker run, exec, logs -f and stop, from nothing
	scripts/demo

test:       ## everything but the long forms
	scripts/test

compare:    ## the same script against a real Docker Engine and against this; needs root
	scripts/build debug
	cargo test --locked -p sockerless-tests

lint:       ## formatting, clippy, shellcheck
	scripts/lint
