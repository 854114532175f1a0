"""What an operator may not have meant of the checks.

Knows which of them need others beside them. Does not know what a check sees.
"""

from __future__ import annotations

from collections.abc import Mapping

from inboundmx.model.settings import CheckSettings, Settings
from inboundmx.model.verdict import Weight


def of_checks(settings: Settings) -> list[str]:
    """Sentences about ``[check ...]`` sections."""
    kinds = {check.kind for check in settings.checks}
    found = []
    for check in settings.checks:
        if check.kind == "dmarc" and (missing := [kind for kind in ("spf", "dkim") if kind not in kinds]):
            found.append(
                f"[check {check.name}] no [check ...] uses {' or '.join(missing)}: what is not asked is held against "
                "nobody, so no mail fails"
            )
        if check.kind == "greylist":
            found += _late_waits(check, settings)
        identity = str(check.options.get("identity", "mailfrom"))
        if check.kind == "spf" and "dmarc" in kinds and "mailfrom" not in identity:
            found.append(
                f"[check {check.name}] identity = {identity}: dmarc asks for mailfrom, so mail that DKIM does not "
                "speak for fails"
            )
        if check.kind == "arc" and check.options.get("trusted") and "dmarc" not in kinds:
            found.append(f"[check {check.name}] trusted does nothing: no [check ...] uses dmarc")
    return found


def _late_waits(check: CheckSettings, settings: Settings) -> list[str]:
    """Where greylisting lets the first mail of somebody in and puts off the next one."""
    everybody = {(check.name, outcome): weight for outcome, weight in check.weights.items()}
    own: list[tuple[str, str, Mapping[tuple[str, str], Weight]]] = [(f"[check {check.name}]", "weight.", everybody)]
    prefix = f"weight.{check.name}."
    own += [(f"[domain {section.name}]", prefix, section.weights) for section in settings.sections]
    own += [(f"[recipients {some.name}]", prefix, some.weights) for some in settings.recipients]
    return [
        f"{where} {prefix}new = {new:g} lets the first mail in, and {prefix}early puts the next one off"
        for where, prefix, said in own
        if isinstance(new := said.get((check.name, "new")), float)
        and said.get((check.name, "early"), check.weights.get("early")) == "defer"
    ]
