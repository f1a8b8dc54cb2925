"""A Docker engine that fails to order: enough of its API, over a real unix socket, for the agent.

    with FakeEngine(path) as engine:
        engine.fail("POST", "/start", 500, "boom", times=1)
        engine.hang("GET", "/containers/json")       # until `engine.release()`
        engine.containers["demo_web.1.t1"].end(137)

What it holds is in `containers`, by name; what it was asked in `asked`, in order. Containers end
when told, or by their stop signal unless they are `stubborn`; every change is an event.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from queue import SimpleQueue
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from attrs import Factory, define

VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}
ZERO = "0001-01-01T00:00:00Z"

Json = dict[str, Any]
Answer = tuple[int, object]


@define(eq=False)
class Fault:
    """What happens to the requests that it fits, before they are looked at."""

    method: str
    path: str
    """A regular expression, searched for in path and query."""
    times: int
    status: int = 0
    """0: the request hangs until it is released."""
    message: str = ""
    after: bool = False
    """Whether the engine does what it is asked before it fails to say so."""
    released: threading.Event = Factory(threading.Event)

    def fits(self, method: str, url: str) -> bool:
        """Whether it is for this request; counts it if so."""
        if self.times <= 0 or method != self.method or not re.search(self.path, url):
            return False
        self.times -= 1
        return True


@define(eq=False)
class Container:
    """One container of the engine."""

    engine: "FakeEngine"
    id: str
    name: str
    config: Json
    state: str = "created"
    code: int = 0
    started_at: str = ZERO
    signals: list[str] = Factory(list)

    def start(self) -> None:
        """Let it run."""
        self.state, self.started_at = "running", _now()
        self.engine.tell("start", self)

    def end(self, code: int) -> None:
        """Let it end by itself."""
        self.state, self.code = "exited", code
        self.engine.tell("die", self)

    def inspected(self) -> Json:
        """As `GET /containers/ID/json` says it."""
        state = {"Status": self.state, "StartedAt": self.started_at, "ExitCode": self.code}
        return {"Id": self.id, "Name": f"/{self.name}", "Config": self.config, "State": state}

    def listed(self) -> Json:
        """As `GET /containers/json` says it."""
        status = f"Exited ({self.code}) 1 second ago" if self.state == "exited" else "Up 1 second"
        labels = self.config["Labels"]
        return {"Id": self.id, "Labels": labels, "State": self.state, "Status": status}


class FakeEngine:
    """The engine at this socket, from `__enter__` or `start` until `__exit__` or `stop`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.containers: dict[str, Container] = {}
        self.images = {"image:1"}
        self.platforms: dict[str, str] = {}
        """What images are for that are not for linux/amd64."""
        self.wishes: list[tuple[str, str]] = []
        """Path and platform of every pull and creation that names one."""
        self.stubborn = False
        """Whether containers ignore whatever is not SIGKILL."""
        self.asked: list[str] = []
        """`METHOD /path` of every request, without version and query."""
        self.pull: Callable[[str], Iterable[Json | float]] = lambda image: [{"status": "Pulled"}]
        """What a pull says: lines, and seconds of silence between them."""
        self._faults: list[Fault] = []
        self._streams: list[SimpleQueue[Json | None]] = []
        self._count = 0
        self._lock = threading.RLock()
        self._server: _Server | None = None

    def __enter__(self) -> "FakeEngine":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def start(self) -> None:
        """Answer at the socket."""
        self.path.unlink(missing_ok=True)
        self._server = _Server(str(self.path), _Handler)
        self._server.engine = self
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Go away with all connections; what it holds stays."""
        self.release()
        self.cut_events()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.cut()

    # --- faults -----------------------------------------------------------------------------------

    def fail(
        self, method: str, path: str, status: int, message: str, *, times: int = 1 << 30
    ) -> None:
        """Answer such requests with an error."""
        self._faults.append(Fault(method, path, times, status, message))

    def hang(self, method: str, path: str, *, times: int = 1 << 30, after: bool = False) -> None:
        """Answer such requests when released; `after`: do what they ask all the same."""
        self._faults.append(Fault(method, path, times, after=after))

    def hang_all(self) -> None:
        """Answer nothing any more; connections are taken all the same."""
        for method in ("GET", "POST", "DELETE"):
            self.hang(method, "")

    def release(self) -> None:
        """No fault any more; what hangs is answered."""
        faults, self._faults = self._faults, []
        for fault in faults:
            fault.times = 0
            fault.released.set()

    def cut_events(self) -> None:
        """End the streams of events."""
        with self._lock:
            streams, self._streams = self._streams, []
        for stream in streams:
            stream.put(None)

    def count(self, request: str) -> int:
        """How often it was asked this."""
        return sum(re.fullmatch(request, asked) is not None for asked in self.asked)

    # --- what it does -----------------------------------------------------------------------------

    def tell(self, action: str, container: Container) -> None:
        """Say that something happened to a container."""
        attributes = {**container.config["Labels"], "name": container.name}
        if action == "die":
            attributes["exitCode"] = str(container.code)
        event = {"Action": action, "Actor": {"ID": container.id, "Attributes": attributes}}
        with self._lock:
            for stream in self._streams:
                stream.put(event)

    def listen(self) -> "SimpleQueue[Json | None]":
        """Events from now on."""
        stream: SimpleQueue[Json | None] = SimpleQueue()
        with self._lock:
            self._streams.append(stream)
        return stream

    def fault(self, method: str, url: str) -> Fault | None:
        """The fault that this request meets, if any."""
        with self._lock:
            return next((fault for fault in self._faults if fault.fits(method, url)), None)

    def answer(self, method: str, path: str, query: dict[str, str], body: Json) -> Answer:
        """Status and body of a request."""
        with self._lock:
            match method, path.strip("/").split("/"):
                case "GET", ["version"]:
                    return 200, VERSION
                case "GET", ["info"]:
                    return 200, {"LoggingDriver": "json-file"}
                case "GET", ["containers", "json"]:
                    return 200, [one.listed() for one in self.containers.values()]
                case "POST", ["containers", "create"]:
                    return self._create(query["name"], body, query.get("platform", ""))
                case "GET", ["images", *name, "json"]:
                    if "/".join(name) not in self.images:
                        return 404, "No such image"
                    os, arch = self.platform_of("/".join(name)).split("/")
                    return 200, {"Id": "sha256:1", "Os": os, "Architecture": arch}
                case _, ["containers", name, *verb]:
                    return self._change(method, verb, self._found(name), query)
                case _:
                    return 404, f"the fake engine knows no {method} {path}"

    def platform_of(self, image: str) -> str:
        return self.platforms.get(image, "linux/amd64")

    def _create(self, name: str, body: Json, platform: str) -> Answer:
        if (image := body["Image"]) not in self.images:
            return 404, f"No such image: {image}"
        if platform and platform != (actual := self.platform_of(image)):
            # Word for word what engines say since 20.10.
            return 404, (
                f"image with reference {image} was found but does not match the specified "
                f"platform: wanted {platform}, actual: {actual}"
            )
        if (taken := self._found(name)) is not None:
            words = f'The container name "/{name}" is already in use by container "{taken.id}".'
            return 409, f"Conflict. {words}"
        self._count += 1
        made = Container(self, f"{self._count:064x}", name, body)
        self.containers[name] = made
        self.tell("create", made)
        return 201, {"Id": made.id, "Warnings": []}

    def _change(
        self, method: str, verb: list[str], container: Container | None, query: dict[str, str]
    ) -> Answer:
        if container is None:
            return 404, "No such container"
        match method, verb:
            case "GET", ["json"]:
                return 200, container.inspected()
            case "POST", ["start"]:
                if container.state != "running":
                    container.start()
                return 204, None
            case "POST", ["kill"]:
                container.signals.append(signal := query["signal"])
                if container.state == "running" and (signal == "SIGKILL" or not self.stubborn):
                    container.end(137 if signal == "SIGKILL" else 143)
                return 204, None
            case "DELETE", []:
                del self.containers[container.name]
                self.tell("destroy", container)
                return 204, None
            case _:
                return 404, f"the fake engine knows no {method} of a container's {verb}"

    def _found(self, name: str) -> Container | None:
        known = self.containers.values()
        return next((one for one in known if name in (one.name, one.id)), None)


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 256
    engine: FakeEngine

    def __init__(self, *arguments: Any) -> None:
        self.connections: list[Any] = []
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The other side went away: its right."""

    def cut(self) -> None:
        """End every connection that there ever was."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(2)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *arguments: object) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        engine, url = self.server.engine, re.sub(r"^/v[\d.]+", "", self.path)
        parts = urlsplit(url)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        engine.asked.append(f"{method} {parts.path}")
        if "platform" in query:
            engine.wishes.append((parts.path, query["platform"]))
        fault = engine.fault(method, url)
        if fault is not None and fault.status:
            return self._send(fault.status, fault.message)
        if fault is not None and not fault.after:
            fault.released.wait()
        if parts.path == "/events":
            return self._events()
        if parts.path == "/images/create":
            return self._pull(f"{query['fromImage']}:{query['tag']}")
        answer = engine.answer(method, parts.path, query, body)
        if fault is not None and fault.after:
            fault.released.wait()
        return self._send(*answer)

    def _send(self, status: int, body: object) -> None:
        if isinstance(body, str):
            body = {"message": body}
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def _events(self) -> None:
        stream = self.server.engine.listen()
        self._begin_stream()
        while (event := stream.get()) is not None:
            self._chunk(json.dumps(event).encode() + b"\n")
        self._chunk(b"")

    def _pull(self, image: str) -> None:
        self._begin_stream()
        has_failed = False
        for said in self.server.engine.pull(image):
            if isinstance(said, float):
                time.sleep(said)
            else:
                has_failed = has_failed or "error" in said
                self._chunk(json.dumps(said).encode() + b"\n")
        if not has_failed:
            self.server.engine.images.add(image)
        self._chunk(b"")
