"""Makes, at an AWS emulator, what the adapters' contract suites need: a table,
a bucket, two repositories, a role, and a WebSocket API that tells each client its
connection's id. Prints export lines that name them.

    aws_resources.py ENDPOINT
"""

import io
import sys
import zipfile

from aws_emulator import Emulator

NAME = "contract"
STAGE = "v1"
# Where nothing is stored that no image names, so that its garbage can be collected.
IMAGES = "images"

# Answers every message with the id of the connection it came from.
WHO_AM_I = """
def handler(event, context):
    return {"statusCode": 200, "body": event["requestContext"]["connectionId"]}
"""

LAMBDA_ASSUMES = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def main(endpoint):
    emulator = Emulator(endpoint)
    emulator.storage(NAME)
    emulator.storage(IMAGES)
    role = emulator.role("container", LAMBDA_ASSUMES, {})
    function = emulator.function(
        "who-am-i",
        emulator.role("who-am-i", LAMBDA_ASSUMES, {}),
        package(),
        Runtime="python3.12",
        Handler="index.handler",
    )
    api = emulator.websocket_api(NAME)
    emulator.serve(api, STAGE, function, ["$connect", "$default"])
    print(f"export SOCKERLESS_TEST_TABLE={NAME}")
    print(f"export SOCKERLESS_TEST_BUCKET={NAME}")
    host = endpoint.removeprefix("http://")
    print(f"export SOCKERLESS_TEST_REPOSITORY={host}/{NAME}")
    print(f"export SOCKERLESS_TEST_IMAGES_REPOSITORY={host}/{IMAGES}")
    print(f"export SOCKERLESS_TEST_IMAGES_TABLE={IMAGES}")
    print(f"export SOCKERLESS_TEST_ROLE={role}")
    print(f"export SOCKERLESS_TEST_RELAY={emulator.api_url(api)}/{STAGE}")


def package():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("index.py", WHO_AM_I)
    return content.getvalue()


main(*sys.argv[1:])
