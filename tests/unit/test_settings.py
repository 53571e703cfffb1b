"""What a `pratique.toml` may say, and how a mistake in one is told."""

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.options import Access, Definitions, Mount, Network
from gateway.settings import STANDARD, STRICT, VM, find_file, read_settings

BANK = '[server.bank]\ncommand = ["bank-server"]\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "pratique.toml"
    path.write_text(text)
    return path


def complaint(folder: Path, text: str) -> str:
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        read_settings(path, folder)
    assert str(path) in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_file_of_every_key_reads_into_one_tree(tmp_path: Path) -> None:
    options = read_settings(
        write(
            tmp_path,
            """
            [gateway]
            listen = "[::1]:9000"
            [server.bank]
            command = ["python3", "-P", "-m", "bank"]
            env = { LOG = "info" }
            mounts = ["~/accounts:ro", "/srv/ledger:rw", "/srv/plain", "/srv/now:direct"]
            sandbox = "tight"
            network = "host"
            pack = "packs/bank.toml"
            definitions = "require-approval"
            deadline_s = 5
            max_result_bytes = 1000
            [sandbox.tight]
            driver = "bubblewrap"
            guarantees = ["filesystem", "syscalls"]
            memory_mb = 64
            pids = 9
            [policy]
            engine = "embedded"
            bundles = ["./rules"]
            unsafe_without = ["spend"]
            [approvals]
            hold_s = 1.5
            expire_s = 60
            [store]
            url = "sqlite"
            """,
        ),
        tmp_path / "state",
    )

    bank = options.servers["bank"]
    assert (options.host, options.port, options.state) == ("::1", 9000, tmp_path / "state")
    assert bank.command == ("python3", "-P", "-m", "bank")
    assert bank.mounts == (
        Mount(path=Path.home() / "accounts"),
        Mount(path=Path("/srv/ledger"), access=Access.REVIEW),
        Mount(path=Path("/srv/plain")),
        Mount(path=Path("/srv/now"), access=Access.DIRECT),
    )
    assert (bank.network, bank.definitions) == (Network.HOST, Definitions.REQUIRE_APPROVAL)
    assert bank.pack == str(tmp_path / "packs/bank.toml")
    assert options.sandboxes["tight"].guarantees == {"filesystem", "syscalls"}
    assert options.sandboxes["tight"].pids == 9
    assert options.bundles == (tmp_path / "rules",)
    assert options.unsafe_without == {"spend"}
    assert (options.hold_s, options.expire_s) == (1.5, 60)


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "states"))

    options = read_settings()

    assert find_file() is None
    assert options.state == tmp_path / "states/pratique"
    assert options.sandboxes == {"strict": STRICT, "standard": STANDARD, "vm": VM}
    assert options.servers == {}


def test_the_file_of_the_folder_comes_before_the_file_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "config/pratique/pratique.toml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("[gateway]\nlisten = '127.0.0.1:1111'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    assert read_settings(None, tmp_path).port == 1111
    write(tmp_path, "[gateway]\nlisten = '127.0.0.1:2222'\n")
    assert read_settings(None, tmp_path).port == 2222


def test_a_shipped_pack_keeps_its_name(tmp_path: Path) -> None:
    assert read_settings(write(tmp_path, BANK + 'pack = "bank"'), tmp_path).servers["bank"].pack == "bank"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gatway]\n", "unknown key gatway; did you mean gateway?"),
        (BANK + "deadline = 3\n", "unknown key server.bank.deadline; did you mean server.bank.deadline_s?"),
        ("[approvals]\nholds = 3\n", "unknown key approvals.holds; did you mean approvals.hold_s?"),
        ("[sandbox.tight]\nmemory = 3\n", "unknown key sandbox.tight.memory; did you mean sandbox.tight.memory_mb?"),
        ("xyzzy = 1\n", "unknown key xyzzy; did you mean"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path: Path, text: str, said: str) -> None:
    assert complaint(tmp_path, text).startswith(said)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[server.web]\nurl = "https://tools.example"\n', "server.web.url"),
        (BANK + "env_from = {}\n", "server.bank.env_from"),
        ('[policy]\nengine = "opa"\n', "policy.engine"),
        ('[policy]\nurl = "http://127.0.0.1:8181"\n', "policy.url"),
        ('[store]\nurl = "postgresql+psycopg://db"\n', "store.url"),
    ],
)
def test_a_part_that_is_not_built_yet_is_refused_rather_than_ignored(tmp_path: Path, text: str, key: str) -> None:
    said = complaint(tmp_path, text)
    assert said.startswith(key)
    assert "not available yet" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BANK + 'deadline_s = "soon"\n', "server.bank.deadline_s: Expected `float`, got `str`"),
        (BANK + "deadline_s = 0\n", "server.bank.deadline_s: Expected `float` > 0.0"),
        ("[server.bank]\n", "server.bank: Object missing required field `command`"),
        ("[server.bank]\ncommand = []\n", "server.bank.command: Expected `array` of length >= 1"),
        ("server = 3\n", "server: Expected `object`, got `int`"),
        (BANK + "env = { LOG = 3 }\n", "server.bank.env[...]: Expected `str`, got `int`"),
        (BANK + 'network = "open"\n', "server.bank.network: Invalid enum value 'open'; one of: none, host"),
        (
            BANK + 'definitions = "x"\n',
            "server.bank.definitions: Invalid enum value 'x'; one of: trust-on-first-use, re",
        ),
        ('[sandbox.a]\nguarantees = ["x"]\n', "sandbox.a.guarantees[0]: Invalid enum value 'x'; one of: filesystem, "),
        ('[server.b]\ncommand = "b"\n', 'server.b.command: Expected `array`, got `str`; it is a list, such as ["npx",'),
        ('[sandbox.a]\ndriver = "docker"\n', "sandbox.a.driver: Invalid enum value 'docker'; one of: bubblewrap"),
        ('[sandbox.a]\negress = ["https://api.example.com"]\n', "sandbox.a: 'https://api.example.com' is no"),
        ('[sandbox.a]\negress = ["10.0.0.1:443"]\n', "sandbox.a: '10.0.0.1:443': '10.0.0.1' is no host name"),
        ('[sandbox.a]\nsecrets = { "a.example:443" = "X: ${T}" }\n', "sandbox.a.secrets: a.example:443 is not in"),
        (
            '[sandbox.a]\negress = ["a.example:443"]\nsecrets = { "a.example:443" = "X: t0ken" }\n',
            "sandbox.a: the value of X names no variable: write ${NAME}",
        ),
        (BANK + 'image = "base"\n', "server.bank.image"),
        (
            BANK + 'sandbox = "w"\nmounts = ["/x:rw"]\n[sandbox.w]\nwarm = 1\n',
            "server.bank: profile 'w' keeps processes warm",
        ),
        (
            BANK + 'sandbox = "w"\nnetwork = "host"\n[sandbox.w]\negress = ["a.example:443"]\n',
            'server.bank: network = "host" goes past the egress list',
        ),
        (BANK + 'mounts = ["/x:wx"]\n', "server.bank.mounts: '/x:wx': the mode 'wx' is none of ro, rw, direct"),
        (BANK + 'env = { "A=B" = "1" }\n', "server.bank.env: 'A=B': a variable's name is not empty and holds no '='"),
        (BANK + 'env = { A = "\\u0000" }\n', "server.bank.env: 'A': no variable can hold NUL"),
        (BANK + 'sandbox = "loose"\n', "server.bank.sandbox: no profile is called 'loose'; there are standard, strict"),
        (BANK + 'mounts = ["here:ro"]\n', "server.bank.mounts: 'here:ro' is not absolute"),
        (BANK + BANK, "Cannot declare ('server', 'bank') twice"),
        ('[server.Bank]\ncommand = ["b"]\n', "server.Bank: a server's name is"),
        ('[server.bank__eu]\ncommand = ["b"]\n', "server.bank__eu: a server's name is"),
        ('[gateway]\nlisten = "8808"\n', "gateway.listen must be an address and a port"),
        ('[gateway]\nlisten = "tools.example:8808"\n', "gateway.listen must be an address and a port"),
        ('[gateway]\nlisten = "127.0.0.1:70000"\n', "gateway.listen must be an address and a port"),
        ('[store]\nurl = "mysql://x"\n', "store.url"),
        ("[gateway\n", "Expected ']'"),
    ],
)
def test_a_mistake_is_told_with_its_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    assert complaint(tmp_path, text).startswith(said)


@pytest.mark.promise("direct-mounts-lead-nowhere")
@pytest.mark.parametrize("inner", ["proj/docs:ro", "proj/docs:rw", "proj/docs:direct", "link/docs:ro"])
def test_a_mount_inside_of_one_that_another_server_writes_to_directly_is_refused(tmp_path: Path, inner: str) -> None:
    (tmp_path / "proj" / "docs").mkdir(parents=True)
    (tmp_path / "link").symlink_to("proj")
    outer = f'[server.notes]\ncommand = ["notes"]\nmounts = ["{tmp_path}/proj:direct"]\n'
    said = complaint(tmp_path, outer + BANK + f'mounts = ["{tmp_path}/{inner}"]\n')
    assert said.startswith("server.bank.mounts: ")
    assert "it could put a link there" in said
    beside = read_settings(write(tmp_path, outer + BANK + f'mounts = ["{tmp_path}/link:ro", "{tmp_path}/other:ro"]\n'))
    assert len(beside.servers["bank"].mounts) == 2


@pytest.mark.promise("rules-in-no-direct-mount")
@pytest.mark.parametrize("more", ["", 'pack = "bank.toml"\n', '[policy]\nbundles = ["rules"]\n'])
def test_the_gateways_own_rules_are_in_no_mount_that_is_written_to_directly(tmp_path: Path, more: str) -> None:
    folder = tmp_path if not more else tmp_path / ("bank.toml" if "pack" in more else "rules")
    said = complaint(tmp_path, BANK + f'mounts = ["{folder}:direct"]\n{more}')
    assert said.startswith(f"server.bank.mounts: {folder} is written to directly")
    read_settings(write(tmp_path, BANK + f'mounts = ["{folder}:rw"]\n{more}'))


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        read_settings(tmp_path / "nowhere.toml")


@pytest.mark.promise("loopback-only")
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.168.1.7", "[2001:db8::1]", "128.0.0.1"])
def test_an_address_that_others_can_reach_is_refused(tmp_path: Path, host: str) -> None:
    said = complaint(tmp_path, f'[gateway]\nlisten = "{host}:8808"\n')

    assert said.startswith("gateway.listen: ")
    assert said.endswith("Pratique listens on loopback only; put a TLS proxy of yours in front")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "[::1]", "localhost"])
def test_every_loopback_address_is_taken(tmp_path: Path, host: str) -> None:
    assert read_settings(write(tmp_path, f'[gateway]\nlisten = "{host}:8808"\n'), tmp_path).port == 8808


def test_a_model_and_its_questions_read_into_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    options = read_settings(
        write(
            tmp_path,
            """
            [llm]
            model = "./models/mine"
            scheduling = "priority"
            shares = { crawler = 0.5 }
            [extract.kind]
            question = "What is it?"
            type = "enum"
            values = ["bill", "letter"]
            """,
        ),
        tmp_path,
    )

    assert options.llm is not None
    assert options.llm.model == str(tmp_path / "models" / "mine")
    assert (options.llm.scheduling, options.llm.shares) == ("priority", {"crawler": 0.5})
    assert options.llm.cache == Path("/var/cache/me/pratique")
    assert options.extracts["kind"].values == ("bill", "letter")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[llm]\nkv_memory = 1\n", "unknown key llm.kv_memory; did you mean llm.kv_memory_mb?"),
        ('[llm]\nisolation = "fork"\n', "llm.isolation"),
        ("[llm]\nstep_tokens = 1\n", "llm.step_tokens"),
        ('[extract.a]\nquestion = "?"\ntype = "boolean"\n', "extract.a: there is no model to ask; add [llm]"),
        ('[llm]\n[extract.a]\nquestion = "?"\ntype = "enum"\nvalues = ["x"]\n', "extract.a: an enum has from 2"),
        ('[llm]\n[extract.a]\nquestion = "?"\ntype = "integer"\nminimum = 3\nmaximum = 3\n', "extract.a: an integer"),
        ('[llm]\n[extract.a]\nquestion = "?"\ntype = "boolean"\nmaximum = 3\n', "type 'boolean' has no minimum"),
        ('[llm]\n[extract.a]\nquestion = "?"\ntype = "pattern"\npattern = "("\n', "extract.a: "),
        ('[llm]\n[extract.A]\nquestion = "?"\ntype = "boolean"\n', "extract.A: a name is a small letter"),
        ('[llm]\n[server.llm]\ncommand = ["x"]\n', "server.llm: the gateway's own model is called llm"),
    ],
)
def test_a_mistake_about_the_model_is_told(tmp_path: Path, text: str, said: str) -> None:
    assert said in complaint(tmp_path, text)
