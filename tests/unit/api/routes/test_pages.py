"""The pages over HTTP: who sees what, the cookie, and what each page may load."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import cast

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from pipeline.api.http.limiter import RequestRate
from pipeline.api.http.sessions import Role, Session, issue
from pipeline.api.pages import assets, rendering
from pipeline.api.pages.navigation import MEMBERS, PUBLIC
from pipeline.api.server.app import create_app
from pipeline.api.services.context import EXCHANGES_AT_ONCE, AppContext, rate_of
from pipeline.api.services.sessions import SessionRegister
from pipeline.catalog.rates import RateTable
from pipeline.clickhouse.client import Engine
from pipeline.kafka.commands import UnavailableError
from pipeline.pincodes import ATTRIBUTION
from pipeline.session_book import SessionBook, SessionRecord
from pipeline.settings import SESSION_REQUESTS_PER_S

SECRET = "a secret of the tests, long enough to sign with"
NOW_MS = 1_781_288_999_123
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
CHECKOUT = "https://checkout.razorpay.com/v1/checkout.js"


def _token(role: Role = "owner", org: str = "org_acme", ttl_s: int = 600) -> str:
    return issue(SECRET, org, role, "asha@acme.example", NOW_MS, ttl_s)


def _client(
    clock: Sequence[int] = (NOW_MS,),
    public_url: str | None = None,
    sessions: SessionRegister | None = None,
    session_requests: RequestRate | None = None,
) -> TestClient:
    context = AppContext(
        database=cast(Engine, None),  # nothing here reads from it
        key_names={},
        rates=RateTable(),
        session_secret=SECRET,
        now_ms=lambda: clock[0],
        public_url=public_url,
        known_sessions=sessions,
        session_requests=session_requests or rate_of(SESSION_REQUESTS_PER_S),
        checkout_url=CHECKOUT,
    )
    return TestClient(create_app(context), follow_redirects=False)


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A browser's view of the app, without a session."""
    with _client() as client:
        yield client


def _signed_in(client: TestClient, role: Role = "owner", org: str = "org_acme") -> TestClient:
    client.cookies.set("br_session", _token(role, org))
    return client


def test_without_a_session_the_page_says_how_to_get_one(client: TestClient) -> None:
    answer = client.get("/billing")
    assert answer.status_code == 401
    assert "metering session --org" in answer.text and "<script" not in answer.text
    client.cookies.set("br_session", _token(ttl_s=0))
    assert client.get("/billing").status_code == 401


def test_an_owners_page_may_open_checkout_and_no_other_page_may(client: TestClient) -> None:
    owner = _signed_in(client).get("/billing")
    policy = owner.headers["content-security-policy"]
    # Each host where Checkout needs it, by name: a wildcard would let any page of Razorpay's in.
    assert "script-src 'self' https://checkout.razorpay.com https://cdn.razorpay.com;" in policy
    assert "frame-src https://api.razorpay.com https://checkout.razorpay.com;" in policy
    assert "img-src 'self' data: https://cdn.razorpay.com;" in policy
    assert "form-action 'self' https://api.razorpay.com;" in policy
    reports = " ".join(f"https://lumberjack{part}.razorpay.com" for part in ("", "-cx", "-metrics"))
    assert f"connect-src 'self' https://api.razorpay.com {reports};" in policy
    assert "*" not in policy and "default-src 'none'" in policy
    # Inline styles are for the attributes that Checkout writes, and for nothing else; the rest is every page's.
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives.pop("style-src-attr") == "'unsafe-inline'" and "unsafe" not in str(directives)
    plain = client.get("/login").headers["content-security-policy"]
    of_razorpay = {"script-src", "img-src", "connect-src", "frame-src", "form-action"}
    others = dict(part.split(" ", 1) for part in plain.split("; "))
    assert {
        name: value for name, value in others.items() if directives.get(name) != value
    }.keys() <= of_razorpay
    assert directives.keys() - others.keys() == {"frame-src"}
    assert directives["style-src"] == others["style-src"] == "'self'"
    assert owner.headers["referrer-policy"] == "strict-origin-when-cross-origin"
    assert "no-store" in owner.headers["cache-control"]
    # Nothing of it is loaded with the page.
    assert f'src="{CHECKOUT}"' not in owner.text
    member = _signed_in(client, "member").get("/billing")
    for page in (member, client.get("/login")):
        assert "razorpay" not in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
    assert "razorpay.com" not in member.text and "<form id=" not in member.text


def test_the_page_names_where_the_pin_codes_come_from(client: TestClient) -> None:
    assert ATTRIBUTION in _signed_in(client).get("/billing").text


def test_a_hostile_org_stays_text(client: TestClient) -> None:
    page = _signed_in(client, org='<script>alert(1)</script>"').get("/billing").text
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_a_token_becomes_a_cookie_that_scripts_cannot_read(client: TestClient) -> None:
    answer = client.get("/login", params={"token": _token()})
    assert (answer.status_code, answer.headers["location"]) == (303, "/overview")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "secure" not in cookie
    with _client(public_url="https://router.example") as behind_tls:
        assert "secure" in behind_tls.get("/login", params={"token": _token()}).headers["set-cookie"].lower()


@pytest.mark.parametrize("token", ["", "nonsense", _token(ttl_s=0), _token() + "x"])
def test_what_is_no_token_becomes_no_cookie(client: TestClient, token: str) -> None:
    for answer in (
        client.get("/login", params={"token": token}),
        client.post("/login", data={"token": token}),
    ):
        assert answer.status_code == 401 and "set-cookie" not in answer.headers
        assert not token or token not in answer.text


def test_another_sites_link_is_asked_about_and_its_form_refused(client: TestClient) -> None:
    asked = client.get("/login", params={"token": _token()}, headers={"Sec-Fetch-Site": "cross-site"})
    assert asked.status_code == 200 and "set-cookie" not in asked.headers and "org_acme" in asked.text
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ):
        refused = client.post("/login", data={"token": _token()}, headers=headers)
        assert refused.status_code == 403 and "set-cookie" not in refused.headers
        assert client.post("/logout", headers=headers).status_code == 403
    for ours in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://testserver"}):
        assert client.post("/login", data={"token": _token()}, headers=ours).status_code == 303


def _login(client: TestClient, token: str) -> Response:
    """Follow a login link as a browser that has no cookie."""
    client.cookies.clear()
    return client.get("/login", params={"token": token})


def _is_open(client: TestClient, token: str) -> bool:
    """Whether a token opens anything: as a program sends it, and as a browser does."""
    client.cookies.clear()
    pin = "/me/billing/pin/560001"
    as_bearer = client.get(pin, headers={"Authorization": f"Bearer {token}"}).status_code
    client.cookies.set("br_session", token)
    as_cookie = {client.get(path).status_code for path in (pin, "/billing")}
    client.cookies.clear()
    assert as_cookie == {as_bearer}
    return as_bearer == 200


def test_a_link_is_exchanged_once_for_another_session(client: TestClient) -> None:
    token = _token()
    assert _is_open(client, token)
    opened = _login(client, token).cookies["br_session"]
    assert opened != token and _is_open(client, opened) and not _is_open(client, token)
    again = _login(client, token)
    assert again.status_code == 401 and "set-cookie" not in again.headers
    assert client.post("/login", data={"token": token}).status_code == 401
    # Nor does another spelling of the same signature make it another session.
    place = _BASE64.index(token[-1])
    for twin in (token[:-1] + _BASE64[place ^ spare] for spare in (1, 2, 3)):
        assert _login(client, twin).status_code == 401


def test_a_link_works_for_a_minute_and_a_token_that_is_typed_in_as_long_as_it_is_good() -> None:
    with _client(clock := [NOW_MS]) as client:
        fresh, late, typed = _token(), _token(), _token()
        clock[0] += 60_000
        assert _login(client, fresh).status_code == 303
        clock[0] += 1
        for site in ("none", "cross-site"):
            refused = client.get("/login", params={"token": late}, headers={"Sec-Fetch-Site": site})
            assert refused.status_code == 401 and late not in refused.text
        assert client.post("/login", data={"token": typed}).status_code == 303
        clock[0] = NOW_MS + 600_000
        assert client.post("/login", data={"token": late}).status_code == 401


def test_the_session_in_the_cookie_lasts_no_longer_than_the_one_in_the_link() -> None:
    with _client(clock := [NOW_MS]) as client:
        opened = _login(client, _token(ttl_s=600)).cookies["br_session"]
        clock[0] = NOW_MS // 1000 * 1000 + 599_999
        assert _is_open(client, opened)
        clock[0] += 1
        assert not _is_open(client, opened)


def test_signing_out_ends_the_session_and_not_only_the_cookie(client: TestClient) -> None:
    token, other = _token(), _token()
    client.cookies.set("br_session", token)
    assert client.post("/logout").status_code == 303
    assert not _is_open(client, token) and _is_open(client, other)


def test_a_session_is_not_exchanged_without_end_and_those_in_its_place_count_as_it_does() -> None:
    """Each exchange is a record that every server keeps until the session would have expired."""
    with _client(clock := [NOW_MS]) as client:
        token = _token()
        for _ in range(EXCHANGES_AT_ONCE):
            client.cookies.clear()
            answer = client.post("/login", data={"token": token})
            assert answer.status_code == 303
            token = answer.cookies["br_session"]
        client.cookies.clear()
        answer = client.post("/login", data={"token": token})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
        assert _is_open(client, token)
        # Another sign-in of the same member is another session, with exchanges of its own.
        another = issue(SECRET, "org_acme", "owner", "asha@acme.example", NOW_MS + 1, 600)
        assert client.post("/login", data={"token": another}).status_code == 303
        clock[0] += 30_000
        assert client.post("/login", data={"token": token}).status_code == 303


def test_a_page_counts_among_the_requests_of_its_session() -> None:
    with _client(session_requests=RequestRate(per_s=1, burst=2)) as client:
        _signed_in(client)
        answers = [client.get(path) for path in ("/billing", "/overview", "/overview")]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert "text/html" in answers[2].headers["content-type"] and answers[2].headers["retry-after"] == "1"


def test_where_it_cannot_be_recorded_nobody_is_signed_in_or_out() -> None:
    """The cookie stays, so that signing out can be tried again."""

    async def write(_record: SessionRecord) -> None:
        raise UnavailableError("no broker")

    book = SessionBook(lambda: NOW_MS)
    with _client(sessions=SessionRegister(SECRET, lambda: NOW_MS, book, write)) as client:
        token = _token()
        client.cookies.set("br_session", token)
        for answer in (client.post("/logout"), client.get("/login", params={"token": token})):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert "set-cookie" not in answer.headers and int(answer.headers["retry-after"]) > 0
        assert _is_open(client, token)


def test_a_form_that_is_none_or_too_large_is_refused(client: TestClient) -> None:
    assert client.post("/login", content=b"token=\xff\xfe").status_code == 400
    assert client.post("/login", content=b"x" * 20_000).status_code == 400
    assert client.post("/login", content=b"&".join([b"a=1"] * 50)).status_code == 400


def test_signing_out_takes_the_cookie_away(client: TestClient) -> None:
    answer = _signed_in(client).post("/logout")
    assert answer.headers["location"] == "/login" and "max-age=0" in answer.headers["set-cookie"].lower()


def test_assets_are_kept_for_long_under_their_version_only(client: TestClient) -> None:
    for name in ("pages.css", "billing.js", "money.js"):
        answer = client.get(f"/assets/{assets.VERSION}/{name}")
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
    assert client.get("/assets/old/pages.css").headers["cache-control"] == "no-store"
    for nothing in ("nothing.js", "..%2fdocs.js", "%2e%2e%2fpages.css"):
        assert client.get(f"/assets/{assets.VERSION}/{nothing}").status_code == 404


def test_every_file_a_page_names_is_there_and_every_script_is_some_pages(client: TestClient) -> None:
    _signed_in(client)
    named: set[str] = set()
    pages = [client.get(each.address).text for each in (*MEMBERS, *PUBLIC)]
    for text in (*pages, _request_page()):
        named |= set(re.findall(r'(?:src|href)="/assets/\w+/([^"]+)"', text))
    for name in list(named):
        named |= _imported(name)
    assert named == set(assets._FILES)
    ours = [content.decode() for name, content in assets._FILES.items() if name != "chart.umd.min.js"]
    assert [
        text for text in ours if "http" in re.sub(r"plain HTTP|http://www.w3.org/2000/svg", "", text)
    ] == []


def _imported(name: str, known: frozenset[str] = frozenset()) -> set[str]:
    """Return the scripts that a file needs, those that they need included."""
    found = set(re.findall(r'(?:from |import\()"\./([^"]+)"', assets._FILES[name].decode())) - known
    return found.union(*(_imported(each, known | found) for each in found))


def _request_page() -> str:
    session = Session("org_acme", "member", "asha@acme.example", "a session", NOW_MS, NOW_MS + 1)
    return bytes(rendering.page("request.html", session, here="/activity", id=80421).body).decode()


@pytest.mark.parametrize("path", ["/billing", "/overview", "/activity", "/keys", "/notices", "/models"])
def test_the_scripts_of_a_page_are_small_where_they_travel(client: TestClient, path: str) -> None:
    named = set(re.findall(r'src="/assets/\w+/([^"]+)"', _signed_in(client).get(path).text))
    scripts = named.union(*(_imported(name) for name in named))
    assert 0 < sum(len(assets.compressed(name)) for name in scripts) <= 150_000
    one = client.get(f"/assets/{assets.VERSION}/{min(named)}", headers={"Accept-Encoding": "gzip"})
    assert one.headers["content-encoding"] == "gzip" and one.text
    plain = client.get(f"/assets/{assets.VERSION}/money.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.content == assets._FILES["money.js"]


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ("", "2026-05-14", "2026-06-12"),
        ("?from=2026-06-01&to=2026-06-03&model=&key_id=&provider=&show=tokens", "2026-06-01", "2026-06-03"),
        ("?to=2026-03-01", "2026-01-31", "2026-03-01"),
        ("?from=2025-06-12&to=2026-06-12", "2025-06-12", "2026-06-12"),
    ],
)
def test_the_days_of_the_activity_page_are_those_of_the_api(
    client: TestClient, query: str, first: str, last: str
) -> None:
    answer = _signed_in(client, "member").get(f"/activity{query}")
    assert answer.status_code == 200 and 'id="activity"' in answer.text
    for name, day in (("from", first), ("to", last)):
        assert f'name="{name}" type="date" value="{day}"' in answer.text
    chosen = "tokens" if "tokens" in query else "cost"
    assert f'data-show="{chosen}"' in answer.text
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("from=2026-02-30", "From must be a day YYYY-MM-DD"),
        ("to=soon", "&#39;soon&#39; is none"),
        ("from=2025-05-01&to=2026-06-04", "are 400 days; 366 is the most"),
        ("from=2026-06-02&to=2026-06-01", "lies after"),
        ("colour=red", "There is no filter"),
        ("from=2026-06-01&from=2026-06-02", "given more than once"),
        ("to=%3Cscript%3E", "&lt;script&gt;"),
    ],
)
def test_a_bad_address_is_told_in_words_with_its_filters_kept(
    client: TestClient, query: str, words: str
) -> None:
    answer = _signed_in(client).get(f"/activity?{query}&model=krutrim-2&key_id=key_%22_01&provider=e2e")
    assert answer.status_code == 400 and words in answer.text
    assert (
        '<option value="krutrim-2" selected>' in answer.text
        and '<option value="e2e" selected>' in answer.text
    )
    assert '<option value="key_&#34;_01" selected>' in answer.text
    assert 'id="activity"' not in answer.text and "<script>" not in answer.text
    kept = re.findall(r"(?:^|&)(?:from|to)=([\w-]+)", query)
    assert all(f'value="{day}"' in answer.text for day in kept[-1:])


@pytest.mark.parametrize("name", ["none", "-1", "1.5", "99999999999999999999"])
def test_what_is_no_requests_id_is_told_on_a_page(client: TestClient, name: str) -> None:
    answer = _signed_in(client).get(f"/activity/{name}?model=krutrim-2")
    assert answer.status_code == 400 and 'href="/activity" data-keeps-filters' in answer.text


def test_a_pin_code_is_looked_up_for_who_has_a_session(client: TestClient) -> None:
    assert client.get("/me/billing/pin/560001").status_code == 401
    _signed_in(client, "member")
    place = client.get("/me/billing/pin/560001")
    assert place.json() == {"pin": "560001", "city": "Bengaluru Urban", "state": "Karnataka"}
    unknown = client.get("/me/billing/pin/999999")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
    for pin in ("56000", "5600011", "56000a", "५६०००१", "560001%0A"):
        wrong = client.get(f"/me/billing/pin/{pin}")
        assert wrong.status_code == 400
        assert (wrong.json()["error"]["code"], wrong.json()["error"]["param"]) == ("invalid_request", "pin")
    assert client.get("/me/billing/pin/560001?x=1").status_code == 400


def test_a_browser_is_shown_a_page_where_there_is_nothing_and_a_program_the_envelope(
    client: TestClient,
) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path in ("/nothing", "/assets/x/none.js", "/me/nothing"):
        page = client.get(path, headers=browser)
        assert page.status_code == 404 and page.headers["content-type"].startswith("text/html")
        assert (
            "There is nothing here" in page.text
            and "default-src 'none'" in page.headers["content-security-policy"]
        )
        for accept in ("*/*", "application/json"):
            assert client.get(path, headers={"Accept": accept}).json()["error"]["code"] == "not_found"
    assert client.post("/nothing", headers=browser).json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("path", [f"/assets/{assets.VERSION}/pages.css", "/docs/docs.js"])
def test_a_malformed_range_is_passed_over(client: TestClient, path: str) -> None:
    whole = client.get(path)
    for given in ("bytes=a-b", "bytes=5-1", "lines=1-2", "bytes=999999999-"):
        ranged = client.get(path, headers={"Range": given})
        assert (ranged.status_code, ranged.content) == (200, whole.content) and whole.content
