"""Measures how long a function's program takes from exec to its first question for an
invocation (GET …/runtime/invocation/next), for which Lambda waits in a cold start.
Prints the median and the slowest, in milliseconds.

    first_next.py TIMES COMMAND…
"""

import os
import socket
import statistics
import subprocess
import sys
import time

NEXT = b"GET /2018-06-01/runtime/invocation/next "
LIMIT_S = 30


def main(times, *command):
    took = sorted(measure(command) for _ in range(int(times)))
    print(f"{statistics.median(took):.1f} {took[-1]:.1f}")


def measure(command):
    """Milliseconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(LIMIT_S)
        address = "{}:{}".format(*server.getsockname())
        environment = os.environ | {
            "AWS_LAMBDA_RUNTIME_API": address,
            "AWS_LAMBDA_FUNCTION_NAME": "sockerless",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_LOG_GROUP_NAME": "group",
            "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
        }
        begun = time.monotonic()
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
            try:
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(LIMIT_S)
                    said = connection.recv(4096)
                    end = time.monotonic()
            except TimeoutError:
                process.kill()
                sys.exit(f"no question came: {process.stderr.read().decode()}")
            finally:
                process.kill()
    if not said.startswith(NEXT):
        sys.exit(f"the first question is {said!r}")
    return (end - begun) * 1000


main(*sys.argv[1:])
