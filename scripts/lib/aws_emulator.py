"""What deployments at an AWS emulator are made of. Names are fixed: an emulator
lives as long as one test."""

import json

import botocore.session

REGION = "us-east-1"
ACCOUNT = "000000000000"


class Emulator:
    """Makes resources at one emulator."""

    def __init__(self, endpoint):
        self._session = botocore.session.get_session()
        self._session.set_credentials("test", "test")
        self._clients = {}
        self.endpoint = endpoint

    def client(self, service):
        if service not in self._clients:
            self._clients[service] = self._session.create_client(
                service, region_name=REGION, endpoint_url=self.endpoint
            )
        return self._clients[service]

    def storage(self, name):
        """A table as the control plane wants it, a bucket and a repository."""
        table = self.client("dynamodb")
        table.create_table(
            TableName=name,
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
        table.update_time_to_live(
            TableName=name,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"},
        )
        self.client("s3").create_bucket(Bucket=name)
        self.client("ecr").create_repository(repositoryName=name)

    def role(self, name, assume, policies):
        """A role's ARN. `policies`: documents by name."""
        iam = self.client("iam")
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(assume))
        for policy, document in policies.items():
            iam.put_role_policy(
                RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document)
            )
        return made["Role"]["Arn"]

    def user(self, name, policies):
        """A person's access key: its id and its secret. `policies`: documents by name."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        for policy, document in policies.items():
            iam.put_user_policy(
                UserName=name, PolicyName=policy, PolicyDocument=json.dumps(document)
            )
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def function(self, name, role, package, **settings):
        """A function's ARN, once it can be invoked."""
        functions = self.client("lambda")
        arn = functions.create_function(
            FunctionName=name, Role=role, Code={"ZipFile": package}, **settings
        )["FunctionArn"]
        functions.get_waiter("function_active_v2").wait(
            FunctionName=name, WaiterConfig={"Delay": 1}
        )
        return arn

    def http_api(self, name):
        """An HTTP API's id."""
        made = self.client("apigatewayv2").create_api(Name=name, ProtocolType="HTTP")
        return made["ApiId"]

    def websocket_api(self, name):
        """A WebSocket API's id."""
        made = self.client("apigatewayv2").create_api(
            Name=name,
            ProtocolType="WEBSOCKET",
            RouteSelectionExpression="$request.body.action",
        )
        return made["ApiId"]

    def serve(self, api, stage, function, keys, authorization="NONE", **integration):
        """Makes a function answer these routes of an API."""
        self.client("lambda").add_permission(
            FunctionName=function,
            StatementId=f"gateway-{api}",
            Action="lambda:InvokeFunction",
            Principal="apigateway.amazonaws.com",
            SourceArn=f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api}/*",
        )
        gateway = self.client("apigatewayv2")
        target = gateway.create_integration(
            ApiId=api,
            IntegrationType="AWS_PROXY",
            IntegrationUri=(
                f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/"
                f"{function}/invocations"
            ),
            **integration,
        )["IntegrationId"]
        for key in keys:
            gateway.create_route(
                ApiId=api,
                RouteKey=key,
                Target=f"integrations/{target}",
                AuthorizationType=authorization,
            )
        gateway.create_stage(ApiId=api, StageName=stage, AutoDeploy=True)

    def api_url(self, api, scheme="http"):
        """Where an API is reached: a path, since an emulator has no host name for each."""
        return f"{self.endpoint.replace('http', scheme, 1)}/_aws/execute-api/{api}"
