"""What an operator may not have meant of the checks.

Knows which of them need others beside them. Does not know what a check sees.
"""

from __future__ import annotations

from inboundmx.model.settings import Settings


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
        identity = str(check.options.get("identity", "mailfrom"))
        if check.kind == "spf" and "dmarc" in kinds and "mailfrom" not in identity:
            found.append(
                f"[check {check.name}] identity = {identity}: dmarc asks for mailfrom, so mail that DKIM does not "
                "speak for fails"
            )
        if check.kind == "arc" and check.options.get("trusted") and "dmarc" not in kinds:
            found.append(f"[check {check.name}] trusted does nothing: no [check ...] uses dmarc")
    return found
