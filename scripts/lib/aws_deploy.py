"""Deploys the control function and all that it needs at an AWS emulator, with
the policies that it would have on AWS, and a person who may use it. Prints
export lines for that person's `sockerless serve`.

    aws_deploy.py ENDPOINT BOOTSTRAP AGENT
"""

import io
import json
import pathlib
import platform
import string
import sys
import urllib.parse
import zipfile

from aws_emulator import ACCOUNT, REGION, Emulator

NAME = "sockerless"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}"
STAGE = "v1"
ARCHITECTURE = "arm64" if platform.machine() == "aarch64" else "x86_64"
POLICIES = pathlib.Path(__file__).parents[2] / "terraform" / "policies"

# What AWS does not need. MiniStack 1.5 asks for CreateFunction on "*" (the
# function's name is in the body), and takes PutFunctionEventInvokeConfig for
# UpdateFunctionCode.
ONLY_FOR_THE_EMULATOR = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["lambda:CreateFunction"], "Resource": ["*"]},
        {
            "Effect": "Allow",
            "Action": ["lambda:UpdateFunctionCode"],
            "Resource": [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:skls-*"],
        },
    ],
}


def main(endpoint, bootstrap, agent):
    emulator = Emulator(endpoint)
    emulator.storage(NAME)
    http = emulator.http_api(f"{NAME}-http")
    websocket = emulator.websocket_api(f"{NAME}-relay")
    container_role = emulator.role(
        f"{NAME}-container", policy("assume-lambda"), {"container": policy("container")}
    )
    control = policy(
        "control",
        relay_api=websocket,
        relay_stage=STAGE,
        container_role=container_role,
    )
    control_role = emulator.role(
        f"{NAME}-control",
        policy("assume-lambda"),
        {"control": control, "emulator": ONLY_FOR_THE_EMULATOR},
    )
    # The registry has no name of its own here. An Engine takes one on loopback
    # without TLS.
    port = urllib.parse.urlsplit(endpoint).port
    emulator.function(
        NAME,
        control_role,
        package(bootstrap, agent),
        Runtime="provided.al2023",
        Architectures=[ARCHITECTURE],
        Handler="bootstrap",
        Timeout=120,
        MemorySize=512,
        Environment={
            "Variables": {
                "SOCKERLESS_TABLE": NAME,
                "SOCKERLESS_BUCKET": NAME,
                "SOCKERLESS_REPOSITORY": f"127.0.0.1:{port}/{NAME}",
                "SOCKERLESS_RELAY_URL": f"{emulator.api_url(websocket, 'ws')}/{STAGE}",
                "SOCKERLESS_RELAY_CALLBACK": f"{emulator.api_url(websocket)}/{STAGE}",
                "SOCKERLESS_CONTAINER_ROLE": container_role,
                "SOCKERLESS_FUNCTION_ARN": FUNCTION,
                "SOCKERLESS_ARCHITECTURE": ARCHITECTURE,
            }
        },
    )
    emulator.serve(
        http,
        "$default",
        FUNCTION,
        ["$default"],
        authorization="AWS_IAM",
        PayloadFormatVersion="2.0",
    )
    emulator.serve(websocket, STAGE, FUNCTION, ["$connect", "$disconnect", "$default"])
    # The emulator believes whoever has its own key; of others it checks the
    # signature and the policy.
    key, secret = emulator.user("ann", {"invoke": may_invoke(http)})
    print(f"export SOCKERLESS_ENDPOINT={emulator.api_url(http)}")
    print(f"export AWS_ACCESS_KEY_ID={key} AWS_SECRET_ACCESS_KEY={secret}")


def may_invoke(http):
    """All that a person needs."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["execute-api:Invoke"],
                "Resource": [f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{http}/*"],
            }
        ],
    }


def package(bootstrap, agent):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, path in (("bootstrap", bootstrap), ("sockerless-agent", agent)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100755 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            with open(path, "rb") as file:
                archive.writestr(entry, file.read(), compresslevel=1)
    return content.getvalue()


def policy(name, **values):
    """The policy of this name in terraform/policies, filled in."""
    template = string.Template((POLICIES / f"{name}.json").read_text())
    return json.loads(
        template.substitute(
            partition="aws", region=REGION, account=ACCOUNT, name=NAME, bucket=NAME, **values
        )
    )


main(*sys.argv[1:])
