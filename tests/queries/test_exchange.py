import io
import json
import sqlite3
import sys
import zipfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import sentence
from made import content, make_preference, make_query, make_segment
from people import make_queries, make_run

from prefrl.cli import main
from prefrl.experience.backends import make_vec_env
from prefrl.experience.recorder import Recorder
from prefrl.queries.exchange import agreements, read, report, store_of, write, write_minari
from prefrl.queries.rows import checked
from prefrl.queries.store import Counts, Rows, Store
from prefrl.queries.store_tables import INTEGERS
from prefrl.words.errors import UserError
from prefrl.words.preference import Preference, question_key, question_key_by_contents
from prefrl.words.stats import cohen_kappa


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every kind of event: answers of two people, a skip, one taken back, open questions."""
    queries = make_queries("HalfCheetah-v5", 8, 5)
    made = make_run(tmp_path_factory.mktemp("labels") / "run", "HalfCheetah-v5", queries)
    with Store(made / "labels.sqlite") as store:
        for lease, mu in zip(store.lease("ann", 4, 60), (1.0, 0.0, 0.5, None), strict=True):
            store.answer(lease.key, "ann", lease.ticket, mu, 1.25)
        lease = store.lease("ann", 1, 60)[0]
        store.answer(lease.key, "ann", lease.ticket, 1.0, 9.0)
        store.withdraw("ann", 60)
        store.add([Preference(q, mu, "oracle", 2.0) for q, mu in zip(queries[:3], (1.0, 1.0, 0.5), strict=True)])
    return made


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_what_is_exported_comes_back_whole(
    folder: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["labels", "export", str(folder), "--out", str(tmp_path / "out"), "--format", kind]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"answers.{kind}",
        f"items.{kind}",
        f"segments.{kind}",
        "segments.npz",
    }
    assert main(["labels", "import", str(tmp_path / "out"), "--out", str(tmp_path / "new.sqlite")]) == 0
    with Store(folder / "labels.sqlite") as old, Store(tmp_path / "new.sqlite") as new:
        assert new.counts() == old.counts()
        assert content(new.answers()[0]) == content(old.answers()[0])
        for one, other in zip(old.answers()[0], new.answers()[0], strict=True):
            np.testing.assert_array_equal(one.query.left.scene, other.query.left.scene)
            np.testing.assert_array_equal(one.query.right.actions, other.query.right.actions)
            assert (one.query.left.step, one.query.left.offset) == (other.query.left.step, other.query.left.offset)
        assert [g.answered_at for g in new.given()] == [g.answered_at for g in old.given()]
    assert "8 questions: 6 answers, 1 skipped, 4 open, 1 answers taken back" in capsys.readouterr().out


def test_the_files_are_what_the_module_says(folder: Path, tmp_path: Path) -> None:
    write(read(folder), tmp_path / "out", "jsonl")
    events = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["question"] * 8 + ["answer"] * 7 + ["withdrawal"]
    answer = events[8]
    assert (answer["labeler"], answer["mu"], answer["seconds"]) == ("ann", 1.0, 1.25)
    assert answer["answered_at"].endswith("+00:00")
    with np.load(tmp_path / "out" / "segments.npz") as arrays:
        assert arrays[f"{answer['left_key']}/observations"].shape == (5, 17)
        assert arrays[f"{answer['left_key']}/scene"].shape == (5, 9)


def test_merging_adds_what_is_not_there_and_nothing_twice(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with Store(other) as store:
        store.add([Preference(make_query(0), 1.0, "bob", 1.0)])
    out = str(tmp_path / "all.sqlite")
    for _ in range(2):
        assert main(["labels", "merge", str(folder), str(other), "--out", out]) == 0
    with Store(out) as store:
        assert (store.counts().asked, store.counts().answered, store.counts().withdrawn) == (9, 7, 1)


def test_segments_become_a_minari_dataset(folder: Path, tmp_path: Path) -> None:
    import minari

    rows = read(folder)
    write_minari(rows, "cheetah/labels-v0", tmp_path / "datasets")
    dataset = minari.load_dataset("cheetah/labels-v0")
    assert dataset.total_episodes == len(rows["segments"])
    episode = dataset[0]
    observations, actions, rewards = rows["segments"][0]["steps"]
    np.testing.assert_array_equal(episode.observations, observations)
    np.testing.assert_array_equal(episode.actions, actions[:-1])
    np.testing.assert_allclose(episode.rewards, rewards[:-1])
    assert not episode.terminations.any()
    assert episode.truncations.tolist() == [False] * 3 + [True]
    with pytest.raises(UserError, match="Minari cannot make"):
        write_minari(rows, "cheetah/labels-v0", tmp_path / "datasets")
    with pytest.raises(UserError, match="nothing of the kind has been asked"):
        write_minari({**rows, "segments": []}, "cheetah/none-v0", tmp_path / "datasets")


@pytest.fixture
def general() -> Rows:
    """What questions of every kind, and every answer that the tables have room for, look like."""
    segments = [make_segment(number) for number in range(4)]
    then = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    shown = {"pair": segments[:2], "ranking": segments, "best": segments[1:]}
    keys = {kind: question_key(kind, [(s.key, s.occasion) for s in some]) for kind, some in shown.items()}
    answer = {"labeler": "ann", "seconds": 2.0, "answered_at": then, "mu": None, "choice": None}
    answer |= {"strength": None, "critique": None}
    said = [("pair", {"mu": 0.8, "strength": 0.5}), ("ranking", {"choice": "2>0=1>3", "critique": "falls; \u00e4h"})]
    return {
        "segments": [
            {"key": s.key, "steps": [s.observations, s.actions, s.rewards], "env_id": s.env_id, "scene": None}
            | {name: getattr(s, name) for name in INTEGERS}
            for s in segments
        ],
        "queries": [{"key": key, "kind": kind, "asked_at": then, "wanted": 0} for kind, key in keys.items()],
        "items": [
            {"query_key": keys[kind], "place": place, "segment_key": s.key}
            | {name: getattr(s, name) for name in INTEGERS}
            for kind, some in shown.items()
            for place, s in enumerate(some)
        ],
        "answers": [answer | {"query_key": keys[kind]} | more for kind, more in said],
        "withdrawals": [answer | {"query_key": keys["best"], "choice": "1", "withdrawn_at": then}],
    }


def plain(rows: Rows) -> dict[str, list[Any]]:
    """Rows that can be compared, in an order of their own."""
    of = {
        table: [{k: v for k, v in row.items() if k not in ("steps", "scene", "answer_id")} for row in some]
        for table, some in rows.items()
    }
    return {table: sorted(some, key=str) for table, some in of.items()}


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "store"])
def test_rankings_and_best_ones_survive_every_way_out_and_in(general: Rows, tmp_path: Path, kind: str) -> None:
    with Store(tmp_path / "one.sqlite") as store:
        store.restore(checked(general, "the test"))
        assert plain(store.dump()) == plain(general)
        assert store.counts() == Counts(asked=3, answered=2, skipped=0, seconds=4.0, open=0, withdrawn=1)
        pair, ranking = store.answers()[0]
        assert (pair.mu, pair.choice, pair.strength, len(pair.query.segments)) == (0.8, None, 0.5, 2)
        assert (ranking.mu, ranking.choice, ranking.query.kind) == (None, "2>0=1>3", "ranking")
        assert [s.key for s in ranking.query.segments] == [make_segment(number).key for number in range(4)]
        assert [len(shown) for shown in store.occasions()] == [2, 4, 3]
    if kind == "store":
        rows = read(tmp_path / "one.sqlite")
    else:
        write(read(tmp_path / "one.sqlite"), tmp_path / "out", kind)
        rows = read(tmp_path / "out")
    with Store(tmp_path / "two.sqlite") as store:
        store.restore(rows)
        store.restore(rows)
        assert plain(store.dump()) == plain(general)


def test_what_older_versions_exported_can_still_be_imported(folder: Path, tmp_path: Path) -> None:
    """Without items, kinds and what else an answer may say; with the keys that pairs had by their contents."""
    rows = read(folder)
    sides = {}
    for item in rows["items"]:
        sides.setdefault(item["query_key"], []).append(item["segment_key"])
    old = {key: question_key_by_contents(*keys) for key, keys in sides.items()}
    rows["queries"] = [row | {"key": old[row["key"]]} for row in rows["queries"]]
    for table in ("items", "answers", "withdrawals"):
        rows[table] = [row | {"query_key": old[row["query_key"]]} for row in rows[table]]
    write(rows, tmp_path / "out", "jsonl")
    (tmp_path / "out" / "items.jsonl").unlink()
    answers = tmp_path / "out" / "answers.jsonl"
    new = ("kind", "choice", "strength", "critique")
    lines = answers.read_text().splitlines()
    events = [{k: v for k, v in json.loads(line).items() if k not in new} for line in lines]
    answers.write_text("".join(json.dumps(event) + "\n" for event in events))
    with Store(tmp_path / "new.sqlite") as store:
        store.restore(read(tmp_path / "out"))
        assert plain(store.dump()) == plain(rows)
        assert store.counts().answered == 6


WRONG = [
    ("answers", {"mu": 7.0}, "row 1 of the answers", "mu is 7.0"),
    ("answers", {"mu": float("nan")}, "row 1 of the answers", "mu is nan"),
    ("answers", {"seconds": -1.0}, "row 1 of the answers", "seconds is -1.0"),
    ("answers", {"seconds": float("inf")}, "row 1 of the answers", "seconds is inf"),
    ("answers", {"seconds": "3"}, "row 1 of the answers", "seconds is '3'"),
    ("answers", {"labeler": ""}, "row 1 of the answers", "labeler is ''"),
    ("answers", {"query_key": "f" * 32}, "row 1 of the answers", "is not there"),
    ("answers", {"answered_at": "yesterday"}, "row 1 of the answers", "no time"),
    ("answers", {"choice": "0>1"}, "row 1 of the answers", "choice is '0>1'"),
    ("answers", {"strength": 2.0}, "row 1 of the answers", "strength is 2.0"),
    ("withdrawals", {"withdrawn_at": None}, "row 1 of the withdrawals", "no time"),
    ("withdrawals", {"choice": "3"}, "row 1 of the withdrawals", "choice is '3' of 3"),
    ("queries", {"kind": "duel"}, "row 1 of the queries", "kind is 'duel'"),
    ("queries", {"wanted": -1}, "row 1 of the queries", "wanted is -1"),
    ("queries", {"key": "0" * 32}, "row 1 of the queries", "shows 0 segments"),
    ("items", {"offset": 12}, "row 1 of the queries", "its key is"),
    ("items", {"place": 5}, "row 1 of the queries", "place 0"),
    ("items", {"segment_key": "0" * 32}, "row 1 of the items", "is not there"),
    ("segments", {"key": "0" * 32}, "row 1 of the segments", "its key is"),
    ("segments", {"episode": -3}, "row 1 of the segments", "episode is -3"),
    ("segments", {"seed": 2**63}, "row 1 of the segments", "seed is"),
    ("segments", {"env_id": None}, "row 1 of the segments", "env_id is None"),
    ("segments", {"steps": [np.zeros((2, 2)), np.zeros((3, 1)), np.zeros(3)]}, "row 1 of the segments", "[2, 3] steps"),
    ("segments", {"scene": np.zeros(9)}, "row 1 of the segments", "its scene"),
]


@pytest.mark.parametrize(("table", "change", "where", "what"), WRONG, ids=lambda value: str(value)[:30])
def test_a_row_that_cannot_be_is_named_and_none_is_taken(
    general: Rows, table: str, change: dict[str, Any], where: str, what: str
) -> None:
    checked(general, "as it is")
    general[table][0] = general[table][0] | change
    with pytest.raises(UserError) as caught:
        checked(general, "somewhere")
    assert where in sentence(caught.value)
    assert what in str(caught.value)
    assert "none was taken" in str(caught.value)


def test_choices_are_places_from_best_to_worst_each_once(general: Rows) -> None:
    for choice in ("3>2>1>0", "0=1=2=3"):
        general["answers"][1]["choice"] = choice
        checked(general, "the test")
    for choice in ("0>1", "0>1>2>2", "0>1>2>4", "0>1>2>3>", "a", "", 3, "0,1,2,3"):
        general["answers"][1]["choice"] = choice
        with pytest.raises(UserError, match=r"row 2 of the answers .* choice is"):
            checked(general, "the test")


def test_an_import_that_is_refused_changes_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(read(folder), tmp_path / "out", "jsonl")
    answers = tmp_path / "out" / "answers.jsonl"
    answers.write_text(answers.read_text().replace('"mu": 0.0', '"mu": 7', 1))
    target = tmp_path / "all.sqlite"
    assert main(["labels", "merge", str(folder), "--out", str(target)]) == 0
    before = read(target)
    assert main(["labels", "import", str(tmp_path / "out"), "--out", str(target)]) == 2
    assert main(["labels", "import", str(tmp_path / "out"), "--out", str(tmp_path / "none.sqlite")]) == 2
    said = capsys.readouterr().err
    assert said.count("row 2 of the answers") == 2
    assert plain(read(target)) == plain(before)
    assert not (tmp_path / "none.sqlite").exists()


def test_a_damaged_store_is_not_merged(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite"
    with Store(damaged) as store:
        store.restore(read(folder))
    with closing(sqlite3.connect(damaged)) as connection, connection:
        connection.execute("UPDATE answers SET mu = 7 WHERE id = 2")
    with pytest.raises(UserError, match="row 2 of the answers"):
        read(damaged)


def test_arrays_that_claim_to_be_huge_are_refused_before_anything_is_allocated(folder: Path, tmp_path: Path) -> None:
    write(read(folder), tmp_path / "out", "jsonl")
    with zipfile.ZipFile(tmp_path / "out" / "segments.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = min(members)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    members[name] = header.getvalue() + bytes(80)
    with zipfile.ZipFile(tmp_path / "out" / "segments.npz", "w") as archive:
        for member, content_of in members.items():
            archive.writestr(member, content_of)
    with pytest.raises(UserError, match="1000000000000") as caught:
        read(tmp_path / "out")
    sentence(caught.value)


def test_looking_at_a_run_leaves_its_folder_as_it_was(folder: Path, tmp_path: Path) -> None:
    def there() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    before = there()
    assert main(["labels", "stats", str(folder)]) == 0
    assert main(["labels", "export", str(folder), "--out", str(tmp_path / "out"), "--format", "jsonl"]) == 0
    assert main(["labels", "merge", str(folder), "--out", str(tmp_path / "all.sqlite")]) == 0
    assert there() == before


def test_an_export_that_fails_leaves_nothing_in_the_way(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as changed:
        changed.setattr(np, "savez_compressed", full)
        with pytest.raises(UserError, match="No space left"):
            write(read(folder), tmp_path / "out", "jsonl")
    assert list(tmp_path.iterdir()) == []
    write(read(folder), tmp_path / "out", "jsonl")
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_segments_of_different_lengths_become_episodes_and_those_of_one_step_are_counted(tmp_path: Path) -> None:
    """CartPole's last steps are shown in segments as short as one step, which has no transition."""
    import minari

    recorder = Recorder(make_vec_env("CartPole-v1", 2, 0, "gymnasium"), "CartPole-v1", 0, 1_000)
    recorder.reset()
    for step in range(200):
        recorder.step(np.array([step % 2, 0]))
    queries = recorder.pairs(40, 6, np.random.default_rng(0)).queries()
    lengths = {s.key: len(s) for q in queries for s in (q.left, q.right)}
    assert 1 in lengths.values()
    run = make_run(tmp_path / "run", "CartPole-v1", queries)
    left_out = list(lengths.values()).count(1)
    assert write_minari(read(run), "cart/pairs-v0", tmp_path / "datasets") == left_out
    dataset = minari.load_dataset("cart/pairs-v0")
    assert sorted(len(episode.actions) + 1 for episode in dataset) == sorted(n for n in lengths.values() if n > 1)


def test_a_dataset_that_cannot_be_made_does_not_hold_its_id(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minari.dataset.minari_storage import MinariStorage

    def breaks(*_: Any) -> None:
        raise ValueError("Arrays were not all the same length")

    with monkeypatch.context() as changed:
        changed.setattr(MinariStorage, "update_metadata", breaks)
        with pytest.raises(UserError, match="not all the same length"):
            write_minari(read(folder), "cheetah/again-v0", tmp_path / "datasets")
    assert write_minari(read(folder), "cheetah/again-v0", tmp_path / "datasets") == 0


def test_weights_between_are_counted_by_the_side_they_are_on() -> None:
    with Store(":memory:") as store:
        store.add([make_preference(number, mu=mu) for number, mu in enumerate((0.9, 0.7, 0.2, 0.5, None))])
        store.add([make_preference(number, "ann", mu) for number, mu in enumerate((1.0, 0.0, 0.0))])
        (line,) = [line for line in report(store).splitlines() if line.startswith("oracle")]
        assert line.split()[1:5] == ["2", "1", "1", "1"]
        (agreement,) = agreements(store.given())
    assert agreement.kappa == pytest.approx(cohen_kappa([1, 1, 0], [1, 0, 0]))


def test_a_report_says_who_answered_what_and_who_agrees(folder: Path) -> None:
    with Store(folder / "labels.sqlite") as store:
        text = report(store)
        found = agreements(store.given())
    assert "8 questions: 6 answers, 1 skipped, 4 open, 1 answers taken back" in text
    (line,) = [line for line in text.splitlines() if line.startswith("ann ") and "kappa" not in line]
    assert line.split() == ["ann", "1", "1", "1", "1", "1.2"]
    assert [(a.one, a.other, a.questions) for a in found] == [("ann", "oracle", 3)]
    assert found[0].kappa == pytest.approx(0.5)
    assert "kappa 0.50 over 3 questions" in text


def test_kappa_by_hand() -> None:
    """Cohen's own form: 20 and 15 agreed of 50, 25/50 and 30/50 said yes: (0.7 - 0.5) / 0.5."""
    one = [1] * 20 + [1] * 5 + [0] * 10 + [0] * 15
    other = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert cohen_kappa(one, other) == pytest.approx(0.4)
    assert cohen_kappa([1, 0, 0.5], [1, 0, 0.5]) == 1
    assert cohen_kappa([0, 1], [1, 0]) == pytest.approx(-1)
    assert np.isnan(cohen_kappa([1, 1], [1, 1]))
    for a, b in (([], []), ([1], [1, 0]), ([[1]], [[1]])):
        with pytest.raises(UserError, match="as many answers"):
            cohen_kappa(a, b)


def test_wrong_asking_is_one_sentence(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "segments.npz").write_bytes(b"no zip")
    (tmp_path / "broken" / "answers.jsonl").write_text("{")
    for arguments, says in (
        (["export", str(folder)], "needs --out, a new folder"),
        (["merge", str(folder)], "needs --out, the store's file"),
        (["export", str(folder), str(folder), "--out", "x"], "merge them first"),
        (["export", str(tmp_path / "nowhere"), "--out", "x"], "no answers at"),
        (["stats", str(tmp_path)], "no answers at"),
        (["export", str(folder), "--out", str(tmp_path)], "a folder that is not there"),
        (["import", str(tmp_path / "broken"), "--out", str(tmp_path / "new.sqlite")], "export` wrote"),
    ):
        assert main(["labels", *arguments]) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
    assert not (tmp_path / "new.sqlite").exists()


def test_missing_packages_are_one_sentence(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "minari"):
        monkeypatch.setitem(sys.modules, name, None)
    for act in (
        lambda: write(read(folder), tmp_path / "out", "parquet"),
        lambda: write_minari(read(folder), "a/b-v0", tmp_path),
    ):
        with pytest.raises(UserError, match=r"-e \"\.\[exchange\]\" in your checkout") as caught:
            act()
        sentence(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_store_is_found_by_folder_file_or_url(folder: Path) -> None:
    assert store_of(folder) == str(folder / "labels.sqlite")
    assert store_of(folder / "labels.sqlite") == str(folder / "labels.sqlite")
    assert store_of("sqlite:///x.sqlite") == "sqlite:///x.sqlite"
