"""Hostile clients of QUIC, HTTP/3 and WebTransport: each fails to hurt an innocent one, or to take much memory."""

import asyncio
import contextlib
import os
import random
import socket
import ssl
import time

from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from quic import dial, ping
from serve import figure, reaches, server

SEED = 7
GARBAGE = 20_000
# Many more than the 256 half-open ones of a shard from which on it asks for a Retry.
HANDSHAKES = 4_000
SLOW_READERS = 20
RESETS = 3_000
DATAGRAMS = 20_000
# What all of it may take, and keep, beside what the server had before.
GROWTH_MAX_MIB = 300


def resident_mib(process):
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def where(addresses):
    host, port = addresses["secure/udp"].rsplit(":", 1)
    return host, int(port)


@contextlib.contextmanager
def udp(addresses):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.connect(where(addresses))
        plain.settimeout(2)
        yield plain


async def settled(addresses, name, within=20):
    """Until a metric does not rise any more."""
    until, last = time.monotonic() + within, -1
    while (value := figure(addresses, name)) > last:
        assert time.monotonic() < until, f"{name} rises for ever"
        last = value
        await asyncio.sleep(0.25)


async def innocent(addresses, within=5):
    """Somebody who has nothing to do with it comes, asks, and is answered in time."""
    begun = time.monotonic()
    async with dial(addresses) as client:
        assert (await client.request("GET", "/api/v1/shards"))[0] == 200
    assert time.monotonic() - begun < within, f"an innocent client waited {time.monotonic() - begun:.1f} s"


async def resets(addresses):
    """A connection that is over is answered with its reset token; a flood of strangers is not answered for ever."""
    async with dial(addresses) as client:
        await ping(client)
        peer = client._quic._peer_cid
    token = peer.stateless_reset_token
    with udp(addresses) as stranger:
        stranger.settimeout(0.2)
        # Until the server has forgotten the connection it answers nothing.
        answer, until = b"", time.monotonic() + 10
        while not answer and time.monotonic() < until:
            stranger.send(bytes([0x40]) + peer.cid + bytes(80))
            with contextlib.suppress(TimeoutError):
                answer = await asyncio.to_thread(stranger.recv, 2048)
        assert answer[-16:] == token and 21 <= len(answer) < 97, answer.hex()
        before, received = figure(addresses, "quic_resets_total"), figure(addresses, "quic_datagrams_received_total")
        for _ in range(5_000):
            stranger.send(bytes([0x40]) + random.randbytes(80))
        # Some may find the socket's buffer full.
        assert reaches(addresses, "quic_datagrams_received_total", received + 2_500) >= received + 2_500
        assert figure(addresses, "quic_resets_total") - before < 5_000, "resets without a limit"
        # Two that know nothing of each other must not answer each other's resets for ever.
        small = bytes([0x40]) + random.randbytes(20)
        with udp(addresses) as other:
            other.settimeout(0.3)
            other.send(small)
            with contextlib.suppress(TimeoutError):
                assert len(other.recv(2048)) < len(small), "a reset as large as what it answers"


async def garbage(addresses):
    before = figure(addresses, "quic_datagrams_dropped_total")
    with udp(addresses) as stranger:
        for at in range(GARBAGE):
            noise = bytearray(random.randbytes(random.choice([0, 1, 5, 20, 21, 41, 100, 1200, 1452])))
            if noise and at % 2:
                noise[0] |= 0x40
            if len(noise) > 5 and at % 8 == 3:
                # The head of an Initial of version 1.
                noise[:5] = b"\xc0\0\0\0\1"
            with contextlib.suppress(OSError):
                stranger.send(noise)
            if at % 500 == 0:
                await asyncio.sleep(0)
    assert reaches(addresses, "quic_datagrams_dropped_total", before + GARBAGE // 10) > before + GARBAGE // 10


def first_flight(addresses):
    """A client's first datagrams."""
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, is_client=True, verify_mode=ssl.CERT_NONE)
    configuration.server_name = "127.0.0.1"
    quic = QuicConnection(configuration=configuration)
    quic.connect(where(addresses), now=0.0)
    return [datagram for datagram, _ in quic.datagrams_to_send(now=0.0)]


async def handshakes(addresses):
    """Clients that begin, and do not answer."""
    retries, most = figure(addresses, "quic_retries_total"), 0
    for at in range(HANDSHAKES):
        with udp(addresses) as stranger:
            for datagram in first_flight(addresses):
                stranger.send(datagram)
        if at % 500 == 0:
            most = max(most, figure(addresses, "quic_half_open"))
            await innocent(addresses)
    retried = figure(addresses, "quic_retries_total") - retries
    # The first ones are given up after ten seconds, and others take their place.
    assert most <= 600 and retried > HANDSHAKES // 2, f"half open {most}, retried {retried}"
    return f"at most {most} half-open, {retried} of {HANDSHAKES} told to retry"


@contextlib.asynccontextmanager
async def webtransport(addresses, **options):
    """A session with the echo: its connection and its id."""
    async with dial(addresses, **options) as client:
        client.begin_http(webtransport=True)
        session = client._quic.get_next_available_stream_id()
        head = [(b":method", b"CONNECT"), (b":protocol", b"webtransport"), (b":scheme", b"https")]
        head += [(b":authority", b"127.0.0.1"), (b":path", b"/wt/echo"), (b"sec-webtransport-http3-draft02", b"1")]
        client.http.send_headers(session, head)
        client.opened = asyncio.get_running_loop().create_future()
        client.transmit()
        assert await asyncio.wait_for(client.opened, 10) == 200
        yield client, session


async def slow_readers(addresses):
    """Sessions that write to the echo all that they may, and give it no credit to answer."""

    async def one(stack):
        client, session = await stack.enter_async_context(webtransport(addresses, credit=10_000))
        for _ in range(8):
            stream = client.http.create_webtransport_stream(session)
            client._quic.send_stream_data(stream, bytes(4 << 20))
        client.transmit()

    async with contextlib.AsyncExitStack() as stack:
        for _ in range(SLOW_READERS):
            await one(stack)
        await settled(addresses, "quic_bytes_received_total")
        await innocent(addresses)


async def given_up(addresses):
    """Streams of a session, and requests, that are begun and given up. Requests the server takes only so many of."""
    ended = {True: 0, False: 0}
    for of_session in ended:
        left = RESETS
        while left > 0:
            try:
                async with webtransport(addresses) as (client, session):
                    while left > 0:
                        streams = [begin(client, session, of_session) for _ in range(20)]
                        client.transmit()
                        for stream in streams:
                            client._quic.reset_stream(stream, 0x10C)
                            client._quic.stop_stream(stream, 0x10C)
                        left -= len(streams)
                        client.transmit()
                        await ping(client)
            except ConnectionError:
                ended[of_session] += 1
        await innocent(addresses)
    assert ended[True] == 0 and ended[False] > 0, ended
    return f"{RESETS} of each, {ended[False]} connections ended for requests"


def begin(client, session, of_session):
    if not of_session:
        client.ask("POST", "/api/v1/guest", b"never mind", end=False)
        return max(client.answers)
    stream = client.http.create_webtransport_stream(session)
    client._quic.send_stream_data(stream, b"never mind")
    return stream


async def datagrams(addresses):
    async with webtransport(addresses) as (client, session):
        for at in range(DATAGRAMS):
            client.http.send_datagram(session, random.randbytes(random.choice([0, 1, 100, 1000])))
            if at % 50 == 0:
                client.transmit()
                await asyncio.sleep(0)
        client.transmit()
        await innocent(addresses)
        await ping(client)


CHECKS = [resets, garbage, handshakes, slow_readers, given_up, datagrams]


async def check(addresses, process):
    random.seed(SEED)
    await innocent(addresses)
    begun_with = resident_mib(process)
    for hostile in CHECKS:
        since = time.monotonic()
        told = await hostile(addresses)
        await innocent(addresses)
        grown = resident_mib(process) - begun_with
        assert process.poll() is None, f"{hostile.__name__}: the server is gone"
        assert grown < GROWTH_MAX_MIB, f"{hostile.__name__}: {grown:.0f} MiB more (seed {SEED})"
        detail = f"; {told}" if told else ""
        print(f"hostile: {hostile.__name__}: {time.monotonic() - since:.1f} s, {grown:+.0f} MiB since the start{detail}", flush=True)


def main():
    with server() as (addresses, process):
        asyncio.run(check(addresses, process))


if __name__ == "__main__":
    main()
