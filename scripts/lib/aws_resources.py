"""Makes, at an AWS emulator, what the adapters' contract suites need: a table,
a bucket, a repository, a role, and a WebSocket API that tells each client its
connection's id.
Prints export lines that name them."""

import io
import json
import sys
import zipfile

import botocore.session

REGION = "us-east-1"
ACCOUNT = "000000000000"

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
    session = botocore.session.get_session()
    session.set_credentials("test", "test")

    def client(service):
        return session.create_client(service, region_name=REGION, endpoint_url=endpoint)

    table, bucket = "contract", "contract"
    client("dynamodb").create_table(
        TableName=table,
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
    client("s3").create_bucket(Bucket=bucket)
    client("ecr").create_repository(repositoryName="contract")
    client("iam").create_role(
        RoleName="container", AssumeRolePolicyDocument=json.dumps(LAMBDA_ASSUMES)
    )
    api = websocket_api(client)
    print(f"export SOCKERLESS_TEST_TABLE={table}")
    print(f"export SOCKERLESS_TEST_BUCKET={bucket}")
    print(f"export SOCKERLESS_TEST_REPOSITORY={endpoint.removeprefix('http://')}/contract")
    print(f"export SOCKERLESS_TEST_ROLE=arn:aws:iam::{ACCOUNT}:role/container")
    print(f"export SOCKERLESS_TEST_RELAY={endpoint}/_aws/execute-api/{api}/v1")


def websocket_api(client):
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("index.py", WHO_AM_I)
    role = client("iam").create_role(
        RoleName="who-am-i", AssumeRolePolicyDocument=json.dumps(LAMBDA_ASSUMES)
    )["Role"]["Arn"]
    function = client("lambda").create_function(
        FunctionName="who-am-i",
        Runtime="python3.12",
        Role=role,
        Handler="index.handler",
        Code={"ZipFile": package.getvalue()},
    )
    client("lambda").add_permission(
        FunctionName="who-am-i",
        StatementId="gateway",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
    )
    gateway = client("apigatewayv2")
    api = gateway.create_api(
        Name="contract",
        ProtocolType="WEBSOCKET",
        RouteSelectionExpression="$request.body.action",
    )["ApiId"]
    integration = gateway.create_integration(
        ApiId=api,
        IntegrationType="AWS_PROXY",
        IntegrationUri=(
            f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/"
            f"{function['FunctionArn']}/invocations"
        ),
    )["IntegrationId"]
    for key in ("$connect", "$default"):
        gateway.create_route(ApiId=api, RouteKey=key, Target=f"integrations/{integration}")
    gateway.create_stage(ApiId=api, StageName="v1", AutoDeploy=True)
    return api


main(sys.argv[1])
