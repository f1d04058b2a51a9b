"""The rules that ``check`` warns of, as the table of docs/lint.md: ``python -m cnnforge.report.rules`` prints it."""

from __future__ import annotations

from inspect import getdoc

from cnnforge.spec.lint import RULES


def rules_table() -> str:
    """A Markdown table: each rule's name and what its docstring says."""
    texts = {name: " ".join((getdoc(rule) or "").split()).replace("``", "`") for name, rule in sorted(RULES.items())}
    rows = [f"| `{name}` | {text} |" for name, text in texts.items()]
    return "\n".join(["| rule | what is meant |", "| --- | --- |", *rows])


if __name__ == "__main__":
    print(rules_table())
