"""Hold objects against the models of the operators that they are for; run by the Python of `make helm`, which has these.

python operators.py FILE...    exit 1, and what is wrong, where an object has a field that its kind has not, or a wrong one
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from pydantic import ValidationError

KINDS = {kind.__name__: kind for kind in (ScaledObject, ServiceMonitor, PrometheusRule)}


def main(files: list[str]) -> int:
    """Check each object of a known kind; the exit code."""
    problems = []
    seen: set[str] = set()
    for file in files:
        for each in yaml.safe_load_all(Path(file).read_text(encoding="utf-8")):
            if each is None or each["kind"] not in KINDS:
                continue
            seen.add(each["kind"])
            try:
                KINDS[each["kind"]].model_validate(each, extra="forbid", by_alias=True, by_name=False)
            except ValidationError as error:
                problems.append(f"{file}: {each['kind']}: {error}")
    print("\n".join([*problems, f"looked at {', '.join(sorted(seen))}"]))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
