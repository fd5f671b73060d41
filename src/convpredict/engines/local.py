"""The local engine: run one function over many buckets in threads, results in the order of the buckets."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def worker_count(n_jobs: int | None = None) -> int:
    """Threads to use: ``n_jobs``, or the CPUs this process may run on (``None`` or -1).

    >>> worker_count(3)
    3
    >>> worker_count(None) >= 1
    True
    """
    if n_jobs is not None and n_jobs > 0:
        return n_jobs
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def map_buckets(
    function: Callable[[T], R],
    buckets: Iterable[T],
    n_jobs: int | None = None,
    *,
    ahead: int = 1,
    inline: bool = True,
) -> Iterator[R]:
    """Yield ``function(bucket)`` for every bucket, in order, computed by ``n_jobs`` threads.

    The kernels release the GIL, so threads do. ``buckets`` is consumed as results are: at most
    ``n_jobs + ahead`` of them are taken before the first result is handed out, which bounds the memory.
    One job runs in the calling thread, unless ``inline`` is false: then beside it.

    >>> list(map_buckets(lambda number: number * number, range(5), n_jobs=2))
    [0, 1, 4, 9, 16]
    """
    workers = worker_count(n_jobs)
    if workers == 1 and inline:
        yield from map(function, buckets)
        return
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="bucket") as pool:
        try:
            for bucket in buckets:
                pending.append(pool.submit(function, bucket))
                if len(pending) >= workers + ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
