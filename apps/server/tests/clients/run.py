"""Runs the server and lets clients at it that nobody here wrote: curl, aioquic, Python's websockets, two browsers."""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import sys

import websockets
from cryptography import x509
from cryptography.hazmat.primitives import serialization

import framed
import hostile
import quic
from serve import post, server

HERE = pathlib.Path(__file__).parent
CLIENTS = pathlib.Path(os.environ.get("CLIENTS", "."))


def curl(*arguments):
    return subprocess.run(["curl", "-sk", "--max-time", "10", *arguments], check=True, capture_output=True, text=True).stdout


def check_curl(addresses):
    plain, secure = f"http://{addresses['plain/tcp']}", f"https://{addresses['secure/tcp']}"
    code = ["-o", os.devnull, "-w", "%{http_version} %{http_code}"]
    for path in ["/", "/chat", "/status", "/assets/style.css", "/assets/carrier.js", "/assets/frames.js", "/cert-hash", "/api/v1/shards"]:
        assert curl(*code, plain + path) == "1.1 200", path
        assert curl(*code, "--http2-prior-knowledge", plain + path) == "2 200", path
        assert curl(*code, "--http1.1", secure + path) == "1.1 200", path
        assert curl(*code, "--http2", secure + path) == "2 200", path
    assert curl(*code, "-I", plain + "/") == "1.1 200"
    assert curl(*code, plain + "/nowhere") == "1.1 404"
    assert curl(*code, "-X", "DELETE", plain + "/") == "1.1 405"
    etag = re.search(r"(?im)^etag: (.*?)\r?$", curl("-D", "-", "-o", os.devnull, plain + "/")).group(1)
    assert curl(*code, "-H", f"if-none-match: {etag}", plain + "/") == "1.1 304"
    assert len(json.loads(curl(plain + "/cert-hash"))["sha256"]) == 64
    secret = {"name": "carol", "password": "correct horse battery"}
    registered = post(plain, "register", **secret)
    assert registered["user"] == "carol" and registered["token"] and registered["expires_at"] > 0
    assert post(plain, "login", **secret)["user"] == "carol"
    wrong = json.dumps({"name": "carol", "password": "wrong password"})
    assert curl(*code, "--json", wrong, plain + "/api/v1/login") == "1.1 401"
    assert curl(*code, "--json", '{"name":"carol"}', plain + "/api/v1/guest") == "1.1 409"
    foreign = ["-H", "origin: https://elsewhere.example", "--json", '{"name":"x"}', plain + "/api/v1/guest"]
    assert curl(*code, *foreign) == "1.1 403"
    admin = f"http://{addresses['admin/tcp']}"
    for path in ["/healthz", "/readyz", "/metrics", "/shards", "/config"]:
        assert curl(*code, admin + path) == "1.1 200", path
    print("curl: every path over HTTP/1.1 and 2, plain and TLS")


class Json:
    """A session in JSON over WebSocket."""

    async def open(self, base, name, topic, after=0, device="d", tls=False):
        token = post(base, "guest", name=name)["token"]
        url = base.replace("http", "ws", 1) + "/ws"
        self.socket = await websockets.connect(url, subprotocols=["ringshard.json"], proxy=None)
        assert self.socket.subprotocol == "ringshard.json"
        subs = [{"topic": topic, "after": after}]
        await self.send(kind="hello", id=1, token=token, device=device, subs=subs)
        self.welcome = await self.until(lambda m: m["kind"] == "welcome")
        return self

    async def send(self, **message):
        await self.socket.send(json.dumps(message))

    async def until(self, wanted):
        while True:
            message = json.loads(await asyncio.wait_for(self.socket.recv(), 10))
            assert message["kind"] != "err" or wanted(message), message
            if wanted(message):
                return message

    async def messages(self, count):
        found = []
        while len(found) < count:
            found.append(await self.until(lambda m: m["kind"] == "msg"))
        return [(m["offset"], m["from"], m["body"]["text"]) for m in found]

    async def say(self, topic, seq, text):
        await self.send(kind="pub", id=100 + seq, topic=topic, seq=seq, body={"type": "text", "text": text})


async def check_websockets(addresses):
    base = f"http://{addresses['plain/tcp']}"
    topic = "chat/interop"
    alice, bob = await Json().open(base, "alice", topic), await Json().open(base, "bob", topic)
    for seq in range(1, 21):
        await alice.say(topic, seq, f"a{seq}")
        await bob.say(topic, seq, f"b{seq}")
    heard = await asyncio.gather(alice.messages(40), bob.messages(40))
    assert heard[0] == heard[1], "two readers, two orders"
    assert [offset for offset, _, _ in heard[0]] == list(range(1, 41))
    again = {"kind": "pub", "id": 7, "topic": topic, "seq": 20, "body": {"type": "text", "text": "a20"}}
    await alice.send(**again)
    repeat = await alice.until(lambda m: m["kind"] == "pub_ok" and m["id"] == 7)
    assert (repeat["offset"], "alice", "a20") in heard[0], "a repeat gets its first offset"
    # A third reader comes late, over raw TCP with the binary codec, and a fourth resumes in the middle.
    host, port = addresses["plain/tcp"].rsplit(":", 1)
    reader = await framed.Framed.open(host, int(port), post(base, "guest", name="tcp")["token"], "raw", topic, 0)
    assert await reader.messages(40) == heard[0]
    resumed = await Json().open(base, "dave", topic, after=30)
    assert await resumed.messages(10) == heard[0][30:]
    await reader.say(topic, 1, "from tcp")
    for client in (alice, bob, resumed):
        assert (await client.messages(1))[0][1:] == ("tcp", "from tcp")
    assert (await reader.messages(1))[0][1:] == ("tcp", "from tcp")
    await alice.send(kind="pub", id=8, topic=topic, seq=21, body={"type": "text", "text": "me"}, **{"from": "mallory"})
    assert (await bob.messages(1))[0][1] == "alice", "the server stamps the sender"
    await alice.send(kind="ping", id=9)
    assert (await alice.until(lambda m: m["kind"] == "pong"))["id"] == 9
    print("websockets and a raw TCP client: one order, exactly once, resume, stamped sender")
    return alice, bob


async def check_goodbye(clients, process):
    process.send_signal(signal.SIGTERM)
    for client in clients:
        await client.until(lambda m: m["kind"] == "goaway")
        with contextlib.suppress(websockets.ConnectionClosed):
            await asyncio.wait_for(client.socket.recv(), 10)
        assert client.socket.close_code == 1001, client.socket.close_code
    print("SIGTERM: goaway, then close 1001")


async def beside(addresses, pages):
    """A raw TCP client in the pages' room while they run; it hears and says what they do."""
    base = f"http://{addresses['plain/tcp']}"
    host, port = addresses["plain/tcp"].rsplit(":", 1)
    token = post(base, "guest", name="raw-tcp")["token"]
    client = await framed.Framed.open(host, int(port), token, "raw", "chat/lobby", 0)
    heard, said = [], []

    async def listen():
        while True:
            heard.extend(await client.messages(1))

    ears = asyncio.create_task(listen())
    while not pages.done():
        said.append(f"from raw tcp {len(said)}")
        await client.say("chat/lobby", len(said), said[-1])
        await asyncio.wait([pages, ears], timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        assert not ears.done(), ears.exception()
    ears.cancel()
    return heard, said


async def check_together(addresses):
    """One port at one time: browsers, curl and aioquic over HTTP/3, a session over QUIC and one over Quantum."""
    base, topic = f"http://{addresses['plain/tcp']}", "chat/together"
    others = [
        asyncio.create_task(asyncio.to_thread(check_webtransport, addresses, browser)) for browser in ["chromium", "firefox"]
    ]
    others.append(asyncio.create_task(asyncio.to_thread(quic.check_curl, addresses)))
    socket = await Json().open(base, "socket", topic)
    async with quic.dial(addresses, alpn=["ringshard/1"]) as client:
        token = post(base, "guest", name="quic")["token"]
        session = await framed.Framed.over(*await client.create_stream(), token, "d", topic, 0)
        quantum = await asyncio.create_subprocess_exec(
            os.environ["QUANTUM_CHAT"], "--connect", addresses["secure/udp"], "--http", addresses["plain/tcp"],
            *["--room", "together", "--name", "quantum"], stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        try:
            seq = 0
            while seq < 10 or not all(other.done() for other in others):
                seq += 1
                # An address that changes now and then is nothing that a session would notice. Three times, for quiche 0.30
                # has room for four addresses of a client, and forgets none (cloudflare/quiche pull request 2743).
                if seq <= 3:
                    await client.rebind()
                await quic.handshake(addresses)
                # Faster, and the server says that it is too much.
                await asyncio.sleep(0.1)
                await socket.say(topic, seq, f"socket {seq}")
                await session.say(topic, seq, f"quic {seq}")
                quantum.stdin.write(f"quantum {seq}\n".encode())
                heard = await socket.messages(3)
                assert heard == await session.messages(3), "two orders"
                assert sorted(text for _, _, text in heard) == [f"{name} {seq}" for name in ["quantum", "quic", "socket"]]
            quantum.stdin.close()
            said = (await asyncio.wait_for(quantum.stdout.read(), 10)).decode()
            assert f"quic {seq}" in said and f"socket {seq}" in said, said
            assert await quantum.wait() == 0
        finally:
            if quantum.returncode is None:
                quantum.kill()
    await asyncio.gather(*others)
    print(f"one port, at one time: two browsers, curl, aioquic, and {3 * seq} messages over QUIC and Quantum")


def check_webtransport(addresses, browser):
    certificate = ssl.get_server_certificate(tuple(addresses["secure/tcp"].rsplit(":", 1)))
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    hashed = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    node(HERE / "webtransport.mjs", BROWSER=browser, PLAIN=addresses["plain/tcp"], SECURE=addresses["secure/udp"], SPKI=hashed)


def node(script, **environment):
    """Runs a script that drives a browser; what it printed."""
    environment = dict(os.environ, NODE_PATH=str(CLIENTS / "node_modules"), **environment)
    environment.setdefault("CHROMIUM", shutil.which("chromium") or "")
    # A module resolves its imports from where it lies.
    for module in script.parent.glob("*.mjs"):
        shutil.copy(module, CLIENTS)
    copy = CLIENTS / script.name
    result = subprocess.run(["node", str(copy)], env=environment, timeout=300, capture_output=True, text=True)
    print(result.stdout, result.stderr, flush=True)
    assert result.returncode == 0, f"{script.name} failed"
    return result.stdout


async def check_room(addresses):
    pages = asyncio.ensure_future(asyncio.to_thread(check_pages, addresses))
    heard, said = await beside(addresses, pages)
    lines = (await pages).splitlines()
    timeline = json.loads(next(line for line in lines if line.startswith("timeline ")).removeprefix("timeline "))
    texts = [text for _, _, text in heard]
    assert [offset for offset, _, _ in heard] == list(range(1, len(heard) + 1)), "the TCP client has a gap"
    differ = next((at for at, (one, other) in enumerate(zip(timeline, texts)) if one != other), None)
    assert differ is None, f"the page and the TCP client have two orders: {timeline[differ]!r}, {texts[differ]!r}"
    assert len(set(timeline) & set(said)) > 5, "the page does not show what the TCP client said"
    print(f"a page over WebTransport, one over WebSocket and a raw TCP client in one room: {len(timeline)} messages, one order")


def check_codec():
    for name in ["frames", "topic"]:
        script = HERE.parent / "pages" / f"{name}.mjs"
        result = subprocess.run(["node", str(script)], timeout=60, capture_output=True, text=True)
        print(result.stdout, result.stderr, flush=True)
        assert result.returncode == 0, f"{name}.mjs: the pages and the server have two languages"


def check_pages(addresses):
    return node(HERE.parent / "pages" / "chat.mjs", BASE=f"http://{addresses['plain/tcp']}")


def check_messenger():
    """People at the messenger's page, more than one address may be without these settings."""
    cheap = {"RINGSHARD_AUTH_ARGON2_KIB": "8", "RINGSHARD_AUTH_ARGON2_PASSES": "1", "RINGSHARD_AUTH_LOGINS_PER_MIN_ADDRESS": "1000"}
    for script, settings in [("messenger", {"RINGSHARD_CHAT_RATE_MIN": "0"}), ("renewal", {"RINGSHARD_AUTH_ACCESS_TTL": "10s"})]:
        with server(**cheap, **settings) as (addresses, _):
            node(HERE.parent / "pages" / f"{script}.mjs", BASE=f"http://{addresses['plain/tcp']}")


def main():
    check_codec()
    check_messenger()
    with server() as (addresses, process):
        check_curl(addresses)
        clients = asyncio.run(check_chat(addresses, process))
        assert clients
    with server() as (addresses, _):
        asyncio.run(check_room(addresses))
    with server() as (addresses, _):
        asyncio.run(check_together(addresses))
    with server() as (addresses, _):
        quic.check(addresses)
    quic.check_retry()
    with server() as (addresses, process):
        asyncio.run(hostile.check(addresses, process))
    print("all clients are content")


async def check_chat(addresses, process):
    clients = await check_websockets(addresses)
    await check_goodbye(clients, process)
    return True


if __name__ == "__main__":
    sys.exit(main())
