"""Seeds that once broke a promise: each found a defect, and each is kept by name."""

from __future__ import annotations

import pytest
from promises import guarantee

from judged_seeds import Verdicts


@pytest.fixture
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    return Verdicts(tmp_path_factory)


@guarantee(1)
def test_a_record_of_a_batch_that_all_outputs_were_left_out_of_stays_known(verdicts: Verdicts) -> None:
    """Seed 142: the lake got a record twice.

    Every output was left out of a batch, and got its blobs by a later one. A start deleted the first batch as
    one that nobody has, and with it the only row that had the identities.
    """
    assert verdicts.broken([142]) == []


@guarantee(10)
@pytest.mark.slow
@pytest.mark.parametrize("seed", [10, 141, 148, 151, 157, 179])
def test_a_blob_is_delivered_only_where_all_its_records_are(verdicts: Verdicts, seed: int) -> None:
    """Seeds 10, 141, 148 and others: the first copies of a delivered blob's records were not at every output.

    They were in a batch that a crash could undo; in seed 148 an output was owed them by a blob that expired,
    and what the newer one served of them was lost there.
    """
    assert verdicts.broken([seed]) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [125, 407])
def test_a_gap_is_counted_to_its_end(verdicts: Verdicts, seed: int) -> None:
    """Seeds 125 and 407: content was never listed and not counted as lost.

    The collector had been off for longer than 7 days, and the edge of what is listed moved on before the rest
    was listed, for 3 minutes or for 12 hours: the longer gap began where a shorter one was known already.
    """
    assert verdicts.broken([seed]) == []


@pytest.mark.slow
def test_what_is_queued_for_one_output_is_not_fetched_again_for_it(verdicts: Verdicts) -> None:
    """Seed 732: the wire got a record twice without a break.

    A batch waited for a place in the wire's queue while the lake was left out of it and recalled. Once it
    was in the queue, its blobs were fetched again for both.
    """
    assert verdicts.broken([732]) == []


def test_a_blob_that_a_start_ends_stays_ended(verdicts: Verdicts) -> None:
    """Seed 169: a delivered blob was written as queued again, counted wrongly, and waited for ever.

    Its last output turned out to have it durable, while another batch that carried it was still open.
    """
    assert verdicts.broken([169]) == []


@pytest.mark.slow
def test_the_rest_of_a_batch_that_files_have_in_part_reaches_them(verdicts: Verdicts) -> None:
    """Seed 46: files lacked four records of a delivered blob.

    A full disk cut the batch short that they were getting from their queue, and the ledger was damaged. The
    new one counted the batch's number as the files' last, and they take no number twice.
    """
    assert verdicts.broken([46]) == []


def test_a_queue_older_than_the_horizon_has_names_for_what_is_refused(verdicts: Verdicts) -> None:
    """Seed 270: the collector ended with a TypeError.

    The ledger was damaged, the new one adopted the wire's queue and, after days, forgot the blobs in it. Then
    the wire refused one of their records.
    """
    assert verdicts.broken([270]) == []
