"""The pages' templates: what they put in is text, never markup.

Called by: every page. The templates are in `api/templates/`.
"""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

_environment = Environment(
    loader=PackageLoader("pipeline.api"),
    # Whatever the name of the file: no page is made of anything but HTML.
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def template(name: str) -> Template:
    """Return a template by the name of its file."""
    return _environment.get_template(name)
