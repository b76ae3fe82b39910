"""Idle HTTP/2 connections while the process behind them is told to end.

Usage: http2_goodbye.py PROXY PID     sends SIGTERM; prints `ok NAME`, or `fail NAME: …`

The connections read what comes and answer nothing, as hyper-h2 does once it has received a GOAWAY.
"""

import os
import signal
import socket
import struct
import sys
import time

# The proxy's own patience with whatever still runs; nothing does here.
GRACE = 4.0
PATIENCE = 20.0

address, process = sys.argv[1].rsplit(":", 1), int(sys.argv[2])
connections = []
for _ in range(3):
    sock = socket.create_connection((address[0], int(address[1])), PATIENCE)
    sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    assert sock.recv(9)[3] == 4, "no SETTINGS came"
    connections.append(sock)
told = time.monotonic()
os.kill(process, signal.SIGTERM)
try:
    for sock in connections:
        data = b""
        while piece := sock.recv(65536):
            data += piece
        goodbyes = []
        # Behind the rest of the first SETTINGS frame.
        at = data.index(bytes([0, 0, 8, 7, 0, 0, 0, 0, 0]))
        while at + 9 <= len(data):
            length, kind = int.from_bytes(data[at : at + 3], "big"), data[at + 3]
            if kind == 7:
                goodbyes.append(struct.unpack(">II", data[at + 9 : at + 17]))
            at += 9 + length
        assert goodbyes == [(0x7FFFFFFF, 0), (0, 0)], goodbyes
    waited = time.monotonic() - told
    assert waited < GRACE - 1, f"it took {waited:.1f} s"
    print("ok told_twice_and_closed_before_the_grace_is_over", flush=True)
except Exception as error:  # noqa: BLE001
    print("fail", f"goodbye: {type(error).__name__} {error}"[:400], flush=True)
