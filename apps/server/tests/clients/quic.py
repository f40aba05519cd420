"""QUIC and HTTP/3 by aioquic and curl_cffi: what RFC 9000 promises a client, each often enough to meet both shards."""

import asyncio
import contextlib
import copy
import os
import ssl

import curl_cffi
from aioquic.asyncio import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.logger import QuicLogger

from serve import figure, figures, reaches, server

# With two shards a client that is steered wrongly half of the time gets through twenty times once in a million.
ROUNDS = 20
RESUMPTIONS = 100
SESSIONS_KEPT = 0.95
# Connections that change their ids: `STEERED=10000 cargo verify clients` takes minutes more.
STEERED = int(os.environ.get("STEERED", "200"))


class Client(QuicConnectionProtocol):
    """A connection with HTTP/3 on it."""

    def __init__(self, quic):
        super().__init__(quic)
        self.http = None
        self.answers = {}
        self.opened = None

    def begin_http(self, webtransport=False):
        """Opens the control streams; with a ticket that may be before the handshake."""
        self.http = H3Connection(self._quic, enable_webtransport=webtransport)

    def ask(self, method, path, body=b"", end=True):
        """Queues a request, and says what its answer will come to."""
        stream = self._quic.get_next_available_stream_id()
        head = [(b":method", method.encode()), (b":scheme", b"https"), (b":authority", b"127.0.0.1")]
        head += [(b":path", path.encode()), (b"content-type", b"application/json")]
        self.http.send_headers(stream, head, end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=end)
        self.answers[stream] = answer = self._loop.create_future()
        answer.status, answer.body = None, b""
        return answer

    async def request(self, *what):
        """Status and body."""
        if self.http is None:
            self.begin_http()
        answer = self.ask(*what)
        self.transmit()
        return await asyncio.wait_for(answer, 10)

    def quic_event_received(self, event):
        if self.http is None:
            # What is spoken in streams without HTTP/3 has readers.
            return super().quic_event_received(event)
        for part in self.http.handle_event(event):
            if isinstance(part, HeadersReceived) and self.opened and not self.opened.done():
                self.opened.set_result(int(dict(part.headers)[b":status"]))
            answer = self.answers.get(part.stream_id) if hasattr(part, "stream_id") else None
            if answer is None or answer.done():
                continue
            if isinstance(part, HeadersReceived):
                answer.status = int(dict(part.headers)[b":status"])
            if isinstance(part, DataReceived):
                answer.body += part.data
            if getattr(part, "stream_ended", False):
                answer.set_result((answer.status, answer.body))

    async def rebind(self):
        """Goes on from another port, as behind a NAT that has forgotten the old one."""
        old = self._transport
        await self._loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        old.close()

    def received(self, kind):
        """Packets of a kind that came, by the connection's log."""
        events = self._quic.configuration.quic_logger.to_dict()["traces"][0]["events"]
        packets = (event["data"] for event in events if event["name"] == "transport:packet_received")
        return [packet for packet in packets if packet["header"]["packet_type"] == kind]

    def challenges(self):
        """How often the server asked whether the client is where it says."""
        frames = (frame for packet in self.received("1RTT") for frame in packet["frames"])
        return sum(frame["frame_type"] == "path_challenge" for frame in frames)


@contextlib.asynccontextmanager
async def dial(addresses, ticket=None, tickets=None, early=None, versions=(), alpn=H3_ALPN, credit=1 << 20, logged=False):
    """A connection from a new port. `tickets` is a queue of those that come; `early` queues what goes with the first packet."""
    host, port = addresses["secure/udp"].rsplit(":", 1)
    configuration = QuicConfiguration(alpn_protocols=alpn, is_client=True, verify_mode=ssl.CERT_NONE, server_name=host)
    configuration.quic_logger = QuicLogger() if logged else None
    configuration.session_ticket = copy.copy(ticket)
    configuration.supported_versions[:0] = versions
    configuration.max_data = configuration.max_stream_data = credit
    configuration.max_datagram_frame_size = 65536
    quic = QuicConnection(configuration=configuration, session_ticket_handler=None if tickets is None else tickets.put_nowait)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_datagram_endpoint(lambda: Client(quic), local_addr=("127.0.0.1", 0))
    try:
        client.connect((host, int(port)), transmit=early is None)
        if early is not None:
            early(client)
            client.transmit()
        await asyncio.wait_for(client.wait_connected(), 10)
        yield client
        client.close()
        await asyncio.wait_for(client.wait_closed(), 10)
    finally:
        client._transport.close()


async def ping(client):
    await asyncio.wait_for(client.ping(), 10)


async def ticket_of(addresses):
    tickets = asyncio.Queue()
    async with dial(addresses, tickets=tickets):
        return await asyncio.wait_for(tickets.get(), 10)


async def handshake(addresses):
    async with dial(addresses) as client:
        status, body = await client.request("GET", "/api/v1/shards")
        assert status == 200 and body, status


async def negotiation(addresses):
    async with dial(addresses, versions=[0x1A2A3A4A], logged=True) as client:
        await ping(client)
        assert client.received("version_negotiation")


async def retry(addresses):
    async with dial(addresses, logged=True) as client:
        assert client.received("retry")
        assert (await client.request("GET", "/"))[0] == 200


async def early_get(addresses):
    answers = []

    def ask(client):
        client.begin_http()
        answers.append(client.ask("GET", "/api/v1/shards"))

    async with dial(addresses, await ticket_of(addresses), early=ask) as client:
        status, body = await asyncio.wait_for(answers[0], 10)
        assert client._quic.tls.early_data_accepted, "no 0-RTT"
        assert status == 200 and body, status


async def early_post(addresses):
    answers = []

    def ask(client):
        client.begin_http()
        answers.append(client.ask("POST", "/api/v1/guest", b'{"name":"early"}'))

    async with dial(addresses, await ticket_of(addresses), early=ask) as client:
        status, _ = await asyncio.wait_for(answers[0], 10)
        assert client._quic.tls.early_data_accepted, "no 0-RTT"
        assert status == 425, status
        assert (await client.request("POST", "/api/v1/guest", b'{"name":"late"}'))[0] == 200


async def key_update(addresses):
    async with dial(addresses) as client:
        for _ in range(2):
            await ping(client)
            client.request_key_update()
            await ping(client)
        assert (await client.request("GET", "/"))[0] == 200


async def id_change(addresses):
    async with dial(addresses) as client:
        # As often as the server has issued ids, and once more: it must issue others for those that are given back.
        for _ in range(5):
            await ping(client)
            client.change_connection_id()
            await ping(client)
        assert (await client.request("GET", "/"))[0] == 200


async def rebinding(addresses):
    async with dial(addresses, logged=True) as client:
        await ping(client)
        await client.rebind()
        await ping(client)
        assert (await client.request("GET", "/"))[0] == 200
        assert client.challenges(), "the server believed an address"


async def mobility(addresses):
    async with dial(addresses, logged=True) as client:
        await ping(client)
        await client.rebind()
        client.change_connection_id()
        await ping(client)
        assert (await client.request("GET", "/"))[0] == 200
        assert client.challenges(), "the server believed an address"


# What is checked, and the metrics that must rise by how much each time.
CHECKS = [
    (handshake, {"quic_connected_total": 1}),
    (negotiation, {"quic_version_negotiations_total": 1}),
    (early_get, {"quic_early_total": 1, "quic_resumed_total": 1}),
    (early_post, {"quic_early_total": 1, "quic_resumed_total": 1}),
    (key_update, {"quic_connected_total": 1}),
    (id_change, {"quic_ids_retired_total": 5}),
    (rebinding, {"quic_moves_total": 1}),
    (mobility, {"quic_moves_total": 1, "quic_ids_retired_total": 1}),
]


async def often(addresses, check, rises):
    before = {name: figure(addresses, name) for name in rises}
    # All at once: a closed connection waits for its stragglers, and nobody wants to wait for that twenty times.
    outcomes = await asyncio.gather(*(check(addresses) for _ in range(ROUNDS)), return_exceptions=True)
    failed = [outcome for outcome in outcomes if outcome is not None]
    if failed:
        raise AssertionError(f"{check.__name__}: {len(failed)} of {ROUNDS} failed") from failed[0]
    for name, each in rises.items():
        wanted = before[name] + each * ROUNDS
        value = reaches(addresses, name, wanted)
        assert value >= wanted, f"{check.__name__}: {name} rose by {value - before[name]}, not {each * ROUNDS}"


async def resumption(addresses):
    ticket = await ticket_of(addresses)
    before, resumed = figures(addresses, "quic_resumed_total"), 0

    async def again():
        async with dial(addresses, ticket) as client:
            await ping(client)
            return client._quic.tls.session_resumed

    for _ in range(RESUMPTIONS // ROUNDS):
        resumed += sum(await asyncio.gather(*(again() for _ in range(ROUNDS))))
    assert resumed >= SESSIONS_KEPT * RESUMPTIONS, f"{resumed} of {RESUMPTIONS} resumed"
    assert reaches(addresses, "quic_resumed_total", sum(before) + resumed) == sum(before) + resumed
    by_shard = [after - old for after, old in zip(figures(addresses, "quic_resumed_total"), before)]
    assert all(by_shard), f"resumed by shard: {by_shard}"
    return f"{resumed} of {RESUMPTIONS} resumed, by shard {by_shard}"


async def steering(addresses):
    """Whichever of its ids a client names its connection by, its datagrams come to the connection's shard."""
    astray = ["quic_foreign_total", "steer_forwarded_total"]
    before, connected = [figure(addresses, name) for name in astray], figures(addresses, "quic_connected_total")

    async def change():
        async with dial(addresses) as client:
            for _ in range(2):
                await ping(client)
                client.change_connection_id()
                await ping(client)
            assert (await client.request("GET", "/api/v1/shards"))[0] == 200

    for _ in range(STEERED // ROUNDS):
        await asyncio.gather(*(change() for _ in range(ROUNDS)))
    by_shard = [after - old for after, old in zip(figures(addresses, "quic_connected_total"), connected)]
    assert [figure(addresses, name) for name in astray] == before, f"by shard {by_shard}"
    return f"{sum(by_shard)} connections by shard {by_shard}, {2 * STEERED} changes of id, none astray"


def curl(method, addresses, path, **options):
    url = f"https://{addresses['secure/udp']}{path}"
    version = curl_cffi.CurlHttpVersion.V3ONLY
    answer = curl_cffi.requests.request(method, url, verify=False, http_version=version, timeout=10, **options)
    assert answer.http_version == 30, answer.http_version
    return answer


def check_curl(addresses):
    for path in ["/", "/chat", "/assets/chat.js", "/api/v1/shards", "/cert-hash"]:
        answer = curl("GET", addresses, path)
        assert answer.status_code == 200 and answer.content, path
    assert curl("GET", addresses, "/nowhere").status_code == 404
    guest = curl("POST", addresses, "/api/v1/guest", json={"name": "curl"})
    assert guest.status_code == 200 and guest.json()["token"]
    large = curl("POST", addresses, "/api/v1/guest", data=b" " * (4 << 20))
    assert large.status_code == 413, large.status_code
    print("curl_cffi: GET and POST over HTTP/3")


def check(addresses):
    for what, rises in CHECKS:
        asyncio.run(often(addresses, what, rises))
    print(f"aioquic: {', '.join(what.__name__ for what, _ in CHECKS)}: {ROUNDS} of {ROUNDS} each")
    print("aioquic:", asyncio.run(resumption(addresses)))
    print("aioquic:", asyncio.run(steering(addresses)))
    check_curl(addresses)


def check_retry():
    with server(RINGSHARD_QUIC_RETRY_ABOVE="0") as (addresses, _):
        asyncio.run(often(addresses, retry, {"quic_retries_total": 1, "quic_connected_total": 1}))
        print(f"aioquic: retry: {ROUNDS} of {ROUNDS}")
        check_curl(addresses)


if __name__ == "__main__":
    with server() as (addresses, _):
        check(addresses)
    check_retry()
