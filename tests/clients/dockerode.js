// What dockerode's README shows, with what has to come of it. DOCKER_HOST names the
// engine, IMAGE an image with a shell that is there, PULLED one that a registry has.
"use strict";

const assert = require("node:assert/strict");
const { PassThrough } = require("node:stream");
const Docker = require("dockerode");

const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace("unix://", "") });
const { IMAGE, PULLED } = process.env;

// Collects what a stream is given.
function collector() {
  const stream = new PassThrough();
  const pieces = [];
  stream.on("data", (piece) => pieces.push(piece));
  stream.text = () => Buffer.concat(pieces).toString();
  // `run` is done at the exit, be its stream at its end by then or not.
  stream.until = (length) =>
    new Promise((resolve) => {
      const look = () => stream.text().length >= length && resolve(stream.text());
      stream.on("data", look);
      look();
    });
  return stream;
}

const ended = (stream) =>
  new Promise((resolve, reject) => {
    stream.on("end", resolve);
    stream.on("close", resolve);
    stream.on("error", reject);
  });

const examples = {
  async "pull, with its progress"() {
    const stream = await docker.pull(PULLED);
    const steps = await new Promise((resolve, reject) =>
      docker.modem.followProgress(stream, (error, output) => (error ? reject(error) : resolve(output))),
    );
    assert.match(steps.at(-1).status, /^Status: /);
    const image = await docker.getImage(PULLED).inspect();
    assert.ok(image.RepoTags.includes(PULLED));
  },

  async "create, start, inspect, list, stop, remove"() {
    const container = await docker.createContainer({
      Image: IMAGE,
      name: "dockerode",
      AttachStdin: false,
      AttachStdout: true,
      AttachStderr: true,
      Tty: false,
      Cmd: ["/bin/sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done"],
      OpenStdin: false,
      StdinOnce: false,
      Labels: { client: "dockerode" },
    });
    await container.start();
    const seen = await docker.getContainer("dockerode").inspect();
    assert.equal(seen.State.Running, true);
    assert.equal(seen.Id, container.id);
    const listed = await docker.listContainers({ filters: { label: ["client=dockerode"] } });
    assert.deepEqual(listed.map((one) => one.Names), [["/dockerode"]]);
    await container.stop();
    assert.equal((await container.wait()).StatusCode, 3);
    await container.remove();
    await assert.rejects(container.inspect(), { statusCode: 404, reason: "no such container" });
  },

  async "the same with callbacks"() {
    const container = await new Promise((resolve, reject) =>
      docker.createContainer({ Image: IMAGE, Cmd: ["true"] }, (error, made) =>
        error ? reject(error) : resolve(made),
      ),
    );
    await new Promise((resolve, reject) =>
      container.start((error) => (error ? reject(error) : resolve())),
    );
    const data = await new Promise((resolve, reject) =>
      container.wait((error, result) => (error ? reject(error) : resolve(result))),
    );
    assert.equal(data.StatusCode, 0);
    await container.remove({ force: true });
  },

  async "run, with both streams"() {
    const [stdout, stderr] = [collector(), collector()];
    const [result, container] = await docker.run(
      IMAGE,
      ["sh", "-c", "uname -s; echo err >&2; exit 7"],
      [stdout, stderr],
      { Tty: false },
    );
    assert.equal(result.StatusCode, 7);
    assert.equal(await stdout.until(6), "Linux\n");
    assert.equal(await stderr.until(4), "err\n");
    await container.remove();
  },

  async "run, removed by itself"() {
    const stdout = collector();
    // dockerode waits only after the start: whatever ends sooner is gone by then.
    const command = ["sh", "-c", "sleep 1; echo hello"];
    const [result] = await docker.run(IMAGE, command, stdout, {
      HostConfig: { AutoRemove: true },
      Tty: true,
    });
    assert.equal(result.StatusCode, 0);
    assert.equal(await stdout.until(7), "hello\r\n");
  },

  async "attach, with what is typed"() {
    const container = await docker.createContainer({
      Image: IMAGE,
      Cmd: ["cat"],
      OpenStdin: true,
      StdinOnce: true,
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
    });
    const stream = await container.attach({
      stream: true,
      stdin: true,
      stdout: true,
      stderr: true,
      hijack: true,
    });
    const stdout = collector();
    container.modem.demuxStream(stream, stdout, stdout);
    await container.start();
    const over = ended(stream);
    stream.end("typed\n");
    await over;
    assert.equal(stdout.text(), "typed\n");
    assert.equal((await container.wait()).StatusCode, 0);
    await container.remove();
  },

  async "exec, with and without what is typed"() {
    const container = await docker.createContainer({ Image: IMAGE, Cmd: ["sleep", "1000"] });
    await container.start();
    for (const input of [undefined, "into exec\n"]) {
      const exec = await container.exec({
        Cmd: input ? ["cat"] : ["sh", "-c", "echo $VAR; echo err >&2; exit 4"],
        Env: ["VAR=ttslkfjsdalkfj"],
        AttachStdin: Boolean(input),
        AttachStdout: true,
        AttachStderr: true,
      });
      const stream = await exec.start({ hijack: Boolean(input), stdin: Boolean(input) });
      const [stdout, stderr] = [collector(), collector()];
      docker.modem.demuxStream(stream, stdout, stderr);
      const over = ended(stream);
      if (input) stream.end(input);
      else stream.resume();
      await over;
      assert.equal(stdout.text(), input ?? "ttslkfjsdalkfj\n");
      assert.equal(stderr.text(), input ? "" : "err\n");
      assert.equal((await exec.inspect()).ExitCode, input ? 0 : 4);
    }
    await container.remove({ force: true });
  },

  async "logs, whole and followed"() {
    const container = await docker.createContainer({
      Image: IMAGE,
      Cmd: ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"],
    });
    await container.start();
    const stream = await container.logs({ follow: true, stdout: true, stderr: true });
    const stdout = collector();
    container.modem.demuxStream(stream, stdout, stdout);
    await ended(stream);
    assert.equal(stdout.text(), "1\n2\n3\n");
    const whole = await container.logs({ stdout: true, tail: 1 });
    assert.equal(whole.subarray(8).toString(), "3\n");
    await container.remove();
  },

  async "stats, top, rename, kill"() {
    const container = await docker.createContainer({ Image: IMAGE, Cmd: ["sleep", "1000"] });
    await container.start();
    assert.ok((await container.stats({ stream: false })).memory_stats.usage > 0);
    assert.equal((await container.top()).Processes.length, 1);
    await container.rename({ name: "renamed" });
    assert.equal((await docker.getContainer("renamed").inspect()).Name, "/renamed");
    await container.kill();
    assert.equal((await container.wait()).StatusCode, 137);
    await container.remove();
  },

  async "ping, version, info, images"() {
    assert.equal((await docker.ping()).toString(), "OK");
    assert.ok((await docker.version()).ApiVersion);
    assert.equal((await docker.info()).OSType, "linux");
    const images = await docker.listImages();
    assert.ok(images.some((image) => image.RepoTags.includes(`${IMAGE}:latest`)));
    await docker.getImage(IMAGE).tag({ repo: "dockerode", tag: "x" });
    await docker.getImage("dockerode:x").remove();
  },
};

(async () => {
  let failed = 0;
  for (const [name, example] of Object.entries(examples)) {
    try {
      await example();
      console.log(`ok: ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED: ${name}: ${error.stack}`);
    }
  }
  process.exit(failed ? 1 : 0);
})();
