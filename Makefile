# A list of commands; each is also what it prints.
.PHONY: build demo test test-full bench fuzz compare compatibility test-aws lint package deploy

build:      ## the program and the agent, optimised: target/release/{sockerless,sockerless-agent}
	scripts/build release

demo:       ## docker run, exec, logs -f and stop, from nothing
	scripts/demo

test:       ## everything but the long forms
	scripts/test

test-full:  ## the long forms, too, and the measurements; writes docs/results.md; needs root
	scripts/test-full

bench:      ## beside a real Docker Engine, as ratios; needs root
	scripts/bench

fuzz:       ## the parsers of what strangers send, a minute each
	scripts/fuzz 60

compare:    ## the same script against a real Docker Engine and against this; needs root
	scripts/build debug
	scripts/cargo-test --test differential

compatibility: ## writes docs/compatibility.md from what is answered; needs root
	SOCKERLESS_TEST_WRITE=1 scripts/cargo-test --test operations

test-aws:   ## the whole stack through AWS's own shapes, at an emulator; needs root
	scripts/aws-path

lint:       ## formatting, clippy, shellcheck, unused dependencies, the Terraform module
	scripts/lint

package:    ## what Lambda is given: target/lambda/control.zip
	scripts/package

deploy:     ## build, terraform apply, print the lines for `sockerless serve`; needs AWS credentials
	@scripts/deploy
