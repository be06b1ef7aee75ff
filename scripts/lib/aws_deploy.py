"""Deploys the control function and all that it needs at an AWS emulator, with
the policies that it would have on AWS. Prints an export line for `sockerless
serve`.

    aws_deploy.py ENDPOINT BOOTSTRAP AGENT
"""

import io
import pathlib
import string
import sys
import urllib.parse
import zipfile

import botocore.session

REGION = "us-east-1"
ACCOUNT = "000000000000"
NAME = "sockerless"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}"
STAGE = "v1"
POLICIES = pathlib.Path(__file__).parents[2] / "terraform" / "policies"


def main(endpoint, bootstrap, agent):
    session = botocore.session.get_session()
    session.set_credentials("test", "test")

    def client(service):
        return session.create_client(service, region_name=REGION, endpoint_url=endpoint)

    client("dynamodb").create_table(
        TableName=NAME,
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    client("dynamodb").update_time_to_live(
        TableName=NAME,
        TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"},
    )
    client("s3").create_bucket(Bucket=NAME)
    client("ecr").create_repository(repositoryName=NAME)
    gateway = client("apigatewayv2")
    http = gateway.create_api(Name=f"{NAME}-http", ProtocolType="HTTP")["ApiId"]
    websocket = gateway.create_api(
        Name=f"{NAME}-relay",
        ProtocolType="WEBSOCKET",
        RouteSelectionExpression="$request.body.action",
    )["ApiId"]

    container_role = role(client, "container")
    control_role = role(
        client,
        "control",
        relay_api=websocket,
        relay_stage=STAGE,
        container_role=container_role,
    )
    # The registry has no name of its own here. An Engine takes one on loopback
    # without TLS.
    port = urllib.parse.urlsplit(endpoint).port
    relay = f"{endpoint}/_aws/execute-api/{websocket}/{STAGE}"
    client("lambda").create_function(
        FunctionName=NAME,
        Runtime="provided.al2023",
        Role=control_role,
        Handler="bootstrap",
        Timeout=120,
        MemorySize=512,
        Code={"ZipFile": package(bootstrap, agent)},
        Environment={
            "Variables": {
                "SOCKERLESS_TABLE": NAME,
                "SOCKERLESS_BUCKET": NAME,
                "SOCKERLESS_REPOSITORY": f"127.0.0.1:{port}/{NAME}",
                "SOCKERLESS_RELAY_URL": relay.replace("http", "ws", 1),
                "SOCKERLESS_RELAY_CALLBACK": relay,
                "SOCKERLESS_CONTAINER_ROLE": container_role,
                "SOCKERLESS_FUNCTION_ARN": FUNCTION,
                "SOCKERLESS_ARCHITECTURE": "x86_64",
            }
        },
    )
    client("lambda").get_waiter("function_active_v2").wait(
        FunctionName=NAME, WaiterConfig={"Delay": 1}
    )
    client("lambda").add_permission(
        FunctionName=NAME,
        StatementId="gateway",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
    )
    routes(gateway, http, ["$default"], authorization="AWS_IAM", payload="2.0")
    gateway.create_stage(ApiId=http, StageName="$default", AutoDeploy=True)
    routes(gateway, websocket, ["$connect", "$disconnect", "$default"])
    gateway.create_stage(ApiId=websocket, StageName=STAGE, AutoDeploy=True)
    print(f"export SOCKERLESS_ENDPOINT={endpoint}/_aws/execute-api/{http}")


def package(bootstrap, agent):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in (("bootstrap", bootstrap), ("sockerless-agent", agent)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100755 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            with open(path, "rb") as file:
                archive.writestr(entry, file.read())
    return content.getvalue()


def routes(gateway, api, keys, authorization="NONE", **integration):
    payload = integration.get("payload")
    target = gateway.create_integration(
        ApiId=api,
        IntegrationType="AWS_PROXY",
        IntegrationUri=(
            f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{FUNCTION}/invocations"
        ),
        **({"PayloadFormatVersion": payload} if payload else {}),
    )["IntegrationId"]
    for key in keys:
        gateway.create_route(
            ApiId=api,
            RouteKey=key,
            Target=f"integrations/{target}",
            AuthorizationType=authorization,
        )


def role(client, name, **values):
    """A role with the policy of this name in terraform/policies."""
    iam = client("iam")
    made = iam.create_role(
        RoleName=f"{NAME}-{name}", AssumeRolePolicyDocument=policy("assume-lambda")
    )
    iam.put_role_policy(
        RoleName=f"{NAME}-{name}", PolicyName=name, PolicyDocument=policy(name, **values)
    )
    return made["Role"]["Arn"]


def policy(name, **values):
    template = (POLICIES / f"{name}.json").read_text()
    return string.Template(template).substitute(
        partition="aws", region=REGION, account=ACCOUNT, name=NAME, bucket=NAME, **values
    )


main(*sys.argv[1:])
