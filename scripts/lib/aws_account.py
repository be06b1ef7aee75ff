"""Tells of what is on an emulated account, or changes it.

    aws_account.py ENDPOINT code               the SHA-256 of the control function's package, in base64
    aws_account.py ENDPOINT timeout SECONDS    sets how long an invocation of it may take
    aws_account.py ENDPOINT setting NAME VALUE sets a variable of its environment; without a
                                               value, takes it away
    aws_account.py ENDPOINT value NAME         that variable's value; an empty line without one
    aws_account.py ENDPOINT functions          the names of containers' functions
    aws_account.py ENDPOINT left               what the control plane has made and is still
                                               there: functions of containers, schedules, and
                                               repositories that the cache has
    aws_account.py ENDPOINT lose-images        deletes all that is in the repository
    aws_account.py ENDPOINT repository NAME    makes a repository of this name
    aws_account.py ENDPOINT no-repository NAME deletes it
    aws_account.py ENDPOINT everything         what there is of all that a deployment makes,
                                               in order
"""

import sys

from aws_emulator import Emulator

NAME = "sockerless"


def main(endpoint, what, *values):
    emulator = Emulator(endpoint)
    functions = emulator.client("lambda")

    def settings():
        return functions.get_function_configuration(FunctionName=NAME)

    if what == "code":
        print(settings()["CodeSha256"])
    elif what == "timeout":
        functions.update_function_configuration(FunctionName=NAME, Timeout=int(values[0]))
    elif what == "setting":
        name, value = values
        variables = settings()["Environment"]["Variables"] | {name: value}
        variables = {name: value for name, value in variables.items() if value}
        functions.update_function_configuration(
            FunctionName=NAME, Environment={"Variables": variables}
        )
    elif what == "value":
        print(settings()["Environment"]["Variables"].get(values[0], ""))
    elif what == "functions":
        for name in of_containers(functions):
            print(name)
    elif what == "left":
        for name in of_containers(functions):
            print(name)
        for repository in emulator.client("ecr").describe_repositories()["repositories"]:
            if repository["repositoryName"].startswith(f"{NAME}/"):
                print(repository["repositoryArn"])
        for schedule in emulator.client("scheduler").list_schedules()["Schedules"]:
            print(schedule["Arn"])
    elif what == "lose-images":
        registry = emulator.client("ecr")
        images = registry.list_images(repositoryName=NAME)["imageIds"]
        lost = registry.batch_delete_image(repositoryName=NAME, imageIds=images)
        print(f"{len(lost['imageIds'])} of {len(images)} deleted")
    elif what == "repository":
        emulator.client("ecr").create_repository(repositoryName=values[0])
    elif what == "no-repository":
        emulator.client("ecr").delete_repository(repositoryName=values[0], force=True)
    elif what == "everything":
        for line in sorted(everything(emulator)):
            print(line)
    else:
        sys.exit(__doc__)


# Of each service: an operation, where its answer has the resources, and what they are called.
KINDS = (
    ("lambda", "list_functions", "Functions", "FunctionName"),
    ("apigatewayv2", "get_apis", "Items", "Name"),
    ("dynamodb", "list_tables", "TableNames", None),
    ("s3", "list_buckets", "Buckets", "Name"),
    ("ecr", "describe_repositories", "repositories", "repositoryName"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("iam", "list_users", "Users", "UserName"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("scheduler", "list_schedules", "Schedules", "Name"),
)


def everything(emulator):
    for service, operation, field, name in KINDS:
        for resource in getattr(emulator.client(service), operation)()[field]:
            yield f"{service} {operation} {resource[name] if name else resource}"
    for policy in emulator.client("iam").list_policies(Scope="Local")["Policies"]:
        yield f"iam list_policies {policy['PolicyName']}"


def of_containers(functions):
    for page in functions.get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            if function["FunctionName"].startswith("skls-"):
                yield function["FunctionName"]


main(*sys.argv[1:])
