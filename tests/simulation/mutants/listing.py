"""Bugs in what is listed, and in what counts as listed."""

from __future__ import annotations

from mutants.patching import Mutant, Patch

_API = "m365watch.sources.management_api.management_api_client"
_POLLER = "m365watch.sources.management_api.feed_poller"
_NO_SECOND_LOOK = Patch(
    _POLLER,
    "            if relisted_at <= now < due_at:\n",
    "            if due_at:\n",
)
"""Collectors with one point in time to go on from never list anything again."""
_NO_LOOK_BACK = Patch(
    "m365watch.sources.management_api.listing_windows", "_floor(newest - lookback)", "_floor(newest)"
)
"""Nor do they begin before it."""
_BAD_PAGE = "            except (Throttled, Unavailable, BadAnswer) as error:\n                tries += 1\n"

MUTANTS = (
    Mutant(
        "last_page_lost",
        "the page without a next one ends the listing before it was read; "
        "seen in a downloader that asks for the following page before it keeps the present one",
        (
            Patch(
                _API,
                "            yield page.blobs\n            if not next_page_uri:\n                break\n",
                "            if not next_page_uri and len(seen) > 1:\n                break\n"
                "            yield page.blobs\n            if not next_page_uri:\n                break\n",
            ),
        ),
        hint=0,
    ),
    Mutant(
        "page_header_misread",
        "the header is looked for under another name, so that the first page is all; "
        "seen in a cloud function and in several collectors that never heard of pages",
        (Patch(_API, '"NextPageUri"\n', '"NextPageUrl"\n'),),
        hint=0,
    ),
    Mutant(
        "token_to_a_named_host",
        "the next page is asked for where the answer says, token and all; seen in most collectors",
        (
            Patch(
                "m365watch.sources.management_api.management_api_client",
                '        return self._url(f"subscriptions/content?{asked}&{self._publisher}")\n',
                '        return URL(f"{next_page_uri.strip()}&{self._publisher}", encoded=True)\n',
            ),
        ),
        hint=0,
    ),
    Mutant(
        "refused_window_as_empty",
        "a window that the service refuses (AF20055) counts as one without content; seen in an "
        "agent's module",
        (
            Patch(
                _API,
                _BAD_PAGE,
                "            except WindowRefused:\n"
                f"                return ListedPage([], []), None\n{_BAD_PAGE}",
            ),
        ),
        hint=21,
    ),
    Mutant(
        "cursor_plus_a_second",
        "the next window begins one second after the last one, and nothing is listed twice; "
        "seen in collectors that keep one point in time",
        (
            Patch(
                "m365watch.sources.management_api.listing_windows",
                "    live = [Window(live_start, end)]\n",
                "    live = [Window(live_start + timedelta(seconds=bool(coverage)), end)]\n",
            ),
            Patch(
                "m365watch.ledger.sqlite_ledger",
                "    spans.append((start_s, end_s))\n",
                "    spans.append((start_s - 1, end_s))\n",
            ),
        ),
        hint=3,
        lacks=(_NO_LOOK_BACK, _NO_SECOND_LOOK),
    ),
    Mutant(
        "cursor_past_a_failed_window",
        "a window whose listing failed counts as listed, because the next one overwrites the point in time; "
        "seen in a widely used add-on",
        (
            Patch(
                _POLLER,
                "            failures[window.end] = error.with_traceback(None)\n            return False\n",
                "            failures[window.end] = error.with_traceback(None)\n"
                "            await self._commit(window, [], complete=True)\n            return False\n",
            ),
        ),
        hint=2,
    ),
    Mutant(
        "no_look_back",
        "what is listed late, behind the newest instant that was listed, is never seen; "
        "seen in every collector with one point in time",
        (
            _NO_LOOK_BACK,
            _NO_SECOND_LOOK,
        ),
        hint=2,
    ),
    Mutant(
        "window_end_taken_as_inclusive",
        "windows are listed without their last second, because somebody took the end for a part of them",
        (
            Patch(
                "m365watch.sources.management_api.management_api_client",
                "_whole_seconds(window.end + _LAST_INSTANT_OF_SECOND)",
                "_whole_seconds(window.end - timedelta(seconds=1))",
            ),
        ),
        hint=29,
        lacks=(_NO_LOOK_BACK, _NO_SECOND_LOOK),
    ),
    Mutant(
        "refused_token_as_empty",
        "HTTP 401 counts as an answer without content, and the token stays as it is; "
        "seen where headers are copied once at the start",
        (
            Patch(
                _API,
                "            token = await self._tokens.renewed(token)\n"
                "            answer = await self._send(url, request, token=token)\n",
                "            answer = Answer(200, answer.headers, b'[]')\n",
            ),
        ),
        hint=3,
        lacks=(_NO_LOOK_BACK, _NO_SECOND_LOOK),
    ),
    Mutant(
        "gap_not_counted",
        "what was never listed and is too old to be is not told; seen in every collector that starts at "
        "the 7-day edge after a long stop",
        (
            Patch(
                _POLLER,
                "        for gap in unreachable_spans(coverage, now, margin=self._margin):\n",
                "        for gap in unreachable_spans([], now, margin=self._margin):\n",
            ),
        ),
        hint=29,
    ),
    Mutant(
        "refused_token_ends_the_listing",
        "a page token that is refused ends the listing as if there were no further page; seen where a failed "
        "page is a warning",
        (
            Patch(
                _API,
                "            page, next_page_uri = await self._page(url, request, feed)\n",
                "            try:\n"
                "                page, next_page_uri = await self._page(url, request, feed)\n"
                "            except WindowRefused:\n                if len(seen) == 1:\n"
                "                    raise\n                break\n",
            ),
        ),
        hint=99,
        lacks=(_NO_SECOND_LOOK,),
    ),
    Mutant(
        "repeated_page_ends_the_listing",
        "a page that was there before ends the listing, though another one follows it at the next try; seen "
        "where a loop is only to be broken",
        (
            Patch(
                _API,
                'raise WindowRefused(f"the pages go in circles after {len(seen)}", where=where)\n',
                "break\n",
            ),
        ),
        hint=104,
        lacks=(_NO_LOOK_BACK, _NO_SECOND_LOOK),
    ),
    Mutant(
        "starts_now",
        "where there is no state, listing begins with the present, and what came before is never listed; "
        "seen in several collectors after a lost state",
        (
            Patch(
                "m365watch.sources.management_api.listing_windows",
                "    holes = _without([Window(start, live_start)], coverage)\n",
                "    before = [Window(coverage[0].start, live_start)] if coverage else []\n"
                "    holes = _without(before, coverage)\n",
            ),
        ),
        hint=0,
        lacks=(_NO_SECOND_LOOK,),
    ),
)
