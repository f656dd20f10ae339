"""How events become bytes."""

import itertools
import json
import struct
import zlib


def sse(events, named=False, end="\n"):
    """Server-sent events: one `data` line each, and the type as the event's name where asked."""
    out = []
    for event in events:
        if named:
            out.append(f"event: {event['type']}{end}")
        data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
        out.append(f"data: {data}{end}{end}")
    return "".join(out).encode()


def eventstream(events):
    """AWS's frames. An event is (type, payload); one whose type ends in Exception is an exception."""
    return b"".join(frame(kind, payload) for kind, payload in events)


def frame(kind, payload):
    message = "exception" if kind.endswith("Exception") else "event"
    headers = {
        f":{message}-type": kind,
        ":content-type": "application/json",
        ":message-type": message,
    }
    head = b"".join(
        struct.pack("B", len(name))
        + name.encode()
        + b"\x07"
        + struct.pack(">H", len(value))
        + value.encode()
        for name, value in headers.items()
    )
    body = json.dumps(payload, ensure_ascii=False).encode()
    prelude = struct.pack(">II", 16 + len(head) + len(body), len(head))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    whole = prelude + head + body
    return whole + struct.pack(">I", zlib.crc32(whole))


def interleaved(lists):
    """The first of each, the second of each …: as parallel calls come from some servers."""
    for row in itertools.zip_longest(*lists):
        yield from (item for item in row if item is not None)
