"""Check a proof of a statement, trusting nobody: `python prove.py FILE [PUBLIC_KEY]`. docs/statements.md specifies the file.

It needs Python 3.11 and the package `cryptography`; no network, and nothing of this product. It prints a JSON object and ends with
0 where the proof holds, with 1 where it does not: `why` names the line then, and what is wrong there.
"""

import json
import sys
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

DEPTH, NO_HASH, FAILED = 24, bytes(32), 400
FIELDS = {  # of each kind of line, in their order
    "proof": "kind format deployment org month public_key handovers opening_rows opening_nano opening_hash",
    "rate": "kind model provider from_ms input cached output write audio_in audio_out request tiers",
    "request": "kind id org at_ms posted_ms source event_id key_id tier byok model provider status error_code latency_ms "
    "ttft_ms stream prompt cached completion reasoning cost_nano rate_from_ms cache_write audio_input audio_output irregular",
    "entry": "kind id org posted_ms type amount_nano balance_after_nano payment_id order_id promo_code note",
    "path": "kind day rows balance_nano hash blind place beside",
    "checkpoint": "kind deployment day root previous key handover signature",
    "end": "kind rows credits_nano debits_nano closing_nano hash signed_through sha256",
    "handover": "deployment day old_key new_key old_signature new_signature",
}
PLACES = {"proof": 0, "rate": 1, "request": 2, "entry": 2, "path": 3, "checkpoint": 4, "end": 5}


def need(holds: object, why: str) -> None:
    """Stop where something does not hold."""
    if not holds:
        raise ValueError(why)


def dump(value: object) -> bytes:
    """Return the one way in which a value is written."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def raw(text: str, size: int = 32) -> bytes:
    """Return the bytes of lower-case hex digits."""
    value = bytes.fromhex(text)
    need(value.hex() == text and len(value) == size, f"{text} is not {size} bytes in lower-case hex")
    return value


class Proof:
    """What was seen of a proof so far. `pinned` is the public key that is trusted, if any is."""

    def __init__(self, pinned: str | None) -> None:
        self.pinned, self.place, self.digest, self.previous, self.due = pinned, 0, sha256(), "", ""
        self.credits = self.debits = self.last_id = self.last_ms = 0
        self.rates: dict[Any, Any] = {}
        self.used, self.roots, self.signed = set[Any](), dict[str, str](), list[str]()

    def take(self, number: int, line: bytes) -> None:
        """Check the next line, which has to be written in the one way that its values are written in."""
        value = json.loads(line.decode(), parse_float=int, parse_constant=int)
        need(dump(value) + b"\n" == line, "it is not written in the one way that its values are written in")
        kind = value["kind"] if isinstance(value, dict) else value[0]
        names, before, self.place = FIELDS[kind].split(), self.place, PLACES[kind]
        need(before <= self.place and (self.place == 0) == (number == 1), "it is not in its place")
        fields = value if isinstance(value, dict) else dict(zip(names, value, strict=True))
        need(list(fields) == names and before < PLACES["end"], "its fields are others, or it is too much")
        which = (self.proof, self.rate, self.row, self.path, self.checkpoint, self.end)[self.place]
        which(fields, line[:-1])
        self.digest.update(line)

    def proof(self, head: Any, _line: bytes) -> None:
        """Check the first line: what was so before the month, and which keys have signed."""
        self.head, self.month, key, last = head, head["month"], None, ""
        self.before = str(date.fromisoformat(self.month + "-01") - timedelta(1))
        need(head["format"] == 1 and self.before[:4] <= self.month, "it is no month in format 1")
        for each in head["handovers"]:
            follows = key in (None, each["old_key"]) and each["day"] > last
            need(follows and list(each) == FIELDS["handover"].split(), "a hand-over does not follow")
            need(each["deployment"] == head["deployment"], "a hand-over is of another deployment")
            text = b"bharatrouter-handover\n" + dump(each).partition(b',"old_signature":')[0]
            for name in ("old", "new"):
                public = Ed25519PublicKey.from_public_bytes(raw(each[name + "_key"]))
                public.verify(raw(each[name + "_signature"], 64), text)
            key, last = each["new_key"], each["day"]
        keys = [head["public_key"], *(each["old_key"] for each in head["handovers"])]
        need(key in (None, keys[0]), "the hand-overs do not lead to the public key")
        need(self.pinned in (None, *keys), f"it is signed by {keys[0]}, not by the key that was asked for")
        self.state = head["opening_rows"], head["opening_nano"], raw(head["opening_hash"])
        need(self.state[0] > 0 or self.state == (0, 0, NO_HASH), "without rows there is a balance")
        self.states = {self.before: self.state}

    def rate(self, rate: Any, line: bytes) -> None:
        """Take a rate in."""
        name = rate["model"], rate["provider"], rate["from_ms"]
        need(not self.rates or name > max(self.rates), "the rates are not in order")
        self.rates[name] = list(rate.values()), sha256(line).digest()

    def row(self, row: Any, line: bytes) -> None:
        """Check a row: that it is of this org and month and follows the one before, and its cost or the balance after it."""
        follows = row["id"] > self.last_id and row["posted_ms"] >= self.last_ms
        is_near = not self.last_id or (row["id"] - self.last_id) % 1024 == 0
        need(follows and is_near and row["org"] == self.head["org"], "it does not follow")
        day = str(date.fromordinal(719_163 + (row["posted_ms"] + 19_800_000) // 86_400_000))
        need(day.startswith(self.month), "it was not posted in the month")
        (rows, balance, running), rate_hash = self.state, NO_HASH
        if row["kind"] == "entry":
            self.credits, balance = self.credits + row["amount_nano"], balance + row["amount_nano"]
            need(balance == row["balance_after_nano"], f"the balance is {balance} after it")
        else:
            cost, rate_hash = self.cost_nano(row)
            need(row["cost_nano"] == cost, f"it costs {cost} nano-rupees by its rate")
            self.debits, balance = self.debits + cost, balance - cost
        self.state = rows + 1, balance, sha256(b"\0" + running + rate_hash + line).digest()
        self.last_id, self.last_ms, self.states[day] = row["id"], row["posted_ms"], self.state

    def cost_nano(self, row: Any) -> tuple[int, bytes]:
        """Return what a request costs, and the hash of the rate that was in force."""
        name = row["model"], row["provider"], row["rate_from_ms"]
        if row["byok"] or row["status"] >= FAILED or row["tier"] == "trial":
            need(row["rate_from_ms"] == 0, "it is free, and names a rate")
            return 0, NO_HASH
        started = (each for each in self.rates if each[:2] == name[:2] and each[2] <= row["at_ms"])
        need(max(started, default=None) == name, "its rate is not in the file, or was not in force")
        self.used.add(name)
        rate, rate_hash = self.rates[name]
        prices = next((tier[1:] for tier in rate[11] if row["prompt"] > tier[0]), rate[4:10])
        prompt, cached, output, write, audio_in, audio_out = prices
        cost = (row["prompt"] - row["cached"]) * prompt + row["cached"] * cached + row["completion"] * output
        cost += row["cache_write"] * (write - prompt) + row["audio_input"] * (audio_in - prompt)
        cost += row["audio_output"] * (audio_out - output) + rate[10]
        beside = {2: row["reasoning"] * output, 3: (row["cached"] + row["cache_write"]) * prompt}
        return cost + beside.get(row["irregular"], 0), rate_hash

    def path(self, path: Any, _line: bytes) -> None:
        """Climb from the org to the root of a day."""
        need(path["day"] > max(self.roots, default=""), "the paths are not in the order of the days")
        state = path["rows"], path["balance_nano"], raw(path["hash"])
        beside = raw(path["beside"], 32 * DEPTH)
        before = max(each for each in self.states if each <= path["day"])
        need(state == self.states[before], "the rows do not lead to what it is of")
        need(0 <= path["place"] < 2**DEPTH, "its place is not in the tree")
        leaf = dump([self.head["org"], path["rows"], path["balance_nano"], path["hash"]])
        at = sha256(b"\2" + raw(path["blind"]) + leaf).digest()
        for level in range(DEPTH):
            other = beside[32 * level : 32 * level + 32]
            at = sha256(b"\1" + (other + at if path["place"] >> level & 1 else at + other)).digest()
        self.roots[path["day"]] = at.hex()

    def checkpoint(self, point: Any, line: bytes) -> None:
        """Check the checkpoint of a day: its signature, the one before it, and that the path leads to its root."""
        day, handovers = point["day"], self.head["handovers"]
        key = next((each["old_key"] for each in handovers if day < each["day"]), self.head["public_key"])
        handover = next((each for each in handovers if day == each["day"]), None)
        named = point["key"], point["handover"], point["deployment"]
        need(named == (key, handover, self.head["deployment"]), "its key is not that of the day")
        text = b"bharatrouter-checkpoint\n" + line.rpartition(b',"signature":')[0]
        Ed25519PublicKey.from_public_bytes(raw(key)).verify(raw(point["signature"], 64), text)
        begins = day == self.before or (day > self.before and point["previous"] == "00" * 32)
        follows = day == self.due and point["previous"] == self.previous
        is_near = day == self.before or day.startswith(self.month)
        need(is_near and (follows if self.signed else begins), "it does not follow the one before it")
        due = point["root"] if self.states[max(each for each in self.states if each <= day)][0] else None
        need(self.roots.get(day) == due, "the path of the day does not lead to the root that was signed")
        self.previous, self.signed = sha256(line).hexdigest(), [*self.signed, day]
        self.due = str(date.fromisoformat(day) + timedelta(1))

    def end(self, end: Any, line: bytes) -> None:
        """Check the sums, and that nothing is missing."""
        is_whole = self.used == self.rates.keys() and self.roots.keys() <= set(self.signed)
        need(is_whole, "no row was charged by one of the rates, or a checkpoint is missing")
        is_open = self.head["opening_rows"] and self.signed and self.signed[0] != self.before
        need(not is_open, "what was so before the month is not signed, but days of the month are")
        need(self.signed or self.pinned is None, "nothing in it is signed, by no key")
        rows, sums = self.state[0] - self.head["opening_rows"], (self.credits, self.debits, self.state[1])
        through = self.signed[-1] if self.signed else None
        due = ("end", rows, *sums, self.state[2].hex(), through, end["sha256"])
        need(tuple(end.values()) == due, "the sums are not those of the lines")
        self.shown = {name: self.head[name] for name in ("org", "month", "public_key")} | end
        self.digest.update(line.rpartition(b',"sha256":')[0])
        need(self.digest.hexdigest() == end["sha256"], "the hash of the file is another one")


def main(path: str, pinned: str | None = None) -> int:
    """Check a file, print what it shows, and return the exit code."""
    proof, number = Proof(pinned), 1
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                proof.take(number, line)
        need(proof.place == PLACES["end"], "the end is missing")
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a file, it does not hold
        print(json.dumps({"holds": False, "why": f"line {number}: {error or type(error).__name__}"}))
        return 1
    print(json.dumps({"holds": True, **proof.shown}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) in (2, 3) else 2)
