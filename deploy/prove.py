"""Check a proof of a statement, trusting nobody: `python prove.py FILE [PUBLIC_KEY]`. docs/statements.md specifies the file.

It needs Python 3.11 and the package `cryptography`, no network and nothing of this product. It prints a JSON object and exits
with 0 where the proof holds, with 1 where it does not: then `why` names the line and what is wrong there.
"""

import json
import sys
from datetime import date, timedelta
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

IST_MS, DAY_MS, DEPTH, ZERO = 19_800_000, 86_400_000, 24, "00" * 32
HEAD = "kind format deployment org month public_key handovers opening_rows opening_nano opening_hash".split()
HANDOVER = "deployment day old_key new_key old_signature new_signature".split()
PATH = "kind day rows balance_nano hash blind place beside".split()
CHECKPOINT = "kind deployment day root previous key handover signature".split()
END = "kind rows credits_nano debits_nano closing_nano hash signed_through sha256".split()
REQUEST = (
    "kind id org at_ms posted_ms source event_id key_id tier byok model provider status error_code latency_ms ttft_ms stream "
    "prompt cached completion reasoning cost_nano rate_from_ms cache_write audio_input audio_output irregular"
).split()
ENTRY = "kind id org posted_ms type amount_nano balance_after_nano payment_id order_id promo_code note".split()
TEXTS = {*"org source event_id key_id tier model provider error_code type payment_id order_id promo_code note".split()}
FLAGS = {"byok", "stream"}
BROKEN = (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError)


def need(holds, why):
    """Stop where something does not hold."""
    if not holds:
        raise ValueError(why)


def dump(value):
    """Return the one way in which a value is written."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def no_float(text):
    """Refuse a number that is no integer."""
    raise ValueError(f"{text} is no integer")


def load(line, fields=None):
    """Return the value of a line that is written in the one way; an object has exactly these fields in their order."""
    value = json.loads(line.decode(), parse_float=no_float, parse_constant=no_float)
    need(dump(value) == line, "it is not written in the one way that its values are written in")
    need(fields is None or list(value) == fields, f"it has not exactly the fields {fields}")
    return value


def raw(text, size=32):
    """Return the bytes of lower-case hex digits."""
    value = bytes.fromhex(text)
    need(value.hex() == text and len(value) == size, f"{text} is not {size} bytes in lower-case hex")
    return value


def verify(key, signature, word, text):
    """Check a signature over a word, a line feed and a text."""
    try:
        Ed25519PublicKey.from_public_bytes(raw(key)).verify(raw(signature, 64), word + b"\n" + text)
    except InvalidSignature:
        raise ValueError(f"it is not signed by {key}") from None


def day_of(ms):
    """Return the IST date of an instant."""
    return (date(1970, 1, 1) + timedelta(days=(ms + IST_MS) // DAY_MS)).isoformat()


def following(day, days=1):
    """Return the date some days later."""
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


def cost(rate, row):
    """Return what a charged request costs by a rate, in nano-rupees."""
    prices, fee, tiers = rate[4:10], rate[10], rate[11]
    prices = next((tier[1:] for tier in tiers if row["prompt"] > tier[0]), prices)
    input_, cached, output, write, audio_in, audio_out = prices
    total = (row["prompt"] - row["cached"]) * input_ + row["cached"] * cached + row["completion"] * output + fee
    total += row["cache_write"] * (write - input_) + row["audio_input"] * (audio_in - input_)
    total += row["audio_output"] * (audio_out - output)
    if row["irregular"] == 2:  # the reasoning was counted beside the completion
        total += row["reasoning"] * output
    elif row["irregular"] == 3:  # cached tokens and cache writes were counted beside the prompt
        total += (row["cached"] + row["cache_write"]) * input_
    return total


def check(lines, pinned=None):
    """Yield the number of each line before it is checked, and at the end the dictionary of what the proof shows."""
    line, number, digest = next(lines, b""), 1, sha256()

    def taken():
        nonlocal line, number
        digest.update(line + b"\n")
        line, number = next(lines, b""), number + 1

    yield number
    head = load(line, HEAD)
    need(head["kind"] == "proof" and head["format"] == 1, "it is no proof in format 1")
    month = head["month"]
    need(date.fromisoformat(month + "-01").isoformat() == month + "-01", "the month is none")
    before, key, keys = following(month + "-01", -1), None, {head["public_key"]}
    for each in head["handovers"]:
        need(list(each) == HANDOVER and each["deployment"] == head["deployment"], "a hand-over is none of this deployment")
        need(key in (None, each["old_key"]), "the hand-overs do not follow each other")
        text = dump(each).partition(b',"old_signature":')[0]
        for which in ("old", "new"):
            verify(each[which + "_key"], each[which + "_signature"], b"bharatrouter-handover", text)
        keys.add(each["old_key"])
        key = each["new_key"]
    days = [each["day"] for each in head["handovers"]]
    need(days == sorted(set(days)) and key in (None, head["public_key"]), "the hand-overs do not lead to the public key")
    need(pinned is None or pinned in keys, f"it is signed by {head['public_key']}, not by the key that was asked for")
    rows, balance, running = head["opening_rows"], head["opening_nano"], raw(head["opening_hash"])
    need(type(rows) is type(balance) is int and rows >= 0, "what was so before the month is no number")
    need((rows == 0) == (running == bytes(32)) and (rows or balance == 0), "what was so before the month contradicts itself")
    states, credits, debits, last_id, last_ms, rates, used = {before: (rows, balance, running)}, 0, 0, 0, 0, {}, set()
    taken()
    while line.startswith(b'["rate",'):
        yield number
        rate = load(line)
        name = (rate[1], rate[2], rate[3])
        need(len(rate) == 12 and all(type(n) is int and n >= 0 for n in rate[4:11]), "it is no rate")
        need(all(len(tier) == 7 for tier in rate[11]) and (not rates or name > max(rates)), "it is no rate, or not in order")
        rates[name] = rate, sha256(line).digest()
        taken()
    while line.startswith((b'["request",', b'["entry",')):
        yield number
        values, fields = load(line), REQUEST if line.startswith(b'["request"') else ENTRY
        need(len(values) == len(fields), "it is no row")
        row = dict(zip(fields, values, strict=True))
        for field, value in list(row.items())[1:]:
            kind = str if field in TEXTS else bool if field in FLAGS else int
            need(type(value) is kind or (field == "ttft_ms" and value is None), f"{field} is not of its kind")
        need(row["org"] == head["org"], "it is of another org")
        need(row["id"] > last_id and (not last_id or row["id"] % 1024 == last_id % 1024), "its id does not follow")
        day, rate_hash = day_of(row["posted_ms"]), bytes(32)
        need(row["posted_ms"] >= last_ms and day[:7] == month, "it was not posted in the month after the row before it")
        if fields is ENTRY:
            credits, balance = credits + row["amount_nano"], balance + row["amount_nano"]
            need(balance == row["balance_after_nano"], f"the balance after it is {balance} nano-rupees")
        else:
            due, debits, balance = 0, debits + row["cost_nano"], balance - row["cost_nano"]
            if row["byok"] or row["status"] >= 400 or row["tier"] == "trial":
                need(row["rate_from_ms"] == 0, "it is free and names a rate")
            else:
                name = (row["model"], row["provider"], row["rate_from_ms"])
                later = [n for n in rates if n[:2] == name[:2] and name[2] < n[2] <= row["at_ms"]]
                need(name in rates and name[2] <= row["at_ms"] and not later, "its rate is not there, or was not in force")
                used.add(name)
                due, rate_hash = cost(rates[name][0], row), rates[name][1]
            need(row["cost_nano"] == due, f"it costs {due} nano-rupees by its rate")
        running, rows = sha256(b"\0" + running + rate_hash + line).digest(), rows + 1
        states[day], last_id, last_ms = (rows, balance, running), row["id"], row["posted_ms"]
        taken()
    need(used == rates.keys(), "no row was charged by one of the rates")
    roots, signed, previous = {}, [], None
    while line.startswith(b'{"kind":"path",'):
        yield number
        path = load(line, PATH)
        day = path["day"]
        need(not roots or day > max(roots), "the paths are not in the order of the days")
        state = states[max(d for d in states if d <= day)]
        need(state == (path["rows"], path["balance_nano"], raw(path["hash"])), "the rows do not lead to it")
        beside, place = raw(path["beside"], 32 * DEPTH), path["place"]
        need(type(place) is int and 0 <= place < 2**DEPTH, "its place is not in the tree")
        leaf = dump([head["org"], path["rows"], path["balance_nano"], path["hash"]])
        at = sha256(b"\2" + raw(path["blind"]) + leaf).digest()
        for level in range(DEPTH):
            other = beside[32 * level : 32 * level + 32]
            at = sha256(b"\1" + (other + at if place >> level & 1 else at + other)).digest()
        roots[day] = at.hex()
        taken()
    while line.startswith(b'{"kind":"checkpoint",'):
        yield number
        point = load(line, CHECKPOINT)
        day = point["day"]
        need(point["deployment"] == head["deployment"], "it is of another deployment")
        key = next((h["old_key"] for h in head["handovers"] if day < h["day"]), head["public_key"])
        handover = next((h for h in head["handovers"] if h["day"] == day), None)
        need(point["key"] == key and point["handover"] == handover, "its key is not the one of that day")
        verify(key, point["signature"], b"bharatrouter-checkpoint", line.rpartition(b',"signature":')[0])
        follows = previous is not None and day == following(signed[-1]) and point["previous"] == previous
        begins = previous is None and (day == before or (day > before and point["previous"] == ZERO))
        need((follows or begins) and (day == before or day[:7] == month), "it does not follow the one before it")
        has_rows = states[max(d for d in states if d <= day)][0] > 0
        need(roots.get(day) == (point["root"] if has_rows else None), "the path does not lead to the root that was signed")
        signed.append(day)
        previous = sha256(line).hexdigest()
        taken()
    need(roots.keys() <= set(signed), "a checkpoint is missing")
    need(not signed or not head["opening_rows"] or signed[0] == before, "what was so before the month is not signed")
    need(signed or pinned is None, "nothing in it is signed, so not by the key that was asked for either")
    yield number
    end = load(line, END)
    sums = {"kind": "end", "rows": rows - head["opening_rows"], "credits_nano": credits, "debits_nano": debits}
    sums |= {"closing_nano": balance, "hash": running.hex(), "signed_through": signed[-1] if signed else None}
    need({**sums, "sha256": end["sha256"]} == end, "the sums are not those of the lines")
    digest.update(line.rpartition(b',"sha256":')[0])
    need(digest.hexdigest() == end["sha256"], "the hash of the file is another one")
    need(next(lines, None) is None, "there is more after the end")
    shown = {"org": head["org"], "month": month, "opening_nano": head["opening_nano"], **sums}
    yield {name: shown[name] for name in shown if name not in ("kind", "hash")} | {"public_key": head["public_key"]}


def whole_lines(file):
    """Yield the lines of a file without their line feeds, which each has to have."""
    for line in file:
        need(line.endswith(b"\n"), "the file does not end with a line feed")
        yield line[:-1]


def main(path, pinned=None):
    """Check a file; print what it shows; return the exit code."""
    at = 1
    try:
        with open(path, "rb") as file:
            for at in check(whole_lines(file), pinned):
                pass
    except BROKEN as error:
        print(json.dumps({"holds": False, "why": f"line {at}: {error}"}))
        return 1
    print(json.dumps({"holds": True, **at}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]) if len(sys.argv) in (2, 3) else 2)
