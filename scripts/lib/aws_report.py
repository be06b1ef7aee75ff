"""What a meter has written down, for people.

    aws_report.py cost FILE BEGIN END TITLE   a table of what was billed in between
                                              (seconds since 1970), and its price
    aws_report.py check FILE BEGIN END        fails where one attached `docker run --rm`
                                              is over its budget
    aws_report.py relay FILE BEGIN END BEGIN END
                                              fails where the second run, which has much to
                                              say, looks at more records than the first
    aws_report.py document FILE [BEGIN END TITLE]…   docs/cost.md
    aws_report.py permissions FILE            the actions that the policies grant and
                                              nobody used; fails on any without a reason
"""

import collections
import json
import pathlib
import re
import sys

POLICIES = pathlib.Path(__file__).parents[2] / "terraform" / "policies"

# Dollars (us-east-1, on demand).
PRICES = {
    "http-api": 1.00e-6,
    "websocket messages": 1.00e-6,
    "dynamodb writes": 0.625e-6,
    "dynamodb reads": 0.125e-6,
    "lambda requests": 0.20e-6,
    # A millisecond of the control function: 512 MiB.
    "control function ms": 0.5 * 0.001 * 16.6667e-6,
    "s3 writes": 5.0e-6,
    "s3 reads": 0.4e-6,
    "scheduler": 1.0e-6,
}

# Milliseconds that a call takes in one region, warm: assumptions, from AWS's own
# figures and many people's measurements, not from an emulator.
LATENCIES = {
    "http-api": 25,
    "websocket": 10,
    "dynamodb": 5,
    "lambda": 15,
    "s3": 25,
    "scheduler": 30,
}

# A container's memory and price: 1,769 MiB, x86_64.
GB = 1769 / 1024
GB_SECOND = 16.6667e-6

# What an invocation of the control function takes beside the calls that it makes: more than
# is seen here.
OWN_MS = 2

# Both ends of the relay are connected while it runs, and say that they live: an agent that had
# nothing else to say (agent/src/relay/conversation.rs), and a frontend that heard nothing, which is answered
# (local-frontend/src/relay/driver.rs).
CONNECTION_MINUTE = 0.25e-6
AGENT_HEARTBEATS_PER_MINUTE = 60 / 300
FRONTEND_QUESTIONS_PER_MINUTE = 60 / 120

# What one attached `docker run --rm` on a function that exists may cost; more fails.
LIMITS = {"http-api": 8, "websocket messages": 30, "dynamodb writes": 25}
LIMIT_DOLLARS = 0.00006

# By what only its principals may do, of all that this test's do, a policy is known.
ONLY = {
    "control": "execute-api:ManageConnections",
    "worker": "lambda:CreateFunction",
    "user": "execute-api:Invoke",
}

# Granted, and not used by this test.
REASONS = {
    "s3:AbortMultipartUpload": "an upload in parts breaks off only when its sender does",
    "s3:ListBucket": "without it S3 says 403 of an object that is not there, instead of 404",
    "ecr:BatchGetImage": "what Lambda reads for whoever makes a function; the emulator does not ask",
    "ecr:GetDownloadUrlForLayer": "what Lambda reads for whoever makes a function, and what ECR's registry asks for a download",
    "ecr:BatchCheckLayerAvailability": "what ECR's registry asks for a HEAD of a blob",
    "ecr:InitiateLayerUpload": "what ECR's registry asks for an upload",
    "ecr:UploadLayerPart": "what ECR's registry asks for an upload",
    "ecr:CompleteLayerUpload": "what ECR's registry asks for an upload",
    "ecr:PutImage": "what ECR's registry asks for a PUT of a manifest",
    "ecr:BatchImportUpstreamImage": "what ECR asks of whoever pulls what its cache does not have; the emulator has no cache",
    "ecr:CreateRepository": "what ECR asks of whoever pulls what its cache does not have; the emulator has no cache",
    "iam:PassRole": "asked with CreateFunction and CreateSchedule",
    "lambda:TagResource": "asked with CreateFunction, for its tags",
    "logs:CreateLogStream": "Lambda's own doing, in the function's role",
    "logs:PutLogEvents": "Lambda's own doing, in the function's role",
    "sts:AssumeRole": "Lambda's and the scheduler's own doing",
    "dynamodb:ConditionCheckItem": "a condition on an item that is not written: when images are tagged and removed at once",
}


def read(path, begin=0, end=float("inf")):
    for line in pathlib.Path(path).read_text().splitlines():
        entry = json.loads(line)
        if begin <= entry["at"] <= end:
            yield entry


def totals(entries):
    """What is billed, by AWS's units."""
    total = collections.Counter()
    for entry in entries:
        service, operation, units = entry["service"], entry["operation"], entry["units"]
        if service == "http-api":
            total["http-api"] += units
        elif service == "websocket":
            if operation != "connect":
                total["websocket messages"] += units
        elif service == "dynamodb":
            reads = operation in ("GetItem", "Query", "BatchGetItem")
            total["dynamodb reads" if reads else "dynamodb writes"] += units
        elif service == "s3" and operation != "DELETE":  # which is free
            total["s3 writes" if operation in ("PUT", "POST") else "s3 reads"] += units
        elif service == "scheduler":
            total["scheduler"] += units
        elif (service, operation) == ("lambda", "Invoke"):
            total["lambda requests"] += units
        # Each request of either API is an invocation of the control function.
        if service == "http-api" or (service == "websocket" and operation != "posted"):
            total["lambda requests"] += 1
            total["control function ms"] += OWN_MS
        # It waits for each call that it makes. Some are other's, and counted all the same.
        if service != "http-api" and (service != "websocket" or operation == "posted"):
            total["control function ms"] += LATENCIES.get(service, 0)
    return total


def beat(posted):
    """What one message to the control function costs, and its answer, if it has one."""
    ms = OWN_MS + posted * LATENCIES["websocket"]
    return (
        (1 + posted) * PRICES["websocket messages"]
        + PRICES["lambda requests"]
        + ms * PRICES["control function ms"]
    )


def connected_minute():
    """What a frontend costs that is connected and has nothing to do."""
    return CONNECTION_MINUTE + FRONTEND_QUESTIONS_PER_MINUTE * beat(posted=1)


def dollars(total):
    return sum(PRICES[what] * count for what, count in total.items())


def cost(path, begin, end, title):
    entries = list(read(path, float(begin), float(end)))
    print(f"### {title}\n")
    print("| service | operation | calls | billed units |")
    print("|---|---|--:|--:|")
    calls, units = collections.Counter(), collections.Counter()
    for entry in entries:
        kind = (entry["service"], entry["operation"])
        calls[kind] += 1
        units[kind] += entry["units"]
    for (service, operation), count in sorted(calls.items()):
        print(f"| {service} | {operation} | {count} | {units[service, operation]} |")
    total = totals(entries)
    listed = ", ".join(f"{total[what]} {what}" for what in PRICES if total[what])
    print(f"\nBilled: {listed}: ${dollars(total):.8f}\n")


def latency_ms(entries):
    """As if every call waited for the one before."""
    return sum(LATENCIES.get(entry["service"], 0) for entry in entries)


def document(path, *spans):
    """All of docs/cost.md."""
    print("# What it costs\n")
    print(
        "Written by `SOCKERLESS_COST_FILE=docs/cost.md make test-aws`: the calls are counted at the\n"
        "emulator by a meter that everybody goes through; the prices are AWS's for us-east-1, the\n"
        "milliseconds a call are assumed (below), and with them how long the control function runs (512 MiB),\n"
        f"which is given {OWN_MS} ms more in each invocation. Reads of DynamoDB count as one unit each. Not in\n"
        "it: the free tier, and the transfer of data out of AWS.\n"
    )
    spans = list(zip(spans[::3], spans[1::3], spans[2::3]))
    for begin, end, title in spans:
        cost(path, begin, end, title)
        entries = list(read(path, float(begin), float(end)))
        print(f"At most {latency_ms(entries)} ms, if every call waited for the one before.\n")
    begin, end, _ = spans[0]
    run = dollars(totals(read(path, float(begin), float(end))))
    print("## The budget of one run\n")
    print("| | counted | allowed |")
    print("|---|--:|--:|")
    counted = totals(read(path, float(begin), float(end)))
    for what, limit in LIMITS.items():
        print(f"| {what} | {counted[what]} | {limit} |")
    print(f"| dollars | {run:.6f} | {LIMIT_DOLLARS:.6f} |\n")
    print("## Dollars\n")
    print("| a container of 1,769 MiB | GB-seconds | all else | together |")
    print("|---|--:|--:|--:|")
    for name, seconds in (("10 s", 10), ("10 min", 600)):
        own = GB * seconds * GB_SECOND
        agent = CONNECTION_MINUTE + AGENT_HEARTBEATS_PER_MINUTE * beat(posted=0)
        more = run + seconds / 60 * (agent + connected_minute())
        print(f"| {name} | ${own:.6f} | ${more:.6f} | ${own + more:.6f} |")
    print("| idle | $0 | $0 | $0 |\n")
    print(
        f"Idle is: no frontend connected. One that is connected and idle costs ${connected_minute() * 60 * 24 * 30:.2f} a month. What is\n"
        "stored costs by the month: images in ECR $0.10 a GB, the bucket $0.023 a GB, the table $0.25 a GB and\n"
        "its backups $0.20 a GB, logs $0.50 a GB when they are written, and $0.03 a GB. Lambda's own lines in\n"
        "them are not counted: some $0.000003 a run.\n"
    )
    print("## Milliseconds a call\n")
    print("| service | assumed |")
    print("|---|--:|")
    for service, ms in LATENCIES.items():
        print(f"| {service} | {ms} |")


def check(path, begin, end):
    total = totals(read(path, float(begin), float(end)))
    over = [
        f"{total[what]} {what}, where {limit} are allowed"
        for what, limit in LIMITS.items()
        if total[what] > limit
    ]
    if dollars(total) > LIMIT_DOLLARS:
        over.append(f"${dollars(total):.6f}, where ${LIMIT_DOLLARS:.6f} are allowed")
    for sentence in over:
        print(f"over the budget of one `docker run --rm`: {sentence}", file=sys.stderr)
    sys.exit(bool(over))


# Agents and frontends say again what is not answered in time, and the emulator is slow: one of so
# many messages may be such, beyond which each seems to look at a record.
AGAIN = 4

# Messages that the output of a run fills, at least.
MUCH = 20


def relay(path, *spans):
    seen = []
    for begin, end in (spans[:2], spans[2:]):
        entries = list(read(path, float(begin), float(end)))
        records = sum(entry["service"] == "dynamodb" for entry in entries)
        seen.append((records, totals(entries)["websocket messages"]))
    (few_records, few), (records, messages) = seen
    print(f"{few} messages and {few_records} calls of DynamoDB; {messages} and {records} with much output")
    if messages < few + MUCH:
        sys.exit(f"{messages} messages are not much more than {few}")
    if records > few_records + (messages - few) / AGAIN:
        sys.exit("what goes over the relay looks at records")


def actions(entry):
    """The permissions that a call needs."""
    service, operation = entry["service"], entry["operation"]
    if service == "dynamodb":
        kinds = re.findall("Update|Delete|Put|ConditionCheck", operation)
        if operation.startswith("Transact"):
            return [f"dynamodb:{kind}Item" for kind in kinds]
        return [f"dynamodb:{operation}"]
    if service == "http-api":
        return ["execute-api:Invoke"]
    if service == "websocket":
        return ["execute-api:ManageConnections"] if operation == "posted" else []
    if service == "s3":
        names = {"GET": "GetObject", "PUT": "PutObject", "POST": "PutObject", "DELETE": "DeleteObject"}
        return [f"s3:{names[operation]}"] if operation in names else []
    if service == "lambda":
        return {
            "Invoke": ["lambda:InvokeFunction"],
            "POST functions": ["lambda:CreateFunction"],
            "DELETE functions": ["lambda:DeleteFunction"],
            "GET functions": ["lambda:ListFunctions"],
            "GET functions/configuration": ["lambda:GetFunctionConfiguration"],
            "PUT functions/event-invoke-config": ["lambda:PutFunctionEventInvokeConfig"],
        }.get(operation, [])
    if service == "scheduler":
        names = {"POST": "CreateSchedule", "PUT": "UpdateSchedule", "DELETE": "DeleteSchedule"}
        return [f"scheduler:{names[operation]}"] if operation in names else []
    if service.startswith("amazonec2containerregistry"):
        return [f"ecr:{operation}"]
    return [f"{service}:{operation}"]


def uses(path):
    """What each policy's principals have used, by the policy's name; and what anybody has."""
    by_key = {}
    for entry in read(path):
        by_key.setdefault(entry.get("key"), set()).update(actions(entry))
    by_policy = {name: set() for name in ONLY}
    for used in by_key.values():
        for name, action in ONLY.items():
            if action in used:
                by_policy[name] |= used
    return by_policy, set().union(*by_key.values())


def permissions(path):
    by_policy, anybody = uses(path)
    unknown = False
    for file in sorted(POLICIES.glob("*.json")):
        # Networks and what other services may do are not this test's.
        if "vpc" in file.name or file.name in ("bucket.json", "repository.json"):
            continue
        granted = set()
        for statement in json.loads(file.read_text())["Statement"]:
            listed = statement["Action"]
            granted.update([listed] if isinstance(listed, str) else listed)
        for action in sorted(granted - by_policy.get(file.stem, anybody)):
            unknown |= action not in REASONS
            print(f"{file.name} grants what is not used: {action}: {REASONS.get(action, 'no reason is known')}")
    sys.exit(unknown)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    {"cost": cost, "check": check, "relay": relay, "document": document, "permissions": permissions}[command](
        *arguments
    )
