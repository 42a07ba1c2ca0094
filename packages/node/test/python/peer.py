"""WebSocket peers driven over stdin and stdout: one JSON object a line, answered under its id."""

import asyncio
import base64
import http
import json
import ssl
import sys
import tempfile

import websockets
from websockets.exceptions import InvalidStatusCode

connections = {}
servers = {}


def encode(message):
    if isinstance(message, str):
        return {"text": message}
    return {"binary": base64.b64encode(message).decode()}


def decode(message):
    return message["text"] if "text" in message else base64.b64decode(message["binary"])


def trusting(authority):
    return authority and ssl.create_default_context(cadata=authority)


def showing(certificate):
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(certificate["cert"] + "\n" + certificate["key"])
        file.flush()
        context.load_cert_chain(file.name)
    return context


async def connect(name, url, offered, authority=None):
    try:
        connection = await websockets.connect(
            url, subprotocols=offered or None, ping_interval=None, ssl=trusting(authority)
        )
    except InvalidStatusCode as error:
        return {"status": error.status_code, "headers": dict(error.headers.raw_items())}
    connections[name] = connection
    return {"subprotocol": connection.subprotocol}


async def listen(name, spoken=None, rejection=None, certificate=None):
    accepted = asyncio.Queue()

    async def handle(connection):
        accepted.put_nowait(connection)
        await connection.wait_closed()

    async def process(_path, _headers):
        if rejection is not None:
            return http.HTTPStatus(rejection["status"]), rejection["headers"], rejection["body"].encode()
        return None

    server = await websockets.serve(
        handle,
        "127.0.0.1",
        0,
        subprotocols=spoken or None,
        process_request=process,
        ping_interval=None,
        ssl=showing(certificate),
    )
    servers[name] = server, accepted
    return {"port": server.sockets[0].getsockname()[1]}


async def accept(name):
    connections[name] = await servers[name][1].get()
    return {"subprotocol": connections[name].subprotocol}


async def send(name, message):
    await connections[name].send(decode(message))


async def fragments(name, messages):
    await connections[name].send([decode(message) for message in messages])


async def receive(name):
    return encode(await connections[name].recv())


async def ping(name, payload):
    await (await connections[name].ping(payload))


async def close(name, code, reason):
    await connections[name].close(code, reason)


async def closed(name):
    connection = connections[name]
    await connection.wait_closed()
    return {"code": connection.close_code, "reason": connection.close_reason}


async def drop(name):
    if name in connections:
        connections.pop(name).transport.abort()
    if name in servers:
        servers.pop(name)[0].close()


commands = [connect, listen, accept, send, fragments, receive, ping, close, closed, drop]
named = {command.__name__: command for command in commands}


async def answer(line):
    command = json.loads(line)
    reply = {"id": command.pop("id")}
    try:
        reply["value"] = await named[command.pop("do")](**command)
    except Exception as error:
        reply["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(reply), flush=True)


async def main():
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()
    while line := await reader.readline():
        task = asyncio.create_task(answer(line))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
