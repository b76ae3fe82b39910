"""One HTTP/2 connection, frame by frame, with hyperframe and hpack: what is sent is exactly what is written here."""

import socket
import struct
import time

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 0x1, 0x1, 0x4, 0x8, 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

# How long an answer may take; loopback needs a millisecond, a busy machine more.
PATIENCE = 10.0


class Frame:
    """A received frame."""

    def __init__(self, kind, flags, stream, payload):
        self.kind, self.flags, self.stream, self.payload = kind, flags, stream, payload

    def __repr__(self):
        return f"frame(type={self.kind} flags={self.flags:#x} stream={self.stream} length={len(self.payload)})"


class Closed(Exception):
    """The peer ended the connection."""


class Wire:
    """Bytes of frames in and out of a connected socket."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        # Blocks of the same connection share no table entries unless a case wants them to.
        self.encoder.header_table_size = 0

    def raw(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            pass  # The peer may close on the first half of what it refuses.

    def frame(self, kind, flags, stream, payload=b""):
        self.raw(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)

    def read(self, deadline):
        while True:
            if len(self.buffer) >= 9:
                length = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) >= 9 + length:
                    kind, flags = self.buffer[3], self.buffer[4]
                    stream = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
                    payload = self.buffer[9 : 9 + length]
                    self.buffer = self.buffer[9 + length :]
                    return Frame(kind, flags, stream, payload)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except (ConnectionError, BrokenPipeError):
                raise Closed from None
            if not data:
                raise Closed
            self.buffer += data


class Client(Wire):
    """A client connection to the proxy, past its preface and settings unless told otherwise."""

    def __init__(self, address, authority="app.example", path="/echo", start=True, settings=b""):
        host, port = address.rsplit(":", 1)
        super().__init__(socket.create_connection((host, int(port)), PATIENCE))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.authority, self.path = authority, path
        self.settings = {}
        if start:
            self.raw(PREFACE)
            self.frame(SETTINGS, 0, 0, settings)
            self.await_settings()

    def await_settings(self):
        """Reads the proxy's settings and acknowledges them, and waits for the acknowledgement of ours."""
        acknowledged = seen = False
        while not (acknowledged and seen):
            frame = self.read(time.monotonic() + PATIENCE)
            if frame.kind == SETTINGS and frame.flags & ACK:
                acknowledged = True
            elif frame.kind == SETTINGS:
                for at in range(0, len(frame.payload), 6):
                    name, value = struct.unpack(">HI", frame.payload[at : at + 6])
                    self.settings[name] = value
                self.frame(SETTINGS, ACK, 0)
                seen = True

    def fields(self, method="GET", path=None, extra=()):
        return [
            (":method", method),
            (":scheme", "http"),
            (":path", path or self.path),
            (":authority", self.authority),
        ] + list(extra)

    def block(self, fields=None):
        return self.encoder.encode(fields if fields is not None else self.fields(), huffman=False)

    def request(self, stream, fields=None, end=True):
        self.frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, self.block(fields))

    def frames_until(self, done, patience=PATIENCE):
        """All frames up to the first for which `done` holds; raises Closed or TimeoutError."""
        frames = []
        deadline = time.monotonic() + patience
        while True:
            frame = self.read(deadline)
            frames.append(frame)
            if frame.kind == SETTINGS and not frame.flags & ACK:
                self.frame(SETTINGS, ACK, 0)
            if frame.kind == PING and not frame.flags & ACK:
                self.frame(PING, ACK, 0, frame.payload)
            if done(frame):
                return frames

    def response(self, stream):
        """Header list and body of the answer on `stream`; a reset raises."""
        ends = lambda f: f.stream == stream and (f.kind == RST_STREAM or (f.kind in (DATA, HEADERS) and f.flags & END_STREAM))
        headers, body = [], b""
        for frame in self.frames_until(lambda f: ends(f) or f.kind == GOAWAY):
            if frame.kind == HEADERS:
                # Every block must go through the decoder: its table is the connection's.
                fields = self.decoder.decode(frame.payload)
                if frame.stream == stream:
                    headers += fields
            if frame.stream == stream and frame.kind == DATA:
                body += frame.payload
                if frame.payload:
                    update = struct.pack(">I", len(frame.payload))
                    self.frame(WINDOW_UPDATE, 0, 0, update)
                    self.frame(WINDOW_UPDATE, 0, stream, update)
            if frame.kind == GOAWAY:
                raise AssertionError(f"GOAWAY {struct.unpack('>I', frame.payload[4:8])[0]}")
            if frame.kind == RST_STREAM and frame.stream == stream:
                code = struct.unpack(">I", frame.payload)[0]
                if code != NO_ERROR:
                    raise AssertionError(f"RST_STREAM {code}")
        return headers, body

    def expect_answer(self, stream=1):
        headers, _ = self.response(stream)
        assert any(name == ":status" for name, _ in headers), f"no status in {headers}"

    def expect_ping_answer(self):
        self.frame(PING, 0, 0, b"are you?")
        self.frames_until(lambda f: f.kind == PING and f.flags & ACK and f.payload == b"are you?")

    def expect_connection_error(self, *codes):
        """GOAWAY with one of `codes`, or the end of the connection."""
        try:
            frames = self.frames_until(lambda f: f.kind == GOAWAY and f.payload[4:8] != b"\0\0\0\0")
        except Closed:
            return
        code = struct.unpack(">I", frames[-1].payload[4:8])[0]
        assert code in codes, f"GOAWAY {code}, not {codes}"

    def expect_stream_error(self, stream, *codes):
        """RST_STREAM on `stream` or GOAWAY with one of `codes`, or the end of the connection."""
        done = lambda f: (f.kind == RST_STREAM and f.stream == stream) or (f.kind == GOAWAY and f.payload[4:8] != b"\0\0\0\0")
        try:
            frame = self.frames_until(done)[-1]
        except Closed:
            return
        payload = frame.payload if frame.kind == RST_STREAM else frame.payload[4:8]
        code = struct.unpack(">I", payload)[0]
        assert code in codes, f"{'RST_STREAM' if frame.kind == RST_STREAM else 'GOAWAY'} {code}, not {codes}"

    def expect_refusal(self, stream=1):
        """A malformed request: a stream error, a 400, or the end of the connection; never an answer as if all were well."""
        done = lambda f: (
            (f.stream == stream and (f.kind == RST_STREAM or (f.kind == HEADERS))) or f.kind == GOAWAY
        )
        try:
            frame = self.frames_until(done)[-1]
        except Closed:
            return
        if frame.kind == HEADERS:
            status = dict(self.decoder.decode(frame.payload)).get(":status")
            assert status == "400", f"answered {status}"
            return
        payload = frame.payload if frame.kind == RST_STREAM else frame.payload[4:8]
        code = struct.unpack(">I", payload)[0]
        assert code == PROTOCOL_ERROR or (frame.kind == GOAWAY and code == NO_ERROR), f"code {code}"
