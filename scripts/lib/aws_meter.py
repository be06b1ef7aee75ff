"""A meter between everybody and an AWS emulator: passes all bytes on as they
are, and writes down what AWS would have billed, a JSON object a line.

    aws_meter.py LISTEN_ADDRESS LISTEN_PORT UPSTREAM_PORT FILE

An object has `at` (seconds since 1970), `service`, `operation`, `units` and `bytes`.
Units are AWS's: 1 KB writes of DynamoDB (twice in a transaction), 32 KB messages
of a WebSocket API, requests otherwise. Reads of DynamoDB are counted as one unit
each: the answer, whose size decides, is not looked at.

On SIGUSR1 it drops every WebSocket, as API Gateway does now and then. The payload
of the last invocation of a container is kept beside FILE, as FILE.invocation.
"""

import asyncio
import json
import pathlib
import re
import signal
import sys
import time
import urllib.parse

HEAD_BYTES = 128 * 1024
MESSAGE_BYTES = 32 * 1024
WRITES = {"PutItem": "Put", "UpdateItem": "Update", "DeleteItem": "Delete"}


class Ledger:
    """What was billed."""

    def __init__(self, path):
        self._file = open(path, "a", buffering=1)
        self._invocation = pathlib.Path(f"{path}.invocation")
        # Deleting an item costs what the item weighs.
        self._weights = {}

    def note(self, service, operation, units, size):
        line = {
            "at": time.time(),
            "service": service,
            "operation": operation,
            "units": units,
            "bytes": size,
        }
        self._file.write(json.dumps(line) + "\n")

    def invocation(self, function, body):
        self.note("lambda", "Invoke", 1, len(body))
        if "skls-" in function:
            kept = {"function": function, "payload": body.decode()}
            self._invocation.write_text(json.dumps(kept))

    def dynamodb(self, operation, body):
        request = json.loads(body)
        if operation == "TransactWriteItems":
            parts = [part for item in request["TransactItems"] for part in item.items()]
            operation = "Transact" + "+".join(sorted({kind for kind, _ in parts}))
            units = sum(2 * self._write_units(kind, part) for kind, part in parts)
        elif operation in WRITES:
            units = self._write_units(WRITES[operation], request)
        else:
            units = 1
        self.note("dynamodb", operation, units, len(body))

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

    def __init__(self, ledger, reader, writer, upstream):
        self.ledger = ledger
        self.reader, self.writer = reader, writer
        self.up_reader, self.up_writer = upstream
        self.upgraded = False

    async def run(self):
        tasks = {asyncio.create_task(self.requests()), asyncio.create_task(self.answers())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # What is on its way back still arrives.
            await asyncio.wait(tasks, timeout=5)
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
        self.up_writer.write(head)
        body = await self.body(headers)
        self.upgraded = headers.get("upgrade", "").lower() == "websocket"
        self.note(method, path, headers, body)

    async def body(self, headers):
        """Passes a body on; what it was, unless it is large."""
        kept = bytearray()

        async def pass_on(count):
            while count:
                data = await self.reader.read(min(count, 65536))
                if not data:
                    raise asyncio.IncompleteReadError(b"", count)
                self.up_writer.write(data)
                await self.up_writer.drain()
                if len(kept) < 8 << 20:
                    kept.extend(data)
                count -= len(data)

        if "chunked" in headers.get("transfer-encoding", "").lower():
            while True:
                size = await self.reader.readuntil(b"\r\n")
                self.up_writer.write(size)
                count = int(size.split(b";")[0], 16)
                if count == 0:
                    while (trailer := await self.reader.readuntil(b"\r\n")) != b"\r\n":
                        self.up_writer.write(trailer)
                    self.up_writer.write(b"\r\n")
                    break
                await pass_on(count)
                self.up_writer.write(await self.reader.readexactly(2))
        else:
            await pass_on(int(headers.get("content-length", 0)))
        await self.up_writer.drain()
        return bytes(kept)

    def note(self, method, path, headers, body):
        ledger, size = self.ledger, len(body)
        target = headers.get("x-amz-target", "")
        if target.startswith("DynamoDB"):
            return ledger.dynamodb(target.partition(".")[2], body)
        if target:
            service, _, operation = target.partition(".")
            return ledger.note(service.split("_")[0].lower(), operation, 1, size)
        if self.upgraded:
            return ledger.note("websocket", "connect", 1, size)
        if "/@connections/" in path:
            units = max(1, -(-size // MESSAGE_BYTES)) if method == "POST" else 0
            return ledger.note("websocket", "posted" if method == "POST" else method, units, size)
        if path.startswith("/_aws/execute-api/"):
            what = re.sub(r"/[0-9a-f]{12,64}(?=/|$)", "/ID", path.split("?")[0].split("/", 4)[-1])
            return ledger.note("http-api", f"{method} /{what}", max(1, -(-size // (512 * 1024))), size)
        if found := re.match(r"/2015-03-31/functions/([^/?]+)/invocations", path):
            return ledger.invocation(urllib.parse.unquote(found[1]), body)
        if re.match(r"/20\d\d-\d\d-\d\d/", path):
            parts = path.split("?")[0].split("/")
            what = "/".join(parts[2:3] + parts[4:5])
            return ledger.note("lambda", f"{method} {what}", 1, size)
        if path.startswith("/schedules/"):
            return ledger.note("scheduler", method, 1, size)
        if path.startswith("/v2/"):
            return ledger.note("registry", method, 1, size)
        if path.startswith("/_ministack"):
            return None
        return ledger.note("s3", method, 1, size)


async def main(address, port, upstream, file):
    ledger = Ledger(file)
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
            connection = Connection(ledger, reader, writer, pair)
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
