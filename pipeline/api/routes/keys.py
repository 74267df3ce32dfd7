"""`/me/keys`: an org's API keys.

Owns: making a key so that a lost answer does not lose it, and what members see of keys.
Called by: `api/server/app.py`. Next: the account's owner decides, `accounts/keys.py`.

A key is random and never kept, only its hash. With an `Idempotency-Key` it is drawn from the server's
secret, a random nonce kept with the answer, and the Idempotency-Key: only who knows all three can draw it
again, and the same request is answered the same key. Once the secret has changed another key would be drawn, one
that nobody registered: then the repetition is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Response
from msgspec import UNSET, UnsetType
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipeline.accounts.commands import ChangeKey, CreateKey
from pipeline.accounts.keys import EXPIRY_DAYS_MAX, PREFIX_CHARS, hash_key
from pipeline.accounts.names import plain_name
from pipeline.accounts.results import KeyView
from pipeline.api.http.answers import Count, Documented, Moment, Rupees, failures, json_answer, moment, rupees
from pipeline.api.http.bodies import ExactRoute, RupeesGiven, WholeNumber
from pipeline.api.http.errors import ApiError, invalid
from pipeline.api.http.idempotency import IdempotencyKey, command_id, fingerprint
from pipeline.api.http.parameters import only
from pipeline.api.routes.billing import view_account
from pipeline.api.services.accounts import AccountServices, answered_in_time
from pipeline.api.services.dependencies import AccountsOf, ContextOf, KeyManagerSession, SignedIn
from pipeline.ist import DAY_MS
from pipeline.kafka.commands import new_command_id
from pipeline.money import AmountError, parse_inr
from pipeline.outcomes import RefusalCode

CREATE_ROUTE = "POST /me/keys"
KEY_BYTES = 24
"""192 random bits."""

Name = Annotated[
    str, AfterValidator(plain_name), Field(description="Printable, 1 to 60 characters once trimmed")
]
Days = Annotated[WholeNumber, Field(ge=1, le=EXPIRY_DAYS_MAX)]
Limit = Annotated[WholeNumber, Field(ge=1)]

router = APIRouter(tags=["keys"], route_class=ExactRoute)


class NewKey(BaseModel):
    """A key to make. What is left out has no limit."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    tier: Literal["standard", "trial"] = "standard"
    budget_inr: RupeesGiven | None = None
    daily_limit: Limit | None = None
    rpm_limit: Limit | None = None
    expires_days: Days | None = None


class KeyChange(BaseModel):
    """What to change of a key; null takes a limit away. A tier cannot change, a revocation is for good."""

    model_config = ConfigDict(extra="forbid")

    name: Name = ""
    budget_inr: RupeesGiven | None = None
    daily_limit: Limit | None = None
    rpm_limit: Limit | None = None
    expires_days: Days | None = None
    revoked: Literal[True] | None = None


class KeyShown(Documented):
    """A key as its org sees it."""

    key_id: str
    name: str
    prefix: str
    tier: str
    budget_inr: Rupees | None
    spent_this_month_inr: Rupees
    daily_limit: Count | None
    rpm_limit: Count | None
    expires_at: Moment | None
    revoked: bool


class KeyMade(KeyShown):
    """A new key; `key` is shown this once."""

    key: str


class KeysAnswer(Documented):
    """All keys of the org, oldest first, the revoked ones too."""

    keys: list[KeyShown]


@router.get("/me/keys", response_model=KeysAnswer, responses=failures(401))
async def list_keys(
    session: SignedIn, accounts: AccountsOf, _checked: Annotated[None, Depends(only())]
) -> Response:
    """All keys, with what each has spent in this IST month."""
    account = await view_account(accounts.client, session.org)
    return json_answer({"keys": [_shown(key) for key in account.keys]})


@router.post("/me/keys", response_model=KeyMade, responses=failures(400, 401, 403, 409, 429))
async def create_key(
    session: KeyManagerSession,
    accounts: AccountsOf,
    body: NewKey,
    context: ContextOf,
    _checked: Annotated[None, Depends(only())],
    key: IdempotencyKey = None,
) -> Response:
    """Make a key. It is shown in this answer only; the same Idempotency-Key shows it again."""
    secret, nonce = context.session_secret, secrets.token_hex(16)
    api_key = drawn_key(body.tier, secret, key, nonce) if key else random_key(body.tier)
    command = _create(session.org, body, context.now_ms(), api_key, key, nonce)
    async with answered_in_time():
        made = await accounts.ask(command)
        await accounts.key_directory.reached(made.key_id, made.version)
        shown = await _find(accounts, session.org, made.key_id)
    if key:
        api_key = drawn_key(body.tier, secret, key, made.nonce)
        if not accounts.key_directory.is_key(made.key_id, api_key):
            raise ApiError(RefusalCode.KEY_SHOWN_BEFORE, param="Idempotency-Key")
    return json_answer({**shown, "key": api_key})


@router.patch("/me/keys/{key_id}", response_model=KeyShown, responses=failures(400, 401, 403, 404))
async def change_key(
    session: KeyManagerSession,
    accounts: AccountsOf,
    key_id: str,
    body: KeyChange,
    context: ContextOf,
    _checked: Annotated[None, Depends(only())],
) -> Response:
    """Change a key, or revoke it. Gateways know within a second."""
    command = _change(session.org, key_id, body, context.now_ms())
    async with answered_in_time():
        changed = await accounts.ask(command)
        await accounts.key_directory.reached(changed.key_id, changed.version)
        return json_answer(await _find(accounts, session.org, key_id))


def random_key(tier: str) -> str:
    """Return a new API key of a tier."""
    return _key(tier, secrets.token_bytes(KEY_BYTES))


def drawn_key(tier: str, secret: str, idempotency_key: str, nonce: str) -> str:
    """Return the API key that belongs to an Idempotency-Key and a nonce; see the module's docstring."""
    drawn = hmac.digest(secret.encode(), f"api-key\0{nonce}\0{idempotency_key}".encode(), hashlib.sha256)
    return _key(tier, drawn[:KEY_BYTES])


def _key(tier: str, drawn: bytes) -> str:
    text = base64.urlsafe_b64encode(drawn).decode()
    return ("br-trial-" if tier == "trial" else "br-") + text


def _create(org: str, body: NewKey, now_ms: int, api_key: str, key: str | None, nonce: str) -> CreateKey:
    return CreateKey(
        id=command_id(org, CREATE_ROUTE, key),
        org=org,
        key_id=f"key_{secrets.token_hex(8)}",
        name=body.name,
        prefix=api_key[:PREFIX_CHARS],
        hash=hash_key(api_key),
        tier=body.tier,
        budget_nano=_budget_nano(body.budget_inr),
        daily_limit=body.daily_limit,
        rpm_limit=body.rpm_limit,
        expires_ms=None if body.expires_days is None else now_ms + body.expires_days * DAY_MS,
        nonce=nonce,
        fingerprint=fingerprint(body.model_dump_json()),
    )


def _change(org: str, key_id: str, body: KeyChange, now_ms: int) -> ChangeKey:
    given = body.model_fields_set
    expires_ms: int | UnsetType | None = UNSET
    if "expires_days" in given:
        expires_ms = None if body.expires_days is None else now_ms + body.expires_days * DAY_MS
    return ChangeKey(
        id=new_command_id(),
        org=org,
        key_id=key_id,
        name=body.name if "name" in given else UNSET,
        budget_nano=_budget_nano(body.budget_inr) if "budget_inr" in given else UNSET,
        daily_limit=body.daily_limit if "daily_limit" in given else UNSET,
        rpm_limit=body.rpm_limit if "rpm_limit" in given else UNSET,
        expires_ms=expires_ms,
        revoked=body.revoked is True,
    )


def _budget_nano(budget_inr: RupeesGiven | None) -> int | None:
    if budget_inr is None:
        return None
    try:
        return parse_inr(budget_inr)
    except AmountError as error:
        raise invalid("budget_inr", str(error)) from None


async def _find(accounts: AccountServices, org: str, key_id: str) -> dict[str, object]:
    account = await view_account(accounts.client, org)
    return next(_shown(key) for key in account.keys if key.key_id == key_id)


def _shown(key: KeyView) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "prefix": key.prefix,
        "tier": key.tier,
        "budget_inr": None if key.budget_nano is None else rupees(key.budget_nano),
        "spent_this_month_inr": rupees(key.spent_this_month_nano),
        "daily_limit": key.daily_limit,
        "rpm_limit": key.rpm_limit,
        "expires_at": None if key.expires_ms is None else moment(key.expires_ms),
        "revoked": key.revoked,
    }
