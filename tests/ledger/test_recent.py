"""The identities in memory, against a plain dictionary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from m365watch.common.model import BlobKey
from m365watch.ledger.identity_pages import OWNER_BYTES, RecentIdentities

UNIVERSE = [bytes([number]) * 16 for number in range(40)]
BLOBS = st.integers(1, 5).map(BlobKey)
NUMBERS = st.lists(st.integers(0, len(UNIVERSE) - 1), max_size=8, unique=True)
STEPS = st.lists(
    st.tuples(st.just("add"), BLOBS, NUMBERS)
    | st.tuples(st.sampled_from(["begin", "ask"]), BLOBS, NUMBERS)
    | st.tuples(st.just("end"), BLOBS, NUMBERS),
    max_size=30,
)


@given(STEPS)
def test_every_identity_is_known_with_its_blob_until_its_merge_has_ended(
    steps: list[tuple[str, BlobKey, list[int]]],
) -> None:
    """Whatever is added and asked for while a merge is under way."""
    recent, model, merging = RecentIdentities(), dict[bytes, BlobKey](), list[bytes]()
    for kind, blob, numbers in steps:
        some = [UNIVERSE[number] for number in numbers]
        if kind == "add":
            new = [one for one in some if one not in model]
            recent.add(blob, new)
            model |= dict.fromkeys(new, blob)
        elif kind == "begin" and not merging:
            rows = recent.begin_merge(besides={blob})
            merging = sorted(one for one, owner in model.items() if owner != blob)
            assert rows == [one + model[one].to_bytes(OWNER_BYTES, "big") for one in merging]
        elif kind == "end" and merging:
            recent.end_merge()
            for one in merging:
                del model[one]
            merging = []
        owners = recent.owners_among(set(some))
        assert {one: owners[one] for one in some if one in owners} == {
            one: model[one] for one in some if one in model
        }
        assert len(recent) == len(model)
