"""The engine's API as blocking calls for worker threads; only `RuntimeFailure` leaves it.

Two clients for all threads, one for questions and one for deeds, which take longer; made when they
are first needed and again after the engine went away, so that a newer engine's API version is
negotiated anew. No lock is held while the engine is asked: who waits, waits for its own answer.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias, TypeVar

import requests
import urllib3
from attrs import frozen
from docker import APIClient, auth, errors
from docker.transport import UnixHTTPAdapter
from docker.types import CancellableStream
from docker.utils import decode_json_header, kwargs_from_env, parse_repository_tag, version_lt

from meshswarm.agent.card import Held
from meshswarm.agent.runtimes.docker_exec import ExecSocket
from meshswarm.agent.runtimes.docker_refusals import failure_of, pull_failure
from meshswarm.agent.runtimes.docker_spec import archive_of, held_of, image_for, is_for_platform
from meshswarm.agent.runtimes.port import RuntimeFailure, Stats
from meshswarm.model.pipe import PipeWish, WindowSize
from meshswarm.model.task import Reason

QUESTION_S = 15.0
"""For the answer to a question: an engine at full load takes a second or two."""

DEED_S = 60.0
"""For the answer to a deed; a slow engine needs some tens of seconds to create a container."""

STALL_S = 120.0
"""A pull that says nothing for so long is given up."""

PLATFORM_SINCE = "1.41"
"""The engine's API since which a container is made for a platform; before, only pulls know it."""

EVENTS = ["create", "start", "die", "oom", "destroy", "health_status", "pause", "unpause"]
"""Not `exec_*`, of which every health check makes three."""

GO_DIRECTORY = 1 << 31
"""How the engine's language marks a directory's mode."""

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
        self._clients: Clients | None = None
        self._log_driver = ""

    def close(self) -> None:
        """Let the connections go; the next call makes new ones."""
        with self._lock:
            clients, self._clients = self._clients, None
        if clients is not None:
            clients.close()

    def version(self) -> str:
        """The engine's version."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE) as client:
            return str(client.version(api_version=False)["Version"])

    def default_log_driver(self) -> str:
        """Where the engine keeps what containers write, unless told otherwise."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE):
            return self._log_driver

    # --- containers -------------------------------------------------------------------------------

    def containers(self, filters: dict[str, list[str]]) -> list[Json]:
        """Short descriptions of containers, stopped ones too."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE) as client:
            found: list[Json] = client.containers(all=True, filters=filters)
            return found

    def inspect(self, container: str) -> Json | None:
        """The full description of a container, by id or name; None if there is none."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE) as client:
            try:
                found: Json = client.inspect_container(container)
            except errors.NotFound:
                return None
            return found

    def held(self, container: str) -> Held | None:
        """What we hold of a container; None if it is gone, or not ours."""
        found = self.inspect(container)
        return held_of(found) if found else None

    def create(self, name: str, config: Json, platform: str | None) -> str | None:
        """Make a container and return its id; None if the name is taken."""
        with self._deeds(Reason.CREATE_FAILED) as client:
            if version_lt(client.api_version, PLATFORM_SINCE):
                platform = None
            try:
                made = client.create_container_from_config(config, name, platform)  # type: ignore[no-untyped-call]
                return str(made["Id"])
            except errors.APIError as error:
                if error.status_code == 409:
                    return None
                raise

    def started(self, container: str) -> Held | None:
        """Start a container, unless it runs; what we hold of it then."""
        with self._deeds(Reason.START_FAILED) as client:
            client.start(container)
        return self.held(container)

    def signal(self, container: str, name: str) -> None:
        """Send this signal; nothing happens if the container does not run."""
        with self._deeds(Reason.STOP_FAILED) as client:
            try:
                client.kill(container, name)
            except errors.NotFound:
                return
            except errors.APIError as error:
                if error.status_code != 409:
                    raise

    def link(self, container: str, links: Mapping[str, str]) -> None:
        """Put symbolic links into a container, by their paths."""
        with self._deeds(Reason.MOUNT_FAILED) as client:
            client.put_archive(container, "/", archive_of(links))

    def remove(self, container: str) -> None:
        """Remove a container that does not run, with its anonymous volumes."""
        with self._deeds(Reason.STOP_FAILED) as client:
            try:
                client.remove_container(container, v=True)
            except errors.NotFound:
                return
            except errors.APIError as error:
                if error.status_code != 409 or "already in progress" not in str(error):
                    raise

    def stats(self, container: str) -> Stats:
        """What a running container uses."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE) as client:
            told = client.stats(container, stream=False, one_shot=True)
            memory = told["memory_stats"]
            kinds = memory.get("stats", {})
            cache = kinds.get("total_inactive_file", kinds.get("inactive_file", 0))
            return Stats(
                cpu_ns=told["cpu_stats"]["cpu_usage"]["total_usage"],
                memory_bytes=max(0, memory.get("usage", 0) - cache),
                pids=told["pids_stats"].get("current", 0),
            )

    # --- exec sessions and archives ---------------------------------------------------------------

    def open_exec(self, container: str, wish: PipeWish) -> tuple[str, ExecSocket]:
        """Start a command in a running container: its exec session's id, and the connection."""
        with self._deeds(Reason.START_FAILED) as client:
            window, url = wish.window, f"{client.base_url}/v{client.api_version}"
            size = {"ConsoleSize": [window.rows, window.columns]} if window else {}
            config = {
                "Cmd": list(wish.argv),
                "AttachStdin": wish.has_input,
                "AttachStdout": True,
                "AttachStderr": True,
                "Tty": window is not None,
                **size,
            }
            response = client.post(f"{url}/containers/{container}/exec", json=config)
            if response.status_code >= 400:
                raise failure_of(_message_of(response.content), Reason.START_FAILED)
            made = str(response.json()["Id"])
            response = client.post(
                f"{url}/exec/{made}/start",
                json={"Detach": False, "Tty": window is not None, **size},
                headers={"Connection": "Upgrade", "Upgrade": "tcp"},
                stream=True,
            )
            if response.status_code >= 400:
                raise failure_of(_message_of(response.content), Reason.START_FAILED)
            connection = ExecSocket(response, has_terminal=window is not None)
        if window is not None:
            self.resize_exec(made, window)  # an engine before API 1.42 knows no first size
        return made, connection

    def resize_exec(self, made: str, window: WindowSize) -> None:
        """Give the terminal of a session another size; one that has ended has none."""
        with contextlib.suppress(RuntimeFailure), self._deeds(Reason.NONE) as client:
            client.exec_resize(made, height=window.rows, width=window.columns)

    def look_at_exec(self, made: str) -> Json:
        """What the engine knows of a session: Running, Pid, ExitCode."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE) as client:
            told: Json = client.exec_inspect(made)
            return told

    def stat(self, container: str, path: str) -> Iterator[bytes]:
        """What is at `path`: `directory`, `file`, or nothing."""
        with self._deeds(Reason.NONE) as client:
            url = f"{client.base_url}/v{client.api_version}/containers/{container}/archive"
            response = client.head(url, params={"path": path})
            if response.status_code == 404:
                return
            if response.status_code >= 400:
                raise failure_of(f"{path}: {response.reason}", Reason.NONE)
            told = decode_json_header(response.headers["X-Docker-Container-Path-Stat"])
            yield b"directory" if told["mode"] & GO_DIRECTORY else b"file"

    def read_files(self, container: str, path: str, piece_bytes: int) -> Iterator[bytes]:
        """The archive of what is at `path`."""
        with self._deeds(Reason.NONE) as client:
            pieces, _ = client.get_archive(container, path, chunk_size=piece_bytes)
            yield from pieces

    def write_files(
        self, container: str, path: str, pieces: Callable[[], Iterator[bytes]]
    ) -> Iterator[bytes]:
        """Unpack an archive in the directory `path`; gives nothing."""
        with self._deeds(Reason.NONE) as client:
            client.put_archive(container, path, pieces())
        return iter(())

    # --- networks ---------------------------------------------------------------------------------

    def networks(self, labels: list[str]) -> list[Json]:
        """Short descriptions of the networks that have all these labels."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE) as client:
            found: list[Json] = client.networks(filters={"label": labels})
            return found

    def has_network(self, name: str) -> bool:
        """Whether there is a network of exactly this name."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE) as client:
            return any(each["Name"] == name for each in client.networks(names=[name]))

    def make_network(self, name: str, fields: Json) -> None:
        """Make a network; one of that name that is there already is a failure."""
        with self._deeds(Reason.NETWORK_FAILED) as client:
            client.create_network(name, check_duplicate=True, **fields)

    def connect(self, network: str, container: str, aliases: list[str]) -> None:
        """Put a container into a further network; nothing happens if it is there."""
        with self._deeds(Reason.NETWORK_FAILED) as client:
            try:
                client.connect_container_to_network(container, network, aliases=aliases)
            except errors.APIError as error:
                if "already exists in network" not in str(error):
                    raise

    def is_needed(self, network: str) -> bool:
        """Whether a container that is not over is in the network of this name, or will be when it
        starts: until then the engine knows no network's id for it."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE) as client:
            status = ["created", "running", "paused", "restarting", "removing"]
            filters = {"network": [network], "status": status}
            return bool(client.containers(all=True, filters=filters))

    def drop_network(self, network: str) -> None:
        """Remove a network, unless somebody is in it."""
        with self._deeds(Reason.NETWORK_FAILED) as client:
            try:
                client.remove_network(network)
            except errors.NotFound:
                return
            except errors.APIError as error:
                if error.status_code != 403:  # in use
                    raise

    # --- images and volumes -----------------------------------------------------------------------

    def has_image(self, image: str, platform: str | None) -> bool:
        """Whether the engine has the image already, and for this platform."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE) as client:
            try:
                found = client.inspect_image(image)  # type: ignore[no-untyped-call]
            except errors.ImageNotFound:
                return False
            return platform is None or is_for_platform(found, platform)

    def has_volume(self, name: str) -> bool:
        """Whether a volume of this name exists."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE) as client:
            try:
                client.inspect_volume(name)
            except errors.NotFound:
                return False
            return True

    def pull(self, image: str, platform: str | None, given_up: Callable[[], bool]) -> None:
        """Pull an image with the host's registry logins, unless `given_up` says so meanwhile."""
        repository, tag = parse_repository_tag(image)
        wish = {"fromImage": repository, "tag": tag or "latest"}
        wish |= {"platform": platform} if platform is not None else {}
        image = image_for(image, platform)
        registry, _ = auth.resolve_repository_name(repository)
        with self._deeds(Reason.PULL_FAILED) as client:
            header = auth.get_config_header(client, registry)
            response = client.post(
                f"{client.base_url}/v{client.api_version}/images/create",
                params=wish,
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
            except (requests.ReadTimeout, requests.ConnectionError) as error:
                if "timed out" not in str(error).lower():
                    raise
                silence = f"its registry sent nothing for {STALL_S:g} s"
                raise pull_failure(image, silence) from error
            finally:
                response.close()

    # --- streams ----------------------------------------------------------------------------------

    def events(self, filters: dict[str, list[str]]) -> "CancellableStream[Json]":
        """What happens to containers, from now on; `close` it from another thread to end it."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE) as client:
            chosen = {"type": ["container"], "event": EVENTS, **filters}
            stream: CancellableStream[Json] = client.events(decode=True, filters=chosen)
            return stream

    def logs(self, container: str, *, follow: bool, tail: int | None, since_ms: int) -> Frames:
        """A container's output, each line after its timestamp."""
        with self._questions(Reason.RUNTIME_UNAVAILABLE) as client:
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
                timeout=(QUESTION_S, None),
            )
            if response.status_code >= 400:
                message = _message_of(response.content)
                raise failure_of(message, Reason.RUNTIME_UNAVAILABLE)
            return CancellableStream(_frames(response), response)

    # --- the client -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _questions(self, otherwise: Reason) -> Iterator[APIClient]:
        """The client for questions; errors become failures, of an unknown one for that reason."""
        with self._translated(otherwise, QUESTION_S):
            yield self._connected().questions

    @contextlib.contextmanager
    def _deeds(self, otherwise: Reason) -> Iterator[APIClient]:
        """The client for what changes something; the same."""
        with self._translated(otherwise, DEED_S):
            yield self._connected().deeds

    @contextlib.contextmanager
    def _translated(self, otherwise: Reason, patience_s: float) -> Iterator[None]:
        try:
            yield
        except errors.APIError as error:
            raise failure_of(str(error.explanation or error), otherwise) from error
        except requests.ReadTimeout as error:  # the others' answers may come: keep the connections
            message = f"the Docker engine gave no answer within {patience_s:g} s"
            raise RuntimeFailure(Reason.RUNTIME_UNAVAILABLE, message) from error
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

    def _connected(self) -> "Clients":
        """The clients, made if there are none; of two that are made at once, one is kept."""
        clients = self._clients
        if clients is not None:
            return clients
        made = _clients(self._host, self._pool_size)
        kept: Clients | None = None
        try:
            self._log_driver = str(made.questions.info()["LoggingDriver"])
            with self._lock:
                self._clients = kept = self._clients or made
        finally:
            if kept is not made:
                made.close()
        return kept


@frozen
class Clients:
    """Two of the SDK's clients for one engine; they differ in how long they wait."""

    questions: APIClient
    deeds: APIClient

    def close(self) -> None:
        """Let their connections go."""
        self.questions.close()
        self.deeds.close()


def _frames(response: requests.Response) -> Iterator[tuple[int, bytes]]:
    """The engine's multiplexed stream: a byte of stream number, 3 unused, 4 of length, content."""
    while len(head := response.raw.read(8)) == 8:
        yield head[0], response.raw.read(int.from_bytes(head[4:], "big"))


def _clients(host: str, pool_size: int) -> Clients:
    where: Mapping[str, Any] = {"base_url": host or USUAL_SOCKET}
    if not host and os.environ.get("DOCKER_HOST"):
        where = kwargs_from_env()
    made = partial(APIClient, max_pool_size=pool_size, **where)
    questions = made(version="auto", timeout=round(QUESTION_S))
    deeds = made(version=questions.api_version, timeout=round(DEED_S))
    for client in (questions, deeds):
        _reuse_connections(client, pool_size)
    return Clients(questions, deeds)


class OneSocket(UnixHTTPAdapter):
    """Connections to one socket, used again whatever the path.

    The SDK keeps them apart by the whole URL, so that each container's call makes a new one.
    """

    def get_connection(self, url: str | bytes, proxies: object = None) -> Any:
        """A connection of the only pool."""
        return super().get_connection("http+docker://localhost", proxies)


def _reuse_connections(client: APIClient, pool_size: int) -> None:
    present = client.get_adapter(client.base_url)
    if isinstance(present, UnixHTTPAdapter):
        path = f"http+unix://{present.socket_path}"
        client.mount(
            "http+docker://", OneSocket(path, timeout=client.timeout, max_pool_size=pool_size)
        )
        present.close()
        client.trust_env = False  # a socket has no proxy, which else is looked for with each call


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
