"""The cases of the corpus http2-vectors against a running proxy.

Usage: http2_vectors.py PROXY CORPUS UPSTREAM_PORT

PROXY is the address of a listener that answers HTTP/2 with prior knowledge: authority `app.example` leads to an
HTTP/1.1 upstream whose answer shows the request it received (`/slow…` answers after a while), authority `peer.example`
to an HTTP/2 upstream on UPSTREAM_PORT, which this program is. One line a case: `ok`, `fail` or `unsafe`, a tab, its name,
and for the last two a tab and what happened. *Unsafe* is what must be refused and was answered.
"""

import glob
import json
import os
import socket
import struct
import sys
import threading
import time

import hpack
from http2_frames import *  # noqa: F403: the vocabulary of frames

CASES = {}


def case(*names):
    """Registers a case under its file and its name in the h2spec list."""

    def register(function):
        for name in names:
            CASES[name] = function
        return function

    return register


class Peer:
    """What a case gets: connections to the proxy."""

    def __init__(self, proxy, port):
        self.proxy, self.port = proxy, port

    def client(self, **options):
        return Client(self.proxy, **options)


SETTING = lambda name, value: struct.pack(">HI", name, value)
U32 = lambda value: struct.pack(">I", value)


def accepted(send):
    """A case that sends something allowed and then wants an ordinary answer."""

    def run(peer):
        client = peer.client()
        send(client)
        client.expect_answer(1)

    return run


def connection_error(*codes, slow=False):
    """A case that sends something forbidden."""

    def wrap(send):
        def run(peer):
            client = peer.client(path="/slow" if slow else "/echo")
            send(client)
            client.expect_connection_error(*codes)

        return run

    return wrap


# generic


@case("client/1_starting_http2|Sends a server connection preface", "client/5_5_extending_http2|Sends an unknown extension frame")
def as_upstream(peer):
    """The proxy as a client: our preface, and a frame of unknown type, on its connection to us."""
    listener = socket.create_server(("127.0.0.1", peer.port))
    failure = []

    def serve():
        try:
            listener.settimeout(PATIENCE)
            sock, _ = listener.accept()
            wire = Wire(sock)
            start = b""
            while len(start) < len(PREFACE):
                sock.settimeout(PATIENCE)
                start += sock.recv(len(PREFACE) - len(start))
            assert start == PREFACE, f"the proxy's preface is {start!r}"
            wire.frame(SETTINGS, 0, 0)
            wire.frame(0x16, 0, 0, b"unknown")
            while True:
                frame = wire.read(time.monotonic() + PATIENCE)
                if frame.kind == SETTINGS and not frame.flags & ACK:
                    wire.frame(SETTINGS, ACK, 0)
                if frame.kind == HEADERS:
                    wire.frame(0x16, 0, frame.stream, b"unknown")
                    wire.frame(HEADERS, END_HEADERS | END_STREAM, frame.stream, wire.encoder.encode([(":status", "200")]))
                    # The proxy may still be reading when we leave.
                    time.sleep(0.2)
                    return
        except (AssertionError, OSError, Closed, TimeoutError) as error:
            failure.append(error)
        finally:
            listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    client = peer.client(authority="peer.example")
    client.request(1)
    headers, _ = client.response(1)
    thread.join()
    assert not failure, failure
    assert dict(headers)[":status"] == "200", headers


@case("generic/1_starting_http2|Sends a client connection preface", "http2/3_5_http2_connection_preface|Sends client connection preface")
def preface(peer):
    client = peer.client(start=False)
    client.raw(PREFACE)
    client.frame(SETTINGS, 0, 0)
    first = client.read(time.monotonic() + PATIENCE)
    assert first.kind == SETTINGS and not first.flags & ACK, f"first came {first}"


@case("http2/3_5_http2_connection_preface|Sends invalid connection preface")
def bad_preface(peer):
    client = peer.client(start=False)
    client.raw(b"INVALID CONNECTION PREFACE\r\n\r\n")
    try:
        while True:
            if not client.sock.recv(65536):
                return
    except ConnectionError:
        return


S = "generic/2_streams_and_multiplexing|"


@case(S + "Sends a PRIORITY frame on idle stream")
@accepted
def _(c):
    c.frame(PRIORITY, 0, 3, U32(0) + b"\xff")
    c.request(1)


@case(S + "Sends a WINDOW_UPDATE frame on half-closed (remote) stream")
@accepted
def _(c):
    c.request(1)
    c.frame(WINDOW_UPDATE, 0, 1, U32(100))


@case(S + "Sends a PRIORITY frame on half-closed (remote) stream")
@accepted
def _(c):
    c.request(1)
    c.frame(PRIORITY, 0, 1, U32(0) + b"\xff")


@case(S + "Sends a RST_STREAM frame on half-closed (remote) stream", "generic/3_4_rst_stream|Sends a RST_STREAM frame")
def reset_then_ping(peer):
    c = peer.client(path="/slow")
    c.request(1)
    c.frame(RST_STREAM, 0, 1, U32(CANCEL))
    c.expect_ping_answer()
    c.request(3, c.fields(path="/echo"))
    c.expect_answer(3)


@case(S + "Sends a PRIORITY frame on closed stream")
def _(peer):
    c = peer.client()
    c.request(1)
    c.expect_answer(1)
    c.frame(PRIORITY, 0, 1, U32(0) + b"\xff")
    c.expect_ping_answer()


def continuation(pieces):
    def send(c):
        block = c.block(c.fields(extra=[("x-dummy", "a" * 100)] * pieces))
        size = len(block) // (pieces + 1)
        c.frame(HEADERS, END_STREAM, 1, block[:size])
        for index in range(1, pieces):
            c.frame(CONTINUATION, 0, 1, block[size * index : size * (index + 1)])
        c.frame(CONTINUATION, END_HEADERS, 1, block[size * pieces :])

    return accepted(send)


case("generic/3_10_continuation|Sends a CONTINUATION frame")(continuation(1))
case(
    "generic/3_10_continuation|Sends multiple CONTINUATION frames",
    "http2/6_10_continuation|Sends multiple CONTINUATION frames preceded by a HEADERS frame",
)(continuation(3))


def post(*frames):
    def send(c):
        c.request(1, c.fields("POST"), end=False)
        for flags, payload in frames:
            c.frame(DATA, flags, 1, payload)

    return accepted(send)


case("generic/3_1_data|Sends a DATA frame")(post((END_STREAM, b"test")))
case("generic/3_1_data|Sends multiple DATA frames")(post((0, b"test"), (END_STREAM, b"test")))
case("generic/3_1_data|Sends a DATA frame with padding")(post((END_STREAM | PADDED, b"\x06test" + bytes(6))))
case("generic/3_2_headers|Sends a HEADERS frame")(accepted(lambda c: c.request(1)))
case("generic/3_2_headers|Sends a HEADERS frame with padding")(
    accepted(lambda c: c.frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, b"\x06" + c.block() + bytes(6)))
)
case("generic/3_2_headers|Sends a HEADERS frame with priority")(
    accepted(lambda c: c.frame(HEADERS, END_STREAM | END_HEADERS | PRIORITY_FLAG, 1, U32(0) + b"\xff" + c.block()))
)


def priority(dependency, weight):
    def send(c):
        c.frame(PRIORITY, 0, 1, U32(dependency) + bytes([weight]))
        c.request(1)

    return accepted(send)


P = "generic/3_3_priority|Sends a PRIORITY frame"
case(P + " with priority 1")(priority(0, 0))
case(P + " with priority 256")(priority(0, 255))
case(P + " with stream dependency")(priority(3, 255))
case(P + " with exclusive")(priority(0x80000003, 255))


@case(P + " for an idle stream, then send a HEADER frame for a lower stream ID")
@accepted
def _(c):
    c.frame(PRIORITY, 0, 7, U32(0) + b"\xff")
    c.request(1)


@case("generic/3_5_settings|Sends a SETTINGS frame", "http2/6_5_3_settings_synchronization|Sends a SETTINGS frame without ACK flag")
def _(peer):
    c = peer.client()
    c.frame(SETTINGS, 0, 0, SETTING(3, 100))
    c.frames_until(lambda f: f.kind == SETTINGS and f.flags & ACK)


@case("generic/3_7_ping|Sends a PING frame", "http2/6_7_ping|Sends a PING frame")
def _(peer):
    peer.client().expect_ping_answer()


@case("generic/3_8_goaway|Sends a GOAWAY frame", "http2/7_error_codes|Sends a GOAWAY frame with unknown error code")
def _(peer):
    for code in (0, 0xFF):
        c = peer.client()
        c.frame(GOAWAY, 0, 0, U32(0) + U32(code))
        c.frame(PING, 0, 0, b"are you?")
        try:
            c.frames_until(lambda f: f.kind == PING and f.flags & ACK)
        except Closed:
            pass  # Nothing was under way: to end is an answer.


case("generic/3_9_window_update|Sends a WINDOW_UPDATE frame with stream ID 0")(
    accepted(lambda c: (c.frame(WINDOW_UPDATE, 0, 0, U32(100)), c.request(1)))
)
case("generic/3_9_window_update|Sends a WINDOW_UPDATE frame with stream ID 1")(
    accepted(lambda c: (c.request(1), c.frame(WINDOW_UPDATE, 0, 1, U32(100))))
)
M = "generic/4_http_message_exchanges|Sends a "
case(M + "GET request")(accepted(lambda c: c.request(1)))
case(M + "HEAD request")(accepted(lambda c: c.request(1, c.fields("HEAD"))))
case(M + "POST request")(post((END_STREAM, b"test")))


@case(M + "POST request with trailers")
@accepted
def _(c):
    c.request(1, c.fields("POST", extra=[("trailer", "x-test")]), end=False)
    c.frame(DATA, 0, 1, b"test")
    c.frame(HEADERS, END_STREAM | END_HEADERS, 1, c.block([("x-test", "ok")]))


# HPACK representations; RFC 7541 section 6


def integer(value, bits, first):
    return hpack.hpack.encode_integer(value, bits)[:0] + bytes(
        [first | hpack.hpack.encode_integer(value, bits)[0]]
    ) + bytes(hpack.hpack.encode_integer(value, bits)[1:])


def text(value, huffman=False):
    data = value.encode()
    if huffman:
        data = hpack.huffman.HuffmanEncoder(
            hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH
        ).encode(data)
    return integer(len(data), 7, 0x80 if huffman else 0) + data


def hpack_case(name, extra):
    """The request's block with `extra` after it."""
    case("generic/5_hpack|Sends a " + name)(
        accepted(lambda c: c.frame(HEADERS, END_STREAM | END_HEADERS, 1, c.block() + extra))
    )


hpack_case("indexed header field representation", integer(16, 7, 0x80))
for kind, bits, first in (
    ("with incremental indexing", 6, 0x40),
    ("without indexing", 4, 0x00),
    ("never indexed", 4, 0x10),
):
    huffman_name = "with Huffman coding" if first != 0x10 else "huffman encoded"
    new_name = "with Huffman coding" if first == 0x40 else "huffman encoded"
    hpack_case(f"literal header field {kind} - indexed name", integer(58, bits, first) + text("agent"))
    hpack_case(f"literal header field {kind} - indexed name ({huffman_name})", integer(58, bits, first) + text("agent", True))
    hpack_case(f"literal header field {kind} - new name", bytes([first]) + text("x-test") + text("h2"))
    hpack_case(f"literal header field {kind} - new name ({new_name})", bytes([first]) + text("x-test", True) + text("h2", True))
case("generic/5_hpack|Sends a dynamic table size update")(
    accepted(lambda c: c.frame(HEADERS, END_STREAM | END_HEADERS, 1, integer(128, 5, 0x20) + c.block()))
)
case("generic/5_hpack|Sends multiple dynamic table size update")(
    accepted(lambda c: c.frame(HEADERS, END_STREAM | END_HEADERS, 1, integer(128, 5, 0x20) + integer(256, 5, 0x20) + c.block()))
)


def compression_error(name, bytes_after, before=b""):
    case(name)(
        connection_error(COMPRESSION_ERROR)(
            lambda c: c.frame(HEADERS, END_STREAM | END_HEADERS, 1, before + c.block() + bytes_after)
        )
    )


H = "hpack/"
compression_error(H + "2_3_3_index_address_space|Sends a indexed header field representation with invalid index", integer(70, 7, 0x80))
compression_error(
    H + "2_3_3_index_address_space|Sends a literal header field representation with invalid index", integer(70, 6, 0x40) + text("empty")
)
compression_error(H + "4_2_maximum_table_size|Sends a dynamic table size update at the end of header block", integer(1, 5, 0x20))
L = H + "5_2_string_literal_representation|Sends a Huffman-encoded string literal representation "
compression_error(L + "with padding longer than 7 bits", b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")
compression_error(L + "padded by zero", b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")
compression_error(L + "containing the EOS symbol", b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f")
compression_error(H + "6_1_indexed_header_field_representation|Sends a indexed header field representation with index 0", b"\x80")
compression_error(
    H + "6_3_dynamic_table_size_update|Sends a dynamic table size update larger than the value of SETTINGS_HEADER_TABLE_SIZE",
    b"",
    before=integer(1 << 20, 5, 0x20),
)

# frames

F = "http2/4_1_frame_format|Sends a frame with "
case(F + "unknown type")(accepted(lambda c: (c.frame(0xFF, 0, 0, bytes(8)), c.request(1))))
case(F + "undefined flag")(accepted(lambda c: (c.frame(PING, 0x16, 0, bytes(8)), c.request(1))))
case(F + "reserved field bit")(accepted(lambda c: (c.frame(PING, 0, 0x80000000, bytes(8)), c.request(1))))
Z = "http2/4_2_frame_size|Sends a "
case(Z + "DATA frame with 2^14 octets in length")(post((END_STREAM, bytes(1 << 14))))


@case(Z + "large size DATA frame that exceeds the SETTINGS_MAX_FRAME_SIZE")
def _(peer):
    c = peer.client(path="/slow")
    c.request(1, c.fields("POST"), end=False)
    c.frame(DATA, END_STREAM, 1, bytes((1 << 14) + 1))
    c.expect_stream_error(1, FRAME_SIZE_ERROR)


case(Z + "large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE")(
    connection_error(FRAME_SIZE_ERROR)(
        lambda c: c.request(1, c.fields(extra=[(f"x-dummy{n}", "a" * 4000) for n in range(5)]))
    )
)
C = "http2/4_3_header_compression_and_decompression|Sends "
case(C + "invalid header block fragment")(
    connection_error(COMPRESSION_ERROR)(lambda c: c.frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x40\x7f" + b"\xff" * 8))
)


def interrupted(c, kind, stream, payload, flags=0):
    block = c.block()
    c.frame(HEADERS, END_STREAM, 1, block[:2])
    c.frame(kind, flags, stream, payload)
    c.frame(CONTINUATION, END_HEADERS, 1, block[2:])


case(
    C + "a PRIORITY frame while sending the header blocks",
    "http2/6_2_headers|Sends a HEADERS frame without the END_HEADERS flag, and a PRIORITY frame",
)(connection_error(PROTOCOL_ERROR)(lambda c: interrupted(c, PRIORITY, 1, U32(0) + b"\xff")))
case(
    C + "a HEADERS frame to another stream while sending the header blocks",
    "http2/6_2_headers|Sends a HEADERS frame to another stream while sending a HEADERS frame",
)(connection_error(PROTOCOL_ERROR)(lambda c: interrupted(c, HEADERS, 3, c.block(), END_HEADERS | END_STREAM)))
case("http2/5_5_extending_http2|Sends an unknown extension frame")(
    accepted(lambda c: (c.frame(0x16, 0, 0, b"unknown"), c.request(1)))
)
case("http2/5_5_extending_http2|Sends an unknown extension frame in the middle of a header block")(
    connection_error(PROTOCOL_ERROR)(lambda c: interrupted(c, 0x16, 0, b"unknown"))
)
I = "http2/5_1_1_stream_identifiers|Sends "
case(I + "even-numbered stream identifier")(connection_error(PROTOCOL_ERROR)(lambda c: c.request(2)))


@case(I + "stream identifier that is numerically smaller than previous")
def _(peer):
    c = peer.client()
    c.request(5)
    c.expect_answer(5)
    c.request(3)
    c.expect_connection_error(PROTOCOL_ERROR, STREAM_CLOSED)


@case("http2/5_1_2_stream_concurrency|Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded")
def _(peer):
    c = peer.client(path="/slow")
    limit = c.settings.get(3)
    assert limit, "no limit was advertised"
    block = c.block(c.fields("POST"))
    for index in range(limit + 1):
        c.frame(HEADERS, END_HEADERS, 2 * index + 1, block)
    c.expect_stream_error(2 * limit + 1, PROTOCOL_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM)


# stream states

T = "http2/5_1_stream_states|"
idle = connection_error(PROTOCOL_ERROR, STREAM_CLOSED)
case(T + "idle: Sends a DATA frame")(idle(lambda c: c.frame(DATA, END_STREAM, 1, b"test")))
case(T + "idle: Sends a RST_STREAM frame", "http2/6_4_rst_stream|Sends a RST_STREAM frame on a idle stream")(
    connection_error(PROTOCOL_ERROR)(lambda c: c.frame(RST_STREAM, 0, 1, U32(CANCEL)))
)
case(T + "idle: Sends a WINDOW_UPDATE frame")(connection_error(PROTOCOL_ERROR)(lambda c: c.frame(WINDOW_UPDATE, 0, 1, U32(100))))
case(T + "idle: Sends a CONTINUATION frame")(connection_error(PROTOCOL_ERROR)(lambda c: c.frame(CONTINUATION, END_HEADERS, 1, c.block())))


def half_closed(kind, flags, payload=None):
    def run(peer):
        c = peer.client(path="/slow")
        c.request(1)
        c.frame(kind, flags, 1, payload if payload is not None else c.block())
        c.expect_stream_error(1, STREAM_CLOSED, PROTOCOL_ERROR)

    return run


case(
    T + "half closed (remote): Sends a DATA frame",
    'http2/6_1_data|Sends a DATA frame on the stream that is not in "open" or "half-closed (local)" state',
)(half_closed(DATA, END_STREAM, b"test"))
case(T + "half closed (remote): Sends a HEADERS frame")(half_closed(HEADERS, END_STREAM | END_HEADERS))
case(T + "half closed (remote): Sends a CONTINUATION frame")(half_closed(CONTINUATION, END_HEADERS))


def after_reset(kind, flags, payload=None):
    """RFC 9113 section 5.1: frames after a RST_STREAM may be ignored, refused, or end the connection; not answered."""

    def run(peer):
        c = peer.client(path="/slow")
        c.request(1, c.fields("POST"), end=False)
        c.frame(RST_STREAM, 0, 1, U32(CANCEL))
        c.frame(kind, flags, 1, payload if payload is not None else c.block())
        c.frame(PING, 0, 0, b"are you?")
        try:
            frames = c.frames_until(lambda f: f.kind == GOAWAY or (f.kind == PING and f.flags & ACK))
        except Closed:
            return
        assert not any(f.kind == HEADERS for f in frames), "the reset stream was answered"
        if kind == CONTINUATION:
            assert frames[-1].kind == GOAWAY, "a CONTINUATION without HEADERS was let pass"

    return run


case(T + "closed: Sends a DATA frame after sending RST_STREAM frame")(after_reset(DATA, END_STREAM, b"test"))
case(T + "closed: Sends a HEADERS frame after sending RST_STREAM frame")(after_reset(HEADERS, END_STREAM | END_HEADERS))
case(T + "closed: Sends a CONTINUATION frame after sending RST_STREAM frame")(after_reset(CONTINUATION, END_HEADERS))


def after_end(kind, flags, payload=None):
    def run(peer):
        c = peer.client()
        c.request(1)
        c.expect_answer(1)
        c.frame(kind, flags, 1, payload if payload is not None else c.block())
        c.expect_stream_error(1, STREAM_CLOSED, PROTOCOL_ERROR)

    return run


case(T + "closed: Sends a DATA frame")(after_end(DATA, END_STREAM, b"test"))
case(T + "closed: Sends a HEADERS frame")(after_end(HEADERS, END_STREAM | END_HEADERS))
case(T + "closed: Sends a CONTINUATION frame")(after_end(CONTINUATION, END_HEADERS))


def self_dependent(send):
    """RFC 9113 section 5.3.2 took the rule back with the priorities themselves: an answer is as good as an error."""

    def run(peer):
        c = peer.client()
        send(c)
        c.frame(PING, 0, 0, b"are you?")
        try:
            c.frames_until(lambda f: f.kind in (RST_STREAM, GOAWAY) or (f.kind == PING and f.flags & ACK))
        except Closed:
            pass

    return run


D = "http2/5_3_1_stream_dependencies|Sends "
case(D + "HEADERS frame that depends on itself")(
    self_dependent(lambda c: c.frame(HEADERS, END_STREAM | END_HEADERS | PRIORITY_FLAG, 1, U32(1) + b"\xff" + c.block()))
)
case(D + "PRIORITY frame that depend on itself")(self_dependent(lambda c: c.frame(PRIORITY, 0, 1, U32(1) + b"\xff")))

E = "http2/5_4_1_connection_error_handling|Sends an invalid PING frame "


@case(E + "for connection close")
def _(peer):
    c = peer.client()
    c.frame(PING, 0, 3, bytes(8))
    try:
        c.frames_until(lambda f: False)
    except Closed:
        return


@case(E + "to receive GOAWAY frame")
def _(peer):
    c = peer.client()
    c.frame(PING, 0, 3, bytes(8))
    c.expect_connection_error(PROTOCOL_ERROR)


# each frame's own rules

N = "http2/6_10_continuation|Sends a CONTINUATION frame "


@case(N + "followed by any frame other than CONTINUATION")
@connection_error(PROTOCOL_ERROR)
def _(c):
    block = c.block(c.fields("POST"))
    c.frame(HEADERS, 0, 1, block[:2])
    c.frame(CONTINUATION, 0, 1, block[2:4])
    c.frame(DATA, END_STREAM, 1, b"test")


@case(N + "with 0x0 stream identifier")
@connection_error(PROTOCOL_ERROR)
def _(c):
    block = c.block()
    c.frame(HEADERS, END_STREAM, 1, block[:2])
    c.frame(CONTINUATION, END_HEADERS, 0, block[2:])


case(N + "preceded by a HEADERS frame with END_HEADERS flag")(
    connection_error(PROTOCOL_ERROR, slow=True)(lambda c: (c.request(1, end=False), c.frame(CONTINUATION, END_HEADERS, 1, c.block())))
)


@case(N + "preceded by a CONTINUATION frame with END_HEADERS flag")
@connection_error(PROTOCOL_ERROR, slow=True)
def _(c):
    block = c.block(c.fields("POST"))
    c.frame(HEADERS, 0, 1, block[:2])
    c.frame(CONTINUATION, END_HEADERS, 1, block[2:])
    c.frame(CONTINUATION, END_HEADERS, 1, c.block())


@case(N + "preceded by a DATA frame")
@connection_error(PROTOCOL_ERROR, slow=True)
def _(c):
    c.request(1, c.fields("POST"), end=False)
    c.frame(DATA, 0, 1, b"test")
    c.frame(CONTINUATION, END_HEADERS, 1, c.block())


def on_stream(kind, stream, payload, flags=0, codes=(PROTOCOL_ERROR,)):
    return connection_error(*codes)(lambda c: c.frame(kind, flags, stream, payload() if callable(payload) else payload))


case("http2/6_1_data|Sends a DATA frame with 0x0 stream identifier")(on_stream(DATA, 0, b"test", END_STREAM))


@case("http2/6_1_data|Sends a DATA frame with invalid pad length")
@connection_error(PROTOCOL_ERROR, slow=True)
def _(c):
    c.request(1, c.fields("POST"), end=False)
    c.frame(DATA, END_STREAM | PADDED, 1, b"\x05test")


case("http2/6_2_headers|Sends a HEADERS frame with 0x0 stream identifier")(
    connection_error(PROTOCOL_ERROR)(lambda c: c.frame(HEADERS, END_STREAM | END_HEADERS, 0, c.block()))
)
case("http2/6_2_headers|Sends a HEADERS frame with invalid pad length")(
    connection_error(PROTOCOL_ERROR)(
        lambda c: c.frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, bytes([len(c.block()) + 1]) + c.block())
    )
)
case("http2/6_3_priority|Sends a PRIORITY frame with 0x0 stream identifier")(on_stream(PRIORITY, 0, U32(0) + b"\xff"))


@case("http2/6_3_priority|Sends a PRIORITY frame with a length other than 5 octets")
def _(peer):
    c = peer.client(path="/slow")
    c.request(1, c.fields("POST"), end=False)
    c.frame(PRIORITY, 0, 1, U32(1))
    c.expect_stream_error(1, FRAME_SIZE_ERROR)


case("http2/6_4_rst_stream|Sends a RST_STREAM frame with 0x0 stream identifier")(on_stream(RST_STREAM, 0, U32(CANCEL)))


@case("http2/6_4_rst_stream|Sends a RST_STREAM frame with a length other than 4 octets")
@connection_error(FRAME_SIZE_ERROR, slow=True)
def _(c):
    c.request(1, c.fields("POST"), end=False)
    c.frame(RST_STREAM, 0, 1, b"\0\0\0")


V = "http2/6_5_2_defined_settings_parameters|"
FLOW = (FLOW_CONTROL_ERROR,)
case(V + "SETTINGS_ENABLE_PUSH (0x2): Sends the value other than 0 or 1")(on_stream(SETTINGS, 0, SETTING(2, 2)))
case(
    V + "SETTINGS_INITIAL_WINDOW_SIZE (0x4): Sends the value above the maximum flow control window size",
    "http2/6_9_2_initial_flow_control_window_size|Sends a SETTINGS_INITIAL_WINDOW_SIZE settings with an exceeded maximum window size value",
)(on_stream(SETTINGS, 0, SETTING(4, 1 << 31), codes=FLOW))
case(V + "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value below the initial value")(on_stream(SETTINGS, 0, SETTING(5, (1 << 14) - 1)))
case(V + "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value above the maximum allowed frame size")(
    on_stream(SETTINGS, 0, SETTING(5, 1 << 24))
)


@case(V + "Sends a SETTINGS frame with unknown identifier")
def _(peer):
    c = peer.client()
    c.frame(SETTINGS, 0, 0, SETTING(0xFF, 1))
    c.frames_until(lambda f: f.kind == SETTINGS and f.flags & ACK)
    c.request(1)
    c.expect_answer(1)


@case("http2/6_5_3_settings_synchronization|Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE")
def _(peer):
    c = peer.client(settings=SETTING(4, 100) + SETTING(4, 1))
    c.request(1)
    frames = c.frames_until(lambda f: f.kind == DATA)
    assert len(frames[-1].payload) == 1, f"{len(frames[-1].payload)} bytes came through a window of 1"


G = "http2/6_5_settings|Sends a SETTINGS frame with "
case(G + "ACK flag and payload")(on_stream(SETTINGS, 0, SETTING(1, 1), ACK, (FRAME_SIZE_ERROR,)))
case(G + "a stream identifier other than 0x0")(on_stream(SETTINGS, 1, SETTING(3, 100)))
case(G + "a length other than a multiple of 6 octets")(on_stream(SETTINGS, 0, b"\0\3\0", codes=(FRAME_SIZE_ERROR,)))


@case("http2/6_7_ping|Sends a PING frame with ACK")
def _(peer):
    c = peer.client()
    c.frame(PING, ACK, 0, b"unwanted")
    c.frame(PING, 0, 0, b"are you?")
    frames = c.frames_until(lambda f: f.kind == PING and f.payload == b"are you?")
    assert not any(f.kind == PING and f.payload == b"unwanted" for f in frames)


case("http2/6_7_ping|Sends a PING frame with a stream identifier field value other than 0x0")(on_stream(PING, 1, bytes(8)))
case("http2/6_7_ping|Sends a PING frame with a length field value other than 8")(
    on_stream(PING, 0, bytes(6), codes=(FRAME_SIZE_ERROR,))
)
case("http2/6_8_goaway|Sends a GOAWAY frame with a stream identifier other than 0x0")(on_stream(GOAWAY, 1, U32(0) + U32(0)))

# flow control

W = "http2/6_9_1_the_flow_control_window|Sends "


@case(W + "SETTINGS frame to set the initial window size to 1 and sends HEADERS frame")
def _(peer):
    c = peer.client(settings=SETTING(4, 1))
    c.request(1)
    data = c.frames_until(lambda f: f.kind == DATA)[-1]
    assert len(data.payload) == 1, f"{len(data.payload)} bytes came through a window of 1"


case(W + "multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1")(
    connection_error(FLOW_CONTROL_ERROR)(
        lambda c: (c.frame(WINDOW_UPDATE, 0, 0, U32(0x7FFFFFFF)), c.frame(WINDOW_UPDATE, 0, 0, U32(0x7FFFFFFF)))
    )
)


@case(W + "multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream")
def _(peer):
    c = peer.client(path="/slow")
    c.request(1, c.fields("POST"), end=False)
    c.frame(WINDOW_UPDATE, 0, 1, U32(0x7FFFFFFF))
    c.frame(WINDOW_UPDATE, 0, 1, U32(0x7FFFFFFF))
    c.expect_stream_error(1, FLOW_CONTROL_ERROR)


Q = "http2/6_9_2_initial_flow_control_window_size|"


@case(Q + "Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame")
def _(peer):
    c = peer.client(settings=SETTING(4, 0))
    c.request(1)
    c.frames_until(lambda f: f.kind == HEADERS)
    c.frame(SETTINGS, 0, 0, SETTING(4, 1))
    data = c.frames_until(lambda f: f.kind == DATA and f.payload)[-1]
    assert len(data.payload) == 1, f"{len(data.payload)} bytes came through a window of 1"


@case(Q + "Sends a SETTINGS frame for window size to be negative")
def _(peer):
    c = peer.client(settings=SETTING(4, 3))
    c.request(1)
    c.frames_until(lambda f: f.kind == DATA and len(f.payload) == 3)
    c.frame(SETTINGS, 0, 0, SETTING(4, 2))
    c.frame(WINDOW_UPDATE, 0, 1, U32(2))
    data = c.frames_until(lambda f: f.kind == DATA and f.payload)[-1]
    assert len(data.payload) == 1, f"{len(data.payload)} bytes came through a window of 1"


U = "http2/6_9_window_update|Sends a WINDOW_UPDATE frame with a "
case(U + "flow control window increment of 0")(on_stream(WINDOW_UPDATE, 0, U32(0)))


@case(U + "flow control window increment of 0 on a stream")
def _(peer):
    c = peer.client(path="/slow")
    c.request(1, c.fields("POST"), end=False)
    c.frame(WINDOW_UPDATE, 0, 1, U32(0))
    c.expect_stream_error(1, PROTOCOL_ERROR)


case(U + "length other than 4 octets")(on_stream(WINDOW_UPDATE, 0, b"\0\0\1", codes=(FRAME_SIZE_ERROR,)))


@case("http2/7_error_codes|Sends a RST_STREAM frame with unknown error code")
def _(peer):
    c = peer.client(path="/slow")
    c.request(1, c.fields("POST"), end=False)
    c.frame(RST_STREAM, 0, 1, U32(0xFF))
    c.expect_ping_answer()


# messages


def malformed(name, fields):
    def run(peer):
        c = peer.client()
        c.request(1, fields(c))
        c.expect_refusal(1)

    case(name)(run)


def without(name):
    return lambda c: [field for field in c.fields() if field[0] != name]


B = "http2/8_1_2_1_pseudo_header_fields|Sends a HEADERS frame that contains "
malformed(B + "a unknown pseudo-header field", lambda c: c.fields(extra=[(":test", "ok")]))
malformed(B + "the pseudo-header field defined for response", lambda c: c.fields(extra=[(":status", "200")]))
malformed(
    B + "a pseudo-header field that appears in a header block after a regular header field",
    lambda c: [("x-test", "ok")] + c.fields(),
)


@case(B + "a pseudo-header field as trailers")
def _(peer):
    c = peer.client(path="/slow")
    c.request(1, c.fields("POST"), end=False)
    c.frame(HEADERS, END_STREAM | END_HEADERS, 1, c.block([(":method", "200")]))
    c.expect_stream_error(1, PROTOCOL_ERROR)


K = "http2/8_1_2_2_connection_specific_header_fields|Sends a HEADERS frame that contains the "
malformed(K + "connection-specific header field", lambda c: c.fields(extra=[("connection", "keep-alive")]))
malformed(
    K + 'TE header field with any value other than "trailers"', lambda c: c.fields(extra=[("te", "trailers, deflate")])
)
R = "http2/8_1_2_3_request_pseudo_header_fields|Sends a HEADERS frame "
malformed(R + 'with empty ":path" pseudo-header field', lambda c: [(n, "" if n == ":path" else v) for n, v in c.fields()])
for name in (":method", ":scheme", ":path"):
    malformed(R + f'that omits "{name}" pseudo-header field', without(name))
    malformed(
        R + f'with duplicated "{name}" pseudo-header field', lambda c, n=name: c.fields() + [(n, dict(c.fields())[n])]
    )
malformed("http2/8_1_2_http_header_fields|Sends a HEADERS frame that contains the header field name in uppercase letters",
    lambda c: c.fields(extra=[("X-TEST", "ok")]))


def wrong_length(*pieces):
    def run(peer):
        c = peer.client(path="/slow")
        c.request(1, c.fields("POST", extra=[("content-length", "1")]), end=False)
        for index, piece in enumerate(pieces):
            c.frame(DATA, END_STREAM if index + 1 == len(pieces) else 0, 1, piece)
        c.expect_stream_error(1, PROTOCOL_ERROR)

    return run


X = 'http2/8_1_2_6_malformed_requests_and_responses|Sends a HEADERS frame with the "content-length" header field which does not equal the '
case(X + "DATA frame payload length")(wrong_length(b"test"))
case(X + "sum of the multiple DATA frames payload length")(wrong_length(b"te", b"st"))


@case("http2/8_1_http_request_response_exchange|Sends a second HEADERS frame without the END_STREAM flag")
def _(peer):
    c = peer.client(path="/slow")
    c.request(1, c.fields("POST"), end=False)
    c.frame(HEADERS, END_HEADERS, 1, c.block([("x-test", "ok")]))
    c.expect_stream_error(1, PROTOCOL_ERROR)


case("http2/8_2_server_push|Sends a PUSH_PROMISE frame")(
    connection_error(PROTOCOL_ERROR)(lambda c: c.frame(PUSH_PROMISE, END_HEADERS, 1, U32(3) + c.block()))
)

# the corpus


def run_list(peer, path):
    for entry in json.load(open(path)):
        name = entry["file"].removesuffix(".go") + "|" + entry["case"].replace('\\"', '"')
        if name not in CASES:
            report("fail", f"h2spec {name}", "there is no such case here")
            continue
        judge(f"h2spec {name}", lambda: CASES[name](peer))


def run_frame(peer, vector):
    """A frame that must be refused with one of its error codes; any other must not be taken for one of a wrong size."""
    wire = bytes.fromhex(vector["wire"])
    c = peer.client(path="/slow")
    if vector["error"]:
        # The streams these frames name are open, so that only what is wrong with the frame itself is judged.
        c.request(1, c.fields("POST"), end=False)
        c.raw(wire)
        stream = int.from_bytes(wire[5:9], "big")
        c.expect_stream_error(stream or 0, *vector["error"])
        return
    frame = vector["frame"]
    c.raw(wire)
    c.frame(PING, 0, 0, b"are you?")
    try:
        frames = c.frames_until(lambda f: f.kind == GOAWAY or (f.kind == PING and f.flags & ACK and f.payload == b"are you?"))
    except Closed:
        frames = []
    refused = [struct.unpack(">I", f.payload[4:8])[0] for f in frames if f.kind == GOAWAY]
    kind = frame["type"]
    if kind == PING:
        assert any(f.kind == PING and f.flags & ACK and f.payload == frame["frame_payload"]["opaque_data"].encode() for f in frames)
    elif kind == SETTINGS:
        assert any(f.kind == SETTINGS and f.flags & ACK for f in frames) and not refused, frames
    elif kind == PRIORITY:
        assert frames and not refused, frames
    else:
        # Alone on a fresh connection these make no sense as messages, only as frames.
        assert FRAME_SIZE_ERROR not in refused, frames


# Fields that HTTP/2 forbids (RFC 9113 section 8.2.2): a proxy must refuse a request that has one.
FORBIDDEN = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
# Fields that a proxy may set or join itself.
OWN = {"host", "cookie", "te", "content-length", "x-request-id", "x-forwarded-proto", "x-forwarded-for", "expect"}


def run_story(peer, story):
    """Each block is one request. What is legal must reach the upstream as listed, what HTTP/2 forbids must be refused, and
    either way the proxy's table must be in step: a probe asks for every entry of it by index."""
    c = peer.client()
    table = hpack.Decoder()
    table.max_allowed_table_size = 65536
    stream = 1
    for block in story["cases"]:
        wire = bytes.fromhex(block["wire"])
        fields = [(name, value) for field in block["headers"] for name, value in field.items()]
        assert [(str(n), str(v)) for n, v in table.decode(wire)] == fields, "the reference decoder disagrees"
        names = {name for name, _ in fields}
        request = ":method" in names and ":path" in names
        c.frame(HEADERS, END_STREAM | END_HEADERS, stream, wire)
        if not request or names & FORBIDDEN:
            c.expect_refusal_alive(stream)
        else:
            headers, body = c.response(stream)
            if dict(headers)[":status"] == "200":
                check_echo(fields, body.decode("latin-1"))
        stream += 2
        entries = [
            (62 + at, str(name), str(value))
            for at, (name, value) in enumerate(decoded(table.header_table.dynamic_entries))
            # A table may hold several referers; a request has one, or it is dropped as malformed.
            if not name.startswith(":") and name not in FORBIDDEN | OWN | {"referer"}
        ]
        if entries:
            probe = b"\x82\x86" + integer(4, 4, 0x00) + text("/echo") + integer(1, 4, 0x00) + text("app.example")
            probe += b"".join(integer(index, 7, 0x80) for index, _, _ in entries)
            c.frame(HEADERS, END_STREAM | END_HEADERS, stream, probe)
            headers, body = c.response(stream)
            check_echo([(name, value) for _, name, value in entries], body.decode("latin-1"))
            stream += 2


def decoded(entries):
    for name, value in entries:
        yield (name.decode("latin-1") if isinstance(name, bytes) else name), (
            value.decode("latin-1") if isinstance(value, bytes) else value
        )


def check_echo(fields, echo):
    lines = [line.strip() for line in echo.split("\r\n")]
    for name, value in fields:
        if name.startswith(":") or name in OWN:
            continue
        wanted = f"{name}: {value}".strip()
        assert wanted in lines, f"{wanted!r} did not arrive in {lines}"


def expect_refusal_alive(self, stream):
    """The stream is refused, and the connection goes on."""
    done = lambda f: f.stream == stream and (f.kind == RST_STREAM or f.kind == HEADERS)
    frame = self.frames_until(lambda f: done(f) or f.kind == GOAWAY)[-1]
    assert frame.kind != GOAWAY, "the whole connection was ended"
    if frame.kind == HEADERS:
        status = dict(self.decoder.decode(frame.payload)).get(":status")
        assert status == "400", f"answered {status}"
        if not frame.flags & END_STREAM:
            self.frames_until(lambda f: f.stream == stream and (f.kind == RST_STREAM or f.flags & END_STREAM))


Client.expect_refusal_alive = expect_refusal_alive


def report(verdict, name, detail=""):
    print("\t".join(filter(None, [verdict, name, detail.replace("\n", " ")[:400]])), flush=True)


def judge(name, run):
    try:
        run()
        report("ok", name)
    except AssertionError as error:
        report("unsafe" if str(error).startswith("answered") else "fail", name, str(error))
    except Closed:
        report("fail", name, "the connection was closed")
    except TimeoutError:
        report("fail", name, f"nothing came within {PATIENCE:.0f} s")
    except Exception as error:  # noqa: BLE001: one case must not end the run
        report("fail", name, f"{type(error).__name__}: {error}")


def main():
    proxy, corpus, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    only = sys.argv[4] if len(sys.argv) > 4 else ""
    peer = Peer(proxy, port)
    if not only or only == "h2spec":
        run_list(peer, os.path.join(corpus, "h2spec-cases.json"))
    for path in sorted(glob.glob(os.path.join(corpus, "frames/*/*.json"))):
        if only and only != "frames":
            break
        vector = json.load(open(path))
        judge("frame " + os.path.relpath(path, corpus), lambda: run_frame(peer, vector))
    for path in sorted(glob.glob(os.path.join(corpus, "hpack/*/*.json"))):
        if only and only != "hpack":
            break
        story = json.load(open(path))
        judge("hpack " + os.path.relpath(path, corpus), lambda: run_story(peer, story))


main()
