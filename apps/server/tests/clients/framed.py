"""A session in binary frames over TCP or a stream of QUIC, written against the protocol's specification alone."""

import asyncio
import json
import struct

PREFACE = b"RINGSHARD/1\n"
HELLO, WELCOME, ERR, PUB, PUB_OK, MSG = 1, 2, 8, 13, 14, 15
OFFSET = 0x20


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, value):
    """One protobuf field: text and bytes with their length, numbers as varints."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(body):
    """Number and value of each protobuf field."""
    at = 0

    def read():
        nonlocal at
        number = shift = 0
        while True:
            byte = body[at]
            at += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    while at < len(body):
        key = read()
        match key & 7:
            case 0:
                yield key >> 3, read()
            case 1:
                yield key >> 3, body[at : at + 8]
                at += 8
            case 2:
                size = read()
                yield key >> 3, body[at : at + size]
                at += size


class Framed:
    """One session on one connection."""

    @classmethod
    async def open(cls, host, port, *hello):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(PREFACE)
        return await cls.over(reader, writer, *hello)

    @classmethod
    async def over(cls, reader, writer, token, device, topic, after):
        self = cls()
        self.reader, self.writer = reader, writer
        sub = field(1, topic) + varint(3 << 3) + varint(after)
        self.send(HELLO, 1, field(1, 1) + field(2, 1) + field(4, token) + field(6, device) + field(7, sub))
        kind, corr, _, _ = await self.receive()
        assert (kind, corr) == (WELCOME, 1), kind
        return self

    def send(self, kind, corr, body):
        self.writer.write(struct.pack("<BBHIII", 1, kind, 0, len(body), 0, corr) + body)

    async def receive(self):
        head = await asyncio.wait_for(self.reader.readexactly(16), 10)
        flags, kind, _, size, _, corr = struct.unpack("<BBHIII", head)
        assert flags & 7 == 1, "version 1"
        offset = struct.unpack("<Q", await self.reader.readexactly(8))[0] if flags & OFFSET else None
        body = dict(fields(await self.reader.readexactly(size)))
        assert kind != ERR, body
        return kind, corr, offset, body

    async def messages(self, count):
        found = []
        while len(found) < count:
            kind, _, offset, body = await self.receive()
            if kind == MSG:
                found.append((offset, body[2].decode(), json.loads(body[4])["text"]))
        return found

    async def say(self, topic, seq, text):
        body = json.dumps({"type": "text", "text": text})
        self.send(PUB, 100 + seq, field(1, topic) + field(2, seq) + field(3, body))
        await self.writer.drain()
