"""Who comes in, how, and when it is over."""

from __future__ import annotations

import asyncio
import dataclasses
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace
from promises import guarantee

from asking import board_of
from m365watch.board.access.local_users import Users
from m365watch.board.access.login_routes import safe_back
from m365watch.board.access.login_throttle import KNOWN_S, PER_ADDRESS_MAX, PER_NAME_MAX, PERIOD_S
from m365watch.board.access.passwords import WAITING_MAX, Crowded, Passwords, fault_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.access.sessions import (
    BY_ITSELF_HEADER,
    EACH_MAX,
    FILE_NAME,
    SESSIONS_MAX,
    Sessions,
    SessionTimes,
    house_of,
)
from m365watch.board.app.application import Board, Listening
from m365watch.board.query.data_sources import Sources
from m365watch.common.errors import NeedsOperator
from m365watch_testing.clock import FakeClock
from signing import IDLE_S, LIFE_S, PASSWORD, QUICK, Browser, entrance_in, user_named


@pytest.fixture
def door(tmp_path: Path, sources: Sources) -> tuple[Board, FakeClock, Users]:
    """A board that Ann signs in to."""
    entrance, clock = entrance_in(tmp_path, user_named("ann"), user_named("vera", "viewer"))
    return board_of(sources, entrance=entrance), clock, entrance.users


Door = tuple[Board, FakeClock, Users]


def test_nothing_is_shown_before_somebody_has_signed_in(door: Door) -> None:
    """Pages lead to the sign-in and back again; whatever else is asked for is refused."""
    stranger = Browser(door[0])

    async def act() -> None:
        page = await stranger.get("/overview?range=7d")
        assert (page.status, page.headers["location"]) == (303, "/sign-in?next=%2Foverview%3Frange%3D7d")
        for url in ("/panel/overview/activity", "/export/overview/recent.csv", "/live", "/nowhere"):
            assert (await stranger.get(url, accept="*/*")).status == 401
        swapped = await stranger.get(
            "/panel/overview/recent",
            **{"HX-Request": "true", "HX-Current-URL": "http://127.0.0.1:8365/overview?range=7d"},
        )
        assert (swapped.status, swapped.headers["hx-redirect"]) == (401, page.headers["location"])
        assert (await stranger.get("/healthz")).text == "ok\n"
        assert (await stranger.post("/alerts/state")).status == 401

    asyncio.run(act())


@guarantee(26)
@pytest.mark.parametrize("said", ["http://[", "https://a]b/", "http://a:b/", "", "\u00ff"])
def test_an_address_that_is_none_leads_to_the_sign_in(door: Door, said: str) -> None:
    """Anybody may send such a header before they have signed in: no defect comes of it."""
    stranger = Browser(door[0])
    asked = stranger.get("/panel/overview/recent", **{"HX-Request": "true", "HX-Current-URL": said})
    answer = asyncio.run(asked)

    assert answer.status == 401
    assert answer.headers["hx-redirect"].startswith("/sign-in")


@guarantee(42)
def test_every_route_but_the_door_is_shut(door: Door) -> None:
    """A route that somebody adds tomorrow is not answered to strangers either."""
    paths = {str(getattr(route, "path", "")) for route in door[0].app.routes}
    for path in paths - {"/healthz", "/readyz"}:
        url = path.replace("{page}", "overview").replace("{panel}", "recent")
        if not path.startswith(("/static", "/sign-in")):
            assert asyncio.run(Browser(door[0]).get(url, accept="*/*")).status == 401, path


def test_name_and_password_open_the_page_that_was_asked_for(door: Door) -> None:
    """The session's cookie is for no script, no other site and nobody on the way."""
    ann = Browser(door[0])

    async def act() -> None:
        answer = await ann.sign_in("Ann", back="/health?range=7d")
        assert (answer.status, answer.headers["location"]) == (303, "/health?range=7d")
        page = await ann.get("/overview")
        assert page.status == 200
        assert "Sign out" in page.text
        assert ">ann<" in page.text

    asyncio.run(act())
    [cookie] = [one for one in ann.set_cookies if one.startswith("m365watch=")]
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= {*cookie.split("; ")}


def test_behind_https_the_cookie_belongs_to_this_host_alone(tmp_path: Path, sources: Sources) -> None:
    """Its prefix has the browser refuse one that another host, or an unencrypted page, has set."""
    entrance, _ = entrance_in(tmp_path, user_named("ann"), secure=True)
    listening = Listening("0.0.0.0", 8443, "https://board.example:8443")
    board = board_of(sources, entrance=entrance, listening=listening)
    ann = Browser(board, host="board.example:8443")

    answer = asyncio.run(ann.sign_in("ann"))

    [cookie] = [one for one in ann.set_cookies if one.startswith("__Host-m365watch=")]
    assert "Secure" in cookie.split("; ")
    assert "max-age=31536000" in answer.headers["strict-transport-security"]
    assert asyncio.run(Browser(board, host="other.example:8443").get("/sign-in")).status == 421


def test_a_session_cookie_is_nothing_that_can_be_guessed_or_read_back(tmp_path: Path) -> None:
    """The board keeps the hash of it alone."""
    sessions = Sessions(SessionTimes(9, 9), stamp_of=lambda _: "s", path=tmp_path / FILE_NAME)
    drawn = sessions.open(Access("ann", Role.VIEWER, None), stamp="s", now_s=0)

    assert len(drawn) >= 43
    assert drawn.encode() not in (tmp_path / FILE_NAME).read_bytes()
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert sessions.find(drawn[:-1], now_s=1) is None
    assert sessions.find("", now_s=1) is None


@guarantee(42)
@pytest.mark.parametrize(("name", "password"), [("ann", "wrong password!"), ("nobody", PASSWORD), ("", "")])
def test_whoever_is_refused_learns_nothing(door: Door, name: str, password: str) -> None:
    """The same words for a wrong name and a wrong password."""
    answer = asyncio.run(Browser(door[0]).sign_in(name, password))

    assert answer.status == 401
    assert "The name or the password is not right." in answer.text


@guarantee(42)
def test_a_name_that_is_not_there_takes_as_long() -> None:
    """A hash is computed all the same, so that no clock tells who has an account."""

    class Counting(type(QUICK)):  # type: ignore[misc]
        verified = 0

        def verify(self, *given: object) -> bool:
            Counting.verified += 1
            return bool(super().verify(*given))

    passwords = Passwords(Counting(time_cost=1, memory_cost=8, parallelism=1))

    assert not asyncio.run(passwords.is_right(PASSWORD, None))
    assert not asyncio.run(passwords.is_right("another one", QUICK.hash(PASSWORD)))
    assert Counting.verified == 2


def test_a_form_of_another_page_signs_nobody_in(door: Door) -> None:
    """Nobody can be signed in as somebody else without noticing."""
    body = f"name=ann&password={PASSWORD}&next=/".encode()
    ann = Browser(door[0])

    assert asyncio.run(ann.post("/sign-in", body=body)).status == 403
    assert asyncio.run(ann.post("/sign-in", {"sec-fetch-site": "cross-site"}, body=body)).status == 403
    assert "m365watch" not in ann.cookies


def test_a_form_of_more_fields_than_ours_is_none(door: Door) -> None:
    """Found by the fuzzer: it was a defect, before anybody had signed in."""
    body = b"&".join(b"name%d=ann" % number for number in range(40))

    assert asyncio.run(Browser(door[0]).post("/sign-in", body=body)).status == 403


@pytest.mark.parametrize(
    "back",
    ["//evil.example", "https://evil.example", "/\\evil.example", "/sign-in?x", "x", "", "/a\nb", "/" * 3],
)
def test_signing_in_leads_nowhere_else(back: str) -> None:
    """What a link says of where to go is a page of ours, or is not followed."""
    assert safe_back(back) == "/"


def test_signing_in_leads_back_to_the_page_of_sign_ins() -> None:
    """Its address begins as that of the form does, and is another."""
    assert safe_back("/sign-ins?range=7d") == "/sign-ins?range=7d"


@guarantee(42)
def test_sign_out_ends_the_session(door: Door) -> None:
    """The cookie that the browser had opens nothing any more."""
    ann = Browser(door[0])

    async def act() -> None:
        await ann.sign_in("ann")
        token, kept = await ann.token(), dict(ann.cookies)
        assert (await ann.post("/sign-out")).status == 403
        answer = await ann.post("/sign-out", token)
        assert (answer.status, answer.headers["hx-redirect"]) == (204, "/sign-in?out")
        assert "m365watch" not in ann.cookies
        ann.cookies = kept
        assert (await ann.get("/overview")).status == 303
        assert "You are signed out" in (await ann.get("/sign-in?out")).text

    asyncio.run(act())


@guarantee(42)
def test_a_session_ends_when_it_is_not_used(door: Door) -> None:
    """What an open page asks by itself is no use."""
    board, clock, _ = door
    ann = Browser(board)

    async def act() -> None:
        await ann.sign_in("ann")
        for _ in range(3):
            await clock.advance(IDLE_S - 1)
            assert (await ann.get("/overview")).status == 200
        await clock.advance(IDLE_S - 10)
        by_itself = await ann.get("/panel/overview/health", **{BY_ITSELF_HEADER: "1"})
        assert by_itself.status == 200
        await clock.advance(10)
        assert (await ann.get("/overview")).status == 303

    asyncio.run(act())


@guarantee(42)
def test_a_session_ends_however_much_it_is_used(door: Door) -> None:
    """After its time somebody has to sign in again."""
    board, clock, _ = door
    ann = Browser(board)

    async def act() -> int:
        await ann.sign_in("ann")
        for _ in range(round(LIFE_S / IDLE_S * 2)):
            await clock.advance(IDLE_S / 2)
            answer = await ann.get("/overview")
        return answer.status

    assert asyncio.run(act()) == 303


@guarantee(42)
@pytest.mark.parametrize("what", ["removed", "demoted", "password", "unreadable"])
def test_a_change_of_a_user_ends_their_sessions(door: Door, what: str) -> None:
    """Nobody goes on with rights that they have not any more."""
    board, _, users = door
    ann, vera = Browser(board), Browser(board)
    other = Users(users.path.parent)  # as another process has it

    async def act() -> tuple[int, int]:
        await ann.sign_in("ann")
        await vera.sign_in("vera")
        user = other.find("ann")
        assert user is not None
        if what == "removed":
            other.remove("ann")
        elif what == "demoted":
            other.put(replace(user, role="viewer"))
        elif what == "password":
            other.put(replace(user, hash=QUICK.hash("another one")))
        else:
            other.put(replace(user, contents=False))
        return (await ann.get("/overview")).status, (await vera.get("/overview")).status

    assert asyncio.run(act()) == (303, 200)


def test_the_token_of_one_session_is_not_anothers(door: Door) -> None:
    """What one page can read does nothing in another session."""
    ann, vera = Browser(door[0]), Browser(door[0])

    async def act() -> tuple[int, int]:
        await ann.sign_in("ann")
        await vera.sign_in("vera")
        stolen = await ann.token()
        return (await vera.post("/overview", stolen)).status, (await ann.post("/overview", stolen)).status

    assert asyncio.run(act()) == (403, 405)


@guarantee(42)
def test_guessing_is_slow(door: Door) -> None:
    """After some failures nobody may try for that name, even with the right password, for a while."""
    board, clock, _ = door

    async def act() -> None:
        for number in range(PER_NAME_MAX):
            guess = await Browser(board, client=f"192.0.2.{number}").sign_in("ann", "guess guess guess")
            assert guess.status == 401
        answer = await Browser(board, client="192.0.2.99").sign_in("ann")
        assert (answer.status, answer.headers["retry-after"]) == (429, str(round(PERIOD_S / PER_NAME_MAX)))
        assert "Try again in 2 minutes" in answer.text
        unknown = [
            await Browser(board, client=f"198.51.100.{number}").sign_in("zoe", "x")
            for number in range(PER_NAME_MAX + 1)
        ]
        assert [one.status for one in unknown] == [401] * PER_NAME_MAX + [429]
        assert (await Browser(board, client="192.0.2.99").sign_in("vera")).status == 303
        await clock.advance(PERIOD_S / PER_NAME_MAX)
        assert (await Browser(board, client="192.0.2.99").sign_in("ann")).status == 303

    asyncio.run(act())


@guarantee(42)
def test_strangers_lock_nobody_out_of_where_they_were(door: Door) -> None:
    """Guesses of others hold up no address that the name signed in from lately, whose own are counted."""
    board, clock, _ = door
    home = "198.51.100.20"

    async def tries(client: str, count: int) -> list[int]:
        return [(await Browser(board, client=client).sign_in("ann", "x")).status for _ in range(count)]

    async def act() -> None:
        assert (await Browser(board, client=home).sign_in("ann")).status == 303
        for number in range(PER_NAME_MAX):
            assert await tries(f"192.0.2.{number}", 1) == [401]
        assert await tries("192.0.2.99", 1) == [429]
        assert (await Browser(board, client=home).sign_in("Ann")).status == 303
        assert await tries(home, PER_NAME_MAX + 1) == [401] * PER_NAME_MAX + [429]
        await clock.advance(KNOWN_S)
        for number in range(PER_NAME_MAX):
            await tries(f"192.0.2.{number}", 1)
        assert (await Browser(board, client=home).sign_in("ann")).status == 429

    asyncio.run(act())


@guarantee(42)
def test_strangers_at_the_same_address_lock_nobody_out(door: Door) -> None:
    """Behind a proxy or NAT others' guesses have one's address: thirty of them held up who had been there."""
    board, _, _ = door
    office = "198.51.100.20"

    async def tries(name: str, password: str = "x") -> int:
        return (await Browser(board, client=office).sign_in(name, password)).status

    async def act() -> None:
        assert (await Browser(board, client=office).sign_in("ann")).status == 303
        guessed = [await tries(f"guess{number}") for number in range(PER_ADDRESS_MAX + 1)]
        assert guessed == [401] * PER_ADDRESS_MAX + [429]
        assert (await Browser(board, client=office).sign_in("vera")).status == 429
        assert (await Browser(board, client=office).sign_in("ann")).status == 303
        assert [await tries("ann") for _ in range(PER_NAME_MAX + 1)] == [401] * PER_NAME_MAX + [429]

    asyncio.run(act())


@pytest.mark.slow
def test_sessions_are_bounded() -> None:
    """Neither one person nor all together can fill the memory."""
    sessions = Sessions(SessionTimes(9, 9), stamp_of=lambda _: "s")
    mine = [sessions.open(Access("ann", Role.VIEWER, None), stamp="s", now_s=0) for _ in range(EACH_MAX + 1)]
    for number in range(SESSIONS_MAX - EACH_MAX):
        sessions.open(Access(f"user{number}", Role.VIEWER, None), stamp="s", now_s=0)

    assert sessions.find(mine[0], now_s=1) is None
    assert sessions.find(mine[1], now_s=5) is not None
    sessions.open(Access("last", Role.VIEWER, None), stamp="s", now_s=5)
    assert sessions.find(mine[2], now_s=1) is None


@guarantee(42)
def test_a_session_outlasts_the_board(tmp_path: Path) -> None:
    """A restart signs nobody out; what ended before, or began under other grants, stays over."""
    path, house = tmp_path / FILE_NAME, house_of("grants")
    ann = Access("ann", Role.ANALYST, frozenset({"t"}), sees_contents=False)

    def board(house: str = house) -> Sessions:
        return Sessions(SessionTimes(9, 90), stamp_of=lambda _: "s", path=path, house=house)

    before = board()
    drawn, left = (before.open(ann, stamp="s", now_s=0) for _ in range(2))
    before.close(left)
    before.shut()
    after = board()

    found = after.find(drawn, now_s=8)
    assert found is not None
    assert dataclasses.replace(found, session="") == ann
    assert after.find(left, now_s=8) is None
    assert after.find(drawn, now_s=16) is not None  # the use before put off its end
    assert after.find(drawn, now_s=26) is None
    other = after.open(ann, stamp="s", now_s=26)
    assert board(house_of("other grants")).find(other, now_s=27) is None


def test_a_file_that_cannot_be_written_lets_people_sign_in(tmp_path: Path) -> None:
    """With a full disk the sessions end with the board, and none that has ended comes back from the file."""
    sessions = Sessions(SessionTimes(9, 9), stamp_of=lambda _: "s", path=tmp_path / FILE_NAME)
    old = sessions.open(Access("ann", Role.VIEWER, None), stamp="s", now_s=0)
    sessions._file.execute("PRAGMA query_only = 1")

    new = sessions.open(Access("ann", Role.VIEWER, None), stamp="s", now_s=1)

    assert sessions.find(new, now_s=2) is not None
    assert sessions.find(old, now_s=2) is None
    assert not (tmp_path / FILE_NAME).exists()


def test_a_crowd_at_the_door_waits_outside() -> None:
    """Comparing passwords takes memory: only so many are compared or wait at a time."""
    passwords = Passwords(QUICK)

    async def act() -> list[object]:
        asked = [passwords.is_right("x", None) for _ in range(WAITING_MAX + 3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    assert sum(isinstance(one, Crowded) for one in asyncio.run(act())) == 3


@pytest.mark.parametrize("password", ["short", "ann is my name", "aaaaaaaaaaaaaaaa", "x" * 300])
def test_an_easy_password_is_refused(password: str) -> None:
    """Length is what counts; a name, or one letter again and again, is no password."""
    assert fault_of(password, name="ann") is not None
    assert fault_of(PASSWORD, name="ann") is None


@pytest.mark.parametrize(
    "password",
    [
        "Password1234",
        "P@ssw0rd1234!",
        "Summer2026!!!",
        "adminPassword1",
        "qwertyuiop12",
        "123456789012",
        "Microsoft365!",
    ],
)
def test_what_everybody_tries_first_is_no_password(password: str) -> None:
    """However it ends, and whatever signs stand in it for letters."""
    assert fault_of(password, name="vera") is not None


def test_a_refusal_says_what_is_wrong_with_the_password() -> None:
    """Several words with nothing in common are what it asks for: with the name among them it says that."""
    fault = fault_of("zinc Otter lamp vera brook", name="vera")

    assert fault is not None
    assert fault.startswith("this password has the name vera in it")
    for good in ("zinc Otter lamp brook", "a7f3k9x2m4q8", "my default otter 26", "pässe im Jänner 3"):
        assert fault_of(good, name="vera") is None, good


@guarantee(42)
def test_the_file_of_users_is_its_owners_alone(tmp_path: Path) -> None:
    """Hashes that others could read are not gone by."""
    users = Users(tmp_path)
    users.put(user_named("ann"))

    assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
    assert PASSWORD.encode() not in users.path.read_bytes()
    assert b"$argon2id$" in users.path.read_bytes()
    users.path.chmod(0o640)
    with pytest.raises(NeedsOperator) as refused:
        Users(tmp_path).find("ann")
    assert "chmod 600" in refused.value.fix
    with pytest.raises(NeedsOperator):
        users.put(user_named("vera"))


@pytest.mark.parametrize("content", [b"{}", b"no database" * 200])
def test_a_broken_file_of_users_lets_nobody_in(tmp_path: Path, content: bytes, sources: Sources) -> None:
    """Who signs in is told that it is not their fault; the log says what to do."""
    entrance, _ = entrance_in(tmp_path, user_named("ann"))
    entrance.users.path.write_bytes(content)

    answer = asyncio.run(Browser(board_of(sources, entrance=entrance)).sign_in("ann"))

    assert answer.status == 503
    assert "the board's log says why" in answer.text.replace("&#39;", "'")


@pytest.mark.parametrize(
    "body", [b"{}", b'{"name": "ann"', b"\xff", b"[" * 5_000, b'{"name":"ann","role":"king"}']
)
def test_a_broken_user_is_not_let_in(tmp_path: Path, body: bytes, sources: Sources) -> None:
    """On a bad disk any bytes may stand in the database."""
    entrance, _ = entrance_in(tmp_path, user_named("ann"))
    with entrance.users.change() as board:
        board.execute("UPDATE user SET body = ?", (body,))

    answer = asyncio.run(Browser(board_of(sources, entrance=entrance)).sign_in("ann"))

    assert answer.status == 503
    assert "the board's log says why" in answer.text.replace("&#39;", "'")
