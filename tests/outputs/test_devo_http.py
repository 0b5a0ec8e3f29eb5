"""The contract over a web server on loopback, and what is special about HTTP with a token in the address."""

from __future__ import annotations

import asyncio
import gzip
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import TypeVar
from urllib.parse import unquote

import pytest
from aiohttp import web
from made_outputs import devo_http_to
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

from background_loop import BackgroundLoop
from m365watch.common.clock import SystemClock
from m365watch.common.errors import CollectorError, OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch, Receipt
from m365watch.outputs.devo.tags import KNOWN_WORKLOADS
from m365watch.outputs.devo_http.devo_http_output import REQUESTS_AT_ONCE_MAX, DevoHttpOutput
from m365watch.outputs.devo_http.spec import DevoHttpSection
from m365watch.registry.outputs import Output
from m365watch_testing.batches import make_batch, make_part, make_record, make_records, make_simple_batch
from m365watch_testing.loopback import Fault, LoopbackServer, Received, Reply
from m365watch_testing.output_contract import OutputContract

T = TypeVar("T")
TOKEN = "0123456789abcdef0123456789abcdef"
OK = Reply()
EXCHANGE = "cloud.office365.management.exchange"
SHAREPOINT = "cloud.office365.management.sharepoint"


def settings_for(url: str, **changes: object) -> DevoHttpSection:
    """The settings of an output named `devo` that posts to `url`."""
    keys: dict[str, object] = {
        "hostname": "collector.example",
        "add_devo_fields": False,
        "timeout_secs": 5.0,
        "collectors_out": False,
    }
    return devo_http_to(url, TOKEN, **keys | changes)


def body_of(received: Received) -> bytes:
    """The body before its compression."""
    if received.headers.get("Content-Encoding") == "gzip":
        return gzip.decompress(received.body)
    return received.body


def records_of(requests: list[Received]) -> list[bytes]:
    """Every line of the requests, in their order."""
    lines: list[bytes] = []
    for received in requests:
        *whole, rest = body_of(received).split(b"\n")
        assert rest == b""
        lines += whole
    return lines


def tag_of(received: Received) -> str:
    """The tag that the request was for."""
    return unquote(received.target.rsplit("/", 1)[1])


def deliver(
    batch: Batch, answer: Callable[[Received], Reply], **changes: object
) -> tuple[Receipt | CollectorError, list[Received]]:
    """What one `deliver` came to, and the requests that it took."""

    async def run() -> tuple[Receipt | CollectorError, list[Received]]:
        async with LoopbackServer(answer) as server:
            output = DevoHttpOutput(settings_for(server.url, **changes), clock=SystemClock())
            await output.open(last_batch=0, position="")
            try:
                return await output.deliver(batch), server.received
            except CollectorError as error:
                return error, server.received
            finally:
                await output.close()

    return asyncio.run(run())


class HttpPlace:
    """A web server that takes everything but what is too large for it."""

    can_undo = False
    exactly_once = False
    keeps_order = False

    def __init__(self, server: LoopbackServer) -> None:
        """`server` runs in a loop of its own."""
        self._server = server

    def make(self) -> DevoHttpOutput:
        """A new output for the server."""
        settings = settings_for(self._server.url, request_megabytes_max=20_000 / (1 << 20))
        return DevoHttpOutput(settings, clock=SystemClock())

    async def kill(self, output: Output) -> None:
        """Close the connections, as the system would."""
        await output.close()

    def records_in(self) -> list[bytes]:
        """Every line that was posted."""
        return records_of([received for received in self._server.received if _fits(received)])

    def refusable_record(self) -> bytes | None:
        """One that no request can carry."""
        return make_record(7, note="x" * 20_000)

    def filled(self) -> AbstractContextManager[None] | None:
        """Not arranged: what it answers then is told one by one below."""
        return None


def _fits(received: Received) -> bool:
    return len(body_of(received)) <= 20_000


@guarantee(12)
class TestDevoHttp(OutputContract):
    """Every promise of an output, at least once."""

    @pytest.fixture
    def place(self) -> Iterator[HttpPlace]:
        """A server in a thread of its own, since each test has its own loop."""
        with BackgroundLoop() as background:
            server = background.enter(LoopbackServer(lambda _: OK))
            yield HttpPlace(server)


def test_the_address_is_the_documented_one() -> None:
    """Endpoint, mode, domain, token, host and tag, one post for each tag, one record a line."""
    part = make_part(make_records(2), outputs=["devo"], tables=[EXCHANGE, SHAREPOINT])

    _, requests = deliver(make_batch(1, [part]), lambda _: OK, compression="none")

    assert sorted((received.method, received.target, received.body) for received in requests) == [
        ("POST", f"/stream/acme/token!{TOKEN}/collector.example/{EXCHANGE}", make_records(1)[0] + b"\n"),
        ("POST", f"/stream/acme/token!{TOKEN}/collector.example/{SHAREPOINT}", make_record(1) + b"\n"),
    ]


def test_bodies_are_compressed_unless_that_makes_them_larger() -> None:
    """Gzip is said in the header; a record too short for it goes as it is."""
    _, many = deliver(make_simple_batch(1, make_records(100), output="devo"), lambda _: OK)
    _, tiny = deliver(make_simple_batch(1, [b"{}"], output="devo"), lambda _: OK)

    assert many[0].headers["Content-Encoding"] == "gzip"
    assert len(many[0].body) < len(body_of(many[0])) / 4
    assert "Content-Encoding" not in tiny[0].headers
    assert tiny[0].body == b"{}\n"


def test_a_batch_is_split_at_the_limit() -> None:
    """No body is larger than the limit, and the records of a tag stay in order."""
    records = make_records(100)
    batch = make_simple_batch(1, records, output="devo")

    receipt, requests = deliver(batch, lambda _: OK, request_megabytes_max=2_000 / (1 << 20))

    assert receipt == Receipt()
    assert max(len(body_of(received)) for received in requests) <= 2_000
    assert records_of(requests) == records


def test_a_body_that_is_too_large_there_is_halved() -> None:
    """HTTP 413 splits until it fits; what does not fit alone is quarantined, and its neighbours arrive."""
    huge = make_record(50, note="x" * 3_000)
    records = [*make_records(20), huge, *make_records(20, start=20)]

    receipt, requests = deliver(
        make_simple_batch(1, records, output="devo"),
        lambda received: OK if len(body_of(received)) <= 2_500 else Reply(413),
    )

    assert isinstance(receipt, Receipt)
    assert [refused.record for refused in receipt.refused] == [huge]
    assert receipt.refused[0].reason == f"the endpoint takes no request of {len(huge) + 1} bytes (HTTP 413)"
    taken = [received for received in requests if len(body_of(received)) <= 2_500]
    assert records_of(taken) == make_records(40)


@guarantee(21)
@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_success_is_the_acknowledgement(status: int) -> None:
    """Devo answers 200 to posts and 204 to single lines."""
    receipt, requests = deliver(make_simple_batch(1, make_records(3), output="devo"), lambda _: Reply(status))

    assert (receipt, len(requests)) == (Receipt(), 1)


@guarantee(21)
@pytest.mark.parametrize(
    ("status", "says"),
    [
        (301, "a redirect is not followed"),
        (307, "a redirect is not followed"),
        (400, "the request is refused"),
        (401, "the token is refused; set `token`"),
        (403, "the token is refused; set `token`"),
        (404, "correct `endpoint` and `domain`"),
        (415, "the request is refused"),
    ],
)
def test_what_a_person_has_to_mend_is_said_with_what_to_do(status: int, says: str) -> None:
    """Nothing is lost, the error is of the kind that needs a person, and no other request goes out."""
    batch = make_simple_batch(1, make_records(3), output="devo")

    error, requests = deliver(batch, lambda _: Reply(status, headers={"Location": "https://other.example/"}))

    assert isinstance(error, OutputUnusable)
    assert str(error).startswith(f"output devo: Devo answered HTTP {status}: ")
    assert says in str(error)
    assert len(requests) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_busy_endpoint_is_left_alone_as_long_as_it_asks(status: int) -> None:
    """`Retry-After` is kept to; without it the pace is the pipeline's."""
    batch = make_simple_batch(1, make_records(3), output="devo")

    asked, _ = deliver(batch, lambda _: Reply(status, headers={"Retry-After": "17"}))
    silent, _ = deliver(batch, lambda _: Reply(status))

    assert isinstance(asked, OutputUnavailable)
    assert isinstance(silent, OutputUnavailable)
    assert str(asked) == f"output devo: Devo answered HTTP {status}; tried again in 17 s, nothing lost"
    assert (asked.after_s, silent.after_s) == (17, None)


@guarantee(21)
@pytest.mark.parametrize(
    ("fault", "says"),
    [(Fault.RESET, "broken"), (Fault.STALL, "no answer in time"), (Fault.CUT, "cut short")],
)
def test_a_post_without_a_whole_answer_is_not_acknowledged(fault: Fault, says: str) -> None:
    """It may have arrived all the same; it is posted again."""
    batch = make_simple_batch(1, make_records(3), output="devo")

    # Long enough for what is answered at once on a busy machine; nothing but a stall takes all of it.
    timeout_s = 0.2 if fault is Fault.STALL else PATIENCE_S
    error, _ = deliver(batch, lambda _: Reply(body=b"abc", fault=fault), timeout_secs=timeout_s)

    assert isinstance(error, OutputUnavailable)
    assert says in str(error)


@guarantee(21)
@pytest.mark.parametrize("place", ["body", "header", "nowhere"])
def test_the_token_is_in_no_error(place: str) -> None:
    """Not even where the endpoint, or what stands before it, says the address back."""

    def answer(received: Received) -> Reply:
        if place == "nowhere":
            return Reply(body=b"x", fault=Fault.RESET)
        if place == "header":
            return Reply(302, headers={"Location": received.target})
        return Reply(400, body=f"no such thing: {received.target}".encode())

    error, _ = deliver(make_simple_batch(1, make_records(1), output="devo"), answer)

    assert isinstance(error, CollectorError)
    assert TOKEN not in f"{error} {error!r} {''.join(traceback.format_exception(error))}"


@guarantee(21)
def test_the_token_is_in_no_error_about_an_answer_that_is_not_http() -> None:
    """The client library names the address in its own error, which goes no further."""

    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async def run() -> OutputUnavailable:
        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        output = DevoHttpOutput(settings_for(f"http://127.0.0.1:{port}"), clock=SystemClock())
        await output.open(last_batch=0, position="")
        with pytest.raises(OutputUnavailable) as caught:
            await output.deliver(make_simple_batch(1, make_records(1), output="devo"))
        await output.close()
        server.close()
        return caught.value

    error = asyncio.run(run())

    assert "the answer is not HTTP" in str(error)
    assert TOKEN not in f"{error} {error!r} {''.join(traceback.format_exception(error))}"


def test_the_endpoints_own_words_are_quoted() -> None:
    """One line of them, and no page of HTML."""
    batch = make_simple_batch(1, make_records(1), output="devo")

    plain, _ = deliver(batch, lambda _: Reply(400, body=b"Unknown tag\nsecond line"))
    page, _ = deliver(batch, lambda _: Reply(502, body=b"<html>Bad gateway</html>"))

    assert 'HTTP 400 ("Unknown tag"): ' in str(plain)
    assert "html" not in str(page)


def test_what_was_taken_is_not_posted_again_with_the_same_batch() -> None:
    """A batch that failed half way goes on where it stopped, so that a busy endpoint gets no repeats."""
    records = make_records(60)
    answers = iter([OK, OK, Reply(503), *[OK] * 100])

    async def run() -> list[Received]:
        async with LoopbackServer(lambda _: next(answers)) as server:
            settings = settings_for(server.url, request_megabytes_max=4_000 / (1 << 20))
            output = DevoHttpOutput(settings, clock=SystemClock())
            await output.open(last_batch=0, position="")
            batch = make_simple_batch(1, records, output="devo")
            with pytest.raises(OutputUnavailable):
                await output.deliver(batch)
            await output.deliver(batch)
            await output.close()
            return server.received

    requests = asyncio.run(run())

    refused = requests.pop(2)
    assert records_of([refused]) == records_of([requests[2]])
    assert records_of(requests) == records


def test_tags_are_posted_side_by_side() -> None:
    """A batch of many tags does not take one round trip after another, and no more than four at once."""
    tables = [f"cloud.office365.management.{name}" for name in sorted(KNOWN_WORKLOADS)[:8]]
    part = make_part(make_records(80), outputs=["devo"], tables=tables * 10)
    now_open, most_open = 0, 0
    are_all_open = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal now_open, most_open
        now_open += 1
        most_open = max(most_open, now_open)
        if now_open == REQUESTS_AT_ONCE_MAX:
            are_all_open.set()
        await request.read()
        await are_all_open.wait()
        await asyncio.sleep(0.02)  # In which one too many would come.
        now_open -= 1
        return web.Response()

    async def run() -> Receipt:
        runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        settings = settings_for(f"http://127.0.0.1:{runner.addresses[0][1]}")
        output = DevoHttpOutput(settings, clock=SystemClock())
        await output.open(last_batch=0, position="")
        async with asyncio.timeout(PATIENCE_S):
            receipt = await output.deliver(make_batch(1, [part]))
        await output.close()
        await runner.cleanup()
        return receipt

    assert asyncio.run(run()) == Receipt()
    assert most_open == REQUESTS_AT_ONCE_MAX == 4


def test_devos_tags_and_fields_are_those_of_the_other_way_in() -> None:
    """A table that Devo lacks becomes the fallback, and the pull cycle stands at the end of the record."""
    part = make_part(make_records(1), outputs=["devo"], tables=["cloud.office365.management.brandnew"])
    part.pulling_id = 1_780_000_000_123

    _, requests = deliver(make_batch(1, [part]), lambda _: OK, add_devo_fields=True)

    assert [tag_of(received) for received in requests] == ["cloud.office365.other"]
    assert records_of(requests) == [make_record(0)[:-1] + b',"@devo_pulling_id":"1780000000123"}']


def test_lines_of_other_tags_are_posted_as_they_are() -> None:
    """What the collector says of itself goes out under its own tags, several lines of one tag in one post."""
    lines = [("devo.collectors.out.local.info", b'{"n":1}'), ("devo.collectors.out.local.error", b'{"n":2}')]

    async def run() -> list[Received]:
        async with LoopbackServer(lambda _: OK) as server:
            output = DevoHttpOutput(settings_for(server.url), clock=SystemClock())
            await output.open(last_batch=0, position="")
            await output.write_tagged([*lines, lines[0]])
            await output.close()
            return server.received

    requests = asyncio.run(run())

    assert [(tag_of(received), body_of(received)) for received in requests] == [
        ("devo.collectors.out.local.info", b'{"n":1}\n{"n":1}\n'),
        ("devo.collectors.out.local.error", b'{"n":2}\n'),
    ]


def test_a_token_that_is_refused_is_found_at_the_start_and_told_once() -> None:
    """One notice is posted to see; a refusal is no reason not to start, and its end is told as well."""
    answers = iter([Reply(401), Reply(401), Reply(401), OK])
    batch = make_simple_batch(1, make_records(1), output="devo")

    async def run() -> tuple[list[CollectorError | None], list[Received]]:
        async with LoopbackServer(lambda _: next(answers)) as server:
            output = DevoHttpOutput(settings_for(server.url, collectors_out=True), clock=SystemClock())
            await output.open(last_batch=0, position="")
            troubles = [output.trouble]
            for _ in range(2):
                with pytest.raises(OutputUnusable):
                    await output.deliver(batch)
                troubles.append(output.trouble)
            await output.deliver(batch)
            await output.close()
            return [*troubles, output.trouble], server.received

    with capture_logs() as lines:
        troubles, requests = asyncio.run(run())

    assert [type(trouble) for trouble in troubles] == [OutputUnusable] * 3 + [type(None)]
    assert tag_of(requests[0]) == "devo.collectors.out.local.info"
    assert [(line["log_level"], line.get("code")) for line in lines] == [
        ("error", "output_unusable"),
        ("info", None),
    ]
    assert lines[0]["event"] == str(troubles[0])


@pytest.mark.parametrize(
    "reply", [Reply(503), Reply(fault=Fault.RESET), Reply(body=b"xx", fault=Fault.STALL)]
)
def test_an_endpoint_that_is_away_is_a_warning_at_the_start(reply: Reply) -> None:
    """Whether it is busy, leaves or says nothing; a notice that is taken later is the end of it."""
    replies = [reply]

    async def run() -> tuple[CollectorError | None, CollectorError | None]:
        async with LoopbackServer(lambda _: replies[0]) as server:
            settings = settings_for(server.url, collectors_out=True, timeout_secs=0.3)
            output = DevoHttpOutput(settings, clock=SystemClock())
            await output.open(last_batch=0, position="")
            trouble = output.trouble
            replies[0] = OK
            async with asyncio.timeout(PATIENCE_S):
                # Once, unless a busy machine lets that one take too long as well.
                while output.trouble is not None:
                    with suppress(OutputUnavailable):
                        await output.write_tagged([("devo.collectors.out.local.info", b"{}")])
            await output.close()
            return trouble, output.trouble

    with capture_logs() as lines:
        first, last = asyncio.run(run())

    assert isinstance(first, OutputUnavailable)
    assert last is None
    assert [line["log_level"] for line in lines] == ["warning", "info"]


def test_a_notice_that_is_taken_says_nothing_of_a_batch_that_is_not() -> None:
    """The trouble lasts until the batch is taken."""

    def answer(received: Received) -> Reply:
        return OK if tag_of(received).startswith("devo.") else Reply(400)

    async def run() -> CollectorError | None:
        async with LoopbackServer(answer) as server:
            output = DevoHttpOutput(settings_for(server.url, collectors_out=True), clock=SystemClock())
            await output.open(last_batch=0, position="")
            with pytest.raises(OutputUnusable):
                await output.deliver(make_simple_batch(1, make_records(1), output="devo"))
            await output.write_tagged([("devo.collectors.out.local.info", b"{}")])
            await output.close()
            return output.trouble

    assert isinstance(asyncio.run(run()), OutputUnusable)
