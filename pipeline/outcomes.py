"""The vocabulary of outcomes: every word that callers, operators and metrics tell cases apart by.

Owns: refusal codes (with HTTP status and default wording), the windows in which gateways refuse a key,
dead-letter reasons, kinds of ledger entries, and what becomes of payments and refunds. Each is one closed
type, so a new member makes mypy name every place that has to say something about it.
Called by: everybody. `contract_tables.py` makes `docs/errors.md` and the table of dead letters in
`docs/events.md` from these types.

To add a refusal: a member of `RefusalCode` here, then `python -m pipeline.contract`; whoever refuses names it.
To add a reason, a kind or an outcome: a member here, and a case wherever mypy then says that one is missing.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self, assert_never

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "rate_limit_error",
    "api_error",
    "unavailable_error",
]
"""The `type` of an error, as OpenAI's clients know it: a coarser word than the code."""

Status = Literal[400, 401, 402, 403, 404, 405, 408, 409, 413, 414, 429, 431, 500, 503]
"""The HTTP statuses of refusals."""


def error_type(status: Status) -> ErrorType:  # noqa: PLR0911 - one case a status
    """Return the `type` that goes with an HTTP status."""
    match status:
        case 400 | 405 | 408 | 409 | 413 | 414 | 431:
            return "invalid_request_error"
        case 401:
            return "authentication_error"
        case 402:
            return "billing_error"
        case 403:
            return "permission_error"
        case 404:
            return "not_found_error"
        case 429:
            return "rate_limit_error"
        case 500:
            return "api_error"
        case 503:
            return "unavailable_error"
    assert_never(status)


class RefusalCode(StrEnum):
    """The `code` of an error, at the HTTP API, at gateways and of refused commands: callers branch on it."""

    status: Status
    wording: str
    when: str
    remedy: str

    def __new__(cls, code: str, status: Status, wording: str, when: str, remedy: str) -> Self:
        """Make a member that is its code and knows the rest.

        `wording` is for where nothing more exact is said; `when` it is given and the `remedy`, what the caller
        does about it, are for `docs/errors.md`.
        """
        member = str.__new__(cls, code)
        member._value_ = code
        member.status, member.wording, member.when, member.remedy = status, wording, when, remedy
        return member

    @classmethod
    def _missing_(cls, _value: object) -> RefusalCode:
        """Read a code of a newer worker as `refused`: workers are upgraded before the servers that ask them."""
        return cls.REFUSED

    @property
    def type(self) -> ErrorType:
        """The `type` of the error."""
        return error_type(self.status)

    INVALID_REQUEST = (
        "invalid_request",
        400,
        "the request is not as it has to be",
        "a parameter is missing, malformed or out of range; an `Idempotency-Key` was used for another request",
        "mend what `param` names",
    )
    ADDRESS_REQUIRED = (
        "address_required",
        400,
        "the org needs a billing address before its first top-up",
        "a top-up is ordered by an org without a billing address",
        "`PUT /me/billing/address`, then order again",
    )
    PROMO_INVALID = (
        "promo_invalid",
        400,
        "this promo code is not valid",
        "a promo code does not exist or has expired",
        "order without it",
    )
    PROMO_REDEEMED = (
        "promo_redeemed",
        400,
        "the org has redeemed this promo code",
        "the org has had the bonus of this promo code",
        "order without it",
    )
    DUPLICATE_KEY_NAME = (
        "duplicate_key_name",
        400,
        "an active key has this name already",
        "a key is made, or named, as another active key of the org is",
        "choose another name, or revoke the other key",
    )
    KEY_LIMIT_REACHED = (
        "key_limit_reached",
        400,
        "the org has as many active keys as it may have",
        "a key is made by an org that has the most active keys it may have",
        "revoke a key",
    )
    DUPLICATE_TOKEN_NAME = (
        "duplicate_token_name",
        400,
        "an access token in force has this name already",
        "an access token is made with the name of another one of the org that is in force",
        "choose another name, or revoke the other token",
    )
    TOKEN_LIMIT_REACHED = (
        "token_limit_reached",
        400,
        "the org has as many access tokens as it may have",
        "an access token is made by an org that has the most it may have in force",
        "revoke a token",
    )
    TRIAL_CEILING = (
        "trial_ceiling",
        400,
        "a trial key has lower limits than this",
        "a trial key is given a limit above what trial keys may have",
        "give a lower limit, or make a standard key",
    )
    INVALID_SIGNATURE = (
        "invalid_signature",
        400,
        "the signature does not verify",
        "a Checkout callback or a webhook is not signed by Razorpay",
        "check the secrets on both sides",
    )
    REFUSED = (
        "refused",
        400,
        "refused for a reason that this version does not know",
        "a newer worker refuses a command for a reason that this server does not know",
        "read `message`; upgrade the server",
    )
    NO_SESSION = (
        "no_session",
        401,
        "this needs a valid session: Authorization: Bearer TOKEN",
        "`/me/*` is called without a session, or with one that is over",
        "sign in again",
    )
    INVALID_TOKEN = (
        "invalid_token",
        401,
        "this access token is not valid: unknown, expired or revoked",
        "`/me/*` is called with a `brt-...` that is unknown, expired or revoked",
        "make another token: `POST /me/tokens` or the page `/keys`",
    )
    INVALID_API_KEY = (
        "invalid_api_key",
        401,
        "this API key is not valid",
        "an API key is missing, malformed, revoked or expired",
        "use another key",
    )
    INSUFFICIENT_CREDITS = (
        "insufficient_credits",
        402,
        "the balance is used up; add credits to go on",
        "the balance is used up, or does not cover what a request may cost; not for trial and BYOK requests",
        "add credits",
    )
    FORBIDDEN = (
        "forbidden",
        403,
        "the role may not do this",
        "the session's role may not do this, an access token is to do more than read, or another site's page asked for it",
        "ask an owner of the org",
    )
    NOT_FOUND = (
        "not_found",
        404,
        "there is nothing here",
        "it does not exist, or belongs to another org: the two look the same",
        "check the id and the address",
    )
    METHOD_NOT_ALLOWED = (
        "method_not_allowed",
        405,
        "not with this method",
        "the address exists, but not with this method",
        "see `/openapi.json`",
    )
    REQUEST_TIMEOUT = (
        "request_timeout",
        408,
        "the request did not arrive in time",
        "the head or the body of a request did not arrive within the time for it",
        "send it again over a connection that carries it",
    )
    BODY_TOO_LARGE = (
        "body_too_large",
        413,
        "the body is larger than any that is taken here",
        "the body of a request is larger than 256 KiB",
        "send less at once",
    )
    ADDRESS_TOO_LONG = (
        "address_too_long",
        414,
        "the address is longer than any that is taken here",
        "the address of a request, with its parameters, is longer than 8 KiB",
        "ask with fewer or shorter parameters",
    )
    HEADERS_TOO_LARGE = (
        "headers_too_large",
        431,
        "the headers are larger than any that are taken here",
        "a request has a header of more than 8 KiB, more than 100 headers, or a head of more than 32 KiB",
        "send fewer and smaller headers; delete the cookies of this site",
    )
    KEY_SHOWN_BEFORE = (
        "key_shown_before",
        409,
        "this request made a key earlier, and that key cannot be shown again",
        "the request that made a key is repeated by its `Idempotency-Key`, but the server's secret has changed since",
        "use the key if you have it; else revoke it and make another one with a new `Idempotency-Key`",
    )
    BUDGET_EXCEEDED = (
        "budget_exceeded",
        429,
        "the key's monthly budget is spent",
        "what was debited for the key in this IST month has reached its budget",
        "raise the budget, or wait until `resets_at`",
    )
    DAILY_LIMIT_REACHED = (
        "daily_limit_reached",
        429,
        "the key's requests of this IST day are used up",
        "the key has made as many requests in this IST day as it may",
        "raise the limit, or wait until `resets_at`",
    )
    KEY_REFUSED = (
        "key_refused",
        429,
        "the key is refused for a reason that this version does not know",
        "a newer worker refuses the key for a reason that this gateway does not know",
        "upgrade the gateway",
    )
    RATE_LIMIT_EXCEEDED = (
        "rate_limit_exceeded",
        429,
        "too many requests; try again later",
        "too often: a key at a gateway, an org, a session, an address; or in 24 hours too many keys, unpaid orders, or `Idempotency-Key`s of an org",
        "wait for the seconds in `Retry-After`",
    )
    INTERNAL = (
        "internal",
        500,
        "this is our mistake; it has been noted",
        "a mistake of ours",
        "tell us the `request_id`",
    )
    UNAVAILABLE = (
        "unavailable",
        503,
        "a part that this needs is not available; nothing was lost, try again",
        "a part that this needs is down, or too slow to answer in time; at a gateway: verdicts are stale",
        "try again after `Retry-After`, with the same `Idempotency-Key`",
    )


class KeyRefusal(StrEnum):
    """Why gateways refuse a key for a window of time: the `code` of the window in a verdict.

    A newer worker may know other reasons: read them as `key_refused`, the window holds all the same.
    """

    BUDGET_EXCEEDED = "budget_exceeded"
    DAILY_LIMIT_REACHED = "daily_limit_reached"
    UNKNOWN = "key_refused"

    @classmethod
    def _missing_(cls, _value: object) -> KeyRefusal:
        """Read a reason of a newer worker as unknown, so that the rest of its verdict counts."""
        return cls.UNKNOWN

    @property
    def code(self) -> RefusalCode:
        """The code that the caller is told."""
        match self:
            case KeyRefusal.BUDGET_EXCEEDED:
                return RefusalCode.BUDGET_EXCEEDED
            case KeyRefusal.DAILY_LIMIT_REACHED:
                return RefusalCode.DAILY_LIMIT_REACHED
            case KeyRefusal.UNKNOWN:
                return RefusalCode.KEY_REFUSED
        assert_never(self)


class DeadLetterReason(StrEnum):
    """Why an event or a command could not be carried out: the header `reason` of a dead letter.

    A member is its word, when it is given, and what is done about it, both for the documentation.
    """

    when: str
    remedy: str

    def __new__(cls, reason: str, when: str, remedy: str) -> Self:
        """Make a member that is its word and knows the rest."""
        member = str.__new__(cls, reason)
        member._value_ = reason
        member.when, member.remedy = when, remedy
        return member

    MALFORMED = "malformed", "not JSON", "mend the gateway, publish again"
    INVALID = (
        "invalid",
        "JSON, but not as the contract of request events has it",
        "mend the gateway, publish again",
    )
    UNPRICED = (
        "unpriced",
        "no rate for (model, provider) at `time`",
        "add the rate, `metering redrive`",
    )
    TOO_LATE = (
        "too_late",
        "`time` over 35 days before the broker received it",
        "an operator decides: `metering redrive --too-late`",
    )
    FROM_THE_FUTURE = (
        "from_the_future",
        "`time` over 10 minutes after the broker received it",
        "mend the clock, publish again; or wait until the time has come, `metering redrive`",
    )
    LEAP = (
        "leap",
        "`sequence` is so far above the last one of its source that another sender may have written it",
        "find out who wrote it; the source's own: give it a new `source`, `metering redrive --leaps`",
    )
    UNAUTHENTICATED = (
        "unauthenticated",
        "a command that no holder of the command key sent, or that was sent over 10 minutes before",
        "find out who wrote it; a command of one's own: send it again",
    )
    UNSIGNED = (
        "unsigned",
        "its `source` is a registered gateway's, and the record carries no good signature of that gateway",
        "find out who wrote it; the gateway's own: give it its key, `metering redrive --unsigned`",
    )
    QUARANTINED = (
        "quarantined",
        "an operator set the record aside as it ended workers: `metering quarantine`",
        "look why; publish again what of it is to be charged",
    )

    @classmethod
    def named(cls, reason: str) -> DeadLetterReason | None:
        """Return the reason of a word, None for one that a newer worker may know."""
        return next((member for member in cls if member.value == reason), None)


class DuplicateKind(StrEnum):
    """How an event that is dropped as a duplicate differs from the one that was charged: the metric's label."""

    OTHER_ORG = "other_org"
    """The same source and id, for another org."""
    OTHER_CONTENT = "other_content"
    """The same source and id, with another model, tokens, status or anything else of `data`."""
    NUMBER_FELL = "number_fell"
    """A number at or below the last of its source, with an id that was not charged under it."""


class LedgerKind(StrEnum):
    """The kind of a ledger entry. Requests are no entries: the balance after an entry counts them."""

    PROMO = "promo"
    """A bonus: at sign-up, or a promo code's with a top-up."""
    TOPUP = "topup"
    """A captured payment."""
    REFUND = "refund"
    """Money that went back to the payer; above zero where a refund failed and is reversed."""
    DISPUTE = "dispute"
    """Money that the payer's bank took back in a dispute; above zero where the dispute was won after all."""
    CORRECTION = "correction"
    """An operator's credit or debit, with the reason as its note."""


PaymentStatus = Literal["captured", "failed", "mismatched"]
"""What became of a payment: credited; not made; or captured by Razorpay, but not as ordered: not credited."""
RefundStatus = Literal["debited", "failed", "ignored", "corrected"]
"""What became of a refund: debited; failed, and reversed if it had been debited; of nothing that was credited; or
taken off the balance by an operator's correction that names it, so that it is not debited again."""
DisputeStatus = Literal["open", "closed", "lost", "won"]
"""Where a dispute stands: not decided; ended without money; the bank took money back; or it gave it back again."""


class MoneyOutcome(StrEnum):
    """What became of a payment, refund or dispute, as the metric's label says it."""

    PAYMENT_CAPTURED = "payment captured"
    PAYMENT_FAILED = "payment failed"
    PAYMENT_MISMATCHED = "payment mismatched"
    REFUND_DEBITED = "refund debited"
    REFUND_FAILED = "refund failed"
    REFUND_IGNORED = "refund ignored"
    REFUND_CORRECTED = "refund corrected"
    DISPUTE_OPEN = "dispute open"
    DISPUTE_CLOSED = "dispute closed"
    DISPUTE_LOST = "dispute lost"
    DISPUTE_WON = "dispute won"
    STRAY = "stray"
    """A payment of the Razorpay account that is none of this product's orders."""

    @classmethod
    def of_payment(cls, status: PaymentStatus) -> MoneyOutcome:
        """Return the outcome of a payment."""
        match status:
            case "captured":
                return cls.PAYMENT_CAPTURED
            case "failed":
                return cls.PAYMENT_FAILED
            case "mismatched":
                return cls.PAYMENT_MISMATCHED
        assert_never(status)

    @classmethod
    def of_refund(cls, status: RefundStatus) -> MoneyOutcome:
        """Return the outcome of a refund."""
        match status:
            case "debited":
                return cls.REFUND_DEBITED
            case "failed":
                return cls.REFUND_FAILED
            case "ignored":
                return cls.REFUND_IGNORED
            case "corrected":
                return cls.REFUND_CORRECTED
        assert_never(status)

    @classmethod
    def of_dispute(cls, status: DisputeStatus) -> MoneyOutcome:
        """Return the outcome of a dispute."""
        match status:
            case "open":
                return cls.DISPUTE_OPEN
            case "closed":
                return cls.DISPUTE_CLOSED
            case "lost":
                return cls.DISPUTE_LOST
            case "won":
                return cls.DISPUTE_WON
        assert_never(status)
