"""WebSocket conversations over HTTP/2 (RFC 8441), spoken by hyper-h2 with frames written by hand.

Usage: websocket_http2.py PROXY     one line a conversation: `ok NAME`, or `fail NAME: …`

The server behind the proxy is `websocket_calls.py serve`.
"""

import os
import socket
import struct
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings

PATIENCE = 30.0
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Connection:
    """One HTTP/2 connection with a WebSocket on each stream."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.sock = socket.create_connection((host, int(port)), PATIENCE)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.received, self.heads, self.ended = {}, {}, set()
        self.send()
        self.until(lambda: self.h2.remote_settings.enable_connect_protocol == 1)

    def send(self):
        self.sock.sendall(self.h2.data_to_send())

    def until(self, done):
        while not done():
            data = self.sock.recv(65536)
            assert data, "the proxy closed the connection"
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    self.heads[event.stream_id] = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    self.received[event.stream_id] = self.received.get(event.stream_id, b"") + event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                    self.ended.add(event.stream_id)
            self.send()

    def open(self, path="/chat"):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path),
            (":authority", "app.example"), ("sec-websocket-version", "13"),
            # What HTTP/1.1 servers want; over HTTP/2 nobody checks the answer to it.
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ])
        self.send()
        self.until(lambda: stream in self.heads)
        status = self.heads[stream].get(b":status") or self.heads[stream].get(":status")
        assert status in (b"200", "200"), self.heads[stream]
        return stream

    def frame(self, stream, kind, payload):
        mask = os.urandom(4)
        length = len(payload)
        head = bytes([0x80 | kind])
        if length < 126:
            head += bytes([0x80 | length])
        elif length < 65536:
            head += b"\xfe" + struct.pack(">H", length)
        else:
            head += b"\xff" + struct.pack(">Q", length)
        data = head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        while data:
            self.until(lambda: self.h2.local_flow_control_window(stream) > 0)
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data))
            self.h2.send_data(stream, data[:room])
            self.send()
            data = data[room:]

    def message(self, stream):
        """The next frame: kind and payload."""
        def whole():
            data = self.received.get(stream, b"")
            if len(data) < 2:
                return None
            length, at = data[1], 2
            if length == 126 and len(data) >= 4:
                length, at = struct.unpack(">H", data[2:4])[0], 4
            elif length == 127 and len(data) >= 10:
                length, at = struct.unpack(">Q", data[2:10])[0], 10
            elif length > 125:
                return None
            return (data[0] & 15, data[at : at + length], at + length) if len(data) >= at + length else None

        self.until(lambda: whole() is not None)
        kind, payload, used = whole()
        self.received[stream] = self.received[stream][used:]
        return kind, payload


def text_comes_back(address):
    connection = Connection(address)
    stream = connection.open()
    connection.frame(stream, TEXT, b"hello")
    assert connection.message(stream) == (TEXT, b"hello")


def large_message_comes_back(address):
    connection = Connection(address)
    stream = connection.open()
    payload = bytes(range(256)) * 800
    connection.frame(stream, BINARY, payload)
    assert connection.message(stream) == (BINARY, payload)


def several_on_one_connection(address):
    connection = Connection(address)
    streams = [connection.open() for _ in range(20)]
    for stream in streams:
        connection.frame(stream, TEXT, str(stream).encode())
    for stream in reversed(streams):
        assert connection.message(stream) == (TEXT, str(stream).encode())


def close_ends_the_stream(address):
    connection = Connection(address)
    stream = connection.open()
    connection.frame(stream, TEXT, b"close, please")
    kind, payload = connection.message(stream)
    assert (kind, payload[:2]) == (CLOSE, struct.pack(">H", 4001)), (kind, payload)
    connection.frame(stream, CLOSE, payload)
    connection.h2.end_stream(stream)
    connection.send()
    connection.until(lambda: stream in connection.ended)
    # The connection carries another.
    other = connection.open()
    connection.frame(other, PING, b"still there?")
    assert connection.message(other) == (PONG, b"still there?")


for run in (text_comes_back, large_message_comes_back, several_on_one_connection, close_ends_the_stream):
    try:
        run(sys.argv[1])
        print("ok", run.__name__, flush=True)
    except Exception as error:  # noqa: BLE001: one conversation must not end the run
        print("fail", f"{run.__name__}: {type(error).__name__} {error}".replace("\n", " ")[:400], flush=True)
