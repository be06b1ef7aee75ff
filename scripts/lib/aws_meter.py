"""A meter between everybody and an AWS emulator: passes all bytes on as they
are, and writes down what AWS would have billed, a JSON object a line.

    aws_meter.py LISTEN_ADDRESS LISTEN_PORT UPSTREAM_PORT FILE

An object has `at` (seconds since 1970), `service`, `operation`, `units`, `bytes` and `key`, the
id of the access key that has signed it, if one has; an invocation also has `event`, what it is for.
Units are AWS's: 1 KB writes of DynamoDB (twice in a transaction), 32 KB messages
of a WebSocket API, requests otherwise. Reads of DynamoDB are counted as one unit
each: the answer, whose size decides, is not looked at.

On SIGUSR1 it drops every WebSocket, as API Gateway does now and then. The payload
of the last invocation of a container is kept beside FILE, as FILE.invocation.

FILE.faults, where there is one, lists answers that AWS gives and the emulator does
not: objects with `call` (service and operation, as they are written down), `path`
(what the path has in it), `of` (one of so many such calls is meant, by chance),
`status`, `body` and `headers`. Such a call is answered so, does not reach the
emulator, and is not billed; what was answered so is written to FILE.answered, a line
each. A call whose status is 0 is held, until it is no longer listed or whoever sent it is
gone, and has no answer then.
"""

import asyncio
import http
import json
import pathlib
import random
import re
import signal
import sys
import time
import urllib.parse

HEAD_BYTES = 128 * 1024
MESSAGE_BYTES = 32 * 1024
REQUEST_BYTES = 512 * 1024
# The status of what is not answered.
HELD = 0
WRITES = {"PutItem": "Put", "UpdateItem": "Update", "DeleteItem": "Delete"}


class Ledger:
    """What was billed."""

    def __init__(self, path):
        self._file = open(path, "a", buffering=1)
        self._invocation = pathlib.Path(f"{path}.invocation")
        # Deleting an item costs what the item weighs.
        self._weights = {}

    def note(self, service, operation, units, size, **more):
        line = {
            "at": time.time(),
            "service": service,
            "operation": operation,
            "units": units,
            "bytes": size,
            **more,
        }
        self._file.write(json.dumps(line) + "\n")

    def invocation(self, function, body, key):
        event = json.loads(body).get("sockerless", "run")
        self.note("lambda", "Invoke", 1, len(body), event=event, key=key)
        if "skls-" in function:
            kept = {"function": function, "payload": body.decode()}
            self._invocation.write_text(json.dumps(kept))

    def dynamodb(self, operation, body, key):
        request = json.loads(body)
        if operation == "TransactWriteItems":
            parts = [part for item in request["TransactItems"] for part in item.items()]
            operation = "Transact" + "+".join(sorted({kind for kind, _ in parts}))
            units = sum(2 * self._write_units(kind, part) for kind, part in parts)
        elif operation in WRITES:
            units = self._write_units(WRITES[operation], request)
        else:
            units = 1
        self.note("dynamodb", operation, units, len(body), key=key)

    def _write_units(self, kind, part):
        key = json.dumps(part.get("Key"), sort_keys=True)
        if kind == "Update":
            self._weights[key] = weight(part["Key"]) + weight(
                part.get("ExpressionAttributeValues", {})
            )
        size = self._weights.get(key, 0)
        if kind == "Delete":
            self._weights.pop(key, None)
        return max(1, -(-size // 1024))


def weight(attributes):
    """An item's size: names and values. Binary travels as base64."""
    total = 0
    for name, value in attributes.items():
        ((kind, content),) = value.items()
        total += len(name) + (len(content) * 3 // 4 if kind == "B" else len(str(content)))
    return total


class Faults:
    """What is answered in the emulator's place."""

    def __init__(self, path):
        self._file = pathlib.Path(f"{path}.faults")
        self._answered = pathlib.Path(f"{path}.answered")
        # Of a fixed seed. Taken in turn, it could be the same packet each time it is sent again.
        self._chance = random.Random(1)

    def find(self, call, path):
        """What is done with this call, if it is one of them."""
        for fault in self._listed():
            if fault["call"] == call and fault["path"] in path:
                if self._chance.randrange(fault["of"]):
                    return None
                with self._answered.open("a") as answered:
                    answered.write(f"{call} {fault['status']}\n")
                return fault
        return None

    async def end_of(self, fault):
        """Waits until it is no longer listed."""
        while fault in self._listed():
            await asyncio.sleep(0.05)

    def _listed(self):
        return json.loads(self._file.read_text()) if self._file.exists() else []


def response(fault):
    body = json.dumps(fault["body"]).encode()
    head = [
        f"HTTP/1.1 {fault['status']} {http.HTTPStatus(fault['status']).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in fault["headers"].items()),
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Frames:
    """Counts the messages of one direction of a WebSocket."""

    def __init__(self, message):
        self._buffer = bytearray()
        self._message = message
        self._size = 0

    def feed(self, data):
        self._buffer += data
        while (frame := self._frame()) is not None:
            final, opcode, length = frame
            if opcode <= 2:
                self._size += length
                if final:
                    self._message(self._size)
                    self._size = 0

    def _frame(self):
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, at = buffer[1] & 127, 2
        for marker, width in ((126, 2), (127, 8)):
            if length == marker:
                if len(buffer) < 2 + width:
                    return None
                length, at = int.from_bytes(buffer[2 : 2 + width], "big"), 2 + width
                break
        end = at + (4 if buffer[1] & 128 else 0) + length
        if len(buffer) < end:
            return None
        found = bool(buffer[0] & 128), buffer[0] & 15, length
        del buffer[:end]
        return found


class Connection:
    """One connection of a client, and its twin to the emulator."""

    def __init__(self, ledger, faults, reader, writer, upstream):
        self.ledger, self.faults = ledger, faults
        self.reader, self.writer = reader, writer
        self.up_reader, self.up_writer = upstream
        self.upgraded = False

    async def run(self):
        requests, answers = asyncio.create_task(self.requests()), asyncio.create_task(self.answers())
        tasks = {requests, answers}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # What is on its way back still arrives. A connection that the emulator has closed takes
            # no more requests.
            await asyncio.wait({answers}, timeout=5)
        finally:
            for task in tasks:
                task.cancel()
            for writer in (self.writer, self.up_writer):
                writer.close()

    async def answers(self):
        frames = None
        while data := await self.up_reader.read(65536):
            self.writer.write(data)
            await self.writer.drain()
            if self.upgraded and frames is None:
                # What is posted to a connection is counted as a post.
                frames = Frames(lambda size: None)

    async def requests(self):
        try:
            while True:
                head = await self.reader.readuntil(b"\r\n\r\n")
                await self.request(head)
                if self.upgraded:
                    return await self.messages()
        except (asyncio.IncompleteReadError, ConnectionError):
            if self.up_writer.can_write_eof():
                self.up_writer.write_eof()

    async def messages(self):
        def message(size):
            self.ledger.note("websocket", "received", max(1, -(-size // MESSAGE_BYTES)), size)

        frames = Frames(message)
        while data := await self.reader.read(65536):
            self.up_writer.write(data)
            await self.up_writer.drain()
            frames.feed(data)

    async def request(self, head):
        line, *fields = head.decode("latin-1").split("\r\n")
        method, path, _ = line.split(" ", 2)
        headers = {}
        for field in fields:
            name, colon, value = field.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip()
        self.upgraded = headers.get("upgrade", "").lower() == "websocket"
        call = self.call(method, path, headers)
        if fault := self.faults.find(" ".join(call), path):
            await self.body(headers, self.ignore)
            if fault["status"] == HELD:
                await self.faults.end_of(fault)
                raise ConnectionError("it was held")
            self.writer.write(response(fault))
            return await self.writer.drain()
        self.up_writer.write(head)
        body = await self.body(headers, self.pass_on)
        await self.up_writer.drain()
        self.note(call, path, body, signed_by(path, headers))

    async def pass_on(self, data):
        self.up_writer.write(data)
        await self.up_writer.drain()

    async def ignore(self, data):
        """For those whose body nobody reads."""

    async def body(self, headers, deliver):
        """Delivers a body as it came; what it was, unless it is large."""
        kept = bytearray()

        async def deliver_bytes(count):
            while count:
                data = await self.reader.read(min(count, 65536))
                if not data:
                    raise asyncio.IncompleteReadError(b"", count)
                await deliver(data)
                if len(kept) < 8 << 20:
                    kept.extend(data)
                count -= len(data)

        if "chunked" in headers.get("transfer-encoding", "").lower():
            while True:
                size = await self.reader.readuntil(b"\r\n")
                await deliver(size)
                count = int(size.split(b";")[0], 16)
                if count == 0:
                    while (trailer := await self.reader.readuntil(b"\r\n")) != b"\r\n":
                        await deliver(trailer)
                    await deliver(b"\r\n")
                    break
                await deliver_bytes(count)
                await deliver(await self.reader.readexactly(2))
        else:
            await deliver_bytes(int(headers.get("content-length", 0)))
        return bytes(kept)

    def call(self, method, path, headers):
        """The service and its operation."""
        target = headers.get("x-amz-target", "")
        if target:
            service, _, operation = target.partition(".")
            return service.split("_")[0].lower(), operation
        if self.upgraded:
            return "websocket", "connect"
        if "/@connections/" in path:
            return "websocket", "posted" if method == "POST" else method
        if path.startswith("/_aws/execute-api/"):
            what = re.sub(r"/[0-9a-f]{12,64}(?=/|$)", "/ID", path.split("?")[0].split("/", 4)[-1])
            return "http-api", f"{method} /{what}"
        if re.match(r"/2015-03-31/functions/([^/?]+)/invocations", path):
            return "lambda", "Invoke"
        if re.match(r"/20\d\d-\d\d-\d\d/", path):
            parts = path.split("?")[0].split("/")
            return "lambda", f"{method} {'/'.join(parts[2:3] + parts[4:5])}"
        if path.startswith("/schedules/"):
            return "scheduler", method
        if path.startswith("/v2/"):
            return "registry", method
        if path.startswith("/_ministack"):
            return "emulator", method
        return "s3", method

    def note(self, call, path, body, key):
        (service, operation), size = call, len(body)
        if service == "emulator":
            return
        if service == "dynamodb":
            return self.ledger.dynamodb(operation, body, key)
        if call == ("lambda", "Invoke"):
            return self.ledger.invocation(urllib.parse.unquote(path.split("/")[3]), body, key)
        units = 1
        if call == ("websocket", "posted"):
            units = max(1, -(-size // MESSAGE_BYTES))
        elif service == "websocket" and operation != "connect":
            units = 0
        elif service == "http-api":
            units = max(1, -(-size // REQUEST_BYTES))
        self.ledger.note(service, operation, units, size, key=key)


def signed_by(path, headers):
    """The id of the access key that has signed a request, or its URL."""
    scope = headers.get("authorization", "") + urllib.parse.unquote(path)
    found = re.search(r"Credential=(\w+)/", scope)
    return found and found[1]


async def main(address, port, upstream, file):
    ledger, faults = Ledger(file), Faults(file)
    connections = set()

    def drop():
        for connection in connections:
            if connection.upgraded:
                connection.writer.transport.abort()
                connection.up_writer.transport.abort()

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, drop)

    async def serve(reader, writer):
        try:
            pair = await asyncio.open_connection("127.0.0.1", int(upstream), limit=HEAD_BYTES)
            connection = Connection(ledger, faults, reader, writer, pair)
            connections.add(connection)
            try:
                await connection.run()
            finally:
                connections.discard(connection)
        except (ConnectionError, ValueError, asyncio.LimitOverrunError) as error:
            print(f"aws_meter: {error!r}", file=sys.stderr)
            writer.close()

    server = await asyncio.start_server(serve, address, int(port), limit=HEAD_BYTES)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
