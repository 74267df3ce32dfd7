"""The users of deploy/clickhouse/users.xml, and the real engine with the rights of one of them.

Owns: what that file says, and the files by which the embedded engine gives its one user, `default`, those rights.
Called by: tests/deploy/test_clickhouse_users.py and tests/integration/test_clickhouse_users.py.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from tests.support.deploy import DEPLOY

FILE = DEPLOY / "clickhouse" / "users.xml"
OWNER, SINK, READER = "metering", "metering_sink", "metering_reader"
OF_THE_CLIENT = (
    # The embedded engine's own client inserts from a file, and looks where it is.
    "GRANT READ ON FILE",
)


def grants(user: str) -> list[str]:
    """Return a user's grants."""
    return [query.text or "" for query in ET.parse(FILE).getroot().findall(f"./users/{user}/grants/query")]


def configure(directory: Path, user: str) -> None:
    """Write files into a directory by which an embedded engine that is started in it has the rights and the profile of a user."""
    root = ET.parse(FILE).getroot()
    one = root.find(f"./users/{user}")
    users = root.find("./users")
    assert one is not None and users is not None
    for child in list(users):
        users.remove(child)
    for name in ("password", "networks"):
        for found in one.findall(name):
            one.remove(found)
    ET.SubElement(one, "password").text = ""
    ET.SubElement(ET.SubElement(one, "networks"), "ip").text = "::/0"
    of_the_user = one.find("grants")
    assert of_the_user is not None
    for grant in OF_THE_CLIENT:
        ET.SubElement(of_the_user, "query").text = grant
    one.tag = "default"
    users.append(one)
    # What the server's own file has, to which ours adds.
    profiles = root.find("profiles")
    assert profiles is not None
    ET.SubElement(profiles, "default")
    ET.SubElement(ET.SubElement(root, "quotas"), "default")
    ET.ElementTree(root).write(directory / "users.xml")
    (directory / "config.xml").write_text(
        f"<clickhouse><users_config>{directory / 'users.xml'}</users_config></clickhouse>"
    )
