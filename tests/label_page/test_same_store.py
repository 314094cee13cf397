"""The page's own store, while a run writes into the same file."""

import threading
from pathlib import Path

from made import make_query

from prefrl.label_page.same_store import SameStore
from prefrl.queries.store import Store


def test_what_the_page_writes_is_taken_while_a_run_keeps_asking(tmp_path: Path) -> None:
    """SQLite refuses to let a transaction write that has read before another one wrote; the page reads first."""
    path, over, asked = tmp_path / "labels.sqlite", threading.Event(), []

    def ask() -> None:
        with Store(path) as run:
            while not over.is_set():
                run.ask([make_query(len(asked))])
                asked.append(1)

    with SameStore(path) as page:
        run = threading.Thread(target=ask)
        run.start()
        try:
            for _ in range(300):
                page.lease("Ann", 1, 60.0)
        finally:
            over.set()
            run.join()
    assert asked
