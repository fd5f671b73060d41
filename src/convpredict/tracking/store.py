"""The connection to MLflow: quiet, without telemetry, without global state."""

from __future__ import annotations

import fcntl
import os
import random
import re
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

from convpredict.config.training import TrackingConfig
from convpredict.errors import ConfigError
from convpredict.files import release

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"
_FIXED: ContextVar[str | None] = ContextVar("tracking_uri", default=None)
_Result = TypeVar("_Result")
_LOCKED = ("database is locked",)
_BOTH_SET = (*_LOCKED, "UNIQUE constraint failed", "duplicate key value", "Duplicate entry")
"""What databases say when two set the same new alias or tag at once: the second one finds it when it tries again."""
_PATIENCE_SECONDS = 60.0
_DEFAULTS = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for results
}
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
_PRIVATE = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def tracking_uri(config: TrackingConfig | None = None) -> str:
    """Where runs go: MLFLOW_TRACKING_URI, else the configuration's uri, else ``sqlite:///mlflow.db``.

    >>> uri = tracking_uri(TrackingConfig(uri="sqlite:///other.db"))
    >>> uri == os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    True
    """
    named = _FIXED.get() or os.environ.get("MLFLOW_TRACKING_URI")
    return named or (config.resolved_uri if config else None) or DEFAULT_URI


@contextmanager
def at_store(uri: str) -> Iterator[None]:
    """Let :func:`tracking_uri` give this one for a while, whatever environment and configuration say."""
    token = _FIXED.set(uri)
    try:
        yield
    finally:
        _FIXED.reset(token)


@contextmanager
def waiting_briefly() -> Iterator[None]:
    """Give a tracking server up soon, for a while: after seconds if it is down, a minute if it never answers.

    For who holds a lock or has other things to do meanwhile. Trainings keep MLflow's own patience: a slow server may
    need minutes for what is uploaded. Where the environment says how long, it is left as it is.
    """
    ours = {name: value for name, value in _IMPATIENT.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def absolute_uri(uri: str) -> str:
    """The URI as it holds from any working directory, without user and password.

    >>> absolute_uri("sqlite:////data/mlflow.db"), absolute_uri("https://me:secret@host")
    ('sqlite:////data/mlflow.db', 'https://***@host')
    """
    file = _sqlite_file(uri)
    if file is not None:
        return f"sqlite:///{file.absolute()}"
    return shown(uri) if urlsplit(uri).scheme else str(Path(uri).absolute())


def connect(uri: str) -> MlflowClient:
    """A client of the store at ``uri``; a new SQLite file is created and set up, which takes two seconds.

    Its calls are repeated while another process holds the SQLite file (see :func:`patiently`). MLflow's usage
    telemetry is switched off in this process's environment before it is imported, whatever the environment said.
    Raises :class:`ConfigError` for a store that MLflow does not know or cannot open.
    """
    os.environ.update(_PRIVATE)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    with quiet():
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            _set_up(uri)
            client = cast(MlflowClient, _Patient(MlflowClient(tracking_uri=uri, registry_uri=uri)))
            client.search_experiments(max_results=1)
        except (MlflowException, ImportError, ValueError) as error:
            raise _unusable(uri, error) from error
        except Exception as error:
            if type(error).__module__.startswith("sqlalchemy."):
                raise _unusable(uri, error) from error
            raise
        return client


class _Patient:
    """A client whose calls wait for their turn, and for each other where two set the same thing."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found
        return partial(patiently, found, passing=_BOTH_SET if name.startswith("set_") else _LOCKED)


def patiently(
    call: Callable[..., _Result],
    *arguments: Any,
    patience: float = _PATIENCE_SECONDS,
    passing: Sequence[str] = _LOCKED,
    **options: Any,
) -> _Result:
    """Call, and again after growing waits while SQLite says that the database is locked, for a minute in all.

    ``passing``: what else an error may say for the call to be repeated.

    Its own waiting does not help two transactions that both have read and want to write: one is refused at once,
    and rolled back, so that it may be repeated. A tracking server passes the same refusal on.
    """
    wait, end = 0.02, time.monotonic() + patience
    while True:
        try:
            return call(*arguments, **options)
        except Exception as error:
            if not any(text in str(error) for text in passing) or time.monotonic() + wait > end:
                raise
        time.sleep(wait * random.uniform(0.5, 1.5))
        wait = min(2 * wait, 2.0)


def is_there(uri: str) -> bool:
    """Whether a store may hold something: not if it is an SQLite file that nobody has made yet.

    >>> is_there("sqlite:////nowhere/mlflow.db"), is_there("https://tracking.example.com")
    (False, True)
    """
    file = _sqlite_file(uri)
    return file is None or file.exists()


@contextmanager
def store_lock(uri: str) -> Iterator[None]:
    """Be alone among the processes that change the champion, as far as the store allows.

    For an SQLite file that is a lock on ``<file>.lock``, which the system frees when a process dies. A tracking
    server has no such thing: callers look again after they have written.
    """
    file = _sqlite_file(uri)
    if file is None:
        yield
        return
    descriptor = os.open(file.with_name(f"{file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        release(descriptor)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's and SQLAlchemy's own deprecations and upgrade notes away from the user."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(mlflow|sqlalchemy|alembic)\b")
        yield


def experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    """The id of an experiment, made if there is none; artifacts of SQLite stores go to ``mlruns`` beside.

    Raises :class:`ConfigError` if it was deleted: MLflow keeps the name until it is restored or purged.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_folder(name, uri)))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise ConfigError(
            f"the MLflow experiment '{name}' at {shown(uri)} is deleted, so no run can be written to it; "
            f"restore it (mlflow experiments restore --experiment-id {found.experiment_id}) or set "
            "tracking.experiment to another name"
        )
    return str(found.experiment_id)


def local_path(artifact_uri: str) -> Path | None:
    """The folder that an artifact URI points to on this machine, or None if it lies elsewhere.

    >>> local_path("file:///data/a%20b"), local_path("/data/x"), local_path("s3://bucket/x")
    (PosixPath('/data/a b'), PosixPath('/data/x'), None)
    """
    parts = urlsplit(artifact_uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(artifact_uri) if parts.scheme == "" else None


def shown(uri: str) -> str:
    """The URI without user and password.

    >>> shown("postgresql://me:secret@host/db"), shown("sqlite:///mlflow.db")
    ('postgresql://***@host/db', 'sqlite:///mlflow.db')
    """
    return re.sub(r"//[^/@]*@", "//***@", uri)


def _sqlite_file(uri: str) -> Path | None:
    prefix = "sqlite:///"
    path = uri.removeprefix(prefix).split("?")[0]
    return Path(path) if uri.startswith(prefix) and path and path != ":memory:" else None


def _set_up(uri: str) -> None:
    """Make a new SQLite store under another name and link it into place when it is whole.

    MLflow creates tables and migrates them one by one: a second process that starts meanwhile, or after the
    first was killed, would find half a store and fail.
    """
    from mlflow.tracking import MlflowClient

    file = _sqlite_file(uri)
    if file is None or file.exists():
        return
    file.absolute().parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{secrets.token_hex(4)}.new")
    try:
        MlflowClient(tracking_uri=f"sqlite:///{fresh}").search_experiments(max_results=1)
        with suppress(FileExistsError):
            os.link(fresh, file)
    finally:
        fresh.unlink(missing_ok=True)


def _artifact_folder(name: str, uri: str) -> str | None:
    file = _sqlite_file(uri)
    if file is None:
        return None
    folder = re.sub(r"[^\w\-.]", "_", name).lstrip(".") or "experiment"
    return (file.absolute().parent / "mlruns" / folder).as_uri()


def _unusable(uri: str, error: Any) -> ConfigError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ConfigError(
        f"MLflow cannot use the tracking store '{shown(uri)}': {shown(first)[:300]}. "
        "Runs would not be recorded; set MLFLOW_TRACKING_URI or tracking.uri to a database like "
        "sqlite:///mlflow.db or to the address of a tracking server, or train without tracking"
    )
