import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from recbole_hellm.artifacts import fingerprint
from recbole_hellm.data import fingerprint as module
from recbole_hellm.data.fingerprint import catalogue_digest, events_digest, folder_digests, vectors_digest
from recbole_hellm.testing import CHECKERBOARD, write_checkerboard

TOKENS = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=6, unique=True)


def slow(user, item, user_tokens, item_tokens):
    """The definition: tokens of all events, users sorted, as JSON."""
    rows = [(user_tokens[u], item_tokens[i]) for u, i in zip(user, item, strict=True)]
    rows.sort(key=lambda row: row[0])
    return fingerprint(users=[row[0] for row in rows], items=[row[1] for row in rows])


@settings(deadline=None)
@given(TOKENS, TOKENS, st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12), st.integers(1, 5))
def test_events_are_digested_by_token_whatever_the_pieces(users, items, pairs, chunk):
    users, items = ([token.replace("\x00", "") or "x" for token in tokens] for tokens in (users, items))
    if len(set(users)) < len(users):
        return
    user = np.array([a % len(users) for a, _ in pairs], dtype=np.int32)
    item = np.array([b % len(items) for _, b in pairs], dtype=np.int32)
    before, module._CHUNK = module._CHUNK, chunk
    try:
        assert events_digest(user, item, users, items) == slow(user, item, users, items)
    finally:
        module._CHUNK = before


def test_events_digest_does_not_know_ids():
    one = events_digest(np.array([1, 1, 2]), np.array([2, 1, 1]), ("[PAD]", "b", "a"), ("[PAD]", "x", "y"))
    two = events_digest(np.array([0, 1, 1]), np.array([1, 0, 1]), ("a", "b"), ("y", "x"))
    swapped = events_digest(np.array([0, 1, 1]), np.array([1, 1, 0]), ("a", "b"), ("y", "x"))
    assert one == two != swapped


def test_catalogue_digest_knows_rows_and_not_their_order(tmp_path):
    rows = [f"i{i}\ttitle {i}" for i in range(20)]

    def digest(rows, head="item_id:token\ttitle:token_seq"):
        (tmp_path / "a.item").write_text("\n".join([head, *rows]) + "\n")
        return catalogue_digest(tmp_path / "a.item")

    whole = digest(rows)
    assert digest(random.Random(0).sample(rows, 20)) == whole
    assert (
        len({whole, digest(rows[:-1]), digest([*rows[:-1], "i19\tother"]), digest(rows, "item_id:token\tx:token")}) == 4
    )
    assert digest([*rows, rows[0]]) != whole


def test_vectors_digest_knows_values_ids_and_type():
    vectors, tokens = np.arange(6, dtype=np.float16).reshape(3, 2), ("a", "b", "c")
    whole = vectors_digest(vectors, tokens)
    assert vectors_digest(vectors[::-1], tokens[::-1]) == whole
    others = [(vectors[::-1], tokens), (vectors + 1, tokens), (vectors.astype(np.float32), tokens), (vectors, "abd")]
    assert len({vectors_digest(*other) for other in others} - {whole}) == 4


def test_each_part_of_a_data_set_has_its_own_digest(tmp_path):
    folder = write_checkerboard(tmp_path)
    before = folder_digests(folder, CHECKERBOARD)
    assert set(before) == {"dataset", "events", "catalogue", "features"}
    assert set(before["features"]) == {"image"}
    changes = {
        "events": lambda: (folder / f"{CHECKERBOARD}.inter").open("a").write("u0\ti5\t99\n"),
        "catalogue": lambda: (folder / f"{CHECKERBOARD}.item").open("a").write("new\tx\n"),
        "features": lambda: np.save(folder / "features" / "image.npy", 2 * np.load(folder / "features" / "image.npy")),
    }
    for part, change in changes.items():
        change()
        after = folder_digests(folder, CHECKERBOARD)
        assert {key for key in after if after[key] != before[key]} == {part, "dataset"}
        before = after
    ids = (folder / "features" / "image.ids.txt").read_text()
    (folder / "features" / "text.ids.txt").write_text(ids)
    vectors = np.ones((len(ids.split()), 3), dtype=np.float32)
    save_file({"vectors": vectors}, folder / "features" / "text.safetensors")  # what `encode` writes
    after = folder_digests(folder, CHECKERBOARD)
    assert (set(after["features"]), after["dataset"] != before["dataset"]) == ({"image", "text"}, True)
    np.save(folder / "features" / "text.npy", vectors + 1)  # comes first, as in runs
    assert folder_digests(folder, CHECKERBOARD)["features"]["text"] != after["features"]["text"]
    (folder / f"{CHECKERBOARD}.item").unlink()
    assert folder_digests(folder, CHECKERBOARD)["catalogue"] == ""


@pytest.mark.parametrize(("model", "alone"), [("BPR", True), ("MMHCL", True), ("HeLLM", True), ("SASRec", False)])
def test_a_run_records_the_digest_of_the_events(toy, tmp_path, model, alone):
    """Unsorted rows, times that float32 cannot tell apart, tokens out of order, a user of one event.

    RecBole's own sequential models lose a user of one event, so their data is another one then.
    """
    from recbole.data import create_dataset, data_preparation

    from recbole_hellm.config.recbole_config import HellmConfig
    from recbole_hellm.run_record import events_fingerprint

    settings = toy(MAX_ITEM_LIST_LENGTH=3)  # shorter than the histories
    file = tmp_path / "data" / CHECKERBOARD / f"{CHECKERBOARD}.inter"
    head, *rows = file.read_text().splitlines()
    rows = [f"{user}\t{item}\t{1_700_000_000 + 40 * int(step)}" for user, item, step in map(str.split, rows)]
    rows += ["u3\tnew\t1700000001", *(["zz\ti1\t1700000000"] if alone else [])]
    random.Random(1).shuffle(rows)
    file.write_text("\n".join([head, *rows]) + "\n")
    config = HellmConfig(model, CHECKERBOARD, config_dict=settings)
    data = create_dataset(config)
    data_preparation(config, data)
    assert events_fingerprint(data) == folder_digests(file.parent, CHECKERBOARD)["events"]
