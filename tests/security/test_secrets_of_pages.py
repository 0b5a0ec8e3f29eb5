"""What an administrator may send from a page never reads, moves or shows a secret of the machine."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from promises import guarantee
from shifted import now

from board_client import Listener, Reply, Session, listening, signed_in
from served_board import add_user, board_of

OF_THE_MACHINE = "Variable~of-the-machine-7f3a"
IN_A_FILE = "File~of-the-machine-91c2"
OF_THE_OTHER = "Variable~of-the-other-55d0"
WRITTEN_OUT = "Written~in-the-file-3e8b"
OF_RESPONSES = "Variable~of-responses-0c61"
IN_A_URL = "Stored~in-a-url-0b1c"
IN_A_LIST = "Stored~in-a-list-77d0"
AS_A_KEY = "Stored~as-a-key-4a19"
STORED = (IN_A_URL, IN_A_LIST, AS_A_KEY)
SECRETS = (OF_THE_MACHINE, OF_RESPONSES, IN_A_FILE, OF_THE_OTHER, WRITTEN_OUT, *STORED)
TENANT = "5df5e41b-0640-4fdb-bf01-49691be8e735"
CLIENT = "cde3d36d-c36a-4df6-abb3-607d29e179a4"
MARK = "<kept secret>"


def config_of(ours: str, theirs: str) -> str:
    """Two applications, each with a destination of its own; the second one is the attacker's."""
    return f"""\
board: {{sign_in: true}}
inputs:
  ours:
    type: office365
    credentials: {{tenant_id: "{TENANT}", client_id: "{CLIENT}", client_secret: "${{M365_SECRET}}"}}
    cloud: {{login_url: "{ours}", management_url: "{ours}"}}
  filed:
    type: office365
    credentials:
      tenant_id: "{TENANT[:-1]}6"
      client_id: "{CLIENT}"
      client_secret_file: secret
    cloud: {{login_url: "{ours}", management_url: "{ours}"}}
  written:
    type: office365
    credentials: {{tenant_id: "{TENANT[:-1]}7", client_id: "{CLIENT}", client_secret: "{WRITTEN_OUT}"}}
    cloud: {{login_url: "{ours}", management_url: "{ours}"}}
  old:
    type: office365
    enabled: false
    network: {{proxy: "http://svc:{IN_A_URL}@proxy.example:8080"}}
    credentials: {{client_secret: ["{IN_A_LIST}"], second: {{client_secret: {{{AS_A_KEY}: x}}}}}}
  bare:
    type: office365
    enabled: false
    network: {{proxy: "svc:{IN_A_URL}@proxy.example:8080"}}
  theirs:
    type: office365
    credentials: {{tenant_id: "{TENANT[:-1]}8", client_id: "{CLIENT}", client_secret: "${{M365_OTHER}}"}}
    cloud: {{login_url: "{theirs}", management_url: "{theirs}"}}
detections:
  response: {{credentials: {{client_id: "{CLIENT[:-1]}5", client_secret: "${{M365_RESPONSE}}"}}}}
outputs:
  lake: {{type: lake}}
  devo:
    type: devo_http
    config: {{endpoint: "{ours}", domain: ours, token: "${{M365_TOKEN}}"}}
  old:
    type: devo_http
    enabled: false
    config: {{endpoint: "https://svc:{IN_A_URL}@devo.example", domain: ours}}
"""


@dataclass
class Attacked:
    """A board, the attacker's listener and the configuration between them."""

    session: Session
    theirs: Listener
    ours: Listener
    config: Path

    def try_out(self, change: dict[str, object]) -> list[Reply]:
        """The change reviewed, tried and made, as the page does one after the other."""
        kind, name = change.get("kind", ""), change.get("name", "")
        of = f"{kind}.{name}" if kind else ""
        asked = {"change": change, "base": self.session.base()}
        return [
            self.session.post("/collectors/review", asked),
            self.session.post("/collectors/try", {**asked, "of": of}),
            self.session.post("/collectors/apply", asked),
        ]

    def leaked(self) -> list[str]:
        """The secrets that the attacker heard, or that an answer showed."""
        heard = "\n".join([*self.theirs.heard, *self.session.answers])
        return [one for one in SECRETS if one in heard or quote_plus(one) in heard]


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("pages")
    config = folder / "m365watch.yaml"
    for name, text in (("secret", IN_A_FILE), ("secret2", IN_A_FILE)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    with listening() as ours, listening() as theirs:
        config.write_text(config_of(ours.url, theirs.url))
        config.chmod(0o600)
        given = {
            "M365_RESPONSE": OF_RESPONSES,
            "M365_SECRET": OF_THE_MACHINE,
            "M365_OTHER": OF_THE_OTHER,
            "M365_TOKEN": OF_THE_MACHINE,
        }
        add_user(config, "root", "--role", "admin", environment=given)
        add_user(config, "blind", "--role", "admin", "--no-contents", environment=given)
        with board_of(config, given) as board:
            session = signed_in(board.port, "root")
            session.take_token()
            yield Attacked(session, theirs, ours, config)


@pytest.fixture(autouse=True)
def unheard(it: Attacked) -> None:
    it.theirs.heard.clear()
    it.session.answers.clear()


def write(kind: str, name: str, text: str, *, is_new: bool = True) -> dict[str, object]:
    return {"act": "write", "kind": kind, "name": name, "text": text, "is_new": is_new}


def input_with(it: Attacked, credential: str, *, more: str = "", host: str | None = None) -> str:
    at = host or it.theirs.url
    return (
        f'type: office365\ncredentials:\n  tenant_id: "{TENANT[:-1]}9"\n  client_id: "{CLIENT}"\n'
        f'  {credential}\ncloud: {{login_url: "{at}", management_url: "{at}"}}\n{more}'
    )


NEW_INPUTS = {
    "variable of another input": 'client_secret: "${M365_SECRET}"',
    "variable with a blank": 'client_secret: "${M365_SECRET} "',
    "variable within a text": 'client_secret: "x${M365_SECRET}"',
    "variable spelled by escapes": 'client_secret: "\\x24{M365_SECRET}"',
    "file of another input": "client_secret_file: secret",
    "file spelled otherwise": "client_secret_file: ./secret",
    "file that no input names": "client_secret_file: secret2",
    "file as a federated token": "federated_token_file: secret",
    "file as a certificate": "certificate_file: secret",
    "variable as a password": 'client_secret: x\n  certificate_password: "${M365_SECRET}"',
    "entry of the keyring": "client_secret: keyring:m365watch/secret",
    "identity of the machine": "managed_identity: true",
    "second credential": 'client_secret: x\n  second: {client_secret: "${M365_SECRET}"}',
}


@guarantee(44)
@pytest.mark.parametrize("name", NEW_INPUTS)
def test_a_new_input_takes_no_secret_of_the_machine(it: Attacked, name: str) -> None:
    """The variable, file or identity of another input is not taken along to the attacker's host."""
    _refused(it, write("inputs", "evil", input_with(it, NEW_INPUTS[name])))


@guarantee(44)
@pytest.mark.parametrize(
    "credential",
    ['client_secret: "${M365_SECRET}"', "client_secret_file: secret", "client_secret_file: ./secret2"],
)
def test_references_are_not_moved_between_inputs(it: Attacked, credential: str) -> None:
    """Two inputs' references exchanged: each would go to the other's host."""
    _refused(it, write("inputs", "theirs", input_with(it, credential), is_new=False))


KEPT = {
    "ours": 'client_secret: "${M365_SECRET}"',
    "filed": "client_secret_file: secret",
    "written": f'client_secret: "{MARK}"',
}


@guarantee(44)
@pytest.mark.parametrize("name", KEPT)
def test_a_stored_secret_goes_to_no_other_host(it: Attacked, name: str) -> None:
    """The secret stays as the page shows it, and the host is another one."""
    _refused(it, write("inputs", name, input_with(it, KEPT[name]), is_new=False))


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("key", ["proxy: {}", "ca_bundle: secret2"])
def test_a_stored_secret_goes_by_no_other_network(it: Attacked, name: str, key: str) -> None:
    """A proxy or an authority of the attacker's reads what passes."""
    network = key.format(it.theirs.url)
    text = input_with(it, KEPT[name], more=f"network: {{{network}}}\n", host=it.ours.url)
    _refused(it, write("inputs", name, text, is_new=False))


OUTPUTS = {
    "directory of a variable": 'type: files\nconfig: {directory: "${M365_SECRET}"}\n',
    "directory within a variable": 'type: lake\nconfig: {directory: "a/${M365_SECRET}"}\n',
    "token of a variable": 'type: devo_http\nconfig: {endpoint: "URL", domain: d, token: "${M365_SECRET}"}\n',
    "token of a file": 'type: devo_http\nconfig: {endpoint: "URL", domain: d, token_file: secret}\n',
    "domain of a variable": 'type: devo_http\nconfig: {endpoint: URL, domain: "${M365_SECRET}", token: x}\n',
    "address of a variable": 'type: syslog\nconfig: {address: "${M365_SECRET}", port: 514}\n',
    "name of a variable": 'type: syslog\nconfig: {address: "::1", port: PORT, app_name: "${M365_SECRET}"}\n',
    "files of a platform": (
        "type: devo_platform\nconfig: {address: 127.0.0.1, port: PORT, chain: secret, cert: secret,"
        " key: secret}\n"
    ),
    "files under Devo's own names": (
        "type: devo_platform\nconfig: {url: 127.0.0.1, port: PORT, chain_loc: secret, cert_loc: secret,"
        " key_loc: secret}\n"
    ),
    "switched off until later": (
        'type: devo_http\nenabled: false\nconfig: {endpoint: "URL", domain: d, token: "${M365_SECRET}"}\n'
    ),
}


@guarantee(44)
@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_takes_no_secret_of_the_machine(it: Attacked, name: str) -> None:
    """Neither as what it sends, nor as a name that a page shows."""
    text = OUTPUTS[name].replace("URL", it.theirs.url).replace("PORT", str(it.theirs.port))
    _refused(it, write("outputs", "evil", text))


def test_an_output_s_token_goes_to_no_other_endpoint(it: Attacked) -> None:
    """The token's reference stays, and the endpoint is the attacker's."""
    text = (
        f'type: devo_http\nconfig: {{endpoint: "{it.theirs.url}", domain: ours, token: "${{M365_TOKEN}}"}}\n'
    )
    _refused(it, write("outputs", "devo", text, is_new=False))


def test_a_secret_that_is_given_up_does_not_come_back_elsewhere(it: Attacked) -> None:
    """In two steps: the host with a typed secret first, then the reference that was there before."""
    before = it.config.read_text()
    typed = write("inputs", "ours", input_with(it, 'client_secret: "typed-by-hand"'), is_new=False)
    try:
        assert it.try_out(typed)[-1].status == 200
        it.theirs.heard.clear()
        _refused(it, write("inputs", "ours", input_with(it, KEPT["ours"]), is_new=False))
    finally:
        it.config.write_text(before)


def test_no_new_cloud_receives_the_secret_of_responses(it: Attacked) -> None:
    """The application that responds signs in at the cloud of each input, whoever owns that one."""
    text = input_with(it, 'client_secret: "typed-by-hand"')
    _refused(
        it, write("inputs", "evil", text.replace("cloud: {", f'cloud: {{graph_url: "{it.theirs.url}", '))
    )


INSIDE = {
    "cloud": (
        "inputs",
        'cloud: {{login_url: "http://127.0.0.1:{0}", management_url: "http://localhost:{0}"}}\n',
    ),
    "proxy": ("inputs", 'network: {{proxy: "127.0.0.1:{0}"}}\n'),
    "address as a number": ("outputs", 'type: syslog\nconfig: {{address: "2130706433", port: {0}}}\n'),
    "name": ("outputs", "type: syslog\nconfig: {{url: localhost, port: {0}}}\n"),
    "port as a fraction": ("outputs", "type: syslog\nconfig: {{address: localhost, port: {0}.0}}\n"),
    "port as a text": ("outputs", 'type: syslog\nconfig: {{address: localhost, port: "+{0} "}}\n'),
    "translated address": ("outputs", 'type: syslog\nconfig: {{address: "64:ff9b::7f00:1", port: {0}}}\n'),
    "address of a tunnel": ("outputs", 'type: syslog\nconfig: {{address: "2002:7f00:1::", port: {0}}}\n'),
    "mapped address": ("outputs", 'type: syslog\nconfig: {{address: "::ffff:127.0.0.1", port: {0}}}\n'),
    "mapped address in a zone": (
        "outputs",
        'type: syslog\nconfig: {{address: "::ffff:127.0.0.1%x", port: {0}}}\n',
    ),
    "address in a zone": ("outputs", 'type: syslog\nconfig: {{address: "::1%lo", port: {0}}}\n'),
    "proxy in a zone": ("inputs", 'network: {{proxy: "http://[::ffff:127.0.0.1%x]:{0}"}}\n'),
    "stateless address": ("outputs", 'type: syslog\nconfig: {{address: "::ffff:0:127.0.0.1", port: {0}}}\n'),
    "address that a site translates": (
        "outputs",
        'type: syslog\nconfig: {{address: "64:ff9b:1::7f00:1", port: {0}}}\n',
    ),
    "address of a site": ("outputs", 'type: syslog\nconfig: {{address: "fec0::1", port: {0}}}\n'),
    "instance metadata": (
        "outputs",
        'type: devo_http\nconfig: {{endpoint: "https://169.254.169.254", domain: d, token: typed}}\n',
    ),
}


@guarantee(44)
@pytest.mark.parametrize("name", INSIDE)
def test_a_preflight_goes_to_no_address_inside_that_the_file_does_not_name(it: Attacked, name: str) -> None:
    """Neither to a service of this machine, nor to one of its network, however the address is written."""
    kind, text = INSIDE[name]
    credentials = (
        f'credentials: {{tenant_id: "{TENANT[:-1]}9", client_id: "{CLIENT}", client_secret: typed}}\n'
    )
    before = it.config.read_text()
    # Without the secrets of responses, which refuse a new cloud or proxy before anybody looks where it leads.
    it.config.write_text(re.sub(r"detections:\n.*\n", "", before))
    try:
        with listening() as inside:
            typed = (credentials if kind == "inputs" else "") + text.format(inside.port)
            change = write(kind, "office365" if kind == "inputs" else "inside", typed)
            asked = {"change": change, "base": it.session.base(), "of": f"{kind}.{change['name']}"}
            tried = it.session.post("/collectors/try", asked)
    finally:
        it.config.write_text(before)

    assert (tried.status, inside.heard, inside.connections) == (422, [], 0)
    assert "an internal address that the file does not name" in tried.text


def test_who_does_not_see_contents_changes_no_output(it: Attacked) -> None:
    """An administrator whose role withholds contents could have an output of their own receive them."""
    blind = signed_in(it.session.port, "blind")
    blind.take_token()
    output = write(
        "outputs", "more", f"type: syslog\nconfig: {{address: 127.0.0.1, port: {it.theirs.port}}}\n"
    )
    asked = {"change": output, "base": it.session.base()}
    before = it.config.read_text()

    assert it.session.post("/collectors/review", asked).document["can"] is True
    assert [blind.post(f"/collectors/{way}", asked).status for way in ("review", "try", "apply")] == [403] * 3
    assert it.config.read_text() == before
    asked["change"] = write("inputs", "more", input_with(it, 'client_secret: "typed"'))
    assert blind.post("/collectors/review", asked).status == 200


@guarantee(44)
def test_a_stored_secret_is_in_no_difference(it: Attacked) -> None:
    """Not in a URL, a list or an object: no page, answer, trail or history shows it."""
    before, state = it.config.read_text(), it.config.parent / "state"
    blind = signed_in(it.session.port, "blind")
    blind.take_token()
    try:
        for kind, name in (("inputs", "old"), ("inputs", "bare"), ("outputs", "old")):
            removal: dict[str, object] = {"act": "remove", "kind": kind, "name": name}
            review = it.try_out(removal)[0]
            assert f"-  {name}:" in str(review.document["difference"])
            it.session.ask("GET", "/panel/collectors/history")
            it.config.write_text(before)
            it.session.ask("GET", f"/panel/collectors/{kind}")
            if kind == "inputs":
                blind.post("/collectors/review", {"change": removal, "base": it.session.base()})
        kept = [one.read_text() for one in (state / "configuration").iterdir()]
    finally:
        it.config.write_text(before)
    trail = it.session.ask("GET", "/export/trail/deeds.csv").text

    assert it.leaked() == []
    assert len(kept) >= 3
    assert "-    type: office365" in trail
    assert [one for one in STORED if one in "".join([*kept, *blind.answers])] == []


@guarantee(44)
@pytest.mark.parametrize(
    "text",
    ['"{}": 1\n', 'credentials: {{tenant_id: "{}"}}\n'],
)
def test_no_answer_tells_whether_a_guess_is_right(it: Attacked, text: str) -> None:
    """What a page names is shown as it was typed, also where a secret of the environment reads the same."""
    told = []
    for guess in (OF_THE_OTHER, f"{OF_THE_OTHER[:-1]}x"):
        change = write("inputs", "guess", f"type: office365\n{text.format(guess)}")
        told.append([one.text.replace(guess, "GUESS") for one in it.try_out(change)])

    assert told[0] == told[1]
    assert "GUESS" in told[0][0]


STATE = (
    "state",
    "state/uploads",
    "state/configuration",
    "state/board.sqlite",
    "x/../state/new",
    "link",
)


@guarantee(44)
@pytest.mark.parametrize("kind", ["files", "lake"])
def test_an_output_does_not_write_among_the_state(it: Attacked, kind: str) -> None:
    """It would make folders of the names that uploads, history and links have; the file itself may say so."""
    before = it.config.read_text()
    (it.config.parent / "link").unlink(missing_ok=True)
    (it.config.parent / "link").symlink_to("state")
    for place in STATE:
        _refused(it, write("outputs", "evil", f"type: {kind}\nconfig: {{directory: {place}}}\n"))
    if kind == "files":
        it.config.write_text(f"{before}  ours: {{type: files, config: {{directory: state/ours}}}}\n")
        text = "type: files\nenabled: false\nconfig: {directory: state/ours}\n"
        asked = {"change": write("outputs", "ours", text, is_new=False), "base": it.session.base()}
        review = it.session.post("/collectors/review", asked)
        it.config.write_text(before)
        assert review.document["can"] is True


@guarantee(44)
def test_the_trail_keeps_the_difference_of_what_was_tried(it: Attacked) -> None:
    """Refused or not, without the secret, and with the reference that was tried."""
    typed = "Typed~into-a-page-2d77"
    refused = f"{it.theirs.url}/refused"
    for url, credential in (
        (it.theirs.url, f'client_secret: "{typed}"'),
        (refused, 'client_secret: "${M365_SECRET}"'),
        (refused, "client_secret: keyring:ours/secret"),
    ):
        change = write("inputs", "tried", input_with(it, credential, host=url))
        it.session.post(
            "/collectors/try", {"change": change, "base": it.session.base(), "of": "inputs.tried"}
        )
    trail = it.session.ask("GET", "/export/trail/deeds.csv").text

    for url in (it.theirs.url, refused):
        assert f'+    cloud: {{login_url: ""{url}"",' in trail
    assert '+      client_secret: ""${M365_SECRET}""' in trail
    assert "+      client_secret: keyring:ours/secret" in trail
    assert typed in "".join(it.theirs.heard)
    assert typed not in trail


def upload(it: Attacked, name: str, text: str, files: dict[str, bytes]) -> Reply:
    """Files of an input, as the page sends them with the text that is typed."""
    encoded = {key: base64.b64encode(content).decode() for key, content in files.items()}
    asked = {"change": write("inputs", name, text), "base": it.session.base(), "files": encoded}
    return it.session.post("/collectors/upload", asked)


@guarantee(44)
def test_an_uploaded_certificate_belongs_to_its_destination(it: Attacked) -> None:
    """It is its owner's alone; another cloud, application or key has no use of it, a second tenant has."""
    certificate, key = certificate_and_key()
    files = {"credentials.certificate_file": certificate, "credentials.private_key_file": key}
    text = (
        input_with(it, 'client_secret: "x"')
        .replace('  client_secret: "x"\n', "")
        .replace(it.theirs.url, it.ours.url)
    )
    given = upload(it, "late", text, files)
    uploaded = str(given.document["text"])
    kept = sorted((it.config.parent / "state" / "uploads").glob("*/*"))

    def can(name: str, text: str) -> bool:
        asked = {"change": write("inputs", name, text), "base": it.session.base()}
        return bool(it.session.post("/collectors/review", asked).document["can"])

    assert [one.stat().st_mode & 0o7777 for one in kept] == [0o600, 0o600]
    assert {one.read_bytes() for one in kept} == {certificate, key}
    assert can("late", uploaded)
    assert can("second_tenant", uploaded.replace(f"{TENANT[:-1]}9", f"{TENANT[:-1]}a"))
    assert not can("late", uploaded.replace(it.ours.url, it.theirs.url))
    assert not can("late", uploaded.replace(CLIENT, f"{CLIENT[:-1]}b"))
    assert not can("late", uploaded.replace("private_key_file", "client_secret_file"))
    assert not can("late", f"{uploaded}network: {{proxy: 'http://127.0.0.1:{it.theirs.port}'}}\n")
    _refused(it, write("inputs", "late", uploaded.replace(it.ours.url, it.theirs.url)))


@pytest.mark.parametrize(
    ("name", "key"), [("../evil", "credentials.certificate_file"), ("late", "../../evil"), ("late", "type")]
)
def test_an_upload_names_no_place_of_its_own(it: Attacked, name: str, key: str) -> None:
    """Neither the instance nor the key leads out of the folder of uploads."""
    assert upload(it, name, input_with(it, 'client_secret: "x"'), {key: b"x"}).status == 422
    assert list(it.config.parent.parent.rglob("*evil*")) == []


def certificate_and_key() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "uploaded")])
    begins = now()
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return made.public_bytes(pem), key.private_bytes(pem, pkcs8, serialization.NoEncryption())


def test_a_typed_secret_goes_where_the_page_says(it: Attacked) -> None:
    """What somebody types is theirs to send."""
    change = write("inputs", "more", input_with(it, 'client_secret: "typed-by-hand"'))
    asked = {"change": change, "base": it.session.base()}

    assert it.session.post("/collectors/review", asked).document["can"] is True
    assert it.session.post("/collectors/try", {**asked, "of": "inputs.more"}).status == 200
    assert "typed-by-hand" in "".join(it.theirs.heard)
    assert it.leaked() == []


@pytest.mark.slow
def test_an_input_is_edited_beside_its_secret(it: Attacked) -> None:
    """With the destinations that it was stored with the reference stays, and is tried there."""
    at = it.ours.url
    text = (
        f'type: office365\ncredentials: {{tenant_id: ["{TENANT}", "{TENANT[:-1]}9"], client_id: "{CLIENT}",'
        f' client_secret: "${{M365_SECRET}}"}}\ncloud: {{login_url: "{at}", management_url: "{at}"}}\n'
        "lookback_secs: 3600\n"
    )
    change = write("inputs", "ours", text, is_new=False)
    asked = {"change": change, "base": it.session.base()}
    it.ours.heard.clear()

    assert it.session.post("/collectors/review", asked).document["can"] is True
    assert it.session.post("/collectors/try", {**asked, "of": "inputs.ours"}).status == 200
    assert quote_plus(OF_THE_MACHINE) in "".join(it.ours.heard)
    assert it.leaked() == []


def _refused(it: Attacked, change: dict[str, object]) -> None:
    before = it.config.read_text()
    review, tried, made = it.try_out(change)
    after = it.config.read_text()
    it.config.write_text(before)

    assert it.leaked() == []
    assert [one for one in it.theirs.heard if "client_assertion" in one or "${" in one] == []
    assert review.document["can"] is False
    assert (tried.status, made.status) == (422, 422)
    assert after == before
