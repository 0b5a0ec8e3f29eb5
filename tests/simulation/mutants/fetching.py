"""Bugs in what a failed, strange or large body is taken for."""

from __future__ import annotations

from mutants.patching import Mutant, Patch

_TRIES = "m365watch.sources.management_api.fetch_attempts"
_HANDED_ON = (
    "self._means.on_fetched(FetchedBlob(self._known, SplitBlob([], []), self._means.clock.now(),"
    " self.held_bytes))"
)
_FAILED = "            if not await self._may_retry(failure):\n                return False\n"
_SPLIT = "        split = split_blob(body, wide=means.wide_headers, views=means.views)\n"
_NOTHING = "FetchedBlob(self._known, SplitBlob([], []), received_at, self.held_bytes)"

MUTANTS = (
    Mutant(
        "cursor_past_a_failed_blob",
        "a blob that cannot be fetched is passed over, and progress goes on; seen in shippers and pipelines",
        (Patch(_TRIES, _FAILED, f"            {_HANDED_ON}\n            return True\n"),),
        hint=2,
    ),
    Mutant(
        "throttled_blob_as_empty",
        "HTTP 429 for a blob is no exception, so the blob counts as one without records; seen in two "
        "downloaders",
        (
            Patch(
                _TRIES,
                "            except (RetryLater, NeedsOperator) as error:\n",
                f"            except Throttled:\n                {_HANDED_ON}\n                return True\n"
                "            except (RetryLater, NeedsOperator) as error:\n",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "marked_before_fetched",
        "a blob counts as done when its fetch begins, so that one that fails is never tried again; "
        "seen in an adapter and in a downloader",
        (
            Patch(
                "m365watch.ledger.sqlite_ledger",
                "            (self._feeds.number(feed), now.timestamp(), count_max + len(besides)),\n "
                "       )\n",
                "            (self._feeds.number(feed), now.timestamp(), count_max + len(besides)),\n"
                "        ).fetchall()\n"
                "        self._connection.executemany(\n"
                '            "UPDATE blob SET state = 1, missing = NULL, finished_s = ? WHERE key = ?",\n'
                "            [(now.timestamp(), row[0]) for row in rows],\n        )\n",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "oversized_body_skipped",
        "a body over 1 MiB is left out, and progress goes on; seen in an agent's module",
        (
            Patch(
                _TRIES, _SPLIT, f"{_SPLIT}        if len(body) > 1_048_576:\n            return {_NOTHING}\n"
            ),
        ),
        hint=0,
    ),
    Mutant(
        "error_object_as_empty",
        "an error object under HTTP 200 counts as an answer without records; seen where JSON is read "
        "and not judged",
        (
            Patch(
                "m365watch.sources.management_api.responses",
                "    if said is None and success:\n",
                "    if success:\n",
            ),
            Patch(
                _TRIES, _SPLIT, f'{_SPLIT}        if body.startswith(b"{{"):\n            return {_NOTHING}\n'
            ),
        ),
        hint=2,
    ),
    Mutant(
        "broken_body_as_empty",
        "errors of the JSON decoder are ignored, so a body that cannot be read has no records; seen "
        "in a shipper",
        (Patch(_TRIES, _SPLIT, f"{_SPLIT}        if _doubt(split):\n            return {_NOTHING}\n"),),
        hint=2,
    ),
    Mutant(
        "cut_body_as_whole",
        "what could be read of a body that was cut short is taken for all of it",
        (
            Patch(
                _TRIES,
                "        if doubt := _doubt(split):\n",
                "        if (doubt := _doubt(split)) and not split.records:\n",
            ),
        ),
        hint=25,
    ),
    Mutant(
        "denied_once_as_lost",
        "content that the service denies for a moment counts as expired; seen where 404 ends the matter",
        (
            Patch(
                _TRIES,
                "        if loss_reason(error) != EXPIRED and self._known.ref.expires_at > "
                "self._access.clock.now():\n",
                "        if loss_reason(error) == 'nothing at all':\n",
            ),
        ),
        hint=14,
    ),
    Mutant(
        "guess_never_corrected",
        "what a fetch brought counts in memory with the size that was guessed; seen here",
        (
            Patch(
                _TRIES,
                "        self._means.flight.correct(guessed=self.held_bytes, actual=size_bytes)\n"
                "        self.held_bytes = size_bytes\n",
                "",
            ),
        ),
        hint=45,
    ),
    Mutant(
        "flight_unbounded",
        "fetches begin however much is in memory; seen in most collectors",
        (
            Patch(
                "m365watch.sources.management_api.in_flight_limit",
                "        return self._held == 0 or self._held + size_bytes <= self._bytes_max\n",
                "        return size_bytes > 0\n",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "budget_ignored",
        "requests go out as fast as they can; seen wherever nobody counts them",
        (
            Patch(
                "m365watch.sources.management_api.request_budget",
                "        if self._per_minute is None:\n            return 0.0\n",
                "        if self._per_minute != 0:\n            return 0.0\n",
            ),
        ),
        hint=1,
    ),
    Mutant(
        "poison_holds_a_place",
        "a blob that fails keeps its bytes in flight while it waits for its turn, and others wait behind it; "
        "seen in collectors that retry in the loop",
        (
            Patch(
                _TRIES,
                "            await self._postpone(error, self._wait_s())\n"
                "            return False\n        await self._pause(",
                "            await self._means.clock.sleep(self._wait_s())\n"
                "            return True\n        await self._pause(",
            ),
        ),
        hint=14,
    ),
)
