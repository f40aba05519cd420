"""A session in binary frames over raw TCP, written against the protocol's specification alone."""

import asyncio
import json
import struct

PREFACE = b"RINGSHARD/1\n"
HELLO, WELCOME, ERR, PUB, PUB_OK, MSG = 1, 2, 8, 13, 14, 15
OFFSET = 0x20
