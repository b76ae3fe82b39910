"""WebSocket conversations with the library `websockets` on both ends.

Usage: websocket_calls.py serve            prints the port it listens on, and serves until its input ends
       websocket_calls.py call ADDRESS     one line a conversation: `ok NAME`, or `fail NAME: …`
"""

import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve as listen

PATIENCE = 30.0

# How long an end waits for the other end of TCP after the closing handshake. A proxy keeps its halves open until both
# sides have ended theirs, as Envoy does, so the library's ten seconds would pass in every conversation.
CLOSE = 0.2


def answer(socket):
    try:
        for message in socket:
            if message == "close, please":
                socket.close(4001, "as asked")
                return
            socket.send(message)
    except ConnectionClosed:
        pass


def serve():
    options = {"max_size": None, "close_timeout": CLOSE, "select_subprotocol": lambda _, offered: next(iter(offered), None)}
    server = listen(answer, "127.0.0.1", 0, **options)
    print(server.socket.getsockname()[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


def conversations(address):
    def open_(**options):
        return connect(f"ws://{address}/chat", max_size=None, open_timeout=PATIENCE, close_timeout=CLOSE, **options)

    def text_and_binary():
        with open_() as socket:
            for message in ("hello", "\u00e4\u00f6\u00fc", b"\0\xff", "", b""):
                socket.send(message)
                assert socket.recv(PATIENCE) == message

    def large_message():
        with open_() as socket:
            message = bytes(range(256)) * 16384
            socket.send(message)
            assert socket.recv(PATIENCE) == message

    def fragments():
        with open_() as socket:
            socket.send(["one ", "two ", "three"])
            assert socket.recv(PATIENCE) == "one two three"

    def pings():
        with open_() as socket:
            for _ in range(5):
                assert socket.ping().wait(PATIENCE)

    def compressed():
        with open_(compression="deflate") as socket:
            socket.send("a" * 100_000)
            assert socket.recv(PATIENCE) == "a" * 100_000

    def subprotocol():
        with open_(subprotocols=["one", "two"]) as socket:
            assert socket.subprotocol == "one", socket.subprotocol

    def server_closes_with_code():
        with open_() as socket:
            socket.send("close, please")
            try:
                socket.recv(PATIENCE)
            except ConnectionClosed as closed:
                assert closed.rcvd.code == 4001 and closed.rcvd.reason == "as asked", closed
                return
            raise AssertionError("the connection was not closed")

    def hundred_at_once():
        sockets = [open_() for _ in range(100)]
        for index, socket in enumerate(sockets):
            socket.send(str(index))
        for index, socket in enumerate(sockets):
            assert socket.recv(PATIENCE) == str(index)
        for socket in sockets:
            socket.close()

    def thousand_messages():
        with open_() as socket:
            for index in range(1000):
                socket.send(str(index))
            assert [int(socket.recv(PATIENCE)) for _ in range(1000)] == list(range(1000))

    return [value for name, value in locals().items() if getattr(value, "__name__", "") == name and name != "open_"]


def call(address):
    for run in conversations(address):
        try:
            run()
            print("ok", run.__name__, flush=True)
        except Exception as error:  # noqa: BLE001: one conversation must not end the run
            print("fail", f"{run.__name__}: {type(error).__name__} {error}".replace("\n", " ")[:400], flush=True)


if sys.argv[1] == "serve":
    serve()
else:
    call(sys.argv[2])
