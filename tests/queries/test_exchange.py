import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import sentence
from made import content, make_query
from people import make_queries, make_run

from prefrl.cli import main
from prefrl.queries.exchange import agreements, read, report, store_of, write, write_minari
from prefrl.queries.store import Store
from prefrl.words.errors import UserError
from prefrl.words.preference import Preference
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
    with pytest.raises(UserError, match="nothing has been asked"):
        write_minari({**rows, "segments": []}, "cheetah/none-v0", tmp_path / "datasets")


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
        with pytest.raises(UserError, match="prefrl\\[exchange\\]") as caught:
            act()
        sentence(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_store_is_found_by_folder_file_or_url(folder: Path) -> None:
    assert store_of(folder) == str(folder / "labels.sqlite")
    assert store_of(folder / "labels.sqlite") == str(folder / "labels.sqlite")
    assert store_of("sqlite:///x.sqlite") == "sqlite:///x.sqlite"
