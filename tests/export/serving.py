"""A small server that speaks TensorFlow Serving's documented REST and gRPC requests and answers through the C++ loader.

REST: ``POST /v1/models/M[/versions/V]:predict`` with "instances" (rows) or "inputs" (columns), bytes as ``{"b64": …}``;
errors are JSON ``{"error": …}``. gRPC: ``PredictionService.Predict``.
"""

import base64
import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tlkeras.errors import TlkerasError
from tlkeras.export.cpp_loader import CppLoader

_PATH = re.compile(r"/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>\d+))?:predict")


class Refused(Exception):  # noqa: N818 - it carries an answer
    """A request that is refused, with the HTTP status and TensorFlow's code for it."""

    def __init__(self, http_status: int, grpc_name: str, words: str) -> None:
        self.http_status, self.grpc_name = http_status, grpc_name
        super().__init__(words)


@dataclass
class Server:
    """One model in one version; ``requests`` counts what was asked."""

    loader: CppLoader
    model: str
    version: int
    lock: Any
    url: str = ""
    address: str = ""
    requests: int = 0

    def answer(self, model: str, version: int | None, signature: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        if model != self.model or version not in (None, self.version):
            wanted = f"Name: {model}" + (f" Version: {version}" if version is not None else "")
            raise Refused(404, "NOT_FOUND", f"Servable not found for request: {wanted}")
        with self.lock:
            self.requests += 1
            try:
                return self.loader.run(signature or "serving_default", inputs)
            except TlkerasError as error:
                raise Refused(400, "INVALID_ARGUMENT", str(error)) from None


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"])
    return [_from_json(item) for item in value] if isinstance(value, list) else value


def _to_json(value: np.ndarray) -> Any:
    return [item.decode() for item in value] if value.dtype == object and value.ndim == 1 else (
        [_to_json(row) for row in value] if value.dtype == object else value.tolist()
    )  # fmt: skip


def _columns(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a request in row or column form."""
    if ("instances" in body) == ("inputs" in body):
        raise Refused(400, "INVALID_ARGUMENT", "the request must have either 'instances' or 'inputs'")
    described = server.loader.signatures.get(body.get("signature_name") or "serving_default")
    (only,) = described.inputs if described else ("",)
    if "inputs" in body:
        given = body["inputs"]
        named = given if isinstance(given, dict) and set(given) != {"b64"} else {only: given}
        return {name: _from_json(value) for name, value in named.items()}
    rows = body["instances"]
    if all(isinstance(row, dict) and set(row) != {"b64"} for row in rows):
        return {name: [_from_json(row[name]) for row in rows] for name in rows[0]}
    return {only: [_from_json(row) for row in rows]}


def _rest_handler(server: Server) -> type:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                found = _PATH.fullmatch(self.path)
                if not found:
                    raise Refused(404, "NOT_FOUND", f"Malformed request: POST {self.path}")
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                version = int(found["version"]) if found["version"] else None
                inputs = _columns(server, body)
                answers = server.answer(found["model"], version, body.get("signature_name", ""), inputs)
                columns = {name: _to_json(value) for name, value in answers.items()}
                rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
                self._reply(200, {"predictions": rows} if "instances" in body else {"outputs": columns})
            except Refused as error:
                self._reply(error.http_status, {"error": str(error)})

        def _reply(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextlib.contextmanager
def _grpc(server: Server) -> Iterator[None]:
    """The gRPC side, where tensorflow-serving-api is installed; else ``server.address`` stays empty."""
    try:
        import grpc
        from tensorflow import make_ndarray, make_tensor_proto
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    except ImportError:
        yield
        return

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
            spec = request.model_spec
            version = spec.version.value if spec.HasField("version") else None
            inputs = {name: make_ndarray(value) for name, value in request.inputs.items()}
            try:
                answers = server.answer(spec.name, version, spec.signature_name, inputs)
            except Refused as error:
                context.abort(getattr(grpc.StatusCode, error.grpc_name), str(error))
            response = predict_pb2.PredictResponse()
            for name, value in answers.items():
                response.outputs[name].CopyFrom(make_tensor_proto(value))
            return response

    service = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), service)
    server.address = f"127.0.0.1:{service.add_insecure_port('127.0.0.1:0')}"
    service.start()
    try:
        yield
    finally:
        service.stop(None).wait()


@contextlib.contextmanager
def serving(version_folder: Path, model: str) -> Iterator[Server]:
    """Serve one exported version as ``model``."""
    with CppLoader(version_folder) as loader:
        server = Server(loader, model, int(version_folder.name), threading.Lock())
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _rest_handler(server)) as rest, _grpc(server):
            server.url = f"http://127.0.0.1:{rest.server_port}"
            threading.Thread(target=rest.serve_forever, daemon=True).start()
            yield server
            rest.shutdown()
