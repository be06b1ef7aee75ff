"""What docker-py's README shows, with what has to come of it. DOCKER_HOST names the
engine, IMAGE an image with a shell that is there, PULLED one that a registry has."""

import os
import sys
import traceback

import docker

IMAGE, PULLED = os.environ["IMAGE"], os.environ["PULLED"]
client = docker.from_env()


def run():
    assert client.containers.run(IMAGE, "echo hello world") == b"hello world\n"


def run_in_the_background():
    command = ["sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done"]
    container = client.containers.run(IMAGE, command, detach=True, name="docker-py")
    assert client.containers.list() == [container]
    same = client.containers.get("docker-py")
    assert same.attrs["Config"]["Image"] == IMAGE
    assert same.id == container.id
    stream = same.logs(stream=True)
    assert next(stream) == b"up\n"
    container.stop()
    assert list(stream) == [b"bye\n"]
    assert container.logs() == b"up\nbye\n"
    assert container.wait()["StatusCode"] == 5
    container.remove()


def run_with_an_error():
    try:
        client.containers.run(IMAGE, ["sh", "-c", "echo bad >&2; exit 9"], remove=True)
    except docker.errors.ContainerError as error:
        assert error.exit_status == 9, error.exit_status
        assert error.stderr == b"bad\n", error.stderr
    else:
        raise AssertionError("no error")


def absent():
    for find in (lambda: client.containers.get("absent"), lambda: client.images.get("absent")):
        try:
            find()
        except docker.errors.NotFound:
            continue
        raise AssertionError("found")


def execute():
    container = client.containers.run(IMAGE, ["sleep", "1000"], detach=True)
    code, output = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 3"], demux=True)
    assert (code, output) == (3, (b"out\n", b"err\n")), (code, output)
    code, output = container.exec_run("tty", tty=True)
    assert (code, output) == (0, b"/dev/pts/0\r\n"), (code, output)
    container.remove(force=True)


def pull_and_list():
    image = client.images.pull(*PULLED.rsplit(":", 1))
    assert PULLED in image.tags
    assert image in client.images.list()


def archive():
    container = client.containers.run(IMAGE, ["sleep", "1000"], detach=True)
    stream, stat = container.get_archive("/etc/hostname")
    assert stat["name"] == "hostname"
    assert b"".join(stream)
    container.remove(force=True)


EXAMPLES = (run, run_in_the_background, run_with_an_error, absent, execute, pull_and_list, archive)


def main():
    failed = 0
    for example in EXAMPLES:
        try:
            example()
            print(f"ok: {example.__name__}")
        except Exception:
            failed += 1
            print(f"FAILED: {example.__name__}: {traceback.format_exc()}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
