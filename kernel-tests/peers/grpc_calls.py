"""gRPC calls as interoperability tests make them, with grpcio on both ends.

Usage: grpc_calls.py serve            prints the port it listens on, and serves until its input ends
       grpc_calls.py call ADDRESS     makes every call through ADDRESS; one line a call: `ok NAME`, or `fail NAME: …`
"""

import concurrent.futures
import sys
import threading
import time

import grpc

LARGE = 10 * 1024 * 1024
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
PATIENCE = 30.0


class Echo(grpc.GenericRpcHandler):
    """Messages are plain bytes; the method's name says what is done with them."""

    def service(self, details):
        return {
            "/echo/Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "/echo/Collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "/echo/Repeat": grpc.unary_stream_rpc_method_handler(self.repeat),
            "/echo/Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "/echo/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/echo/Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
        }.get(details.method)

    cancelled = threading.Event()

    def unary(self, request, context):
        fields = dict(context.invocation_metadata())
        if "x-first" in fields:
            context.send_initial_metadata((("x-initial", fields["x-first"]),))
            context.set_trailing_metadata((("x-last", fields["x-first"]), ("x-binary-bin", b"\0\xff\x80")))
        return request

    def collect(self, requests, context):
        return b"".join(requests)

    def repeat(self, request, context):
        for index in range(int(request)):
            yield str(index).encode()

    def chat(self, requests, context):
        context.add_callback(Echo.cancelled.set)
        for request in requests:
            yield request

    def fail(self, request, context):
        context.abort(grpc.StatusCode.DATA_LOSS, "as asked: \u00e4 %")

    def sleep(self, request, context):
        if request == b"was a chat cancelled?":
            return b"yes" if Echo.cancelled.wait(PATIENCE) else b"no"
        time.sleep(float(request))
        return b"slept"


def serve():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), options=OPTIONS)
    server.add_generic_rpc_handlers((Echo(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()


def calls(channel):
    unary = channel.unary_unary("/echo/Unary")
    chat = channel.stream_stream("/echo/Chat")
    repeat = channel.unary_stream("/echo/Repeat")
    collect = channel.stream_unary("/echo/Collect")

    def empty_unary():
        assert unary(b"", timeout=PATIENCE) == b""

    def large_unary():
        message = bytes(range(256)) * (LARGE // 256)
        assert unary(message, timeout=PATIENCE) == message

    def client_streaming():
        pieces = [bytes([65 + index]) * size for index, size in enumerate((27182, 8, 1828, 45904))]
        assert collect(iter(pieces), timeout=PATIENCE) == b"".join(pieces)

    def large_client_streaming():
        assert len(collect(iter([b"x" * (1 << 20)] * 10), timeout=PATIENCE)) == LARGE

    def server_streaming():
        assert [int(item) for item in repeat(b"500", timeout=PATIENCE)] == list(range(500))

    def ping_pong():
        answers, sent = None, []
        go = threading.Semaphore(1)

        def requests():
            for size in (27182, 8, 1828, 45904):
                go.acquire()
                sent.append(b"z" * size)
                yield sent[-1]

        answers = chat(requests(), timeout=PATIENCE)
        for index, answer in enumerate(answers):
            assert answer == sent[index]
            go.release()
        assert len(sent) == 4

    def empty_stream():
        assert list(chat(iter(()), timeout=PATIENCE)) == []

    def metadata_both_ways():
        answer, call = unary.with_call(b"x", timeout=PATIENCE, metadata=(("x-first", "value"), ("x-bin", b"\0\1")))
        assert answer == b"x"
        assert dict(call.initial_metadata())["x-initial"] == "value"
        trailing = dict(call.trailing_metadata())
        assert trailing["x-last"] == "value" and trailing["x-binary-bin"] == b"\0\xff\x80", trailing

    def status_and_message():
        error = failure(lambda: channel.unary_unary("/echo/Fail")(b"", timeout=PATIENCE))
        assert error.code() == grpc.StatusCode.DATA_LOSS and error.details() == "as asked: \u00e4 %", error

    def unimplemented_method():
        error = failure(lambda: channel.unary_unary("/echo/Nothing")(b"", timeout=PATIENCE))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error

    def deadline():
        error = failure(lambda: channel.unary_unary("/echo/Sleep")(b"20", timeout=0.5))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error

    def cancel_before_the_first_message():
        call = collect.future(iter(lambda: time.sleep(60), None), timeout=PATIENCE)
        call.cancel()
        assert call.code() == grpc.StatusCode.CANCELLED

    def cancel_after_the_first_answer():
        stop = threading.Event()

        def requests():
            yield b"first"
            stop.wait(PATIENCE)

        call = chat(requests(), timeout=PATIENCE)
        assert next(call) == b"first"
        call.cancel()
        stop.set()
        error = failure(lambda: next(call))
        assert error.code() == grpc.StatusCode.CANCELLED, error
        answer = channel.unary_unary("/echo/Sleep")(b"was a chat cancelled?", timeout=PATIENCE)
        assert answer == b"yes", "the server never heard of the cancellation"

    def many_at_once():
        futures = [unary.future(str(index).encode(), timeout=PATIENCE) for index in range(300)]
        assert [int(future.result()) for future in futures] == list(range(300))

    def slow_reader():
        count = 0
        for _ in repeat(b"5000", timeout=PATIENCE):
            count += 1
            if count % 1000 == 0:
                time.sleep(0.05)
        assert count == 5000

    return [value for name, value in locals().items() if getattr(value, "__name__", "") == name and name != "open_"]


def failure(run):
    try:
        run()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


def call(address):
    channel = grpc.insecure_channel(address, options=OPTIONS)
    for run in calls(channel):
        try:
            run()
            print("ok", run.__name__, flush=True)
        except Exception as error:  # noqa: BLE001: one call must not end the run
            print("fail", f"{run.__name__}: {type(error).__name__} {error}".replace("\n", " ")[:400], flush=True)


if sys.argv[1] == "serve":
    serve()
else:
    call(sys.argv[2])
