"""Keys, tokens and sessions from making to revoking."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.support.product.deployment import Deployment
from tests.support.product.finished import COST_INR, finished


def test_keys_from_making_to_revoking(deployed: Deployment) -> None:
    org = "org-keys"
    body = {"name": "first", "budget_inr": 12.5, "expires_days": 30}
    made = deployed.call("POST", "/me/keys", org, json=body, headers={"Idempotency-Key": "k-1"})
    assert made.status_code == 200, made.text
    same = deployed.call("POST", "/me/keys", org, json=body, headers={"Idempotency-Key": "k-1"})
    assert same.json() == made.json()
    other = deployed.call("POST", "/me/keys", org, json={"name": "x"}, headers={"Idempotency-Key": "k-1"})
    assert other.json()["error"]["param"] == "Idempotency-Key"
    key_id, api_key = made.json()["key_id"], made.json()["key"]
    assert api_key.startswith("br-")
    assert len(api_key) == 35
    assert deployed.call("POST", "/me/keys", org, json={"name": "first"}).json()["error"]["code"] == (
        "duplicate_key_name"
    )
    deployed.publish(finished(org, "k1", key_id=key_id))
    deployed.until(lambda: deployed.get("/me/keys", org)["keys"][0]["spent_this_month_inr"] == COST_INR)
    renamed = deployed.call("PATCH", f"/me/keys/{key_id}", org, json={"name": "renamed", "budget_inr": None})
    assert (renamed.json()["name"], renamed.json()["budget_inr"]) == ("renamed", None)
    deployed.until(lambda: deployed.get("/me/activity", org)["totals"]["requests"] == 1)
    assert deployed.get("/me/activity", org)["top_keys"][0]["key_name"] == "renamed"
    revoked = deployed.call("PATCH", f"/me/keys/{key_id}", org, json={"revoked": True})
    assert revoked.json()["revoked"] is True
    assert api_key not in deployed.product.all_words()
    trial = deployed.call("POST", "/me/keys", org, json={"name": "t", "tier": "trial", "rpm_limit": 61})
    assert trial.json()["error"]["code"] == "trial_ceiling"
    for n in range(5):
        assert deployed.call("POST", "/me/keys", org, json={"name": f"n{n}"}).status_code == 200
    sixth = deployed.call("POST", "/me/keys", org, json={"name": "n6"})
    assert sixth.json()["error"]["code"] == "key_limit_reached"


def test_a_token_from_making_to_revoking(deployed: Deployment) -> None:
    org, body = "org-tokens", {"name": "books", "scope": "read", "expires_days": 30}
    made = deployed.call("POST", "/me/tokens", org, json=body, headers={"Idempotency-Key": "t-1"}).json()
    same = deployed.call("POST", "/me/tokens", org, json=body, headers={"Idempotency-Key": "t-1"})
    assert same.json() == made
    reader = {"Authorization": f"Bearer {made['token']}"}
    assert deployed.call("GET", "/me/usage", None, headers=reader).status_code == 200
    revoked = deployed.call("DELETE", f"/me/tokens/{made['id']}", org)
    assert revoked.json()["revoked"] is True
    told = deployed.call("GET", "/me/usage", None, headers=reader)
    assert (told.status_code, told.json()["error"]["code"]) == (401, "invalid_token")
    assert [each["revoked"] for each in deployed.get("/me/tokens", org)["tokens"]] == [True]
    assert made["token"] not in deployed.product.all_words()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/me/keys", {"name": "x"}),
        ("PATCH", "/me/keys/key_1", {"name": "x"}),
        ("POST", "/me/tokens", {"name": "x"}),
        ("DELETE", "/me/tokens/tok_1", None),
    ],
)
def test_a_member_may_not_change_keys_and_tokens(
    deployed: Deployment, method: str, path: str, body: Any
) -> None:
    answer = deployed.call(method, path, "org-roles", role="member", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


def test_a_session_is_exchanged_once_and_an_operator_ends_those_of_an_org(deployed: Deployment) -> None:
    org = "org_signed_out"
    token, url = deployed.metering("session", "--org", org)["token"], deployed.product.http_url

    def status(bearer: str) -> int:
        headers = {"Authorization": f"Bearer {bearer}"}
        return httpx2.get(
            f"{url}/me/usage", headers=headers, timeout=20, trust_env=False, verify=False
        ).status_code

    assert status(token) == 200
    with httpx2.Client(base_url=url, timeout=20, trust_env=False, verify=False) as browser:
        entered = browser.get("/login", params={"token": token})
        assert (entered.status_code, entered.headers["location"]) == (303, "/overview")
        inside = browser.cookies["br_session"]
        assert browser.get("/billing").status_code == 200
        assert (
            httpx2.get(
                f"{url}/login", params={"token": token}, trust_env=False, verify=False, timeout=20
            ).status_code
            == 401
        )
        assert (status(token), status(inside)) == (401, 200)
        reader = deployed.call("POST", "/me/tokens", org, json={"name": "reader"}).json()["token"]
        others = deployed.call("POST", "/me/tokens", "org_stays", json={"name": "reader"}).json()["token"]
        assert deployed.metering("session", "revoke", "--org", org)["tokens_revoked"] == 1
        deployed.until(lambda: status(inside) == status(reader) == 401)
        assert status(others) == 200
        assert browser.get("/billing").status_code == 401
        # Others stay signed in, and who signs in again is in, until they sign out.
        assert deployed.call("GET", "/me/usage", "org_stays").status_code == 200
        again = deployed.metering("session", "--org", org, "--role", "member")["token"]
        assert browser.post("/login", data={"token": again}).status_code == 303
        inside = browser.cookies["br_session"]
        assert status(inside) == 200
        assert browser.post("/logout").status_code == 303
        assert status(inside) == 401
    deployed.metering("session", code=2)
