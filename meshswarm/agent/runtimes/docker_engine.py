"""The engine's API as blocking calls for worker threads; only `RuntimeFailure` leaves it.

One client for all threads, made when it is first needed and again after the engine went away, so
that a newer engine's API version is negotiated anew.
"""

import contextlib
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import requests
import urllib3
from docker import APIClient, auth, errors
from docker.types import CancellableStream
from docker.utils import kwargs_from_env, parse_repository_tag

from meshswarm.agent.card import Held
from meshswarm.agent.runtimes.docker_refusals import failure_of, pull_failure
from meshswarm.agent.runtimes.docker_spec import held_of
from meshswarm.agent.runtimes.port import MAX_EXEC_OUTPUT, Executed, RuntimeFailure, Stats
from meshswarm.model.task import Reason

TIMEOUT_S = 60.0
"""For one read of an answer; a slow engine needs some tens of seconds to create a container."""

STALL_S = 120.0
"""A pull that says nothing for so long is given up."""

EVENTS = ["create", "start", "die", "oom", "destroy", "health_status", "pause", "unpause"]
"""Not `exec_*`, of which every health check makes three."""

USUAL_SOCKET = "unix:///var/run/docker.sock"

Json = dict[str, Any]
Frames: TypeAlias = "CancellableStream[tuple[int, bytes]]"
"""Pieces of a container's output: (1 stdout | 2 stderr, bytes)."""

T = TypeVar("T")


class Engine:
    """One Docker engine; `host` is its URL, empty for DOCKER_HOST or the usual socket."""

    def __init__(self, host: str, pool_size: int) -> None:
        self._host = host
        self._pool_size = pool_size
        self._lock = threading.Lock()
        self._client: APIClient | None = None
        self.log_driver = ""
        """The engine's default, known once it answered."""

    def close(self) -> None:
        """Let the connections go; the next call makes new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def version(self) -> str:
        """The engine's version."""
        with self._calls(Reason.RUNTIME_UNAVAILABLE) as client:
            return str(client.version(api_version=False)["Version"])

    # --- containers -------------------------------------------------------------------------------

    def containers(self, filters: dict[str, list[str]]) -> list[Json]:
        """Short descriptions of containers, stopped ones too."""
        with self._calls(Reason.RUNTIME_UNAVAILABLE) as client:
            found: list[Json] = client.containers(all=True, filters=filters)
            return found

    def inspect(self, container: str) -> Json | None:
        """The full description of a container, by id or name; None if there is none."""
        with self._calls(Reason.RUNTIME_UNAVAILABLE) as client:
            try:
                found: Json = client.inspect_container(container)
            except errors.NotFound:
                return None
            return found

    def held(self, container: str) -> Held | None:
        """What we hold of a container; None if it is gone, or not ours."""
        found = self.inspect(container)
        return held_of(found) if found else None

    def create(self, name: str, config: Json) -> str | None:
        """Make a container and return its id; None if the name is taken."""
        with self._calls(Reason.CREATE_FAILED) as client:
            try:
                made = client.create_container_from_config(config, name)  # type: ignore[no-untyped-call]
                return str(made["Id"])
            except errors.APIError as error:
                if error.status_code == 409:
                    return None
                raise

    def start(self, container: str) -> None:
        """Start a container; nothing happens if it runs."""
        with self._calls(Reason.START_FAILED) as client:
            client.start(container)

    def kill(self, container: str, *, kill: bool) -> None:
        """Send SIGKILL or the container's own stop signal; nothing happens if it does not run."""
        with self._calls(Reason.STOP_FAILED) as client:
            try:
                signal = "SIGKILL"
                if not kill:
                    config = client.inspect_container(container)["Config"]
                    signal = config.get("StopSignal") or "SIGTERM"
                client.kill(container, signal)
            except errors.NotFound:
                return
            except errors.APIError as error:
                if error.status_code != 409:
                    raise

    def remove(self, container: str) -> None:
        """Remove a container that does not run, with its anonymous volumes."""
        with self._calls(Reason.STOP_FAILED) as client:
            try:
                client.remove_container(container, v=True)
            except errors.NotFound:
                return
            except errors.APIError as error:
                if error.status_code != 409 or "already in progress" not in str(error):
                    raise

    def stats(self, container: str) -> Stats:
        """What a running container uses."""
        with self._calls(Reason.RUNTIME_UNAVAILABLE) as client:
            told = client.stats(container, stream=False, one_shot=True)
            return Stats(
                cpu_ns=told["cpu_stats"]["cpu_usage"]["total_usage"],
                memory_bytes=told["memory_stats"].get("usage", 0),
                pids=told["pids_stats"].get("current", 0),
            )

    def execute(self, container: str, argv: Sequence[str]) -> Executed:
        """Run a command in a running container until it ends."""
        with self._calls(Reason.START_FAILED) as client:
            made = client.exec_create(container, list(argv))["Id"]
            # Whole, not streamed: only so does the SDK close the connection it took over.
            output: bytes = client.exec_start(made)[:MAX_EXEC_OUTPUT]
            code = client.exec_inspect(made)["ExitCode"]
        return Executed(code=code, output=output.decode(errors="replace"))

    # --- images and volumes -----------------------------------------------------------------------

    def has_image(self, image: str) -> bool:
        """Whether the engine has the image already."""
        with self._calls(Reason.RUNTIME_UNAVAILABLE) as client:
            try:
                client.inspect_image(image)  # type: ignore[no-untyped-call]
            except errors.ImageNotFound:
                return False
            return True

    def has_volume(self, name: str) -> bool:
        """Whether a volume of this name exists."""
        with self._calls(Reason.RUNTIME_UNAVAILABLE) as client:
            try:
                client.inspect_volume(name)
            except errors.NotFound:
                return False
            return True

    def pull(self, image: str, given_up: Callable[[], bool]) -> None:
        """Pull an image with the host's registry logins, unless `given_up` says so meanwhile."""
        repository, tag = parse_repository_tag(image)
        registry, _ = auth.resolve_repository_name(repository)
        with self._calls(Reason.PULL_FAILED) as client:
            header = auth.get_config_header(client, registry)
            response = client.post(
                f"{client.base_url}/v{client.api_version}/images/create",
                params={"fromImage": repository, "tag": tag or "latest"},
                headers={"X-Registry-Auth": header} if header else {},
                stream=True,
                timeout=STALL_S,
            )
            try:
                if response.status_code >= 400:
                    raise pull_failure(image, _message_of(response.content))
                for line in response.iter_lines():
                    if given_up():
                        return
                    if (error := json.loads(line).get("error")) is not None:
                        raise pull_failure(image, error)
            finally:
                response.close()

    # --- streams ----------------------------------------------------------------------------------

    def events(self, filters: dict[str, list[str]]) -> "CancellableStream[Json]":
        """What happens to containers, from now on; `close` it from another thread to end it."""
        with self._calls(Reason.RUNTIME_UNAVAILABLE) as client:
            chosen = {"type": ["container"], "event": EVENTS, **filters}
            stream: CancellableStream[Json] = client.events(decode=True, filters=chosen)
            return stream

    def logs(self, container: str, *, follow: bool, tail: int | None, since_ms: int) -> Frames:
        """A container's output, each line after its timestamp."""
        with self._calls(Reason.RUNTIME_UNAVAILABLE) as client:
            response = client.get(
                f"{client.base_url}/v{client.api_version}/containers/{container}/logs",
                params={
                    "stdout": 1,
                    "stderr": 1,
                    "timestamps": 1,
                    "follow": int(follow),
                    "tail": "all" if tail is None else tail,
                    "since": f"{since_ms // 1000}.{since_ms % 1000:03}",
                },
                stream=True,
                timeout=(TIMEOUT_S, None),
            )
            if response.status_code >= 400:
                message = _message_of(response.content)
                raise failure_of(message, Reason.RUNTIME_UNAVAILABLE)
            return CancellableStream(_frames(response), response)

    # --- the client -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _calls(self, otherwise: Reason) -> Iterator[APIClient]:
        """The client; its errors become failures, `otherwise` is the reason of an unknown one."""
        try:
            yield self._connected()
        except errors.APIError as error:
            raise failure_of(str(error.explanation or error), otherwise) from error
        except (
            errors.DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
        ) as error:
            self.close()
            raise RuntimeFailure(
                Reason.RUNTIME_UNAVAILABLE, f"the Docker engine does not answer: {_cause(error)}"
            ) from error

    def _connected(self) -> APIClient:
        with self._lock:
            if self._client is None:
                client = _client(self._host, self._pool_size)
                self.log_driver = str(client.info()["LoggingDriver"])
                self._client = client
            return self._client


def end(stream: "CancellableStream[Any]") -> None:
    """End a stream from any thread; the SDK's own way fails if the engine ended it before."""
    with contextlib.suppress(OSError, AttributeError):
        stream.close()


def next_of(stream: Iterator[T], count: int) -> list[T]:
    """The next items, at most `count`, fewer at the end of the stream, none after it."""
    try:
        return list(itertools.islice(stream, count))
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError):
        return []  # closed by us, or by an engine that went away


def _frames(response: requests.Response) -> Iterator[tuple[int, bytes]]:
    """The engine's multiplexed stream: a byte of stream number, 3 unused, 4 of length, content."""
    while len(head := response.raw.read(8)) == 8:
        yield head[0], response.raw.read(int.from_bytes(head[4:], "big"))


def _client(host: str, pool_size: int) -> APIClient:
    timeout = int(TIMEOUT_S)
    if not host and os.environ.get("DOCKER_HOST"):
        return APIClient(
            version="auto", timeout=timeout, max_pool_size=pool_size, **kwargs_from_env()
        )
    url = host or USUAL_SOCKET
    return APIClient(base_url=url, version="auto", timeout=timeout, max_pool_size=pool_size)


def _cause(error: BaseException) -> str:
    """What an error of many wrappers comes down to: the innermost one's words."""
    inner: BaseException | None = error
    while inner is not None:
        error, inner = inner, inner.__cause__ or inner.__context__
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:200]


def _message_of(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:1000]
