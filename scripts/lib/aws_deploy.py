"""Deploys the control function and all that it needs at an AWS emulator, with
the policies that it would have on AWS, and a person who may use it. Prints
export lines for that person's `sockerless serve`.

    aws_deploy.py ENDPOINT REGISTRY ZIP [NAME=VALUE…]

NAME=VALUE are settings of the control function beside the usual ones.
"""

import json
import pathlib
import platform
import string
import sys

from aws_emulator import ACCOUNT, REGION, Emulator

NAME = "sockerless"
FUNCTIONS = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"
FUNCTION = f"{FUNCTIONS}:{NAME}"
WORKER = f"{NAME}-worker"
STAGE = "v1"
LOG_GROUP = f"/sockerless/{NAME}/containers"
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
            "Resource": [f"{FUNCTIONS}:skls-*"],
        },
    ],
}


def main(endpoint, registry, package, *settings):
    emulator = Emulator(endpoint)
    emulator.storage(NAME)
    kept_as_terraform_has_it(emulator)
    logs = emulator.client("logs")
    for group in (f"/aws/lambda/{NAME}", f"/aws/lambda/{WORKER}", LOG_GROUP):
        logs.create_log_group(logGroupName=group)
        logs.put_retention_policy(logGroupName=group, retentionInDays=14)
    http = emulator.http_api(f"{NAME}-control")
    relay = emulator.websocket_api(f"{NAME}-relay")

    def role(name, assume="assume-lambda", extra=None, **values):
        policies = {name: policy(name, **values), **(extra or {})}
        return emulator.role(f"{NAME}-{name}", policy(assume), policies)

    container_role = role("container")
    schedule_role = role("schedule", "assume-scheduler")
    control_role = role(
        "control", relay_api=relay, relay_stage=STAGE, schedule_role=schedule_role
    )
    worker_role = role(
        "worker", extra={"emulator": ONLY_FOR_THE_EMULATOR}, container_role=container_role
    )
    variables = {
        "SOCKERLESS_TABLE": NAME,
        "SOCKERLESS_BUCKET": NAME,
        # It has no name of its own here. An Engine takes one on loopback without TLS.
        "SOCKERLESS_REPOSITORY": f"{registry}/{NAME}",
        "SOCKERLESS_RELAY_URL": f"{emulator.api_url(relay, 'ws')}/{STAGE}",
        "SOCKERLESS_RELAY_CALLBACK": f"{emulator.api_url(relay)}/{STAGE}",
        "SOCKERLESS_CONTAINER_ROLE": container_role,
        "SOCKERLESS_FUNCTION_ARN": FUNCTION,
        "SOCKERLESS_WORKER_ARN": f"{FUNCTIONS}:{WORKER}",
        "SOCKERLESS_SCHEDULE": f"{NAME}-sweep",
        "SOCKERLESS_SCHEDULE_ROLE": schedule_role,
        "SOCKERLESS_LOG_GROUP": LOG_GROUP,
        "SOCKERLESS_ARCHITECTURE": ARCHITECTURE,
        **dict(setting.split("=", 1) for setting in settings),
    }
    content = pathlib.Path(package).read_bytes()
    for name, its_role, timeout, memory in (
        (NAME, control_role, 900, 512),
        (WORKER, worker_role, 300, 256),
    ):
        emulator.function(
            name,
            its_role,
            content,
            Runtime="provided.al2023",
            Architectures=[ARCHITECTURE],
            Handler="bootstrap",
            Timeout=timeout,
            MemorySize=memory,
            Environment={"Variables": variables},
        )
        emulator.client("lambda").put_function_recursion_config(
            FunctionName=name, RecursiveLoop="Allow"
        )
    emulator.client("lambda").put_function_concurrency(
        FunctionName=WORKER, ReservedConcurrentExecutions=1
    )
    emulator.serve(
        http,
        "$default",
        FUNCTION,
        ["$default"],
        authorization="AWS_IAM",
        PayloadFormatVersion="2.0",
    )
    emulator.serve(relay, STAGE, FUNCTION, ["$connect", "$disconnect", "$default"])
    # The emulator believes whoever has its own key; of others it checks the
    # signature and the policy.
    key, secret = emulator.user("ann", {"user": policy("user", control_api=http)})
    print(f"export SOCKERLESS_CONTROL={emulator.api_url(http)}")
    print(f"export AWS_ACCESS_KEY_ID={key} AWS_SECRET_ACCESS_KEY={secret}")


def kept_as_terraform_has_it(emulator):
    """What is set of the table, the bucket and the repository (storage.tf, registry.tf), but
    for TLS, which an emulator has not, and the rules of a cache, which this one does not know."""
    emulator.client("dynamodb").update_continuous_backups(
        TableName=NAME, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    bucket = emulator.client("s3")
    bucket.put_public_access_block(
        Bucket=NAME,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    bucket.put_bucket_ownership_controls(
        Bucket=NAME,
        OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
    )
    bucket.put_bucket_encryption(
        Bucket=NAME,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    )
    bucket.put_bucket_lifecycle_configuration(
        Bucket=NAME,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "bodies-of-requests-are-read-at-once",
                    "Status": "Enabled",
                    "Filter": {"Prefix": "bodies/"},
                    "Expiration": {"Days": 2},
                },
                {
                    "ID": "uploads-that-broke-off",
                    "Status": "Enabled",
                    "Filter": {},
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
                },
            ]
        },
    )
    registry = emulator.client("ecr")
    registry.set_repository_policy(
        repositoryName=NAME, policyText=json.dumps(policy("repository"))
    )
    rule = {
        "rulePriority": 1,
        "description": "the oldest go first",
        "selection": {
            "tagStatus": "any",
            "countType": "imageCountMoreThan",
            "countNumber": 1000,
        },
        "action": {"type": "expire"},
    }
    registry.put_lifecycle_policy(
        repositoryName=NAME, lifecyclePolicyText=json.dumps({"rules": [rule]})
    )


def policy(name, **values):
    """The policy of this name in terraform/policies, filled in."""
    template = string.Template((POLICIES / f"{name}.json").read_text())
    return json.loads(
        template.substitute(
            partition="aws", region=REGION, account=ACCOUNT, name=NAME, bucket=NAME, **values
        )
    )


main(*sys.argv[1:])
