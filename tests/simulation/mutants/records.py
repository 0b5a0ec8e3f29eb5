"""Bugs in what is taken for a record, and for one that was there before."""

from __future__ import annotations

from mutants.patching import Mutant, Patch

_IDENTITY = "m365watch.records.identity"
_PIPELINE = "m365watch.pipeline.batcher"

MUTANTS = (
    Mutant(
        "first_element_only",
        "only the first record of each blob is taken; seen in a data pipeline's source",
        (
            Patch(
                "m365watch.records.split",
                "    return SplitBlob(records, headers)\n",
                "    return SplitBlob(records[:1], headers[:1])\n",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "time_of_the_record_as_cursor",
        "records older than the newest one that was seen are left out, as if they had been there; "
        "seen in integrations that remember the newest CreationTime",
        (
            Patch(
                "m365watch.sources.management_api.fetch_attempts",
                "        return FetchedBlob(self._known, split, received_at, self.held_bytes)\n",
                '        seen = globals().setdefault("_NEWEST", {})\n'
                '        newest = seen.get(ref.feed, "")\n'
                "        both = list(zip(split.records, split.headers, strict=True))\n"
                '        kept = [one for one in both if (one[1].CreationTime or "~") >= newest]\n'
                '        seen[ref.feed] = max([newest, *(one[1].CreationTime or "" for one in both)])\n'
                "        split.records, split.headers = [one[0] for one in kept], [one[1] for one in kept]\n"
                "        return FetchedBlob(self._known, split, received_at, self.held_bytes)\n",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "filter_as_judge",
        "what a Bloom filter may have seen is left out unasked; seen in a collector with a filter of "
        "fixed size",
        (
            Patch(
                _PIPELINE,
                "        parts = _left_of(found, opened.duplicates)\n",
                '        bloom = self.__dict__.setdefault("_bloom", __import__("rbloom").Bloom(20, 0.1))\n'
                "        known = dict(opened.duplicates)\n"
                "        for place, part in enumerate(found):\n"
                "            seen = frozenset(n for n, one in enumerate(part.identities) if one in bloom)\n"
                "            bloom.update(one for one in part.identities if one is not None)\n"
                "            known[place] = known.get(place, frozenset()) | seen\n"
                "        parts = _left_of(found, known)\n",
            ),
        ),
        hint=2,
    ),
    Mutant(
        "content_id_as_only_key",
        "a content id that is known is not fetched again, although it stands for another cut; "
        "seen in an add-on and in a downloader",
        (
            Patch(
                "m365watch.ledger.schema",
                "    UNIQUE (feed, content_id, created_us)\n);\nCREATE INDEX blob_unfinished",
                "    UNIQUE (feed, content_id)\n);\nCREATE INDEX blob_unfinished",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "raw_text_as_key",
        "a record is known by its text, though the order of its keys changes; seen in a downloader",
        (
            Patch(
                _PIPELINE,
                "identities=self._identities.identities(feed.tenant_id, split.served_headers or "
                "split.headers),",
                'identities=[__import__("xxhash").xxh3_128_digest(one) for one in split.records],',
            ),
        ),
        hint=0,
    ),
    Mutant(
        "id_as_only_key",
        "two records with one Id are taken for one, whatever else they say; seen where the Id names "
        "the document",
        (
            Patch(
                _IDENTITY,
                'f"{one.Id}\\x1f{created}\\x1f{one.Operation}\\x1f{one.RecordType}"',
                'f"{one.Id}"',
            ),
        ),
        hint=4,
    ),
    Mutant(
        "no_id_as_an_id",
        "records without Id are taken for each other; seen where a missing field is an empty text",
        (
            Patch(
                _IDENTITY,
                "            else None\n",
                "            else bytes(16)\n",
            ),
        ),
        hint=6,
    ),
    Mutant(
        "own_duplicate",
        "a blob that is fetched again after a crash finds its own records known, though an output "
        "lacks them; "
        "seen where ids are kept before they are delivered",
        (
            Patch(
                "m365watch.ledger.identity_store",
                "if identity in seen or (owner is not None and owner != part.blob):",
                "if identity in seen or owner is not None:",
            ),
        ),
        hint=6,
    ),
    Mutant(
        "fragment_dropped",
        "what is no record is left out and not kept; seen where one bad element is a warning",
        (
            Patch(
                _PIPELINE,
                "        for place, fragment in enumerate(fragments, start=1):\n",
                "        for place, fragment in enumerate(fragments[-1:] if whole else [], "
                "start=len(fragments)):\n",
            ),
        ),
        hint=2,
    ),
)
